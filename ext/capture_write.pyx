"""Recorded frames and drops to pcapng without a Python object for each; types and sentences are in ``dataplane/_capture_write.pyi``."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strerror

cimport cython

from ext.capture.block cimport (EPB_HEAD, EPB_OPTIONS, EPB_TAIL, NO_VERDICT, TC_ACT_OK, TC_ACT_SHOT, PacketBlock, block_head, block_options, block_size, block_write)
from ext.capture.changes cimport ChangeMarks, Line, changes_find, changes_free, changes_gather, told_bytes, told_write
from ext.capture.drops cimport DropKind, KindTable, Marks, kind_of, kinds_free, marks_find, marks_room
from ext.capture.outfile cimport OUT_OF_MEMORY, OutFile, out_flush, out_room
from ext.capture.seen cimport LINK_HEADER, Seen, seen_on
from ext.devices.changes cimport ChangeRecord, change_text, change_word
from ext.devices.core cimport DETAIL_LEN, DropRecord, FrameRecord
from ext.wire.bytes cimport COPIED_OVER, copy_over


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


cdef struct Output:
    int32_t *interface  # by device; -1: not recorded
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
    return o.interface[dev] if 0 <= dev < o.n_dev else -1


cdef bint holds(const Output *o, const Stretch *s) noexcept nogil:
    """Do all records lie within the data, and the frames' devices among those that are recorded?"""
    cdef uint64_t i
    for i in range(s.n_frames):
        if s.frames[i].at > s.size or s.frames[i].len > s.size - s.frames[i].at or interface_of(o, s.frames[i].dev) < 0:
            return False
    for i in range(s.n_drops):
        if s.drops[i].at > s.size or s.drops[i].len > s.size - s.drops[i].at:
            return False
    return True


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


cdef void put(Output *o, int interface, PacketBlock *b, int32_t told, int32_t drop) noexcept nogil:
    """Append a record, with the comments of the change ``told`` and of ``drop``, and those behind each (-1: none)."""
    cdef Statistics *seen = &o.seen[interface]
    cdef OutFile *f = &o.file[interface if o.apart else 0]
    cdef const DropKind *kind
    cdef uint8_t *p
    cdef int32_t i = drop
    b.interface = 0 if o.apart else interface
    b.verdict = TC_ACT_SHOT if drop >= 0 else (TC_ACT_OK if told >= 0 else NO_VERDICT)
    b.comments = told_bytes(&o.changes, told)
    while i >= 0:
        b.comments += o.kinds.kind[o.marks.drop[i].kind].comment_size
        i = o.marks.drop[i].next
    p = out_room(f, block_size(b))
    if p == NULL:
        return
    p = told_write(&o.changes, told, block_write(b, p))
    i = drop
    while i >= 0:
        kind = &o.kinds.kind[o.marks.drop[i].kind]
        memcpy(p, kind.comment, kind.comment_size)
        p += kind.comment_size
        i = o.marks.drop[i].next
    note_seen(seen, b.time)
    seen.dropped += drop >= 0


cdef inline void put_plain(Output *o, const Stretch *s, const FrameRecord *r) noexcept nogil:
    """Append a frame without comments: what most records are."""
    cdef int interface = o.interface[r.dev]
    cdef OutFile *f = &o.file[interface if o.apart else 0]
    cdef uint32_t padded = (r.len + 3) & ~<uint32_t>3, total = EPB_HEAD + padded + EPB_OPTIONS + EPB_TAIL
    cdef uint8_t *p = out_room(f, total)
    if p == NULL:
        return
    if s.size - r.at >= r.len + COPIED_OVER:
        copy_over(p + EPB_HEAD, s.data + r.at, r.len)
    else:
        memcpy(p + EPB_HEAD, s.data + r.at, r.len)
    if r.len != padded:
        memset(p + EPB_HEAD + r.len, 0, padded - r.len)
    block_head(p, total, 0 if o.apart else interface, r.time, r.len)
    block_options(p + EPB_HEAD + padded, r.outgoing, r.packet)
    note_seen(&o.seen[interface], r.time)


