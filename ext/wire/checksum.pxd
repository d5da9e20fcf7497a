# The Internet checksum (RFC 1071) and its incremental update (RFC 1624), as Linux computes them.
#
# Sums are of 16-bit big-endian words in host integers. The incremental forms add 0xffff first: the
# kernel's 32-bit arithmetic does so too (~csum_unfold), which decides between 0x0000 and 0xffff.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from ext.wire.bytes cimport ld16, ld32, raw64, st16


cdef inline uint32_t csum_fold(uint64_t sum) noexcept nogil:
    """64 bits to 16, carries brought round: 33 bits are left at first, then 18, 17 and 16."""
    sum = <uint32_t>sum + (sum >> 32)
    sum = (sum & 0xffff) + (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16)
    return <uint32_t>((sum & 0xffff) + (sum >> 16))


cdef inline uint32_t csum_from_raw(uint64_t sum) noexcept nogil:
    """The sum of big-endian words that is meant by one of words in this machine's order."""
    cdef uint32_t folded = csum_fold(sum)
    cdef uint16_t word = <uint16_t>folded
    return ld16(<const uint8_t *>&word)


cdef inline uint32_t csum_add_bytes(const uint8_t *p, uint32_t n, uint32_t sum) noexcept nogil:
    """Add ``n`` bytes to a running sum; an odd last byte counts as the high half of a word."""
    cdef uint64_t acc = 0, word
    while n >= 8:  # in this machine's byte order, which RFC 1071 2 (B) allows; a carry comes round
        word = raw64(p)
        acc += word
        acc += acc < word
        p += 8
        n -= 8
    acc = sum + csum_from_raw(acc)
    if n >= 4:
        acc += ld32(p)
        p += 4
        n -= 4
    if n >= 2:
        acc += ld16(p)
        p += 2
        n -= 2
    if n:
        acc += <uint32_t>p[0] << 8
    return csum_fold(acc)


cdef inline uint16_t csum_bytes(const uint8_t *p, uint32_t n) noexcept nogil:
    """The checksum field for ``n`` bytes (their own field zero), or 0 for bytes that hold a valid one."""
    return <uint16_t>(~csum_add_bytes(p, n, 0))


cdef inline uint32_t pseudo_sum(const uint8_t *src, const uint8_t *dst, int alen, uint32_t proto, uint32_t n) noexcept nogil:
    """Sum of the pseudo header of RFC 768/793 (``alen`` 4) or RFC 8200 (``alen`` 16)."""
    return csum_fold(<uint64_t>csum_add_bytes(src, alen, 0) + csum_add_bytes(dst, alen, 0) + proto + (n >> 16) + (n & 0xffff))


cdef inline void csum_replace(uint8_t *check, const uint8_t *old, const uint8_t *new, int n) noexcept nogil:
    """Update the checksum field at ``check`` for ``n`` (even) bytes that change from ``old`` to ``new``."""
    cdef uint64_t acc = 0xffff
    cdef int i
    acc += ~ld16(check) & 0xffff
    for i in range(0, n, 2):
        acc += (~ld16(old + i) & 0xffff) + ld16(new + i)
    st16(check, ~csum_fold(acc) & 0xffff)
