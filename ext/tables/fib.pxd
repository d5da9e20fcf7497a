# Forwarding information base of one namespace and family: Linux' tables "local" and "main".
#
# Each prefix holds a list of routes in order of metric. Lookups walk local, then main; a ``throw`` route
# ends the walk of its table only (net/ipv4/fib_trie.c: fib_table_lookup(), fib_rules' order).
#
# A FIB of many routes has a fast picture besides (`lpm_fast.pxd`). It leads from an address to a hop: what routes say that differ in
# nothing but their prefix, held once, as Linux shares a fib_info. Where that is not all there is to say, it leads to HOP_ASK.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, realloc, free
from libc.string cimport memcmp, memset
from ext.tables.htab cimport HNode, HTab, htab_first, htab_free, htab_insert, htab_next, htab_remove
from ext.tables.lpm cimport Lpm, lpm_new, lpm_free, lpm_insert, lpm_delete, lpm_lookup, lpm_lookup_within, lpm_exact
from ext.tables.lpm_fast cimport LpmFast, lpm_fast_changed, lpm_fast_drop, lpm_fast_init
from ext.tables.lpm_multibit cimport mb_find, mb_key
from ext.wire.hash cimport hash_bytes

cdef enum:
    # route types
    RT_UNICAST = 1
    RT_LOCAL = 2
    RT_BROADCAST = 3
    RT_ANYCAST = 4
    RT_MULTICAST = 5
    RT_BLACKHOLE = 6
    RT_UNREACHABLE = 7
    RT_PROHIBIT = 8
    RT_THROW = 9
    # scopes: how far away the destination is
    SCOPE_UNIVERSE = 0
    SCOPE_LINK = 253
    SCOPE_HOST = 254
    # errno of a lookup that found no way
    ERR_EACCES = 13
    ERR_EINVAL = 22
    ERR_ENETUNREACH = 101
    ERR_EHOSTUNREACH = 113
    ERR_EAGAIN = 11
    FIB_FAST_FROM = 10  # prefixes of both tables: more than a pod has
    # numbers of hops
    HOP_NONE = -1
    HOP_ASK = 0  # the tries have to be asked

cdef struct Route:
    uint8_t prefix[16]
    uint8_t gw[16]
    uint8_t src[16]
    uint8_t plen
    uint8_t type
    uint8_t scope
    uint8_t has_gw
    uint8_t has_src
    uint8_t onlink
    uint8_t local_table
    uint8_t dead  # its device is down
    uint8_t mtu_lock
    uint32_t metric
    uint32_t mtu
    int dev
    int origin
    int next  # next route of the prefix, -1: last; of a free place (type 0): the next free one
    uint32_t order  # when it was added
    int hop  # HOP_NONE: none

# What routes have in common that differ only in their prefix.
cdef struct Hop:
    HNode node
    int id
    uint32_t routes  # that share it
    Route route  # prefix is zero, and for IPv4 its length too; dead if one of them is

cdef struct Fib:
    int bits
    Lpm *local
    Lpm *main
    Route *route
    int n
    int cap
    int free_route  # first free place among the n, -1: none
    uint32_t added
    LpmFast fast
    HTab hops  # by content
    Hop **hop  # by number; the first, HOP_ASK, is none
    int n_hops
    int cap_hops
    Hop *spare_hop  # left by their last routes, they keep their numbers; chained by their nodes

cdef struct FibResult:
    const Route *route  # NULL: no route
    int error  # errno, 0: found


cdef inline bint fib_init(Fib *f, int bits) noexcept nogil:
    """``f`` must stay where it is until fib_clear()."""
    memset(f, 0, sizeof(Fib))
    f.bits = bits
    f.free_route = -1
    f.n_hops = 1
    f.local = lpm_new(bits)
    f.main = lpm_new(bits)
    lpm_fast_init(&f.fast, f.main, f.local, FIB_FAST_FROM, fib_fast_value, f)
    return f.local != NULL and f.main != NULL


cdef inline void fib_clear(Fib *f) noexcept nogil:
    cdef int i
    lpm_fast_drop(&f.fast)
    if f.local != NULL:
        lpm_free(f.local)
    if f.main != NULL:
        lpm_free(f.main)
    for i in range(1, f.n_hops):
        free(f.hop[i])
    free(f.hop)
    htab_free(&f.hops)
    free(f.route)
    memset(f, 0, sizeof(Fib))


cdef inline Lpm *fib_table(Fib *f, bint local) noexcept nogil:
    return f.local if local else f.main


# ---- hops

cdef inline Route fib_hop_key(const Fib *f, const Route *r) noexcept nogil:
    """A route without what is its own. IPv6 asks for the length of the prefix (ICMPv6's limits), so hops differ in it."""
    cdef Route key = r[0]
    memset(key.prefix, 0, sizeof(key.prefix))
    if f.bits == 32:
        key.plen = 0
    key.order = 0
    key.next = -1
    key.hop = HOP_NONE
    key.dead = False
    return key


cdef inline bint hop_is(const Hop *hop, const Route *key) noexcept nogil:
    cdef Route mine = hop.route
    mine.dead = False
    return memcmp(&mine, key, sizeof(Route)) == 0


