# What the frames of a batch begin with, eight of them at once, where the processor can (AVX2): whether they are the ordinary frames that
# routed.pxd passes on without a look at anything else, and their destinations; and the first step of these through a table of routes.
#
# Nothing is decided here that is not decided one by one as well (routed_sees(), mb_find_many()): of what is not plainly so for all eight,
# nothing is said. Other processors say nothing of any.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.fast.sum cimport raw32

cdef extern from *:
    """
    #include <stdint.h>

    enum { SIGHT_EIGHT = 8, SIGHT_LEAST = 14 + 20 };

    /* Whom a frame has to be for, and what it must not say. */
    typedef struct {
        uint64_t mac;         /* of the device, and two bytes of zero, as they stand in the frame */
        const uint64_t *own;  /* 512 bits: of no source address that may be the namespace's own is its bit 0 */
        uint32_t most;        /* bytes of a frame */
        int32_t dev;          /* where it is injected */
    } Sight;

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    #define SIGHT_AVX2 __attribute__((target("avx2")))

    static inline int sight_is_wide(void) { return __builtin_cpu_supports("avx2"); }

    /* Sixteen bytes of each of eight packets, as four words of each. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) void sight_words(const uint8_t *const p[SIGHT_EIGHT], int at, __m256i w[4])
    {
        __m256i row[4], low[2], high[2];
        int k;
        for (k = 0; k < 4; k++)
            row[k] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p[k] + at))),
                                             _mm_loadu_si128((const __m128i *)(p[k + 4] + at)), 1);
        for (k = 0; k < 2; k++) {
            low[k] = _mm256_unpacklo_epi32(row[2 * k], row[2 * k + 1]);
            high[k] = _mm256_unpackhi_epi32(row[2 * k], row[2 * k + 1]);
        }
        w[0] = _mm256_unpacklo_epi64(low[0], low[1]);
        w[1] = _mm256_unpackhi_epi64(low[0], low[1]);
        w[2] = _mm256_unpacklo_epi64(high[0], high[1]);
        w[3] = _mm256_unpackhi_epi64(high[0], high[1]);
    }

    /* One word of each. */
    SIGHT_AVX2 static inline __m256i sight_word(const uint8_t *const p[SIGHT_EIGHT], int at)
    {
        return _mm256_setr_epi32((int)raw32(p[0] + at), (int)raw32(p[1] + at), (int)raw32(p[2] + at), (int)raw32(p[3] + at),
                                 (int)raw32(p[4] + at), (int)raw32(p[5] + at), (int)raw32(p[6] + at), (int)raw32(p[7] + at));
    }

    /* The sum of the halves of words. */
    SIGHT_AVX2 static inline __m256i sight_halves(__m256i w)
    {
        return _mm256_add_epi32(_mm256_and_si256(w, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32(w, 16));
    }

    /* The second halves, which are integers in network byte order. */
    SIGHT_AVX2 static inline __m256i sight_second(__m256i w)
    {
        return _mm256_shuffle_epi8(w, _mm256_set_epi8(-1, -1, 14, 15, -1, -1, 10, 11, -1, -1, 6, 7, -1, -1, 2, 3,
                                                      -1, -1, 14, 15, -1, -1, 10, 11, -1, -1, 6, 7, -1, -1, 2, 3));
    }

    /* Of five words of IPv4 headers without options: not 0 where the checksum is not right. */
    SIGHT_AVX2 static inline __m256i sight_sum(const __m256i w[5])
    {
        const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(_mm256_add_epi32(sight_halves(w[0]), sight_halves(w[1])), sight_halves(w[4])),
                                             _mm256_add_epi32(sight_halves(w[2]), sight_halves(w[3])));
        return _mm256_xor_si256(sight_halves(sum), _mm256_set1_epi32(0xffff));
    }

    /* Of Ethernet frames, whose IP headers begin at ``ip``: is any not IPv4 without options, or for another MAC address than that of
       ``want``, as far as ``asked`` asks for it? */
    SIGHT_AVX2 static inline int sight_others(const uint8_t *const ip[SIGHT_EIGHT], __m128i want, __m128i asked)
    {
        __m128i other = _mm_setzero_si128();
        int k;
        for (k = 0; k < SIGHT_EIGHT; k++)
            other = _mm_or_si128(other, _mm_xor_si128(_mm_loadu_si128((const __m128i *)(ip[k] - 14)), want));
        return !_mm_testz_si128(other, asked);
    }

    /* The bytes of both addresses that tell their class, the TTL, and the bit of the source address in ``own``: not all of them right? */
    SIGHT_AVX2 static inline __m256i sight_addresses(const Sight *s, __m256i ttl, __m256i source, __m256i destination)
    {
        const __m256i byte = _mm256_set1_epi32(0xff), one = _mm256_set1_epi8(1);
        const __m256i first = _mm256_or_si256(_mm256_and_si256(source, byte), _mm256_slli_epi32(_mm256_and_si256(destination, byte), 8));
        /* two bytes that are right, so that all four of a word are judged alike */
        const __m256i both = _mm256_or_si256(first, _mm256_set1_epi32(0x01010000)), less = _mm256_sub_epi8(both, one);
        const __m256i usual = _mm256_andnot_si256(_mm256_cmpeq_epi8(both, _mm256_set1_epi8(127)),
                                                  _mm256_cmpeq_epi8(_mm256_min_epu8(less, _mm256_set1_epi8((char)222)), less));
        const __m256i bit = _mm256_srli_epi32(_mm256_mullo_epi32(source, _mm256_set1_epi32((int)0x9e3779b1)), 32 - 9);
        const __m256i word = _mm256_srli_epi32(bit, 5);
        const __m256i low = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)s->own), word);
        const __m256i high = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)s->own + 1), word);
        const __m256i own = _mm256_blendv_epi8(low, high, _mm256_cmpgt_epi32(word, _mm256_set1_epi32(7)));
        const __m256i mine = _mm256_sllv_epi32(own, _mm256_sub_epi32(_mm256_set1_epi32(31), _mm256_and_si256(bit, _mm256_set1_epi32(31))));
        const __m256i last = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), _mm256_and_si256(ttl, byte));
        return _mm256_or_si256(_mm256_or_si256(_mm256_srai_epi32(mine, 31), last), _mm256_xor_si256(usual, _mm256_set1_epi8(-1)));
    }

    /* Are eight frames all ordinary? ``address`` gets their destinations. */
    SIGHT_AVX2 static inline int sight_eight(const Sight *s, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                                             const uint32_t *lengths, uint32_t *address)
    {
        static const uint8_t asked[16] = {255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255, 0};
        static const uint8_t plain[16] = {[12] = 0x08, [14] = 0x45};
        const __m128i want = _mm_or_si128(_mm_loadu_si128((const __m128i *)plain), _mm_cvtsi64_si128((long long)s->mac));
        const __m256i n = _mm256_loadu_si256((const __m256i *)lengths);
        __m256i wrong = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)devs), _mm256_set1_epi32(s->dev)), w[5], total;
        const uint8_t *ip[SIGHT_EIGHT];
        int k;
        wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi32(n, _mm256_set1_epi32((int)s->most)));
        wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi32(_mm256_set1_epi32(SIGHT_LEAST), n));
        if (!_mm256_testz_si256(wrong, wrong))
            return 0;
        for (k = 0; k < SIGHT_EIGHT; k++)
            ip[k] = data + starts[k] + 14;
        if (sight_others(ip, want, _mm_loadu_si128((const __m128i *)asked)))
            return 0;
        sight_words(ip, 0, w);
        w[4] = sight_word(ip, 16);
        total = sight_second(w[0]);
        wrong = _mm256_or_si256(sight_sum(w), _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(20), total),
                                                              _mm256_cmpgt_epi32(total, _mm256_sub_epi32(n, _mm256_set1_epi32(14)))));
        wrong = _mm256_or_si256(wrong, sight_addresses(s, w[2], w[3], w[4]));
        _mm256_storeu_si256((__m256i *)address, w[4]);
        return _mm256_testz_si256(wrong, wrong);
    }

    SIGHT_AVX2 static uint64_t sight_wide(const Sight *s, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                                          const uint32_t *lengths, uint32_t m, uint32_t *address)
    {
        uint64_t seen = 0;
        uint32_t k;
        for (k = 0; k + SIGHT_EIGHT <= m; k += SIGHT_EIGHT)
            if (sight_eight(s, data, devs + k, starts + k, lengths + k, address + k))
                seen |= (uint64_t)0xff << k;
        return seen;
    }

    SIGHT_AVX2 static int roots_wide(const int32_t *root, int bits, const uint32_t *addresses, uint32_t n, uint32_t *values)
    {
        const __m256i swap = _mm256_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
                                             12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        const __m128i shift = _mm_cvtsi32_si128(32 - bits);
        __m256i entry, all = _mm256_set1_epi32(-1);
        uint32_t k;
        for (k = 0; k < n; k += SIGHT_EIGHT) {
            entry = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(addresses + k)), swap);
            entry = _mm256_i32gather_epi32(root, _mm256_srl_epi32(entry, shift), 4);
            all = _mm256_and_si256(all, entry);
            _mm256_storeu_si256((__m256i *)(values + k), _mm256_sub_epi32(_mm256_set1_epi32(-2), entry));
        }
        return _mm256_movemask_ps(_mm256_castsi256_ps(all)) == 0xff;
    }
    #else
    static inline int sight_is_wide(void) { return 0; }

    static inline uint64_t sight_wide(const Sight *s, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                                      const uint32_t *lengths, uint32_t m, uint32_t *address)
    {
        (void)s; (void)data; (void)devs; (void)starts; (void)lengths; (void)m; (void)address;
        return 0;
    }

    static inline int roots_wide(const int32_t *root, int bits, const uint32_t *addresses, uint32_t n, uint32_t *values)
    {
        (void)root; (void)bits; (void)addresses; (void)n; (void)values;
        return 0;
    }
    #endif

    /* The latest of some times, 1 or more; without a branch for each. */
    static inline int64_t times_latest(const int64_t *times, uint64_t n)
    {
        int64_t latest = times[0];
        uint64_t i;
        for (i = 1; i < n; i++)
            latest = times[i] > latest ? times[i] : latest;
        return latest;
    }
    """
    const uint32_t SIGHT_EIGHT

    ctypedef struct Sight:
        uint64_t mac
        const uint64_t *own
        uint32_t most
        int32_t dev

    bint sight_is_wide() noexcept nogil  # can the processor?

    # bits of frames, of ``m``, that are known to be ordinary; of the others nothing is known. ``address`` has room for all of them
    uint64_t sight_wide(const Sight *s, const uint8_t *data, const int32_t *devs, const uint64_t *starts, const uint32_t *lengths,
                        uint32_t m, uint32_t *address) noexcept nogil

    # the values of ``n`` IPv4 addresses, a multiple of eight, if the table's first node knows all of them; else values that say nothing
    bint roots_wide(const int32_t *root, int bits, const uint32_t *addresses, uint32_t n, uint32_t *values) noexcept nogil
    int64_t times_latest(const int64_t *times, uint64_t n) noexcept nogil
