"""Geneve (RFC 8926) as Linux writes and checks it: drivers/net/geneve.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.

A device sends its ``options`` as they are. It drops packets with the critical flag, as Linux does outside its external
mode and RFC 8926 4.2 asks for, unless each critical option in them is of the class and type of one of its own; with
``external`` 1 whoever asks for the options deals with them. Linux wants packets of a device with a fixed remote end to
come from there; this one does not.

Cilium: ``external`` 1, ``ttl`` 64, ``critical`` 0 (the helpers of BPF never set the flag); the VNI of each packet is the
security identity of its sender. Its DSR option, class 0x014b and type 0x81, is the service's address (4 or 16 bytes),
its port and two zero bytes.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset, strcmp

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK,
                            DATAPLANE_ENCAP_STEADY_BUT_PORT)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.geneve_options cimport OPTION_CRITICAL, geneve_describe_dsr, geneve_has_critical, geneve_has_option, geneve_option_size
from ext.encap.options cimport option_in
from ext.encap.overlay cimport (OVERLAY_DEVICE_ROW, OVERLAY_OPTIONS, Overlay, overlay_help, overlay_is_mine, overlay_option, overlay_push,
                                overlay_vni)
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_defaults, udp_describe, udp_refused
from ext.encap.udp_device cimport ROW_CHECKSUM, ROW_PORT_MAX, ROW_PORT_MIN, udp_device_overhead, udp_device_port, udp_device_room
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.ether cimport ETH_HLEN, ETH_SRC, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB, mac_equal
from ext.wire.ipv4 cimport IPPROTO_UDP, IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN

cdef enum:
    GENEVE_HLEN = 8
    AREA_MAX = 252  # bytes of options: 63 units of 4
    AREA_WORDS = 0x3f  # of the first byte, the version being the rest
    CONTROL = 0x80
    CRITICAL = 0x40
    BY_OPTIONS = -1  # the critical flag is set if an option is critical
    OPTIONS = 4 + OVERLAY_OPTIONS
    # drop reasons, in the order of the table below, counted from 1
    BAD_VERSION = 1
    UNKNOWN_PROTOCOL
    NOT_ETHERNET
    UNKNOWN_CRITICAL
    BAD_OPTIONS
    TRUNCATED
    INNER_TRUNCATED
    OWN_MAC
    NO_HEADROOM
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM

cdef struct Device:
    Overlay overlay
    uint8_t control
    int8_t critical
    uint8_t inner_proto_inherit
    uint8_t n_area
    uint8_t area[AREA_MAX]


cdef bint take_area(Device *d, const dataplane_encap_option *o) noexcept nogil:
    if o.size > AREA_MAX or o.size % 4:
        return False
    memcpy(d.area, o.bytes, o.size)
    d.n_area = <uint8_t>o.size
    return True


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    if option_in(o, b"control", 0, 1):
        d.control = <uint8_t>o.number
    elif option_in(o, b"critical", BY_OPTIONS, 1):
        d.critical = <int8_t>o.number
    elif option_in(o, b"inner_proto_inherit", 0, 1):
        d.inner_proto_inherit = <uint8_t>o.number
    elif option_in(o, b"options", 0, 0):
        d.n_area = 0
    elif strcmp(o.key, b"options") == 0 and o.size:
        return take_area(d, o)
    else:
        return overlay_option(&d.overlay, o)
    return True


cdef void *geneve_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    udp_defaults(&d.overlay.device.udp, 6081)
    d.overlay.device.udp.ports.port_min = 1
    d.overlay.device.udp.ports.port_max = 65535
    d.overlay.device.udp.checksum = False
    d.critical = BY_OPTIONS
    if device_configured(d, take_option, options, n, b"geneve", error) == NULL:
        return NULL
    if not udp_consistent(&d.overlay.device.udp, b"geneve", error):
        device_destroy(d)
        return NULL
    return d


cdef uint16_t geneve_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, GENEVE_HLEN + (<const Device *>state).n_area)


cdef bint is_carried(int ethertype) noexcept nogil:
    return ethertype == ETHERTYPE_TEB or ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6


cdef uint8_t flags_of(const Device *d) noexcept nogil:
    cdef bint critical = geneve_has_critical(d.area, d.n_area) if d.critical == BY_OPTIONS else d.critical
    return (CONTROL if d.control else 0) | (CRITICAL if critical else 0)


cdef int geneve_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *inner = bytes.data
    cdef uint8_t *geneve
    if not is_carried(info.inner_protocol):
        return UNKNOWN_PROTOCOL
    geneve = udp_device_room(bytes, GENEVE_HLEN + d.n_area)
    if geneve == NULL:
        return NO_HEADROOM
    geneve[0] = d.n_area >> 2
    geneve[1] = flags_of(d)
    st16(geneve + 2, info.inner_protocol)
    st32(geneve + 4, <uint32_t>overlay_vni(&d.overlay, info) << 8)
    memcpy(geneve + GENEVE_HLEN, d.area, d.n_area)
    return overlay_push(&d.overlay, info, bytes, inner)


cdef int check_critical(const Device *d, const uint8_t *area, uint32_t n) noexcept nogil:
    """Does the device know every critical option of a header that has the critical flag?"""
    cdef uint32_t at = 0, size
    if d.overlay.external:
        return DATAPLANE_ENCAP_OK
    if not flags_of(d) & CRITICAL:
        return UNKNOWN_CRITICAL
    while at < n:
        size = geneve_option_size(area + at, n - at)
        if size == 0:
            return BAD_OPTIONS
        if area[at + 2] & OPTION_CRITICAL and not geneve_has_option(d.area, d.n_area, area + at):
            return UNKNOWN_CRITICAL
        at += size
    return DATAPLANE_ENCAP_OK


cdef int check_inner(int ethertype, const uint8_t *inner, int64_t n, const uint8_t *device_mac) noexcept nogil:
    if n < (ETH_HLEN if ethertype == ETHERTYPE_TEB else IPV4_HLEN if ethertype == ETHERTYPE_IPV4 else IPV6_HLEN):
        return INNER_TRUNCATED
    if ethertype == ETHERTYPE_TEB and mac_equal(inner + ETH_SRC, device_mac):
        return OWN_MAC
    return DATAPLANE_ENCAP_OK


cdef int geneve_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *geneve = bytes.data + UDP_HLEN
    cdef uint32_t n
    cdef int v = DATAPLANE_ENCAP_OK
    if bytes.tail - bytes.data < UDP_HLEN + GENEVE_HLEN:
        return TRUNCATED
    if udp_refused(&d.overlay.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    if geneve[0] & ~AREA_WORDS:
        return BAD_VERSION
    info.inner_protocol = ld16(geneve + 2)
    if not is_carried(info.inner_protocol):
        return UNKNOWN_PROTOCOL
    info.id = ld32(geneve + 4) >> 8
    if not overlay_is_mine(&d.overlay, info):
        return DATAPLANE_ENCAP_NOT_MINE
    if info.inner_protocol != ETHERTYPE_TEB and not d.inner_proto_inherit:
        return NOT_ETHERNET
    n = 4 * <uint32_t>(geneve[0] & AREA_WORDS)
    if bytes.tail - geneve < GENEVE_HLEN + n:
        return TRUNCATED
    if geneve[1] & CRITICAL:
        v = check_critical(d, geneve + GENEVE_HLEN, n)
    if v != DATAPLANE_ENCAP_OK:
        return v
    bytes.data += UDP_HLEN + GENEVE_HLEN + n
    return check_inner(info.inner_protocol, bytes.data, bytes.tail - bytes.data, info.device_mac)


cdef int geneve_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef const uint8_t *geneve = data + UDP_HLEN
    cdef uint32_t n
    if udp_describe(data, size, field, context) < 0 or size < UDP_HLEN + GENEVE_HLEN:
        return -1
    n = 4 * <uint32_t>(geneve[0] & AREA_WORDS)
    field(context, b"geneve", b"control", geneve[1] & CONTROL != 0, NULL, 0)
    field(context, b"geneve", b"critical", geneve[1] & CRITICAL != 0, NULL, 0)
    field(context, b"geneve", b"protocol", ld16(geneve + 2), NULL, 0)
    field(context, b"geneve", b"vni", ld32(geneve + 4) >> 8, NULL, 0)
    if size < UDP_HLEN + GENEVE_HLEN + n:
        return -1
    field(context, b"geneve", b"options", 0, geneve + GENEVE_HLEN, n)
    geneve_describe_dsr(geneve + GENEVE_HLEN, n, field, context)
    return UDP_HLEN + GENEVE_HLEN + <int>n


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[BAD_VERSION - 1] = dataplane_encap_reason(b"bad_version", b"The Geneve header has an unknown version", b"NOT_SPECIFIED")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(
    b"unknown_protocol", b"The protocol type is none of Ethernet, IPv4 and IPv6", b"NOT_SPECIFIED")
REASONS[NOT_ETHERNET - 1] = dataplane_encap_reason(
    b"not_ethernet", b"An IP packet without a frame around it, where inner_proto_inherit is not set", b"NOT_SPECIFIED")
REASONS[UNKNOWN_CRITICAL - 1] = dataplane_encap_reason(
    b"unknown_critical", b"A critical option that the device does not know (RFC 8926 4.2)", b"NOT_SPECIFIED")
REASONS[BAD_OPTIONS - 1] = dataplane_encap_reason(
    b"bad_options", b"An option is longer than what is left for the options (RFC 8926 3.5)", b"NOT_SPECIFIED")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the Geneve header", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What the packet carries is shorter than its header", b"NOT_SPECIFIED")
REASONS[OWN_MAC - 1] = dataplane_encap_reason(b"own_mac", b"The source MAC inside of a Geneve packet is the receiving device's own", b"NOT_SPECIFIED")
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the Geneve header before the frame", b"NOMEM")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The UDP checksum around Geneve is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
overlay_help(&OPTION_HELP[0], b"6081", b"0", b"0")
OPTION_HELP[OVERLAY_DEVICE_ROW + ROW_PORT_MIN].default_value = b"1"
OPTION_HELP[OVERLAY_DEVICE_ROW + ROW_PORT_MAX].default_value = b"65535"
OPTION_HELP[OVERLAY_DEVICE_ROW + ROW_CHECKSUM].default_value = b"0"
OPTION_HELP[OVERLAY_OPTIONS] = dataplane_encap_option_help(b"control", b"1: the control flag (O) is written", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 1] = dataplane_encap_option_help(
    b"critical", b"1: the critical flag (C) is written, 0: it is not, -1: it is if one of the options is critical", b"-1")
OPTION_HELP[OVERLAY_OPTIONS + 2] = dataplane_encap_option_help(
    b"options", b"Bytes of the options to be written, up to 252 and a multiple of 4; 0: none", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 3] = dataplane_encap_option_help(
    b"inner_proto_inherit", b"1: IP packets without a frame around them are received too", b"0")

cdef dataplane_encap GENEVE
memset(&GENEVE, 0, sizeof(GENEVE))
GENEVE.abi = DATAPLANE_ENCAP_ABI
GENEVE.name = b"geneve"
GENEVE.sentence = b"Ethernet frames or IP packets in UDP with a network identifier of 24 bits and options (RFC 8926)"
GENEVE.ip_protocols[0] = IPPROTO_UDP
GENEVE.ethernet = True
GENEVE.steady = DATAPLANE_ENCAP_STEADY_BUT_PORT
GENEVE.options = OPTION_HELP
GENEVE.n_options = OPTIONS
GENEVE.drop_reasons = REASONS
GENEVE.n_drop_reasons = N_REASONS
GENEVE.create = geneve_create
GENEVE.destroy = device_destroy
GENEVE.overhead = geneve_overhead
GENEVE.port = udp_device_port
GENEVE.push = geneve_push
GENEVE.pop = geneve_pop
GENEVE.describe = geneve_describe

capsule = PyCapsule_New(&GENEVE, DATAPLANE_ENCAP_CAPSULE, NULL)
