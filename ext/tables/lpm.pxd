# Longest-prefix match: a path-compressed binary trie (Patricia) over byte strings of 32 or 128 bits. It is what is stored; where there
# are many prefixes, `lpm_fast.pxd` keeps a faster picture of it for lookups.
#
# Nodes live in one growable array and name each other by index, so that growing moves them freely.
# A node without a value is glue: it stands where two prefixes part and always has two children.
# Keys are addresses in network byte order; host bits of keys that are inserted or sought are ignored.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from ext.wire.bytes cimport ld32


cdef enum:
    LPM_NONE = -1
    LPM_KEY_BYTES = 16  # the longer of the two families
    LPM_FIRST_NODES = 16
    # Preorder with an explicit stack: one waiting sibling for each of 129 prefix lengths, and the node in hand.
    LPM_STACK = 130


cdef struct LpmNode:
    uint8_t key[LPM_KEY_BYTES]  # host bits are zero
    uint32_t value
    int32_t child[2]  # by the first bit after the prefix; child[0] of a free node is the next free one
    uint8_t plen
    uint8_t has_value


cdef struct Lpm:
    LpmNode *nodes
    int32_t used  # nodes handed out so far, free ones included
    int32_t capacity
    int32_t free_head
    int32_t root
    int32_t count  # nodes with a value
    int bits


# Nonzero stops the walk.
ctypedef int (*LpmVisit)(void *context, const uint8_t *key, int plen, uint32_t value) noexcept nogil


cdef inline int lpm_bit(const uint8_t *key, int position) noexcept nogil:
    return (key[position >> 3] >> (7 - (position & 7))) & 1


cdef inline int lpm_common_bits(const uint8_t *a, const uint8_t *b, int limit) noexcept nogil:
    # How many leading bits are equal, at most `limit`. Reads no byte that holds no bit below the limit.
    cdef int at = 0
    cdef uint8_t differ
    while at < limit:
        differ = a[at >> 3] ^ b[at >> 3]
        if differ:
            while not (differ & 0x80):
                differ = <uint8_t>(differ << 1)
                at += 1
            break
        at += 8
    return at if at < limit else limit


cdef inline void lpm_copy_prefix(uint8_t *to, const uint8_t *key, int plen) noexcept nogil:
    memset(to, 0, LPM_KEY_BYTES)
    memcpy(to, key, <size_t>((plen + 7) >> 3))
    if plen & 7:
        to[plen >> 3] &= <uint8_t>(0xff << (8 - (plen & 7)))


cdef inline Lpm *lpm_new(int bits) noexcept nogil:
    # `bits` is 32 or 128. NULL: out of memory.
    cdef Lpm *t = <Lpm *>calloc(1, sizeof(Lpm))
    if t == NULL:
        return NULL
    t.bits = bits
    t.root = LPM_NONE
    t.free_head = LPM_NONE
    return t


cdef inline void lpm_free(Lpm *t) noexcept nogil:
    if t != NULL:
        free(t.nodes)
        free(t)


cdef inline void lpm_clear(Lpm *t) noexcept nogil:
    t.used = 0
    t.count = 0
    t.root = LPM_NONE
    t.free_head = LPM_NONE


cdef inline int lpm_count(const Lpm *t) noexcept nogil:
    return t.count


cdef inline bint lpm_reserve(Lpm *t, int more) noexcept nogil:
    # Room for `more` nodes whatever the free list holds, so that an insert cannot fail halfway.
    cdef int32_t capacity = t.capacity if t.capacity else LPM_FIRST_NODES
    cdef LpmNode *nodes
    if t.used + more <= t.capacity:
        return True
    while capacity < t.used + more:
        capacity *= 2
    nodes = <LpmNode *>realloc(t.nodes, <size_t>capacity * sizeof(LpmNode))
    if nodes == NULL:
        return False
    t.nodes = nodes
    t.capacity = capacity
    return True


