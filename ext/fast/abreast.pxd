# Eight packets at once that leave the world, cross a wire or are dropped: TCP segments, which lanes.pxd reads, follows and writes, and
# whose tunnels and flows outer.pxd and lane_flows.pxd look at.
#
# Four steps, each for other eight packets (rows.pxd, arrivals.pxd): keys are read, flows and their connections are found, connections see
# their packets, and packets are written. So what lies far away in memory is asked for a step or two ahead, and what has been put in place word by
# word is read as a whole only when it has arrived there. Nothing but these packets changes anything meanwhile: what holds of programs does
# until the end. The first packet of which anything is not as nearly always ends it, and goes another way.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, FrameRecord, Ns, drop_record, frame_record, frames_room
from ext.devices.record cimport END_CROSS, END_DROP, END_OUT
from ext.fast.ahead cimport connection_ahead
from ext.fast.apply cimport tunnel_is
from ext.fast.flows cimport (Flow, FlowCache, HOW_TRANSMIT, HOW_TUNNELLED, LINE, Lane, LaneWay, PLACE_TOS, PROBES_MAX, SCRATCH, SHORT_HEAD,
                             Shape, Tap)
from ext.fast.key cimport ETH, segments_begin, transport_sound, tunnel_plain, tunnel_shape
from ext.fast.lane cimport lane_fills, way_timeout
from ext.fast.lane_flows cimport lanes_find
from ext.fast.lane_write cimport lanes_write
from ext.fast.lanes cimport Eight, LANE_TOLD, LANE_UNACKED, LANES, LaneKeys, first_of, lanes_frames, lanes_look
from ext.fast.onward cimport light_new, light_passes, light_under_way
from ext.fast.outer cimport lanes_tunnelled
from ext.fast.routed cimport spread
from ext.fast.sum cimport put_raw16, raw32
from ext.fast.track cimport track_stands, track_told
from ext.tables.conntrack cimport Ct, CtRef, ct_of
from ext.tables.ct_settings cimport CTS_SEEN_REPLY
from ext.wire.bytes cimport ask_for, rarely
from ext.wire.packet cimport PKT_HEADROOM, PKT_TAILROOM, Pkt

cdef enum:
    EIGHTS = 4  # in hand of one kind, a power of two
    FARTHER_FROM = 1 << 15  # slots of flows: 1 MiB
    DATA_AHEAD = 32  # frames that are asked for before their keys are read
    LANE_MOST = SCRATCH - PKT_HEADROOM - PKT_TAILROOM  # bytes of a frame

cdef struct Arrivals:
    # packets that come from a wire meanwhile, in the order in which they are due
    Eight eight[EIGHTS]
    Pkt *packet[EIGHTS][LANES]
    uint32_t turn  # which eight is in hand
    uint32_t gone  # of its lanes
    Eight *waits  # the same one, NULL: none does
    uint32_t passed  # bits of lanes whose windows let the packet through, up to this virtual time
    int64_t latest
    uint32_t again  # as in Row
    uint32_t ahead  # packets that are in eights and have not gone

cdef struct Row:
    # frames in order, injected where ``devs`` say, and who carries them
    Core *c
    FlowCache *fc
    const uint8_t *data
    const int32_t *devs
    const uint64_t *starts
    const uint32_t *lengths
    const int64_t *times
    uint64_t past  # the last one
    size_t farther  # flows_farther()
    bint shares  # lanes are read by others, too: none is filled in
    uint64_t walked  # rules
    uint64_t others  # packets that have not left the world
    uint64_t root  # Core.root before the first frame,
    uint32_t id  # and the number of the packet before it
    uint64_t arrived  # packets from a wire
    uint32_t written  # number of the last packet that has been, of all up to it
    uint64_t gone  # frames before the eight in hand,
    uint32_t turn  # which one that is,
    uint32_t lane  # and how many of its lanes have
    uint32_t again  # bits of its lanes whose connections are others than they were
    const uint64_t *other  # PairState.at, if another thread may come to carry frames together; else NULL
    LaneKeys keys
    Eight eight[EIGHTS]
    Arrivals arrivals


# ---- keys

