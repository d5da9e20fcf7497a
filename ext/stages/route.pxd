# Routing decisions for IPv4: net/ipv4/route.c, net/ipv4/fib_frontend.c, net/ipv4/devinet.c.

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport calloc, free
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memcmp, memset
from ext.devices.core cimport (Core, Ns, Dev, IfAddr, Peer, PmtuEntry, EventRecord, log_event, pkt_ns, conf_or, conf_and, conf_max,
                               CONF_FORWARDING, CONF_RP_FILTER, CONF_ROUTE_LOCALNET, CONF_ACCEPT_LOCAL, CONF_SEND_REDIRECTS,
                               CONF_SHARED_MEDIA, CONF_BC_FORWARDING, DEV_LO, DETAIL_LEN, TRACE_STEPS)
from ext.devices.record cimport ASK_ROUTE, rec_ask, rec_refuse
from ext.stages.verdict cimport DROPS_ROUTE
from ext.tables.fib cimport (FibResult, Route, fib_lookup, fib_stored, RT_UNICAST, RT_LOCAL, RT_BROADCAST, RT_ANYCAST, RT_MULTICAST, RT_UNREACHABLE,
                             SCOPE_LINK, SCOPE_HOST, ERR_EINVAL, ERR_EHOSTUNREACH)
from ext.tables.own cimport own_find
from ext.tables.htab cimport HNode, htab_first, htab_next, htab_insert
from ext.wire.bytes cimport ld32, rarely
from ext.wire.ether cimport ETHERTYPE_IPV4
from ext.wire.hash cimport address_hash
from ext.wire.ipv4 cimport IPV4_DST, ipv4_is_multicast, ipv4_is_lbcast, ipv4_is_zeronet, ipv4_is_loopback
from ext.wire.packet cimport Pkt, Dst, pkt_l3, DST_LOCAL, DST_BROADCAST, DST_MULTICAST, DST_INPUT, PF_DOREDIRECT

cdef enum:
    ROUTE_MARTIAN_SOURCE = DROPS_ROUTE
    ROUTE_MARTIAN_DESTINATION
    ROUTE_LOCAL_SOURCE
    ROUTE_RP_FILTER
    ROUTE_MULTICAST_NOT_JOINED
    ROUTE_BLACKHOLE
    ROUTE_UNREACHABLE
    ROUTE_NO_ROUTE
    ROUTE_PROHIBITED
    ROUTE_NO_FORWARDING
    ROUTE_OUTPUT_FAILED
    PEERS_MAX = 65536  # remote addresses with ICMP limits; Linux ages theirs (inet_peer_threshold 65664)


cdef inline const char *route_reason(int r) noexcept nogil:
    if r == ROUTE_MARTIAN_SOURCE:
        return b"route/martian_source\tThe source address cannot be one\tIP_INVALID_SOURCE"
    if r == ROUTE_MARTIAN_DESTINATION:
        return b"route/martian_destination\tThe destination address cannot be one here\tIP_INVALID_DEST"
    if r == ROUTE_LOCAL_SOURCE:
        return b"route/local_source\tThe source address is this namespace's own\tIP_LOCAL_SOURCE"
    if r == ROUTE_RP_FILTER:
        return b"route/rp_filter\tThe reverse path filter: the way back to the source leads out of another device\tIP_RPFILTER"
    if r == ROUTE_MULTICAST_NOT_JOINED:
        return b"route/multicast_not_joined\tNobody here has joined this multicast group\tNOT_SPECIFIED"
    if r == ROUTE_BLACKHOLE:
        return b"route/blackhole\tA blackhole route\tNOT_SPECIFIED"
    if r == ROUTE_UNREACHABLE:
        return b"route/unreachable\tAn unreachable route\tNOT_SPECIFIED"
    if r == ROUTE_NO_ROUTE:
        return b"route/no_route\tNo route to the destination\tIP_INNOROUTES"
    if r == ROUTE_PROHIBITED:
        return b"route/prohibited\tA prohibit route\tNOT_SPECIFIED"
    if r == ROUTE_NO_FORWARDING:
        return b"route/no_forwarding\tThe packet is for somebody else and this namespace does not forward\tNOT_SPECIFIED"
    if r == ROUTE_OUTPUT_FAILED:
        return b"route/output_failed\tNo route for a packet of this namespace's own\tIP_OUTNOROUTES"
    return NULL


# ---- addresses

cdef inline bint is_own_address(Ns *ns, const uint8_t *addr) noexcept nogil:
    """inet_lookup_ifaddr_rcu(): does some device here have it?"""
    return own_find(&ns.own, addr) != NULL


