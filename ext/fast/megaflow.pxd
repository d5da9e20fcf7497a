# Megaflows: what walks of different flows have in common, so that a flow's first packets need not go from stage to stage.
#
# A flow stands for one connection; most of what the recorder saw its packet meet (bridges, neighbours, headers, devices) is the same for
# all connections of the same sender that leave by the same route. A megaflow is such a walk with everything taken out that depends on
# more: the connection, the rules, the route. Those are asked anew for each packet, by the stages' own functions, in the order
# in which the walk asked them (stages/megaflow_walk.pxd). The first of these asks, up to the route, are a sender's head; what
# they come to, with the route, tells which of the sender's megaflows it is.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from ext.devices.changes cimport CHANGE_RULE
from ext.devices.core cimport Core, Dev, Ns
from ext.devices.record cimport (ASK_NAT, ASK_POP, ASK_PUSH, ASK_ROUTE, ASK_SCRUB, ASK_TRACK, STEP_ASK, STEP_CHANGE, STEP_CROSS, STEP_NAT,
                                 STEP_POP, STEP_PUSH, STEP_TTL, Step)
from ext.encap.abi cimport DATAPLANE_ENCAP_STEADY_BUT_PORT
from ext.fast.flows cimport FlowCache, HASH_OF_FLOW, Key, LINE, Op, Program, TRACKS_MAX, Track, cache_free, more_new, program_copy, program_size
from ext.fast.key cimport Parsed
from ext.fast.sum cimport raw32
from ext.tables.fib cimport Route
from ext.tables.rules cimport HOOK_OUTPUT, HOOK_PREROUTING
from ext.wire.bytes cimport ask_for
from ext.wire.hash cimport word_hash
from ext.wire.packet cimport Pkt

cdef enum:
    ASKS_MAX = 40
    MEGAFLOWS_MAX = 1 << 14  # then all are forgotten
    MEGA_SLOTS = MEGAFLOWS_MAX * 2
    SEEN_MEGAS = 1 << 12  # tags of walks that were not kept when they were met
    KEEP_ALL_MEGAS = 1 << 9  # of the sender's and megaflows; where there are more, a walk is kept when it comes again
    WALKS_DIFFER = 255  # of Ask: it was none that is remembered
    CUT_OFTEN = 4  # walks that end at the same crossing, behind which the stages always do what cannot be repeated
    REFUSED_MANY = 32
    NAT_MANIP_DST = 1  # MANIP_DST of stages/nat.pxd
    MEGA_MORE = 0  # the place in FlowCache.more that no flow has: the translation of the packet in hand
    HEADERS_ROOM = 256  # bytes that a header is copied into, and as many before it for that of a tunnel

cdef struct Ask:
    void *ns
    uint8_t kind  # ASK_*
    uint8_t hook  # of ASK_PUSH: how often the packet has been forwarded before
    uint8_t table  # of ASK_NAT: the side that it translates
    uint8_t answer  # of ASK_NAT: nat_answer() to the walk's packet
    uint8_t known  # of tables: the walk of rules that the packet before took, as rules_decide() numbers them, or WALKS_DIFFER
    int dev  # that the packet is at
    int in_dev
    int out_dev
    void *device  # of ASK_PUSH: the tunnel's
    const Op *op  # of ASK_PUSH and ASK_POP

cdef struct MegaHead:
    uint64_t place
    uint32_t src
    uint32_t id
    uint32_t generation
    uint32_t refused  # packets in a row that went from stage to stage although it was known
    uint32_t n_asks
    Ask *asks
    # the first namespaces whose nat table and whose connections are asked, NULL: none is
    const Ns *nat_ns
    const Ns *track_ns
    uint8_t translates  # the packet before was translated by the last of these
    # what the packet before went by: memory that may be another's by now, which is only asked for
    const void *last
    const void *last_asks
    const void *last_program
    # how a packet came that was asked all that: another one may be dropped before
    uint8_t link[14]  # its Ethernet header
    uint8_t link_len
    uint32_t longest  # bytes of the frame

