# The flow cache's tables: flows, and the programs that say what becomes of their packets.
#
# A flow is what tells packets of one connection and direction at one place apart, in 32 bytes: two to a cache line. What flows on the
# same way have in common, that place among it, is a program that they share; what their connections say is read there. Nothing here
# decides anything: what is not found, or no longer true, is left to the stages.

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset
from ext.devices.core cimport Core, Ns
from ext.fast.lanes cimport KEY_MIX_FIRST, KEY_MIX_THEN, KEY_SEEDS, LaneFacts
from ext.fast.routed cimport Routed, SPREAD, routed_free
from ext.fast.sum cimport net16, raw32
from ext.tables.conntrack cimport Ct, CtRef, CtTable, ct_of
from ext.tables.ct_settings cimport CtStatus
from ext.tables.fdb cimport FdbEntry
from ext.tables.memory cimport memory_give, memory_lines, memory_take, memory_take_whole
from ext.wire.bytes cimport ask_for, rarely, zero_bytes
from ext.wire.hash cimport mix64, words_hash

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size) noexcept nogil

cdef enum:
    OPS_MAX = 40
    CHECKS_MAX = 16
    REFRESH_MAX = 4
    TRACKS_MAX = 4
    FLOW_TRACKS = 2  # of them in the flow itself
    NATS_MAX = 4
    LANE_REFRESHED = 2
    LANE_POP = 64
    LANE_OWN_TIMEOUT = -1
    LANE_WAYS = 1 << 10  # places for what programs have in common, a power of two
    PROGRAM_BYTES = 320
    PROGRAMS_MAX = (1 << 16) - 1  # then all is forgotten, and learnt again
    OUTLIVED_MAX = 1 << 12  # programs that changes have put others of the same content in the place of, the same
    SHAPES_MAX = 8
    FLOWS_FIRST = 1 << 11
    FLOWS_DOUBLED = 1 << 16  # up to so many slots they become twice as many, beyond a quarter more
    FLOWS_MAX = 1 << 26  # slots: 2 GiB
    PROBES_MAX = 128  # slots from where a flow should be; of three million flows in a table that is to grow none is farther away
    PROBES_NEAR = 32  # where a free slot is rather taken than one whose flow is stale, as that takes a look at the flow's connections
    STALE_AHEAD = 16  # slots whose flows' connections are asked for before they are looked at
    STALE_SAMPLE = 256  # slots that are looked at before all are
    SCRATCH = 4096
    SHORT_HEAD = 128  # bytes of headers before the inner IP header that a shortcut can have
    SHORT_TAPS = 4
    LEARN_ALL = 1 << 12  # flows; where there are more, most packets that no connection is tracked for may be of flows that never come again
    LEARN_ONE_OF = 4  # packets then, a power of two, beside those of flows that have been seen before
    SEEN_BITS = 20  # of the table that says so, by which it is looked at
    SEEN_SIZE = 2 << SEEN_BITS  # its bytes
    RELAYS = 64  # places for switches, a power of two
    AHEAD = 16  # packets whose memory is asked for, a power of two
    AHEAD_FROM = 1 << 9  # flows: fewer are near anyway
    LINE = 64  # bytes of a cache line
    HASH_NONE = 0
    HASH_KEPT = 1  # the one it came with
    HASH_OF_FLOW = 2
    PLACE_DEVICE = 43  # bits of a key's place before the device
    PLACE_TOS = 32
    DEVICES_MAX = (1 << 21) - 1  # that have room in it

cdef extern from *:
    """
    #define HOW_TRANSMIT ((uint64_t)1 << 40)
    #define HOW_TUNNELLED ((uint64_t)1 << 41)
    #define HOW_RESET ((uint64_t)1 << 42)
    """
    const uint64_t HOW_RESET  # TCP segments that reset their connection
    const uint64_t HOW_TRANSMIT  # handed to a device's transmit queue, not received
    const uint64_t HOW_TUNNELLED  # addresses and ports are those inside of a tunnel

cdef struct Key:
    uint64_t place  # device + 1, HOW_*, TOS, and from DF to the protocol as the IP header has it; never 0
    uint64_t addresses
    uint32_t ports

