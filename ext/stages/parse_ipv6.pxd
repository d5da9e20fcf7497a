# Reception of an IPv6 packet: net/ipv6/ip6_input.c (ip6_rcv_core(), ip6_rcv_finish()), route.c (ip6_pkt_drop()).

from libc.stdint cimport uint8_t, uint32_t
from ext.devices.core cimport Core, Dev, CONF_DISABLE_IPV6, CONF6_DROP_UNICAST_IN_L2_MULTICAST, DEV_LO
from ext.stages.extension_headers cimport EXTENSION_TRUNCATED, bridged_options_ok, parse_options
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_UNREACHABLE, NO_ROUTE, PROHIBITED
from ext.stages.netfilter cimport hook_prerouting
from ext.stages.parse cimport PARSE_OTHERHOST, PARSE_UNICAST_IN_GROUP_FRAME
from ext.stages.receive cimport RECEIVE_IPV6_DISABLED
from ext.stages.route cimport ROUTE_BLACKHOLE, ROUTE_MULTICAST_NOT_JOINED, ROUTE_NO_ROUTE, ROUTE_PROHIBITED, ROUTE_UNREACHABLE
from ext.stages.route_ipv6 cimport group_joined, route_input6
from ext.stages.verdict cimport ST_DONE, ST_IP_ROUTE, ST_LOCAL, ST_FORWARD, DROPS_PARSE_IPV6
from ext.tables.fib cimport ERR_EACCES, ERR_EINVAL, ERR_EHOSTUNREACH
from ext.wire.bytes cimport ld16
from ext.wire.ipv4 cimport IPPROTO_TCP, IPPROTO_UDP
from ext.wire.ipv6 cimport (IPV6_HLEN, IPV6_PAYLOAD_LEN, IPV6_NEXT, IPV6_SRC, IPV6_DST, IPV6_MIN_MTU, NEXT_HOP_BY_HOP,
                            SCOPE_INTERFACE_LOCAL, ipv6_is_loopback, ipv6_is_multicast)
from ext.wire.packet cimport (Pkt, pkt_l3, pkt_l3_len, pkt_pull_head, TO_OTHERHOST, TO_HOST, TO_BROADCAST, TO_MULTICAST, DST_LOCAL,
                              DST_MULTICAST, PF_GENERATED, PF_IGNORE_DF)

cdef enum:
    PARSE_IPV6_TRUNCATED = DROPS_PARSE_IPV6
    PARSE_IPV6_BAD_HEADER
    PARSE_IPV6_BAD_ADDRESS


cdef inline const char *parse_ipv6_reason(int r) noexcept nogil:
    if r == PARSE_IPV6_TRUNCATED:
        return b"parse/ipv6_truncated\tThe frame ends inside the IPv6 packet\tPKT_TOO_SMALL"
    if r == PARSE_IPV6_BAD_HEADER:
        return b"parse/ipv6_bad_header\tVersion is not 6, or a hop-by-hop header or length that cannot be\tIP_INHDR"
    if r == PARSE_IPV6_BAD_ADDRESS:
        return b"parse/ipv6_bad_address\tA source or destination that may not be on a link (RFC 4291 2.5.3 and 2.7)\tIP_INHDR"
    return NULL


cdef inline int validate_bridged_ipv6(Pkt *p) noexcept nogil:
    """br_validate_ipv6(): version, lengths, and the lengths in a hop-by-hop header; padding is cut off. 0 or a drop."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint32_t n = pkt_l3_len(p), payload
    if n < IPV6_HLEN:
        return -PARSE_IPV6_TRUNCATED
    if ip[0] >> 4 != 6 or (ip[IPV6_NEXT] == NEXT_HOP_BY_HOP and not bridged_options_ok(p)):
        return -PARSE_IPV6_BAD_HEADER
    payload = ld16(ip + IPV6_PAYLOAD_LEN)
    if payload + IPV6_HLEN > n:
        return -PARSE_IPV6_TRUNCATED
    p.end = p.l3 + IPV6_HLEN + payload
    return 0


cdef inline int check_addresses(const Dev *d, const Pkt *p) noexcept nogil:
    """What may not come in from a link. 0 or a drop."""
    cdef const uint8_t *src = p.buf + p.l3 + IPV6_SRC
    cdef const uint8_t *dst = p.buf + p.l3 + IPV6_DST
    if d.kind != DEV_LO and (ipv6_is_loopback(src) or ipv6_is_loopback(dst)):
        return -PARSE_IPV6_BAD_ADDRESS
    if ipv6_is_multicast(src):
        return -PARSE_IPV6_BAD_ADDRESS
    if ipv6_is_multicast(dst):
        if dst[1] & 0xf == 0 or (dst[1] & 0xf == SCOPE_INTERFACE_LOCAL and d.kind != DEV_LO):
            return -PARSE_IPV6_BAD_ADDRESS
    elif d.conf[CONF6_DROP_UNICAST_IN_L2_MULTICAST] and (p.pkt_type == TO_BROADCAST or p.pkt_type == TO_MULTICAST):
        return -PARSE_UNICAST_IN_GROUP_FRAME
    return 0


cdef inline int validate_ipv6(Core *c, Pkt *p) noexcept nogil:
    """ip6_rcv_core(): header, addresses, length, hop-by-hop options; padding is cut off. 0 or a drop."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint32_t n = pkt_l3_len(p), payload
    cdef int v
    if n < IPV6_HLEN:
        return -PARSE_IPV6_TRUNCATED
    if ip[0] >> 4 != 6:
        return -PARSE_IPV6_BAD_HEADER
    v = check_addresses(c.dev[p.dev], p)
    if v:
        return v
    p.payload_at = IPV6_HLEN
    p.next_at = IPV6_NEXT
    p.source_routed = False
    payload = ld16(ip + IPV6_PAYLOAD_LEN)
    if payload or ip[IPV6_NEXT] != NEXT_HOP_BY_HOP:
        if payload + IPV6_HLEN > n:
            return -PARSE_IPV6_TRUNCATED
        p.end = p.l3 + IPV6_HLEN + payload
    return 0 if ip[IPV6_NEXT] != NEXT_HOP_BY_HOP else receive_hop_by_hop(c, p)


