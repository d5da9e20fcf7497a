"""MPLS in GRE (RFC 4023), as Linux writes and checks it: net/ipv4/ip_gre.c, net/mpls.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy
from ext.encap.gre cimport (GRE_BAD_CHECKSUM, GRE_BAD_VERSION, GRE_CHECKSUM_MISMATCH, GRE_MPLS, GRE_NO_HEADROOM, GRE_OPTIONS,
                            GRE_OUT_OF_SEQUENCE, GRE_REASONS, GRE_ROUTING_PRESENT, GRE_TRUNCATED, GreDevice, GreHeader, gre_accept,
                            gre_describe, gre_device_new, gre_has_key, gre_help, gre_overhead, gre_port, gre_push, gre_read,
                            gre_take_option)
from ext.encap.limit cimport NO_LIMIT
from ext.encap.mpls cimport (MPLS_NO_HEADROOM, MPLS_NOT_IP, MPLS_OPTIONS, MPLS_REASONS, MPLS_TOO_DEEP, MPLS_TRUNCATED, MPLS_TTL_EXPIRED,
                             MPLS_UNKNOWN_PAYLOAD, Mpls, mpls_defaults, mpls_describe, mpls_help, mpls_hlen, mpls_option, mpls_pop,
                             mpls_push)
from ext.encap.outer cimport OUTER_OPTIONS, outer_help
from ext.wire.ipv4 cimport IPPROTO_GRE

cdef enum:
    OPTIONS = MPLS_OPTIONS + GRE_OPTIONS + OUTER_OPTIONS
    N_REASONS = GRE_REASONS + MPLS_REASONS  # those of gre.pxd, then those of mpls.pxd

cdef struct Device:
    GreDevice below
    Mpls mpls


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    return mpls_option(&(<Device *>device).mpls, o) or gre_take_option(device, o)


cdef void *mpls_gre_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>gre_device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    mpls_defaults(&d.mpls)
    return device_configured(d, take_option, options, n, b"mpls_gre", error)


cdef uint16_t mpls_gre_overhead(const void *state, int family) noexcept nogil:
    return <uint16_t>(gre_overhead(state, family) + mpls_hlen(&(<const Device *>state).mpls))


cdef int mpls_gre_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef int v
    v = mpls_push(&d.mpls, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return GRE_REASONS + v
    info.id = -1  # it was the label, and is not the key as well
    return gre_push(&d.below, info, bytes, GRE_MPLS, NO_LIMIT)


cdef int mpls_gre_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef GreHeader h
    cdef int v = gre_read(info, bytes.data, bytes.tail - bytes.data, &h)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if h.protocol != GRE_MPLS or not gre_has_key(&d.below.gre, &h):
        return DATAPLANE_ENCAP_NOT_MINE
    bytes.data += h.size
    v = mpls_pop(&d.mpls, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return v if v == DATAPLANE_ENCAP_NOT_MINE else GRE_REASONS + v
    return gre_accept(&d.below.gre, &h)


cdef int mpls_gre_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field,
                           void *context) noexcept nogil:
    cdef GreHeader h
    cdef int n = gre_describe(data, size, &h, field, context)
    cdef int labels
    if n < 0 or h.protocol != GRE_MPLS:
        return n
    labels = mpls_describe(data + n, size - n, field, context)
    return -1 if labels < 0 else n + labels


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[GRE_NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the GRE header before the MPLS labels", b"NOMEM")
REASONS[GRE_TRUNCATED - 1] = dataplane_encap_reason(
    b"truncated", b"The packet ends inside the GRE header before MPLS labels", b"NOT_SPECIFIED")
REASONS[GRE_BAD_VERSION - 1] = dataplane_encap_reason(
    b"bad_version", b"The GRE header before MPLS labels has an unknown version", b"NOT_SPECIFIED")
REASONS[GRE_ROUTING_PRESENT - 1] = dataplane_encap_reason(
    b"routing_present", b"The GRE header before MPLS labels has routing entries (RFC 1701)", b"NOT_SPECIFIED")
REASONS[GRE_BAD_CHECKSUM - 1] = dataplane_encap_reason(b"bad_checksum", b"The GRE checksum over MPLS labels is wrong", b"NOT_SPECIFIED")
REASONS[GRE_CHECKSUM_MISMATCH - 1] = dataplane_encap_reason(
    b"checksum_mismatch", b"The GRE header before MPLS labels has a checksum and the device none, or vice versa", b"NOT_SPECIFIED")
REASONS[GRE_OUT_OF_SEQUENCE - 1] = dataplane_encap_reason(
    b"out_of_sequence", b"The GRE sequence number before MPLS labels is missing or older than one received before", b"NOT_SPECIFIED")
REASONS[GRE_REASONS + MPLS_NO_HEADROOM - 1] = dataplane_encap_reason(
    b"no_headroom_labels", b"No room for the MPLS labels in GRE before the packet", b"NOMEM")
REASONS[GRE_REASONS + MPLS_NOT_IP - 1] = dataplane_encap_reason(
    b"not_ip", b"Only IPv4 and IPv6 packets go under MPLS labels in GRE", b"NOT_SPECIFIED")
REASONS[GRE_REASONS + MPLS_TRUNCATED - 1] = dataplane_encap_reason(
    b"stack_truncated", b"The packet ends inside the MPLS labels in GRE or the IP header under them", b"NOT_SPECIFIED")
REASONS[GRE_REASONS + MPLS_TTL_EXPIRED - 1] = dataplane_encap_reason(
    b"ttl_expired", b"The TTL of the outermost MPLS label in GRE has run out", b"NOT_SPECIFIED")
REASONS[GRE_REASONS + MPLS_TOO_DEEP - 1] = dataplane_encap_reason(
    b"too_deep", b"The stack of MPLS labels in GRE is deeper than the device knows", b"NOT_SPECIFIED")
REASONS[GRE_REASONS + MPLS_UNKNOWN_PAYLOAD - 1] = dataplane_encap_reason(
    b"unknown_payload", b"What is under the MPLS labels in GRE is not the IP version expected", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
mpls_help(&OPTION_HELP[0])
gre_help(&OPTION_HELP[MPLS_OPTIONS])
outer_help(&OPTION_HELP[MPLS_OPTIONS + GRE_OPTIONS], b"1", b"1")

cdef dataplane_encap MPLS_GRE
memset(&MPLS_GRE, 0, sizeof(MPLS_GRE))
MPLS_GRE.abi = DATAPLANE_ENCAP_ABI
MPLS_GRE.name = b"mpls_gre"
MPLS_GRE.sentence = b"IP packets under MPLS labels in GRE (RFC 4023)"
MPLS_GRE.ip_protocols[0] = IPPROTO_GRE
MPLS_GRE.options = OPTION_HELP
MPLS_GRE.n_options = OPTIONS
MPLS_GRE.drop_reasons = REASONS
MPLS_GRE.n_drop_reasons = N_REASONS
MPLS_GRE.create = mpls_gre_create
MPLS_GRE.destroy = device_destroy
MPLS_GRE.overhead = mpls_gre_overhead
MPLS_GRE.port = gre_port
MPLS_GRE.push = mpls_gre_push
MPLS_GRE.pop = mpls_gre_pop
MPLS_GRE.describe = mpls_gre_describe

capsule = PyCapsule_New(&MPLS_GRE, DATAPLANE_ENCAP_CAPSULE, NULL)
