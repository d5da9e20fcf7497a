# Where the packets of a capture stand in its bytes: many at a time, without a Python object for each.
#
# Whatever is wrong or rare ends the search in front of it: the readers in Python (dataplane/capture/pcap.py, pcapng_read.py) take
# a closer look there, and say what it is. Every read stands behind a check of what is left.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_CAPTURED = 262144  # libpcap's MAXIMUM_SNAPLEN
    PCAP_RECORD = 16  # bytes of a record's header
    MAX_BLOCK = 16777216
    BLOCK_LEAST = 12
    BLOCK_SECTION = 0x0a0d0d0a
    BLOCK_INTERFACE = 1
    BLOCK_OBSOLETE_PACKET = 2
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_ENHANCED_PACKET = 6
    PACKET_FIXED = 20  # of an enhanced or obsolete packet block's body
    OPTION_END = 0
    OPTION_FLAGS = 2
    OPTION_PACKETID = 5

cdef struct Index:
    uint64_t capacity
    uint64_t n
    uint64_t bytes  # of the packets
    uint64_t most_bytes  # no further packet once there are as many
    uint64_t *starts
    uint32_t *lengths
    uint32_t *origs  # bytes on the wire
    int64_t *times  # ns since the epoch
    uint16_t *links  # link types

cdef struct Source:
    const uint8_t *data
    uint64_t size
    bint big_endian

cdef struct PcapForm:
    uint32_t unit  # ns of the second timestamp field
    uint16_t link
    uint32_t fcs  # bytes of a frame check sequence behind each frame

cdef struct Interface:
    # time = offset + ((ticks >> shift) * multiplier + ((ticks & low bits) * multiplier >> shift)) / divisor
    int64_t link
    int64_t snap  # 0: no limit
    int64_t fcs
    int64_t multiplier
    int64_t divisor
    int64_t shift
    int64_t offset  # ns
    int64_t plain  # 0: its times need more than 64 bits

cdef struct Block:
    uint64_t at  # of its body
    uint32_t body  # bytes
    uint32_t kind


cdef inline uint16_t get16(const Source *s, uint64_t at) noexcept nogil:
    cdef const uint8_t *p = s.data + at
    if s.big_endian:
        return <uint16_t>(p[0] << 8 | p[1])
    return <uint16_t>(p[1] << 8 | p[0])


cdef inline uint32_t get32(const Source *s, uint64_t at) noexcept nogil:
    cdef const uint8_t *p = s.data + at
    if s.big_endian:
        return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
    return <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]


cdef inline void index_add(Index *x, uint64_t start, uint32_t length, uint32_t orig, int64_t time, uint16_t link, uint32_t fcs) noexcept nogil:
    """A packet, its frame check sequence taken off: a capture cut before it holds only a part of it, or none."""
    if orig < length:
        orig = length
    if fcs:
        orig = orig - fcs if orig > fcs else 0
        if length > orig:
            length = orig
    x.starts[x.n] = start
    x.lengths[x.n] = length
    x.origs[x.n] = orig
    x.times[x.n] = time
    x.links[x.n] = link
    x.n += 1
    x.bytes += length


cdef inline uint64_t index_pcap(Index *x, const Source *s, uint64_t at, const PcapForm *form) noexcept nogil:
    """Packets from offset ``at`` on; where the next one, or what is wrong, begins."""
    cdef uint32_t captured
    while x.n < x.capacity and x.bytes < x.most_bytes and s.size - at >= PCAP_RECORD:
        captured = get32(s, at + 8)
        if captured > MAX_CAPTURED or captured > s.size - at - PCAP_RECORD:
            break
        index_add(x, at + PCAP_RECORD, captured, get32(s, at + 12),
                  <int64_t>get32(s, at) * 1000000000 + <int64_t>get32(s, at + 4) * form.unit, form.link, form.fcs)
        at += PCAP_RECORD + captured
    return at


cdef inline bint block_at(const Source *s, uint64_t at, Block *b) noexcept nogil:
    """The block that begins at ``at``; False: it is cut off, or its lengths contradict each other."""
    cdef uint32_t length
    if s.size - at < BLOCK_LEAST:
        return False
    b.kind = get32(s, at)
    length = get32(s, at + 4)
    if length < BLOCK_LEAST or length % 4 or length > MAX_BLOCK or length > s.size - at:
        return False
    b.at = at + 8
    b.body = length - BLOCK_LEAST
    return get32(s, at + length - 4) == length


