# pcapng blocks, as they are written: little-endian, nanoseconds (IETF draft-ietf-opsawg-pcapng).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.wire.bytes cimport copy_over

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


cdef extern from *:
    """
    static inline void dp_st32le(uint8_t *p, uint32_t v)
    {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap32(v);
    #endif
        memcpy(p, &v, 4);
    }
    /* Two words of 32 bits. */
    static inline void dp_st64le(uint8_t *p, uint32_t first, uint32_t second)
    {
        uint64_t v = first | (uint64_t)second << 32;
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
    #endif
        memcpy(p, &v, 8);
    }
    """
    void st32le "dp_st32le"(uint8_t *p, uint32_t v) noexcept nogil
    void st64le "dp_st64le"(uint8_t *p, uint32_t first, uint32_t second) noexcept nogil


cdef inline uint64_t block_size(uint64_t n, uint64_t more) noexcept nogil:
    """Bytes of the block of ``n`` bytes of a packet, with ``more`` options than direction and packet id."""
    return EPB_HEAD + ((n + 3) & ~<uint64_t>3) + EPB_OPTIONS + more + EPB_TAIL


cdef inline uint8_t *block_head(uint8_t *p, uint32_t total, uint32_t interface, int64_t time, uint32_t size) noexcept nogil:
    """All but the bytes of the packet and the options; where the bytes go."""
    st64le(p, ENHANCED_PACKET, total)
    st64le(p + 8, interface, <uint32_t>(<uint64_t>time >> 32))
    st64le(p + 16, <uint32_t>time, size)
    st32le(p + 24, size)
    st64le(p + total - EPB_TAIL, 0, total)
    return p + EPB_HEAD


cdef inline uint8_t *block_bytes(uint8_t *p, const uint8_t *data, uint32_t n, bint over) noexcept nogil:
    """The packet's; where options go. ``over``: what copy_over() copies besides lies in memory that may be read, and written, and
    will be written anew."""
    if over:
        copy_over(p, data, n)
    elif n:
        memcpy(p, data, n)
    return block_padding(p, n)


cdef inline uint8_t *block_padding(uint8_t *p, uint32_t n) noexcept nogil:
    """Zeros behind ``n`` bytes at ``p``, up to where options go, and in these to come; where that is."""
    st32le(p + n, 0)
    return p + ((n + 3) & ~<uint32_t>3)


cdef inline uint8_t *block_options(uint8_t *p, bint outgoing, uint32_t packet) noexcept nogil:
    """Direction and packet id; where further options go."""
    st64le(p, OPT_EPB_FLAGS | 4 << 16, OUTBOUND if outgoing else INBOUND)
    st64le(p + 8, OPT_EPB_PACKETID | 8 << 16, packet)
    st32le(p + 16, 0)
    return p + EPB_OPTIONS


cdef inline uint8_t *block_verdict(uint8_t *p, int verdict) noexcept nogil:
    """What became of the packet, unless that is not told (-1); where further options go."""
    if verdict < 0:
        return p
    st64le(p, OPT_EPB_VERDICT | 9 << 16, VERDICT_TC | <uint32_t>verdict << 8)
    st64le(p + 8, 0, 0)
    return p + EPB_VERDICT
