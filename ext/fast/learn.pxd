# From a walk that the recorder followed to a flow in the cache: what its next packets will meet, in the order they meet it.

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, DEV_TUNNEL
from ext.devices.record cimport (END_ARRIVE, END_CROSS, END_DROP, REC_OFF, REC_ON, REC_WHOLE, Recorder, Step, STEP_ARRIVE, STEP_ASK, STEP_CHANGE, STEP_CROSS,
                                 STEP_FDB, STEP_LEARN, STEP_NAT, STEP_NEIGH, STEP_POP, STEP_PUSH, STEP_TAP, STEP_TRACK, STEP_TRIM, STEP_TTL)
from ext.fast.flows cimport (CHECKS_MAX, Check, FLOW_TRACKS, Flow, FlowCache, HASH_KEPT, HASH_OF_FLOW, HOW_TUNNELLED,
                             NATS_MAX, OPS_MAX, Op, PLACE_DEVICE, PROGRAM_BYTES, Program, REFRESH_MAX, SHAPES_MAX, Shape, TRACKS_MAX,
                             Track, cache_flush, cache_learns, draft_begin, flow_program, flow_slot, flows_grow, more_new, nat_value, program_number,
                             programs_full, track_nat, track_table)
from ext.fast.key cimport ETH, IP, Parsed, UDP
from ext.fast.megaflow cimport mega_learn
from ext.fast.onward cimport onward_is, relay_note, relays_is
from ext.fast.shortcut cimport shortcut_make
from ext.fast.straight cimport straight_is
from ext.fast.sum cimport net16, raw16, sum_bytes, sum_fold
from ext.tables.conntrack cimport Ct, CtRef, ct_ref
from ext.tables.fdb cimport FdbEntry
from ext.tables.neighbour cimport Neigh
from ext.wire.bytes cimport ld16
from ext.wire.packet cimport PKT_HEADROOM, Pkt

cdef enum:
    GRE = 47
    ROOM_BESIDE = 64  # bytes before the packet that are used beside those of a tunnel: two Ethernet headers, and what a copy rounds up
    ROOM_MAX = PKT_HEADROOM - ROOM_BESIDE
    GRE_UNSTEADY = 0x90  # of its first byte: checksum, sequence number

cdef struct Lesson:
    # what of the flow's own the steps told
    Ct *ct[TRACKS_MAX]
    uint64_t nat[NATS_MAX]
    uint16_t sport
    uint8_t has_sport
    uint8_t pushed


