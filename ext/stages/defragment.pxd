# Reassembly of IPv4 fragments where Linux does it: before connection tracking and before local delivery.
#
# net/ipv4/netfilter/nf_defrag_ipv4.c, net/ipv4/ip_fragment.c (ip_defrag(), ip_expire()).

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from ext.devices.core cimport Core, Ns, event_timer, EV_FRAG, SYS_IPFRAG_TIME, log_event, EventRecord, DETAIL_LEN
from ext.devices.queue cimport Timer
from ext.stages.verdict cimport DROPS_FRAGMENT
from ext.tables.fragments cimport (FragKey, FragQueue, frag_key4, frag_queue, frag_unlink, frag_add, frag_reassemble, FRAG_HELD,
                                   FRAG_COMPLETE, FRAG_DUPLICATE, FRAG_OVERLAP, FRAG_BAD_ECN, FRAG_OVERSIZE)
from ext.wire.packet cimport Pkt, pkt_l3, pkt_release_memory
from libc.stdio cimport snprintf

cdef enum:
    DEFRAGMENT_DUPLICATE = DROPS_FRAGMENT
    DEFRAGMENT_OVERLAP
    DEFRAGMENT_CORRUPT
    DEFRAGMENT_BAD_ECN
    DEFRAGMENT_OVERSIZE
    DEFRAGMENT_TABLE_FULL
    DEFRAGMENT_TIMEOUT
    DEFRAGMENT_STOLEN = 1


cdef inline const char *defragment_reason(int r) noexcept nogil:
    if r == DEFRAGMENT_DUPLICATE:
        return b"defragment/duplicate\tThis part of the datagram is there already\tDUP_FRAG"
    if r == DEFRAGMENT_OVERLAP:
        return b"defragment/overlap\tFragments overlap: the whole datagram is given up (RFC 5722)\tNOT_SPECIFIED"
    if r == DEFRAGMENT_CORRUPT:
        return b"defragment/corrupt\tThe fragments contradict each other about the length of the datagram\tNOT_SPECIFIED"
    if r == DEFRAGMENT_BAD_ECN:
        return b"defragment/bad_ecn\tThe fragments mix ECN-capable and not ECN-capable (RFC 3168 5.3)\tNOT_SPECIFIED"
    if r == DEFRAGMENT_OVERSIZE:
        return b"defragment/oversize\tThe datagram would be longer than 65535 bytes\tNOT_SPECIFIED"
    if r == DEFRAGMENT_TABLE_FULL:
        return b"defragment/table_full\tToo many datagrams in parts at once\tFRAG_TOO_FAR"
    if r == DEFRAGMENT_TIMEOUT:
        return b"defragment/timeout\tThe rest of the datagram did not come in time\tFRAG_REASM_TIMEOUT"
    return NULL


cdef inline void queue_drop(Core *c, Ns *ns, FragQueue *q, Pkt *but, int reason) noexcept nogil:
    """Give a datagram up: its parts are dropped, except ``but``, which the caller drops."""
    cdef int i
    frag_unlink(&ns.frags, q)
    for i in range(q.n):
        if q.frag[i].p != but:
            c.run(c, q.frag[i].p, -reason)
    free(q.frag)
    free(q)


cdef inline void queue_merge(Core *c, Ns *ns, FragQueue *q, Pkt *p, Pkt *whole) noexcept nogil:
    """``p``, the part that came last, becomes the whole; the parts are gone."""
    cdef int i
    cdef Pkt last = p[0]
    p[0] = whole[0]
    free(whole)
    p.dev = last.dev
    for i in range(q.n):
        if q.frag[i].p == p:
            free(last.frags)
            free(last.buf)
        else:
            pkt_release_memory(&c.pool, q.frag[i].p)
    c.count.fragments_merged += q.n - 1
    frag_unlink(&ns.frags, q)
    free(q.frag)
    free(q)


cdef inline void trace_defragment(Core *c, Pkt *p, const char *what) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"defragment", b"fragment", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"%s", what)


cdef inline int defragment(Core *c, Ns *ns, Pkt *p, int user) noexcept nogil:
    """0: ``p`` now is the whole datagram. DEFRAGMENT_STOLEN: it waits for the rest. Else a drop."""
    cdef int64_t expires = c.now + <int64_t>ns.sys[SYS_IPFRAG_TIME] * 1000000000
    cdef FragKey key
    cdef FragQueue *q
    cdef Pkt *whole
    cdef int res
    cdef bint fresh
    frag_key4(&key, pkt_l3(p), user)
    q = frag_queue(&ns.frags, &key, p.dev, expires)
    if q == NULL:
        return -DEFRAGMENT_TABLE_FULL
    fresh = q.n == 0
    res = frag_add(q, p)
    if res == FRAG_COMPLETE:
        res = frag_reassemble(q, &c.pool, &whole)
    if res == FRAG_COMPLETE:
        queue_merge(c, ns, q, p, whole)
        trace_defragment(c, p, b"the datagram is whole")
        return 0
    if res == FRAG_DUPLICATE:
        return -DEFRAGMENT_DUPLICATE
    if res == FRAG_HELD:
        if fresh:
            schedule_expiry(c, ns, q)
        trace_defragment(c, p, b"held until the rest comes")
        return DEFRAGMENT_STOLEN
    return give_up(c, ns, q, p, res)


cdef inline int give_up(Core *c, Ns *ns, FragQueue *q, Pkt *p, int res) noexcept nogil:
    cdef int reason = DEFRAGMENT_CORRUPT
    if res == FRAG_OVERLAP:
        reason = DEFRAGMENT_OVERLAP
    elif res == FRAG_BAD_ECN:
        reason = DEFRAGMENT_BAD_ECN
    elif res == FRAG_OVERSIZE:
        reason = DEFRAGMENT_OVERSIZE
    queue_drop(c, ns, q, p, reason)
    return -reason


cdef inline void schedule_expiry(Core *c, Ns *ns, FragQueue *q) noexcept nogil:
    cdef Timer *t = event_timer(c, q.expires, EV_FRAG, ns.id)
    if t != NULL:
        t.queue = q.number
