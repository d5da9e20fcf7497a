# Encapsulations at the border: their options from Python, what they tell of themselves, and packets through one of them alone.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from ext.encap.abi cimport *
from ext.encap.call cimport GUARD_LEN, call_complaint, encap_pop, encap_push, encap_takes
from ext.encap.ip cimport address_len, inner_facts, outer_facts, outer_hlen, outer_payload, outer_write
from ext.stages.local cimport LOCAL_NO_PROTOCOL, LOCAL_UDP_BAD_CHECKSUM, LOCAL_UDP_BAD_LENGTH, LOCAL_UDP_NO_SOCKET
from ext.stages.parse cimport validate_ipv4
from ext.stages.parse_ipv6 cimport validate_bridged_ipv6
from ext.stages.run cimport reason_text
from ext.stages.tunnel cimport TUNNEL_UNKNOWN_ID
from ext.wire.bytes cimport ld16
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ipv4 cimport IPPROTO_UDP, IPV4_FRAG, IPV4_MF, IPV4_OFFSET, IPV4_PROTO, ipv4_hlen
from ext.wire.packet cimport Pkt, PktPool, pkt_l3, pkt_l3_len, pkt_new, pkt_pool_free, pkt_release_memory

cdef enum:
    UDP_HLEN = 8
    PACKET_MAX = 65535


cdef inline void *encap_new(const dataplane_encap *e, dict params, const dataplane_encap_host *host) except NULL:
    """State for these options. ValueError: the encapsulation does not take them."""
    cdef char error[DATAPLANE_ENCAP_ERROR_LEN + 1]
    cdef dataplane_encap_option *options
    cdef void *state
    cdef int i
    kind = e.name.decode()
    rows = [(key.encode(), option_value(kind, key, value)) for key, value in params.items()]
    options = <dataplane_encap_option *>calloc(len(rows) + 1, sizeof(dataplane_encap_option))
    if options == NULL:
        raise MemoryError
    memset(error, 0, sizeof(error))
    for i in range(len(rows)):
        key, value = rows[i]
        options[i].key = <bytes>key
        if isinstance(value, bytes):
            options[i].bytes = <bytes>value
            options[i].size = len(value)
        else:
            options[i].number = value
    state = e.create(options, <int>len(rows), host, error)
    free(options)
    if state == NULL:
        raise ValueError((<bytes>error).decode(errors="replace") or f"{kind}: refused without saying why")
    return state


cdef inline object option_value(str kind, str key, object value):
    """A number or bytes as the interface can hold it. ValueError: neither."""
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, int) and -1 << 63 <= value < 1 << 63:
        return int(value)
    raise ValueError(f"{kind}: option '{key}' takes a number of 64 bits or bytes that are not empty")


# ---- what an encapsulation tells of itself

cdef inline list option_list(const dataplane_encap *e):
    return [(e.options[i].key.decode(), e.options[i].sentence.decode(), e.options[i].default_value.decode()) for i in range(e.n_options)]


cdef inline list protocol_list(const dataplane_encap *e):
    return [e.ip_protocols[i] for i in range(4) if e.ip_protocols[i]]


cdef inline void field_found(void *context, const char *layer, const char *name, int64_t number, const uint8_t *data,
                             size_t size) noexcept with gil:
    row = (layer.decode(errors="replace"), name.decode(errors="replace"), <bytes>(<const char *>data)[:size] if size else number)
    (<list>context).append(row)


cdef inline object describe_fields(const dataplane_encap *e, int ip_protocol, bytes payload):
    """(fields, bytes they take): fewer fields and -1 where the headers are broken off. None: the kind has no names for them."""
    cdef const uint8_t *data = <const uint8_t *>(<const char *>payload)
    cdef size_t n = len(payload)
    cdef int size
    if e.describe == NULL:
        return None
    fields = []
    size = e.describe(<uint8_t>ip_protocol, data, n, field_found, <void *>fields)
    return fields, size


# ---- packets through one encapsulation alone

cdef inline str encap_reason_name(const dataplane_encap *e, int v):
    return f"{e.name.decode()}/{e.drop_reasons[v - 1].name.decode()}"


cdef inline str stage_reason_name(int reason):
    return (<bytes>reason_text(reason)).decode().split("\t")[0]


cdef inline int check_call(const dataplane_encap *e, int v) except -1:
    """ValueError: the plug-in broke its contract."""
    cdef const char *complaint = call_complaint(v)
    if complaint != NULL:
        raise ValueError(f"encapsulation {e.name.decode()} {complaint.decode()}")
    return 0


cdef inline int push_info(dataplane_encap_push *info, bytes inner, int inner_protocol, bytes local, bytes remote) except -1:
    if len(local) not in (4, 16) or len(local) != len(remote):
        raise ValueError("local and remote are both addresses of 4 bytes, or both of 16")
    memset(info, 0, sizeof(dataplane_encap_push))
    inner_facts(info, inner_protocol, <const uint8_t *>(<const char *>inner), <uint32_t>len(inner))
    info.family = 4 if len(local) == 4 else 6
    memcpy(info.local, <const char *>local, len(local))
    memcpy(info.remote, <const char *>remote, len(remote))
    return 0