cdef inline void learn_begin(Core *c, Pkt *p, const Parsed *a) noexcept nogil:
    """Follow the packet from here on; it stands as ``a`` says."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Recorder *r = &c.rec
    r.state = REC_ON
    r.p = p
    r.n_steps = 0
    r.n_bytes = 0
    r.last_cross = -1
    r.once = a.tells
    r.crossing = r.end = r.hash_used = r.tracked = r.asked = 0
    r.walked = c.count.rules_walked
    r.hash_at_cross = 0
    fc.learning = a.key
    fc.learning_hash = a.hash
    fc.learning_length = a.l3 + ld16(p.buf + p.l2 + a.l3 + 2)
    fc.learning_width = a.length
    draft_begin(&fc.draft)
    fc.draft.program.place = a.key.place
    fc.draft.program.generation = c.generation
    fc.draft.program.link_len = <uint8_t>(a.l3 if a.l3 <= ETH else 0)
    memcpy(fc.draft.program.link, p.buf + p.l2, fc.draft.program.link_len)
    fc.draft.program.hash_in = p.hash != 0
    fc.draft.program.hash_l4_in = p.hash_l4
    fc.draft.program.unfinished_in = p.unfinished
    fc.learning_packet_hash = p.hash


cdef inline void shape_add(FlowCache *fc, int ns, const uint8_t *outer, const Step *s) noexcept nogil:
    cdef Shape *shape
    if fc.n_shapes == SHAPES_MAX:
        return
    shape = &fc.shape[fc.n_shapes]
    shape.ns = ns
    shape.at = s.n - (ETH if s.x else 0)
    shape.proto = outer[9]
    shape.port = raw16(outer + IP + 2) if outer[9] == 17 else 0
    shape.frames = s.x != 0
    fc.n_shapes += 1


cdef inline bint outer_is_plain(const uint8_t *outer, uint32_t n) noexcept nogil:
    """An outer header that a template can stand for."""
    if n < IP or outer[0] != 0x45 or (outer[6] & 0x3f) or outer[7]:
        return False
    if outer[9] == 17:
        return n >= IP + UDP
    return outer[9] != GRE or (n >= IP + 4 and not outer[IP] & GRE_UNSTEADY)


cdef inline bint lesson_sport(Lesson *l, const uint8_t *outer) noexcept nogil:
    """All UDP tunnels of a walk have one source port."""
    if outer[9] != 17:
        return True
    if l.has_sport and l.sport != raw16(outer + IP):
        return False
    l.has_sport = True
    l.sport = raw16(outer + IP)
    return True


cdef inline bint learn_push(Program *g, Lesson *l, const Step *s, uint8_t *outer) noexcept nogil:
    """Fields that differ from packet to packet become zero; the sums of the others are made once."""
    if l.pushed or s.n > ROOM_MAX or not outer_is_plain(outer, s.n) or not lesson_sport(l, outer):
        return False
    l.pushed = True
    g.room = s.n + ROOM_BESIDE
    g.push_ns = s.p
    g.push_hash = s.h
    memset(outer + 2, 0, 4)
    memset(outer + 10, 0, 2)
    g.push_sum = sum_fold(sum_bytes(outer, IP))
    if outer[9] == 17:
        g.push_udp = raw16(outer + IP + 6) != 0
        memset(outer + IP, 0, 2)
        memset(outer + IP + 4, 0, 4)
        g.push_udp_sum = sum_fold(sum_bytes(outer + IP, s.n - IP) + sum_bytes(outer + 12, 8) + net16(17))
    return True


cdef inline bint learn_pop(Core *c, Program *g, Lesson *l, const Step *s, uint8_t *outer) noexcept nogil:
    cdef FlowCache *fc = <FlowCache *>c.fast
    if not outer_is_plain(outer, s.n) or not lesson_sport(l, outer):
        return False
    if l.pushed:
        return True  # a tunnel that this very walk entered
    if not fc.learning.place & HOW_TUNNELLED:
        shape_add(fc, c.dev[(fc.learning.place >> PLACE_DEVICE) - 1].ns, outer, s)
        return False
    g.pop = g.n_ops + 1
    memset(outer + 2, 0, 4)
    memset(outer + 10, 0, 2)
    if outer[9] == 17:
        memset(outer + IP, 0, 2)
        memset(outer + IP + 4, 0, 4)
    return True


cdef inline bint learn_check(Program *g, const Step *s) noexcept nogil:
    cdef Check *check
    if s.kind == STEP_LEARN and s.y:
        return True  # an own address is never refreshed
    if g.n_checks == CHECKS_MAX:
        return False
    check = &g.checks[g.n_checks]
    g.n_checks += 1
    memset(check, 0, sizeof(Check))
    check.kind = s.kind
    check.p = s.p
    check.x = s.x
    if s.kind == STEP_NEIGH:
        memcpy(check.mac, (<const Neigh *>s.p).mac, 6)
        return True
    check.port = (<const FdbEntry *>s.p).port
    if s.kind == STEP_LEARN:
        if g.n_refreshed == REFRESH_MAX:
            return False
        g.refreshed[g.n_refreshed] = <FdbEntry *>s.p
        g.n_refreshed += 1
    return True


cdef inline bint learn_track(Program *g, Lesson *l, const Step *s) noexcept nogil:
    cdef Track *t
    if g.n_tracks == TRACKS_MAX:
        return False
    t = &g.tracks[g.n_tracks]
    l.ct[g.n_tracks] = <Ct *>s.p
    g.n_tracks += 1
    memset(t, 0, sizeof(Track))
    t.ns = s.q
    t.status = (<Ct *>s.p).status
    t.dir = <uint8_t>s.x
    t.proto = s.y
    return True


cdef inline bint learn_op(Program *g, const Step *s, const uint8_t *bytes, uint32_t *used) noexcept nogil:
    cdef Op *op
    cdef uint32_t n = s.n if s.kind != STEP_NAT else 0
    if g.n_ops == OPS_MAX or used[0] + n > PROGRAM_BYTES:
        return False
    op = &g.ops[g.n_ops]
    g.n_ops += 1
    g.n_taps += s.kind == STEP_TAP
    op.kind = s.kind
    op.y = s.y
    op.n = s.n
    op.x = s.x
    op.at = used[0]
    op.origin = <int>s.h if s.kind == STEP_CHANGE else 0
    memcpy(g.bytes + used[0], bytes, n)
    used[0] += n
    return True


cdef inline bint learn_trimmed(const Program *g) noexcept nogil:
    """Is nothing behind the IP packet as it is now? It was trimmed, or is a tunnel's that was put around."""
    cdef int i = g.n_ops - 1
    while i >= 0 and g.ops[i].kind != STEP_TRIM and g.ops[i].kind != STEP_PUSH and g.ops[i].kind != STEP_POP:
        i -= 1
    return i >= 0 and g.ops[i].kind != STEP_POP


