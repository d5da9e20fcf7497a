# Delivery of IPv6 packets to this namespace: net/ipv6/ip6_input.c (ip6_protocol_deliver_rcu()), exthdrs.c, icmp.c, udp.c, tcp_ipv6.c,
# without their sockets.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, Ns, Socket, pkt_consume, pkt_ns, SYS6_ICMP_ECHO_IGNORE_ALL, SYS6_FRAG_TIME
from ext.stages.conntrack cimport L4, find_l4, l4_checksum_ok
from ext.stages.defragment_ipv6 cimport gather, lacks_headers
from ext.stages.extension_headers cimport (EXTENSION_FRAGMENT_BAD, EXTENSION_INCOMPLETE_CHAIN, EXTENSION_NO_NEXT_HEADER,
                                           EXTENSION_ROUTING_TO_GROUP, EXTENSION_ROUTING_UNKNOWN, EXTENSION_SEGMENTS_LEFT,
                                           EXTENSION_TRUNCATED, parse_options)
from ext.stages.icmpv6 cimport (icmpv6_echo_reply, icmpv6_send, ICMPV6_ECHO, ICMPV6_ECHO_REPLY, ICMPV6_HLEN, ICMPV6_INFORMATIONAL,
                                ICMPV6_PARAMETER_PROBLEM, ICMPV6_TOO_BIG, ICMPV6_UNREACHABLE, PORT_UNREACHABLE, PROBLEM_FIELD,
                                PROBLEM_INCOMPLETE_CHAIN, PROBLEM_NEXT_HEADER)
from ext.stages.local cimport (LOCAL_ICMP_BAD_CHECKSUM, LOCAL_ICMP_BAD_QUOTE, LOCAL_ICMP_NO_SOCKET, LOCAL_ICMP_TRUNCATED,
                               LOCAL_NO_MULTICAST_ROUTING, LOCAL_NO_PROTOCOL, LOCAL_TCP_NO_SOCKET, LOCAL_UDP_NO_SOCKET, deliver, socket_for,
                               trace_icmp, deliver_other, deliver_tcp, deliver_udp)
from ext.stages.neighbour_discovery cimport nd_receive
from ext.stages.nd_messages cimport ND_REDIRECT, ND_ROUTER_SOLICITATION
from ext.stages.netfilter cimport hook_input
from ext.stages.reject cimport TCPF_RST
from ext.stages.reject_ipv6 cimport tcp_reset_packet6
from ext.stages.route_ipv6 cimport pmtu_learn6, route_output6
from ext.stages.tunnel_receive cimport tunnel_exists, tunnel_receive
from ext.stages.verdict cimport ST_DONE, ST_LOCAL_OUT, ST_TRANSPORT
from ext.tables.fragments cimport FRAG_OVERSIZE, FRAG_UNALIGNED, FRAG_USER_LOCAL
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ipv4 cimport ECN_MASK, IPPROTO_ICMPV6, IPPROTO_PIM, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE
from ext.wire.ipv6 cimport (Ipv6Chain, skip_extensions, FRAGMENT_HLEN, FRAGMENT_MORE, FRAGMENT_OFFSET, IPV6_DST, IPV6_HLEN,
                            IPV6_PAYLOAD_LEN, IPV6_SRC, NEXT_DESTINATION, NEXT_FRAGMENT, NEXT_NONE, NEXT_ROUTING, ipv6_class,
                            ipv6_is_multicast)
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, DST_ANYCAST, DST_MULTICAST, TO_HOST

cdef enum:
    AGAIN = 0  # an extension header has been read, the next one is to be looked at
    ST_DONE_HELD = 1000  # a fragment waits: no stage has this number
    ROUTING_RPL = 3
    ROUTING_SEGMENTS = 4
    HEADERS_MAX = 64  # extension headers of one packet


cdef inline int stage_ipv6_local(Core *c, Pkt *p) noexcept nogil:
    """ip6_input(): the input hooks."""
    cdef int v = hook_input(c, p, p.dev)
    return v if v else ST_TRANSPORT


# ---- extension headers: AGAIN, a stage or a drop; ``payload_at`` has moved on behind the header

cdef inline bint whole_header_there(const Pkt *p) noexcept nogil:
    cdef uint32_t n = pkt_l3_len(p)
    return p.payload_at + 8 <= n and p.payload_at + (<uint32_t>(p.buf + p.l3)[p.payload_at + 1] + 1) * 8 <= n


cdef inline void header_done(Pkt *p, uint32_t size) noexcept nogil:
    p.next_at = p.payload_at
    p.payload_at += size


