# Eight packets that go straight, at once: TCP segments, which lanes.pxd reads, follows and writes, and whose tunnels and flows outer.pxd
# and lane_flows.pxd look at.
#
# Four steps, each for other eight frames: keys are read, flows and their connections are found, connections see their packets, and packets
# are written. So what lies far away in memory is asked for a step or two ahead, and what has been put in place word by word is read as a
# whole only when it has arrived there. Nothing but these packets changes anything meanwhile: what holds of programs does until the end. The
# first frame of which anything is not as nearly always ends it, and goes another way.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, Ns, chance_count
from ext.fast.ahead cimport connection_ahead
from ext.fast.apply cimport tunnel_is
from ext.fast.flows cimport (Flow, FlowCache, HOW_TRANSMIT, HOW_TUNNELLED, LINE, Lane, LaneWay, PLACE_TOS, PROBES_MAX, SCRATCH, Shape)
from ext.fast.headers cimport times_latest
from ext.fast.key cimport ETH, segments_begin, transport_sound, tunnel_plain, tunnel_shape
from ext.fast.lane cimport lane_fills, lanes_stamped, way_timeout
from ext.fast.lane_flows cimport lanes_find
from ext.fast.lanes cimport (Eight, LANE_UNACKED, LANES, LaneKeys, lanes_frames, lanes_look, lanes_pass, lanes_repeat, lanes_write)
from ext.fast.outer cimport lanes_tunnelled
from ext.fast.routed cimport spread
from ext.fast.straight cimport straight_until
from ext.fast.sum cimport put_raw16, raw32
from ext.fast.track cimport track_stands, track_told
from ext.tables.conntrack cimport Ct, CtRef, ct_of
from ext.wire.bytes cimport ask_for, rarely
from ext.wire.packet cimport PKT_HEADROOM, PKT_TAILROOM

cdef enum:
    EIGHTS = 4  # in hand, a power of two
    DATA_AHEAD = 32  # frames that are asked for before their keys are read
    LANE_MOST = SCRATCH - PKT_HEADROOM - PKT_TAILROOM  # bytes of a frame

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
    int64_t until  # nothing goes so from this virtual time on
    uint64_t walked  # rules
    LaneKeys keys
    Eight eight[EIGHTS]


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


cdef inline uint32_t first_of(uint32_t bits) noexcept nogil:
    """How many bits are set before the first one that is not, of LANES."""
    cdef uint32_t n = 0
    if bits == (1 << LANES) - 1:
        return LANES
    while bits >> n & 1:
        n += 1
    return n


cdef inline uint32_t eight_frames(Row *r, Eight *e, uint64_t first) noexcept nogil:
    """The eight frames from number ``first`` on; how many may go so as far as their lengths tell. Others stand in for what is behind."""
    cdef const uint8_t *frame = r.data + r.starts[first]
    cdef uint32_t at = segments_begin(r.fc, r.c.dev[r.devs[first]], frame, r.lengths[first]), n, k
    cdef uint64_t how = HOW_TRANSMIT | (HOW_TUNNELLED if at != ETH else 0)
    if at == 0:
        return 0
    n = first_of(lanes_frames(e, r.data, r.starts + first, r.lengths + first, r.devs + first, at, LANE_MOST, <uint32_t>(how >> PLACE_TOS)))
    for k in range(n, <uint32_t>LANES if n else 0):
        e.frame[k] = e.frame[0]
        e.ip[k] = e.ip[0]
        e.length[k] = e.length[0]
    return n


cdef inline void eight_look(Row *r, Eight *e, uint64_t first) noexcept nogil:
    """Read keys; ``e.n``: of how many, from the first one on."""
    cdef uint32_t n, unsummed, untold, k
    e.n = 0
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
        e.lane[k] = <const uint8_t *>l
        e.way[k] = <const uint8_t *>l.way
        e.serial[k] = raw32(<const uint8_t *>f.serial)
        e.sport[k] = f.sport
    return f


cdef inline uint8_t *way_ct(const LaneWay *y, int i, CtRef ref) noexcept nogil:
    return <uint8_t *>ct_of(&(<const Ns *>y.tracks[i].ns).ct, ref)


