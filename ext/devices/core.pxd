# The state of one emulated world: namespaces, devices, the event queue, and what it has to tell.
#
# Namespaces and devices name each other by small integers, the places in ``Core``'s arrays.

from libc.stdint cimport INT64_MAX, uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from ext.devices.queue cimport Due, Queue, Timer, heap_add, queue_first, queue_packet, queue_pop
from ext.devices.record cimport Recorder, STEP_TAP, rec_note, rec_refuse
from ext.encap.abi cimport dataplane_encap, dataplane_encap_host
from ext.tables.conntrack cimport CtTable, ct_put
from ext.tables.ct_entry cimport Ct, ct_hold
from ext.tables.fdb cimport Fdb
from ext.tables.fib cimport Fib
from ext.tables.fragments cimport FragTable
from ext.tables.htab cimport HTab, HNode
from ext.tables.neighbour cimport NeighTable
from ext.tables.rules cimport RuleTable, HOOKS, TABLES
from ext.wire.bytes cimport rarely
from ext.wire.packet cimport Pkt, PktPool, pkt_release_memory, pkt_copy
from ext.wire.hash cimport draw_hash, hash_bytes, mix64

cdef enum:
    NAME_MAX_LEN = 64
    DEVICES_MAX = 65535  # of one namespace: their places fit in 16 bits, and one value more
    IFNAME_LEN = 16
    DETAIL_LEN = 160
    DRAW_COUNTERS = 1024
    CLOCKED_STAGES = 32  # more than there are
    DEV_LO = 1
    DEV_VETH = 2
    DEV_BRIDGE = 3
    DEV_TUNNEL = 4
    # net.ipv4.conf.*
    CONF_FORWARDING = 0
    CONF_RP_FILTER = 1
    CONF_ROUTE_LOCALNET = 2
    CONF_PROXY_ARP = 3
    CONF_SEND_REDIRECTS = 4
    CONF_SHARED_MEDIA = 5
    CONF_ACCEPT_LOCAL = 6
    CONF_ARP_IGNORE = 7
    CONF_ARP_ANNOUNCE = 8
    CONF_ARP_ACCEPT = 9
    CONF_DROP_UNICAST_IN_L2_MULTICAST = 10
    CONF_DROP_GRATUITOUS_ARP = 11
    CONF_BC_FORWARDING = 12
    CONF_LOG_MARTIANS = 13
    # net.ipv4.neigh.*
    CONF_RETRANS_TIME_MS = 14
    CONF_BASE_REACHABLE_TIME_MS = 15
    CONF_MCAST_SOLICIT = 16
    CONF_UCAST_SOLICIT = 17
    CONF_DELAY_FIRST_PROBE_TIME = 18
    CONF_PROXY_DELAY = 19
    CONF_LOCKTIME = 20
    CONF_DISABLE_IPV6 = 21  # net.ipv6.conf.*
    CONF6_NEIGH = 8  # net.ipv6.neigh.*: the same seven, this many places on
    CONF6_RETRANS_TIME_MS = 22
    CONF6_LOCKTIME = 28
    CONF6_FORWARDING = 29
    CONF6_PROXY_NDP = 30
    CONF6_HOP_LIMIT = 31
    CONF6_DROP_UNICAST_IN_L2_MULTICAST = 32
    CONF6_FORCE_TLLAO = 33
    CONF6_ACCEPT_RA = 34
    CONF6_ACCEPT_REDIRECTS = 35
    CONF6_ACCEPT_DAD = 36
    CONF6_DAD_TRANSMITS = 37
    CONF6_ROUTER_SOLICITATIONS = 38
    CONF6_ACCEPT_SOURCE_ROUTE = 39
    CONF_COUNT = 40
    # one value per namespace
    SYS_IP_DEFAULT_TTL = 0
    SYS_ICMP_RATELIMIT = 1
    SYS_ICMP_RATEMASK = 2
    SYS_ICMP_ECHO_IGNORE_ALL = 3
    SYS_ICMP_ECHO_IGNORE_BROADCASTS = 4
    SYS_ICMP_ERRORS_USE_INBOUND_IFADDR = 5
    SYS_ICMP_MSGS_PER_SEC = 6
    SYS_ICMP_MSGS_BURST = 7
    SYS_IPFRAG_TIME = 8
    SYS_NF_CALL_IPTABLES = 9
    SYS_NF_CALL_IP6TABLES = 10
    SYS_NF_CALL_ARPTABLES = 11
    SYS_NF_CONNTRACK_MAX = 12
    SYS_NF_CHECKSUM = 13
    SYS_MIN_PMTU = 14
    SYS_MTU_EXPIRES = 15
    SYS6_ICMP_RATELIMIT = 16
    SYS6_ICMP_ECHO_IGNORE_ALL = 17
    SYS6_ICMP_ECHO_IGNORE_MULTICAST = 18
    SYS6_ICMP_ECHO_IGNORE_ANYCAST = 19
    SYS6_ANYCAST_SRC_ECHO_REPLY = 20
    SYS6_FRAG_TIME = 21
    SYS6_NF_FRAG_TIMEOUT = 22
    SYS6_MTU_EXPIRES = 23
    SYS6_AUTO_FLOWLABELS = 24
    SYS_COUNT = 25
    # what is told of walks
    TRACE_STEPS = 1  # each step
    TRACE_CHANGES = 2  # changes.pxd
    # events of the queue
    EV_RECEIVE = 1  # a frame reaches a device
    EV_TRANSMIT = 2  # a frame is handed to a device's transmit queue
    EV_SEND = 3  # an application sends an IP packet
    EV_NEIGH = 4  # a neighbour's timer
    EV_FRAG = 5  # a fragment queue's timer
    EV_STAGE = 6  # a packet goes on with a stage
    EV_TUNNEL = 7  # a tunnel device's timer
    EV_ONWARD = 8  # as EV_RECEIVE, of a packet of fast/onward.pxd

