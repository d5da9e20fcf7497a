# Frames from outside eight at a time, as long as they go so: abreast.pxd's steps, each for other eight frames, so that what lies far away in
# memory is asked for a step or two ahead. What is due between them is carried by arrivals.pxd, or ends it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.devices.core cimport Core, event_due
from ext.fast.abreast cimport (DATA_AHEAD, EIGHTS, Row, eight_found, eight_look, flows_farther, lane_asks, lane_found, lane_goes,
                               lane_goes_quietly, lane_nowhere)
from ext.fast.arrivals cimport arrivals_left, arrivals_until
from ext.fast.flows cimport FlowCache
from ext.fast.lane cimport lanes_stamped
from ext.fast.lane_flows cimport lanes_find
from ext.fast.lane_windows cimport lanes_pass, lanes_simple
from ext.fast.lane_write cimport lanes_write
from ext.fast.lanes cimport Eight, LANE_LEAST, LANES, lanes_due, lanes_repeat, lanes_with
from ext.fast.pair_board cimport PAIR_HERE, pair_seen
from ext.fast.straight cimport straight_until
from ext.wire.bytes cimport ask_for, rarely

cdef enum:
    ALONE_LEAST = 8  # eights of one thread before another one joins in
    ARRAYS_AHEAD = 128  # frames


cdef inline const uint64_t *starts_ahead(const Row *r, const Eight *e) noexcept nogil:
    """Where frames some later than these begin that are to be asked for; behind the last ones, where these do."""
    return r.starts + (e.first + DATA_AHEAD if e.first + LANES + DATA_AHEAD <= r.past else e.first)


cdef inline void lane_asks_ahead(const Row *r, const Eight *e, uint32_t k, const uint64_t *starts) noexcept nogil:
    """lane_asks(), and such a frame is, to the end of its headers. ``starts``: as starts_ahead() says."""
    cdef const uint8_t *frame = r.data + starts[k]
    lane_asks(r, e, k)
    ask_for(frame)
    ask_for(frame + e.at + LANE_LEAST - 1)


cdef inline void lanes_come(Row *r, Eight *next, uint32_t found, const Eight *later, uint32_t k, const uint64_t *starts) noexcept nogil:
    """Of the ``next`` eight the packet's connections are found, and asked for; of a ``later`` one what lies where its flow should is."""
    if k < next.n and not lane_found(r, next, k, found >> k & 1):
        next.n = k
    lane_asks_ahead(r, later, k, starts)


cdef inline void arrays_ahead(const Row *r, uint64_t frame) noexcept nogil:
    """What is said of frames some eights later is asked for."""
    cdef uint64_t i = min(frame + ARRAYS_AHEAD, r.past - 1)
    ask_for(&r.times[i])
    ask_for(&r.starts[i])
    ask_for(&r.lengths[i])
    ask_for(&r.devs[i])


cdef inline void eight_opens(const FlowCache *fc, Eight *e) noexcept nogil:
    """Nothing is in it, and all would be written where nobody looks."""
    cdef uint32_t k
    e.n = e.wrote = e.placed = 0
    for k in range(<uint32_t>LANES):
        lane_nowhere(fc, e, k)


