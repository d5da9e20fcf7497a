# Neighbour Discovery messages that a host or router makes (RFC 4861): net/ipv6/ndisc.c.

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, Ns, Dev
from ext.stages.icmpv6 cimport icmpv6_set_csum, local_packet6, write_ipv6
from ext.stages.route cimport peer_get, peer_take_token
from ext.stages.route_ipv6 cimport is_own_address6, link_local_address, route_output6, select_source6
from ext.stages.verdict cimport ST_LOCAL_OUT
from ext.tables.fib cimport RT_MULTICAST, RT_UNICAST
from ext.tables.neighbour cimport Neigh, neigh_get, NUD_VALID
from ext.wire.ipv4 cimport IPPROTO_ICMPV6
from ext.wire.ipv6 cimport (IPV6_HLEN, IPV6_SRC, IPV6_DST, IPV6_MIN_MTU, ipv6_is_link_local, ipv6_is_multicast, ipv6_is_unspecified,
                            solicited_node)
from ext.wire.packet cimport Pkt, Dst, pkt_l3, pkt_l3_len, DST_MULTICAST
from libc.string cimport memcmp

cdef enum:
    ND_ROUTER_SOLICITATION = 133
    ND_ROUTER_ADVERTISEMENT = 134
    ND_SOLICITATION = 135
    ND_ADVERTISEMENT = 136
    ND_REDIRECT = 137
    ND_TARGET = 8  # offsets in a message
    ND_OPTIONS = 24
    ND_REDIRECT_OPTIONS = 40
    ND_SOURCE_LINK_ADDRESS = 1  # options
    ND_TARGET_LINK_ADDRESS = 2
    ND_REDIRECTED_HEADER = 4
    ND_LINK_OPTION_LEN = 8
    ND_HOPS = 255
    NA_ROUTER = 0x80  # flags of an advertisement
    NA_SOLICITED = 0x40
    NA_OVERRIDE = 0x20
    REDIRECT_PERIOD = 1000000000  # ns


cdef inline void nd_route(Dst *dst, int dev, const uint8_t *daddr) noexcept nogil:
    """Straight out of the device (icmp6_dst_alloc())."""
    memset(dst, 0, sizeof(Dst))
    dst.valid = True
    dst.oif = dev
    dst.type = RT_UNICAST
    if ipv6_is_multicast(daddr):
        dst.type = RT_MULTICAST
        dst.flags = DST_MULTICAST


cdef inline Pkt *nd_packet(Core *c, Dev *d, const uint8_t *saddr, const uint8_t *daddr, int type, uint32_t n) noexcept nogil:
    """A message of ``n`` bytes, zero but for its type; NULL when memory is out."""
    cdef Pkt *q = local_packet6(c, c.ns[d.ns], IPV6_HLEN + n)
    if q == NULL:
        return NULL
    q.end = q.l3 + IPV6_HLEN + n
    write_ipv6(pkt_l3(q), n, 0, 0, IPPROTO_ICMPV6, ND_HOPS, saddr, daddr)
    memset(pkt_l3(q) + IPV6_HLEN, 0, n)
    pkt_l3(q)[IPV6_HLEN] = <uint8_t>type
    nd_route(&q.dst, d.id, daddr)
    return q


cdef inline void nd_send(Core *c, Pkt *q) noexcept nogil:
    icmpv6_set_csum(pkt_l3(q), pkt_l3(q) + IPV6_HLEN, pkt_l3_len(q) - IPV6_HLEN)
    c.run(c, q, ST_LOCAL_OUT)


cdef inline void put_link_option(uint8_t *to, int type, const uint8_t *mac) noexcept nogil:
    to[0] = <uint8_t>type
    to[1] = ND_LINK_OPTION_LEN / 8
    memcpy(to + 2, mac, 6)


cdef inline void send_solicitation(Core *c, Dev *d, const uint8_t *target, const uint8_t *daddr, const uint8_t *saddr) noexcept nogil:
    """ndisc_send_ns(); ``saddr`` NULL: the device's link-local address, without one nothing is sent."""
    cdef Pkt *q
    if saddr == NULL:
        saddr = link_local_address(d)
    if saddr == NULL:
        return
    q = nd_packet(c, d, saddr, daddr, ND_SOLICITATION, ND_OPTIONS + (0 if ipv6_is_unspecified(saddr) else ND_LINK_OPTION_LEN))
    if q == NULL:
        return
    memcpy(pkt_l3(q) + IPV6_HLEN + ND_TARGET, target, 16)
    if not ipv6_is_unspecified(saddr):
        put_link_option(pkt_l3(q) + IPV6_HLEN + ND_OPTIONS, ND_SOURCE_LINK_ADDRESS, d.mac)
    nd_send(c, q)


