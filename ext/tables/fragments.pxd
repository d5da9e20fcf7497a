# Fragment queues of one namespace (RFC 791, RFC 5722): net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c, and for IPv6
# net/ipv6/reassembly.c, net/ipv6/netfilter/nf_conntrack_reasm.c.
#
# A run is a chain of fragments that arrived in order, each behind the one before: Linux calls anything inside
# a run a duplicate, and anything else that touches known bytes an overlap, which kills the datagram.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memcmp, memset
from ext.wire.bytes cimport ld16, st16
from ext.wire.ipv4 cimport (IPV4_TOS, IPV4_LEN, IPV4_ID, IPV4_FRAG, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_DF, IPV4_MF, IPV4_OFFSET, ECN_MASK,
                            ipv4_hlen, ipv4_set_csum)
from ext.wire.ipv6 cimport (IPV6_HLEN, IPV6_SRC, IPV6_DST, IPV6_PAYLOAD_LEN, IPV6_MAX_PAYLOAD, FRAGMENT_HLEN, FRAGMENT_MORE,
                            FRAGMENT_OFFSET, ipv6_class, ipv6_is_link_local, ipv6_is_multicast, ipv6_set_class)
from ext.wire.packet cimport Pkt, PktPool, pkt_new, pkt_release_memory, PF_IGNORE_DF, PF_REASM_DF

cdef enum:
    FRAG_USER_LOCAL = 0  # ip_local_deliver()
    FRAG_USER_CONNTRACK_IN = 1
    FRAG_USER_CONNTRACK_OUT = 2
    FRAG_USER_BRIDGE_IN = 3
    FRAG_FIRST_IN = 1
    FRAG_LAST_IN = 2
    # result of frag_add()
    FRAG_HELD = 0
    FRAG_COMPLETE = 1
    FRAG_DUPLICATE = 2
    FRAG_OVERLAP = 3
    FRAG_CORRUPT = 4
    FRAG_BAD_ECN = 5
    FRAG_OVERSIZE = 6
    FRAG_UNALIGNED = 7  # IPv6: more follows, but not on a boundary of 8 bytes
    FRAG_QUEUES_MAX = 4096  # datagrams in parts at once; Linux bounds memory (4 MiB)

cdef struct Frag:
    Pkt *p
    uint32_t offset
    uint32_t len
    uint32_t skip  # from the IP header to the data
    uint32_t run_end  # end of the run that this fragment begins; 0: it continues one

cdef struct FragKey:
    uint8_t src[16]
    uint8_t dst[16]
    uint32_t id
    int dev  # IPv6 addresses that belong to one link; -1: any device
    uint8_t proto  # IPv4
    uint8_t user
    uint8_t family
    uint8_t pad

cdef struct FragQueue:
    FragQueue *next
    uint64_t number  # in its table, none is given twice: what a timer knows it by
    FragKey key
    int dev
    int64_t expires
    uint32_t flags
    uint32_t total
    uint32_t have
    uint32_t max_size
    uint32_t max_df_size
    uint32_t ecn  # one bit per ECN codepoint seen
    uint32_t next_at  # IPv6: the field that names the first fragment's header, from the IPv6 header
    Frag *frag  # in order of offset
    int n
    int cap
    int tail_run  # index of the fragment that begins the last run

cdef struct FragTable:
    FragQueue *first
    uint64_t made  # queues so far
    uint32_t count


cdef inline void frag_key4(FragKey *key, const uint8_t *ip, int user) noexcept nogil:
    memset(key, 0, sizeof(FragKey))
    memcpy(key.src, ip + IPV4_SRC, 4)
    memcpy(key.dst, ip + IPV4_DST, 4)
    key.id = ld16(ip + IPV4_ID)
    key.dev = -1
    key.proto = ip[IPV4_PROTO]
    key.user = <uint8_t>user
    key.family = 4


cdef inline void frag_key6(FragKey *key, const uint8_t *ip, uint32_t id, int dev, int user) noexcept nogil:
    memset(key, 0, sizeof(FragKey))
    memcpy(key.src, ip + IPV6_SRC, 16)
    memcpy(key.dst, ip + IPV6_DST, 16)
    key.id = id
    key.dev = dev if ipv6_is_link_local(ip + IPV6_DST) or ipv6_is_multicast(ip + IPV6_DST) else -1
    key.user = <uint8_t>user
    key.family = 6


