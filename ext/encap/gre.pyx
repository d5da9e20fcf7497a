"""GRE (RFC 2784, RFC 2890) around IP packets as Linux writes and checks it: net/ipv4/ip_gre.c, net/ipv6/ip6_gre.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy
from ext.encap.gre cimport (GRE_BAD_CHECKSUM, GRE_BAD_VERSION, GRE_CHECKSUM_MISMATCH, GRE_ERSPAN, GRE_ERSPAN3, GRE_MIN_HLEN, GRE_MPLS,
                            GRE_NO_HEADROOM, GRE_OPTIONS, GRE_OUT_OF_SEQUENCE, GRE_REASONS, GRE_ROUTING_PRESENT, GRE_TRUNCATED, GreDevice,
                            GreHeader, gre_accept, gre_describe, gre_device_new, gre_has_key, gre_help, gre_overhead, gre_port, gre_push,
                            gre_read, gre_take_option)
from ext.encap.limit cimport limit_of
from ext.encap.outer cimport OUTER_OPTIONS, outer_help
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPPROTO_GRE, IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN

cdef enum:
    GRE_WCCP = 0x883e
    OPTIONS = GRE_OPTIONS + OUTER_OPTIONS
    # drop reasons behind those of gre.pxd
    NOT_CARRIED = GRE_REASONS + 1
    UNKNOWN_PROTOCOL
    INNER_TRUNCATED
    LIMIT_REACHED
    N_REASONS = LIMIT_REACHED


cdef void *gre_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef void *d = gre_device_new(sizeof(GreDevice), error)
    return NULL if d == NULL else device_configured(d, gre_take_option, options, n, b"gre", error)


cdef bint of_another_kind(int protocol) noexcept nogil:
    """Protocol types that Linux hands to devices of another kind, or to MPLS."""
    return protocol == ETHERTYPE_TEB or protocol == GRE_ERSPAN or protocol == GRE_ERSPAN3 or protocol == GRE_MPLS


cdef int gre_push_packet(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef int limit = limit_of(info, bytes)
    if info.inner_protocol < ETHERTYPE_MIN or of_another_kind(info.inner_protocol):
        return NOT_CARRIED
    return LIMIT_REACHED if limit == 0 else gre_push(<GreDevice *>state, info, bytes, info.inner_protocol, limit)


cdef void skip_wccp(GreHeader *h, dataplane_encap_bytes *bytes) noexcept nogil:
    """Web cache redirection: IPv4 all the same, in its version 2 behind four bytes more (gre_parse_header())."""
    if h.flags or h.protocol != GRE_WCCP or bytes.tail - bytes.data < GRE_MIN_HLEN:
        return
    h.protocol = ETHERTYPE_IPV4
    if bytes.data[0] & 0xf0 != 0x40:
        bytes.data += GRE_MIN_HLEN


cdef int gre_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef GreDevice *d = <GreDevice *>state
    cdef GreHeader h
    cdef int v = gre_read(info, bytes.data, bytes.tail - bytes.data, &h)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if of_another_kind(h.protocol) or not gre_has_key(&d.gre, &h):
        return DATAPLANE_ENCAP_NOT_MINE
    bytes.data += h.size
    skip_wccp(&h, bytes)
    if h.protocol < ETHERTYPE_MIN:
        return UNKNOWN_PROTOCOL
    v = gre_accept(&d.gre, &h)
    if v != DATAPLANE_ENCAP_OK:
        return v
    info.inner_protocol = h.protocol
    if ((h.protocol == ETHERTYPE_IPV4 and bytes.tail - bytes.data < IPV4_HLEN)
            or (h.protocol == ETHERTYPE_IPV6 and bytes.tail - bytes.data < IPV6_HLEN)):
        return INNER_TRUNCATED
    return DATAPLANE_ENCAP_OK


cdef int gre_describe_packet(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field,
                             void *context) noexcept nogil:
    cdef GreHeader h
    return gre_describe(data, size, &h, field, context)


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[GRE_NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the GRE header before the packet", b"NOMEM")
REASONS[GRE_TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the GRE header", b"NOT_SPECIFIED")
REASONS[GRE_BAD_VERSION - 1] = dataplane_encap_reason(b"bad_version", b"The GRE header has an unknown version", b"NOT_SPECIFIED")
REASONS[GRE_ROUTING_PRESENT - 1] = dataplane_encap_reason(
    b"routing_present", b"The GRE header has routing entries (RFC 1701)", b"NOT_SPECIFIED")
REASONS[GRE_BAD_CHECKSUM - 1] = dataplane_encap_reason(b"bad_checksum", b"The GRE checksum is wrong", b"NOT_SPECIFIED")
REASONS[GRE_CHECKSUM_MISMATCH - 1] = dataplane_encap_reason(
    b"checksum_mismatch", b"The GRE header has a checksum and the device none, or vice versa", b"NOT_SPECIFIED")
REASONS[GRE_OUT_OF_SEQUENCE - 1] = dataplane_encap_reason(
    b"out_of_sequence", b"The GRE sequence number is missing or older than one received before", b"NOT_SPECIFIED")
REASONS[NOT_CARRIED - 1] = dataplane_encap_reason(
    b"not_carried", b"GRE carries this protocol in devices of another kind, or not at all", b"NOT_SPECIFIED")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(
    b"unknown_protocol", b"The protocol type of the GRE header is no EtherType", b"UNHANDLED_PROTO")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What a GRE packet carries is shorter than an IP header", b"NOT_SPECIFIED")
REASONS[LIMIT_REACHED - 1] = dataplane_encap_reason(
    b"limit_reached", b"The tunnel encapsulation limit of a packet for GRE is zero: it may enter no other tunnel", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
gre_help(&OPTION_HELP[0])
outer_help(&OPTION_HELP[GRE_OPTIONS], b"1", b"1")

cdef dataplane_encap GRE
memset(&GRE, 0, sizeof(GRE))
GRE.abi = DATAPLANE_ENCAP_ABI
GRE.name = b"gre"
GRE.sentence = b"IP packets in GRE (RFC 2784), with key and sequence number (RFC 2890)"
GRE.ip_protocols[0] = IPPROTO_GRE
GRE.steady = True  # without checksum and sequence number
GRE.options = OPTION_HELP
GRE.n_options = OPTIONS
GRE.drop_reasons = REASONS
GRE.n_drop_reasons = N_REASONS
GRE.create = gre_create
GRE.destroy = device_destroy
GRE.overhead = gre_overhead
GRE.port = gre_port
GRE.push = gre_push_packet
GRE.pop = gre_pop
GRE.describe = gre_describe_packet

capsule = PyCapsule_New(&GRE, DATAPLANE_ENCAP_CAPSULE, NULL)
