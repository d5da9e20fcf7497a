# A flow's packet goes its way: first everything is checked that may have changed, then what the stages would do to it is done.

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.devices.changes cimport CHANGE_RULE, CHANGE_SNAT, store_change
from ext.devices.core cimport Core, FrameRecord, Ns, chance_draw, drop_record, frame_record, frames_room, store_drop
from ext.devices.record cimport (END_ARRIVE, END_CROSS, END_DROP, STEP_BARE, STEP_CHANGE, STEP_CROSS, STEP_ETHER, STEP_FDB,
                                 STEP_LEARN, STEP_NAT, STEP_NEIGH, STEP_POP, STEP_PUSH, STEP_TAP, STEP_TRIM, STEP_TTL)
from ext.fast.flows cimport Check, Flow, FlowCache, HASH_KEPT, Op, Program, flow_nat
from ext.fast.frame cimport Frame, nat_apply, sound_after, tunnel_finish
from ext.fast.key cimport ETH, IP, Parsed, UDP, packet_sound
from ext.fast.shortcut cimport shortcut_take, shortcut_taps
from ext.fast.sum cimport copy_short, raw16, raw32, raw64, same_bytes, sum_bytes, sum_fold
from ext.fast.track cimport tracks_agree
from ext.tables.fdb cimport FDB_LOCAL, FDB_STATIC, FdbEntry
from ext.tables.neighbour cimport Neigh
from ext.wire.bytes cimport COPIED_OVER, copy_over, ld16
from ext.wire.ipv4 cimport ipv4_decrease_ttl

cdef enum:
    CABLES_MAX = 64  # CROSSINGS_MAX of stages/transmit.pxd

# ---- checks

cdef inline bint check_holds(const Core *c, const Check *k) noexcept nogil:
    """Is the neighbour or FDB entry what it was?"""
    cdef const Neigh *n
    cdef const FdbEntry *e
    if k.kind == STEP_NEIGH:
        n = <const Neigh *>k.p
        return n.state & k.x and raw32(n.mac) == raw32(k.mac) and raw16(n.mac + 4) == raw16(k.mac + 4)
    e = <const FdbEntry *>k.p
    if e.port != k.port:
        return False
    if k.kind == STEP_LEARN:
        return True
    return e.flags & (FDB_LOCAL | FDB_STATIC) or c.now - e.updated < c.dev[k.x].fdb.ageing


cdef inline bint checks_hold(const Core *c, Program *g) noexcept nogil:
    """All of them; ``g`` keeps for how long."""
    cdef const FdbEntry *e
    cdef int64_t ages
    cdef int i
    g.checked_until = INT64_MAX
    for i in range(g.n_checks):
        if not check_holds(c, &g.checks[i]):
            g.checked_until = 0
            return False
        if g.checks[i].kind != STEP_FDB:
            continue
        e = <const FdbEntry *>g.checks[i].p
        ages = e.updated + c.dev[g.checks[i].x].fdb.ageing
        if not e.flags & (FDB_LOCAL | FDB_STATIC) and ages < g.checked_until:
            g.checked_until = ages
    g.moves = c.moves
    return True


cdef inline bint tunnel_is(const uint8_t *known, uint32_t n, uint16_t sport, const uint8_t *ip) noexcept nogil:
    """Are ``n`` bytes of a tunnel's headers those that are known, with this source port in their UDP header if there is one?"""
    if raw16(ip) != raw16(known) or raw32(ip + 6) != raw32(known + 6) or raw64(ip + 12) != raw64(known + 12):
        return False
    if ip[9] != 17:
        return same_bytes(ip + IP, known + IP, n - IP)
    return (raw16(ip + IP) == sport and raw16(ip + IP + 2) == raw16(known + IP + 2)
            and same_bytes(ip + IP + UDP, known + IP + UDP, n - IP - UDP))


