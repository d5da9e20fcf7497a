# Options of hop-by-hop and destination option headers (RFC 8200 4.2): net/ipv6/exthdrs.c (ip6_parse_tlv()), net/netfilter/utils.c.

from libc.stdint cimport uint8_t, uint32_t
from ext.devices.core cimport Core
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_PARAMETER_PROBLEM, PROBLEM_FIELD, PROBLEM_OPTION
from ext.stages.verdict cimport DROPS_EXTENSION
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ipv6 cimport IPV6_HLEN, IPV6_DST, IPV6_MAX_PAYLOAD, IPV6_PAYLOAD_LEN, ipv6_is_multicast
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len

cdef enum:
    EXTENSION_MALFORMED = DROPS_EXTENSION
    EXTENSION_UNKNOWN_OPTION
    EXTENSION_TRUNCATED
    EXTENSION_ROUTING_UNKNOWN
    EXTENSION_ROUTING_TO_GROUP
    EXTENSION_SEGMENTS_LEFT
    EXTENSION_NO_NEXT_HEADER
    EXTENSION_FRAGMENT_BAD
    EXTENSION_INCOMPLETE_CHAIN
    OPTION_PAD1 = 0
    OPTION_PADN = 1
    OPTION_ROUTER_ALERT = 5
    OPTION_CALIPSO = 7
    OPTION_IOAM = 0x31
    OPTION_JUMBO = 0xc2
    PADDING_MAX = 7
    OPTIONS_COUNT_MAX = 8  # net.ipv6.max_hbh_opts_number, net.ipv6.max_dst_opts_number


cdef inline const char *extension_reason(int r) noexcept nogil:
    if r == EXTENSION_MALFORMED:
        return b"extension_headers/malformed\tAn option that cannot be, too many of them, or too much padding\tIP_INHDR"
    if r == EXTENSION_UNKNOWN_OPTION:
        return b"extension_headers/unknown_option\tAn unknown option whose type asks for the packet to be dropped\tUNHANDLED_PROTO"
    if r == EXTENSION_TRUNCATED:
        return b"extension_headers/truncated\tThe packet ends inside an extension header\tIP_INHDR"
    if r == EXTENSION_ROUTING_UNKNOWN:
        return b"extension_headers/routing_unknown\tA routing header of a type that is not followed, with segments left: the sender is told\tIP_INHDR"
    if r == EXTENSION_ROUTING_TO_GROUP:
        return b"extension_headers/routing_to_group\tA routing header in a packet to a group\tIP_INADDRERRORS"
    if r == EXTENSION_SEGMENTS_LEFT:
        return b"extension_headers/segment_routing_off\tA segment routing header where seg6_enabled or rpl_seg_enabled is off\tNOT_SPECIFIED"
    if r == EXTENSION_NO_NEXT_HEADER:
        return b"extension_headers/no_next_header\tThe packet says that nothing follows\tNOT_SPECIFIED"
    if r == EXTENSION_FRAGMENT_BAD:
        return b"extension_headers/fragment_bad\tA fragment header that cannot be: the sender is told\tIP_INHDR"
    if r == EXTENSION_INCOMPLETE_CHAIN:
        return b"extension_headers/incomplete_chain\tA first fragment without all headers: the sender is told\tIP_INHDR"
    return NULL


cdef inline int option_unknown(Core *c, Pkt *p, uint32_t at) noexcept nogil:
    """ip6_tlvopt_unknown(): the two highest bits of the type say what to do. 0 or a drop."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef int action = ip[at] >> 6
    if action == 0:
        return 0
    if action == 2 or (action == 3 and not ipv6_is_multicast(ip + IPV6_DST)):
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_OPTION, at)
    return -EXTENSION_UNKNOWN_OPTION


cdef inline int option_jumbo(Core *c, Pkt *p, uint32_t at) noexcept nogil:
    """ipv6_hop_jumbo(): no frame here can hold a jumbogram, so it is always wrong somehow."""
    cdef const uint8_t *ip = pkt_l3(p)
    if ip[at + 1] != 4 or at & 3 != 2:
        return -EXTENSION_MALFORMED
    if ld32(ip + at + 2) <= IPV6_MAX_PAYLOAD:
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_FIELD, at + 2)
    elif ld16(ip + IPV6_PAYLOAD_LEN):
        icmpv6_send(c, p, ICMPV6_PARAMETER_PROBLEM, PROBLEM_FIELD, at)
    return -EXTENSION_MALFORMED


cdef inline int option_hop_by_hop(Core *c, Pkt *p, uint32_t at) noexcept nogil:
    cdef const uint8_t *ip = pkt_l3(p)
    if ip[at] == OPTION_ROUTER_ALERT:
        return 0 if ip[at + 1] == 2 else -EXTENSION_MALFORMED
    if ip[at] == OPTION_IOAM:
        return 0 if at & 3 == 0 else -EXTENSION_MALFORMED
    if ip[at] == OPTION_JUMBO:
        return option_jumbo(c, p, at)
    if ip[at] == OPTION_CALIPSO:
        return -EXTENSION_MALFORMED  # a security label (RFC 5570) of a domain that nobody has set up here
    return option_unknown(c, p, at)


cdef inline bint padding_is_zero(const uint8_t *option, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(2, n):
        if option[i]:
            return False
    return True


cdef inline int parse_options(Core *c, Pkt *p, uint32_t at, bint hop_by_hop) noexcept nogil:
    """ip6_parse_tlv() over the header at offset ``at``, all of which is there. 0 or a drop."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint32_t end = at + (<uint32_t>ip[at + 1] + 1) * 8, n, padding = 0
    cdef int v, count = 0
    at += 2
    while at < end:
        if ip[at] == OPTION_PAD1:
            padding += 1
            if padding > PADDING_MAX:
                return -EXTENSION_MALFORMED
            at += 1
            continue
        if end - at < 2:
            return -EXTENSION_MALFORMED
        n = <uint32_t>ip[at + 1] + 2
        if n > end - at:
            return -EXTENSION_MALFORMED
        if ip[at] == OPTION_PADN:
            padding += n
            if padding > PADDING_MAX or not padding_is_zero(ip + at, n):
                return -EXTENSION_MALFORMED
        else:
            count += 1
            if count > OPTIONS_COUNT_MAX:
                return -EXTENSION_MALFORMED
            v = option_hop_by_hop(c, p, at) if hop_by_hop else option_unknown(c, p, at)
            if v:
                return v
            padding = 0
        at += n
    return 0


cdef inline bint bridged_options_ok(Pkt *p) noexcept nogil:
    """nf_ip6_check_hbh_len(): bridge netfilter looks at the lengths alone. False: drop it."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint32_t at = IPV6_HLEN, end
    if pkt_l3_len(p) < IPV6_HLEN + 8:
        return False
    end = at + (<uint32_t>ip[at + 1] + 1) * 8
    if pkt_l3_len(p) < end:
        return False
    at += 2
    while at < end:
        if ip[at] == OPTION_PAD1:
            at += 1
            continue
        if end - at < 2 or <uint32_t>ip[at + 1] + 2 > end - at or ip[at] == OPTION_JUMBO:
            return False
        at += <uint32_t>ip[at + 1] + 2
    return True
