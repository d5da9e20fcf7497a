# Loads and stores of wire integers (network byte order) at any alignment.
#
# Callers have checked that the bytes are there: one length check per header, then free reads.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    COPIED_SHORT = 512  # bytes, from which on memcpy() is faster
    COPIED_OVER = 31


cdef extern from *:
    """
    #include <string.h>

    /* memset() to zero by the library: for some hundred bytes whose number it knows, or for few whose number it does not,
       gcc writes "rep stos", which takes three times as long. */
    static inline void zero_bytes(void *p, size_t n)
    {
    #if defined(__GNUC__)
        __asm__("" : "+r"(n));
    #endif
        memset(p, 0, n);
    }

    /* A condition that does not hold where speed counts: what depends on it goes out of the way of the rest; or that holds now and then
       only: registers are for the rest. */
    #if defined(__has_builtin)
    #if __has_builtin(__builtin_expect_with_probability)
    #define rarely(x) __builtin_expect_with_probability(!!(x), 0, 1.0)
    #define seldom(x) __builtin_expect_with_probability(!!(x), 0, 0.9)
    #endif
    #endif
    #ifndef rarely
    #define rarely(x) (x)
    #define seldom(x) (x)
    #endif
    /* A compiler takes a function that does nothing but prefetch for one without effect, and leaves calls of it out: the empty assembly
       is an effect in its eyes. */
    #define ask_for(p) __extension__({ __builtin_prefetch(p); __asm__ volatile(""); })

    /* A function whose body stays out of where it is called, and so takes no registers there. */
    #if defined(__GNUC__)
    #define apart(f) __extension__({ __typeof__(&(f)) dp_apart = (f); __asm__("" : "+r"(dp_apart)); dp_apart; })
    #else
    #define apart(f) (f)
    #endif
    """
    void zero_bytes(void *p, size_t n) noexcept nogil
    bint rarely(bint x) noexcept nogil
    bint seldom(bint x) noexcept nogil
    void ask_for(const void *p) noexcept nogil  # the cache line will be read soon


cdef inline void copy_over(uint8_t *to, const uint8_t *p, uint32_t n) noexcept nogil:
    """Copy ``n`` bytes, and up to COPIED_OVER of what follows them: faster than a call for what is short."""
    cdef uint32_t i
    if n > COPIED_SHORT:
        memcpy(to, p, n)
        return
    for i in range(0, n, 32):
        memcpy(to + i, p + i, 16)
        memcpy(to + i + 16, p + i + 16, 16)


cdef inline uint16_t ld16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((<uint16_t>p[0] << 8) | p[1])


cdef inline uint32_t ld32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t ld64(const uint8_t *p) noexcept nogil:
    return <uint64_t>ld32(p) << 32 | ld32(p + 4)


cdef inline uint16_t raw16(const uint8_t *p) noexcept nogil:
    """Two bytes in the order of this machine."""
    cdef uint16_t v
    memcpy(&v, p, 2)
    return v


cdef inline uint32_t raw32(const uint8_t *p) noexcept nogil:
    """Four bytes in the order of this machine: to compare and to hash."""
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef inline uint64_t raw64(const uint8_t *p) noexcept nogil:
    cdef uint64_t v
    memcpy(&v, p, 8)
    return v


cdef inline uint64_t raw_pair(const uint8_t *src, const uint8_t *dst) noexcept nogil:
    """Two IPv4 addresses as one word."""
    return <uint64_t>raw32(src) << 32 | raw32(dst)


cdef inline void st16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 8)
    p[1] = <uint8_t>v


cdef inline void st32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v