cdef struct IfAddr:
    uint8_t addr[16]
    uint8_t brd[16]
    uint8_t family
    uint8_t plen
    uint8_t scope
    uint8_t has_brd
    int origin

cdef struct FarAddr:
    uint8_t addr[16]
    uint8_t alen

cdef struct Far:
    # a device at the other end of a cable that is not made yet (stages/far)
    int dev
    int ns
    uint8_t mac[8]
    uint32_t mtu
    uint8_t always  # every frame makes it
    FarAddr *addr
    int n_addr

cdef struct Dev:
    int id
    int ns
    uint16_t place  # in the namespace's list of devices
    char name[IFNAME_LEN]
    uint8_t kind
    uint8_t mac[8]
    uint8_t up
    uint8_t capture
    uint8_t hairpin
    uint8_t learning
    uint8_t wire  # what it receives has come through a network card, which has finished its checksums
    uint8_t unfinished_checksums  # a fault of tunnels: the card finishes none inside
    uint8_t filters_too_big  # a fault: what it receives of ICMP messages that say so is dropped
    uint32_t mtu
    uint8_t mtu_given  # a bridge's, by hand: it no longer follows its ports
    int peer
    int64_t latency  # ns, towards the peer
    int master
    int *ports
    int n_ports
    IfAddr *addr
    int n_addr
    int conf[CONF_COUNT]
    uint8_t conf_set[CONF_COUNT]  # written by name: ``default`` no longer reaches it
    Fdb fdb
    NeighTable neigh
    NeighTable proxies  # IPv6 addresses it answers solicitations for (ip -6 neigh add proxy), and their solicited-node groups
    const dataplane_encap *encap
    void *encap_state
    dataplane_encap_host host
    uint8_t tunnel_family  # of tunnel_local, 0: the route decides
    uint8_t tunnel_local[16]
    uint8_t tunnel_remote_family  # 0: no fixed remote end
    uint8_t tunnel_remote[16]
    int tunnel_lower
    Far *far  # what ``peer`` is before it is made

cdef struct Peer:
    # what Linux keeps per remote address to limit ICMP (struct inet_peer), times in ns
    HNode node
    uint8_t addr[16]
    uint8_t alen
    int64_t tokens
    int64_t last
    int redirects

