# Which connection has a tuple, and in which direction: a hash table in lines of memory that are read as a whole.
#
# A line holds references and, of each one's hash, a tag: who is not there is known not to be without a look at any connection, and what
# has to be read for a packet of a new connection is one line. A tuple whose line is full goes to the next one with room, which notes how
# far that is; the lines it passed on its way count it. When lines become twice as many, a bit of the tag says which half a tuple goes to,
# and the tag is a bit shorter from then on, until it would be too short and is made anew.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from ext.tables.memory cimport memory_give, memory_take_whole
from ext.wire.bytes cimport ask_for, rarely

cdef enum:
    LINE_TUPLES = 10
    LINE_LOAD = 9  # of them, on the average, before there are more lines
    LINES_FIRST_BITS = 2
    TAG_BITS = 16
    TAG_LEAST = 10  # bits, below which tags are made anew: in tables of 2^9, 2^16 and 2^23 lines
    ASTRAY_BITS = 2
    ASTRAY_FAR = 3  # lines, or more
    PASSED_AT = LINE_TUPLES * ASTRAY_BITS
    PASSED_ONE = 1 << PASSED_AT
    ASTRAY_ALL = PASSED_ONE - 1
    PASSED_LOST = 0xfff << PASSED_AT  # more than can be counted: they are counted anew when lines become more

cdef struct TupleLine:
    uint16_t tag[LINE_TUPLES]
    # By place: how many lines before is this one's own line. Above that: tuples of this line and of those before that have gone on to
    # the next one.
    uint32_t strays
    uint32_t ref[LINE_TUPLES]  # CtRef, with the direction; 0: free

cdef struct CtTuples:
    TupleLine *line  # NULL: none yet
    uint64_t mask  # of a line's number
    int bits  # there are 1 << bits lines
    int tag_bits
    uint32_t tag_mask
    uint32_t count
    uint64_t room  # that many before there are more lines

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* Bit by bit: which of ten tags are this one? */
    static inline uint32_t tags_equal(const uint16_t *tag, uint16_t wanted)
    {
    #if defined(__SSE2__)
        __m128i equal = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)tag), _mm_set1_epi16((short)wanted));
        uint32_t found = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128()));
        return found | (uint32_t)(tag[8] == wanted) << 8 | (uint32_t)(tag[9] == wanted) << 9;
    #else
        uint32_t found = 0;
        int i;
        for (i = 0; i < 10; i++)
            found |= (uint32_t)(tag[i] == wanted) << i;
        return found;
    #endif
    }

    /* The first of ten references that is 0, or 10. */
    static inline int refs_vacant(const uint32_t *ref)
    {
    #if defined(__SSE2__)
        __m128i low = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)ref), _mm_setzero_si128());
        __m128i high = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(ref + 4)), _mm_setzero_si128());
        uint32_t free = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128()));
        return __builtin_ctz(free | (uint32_t)(ref[8] == 0) << 8 | (uint32_t)(ref[9] == 0) << 9 | 1u << 10);
    #else
        int k = 0;
        while (k < 10 && ref[k])
            k++;
        return k;
    #endif
    }

    static inline int tags_first(uint32_t found)
    {
        return __builtin_ctz(found);
    }
    """
    uint32_t tags_equal(const uint16_t *tag, uint16_t wanted) noexcept nogil
    int refs_vacant(const uint32_t *ref) noexcept nogil
    int tags_first(uint32_t found) noexcept nogil  # ``found`` is not 0


cdef inline size_t lines_size(const CtTuples *h) noexcept nogil:
    return sizeof(TupleLine) << h.bits


cdef inline uint16_t tuple_tag(const CtTuples *h, uint64_t hash) noexcept nogil:
    return <uint16_t>(<uint32_t>(hash >> h.bits) & h.tag_mask)


cdef inline TupleLine *line_at(const CtTuples *h, uint64_t number) noexcept nogil:
    """``number``: from its lowest bits on, as of a hash."""
    return &h.line[number & h.mask]


cdef inline bint lines_make(CtTuples *h, int bits, int tag_bits) noexcept nogil:
    """An empty table. False: memory is out, and nothing has changed."""
    cdef TupleLine *line = <TupleLine *>memory_take_whole(sizeof(TupleLine) << bits)
    if line == NULL:
        return False
    h.line = line
    h.bits = bits
    h.mask = (<uint64_t>1 << bits) - 1
    h.tag_bits = tag_bits
    h.tag_mask = (<uint32_t>1 << tag_bits) - 1
    h.count = 0
    h.room = <uint64_t>LINE_LOAD << bits
    return True


cdef inline void lines_free(CtTuples *h) noexcept nogil:
    if h.line != NULL:
        memory_give(h.line, lines_size(h))
    memset(h, 0, sizeof(CtTuples))


cdef inline void line_ahead(const CtTuples *h, uint64_t hash) noexcept nogil:
    """A tuple of this hash will be looked for."""
    if h.line != NULL:
        ask_for(line_at(h, hash))


cdef inline int line_vacant(const TupleLine *l) noexcept nogil:
    """A free place, or LINE_TUPLES."""
    return refs_vacant(l.ref)


cdef inline int line_astray(const TupleLine *l, int k) noexcept nogil:
    """How many lines before is the own line of the tuple at place ``k``? ASTRAY_FAR: so many, or more."""
    return l.strays >> ASTRAY_BITS * k & ASTRAY_FAR


cdef inline bint line_ends(const TupleLine *l) noexcept nogil:
    """Has no tuple gone on from here to the next line?"""
    return l.strays < PASSED_ONE


cdef inline void line_put(CtTuples *h, uint64_t number, uint16_t tag, uint32_t ref) noexcept nogil:
    """Into a table in which there is room: ``number`` is that of its own line."""
    cdef TupleLine *l = line_at(h, number)
    cdef int k = line_vacant(l)
    cdef uint32_t away = 0
    while rarely(k == LINE_TUPLES):
        if l.strays < PASSED_LOST:
            l.strays += PASSED_ONE
        away += 1
        l = line_at(h, number + away)
        k = line_vacant(l)
    l.tag[k] = tag
    l.ref[k] = ref
    l.strays = l.strays & ~(<uint32_t>ASTRAY_FAR << ASTRAY_BITS * k) | min(away, <uint32_t>ASTRAY_FAR) << ASTRAY_BITS * k
    h.count += 1


cdef inline int line_place(const TupleLine *l, uint32_t ref) noexcept nogil:
    """Where this reference is, or LINE_TUPLES."""
    cdef int k = 0
    while k < LINE_TUPLES and l.ref[k] != ref:
        k += 1
    return k


cdef inline void line_take(CtTuples *h, uint64_t hash, uint32_t ref) noexcept nogil:
    """Out of a table in which it is."""
    cdef uint64_t number = hash
    cdef TupleLine *l = line_at(h, number)
    cdef int k = line_place(l, ref)
    while k == LINE_TUPLES:
        if l.strays < PASSED_LOST:
            l.strays -= PASSED_ONE
        number += 1
        l = line_at(h, number)
        k = line_place(l, ref)
    l.ref[k] = 0
    h.count -= 1
