"""GRE around Ethernet frames (RFC 2784, RFC 2890; NVGRE without its use of the key, RFC 7637) as Linux writes and
checks it: net/ipv4/ip_gre.c (gre_tap_xmit()), net/ipv6/ip6_gre.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy
from ext.encap.gre cimport (GRE_BAD_CHECKSUM, GRE_BAD_VERSION, GRE_CHECKSUM_MISMATCH, GRE_NO_HEADROOM, GRE_OPTIONS, GRE_OUT_OF_SEQUENCE,
                            GRE_REASONS, GRE_ROUTING_PRESENT, GRE_TRUNCATED, GreDevice, GreHeader, gre_accept, gre_describe, gre_device_new,
                            gre_has_key, gre_help, gre_overhead, gre_port, gre_push, gre_read, gre_take_option)
from ext.encap.limit cimport limit_of
from ext.encap.outer cimport OUTER_OPTIONS, outer_help
from ext.wire.ether cimport ETH_HLEN, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPPROTO_GRE

cdef enum:
    OPTIONS = GRE_OPTIONS + OUTER_OPTIONS
    # drop reasons behind those of gre.pxd
    INNER_TRUNCATED = GRE_REASONS + 1
    LIMIT_REACHED
    N_REASONS = LIMIT_REACHED


cdef void *gretap_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef void *d = gre_device_new(sizeof(GreDevice), error)
    return NULL if d == NULL else device_configured(d, gre_take_option, options, n, b"gretap", error)


cdef int gretap_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef int limit = limit_of(info, bytes)
    return LIMIT_REACHED if limit == 0 else gre_push(<GreDevice *>state, info, bytes, ETHERTYPE_TEB, limit)


cdef int gretap_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef GreDevice *d = <GreDevice *>state
    cdef GreHeader h
    cdef int v = gre_read(info, bytes.data, bytes.tail - bytes.data, &h)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if h.protocol != ETHERTYPE_TEB or not gre_has_key(&d.gre, &h):
        return DATAPLANE_ENCAP_NOT_MINE
    bytes.data += h.size
    v = INNER_TRUNCATED if bytes.tail - bytes.data < ETH_HLEN else gre_accept(&d.gre, &h)
    info.inner_protocol = ETHERTYPE_TEB
    return v


cdef int gretap_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef GreHeader h
    return gre_describe(data, size, &h, field, context)


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[GRE_NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the GRE header before the Ethernet frame", b"NOMEM")
REASONS[GRE_TRUNCATED - 1] = dataplane_encap_reason(
    b"truncated", b"The packet ends inside the GRE header before an Ethernet frame", b"NOT_SPECIFIED")
REASONS[GRE_BAD_VERSION - 1] = dataplane_encap_reason(
    b"bad_version", b"The GRE header before an Ethernet frame has an unknown version", b"NOT_SPECIFIED")
REASONS[GRE_ROUTING_PRESENT - 1] = dataplane_encap_reason(
    b"routing_present", b"The GRE header before an Ethernet frame has routing entries (RFC 1701)", b"NOT_SPECIFIED")
REASONS[GRE_BAD_CHECKSUM - 1] = dataplane_encap_reason(
    b"bad_checksum", b"The GRE checksum over an Ethernet frame is wrong", b"NOT_SPECIFIED")
REASONS[GRE_CHECKSUM_MISMATCH - 1] = dataplane_encap_reason(
    b"checksum_mismatch", b"The GRE header before an Ethernet frame has a checksum and the device none, or vice versa", b"NOT_SPECIFIED")
REASONS[GRE_OUT_OF_SEQUENCE - 1] = dataplane_encap_reason(
    b"out_of_sequence", b"The GRE sequence number before an Ethernet frame is missing or older than one received before", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"The frame in a GRE packet is shorter than an Ethernet header", b"NOT_SPECIFIED")
REASONS[LIMIT_REACHED - 1] = dataplane_encap_reason(
    b"limit_reached", b"The tunnel encapsulation limit in a frame for GRE is zero: it may enter no other tunnel", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
gre_help(&OPTION_HELP[0])
outer_help(&OPTION_HELP[GRE_OPTIONS], b"1", b"1")

cdef dataplane_encap GRETAP
memset(&GRETAP, 0, sizeof(GRETAP))
GRETAP.abi = DATAPLANE_ENCAP_ABI
GRETAP.name = b"gretap"
GRETAP.sentence = b"Ethernet frames in GRE (RFC 2784), with key and sequence number (RFC 2890)"
GRETAP.ip_protocols[0] = IPPROTO_GRE
GRETAP.ethernet = True
GRETAP.steady = True  # without checksum and sequence number
GRETAP.options = OPTION_HELP
GRETAP.n_options = OPTIONS
GRETAP.drop_reasons = REASONS
GRETAP.n_drop_reasons = N_REASONS
GRETAP.create = gretap_create
GRETAP.destroy = device_destroy
GRETAP.overhead = gre_overhead
GRETAP.port = gre_port
GRETAP.push = gretap_push
GRETAP.pop = gretap_pop
GRETAP.describe = gretap_describe

capsule = PyCapsule_New(&GRETAP, DATAPLANE_ENCAP_CAPSULE, NULL)