cdef struct PmtuEntry:
    HNode node
    uint8_t dst[16]
    uint8_t alen
    uint32_t mtu
    int64_t expires

cdef struct Socket:
    HNode node
    int id
    int ns
    int port
    uint8_t proto
    uint8_t alen  # 0: any address
    uint8_t addr[16]

cdef struct Pin:
    uint8_t proto
    uint8_t used
    uint8_t kept  # the connection was translated as it says
    uint8_t osrc[16]
    uint8_t odst[16]
    uint8_t rsrc[16]
    uint8_t rdst[16]
    uint8_t alen
    uint16_t osport
    uint16_t odport
    uint16_t rsport
    uint16_t rdport

cdef struct Ns:
    int id
    char name[NAME_MAX_LEN]
    int *devs
    int n_devs
    int lo
    int *tunnels  # devices of kind DEV_TUNNEL, in the order they were made
    int n_tunnels
    Fib fib4
    Fib fib6
    int conf_all[CONF_COUNT]
    int conf_default[CONF_COUNT]
    int sys[SYS_COUNT]
    uint8_t conntrack
    uint8_t rules_on
    CtTable ct
    RuleTable rules[2][TABLES]  # [0] IPv4, [1] IPv6
    uint8_t tables_at[2][HOOKS]  # bits by table: those that have something to say at a hook
    HTab own  # IPv4 addresses of its devices, see tables/own.pxd
    HTab recent
    FragTable frags
    HTab peers
    HTab pmtu
    Pin *pins
    int n_pins
    int64_t icmp_tokens
    int64_t icmp_last
    uint32_t shown_at  # Core.generation for which ``shown`` holds
    uint8_t shown  # one of its devices is captured
    uint16_t draws[DRAW_COUNTERS]  # how often chance has been asked for a subject; subjects may share a counter
    uint64_t name_hash

cdef struct FrameRecord:
    int64_t time
    int dev
    uint32_t packet
    uint64_t at  # in the byte store, perhaps where another one's bytes are: they are the same then
    uint64_t order
    uint32_t len
    uint8_t outgoing

cdef struct DropRecord:
    int64_t time
    uint64_t order
    int ns
    int dev
    uint32_t packet
    int reason
    int origin
    uint32_t len
    uint64_t at  # as in FrameRecord

cdef struct EventRecord:
    int64_t time
    uint64_t order
    int ns
    int dev
    uint32_t packet
    const char *stage
    const char *what
    char detail[DETAIL_LEN]
    int origin
    uint32_t len
    uint64_t at

cdef struct DeliveryRecord:
    int64_t time
    int ns
    int socket
    uint32_t packet
    uint32_t len
    uint64_t at

cdef struct Store:
    # a growing array of records, or of bytes
    uint8_t *mem
    uint64_t n
    uint64_t cap

cdef struct Counters:
    uint64_t received
    uint64_t generated
    uint64_t copies
    uint64_t fragments_made
    uint64_t out
    uint64_t dropped
    uint64_t consumed
    uint64_t fragments_merged
    uint64_t rules_walked

cdef struct StageClock:
    # see ext/stages/stage_clock.pxd
    bint on
    int stage  # whose time runs, 0: nobody's
    int64_t since  # ns of the machine's clock, not of virtual time
    double cost  # ns that reading that clock takes
    uint64_t visits[CLOCKED_STAGES]
    uint64_t readings[CLOCKED_STAGES]
    int64_t ns[CLOCKED_STAGES]

cdef struct Core

ctypedef void (*RunFn)(Core *c, Pkt *p, int stage) noexcept nogil
ctypedef void (*SupplyFn)(Core *c, int dev) noexcept nogil

