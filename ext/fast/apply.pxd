# A flow's packet goes its way: first everything is checked that may have changed, then what the stages would do to it is done.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcmp, memcpy
from ext.devices.core cimport Core, Ns, chance_draw, store_drop, store_frame
from ext.devices.record cimport (END_CROSS, END_DROP, STEP_BARE, STEP_ETHER, STEP_LEARN, STEP_NAT, STEP_NEIGH, STEP_POP, STEP_PUSH,
                                 STEP_TAP, STEP_TRIM, STEP_TTL)
from ext.fast.flows cimport Check, Flow, FlowCache, HASH_KEPT, Op, Program, TRACKS_MAX, Track, flow_track
from ext.fast.key cimport ETH, IP, Parsed, UDP, packet_sound
from ext.fast.sum cimport copy_short, net16, put_raw16, raw16, raw32, raw64, sum_bytes, sum_fold, sum_pseudo
from ext.tables.conntrack cimport Ct
from ext.tables.ct_settings cimport CT_KEEP_TIMEOUT, CTV_ACCEPT
from ext.tables.ct_tcp cimport CtTcp, ct_tcp_packet
from ext.tables.ct_udp cimport ct_udp_packet
from ext.tables.fdb cimport FDB_LOCAL, FDB_STATIC, FdbEntry
from ext.tables.neighbour cimport Neigh
from ext.wire.bytes cimport ld16, st16
from ext.wire.ipv4 cimport ipv4_decrease_ttl

cdef enum:
    CABLES_MAX = 64  # CROSSINGS_MAX of stages/transmit.pxd

cdef struct Frame:
    # a packet that is at no stage
    uint8_t *buf
    uint32_t l2
    uint32_t l3
    uint32_t end
    uint32_t id
    uint32_t hash
    uint8_t hash_l4
    uint8_t crossings
    uint8_t sound  # its checksums are known to be right
    uint8_t unfinished

cdef struct Undo:
    Ct *ct
    CtTcp tcp
    uint32_t status
    int64_t expires
    uint8_t is_tcp  # of a UDP connection that stands the tracker changes nothing else


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


