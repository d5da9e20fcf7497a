"""Captures read and made ready to be injected, many packets at once; types and sentences are in ``dataplane/_capture_read.pyi``."""

from array import array

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport cython

from ext.capture.address_map cimport AddressRules, MapRule
from ext.capture.fit cimport (FIT_DONE, FIT_FULL, FIT_HOP, FIT_OUTSIDE, FIT_PYTHON, Fit, Fitted, ROOM, UNFIT_ADDRESSES, UnfitRun,
                              fit_in_place, fit_packet, hop_place, hops_room, note_unfit)
from ext.capture.index cimport Index, Interface, PcapForm, Source, index_add, index_pcap, index_pcapng
from ext.capture.link cimport LINKTYPE_ETHERNET

DONE = FIT_DONE
ASK_HOP = FIT_HOP
ASK_FRAME = FIT_PYTHON
FIRST_ADDRESS = UNFIT_ADDRESSES


@cython.final
cdef class Batch:
    cdef Index x
    cdef readonly uint64_t first

    def __cinit__(self, uint64_t capacity, uint64_t most_bytes):
        memset(&self.x, 0, sizeof(Index))
        self.x.capacity = capacity
        self.x.most_bytes = most_bytes
        self.x.starts = <uint64_t *>malloc((capacity + 1) * sizeof(uint64_t))
        self.x.lengths = <uint32_t *>malloc((capacity + 1) * sizeof(uint32_t))
        self.x.origs = <uint32_t *>malloc((capacity + 1) * sizeof(uint32_t))
        self.x.times = <int64_t *>malloc((capacity + 1) * sizeof(int64_t))
        self.x.links = <uint16_t *>malloc((capacity + 1) * sizeof(uint16_t))
        if not (self.x.starts and self.x.lengths and self.x.origs and self.x.times and self.x.links):
            raise MemoryError

    def __dealloc__(self):
        free(self.x.starts)
        free(self.x.lengths)
        free(self.x.origs)
        free(self.x.times)
        free(self.x.links)

    def __len__(self):
        return self.x.n

    def clear(self, uint64_t first):
        self.x.n = self.x.bytes = 0
        self.first = first

    def packet(self, uint64_t i):
        if i >= self.x.n:
            raise IndexError(i)
        return self.x.starts[i], self.x.lengths[i], self.x.origs[i], self.x.times[i], self.x.links[i]

    def append(self, uint64_t start, uint32_t length, uint32_t orig, int64_t time, uint16_t link):
        if self.x.n >= self.x.capacity:
            raise ValueError("the batch is full")
        index_add(&self.x, start, length, orig, time, link, 0)

    def index_pcap(self, data, uint64_t offset, bint big_endian, uint32_t unit, uint16_t link, uint32_t fcs):
        cdef Py_buffer view
        cdef Source s
        cdef PcapForm form
        form.unit, form.link, form.fcs = unit, link, fcs
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            s.data, s.size, s.big_endian = <const uint8_t *>view.buf, view.len, big_endian
            if offset <= s.size:
                with nogil:
                    offset = index_pcap(&self.x, &s, offset, &form)
        finally:
            PyBuffer_Release(&view)
        return offset

    def index_pcapng(self, data, uint64_t offset, bint big_endian, interfaces, int64_t time):
        cdef Py_buffer view, rows
        cdef Source s
        cdef uint32_t n
        PyObject_GetBuffer(interfaces, &rows, PyBUF_SIMPLE)
        try:
            n = <uint32_t>(rows.len // <Py_ssize_t>sizeof(Interface))
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                s.data, s.size, s.big_endian = <const uint8_t *>view.buf, view.len, big_endian
                if offset <= s.size:
                    with nogil:
                        offset = index_pcapng(&self.x, &s, offset, <const Interface *>rows.buf, n, time)
            finally:
                PyBuffer_Release(&view)
        finally:
            PyBuffer_Release(&rows)
        return offset


@cython.final
cdef class Frames:
    cdef Fitted f
    cdef Py_buffer view[4]
    cdef int n_views
    cdef readonly object starts, lengths, times, data
    cdef object arena

    def __cinit__(self, uint64_t capacity):
        self.starts, self.lengths = array("Q", bytes(8 * (capacity + 1))), array("I", bytes(4 * (capacity + 1)))
        self.times, self.arena = array("q", bytes(8 * (capacity + 1))), bytearray(1)
        self.data = self.arena
        for memory in (self.starts, self.lengths, self.times, self.arena):
            PyObject_GetBuffer(memory, &self.view[self.n_views], PyBUF_WRITABLE)
            self.n_views += 1
        self.f.capacity, self.f.room = capacity, 1
        self.f.starts = <uint64_t *>self.view[0].buf
        self.f.lengths = <uint32_t *>self.view[1].buf
        self.f.times = <int64_t *>self.view[2].buf
        self.f.arena = <uint8_t *>self.view[3].buf
        self.f.run = <UnfitRun *>malloc((capacity + 1) * sizeof(UnfitRun))
        if self.f.run == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.f.run)
        while self.n_views:
            self.n_views -= 1
            PyBuffer_Release(&self.view[self.n_views])

    def __len__(self):
        return self.f.n

    cdef int begin(self, object data, uint64_t n, uint64_t size) except -1:
        """Empty it for frames of ``n`` packets that stay in ``data`` or (None) get ``size`` bytes of their own."""
        if n > self.f.capacity:
            raise ValueError(f"no room for {n} packets")
        if data is None and self.f.room < size:
            fresh = bytearray(size)
            PyBuffer_Release(&self.view[3])
            self.n_views = 3
            self.arena = fresh
            PyObject_GetBuffer(self.arena, &self.view[3], PyBUF_WRITABLE)
            self.n_views = 4
            self.f.arena, self.f.room = <uint8_t *>self.view[3].buf, size
        self.data = self.arena if data is None else data
        self.f.n = self.f.used = self.f.n_runs = 0
        return 0

    def add(self, bytes frame, int64_t time):
        if self.f.n >= self.f.capacity or self.f.used + len(frame) > self.f.room or self.data is not self.arena:
            raise ValueError("no room for another frame")
        memcpy(self.f.arena + self.f.used, <const char *>frame, len(frame))
        self.f.starts[self.f.n], self.f.lengths[self.f.n], self.f.times[self.f.n] = self.f.used, <uint32_t>len(frame), time
        self.f.n += 1
        self.f.used += len(frame)

    def note_unfit(self, int32_t reason, uint64_t number):
        if self.f.n_runs >= self.f.capacity:
            raise ValueError("no room for another packet")
        note_unfit(&self.f, reason, number)

    def unfit(self):
        cdef uint64_t i
        runs = []
        for i in range(self.f.n_runs):
            runs.append((self.f.run[i].reason, self.f.run[i].first, self.f.run[i].last))
        return runs


