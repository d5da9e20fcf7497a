# IPv4 header (RFC 791): named offsets and the checks of addresses that Linux makes.
#
# Accessors read freely: callers have checked that the header is there.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from ext.wire.bytes cimport ld16, ld32, raw32, st16
from ext.wire.checksum cimport csum_fold, csum_from_raw

cdef enum:
    IPV4_HLEN = 20
    IPV4_TOS = 1
    IPV4_LEN = 2
    IPV4_ID = 4
    IPV4_FRAG = 6
    IPV4_TTL = 8
    IPV4_PROTO = 9
    IPV4_CSUM = 10
    IPV4_SRC = 12
    IPV4_DST = 16
    IPV4_OPTIONS = 20
    IPV4_DF = 0x4000
    IPV4_MF = 0x2000
    IPV4_OFFSET = 0x1fff
    IPPROTO_ICMP = 1
    IPPROTO_IGMP = 2
    IPPROTO_IPIP = 4
    IPPROTO_IPV6 = 41
    IPPROTO_TCP = 6
    IPPROTO_UDP = 17
    IPPROTO_DCCP = 33
    IPPROTO_GRE = 47
    IPPROTO_ESP = 50
    IPPROTO_AH = 51
    IPPROTO_ICMPV6 = 58
    IPPROTO_PIM = 103
    IPPROTO_SCTP = 132
    IPPROTO_UDPLITE = 136
    ECN_MASK = 3
    ECN_NOT_ECT = 0
    ECN_ECT1 = 1
    ECN_ECT0 = 2
    ECN_CE = 3
    IPOPT_END = 0
    IPOPT_NOP = 1
    IPOPT_RR = 7
    IPOPT_TS = 68
    IPOPT_LSRR = 131
    IPOPT_CIPSO = 134
    IPOPT_SSRR = 137
    IPOPT_RA = 148
    IPOPT_COPIED = 0x80


cdef inline uint32_t ipv4_hlen(const uint8_t *ip) noexcept nogil:
    return (ip[0] & 0xf) * 4


cdef inline bint ipv4_is_fragment(const uint8_t *ip) noexcept nogil:
    return (ld16(ip + IPV4_FRAG) & (IPV4_MF | IPV4_OFFSET)) != 0


cdef inline uint64_t ipv4_raw_sum(const uint8_t *ip) noexcept nogil:
    """Sum of the header's words in this machine's byte order, not folded."""
    cdef uint64_t sum = <uint64_t>raw32(ip) + raw32(ip + 4) + raw32(ip + 8) + raw32(ip + 12) + raw32(ip + 16)
    cdef uint32_t i
    for i in range(IPV4_HLEN, ipv4_hlen(ip), 4):
        sum += raw32(ip + i)
    return sum


cdef inline bint ipv4_csum_ok(const uint8_t *ip) noexcept nogil:
    return csum_fold(ipv4_raw_sum(ip)) == 0xffff


cdef inline void ipv4_set_csum(uint8_t *ip) noexcept nogil:
    st16(ip + IPV4_CSUM, 0)
    st16(ip + IPV4_CSUM, ~csum_from_raw(ipv4_raw_sum(ip)))


cdef inline void ipv4_decrease_ttl(uint8_t *ip) noexcept nogil:
    """TTL minus one, checksum plus 0x0100 with end-around carry (RFC 1141), as ip_decrease_ttl() does."""
    cdef uint32_t check = ld16(ip + IPV4_CSUM) + 0x0100
    st16(ip + IPV4_CSUM, check + (check >= 0xffff))
    ip[IPV4_TTL] -= 1


cdef inline bint ipv4_is_multicast(const uint8_t *a) noexcept nogil:
    return (a[0] & 0xf0) == 0xe0


cdef inline bint ipv4_is_lbcast(const uint8_t *a) noexcept nogil:
    return ld32(a) == <uint32_t>0xffffffff


cdef inline bint ipv4_is_zeronet(const uint8_t *a) noexcept nogil:
    """Linux treats only 0.0.0.0 as "this network" (commit 96125bf9985a)."""
    return ld32(a) == 0


cdef inline bint ipv4_is_loopback(const uint8_t *a) noexcept nogil:
    return a[0] == 127


cdef inline void ipv4_options_to_noop(uint8_t *opt, int n) noexcept nogil:
    """Blank the options that later fragments do not carry (RFC 791 3.1, ip_options_fragment())."""
    cdef int olen
    while n > 0:
        if opt[0] == IPOPT_END:
            return
        if opt[0] == IPOPT_NOP:
            opt += 1
            n -= 1
            continue
        if n < 2:
            return
        olen = opt[1]
        if olen < 2 or olen > n:
            return
        if not (opt[0] & IPOPT_COPIED):
            memset(opt, IPOPT_NOP, olen)
        opt += olen
        n -= olen
