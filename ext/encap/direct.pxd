# What Linux puts into FOU and GUE: IP packets as in ipip, sit and ip6tnl, or IP packets in GRE (net/ipv4/fou_core.c).

from libc.stdint cimport int64_t, uint8_t, uint16_t
from ext.encap.abi cimport dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_option, dataplane_encap_option_help
from ext.encap.options cimport option_in
from ext.encap.outer cimport DF_SET
from ext.encap.udp cimport udp_defaults
from ext.encap.udp_device cimport ROW_CHECKSUM, ROW_ZERO6_RX, UDP_DEVICE_OPTIONS, UdpDevice, udp_device_help, udp_device_option
from ext.wire.bytes cimport ld16, st16
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_IPIP, IPPROTO_IPV6, IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN

cdef enum:
    GRE_HLEN = 4
    DIRECT_OPTIONS = 1 + UDP_DEVICE_OPTIONS  # rows that direct_help() writes

cdef struct Direct:
    UdpDevice device
    uint8_t gre


cdef inline void direct_defaults(Direct *d, uint16_t port) noexcept nogil:
    """Those of ip-link(8) and ip-fou(8): no checksum, TTL as inside, DF set; but over IPv6 there is one (RFC 8086 4.2)."""
    udp_defaults(&d.device.udp, port)
    d.device.udp.checksum = False
    d.device.udp.zero6_rx = True
    d.device.outer.ttl_inherit = True
    d.device.outer.df = DF_SET


cdef inline bint direct_option(Direct *d, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"gre", 0, 1):
        d.gre = <uint8_t>o.number
        return True
    return udp_device_option(&d.device, o)


cdef inline void direct_help(dataplane_encap_option_help *row, const char *port) noexcept nogil:
    """Fill DIRECT_OPTIONS rows; ``port``: the kind's default."""
    row[0] = dataplane_encap_option_help(b"gre", b"1: a GRE header of 4 bytes stands before the IP packet, 0: none does", b"0")
    udp_device_help(row + 1, port, b"1", b"1")
    row[1 + ROW_CHECKSUM].default_value = b"0"
    row[1 + ROW_ZERO6_RX].default_value = b"1"


cdef inline bint is_ip(int ethertype) noexcept nogil:
    return ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6


cdef inline int ip_protocol_of(int ethertype) noexcept nogil:
    """The IP protocol by which a packet is carried right behind a header."""
    return IPPROTO_IPIP if ethertype == ETHERTYPE_IPV4 else IPPROTO_IPV6


cdef inline int ethertype_by_version(const uint8_t *ip, int64_t n) noexcept nogil:
    """EtherType by the version that the packet itself says, 0: neither IPv4 nor IPv6."""
    if n < 1:
        return 0
    return ETHERTYPE_IPV4 if ip[0] >> 4 == 4 else ETHERTYPE_IPV6 if ip[0] >> 4 == 6 else 0


cdef inline bint holds_ip_header(int ethertype, int64_t n) noexcept nogil:
    return n >= (IPV4_HLEN if ethertype == ETHERTYPE_IPV4 else IPV6_HLEN)


cdef inline void gre_put(uint8_t *gre, int ethertype) noexcept nogil:
    st16(gre, 0)
    st16(gre + 2, ethertype)


cdef inline int gre_take(dataplane_encap_bytes *bytes) noexcept nogil:
    """Move ``data`` behind a GRE header that is nothing but its first 4 bytes: EtherType of an IP packet, 0: there is none."""
    cdef int ethertype
    if bytes.tail - bytes.data < GRE_HLEN or ld16(bytes.data):
        return 0
    ethertype = ld16(bytes.data + 2)
    bytes.data += GRE_HLEN
    return ethertype if is_ip(ethertype) else 0


cdef inline int gre_name(const uint8_t *gre, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the GRE header's fields: the bytes it takes, -1 if it is broken off or has more than 4."""
    if size < GRE_HLEN or ld16(gre):
        return -1
    field(context, b"gre", b"protocol", ld16(gre + 2), NULL, 0)
    field(context, b"gre", b"flags", 0, NULL, 0)
    return GRE_HLEN
