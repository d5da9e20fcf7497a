# Before anybody can look at what waits, or change something, packets that fast/onward.pxd has sent on become what they would be without it.

from ext.devices.core cimport Core, EV_ONWARD, EV_RECEIVE
from ext.devices.queue cimport Due, IN_HEAP, Lane, Queue, heap_add, lane_add, lane_for, queue_look
from ext.fast.onward cimport light_parted, light_whole
from ext.stages.receive cimport packet_classify
from libc.stdint cimport uint32_t


cdef inline void light_rests(Core *c, Due *e) noexcept nogil:
    """It waits as a packet like any other, which its device is to see as the one that it is now."""
    light_whole(e.p)
    packet_classify(c, e.p)
    e.kind = EV_RECEIVE


cdef inline void lane_parts(Core *c, Lane *lane) noexcept nogil:
    """The packets of a lane are given back to the switches that they have not reached."""
    cdef Queue *q = &c.queue
    cdef uint32_t n = lane.n, i
    cdef Due e
    cdef int k
    lane.n = 0
    for i in range(n):
        e = lane.ring[(lane.at + i) & (lane.cap - 1)]
        if e.kind == EV_ONWARD:
            light_rests(c, &e)
            if e.p.joined.time > c.now:
                e.time = e.p.joined.time
                e.dev = e.p.joined.dev
                light_parted(c, e.p)
                packet_classify(c, e.p)
                k = lane_for(q, e.p.joined.delay)
                if (k == IN_HEAP or not lane_add(q, k, &e)) and heap_add(q, &e) == NULL:
                    c.out_of_memory = True
                continue
        lane.ring[(lane.at + lane.n) & (lane.cap - 1)] = e
        lane.n += 1


cdef inline void onward_rests(Core *c) noexcept nogil:
    """Everything that waits becomes what it would be without all this."""
    cdef Queue *q = &c.queue
    cdef int k, n = q.n_lanes
    if not c.light:
        return
    c.light = False
    for k in range(q.n_heap):
        if q.heap[k].due.kind == EV_ONWARD:
            light_rests(c, &q.heap[k].due)
    for k in range(n):
        lane_parts(c, &q.lane[k])
    queue_look(q)
