# The event loop: what is due, in order, each packet carried from stage to stage until it is gone; drops are counted here.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Dev, DEV_LO, EventRecord, Ns, carries_frames, event_packet, event_take, log_drop,
                               log_event, pkt_free, pkt_ns, root_begin, EV_FRAG, EV_NEIGH, EV_ONWARD, EV_RECEIVE, EV_SEND, EV_STAGE, EV_TRANSMIT,
                               EV_TUNNEL, TRACE_STEPS)
from ext.devices.queue cimport Due, Timer
from ext.devices.record cimport Arrival, END_ARRIVE, END_CROSS, END_DROP, REC_OFF, REC_ON, rec_end, rec_refuse
from ext.fast.ahead cimport ahead_of
from ext.fast.apply cimport apply_refresh, flow_agrees, flow_begins, flow_goes, flow_goes_copied, packet_as_known
from ext.fast.flows cimport Flow, FlowCache, Program, SCRATCH, Tracked, flow_find, flow_program
from ext.fast.frame cimport Frame, frame_left, packet_frame, sound_enough
from ext.fast.key cimport ETH, Parsed, key_read, packet_sound
from ext.fast.learn cimport learn_begin, learn_finish
from ext.fast.megaflow cimport Megaflow
from ext.fast.onward cimport instant_goes_on, light_on, light_whole, onward_agrees, onward_arrives, onward_goes
from ext.fast.routed cimport (Entrance, Exit, entrance_of, routed_copied, routed_counts, routed_enters, routed_exit, routed_hop,
                              routed_leaves, routed_may, routed_sees, routed_written)
from ext.stages.defragment cimport DEFRAGMENT_TIMEOUT, queue_drop
from ext.stages.defragment_ipv6 cimport expired6
from ext.stages.far cimport far_enter, far_leave
from ext.stages.icmp cimport icmp_send, ICMP_TIME_EXCEEDED, EXCEEDED_REASSEMBLY
from ext.stages.megaflow_walk cimport MegaWalk, walk_agrees, walk_flow, walk_learnt
from ext.stages.neighbour cimport neigh_due
from ext.stages.netfilter cimport RULES_DENIED
from ext.stages.parse cimport PARSE_OTHERHOST
from ext.stages.receive cimport frame_least, packet_classify
from ext.stages.route cimport route_input, route_output, trace_route_out, ROUTE_OUTPUT_FAILED
from ext.stages.route_ipv6 cimport route_output6, trace_route_out6
from ext.stages.run cimport is_lower, run_lower, run_upper
from ext.stages.stage_clock cimport clock_enters, clock_goes_to
from ext.stages.transmit cimport TRANSMIT_NESTED_TOO_DEEP
from ext.stages.tunnel_host cimport tunnel_due
from ext.stages.verdict cimport DEPTH_MAX, ST_LOCAL_OUT, ST_RECEIVE, ST_TRANSMIT, ST_TRANSPORT
from ext.tables.fib cimport RT_LOCAL
from ext.tables.fragments cimport FRAG_FIRST_IN, FRAG_USER_LOCAL, FragQueue
from ext.tables.neighbour cimport Neigh, neigh_find
from ext.wire.bytes cimport ld16, rarely
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, VLAN_HLEN, ethertype_is_vlan
from ext.wire.ipv4 cimport IPV4_DST, IPV4_SRC
from ext.wire.ipv6 cimport IPV6_DST, IPV6_SRC
from ext.wire.packet cimport Pkt, pkt_l3, pkt_new, pkt_renew, PF_IGNORE_DF, PKT_HEADROOM, PKT_TAILROOM


cdef enum:
    FRAME_FLOWS_MAX = SCRATCH - PKT_HEADROOM - PKT_TAILROOM


cdef inline bint drop_repeats(int reason) noexcept nogil:
    """Is it one that all packets of a flow meet, short or long, and that leaves the flow's connection as it was?"""
    return reason == RULES_DENIED or reason == PARSE_OTHERHOST


