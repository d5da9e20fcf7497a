# The hash of the flow that a packet belongs to, by which tunnels choose source ports: net/core/flow_dissector.c.
#
# The same in both directions. Tunnels inside are looked through, as far as Linux does: IPIP, IPv6 in either, GRE.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ext.devices.core cimport Core
from ext.devices.record cimport rec_is_on
from ext.wire.bytes cimport ld16, ld32, rarely
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.hash cimport hash_begin, hash_bytes, hash_end, hash_step, mix64
from ext.wire.ipv4 cimport (IPV4_DST, IPV4_HLEN, IPV4_PROTO, IPV4_SRC, IPPROTO_AH, IPPROTO_DCCP, IPPROTO_ESP, IPPROTO_GRE, IPPROTO_IPIP,
                            IPPROTO_IPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, ipv4_hlen, ipv4_is_fragment)
from ext.wire.ipv6 cimport IPV6_DST, IPV6_HLEN, IPV6_NEXT, IPV6_SRC, NEXT_DESTINATION, NEXT_HOP_BY_HOP, NEXT_ROUTING, ipv6_flow_label
from ext.wire.packet cimport Pkt, pkt_l3_len

cdef enum:
    GRE_CSUM = 0x8000
    GRE_ROUTING = 0x4000
    GRE_KEY = 0x2000
    GRE_SEQ = 0x1000
    GRE_VERSION = 7
    HEADERS_MAX = 15  # that Linux looks at in a packet (MAX_FLOW_DISSECT_HDRS)

cdef struct FlowKeys:
    const uint8_t *src
    const uint8_t *dst
    int alen  # of the addresses, 0: none found
    int protocol  # EtherType
    int ip_protocol
    uint32_t ports
    uint32_t flow_label
    uint32_t key

cdef struct Walk:
    const uint8_t *at
    uint32_t left
    int protocol  # EtherType of what stands at ``at``; 0: the end
    int headers


cdef inline int ports_offset(int proto) noexcept nogil:
    """Where four bytes lie that tell flows apart: ports, or the SPI of ESP and AH (proto_ports_offset()); -1: nowhere."""
    if (proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE or proto == IPPROTO_DCCP
            or proto == IPPROTO_ESP):
        return 0
    return 4 if proto == IPPROTO_AH else -1


cdef inline void walk_gre(Walk *w, FlowKeys *k) noexcept nogil:
    """Only version 0 without routing is looked into (__skb_flow_dissect_gre())."""
    cdef uint32_t flags, n = 4
    w.protocol = 0
    if w.left < 4:
        return
    flags = ld16(w.at)
    if flags & (GRE_VERSION | GRE_ROUTING):
        return
    if flags & GRE_CSUM:
        n += 4
    if flags & GRE_KEY:
        if w.left < n + 4:
            return
        k.key = ld32(w.at + n)
        n += 4
    if flags & GRE_SEQ:
        n += 4
    w.protocol = ld16(w.at + 2)
    if w.protocol == ETHERTYPE_TEB:
        n += ETH_HLEN
        w.protocol = ld16(w.at + n - ETH_HLEN + ETH_TYPE) if w.left >= n else 0
    if w.left < n:
        w.protocol = 0
        return
    w.at += n
    w.left -= n


cdef inline void walk_transport(Walk *w, FlowKeys *k, int proto) noexcept nogil:
    """What an IP header leads to: another IP header, GRE, or the ports."""
    cdef int at
    k.ip_protocol = proto
    w.protocol = 0
    if proto == IPPROTO_IPIP:
        w.protocol = ETHERTYPE_IPV4
    elif proto == IPPROTO_IPV6:
        w.protocol = ETHERTYPE_IPV6
    elif proto == IPPROTO_GRE:
        walk_gre(w, k)
    else:
        at = ports_offset(proto)
        if at >= 0 and w.left >= <uint32_t>at + 4:
            k.ports = ld32(w.at + at)


cdef inline void walk_ipv4(Walk *w, FlowKeys *k) noexcept nogil:
    cdef uint32_t hlen
    w.protocol = 0
    if w.left < IPV4_HLEN or ipv4_hlen(w.at) < IPV4_HLEN or ipv4_hlen(w.at) > w.left:
        return
    hlen = ipv4_hlen(w.at)
    k.alen = 4
    k.src = w.at + IPV4_SRC
    k.dst = w.at + IPV4_DST
    k.ip_protocol = w.at[IPV4_PROTO]
    k.protocol = ETHERTYPE_IPV4
    if ipv4_is_fragment(w.at):
        return
    w.at += hlen
    w.left -= hlen
    walk_transport(w, k, k.ip_protocol)


