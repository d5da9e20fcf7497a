# What the parts of a window work with, and what a frame leaves in them; what is done with it is in window.pxd and dealt.pxd.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Core
from ext.fast.abreast cimport Row
from ext.fast.crew cimport CREW_MOST, Crew
from ext.fast.flows cimport Flow, FlowCache, Program, Track, world_seen
from ext.fast.lane_deals cimport DEAL_SHARD, Deal
from ext.fast.pair cimport Pair
from ext.fast.tally cimport Facts, ProgramFacts, Tally, draw_counted, program_joins, program_seen, tally_begin
from ext.fast.track cimport Told, track_stands, track_told
from ext.tables.conntrack cimport Ct, CtRef
from ext.tables.ct_settings cimport CtStatus

cdef extern from *:
    """
    #include <stdint.h>

    static inline uint64_t cut_seen(const uint64_t *cut) { return __atomic_load_n(cut, __ATOMIC_RELAXED); }

    static inline void cut_before(uint64_t *cut, uint64_t at)
    {
        uint64_t now = cut_seen(cut);
        while (at < now && !__atomic_compare_exchange_n(cut, &now, at, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            ;
    }
    """
    uint64_t cut_seen(const uint64_t *cut) noexcept nogil
    void cut_before(uint64_t *cut, uint64_t at) noexcept nogil

cdef enum:
    STALE_MOST = 256  # programs

cdef struct Lot:
    # frames from outside, as in Engine.carry()
    const uint8_t *data
    const int32_t *devs
    const uint64_t *starts
    const uint32_t *lengths
    const int64_t *times

cdef struct Turn:
    # a packet that a connection of TCP will see, or that will leave the world, or both; half a cache line
    Ct *ct  # that sees or translates it; NULL: none
    const uint8_t *ip  # its inner IP header
    uint32_t place  # of the frame in the window
    uint16_t n  # bytes from there to the frame's end
    uint16_t program  # its number
    uint16_t serial  # of the connection
    uint16_t sport  # as in Flow
    uint16_t draw  # of its counter's in this part of the frames, counted from 1; 0: it draws nothing
    uint8_t track  # of the program's, TRACKS_MAX: the connection does not see it
    uint8_t leaves

cdef struct Visit:
    # a connection of another protocol will see a packet
    Ct *ct
    const Track *track
    uint32_t place
    uint16_t serial

cdef struct Turns:
    # of connections that one part has, for packets of another
    Turn *turn  # in order, and so are
    Visit *visit
    uint32_t n_turns
    uint32_t n_visits

cdef struct Rest:
    # a frame that is carried when all connections have seen theirs, for there is somebody else to see it
    const Flow *flow
    uint32_t place
    uint16_t l3
    uint16_t inner
    uint16_t draw  # as in Turn

cdef struct Undo:
    Ct *ct
    int64_t expires
    CtStatus status
    uint32_t place

cdef struct TcpUndo:
    Told was
    uint32_t place

cdef struct Part:
    Core core  # the world as it is, with a time, records and counters of its own
    FlowCache cache  # the same flows, with memory of its own
    Tally tally
    int number
    uint64_t first  # of its part of the frames
    uint64_t past
    Turns turns[CREW_MOST]  # of its frames, by the part that the connection belongs to
    # those in front of the others, whose TCP segments go eight at a time, by the part that has their connections of TCP,
    Deal deal[CREW_MOST]
    Deal visits[CREW_MOST]  # and that has the other ones
    uint64_t dealt  # the first frame that is none of them
    uint32_t at  # where in them the IP header stands
    Row row  # eights in hand
    uint32_t *stale  # numbers of programs whose lanes are to be filled in
    uint32_t n_stale
    Rest *rest  # of its frames
    uint32_t n_rest
    uint64_t walked  # rules, for those that leave in their turn
    Undo *undo  # of its connections
    TcpUndo *tcp_undo
    uint32_t n_undo
    uint32_t n_tcp_undo

