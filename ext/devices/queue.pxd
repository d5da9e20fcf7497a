# What has still to happen, in order of time, then of what began it, then of being queued.
#
# So each frame is carried to completion, with everything that it causes at that instant, before the next one.
# Events about packets that happen equally long after they were queued (a link's latency, or none) were queued in just that order,
# mostly: they go into a lane, a ring for each delay, and all else into a binary heap.

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from ext.wire.bytes cimport ask_for
from ext.wire.packet cimport Pkt

cdef enum:
    LANES = 6
    IN_HEAP = -1  # instead of the number of a lane

cdef struct Due:
    int64_t time
    uint64_t root  # what it all began with: see Core.root
    uint64_t seq
    Pkt *p
    int kind
    int dev  # or namespace, or stage

cdef struct Timer:
    # an event of the heap
    Due due
    uint64_t queue  # number of a fragment queue
    uint8_t addr[16]  # neighbour
    uint8_t alen

cdef struct Lane:
    # a ring of events that were queued in the order in which they happen
    Due *ring
    uint32_t at
    uint32_t n
    uint32_t cap  # a power of two
    int64_t delay  # ns between queueing and happening

cdef struct Queue:
    int64_t next  # when the first event happens, INT64_MAX: nothing waits
    int first  # the lane that it is in, or IN_HEAP
    int n_lanes
    int n_heap
    int heap_cap
    Timer *heap
    Lane lane[LANES]
    uint64_t seq
    uint64_t n_packets  # events about packets


cdef inline bint event_before(const Due *a, const Due *b) noexcept nogil:
    if a.time != b.time:
        return a.time < b.time
    return a.root < b.root or (a.root == b.root and a.seq < b.seq)


cdef inline const Due *lane_first(const Lane *lane) noexcept nogil:
    return &lane.ring[lane.at]


cdef inline const Due *queue_first(const Queue *q) noexcept nogil:
    """The earliest event; NULL: nothing waits."""
    if q.next == INT64_MAX:
        return NULL
    return lane_first(&q.lane[q.first]) if q.first != IN_HEAP else &q.heap[0].due


cdef inline void queue_init(Queue *q) noexcept nogil:
    """Of memory that is all zeros."""
    q.next = INT64_MAX


cdef inline void queue_free(Queue *q) noexcept nogil:
    cdef int k
    free(q.heap)
    for k in range(q.n_lanes):
        free(q.lane[k].ring)


cdef inline uint64_t queue_waiting(const Queue *q) noexcept nogil:
    cdef uint64_t n = <uint64_t>q.n_heap
    cdef int k
    for k in range(q.n_lanes):
        n += q.lane[k].n
    return n


cdef inline const Due *queue_number(const Queue *q, uint64_t i) noexcept nogil:
    """The waiting events in no order of meaning, ``i`` from 0."""
    cdef const Lane *lane
    cdef int k
    for k in range(q.n_lanes):
        lane = &q.lane[k]
        if i < lane.n:
            return &lane.ring[(lane.at + <uint32_t>i) & (lane.cap - 1)]
        i -= lane.n
    return &q.heap[i].due


cdef inline void queue_look(Queue *q) noexcept nogil:
    """Find the first event anew."""
    cdef const Due *first = NULL
    cdef const Due *e
    cdef int k
    if q.n_heap:
        first = &q.heap[0].due
        q.first = IN_HEAP
    for k in range(q.n_lanes):
        if q.lane[k].n:
            e = lane_first(&q.lane[k])
            if first == NULL or event_before(e, first):
                first = e
                q.first = k
    q.next = first.time if first != NULL else INT64_MAX


cdef inline bint lane_grow(Lane *lane) noexcept nogil:
    """False: memory is out."""
    cdef uint32_t cap = lane.cap * 2 if lane.cap else 64, i
    cdef Due *ring = <Due *>malloc(cap * sizeof(Due))
    if ring == NULL:
        return False
    for i in range(lane.n):
        ring[i] = lane.ring[(lane.at + i) & (lane.cap - 1)]
    free(lane.ring)
    lane.ring = ring
    lane.at = 0
    lane.cap = cap
    return True