cdef inline bint lane_sound(const Row *r, const Eight *e, uint32_t k, bint unsummed, bint untold) noexcept nogil:
    """Are the checksums right that have not been looked at, and the tunnel's headers, if nothing is known of them, as key_read_plainly()
    asks?"""
    if unsummed and not transport_sound(e.ip[k]):
        return False
    return not untold or tunnel_plain(r.fc, r.c.dev[r.devs[e.first + k]], e.frame[k], e.length[k], e.at)


cdef inline uint32_t tunnels_untold(const Row *r, const Eight *e) noexcept nogil:
    """Bits of lanes that come in tunnels of which nothing is known yet."""
    cdef const Shape *s
    if e.at == ETH:
        return 0
    s = tunnel_shape(r.fc, r.c.dev[r.devs[e.first]].ns, e.frame[0] + ETH)
    return (1 << LANES) - 1 & ~(lanes_tunnelled(e, s.port) if s.proto == 17 else 0)


cdef inline void eight_stands_in(Eight *e, uint32_t n) noexcept nogil:
    """The first of ``n`` frames stands in for those that are not there."""
    cdef uint32_t k
    for k in range(n, <uint32_t>LANES):
        e.frame[k] = e.frame[0]
        e.ip[k] = e.ip[0]
        e.length[k] = e.length[0]
        e.high[k] = e.high[0]


cdef inline uint32_t eight_frames(Row *r, Eight *e, uint64_t first) noexcept nogil:
    """The eight frames from number ``first`` on; how many may go so as far as their lengths tell. Others stand in for what is behind."""
    cdef const uint8_t *frame = r.data + r.starts[first]
    cdef uint32_t at = segments_begin(r.fc, r.c.dev[r.devs[first]], frame, r.lengths[first]), n
    cdef uint64_t how = HOW_TRANSMIT | (HOW_TUNNELLED if at != ETH else 0)
    if at == 0:
        return 0
    n = first_of(lanes_frames(e, r.data, r.starts + first, r.lengths + first, r.devs + first, at, LANE_MOST, <uint32_t>(how >> PLACE_TOS)))
    if n:
        eight_stands_in(e, n)
    return n


cdef inline void eight_look(Row *r, Eight *e, uint64_t first) noexcept nogil:
    """Read keys; ``e.n``: of how many, from the first one on."""
    cdef uint32_t n, unsummed, untold, k
    e.n = e.wrote = 0
    e.first = first
    n = eight_frames(r, e, first)
    if n == 0:
        return
    n = min(n, first_of(lanes_look(e, &r.keys, &unsummed)))
    untold = tunnels_untold(r, e)
    for k in range(n if unsummed | untold else 0):
        if (unsummed | untold) >> k & 1 and not lane_sound(r, e, k, unsummed >> k & 1, untold >> k & 1):
            n = k
            break
    e.n = n


# ---- flows

cdef inline bint lane_is_at(Row *r, const Flow *f, uint64_t place) noexcept nogil:
    """Is it a flow of this place, whose packets go so?"""
    cdef const Lane *l = &r.fc.lane[f.program - 1]
    if rarely(l.stamp != r.fc.lanes_stamp):
        if r.shares:
            return False
        lane_fills(r.c, r.fc, f.program - 1)
    return l.place == place


cdef inline const Flow *lane_flow(Row *r, const Eight *e, uint32_t k) noexcept nogil:
    """The flow of a packet, NULL: it has none that goes so."""
    cdef const Flow *f = <const Flow *>e.slot[k]
    cdef const Flow *end = f + PROBES_MAX
    cdef uint64_t addresses = <uint64_t>e.dst[k] << 32 | e.src[k], place = <uint64_t>e.high[k] << 32 | e.low[k]
    cdef uint32_t ports = e.ports[k]
    while f < end and f.program:
        if f.addresses == addresses and f.ports == ports and lane_is_at(r, f, place):
            return f
        f += 1
    return NULL


