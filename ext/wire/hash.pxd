# Seeded 64-bit mixing: every random choice of the emulated kernel is a hash of the seed and its subject.

from libc.stdint cimport uint8_t, uint64_t


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    """Finaliser of SplitMix64: every input bit reaches every output bit."""
    x ^= x >> 30
    x *= <uint64_t>0xbf58476d1ce4e5b9
    x ^= x >> 27
    x *= <uint64_t>0x94d049bb133111eb
    return x ^ (x >> 31)


cdef inline uint64_t hash_bytes(uint64_t seed, const uint8_t *p, int n) noexcept nogil:
    cdef uint64_t h = mix64(seed + <uint64_t>0x9e3779b97f4a7c15 * <uint64_t>(n + 1)), w
    cdef int i, k
    for i in range(0, n, 8):
        w = 0
        for k in range(8 if n - i > 8 else n - i):
            w = (w << 8) | p[i + k]
        h = mix64(h ^ w) + <uint64_t>0x9e3779b97f4a7c15
    return mix64(h)
