# TCP segments of eight connections, abreast, where the processor can (AVX2): whether they are plain and whole, their keys, what the windows
# of their connections become, and the headers that they leave with. Lane by lane this is key_read() and packet_sound() of key.pxd,
# tcp_fits(), tcp_runs_on() and tcp_count_retransmission() of ct_tcp.pxd, and what shortcut.pxd writes; what takes another way than nearly
# all do is left to these. What is done with it is in abreast.pxd.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from ext.fast.segments cimport segments_plain  # for what is written in C there, and in headers.pxd
from ext.tables.ct_tcp cimport CtTcp, CtTcpSide

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    enum {
        LANES = 8,
        LANE_ETHER = 14,       /* bytes of the header before an IP header */
        LANE_LEAST = 20 + 20,  /* of an IP packet */
        /* of Eight.lives */
        LANE_RETRANSMITS = 1,  /* as often as its connection may */
        LANE_UNACKED = 2,      /* data of it, or of the other end, are not acknowledged */
        LANE_NO_WINDOW = 4,    /* its sender takes no more */
        /* of LaneFacts.bits: in its first byte the hops that packets lose, in the second tcp_max_retrans */
        LANE_RETRANS_AT = 8,
        LANE_TRANSLATED = 1 << 16,
        LANE_PUSH_UDP = 1 << 17,  /* the tunnel's UDP header has a checksum */
        LANE_TRIMS = 1 << 18,
        LANE_REPLY_AT = 19,    /* the direction of the connection */
        LANE_LIBERAL = 1 << 20,  /* tcp_be_liberal */
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
        uint32_t before;   /* bytes of headers from the tunnel's IP header to the inner one */
        uint32_t bits;     /* LANE_* */
    } LaneFacts;

    enum { LANE_LINK_AT = 0, LANE_WIDEST_AT = 56 };  /* in a program's Lane: addresses and ``longest``, ``widest`` */

    /* What flows are found with. */
    typedef struct {
        const uint32_t *seed;  /* KEY_SEEDS */
        uint32_t slots;
    } LaneKeys;

    typedef struct {
        /* frames in order */
        const uint8_t *frame[LANES];
        const uint8_t *ip[LANES];          /* the IP header that the key is about: LANE_LEAST bytes can be read, and 14 before it */
        uint32_t length[LANES];            /* of the frame from its beginning, and no less than what can be read */
        uint32_t high[LANES];              /* device and HOW_* of the key's place, shifted right by 32 bits */
        /* what lanes_look() finds; words as they stand in the packet */
        uint32_t link[3][LANES];
        uint32_t w[3][LANES];              /* the first three */
        uint32_t src[LANES], dst[LANES], ports[LANES];
        uint64_t addresses[LANES], place[LANES];  /* as in Key */
        uint32_t seq[LANES], ack[LANES], offset[LANES], check[LANES];  /* each as it is or begins there */
        uint32_t total[LANES];             /* bytes of the packet */
        uint32_t home[LANES];              /* slot where the flow should be */
        /* what is found with it */
        const void *flow[LANES];
        const uint8_t *lane[LANES];        /* the program's Lane */
        const uint8_t *way[LANES];         /* its LaneWay, which begins with LaneFacts */
        uint8_t *ct[LANES];                /* the connection of TCP, */
        uint8_t *other[LANES];             /* and the other one */
        uint8_t *sender[LANES];            /* side of the connection that has sent it, */
        uint8_t *receiver[LANES];          /* the other one, */
        uint8_t *last[LANES];              /* and what is known of the last segment */
        uint32_t ref[LANES];
        /* what lanes_pass() makes of it: of connections, */
        LaneRow next_sender[LANES], next_receiver[LANES], next_last[LANES];
        uint32_t next_flags[LANES];        /* scale and flags of the sender, above them those of the receiver */
        uint32_t lives[LANES];             /* LANE_* bits */
        /* and of what they leave with */
        uint32_t length_out[LANES];        /* bytes of the inner packet */
        uint32_t push_sum[LANES], udp_sum[LANES], outer_total[LANES], bits[LANES];
        /* what is given besides, to write it; at first as it comes */
        uint8_t *to[LANES];                /* where the IP header will stand */
        uint32_t kept[LANES];              /* 1: in a store, behind other packets */
        uint32_t new_end[2][LANES], new_ports[LANES];  /* source and destination address */
        uint32_t ident[LANES], sport[LANES];
        /* what lanes_write() leaves to be put in place */
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
    } __attribute__((aligned(32))) Eight;

    #if defined(__x86_64__) && defined(__GNUC__)
    _Static_assert(sizeof(CtTcpSide) == 18 && offsetof(CtTcpSide, scale) == 16 && offsetof(CtTcp, last_seq) == 36
                   && offsetof(CtTcp, last_win) == 48, "lanes read connections as they lie");

    enum { LANE_ESTABLISHED = 3, LANE_KIND_ACK = 3, LANE_SENT = 0x10, LANE_MAXACK = 0x20 };

    #define LANE_ALL(v) _mm256_set1_epi32((int)(v))
    #define LANE_LOAD(p) _mm256_load_si256((const __m256i *)(p))
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

    /* Words of each as the halves of 64 bits. */
    SIGHT_AVX2 static inline void lane_doubles(uint64_t *to, __m256i low, __m256i high)
    {
        const __m256i a = _mm256_unpacklo_epi32(low, high), b = _mm256_unpackhi_epi32(low, high);
        LANE_STORE(to, _mm256_permute2x128_si256(a, b, 0x20));
        LANE_STORE(to + 4, _mm256_permute2x128_si256(a, b, 0x31));
    }

    /* Scale and flags of both sides. */
    SIGHT_AVX2 static inline __m256i lane_flags(const Eight *e)
    {
        uint32_t f[LANES];
        int k;
        for (k = 0; k < LANES; k++)
            f[k] = raw16(e->sender[k] + 16) | (uint32_t)raw16(e->receiver[k] + 16) << 16;
        return _mm256_setr_epi32((int)f[0], (int)f[1], (int)f[2], (int)f[3], (int)f[4], (int)f[5], (int)f[6], (int)f[7]);
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
        LANE_STORE(e->src, w[3]);
        LANE_STORE(e->dst, t[0]);
        LANE_STORE(e->ports, t[1]);
        LANE_STORE(e->new_end[0], w[3]);
        LANE_STORE(e->new_end[1], t[0]);
        LANE_STORE(e->new_ports, t[1]);
        LANE_STORE(e->seq, t[2]);
        LANE_STORE(e->ack, t[3]);
        LANE_STORE(e->offset, o[0]);
        LANE_STORE(e->check, o[1]);
        LANE_STORE(e->total, total);
        low = _mm256_or_si256(_mm256_srli_epi32(w[1], 16), _mm256_slli_epi32(w[2], 16));
        high = _mm256_or_si256(LANE_LOAD(e->high), _mm256_and_si256(_mm256_srli_epi32(w[0], 8), LANE_ALL(0xff)));
        lane_doubles(e->place, low, high);
        lane_doubles(e->addresses, w[3], t[0]);
        LANE_STORE(e->home, lanes_home(e, key, low, high));
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
        const __m256i liberal = _mm256_or_si256(_mm256_slli_epi32(flags, 31 - 11), _mm256_slli_epi32(bits, 31 - 20));
        __m256i fits = _mm256_and_si256(known, LANE_BEFORE(g->ack, _mm256_add_epi32(r[0], one)));
        fits = _mm256_and_si256(fits, _mm256_and_si256(near, LANE_BEFORE(least, g->ack)));
        *misfits = _mm256_srai_epi32(_mm256_andnot_si256(fits, _mm256_and_si256(known, liberal)), 31);
        return _mm256_or_si256(fits, *misfits);
    }

    /* What was, where a segment is let through that does not fit. */
    SIGHT_AVX2 static inline void lanes_keep(__m256i misfits, const __m256i *was, __m256i *is, int n)
    {
        int i;
        for (i = 0; i < n; i++)
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
        LANE_STORE(e->next_flags, flags);
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
        LANE_STORE(e->outer_total, _mm256_add_epi32(out, b[2]));
        LANE_STORE(e->bits, b[3]);
        return strange;
    }

    SIGHT_AVX2 static uint32_t lanes_pass(Eight *e)
    {
        LaneSegments g;
        __m256i s[4], r[4], q[4], side[8], flags = lane_flags(e), was = flags, fits, misfits, strange = lanes_strange(e);
        lanes_read(e, &g);
        sight_words((const uint8_t *const *)e->sender, 0, s);
        sight_words((const uint8_t *const *)e->receiver, 0, r);
        sight_words((const uint8_t *const *)e->last, 0, q);
        memcpy(side, s, sizeof(s));
        memcpy(side + 4, r, sizeof(r));
        fits = lanes_fit(&g, s, r, flags, LANE_LOAD(e->bits), q[3], &misfits);
        flags = lanes_run_on(&g, s, r, flags);
        lanes_keep(misfits, side, s, 4);
        lanes_keep(misfits, side + 4, r, 4);
        lanes_keep(misfits, &was, &flags, 1);
        lanes_note(e, &g, flags, misfits, q);
        lane_rows_kept(e->next_sender, s[0], s[1], s[2], s[3]);
        lane_rows_kept(e->next_receiver, r[0], r[1], r[2], r[3]);
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

    /* The headers of tunnels, tunnel_finish(): what differs from packet to packet. ``total``: of the inner packet. */
    SIGHT_AVX2 static inline void lanes_outer(Eight *e, __m256i src, __m256i dst, __m256i total)
    {
        const __m256i half = LANE_ALL(0xffff), n = LANE_LOAD(e->outer_total), length = lane_net16(n);
        const __m256i ident = lane_net16(LANE_LOAD(e->ident)), udp = lane_net16(_mm256_sub_epi32(n, LANE_ALL(20)));
        __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sight_halves(LANE_LOAD(e->push_sum)), length), ident);
        LANE_STORE(e->outer, _mm256_or_si256(length, _mm256_slli_epi32(ident, 16)));
        LANE_STORE(e->outer_check, _mm256_xor_si256(lane_fold(sum), half));
        /* a right checksum says what the rest of the inner packet sums up to: sum_pseudo() taken away */
        sum = _mm256_add_epi32(sight_halves(lane_not(src)), sight_halves(lane_not(dst)));
        sum = _mm256_add_epi32(sum, _mm256_xor_si256(lane_net16(total), half));
        sum = _mm256_add_epi32(sum, LANE_ALL(0xffff - 0x0600 + 0x1400));
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sight_halves(LANE_LOAD(e->udp_sum)), LANE_LOAD(e->sport)));
        sum = _mm256_xor_si256(lane_fold(_mm256_add_epi32(sum, _mm256_add_epi32(udp, udp))), half);
        sum = _mm256_or_si256(sum, _mm256_and_si256(_mm256_cmpeq_epi32(sum, _mm256_setzero_si256()), half));
        LANE_STORE(e->udp, _mm256_or_si256(udp, _mm256_slli_epi32(_mm256_and_si256(sum, LANE_BIT(LANE_LOAD(e->bits), 17)), 16)));
    }

    SIGHT_AVX2 static void lanes_write(Eight *e)
    {
        const __m256i half = LANE_ALL(0xffff), byte = LANE_ALL(0xff), bits = LANE_LOAD(e->bits), w2 = LANE_LOAD(e->w[2]);
        const __m256i src = LANE_LOAD(e->new_end[0]), dst = LANE_LOAD(e->new_end[1]), ports = LANE_LOAD(e->new_ports);
        const __m256i hops = _mm256_and_si256(bits, byte), translated = LANE_BIT(bits, 16);
        const __m256i addresses = _mm256_add_epi32(lane_change(LANE_LOAD(e->src), src), lane_change(LANE_LOAD(e->dst), dst));
        const __m256i changed = _mm256_or_si256(translated, _mm256_cmpgt_epi32(hops, _mm256_setzero_si256()));
        __m256i check = _mm256_srli_epi32(w2, 16), row[4], more[4], word;
        int k;
        check = _mm256_blendv_epi8(check, lane_patched(check, _mm256_add_epi32(addresses, _mm256_mullo_epi32(hops, LANE_ALL(0xfffe)))), changed);
        word = _mm256_or_si256(_mm256_and_si256(_mm256_sub_epi32(w2, hops), byte), _mm256_and_si256(w2, LANE_ALL(0xff00)));
        lane_rows(LANE_LOAD(e->w[0]), LANE_LOAD(e->w[1]), _mm256_or_si256(word, _mm256_slli_epi32(check, 16)), src, row);
        lane_rows(dst, ports, LANE_LOAD(e->seq), LANE_LOAD(e->ack), more);
        for (k = 0; k < 4; k++) {
            _mm_storeu_si128((__m128i *)e->to[k], _mm256_castsi256_si128(row[k]));
            _mm_storeu_si128((__m128i *)(e->to[k] + 16), _mm256_castsi256_si128(more[k]));
            _mm_storeu_si128((__m128i *)e->to[k + 4], _mm256_extracti128_si256(row[k], 1));
            _mm_storeu_si128((__m128i *)(e->to[k + 4] + 16), _mm256_extracti128_si256(more[k], 1));
        }
        check = _mm256_and_si256(LANE_LOAD(e->check), half);
        word = lane_patched(check, _mm256_add_epi32(addresses, lane_change(LANE_LOAD(e->ports), ports)));
        LANE_STORE(e->new_check, _mm256_blendv_epi8(check, word, translated));
        lanes_outer(e, src, dst, LANE_LOAD(e->total));
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

    /* Bits of lanes that have this connection. */
    SIGHT_AVX2 static uint32_t lanes_with(uint8_t *const *ct, const void *one)
    {
        const __m256i v = _mm256_set1_epi64x((long long)(uintptr_t)one);
        const __m256i low = _mm256_cmpeq_epi64(v, LANE_LOAD(ct)), high = _mm256_cmpeq_epi64(v, LANE_LOAD(ct + 4));
        return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) | (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
    }
    #else
    static inline uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, const int32_t *devs,
                                        uint32_t at, uint32_t most, uint32_t how)
    {
        (void)e; (void)data; (void)starts; (void)lengths; (void)devs; (void)at; (void)most; (void)how;
        return 0;
    }

    static inline uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed) { (void)e; (void)key; (void)unsummed; return 0; }
    static inline uint32_t lanes_pass(Eight *e) { (void)e; return 0; }
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
    const uint32_t LANE_TRANSLATED
    const uint32_t LANE_PUSH_UDP
    const uint32_t LANE_TRIMS
    const uint32_t LANE_REPLY_AT
    const uint32_t LANE_LIBERAL
    const uint32_t LANE_DEVICE_AT

    ctypedef struct LaneRow:
        uint32_t word[4]

    ctypedef struct LaneFacts:
        uint32_t push_sum
        uint32_t udp_sum
        uint32_t before
        uint32_t bits

    ctypedef struct LaneKeys:
        const uint32_t *seed
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
        uint64_t addresses[8]
        uint64_t place[8]
        uint32_t home[8]
        const void *flow[8]
        const uint8_t *lane[8]
        const uint8_t *way[8]
        uint8_t *ct[8]
        uint8_t *other[8]
        uint8_t *sender[8]
        uint8_t *receiver[8]
        uint8_t *last[8]
        uint32_t ref[8]
        uint64_t first
        int64_t until
        uint32_t n
        uint32_t wrote
        uint32_t at
        LaneRow next_sender[8]
        LaneRow next_receiver[8]
        LaneRow next_last[8]
        uint32_t next_flags[8]
        uint32_t lives[8]
        uint32_t length_out[8]
        uint8_t *to[8]
        uint32_t kept[8]
        uint32_t new_end[2][8]
        uint32_t new_ports[8]
        uint32_t ident[8]
        uint32_t sport[8]
        uint32_t new_check[8]
        uint32_t outer[8]
        uint32_t outer_check[8]
        uint32_t udp[8]

    uint32_t lanes_frames(Eight *e, const uint8_t *data, const uint64_t *starts, const uint32_t *lengths, const int32_t *devs, uint32_t at,
                          uint32_t most, uint32_t how) noexcept nogil
    uint32_t lanes_look(Eight *e, const LaneKeys *key, uint32_t *unsummed) noexcept nogil
    uint32_t lanes_pass(Eight *e) noexcept nogil  # bits of lanes that go as nearly all do, as far as their connections' windows tell
    void lanes_write(Eight *e) noexcept nogil  # the IP headers, and those of TCP up to the numbers; the rest is put in place by others
    uint32_t lanes_repeat(const uint32_t *words) noexcept nogil
    uint32_t lanes_with(uint8_t *const *ct, const void *one) noexcept nogil
