# What happened since the last call, as Python tuples.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from ext.devices.core cimport *
from ext.devices.queue cimport queue_number, queue_waiting
from ext.tables.fragments cimport FragQueue
from ext.tables.htab cimport htab_step, HNode
from ext.tables.neighbour cimport Neigh


cdef inline bytes stored(Core *c, uint64_t at, uint32_t n):
    return PyBytes_FromStringAndSize(<char *>c.bytes.mem + at, n) if n else b""


cdef inline int forget_bytes(Core *c) except -1:
    """Once nobody refers to the byte store any more, it starts anew."""
    if c.frames.n == 0 and c.drops.n == 0 and c.events.n == 0 and c.deliveries.n == 0:
        c.bytes.n = 0
    return 0


cdef inline list take_frames(Core *c, object Frame):
    cdef uint64_t i, n = c.frames.n // sizeof(FrameRecord)
    cdef FrameRecord *r = <FrameRecord *>c.frames.mem
    out = [Frame(r[i].time, r[i].dev, bool(r[i].outgoing), r[i].packet, stored(c, r[i].at, r[i].len), r[i].order)
           for i in range(n)]
    c.frames.n = 0
    forget_bytes(c)
    return out


cdef inline list take_drops(Core *c, object Drop, list places):
    cdef uint64_t i, n = c.drops.n // sizeof(DropRecord)
    cdef DropRecord *r = <DropRecord *>c.drops.mem
    index = {place: at for at, place in enumerate(places)}
    out = [Drop(r[i].time, r[i].ns, r[i].dev, r[i].packet, index[r[i].reason], stored(c, r[i].at, r[i].len), r[i].origin,
                r[i].order) for i in range(n)]
    c.drops.n = 0
    forget_bytes(c)
    return out


cdef inline str event_detail(const EventRecord *e, list reasons, dict index):
    """A drop's detail is its reason's number until here."""
    cdef int stage
    if e.what[0] != b"d" or e.what[1] != b"r":
        return (<bytes>e.detail).decode("utf-8", "replace")
    memcpy(&stage, e.detail + 4, sizeof(int))
    reason = reasons[index[-stage]]
    return f"{reason.name}: {reason.sentence}"


cdef inline list take_events(Core *c, object Event, list reasons, list places):
    cdef uint64_t i, n = c.events.n // sizeof(EventRecord)
    cdef EventRecord *e = <EventRecord *>c.events.mem
    index = {place: at for at, place in enumerate(places)}
    out = [Event(e[i].time, e[i].ns, e[i].dev, e[i].packet, e[i].stage.decode(), e[i].what.decode(), event_detail(&e[i], reasons, index), e[i].origin,
                 stored(c, e[i].at, e[i].len), e[i].order) for i in range(n)]
    c.events.n = 0
    forget_bytes(c)
    return out


cdef inline list take_deliveries(Core *c, object Delivery):
    cdef uint64_t i, n = c.deliveries.n // sizeof(DeliveryRecord)
    cdef DeliveryRecord *r = <DeliveryRecord *>c.deliveries.mem
    out = [Delivery(r[i].time, r[i].ns, r[i].socket, r[i].packet, stored(c, r[i].at, r[i].len)) for i in range(n)]
    c.deliveries.n = 0
    c.n_deliveries = 0
    forget_bytes(c)
    return out


cdef inline uint64_t packets_held(const Core *c) noexcept nogil:
    """Packets that wait: in the event queue, for neighbours, for the rest of their datagram. Counted anew each time."""
    cdef uint64_t held = 0, k
    cdef int i
    cdef HNode *node
    cdef FragQueue *q
    for k in range(queue_waiting(&c.queue)):
        held += queue_number(&c.queue, k).p != NULL
    for i in range(c.n_dev):
        node = htab_step(&c.dev[i].neigh.tab, NULL) if c.dev[i] != NULL else NULL
        while node != NULL:
            held += (<Neigh *>node).queued
            node = htab_step(&c.dev[i].neigh.tab, node)
    for i in range(c.n_ns):
        q = c.ns[i].frags.first if c.ns[i] != NULL else NULL
        while q != NULL:
            held += q.n
            q = q.next
    return held
