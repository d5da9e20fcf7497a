# Memory that a packet's flow will need is asked for before its turn comes: with a million flows, waiting for it is all the cost there is.
#
# Nothing here is remembered but places to look at: what becomes of a packet does not depend on it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from ext.devices.core cimport Core
from ext.fast.flows cimport (AHEAD, AHEAD_FROM, Ahead, First, Flow, FlowCache, Key, LINE, Program, Tracked, flow_home, flow_program,
                             flow_track)
from ext.fast.key cimport IP, Parsed
from ext.fast.megaflow cimport MegaHead, Megaflows, head_ahead, head_find, key_address
from ext.fast.sum cimport net16, raw32, raw64
from ext.tables.conntrack cimport tuple_ahead, tuple_nears
from ext.tables.ct_entry cimport Ct, CtKey, key_hash, layer4_word
from ext.wire.bytes cimport ask_for

cdef enum:
    AHEAD_TRACKS = 3  # packets after which what was asked for of one is near
    NEAR_PROBES = 8  # flows that are looked at
    CT_ASKED = 22  # of a connection's bytes, those from here on are read
    CT_SHORT = 65  # the last one of a protocol that notes little


cdef inline void connection_ahead(const Ct *ct, bint tcp) noexcept nogil:
    """Ask for what a packet will read of a connection."""
    if not tcp:
        ask_for(&ct.serial)
        ask_for(<const char *>ct + CT_SHORT)
        return
    ask_for(<const char *>ct + CT_ASKED)
    ask_for(<const char *>ct + CT_ASKED + LINE)
    ask_for(<const char *>(ct + 1) - 1)


cdef inline void tracks_ahead(const FlowCache *fc, const Flow *f, const Program *g, Tracked *tracked) noexcept nogil:
    """The connections of a flow, if there are not many."""
    cdef uint16_t serial
    cdef int i
    if g.more:
        return
    for i in range(g.n_tracks):
        tracked.ct[i] = flow_track(fc, f, g, i, &serial)
        connection_ahead(tracked.ct[i], i == g.tcp_track)


cdef inline void straight_ahead(const Program *g) noexcept nogil:
    """Ask for what of a program, and of the tables it notes packets in, a packet that goes straight needs: all lines but the first, which
    finding the flow has read, the third, which is read here, and the fifth, which only long headers need."""
    cdef const char *at = <const char *>g
    ask_for(at + LINE)
    ask_for(at + 3 * LINE)
    ask_for(at + 5 * LINE)
    ask_for(at + 6 * LINE)
    if g.n_refreshed:
        ask_for(&g.refreshed[0].updated)


cdef inline const MegaHead *key_head(const Core *c, const Key *k) noexcept nogil:
    """What packets of this sender are asked first; NULL: none of them is known."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const MegaHead *h
    if fc.megaflows == NULL:
        return NULL
    h = head_find(<const Megaflows *>fc.megaflows, fc.seed, k.place, key_address(k, 0))
    return h if h != NULL and h.generation == c.generation else NULL


cdef inline uint64_t ends_hash(int proto, uint64_t addresses, uint32_t ports) noexcept nogil:
    """key_hash() of the tables of connections, of what is here as it stands in a packet."""
    cdef const uint16_t *network = <const uint16_t *>&ports
    cdef uint16_t port[2]
    cdef CtKey key
    port[0] = net16(network[0])
    port[1] = net16(network[1])
    key.layer4 = layer4_word(4, proto, port)
    key.src = <const uint8_t *>&addresses
    key.dst = key.src + 4
    key.family = 4
    return key_hash(&key)


cdef inline uint8_t flow_proto(const Key *k) noexcept nogil:
    cdef uint32_t end = <uint32_t>k.place  # of what the IP header has: its last byte is the protocol
    return (<const uint8_t *>&end)[3]


cdef inline uint64_t answer_hash(const Key *k) noexcept nogil:
    """ends_hash() of the answers to a packet of this key that is not translated."""
    return ends_hash(flow_proto(k), k.addresses << 32 | k.addresses >> 32, k.ports << 16 | k.ports >> 16)


cdef inline void outer_read(Ahead *to, const Parsed *a, const uint8_t *frame) noexcept nogil:
    """The tuple of the tunnel's packet."""
    cdef const uint8_t *ip = frame + a.l3
    to.outer_proto = 0
    if a.inner != a.l3:
        to.outer_proto = ip[9]
        to.outer = raw64(ip + 12)
        to.outer_ports = raw32(ip + IP)


