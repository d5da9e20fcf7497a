# Records of one size in memory that only grows: a record never moves, and its memory is never anything else's until the end.
#
# A record is named by its place, a number from SLAB_FIRST on. Slab k holds the SLAB_FIRST << k places whose highest bit it is, so that
# a small table is small and the largest has few slabs.

from libc.stdint cimport uint8_t, uint32_t, uintptr_t
from ext.tables.memory cimport memory_give, memory_take

cdef enum:
    SLAB_FIRST_BITS = 3
    SLAB_FIRST = 1 << SLAB_FIRST_BITS
    SLABS_MAX = 27
    SLAB_BITS = SLAB_FIRST_BITS + SLABS_MAX  # of a place

cdef struct Slabs:
    uintptr_t origin[SLAB_BITS]  # by highest bit: where place 0 would be, were the slab continued down to it
    uint8_t *slab[SLABS_MAX]
    uint32_t used  # records handed out so far

cdef extern from *:
    """
    /* Position of the highest bit of x, which is not 0. */
    static inline int slab_highest_bit(uint32_t x)
    {
        return 31 - __builtin_clz(x);
    }
    """
    int slab_highest_bit(uint32_t x) noexcept nogil


cdef inline void *slab_at(const Slabs *s, uint32_t place, size_t size) noexcept nogil:
    """The record at a place that has been handed out; ``size``: bytes of a record, the same in all calls."""
    return <void *>(s.origin[slab_highest_bit(place)] + place * size)


cdef inline uint32_t slab_place(const Slabs *s, const void *record, size_t size) noexcept nogil:
    """The place of a record that has been handed out. Most records are in the last slabs."""
    cdef int k = slab_highest_bit(s.used + SLAB_FIRST - 1) - SLAB_FIRST_BITS
    cdef size_t offset
    while True:
        offset = <uintptr_t>record - <uintptr_t>s.slab[k]  # of a record below the slab more than any size
        if offset < (<size_t>SLAB_FIRST << k) * size:
            return (<uint32_t>SLAB_FIRST << k) + <uint32_t>(offset // size)
        k -= 1


cdef inline uint32_t slab_more(Slabs *s, size_t size) noexcept nogil:
    """The place of one more record, all zeros. 0: memory is out."""
    cdef uint32_t place = s.used + SLAB_FIRST
    cdef int bit = slab_highest_bit(place), k = bit - SLAB_FIRST_BITS
    if k >= SLABS_MAX:
        return 0
    if s.slab[k] == NULL:
        s.slab[k] = <uint8_t *>memory_take((<size_t>SLAB_FIRST << k) * size)
        if s.slab[k] == NULL:
            return 0
        s.origin[bit] = <uintptr_t>s.slab[k] - (<size_t>SLAB_FIRST << k) * size
    s.used += 1
    return place


cdef inline void slabs_free(Slabs *s, size_t size) noexcept nogil:
    cdef int k
    for k in range(SLABS_MAX):
        memory_give(s.slab[k], (<size_t>SLAB_FIRST << k) * size)
        s.slab[k] = NULL
    s.used = 0