cdef inline bint row_begins(Row *r, Core *c) noexcept nogil:
    """False: nothing can go so."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef uint32_t i
    r.c = c
    r.fc = fc
    r.shares = False
    r.farther = flows_farther(fc)
    r.walked = r.others = r.arrived = 0
    r.root = c.n_roots
    r.id = r.written = c.next_packet
    r.gone = 0
    r.turn = 0
    r.keys.seed = fc.key_seed
    r.keys.flow = fc.flow
    r.keys.slots = fc.slots
    r.arrivals.turn = r.arrivals.gone = r.arrivals.ahead = 0
    r.arrivals.waits = NULL
    for i in range(EIGHTS):
        eight_opens(fc, &r.eight[i])
        eight_opens(fc, &r.arrivals.eight[i])
    lanes_stamped(c, fc, c.now)
    return straight_until(c) != 0 and fc.n_programs != 0


cdef inline void row_counts(Row *r) noexcept nogil:
    cdef Core *c = r.c
    cdef uint64_t n = r.gone
    r.fc.hits += n + r.arrived
    r.fc.abreast += n + r.arrived
    c.n_roots += n
    c.root = c.n_roots
    c.next_packet += <uint32_t>n
    c.count.received += n
    c.count.out += n + r.arrived - r.others
    c.count.rules_walked += r.walked


cdef inline bint frame_goes_abreast(Row *r, Eight *e, uint32_t k, int64_t now) noexcept nogil:
    """The next frame, whose windows let it through, goes at its time."""
    if not lane_goes(r, e, k, now, r.id + <uint32_t>r.gone + k + 1):
        return False
    if r.arrivals.waits != NULL:
        r.arrivals.again |= lanes_with(r.arrivals.waits.ct, e.ct[k])
    r.lane = k + 1
    return True


cdef inline void eights_step(Row *r, Eight *e, Eight *behind, Eight *next, const Eight *later) noexcept nogil:
    """Those in hand, ``e``, go; those ``behind`` are written, of the ``next`` the flows are found, and what lies where the flows of
    ``later`` ones should is asked for: lane by lane, as more lines of memory than some twenty at a time are not fetched."""
    cdef uint32_t again, passed, found
    lanes_due(e, r.times + e.first, r.c.now)
    again = lanes_repeat(e.ref)
    passed = lanes_pass(e, e.due[LANES - 1])
    found = lanes_find(next, r.fc.lane, r.fc.lanes_stamp) if next.n else 0
    arrays_ahead(r, e.first)
    lanes_write(behind)
    r.written = r.id + <uint32_t>r.gone
    if later.n == 0:
        later = e
    if eight_is_quiet(r, e, again, passed):
        eight_goes_quietly(r, e, next, found, later)
    else:
        eight_goes(r, e, again, passed, next, found, later)
    eight_found(r, next)


cdef inline bint eight_is_quiet(const Row *r, const Eight *e, uint32_t again, uint32_t passed) noexcept nogil:
    """Do all go, each by a connection of its own, seen by nobody, before anything else is due?"""
    cdef uint32_t every = (1 << LANES) - 1
    cdef int64_t latest = e.due[LANES - 1]
    return (e.n == <uint32_t>LANES and (passed & e.stands) == every and (again | e.told) == 0 and latest < e.until
            and not event_due(r.c, latest) and r.arrivals.waits == NULL)


cdef inline void eight_goes_quietly(Row *r, Eight *e, Eight *next, uint32_t found, const Eight *later) noexcept nogil:
    """What is left of eights_step(), where eight_is_quiet() says so."""
    cdef const uint64_t *starts = starts_ahead(r, later)
    cdef uint32_t simple = lanes_simple(e, e.due[LANES - 1]), k
    cdef int64_t before = r.c.now
    for k in range(<uint32_t>LANES if e.placed else 0):
        lane_nowhere(r.fc, e, k)
    e.placed = False
    for k in range(<uint32_t>LANES):
        if not lane_goes_quietly(r, e, k, simple >> k & 1):
            e.n = k
            break
        lanes_come(r, next, found, later, k, starts)
    r.c.now = e.due[e.n - 1] if e.n else before
    for k in range(e.n, <uint32_t>LANES):
        lanes_come(r, next, found, later, k, starts)


cdef inline void eight_goes(Row *r, Eight *e, uint32_t again, uint32_t passed, Eight *next, uint32_t found, const Eight *later) noexcept nogil:
    """What is left of eights_step(): lane by lane, with what is due between them."""
    cdef const uint64_t *starts = starts_ahead(r, later)
    cdef int64_t now
    cdef uint32_t k
    r.again = r.lane = 0
    for k in range(<uint32_t>LANES):
        if k < e.n:
            now = max(r.c.now, e.due[k])
            if event_due(r.c, now) and not arrivals_until(r, now):
                e.n = k
            elif rarely((again | r.again) >> k & 1):
                passed = lanes_pass(e, e.due[LANES - 1])  # its connection is another now
                r.again = 0
            if k < e.n and not (passed >> k & 1 and frame_goes_abreast(r, e, k, now)):
                e.n = k
        lanes_come(r, next, found, later, k, starts)


cdef inline void eight_finds(Row *r, Eight *e, const Eight *later) noexcept nogil:
    """The flows of all of them, while those of ``later`` ones are asked for."""
    cdef uint32_t found = lanes_find(e, r.fc.lane, r.fc.lanes_stamp), k
    cdef const uint64_t *starts = starts_ahead(r, later)
    for k in range(<uint32_t>LANES):
        lanes_come(r, e, found, later, k, starts)
    eight_found(r, e)


cdef inline void eights_begin(Row *r, uint64_t first) noexcept nogil:
    """The first eight are found, and the next looked at."""
    r.eight[EIGHTS - 1].n = r.eight[1].n = 0
    eight_look(r, &r.eight[0], first)
    if first + 2 * LANES <= r.past:
        eight_look(r, &r.eight[1], first + LANES)
    if r.eight[0].n:
        eight_finds(r, &r.eight[0], &r.eight[1] if r.eight[1].n else &r.eight[0])


cdef inline uint64_t abreast_run(Core *c, Row *r, uint64_t first) noexcept nogil:
    """Carry frames from number ``first`` on, of which there are eight or more, eight and eight, as far as that goes; how many."""
    cdef uint32_t i = 0
    cdef Eight *e
    cdef Eight *later
    if not row_begins(r, c):
        return 0
    eights_begin(r, first)
    while True:
        e = &r.eight[i & (EIGHTS - 1)]
        if e.n == 0:
            break
        later = &r.eight[(i + 2) & (EIGHTS - 1)]
        later.n = 0
        if first + r.gone + 3 * LANES <= r.past:
            eight_look(r, later, first + r.gone + 2 * LANES)
        r.turn = i
        eights_step(r, e, &r.eight[(i - 1) & (EIGHTS - 1)], &r.eight[(i + 1) & (EIGHTS - 1)], later)
        r.gone += e.n
        i += 1
        if e.n < LANES or (i >= <uint32_t>ALONE_LEAST and r.other != NULL and pair_seen(r.other) == PAIR_HERE):
            break
    lanes_write(&r.eight[(i - 1) & (EIGHTS - 1)])
    arrivals_left(r)
    row_counts(r)
    return r.gone