cdef struct Megaflow:
    uint32_t head
    uint32_t answers  # what the head's asks came to, see mega_answer()
    const void *route
    uint32_t dst  # 0: any that the route leads to
    uint32_t n_asks
    Ask *asks  # behind the head's
    const Ask *push  # into a tunnel whose source port the flow's hash says, which nothing changes before; NULL: none
    const Ask *push_tracked  # the tunnel's packet, afterwards
    Program *g  # NULL: walks of its kind have been cut off so far
    uint32_t cut  # how many
    # the flow program of a packet that changed no connection, once one was needed
    int flow_program  # -1: none
    uint64_t flow_walked
    uint64_t flow_flushes
    Track flow_tracks[TRACKS_MAX]

cdef struct Megaflows:
    MegaHead *head[MEGA_SLOTS]
    Megaflow *flow[MEGA_SLOTS]
    uint32_t n
    uint32_t next_id
    uint16_t seen[SEEN_MEGAS]
    uint64_t bytes
    Pkt packet  # what the stages' functions are shown
    uint8_t headers[2 * HEADERS_ROOM]

cdef struct MegaKey:
    uint32_t head
    uint32_t answers
    const void *route
    uint32_t dst


cdef inline uint32_t key_address(const Key *k, int side) noexcept nogil:
    """Source (``side`` 0) or destination (1), as it stands in the packet."""
    return raw32(<const uint8_t *>&k.addresses + 4 * side)


cdef inline bint has_route(const uint8_t *dst) noexcept nogil:
    """Is the destination one that a route is sought for? The others are taken in, or refused, without."""
    return not (dst[0] == 0 or dst[0] == 127 or dst[0] >= 224)


cdef inline uint64_t head_hash(uint64_t seed, uint64_t place, uint32_t src) noexcept nogil:
    return word_hash(seed ^ place, src)


cdef inline uint64_t mega_hash(uint64_t seed, const MegaKey *k) noexcept nogil:
    return word_hash(word_hash(seed ^ <uint64_t>k.route, <uint64_t>k.head << 32 | k.answers), k.dst)


cdef inline bint mega_is(const Megaflow *m, const MegaKey *k) noexcept nogil:
    return m.head == k.head and m.answers == k.answers and m.route == k.route and m.dst == k.dst


cdef inline Megaflow *mega_find(const Megaflows *t, uint64_t seed, const MegaKey *k) noexcept nogil:
    cdef uint64_t i = mega_hash(seed, k)
    cdef Megaflow *m
    while True:
        m = t.flow[i & (MEGA_SLOTS - 1)]
        if m == NULL or mega_is(m, k):
            return m
        i += 1


cdef inline MegaHead *head_find(const Megaflows *t, uint64_t seed, uint64_t place, uint32_t src) noexcept nogil:
    cdef uint64_t i = head_hash(seed, place, src)
    cdef MegaHead *h
    while True:
        h = t.head[i & (MEGA_SLOTS - 1)]
        if h == NULL or (h.place == place and h.src == src):
            return h
        i += 1


cdef inline uint32_t mega_answer(uint32_t answers, uint32_t more) noexcept nogil:
    """``more``: state and direction of a connection (ctinfo), or nat_answer(); less than 8."""
    return answers << 3 | more


cdef inline uint8_t nat_answer(bint translated, bint told) noexcept nogil:
    """Did the nat table translate the packet, and is it told which rule decided so?"""
    return translated | told << 1


cdef inline void mega_free(Megaflow *m) noexcept nogil:
    free(m.g)
    free(m.asks)
    free(m)


cdef inline void megaflows_forget(Megaflows *t) noexcept nogil:
    cdef int i
    for i in range(MEGA_SLOTS):
        if t.head[i] != NULL:
            free(t.head[i].asks)
            free(t.head[i])
            t.head[i] = NULL
        if t.flow[i] != NULL:
            mega_free(t.flow[i])
            t.flow[i] = NULL
    t.n = 0
    t.bytes = 0


