# TCP segments of eight connections, abreast, where the processor can (AVX2): whether they are plain and whole, and their keys, as
# key_read() and packet_sound() of key.pxd find them out lane by lane; what takes another way than nearly all do is left to these. What the
# windows of their connections become is in lane_windows.pxd, how they are written in lane_write.pxd, what is done with it in abreast.pxd.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.fast.segments cimport segments_plain  # for what is written in C there, and in headers.pxd and sum.pxd

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
        LANE_TOLD = 1 << 27,   /* packets do not just leave the world, seen by nobody */
        LANE_OTHER = 1 << 28,  /* there is another connection than that of TCP */
        LANE_SIMPLE = 1 << 16, /* of LaneFacts.other: its packets do nothing but make it last longer */
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
        uint32_t other;    /* status of the other connection, and LANE_SIMPLE */
    } LaneFacts;

    /* Where things stand that are read as words: */
    enum {
        /* in a Lane: addresses and ``longest``, the place and ``stamp``, */
        LANE_LINK_AT = 0, LANE_PLACE_AT = 16, LANE_WAY_AT = 48, LANE_WIDEST_AT = 56,
        /* in a LaneWay: the tunnel's headers that packets come in, which bits of them count, and the headers to be put in front, */
        LANE_BEFORE_AT = 8, LANE_BITS_AT = 12, LANE_OTHER_AT = 16, LANE_POP_AT = 20, LANE_ASKED_AT = LANE_POP_AT + 64,
        LANE_HEAD_AT = LANE_ASKED_AT + 64,
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
        uint32_t check[LANES];             /* it begins there */
        const uint8_t *slot[LANES];        /* where the flow should be */
        /* what is found with it */
        uint32_t refs[2][LANES];           /* both connections */
        const uint8_t *lane[LANES];        /* the program's Lane */
        const uint8_t *way[LANES];         /* its LaneWay, which begins with LaneFacts */
        uint32_t ref[LANES];
        uint32_t bits[LANES], status[LANES];  /* of LaneFacts */
        /* from here on LANE_SLIP bytes are what their connections are to be told with */
        uint8_t *ct[LANES];                /* the connection of TCP, */
        uint8_t *other[LANES];             /* and the other one */
        uint32_t number[LANES];            /* of the program */
        uint32_t serial[LANES];            /* of both connections, as in the flow */
        uint32_t seq[LANES], ack[LANES], offset[LANES];  /* of the packet, each as it is or begins there; */
        uint32_t total[LANES];             /* its bytes */
        /* what lanes_pass() makes of it: of connections, */
        LaneRow next_side[2][LANES], next_last[LANES];
        uint32_t next_flags[LANES];        /* scale and flags of the first side, above them those of the other one */
        uint32_t lives[LANES];             /* LANE_* bits */
        /* and of what they leave with */
        uint32_t length_out[LANES];        /* bytes of the inner packet */
        uint32_t push_sum[LANES], udp_sum[LANES], outer_total[LANES];
        /* what is given besides, to write it */
        uint8_t *to[LANES];                /* where the IP header will stand; LANE_FRONT bytes in front of it are written, too, */
        uint32_t kept[LANES];              /* or, where this is not 0, of them as many as there are headers, and 1 is added */
        uint64_t draw[LANES];              /* of the tunnel's identification, before draw_hash() mixes it */
        int64_t due[LANES];                /* virtual time of the packet */
        uint32_t sport[LANES];
        uint32_t drawn[LANES];             /* as in Deal */
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
        uint32_t told;                     /* bits of lanes whose ways have LANE_TOLD */
        uint32_t placed;                   /* 1: ``to`` and ``kept`` of a lane say that it is written where somebody may look */
    } __attribute__((aligned(32))) Eight;

    #define LANE_SLIP (sizeof(void *) * 2 * LANES + sizeof(uint32_t) * 6 * LANES)
    _Static_assert(offsetof(Eight, next_side) - offsetof(Eight, ct) == LANE_SLIP, "what connections are told with stands together");

    /* How many lanes have their bits before the first one that has not. */
    static inline uint32_t first_of(uint32_t bits) { return (uint32_t)__builtin_ctz(~bits | 1u << LANES); }

    /* The virtual times of frames that are due at ``times``, and not before ``now``: none is earlier than one before it. */
    static inline void lanes_due(Eight *e, const int64_t *times, int64_t now)
    {
        int k;
        for (k = 0; k < LANES; k++)
            e->due[k] = now = times[k] > now ? times[k] : now;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
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

    /* What a sum loses where sum_pseudo() of an inner packet is taken away. */
    SIGHT_AVX2 static inline __m256i lane_less_pseudo(__m256i src, __m256i dst, __m256i total)
    {
        const __m256i sum = _mm256_add_epi32(sight_halves(lane_not(src)), sight_halves(lane_not(dst)));
        return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_xor_si256(lane_net16(total), LANE_ALL(0xffff))),
                                LANE_ALL(0xffff - 0x0600 + 0x1400));
    }

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

    /* The places of records, ``1 << bits`` bytes each, by their numbers. */
    SIGHT_AVX2 static inline void lane_places(const uint8_t *to[LANES], const void *first, __m256i number, int bits)
    {
        const __m256i from = _mm256_set1_epi64x((long long)(uintptr_t)first);
        LANE_STORE(to, _mm256_add_epi64(from, _mm256_slli_epi64(_mm256_cvtepu32_epi64(_mm256_castsi256_si128(number)), bits)));
        LANE_STORE(to + 4, _mm256_add_epi64(from, _mm256_slli_epi64(_mm256_cvtepu32_epi64(_mm256_extracti128_si256(number, 1)), bits)));
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

    /* What the frame's and the packet's words say, see lanes_look(). */
    SIGHT_AVX2 static inline void lanes_noted(Eight *e, const __m256i link[4], const __m256i w[4], const __m256i t[4], const __m256i o[2],
                                             __m256i total)
    {
        int k;
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
    }

    /* Words of packets that lanes_look() has found to be plain and whole, anew. */
    SIGHT_AVX2 static void lanes_look_again(Eight *e)
    {
        __m256i link[4], w[4], t[4], o[2];
        sight_words(e->frame, 0, link);
        sight_words(e->ip, 0, w);
        sight_words(e->ip, 16, t);
        lane_pairs(e->ip, 32, o);
        lanes_noted(e, link, w, t, o, sight_second(w[0]));
    }

    /* Bits of lanes whose packets are plain TCP segments, whose checksum is right or, where ``unsummed`` has the bit, too long to be summed
       up here; of these the keys are read. */
    SIGHT_AVX2 static uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed)
    {
        const __m256i n = _mm256_sub_epi32(LANE_LOAD(e->length), LANE_ALL(e->at)), most = LANE_ALL(SEGMENT_MOST);
        __m256i link[4], w[4], t[4], o[2], total, wrong, summed, longer, low, high;
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
        lanes_noted(e, link, w, t, o, total);
        low = _mm256_or_si256(_mm256_srli_epi32(w[1], 16), _mm256_slli_epi32(w[2], 16));
        high = _mm256_or_si256(LANE_LOAD(e->high), _mm256_and_si256(_mm256_srli_epi32(w[0], 8), LANE_ALL(0xff)));
        LANE_STORE(e->low, low);
        LANE_STORE(e->high, high);
        lane_places(e->slot, key->flow, lanes_home(e, key, low, high), 5);
        *unsummed = LANE_BITS(longer);
        return LANE_BITS(_mm256_cmpeq_epi32(wrong, _mm256_setzero_si256()));
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
    static inline void lanes_look_again(Eight *e) { (void)e; }
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
    const uint32_t LANE_OTHER
    const uint32_t LANE_SIMPLE
    const uint32_t LANE_TOLD
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
        uint32_t other

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
        uint32_t number[8]
        uint32_t serial[8]
        uint32_t refs[2][8]
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
        uint32_t told
        uint32_t placed
        LaneRow next_side[2][8]
        LaneRow next_last[8]
        uint32_t next_flags[8]
        uint32_t lives[8]
        uint32_t length_out[8]
        uint8_t *to[8]
        uint32_t kept[8]
        uint64_t draw[8]
        int64_t due[8]
        uint32_t sport[8]
        uint32_t drawn[8]

    uint32_t first_of(uint32_t bits) noexcept nogil
    void lanes_due(Eight *e, const int64_t *times, int64_t now) noexcept nogil
    uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, const int32_t *devs, uint32_t at,
                          uint32_t most, uint32_t how) noexcept nogil
    uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed) noexcept nogil
    void lanes_look_again(Eight *e) noexcept nogil
    uint32_t lanes_repeat(const uint32_t *words) noexcept nogil
    uint32_t lanes_with(uint8_t *const *ct, const void *one) noexcept nogil
