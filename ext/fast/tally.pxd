# What the frames of a window leave in tables that flows share: numbers drawn for tunnels, and what bridges have seen.
#
# What is true of programs is found out once, before a window, and only read in it. Each part of the frames counts for itself what it would
# leave there, as if all of them were carried; where the window ends earlier, it counts once more.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from ext.devices.core cimport Ns, chance_counter
from ext.devices.record cimport END_DROP, END_OUT
from ext.fast.flows cimport FLOW_TRACKS, FlowCache, HOW_RESET, PROGRAMS_MAX, Program, TRACKS_MAX, Track
from ext.tables.fdb cimport FdbEntry
from ext.tables.memory cimport memory_give, memory_take
from ext.wire.hash cimport mix64

cdef enum:
    COUNTERS_MOST = PROGRAMS_MAX  # a program has one at most
    COUNTER_PLACES = 1 << 17  # a power of two, about twice as many

cdef struct ProgramFacts:
    # what a window asks of a program more than once, in one cache line
    Program *program
    Track tracked[FLOW_TRACKS]  # its first connections
    uint64_t push_hash
    uint64_t walked
    uint16_t draws  # place + 1 in Facts.counter, 0: it draws nothing
    uint8_t shared  # any thread may carry its packets
    uint8_t leaves  # its packets may leave the world in their turn, see straight.pxd
    uint8_t n_tracks
    uint8_t track  # of its connections the one of TCP or, where none is, the one that translates
    uint8_t sees  # the same if it is one of TCP, else TRACKS_MAX

cdef struct Facts:
    ProgramFacts *program  # by number
    uint32_t n_programs
    uint16_t **counter  # of Ns.draws
    uint32_t n_counters
    uint32_t *places  # place + 1 in ``counter``, by hash
    uint64_t flushes  # of the cache, for which this is true

cdef struct ProgramTally:
    int64_t last  # virtual time of a packet that bridges have seen and have not been told of, counted from 1; 0: none
    int64_t before  # what it was before this window
    int64_t until  # the virtual time up to which it is known to hold
    uint32_t window  # of which this is true
    uint8_t seen  # its number is in Tally.seen
    uint16_t draws  # as in ProgramFacts

cdef struct Tally:
    # of one part
    ProgramTally *program  # by number
    uint32_t *seen  # numbers of programs that bridges may have to be told of
    uint32_t n_seen
    uint32_t window  # number of the window, from 1 on
    uint32_t *drawn  # by place of the counter: numbers drawn in this window
    uint32_t *drawing  # places that programs of this window draw from
    uint32_t *listed  # by place: the last window in which it is one of them
    uint32_t n_drawing
    uint16_t *before  # by place of the counter: what it stands at before the part of the frames that is looked at


# ---- programs

cdef inline bint facts_open(Facts *t) noexcept nogil:
    """False: memory is out; facts_close() is due all the same."""
    t.program = <ProgramFacts *>memory_take(PROGRAMS_MAX * sizeof(ProgramFacts))
    t.counter = <uint16_t **>calloc(COUNTERS_MOST, sizeof(uint16_t *))
    t.places = <uint32_t *>calloc(COUNTER_PLACES, sizeof(uint32_t))
    return t.program != NULL and t.counter != NULL and t.places != NULL


cdef inline void facts_close(Facts *t) noexcept nogil:
    memory_give(t.program, PROGRAMS_MAX * sizeof(ProgramFacts))
    free(t.counter)
    free(t.places)


cdef inline uint16_t counter_place(Facts *t, uint16_t *counter) noexcept nogil:
    """Place + 1."""
    cdef uint32_t at = <uint32_t>mix64(<uint64_t>counter) & (COUNTER_PLACES - 1)
    while t.places[at]:
        if t.counter[t.places[at] - 1] == counter:
            return <uint16_t>t.places[at]
        at = (at + 1) & (COUNTER_PLACES - 1)
    t.counter[t.n_counters] = counter
    t.n_counters += 1
    t.places[at] = t.n_counters
    return <uint16_t>t.n_counters


cdef inline void facts_note(Facts *t, Program *g, ProgramFacts *p) noexcept nogil:
    cdef int i
    p.program = g
    p.draws = counter_place(t, chance_counter(<Ns *>g.push_ns, g.push_hash)) if g.push_ns != NULL else 0
    p.push_hash = g.push_hash
    p.walked = g.walked
    p.n_tracks = g.n_tracks
    for i in range(min(<int>g.n_tracks, FLOW_TRACKS)):
        p.tracked[i] = g.tracks[i]
    p.shared = (g.end == END_OUT or g.end == END_DROP) and not g.place & HOW_RESET  # nothing else has to follow
    p.track = g.tcp_track if g.tcp_track < FLOW_TRACKS else g.nat_track[0] if g.n_nats else 0
    p.sees = p.track if g.tcp_track < FLOW_TRACKS else <uint8_t>TRACKS_MAX
    p.leaves = g.straight
    for i in range(g.n_nats):
        p.leaves &= g.nat_track[i] == p.track and p.track < g.n_tracks


