# Many frames at once, in memory of the caller's that is only read: no Python object for each.

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from ext.devices.core cimport Core, Dev, EV_TRANSMIT, event_due, event_packet
from ext.devices.record cimport REC_OFF
from ext.fast.abreast cimport Row
from ext.fast.ahead cimport first_ahead, first_nears, tracks_ahead
from ext.fast.crew cimport CREW_MOST, crew_begins, crew_ends
from ext.fast.flows cimport First, Flow, FlowCache, LINE, Program, Tracked, flow_find, flow_home, flow_program
from ext.fast.headers cimport sight_is_wide
from ext.fast.key cimport Parsed, frames_plain, key_read, key_read_plainly
from ext.fast.lanes cimport LANES
from ext.fast.megaflow cimport MegaHead
from ext.fast.pair cimport PAIR_APART, Pair, pair_adapts, pair_goes, pair_is_ready, pair_later, pair_meets, pair_opens, pair_parts
from ext.fast.part cimport Window
from ext.fast.routed cimport Entrance, WAYS_BLOCK, Ways, devices_apart, entrance_of, way_of, ways_go, ways_look, ways_some
from ext.fast.rows cimport abreast_run
from ext.fast.straight cimport Run, straight_run
from ext.fast.window cimport STEP_PAIR
from ext.fast.windows cimport (WINDOW_MOST, window_adapts, window_carry, window_free, window_is_open, window_new, window_rests, window_suits)
from ext.stages.events cimport (FRAME_FLOWS_MAX, events_until, frame_begins, frame_flows, frame_goes_wide, frame_onward, frame_packet, frame_refused,
                                frame_routed, frames_flow, packet_comes)
from ext.stages.megaflow_ahead cimport COMING_MAX, Coming, coming_add, coming_begin, coming_next
from ext.stages.verdict cimport DROPS_END, ST_TRANSMIT
from ext.tables.fib cimport HOP_ASK
from ext.wire.bytes cimport ask_for, rarely
from ext.wire.packet cimport Pkt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

cdef enum:
    BATCH_VIEWS = 6
    BURST = COMING_MAX  # frames whose keys are read, and whose flows are found, before the first of them goes
    APART_LEAST = 16  # frames that go without a try whether they go eight at a time; where tries fail they are twice as many each time,
    APART_MOST = 1 << 10  # up to this
    FRAMES_AHEAD = 32  # frames that are asked for before their keys are read

cdef struct Batch:
    const uint8_t *data
    uint64_t size  # of data, bytes
    uint64_t n  # frames
    const int32_t *devs  # where each is injected
    const uint64_t *starts  # where each begins in data
    const uint32_t *lengths  # bytes of each
    const int64_t *times  # virtual ns
    uint8_t *refused  # set to 1 for each frame that a packet socket would refuse
    Py_buffer view[BATCH_VIEWS]
    int n_views

cdef struct Burst:
    # the next frames of a batch, as far as the flow cache knows them
    uint64_t first  # the first one's number
    Parsed seen[BURST]
    const Flow *flow[BURST]
    Program *program[BURST]  # of those that have one
    Tracked tracked[BURST]
    First ahead[BURST]  # of those that have no flow
    Coming coming
    uint32_t n
    int shapes  # FlowCache.n_shapes when keys were read
    uint64_t learnt  # FlowCache.changes when flows were found