cdef inline void nd_solicit(Core *c, Dev *d, const Neigh *n, bint unicast) noexcept nogil:
    """Ask the group of everybody who might have the address, or only the known owner (ndisc_solicit())."""
    cdef uint8_t group[16]
    cdef const uint8_t *saddr = NULL
    if n.queue != NULL and is_own_address6(c, c.ns[d.ns], pkt_l3(n.queue) + IPV6_SRC, d.id, True):
        saddr = pkt_l3(n.queue) + IPV6_SRC
    solicited_node(n.addr, group)
    send_solicitation(c, d, n.addr, &n.addr[0] if unicast else &group[0], saddr)


cdef inline void send_advertisement(Core *c, Dev *d, const uint8_t *daddr, const uint8_t *target, int flags, bint with_link) noexcept nogil:
    """ndisc_send_na(): from the target address if it is the device's own, else from the best one."""
    cdef uint8_t saddr[16]
    cdef Pkt *q
    if is_own_address6(c, c.ns[d.ns], target, d.id, True):
        memcpy(saddr, target, 16)
    elif not select_source6(c, c.ns[d.ns], d.id, daddr, saddr):
        return
    q = nd_packet(c, d, saddr, daddr, ND_ADVERTISEMENT, ND_OPTIONS + (ND_LINK_OPTION_LEN if with_link else 0))
    if q == NULL:
        return
    pkt_l3(q)[IPV6_HLEN + 4] = <uint8_t>flags
    memcpy(pkt_l3(q) + IPV6_HLEN + ND_TARGET, target, 16)
    if with_link:
        put_link_option(pkt_l3(q) + IPV6_HLEN + ND_OPTIONS, ND_TARGET_LINK_ADDRESS, d.mac)
    nd_send(c, q)


cdef inline Pkt *redirect_packet(Core *c, Dev *d, const Pkt *p, const uint8_t *saddr, const uint8_t *target, const Neigh *n) noexcept nogil:
    """The message: target and destination, the target's MAC if known, and as much of ``p`` as fits; NULL when memory is out."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint32_t link = ND_LINK_OPTION_LEN if n.state & NUD_VALID else 0
    cdef uint32_t quote = IPV6_MIN_MTU - IPV6_HLEN - ND_REDIRECT_OPTIONS - link
    cdef Pkt *q
    cdef uint8_t *icmp
    if pkt_l3_len(p) + 8 < quote:
        quote = pkt_l3_len(p) + 8
    quote &= ~<uint32_t>7
    q = nd_packet(c, d, saddr, ip + IPV6_SRC, ND_REDIRECT, ND_REDIRECT_OPTIONS + link + quote)
    if q == NULL:
        return NULL
    icmp = pkt_l3(q) + IPV6_HLEN
    memcpy(icmp + ND_TARGET, target, 16)
    memcpy(icmp + ND_TARGET + 16, ip + IPV6_DST, 16)
    if link:
        put_link_option(icmp + ND_REDIRECT_OPTIONS, ND_TARGET_LINK_ADDRESS, n.mac)
    icmp += ND_REDIRECT_OPTIONS + link
    icmp[0] = ND_REDIRECTED_HEADER
    icmp[1] = <uint8_t>(quote >> 3)
    memcpy(icmp + 8, ip, quote - 8)
    return q


cdef inline void send_redirect6(Core *c, Ns *ns, Pkt *p, const uint8_t *target) noexcept nogil:
    """ndisc_send_redirect(): tell a neighbour of a shorter way; ``p.dev`` is where it came in."""
    cdef Dev *d = c.dev[p.dev]
    cdef const uint8_t *ip = pkt_l3(p)
    cdef const uint8_t *link_local = link_local_address(d)
    cdef uint8_t saddr[16]
    cdef Neigh *n
    cdef Dst dst
    cdef Pkt *q
    if link_local == NULL or (memcmp(ip + IPV6_DST, target, 16) != 0 and not ipv6_is_link_local(target)):
        return
    memcpy(saddr, link_local, 16)
    if route_output6(c, ns, ip + IPV6_SRC, saddr, d.id, &dst) or dst.has_gw:
        return
    if not peer_take_token(c, peer_get(c, ns, ip + IPV6_SRC, 16), REDIRECT_PERIOD, <int64_t>6 * REDIRECT_PERIOD):
        return
    n = neigh_get(&c.dev[p.dst.oif].neigh, target, 16)
    if n == NULL:
        return
    q = redirect_packet(c, d, p, saddr, target, n)
    if q != NULL:
        q.dst = dst
        nd_send(c, q)
