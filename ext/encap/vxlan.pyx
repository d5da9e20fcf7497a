"""VXLAN (RFC 7348) as Linux writes and checks it: drivers/net/vxlan/vxlan_core.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``. What the network plug-ins of Kubernetes do
with it are sets of options:

- Flannel: ``id`` 1, ``port`` 8472; Calico: ``id`` 4096, ``port`` 4789; both ``udp_checksum`` 1.
- Cilium: ``port`` 8472, ``external`` 1, ``udp_checksum`` 0, ``ttl`` 64; the VNI of each packet is the security identity of
  its sender.
- Weave Net's fast datapath: ``port`` 6784, ``external`` 1; the VNI is made of the ids of both peers.

``flags``, ``reserved1`` and ``reserved2`` are bits that RFC 7348 reserves, to be written and, as with Linux'
``reserved_bits``, no reason to refuse a packet. So an Ethernet frame in VXLAN-GPE has ``flags`` 12 and ``reserved1`` 3
(next protocol Ethernet); IP packets in VXLAN-GPE are a kind of their own, ``vxlan_gpe``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK,
                            DATAPLANE_ENCAP_STEADY_BUT_PORT)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.options cimport option_in
from ext.encap.overlay cimport OVERLAY_OPTIONS, Overlay, overlay_help, overlay_is_mine, overlay_option, overlay_push, overlay_vni
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_defaults, udp_describe, udp_refused
from ext.encap.udp_device cimport udp_device_overhead, udp_device_port, udp_device_room
from ext.encap.vxlan_flags cimport VXLAN_GBP, VXLAN_GBP_DONT_LEARN, VXLAN_GBP_POLICY_APPLIED, VXLAN_GBP_USED, VXLAN_HLEN, VXLAN_VNI
from ext.wire.bytes cimport ld32, st32
from ext.wire.ether cimport ETH_HLEN, ETH_SRC, ETHERTYPE_TEB, mac_equal
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    OPTIONS = 7 + OVERLAY_OPTIONS
    # drop reasons, in the order of the table below, counted from 1
    BAD_FLAGS = 1
    RESERVED_BITS
    TRUNCATED
    INNER_TRUNCATED
    OWN_MAC
    NO_HEADROOM
    ZERO_CHECKSUM
    N_REASONS = ZERO_CHECKSUM

cdef struct Device:
    Overlay overlay
    uint8_t flags
    uint32_t reserved1
    uint8_t reserved2
    uint8_t gbp
    uint32_t policy  # its bits in the first word


cdef bint take_policy(Device *d, const dataplane_encap_option *o) noexcept nogil:
    if option_in(o, b"gbp", 0, 1):
        d.gbp = <uint8_t>o.number
    elif option_in(o, b"gbp_policy", 0, 0xffff):
        d.policy = d.policy & ~<uint32_t>0xffff | <uint32_t>o.number
    elif option_in(o, b"gbp_dont_learn", 0, 1):
        d.policy = d.policy & ~<uint32_t>VXLAN_GBP_DONT_LEARN | (VXLAN_GBP_DONT_LEARN if o.number else 0)
    elif option_in(o, b"gbp_policy_applied", 0, 1):
        d.policy = d.policy & ~<uint32_t>VXLAN_GBP_POLICY_APPLIED | (VXLAN_GBP_POLICY_APPLIED if o.number else 0)
    else:
        return False
    return True


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    if option_in(o, b"flags", 0, 0xff):
        d.flags = <uint8_t>o.number
    elif option_in(o, b"reserved1", 0, 0xffffff):
        d.reserved1 = <uint32_t>o.number
    elif option_in(o, b"reserved2", 0, 0xff):
        d.reserved2 = <uint8_t>o.number
    else:
        return take_policy(d, o) or overlay_option(&d.overlay, o)
    return True


cdef void *vxlan_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>device_new(sizeof(Device), error)
    if d == NULL:
        return NULL
    udp_defaults(&d.overlay.device.udp, 4789)
    d.flags = VXLAN_VNI >> 24
    if device_configured(d, take_option, options, n, b"vxlan", error) == NULL:
        return NULL
    if not udp_consistent(&d.overlay.device.udp, b"vxlan", error):
        device_destroy(d)
        return NULL
    return d


cdef uint16_t vxlan_overhead(const void *state, int family) noexcept nogil:
    return udp_device_overhead(family, VXLAN_HLEN)


cdef uint32_t first_word(const Device *d) noexcept nogil:
    """Flags and reserved bits to be written; a policy of zero leaves no trace (vxlan_build_gbp_hdr())."""
    cdef uint32_t word = <uint32_t>d.flags << 24 | d.reserved1
    return word | <uint32_t>VXLAN_GBP | d.policy if d.gbp and d.policy else word


cdef bint is_to_group(const dataplane_encap_push *info) noexcept nogil:
    return info.remote[0] >> 4 == 0xe if info.family == 4 else info.remote[0] == 0xff


cdef int vxlan_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *inner = bytes.data
    cdef uint8_t *vxlan = udp_device_room(bytes, VXLAN_HLEN)
    cdef int v
    if vxlan == NULL:
        return NO_HEADROOM
    st32(vxlan, first_word(d))
    st32(vxlan + 4, <uint32_t>overlay_vni(&d.overlay, info) << 8 | d.reserved2)
    v = overlay_push(&d.overlay, info, bytes, inner)
    if info.ttl == 0 and not d.overlay.device.outer.ttl_inherit and is_to_group(info):
        info.ttl = 1
    return v


cdef bint has_reserved_bits(const Device *d, const uint8_t *vxlan) noexcept nogil:
    """Is a bit set that neither the RFC nor the device's options give a meaning?"""
    cdef uint32_t used = <uint32_t>VXLAN_VNI | first_word(d)
    if d.gbp:
        used |= <uint32_t>VXLAN_GBP_USED
    return ld32(vxlan) & ~used != 0 or vxlan[7] & ~d.reserved2 != 0


