# Segment routing over IPv6 (RFC 8754, RFC 8986): the headend that encapsulates, and the end of the path that decapsulates.
#
# net/ipv6/seg6_iptunnel.c (seg6_do_srh_encap(), seg6_do_srh_encap_red()), net/ipv6/seg6_local.c (End.DX2, End.DT46).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, strcmp
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_option, dataplane_encap_option_help,
                            dataplane_encap_pop, dataplane_encap_push, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_new
from ext.encap.options cimport option_in
from ext.wire.bytes cimport ld16, st16
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.ipv6 cimport IPV6_HLEN, NEXT_ROUTING

cdef enum:
    SRH_HLEN = 8  # before the segment list
    SEGMENT_LEN = 16
    SEGMENTS_MAX = 15  # behind the first
    ROUTING_TYPE_SRH = 4
    TLV_PAD1 = 0
    TLV_HMAC = 5
    FLOW_LABEL_ZERO = -1
    FLOW_LABEL_INNER = 0
    FLOW_LABEL_HASH = 1
    SRV6_OPTIONS = 5  # rows that srv6_help() writes
    # drop reasons, counted from 1: the table of a kind begins with them in this order
    SRV6_NO_HEADROOM = 1
    SRV6_NOT_OVER_IPV4
    SRV6_TRUNCATED
    SRV6_MALFORMED
    SRV6_SEGMENTS_LEFT
    SRV6_HMAC
    SRV6_REASONS = SRV6_HMAC

cdef struct Srv6:
    uint8_t segments[SEGMENTS_MAX * SEGMENT_LEN]  # behind the first, in the order of travel
    int n_segments
    uint8_t reduced
    uint8_t flags
    uint16_t tag
    int flow_label


cdef inline void *srv6_new(char *error) noexcept nogil:
    return device_new(sizeof(Srv6), error)


cdef inline bint segment_list(Srv6 *s, const dataplane_encap_option *o) noexcept nogil:
    if strcmp(o.key, b"segments") or o.size == 0 or o.size % SEGMENT_LEN or o.size > SEGMENTS_MAX * SEGMENT_LEN:
        return False
    s.n_segments = <int>(o.size / SEGMENT_LEN)
    memcpy(s.segments, o.bytes, o.size)
    return True


cdef inline bint srv6_take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef Srv6 *s = <Srv6 *>device
    if option_in(o, b"reduced", 0, 1):
        s.reduced = <uint8_t>o.number
    elif option_in(o, b"flags", 0, 255):
        s.flags = <uint8_t>o.number
    elif option_in(o, b"tag", 0, 0xffff):
        s.tag = <uint16_t>o.number
    elif option_in(o, b"flow_label", FLOW_LABEL_ZERO, FLOW_LABEL_HASH):
        s.flow_label = <int>o.number
    else:
        return segment_list(s, o)
    return True


cdef inline void srv6_help(dataplane_encap_option_help *row) noexcept nogil:
    """Fill SRV6_OPTIONS rows."""
    row[0] = dataplane_encap_option_help(
        b"segments", b"Segments behind the first, which is the remote end, in the order of travel: bytes, 16 for each of up to 15", b"none")
    row[1] = dataplane_encap_option_help(b"reduced", b"1: leave the first segment out of the list, and a list of one out altogether", b"0")
    row[2] = dataplane_encap_option_help(b"flags", b"Flags of the segment routing header, 0 to 255", b"0")
    row[3] = dataplane_encap_option_help(b"tag", b"Tag of the segment routing header, 0 to 65535", b"0")
    row[4] = dataplane_encap_option_help(
        b"flow_label", b"Outer flow label (net.ipv6.seg6_flowlabel); -1: zero, 0: of an inner IPv6 packet, 1: of the flow's hash", b"0")


cdef inline int entries(const Srv6 *s) noexcept nogil:
    """Of the segment list; 0: there is no segment routing header."""
    return s.n_segments if s.reduced else s.n_segments + 1


cdef inline uint32_t srh_len(const Srv6 *s) noexcept nogil:
    return SRH_HLEN + entries(s) * SEGMENT_LEN if entries(s) else 0


cdef inline uint16_t srv6_overhead(const void *state, int family) noexcept nogil:
    return <uint16_t>((20 if family == 4 else IPV6_HLEN) + srh_len(<const Srv6 *>state))


cdef inline uint16_t srv6_port(const void *state) noexcept nogil:
    return 0


# ---- sending

cdef inline void srh_write(const Srv6 *s, const uint8_t *first, uint8_t *h, uint8_t next) noexcept nogil:
    """The header at ``h``, its list from the last segment to the first (RFC 8754 2)."""
    cdef int i
    h[0] = next
    h[1] = <uint8_t>(entries(s) * SEGMENT_LEN / 8)
    h[2] = ROUTING_TYPE_SRH
    h[3] = <uint8_t>s.n_segments
    h[4] = <uint8_t>(entries(s) - 1)
    h[5] = s.flags
    st16(h + 6, s.tag)
    for i in range(s.n_segments):
        memcpy(h + SRH_HLEN + i * SEGMENT_LEN, s.segments + (s.n_segments - 1 - i) * SEGMENT_LEN, SEGMENT_LEN)
    if not s.reduced:
        memcpy(h + SRH_HLEN + s.n_segments * SEGMENT_LEN, first, SEGMENT_LEN)


