"""VXLAN (RFC 7348) as Linux writes and checks it: drivers/net/vxlan/vxlan_core.c.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``. Options of a device: ``id`` (VNI, 24 bits),
``port`` (UDP destination port, default 4789), ``ttl`` (0: the namespace's default), ``udp_checksum`` (default 1),
``port_min`` and ``port_max`` (range of the source port, default 32768 to 60999, the end excluded).
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset, strcmp
from libc.stdio cimport snprintf

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_option, dataplane_encap_pop, dataplane_encap_push,
                            dataplane_encap_reason, DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE,
                            DATAPLANE_ENCAP_OK)
from ext.wire.bytes cimport ld32, st16, st32
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum

cdef enum:
    UDP_HLEN = 8
    VXLAN_HLEN = 8
    ETHER_HLEN = 14
    FLAG_VNI = 0x08  # the I flag, the only one of RFC 7348
    PROTOCOL_UDP = 17
    ETHERTYPE_TEB = 0x6558
    ECN = 3
    ECN_CE = 3
    ECN_ECT0 = 2
    ERROR_LEN = 120
    # drop reasons, in the order of the table below, counted from 1
    BAD_FLAGS = 1
    RESERVED_BITS = 2
    TRUNCATED = 3
    INNER_TRUNCATED = 4
    OWN_MAC = 5
    NO_HEADROOM = 6

cdef struct Device:
    uint32_t vni
    uint16_t port
    uint16_t port_min
    uint16_t port_max
    uint8_t ttl
    uint8_t udp_checksum


cdef bint set_option(Device *d, const dataplane_encap_option *o) noexcept nogil:
    """False: no such option, or a value out of range."""
    if strcmp(o.key, b"id") == 0 and 0 <= o.number < 1 << 24:
        d.vni = <uint32_t>o.number
    elif strcmp(o.key, b"port") == 0 and 0 < o.number < 65536:
        d.port = <uint16_t>o.number
    elif strcmp(o.key, b"ttl") == 0 and 0 <= o.number < 256:
        d.ttl = <uint8_t>o.number
    elif strcmp(o.key, b"udp_checksum") == 0:
        d.udp_checksum = o.number != 0
    elif strcmp(o.key, b"port_min") == 0 and 0 < o.number < 65536:
        d.port_min = <uint16_t>o.number
    elif strcmp(o.key, b"port_max") == 0 and 0 < o.number < 65536:
        d.port_max = <uint16_t>o.number
    else:
        return False
    return True


cdef void *vxlan_create(const dataplane_encap_option *options, int n, char *error) noexcept nogil:
    cdef Device *d = <Device *>calloc(1, sizeof(Device))
    cdef int i
    if d == NULL:
        snprintf(error, ERROR_LEN, b"out of memory")
        return NULL
    d.port = 4789
    d.udp_checksum = True
    d.port_min = 32768
    d.port_max = 60999
    for i in range(n):
        if not set_option(d, &options[i]):
            snprintf(error, ERROR_LEN, b"vxlan: option '%s' is unknown or its value is out of range", options[i].key)
            free(d)
            return NULL
    if d.port_max <= d.port_min:
        snprintf(error, ERROR_LEN, b"vxlan: port_max must be greater than port_min")
        free(d)
        return NULL
    return d


cdef void vxlan_destroy(void *state) noexcept nogil:
    free(state)


cdef uint16_t vxlan_port(const void *state) noexcept nogil:
    return (<const Device *>state).port


cdef uint16_t source_port(const Device *d, uint32_t flow_hash) noexcept nogil:
    """udp_flow_src_port(): the flow's hash scaled into the range."""
    flow_hash ^= flow_hash << 16
    return <uint16_t>(d.port_min + ((<uint64_t>flow_hash * (d.port_max - d.port_min)) >> 32))


cdef int vxlan_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef uint8_t *udp = bytes.data - UDP_HLEN - VXLAN_HLEN
    cdef uint32_t n, sum
    cdef int inner_ecn = info.inner_tos & ECN
    if bytes.data - bytes.head < UDP_HLEN + VXLAN_HLEN:
        return NO_HEADROOM
    memset(udp, 0, UDP_HLEN + VXLAN_HLEN)
    n = <uint32_t>(bytes.tail - udp)
    st16(udp, source_port(d, info.flow_hash))
    st16(udp + 2, d.port)
    st16(udp + 4, n)
    udp[UDP_HLEN] = FLAG_VNI
    st32(udp + UDP_HLEN + 4, d.vni << 8)
    if d.udp_checksum:
        sum = pseudo_sum(info.local, info.remote, 4 if info.family == 4 else 16, PROTOCOL_UDP, n)
        sum = ~csum_add_bytes(udp, n, sum) & 0xffff
        st16(udp + 6, sum if sum else 0xffff)
    info.ip_protocol = PROTOCOL_UDP
    info.ttl = d.ttl
    # RFC 6040 4.1 but for CE, which Linux writes as ECT(0) outside (INET_ECN_encapsulate())
    info.tos = ECN_ECT0 if inner_ecn == ECN_CE else inner_ecn
    bytes.data = udp
    return DATAPLANE_ENCAP_OK


cdef int vxlan_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef const uint8_t *vxlan = bytes.data + UDP_HLEN
    if bytes.tail - bytes.data < UDP_HLEN + VXLAN_HLEN:
        return TRUNCATED
    if not vxlan[0] & FLAG_VNI:
        return BAD_FLAGS
    if ld32(vxlan + 4) >> 8 != d.vni:
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


cdef dataplane_encap_reason[6] REASONS
REASONS[0] = dataplane_encap_reason(b"bad_flags", b"The VNI flag of the VXLAN header is not set", b"VXLAN_INVALID_HDR")
REASONS[1] = dataplane_encap_reason(b"reserved_bits", b"A reserved bit of the VXLAN header is set", b"VXLAN_INVALID_HDR")
REASONS[2] = dataplane_encap_reason(b"truncated", b"The packet ends inside the VXLAN header", b"PKT_TOO_SMALL")
REASONS[3] = dataplane_encap_reason(b"inner_truncated", b"The inner frame is shorter than an Ethernet header", b"NOMEM")
REASONS[4] = dataplane_encap_reason(b"own_mac", b"The inner source MAC is the receiving tunnel device's own", b"LOCAL_MAC")
REASONS[5] = dataplane_encap_reason(b"no_headroom", b"No room for the VXLAN header before the frame", b"NOMEM")

cdef dataplane_encap VXLAN
memset(&VXLAN, 0, sizeof(VXLAN))
VXLAN.abi = DATAPLANE_ENCAP_ABI
VXLAN.name = b"vxlan"
VXLAN.ip_protocol = PROTOCOL_UDP
VXLAN.ethernet = True
VXLAN.overhead_v4 = 20 + UDP_HLEN + VXLAN_HLEN + ETHER_HLEN
VXLAN.overhead_v6 = 40 + UDP_HLEN + VXLAN_HLEN + ETHER_HLEN
VXLAN.drop_reasons = REASONS
VXLAN.n_drop_reasons = 6
VXLAN.create = vxlan_create
VXLAN.destroy = vxlan_destroy
VXLAN.port = vxlan_port
VXLAN.push = vxlan_push
VXLAN.pop = vxlan_pop

capsule = PyCapsule_New(&VXLAN, DATAPLANE_ENCAP_CAPSULE, NULL)
