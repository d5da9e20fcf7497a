# TCP segments of a batch, eight of them at once, where the processor can (AVX2): whether they are short, plain and whole, so that nothing
# is left to be done but to read their keys.
#
# As in headers.pxd nothing is decided here that is not decided one by one as well (key_read() and packet_sound() of key.pxd).

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ext.fast.headers cimport sight_is_wide

cdef extern from *:
    """
    #include <stdint.h>

    enum {
        SEGMENT_LEAST = 20 + 20,     /* bytes of an IP packet */
        SEGMENT_APART = 20 + 16,     /* of them that are looked at word by word */
        SEGMENT_MOST = 20 + 16 + 32, /* behind these there may be 32 more */
        SEGMENT_FRAME = 114          /* bytes from the IP header on, with what lies behind the packet */
    };

    #if defined(__x86_64__) && defined(__GNUC__)
    /* Of TCP behind IPv4 headers without options: not 0 where its header is not whole, or it has other flags than ACK and those that go
       with anything. */
    SIGHT_AVX2 static inline __m256i segment_flags(__m256i word, __m256i n)
    {
        const __m256i header = _mm256_srli_epi32(_mm256_and_si256(word, _mm256_set1_epi32(0xf0)), 2);
        const __m256i flags = _mm256_xor_si256(_mm256_and_si256(word, _mm256_set1_epi32(0x3700)), _mm256_set1_epi32(0x1000));
        return _mm256_or_si256(flags, _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(20), header), _mm256_cmpgt_epi32(header, n)));
    }

    /* What the bytes from SEGMENT_APART on sum up to, in packets of ``total`` bytes. They are read as the last ones of 32 that end where
       the packet does; where its length is odd, they stand in the other halves of words. */
    SIGHT_AVX2 static inline __m256i segment_rest(const uint8_t *const ip[SIGHT_EIGHT], __m256i total)
    {
        static const uint8_t last[64] = {[32 ... 63] = 255};
        __m256i v[SIGHT_EIGHT], one, other;
        uint32_t n[SIGHT_EIGHT];
        int k;
        _mm256_storeu_si256((__m256i *)n, total);
        for (k = 0; k < SIGHT_EIGHT; k++)
            v[k] = sight_halves(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)(ip[k] + n[k] - 32)),
                                                 _mm256_loadu_si256((const __m256i *)(last + n[k] - SEGMENT_APART))));
        one = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
        other = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
        one = _mm256_add_epi32(_mm256_permute2x128_si256(one, other, 0x20), _mm256_permute2x128_si256(one, other, 0x31));
        return _mm256_sllv_epi32(one, _mm256_slli_epi32(_mm256_and_si256(total, _mm256_set1_epi32(1)), 3));
    }

    /* Are eight frames all such segments, whose IP headers begin at ``at``? */
    SIGHT_AVX2 static inline int segments_eight(const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, int at)
    {
        static const uint8_t asked[16] = {[12] = 255, 255, 255}, plain[16] = {[12] = 0x08, [14] = 0x45};
        const __m256i n = _mm256_loadu_si256((const __m256i *)lengths), half = _mm256_set1_epi32(0xffff);
        __m256i wrong = _mm256_cmpgt_epi32(_mm256_set1_epi32(at + SEGMENT_LEAST), n), w[5], t[4], total, l4, sum;
        const uint8_t *ip[SIGHT_EIGHT];
        int k;
        wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi32(n, _mm256_set1_epi32(at + SEGMENT_FRAME)));
        if (!_mm256_testz_si256(wrong, wrong))
            return 0;
        for (k = 0; k < SIGHT_EIGHT; k++)
            ip[k] = data + starts[k] + at;
        if (sight_others(ip, _mm_loadu_si128((const __m128i *)plain), _mm_loadu_si128((const __m128i *)asked)))
            return 0;
        sight_words(ip, 0, w);
        sight_words(ip, 20, t);
        w[4] = sight_word(ip, 16);
        total = sight_second(w[0]);
        l4 = _mm256_sub_epi32(total, _mm256_set1_epi32(20));
        wrong = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(SEGMENT_LEAST), total),
                                _mm256_cmpgt_epi32(total, _mm256_min_epi32(_mm256_set1_epi32(SEGMENT_MOST),
                                                                           _mm256_sub_epi32(n, _mm256_set1_epi32(at)))));
        /* no fragment, and TCP */
        wrong = _mm256_or_si256(wrong, _mm256_and_si256(w[1], _mm256_set1_epi32((int)0xff3f0000)));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_and_si256(w[2], _mm256_set1_epi32(0xff00)), _mm256_set1_epi32(0x0600)));
        wrong = _mm256_or_si256(wrong, _mm256_or_si256(sight_sum(w), segment_flags(t[3], l4)));
        if (!_mm256_testz_si256(wrong, wrong))
            return 0;
        sum = _mm256_add_epi32(_mm256_add_epi32(sight_halves(t[0]), sight_halves(t[1])),
                               _mm256_add_epi32(sight_halves(t[2]), sight_halves(t[3])));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sight_halves(w[3]), sight_halves(w[4])));
        /* the rest of the pseudo header: the protocol, and the length, which is less than 256 */
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_set1_epi32(0x0600), _mm256_slli_epi32(l4, 8)));
        sum = sight_halves(sight_halves(_mm256_add_epi32(sum, segment_rest(ip, total))));
        wrong = _mm256_xor_si256(sum, half);
        return _mm256_testz_si256(wrong, wrong);
    }

    SIGHT_AVX2 static uint32_t segments_wide(const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, uint32_t m, int at)
    {
        uint32_t seen = 0, k;
        for (k = 0; k + SIGHT_EIGHT <= m; k += SIGHT_EIGHT)
            if (segments_eight(data, starts + k, lengths + k, at))
                seen |= 0xffu << k;
        return seen;
    }
    #else
    static inline uint32_t segments_wide(const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, uint32_t m, int at)
    {
        (void)data; (void)starts; (void)lengths; (void)m; (void)at;
        return 0;
    }
    #endif
    """
    # bits of frames, of ``m``, 32 at most, that are known to hold, behind an Ethernet header that ends at ``at``, short TCP segments with
    # right checksums, without options of IP, fragments and other telling flags than ACK; of the others nothing is said
    uint32_t segments_wide(const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, uint32_t m, int at) noexcept nogil


cdef inline uint32_t segments_plain(const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, uint32_t m,
                                    int at) noexcept nogil:
    """The same whatever the processor can."""
    return segments_wide(data, starts, lengths, m, at) if sight_is_wide() else 0
