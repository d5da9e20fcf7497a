# Nearly all packets of nearly all flows: a frame from outside that leaves the world by a shortcut, and is seen by nobody on its way but
# the connections that track it. What is done is what apply.pxd does, without all the questions whose answers are known.

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Core, Due, Ns, chance_draw, event_first
from ext.devices.record cimport END_OUT, REC_OFF
from ext.fast.abreast cimport LANES_LEAST, lane_length, lane_planned, lane_seen, lane_told, lane_written, lanes_agree, lanes_apart
from ext.fast.ahead cimport straight_ahead
from ext.fast.apply cimport apply_refresh, frame_as_known
from ext.fast.flows cimport Flow, FlowCache, HOW_RESET, NATS_MAX, Program, Track, Tracked, track_nat
from ext.fast.key cimport Parsed
from ext.fast.lanes cimport LANES, Lanes, lanes_are_wide, lanes_write
from ext.fast.routed cimport spread
from ext.fast.shortcut cimport shortcut_written
from ext.fast.sum cimport copy_short
from ext.fast.track cimport track_stands, track_told, tracked_agree
from ext.wire.bytes cimport ld16
from ext.wire.packet cimport PKT_HEADROOM

cdef enum:
    STRAIGHT_AHEAD = 4  # frames before whose turn their programs are asked for
    RUN_MOST = 16

cdef struct Run:
    # frames in order, whose keys have been read and whose flows have been found
    const uint8_t *data
    const uint64_t *starts
    const int64_t *times
    const Parsed *seen
    const Flow *const *flow
    Program *const *program
    const Tracked *tracked
    uint32_t n  # RUN_MOST at most


cdef inline bint straight_is(const Program *g) noexcept nogil:
    """Is it a program of such flows?"""
    return (g.short.there and g.short.n_taps == 0 and g.plain and g.end == END_OUT and not g.many and not g.more
            and g.place & HOW_RESET == 0)


cdef inline int64_t straight_until(const Core *c) noexcept nogil:
    """The virtual time of what comes next beside frames from outside; nothing can go straight: 0."""
    cdef const Due *due
    if c.rec.state != REC_OFF or c.n_deliveries or c.out_of_memory or c.supply_failed:
        return 0
    due = event_first(c)
    return due.time if due != NULL else INT64_MAX


cdef inline void straight_written(uint16_t sport, const Program *g, const Track *tracks, const Tracked *at, uint16_t ident, const uint8_t *ip,
                                  uint32_t n, uint8_t *to) noexcept nogil:
    """The packet is written with the headers that it leaves with. ``ip``: the inner IP header, of ``n`` bytes to the frame's end;
    ``sport``: the flow's; ``tracks``: the program's, or copies; ``ident``: what was drawn for the tunnel's IP header."""
    cdef uint64_t nat[NATS_MAX]
    cdef int i, track
    if g.short.trims:
        n = ld16(ip + 2)
    copy_short(to, ip, n)
    for i in range(g.short.n_nats):
        track = g.nat_track[i]
        nat[i] = track_nat(at.ct[track], tracks[track].dir, g.short.manip[i])
    shortcut_written(sport, g, nat, ident, to, n)


cdef inline void straight_leaves(Core *c, const Flow *f, const Program *g, const Tracked *at, const uint8_t *ip, uint32_t n,
                                 uint8_t *to) noexcept nogil:
    """The same, and what the program leaves behind in tables is done."""
    cdef uint16_t ident = 0
    apply_refresh(g, c.now)
    if g.push_ns != NULL:
        ident = <uint16_t>chance_draw(<Ns *>g.push_ns, g.push_hash)
    straight_written(f.sport, g, g.tracks, at, ident, ip, n, to)


cdef inline bint eighth_known(Core *c, const Run *r, uint32_t k, const uint8_t *ip) noexcept nogil:
    """Does frame ``k`` go the usual way of flows that go abreast, as far as its connections' windows and other connections allow?"""
    cdef const Flow *f = r.flow[k]
    cdef Program *g = r.program[k]
    cdef const Parsed *a = &r.seen[k]
    cdef int tcp = g.tcp_track
    return (g.abreast and frame_as_known(c, f, g, r.data + r.starts[k], a, a.sound)
            and track_stands(c, &g.tracks[tcp], r.tracked[k].ct[tcp], f.serial[tcp])
            and not (g.push_udp and not g.short.trims and ld16(ip + 2) != a.length - a.inner))


cdef inline uint32_t eight_known(Core *c, const Run *r, uint32_t first, uint32_t n, int64_t until, Lanes *l, int64_t *now) noexcept nogil:
    """How many of ``n`` frames, from the first one on, may go abreast, and their times."""
    cdef const Program *g
    cdef const uint8_t *ip
    cdef uint32_t k, at
    for k in range(n):
        at = first + k
        if at + LANES < r.n:
            straight_ahead(r.program[at + LANES])
        g = r.program[at]
        ip = r.data + r.starts[at] + r.seen[at].inner
        c.now = now[k] = r.times[at] if r.times[at] > c.now else c.now
        if c.now >= until or not eighth_known(c, r, at, ip):
            return k
        lane_seen(l, <int>k, &g.tracks[g.tcp_track], r.tracked[at].ct[g.tcp_track], ip)
    return n


