# Nearly all packets between two nodes: a frame from outside that leaves its node by a wire, is switched there, and is received by another
# node. What is done is what apply.pxd and events.pxd do, without all the questions whose answers are known.
#
# A packet on the wire is light: of its Pkt only what is said here is set, until it has to go through the stages. And it is taken past the
# switch before its time, where that forwards by the Ethernet header alone, changes nothing, is seen by nobody, and will not be another
# meanwhile: one event instead of two. All that is visible is as if it were not: before anybody can look, or change something, packets are
# given back to the switches that they have not reached (stages/onward_rests.pxd).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Core, EV_ONWARD, TRACE_STEPS, event_begin, event_due, event_first
from ext.devices.queue cimport Due, IN_HEAP, Queue, lane_add, lane_for, queue_packet
from ext.devices.record cimport END_ARRIVE, END_CROSS, REC_OFF, STEP_CROSS, STEP_FDB, STEP_LEARN
from ext.fast.ahead cimport ahead_of
from ext.fast.apply cimport CABLES_MAX, flow_begins, flow_goes, flow_goes_copied, headers_as_known, packet_as_known, program_holds
from ext.fast.flows cimport (Flow, FlowCache, HASH_KEPT, HOW_RESET, HOW_TRANSMIT, HOW_TUNNELLED, PLACE_DEVICE, PLACE_TOS, Program,
                             RELAYS, SHORT_HEAD, Tracked, flow_find, flow_program, flow_track, key_hash)
from ext.fast.frame cimport Frame, frame_left, packet_frame, sound_after, sound_enough
from ext.fast.key cimport ETH, IP, Parsed, key_read, packet_sound
from ext.fast.routed cimport entrance_of
from ext.fast.straight cimport straight_leaves
from ext.fast.sum cimport raw16, raw32, raw64
from ext.fast.track cimport tracked_agree
from ext.tables.fdb cimport FDB_LOCAL, FDB_STATIC, FdbEntry
from ext.wire.bytes cimport ld16
from ext.wire.packet cimport Foreseen, PKT_HEADROOM, PKT_TAILROOM, Pkt, pkt_memory, pkt_release_memory, pkt_renew


# ---- programs

cdef inline bint onward_is(const Program *g) noexcept nogil:
    """Is it one of such flows?"""
    return g.plain and g.end == END_CROSS and g.delay > 0 and not g.many and not g.more and g.place & HOW_RESET == 0


cdef inline bint relays_is(const Program *g, bint asked) noexcept nogil:
    """Is it a switch, for all packets with that Ethernet header that are not longer than those seen? ``asked``: the walk met something
    that asks for more."""
    cdef const FdbEntry *e
    cdef int i
    if (asked or g.end != END_CROSS or g.delay <= 0 or g.n_ops != 1 or g.ops[0].kind != STEP_CROSS or g.n_tracks or g.n_nats or g.pop
            or g.n_refreshed or g.walked or g.link_len != ETH or g.inner or g.routed or g.hash_told or g.push_ns != NULL):
        return False
    if (g.unfinished_in != g.unfinished_out or g.hash_l4_in != g.hash_l4_out or g.hash_out != (HASH_KEPT if g.hash_in else 0)
            or g.place & (HOW_TUNNELLED | HOW_TRANSMIT)):
        return False
    for i in range(g.n_checks):
        e = <const FdbEntry *>g.checks[i].p
        if g.checks[i].kind != STEP_FDB or not e.flags & (FDB_LOCAL | FDB_STATIC):
            return False
    return True


cdef inline uint16_t *relay_place(FlowCache *fc, int dev, const uint8_t *link) noexcept nogil:
    """Where the switch is noted that frames with this Ethernet header meet at ``dev``."""
    return &fc.relay[(<uint32_t>dev * 5 + raw16(link + 4)) & (RELAYS - 1)]


cdef inline void relay_note(FlowCache *fc, int number) noexcept nogil:
    """A program has been learnt: if it stands for a switch, others may pass that."""
    cdef const Program *g = fc.program[number]
    if g.relays:
        relay_place(fc, <int>(g.place >> PLACE_DEVICE) - 1, g.link)[0] = <uint16_t>(number + 1)


