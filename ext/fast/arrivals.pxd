# Packets from a wire that are received while frames go eight at a time, and end there: eight and eight like these, each when it is due.
#
# They are what is next in one lane of the queue. Those in hand may go as long as each is the first event when it is looked at; before
# anything else is due, or one does not go its flow's way, the stages take over, for which the rest waits in the queue as it did.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from ext.devices.core cimport Core, EV_ONWARD, event_due
from ext.devices.queue cimport Due, IN_HEAP, Lane as Waiting, Queue, Timer, queue_first, queue_pop
from ext.fast.abreast cimport (Arrivals, EIGHTS, LANE_MOST, Row, eight_found, eight_stands_in, lane_asks, lane_found, lane_goes, row_writes)
from ext.fast.apply cimport CABLES_MAX
from ext.fast.flows cimport FlowCache, HOW_TUNNELLED, LaneWay, PLACE_TOS
from ext.fast.key cimport ETH, segments_begin
from ext.fast.lane_flows cimport lanes_find
from ext.fast.lane_windows cimport lanes_pass
from ext.fast.lane_write cimport lanes_write
from ext.fast.lanes cimport Eight, LANE_DEVICE_AT, LANE_LEAST, LANES, first_of, lanes_look, lanes_repeat, lanes_with
from ext.fast.onward cimport light_gone
from ext.wire.bytes cimport rarely
from ext.wire.packet cimport Pkt

cdef enum:
    ARRIVALS_LEAST = 4  # fewer at once are not worth it


cdef inline const Due *waiting_number(const Waiting *lane, uint32_t i) noexcept nogil:
    """What happens ``i``-th in a lane of the queue."""
    return &lane.ring[(lane.at + i) & (lane.cap - 1)]


cdef inline bint arrival_read(const Row *r, const Pkt *p, uint32_t at) noexcept nogil:
    """Are its headers known to be sound, the inner one at ``at``?"""
    cdef uint32_t n = p.end - p.l2
    if p.sound < (1 if at == ETH else 2) or not at + LANE_LEAST <= n <= LANE_MOST:
        return False
    return p.foreseen.made or (p.foreseen.shapes == <uint32_t>r.fc.n_shapes + 1 and p.foreseen.inner == at)


cdef inline bint arrivals_wait(const Row *r) noexcept nogil:
    """Are there eight more, all of them written?"""
    cdef const Queue *q = &r.c.queue
    cdef uint32_t past = r.arrivals.ahead + LANES
    return q.first != IN_HEAP and past <= q.lane[q.first].n and <int>(waiting_number(&q.lane[q.first], past - 1).p.id - r.written) <= 0


cdef inline uint32_t arrivals_read(Row *r, Eight *e, Pkt **packet) noexcept nogil:
    """The next ones whose IP headers stand at the same place; how many."""
    cdef const Core *c = r.c
    cdef const Waiting *lane
    cdef uint32_t ahead = r.arrivals.ahead, at = 0, k
    cdef const Due *due
    cdef Pkt *p
    cdef int dev = -1
    if c.queue.first == IN_HEAP:
        return 0
    lane = &c.queue.lane[c.queue.first]
    if ahead >= lane.n:
        return 0
    for k in range(min(lane.n - ahead, <uint32_t>LANES)):
        due = waiting_number(lane, ahead + k)
        if due.kind != EV_ONWARD:
            return k
        p = due.p
        if <int>(p.id - r.written) > 0:
            row_writes(r)
        if p.dev != dev:
            dev = p.dev
            at = segments_begin(r.fc, c.dev[dev], p.buf + p.l2, p.end - p.l2)
        if k == 0:
            e.at = at
        if at == 0 or at != e.at or not arrival_read(r, p, at):
            return k
        packet[k] = p
        e.frame[k] = p.buf + p.l2
        e.ip[k] = e.frame[k] + at
        e.length[k] = p.end - p.l2
        e.high[k] = <uint32_t>(dev + 1) << LANE_DEVICE_AT | (<uint32_t>(HOW_TUNNELLED >> PLACE_TOS) if at != ETH else 0)
    return min(lane.n - ahead, <uint32_t>LANES)


cdef inline void arrivals_look(Row *r, Eight *e, Pkt **packet) noexcept nogil:
    """Read the keys of the next ones, and ask for what lies where their flows should."""
    cdef uint32_t n = arrivals_read(r, e, packet), unsummed, k
    e.n = e.wrote = 0
    if n == 0:
        return
    eight_stands_in(e, n)
    e.n = min(n, first_of(lanes_look(e, &r.keys, &unsummed)))  # sums of longer ones are known, as all are
    r.arrivals.ahead += e.n
    for k in range(e.n):
        lane_asks(r, e, k)


cdef inline bint arrival_as_known(const Eight *e, const LaneWay *y, const Pkt *p) noexcept nogil:
    """Is what it has found out before what packets of its program have?"""
    return ((p.hash != 0) == y.hash_in and p.hash_l4 == y.hash_l4_in and p.unfinished == y.unfinished_in
            and p.crossings + y.cables <= CABLES_MAX and (e.at == y.at if y.at else e.at == ETH))


