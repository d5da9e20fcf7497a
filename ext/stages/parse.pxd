# Reception of an IPv4 packet: net/ipv4/ip_input.c (ip_rcv_core(), ip_rcv_finish_core()), route.c (ip_error()).

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.string cimport memset
from ext.devices.core cimport Core, Peer, pkt_ns, conf_or, CONF_FORWARDING, CONF_DROP_UNICAST_IN_L2_MULTICAST
from ext.devices.record cimport STEP_TRIM, rec_note
from ext.stages.icmp cimport icmp_send, ICMP_DEST_UNREACH, ICMP_PARAMETER_PROBLEM, UNREACH_NET, UNREACH_HOST, UNREACH_PROHIBITED
from ext.stages.netfilter cimport hook_prerouting
from ext.stages.options cimport options_compile, OPTIONS_OK
from ext.stages.route cimport (route_input, peer_get, peer_take_token, ROUTE_BLACKHOLE, ROUTE_UNREACHABLE, ROUTE_NO_ROUTE, ROUTE_PROHIBITED,
                               ROUTE_NO_FORWARDING)
from ext.stages.verdict cimport ST_DONE, ST_IP_ROUTE, ST_LOCAL, ST_FORWARD, DROPS_PARSE
from ext.tables.fib cimport ERR_EHOSTUNREACH, ERR_ENETUNREACH, ERR_EACCES, RT_UNICAST, RT_LOCAL
from ext.wire.bytes cimport ld16
from ext.wire.ipv4 cimport IPV4_HLEN, IPV4_LEN, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPPROTO_TCP, IPPROTO_UDP, ipv4_csum_ok, ipv4_hlen
from ext.wire.packet cimport (Pkt, IpOptions, pkt_l3, pkt_l3_len, pkt_pull_head, TO_OTHERHOST, TO_HOST, TO_BROADCAST, TO_MULTICAST,
                              DST_LOCAL, PF_GENERATED, PF_IGNORE_DF)

cdef enum:
    PARSE_OTHERHOST = DROPS_PARSE
    PARSE_IPV4_TRUNCATED
    PARSE_IPV4_BAD_HEADER
    PARSE_IPV4_BAD_CHECKSUM
    PARSE_IPV4_LENGTH_OVER_FRAME
    PARSE_IPV4_BAD_OPTION
    PARSE_SOURCE_ROUTED
    PARSE_UNICAST_IN_GROUP_FRAME
    SECOND = 1000000000


cdef inline const char *parse_reason(int r) noexcept nogil:
    if r == PARSE_OTHERHOST:
        return b"parse/otherhost\tThe frame is addressed to another host's MAC\tOTHERHOST"
    if r == PARSE_IPV4_TRUNCATED:
        return b"parse/ipv4_truncated\tThe frame ends inside the IPv4 header\tPKT_TOO_SMALL"
    if r == PARSE_IPV4_BAD_HEADER:
        return b"parse/ipv4_bad_header\tVersion is not 4, or a header or total length that cannot be\tIP_INHDR"
    if r == PARSE_IPV4_BAD_CHECKSUM:
        return b"parse/ipv4_bad_checksum\tThe IPv4 header checksum is wrong\tIP_CSUM"
    if r == PARSE_IPV4_LENGTH_OVER_FRAME:
        return b"parse/ipv4_length_over_frame\tThe IPv4 total length is more than the frame holds\tPKT_TOO_SMALL"
    if r == PARSE_IPV4_BAD_OPTION:
        return b"parse/ipv4_bad_option\tA malformed IPv4 option: the sender is told where\tIP_INHDR"
    if r == PARSE_SOURCE_ROUTED:
        return b"parse/source_routed\tA source-routed packet: Linux follows none by default, and this emulator never\tIP_INHDR"
    if r == PARSE_UNICAST_IN_GROUP_FRAME:
        return b"parse/unicast_in_group_frame\tA unicast packet in a broadcast or multicast frame\tUNICAST_IN_L2_MULTICAST"
    return NULL