# ---- light packets

cdef inline bint instant_goes_on(const Core *c) noexcept nogil:
    """Is there more to happen at this instant that goes back to the same frame from outside?"""
    return event_due(c, c.now) and event_first(c).root == c.root


cdef inline void light_whole(Pkt *p) noexcept nogil:
    """It becomes a packet like any other, of which it only remains to be found out what its device makes of its Ethernet header."""
    cdef Pkt was = p[0]
    pkt_renew(p)
    p.l2 = was.l2
    p.end = was.end
    p.id = was.id
    p.dev = was.dev
    p.hash = was.hash
    p.hash_l4 = was.hash_l4
    p.crossings = was.crossings
    p.unfinished = was.unfinished
    p.sound = was.sound
    p.foreseen = was.foreseen
    p.joined = was.joined


cdef inline Pkt *light_new(Core *c, uint32_t room, uint32_t id) noexcept nogil:
    """One of this number, with so many bytes; NULL (and the engine's flag set) when memory is out."""
    cdef Pkt *p = pkt_memory(&c.pool, room)
    if p == NULL:
        c.out_of_memory = True
        return NULL
    p.cap = room
    p.id = id
    return p


cdef inline void light_gone(Core *c, Pkt *p) noexcept nogil:
    p.frags = NULL
    pkt_release_memory(&c.pool, p)


cdef inline void light_foreseen(Foreseen *to, const FlowCache *fc, const Parsed *a) noexcept nogil:
    to.place = a.key.place
    to.addresses = a.key.addresses
    to.ports = a.key.ports
    to.hash = a.hash
    to.inner = a.inner
    to.shapes = <uint32_t>fc.n_shapes + 1


cdef inline bint ahead_known(const FlowCache *fc, const Program *g, const Pkt *p, Parsed *a) noexcept nogil:
    """Read the key of a packet that the program has put into a tunnel, if it is known where. Its headers are what the program made of
    sound ones."""
    cdef const uint8_t *ip = p.buf + p.l2 + g.ahead_inner
    if g.ahead != <uint32_t>fc.n_shapes + 1 or g.ahead_dev != p.dev or ld16(ip + 2) != p.end - p.l2 - g.ahead_inner:
        return False
    a.key.place = <uint64_t>(p.dev + 1) << PLACE_DEVICE | HOW_TUNNELLED | <uint64_t>ip[1] << PLACE_TOS | raw32(ip + 6)
    a.key.addresses = raw64(ip + 12)
    a.key.ports = raw32(ip + IP)
    a.hash = key_hash(fc.key_seed, &a.key)
    a.l3 = ETH
    a.inner = g.ahead_inner
    a.length = p.end - p.l2
    a.tells = False
    return True


cdef inline void light_ahead(Core *c, Pkt *p, Program *g) noexcept nogil:
    """Its key is read, and what its flow will need is asked for. ``g``: the program of the flow that it comes from; NULL: from no flow."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Parsed a
    p.foreseen.asked = p.foreseen.made = False
    p.foreseen.shapes = 0
    if g == NULL or not ahead_known(fc, g, p, &a):
        if not key_read(fc, c.dev[p.dev], False, p.buf + p.l2, p.end - p.l2, &a):
            return
        if g != NULL and g.push_ns != NULL and a.inner != a.l3 and a.l3 == ETH and not a.tells:
            g.ahead = <uint32_t>fc.n_shapes + 1
            g.ahead_dev = p.dev
            g.ahead_inner = <uint16_t>a.inner
    ahead_of(c, &a, p.buf + p.l2)
    if not a.tells:
        light_foreseen(&p.foreseen, fc, &a)


cdef inline const Program *light_switch(const Core *c, int dev, const Pkt *p, const uint8_t *link) noexcept nogil:
    """The switch that lets the packet pass which it meets at ``dev``; NULL: there is none, or none that is known. ``link``: its Ethernet
    header."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint32_t number = relay_place(<FlowCache *>fc, dev, link)[0]
    cdef const Program *by
    if number == 0 or number > fc.n_programs or not c.carrying or c.n_sockets:
        return NULL  # an application may have a batch end while other things are due at the same instant
    by = fc.program[number - 1]
    if (not by.relays or by.place >> PLACE_DEVICE != <uint64_t>dev + 1 or raw64(link) != raw64(by.link) or raw32(link + 8) != raw32(by.link + 8)
            or raw16(link + 12) != raw16(by.link + 12)):
        return NULL
    if (by.generation != c.generation or p.end - p.l2 > by.longest or (p.hash != 0) != by.hash_in or p.hash_l4 != by.hash_l4_in
            or p.unfinished != by.unfinished_in or p.crossings + by.cables > CABLES_MAX):
        return NULL
    return by


