# The tunnel encapsulation limit (RFC 2473 4.1.1), a destination option before what Linux' tunnels over IPv6 carry.
#
# net/ipv6/ip6_tunnel.c, net/ipv6/ip6_gre.c.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from ext.encap.abi cimport dataplane_encap_bytes, dataplane_encap_option, dataplane_encap_option_help, dataplane_encap_push
from ext.encap.options cimport option_in
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.ipv6 cimport FRAGMENT_OFFSET, IPV6_HLEN, IPV6_NEXT, NEXT_DESTINATION, NEXT_FRAGMENT, NEXT_NONE, extension_len, is_extension

cdef enum:
    NO_LIMIT = -1
    LIMIT_HLEN = 8  # a destination options header that holds one limit
    OPTION_PAD1 = 0
    OPTION_PADN = 1
    OPTION_LIMIT = 4
    LIMIT_OPTIONS = 1  # rows that limit_help() writes


cdef inline bint limit_option(int64_t *own, const dataplane_encap_option *o) noexcept nogil:
    """False: not this option, or a value out of range. ``own``: what the device writes, or NO_LIMIT."""
    if not option_in(o, b"encaplimit", NO_LIMIT, 255):
        return False
    own[0] = o.number
    return True


cdef inline void limit_help(dataplane_encap_option_help *row) noexcept nogil:
    """Fill LIMIT_OPTIONS rows."""
    row[0] = dataplane_encap_option_help(
        b"encaplimit", b"Tunnel encapsulation limit written over IPv6, 0 to 255 (ip6tnl: 4), or one less than the inner; -1: none", b"-1")


cdef inline uint32_t limit_hlen(int64_t own, int family) noexcept nogil:
    return LIMIT_HLEN if family == 6 and own != NO_LIMIT else 0


cdef inline int limit_in_options(const uint8_t *h, uint32_t n) noexcept nogil:
    """The encapsulation limit in a destination options header of ``n`` bytes, or NO_LIMIT."""
    cdef uint32_t at = 2
    while at + 3 <= n:
        if h[at] == OPTION_LIMIT and h[at + 1] == 1:
            return h[at + 2]
        at += 1 if h[at] == OPTION_PAD1 else 2 + <uint32_t>h[at + 1]
    return NO_LIMIT


cdef inline int limit_of_packet(const uint8_t *ip, uint32_t n) noexcept nogil:
    """How many more tunnels an IPv6 packet may enter, or NO_LIMIT (ip6_tnl_parse_tlv_enc_lim())."""
    cdef uint8_t next = ip[IPV6_NEXT]
    cdef uint32_t at = IPV6_HLEN, hlen
    cdef int limit
    while is_extension(next) and next != NEXT_NONE and at + 8 <= n:
        hlen = extension_len(next, ip + at)
        if at + hlen > n or (next == NEXT_FRAGMENT and ld16(ip + at + 2) & FRAGMENT_OFFSET):
            return NO_LIMIT
        if next == NEXT_DESTINATION:
            limit = limit_in_options(ip + at, hlen)
            if limit != NO_LIMIT:
                return limit
        next = ip[at]
        at += hlen
    return NO_LIMIT


cdef inline int limit_of(const dataplane_encap_push *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    """How many more tunnels over IPv6 the packet or frame at ``data`` may enter, or NO_LIMIT; 0: it is to be dropped."""
    cdef const uint8_t *ip = bytes.data
    cdef int protocol = info.inner_protocol
    if info.family != 6:
        return NO_LIMIT
    if protocol == ETHERTYPE_TEB and bytes.tail - ip >= ETH_HLEN:
        protocol = ld16(ip + ETH_TYPE)
        ip += ETH_HLEN
    if protocol != ETHERTYPE_IPV6 or bytes.tail - ip < IPV6_HLEN:
        return NO_LIMIT
    return limit_of_packet(ip, <uint32_t>(bytes.tail - ip))


cdef inline void limit_write(uint8_t *h, uint8_t next, uint8_t limit) noexcept nogil:
    """The destination options header that ip6_tunnel.c writes (init_tel_txopt())."""
    h[0] = next
    h[1] = 0
    h[2] = OPTION_LIMIT
    h[3] = 1
    h[4] = limit
    h[5] = OPTION_PADN
    h[6] = 1
    h[7] = 0


cdef inline bint limit_push(int64_t own, int inner, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """The device's header before ``data``, if it writes one. False: there is no room. ``inner``: of limit_of(), not 0."""
    if limit_hlen(own, info.family) == 0:
        return True
    if bytes.data - bytes.head < LIMIT_HLEN:
        return False
    bytes.data -= LIMIT_HLEN
    limit_write(bytes.data, info.ip_protocol, <uint8_t>(own if inner == NO_LIMIT else inner - 1))
    info.ip_protocol = NEXT_DESTINATION
    return True
