# Frames of a window that several threads carry eight at a time: TCP segments that leave the world, seen by nobody.
#
# Each part of the frames finds the flows of its eights, and deals packets to the parts that their connections belong to; each part of the
# connections takes eights of what it was dealt, which follow in the order of their frames. A part of the frames deals from its first one
# on; behind the first packet that does not go so, its frames have turns (window.pxd).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.fast.abreast cimport EIGHTS, Row, eight_look, flows_farther, lane_asks, lane_lasts, lane_serial, lane_sought, lane_told, way_ct
from ext.fast.ahead cimport connection_ahead
from ext.fast.flows cimport Lane, LaneWay
from ext.fast.lane_deals cimport DRAWS_AT, Deal, deal_ends, lanes_deal, lanes_draw, lanes_due_at, lanes_in_time, lanes_second, lanes_take
from ext.fast.lane_flows cimport lanes_connect, lanes_find
from ext.fast.lane_windows cimport lanes_pass, lanes_simple
from ext.fast.lane_write cimport lanes_write
from ext.fast.lanes cimport Eight, LANE_LEAST, LANES, first_of, lanes_look_again, lanes_repeat
from ext.fast.part cimport Lot, Part, TcpUndo, Undo, Visit, Window, frame_counted, frame_time, owner_of, visit_kept, visit_settled
from ext.fast.rows cimport arrays_ahead, eight_opens, lane_asks_ahead, starts_ahead
from ext.fast.tally cimport ProgramTally, draw_counted, program_joins
from ext.fast.track cimport told_kept
from ext.tables.conntrack cimport Ct
from ext.wire.bytes cimport ask_for, rarely


# ---- what the frames' parts do

cdef inline bint deals_begin(const Window *w, Part *me) noexcept nogil:
    """False: none of its frames goes so."""
    cdef Row *r = &me.row
    cdef int i
    me.dealt = me.first
    if not w.wide or me.past - me.first < <uint64_t>LANES:
        return False
    r.c = &me.core
    r.fc = &me.cache
    r.data = w.lot.data
    r.devs = w.lot.devs
    r.starts = w.lot.starts
    r.lengths = w.lot.lengths
    r.times = w.lot.times
    r.past = me.past
    r.shares = True
    r.farther = flows_farther(&me.cache)
    r.keys.seed = me.cache.key_seed
    r.keys.flow = me.cache.flow
    r.keys.slots = me.cache.slots
    for i in range(EIGHTS):
        eight_opens(&me.cache, &r.eight[i])
    return True


cdef inline void lanes_known(Row *r, Eight *e, const Eight *later) noexcept nogil:
    """``e.n``: of how many the flows are found; what lies where those of ``later`` ones should is asked for."""
    cdef uint32_t found = lanes_find(e, r.fc.lane, r.fc.lanes_stamp) if e.n else 0, k
    cdef const uint64_t *starts
    cdef bint comes = later.n != 0
    if not comes:
        later = e
    starts = starts_ahead(r, later)
    for k in range(<uint32_t>LANES):
        if rarely(k < e.n and not found >> k & 1) and lane_sought(r, e, k) == NULL:
            e.n = k
        lane_asks_ahead(r, later, k, starts)
    for k in range(e.n, <uint32_t>LANES):
        e.way[k] = e.way[0]


cdef inline void lanes_counted(const Window *w, Part *me, Eight *e, int64_t until) noexcept nogil:
    """What the packets leave in tables and counters, and draw."""
    cdef ProgramTally *programs = me.tally.program
    cdef ProgramTally *p
    cdef uint64_t walked = 0
    cdef uint32_t window = me.tally.window, draws, k
    for k in range(e.n):
        p = programs + e.number[k]
        if rarely(p.window != window):
            program_joins(&me.tally, e.number[k], until, w.facts.program[e.number[k]].draws)
        p.last = e.due[k] + 1  # none of it has been later
        draws = p.draws
        e.drawn[k] = draw_counted(&me.tally, draws) | draws << DRAWS_AT if draws else 0
        walked += (<const Lane *>e.lane[k]).walked
    me.walked += walked


