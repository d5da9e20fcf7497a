# Records of one size in memory that only grows: a record never moves, and its memory is never anything else's until the end.
#
# Slab k holds SLAB_FIRST << k records, so that a small table is small and the largest has few slabs.

from libc.stdint cimport uint8_t, uint32_t
from ext.tables.memory cimport memory_give, memory_take

cdef enum:
    SLAB_FIRST_BITS = 3
    SLAB_FIRST = 1 << SLAB_FIRST_BITS
    SLABS_MAX = 27  # 2^30 records

cdef struct Slabs:
    uint8_t *slab[SLABS_MAX]
    uint32_t size  # bytes of a record
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


cdef inline void *slab_at(const Slabs *s, uint32_t i) noexcept nogil:
    """Record ``i``, which has been handed out."""
    cdef uint32_t place = i + SLAB_FIRST
    cdef int bit = slab_highest_bit(place)
    return s.slab[bit - SLAB_FIRST_BITS] + <size_t>(place - (<uint32_t>1 << bit)) * s.size


cdef inline uint32_t slab_number(const Slabs *s, const void *record) noexcept nogil:
    """The number of a record that has been handed out. Most records are in the last slabs."""
    cdef int k = slab_highest_bit(s.used + SLAB_FIRST - 1) - SLAB_FIRST_BITS
    cdef size_t offset
    while True:
        offset = <size_t>(<const uint8_t *>record - s.slab[k])
        if <const uint8_t *>record >= s.slab[k] and offset < (<size_t>SLAB_FIRST << k) * s.size:
            return (<uint32_t>SLAB_FIRST << k) - SLAB_FIRST + <uint32_t>(offset // s.size)
        k -= 1


cdef inline bint slab_more(Slabs *s) noexcept nogil:
    """Hand out one more record, number ``used - 1``, all zeros. False: memory is out."""
    cdef uint32_t place = s.used + SLAB_FIRST
    cdef int k = slab_highest_bit(place) - SLAB_FIRST_BITS
    if k >= SLABS_MAX:
        return False
    if s.slab[k] == NULL:
        s.slab[k] = <uint8_t *>memory_take((<size_t>SLAB_FIRST << k) * s.size)
        if s.slab[k] == NULL:
            return False
    s.used += 1
    return True


cdef inline void slabs_free(Slabs *s) noexcept nogil:
    cdef int k
    for k in range(SLABS_MAX):
        memory_give(s.slab[k], (<size_t>SLAB_FIRST << k) * s.size)
        s.slab[k] = NULL
    s.used = 0
