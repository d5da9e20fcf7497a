# The tunnels that eight TCP segments come in, at once, where the processor can (AVX2): whether their outer headers are plain and whole, as
# tunnel_plain() of key.pxd asks for each. Of what is not plainly so nothing is said, and it is asked there.

from libc.stdint cimport uint32_t
from ext.fast.lanes cimport Eight

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    enum {
        OUTER_UDP = LANE_ETHER + 20,      /* where in the frame its header begins, behind an IP header without options */
        OUTER_OWN = OUTER_UDP + 8 + 4     /* and the second word of the tunnel's own header */
    };

    /* What all from the UDP header to the inner IP header sums up to, without the UDP header itself and the first word behind it. */
    SIGHT_AVX2 static inline __m256i outer_rest(const Eight *e)
    {
        __m256i sum = LANE_ALL(0x0008), link[4];
        uint32_t at;
        int k;
        sight_words(e->ip, -LANE_ETHER, link);
        for (k = 0; k < 3; k++)
            sum = _mm256_add_epi32(sum, sight_halves(link[k]));
        for (at = OUTER_OWN; at < e->at - LANE_ETHER; at += 4)
            sum = _mm256_add_epi32(sum, sight_halves(sight_word(e->frame, (int)at)));
        return sum;
    }

    /* Not 0 where a UDP header that says that there is a checksum has a wrong one, around an inner packet whose own is right: that says
       what the inner packet sums up to. ``src``, ``t``: words of the frame from the outer source address on. */
    SIGHT_AVX2 static inline __m256i outer_unsound(const Eight *e, __m256i src, const __m256i t[4])
    {
        const __m256i half = LANE_ALL(0xffff), none = _mm256_setzero_si256();
        const __m256i unsummed = _mm256_cmpeq_epi32(_mm256_srli_epi32(t[2], 16), none);
        __m256i sum = _mm256_add_epi32(sight_halves(src), sight_halves(t[0]));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sight_halves(t[1]), sight_halves(t[2])));
        sum = _mm256_add_epi32(_mm256_add_epi32(sum, sight_halves(t[3])), _mm256_add_epi32(outer_rest(e), LANE_ALL(0x1100)));
        sum = _mm256_add_epi32(sum, _mm256_and_si256(t[2], half));  /* the length stands in the pseudo header, too */
        sum = _mm256_add_epi32(sum, lane_less_pseudo(LANE_LOAD(e->src), LANE_LOAD(e->dst), LANE_LOAD(e->total)));
        return _mm256_andnot_si256(unsummed, _mm256_xor_si256(lane_fold(sum), half));
    }

    /* Bits of lanes, of which lanes_look() has said that their segments are plain, whose frames come in a tunnel over UDP to ``port``, as
       it stands in the packet, at the device of the first one; of others nothing is said. */
    SIGHT_AVX2 static uint32_t lanes_tunnelled(const Eight *e, uint32_t port)
    {
        const __m256i n = _mm256_sub_epi32(LANE_LOAD(e->length), LANE_ALL(LANE_ETHER)), high = LANE_LOAD(e->high);
        __m256i w[4], t[4], words[5], wrong, total;
        if (e->at < OUTER_OWN + LANE_ETHER || (e->at - OUTER_OWN - LANE_ETHER) % 4)
            return 0;
        sight_words(e->frame, LANE_ETHER, w);
        sight_words(e->frame, LANE_ETHER + 16, t);
        total = sight_second(w[0]);
        wrong = _mm256_xor_si256(_mm256_and_si256(LANE_LOAD(e->link[3]), LANE_ALL(0xffffff)), LANE_ALL(0x450008));
        wrong = _mm256_or_si256(wrong, _mm256_srli_epi32(_mm256_xor_si256(high, LANE_ALL(e->high[0])), LANE_DEVICE_AT));
        wrong = _mm256_or_si256(wrong, _mm256_and_si256(w[1], LANE_ALL(0xff3f0000)));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_and_si256(w[2], LANE_ALL(0xff00)), LANE_ALL(0x1100)));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_srli_epi32(t[1], 16), LANE_ALL(port)));
        wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi32(total, n));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_sub_epi32(total, LANE_ALL(e->at - LANE_ETHER)), LANE_LOAD(e->total)));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_sub_epi32(total, LANE_ALL(20)), lane_net16(t[2])));
        words[0] = w[0];
        words[1] = w[1];
        words[2] = w[2];
        words[3] = w[3];
        words[4] = t[0];
        wrong = _mm256_or_si256(wrong, _mm256_or_si256(sight_sum(words), outer_unsound(e, w[3], t)));
        return LANE_BITS(_mm256_cmpeq_epi32(wrong, _mm256_setzero_si256()));
    }
    #else
    static inline uint32_t lanes_tunnelled(const Eight *e, uint32_t port) { (void)e; (void)port; return 0; }
    #endif
    """
    uint32_t lanes_tunnelled(const Eight *e, uint32_t port) noexcept nogil
