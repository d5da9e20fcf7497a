# A packet without a flow goes a megaflow's way (ext/fast/megaflow.pxd): what depends on it is asked of the stages' own functions.
#
# They are shown a stand-in: a packet of its own with a copy of the headers, which translations change. Until all have agreed
# everything can be taken back; then what the walk's program says is done with the packet itself. Where one of them says something else
# than it said to the packet that the walk was learnt from, all is taken back, and the packet goes from stage to stage as if nothing had been.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from ext.devices.changes cimport shows_frames
from ext.devices.core cimport Core, Dev, DRAW_COUNTERS, Ns, TRACE_CHANGES, chance_draw, ct_release
from ext.devices.record cimport ASK_CONFIRM, ASK_DENIED, ASK_NAT, ASK_POP, ASK_PUSH, ASK_ROUTE, ASK_RULES, ASK_TRACK
from ext.encap.abi cimport (DATAPLANE_ENCAP_OK, DATAPLANE_ENCAP_STEADY_BUT_PORT, dataplane_encap_bytes, dataplane_encap_ports,
                            dataplane_encap_push)
from ext.encap.call cimport GUARD_LEN, encap_push
from ext.encap.ip cimport inner_facts
from ext.encap.udp cimport udp_source_port
from ext.fast.ahead cimport ends_hash, first_nears, flow_proto
from ext.fast.apply cimport headers_as_known, packet_as_known, program_holds
from ext.fast.flows cimport (Check, First, Flow, FlowCache, LINE, Op, Program, TRACKS_MAX, Track, cache_flush, cache_learns,
                             draft_begin, nat_value, program_number, programs_full)
from ext.fast.frame cimport Frame, sound_enough
from ext.fast.key cimport ETH, IP, Parsed, UDP, packet_sound
from ext.fast.learn cimport Lesson, learn_nats, learn_store, learn_tracks
from ext.fast.megaflow cimport (Ask, HEADERS_ROOM, MEGA_MORE, MegaHead, MegaKey, Megaflow, Megaflows, has_route, head_came, head_find,
                                head_leads, key_address, WALKS_DIFFER, mega_answer, mega_find, nat_answer)
from ext.fast.onward cimport onward_is, relay_note
from ext.fast.straight cimport straight_is
from ext.fast.sum cimport net16, put_raw16, raw16, raw32, raw64
from ext.stages.conntrack cimport L4, TRACKED, conntrack_confirm, lookup_or_new, packet_tuple, track_repeats, track_seen
from ext.stages.flow cimport ctstate_bits, flow_beside, flow_translated, flow_words_of
from ext.stages.flow_hash cimport flow_hash
from ext.stages.nat cimport MANIP_DST, names_one_end, nat_destination, nat_done, nat_draw
from ext.tables.conntrack cimport CtTable, ct_answers_taken, ct_find, ct_kill, ct_put, tuple_ahead
from ext.tables.ct_entry cimport (CTI_NEW, CTI_REPLY, CTS_NAT_MASK, CTS_SRC_NAT, CTS_SRC_NAT_DONE, Ct, CtProto, Tuple)
from ext.tables.ct_settings cimport CTS_CONFIRMED, CtStatus
from ext.tables.ct_tcp cimport TCP_FLAG_ACK, TCP_FLAG_RST, TCP_FLAG_SYN, ct_tcp_valid
from ext.tables.fib cimport FibResult, RT_LOCAL, RT_UNICAST, fib_lookup
from ext.tables.rule_memo cimport MEMO_BESIDE, MemoWalk, memo_fits_beside, memo_fits_words, memo_says, memo_walk, rules_decide
from ext.tables.rules cimport (CT_BITS_FACT, Choices, FACT_CTSTATE, Flow as RuleFlow, Glance, HOOK_OUTPUT, RuleTable, T_DNAT,
                               T_DROP, T_MASQUERADE, T_REJECT, T_SNAT, TABLE_NAT, Verdict, choices_begin, flow_facts, rule_of, rules_walk)
from ext.wire.bytes cimport ask_for, ld16, rarely, st16
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPPROTO_TCP
from ext.wire.packet cimport PF_GENERATED, Pkt

