# Tunnel devices, the way in: net/ipv4/ip_tunnel.c (ip_tunnel_lookup(), ip_tunnel_rcv()), vxlan_core.c (vxlan_rcv()), inet_ecn.h.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset
from ext.devices.changes cimport CHANGE_DECAP, log_change
from ext.devices.core cimport Core, Ns, Dev, event_packet, pkt_consume, EV_RECEIVE
from ext.devices.record cimport STEP_POP, rec_bytes, rec_cross, rec_refuse
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_pop, DATAPLANE_ENCAP_CONSUMED, DATAPLANE_ENCAP_NOT_MINE,
                            DATAPLANE_ENCAP_OK)
from ext.encap.call cimport GUARD_LEN, encap_pop, encap_takes
from ext.encap.ip cimport address_len, outer_facts
from ext.stages.icmp cimport icmp_send, ICMP_DEST_UNREACH, UNREACH_PORT
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_UNREACHABLE, PORT_UNREACHABLE
from ext.stages.receive cimport ether_classify
from ext.stages.transmit cimport packet_scrub
from ext.stages.tunnel cimport encap_drop, TUNNEL_ECN_NOT_CAPABLE, TUNNEL_INNER_TRUNCATED, TUNNEL_UNKNOWN_ID
from ext.stages.verdict cimport ST_DONE
from ext.wire.checksum cimport csum_replace
from ext.wire.ether cimport ETH_HLEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPV4_CSUM, IPV4_HLEN, IPV4_TOS, ECN_CE, ECN_ECT0, ECN_ECT1, ECN_MASK, ECN_NOT_ECT
from ext.wire.ipv6 cimport IPV6_HLEN, ipv6_class, ipv6_set_class
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST

cdef enum:
    RANKS = 4
    NEXT_DEVICE = 1


cdef inline int tunnel_rank(const Dev *d, int family, const uint8_t *local, const uint8_t *remote) noexcept nogil:
    """How closely the device's addresses fit, 0 the closest; RANKS: they do not (ip_tunnel_lookup()).

    A tunnel in UDP takes what comes to its socket of this IP version, whatever its own address for sending is.
    """
    cdef bint bound = d.tunnel_family != 0 and d.encap.port(d.encap_state) == 0
    cdef int alen = address_len(family)
    if d.tunnel_family and d.tunnel_family != family:
        return RANKS
    if d.tunnel_remote_family and (d.tunnel_remote_family != family or memcmp(d.tunnel_remote, remote, alen) != 0):
        return RANKS
    if bound and memcmp(d.tunnel_local, local, alen) != 0:
        return RANKS
    if d.tunnel_remote_family:
        return 0 if bound else 1
    return 2 if bound else 3


cdef inline bint tunnel_listens(const Dev *d, int proto, uint32_t port) noexcept nogil:
    """``port``: UDP destination port, 0: not in UDP."""
    return d.up and encap_takes(d.encap, proto) and d.encap.port(d.encap_state) == port


cdef inline bint tunnel_exists(Core *c, Ns *ns, int proto, uint32_t port, int family, const uint8_t *local, const uint8_t *remote) noexcept nogil:
    """Is there a device that would have sent such a packet from ``local`` to ``remote``?"""
    cdef int i
    for i in range(ns.n_tunnels):
        if tunnel_listens(c.dev[ns.tunnels[i]], proto, port) and tunnel_rank(c.dev[ns.tunnels[i]], family, local, remote) < RANKS:
            return True
    return False


cdef inline int tunnel_pop(Core *c, Dev *d, Pkt *p, dataplane_encap_pop *info, uint32_t at) noexcept nogil:
    """0 and ``l2``/``l3`` at the inner packet, CONSUMED, a drop, or NEXT_DEVICE."""
    cdef dataplane_encap_bytes b
    cdef int v
    info.now = c.now
    info.inner_protocol = 0
    info.id = -1
    memcpy(info.device_mac, d.mac, 6)
    b.head = p.buf + GUARD_LEN
    b.data = pkt_l3(p) + at
    b.tail = p.buf + p.end
    b.limit = p.buf + p.cap - GUARD_LEN
    v = encap_pop(d.encap, d.encap_state, info, &b)
    if v == DATAPLANE_ENCAP_NOT_MINE:
        return NEXT_DEVICE
    if v == DATAPLANE_ENCAP_CONSUMED:
        return v
    if v != DATAPLANE_ENCAP_OK:
        return encap_drop(d.encap, v)
    p.l2 = p.l3 = <uint32_t>(b.data - p.buf)
    p.end = <uint32_t>(b.tail - p.buf)
    return 0