cdef inline int32_t lpm_take_node(Lpm *t, const uint8_t *key, int plen) noexcept nogil:
    # lpm_reserve() has made sure that there is one.
    cdef int32_t index = t.free_head
    cdef LpmNode *node
    if index != LPM_NONE:
        t.free_head = t.nodes[index].child[0]
    else:
        index = t.used
        t.used += 1
    node = &t.nodes[index]
    lpm_copy_prefix(node.key, key, plen)
    node.plen = <uint8_t>plen
    node.has_value = False
    node.child[0] = LPM_NONE
    node.child[1] = LPM_NONE
    return index


cdef inline void lpm_give_node(Lpm *t, int32_t index) noexcept nogil:
    t.nodes[index].child[0] = t.free_head
    t.free_head = index


cdef inline void lpm_set_value(Lpm *t, LpmNode *node, uint32_t value) noexcept nogil:
    if not node.has_value:
        t.count += 1
    node.has_value = True
    node.value = value


cdef inline int lpm_insert(Lpm *t, const uint8_t *key, int plen, uint32_t value) noexcept nogil:
    # 1: new, 0: replaced, -1: out of memory (the table is as before).
    cdef int32_t *link
    cdef int32_t leaf, glue
    cdef LpmNode *node
    cdef int shared = 0
    cdef bint is_new
    if not lpm_reserve(t, 2):
        return -1
    link = &t.root
    while link[0] != LPM_NONE:
        node = &t.nodes[link[0]]
        shared = lpm_common_bits(node.key, key, node.plen if node.plen < plen else plen)
        if shared < node.plen:
            break
        if node.plen == plen:
            is_new = not node.has_value
            lpm_set_value(t, node, value)
            return is_new
        link = &node.child[lpm_bit(key, node.plen)]
    leaf = lpm_take_node(t, key, plen)
    lpm_set_value(t, &t.nodes[leaf], value)
    if link[0] == LPM_NONE:
        link[0] = leaf
    elif shared == plen:  # the new prefix contains the node
        t.nodes[leaf].child[lpm_bit(t.nodes[link[0]].key, plen)] = link[0]
        link[0] = leaf
    else:  # they part at `shared`
        glue = lpm_take_node(t, key, shared)
        t.nodes[glue].child[lpm_bit(key, shared)] = leaf
        t.nodes[glue].child[1 - lpm_bit(key, shared)] = link[0]
        link[0] = glue
    return 1


cdef inline int32_t lpm_find(const Lpm *t, const uint8_t *key, int plen) noexcept nogil:
    # Index of the node that holds a value for exactly this prefix, or LPM_NONE.
    cdef int32_t index = t.root
    cdef const LpmNode *node
    while index != LPM_NONE:
        node = &t.nodes[index]
        if node.plen > plen or lpm_common_bits(node.key, key, node.plen) < node.plen:
            return LPM_NONE
        if node.plen == plen:
            return index if node.has_value else LPM_NONE
        index = node.child[lpm_bit(key, node.plen)]
    return LPM_NONE


cdef inline void lpm_collapse(Lpm *t, int32_t *link) noexcept nogil:
    # Take out the node at `link` if it is without value and has at most one child, which moves up.
    cdef int32_t index = link[0]
    cdef LpmNode *node = &t.nodes[index]
    if node.has_value or (node.child[0] != LPM_NONE and node.child[1] != LPM_NONE):
        return
    link[0] = node.child[0] if node.child[0] != LPM_NONE else node.child[1]
    lpm_give_node(t, index)


cdef inline int lpm_delete(Lpm *t, const uint8_t *key, int plen) noexcept nogil:
    # 1: deleted, 0: there was none.
    cdef int32_t target = lpm_find(t, key, plen)
    cdef int32_t *link = &t.root
    cdef int32_t *above = NULL
    if target == LPM_NONE:
        return 0
    while link[0] != target:
        above = link
        link = &t.nodes[link[0]].child[lpm_bit(key, t.nodes[link[0]].plen)]
    t.nodes[target].has_value = False
    t.count -= 1
    lpm_collapse(t, link)
    if above != NULL:
        lpm_collapse(t, above)
    return 1


