# Devices whose encapsulation is a UDP datagram: what the state of each of them begins with.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_option, dataplane_encap_option_help, dataplane_encap_push,
                            DATAPLANE_ENCAP_OK)
from ext.encap.outer cimport OUTER_OPTIONS, Outer, outer_help, outer_option, outer_push
from ext.encap.udp cimport UDP_HLEN, UDP_OPTIONS, Udp, udp_help, udp_option, udp_write

cdef enum:
    UDP_DEVICE_OPTIONS = UDP_OPTIONS + OUTER_OPTIONS  # rows that udp_device_help() writes
    # some of them, for kinds with other defaults
    ROW_PORT_MIN = 1
    ROW_PORT_MAX = 2
    ROW_CHECKSUM = 3
    ROW_ZERO6_RX = 5

cdef struct UdpDevice:
    Udp udp
    Outer outer


cdef inline bint udp_device_option(UdpDevice *d, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    return udp_option(&d.udp, o) or outer_option(&d.outer, o)


cdef inline void udp_device_help(dataplane_encap_option_help *row, const char *port, const char *ttl_inherit,
                                 const char *df) noexcept nogil:
    """Fill UDP_DEVICE_OPTIONS rows; the arguments are defaults of the kind."""
    udp_help(row, port)
    outer_help(row + UDP_OPTIONS, ttl_inherit, df)


cdef inline uint16_t udp_device_port(const void *state) noexcept nogil:
    return (<const UdpDevice *>state).udp.ports.port


cdef inline uint16_t udp_device_overhead(int family, uint32_t hlen) noexcept nogil:
    """``hlen``: bytes between the UDP header and the inner packet."""
    return <uint16_t>((20 if family == 4 else 40) + UDP_HLEN + hlen)


cdef inline uint8_t *udp_device_room(dataplane_encap_bytes *bytes, uint32_t hlen) noexcept nogil:
    """Move ``data`` to where the UDP header will be; the place of the ``hlen`` bytes behind it, NULL: there is no room."""
    if bytes.data - bytes.head < UDP_HLEN + hlen:
        return NULL
    bytes.data -= UDP_HLEN + hlen
    return bytes.data + UDP_HLEN


cdef inline int udp_device_push(const UdpDevice *d, dataplane_encap_push *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    """The UDP header at ``data``, everything behind it being there already, and the outer header's fields."""
    udp_write(&d.udp, info, bytes.data, <uint32_t>(bytes.tail - bytes.data))
    outer_push(&d.outer, info)
    return DATAPLANE_ENCAP_OK
