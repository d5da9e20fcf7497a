# IPv6 header (RFC 8200): named offsets, kinds of addresses, and the chain of extension headers as Linux walks it.
#
# Accessors read freely: callers have checked that the header is there. The walks check for themselves.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp
from ext.wire.bytes cimport ld16, st32

cdef enum:
    IPV6_HLEN = 40
    IPV6_PAYLOAD_LEN = 4
    IPV6_NEXT = 6
    IPV6_HOPS = 7
    IPV6_SRC = 8
    IPV6_DST = 24
    IPV6_MIN_MTU = 1280
    IPV6_MAX_PAYLOAD = 65535
    NEXT_HOP_BY_HOP = 0
    NEXT_ROUTING = 43
    NEXT_FRAGMENT = 44
    NEXT_AUTH = 51
    NEXT_NONE = 59
    NEXT_DESTINATION = 60
    FRAGMENT_HLEN = 8
    FRAGMENT_MORE = 1
    FRAGMENT_OFFSET = 0xfff8
    SCOPE_NONE = -1  # of addresses (RFC 4291 2.7)
    SCOPE_INTERFACE_LOCAL = 1
    SCOPE_LINK_LOCAL = 2
    SCOPE_SITE_LOCAL = 5
    SCOPE_GLOBAL = 14

cdef struct Ipv6Chain:
    # what stands behind the extension headers
    uint32_t at  # offset from the IPv6 header
    uint8_t proto
    uint32_t frag  # offset and M bit of the fragment header met, 0: none or an atomic one
    uint8_t broken  # the chain is cut off, or ends in "no next header"


# ---- addresses

cdef inline bint ipv6_is_multicast(const uint8_t *a) noexcept nogil:
    return a[0] == 0xff


cdef inline bint ipv6_is_link_local(const uint8_t *a) noexcept nogil:
    return a[0] == 0xfe and a[1] & 0xc0 == 0x80


