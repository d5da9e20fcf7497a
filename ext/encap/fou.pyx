"""FOU, foo over UDP: an IP packet, or one in GRE (RFC 8086), right behind a UDP header (net/ipv4/fou_core.c, net/ipv6/fou6.c).

A Linux port takes one IP protocol; with ``gre`` 0 this one takes IPv4 and IPv6 packets, told by their version. A fixed
source port N (``encap-sport``) is ``port_min`` N and ``port_max`` N + 1, and ``noencap-csum6``, Linux' default,
``udp6_zero_checksum_tx`` 1.
An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_OK, DATAPLANE_ENCAP_STEADY_BUT_PORT)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.direct cimport (DIRECT_OPTIONS, GRE_HLEN, Direct, direct_defaults, direct_help, direct_option, ethertype_by_version,
                               gre_name, gre_put, gre_take, holds_ip_header, is_ip)
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_describe, udp_refused
from ext.encap.udp_device cimport udp_device_overhead, udp_device_port, udp_device_push, udp_device_room
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    # drop reasons, in the order of the table below, counted from 1
    NOT_IP = 1
    BAD_GRE
    TRUNCATED
    INNER_TRUNCATED
    NO_HEADROOM
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    return direct_option(<Direct *>device, o)


cdef void *fou_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Direct *d = <Direct *>device_new(sizeof(Direct), error)
    if d == NULL:
        return NULL
    direct_defaults(d, 5555)
    if device_configured(d, take_option, options, n, b"fou", error) == NULL:
        return NULL
    if not udp_consistent(&d.device.udp, b"fou", error):
        device_destroy(d)
        return NULL
    return d


cdef uint16_t fou_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, GRE_HLEN if (<const Direct *>state).gre else 0)


cdef int fou_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Direct *d = <Direct *>state
    cdef uint8_t *gre
    if not is_ip(info.inner_protocol):
        return NOT_IP
    gre = udp_device_room(bytes, GRE_HLEN if d.gre else 0)
    if gre == NULL:
        return NO_HEADROOM
    if d.gre:
        gre_put(gre, info.inner_protocol)
    return udp_device_push(&d.device, info, bytes)


cdef int fou_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Direct *d = <Direct *>state
    cdef int ethertype
    if bytes.tail - bytes.data < UDP_HLEN:
        return TRUNCATED
    if udp_refused(&d.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    bytes.data += UDP_HLEN
    ethertype = gre_take(bytes) if d.gre else ethertype_by_version(bytes.data, bytes.tail - bytes.data)
    if ethertype == 0:
        return BAD_GRE if d.gre else NOT_IP
    if not holds_ip_header(ethertype, bytes.tail - bytes.data):
        return INNER_TRUNCATED
    info.inner_protocol = <uint16_t>ethertype
    return DATAPLANE_ENCAP_OK


cdef int fou_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """GRE is told from IP by its first 4 bits, which are no version of IP."""
    cdef int hlen = 0
    if udp_describe(data, size, field, context) < 0:
        return -1
    if not ethertype_by_version(data + UDP_HLEN, size - UDP_HLEN):
        hlen = gre_name(data + UDP_HLEN, size - UDP_HLEN, field, context)
    return UDP_HLEN + hlen if hlen >= 0 else -1


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[NOT_IP - 1] = dataplane_encap_reason(b"not_ip", b"What follows the UDP header is neither IPv4 nor IPv6", b"IP_INHDR")
REASONS[BAD_GRE - 1] = dataplane_encap_reason(
    b"bad_gre", b"What follows the UDP header is no GRE header of 4 bytes with an IP packet", b"NOT_SPECIFIED")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the UDP header", b"UDP_CSUM")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What a FOU packet carries is shorter than an IP header", b"NOT_SPECIFIED")
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the UDP header before the packet", b"NOMEM")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The UDP checksum around FOU is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[DIRECT_OPTIONS] OPTION_HELP
direct_help(&OPTION_HELP[0], b"5555")

cdef dataplane_encap FOU
memset(&FOU, 0, sizeof(FOU))
FOU.abi = DATAPLANE_ENCAP_ABI
FOU.name = b"fou"
FOU.sentence = b"IP packets right in UDP, or in GRE in UDP (RFC 8086), as Linux' foo over UDP"
FOU.ip_protocols[0] = IPPROTO_UDP
FOU.steady = DATAPLANE_ENCAP_STEADY_BUT_PORT
FOU.options = OPTION_HELP
FOU.n_options = DIRECT_OPTIONS
FOU.drop_reasons = REASONS
FOU.n_drop_reasons = N_REASONS
FOU.create = fou_create
FOU.destroy = device_destroy
FOU.overhead = fou_overhead
FOU.port = udp_device_port
FOU.push = fou_push
FOU.pop = fou_pop
FOU.describe = fou_describe

capsule = PyCapsule_New(&FOU, DATAPLANE_ENCAP_CAPSULE, NULL)
