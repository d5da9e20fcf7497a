# What of a program is asked of each of its packets that go eight at a time: a cache line of its own, and what it has in common with others,
# which stays near. Filled in when its first packet comes; see abreast.pxd.

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from ext.devices.core cimport Core, Ns, carries_frames, chance_counter
from ext.devices.record cimport END_ARRIVE, END_CROSS, END_DROP, END_OUT
from ext.fast.apply cimport program_holds
from ext.fast.flows cimport (FLOW_TRACKS, FlowCache, HOW_RESET, HOW_TRANSMIT, LANE_OWN_TIMEOUT, LANE_POP, LANE_REFRESHED, LANE_WAYS, Lane,
                             LaneWay, PLACE_DEVICE, Program, SHORT_HEAD, Shortcut, Track)
from ext.fast.frame cimport sound_after
from ext.fast.key cimport ETH, IP
from ext.fast.lanes cimport (LANE_DESTINATION, LANE_LIBERAL, LANE_LONG, LANE_NO_WINDOW, LANE_OTHER, LANE_POPS_UDP, LANE_PUSHES,
                             LANE_PUSHES_UDP, LANE_PUSH_UDP, LANE_REPLY_AT, LANE_RETRANSMITS, LANE_RETRANS_AT, LANE_SECOND, LANE_SIMPLE,
                             LANE_SOURCE, LANE_TOLD, LANE_TRIMS, LANE_UNACKED)
from ext.fast.routed cimport entrance_of
from ext.tables.ct_settings cimport CTS_CONFIRMED, CTS_SEEN_REPLY, CtSettings
from ext.tables.ct_tcp cimport CT_TCP_ESTABLISHED, CTS_SPOKEN_IN, tcp_lives
from ext.wire.hash cimport words_hash
from ext.wire.ipv4 cimport IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_UDP


cdef inline bint program_repeats(const Program *g) noexcept nogil:
    """Do the program's packets come from outside, or from a wire to where they end, in a way that others can repeat?"""
    cdef int taps = g.short.n_taps
    if not g.short.there or g.many or g.more or g.place & HOW_RESET or g.end == END_ARRIVE:
        return False
    if g.end == END_CROSS and (not g.onward or (taps and g.short.tap[taps - 1].late)):
        return False  # its bytes would stand in the store and on the wire
    return g.plain if g.place & HOW_TRANSMIT else not (g.hash_told or g.end == END_CROSS)


cdef inline bint lane_is(const Program *g) noexcept nogil:
    """May packets of a program go eight at a time? All translations are those of the connection of TCP then."""
    cdef const Track *t = &g.tracks[g.tcp_track]
    cdef int i
    if not program_repeats(g):
        return False
    if (g.tcp_track >= FLOW_TRACKS or g.n_refreshed > LANE_REFRESHED or g.link_len != ETH
            or (t.status & CTS_SPOKEN_IN) == CTS_SEEN_REPLY or g.walked >> 32 or (g.pop and g.ops[g.pop - 1].n > LANE_POP)):
        return False
    for i in range(g.short.n_nats):
        if g.nat_track[i] != g.tcp_track:
            return False
    return True


cdef inline uint32_t way_bits(const Program *g) noexcept nogil:
    """LANE_* bits of what becomes of packets."""
    cdef const Shortcut *s = &g.short
    cdef uint32_t bits = s.hops | (LANE_PUSH_UDP if g.push_udp else 0) | (LANE_TRIMS if s.trims else 0)
    cdef int i
    if s.head_len > 64:
        bits |= LANE_LONG
    if s.n_taps or g.end != END_OUT:
        bits |= LANE_TOLD
    if g.n_tracks > 1:
        bits |= LANE_OTHER
    for i in range(s.n_nats):
        bits |= LANE_DESTINATION if s.manip[i] else LANE_SOURCE
    if s.pushes:
        bits |= LANE_PUSHES | (LANE_PUSHES_UDP if s.head[SHORT_HEAD - (s.head_len - s.outer) + 9] == 17 else 0)
    return bits


cdef inline void way_pops(LaneWay *y, const uint8_t *headers, uint32_t n) noexcept nogil:
    """The tunnel that packets come in. What tunnel_is() asks for: not lengths, identifications, checksums and the UDP source port."""
    y.pop_len = <uint8_t>n
    y.at = <uint16_t>(ETH + n)
    memcpy(y.pop, headers, n)
    memset(y.pop_asked, 0xff, n)
    memset(y.pop_asked + 2, 0, 4)
    memset(y.pop_asked + 10, 0, 2)
    if headers[9] == 17:
        y.facts.bits |= LANE_POPS_UDP
        memset(y.pop_asked + IP, 0, 2)
        memset(y.pop_asked + IP + 4, 0, 4)


