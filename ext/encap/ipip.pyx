"""IP in IP (RFC 2003, RFC 2473, RFC 4213): IPv4 and IPv6 packets right behind an outer IPv4 or IPv6 header.

Linux' devices of kinds ipip, sit and ip6tnl in one: net/ipv4/ipip.c, net/ipv6/sit.c, net/ipv6/ip6_tunnel.c.
An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.limit cimport LIMIT_OPTIONS, NO_LIMIT, limit_help, limit_hlen, limit_of, limit_option, limit_push
from ext.encap.outer cimport DF_SET, OUTER_OPTIONS, Outer, outer_help, outer_option, outer_push
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_IPIP, IPPROTO_IPV6, IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN

cdef enum:
    OPTIONS = LIMIT_OPTIONS + OUTER_OPTIONS
    # drop reasons, in the order of the table below, counted from 1
    NO_HEADROOM = 1
    NOT_IP
    LIMIT_REACHED
    INNER_TRUNCATED
    N_REASONS = INNER_TRUNCATED

cdef struct Device:
    int64_t limit  # written by this device, or NO_LIMIT
    Outer outer


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    return limit_option(&d.limit, o) or outer_option(&d.outer, o)


cdef void *ipip_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    d.limit = NO_LIMIT
    d.outer.ttl_inherit = True
    d.outer.df = DF_SET
    return device_configured(d, take_option, options, n, b"ipip", error)


cdef uint16_t ipip_overhead(const void *state, int family) noexcept nogil:
    return <uint16_t>((IPV4_HLEN if family == 4 else IPV6_HLEN) + limit_hlen((<const Device *>state).limit, family))


cdef uint16_t ipip_port(const void *state) noexcept nogil:
    return 0


cdef int ipip_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef int limit = limit_of(info, bytes)
    if info.inner_protocol != ETHERTYPE_IPV4 and info.inner_protocol != ETHERTYPE_IPV6:
        return NOT_IP
    if limit == 0:
        return LIMIT_REACHED
    info.ip_protocol = IPPROTO_IPIP if info.inner_protocol == ETHERTYPE_IPV4 else IPPROTO_IPV6
    if not limit_push(d.limit, limit, info, bytes):
        return NO_HEADROOM
    outer_push(&d.outer, info)
    return DATAPLANE_ENCAP_OK


cdef int ipip_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef bint ipv4 = info.outer_protocol == IPPROTO_IPIP
    if bytes.tail - bytes.data < (IPV4_HLEN if ipv4 else IPV6_HLEN):
        return INNER_TRUNCATED
    info.inner_protocol = ETHERTYPE_IPV4 if ipv4 else ETHERTYPE_IPV6
    return DATAPLANE_ENCAP_OK


cdef int ipip_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """There is no header besides the outer one."""
    return 0


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the encapsulation limit before the packet", b"NOMEM")
REASONS[NOT_IP - 1] = dataplane_encap_reason(b"not_ip", b"Only IPv4 and IPv6 packets fit into an IP-in-IP tunnel", b"NOT_SPECIFIED")
REASONS[LIMIT_REACHED - 1] = dataplane_encap_reason(
    b"limit_reached", b"The packet's tunnel encapsulation limit is zero: it may enter no other tunnel (RFC 2473 4.1.1)", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What an IP-in-IP packet carries is shorter than an IP header", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
limit_help(&OPTION_HELP[0])
outer_help(&OPTION_HELP[LIMIT_OPTIONS], b"1", b"1")

cdef dataplane_encap IPIP
memset(&IPIP, 0, sizeof(IPIP))
IPIP.abi = DATAPLANE_ENCAP_ABI
IPIP.name = b"ipip"
IPIP.sentence = b"IPv4 and IPv6 packets right in IPv4 or IPv6 (RFC 2003, RFC 2473, RFC 4213)"
IPIP.ip_protocols[0] = IPPROTO_IPIP
IPIP.ip_protocols[1] = IPPROTO_IPV6
IPIP.steady = True
IPIP.options = OPTION_HELP
IPIP.n_options = OPTIONS
IPIP.drop_reasons = REASONS
IPIP.n_drop_reasons = N_REASONS
IPIP.create = ipip_create
IPIP.destroy = device_destroy
IPIP.overhead = ipip_overhead
IPIP.port = ipip_port
IPIP.push = ipip_push
IPIP.pop = ipip_pop
IPIP.describe = ipip_describe

capsule = PyCapsule_New(&IPIP, DATAPLANE_ENCAP_CAPSULE, NULL)
