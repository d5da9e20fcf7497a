# Routing decisions for IPv6: net/ipv6/route.c, net/ipv6/addrconf.c (ipv6_dev_get_saddr()), net/ipv6/mcast.c, net/ipv6/anycast.c.

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memcmp, memset
from ext.devices.core cimport (Core, Ns, Dev, IfAddr, PmtuEntry, EventRecord, log_event, pkt_ns, CONF6_FORWARDING, DETAIL_LEN,
                               SYS6_MTU_EXPIRES)
from ext.stages.route cimport dst_from_route, pmtu_find, pmtu_get, route_type_name
from ext.tables.fib cimport (Fib, FibResult, Route, fib_error, fib_lookup, fib_lookup_table, fib_stored, RT_LOCAL, RT_ANYCAST, RT_MULTICAST,
                             RT_UNREACHABLE, ERR_ENETUNREACH)
from ext.tables.neighbour cimport neigh_find
from ext.wire.ipv6 cimport (IPV6_DST, IPV6_MIN_MTU, SCOPE_LINK_LOCAL, common_bits, ipv6_is_link_local, ipv6_is_multicast,
                            ipv6_is_unspecified, ipv6_needs_interface, ipv6_scope, solicited_node)
from ext.wire.text cimport put_address
from ext.wire.packet cimport Pkt, Dst, pkt_l3, DST_LOCAL, DST_MULTICAST, DST_INPUT, DST_ANYCAST

cdef enum:
    SOURCE_RULES = 7


# ---- addresses

cdef inline bint is_own_address6(Core *c, Ns *ns, const uint8_t *addr, int dev, bint strict) noexcept nogil:
    """ipv6_chk_addr(): does a device here have it? Of a link-local address, or if ``strict``, ``dev`` itself."""
    cdef int i, k
    cdef Dev *d
    strict = strict or ipv6_is_link_local(addr)
    for i in range(ns.n_devs):
        d = c.dev[ns.devs[i]]
        if strict and d.id != dev:
            continue
        for k in range(d.n_addr):
            if d.addr[k].family == 6 and memcmp(d.addr[k].addr, addr, 16) == 0:
                return True
    return False


cdef inline bint is_anycast(Ns *ns, const uint8_t *addr, int dev) noexcept nogil:
    """ipv6_chk_acast_addr(): the subnet-router address (RFC 4291 2.6.1) of a subnet that this namespace routes for; ``dev`` -1: any."""
    cdef FibResult res = fib_lookup_table(&ns.fib6, ns.fib6.local, addr, dev)
    return res.route != NULL and res.route.type == RT_ANYCAST


cdef inline const uint8_t *link_local_address(const Dev *d) noexcept nogil:
    """ipv6_get_lladdr(): NULL if the device has none."""
    cdef int i
    for i in range(d.n_addr):
        if d.addr[i].family == 6 and ipv6_is_link_local(d.addr[i].addr):
            return d.addr[i].addr
    return NULL


cdef inline bint has_ipv6(const Dev *d) noexcept nogil:
    cdef int i
    for i in range(d.n_addr):
        if d.addr[i].family == 6:
            return True
    return False


cdef inline bint group_joined(const Dev *d, const uint8_t *group) noexcept nogil:
    """ipv6_chk_mcast_addr(): all nodes, all routers, and the solicited-node groups of its addresses and proxied ones."""
    cdef uint8_t mine[16]
    cdef int i
    if memcmp(group + 2, b"\0\0\0\0\0\0\0\0\0\0\0\0\0", 13) == 0 and group[1] in (1, 2, 5):
        if group[15] == 1 and group[1] != 5:
            return has_ipv6(d)
        if group[15] == 2:
            return d.conf[CONF6_FORWARDING] != 0
    for i in range(d.n_addr):
        if d.addr[i].family == 6:
            solicited_node(d.addr[i].addr, mine)
            if memcmp(mine, group, 16) == 0:
                return True
            if d.conf[CONF6_FORWARDING] and group[12] == 0xff and anycast_solicited(&d.addr[i], group):
                return True
    return neigh_find(&d.proxies, group, 16) != NULL


cdef inline bint anycast_solicited(const IfAddr *a, const uint8_t *group) noexcept nogil:
    """Is ``group`` the solicited-node group of this address's subnet-router address?"""
    cdef uint8_t net[16]
    cdef uint8_t mine[16]
    cdef int i
    if a.plen >= 127:
        return False
    memcpy(net, a.addr, 16)
    for i in range(a.plen, 128):
        net[i >> 3] &= <uint8_t>~(0x80 >> (i & 7))
    solicited_node(net, mine)
    return memcmp(mine, group, 16) == 0


# ---- source address selection (RFC 6724)

cdef inline bint is_orchid(const uint8_t *a) noexcept nogil:
    """2001:10::/28 (RFC 4843)."""
    return memcmp(a, b"\x20\x01\0", 3) == 0 and a[3] & 0xf0 == 0x10


