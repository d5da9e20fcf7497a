# Longest-prefix match for many routes: a multibit trie that is small enough to stay in the processor's caches.
#
# A root table is indexed by the first bits of an address; below it every node answers for the next six bits. A node stores a value
# only where it differs from that of the slot before, and a bitmap says where: counting bits finds it. Prefixes are
# written over the slots they cover, so that a lookup never has to go back up; who calls mb_fill() knows what a deleted prefix uncovers.
#
#   node:  bitmap (8 bytes: bit s, slot s starts another run; bit 0, which slot 0 does not need: the entries are wide)
#          an entry for each run: 2 bytes in a narrow node, where all are leaves of small values, else 4. IPv6 tables have wide nodes
#          only: theirs have few entries, and a step that need not look which it is is quicker.
#   entry: >= 0: the node below, in units of 4 bytes from the base; < 0: a leaf, ~entry is 0 for no prefix or the value + 1
#
# A million BGP-like IPv4 routes take 7.6 MB (a table indexed by 24 bits: 32 MB), which is what makes random lookups fast: a line out
# of a second-level cache costs a tenth of a line out of memory.

from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from ext.wire.bytes cimport ld32

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)
    int MADV_HUGEPAGE

cdef extern from * nogil:
    int __builtin_popcountll(unsigned long long word)
    void __builtin_prefetch(const void *address)

cdef enum:
    MB_STRIDE = 6
    MB_SLOTS = 64
    MB_UNIT = 4  # bytes
    MB_LINE = 16  # units of a cache line
    MB_LEVELS = 22  # the root, and 126 bits at most below one of 6
    MB_NODE_UNITS = 66  # of the largest node: the bitmap and 64 wide entries
    MB_HUGE = 1 << 21  # tables from here on lie on huge pages
    MB_BLOCK = 32  # lookups of a batch that go down the trie together
    MB_WIDEST_ROOT = 18
    MB_NO_LEAF = -1
    MB_NARROW_LEAST = -32768

cdef struct Multibit:
    uint8_t *base  # the root table, then nodes
    uint32_t used  # units handed out, free ones included
    uint32_t capacity
    int root_bits  # a multiple of the stride, at most MB_WIDEST_ROOT
    bint wide  # all nodes are
    uint32_t free_node[MB_NODE_UNITS + 1]  # by size: the first free node, 0: none; its first bytes name the next

# The bits of an address that are still to be looked at, from the top of ``hi`` on.
cdef struct MbKey:
    uint64_t hi
    uint64_t lo


# ---- keys and entries

cdef inline uint64_t ld64(const uint8_t *p) noexcept nogil:
    return (<uint64_t>ld32(p) << 32) | ld32(p + 4)


cdef inline MbKey mb_key(const uint8_t *address, int bytes) noexcept nogil:
    """Of an address of 4 or 16 bytes."""
    cdef MbKey key
    if bytes == 4:
        key.hi = <uint64_t>ld32(address) << 32
        key.lo = 0
    else:
        key.hi = ld64(address)
        key.lo = ld64(address + 8)
    return key


cdef inline void mb_skip(MbKey *key, int bits) noexcept nogil:
    """``bits``: 1 to 63."""
    key.hi = (key.hi << bits) | (key.lo >> (64 - bits))
    key.lo <<= bits


cdef inline uint64_t mb_from(MbKey key, int first) noexcept nogil:
    """64 bits from bit ``first`` (1 to 127) on."""
    return (key.hi << first) | (key.lo >> (64 - first)) if first < 64 else key.lo << (first - 64)


cdef inline int mb_slot(uint64_t hi) noexcept nogil:
    return <int>(hi >> (64 - MB_STRIDE))


cdef inline int32_t mb_leaf(uint32_t value) noexcept nogil:
    """``value`` up to 2^31 - 2; 0xffffffff is MB_NO_LEAF."""
    return <int32_t>~(value + 1)


cdef inline uint32_t mb_value(int32_t leaf) noexcept nogil:
    return ~<uint32_t>leaf - 1


