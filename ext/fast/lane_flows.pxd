# The flows of eight packets at once, where the processor can (AVX2), and what is known of their programs, as lane_flow() of abreast.pxd
# finds them one by one. Of what does not stand where nearly all do nothing is said, and it is looked for there.

from libc.stdint cimport uint32_t, uint64_t
from ext.fast.lanes cimport Eight

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    enum { LANE_FLOW = 32 };  /* bytes of a Flow */

    /* So many bytes farther. */
    SIGHT_AVX2 static inline void lane_farther(const uint8_t *p[LANES], __m256i by)
    {
        LANE_STORE(p, _mm256_add_epi64(LANE_LOAD(p), _mm256_cvtepu32_epi64(_mm256_castsi256_si128(by))));
        LANE_STORE(p + 4, _mm256_add_epi64(LANE_LOAD(p + 4), _mm256_cvtepu32_epi64(_mm256_extracti128_si256(by, 1))));
    }

    /* All bits where a flow of the packet's addresses and ports stands, so many bytes behind its first slot. */
    SIGHT_AVX2 static inline __m256i lanes_keyed(const Eight *e, int at)
    {
        __m256i key[4], right;
        sight_words(e->slot, at, key);
        right = _mm256_and_si256(_mm256_cmpeq_epi32(key[0], LANE_LOAD(e->src)), _mm256_cmpeq_epi32(key[1], LANE_LOAD(e->dst)));
        return _mm256_and_si256(right, _mm256_cmpeq_epi32(key[2], LANE_LOAD(e->ports)));
    }

    /* Bits of lanes whose flow stands in one of its first two slots, then in ``slot``, and whose program goes so; of others nothing is said.
       ``lanes``: of all programs, of which there is one; ``stamp``: of those that are filled in. */
    SIGHT_AVX2 static uint32_t lanes_find(Eight *e, const void *lanes, uint64_t stamp)
    {
        const __m256i first = lanes_keyed(e, 0), second = _mm256_andnot_si256(first, lanes_keyed(e, LANE_FLOW));
        __m256i rest[4], known[4], number, right;
        int k;
        lane_farther(e->slot, _mm256_and_si256(second, LANE_ALL(LANE_FLOW)));
        sight_words(e->slot, 16, rest);
        number = _mm256_and_si256(rest[3], LANE_ALL(0xffff));
        right = _mm256_andnot_si256(_mm256_cmpeq_epi32(number, _mm256_setzero_si256()), _mm256_or_si256(first, second));
        LANE_STORE(e->number, _mm256_subs_epu16(number, LANE_ALL(1)));
        lane_places(e->lane, lanes, LANE_LOAD(e->number), 6);
        sight_words(e->lane, LANE_PLACE_AT, known);
        right = _mm256_and_si256(right, _mm256_and_si256(_mm256_cmpeq_epi32(known[0], LANE_LOAD(e->low)),
                                                         _mm256_cmpeq_epi32(known[1], LANE_LOAD(e->high))));
        right = _mm256_and_si256(right, _mm256_and_si256(_mm256_cmpeq_epi32(known[2], LANE_ALL(stamp)),
                                                         _mm256_cmpeq_epi32(known[3], LANE_ALL(stamp >> 32))));
        LANE_STORE(e->refs[0], rest[0]);
        LANE_STORE(e->refs[1], rest[1]);
        LANE_STORE(e->serial, rest[2]);
        LANE_STORE(e->sport, _mm256_srli_epi32(rest[3], 16));
        for (k = 0; k < LANES; k++)
            memcpy(&e->way[k], e->lane[k] + LANE_WAY_AT, sizeof(e->way[k]));
        return LANE_BITS(right);
    }

    /* Of packets whose programs' numbers and connections are known all else that is found with them; ``ref`` only tells connections apart,
       and may take two for the same. ``lanes``: as in lanes_find(). */
    SIGHT_AVX2 static void lanes_found(Eight *e, const void *lanes)
    {
        const __m256 first = _mm256_castsi256_ps(_mm256_srli_epi64(LANE_LOAD(e->ct), 2));
        const __m256 then = _mm256_castsi256_ps(_mm256_srli_epi64(LANE_LOAD(e->ct + 4), 2));
        __m256i facts[4];
        int k;
        LANE_STORE(e->ref, _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(first, then, 0x88)), 0xd8));
        lane_places(e->lane, lanes, LANE_LOAD(e->number), 6);
        for (k = 0; k < LANES; k++)
            memcpy(&e->way[k], e->lane[k] + LANE_WAY_AT, sizeof(e->way[k]));
        sight_words(e->way, 0, facts);
        LANE_STORE(e->bits, facts[3]);
        LANE_STORE(e->status, _mm256_srli_epi32(facts[2], 16));
    }

    /* The connections of eight packets, that of TCP and the other one; bits of lanes that have another one, and of those whose ways have
       LANE_TOLD. */
    SIGHT_AVX2 static void lanes_connect(Eight *e, uint32_t *others, uint32_t *told)
    {
        const __m256i bits = sight_word(e->way, LANE_BITS_AT), turned = LANE_BIT(bits, 20);
        const __m256i first = LANE_LOAD(e->refs[0]), second = LANE_LOAD(e->refs[1]);
        LANE_STORE(e->refs[0], _mm256_blendv_epi8(first, second, turned));
        LANE_STORE(e->refs[1], _mm256_blendv_epi8(second, first, turned));
        *others = LANE_BITS(_mm256_slli_epi32(bits, 31 - 28));
        *told = LANE_BITS(_mm256_slli_epi32(bits, 31 - 27));
    }
    #else
    static inline void lanes_found(Eight *e, const void *lanes) { (void)e; (void)lanes; }
    static inline void lanes_connect(Eight *e, uint32_t *others, uint32_t *told) { (void)e; *others = *told = 0; }
    static inline uint32_t lanes_find(Eight *e, const void *lanes, uint64_t stamp) { (void)e; (void)lanes; (void)stamp; return 0; }
    #endif
    """
    void lanes_found(Eight *e, const void *lanes) noexcept nogil
    void lanes_connect(Eight *e, uint32_t *others, uint32_t *told) noexcept nogil
    uint32_t lanes_find(Eight *e, const void *lanes, uint64_t stamp) noexcept nogil
