# pcapng blocks, as they are written: little-endian, nanoseconds (IETF draft-ietf-opsawg-pcapng).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    ENHANCED_PACKET = 6
    OPT_EPB_FLAGS = 2
    OPT_EPB_PACKETID = 5
    OPT_EPB_VERDICT = 7
    INBOUND = 1
    OUTBOUND = 2
    VERDICT_TC = 1
    TC_ACT_SHOT = 2  # Linux include/uapi/linux/pkt_cls.h
    EPB_HEAD = 28  # type, length, interface, time, captured and original length
    EPB_OPTIONS = 20  # epb_flags and epb_packetid
    EPB_VERDICT = 16
    EPB_TAIL = 8  # end of options, length again

cdef struct PacketBlock:
    uint32_t interface
    int64_t time
    bint outgoing
    uint32_t packet
    const uint8_t *link  # a link header that the bytes lack, or NULL
    uint32_t n_link
    const uint8_t *data
    uint32_t n
    bint dropped
    uint64_t comments  # bytes of options that the caller writes behind the others


cdef inline void st16le(uint8_t *p, uint16_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)


cdef inline void st32le(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)
    p[2] = <uint8_t>(v >> 16)
    p[3] = <uint8_t>(v >> 24)


cdef inline uint64_t block_size(const PacketBlock *b) noexcept nogil:
    """Bytes of the whole block."""
    cdef uint64_t size = <uint64_t>b.n_link + b.n
    return EPB_HEAD + ((size + 3) & ~<uint64_t>3) + EPB_OPTIONS + (EPB_VERDICT if b.dropped else 0) + b.comments + EPB_TAIL


cdef inline uint8_t *block_write(const PacketBlock *b, uint8_t *p) noexcept nogil:
    """Write all but the comments at ``p``, which has room for ``block_size()`` bytes; where the comments go."""
    cdef uint32_t size = b.n_link + b.n, total = <uint32_t>block_size(b)
    st32le(p, ENHANCED_PACKET)
    st32le(p + 4, total)
    st32le(p + 8, b.interface)
    st32le(p + 12, <uint32_t>(<uint64_t>b.time >> 32))
    st32le(p + 16, <uint32_t>b.time)
    st32le(p + 20, size)
    st32le(p + 24, size)
    memset(p + total - EPB_TAIL, 0, 4)
    st32le(p + total - 4, total)
    p += EPB_HEAD
    if b.n_link:
        memcpy(p, b.link, b.n_link)
    if b.n:
        memcpy(p + b.n_link, b.data, b.n)
    p += size
    while size & 3:
        p[0] = 0
        p += 1
        size += 1
    st16le(p, OPT_EPB_FLAGS)
    st16le(p + 2, 4)
    st32le(p + 4, OUTBOUND if b.outgoing else INBOUND)
    st16le(p + 8, OPT_EPB_PACKETID)
    st16le(p + 10, 8)
    st32le(p + 12, b.packet)
    st32le(p + 16, 0)
    p += EPB_OPTIONS
    if b.dropped:
        memset(p, 0, EPB_VERDICT)
        st16le(p, OPT_EPB_VERDICT)
        st16le(p + 2, 9)
        p[4] = VERDICT_TC
        p[5] = TC_ACT_SHOT
        p += EPB_VERDICT
    return p