cdef struct First:
    # where a packet without a flow will be looked for by its tuple
    const void *head  # MegaHead of its sender, NULL: not known
    const CtTable *table  # NULL: not known
    uint64_t hash
    uint8_t proto

cdef struct Ahead:
    # a packet that will come
    Key key
    uint64_t hash
    uint64_t outer  # addresses of the tunnel's packet
    uint32_t outer_ports
    uint8_t outer_proto  # 0: it comes in none
    First first
    uint32_t generation  # when ``first`` was found

cdef struct Flow:
    uint64_t addresses
    uint32_t ports
    uint32_t hash  # of the flow (skb->hash), 0: not known
    CtRef ct[FLOW_TRACKS]  # of the program's tracks; if its ``more`` is set: [0] is the place in FlowCache.more
    uint16_t serial[FLOW_TRACKS]  # of the connections: another one now, and the flow is stale
    uint16_t program  # number + 1; 0: a free slot
    uint16_t sport  # UDP source port of the tunnel, as it stands in the packet

cdef struct Tracked:
    # the connections of a flow that has no more of them than room for
    Ct *ct[FLOW_TRACKS]

cdef struct FlowMore:
    CtRef ct[TRACKS_MAX]
    uint16_t serial[TRACKS_MAX]
    uint64_t nat[NATS_MAX]  # as in nat_value()

cdef struct Op:
    uint8_t kind  # STEP_*
    uint8_t y
    uint16_t n
    int x
    uint32_t at
    int origin  # of a change that is told

cdef struct Check:
    void *p  # neighbour or FDB entry
    int x  # states of a neighbour, bridge of an FDB entry
    int port  # of the FDB entry
    uint8_t mac[6]  # of the neighbour
    uint8_t kind  # STEP_NEIGH, STEP_FDB, STEP_LEARN

cdef struct Track:
    void *ns
    uint32_t status
    uint8_t dir
    uint8_t proto

cdef struct Tap:
    int dev
    uint8_t outgoing
    uint8_t late  # it sees the frame as it is in the end, else as it came

cdef struct Shortcut:
    # what a program's ops come to in the end, where no interface in the middle is captured; see shortcut.pxd
    uint8_t there
    uint8_t trims
    uint8_t hops  # that the inner packet's TTL loses
    uint8_t n_nats
    uint8_t manip[NATS_MAX]  # MANIP_* of each translation
    uint8_t n_taps
    uint8_t head_len
    uint8_t pushes  # the head ends in a tunnel's headers
    uint8_t outer  # where in the head the tunnel's IP header begins
    uint8_t ethernet  # bytes of Ethernet header between tunnel and inner IP header
    uint32_t link_sum  # of that Ethernet header, folded
    Tap tap[SHORT_TAPS]
    uint8_t head[SHORT_HEAD]  # its last bytes

cdef struct LaneWay:
    # what programs whose packets may go eight at a time have in common; see lane.pxd
    LaneFacts facts
    uint8_t pop[LANE_POP]  # the tunnel's headers that packets come in,
    uint8_t pop_asked[LANE_POP]  # and which bits of them count
    uint8_t head[SHORT_HEAD]  # as in Shortcut
    uint8_t pop_len  # bytes of ``pop``, 0: packets come in none
    uint8_t tcp  # which of a flow's connections is the one of TCP
    uint8_t n_tracks
    uint8_t head_len  # bytes of ``head``
    uint64_t push_hash
    uint16_t *draws  # the counter of what is drawn for their tunnel, NULL: nothing is
    Track tracks[FLOW_TRACKS]  # of the connection of TCP, and of the other one
    uint16_t at  # where the IP header that keys are about stands in frames that come in a tunnel, else 0
    # what packets from a wire have found out before, as in Program
    uint8_t hash_in
    uint8_t hash_l4_in
    uint8_t unfinished_in
    uint8_t cables
    uint8_t inner
    # how they end, as in Program and Shortcut
    uint8_t end
    uint8_t shown
    uint8_t early  # captured devices see the frame as it came,
    uint8_t late  # and as it is in the end, or its drop tells that
    uint8_t n_taps
    uint8_t hash_out
    uint8_t hash_l4_out
    uint8_t crossings
    uint8_t sound
    uint8_t unfinished_out
    int dev
    int reason
    int origin
    int64_t delay
    Tap tap[SHORT_TAPS]
    # what is true of it now
    int64_t timeout  # of the connection of TCP behind a packet: if all is acknowledged,
    int64_t timeout_unacked  # and if not
    int64_t timeout_other  # of the other connection, if LANE_SIMPLE; LANE_OWN_TIMEOUT: it has one of its own, see lane_lasts()
    uint64_t stamp