cdef enum:
    DRAWS_MAX = 8
    NAT_ASKS_MORE = 1 << T_DROP | 1 << T_REJECT | 1 << T_SNAT | 1 << T_MASQUERADE  # targets that cannot be taken back
    PUSH_ROOM = 256  # that a plug-in may write its headers in

cdef struct Undo:
    # a connection that has been told, as it was
    Ct *ct
    CtTable *table
    CtProto proto
    int64_t expires
    CtStatus status
    uint8_t fresh

cdef struct MegaWalk:
    # a packet on its way
    Megaflows *table
    const MegaHead *head
    const Program *g  # from the route on
    Pkt *p  # the stand-in
    const uint8_t *frame
    const Parsed *a
    Undo undo[TRACKS_MAX]
    Track tracks[TRACKS_MAX]
    int n_tracks
    uint16_t *draws[DRAWS_MAX]
    int n_draws
    bint steady  # no connection has changed
    bint repeats  # the next packet fares as this one does, though connections begin with it
    bint looked  # a table of rules has been asked about a connection
    uint64_t decided  # rules that the nat table has looked at for such connections, which it does once
    bint evicts  # one has made room, or was asked to
    First outer  # the tunnel's packet, foreseen
    uint32_t answers
    bint translated  # by the table that was asked last
    bint told  # and it is told which rule said so
    int rules[DRAWS_MAX]  # origins of all that are told
    int n_rules
    uint8_t tracing
    const void *route
    bint has_gw
    uint64_t walked
    uint16_t ident
    uint8_t nat_track  # the connection that translates
    RuleFlow flow  # what rules see of the packet
    bint seen  # ``flow`` is of the headers as they are now
    Lesson lesson


cdef inline void walk_headers(MegaWalk *w, uint32_t at) noexcept nogil:
    """The stand-in is the packet at ``at`` of the frame, of which no more is looked at than its headers."""
    cdef uint32_t n = ld16(w.frame + at + 2)
    w.p.l2 = w.p.l3 = HEADERS_ROOM
    w.p.end = HEADERS_ROOM + n
    w.seen = False
    memcpy(w.p.buf + HEADERS_ROOM, w.frame + at, n if n < HEADERS_ROOM else HEADERS_ROOM)


cdef inline void walk_begin(MegaWalk *w, Core *c, const MegaHead *h, const Frame *frame, const Parsed *a) noexcept nogil:
    cdef Megaflows *t = <Megaflows *>(<FlowCache *>c.fast).megaflows
    w.table = t
    w.head = h
    w.p = &t.packet
    w.frame = frame.buf + frame.l2
    w.a = a
    w.g = NULL
    w.n_tracks = w.n_draws = 0
    w.steady = w.repeats = not a.tells
    w.looked = False
    w.decided = 0
    w.evicts = False
    w.outer.table = NULL
    w.answers = 0
    w.translated = w.told = False
    w.n_rules = 0
    w.route = NULL
    w.has_gw = True
    w.walked = c.count.rules_walked
    w.ident = 0
    memset(&w.lesson, 0, sizeof(Lesson))
    w.p.buf = t.headers
    w.p.ct = NULL
    w.p.ctinfo = 0
    w.p.mark = 0
    w.p.flags = 0
    w.p.protocol = ETHERTYPE_IPV4
    w.p.id = frame.id
    w.p.hash = frame.hash
    w.p.hash_l4 = frame.hash_l4
    walk_headers(w, a.l3)


# ---- taking back

cdef inline void undo_track(const Undo *u) noexcept nogil:
    cdef Ct *ct = u.ct
    if u.fresh:
        if ct.status & CTS_CONFIRMED:
            ct_kill(u.table, ct)
        return
    ct.proto = u.proto
    ct.expires = u.expires
    ct.status = u.status


cdef inline void walk_undo(Core *c, MegaWalk *w) noexcept nogil:
    """Nothing has been asked."""
    cdef int i
    for i in range(w.n_tracks - 1, -1, -1):
        undo_track(&w.undo[i])
    for i in range(w.n_draws - 1, -1, -1):
        w.draws[i][0] -= 1
    for i in range(w.n_tracks - 1, -1, -1):
        ct_put(w.undo[i].table, w.undo[i].ct)
    c.count.rules_walked = w.walked


