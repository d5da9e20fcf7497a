# Connection tracking of ICMP and ICMPv6 queries, and which messages are errors about another connection.
# Sources: net/netfilter/nf_conntrack_proto_icmp.c, net/netfilter/nf_conntrack_proto_icmpv6.c.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from ext.tables.ct_settings cimport CTS_CONFIRMED, CTV_ACCEPT, CTV_INVALID, CtSettings
from ext.wire.bytes cimport ld16


cdef enum:
    ICMP_HEADER = 8
    ICMP_ID = 4  # offset
    ICMP_HIGHEST_TYPE = 18
    ICMPV6_REDIRECT = 137
    ICMPV6_REDIRECT_HEADER = 40  # up to the options (RFC 4861, section 4.5)
    ICMPV6_REDIRECT_QUOTE = 48   # behind the 8 bytes in front of the redirected header option's packet (section 4.6.3)
    ND_OPT_REDIRECTED = 4

# What to do with a message before any look-up.
cdef enum:
    CT_ICMP_INVALID = 0
    CT_ICMP_QUERY = 1      # goes by its own tuple
    CT_ICMP_ERROR = 2      # RELATED to the connection of the packet that it quotes, INVALID without one
    CT_ICMP_UNTRACKED = 3  # neighbour discovery, multicast listener and router discovery


cdef inline int ct_icmp_reply_type(int icmp_type) noexcept nogil:
    """The type that answers or asks for ``icmp_type``; -1: it has no counterpart."""
    if icmp_type == 8 or icmp_type == 0:  # echo
        return 8 - icmp_type
    if icmp_type == 13 or icmp_type == 15 or icmp_type == 17:  # timestamp, information, address mask
        return icmp_type + 1
    if icmp_type == 14 or icmp_type == 16 or icmp_type == 18:
        return icmp_type - 1
    return -1


cdef inline int ct_icmpv6_reply_type(int icmp_type) noexcept nogil:
    """As ct_icmp_reply_type(), for echo and node information (RFC 4620)."""
    if icmp_type == 128 or icmp_type == 139:
        return icmp_type + 1
    if icmp_type == 129 or icmp_type == 140:
        return icmp_type - 1
    return -1


cdef inline bint ct_icmp_pkt_to_tuple(const uint8_t *l4, int l4len, uint16_t *id, uint16_t *type_code) noexcept nogil:
    """Both families. ``type_code``: type in the high byte, code in the low one. False: too short."""
    if l4len < ICMP_HEADER:
        return False
    id[0] = ld16(l4 + ICMP_ID)
    type_code[0] = ld16(l4)
    return True


cdef inline int ct_icmp_class(const uint8_t *l4, int l4len) noexcept nogil:
    """nf_conntrack_icmpv4_error() without the checksum, which the caller verifies. A quote begins at ICMP_HEADER."""
    cdef int t
    if l4len < ICMP_HEADER or l4[0] > ICMP_HIGHEST_TYPE:
        return CT_ICMP_INVALID
    t = l4[0]
    if t == 3 or t == 4 or t == 5 or t == 11 or t == 12:
        return CT_ICMP_ERROR
    return CT_ICMP_QUERY


cdef inline int ct_icmpv6_redirect_class(const uint8_t *l4, int l4len, int hop_limit, const uint8_t *src) noexcept nogil:
    """nf_conntrack_icmpv6_redirect()."""
    if l4len < ICMPV6_REDIRECT_HEADER:
        return CT_ICMP_INVALID
    if l4[1] != 0:
        return CT_ICMP_QUERY
    if hop_limit != 255 or src[0] != 0xFE or (src[1] & 0xC0) != 0x80:
        return CT_ICMP_INVALID
    if l4len < ICMPV6_REDIRECT_HEADER + 2 or l4[ICMPV6_REDIRECT_HEADER + 1] == 0:
        return CT_ICMP_INVALID
    if l4[ICMPV6_REDIRECT_HEADER] != ND_OPT_REDIRECTED:
        return CT_ICMP_QUERY
    return CT_ICMP_ERROR


cdef inline int ct_icmpv6_class(const uint8_t *l4, int l4len, int hop_limit, const uint8_t *src, int *quote) noexcept nogil:
    """nf_conntrack_icmpv6_error() without the checksum. ``quote``: where the quoted packet begins, set for CT_ICMP_ERROR.

    ``hop_limit`` and ``src`` (16 bytes) are the packet's own: a redirect counts only from the link itself (RFC 4861, section 8.1).
    """
    cdef int t
    if l4len < ICMP_HEADER:
        return CT_ICMP_INVALID
    t = l4[0]
    if 130 <= t <= 136 or t == 143 or t == 151 or t == 152:
        return CT_ICMP_UNTRACKED
    if t == ICMPV6_REDIRECT:
        quote[0] = ICMPV6_REDIRECT_QUOTE
        return ct_icmpv6_redirect_class(l4, l4len, hop_limit, src)
    if t >= 128:
        return CT_ICMP_QUERY
    quote[0] = ICMP_HEADER
    return CT_ICMP_ERROR


cdef inline int ct_icmp_packet(int family, int original_type, const CtSettings *s, int64_t *timeout) noexcept nogil:
    """nf_conntrack_icmp_packet(). ``original_type``: that of the entry's original tuple, only a request may begin a connection."""
    if family != 4 or not (original_type == 8 or original_type == 13 or original_type == 15 or original_type == 17):
        return CTV_INVALID
    timeout[0] = s.icmp_timeout
    return CTV_ACCEPT


cdef inline int ct_icmpv6_packet(int family, int original_type, const CtSettings *s, uint32_t status, int64_t *timeout) noexcept nogil:
    """nf_conntrack_icmpv6_packet()."""
    if family != 6:
        return CTV_INVALID
    if not status & CTS_CONFIRMED and original_type != 128 and original_type != 139:
        return CTV_INVALID
    timeout[0] = s.icmpv6_timeout
    return CTV_ACCEPT