cdef inline void facts_begin(Facts *t, const FlowCache *fc) noexcept nogil:
    """A window begins: what is new among programs is found out."""
    if t.flushes != fc.flushes:
        memset(t.places, 0, COUNTER_PLACES * sizeof(uint32_t))
        t.n_programs = t.n_counters = 0
        t.flushes = fc.flushes
    while t.n_programs < fc.n_programs:
        facts_note(t, fc.program[t.n_programs], &t.program[t.n_programs])
        t.n_programs += 1


# ---- what a part leaves

cdef inline bint tally_open(Tally *t) noexcept nogil:
    """False: memory is out; tally_close() is due all the same."""
    t.program = <ProgramTally *>calloc(PROGRAMS_MAX, sizeof(ProgramTally))
    t.seen = <uint32_t *>calloc(PROGRAMS_MAX, sizeof(uint32_t))
    t.drawn = <uint32_t *>calloc(COUNTERS_MOST, sizeof(uint32_t))
    t.drawing = <uint32_t *>calloc(COUNTERS_MOST, sizeof(uint32_t))
    t.listed = <uint32_t *>calloc(COUNTERS_MOST, sizeof(uint32_t))
    t.before = <uint16_t *>calloc(COUNTERS_MOST + 1, sizeof(uint16_t))  # and one that lanes_draw() reads
    return t.program != NULL and t.seen != NULL and t.drawn != NULL and t.drawing != NULL and t.listed != NULL and t.before != NULL


cdef inline void tally_close(Tally *t) noexcept nogil:
    free(t.program)
    free(t.seen)
    free(t.drawn)
    free(t.drawing)
    free(t.listed)
    free(t.before)


cdef inline void draws_forget(Tally *t) noexcept nogil:
    cdef uint32_t i
    for i in range(t.n_drawing):
        t.drawn[t.drawing[i]] = 0


cdef inline void tally_begin(Tally *t) noexcept nogil:
    """A window begins."""
    t.window += 1
    draws_forget(t)
    t.n_drawing = 0


cdef inline uint32_t draw_counted(Tally *t, uint32_t draws) noexcept nogil:
    """One more number is drawn; the how manieth of this part. ``draws``: as in ProgramFacts."""
    t.drawn[draws - 1] += 1
    return t.drawn[draws - 1]


cdef inline void program_joins(Tally *t, uint32_t number, int64_t until, uint16_t draws) noexcept nogil:
    """The first packet of a program in this window comes."""
    cdef ProgramTally *p = &t.program[number]
    if not p.seen:
        p.seen = True
        t.seen[t.n_seen] = number
        t.n_seen += 1
    p.window = t.window
    p.before = p.last
    p.until = until
    p.draws = draws
    if draws and t.listed[draws - 1] != t.window:
        t.listed[draws - 1] = t.window
        t.drawing[t.n_drawing] = draws - 1
        t.n_drawing += 1


cdef inline void program_seen(ProgramTally *p, int64_t now) noexcept nogil:
    """Bridges see a packet of it."""
    if p.last <= now:
        p.last = now + 1


cdef inline void tally_again(Tally *t) noexcept nogil:
    """All that this window has left is forgotten, and will be counted once more."""
    cdef ProgramTally *p
    cdef uint32_t i
    draws_forget(t)
    for i in range(t.n_seen):
        p = &t.program[t.seen[i]]
        if p.window == t.window:
            p.last = p.before


# ---- all parts together

cdef inline void draws_before(Tally *t, const Facts *facts, const Tally *of) noexcept nogil:
    """A pass through all parts begins: of counters that part ``of`` draws from the first one begins where they stand."""
    cdef uint32_t i
    for i in range(of.n_drawing):
        t.before[of.drawing[i]] = facts.counter[of.drawing[i]][0]


cdef inline void draws_behind(Tally *t, const Tally *of) noexcept nogil:
    """The next part begins behind what part ``of`` draws."""
    cdef uint32_t i
    for i in range(of.n_drawing):
        t.before[of.drawing[i]] += <uint16_t>of.drawn[of.drawing[i]]


cdef inline void draws_told(const Tally *t, const Facts *facts) noexcept nogil:
    cdef uint32_t i
    for i in range(t.n_drawing):
        facts.counter[t.drawing[i]][0] += <uint16_t>t.drawn[t.drawing[i]]


cdef inline void programs_told(Tally *t, const FlowCache *fc) noexcept nogil:
    """Bridges are told."""
    cdef const Program *g
    cdef ProgramTally *p
    cdef FdbEntry *e
    cdef uint32_t i
    cdef int k
    for i in range(t.n_seen):
        p = &t.program[t.seen[i]]
        g = fc.program[t.seen[i]]
        for k in range(g.n_refreshed):
            e = g.refreshed[k]
            if e.updated < p.last - 1:
                e.updated = p.last - 1
        p.last = 0
        p.seen = p.window = 0
    t.n_seen = 0