cdef inline FragQueue *frag_queue(FragTable *t, const FragKey *key, int dev, int64_t expires) noexcept nogil:
    """The datagram's queue, made if need be; NULL: the table is full or memory is out."""
    cdef FragQueue *q = t.first
    while q != NULL:
        if memcmp(&q.key, key, sizeof(FragKey)) == 0:
            return q
        q = q.next
    if t.count >= FRAG_QUEUES_MAX:
        return NULL
    q = <FragQueue *>calloc(1, sizeof(FragQueue))
    if q == NULL:
        return NULL
    q.key = key[0]
    q.dev = dev
    q.expires = expires
    q.next = t.first
    t.made += 1
    q.number = t.made
    t.first = q
    t.count += 1
    return q


cdef inline void frag_unlink(FragTable *t, FragQueue *q) noexcept nogil:
    cdef FragQueue **at = &t.first
    while at[0] != q:
        at = &at[0].next
    at[0] = q.next
    t.count -= 1


cdef inline int frag_span(FragQueue *q, uint32_t *end, uint32_t offset, bint more) noexcept nogil:
    """What the fragment says of the datagram's length: FRAG_HELD, or FRAG_CORRUPT if it contradicts itself or others."""
    if not more:
        if end[0] < q.total or (q.flags & FRAG_LAST_IN and end[0] != q.total):
            return FRAG_CORRUPT
        q.flags |= FRAG_LAST_IN
        q.total = end[0]
    else:
        end[0] &= ~<uint32_t>7
        if end[0] > q.total:
            if q.flags & FRAG_LAST_IN:
                return FRAG_CORRUPT
            q.total = end[0]
    return FRAG_CORRUPT if end[0] == offset else FRAG_HELD


cdef inline bint frag_room(FragQueue *q) noexcept nogil:
    cdef Frag *grown
    cdef int cap
    if q.n < q.cap:
        return True
    cap = q.cap * 2 if q.cap else 8
    grown = <Frag *>malloc(cap * sizeof(Frag))
    if grown == NULL:
        return False
    if q.n:
        memcpy(grown, q.frag, q.n * sizeof(Frag))
    free(q.frag)
    q.frag = grown
    q.cap = cap
    return True


cdef inline int frag_place(FragQueue *q, uint32_t offset, uint32_t end, int *at) noexcept nogil:
    """Where it goes among the runs: FRAG_HELD and its index, or what is wrong (inet_frag_queue_insert())."""
    cdef int i
    cdef Frag *last
    at[0] = q.n
    if q.n == 0:
        q.tail_run = 0
        return FRAG_HELD
    last = &q.frag[q.n - 1]
    if last.offset + last.len < end:
        if offset < last.offset + last.len:
            return FRAG_OVERLAP
        return FRAG_HELD
    for i in range(q.n):
        if q.frag[i].run_end == 0:
            continue
        if end <= q.frag[i].offset:
            at[0] = i
            return FRAG_HELD
        if offset < q.frag[i].run_end:
            return FRAG_DUPLICATE if offset >= q.frag[i].offset and end <= q.frag[i].run_end else FRAG_OVERLAP
    return FRAG_OVERLAP


cdef inline void frag_link(FragQueue *q, Pkt *p, int at, uint32_t offset, uint32_t len, uint32_t skip) noexcept nogil:
    cdef int i
    cdef Frag *last
    cdef bint append = False
    if at == q.n and q.n > 0:
        last = &q.frag[q.n - 1]
        append = last.offset + last.len == offset
    for i in range(q.n, at, -1):
        q.frag[i] = q.frag[i - 1]
    q.frag[at].p = p
    q.frag[at].offset = offset
    q.frag[at].len = len
    q.frag[at].skip = skip
    q.frag[at].run_end = 0 if append else offset + len
    q.n += 1
    if append:
        q.frag[q.tail_run].run_end = offset + len
    elif at == q.n - 1:
        q.tail_run = at
    elif at <= q.tail_run:
        q.tail_run += 1