cdef inline int64_t later(int64_t start, int64_t time, int64_t zero) noexcept nogil:
    """``start`` and what has passed since ``zero``; no more than there is."""
    if time > zero and time - zero > <int64_t>0x7fffffffffffffff - start:
        return <int64_t>0x7fffffffffffffff
    return start + (time - zero)


cdef int fit_some(Fit *f, const Source *s, const Index *x, uint64_t *i, uint64_t first, int64_t start, int64_t zero,
                  const uint8_t *skipped, bint in_place, Fitted *out) noexcept nogil:
    """From packet ``i`` of the batch on, which then is the one that the code is about."""
    cdef int code = FIT_DONE
    while i[0] < x.n:
        if x.starts[i[0]] > s.size or x.lengths[i[0]] > s.size - x.starts[i[0]]:
            code = FIT_OUTSIDE
        elif out.n >= out.capacity or out.n_runs >= out.capacity:
            code = FIT_FULL
        elif skipped != NULL and skipped[i[0]]:
            pass
        elif in_place:
            fit_in_place(f, s.data, x, i[0], first + i[0], later(start, x.times[i[0]], zero), out)
        else:
            code = fit_packet(f, s.data, x, i[0], first + i[0], later(start, x.times[i[0]], zero), out)
        if code != FIT_DONE:
            break
        i[0] += 1
    return code


