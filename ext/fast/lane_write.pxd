# Eight packets are written as they leave, where the processor can (AVX2). Lane by lane this is what shortcut.pxd writes.

from libc.stdint cimport uint64_t
from ext.fast.lanes cimport Eight

cdef extern from *:
    """
    /* What is needed to write packets that only their connections can say. */
    typedef struct {
        uint64_t draw[LANES];
        uint32_t ends[3][LANES];  /* source, destination and ports that they are translated to */
    } __attribute__((aligned(64))) LaneReply;

    #if defined(__x86_64__) && defined(__GNUC__)
    /* What a sum of 16-bit words loses where ``was`` goes and ``is`` comes, modulo 2^16 - 1. */
    SIGHT_AVX2 static inline __m256i lane_change(__m256i was, __m256i is)
    {
        return _mm256_add_epi32(sight_halves(lane_not(was)), sight_halves(is));
    }

    /* A checksum of 16 bits, patched as csum_patched() does. */
    SIGHT_AVX2 static inline __m256i lane_patched(__m256i check, __m256i change)
    {
        const __m256i half = LANE_ALL(0xffff);
        const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(half, _mm256_xor_si256(check, half)), change);
        return _mm256_xor_si256(lane_fold(sum), half);
    }

    /* 64-bit numbers times another one, modulo 2^64. */
    SIGHT_AVX2 static inline __m256i lane_times(__m256i a, uint64_t by)
    {
        const __m256i cross = _mm256_mullo_epi32(a, _mm256_set1_epi64x((long long)(by << 32 | by >> 32)));
        const __m256i high = _mm256_slli_epi64(_mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32)), 32);
        return _mm256_add_epi64(_mm256_mul_epu32(a, _mm256_set1_epi64x((long long)by)), high);
    }

    /* mix64() of hash.pxd. */
    SIGHT_AVX2 static inline __m256i lane_mixed(__m256i x)
    {
        x = lane_times(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)), 0xbf58476d1ce4e5b9u);
        x = lane_times(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)), 0x94d049bb133111ebu);
        return _mm256_xor_si256(x, _mm256_srli_epi64(x, 31));
    }

    /* Identifications of tunnels' packets: the lower 16 bits of draws. */
    SIGHT_AVX2 static inline __m256i lanes_drawn(const Eight *e)
    {
        const __m256i low = lane_mixed(LANE_LOAD(e->draw)), high = lane_mixed(LANE_LOAD(e->draw + 4));
        const __m256i both = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88));
        return _mm256_and_si256(_mm256_permute4x64_epi64(both, 0xd8), LANE_ALL(0xffff));
    }

    /* The headers of tunnels, tunnel_finish(): what differs from packet to packet. ``total``: of the inner packet. */
    SIGHT_AVX2 static inline void lanes_outer(Eight *e, __m256i src, __m256i dst, __m256i total)
    {
        const __m256i half = LANE_ALL(0xffff), n = LANE_LOAD(e->outer_total), length = lane_net16(n);
        const __m256i ident = lane_net16(lanes_drawn(e)), udp = lane_net16(_mm256_sub_epi32(n, LANE_ALL(20)));
        __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sight_halves(LANE_LOAD(e->push_sum)), length), ident);
        LANE_STORE(e->outer, _mm256_or_si256(length, _mm256_slli_epi32(ident, 16)));
        LANE_STORE(e->outer_check, _mm256_xor_si256(lane_fold(sum), half));
        /* a right checksum says what the rest of the inner packet sums up to */
        sum = _mm256_add_epi32(lane_less_pseudo(src, dst, total), _mm256_add_epi32(sight_halves(LANE_LOAD(e->udp_sum)), LANE_LOAD(e->sport)));
        sum = _mm256_xor_si256(lane_fold(_mm256_add_epi32(sum, _mm256_add_epi32(udp, udp))), half);
        sum = _mm256_or_si256(sum, _mm256_and_si256(_mm256_cmpeq_epi32(sum, _mm256_setzero_si256()), half));
        LANE_STORE(e->udp, _mm256_or_si256(udp, _mm256_slli_epi32(_mm256_and_si256(sum, LANE_BIT(LANE_LOAD(e->bits), 17)), 16)));
    }

    /* Are there lanes that are translated? */
    #define LANES_TRANSLATED(bits) (!_mm256_testz_si256(bits, LANE_ALL(LANE_SOURCE | LANE_DESTINATION)))

    /* Addresses and ports that connections say packets are translated to. */
    SIGHT_AVX2 static inline void lanes_ends(const Eight *e, __m256i bits, __m256i ends[3])
    {
        const uint8_t *const *ct = (const uint8_t *const *)e->ct;
        const __m256i back = LANE_BIT(bits, 19);
        __m256i there[2], answers[4];
        lane_pairs(ct, LANE_ENDS_AT, there);
        sight_words(ct, LANE_ENDS_AT + 8, answers);  /* and the ports of both */
        ends[0] = _mm256_blendv_epi8(answers[1], there[1], back);
        ends[1] = _mm256_blendv_epi8(answers[0], there[0], back);
        ends[2] = lane_swapped(_mm256_blendv_epi8(answers[3], answers[2], back));
    }

    /* Addresses and ports that packets leave with; at first as they come. */
    SIGHT_AVX2 static inline void lanes_translate(const __m256i ends[3], __m256i bits, __m256i *src, __m256i *dst, __m256i *ports)
    {
        const __m256i half = LANE_ALL(0xffff), source = LANE_BIT(bits, 16), destination = LANE_BIT(bits, 22);
        *src = _mm256_blendv_epi8(*src, ends[0], source);
        *dst = _mm256_blendv_epi8(*dst, ends[1], destination);
        *ports = _mm256_blendv_epi8(*ports, ends[2],
                                    _mm256_or_si256(_mm256_and_si256(source, half), _mm256_andnot_si256(half, destination)));
    }

    /* So many bytes in front of both, and nothing else. */
    SIGHT_AVX2 static inline void lane_head(uint8_t *to, const uint8_t *front, uint32_t n)
    {
        if (n >= 16) {
            copy_short(to - n, front - n, n);
        } else if (n >= 8) {
            memcpy(to - n, front - n, 8);
            memcpy(to - 8, front - 8, 8);
        }
    }

    /* The packet's first 32 bytes, which are ``head`` and ``more``, and all behind them; its TCP checksum, and all in front. ``bits``: as of
       the lane, ``shorter``: it has up to 64 bytes. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) void lane_write(const Eight *e, uint32_t k, uint32_t kept, uint32_t bits,
                                                                            int shorter, __m128i head, __m128i more)
    {
        const uint8_t *ip = e->ip[k], *way = e->way[k], *front = way + LANE_HEAD_AT + LANE_FRONT;
        const uint32_t n = e->length_out[k];
        uint8_t *to = e->to[k], *outer = to - raw16(way + LANE_BEFORE_AT);
        if (__builtin_expect(!shorter && n > 64, 0))
            memcpy(to + 32, ip + 32, n - 32);
        else
            LANE_COPY(to + n - 32, ip + n - 32);
        _mm_storeu_si128((__m128i *)to, head);
        _mm_storeu_si128((__m128i *)(to + 16), more);
        put_raw16(to + 36, e->new_check[k]);
        if (kept) {
            lane_head(to, front, kept - 1);
        } else {
            LANE_COPY(to - 32, front - 32);
            LANE_COPY(to - 64, front - 64);
            if (bits & LANE_LONG) {
                LANE_COPY(to - 96, front - 96);
                LANE_COPY(to - 128, front - 128);
            }
        }
        if (!(bits & LANE_PUSHES))
            return;
        memcpy(outer + 2, &e->outer[k], 4);
        put_raw16(outer + 10, e->outer_check[k]);
        if (bits & LANE_PUSHES_UDP) {
            put_raw16(outer + 20, e->sport[k]);
            memcpy(outer + 24, &e->udp[k], 4);
        }
    }

    /* Do all leave short, and in tunnels over UDP with no more headers than nearly all have? */
    SIGHT_AVX2 static inline int lanes_alike(const Eight *e, __m256i bits)
    {
        const __m256i asked = LANE_ALL(LANE_PUSHES | LANE_PUSHES_UDP | LANE_LONG), most = LANE_ALL(64);
        const __m256i other = _mm256_xor_si256(_mm256_and_si256(bits, asked), LANE_ALL(LANE_PUSHES | LANE_PUSHES_UDP));
        const __m256i longer = _mm256_cmpgt_epi32(LANE_LOAD(e->length_out), most), either = _mm256_or_si256(other, longer);
        return _mm256_testz_si256(either, either);
    }

    /* All of them, where nobody looks: lane_write() of each. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) void lanes_write_nowhere(const Eight *e, __m256i bits, const __m256i row[4], const __m256i more[4])
    {
        uint32_t k;
        if (lanes_alike(e, bits)) {
            for (k = 0; k < 4; k++) {
                lane_write(e, k, 0, LANE_PUSHES | LANE_PUSHES_UDP, 1, _mm256_castsi256_si128(row[k]), _mm256_castsi256_si128(more[k]));
                lane_write(e, k + 4, 0, LANE_PUSHES | LANE_PUSHES_UDP, 1, _mm256_extracti128_si256(row[k], 1),
                           _mm256_extracti128_si256(more[k], 1));
            }
            return;
        }
        for (k = 0; k < 4; k++) {
            lane_write(e, k, 0, e->bits[k], 0, _mm256_castsi256_si128(row[k]), _mm256_castsi256_si128(more[k]));
            lane_write(e, k + 4, 0, e->bits[k + 4], 0, _mm256_extracti128_si256(row[k], 1), _mm256_extracti128_si256(more[k], 1));
        }
    }

    SIGHT_AVX2 static inline __attribute__((always_inline)) void lanes_write_to(Eight *e, const __m256i *told)
    {
        const __m256i half = LANE_ALL(0xffff), byte = LANE_ALL(0xff), bits = LANE_LOAD(e->bits), w2 = LANE_LOAD(e->w[2]);
        const __m256i was_src = LANE_LOAD(e->src), was_dst = LANE_LOAD(e->dst), was_ports = LANE_LOAD(e->ports);
        const __m256i hops = _mm256_and_si256(bits, byte);
        __m256i src = was_src, dst = was_dst, ports = was_ports, check = _mm256_srli_epi32(w2, 16);
        __m256i row[4], more[4], ends[3], word, addresses, translated;
        const int nowhere = e->n - e->wrote == LANES && !e->placed;
        uint32_t k;
        if (e->n == e->wrote)
            return;
        if (LANES_TRANSLATED(bits)) {
            if (!told)
                lanes_ends(e, bits, ends);
            lanes_translate(told ? told : ends, bits, &src, &dst, &ports);
        }
        translated = _mm256_or_si256(LANE_BIT(bits, 16), LANE_BIT(bits, 22));
        addresses = _mm256_add_epi32(lane_change(was_src, src), lane_change(was_dst, dst));
        word = lane_patched(check, _mm256_add_epi32(addresses, _mm256_mullo_epi32(hops, LANE_ALL(0xfffe))));
        check = _mm256_blendv_epi8(check, word, _mm256_or_si256(translated, _mm256_cmpgt_epi32(hops, _mm256_setzero_si256())));
        word = _mm256_or_si256(_mm256_and_si256(_mm256_sub_epi32(w2, hops), byte), _mm256_and_si256(w2, LANE_ALL(0xff00)));
        lane_rows(LANE_LOAD(e->w[0]), LANE_LOAD(e->w[1]), _mm256_or_si256(word, _mm256_slli_epi32(check, 16)), src, row);
        lane_rows(dst, ports, LANE_LOAD(e->seq), LANE_LOAD(e->ack), more);
        check = _mm256_and_si256(LANE_LOAD(e->check), half);
        word = lane_patched(check, _mm256_add_epi32(addresses, lane_change(was_ports, ports)));
        LANE_STORE(e->new_check, _mm256_blendv_epi8(check, word, translated));
        if (!_mm256_testz_si256(bits, LANE_ALL(LANE_PUSHES)))
            lanes_outer(e, src, dst, LANE_LOAD(e->total));
        if (nowhere)
            lanes_write_nowhere(e, bits, row, more);
        for (k = 0; k < 4 && !nowhere; k++) {
            if (e->wrote <= k && k < e->n)
                lane_write(e, k, e->kept[k], e->bits[k], 0, _mm256_castsi256_si128(row[k]), _mm256_castsi256_si128(more[k]));
            if (e->wrote <= k + 4 && k + 4 < e->n)
                lane_write(e, k + 4, e->kept[k + 4], e->bits[k + 4], 0, _mm256_extracti128_si256(row[k], 1),
                           _mm256_extracti128_si256(more[k], 1));
        }
        e->wrote = e->n;
    }

    SIGHT_AVX2 static void lanes_write(Eight *e) { lanes_write_to(e, NULL); }

    SIGHT_AVX2 static void lanes_tell(const Eight *e, LaneReply *r)
    {
        const __m256i bits = LANE_LOAD(e->bits);
        __m256i ends[3];
        LANE_STORE(r->draw, LANE_LOAD(e->draw));
        LANE_STORE(r->draw + 4, LANE_LOAD(e->draw + 4));
        if (!LANES_TRANSLATED(bits))
            return;
        lanes_ends(e, bits, ends);
        LANE_STORE(r->ends[0], ends[0]);
        LANE_STORE(r->ends[1], ends[1]);
        LANE_STORE(r->ends[2], ends[2]);
    }

    SIGHT_AVX2 static void lanes_write_told(Eight *e, const LaneReply *r)
    {
        const __m256i ends[3] = {LANE_LOAD(r->ends[0]), LANE_LOAD(r->ends[1]), LANE_LOAD(r->ends[2])};
        LANE_STORE(e->draw, LANE_LOAD(r->draw));
        LANE_STORE(e->draw + 4, LANE_LOAD(r->draw + 4));
        lanes_write_to(e, ends);
    }
    #else
    static inline void lanes_tell(const Eight *e, LaneReply *r) { (void)e; (void)r; }
    static inline void lanes_write_told(Eight *e, const LaneReply *r) { (void)e; (void)r; }
    static inline void lanes_write(Eight *e) { (void)e; }
    #endif
    """
    ctypedef struct LaneReply:
        uint64_t draw[8]

    void lanes_write(Eight *e) noexcept nogil  # the packets of the first ``n`` lanes, but for those that are
    void lanes_tell(const Eight *e, LaneReply *r) noexcept nogil  # of packets that have been seen
    void lanes_write_told(Eight *e, const LaneReply *r) noexcept nogil  # lanes_write() with that
