"""VXLAN (RFC 7348) as Linux writes and checks it: drivers/net/vxlan/vxlan_core.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset
from libc.stdio cimport snprintf

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_ERROR_LEN, DATAPLANE_ENCAP_NOT_MINE,
                            DATAPLANE_ENCAP_OK)
from ext.encap.options cimport option_in, option_refuse
from ext.encap.outer cimport OUTER_OPTIONS, Outer, outer_help, outer_option, outer_push
from ext.encap.udp cimport (UDP_HLEN, UDP_OPTIONS, Udp, udp_consistent, udp_defaults, udp_describe, udp_help, udp_option, udp_refused,
                            udp_write)
from ext.wire.bytes cimport ld32, st32
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef enum:
    VXLAN_HLEN = 8
    ETHER_HLEN = 14
    FLAG_VNI = 0x08  # the I flag, the only one of RFC 7348
    ETHERTYPE_TEB = 0x6558
    OPTIONS = 1 + UDP_OPTIONS + OUTER_OPTIONS
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
    int64_t vni
    Udp udp
    Outer outer


cdef bint set_option(Device *d, const dataplane_encap_option *o) noexcept nogil:
    """False: no such option, or a value out of range."""
    if option_in(o, b"id", 0, 0xffffff):
        d.vni = o.number
        return True
    return udp_option(&d.udp, o) or outer_option(&d.outer, o)


cdef void *vxlan_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>calloc(1, sizeof(Device))
    cdef int i
    if d == NULL:
        snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"out of memory")
        return NULL
    udp_defaults(&d.udp, 4789)
    for i in range(n):
        if not set_option(d, &options[i]):
            option_refuse(&options[i], b"vxlan", error)
            free(d)
            return NULL
    if not udp_consistent(&d.udp, b"vxlan", error):
        free(d)
        return NULL
    return d


cdef void vxlan_destroy(void *state) noexcept nogil:
    free(state)


cdef uint16_t vxlan_overhead(const void *state, int family) noexcept nogil:
    return (20 if family == 4 else 40) + UDP_HLEN + VXLAN_HLEN


cdef uint16_t vxlan_port(const void *state) noexcept nogil:
    return (<const Device *>state).udp.port


cdef int vxlan_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef uint8_t *udp = bytes.data - UDP_HLEN - VXLAN_HLEN
    cdef int64_t vni = d.vni if info.id < 0 else info.id
    if bytes.data - bytes.head < UDP_HLEN + VXLAN_HLEN:
        return NO_HEADROOM
    memset(udp + UDP_HLEN, 0, VXLAN_HLEN)
    udp[UDP_HLEN] = FLAG_VNI
    st32(udp + UDP_HLEN + 4, <uint32_t>vni << 8)
    udp_write(&d.udp, info, udp, <uint32_t>(bytes.tail - udp))
    outer_push(&d.outer, info)
    bytes.data = udp
    return DATAPLANE_ENCAP_OK


cdef int vxlan_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *vxlan = bytes.data + UDP_HLEN
    if bytes.tail - bytes.data < UDP_HLEN + VXLAN_HLEN:
        return TRUNCATED
    if udp_refused(&d.udp, info, bytes.data):
        return ZERO_CHECKSUM
    if not vxlan[0] & FLAG_VNI:
        return BAD_FLAGS
    info.id = ld32(vxlan + 4) >> 8
    if info.id != d.vni:
        return DATAPLANE_ENCAP_NOT_MINE
    if vxlan[0] != FLAG_VNI or vxlan[1] or vxlan[2] or vxlan[3] or vxlan[7]:
        return RESERVED_BITS
    bytes.data += UDP_HLEN + VXLAN_HLEN
    if bytes.tail - bytes.data < ETHER_HLEN:
        return INNER_TRUNCATED
    if memcmp(bytes.data + 6, info.device_mac, 6) == 0:
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
OPTION_HELP[0] = dataplane_encap_option_help(b"id", b"VXLAN network identifier (VNI), 0 to 16777215", b"0")
udp_help(&OPTION_HELP[1], b"4789")
outer_help(&OPTION_HELP[1 + UDP_OPTIONS], b"0", b"0")

cdef dataplane_encap VXLAN
memset(&VXLAN, 0, sizeof(VXLAN))
VXLAN.abi = DATAPLANE_ENCAP_ABI
VXLAN.name = b"vxlan"
VXLAN.sentence = b"Ethernet frames in UDP with a network identifier of 24 bits (RFC 7348)"
VXLAN.ip_protocols[0] = IPPROTO_UDP
VXLAN.ethernet = True
VXLAN.options = OPTION_HELP
VXLAN.n_options = OPTIONS
VXLAN.drop_reasons = REASONS
VXLAN.n_drop_reasons = N_REASONS
VXLAN.create = vxlan_create
VXLAN.destroy = vxlan_destroy
VXLAN.overhead = vxlan_overhead
VXLAN.port = vxlan_port
VXLAN.push = vxlan_push
VXLAN.pop = vxlan_pop
VXLAN.describe = vxlan_describe

capsule = PyCapsule_New(&VXLAN, DATAPLANE_ENCAP_CAPSULE, NULL)