cdef inline void lanes_dealt(const Window *w, Deal *deals, const Eight *e, const uint32_t *ref, uint32_t place, uint32_t lanes) noexcept nogil:
    """Packets of ``lanes`` are dealt to those to whom the connections ``ref`` belong."""
    cdef uint32_t second, own, first, k
    if w.n == 2:
        second = lanes_second(ref) & lanes
        lanes_deal(&deals[0], e, ref, place, lanes & ~second, w.order[lanes & ~second])
        lanes_deal(&deals[1], e, ref, place, second, w.order[second])
        return
    while lanes:
        own = 0
        first = w.order[lanes] & 0xff
        for k in range(first, <uint32_t>LANES):
            if owner_of(ref[k], w.n) == owner_of(ref[first], w.n):
                own |= 1 << k & lanes
        lanes_deal(&deals[owner_of(ref[first], w.n)], e, ref, place, own, w.order[own])
        lanes &= ~own


cdef inline uint32_t eight_dealt(const Window *w, Part *me, Eight *e, const Eight *later) noexcept nogil:
    """How many of the eight go so, as far as can be told without their connections."""
    cdef int64_t until = min(w.until, me.cache.lanes_until)
    cdef uint32_t place = <uint32_t>(e.first - w.first), others, told, every
    e.n = min(e.n, lanes_in_time(e, w.lot.times + e.first, w.now, me.core.now))
    lanes_known(&me.row, e, later)
    if e.n == 0 or e.due[e.n - 1] >= until:
        return 0
    lanes_connect(e, &others, &told)
    e.n = min(e.n, first_of(~told & (1 << LANES) - 1))
    lanes_counted(w, me, e, until)
    every = (1 << e.n) - 1
    lanes_dealt(w, me.deal, e, e.refs[0], place, every)
    if others & every:
        lanes_dealt(w, me.visits, e, e.refs[1], place, others & every)
    me.core.now = e.due[e.n - 1] if e.n else me.core.now
    return e.n


cdef inline void first_eight(Row *r, Eight *e, uint64_t first) noexcept nogil:
    cdef uint32_t k
    e.n = 0
    if first + LANES > r.past:
        return
    eight_look(r, e, first)
    for k in range(<uint32_t>LANES if e.n else 0):
        lane_asks(r, e, k)


cdef inline uint64_t part_deals(const Window *w, Part *me) noexcept nogil:
    """Deal eights from the part's first frame on, as far as that goes; the first frame that is left."""
    cdef Row *r = &me.row
    cdef Eight *e
    cdef Eight *later
    cdef uint32_t i = 0, n = LANES
    if not deals_begin(w, me):
        return me.first
    first_eight(r, &r.eight[0], me.first)
    first_eight(r, &r.eight[1], me.first + LANES)
    me.at = r.eight[0].at
    while n == <uint32_t>LANES:
        e = &r.eight[i & (EIGHTS - 1)]
        later = &r.eight[(i + 2) & (EIGHTS - 1)]
        later.n = 0
        if me.dealt + 3 * LANES <= me.past:
            eight_look(r, later, me.dealt + 2 * LANES)
        if e.n == 0 or e.at != me.at:
            break  # others come in another tunnel
        arrays_ahead(r, me.dealt)
        n = eight_dealt(w, me, e, later)
        me.dealt += n
        i += 1
    for i in range(<uint32_t>w.n):
        deal_ends(&me.deal[i])
        deal_ends(&me.visits[i])
    return me.dealt


cdef inline void deal_again(const Window *w, Part *me, const Deal *d, uint32_t place) noexcept nogil:
    """What those in front of ``place`` leave in tables and counters is left once more."""
    cdef uint32_t i
    for i in range(d.n):
        if d.place[i] < place:
            frame_counted(me, &w.facts.program[d.number[i]], d.number[i], frame_time(w, w.first + d.place[i]))


# ---- what the connections' parts do

