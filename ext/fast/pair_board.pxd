# What two threads that carry eights together (pair.pxd) hand to each other: for each eight of a ring a slip with what its connections are to
# be told with, and a reply with what is needed to write it; how far both are, each number in a cache line of its own.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ext.fast.crew cimport CREW_MOST  # for crew_pause(), which is written in C there
from ext.fast.lane_write cimport LaneReply
from ext.fast.lanes cimport Eight

cdef extern from *:
    """
    #include <sched.h>

    enum { PAIR_EIGHTS = 32 };  /* in the ring, a power of two */
    enum { PAIR_NOBODY, PAIR_HERE, PAIR_GOES, PAIR_OVER };  /* PairState.at: of the reader, and then of both */
    enum { PAIR_LOOKS_AT = 1024 };  /* times that one looks before the other one, who may have no processor, is let in */

    typedef struct { uint8_t bytes[LANE_SLIP]; } __attribute__((aligned(64))) LaneSlip;
    /* Eights of the reader's that are found, and behind how many there is none. */
    typedef struct { uint64_t found, past; } __attribute__((aligned(64))) PairReader;
    /* Eights of the reader's that have gone, and lanes of the one behind them. */
    typedef struct { uint64_t gone, lanes; } __attribute__((aligned(64))) PairFollower;
    typedef struct { uint64_t at; } __attribute__((aligned(64))) PairState;

    typedef struct {
        LaneSlip slip[PAIR_EIGHTS];
        LaneReply reply[PAIR_EIGHTS];
        PairReader reader;
        PairFollower follower;
        PairState state;
    } __attribute__((aligned(64))) PairBoard;

    /* What the other one has done before he said so is seen. */
    static inline uint64_t pair_seen(const uint64_t *number) { return __atomic_load_n(number, __ATOMIC_ACQUIRE); }
    static inline void pair_says(uint64_t *number, uint64_t what) { __atomic_store_n(number, what, __ATOMIC_RELEASE); }

    static inline int pair_turns(uint64_t *number, uint64_t was, uint64_t is)
    {
        return __atomic_compare_exchange_n(number, &was, is, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }

    static inline void pair_waits(uint32_t *times)
    {
        if (++*times % PAIR_LOOKS_AT)
            crew_pause();
        else
            sched_yield();
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    SIGHT_AVX2 static inline void slip_copied(void *to, const void *from)
    {
        size_t i;
        for (i = 0; i < LANE_SLIP; i += 32)
            LANE_STORE((uint8_t *)to + i, LANE_LOAD((const uint8_t *)from + i));
    }
    #else
    static inline void slip_copied(void *to, const void *from) { memcpy(to, from, LANE_SLIP); }
    #endif

    static inline void slip_of(LaneSlip *s, const Eight *e) { slip_copied(s->bytes, e->ct); }
    static inline void slip_told(Eight *e, const LaneSlip *s) { slip_copied(e->ct, s->bytes); }

    /* Connections of TCP, and behind them the other ones. */
    static inline uint8_t *const *slip_ct(const LaneSlip *s) { return (uint8_t *const *)s->bytes; }

    static inline void slip_ahead(const LaneSlip *s)
    {
        size_t i;
        for (i = 0; i < sizeof(*s); i += 64)
            __builtin_prefetch(s->bytes + i);
    }

    static inline void reply_ahead(const LaneReply *r)
    {
        size_t i;
        for (i = 0; i < sizeof(*r); i += 64)
            __builtin_prefetch((const uint8_t *)r + i);
    }
    """
    enum:
        PAIR_EIGHTS
        PAIR_NOBODY
        PAIR_HERE
        PAIR_GOES
        PAIR_OVER

    ctypedef struct LaneSlip:
        pass

    ctypedef struct PairReader:
        uint64_t found
        uint64_t past

    ctypedef struct PairFollower:
        uint64_t gone
        uint64_t lanes

    ctypedef struct PairState:
        uint64_t at

    ctypedef struct PairBoard:
        LaneSlip slip[32]  # PAIR_EIGHTS
        LaneReply reply[32]
        PairReader reader
        PairFollower follower
        PairState state

    uint64_t pair_seen(const uint64_t *number) noexcept nogil
    void pair_says(uint64_t *number, uint64_t what) noexcept nogil
    bint pair_turns(uint64_t *number, uint64_t was, uint64_t is_) noexcept nogil
    void pair_waits(uint32_t *times) noexcept nogil
    void slip_of(LaneSlip *s, const Eight *e) noexcept nogil
    void slip_told(Eight *e, const LaneSlip *s) noexcept nogil
    uint8_t *const *slip_ct(const LaneSlip *s) noexcept nogil
    void slip_ahead(const LaneSlip *s) noexcept nogil
    void reply_ahead(const LaneReply *r) noexcept nogil