cdef struct Core:
    Ns **ns
    int n_ns
    Dev **dev
    int n_dev
    uint64_t seed
    int64_t now
    uint64_t root  # number of the frame or packet from outside whose consequences are being carried, in order of injection
    uint64_t n_roots
    uint64_t order  # of frames, drops and events among each other
    uint32_t next_packet
    uint8_t tracing  # TRACE_*, 0: nothing
    int drop_origin  # rule or route behind the drop that is being returned
    int depth  # stages nested in each other by side packets
    Queue queue
    Store bytes
    Store frames
    Store drops
    Store events
    Store changes  # of ChangeRecord
    Store deliveries
    uint64_t n_deliveries
    HTab sockets  # open ones, by namespace, protocol and port
    int n_sockets
    Counters count
    uint64_t *drop_count
    PktPool pool
    RunFn run
    uint8_t out_of_memory
    uint8_t carrying  # frames of a batch: nobody looks at what waits
    uint8_t light  # something that waits may be given back by stages/onward_rests.pxd
    Recorder rec  # what the flow cache is told of the packet in hand
    void *fast  # the flow cache, a FlowCache of ext/fast/flows.pxd
    uint32_t generation  # counts changes that may change any packet's way
    uint64_t moves  # counts neighbours and bridge addresses that have become others
    StageClock clock
    # places of ``ns`` and ``dev`` may be empty: what is described and not made
    int n_reserved  # devices whose places were there before them
    Far **far_of  # by device
    uint8_t *uncaptured  # by device: it is not to be captured once it is made
    SupplyFn supply  # makes the machine that a device belongs to
    void *engine  # whose ``supply`` it is
    uint8_t supply_failed
    Dev *stand_in  # see stages/far
    Ns *stand_in_ns
    Far stand_in_own  # what it is between two frames: itself
    uint8_t stand_in_captured


# ---- growing stores

cdef inline bint store_grow(Core *c, Store *s, uint64_t size) noexcept nogil:
    """False (and the engine's flag set) when memory is out."""
    cdef uint64_t cap = s.cap
    cdef uint8_t *mem
    while s.n + size > cap:
        cap = cap * 2 if cap else 65536
    mem = <uint8_t *>realloc(s.mem, cap)
    if mem == NULL:
        c.out_of_memory = True
        return False
    s.mem = mem
    s.cap = cap
    return True


cdef inline bint store_room(Core *c, Store *s, uint64_t size) noexcept nogil:
    """Is there room for ``size`` more bytes? If not, memory is out."""
    return not rarely(s.n + size > s.cap) or store_grow(c, s, size)


cdef inline void *store_add(Core *c, Store *s, uint64_t size) noexcept nogil:
    """``size`` more bytes, NULL (and the engine's flag set) when memory is out."""
    if not store_room(c, s, size):
        return NULL
    s.n += size
    return s.mem + s.n - size


cdef inline uint64_t store_bytes(Core *c, const uint8_t *p, uint32_t n) noexcept nogil:
    cdef void *to = store_add(c, &c.bytes, n)
    if to == NULL:
        return 0
    memcpy(to, p, n)
    return c.bytes.n - n


# ---- what happened

cdef inline bint frames_room(Core *c, uint64_t n, uint64_t size) noexcept nogil:
    """Is there room for ``n`` records of frames, and for ``size`` bytes of theirs? If not, memory is out."""
    return store_room(c, &c.frames, n * sizeof(FrameRecord)) and store_room(c, &c.bytes, size)


cdef inline void frame_record(FrameRecord *r, int64_t time, uint64_t order, int dev, bint outgoing, uint64_t at, uint32_t n,
                              uint32_t packet) noexcept nogil:
    r.time = time
    r.dev = dev
    r.packet = packet
    r.at = at
    r.order = order
    r.len = n
    r.outgoing = outgoing


cdef inline void store_frame(Core *c, const Dev *d, const uint8_t *frame, uint32_t n, uint32_t packet, bint outgoing) noexcept nogil:
    cdef FrameRecord *r
    if not frames_room(c, 1, n):
        return
    r = <FrameRecord *>store_add(c, &c.frames, sizeof(FrameRecord))
    c.order += 1
    frame_record(r, c.now, c.order, d.id, outgoing, store_bytes(c, frame, n), n, packet)


cdef inline void log_frame(Core *c, const Dev *d, const Pkt *p, bint outgoing) noexcept nogil:
    if d.capture:
        rec_note(&c.rec, p, STEP_TAP, NULL, d.id, outgoing)
        store_frame(c, d, p.buf + p.l2, p.end - p.l2, p.id, outgoing)