cdef inline bint learn_step(Core *c, Program *g, Lesson *l, const Step *s, uint32_t *used) noexcept nogil:
    """False: the walk is of a kind that no program stands for."""
    cdef uint8_t *bytes = c.rec.bytes + s.at
    if s.kind == STEP_NEIGH or s.kind == STEP_FDB or s.kind == STEP_LEARN:
        return learn_check(g, s)
    if s.kind == STEP_ASK:
        return True  # for megaflows
    if s.kind == STEP_TRACK:
        return learn_track(g, l, s)
    if s.kind == STEP_ARRIVE and s != &c.rec.steps[c.rec.last_cross]:
        return True  # at a tunnel, through which it went on
    if s.kind == STEP_TRIM and learn_trimmed(g):
        return True
    if s.kind == STEP_NAT:
        if g.n_nats == NATS_MAX:
            return False
        l.nat[g.n_nats] = nat_value(bytes, raw16(bytes + 4))
        g.nat_track[g.n_nats] = <uint8_t>(g.n_tracks - 1)  # the last one that has seen it, if any
        g.n_nats += 1
    elif s.kind == STEP_PUSH and not learn_push(g, l, s, bytes):
        return False
    elif s.kind == STEP_POP and not learn_pop(c, g, l, s, bytes):
        return False
    elif s.kind == STEP_TTL:
        g.routed = True
        g.crossings = 0
    elif s.kind == STEP_CROSS:
        if c.dev[s.x].kind != DEV_TUNNEL:
            g.crossings += 1
            g.cables += 1
    return learn_op(g, s, bytes, used)


cdef inline void learn_tracks(Program *g) noexcept nogil:
    """What there is to be known of the connections before a packet comes."""
    cdef int i
    g.many = g.n_tracks > FLOW_TRACKS
    g.tcp_track = FLOW_TRACKS
    for i in range(g.n_tracks):
        if g.tracks[i].proto == 6:
            g.many |= g.tcp_track < FLOW_TRACKS
            g.tcp_track = <uint8_t>i


cdef inline void learn_end(Core *c, Program *g) noexcept nogil:
    """How the walk ends, or where it is left to the stages again."""
    cdef Recorder *r = &c.rec
    cdef const Step *s
    g.end = r.end
    if r.end == END_CROSS or r.end == END_ARRIVE:
        s = &r.steps[r.last_cross]
        g.dev = s.x
        g.delay = <int64_t>s.h
        g.walked = r.walked_at_cross - r.walked
        if r.hash_at_cross:
            g.hash_out = HASH_KEPT if g.hash_in else HASH_OF_FLOW
        g.hash_l4_out = r.hash_l4_at_cross
        g.unfinished_out = r.unfinished_at_cross
        return
    g.walked = c.count.rules_walked - r.walked
    g.dev = r.dev
    g.reason = r.reason
    g.origin = r.origin


cdef inline void learn_nats(Program *g, const Lesson *l) noexcept nogil:
    """Can all translations be read from the connections, and do these have room in a flow?"""
    cdef int i, track, nat = 0
    g.more = g.n_tracks > FLOW_TRACKS
    for i in range(g.n_ops):
        if g.ops[i].kind != STEP_NAT:
            continue
        track = g.nat_track[nat]
        if track >= g.n_tracks:
            g.more = True
        else:
            g.more |= track_nat(l.ct[track], g.tracks[track].dir, g.ops[i].x) != l.nat[nat]
        nat += 1


cdef inline void learn_refs(const Program *g, const Lesson *l, CtRef *ct, uint16_t *serial) noexcept nogil:
    cdef int i
    for i in range(g.n_tracks):
        ct[i] = ct_ref(track_table(g, i), l.ct[i])
        serial[i] = <uint16_t>l.ct[i].serial


