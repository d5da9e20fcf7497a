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
    TC_ACT_OK = 0  # Linux include/uapi/linux/pkt_cls.h
    TC_ACT_SHOT = 2
    NO_VERDICT = -1
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
    int verdict  # TC_ACT_*, -1: none
    uint64_t comments  # bytes of options that the caller writes behind the others


cdef extern from *:
    """
    static inline void dp_st16le(uint8_t *p, uint16_t v)
    {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap16(v);
    #endif
        memcpy(p, &v, 2);
    }
    static inline void dp_st32le(uint8_t *p, uint32_t v)
    {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap32(v);
    #endif
        memcpy(p, &v, 4);
    }
    """
    void st16le "dp_st16le"(uint8_t *p, uint16_t v) noexcept nogil
    void st32le "dp_st32le"(uint8_t *p, uint32_t v) noexcept nogil


cdef inline uint64_t block_size(const PacketBlock *b) noexcept nogil:
    """Bytes of the whole block."""
    cdef uint64_t size = <uint64_t>b.n_link + b.n
    return EPB_HEAD + ((size + 3) & ~<uint64_t>3) + EPB_OPTIONS + (EPB_VERDICT if b.verdict >= 0 else 0) + b.comments + EPB_TAIL


cdef inline uint8_t *block_head(uint8_t *p, uint32_t total, uint32_t interface, int64_t time, uint32_t size) noexcept nogil:
    """All but the bytes of the packet and the options; where the bytes go."""
    st32le(p, ENHANCED_PACKET)
    st32le(p + 4, total)
    st32le(p + 8, interface)
    st32le(p + 12, <uint32_t>(<uint64_t>time >> 32))
    st32le(p + 16, <uint32_t>time)
    st32le(p + 20, size)
    st32le(p + 24, size)
    st32le(p + total - EPB_TAIL, 0)
    st32le(p + total - 4, total)
    return p + EPB_HEAD


cdef inline uint8_t *block_options(uint8_t *p, bint outgoing, uint32_t packet) noexcept nogil:
    """Direction and packet id; where further options go."""
    st16le(p, OPT_EPB_FLAGS)
    st16le(p + 2, 4)
    st32le(p + 4, OUTBOUND if outgoing else INBOUND)
    st16le(p + 8, OPT_EPB_PACKETID)
    st16le(p + 10, 8)
    st32le(p + 12, packet)
    st32le(p + 16, 0)
    return p + EPB_OPTIONS


cdef inline uint8_t *block_write(const PacketBlock *b, uint8_t *p) noexcept nogil:
    """Write all but the comments at ``p``, which has room for ``block_size()`` bytes; where the comments go."""
    cdef uint32_t size = b.n_link + b.n
    p = block_head(p, <uint32_t>block_size(b), b.interface, b.time, size)
    if b.n_link:
        memcpy(p, b.link, b.n_link)
    if b.n:
        memcpy(p + b.n_link, b.data, b.n)
    p += size
    while size & 3:
        p[0] = 0
        p += 1
        size += 1
    p = block_options(p, b.outgoing, b.packet)
    if b.verdict >= 0:
        memset(p, 0, EPB_VERDICT)
        st16le(p, OPT_EPB_VERDICT)
        st16le(p + 2, 9)
        p[4] = VERDICT_TC
        p[5] = <uint8_t>b.verdict
        p += EPB_VERDICT
    return p
