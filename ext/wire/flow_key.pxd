# Which flow a packet shows that it belongs to: addresses, protocol and ports, read from bytes that may be anything.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ether cimport ethertype_is_vlan
from ext.wire.ipv4 cimport IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

cdef enum:
    EXT_HOP_BY_HOP = 0
    EXT_ROUTING = 43
    EXT_FRAGMENT = 44
    EXT_AUTHENTICATION = 51
    EXT_DESTINATION = 60
    EXT_LEAST = 8
    HEADER4 = 20
    HEADER6 = 40

cdef struct FlowKey:
    uint8_t source[16]
    uint8_t destination[16]
    uint8_t alen  # of an address; 0: no packet, or one that is cut in its header
    uint8_t protocol
    uint8_t ports  # it shows some
    uint8_t fragmented
    uint16_t sport
    uint16_t dport


cdef inline int bare_ip_version(const uint8_t *p, uint32_t n) noexcept nogil:
    """4 or 6 for bytes that are an IP packet without link header, else 0: version and lengths agree."""
    if n >= HEADER4 and p[0] >> 4 == 4 and p[0] & 15 >= 5 and ld16(p + 2) == n:
        return 4
    if n >= HEADER6 and p[0] >> 4 == 6 and ld16(p + 4) + HEADER6 == <int>n:
        return 6
    return 0


cdef inline uint32_t network_offset(const uint8_t *p, uint32_t n) noexcept nogil:
    """Where the network layer of an Ethernet frame starts, behind 802.1Q and 802.1ad tags; it may lie behind the end."""
    cdef uint32_t at = 12
    while at + 2 <= n and ethertype_is_vlan(ld16(p + at)):
        at += 4
    return at + 2


cdef inline void key_ports(FlowKey *k, const uint8_t *p, uint32_t n, uint32_t at) noexcept nogil:
    """``at``: where the transport header begins; at the end of the packet where there is none."""
    k.ports = (k.protocol == IPPROTO_TCP or k.protocol == IPPROTO_UDP or k.protocol == IPPROTO_SCTP) and n >= at + 4
    if k.ports:
        k.sport = <uint16_t>ld16(p + at)
        k.dport = <uint16_t>ld16(p + at + 2)


cdef inline bint is_extension(int protocol) noexcept nogil:
    return (protocol == EXT_HOP_BY_HOP or protocol == EXT_ROUTING or protocol == EXT_FRAGMENT or protocol == EXT_AUTHENTICATION
            or protocol == EXT_DESTINATION)


cdef inline void key_ipv6(FlowKey *k, const uint8_t *p, uint32_t n) noexcept nogil:
    """Walk the extension headers; behind those that cannot be read are no ports."""
    cdef uint32_t at = HEADER6, size
    k.protocol = p[6]
    while is_extension(k.protocol) and at + EXT_LEAST <= n:
        size = 8 * (<uint32_t>p[at + 1] + 1)
        if k.protocol == EXT_AUTHENTICATION:
            size = 4 * (<uint32_t>p[at + 1] + 2)  # RFC 4302 2.2
        elif k.protocol == EXT_FRAGMENT:
            size = EXT_LEAST if ld16(p + at + 2) < 8 else n  # a later fragment: no header of anything
            k.fragmented |= ld16(p + at + 2) & 0xfff9 != 0
        k.protocol = p[at]
        at += size
    key_ports(k, p, n, n if is_extension(k.protocol) and at < n else at)


cdef inline void packet_key(FlowKey *k, const uint8_t *p, uint32_t n) noexcept nogil:
    """Of an IPv4 or IPv6 packet of ``n`` bytes."""
    cdef int fragment
    k.alen = k.ports = k.fragmented = 0
    if n >= HEADER4 and p[0] >> 4 == 4:
        fragment = ld16(p + 6)
        k.alen = 4
        memcpy(k.source, p + 12, 4)
        memcpy(k.destination, p + 16, 4)
        k.protocol = p[9]
        k.fragmented = fragment & 0x3fff != 0
        key_ports(k, p, n, n if fragment & 0x1fff else (p[0] & 15) * 4)
    elif n >= HEADER6 and p[0] >> 4 == 6:
        k.alen = 16
        memcpy(k.source, p + 8, 16)
        memcpy(k.destination, p + 24, 16)
        key_ipv6(k, p, n)


cdef inline void frame_key(FlowKey *k, const uint8_t *p, uint32_t n, bint ethernet) noexcept nogil:
    """Of a frame, or of a packet on a device without Ethernet headers."""
    cdef uint32_t at = network_offset(p, n) if ethernet else 0
    k.alen = 0
    if at < n:
        packet_key(k, p + at, n - at)


cdef inline bint same_address(const uint8_t *a, const uint8_t *b, int alen) noexcept nogil:
    return ld32(a) == ld32(b) and (alen == 4 or memcmp(a, b, alen) == 0)


cdef inline bint same_source(const FlowKey *a, const FlowKey *b) noexcept nogil:
    return a.alen == b.alen and same_address(a.source, b.source, a.alen)


cdef inline bint same_destination(const FlowKey *a, const FlowKey *b) noexcept nogil:
    return a.alen == b.alen and same_address(a.destination, b.destination, a.alen)