cdef int vxlan_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *vxlan = bytes.data + UDP_HLEN
    if bytes.tail - bytes.data < UDP_HLEN + VXLAN_HLEN:
        return TRUNCATED
    if udp_refused(&d.overlay.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    if not ld32(vxlan) & <uint32_t>VXLAN_VNI:
        return BAD_FLAGS
    info.id = ld32(vxlan + 4) >> 8
    if not overlay_is_mine(&d.overlay, info):
        return DATAPLANE_ENCAP_NOT_MINE
    if has_reserved_bits(d, vxlan):
        return RESERVED_BITS
    bytes.data += UDP_HLEN + VXLAN_HLEN
    if bytes.tail - bytes.data < ETH_HLEN:
        return INNER_TRUNCATED
    if mac_equal(bytes.data + ETH_SRC, info.device_mac):
        return OWN_MAC
    info.inner_protocol = ETHERTYPE_TEB
    return DATAPLANE_ENCAP_OK


cdef int vxlan_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef const uint8_t *vxlan = data + UDP_HLEN
    if udp_describe(data, size, field, context) < 0 or size < UDP_HLEN + VXLAN_HLEN:
        return -1
    field(context, b"vxlan", b"flags", vxlan[0], NULL, 0)
    field(context, b"vxlan", b"reserved1", 0, vxlan + 1, 3)
    field(context, b"vxlan", b"vni", ld32(vxlan + 4) >> 8, NULL, 0)
    field(context, b"vxlan", b"reserved2", vxlan[7], NULL, 0)
    return UDP_HLEN + VXLAN_HLEN


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[BAD_FLAGS - 1] = dataplane_encap_reason(b"bad_flags", b"The VNI flag of the VXLAN header is not set", b"VXLAN_INVALID_HDR")
REASONS[RESERVED_BITS - 1] = dataplane_encap_reason(b"reserved_bits", b"A reserved bit of the VXLAN header is set", b"VXLAN_INVALID_HDR")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the VXLAN header", b"PKT_TOO_SMALL")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(b"inner_truncated", b"The inner frame is shorter than an Ethernet header", b"NOMEM")
REASONS[OWN_MAC - 1] = dataplane_encap_reason(b"own_mac", b"The inner source MAC is the receiving tunnel device's own", b"LOCAL_MAC")
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the VXLAN header before the frame", b"NOMEM")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The UDP checksum around VXLAN is zero over IPv6", b"UDP_CSUM")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
overlay_help(&OPTION_HELP[0], b"4789", b"0", b"0")
OPTION_HELP[OVERLAY_OPTIONS] = dataplane_encap_option_help(
    b"flags", b"First byte of the header, 0 to 255; received packets may have the same bits", b"8")
OPTION_HELP[OVERLAY_OPTIONS + 1] = dataplane_encap_option_help(
    b"reserved1", b"Reserved bits behind the flags, 0 to 0xffffff; received packets may have the same", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 2] = dataplane_encap_option_help(
    b"reserved2", b"Reserved bits behind the VNI, 0 to 255; received packets may have the same", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 3] = dataplane_encap_option_help(
    b"gbp", b"1: the group policy extension (draft-smith-vxlan-group-policy) is written and accepted", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 4] = dataplane_encap_option_help(
    b"gbp_policy", b"Group policy identifier, 0 to 65535, which Linux takes from the packet's mark", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 5] = dataplane_encap_option_help(b"gbp_dont_learn", b"1: the group policy's D bit is written", b"0")
OPTION_HELP[OVERLAY_OPTIONS + 6] = dataplane_encap_option_help(b"gbp_policy_applied", b"1: the group policy's A bit is written", b"0")

cdef dataplane_encap VXLAN
memset(&VXLAN, 0, sizeof(VXLAN))
VXLAN.abi = DATAPLANE_ENCAP_ABI
VXLAN.name = b"vxlan"
VXLAN.sentence = b"Ethernet frames in UDP with a network identifier of 24 bits (RFC 7348)"
VXLAN.ip_protocols[0] = IPPROTO_UDP
VXLAN.ethernet = True
VXLAN.steady = DATAPLANE_ENCAP_STEADY_BUT_PORT
VXLAN.options = OPTION_HELP
VXLAN.n_options = OPTIONS
VXLAN.drop_reasons = REASONS
VXLAN.n_drop_reasons = N_REASONS
VXLAN.create = vxlan_create
VXLAN.destroy = device_destroy
VXLAN.overhead = vxlan_overhead
VXLAN.port = udp_device_port
VXLAN.push = vxlan_push
VXLAN.pop = vxlan_pop
VXLAN.describe = vxlan_describe

capsule = PyCapsule_New(&VXLAN, DATAPLANE_ENCAP_CAPSULE, NULL)
