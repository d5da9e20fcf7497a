# The event loop: what is due, in order, each packet carried from stage to stage until it is gone; drops are counted here.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Dev, Due, EventRecord, Ns, carries_frames, event_first, event_pop, log_drop, log_event, pkt_free, pkt_ns, EV_FRAG,
                               EV_NEIGH, EV_RECEIVE, EV_SEND, EV_STAGE, EV_TRANSMIT, EV_TUNNEL)
from ext.stages.defragment cimport DEFRAGMENT_TIMEOUT, queue_drop
from ext.stages.defragment_ipv6 cimport expired6
from ext.stages.icmp cimport icmp_send, ICMP_TIME_EXCEEDED, EXCEEDED_REASSEMBLY
from ext.stages.neighbour cimport neigh_due
from ext.stages.receive cimport ether_classify, frame_least, ip_classify
from ext.stages.route cimport route_input, route_output, trace_route_out, ROUTE_OUTPUT_FAILED
from ext.stages.route_ipv6 cimport route_output6, trace_route_out6
from ext.stages.run cimport is_lower, run_lower, run_upper
from ext.stages.transmit cimport TRANSMIT_NESTED_TOO_DEEP
from ext.stages.tunnel_host cimport tunnel_due
from ext.stages.verdict cimport DEPTH_MAX, ST_LOCAL_OUT, ST_RECEIVE, ST_TRANSMIT
from ext.tables.fib cimport RT_LOCAL
from ext.tables.fragments cimport FRAG_FIRST_IN, FRAG_USER_LOCAL, FragQueue
from ext.tables.neighbour cimport Neigh, neigh_find
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV6, VLAN_HLEN, ethertype_is_vlan
from ext.wire.ipv4 cimport IPV4_DST, IPV4_SRC
from ext.wire.ipv6 cimport IPV6_DST, IPV6_SRC
from ext.wire.packet cimport Pkt, pkt_l3, pkt_new, PF_IGNORE_DF


cdef inline void core_run(Core *c, Pkt *p, int stage) noexcept nogil:
    """Carry a packet to its end: from stage to stage until one is done with it or drops it."""
    cdef EventRecord *ev
    c.depth += 1
    if c.depth > DEPTH_MAX and stage > 0:
        stage = -TRANSMIT_NESTED_TOO_DEEP
    while stage > 0:
        stage = run_lower(c, p, stage) if is_lower(stage) else run_upper(c, p, stage)
    if stage < 0:
        ev = log_event(c, p, b"drop", b"drop", c.drop_origin)
        if ev != NULL:
            ev.detail[0] = 0
            memcpy(ev.detail + 4, &stage, sizeof(int))  # the reason's number; events() writes its name
        log_drop(c, p, -stage)
        pkt_free(c, p)
    c.depth -= 1


cdef inline void fragments_due(Core *c, Due *e) noexcept nogil:
    """A datagram was not completed in time; of IPv4 only its final destination says so (ip_expire())."""
    cdef Ns *ns = c.ns[e.dev]
    cdef FragQueue *q = ns.frags.first
    cdef Pkt *p
    while q != NULL and (q != <FragQueue *>e.queue or q.expires != e.time):
        q = q.next
    if q == NULL:
        return
    if q.flags & FRAG_FIRST_IN and q.key.family == 6:
        expired6(c, q)
    elif q.flags & FRAG_FIRST_IN:
        p = q.frag[0].p
        p.dst.valid = False
        if route_input(c, p, pkt_l3(p) + IPV4_DST, pkt_l3(p) + IPV4_SRC, p.dev) == 0 and p.dst.error == 0:
            if q.key.user == FRAG_USER_LOCAL or p.dst.type == RT_LOCAL:
                icmp_send(c, p, ICMP_TIME_EXCEEDED, EXCEEDED_REASSEMBLY, 0)
    queue_drop(c, ns, q, NULL, DEFRAGMENT_TIMEOUT)


cdef inline int route_sent(Core *c, Pkt *p) noexcept nogil:
    """Route and source address of an application's packet: the next stage or a drop."""
    cdef uint8_t saddr[16]
    cdef int alen = 16 if p.protocol == ETHERTYPE_IPV6 else 4, error
    cdef uint8_t *source = pkt_l3(p) + (IPV6_SRC if alen == 16 else IPV4_SRC)
    memset(saddr, 0, 16)
    memcpy(saddr, source, alen)
    if alen == 16:
        p.flags |= PF_IGNORE_DF
        error = route_output6(c, pkt_ns(c, p), pkt_l3(p) + IPV6_DST, saddr, -1, &p.dst)
    else:
        error = route_output(c, pkt_ns(c, p), pkt_l3(p) + IPV4_DST, saddr, False, &p.dst)
    if error:
        if alen == 4:
            trace_route_out(c, p)
        else:
            trace_route_out6(c, p)
        return -ROUTE_OUTPUT_FAILED
    memcpy(source, saddr, alen)
    return ST_LOCAL_OUT


cdef inline void event_happens(Core *c, Due *e) noexcept nogil:
    cdef Neigh *n
    cdef Dev *d
    if e.kind == EV_RECEIVE:
        core_run(c, e.p, ST_RECEIVE)
    elif e.kind == EV_TRANSMIT:
        core_run(c, e.p, ST_TRANSMIT)
    elif e.kind == EV_SEND:
        core_run(c, e.p, route_sent(c, e.p))
    elif e.kind == EV_STAGE:
        core_run(c, e.p, e.dev)
    elif e.kind == EV_NEIGH:
        d = c.dev[e.dev]
        n = neigh_find(&d.neigh, e.addr, e.alen)
        if n != NULL:
            neigh_due(c, d, n)
    elif e.kind == EV_FRAG:
        fragments_due(c, e)
    elif e.kind == EV_TUNNEL:
        tunnel_due(c, e)


cdef inline Pkt *frame_packet(Core *c, const Dev *d, const uint8_t *frame, uint32_t n) noexcept nogil:
    """A packet that begins here, with the bytes of the frame; NULL when memory is out."""
    cdef Pkt *p = pkt_new(&c.pool, n)
    if p == NULL:
        c.out_of_memory = True
        return NULL
    memcpy(p.buf + p.l2, frame, n)
    p.end = p.l2 + n
    p.dev = d.id
    c.next_packet += 1
    p.id = c.next_packet
    c.count.received += 1
    if carries_frames(d):
        ether_classify(p, d)
    else:
        ip_classify(p)
    return p


cdef inline bint frame_refused(const Dev *d, const uint8_t *frame, uint64_t n) noexcept nogil:
    """Would a packet socket refuse to send it? Shorter than its header, or longer than the MTU besides, and one VLAN tag."""
    cdef uint64_t most = d.mtu
    if carries_frames(d):
        most += ETH_HLEN
        if n >= ETH_HLEN and ethertype_is_vlan(ld16(frame + ETH_TYPE)):
            most += VLAN_HLEN
    return not frame_least(d) <= n <= most


cdef inline void events_until(Core *c, int64_t limit) noexcept nogil:
    """Everything that is due up to ``limit``, or until an application has something to receive."""
    cdef const Due *first = event_first(c)
    cdef Due e
    while first != NULL and c.n_deliveries == 0 and first.time <= limit:
        event_pop(c, &e)
        c.now = e.time
        c.root = e.root
        event_happens(c, &e)
        first = event_first(c)
