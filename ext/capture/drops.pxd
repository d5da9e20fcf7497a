# Drops: counted by kind, and put on the frames that were seen where and when they happened.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset
from ext.devices.core cimport DropRecord, FrameRecord
from ext.wire.hash cimport mix64

cdef enum:
    MARKS_FEW = 4  # drops that are faster looked at one by one
    KINDS_FIRST = 64  # places of a fresh table of kinds; doubled when half of them are taken

cdef struct DropKind:
    # drops that are counted together, and commented alike
    int reason
    int ns
    int dev
    int origin
    uint64_t count
    uint8_t *comment  # a pcapng option, NULL: not known yet
    uint32_t comment_size

cdef struct KindTable:
    DropKind *kind
    uint32_t n
    uint32_t cap
    int32_t *place  # by hash: a kind, or -1
    uint32_t mask
    int32_t last  # kind that was asked for

cdef struct DropMark:
    # beside each drop of a stretch of time
    uint32_t kind
    int32_t first  # of the drops of the same packet, device and time
    int32_t last  # of the first one: the last of them
    int32_t next  # -1: none
    int32_t frame  # of the first one: the frame that shows them, -1: none

cdef struct Marks:
    DropMark *drop
    uint64_t drop_cap
    int32_t *frame  # beside each frame: the first drop that it shows, or -1
    uint64_t frame_cap
    int32_t *place  # by hash: the first drop of a packet, device and time, or -1
    uint64_t place_cap
    uint64_t mask
    int shift  # of a hash, so that it is a place


cdef inline uint64_t kind_hash(int reason, int ns, int dev, int origin) noexcept nogil:
    return mix64(mix64(<uint64_t><uint32_t>reason << 32 | <uint32_t>origin) ^ (<uint64_t><uint32_t>dev << 32 | <uint32_t>ns))


cdef inline void kind_place(KindTable *t, uint32_t number) noexcept nogil:
    cdef const DropKind *k = &t.kind[number]
    cdef uint64_t at = kind_hash(k.reason, k.ns, k.dev, k.origin) & t.mask
    while t.place[at] >= 0:
        at = (at + 1) & t.mask
    t.place[at] = <int32_t>number


cdef inline bint kinds_grow(KindTable *t) noexcept nogil:
    """Room for one more kind; False when memory is out."""
    cdef uint32_t cap = t.cap * 2 if t.cap else KINDS_FIRST, i
    cdef DropKind *kind
    cdef int32_t *place
    if t.n < t.cap:
        return True
    kind = <DropKind *>realloc(t.kind, cap * sizeof(DropKind))
    if kind == NULL:
        return False
    t.kind = kind
    place = <int32_t *>realloc(t.place, 2 * cap * sizeof(int32_t))
    if place == NULL:
        return False
    t.place = place
    t.cap = cap
    t.mask = 2 * cap - 1
    memset(t.place, 0xff, 2 * cap * sizeof(int32_t))
    for i in range(t.n):
        kind_place(t, i)
    return True


cdef inline bint kind_is(const DropKind *k, const DropRecord *r) noexcept nogil:
    return k.reason == r.reason and k.dev == r.dev and k.ns == r.ns and k.origin == r.origin


cdef inline int64_t kind_of(KindTable *t, const DropRecord *r) noexcept nogil:
    """The kind of a drop, a new one if it is the first; -1 when memory is out."""
    cdef uint64_t at
    cdef DropKind *k
    if t.n:
        k = &t.kind[t.last]
        if kind_is(k, r):
            return t.last
        at = kind_hash(r.reason, r.ns, r.dev, r.origin) & t.mask
        while t.place[at] >= 0:
            k = &t.kind[t.place[at]]
            if kind_is(k, r):
                t.last = t.place[at]
                return t.last
            at = (at + 1) & t.mask
    if not kinds_grow(t):
        return -1
    k = &t.kind[t.n]
    k.reason = r.reason
    k.ns = r.ns
    k.dev = r.dev
    k.origin = r.origin
    k.count = 0
    k.comment = NULL
    k.comment_size = 0
    t.n += 1
    kind_place(t, t.n - 1)
    return t.n - 1


cdef inline void kinds_free(KindTable *t) noexcept nogil:
    cdef uint32_t i
    for i in range(t.n):
        free(t.kind[i].comment)
    free(t.kind)
    free(t.place)