cdef struct Window:
    Core *c
    Crew *crew
    Pair *pair  # of two threads, NULL: there are more
    Lot lot
    uint64_t first
    uint64_t past
    uint64_t cut  # the first frame that is not carried
    int64_t now  # before the first frame
    int64_t until  # something else is due then
    uint32_t next_packet
    bint windows  # False: there are none, but for the pair's eights
    bint wide  # packets may go eight at a time
    uint64_t order[256]  # deal_orders()
    Facts facts
    Part *part[CREW_MOST]
    int n  # parts, and threads
    uint32_t n_reasons
    uint32_t most  # frames
    uint32_t least
    uint32_t size  # that are tried next
    uint32_t rest  # frames that go one at a time after a window that was cut
    uint32_t waits  # of these, frames that still do


cdef inline int64_t frame_time(const Window *w, uint64_t i) noexcept nogil:
    return w.lot.times[i] if w.lot.times[i] > w.now else w.now


cdef inline int owner_of(CtRef ref, int n) noexcept nogil:
    """The part that a connection belongs to."""
    cdef uint32_t stretch = ref >> DEAL_SHARD
    return <int>(stretch & 1 if n == 2 else stretch % <uint32_t>n)


cdef inline void part_begins(const Window *w, Part *me) noexcept nogil:
    """It gets its part of the frames, and sees the world as it is. The first one's records are the world's own: they come first."""
    cdef uint64_t n = w.past - w.first
    cdef int part, number = me.number
    me.first = w.first + (n * <uint64_t>number + <uint64_t>w.n - 1) // <uint64_t>w.n
    me.past = w.first + (n * <uint64_t>(number + 1) + <uint64_t>w.n - 1) // <uint64_t>w.n
    world_seen(&me.core, &me.cache, w.c)
    me.core.now = frame_time(w, me.first - 1) if number else w.now
    me.n_rest = me.n_stale = 0
    me.walked = 0
    for part in range(w.n):
        me.turns[part].n_turns = me.turns[part].n_visits = me.deal[part].n = me.visits[part].n = 0
    tally_begin(&me.tally)
    if number == 0:
        me.core.bytes = w.c.bytes
        me.core.frames = w.c.frames
        me.core.drops = w.c.drops
        me.core.changes = w.c.changes
        me.core.order = w.c.order


cdef inline bint program_known(const Window *w, Part *me, uint32_t number, const Program *g) noexcept nogil:
    """Does it hold, if its first packet in this window comes? Where neighbours and bridges are to be looked at again, that is noted in the
    program, which one thread has to do."""
    cdef const ProgramFacts *facts = &w.facts.program[number]
    if not facts.shared or not g.plain or g.generation != me.core.generation or g.moves != me.core.moves:
        return False
    if w.wide and me.cache.lane[number].stamp != me.cache.lanes_stamp and me.n_stale < <uint32_t>STALE_MOST:
        me.stale[me.n_stale] = number
        me.n_stale += 1
    program_joins(&me.tally, number, min(g.checked_until, w.until), facts.draws)
    return True


cdef inline uint16_t frame_counted(Part *me, const ProgramFacts *facts, uint32_t program, int64_t now) noexcept nogil:
    """What the frame leaves in tables and counters, if it is carried: its draw as in Turn."""
    program_seen(&me.tally.program[program], now)
    if facts.leaves:
        me.walked += facts.walked
    return <uint16_t>draw_counted(&me.tally, facts.draws) if facts.draws else 0


cdef inline void visit_kept(Undo *u, Ct *ct, uint32_t place) noexcept nogil:
    """The connection, which will see a packet, may get back what it is."""
    u.ct = ct
    u.expires = ct.expires
    u.status = ct.status
    u.place = place


cdef inline bint visit_settled(Part *me, const Visit *v, Undo *u) noexcept nogil:
    """The connection has seen the packet, or would not have it."""
    if not track_stands(&me.core, v.track, v.ct, v.serial):
        return False
    visit_kept(u, v.ct, v.place)
    track_told(&me.core, v.track, v.ct)
    return True