cdef inline void store_drop(Core *c, int dev, const uint8_t *frame, uint32_t n, uint32_t packet, int reason, int origin) noexcept nogil:
    drop_record(c, dev, store_bytes(c, frame, n), n, packet, reason, origin)


cdef inline void drop_record(Core *c, int dev, uint64_t at, uint32_t n, uint32_t packet, int reason, int origin) noexcept nogil:
    """``at``: as in FrameRecord."""
    cdef DropRecord *r
    c.count.dropped += 1
    c.drop_count[reason] += 1
    r = <DropRecord *>store_add(c, &c.drops, sizeof(DropRecord))
    if r == NULL:
        return
    r.time = c.now
    c.order += 1
    r.order = c.order
    r.dev = dev
    r.ns = c.dev[dev].ns if dev >= 0 else -1
    r.packet = packet
    r.reason = reason
    r.origin = origin
    r.len = n
    r.at = at


cdef inline void log_drop(Core *c, const Pkt *p, int reason) noexcept nogil:
    store_drop(c, p.dev, p.buf + p.l2, p.end - p.l2, p.id, reason, c.drop_origin)
    c.drop_origin = 0


cdef inline EventRecord *log_event(Core *c, const Pkt *p, const char *stage, const char *what, int origin) noexcept nogil:
    """A step of the walk, for tracing only; the caller fills ``detail`` in. NULL: not tracing, or memory is out."""
    return new_event(c, p, stage, what, origin) if rarely(c.tracing == TRACE_STEPS) else NULL


cdef inline EventRecord *new_event(Core *c, const Pkt *p, const char *stage, const char *what, int origin) noexcept nogil:
    cdef EventRecord *e
    cdef uint64_t at
    cdef uint32_t start = p.l2 if p.l2 < p.l3 else p.l3
    at = store_bytes(c, p.buf + start, p.end - start)
    e = <EventRecord *>store_add(c, &c.events, sizeof(EventRecord))
    if e == NULL:
        return NULL
    e.time = c.now
    c.order += 1
    e.order = c.order
    e.dev = p.dev
    e.ns = c.dev[p.dev].ns if p.dev >= 0 else -1
    e.packet = p.id
    e.stage = stage
    e.what = what
    e.detail[0] = 0
    e.origin = origin
    e.len = p.end - start
    e.at = at
    return e


# ---- packets

cdef inline void ct_release(Core *c, Pkt *p) noexcept nogil:
    """Take the packet's hold off its conntrack entry."""
    if p.ct != NULL and p.dev >= 0:
        ct_put(&c.ns[c.dev[p.dev].ns].ct, <Ct *>p.ct)
    p.ct = NULL


cdef inline void pkt_free(Core *c, Pkt *p) noexcept nogil:
    if c.rec.p == p:
        rec_refuse(&c.rec)
        c.rec.p = NULL
    ct_release(c, p)
    pkt_release_memory(&c.pool, p)


cdef inline void pkt_consume(Core *c, Pkt *p) noexcept nogil:
    """The packet has reached its end and done its work."""
    c.count.consumed += 1
    pkt_free(c, p)


cdef inline Pkt *pkt_clone(Core *c, const Pkt *p) noexcept nogil:
    """A copy that is counted and holds the same conntrack entry; NULL when memory is out."""
    cdef Pkt *q = pkt_copy(&c.pool, p)
    if q == NULL:
        c.out_of_memory = True
        return NULL
    if q.ct != NULL:
        ct_hold(<Ct *>q.ct)
    c.count.copies += 1
    return q


cdef inline bint carries_frames(const Dev *d) noexcept nogil:
    """Do packets on this device have an Ethernet header? Tunnels of IP packets have none."""
    return d.kind != DEV_TUNNEL or d.encap.ethernet


cdef inline Ns *pkt_ns(Core *c, const Pkt *p) noexcept nogil:
    return c.ns[c.dev[p.dev].ns]


# ---- events

cdef inline void root_begin(Core *c) noexcept nogil:
    """Something comes in from outside: what it causes is ordered behind what earlier ones cause at the same instant."""
    c.n_roots += 1
    c.root = c.n_roots