cdef inline object codec_push(const dataplane_encap *e, void *state, dataplane_encap_push *info, bytes inner, uint32_t headroom, uint32_t tailroom,
                              int ip_id, int default_ttl):
    """The outer packet as bytes, or the name of the drop reason; None: the plug-in keeps it."""
    cdef uint32_t n = <uint32_t>len(inner), hlen = outer_hlen(info.family), total
    cdef uint32_t first = GUARD_LEN + hlen + headroom
    cdef dataplane_encap_bytes b
    cdef int v
    cdef uint8_t *buf
    buf = <uint8_t *>calloc(first + n + tailroom + GUARD_LEN, 1)
    if buf == NULL:
        raise MemoryError
    try:
        memcpy(buf + first, <const char *>inner, n)
        b.head = buf + GUARD_LEN + hlen
        b.data = buf + first
        b.tail = b.data + n
        b.limit = b.tail + tailroom
        with nogil:
            v = encap_push(e, state, info, &b)
        check_call(e, v)
        if v == DATAPLANE_ENCAP_CONSUMED:
            return None
        if v != DATAPLANE_ENCAP_OK:
            return encap_reason_name(e, v)
        total = hlen + <uint32_t>(b.tail - b.data)
        if total > PACKET_MAX:
            raise ValueError(f"{total} bytes do not fit into an IP packet")
        outer_write(b.data - hlen, info, total, ip_id, default_ttl)
        return <bytes>(<char *>b.data - hlen)[:total]
    finally:
        free(buf)


cdef inline int codec_udp(const dataplane_encap *e, const void *state, int family, Pkt *p, uint32_t at) noexcept nogil:
    """What the IP layer and a UDP socket check before the tunnel sees a datagram: 0 or minus a drop reason."""
    cdef uint8_t *udp = p.buf + p.l3 + at
    cdef uint32_t n = p.end - p.l3 - at, length
    cdef uint8_t *src = p.buf + p.l3 + (12 if family == 4 else 8)
    cdef int alen = address_len(family)
    if n < UDP_HLEN:
        return -LOCAL_UDP_BAD_LENGTH
    length = ld16(udp + 4)
    if length < UDP_HLEN or length > n:
        return -LOCAL_UDP_BAD_LENGTH
    p.end -= n - length
    if ld16(udp + 6) and csum_add_bytes(udp, length, pseudo_sum(src, src + alen, alen, IPPROTO_UDP, length)) != 0xffff:
        return -LOCAL_UDP_BAD_CHECKSUM
    return 0 if ld16(udp + 2) == e.port(state) else -LOCAL_UDP_NO_SOCKET


cdef inline int codec_outer(const dataplane_encap *e, const void *state, Pkt *p, int *ip_protocol, uint32_t *at) noexcept nogil:
    """Find what the outer header carries: 0 or minus a drop reason."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef int family = ip[0] >> 4, v
    v = validate_bridged_ipv6(p) if family == 6 else validate_ipv4(p)
    if v:
        return v
    if family == 6:
        ip_protocol[0] = outer_payload(e, ip, pkt_l3_len(p), at)
    else:
        ip_protocol[0] = ip[IPV4_PROTO]
        at[0] = ipv4_hlen(ip)
        if ld16(ip + IPV4_FRAG) & (IPV4_MF | IPV4_OFFSET):
            return -LOCAL_NO_PROTOCOL
    if not encap_takes(e, ip_protocol[0]):
        return -LOCAL_NO_PROTOCOL
    return codec_udp(e, state, family, p, at[0]) if ip_protocol[0] == IPPROTO_UDP else 0


cdef inline tuple codec_pop(const dataplane_encap *e, void *state, bytes packet, dataplane_encap_pop *info):
    """(EtherType, inner packet, id, name of the drop reason or None)."""
    cdef uint32_t at = 0
    cdef int ip_protocol = 0, v
    cdef dataplane_encap_bytes b
    cdef PktPool pool
    cdef Pkt *p
    pool.free = NULL
    p = pkt_new(&pool, <uint32_t>len(packet) + 1)
    if p == NULL:
        raise MemoryError
    try:
        p.buf[p.l3] = 0  # of an empty packet the version is read all the same
        memcpy(p.buf + p.l3, <const char *>packet, len(packet))
        p.end = p.l3 + <uint32_t>len(packet)
        v = codec_outer(e, state, p, &ip_protocol, &at)
        if v:
            return 0, b"", -1, stage_reason_name(-v)
        outer_facts(info, pkt_l3(p), pkt_l3(p)[0] >> 4, ip_protocol)
        b.head = p.buf + GUARD_LEN
        b.data = p.buf + p.l3 + at
        b.tail = p.buf + p.end
        b.limit = p.buf + p.cap - GUARD_LEN
        with nogil:
            v = encap_pop(e, state, info, &b)
        check_call(e, v)
        if v == DATAPLANE_ENCAP_CONSUMED:
            return 0, b"", info.id, None
        if v == DATAPLANE_ENCAP_NOT_MINE:
            return 0, b"", info.id, stage_reason_name(TUNNEL_UNKNOWN_ID)
        if v != DATAPLANE_ENCAP_OK:
            return 0, b"", info.id, encap_reason_name(e, v)
        return info.inner_protocol, <bytes>(<char *>b.data)[:b.tail - b.data], info.id, None
    finally:
        pkt_release_memory(&pool, p)
        pkt_pool_free(&pool)