cdef inline void core_run(Core *c, Pkt *p, int stage) noexcept nogil:
    """Carry a packet to its end: from stage to stage until one is done with it or drops it."""
    cdef EventRecord *ev
    cdef int outer = c.clock.stage
    if c.rec.p != p:
        rec_refuse(&c.rec)  # a packet on the side
    c.depth += 1
    if c.depth > DEPTH_MAX and stage > 0:
        stage = -TRANSMIT_NESTED_TOO_DEEP
    while stage > 0:
        if rarely(c.clock.on):
            clock_enters(&c.clock, stage)
        stage = run_lower(c, p, stage) if is_lower(stage) else run_upper(c, p, stage)
    if stage < 0:
        ev = log_event(c, p, b"drop", b"drop", c.drop_origin)
        if ev != NULL:
            ev.detail[0] = 0
            memcpy(ev.detail + 4, &stage, sizeof(int))  # the reason's number; events() writes its name
        if drop_repeats(-stage):
            rec_end(&c.rec, p, END_DROP, -stage, c.drop_origin)
        log_drop(c, p, -stage)
        pkt_free(c, p)
    if rarely(c.clock.on):
        clock_goes_to(&c.clock, outer)
    c.depth -= 1


cdef inline void fragments_due(Core *c, const Timer *t) noexcept nogil:
    """A datagram was not completed in time; of IPv4 only its final destination says so (ip_expire())."""
    cdef Ns *ns = c.ns[t.due.dev]
    cdef FragQueue *q = ns.frags.first
    cdef Pkt *p
    while q != NULL and q.number != t.queue:
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


# ---- the flow cache: packets at the beginning of a device's receive path, or of its transmit queue

cdef inline void packet_left(Core *c, const Frame *w, const Program *g, Pkt *p) noexcept nogil:
    """The packet is as and where the program leaves it."""
    frame_left(p, w)
    p.dev = g.dev
    packet_classify(c, p)


cdef inline void packet_crosses(Core *c, const Frame *w, const Program *g, Pkt *p) noexcept nogil:
    """It goes on to the next device."""
    packet_left(c, w, g, p)
    p.sound = w.sound
    packet_ahead(c, p)
    event_packet(c, c.now + g.delay, EV_RECEIVE, g.dev, p)


cdef inline void packet_arrives(Core *c, const Frame *w, const Program *g, Pkt *p) noexcept nogil:
    """The program leaves a fresh packet at the transport protocols of a namespace, which do with it as they will."""
    cdef Arrival a
    memcpy(&a, g.bytes + g.ops[g.n_ops - 1].at, sizeof(Arrival))
    packet_left(c, w, g, p)
    p.dst = a.dst
    p.iif = a.iif
    p.flags = a.flags
    p.pkt_type = a.pkt_type
    core_run(c, p, ST_TRANSPORT)


