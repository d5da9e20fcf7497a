# The fast picture of one or two longest-prefix-match tries, for lookups: none while there are few prefixes (a trie takes less memory,
# and there are thousands of namespaces), from then on a multibit trie, rebuilt with a wider root as they become more.
#
# The tries stay the truth. Whoever changes one of them says afterwards which prefix, and only what that prefix covers is
# written again. Where two tries are pictured, any prefix of the ``over`` one goes before all of the ``main`` one, as Linux' table "local"
# goes before "main". Without memory there is no picture, and lookups have to walk the tries: slower, but the same answers.

from libc.stdint cimport int32_t, uint8_t, uint32_t
from ext.tables.lpm cimport (
    LPM_KEY_BYTES, LPM_NONE, Lpm, LpmNode, lpm_copy_prefix, lpm_count, lpm_inside, lpm_lookup_within, lpm_walk_from,
)
from ext.tables.lpm_multibit cimport MB_NO_LEAF, Multibit, mb_compact, mb_fill, mb_free, mb_key, mb_leaf, mb_new

cdef enum:
    # A root of 12 and of 18 bits saves one and two steps, and takes 16 KB and 1 MB.
    LPM_FAST_ROOT_12_FROM = 512
    LPM_FAST_ROOT_18_FROM = 16384
    LPM_FAST_LARGEST = 0x7ffffffd  # value
    LPM_FAST_TIDY = 8  # one change for so many prefixes, and nodes are put in order again

# What a lookup shall find where the trie holds ``stored``: at most LPM_FAST_LARGEST.
ctypedef uint32_t (*LpmFastValue)(void *context, uint32_t stored) noexcept nogil

cdef struct LpmFast:
    Multibit *table  # NULL: no picture
    int from_count  # prefixes from which on there is a picture
    int changes  # since the nodes were put in order
    bint given_up  # memory was out
    const Lpm *main
    const Lpm *over  # NULL: none
    LpmFastValue value
    void *context


cdef inline void lpm_fast_init(LpmFast *f, const Lpm *main, const Lpm *over, int from_count, LpmFastValue value, void *context) noexcept nogil:
    f.table = NULL
    f.from_count = from_count
    f.changes = 0
    f.given_up = False
    f.main = main
    f.over = over
    f.value = value
    f.context = context


cdef inline void lpm_fast_drop(LpmFast *f) noexcept nogil:
    mb_free(f.table)
    f.table = NULL


cdef inline void lpm_fast_give_up(LpmFast *f) noexcept nogil:
    """No picture any more, until lpm_fast_init()."""
    lpm_fast_drop(f)
    f.given_up = True


cdef inline int lpm_fast_count(const LpmFast *f) noexcept nogil:
    return lpm_count(f.main) + (lpm_count(f.over) if f.over != NULL else 0)


cdef inline int lpm_fast_root(const LpmFast *f) noexcept nogil:
    """How wide the root should be, 0: no picture. It narrows at half of the number at which it widens, not back and forth."""
    cdef int count = lpm_fast_count(f)
    cdef int have = f.table.root_bits if f.table != NULL else 0
    if count == 0 or count < f.from_count >> (have >= 6):
        return 0
    if count >= LPM_FAST_ROOT_18_FROM >> (have >= 18):
        return 18
    return 12 if count >= LPM_FAST_ROOT_12_FROM >> (have >= 12) else 6


# ---- writing

cdef inline bint lpm_fast_write(LpmFast *f, const uint8_t *prefix, int plen, int32_t leaf) noexcept nogil:
    return mb_fill(f.table, mb_key(prefix, LPM_KEY_BYTES), plen, leaf)


cdef inline int lpm_fast_visit(void *context, const uint8_t *prefix, int plen, uint32_t stored) noexcept nogil:
    """Nonzero: out of memory."""
    cdef LpmFast *f = <LpmFast *>context
    return not lpm_fast_write(f, prefix, plen, mb_leaf(f.value(f.context, stored)))


cdef inline int32_t lpm_fast_cover(const LpmFast *f, const Lpm *t, const uint8_t *prefix, int plen) noexcept nogil:
    """The leaf of the longest prefix that contains this one, itself included."""
    cdef uint32_t stored
    if lpm_lookup_within(t, prefix, plen, &stored) < 0:
        return MB_NO_LEAF
    return mb_leaf(f.value(f.context, stored))


