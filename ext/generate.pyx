"""Frames of many flows, made faster than they are carried; types and sentences are in ``dataplane/_generate.pyi``."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cimport cython

from ext.capture.block cimport st32le
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.checksum cimport csum_fold
from ext.wire.hash cimport mix64

cdef enum:
    ETHERNET = 14
    IPV4 = 20
    UDP = 8
    TCP = 20
    HEADERS = 42  # of UDP
    LEAST = 54  # all three headers of TCP
    MOST = 65549
    PROTO_TCP = 6
    PROTO_UDP = 17
    PORT_FIRST = 1024
    PORTS = 64000  # of one source address
    SIZES_MOST = 16
    PCAP_RECORD = 16
    VIEWS = 4

cdef struct Target:
    uint32_t address
    uint16_t port

cdef struct Size:
    uint32_t bytes
    uint64_t upto  # weights up to this one

cdef struct Flow:
    uint32_t source
    uint32_t target
    uint16_t sport
    uint16_t dport
    uint8_t protocol

cdef struct Maker:
    uint64_t seed
    uint32_t flows
    uint32_t turn
    uint32_t source  # the first
    uint32_t sources
    Target *target
    uint32_t n_targets
    Size size[SIZES_MOST]
    int n_sizes
    uint32_t udp_percent
    bint random_keys
    uint8_t tcp_flags
    int64_t gap  # ns between two frames
    uint8_t head[ETHERNET]
    uint32_t *sent  # bytes of data by flow so far, for TCP's sequence numbers
    uint64_t made


cdef inline uint32_t below(uint64_t drawn, uint32_t n) noexcept nogil:
    """A number below ``n`` from 32 drawn bits, without a division."""
    return <uint32_t>(drawn * n >> 32)


cdef inline Flow flow_of(const Maker *m, uint64_t number) noexcept nogil:
    """Structured keys count ports, then addresses; random ones are drawn, all of a flow from its number."""
    cdef Flow f
    cdef uint64_t h = mix64(m.seed ^ (number + 1)), drawn
    cdef const Target *t
    if m.random_keys:
        drawn = mix64(h)
        t = &m.target[below(h >> 32, m.n_targets)]
        f.sport = <uint16_t>(PORT_FIRST + below(drawn >> 32, PORTS))
        f.source = m.source + below(<uint32_t>drawn, m.sources)
    else:
        t = &m.target[<uint32_t>number % m.n_targets]
        f.sport = <uint16_t>(PORT_FIRST + <uint32_t>number % PORTS)
        f.source = m.source + <uint32_t>number // PORTS % m.sources
    f.target = t.address
    f.dport = t.port
    f.protocol = PROTO_UDP if (h & 0xffff) * 100 >> 16 < m.udp_percent else PROTO_TCP
    return f


cdef inline uint32_t size_of(const Maker *m, uint64_t number) noexcept nogil:
    cdef uint64_t draw
    cdef int i = 0
    if m.n_sizes > 1:
        draw = below(mix64(m.seed + 3 * number) >> 32, <uint32_t>m.size[m.n_sizes - 1].upto)
        while draw >= m.size[i].upto:
            i += 1
    return m.size[i].bytes


cdef inline uint32_t flow_number(Maker *m) noexcept nogil:
    """Each flow once, in turn; after that in turn again, or drawn."""
    cdef uint32_t number
    if m.made >= m.flows and m.random_keys:
        return below(mix64(m.seed ^ (m.made << 1)) >> 32, m.flows)
    number = m.turn
    m.turn = number + 1 if number + 1 < m.flows else 0
    return number


cdef inline void write_transport(Maker *m, const Flow *f, uint32_t flow, uint8_t *p, uint32_t n, uint32_t pseudo) noexcept nogil:
    """The header of a datagram or segment of ``n`` bytes whose data are zeros."""
    cdef uint64_t sum = <uint64_t>pseudo + f.protocol + n + f.sport + f.dport
    cdef uint32_t check
    st16(p, f.sport)
    st16(p + 2, f.dport)
    if f.protocol == PROTO_UDP:
        st16(p + 4, n)
        check = ~csum_fold(sum + n) & 0xffff
        st16(p + 6, check if check else 0xffff)
        return
    st32(p + 4, <uint32_t>mix64(m.seed + flow) + m.sent[flow])
    st32(p + 8, <uint32_t>mix64(m.seed - flow))
    st16(p + 12, TCP // 4 << 12 | m.tcp_flags)
    st16(p + 14, 0xffff)
    sum += <uint64_t>ld16(p + 4) + ld16(p + 6) + ld16(p + 8) + ld16(p + 10) + ld16(p + 12) + 0xffff
    st16(p + 16, ~csum_fold(sum) & 0xffff)
    m.sent[flow] += n - TCP


cdef inline void write_frame(Maker *m, uint8_t *p, uint32_t size) noexcept nogil:
    cdef uint32_t number = flow_number(m)
    cdef Flow f = flow_of(m, number)
    cdef uint8_t *ip = p + ETHERNET
    cdef uint32_t pseudo = (f.source >> 16) + (f.source & 0xffff) + (f.target >> 16) + (f.target & 0xffff)
    memset(p + HEADERS, 0, size - HEADERS)
    memcpy(p, m.head, ETHERNET)
    st16(ip, 0x4500)
    st16(ip + 2, size - ETHERNET)
    st16(ip + 4, <uint32_t>(m.made & 0xffff))
    st16(ip + 6, 0x4000)
    st16(ip + 8, 64 << 8 | f.protocol)
    st32(ip + 12, f.source)
    st32(ip + 16, f.target)
    st16(ip + 10, ~csum_fold(<uint64_t>0x4500 + (size - ETHERNET) + (m.made & 0xffff) + 0x4000 + (64 << 8 | f.protocol) + pseudo) & 0xffff)
    write_transport(m, &f, number, ip + IPV4, size - ETHERNET - IPV4, pseudo)
    m.made += 1


cdef uint64_t make_batch(Maker *m, uint8_t *data, uint64_t room, uint64_t most, uint64_t *starts, uint32_t *lengths,
                         int64_t *times) noexcept nogil:
    cdef uint64_t n = 0, at = 0
    cdef uint32_t size
    while n < most:
        size = size_of(m, m.made)
        if room - at < size:
            break
        starts[n] = at
        lengths[n] = size
        times[n] = m.gap * <int64_t>m.made
        write_frame(m, data + at, size)
        at += size
        n += 1
    return n


cdef uint64_t make_records(Maker *m, uint8_t *data, uint64_t room, uint64_t most, uint64_t *n) noexcept nogil:
    """Records of a little-endian nanosecond pcap file; their bytes."""
    cdef uint64_t at = 0, time
    cdef uint32_t size
    n[0] = 0
    while n[0] < most:
        size = size_of(m, m.made)
        if room - at < size + PCAP_RECORD:
            break
        time = <uint64_t>m.gap * m.made
        st32le(data + at, <uint32_t>(time // 1000000000))
        st32le(data + at + 4, <uint32_t>(time % 1000000000))
        st32le(data + at + 8, size)
        st32le(data + at + 12, size)
        write_frame(m, data + at + PCAP_RECORD, size)
        at += size + PCAP_RECORD
        n[0] += 1
    return at


@cython.final
cdef class FrameMaker:
    cdef Maker m
    cdef Py_buffer view[VIEWS]
    cdef int n_views

    def __cinit__(self, bytes source_mac, bytes target_mac, bytes source, uint32_t sources, targets, uint32_t flows, *, sizes,
                  uint32_t udp_percent=100, bint random_keys=False, uint8_t tcp_flags=0x18, int64_t gap=1000, seed=0):
        if len(source_mac) != 6 or len(target_mac) != 6 or len(source) != 4 or not sources or not flows:
            raise ValueError("MACs have 6 bytes, addresses 4, and there is at least one source and one flow")
        if gap < 0 or udp_percent > 100:
            raise ValueError("a gap is 0 or more, a share at most 100 percent")
        memcpy(self.m.head, <const char *>target_mac, 6)
        memcpy(self.m.head + 6, <const char *>source_mac, 6)
        st16(self.m.head + 12, 0x0800)
        self.m.seed = mix64(seed & 0xffffffffffffffff)
        self.m.flows, self.m.sources, self.m.udp_percent, self.m.tcp_flags = flows, sources, udp_percent, tcp_flags
        self.m.source = ld32(<const uint8_t *>source)
        self.m.random_keys, self.m.gap = random_keys, gap
        self.set_targets(list(targets))
        self.set_sizes(list(sizes))
        self.m.sent = <uint32_t *>calloc(flows, sizeof(uint32_t))
        if self.m.sent == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.close_views()
        free(self.m.target)
        free(self.m.sent)

    cdef int set_targets(self, list targets) except -1:
        cdef bytes address
        if not targets:
            raise ValueError("there is at least one target")
        self.m.target = <Target *>malloc(len(targets) * sizeof(Target))
        if self.m.target == NULL:
            raise MemoryError
        for address, port in targets:
            if len(address) != 4:
                raise ValueError("addresses have 4 bytes")
            self.m.target[self.m.n_targets].address = ld32(<const uint8_t *>address)
            self.m.target[self.m.n_targets].port = port
            self.m.n_targets += 1
        return 0

    cdef int set_sizes(self, list sizes) except -1:
        cdef uint64_t sum = 0
        if not 0 < len(sizes) <= SIZES_MOST:
            raise ValueError(f"there are 1 to {SIZES_MOST} sizes")
        for size, weight in sizes:
            if not LEAST <= size <= MOST or weight < 1:
                raise ValueError(f"frames have {LEAST} to {MOST} bytes, and weights are 1 or more")
            sum += <uint64_t>weight
            self.m.size[self.m.n_sizes].bytes = size
            self.m.size[self.m.n_sizes].upto = sum
            self.m.n_sizes += 1
        return 0

    cdef void *writable(self, object buffer, uint64_t *size) except NULL:
        cdef Py_buffer *view = &self.view[self.n_views]
        PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
        self.n_views += 1
        size[0] = view.len
        return view.buf

    cdef int close_views(self) except -1:
        while self.n_views:
            self.n_views -= 1
            PyBuffer_Release(&self.view[self.n_views])
        return 0

    @property
    def made(self):
        return self.m.made

    def fill(self, data, starts, lengths, times):
        cdef uint64_t room, n_starts, n_lengths, n_times, made
        cdef void *to[VIEWS]
        try:
            to[0], to[1] = self.writable(data, &room), self.writable(starts, &n_starts)
            to[2], to[3] = self.writable(lengths, &n_lengths), self.writable(times, &n_times)
            with nogil:
                made = make_batch(&self.m, <uint8_t *>to[0], room, min(n_starts // 8, n_lengths // 4, n_times // 8), <uint64_t *>to[1],
                                  <uint32_t *>to[2], <int64_t *>to[3])
        finally:
            self.close_views()
        return made

    def records(self, data, uint64_t most):
        cdef uint64_t room, made = 0, size
        cdef void *to
        try:
            to = self.writable(data, &room)
            with nogil:
                size = make_records(&self.m, <uint8_t *>to, room, most, &made)
        finally:
            self.close_views()
        return made, size