cdef inline bint in_subnet(const IfAddr *a, const uint8_t *addr) noexcept nogil:
    cdef uint32_t mask = <uint32_t>0 if a.plen == 0 else ~<uint32_t>0 << (32 - a.plen)
    return ((ld32(a.addr) ^ ld32(addr)) & mask) == 0


cdef inline bint select_on_device(Core *c, const Dev *d, const uint8_t *near, int scope, uint8_t *out) noexcept nogil:
    cdef int i, s
    cdef bint found = False
    cdef int host = SCOPE_LINK if conf_or(c, d, CONF_ROUTE_LOCALNET) else SCOPE_HOST
    for i in range(d.n_addr):
        if d.addr[i].family != 4:
            continue
        s = d.addr[i].scope
        if (s if s < host else host) > scope:
            continue
        if near == NULL or in_subnet(&d.addr[i], near):
            memcpy(out, d.addr[i].addr, 4)
            return True
        if not found:
            memcpy(out, d.addr[i].addr, 4)
            found = True
    return found


cdef inline bint select_address(Core *c, Ns *ns, int dev, const uint8_t *near, int scope, uint8_t *out) noexcept nogil:
    """inet_select_addr(): an address of the device, best in the subnet of ``near``, else of any other device."""
    cdef int i, k
    cdef Dev *d
    memset(out, 0, 16)
    if dev >= 0 and select_on_device(c, c.dev[dev], near, scope, out):
        return True
    for i in range(ns.n_devs):
        d = c.dev[ns.devs[i]]
        for k in range(d.n_addr):
            if d.addr[k].family == 4 and d.addr[k].scope != SCOPE_LINK and d.addr[k].scope <= scope:
                memcpy(out, d.addr[k].addr, 4)
                return True
    return False


cdef inline bint route_source(Core *c, Ns *ns, const Route *r, uint8_t *out) noexcept nogil:
    """The source address a route prefers (fib_result_prefsrc())."""
    if r.has_src:
        memcpy(out, r.src, 16)
        return True
    return select_address(c, ns, r.dev, &r.gw[0] if r.has_gw else NULL, r.scope, out)


# ---- per remote address

cdef inline Peer *peer_get(Core *c, Ns *ns, const uint8_t *addr, int alen) noexcept nogil:
    """inet_getpeer(): created full of tokens; NULL when the table is full or memory is out."""
    cdef uint64_t h = address_hash(addr, alen)
    cdef HNode *node = htab_first(&ns.peers, h)
    cdef Peer *peer
    rec_refuse(&c.rec)  # limits depend on what else happens
    while node != NULL:
        peer = <Peer *>node
        if peer.alen == alen and memcmp(peer.addr, addr, alen) == 0:
            return peer
        node = htab_next(node)
    if ns.peers.count >= PEERS_MAX:
        return NULL
    peer = <Peer *>calloc(1, sizeof(Peer))
    if peer == NULL:
        return NULL
    memcpy(peer.addr, addr, alen)
    peer.alen = <uint8_t>alen
    peer.last = c.now - <int64_t>60000000000
    if not htab_insert(&ns.peers, &peer.node, h):
        free(peer)
        return NULL
    return peer


cdef inline bint peer_take_token(Core *c, Peer *peer, int64_t cost, int64_t burst) noexcept nogil:
    """inet_peer_xrlim_allow(): even without a limit (``cost`` 0) it spends what has been saved, which
    route_error() then lacks. NULL: the table of peers is full, and nothing is limited."""
    if peer == NULL:
        return True
    if c.now != peer.last:
        peer.tokens += c.now - peer.last
        if peer.tokens > burst:
            peer.tokens = burst
        peer.last = c.now
    if peer.tokens < cost:
        return False
    peer.tokens -= cost
    return True


cdef inline PmtuEntry *pmtu_find(Ns *ns, const uint8_t *dst, int alen) noexcept nogil:
    cdef HNode *node
    if ns.pmtu.count == 0:
        return NULL
    node = htab_first(&ns.pmtu, address_hash(dst, alen))
    while node != NULL:
        if (<PmtuEntry *>node).alen == alen and memcmp((<PmtuEntry *>node).dst, dst, alen) == 0:
            return <PmtuEntry *>node
        node = htab_next(node)
    return NULL


cdef inline PmtuEntry *pmtu_get(Ns *ns, const uint8_t *dst, int alen) noexcept nogil:
    """Find or create; NULL when memory is out."""
    cdef PmtuEntry *e = pmtu_find(ns, dst, alen)
    if e != NULL:
        return e
    e = <PmtuEntry *>calloc(1, sizeof(PmtuEntry))
    if e == NULL:
        return NULL
    memcpy(e.dst, dst, alen)
    e.alen = <uint8_t>alen
    if not htab_insert(&ns.pmtu, &e.node, address_hash(dst, alen)):
        free(e)
        return NULL
    return e


