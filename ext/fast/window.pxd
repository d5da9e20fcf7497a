# Many frames from outside at once, carried by several threads, as one thread would carry them one after the other.
#
# A window is a run of frames before which nothing else is due, and of which each goes the way of its flow out of the world. Three steps:
#   look    each part of the frames: their flows, and whether the frames are what those have been seen to carry
#   settle  each part of the connections is shown its packets in order, whichever part of the frames they are in
#   go      each part of the frames is carried
# A frame that will not do ends the window in front of it, wherever it is found; connections that have seen it, or later ones, get back
# what they were. What the frames leave in tables, counters and records is put together in their order.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Counters, Dev, DropRecord, FrameRecord, Store, TRACE_STEPS,
                               store_add)
from ext.devices.record cimport REC_OFF
from ext.fast.apply cimport flow_goes_copied, frame_as_known
from ext.fast.crew cimport CREW_MOST, Crew, crew_free, crew_is_here, crew_new, crew_work
from ext.fast.flows cimport (Flow, FlowCache, HOW_RESET, Program, SCRATCH, Track, TRACKS_MAX, flow_find, flow_home, flow_program,
                             flow_track)
from ext.fast.frame cimport Frame
from ext.fast.key cimport IP, Parsed, key_parse
from ext.fast.tally cimport (DrawTally, ProgramTally, Tally, draw_planned, draws_planned, draws_told, program_seen, programs_told, tally_begin,
                             tally_close, tally_of, tally_open)
from ext.fast.track cimport Told, told_kept, told_undone, track_asked, track_stands, track_told, track_told_tcp
from ext.tables.conntrack cimport Ct
from ext.tables.ct_settings cimport CtStatus
from ext.tables.ct_tcp cimport TcpSegment, tcp_plain_segment
from ext.wire.bytes cimport ask_for, ld16
from ext.wire.hash cimport draw_hash
from ext.wire.packet cimport PKT_HEADROOM, PKT_TAILROOM

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
    WINDOW_MOST = 1024  # frames: what belongs to them stays in the caches that each processor has to itself
    WINDOW_LEAST = 64  # fewer are not worth the meetings
    STEP_LOOK = 0
    STEP_SETTLE = 1
    STEP_GO = 2
    WINDOW_STEPS = 3
    BURST = 16  # frames whose keys are read, and whose flows are asked for, before the first of them is looked at
    DATA_AHEAD = 32
    CONNECTIONS_AHEAD = 8
    SHARD_BITS = 13  # of the place of a connection in memory: those side by side, which share cache lines, are of one part

cdef struct Lot:
    # frames from outside, as in Engine.carry()
    const uint8_t *data
    const int32_t *devs
    const uint64_t *starts
    const uint32_t *lengths
    const int64_t *times

cdef struct Seat:
    # a frame of the window
    const Flow *flow
    const Program *program
    uint32_t draws  # place + 1 of its counter in Tally.draws, 0: none
    uint32_t draw  # of that counter in this part, counted from 1
    uint16_t l3
    uint16_t inner
    uint8_t refreshes

cdef struct Visit:
    # a connection will see a packet
    Ct *ct
    const Track *track
    int64_t now
    uint16_t serial
    uint32_t place  # of the packet in the window

cdef struct TcpVisit:
    Visit visit
    TcpSegment segment

cdef struct Visits:
    # of connections that one part has, to packets of another
    Visit *plain  # in order, those of protocols other than TCP
    TcpVisit *tcp
    uint32_t n_plain
    uint32_t n_tcp

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
    uint64_t first  # of its part of the frames
    uint64_t past
    Visits visits[CREW_MOST]  # of its packets, by the part that the connection belongs to
    Undo *undo  # of its connections
    TcpUndo *tcp_undo
    uint32_t n_undo
    uint32_t n_tcp_undo

cdef struct Window:
    Core *c
    Crew *crew
    Lot lot
    uint64_t first
    uint64_t past
    uint64_t cut  # the first frame that is not carried
    int64_t now  # before the first frame
    int64_t until  # something else is due then
    uint32_t next_packet
    Part *part[CREW_MOST]
    int n  # parts, and threads
    Seat *seat
    uint32_t n_reasons
    uint32_t most  # frames
    uint32_t least
    uint32_t size  # that are tried next
    uint32_t rest  # frames that go one at a time after a window that was cut
    uint32_t waits  # of these, frames that still do


