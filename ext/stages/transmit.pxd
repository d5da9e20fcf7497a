# A frame leaves by a device: net/core/dev.c (dev_queue_xmit()), drivers/net/veth.c, drivers/net/loopback.c.

from libc.string cimport memset
from ext.devices.core cimport Core, Dev, log_frame, event_packet, ct_release, pkt_free, DEV_LO, DEV_BRIDGE, DEV_TUNNEL, EV_RECEIVE
from ext.devices.record cimport END_OUT, rec_cross, rec_end, rec_refuse
from ext.stages.far cimport far_peer
from ext.stages.receive cimport ether_classify
from ext.stages.verdict cimport ST_DONE, ST_BRIDGE_XMIT, ST_TUNNEL_OUT, DROPS_TRANSMIT
from ext.wire.ether cimport ETH_HLEN, VLAN_HLEN
from ext.wire.packet cimport Pkt, TO_HOST

cdef enum:
    TRANSMIT_DEVICE_DOWN = DROPS_TRANSMIT
    TRANSMIT_PEER_DOWN
    TRANSMIT_OVER_MTU
    TRANSMIT_NESTED_TOO_DEEP
    TRANSMIT_LOOPING
    CROSSINGS_MAX = 64  # of cables in a row without a router between: real ones would go round for ever


cdef inline const char *transmit_reason(int r) noexcept nogil:
    if r == TRANSMIT_DEVICE_DOWN:
        return b"transmit/device_down\tThe sending device is down\tDEV_READY"
    if r == TRANSMIT_PEER_DOWN:
        return b"transmit/peer_down\tThe device at the other end is down or absent\tDEV_READY"
    if r == TRANSMIT_OVER_MTU:
        return b"transmit/over_mtu\tThe frame is longer than the receiving device's MTU allows\tPKT_TOO_BIG"
    if r == TRANSMIT_LOOPING:
        return b"transmit/looping\tThe frame goes round in a loop of bridges\t"
    if r == TRANSMIT_NESTED_TOO_DEEP:
        return b"transmit/nested_too_deep\tTunnels or side packets are nested too deep\tRECURSION_LIMIT"
    return NULL


cdef inline bint frame_fits(const Dev *d, const Pkt *p) noexcept nogil:
    """is_skb_forwardable(): MTU, Ethernet header and one VLAN tag."""
    return p.end - p.l2 <= d.mtu + ETH_HLEN + VLAN_HLEN


cdef inline void packet_scrub(Core *c, Pkt *p) noexcept nogil:
    """Forget everything that belongs to the namespace it leaves (skb_scrub_packet())."""
    ct_release(c, p)
    p.ctinfo = 0
    p.mark = 0
    p.brnf = 0
    p.flags = 0
    p.phys_in = p.phys_out = -1
    p.frag_max_size = 0
    p.brnf_frag_max = 0
    p.iif = -1
    memset(&p.dst, 0, sizeof(p.dst))
    memset(&p.opt, 0, sizeof(p.opt))


cdef inline int stage_transmit(Core *c, Pkt *p) noexcept nogil:
    """``p.dev``: the sending device; the frame begins at ``l2``."""
    cdef Dev *d = c.dev[p.dev]
    cdef Dev *peer
    if not d.up:
        return -TRANSMIT_DEVICE_DOWN
    log_frame(c, d, p, True)
    p.n_frags = 0  # without scatter-gather offload the device gets it in one piece (validate_xmit_skb())
    if d.kind == DEV_BRIDGE:
        return ST_BRIDGE_XMIT
    if d.kind == DEV_TUNNEL:
        return ST_TUNNEL_OUT
    if d.kind == DEV_LO:
        rec_refuse(&c.rec)
        ether_classify(p, d)
        p.pkt_type = TO_HOST
        event_packet(c, c.now, EV_RECEIVE, d.id, p)
        return ST_DONE
    if d.peer < 0:
        c.count.out += 1
        rec_end(&c.rec, p, END_OUT, 0, 0)
        pkt_free(c, p)
        return ST_DONE
    peer = c.dev[d.peer]
    if peer == NULL:
        rec_refuse(&c.rec)
        peer = far_peer(c, d, p)
    if peer == NULL or not peer.up:
        return -TRANSMIT_PEER_DOWN
    if not frame_fits(peer, p):
        return -TRANSMIT_OVER_MTU
    p.crossings += 1
    if p.crossings > CROSSINGS_MAX:
        rec_refuse(&c.rec)
        return -TRANSMIT_LOOPING
    packet_scrub(c, p)
    rec_cross(&c.rec, p, peer.id, d.latency, c.count.rules_walked)
    p.dev = peer.id
    ether_classify(p, peer)
    event_packet(c, c.now + d.latency, EV_RECEIVE, peer.id, p)
    return ST_DONE
