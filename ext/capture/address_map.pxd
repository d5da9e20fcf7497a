# Addresses mapped onto others in the headers of plain packets, as dataplane/traffic/address_map.py maps them.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.wire.bytes cimport ld16, st16

cdef enum:
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ICMPV6 = 58

cdef struct MapRule:
    uint8_t source[16]
    uint8_t mask[16]
    uint8_t target[16]
    uint8_t keeps_host  # the part that the mask leaves out stays

cdef struct AddressRules:
    MapRule *rule  # the first that fits decides
    int n


cdef inline void map_address(const AddressRules *rules, uint8_t *address, int size) noexcept nogil:
    cdef const MapRule *r
    cdef int i, k
    for i in range(rules.n):
        r = &rules.rule[i]
        k = 0
        while k < size and address[k] & r.mask[k] == r.source[k]:
            k += 1
        if k == size:
            for k in range(size):
                address[k] = r.target[k] | (address[k] & ~r.mask[k] if r.keeps_host else 0)
            return


cdef inline void update_checksum(uint8_t *p, uint32_t n, uint32_t at, const uint8_t *old, const uint8_t *new, int size) noexcept nogil:
    """RFC 1624, equation 3; left alone if it is not all there."""
    cdef uint64_t total
    cdef int i
    if n < at + 2:
        return
    total = 0xffff - ld16(p + at)
    for i in range(0, size, 2):
        total += 0xffff - ld16(old + i)
        total += ld16(new + i)
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    st16(p + at, <uint16_t>(0xffff - total))


cdef inline void update_transport(uint8_t *p, uint32_t n, uint32_t at, int protocol, const uint8_t *old, const uint8_t *new,
                                  int size) noexcept nogil:
    cdef bint is_there = n >= at + 2
    if protocol == PROTO_UDP and is_there and ld16(p + at) == 0:
        return  # the sender computed none (RFC 768)
    update_checksum(p, n, at, old, new, size)
    if protocol == PROTO_UDP and is_there and ld16(p + at) == 0:
        st16(p + at, 0xffff)


cdef inline bint differs(const uint8_t *old, const uint8_t *new, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        if old[i] != new[i]:
            return True
    return False


cdef inline bint map_ipv4(const AddressRules *rules, uint8_t *p, uint32_t n) noexcept nogil:
    """False, with nothing to be relied on: it has more addresses than those of its header."""
    cdef uint8_t old[8]
    cdef uint32_t payload = (p[0] & 15) * 4
    cdef bint is_first = ld16(p + 6) & 0x1fff == 0
    cdef int protocol = p[9]
    if is_first and protocol == PROTO_ICMP and n > payload and p[payload] in (3, 4, 5, 11, 12):
        return False
    memcpy(old, p + 12, 8)
    map_address(rules, p + 12, 4)
    map_address(rules, p + 16, 4)
    if not differs(old, p + 12, 8):
        return True
    update_checksum(p, n, 10, old, p + 12, 8)
    if is_first and protocol == PROTO_TCP:
        update_transport(p, n, payload + 16, protocol, old, p + 12, 8)
    elif is_first and protocol == PROTO_UDP:
        update_transport(p, n, payload + 6, protocol, old, p + 12, 8)
    return True


cdef inline bint map_ipv6(const AddressRules *rules, uint8_t *p, uint32_t n) noexcept nogil:
    """False, with nothing to be relied on: it has more addresses than those of its header, or extension headers."""
    cdef uint8_t old[32]
    cdef int protocol = p[6]
    if protocol in (0, 43, 44, 51, 60):
        return False
    if protocol == PROTO_ICMPV6 and n > 40 and p[40] in (1, 2, 3, 4, 135, 136, 137):
        return False
    memcpy(old, p + 8, 32)
    map_address(rules, p + 8, 16)
    map_address(rules, p + 24, 16)
    if not differs(old, p + 8, 32):
        return True
    if protocol == PROTO_TCP:
        update_transport(p, n, 56, protocol, old, p + 8, 32)
    elif protocol == PROTO_UDP:
        update_transport(p, n, 46, protocol, old, p + 8, 32)
    elif protocol == PROTO_ICMPV6:
        update_transport(p, n, 42, protocol, old, p + 8, 32)
    return True
