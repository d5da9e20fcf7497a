"""Recorded frames and drops to pcapng without a Python object for each; types and sentences are in ``dataplane/_capture_write.pyi``."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, strerror

cimport cython

from ext.capture.block cimport (EPB_HEAD, EPB_VERDICT, TC_ACT_OK, TC_ACT_SHOT, block_bytes, block_head, block_options, block_padding,
                                block_size, block_verdict)
from ext.capture.changes cimport ChangeMarks, Line, changes_find, changes_free, changes_gather, told_bytes, told_write
from ext.capture.drops cimport DropKind, KindTable, Marks, kind_of, kinds_free, marks_find, marks_room
from ext.capture.outfile cimport OUT_OF_MEMORY, OutFile, out_flush, out_room
from ext.capture.seen cimport LINK_HEADER, Seen, seen_on
from ext.devices.changes cimport ChangeRecord, change_text, change_word
from ext.devices.core cimport DETAIL_LEN, DropRecord, FrameRecord
from ext.wire.bytes cimport COPIED_OVER, seldom


cdef struct Statistics:
    uint64_t frames
    uint64_t dropped
    int64_t first
    int64_t last


cdef struct Stretch:
    # what was recorded in a stretch of time
    const FrameRecord *frames
    uint64_t n_frames
    const DropRecord *drops
    uint64_t n_drops
    const ChangeRecord *changes
    uint64_t n_changes
    const uint8_t *data
    uint64_t size


cdef struct Place:
    # where frames of a device go
    OutFile *file
    Statistics *seen
    uint32_t interface  # in that file


cdef struct Output:
    int32_t *interface  # by device; -1: not recorded
    Place *place  # by device, of those that are recorded
    uint8_t *ethernet  # by device
    int n_dev
    Statistics *seen  # by interface
    OutFile *file  # one, or one for each interface
    int n_interfaces
    bint apart  # each interface has a file of its own
    int32_t *namespace  # by device
    KindTable kinds
    Marks marks
    ChangeMarks changes
    uint64_t frames


cdef inline int interface_of(const Output *o, int dev) noexcept nogil:
    return o.interface[dev] if <uint32_t>dev < <uint32_t>o.n_dev else -1


cdef inline uint64_t outside(uint64_t size, uint64_t at, uint32_t n) noexcept nogil:
    """The highest bit: do ``n`` bytes at ``at`` not lie within ``size``, which is less than 2^63?"""
    return at | (size - at) | (size - at - n)


cdef bint holds(const Output *o, const Stretch *s) noexcept nogil:
    """Do all records lie within the data, and the frames' devices among those that are recorded? Without a branch for each."""
    cdef const FrameRecord *frames = s.frames
    cdef const DropRecord *drops = s.drops
    cdef uint64_t i, size = s.size, wrong = 0
    cdef int interfaces = 0
    for i in range(s.n_frames):
        wrong |= outside(size, frames[i].at, frames[i].len)
        interfaces |= interface_of(o, frames[i].dev)
    for i in range(s.n_drops):
        wrong |= outside(size, drops[i].at, drops[i].len)
    return <int64_t>wrong >= 0 and interfaces >= 0


cdef bint count_drops(Output *o, const Stretch *s) noexcept nogil:
    """Give each drop its kind; False when memory is out."""
    cdef uint64_t i
    cdef int64_t kind
    if not marks_room(&o.marks, s.n_frames, s.n_drops):
        return False
    for i in range(s.n_drops):
        kind = kind_of(&o.kinds, &s.drops[i])
        if kind < 0:
            return False
        o.kinds.kind[kind].count += 1
        o.marks.drop[i].kind = <uint32_t>kind
    return True


cdef inline void note_seen(Statistics *seen, int64_t time) noexcept nogil:
    """Records come in order of time."""
    if seen.frames == 0:
        seen.first = time
    seen.last = time
    seen.frames += 1


cdef uint8_t *put_comments(const Output *o, uint8_t *p, int32_t told, int32_t drop) noexcept nogil:
    """Those of the change ``told`` and of ``drop``, and those behind each (-1: none); where what follows them goes."""
    cdef const DropKind *kind
    p = told_write(&o.changes, told, p)
    while drop >= 0:
        kind = &o.kinds.kind[o.marks.drop[drop].kind]
        memcpy(p, kind.comment, kind.comment_size)
        p += kind.comment_size
        drop = o.marks.drop[drop].next
    return p