cdef inline int receive_hop_by_hop(Core *c, Pkt *p) noexcept nogil:
    """ipv6_parse_hopopts()."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint32_t n = pkt_l3_len(p)
    cdef int v
    if n < IPV6_HLEN + 8 or n < IPV6_HLEN + (<uint32_t>ip[IPV6_HLEN + 1] + 1) * 8:
        return -EXTENSION_TRUNCATED
    v = parse_options(c, p, IPV6_HLEN, True)
    if v == 0:
        p.next_at = IPV6_HLEN
        p.payload_at = IPV6_HLEN + (<uint32_t>ip[IPV6_HLEN + 1] + 1) * 8
    return v


cdef inline int stage_ipv6_receive(Core *c, Pkt *p) noexcept nogil:
    """ipv6_rcv(): ``p.dev`` the receiving device."""
    cdef Dev *d = c.dev[p.dev]
    cdef int v
    if p.pkt_type == TO_OTHERHOST:
        return -PARSE_OTHERHOST
    if d.conf[CONF_DISABLE_IPV6] or d.mtu < IPV6_MIN_MTU:
        return -RECEIVE_IPV6_DISABLED
    p.flags &= PF_GENERATED | PF_IGNORE_DF
    p.frag_max_size = 0
    if p.dst.valid:
        p.iif = p.dst.idev  # routed before it came here: bridge netfilter's translated packets, and those sent to ourselves
    v = validate_ipv6(c, p)
    if v == 0:
        v = hook_prerouting(c, p, p.dev)
    if v:
        return ST_DONE if v > 0 else v
    return ST_IP_ROUTE


cdef inline void early_demux6(Pkt *p) noexcept nogil:
    """As early_demux() of IPv4: TCP and UDP directly behind the header are had in one piece."""
    cdef const uint8_t *ip = pkt_l3(p)
    if p.pkt_type == TO_HOST and ip[IPV6_NEXT] == IPPROTO_TCP:
        pkt_pull_head(p, 20)
    elif ip[IPV6_NEXT] == IPPROTO_UDP:
        pkt_pull_head(p, 8)


cdef inline int stage_ipv6_route(Core *c, Pkt *p) noexcept nogil:
    """ip6_rcv_finish(): find the way."""
    cdef int v
    if not p.dst.valid:
        early_demux6(p)
        v = route_input6(c, p, p.dev)
        if v:
            return v
    if p.dst.error:
        return route_error6(c, p)
    if p.dst.flags & DST_MULTICAST and not group_joined(c.dev[p.dev], pkt_l3(p) + IPV6_DST):
        return -ROUTE_MULTICAST_NOT_JOINED
    return ST_LOCAL if p.dst.flags & DST_LOCAL else ST_FORWARD


cdef inline int route_error6(Core *c, Pkt *p) noexcept nogil:
    """ip6_pkt_discard() and ip6_pkt_prohibit(): tell the sender; a blackhole says nothing."""
    c.drop_origin = p.dst.origin
    if p.dst.error == ERR_EINVAL:
        return -ROUTE_BLACKHOLE
    if p.dst.error == ERR_EACCES:
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, PROHIBITED, 0)
        return -ROUTE_PROHIBITED
    icmpv6_send(c, p, ICMPV6_UNREACHABLE, NO_ROUTE, 0)
    return -ROUTE_UNREACHABLE if p.dst.error == ERR_EHOSTUNREACH else -ROUTE_NO_ROUTE