cdef inline int frag_take(FragQueue *q, Pkt *p, uint32_t offset, uint32_t end, uint32_t skip, int ecn) noexcept nogil:
    """A fragment whose span is in order finds its place among the others; FRAG_HELD and FRAG_COMPLETE keep it."""
    cdef int at, res = frag_place(q, offset, end, &at)
    if res != FRAG_HELD:
        return res
    if not frag_room(q):
        return FRAG_CORRUPT
    frag_link(q, p, at, offset, end - offset, skip)
    q.dev = p.dev
    q.have += end - offset
    q.ecn |= <uint32_t>1 << ecn
    if offset == 0:
        q.flags |= FRAG_FIRST_IN
    if q.flags == (FRAG_FIRST_IN | FRAG_LAST_IN) and q.have == q.total:
        return FRAG_COMPLETE
    return FRAG_HELD


cdef inline int frag_add(FragQueue *q, Pkt *p) noexcept nogil:
    """Take an IPv4 fragment in; FRAG_HELD and FRAG_COMPLETE keep it, all else leaves it to the caller (ip_frag_queue())."""
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint32_t hlen = ipv4_hlen(ip), word = ld16(ip + IPV4_FRAG), offset, end, size
    cdef int res
    offset = (word & IPV4_OFFSET) * 8
    end = offset + (p.end - p.l3) - hlen
    res = frag_span(q, &end, offset, (word & IPV4_MF) != 0)
    if res == FRAG_HELD:
        res = frag_take(q, p, offset, end, hlen, ip[IPV4_TOS] & ECN_MASK)
    if res != FRAG_HELD and res != FRAG_COMPLETE:
        return res
    size = end - offset + hlen
    if size > q.max_size:
        q.max_size = size
    if word & IPV4_DF and size > q.max_df_size:
        q.max_df_size = size
    return res


cdef inline int frag_add6(FragQueue *q, Pkt *p, uint32_t next_at, uint32_t at) noexcept nogil:
    """The same for IPv6, whose fragment header at ``at`` is named by the field at ``next_at`` (nf_ct_frag6_queue())."""
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint32_t word = ld16(ip + at + 2), payload = ld16(ip + IPV6_PAYLOAD_LEN), offset, end
    cdef int res = FRAG_HELD
    offset = word & FRAGMENT_OFFSET
    end = offset + payload + IPV6_HLEN - at - FRAGMENT_HLEN
    if payload + IPV6_HLEN < at + FRAGMENT_HLEN or end > IPV6_MAX_PAYLOAD:
        return FRAG_OVERSIZE
    if word & FRAGMENT_MORE and end & 7:
        return FRAG_UNALIGNED
    res = frag_span(q, &end, offset, (word & FRAGMENT_MORE) != 0)
    if res == FRAG_HELD:
        res = frag_take(q, p, offset, end, at + FRAGMENT_HLEN, ipv6_class(ip) & ECN_MASK)
    if res != FRAG_HELD and res != FRAG_COMPLETE:
        return res
    if offset == 0:
        q.next_at = next_at
    if payload + IPV6_HLEN > q.max_size:
        q.max_size = payload + IPV6_HLEN
    return res


cdef inline int frag_ecn(uint32_t seen) noexcept nogil:
    """ECN bits to set on the whole (RFC 3168 5.3, ip_frag_ecn_table); -1: a mixture that kills the datagram."""
    cdef bint not_ect = seen & 1, ect1 = seen & 2, ect0 = seen & 4, ce = seen & 8
    if not_ect and (ce or ect0 or ect1):
        return -1
    return 3 if ce else 0