cdef inline void walk_done(MegaWalk *w) noexcept nogil:
    """The packet has left its connections."""
    cdef int i
    for i in range(w.n_tracks):
        ct_put(w.undo[i].table, w.undo[i].ct)


# ---- asking

cdef inline bint finds_room(Core *c, MegaWalk *w, Ns *ns, const Tuple *t) noexcept nogil:
    """May a full table be asked for this tuple? Another connection that makes room cannot be taken back, but the stages would have made
    the first one go as well, if the packet comes as far; unless it is one that the packet has been shown to, and would make anew, or the
    table has more than it may by now: they would make one more go."""
    cdef int dir, i
    if ct_find(&ns.ct, t, c.now, &dir) != NULL:
        return True
    if w.evicts or ns.ct.count > ns.ct.max or (w.g == NULL and not head_came(w.head, w.frame, w.a)):
        return False
    for i in range(w.n_tracks):
        if w.undo[i].table == &ns.ct:
            return False
    w.evicts = True
    return True


cdef inline bint ask_track(Core *c, MegaWalk *w, const Ask *a) noexcept nogil:
    cdef Ns *ns = <Ns *>a.ns
    cdef Pkt *p = w.p
    cdef uint8_t *ip = p.buf + p.l3
    cdef Undo *u = &w.undo[w.n_tracks]
    cdef bint full = False
    cdef Tuple t
    cdef L4 l4
    cdef Ct *ct
    l4.family = 4
    l4.proto = ip[9]
    l4.at = ip + IP
    l4.len = p.end - p.l3 - IP
    if w.n_tracks == TRACKS_MAX or ns.n_pins or not packet_tuple(ip, &l4, &t):
        return False
    if rarely(ns.ct.count >= ns.ct.max) and not finds_room(c, w, ns, &t):
        return False
    if l4.proto == 6 and (l4.at[13] & TCP_FLAG_RST or not ct_tcp_valid(l4.at, <int>l4.len)):
        return False  # a reset may end the connection, which cannot be taken back
    ct = lookup_or_new(c, ns, p, &t, &full)
    if ct == NULL:
        return False
    if l4.proto == 6 and l4.at[13] & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN and ct.status & CTS_CONFIRMED:
        ct_release(c, p)  # it may be opened anew
        return False
    w.n_tracks += 1
    u.ct = ct
    u.table = &ns.ct
    u.fresh = not ct.status & CTS_CONFIRMED
    u.status = ct.status
    u.expires = ct.expires
    if not u.fresh:
        u.proto = ct.proto
    return track_goes_on(c, w, ns, u, &l4)


cdef inline bint track_goes_on(Core *c, MegaWalk *w, Ns *ns, const Undo *u, const L4 *l4) noexcept nogil:
    """The connection sees the packet, and keeps it."""
    cdef Track *t = &w.tracks[w.n_tracks - 1]
    cdef Pkt *p = w.p
    cdef uint32_t serial = u.ct.serial
    if track_seen(c, ns, p, u.ct, l4, 0) != TRACKED or u.ct.serial != serial:
        if p.ct == NULL:
            w.n_tracks -= 1  # it let the packet go
            undo_track(u)
        return False
    memset(t, 0, sizeof(Track))
    t.ns = ns
    t.status = u.status
    t.dir = p.ctinfo >= CTI_REPLY
    t.proto = l4.proto
    w.lesson.ct[w.n_tracks - 1] = u.ct
    w.repeats = w.repeats and (u.fresh or u.status == u.ct.status) and track_repeats(l4.proto)
    w.steady = w.steady and w.repeats and not u.fresh
    if w.g == NULL:
        w.answers = mega_answer(w.answers, p.ctinfo)
    return True


cdef inline void walk_words(MegaWalk *w) noexcept nogil:
    """``w.flow``: flow_of() but for what flow_beside() adds. As long as the headers are the same, only the connection may be another."""
    cdef RuleFlow *f = &w.flow
    f.ctstate = ctstate_bits(w.p)
    if not w.seen:
        flow_words_of(w.p, f)
        w.seen = True
        return
    f.facts = f.facts & ~(<uint64_t>CT_BITS_FACT << FACT_CTSTATE) | <uint64_t>(f.ctstate & CT_BITS_FACT) << FACT_CTSTATE


