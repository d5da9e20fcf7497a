"""ERSPAN types I, II and III (draft-foschiano-erspan): mirrored Ethernet frames in GRE, as Linux writes and reads them.

net/ipv4/ip_gre.c (erspan_xmit(), erspan_rcv()), net/ipv6/ip6_gre.c, include/net/erspan.h; but the optional subheader of type
III, which Linux takes for the frame, is skipped.

An encapsulation plug-in: ``capsule`` holds the struct of ``encap_abi.h``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset, strcmp

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_configured, device_destroy
from ext.encap.gre cimport (GRE_BAD_CHECKSUM, GRE_BAD_VERSION, GRE_CHECKSUM_MISMATCH, GRE_ERSPAN, GRE_ERSPAN3, GRE_MIN_HLEN,
                            GRE_NO_HEADROOM, GRE_OUT_OF_SEQUENCE, GRE_REASONS, GRE_ROUTING_PRESENT, GRE_SEQUENCE, GRE_TRUNCATED, GreDevice,
                            GreHeader, gre_accept, gre_describe, gre_device_new, gre_hlen, gre_overhead, gre_port, gre_push, gre_read)
from ext.encap.limit cimport LIMIT_OPTIONS, limit_help, limit_of, limit_option
from ext.encap.options cimport option_in
from ext.encap.outer cimport OUTER_OPTIONS, outer_help, outer_option
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_TEB, ETHERTYPE_VLAN
from ext.wire.ipv4 cimport IPPROTO_GRE

cdef enum:
    TYPE_I = 0  # as the option and the header's version field count them
    TYPE_II = 1
    TYPE_III = 2
    TYPE_II_HLEN = 8
    TYPE_III_HLEN = 12
    SUBHEADER_LEN = 8
    IN_FRAME = 3  # type II, field En: the VLAN tag is in the frame
    SHORT_FRAME = 1  # type III, field BSO
    OVERSIZED_FRAME = 2
    FRAME_MIN = 60
    FRAME_MAX = 1514
    FROM_FRAME = -1
    TIMESTAMP_UNIT = 100000  # ns
    SESSION_MASK = 0x3ff
    SUBHEADER_PRESENT = 1
    ETHERNET_PDU = 0x8000  # the P bit
    # settings, in the order of the tables below
    VERSION = 0
    SESSION
    SEQUENCE
    INDEX
    DIRECTION
    HWID
    SGT
    GRANULARITY
    VLAN
    COS
    EN
    BSO
    TRUNCATED_FRAME
    TIMESTAMP
    SETTINGS
    OPTIONS = SETTINGS + 1 + LIMIT_OPTIONS + OUTER_OPTIONS
    # drop reasons behind those of gre.pxd
    HEADER_TRUNCATED = GRE_REASONS + 1
    UNKNOWN_VERSION
    NOT_ETHERNET
    INNER_TRUNCATED
    LIMIT_REACHED
    N_REASONS = LIMIT_REACHED

cdef struct Setting:
    const char *key
    int64_t low
    int64_t high
    int64_t initial

cdef struct Device:
    GreDevice below
    int64_t value[SETTINGS]
    uint8_t subheader[SUBHEADER_LEN]
    uint8_t has_subheader

cdef Setting[SETTINGS] TABLE
TABLE[VERSION] = Setting(b"version", TYPE_I, TYPE_III, TYPE_II)
TABLE[SESSION] = Setting(b"session", 0, SESSION_MASK, 0)
TABLE[SEQUENCE] = Setting(b"sequence", 0, 0xffffffff, 0)
TABLE[INDEX] = Setting(b"index", 0, 0xfffff, 0)
TABLE[DIRECTION] = Setting(b"direction", 0, 1, 0)
TABLE[HWID] = Setting(b"hwid", 0, 63, 0)
TABLE[SGT] = Setting(b"sgt", 0, 0xffff, 0)
TABLE[GRANULARITY] = Setting(b"granularity", 0, 3, 0)
TABLE[VLAN] = Setting(b"vlan", FROM_FRAME, 0xfff, FROM_FRAME)
TABLE[COS] = Setting(b"cos", FROM_FRAME, 7, FROM_FRAME)
TABLE[EN] = Setting(b"en", FROM_FRAME, 3, FROM_FRAME)
TABLE[BSO] = Setting(b"bso", FROM_FRAME, 3, FROM_FRAME)
TABLE[TRUNCATED_FRAME] = Setting(b"t", 0, 1, 0)
TABLE[TIMESTAMP] = Setting(b"timestamp", FROM_FRAME, 0xffffffff, FROM_FRAME)


cdef bint take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Device *d = <Device *>device
    cdef int i
    for i in range(SETTINGS):
        if option_in(o, TABLE[i].key, TABLE[i].low, TABLE[i].high):
            d.value[i] = o.number
            return True
    if strcmp(o.key, b"subheader") == 0 and o.size == SUBHEADER_LEN:
        memcpy(d.subheader, o.bytes, SUBHEADER_LEN)
        d.has_subheader = True
        return True
    return limit_option(&d.below.limit, o) or outer_option(&d.below.outer, o)


cdef void *erspan_create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *d = <Device *>gre_device_new(sizeof(Device), error)
    cdef int i
    if d == NULL:
        return NULL
    for i in range(SETTINGS):
        d.value[i] = TABLE[i].initial
    d = <Device *>device_configured(d, take_option, options, n, b"erspan", error)
    if d != NULL and d.value[VERSION] != TYPE_I:
        d.below.gre.flags = GRE_SEQUENCE
        d.below.gre.next_out = <uint32_t>d.value[SEQUENCE]
    return d


cdef uint32_t erspan_hlen(int64_t version, bint subheader) noexcept nogil:
    if version == TYPE_III:
        return TYPE_III_HLEN + (SUBHEADER_LEN if subheader else 0)
    return TYPE_II_HLEN if version == TYPE_II else 0


cdef uint16_t erspan_overhead(const void *state, int family) noexcept nogil:
    cdef const Device *d = <const Device *>state
    return <uint16_t>(gre_overhead(state, family) + erspan_hlen(d.value[VERSION], d.has_subheader))


# ---- sending

cdef int64_t cos_of(const uint8_t *frame, int64_t n, int family) noexcept nogil:
    """Upper bits of the TOS, looked for where the header of the underlay's own IP version would have it, whatever the frame carries."""
    if n < ETH_HLEN + 2:
        return 0
    return frame[ETH_HLEN + 1] >> 5 if family == 4 else frame[ETH_HLEN] >> 1 & 7