cdef inline bint tunnel_as_known(const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """Are the headers of the tunnel that the packet comes in the flow's?"""
    cdef const Op *op = &g.ops[g.pop - 1]
    cdef const uint8_t *known = g.bytes + op.at
    if raw16(ip) != raw16(known) or raw32(ip + 6) != raw32(known + 6) or raw64(ip + 12) != raw64(known + 12):
        return False
    if ip[9] != 17:
        return memcmp(ip + IP, known + IP, op.n - IP) == 0
    return (raw16(ip + IP) == f.sport and raw16(ip + IP + 2) == raw16(known + IP + 2)
            and memcmp(ip + IP + UDP, known + IP + UDP, op.n - IP - UDP) == 0)


cdef inline bint frame_as_known(const Core *c, const Flow *f, const Program *g, const Frame *p, const Parsed *a) noexcept nogil:
    """Headers, length and checksums."""
    cdef const uint8_t *frame = p.buf + p.l2
    cdef int i
    if g.generation != c.generation or a.length > g.longest or p.crossings + g.cables > CABLES_MAX:
        return False
    if (p.hash != 0) != g.hash_in or (g.hash_told and p.hash != f.hash) or p.hash_l4 != g.hash_l4_in or p.unfinished != g.unfinished_in:
        return False
    if g.link_len and (raw64(frame) != raw64(g.link) or raw32(frame + 8) != raw32(g.link + 8)):
        return False
    if g.pop and not tunnel_as_known(f, g, frame + a.l3):
        return False
    for i in range(g.n_checks):
        if not check_holds(c, &g.checks[i]):
            return False
    return p.sound or packet_sound(frame, a)


cdef inline bint track_one(Core *c, const Track *t, Ct *ct, const uint8_t *ip, Undo *undo) noexcept nogil:
    """The connection sees the packet. False: it does not simply accept it; then nothing has changed."""
    cdef Ns *ns = <Ns *>t.ns
    cdef int64_t timeout
    cdef int verdict
    undo.ct = ct
    undo.status = ct.status
    undo.expires = ct.expires
    undo.is_tcp = t.proto == 6
    if undo.is_tcp:
        undo.tcp = ct.proto.tcp
        verdict = ct_tcp_packet(&ct.proto.tcp, t.dir, ip + IP, ld16(ip + 2) - IP, &ns.ct.set, ct.expires - c.now, &ct.status, &timeout)
    else:
        verdict = ct_udp_packet(&ct.proto.udp, c.now, &ns.ct.set, &ct.status, &timeout)
    if verdict != CTV_ACCEPT:
        track_undo(undo)
        return False
    if timeout != CT_KEEP_TIMEOUT:
        ct.expires = timeout + c.now
    return True


cdef inline void track_undo(const Undo *undo) noexcept nogil:
    undo.ct.status = undo.status
    undo.ct.expires = undo.expires
    if undo.is_tcp:
        undo.ct.proto.tcp = undo.tcp


cdef inline bint track_all(Core *c, const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """All connections on the way see the packet, or none does."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef Undo undo[TRACKS_MAX]
    cdef uint32_t serial
    cdef Ct *ct
    cdef int i, k
    for i in range(g.n_tracks):
        ct = flow_track(fc, f, i, &serial)
        if (ct.serial != serial or ct.status != g.tracks[i].status or ct.expires <= c.now
                or not track_one(c, &g.tracks[i], ct, ip, &undo[i])):
            for k in range(i - 1, -1, -1):
                track_undo(&undo[k])
            return False
    return True


# ---- what the stages would do

cdef inline uint32_t csum_patched(uint32_t check, uint64_t removed, uint64_t added) noexcept nogil:
    """RFC 1624, with 0xffff added first as csum_replace() does: never 0xffff."""
    return ~sum_fold(0xffff + (~check & 0xffff) + added + removed) & 0xffff


cdef inline void apply_nat(Frame *p, int manip, const uint8_t *now) noexcept nogil:
    """Address and port of one side, and the checksums over them."""
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint8_t *addr = ip + 12 + 4 * manip
    cdef uint8_t *port = ip + IP + 2 * manip
    cdef uint64_t removed = <uint64_t>(~raw16(addr) & 0xffff) + (~raw16(addr + 2) & 0xffff)
    cdef uint64_t added = <uint64_t>raw16(now) + raw16(now + 2)
    cdef uint8_t *check = ip + IP + (16 if ip[9] == 6 else 6)
    cdef uint32_t sum
    if ip[9] == 6 or raw16(check) != 0:
        sum = csum_patched(raw16(check), removed + (~raw16(port) & 0xffff), added + raw16(now + 4))
        put_raw16(check, sum if sum or ip[9] == 6 else 0xffff)
    put_raw16(ip + 10, csum_patched(raw16(ip + 10), removed, added))
    memcpy(addr, now, 4)
    memcpy(port, now + 4, 2)


cdef inline void push_udp_sum(const Program *g, const uint8_t *udp, uint32_t n, const uint8_t *inner, uint32_t before) noexcept nogil:
    """The checksum of the tunnel's UDP header. Of what is inside only the headers are read: a right checksum says what the rest
    sums up to. ``inner``: the inner IP header; ``before``: bytes of Ethernet header before it."""
    cdef uint32_t l4 = ld16(inner + 2) - IP
    cdef bint padded = inner + IP + l4 != udp + n
    cdef uint64_t sum = <uint64_t>g.push_udp_sum + raw16(udp) + 2 * <uint64_t>net16(n)
    if before:
        sum += sum_bytes(inner - ETH, ETH)
    if padded or (inner[9] == 17 and raw16(inner + IP + 6) == 0):
        sum += sum_bytes(inner + IP, <uint32_t>(udp + n - inner) - IP)
    else:
        sum += ~sum_fold(sum_pseudo(inner, l4)) & 0xffff
    n = ~sum_fold(sum) & 0xffff
    put_raw16(<uint8_t *>udp + 6, n if n else 0xffff)


cdef inline void apply_push(Frame *p, const Flow *f, const Program *g, const Op *op) noexcept nogil:
    """The tunnel's headers, from the template."""
    cdef uint32_t start = p.l2 if op.x else p.l3
    cdef uint32_t total = p.end - start + op.n, id
    cdef uint8_t *ip = p.buf + start - op.n
    copy_short(ip, g.bytes + op.at, op.n)
    id = <uint16_t>chance_draw(<Ns *>g.push_ns, g.push_hash)
    st16(ip + 2, total)
    st16(ip + 4, id)
    put_raw16(ip + 10, ~sum_fold(<uint64_t>g.push_sum + net16(total) + net16(id)))
    if ip[9] == 17:
        put_raw16(ip + IP, f.sport)
        st16(ip + IP + 4, total - IP)
        if g.push_udp:
            push_udp_sum(g, ip + IP, total - IP, p.buf + start + (ETH if op.x else 0), ETH if op.x else 0)
    p.l2 = p.l3 = start - op.n


cdef inline void apply_ops(Core *c, Frame *p, const Flow *f, const Program *g) noexcept nogil:
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const Op *op
    cdef int i, nats = 0
    for i in range(g.n_ops):
        op = &g.ops[i]
        if op.kind == STEP_TAP:
            store_frame(c, c.dev[op.x], p.buf + p.l2, p.end - p.l2, p.id, op.y)
        elif op.kind == STEP_TRIM:
            p.end = p.l3 + ld16(p.buf + p.l3 + 2)
        elif op.kind == STEP_TTL:
            ipv4_decrease_ttl(p.buf + p.l3)
        elif op.kind == STEP_ETHER:
            p.l2 = p.l3 - ETH
            memcpy(p.buf + p.l2, g.bytes + op.at, ETH)
        elif op.kind == STEP_NAT:
            apply_nat(p, op.x, &f.nat[0] if nats == 0 else &fc.more[f.more].nat[nats - 1][0])
            nats += 1
        elif op.kind == STEP_PUSH:
            apply_push(p, f, g, op)
        elif op.kind == STEP_POP:
            p.l2 = p.l3 + op.n - (ETH if op.x else 0)
            p.l3 += op.n
        elif op.kind == STEP_BARE:
            p.l2 = p.l3


cdef inline void apply_checks(Core *c, const Program *g) noexcept nogil:
    """Sources that bridges have seen are refreshed."""
    cdef int i
    for i in range(g.n_checks):
        if g.checks[i].kind == STEP_LEARN:
            (<FdbEntry *>g.checks[i].p).updated = c.now


cdef inline const Program *flow_apply(Core *c, const Flow *f, Frame *p, const Parsed *a) noexcept nogil:
    """Carry the packet as far as the flow's program goes. NULL: something is not as it was; nothing has been done then."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const Program *g = fc.program[f.program]
    if not frame_as_known(c, f, g, p, a) or not track_all(c, f, g, p.buf + p.l2 + a.inner):
        return NULL
    p.l3 = p.l2 + a.l3
    apply_checks(c, g)
    apply_ops(c, p, f, g)
    c.count.rules_walked += g.walked
    if g.end == END_CROSS:
        if g.hash_out != HASH_KEPT:
            p.hash = f.hash if g.hash_out else 0
        p.hash_l4 = g.hash_l4_out
        p.crossings = g.crossings if g.routed else p.crossings + g.crossings
        p.unfinished = g.unfinished_out
        p.sound = True
    elif g.end == END_DROP:
        store_drop(c, g.dev, p.buf + p.l2, p.end - p.l2, p.id, g.reason, g.origin)
    else:
        c.count.out += 1
    return g