cdef inline const Due *event_first(const Core *c) noexcept nogil:
    """The earliest event; NULL: nothing waits."""
    return queue_first(&c.queue)


cdef inline bint event_due(const Core *c, int64_t time) noexcept nogil:
    """Does anything happen up to ``time``?"""
    return c.queue.next <= time


cdef inline void event_begin(Core *c, Due *e, int64_t time, int kind, int dev, Pkt *p) noexcept nogil:
    c.queue.seq += 1
    e.time = time
    e.root = c.root
    e.seq = c.queue.seq
    e.p = p
    e.kind = kind
    e.dev = dev


cdef inline Timer *event_timer(Core *c, int64_t time, int kind, int dev) noexcept nogil:
    """Queue an event about no packet; the caller fills in the rest. NULL when memory is out."""
    cdef Due e
    cdef Timer *timer
    event_begin(c, &e, time, kind, dev, NULL)
    timer = heap_add(&c.queue, &e)
    if timer == NULL:
        c.out_of_memory = True
    return timer


cdef inline bint event_packet(Core *c, int64_t time, int kind, int dev, Pkt *p) noexcept nogil:
    """Queue an event about a packet. False: memory is out, and the packet gone."""
    cdef Due e
    event_begin(c, &e, time, kind, dev, p)
    if queue_packet(&c.queue, &e, time - c.now):
        return True
    c.out_of_memory = True
    pkt_free(c, p)
    return False


cdef inline bint event_take(Core *c, int64_t limit, Timer *first) noexcept nogil:
    """The earliest event leaves the queue, unless nothing is due up to ``limit``."""
    if c.queue.next > limit or c.queue.next == INT64_MAX:
        return False
    queue_pop(&c.queue, first)
    return True


# ---- configuration

cdef inline int conf_or(Core *c, const Dev *d, int key) noexcept nogil:
    return c.ns[d.ns].conf_all[key] or d.conf[key]


cdef inline int conf_and(Core *c, const Dev *d, int key) noexcept nogil:
    return c.ns[d.ns].conf_all[key] and d.conf[key]


cdef inline int conf_max(Core *c, const Dev *d, int key) noexcept nogil:
    cdef int a = c.ns[d.ns].conf_all[key]
    return a if a > d.conf[key] else d.conf[key]


cdef inline int neigh_conf(const Dev *d, int alen, int key) noexcept nogil:
    """A value of net.ipv4.neigh.* or net.ipv6.neigh.* by the length of the neighbour's address."""
    return d.conf[key + (CONF6_NEIGH if alen == 16 else 0)]


cdef inline Fib *ns_fib(Ns *ns, int alen) noexcept nogil:
    return &ns.fib4 if alen == 4 else &ns.fib6


# ---- chance

cdef inline uint64_t chance_seed(const Core *c, const Ns *ns, uint64_t purpose) noexcept nogil:
    return c.seed ^ ns.name_hash ^ mix64(purpose)


cdef inline uint16_t *chance_counter(Ns *ns, uint64_t h) noexcept nogil:
    """Where it is counted how often chance was asked for the subject of this hash."""
    return &ns.draws[h & (DRAW_COUNTERS - 1)]


cdef inline uint16_t *chance_count(Ns *ns, uint64_t h) noexcept nogil:
    """Chance is asked once more for it; where that is counted."""
    cdef uint16_t *draws = chance_counter(ns, h)
    draws[0] += 1
    return draws


cdef inline uint64_t chance_draw(Ns *ns, uint64_t h) noexcept nogil:
    """The next draw for the subject of this hash."""
    return draw_hash(h, chance_count(ns, h)[0])


cdef inline uint64_t chance(Core *c, Ns *ns, const uint8_t *subject, int n, uint64_t purpose) noexcept nogil:
    """Decided by the seed, the namespace, the purpose, its subject and how often it was asked before."""
    return chance_draw(ns, hash_bytes(chance_seed(c, ns, purpose), subject, n))


# ---- sockets

cdef inline uint64_t socket_hash(int ns, int proto, int port) noexcept nogil:
    return mix64(<uint64_t>ns << 32 | <uint64_t>(proto & 0xff) << 16 | <uint64_t>(port & 0xffff))
