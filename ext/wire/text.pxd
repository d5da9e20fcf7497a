# Addresses as people write them, for the details of events.

from libc.stdint cimport uint8_t
from libc.stdio cimport snprintf
from ext.wire.bytes cimport ld16


cdef inline void longest_zeros(const uint8_t *a, int *first, int *count) noexcept nogil:
    """The run of zero words that "::" stands for (RFC 5952 4.2): the longest, the first of equals, at least two."""
    cdef int i = 0, n
    first[0] = -1
    count[0] = 1
    while i < 8:
        n = 0
        while i + n < 8 and ld16(a + 2 * (i + n)) == 0:
            n += 1
        if n > count[0]:
            first[0] = i
            count[0] = n
        i += n + 1


cdef inline int put_address(char *to, int room, const uint8_t *a, int family) noexcept nogil:
    """Write an address, at most ``room`` bytes with the terminating zero; returns its length."""
    cdef int i = 0, n = 0, first, count
    if room < 48:
        return 0
    if family == 4:
        return snprintf(to, room, b"%d.%d.%d.%d", a[0], a[1], a[2], a[3])
    longest_zeros(a, &first, &count)
    while i < 8:
        if i == first:
            n += snprintf(to + n, room - n, b"::")
            i += count
            continue
        n += snprintf(to + n, room - n, b":%x" if i and i != first + count else b"%x", ld16(a + 2 * i))
        i += 1
    return n
