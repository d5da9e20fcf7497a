# The Internet checksum (RFC 1071) and its incremental update (RFC 1624), as Linux computes them.
#
# Sums are of 16-bit big-endian words in host integers. The incremental forms add 0xffff first: the
# kernel's 32-bit arithmetic does so too (~csum_unfold), which decides between 0x0000 and 0xffff.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.wire.bytes cimport ld16, raw16, raw32, raw64


cdef inline uint32_t csum_fold(uint64_t sum) noexcept nogil:
    """64 bits to 16, carries brought round: the upper half of a number and itself with its halves exchanged is their sum, carry and all."""
    cdef uint32_t half
    sum += sum << 32 | sum >> 32
    half = <uint32_t>(sum >> 32)
    half += half << 16 | half >> 16
    return half >> 16


cdef inline uint32_t csum_from_raw(uint64_t sum) noexcept nogil:
    """The sum of big-endian words that is meant by one of words in this machine's order."""
    cdef uint32_t folded = csum_fold(sum)
    cdef uint16_t word = <uint16_t>folded
    return ld16(<const uint8_t *>&word)


cdef inline uint32_t csum_add_bytes(const uint8_t *p, uint32_t n, uint32_t sum) noexcept nogil:
    """Add ``n`` bytes to a running sum; an odd last byte counts as the high half of a word."""
    cdef uint64_t acc = 0, tail = 0, word
    cdef uint8_t last[2]
    while n >= 8:  # in this machine's byte order, which RFC 1071 2 (B) allows; a carry comes round
        word = raw64(p)
        acc += word
        acc += acc < word
        p += 8
        n -= 8
    if n & 4:
        tail = raw32(p)
        p += 4
    if n & 2:
        tail += raw16(p)
        p += 2
    if n & 1:
        last[0] = p[0]
        last[1] = 0
        tail += raw16(last)
    acc += tail
    acc += acc < tail
    return csum_fold(<uint64_t>sum + csum_from_raw(acc))


cdef inline uint16_t csum_bytes(const uint8_t *p, uint32_t n) noexcept nogil:
    """The checksum field for ``n`` bytes (their own field zero), or 0 for bytes that hold a valid one."""
    return <uint16_t>(~csum_add_bytes(p, n, 0))


cdef inline uint32_t pseudo_sum(const uint8_t *src, const uint8_t *dst, int alen, uint32_t proto, uint32_t n) noexcept nogil:
    """Sum of the pseudo header of RFC 768/793 (``alen`` 4) or RFC 8200 (``alen`` 16)."""
    return csum_fold(<uint64_t>csum_add_bytes(src, alen, 0) + csum_add_bytes(dst, alen, 0) + proto + (n >> 16) + (n & 0xffff))


cdef inline void csum_replace(uint8_t *check, const uint8_t *old, const uint8_t *new, int n) noexcept nogil:
    """Update the checksum field at ``check`` for ``n`` bytes, 2 or a multiple of 4, that change from ``old`` to ``new``."""
    cdef uint64_t acc = 0
    cdef int i
    if n == 2:
        acc = <uint64_t>(~raw16(old) & 0xffff) + raw16(new)
    else:
        for i in range(0, n, 4):  # pairs of words, which folding adds
            acc += <uint64_t>(~raw32(old + i)) + raw32(new + i)
    csum_changed(check, acc)


cdef inline void csum_changed(uint8_t *check, uint64_t change) noexcept nogil:
    """``change``: of all words that change, in this machine's order, what they were, complemented, and what they are."""
    cdef uint16_t sum = <uint16_t>(~csum_fold(0xffff + <uint64_t>(~raw16(check) & 0xffff) + change))
    memcpy(check, &sum, 2)
