# Many frames from outside at once, carried by several threads, as one thread would carry them one after the other.
#
# A window is a run of frames before which nothing else is due, and of which each goes the way of its flow out of the world. Three steps:
#   look    each part of the frames: their flows, and whether the frames are what those have been seen to carry; what goes eight at a
#           time is dealt to the parts of the connections (dealt.pxd), what is behind it gets turns
#   settle  each part of the connections sees its packets in order, whichever part of the frames they are in; those that nobody else sees
#           leave the world at once
#   go      each part of the frames is carried, as far as frames are left, and connections are put right
# A frame that will not do ends the window in front of it, wherever it is found; connections that have seen it, or later ones, get back
# what they were. What the frames leave in tables, counters and records is put together in their order.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Dev, Ns
from ext.fast.ahead cimport connection_ahead
from ext.fast.apply cimport flow_goes_copied, headers_as_known
from ext.fast.dealt cimport deal_again, deal_settles, part_deals, visits_dealt
from ext.fast.flows cimport (FLOW_TRACKS, Flow, FlowCache, LINE, Program, SCRATCH, Track, Tracked, TRACKS_MAX, flow_find, flow_home, flow_program,
                             flow_track)
from ext.fast.frame cimport Frame
from ext.fast.key cimport Parsed, frames_plain, key_parse, key_read_plainly, packet_sound
from ext.fast.pair cimport pair_helps
from ext.fast.part cimport (Part, Rest, Turn, Turns, Undo, TcpUndo, Visit, Window, cut_before, cut_seen, frame_counted, frame_time, owner_of,
                            part_begins, program_known, visit_settled)
from ext.fast.routed cimport spread
from ext.fast.straight cimport straight_written
from ext.fast.tally cimport ProgramFacts, ProgramTally, draws_before, draws_behind, tally_again
from ext.fast.track cimport segment_passes, told_kept, told_undone, track_stands
from ext.tables.conntrack cimport Ct, CtRef, ct_of
from ext.wire.bytes cimport ask_for
from ext.wire.hash cimport draw_hash
from ext.wire.packet cimport PKT_HEADROOM, PKT_TAILROOM

cdef enum:
    STEP_LOOK = 0
    STEP_SETTLE = 1
    STEP_GO = 2
    STEP_PAIR = 3
    BURST = 16  # frames whose keys are read, and whose flows are asked for, before the first of them is looked at
    DATA_AHEAD = 32
    TURNS_AHEAD = 8

cdef struct Coming:
    # a frame that is looked at
    const Flow *flow
    const uint8_t *ip  # its inner IP header
    uint32_t place  # in the window


# ---- look

cdef inline void burst_keys(const Window *w, const Part *me, uint64_t first, uint64_t past, Parsed *seen) noexcept nogil:
    """Read the keys of some frames, and ask for what lies where their flows should; of one that has none ``length`` is 0."""
    cdef const FlowCache *fc = &me.cache
    cdef const uint8_t *data = w.lot.data
    cdef const uint64_t *starts = w.lot.starts
    cdef const uint32_t *lengths = w.lot.lengths
    cdef uint32_t at = 0
    cdef uint32_t plain = frames_plain(fc, &me.core, data, w.lot.devs + first, starts + first, lengths + first, <uint32_t>(past - first), &at)
    cdef const Dev *d
    cdef uint64_t i
    for i in range(first, past):
        if i + DATA_AHEAD < me.past:
            ask_for(data + starts[i + DATA_AHEAD])
        d = me.core.dev[w.lot.devs[i]]
        if ((plain >> (i - first) & 1 and key_read_plainly(fc, d, data + starts[i], lengths[i], at, seen))
                or key_parse(fc, d, True, data + starts[i], lengths[i], seen)):
            ask_for(flow_home(fc, seen.hash))
        else:
            seen.length = 0
        seen += 1


cdef inline Turn *turn_planned(Turns *t, Ct *ct, uint16_t serial, const Coming *a) noexcept nogil:
    cdef Turn *turn = &t.turn[t.n_turns]
    t.n_turns += 1
    turn.ct = ct
    turn.ip = a.ip
    turn.place = a.place
    turn.program = a.flow.program - 1
    turn.serial = serial
    return turn


