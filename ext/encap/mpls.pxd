# Stacks of MPLS labels around IP packets (RFC 3032), as one end of a label switched path writes and takes them.
#
# net/mpls/mpls_iptunnel.c (mpls_xmit()), net/mpls/af_mpls.c (mpls_forward(), mpls_egress()).

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, strcmp
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_option, dataplane_encap_option_help,
                            dataplane_encap_pop, dataplane_encap_push, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.options cimport option_in
from ext.wire.bytes cimport ld32, st32
from ext.wire.checksum cimport csum_replace
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_CSUM, IPV4_HLEN, IPV4_TTL
from ext.wire.ipv6 cimport IPV6_HLEN, IPV6_HOPS

cdef enum:
    MPLS_ENTRY_LEN = 4
    MPLS_BOTTOM = 0x100  # the S bit
    MPLS_LABEL_MAX = 0xfffff
    MPLS_ABOVE_MAX = 15
    MPLS_OPTIONS = 6  # rows that mpls_help() writes
    # drop reasons, counted from 1: the table of a kind holds them in this order
    MPLS_NO_HEADROOM = 1
    MPLS_NOT_IP
    MPLS_TRUNCATED
    MPLS_TTL_EXPIRED
    MPLS_TOO_DEEP
    MPLS_UNKNOWN_PAYLOAD
    MPLS_REASONS = MPLS_UNKNOWN_PAYLOAD

cdef struct Mpls:
    uint32_t label  # at the bottom of the stack
    uint32_t above[MPLS_ABOVE_MAX]  # outermost first
    int n_above
    uint8_t traffic_class
    uint8_t ttl
    uint8_t ttl_propagate
    uint8_t payload  # IP version, 0: as the packet says


cdef inline void mpls_defaults(Mpls *m) noexcept nogil:
    m.label = 16  # the lowest that is not reserved
    m.ttl = 255


cdef inline bint labels_above(Mpls *m, const dataplane_encap_option *o) noexcept nogil:
    cdef int i
    if strcmp(o.key, b"outer_labels") or o.size == 0 or o.size % 4 or o.size > MPLS_ABOVE_MAX * 4:
        return False
    m.n_above = <int>(o.size / 4)
    for i in range(m.n_above):
        m.above[i] = ld32(o.bytes + i * 4)
        if m.above[i] > MPLS_LABEL_MAX:
            return False
    return True


cdef inline bint mpls_option(Mpls *m, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"label", 0, MPLS_LABEL_MAX):
        m.label = <uint32_t>o.number
    elif option_in(o, b"traffic_class", 0, 7):
        m.traffic_class = <uint8_t>o.number
    elif option_in(o, b"label_ttl", 2, 255):
        m.ttl = <uint8_t>o.number
    elif option_in(o, b"ttl_propagate", 0, 1):
        m.ttl_propagate = <uint8_t>o.number
    elif option_in(o, b"payload", 0, 0) or option_in(o, b"payload", 4, 4) or option_in(o, b"payload", 6, 6):
        m.payload = <uint8_t>o.number
    else:
        return labels_above(m, o)
    return True


cdef inline void mpls_help(dataplane_encap_option_help *row) noexcept nogil:
    """Fill MPLS_OPTIONS rows."""
    row[0] = dataplane_encap_option_help(b"label", b"Label at the bottom of the stack, 0 to 1048575", b"16")
    row[1] = dataplane_encap_option_help(
        b"outer_labels", b"Labels above it, outermost first: bytes, 4 for each of up to 15 labels", b"none")
    row[2] = dataplane_encap_option_help(b"traffic_class", b"Traffic class of all labels, 0 to 7", b"0")
    row[3] = dataplane_encap_option_help(b"label_ttl", b"TTL of all labels, 2 to 255, unless it is propagated", b"255")
    row[4] = dataplane_encap_option_help(
        b"ttl_propagate", b"1: the IP packet's TTL goes into the labels and comes back less one (net.mpls.ip_ttl_propagate), 0: not",
        b"0")
    row[5] = dataplane_encap_option_help(b"payload", b"IP version under the stack, 4 or 6; 0: as the first four bits say", b"0")


cdef inline uint32_t mpls_hlen(const Mpls *m) noexcept nogil:
    return (m.n_above + 1) * MPLS_ENTRY_LEN


cdef inline uint32_t mpls_entry(const Mpls *m, uint32_t label, int ttl) noexcept nogil:
    return label << 12 | <uint32_t>m.traffic_class << 9 | <uint32_t>ttl