cdef int64_t frame_size_class(int64_t n) noexcept nogil:
    """erspan_detect_bso()."""
    if n < FRAME_MIN:
        return SHORT_FRAME
    return OVERSIZED_FRAME if n > FRAME_MAX else 0


cdef void write_base(const Device *d, const dataplane_encap_push *info, const uint8_t *frame, int64_t n, uint8_t *h) noexcept nogil:
    """The four bytes that types II and III have in common."""
    cdef bint tagged = n >= ETH_HLEN + 2 and ld16(frame + ETH_TYPE) == ETHERTYPE_VLAN
    cdef int64_t session = d.value[SESSION] if info.id < 0 else info.id & SESSION_MASK
    cdef int64_t vlan = d.value[VLAN], cos = d.value[COS], bits
    if vlan == FROM_FRAME:
        vlan = ld16(frame + ETH_HLEN) & 0xfff if tagged else 0
    if cos == FROM_FRAME:
        cos = cos_of(frame, n, info.family)
    if d.value[VERSION] == TYPE_III:
        bits = frame_size_class(n) if d.value[BSO] == FROM_FRAME else d.value[BSO]
    else:
        bits = (IN_FRAME if tagged else 0) if d.value[EN] == FROM_FRAME else d.value[EN]
    st16(h, <uint32_t>(d.value[VERSION] << 12 | vlan))
    st16(h + 2, <uint32_t>(cos << 13 | bits << 11 | d.value[TRUNCATED_FRAME] << 10 | session))


