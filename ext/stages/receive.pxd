# A frame has reached a device: net/core/dev.c (__netif_receive_skb_core()), net/ethernet/eth.c (eth_type_trans()).

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memmove
from ext.devices.core cimport Core, Dev, carries_frames, log_frame
from ext.stages.fault cimport fault_received
from ext.stages.verdict cimport ST_BRIDGE_IN, ST_ARP, ST_IP_RECEIVE, DROPS_RECEIVE
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport (ETH_HLEN, ETH_DST, ETH_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP, ETHERTYPE_MIN, VLAN_HLEN,
                             mac_equal, mac_is_multicast, mac_is_broadcast, ethertype_is_vlan)
from ext.wire.packet cimport Pkt, TO_HOST, TO_BROADCAST, TO_MULTICAST, TO_OTHERHOST, pkt_l2

cdef enum:
    RECEIVE_DEVICE_DOWN = DROPS_RECEIVE
    RECEIVE_VLAN_TRUNCATED
    RECEIVE_UNHANDLED_PROTOCOL
    RECEIVE_IPV6_DISABLED


cdef inline const char *receive_reason(int r) noexcept nogil:
    if r == RECEIVE_DEVICE_DOWN:
        return b"receive/device_down\tThe receiving device is down\tDEV_READY"
    if r == RECEIVE_VLAN_TRUNCATED:
        return b"receive/vlan_truncated\tThe frame ends inside its 802.1Q tag\t"
    if r == RECEIVE_UNHANDLED_PROTOCOL:
        return b"receive/unhandled_protocol\tNobody in this namespace handles this EtherType\tUNHANDLED_PROTO"
    if r == RECEIVE_IPV6_DISABLED:
        return b"receive/ipv6_disabled\tIPv6 is switched off on this device, or its MTU is below 1280\tIPV6DISABLED"
    return NULL


cdef inline void ether_classify(Pkt *p, const Dev *d) noexcept nogil:
    """Whom the frame is for and what it carries, as seen by this device; ``l3`` behind the Ethernet header."""
    cdef const uint8_t *eth = pkt_l2(p)
    cdef uint16_t type = ld16(eth + ETH_TYPE)
    if mac_equal(eth + ETH_DST, d.mac):
        p.pkt_type = TO_HOST
    elif mac_is_broadcast(eth + ETH_DST):
        p.pkt_type = TO_BROADCAST
    elif mac_is_multicast(eth + ETH_DST):
        p.pkt_type = TO_MULTICAST
    else:
        p.pkt_type = TO_OTHERHOST
    p.protocol = type if type >= ETHERTYPE_MIN else 0
    p.l3 = p.l2 + ETH_HLEN


cdef inline void ip_classify(Pkt *p) noexcept nogil:
    """The same on a device without Ethernet headers, of which there is at least one byte: the IP version tells."""
    cdef uint8_t version = pkt_l2(p)[0] >> 4
    p.pkt_type = TO_HOST
    p.protocol = ETHERTYPE_IPV4 if version == 4 else (ETHERTYPE_IPV6 if version == 6 else 0)
    p.l3 = p.l2


cdef inline void packet_classify(const Core *c, Pkt *p) noexcept nogil:
    """One of both, as the device that the packet is at does."""
    cdef const Dev *d = c.dev[p.dev]
    if carries_frames(d):
        ether_classify(p, d)
    else:
        ip_classify(p)


cdef inline uint32_t frame_least(const Dev *d) noexcept nogil:
    """Bytes that a frame on this device has at least."""
    return ETH_HLEN if carries_frames(d) else 1


cdef inline bint vlan_untag(Pkt *p) noexcept nogil:
    """Take the outermost tag off the bytes and remember it (skb_vlan_untag()). False: the frame ends before it."""
    cdef uint8_t *eth = pkt_l2(p)
    cdef uint16_t type
    if p.end - p.l2 < ETH_HLEN + VLAN_HLEN:
        return False
    p.vlan = 0x10000 | ld16(eth + ETH_HLEN)
    memmove(eth + VLAN_HLEN, eth, ETH_HLEN - 2)
    p.l2 += VLAN_HLEN
    p.l3 = p.l2 + ETH_HLEN
    type = ld16(pkt_l2(p) + ETH_TYPE)
    p.protocol = type if type >= ETHERTYPE_MIN else 0
    return True


cdef inline int stage_receive(Core *c, Pkt *p) noexcept nogil:
    """Taps, the bridge, then the protocol of the frame. ``p.dev``: the receiving device, frame classified."""
    cdef Dev *d = c.dev[p.dev]
    cdef int v = fault_received(d, p)
    p.tunnels = 0
    if d.wire:
        p.unfinished = False
    if v:
        return v
    if not d.up:
        return -RECEIVE_DEVICE_DOWN
    if ethertype_is_vlan(p.protocol) and p.vlan == 0 and not vlan_untag(p):
        return -RECEIVE_VLAN_TRUNCATED
    log_frame(c, d, p, False)
    if d.master >= 0:
        return ST_BRIDGE_IN
    return receive_protocol(c, p)


cdef inline int receive_protocol(Core *c, Pkt *p) noexcept nogil:
    """Hand the frame to its protocol; a tag of a VLAN that nobody has makes it another host's."""
    while p.vlan:
        if p.vlan & 0xfff:
            p.pkt_type = TO_OTHERHOST
            break
        p.vlan = 0
        if ethertype_is_vlan(p.protocol) and not vlan_untag(p):
            return -RECEIVE_VLAN_TRUNCATED
    p.vlan = 0
    if p.protocol == ETHERTYPE_IPV4 or p.protocol == ETHERTYPE_IPV6:
        p.iif = p.dev
        return ST_IP_RECEIVE
    if p.protocol == ETHERTYPE_ARP:
        return ST_ARP
    return -RECEIVE_UNHANDLED_PROTOCOL
