# Nearly all packets of nearly all flows: a frame from outside that leaves the world by a shortcut, and is seen by nobody on its way but
# the connections that track it. What is done is what apply.pxd does, without all the questions whose answers are known.

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Core, Due, Ns, chance_draw, event_first
from ext.devices.record cimport END_OUT, REC_OFF
from ext.fast.ahead cimport straight_ahead
from ext.fast.apply cimport apply_refresh, frame_as_known
from ext.fast.flows cimport Flow, FlowCache, HOW_RESET, NATS_MAX, Program, Track, Tracked, track_nat
from ext.fast.key cimport Parsed
from ext.fast.routed cimport spread
from ext.fast.shortcut cimport shortcut_written
from ext.fast.sum cimport copy_short
from ext.fast.track cimport tracked_agree
from ext.wire.bytes cimport ld16
from ext.wire.packet cimport PKT_HEADROOM

cdef enum:
    STRAIGHT_AHEAD = 4  # frames before whose turn their programs are asked for

cdef struct Run:
    # frames in order, whose keys have been read and whose flows have been found
    const uint8_t *data
    const uint64_t *starts
    const int64_t *times
    const Parsed *seen
    const Flow *const *flow
    Program *const *program
    const Tracked *tracked


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


cdef inline uint32_t straight_run(Core *c, const Run *r, uint32_t n) noexcept nogil:
    """Carry frames, ``n`` at most, from the first one on, as long as they go straight and nothing else is due before; how many."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Parsed *a
    cdef const uint8_t *frame
    cdef Program *g
    cdef int64_t until = straight_until(c), now = c.now
    cdef uint64_t walked = 0
    cdef uint32_t k = 0
    while k < n and r.flow[k] != NULL:
        if k + STRAIGHT_AHEAD < n and r.flow[k + STRAIGHT_AHEAD] != NULL:
            straight_ahead(r.program[k + STRAIGHT_AHEAD])
        a = &r.seen[k]
        c.now = r.times[k] if r.times[k] > now else now
        g = r.program[k]
        frame = r.data + r.starts[k]
        if (c.now >= until or not g.straight or not frame_as_known(c, r.flow[k], g, frame, a, a.sound)
                or not tracked_agree(c, r.flow[k], g, &r.tracked[k], frame + a.inner)):
            break
        straight_leaves(c, r.flow[k], g, &r.tracked[k], frame + a.inner, a.length - a.inner, fc.scratch + PKT_HEADROOM + spread(k))
        walked += g.walked
        now = c.now
        k += 1
    c.now = now
    fc.hits += k
    c.n_roots += k
    c.root = c.n_roots
    c.next_packet += k
    c.count.received += k
    c.count.out += k
    c.count.rules_walked += walked
    return k
