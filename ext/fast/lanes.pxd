# TCP segments of eight connections, abreast, where the processor can (AVX2): whether they are plain and whole, their keys, what the windows
# of their connections become, and the headers that they leave with. Lane by lane this is key_read() and packet_sound() of key.pxd,
# tcp_fits(), tcp_runs_on() and tcp_count_retransmission() of ct_tcp.pxd, and what shortcut.pxd writes; what takes another way than nearly
# all do is left to these. What is done with it is in abreast.pxd.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.fast.segments cimport segments_plain  # for what is written in C there, and in headers.pxd and sum.pxd
from ext.tables.ct_tcp cimport CtTcp, CtTcpSide

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    enum {
        LANES = 8,
        LANE_ETHER = 14,       /* bytes of the header before an IP header */
        LANE_LEAST = 20 + 20,  /* of an IP packet */
        LANE_FRONT = 128,      /* of headers that may be put in front of one: SHORT_HEAD */
        /* of Eight.lives */
        LANE_RETRANSMITS = 1,  /* as often as its connection may */
        LANE_UNACKED = 2,      /* data of it, or of the other end, are not acknowledged */
        LANE_NO_WINDOW = 4,    /* its sender takes no more */
        /* of LaneFacts.bits: in its first byte the hops that packets lose, in the second tcp_max_retrans */
        LANE_RETRANS_AT = 8,
        LANE_SOURCE = 1 << 16, /* translated */
        LANE_PUSH_UDP = 1 << 17,  /* the tunnel's UDP header has a checksum */
        LANE_TRIMS = 1 << 18,
        LANE_REPLY_AT = 19,    /* the direction of the connection */
        LANE_SECOND = 1 << 20, /* it is the second one of its flow */
        LANE_POPS_UDP = 1 << 21,  /* the packet comes in a tunnel over UDP */
        LANE_DESTINATION = 1 << 22,
        LANE_PUSHES = 1 << 23, /* and leaves in one, */
        LANE_PUSHES_UDP = 1 << 24,
        LANE_LONG = 1 << 25,   /* with more than 64 bytes of headers in front of it */
        LANE_LIBERAL = 1 << 26,  /* tcp_be_liberal */
        LANE_DEVICE_AT = 11    /* PLACE_DEVICE, less 32 */
    };

    /* Odd numbers that mix the bits of keys' hashes: those of MurmurHash3's end (A. Appleby, public domain). */
    #define KEY_MIX_FIRST 0x85ebca6bu
    #define KEY_MIX_THEN 0xc2b2ae35u
    enum { KEY_SEEDS = 6 };

    typedef struct { uint32_t word[4]; } LaneRow;

    /* What lanes ask of what programs have in common; sums as in Program. */
    typedef struct {
        uint32_t push_sum, udp_sum;  /* the latter with the sum of the Ethernet header in the tunnel */
        uint16_t before;   /* bytes of headers from the tunnel's IP header to the inner one */
        uint16_t status;   /* of the connection of TCP */
        uint32_t bits;     /* LANE_* */
    } LaneFacts;

    /* Where things stand that are read as words: */
    enum {
        /* in a Lane: addresses and ``longest``, the place and ``stamp``, */
        LANE_LINK_AT = 0, LANE_PLACE_AT = 16, LANE_WAY_AT = 48, LANE_WIDEST_AT = 56,
        /* in a LaneWay: the tunnel's headers that packets come in, which bits of them count, and the headers to be put in front, */
        LANE_BEFORE_AT = 8, LANE_POP_AT = 16, LANE_ASKED_AT = LANE_POP_AT + 64, LANE_HEAD_AT = LANE_ASKED_AT + 64,
        /* in a Ct: addresses and ports; the lower half of its serial from the third byte on, status and ``expires``; what TCP has there */
        LANE_ENDS_AT = 18, LANE_CT_AT = 40, LANE_TCP_AT = 56
    };

    /* What flows are found with. */
    typedef struct {
        const uint32_t *seed;  /* KEY_SEEDS */
        const void *flow;
        uint32_t slots;
    } LaneKeys;

    typedef struct {
        /* frames in order */
        const uint8_t *frame[LANES];
        const uint8_t *ip[LANES];          /* the IP header that the key is about: LANE_LEAST bytes can be read, and 14 before it */
        uint32_t length[LANES];            /* of the frame from its beginning, and no less than what can be read */
        uint32_t high[LANES];              /* of the key's place the upper half, at first without TOS */
        /* what lanes_look() finds; words as they stand in the packet */
        uint32_t link[4][LANES];           /* of the frame, from its beginning */
        uint32_t w[3][LANES];              /* the first three */
        uint32_t src[LANES], dst[LANES], ports[LANES];
        uint32_t low[LANES];               /* of the key's place the lower half */
        uint32_t seq[LANES], ack[LANES], offset[LANES], check[LANES];  /* each as it is or begins there */
        uint32_t total[LANES];             /* bytes of the packet */
        const uint8_t *slot[LANES];        /* where the flow should be */
        /* what is found with it */
        uint32_t serial[LANES];            /* of both connections, as in the flow */
        const uint8_t *lane[LANES];        /* the program's Lane */
        const uint8_t *way[LANES];         /* its LaneWay, which begins with LaneFacts */
        uint8_t *ct[LANES];                /* the connection of TCP, */
        uint8_t *other[LANES];             /* and the other one */
        uint32_t ref[LANES];
        /* what lanes_pass() makes of it: of connections, */
        LaneRow next_side[2][LANES], next_last[LANES];
        uint32_t next_flags[LANES];        /* scale and flags of the first side, above them those of the other one */
        uint32_t lives[LANES];             /* LANE_* bits */
        /* and of what they leave with */
        uint32_t length_out[LANES];        /* bytes of the inner packet */
        uint32_t push_sum[LANES], udp_sum[LANES], outer_total[LANES], bits[LANES], status[LANES];
        /* what is given besides, to write it */
        uint8_t *to[LANES];                /* where the IP header will stand; LANE_FRONT bytes in front of it are written, too, */
        uint32_t kept[LANES];              /* or, where this is not 0, of them as many as there are headers, and 1 is added */
        uint64_t draw[LANES];              /* of the tunnel's identification, before draw_hash() mixes it */
        uint32_t sport[LANES];
        /* what is put in place word by word */
        uint32_t new_check[LANES];         /* TCP checksum */
        uint32_t outer[LANES];             /* of the tunnel's IP header: length and identification, */
        uint32_t outer_check[LANES];       /* and checksum */
        uint32_t udp[LANES];               /* of its UDP header: length and checksum */
        /* behind all that begins multiples of 32 bytes */
        uint64_t first;                    /* number of the first frame */
        int64_t until;                     /* virtual time from which on it is not known whether they may go so */
        uint32_t n;                        /* lanes, from the first one on, of which the last step knows all, */
        uint32_t wrote;                    /* and of which all is written */
        uint32_t at;                       /* where in the frames the IP headers stand */
        uint32_t stands;                   /* bits of lanes whose connections are those that flows have noted, as they were, and alive, and
                                              whose tunnels are as known; of others nothing is said */
    } __attribute__((aligned(32))) Eight;

    #if defined(__x86_64__) && defined(__GNUC__)
    _Static_assert(sizeof(CtTcpSide) == 18 && offsetof(CtTcpSide, scale) == 16 && offsetof(CtTcp, last_seq) == 36
                   && offsetof(CtTcp, last_win) == 48, "lanes read connections as they lie");

    enum { LANE_ESTABLISHED = 3, LANE_KIND_ACK = 3, LANE_SENT = 0x10, LANE_MAXACK = 0x20 };

    #define LANE_ALL(v) _mm256_set1_epi32((int)(v))
    #define LANE_LOAD(p) _mm256_load_si256((const __m256i *)(p))
    #define LANE_SOME(p) _mm256_loadu_si256((const __m256i *)(p))
    #define LANE_COPY(to, from) _mm256_storeu_si256((__m256i *)(to), LANE_SOME(from))
    #define LANE_STORE(p, v) _mm256_store_si256((__m256i *)(p), v)
    #define LANE_BITS(v) ((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(v)))

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

    /* The places of records, ``1 << bits`` bytes each, by their numbers. */
    SIGHT_AVX2 static inline void lane_places(const uint8_t *to[LANES], const void *first, __m256i number, int bits)
    {
        const __m256i from = _mm256_set1_epi64x((long long)(uintptr_t)first);
        LANE_STORE(to, _mm256_add_epi64(from, _mm256_slli_epi64(_mm256_cvtepu32_epi64(_mm256_castsi256_si128(number)), bits)));
        LANE_STORE(to + 4, _mm256_add_epi64(from, _mm256_slli_epi64(_mm256_cvtepu32_epi64(_mm256_extracti128_si256(number, 1)), bits)));
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

    /* All bits where bit ``n`` of a word is set. */
    #define LANE_BIT(w, n) _mm256_srai_epi32(_mm256_slli_epi32(w, 31 - (n)), 31)

    /* 64-bit products of 32-bit numbers, of even and of odd lanes, added to ``even`` and ``odd``. */
    SIGHT_AVX2 static inline void lane_products(__m256i a, __m256i b, __m256i *even, __m256i *odd)
    {
        *even = _mm256_add_epi64(*even, _mm256_mul_epu32(a, b));
        *odd = _mm256_add_epi64(*odd, _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)));
    }

    /* The slots of keys: key_hash() and flow_home() of flows.pxd. */
    SIGHT_AVX2 static inline __m256i lanes_home(const Eight *e, const LaneKeys *key, __m256i low, __m256i high)
    {
        const __m256i none = _mm256_setzero_si256();
        __m256i even = none, odd = none, x;
        lane_products(_mm256_add_epi32(LANE_LOAD(e->src), LANE_ALL(key->seed[0])),
                      _mm256_add_epi32(LANE_LOAD(e->dst), LANE_ALL(key->seed[1])), &even, &odd);
        lane_products(_mm256_add_epi32(LANE_LOAD(e->ports), LANE_ALL(key->seed[2])),
                      _mm256_add_epi32(low, LANE_ALL(key->seed[3])), &even, &odd);
        lane_products(_mm256_add_epi32(high, LANE_ALL(key->seed[4])), LANE_ALL(key->seed[5]), &even, &odd);
        even = _mm256_xor_si256(even, _mm256_srli_epi64(even, 32));
        odd = _mm256_xor_si256(odd, _mm256_slli_epi64(odd, 32));
        x = _mm256_mullo_epi32(_mm256_blend_epi32(even, odd, 0xaa), LANE_ALL(KEY_MIX_FIRST));
        x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 15)), LANE_ALL(KEY_MIX_THEN));
        even = odd = none;
        lane_products(x, LANE_ALL(key->slots), &even, &odd);
        return _mm256_and_si256(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa), LANE_ALL(~1));
    }

    /* Of packets whose first five words are ``w`` and ``dst``: not 0 where one is no plain TCP segment, or longer than its frame; ``n``:
       bytes from its beginning to the frame's end. */
    SIGHT_AVX2 static inline __m256i lanes_wrong(const __m256i w[4], __m256i dst, __m256i offset, __m256i total, __m256i n)
    {
        const __m256i words[5] = {w[0], w[1], w[2], w[3], dst};
        __m256i wrong = _mm256_or_si256(_mm256_cmpgt_epi32(LANE_ALL(LANE_LEAST), total), _mm256_cmpgt_epi32(total, n));
        /* no fragment, and TCP */
        wrong = _mm256_or_si256(wrong, _mm256_and_si256(w[1], LANE_ALL(0xff3f0000)));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(_mm256_and_si256(w[2], LANE_ALL(0xff00)), LANE_ALL(0x0600)));
        return _mm256_or_si256(wrong, _mm256_or_si256(sight_sum(words), segment_flags(offset, _mm256_sub_epi32(total, LANE_ALL(20)))));
    }

    /* Not 0 where the TCP checksum of a packet of up to SEGMENT_MOST bytes is wrong. ``t``: its words from the destination address to the
       acknowledgement number; ``rest``: what SEGMENT_APART and the bytes behind it sum up to. */
    SIGHT_AVX2 static inline __m256i lanes_unsound(const __m256i t[4], __m256i src, __m256i offset, __m256i total, __m256i rest)
    {
        const __m256i l4 = _mm256_sub_epi32(total, LANE_ALL(20));
        __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sight_halves(t[0]), sight_halves(t[1])),
                                       _mm256_add_epi32(sight_halves(t[2]), sight_halves(t[3])));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sight_halves(src), sight_halves(offset)));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(LANE_ALL(0x0600), _mm256_slli_epi32(l4, 8)));
        return _mm256_xor_si256(lane_fold(_mm256_add_epi32(sum, rest)), LANE_ALL(0xffff));
    }

    /* Bits of lanes whose frames are long enough for an IP packet at ``at``, and not longer than ``most``; ``how``: HOW_* of their keys,
       shifted right by 32 bits, the device counts from bit LANE_DEVICE_AT on. */
    SIGHT_AVX2 static uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths,
                                            const int32_t *devs, uint32_t at, uint32_t most, uint32_t how)
    {
        const __m256i n = _mm256_loadu_si256((const __m256i *)lengths), dev = _mm256_loadu_si256((const __m256i *)devs);
        const __m256i from = _mm256_set1_epi64x((long long)(uintptr_t)data);
        const __m256i right = _mm256_andnot_si256(_mm256_cmpgt_epi32(n, LANE_ALL(most)),
                                                  _mm256_cmpgt_epi32(n, LANE_ALL(at + LANE_LEAST - 1)));
        __m256i frame;
        int k;
        for (k = 0; k < LANES; k += 4) {
            frame = _mm256_add_epi64(from, _mm256_loadu_si256((const __m256i *)(starts + k)));
            LANE_STORE(e->frame + k, frame);
            LANE_STORE(e->ip + k, _mm256_add_epi64(frame, _mm256_set1_epi64x(at)));
        }
        LANE_STORE(e->length, n);
        LANE_STORE(e->high, _mm256_or_si256(_mm256_slli_epi32(_mm256_add_epi32(dev, LANE_ALL(1)), LANE_DEVICE_AT), LANE_ALL(how)));
        e->at = at;
        return LANE_BITS(right);
    }

    /* Bits of lanes whose packets are plain TCP segments, whose checksum is right or, where ``unsummed`` has the bit, too long to be summed
       up here; of these the keys are read. */
    SIGHT_AVX2 static uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed)
    {
        const __m256i n = _mm256_sub_epi32(LANE_LOAD(e->length), LANE_ALL(e->at)), most = LANE_ALL(SEGMENT_MOST);
        __m256i link[4], w[4], t[4], o[2], total, wrong, summed, longer, low, high;
        int k;
        sight_words(e->ip, -LANE_ETHER, link);
        sight_words(e->ip, 0, w);
        sight_words(e->ip, 16, t);
        lane_pairs(e->ip, 32, o);
        total = sight_second(w[0]);
        wrong = _mm256_xor_si256(_mm256_and_si256(link[3], LANE_ALL(0xffffff)), LANE_ALL(0x450008));
        wrong = _mm256_or_si256(wrong, lanes_wrong(w, t[0], o[0], total, n));
        longer = _mm256_cmpgt_epi32(total, most);
        summed = _mm256_max_epi32(_mm256_min_epi32(_mm256_min_epi32(total, n), most), LANE_ALL(LANE_LEAST));
        summed = lanes_unsound(t, w[3], o[0], total, segment_rest(e->ip, summed));
        wrong = _mm256_or_si256(wrong, _mm256_andnot_si256(longer, summed));
        if (e->at != LANE_ETHER)
            sight_words(e->frame, 0, link);
        for (k = 0; k < 3; k++) {
            LANE_STORE(e->link[k], link[k]);
            LANE_STORE(e->w[k], w[k]);
        }
        LANE_STORE(e->link[3], link[3]);
        LANE_STORE(e->src, w[3]);
        LANE_STORE(e->dst, t[0]);
        LANE_STORE(e->ports, t[1]);
        LANE_STORE(e->seq, t[2]);
        LANE_STORE(e->ack, t[3]);
        LANE_STORE(e->offset, o[0]);
        LANE_STORE(e->check, o[1]);
        LANE_STORE(e->total, total);
        low = _mm256_or_si256(_mm256_srli_epi32(w[1], 16), _mm256_slli_epi32(w[2], 16));
        high = _mm256_or_si256(LANE_LOAD(e->high), _mm256_and_si256(_mm256_srli_epi32(w[0], 8), LANE_ALL(0xff)));
        LANE_STORE(e->low, low);
        LANE_STORE(e->high, high);
        lane_places(e->slot, key->flow, lanes_home(e, key, low, high), 5);
        *unsummed = LANE_BITS(longer);
        return LANE_BITS(_mm256_cmpeq_epi32(wrong, _mm256_setzero_si256()));
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
    SIGHT_AVX2 static inline __m256i lanes_strange(Eight *e)
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

    /* Eight.stands at a time up to ``latest``. Connections that end within the next seconds are left to others. */
    SIGHT_AVX2 static inline uint32_t lanes_stand(const Eight *e, int64_t latest)
    {
        const __m256i half = LANE_ALL(0xffff), serial = lane_turned(LANE_LOAD(e->serial), LANE_BIT(LANE_LOAD(e->bits), 20));
        __m256i c[4], other;
        sight_words((const uint8_t *const *)e->ct, LANE_CT_AT, c);
        other = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi32(c[0], 16), serial), half);
        other = _mm256_or_si256(other, _mm256_xor_si256(_mm256_srli_epi32(c[1], 16), LANE_LOAD(e->status)));
        if (e->at != LANE_ETHER)
            other = _mm256_or_si256(other, lanes_in_others(e));
        other = _mm256_cmpeq_epi32(other, _mm256_setzero_si256());
        return LANE_BITS(_mm256_and_si256(_mm256_cmpgt_epi32(c[3], LANE_ALL(latest >> 32)), other));
    }

    SIGHT_AVX2 static uint32_t lanes_pass(Eight *e, int64_t latest)
    {
        const uint8_t *const *ct = (const uint8_t *const *)e->ct;
        LaneSegments g;
        __m256i s[4], r[4], q[4], side[8], flags, was, fits, misfits, strange = lanes_strange(e), back = LANE_BIT(LANE_LOAD(e->bits), 19);
        e->stands = lanes_stand(e, latest);
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
        return LANE_BITS(_mm256_and_si256(fits, _mm256_cmpeq_epi32(strange, _mm256_setzero_si256())));
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

    /* What a sum loses where sum_pseudo() of an inner packet is taken away. */
    SIGHT_AVX2 static inline __m256i lane_less_pseudo(__m256i src, __m256i dst, __m256i total)
    {
        const __m256i sum = _mm256_add_epi32(sight_halves(lane_not(src)), sight_halves(lane_not(dst)));
        return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_xor_si256(lane_net16(total), LANE_ALL(0xffff))),
                                LANE_ALL(0xffff - 0x0600 + 0x1400));
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

    /* Addresses and ports that packets leave with; at first as they come. */
    SIGHT_AVX2 static inline void lanes_translate(const Eight *e, __m256i bits, __m256i *src, __m256i *dst, __m256i *ports)
    {
        const __m256i half = LANE_ALL(0xffff), back = LANE_BIT(bits, 19), source = LANE_BIT(bits, 16), destination = LANE_BIT(bits, 22);
        const uint8_t *const *ct = (const uint8_t *const *)e->ct;
        __m256i there[2], answers[4];
        if (_mm256_testz_si256(bits, LANE_ALL(LANE_SOURCE | LANE_DESTINATION)))
            return;
        lane_pairs(ct, LANE_ENDS_AT, there);
        sight_words(ct, LANE_ENDS_AT + 8, answers);  /* and the ports of both */
        *src = _mm256_blendv_epi8(*src, _mm256_blendv_epi8(answers[1], there[1], back), source);
        *dst = _mm256_blendv_epi8(*dst, _mm256_blendv_epi8(answers[0], there[0], back), destination);
        *ports = _mm256_blendv_epi8(*ports, lane_swapped(_mm256_blendv_epi8(answers[3], answers[2], back)),
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

    /* The packet's first 32 bytes, which are ``head`` and ``more``, and all behind them; its TCP checksum, and all in front. */
    SIGHT_AVX2 static inline void lane_write(const Eight *e, uint32_t k, __m128i head, __m128i more)
    {
        const uint8_t *ip = e->ip[k], *way = e->way[k], *front = way + LANE_HEAD_AT + LANE_FRONT;
        const uint32_t n = e->length_out[k], bits = e->bits[k];
        uint8_t *to = e->to[k], *outer = to - raw16(way + LANE_BEFORE_AT);
        if (__builtin_expect(n > 64, 0))
            memcpy(to + 32, ip + 32, n - 32);
        else
            LANE_COPY(to + n - 32, ip + n - 32);
        _mm_storeu_si128((__m128i *)to, head);
        _mm_storeu_si128((__m128i *)(to + 16), more);
        put_raw16(to + 36, e->new_check[k]);
        if (e->kept[k]) {
            lane_head(to, front, e->kept[k] - 1);
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

    SIGHT_AVX2 static void lanes_write(Eight *e)
    {
        const __m256i half = LANE_ALL(0xffff), byte = LANE_ALL(0xff), bits = LANE_LOAD(e->bits), w2 = LANE_LOAD(e->w[2]);
        const __m256i was_src = LANE_LOAD(e->src), was_dst = LANE_LOAD(e->dst), was_ports = LANE_LOAD(e->ports);
        const __m256i hops = _mm256_and_si256(bits, byte);
        __m256i src = was_src, dst = was_dst, ports = was_ports, check = _mm256_srli_epi32(w2, 16);
        __m256i row[4], more[4], word, addresses, translated;
        uint32_t k;
        if (e->n == e->wrote)
            return;
        lanes_translate(e, bits, &src, &dst, &ports);
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
        for (k = 0; k < 4; k++) {
            if (e->wrote <= k && k < e->n)
                lane_write(e, k, _mm256_castsi256_si128(row[k]), _mm256_castsi256_si128(more[k]));
            if (e->wrote <= k + 4 && k + 4 < e->n)
                lane_write(e, k + 4, _mm256_extracti128_si256(row[k], 1), _mm256_extracti128_si256(more[k], 1));
        }
        e->wrote = e->n;
    }

    /* Bits of lanes that have the same word as one before them. */
    SIGHT_AVX2 static uint32_t lanes_repeat(const uint32_t *words)
    {
        const __m256i v = LANE_SOME(words), one = LANE_ALL(1);
        __m256i turn = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6), any = _mm256_setzero_si256();
        uint32_t same = 0;
        int by;
        for (by = 1; by <= LANES / 2; by++) {
            any = _mm256_or_si256(any, _mm256_cmpeq_epi32(v, _mm256_permutevar8x32_epi32(v, turn)));
            turn = _mm256_sub_epi32(turn, one);
        }
        if (_mm256_testz_si256(any, any))
            return 0;
        turn = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
        for (by = 1; by < LANES; by++) {
            same |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(v, _mm256_permutevar8x32_epi32(v, turn))))
                    & (0xffu << by);
            turn = _mm256_sub_epi32(turn, one);
        }
        return same;
    }

    /* Bits of lanes that have this connection. */
    SIGHT_AVX2 static uint32_t lanes_with(uint8_t *const *ct, const void *one)
    {
        const __m256i v = _mm256_set1_epi64x((long long)(uintptr_t)one);
        const __m256d low = _mm256_castsi256_pd(_mm256_cmpeq_epi64(v, LANE_LOAD(ct)));
        return (uint32_t)_mm256_movemask_pd(low) | (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(v, LANE_LOAD(ct + 4)))) << 4;
    }
    #else
    static inline uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, const int32_t *devs,
                                        uint32_t at, uint32_t most, uint32_t how)
    {
        (void)e; (void)data; (void)starts; (void)lengths; (void)devs; (void)at; (void)most; (void)how;
        return 0;
    }

    static inline uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed) { (void)e; (void)key; (void)unsummed; return 0; }
    static inline uint32_t lanes_pass(Eight *e, int64_t latest) { (void)e; (void)latest; return 0; }
    static inline void lanes_write(Eight *e) { (void)e; }
    static inline uint32_t lanes_repeat(const uint32_t *words) { (void)words; return 0; }
    static inline uint32_t lanes_with(uint8_t *const *ct, const void *one) { (void)ct; (void)one; return 0; }
    #endif
    """
    enum:
        KEY_SEEDS
        LANES
    const uint32_t KEY_MIX_FIRST
    const uint32_t KEY_MIX_THEN
    const uint32_t LANE_ETHER
    const uint32_t LANE_LEAST
    const uint32_t LANE_RETRANSMITS
    const uint32_t LANE_UNACKED
    const uint32_t LANE_NO_WINDOW
    const uint32_t LANE_RETRANS_AT
    const uint32_t LANE_SOURCE
    const uint32_t LANE_DESTINATION
    const uint32_t LANE_PUSHES
    const uint32_t LANE_PUSHES_UDP
    const uint32_t LANE_LONG
    const uint32_t LANE_PUSH_UDP
    const uint32_t LANE_TRIMS
    const uint32_t LANE_REPLY_AT
    const uint32_t LANE_LIBERAL
    const uint32_t LANE_SECOND
    const uint32_t LANE_POPS_UDP
    const uint32_t LANE_DEVICE_AT

    ctypedef struct LaneRow:
        uint32_t word[4]

    ctypedef struct LaneFacts:
        uint32_t push_sum
        uint32_t udp_sum
        uint16_t before
        uint16_t status
        uint32_t bits

    ctypedef struct LaneKeys:
        const uint32_t *seed
        const void *flow
        uint32_t slots

    ctypedef struct Eight:
        const uint8_t *frame[8]
        const uint8_t *ip[8]
        uint32_t length[8]
        uint32_t high[8]
        uint32_t src[8]
        uint32_t dst[8]
        uint32_t ports[8]
        uint32_t total[8]
        uint32_t low[8]
        const uint8_t *slot[8]
        uint32_t serial[8]
        const uint8_t *lane[8]
        const uint8_t *way[8]
        uint8_t *ct[8]
        uint8_t *other[8]
        uint32_t ref[8]
        uint64_t first
        int64_t until
        uint32_t n
        uint32_t wrote
        uint32_t at
        uint32_t stands
        LaneRow next_side[2][8]
        LaneRow next_last[8]
        uint32_t next_flags[8]
        uint32_t lives[8]
        uint32_t length_out[8]
        uint8_t *to[8]
        uint32_t kept[8]
        uint64_t draw[8]
        uint32_t sport[8]

    uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, const int32_t *devs, uint32_t at,
                          uint32_t most, uint32_t how) noexcept nogil
    uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed) noexcept nogil
    uint32_t lanes_pass(Eight *e, int64_t latest) noexcept nogil  # bits of lanes that go as nearly all do, as far as connections' windows tell
    void lanes_write(Eight *e) noexcept nogil  # the packets of the first ``n`` lanes, but for those that are
    uint32_t lanes_repeat(const uint32_t *words) noexcept nogil
    uint32_t lanes_with(uint8_t *const *ct, const void *one) noexcept nogil