cdef inline uint64_t megaflows_bytes(const FlowCache *fc) noexcept nogil:
    """Memory that they hold."""
    return sizeof(Megaflows) + (<const Megaflows *>fc.megaflows).bytes if fc.megaflows != NULL else 0


cdef inline uint64_t megaflows_known(const FlowCache *fc) noexcept nogil:
    """Senders and megaflows."""
    return (<const Megaflows *>fc.megaflows).n if fc.megaflows != NULL else 0


cdef inline void cache_gone(FlowCache *fc) noexcept nogil:
    """cache_free(), and the megaflows that it leads to."""
    if fc != NULL and fc.megaflows != NULL:
        megaflows_forget(<Megaflows *>fc.megaflows)
        free(fc.megaflows)
    cache_free(fc)


# ---- from a walk to a megaflow

cdef struct MegaDraft:
    Ask asks[ASKS_MAX]
    uint32_t n
    uint32_t head  # of them are the sender's
    MegaKey key
    uint32_t at_dst  # the destination of the packet as the walk goes on
    uint32_t head_dst  # what it was when the sender's head ended
    bint translated  # since the nat table was asked last
    bint told  # which rule said so
    bint inside  # the tunnel that the packet came in is off
    bint asked
    bint tracked
    bint pushed
    uint8_t hops


cdef inline void draft_ask(MegaDraft *d, const Step *s) noexcept nogil:
    cdef Ask *a = &d.asks[d.n]
    memset(a, 0, sizeof(Ask))
    d.n += 1
    a.kind = s.y
    a.ns = s.p
    a.dev = s.x
    if s.y != ASK_ROUTE:
        a.hook = <uint8_t>s.h
        a.table = <uint8_t>(s.h >> 8)
        a.in_dev = <int>(s.h >> 16 & 0xffffff) - 1
        a.out_dev = <int>(s.h >> 40) - 1


cdef inline bint nat_is_before_route(int hook) noexcept nogil:
    """Does the nat table translate destinations there, else sources?"""
    return hook == HOOK_PREROUTING or hook == HOOK_OUTPUT


cdef inline bint draft_decision(MegaDraft *d, const Step *s) noexcept nogil:
    """Something the walk asked. False: it is of a kind that no megaflow stands for."""
    cdef const Route *r
    if s.y == ASK_ROUTE:
        if not d.inside:
            return True  # the way of the tunnel's packet, whose addresses are always the same
        if d.head:
            d.key.dst = d.at_dst  # a second route to the same destination
            return d.at_dst == d.head_dst  # else the key would be about another one than it is looked up by
        r = <const Route *>s.h
        d.key.route = r
        if not r.has_gw:
            d.key.dst = d.at_dst
    draft_ask(d, s)
    d.asked = True
    if s.y == ASK_ROUTE:
        d.head = d.n
        d.head_dst = d.at_dst
    elif s.y == ASK_TRACK:
        d.tracked = True
        if d.head == 0:
            d.key.answers = mega_answer(d.key.answers, d.asks[d.n - 1].table)
        d.asks[d.n - 1].table = 0
    elif s.y == ASK_NAT:
        d.asks[d.n - 1].table = NAT_MANIP_DST if nat_is_before_route(d.asks[d.n - 1].hook) else 0
        if d.head == 0:
            d.key.answers = mega_answer(d.key.answers, nat_answer(d.translated, d.told))
        else:
            d.asks[d.n - 1].answer = nat_answer(d.translated, d.told)
        d.translated = d.told = False
    return True