cdef inline int mpls_push(const Mpls *m, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """The stack before ``data``. To the outer header the IP packet is then out of sight: it has no TOS, TTL or DF to take over."""
    cdef int ttl = info.inner_ttl if m.ttl_propagate else m.ttl
    cdef uint32_t label = m.label if info.id < 0 else <uint32_t>info.id & MPLS_LABEL_MAX
    cdef int i
    if info.inner_protocol != ETHERTYPE_IPV4 and info.inner_protocol != ETHERTYPE_IPV6:
        return MPLS_NOT_IP
    if bytes.data - bytes.head < mpls_hlen(m):
        return MPLS_NO_HEADROOM
    bytes.data -= mpls_hlen(m)
    for i in range(m.n_above):
        st32(bytes.data + i * MPLS_ENTRY_LEN, mpls_entry(m, m.above[i], ttl))
    st32(bytes.data + m.n_above * MPLS_ENTRY_LEN, mpls_entry(m, label, ttl) | MPLS_BOTTOM)
    info.inner_tos = info.inner_ttl = info.inner_dont_fragment = 0
    info.inner_flow_label = 0
    return DATAPLANE_ENCAP_OK


cdef inline int mpls_stack(const uint8_t *at, int64_t n, int most, uint32_t *bottom) noexcept nogil:
    """Bytes of a stack of at most ``most`` labels and its last entry, or minus a reason."""
    cdef int size = 0
    while size < most * MPLS_ENTRY_LEN:
        if n < size + MPLS_ENTRY_LEN:
            return -MPLS_TRUNCATED
        bottom[0] = ld32(at + size)
        size += MPLS_ENTRY_LEN
        if bottom[0] & MPLS_BOTTOM:
            return size
    return -MPLS_TOO_DEEP


cdef inline int mpls_payload(const Mpls *m, const dataplane_encap_bytes *bytes) noexcept nogil:
    """EtherType of what is under the stack by its first four bits, or minus a reason."""
    cdef int64_t n = bytes.tail - bytes.data
    cdef int version
    if n < IPV4_HLEN:
        return -MPLS_TRUNCATED
    version = bytes.data[0] >> 4
    if (version != 4 and version != 6) or (m.payload and version != m.payload):
        return -MPLS_UNKNOWN_PAYLOAD
    if version == 6 and n < IPV6_HLEN:
        return -MPLS_TRUNCATED
    return ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6


cdef inline void set_ttl(uint8_t *ip, int protocol, int ttl) noexcept nogil:
    cdef uint8_t old[2]
    if protocol == ETHERTYPE_IPV6:
        ip[IPV6_HOPS] = <uint8_t>ttl
        return
    memcpy(old, ip + IPV4_TTL, 2)
    ip[IPV4_TTL] = <uint8_t>ttl
    csum_replace(ip + IPV4_CSUM, old, ip + IPV4_TTL, 2)


cdef inline int mpls_pop(const Mpls *m, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """Take the stack off; fewer labels than were written are fine, the hop before pops the outermost (RFC 3031 3.16)."""
    cdef uint32_t bottom = 0
    cdef int size = mpls_stack(bytes.data, bytes.tail - bytes.data, m.n_above + 1, &bottom)
    cdef int protocol, ttl
    if size < 0:
        return -size
    ttl = bytes.data[3]
    info.id = bottom >> 12
    if info.id != m.label:
        return DATAPLANE_ENCAP_NOT_MINE
    if ttl <= 1:
        return MPLS_TTL_EXPIRED
    bytes.data += size
    protocol = mpls_payload(m, bytes)
    if protocol < 0:
        return -protocol
    if m.ttl_propagate:
        set_ttl(bytes.data, protocol, ttl - 1)
    info.inner_protocol = protocol
    return DATAPLANE_ENCAP_OK


cdef inline int mpls_describe(const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the fields of every entry: the bytes of the stack, -1 if it is broken off."""
    cdef size_t at = 0
    cdef uint32_t entry = 0
    while not entry & MPLS_BOTTOM:
        if size - at < MPLS_ENTRY_LEN:
            return -1
        entry = ld32(data + at)
        field(context, b"mpls", b"label", entry >> 12, NULL, 0)
        field(context, b"mpls", b"traffic_class", entry >> 9 & 7, NULL, 0)
        field(context, b"mpls", b"bottom", (entry & MPLS_BOTTOM) != 0, NULL, 0)
        field(context, b"mpls", b"ttl", entry & 0xff, NULL, 0)
        at += MPLS_ENTRY_LEN
    return <int>at
