# Ethernet II header: destination, source, EtherType (IEEE 802.3), and the 802.1Q tag.

from libc.stdint cimport uint8_t, uint32_t
from ext.wire.bytes cimport raw16, raw32

cdef enum:
    ETH_ALEN = 6
    ETH_HLEN = 14
    VLAN_HLEN = 4
    ETH_DST = 0
    ETH_SRC = 6
    ETH_TYPE = 12
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_TEB = 0x6558  # transparent Ethernet bridging: an Ethernet frame (RFC 1701)
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_IPV6 = 0x86dd
    ETHERTYPE_QINQ = 0x88a8
    ETHERTYPE_MIN = 0x0600  # below it the field is an 802.3 length


cdef inline bint mac_equal(const uint8_t *a, const uint8_t *b) noexcept nogil:
    return raw32(a) == raw32(b) and raw16(a + 4) == raw16(b + 4)


cdef inline bint mac_is_multicast(const uint8_t *m) noexcept nogil:
    return m[0] & 1


cdef inline bint mac_is_zero(const uint8_t *m) noexcept nogil:
    return (m[0] | m[1] | m[2] | m[3] | m[4] | m[5]) == 0


cdef inline bint mac_is_broadcast(const uint8_t *m) noexcept nogil:
    return (m[0] & m[1] & m[2] & m[3] & m[4] & m[5]) == 0xff


cdef inline bint mac_is_link_local_group(const uint8_t *m) noexcept nogil:
    """01:80:c2:00:00:00 to 0f, which bridges do not forward (IEEE 802.1D 7.12.6)."""
    return m[0] == 0x01 and m[1] == 0x80 and m[2] == 0xc2 and m[3] == 0 and m[4] == 0 and (m[5] & 0xf0) == 0


cdef inline bint ethertype_is_vlan(uint32_t t) noexcept nogil:
    return t == ETHERTYPE_VLAN or t == ETHERTYPE_QINQ