cdef inline int validate_ipv4(Pkt *p) noexcept nogil:
    """Header sane, checksum right, all bytes there; padding behind the packet is cut off. 0 or a drop."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint32_t n = pkt_l3_len(p), hlen, total
    if n < IPV4_HLEN:
        return -PARSE_IPV4_TRUNCATED
    hlen = ipv4_hlen(ip)
    if ip[0] >> 4 != 4 or hlen < IPV4_HLEN:
        return -PARSE_IPV4_BAD_HEADER
    if n < hlen:
        return -PARSE_IPV4_TRUNCATED
    if not ipv4_csum_ok(ip):
        return -PARSE_IPV4_BAD_CHECKSUM
    total = ld16(ip + IPV4_LEN)
    if n < total:
        return -PARSE_IPV4_LENGTH_OVER_FRAME
    if total < hlen:
        return -PARSE_IPV4_BAD_HEADER
    p.end = p.l3 + total
    return 0


cdef inline int stage_ip_receive(Core *c, Pkt *p) noexcept nogil:
    """ip_rcv(): ``p.dev`` the receiving device."""
    cdef int v
    if p.pkt_type == TO_OTHERHOST:
        return -PARSE_OTHERHOST
    v = validate_ipv4(p)
    if v:
        return v
    rec_note(&c.rec, p, STEP_TRIM, NULL, 0, 0)
    memset(&p.opt, 0, sizeof(IpOptions))
    p.flags &= PF_GENERATED | PF_IGNORE_DF
    p.frag_max_size = 0
    v = hook_prerouting(c, p, p.dev)
    if v > 0:
        return ST_DONE
    return v if v else ST_IP_ROUTE


cdef inline int receive_options(Core *c, Pkt *p) noexcept nogil:
    """ip_rcv_options(): 0 or a drop."""
    cdef int bad = options_compile(c, p)
    if bad != OPTIONS_OK:
        icmp_send(c, p, ICMP_PARAMETER_PROBLEM, 0, <uint32_t>bad << 24)
        return -PARSE_IPV4_BAD_OPTION
    if p.opt.srr:
        return -PARSE_SOURCE_ROUTED
    return 0


cdef inline void early_demux(Pkt *p) noexcept nogil:
    """The search for a socket before the route looks at the transport header, and so has it in one piece (ip_early_demux)."""
    cdef const uint8_t *ip = pkt_l3(p)
    if p.pkt_type == TO_HOST and ip[IPV4_PROTO] == IPPROTO_TCP:
        pkt_pull_head(p, 20)
    elif ip[IPV4_PROTO] == IPPROTO_UDP:
        pkt_pull_head(p, 8)


cdef inline int stage_ip_route(Core *c, Pkt *p) noexcept nogil:
    """ip_rcv_finish(): find the way, read the options."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef int v
    if not p.dst.valid:
        early_demux(p)
        v = route_input(c, p, ip + IPV4_DST, ip + IPV4_SRC, p.dev)
        if v:
            return v
    if ipv4_hlen(ip) > IPV4_HLEN:
        v = receive_options(c, p)
        if v:
            return v
    if p.dst.type == RT_UNICAST or p.dst.type == RT_LOCAL:
        if (p.pkt_type == TO_BROADCAST or p.pkt_type == TO_MULTICAST) and conf_or(c, c.dev[p.dev], CONF_DROP_UNICAST_IN_L2_MULTICAST):
            return -PARSE_UNICAST_IN_GROUP_FRAME
    if p.dst.error:
        return route_error(c, p)
    return ST_LOCAL if p.dst.flags & DST_LOCAL else ST_FORWARD


cdef inline int route_error(Core *c, Pkt *p) noexcept nogil:
    """ip_error(): tell the sender, at most five times at once and once a second; silent where there is no forwarding."""
    cdef int code, reason
    cdef Peer *peer
    c.drop_origin = p.dst.origin
    if p.dst.error == ERR_EHOSTUNREACH:
        code = UNREACH_HOST
        reason = ROUTE_UNREACHABLE
    elif p.dst.error == ERR_ENETUNREACH:
        code = UNREACH_NET
        reason = ROUTE_NO_ROUTE
    elif p.dst.error == ERR_EACCES:
        code = UNREACH_PROHIBITED
        reason = ROUTE_PROHIBITED
    else:
        return -ROUTE_BLACKHOLE
    if not c.dev[p.dev].conf[CONF_FORWARDING]:
        return -ROUTE_NO_FORWARDING
    peer = peer_get(c, pkt_ns(c, p), pkt_l3(p) + IPV4_SRC, 4)
    if peer_take_token(c, peer, SECOND, <int64_t>5 * SECOND):
        icmp_send(c, p, ICMP_DEST_UNREACH, code, 0)
    return -reason