cdef inline uint64_t mark_hash(const Marks *m, uint32_t packet, int dev) noexcept nogil:
    """Every frame is looked up, so one multiplication has to do; ids and devices are ours, nobody chooses them to collide."""
    return (<uint64_t>packet << 32 | <uint32_t>dev) * <uint64_t>0x9e3779b97f4a7c15 >> m.shift


cdef inline void *grown(void *mem, uint64_t *cap, uint64_t n, uint64_t size) noexcept nogil:
    """An array of ``n`` or more; NULL when memory is out, and then the old one stays."""
    cdef void *fresh
    cdef uint64_t wanted = cap[0] if cap[0] else 64
    if n <= cap[0]:
        return mem
    while wanted < n:
        wanted *= 2
    fresh = realloc(mem, wanted * size)
    if fresh != NULL:
        cap[0] = wanted
    return fresh


cdef inline bint marks_room(Marks *m, uint64_t n_frames, uint64_t n_drops) noexcept nogil:
    """Arrays for that many, with nothing marked; False when memory is out."""
    cdef uint64_t places = 2
    cdef void *mem
    m.shift = 63
    while places < 2 * n_drops:
        places *= 2
        m.shift -= 1
    mem = grown(m.drop, &m.drop_cap, n_drops, sizeof(DropMark))
    if mem == NULL:
        return False
    m.drop = <DropMark *>mem
    mem = grown(m.frame, &m.frame_cap, n_frames + 1, sizeof(int32_t))
    if mem == NULL:
        return False
    m.frame = <int32_t *>mem
    mem = grown(m.place, &m.place_cap, places, sizeof(int32_t))
    if mem == NULL:
        return False
    m.place = <int32_t *>mem
    m.mask = places - 1
    memset(m.frame, 0xff, n_frames * sizeof(int32_t))
    memset(m.place, 0xff, places * sizeof(int32_t))
    return True


cdef inline int32_t *mark_place(Marks *m, const DropRecord *drops, uint32_t packet, int dev, int64_t time) noexcept nogil:
    """Where the first drop of this packet, device and time stands or would stand."""
    cdef uint64_t at = mark_hash(m, packet, dev)
    cdef const DropRecord *r
    while m.place[at] >= 0:
        r = &drops[m.place[at]]
        if r.packet == packet and r.dev == dev and r.time == time:
            break
        at = (at + 1) & m.mask
    return &m.place[at]


cdef inline int32_t mark_of(Marks *m, const DropRecord *drops, uint64_t first, uint64_t past, const FrameRecord *f) noexcept nogil:
    """The first drop of the frame's packet and device at its time, at which these drops were; -1: none."""
    cdef uint64_t i
    if past - first > MARKS_FEW:
        return mark_place(m, drops, f.packet, f.dev, f.time)[0]
    for i in range(first, past):
        if drops[i].packet == f.packet and drops[i].dev == f.dev:
            return <int32_t>i
    return -1


cdef inline void frame_shows(Marks *m, const FrameRecord *frames, uint64_t frame, const DropRecord *drops, uint64_t d, uint64_t past) noexcept nogil:
    """The frame instead of an earlier one, if any of these drops, all of its time, are its packet's at its device."""
    cdef int32_t drop = mark_of(m, drops, d, past, &frames[frame])
    cdef DropMark *first
    if drop < 0:
        return
    first = &m.drop[drop]
    if first.frame >= 0:
        m.frame[first.frame] = -1
    first.frame = <int32_t>frame
    m.frame[frame] = drop


cdef inline void marks_find(Marks *m, const FrameRecord *frames, uint64_t n_frames, const DropRecord *drops, uint64_t n_drops) noexcept nogil:
    """Drops by packet, device and time; then the last frame of each of these shows them all. Both come in order of time."""
    cdef uint64_t i, f = 0, d = 0, past
    cdef int64_t time
    cdef int32_t *place
    cdef DropMark *first
    for i in range(n_drops):
        place = mark_place(m, drops, drops[i].packet, drops[i].dev, drops[i].time)
        m.drop[i].next = -1
        m.drop[i].frame = -1
        m.drop[i].last = <int32_t>i
        if place[0] < 0:
            place[0] = <int32_t>i
        else:
            first = &m.drop[place[0]]
            m.drop[first.last].next = <int32_t>i
            first.last = <int32_t>i
        m.drop[i].first = place[0]
    while d < n_drops:
        time = drops[d].time
        past = d + 1
        while past < n_drops and drops[past].time == time:
            past += 1
        while f < n_frames and frames[f].time < time:
            f += 1
        while f < n_frames and frames[f].time == time:
            frame_shows(m, frames, f, drops, d, past)
            f += 1
        d = past
