# What was dropped, as a capture of its device would show it: with an Ethernet header or without.

from libc.stdint cimport uint8_t, uint32_t
from ext.wire.flow_key cimport bare_ip_version, network_offset

cdef enum:
    LINK_HEADER = 14

cdef extern from *:
    """
    static const unsigned char dp_no_link[2][14] = {{[12] = 0x08}, {[12] = 0x86, [13] = 0xdd}};
    """
    const uint8_t dp_no_link[2][14]  # as on a capture of lo

cdef struct Seen:
    const uint8_t *link  # a link header that stands for one, or NULL
    uint32_t skipped  # bytes of a link header that the device has none of


cdef inline Seen seen_on(const uint8_t *p, uint32_t n, bint ethernet) noexcept nogil:
    cdef int version = bare_ip_version(p, n)
    cdef Seen seen
    seen.link = NULL
    seen.skipped = 0
    if ethernet and version:
        seen.link = dp_no_link[version == 6]
    elif not ethernet and not version:
        seen.skipped = network_offset(p, n)
        if seen.skipped > n:
            seen.skipped = n
    return seen