cdef inline const MemoWalk *ask_again(Core *c, MegaWalk *w, const Ask *a, const RuleTable *t) noexcept nogil:
    """The walk of rules that the packet before took, if this one takes it too, or NULL; ``w.flow`` is of this packet then."""
    cdef const MemoWalk *m
    walk_words(w)
    if a.known == 0 or a.known == WALKS_DIFFER:
        return NULL
    m = memo_walk(t, a.hook, a.known, c.generation)
    if m == NULL or not memo_fits_words(m, &w.flow, flow_facts(&w.flow, w.p.mark)):
        return NULL
    if rarely(m.asked & MEMO_BESIDE):
        flow_beside(c, <Ns *>a.ns, a.in_dev, a.out_dev, &w.flow)
        if not memo_fits_beside(m, &w.flow):
            return NULL
    c.count.rules_walked += m.walked
    return m


cdef inline void ask_table(Core *c, MegaWalk *w, Ask *a, RuleTable *t, Choices *ch, Verdict *v) noexcept nogil:
    """Another walk than that: one that is remembered, or one that is not worth looking for."""
    cdef int number
    flow_beside(c, <Ns *>a.ns, a.in_dev, a.out_dev, &w.flow)
    if a.known == WALKS_DIFFER:
        rules_walk(t, a.hook, &w.flow, &w.p.mark, ch, v, False)
        a.known = WALKS_DIFFER if ch.n else 0  # chance has been asked again
    else:
        number = rules_decide(t, a.hook, &w.flow, c.generation, &w.p.mark, ch, v)
        a.known = <uint8_t>number if number else WALKS_DIFFER
    c.count.rules_walked += v.walked


cdef inline bint nat_ends(Core *c, Ns *ns, Ct *ct, const Verdict *v, int manip) noexcept nogil:
    """What the nat table said is carried out. False: that would ask something that cannot be taken back."""
    if v.n_recent or <uint32_t>1 << v.target & NAT_ASKS_MORE:
        return False
    if v.target == T_DNAT:
        if manip != MANIP_DST or not names_one_end(v.rule, ct):
            return False
        nat_destination(ns, ct, v.rule)
        return True
    if ct_answers_taken(&ns.ct, ct, c.now):
        return False
    if not ct.status & CTS_CONFIRMED:
        nat_done(ct, manip)
    return True


cdef inline bint ask_nat_rules(Core *c, MegaWalk *w, Ask *a, Ct *ct, int manip) noexcept nogil:
    """A new connection's translation is decided."""
    cdef Ns *ns = <Ns *>a.ns
    cdef RuleTable *t = &ns.rules[0][TABLE_NAT]
    cdef const MemoWalk *again
    cdef uint64_t walked = c.count.rules_walked
    cdef CtStatus was = ct.status
    cdef Choices ch
    cdef Verdict v
    if w.n_draws == DRAWS_MAX or w.n_rules == DRAWS_MAX:
        return False
    choices_begin(&ch)
    if t.random:
        w.draws[w.n_draws] = nat_draw(c, ns, ct, &ch)
        w.n_draws += 1
    again = ask_again(c, w, a, t)
    if again != NULL:
        memo_says(again, &v)
    else:
        ask_table(c, w, a, t, &ch, &v)
    if rarely(w.tracing == TRACE_CHANGES) and v.n_matched and shows_frames(c, w.p.dev):
        w.rules[w.n_rules] = rule_of(t, v.matched[v.n_matched - 1]).origin
        w.n_rules += 1
        w.told = True
    if not nat_ends(c, ns, ct, &v, manip):
        return False
    w.decided += c.count.rules_walked - walked
    if was & CTS_CONFIRMED or (w.looked and (was ^ ct.status) & CTS_NAT_MASK):
        w.repeats = False  # it is decided for each packet, or what the rules before have seen of the connection has changed
    return True


cdef inline bint translate(Core *c, MegaWalk *w, const Ct *ct, int manip) noexcept nogil:
    """One side of the stand-in is the connection's; nobody looks at its checksums. False: not as TCP and UDP are translated."""
    cdef Pkt *p = w.p
    cdef int other = p.ctinfo < CTI_REPLY
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint8_t *port = ip + IP + 2 * manip
    if rarely(ct.number != 6 and ct.number != 17):
        return False
    memcpy(ip + 12 + 4 * manip, ct.address4[other][1 - manip], 4)
    st16(port, ct.port[other][1 - manip])
    if w.seen:
        flow_translated(&w.flow)
    return True


