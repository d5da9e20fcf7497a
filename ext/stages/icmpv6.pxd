# ICMPv6 messages that a host makes (RFC 4443): net/ipv6/icmp.c (icmp6_send(), icmpv6_echo_reply()).

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Ns, Peer, pkt_ns, DEV_LO, CONF6_HOP_LIMIT, SYS6_ICMP_RATELIMIT, SYS6_ICMP_ECHO_IGNORE_ANYCAST,
                               SYS6_ICMP_ECHO_IGNORE_MULTICAST, SYS6_ANYCAST_SRC_ECHO_REPLY, SYS6_AUTO_FLOWLABELS)
from ext.devices.record cimport rec_refuse
from ext.stages.icmp cimport ct_attach_error, icmp_global_token, local_packet
from ext.stages.route cimport peer_get, peer_take_token
from ext.stages.route_ipv6 cimport is_anycast, is_own_address6, route_output6, select_source6
from ext.stages.verdict cimport ST_LOCAL_OUT
from ext.wire.bytes cimport st16, st32
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.hash cimport hash_bytes, mix64
from ext.wire.ipv4 cimport IPPROTO_ICMPV6
from ext.wire.ipv6 cimport (Ipv6Chain, IPV6_HLEN, IPV6_PAYLOAD_LEN, IPV6_NEXT, IPV6_HOPS, IPV6_SRC, IPV6_DST, IPV6_MIN_MTU, ipv6_class,
                            ipv6_is_multicast, ipv6_is_link_local, ipv6_is_unspecified, ipv6_set_first_word, skip_extensions)
from ext.wire.packet cimport Pkt, Dst, pkt_l3, pkt_l3_len, TO_HOST, DST_ANYCAST, DST_MULTICAST, PF_IGNORE_DF

cdef enum:
    ICMPV6_UNREACHABLE = 1
    ICMPV6_TOO_BIG = 2
    ICMPV6_TIME_EXCEEDED = 3
    ICMPV6_PARAMETER_PROBLEM = 4
    ICMPV6_ECHO = 128
    ICMPV6_ECHO_REPLY = 129
    ICMPV6_INFORMATIONAL = 128  # the bit
    ICMPV6_HLEN = 8
    NO_ROUTE = 0  # codes
    PROHIBITED = 1
    BEYOND_SCOPE = 2
    ADDRESS_UNREACHABLE = 3
    PORT_UNREACHABLE = 4
    EXCEEDED_HOPS = 0
    EXCEEDED_REASSEMBLY6 = 1
    PROBLEM_FIELD = 0
    PROBLEM_NEXT_HEADER = 1
    PROBLEM_OPTION = 2
    PROBLEM_INCOMPLETE_CHAIN = 3


cdef inline bint may_tell_group(const Pkt *p, int type, int code, uint32_t info) noexcept nogil:
    """RFC 4443 2.4 (e.3): of packets to groups only "too big", and an option that asks for it."""
    cdef const uint8_t *ip = p.buf + p.l3
    if type == ICMPV6_TOO_BIG:
        return True
    if type != ICMPV6_PARAMETER_PROBLEM or code != PROBLEM_OPTION:
        return False
    return info >= pkt_l3_len(p) or ip[info] & 0xc0 == 0x80


cdef inline bint is_icmpv6_error(const Pkt *p) noexcept nogil:
    """is_ineligible(): an error, or so little of an ICMPv6 message that it might be one."""
    cdef Ipv6Chain chain
    skip_extensions(p.buf + p.l3, pkt_l3_len(p), &chain)
    if chain.broken or chain.proto != IPPROTO_ICMPV6:
        return False
    if chain.at >= pkt_l3_len(p):
        return chain.frag == 0
    return not (p.buf + p.l3)[chain.at] & ICMPV6_INFORMATIONAL


cdef inline bint icmpv6_may_answer(const Pkt *p, int type, int code, uint32_t info) noexcept nogil:
    cdef const uint8_t *ip = p.buf + p.l3
    if pkt_l3_len(p) < IPV6_HLEN:
        return False
    if (ipv6_is_multicast(ip + IPV6_DST) or p.pkt_type != TO_HOST) and not may_tell_group(p, type, code, info):
        return False
    if ipv6_is_unspecified(ip + IPV6_SRC) or ipv6_is_multicast(ip + IPV6_SRC):
        return False
    return not is_icmpv6_error(p)