cdef inline uint64_t outer_hash(const Ahead *a) noexcept nogil:
    return ends_hash(a.outer_proto, a.outer, a.outer_ports)


cdef inline void first_ahead(const Core *c, const Key *k, First *first) noexcept nogil:
    """A flow's first packet will come: the line of its tuple, and that of its answers', where they are known."""
    cdef const MegaHead *h = key_head(c, k)
    first.head = h
    first.table = NULL
    if h == NULL or h.track_ns == NULL:
        return
    head_ahead(h)
    first.table = &h.track_ns.ct
    first.proto = flow_proto(k)
    first.hash = ends_hash(first.proto, k.addresses, k.ports)
    tuple_ahead(first.table, first.proto, first.hash)
    if not h.translates:
        tuple_ahead(first.table, first.proto, answer_hash(k))


cdef inline void first_nears(const First *first) noexcept nogil:
    """Somewhat later: the connection that has it, if it is no first packet after all."""
    if first.table != NULL:
        tuple_nears(first.table, first.proto, first.hash)


cdef inline const Flow *flow_near(const FlowCache *fc, const Key *k, uint64_t hash) noexcept nogil:
    """The flow that should lie there; NULL: it does not."""
    cdef const Flow *f = flow_home(fc, hash)
    cdef const Flow *end = f + NEAR_PROBES
    while f < end and f.program:
        if f.addresses == k.addresses and f.ports == k.ports:
            return f
        f += 1
    return NULL


cdef inline void ahead_leads(const Core *c, Ahead *a) noexcept nogil:
    """The packet's flow is near: its connections; or what its first packet will need, and the connection of the tunnel it comes in."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef const Flow *f = flow_near(fc, &a.key, a.hash)
    cdef Tracked tracked
    if f != NULL:
        tracks_ahead(fc, f, flow_program(fc, f), &tracked)
        return
    a.generation = c.generation
    first_ahead(c, &a.key, &a.first)
    if a.first.table != NULL and a.outer_proto:
        tuple_ahead(a.first.table, a.outer_proto, outer_hash(a))


cdef inline void ahead_nears(const Core *c, Ahead *a) noexcept nogil:
    if a.first.table == NULL or a.generation != c.generation:
        return
    first_nears(&a.first)
    if a.outer_proto:
        tuple_nears(a.first.table, a.outer_proto, outer_hash(a))


cdef inline void ahead_of(Core *c, const Parsed *p, const uint8_t *frame) noexcept nogil:
    """This packet will come: its flow now, and what those a few before it lead to."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef uint32_t i = fc.n_ahead & (AHEAD - 1)
    cdef Ahead *a = &fc.ahead[i]
    if fc.used + fc.wide < AHEAD_FROM:
        return  # all of it is near anyway
    ask_for(flow_home(fc, p.hash))
    ask_for(<const char *>flow_home(fc, p.hash) + LINE)
    a.key = p.key
    a.hash = p.hash
    outer_read(a, p, frame)
    a.first.table = NULL
    fc.n_ahead += 1
    ahead_leads(c, &fc.ahead[(i - AHEAD_TRACKS) & (AHEAD - 1)])
    ahead_nears(c, &fc.ahead[(i - 2 * AHEAD_TRACKS) & (AHEAD - 1)])