cdef inline Hop *fib_hop_new(Fib *f) noexcept nogil:
    """NULL: out of memory."""
    cdef Hop *hop = f.spare_hop
    cdef Hop **grown
    cdef int cap
    if hop != NULL:
        f.spare_hop = <Hop *>hop.node.next
        return hop
    if f.n_hops >= f.cap_hops:
        cap = f.cap_hops * 2 if f.cap_hops else 16
        grown = <Hop **>realloc(f.hop, cap * sizeof(Hop *))
        if grown == NULL:
            return NULL
        f.hop = grown
        f.cap_hops = cap
    hop = <Hop *>calloc(1, sizeof(Hop))
    if hop != NULL:
        hop.id = f.n_hops
        f.hop[f.n_hops] = hop
        f.n_hops += 1
    return hop


cdef inline void fib_hop_spare(Fib *f, Hop *hop) noexcept nogil:
    hop.node.next = <HNode *>f.spare_hop
    f.spare_hop = hop


cdef inline bint fib_hop_join(Fib *f, Route *r) noexcept nogil:
    """Give a route its hop. False: out of memory."""
    cdef Route key = fib_hop_key(f, r)
    cdef uint64_t hash = hash_bytes(f.bits, <const uint8_t *>&key, sizeof(Route))
    cdef Hop *hop = <Hop *>htab_first(&f.hops, hash)
    while hop != NULL and not hop_is(hop, &key):
        hop = <Hop *>htab_next(&hop.node)
    if hop == NULL:
        hop = fib_hop_new(f)
        if hop == NULL:
            return False
        if not htab_insert(&f.hops, &hop.node, hash):
            fib_hop_spare(f, hop)
            return False
        hop.route = key
    hop.routes += 1
    hop.route.dead |= r.dead
    r.hop = hop.id
    return True


cdef inline void fib_hop_leave(Fib *f, Route *r) noexcept nogil:
    cdef Hop *hop
    if r.hop == HOP_NONE:
        return
    hop = f.hop[r.hop]
    r.hop = HOP_NONE
    hop.routes -= 1
    if hop.routes == 0:
        htab_remove(&f.hops, &hop.node)
        fib_hop_spare(f, hop)


cdef inline uint32_t fib_fast_value(void *context, uint32_t head) noexcept nogil:
    """Where the fast picture leads for a prefix: to the hop of its only route, unless others may have to be looked at."""
    cdef Fib *f = <Fib *>context
    cdef Route *r = &f.route[head]
    if r.next >= 0 or r.type == RT_THROW:
        return HOP_ASK
    if r.hop == HOP_NONE and not fib_hop_join(f, r):
        return HOP_ASK
    return <uint32_t>r.hop


# ---- changing

cdef inline int fib_slot(Fib *f) noexcept nogil:
    """A free place in the route array, -1 when memory is out. Deleted routes leave type 0."""
    cdef int cap, free_place = f.free_route
    cdef Route *grown
    if free_place >= 0:
        f.free_route = f.route[free_place].next
        return free_place
    if f.n == f.cap:
        cap = f.cap * 2 if f.cap else 16
        grown = <Route *>realloc(f.route, cap * sizeof(Route))
        if grown == NULL:
            return -1
        f.route = grown
        f.cap = cap
    f.n += 1
    return f.n - 1


cdef inline void fib_give_slot(Fib *f, int i) noexcept nogil:
    fib_hop_leave(f, &f.route[i])
    f.route[i].type = 0
    f.route[i].next = f.free_route
    f.free_route = i


cdef inline int fib_add(Fib *f, const Route *r) noexcept nogil:
    """Insert a route behind those of lower or equal metric. Returns its index, -1 when memory is out.

    A router's anycast address goes before: its subnet is there before any tunnel that is given the same address.
    """
    cdef int i, prev = -1, at
    cdef uint32_t head
    cdef Lpm *t = fib_table(f, r.local_table)
    cdef bint known
    i = fib_slot(f)
    if i < 0:
        return -1
    f.route[i] = r[0]
    f.added += 1
    f.route[i].order = f.added
    f.route[i].next = -1
    f.route[i].hop = HOP_NONE
    known = lpm_exact(t, r.prefix, r.plen, &head)
    at = <int>head if known else -1
    while at >= 0 and (f.route[at].metric < r.metric or (f.route[at].metric == r.metric and r.type != RT_ANYCAST)):
        prev = at
        at = f.route[at].next
    f.route[i].next = at
    if prev >= 0:
        f.route[prev].next = i
    elif lpm_insert(t, r.prefix, r.plen, <uint32_t>i) < 0:
        fib_give_slot(f, i)
        return -1
    lpm_fast_changed(&f.fast, r.local_table, r.prefix, r.plen)
    return i