cdef inline bint icmpv6_allowed(Core *c, Ns *ns, const Pkt *p, int type, const Dst *out, const uint8_t *daddr) noexcept nogil:
    """icmpv6_global_allow() and icmpv6_xrlim_allow(): errors are limited per namespace and per remote address, "too big" is not."""
    cdef int64_t cost
    cdef Peer *peer
    if type & ICMPV6_INFORMATIONAL or type == ICMPV6_TOO_BIG:
        return True
    if p.dev >= 0 and c.dev[p.dev].kind != DEV_LO and not icmp_global_token(c, ns):
        return False
    if out.oif == ns.lo:
        return True
    cost = <int64_t>ns.sys[SYS6_ICMP_RATELIMIT] * 1000000
    if out.plen < 128:
        cost >>= (128 - out.plen) >> 5
    peer = peer_get(c, ns, daddr, 16)
    return peer_take_token(c, peer, cost, 6 * cost)


cdef inline uint32_t auto_flow_label(Core *c, Ns *ns, const uint8_t *saddr, const uint8_t *daddr, int proto, uint32_t ports) noexcept nogil:
    """RFC 6438: one label for a flow; Linux hashes with a key of its own (ip6_make_flowlabel()). ``ports``: what tells flows between two
    addresses apart, of ICMPv6 its type and code."""
    cdef uint64_t key = c.seed ^ ns.name_hash ^ mix64(<uint64_t>proto << 32 | ports)
    if ns.sys[SYS6_AUTO_FLOWLABELS] == 0:
        return 0
    return <uint32_t>(hash_bytes(key, saddr, 16) ^ hash_bytes(mix64(key), daddr, 16)) & 0xfffff


cdef inline void write_ipv6(uint8_t *ip, uint32_t payload, int tclass, uint32_t label, int next, int hops, const uint8_t *src,
                            const uint8_t *dst) noexcept nogil:
    ipv6_set_first_word(ip, tclass, label)
    st16(ip + IPV6_PAYLOAD_LEN, payload)
    ip[IPV6_NEXT] = <uint8_t>next
    ip[IPV6_HOPS] = <uint8_t>hops
    memcpy(ip + IPV6_SRC, src, 16)
    memcpy(ip + IPV6_DST, dst, 16)


cdef inline void icmpv6_set_csum(uint8_t *ip, uint8_t *icmp, uint32_t n) noexcept nogil:
    st16(icmp + 2, 0)
    st16(icmp + 2, ~csum_add_bytes(icmp, n, pseudo_sum(ip + IPV6_SRC, ip + IPV6_DST, 16, IPPROTO_ICMPV6, n)) & 0xffff)


cdef inline Pkt *local_packet6(Core *c, Ns *ns, uint32_t room) noexcept nogil:
    """As local_packet(), for IPv6."""
    cdef Pkt *q = local_packet(c, ns, room)
    if q != NULL:
        q.protocol = ETHERTYPE_IPV6
    return q


cdef inline Pkt *icmpv6_packet(Core *c, Ns *ns, int tclass, const uint8_t *saddr, const uint8_t *daddr, const Dst *dst, int type, int code,
                               uint32_t info, const uint8_t *body, uint32_t n) noexcept nogil:
    """A whole message with its IPv6 header; NULL when memory is out."""
    cdef Pkt *q = local_packet6(c, ns, IPV6_HLEN + ICMPV6_HLEN + n)
    cdef uint8_t *ip
    cdef uint8_t *icmp
    if q == NULL:
        return NULL
    ip = q.buf + q.l3
    icmp = ip + IPV6_HLEN
    q.end = q.l3 + IPV6_HLEN + ICMPV6_HLEN + n
    write_ipv6(ip, ICMPV6_HLEN + n, tclass, auto_flow_label(c, ns, saddr, daddr, IPPROTO_ICMPV6, <uint32_t>(type << 8 | code)), IPPROTO_ICMPV6,
               c.dev[dst.oif].conf[CONF6_HOP_LIMIT], saddr, daddr)
    icmp[0] = <uint8_t>type
    icmp[1] = <uint8_t>code
    st32(icmp + 4, info)
    memcpy(icmp + ICMPV6_HLEN, body, n)
    icmpv6_set_csum(ip, icmp, ICMPV6_HLEN + n)
    q.dst = dst[0]
    q.flags |= PF_IGNORE_DF  # its socket lets the namespace fragment (ip6_sk_ignore_df())
    return q


