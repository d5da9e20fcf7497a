# The Internet checksum over many bytes, eight at a time, in the machine's own byte order (RFC 1071 2(B): the order does not matter).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* 16 bits; never 0 unless every bit that went in was 0. */
    static inline uint32_t sum_fold(uint64_t sum)
    {
        sum = (sum & 0xffffffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        return (uint32_t)((sum & 0xffff) + (sum >> 16));
    }

    static inline uint16_t raw16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
    static inline uint32_t raw32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t raw64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline void put_raw16(uint8_t *p, uint32_t v) { uint16_t w = (uint16_t)v; memcpy(p, &w, 2); }
    static inline uint32_t sum_word(uint64_t w) { w = (w & 0xffffffff) + (w >> 32); return (uint32_t)((w & 0xffff) + (w >> 16)); }

    /* Not folded; an odd last byte counts as if a zero followed. */
    static inline uint64_t sum_bytes(const uint8_t *p, uint32_t n)
    {
        uint64_t a = 0, b = 0, w;
        uint16_t last = 0;
        for (; n >= 16; p += 16, n -= 16) {
            w = raw64(p);
            a += (w & 0xffffffff) + (w >> 32);
            w = raw64(p + 8);
            b += (w & 0xffffffff) + (w >> 32);
        }
        a += b;
        if (n >= 8) {
            w = raw64(p);
            a += (w & 0xffffffff) + (w >> 32);
            p += 8, n -= 8;
        }
        if (n >= 4) {
            a += raw32(p);
            p += 4, n -= 4;
        }
        if (n >= 2) {
            a += raw16(p);
            p += 2, n -= 2;
        }
        if (n) {
            memcpy(&last, p, 1);
            a += last;
        }
        return a;
    }

    /* 16 bytes or more that do not overlap; short ones without a call. */
    static inline void copy_short(uint8_t *to, const uint8_t *from, uint32_t n)
    {
        uint8_t *end = to + n - 16;
        const uint8_t *last = from + n - 16;
        if (n > 128) {
            memcpy(to, from, n);
            return;
        }
        for (; to < end; to += 16, from += 16)
            memcpy(to, from, 16);
        memcpy(end, last, 16);
    }

    /* A small integer as the 16 bits that stand for it in network byte order. */
    static inline uint16_t net16(uint32_t v)
    {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return (uint16_t)v;
    #else
        return (uint16_t)((v << 8) | ((v >> 8) & 0xff));
    #endif
    }
    """
    uint32_t sum_fold(uint64_t sum) noexcept nogil
    uint16_t raw16(const uint8_t *p) noexcept nogil
    uint32_t raw32(const uint8_t *p) noexcept nogil
    uint64_t raw64(const uint8_t *p) noexcept nogil
    void put_raw16(uint8_t *p, uint32_t v) noexcept nogil
    uint32_t sum_word(uint64_t w) noexcept nogil
    uint64_t sum_bytes(const uint8_t *p, uint32_t n) noexcept nogil
    uint16_t net16(uint32_t v) noexcept nogil
    void copy_short(uint8_t *to, const uint8_t *from_, uint32_t n) noexcept nogil


cdef inline uint64_t sum_pseudo(const uint8_t *ip, uint32_t n) noexcept nogil:
    """Of the pseudo header of RFC 768 and 793 for ``n`` bytes behind an IPv4 header; not folded."""
    return <uint64_t>raw32(ip + 12) + raw32(ip + 16) + net16(ip[9]) + net16(n)