cdef inline uint32_t dst_mtu(Core *c, const Dst *dst) noexcept nogil:
    """MTU of a route for packets made here: the route's or path's, else the device's."""
    if dst.mtu:
        return dst.mtu
    return c.dev[dst.oif].mtu


# ---- output

cdef inline void dst_from_route(Dst *dst, const Route *r) noexcept nogil:
    memset(dst, 0, sizeof(Dst))
    dst.valid = True
    dst.type = r.type
    dst.oif = dst.idev = r.dev
    dst.has_gw = r.has_gw
    memcpy(dst.gw, r.gw, 16)
    dst.mtu = r.mtu
    dst.mtu_lock = r.mtu_lock
    dst.plen = r.plen
    dst.has_prefsrc = r.has_src
    dst.origin = r.origin


cdef inline bint output_address_kind(Core *c, Dst *dst, const uint8_t *daddr, const uint8_t *saddr) noexcept nogil:
    """__mkroute_output(): what kind of destination it is; False: not one that can be sent to."""
    cdef Dev *d = c.dev[dst.oif]
    if ipv4_is_loopback(saddr) and d.kind != DEV_LO and not conf_or(c, d, CONF_ROUTE_LOCALNET):
        return False
    if ipv4_is_zeronet(daddr):
        return False
    if ipv4_is_lbcast(daddr) or dst.type == RT_BROADCAST:
        dst.type = RT_BROADCAST
        dst.flags |= DST_BROADCAST
    elif ipv4_is_multicast(daddr):
        dst.type = RT_MULTICAST
        dst.flags |= DST_MULTICAST
    return True


cdef inline int route_output(Core *c, Ns *ns, const uint8_t *daddr, uint8_t *saddr, bint any_source, Dst *dst) noexcept nogil:
    """ip_route_output_key(): 0 or an errno. ``saddr`` 0.0.0.0 is filled in; otherwise it must be an own address unless ``any_source``."""
    cdef FibResult res
    cdef PmtuEntry *pmtu
    memset(dst, 0, sizeof(Dst))
    dst.oif = -1
    if ld32(saddr) != 0:
        if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr):
            return ERR_EINVAL
        if not any_source and not is_own_address(ns, saddr):
            return ERR_EINVAL
    res = fib_lookup(&ns.fib4, daddr, -1)
    if res.error:
        return res.error
    dst_from_route(dst, res.route)
    if res.route.type == RT_LOCAL:
        if ld32(saddr) == 0:
            memcpy(saddr, &res.route.src[0] if res.route.has_src else daddr, 4)
        dst.oif = ns.lo
        dst.flags = DST_LOCAL
        dst.has_gw = False
        return 0
    if ld32(saddr) == 0:
        route_source(c, ns, res.route, saddr)
    if not output_address_kind(c, dst, daddr, saddr):
        return ERR_EINVAL
    pmtu = pmtu_find(ns, daddr, 4)
    if pmtu != NULL and pmtu.expires > c.now and (dst.mtu == 0 or pmtu.mtu < dst.mtu) and pmtu.mtu < c.dev[dst.oif].mtu:
        dst.mtu = pmtu.mtu
        rec_refuse(&c.rec)
    return 0


# ---- input

cdef inline int validate_source_fully(Core *c, Ns *ns, Dev *d, const uint8_t *src, int rpf) noexcept nogil:
    """__fib_validate_source(): would an answer leave by the device the packet came in by?"""
    cdef FibResult res = fib_lookup(&ns.fib4, src, -1)
    if res.error:
        return -ROUTE_RP_FILTER if rpf else 0
    if res.route.type != RT_UNICAST:
        if res.route.type != RT_LOCAL:
            return -ROUTE_MARTIAN_SOURCE
        if not conf_or(c, d, CONF_ACCEPT_LOCAL):
            return -ROUTE_LOCAL_SOURCE
    if res.route.dev == d.id or (res.route.type == RT_LOCAL and d.kind == DEV_LO):
        return 0 if res.route.has_gw else 1
    if d.n_addr == 0:
        return -ROUTE_RP_FILTER if rpf else 0
    if rpf == 1:
        return -ROUTE_RP_FILTER
    res = fib_lookup(&ns.fib4, src, d.id)
    if res.error == 0 and res.route.type == RT_UNICAST:
        return 0 if res.route.has_gw else 1
    return 0