cdef uint64_t comments_size(const Output *o, int32_t told, int32_t drop) noexcept nogil:
    """Bytes of the options that put_comments() writes."""
    cdef uint64_t n = told_bytes(&o.changes, told)
    while drop >= 0:
        n += o.kinds.kind[o.marks.drop[drop].kind].comment_size
        drop = o.marks.drop[drop].next
    return n


cdef void put_told(Output *o, const Stretch *s, const FrameRecord *r, int32_t told, int32_t drop) noexcept nogil:
    """Append a frame with comments as of put_comments()."""
    cdef const Place *place = &o.place[r.dev]
    cdef uint64_t total = block_size(r.len, EPB_VERDICT + comments_size(o, told, drop))
    cdef uint8_t *p = out_room(place.file, total)
    cdef uint8_t *options
    if p == NULL:
        return
    options = block_bytes(p + EPB_HEAD, s.data + r.at, r.len, s.size - r.at >= r.len + COPIED_OVER)
    block_head(p, <uint32_t>total, place.interface, r.time, r.len)
    options = block_options(options, r.outgoing, r.packet)
    put_comments(o, block_verdict(options, TC_ACT_SHOT if drop >= 0 else TC_ACT_OK), told, drop)
    note_seen(place.seen, r.time)
    place.seen.dropped += drop >= 0


cdef inline void put_plain(const Place *place, const FrameRecord *r, const uint8_t *data, int64_t safe) noexcept nogil:
    """Append a frame without comments: what most records are. ``data``: the byte store, of which so many bytes have COPIED_OVER behind
    them."""
    cdef uint32_t n = r.len, packet = r.packet, interface = place.interface
    cdef uint64_t at = r.at, total = block_size(n, 0)
    cdef int64_t time = r.time
    cdef bint outgoing = r.outgoing
    cdef Statistics *seen = place.seen
    cdef uint8_t *p = out_room(place.file, total)
    cdef uint8_t *options
    if p == NULL:
        return
    options = block_bytes(p + EPB_HEAD, data + at, n, <int64_t>(at + n) <= safe)
    block_head(p, <uint32_t>total, interface, time, n)
    block_options(options, outgoing, packet)
    note_seen(seen, time)


cdef uint64_t put_frames(Output *o, const Stretch *s, uint64_t i, int64_t until, bint changed) noexcept nogil:
    """Append frames from number ``i`` on, up to that time; the first that is later."""
    cdef const FrameRecord *frames = s.frames
    cdef const int32_t *told = o.changes.first if changed else NULL
    cdef const int32_t *drop = o.marks.frame if s.n_drops else NULL
    cdef const uint8_t *data = s.data
    cdef const Place *place = o.place
    cdef uint64_t past = i
    cdef int64_t safe = <int64_t>s.size - COPIED_OVER
    cdef int32_t t = -1, d = -1
    if until == INT64_MAX:
        past = s.n_frames
    while past < s.n_frames and frames[past].time <= until:
        past += 1
    for i in range(i, past):
        if told != NULL:
            t = told[i]
        if drop != NULL:
            d = drop[i]
        if seldom((t & d) >= 0):
            put_told(o, s, &frames[i], t, d)
        else:
            put_plain(&place[frames[i].dev], &frames[i], data, safe)
    return past


cdef void put_drop(Output *o, const Stretch *s, uint64_t i) noexcept nogil:
    """A record of its own, with the link header that frames of the device have, or without one. Its kin follow by themselves."""
    cdef const DropRecord *r = &s.drops[i]
    cdef Seen seen = seen_on(s.data + r.at, r.len, o.ethernet[r.dev])
    cdef const Place *place = &o.place[r.dev]
    cdef uint32_t link = LINK_HEADER if seen.link != NULL else 0, n = r.len - seen.skipped
    cdef uint64_t total
    cdef uint8_t *p
    o.marks.drop[i].next = -1
    total = block_size(<uint64_t>link + n, EPB_VERDICT + comments_size(o, -1, <int32_t>i))
    p = out_room(place.file, total)
    if p == NULL:
        return
    block_head(p, <uint32_t>total, place.interface, r.time, link + n)
    if link:
        memcpy(p + EPB_HEAD, seen.link, link)
    if n:
        memcpy(p + EPB_HEAD + link, s.data + r.at + seen.skipped, n)
    p = block_options(block_padding(p + EPB_HEAD, link + n), False, r.packet)
    put_comments(o, block_verdict(p, TC_ACT_SHOT), -1, <int32_t>i)
    note_seen(place.seen, r.time)
    place.seen.dropped += 1