# ---- look

cdef inline int64_t frame_time(const Window *w, uint64_t i) noexcept nogil:
    return w.lot.times[i] if w.lot.times[i] > w.now else w.now


cdef inline int owner_of(const Ct *ct, int n) noexcept nogil:
    """The part that a connection belongs to."""
    cdef uint32_t stretch = <uint32_t>(<uintptr_t>ct >> SHARD_BITS)
    return <int>(stretch & 1 if n == 2 else stretch % <uint32_t>n)


cdef inline void look_ahead(const Window *w, Part *me, uint64_t i, Parsed *seen) noexcept nogil:
    """Read the key of frame ``i``, and ask for what lies where its flow should; of one that has none ``length`` is 0."""
    cdef const Dev *d
    seen.length = 0
    if i + DATA_AHEAD < me.past:
        ask_for(w.lot.data + w.lot.starts[i + DATA_AHEAD])
    d = me.core.dev[w.lot.devs[i]]
    if key_parse(&me.cache, d, True, w.lot.data + w.lot.starts[i], w.lot.lengths[i], seen):
        ask_for(flow_home(&me.cache, seen.hash))
    else:
        seen.length = 0


cdef inline bint is_as_known(const Part *me, const Flow *f, Program *g, const Parsed *a, const uint8_t *frame) noexcept nogil:
    if g.moves != me.core.moves or me.core.now >= g.checked_until:
        return False  # neighbours and bridges are to be looked at again, which is noted in the program
    return g.plain and frame_as_known(&me.core, f, g, frame, a, False)


cdef inline bint meets_twice(const FlowCache *fc, const Flow *f, const Program *g) noexcept nogil:
    """Is one of its connections on the way more than once?"""
    cdef uint16_t serial
    cdef int i, k
    for i in range(1, g.n_tracks):
        for k in range(i):
            if flow_track(fc, f, g, i, &serial) == flow_track(fc, f, g, k, &serial):
                return True
    return False


cdef inline void visit_plan(Window *w, Part *me, Ct *ct, uint16_t serial, const Track *track, const uint8_t *ip, uint32_t place) noexcept nogil:
    cdef Visits *with_owner = &me.visits[owner_of(ct, w.n)]
    cdef TcpVisit *t
    cdef Visit *v
    if track.proto == 6:
        t = &with_owner.tcp[with_owner.n_tcp]
        with_owner.n_tcp += 1
        tcp_plain_segment(&t.segment, ip + IP, ld16(ip + 2) - IP)
        v = &t.visit
    else:
        v = &with_owner.plain[with_owner.n_plain]
        with_owner.n_plain += 1
    v.ct = ct
    v.track = track
    v.now = me.core.now
    v.serial = serial
    v.place = place


cdef inline bint visits_plan(Window *w, Part *me, const Flow *f, const Program *g, const uint8_t *ip, uint32_t place) noexcept nogil:
    """Its connections are to see the packet. False: one of them would see it twice."""
    cdef uint16_t serial
    cdef Ct *ct
    cdef int i
    if g.n_tracks > 1 and meets_twice(&me.cache, f, g):
        return False
    for i in range(g.n_tracks):
        ct = flow_track(&me.cache, f, g, i, &serial)
        visit_plan(w, me, ct, serial, &g.tracks[i], ip, place)
    return True


