"""MPLS in UDP (RFC 7510), the labels as Linux writes and takes them: drivers/net/bareudp.c, net/mpls.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.mpls cimport (MPLS_NO_HEADROOM, MPLS_NOT_IP, MPLS_OPTIONS, MPLS_REASONS, MPLS_TOO_DEEP, MPLS_TRUNCATED, MPLS_TTL_EXPIRED,
                             MPLS_UNKNOWN_PAYLOAD, Mpls, mpls_defaults, mpls_describe, mpls_help, mpls_hlen, mpls_option, mpls_pop,
                             mpls_push)
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_defaults, udp_describe, udp_refused
from ext.encap.udp_device cimport (ROW_PORT_MAX, ROW_PORT_MIN, UDP_DEVICE_OPTIONS, UdpDevice, udp_device_help, udp_device_option,
                                   udp_device_overhead, udp_device_port, udp_device_push)
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    OPTIONS = MPLS_OPTIONS + UDP_DEVICE_OPTIONS
    # drop reasons behind those of mpls.pxd
    UDP_TRUNCATED = MPLS_REASONS + 1
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM

cdef struct Device:
    UdpDevice below
    Mpls mpls


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    return mpls_option(&d.mpls, o) or udp_device_option(&d.below, o)


cdef void *mpls_udp_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    mpls_defaults(&d.mpls)
    udp_defaults(&d.below.udp, 6635)
    d.below.udp.ports.port_min = 49152  # RFC 7510 section 3: the dynamic ports
    d.below.udp.ports.port_max = 65535
    d = <Device *>device_configured(d, take_option, options, n, b"mpls_udp", error)
    if d != NULL and not udp_consistent(&d.below.udp, b"mpls_udp", error):
        device_destroy(d)
        return NULL
    return d


cdef uint16_t mpls_udp_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, mpls_hlen(&(<const Device *>state).mpls))


cdef int mpls_udp_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef int v
    if bytes.data - bytes.head < UDP_HLEN + mpls_hlen(&d.mpls):
        return MPLS_NO_HEADROOM
    v = mpls_push(&d.mpls, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return v
    bytes.data -= UDP_HLEN
    return udp_device_push(&d.below, info, bytes)


cdef int mpls_udp_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    if bytes.tail - bytes.data < UDP_HLEN:
        return UDP_TRUNCATED
    if udp_refused(&d.below.udp, info, bytes.data):
        return ZERO_CHECKSUM
    bytes.data += UDP_HLEN
    return mpls_pop(&d.mpls, info, bytes)


cdef int mpls_udp_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field,
                           void *context) noexcept nogil:
    cdef int n
    if udp_describe(data, size, field, context) < 0:
        return -1
    n = mpls_describe(data + UDP_HLEN, size - UDP_HLEN, field, context)
    return -1 if n < 0 else n + UDP_HLEN


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[MPLS_NO_HEADROOM - 1] = dataplane_encap_reason(
    b"no_headroom", b"No room for the MPLS labels in UDP before the packet", b"NOMEM")
REASONS[MPLS_NOT_IP - 1] = dataplane_encap_reason(
    b"not_ip", b"Only IPv4 and IPv6 packets go under MPLS labels in UDP", b"NOT_SPECIFIED")
REASONS[MPLS_TRUNCATED - 1] = dataplane_encap_reason(
    b"stack_truncated", b"The packet ends inside the MPLS labels in UDP or the IP header under them", b"NOT_SPECIFIED")
REASONS[MPLS_TTL_EXPIRED - 1] = dataplane_encap_reason(
    b"ttl_expired", b"The TTL of the outermost MPLS label in UDP has run out", b"NOT_SPECIFIED")
REASONS[MPLS_TOO_DEEP - 1] = dataplane_encap_reason(
    b"too_deep", b"The stack of MPLS labels in UDP is deeper than the device knows", b"NOT_SPECIFIED")
REASONS[MPLS_UNKNOWN_PAYLOAD - 1] = dataplane_encap_reason(
    b"unknown_payload", b"What is under the MPLS labels in UDP is not the IP version expected", b"NOT_SPECIFIED")
REASONS[UDP_TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the UDP header before MPLS", b"PKT_TOO_SMALL")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The UDP checksum around MPLS is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
mpls_help(&OPTION_HELP[0])
udp_device_help(&OPTION_HELP[MPLS_OPTIONS], b"6635", b"0", b"0")
OPTION_HELP[MPLS_OPTIONS + ROW_PORT_MIN].default_value = b"49152"
OPTION_HELP[MPLS_OPTIONS + ROW_PORT_MAX].default_value = b"65535"

cdef dataplane_encap MPLS_UDP
memset(&MPLS_UDP, 0, sizeof(MPLS_UDP))
MPLS_UDP.abi = DATAPLANE_ENCAP_ABI
MPLS_UDP.name = b"mpls_udp"
MPLS_UDP.sentence = b"IP packets under MPLS labels in UDP (RFC 7510)"
MPLS_UDP.ip_protocols[0] = IPPROTO_UDP
MPLS_UDP.options = OPTION_HELP
MPLS_UDP.n_options = OPTIONS
MPLS_UDP.drop_reasons = REASONS
MPLS_UDP.n_drop_reasons = N_REASONS
MPLS_UDP.create = mpls_udp_create
MPLS_UDP.destroy = device_destroy
MPLS_UDP.overhead = mpls_udp_overhead
MPLS_UDP.port = udp_device_port
MPLS_UDP.push = mpls_udp_push
MPLS_UDP.pop = mpls_udp_pop
MPLS_UDP.describe = mpls_udp_describe

capsule = PyCapsule_New(&MPLS_UDP, DATAPLANE_ENCAP_CAPSULE, NULL)