cdef inline bint carries_ipv6(const dataplane_encap_push *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    if info.inner_protocol == ETHERTYPE_TEB:
        return bytes.tail - bytes.data >= ETH_HLEN and ld16(bytes.data + ETH_TYPE) == ETHERTYPE_IPV6
    return info.inner_protocol == ETHERTYPE_IPV6


cdef inline uint32_t label_of_hash(uint32_t hash) noexcept nogil:
    """The low 20 bits of the hash, its halves exchanged, read in network byte order on a little-endian machine (seg6_make_flowlabel())."""
    hash = hash << 16 | hash >> 16
    return hash >> 24 | (hash >> 8 & 0xff00) | (hash << 8 & 0xf0000)


cdef inline void outer_fields(const Srv6 *s, dataplane_encap_push *info, bint ipv6) noexcept nogil:
    """Traffic class and hop limit of an inner IPv6 packet go outside, those of others do not."""
    info.tos = info.inner_tos if ipv6 else 0
    info.ttl = info.inner_ttl if ipv6 else 0
    info.flow_label = 0
    if s.flow_label == FLOW_LABEL_HASH:
        info.flow_label = label_of_hash(info.flow_hash)
    elif s.flow_label == FLOW_LABEL_INNER and ipv6:
        info.flow_label = info.inner_flow_label


cdef inline int srv6_push(const Srv6 *s, dataplane_encap_push *info, dataplane_encap_bytes *bytes, uint8_t next) noexcept nogil:
    """The segment routing header before ``data``; ``next``: IP protocol of what is there."""
    if info.family != 6:
        return SRV6_NOT_OVER_IPV4
    if bytes.data - bytes.head < srh_len(s):
        return SRV6_NO_HEADROOM
    outer_fields(s, info, carries_ipv6(info, bytes))
    bytes.data -= srh_len(s)
    info.ip_protocol = next
    if entries(s):
        srh_write(s, info.remote, bytes.data, next)
        info.ip_protocol = NEXT_ROUTING
    return DATAPLANE_ENCAP_OK


# ---- receiving

cdef inline int srh_check(const uint8_t *h, int64_t n) noexcept nogil:
    """Bytes of a well-formed header (seg6_validate_srh()), or minus a reason."""
    cdef int size
    if n < SRH_HLEN:
        return -SRV6_TRUNCATED
    size = (h[1] + 1) * 8
    if n < size:
        return -SRV6_TRUNCATED
    if SRH_HLEN + (h[4] + 1) * SEGMENT_LEN > size or h[3] > h[4] + 1:
        return -SRV6_MALFORMED
    return size


cdef inline int tlv_check(const uint8_t *at, int n) noexcept nogil:
    """The TLVs behind the segment list: those we do not know are skipped (RFC 8754 2.1), an HMAC cannot be: nobody has checked it."""
    cdef int size
    while n > 0:
        if at[0] == TLV_HMAC:
            return SRV6_HMAC
        size = 1 if at[0] == TLV_PAD1 else 2 if n < 2 else 2 + at[1]
        if size > n:
            return SRV6_MALFORMED
        at += size
        n -= size
    return DATAPLANE_ENCAP_OK


cdef inline int srv6_pop(dataplane_encap_pop *info, dataplane_encap_bytes *bytes, uint8_t *next) noexcept nogil:
    """Take the segment routing header off, if there is one; ``next``: IP protocol of what follows."""
    cdef uint8_t *h = bytes.data
    cdef int size, list_end, v
    if info.family != 6:
        return DATAPLANE_ENCAP_NOT_MINE
    next[0] = info.outer_protocol
    if info.outer_protocol != NEXT_ROUTING:
        return DATAPLANE_ENCAP_OK
    if bytes.tail - h >= 3 and h[2] != ROUTING_TYPE_SRH:
        return DATAPLANE_ENCAP_NOT_MINE
    size = srh_check(h, bytes.tail - h)
    if size < 0:
        return -size
    if h[3]:
        return SRV6_SEGMENTS_LEFT
    list_end = SRH_HLEN + (h[4] + 1) * SEGMENT_LEN
    v = tlv_check(h + list_end, size - list_end)
    if v != DATAPLANE_ENCAP_OK:
        return v
    next[0] = h[0]
    bytes.data += size
    return DATAPLANE_ENCAP_OK


cdef inline int srv6_describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field,
                              void *context) noexcept nogil:
    """Name the fields of a segment routing header: the bytes it takes, 0 without one, -1 if it is broken off or malformed."""
    cdef int n, list_len
    if ip_protocol != NEXT_ROUTING:
        return 0
    n = srh_check(data, <int64_t>size)
    if n < 0 or data[2] != ROUTING_TYPE_SRH:
        return -1
    list_len = (data[4] + 1) * SEGMENT_LEN
    field(context, b"srh", b"next_header", data[0], NULL, 0)
    field(context, b"srh", b"segments_left", data[3], NULL, 0)
    field(context, b"srh", b"last_entry", data[4], NULL, 0)
    field(context, b"srh", b"flags", data[5], NULL, 0)
    field(context, b"srh", b"tag", ld16(data + 6), NULL, 0)
    field(context, b"srh", b"segments", 0, data + SRH_HLEN, list_len)
    if n > SRH_HLEN + list_len:
        field(context, b"srh", b"tlvs", 0, data + SRH_HLEN + list_len, n - SRH_HLEN - list_len)
    return n