cdef inline bint frame_joins(Window *w, Part *me, uint64_t i, const Parsed *a) noexcept nogil:
    """Does the frame go the way of its flow, as far as that can be told without its connections?"""
    cdef const uint8_t *frame = w.lot.data + w.lot.starts[i]
    cdef Seat *seat = &w.seat[i - w.first]
    cdef const ProgramTally *tally
    cdef Program *g
    cdef Flow *f
    cdef int64_t now = frame_time(w, i)
    if now < me.core.now or now >= w.until or a.key.place & HOW_RESET or a.length > SCRATCH - PKT_HEADROOM - PKT_TAILROOM:
        return False
    me.core.now = now
    f = flow_find(&me.cache, &a.key, a.hash)
    if f == NULL:
        return False
    g = flow_program(&me.cache, f)
    tally = tally_of(&me.tally, g, f.program - 1)
    if (not tally.shared or not is_as_known(me, f, g, a, frame)
            or not visits_plan(w, me, f, g, frame + a.inner, <uint32_t>(i - w.first))):
        return False
    seat.flow = f
    seat.program = g
    seat.l3 = <uint16_t>a.l3
    seat.inner = <uint16_t>a.inner
    seat.refreshes = tally.refreshes
    seat.draws = tally.draws
    if tally.draws:
        seat.draw = draw_planned(&me.tally, tally.draws)
    return True


cdef inline void window_look(Window *w, Part *me) noexcept nogil:
    cdef Parsed seen[BURST]
    cdef uint64_t first, i, past
    cdef int k
    for k in range(w.n):
        me.visits[k].n_plain = me.visits[k].n_tcp = 0
    me.core.now = frame_time(w, me.first - 1) if me.first > w.first else w.now
    first = me.first
    while first < me.past and cut_seen(&w.cut) > first:
        past = first + BURST if first + BURST < me.past else me.past
        for i in range(first, past):
            look_ahead(w, me, i, &seen[i - first])
        for i in range(first, past):
            if seen[i - first].length == 0 or not frame_joins(w, me, i, &seen[i - first]):
                cut_before(&w.cut, i)
                return
        first = past


cdef inline bint begins_well(Window *w, Part *me) noexcept nogil:
    """Is it worth calling the others? Where no frame will do, the first one does not either."""
    cdef const FlowCache *fc = &me.cache
    cdef const Flow *f
    cdef Parsed seen
    look_ahead(w, me, w.first, &seen)
    if seen.length == 0:
        return False
    f = flow_find(fc, &seen.key, seen.hash)
    return f != NULL and tally_of(&me.tally, flow_program(fc, f), f.program - 1).shared


# ---- settle

cdef inline bint plain_settled(Part *me, const Visit *v) noexcept nogil:
    """The connection has seen the packet, or would not have it."""
    cdef Undo *u = &me.undo[me.n_undo]
    me.core.now = v.now
    if not track_stands(&me.core, v.track, v.ct, v.serial):
        return False
    u.ct = v.ct
    u.expires = v.ct.expires
    u.status = v.ct.status
    u.place = v.place
    me.n_undo += 1
    track_told(&me.core, v.track, v.ct)
    return True


cdef inline bint tcp_settled(Part *me, TcpVisit *t) noexcept nogil:
    """The same of TCP."""
    cdef TcpUndo *u = &me.tcp_undo[me.n_tcp_undo]
    me.core.now = t.visit.now
    if not track_asked(&me.core, t.visit.track, t.visit.ct, t.visit.serial, &t.segment):
        return False
    told_kept(&u.was, t.visit.ct)
    u.place = t.visit.place
    me.n_tcp_undo += 1
    track_told_tcp(&me.core, t.visit.track, t.visit.ct, &t.segment)
    return True


cdef inline void connection_ahead(const Ct *ct) noexcept nogil:
    ask_for(&ct.serial)
    ask_for(<const char *>(ct + 1) - 1)


cdef inline void visits_settle(Window *w, Part *me, const Visits *v, uint32_t cut) noexcept nogil:
    """In front of ``cut``, all that will."""
    cdef uint32_t i
    for i in range(v.n_tcp):
        if v.tcp[i].visit.place >= cut:
            break
        if i + CONNECTIONS_AHEAD < v.n_tcp:
            connection_ahead(v.tcp[i + CONNECTIONS_AHEAD].visit.ct)
        if not tcp_settled(me, &v.tcp[i]):
            cut = v.tcp[i].visit.place
            cut_before(&w.cut, w.first + cut)
            break
    for i in range(v.n_plain):
        if v.plain[i].place >= cut:
            break
        if i + CONNECTIONS_AHEAD < v.n_plain:
            ask_for(&v.plain[i + CONNECTIONS_AHEAD].ct.serial)
        if not plain_settled(me, &v.plain[i]):
            cut_before(&w.cut, w.first + v.plain[i].place)
            break