cdef inline bint lane_found(Row *r, Eight *e, uint32_t k, bint found) noexcept nogil:
    """The packet's flow, program and connections are found. ``found``: but for the connections lanes_find() has found them."""
    cdef const Flow *f = <const Flow *>e.slot[k]
    cdef const LaneWay *y
    if not found:
        f = lane_sought(r, e, k)
        if f == NULL:
            return False
    y = <const LaneWay *>e.way[k]
    e.ref[k] = f.ct[y.tcp]
    e.ct[k] = way_ct(y, 0, f.ct[y.tcp])
    e.other[k] = way_ct(y, 1, f.ct[1 - y.tcp]) if y.n_tracks > 1 else NULL
    return True


cdef inline void lane_nears(const Eight *e, uint32_t k) noexcept nogil:
    """Its connections are asked for."""
    connection_ahead(<const Ct *>e.ct[k], True)
    if e.other[k] != NULL:
        connection_ahead(<const Ct *>e.other[k], False)


cdef inline void eight_found(const Row *r, Eight *e) noexcept nogil:
    """Behind those of which all is known, the first one stands in."""
    cdef uint32_t k
    e.until = min(r.until, r.fc.lanes_until)
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


cdef inline bint lane_agrees(Core *c, const Eight *e, uint32_t k, const LaneWay *y) noexcept nogil:
    """Would both connections see the packet, whose windows let it through? Then the one that is not of TCP has."""
    if rarely(not e.stands >> k & 1) and not lane_stands(c, e, k, y):
        return False
    if e.other[k] != NULL:
        if not track_stands(c, &y.tracks[1], <const Ct *>e.other[k], lane_serial(e, k, 1 - y.tcp)):
            return False
        track_told(c, &y.tracks[1], <Ct *>e.other[k])
    return True


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


cdef inline void lane_leaves(Core *c, Eight *e, uint32_t k, const Lane *l, const LaneWay *y) noexcept nogil:
    """What the packet leaves behind in tables that connections share, and what it gets of them."""
    if l.refreshed[0] != NULL:
        l.refreshed[0].updated = c.now
        if l.refreshed[1] != NULL:
            l.refreshed[1].updated = c.now
    e.draw[k] = y.push_hash + chance_count(<Ns *>y.push_ns, y.push_hash)[0] if y.push_ns != NULL else 0


cdef inline bint lane_goes(Row *r, Eight *e, uint32_t k) noexcept nogil:
    """The connections see the packet, whose windows let it through, at its time; or one would not have it, or something else is due."""
    cdef Core *c = r.c
    cdef const Lane *l = <const Lane *>e.lane[k]
    cdef const LaneWay *y = <const LaneWay *>e.way[k]
    cdef int64_t before = c.now, now = max(before, r.times[e.first + k])
    c.now = now
    if now >= e.until or not lane_agrees(c, e, k, y):
        c.now = before
        return False
    lane_told(e, k, y, now)
    lane_leaves(c, e, k, l, y)
    r.walked += l.walked
    return True


# ---- all of them

cdef inline void lane_asks(const Row *r, const Eight *e, uint32_t k, bint more) noexcept nogil:
    """What lies where its flow should, and beside it, is asked for, and, if there are as many, the frame that comes some frames later."""
    ask_for(e.slot[k])
    ask_for(e.slot[k] + LINE)
    if more:
        ask_for(r.data + r.starts[e.first + k + DATA_AHEAD])


cdef inline bint asks_more(const Row *r, const Eight *e) noexcept nogil:
    return e.first + LANES + DATA_AHEAD <= r.past


cdef inline void eight_opens(const FlowCache *fc, Eight *e) noexcept nogil:
    """Where its packets are written."""
    cdef uint32_t k
    e.n = 0
    for k in range(<uint32_t>LANES):
        e.to[k] = <uint8_t *>fc.scratch + PKT_HEADROOM + spread(k)