cdef inline void visit_planned(const Window *w, Part *me, CtRef ref, Ct *ct, uint16_t serial, const Track *track, uint32_t place) noexcept nogil:
    cdef Turns *t = &me.turns[owner_of(ref, w.n)]
    cdef Visit *v = &t.visit[t.n_visits]
    t.n_visits += 1
    v.ct = ct
    v.track = track
    v.place = place
    v.serial = serial


cdef inline Ct *facts_track(const ProgramFacts *facts, const Flow *f, int i) noexcept nogil:
    return ct_of(&(<const Ns *>facts.tracked[i].ns).ct, f.ct[i])


cdef inline bint straight_planned(const Window *w, Part *me, const ProgramFacts *facts, const Coming *a, uint32_t n) noexcept nogil:
    """The frame will leave the world when it is its connections' turn to see it. False: one of them would see it twice."""
    cdef const Flow *f = a.flow
    cdef int track = facts.track, sees = facts.sees, owner = me.number
    cdef Ct *ct[FLOW_TRACKS]
    cdef Turn *turn
    ct[0] = facts_track(facts, f, 0) if facts.n_tracks else NULL
    if facts.n_tracks > 1:
        ct[1] = facts_track(facts, f, 1)
        if ct[0] == ct[1]:
            return False
        if sees != 1:
            visit_planned(w, me, f.ct[1], ct[1], f.serial[1], &facts.tracked[1], a.place)
    if sees != 0 and facts.n_tracks:
        visit_planned(w, me, f.ct[0], ct[0], f.serial[0], &facts.tracked[0], a.place)
    if facts.n_tracks:
        owner = owner_of(f.ct[track], w.n)
    turn = turn_planned(&me.turns[owner], ct[track], f.serial[track], a)
    turn.n = <uint16_t>n
    turn.sport = f.sport
    turn.draw = frame_counted(me, facts, turn.program, me.core.now)
    turn.track = <uint8_t>sees
    turn.leaves = True
    return True


cdef inline bint rest_planned(const Window *w, Part *me, const ProgramFacts *facts, const Program *g, const Coming *a, uint32_t l3,
                              uint32_t inner) noexcept nogil:
    """The same of a frame that is carried when all of them have seen theirs."""
    cdef Rest *rest = &me.rest[me.n_rest]
    cdef Ct *ct[TRACKS_MAX]
    cdef uint16_t serial
    cdef CtRef ref
    cdef Turn *turn
    cdef int i, k
    for i in range(g.n_tracks):
        ct[i] = flow_track(&me.cache, a.flow, g, i, &serial)
        ref = me.cache.more[a.flow.ct[0]].ct[i] if g.more else a.flow.ct[i]
        for k in range(i):
            if ct[i] == ct[k]:
                return False
        if g.tracks[i].proto != 6:
            visit_planned(w, me, ref, ct[i], serial, &g.tracks[i], a.place)
            continue
        turn = turn_planned(&me.turns[owner_of(ref, w.n)], ct[i], serial, a)
        turn.track = <uint8_t>i
        turn.leaves = False
    me.n_rest += 1
    rest.flow = a.flow
    rest.place = a.place
    rest.l3 = <uint16_t>l3
    rest.inner = <uint16_t>inner
    rest.draw = frame_counted(me, facts, a.flow.program - 1, me.core.now)
    return True


cdef inline bint frame_joins(const Window *w, Part *me, const Flow *f, uint32_t place, const uint8_t *frame, const Parsed *a) noexcept nogil:
    """Does the frame go the way of its flow, as far as that can be told without its connections?"""
    cdef uint32_t number = f.program - 1
    cdef const ProgramFacts *facts = &w.facts.program[number]
    cdef const ProgramTally *p = &me.tally.program[number]
    cdef Program *g = facts.program
    cdef Coming coming
    if p.window != me.tally.window and not program_known(w, me, number, g):
        return False
    if me.core.now >= p.until or not headers_as_known(f, g, frame, a) or not (a.sound or packet_sound(frame, a)):
        return False
    coming.flow = f
    coming.ip = frame + a.inner
    coming.place = place
    if facts.leaves:
        return straight_planned(w, me, facts, &coming, a.length - a.inner)
    return rest_planned(w, me, facts, g, &coming, a.l3, a.inner)


cdef inline uint32_t burst_flows(const Window *w, const Part *me, const Parsed *seen, uint32_t n, const Flow **flow) noexcept nogil:
    """The flows of some frames, and how many have one before the first that has none."""
    cdef const Flow *f
    cdef uint32_t k
    for k in range(n):
        if seen[k].length == 0 or seen[k].length > SCRATCH - PKT_HEADROOM - PKT_TAILROOM:
            return k
        f = flow_find(&me.cache, &seen[k].key, seen[k].hash)
        if f == NULL:
            return k
        ask_for(&w.facts.program[f.program - 1])
        flow[k] = f
    return n


