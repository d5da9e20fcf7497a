# Forwarding of IPv6: net/ipv6/ip6_output.c (ip6_forward()), ndisc.c (ndisc_send_redirect()).

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.stdio cimport snprintf
from ext.devices.core cimport Core, Ns, Peer, EventRecord, log_event, pkt_ns, CONF6_FORWARDING, CONF6_PROXY_NDP, DETAIL_LEN
from ext.stages.forward cimport FORWARD_TTL_EXPIRED, FORWARD_TOO_BIG, FORWARD_NOT_TO_US
from ext.stages.icmpv6 cimport (icmpv6_send, ICMPV6_TIME_EXCEEDED, ICMPV6_TOO_BIG, ICMPV6_UNREACHABLE, ADDRESS_UNREACHABLE, BEYOND_SCOPE,
                                EXCEEDED_HOPS)
from ext.stages.nd_messages cimport send_redirect6
from ext.stages.netfilter cimport hook_forward
from ext.stages.route cimport ROUTE_MARTIAN_SOURCE, ROUTE_NO_FORWARDING, peer_get, peer_take_token
from ext.stages.verdict cimport ST_LOCAL, ST_OUTPUT, DROPS_FORWARD
from ext.tables.neighbour cimport neigh_find
from ext.wire.ipv4 cimport IPPROTO_ICMPV6
from ext.wire.ipv6 cimport (Ipv6Chain, IPV6_HOPS, IPV6_SRC, IPV6_DST, IPV6_MIN_MTU, ipv6_is_link_local, ipv6_is_loopback,
                            ipv6_is_unspecified, skip_extensions)
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST, PF_FORWARDED, PF_IGNORE_DF

cdef enum:
    FORWARD_LINK_LOCAL_SOURCE = DROPS_FORWARD + 8  # behind those of IPv4
    FORWARD_PROXIED_LINK_LOCAL
    REDIRECT_COST = 1000000000  # ns
    ND_FIRST = 133
    ND_LAST = 137


cdef inline const char *forward_ipv6_reason(int r) noexcept nogil:
    if r == FORWARD_LINK_LOCAL_SOURCE:
        return b"forward/link_local_source\tA link-local source may not leave its link: the sender is told\tIP_INADDRERRORS"
    if r == FORWARD_PROXIED_LINK_LOCAL:
        return b"forward/proxied_link_local\tTraffic to a proxied link-local address is not forwarded: the sender is told\tIP_INADDRERRORS"
    return NULL


cdef inline uint32_t forward_mtu6(Core *c, const Pkt *p) noexcept nogil:
    """ip6_dst_mtu_maybe_forward(): a route's own MTU counts only if it is locked; path MTU is for packets made here."""
    return p.dst.mtu if p.dst.mtu and p.dst.mtu_lock else c.dev[p.dst.oif].mtu


cdef inline bint too_big6(const Pkt *p, uint32_t mtu) noexcept nogil:
    """ip6_pkt_too_big(): what was put together from small enough fragments is cut again."""
    if pkt_l3_len(p) <= mtu:
        return False
    return p.frag_max_size > mtu or not p.flags & PF_IGNORE_DF


cdef inline void tell_too_big(Core *c, Pkt *p, uint32_t mtu) noexcept nogil:
    """In the name of the outgoing device (ip6_forward(): "force OUTPUT device used as source address")."""
    cdef int dev = p.dev
    p.dev = p.dst.oif
    icmpv6_send(c, p, ICMPV6_TOO_BIG, 0, mtu)
    p.dev = dev


cdef inline int proxied(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """ip6_forward_proxy_check(): ND for a proxied address is ours to read: a stage, a drop, or 0."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef Ipv6Chain chain
    if not ns.conf_all[CONF6_PROXY_NDP] or neigh_find(&c.dev[p.dev].proxies, ip + IPV6_DST, 16) == NULL:
        return 0
    skip_extensions(ip, pkt_l3_len(p), &chain)
    if not chain.broken and chain.proto == IPPROTO_ICMPV6 and chain.at < pkt_l3_len(p) and ND_FIRST <= ip[chain.at] <= ND_LAST:
        return ST_LOCAL
    if ipv6_is_link_local(ip + IPV6_DST):
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, ADDRESS_UNREACHABLE, 0)
        return -FORWARD_PROXIED_LINK_LOCAL
    return 0


cdef inline int check_scope(Core *c, Pkt *p) noexcept nogil:
    """The packet changes the link: may its source? 0 or a drop."""
    cdef const uint8_t *src = pkt_l3(p) + IPV6_SRC
    if ipv6_is_unspecified(src) or ipv6_is_loopback(src):
        return -ROUTE_MARTIAN_SOURCE
    if ipv6_is_link_local(src):
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, BEYOND_SCOPE, 0)
        return -FORWARD_LINK_LOCAL_SOURCE
    return 0


cdef inline int same_link(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """Back out of the device it came in by: a redirect, limited per destination here and per source when it is sent. 0 or a drop."""
    cdef Peer *peer
    if p.iif != p.dst.oif or p.source_routed:
        return check_scope(c, p)
    peer = peer_get(c, ns, pkt_l3(p) + IPV6_DST, 16)
    if peer_take_token(c, peer, REDIRECT_COST, <int64_t>6 * REDIRECT_COST):
        send_redirect6(c, ns, p, &p.dst.gw[0] if p.dst.has_gw else pkt_l3(p) + IPV6_DST)
    return 0


cdef inline int stage_ipv6_forward(Core *c, Pkt *p) noexcept nogil:
    """``p.dev``: the device it came in by."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint32_t mtu
    cdef int v
    if ns.conf_all[CONF6_FORWARDING] == 0:
        return -ROUTE_NO_FORWARDING
    if p.pkt_type != TO_HOST:
        return -FORWARD_NOT_TO_US
    if pkt_l3(p)[IPV6_HOPS] <= 1:
        icmpv6_send(c, p, ICMPV6_TIME_EXCEEDED, EXCEEDED_HOPS, 0)
        return -FORWARD_TTL_EXPIRED
    v = proxied(c, ns, p)
    if v == 0:
        v = same_link(c, ns, p)
    if v:
        return v
    mtu = forward_mtu6(c, p)
    if mtu < IPV6_MIN_MTU:
        mtu = IPV6_MIN_MTU
    if too_big6(p, mtu):
        tell_too_big(c, p, mtu)
        return -FORWARD_TOO_BIG
    p.flags |= PF_FORWARDED
    pkt_l3(p)[IPV6_HOPS] -= 1
    p.crossings = 0
    trace_hops(c, p)
    v = hook_forward(c, p, p.dev, p.dst.oif)
    return v if v else ST_OUTPUT


cdef inline void trace_hops(Core *c, Pkt *p) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"forward", b"ttl", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"hop limit is now %d", pkt_l3(p)[IPV6_HOPS])
