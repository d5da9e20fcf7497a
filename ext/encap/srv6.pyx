"""Segment routing over IPv6 (RFC 8754, RFC 8986: H.Encaps, H.Encaps.Red, End.DT46) around IP packets, as Linux does it.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy
from ext.encap.srv6 cimport (SRV6_HMAC, SRV6_MALFORMED, SRV6_NO_HEADROOM, SRV6_NOT_OVER_IPV4, SRV6_OPTIONS, SRV6_REASONS,
                             SRV6_SEGMENTS_LEFT, SRV6_TRUNCATED, Srv6, srv6_describe, srv6_help, srv6_new, srv6_overhead, srv6_pop,
                             srv6_port, srv6_push, srv6_take_option)
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_IPIP, IPPROTO_IPV6, IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN, NEXT_ROUTING

cdef enum:
    OPTIONS = SRV6_OPTIONS
    # drop reasons behind those of srv6.pxd
    NOT_IP = SRV6_REASONS + 1
    INNER_TRUNCATED
    N_REASONS = INNER_TRUNCATED


cdef void *srv6_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef void *d = srv6_new(error)
    return NULL if d == NULL else device_configured(d, srv6_take_option, options, n, b"srv6", error)


cdef int push_packet(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    if info.inner_protocol != ETHERTYPE_IPV4 and info.inner_protocol != ETHERTYPE_IPV6:
        return NOT_IP
    return srv6_push(<const Srv6 *>state, info, bytes, IPPROTO_IPIP if info.inner_protocol == ETHERTYPE_IPV4 else IPPROTO_IPV6)


cdef int pop_packet(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef uint8_t next = 0
    cdef int v = srv6_pop(info, bytes, &next)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if next != IPPROTO_IPIP and next != IPPROTO_IPV6:
        return DATAPLANE_ENCAP_NOT_MINE
    if bytes.tail - bytes.data < (IPV4_HLEN if next == IPPROTO_IPIP else IPV6_HLEN):
        return INNER_TRUNCATED
    info.inner_protocol = ETHERTYPE_IPV4 if next == IPPROTO_IPIP else ETHERTYPE_IPV6
    return DATAPLANE_ENCAP_OK


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[SRV6_NO_HEADROOM - 1] = dataplane_encap_reason(
    b"no_headroom", b"No room for the segment routing header before the IP packet", b"NOMEM")
REASONS[SRV6_NOT_OVER_IPV4 - 1] = dataplane_encap_reason(
    b"not_over_ipv4", b"Segment routing needs an IPv6 underlay", b"NOT_SPECIFIED")
REASONS[SRV6_TRUNCATED - 1] = dataplane_encap_reason(
    b"truncated", b"The packet ends inside the segment routing header", b"NOT_SPECIFIED")
REASONS[SRV6_MALFORMED - 1] = dataplane_encap_reason(
    b"malformed", b"Lengths in the segment routing header contradict each other", b"NOT_SPECIFIED")
REASONS[SRV6_SEGMENTS_LEFT - 1] = dataplane_encap_reason(
    b"segments_left", b"This is not the last segment that the segment routing header lists", b"NOT_SPECIFIED")
REASONS[SRV6_HMAC - 1] = dataplane_encap_reason(
    b"hmac", b"The segment routing header has an HMAC, which nobody here can check", b"NOT_SPECIFIED")
REASONS[NOT_IP - 1] = dataplane_encap_reason(b"not_ip", b"Only IPv4 and IPv6 packets go into segment routing of packets", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What segment routing carries is shorter than an IP header", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
srv6_help(&OPTION_HELP[0])

cdef dataplane_encap SRV6
memset(&SRV6, 0, sizeof(SRV6))
SRV6.abi = DATAPLANE_ENCAP_ABI
SRV6.name = b"srv6"
SRV6.sentence = b"IP packets in IPv6 with a list of segments to visit (SRv6, RFC 8986: H.Encaps and H.Encaps.Red)"
SRV6.ip_protocols[0] = NEXT_ROUTING
SRV6.ip_protocols[1] = IPPROTO_IPIP
SRV6.ip_protocols[2] = IPPROTO_IPV6
SRV6.options = OPTION_HELP
SRV6.n_options = OPTIONS
SRV6.drop_reasons = REASONS
SRV6.n_drop_reasons = N_REASONS
SRV6.create = srv6_create
SRV6.destroy = device_destroy
SRV6.overhead = srv6_overhead
SRV6.port = srv6_port
SRV6.push = push_packet
SRV6.pop = pop_packet
SRV6.describe = srv6_describe

capsule = PyCapsule_New(&SRV6, DATAPLANE_ENCAP_CAPSULE, NULL)