cdef inline void lane_ahead(const Lane *lane) noexcept nogil:
    """Ask for what will be read first of packets whose turn comes soon: they have waited, and others have come since."""
    cdef const Pkt *p
    if lane.n < 2:
        return
    p = lane.ring[(lane.at + 1) & (lane.cap - 1)].p
    ask_for(p)
    ask_for(&p.foreseen)
    p = lane.ring[lane.at].p
    ask_for(p.buf + p.l2)


cdef inline int lane_for(Queue *q, int64_t delay) noexcept nogil:
    """The lane of this delay, a new one if need be; IN_HEAP: there are too many others."""
    cdef int k
    for k in range(q.n_lanes):
        if q.lane[k].delay == delay:
            return k
    if q.n_lanes == LANES:
        return IN_HEAP
    q.lane[q.n_lanes].delay = delay
    q.n_lanes += 1
    return q.n_lanes - 1


cdef inline bint lane_add(Queue *q, int k, const Due *e) noexcept nogil:
    """False: it does not happen after all that is in the lane, or memory is out."""
    cdef Lane *lane = &q.lane[k]
    if lane.n and event_before(e, &lane.ring[(lane.at + lane.n - 1) & (lane.cap - 1)]):
        return False
    if lane.n == lane.cap and not lane_grow(lane):
        return False
    lane.ring[(lane.at + lane.n) & (lane.cap - 1)] = e[0]
    lane.n += 1
    if lane.n == 1 and (e.time < q.next or (e.time == q.next and event_before(e, queue_first(q)))):
        q.next = e.time
        q.first = k
    return True


cdef inline Timer *heap_add(Queue *q, const Due *e) noexcept nogil:
    """Where ``e`` now is; NULL: memory is out."""
    cdef Timer *grown
    cdef int i, up, cap
    if q.n_heap == q.heap_cap:
        cap = q.heap_cap * 2 if q.heap_cap else 64
        grown = <Timer *>realloc(q.heap, cap * sizeof(Timer))
        if grown == NULL:
            return NULL
        q.heap = grown
        q.heap_cap = cap
    i = q.n_heap
    q.n_heap += 1
    while i > 0:
        up = (i - 1) >> 1
        if event_before(&q.heap[up].due, e):
            break
        q.heap[i] = q.heap[up]
        i = up
    q.heap[i].due = e[0]
    q.heap[i].queue = 0
    q.heap[i].alen = 0
    queue_look(q)
    return &q.heap[i]


cdef inline bint queue_packet(Queue *q, const Due *e, int64_t delay) noexcept nogil:
    """Queue an event about a packet, so long after it was caused; its ``seq`` counts. False: memory is out."""
    cdef int k = lane_for(q, delay)
    if (k == IN_HEAP or not lane_add(q, k, e)) and heap_add(q, e) == NULL:
        return False
    q.n_packets += 1
    return True


cdef inline void heap_pop(Queue *q, Timer *top) noexcept nogil:
    cdef Timer last
    cdef int i = 0, child
    top[0] = q.heap[0]
    q.n_heap -= 1
    last = q.heap[q.n_heap]
    while True:
        child = i * 2 + 1
        if child >= q.n_heap:
            break
        if child + 1 < q.n_heap and event_before(&q.heap[child + 1].due, &q.heap[child].due):
            child += 1
        if event_before(&last.due, &q.heap[child].due):
            break
        q.heap[i] = q.heap[child]
        i = child
    if q.n_heap > 0:
        q.heap[i] = last


cdef inline void queue_pop(Queue *q, Timer *first) noexcept nogil:
    """The first event leaves the queue, in which there is one. Of what only timers have nothing is filled in unless it is one."""
    cdef Lane *lane
    if q.first == IN_HEAP:
        heap_pop(q, first)
    else:
        lane = &q.lane[q.first]
        first.due = lane.ring[lane.at]
        lane.at = (lane.at + 1) & (lane.cap - 1)
        lane.n -= 1
        lane_ahead(lane)
    q.n_packets -= first.due.p != NULL
    queue_look(q)