cdef struct Lane:
    # of a program, in one cache line: what is asked of each packet that goes so; lanes.pxd reads words of it by their places (LANE_*_AT)
    uint32_t link[3]  # addresses of the Ethernet header
    uint32_t longest  # as in Program, as all of these
    uint64_t place
    uint64_t stamp  # FlowCache.lanes_stamp when it was filled in
    FdbEntry *refreshed[LANE_REFRESHED]
    LaneWay *way  # NULL: they do not
    uint32_t widest
    uint32_t walked

cdef struct Program:
    # what two flows on the same way have in common, and so is compared
    uint64_t place  # of their keys
    uint8_t link[14]  # Ethernet header at the beginning
    uint8_t link_len
    uint8_t n_ops
    uint8_t n_checks
    uint8_t n_tracks
    uint8_t n_nats
    uint8_t nat_track[NATS_MAX]  # the connection that translates
    uint8_t more  # its flows have more to remember than they have room for
    uint8_t pop  # index + 1 of the op that takes off the tunnel that the packet comes in, 0: it comes in none
    uint8_t hash_in  # the packet has a hash (Pkt.hash) from the start
    uint8_t hash_told  # and it must be the flow's, for a tunnel asks for it
    uint8_t hash_out  # HASH_*: what it has in the end
    uint8_t hash_l4_in
    uint8_t hash_l4_out
    uint8_t unfinished_in  # as Pkt.unfinished
    uint8_t unfinished_out
    uint8_t cables  # crossed in all
    uint8_t crossings  # of them since the last router
    uint8_t routed
    uint8_t inner  # it goes through receive paths of its own instant
    uint8_t end  # END_*
    uint8_t push_udp  # the tunnel's UDP header has a checksum
    uint16_t n_bytes
    uint16_t room  # bytes that have to be free before the frame
    int dev  # of the end
    int64_t delay
    uint64_t walked
    void *push_ns
    uint64_t push_hash
    uint32_t push_sum  # of the outer IP header without length and identification
    uint32_t push_udp_sum  # of the outer pseudo header, and of everything from the UDP header on, without lengths and source port
    int reason
    int origin
    # what is true of it now
    uint32_t longest  # bytes of a frame that the way has been seen to take, without what lies behind its packet
    uint32_t widest  # and with that
    uint32_t generation
    uint64_t moves  # what Core.moves was when all checks held
    int64_t checked_until  # and the virtual time from which on one of them has to be made again
    FdbEntry *refreshed[REFRESH_MAX]  # addresses that bridges see as the source of the packet
    Track *tracks  # this and the other arrays are all in one piece of memory with it, behind each other
    uint8_t n_refreshed
    uint8_t n_taps  # among its ops
    uint8_t plain  # at the beginning there is neither hash nor unfinished checksum
    uint8_t many  # connections: more than stand in a flow, or more than one of TCP
    uint8_t tcp_track  # the one of TCP, FLOW_TRACKS: none
    uint8_t straight  # the usual case, see straight.pxd
    uint8_t onward  # the usual case of packets that cross a wire, see onward.pxd
    uint8_t relays  # what it stands for is a switch on the wire
    uint8_t shown  # what is dropped in the end is as the last captured device has seen it
    int8_t deeper  # tunnels that its packets are in at the end, beside those at the beginning
    uint16_t ahead_inner  # where in the packets of the tunnel that they enter the IP header stands that keys are about
    uint32_t ahead  # FlowCache.n_shapes + 1 when this was found out, at ``ahead_dev``
    uint64_t content  # hash of all that is compared
    int ahead_dev
    Shortcut short  # stands where its ``head`` begins a cache line; straight_ahead() of ahead.pxd counts lines from the program's beginning
    Op *ops
    Check *checks
    uint8_t *bytes

