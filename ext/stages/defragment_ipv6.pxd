# Reassembly of IPv6 fragments: before connection tracking (net/ipv6/netfilter/nf_conntrack_reasm.c) and where a packet has
# reached its destination without it (net/ipv6/reassembly.c).

from libc.stdint cimport uint8_t, uint32_t, int64_t
from ext.devices.core cimport Core, Ns, SYS6_NF_FRAG_TIMEOUT
from ext.stages.defragment cimport (DEFRAGMENT_CORRUPT, DEFRAGMENT_DUPLICATE, DEFRAGMENT_STOLEN, DEFRAGMENT_TABLE_FULL, give_up,
                                    queue_merge, schedule_expiry, trace_defragment)
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_TIME_EXCEEDED, EXCEEDED_REASSEMBLY6
from ext.tables.fragments cimport (FragKey, FragQueue, frag_add6, frag_key6, frag_queue, frag_reassemble6, frag_unlink, FRAG_COMPLETE,
                                   FRAG_CORRUPT, FRAG_DUPLICATE, FRAG_HELD, FRAG_OVERSIZE, FRAG_UNALIGNED, FRAG_USER_LOCAL)
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ipv4 cimport IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from ext.wire.ipv6 cimport Ipv6Chain, FRAGMENT_HLEN, FRAGMENT_OFFSET, IPV6_PAYLOAD_LEN, NEXT_FRAGMENT, find_fragment_header, skip_from
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len
from libc.stdlib cimport free


cdef inline bint lacks_headers(const Pkt *p, uint32_t at) noexcept nogil:
    """A first fragment that ends before the transport header does (RFC 8200 4.5, ipv6frag_thdr_truncated())."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef Ipv6Chain chain
    cdef uint32_t need = 1
    chain.at = at
    chain.proto = NEXT_FRAGMENT
    skip_from(ip, pkt_l3_len(p), &chain)
    if chain.broken or chain.frag & FRAGMENT_OFFSET:
        return False
    if chain.proto == IPPROTO_TCP:
        need = 20
    elif chain.proto == IPPROTO_UDP or chain.proto == IPPROTO_ICMPV6:
        need = 8
    return chain.at + need > pkt_l3_len(p)


cdef inline int defragment6(Core *c, Ns *ns, Pkt *p, int user) noexcept nogil:
    """Before connection tracking (nf_ct_frag6_gather()): 0: no fragment, or now the whole datagram, or one that passes as it is;
    DEFRAGMENT_STOLEN: it waits for the rest; else a drop."""
    cdef uint32_t next_at, at
    cdef uint8_t *ip = pkt_l3(p)
    cdef int res
    if ld16(ip + IPV6_PAYLOAD_LEN) == 0 or not find_fragment_header(ip, pkt_l3_len(p), &next_at, &at):
        return 0
    if lacks_headers(p, at):
        return 0
    if at + FRAGMENT_HLEN > pkt_l3_len(p):
        return -DEFRAGMENT_CORRUPT
    return gather(c, ns, p, next_at, at, user, ns.sys[SYS6_NF_FRAG_TIMEOUT], &res)


cdef inline int gather(Core *c, Ns *ns, Pkt *p, uint32_t next_at, uint32_t at, int user, int timeout, int *res) noexcept nogil:
    """Take a fragment into its queue. ``res``: what frag_add6() said; FRAG_UNALIGNED leaves the packet as it is."""
    cdef int64_t expires = c.now + <int64_t>timeout * 1000000000
    cdef FragKey key
    cdef FragQueue *q
    cdef Pkt *whole
    cdef bint fresh
    frag_key6(&key, pkt_l3(p), ld32(pkt_l3(p) + at + 4), p.dev, user)
    q = frag_queue(&ns.frags, &key, p.dev, expires)
    if q == NULL:
        res[0] = FRAG_CORRUPT
        return -DEFRAGMENT_TABLE_FULL
    fresh = q.n == 0
    res[0] = frag_add6(q, p, next_at, at)
    if res[0] == FRAG_COMPLETE:
        res[0] = frag_reassemble6(q, &c.pool, &whole)
        if res[0] != FRAG_COMPLETE:
            return give_up(c, ns, q, p, res[0])
        queue_merge(c, ns, q, p, whole)
        trace_defragment(c, p, b"the datagram is whole")
        return 0
    if res[0] == FRAG_HELD:
        if fresh:
            schedule_expiry(c, ns, q)
        trace_defragment(c, p, b"held until the rest comes")
        return DEFRAGMENT_STOLEN
    return refused(c, ns, q, p, res[0], user)


cdef inline int refused(Core *c, Ns *ns, FragQueue *q, Pkt *p, int res, int user) noexcept nogil:
    """A fragment that does not fit: what becomes of it and of its datagram."""
    if res == FRAG_DUPLICATE:
        return -DEFRAGMENT_DUPLICATE
    if res == FRAG_UNALIGNED and user != FRAG_USER_LOCAL:
        give_up(c, ns, q, p, res)
        return 0
    if res == FRAG_OVERSIZE or res == FRAG_UNALIGNED or (res == FRAG_CORRUPT and user != FRAG_USER_LOCAL):
        if q.n == 0:
            frag_unlink(&ns.frags, q)
            free(q.frag)
            free(q)
        return -DEFRAGMENT_CORRUPT
    return give_up(c, ns, q, p, res)


cdef inline void expired6(Core *c, FragQueue *q) noexcept nogil:
    """ip6frag_expire_frag_queue(): the sender of a first fragment is told, wherever the datagram was going."""
    icmpv6_send(c, q.frag[0].p, ICMPV6_TIME_EXCEEDED, EXCEEDED_REASSEMBLY6, 0)