cdef inline void learn_store(Core *c, int number, const Lesson *l) noexcept nogil:
    """Put the flow into the cache."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Program *g = fc.program[number]
    cdef uint32_t more = 0
    cdef Flow *f
    if fc.used > fc.slots - fc.slots // 4 and not flows_grow(fc, c.generation) and fc.used >= fc.slots - fc.slots // 8:
        fc.full += 1
        return
    f = flow_slot(fc, &fc.learning, fc.learning_hash, c.generation)
    if f == NULL:
        fc.full += 1
        return
    if g.more:
        more = f.ct[0] if f.program and flow_program(fc, f).more else more_new(fc)
        if more == 0:
            return
    fc.changes += 1
    f.program = <uint16_t>(number + 1)
    f.addresses = fc.learning.addresses
    f.ports = fc.learning.ports
    f.sport = l.sport
    f.hash = fc.learning_packet_hash if g.hash_in else c.rec.hash_at_cross
    if more:
        f.ct[0] = more
        learn_refs(g, l, fc.more[more].ct, fc.more[more].serial)
        memcpy(fc.more[more].nat, l.nat, sizeof(l.nat))
    else:
        learn_refs(g, l, f.ct, f.serial)
    fc.learnt += 1


cdef inline bint drop_is_shown(const Program *g) noexcept nogil:
    """Has nothing changed, or been told, since the last captured device?"""
    cdef int i = g.n_ops - 1
    while i >= 0 and g.ops[i].kind == STEP_CROSS:
        i -= 1
    return g.end == END_DROP and i >= 0 and g.ops[i].kind == STEP_TAP


cdef inline int8_t tunnels_deeper(const Program *g) noexcept nogil:
    cdef int i, deeper = 0
    for i in range(g.n_ops):
        deeper += (g.ops[i].kind == STEP_PUSH) - (g.ops[i].kind == STEP_POP)
    return <int8_t>deeper


cdef inline void learn_finish(Core *c) noexcept nogil:
    """The packet has come to its end, waits, or did what cannot be repeated: make a flow of what can."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Recorder *r = &c.rec
    cdef Program *g = &fc.draft.program
    cdef Lesson l
    cdef uint32_t used = 0
    cdef int i, n = r.n_steps, number, crosses = 0
    cdef bint whole = r.state == REC_WHOLE
    r.state = REC_OFF
    r.p = NULL
    if not whole:
        n = r.last_cross + 1
        r.end = END_ARRIVE if n and r.steps[r.last_cross].kind == STEP_ARRIVE else END_CROSS
    if n == 0 or fc.draft.program.generation != c.generation:
        return  # nothing, or something changed on the way
    if (r.once and not r.asked) or (not r.once and not r.tracked and not cache_learns(fc)):
        return
    memset(&l, 0, sizeof(Lesson))
    for i in range(n):
        if not learn_step(c, g, &l, &r.steps[i], &used):
            return
        crosses += r.steps[i].kind == STEP_CROSS
    learn_end(c, g)
    if (fc.learning.place & HOW_TUNNELLED) != 0 and not g.pop:
        return
    if g.hash_out == HASH_KEPT and r.hash_at_cross != fc.learning_packet_hash:
        return
    g.hash_told = g.hash_in and r.hash_used
    g.inner = crosses > (1 if g.end == END_CROSS else 0)
    g.n_bytes = <uint16_t>used
    if g.room == 0:
        g.room = ROOM_BESIDE
    g.longest = fc.learning_length
    g.widest = fc.learning_width
    if programs_full(fc):
        cache_flush(fc)
    shortcut_make(g)
    learn_tracks(g)
    learn_nats(g, &l)
    g.deeper = tunnels_deeper(g)
    g.plain = not (g.hash_in or g.hash_told or g.hash_l4_in or g.unfinished_in)
    g.relays = relays_is(g, r.asked)
    g.shown = drop_is_shown(g)
    mega_learn(c, g, n, whole or g.end == END_ARRIVE)
    if r.once:
        return
    g.straight = straight_is(g)
    g.onward = onward_is(g)
    number = program_number(fc, g)
    if number >= 0:
        relay_note(fc, number)
        learn_store(c, number, &l)