cdef inline int validate_source(Core *c, Ns *ns, Dev *d, const uint8_t *src, int oif) noexcept nogil:
    """fib_validate_source(): 1 if the source is a direct neighbour, 0, or a drop."""
    cdef int rpf = conf_max(c, d, CONF_RP_FILTER)
    if rpf == 0 and (d.id != oif or not conf_or(c, d, CONF_SEND_REDIRECTS)):
        if not conf_or(c, d, CONF_ACCEPT_LOCAL) and is_own_address(ns, src):
            return -ROUTE_LOCAL_SOURCE
        return 0
    return validate_source_fully(c, ns, d, src, rpf)


cdef inline int input_local(Core *c, Ns *ns, Pkt *p, Dev *d, const uint8_t *saddr, int type, int flags, bint check) noexcept nogil:
    cdef int v
    if check:
        v = validate_source(c, ns, d, saddr, -1)
        if v < 0:
            return v
    memset(&p.dst, 0, sizeof(Dst))
    p.dst.valid = True
    p.dst.type = <uint8_t>type
    p.dst.flags = <uint8_t>(flags | DST_INPUT)
    p.dst.oif = ns.lo
    return 0


cdef inline int input_broadcast(Core *c, Ns *ns, Pkt *p, Dev *d, const uint8_t *saddr) noexcept nogil:
    if p.protocol != ETHERTYPE_IPV4:
        return -ROUTE_MARTIAN_DESTINATION
    return input_local(c, ns, p, d, saddr, RT_BROADCAST, DST_LOCAL | DST_BROADCAST, not ipv4_is_zeronet(saddr))


cdef inline int input_multicast(Core *c, Ns *ns, Pkt *p, Dev *d, const uint8_t *daddr, const uint8_t *saddr) noexcept nogil:
    """Hosts are always in 224.0.0.1 (RFC 1112) and in no other group here."""
    if ld32(daddr) != <uint32_t>0xe0000001:
        return -ROUTE_MULTICAST_NOT_JOINED
    if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr) or p.protocol != ETHERTYPE_IPV4:
        return -ROUTE_MARTIAN_SOURCE
    if ipv4_is_loopback(saddr) and not conf_or(c, d, CONF_ROUTE_LOCALNET):
        return -ROUTE_MARTIAN_SOURCE
    return input_local(c, ns, p, d, saddr, RT_MULTICAST, DST_LOCAL | DST_MULTICAST, not ipv4_is_zeronet(saddr))


cdef inline int input_no_route(Core *c, Ns *ns, Pkt *p, int error, const Route *r) noexcept nogil:
    """The packet gets a route that leads to route_error()."""
    memset(&p.dst, 0, sizeof(Dst))
    p.dst.valid = True
    p.dst.type = RT_UNREACHABLE
    p.dst.flags = DST_INPUT
    p.dst.error = error
    p.dst.oif = ns.lo
    if r != NULL:
        p.dst.origin = r.origin
    return 0


cdef inline int martian(Core *c, Dev *d, const uint8_t *daddr, const uint8_t *saddr) noexcept nogil:
    """The addresses that ip_route_input_slow() refuses before it looks anything up: a drop or 0."""
    if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr):
        return -ROUTE_MARTIAN_SOURCE
    if ipv4_is_lbcast(daddr) or (ipv4_is_zeronet(saddr) and ipv4_is_zeronet(daddr)):
        return 0
    if ipv4_is_zeronet(saddr):
        return -ROUTE_MARTIAN_SOURCE
    if ipv4_is_zeronet(daddr):
        return -ROUTE_MARTIAN_DESTINATION
    if ipv4_is_loopback(daddr) and not conf_or(c, d, CONF_ROUTE_LOCALNET):
        return -ROUTE_MARTIAN_DESTINATION
    if ipv4_is_loopback(saddr) and not conf_or(c, d, CONF_ROUTE_LOCALNET):
        return -ROUTE_MARTIAN_SOURCE
    return 0


cdef inline int input_forward(Core *c, Ns *ns, Pkt *p, Dev *d, const uint8_t *saddr, const Route *r) noexcept nogil:
    """__mkroute_input()."""
    cdef int v
    cdef Dev *out = c.dev[r.dev]
    v = validate_source(c, ns, d, saddr, r.dev)
    if v < 0:
        return v
    if out.id == d.id and v and p.protocol == ETHERTYPE_IPV4:
        if conf_or(c, out, CONF_SHARED_MEDIA) or gateway_on_link(out, saddr, r):
            p.flags |= PF_DOREDIRECT
    if p.protocol != ETHERTYPE_IPV4 and out.id == d.id:
        return -ROUTE_MARTIAN_DESTINATION
    dst_from_route(&p.dst, r)
    p.dst.flags = DST_INPUT
    return 0