cdef inline bint ipv6_is_unspecified(const uint8_t *a) noexcept nogil:
    return memcmp(a, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0


cdef inline bint ipv6_is_loopback(const uint8_t *a) noexcept nogil:
    return memcmp(a, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0


cdef inline bint ipv6_is_unicast(const uint8_t *a) noexcept nogil:
    return not ipv6_is_multicast(a) and not ipv6_is_unspecified(a)


cdef inline bint ipv6_needs_interface(const uint8_t *a) noexcept nogil:
    """An address that means something on one interface only (rt6_need_strict())."""
    return ipv6_is_multicast(a) or ipv6_is_link_local(a) or ipv6_is_loopback(a)


cdef inline int ipv6_scope(const uint8_t *a) noexcept nogil:
    """ipv6_addr_src_scope()."""
    if ipv6_is_multicast(a):
        return a[1] & 0xf
    if ipv6_is_link_local(a) or ipv6_is_loopback(a):
        return SCOPE_LINK_LOCAL
    if ipv6_is_unspecified(a):
        return SCOPE_NONE
    return SCOPE_SITE_LOCAL if a[0] == 0xfe and a[1] & 0xc0 == 0xc0 else SCOPE_GLOBAL


cdef inline int common_bits(const uint8_t *a, const uint8_t *b) noexcept nogil:
    """How many leading bits two addresses share (ipv6_addr_diff())."""
    cdef int i = 0, n
    cdef uint8_t x
    while i < 16 and a[i] == b[i]:
        i += 1
    n = i * 8
    if i == 16:
        return n
    x = a[i] ^ b[i]
    while not x & 0x80:
        x = <uint8_t>(x << 1)
        n += 1
    return n


cdef inline void solicited_node(const uint8_t *a, uint8_t *group) noexcept nogil:
    """ff02::1:ffXX:XXXX (RFC 4291 2.7.1)."""
    cdef int i
    for i in range(16):
        group[i] = 0
    group[0] = 0xff
    group[1] = 2
    group[11] = 1
    group[12] = 0xff
    for i in range(13, 16):
        group[i] = a[i]


# ---- header fields

cdef inline uint8_t ipv6_class(const uint8_t *ip) noexcept nogil:
    return <uint8_t>(ld16(ip) >> 4)


cdef inline void ipv6_set_class(uint8_t *ip, uint32_t tclass) noexcept nogil:
    ip[0] = <uint8_t>(0x60 | tclass >> 4)
    ip[1] = <uint8_t>((tclass & 0xf) << 4 | ip[1] & 0xf)


cdef inline uint32_t ipv6_flow_label(const uint8_t *ip) noexcept nogil:
    return <uint32_t>(ip[1] & 0xf) << 16 | ld16(ip + 2)


cdef inline void ipv6_set_first_word(uint8_t *ip, uint32_t tclass, uint32_t label) noexcept nogil:
    st32(ip, <uint32_t>0x60000000 | (tclass & 0xff) << 20 | label & 0xfffff)


# ---- the chain of extension headers

cdef inline bint is_extension(int next) noexcept nogil:
    return (next == NEXT_HOP_BY_HOP or next == NEXT_ROUTING or next == NEXT_FRAGMENT or next == NEXT_AUTH or next == NEXT_NONE
            or next == NEXT_DESTINATION)


cdef inline uint32_t extension_len(int type, const uint8_t *h) noexcept nogil:
    """Bytes of an extension header of which two are there."""
    if type == NEXT_FRAGMENT:
        return FRAGMENT_HLEN
    return (<uint32_t>h[1] + 2) * 4 if type == NEXT_AUTH else (<uint32_t>h[1] + 1) * 8


cdef inline void skip_extensions(const uint8_t *ip, uint32_t n, Ipv6Chain *c) noexcept nogil:
    """ipv6_skip_exthdr() over a packet of ``n`` bytes from its IPv6 header on; it stops at a later fragment's header."""
    c.at = IPV6_HLEN
    c.proto = ip[IPV6_NEXT]
    skip_from(ip, n, c)


cdef inline void skip_from(const uint8_t *ip, uint32_t n, Ipv6Chain *c) noexcept nogil:
    """The same from a header of type ``c.proto`` at ``c.at`` on."""
    cdef uint8_t next
    c.frag = 0
    c.broken = False
    while is_extension(c.proto):
        if c.proto == NEXT_NONE or c.at + (4 if c.proto == NEXT_FRAGMENT else 2) > n:
            c.broken = True
            return
        if c.proto == NEXT_FRAGMENT:
            c.frag = ld16(ip + c.at + 2)
            if c.frag & FRAGMENT_OFFSET:
                return
        next = ip[c.at]
        c.at += extension_len(c.proto, ip + c.at)
        c.proto = next


cdef inline void find_header(const uint8_t *ip, uint32_t n, Ipv6Chain *c) noexcept nogil:
    """ipv6_find_hdr() for any protocol: AH ends the chain, and so does "no next header". ``frag``: offset of a later fragment."""
    cdef uint8_t next
    c.at = IPV6_HLEN
    c.proto = ip[IPV6_NEXT]
    c.frag = 0
    c.broken = False
    while is_extension(c.proto) and c.proto != NEXT_NONE and c.proto != NEXT_AUTH:
        if c.at + (4 if c.proto == NEXT_FRAGMENT else 2) > n:
            c.broken = True
            return
        next = ip[c.at]
        if c.proto == NEXT_FRAGMENT and ld16(ip + c.at + 2) & FRAGMENT_OFFSET:
            c.frag = ld16(ip + c.at + 2) & FRAGMENT_OFFSET
            c.broken = is_extension(next) and next != NEXT_NONE
            c.proto = next
            return
        c.at += extension_len(c.proto, ip + c.at)
        c.proto = next


cdef inline bint find_fragment_header(const uint8_t *ip, uint32_t n, uint32_t *before, uint32_t *at) noexcept nogil:
    """The fragment header and the place of the next-header field that names it (find_prev_fhdr()). False: there is none."""
    cdef int next = ip[IPV6_NEXT]
    cdef uint32_t hlen
    before[0] = IPV6_NEXT
    at[0] = IPV6_HLEN
    while next != NEXT_FRAGMENT:
        if not is_extension(next) or next == NEXT_NONE or at[0] + 2 > n:
            return False
        before[0] = at[0]
        hlen = extension_len(next, ip + at[0])
        next = ip[at[0]]
        at[0] += hlen
    return at[0] <= n