cdef struct Draft:
    # a program that is being learnt
    Program program
    Op ops[OPS_MAX]
    Check checks[CHECKS_MAX]
    Track tracks[TRACKS_MAX]
    uint8_t bytes[PROGRAM_BYTES]

cdef struct Shape:
    # tunnels that end in a namespace: where the inner packet begins
    int ns
    int at  # bytes behind the outer IP header's first
    uint16_t port  # UDP destination port as it stands in the packet, 0: not in UDP
    uint8_t proto
    uint8_t frames

cdef struct FlowCache:
    Flow *flow
    uint32_t slots  # where flows should be; behind them there is room for those that are not
    uint32_t used
    FlowMore *more
    uint32_t n_more
    uint32_t cap_more
    Program **program
    uint32_t n_programs
    uint32_t n_outlived  # of them
    uint32_t cap_programs
    uint64_t program_bytes
    uint32_t *by_content  # program number + 1
    uint32_t content_mask
    Shape shape[SHAPES_MAX]
    int n_shapes
    uint64_t seed
    uint32_t key_seed[KEY_SEEDS]
    Lane *lane  # by program number
    LaneWay **way  # all of them
    uint32_t n_ways
    uint32_t cap_ways
    uint32_t way_at[LANE_WAYS]  # number + 1 by content: the last one that was made there
    uint64_t lanes_stamp  # counts what lanes are known to hold for: what follows,
    uint32_t lanes_generation
    uint64_t lanes_moves
    int64_t lanes_until  # and up to this virtual time
    uint32_t waits  # frames that go without a try whether they go eight at a time,
    uint32_t rest  # and so many did after the last one that was in vain
    Key learning  # of the packet that the recorder follows
    uint64_t learning_hash
    uint16_t *seen  # tags of flows that were not learnt when they were met
    uint32_t learning_length  # as Program.longest
    uint32_t learning_width
    uint32_t learning_packet_hash
    Draft draft
    Ahead ahead[AHEAD]
    uint32_t n_ahead
    uint16_t relay[RELAYS]  # numbers + 1 of programs that stand for switches, where they may be found, or what has been one
    uint64_t hits
    uint64_t shared  # of the hits: carried in windows, by several threads
    uint64_t abreast  # of the hits: carried eight at a time
    uint64_t dealt  # of the hits: both
    uint64_t misses  # packets of a kind that could have been in the cache
    uint64_t others  # packets of no such kind
    uint64_t learnt
    uint64_t changes  # of which flows there are, and where
    uint64_t full  # flows that found no room
    uint64_t flushes
    uint64_t wide  # of the hits: packets that a megaflow carried
    void *megaflows  # Megaflows of megaflow.pxd, NULL: none yet
    Routed routed
    uint8_t scratch[SCRATCH + SPREAD]


