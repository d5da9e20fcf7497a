# The Internet checksum over many bytes, eight at a time, in the machine's own byte order (RFC 1071 2(B): the order does not matter).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* 16 bits; never 0 unless every bit that went in was 0. */
    static inline uint32_t sum_fold(uint64_t sum)
    {
        uint32_t half;
        sum += sum << 32 | sum >> 32;  /* the carry of the lower half goes into the upper one, which gets its own back */
        half = (uint32_t)(sum >> 32);
        half += half << 16 | half >> 16;
        return half >> 16;
    }

    static inline uint16_t raw16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
    static inline uint32_t raw32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t raw64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline void put_raw16(uint8_t *p, uint32_t v) { uint16_t w = (uint16_t)v; memcpy(p, &w, 2); }

    /* A small integer as the 16 bits that stand for it in network byte order. */
    static inline uint16_t net16(uint32_t v)
    {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return (uint16_t)v;
    #else
        return (uint16_t)((v << 8) | ((v >> 8) & 0xff));
    #endif
    }

    /* One more word in a sum whose carry comes round: the sum stays the same modulo 2^16 - 1. */
    static inline uint64_t sum_add(uint64_t sum, uint64_t word)
    {
        sum += word;
        return sum + (sum < word);
    }

    /* The last bytes of many, fewer than eight, as a word in whose place zeros follow them; ``p``: behind them. */
    static inline uint64_t sum_rest(const uint8_t *p, uint32_t rest)
    {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return raw64(p - 8) << (64 - 8 * rest);
    #else
        return raw64(p - 8) >> (64 - 8 * rest);
    #endif
    }

    /* Fewer than eight. */
    static uint64_t sum_few(const uint8_t *p, uint32_t n)
    {
        uint8_t word[8] = {0};
        memcpy(word, p, n);
        return (uint64_t)raw32(word) + raw32(word + 4);
    }

    /* Eight bytes or more, beside what is summed up already; an odd last byte counts as if a zero followed. Not folded, and all 64 bits
       may be used. */
    static inline __attribute__((always_inline)) uint64_t sum_more(uint64_t sum, const uint8_t *p, uint32_t n)
    {
        if (n >= 32) {
            uint64_t other = 0;
            for (; n >= 32; p += 32, n -= 32) {
                sum = sum_add(sum, raw64(p));
                other = sum_add(other, raw64(p + 8));
                sum = sum_add(sum, raw64(p + 16));
                other = sum_add(other, raw64(p + 24));
            }
            sum = sum_add(sum, other);
        }
        if (n & 16) {
            sum = sum_add(sum, raw64(p));
            sum = sum_add(sum, raw64(p + 8));
            p += 16;
        }
        if (n & 8) {
            sum = sum_add(sum, raw64(p));
            p += 8;
        }
        if (n & 7)
            sum = sum_add(sum, sum_rest(p + (n & 7), n & 7));
        return sum;
    }

    /* Is a sum, which is not 0, that of bytes with a right checksum: would sum_fold() make 0xffff of it? Then it is a multiple of 2^16 - 1,
       and multiplied by the inverse of that modulo 2^64 it is the quotient, else more than any quotient is. */
    static inline int sum_right(uint64_t sum)
    {
        return sum * 0xfffefffefffeffffu <= 0x0001000100010001u;
    }

    /* Not folded, and less than 2^33. */
    static inline __attribute__((always_inline)) uint64_t sum_bytes(const uint8_t *p, uint32_t n)
    {
        uint64_t sum = n < 8 ? sum_few(p, n) : sum_more(0, p, n);
        return (sum & 0xffffffff) + (sum >> 32);
    }

    /* Of the pseudo header of ``n`` bytes behind an IPv4 header without options, and of the first of these, eight or more; ``rest``: what
       others sum up to; not folded. */
    static inline __attribute__((always_inline)) uint64_t sum_before(const uint8_t *ip, uint32_t first, uint32_t n, uint64_t rest)
    {
        return sum_more(sum_add(sum_add(raw64(ip + 12), (uint32_t)net16(ip[9]) + net16(n)), rest), ip + 20, first);
    }

    /* Of eight bytes or more behind an IPv4 header without options, and of their pseudo header; not folded. */
    static inline __attribute__((always_inline)) uint64_t sum_transport(const uint8_t *ip, uint32_t n)
    {
        return sum_before(ip, n, n, 0);
    }

    /* Counts nothing in a sum: to subtract from. */
    #define NONE ((uint64_t)0xffff << 32)

    /* Of an IPv4 header without options, not folded. */
    static inline uint64_t sum_header(const uint8_t *ip)
    {
        return sum_add(sum_add(raw64(ip), raw64(ip + 8)), raw32(ip + 16));
    }

    /* Does an IPv4 header have no options, and neither MF nor an offset? */
    static inline int header_plain(const uint8_t *ip)
    {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return (raw64(ip) & 0xff00000000003fff) == 0x4500000000000000;
    #else
        return (raw64(ip) & 0xff3f0000000000ff) == 0x45;
    #endif
    }

    /* Are bytes the same? Without a call for as many as a tunnel's own header has, with the Ethernet header inside. */
    static inline int same_bytes(const uint8_t *a, const uint8_t *b, uint32_t n)
    {
        if (n < 16 || n > 32)
            return memcmp(a, b, n) == 0;
        return ((raw64(a) ^ raw64(b)) | (raw64(a + 8) ^ raw64(b + 8)) | (raw64(a + n - 16) ^ raw64(b + n - 16))
                | (raw64(a + n - 8) ^ raw64(b + n - 8))) == 0;
    }

    /* 16 bytes or more that do not overlap; short ones without a call, the headers last and each piece of them at once: who reads them next
       need not wait until they have reached the cache. */
    static inline void copy_short(uint8_t *to, const uint8_t *from, uint32_t n)
    {
        if (n > 64) {
            memcpy(to, from, n);
            return;
        }
        memcpy(to + n - 16, from + n - 16, 16);
        if (n > 32) {
            memcpy(to + n - 32, from + n - 32, 16);
            memcpy(to + 16, from + 16, 16);
        }
        memcpy(to, from, 16);
    }
    """
    uint32_t sum_fold(uint64_t sum) noexcept nogil
    uint16_t raw16(const uint8_t *p) noexcept nogil
    uint32_t raw32(const uint8_t *p) noexcept nogil
    uint64_t raw64(const uint8_t *p) noexcept nogil
    void put_raw16(uint8_t *p, uint32_t v) noexcept nogil
    bint sum_right(uint64_t sum) noexcept nogil
    uint64_t sum_header(const uint8_t *ip) noexcept nogil
    bint header_plain(const uint8_t *ip) noexcept nogil
    uint64_t sum_bytes(const uint8_t *p, uint32_t n) noexcept nogil
    const uint64_t NONE
    uint64_t sum_before(const uint8_t *ip, uint32_t first, uint32_t n, uint64_t rest) noexcept nogil
    uint64_t sum_transport(const uint8_t *ip, uint32_t n) noexcept nogil
    uint16_t net16(uint32_t v) noexcept nogil
    bint same_bytes(const uint8_t *a, const uint8_t *b, uint32_t n) noexcept nogil
    void copy_short(uint8_t *to, const uint8_t *from_, uint32_t n) noexcept nogil


cdef inline uint64_t sum_pseudo(const uint8_t *ip) noexcept nogil:
    """Of the pseudo header of RFC 768 and 793 for what is behind an IPv4 header without options; not folded. Its length is that of
    the packet less 20, for which in ones' complement the complement of 20 is added."""
    return <uint64_t>raw32(ip + 12) + raw32(ip + 16) + net16(ip[9]) + raw16(ip + 2) + (0xffff - <uint32_t>net16(20))
