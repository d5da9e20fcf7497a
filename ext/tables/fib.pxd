# Forwarding information base of one namespace and family: Linux' tables "local" and "main".
#
# Each prefix holds a list of routes in order of metric. Lookups walk local, then main; a ``throw`` route
# ends the walk of its table only (net/ipv4/fib_trie.c: fib_table_lookup(), fib_rules' order).

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport realloc, free
from libc.string cimport memset
from ext.tables.lpm cimport Lpm, lpm_new, lpm_free, lpm_insert, lpm_delete, lpm_lookup, lpm_lookup_within, lpm_exact

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
    int next  # next route of the prefix, -1: last
    uint32_t order  # when it was added

cdef struct Fib:
    int bits
    Lpm *local
    Lpm *main
    Route *route
    int n
    int cap
    uint32_t added

cdef struct FibResult:
    const Route *route  # NULL: no route
    int error  # errno, 0: found


cdef inline bint fib_init(Fib *f, int bits) noexcept nogil:
    memset(f, 0, sizeof(Fib))
    f.bits = bits
    f.local = lpm_new(bits)
    f.main = lpm_new(bits)
    return f.local != NULL and f.main != NULL


cdef inline void fib_clear(Fib *f) noexcept nogil:
    if f.local != NULL:
        lpm_free(f.local)
    if f.main != NULL:
        lpm_free(f.main)
    free(f.route)
    memset(f, 0, sizeof(Fib))


cdef inline Lpm *fib_table(Fib *f, bint local) noexcept nogil:
    return f.local if local else f.main


cdef inline int fib_slot(Fib *f) noexcept nogil:
    """A free place in the route array, -1 when memory is out. Deleted routes leave type 0."""
    cdef int i, cap
    cdef Route *grown
    if f.n < f.cap:
        f.n += 1
        return f.n - 1
    for i in range(f.n):
        if f.route[i].type == 0:
            return i
    cap = f.cap * 2 if f.cap else 16
    grown = <Route *>realloc(f.route, cap * sizeof(Route))
    if grown == NULL:
        return -1
    f.route = grown
    f.cap = cap
    f.n += 1
    return f.n - 1


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
    known = lpm_exact(t, r.prefix, r.plen, &head)
    at = <int>head if known else -1
    while at >= 0 and (f.route[at].metric < r.metric or (f.route[at].metric == r.metric and r.type != RT_ANYCAST)):
        prev = at
        at = f.route[at].next
    f.route[i].next = at
    if prev >= 0:
        f.route[prev].next = i
    elif lpm_insert(t, r.prefix, r.plen, <uint32_t>i) < 0:
        f.route[i].type = 0
        return -1
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
    r.type = 0


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


cdef inline FibResult fib_lookup(const Fib *f, const uint8_t *dst, int oif) noexcept nogil:
    """``oif`` >= 0: only routes out of that device."""
    cdef FibResult res = fib_lookup_table(f, f.local, dst, oif)
    if res.error == ERR_EAGAIN:
        res = fib_lookup_table(f, f.main, dst, oif)
    if res.error == ERR_EAGAIN:
        res.error = ERR_ENETUNREACH
        res.route = NULL
    return res


cdef inline int fib_local_type(const Fib *f, const uint8_t *addr, int dev) noexcept nogil:
    """Type of an address by table "local" alone; ``dev`` >= 0: only if it is that device's."""
    cdef FibResult res = fib_lookup_table(f, f.local, addr, -1)
    if res.error or res.route == NULL or (dev >= 0 and res.route.dev != dev):
        return RT_UNICAST
    return res.route.type


cdef inline void fib_device_state(Fib *f, int dev, bint up) noexcept nogil:
    cdef int i
    for i in range(f.n):
        if f.route[i].type and f.route[i].dev == dev:
            f.route[i].dead = not up


cdef inline int fib_find(const Fib *f, const uint8_t *prefix, int plen, bint local) noexcept nogil:
    """Index of the first route of exactly this prefix, -1: none."""
    cdef uint32_t head
    if not lpm_exact(f.local if local else f.main, prefix, plen, &head):
        return -1
    return <int>head
