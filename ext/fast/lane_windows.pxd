# What the windows of eight connections become, where the processor can (AVX2). Lane by lane this is tcp_fits(), tcp_runs_on() and
# tcp_count_retransmission() of ct_tcp.pxd; and whether connections, tunnels and frames are as flows have noted them.

from libc.stdint cimport int64_t, uint32_t
from ext.fast.lanes cimport Eight
from ext.tables.ct_tcp cimport CtTcp, CtTcpSide

cdef extern from *:
    """
    #include <stddef.h>

    #if defined(__x86_64__) && defined(__GNUC__)
    _Static_assert(sizeof(CtTcpSide) == 18 && offsetof(CtTcpSide, scale) == 16 && offsetof(CtTcp, last_seq) == 36
                   && offsetof(CtTcp, last_win) == 48, "lanes read connections as they lie");

    enum { LANE_ESTABLISHED = 3, LANE_KIND_ACK = 3, LANE_SENT = 0x10, LANE_MAXACK = 0x20 };

    /* Negative where ``a`` is before ``b``, as sequence numbers are. */
    #define LANE_BEFORE(a, b) _mm256_sub_epi32(a, b)

    SIGHT_AVX2 static inline void lane_rows_kept(LaneRow *to, __m256i a, __m256i b, __m256i c, __m256i d)
    {
        __m256i row[4];
        int k;
        lane_rows(a, b, c, d, row);
        for (k = 0; k < 4; k++) {
            _mm_store_si128((__m128i *)&to[k], _mm256_castsi256_si128(row[k]));
            _mm_store_si128((__m128i *)&to[k + 4], _mm256_extracti128_si256(row[k], 1));
        }
    }

    /* The halves of words in the other order where ``turns`` says so. */
    SIGHT_AVX2 static inline __m256i lane_turned(__m256i w, __m256i turns)
    {
        return _mm256_blendv_epi8(w, _mm256_or_si256(_mm256_slli_epi32(w, 16), _mm256_srli_epi32(w, 16)), turns);
    }

    /* Scale and flags of both sides; in the upper half those of the receiver. ``back``: bits where that is the first one. */
    SIGHT_AVX2 static inline __m256i lane_flags(const Eight *e, __m256i back)
    {
        const uint8_t *const *ct = (const uint8_t *const *)e->ct;
        const __m256i first = sight_word(ct, LANE_TCP_AT + 16), other = sight_word(ct, LANE_TCP_AT + 18 + 16);
        return lane_turned(_mm256_blend_epi16(first, _mm256_slli_epi32(other, 16), 0xaa), back);
    }

    /* Two sides of each in the other order where ``back`` says so. */
    SIGHT_AVX2 static inline void lane_sides(__m256i a[4], __m256i b[4], __m256i back)
    {
        __m256i was;
        int k;
        for (k = 0; k < 4; k++) {
            was = a[k];
            a[k] = _mm256_blendv_epi8(was, b[k], back);
            b[k] = _mm256_blendv_epi8(b[k], was, back);
        }
    }

    /* What is read of segments, in host byte order. */
    typedef struct { __m256i seq, ack, end, win, options; } LaneSegments;

    SIGHT_AVX2 static inline void lanes_read(const Eight *e, LaneSegments *g)
    {
        const __m256i offset = LANE_LOAD(e->offset), header = _mm256_srli_epi32(_mm256_and_si256(offset, LANE_ALL(0xf0)), 2);
        g->seq = lane_swapped(LANE_LOAD(e->seq));
        g->ack = lane_swapped(LANE_LOAD(e->ack));
        g->end = _mm256_add_epi32(g->seq, _mm256_sub_epi32(LANE_LOAD(e->total), _mm256_add_epi32(header, LANE_ALL(20))));
        g->win = sight_second(offset);
        g->options = _mm256_cmpgt_epi32(header, LANE_ALL(20));
    }

    /* Negative where the connection is established, both ends have been heard as far as it matters, nothing is to be read in options, and
       the segment is in window, or let through although it is not: there all bits of ``misfits`` are set. ``s``, ``r``: end, max_end,
       max_win and max_ack of sender and receiver. */
    SIGHT_AVX2 static inline __m256i lanes_fit(const LaneSegments *g, const __m256i s[4], const __m256i r[4], __m256i flags, __m256i bits,
                                               __m256i stands, __m256i *misfits)
    {
        const __m256i one = LANE_ALL(1), none = _mm256_setzero_si256();
        const __m256i least = _mm256_sub_epi32(_mm256_sub_epi32(r[0], one), _mm256_max_epu32(s[2], LANE_ALL(66000)));
        const __m256i near = _mm256_or_si256(_mm256_cmpeq_epi32(r[2], none),
                                             LANE_BEFORE(_mm256_sub_epi32(_mm256_sub_epi32(s[0], r[2]), one), g->end));
        const __m256i blocks = _mm256_and_si256(g->options, _mm256_slli_epi32(flags, 31 - 25));
        const __m256i state = _mm256_cmpeq_epi32(_mm256_and_si256(stands, LANE_ALL(0xf << 16)), LANE_ALL(LANE_ESTABLISHED << 16));
        const __m256i usual = _mm256_andnot_si256(_mm256_cmpeq_epi32(s[2], none), _mm256_andnot_si256(blocks, state));
        const __m256i known = _mm256_and_si256(usual, LANE_BEFORE(g->seq, _mm256_add_epi32(s[1], one)));
        const __m256i liberal = _mm256_or_si256(_mm256_slli_epi32(flags, 31 - 11), _mm256_slli_epi32(bits, 31 - 26));
        __m256i fits = _mm256_and_si256(known, LANE_BEFORE(g->ack, _mm256_add_epi32(r[0], one)));
        fits = _mm256_and_si256(fits, _mm256_and_si256(near, LANE_BEFORE(least, g->ack)));
        *misfits = _mm256_srai_epi32(_mm256_andnot_si256(fits, _mm256_and_si256(known, liberal)), 31);
        return _mm256_or_si256(fits, *misfits);
    }

    /* What was, where a segment is let through that does not fit. */
    SIGHT_AVX2 static inline void lanes_keep(__m256i misfits, const __m256i *was, __m256i *is, int n)
    {
        for (int i = 0; i < n; i++)
            is[i] = _mm256_blendv_epi8(is[i], was[i], misfits);
    }

    /* The sides as they are behind it; the flags. */
    SIGHT_AVX2 static inline __m256i lanes_run_on(const LaneSegments *g, __m256i s[4], __m256i r[4], __m256i flags)
    {
        const __m256i win = _mm256_sllv_epi32(g->win, _mm256_and_si256(flags, LANE_ALL(0xff))), none = _mm256_setzero_si256();
        const __m256i sent = _mm256_srai_epi32(LANE_BEFORE(s[0], g->end), 31);
        const __m256i unheard = _mm256_cmpeq_epi32(_mm256_and_si256(flags, LANE_ALL(LANE_MAXACK << 8)), none);
        const __m256i later = _mm256_or_si256(unheard, _mm256_srai_epi32(LANE_BEFORE(s[3], g->ack), 31));
        const __m256i beyond = _mm256_andnot_si256(_mm256_cmpeq_epi32(r[2], none), _mm256_srai_epi32(LANE_BEFORE(s[1], g->end), 31));
        const __m256i reach = _mm256_add_epi32(g->ack, win);
        const __m256i moves = _mm256_srai_epi32(LANE_BEFORE(_mm256_sub_epi32(r[1], LANE_ALL(1)), reach), 31);
        const __m256i acked = _mm256_and_si256(_mm256_cmpeq_epi32(g->ack, r[0]), LANE_ALL(LANE_SENT << 24));
        s[2] = _mm256_max_epu32(s[2], win);
        s[0] = _mm256_blendv_epi8(s[0], g->end, sent);
        s[3] = _mm256_blendv_epi8(s[3], g->ack, later);
        r[2] = _mm256_add_epi32(r[2], _mm256_and_si256(beyond, _mm256_sub_epi32(g->end, s[1])));
        r[1] = _mm256_blendv_epi8(r[1], _mm256_add_epi32(g->ack, _mm256_max_epu32(win, LANE_ALL(1))), moves);
        flags = _mm256_or_si256(flags, _mm256_or_si256(LANE_ALL(LANE_MAXACK << 8), _mm256_and_si256(sent, LANE_ALL(LANE_SENT << 8))));
        return _mm256_andnot_si256(acked, flags);
    }

    /* What is kept of the segment as the last one; bits of what its connection's timeout depends on. ``q``: last_seq, last_ack, last_end,
       and the word from last_win on. */
    SIGHT_AVX2 static inline void lanes_note(Eight *e, const LaneSegments *g, __m256i flags, __m256i misfits, __m256i q[4])
    {
        const __m256i bits = LANE_LOAD(e->bits), none = _mm256_setzero_si256();
        const __m256i dir = _mm256_and_si256(_mm256_srli_epi32(bits, LANE_REPLY_AT), LANE_ALL(1));
        const __m256i most = _mm256_and_si256(_mm256_srli_epi32(bits, LANE_RETRANS_AT), LANE_ALL(0xff));
        const __m256i was = _mm256_or_si256(_mm256_and_si256(q[3], LANE_ALL(0xffff)),
                                            _mm256_and_si256(_mm256_srli_epi32(q[3], 7), LANE_ALL(1 << 16)));
        const __m256i is = _mm256_or_si256(g->win, _mm256_slli_epi32(dir, 16));
        const __m256i again = _mm256_and_si256(_mm256_and_si256(_mm256_cmpeq_epi32(q[0], g->seq), _mm256_cmpeq_epi32(q[1], g->ack)),
                                               _mm256_and_si256(_mm256_cmpeq_epi32(q[2], g->end), _mm256_cmpeq_epi32(was, is)));
        const __m256i before = _mm256_srli_epi32(q[3], 24), times = _mm256_and_si256(again, _mm256_add_epi32(before, LANE_ALL(1)));
        const __m256i retrans = _mm256_blendv_epi8(_mm256_and_si256(times, LANE_ALL(0xff)), before, misfits);
        const __m256i last[3] = {q[0], q[1], q[2]}, win = _mm256_blendv_epi8(g->win, _mm256_and_si256(q[3], LANE_ALL(0xffff)), misfits);
        const __m256i unacked = _mm256_and_si256(flags, LANE_ALL(LANE_SENT << 8 | LANE_SENT << 24));
        __m256i lives = _mm256_andnot_si256(_mm256_cmpgt_epi32(most, retrans), LANE_ALL(LANE_RETRANSMITS));
        lives = _mm256_or_si256(lives, _mm256_andnot_si256(_mm256_cmpeq_epi32(unacked, none), LANE_ALL(LANE_UNACKED)));
        lives = _mm256_or_si256(lives, _mm256_and_si256(_mm256_cmpeq_epi32(win, none), LANE_ALL(LANE_NO_WINDOW)));
        LANE_STORE(e->lives, lives);
        q[0] = g->seq;
        q[1] = g->ack;
        q[2] = g->end;
        lanes_keep(misfits, last, q, 3);
        q[3] = _mm256_or_si256(_mm256_or_si256(win, _mm256_and_si256(q[3], LANE_ALL(0xf << 16))),
                               _mm256_or_si256(_mm256_or_si256(LANE_ALL(LANE_KIND_ACK << 20), _mm256_slli_epi32(dir, 23)),
                                               _mm256_slli_epi32(retrans, 24)));
    }

    /* Not 0 where the frame is not as those that have been seen to go the program's way, or it cannot be said here how it is summed up.
       What it leaves with. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) __m256i lanes_strange(Eight *e)
    {
        const __m256i length = LANE_LOAD(e->length), total = LANE_LOAD(e->total), n = _mm256_sub_epi32(length, LANE_ALL(e->at));
        __m256i a[4], b[4], more[2], strange, trims, out;
        sight_words(e->lane, LANE_LINK_AT, a);
        sight_words(e->way, 0, b);
        lane_pairs(e->lane, LANE_WIDEST_AT, more);
        strange = _mm256_or_si256(_mm256_xor_si256(LANE_LOAD(e->link[0]), a[0]), _mm256_xor_si256(LANE_LOAD(e->link[1]), a[1]));
        strange = _mm256_or_si256(strange, _mm256_xor_si256(LANE_LOAD(e->link[2]), a[2]));
        /* length_as_known(): of a tunnel's packet, which ends where the inner one does, too */
        strange = _mm256_or_si256(strange, _mm256_and_si256(_mm256_cmpgt_epi32(length, a[3]),
                                                            _mm256_or_si256(_mm256_cmpgt_epi32(length, more[0]),
                                                                            _mm256_cmpgt_epi32(_mm256_add_epi32(total, LANE_ALL(e->at)), a[3]))));
        trims = LANE_BIT(b[3], 18);
        out = _mm256_blendv_epi8(n, total, trims);
        strange = _mm256_or_si256(strange, _mm256_and_si256(_mm256_xor_si256(out, total), LANE_BIT(b[3], 17)));
        LANE_STORE(e->length_out, out);
        LANE_STORE(e->push_sum, b[0]);
        LANE_STORE(e->udp_sum, b[1]);
        LANE_STORE(e->outer_total, _mm256_add_epi32(out, _mm256_and_si256(b[2], LANE_ALL(0xffff))));
        LANE_STORE(e->bits, b[3]);
        e->told = LANE_BITS(_mm256_slli_epi32(b[3], 31 - 27));
        LANE_STORE(e->status, _mm256_srli_epi32(b[2], 16));
        return strange;
    }

    /* Not 0 where the headers of the tunnel that a packet comes in may not be those that are known, as tunnel_is() of apply.pxd asks: all of
       it where one is not. */
    SIGHT_AVX2 static inline __m256i lanes_in_others(const Eight *e)
    {
        const __m256i sport = _mm256_xor_si256(sight_word(e->frame, LANE_ETHER + 20), LANE_LOAD(e->sport));
        __m256i other = _mm256_setzero_si256();
        int k;
        for (k = 0; k < LANES; k++) {
            const uint8_t *is = e->frame[k] + LANE_ETHER, *known = e->way[k] + LANE_POP_AT, *asked = e->way[k] + LANE_ASKED_AT;
            const __m256i first = _mm256_xor_si256(LANE_SOME(is), LANE_SOME(known));
            const __m256i then = _mm256_xor_si256(LANE_SOME(is + 32), LANE_SOME(known + 32));
            other = _mm256_or_si256(other, _mm256_and_si256(first, LANE_SOME(asked)));
            other = _mm256_or_si256(other, _mm256_and_si256(then, LANE_SOME(asked + 32)));
        }
        if (!_mm256_testz_si256(other, other))
            return LANE_ALL(-1);
        return _mm256_and_si256(_mm256_and_si256(sport, LANE_ALL(0xffff)), LANE_BIT(LANE_LOAD(e->bits), 21));
    }

    /* Eight.stands at a time up to ``latest``. Connections that end within the next seconds are left to others. ``others``: not 0 where the
       tunnel is another than known. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) uint32_t lanes_stand(const Eight *e, int64_t latest, __m256i others)
    {
        const __m256i half = LANE_ALL(0xffff), serial = lane_turned(LANE_LOAD(e->serial), LANE_BIT(LANE_LOAD(e->bits), 20));
        __m256i c[4], other;
        sight_words((const uint8_t *const *)e->ct, LANE_CT_AT, c);
        other = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi32(c[0], 16), serial), half);
        other = _mm256_or_si256(other, _mm256_xor_si256(_mm256_srli_epi32(c[1], 16), LANE_LOAD(e->status)));
        other = _mm256_or_si256(other, others);
        other = _mm256_cmpeq_epi32(other, _mm256_setzero_si256());
        return LANE_BITS(_mm256_and_si256(_mm256_cmpgt_epi32(c[3], LANE_ALL(latest >> 32)), other));
    }

    /* Bits of lanes whose other connection is simple, the one that was noted, as it was, and alive for seconds yet; of others nothing is
       said. */
    SIGHT_AVX2 static uint32_t lanes_simple(const Eight *e, int64_t latest)
    {
        const __m256i half = LANE_ALL(0xffff), known = sight_word(e->way, LANE_OTHER_AT);
        const __m256i serial = lane_turned(LANE_LOAD(e->serial), lane_not(LANE_BIT(sight_word(e->way, LANE_BITS_AT), 20)));
        const uint8_t *p[LANES] __attribute__((aligned(32)));
        __m256i c[4], other;
        int k;
        for (k = 0; k < LANES; k += 4) {
            other = LANE_LOAD(e->other + k);
            LANE_STORE(p + k, _mm256_blendv_epi8(other, LANE_LOAD(e->way + k), _mm256_cmpeq_epi64(other, _mm256_setzero_si256())));
        }
        sight_words(p, LANE_CT_AT, c);
        other = _mm256_or_si256(_mm256_xor_si256(_mm256_srli_epi32(c[0], 16), _mm256_and_si256(serial, half)),
                                _mm256_xor_si256(_mm256_srli_epi32(c[1], 16), _mm256_and_si256(known, half)));
        other = _mm256_cmpeq_epi32(other, _mm256_setzero_si256());
        other = _mm256_and_si256(other, LANE_BIT(known, 16));
        return LANE_BITS(_mm256_and_si256(other, _mm256_cmpgt_epi32(c[3], LANE_ALL(latest >> 32))));
    }

    /* Negative where lanes_fit() is, what its connection becomes is kept. */
    SIGHT_AVX2 static inline __attribute__((always_inline)) __m256i lanes_follow_windows(Eight *e)
    {
        const uint8_t *const *ct = (const uint8_t *const *)e->ct;
        LaneSegments g;
        __m256i s[4], r[4], q[4], side[8], flags, was, fits, misfits, back = LANE_BIT(LANE_LOAD(e->bits), 19);
        lanes_read(e, &g);
        sight_words(ct, LANE_TCP_AT, s);
        sight_words(ct, LANE_TCP_AT + 18, r);
        sight_words(ct, LANE_TCP_AT + 36, q);
        lane_sides(s, r, back);
        memcpy(side, s, sizeof(s));
        memcpy(side + 4, r, sizeof(r));
        was = flags = lane_flags(e, back);
        fits = lanes_fit(&g, s, r, flags, LANE_LOAD(e->bits), q[3], &misfits);
        flags = lanes_run_on(&g, s, r, flags);
        lanes_keep(misfits, side, s, 4);
        lanes_keep(misfits, side + 4, r, 4);
        flags = _mm256_blendv_epi8(flags, was, misfits);
        lanes_note(e, &g, flags, misfits, q);
        lane_sides(s, r, back);
        LANE_STORE(e->next_flags, lane_turned(flags, back));
        lane_rows_kept(e->next_side[0], s[0], s[1], s[2], s[3]);
        lane_rows_kept(e->next_side[1], r[0], r[1], r[2], r[3]);
        lane_rows_kept(e->next_last, q[0], q[1], q[2], q[3]);
        return fits;
    }

    SIGHT_AVX2 static uint32_t lanes_pass(Eight *e, int64_t latest)
    {
        const __m256i none = _mm256_setzero_si256(), strange = lanes_strange(e);
        e->stands = lanes_stand(e, latest, e->at != LANE_ETHER ? lanes_in_others(e) : none);
        return LANE_BITS(_mm256_and_si256(lanes_follow_windows(e), _mm256_cmpeq_epi32(strange, none)));
    }

    SIGHT_AVX2 static uint32_t lanes_known(Eight *e)
    {
        const __m256i strange = lanes_strange(e), none = _mm256_setzero_si256();
        const __m256i other = e->at != LANE_ETHER ? _mm256_or_si256(strange, lanes_in_others(e)) : strange;
        return LANE_BITS(_mm256_cmpeq_epi32(other, none));
    }

    SIGHT_AVX2 static uint32_t lanes_follow(Eight *e, int64_t latest)
    {
        e->stands = lanes_stand(e, latest, _mm256_setzero_si256());
        return LANE_BITS(lanes_follow_windows(e));
    }
    #else
    static inline uint32_t lanes_known(Eight *e) { (void)e; return 0; }
    static inline uint32_t lanes_follow(Eight *e, int64_t latest) { (void)e; (void)latest; return 0; }
    static inline uint32_t lanes_pass(Eight *e, int64_t latest) { (void)e; (void)latest; return 0; }
    static inline uint32_t lanes_simple(const Eight *e, int64_t latest) { (void)e; (void)latest; return 0; }
    #endif
    """
    uint32_t lanes_simple(const Eight *e, int64_t latest) noexcept nogil
    uint32_t lanes_pass(Eight *e, int64_t latest) noexcept nogil  # bits of lanes that go as nearly all do, as far as connections' windows tell
    # the same in two: bits of lanes whose frames and tunnels are as known; and of those whose connections let them through
    uint32_t lanes_known(Eight *e) noexcept nogil
    uint32_t lanes_follow(Eight *e, int64_t latest) noexcept nogil
