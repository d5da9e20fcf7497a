"""GUE, generic UDP encapsulation (draft-ietf-intarea-gue), as Linux writes and checks it: net/ipv4/fou_core.c, include/net/gue.h.

Variant 0 has a header of 4 bytes and optional fields, variant 1 is an IP packet right behind UDP; both are received,
``variant`` says which is sent (Linux sends 0, katran 1). Control messages are refused as by Linux, and so is remote
checksum offload, which only senders with a certain hardware write.
An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_ERROR_LEN, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.direct cimport (DIRECT_OPTIONS, GRE_HLEN, IPPROTO_IPV6, Direct, direct_defaults, direct_help, direct_option,
                               ethertype_by_version, gre_name, gre_put, gre_take, holds_ip_header, ip_protocol_of, is_ip)
from ext.encap.options cimport option_in
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_describe, udp_refused
from ext.encap.udp_device cimport udp_device_overhead, udp_device_port, udp_device_push, udp_device_room
from ext.wire.bytes cimport ld16, ld32, st16
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_UDP

cdef enum:
    GUE_HLEN = 4
    CONTROL = 0x20
    FIELD_WORDS = 0x1f  # of the first byte: optional fields in units of 4 bytes
    FLAG_PRIVATE = 0x0001
    PRIVATE_HLEN = 4
    PRIVATE_REMOTE_CHECKSUM = 0x80000000
    OPTIONS = 1 + DIRECT_OPTIONS
    # drop reasons, in the order of the table below, counted from 1
    BAD_VARIANT = 1
    BAD_FLAGS
    REMOTE_CHECKSUM
    CONTROL_MESSAGE
    UNKNOWN_PROTOCOL
    BAD_GRE
    TRUNCATED
    INNER_TRUNCATED
    NO_HEADROOM
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM

cdef struct Device:
    Direct direct
    uint8_t variant


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    if option_in(o, b"variant", 0, 1):
        d.variant = <uint8_t>o.number
        return True
    return direct_option(&d.direct, o)


cdef bint is_consistent(const Device *d, char *error) noexcept nogil:
    if d.variant and d.direct.gre:
        snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"gue: variant 1 carries IP packets only: set gre to 0")
        return False
    return udp_consistent(&d.direct.device.udp, b"gue", error)


cdef void *gue_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    direct_defaults(&d.direct, 6080)
    if device_configured(d, take_option, options, n, b"gue", error) == NULL:
        return NULL
    if not is_consistent(d, error):
        device_destroy(d)
        return NULL
    return d


cdef uint32_t header_len(const Device *d) noexcept nogil:
    """Bytes behind the UDP header."""
    return (0 if d.variant else GUE_HLEN) + (GRE_HLEN if d.direct.gre else 0)


cdef uint16_t gue_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, header_len(<const Device *>state))


cdef int gue_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef uint8_t *gue
    if not is_ip(info.inner_protocol):
        return UNKNOWN_PROTOCOL
    gue = udp_device_room(bytes, header_len(d))
    if gue == NULL:
        return NO_HEADROOM
    if d.variant == 0:
        gue[0] = 0
        gue[1] = <uint8_t>(IPPROTO_GRE if d.direct.gre else ip_protocol_of(info.inner_protocol))
        st16(gue + 2, 0)
    if d.direct.gre:
        gre_put(gue + GUE_HLEN, info.inner_protocol)
    return udp_device_push(&d.direct.device, info, bytes)


cdef int check_flags(const uint8_t *gue, uint32_t n_fields) noexcept nogil:
    """validate_gue_flags(): every flag is known, and its fields are there."""
    cdef uint32_t private_flags
    if ld16(gue + 2) & ~FLAG_PRIVATE:
        return BAD_FLAGS
    if not ld16(gue + 2) & FLAG_PRIVATE:
        return DATAPLANE_ENCAP_OK
    if n_fields < PRIVATE_HLEN:
        return BAD_FLAGS
    private_flags = ld32(gue + GUE_HLEN)
    if private_flags & ~<uint32_t>PRIVATE_REMOTE_CHECKSUM:
        return BAD_FLAGS
    return REMOTE_CHECKSUM if private_flags else DATAPLANE_ENCAP_OK


cdef int take_header(dataplane_encap_bytes *bytes) noexcept nogil:
    """Move ``data`` behind the header of variant 0."""
    cdef const uint8_t *gue = bytes.data
    cdef uint32_t n_fields = 4 * <uint32_t>(gue[0] & FIELD_WORDS)
    cdef int v
    if bytes.tail - gue < GUE_HLEN + n_fields:
        return TRUNCATED
    v = check_flags(gue, n_fields)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if gue[0] & CONTROL:
        return CONTROL_MESSAGE
    bytes.data += GUE_HLEN + n_fields
    return DATAPLANE_ENCAP_OK


cdef int ethertype_by_protocol(int ip_protocol, dataplane_encap_bytes *bytes) noexcept nogil:
    """EtherType of the packet at ``data``, which is moved behind a GRE header; 0: unknown."""
    if ip_protocol == IPPROTO_GRE:
        return gre_take(bytes)
    if ip_protocol == IPPROTO_IPIP:
        return ETHERTYPE_IPV4
    return ETHERTYPE_IPV6 if ip_protocol == IPPROTO_IPV6 else 0


cdef int gue_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *gue = bytes.data + UDP_HLEN
    cdef int ethertype, v
    if bytes.tail - bytes.data < UDP_HLEN + GUE_HLEN:
        return TRUNCATED
    if udp_refused(&d.direct.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    bytes.data += UDP_HLEN
    if gue[0] >> 6:
        ethertype = ethertype_by_version(gue, bytes.tail - gue)
        if ethertype == 0:
            return BAD_VARIANT
    else:
        v = take_header(bytes)
        if v != DATAPLANE_ENCAP_OK:
            return v
        ethertype = ethertype_by_protocol(gue[1], bytes)
        if ethertype == 0:
            return BAD_GRE if gue[1] == IPPROTO_GRE else UNKNOWN_PROTOCOL
    if not holds_ip_header(ethertype, bytes.tail - bytes.data):
        return INNER_TRUNCATED
    info.inner_protocol = <uint16_t>ethertype
    return DATAPLANE_ENCAP_OK


cdef int describe_header(const uint8_t *gue, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the fields of variant 0, and of a GRE header behind it: the bytes they take, -1 if they are broken off."""
    cdef int n_fields = 4 * (gue[0] & FIELD_WORDS), hlen = 0
    field(context, b"gue", b"control", gue[0] & CONTROL != 0, NULL, 0)
    field(context, b"gue", b"protocol", gue[1], NULL, 0)
    field(context, b"gue", b"flags", ld16(gue + 2), NULL, 0)
    if size < GUE_HLEN + <size_t>n_fields:
        return -1
    if n_fields:
        field(context, b"gue", b"fields", 0, gue + GUE_HLEN, n_fields)
    if gue[1] == IPPROTO_GRE and not gue[0] & CONTROL:
        hlen = gre_name(gue + GUE_HLEN + n_fields, size - GUE_HLEN - n_fields, field, context)
    return GUE_HLEN + n_fields + hlen if hlen >= 0 else -1