cdef inline void icmpv6_source(Core *c, Ns *ns, const Pkt *p, int oif, uint8_t *saddr) noexcept nogil:
    """The address asked for if it is ours; else the best of the device the packet came in by, unless the route back names one."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint8_t any_source[16]
    cdef Dst dst
    memset(saddr, 0, 16)
    if not ipv6_is_multicast(ip + IPV6_DST) and p.pkt_type == TO_HOST:
        if is_own_address6(c, ns, ip + IPV6_DST, p.dev, False) or is_anycast(ns, ip + IPV6_DST, -1):
            memcpy(saddr, ip + IPV6_DST, 16)
            return
    memset(any_source, 0, 16)
    if route_output6(c, ns, ip + IPV6_SRC, any_source, oif, &dst) == 0 and dst.has_prefsrc:
        return
    if p.iif >= 0:
        select_source6(c, ns, p.iif, ip + IPV6_SRC, saddr)


cdef inline void icmpv6_send(Core *c, Pkt *p, int type, int code, uint32_t info) noexcept nogil:
    """Tell the sender of ``p`` what became of it; ``info``: MTU, pointer, or 0."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint8_t saddr[16]
    cdef Dst dst
    cdef int oif = -1
    cdef uint32_t n = IPV6_MIN_MTU - IPV6_HLEN - ICMPV6_HLEN
    cdef Pkt *q
    rec_refuse(&c.rec)
    if not icmpv6_may_answer(p, type, code, info):
        return
    if ipv6_is_link_local(ip + IPV6_SRC):
        oif = p.dev
    icmpv6_source(c, ns, p, oif, saddr)
    if route_output6(c, ns, ip + IPV6_SRC, saddr, oif, &dst) or dst.flags & DST_ANYCAST:
        return
    if not icmpv6_allowed(c, ns, p, type, &dst, ip + IPV6_SRC):
        return
    if pkt_l3_len(p) < n:
        n = pkt_l3_len(p)
    q = icmpv6_packet(c, ns, 0, saddr, ip + IPV6_SRC, &dst, type, code, info, ip, n)
    if q == NULL:
        return
    ct_attach_error(q, p)
    c.run(c, q, ST_LOCAL_OUT)


cdef inline void icmpv6_echo_reply(Core *c, Pkt *p, const uint8_t *icmp, uint32_t n) noexcept nogil:
    """Answer an echo request; ``icmp``: its ``n`` bytes. To a group, or to an anycast address, from the best address of ours."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint8_t saddr[16]
    cdef Dst dst
    cdef Pkt *q
    if p.dst.flags & DST_MULTICAST and ns.sys[SYS6_ICMP_ECHO_IGNORE_MULTICAST]:
        return
    if p.dst.flags & DST_ANYCAST and ns.sys[SYS6_ICMP_ECHO_IGNORE_ANYCAST]:
        return
    memset(saddr, 0, 16)
    if not p.dst.flags & (DST_MULTICAST | DST_ANYCAST) or (p.dst.flags & DST_ANYCAST and ns.sys[SYS6_ANYCAST_SRC_ECHO_REPLY]):
        memcpy(saddr, ip + IPV6_DST, 16)
    if route_output6(c, ns, ip + IPV6_SRC, saddr, p.dev, &dst):
        return
    q = icmpv6_packet(c, ns, ipv6_class(ip), saddr, ip + IPV6_SRC, &dst, ICMPV6_ECHO_REPLY, icmp[1], 0, icmp + ICMPV6_HLEN, n - ICMPV6_HLEN)
    if q == NULL:
        return
    memcpy(pkt_l3(q) + IPV6_HLEN + 4, icmp + 4, 4)
    icmpv6_set_csum(pkt_l3(q), pkt_l3(q) + IPV6_HLEN, n)
    c.run(c, q, ST_LOCAL_OUT)