cdef inline const uint8_t *mb_node(const Multibit *t, int32_t entry) noexcept nogil:
    return t.base + MB_UNIT * <size_t><uint32_t>entry


cdef inline int32_t mb_node_or_root(int32_t entry) noexcept nogil:
    """The same node; for a leaf, without a branch, the root, which may be prefetched as if it were a node."""
    return entry & ~(entry >> 31)


cdef inline int32_t *mb_root(const Multibit *t, uint64_t hi) noexcept nogil:
    return <int32_t *>t.base + (hi >> (64 - t.root_bits))


cdef inline int32_t mb_step(const uint8_t *node, uint32_t slot) noexcept nogil:
    """The entry of a slot, of which the last six bits count. Without a branch: what kind of node it is cannot be predicted. Reads up to two bytes past a node."""
    cdef uint64_t starts
    cdef size_t rank, wide
    cdef int32_t entry
    memcpy(&starts, node, 8)
    wide = starts & 1
    rank = <unsigned int>__builtin_popcountll(starts << (~slot & (MB_SLOTS - 1)))  # one more in a wide node: bit 0 counts
    memcpy(&entry, node + 8 + (rank << (1 + wide)) - 4 * wide, 4)
    return entry if wide else <int32_t><int16_t>entry


cdef inline int32_t mb_step_wide(const uint8_t *node, uint32_t slot) noexcept nogil:
    """mb_step() for a wide node."""
    cdef uint64_t starts
    cdef int32_t entry
    memcpy(&starts, node, 8)
    memcpy(&entry, node + 4 + 4 * <size_t><unsigned int>__builtin_popcountll(starts << (~slot & (MB_SLOTS - 1))), 4)
    return entry


# ---- memory

cdef inline uint8_t *mb_memory(size_t bytes) noexcept nogil:
    cdef void *memory = NULL
    if bytes < MB_HUGE:
        return <uint8_t *>malloc(bytes)
    if posix_memalign(&memory, MB_HUGE, bytes) != 0:
        return NULL
    madvise(memory, bytes, MADV_HUGEPAGE)  # advice: refused, it is only slower
    return <uint8_t *>memory


