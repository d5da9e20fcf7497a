# Eights of frames by two threads: the reader reads keys, finds flows and writes what went, the follower lets connections see their packets,
# in order. Nobody else changes anything meanwhile, and the reader changes nothing but what it writes.
#
# Eights go round in a ring (pair_board.pxd). So what each works with stays in its own processor's caches: frames, flows and programs in
# one, connections in the other. Of each group of eights the follower takes the last one for himself, from its frames to its bytes: then
# both have about as much to do. The first eight of which anything is not as nearly always ends it in front of that packet, and all is as if
# there had been one thread.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from ext.devices.core cimport Core, event_due
from ext.fast.abreast cimport Row, eight_look, lane_asks, lane_connected, lane_goes_quietly
from ext.fast.ahead cimport connection_ahead
from ext.fast.flows cimport FlowCache, world_seen
from ext.fast.lane_flows cimport lanes_find, lanes_found
from ext.fast.lane_windows cimport lanes_follow, lanes_known, lanes_simple
from ext.fast.lane_write cimport lanes_tell, lanes_write, lanes_write_told
from ext.fast.lanes cimport Eight, LANES, LANE_LEAST, lanes_due, lanes_repeat
from ext.fast.pair_board cimport (PAIR_EIGHTS, PAIR_GOES, PAIR_HERE, PAIR_NOBODY, PAIR_OVER, PairBoard, pair_says, pair_seen, pair_turns,
                                  pair_waits, reply_ahead, slip_ahead, slip_ct, slip_of, slip_told)
from ext.fast.rows cimport arrays_ahead, eight_opens, lane_asks_ahead, row_begins, row_counts, starts_ahead
from ext.tables.conntrack cimport Ct
from ext.tables.memory cimport memory_lines
from ext.wire.bytes cimport ask_for, rarely

cdef enum:
    PAIR_LOOKS = 4  # eights whose keys are read before the flows of the first of them are found
    PAIR_AHEAD = 2  # eights whose connections are asked for before they go
    PAIR_SAYS = 4  # eights after which the other one is told, a power of two
    PAIR_HELD = PAIR_EIGHTS - 8  # eights that the reader has in hand before he asks how many have gone
    PAIR_GROUP = 5  # eights of which one is the follower's own
    PAIR_OWN = 4  # of these in hand, a power of two
    PAIR_LEAST = 8 * 8 * PAIR_GROUP  # frames
    PAIR_APART = 16  # frames behind those that went that one thread carries
    PAIR_REST = 1 << 14  # at most so many are not tried where it brings little
    NOT_YET = -1

cdef struct Pair:
    PairBoard board
    Eight front[PAIR_EIGHTS]  # the reader's
    Eight hand  # the follower's, of the reader's eights,
    Eight own[PAIR_OWN]  # and those that are his alone
    # the reader's world: what it reads stands apart from what the follower writes
    Core core
    FlowCache cache
    Row row
    uint64_t first  # frame
    uint64_t groups  # of eights, that there are
    bint meets  # they wait for each other, whatever that costs
    uint64_t least  # frames, or the meeting is not worth it
    uint64_t rest  # frames that are not tried next time it brings little
    uint64_t waits  # of these, frames that are still to come

cdef struct Reading:
    # how far the reader is, in eights of his, each in front of the other: those
    uint64_t looked  # whose keys are read,
    uint64_t found  # whose flows are found,
    uint64_t gone  # that are known to have gone,
    uint64_t wrote  # and that are written
    uint64_t end  # behind the last one
    uint64_t group  # of the next one whose keys will be read,
    uint32_t place  # and its place therein


cdef inline uint64_t eight_at(const Pair *p, uint64_t group, uint32_t place) noexcept nogil:
    """The first frame of an eight."""
    return p.first + (group * PAIR_GROUP + place) * LANES


cdef inline bint eight_known(Row *r, Eight *e, const Eight *later) noexcept nogil:
    """Of the eight's packets all is known but for their connections; while what lies where the flows of ``later`` ones should is asked
    for."""
    cdef const uint64_t *starts = starts_ahead(r, later)
    cdef uint32_t found = lanes_find(e, r.fc.lane, r.fc.lanes_stamp), k
    for k in range(<uint32_t>LANES):
        if not lane_connected(r, e, k, found >> k & 1):
            return False
        lane_asks_ahead(r, later, k, starts)
    return lanes_known(e) == (1 << LANES) - 1 and e.told == 0


