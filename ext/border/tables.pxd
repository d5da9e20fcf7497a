# Addresses and routes as ``ip address`` and ``ip route`` change them, and freeing what a world held.

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memcmp, memset
from ext.devices.core cimport *
from ext.tables.conntrack cimport ct_find, ct_kill, ct_table_free
from ext.tables.ct_entry cimport Ct, Tuple
from ext.tables.fdb cimport fdb_clear
from ext.tables.fib cimport *
from ext.tables.fragments cimport FragQueue
from ext.tables.htab cimport HNode, htab_free_all, htab_remove, htab_step
from ext.tables.own cimport own_add, own_remove
from ext.tables.neighbour cimport Neigh, neigh_find, neigh_get
from ext.tables.rules cimport rules_free, TABLES
from ext.wire.ipv6 cimport solicited_node
from ext.wire.packet cimport Pkt

cdef enum:
    PRIO_ADDRCONF = 256  # IP6_RT_PRIO_ADDRCONF, include/uapi/linux/ipv6_route.h


cdef inline void mask_prefix(uint8_t *addr, int plen, int alen) noexcept nogil:
    """Clear the host bits."""
    cdef int i
    for i in range(alen):
        if plen < i * 8 + 8:
            addr[i] &= <uint8_t>(0xff00 >> (plen - i * 8)) if plen > i * 8 else 0


cdef inline int route_kind_code(str kind) except -1:
    codes = {"unicast": RT_UNICAST, "blackhole": RT_BLACKHOLE, "unreachable": RT_UNREACHABLE, "prohibit": RT_PROHIBIT, "throw": RT_THROW,
             "local": RT_LOCAL, "broadcast": RT_BROADCAST, "anycast": RT_ANYCAST, "multicast": RT_MULTICAST}
    if kind not in codes:
        raise ValueError(f"no kind of route is called {kind!r}")
    return codes[kind]


cdef inline int own_route(Ns *ns, int alen, const uint8_t *addr, int plen, int type, int scope, int dev, const uint8_t *src, uint32_t metric,
                          int origin) except -1:
    """A route that an address brings with it; one that is there already stays. ``src`` NULL: it prefers no source address."""
    cdef Route r
    cdef Fib *f = ns_fib(ns, alen)
    cdef int i
    memset(&r, 0, sizeof(Route))
    memcpy(r.prefix, addr, alen)
    mask_prefix(r.prefix, plen, alen)
    r.plen = <uint8_t>plen
    r.type = <uint8_t>type
    r.scope = <uint8_t>scope
    r.dev = dev
    if src != NULL:
        r.has_src = True
        memcpy(r.src, src, alen)
    r.metric = metric
    r.local_table = type != RT_UNICAST
    r.origin = origin
    i = fib_find(f, r.prefix, plen, r.local_table)
    while i >= 0:
        if f.route[i].dev == dev and f.route[i].type == type and f.route[i].metric == metric:
            return 0
        i = f.route[i].next
    if fib_add(f, &r) < 0:
        raise MemoryError
    return 0


cdef inline int address_routes6(Ns *ns, Dev *d, const IfAddr *a) except -1:
    """Local and connected routes, and the multicast route of the device (net/ipv6/addrconf.c: __ipv6_ifa_notify(),
    addrconf_prefix_route(), addrconf_add_mroute())."""
    cdef uint8_t multicast[16]
    own_route(ns, 16, a.addr, 128, RT_LOCAL, SCOPE_HOST, d.id, NULL, 0, a.origin)
    if d.kind == DEV_LO:
        return 0
    own_route(ns, 16, a.addr, a.plen, RT_UNICAST, SCOPE_UNIVERSE, d.id, NULL, PRIO_ADDRCONF, a.origin)
    memset(multicast, 0xff, 16)  # own_route() keeps the first 8 bits
    own_route(ns, 16, multicast, 8, RT_MULTICAST, SCOPE_UNIVERSE, d.id, NULL, PRIO_ADDRCONF, 0)
    if d.conf[CONF6_FORWARDING]:
        anycast_join(ns, d, a)
    return 0