cdef inline bint nat_answers(MegaWalk *w, const Ask *a) noexcept nogil:
    """Of a sender's head it is noted, else it must be the walk's."""
    cdef uint8_t answer = nat_answer(w.translated, w.told)
    if w.g != NULL:
        return answer == a.answer
    w.answers = mega_answer(w.answers, answer)
    return True


cdef inline bint ask_nat(Core *c, MegaWalk *w, Ask *a) noexcept nogil:
    cdef Pkt *p = w.p
    cdef Ct *ct = <Ct *>p.ct
    cdef int manip = a.table
    cdef uint8_t *ip = p.buf + p.l3
    cdef const uint8_t *address = ip + 12 + 4 * manip
    cdef uint32_t was = raw32(address)
    if ct == NULL:
        return False
    w.told = False
    if p.ctinfo == CTI_NEW and not ct.status & CTS_SRC_NAT_DONE << manip:
        if not ask_nat_rules(c, w, a, ct, manip):
            return False
    elif ct.masq_dev:
        return False
    w.translated = ct.status & CTS_SRC_NAT << (manip ^ (p.ctinfo >= CTI_REPLY)) != 0
    if not w.translated:
        return nat_answers(w, a)
    if not translate(c, w, ct, manip) or (manip == MANIP_DST and (raw32(address) == was or a.hook == HOOK_OUTPUT)):
        return False
    w.lesson.nat[0] = nat_value(address, raw16(ip + IP + 2 * manip))
    w.nat_track = <uint8_t>(w.n_tracks - 1)
    return nat_answers(w, a)


cdef inline bint rules_agree(const MegaWalk *w, const Ask *a, const RuleTable *t, int target, const Glance *rule) noexcept nogil:
    """Does the packet pass, or is it dropped as it was before?"""
    if a.kind == ASK_DENIED:
        return target == T_DROP and (rule_of(t, rule).origin if rule != NULL else 0) == w.g.origin
    return target != T_DROP and target != T_REJECT


cdef inline bint ask_rules(Core *c, MegaWalk *w, Ask *a) noexcept nogil:
    cdef RuleTable *t = &(<Ns *>a.ns).rules[0][a.table]
    cdef const MemoWalk *again
    cdef Choices ch
    cdef Verdict v
    if t.random:
        return False
    w.looked = w.looked or w.p.ct != NULL
    again = ask_again(c, w, a, t)
    if again != NULL:
        return rules_agree(w, a, t, again.target, again.rule)
    choices_begin(&ch)
    ask_table(c, w, a, t, &ch, &v)
    return v.n_recent == 0 and rules_agree(w, a, t, v.target, v.rule)


cdef inline bint ask_route(MegaWalk *w, const Ask *a) noexcept nogil:
    cdef const uint8_t *dst = w.p.buf + w.p.l3 + 16
    cdef FibResult res
    if not has_route(dst):
        return False
    res = fib_lookup(&(<Ns *>a.ns).fib4, dst, -1)
    if res.error or (res.route.type != RT_UNICAST and res.route.type != RT_LOCAL):
        return False
    w.route = res.route
    w.has_gw = res.route.has_gw
    return True


cdef inline void push_ahead(Core *c, MegaWalk *w, const Megaflow *m) noexcept nogil:
    """Which packet the tunnel's will be is known when the destination is: the line of its tuple is asked for."""
    cdef const uint8_t *known
    cdef uint16_t ports[2]
    if m.push_tracked == NULL:
        return
    known = m.g.bytes + m.push.op.at
    ports[0] = net16(udp_source_port(<const dataplane_encap_ports *>(<const Dev *>m.push.device).encap_state, flow_hash(c, w.p)))
    ports[1] = raw16(known + IP + 2)
    w.outer.table = &(<const Ns *>m.push_tracked.ns).ct
    w.outer.proto = known[9]
    w.outer.hash = ends_hash(known[9], raw64(known + 12), raw32(<const uint8_t *>ports))
    tuple_ahead(w.outer.table, known[9], w.outer.hash)