cdef inline void way_ends(LaneWay *y, const Program *g) noexcept nogil:
    """Where packets are seen, and what becomes of them."""
    cdef int i
    y.end = g.end
    y.n_taps = g.short.n_taps
    for i in range(g.short.n_taps):
        y.tap[i] = g.short.tap[i]
        y.early |= not g.short.tap[i].late
        y.late |= g.short.tap[i].late
    if g.end == END_DROP:
        y.dev = g.dev
        y.reason = g.reason
        y.origin = g.origin
        y.shown = g.shown
        y.late |= not (g.shown and y.early)
    if g.end == END_CROSS:
        y.dev = g.dev
        y.delay = g.delay
        y.hash_out = g.hash_out
        y.hash_l4_out = g.hash_l4_out
        y.crossings = g.crossings
        y.sound = sound_after(g, 0)
        y.unfinished_out = g.unfinished_out


cdef inline void way_begins(LaneWay *y, const Program *g) noexcept nogil:
    """What packets that it is for have in common before it."""
    if g.pop:
        way_pops(y, g.bytes + g.ops[g.pop - 1].at, g.ops[g.pop - 1].n)
    if g.place & HOW_TRANSMIT:
        return
    y.hash_in = g.hash_in
    y.hash_l4_in = g.hash_l4_in
    y.unfinished_in = g.unfinished_in
    y.cables = g.cables
    y.inner = g.inner


cdef inline uint32_t lanes_set(const CtSettings *s) noexcept nogil:
    """What of LaneFacts.bits are settings."""
    return <uint32_t>s.tcp_max_retrans << LANE_RETRANS_AT | (LANE_LIBERAL if s.tcp_be_liberal else 0)


cdef inline uint32_t track_simple(const Track *t) noexcept nogil:
    """LaneFacts.other of a connection, see ct_udp_packet(), ct_gre_packet() and ct_generic_packet()."""
    cdef uint32_t status = <uint16_t>t.status
    cdef bint simple = t.proto == IPPROTO_IPIP
    if t.proto == IPPROTO_UDP:
        simple = not t.status & CTS_SEEN_REPLY
    elif t.proto == IPPROTO_GRE:
        simple = (t.status & CTS_SPOKEN_IN) != CTS_SEEN_REPLY  # or it would be assured now
    return status | (LANE_SIMPLE if simple and t.status & CTS_CONFIRMED else 0)


cdef inline int64_t other_timeout(const LaneWay *y) noexcept nogil:
    """LaneWay.timeout_other."""
    cdef const CtSettings *s
    if y.n_tracks < 2:
        return 0
    s = &(<const Ns *>y.tracks[1].ns).ct.set
    if y.tracks[1].proto == IPPROTO_GRE:
        return LANE_OWN_TIMEOUT
    return s.udp_timeout if y.tracks[1].proto == IPPROTO_UDP else s.generic_timeout


cdef inline void way_draft(LaneWay *y, const Program *g) noexcept nogil:
    """What of a program others may have, too. All that is not said is 0, as bytes are compared."""
    cdef const Shortcut *s = &g.short
    cdef const Track *t = &g.tracks[g.tcp_track]
    memset(y, 0, sizeof(LaneWay))
    y.facts.push_sum = g.push_sum
    y.facts.udp_sum = g.push_udp_sum + s.link_sum
    y.facts.before = s.head_len - s.outer
    y.facts.status = <uint16_t>t.status
    y.facts.bits = (way_bits(g) | (LANE_SECOND if g.tcp_track else 0) | <uint32_t>t.dir << LANE_REPLY_AT
                    | lanes_set(&(<const Ns *>t.ns).ct.set))
    y.push_hash = g.push_hash
    if g.push_ns != NULL:
        y.draws = chance_counter(<Ns *>g.push_ns, g.push_hash)
    y.tracks[0] = t[0]
    if g.n_tracks > 1:
        y.tracks[1] = g.tracks[1 - g.tcp_track]
        y.facts.other = track_simple(&y.tracks[1])
    y.tcp = g.tcp_track
    y.n_tracks = g.n_tracks
    memcpy(y.head, s.head, sizeof(y.head))
    y.head_len = s.head_len
    way_begins(y, g)
    way_ends(y, g)


cdef inline size_t way_compared() noexcept nogil:
    """Bytes from its beginning that say whether two are the same."""
    return <size_t>&(<LaneWay *>NULL).timeout