cdef inline bint draft_step(MegaDraft *d, const Program *g, const Step *s, const uint8_t *bytes) noexcept nogil:
    cdef int i
    if d.n + 1 >= ASKS_MAX:
        return False
    if s.kind == STEP_ASK:
        return draft_decision(d, s)
    if s.kind == STEP_NAT:
        d.translated = True
        if s.x == NAT_MANIP_DST:
            if raw32(bytes) == d.at_dst:
                return False  # to another port of the same host: stages ask whether the address has changed
            d.at_dst = raw32(bytes)
        return True
    d.hops += s.kind == STEP_TTL
    d.told = d.told or (s.kind == STEP_CHANGE and s.y == CHANGE_RULE)
    if s.kind != STEP_CROSS and s.kind != STEP_PUSH and s.kind != STEP_POP:
        return True
    draft_ask(d, s)
    d.asks[d.n - 1].hook = d.hops
    d.asks[d.n - 1].kind = ASK_SCRUB if s.kind == STEP_CROSS else (ASK_PUSH if s.kind == STEP_PUSH else ASK_POP)
    d.asks[d.n - 1].dev = s.x
    if s.kind == STEP_CROSS:
        return True
    if s.kind == STEP_PUSH and d.head == 0:
        return False  # into a tunnel without a route
    d.inside = d.inside or s.kind == STEP_POP
    d.pushed = d.pushed or s.kind == STEP_PUSH
    for i in range(g.n_ops):
        if g.ops[i].kind == s.kind:
            d.asks[d.n - 1].op = &g.ops[i]
    d.asks[d.n - 1].device = s.q if s.kind == STEP_PUSH else NULL
    return True


cdef inline bint draft_asks(const Core *c, MegaDraft *d, const Program *g, int n_steps) noexcept nogil:
    """Read the walk's ``n_steps``. False: no megaflow stands for it."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef int i
    d.n = d.head = d.hops = 0
    memset(&d.key, 0, sizeof(MegaKey))
    d.at_dst = key_address(&fc.learning, 1)
    d.translated = d.told = d.asked = d.tracked = d.pushed = False
    d.inside = not g.pop
    if not has_route(<const uint8_t *>&d.at_dst):
        return False  # nothing that is asked tells it from others
    for i in range(n_steps):
        if not draft_step(d, g, &c.rec.steps[i], c.rec.bytes + c.rec.steps[i].at):
            return False
    return True


cdef inline bint mega_suits(const Program *g, const MegaDraft *d) noexcept nogil:
    """Is the walk one that a megaflow can stand for: one translation and one tunnel at most, and by a route if it asked anything?"""
    return (g.n_nats <= 1 and not (g.pop and d.pushed) and (g.hash_out != HASH_OF_FLOW or d.pushed)
            and (d.tracked and d.head > 0) == d.asked)


cdef inline bint heads_equal(const Ask *a, const Ask *b, uint32_t n) noexcept nogil:
    """Do they ask the same?"""
    cdef uint32_t i
    for i in range(n):
        if (a[i].ns != b[i].ns or a[i].kind != b[i].kind or a[i].hook != b[i].hook or a[i].table != b[i].table or a[i].dev != b[i].dev
                or a[i].in_dev != b[i].in_dev or a[i].out_dev != b[i].out_dev):
            return False
    return True


cdef inline Ask *asks_copy(const Ask *asks, uint32_t n) noexcept nogil:
    cdef Ask *copy = <Ask *>malloc((n if n else 1) * sizeof(Ask))
    if copy != NULL:
        memcpy(copy, asks, n * sizeof(Ask))
    return copy


cdef inline MegaHead *head_place(Megaflows *t, uint64_t seed, uint64_t place, uint32_t src) noexcept nogil:
    """The sender's head, a new one if need be; NULL: memory is out."""
    cdef MegaHead *h = head_find(t, seed, place, src)
    cdef uint64_t i = head_hash(seed, place, src)
    if h != NULL:
        return h
    h = <MegaHead *>calloc(1, sizeof(MegaHead))
    if h == NULL:
        return NULL
    h.place = place
    h.src = src
    while t.head[i & (MEGA_SLOTS - 1)] != NULL:
        i += 1
    t.head[i & (MEGA_SLOTS - 1)] = h
    t.n += 1
    t.bytes += sizeof(MegaHead)
    return h