cdef inline void arrivals_find(Row *r, Eight *e, Pkt *const *packet) noexcept nogil:
    """Their flows and connections."""
    cdef uint32_t found = lanes_find(e, r.fc.lane, r.fc.lanes_stamp) if e.n else 0, k
    for k in range(e.n):
        if not lane_found(r, e, k, found >> k & 1) or not arrival_as_known(e, <const LaneWay *>e.way[k], packet[k]):
            r.arrivals.ahead -= e.n - k
            e.n = k
            break
    eight_found(r, e)


cdef inline void arrivals_left(Row *r) noexcept nogil:
    """Those in hand that went are written, and gone."""
    cdef Arrivals *a = &r.arrivals
    cdef uint32_t i = a.turn & (EIGHTS - 1), k
    a.eight[i].n = a.gone
    lanes_write(&a.eight[i])
    for k in range(a.gone):
        light_gone(r.c, a.packet[i][k])
    r.arrived += a.gone
    a.waits = NULL
    a.eight[i].n = a.eight[i].wrote = a.gone = 0


cdef inline void arrivals_next(Row *r, uint32_t turn) noexcept nogil:
    """An eight for later, if there is one."""
    cdef Arrivals *a = &r.arrivals
    cdef uint32_t i = turn & (EIGHTS - 1)
    if arrivals_wait(r):
        arrivals_look(r, &a.eight[i], a.packet[i])


cdef inline bint arrivals_begin(Row *r, uint32_t turn) noexcept nogil:
    """Nothing has been read: as many as there are, unless one by one is as fast."""
    cdef Arrivals *a = &r.arrivals
    cdef uint32_t i = turn & (EIGHTS - 1)
    a.ahead = 0
    arrivals_look(r, &a.eight[i], a.packet[i])
    arrivals_find(r, &a.eight[i], a.packet[i])
    a.eight[(turn + 1) & (EIGHTS - 1)].n = 0
    arrivals_next(r, turn + 1)
    return a.eight[i].n >= <uint32_t>ARRIVALS_LEAST


cdef inline bint arrivals_are_next(const Queue *q, Pkt *const *packet) noexcept nogil:
    """Does the first of these packets come before all else?"""
    return q.first != IN_HEAP and queue_first(q).p == packet[0]


cdef inline int64_t queue_latest(const Queue *q, uint32_t n) noexcept nogil:
    """When the last one of so many that are next in the first event's lane happens."""
    return waiting_number(&q.lane[q.first], n - 1).time


cdef inline bint arrivals_turn(Row *r) noexcept nogil:
    """The next eight, if there are some: as with frames, of those behind it the flows are found, and keys are read."""
    cdef Arrivals *a = &r.arrivals
    cdef uint32_t i = (a.turn + 1) & (EIGHTS - 1), k = (a.turn + 2) & (EIGHTS - 1)
    arrivals_left(r)
    a.turn += 1
    if a.eight[i].n == 0 and not arrivals_begin(r, a.turn):
        a.eight[i].n = 0
        return False
    if a.eight[k].n:
        arrivals_find(r, &a.eight[k], a.packet[k])
    arrivals_next(r, a.turn + 2)
    if not arrivals_are_next(&r.c.queue, a.packet[i]):
        a.eight[i].n = 0
        return False
    a.waits = &a.eight[i]
    a.latest = queue_latest(&r.c.queue, a.eight[i].n)
    a.passed = lanes_pass(&a.eight[i], a.latest)
    a.again = lanes_repeat(a.eight[i].ref)
    return True


cdef inline bint is_of_instant(const Due *e, const Due *other) noexcept nogil:
    return other.time == e.time and other.root == e.root


cdef inline bint instant_is_shared(const Core *c, const Due *e) noexcept nogil:
    """Does something else that goes back to the same frame from outside happen at the same instant as the first event, which is in a
    lane?"""
    cdef const Queue *q = &c.queue
    cdef int i
    for i in range(q.n_lanes):
        if q.lane[i].n > <uint32_t>(i == q.first) and is_of_instant(e, waiting_number(&q.lane[i], i == q.first)):
            return True
    return q.n_heap and is_of_instant(e, &q.heap[0].due)


cdef inline bint arrival_goes(Row *r) noexcept nogil:
    """The first event happens, if it is a packet that may go so."""
    cdef Arrivals *a = &r.arrivals
    cdef Core *c = r.c
    cdef const Due *due = queue_first(&c.queue)
    cdef uint32_t i, k
    cdef Eight *e
    cdef Timer first
    if a.gone == a.eight[a.turn & (EIGHTS - 1)].n and not arrivals_turn(r):
        return False
    i = a.turn & (EIGHTS - 1)
    e = &a.eight[i]
    k = a.gone
    if c.queue.first == IN_HEAP or due.p != a.packet[i][k]:
        return False
    if rarely(a.again >> k & 1):
        a.passed = lanes_pass(e, a.latest)
    if (not a.passed >> k & 1 or ((<const LaneWay *>e.way[k]).inner and instant_is_shared(c, due))
            or not lane_goes(r, e, k, due.time, due.p.id)):
        return False
    queue_pop(&c.queue, &first)
    a.gone += 1
    a.ahead -= 1
    r.again |= lanes_with(r.eight[r.turn & (EIGHTS - 1)].ct, e.ct[k])
    return True


cdef inline bint arrivals_until(Row *r, int64_t time) noexcept nogil:
    """All that is due up to this virtual time; False: something else is."""
    while event_due(r.c, time):
        if not arrival_goes(r):
            return False
    return True