cdef bint all_ethernet(const Index *x) noexcept nogil:
    cdef uint64_t i
    for i in range(x.n):
        if x.links[i] != LINKTYPE_ETHERNET:
            return False
    return True


@cython.final
cdef class Fitter:
    cdef Fit f

    def __cinit__(self, bytes mac, bint rewrites, uint32_t most, rules):
        if len(mac) != 6:
            raise ValueError("a MAC has 6 bytes")
        memcpy(self.f.mac, <const char *>mac, 6)
        self.f.rewrites = rewrites
        self.f.most = most
        self.set_rules(&self.f.rules4, [rule for rule in rules if len(rule[0]) == 4])
        self.set_rules(&self.f.rules6, [rule for rule in rules if len(rule[0]) == 16])
        if not hops_room(&self.f.hops):
            raise MemoryError

    def __dealloc__(self):
        free(self.f.rules4.rule)
        free(self.f.rules6.rule)
        free(self.f.hops.place)

    cdef int set_rules(self, AddressRules *to, list rules) except -1:
        cdef MapRule *r
        cdef int n
        to.rule = <MapRule *>malloc((len(rules) + 1) * sizeof(MapRule))
        if to.rule == NULL:
            raise MemoryError
        for source, mask, target, keeps_host in rules:
            n = <int>len(<bytes>source)
            if len(<bytes>mask) != n or len(<bytes>target) != n:
                raise ValueError("the addresses of a rule are of one family")
            r = &to.rule[to.n]
            memcpy(r.source, <const char *>(<bytes>source), n)
            memcpy(r.mask, <const char *>(<bytes>mask), n)
            memcpy(r.target, <const char *>(<bytes>target), n)
            r.keeps_host = bool(keeps_host)
            to.n += 1
        return 0

    @property
    def asked(self):
        return self.f.asked.address[:self.f.asked.size]

    def answer(self, bytes address, bytes mac, int32_t unfit=-1):
        if len(address) not in (4, 16) or len(mac) != 6:
            raise ValueError("an address has 4 or 16 bytes, a MAC 6")
        if not hops_room(&self.f.hops):
            raise MemoryError
        place = hop_place(&self.f.hops, address, <int>len(address))
        self.f.hops.n += place.size == 0
        memcpy(place.address, <const char *>address, len(address))
        place.size = <uint8_t>len(address)
        memcpy(place.mac, <const char *>mac, 6)
        place.unfit = unfit

    def begin(self, data, Batch batch not None, Frames frames not None):
        in_place = not self.f.rewrites and self.f.rules4.n + self.f.rules6.n == 0 and all_ethernet(&batch.x)
        frames.begin(data if in_place else None, batch.x.n, batch.x.bytes + ROOM * batch.x.n)

    def fit(self, data, Batch batch not None, Frames frames not None, uint64_t i, int64_t start, int64_t zero, bytes skipped=None):
        cdef Py_buffer view
        cdef Source s
        cdef const uint8_t *left_out = NULL
        cdef bint in_place = frames.data is not frames.arena
        cdef int code
        if skipped is not None:
            if <uint64_t>len(skipped) < batch.x.n:
                raise ValueError("skipped is too short")
            left_out = <const uint8_t *>skipped
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            s.data, s.size = <const uint8_t *>view.buf, view.len
            with nogil:
                code = fit_some(&self.f, &s, &batch.x, &i, batch.first, start, zero, left_out, in_place, &frames.f)
        finally:
            PyBuffer_Release(&view)
        if code == FIT_OUTSIDE:
            raise ValueError("a packet lies outside of the data")
        if code == FIT_FULL:
            raise ValueError("no room for another packet")
        return code, i