cdef inline const Ns *head_asks(const MegaHead *h, int kind) noexcept nogil:
    """The first namespace that is asked such a thing, or NULL."""
    cdef uint32_t i
    for i in range(h.n_asks):
        if h.asks[i].kind == kind:
            return <const Ns *>h.asks[i].ns
    return NULL


cdef inline MegaHead *head_keep(Megaflows *t, uint64_t seed, uint64_t place, uint32_t src, uint32_t generation, const MegaDraft *d) noexcept nogil:
    """The sender's head says what the draft's says; if it said something else, its megaflows are no longer found."""
    cdef MegaHead *h = head_place(t, seed, place, src)
    cdef Ask *asks
    if h == NULL:
        return NULL
    if h.asks != NULL and h.generation == generation and h.n_asks == d.head and heads_equal(h.asks, d.asks, d.head):
        return h
    asks = asks_copy(d.asks, d.head)
    if asks == NULL:
        return NULL
    free(h.asks)
    t.bytes += (d.head - <uint64_t>h.n_asks) * sizeof(Ask)
    h.asks = asks
    h.n_asks = d.head
    h.nat_ns = head_asks(h, ASK_NAT)
    h.track_ns = head_asks(h, ASK_TRACK)
    h.generation = generation
    h.refused = h.longest = 0
    t.next_id += 1
    h.id = t.next_id
    return h


cdef inline void head_ahead(const MegaHead *h) noexcept nogil:
    """A packet of the sender's will be asked what the one before was asked, most likely."""
    ask_for(h.asks)
    ask_for(<const char *>h.asks + LINE)
    if h.last == NULL:
        return
    ask_for(h.last)
    ask_for(<const char *>h.last + LINE)
    ask_for(h.last_asks)
    ask_for(<const char *>h.last_asks + LINE)
    ask_for(h.last_program)
    ask_for(<const char *>h.last_program + LINE)


cdef inline void head_leads(MegaHead *h, const Megaflow *m) noexcept nogil:
    """A packet of the sender's has gone this way."""
    h.refused = 0
    h.last = m
    h.last_asks = m.asks
    h.last_program = m.g


cdef inline void head_comes(MegaHead *h, const Program *g) noexcept nogil:
    """Its asks have been put to a packet of this program."""
    if h.link_len != g.link_len or memcmp(h.link, g.link, g.link_len) != 0:
        h.longest = 0
    memcpy(h.link, g.link, g.link_len)
    h.link_len = g.link_len
    if h.longest < g.longest:
        h.longest = g.longest


cdef inline bint head_came(const MegaHead *h, const uint8_t *frame, const Parsed *a) noexcept nogil:
    """Does the frame get as far as a packet did that was asked?"""
    return a.length <= h.longest and memcmp(frame, h.link, h.link_len) == 0


cdef inline Megaflow *mega_place(Megaflows *t, uint64_t seed, const MegaKey *k) noexcept nogil:
    """The megaflow of this key, a new and empty one if need be; NULL: memory is out."""
    cdef Megaflow *m = mega_find(t, seed, k)
    cdef uint64_t i = mega_hash(seed, k)
    if m != NULL:
        return m
    m = <Megaflow *>calloc(1, sizeof(Megaflow))
    if m == NULL:
        return NULL
    m.head = k.head
    m.answers = k.answers
    m.route = k.route
    m.dst = k.dst
    while t.flow[i & (MEGA_SLOTS - 1)] != NULL:
        i += 1
    t.flow[i & (MEGA_SLOTS - 1)] = m
    t.n += 1
    t.bytes += sizeof(Megaflow)
    return m


cdef inline void asks_settle(Ask *asks, uint32_t n, const Program *was, const Program *now) noexcept nogil:
    """Their ops are the copy's."""
    cdef uint32_t i
    for i in range(n):
        if asks[i].op != NULL:
            asks[i].op = now.ops + (asks[i].op - was.ops)


