# What a program's ops come to in the end: other headers in front of the inner packet, and a few changes of its IP header.
#
# Most walks pass several devices whose frames nobody captures: all Ethernet headers but the last are written for nobody. Where that is
# so the ops are read once, when the flow is learnt, and its packets are given the last headers at once. What cannot be said in this way
# (a captured interface in the middle, changes of a tunnel's own header on its way) is done op by op, by apply.pxd.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, FrameRecord, frame_record, frames_room
from ext.devices.record cimport (STEP_ARRIVE, STEP_BARE, STEP_CROSS, STEP_ETHER, STEP_NAT, STEP_POP, STEP_PUSH, STEP_TAP, STEP_TRIM, STEP_TTL)
from ext.fast.flows cimport Flow, FlowCache, NATS_MAX, Op, Program, SHORT_HEAD, SHORT_TAPS, Shortcut, Tap, flow_nat
from ext.fast.frame cimport Frame, csum_patched, nat_put, nat_sum, tunnel_finish
from ext.fast.key cimport ETH
from ext.fast.sum cimport net16, put_raw16, raw16, sum_bytes, sum_fold
from ext.wire.bytes cimport ld16

cdef struct Outline:
    # a shortcut in the making; its head grows to the left
    Shortcut *s
    uint32_t at  # where in ``s.head`` the frame begins
    uint32_t l3  # and its outermost IP header
    uint8_t changed


cdef inline bint outline_put(Outline *o, const uint8_t *bytes, uint32_t n) noexcept nogil:
    """Headers before what is there."""
    if n > o.at:
        return False
    o.at -= n
    memcpy(o.s.head + o.at, bytes, n)
    return True


cdef inline bint outline_tap(Outline *o, const Op *op) noexcept nogil:
    if o.s.n_taps == SHORT_TAPS:
        return False
    o.s.tap[o.s.n_taps].dev = op.x
    o.s.tap[o.s.n_taps].outgoing = op.y
    o.s.tap[o.s.n_taps].late = o.changed
    o.s.n_taps += 1
    return True


cdef inline bint outline_push(Outline *o, const Op *op, const uint8_t *bytes) noexcept nogil:
    if o.s.pushes:
        return False
    if not op.x:
        o.at = o.l3  # the link header goes
    o.s.ethernet = ETH if op.x else 0
    if o.l3 - o.at != o.s.ethernet or not outline_put(o, bytes, op.n):
        return False
    o.s.pushes = True
    o.l3 = o.at
    return True


cdef inline bint outline_pop(Outline *o, const Program *g, int i) noexcept nogil:
    """The tunnel that the packet came in; of one that it entered on the way nothing is known here."""
    cdef const Op *op = &g.ops[i]
    if g.pop != i + 1 or o.s.hops or o.s.n_nats:
        return False
    o.at = o.l3 = SHORT_HEAD
    o.s.trims = True
    return not op.x or outline_put(o, g.bytes + op.at + op.n - ETH, ETH)


cdef inline bint outline_op(Outline *o, const Program *g, int i) noexcept nogil:
    cdef const Op *op = &g.ops[i]
    if op.kind == STEP_CROSS or op.kind == STEP_ARRIVE or (op.kind == STEP_TRIM and (o.s.trims or o.s.pushes)):
        return True  # there is nothing behind a tunnel's packet, or one that has been trimmed
    if op.kind == STEP_TAP:
        return outline_tap(o, op)
    if o.s.n_taps and o.s.tap[o.s.n_taps - 1].late:
        return False
    o.changed = True
    if op.kind == STEP_TRIM:
        o.s.trims = True
        return True
    if op.kind == STEP_TTL:
        o.s.hops += 1
        return not o.s.pushes
    if op.kind == STEP_NAT:
        o.s.manip[o.s.n_nats] = <uint8_t>op.x
        o.s.n_nats += 1
        return not o.s.pushes
    if op.kind == STEP_ETHER:
        o.at = o.l3
        return outline_put(o, g.bytes + op.at, ETH)
    if op.kind == STEP_BARE:
        o.at = o.l3
        return True
    if op.kind == STEP_PUSH:
        return outline_push(o, op, g.bytes + op.at)
    return op.kind == STEP_POP and outline_pop(o, g, i)