cdef inline void window_settle(Window *w, Part *me, int number) noexcept nogil:
    cdef uint32_t cut = <uint32_t>(cut_seen(&w.cut) - w.first)
    cdef int part
    me.n_undo = me.n_tcp_undo = 0
    for part in range(w.n):
        visits_settle(w, me, &w.part[part].visits[number], cut)
        cut = <uint32_t>(cut_seen(&w.cut) - w.first)


cdef inline void window_undo(const Window *w, Part *me) noexcept nogil:
    """Connections that have seen more than is carried are what they were, the last change first."""
    cdef uint64_t cut = cut_seen(&w.cut) - w.first
    cdef const Undo *u
    while me.n_tcp_undo and me.tcp_undo[me.n_tcp_undo - 1].place >= cut:
        me.n_tcp_undo -= 1
        told_undone(&me.tcp_undo[me.n_tcp_undo].was)
    while me.n_undo and me.undo[me.n_undo - 1].place >= cut:
        me.n_undo -= 1
        u = &me.undo[me.n_undo]
        u.ct.expires = u.expires
        u.ct.status = u.status


# ---- go

cdef inline void draws_begin(const Window *w, Part *me, int number) noexcept nogil:
    """Behind what the parts before this one draw."""
    cdef DrawTally *d
    cdef uint32_t i
    cdef int part
    for i in range(me.tally.n_drawing):
        d = &me.tally.draws[me.tally.drawing[i]]
        d.before = d.counter[0]
        for part in range(number):
            d.before += <uint16_t>draws_planned(&w.part[part].tally, d.counter)


cdef inline void frame_leaves(Window *w, Part *me, uint64_t i) noexcept nogil:
    cdef const Seat *seat = &w.seat[i - w.first]
    cdef const Program *g = seat.program
    cdef DrawTally *d
    cdef Parsed a
    cdef Frame p
    me.core.now = frame_time(w, i)
    if seat.refreshes:
        program_seen(&me.tally, seat.flow.program - 1, me.core.now)
    a.l3 = seat.l3
    a.inner = seat.inner
    p.buf = <uint8_t *>(w.lot.data + w.lot.starts[i])
    p.l2 = p.hash = 0
    p.end = w.lot.lengths[i]
    p.hash_l4 = p.crossings = p.sound = p.unfinished = 0
    p.id = w.next_packet + <uint32_t>(i - w.first) + 1
    if seat.draws:
        d = &me.tally.draws[seat.draws - 1]
        d.drawn = seat.draw
        p.ident = <uint16_t>draw_hash(g.push_hash, <uint16_t>(d.before + seat.draw))
    flow_goes_copied(&me.core, seat.flow, g, &p, &a, me.cache.scratch, PKT_HEADROOM)


cdef inline void window_go(Window *w, Part *me, int number) noexcept nogil:
    cdef uint64_t i, past = cut_seen(&w.cut)
    if past > me.past:
        past = me.past
    window_undo(w, me)
    if me.first >= past:
        return
    draws_begin(w, me, number)
    for i in range(me.first, past):
        frame_leaves(w, me, i)


cdef inline void window_step(void *what, int part, int step) noexcept nogil:
    cdef Window *w = <Window *>what
    if step == STEP_LOOK:
        window_look(w, w.part[part])
    elif step == STEP_SETTLE:
        window_settle(w, w.part[part], part)
    else:
        window_go(w, w.part[part], part)


# ---- before and after

