"""Segment routing over IPv6 around Ethernet frames (RFC 8986: H.Encaps.L2, H.Encaps.L2.Red, End.DX2), as Linux does it.

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
from ext.wire.ether cimport ETH_HLEN, ETHERTYPE_TEB
from ext.wire.ipv6 cimport NEXT_ROUTING

cdef enum:
    OPTIONS = SRV6_OPTIONS
    IPPROTO_ETHERNET = 143
    # drop reasons behind those of srv6.pxd
    INNER_TRUNCATED = SRV6_REASONS + 1
    N_REASONS = INNER_TRUNCATED


cdef void *srv6_l2_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef void *d = srv6_new(error)
    return NULL if d == NULL else device_configured(d, srv6_take_option, options, n, b"srv6_l2", error)


cdef int srv6_l2_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    return srv6_push(<const Srv6 *>state, info, bytes, IPPROTO_ETHERNET)


cdef int srv6_l2_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef uint8_t next = 0
    cdef int v = srv6_pop(info, bytes, &next)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if next != IPPROTO_ETHERNET:
        return DATAPLANE_ENCAP_NOT_MINE
    info.inner_protocol = ETHERTYPE_TEB
    return INNER_TRUNCATED if bytes.tail - bytes.data < ETH_HLEN else DATAPLANE_ENCAP_OK


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[SRV6_NO_HEADROOM - 1] = dataplane_encap_reason(
    b"no_headroom", b"No room for the segment routing header before the Ethernet frame", b"NOMEM")
REASONS[SRV6_NOT_OVER_IPV4 - 1] = dataplane_encap_reason(
    b"not_over_ipv4", b"Segment routing needs an IPv6 underlay for Ethernet frames too", b"NOT_SPECIFIED")
REASONS[SRV6_TRUNCATED - 1] = dataplane_encap_reason(
    b"truncated", b"The packet ends inside the segment routing header before an Ethernet frame", b"NOT_SPECIFIED")
REASONS[SRV6_MALFORMED - 1] = dataplane_encap_reason(
    b"malformed", b"Lengths in the segment routing header before an Ethernet frame contradict each other", b"NOT_SPECIFIED")
REASONS[SRV6_SEGMENTS_LEFT - 1] = dataplane_encap_reason(
    b"segments_left", b"This is not the last segment that the segment routing header before an Ethernet frame lists", b"NOT_SPECIFIED")
REASONS[SRV6_HMAC - 1] = dataplane_encap_reason(
    b"hmac", b"The segment routing header before an Ethernet frame has an HMAC, which nobody here can check", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"The frame that segment routing carries is shorter than an Ethernet header", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
srv6_help(&OPTION_HELP[0])

cdef dataplane_encap SRV6_L2
memset(&SRV6_L2, 0, sizeof(SRV6_L2))
SRV6_L2.abi = DATAPLANE_ENCAP_ABI
SRV6_L2.name = b"srv6_l2"
SRV6_L2.sentence = b"Ethernet frames in IPv6 with a list of segments to visit (SRv6, RFC 8986: H.Encaps.L2 and H.Encaps.L2.Red)"
SRV6_L2.ip_protocols[0] = NEXT_ROUTING
SRV6_L2.ip_protocols[1] = IPPROTO_ETHERNET
SRV6_L2.ethernet = True
SRV6_L2.options = OPTION_HELP
SRV6_L2.n_options = OPTIONS
SRV6_L2.drop_reasons = REASONS
SRV6_L2.n_drop_reasons = N_REASONS
SRV6_L2.create = srv6_l2_create
SRV6_L2.destroy = device_destroy
SRV6_L2.overhead = srv6_overhead
SRV6_L2.port = srv6_port
SRV6_L2.push = srv6_l2_push
SRV6_L2.pop = srv6_l2_pop
SRV6_L2.describe = srv6_describe

capsule = PyCapsule_New(&SRV6_L2, DATAPLANE_ENCAP_CAPSULE, NULL)
