# What was dropped, as a capture of its device would show it: with an Ethernet header or without.

from libc.stdint cimport uint8_t, uint32_t
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ethertype_is_vlan

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


cdef inline int bare_ip_version(const uint8_t *p, uint32_t n) noexcept nogil:
    """4 or 6 for bytes that are an IP packet without link header, else 0: version and lengths agree."""
    if n >= 20 and p[0] >> 4 == 4 and p[0] & 15 >= 5 and ld16(p + 2) == n:
        return 4
    if n >= 40 and p[0] >> 4 == 6 and ld16(p + 4) + 40 == <int>n:
        return 6
    return 0


cdef inline uint32_t network_offset(const uint8_t *p, uint32_t n) noexcept nogil:
    """Where the network layer of an Ethernet frame starts, behind 802.1Q and 802.1ad tags; it may lie behind the end."""
    cdef uint32_t at = 12
    while at + 2 <= n and ethertype_is_vlan(ld16(p + at)):
        at += 4
    return at + 2


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