cdef inline int ecn_decapsulate(Pkt *p, int outer) noexcept nogil:
    """RFC 6040 4.2: 0 or a drop (INET_ECN_decapsulate())."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t old[2]
    cdef uint8_t new[2]
    cdef int inner, tos
    if p.protocol != ETHERTYPE_IPV4 and p.protocol != ETHERTYPE_IPV6:
        return 0
    tos = ip[IPV4_TOS] if p.protocol == ETHERTYPE_IPV4 else ipv6_class(ip)
    inner = tos & ECN_MASK
    outer &= ECN_MASK
    if inner == ECN_NOT_ECT:
        return -TUNNEL_ECN_NOT_CAPABLE if outer == ECN_CE else 0
    if outer != ECN_CE and not (outer == ECN_ECT1 and inner == ECN_ECT0):
        return 0
    tos = tos | ECN_CE if outer == ECN_CE else tos ^ ECN_MASK
    if p.protocol == ETHERTYPE_IPV6:
        ipv6_set_class(ip, tos)
        return 0
    memcpy(old, ip, 2)
    memcpy(new, ip, 2)
    new[1] = <uint8_t>tos
    csum_replace(ip + IPV4_CSUM, old, new, 2)
    ip[IPV4_TOS] = new[1]
    return 0


cdef inline int tunnel_deliver(Core *c, Dev *d, Pkt *p, const dataplane_encap_pop *info) noexcept nogil:
    """The inner packet at ``l2`` is received on the tunnel device: ST_DONE or a drop."""
    cdef uint32_t mark = p.mark
    cdef uint32_t need = 0
    cdef int v, tos
    if info.inner_protocol == ETHERTYPE_TEB:
        if p.end - p.l2 < ETH_HLEN:
            return -TUNNEL_INNER_TRUNCATED
        ether_classify(p, d)
    else:
        p.protocol = info.inner_protocol
        p.pkt_type = TO_HOST
    if p.protocol == ETHERTYPE_IPV4:
        need = IPV4_HLEN
    elif p.protocol == ETHERTYPE_IPV6:
        need = IPV6_HLEN
    if pkt_l3_len(p) < need:
        return -TUNNEL_INNER_TRUNCATED
    tos = pkt_l3(p)[1] if need else 0
    v = ecn_decapsulate(p, info.outer_tos)
    if v:
        return v
    if need == 0 or tos != pkt_l3(p)[1] or mark:
        rec_refuse(&c.rec)
    log_change(c, p, CHANGE_DECAP, info.remote, address_len(info.family), 0)
    packet_scrub(c, p)
    p.mark = mark
    if not p.hash_l4:
        p.hash = 0
    p.vlan = 0
    p.dev = d.id
    rec_cross(&c.rec, p, d.id, 0, c.count.rules_walked)
    event_packet(c, c.now, EV_RECEIVE, d.id, p)
    return ST_DONE


cdef inline int tunnel_receive(Core *c, Ns *ns, Pkt *p, int family, int proto, uint32_t port, uint32_t at) noexcept nogil:
    """Find the device that the packet is for: a stage, a drop, or 1: no tunnel listens here. ``at``: where the IP header's payload
    begins; ``port``: UDP destination port, 0: not in UDP."""
    cdef dataplane_encap_pop info
    cdef Dev *d
    cdef int rank, i, v
    cdef uint32_t outer, end, note
    cdef bint listening = False
    if ns.n_tunnels == 0:
        return 1
    memset(&info, 0, sizeof(info))
    outer_facts(&info, pkt_l3(p), family, proto)
    for rank in range(RANKS):
        for i in range(ns.n_tunnels):
            d = c.dev[ns.tunnels[i]]
            if not tunnel_listens(d, proto, port):
                continue
            listening = True
            if tunnel_rank(d, family, info.local, info.remote) != rank:
                continue
            outer, end = p.l3, p.end
            v = tunnel_pop(c, d, p, &info, at)
            if v or p.end != end or not d.encap.steady:
                rec_refuse(&c.rec)
            else:
                note = p.l3 - outer + (ETH_HLEN if d.encap.ethernet and p.end - p.l3 >= ETH_HLEN else 0)
                rec_bytes(&c.rec, p, STEP_POP, p.buf + outer, note, d.encap.ethernet)
            if v == DATAPLANE_ENCAP_CONSUMED:
                pkt_consume(c, p)
                return ST_DONE
            if v != NEXT_DEVICE:
                return v if v else tunnel_deliver(c, d, p, &info)
    return tunnel_nobodys(c, p, family, port) if listening else 1


cdef inline int tunnel_nobodys(Core *c, Pkt *p, int family, uint32_t port) noexcept nogil:
    """Devices listen, but it is for none of them: IP tunnels tell the sender (gre_rcv(), tunnel4_rcv(), tunnel6_rcv()), those in UDP do not."""
    if port == 0 and family == 4:
        icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_PORT, 0)
    elif port == 0:
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, PORT_UNREACHABLE, 0)
    return -TUNNEL_UNKNOWN_ID
