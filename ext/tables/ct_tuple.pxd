# The layer-4 half of a conntrack tuple: two 16-bit values in host byte order.
#   TCP, UDP, UDP-Lite, SCTP: source and destination port
#   ICMP, ICMPv6:             identifier; type << 8 | code
#   GRE:                      keys
#   anything else:            0, 0
# Source: net/netfilter/nf_conntrack_core.c, nf_ct_get_tuple() and nf_ct_invert_tuple().

from libc.stdint cimport uint8_t, uint16_t

from ext.tables.ct_gre cimport ct_gre_pkt_to_tuple
from ext.tables.ct_icmp cimport ct_icmp_pkt_to_tuple, ct_icmp_reply_type, ct_icmpv6_reply_type
from ext.wire.bytes cimport ld16, rarely


# IANA protocol numbers of the protocols that have a tracker.
cdef enum:
    CT_PROTO_ICMP = 1
    CT_PROTO_TCP = 6
    CT_PROTO_UDP = 17
    CT_PROTO_GRE = 47
    CT_PROTO_ICMPV6 = 58
    CT_PROTO_SCTP = 132
    CT_PROTO_UDPLITE = 136

cdef enum:
    CT_PORTS = 4  # bytes of two ports: enough even where an ICMP error quotes no more


cdef inline bint ct_has_ports(int proto) noexcept nogil:
    return proto == CT_PROTO_TCP or proto == CT_PROTO_UDP or proto == CT_PROTO_SCTP or proto == CT_PROTO_UDPLITE


cdef inline bint ct_pkt_to_tuple(int proto, const uint8_t *l4, int l4len, uint16_t *src, uint16_t *dst) noexcept nogil:
    """False: the packet has no tuple, so it is INVALID. Also for the packet that an ICMP error quotes."""
    if not rarely(not ct_has_ports(proto)):
        if rarely(l4len < CT_PORTS):
            return False
        src[0] = ld16(l4)
        dst[0] = ld16(l4 + 2)
        return True
    if proto == CT_PROTO_ICMP or proto == CT_PROTO_ICMPV6:
        return ct_icmp_pkt_to_tuple(l4, l4len, src, dst)
    if proto == CT_PROTO_GRE:
        return ct_gre_pkt_to_tuple(l4, l4len, src, dst)
    src[0] = 0
    dst[0] = 0
    return True


cdef inline bint ct_invert_tuple(int proto, uint16_t src, uint16_t dst, uint16_t *reply_src, uint16_t *reply_dst) noexcept nogil:
    """The same half of the tuple that an answer has. False: nothing can answer it (an ICMP type that is no query)."""
    cdef int reply_type
    if proto != CT_PROTO_ICMP and proto != CT_PROTO_ICMPV6:
        reply_src[0] = dst
        reply_dst[0] = src
        return True
    reply_type = ct_icmp_reply_type(dst >> 8) if proto == CT_PROTO_ICMP else ct_icmpv6_reply_type(dst >> 8)
    if reply_type < 0:
        return False
    reply_src[0] = src
    reply_dst[0] = <uint16_t>(reply_type << 8 | (dst & 0xFF))
    return True