cdef inline uint32_t burst_joins(const Window *w, Part *me, uint64_t first, uint32_t n) noexcept nogil:
    """How many frames from the first one on go the ways of their flows, of ``n``."""
    cdef const uint64_t *starts = w.lot.starts + first
    cdef const int64_t *times = w.lot.times + first
    cdef const Flow *flow[BURST]
    cdef Parsed seen[BURST]
    cdef int64_t now
    cdef uint32_t place = <uint32_t>(first - w.first), k
    burst_keys(w, me, first, first + n, seen)
    n = burst_flows(w, me, seen, n, flow)
    for k in range(n):
        now = times[k] if times[k] > w.now else w.now
        if now < me.core.now:
            return k
        me.core.now = now
        if not frame_joins(w, me, flow[k], place + k, w.lot.data + starts[k], &seen[k]):
            return k
    return n


cdef inline void window_look(Window *w, Part *me) noexcept nogil:
    cdef uint64_t first
    cdef uint32_t n, joined
    part_begins(w, me)
    first = part_deals(w, me)
    while first < me.past and cut_seen(&w.cut) > first:
        n = <uint32_t>min(me.past - first, BURST)
        joined = burst_joins(w, me, first, n)
        first += joined
        if joined < n:
            cut_before(&w.cut, first)
            return


# ---- settle

cdef inline bint turn_seen(Part *me, const Turn *t, const Track *track) noexcept nogil:
    """The same of TCP."""
    cdef TcpUndo *u = &me.tcp_undo[me.n_tcp_undo]
    if not track_stands(&me.core, track, t.ct, t.serial):
        return False
    told_kept(&u.was, t.ct)
    u.place = t.place
    if not segment_passes(&me.core, track, t.ct, t.ip):
        return False
    me.n_tcp_undo += 1
    return True


cdef inline bint turn_settled(const Window *w, Part *me, const Turn *t) noexcept nogil:
    """The connection has seen the packet, which has left the world if it may; or it would not have it."""
    cdef const ProgramFacts *facts = &w.facts.program[t.program]
    cdef const Program *g = facts.program
    cdef uint16_t ident = 0
    cdef Tracked at
    if t.track != TRACKS_MAX and not turn_seen(me, t, &facts.tracked[t.track] if t.leaves else &g.tracks[t.track]):
        return False
    if t.leaves:
        if t.draw:
            ident = <uint16_t>draw_hash(facts.push_hash, <uint16_t>(me.tally.before[facts.draws - 1] + t.draw))
        at.ct[0] = at.ct[1] = t.ct
        straight_written(t.sport, g, facts.tracked, &at, ident, t.ip, t.n, me.cache.scratch + PKT_HEADROOM + spread(t.place))
    return True


cdef inline void turn_ahead(const Part *me, const Turn *t, const int64_t *times) noexcept nogil:
    """What it will need is asked for, and turns that come later: most of that another processor has had."""
    cdef const Program *g = me.cache.program[t.program]
    ask_for(t + 2 * TURNS_AHEAD)
    ask_for(times + t.place)
    connection_ahead(t.ct, True)
    ask_for(t.ip)
    ask_for(&g.short)
    ask_for(<const char *>&g.short + LINE)
    ask_for(<const char *>&g.short + 2 * LINE)


cdef inline uint32_t turns_settle(const Window *w, Part *me, const Turns *t, uint32_t cut) noexcept nogil:
    """In front of ``cut``, all that will; where that ends."""
    cdef const int64_t *times = w.lot.times + w.first
    cdef const Turn *turn = t.turn
    cdef const Turn *past = turn + t.n_turns
    cdef int64_t now, least = w.now
    while turn < past and turn.place < cut:
        if turn + TURNS_AHEAD < past:
            turn_ahead(me, turn + TURNS_AHEAD, times)
        now = times[turn.place]
        me.core.now = now if now > least else least
        if not turn_settled(w, me, turn):
            return turn.place
        turn += 1
    return cut