cdef inline const Flow *lane_sought(Row *r, Eight *e, uint32_t k) noexcept nogil:
    """Where lanes_find() has not found it; NULL: there is none."""
    cdef const Flow *f = lane_flow(r, e, k)
    cdef const Lane *l
    if f != NULL:
        l = &r.fc.lane[f.program - 1]
        e.slot[k] = <const uint8_t *>f
        e.lane[k] = <const uint8_t *>l
        e.way[k] = <const uint8_t *>l.way
        e.number[k] = f.program - 1
        e.refs[0][k] = f.ct[0]
        e.refs[1][k] = f.ct[1]
        e.serial[k] = raw32(<const uint8_t *>f.serial)
        e.sport[k] = f.sport
    return f


cdef inline uint8_t *way_ct(const LaneWay *y, int i, CtRef ref) noexcept nogil:
    return <uint8_t *>ct_of(&(<const Ns *>y.tracks[i].ns).ct, ref)


cdef inline bint lane_connected(Row *r, Eight *e, uint32_t k, bint found) noexcept nogil:
    """The packet's flow, program and connections are found. ``found``: but for the connections lanes_find() has found them."""
    cdef const uint32_t *refs = &e.refs[0][k]
    cdef const LaneWay *y
    cdef size_t tcp
    if not found and lane_sought(r, e, k) == NULL:
        return False
    y = <const LaneWay *>e.way[k]
    tcp = LANES * <size_t>y.tcp
    e.ref[k] = refs[tcp]
    e.ct[k] = way_ct(y, 0, e.ref[k])
    e.other[k] = NULL
    if y.n_tracks > 1:
        e.other[k] = way_ct(y, 1, refs[tcp ^ LANES])
    return True


cdef inline bint lane_found(Row *r, Eight *e, uint32_t k, bint found) noexcept nogil:
    """lane_connected(), and connections are asked for."""
    if not lane_connected(r, e, k, found):
        return False
    connection_ahead(<const Ct *>e.ct[k], True)
    if e.other[k] != NULL:
        connection_ahead(<const Ct *>e.other[k], False)
    return True


cdef inline void eight_found(const Row *r, Eight *e) noexcept nogil:
    """Behind those of which all is known, the first one stands in."""
    cdef uint32_t k
    e.until = r.fc.lanes_until
    for k in range(e.n, <uint32_t>LANES if e.n else 0):
        e.lane[k] = e.lane[0]
        e.way[k] = e.way[0]
        e.ct[k] = e.ct[0]
        e.ref[k] = e.ref[0]


# ---- connections

cdef inline bint lane_stands(const Core *c, const Eight *e, uint32_t k, const LaneWay *y) noexcept nogil:
    """Is the connection of TCP the one that was noted, as it was, and alive, and are the tunnel's headers as known?"""
    cdef const Ct *ct = <const Ct *>e.ct[k]
    return (<uint16_t>ct.serial == lane_serial(e, k, y.tcp) and ct.status == y.facts.status and ct.expires > c.now
            and (y.pop_len == 0 or tunnel_is(y.pop, y.pop_len, <uint16_t>e.sport[k], e.frame[k] + ETH)))


cdef inline uint16_t lane_serial(const Eight *e, uint32_t k, int i) noexcept nogil:
    """Of a flow's ``i``-th connection."""
    return (<const uint16_t *>&e.serial[k])[i]


cdef inline bint lane_other_agrees(Core *c, const Eight *e, uint32_t k, const LaneWay *y) noexcept nogil:
    """Would the connection that is not of TCP, if there is one, see the packet? Then it has."""
    if e.other[k] == NULL:
        return True
    if not track_stands(c, &y.tracks[1], <const Ct *>e.other[k], lane_serial(e, k, 1 - y.tcp)):
        return False
    track_told(c, &y.tracks[1], <Ct *>e.other[k])
    return True


cdef inline bint lane_agrees(Core *c, const Eight *e, uint32_t k, const LaneWay *y) noexcept nogil:
    """Would both connections see the packet, whose windows let it through? Then the one that is not of TCP has."""
    if rarely(not e.stands >> k & 1) and not lane_stands(c, e, k, y):
        return False
    return lane_other_agrees(c, e, k, y)