cdef inline void *batch_view(Batch *b, object source, str name, uint64_t size, bint writable=False) except NULL:
    """The memory of a buffer that holds at least ``size`` bytes. ValueError, TypeError: it does not."""
    cdef Py_buffer *view = &b.view[b.n_views]
    if not PyObject_CheckBuffer(source):
        raise TypeError(f"{name} must be a buffer")
    PyObject_GetBuffer(source, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    b.n_views += 1
    if <uint64_t>view.len < size:
        raise ValueError(f"{name} has {view.len} bytes, {size} are needed")
    return view.buf if view.buf != NULL else <void *>b


cdef inline int batch_open(Batch *b, object data, object devs, object starts, object lengths, object times, object refused) except -1:
    """Fill a batch; ``batch_close()`` is due even if this raises."""
    memset(b, 0, sizeof(Batch))
    b.n = memoryview(times).nbytes // <Py_ssize_t>sizeof(int64_t)
    b.data = <const uint8_t *>batch_view(b, data, "data", 0)
    b.size = b.view[0].len
    b.devs = <const int32_t *>batch_view(b, devs, "devs", b.n * sizeof(int32_t))
    b.starts = <const uint64_t *>batch_view(b, starts, "starts", b.n * sizeof(uint64_t))
    b.lengths = <const uint32_t *>batch_view(b, lengths, "lengths", b.n * sizeof(uint32_t))
    b.times = <const int64_t *>batch_view(b, times, "times", b.n * sizeof(int64_t))
    b.refused = <uint8_t *>batch_view(b, refused, "refused", b.n, writable=True)
    return 0


cdef extern from *:
    """
    /* All bits of places where frames begin, and of how much is left behind them; and of devices, and of how much is left of these. */
    static inline __attribute__((always_inline)) uint64_t places_bits_of(const uint64_t *starts, const uint32_t *lengths, uint64_t n,
                                                                         uint64_t size)
    {
        uint64_t bits = size, i;
        for (i = 0; i < n; i++)
            bits |= starts[i] | (size - starts[i] - lengths[i]);
        return bits;
    }

    static inline __attribute__((always_inline)) uint32_t devices_bits_of(const int32_t *devs, uint64_t n, uint32_t last)
    {
        uint32_t bits = 0;
        uint64_t i;
        for (i = 0; i < n; i++)
            bits |= (uint32_t)devs[i] | (last - (uint32_t)devs[i]);
        return bits;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    SIGHT_AVX2 static uint64_t places_bits_wide(const uint64_t *starts, const uint32_t *lengths, uint64_t n, uint64_t size)
    {
        return places_bits_of(starts, lengths, n, size);
    }

    SIGHT_AVX2 static uint32_t devices_bits_wide(const int32_t *devs, uint64_t n, uint32_t last) { return devices_bits_of(devs, n, last); }
    #else
    #define places_bits_wide places_bits_of
    #define devices_bits_wide devices_bits_of
    #endif

    static uint64_t places_bits(const uint64_t *starts, const uint32_t *lengths, uint64_t n, uint64_t size)
    {
        return sight_is_wide() ? places_bits_wide(starts, lengths, n, size) : places_bits_of(starts, lengths, n, size);
    }

    static uint32_t devices_bits(const int32_t *devs, uint64_t n, uint32_t last)
    {
        return sight_is_wide() ? devices_bits_wide(devs, n, last) : devices_bits_of(devs, n, last);
    }
    """
    uint64_t places_bits(const uint64_t *starts, const uint32_t *lengths, uint64_t n, uint64_t size) noexcept nogil
    uint32_t devices_bits(const int32_t *devs, uint64_t n, uint32_t last) noexcept nogil


cdef inline bint batch_is_sound(const Batch *b, uint64_t n_devs, int n_dev) noexcept nogil:
    """Looking at its first ``n_devs`` devices, without a branch for each frame. No data are as large that one of the two highest bits of
    a place or of what is left behind a frame could be set, unless by what is wrong."""
    return (places_bits(b.starts, b.lengths, b.n, b.size) >> 62 == 0
            and devices_bits(b.devs, n_devs, <uint32_t>n_dev - 1) >> 31 == 0)


cdef inline bint batch_lacks(const Batch *b, const Core *c, uint64_t n_devs) noexcept nogil:
    """Is one of its first ``n_devs`` devices not there? All devices are looked at where these are fewer."""
    cdef uint64_t i
    cdef bint some = False
    if <uint64_t>c.n_dev <= n_devs:
        for i in range(<uint64_t>c.n_dev):
            some |= c.dev[i] == NULL
        if not some:
            return False
    some = False
    for i in range(n_devs):
        some |= c.dev[b.devs[i]] == NULL  # without a branch for each: mostly all are there
    return some


cdef inline list batch_missing(const Batch *b, const Core *c):
    """Devices that frames are for and that are not there, each as often as its frames stand together; described ones can be made.
    ValueError: a frame lies outside of the data, or is for a device that does not exist."""
    cdef list missing = []
    cdef uint64_t i, n_devs = devices_apart(b.devs, b.n)
    cdef int32_t last = -1
    if not batch_is_sound(b, n_devs, c.n_dev):
        for i in range(b.n):
            if b.starts[i] > b.size or b.lengths[i] > b.size - b.starts[i]:
                raise ValueError(f"frame {i} lies outside of the data")
            if not 0 <= b.devs[i] < c.n_dev:
                raise ValueError(f"frame {i}: no device {b.devs[i]}")
    for i in range(n_devs if batch_lacks(b, c, n_devs) else 0):
        if b.devs[i] != last:
            last = b.devs[i]
            if c.dev[last] == NULL:
                missing.append(last)
    return missing


cdef inline void batch_close(Batch *b):
    cdef int i
    for i in range(b.n_views):
        PyBuffer_Release(&b.view[i])
    b.n_views = 0


cdef inline Window *batch_window(Core *c, Window **kept, int threads, int most) except? NULL:
    """What so many threads carry windows of up to ``most`` frames with, made when it is asked for first; NULL: nothing, one thread is
    enough. 0: no windows, but eights by two threads, which wait for each other. ValueError: too many of either."""
    if not 0 < threads <= CREW_MOST or not 0 <= most <= WINDOW_MOST:
        raise ValueError(f"threads are 1 to {CREW_MOST}, frames of a window 0 to {WINDOW_MOST}")
    if threads == 1 or c.fast == NULL:
        return NULL
    if not window_suits(kept[0], threads, most):
        window_free(kept[0])
        kept[0] = window_new(c, threads, most, DROPS_END)
        if kept[0] == NULL:
            raise MemoryError
    return kept[0]


cdef inline void batch_look(Core *c, const Batch *b, uint64_t i, Ways *ways) noexcept nogil:
    """Find out which of the frames from number ``i`` on pass through a router by their destinations' routes alone."""
    ways_look(c, &(<FlowCache *>c.fast).routed, ways, b.data, b.devs, b.starts, b.lengths, i, b.n)


cdef inline uint64_t batch_routed(Core *c, const Batch *b, uint64_t i, const Ways *ways) noexcept nogil:
    """Let frames from number ``i`` on go that way; how many did."""
    if not ways_some(ways, i) or way_of(c, ways, i) == HOP_ASK:
        return 0
    return ways_go(c, &(<FlowCache *>c.fast).routed, ways, b.data, b.devs, b.starts, b.times, i, b.n)


cdef inline void burst_keys(Core *c, const Batch *b, const Ways *ways, Burst *burst) noexcept nogil:
    """Read the keys of frames that need one, and ask for what lies where their flows should; of one that has none ``length`` is 0, and
    what ``tells`` is no flow's."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef bint some = ways_some(ways, burst.first)
    cdef uint32_t at = 0
    cdef uint64_t i = burst.first
    cdef uint32_t plain = 0 if some else frames_plain(fc, c, b.data, b.devs + i, b.starts + i, b.lengths + i, burst.n, &at)
    cdef Parsed *seen
    cdef uint32_t k
    for k in range(burst.n):
        i = burst.first + k
        seen = &burst.seen[k]
        burst.ahead[k].table = NULL
        if i + FRAMES_AHEAD < b.n:
            ask_for(b.data + b.starts[i + FRAMES_AHEAD])
        if plain >> k & 1 and key_read_plainly(fc, c.dev[b.devs[i]], b.data + b.starts[i], b.lengths[i], at, seen):
            ask_for(flow_home(fc, seen.hash))
            continue
        if ((some and way_of(c, ways, i) != HOP_ASK) or b.lengths[i] > FRAME_FLOWS_MAX
                or not key_read(fc, c.dev[b.devs[i]], True, b.data + b.starts[i], b.lengths[i], seen)):
            seen.length = 0
        elif rarely(seen.tells):
            first_ahead(c, &seen.key, &burst.ahead[k])
        else:
            ask_for(flow_home(fc, seen.hash))


cdef inline void burst_firsts(const Burst *burst) noexcept nogil:
    """Ask for the connections of keys without a flow, if they have some."""
    cdef uint32_t k
    for k in range(burst.n):
        if burst.ahead[k].table != NULL:
            first_nears(&burst.ahead[k])


cdef inline void burst_flows(Core *c, Burst *burst) noexcept nogil:
    """Find the flows of frames that have keys, and ask for their connections; of others, for the rules that they will meet."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const Flow *f
    cdef uint32_t k, firsts = 0
    burst.coming.n = burst.coming.asked = 0
    for k in range(burst.n):
        burst.flow[k] = NULL
        if burst.seen[k].length == 0:
            continue
        f = flow_find(fc, &burst.seen[k].key, burst.seen[k].hash) if not burst.seen[k].tells else NULL
        burst.flow[k] = f
        if f != NULL:
            burst.program[k] = flow_program(fc, f)
            tracks_ahead(fc, f, burst.program[k], &burst.tracked[k])
        elif fc.megaflows != NULL:
            firsts += 1
            if not burst.seen[k].tells:
                first_ahead(c, &burst.seen[k].key, &burst.ahead[k])
            coming_add(&burst.coming, <const MegaHead *>burst.ahead[k].head, &burst.seen[k].key)
    if firsts:
        burst_firsts(burst)
        coming_begin(&burst.coming)
    burst.learnt = fc.changes
    burst.shapes = fc.n_shapes


cdef inline void burst_read(Core *c, const Batch *b, uint64_t first, uint64_t past, const Ways *ways, Burst *burst) noexcept nogil:
    """Look at the next frames in front of ``past`` before their turn, so that waiting for memory is done for all of them at once."""
    burst.first = first
    burst.n = <uint32_t>min(past - first, BURST - first % BURST)  # not beyond a block of ``ways``
    ask_for(b.times + first + BURST)  # all else of the batch has been read before it begins
    ask_for(b.times + first + BURST + LINE // sizeof(int64_t))
    if frames_flow(c):
        burst_keys(c, b, ways, burst)
    else:
        memset(burst.seen, 0, sizeof(burst.seen))
        memset(burst.ahead, 0, sizeof(burst.ahead))
    burst_flows(c, burst)


cdef inline bint batch_frame(Core *c, const Batch *b, uint64_t i, const Ways *ways, Burst *burst, uint32_t id) noexcept nogil:
    """Its time has come. False: memory is out."""
    cdef const Dev *d = c.dev[b.devs[i]]
    cdef const Parsed *seen = burst_wide(c, b, i, ways, burst) if c.fast != NULL else NULL
    cdef Pkt *p
    coming_next(&burst.coming)
    if seen != NULL and frame_goes_wide(c, seen, b.data + b.starts[i], b.lengths[i], id):
        return True
    p = frame_packet(c, d, b.data + b.starts[i], b.lengths[i], id)
    if p == NULL:
        return False
    p.foreseen.asked = seen != NULL
    packet_comes(c, p, ST_TRANSMIT)
    return True


cdef inline bint batch_waits(Core *c, const Batch *b, uint64_t i, uint32_t id, int64_t time) noexcept nogil:
    """An application has something to receive before the frame's time. False: memory is out."""
    cdef const Dev *d = c.dev[b.devs[i]]
    cdef Pkt *p = frame_packet(c, d, b.data + b.starts[i], b.lengths[i], id)
    return p != NULL and event_packet(c, time, EV_TRANSMIT, d.id, p)


cdef inline bint burst_goes(Core *c, const Batch *b, uint64_t i, const Burst *burst, uint32_t id) noexcept nogil:
    """Does frame ``i``, which is in the burst, go its flow's way, now? ``id``: as in frame_flows()."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint64_t k = i - burst.first
    cdef const Parsed *seen = &burst.seen[k]
    cdef const Flow *f = burst.flow[k]
    if rarely(fc.changes != burst.learnt):
        # flows have come or gone since; and what was read as a tunnel then may be none now
        f = flow_find(fc, &seen.key, seen.hash) if seen.length and not seen.tells and fc.n_shapes == burst.shapes else NULL
    elif f != NULL and burst.program[k].onward:
        return frame_onward(c, seen, f, &burst.tracked[k], b.data + b.starts[i], id)
    return f != NULL and frame_flows(c, seen, f, b.data + b.starts[i], b.lengths[i], id)


cdef inline const Parsed *burst_wide(const Core *c, const Batch *b, uint64_t i, const Ways *ways, const Burst *burst) noexcept nogil:
    """The key of frame ``i``, which is no flow's, if it may go a megaflow's way; else NULL."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint64_t k = i - burst.first
    cdef const Parsed *seen = &burst.seen[k]
    cdef const Flow *f = burst.flow[k]
    if seen.length == 0 or fc.megaflows == NULL or fc.n_shapes != burst.shapes or c.rec.state != REC_OFF:
        return NULL
    if ways_some(ways, i) and way_of(c, ways, i) != HOP_ASK:
        return NULL
    if not seen.tells and fc.changes != burst.learnt:
        f = flow_find(fc, &seen.key, seen.hash)
    return seen if f == NULL else NULL


cdef inline uint64_t burst_runs(Core *c, const Batch *b, uint64_t i, const Burst *burst) noexcept nogil:
    """Carry frames of the burst from number ``i`` on, as far as they go straight; the first that did not."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint32_t k = <uint32_t>(i - burst.first)
    cdef Run r
    if burst.flow[k] == NULL or fc.changes != burst.learnt or not burst.program[k].straight:
        return i
    r.data = b.data
    r.starts = b.starts + i
    r.times = b.times + i
    r.seen = &burst.seen[k]
    r.flow = &burst.flow[k]
    r.program = &burst.program[k]
    r.tracked = &burst.tracked[k]
    return i + straight_run(c, &r, burst.n - k)


cdef inline bint burst_fits(const Core *c, uint64_t i, const Burst *burst) noexcept nogil:
    """Has a frame as long as number ``i`` gone its flow's way before?"""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint64_t k = i - burst.first
    return (k < burst.n and fc.changes == burst.learnt and burst.flow[k] != NULL
            and burst.seen[k].length <= burst.program[k].longest)


cdef inline bint batch_quiet(const Core *c, int64_t time) noexcept nogil:
    """Does nothing come before a frame of that time?"""
    return not (event_due(c, time) or c.n_deliveries or c.out_of_memory or c.supply_failed)


cdef inline uint32_t batch_begins(Core *c, int64_t time) noexcept nogil:
    """A frame gets its id when all is done up to the one before it, and then what is due until its time is carried: as if each had been
    injected alone."""
    cdef uint32_t id = frame_begins(c)
    cdef uint64_t root = c.root
    events_until(c, time)
    c.root = root
    return id


cdef inline bint batch_refuses(Core *c, const Batch *b, uint64_t i, int64_t time) noexcept nogil:
    """Would a packet socket refuse the frame? Then its time passes without it."""
    if not frame_refused(c.dev[b.devs[i]], b.data + b.starts[i], b.lengths[i]):
        return False
    b.refused[i] = 1
    events_until(c, time)
    c.now = time if c.n_deliveries == 0 else c.now
    return True


cdef inline bint batch_goes(Core *c, const Batch *b, uint64_t i, const Ways *ways, const Burst *burst, uint32_t id) noexcept nogil:
    """Does the frame go its route's or its flow's way, now? What goes a flow's way no packet socket refuses: a frame as long went there
    before."""
    cdef uint32_t hop = way_of(c, ways, i) if ways_some(ways, i) else <uint32_t>HOP_ASK
    cdef const Entrance *e
    if hop == HOP_ASK:
        return burst_goes(c, b, i, burst, id)
    e = entrance_of(c, &(<FlowCache *>c.fast).routed, b.devs[i], True) if id == 0 else NULL
    return e != NULL and frame_routed(c, e, hop, b.data + b.starts[i], b.lengths[i])


cdef inline bint batch_step(Core *c, const Batch *b, uint64_t i, const Ways *ways, Burst *burst) noexcept nogil:
    """Carry frame ``i`` at its time, and what is due before it. False: it was not taken."""
    cdef int64_t now = c.now
    cdef int64_t time = b.times[i] if b.times[i] > now else now
    cdef uint32_t id = 0
    if rarely(not batch_quiet(c, time)):
        if i and event_due(c, now):
            events_until(c, now)  # before the first one's number nothing happens, whatever waits: it is injected first
        if c.n_deliveries or c.out_of_memory or c.supply_failed:
            return False
        if not batch_quiet(c, time):
            if not burst_fits(c, i, burst) and batch_refuses(c, b, i, time):
                return True
            id = batch_begins(c, time)
            if c.n_deliveries or c.supply_failed:
                return batch_waits(c, b, i, id, time)
    c.now = time
    if c.fast != NULL and batch_goes(c, b, i, ways, burst, id):
        return True
    if id == 0:
        if batch_refuses(c, b, i, time):
            return True
        id = frame_begins(c)
    return batch_frame(c, b, i, ways, burst, id)


cdef inline uint64_t batch_apart(Core *c, const Batch *b, uint64_t first, uint64_t past) noexcept nogil:
    """batch_stretch() of frames that are looked at for routes, flows and first packets, a few at a time."""
    cdef Burst burst
    cdef Ways ways
    cdef uint64_t i = first, block = first - first % WAYS_BLOCK, gone
    burst.first = burst.n = 0
    burst.coming.n = burst.coming.asked = 0
    memset(&ways, 0, sizeof(Ways))
    if c.fast != NULL:
        batch_look(c, b, block, &ways)
        if block != first:
            batch_look(c, b, block + WAYS_BLOCK, &ways)
    while i < past:
        if c.fast != NULL:
            if i % WAYS_BLOCK == 0:
                batch_look(c, b, i + WAYS_BLOCK, &ways)
            gone = batch_routed(c, b, i, &ways)
            if gone:
                i += gone
                continue
            if i >= burst.first + burst.n:
                burst_read(c, b, i, past, &ways, &burst)
            gone = burst_runs(c, b, i, &burst) - i
            if gone:
                i += gone
                continue
        if not batch_step(c, b, i, &ways, &burst):
            return i
        i += 1
    return i


cdef inline bint batch_goes_abreast(const Core *c) noexcept nogil:
    """May frames go eight at a time at all?"""
    return c.fast != NULL and sight_is_wide() and frames_flow(c)


cdef inline void batch_row(const Batch *b, Row *row, uint64_t past) noexcept nogil:
    """Its frames in front of ``past``, for one thread."""
    row.data = b.data
    row.devs = b.devs
    row.starts = b.starts
    row.lengths = b.lengths
    row.times = b.times
    row.past = past
    row.other = NULL


cdef inline uint64_t batch_stretch(Core *c, const Batch *b, uint64_t first, uint64_t past) noexcept nogil:
    """Inject each of these frames at its time, or now if that has passed, and carry what is due before it, and perhaps some behind them;
    the first that was not taken."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Row row
    cdef uint64_t i = first, gone, stop
    if not batch_goes_abreast(c):
        return batch_apart(c, b, first, past)
    batch_row(b, &row, past)
    while i < past:
        if fc.waits == 0 and past - i >= <uint64_t>LANES:
            gone = abreast_run(c, &row, i)
            i += gone
            fc.rest = APART_LEAST if gone >= APART_LEAST or fc.rest == 0 else min(2 * fc.rest, APART_MOST)
            fc.waits = fc.rest if i < past or gone < APART_LEAST else 0
        stop = min(past, i + (fc.waits if fc.waits else <uint32_t>LANES))
        if i < stop:
            gone = batch_apart(c, b, i, stop)
            fc.waits -= <uint32_t>min(fc.waits, gone - i)
            i = gone
            if i < stop:
                return i
    return i


cdef inline bint batch_pairs(const Core *c, const Window *w, uint64_t n) noexcept nogil:
    """Are ``n`` frames to be tried by two threads, eight at a time?"""
    return w.pair != NULL and w.crew.n_threads > 1 and w.pair.waits == 0 and n >= w.pair.least and batch_goes_abreast(c) and window_is_open(c)


cdef inline uint64_t batch_paired(Core *c, Window *w, const Batch *b, uint64_t first) noexcept nogil:
    """Carry frames from number ``first`` on, eight at a time, as far as that goes: alone until the other thread has come, then by both. How
    many went."""
    cdef Pair *p = w.pair
    cdef uint64_t gone = 0
    cdef Row row
    batch_row(b, &row, b.n)
    pair_opens(p)
    crew_begins(w.crew, STEP_PAIR)
    if p.meets:
        pair_meets(p)
    else:
        row.other = &p.board.state.at
        gone = abreast_run(c, &row, first)
    if not pair_is_ready(p) or b.n - first - gone < p.least:
        pair_parts(p)
    else:
        gone += pair_goes(c, p, &row, first + gone)
    crew_ends(w.crew)
    return gone


cdef inline uint64_t batch_shared(Core *c, Window *w, const Batch *b) noexcept nogil:
    """As batch_stretch() for the whole batch, by two threads or in windows where that can be."""
    cdef uint64_t i = 0, n, carried, past
    w.lot.data = b.data
    w.lot.devs = b.devs
    w.lot.starts = b.starts
    w.lot.lengths = b.lengths
    w.lot.times = b.times
    while i < b.n:
        if batch_pairs(c, w, b.n - i):
            window_rests(w)
            carried = batch_paired(c, w, b, i)
            pair_adapts(w.pair, carried)
            past = min(i + carried + PAIR_APART, b.n)
            i = batch_stretch(c, b, i + carried, past)
            if i < past:
                break
            continue
        if w.windows and w.waits == 0 and b.n - i >= w.least and window_is_open(c):
            n = w.size if w.size < b.n - i else b.n - i
            w.wide = batch_goes_abreast(c)
            carried = window_carry(w, i, i + n)
            window_adapts(w, n, carried)
            pair_later(w.pair, carried)
            i += carried
            if carried == n:
                continue
        window_rests(w)
        n = w.waits if w.waits else w.least
        past = i + n if n < b.n - i else b.n
        w.waits -= <uint32_t>(past - i) if past - i < w.waits else w.waits
        pair_later(w.pair, past - i)
        i = batch_stretch(c, b, i, past)
        if i < past:
            break
    window_rests(w)
    return i


cdef inline uint64_t batch_carry(Core *c, Window *w, const Batch *b) noexcept nogil:
    """Inject each frame at its time, or now if that has passed, and carry what is due before it; how many were taken. ``w``: by several
    threads, NULL: by this one."""
    cdef uint64_t taken
    c.carrying = True
    taken = batch_stretch(c, b, 0, b.n) if w == NULL else batch_shared(c, w, b)
    if taken == b.n:
        events_until(c, c.now)
    c.carrying = False
    return taken
