# The UDP header of encapsulations that are carried in it: net/ipv4/udp_tunnel_core.c, include/net/udp.h.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from ext.encap.abi cimport (dataplane_encap_field, dataplane_encap_option, dataplane_encap_option_help, dataplane_encap_pop,
                            dataplane_encap_ports, dataplane_encap_push, DATAPLANE_ENCAP_ERROR_LEN)
from ext.encap.options cimport option_in
from ext.wire.bytes cimport ld16, st16
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    UDP_HLEN = 8
    UDP_OPTIONS = 6  # rows that udp_help() writes

cdef struct Udp:
    dataplane_encap_ports ports
    uint8_t checksum
    uint8_t zero6_tx
    uint8_t zero6_rx


cdef inline void udp_defaults(Udp *u, uint16_t port) noexcept nogil:
    """``port``: where the kind is received; the source port comes from net.ipv4.ip_local_port_range."""
    u.ports.port = port
    u.ports.port_min = 32768
    u.ports.port_max = 60999
    u.checksum = True


cdef inline bint udp_option(Udp *u, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"port", 1, 65535):
        u.ports.port = <uint16_t>o.number
    elif option_in(o, b"port_min", 1, 65535):
        u.ports.port_min = <uint16_t>o.number
    elif option_in(o, b"port_max", 1, 65535):
        u.ports.port_max = <uint16_t>o.number
    elif option_in(o, b"udp_checksum", 0, 1):
        u.checksum = <uint8_t>o.number
    elif option_in(o, b"udp6_zero_checksum_tx", 0, 1):
        u.zero6_tx = <uint8_t>o.number
    elif option_in(o, b"udp6_zero_checksum_rx", 0, 1):
        u.zero6_rx = <uint8_t>o.number
    else:
        return False
    return True


cdef inline bint udp_consistent(const Udp *u, const char *kind, char *error) noexcept nogil:
    """Do the options go together? If not, ``error`` says why."""
    if u.ports.port_max > u.ports.port_min:
        return True
    snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"%s: port_max must be greater than port_min", kind)
    return False


cdef inline void udp_help(dataplane_encap_option_help *row, const char *port) noexcept nogil:
    """Fill UDP_OPTIONS rows; ``port``: the kind's default."""
    row[0] = dataplane_encap_option_help(b"port", b"UDP destination port, 1 to 65535, which the device also listens on", port)
    row[1] = dataplane_encap_option_help(b"port_min", b"Lowest UDP source port, 1 to 65535; it comes from the inner flow's hash", b"32768")
    row[2] = dataplane_encap_option_help(b"port_max", b"End of the source ports, itself excluded", b"60999")
    row[3] = dataplane_encap_option_help(b"udp_checksum", b"1: compute the outer UDP checksum over IPv4, 0: leave it zero", b"1")
    row[4] = dataplane_encap_option_help(b"udp6_zero_checksum_tx", b"1: leave the outer UDP checksum zero over IPv6 (RFC 6935)", b"0")
    row[5] = dataplane_encap_option_help(b"udp6_zero_checksum_rx", b"1: accept a zero outer UDP checksum over IPv6 (RFC 6935)", b"0")


cdef inline uint16_t udp_source_port(const dataplane_encap_ports *p, uint32_t flow_hash) noexcept nogil:
    """udp_flow_src_port(): the flow's hash scaled into the range."""
    flow_hash ^= flow_hash << 16
    return <uint16_t>(p.port_min + ((<uint64_t>flow_hash * (p.port_max - p.port_min)) >> 32))


cdef inline void udp_write(const Udp *u, dataplane_encap_push *info, uint8_t *udp, uint32_t n) noexcept nogil:
    """The UDP header at ``udp``; ``n``: bytes from there to the end, what follows the header being there already."""
    cdef uint32_t sum
    cdef bint computed = u.checksum if info.family == 4 else not u.zero6_tx
    st16(udp, udp_source_port(&u.ports, info.flow_hash))
    st16(udp + 2, u.ports.port)
    st16(udp + 4, n)
    st16(udp + 6, 0)
    if computed:
        sum = pseudo_sum(info.local, info.remote, 4 if info.family == 4 else 16, IPPROTO_UDP, n)
        sum = ~csum_add_bytes(udp, n, sum) & 0xffff
        st16(udp + 6, sum if sum else 0xffff)
    info.ip_protocol = IPPROTO_UDP


cdef inline bint udp_refused(const Udp *u, const dataplane_encap_pop *info, const uint8_t *udp) noexcept nogil:
    """A zero checksum over IPv6 that the device does not accept; a wrong one never comes this far."""
    return info.family == 6 and ld16(udp + 6) == 0 and not u.zero6_rx


cdef inline int udp_describe(const uint8_t *udp, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the fields of the UDP header: the bytes it takes, -1 if it is broken off."""
    if size < UDP_HLEN:
        return -1
    field(context, b"udp", b"sport", ld16(udp), NULL, 0)
    field(context, b"udp", b"dport", ld16(udp + 2), NULL, 0)
    field(context, b"udp", b"checksum", ld16(udp + 6), NULL, 0)
    return UDP_HLEN