# ---- the reader

cdef inline Eight *front_of(Pair *p, uint64_t i) noexcept nogil:
    return &p.front[i & (PAIR_EIGHTS - 1)]


cdef inline void reader_looks(Pair *p, Reading *at) noexcept nogil:
    """The next eight's keys."""
    cdef Eight *e = front_of(p, at.looked)
    eight_look(&p.row, e, eight_at(p, at.group, at.place))
    if e.n < <uint32_t>LANES:
        at.end = at.looked
        return
    at.looked += 1
    at.place += 1
    if at.place == PAIR_GROUP - 1:
        at.place = 0
        at.group += 1


cdef inline void reader_finds(Pair *p, Reading *at) noexcept nogil:
    """The next eight's flows; it is handed over."""
    cdef Eight *e = front_of(p, at.found)
    if not eight_known(&p.row, e, front_of(p, at.looked - 1)):
        at.end = at.looked = at.found
        return
    slip_of(&p.board.slip[at.found & (PAIR_EIGHTS - 1)], e)
    at.found += 1
    if at.found & (PAIR_SAYS - 1) == 0:
        pair_says(&p.board.reader.found, at.found)


cdef inline void reader_writes(Pair *p, Reading *at) noexcept nogil:
    """The first eight that went; when the next one has to be asked about, that is asked for."""
    if at.wrote + 2 < at.gone:
        reply_ahead(&p.board.reply[(at.wrote + 2) & (PAIR_EIGHTS - 1)])
    lanes_write_told(front_of(p, at.wrote), &p.board.reply[at.wrote & (PAIR_EIGHTS - 1)])
    at.wrote += 1
    if at.wrote + 1 == at.gone:
        ask_for(&p.board.follower.gone)


cdef inline void reader_ends(Pair *p, Reading *at) noexcept nogil:
    """Of the last eight only some went."""
    cdef Eight *e = front_of(p, at.wrote)
    cdef uint32_t lanes = <uint32_t>p.board.follower.lanes
    if lanes:
        e.n = lanes
        lanes_write_told(e, &p.board.reply[at.wrote & (PAIR_EIGHTS - 1)])


cdef inline bint reader_waits(Pair *p, Reading *at, uint32_t *times) noexcept nogil:
    """There is nothing to do before the follower has gone on. False: he will not."""
    pair_says(&p.board.reader.found, at.found)
    if at.found == at.end:
        pair_says(&p.board.reader.past, at.end)
    if pair_seen(&p.board.state.at) != PAIR_OVER:
        pair_waits(times)
        return True
    at.gone = pair_seen(&p.board.follower.gone)
    if at.gone != at.wrote:
        return True
    reader_ends(p, at)
    return False


cdef inline void pair_reads(Pair *p) noexcept nogil:
    """Until the follower says that it is over."""
    cdef Reading at
    cdef uint32_t times = 0, held
    memset(&at, 0, sizeof(Reading))
    at.end = p.groups * (PAIR_GROUP - 1)
    while True:
        held = <uint32_t>(at.looked - at.wrote)
        if at.looked < at.end and held < PAIR_EIGHTS and at.looked - at.found < <uint64_t>PAIR_LOOKS:
            reader_looks(p, &at)
        if at.found < at.looked and (at.looked - at.found == <uint64_t>PAIR_LOOKS or at.looked == at.end or held == PAIR_EIGHTS):
            reader_finds(p, &at)
        if at.wrote < at.gone:
            reader_writes(p, &at)
        elif held >= <uint32_t>PAIR_HELD or at.found == at.end:
            at.gone = pair_seen(&p.board.follower.gone)
            if at.gone == at.wrote and (held == PAIR_EIGHTS or at.found == at.end) and not reader_waits(p, &at, &times):
                return


cdef inline void pair_helps(Pair *p) noexcept nogil:
    """The reader's part of it, if it has not begun without him."""
    cdef uint32_t times = 0
    if not pair_turns(&p.board.state.at, PAIR_NOBODY, PAIR_HERE):
        return
    while pair_seen(&p.board.state.at) == PAIR_HERE:
        pair_waits(&times)
    if p.groups:
        pair_reads(p)


# ---- the follower