cdef inline void light_parted(Core *c, Pkt *p) noexcept nogil:
    """It is on its way to the switch again."""
    p.dev = p.joined.dev
    p.crossings -= p.joined.crossings
    p.joined.time = 0
    p.foreseen.shapes = 0
    (<FlowCache *>c.fast).hits -= 1


cdef inline void light_waits(Core *c, Pkt *p, int64_t delay) noexcept nogil:
    """It will be received."""
    cdef Due e
    event_begin(c, &e, c.now + delay, EV_ONWARD, p.dev, p)
    c.light = True
    if not queue_packet(&c.queue, &e, delay):
        c.out_of_memory = True
        light_gone(c, p)


cdef inline bint light_waits_joined(Core *c, Pkt *p, int64_t delay) noexcept nogil:
    """The same in a lane, the only place that is looked through for packets which have passed a switch. False: there is none."""
    cdef Queue *q = &c.queue
    cdef int k = lane_for(q, delay)
    cdef Due e
    event_begin(c, &e, c.now + delay, EV_ONWARD, p.dev, p)
    if k == IN_HEAP or not lane_add(q, k, &e):
        return False
    q.n_packets += 1
    c.light = True
    return True


cdef inline const uint8_t *program_link(const Program *g) noexcept nogil:
    """The Ethernet header that its shortcut, which is there, gives to all packets."""
    return g.short.head + SHORT_HEAD - g.short.head_len


cdef inline const Program *light_passes(Core *c, int dev, int64_t delay, Pkt *p, const uint8_t *link) noexcept nogil:
    """The packet crosses to ``dev``, and a switch there if one is known, which is returned. ``link``: as in light_switch(), of the packet
    or, which need not wait for that to be written, of the program that has made it."""
    cdef const Program *by = light_switch(c, dev, p, link)
    p.dev = dev
    p.joined.time = 0
    if by == NULL:
        return NULL
    (<FlowCache *>c.fast).hits += 1
    p.joined.time = c.now + delay
    p.joined.delay = delay
    p.joined.dev = dev
    p.joined.crossings = by.crossings
    p.dev = by.dev
    p.crossings += by.crossings
    return by


cdef inline void light_under_way(Core *c, Pkt *p, int64_t delay, const Program *by) noexcept nogil:
    """After light_passes()."""
    if by == NULL:
        light_waits(c, p, delay)
    elif not light_waits_joined(c, p, delay + by.delay):
        light_parted(c, p)
        light_waits(c, p, delay)


cdef inline void light_leaves(Core *c, const Program *g, Pkt *p, const uint8_t *link, Program *knows) noexcept nogil:
    """The packet that the program has made crosses. ``link``: as in light_passes(); ``knows``: as in light_ahead()."""
    cdef const Program *by = light_passes(c, g.dev, g.delay, p, link)
    light_ahead(c, p, knows)
    light_under_way(c, p, g.delay, by)


cdef inline void light_on(Core *c, const Program *g, const Frame *w, Pkt *p, Program *knows) noexcept nogil:
    """A packet that the program has left as ``w`` says crosses into another device. ``knows``: as in light_ahead()."""
    frame_left(p, w)
    p.sound = w.sound
    light_leaves(c, g, p, p.buf + p.l2, knows)


cdef inline void onward_made(Core *c, const Flow *f, const Program *g, const Tracked *at, const Parsed *a, const uint8_t *frame,
                             Pkt *p) noexcept nogil:
    """The packet's bytes and where they end, for a program that nobody watches."""
    cdef const uint8_t *ip = frame + a.inner
    cdef uint32_t n = a.length - a.inner
    straight_leaves(c, f, g, at, ip, n, p.buf + PKT_HEADROOM + g.short.head_len)
    c.count.rules_walked += g.walked
    p.l2 = PKT_HEADROOM
    p.end = PKT_HEADROOM + g.short.head_len + (ld16(ip + 2) if g.short.trims else n)