cdef inline bint gateway_on_link(const Dev *d, const uint8_t *addr, const Route *r) noexcept nogil:
    """inet_addr_onlink(): sender and gateway share a subnet of the device."""
    cdef int i
    for i in range(d.n_addr):
        if d.addr[i].family == 4 and in_subnet(&d.addr[i], addr):
            if not r.has_gw or in_subnet(&d.addr[i], r.gw):
                return True
    return False


cdef inline int route_input(Core *c, Pkt *p, const uint8_t *daddr, const uint8_t *saddr, int dev) noexcept nogil:
    """ip_route_input_noref(): 0 and ``p.dst``, or a drop. A destination without a route gets one that carries the error."""
    cdef Dev *d = c.dev[dev]
    cdef Ns *ns = c.ns[d.ns]
    cdef FibResult res
    cdef int v
    if ipv4_is_multicast(daddr):
        return input_multicast(c, ns, p, d, daddr, saddr)
    v = martian(c, d, daddr, saddr)
    if v:
        return v
    if ipv4_is_lbcast(daddr) or ipv4_is_zeronet(daddr):
        return input_broadcast(c, ns, p, d, saddr)
    res = fib_lookup(&ns.fib4, daddr, -1)
    trace_route(c, p, daddr, &res)
    if res.error:
        return input_no_route(c, ns, p, res.error if d.conf[CONF_FORWARDING] else ERR_EHOSTUNREACH, res.route)
    rec_ask(&c.rec, p, ASK_ROUTE, ns, <uint64_t>res.route)
    if res.route.type == RT_BROADCAST and not conf_and(c, d, CONF_BC_FORWARDING):
        return input_broadcast(c, ns, p, d, saddr)
    if res.route.type == RT_LOCAL:
        return input_local(c, ns, p, d, saddr, RT_LOCAL, DST_LOCAL, True)
    if not d.conf[CONF_FORWARDING]:
        return input_no_route(c, ns, p, ERR_EHOSTUNREACH, NULL)
    if res.route.type != RT_UNICAST:
        return -ROUTE_MARTIAN_DESTINATION
    return input_forward(c, ns, p, d, saddr, res.route)


cdef inline void trace_route(Core *c, Pkt *p, const uint8_t *daddr, const FibResult *res) noexcept nogil:
    cdef EventRecord *ev
    cdef const Route *r
    cdef int n
    if not rarely(c.tracing):
        return
    ev = log_event(c, p, b"route", b"route", res.route.origin if res.route != NULL else 0)
    if ev == NULL:
        return
    r = fib_stored(&pkt_ns(c, p).fib4, daddr, res.route)
    if r == NULL:
        snprintf(ev.detail, DETAIL_LEN, b"%d.%d.%d.%d: no route", daddr[0], daddr[1], daddr[2], daddr[3])
        return
    n = snprintf(ev.detail, DETAIL_LEN, b"%d.%d.%d.%d matches %d.%d.%d.%d/%d %s", daddr[0], daddr[1], daddr[2], daddr[3],
                 r.prefix[0], r.prefix[1], r.prefix[2], r.prefix[3], r.plen, route_type_name(r.type))
    if r.has_gw:
        n += snprintf(ev.detail + n, DETAIL_LEN - n, b" via %d.%d.%d.%d", r.gw[0], r.gw[1], r.gw[2], r.gw[3])
    if r.dev >= 0:
        snprintf(ev.detail + n, DETAIL_LEN - n, b" dev %s", c.dev[r.dev].name)


cdef inline void trace_route_out(Core *c, Pkt *p) noexcept nogil:
    """The route of a packet of this namespace's own."""
    cdef FibResult res
    if rarely(c.tracing == TRACE_STEPS):
        res = fib_lookup(&pkt_ns(c, p).fib4, pkt_l3(p) + IPV4_DST, -1)
        trace_route(c, p, pkt_l3(p) + IPV4_DST, &res)


cdef inline const char *route_type_name(int type) noexcept nogil:
    if type == RT_UNICAST:
        return b"unicast"
    if type == RT_LOCAL:
        return b"local"
    if type == RT_BROADCAST:
        return b"broadcast"
    if type == RT_ANYCAST:
        return b"anycast"
    if type == 6:
        return b"blackhole"
    if type == 7:
        return b"unreachable"
    if type == 8:
        return b"prohibit"
    if type == 9:
        return b"throw"
    return b"multicast"