cdef inline bint ask_confirm(Core *c, MegaWalk *w, const Ask *a) noexcept nogil:
    first_nears(&w.outer)
    return conntrack_confirm(c, <Ns *>a.ns, w.p) == 0


cdef inline bint push_port(Core *c, MegaWalk *w, const Ask *a) noexcept nogil:
    """The tunnel's headers are the walk's, but for the source port, which the flow's hash says. False: they are not."""
    cdef const Dev *d = <const Dev *>a.device
    cdef uint32_t hash = flow_hash(c, w.p)
    w.lesson.sport = 0
    if not w.p.hash_l4:
        return False  # both ports are 0, which shows where the tunnel ends
    if d.encap.steady != DATAPLANE_ENCAP_STEADY_BUT_PORT:
        return push_called(c, w, a, hash)
    w.lesson.sport = net16(udp_source_port(<const dataplane_encap_ports *>d.encap_state, hash))
    return True


cdef inline bint push_called(Core *c, MegaWalk *w, const Ask *a, uint32_t hash) noexcept nogil:
    """The same by the encapsulation's own word."""
    cdef const Dev *d = <const Dev *>a.device
    cdef const Op *op = a.op
    cdef const uint8_t *known = w.g.bytes + op.at
    cdef uint8_t room[PUSH_ROOM]
    cdef uint32_t before = ETH if op.x else 0, n = op.n - IP
    cdef dataplane_encap_push info
    cdef dataplane_encap_bytes b
    if n == 0 and not op.x:
        return True
    memset(&info, 0, sizeof(info))
    info.flow_hash = hash
    info.now = c.now
    info.id = -1
    inner_facts(&info, ETHERTYPE_IPV4, w.p.buf + w.p.l3, IP)
    info.inner_protocol = ETHERTYPE_TEB if op.x else ETHERTYPE_IPV4
    info.inner_ttl -= a.hook
    info.packet = w.p.id
    info.family = 4
    memcpy(info.local, known + 12, 4)
    memcpy(info.remote, known + 16, 4)
    b.limit = room + PUSH_ROOM - GUARD_LEN
    b.tail = b.limit
    b.data = b.limit - before - IP - UDP
    b.head = room + GUARD_LEN
    memset(b.data, 0, before)
    memcpy(b.data + before, w.p.buf + w.p.l3, IP + UDP)
    if encap_push(d.encap, d.encap_state, &info, &b) != DATAPLANE_ENCAP_OK or info.ip_protocol != known[9] or info.tos != known[1]:
        return False
    if <uint32_t>(b.limit - b.data) != n + before + IP + UDP or b.tail != b.limit:
        return False
    if known[9] != 17:
        return memcmp(b.data, known + IP, n) == 0
    w.lesson.sport = raw16(b.data)
    return n >= UDP and raw16(b.data + 2) == raw16(known + IP + 2) and memcmp(b.data + UDP, known + IP + UDP, n - UDP) == 0


cdef inline bint ask_push(Core *c, MegaWalk *w, const Ask *a) noexcept nogil:
    """Into the tunnel: from here on the packet is the tunnel's, whose headers stand before those of the one that it carries."""
    cdef const Op *op = a.op
    cdef Pkt *p = w.p
    cdef uint32_t before = op.n + (ETH if op.x else 0)
    cdef uint32_t n = p.end - p.l3 + before
    cdef uint8_t *ip
    if before > HEADERS_ROOM or w.n_draws == DRAWS_MAX or not push_port(c, w, a):
        return False
    w.draws[w.n_draws] = &(<Ns *>w.g.push_ns).draws[w.g.push_hash & (DRAW_COUNTERS - 1)]
    w.n_draws += 1
    w.ident = <uint16_t>chance_draw(<Ns *>w.g.push_ns, w.g.push_hash)
    p.l3 = p.l2 = HEADERS_ROOM - before
    w.seen = False
    ip = p.buf + p.l3
    memcpy(ip, w.g.bytes + op.at, op.n)
    put_raw16(ip + 2, net16(n))
    if ip[9] == 17:
        put_raw16(ip + IP, w.lesson.sport)
        put_raw16(ip + IP + 4, net16(n - IP))
    p.ct = NULL
    p.ctinfo = 0
    p.flags = PF_GENERATED
    return True


