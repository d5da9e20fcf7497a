# Chained hash table whose nodes live inside the objects they index: neighbours, FDB, conntrack, ...
#
# A node carries its hash; what the key is, only the caller knows: it walks the nodes of equal hash.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    HTAB_FIRST = 8  # buckets of a fresh table; doubled when nodes outnumber them

cdef struct HNode:
    HNode *next
    uint64_t hash

cdef struct HTab:
    HNode **bucket
    uint32_t mask
    uint32_t count


cdef inline HNode *htab_reversed(HNode *node) noexcept nogil:
    cdef HNode *back = NULL
    cdef HNode *after
    while node != NULL:
        after = node.next
        node.next = back
        back = node
        node = after
    return back


cdef inline void htab_grow(HTab *t) noexcept nogil:
    cdef uint32_t i, n = (t.mask + 1) * 2
    cdef HNode **bucket = <HNode **>calloc(n, sizeof(HNode *))
    cdef HNode *node
    cdef HNode *after
    if bucket == NULL:
        return  # longer chains, same answers
    for i in range(t.mask + 1):
        node = htab_reversed(t.bucket[i])  # pushed to the front one by one, they come out in their old order
        while node != NULL:
            after = node.next
            node.next = bucket[node.hash & (n - 1)]
            bucket[node.hash & (n - 1)] = node
            node = after
    free(t.bucket)
    t.bucket = bucket
    t.mask = n - 1


cdef inline bint htab_insert(HTab *t, HNode *node, uint64_t hash) noexcept nogil:
    """False when memory is out."""
    if t.bucket == NULL:
        t.bucket = <HNode **>calloc(HTAB_FIRST, sizeof(HNode *))
        if t.bucket == NULL:
            return False
        t.mask = HTAB_FIRST - 1
    elif t.count > t.mask:
        htab_grow(t)
    node.hash = hash
    node.next = t.bucket[hash & t.mask]
    t.bucket[hash & t.mask] = node
    t.count += 1
    return True


cdef inline HNode *htab_first(const HTab *t, uint64_t hash) noexcept nogil:
    cdef HNode *node
    if t.bucket == NULL:
        return NULL
    node = t.bucket[hash & t.mask]
    while node != NULL and node.hash != hash:
        node = node.next
    return node


cdef inline HNode *htab_next(HNode *node) noexcept nogil:
    """The next node of the same hash."""
    cdef uint64_t hash = node.hash
    node = node.next
    while node != NULL and node.hash != hash:
        node = node.next
    return node


cdef inline HNode *htab_step(const HTab *t, const HNode *node) noexcept nogil:
    """The node after ``node`` in the order of the buckets; after NULL the first one. NULL: that was the last."""
    cdef uint64_t i = 0
    if t.bucket == NULL:
        return NULL
    if node != NULL:
        if node.next != NULL:
            return node.next
        i = (node.hash & t.mask) + 1
    while i <= t.mask:
        if t.bucket[i] != NULL:
            return t.bucket[i]
        i += 1
    return NULL


cdef inline void htab_free_all(HTab *t) noexcept nogil:
    """Free the nodes of a table that own nothing else, and empty it."""
    cdef HNode *node = htab_step(t, NULL)
    cdef HNode *after
    while node != NULL:
        after = htab_step(t, node)
        free(node)
        node = after
    htab_free(t)


cdef inline void htab_remove(HTab *t, HNode *node) noexcept nogil:
    cdef HNode **at
    if t.bucket == NULL:
        return
    at = &t.bucket[node.hash & t.mask]
    while at[0] != NULL:
        if at[0] == node:
            at[0] = node.next
            t.count -= 1
            return
        at = &at[0].next


cdef inline void htab_free(HTab *t) noexcept nogil:
    """Frees the buckets; the nodes are their owners'."""
    free(t.bucket)
    t.bucket = NULL
    t.mask = t.count = 0