cdef inline int lpm_lookup_word(const Lpm *t, uint32_t key, int longest, uint32_t *value_out) noexcept nogil:
    # lpm_lookup_within() for keys of 32 bits.
    cdef int32_t index = t.root
    cdef const LpmNode *node
    cdef int best = -1
    while index != LPM_NONE:
        node = &t.nodes[index]
        if node.plen > longest or <uint64_t>(key ^ ld32(node.key)) >> (32 - node.plen):
            break
        if node.has_value:
            best = node.plen
            value_out[0] = node.value
        if node.plen == 32:
            break
        index = node.child[key >> (31 - node.plen) & 1]
    return best


cdef inline int lpm_lookup_within(const Lpm *t, const uint8_t *key, int longest, uint32_t *value_out) noexcept nogil:
    # Length of the longest stored prefix of at most `longest` bits that contains the key, or -1.
    cdef int32_t index = t.root
    cdef const LpmNode *node
    cdef int best = -1
    if t.bits == 32:
        return lpm_lookup_word(t, ld32(key), longest, value_out)
    while index != LPM_NONE:
        node = &t.nodes[index]
        if node.plen > longest or lpm_common_bits(node.key, key, node.plen) < node.plen:
            break
        if node.has_value:
            best = node.plen
            value_out[0] = node.value
        if node.plen == t.bits:
            break
        index = node.child[lpm_bit(key, node.plen)]
    return best


cdef inline int lpm_lookup(const Lpm *t, const uint8_t *key, uint32_t *value_out) noexcept nogil:
    # Length of the longest stored prefix that contains the key, or -1 (value_out is then untouched).
    return lpm_lookup_within(t, key, t.bits, value_out)


cdef inline bint lpm_exact(const Lpm *t, const uint8_t *key, int plen, uint32_t *value_out) noexcept nogil:
    cdef int32_t index = lpm_find(t, key, plen)
    if index == LPM_NONE:
        return False
    value_out[0] = t.nodes[index].value
    return True


cdef inline int32_t lpm_inside(const Lpm *t, const uint8_t *key, int plen) noexcept nogil:
    # Index of the node above all stored prefixes that this prefix contains (itself included), or LPM_NONE.
    cdef int32_t index = t.root
    cdef const LpmNode *node
    cdef int shorter
    while index != LPM_NONE:
        node = &t.nodes[index]
        shorter = node.plen if node.plen < plen else plen
        if lpm_common_bits(node.key, key, shorter) < shorter:
            return LPM_NONE
        if node.plen >= plen:
            return index
        index = node.child[lpm_bit(key, node.plen)]
    return LPM_NONE


cdef inline int lpm_walk_from(const Lpm *t, int32_t index, LpmVisit visit, void *context) noexcept nogil:
    # Every prefix stored at a node or below it by address, shorter ones first. Returns what stopped it, or 0. The table must not
    # change meanwhile.
    cdef int32_t stack[LPM_STACK]
    cdef int depth = 0
    cdef int stop, side
    cdef const LpmNode *node
    if index != LPM_NONE:
        stack[0] = index
        depth = 1
    while depth:
        depth -= 1
        node = &t.nodes[stack[depth]]
        if node.has_value:
            stop = visit(context, node.key, node.plen, node.value)
            if stop:
                return stop
        for side in range(1, -1, -1):
            if node.child[side] != LPM_NONE:
                stack[depth] = node.child[side]
                depth += 1
    return 0


cdef inline int lpm_walk(const Lpm *t, LpmVisit visit, void *context) noexcept nogil:
    # Every stored prefix.
    return lpm_walk_from(t, t.root, visit, context)