cdef inline int address_label(const uint8_t *a) noexcept nogil:
    """The default policy table (net/ipv6/addrlabel.c, ip6addrlbl_init_table)."""
    if memcmp(a, b"\0\0\0\0\0\0\0\0\0\0\0\0", 12) == 0:
        return 0 if memcmp(a + 12, b"\0\0\0\1", 4) == 0 else 3
    if memcmp(a, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        return 4
    if a[0] & 0xfe == 0xfc:
        return 5
    if a[0] == 0x20 and a[1] == 0x02:
        return 2
    if memcmp(a, b"\x20\x01\0\0", 4) == 0:
        return 6
    if a[0] == 0xfe and a[1] & 0xc0 == 0xc0:
        return 11
    if a[0] == 0x3f and a[1] == 0xfe:
        return 12
    return 7 if is_orchid(a) else 1


cdef inline void score_source(const IfAddr *a, int dev, const uint8_t *daddr, int out, int *score) noexcept nogil:
    """How a source address does by each rule, the first that tells two apart decides (ipv6_get_saddr_eval())."""
    cdef int scope = ipv6_scope(a.addr), want = ipv6_scope(daddr), bits = common_bits(a.addr, daddr)
    score[0] = memcmp(a.addr, daddr, 16) == 0
    score[1] = -scope if scope >= want else scope - 128
    score[2] = out < 0 or dev == out
    score[3] = address_label(a.addr) == address_label(daddr)
    score[4] = is_orchid(a.addr) == is_orchid(daddr)
    score[5] = bits if bits < a.plen else a.plen
    score[6] = scope  # a device lists its addresses from the widest scope down


cdef inline bint scores_better(const int *a, const int *b) noexcept nogil:
    cdef int i
    for i in range(SOURCE_RULES):
        if a[i] != b[i]:
            return a[i] > b[i]
    return False


cdef inline bint select_source6(Core *c, Ns *ns, int out, const uint8_t *daddr, uint8_t *saddr) noexcept nogil:
    """ipv6_dev_get_saddr(): the best address for ``daddr`` by way of device ``out`` (-1: any). False: there is none."""
    cdef int i, k
    cdef int best[SOURCE_RULES]
    cdef int score[SOURCE_RULES]
    cdef bint found = False, same_link = out >= 0 and (ipv6_is_multicast(daddr) or ipv6_scope(daddr) <= SCOPE_LINK_LOCAL)
    cdef Dev *d
    for i in range(ns.n_devs):
        d = c.dev[ns.devs[i]]
        if same_link and d.id != out:
            continue
        for k in range(d.n_addr - 1, -1, -1):  # of equals the one that was added last (ipv6_link_dev_addr())
            if d.addr[k].family != 6:
                continue
            score_source(&d.addr[k], d.id, daddr, out, score)
            if not found or scores_better(score, best):
                memcpy(best, score, sizeof(best))
                memcpy(saddr, d.addr[k].addr, 16)
                found = True
    return found


# ---- looking up

cdef inline FibResult lookup6(const Fib *f, const uint8_t *daddr, int dev) noexcept nogil:
    """fib6_table_lookup(): where the address needs an interface only routes of ``dev`` count; elsewhere they go before others of the same
    prefix and metric (rt6_score_route()). ``dev`` -1: any. For received packets it is the device they came in by."""
    cdef FibResult res = fib_lookup(f, daddr, dev if ipv6_needs_interface(daddr) else -1)
    cdef int at
    if res.route == NULL or dev < 0 or res.route.dev == dev:
        return res
    at = res.route.next
    while at >= 0 and f.route[at].metric == res.route.metric:
        if f.route[at].dev == dev and not f.route[at].dead:
            res.route = &f.route[at]
            res.error = fib_error(res.route.type)
            return res
        at = f.route[at].next
    return res


cdef inline void pmtu_learn6(Core *c, Ns *ns, const uint8_t *daddr, uint32_t mtu) noexcept nogil:
    """__ip6_rt_update_pmtu(): what is below 1280 is nobody's path MTU (RFC 8201 4)."""
    cdef PmtuEntry *e
    if mtu < IPV6_MIN_MTU:
        return
    e = pmtu_get(ns, daddr, 16)
    if e != NULL:
        c.generation += 1
        e.mtu = mtu
        e.expires = c.now + <int64_t>ns.sys[SYS6_MTU_EXPIRES] * 1000000000


cdef inline int route_output6(Core *c, Ns *ns, const uint8_t *daddr, uint8_t *saddr, int oif, Dst *dst) noexcept nogil:
    """ip6_dst_lookup(): 0 or an errno; ``saddr`` :: is filled in. ``oif`` counts where the address needs an interface."""
    cdef bint any_source = ipv6_is_unspecified(saddr)
    cdef FibResult res = fib_lookup(&ns.fib6, daddr, oif) if any_source else lookup6(&ns.fib6, daddr, oif)
    memset(dst, 0, sizeof(Dst))
    dst.oif = -1
    if res.error:
        return res.error
    if any_source and not route_source6(c, ns, res.route, daddr, saddr):
        return ERR_ENETUNREACH
    dst_from_route(dst, res.route)
    if res.route.type == RT_LOCAL or res.route.type == RT_ANYCAST:
        dst.oif = ns.lo
        dst.flags = DST_LOCAL | (DST_ANYCAST if res.route.type == RT_ANYCAST else 0)
        dst.has_gw = False
        return 0
    if ipv6_is_multicast(daddr):
        dst.type = RT_MULTICAST
        dst.flags = DST_MULTICAST
    apply_path_mtu(c, ns, daddr, dst)
    return 0


cdef inline void apply_path_mtu(Core *c, Ns *ns, const uint8_t *daddr, Dst *dst) noexcept nogil:
    """rt6_find_cached_rt(): what is known of the path counts for packets made here and forwarded ones."""
    cdef PmtuEntry *pmtu = pmtu_find(ns, daddr, 16)
    if pmtu != NULL and pmtu.expires > c.now and (dst.mtu == 0 or pmtu.mtu < dst.mtu) and pmtu.mtu < c.dev[dst.oif].mtu:
        dst.mtu = pmtu.mtu


cdef inline bint route_source6(Core *c, Ns *ns, const Route *r, const uint8_t *daddr, uint8_t *saddr) noexcept nogil:
    """The source address a route prefers (ip6_route_get_saddr())."""
    if r.has_src:
        memcpy(saddr, r.src, 16)
        return True
    return select_source6(c, ns, r.dev, daddr, saddr)


cdef inline int route_input6(Core *c, Pkt *p, int dev) noexcept nogil:
    """ip6_route_input(): 0 and ``p.dst``, or a drop. A destination without a route gets one that carries the error."""
    cdef Ns *ns = c.ns[c.dev[dev].ns]
    cdef const uint8_t *daddr = pkt_l3(p) + IPV6_DST
    cdef FibResult res = lookup6(&ns.fib6, daddr, dev)
    trace_route6(c, p, daddr, &res)
    memset(&p.dst, 0, sizeof(Dst))
    if res.error:
        p.dst.valid = True
        p.dst.type = res.route.type if res.route != NULL else RT_UNREACHABLE
        p.dst.error = res.error
        p.dst.oif = ns.lo
        p.dst.origin = res.route.origin if res.route != NULL else 0
        return 0
    dst_from_route(&p.dst, res.route)
    p.dst.flags = DST_INPUT
    if res.route.type == RT_LOCAL or res.route.type == RT_ANYCAST:
        p.dst.flags = DST_INPUT | DST_LOCAL | (DST_ANYCAST if res.route.type == RT_ANYCAST else 0)
        p.dst.oif = ns.lo
        p.dst.has_gw = False
    elif ipv6_is_multicast(daddr):
        p.dst.type = RT_MULTICAST
        p.dst.flags = DST_INPUT | DST_LOCAL | DST_MULTICAST
    else:
        apply_path_mtu(c, ns, daddr, &p.dst)
    return 0


cdef inline void trace_route6(Core *c, Pkt *p, const uint8_t *daddr, const FibResult *res) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"route", b"route", res.route.origin if res.route != NULL else 0)
    cdef const Route *r
    cdef int n
    if ev == NULL:
        return
    r = fib_stored(&pkt_ns(c, p).fib6, daddr, res.route)
    n = put_address(ev.detail, DETAIL_LEN, daddr, 6)
    if r == NULL:
        snprintf(ev.detail + n, DETAIL_LEN - n, b": no route")
        return
    n += snprintf(ev.detail + n, DETAIL_LEN - n, b" matches ")
    n += put_address(ev.detail + n, DETAIL_LEN - n, r.prefix, 6)
    n += snprintf(ev.detail + n, DETAIL_LEN - n, b"/%d %s", r.plen, route_type_name(r.type))
    if r.has_gw:
        n += snprintf(ev.detail + n, DETAIL_LEN - n, b" via ")
        n += put_address(ev.detail + n, DETAIL_LEN - n, r.gw, 6)
    if r.dev >= 0:
        snprintf(ev.detail + n, DETAIL_LEN - n, b" dev %s", c.dev[r.dev].name)


cdef inline void trace_route_out6(Core *c, Pkt *p) noexcept nogil:
    """The route of a packet of this namespace's own."""
    cdef FibResult res
    cdef const uint8_t *daddr = pkt_l3(p) + IPV6_DST
    if c.tracing:
        res = fib_lookup(&pkt_ns(c, p).fib6, daddr, p.dst.oif if ipv6_needs_interface(daddr) and not p.dst.flags & DST_LOCAL else -1)
        trace_route6(c, p, daddr, &res)