cdef inline void lane_told(const Eight *e, uint32_t k, const LaneWay *y, int64_t now) noexcept nogil:
    """The connection of TCP has seen its packet."""
    cdef Ct *ct = <Ct *>e.ct[k]
    cdef uint8_t *tcp = <uint8_t *>&ct.proto.tcp
    cdef uint32_t flags = e.next_flags[k], lives = e.lives[k]
    cdef int64_t timeout = y.timeout_unacked if lives else y.timeout
    memcpy(tcp, &e.next_side[0][k], 16)
    put_raw16(tcp + 16, flags)
    memcpy(tcp + 18, &e.next_side[1][k], 16)
    put_raw16(tcp + 18 + 16, flags >> 16)
    memcpy(tcp + 36, &e.next_last[k], 16)
    if rarely(lives & ~LANE_UNACKED):
        timeout = way_timeout(y, lives)
    ct.expires = now + timeout


cdef inline int64_t lane_lasts(const LaneWay *y, const Ct *other) noexcept nogil:
    """For how long the other connection, if it is simple, lasts behind a packet, ns."""
    if rarely(y.timeout_other < 0):
        return other.proto.gre.stream_timeout if y.tracks[1].status & CTS_SEEN_REPLY else other.proto.gre.timeout
    return y.timeout_other


cdef inline void lane_leaves(Row *r, Eight *e, uint32_t k, const LaneWay *y, int64_t now) noexcept nogil:
    """What the packet leaves behind in tables that connections share, and what it gets of them."""
    cdef const Lane *l = <const Lane *>e.lane[k]
    if l.refreshed[0] != NULL:
        l.refreshed[0].updated = now
        if l.refreshed[1] != NULL:
            l.refreshed[1].updated = now
    e.draw[k] = 0
    if y.draws != NULL:
        y.draws[0] += 1
        e.draw[k] = y.push_hash + y.draws[0]
    r.walked += l.walked


# ---- their ends

cdef inline void lane_nowhere(const FlowCache *fc, Eight *e, uint32_t k) noexcept nogil:
    """The packet is written where nobody looks."""
    e.to[k] = <uint8_t *>fc.scratch + PKT_HEADROOM + spread(k)
    e.kept[k] = 0


cdef inline void eight_moves(Eight *e, const uint8_t *was, uint8_t *store) noexcept nogil:
    """The store is somewhere else now."""
    cdef uint32_t k
    for k in range(<uint32_t>LANES):
        if e.kept[k]:
            e.to[k] = store + (<uintptr_t>e.to[k] - <uintptr_t>was)


cdef inline bint store_opens(Row *r, uint64_t n, uint64_t size) noexcept nogil:
    """Room as in frames_room(), where packets that have not been written will stand somewhere else if that takes other memory."""
    cdef Core *c = r.c
    cdef const uint8_t *was = c.bytes.mem
    cdef bint room = frames_room(c, n, size)
    cdef uint32_t i
    if rarely(c.bytes.mem != was):
        for i in range(EIGHTS):
            eight_moves(&r.eight[i], was, c.bytes.mem)
            eight_moves(&r.arrivals.eight[i], was, c.bytes.mem)
    return room


cdef inline void lane_stays(Row *r, Eight *e, uint32_t k, const LaneWay *y, uint32_t id) noexcept nogil:
    """What is told of the packet: which captured devices see it, and its drop. Its bytes at the end will be written in the store."""
    cdef Core *c = r.c
    cdef uint32_t came = e.length[k] if y.early else 0, left = y.head_len + e.length_out[k] if y.late else 0
    cdef uint64_t first = c.bytes.n, then = first + came
    cdef FrameRecord *seen
    cdef const Tap *t
    cdef int i
    if not store_opens(r, y.n_taps, came + left):
        return
    seen = <FrameRecord *>(c.frames.mem + c.frames.n)
    if came:
        memcpy(c.bytes.mem + first, e.frame[k], came)
    c.bytes.n = then + left
    if left:
        e.to[k] = c.bytes.mem + then + y.head_len
        e.kept[k] = y.head_len + 1
    for i in range(y.n_taps):
        t = &y.tap[i]
        c.order += 1
        frame_record(&seen[i], c.now, c.order, t.dev, t.outgoing, then if t.late else first, left if t.late else came, id)
    c.frames.n += y.n_taps * sizeof(FrameRecord)
    if y.end == END_DROP:
        drop_record(c, y.dev, then if left else first, left if left else came, id, y.reason, y.origin)