cdef inline bint options_fit(const Source *s, const Block *b, uint32_t at) noexcept nogil:
    """Do the options from offset ``at`` of the body on lie within it, with the lengths that the format fixes?"""
    cdef uint32_t code, length
    while at + 4 <= b.body:
        code = get16(s, b.at + at)
        length = get16(s, b.at + at + 2)
        if code == OPTION_END:
            break
        if length > b.body - at - 4 or (code == OPTION_FLAGS and length != 4) or (code == OPTION_PACKETID and length != 8):
            return False
        at += 4 + ((length + 3) & ~<uint32_t>3)
    return True


cdef inline bint time_of(const Interface *i, uint64_t ticks, int64_t *time) noexcept nogil:
    """Nanoseconds since the epoch; False: more than 62 bits, or before it."""
    cdef uint64_t whole = ticks >> i.shift, most = <uint64_t>1 << 62
    cdef uint64_t part = (ticks & ((<uint64_t>1 << i.shift) - 1)) * i.multiplier >> i.shift
    if not i.plain or whole > (most - part) // i.multiplier:
        return False
    time[0] = i.offset + <int64_t>((whole * i.multiplier + part) // i.divisor)
    return time[0] >= 0


cdef inline bint timed_packet(Index *x, const Source *s, const Block *b, const Interface *interfaces, uint32_t n_interfaces) noexcept nogil:
    """An enhanced or an obsolete packet block; False: a closer look is due."""
    cdef uint32_t number, captured
    cdef int64_t time
    if b.body < PACKET_FIXED:
        return False
    number = get32(s, b.at) if b.kind == BLOCK_ENHANCED_PACKET else get16(s, b.at)
    captured = get32(s, b.at + 12)
    if number >= n_interfaces or captured > MAX_CAPTURED or captured > b.body - PACKET_FIXED:
        return False
    if not options_fit(s, b, PACKET_FIXED + ((captured + 3) & ~<uint32_t>3)):
        return False
    if not time_of(&interfaces[number], <uint64_t>get32(s, b.at + 4) << 32 | get32(s, b.at + 8), &time):
        return False
    index_add(x, b.at + PACKET_FIXED, captured, get32(s, b.at + 16), time, <uint16_t>interfaces[number].link, <uint32_t>interfaces[number].fcs)
    return True


cdef inline bint simple_packet(Index *x, const Source *s, const Block *b, const Interface *interfaces, uint32_t n_interfaces,
                               int64_t time) noexcept nogil:
    """A simple packet block, which has the time of the packet before it; False: a closer look is due."""
    cdef uint32_t orig, captured
    if n_interfaces == 0 or b.body < 4:
        return False
    orig = captured = get32(s, b.at)
    if interfaces[0].snap and captured > interfaces[0].snap:
        captured = <uint32_t>interfaces[0].snap
    if captured > MAX_CAPTURED or captured > b.body - 4:
        return False
    index_add(x, b.at + 4, captured, orig, time, <uint16_t>interfaces[0].link, <uint32_t>interfaces[0].fcs)
    return True


cdef inline uint64_t index_pcapng(Index *x, const Source *s, uint64_t at, const Interface *interfaces, uint32_t n_interfaces,
                                  int64_t time) noexcept nogil:
    """Packets from the block at ``at`` on, ``time`` being that of the one before; where the next block, or what needs a closer look,
    begins: a section, an interface, anything damaged."""
    cdef Block b
    while x.n < x.capacity and x.bytes < x.most_bytes and block_at(s, at, &b):
        if b.kind == BLOCK_ENHANCED_PACKET or b.kind == BLOCK_OBSOLETE_PACKET:
            if not timed_packet(x, s, &b, interfaces, n_interfaces):
                break
            time = x.times[x.n - 1]
        elif b.kind == BLOCK_SIMPLE_PACKET:
            if not simple_packet(x, s, &b, interfaces, n_interfaces, time):
                break
        elif b.kind == BLOCK_SECTION or b.kind == BLOCK_INTERFACE:
            break
        at += b.body + BLOCK_LEAST
    return at