cdef inline bint ask_pop(MegaWalk *w) noexcept nogil:
    """Out of the tunnel: from here on it is the packet inside, as it went in where that was on this very walk."""
    if w.p.mark:
        return False
    if not w.p.hash_l4:
        w.p.hash = 0
    if w.p.l3 < HEADERS_ROOM:
        w.p.l2 = w.p.l3 = HEADERS_ROOM
        w.seen = False
        return True
    walk_headers(w, w.a.inner)
    return True


cdef inline void ask_scrub(MegaWalk *w) noexcept nogil:
    """It leaves a namespace (packet_scrub())."""
    w.p.ct = NULL
    w.p.ctinfo = 0
    w.p.mark = 0
    w.p.flags = 0


cdef inline bint ask(Core *c, MegaWalk *w, Ask *a) noexcept nogil:
    w.p.dev = a.dev
    if a.kind == ASK_TRACK:
        return ask_track(c, w, a)
    elif a.kind == ASK_NAT:
        return ask_nat(c, w, a)
    elif a.kind == ASK_RULES or a.kind == ASK_DENIED:
        return ask_rules(c, w, a)
    elif a.kind == ASK_CONFIRM:
        return ask_confirm(c, w, a)
    elif a.kind == ASK_ROUTE:
        return ask_route(w, a)
    elif a.kind == ASK_PUSH:
        return ask_push(c, w, a)
    elif a.kind == ASK_POP:
        return ask_pop(w)
    ask_scrub(w)
    return True


cdef inline bint asks_agree(Core *c, MegaWalk *w, Ask *asks, uint32_t n) noexcept nogil:
    """A sender's head, whose answers are noted, or the rest, whose answers must be the walk's."""
    cdef Ask *a = asks
    cdef Ask *past = asks + n
    while a != past:
        if rarely(not ask(c, w, a)):
            return False
        a += 1
    return True


cdef inline Megaflow *walk_megaflow(const FlowCache *fc, const MegaWalk *w, const MegaHead *h) noexcept nogil:
    """The sender's megaflow for what the head's asks came to, NULL: none is known."""
    cdef MegaKey k
    cdef Megaflow *m = NULL
    k.head = h.id
    k.answers = w.answers
    k.route = w.route
    k.dst = 0
    if w.has_gw:
        m = mega_find(w.table, fc.seed, &k)
    if m == NULL:
        k.dst = raw32(w.p.buf + w.p.l3 + 16)
        m = mega_find(w.table, fc.seed, &k)
    return m if m != NULL and m.g != NULL else NULL


cdef inline void walk_flow(FlowCache *fc, const MegaWalk *w, const Frame *frame, Flow *f) noexcept nogil:
    """What the packet's flow would say, were it known; it refers to no connections, but to its translation."""
    memset(f, 0, sizeof(Flow))
    f.hash = frame.hash if w.g.hash_in else w.p.hash
    f.sport = w.lesson.sport
    fc.more[MEGA_MORE].nat[0] = w.lesson.nat[0]
    f.ct[0] = MEGA_MORE


cdef inline void way_ahead(const Megaflow *m) noexcept nogil:
    """What its program says besides will be read when all have agreed."""
    cdef const char *at = <const char *>m.g
    cdef const char *end = at + sizeof(Program) + 2 * LINE
    while at < end:
        ask_for(at)
        at += LINE


cdef inline bint way_holds(Core *c, MegaWalk *w, const Megaflow *m, const Frame *frame, uint32_t room) noexcept nogil:
    """Is the way what it was, and the packet one that can take it?"""
    cdef const Parsed *a = w.a
    cdef Flow f
    if room < m.g.room or not program_holds(c, m.g):
        return False
    way_ahead(m)
    push_ahead(c, w, m)
    w.g = m.g
    if m.g.pop and w.frame[a.l3 + 9] == 17:
        w.lesson.sport = raw16(w.frame + a.l3 + IP)
    walk_flow(<FlowCache *>c.fast, w, frame, &f)
    return headers_as_known(&f, m.g, w.frame, a) and packet_as_known(&f, m.g, frame)