cdef inline bint row_begins(Row *r, Core *c) noexcept nogil:
    """False: nothing can go so."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef uint32_t i
    r.c = c
    r.fc = fc
    r.until = straight_until(c)
    r.walked = 0
    r.keys.seed = fc.key_seed
    r.keys.flow = fc.flow
    r.keys.slots = fc.slots
    for i in range(EIGHTS):
        eight_opens(fc, &r.eight[i])
    lanes_stamped(c, fc, c.now)
    return c.now < r.until and fc.n_programs != 0


cdef inline void row_counts(Row *r, uint64_t n) noexcept nogil:
    """So many frames have gone."""
    cdef Core *c = r.c
    r.fc.hits += n
    r.fc.abreast += n
    c.n_roots += n
    c.root = c.n_roots
    c.next_packet += <uint32_t>n
    c.count.received += n
    c.count.out += n
    c.count.rules_walked += r.walked


cdef inline void eights_step(Row *r, Eight *e, Eight *behind, Eight *next, const Eight *later) noexcept nogil:
    """Those in hand, ``e``, go; those ``behind`` are written, of the ``next`` the flows are found, and what lies where the flows of ``later``
    ones should is asked for: lane by lane, as more lines of memory than some twenty at a time are not fetched."""
    cdef int64_t latest = max(r.c.now, times_latest(r.times + e.first, LANES))
    cdef uint32_t again = lanes_repeat(e.ref), passed = lanes_pass(e, latest), k
    cdef uint32_t found = lanes_find(next, r.fc.lane, r.fc.lanes_stamp) if next.n else 0
    cdef bint more = asks_more(r, later)
    lanes_write(behind)
    for k in range(<uint32_t>LANES):
        if k < e.n:
            if rarely(again >> k & 1):
                passed = lanes_pass(e, latest)  # its connection is another now
            if not passed >> k & 1 or not lane_goes(r, e, k):
                e.n = k
        if k < next.n:
            if lane_found(r, next, k, found >> k & 1):
                lane_nears(next, k)
            else:
                next.n = k
        if later.n:
            lane_asks(r, later, k, more)
    eight_found(r, next)


cdef inline void eight_finds(Row *r, Eight *e, const Eight *later) noexcept nogil:
    """The flows of all of them, while those of ``later`` ones are asked for."""
    cdef uint32_t found = lanes_find(e, r.fc.lane, r.fc.lanes_stamp) if e.n else 0, k
    cdef bint more = asks_more(r, later)
    for k in range(<uint32_t>LANES):
        if k < e.n and not lane_found(r, e, k, found >> k & 1):
            e.n = k
        if k < e.n:
            lane_nears(e, k)
        if later.n:
            lane_asks(r, later, k, more)
    eight_found(r, e)


cdef inline void eights_begin(Row *r, uint64_t first) noexcept nogil:
    """The first eight are found, and the next looked at."""
    r.eight[EIGHTS - 1].n = r.eight[1].n = 0
    eight_look(r, &r.eight[0], first)
    if first + 2 * LANES <= r.past:
        eight_look(r, &r.eight[1], first + LANES)
    eight_finds(r, &r.eight[0], &r.eight[1])


cdef inline uint64_t abreast_run(Core *c, Row *r, uint64_t first) noexcept nogil:
    """Carry frames from number ``first`` on, of which there are eight or more, eight and eight, as far as that goes; how many."""
    cdef uint64_t i = 0, n = 0
    cdef Eight *e
    cdef Eight *later
    if not row_begins(r, c):
        return 0
    eights_begin(r, first)
    while True:
        e = &r.eight[i & (EIGHTS - 1)]
        if e.n == 0:
            break
        later = &r.eight[(i + 2) & (EIGHTS - 1)]
        later.n = 0
        if first + n + 3 * LANES <= r.past:
            eight_look(r, later, first + n + 2 * LANES)
        eights_step(r, e, &r.eight[(i - 1) & (EIGHTS - 1)], &r.eight[(i + 1) & (EIGHTS - 1)], later)
        n += e.n
        i += 1
        if e.n < LANES:
            break
    lanes_write(&r.eight[(i - 1) & (EIGHTS - 1)])
    row_counts(r, n)
    return n