cdef inline void lane_taken(const Lot *lot, Eight *e, uint32_t k, uint32_t place, uint32_t at) noexcept nogil:
    """What stands in the packet's frame, and its connection, are asked for. ``lot``: from the window's first frame on."""
    cdef const LaneWay *y = (<const Lane *>e.lane[k]).way
    cdef const uint8_t *frame = lot.data + lot.starts[place]
    cdef uint8_t *ct = way_ct(y, 0, e.ref[k])
    ask_for(frame)
    ask_for(frame + at + LANE_LEAST - 1)
    connection_ahead(<const Ct *>ct, True)
    e.frame[k] = frame
    e.ip[k] = frame + at
    e.length[k] = lot.lengths[place]
    e.way[k] = <const uint8_t *>y
    e.ct[k] = ct


cdef inline void eight_taken(const Part *me, const Part *of, Eight *e, const Deal *d, uint32_t first) noexcept nogil:
    """Packets from number ``first`` on."""
    lanes_take(e, d, first, me.cache.lane)
    e.first = first
    e.at = of.at


cdef inline Lot window_lot(const Window *w) noexcept nogil:
    """The frames from its first one on."""
    cdef Lot lot
    lot.data = w.lot.data
    lot.devs = w.lot.devs + w.first
    lot.starts = w.lot.starts + w.first
    lot.lengths = w.lot.lengths + w.first
    lot.times = w.lot.times + w.first
    return lot


cdef inline void lane_settled(Eight *e, uint32_t k, uint32_t place, TcpUndo *u) noexcept nogil:
    """The connection has seen the packet, and may get back what it was."""
    cdef const LaneWay *y = <const LaneWay *>e.way[k]
    told_kept(&u.was, <Ct *>e.ct[k])
    u.place = place
    lane_told(e, k, y, e.due[k])
    e.draw[k] = y.push_hash


cdef inline uint32_t eight_settles(const Window *w, Part *me, const Deal *d, Eight *e, Eight *later) noexcept nogil:
    """How many of the eight their connections have seen, before the first that one would not have."""
    cdef const uint32_t *place = d.place + e.first
    cdef const uint32_t *then = d.place + later.first
    cdef Lot lot = window_lot(w)
    cdef uint32_t again = lanes_repeat(e.ref), at = later.at, passed, k, n = 0
    cdef TcpUndo *u = me.tcp_undo + me.n_tcp_undo
    lanes_due_at(e, lot.times, place, w.now)
    passed = lanes_pass(e, e.due[e.n - 1]) & e.stands
    if again == 0 and passed == <uint32_t>((1 << LANES) - 1) and later.n:  # there are eight of these
        for k in range(<uint32_t>LANES):
            lane_settled(e, k, place[k], u + k)
            lane_taken(&lot, later, k, then[k], at)
        n = LANES
    else:
        while n < e.n:
            if again >> n & 1:
                passed = lanes_pass(e, e.due[e.n - 1]) & e.stands  # its connection is another now
            if not passed >> n & 1:
                break
            lane_settled(e, n, place[n], u + n)
            n += 1
        for k in range(<uint32_t>LANES if later.n else 0):
            lane_taken(&lot, later, k, then[k], at)
    lanes_draw(e, me.tally.before)
    me.n_tcp_undo += n
    return n


cdef inline void deal_begins(const Window *w, Part *me, const Part *of, const Deal *d) noexcept nogil:
    """The first two eights are taken."""
    cdef Row *r = &me.row
    cdef Lot lot = window_lot(w)
    cdef Eight *e
    cdef uint32_t i, k
    r.eight[EIGHTS - 1].n = r.eight[EIGHTS - 1].wrote = 0
    for i in range(2):
        if i * LANES < d.n:
            e = &r.eight[i]
            eight_taken(me, of, e, d, i * LANES)
            for k in range(<uint32_t>LANES):
                lane_taken(&lot, e, k, d.place[e.first + k], e.at)


