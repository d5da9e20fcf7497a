# What the frames of a window leave in tables that flows share, for one part of them: counters of draws, and what bridges have seen.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from ext.devices.core cimport DRAW_COUNTERS, Ns
from ext.devices.record cimport END_DROP, END_OUT
from ext.fast.flows cimport FlowCache, PROGRAMS_MAX, Program
from ext.tables.fdb cimport FdbEntry
from ext.wire.hash cimport mix64

cdef enum:
    DRAWS_MOST = 1 << 12  # counters, a power of two; then what is known of all programs is found anew
    DRAW_PLACES = DRAWS_MOST * 2

cdef struct ProgramTally:
    int64_t last  # virtual time of a packet that bridges have seen and have not been told of, counted from 1; 0: none
    uint32_t draws  # place + 1 in Tally.draws, 0: it draws nothing
    uint8_t known  # the rest is
    uint8_t shared  # any thread may carry its packets
    uint8_t refreshes

cdef struct DrawTally:
    uint16_t *counter  # of Ns.draws
    uint64_t window  # of which the rest is
    uint32_t planned
    uint32_t drawn
    uint16_t before  # what the counter stands at before the first of these

cdef struct Tally:
    ProgramTally *program  # by number
    uint32_t *seen  # numbers of programs whose ``last`` is set
    uint32_t n_seen
    DrawTally *draws
    uint32_t n_draws
    uint32_t *draw_places  # place + 1 in ``draws``, by hash
    uint32_t *drawing  # places in ``draws`` of those of this window
    uint32_t n_drawing
    uint64_t window  # number of the window, from 1 on
    uint64_t flushes  # of the cache, for which programs are known


cdef inline bint tally_open(Tally *t) noexcept nogil:
    """False: memory is out; tally_close() is due all the same."""
    t.program = <ProgramTally *>calloc(PROGRAMS_MAX, sizeof(ProgramTally))
    t.seen = <uint32_t *>calloc(PROGRAMS_MAX, sizeof(uint32_t))
    t.draws = <DrawTally *>calloc(DRAWS_MOST, sizeof(DrawTally))
    t.drawing = <uint32_t *>calloc(DRAWS_MOST, sizeof(uint32_t))
    t.draw_places = <uint32_t *>calloc(DRAW_PLACES, sizeof(uint32_t))
    return t.program != NULL and t.seen != NULL and t.draws != NULL and t.drawing != NULL and t.draw_places != NULL


cdef inline void tally_close(Tally *t) noexcept nogil:
    free(t.program)
    free(t.seen)
    free(t.draws)
    free(t.drawing)
    free(t.draw_places)


cdef inline void tally_begin(Tally *t, const FlowCache *fc) noexcept nogil:
    """A window begins. What was seen in the last one has been told if the cache has been flushed meanwhile."""
    t.window += 1
    t.n_drawing = 0
    if t.flushes != fc.flushes or (t.n_draws == DRAWS_MOST and t.n_seen == 0):
        memset(t.program, 0, PROGRAMS_MAX * sizeof(ProgramTally))
        memset(t.draw_places, 0, DRAW_PLACES * sizeof(uint32_t))
        t.n_draws = 0
        t.flushes = fc.flushes


# ---- draws

cdef inline uint32_t draw_place(const Tally *t, const uint16_t *counter) noexcept nogil:
    """Where the counter is, or belongs."""
    cdef uint32_t at = <uint32_t>mix64(<uint64_t>counter) & (DRAW_PLACES - 1)
    while t.draw_places[at] and t.draws[t.draw_places[at] - 1].counter != counter:
        at = (at + 1) & (DRAW_PLACES - 1)
    return at


cdef inline uint32_t draws_of(Tally *t, const Program *g) noexcept nogil:
    """Place + 1 of the counter that its packets draw from; 0: there is no room for it."""
    cdef uint16_t *counter = &(<Ns *>g.push_ns).draws[g.push_hash & (DRAW_COUNTERS - 1)]
    cdef uint32_t at = draw_place(t, counter)
    cdef DrawTally *d
    if t.draw_places[at] == 0 and t.n_draws < DRAWS_MOST:
        d = &t.draws[t.n_draws]
        t.n_draws += 1
        t.draw_places[at] = t.n_draws
        d.counter = counter
        d.window = 0
    return t.draw_places[at]


cdef inline uint32_t draw_planned(Tally *t, uint32_t draws) noexcept nogil:
    """One more of this window's; the how manieth."""
    cdef DrawTally *d = &t.draws[draws - 1]
    if d.window != t.window:
        d.window = t.window
        d.planned = d.drawn = 0
        t.drawing[t.n_drawing] = draws - 1
        t.n_drawing += 1
    d.planned += 1
    return d.planned


cdef inline uint32_t draws_planned(const Tally *t, const uint16_t *counter) noexcept nogil:
    """How many in all."""
    cdef uint32_t place = t.draw_places[draw_place(t, counter)]
    return t.draws[place - 1].planned if place and t.draws[place - 1].window == t.window else 0


cdef inline void draws_told(const Tally *t) noexcept nogil:
    cdef const DrawTally *d
    cdef uint32_t i
    for i in range(t.n_drawing):
        d = &t.draws[t.drawing[i]]
        d.counter[0] += <uint16_t>d.drawn


# ---- programs

cdef inline ProgramTally *tally_of(Tally *t, const Program *g, uint32_t number) noexcept nogil:
    cdef ProgramTally *p = &t.program[number]
    if p.known:
        return p
    p.draws = draws_of(t, g) if g.push_ns != NULL else 0
    p.known = g.push_ns == NULL or p.draws != 0
    p.shared = p.known and (g.end == END_OUT or g.end == END_DROP)  # nothing else has to follow
    p.refreshes = g.n_refreshed != 0
    p.last = 0
    return p


cdef inline void program_seen(Tally *t, uint32_t number, int64_t now) noexcept nogil:
    """Bridges see a packet of this program."""
    cdef ProgramTally *p = &t.program[number]
    if p.last == 0:
        t.seen[t.n_seen] = number
        t.n_seen += 1
    p.last = now + 1


cdef inline void programs_told(Tally *t, const FlowCache *fc) noexcept nogil:
    """Bridges are told."""
    cdef const Program *g
    cdef FdbEntry *e
    cdef int64_t last
    cdef uint32_t i
    cdef int k
    for i in range(t.n_seen):
        g = fc.program[t.seen[i]]
        last = t.program[t.seen[i]].last - 1
        t.program[t.seen[i]].last = 0
        for k in range(g.n_refreshed):
            e = g.refreshed[k]
            if e.updated < last:
                e.updated = last
    t.n_seen = 0