cdef inline void world_seen(Core *core, FlowCache *cache, const Core *c) noexcept nogil:
    """For a thread beside the one that carries: the world and its flows as they are, to be read; what it writes is its own."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    core.ns = c.ns
    core.dev = c.dev
    core.tracing = c.tracing
    core.generation = c.generation
    core.moves = c.moves
    cache.flow = fc.flow
    cache.slots = fc.slots
    cache.more = fc.more
    cache.program = fc.program
    memcpy(cache.shape, fc.shape, sizeof(fc.shape))
    cache.n_shapes = fc.n_shapes
    cache.seed = fc.seed
    memcpy(cache.key_seed, fc.key_seed, sizeof(fc.key_seed))
    cache.lane = fc.lane
    cache.lanes_stamp = fc.lanes_stamp
    cache.lanes_until = fc.lanes_until


cdef inline uint64_t key_hash(const uint32_t *seed, const Key *k) noexcept nogil:
    """Seeded: a hostile capture cannot know which flows share a line. Sums of products of pairs of words (NH of UMAC, J. Black et al., 1999:
    of two keys they are rarely the same), whose bits are mixed then; lanes_home() of lanes.pxd does the same."""
    cdef uint32_t x
    cdef uint64_t h = <uint64_t>(<uint32_t>k.addresses + seed[0]) * (<uint32_t>(k.addresses >> 32) + seed[1])
    h += <uint64_t>(k.ports + seed[2]) * (<uint32_t>k.place + seed[3])
    h += <uint64_t>(<uint32_t>(k.place >> 32) + seed[4]) * seed[5]
    x = <uint32_t>(h ^ h >> 32) * KEY_MIX_FIRST
    x = (x ^ x >> 15) * KEY_MIX_THEN
    return <uint64_t>x << 32 | <uint32_t>h


cdef inline void key_seeds(uint32_t *seed, uint64_t of) noexcept nogil:
    cdef int i
    for i in range(KEY_SEEDS):
        seed[i] = <uint32_t>(mix64(of + <uint64_t>i) >> 32)


cdef inline size_t flows_size(uint32_t slots) noexcept nogil:
    return (<size_t>slots + PROBES_MAX) * sizeof(Flow)


cdef inline Flow *flow_home(const FlowCache *fc, uint64_t hash) noexcept nogil:
    """Where a flow of this hash should be: at the beginning of a cache line, in which there is room for another. Those of a smaller hash
    are before it, however many slots there are."""
    return &fc.flow[((hash >> 32) * fc.slots >> 32) & ~<uint64_t>1]


cdef inline FlowCache *cache_new(uint64_t seed) noexcept nogil:
    """NULL when memory is out."""
    cdef FlowCache *fc = <FlowCache *>calloc(1, sizeof(FlowCache))
    if fc == NULL:
        return NULL
    fc.seed = mix64(seed ^ <uint64_t>0x666c6f7773)
    key_seeds(fc.key_seed, fc.seed)
    fc.flow = <Flow *>memory_take(flows_size(FLOWS_FIRST))
    if fc.flow == NULL:
        free(fc)
        return NULL
    fc.seen = <uint16_t *>memory_take(SEEN_SIZE)
    if fc.seen == NULL:
        memory_give(fc.flow, flows_size(FLOWS_FIRST))
        free(fc)
        return NULL
    fc.slots = FLOWS_FIRST
    fc.n_more = 1
    return fc


cdef inline void programs_forget(FlowCache *fc) noexcept nogil:
    cdef uint32_t i
    for i in range(fc.n_programs):
        free(fc.program[i])
    for i in range(fc.n_ways):
        free(fc.way[i])
    fc.n_ways = 0
    memset(fc.way_at, 0, sizeof(fc.way_at))
    if fc.lane != NULL:
        memset(fc.lane, 0, fc.cap_programs * sizeof(Lane))
    fc.n_programs = fc.n_outlived = 0
    fc.program_bytes = 0
    if fc.by_content != NULL:
        memset(fc.by_content, 0, (<size_t>fc.content_mask + 1) * sizeof(uint32_t))


cdef inline void cache_free(FlowCache *fc) noexcept nogil:
    if fc == NULL:
        return
    routed_free(&fc.routed)
    programs_forget(fc)
    free(fc.program)
    free(fc.lane)
    free(fc.way)
    free(fc.by_content)
    free(fc.more)
    memory_give(fc.flow, flows_size(fc.slots))
    memory_give(fc.seen, SEEN_SIZE)
    free(fc)


cdef inline uint64_t cache_bytes(const FlowCache *fc) noexcept nogil:
    """Memory that it holds."""
    return (sizeof(FlowCache) + SEEN_SIZE + flows_size(fc.slots) + fc.cap_more * sizeof(FlowMore) + fc.program_bytes
            + fc.cap_programs * (sizeof(Program *) + sizeof(Lane) + 2 * sizeof(uint32_t)) + fc.n_ways * sizeof(LaneWay) + fc.routed.bytes)


cdef inline void cache_flush(FlowCache *fc) noexcept nogil:
    """Forget everything."""
    programs_forget(fc)
    memset(fc.flow, 0, flows_size(fc.slots))
    fc.used = 0
    fc.n_more = 1
    fc.flushes += 1
    fc.changes += 1


cdef inline bint cache_learns(FlowCache *fc) noexcept nogil:
    """Is a flow that no connection vouches for to be learnt from this packet? That costs about as much as the packet itself, so where
    there are many it is when it comes again, or by chance, for those whose tags have been overwritten meanwhile."""
    cdef uint16_t *seen = &fc.seen[fc.learning_hash >> (64 - SEEN_BITS)]
    cdef uint16_t tag = <uint16_t>(fc.learning_hash | 1)
    cdef bint again
    if fc.used < LEARN_ALL:
        return True
    again = seen[0] == tag
    seen[0] = tag
    return again or mix64(fc.misses) & (LEARN_ONE_OF - 1) == 0


cdef inline Program *flow_program(const FlowCache *fc, const Flow *f) noexcept nogil:
    return fc.program[f.program - 1]


cdef inline Flow *flow_find(const FlowCache *fc, const Key *k, uint64_t hash) noexcept nogil:
    cdef Flow *f = flow_home(fc, hash)
    cdef const Flow *end = f + PROBES_MAX
    while f < end and f.program:
        if f.addresses == k.addresses and f.ports == k.ports and flow_program(fc, f).place == k.place:
            return f
        f += 1
    return NULL


cdef inline const CtTable *track_table(const Program *g, int i) noexcept nogil:
    return &(<const Ns *>g.tracks[i].ns).ct


cdef inline Ct *flow_track(const FlowCache *fc, const Flow *f, const Program *g, int i, uint16_t *serial) noexcept nogil:
    """A flow's ``i``-th connection, and the serial it had."""
    if rarely(g.more):
        serial[0] = fc.more[f.ct[0]].serial[i]
        return ct_of(track_table(g, i), fc.more[f.ct[0]].ct[i])
    serial[0] = f.serial[i]
    return ct_of(track_table(g, i), f.ct[i])