cdef inline bint lpm_fast_write_around(LpmFast *f, const Lpm *t, int32_t index, const uint8_t *prefix, int plen, int32_t leaf) noexcept nogil:
    """Write a prefix, but not what stored prefixes inside it answer for; the topmost node inside it is ``index``."""
    cdef uint8_t part[LPM_KEY_BYTES]
    cdef const LpmNode *node
    cdef int bit
    if index == LPM_NONE:
        return lpm_fast_write(f, prefix, plen, leaf)
    node = &t.nodes[index]
    for bit in range(plen, node.plen):  # on the way to the node, what branches off
        lpm_copy_prefix(part, node.key, bit + 1)
        part[bit >> 3] ^= <uint8_t>(0x80 >> (bit & 7))
        if not lpm_fast_write(f, part, bit + 1, leaf):
            return False
    return node.has_value or lpm_fast_write_halves(f, t, node, leaf)


cdef inline bint lpm_fast_write_halves(LpmFast *f, const Lpm *t, const LpmNode *node, int32_t leaf) noexcept nogil:
    """The prefix of a node, but not what stored prefixes longer than it answer for."""
    cdef uint8_t part[LPM_KEY_BYTES]
    cdef int side
    if node.child[0] == LPM_NONE and node.child[1] == LPM_NONE:
        return lpm_fast_write(f, node.key, node.plen, leaf)
    for side in range(2):
        lpm_copy_prefix(part, node.key, node.plen)
        part[node.plen >> 3] |= <uint8_t>((0x80 if side else 0) >> (node.plen & 7))
        if not lpm_fast_write_around(f, t, node.child[side], part, node.plen + 1, leaf):
            return False
    return True


cdef inline bint lpm_fast_write_over(LpmFast *f, const uint8_t *prefix, int plen) noexcept nogil:
    """What prefixes of ``over`` inside this one answer for."""
    return f.over == NULL or lpm_walk_from(f.over, lpm_inside(f.over, prefix, plen), lpm_fast_visit, f) == 0


cdef inline bint lpm_fast_write_main(LpmFast *f, const uint8_t *prefix, int plen) noexcept nogil:
    """After a change of this prefix in ``main``."""
    cdef int32_t index = lpm_inside(f.main, prefix, plen)
    cdef int32_t leaf
    if f.over != NULL and lpm_fast_cover(f, f.over, prefix, plen) != MB_NO_LEAF:
        return True
    leaf = lpm_fast_cover(f, f.main, prefix, plen)
    if index != LPM_NONE and f.main.nodes[index].plen == plen:
        return lpm_fast_write_halves(f, f.main, &f.main.nodes[index], leaf) and lpm_fast_write_over(f, prefix, plen)
    return lpm_fast_write_around(f, f.main, index, prefix, plen, leaf) and lpm_fast_write_over(f, prefix, plen)


cdef inline bint lpm_fast_write_all(LpmFast *f, const uint8_t *prefix, int plen) noexcept nogil:
    """What both tries say of this prefix and all inside it."""
    cdef int32_t leaf = MB_NO_LEAF
    if f.over != NULL:
        leaf = lpm_fast_cover(f, f.over, prefix, plen)
    if leaf != MB_NO_LEAF:
        return lpm_fast_write(f, prefix, plen, leaf) and lpm_fast_write_over(f, prefix, plen)
    if not lpm_fast_write(f, prefix, plen, lpm_fast_cover(f, f.main, prefix, plen)):
        return False
    return lpm_walk_from(f.main, lpm_inside(f.main, prefix, plen), lpm_fast_visit, f) == 0 and lpm_fast_write_over(f, prefix, plen)


# ---- what users call

cdef inline void lpm_fast_rebuild(LpmFast *f, int root_bits) noexcept nogil:
    """A picture with such a root, or none if ``root_bits`` is 0."""
    cdef uint8_t everything[LPM_KEY_BYTES]
    lpm_fast_drop(f)
    if root_bits == 0:
        return
    f.table = mb_new(root_bits, f.main.bits > 32)
    lpm_copy_prefix(everything, everything, 0)
    if f.table == NULL or not lpm_fast_write_all(f, everything, 0):
        lpm_fast_give_up(f)
    f.changes = 0


cdef inline void lpm_fast_changed(LpmFast *f, bint over, const uint8_t *prefix, int plen) noexcept nogil:
    """``prefix`` is new in ``over`` or ``main``, has another value, or is gone. Call it after each change."""
    cdef uint8_t key[LPM_KEY_BYTES]
    cdef int root_bits
    if f.given_up:
        return
    root_bits = lpm_fast_root(f)
    if root_bits != (f.table.root_bits if f.table != NULL else 0):
        lpm_fast_rebuild(f, root_bits)
        return
    if f.table == NULL:
        return
    lpm_copy_prefix(key, prefix, plen)
    if not (lpm_fast_write_all(f, key, plen) if over else lpm_fast_write_main(f, key, plen)):
        lpm_fast_give_up(f)
        return
    f.changes += 1
    if f.changes > lpm_fast_count(f) // LPM_FAST_TIDY and mb_compact(f.table):
        f.changes = 0