cdef void write_type_iii(const Device *d, const dataplane_encap_push *info, uint8_t *h) noexcept nogil:
    cdef int64_t timestamp = info.now / TIMESTAMP_UNIT if d.value[TIMESTAMP] == FROM_FRAME else d.value[TIMESTAMP]
    st32(h + 4, <uint32_t>timestamp)
    st16(h + 8, <uint32_t>d.value[SGT])
    st16(h + 10, <uint32_t>(ETHERNET_PDU | d.value[HWID] << 4 | d.value[DIRECTION] << 3 | d.value[GRANULARITY] << 1 | d.has_subheader))
    if d.has_subheader:
        memcpy(h + TYPE_III_HLEN, d.subheader, SUBHEADER_LEN)


cdef int erspan_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef int64_t version = d.value[VERSION]
    cdef uint32_t hlen = erspan_hlen(version, d.has_subheader)
    cdef uint8_t *h = bytes.data - hlen
    cdef int limit = limit_of(info, bytes)
    if limit == 0:
        return LIMIT_REACHED
    if bytes.data - bytes.head < hlen + gre_hlen(d.below.gre.flags):
        return GRE_NO_HEADROOM
    if version != TYPE_I:
        write_base(d, info, bytes.data, bytes.tail - bytes.data, h)
    if version == TYPE_II:
        st32(h + 4, <uint32_t>d.value[INDEX])
    elif version == TYPE_III:
        write_type_iii(d, info, h)
    bytes.data = h
    return gre_push(&d.below, info, bytes, GRE_ERSPAN3 if version == TYPE_III else GRE_ERSPAN, limit)


# ---- receiving

cdef int header_len(const uint8_t *h, int64_t n) noexcept nogil:
    """Bytes of the header of type II or III at ``h``, or minus a reason."""
    cdef int version, size
    if n < 4:
        return -HEADER_TRUNCATED
    version = h[0] >> 4
    if version != TYPE_II and version != TYPE_III:
        return -UNKNOWN_VERSION
    size = <int>erspan_hlen(version, version == TYPE_III and n >= TYPE_III_HLEN and h[11] & SUBHEADER_PRESENT)
    return -HEADER_TRUNCATED if n < size else size


cdef int erspan_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef Device *d = <Device *>state
    cdef GreHeader g
    cdef const uint8_t *h
    cdef int v = gre_read(info, bytes.data, bytes.tail - bytes.data, &g), size = 0
    if v != DATAPLANE_ENCAP_OK:
        return v
    if g.protocol != GRE_ERSPAN and g.protocol != GRE_ERSPAN3:
        return DATAPLANE_ENCAP_NOT_MINE
    bytes.data += g.size
    h = bytes.data
    info.id = -1
    if g.size > GRE_MIN_HLEN:  # is_erspan_type1(): a bare GRE header is type I
        size = header_len(h, bytes.tail - h)
        if size < 0:
            return -size
        info.id = ld16(h + 2) & SESSION_MASK
        if d.value[VERSION] == TYPE_I or info.id != d.value[SESSION]:
            return DATAPLANE_ENCAP_NOT_MINE
        if size >= TYPE_III_HLEN and h[10] & 0x7c:
            return NOT_ETHERNET
    bytes.data += size
    if bytes.tail - bytes.data < ETH_HLEN:
        return INNER_TRUNCATED
    info.inner_protocol = ETHERTYPE_TEB
    return gre_accept(&d.below.gre, &g)


# ---- names of fields

cdef void describe_base(const char *layer, const char *bits, const uint8_t *h, dataplane_encap_field field, void *context) noexcept nogil:
    """``bits``: what the type calls the two bits behind the class of service."""
    field(context, layer, b"version", h[0] >> 4, NULL, 0)
    field(context, layer, b"vlan", ld16(h) & 0xfff, NULL, 0)
    field(context, layer, b"cos", h[2] >> 5, NULL, 0)
    field(context, layer, bits, h[2] >> 3 & 3, NULL, 0)
    field(context, layer, b"t", h[2] >> 2 & 1, NULL, 0)
    field(context, layer, b"session", ld16(h + 2) & SESSION_MASK, NULL, 0)


