# Windows, one after the other: what is done before and after the three steps of one, how large the next is to be, and what they work with.
#
# What the frames of a window leave in tables, counters and records is put together in their order.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, Counters, DropRecord, FrameRecord, Store, TRACE_STEPS, store_add
from ext.devices.record cimport REC_OFF
from ext.fast.crew cimport CREW_MOST, crew_calls, crew_free, crew_is_here, crew_new, crew_work
from ext.fast.flows cimport Flow, FlowCache, TRACKS_MAX, flow_find
from ext.fast.key cimport Parsed, key_parse
from ext.fast.lane cimport lane_fills, lanes_stamped
from ext.fast.lane_deals cimport DEAL_FIELDS, Deal, deal_orders
from ext.fast.lanes cimport LANES
from ext.fast.pair cimport pair_new
from ext.fast.part cimport Part, Rest, STALE_MOST, TcpUndo, Turn, Undo, Visit, Window, frame_time
from ext.fast.tally cimport draws_told, facts_begin, facts_close, facts_open, programs_told, tally_close, tally_open
from ext.fast.window cimport STEP_GO, STEP_LOOK, STEP_SETTLE, window_step
from ext.tables.memory cimport memory_lines, memory_lines_unset

cdef enum:
    WINDOW_MOST = 4096  # frames: what belongs to them stays in the caches that each processor has to itself
    WINDOW_LEAST = 64  # fewer are not worth the meetings


# ---- before and after

cdef inline void store_joins(Core *c, Store *to, Store *more) noexcept nogil:
    cdef void *at
    if more.n == 0:
        return
    at = store_add(c, to, more.n)
    if at != NULL:
        memcpy(at, more.mem, more.n)
    more.n = 0