cdef inline LaneWay *way_new(FlowCache *fc, const LaneWay *draft) noexcept nogil:
    """NULL when memory is out."""
    cdef LaneWay **grown
    cdef LaneWay *y
    cdef uint32_t cap
    if fc.n_ways == fc.cap_ways:
        cap = fc.cap_ways * 2 if fc.cap_ways else 16
        grown = <LaneWay **>realloc(fc.way, cap * sizeof(LaneWay *))
        if grown == NULL:
            return NULL
        fc.way = grown
        fc.cap_ways = cap
    y = <LaneWay *>malloc(sizeof(LaneWay))
    if y != NULL:
        y[0] = draft[0]
        fc.way[fc.n_ways] = y
        fc.n_ways += 1
    return y


cdef inline int64_t way_timeout(const LaneWay *y, uint32_t lives) noexcept nogil:
    """Of the connection of TCP behind a packet; ``lives``: LANE_* bits."""
    cdef const CtSettings *s = &(<const Ns *>y.tracks[0].ns).ct.set
    cdef int64_t timeout = tcp_lives(s, CT_TCP_ESTABLISHED, lives & LANE_RETRANSMITS, lives & LANE_UNACKED, lives & LANE_NO_WINDOW)
    if not y.facts.status & CTS_SEEN_REPLY and timeout > s.tcp_timeout_unacknowledged:
        timeout = s.tcp_timeout_unacknowledged
    return timeout


cdef inline void way_joins(LaneWay *y, uint64_t stamp) noexcept nogil:
    """What settings make of it."""
    cdef const CtSettings *s = &(<const Ns *>y.tracks[0].ns).ct.set
    if y.stamp == stamp:
        return
    y.stamp = stamp
    y.facts.bits = (y.facts.bits & ~(<uint32_t>0xff << LANE_RETRANS_AT | LANE_LIBERAL)) | lanes_set(s)
    y.timeout = way_timeout(y, 0)
    y.timeout_unacked = way_timeout(y, LANE_UNACKED)
    y.timeout_other = other_timeout(y)


cdef inline LaneWay *way_of(FlowCache *fc, const Program *g, LaneWay *had) noexcept nogil:
    """The one it had, or one of the same content that another program has and that is remembered; NULL when memory is out."""
    cdef LaneWay draft
    cdef LaneWay *y
    cdef uint32_t *at
    way_draft(&draft, g)
    if had != NULL:
        way_joins(had, fc.lanes_stamp)
        if memcmp(had, &draft, way_compared()) == 0:
            return had
    at = &fc.way_at[words_hash(0, <const uint8_t *>&draft, way_compared()) & (LANE_WAYS - 1)]
    y = fc.way[at[0] - 1] if at[0] else NULL
    if y == NULL or memcmp(y, &draft, way_compared()) != 0:
        y = way_new(fc, &draft)
        at[0] = fc.n_ways if y != NULL else at[0]
    return y


cdef inline bint lane_may(Core *c, FlowCache *fc, Program *g) noexcept nogil:
    """Does the program hold, and will no frame at its device go by its route alone?"""
    cdef int dev = <int>(g.place >> PLACE_DEVICE) - 1
    return (lane_is(g) and program_holds(c, g) and c.dev[dev] != NULL and carries_frames(c.dev[dev])
            and entrance_of(c, &fc.routed, dev, g.place & HOW_TRANSMIT != 0) == NULL)


cdef inline void lane_fills(Core *c, FlowCache *fc, uint32_t number) noexcept nogil:
    """The first packet of a program comes."""
    cdef Program *g = fc.program[number]
    cdef Lane *l = &fc.lane[number]
    cdef LaneWay *had = l.way
    cdef int i
    l.stamp = fc.lanes_stamp
    l.way = way_of(fc, g, had) if lane_may(c, fc, g) else NULL
    l.place = 0  # none that a packet has
    if l.way == NULL:
        return
    way_joins(l.way, l.stamp)
    memcpy(l.link, g.link, sizeof(l.link))
    l.place = g.place
    l.longest = g.longest
    l.widest = g.widest
    l.walked = <uint32_t>g.walked
    for i in range(LANE_REFRESHED):
        l.refreshed[i] = g.refreshed[i] if i < g.n_refreshed else NULL
    fc.lanes_until = min(fc.lanes_until, g.checked_until)


cdef inline void lanes_stamped(const Core *c, FlowCache *fc, int64_t now) noexcept nogil:
    """What is known of programs may hold no longer: then all of it is found out anew."""
    if fc.lanes_stamp and fc.lanes_generation == c.generation and fc.lanes_moves == c.moves and now < fc.lanes_until:
        return
    fc.lanes_stamp += 1
    fc.lanes_generation = c.generation
    fc.lanes_moves = c.moves
    fc.lanes_until = INT64_MAX