cdef inline int destination_options(Core *c, Pkt *p) noexcept nogil:
    """ipv6_destopt_rcv()."""
    cdef int v
    if not whole_header_there(p):
        return -EXTENSION_TRUNCATED
    v = parse_options(c, p, p.payload_at, False)
    if v == 0:
        header_done(p, (<uint32_t>pkt_l3(p)[p.payload_at + 1] + 1) * 8)
    return v


cdef inline bint segment_of_a_tunnel(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """A segment routing header, and the destination is a local segment: seg6_local_input() comes first, and asks no sysctl."""
    cdef const uint8_t *ip = pkt_l3(p)
    if not whole_header_there(p) or ip[p.payload_at + 2] != ROUTING_SEGMENTS:
        return False
    return tunnel_exists(c, ns, NEXT_ROUTING, 0, 6, ip + IPV6_DST, ip + IPV6_SRC)


cdef inline int routing_header(Core *c, Pkt *p) noexcept nogil:
    """ipv6_rthdr_rcv(): with segments left none is followed."""
    cdef const uint8_t *h = pkt_l3(p) + p.payload_at
    if not whole_header_there(p):
        return -EXTENSION_TRUNCATED
    if ipv6_is_multicast(pkt_l3(p) + IPV6_DST) or p.pkt_type != TO_HOST:
        return -EXTENSION_ROUTING_TO_GROUP
    if h[2] == ROUTING_RPL or h[2] == ROUTING_SEGMENTS:
        return -EXTENSION_SEGMENTS_LEFT
    if h[3] != 0:
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_FIELD, p.payload_at + 2)
        return -EXTENSION_ROUTING_UNKNOWN
    p.source_routed = True
    header_done(p, (<uint32_t>h[1] + 1) * 8)
    return AGAIN


cdef inline int fragment_bad(Core *c, Pkt *p, uint32_t pointer) noexcept nogil:
    icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_FIELD, pointer)
    return -EXTENSION_FRAGMENT_BAD


cdef inline int fragment_header(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """ipv6_frag_rcv(): an atomic fragment loses its header, any other waits for the rest."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint32_t at = p.payload_at
    cdef int v, res = 0
    if p.frag_max_size or ld16(ip + IPV6_PAYLOAD_LEN) == 0 or at + FRAGMENT_HLEN > pkt_l3_len(p):
        return fragment_bad(c, p, at)
    if not ld16(ip + at + 2) & (FRAGMENT_OFFSET | FRAGMENT_MORE):
        header_done(p, FRAGMENT_HLEN)
        p.frag_max_size = pkt_l3_len(p)
        return AGAIN
    if lacks_headers(p, at):
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_INCOMPLETE_CHAIN, 0)
        return -EXTENSION_INCOMPLETE_CHAIN
    v = gather(c, ns, p, p.next_at, at, FRAG_USER_LOCAL, ns.sys[SYS6_FRAG_TIME], &res)
    if v > 0:
        return ST_DONE_HELD
    if v < 0 and (res == FRAG_OVERSIZE or res == FRAG_UNALIGNED):
        return fragment_bad(c, p, IPV6_PAYLOAD_LEN if res == FRAG_UNALIGNED else at + 2)
    return v


cdef inline int stage_ipv6_transport(Core *c, Pkt *p) noexcept nogil:
    """ip6_protocol_deliver_rcu(): through the extension headers, then to whom the packet belongs."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef int v = AGAIN, next, i
    for i in range(HEADERS_MAX):
        next = pkt_l3(p)[p.next_at]
        if next == NEXT_DESTINATION:
            v = destination_options(c, p)
        elif next == NEXT_ROUTING:
            if segment_of_a_tunnel(c, ns, p):
                return tunnel_receive(c, ns, p, 6, NEXT_ROUTING, 0, p.payload_at)
            v = routing_header(c, p)
        elif next == NEXT_FRAGMENT:
            v = fragment_header(c, ns, p)
        elif next == NEXT_NONE:
            return -EXTENSION_NO_NEXT_HEADER
        else:
            return transport6(c, ns, p, next)
        if v == ST_DONE_HELD:
            return ST_DONE
        if v:
            return v
    return -EXTENSION_TRUNCATED


# ---- transports

cdef inline int transport6(Core *c, Ns *ns, Pkt *p, int proto) noexcept nogil:
    cdef L4 l4
    cdef int v
    if p.payload_at > pkt_l3_len(p):
        return -EXTENSION_TRUNCATED
    l4.family = 6
    l4.proto = <uint8_t>proto
    l4.at = pkt_l3(p) + p.payload_at
    l4.len = pkt_l3_len(p) - p.payload_at
    if proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE:
        return local_udp6(c, ns, p, &l4)
    if proto == IPPROTO_TCP:
        return local_tcp6(c, ns, p, &l4)
    if proto == IPPROTO_ICMPV6:
        return local_icmpv6(c, ns, p, &l4)
    if proto == IPPROTO_PIM:
        return -LOCAL_NO_MULTICAST_ROUTING
    v = deliver_other(c, ns, p, &l4)
    if v == -LOCAL_NO_PROTOCOL:
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_NEXT_HEADER, p.next_at)
    return v