cdef inline void packet_ahead(Core *c, Pkt *p) noexcept nogil:
    """It will be received: its key is read now, and what its flow needs then is asked for."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Dev *d = c.dev[p.dev]
    cdef Parsed a
    if not key_read(fc, d, False, p.buf + p.l2, p.end - p.l2, &a):
        return
    ahead_of(c, &a, p.buf + p.l2)
    if a.tells:
        return
    p.foreseen.place = a.key.place
    p.foreseen.addresses = a.key.addresses
    p.foreseen.ports = a.key.ports
    p.foreseen.hash = a.hash
    p.foreseen.inner = a.inner
    p.foreseen.shapes = fc.n_shapes + 1


cdef inline bint packet_key(const FlowCache *fc, const Dev *d, Pkt *p, bint transmit, Parsed *a) noexcept nogil:
    """key_read(), or what packet_ahead() has kept of it."""
    cdef uint32_t shapes = p.foreseen.shapes
    p.foreseen.shapes = 0
    if transmit or shapes != <uint32_t>fc.n_shapes + 1:
        return key_read(fc, d, transmit, p.buf + p.l2, p.end - p.l2, a)
    a.tells = False
    a.key.place = p.foreseen.place
    a.key.addresses = p.foreseen.addresses
    a.key.ports = p.foreseen.ports
    a.hash = p.foreseen.hash
    a.l3 = ETH if carries_frames(d) else 0
    a.inner = p.foreseen.inner
    a.length = p.end - p.l2
    return True


cdef inline void packet_routed_on(Core *c, Pkt *p, const Entrance *e, const Exit *x) noexcept nogil:
    """It leaves for the next device, with nothing left of what this namespace knew of it."""
    p.unfinished = p.unfinished and not e.wire
    p.crossings = 1
    p.dev = x.peer
    packet_classify(c, p)
    if entrance_of(c, &(<FlowCache *>c.fast).routed, x.peer, False) == NULL:
        packet_ahead(c, p)
    event_packet(c, c.now + x.latency, EV_RECEIVE, x.peer, p)


cdef inline bint packet_routed(Core *c, Pkt *p, bint transmit) noexcept nogil:
    """Does the packet pass through a router by its destination's route alone?"""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Entrance *e = entrance_of(c, &fc.routed, p.dev, transmit)
    cdef uint8_t *frame = p.buf + p.l2
    cdef const Exit *x
    if e == NULL or not routed_sees(e, frame, p.end - p.l2):
        return False
    if transmit and instant_goes_on(c):
        return False  # packets that the same frame caused take turns
    x = routed_exit(c, e, routed_hop(e, frame), frame + ETH)
    if x == NULL:
        return False
    fc.routed.packets += 1
    routed_enters(c, e, frame, p.end - p.l2, p.id)
    routed_written(x, frame)
    p.end = p.l2 + routed_leaves(c, x, frame, p.id)
    if x.peer >= 0:
        packet_routed_on(c, p, e, x)
    else:
        c.count.out += 1
        pkt_free(c, p)
    return True


cdef inline bint frame_routed(Core *c, const Entrance *e, uint32_t hop, const uint8_t *frame, uint32_t n) noexcept nogil:
    """The same for a frame that comes in there and has been looked at, which a packet socket hands to a device now."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Exit *x
    cdef Pkt *p
    if not routed_may(c):
        return False
    x = routed_exit(c, e, hop, frame + ETH)
    if x == NULL:
        return False
    routed_counts(c, &fc.routed, 1)
    routed_enters(c, e, frame, n, c.next_packet)
    if x.peer < 0:
        routed_copied(x, frame, fc.routed.scratch)
        routed_leaves(c, x, fc.routed.scratch, c.next_packet)
        c.count.out += 1
        return True
    p = pkt_new(&c.pool, n)
    if p == NULL:
        c.out_of_memory = True
        return True
    p.id = c.next_packet
    routed_copied(x, frame, p.buf + p.l2)
    p.end = p.l2 + routed_leaves(c, x, p.buf + p.l2, p.id)
    packet_routed_on(c, p, e, x)
    return True


cdef inline bint packet_flows(Core *c, Pkt *p, bint transmit) noexcept nogil:
    """Does the packet go the way of its flow? If not, it is followed through the stages, where that may be of use."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Dev *d = c.dev[p.dev]
    cdef Program *g
    cdef const Flow *f
    cdef Parsed a
    cdef Frame w
    cdef bint asked = p.foreseen.asked
    p.foreseen.asked = False
    if not frames_flow(c) or p.vlan or p.mark or p.n_frags or p.frags != NULL or d.kind == DEV_LO:
        return False  # what goes by lo keeps its connection and route
    if packet_routed(c, p, transmit):
        return True
    if not packet_key(fc, d, p, transmit, &a) or p.protocol != ETHERTYPE_IPV4:  # the tunnel that it came out of may call it something else
        fc.others += 1
        return False
    packet_frame(p, &w)
    f = flow_find(fc, &a.key, a.hash) if not a.tells else NULL
    if f != NULL:
        g = flow_program(fc, f)
        if g.inner and instant_goes_on(c):
            return False  # packets that the same frame caused take turns
        if p.l2 >= g.room and packet_as_known(f, g, &w) and flow_agrees(c, f, g, p.buf + p.l2, &a, sound_enough(p.sound, &a)):
            flow_begins(c, g, &w)
            packet_goes(c, p, f, g, &w, &a)
            return True
    if not asked and packet_goes_wide(c, p, &w, &a):
        return True
    fc.misses += 1
    if packet_sound(p.buf + p.l2, &a):
        learn_begin(c, p, &a)
    return False