cdef inline void shortcut_make(Program *g) noexcept nogil:
    """Find the program's shortcut, if there is one."""
    cdef Shortcut *s = &g.short
    cdef Outline o
    cdef int i
    o.s = s
    o.at = o.l3 = SHORT_HEAD
    o.changed = 0
    if not outline_put(&o, g.link, g.link_len):
        return
    for i in range(g.n_ops):
        if not outline_op(&o, g, i):
            return
    s.head_len = <uint8_t>(SHORT_HEAD - o.at)
    s.outer = <uint8_t>(o.l3 - o.at)
    s.link_sum = sum_fold(sum_bytes(s.head + SHORT_HEAD - ETH, ETH)) if s.ethernet else 0
    s.there = True


# ---- packets take it

cdef inline void shortcut_taps(Core *c, const Shortcut *s, const uint8_t *frame, uint32_t n, uint32_t id, bint late) noexcept nogil:
    """Captured devices see the packet as it came, or ``late`` as it is in the end. Its bytes stand once for all of them."""
    cdef const Tap *t
    cdef uint64_t at = c.bytes.n
    cdef int i
    if not frames_room(c, s.n_taps, n):
        return
    for i in range(s.n_taps):
        t = &s.tap[i]
        if t.late != late:
            continue
        if c.bytes.n == at:
            memcpy(c.bytes.mem + at, frame, n)
            c.bytes.n = at + n
        c.order += 1
        frame_record(<FrameRecord *>(c.frames.mem + c.frames.n), c.now, c.order, t.dev, t.outgoing, at, n, id)
        c.frames.n += sizeof(FrameRecord)


cdef inline void shortcut_inner(const Program *g, const uint64_t *nat, uint8_t *ip) noexcept nogil:
    """The changes of the inner IP packet, whose checksums are patched once for all of them. ``nat``: its translations, as in nat_value()."""
    cdef const Shortcut *s = &g.short
    cdef uint64_t addresses = 0, ports = 0
    cdef uint32_t hops = s.hops, nats = s.n_nats, i
    for i in range(nats):
        addresses += nat_put(ip, s.manip[i], nat[i], &ports)
    if nats:
        nat_sum(ip, addresses + ports)
    if nats or hops:
        ip[8] -= <uint8_t>hops
        put_raw16(ip + 10, csum_patched(raw16(ip + 10), addresses + <uint64_t>hops * net16(0xfeff)))


cdef inline void shortcut_head(const Shortcut *s, uint8_t *ip) noexcept nogil:
    """All headers before the inner packet. What lay in the 64 bytes before it is lost, and in 64 more if they are longer."""
    memcpy(ip - 64, s.head + SHORT_HEAD - 64, 64)
    if s.head_len > 64:
        memcpy(ip - SHORT_HEAD, s.head, SHORT_HEAD - 64)


cdef inline void shortcut_written(uint16_t sport, const Program *g, const uint64_t *nat, uint16_t ident, uint8_t *ip,
                                  uint32_t n) noexcept nogil:
    """Headers and changes of the inner packet ``ip``, from which to the end there are ``n`` bytes, with room for the head before it.
    ``sport``: the flow's."""
    cdef const Shortcut *s = &g.short
    cdef uint32_t before = s.head_len - s.outer
    shortcut_inner(g, nat, ip)
    shortcut_head(s, ip)
    if s.pushes:
        tunnel_finish(sport, g, ident, ip - before, before + n, ip, s.link_sum)


cdef inline void shortcut_take(Core *c, const Flow *f, const Program *g, Frame *p, uint8_t *ip) noexcept nogil:
    """``ip``: the inner packet, which ``p.end`` is the end of, with room for the head before it."""
    cdef const Shortcut *s = &g.short
    cdef uint64_t nat[NATS_MAX]
    cdef int i
    for i in range(s.n_nats):
        nat[i] = flow_nat(<const FlowCache *>c.fast, f, g, i, s.manip[i])
    if s.trims:
        p.end = <uint32_t>(ip - p.buf) + ld16(ip + 2)
    p.l2 = <uint32_t>(ip - p.buf) - s.head_len
    p.l3 = p.l2 + s.outer
    shortcut_written(f.sport, g, nat, p.ident, ip, <uint32_t>(p.buf + p.end - ip))
    if s.n_taps:
        shortcut_taps(c, s, p.buf + p.l2, p.end - p.l2, p.id, True)