cdef inline uint64_t nat_value(const uint8_t *address, uint32_t port) noexcept nogil:
    """What a translation makes of one side: the address, and above it the port, both as they stand in the packet."""
    return <uint64_t>port << 32 | raw32(address)


cdef inline uint64_t track_nat(const Ct *ct, int dir, int manip) noexcept nogil:
    """The same of a connection's packets: they go where its answers come from, and come from where these go to."""
    return nat_value(ct.address4[1 - dir][1 - manip], net16(ct.port[1 - dir][1 - manip]))


cdef inline uint64_t flow_nat(const FlowCache *fc, const Flow *f, const Program *g, int i, int manip) noexcept nogil:
    """The same of a flow's ``i``-th translation."""
    cdef int track = g.nat_track[i]
    cdef uint16_t serial
    if rarely(g.more):
        return fc.more[f.ct[0]].nat[i]
    return track_nat(flow_track(fc, f, g, track, &serial), g.tracks[track].dir, manip)


cdef inline bint flow_is_stale(const FlowCache *fc, const Flow *f, uint32_t generation) noexcept nogil:
    """Will it never be of use again?"""
    cdef const Program *g = flow_program(fc, f)
    cdef uint16_t serial
    cdef Ct *ct
    cdef int i
    if g.generation != generation:
        return True
    for i in range(g.n_tracks):
        ct = flow_track(fc, f, g, i, &serial)
        if <uint16_t>ct.serial != serial:
            return True
    return False


cdef inline void stale_ahead(const FlowCache *fc, const Flow *f) noexcept nogil:
    """flow_is_stale() will be asked soon."""
    cdef const Program *g
    cdef uint16_t serial
    cdef int i
    if f.program == 0:
        return
    g = flow_program(fc, f)
    for i in range(g.n_tracks):
        ask_for(&flow_track(fc, f, g, i, &serial).serial)


cdef inline Flow *flow_slot(FlowCache *fc, const Key *k, uint64_t hash, uint32_t generation) noexcept nogil:
    """The flow's slot, or a free or stale one for it; NULL: all are taken."""
    cdef Flow *f = flow_find(fc, k, hash)
    cdef const Flow *end
    if f != NULL:
        return f
    f = flow_home(fc, hash)
    end = f + PROBES_NEAR
    while f < end and f.program:
        f += 1
    if f == end:
        f = flow_home(fc, hash)
        end = f + PROBES_MAX
        while f < end and f.program and not flow_is_stale(fc, f, generation):
            f += 1
        if f == end:
            return NULL
    fc.used += f.program == 0
    return f