cdef inline void lane_crosses(Row *r, Eight *e, uint32_t k, const LaneWay *y, uint32_t id) noexcept nogil:
    """It is under way to another device as in onward.pxd, where its bytes will be written."""
    cdef Core *c = r.c
    cdef const uint8_t *head = y.head + SHORT_HEAD - y.head_len
    cdef uint32_t n = y.head_len + e.length_out[k]
    cdef Pkt *p = light_new(c, PKT_HEADROOM + n + PKT_TAILROOM, id)
    if p == NULL:
        return
    p.l2 = PKT_HEADROOM
    p.end = PKT_HEADROOM + n
    p.hash = (<const Flow *>e.slot[k]).hash if y.hash_out else 0
    p.hash_l4 = y.hash_l4_out
    p.crossings = y.crossings
    p.sound = y.sound
    p.unfinished = y.unfinished_out
    p.foreseen.asked = False
    p.foreseen.shapes = 0
    p.foreseen.made = e.length_out[k] == e.total[k]
    e.to[k] = p.buf + PKT_HEADROOM + y.head_len
    c.root = r.root + (id - r.id)
    light_under_way(c, p, y.delay, light_passes(c, y.dev, y.delay, p, head))


cdef inline void lane_ends(Row *r, Eight *e, uint32_t k, const LaneWay *y, uint32_t id) noexcept nogil:
    """It does not just leave the world."""
    r.others += y.end != END_OUT
    if y.n_taps or y.end == END_DROP:
        lane_stays(r, e, k, y, id)
    if y.end == END_CROSS:
        lane_crosses(r, e, k, y, id)


cdef inline bint lane_goes(Row *r, Eight *e, uint32_t k, int64_t now, uint32_t id) noexcept nogil:
    """The connections see the packet of number ``id``, whose windows let it through, at its time; or one would not have it."""
    cdef Core *c = r.c
    cdef const LaneWay *y = <const LaneWay *>e.way[k]
    cdef int64_t before = c.now
    c.now = now
    if now >= e.until or not lane_agrees(c, e, k, y):
        c.now = before
        return False
    lane_told(e, k, y, now)
    lane_leaves(r, e, k, y, now)
    lane_nowhere(r.fc, e, k)
    if y.facts.bits & LANE_TOLD:
        e.placed = True
        lane_ends(r, e, k, y, id)
    return True


cdef inline bint lane_goes_quietly(Row *r, Eight *e, uint32_t k, bint simple) noexcept nogil:
    """lane_goes(), where eight_is_quiet() has said what all lanes have in common. ``simple``: as lanes_simple() says."""
    cdef const LaneWay *y = <const LaneWay *>e.way[k]
    cdef int64_t now = e.due[k]
    if not rarely(not simple):
        (<Ct *>e.other[k]).expires = now + lane_lasts(y, <const Ct *>e.other[k])
    else:
        r.c.now = now
        if not lane_other_agrees(r.c, e, k, y):
            return False
    lane_told(e, k, y, now)
    lane_leaves(r, e, k, y, now)
    return True


# ---- all of them

cdef inline size_t flows_farther(const FlowCache *fc) noexcept nogil:
    """Where the third line of memory begins, behind the one where a flow should be, that is asked for: in a table that no processor has
    near, waiting for the few flows that stand there costs more than asking for it for all."""
    return 2 * LINE if fc.slots > <uint32_t>FARTHER_FROM else 0


cdef inline void lane_asks(const Row *r, const Eight *e, uint32_t k) noexcept nogil:
    """What lies where its flow should, and beside it, is asked for."""
    ask_for(e.slot[k])
    ask_for(e.slot[k] + LINE)
    ask_for(e.slot[k] + r.farther)


cdef inline void row_writes(Row *r) noexcept nogil:
    """All frames that went are written, those in hand, too."""
    cdef Eight *e = &r.eight[r.turn & (EIGHTS - 1)]
    cdef uint32_t n = e.n
    e.n = r.lane
    lanes_write(e)
    e.n = n
    r.written = r.id + <uint32_t>r.gone + r.lane
