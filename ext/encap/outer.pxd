# The choices that Linux' tunnel devices share about the outer IP header: TTL, TOS, ECN, DF and flow label.
#
# net/ipv4/ip_tunnel.c (ip_tunnel_xmit()), net/ipv6/ip6_tunnel.c (ip6_tnl_xmit()), include/net/inet_ecn.h.

from libc.stdint cimport uint8_t, uint32_t
from ext.encap.abi cimport dataplane_encap_option, dataplane_encap_option_help, dataplane_encap_push
from ext.encap.options cimport option_in
from ext.wire.ipv4 cimport ECN_CE, ECN_ECT0, ECN_MASK

cdef enum:
    DF_UNSET = 0
    DF_SET = 1
    DF_INHERIT = 2
    TOS_INHERIT = 1  # the lowest bit, as ip(8) hands ``tos inherit`` to the kernel
    FLOW_LABEL_MAX = 0xfffff
    OUTER_OPTIONS = 6  # rows that outer_help() writes

cdef struct Outer:
    uint8_t ttl
    uint8_t ttl_inherit  # where ttl is 0
    uint8_t tos
    uint8_t df
    uint32_t flow_label
    uint8_t flow_label_inherit


cdef inline bint outer_option(Outer *u, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"ttl", 0, 255):
        u.ttl = <uint8_t>o.number
    elif option_in(o, b"ttl_inherit", 0, 1):
        u.ttl_inherit = <uint8_t>o.number
    elif option_in(o, b"tos", 0, 255):
        u.tos = <uint8_t>o.number
    elif option_in(o, b"df", DF_UNSET, DF_INHERIT):
        u.df = <uint8_t>o.number
    elif option_in(o, b"flow_label", 0, FLOW_LABEL_MAX):
        u.flow_label = <uint32_t>o.number
    elif option_in(o, b"flow_label_inherit", 0, 1):
        u.flow_label_inherit = <uint8_t>o.number
    else:
        return False
    return True


cdef inline void outer_help(dataplane_encap_option_help *row, const char *ttl_inherit, const char *df) noexcept nogil:
    """Fill OUTER_OPTIONS rows; ``ttl_inherit`` and ``df``: the defaults of the kind."""
    row[0] = dataplane_encap_option_help(b"ttl", b"TTL or hop limit of the outer header, 0 to 255; 0: see ttl_inherit", b"0")
    row[1] = dataplane_encap_option_help(b"ttl_inherit", b"What ttl 0 means; 0: the namespace's default, 1: as the inner packet", ttl_inherit)
    row[2] = dataplane_encap_option_help(b"tos", b"TOS or traffic class outside, 0 to 255; 1: as the inner packet; ECN always follows RFC 6040",
                                         b"0")
    row[3] = dataplane_encap_option_help(b"df", b"Don't-fragment bit of an outer IPv4 header; 0: clear, 1: set, 2: as the inner packet", df)
    row[4] = dataplane_encap_option_help(b"flow_label", b"Flow label of an outer IPv6 header, 0 to 0xfffff", b"0")
    row[5] = dataplane_encap_option_help(b"flow_label_inherit", b"1: the flow label of an inner IPv6 packet goes outside", b"0")


cdef inline uint8_t ecn_encapsulate(int outer, int inner) noexcept nogil:
    """RFC 6040 4.1 but for CE, which Linux writes as ECT(0) outside (INET_ECN_encapsulate())."""
    return <uint8_t>(outer & ~ECN_MASK | (ECN_ECT0 if inner & ECN_MASK == ECN_CE else inner & ECN_MASK))


cdef inline void outer_push(const Outer *u, dataplane_encap_push *info) noexcept nogil:
    """Everything of the outer header but its protocol."""
    info.ttl = info.inner_ttl if u.ttl == 0 and u.ttl_inherit else u.ttl
    info.tos = ecn_encapsulate(info.inner_tos if u.tos & TOS_INHERIT else u.tos, info.inner_tos)
    info.dont_fragment = u.df == DF_SET or (u.df == DF_INHERIT and info.inner_dont_fragment)
    info.flow_label = info.inner_flow_label if u.flow_label_inherit else u.flow_label
