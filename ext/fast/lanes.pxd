# TCP segments of eight connections, abreast, where the processor can (AVX2): what the windows of their connections become, and the headers
# that they leave with. Lane by lane this is tcp_fits(), tcp_runs_on() and tcp_count_retransmission() of ct_tcp.pxd, and what shortcut.pxd
# writes; what takes another way than nearly all do is left to these.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from ext.fast.headers cimport sight_is_wide
from ext.tables.ct_tcp cimport CtTcp, CtTcpSide

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    enum {
        LANES = 8,
        LANE_RETRANSMITS = 1,  /* as often as its connection may */
        LANE_UNACKED = 2,      /* data of it, or of the other end, are not acknowledged */
        LANE_NO_WINDOW = 4     /* its sender takes no more */
    };

    typedef struct { uint32_t word[4]; } LaneRow;

    typedef struct {
        /* what is given: one of each connection at most */
        const uint8_t *ip[LANES];          /* IP header, of 20 bytes, before a TCP segment that has ACK and no other telling flag */
        const uint8_t *sender[LANES];      /* its connection: the side that has sent it, */
        const uint8_t *receiver[LANES];    /* the other, */
        const uint8_t *last[LANES];        /* and what is known of the last segment */
        uint32_t dir[LANES];
        uint32_t most_retrans[LANES];
        /* what lanes_pass() makes of it: of the connection, and the words of the packet */
        LaneRow next_sender[LANES], next_receiver[LANES], next_last[LANES];
        uint32_t next_flags[LANES];        /* scale and flags of the sender, above them those of the receiver */
        uint32_t lives[LANES];             /* LANE_* bits */
        uint32_t w[LANES][LANES];          /* words 0 to 5 of the packet, its TCP checksum, and its length */
        uint32_t seq[LANES], ack[LANES];   /* as they stand there */
        /* what is given besides, to write it */
        uint8_t *to[LANES];                /* where its IP header will stand */
        uint32_t src[LANES], dst[LANES], ports[LANES];  /* what they become */
        uint32_t translated[LANES];        /* any of these is another: all bits, or none */
        uint32_t hops[LANES];              /* that it loses */
        uint32_t total[LANES];             /* of the tunnel's packet that it will be in; the rest as in Program and Shortcut */
        uint32_t ident[LANES];
        uint32_t push_sum[LANES], udp_sum[LANES];
        uint32_t push_udp[LANES];          /* the tunnel's UDP header has a checksum: all bits, or none */
        uint32_t sport[LANES];
        /* what lanes_write() leaves to be put in place */
        uint32_t check[LANES];             /* TCP checksum */
        uint32_t outer[LANES];             /* of the tunnel's IP header: length and identification, */
        uint32_t outer_check[LANES];       /* and checksum */
        uint32_t udp[LANES];               /* of its UDP header: length and checksum */
    } __attribute__((aligned(32))) Lanes;

    #if defined(__x86_64__) && defined(__GNUC__)
    _Static_assert(sizeof(CtTcpSide) == 18 && offsetof(CtTcpSide, scale) == 16 && offsetof(CtTcp, last_seq) == 36
                   && offsetof(CtTcp, last_win) == 48, "lanes read connections as they lie");

    enum { LANE_ESTABLISHED = 3, LANE_KIND_ACK = 3, LANE_SACK = 0x02, LANE_SENT = 0x10, LANE_MAXACK = 0x20 };

    #define LANE_ALL(v) _mm256_set1_epi32((int)(v))
    #define LANE_LOAD(p) _mm256_load_si256((const __m256i *)(p))
    #define LANE_STORE(p, v) _mm256_store_si256((__m256i *)(p), v)

    /* The bytes of each word in the other order. */
    SIGHT_AVX2 static inline __m256i lane_swapped(__m256i w)
    {
        return _mm256_shuffle_epi8(w, _mm256_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
                                                      12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    }

    /* The lower halves in network byte order. */
    SIGHT_AVX2 static inline __m256i lane_net16(__m256i w)
    {
        return _mm256_srli_epi32(lane_swapped(w), 16);
    }

    /* A sum that is not 0 in 16 bits. */
    SIGHT_AVX2 static inline __m256i lane_fold(__m256i sum)
    {
        return sight_halves(sight_halves(sum));
    }

    SIGHT_AVX2 static inline __m256i lane_not(__m256i w)
    {
        return _mm256_xor_si256(w, _mm256_set1_epi8(-1));
    }

    /* Negative where ``a`` is before ``b``, as sequence numbers are. */
    #define LANE_BEFORE(a, b) _mm256_sub_epi32(a, b)

    /* Two words of each of eight packets. */
    SIGHT_AVX2 static inline void lane_pairs(const uint8_t *const p[LANES], int at, __m256i w[2])
    {
        __m256i row[4], low, high;
        int k;
        for (k = 0; k < 4; k++)
            row[k] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(p[k] + at))),
                                             _mm_loadl_epi64((const __m128i *)(p[k + 4] + at)), 1);
        low = _mm256_unpacklo_epi32(row[0], row[1]);
        high = _mm256_unpacklo_epi32(row[2], row[3]);
        w[0] = _mm256_unpacklo_epi64(low, high);
        w[1] = _mm256_unpackhi_epi64(low, high);
    }

    /* Four words of each as sixteen bytes of each: of lane k in the lower half of row k, of lane k + 4 in the upper one. */
    SIGHT_AVX2 static inline void lane_rows(__m256i a, __m256i b, __m256i c, __m256i d, __m256i row[4])
    {
        const __m256i ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
        const __m256i ab2 = _mm256_unpackhi_epi32(a, b), cd2 = _mm256_unpackhi_epi32(c, d);
        row[0] = _mm256_unpacklo_epi64(ab, cd);
        row[1] = _mm256_unpackhi_epi64(ab, cd);
        row[2] = _mm256_unpacklo_epi64(ab2, cd2);
        row[3] = _mm256_unpackhi_epi64(ab2, cd2);
    }

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

    /* Scale and flags of both sides. */
    SIGHT_AVX2 static inline __m256i lane_flags(const Lanes *l)
    {
        uint32_t f[LANES];
        int k;
        for (k = 0; k < LANES; k++)
            f[k] = raw16(l->sender[k] + 16) | (uint32_t)raw16(l->receiver[k] + 16) << 16;
        return _mm256_setr_epi32((int)f[0], (int)f[1], (int)f[2], (int)f[3], (int)f[4], (int)f[5], (int)f[6], (int)f[7]);
    }

    /* What is read of segments, in host byte order. */
    typedef struct { __m256i seq, ack, end, win, options; } LaneSegments;

    SIGHT_AVX2 static inline void lanes_read(Lanes *l, LaneSegments *g)
    {
        __m256i w[4], t[4], o[2], total, header;
        int k;
        sight_words(l->ip, 0, w);
        sight_words(l->ip, 16, t);
        lane_pairs(l->ip, 32, o);
        for (k = 0; k < 4; k++)
            LANE_STORE(l->w[k], w[k]);
        LANE_STORE(l->w[4], t[0]);
        LANE_STORE(l->w[5], t[1]);
        LANE_STORE(l->w[6], o[1]);
        total = sight_second(w[0]);
        LANE_STORE(l->w[7], total);
        LANE_STORE(l->src, w[3]);
        LANE_STORE(l->dst, t[0]);
        LANE_STORE(l->ports, t[1]);
        LANE_STORE(l->seq, t[2]);
        LANE_STORE(l->ack, t[3]);
        header = _mm256_srli_epi32(_mm256_and_si256(o[0], LANE_ALL(0xf0)), 2);
        g->seq = lane_swapped(t[2]);
        g->ack = lane_swapped(t[3]);
        g->end = _mm256_add_epi32(g->seq, _mm256_sub_epi32(total, _mm256_add_epi32(header, LANE_ALL(20))));
        g->win = sight_second(o[0]);
        g->options = _mm256_cmpgt_epi32(header, LANE_ALL(20));
    }

    /* Negative where the connection is established, both ends have been heard as far as it matters, nothing is to be read in options, and the
       segment is in window. ``s``, ``r``: end, max_end, max_win and max_ack of sender and receiver. */
    SIGHT_AVX2 static inline __m256i lanes_fit(const LaneSegments *g, const __m256i s[4], const __m256i r[4], __m256i flags, __m256i stands)
    {
        const __m256i one = LANE_ALL(1), none = _mm256_setzero_si256();
        const __m256i least = _mm256_sub_epi32(_mm256_sub_epi32(r[0], one), _mm256_max_epu32(s[2], LANE_ALL(66000)));
        const __m256i near = _mm256_or_si256(_mm256_cmpeq_epi32(r[2], none),
                                             LANE_BEFORE(_mm256_sub_epi32(_mm256_sub_epi32(s[0], r[2]), one), g->end));
        const __m256i blocks = _mm256_and_si256(g->options, _mm256_slli_epi32(flags, 31 - 25));
        const __m256i state = _mm256_cmpeq_epi32(_mm256_and_si256(stands, LANE_ALL(0xf << 16)), LANE_ALL(LANE_ESTABLISHED << 16));
        __m256i fits = _mm256_and_si256(LANE_BEFORE(g->seq, _mm256_add_epi32(s[1], one)),
                                        LANE_BEFORE(g->ack, _mm256_add_epi32(r[0], one)));
        fits = _mm256_and_si256(fits, _mm256_and_si256(near, LANE_BEFORE(least, g->ack)));
        fits = _mm256_and_si256(fits, _mm256_andnot_si256(blocks, state));
        return _mm256_andnot_si256(_mm256_cmpeq_epi32(s[2], none), fits);
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

    /* What is kept of the segment as the last one; bits of what its connection's timeout depends on. ``q``: last_seq, last_ack, last_end, and
       the word from last_win on. */
    SIGHT_AVX2 static inline void lanes_note(Lanes *l, const LaneSegments *g, __m256i flags, __m256i q[4])
    {
        const __m256i dir = LANE_LOAD(l->dir), none = _mm256_setzero_si256();
        const __m256i was = _mm256_or_si256(_mm256_and_si256(q[3], LANE_ALL(0xffff)), _mm256_slli_epi32(_mm256_srli_epi32(_mm256_slli_epi32(q[3], 8), 31), 16));
        const __m256i is = _mm256_or_si256(g->win, _mm256_slli_epi32(dir, 16));
        const __m256i again = _mm256_and_si256(_mm256_and_si256(_mm256_cmpeq_epi32(q[0], g->seq), _mm256_cmpeq_epi32(q[1], g->ack)),
                                               _mm256_and_si256(_mm256_cmpeq_epi32(q[2], g->end), _mm256_cmpeq_epi32(was, is)));
        const __m256i times = _mm256_and_si256(again, _mm256_add_epi32(_mm256_srli_epi32(q[3], 24), LANE_ALL(1)));
        const __m256i retrans = _mm256_and_si256(times, LANE_ALL(0xff));
        const __m256i unacked = _mm256_and_si256(flags, LANE_ALL(LANE_SENT << 8 | LANE_SENT << 24));
        __m256i lives = _mm256_andnot_si256(_mm256_cmpgt_epi32(LANE_LOAD(l->most_retrans), retrans), LANE_ALL(LANE_RETRANSMITS));
        lives = _mm256_or_si256(lives, _mm256_andnot_si256(_mm256_cmpeq_epi32(unacked, none), LANE_ALL(LANE_UNACKED)));
        lives = _mm256_or_si256(lives, _mm256_and_si256(_mm256_cmpeq_epi32(g->win, none), LANE_ALL(LANE_NO_WINDOW)));
        LANE_STORE(l->lives, lives);
        LANE_STORE(l->next_flags, flags);
        q[0] = g->seq;
        q[1] = g->ack;
        q[2] = g->end;
        q[3] = _mm256_or_si256(_mm256_or_si256(g->win, _mm256_and_si256(q[3], LANE_ALL(0xf << 16))),
                               _mm256_or_si256(_mm256_or_si256(LANE_ALL(LANE_KIND_ACK << 20), _mm256_slli_epi32(dir, 23)),
                                               _mm256_slli_epi32(retrans, 24)));
    }

    SIGHT_AVX2 static uint32_t lanes_pass(Lanes *l)
    {
        LaneSegments g;
        __m256i s[4], r[4], q[4], flags = lane_flags(l), fits;
        lanes_read(l, &g);
        sight_words(l->sender, 0, s);
        sight_words(l->receiver, 0, r);
        sight_words(l->last, 0, q);
        fits = lanes_fit(&g, s, r, flags, q[3]);
        flags = lanes_run_on(&g, s, r, flags);
        lanes_note(l, &g, flags, q);
        lane_rows_kept(l->next_sender, s[0], s[1], s[2], s[3]);
        lane_rows_kept(l->next_receiver, r[0], r[1], r[2], r[3]);
        lane_rows_kept(l->next_last, q[0], q[1], q[2], q[3]);
        return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(fits));
    }

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

    /* The headers of tunnels, tunnel_finish(): what differs from packet to packet. ``total``: of the inner packet. */
    SIGHT_AVX2 static inline void lanes_outer(Lanes *l, __m256i src, __m256i dst, __m256i total)
    {
        const __m256i half = LANE_ALL(0xffff), n = LANE_LOAD(l->total), length = lane_net16(n);
        const __m256i ident = lane_net16(LANE_LOAD(l->ident)), udp = lane_net16(_mm256_sub_epi32(n, LANE_ALL(20)));
        __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sight_halves(LANE_LOAD(l->push_sum)), length), ident);
        LANE_STORE(l->outer, _mm256_or_si256(length, _mm256_slli_epi32(ident, 16)));
        LANE_STORE(l->outer_check, _mm256_xor_si256(lane_fold(sum), half));
        /* a right checksum says what the rest of the inner packet sums up to: sum_pseudo() taken away */
        sum = _mm256_add_epi32(sight_halves(lane_not(src)), sight_halves(lane_not(dst)));
        sum = _mm256_add_epi32(sum, _mm256_xor_si256(lane_net16(total), half));
        sum = _mm256_add_epi32(sum, LANE_ALL(0xffff - 0x0600 + 0x1400));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sight_halves(LANE_LOAD(l->udp_sum)), LANE_LOAD(l->sport)));
        sum = _mm256_xor_si256(lane_fold(_mm256_add_epi32(sum, _mm256_add_epi32(udp, udp))), half);
        sum = _mm256_or_si256(sum, _mm256_and_si256(_mm256_cmpeq_epi32(sum, _mm256_setzero_si256()), half));
        LANE_STORE(l->udp, _mm256_or_si256(udp, _mm256_slli_epi32(_mm256_and_si256(sum, LANE_LOAD(l->push_udp)), 16)));
    }

    SIGHT_AVX2 static void lanes_write(Lanes *l)
    {
        const __m256i half = LANE_ALL(0xffff), src = LANE_LOAD(l->src), dst = LANE_LOAD(l->dst), ports = LANE_LOAD(l->ports);
        const __m256i hops = LANE_LOAD(l->hops), translated = LANE_LOAD(l->translated), w2 = LANE_LOAD(l->w[2]);
        const __m256i addresses = _mm256_add_epi32(lane_change(LANE_LOAD(l->w[3]), src), lane_change(LANE_LOAD(l->w[4]), dst));
        const __m256i changed = _mm256_or_si256(translated, _mm256_cmpgt_epi32(hops, _mm256_setzero_si256()));
        const __m256i ttl = _mm256_and_si256(_mm256_sub_epi32(w2, hops), LANE_ALL(0xff));
        __m256i check = _mm256_srli_epi32(w2, 16), row[4], more[4];
        int k;
        check = _mm256_blendv_epi8(check, lane_patched(check, _mm256_add_epi32(addresses, _mm256_mullo_epi32(hops, LANE_ALL(0xfffe)))), changed);
        lane_rows(LANE_LOAD(l->w[0]), LANE_LOAD(l->w[1]),
                  _mm256_or_si256(_mm256_or_si256(ttl, _mm256_and_si256(w2, LANE_ALL(0xff00))), _mm256_slli_epi32(check, 16)), src, row);
        lane_rows(dst, ports, LANE_LOAD(l->seq), LANE_LOAD(l->ack), more);
        for (k = 0; k < 4; k++) {
            _mm_storeu_si128((__m128i *)l->to[k], _mm256_castsi256_si128(row[k]));
            _mm_storeu_si128((__m128i *)(l->to[k] + 16), _mm256_castsi256_si128(more[k]));
            _mm_storeu_si128((__m128i *)l->to[k + 4], _mm256_extracti128_si256(row[k], 1));
            _mm_storeu_si128((__m128i *)(l->to[k + 4] + 16), _mm256_extracti128_si256(more[k], 1));
        }
        check = _mm256_and_si256(LANE_LOAD(l->w[6]), half);
        LANE_STORE(l->check, _mm256_blendv_epi8(check, lane_patched(check, _mm256_add_epi32(addresses, lane_change(LANE_LOAD(l->w[5]), ports))),
                                                translated));
        lanes_outer(l, src, dst, LANE_LOAD(l->w[7]));
    }

    /* Bits of lanes that have the same word as one before them. */
    SIGHT_AVX2 static uint32_t lanes_repeat(const uint32_t *words)
    {
        const __m256i v = _mm256_loadu_si256((const __m256i *)words), one = LANE_ALL(1);
        __m256i turn = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
        uint32_t same = 0;
        int by;
        for (by = 1; by < LANES; by++) {
            same |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(v, _mm256_permutevar8x32_epi32(v, turn))))
                    & (0xffu << by);
            turn = _mm256_sub_epi32(turn, one);
        }
        return same;
    }
    #else
    static inline uint32_t lanes_pass(Lanes *l) { (void)l; return 0; }
    static inline void lanes_write(Lanes *l) { (void)l; }
    static inline uint32_t lanes_repeat(const uint32_t *words) { (void)words; return 0; }
    #endif
    """
    const int LANES
    const uint32_t LANE_RETRANSMITS
    const uint32_t LANE_UNACKED
    const uint32_t LANE_NO_WINDOW

    ctypedef struct LaneRow:
        uint32_t word[4]

    ctypedef struct Lanes:
        const uint8_t *ip[8]
        const uint8_t *sender[8]
        const uint8_t *receiver[8]
        const uint8_t *last[8]
        uint32_t dir[8]
        uint32_t most_retrans[8]
        LaneRow next_sender[8]
        LaneRow next_receiver[8]
        LaneRow next_last[8]
        uint32_t next_flags[8]
        uint32_t lives[8]
        uint8_t *to[8]
        uint32_t src[8]
        uint32_t dst[8]
        uint32_t ports[8]
        uint32_t translated[8]
        uint32_t hops[8]
        uint32_t total[8]
        uint32_t ident[8]
        uint32_t push_sum[8]
        uint32_t udp_sum[8]
        uint32_t push_udp[8]
        uint32_t sport[8]
        uint32_t check[8]
        uint32_t outer[8]
        uint32_t outer_check[8]
        uint32_t udp[8]

    uint32_t lanes_pass(Lanes *l) noexcept nogil  # bits of lanes whose segments their connections let through as nearly all
    void lanes_write(Lanes *l) noexcept nogil  # the IP headers, and those of TCP up to the numbers; the rest is put in place by others
    uint32_t lanes_repeat(const uint32_t *words) noexcept nogil


cdef inline bint lanes_are_wide() noexcept nogil:
    """Can the processor?"""
    return sight_is_wide()