cdef inline bint eighth_told(Core *c, const Run *r, uint32_t at, Lanes *l, int k) noexcept nogil:
    """The connections of frame ``at``, which is lane ``k``, have seen it, and it is known what it leaves with; or one would not have it."""
    cdef const Flow *f = r.flow[at]
    cdef const Program *g = r.program[at]
    cdef const Tracked *t = &r.tracked[at]
    cdef int tcp = g.tcp_track, other = 1 - tcp
    cdef uint16_t ident = 0
    if g.n_tracks > 1:
        if not track_stands(c, &g.tracks[other], t.ct[other], f.serial[other]):
            return False
        track_told(c, &g.tracks[other], t.ct[other])
    lane_told(l, k, &g.tracks[tcp], t.ct[tcp], c.now)
    apply_refresh(g, c.now)
    if g.push_ns != NULL:
        ident = <uint16_t>chance_draw(<Ns *>g.push_ns, g.push_hash)
    lane_planned(l, k, g, g.tracks, t, f.sport, ident, lane_length(g, l.ip[k], r.seen[at].length - r.seen[at].inner))
    return True


cdef inline uint32_t eight_go(Core *c, const Run *r, uint32_t first, uint32_t n, int64_t until, Lanes *l, uint64_t *walked) noexcept nogil:
    """Carry frames, ``n`` at most and LANES, of as many connections, from the first one on; how many. Core.now is the last one's."""
    cdef const Program *g
    cdef int64_t now[8]
    cdef int64_t before = c.now
    cdef uint32_t k
    n = eight_known(c, r, first, n, until, l, now)
    n = lanes_agree(l, n) if n >= LANES_LEAST else 0
    for k in range(n):
        c.now = now[k]
        if not eighth_told(c, r, first + k, l, <int>k):
            n = k
            break
    c.now = now[n - 1] if n else before
    if n == 0:
        return 0
    lanes_write(l)
    for k in range(n):
        g = r.program[first + k]
        lane_written(l, <int>k, g, lane_length(g, l.ip[k], r.seen[first + k].length - r.seen[first + k].inner))
        walked[0] += g.walked
    return n


cdef inline uint32_t run_connections(const Run *r, uint32_t *ref) noexcept nogil:
    """How many of its frames have flows, from the first one on; their connections of TCP."""
    cdef const Program *g
    cdef uint32_t k
    for k in range(r.n):
        if r.flow[k] == NULL:
            return k
        g = r.program[k]
        ref[k] = r.flow[k].ct[g.tcp_track] if g.abreast else 0
    return r.n


cdef inline bint straight_goes(Core *c, const Run *r, uint32_t k, int64_t until) noexcept nogil:
    """Carry frame ``k``, if it goes straight."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Parsed *a = &r.seen[k]
    cdef const uint8_t *frame = r.data + r.starts[k]
    cdef Program *g = r.program[k]
    if k + STRAIGHT_AHEAD < r.n and r.flow[k + STRAIGHT_AHEAD] != NULL:
        straight_ahead(r.program[k + STRAIGHT_AHEAD])
    c.now = r.times[k] if r.times[k] > c.now else c.now
    if (c.now >= until or not g.straight or not frame_as_known(c, r.flow[k], g, frame, a, a.sound)
            or not tracked_agree(c, r.flow[k], g, &r.tracked[k], frame + a.inner)):
        return False
    straight_leaves(c, r.flow[k], g, &r.tracked[k], frame + a.inner, a.length - a.inner, fc.scratch + PKT_HEADROOM + spread(k))
    return True


cdef inline uint32_t straight_run(Core *c, Run *r) noexcept nogil:
    """Carry frames from the first one on, as long as they go straight and nothing else is due before; how many."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Lanes l
    cdef uint32_t ref[RUN_MOST + 8]
    cdef int64_t until = straight_until(c), now
    cdef uint64_t walked = 0
    cdef uint32_t k = 0, gone
    r.n = run_connections(r, ref)
    for k in range(<uint32_t>LANES):
        l.to[k] = fc.scratch + PKT_HEADROOM + spread(k)
    k = 0
    while k < r.n:
        gone = eight_go(c, r, k, lanes_apart(&ref[k], r.n - k), until, &l, &walked) if lanes_are_wide() else 0
        k += gone
        if gone:
            continue
        now = c.now
        if not straight_goes(c, r, k, until):
            c.now = now
            break
        walked += r.program[k].walked
        k += 1
    fc.hits += k
    c.n_roots += k
    c.root = c.n_roots
    c.next_packet += k
    c.count.received += k
    c.count.out += k
    c.count.rules_walked += walked
    return k