cdef inline Megaflow *walk_agrees(Core *c, MegaWalk *w, const Frame *frame, const Parsed *a, uint32_t room) noexcept nogil:
    """The megaflow whose way the packet goes, before which there are ``room`` bytes: its connections have seen it then. NULL: none, and
    nothing has been done."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Megaflows *t = <Megaflows *>fc.megaflows
    cdef Megaflow *m = NULL
    cdef MegaHead *h
    if t == NULL:
        return NULL
    h = head_find(t, fc.seed, a.key.place, key_address(&a.key, 0))
    if h == NULL or h.generation != c.generation or not (sound_enough(frame.sound, a) or packet_sound(frame.buf + frame.l2, a)):
        return NULL
    walk_begin(w, c, h, frame, a)
    w.tracing = c.tracing
    c.tracing = 0  # what the stand-in meets is not told
    if asks_agree(c, w, h.asks, h.n_asks):
        h.translates = w.translated
        m = walk_megaflow(fc, w, h)
    if m != NULL and not (way_holds(c, w, m, frame, room) and asks_agree(c, w, m.asks, m.n_asks)):
        m = NULL
    c.tracing = w.tracing
    if m != NULL:
        walk_done(w)
        head_leads(h, m)
        return m
    h.refused += 1
    walk_undo(c, w)
    return NULL


# ---- and its flow is known from now on

cdef inline int walk_program(Core *c, const MegaWalk *w, Megaflow *m, uint64_t walked) noexcept nogil:
    """The number of the program for packets that leave all connections as they are, for whom so many rules are looked at; -1: memory is
    out."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Program *g = &fc.draft.program
    if (m.flow_program >= 0 and m.flow_flushes == fc.flushes and m.flow_walked == walked
            and memcmp(m.flow_tracks, w.tracks, w.n_tracks * sizeof(Track)) == 0):
        return m.flow_program
    if programs_full(fc):
        cache_flush(fc)
    draft_begin(&fc.draft)
    g[0] = m.g[0]
    g.ops = fc.draft.ops
    g.checks = fc.draft.checks
    g.tracks = fc.draft.tracks
    g.bytes = fc.draft.bytes
    memcpy(g.ops, m.g.ops, g.n_ops * sizeof(Op))
    memcpy(g.checks, m.g.checks, g.n_checks * sizeof(Check))
    memcpy(g.bytes, m.g.bytes, g.n_bytes)
    memcpy(g.tracks, w.tracks, w.n_tracks * sizeof(Track))
    g.n_tracks = <uint8_t>w.n_tracks
    g.walked = walked
    g.nat_track[0] = w.nat_track if g.n_nats else 0
    learn_tracks(g)
    learn_nats(g, &w.lesson)
    g.straight = straight_is(g)
    g.onward = onward_is(g)
    m.flow_program = program_number(fc, g)
    if m.flow_program >= 0:
        relay_note(fc, m.flow_program)
    m.flow_flushes = fc.flushes
    m.flow_walked = walked
    memcpy(m.flow_tracks, w.tracks, w.n_tracks * sizeof(Track))
    return m.flow_program


cdef inline bint walk_repeats(MegaWalk *w) noexcept nogil:
    """Is it known of a packet that connections begin with what the next one will meet: the same, but that nothing is left to decide about
    them? Asked of TCP that was picked up on its way: datagrams come alone often."""
    cdef const Undo *u
    cdef int i
    if not w.repeats or w.evicts or w.n_rules or flow_proto(&w.a.key) != IPPROTO_TCP:
        return False
    for i in range(w.n_tracks):
        u = &w.undo[i]
        if not u.ct.status & CTS_CONFIRMED or u.ct.masq_dev or not (u.fresh or u.ct.status == u.status):
            return False
        w.tracks[i].status = u.ct.status
    return True


cdef inline void walk_learnt(Core *c, MegaWalk *w, Megaflow *m, const Flow *f) noexcept nogil:
    """Nothing has changed, or nothing that changes once more: the next packet of the flow will find it in the cache."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef int number
    if not w.steady and not walk_repeats(w):
        return
    fc.learning = w.a.key
    fc.learning_hash = w.a.hash
    fc.learning_packet_hash = f.hash
    if w.n_tracks == 0 and not cache_learns(fc):
        return
    c.rec.hash_at_cross = f.hash
    number = walk_program(c, w, m, c.count.rules_walked - w.walked - (0 if w.steady else w.decided))
    if number >= 0:
        learn_store(c, number, &w.lesson)