cdef inline int anycast_join(Ns *ns, Dev *d, const IfAddr *a) except -1:
    """A router answers for the subnet-router anycast address (RFC 4291 2.6.1), but not on point-to-point prefixes (RFC 6164)."""
    cdef uint8_t net[16]
    if a.family != 6 or a.plen >= 127 or d.kind == DEV_LO:
        return 0
    memcpy(net, a.addr, 16)
    mask_prefix(net, a.plen, 16)
    return own_route(ns, 16, net, 128, RT_ANYCAST, SCOPE_HOST, d.id, NULL, 0, a.origin)


cdef inline int own_route_drop(Ns *ns, const uint8_t *addr, int plen, int type, int dev) except -1:
    cdef Fib *f = &ns.fib6
    cdef uint8_t key[16]
    cdef int i
    memcpy(key, addr, 16)
    mask_prefix(key, plen, 16)
    i = fib_find(f, key, plen, type != RT_UNICAST)
    while i >= 0:
        if f.route[i].dev == dev and f.route[i].type == type and (type != RT_UNICAST or f.route[i].metric == PRIO_ADDRCONF):
            fib_remove(f, i)
            return 0
        i = f.route[i].next
    return 0


cdef inline int address_gone6(Ns *ns, Dev *d, const IfAddr *a) except -1:
    """What ``a``, no longer among the device's addresses, brought with it; prefix and anycast routes stay while another address needs
    them, the multicast route while there is any address."""
    cdef int i, others = 0
    cdef bint shared = False
    cdef uint8_t mine[16]
    cdef uint8_t its[16]
    memcpy(mine, a.addr, 16)
    mask_prefix(mine, a.plen, 16)
    for i in range(d.n_addr):
        if d.addr[i].family == 6:
            others += 1
            memcpy(its, d.addr[i].addr, 16)
            mask_prefix(its, d.addr[i].plen, 16)
            shared = shared or (d.addr[i].plen == a.plen and memcmp(mine, its, 16) == 0)
    own_route_drop(ns, a.addr, 128, RT_LOCAL, d.id)
    if not shared:
        own_route_drop(ns, mine, a.plen, RT_UNICAST, d.id)
        own_route_drop(ns, mine, 128, RT_ANYCAST, d.id)
    if not others:
        memset(its, 0xff, 16)
        own_route_drop(ns, its, 8, RT_MULTICAST, d.id)
    return 0


cdef inline int forwarding_changed6(Ns *ns, Dev *d) except -1:
    """Join or leave the subnet anycast addresses (dev_forward_change())."""
    cdef int i
    cdef uint8_t net[16]
    for i in range(d.n_addr):
        if d.addr[i].family == 6 and d.conf[CONF6_FORWARDING]:
            anycast_join(ns, d, &d.addr[i])
        elif d.addr[i].family == 6:
            memcpy(net, d.addr[i].addr, 16)
            mask_prefix(net, d.addr[i].plen, 16)
            own_route_drop(ns, net, 128, RT_ANYCAST, d.id)
    return 0


cdef inline int address_routes(Core *c, Dev *d, const IfAddr *a) except -1:
    """fib_add_ifaddr(): local, broadcast and connected routes."""
    cdef Ns *ns = c.ns[d.ns]
    cdef int i
    cdef bint loop = d.kind == DEV_LO
    cdef uint8_t net[16]
    if a.family != 4:
        return address_routes6(ns, d, a)
    own_route(ns, 4, a.addr, 32, RT_LOCAL, SCOPE_HOST, d.id, a.addr, 0, a.origin)
    if a.has_brd:
        own_route(ns, 4, a.brd, 32, RT_BROADCAST, SCOPE_LINK, d.id, a.addr, 0, a.origin)
    if a.plen == 32:
        return 0
    own_route(ns, 4, a.addr, a.plen, RT_LOCAL if loop else RT_UNICAST, SCOPE_HOST if loop else SCOPE_LINK, d.id, a.addr, 0, a.origin)
    if a.plen < 31:
        memcpy(net, a.addr, 4)
        for i in range(4):
            net[i] |= 0 if a.plen >= i * 8 + 8 else (0xff >> (a.plen - i * 8) if a.plen > i * 8 else 0xff)
        own_route(ns, 4, net, 32, RT_BROADCAST, SCOPE_LINK, d.id, a.addr, 0, a.origin)
    return 0


