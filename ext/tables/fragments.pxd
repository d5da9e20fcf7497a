# Fragment queues of one namespace (RFC 791, RFC 5722): net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c.
#
# A run is a chain of fragments that arrived in order, each behind the one before: Linux calls anything inside
# a run a duplicate, and anything else that touches known bytes an overlap, which kills the datagram.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memcmp
from ext.wire.bytes cimport ld16, st16
from ext.wire.ipv4 cimport (IPV4_TOS, IPV4_LEN, IPV4_ID, IPV4_FRAG, IPV4_PROTO, IPV4_SRC, IPV4_DF, IPV4_MF, IPV4_OFFSET, ECN_MASK,
                            ipv4_hlen, ipv4_set_csum)
from ext.wire.packet cimport Pkt, pkt_new, PF_IGNORE_DF, PF_REASM_DF

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
    FRAG_QUEUES_MAX = 4096  # datagrams in parts at once; Linux bounds memory (4 MiB)

cdef struct Frag:
    Pkt *p
    uint32_t offset
    uint32_t len
    uint32_t run_end  # end of the run that this fragment begins; 0: it continues one

cdef struct FragQueue:
    FragQueue *next
    uint8_t key[12]  # source, destination, id, protocol, user
    int dev
    int64_t expires
    uint32_t flags
    uint32_t total
    uint32_t have
    uint32_t max_size
    uint32_t max_df_size
    uint32_t ecn  # one bit per ECN codepoint seen
    Frag *frag  # in order of offset
    int n
    int cap
    int tail_run  # index of the fragment that begins the last run

cdef struct FragTable:
    FragQueue *first
    uint32_t count


cdef inline void frag_key(uint8_t *key, const uint8_t *ip, int user) noexcept nogil:
    memcpy(key, ip + IPV4_SRC, 8)
    memcpy(key + 8, ip + IPV4_ID, 2)
    key[10] = ip[IPV4_PROTO]
    key[11] = <uint8_t>user


cdef inline FragQueue *frag_queue(FragTable *t, const uint8_t *ip, int dev, int user, int64_t expires) noexcept nogil:
    """The datagram's queue, made if need be; NULL: the table is full or memory is out."""
    cdef uint8_t key[12]
    cdef FragQueue *q = t.first
    frag_key(key, ip, user)
    while q != NULL:
        if memcmp(q.key, key, 12) == 0:
            return q
        q = q.next
    if t.count >= FRAG_QUEUES_MAX:
        return NULL
    q = <FragQueue *>calloc(1, sizeof(FragQueue))
    if q == NULL:
        return NULL
    memcpy(q.key, key, 12)
    q.dev = dev
    q.expires = expires
    q.next = t.first
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


cdef inline void frag_link(FragQueue *q, Pkt *p, int at, uint32_t offset, uint32_t len) noexcept nogil:
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
    q.frag[at].run_end = 0 if append else offset + len
    q.n += 1
    if append:
        q.frag[q.tail_run].run_end = offset + len
    elif at == q.n - 1:
        q.tail_run = at
    elif at <= q.tail_run:
        q.tail_run += 1


cdef inline int frag_add(FragQueue *q, Pkt *p) noexcept nogil:
    """Take a fragment in; FRAG_HELD and FRAG_COMPLETE keep it, all else leaves it to the caller (ip_frag_queue())."""
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint32_t hlen = ipv4_hlen(ip), word = ld16(ip + IPV4_FRAG), offset, end, size
    cdef int at, res
    offset = (word & IPV4_OFFSET) * 8
    end = offset + (p.end - p.l3) - hlen
    res = frag_span(q, &end, offset, (word & IPV4_MF) != 0)
    if res != FRAG_HELD:
        return res
    res = frag_place(q, offset, end, &at)
    if res != FRAG_HELD:
        return res
    if not frag_room(q):
        return FRAG_CORRUPT
    frag_link(q, p, at, offset, end - offset)
    q.dev = p.dev
    q.have += end - offset
    q.ecn |= <uint32_t>1 << (ip[IPV4_TOS] & ECN_MASK)
    if offset == 0:
        q.flags |= FRAG_FIRST_IN
    size = end - offset + hlen
    if size > q.max_size:
        q.max_size = size
    if word & IPV4_DF and size > q.max_df_size:
        q.max_df_size = size
    if q.flags == (FRAG_FIRST_IN | FRAG_LAST_IN) and q.have == q.total:
        return FRAG_COMPLETE
    return FRAG_HELD


cdef inline int frag_ecn(uint32_t seen) noexcept nogil:
    """ECN bits to set on the whole (RFC 3168 5.3, ip_frag_ecn_table); -1: a mixture that kills the datagram."""
    cdef bint not_ect = seen & 1, ect1 = seen & 2, ect0 = seen & 4, ce = seen & 8
    if not_ect and (ce or ect0 or ect1):
        return -1
    return 3 if ce else 0


cdef inline int frag_reassemble(FragQueue *q, Pkt **whole) noexcept nogil:
    """Put a complete datagram together: FRAG_COMPLETE, or why not. The parts stay the queue's (ip_frag_reasm())."""
    cdef Pkt *head = q.frag[0].p
    cdef Pkt *p
    cdef uint8_t *ip
    cdef uint32_t hlen = ipv4_hlen(head.buf + head.l3), l2len = head.l3 - head.l2
    cdef int i, ecn = frag_ecn(q.ecn)
    if ecn < 0:
        return FRAG_BAD_ECN
    if hlen + q.total > 65535:
        return FRAG_OVERSIZE
    p = pkt_new(l2len + hlen + q.total)
    if p == NULL:
        return FRAG_CORRUPT
    p.frags = <uint16_t *>malloc(q.n * sizeof(uint16_t))
    if p.frags == NULL:
        free(p.buf)
        free(p)
        return FRAG_CORRUPT
    frag_inherit(p, head)
    p.l3 = p.l2 + l2len
    p.end = p.l3 + hlen + q.total
    memcpy(p.buf + p.l2, head.buf + head.l2, l2len + hlen)
    for i in range(q.n):
        memcpy(p.buf + p.l3 + hlen + q.frag[i].offset, q.frag[i].p.buf + q.frag[i].p.l3 + ipv4_hlen(q.frag[i].p.buf + q.frag[i].p.l3),
               q.frag[i].len)
        p.frags[i] = <uint16_t>q.frag[i].len
    p.n_frags = <uint16_t>q.n
    ip = p.buf + p.l3
    st16(ip + IPV4_LEN, hlen + q.total)
    st16(ip + IPV4_FRAG, 0)
    if q.max_df_size == q.max_size:
        p.flags |= PF_REASM_DF
        st16(ip + IPV4_FRAG, IPV4_DF)
    ip[IPV4_TOS] |= <uint8_t>ecn
    ipv4_set_csum(ip)
    p.frag_max_size = q.max_df_size if q.max_df_size > q.max_size else q.max_size
    p.flags |= PF_IGNORE_DF
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
