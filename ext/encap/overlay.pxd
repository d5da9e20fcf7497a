# Overlays with a network identifier of 24 bits and Ethernet frames inside: what VXLAN and Geneve have in common.

from libc.stdint cimport int64_t, uint8_t
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_option, dataplane_encap_option_help, dataplane_encap_pop,
                            dataplane_encap_push)
from ext.encap.options cimport option_in
from ext.encap.outer cimport DF_INHERIT, TOS_INHERIT
from ext.encap.udp_device cimport UDP_DEVICE_OPTIONS, UdpDevice, udp_device_help, udp_device_option, udp_device_push
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV6, ETHERTYPE_TEB

cdef enum:
    VNI_MAX = 0xffffff
    OVERLAY_DEVICE_ROW = 2  # where the rows of udp_device_help() begin in those of overlay_help()
    OVERLAY_OPTIONS = OVERLAY_DEVICE_ROW + UDP_DEVICE_OPTIONS  # rows that overlay_help() writes

cdef struct Overlay:
    UdpDevice device
    int64_t vni
    uint8_t external


cdef inline bint overlay_option(Overlay *d, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"id", 0, VNI_MAX):
        d.vni = o.number
    elif option_in(o, b"external", 0, 1):
        d.external = <uint8_t>o.number
    elif option_in(o, b"tos", 2, 255):
        d.device.outer.tos = <uint8_t>o.number & ~TOS_INHERIT  # only 1 itself means the inner packet's
    else:
        return udp_device_option(&d.device, o)
    return True


cdef inline void overlay_help(dataplane_encap_option_help *row, const char *port, const char *ttl_inherit, const char *df) noexcept nogil:
    """Fill OVERLAY_OPTIONS rows; the arguments are defaults of the kind."""
    row[0] = dataplane_encap_option_help(b"id", b"Virtual network identifier (VNI), 0 to 16777215", b"0")
    row[1] = dataplane_encap_option_help(
        b"external", b"1: receive every identifier and hand it on, as Linux devices in external mode do; 0: only the device's own", b"0")
    udp_device_help(row + OVERLAY_DEVICE_ROW, port, ttl_inherit, df)


cdef inline int64_t overlay_vni(const Overlay *d, const dataplane_encap_push *info) noexcept nogil:
    """The identifier to write: a route's or policy's before the device's own."""
    return d.vni if info.id < 0 else info.id & VNI_MAX


cdef inline bint overlay_is_mine(const Overlay *d, const dataplane_encap_pop *info) noexcept nogil:
    return d.external or info.id == d.vni


cdef inline bint is_ipv6_inside(int inner_protocol, const uint8_t *at, const dataplane_encap_bytes *bytes) noexcept nogil:
    if inner_protocol == ETHERTYPE_TEB and bytes.tail - at >= ETH_HLEN:
        inner_protocol = ld16(at + ETH_TYPE)
    return inner_protocol == ETHERTYPE_IPV6


cdef inline int overlay_push(const Overlay *d, dataplane_encap_push *info, const dataplane_encap_bytes *bytes,
                             const uint8_t *inner) noexcept nogil:
    """As udp_device_push(); an IPv6 packet, which no router may fragment, bequeaths DF (vxlan_xmit_one(), geneve_xmit_skb())."""
    cdef int v = udp_device_push(&d.device, info, bytes)
    if d.device.outer.df == DF_INHERIT and is_ipv6_inside(info.inner_protocol, inner, bytes):
        info.dont_fragment = True
    return v
