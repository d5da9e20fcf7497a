# Seeded 64-bit mixing: every random choice of the emulated kernel is a hash of the seed and its subject.

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy
from ext.wire.bytes cimport ld32, ld64, raw32, raw64


cdef extern from *:
    """
    #include <stdint.h>

    /* Both halves of the product: every bit of a reaches every bit. */
    static inline uint64_t dp_multiply_fold(uint64_t a, uint64_t b)
    {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t dp_multiply_fold(uint64_t a, uint64_t b) noexcept nogil


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    """Finaliser of SplitMix64: every input bit reaches every output bit."""
    x ^= x >> 30
    x *= <uint64_t>0xbf58476d1ce4e5b9
    x ^= x >> 27
    x *= <uint64_t>0x94d049bb133111eb
    return x ^ (x >> 31)


cdef inline uint64_t draw_hash(uint64_t subject, uint16_t n) noexcept nogil:
    """The ``n``-th draw for the subject of this hash."""
    return mix64(subject + n)


cdef inline uint64_t hash_begin(uint64_t seed, int n) noexcept nogil:
    """hash_bytes() of ``n`` bytes, word by word."""
    return mix64(seed + <uint64_t>0x9e3779b97f4a7c15 * <uint64_t>(n + 1))


cdef inline uint64_t hash_step(uint64_t h, uint64_t word) noexcept nogil:
    return mix64(h ^ word) + <uint64_t>0x9e3779b97f4a7c15


cdef inline uint64_t hash_end(uint64_t h) noexcept nogil:
    return mix64(h)


cdef inline uint64_t hash_bytes(uint64_t seed, const uint8_t *p, int n) noexcept nogil:
    cdef uint64_t h = hash_begin(seed, n), w
    while n >= 8:
        h = hash_step(h, ld64(p))
        p += 8
        n -= 8
    if n:
        w = 0
        if n >= 4:
            w = ld32(p)
            p += 4
            n -= 4
        while n:
            w = (w << 8) | p[0]
            p += 1
            n -= 1
        h = hash_step(h, w)
    return hash_end(h)


cdef inline uint64_t word_hash(uint64_t seed, uint64_t word) noexcept nogil:
    """For the insides of tables, where a hash decides nothing that can be seen: of one word, which may be a hash itself."""
    return dp_multiply_fold(word ^ seed * <uint64_t>0x9e3779b97f4a7c15, <uint64_t>0xbf58476d1ce4e5b9)


cdef inline uint64_t words_hash(uint64_t seed, const uint8_t *p, size_t n) noexcept nogil:
    """The same of many bytes: one multiplication for sixteen of them."""
    cdef uint64_t rest[2]
    cdef uint64_t h = seed ^ n
    while n >= 16:
        h = dp_multiply_fold(raw64(p) ^ <uint64_t>0x9e3779b97f4a7c15, raw64(p + 8) ^ h)
        p += 16
        n -= 16
    if n == 0:
        return word_hash(h, 0)
    rest[0] = rest[1] = 0
    memcpy(rest, p, n)
    return word_hash(h ^ rest[0], rest[1])


cdef inline uint64_t address_hash(const uint8_t *address, int n) noexcept nogil:
    """The same of a MAC or IP address: 6, 4 or 16 bytes."""
    if n == 4:
        return word_hash(4, raw32(address))
    if n == 6:
        return word_hash(6, <uint64_t>raw32(address) << 32 | raw32(address + 2))
    return word_hash(word_hash(16, raw64(address)), raw64(address + 8))
