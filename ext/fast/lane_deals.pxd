# Eight packets at once are dealt to the threads that their connections belong to, and taken up by these, where the processor can (AVX2);
# see dealt.pxd.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from ext.fast.lanes cimport Eight

cdef extern from *:
    """
    enum { DRAWS_AT = 16 };   /* in Eight.drawn: above the how manieth of its counter's in this part of the frames, the counter as in ProgramFacts */
    enum { DEAL_SHARD = 7 };  /* bit of a CtRef from which on it says whose the connection is: 32 that lie side by side are one thread's */

    /* Packets that are dealt, in order. Of each array LANES more can be written than there are packets. */
    typedef struct {
        uint32_t *place;    /* of the frame */
        uint32_t *number;   /* of the program */
        uint32_t *serial;   /* of both connections, as in the flow */
        uint32_t *ref;      /* of the connection */
        uint32_t *sport;    /* as in Flow, NULL: nobody asks; and so */
        uint32_t *drawn;    /* what was drawn for the packet */
        uint32_t n;
    } Deal;

    #define DEAL_FIELDS 6

    /* By bits of lanes: the numbers of these in order, a byte each; behind them that of the first one. */
    static void deal_orders(uint64_t order[1 << LANES])
    {
        int bits, k, n;
        for (bits = 1; bits < 1 << LANES; bits++) {
            order[bits] = 0x0101010101010101u * (uint64_t)__builtin_ctz((unsigned)bits);
            for (k = n = 0; k < LANES; k++) {
                if (bits >> k & 1) {
                    order[bits] = (order[bits] & ~((uint64_t)0xff << 8 * n)) | (uint64_t)k << 8 * n;
                    n++;
                }
            }
        }
        order[0] = 0;
    }

    /* The first packet stands in for those that the last eight lacks. */
    static void deal_ends(Deal *d)
    {
        uint32_t *const field[DEAL_FIELDS] = {d->place, d->number, d->serial, d->ref, d->sport, d->drawn};
        int i, k;
        for (i = 0; i < (d->sport ? DEAL_FIELDS : DEAL_FIELDS - 2) && d->n; i++)
            for (k = 0; k < LANES; k++)
                field[i][d->n + k] = field[i][0];
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    /* Bits of lanes whose connections are the second one's of two threads. */
    SIGHT_AVX2 static uint32_t lanes_second(const uint32_t *ref)
    {
        return LANE_BITS(_mm256_slli_epi32(LANE_LOAD(ref), 31 - DEAL_SHARD));
    }

    /* The later ones of times. */
    SIGHT_AVX2 static inline __m256i deal_later(__m256i a, __m256i b)
    {
        return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(b, a));
    }

    /* The virtual times of frames that are due at ``times``, and not before ``least``; how many there are before the first one that is
       earlier than one before it, or than ``now``. */
    SIGHT_AVX2 static uint32_t lanes_in_time(Eight *e, const int64_t *times, int64_t least, int64_t now)
    {
        const __m256i first = deal_later(LANE_SOME(times), _mm256_set1_epi64x(least));
        const __m256i then = deal_later(LANE_SOME(times + 4), _mm256_set1_epi64x(least));
        const __m256i before = _mm256_blend_epi32(_mm256_permute4x64_epi64(first, 0x90), _mm256_set1_epi64x(now), 0x03);
        const __m256i between = _mm256_blend_epi32(_mm256_permute4x64_epi64(then, 0x90), _mm256_permute4x64_epi64(first, 0xff), 0x03);
        const uint32_t low = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(before, first)));
        const uint32_t high = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(between, then)));
        LANE_STORE(e->due, first);
        LANE_STORE(e->due + 4, then);
        return first_of(~(low | high << 4));
    }

    /* The virtual times of packets whose frames have these places. */
    SIGHT_AVX2 static void lanes_due_at(Eight *e, const int64_t *times, const uint32_t *place, int64_t least)
    {
        const __m256i at = LANE_SOME(place), now = _mm256_set1_epi64x(least);
        const __m256i first = _mm256_i32gather_epi64((const long long *)times, _mm256_castsi256_si128(at), 8);
        const __m256i then = _mm256_i32gather_epi64((const long long *)times, _mm256_extracti128_si256(at, 1), 8);
        LANE_STORE(e->due, deal_later(first, now));
        LANE_STORE(e->due + 4, deal_later(then, now));
    }

    /* What is drawn for tunnels, where ``draw`` is the hash that it depends on. ``before``: as in Tally; one more can be read. */
    SIGHT_AVX2 static void lanes_draw(Eight *e, const uint16_t *before)
    {
        const __m256i drawn = LANE_LOAD(e->drawn), none = _mm256_cmpeq_epi32(drawn, _mm256_setzero_si256());
        const __m256i counter = _mm256_subs_epu16(_mm256_srli_epi32(drawn, DRAWS_AT), LANE_ALL(1));
        const __m256i n = _mm256_and_si256(_mm256_add_epi32(_mm256_i32gather_epi32((const int *)before, counter, 2), drawn), LANE_ALL(0xffff));
        const __m256i first = _mm256_add_epi64(LANE_LOAD(e->draw), _mm256_cvtepu32_epi64(_mm256_castsi256_si128(n)));
        const __m256i then = _mm256_add_epi64(LANE_LOAD(e->draw + 4), _mm256_cvtepu32_epi64(_mm256_extracti128_si256(n, 1)));
        LANE_STORE(e->draw, _mm256_andnot_si256(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(none)), first));
        LANE_STORE(e->draw + 4, _mm256_andnot_si256(_mm256_cvtepi32_epi64(_mm256_extracti128_si256(none, 1)), then));
    }

    #define DEAL_ADD(to, from) _mm256_storeu_si256((__m256i *)((to) + d->n), _mm256_permutevar8x32_epi32(LANE_LOAD(from), by))

    /* Packets of lanes, ``bits`` in this ``order``, are dealt; the frame of lane 0 has this place. */
    SIGHT_AVX2 static void lanes_deal(Deal *d, const Eight *e, const uint32_t *ref, uint32_t place, uint32_t bits, uint64_t order)
    {
        const __m256i by = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
        _mm256_storeu_si256((__m256i *)(d->place + d->n), _mm256_add_epi32(by, LANE_ALL(place)));
        DEAL_ADD(d->number, e->number);
        DEAL_ADD(d->serial, e->serial);
        DEAL_ADD(d->ref, ref);
        if (d->sport) {
            DEAL_ADD(d->sport, e->sport);
            DEAL_ADD(d->drawn, e->drawn);
        }
        d->n += (uint32_t)__builtin_popcount(bits);
    }

    /* Up to eight packets from number ``first`` on are taken up. */
    SIGHT_AVX2 static void lanes_take(Eight *e, const Deal *d, uint32_t first, const void *lanes)
    {
        const __m256i number = LANE_SOME(d->number + first);
        LANE_STORE(e->number, number);
        LANE_STORE(e->serial, LANE_SOME(d->serial + first));
        LANE_STORE(e->ref, LANE_SOME(d->ref + first));
        if (d->sport) {
            LANE_STORE(e->sport, LANE_SOME(d->sport + first));
            LANE_STORE(e->drawn, LANE_SOME(d->drawn + first));
        }
        lane_places(e->lane, lanes, number, 6);
        e->n = d->n - first < LANES ? d->n - first : LANES;
        e->wrote = 0;
    }
    #else
    static inline uint32_t lanes_second(const uint32_t *ref) { (void)ref; return 0; }
    static inline uint32_t lanes_in_time(Eight *e, const int64_t *times, int64_t least, int64_t now)
    {
        (void)e; (void)times; (void)least; (void)now;
        return 0;
    }
    static inline void lanes_due_at(Eight *e, const int64_t *times, const uint32_t *place, int64_t least)
    {
        (void)e; (void)times; (void)place; (void)least;
    }
    static inline void lanes_draw(Eight *e, const uint16_t *before) { (void)e; (void)before; }
    static inline void lanes_deal(Deal *d, const Eight *e, const uint32_t *ref, uint32_t place, uint32_t bits, uint64_t order)
    {
        (void)d; (void)e; (void)ref; (void)place; (void)bits; (void)order;
    }
    static inline void lanes_take(Eight *e, const Deal *d, uint32_t first, const void *lanes) { (void)e; (void)d; (void)first; (void)lanes; }
    #endif
    """
    enum:
        DEAL_FIELDS
        DEAL_SHARD
        DRAWS_AT

    ctypedef struct Deal:
        uint32_t *place
        uint32_t *number
        uint32_t *serial
        uint32_t *ref
        uint32_t *sport
        uint32_t *drawn
        uint32_t n

    void deal_ends(Deal *d) noexcept nogil
    void deal_orders(uint64_t *order) noexcept nogil
    uint32_t lanes_second(const uint32_t *ref) noexcept nogil
    uint32_t lanes_in_time(Eight *e, const int64_t *times, int64_t least, int64_t now) noexcept nogil
    void lanes_due_at(Eight *e, const int64_t *times, const uint32_t *place, int64_t least) noexcept nogil
    void lanes_draw(Eight *e, const uint16_t *before) noexcept nogil
    void lanes_deal(Deal *d, const Eight *e, const uint32_t *ref, uint32_t place, uint32_t bits, uint64_t order) noexcept nogil
    void lanes_take(Eight *e, const Deal *d, uint32_t first, const void *lanes) noexcept nogil