cdef inline void put_frame(Output *o, const Stretch *s, uint64_t i, int32_t told, int32_t drop) noexcept nogil:
    cdef const FrameRecord *r = &s.frames[i]
    cdef PacketBlock b
    if told < 0 and drop < 0:
        put_plain(o, s, r)
        return
    b.time = r.time
    b.outgoing = r.outgoing
    b.packet = r.packet
    b.link = NULL
    b.n_link = 0
    b.data = s.data + r.at
    b.n = r.len
    put(o, o.interface[r.dev], &b, told, drop)


cdef inline void put_drop(Output *o, const Stretch *s, uint64_t i) noexcept nogil:
    """A record of its own, with the link header that frames of the device have, or without one. Its kin follow by themselves."""
    cdef const DropRecord *r = &s.drops[i]
    cdef PacketBlock b
    cdef Seen seen = seen_on(s.data + r.at, r.len, o.ethernet[r.dev])
    b.time = r.time
    b.outgoing = False
    b.packet = r.packet
    b.link = seen.link
    b.n_link = LINK_HEADER if seen.link != NULL else 0
    b.data = s.data + r.at + seen.skipped
    b.n = r.len - seen.skipped
    o.marks.drop[i].next = -1
    put(o, interface_of(o, r.dev), &b, -1, <int32_t>i)


cdef void put_all(Output *o, const Stretch *s) noexcept nogil:
    """By time; of one instant frames first, then drops that no frame shows."""
    cdef uint64_t f = 0, d = 0
    cdef bint changed = o.changes.n > 0
    if changed:
        changes_find(&o.changes, s.frames, s.n_frames, s.data, o.namespace, o.ethernet)
    if s.n_drops:
        marks_find(&o.marks, s.frames, s.n_frames, s.drops, s.n_drops)
    while True:
        while d < s.n_drops and (o.marks.drop[o.marks.drop[d].first].frame >= 0 or interface_of(o, s.drops[d].dev) < 0):
            d += 1
        if f < s.n_frames and (d == s.n_drops or s.frames[f].time <= s.drops[d].time):
            put_frame(o, s, f, o.changes.first[f] if changed else -1, o.marks.frame[f] if s.n_drops else -1)
            f += 1
        elif d < s.n_drops:
            put_drop(o, s, d)
            d += 1
        else:
            break
    o.frames += s.n_frames


@cython.final
cdef class RecordWriter:
    cdef Output o
    cdef Py_buffer view[4]
    cdef int n_views
    cdef readonly int failed

    def __cinit__(self, interfaces, ethernet, namespaces, bint apart=False, uint64_t flush_at=1 << 18):
        cdef int i
        numbers, bare, places = list(interfaces), list(ethernet), list(namespaces)
        if not len(numbers) == len(bare) == len(places):
            raise ValueError("interfaces, ethernet and namespaces must have one entry for each device")
        self.o.apart = apart
        self.o.n_dev = <int>len(numbers)
        self.o.n_interfaces = max(numbers, default=-1) + 1
        self.o.interface = <int32_t *>malloc((self.o.n_dev + 1) * sizeof(int32_t))
        self.o.ethernet = <uint8_t *>malloc(self.o.n_dev + 1)
        self.o.namespace = <int32_t *>malloc((self.o.n_dev + 1) * sizeof(int32_t))
        self.o.seen = <Statistics *>calloc(self.o.n_interfaces + 1, sizeof(Statistics))
        self.o.file = <OutFile *>calloc(self.o.n_interfaces + 1, sizeof(OutFile))
        if (self.o.interface == NULL or self.o.ethernet == NULL or self.o.namespace == NULL or self.o.seen == NULL
                or self.o.file == NULL):
            raise MemoryError
        for i in range(self.o.n_dev):
            self.o.interface[i] = numbers[i]
            self.o.ethernet[i] = bool(bare[i])
            self.o.namespace[i] = places[i]
        for i in range(self.o.n_interfaces + 1):
            self.o.file[i].fd = -1
            self.o.file[i].flush_at = flush_at

    def __dealloc__(self):
        cdef int i
        self.close_views()
        if self.o.file != NULL:
            for i in range(self.o.n_interfaces + 1):
                free(self.o.file[i].mem)
        free(self.o.interface)
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
        cdef bint counted = True
        try:
            self.open_views(&s, frames, drops, data, changes)
            if not holds(&self.o, &s):
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