cdef inline void walk_ipv6(Walk *w, FlowKeys *k) noexcept nogil:
    """A flow label ends the search; so does a fragment header."""
    cdef int next
    cdef uint32_t n
    w.protocol = 0
    if w.left < IPV6_HLEN:
        return
    k.alen = 16
    k.src = w.at + IPV6_SRC
    k.dst = w.at + IPV6_DST
    k.protocol = ETHERTYPE_IPV6
    k.ip_protocol = next = w.at[IPV6_NEXT]
    k.flow_label = ipv6_flow_label(w.at)
    if k.flow_label:
        return
    w.at += IPV6_HLEN
    w.left -= IPV6_HLEN
    while next == NEXT_HOP_BY_HOP or next == NEXT_ROUTING or next == NEXT_DESTINATION:
        if w.left < 8:
            return
        n = (<uint32_t>w.at[1] + 1) * 8
        if w.left < n:
            return
        next = w.at[0]
        w.at += n
        w.left -= n
    walk_transport(w, k, next)


cdef inline void flow_keys(int protocol, const uint8_t *at, uint32_t n, FlowKeys *k) noexcept nogil:
    cdef Walk w
    w.at = at
    w.left = n
    w.protocol = protocol
    w.headers = 0
    k.src = k.dst = NULL
    k.alen = k.ip_protocol = 0
    k.ports = k.flow_label = k.key = 0
    k.protocol = protocol
    while w.headers < HEADERS_MAX:
        w.headers += 1
        if w.protocol == ETHERTYPE_IPV4:
            walk_ipv4(&w, k)
        elif w.protocol == ETHERTYPE_IPV6:
            walk_ipv6(&w, k)
        else:
            return


cdef inline bint plain_keys(const Pkt *p, FlowKeys *k) noexcept nogil:
    """flow_keys() of TCP and UDP in IPv4 without options that is no fragment; else False."""
    cdef const uint8_t *ip = p.buf + p.l3
    if rarely(p.protocol != ETHERTYPE_IPV4 or pkt_l3_len(p) < IPV4_HLEN + 4 or ip[0] & 0xf != IPV4_HLEN // 4 or ipv4_is_fragment(ip)):
        return False
    k.ip_protocol = ip[IPV4_PROTO]
    if rarely(k.ip_protocol != IPPROTO_TCP and k.ip_protocol != IPPROTO_UDP):
        return False
    k.protocol = ETHERTYPE_IPV4
    k.src = ip + IPV4_SRC
    k.dst = ip + IPV4_DST
    k.alen = 4
    k.ports = ld32(ip + IPV4_HLEN)
    k.flow_label = k.key = 0
    return True


cdef inline uint32_t keys_hash(uint64_t seed, const FlowKeys *k) noexcept nogil:
    cdef uint64_t h = mix64(seed), a, b
    if rarely(k.alen == 0):
        return <uint32_t>mix64(h ^ <uint64_t>k.protocol)
    if not rarely(k.alen != 4):
        a = hash_begin(seed, 4)
        b = hash_end(hash_step(a, ld32(k.dst)))
        a = hash_end(hash_step(a, ld32(k.src)))
    else:
        a = hash_bytes(seed, k.src, k.alen)
        b = hash_bytes(seed, k.dst, k.alen)
    if k.ports:
        a += mix64(k.ports >> 16)
        b += mix64(k.ports & 0xffff)
    if rarely(k.flow_label or k.key):
        h ^= mix64(<uint64_t>k.flow_label << 32 | k.key)
    return <uint32_t>mix64(h ^ (mix64(a) + mix64(b)) ^ <uint64_t>k.ip_protocol)


cdef inline uint32_t flow_hash(Core *c, Pkt *p) noexcept nogil:
    """skb_get_hash(): computed once for a packet, however often its addresses are translated afterwards; never 0."""
    cdef FlowKeys k
    if rec_is_on(&c.rec, p):
        c.rec.hash_used = True
    if p.hash == 0:
        if rarely(not plain_keys(p, &k)):
            flow_keys(p.protocol, p.buf + p.l3, pkt_l3_len(p), &k)
        p.hash_l4 = k.ports != 0 or k.flow_label != 0
        p.hash = keys_hash(c.seed, &k)
        if p.hash == 0:
            p.hash = 1
    return p.hash