cdef inline void packet_goes(Core *c, Pkt *p, const Flow *f, const Program *g, Frame *w, const Parsed *a) noexcept nogil:
    """All have agreed to its way."""
    (<FlowCache *>c.fast).hits += 1
    flow_goes(c, f, g, w, a)
    if g.end == END_CROSS:
        packet_crosses(c, w, g, p)
    elif g.end == END_ARRIVE:
        pkt_renew(p)
        packet_arrives(c, w, g, p)
    else:
        pkt_free(c, p)


cdef inline bint packet_goes_wide(Core *c, Pkt *p, Frame *w, const Parsed *a) noexcept nogil:
    """Does the packet go a megaflow's way?"""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef MegaWalk walk
    cdef Megaflow *m
    cdef Flow f
    if fc.megaflows == NULL or instant_goes_on(c):
        return False
    m = walk_agrees(c, &walk, w, a, w.l2)
    if m == NULL:
        return False
    walk_ends(c, &walk, m, w, &f)
    packet_goes(c, p, &f, m.g, w, a)
    return True


cdef inline bint frame_goes_wide(Core *c, const Parsed *a, const uint8_t *frame, uint32_t n, uint32_t id) noexcept nogil:
    """The same for a frame of number ``id``, of at most FRAME_FLOWS_MAX bytes, that a packet socket hands to a device now."""
    cdef MegaWalk walk
    cdef Megaflow *m
    cdef Flow f
    cdef Frame w
    memset(&w, 0, sizeof(Frame))
    w.buf = <uint8_t *>frame
    w.end = n
    w.id = id
    m = walk_agrees(c, &walk, &w, a, PKT_HEADROOM)
    if m == NULL:
        return False
    (<FlowCache *>c.fast).hits += 1
    walk_ends(c, &walk, m, &w, &f)
    frame_goes(c, &f, m.g, &w, a)
    return True


cdef inline void walk_ends(Core *c, MegaWalk *walk, Megaflow *m, Frame *w, Flow *f) noexcept nogil:
    """All have agreed to the megaflow's way: ``f`` is what leads the packet there."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    fc.wide += 1
    walk_flow(fc, walk, w, f)
    walk_learnt(c, walk, m, f)
    apply_refresh(m.g, c.now)
    w.ident = walk.ident
    w.rules = walk.rules


cdef inline bint frames_flow(const Core *c) noexcept nogil:
    """Is the flow cache asked at all?"""
    return c.tracing != TRACE_STEPS and not c.clock.on


cdef inline bint frame_flows(Core *c, const Parsed *a, const Flow *f, const uint8_t *frame, uint32_t n, uint32_t id) noexcept nogil:
    """Does a frame of at most FRAME_FLOWS_MAX bytes that a packet socket hands to a device now go the way of its flow ``f``? It becomes
    a packet only if it has to wait for something. ``id``: its number, 0: it gets one if it goes."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Program *g = flow_program(fc, f)
    cdef Frame w
    if c.rec.state != REC_OFF or not g.plain or not flow_agrees(c, f, g, frame, a, a.sound):
        return False
    w.buf = <uint8_t *>frame
    w.l2 = w.hash = 0
    w.end = n
    w.hash_l4 = w.crossings = w.sound = w.unfinished = 0
    fc.hits += 1
    w.id = id if id else frame_begins(c)
    flow_begins(c, g, &w)
    frame_goes(c, f, g, &w, a)
    return True