cdef int gue_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef const uint8_t *gue = data + UDP_HLEN
    cdef int hlen = 0
    if udp_describe(data, size, field, context) < 0 or size < UDP_HLEN + GUE_HLEN:
        return -1
    field(context, b"gue", b"variant", gue[0] >> 6, NULL, 0)
    if gue[0] >> 6 == 0:
        hlen = describe_header(gue, size - UDP_HLEN, field, context)
    return UDP_HLEN + hlen if hlen >= 0 else -1


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[BAD_VARIANT - 1] = dataplane_encap_reason(
    b"bad_variant", b"The GUE header has an unknown variant, or variant 1 without an IP packet", b"NOT_SPECIFIED")
REASONS[BAD_FLAGS - 1] = dataplane_encap_reason(
    b"bad_flags", b"A flag of the GUE header is unknown, or its field is missing", b"NOT_SPECIFIED")
REASONS[REMOTE_CHECKSUM - 1] = dataplane_encap_reason(
    b"remote_checksum", b"Remote checksum offload, which is not carried out here", b"NOT_SPECIFIED")
REASONS[CONTROL_MESSAGE - 1] = dataplane_encap_reason(b"control_message", b"A control message, none of which is known", b"NOT_SPECIFIED")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(
    b"unknown_protocol", b"The GUE header names none of IPv4, IPv6 and GRE", b"NOT_SPECIFIED")
REASONS[BAD_GRE - 1] = dataplane_encap_reason(
    b"bad_gre", b"What follows the GUE header is no GRE header of 4 bytes with an IP packet", b"NOT_SPECIFIED")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the GUE header", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What a GUE packet carries is shorter than an IP header", b"NOT_SPECIFIED")
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the GUE header before the packet", b"NOMEM")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The UDP checksum around GUE is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
OPTION_HELP[0] = dataplane_encap_option_help(
    b"variant", b"0: a GUE header is written, 1: the IP packet follows the UDP header", b"0")
direct_help(&OPTION_HELP[1], b"6080")

cdef dataplane_encap GUE
memset(&GUE, 0, sizeof(GUE))
GUE.abi = DATAPLANE_ENCAP_ABI
GUE.name = b"gue"
GUE.sentence = b"IP packets in UDP with a header of 4 bytes, or none, before them (draft-ietf-intarea-gue)"
GUE.ip_protocols[0] = IPPROTO_UDP
GUE.options = OPTION_HELP
GUE.n_options = OPTIONS
GUE.drop_reasons = REASONS
GUE.n_drop_reasons = N_REASONS
GUE.create = gue_create
GUE.destroy = device_destroy
GUE.overhead = gue_overhead
GUE.port = udp_device_port
GUE.push = gue_push
GUE.pop = gue_pop
GUE.describe = gue_describe

capsule = PyCapsule_New(&GUE, DATAPLANE_ENCAP_CAPSULE, NULL)
