# What is broken on purpose: faults that are met in the field, switched on per device.

from libc.stdint cimport uint8_t, uint32_t
from ext.devices.core cimport Dev
from ext.stages.verdict cimport DROPS_FAULT
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_ICMP, IPPROTO_ICMPV6, IPV4_FRAG, IPV4_HLEN, IPV4_OFFSET, IPV4_PROTO, ipv4_hlen
from ext.wire.ipv6 cimport IPV6_HLEN, IPV6_NEXT
from ext.wire.packet cimport Pkt

cdef enum:
    FAULT_TOO_BIG_FILTERED = DROPS_FAULT
    UNREACHABLE = 3  # RFC 792
    FRAGMENTATION_NEEDED = 4
    PACKET_TOO_BIG = 2  # RFC 4443 3.2


cdef inline const char *fault_reason(int r) noexcept nogil:
    if r == FAULT_TOO_BIG_FILTERED:
        return b"fault/too_big_filtered\tThe network is set to filter ICMP messages of packets that are too big\t"
    return NULL


cdef inline bint says_too_big(const Pkt *p) noexcept nogil:
    """ICMP fragmentation needed or ICMPv6 packet too big, as a filter of the network sees it: without looking into tunnels."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint32_t n = p.end - p.l3, at
    if p.protocol == ETHERTYPE_IPV4 and n >= IPV4_HLEN:
        at = ipv4_hlen(ip)
        return (ip[IPV4_PROTO] == IPPROTO_ICMP and ld16(ip + IPV4_FRAG) & IPV4_OFFSET == 0 and n >= at + 2
                and ip[at] == UNREACHABLE and ip[at + 1] == FRAGMENTATION_NEEDED)
    return p.protocol == ETHERTYPE_IPV6 and n > IPV6_HLEN and ip[IPV6_NEXT] == IPPROTO_ICMPV6 and ip[IPV6_HLEN] == PACKET_TOO_BIG


cdef inline int fault_received(const Dev *d, const Pkt *p) noexcept nogil:
    """0, or a drop."""
    return -FAULT_TOO_BIG_FILTERED if d.filters_too_big and says_too_big(p) else 0