cdef inline void pair_one_by_one(Row *r, Eight *e, uint32_t again, uint32_t passed) noexcept nogil:
    """Packets of ``e`` go up to the first that cannot; ``e.n``: how many did. ``again``: bits of lanes whose connection is another by
    then."""
    cdef int64_t latest = e.due[LANES - 1], before
    cdef uint32_t k
    for k in range(<uint32_t>LANES):
        if again >> k & 1:
            passed = lanes_follow(e, latest)
        before = r.c.now
        if (not (passed & e.stands) >> k & 1 or e.due[k] >= r.fc.lanes_until or event_due(r.c, e.due[k])
                or not lane_goes_quietly(r, e, k, False)):
            r.c.now = before
            e.n = k
            return
        r.c.now = e.due[k]


cdef inline void pair_eight(Row *r, Eight *e, uint64_t frame, uint8_t *const *later) noexcept nogil:
    """Connections see the packets of an eight; ``e.n``: how many. ``later``: connections of TCP of another one, and behind them the other
    ones, which are asked for meanwhile."""
    cdef int64_t latest, before = r.c.now
    cdef uint32_t every = (1 << LANES) - 1, again, passed, simple, k
    arrays_ahead(r, frame)
    lanes_due(e, r.times + frame, before)
    latest = e.due[LANES - 1]
    again = lanes_repeat(e.ref)
    passed = lanes_follow(e, latest)
    simple = lanes_simple(e, latest)
    e.n = LANES
    if rarely((passed & e.stands) != every or again or latest >= r.fc.lanes_until or event_due(r.c, latest)):
        pair_one_by_one(r, e, again, passed)
        return
    for k in range(<uint32_t>LANES):
        if not lane_goes_quietly(r, e, k, simple >> k & 1):
            e.n = k
            break
        connection_ahead(<const Ct *>later[k], True)
        if later[LANES + k] != NULL:
            connection_ahead(<const Ct *>later[LANES + k], False)
    r.c.now = e.due[e.n - 1] if e.n else before


cdef inline void own_looks(Pair *p, Row *r, uint64_t group) noexcept nogil:
    """Keys of the follower's own eight in the group, if there is one; frames of the next one are asked for."""
    cdef Eight *e = &p.own[group & (PAIR_OWN - 1)]
    cdef uint64_t frame = eight_at(p, group, PAIR_GROUP - 1)
    cdef uint32_t k
    e.n = 0
    if group >= p.groups:
        return
    eight_look(r, e, frame)
    if group + 1 < p.groups:
        frame += PAIR_GROUP * LANES
    for k in range(<uint32_t>LANES if e.n else 0):
        lane_asks(r, e, k)
        ask_for(r.data + r.starts[frame + k])
        ask_for(r.data + r.starts[frame + k] + e.at + LANE_LEAST - 1)


cdef inline void own_finds(Pair *p, Row *r, uint64_t group) noexcept nogil:
    """Its flows."""
    cdef Eight *e = &p.own[group & (PAIR_OWN - 1)]
    if e.n < <uint32_t>LANES or not eight_known(r, e, e):
        e.n = 0


cdef inline bint own_goes(Pair *p, Row *r, uint64_t group) noexcept nogil:
    """It goes, and is written; those of later groups are prepared."""
    cdef Eight *e = &p.own[group & (PAIR_OWN - 1)]
    own_looks(p, r, group + 2)
    own_finds(p, r, group + 1)
    if e.n == 0:
        return False
    pair_eight(r, e, eight_at(p, group, PAIR_GROUP - 1), <uint8_t *const *>p.own[(group + 1) & (PAIR_OWN - 1)].ct)
    r.gone += e.n
    lanes_write(e)
    return e.n == <uint32_t>LANES


cdef inline bint pair_has(Pair *p, uint64_t i, uint64_t *found) noexcept nogil:
    """Is eight ``i`` of the reader's found? If so, how many are."""
    cdef uint32_t times = 0
    while found[0] <= i:
        found[0] = pair_seen(&p.board.reader.found)
        if found[0] > i:
            break
        if pair_seen(&p.board.reader.past) <= i:
            return False
        pair_waits(&times)
    if i + 2 * PAIR_AHEAD < found[0]:
        slip_ahead(&p.board.slip[(i + 2 * PAIR_AHEAD) & (PAIR_EIGHTS - 1)])
    return True