cdef inline Pkt *frag_merged(FragQueue *q, uint32_t hlen, PktPool *pool) noexcept nogil:
    """The first fragment's frame header and ``hlen`` bytes, then all the data; NULL when memory is out."""
    cdef Pkt *head = q.frag[0].p
    cdef uint32_t l2len = head.l3 - head.l2
    cdef Pkt *p = pkt_new(pool, l2len + hlen + q.total)
    cdef int i
    if p == NULL:
        return NULL
    p.frags = <uint16_t *>malloc(q.n * sizeof(uint16_t))
    if p.frags == NULL:
        pkt_release_memory(pool, p)
        return NULL
    frag_inherit(p, head)
    p.l3 = p.l2 + l2len
    p.end = p.l3 + hlen + q.total
    memcpy(p.buf + p.l2, head.buf + head.l2, l2len + hlen)
    for i in range(q.n):
        memcpy(p.buf + p.l3 + hlen + q.frag[i].offset, q.frag[i].p.buf + q.frag[i].p.l3 + q.frag[i].skip, q.frag[i].len)
        p.frags[i] = <uint16_t>q.frag[i].len
    p.n_frags = <uint16_t>q.n
    p.flags |= PF_IGNORE_DF
    return p


cdef inline int frag_reassemble(FragQueue *q, PktPool *pool, Pkt **whole) noexcept nogil:
    """Put a complete IPv4 datagram together: FRAG_COMPLETE, or why not. The parts stay the queue's (ip_frag_reasm())."""
    cdef Pkt *p
    cdef uint8_t *ip
    cdef uint32_t hlen = q.frag[0].skip
    cdef int ecn = frag_ecn(q.ecn)
    if ecn < 0:
        return FRAG_BAD_ECN
    if hlen + q.total > 65535:
        return FRAG_OVERSIZE
    p = frag_merged(q, hlen, pool)
    if p == NULL:
        return FRAG_CORRUPT
    ip = p.buf + p.l3
    st16(ip + IPV4_LEN, hlen + q.total)
    st16(ip + IPV4_FRAG, 0)
    if q.max_df_size == q.max_size:
        p.flags |= PF_REASM_DF
        st16(ip + IPV4_FRAG, IPV4_DF)
    ip[IPV4_TOS] |= <uint8_t>ecn
    ipv4_set_csum(ip)
    p.frag_max_size = q.max_df_size if q.max_df_size > q.max_size else q.max_size
    whole[0] = p
    return FRAG_COMPLETE


cdef inline int frag_reassemble6(FragQueue *q, PktPool *pool, Pkt **whole) noexcept nogil:
    """The same for IPv6: the fragment header goes (nf_ct_frag6_reasm(), ip6_frag_reasm())."""
    cdef Pkt *p
    cdef uint8_t *ip
    cdef uint32_t at = q.frag[0].skip - FRAGMENT_HLEN
    cdef int ecn = frag_ecn(q.ecn)
    if ecn < 0:
        return FRAG_BAD_ECN
    if at - IPV6_HLEN + q.total > IPV6_MAX_PAYLOAD:
        return FRAG_OVERSIZE
    p = frag_merged(q, at, pool)
    if p == NULL:
        return FRAG_CORRUPT
    ip = p.buf + p.l3
    ip[q.next_at] = (q.frag[0].p.buf + q.frag[0].p.l3)[at]
    st16(ip + IPV6_PAYLOAD_LEN, at - IPV6_HLEN + q.total)
    ipv6_set_class(ip, ipv6_class(ip) | ecn)
    p.frag_max_size = q.max_size
    p.frags[0] += <uint16_t>(at - IPV6_HLEN)  # counted from behind the IPv6 header
    p.repeated = <uint16_t>at
    whole[0] = p
    return FRAG_COMPLETE


cdef inline void frag_inherit(Pkt *p, const Pkt *head) noexcept nogil:
    """The whole takes the place of its first fragment: same frame header, same id, same findings."""
    p.id = head.id
    p.dev = head.dev
    p.iif = head.iif
    p.protocol = head.protocol
    p.vlan = head.vlan
    p.pkt_type = head.pkt_type
    p.flags = head.flags
    p.brnf = head.brnf
    p.mark = head.mark
    p.hash = head.hash
    p.hash_l4 = head.hash_l4
    p.phys_in = head.phys_in
    p.phys_out = head.phys_out
    memcpy(p.brnf_daddr, head.brnf_daddr, 16)
    p.opt = head.opt
    p.payload_at = head.payload_at
    p.next_at = head.next_at
    p.source_routed = head.source_routed