cdef inline void part_begins(Window *w, int number) noexcept nogil:
    """It gets its part of the frames, and sees the world as it is. The first one's records are the world's own: they come first."""
    cdef Part *me = w.part[number]
    cdef const FlowCache *fc = <const FlowCache *>w.c.fast
    cdef uint64_t n = w.past - w.first
    me.first = w.first + (n * <uint64_t>number + <uint64_t>w.n - 1) // <uint64_t>w.n
    me.past = w.first + (n * <uint64_t>(number + 1) + <uint64_t>w.n - 1) // <uint64_t>w.n
    me.core.ns = w.c.ns
    me.core.dev = w.c.dev
    me.core.tracing = w.c.tracing
    me.core.generation = w.c.generation
    me.core.moves = w.c.moves
    me.cache.flow = fc.flow
    me.cache.slots = fc.slots
    me.cache.more = fc.more
    me.cache.program = fc.program
    memcpy(me.cache.shape, fc.shape, sizeof(fc.shape))
    me.cache.n_shapes = fc.n_shapes
    me.cache.seed = fc.seed
    tally_begin(&me.tally, fc)
    if number == 0:
        me.core.bytes = w.c.bytes
        me.core.frames = w.c.frames
        me.core.drops = w.c.drops
        me.core.changes = w.c.changes
        me.core.order = w.c.order


cdef inline void store_joins(Core *c, Store *to, Store *more) noexcept nogil:
    cdef void *at
    if more.n == 0:
        return
    at = store_add(c, to, more.n)
    if at != NULL:
        memcpy(at, more.mem, more.n)
    more.n = 0