cdef inline uint32_t visits_settle(const Window *w, Part *me, const Turns *t, uint32_t cut) noexcept nogil:
    """The same."""
    cdef const int64_t *times = w.lot.times + w.first
    cdef const Visit *v = t.visit
    cdef const Visit *past = v + t.n_visits
    cdef int64_t now, least = w.now
    while v < past and v.place < cut:
        if v + TURNS_AHEAD < past:
            ask_for(v + 3 * TURNS_AHEAD)
            ask_for(&v[TURNS_AHEAD].ct.serial)
        now = times[v.place]
        me.core.now = now if now > least else least
        if not visit_settled(me, v, &me.undo[me.n_undo]):
            return v.place
        me.n_undo += 1
        v += 1
    return cut


cdef inline void window_settle(Window *w, Part *me) noexcept nogil:
    cdef const Part *of
    cdef uint32_t cut
    cdef int part
    me.n_undo = me.n_tcp_undo = 0
    for part in range(w.n):
        draws_before(&me.tally, &w.facts, &w.part[part].tally)
    for part in range(w.n):
        of = w.part[part]
        cut = <uint32_t>(cut_seen(&w.cut) - w.first)
        cut = deal_settles(w, me, of, cut)
        cut = visits_dealt(w, me, of, cut)
        cut = turns_settle(w, me, &of.turns[me.number], cut)
        cut = visits_settle(w, me, &of.turns[me.number], cut)
        cut_before(&w.cut, w.first + cut)
        draws_behind(&me.tally, &of.tally)


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

cdef inline void part_again(const Window *w, Part *me, uint64_t past) noexcept nogil:
    """The window ends before its last frame: of its frames, only those in front of ``past`` go, and leave something behind."""
    cdef uint32_t place = <uint32_t>(past - w.first), i
    cdef const Turn *t
    cdef int part, number
    tally_again(&me.tally)
    me.walked = 0
    for part in range(w.n):
        deal_again(w, me, &me.deal[part], place)
        for i in range(me.turns[part].n_turns):
            t = &me.turns[part].turn[i]
            if t.leaves and t.place < place:
                frame_counted(me, &w.facts.program[t.program], t.program, frame_time(w, w.first + t.place))
    for i in range(me.n_rest):
        if me.rest[i].place >= place:
            me.n_rest = i
            break
        number = me.rest[i].flow.program - 1
        frame_counted(me, &w.facts.program[number], number, frame_time(w, w.first + me.rest[i].place))


cdef inline void rest_draws(const Window *w, Part *me) noexcept nogil:
    """What it draws comes behind what the parts before it draw."""
    cdef int part
    for part in range(me.number + 1):
        draws_before(&me.tally, &w.facts, &w.part[part].tally)
    for part in range(me.number):
        draws_behind(&me.tally, &w.part[part].tally)


cdef inline void rest_goes(const Window *w, Part *me, const Rest *rest) noexcept nogil:
    cdef const Program *g = flow_program(&me.cache, rest.flow)
    cdef uint64_t i = w.first + rest.place
    cdef Parsed a
    cdef Frame p
    me.core.now = frame_time(w, i)
    a.l3 = rest.l3
    a.inner = rest.inner
    p.buf = <uint8_t *>(w.lot.data + w.lot.starts[i])
    p.l2 = p.hash = 0
    p.end = w.lot.lengths[i]
    p.hash_l4 = p.crossings = p.sound = p.unfinished = 0
    p.id = w.next_packet + rest.place + 1
    if rest.draw:
        p.ident = <uint16_t>draw_hash(g.push_hash, <uint16_t>(me.tally.before[w.facts.program[rest.flow.program - 1].draws - 1] + rest.draw))
    flow_goes_copied(&me.core, rest.flow, g, &p, &a, me.cache.scratch, PKT_HEADROOM)


cdef inline void window_go(Window *w, Part *me) noexcept nogil:
    cdef uint64_t past = cut_seen(&w.cut)
    cdef uint32_t i
    window_undo(w, me)
    if past < me.past:
        part_again(w, me, past)
    if me.n_rest == 0:
        return
    rest_draws(w, me)
    for i in range(me.n_rest):
        rest_goes(w, me, &me.rest[i])


cdef inline void window_step(void *what, int part, int step) noexcept nogil:
    cdef Window *w = <Window *>what
    if step == STEP_PAIR:
        pair_helps(w.pair)
    elif step == STEP_LOOK:
        window_look(w, w.part[part])
    elif step == STEP_SETTLE:
        window_settle(w, w.part[part])
    else:
        window_go(w, w.part[part])