cdef inline uint32_t mb_fill_units(int root_bits, int plen) noexcept nogil:
    """What one mb_fill() may take: a largest node on each level below the root. Nodes it frees count only for the next."""
    return MB_NODE_UNITS * ((plen - root_bits + MB_STRIDE - 1) // MB_STRIDE) if plen > root_bits else 0


cdef inline bint mb_reserve(Multibit *t, uint32_t units) noexcept nogil:
    """Room for them and for reading past the last node, so that nothing fails halfway."""
    cdef uint64_t capacity = t.capacity
    cdef uint8_t *grown
    if t.used + units < t.capacity:
        return True
    while capacity <= t.used + units:
        capacity *= 2
    if capacity > 0x7fffffff:  # entries name nodes by 31 bits
        return False
    grown = mb_memory(capacity * MB_UNIT)
    if grown == NULL:
        return False
    memcpy(grown, t.base, t.used * <size_t>MB_UNIT)
    free(t.base)
    t.base = grown
    t.capacity = <uint32_t>capacity
    return True


cdef inline uint32_t mb_root_units(int root_bits) noexcept nogil:
    return <uint32_t>((<size_t>4 << root_bits) // MB_UNIT)


cdef inline Multibit *mb_new(int root_bits, bint wide) noexcept nogil:
    """Without any prefix; NULL: out of memory."""
    cdef Multibit *t = <Multibit *>calloc(1, sizeof(Multibit))
    if t == NULL:
        return NULL
    t.root_bits = root_bits
    t.wide = wide
    t.used = mb_root_units(root_bits)
    t.capacity = t.used + 1
    t.base = mb_memory(t.capacity * <size_t>MB_UNIT)
    if t.base == NULL:
        free(t)
        return NULL
    memset(t.base, 0xff, <size_t>4 << root_bits)  # MB_NO_LEAF everywhere
    return t


cdef inline void mb_free(Multibit *t) noexcept nogil:
    if t != NULL:
        free(t.base)
        free(t)


cdef inline size_t mb_bytes(const Multibit *t) noexcept nogil:
    """Memory in use."""
    return sizeof(Multibit) + t.used * <size_t>MB_UNIT


cdef inline int mb_units(int runs, bint wide) noexcept nogil:
    return (8 + runs * (4 if wide else 2) + MB_UNIT - 1) // MB_UNIT


cdef inline int mb_node_units(const uint8_t *node) noexcept nogil:
    cdef uint64_t starts
    memcpy(&starts, node, 8)
    return mb_units(__builtin_popcountll(starts | 1), <int>(starts & 1))


cdef inline int32_t mb_take(Multibit *t, int units) noexcept nogil:
    """mb_reserve() has made sure that there is one."""
    cdef uint32_t at = t.free_node[units]
    if at:
        memcpy(&t.free_node[units], t.base + at * <size_t>MB_UNIT, 4)
    else:
        at = t.used
        t.used += units
    return <int32_t>at


cdef inline void mb_give_units(Multibit *t, uint32_t at, int units) noexcept nogil:
    memcpy(t.base + at * <size_t>MB_UNIT, &t.free_node[units], 4)
    t.free_node[units] = at


cdef inline void mb_give(Multibit *t, int32_t node) noexcept nogil:
    mb_give_units(t, <uint32_t>node, mb_node_units(mb_node(t, node)))


# ---- changing

cdef inline void mb_unpack(const Multibit *t, int32_t entry, int32_t *slots) noexcept nogil:
    """All 64 entries of a node; of a leaf: what a node in its place would hold."""
    cdef const uint8_t *node
    cdef uint64_t starts
    cdef int s
    if entry < 0:
        for s in range(MB_SLOTS):
            slots[s] = entry
        return
    node = mb_node(t, entry)
    memcpy(&starts, node, 8)
    slots[0] = mb_step(node, 0)
    for s in range(1, MB_SLOTS):
        slots[s] = mb_step(node, s) if (starts >> s) & 1 else slots[s - 1]


cdef inline int32_t mb_pack(Multibit *t, int32_t old, const int32_t *slots) noexcept nogil:
    """The entry for 64 slots, in the place of ``old`` (a node, which is given back, or a leaf): a leaf if they are all the same leaf."""
    cdef int32_t runs[MB_SLOTS]
    cdef uint64_t starts = 0
    cdef int count = 0, s, units
    cdef bint wide = t.wide
    cdef uint8_t *node
    cdef int16_t narrow
    for s in range(MB_SLOTS):
        if s and slots[s] == slots[s - 1]:
            continue
        starts |= <uint64_t>(s > 0) << s
        runs[count] = slots[s]
        count += 1
        wide = wide or slots[s] >= 0 or slots[s] < MB_NARROW_LEAST
    units = mb_units(count, wide)
    if old >= 0 and (mb_node_units(mb_node(t, old)) != units or (count == 1 and runs[0] < 0)):
        mb_give(t, old)
        old = MB_NO_LEAF
    if count == 1 and runs[0] < 0:
        return runs[0]
    if old < 0:
        old = mb_take(t, units)
    node = t.base + old * <size_t>MB_UNIT
    starts |= <uint64_t>wide
    memcpy(node, &starts, 8)
    if wide:
        memcpy(node + 8, runs, count * 4)
        return old
    for s in range(count):
        narrow = <int16_t>runs[s]
        memcpy(node + 8 + 2 * s, &narrow, 2)
    return old


cdef inline void mb_drop(Multibit *t, int32_t entry) noexcept nogil:
    """Give back a node and all below it."""
    cdef int32_t slots[MB_SLOTS]
    cdef int s
    if entry < 0:
        return
    mb_unpack(t, entry, slots)
    for s in range(MB_SLOTS):
        mb_drop(t, slots[s])
    mb_give(t, entry)


cdef inline void mb_write(Multibit *t, int32_t *entries, size_t count, int32_t leaf) noexcept nogil:
    cdef size_t i
    for i in range(count):
        mb_drop(t, entries[i])
        entries[i] = leaf


cdef inline bint mb_fill(Multibit *t, MbKey key, int plen, int32_t leaf) noexcept nogil:
    """Make ``leaf`` the answer for every address of a prefix (host bits zero), whatever was there. False: out of memory, nothing changed."""
    cdef int32_t path[MB_LEVELS]
    cdef uint8_t slot[MB_LEVELS]
    cdef int32_t slots[MB_SLOTS]
    cdef int depth = t.root_bits, n = 0
    cdef int32_t *root
    cdef int32_t entry
    if not mb_reserve(t, mb_fill_units(t.root_bits, plen)):
        return False
    root = mb_root(t, key.hi)
    if plen <= t.root_bits:
        mb_write(t, root, <size_t>1 << (t.root_bits - plen), leaf)
        return True
    mb_skip(&key, t.root_bits)
    path[0] = root[0]
    while plen > depth + MB_STRIDE:
        slot[n] = <uint8_t>mb_slot(key.hi)
        path[n + 1] = mb_step(mb_node(t, path[n]), slot[n]) if path[n] >= 0 else path[n]
        n += 1
        depth += MB_STRIDE
        mb_skip(&key, MB_STRIDE)
    mb_unpack(t, path[n], slots)
    mb_write(t, slots + mb_slot(key.hi), <size_t>1 << (depth + MB_STRIDE - plen), leaf)
    entry = mb_pack(t, path[n], slots)
    while entry != path[n]:  # a node that has changed in its place is known above
        if n == 0:
            root[0] = entry
            break
        n -= 1
        mb_unpack(t, path[n], slots)
        slots[slot[n]] = entry
        entry = mb_pack(t, path[n], slots)
    return True


# ---- compacting

cdef inline uint32_t mb_units_below(const Multibit *t, int32_t entry, uint32_t most) noexcept nogil:
    """Size of a node and all below it; more than ``most`` if it is more."""
    cdef const uint8_t *node
    cdef uint64_t starts
    cdef uint32_t units
    cdef int32_t below
    cdef int i
    if entry < 0:
        return 0
    node = mb_node(t, entry)
    units = mb_node_units(node)
    memcpy(&starts, node, 8)
    if starts & 1:
        for i in range(__builtin_popcountll(starts)):
            if units > most:
                break
            memcpy(&below, node + 8 + 4 * i, 4)
            units += mb_units_below(t, below, most - units)
    return units


cdef inline void mb_align(Multibit *to, uint32_t units, uint32_t *slack) noexcept nogil:
    """Let what comes next not lie across two cache lines if it fits one. ``slack``: units that may be left free for that."""
    cdef uint32_t rest = MB_LINE - (to.used & (MB_LINE - 1))
    if units <= MB_LINE and units > rest and rest <= slack[0]:
        mb_give_units(to, to.used, rest)
        to.used += rest
        slack[0] -= rest


cdef inline int32_t mb_copy(const Multibit *t, Multibit *to, int32_t entry, uint32_t *slack) noexcept nogil:
    """A node and, right behind it, all below it: small ones share a line, which is then the only one that a lookup waits for."""
    cdef const uint8_t *node
    cdef uint64_t starts
    cdef uint8_t *place
    cdef int32_t below, copied
    cdef uint32_t units, subtree
    cdef int i
    if entry < 0:
        return entry
    node = mb_node(t, entry)
    units = mb_node_units(node)
    subtree = mb_units_below(t, entry, MB_LINE)
    mb_align(to, subtree if subtree <= MB_LINE else units, slack)
    copied = <int32_t>to.used
    to.used += units
    place = to.base + copied * <size_t>MB_UNIT
    memcpy(place, node, units * MB_UNIT)
    memcpy(&starts, node, 8)
    for i in range(__builtin_popcountll(starts) if starts & 1 else 0):
        memcpy(&below, node + 8 + 4 * i, 4)
        below = mb_copy(t, to, below, slack)
        memcpy(place + 8 + 4 * i, &below, 4)
    return copied


cdef inline bint mb_compact(Multibit *t) noexcept nogil:
    """Put nodes in the order of a walk and close the gaps. False: out of memory, nothing changed."""
    cdef Multibit to
    cdef uint32_t slack = t.used // 4
    cdef size_t i
    memset(&to, 0, sizeof(Multibit))
    to.root_bits = t.root_bits
    to.wide = t.wide
    to.used = mb_root_units(t.root_bits)
    to.capacity = t.used + slack + 1
    to.base = mb_memory(to.capacity * <size_t>MB_UNIT)
    if to.base == NULL:
        return False
    for i in range(<size_t>1 << t.root_bits):
        (<int32_t *>to.base)[i] = mb_copy(t, &to, (<int32_t *>t.base)[i], &slack)
    free(t.base)
    t[0] = to
    return True


# ---- looking up

cdef inline uint32_t mb_find(const Multibit *t, MbKey key) noexcept nogil:
    """The value of the longest prefix, 0xffffffff: there is none."""
    cdef int32_t entry = mb_root(t, key.hi)[0]
    if entry >= 0:
        mb_skip(&key, t.root_bits)
        while True:
            entry = mb_step(mb_node(t, entry), mb_slot(key.hi))
            if entry < 0:
                break
            mb_skip(&key, MB_STRIDE)
    return mb_value(entry)


cdef inline uint32_t mb_find_after(const Multibit *t, int32_t entry, uint32_t address) noexcept nogil:
    """The rest of an IPv4 lookup in a table with the widest root, after a step down."""
    cdef uint64_t hi = <uint64_t>address << (32 + MB_WIDEST_ROOT + MB_STRIDE)
    while entry >= 0:
        entry = mb_step(mb_node(t, entry), mb_slot(hi))
        hi <<= MB_STRIDE
    return mb_value(entry)


cdef inline int32_t mb_step_narrow(const uint8_t *node, uint32_t slot) noexcept nogil:
    """mb_step() where few nodes are wide."""
    cdef uint64_t starts
    cdef int16_t entry
    memcpy(&starts, node, 8)
    if starts & 1:
        return mb_step(node, slot)
    memcpy(&entry, node + 8 + 2 * <size_t><unsigned int>__builtin_popcountll(starts << (~slot & (MB_SLOTS - 1))), 2)
    return entry


cdef inline void mb_find_wide_block(const Multibit *t, const uint8_t *addresses, const uint8_t *ahead, size_t m, uint32_t *values) noexcept nogil:
    """``ahead``: addresses that are going to be asked for, as many."""
    cdef int32_t entry[MB_BLOCK]
    cdef uint8_t alive[MB_BLOCK]
    cdef const int32_t *root = <const int32_t *>t.base
    cdef size_t live = 0, i, j
    cdef uint32_t address
    cdef int32_t found
    for i in range(m):
        found = root[ld32(addresses + 4 * i) >> 14]
        values[i] = mb_value(found)
        alive[live] = <uint8_t>i
        entry[live] = found
        live += found >= 0
        __builtin_prefetch(mb_node(t, mb_node_or_root(found)))
    for i in range(m):
        __builtin_prefetch(root + (ld32(ahead + 4 * i) >> 14))
    for j in range(live):
        i = alive[j]
        address = ld32(addresses + 4 * i)
        found = mb_step_narrow(mb_node(t, entry[j]), address >> 8)
        values[i] = mb_value(found) if found < 0 else mb_find_after(t, found, address)


cdef inline void mb_find_wide(const Multibit *t, const uint8_t *addresses, size_t n, uint32_t *values) noexcept nogil:
    """mb_find_many() for IPv4 below the widest root: one step answers for all but prefixes longer than 24 bits.

    All of a block are asked of the root first, then, while the root's lines for the next block are on their way, of the nodes.
    """
    cdef size_t start = 0, m, next
    while start < n:
        m = n - start if n - start < MB_BLOCK else MB_BLOCK
        next = start + (MB_BLOCK if start + 2 * MB_BLOCK <= n else 0)
        mb_find_wide_block(t, addresses + 4 * start, addresses + 4 * next, m, values + start)
        start += MB_BLOCK


cdef inline int mb_find_level(const Multibit *t, uint64_t *hi, int32_t *entry, uint8_t *alive, int live, int shift, uint32_t *values) noexcept nogil:
    """One step down for the lookups that are not at a leaf; returns how many are left. ``shift`` brings their six bits to the bottom."""
    cdef int left = 0, j
    cdef const uint8_t *node
    cdef uint32_t slot
    cdef int32_t found
    for j in range(live):
        node = mb_node(t, entry[j])
        slot = <uint32_t>(hi[j] >> shift)
        found = mb_step_wide(node, slot) if t.wide else mb_step(node, slot)
        __builtin_prefetch(mb_node(t, mb_node_or_root(found)))
        values[alive[j]] = mb_value(found)
        hi[left] = hi[j]
        entry[left] = found
        alive[left] = alive[j]
        left += found >= 0
    return left


cdef inline void mb_find_block(const Multibit *t, const uint8_t *addresses, int bytes, int m, uint32_t *values) noexcept nogil:
    """Up to MB_BLOCK lookups, level by level, so that they wait for memory together."""
    cdef uint64_t hi[MB_BLOCK]
    cdef int32_t entry[MB_BLOCK]
    cdef uint8_t alive[MB_BLOCK]
    cdef int live = 0, first = 0, shift = 64 - MB_STRIDE - t.root_bits, i  # ``hi`` starts with bit ``first`` of an address
    for i in range(m):
        hi[live] = mb_key(addresses + bytes * i, bytes).hi
        entry[live] = mb_root(t, hi[live])[0]
        values[i] = mb_value(entry[live])
        __builtin_prefetch(mb_node(t, mb_node_or_root(entry[live])))
        alive[live] = <uint8_t>i
        live += entry[live] >= 0
    while live:
        if shift < 0:  # the next six bits are not all in ``hi``
            first += 64 - MB_STRIDE - shift
            for i in range(live):
                hi[i] = mb_from(mb_key(addresses + bytes * alive[i], bytes), first)
            shift = 64 - MB_STRIDE
        live = mb_find_level(t, hi, entry, alive, live, shift, values)
        shift -= MB_STRIDE


cdef inline void mb_find_many(const Multibit *t, const uint8_t *addresses, int bytes, size_t n, uint32_t *values) noexcept nogil:
    """mb_find() for ``n`` addresses of 4 or 16 bytes that stand one behind the other."""
    cdef size_t start = 0
    if bytes == 4 and t.root_bits == MB_WIDEST_ROOT:
        mb_find_wide(t, addresses, n, values)
        return
    while start < n:
        mb_find_block(t, addresses + bytes * start, bytes, <int>(n - start if n - start < MB_BLOCK else MB_BLOCK), values + start)
        start += MB_BLOCK


# ---- the same for who has something else to do while memory is waited for; IPv4, below the widest root

cdef inline void mb_begin_wide(const Multibit *t, const uint32_t *addresses, int32_t *entries, uint32_t n) noexcept nogil:
    """``addresses`` as they stand in packets."""
    cdef const int32_t *root = <const int32_t *>t.base
    cdef uint32_t i
    for i in range(n):
        entries[i] = root[ld32(<const uint8_t *>&addresses[i]) >> 14]
        __builtin_prefetch(mb_node(t, mb_node_or_root(entries[i])))


cdef inline void mb_end_wide(const Multibit *t, const uint32_t *addresses, int32_t *entries, uint32_t n) noexcept nogil:
    """The values take the place of what mb_begin_wide() has found."""
    cdef uint32_t i, address
    cdef int32_t found
    for i in range(n):
        address = ld32(<const uint8_t *>&addresses[i])
        found = mb_step_narrow(mb_node(t, mb_node_or_root(entries[i])), address >> 8)
        found = found if entries[i] >= 0 else entries[i]
        entries[i] = <int32_t>(mb_value(found) if found < 0 else mb_find_after(t, found, address))