cdef void put_all(Output *o, const Stretch *s) noexcept nogil:
    """By time; of one instant frames first, then drops that no frame shows."""
    cdef uint64_t f = 0, d = 0
    cdef bint changed = o.changes.n > 0
    if changed:
        changes_find(&o.changes, s.frames, s.n_frames, s.data, o.namespace, o.ethernet)
    if s.n_drops:
        marks_find(&o.marks, s.frames, s.n_frames, s.drops, s.n_drops)
    for d in range(s.n_drops):
        if o.marks.drop[o.marks.drop[d].first].frame < 0 and interface_of(o, s.drops[d].dev) >= 0:
            f = put_frames(o, s, f, s.drops[d].time, changed)
            put_drop(o, s, d)
    put_frames(o, s, f, INT64_MAX, changed)
    o.frames += s.n_frames


@cython.final
cdef class RecordWriter:
    cdef Output o
    cdef Py_buffer view[4]
    cdef int n_views
    cdef readonly int failed

    def __cinit__(self, interfaces, ethernet, namespaces, bint apart=False, uint64_t piece=1 << 19):
        cdef int i, interface
        numbers, bare, places = list(interfaces), list(ethernet), list(namespaces)
        if not len(numbers) == len(bare) == len(places):
            raise ValueError("interfaces, ethernet and namespaces must have one entry for each device")
        if not piece:
            raise ValueError("a piece has at least one byte")
        self.o.apart = apart
        self.o.n_dev = <int>len(numbers)
        self.o.n_interfaces = max(numbers, default=-1) + 1
        self.o.interface = <int32_t *>malloc((self.o.n_dev + 1) * sizeof(int32_t))
        self.o.ethernet = <uint8_t *>malloc(self.o.n_dev + 1)
        self.o.place = <Place *>calloc(self.o.n_dev + 1, sizeof(Place))
        self.o.namespace = <int32_t *>malloc((self.o.n_dev + 1) * sizeof(int32_t))
        self.o.seen = <Statistics *>calloc(self.o.n_interfaces + 1, sizeof(Statistics))
        self.o.file = <OutFile *>calloc(self.o.n_interfaces + 1, sizeof(OutFile))
        if (self.o.interface == NULL or self.o.place == NULL or self.o.ethernet == NULL or self.o.namespace == NULL or self.o.seen == NULL
                or self.o.file == NULL):
            raise MemoryError
        for i in range(self.o.n_dev):
            interface = numbers[i]
            self.o.interface[i] = interface
            if interface >= 0:
                self.o.place[i] = Place(&self.o.file[interface if apart else 0], &self.o.seen[interface], 0 if apart else interface)
            self.o.ethernet[i] = bool(bare[i])
            self.o.namespace[i] = places[i]
        for i in range(self.o.n_interfaces + 1):
            self.o.file[i].fd = -1
            self.o.file[i].piece = piece

    def __dealloc__(self):
        cdef int i
        self.close_views()
        if self.o.file != NULL:
            for i in range(self.o.n_interfaces + 1):
                free(self.o.file[i].mem)
        free(self.o.interface)
        free(self.o.place)
        free(self.o.ethernet)
        free(self.o.namespace)
        free(self.o.seen)
        free(self.o.file)
        free(self.o.marks.drop)
        free(self.o.marks.frame)
        free(self.o.marks.place)
        kinds_free(&self.o.kinds)
        changes_free(&self.o.changes)

    cdef int open_views(self, Stretch *s, frames, drops, data, changes) except -1:
        for source in (frames, drops, data, changes):
            PyObject_GetBuffer(source, &self.view[self.n_views], PyBUF_SIMPLE)
            self.n_views += 1
        s.frames = <const FrameRecord *>self.view[0].buf
        s.n_frames = self.view[0].len // sizeof(FrameRecord)
        s.drops = <const DropRecord *>self.view[1].buf
        s.n_drops = self.view[1].len // sizeof(DropRecord)
        s.data = <const uint8_t *>self.view[2].buf
        s.size = self.view[2].len
        s.changes = <const ChangeRecord *>self.view[3].buf
        s.n_changes = self.view[3].len // sizeof(ChangeRecord)
        return 0

    cdef int close_views(self) except -1:
        while self.n_views:
            self.n_views -= 1
            PyBuffer_Release(&self.view[self.n_views])
        return 0

    cdef OutFile *file_at(self, int number) except NULL:
        if not 0 <= number < (self.o.n_interfaces if self.o.apart else 1):
            raise ValueError(f"no file {number}")
        return &self.o.file[number]

    def open(self, int file, int fd):
        self.file_at(file).fd = fd

    def append(self, int file, bytes block):
        cdef OutFile *f = self.file_at(file)
        cdef uint8_t *p = out_room(f, len(block))
        if p != NULL:
            memcpy(p, <const char *>block, len(block))
        self.check(file)

    def write(self, frames, drops, data, changes, opened, described, told):
        cdef Stretch s
        cdef bint counted = True, held
        try:
            self.open_views(&s, frames, drops, data, changes)
            with nogil:
                held = holds(&self.o, &s)
            if not held:
                raise ValueError("a record lies outside of the data, or a frame's device is not recorded")
            if s.n_drops:
                with nogil:
                    counted = count_drops(&self.o, &s)
                if not counted:
                    raise MemoryError
            if s.n_changes or self.o.changes.n:
                with nogil:
                    counted = changes_gather(&self.o.changes, s.changes, s.n_changes, s.n_frames)
                if not counted:
                    raise MemoryError
                self.tell(told)
            self.prepare(&s, opened, described)
            if self.o.n_interfaces:
                with nogil:
                    put_all(&self.o, &s)
        finally:
            self.close_views()
        self.check_all()

    cdef int prepare(self, const Stretch *s, opened, described) except -1:
        """Ask for the files that are needed for the first time, and for the comments of new kinds of drops."""
        cdef uint64_t i
        cdef uint32_t kind
        if self.o.apart:
            for i in range(s.n_frames):
                self.need_file(interface_of(&self.o, s.frames[i].dev), opened)
            for i in range(s.n_drops):
                self.need_file(interface_of(&self.o, s.drops[i].dev), opened)
        for i in range(s.n_drops):
            kind = self.o.marks.drop[i].kind
            if self.o.kinds.kind[kind].comment == NULL:
                self.describe(kind, described)
        return 0

    cdef int tell(self, told) except -1:
        """Ask for the comments of new lines."""
        cdef uint32_t i
        cdef Line *line
        cdef char text[DETAIL_LEN]
        for i in range(self.o.changes.lines.n):
            line = &self.o.changes.lines.line[i]
            if line.comment == NULL:
                change_text(text, DETAIL_LEN, line.kind, b"", line.fact, line.n)
                line.comment = self.option(told((<bytes>change_word(line.kind)).decode(), line.dev, line.origin, (<bytes>text).decode()),
                                           &line.comment_size)
        return 0

    cdef int need_file(self, int interface, opened) except -1:
        if interface >= 0 and self.o.file[interface].fd < 0:
            self.o.file[interface].fd = opened(interface)
        return 0

    cdef int describe(self, uint32_t number, described) except -1:
        cdef DropKind *k = &self.o.kinds.kind[number]
        k.comment = self.option(described(k.reason, k.ns, k.dev, k.origin), &k.comment_size)
        return 0

    cdef uint8_t *option(self, bytes option, uint32_t *size) except NULL:
        """A copy that stays."""
        cdef uint8_t *copy = <uint8_t *>malloc(len(option) + 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, <const char *>option, len(option))
        size[0] = <uint32_t>len(option)
        return copy

    def flush(self):
        cdef int i
        with nogil:
            for i in range(self.o.n_interfaces if self.o.apart else 1):
                if self.o.file[i].n:
                    out_flush(&self.o.file[i])
        self.check_all()

    cdef int check(self, int file) except -1:
        cdef int error = self.o.file[file].error
        if error == OUT_OF_MEMORY:
            raise MemoryError
        if error:
            self.failed = file
            raise OSError(error, strerror(error).decode(errors="replace"))
        return 0

    cdef int check_all(self) except -1:
        cdef int i
        for i in range(self.o.n_interfaces if self.o.apart else 1):
            if self.o.file[i].error:
                self.check(i)
        return 0

    @property
    def frames(self):
        return self.o.frames

    def drops(self):
        cdef uint32_t i
        kinds = []
        for i in range(self.o.kinds.n):
            k = self.o.kinds.kind[i]
            kinds.append((k.reason, k.ns, k.dev, k.origin, k.count))
        return kinds

    def statistics(self, int interface):
        if not 0 <= interface < self.o.n_interfaces:
            raise ValueError(f"no interface {interface}")
        seen = self.o.seen[interface]
        return seen.frames, seen.dropped, seen.first, seen.last