cdef inline bint mega_wanted(Megaflows *t, uint64_t hash) noexcept nogil:
    """Is a walk to be kept? Where there are many, when it comes again."""
    cdef uint16_t *seen = &t.seen[hash >> 52]
    cdef uint16_t tag = <uint16_t>(hash | 1)
    cdef bint again = seen[0] == tag
    seen[0] = tag
    return again or t.n < KEEP_ALL_MEGAS


cdef inline void mega_learn(Core *c, const Program *g, int n_steps, bint whole) noexcept nogil:
    """Keep the walk that the recorder has followed, and that ``g`` was made of. Where it was cut off the next one may be longer (the
    first one waited for a neighbour, say): such a walk is kept when it has been seen often."""
    cdef FlowCache *fc = <FlowCache *>c.fast
    cdef Megaflows *t = <Megaflows *>fc.megaflows
    cdef uint32_t src = key_address(&fc.learning, 0)
    cdef MegaDraft d
    cdef MegaHead *h
    cdef Megaflow *m
    if not draft_asks(c, &d, g, n_steps) or not mega_suits(g, &d):
        return
    if fc.more == NULL and more_new(fc) == 0:
        return
    if t == NULL:
        t = <Megaflows *>calloc(1, sizeof(Megaflows))
        fc.megaflows = t
        if t == NULL:
            return
    h = head_find(t, fc.seed, fc.learning.place, src)
    if h != NULL and h.refused > REFUSED_MANY and h.refused % REFUSED_MANY and h.generation == c.generation:
        return  # this sender's packets are not of the kind
    if h != NULL and h.generation == c.generation and not whole and d.head < h.n_asks:
        return  # cut off before it asked what the sender's others ask: it says nothing of them
    if not mega_wanted(t, head_hash(fc.seed, fc.learning.place ^ mega_hash(fc.seed, &d.key), src)):
        return
    if t.n + 2 > MEGAFLOWS_MAX:
        megaflows_forget(t)
    h = head_keep(t, fc.seed, fc.learning.place, src, c.generation, &d)
    if h == NULL:
        return
    head_comes(h, g)
    d.key.head = h.id
    m = mega_place(t, fc.seed, &d.key)
    if m == NULL:
        return
    m.cut += not whole
    if whole or m.cut >= CUT_OFTEN:
        mega_keep(t, m, g, d.asks + d.head, d.n - d.head)


cdef inline uint64_t mega_way_bytes(const Megaflow *m) noexcept nogil:
    return program_size(m.g) + m.n_asks * sizeof(Ask) if m.g != NULL else 0


cdef inline void mega_pushes(Megaflow *m) noexcept nogil:
    """Find out whether the tunnel's packet can be foreseen."""
    cdef const Ask *a
    cdef uint32_t i
    m.push = m.push_tracked = NULL
    for i in range(m.n_asks):
        a = &m.asks[i]
        if a.kind == ASK_NAT and a.answer != nat_answer(False, False) and m.push == NULL:
            return
        if a.kind == ASK_PUSH:
            if (<const Dev *>a.device).encap.steady != DATAPLANE_ENCAP_STEADY_BUT_PORT or (m.g.bytes + a.op.at)[9] != 17:
                return
            m.push = a
        elif a.kind == ASK_TRACK and m.push != NULL:
            m.push_tracked = a
            return


cdef inline void mega_keep(Megaflows *t, Megaflow *m, const Program *g, const Ask *asks, uint32_t n) noexcept nogil:
    """This is its way from now on."""
    cdef Program *copy = program_copy(g)
    cdef Ask *own = asks_copy(asks, n)
    if copy == NULL or own == NULL:
        free(copy)
        free(own)
        return
    t.bytes -= mega_way_bytes(m)
    free(m.g)
    free(m.asks)
    asks_settle(own, n, g, copy)
    copy.walked = 0  # the rules are walked for each packet
    copy.n_tracks = 0
    copy.more = True
    copy.straight = False
    m.g = copy
    m.asks = own
    m.n_asks = n
    mega_pushes(m)
    t.bytes += mega_way_bytes(m)
    m.flow_program = -1