cdef inline void records_join(Core *c, Core *more) noexcept nogil:
    """What one part has recorded comes behind what is there."""
    cdef uint64_t bytes = c.bytes.n, i
    cdef FrameRecord *f = <FrameRecord *>more.frames.mem
    cdef DropRecord *d = <DropRecord *>more.drops.mem
    for i in range(more.frames.n // sizeof(FrameRecord)):
        f[i].at += bytes
        f[i].order += c.order
    for i in range(more.drops.n // sizeof(DropRecord)):
        d[i].at += bytes
        d[i].order += c.order
    c.order += more.order
    more.order = 0
    store_joins(c, &c.bytes, &more.bytes)
    store_joins(c, &c.frames, &more.frames)
    store_joins(c, &c.drops, &more.drops)
    store_joins(c, &c.changes, &more.changes)


cdef inline void counters_join(Core *c, Core *more, uint32_t n_reasons) noexcept nogil:
    cdef uint32_t i
    c.count.out += more.count.out
    c.count.rules_walked += more.count.rules_walked
    if more.count.dropped:
        c.count.dropped += more.count.dropped
        for i in range(n_reasons):
            c.drop_count[i] += more.drop_count[i]
            more.drop_count[i] = 0
    memset(&more.count, 0, sizeof(Counters))
    c.out_of_memory |= more.out_of_memory
    more.out_of_memory = False


cdef inline void part_ends(Window *w, int number) noexcept nogil:
    cdef Part *me = w.part[number]
    cdef Core *c = w.c
    if number == 0:
        c.bytes = me.core.bytes
        c.frames = me.core.frames
        c.drops = me.core.drops
        c.changes = me.core.changes
        c.order = me.core.order
    else:
        records_join(c, &me.core)
    counters_join(c, &me.core, w.n_reasons)
    draws_told(&me.tally)


cdef inline bint window_is_open(const Core *c) noexcept nogil:
    """Is there nothing that asks for one frame after the other?"""
    return not (c.fast == NULL or c.tracing == TRACE_STEPS or c.clock.on or c.rec.state != REC_OFF or c.n_deliveries or c.out_of_memory
                or c.supply_failed)


cdef inline uint64_t window_carry(Window *w, uint64_t first, uint64_t past) noexcept nogil:
    """Carry frames from the first one on, as many as will do; how many."""
    cdef Core *c = w.c
    cdef uint64_t n
    cdef int i
    w.now = c.now
    w.until = c.queue.next
    w.first = first
    w.past = w.cut = past
    w.next_packet = c.next_packet
    if frame_time(w, first) >= w.until:
        return 0
    for i in range(w.n):
        part_begins(w, i)
    if not begins_well(w, w.part[0]):
        w.cut = first
        return 0
    crew_work(w.crew)
    for i in range(w.n):
        part_ends(w, i)
    n = w.cut - first
    if n == 0:
        return 0
    c.now = frame_time(w, w.cut - 1)
    c.n_roots += n
    c.root = c.n_roots
    c.next_packet += <uint32_t>n
    c.count.received += n
    (<FlowCache *>c.fast).hits += n
    (<FlowCache *>c.fast).shared += n
    return n


cdef inline void window_rests(Window *w) noexcept nogil:
    """One frame after the other comes next, or other calls: what the bridges have seen shows."""
    cdef int i
    for i in range(w.n):
        programs_told(&w.part[i].tally, <const FlowCache *>w.c.fast)


cdef inline void window_adapts(Window *w, uint64_t tried, uint64_t carried) noexcept nogil:
    """How many frames to try next, and how many to leave alone before: where windows bring little, few are tried."""
    cdef uint64_t size = 2 * carried
    if 2 * carried >= w.least:
        w.rest = 1
    elif carried < tried and w.rest < w.most:
        w.rest *= 2
    if carried == tried:
        if size < w.size:
            return  # there were no more
    else:
        w.waits = w.rest
    w.size = w.most if size > w.most else w.least if size < w.least else <uint32_t>size


# ---- the crew

cdef inline bint part_open(Part *me, int n, uint32_t most, uint32_t n_reasons) noexcept nogil:
    cdef size_t visits = <size_t>((most + <uint32_t>n - 1) // <uint32_t>n) * TRACKS_MAX
    cdef int i
    me.core.fast = &me.cache
    me.core.drop_count = <uint64_t *>calloc(n_reasons, sizeof(uint64_t))
    me.undo = <Undo *>malloc(<size_t>most * TRACKS_MAX * sizeof(Undo))
    me.tcp_undo = <TcpUndo *>malloc(<size_t>most * TRACKS_MAX * sizeof(TcpUndo))
    for i in range(n):
        me.visits[i].plain = <Visit *>malloc(visits * sizeof(Visit))
        me.visits[i].tcp = <TcpVisit *>malloc(visits * sizeof(TcpVisit))
        if me.visits[i].plain == NULL or me.visits[i].tcp == NULL:
            return False
    return tally_open(&me.tally) and me.core.drop_count != NULL and me.undo != NULL and me.tcp_undo != NULL


cdef inline void part_free(Part *me, bint first) noexcept nogil:
    cdef int i
    if me == NULL:
        return
    if not first:
        free(me.core.bytes.mem)
        free(me.core.frames.mem)
        free(me.core.drops.mem)
        free(me.core.changes.mem)
    for i in range(CREW_MOST):
        free(me.visits[i].plain)
        free(me.visits[i].tcp)
    free(me.core.drop_count)
    free(me.undo)
    free(me.tcp_undo)
    tally_close(&me.tally)
    free(me)


cdef inline void window_free(Window *w) noexcept nogil:
    cdef int i
    if w == NULL:
        return
    crew_free(w.crew)
    for i in range(CREW_MOST):
        part_free(w.part[i], i == 0)
    free(w.seat)
    free(w)


cdef inline Window *window_new(Core *c, int n, uint32_t most, uint32_t n_reasons) noexcept nogil:
    """For ``n`` threads, the caller's among them, and windows of up to ``most`` frames. NULL when memory is out."""
    cdef Window *w = <Window *>calloc(1, sizeof(Window))
    cdef int i
    if w == NULL:
        return NULL
    w.c = c
    w.n_reasons = n_reasons
    w.most = w.size = most
    w.least = most if most < WINDOW_LEAST else <uint32_t>WINDOW_LEAST
    w.rest = 1
    w.seat = <Seat *>malloc(most * sizeof(Seat))
    if w.seat == NULL:
        window_free(w)
        return NULL
    w.n = n
    for i in range(n):
        w.part[i] = <Part *>calloc(1, sizeof(Part))
        if w.part[i] == NULL or not part_open(w.part[i], n, most, n_reasons):
            window_free(w)
            return NULL
    w.crew = crew_new(n, WINDOW_STEPS, window_step, w)
    if w.crew == NULL:
        window_free(w)
        return NULL
    return w


cdef inline bint window_suits(const Window *w, int n, uint32_t most) noexcept nogil:
    return w != NULL and w.most == most and w.n == n and crew_is_here(w.crew)
