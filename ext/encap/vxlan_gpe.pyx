"""IP packets in VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) as Linux' devices of kind vxlan with ``gpe``: drivers/net/vxlan/vxlan_core.c.

Linux has them in external mode only: routes say which remote end and identifier. They have neither MAC nor FDB, so an
Ethernet frame inside is refused; for those there is kind ``vxlan`` with ``flags`` 12 and ``reserved1`` 3.
An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK,
                            DATAPLANE_ENCAP_STEADY_BUT_PORT)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.overlay cimport OVERLAY_OPTIONS, Overlay, overlay_help, overlay_is_mine, overlay_option, overlay_push, overlay_vni
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_defaults, udp_describe, udp_refused
from ext.encap.udp_device cimport udp_device_overhead, udp_device_port, udp_device_room
from ext.encap.vxlan_flags cimport VXLAN_GPE_NEXT_PROTOCOL, VXLAN_GPE_OAM, VXLAN_GPE_USED, VXLAN_GPE_VERSION, VXLAN_HLEN, VXLAN_VNI
from ext.wire.bytes cimport ld32, st32
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    ETHERTYPE_NSH = 0x894f
    ETHERTYPE_MPLS = 0x8847
    NEXT_IPV4 = 1
    NEXT_IPV6 = 2
    NEXT_NSH = 4
    NEXT_MPLS = 5
    # drop reasons, in the order of the table below, counted from 1
    BAD_FLAGS = 1
    RESERVED_BITS
    NOT_GPE
    UNKNOWN_PROTOCOL
    TRUNCATED
    NO_HEADROOM
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    return overlay_option(<Overlay *>device, o)


cdef void *gpe_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Overlay *d = <Overlay *>device_new(sizeof(Overlay), error)
    if d == NULL:
        return NULL
    udp_defaults(&d.device.udp, 4790)
    if device_configured(d, take_option, options, n, b"vxlan_gpe", error) == NULL:
        return NULL
    if not udp_consistent(&d.device.udp, b"vxlan_gpe", error):
        device_destroy(d)
        return NULL
    return d


cdef uint16_t gpe_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, VXLAN_HLEN)


cdef int next_protocol(int ethertype) noexcept nogil:
    """What the header calls this EtherType; 0: it has no name for it (tun_p_from_eth_p())."""
    if ethertype == ETHERTYPE_IPV4:
        return NEXT_IPV4
    if ethertype == ETHERTYPE_IPV6:
        return NEXT_IPV6
    if ethertype == ETHERTYPE_NSH:
        return NEXT_NSH
    return NEXT_MPLS if ethertype == ETHERTYPE_MPLS else 0


cdef int ethertype_of(int next) noexcept nogil:
    if next == NEXT_IPV4:
        return ETHERTYPE_IPV4
    if next == NEXT_IPV6:
        return ETHERTYPE_IPV6
    if next == NEXT_NSH:
        return ETHERTYPE_NSH
    return ETHERTYPE_MPLS if next == NEXT_MPLS else 0


cdef int gpe_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Overlay *d = <Overlay *>state
    cdef const uint8_t *inner = bytes.data
    cdef int next = next_protocol(info.inner_protocol)
    cdef uint8_t *vxlan
    if next == 0:
        return UNKNOWN_PROTOCOL
    vxlan = udp_device_room(bytes, VXLAN_HLEN)
    if vxlan == NULL:
        return NO_HEADROOM
    st32(vxlan, <uint32_t>VXLAN_VNI | <uint32_t>VXLAN_GPE_NEXT_PROTOCOL | next)
    st32(vxlan + 4, <uint32_t>overlay_vni(d, info) << 8)
    return overlay_push(d, info, bytes, inner)


cdef int gpe_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Overlay *d = <Overlay *>state
    cdef const uint8_t *vxlan = bytes.data + UDP_HLEN
    cdef uint32_t first
    if bytes.tail - bytes.data < UDP_HLEN + VXLAN_HLEN:
        return TRUNCATED
    if udp_refused(&d.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    first = ld32(vxlan)
    if not first & <uint32_t>VXLAN_VNI:
        return BAD_FLAGS
    info.id = ld32(vxlan + 4) >> 8
    if not overlay_is_mine(d, info):
        return DATAPLANE_ENCAP_NOT_MINE
    if first & ~(<uint32_t>VXLAN_VNI | <uint32_t>VXLAN_GPE_USED) or vxlan[7]:
        return RESERVED_BITS
    if not first & VXLAN_GPE_NEXT_PROTOCOL or first & (VXLAN_GPE_VERSION | VXLAN_GPE_OAM):
        return NOT_GPE
    info.inner_protocol = <uint16_t>ethertype_of(vxlan[3])
    if info.inner_protocol == 0:
        return UNKNOWN_PROTOCOL
    bytes.data += UDP_HLEN + VXLAN_HLEN
    return DATAPLANE_ENCAP_OK


cdef int gpe_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef const uint8_t *vxlan = data + UDP_HLEN
    if udp_describe(data, size, field, context) < 0 or size < UDP_HLEN + VXLAN_HLEN:
        return -1
    field(context, b"vxlan_gpe", b"flags", vxlan[0], NULL, 0)
    field(context, b"vxlan_gpe", b"reserved1", 0, vxlan + 1, 2)
    field(context, b"vxlan_gpe", b"next_protocol", vxlan[3], NULL, 0)
    field(context, b"vxlan_gpe", b"vni", ld32(vxlan + 4) >> 8, NULL, 0)
    field(context, b"vxlan_gpe", b"reserved2", vxlan[7], NULL, 0)
    return UDP_HLEN + VXLAN_HLEN


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[BAD_FLAGS - 1] = dataplane_encap_reason(b"bad_flags", b"The VNI flag of the VXLAN-GPE header is not set", b"VXLAN_INVALID_HDR")
REASONS[RESERVED_BITS - 1] = dataplane_encap_reason(
    b"reserved_bits", b"A reserved bit of the VXLAN-GPE header is set", b"VXLAN_INVALID_HDR")
REASONS[NOT_GPE - 1] = dataplane_encap_reason(
    b"not_gpe", b"The header names no next protocol, has another version, or is a management message", b"NOT_SPECIFIED")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(
    b"unknown_protocol", b"The next protocol is none that a device without a MAC carries", b"NOT_SPECIFIED")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the VXLAN-GPE header", b"PKT_TOO_SMALL")
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the VXLAN-GPE header before the packet", b"NOMEM")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(
    b"zero_checksum", b"The UDP checksum around VXLAN-GPE is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[OVERLAY_OPTIONS] OPTION_HELP
overlay_help(&OPTION_HELP[0], b"4790", b"0", b"0")

cdef dataplane_encap GPE
memset(&GPE, 0, sizeof(GPE))
GPE.abi = DATAPLANE_ENCAP_ABI
GPE.name = b"vxlan_gpe"
GPE.sentence = b"IP, NSH and MPLS packets in VXLAN with a next protocol (draft-ietf-nvo3-vxlan-gpe)"
GPE.ip_protocols[0] = IPPROTO_UDP
GPE.steady = DATAPLANE_ENCAP_STEADY_BUT_PORT
GPE.options = OPTION_HELP
GPE.n_options = OVERLAY_OPTIONS
GPE.drop_reasons = REASONS
GPE.n_drop_reasons = N_REASONS
GPE.create = gpe_create
GPE.destroy = device_destroy
GPE.overhead = gpe_overhead
GPE.port = udp_device_port
GPE.push = gpe_push
GPE.pop = gpe_pop
GPE.describe = gpe_describe

capsule = PyCapsule_New(&GPE, DATAPLANE_ENCAP_CAPSULE, NULL)