cdef inline void flow_moves(FlowCache *fc, const Flow *was) noexcept nogil:
    """Into a table that it is not in yet."""
    cdef Key k
    cdef Flow *f
    cdef const Flow *end
    k.place = flow_program(fc, was).place
    k.addresses = was.addresses
    k.ports = was.ports
    f = flow_home(fc, key_hash(fc.key_seed, &k))
    end = f + PROBES_MAX
    while f < end:
        if f.program == 0:
            f[0] = was[0]
            fc.used += 1
            return
        f += 1


cdef inline bint some_stale(const FlowCache *fc, uint32_t generation) noexcept nogil:
    """Is any flow of a sample stale?"""
    cdef uint32_t i, step = fc.slots // STALE_SAMPLE
    for i in range(STALE_SAMPLE):
        if fc.flow[i * step].program and flow_is_stale(fc, &fc.flow[i * step], generation):
            return True
    return False


cdef inline bint flows_grow(FlowCache *fc, uint32_t generation) noexcept nogil:
    """More slots, without what is stale, if there is much of that; all that is there moves in order. False: memory is out, or the
    limit is reached."""
    cdef uint32_t old = fc.slots, slots = old + (old if old < FLOWS_DOUBLED else old // 4)
    cdef Flow *was = fc.flow
    cdef Flow *to
    cdef uint64_t i
    cdef bint clean = not some_stale(fc, generation)
    if slots > FLOWS_MAX:
        return False
    to = <Flow *>memory_take_whole(flows_size(slots))
    if to == NULL:
        return False
    fc.changes += 1
    fc.flow = to
    fc.slots = slots
    fc.used = 0
    for i in range(<uint64_t>old + PROBES_MAX):
        if not clean and i + STALE_AHEAD < <uint64_t>old + PROBES_MAX:
            stale_ahead(fc, &was[i + STALE_AHEAD])
        if was[i].program and (clean or not flow_is_stale(fc, &was[i], generation)):
            flow_moves(fc, &was[i])
    memory_give(was, flows_size(old))
    return True


cdef inline uint32_t more_new(FlowCache *fc) noexcept nogil:
    """A fresh FlowMore, 0 when memory is out. They are given back all at once, by cache_flush()."""
    cdef uint32_t cap
    cdef FlowMore *grown
    if fc.n_more >= fc.cap_more:
        cap = fc.cap_more * 2 if fc.cap_more else 64
        grown = <FlowMore *>realloc(fc.more, <size_t>cap * sizeof(FlowMore))
        if grown == NULL:
            return 0
        fc.more = grown
        fc.cap_more = cap
    fc.n_more += 1
    memset(&fc.more[fc.n_more - 1], 0, sizeof(FlowMore))
    return fc.n_more - 1


# ---- programs

cdef inline void draft_begin(Draft *d) noexcept nogil:
    """Empty; what its arrays have in them is never read."""
    zero_bytes(&d.program, sizeof(Program))
    d.program.ops = d.ops
    d.program.checks = d.checks
    d.program.tracks = d.tracks
    d.program.bytes = d.bytes


cdef inline size_t program_compared() noexcept nogil:
    return <size_t>&(<Program *>NULL).longest


cdef inline uint64_t content_of(uint64_t h, const void *what, size_t n) noexcept nogil:
    return words_hash(h, <const uint8_t *>what, n)


cdef inline uint64_t program_content(const Program *g) noexcept nogil:
    cdef uint64_t h = content_of(0, g, program_compared())
    h = content_of(h, g.ops, g.n_ops * sizeof(Op))
    h = content_of(h, g.checks, g.n_checks * sizeof(Check))
    h = content_of(h, g.tracks, g.n_tracks * sizeof(Track))
    return content_of(h, g.bytes, g.n_bytes)


cdef inline bint programs_equal(const Program *a, const Program *b) noexcept nogil:
    return (a.content == b.content and memcmp(a, b, program_compared()) == 0 and memcmp(a.ops, b.ops, a.n_ops * sizeof(Op)) == 0
            and memcmp(a.checks, b.checks, a.n_checks * sizeof(Check)) == 0
            and memcmp(a.tracks, b.tracks, a.n_tracks * sizeof(Track)) == 0 and memcmp(a.bytes, b.bytes, a.n_bytes) == 0)


cdef inline size_t program_size(const Program *g) noexcept nogil:
    cdef size_t n = sizeof(Program) + g.n_checks * sizeof(Check) + g.n_tracks * sizeof(Track) + g.n_ops * sizeof(Op) + g.n_bytes
    return (n + LINE - 1) & ~<size_t>(LINE - 1)


cdef inline Program *program_copy(const Program *from_draft) noexcept nogil:
    """In one piece of memory that begins a cache line; NULL when memory is out."""
    cdef Program *g = <Program *>aligned_alloc(LINE, program_size(from_draft))
    if g == NULL:
        return NULL
    g[0] = from_draft[0]
    g.tracks = <Track *>(g + 1)
    g.checks = <Check *>(g.tracks + g.n_tracks)
    g.ops = <Op *>(g.checks + g.n_checks)
    g.bytes = <uint8_t *>(g.ops + g.n_ops)
    memcpy(g.checks, from_draft.checks, g.n_checks * sizeof(Check))
    memcpy(g.tracks, from_draft.tracks, g.n_tracks * sizeof(Track))
    memcpy(g.ops, from_draft.ops, g.n_ops * sizeof(Op))
    memcpy(g.bytes, from_draft.bytes, g.n_bytes)
    return g


cdef inline bint programs_full(const FlowCache *fc) noexcept nogil:
    """Is it time to forget all?"""
    return fc.n_programs >= PROGRAMS_MAX or fc.n_outlived >= OUTLIVED_MAX


cdef inline bint programs_room(FlowCache *fc, uint32_t generation) noexcept nogil:
    """Room for one more program. False: memory is out."""
    cdef uint32_t cap, i, at
    cdef Program **grown
    cdef Lane *lane
    cdef uint32_t *places
    if fc.n_programs < fc.cap_programs:
        return True
    cap = fc.cap_programs * 2 if fc.cap_programs else 64
    lane = <Lane *>memory_lines(cap * sizeof(Lane))  # all are filled in anew
    if lane == NULL:
        return False
    free(fc.lane)
    fc.lane = lane
    grown = <Program **>realloc(fc.program, cap * sizeof(Program *))
    if grown == NULL:
        return False
    fc.program = grown
    places = <uint32_t *>calloc(cap * 2, sizeof(uint32_t))
    if places == NULL:
        return False
    free(fc.by_content)
    fc.by_content = places
    fc.content_mask = cap * 2 - 1
    fc.cap_programs = cap
    for i in range(fc.n_programs):
        if fc.program[i].generation != generation:
            continue
        at = <uint32_t>fc.program[i].content & fc.content_mask
        while places[at]:
            at = (at + 1) & fc.content_mask
        places[at] = i + 1
    return True


cdef inline int program_number(FlowCache *fc, Program *draft) noexcept nogil:
    """The number of the program of the same generation that says the same as ``draft``; -1: memory is out. One from before a change is not
    brought back: what one flow has learnt anew is true of that flow, and says nothing of others that went the same way before."""
    cdef uint32_t at
    cdef Program *g
    draft.content = program_content(draft)
    if not programs_room(fc, draft.generation):
        return -1
    at = <uint32_t>draft.content & fc.content_mask
    while fc.by_content[at]:
        g = fc.program[fc.by_content[at] - 1]
        if programs_equal(g, draft):
            if g.generation == draft.generation:
                if draft.longest > g.longest or draft.widest > g.widest:
                    g.longest = max(g.longest, draft.longest)
                    g.widest = max(g.widest, draft.widest)
                    fc.lane[fc.by_content[at] - 1].stamp = 0  # it says others
                g.relays = draft.relays
                return <int>fc.by_content[at] - 1
            fc.n_outlived += 1
            break
        at = (at + 1) & fc.content_mask
    g = program_copy(draft)
    if g == NULL:
        return -1
    fc.program_bytes += program_size(g)
    fc.program[fc.n_programs] = g
    fc.n_programs += 1
    fc.by_content[at] = fc.n_programs
    return <int>fc.n_programs - 1