cdef inline int find_address(const Dev *d, bytes address, int prefix_len) except -2:
    cdef int i
    cdef int family = 4 if len(address) == 4 else 6
    for i in range(d.n_addr):
        if d.addr[i].family == family and memcmp(d.addr[i].addr, <const char *>address, len(address)) == 0:
            if prefix_len < 0 or d.addr[i].plen == prefix_len:
                return i
    return -1


cdef inline int address_add(Core *c, Dev *d, bytes address, int prefix_len, object broadcast, int origin) except -1:
    cdef IfAddr *grown
    cdef IfAddr *a
    if len(address) not in (4, 16) or not 0 <= prefix_len <= len(address) * 8:
        raise ValueError("an address has 4 or 16 bytes and a prefix length within its bits")
    if find_address(d, address, prefix_len) >= 0:
        raise ValueError(f"{d.name.decode()} has this address already")
    grown = <IfAddr *>realloc(d.addr, (d.n_addr + 1) * sizeof(IfAddr))
    if grown == NULL:
        raise MemoryError
    d.addr = grown
    if len(address) == 4 and not own_add(&c.ns[d.ns].own, address):
        raise MemoryError
    a = &d.addr[d.n_addr]
    memset(a, 0, sizeof(IfAddr))
    a.family = 4 if len(address) == 4 else 6
    memcpy(a.addr, <const char *>address, len(address))
    a.plen = <uint8_t>prefix_len
    a.scope = SCOPE_HOST if a.family == 4 and a.addr[0] == 127 else SCOPE_UNIVERSE
    if broadcast is not None:
        a.has_brd = True
        memcpy(a.brd, <const char *>(<bytes>broadcast), 4)
    a.origin = origin
    d.n_addr += 1
    return address_routes(c, d, a)


cdef inline int address_remove(Core *c, Dev *d, bytes address, int prefix_len) except -1:
    """The address and the routes that came with it."""
    cdef int i = find_address(d, address, prefix_len), k, alen = <int>len(address)
    cdef Fib *f = ns_fib(c.ns[d.ns], alen)
    cdef Route *r
    cdef IfAddr gone
    if i < 0:
        raise ValueError(f"{d.name.decode()} does not have this address")
    gone = d.addr[i]
    if alen == 4:
        own_remove(&c.ns[d.ns].own, gone.addr)
    for k in range(f.n if alen == 4 else 0):
        r = &f.route[k]
        if r.type and r.dev == d.id and not r.has_gw and r.has_src and memcmp(r.src, d.addr[i].addr, alen) == 0:
            fib_remove(f, k)
    d.n_addr -= 1
    for k in range(i, d.n_addr):
        d.addr[k] = d.addr[k + 1]
    return address_gone6(c.ns[d.ns], d, &gone) if alen == 16 else 0


cdef inline int route_scope(const Route *r) noexcept nogil:
    """The scope that ip(8) gives a route when none is asked for."""
    if r.type == RT_LOCAL:
        return SCOPE_HOST
    if r.type == RT_BROADCAST or (r.type == RT_UNICAST and not r.has_gw):
        return SCOPE_LINK
    return SCOPE_UNIVERSE


cdef inline int route_gateway(Core *c, Ns *ns, Route *r, int alen) except -1:
    """A gateway must be a direct neighbour, unless the route is ``onlink`` (fib_check_nh())."""
    cdef FibResult res
    if r.onlink:
        if r.dev < 0:
            raise ValueError("an onlink route needs a device")
        return 0
    if alen == 16 and r.gw[0] == 0xfe and r.gw[1] & 0xc0 == 0x80 and r.dev >= 0:
        return 0  # a link-local gateway (RFC 4291 2.5.6) is on the link of its device
    res = fib_lookup(ns_fib(ns, alen), r.gw, r.dev)
    if res.error or (res.route.type != RT_UNICAST and res.route.type != RT_LOCAL) or res.route.has_gw:
        raise ValueError("the gateway is not reachable directly")
    if r.dev < 0:
        r.dev = res.route.dev
    return 0