cdef inline bint tunnel_as_known(const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """Are the headers of the tunnel that the packet comes in the flow's?"""
    cdef const Op *op = &g.ops[g.pop - 1]
    return tunnel_is(g.bytes + op.at, op.n, f.sport, ip)


cdef inline bint hash_as_known(const Flow *f, const Program *g, const Frame *p) noexcept nogil:
    return ((p.hash != 0) == g.hash_in and (not g.hash_told or p.hash == f.hash) and p.hash_l4 == g.hash_l4_in
            and p.unfinished == g.unfinished_in)


cdef inline bint program_holds(const Core *c, Program *g) noexcept nogil:
    """Is everything beside the packet and its connections what it was?"""
    return g.generation == c.generation and ((g.moves == c.moves and c.now < g.checked_until) or checks_hold(c, g))


cdef inline bint length_as_known(const Program *g, const uint8_t *frame, const Parsed *a) noexcept nogil:
    """Has a packet as long gone this way, in a frame as long? What lies behind it is cut off on the way."""
    return a.length <= g.longest or (a.length <= g.widest and a.l3 + ld16(frame + a.l3 + 2) <= g.longest)


cdef inline bint headers_as_known(const Flow *f, const Program *g, const uint8_t *frame, const Parsed *a) noexcept nogil:
    """Length, Ethernet header, and those of the tunnel that the packet comes in."""
    if not length_as_known(g, frame, a) or (g.link_len and (raw64(frame) != raw64(g.link) or raw32(frame + 8) != raw32(g.link + 8))):
        return False
    return not g.pop or tunnel_as_known(f, g, frame + a.l3)


cdef inline bint packet_as_known(const Flow *f, const Program *g, const Frame *p) noexcept nogil:
    """What a packet has found out before it came here; of a frame from outside a plain program asks nothing."""
    return ((g.plain and p.hash == 0 and p.hash_l4 == 0 and p.unfinished == 0) or hash_as_known(f, g, p)) and p.crossings + g.cables <= CABLES_MAX


# ---- what the stages would do

cdef inline void apply_push(Frame *p, const Flow *f, const Program *g, const Op *op) noexcept nogil:
    """The tunnel's headers, from the template."""
    cdef uint32_t start = p.l2 if op.x else p.l3, before = ETH if op.x else 0
    copy_short(p.buf + start - op.n, g.bytes + op.at, op.n)
    p.l2 = p.l3 = start - op.n
    tunnel_finish(f.sport, g, p.ident, p.buf + p.l3, p.end - p.l3, p.buf + start + before, sum_fold(sum_bytes(p.buf + start, before)))


cdef inline void apply_change(Core *c, Frame *p, const Program *g, const Op *op) noexcept nogil:
    """What has just been done is told."""
    cdef const uint8_t *fact = g.bytes + op.at
    cdef uint32_t start = p.l2 if p.l2 < p.l3 else p.l3
    if op.y == CHANGE_RULE:
        store_change(c, op.x, CHANGE_RULE, NULL, 0, p.rules[0], p.id, NULL, 0)
        p.rules += 1
        return
    if op.n == 0:
        fact = p.buf + p.l3 + (12 if op.y == CHANGE_SNAT else 16)
    store_change(c, op.x, op.y, fact, op.n if op.n else 4, op.origin, p.id, p.buf + start, p.end - start)


cdef inline const Op *apply_taps(Core *c, const Frame *p, const Op *op, const Op *past) noexcept nogil:
    """Captured devices, one behind the other, see the packet as it is now. There is room in the stores, where its bytes stand once for
    all of them. What comes next."""
    cdef FrameRecord *r = <FrameRecord *>(c.frames.mem + c.frames.n)
    cdef uint64_t at = c.bytes.n, order = c.order
    cdef uint32_t n = p.end - p.l2, packet = p.id
    cdef int64_t now = c.now
    cdef int kind = STEP_TAP
    copy_over(c.bytes.mem + at, p.buf + p.l2, n)
    while kind == STEP_TAP or kind == STEP_CROSS:
        if kind == STEP_TAP:
            order += 1
            frame_record(r, now, order, op.x, op.y, at, n, packet)
            r += 1
        op += 1
        kind = op.kind if op < past else 0
    c.bytes.n = at + n
    c.frames.n = <uint64_t>(<uint8_t *>r - c.frames.mem)
    c.order = order
    return op


cdef inline void apply_ops(Core *c, Frame *p, const Flow *f, const Program *g) noexcept nogil:
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const Op *op = g.ops
    cdef const Op *past = op + g.n_ops
    cdef bint room = g.n_taps and frames_room(c, g.n_taps, g.n_taps * <uint64_t>(p.end - p.l2 + g.room) + COPIED_OVER)
    cdef int kind, nats = 0
    while op < past:
        kind = op.kind
        if kind == STEP_TAP and room:
            op = apply_taps(c, p, op, past)
            continue
        if kind == STEP_TRIM:
            p.end = p.l3 + ld16(p.buf + p.l3 + 2)
        elif kind == STEP_TTL:
            ipv4_decrease_ttl(p.buf + p.l3)
        elif kind == STEP_ETHER:
            p.l2 = p.l3 - ETH
            memcpy(p.buf + p.l2, g.bytes + op.at, ETH)
        elif kind == STEP_NAT:
            nat_apply(p.buf + p.l3, op.x, flow_nat(fc, f, g, nats, op.x))
            nats += 1
        elif kind == STEP_PUSH:
            apply_push(p, f, g, op)
        elif kind == STEP_POP:
            p.l2 = p.l3 + op.n - (ETH if op.x else 0)
            p.l3 += op.n
        elif kind == STEP_BARE:
            p.l2 = p.l3
        elif kind == STEP_CHANGE:
            apply_change(c, p, g, op)
        op += 1


cdef inline void apply_refresh(const Program *g, int64_t now) noexcept nogil:
    """Sources that bridges have seen are refreshed."""
    cdef int i
    for i in range(g.n_refreshed):
        g.refreshed[i].updated = now


cdef inline void flow_begins(const Core *c, const Program *g, Frame *p) noexcept nogil:
    """What the packet leaves behind in the tables that its flow shares with others, before it goes."""
    apply_refresh(g, c.now)
    if g.push_ns != NULL:
        p.ident = <uint16_t>chance_draw(<Ns *>g.push_ns, g.push_hash)


cdef inline bint frame_as_known(const Core *c, const Flow *f, Program *g, const uint8_t *frame, const Parsed *a, bint sound) noexcept nogil:
    """Does the frame go the flow's way, if packet_as_known() and the connections on it allow it? ``sound``: its checksums are known to
    be right."""
    return program_holds(c, g) and headers_as_known(f, g, frame, a) and (sound or packet_sound(frame, a))


cdef inline bint flow_agrees(Core *c, const Flow *f, Program *g, const uint8_t *frame, const Parsed *a, bint sound) noexcept nogil:
    """The same, and the connections have seen the packet if so; if not, nothing has been done."""
    return frame_as_known(c, f, g, frame, a, sound) and tracks_agree(c, f, g, frame + a.inner)


cdef inline void flow_goes(Core *c, const Flow *f, const Program *g, Frame *p, const Parsed *a) noexcept nogil:
    """Carry the packet, before which there is as much room as the program needs, as far as that goes."""
    if g.short.there:
        if g.short.n_taps:
            shortcut_taps(c, &g.short, p.buf + p.l2, p.end - p.l2, p.id, False)
        shortcut_take(c, f, g, p, p.buf + p.l2 + a.inner)
    else:
        p.l3 = p.l2 + a.l3
        apply_ops(c, p, f, g)
    flow_ends(c, f, g, p)


cdef inline void flow_goes_copied(Core *c, const Flow *f, const Program *g, Frame *p, const Parsed *a, uint8_t *buf,
                                  uint32_t room) noexcept nogil:
    """The same for a frame whose bytes must stay as they are: ``buf`` gets what is sent on, with ``room`` bytes before its
    first one in the end or, where there is no shortcut, in the beginning."""
    cdef const uint8_t *frame = p.buf + p.l2
    cdef uint32_t n = p.end - p.l2
    p.buf = buf
    if g.short.there:
        if g.short.n_taps:
            shortcut_taps(c, &g.short, frame, n, p.id, False)
        room += g.short.head_len
        copy_short(buf + room, frame + a.inner, n - a.inner)
        p.end = room + n - a.inner
        shortcut_take(c, f, g, p, buf + room)
    else:
        copy_short(buf + room, frame, n)
        p.l2 = room
        p.l3 = room + a.l3
        p.end = room + n
        apply_ops(c, p, f, g)
    flow_ends(c, f, g, p)


cdef inline void flow_dropped(Core *c, const Program *g, const Frame *p) noexcept nogil:
    """Where a captured device has just seen it as it is now its bytes are the last in the store."""
    cdef uint32_t n = p.end - p.l2
    if g.shown and not c.out_of_memory:
        drop_record(c, g.dev, c.bytes.n - n, n, p.id, g.reason, g.origin)
        return
    store_drop(c, g.dev, p.buf + p.l2, n, p.id, g.reason, g.origin)


cdef inline void flow_ends(Core *c, const Flow *f, const Program *g, Frame *p) noexcept nogil:
    c.count.rules_walked += g.walked
    if g.end == END_CROSS or g.end == END_ARRIVE:
        if g.hash_out != HASH_KEPT:
            p.hash = f.hash if g.hash_out else 0
        p.hash_l4 = g.hash_l4_out
        p.crossings = g.crossings if g.routed else p.crossings + g.crossings
        p.unfinished = g.unfinished_out
        p.sound = sound_after(g, p.sound)
    elif g.end == END_DROP:
        flow_dropped(c, g, p)
    else:
        c.count.out += 1