cdef void describe_type_iii(const uint8_t *h, int size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef const char *layer = b"erspan3"
    describe_base(layer, b"bso", h, field, context)
    field(context, layer, b"timestamp", ld32(h + 4), NULL, 0)
    field(context, layer, b"sgt", ld16(h + 8), NULL, 0)
    field(context, layer, b"pdu", h[10] >> 7, NULL, 0)
    field(context, layer, b"frame_type", h[10] >> 2 & 31, NULL, 0)
    field(context, layer, b"hwid", ld16(h + 10) >> 4 & 63, NULL, 0)
    field(context, layer, b"direction", h[11] >> 3 & 1, NULL, 0)
    field(context, layer, b"granularity", h[11] >> 1 & 3, NULL, 0)
    if size > TYPE_III_HLEN:
        field(context, layer, b"subheader", 0, h + TYPE_III_HLEN, SUBHEADER_LEN)


cdef int erspan_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    cdef GreHeader g
    cdef const uint8_t *h
    cdef int n = gre_describe(data, size, &g, field, context), hlen
    if n <= GRE_MIN_HLEN or (g.protocol != GRE_ERSPAN and g.protocol != GRE_ERSPAN3):
        return n
    h = data + n
    hlen = header_len(h, <int64_t>size - n)
    if hlen < 0:
        return -1
    if hlen == TYPE_II_HLEN:
        describe_base(b"erspan2", b"en", h, field, context)
        field(context, b"erspan2", b"index", ld32(h + 4) & 0xfffff, NULL, 0)
    else:
        describe_type_iii(h, hlen, field, context)
    return n + hlen


cdef dataplane_encap_reason[N_REASONS] REASONS
REASONS[GRE_NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the GRE header before the mirrored frame", b"NOMEM")
REASONS[GRE_TRUNCATED - 1] = dataplane_encap_reason(
    b"truncated", b"The packet ends inside the GRE header before a mirrored frame", b"NOT_SPECIFIED")
REASONS[GRE_BAD_VERSION - 1] = dataplane_encap_reason(
    b"bad_version", b"The GRE header before a mirrored frame has an unknown version", b"NOT_SPECIFIED")
REASONS[GRE_ROUTING_PRESENT - 1] = dataplane_encap_reason(
    b"routing_present", b"The GRE header before a mirrored frame has routing entries (RFC 1701)", b"NOT_SPECIFIED")
REASONS[GRE_BAD_CHECKSUM - 1] = dataplane_encap_reason(
    b"bad_checksum", b"The GRE checksum over a mirrored frame is wrong", b"NOT_SPECIFIED")
REASONS[GRE_CHECKSUM_MISMATCH - 1] = dataplane_encap_reason(
    b"checksum_mismatch", b"The GRE header before a mirrored frame has a checksum and the device none, or vice versa", b"NOT_SPECIFIED")
REASONS[GRE_OUT_OF_SEQUENCE - 1] = dataplane_encap_reason(
    b"out_of_sequence", b"The GRE sequence number before a mirrored frame is missing or older than one received before", b"NOT_SPECIFIED")
REASONS[HEADER_TRUNCATED - 1] = dataplane_encap_reason(
    b"header_truncated", b"The packet ends inside the ERSPAN header", b"NOT_SPECIFIED")
REASONS[UNKNOWN_VERSION - 1] = dataplane_encap_reason(
    b"unknown_version", b"The version of the ERSPAN header is neither that of type II nor that of type III", b"NOT_SPECIFIED")
REASONS[NOT_ETHERNET - 1] = dataplane_encap_reason(
    b"not_ethernet", b"The ERSPAN header says that what it carries is no Ethernet frame", b"NOT_SPECIFIED")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"The mirrored frame is shorter than an Ethernet header", b"NOT_SPECIFIED")
REASONS[LIMIT_REACHED - 1] = dataplane_encap_reason(
    b"limit_reached", b"The tunnel encapsulation limit in a frame to be mirrored is zero: it may enter no other tunnel", b"NOT_SPECIFIED")

cdef dataplane_encap_option_help[OPTIONS] OPTION_HELP
OPTION_HELP[VERSION] = dataplane_encap_option_help(b"version", b"0: type I, 1: type II, 2: type III (as erspan_ver of ip-link(8))", b"1")
OPTION_HELP[SESSION] = dataplane_encap_option_help(b"session", b"Session id, 0 to 1023, written and wanted in types II and III", b"0")
OPTION_HELP[SEQUENCE] = dataplane_encap_option_help(
    b"sequence", b"First sequence number written in types II and III, 0 to 0xffffffff", b"0")
OPTION_HELP[INDEX] = dataplane_encap_option_help(b"index", b"Type II: port index, 0 to 0xfffff", b"0")
OPTION_HELP[DIRECTION] = dataplane_encap_option_help(b"direction", b"Type III: 0: the frame was received, 1: sent", b"0")
OPTION_HELP[HWID] = dataplane_encap_option_help(b"hwid", b"Type III: hardware id, 0 to 63", b"0")
OPTION_HELP[SGT] = dataplane_encap_option_help(b"sgt", b"Type III: security group tag, 0 to 65535", b"0")
OPTION_HELP[GRANULARITY] = dataplane_encap_option_help(
    b"granularity", b"Type III: unit of the timestamp; 0: 100 us, 1: 100 ns, 2: IEEE 1588, 3: user-defined", b"0")
OPTION_HELP[VLAN] = dataplane_encap_option_help(b"vlan", b"VLAN id, 0 to 4095; -1: of the frame's tag", b"-1")
OPTION_HELP[COS] = dataplane_encap_option_help(b"cos", b"Class of service, 0 to 7; -1: of the frame's TOS", b"-1")
OPTION_HELP[EN] = dataplane_encap_option_help(b"en", b"Type II: where the VLAN tag was, 0 to 3; -1: 3 if the frame has one, else 0", b"-1")
OPTION_HELP[BSO] = dataplane_encap_option_help(b"bso", b"Type III: bad, short or oversized frame, 0 to 3; -1: by its length", b"-1")
OPTION_HELP[TRUNCATED_FRAME] = dataplane_encap_option_help(b"t", b"1: the frame was cut short", b"0")
OPTION_HELP[TIMESTAMP] = dataplane_encap_option_help(
    b"timestamp", b"Type III: timestamp, 0 to 0xffffffff; -1: of the packet, in 100 us", b"-1")
OPTION_HELP[SETTINGS] = dataplane_encap_option_help(b"subheader", b"Type III: platform specific subheader, 8 bytes", b"none")
limit_help(&OPTION_HELP[SETTINGS + 1])
outer_help(&OPTION_HELP[SETTINGS + 1 + LIMIT_OPTIONS], b"1", b"1")

cdef dataplane_encap ERSPAN
memset(&ERSPAN, 0, sizeof(ERSPAN))
ERSPAN.abi = DATAPLANE_ENCAP_ABI
ERSPAN.name = b"erspan"
ERSPAN.sentence = b"Mirrored Ethernet frames in GRE (ERSPAN types I, II and III, draft-foschiano-erspan)"
ERSPAN.ip_protocols[0] = IPPROTO_GRE
ERSPAN.ethernet = True
ERSPAN.options = OPTION_HELP
ERSPAN.n_options = OPTIONS
ERSPAN.drop_reasons = REASONS
ERSPAN.n_drop_reasons = N_REASONS
ERSPAN.create = erspan_create
ERSPAN.destroy = device_destroy
ERSPAN.overhead = erspan_overhead
ERSPAN.port = gre_port
ERSPAN.push = erspan_push
ERSPAN.pop = erspan_pop
ERSPAN.describe = erspan_describe

capsule = PyCapsule_New(&ERSPAN, DATAPLANE_ENCAP_CAPSULE, NULL)