cdef inline void records_join(Core *c, Core *more) noexcept nogil:
    """What one part has recorded comes behind what is there."""
    cdef uint64_t bytes = c.bytes.n, i
    cdef FrameRecord *f = <FrameRecord *>more.frames.mem
    cdef DropRecord *d = <DropRecord *>more.drops.mem
    for i in range(more.frames.n // sizeof(FrameRecord)):
        f[i].at += bytes
        f[i].order += c.order
    for i in range(more.drops.n // sizeof(DropRecord)):
        d[i].at += bytes
        d[i].order += c.order
    c.order += more.order
    more.order = 0
    store_joins(c, &c.bytes, &more.bytes)
    store_joins(c, &c.frames, &more.frames)
    store_joins(c, &c.drops, &more.drops)
    store_joins(c, &c.changes, &more.changes)


cdef inline void counters_join(Core *c, Core *more, uint32_t n_reasons) noexcept nogil:
    cdef uint32_t i
    c.count.out += more.count.out
    c.count.rules_walked += more.count.rules_walked
    if more.count.dropped:
        c.count.dropped += more.count.dropped
        for i in range(n_reasons):
            c.drop_count[i] += more.drop_count[i]
            more.drop_count[i] = 0
    memset(&more.count, 0, sizeof(Counters))
    c.out_of_memory |= more.out_of_memory
    more.out_of_memory = False


cdef inline void part_ends(Window *w, int number) noexcept nogil:
    cdef Part *me = w.part[number]
    cdef Core *c = w.c
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef uint64_t dealt
    if number == 0:
        c.bytes = me.core.bytes
        c.frames = me.core.frames
        c.drops = me.core.drops
        c.changes = me.core.changes
        c.order = me.core.order
    else:
        records_join(c, &me.core)
    counters_join(c, &me.core, w.n_reasons)
    if w.cut > me.first:
        c.count.out += min(w.cut, me.past) - me.first - me.n_rest
        dealt = min(w.cut, me.dealt) - me.first
        fc.abreast += dealt
        fc.dealt += dealt
    c.count.rules_walked += me.walked
    draws_told(&me.tally, &w.facts)


cdef inline void window_nears(Window *w, uint64_t n) noexcept nogil:
    """So many frames will be carried; if it goes as it went before, in windows."""
    if n >= w.least and w.rest == 1 and w.waits == 0:
        crew_calls(w.crew)


cdef inline bint window_is_open(const Core *c) noexcept nogil:
    """Is there nothing that asks for one frame after the other?"""
    return not (c.fast == NULL or c.tracing == TRACE_STEPS or c.clock.on or c.rec.state != REC_OFF or c.n_deliveries or c.out_of_memory
                or c.supply_failed)


cdef inline bint begins_well(const Window *w) noexcept nogil:
    """Is it worth calling the others? Where no frame will do, the first one does not either."""
    cdef const FlowCache *fc = <const FlowCache *>w.c.fast
    cdef const Flow *f
    cdef Parsed seen
    if not key_parse(fc, w.c.dev[w.lot.devs[w.first]], True, w.lot.data + w.lot.starts[w.first], w.lot.lengths[w.first], &seen):
        return False
    f = flow_find(fc, &seen.key, seen.hash)
    return f != NULL and w.facts.program[f.program - 1].shared


cdef inline bint something_rests(const Window *w) noexcept nogil:
    """Is something left to do for frames that connections have seen, or would not have?"""
    cdef uint32_t rest = w.cut != w.past
    cdef int i
    for i in range(w.n):
        rest |= w.part[i].n_rest
    return rest != 0


cdef inline void window_fills(const Window *w, FlowCache *fc) noexcept nogil:
    """Lanes of programs, for the next window: those of a part whose number is not of this one are filled in already."""
    cdef const Part *me
    cdef uint32_t k
    cdef int i
    for i in range(w.n):
        me = w.part[i]
        for k in range(me.n_stale):
            if fc.lane[me.stale[k]].stamp != fc.lanes_stamp:
                lane_fills(w.c, fc, me.stale[k])


cdef inline uint64_t window_carry(Window *w, uint64_t first, uint64_t past) noexcept nogil:
    """Carry frames from the first one on, as many as will do; how many."""
    cdef Core *c = w.c
    cdef FlowCache *fc
    cdef uint64_t n
    cdef int i
    w.now = c.now
    w.until = c.queue.next
    w.first = first
    w.past = w.cut = past
    w.next_packet = c.next_packet
    if frame_time(w, first) >= w.until:
        return 0
    fc = <FlowCache *>c.fast
    facts_begin(&w.facts, fc)
    if w.wide:
        lanes_stamped(c, fc, c.now)
    if not begins_well(w):
        return 0
    crew_work(w.crew, STEP_LOOK)
    crew_work(w.crew, STEP_SETTLE)
    if something_rests(w):
        crew_work(w.crew, STEP_GO)
    for i in range(w.n):
        part_ends(w, i)
    window_fills(w, fc)
    n = w.cut - first
    if n == 0:
        return 0
    c.now = frame_time(w, w.cut - 1)
    c.n_roots += n
    c.root = c.n_roots
    c.next_packet += <uint32_t>n
    c.count.received += n
    fc.hits += n
    fc.shared += n
    return n


cdef inline void window_rests(Window *w) noexcept nogil:
    """One frame after the other comes next, or other calls: what the bridges have seen shows."""
    cdef int i
    for i in range(w.n):
        programs_told(&w.part[i].tally, <const FlowCache *>w.c.fast)


cdef inline void window_adapts(Window *w, uint64_t tried, uint64_t carried) noexcept nogil:
    """How many frames to try next, and how many to leave alone before: where windows bring little, few are tried."""
    cdef uint64_t size = 2 * carried
    if 2 * carried >= w.least:
        w.rest = 1
    elif carried < tried and w.rest < w.most:
        w.rest *= 2
    if carried == tried:
        if size < w.size:
            return  # there were no more
    else:
        w.waits = w.rest
    w.size = w.most if size > w.most else w.least if size < w.least else <uint32_t>size


# ---- the crew

cdef inline bint deal_open(Deal *d, size_t frames, bint leaves) noexcept nogil:
    """All arrays, in one piece of memory. False: memory is out."""
    cdef size_t n = (frames + LANES + 15) // 16 * 16
    d.place = <uint32_t *>memory_lines_unset(DEAL_FIELDS * n * sizeof(uint32_t))
    if d.place == NULL:
        return False
    d.number = d.place + n
    d.serial = d.number + n
    d.ref = d.serial + n
    if leaves:
        d.sport = d.ref + n
        d.drawn = d.sport + n
    return True


cdef inline bint part_open(Part *me, int n, uint32_t most, uint32_t n_reasons) noexcept nogil:
    cdef size_t frames = (most + <uint32_t>n - 1) // <uint32_t>n
    cdef int i
    me.core.fast = &me.cache
    me.core.drop_count = <uint64_t *>calloc(n_reasons, sizeof(uint64_t))
    me.undo = <Undo *>malloc(<size_t>most * TRACKS_MAX * sizeof(Undo))
    me.tcp_undo = <TcpUndo *>malloc(<size_t>most * TRACKS_MAX * sizeof(TcpUndo))
    me.rest = <Rest *>malloc(frames * sizeof(Rest))
    me.stale = <uint32_t *>malloc(STALE_MOST * sizeof(uint32_t))
    for i in range(n):
        if not deal_open(&me.deal[i], frames, True) or not deal_open(&me.visits[i], frames, False):
            return False
        me.turns[i].turn = <Turn *>memory_lines_unset(frames * TRACKS_MAX * sizeof(Turn))
        me.turns[i].visit = <Visit *>malloc(frames * TRACKS_MAX * sizeof(Visit))
        if me.turns[i].turn == NULL or me.turns[i].visit == NULL:
            return False
    return (tally_open(&me.tally) and me.core.drop_count != NULL and me.undo != NULL and me.tcp_undo != NULL and me.rest != NULL
            and me.stale != NULL)


cdef inline void part_free(Part *me, bint first) noexcept nogil:
    cdef int i
    if me == NULL:
        return
    if not first:
        free(me.core.bytes.mem)
        free(me.core.frames.mem)
        free(me.core.drops.mem)
        free(me.core.changes.mem)
    for i in range(CREW_MOST):
        free(me.turns[i].turn)
        free(me.turns[i].visit)
        free(me.deal[i].place)
        free(me.visits[i].place)
    free(me.rest)
    free(me.stale)
    free(me.core.drop_count)
    free(me.undo)
    free(me.tcp_undo)
    tally_close(&me.tally)
    free(me)


cdef inline void window_free(Window *w) noexcept nogil:
    cdef int i
    if w == NULL:
        return
    crew_free(w.crew)
    for i in range(CREW_MOST):
        part_free(w.part[i], i == 0)
    facts_close(&w.facts)
    free(w.pair)
    free(w)


cdef inline bint window_pairs(Window *w) noexcept nogil:
    """Two threads carry eights together, but where windows are of a size that somebody has asked for; where there are none, any two of
    them do. False: memory is out."""
    if w.windows and (w.n != 2 or w.most != WINDOW_MOST):
        return True
    w.pair = pair_new(not w.windows)
    return w.pair != NULL


cdef inline void window_sizes(Window *w, uint32_t most) noexcept nogil:
    w.windows = most != 0
    w.most = w.size = most if most else 1
    w.least = w.most if w.most < <uint32_t>WINDOW_LEAST else <uint32_t>WINDOW_LEAST
    w.rest = 1


cdef inline Window *window_new(Core *c, int n, uint32_t most, uint32_t n_reasons) noexcept nogil:
    """For ``n`` threads, the caller's among them, and windows of up to ``most`` frames, 0: none, see batch_window(). NULL when memory is
    out."""
    cdef Window *w = <Window *>calloc(1, sizeof(Window))
    cdef int i
    if w == NULL:
        return NULL
    w.c = c
    w.n = n
    w.n_reasons = n_reasons
    window_sizes(w, most)
    deal_orders(w.order)
    if not facts_open(&w.facts) or not window_pairs(w):
        window_free(w)
        return NULL
    for i in range(n):
        w.part[i] = <Part *>memory_lines(sizeof(Part))
        if w.part[i] == NULL or not part_open(w.part[i], n, w.most, n_reasons):
            window_free(w)
            return NULL
        w.part[i].number = i
    w.crew = crew_new(n, window_step, w)
    if w.crew == NULL:
        window_free(w)
        return NULL
    return w


cdef inline bint window_suits(const Window *w, int n, uint32_t most) noexcept nogil:
    return w != NULL and (w.most if w.windows else 0) == most and w.n == n and crew_is_here(w.crew)