cdef inline bint frame_onward(Core *c, const Parsed *a, const Flow *f, const Tracked *at, const uint8_t *frame, uint32_t id) noexcept nogil:
    """The same for a flow whose program is made for it (``Program.onward``), and whose connections have been found."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Program *g = flow_program(fc, f)
    if c.rec.state != REC_OFF or not onward_agrees(c, f, g, at, a, frame):
        return False
    fc.hits += 1
    onward_goes(c, f, g, at, a, frame, id if id else frame_begins(c))
    return True


cdef inline void frame_goes(Core *c, const Flow *f, const Program *g, Frame *w, const Parsed *a) noexcept nogil:
    """All have agreed to its way, on which its bytes stay as they are."""
    cdef Pkt *p = NULL
    if g.end == END_CROSS or g.end == END_ARRIVE:
        p = pkt_new(&c.pool, w.end + g.room)
        if p == NULL:
            c.out_of_memory = True
            return
    flow_goes_copied(c, f, g, w, a, p.buf if p != NULL else (<FlowCache *>c.fast).scratch, PKT_HEADROOM)
    if g.end == END_CROSS and g.delay > 0:
        light_on(c, g, w, p, NULL)
    elif g.end == END_CROSS:
        packet_crosses(c, w, g, p)
    elif g.end == END_ARRIVE:
        packet_arrives(c, w, g, p)


cdef inline void packet_comes(Core *c, Pkt *p, int stage) noexcept nogil:
    """A packet at a device, ST_RECEIVE or ST_TRANSMIT."""
    if c.fast == NULL:
        core_run(c, p, stage)
        return
    if c.rec.state == REC_ON and c.rec.p == p:
        c.rec.crossing = False  # followed already, from another device on
    else:
        if c.rec.state != REC_OFF:
            learn_finish(c)
        if packet_flows(c, p, stage == ST_TRANSMIT):
            return
    p.sound = 0
    core_run(c, p, stage)
    if c.rec.state != REC_OFF and not (c.rec.state == REC_ON and c.rec.crossing):
        learn_finish(c)


cdef inline void event_happens(Core *c, const Timer *t) noexcept nogil:
    cdef const Due *e = &t.due
    cdef Neigh *n
    cdef Dev *d
    cdef int dev = e.dev
    if e.kind == EV_ONWARD:
        if not onward_arrives(c, e.p):
            light_whole(e.p)
            packet_classify(c, e.p)
            packet_comes(c, e.p, ST_RECEIVE)
        return
    if e.kind == EV_RECEIVE and c.dev[e.dev] != NULL:
        packet_comes(c, e.p, ST_RECEIVE)
        return
    if e.kind == EV_TRANSMIT:
        packet_comes(c, e.p, ST_TRANSMIT)
        return
    if c.rec.state != REC_OFF:
        learn_finish(c)
    if e.kind == EV_RECEIVE:
        far_enter(c, dev)
        core_run(c, e.p, ST_RECEIVE)
        far_leave(c, dev)
    elif e.kind == EV_SEND:
        core_run(c, e.p, route_sent(c, e.p))
    elif e.kind == EV_STAGE:
        core_run(c, e.p, e.dev)
    elif e.kind == EV_NEIGH:
        d = c.dev[e.dev]
        n = neigh_find(&d.neigh, t.addr, t.alen)
        if n != NULL:
            neigh_due(c, d, n)
    elif e.kind == EV_FRAG:
        fragments_due(c, t)
    elif e.kind == EV_TUNNEL:
        tunnel_due(c, e)


cdef inline uint32_t frame_begins(Core *c) noexcept nogil:
    """A frame comes in from outside: its number."""
    root_begin(c)
    c.next_packet += 1
    c.count.received += 1
    return c.next_packet


cdef inline Pkt *frame_packet(Core *c, const Dev *d, const uint8_t *frame, uint32_t n, uint32_t id) noexcept nogil:
    """A packet with the bytes of the frame, at ``d``; NULL when memory is out."""
    cdef Pkt *p = pkt_new(&c.pool, n)
    if p == NULL:
        c.out_of_memory = True
        return NULL
    memcpy(p.buf + p.l2, frame, n)
    p.end = p.l2 + n
    p.dev = d.id
    p.id = id
    packet_classify(c, p)
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
    cdef Timer first
    while c.n_deliveries == 0 and not c.supply_failed and event_take(c, limit, &first):
        c.now = first.due.time
        c.root = first.due.root
        event_happens(c, &first)