cdef inline int local_udp6(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    cdef int v = deliver_udp(c, ns, p, l4)
    if v == -LOCAL_UDP_NO_SOCKET and not p.dst.flags & DST_MULTICAST:
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, PORT_UNREACHABLE, 0)
    return v


cdef inline int local_tcp6(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    cdef int v = deliver_tcp(c, ns, p, l4)
    if v == -LOCAL_TCP_NO_SOCKET and not l4.at[13] & TCPF_RST and not p.dst.flags & (DST_MULTICAST | DST_ANYCAST):
        send_reset6(c, ns, p, l4)
    return v


cdef inline void send_reset6(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """tcp_v6_send_reset() without a socket: traffic class as received but for ECN."""
    cdef Pkt *q = tcp_reset_packet6(c, ns, p, l4, ipv6_class(pkt_l3(p)) & ~ECN_MASK, True)
    cdef uint8_t saddr[16]
    if q == NULL:
        return
    memcpy(saddr, pkt_l3(q) + IPV6_SRC, 16)
    if route_output6(c, ns, pkt_l3(q) + IPV6_DST, saddr, p.dev, &q.dst):
        pkt_consume(c, q)
        return
    c.run(c, q, ST_LOCAL_OUT)


cdef inline int local_icmpv6(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    """icmpv6_rcv()."""
    cdef Socket *s = NULL
    cdef int type
    if not l4_checksum_ok(pkt_l3(p), l4, l4.len):
        return -LOCAL_ICMP_BAD_CHECKSUM
    if l4.len < ICMPV6_HLEN:
        return -LOCAL_ICMP_TRUNCATED
    type = l4.at[0]
    if ND_ROUTER_SOLICITATION <= type <= ND_REDIRECT:
        return nd_receive(c, p, l4.at, l4.len)
    if type == ICMPV6_ECHO and not ns.sys[SYS6_ICMP_ECHO_IGNORE_ALL]:
        icmpv6_echo_reply(c, p, l4.at, l4.len)
    elif type == ICMPV6_ECHO_REPLY:
        s = socket_for(c, ns.id, IPPROTO_ICMPV6, ld16(l4.at + 4), pkt_l3(p) + IPV6_DST, 16)
        if s == NULL:
            return -LOCAL_ICMP_NO_SOCKET
    elif not type & ICMPV6_INFORMATIONAL:
        if not quote_is_whole(l4):
            return -LOCAL_ICMP_BAD_QUOTE
        s = quoted6(c, ns, l4, type == ICMPV6_TOO_BIG)
    if s != NULL:
        return deliver(c, p, s)
    trace_icmp(c, p, type)
    pkt_consume(c, p)
    return ST_DONE


cdef inline bint quote_is_whole(const L4 *l4) noexcept nogil:
    """Does an error quote all headers and eight bytes behind them?"""
    cdef Ipv6Chain chain
    if l4.len < ICMPV6_HLEN + IPV6_HLEN:
        return False
    skip_extensions(l4.at + ICMPV6_HLEN, l4.len - ICMPV6_HLEN, &chain)
    return not chain.broken and chain.at + 8 <= l4.len - ICMPV6_HLEN


cdef inline Socket *quoted6(Core *c, Ns *ns, const L4 *l4, bint too_big) noexcept nogil:
    """icmpv6_notify(): the application that an error is for; of "too big" the path's MTU is noted for it, for ICMPv6, and for tunnels."""
    cdef const uint8_t *inner = l4.at + ICMPV6_HLEN
    cdef L4 quoted
    cdef Socket *s
    cdef uint32_t port
    if not find_l4(6, inner, l4.len - ICMPV6_HLEN, &quoted) or quoted.len < 8:
        return NULL
    s = socket_for(c, ns.id, quoted.proto, ld16(quoted.at + (4 if quoted.proto == IPPROTO_ICMPV6 else 0)), inner + IPV6_SRC, 16)
    port = ld16(quoted.at + 2) if quoted.proto == IPPROTO_UDP else 0
    if too_big and (s != NULL or quoted.proto == IPPROTO_ICMPV6
                    or tunnel_exists(c, ns, quoted.proto, port, 6, inner + IPV6_SRC, inner + IPV6_DST)):
        pmtu_learn6(c, ns, inner + IPV6_DST, ld32(l4.at + 4))
    return s