cdef inline void fib_remove(Fib *f, int i) noexcept nogil:
    cdef Route *r = &f.route[i]
    cdef Lpm *t = fib_table(f, r.local_table)
    cdef uint32_t head
    cdef int at
    if not lpm_exact(t, r.prefix, r.plen, &head):
        return
    if <int>head == i:
        if r.next >= 0:
            lpm_insert(t, r.prefix, r.plen, <uint32_t>r.next)
        else:
            lpm_delete(t, r.prefix, r.plen)
    else:
        at = <int>head
        while f.route[at].next != i:
            at = f.route[at].next
        f.route[at].next = r.next
    lpm_fast_changed(&f.fast, r.local_table, r.prefix, r.plen)
    fib_give_slot(f, i)


# ---- looking up

cdef inline int fib_error(int type) noexcept nogil:
    """What a lookup returns for routes that lead nowhere (net/ipv4/fib_semantics.c: fib_props)."""
    if type == RT_BLACKHOLE:
        return ERR_EINVAL
    if type == RT_UNREACHABLE:
        return ERR_EHOSTUNREACH
    if type == RT_PROHIBIT:
        return ERR_EACCES
    if type == RT_THROW:
        return ERR_EAGAIN
    return 0


cdef inline FibResult fib_match(const Fib *f, int head, int oif) noexcept nogil:
    """The first usable route of a prefix; ``error`` EAGAIN and no route: none fits."""
    cdef FibResult res
    cdef const Route *r
    while head >= 0:
        r = &f.route[head]
        res.error = fib_error(r.type)
        res.route = r
        if res.error or (not r.dead and (oif < 0 or r.dev == oif)):
            return res
        head = r.next
    res.route = NULL
    res.error = ERR_EAGAIN
    return res


cdef inline FibResult fib_lookup_table(const Fib *f, const Lpm *t, const uint8_t *dst, int oif) noexcept nogil:
    cdef FibResult res
    cdef uint32_t head
    cdef int plen = lpm_lookup(t, dst, &head)
    res.route = NULL
    res.error = ERR_EAGAIN
    while plen >= 0:
        res = fib_match(f, <int>head, oif)
        if res.route != NULL:
            return res
        # no route of the longest prefix is usable: the next shorter one
        plen = lpm_lookup_within(t, dst, plen - 1, &head) if plen > 0 else -1
    return res


cdef inline FibResult fib_lookup_tries(const Fib *f, const uint8_t *dst, int oif) noexcept nogil:
    cdef FibResult res = fib_lookup_table(f, f.local, dst, oif)
    if res.error == ERR_EAGAIN:
        res = fib_lookup_table(f, f.main, dst, oif)
    if res.error == ERR_EAGAIN:
        res.error = ERR_ENETUNREACH
        res.route = NULL
    return res


cdef inline int fib_hop(const Fib *f, const uint8_t *dst) noexcept nogil:
    """Number of the hop, HOP_NONE: no prefix contains the address, or HOP_ASK."""
    if f.fast.table == NULL:
        return HOP_ASK
    return <int>mb_find(f.fast.table, mb_key(dst, f.bits >> 3))


cdef inline FibResult fib_lookup(const Fib *f, const uint8_t *dst, int oif) noexcept nogil:
    """``oif`` >= 0: only routes out of that device. The route found may be a hop's: fib_stored() knows its prefix."""
    cdef FibResult res
    cdef const Route *r
    cdef int hop = fib_hop(f, dst)
    if hop == HOP_ASK:
        return fib_lookup_tries(f, dst, oif)
    if hop == HOP_NONE:
        res.route = NULL
        res.error = ERR_ENETUNREACH
        return res
    r = &f.hop[hop].route
    res.route = r
    res.error = fib_error(r.type)
    if r.dead or (oif >= 0 and r.dev != oif):
        return fib_lookup_tries(f, dst, oif)
    return res


cdef inline const Route *fib_stored(const Fib *f, const uint8_t *dst, const Route *found) noexcept nogil:
    """The route as it was added that a lookup of ``dst`` found; NULL if it found none."""
    if found == NULL or (found >= f.route and found < f.route + f.n):
        return found
    return fib_lookup_tries(f, dst, -1).route


cdef inline int fib_local_type(const Fib *f, const uint8_t *addr, int dev) noexcept nogil:
    """Type of an address by table "local" alone; ``dev`` >= 0: only if it is that device's."""
    cdef FibResult res
    cdef int hop = fib_hop(f, addr)
    if hop == HOP_NONE or (hop != HOP_ASK and not f.hop[hop].route.local_table):
        return RT_UNICAST
    res = fib_lookup_table(f, f.local, addr, -1)
    if res.error or res.route == NULL or (dev >= 0 and res.route.dev != dev):
        return RT_UNICAST
    return res.route.type


cdef inline void fib_device_state(Fib *f, int dev, bint up) noexcept nogil:
    cdef int i
    for i in range(f.n):
        if f.route[i].type and f.route[i].dev == dev:
            f.route[i].dead = not up
    for i in range(HOP_ASK + 1, f.n_hops):
        if f.hop[i].route.dev == dev:
            f.hop[i].route.dead = not up


cdef inline int fib_find(const Fib *f, const uint8_t *prefix, int plen, bint local) noexcept nogil:
    """Index of the first route of exactly this prefix, -1: none."""
    cdef uint32_t head
    if not lpm_exact(f.local if local else f.main, prefix, plen, &head):
        return -1
    return <int>head