cdef inline bint hand_goes(Pair *p, Row *r, uint64_t i, uint64_t frame, uint64_t found) noexcept nogil:
    """Eight ``i`` of the reader's, of which so many are found, goes."""
    cdef Eight *e = &p.hand
    slip_told(e, &p.board.slip[i & (PAIR_EIGHTS - 1)])
    lanes_found(e, r.fc.lane)
    pair_eight(r, e, frame, slip_ct(&p.board.slip[min(i + PAIR_AHEAD, found - 1) & (PAIR_EIGHTS - 1)]))
    r.gone += e.n
    lanes_tell(e, &p.board.reply[i & (PAIR_EIGHTS - 1)])
    return e.n == <uint32_t>LANES


cdef inline uint64_t pair_follows(Pair *p, Row *r) noexcept nogil:
    """Up to the first packet that cannot go; how many eights of the reader's went."""
    cdef uint64_t i = 0, found = 0, group
    cdef uint32_t k
    own_looks(p, r, 0)
    own_looks(p, r, 1)
    own_finds(p, r, 0)
    for group in range(p.groups):
        for k in range(<uint32_t>(PAIR_GROUP - 1)):
            if not pair_has(p, i, &found):
                return i
            if not hand_goes(p, r, i, eight_at(p, group, k), found):
                p.board.follower.lanes = p.hand.n
                return i
            i += 1
            if i + 1 == found:
                ask_for(&p.board.reader.found)
            if i & (PAIR_SAYS - 1) == 0:
                pair_says(&p.board.follower.gone, i)
        if not own_goes(p, r, group):
            return i
    return i


# ---- both

cdef inline Pair *pair_new(bint meets) noexcept nogil:
    """NULL when memory is out."""
    cdef Pair *p = <Pair *>memory_lines(sizeof(Pair))
    if p != NULL:
        p.meets = meets
        p.least = <uint64_t>LANES * PAIR_GROUP if meets else <uint64_t>PAIR_LEAST
        p.core.fast = &p.cache
    return p


cdef inline void pair_opens(Pair *p) noexcept nogil:
    """Nobody reads yet, and nothing is found."""
    p.board.state.at = PAIR_NOBODY
    p.board.reader.found = p.board.follower.gone = p.board.follower.lanes = 0
    p.board.reader.past = <uint64_t>NOT_YET
    p.groups = 0


cdef inline bint pair_is_ready(const Pair *p) noexcept nogil:
    """Is the reader there?"""
    return pair_seen(&p.board.state.at) == PAIR_HERE


cdef inline void pair_parts(Pair *p) noexcept nogil:
    """There will be nothing to do for both."""
    pair_says(&p.board.state.at, PAIR_OVER)


cdef inline void pair_begins(Pair *p, Row *r, uint64_t first) noexcept nogil:
    """Both have the same before them."""
    cdef uint32_t i
    world_seen(&p.core, &p.cache, r.c)
    p.row.c = &p.core
    p.row.fc = &p.cache
    p.row.data = r.data
    p.row.devs = r.devs
    p.row.starts = r.starts
    p.row.lengths = r.lengths
    p.row.past = r.past
    p.row.farther = r.farther
    p.row.keys = r.keys
    p.row.shares = r.shares = True
    for i in range(PAIR_EIGHTS):
        eight_opens(&p.cache, &p.front[i])
    for i in range(PAIR_OWN):
        eight_opens(r.fc, &p.own[i])
    p.first = first
    p.groups = (r.past - first) // (LANES * PAIR_GROUP)


cdef inline uint64_t pair_goes(Core *c, Pair *p, Row *r, uint64_t first) noexcept nogil:
    """The row's frames from number ``first`` on by both; how many."""
    cdef uint64_t i = 0
    if row_begins(r, c):
        pair_begins(p, r, first)
        pair_says(&p.board.state.at, PAIR_GOES)
        i = pair_follows(p, r)
        row_counts(r)
        r.fc.shared += r.gone
    pair_says(&p.board.follower.gone, i)
    pair_parts(p)
    return r.gone


cdef inline void pair_meets(const Pair *p) noexcept nogil:
    """The reader is waited for."""
    cdef uint32_t times = 0
    while not pair_is_ready(p):
        pair_waits(&times)


# ---- when

cdef inline void pair_adapts(Pair *p, uint64_t carried) noexcept nogil:
    """So many frames went: where that is few, more are left alone each time."""
    p.rest = 0 if p.meets or carried >= p.least else min(max(2 * p.rest, p.least), <uint64_t>PAIR_REST)
    p.waits = p.rest


cdef inline void pair_later(Pair *p, uint64_t carried) noexcept nogil:
    """So many frames have gone otherwise."""
    if p != NULL:
        p.waits -= min(p.waits, carried)