cdef inline int route_fill(Core *c, Ns *ns, Route *r, bytes prefix, int prefix_len, str kind, object via, int dev, bint onlink) except -1:
    cdef int alen = <int>len(prefix)
    if alen not in (4, 16) or not 0 <= prefix_len <= alen * 8:
        raise ValueError("a prefix has 4 or 16 bytes and a length within its bits")
    memset(r, 0, sizeof(Route))
    memcpy(r.prefix, <const char *>prefix, alen)
    mask_prefix(r.prefix, prefix_len, alen)
    r.plen = <uint8_t>prefix_len
    r.type = <uint8_t>route_kind_code(kind)
    r.local_table = r.type in (RT_LOCAL, RT_BROADCAST, RT_ANYCAST, RT_MULTICAST)
    r.dev = dev
    r.onlink = onlink
    if via is not None:
        if len(via) != alen:
            raise ValueError("the gateway is of another family than the destination")
        r.has_gw = True
        memcpy(r.gw, <const char *>(<bytes>via), len(via))
        route_gateway(c, ns, r, alen)
    if r.type == RT_UNICAST and r.dev < 0:
        raise ValueError("a route needs a device or a gateway")
    if r.dev >= 0:
        r.dead = not c.dev[r.dev].up
    r.scope = <uint8_t>route_scope(r)
    return 0


cdef inline int route_add(Core *c, Ns *ns, bytes prefix, int prefix_len, str kind, object via, int dev, bint onlink, object metric, object src,
                          object mtu, bint mtu_lock, int scope, bint replace, int origin) except -1:
    cdef Route r
    cdef Fib *f = ns_fib(ns, <int>len(prefix))
    cdef int i, after
    route_fill(c, ns, &r, prefix, prefix_len, kind, via, dev, onlink)
    r.metric = metric
    r.mtu = mtu
    r.mtu_lock = mtu_lock
    r.origin = origin
    if scope >= 0:
        r.scope = <uint8_t>scope
    if src is not None:
        r.has_src = True
        memcpy(r.src, <const char *>(<bytes>src), len(src))
    i = fib_find(f, r.prefix, r.plen, r.local_table)
    while i >= 0:
        after = f.route[i].next
        if f.route[i].metric == r.metric:
            if not replace:
                raise ValueError("the route exists")
            fib_remove(f, i)
        i = after
    if fib_add(f, &r) < 0:
        raise MemoryError
    return 0


cdef inline bint route_is(const Route *r, str kind, object via, int dev, int metric) except -1:
    if kind is not None and r.type != route_kind_code(kind):
        return False
    if via is not None and (not r.has_gw or memcmp(r.gw, <const char *>(<bytes>via), len(via)) != 0):
        return False
    return (dev < 0 or r.dev == dev) and (metric < 0 or r.metric == <uint32_t>metric)


cdef inline bint route_remove(Ns *ns, bytes prefix, int prefix_len, str kind, object via, int dev, int metric) except -1:
    """Remove the first route that fits. False: there is none."""
    cdef Fib *f = ns_fib(ns, <int>len(prefix))
    cdef uint8_t key[16]
    cdef int i
    memcpy(key, <const char *>prefix, len(prefix))
    mask_prefix(key, prefix_len, <int>len(prefix))
    i = fib_find(f, key, prefix_len, kind in ("local", "broadcast", "anycast", "multicast"))
    while i >= 0:
        if route_is(&f.route[i], kind, via, dev, metric):
            fib_remove(f, i)
            return True
        i = f.route[i].next
    return False


# ---- conntrack