cdef inline uint32_t deal_settles(const Window *w, Part *me, const Part *of, uint32_t cut) noexcept nogil:
    """In front of ``cut``, packets that part ``of`` has dealt to this one leave, as far as their connections of TCP will; where that ends."""
    cdef const Deal *d = &of.deal[me.number]
    cdef Row *r = &me.row
    cdef Eight *e
    cdef Eight *later
    cdef uint32_t first = 0, i = 0, n
    deal_begins(w, me, of, d)
    while first < d.n and d.place[first] < cut:
        e = &r.eight[i & (EIGHTS - 1)]
        later = &r.eight[(i + 2) & (EIGHTS - 1)]
        later.n = 0
        if first + 2 * LANES < d.n:
            eight_taken(me, of, later, d, first + 2 * LANES)
        lanes_look_again(e)
        lanes_write(&r.eight[(i - 1) & (EIGHTS - 1)])
        n = eight_settles(w, me, d, e, later)
        if n < e.n:
            e.n = n
            cut = d.place[first + n]
        first += LANES
        i += 1
    lanes_write(&r.eight[(i - 1) & (EIGHTS - 1)])
    return cut


cdef inline void visit_taken(Eight *e, uint32_t k) noexcept nogil:
    """The connection that is not of TCP is asked for."""
    cdef const LaneWay *y = (<const Lane *>e.lane[k]).way
    e.way[k] = <const uint8_t *>y
    e.other[k] = way_ct(y, 1, e.ref[k])
    connection_ahead(<const Ct *>e.other[k], False)


cdef inline bint visit_made(Part *me, const Eight *e, uint32_t k, uint32_t place, Undo *u) noexcept nogil:
    """Has that connection, of which lanes_simple() says nothing, seen the packet, or would it not have it?"""
    cdef const LaneWay *y = <const LaneWay *>e.way[k]
    cdef Visit v
    me.core.now = e.due[k]
    v.ct = <Ct *>e.other[k]
    v.place = place
    v.track = &y.tracks[1]
    v.serial = lane_serial(e, k, 1 - y.tcp)
    return visit_settled(me, &v, u)


cdef inline void visit_simple(Eight *e, uint32_t k, uint32_t place, Undo *u) noexcept nogil:
    """The connection has seen the packet, where lanes_simple() says so."""
    cdef Ct *ct = <Ct *>e.other[k]
    visit_kept(u, ct, place)
    ct.expires = e.due[k] + lane_lasts(<const LaneWay *>e.way[k], ct)


cdef inline uint32_t eight_visits(const Window *w, Part *me, const Deal *v, Eight *e, Eight *later) noexcept nogil:
    """How many of the eight such connections have seen, before the first that would not have its packet."""
    cdef const uint32_t *place = v.place + e.first
    cdef uint32_t simple, k, n = 0
    cdef Undo *u = me.undo + me.n_undo
    lanes_due_at(e, w.lot.times + w.first, place, w.now)
    simple = lanes_simple(e, e.due[e.n - 1])
    if simple == <uint32_t>((1 << LANES) - 1) and later.n:  # there are eight of these
        for k in range(<uint32_t>LANES):
            visit_simple(e, k, place[k], u + k)
            visit_taken(later, k)
        n = LANES
    else:
        while n < e.n:
            if simple >> n & 1:
                visit_simple(e, n, place[n], u + n)
            elif not visit_made(me, e, n, place[n], u + n):
                break
            n += 1
        for k in range(<uint32_t>LANES if later.n else 0):
            visit_taken(later, k)
    me.n_undo += n
    return n


cdef inline uint32_t visits_dealt(const Window *w, Part *me, const Part *of, uint32_t cut) noexcept nogil:
    """The same of connections that are not of TCP."""
    cdef const Deal *v = &of.visits[me.number]
    cdef Row *r = &me.row
    cdef Eight *e
    cdef Eight *later
    cdef uint32_t first = 0, i, k, n
    for i in range(2):
        if i * LANES < v.n:
            eight_taken(me, of, &r.eight[i], v, i * LANES)
            for k in range(<uint32_t>LANES):
                visit_taken(&r.eight[i], k)
    i = 0
    while first < v.n and v.place[first] < cut:
        e = &r.eight[i & (EIGHTS - 1)]
        later = &r.eight[(i + 2) & (EIGHTS - 1)]
        later.n = 0
        if first + 2 * LANES < v.n:
            eight_taken(me, of, later, v, first + 2 * LANES)
        n = eight_visits(w, me, v, e, later)
        if n < e.n:
            cut = v.place[first + n]
        first += LANES
        i += 1
    return cut
