# Link headers of captured packets: what they say of the network layer behind them (tcpdump.org, LINKTYPE_* pages).

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6

cdef enum:
    LINKTYPE_NULL = 0
    LINKTYPE_ETHERNET = 1
    LINKTYPE_RAW_DLT = 12
    LINKTYPE_RAW = 101
    LINKTYPE_LOOP = 108
    LINKTYPE_LINUX_SLL = 113
    LINKTYPE_IPV4 = 228
    LINKTYPE_IPV6 = 229
    LINKTYPE_LINUX_SLL2 = 276

cdef struct Link:
    uint32_t header  # bytes in front of the network layer
    uint16_t ethertype  # 0: not one that we know


cdef inline uint16_t family_ethertype(uint32_t family) noexcept nogil:
    """Of Linux, Windows, OpenBSD and NetBSD, FreeBSD, macOS."""
    if family == 2:
        return ETHERTYPE_IPV4
    return ETHERTYPE_IPV6 if family in (10, 23, 24, 28, 30) else 0


cdef inline bint link_bare(uint16_t kind, const uint8_t *p, uint32_t n, Link *link) noexcept nogil:
    """What a link type without Ethernet header says; False: it cannot be read so, or is cut off."""
    cdef uint32_t family
    link.header = 0
    link.ethertype = 0
    if kind == LINKTYPE_RAW or kind == LINKTYPE_RAW_DLT or kind == LINKTYPE_IPV4 or kind == LINKTYPE_IPV6:
        if n and p[0] >> 4 == 4:
            link.ethertype = ETHERTYPE_IPV4
        elif n and p[0] >> 4 == 6:
            link.ethertype = ETHERTYPE_IPV6
        return True
    if kind == LINKTYPE_LINUX_SLL:
        link.header = 16
        if n >= 16:
            link.ethertype = ld16(p + 14)
        return n >= 16
    if kind == LINKTYPE_LINUX_SLL2:
        link.header = 20
        if n >= 20:
            link.ethertype = ld16(p)
        return n >= 20
    if (kind != LINKTYPE_NULL and kind != LINKTYPE_LOOP) or n < 4:
        return False
    link.header = 4
    family = ld32(p)
    if kind == LINKTYPE_NULL and family > 0xffff:  # host byte order of whoever captured
        family = <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]
    link.ethertype = family_ethertype(family)
    return True