cdef inline bint conntrack_remove(Core *c, Ns *ns, int proto, dict orig) except -1:
    """The entry of a protocol with ports whose original tuple this is (``tuple_dict``). False: there is none."""
    cdef Tuple t
    cdef Ct *ct
    cdef int dir = 0
    memset(&t, 0, sizeof(Tuple))
    if len(orig["src"]) not in (4, 16) or len(orig["dst"]) != len(orig["src"]):
        raise ValueError("addresses have 4 or 16 bytes, and are of one family")
    t.family = 4 if len(orig["src"]) == 4 else 6
    t.proto = proto
    memcpy(t.src, <const char *>(<bytes>orig["src"]), len(orig["src"]))
    memcpy(t.dst, <const char *>(<bytes>orig["dst"]), len(orig["dst"]))
    t.sport, t.dport = orig["sport"], orig["dport"]
    ct = ct_find(&ns.ct, &t, c.now, &dir)
    if ct == NULL or dir != 0:
        return False
    ct_kill(&ns.ct, ct)
    return True


# ---- proxied neighbours

cdef inline int proxy_add(Dev *d, bytes address, int origin) except -1:
    """Answer solicitations for ``address`` and listen to its solicited-node group (net/ipv6/ndisc.c: pndisc_constructor())."""
    cdef uint8_t group[16]
    cdef Neigh *n
    if len(address) != 16:
        raise ValueError("only IPv6 addresses are proxied one by one: an address has 16 bytes")
    solicited_node(address, group)
    n = neigh_get(&d.proxies, address, 16)
    if n == NULL or neigh_get(&d.proxies, group, 16) == NULL:
        raise ValueError(f"the table of proxied neighbours of {d.name.decode()} is full, or memory is out")
    n.origin = origin
    return 0


cdef inline bint proxy_remove(Dev *d, bytes address) except -1:
    """With its group, unless another proxied address is in it. False: there is no such address."""
    cdef Neigh *n = neigh_find(&d.proxies, address, 16) if len(address) == 16 else NULL
    cdef HNode *node
    cdef uint8_t group[16]
    cdef uint8_t other[16]
    if n == NULL:
        return False
    htab_remove(&d.proxies.tab, &n.node)
    free(n)
    solicited_node(address, group)
    node = htab_step(&d.proxies.tab, NULL)
    while node != NULL:
        solicited_node((<Neigh *>node).addr, other)
        if (<Neigh *>node).addr[0] != 0xff and memcmp(other, group, 16) == 0:
            return True
        node = htab_step(&d.proxies.tab, node)
    n = neigh_find(&d.proxies, group, 16)
    htab_remove(&d.proxies.tab, &n.node)
    free(n)
    return True


# ---- the end of a world

cdef inline void free_waiting(Core *c, Dev *d) noexcept nogil:
    """Packets that wait for neighbours."""
    cdef HNode *node = htab_step(&d.neigh.tab, NULL)
    cdef Pkt *p
    cdef Neigh *n
    while node != NULL:
        n = <Neigh *>node
        node = htab_step(&d.neigh.tab, node)
        while n.queue != NULL:
            p = n.queue
            n.queue = p.next
            pkt_free(c, p)


cdef inline void namespace_free(Core *c, Ns *ns) noexcept nogil:
    cdef int i, k
    cdef FragQueue *q
    for i in range(ns.n_devs):
        free_waiting(c, c.dev[ns.devs[i]])
    while ns.frags.first != NULL:
        q = ns.frags.first
        ns.frags.first = q.next
        for i in range(q.n):
            pkt_free(c, q.frag[i].p)
        free(q.frag)
        free(q)
    for i in range(2):
        for k in range(TABLES):
            rules_free(&ns.rules[i][k])
    htab_free_all(&ns.own)
    htab_free_all(&ns.recent)
    htab_free_all(&ns.peers)
    htab_free_all(&ns.pmtu)
    ct_table_free(&ns.ct)
    fib_clear(&ns.fib4)
    fib_clear(&ns.fib6)
    free(ns.pins)
    free(ns.devs)
    free(ns.tunnels)
    free(ns)


cdef inline void device_free(Dev *d) noexcept nogil:
    if d.encap != NULL and d.encap_state != NULL:
        d.encap.destroy(d.encap_state)
    htab_free_all(&d.neigh.tab)
    htab_free_all(&d.proxies.tab)
    fdb_clear(&d.fdb)
    free(d.addr)
    free(d.ports)
    free(d)