cdef inline void onward_told(Core *c, const Flow *f, const Program *g, const Parsed *a, const uint8_t *frame, Pkt *p) noexcept nogil:
    """The same for one whose packets are seen on their way."""
    cdef Frame w
    w.buf = <uint8_t *>frame
    w.l2 = w.hash = 0
    w.end = a.length
    w.hash_l4 = w.crossings = w.sound = w.unfinished = 0
    w.id = p.id
    flow_begins(c, g, &w)
    flow_goes_copied(c, f, g, &w, a, p.buf, PKT_HEADROOM)
    p.l2 = w.l2
    p.end = w.end


cdef inline bint onward_agrees(Core *c, const Flow *f, Program *g, const Tracked *at, const Parsed *a, const uint8_t *frame) noexcept nogil:
    """Does a frame from outside go its flow's way? Then onward_goes() is due."""
    return (program_holds(c, g) and headers_as_known(f, g, frame, a) and (a.sound or packet_sound(frame, a))
            and tracked_agree(c, f, g, at, frame + a.inner))


cdef inline void onward_goes(Core *c, const Flow *f, Program *g, const Tracked *at, const Parsed *a, const uint8_t *frame,
                             uint32_t id) noexcept nogil:
    cdef Pkt *p = light_new(c, PKT_HEADROOM + a.length + g.room + PKT_TAILROOM, id)
    if p == NULL:
        return
    if g.short.there and g.short.n_taps == 0:
        onward_made(c, f, g, at, a, frame, p)
    else:
        onward_told(c, f, g, a, frame, p)
    p.hash = f.hash if g.hash_out else 0
    p.hash_l4 = g.hash_l4_out
    p.crossings = g.crossings
    p.sound = sound_after(g, 0)
    p.unfinished = g.unfinished_out
    light_leaves(c, g, p, program_link(g) if g.short.there and g.short.head_len >= ETH else p.buf + p.l2, g)


# ---- they arrive

cdef inline bint light_agrees(Core *c, const Flow *f, Program *g, const Frame *w, const Parsed *a) noexcept nogil:
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const uint8_t *frame = w.buf + w.l2
    cdef Tracked at
    cdef uint16_t serial
    cdef int i
    if w.l2 < g.room or not packet_as_known(f, g, w) or not program_holds(c, g) or not headers_as_known(f, g, frame, a):
        return False
    for i in range(g.n_tracks):
        at.ct[i] = flow_track(fc, f, g, i, &serial)
    return tracked_agree(c, f, g, &at, frame + a.inner)


cdef inline bint onward_arrives(Core *c, Pkt *p) noexcept nogil:
    """A light packet is received: does it go the way of its flow? If not, nothing has been done."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef const Flow *f
    cdef Program *g
    cdef Parsed a
    cdef Frame w
    a.key.place = p.foreseen.place
    if (p.foreseen.shapes != <uint32_t>fc.n_shapes + 1 or not sound_enough(p.sound, &a) or c.rec.state != REC_OFF
            or c.tracing == TRACE_STEPS or c.clock.on):
        return False
    a.key.addresses = p.foreseen.addresses
    a.key.ports = p.foreseen.ports
    f = flow_find(fc, &a.key, p.foreseen.hash)
    if f == NULL or entrance_of(c, &fc.routed, p.dev, False) != NULL:
        return False
    g = flow_program(fc, f)
    if g.many or g.more or g.place & HOW_RESET or g.end == END_ARRIVE or (g.inner and instant_goes_on(c)):
        return False
    a.l3 = ETH
    a.inner = p.foreseen.inner
    a.length = p.end - p.l2
    packet_frame(p, &w)
    if not light_agrees(c, f, g, &w, &a):
        return False
    fc.hits += 1
    flow_begins(c, g, &w)
    flow_goes(c, f, g, &w, &a)
    if g.end != END_CROSS:
        light_gone(c, p)
        return True
    light_on(c, g, &w, p, g)
    return True
