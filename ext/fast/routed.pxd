# Packets that only pass through a router: what becomes of one depends on the route to its destination, not on its flow.
#
# That is so in a namespace whose netfilter hooks have nothing to say, for a packet whose header, addresses, TTL and length are of the
# ordinary kind. Then the stages do nothing but find the route, take one off the TTL and write the next hop's Ethernet header. What they
# ask on the way is answered once for each device that such packets come in by (an *entrance*) and once for each hop of the FIB that they
# leave by (an *exit*), straight from the tables; both hold while ``Core.generation`` is what it was. Whatever is not plainly so is left to
# the flow cache and to the stages.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset
from ext.devices.core cimport (CONF_ACCEPT_LOCAL, CONF_FORWARDING, CONF_RP_FILTER, CONF_SEND_REDIRECTS, Core, DEV_VETH, Dev, Ns,
                               TRACE_STEPS, conf_max, conf_or, store_frame)
from ext.devices.record cimport REC_OFF
from ext.fast.headers cimport Sight, roots_wide, sight_is_wide, sight_wide, times_latest
from ext.fast.sum cimport raw32, raw64, sum_header, sum_right
from ext.tables.fib cimport Fib, HOP_ASK, RT_UNICAST, Route
from ext.tables.htab cimport HNode, htab_step
from ext.tables.lpm_fast cimport lpm_fast_rebuild, lpm_fast_root
from ext.tables.lpm_multibit cimport MB_BLOCK, MB_WIDEST_ROOT, Multibit, mb_begin_wide, mb_end_wide, mb_find, mb_find_many, mb_key
from ext.tables.neighbour cimport NUD_STALE, NUD_VALID, Neigh, neigh_find
from ext.tables.own cimport Own, own_find
from ext.tables.rules cimport HOOK_FORWARD, HOOK_POSTROUTING, HOOK_PREROUTING
from ext.wire.bytes cimport ask_for, ld16, rarely

cdef enum:
    ETH_LEN = 14
    ETH_ROOM = 16  # a header and what is read behind it
    IP_LEN = 20  # without options
    VLAN_LEN = 4
    FRAME_LONGEST = 14 + 65535
    SENT_LONGEST = 4096  # frames injected
    SPREAD_STEP = 512
    SPREAD = 7 * SPREAD_STEP  # bytes, see spread()
    HOPS_MAX = 1 << 16  # of a namespace that get exits: 4 MiB
    OWN_WORDS = 8
    OWN_SHIFT = 32 - 9  # leaves the number of a bit in them
    WAYS_BLOCK = MB_BLOCK  # frames of a batch that are looked at together
    WAYS = 2 * WAYS_BLOCK  # a power of two
    WAYS_AHEAD = 3 * WAYS_BLOCK  # frames that are asked for before their turn

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* First bytes of addresses of the ordinary classes: no loopback, group, broadcast or "this network". */
    static const uint8_t address_usual[256] = {[1 ... 126] = 1, [128 ... 223] = 1};

    /* The first six bytes of eight. */
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define MAC_BITS 0xffffffffffff0000u
    #else
    #define MAC_BITS 0x0000ffffffffffffu
    #endif

    #define NO_HOP ((uint64_t)1 << 32)  /* no hop's number */

    /* Of an Ethernet frame: is it IPv4 without options? */
    static inline int frame_plain(const uint8_t *frame)
    {
        static const uint8_t ask[4] = {0xff, 0xff, 0xff, 0}, want[4] = {0x08, 0x00, 0x45, 0};
        uint32_t is, mask, wanted;
        memcpy(&is, frame + 12, 4);
        memcpy(&mask, ask, 4);
        memcpy(&wanted, want, 4);
        return (is & mask) == wanted;
    }

    /* 20 bytes or more that do not overlap. */
    static inline void copy_packet(uint8_t *to, const uint8_t *from, uint32_t n)
    {
        if (n < 32 || n > 64) {
            copy_short(to, from, n);
            return;
        }
        memcpy(to, from, 16);
        memcpy(to + 16, from + 16, 16);
        memcpy(to + n - 32, from + n - 32, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    }

    /* TTL, protocol and checksum of the IPv4 header ``ip``, one hop on: ipv4_decrease_ttl(), with sums in the machine's own byte order
       (RFC 1071 2(B)): never 0xffff either. */
    static inline uint32_t hop_taken(const uint8_t *ip)
    {
        uint32_t word;
        memcpy(&word, ip + 8, 4);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return word - (1u << 24) + 0x0100 - ((word & 0xffff) >= 0xfeff ? 0xffff : 0);
    #else
        return word - 1 + (1u << 16) + ((word >> 16 >= 0xfffe) << 16);
    #endif
    }
    """
    const uint64_t MAC_BITS
    const uint64_t NO_HOP
    const uint8_t address_usual[256]
    bint frame_plain(const uint8_t *frame) noexcept nogil
    void copy_packet(uint8_t *to, const uint8_t *from_, uint32_t n) noexcept nogil
    uint32_t hop_taken(const uint8_t *ip) noexcept nogil

cdef struct Exit:
    # what a hop comes to
    uint32_t generation  # Core.generation for which it holds
    uint32_t most  # bytes of an IP packet that passes; 0: none does
    uint32_t most_quiet  # of one that leaves the world and is seen by nobody
    int dev
    int peer  # -1: it leads out of the world
    int64_t latency
    uint64_t moves  # Core.moves for which the Ethernet header is the neighbour's
    const Neigh *neigh
    uint8_t gw[4]
    uint8_t has_gw  # else each destination is a neighbour itself
    uint8_t captured
    uint8_t ether[ETH_ROOM]

cdef struct Router:
    # a namespace that forwards
    uint32_t generation
    uint32_t n_exits
    const Ns *ns
    const Multibit *table  # NULL: packets do not pass through it by route alone
    Exit *exits  # by number of the FIB's hop
    uint64_t own[OWN_WORDS]  # bits by own_bit() that no address of the namespace's own lacks

cdef struct Entrance:
    # where packets come in
    uint32_t generation
    uint32_t most  # bytes of a frame
    uint64_t mac  # of the receiving device, and two bytes of zero, as they stand in the frame
    uint8_t own_allowed  # own addresses are no wrong sources (accept_local)
    uint8_t captured
    uint8_t sender_captured
    uint8_t wire
    int dev  # that receives it
    int never  # a device that it does not leave by: where it came in, if that may be worth a redirect; -1: none
    int sender  # that transmits it, -1: it has been received already
    Router *router

cdef struct Place:
    Entrance *entrance
    uint32_t refused  # Core.generation for which it is known to be none

cdef struct Routed:
    Place *place  # by device, received before transmitted
    uint32_t n_places
    Router **router  # by namespace
    uint32_t n_routers
    uint64_t bytes
    uint64_t packets  # that went this way
    uint8_t scratch[SENT_LONGEST + SPREAD]

cdef struct Ways:
    # of the frames of a batch that come next, by their numbers modulo WAYS
    uint32_t generation
    uint32_t hop[WAYS]  # HOP_ASK: another way
    uint32_t address[WAYS]  # destinations
    uint8_t some[2]  # by block: frames of it go by route
    uint8_t alone[2]  # by block: all of its frames are injected at one device
    const Multibit *pending[2]  # by block: the table that its hops are still being looked up in, NULL: they are known


cdef inline void routed_free(Routed *r) noexcept nogil:
    cdef uint32_t i
    for i in range(r.n_places):
        free(r.place[i].entrance)
    for i in range(r.n_routers):
        if r.router[i] != NULL:
            free(r.router[i].exits)
        free(r.router[i])
    free(r.place)
    free(r.router)


# ---- what the tables say

cdef inline uint32_t own_bit(uint32_t address) noexcept nogil:
    return (address * <uint32_t>0x9e3779b1) >> OWN_SHIFT


cdef inline bint hooks_are_silent(const Ns *ns) noexcept nogil:
    return not ns.rules_on or not (ns.conntrack or ns.tables_at[0][HOOK_PREROUTING] or ns.tables_at[0][HOOK_FORWARD]
                                   or ns.tables_at[0][HOOK_POSTROUTING])


cdef inline bint router_opens(Router *o, Ns *ns) noexcept nogil:
    """Fill it in. False: packets do not pass there by route alone, or memory is out. The FIB gets its fast picture however few its
    prefixes are: that answers as its tries do."""
    cdef Fib *f = &ns.fib4
    cdef uint32_t n = <uint32_t>f.n_hops if f.n_hops < HOPS_MAX else HOPS_MAX
    cdef const HNode *node
    cdef uint32_t bit
    if not hooks_are_silent(ns):
        return False
    if f.fast.table == NULL and not f.fast.given_up:
        f.fast.from_count = 1
        lpm_fast_rebuild(&f.fast, lpm_fast_root(&f.fast))
        n = <uint32_t>f.n_hops if f.n_hops < HOPS_MAX else HOPS_MAX
    if f.fast.table == NULL:
        return False
    if n > o.n_exits:
        free(o.exits)
        o.exits = <Exit *>calloc(n, sizeof(Exit))
        o.n_exits = n if o.exits != NULL else 0
        if o.exits == NULL:
            return False
    o.ns = ns
    o.table = f.fast.table
    memset(o.own, 0, sizeof(o.own))
    node = htab_step(&ns.own, NULL)
    while node != NULL:
        bit = own_bit(raw32((<const Own *>node).addr))
        o.own[bit >> 6] |= <uint64_t>1 << (bit & 63)
        node = htab_step(&ns.own, node)
    return True


cdef inline Router *router_of(Core *c, Routed *r, int ns) noexcept nogil:
    """NULL: packets do not pass through the namespace by route alone."""
    cdef Router **grown
    cdef Router *o
    cdef uint32_t had
    if <uint32_t>ns >= r.n_routers:
        grown = <Router **>realloc(r.router, c.n_ns * sizeof(Router *))
        if grown == NULL:
            return NULL
        memset(grown + r.n_routers, 0, (c.n_ns - r.n_routers) * sizeof(Router *))
        r.bytes += (c.n_ns - r.n_routers) * sizeof(Router *)
        r.router = grown
        r.n_routers = <uint32_t>c.n_ns
    o = r.router[ns]
    if o == NULL:
        o = r.router[ns] = <Router *>calloc(1, sizeof(Router))
        if o == NULL:
            return NULL
        r.bytes += sizeof(Router)
    if o.generation != c.generation:
        had = o.n_exits
        o.generation = c.generation
        if not router_opens(o, c.ns[ns]):
            o.table = NULL
        r.bytes += (<uint64_t>o.n_exits - had) * sizeof(Exit)
    return o if o.table != NULL else NULL


cdef inline bint entrance_opens(Core *c, Routed *r, int dev, bint transmit, Entrance *e) noexcept nogil:
    """Fill it in. False: what comes in there has to be looked at by the stages."""
    cdef const Dev *into = c.dev[dev]
    cdef const Dev *sender
    e.sender = -1
    e.sender_captured = False
    e.most = FRAME_LONGEST
    if transmit and into != NULL:
        sender = into
        if sender.kind != DEV_VETH or not sender.up or sender.peer < 0 or sender.latency:
            return False
        into = c.dev[sender.peer]
        if into == NULL:
            return False
        e.sender = dev
        e.sender_captured = sender.capture
        # what a packet socket takes (frame_refused() of stages/events), and what the cable does (frame_fits() of stages/transmit)
        e.most = ETH_LEN + (sender.mtu if sender.mtu < into.mtu + VLAN_LEN else into.mtu + VLAN_LEN)
        if e.most > SENT_LONGEST:
            e.most = SENT_LONGEST
    if into == NULL or into.kind != DEV_VETH or not into.up or into.master >= 0 or into.filters_too_big:
        return False
    if not into.conf[CONF_FORWARDING] or conf_max(c, into, CONF_RP_FILTER):
        return False
    e.dev = into.id
    e.captured = into.capture
    e.wire = into.wire
    e.mac = 0
    memcpy(&e.mac, into.mac, 6)
    e.own_allowed = conf_or(c, into, CONF_ACCEPT_LOCAL) != 0
    e.never = into.id if conf_or(c, into, CONF_SEND_REDIRECTS) else -1
    e.router = router_of(c, r, into.ns)
    return e.router != NULL


cdef inline Entrance *entrance_find(Core *c, Routed *r, int dev, bint transmit) noexcept nogil:
    """entrance_of() of a place that nothing is known about since the last change."""
    cdef uint32_t number = <uint32_t>dev * 2 + transmit, places
    cdef Place *grown
    cdef Place *place
    if number >= r.n_places:
        places = <uint32_t>c.n_dev * 2
        grown = <Place *>realloc(r.place, places * sizeof(Place))
        if grown == NULL:
            return NULL
        memset(grown + r.n_places, 0, (places - r.n_places) * sizeof(Place))
        r.bytes += (places - r.n_places) * sizeof(Place)
        r.place = grown
        r.n_places = places
    place = &r.place[number]
    if place.entrance == NULL:
        place.entrance = <Entrance *>calloc(1, sizeof(Entrance))
        if place.entrance == NULL:
            return NULL
        r.bytes += sizeof(Entrance)
    if entrance_opens(c, r, dev, transmit, place.entrance):
        place.entrance.generation = c.generation
        return place.entrance
    free(place.entrance)
    r.bytes -= sizeof(Entrance)
    place.entrance = NULL
    place.refused = c.generation
    return NULL


ctypedef const Entrance *(*EntranceFn)(Core *c, Routed *r, int dev, bint transmit) noexcept nogil

cdef extern from *:
    EntranceFn entrance_apart "apart"(EntranceFn f) noexcept nogil


cdef inline const Entrance *entrance_of(Core *c, Routed *r, int dev, bint transmit) noexcept nogil:
    """Where packets come in that ``dev`` receives, or that are handed to its transmit queue; NULL: only the stages can tell."""
    cdef uint32_t number = <uint32_t>dev * 2 + transmit
    if number < r.n_places:
        if r.place[number].refused == c.generation:
            return NULL
        if r.place[number].entrance != NULL and r.place[number].entrance.generation == c.generation:
            return r.place[number].entrance
    return entrance_apart(entrance_find)(c, r, dev, transmit)


cdef inline void exit_opens(const Core *c, const Router *o, Exit *x, uint32_t hop) noexcept nogil:
    """Fill it in; ``most`` stays 0 if packets to the hop have to be looked at by the stages."""
    cdef const Route *r = &o.ns.fib4.hop[hop].route
    cdef const Dev *d
    cdef const Dev *peer
    memset(x, 0, sizeof(Exit))
    x.generation = c.generation
    if r.type != RT_UNICAST or r.dead or r.dev < 0:
        return
    d = c.dev[r.dev]
    if d == NULL or d.kind != DEV_VETH or not d.up:
        return
    x.dev = d.id
    x.peer = d.peer
    x.latency = d.latency
    x.captured = d.capture
    x.has_gw = r.has_gw
    x.moves = ~c.moves
    memcpy(x.gw, r.gw, 4)
    memcpy(x.ether + 6, d.mac, 6)
    x.ether[12] = 8
    x.most = r.mtu if r.mtu else d.mtu
    if d.peer >= 0:
        peer = c.dev[d.peer]
        if peer == NULL or not peer.up:
            x.most = 0
        elif x.most > peer.mtu + VLAN_LEN:
            x.most = peer.mtu + VLAN_LEN  # frame_fits() of stages/transmit
    elif not x.captured:
        x.most_quiet = x.most


# ---- packets

cdef inline bint routed_may(const Core *c) noexcept nogil:
    """Is nobody told of the steps on the way, or following a packet?"""
    return c.tracing != TRACE_STEPS and not c.clock.on and c.rec.state == REC_OFF


cdef inline void routed_counts(Core *c, Routed *r, uint64_t n) noexcept nogil:
    """So many frames have come in from outside and go by their routes; the last one is in hand."""
    r.packets += n
    c.n_roots += n
    c.root = c.n_roots if n else c.root
    c.next_packet += <uint32_t>n
    c.count.received += n


cdef inline bint routed_sees(const Entrance *e, const uint8_t *frame, uint32_t n) noexcept nogil:
    """A frame for the router with a sound and ordinary IPv4 header, whose destination is all that is still to be looked at."""
    cdef const uint8_t *ip = frame + ETH_LEN
    cdef uint32_t total, bit
    if n < ETH_LEN + IP_LEN or n > e.most or (raw64(frame) ^ e.mac) & MAC_BITS:
        return False
    total = ld16(ip + 2)
    if not frame_plain(frame) or total < IP_LEN or total > n - ETH_LEN or not sum_right(sum_header(ip)):
        return False
    if not (address_usual[ip[12]] & address_usual[ip[16]] & (ip[8] > 1)):
        return False
    bit = own_bit(raw32(ip + 12))
    return not rarely(e.router.own[bit >> 6] >> (bit & 63) & 1) or e.own_allowed or own_find(&e.router.ns.own, ip + 12) == NULL


cdef inline uint32_t routed_hop(const Entrance *e, const uint8_t *frame) noexcept nogil:
    """The number of the hop that its destination leads to."""
    return mb_find(e.router.table, mb_key(frame + ETH_LEN + 16, 4))


cdef inline bint exit_agrees(const Core *c, Exit *x, const uint8_t *dst) noexcept nogil:
    """Write the neighbour's address into the header. False: it is not known, or using it would change something."""
    cdef const Neigh *n = x.neigh
    if n == NULL:
        n = neigh_find(&c.dev[x.dev].neigh, &x.gw[0] if x.has_gw else dst, 4)
        if n == NULL:
            return False
    if not n.state & (NUD_VALID & ~NUD_STALE) or not n.header_cached:
        return False
    memcpy(x.ether, n.mac, 6)
    if x.has_gw:
        x.neigh = n
        x.moves = c.moves
    return True


cdef inline const Exit *routed_exit(const Core *c, const Entrance *e, uint32_t hop, const uint8_t *ip) noexcept nogil:
    """Where such a packet leaves; NULL: only the stages can tell. It holds until the next packet is asked for."""
    cdef Exit *x
    if hop == HOP_ASK or hop >= e.router.n_exits:
        return NULL
    x = &e.router.exits[hop]
    if x.generation != c.generation:
        exit_opens(c, e.router, x, hop)
    if ld16(ip + 2) > x.most or x.dev == e.never:
        return NULL
    if x.moves != c.moves and not exit_agrees(c, x, ip + 16):
        return NULL
    return x


cdef inline void routed_enters(Core *c, const Entrance *e, const uint8_t *frame, uint32_t n, uint32_t id) noexcept nogil:
    """Its devices see it before anything is changed."""
    if rarely(e.sender_captured):
        store_frame(c, c.dev[e.sender], frame, n, id, True)
    if rarely(e.captured):
        store_frame(c, c.dev[e.dev], frame, n, id, False)


cdef inline void routed_written(const Exit *x, uint8_t *frame) noexcept nogil:
    """Behind the room for an Ethernet header stands the packet as it came: it gets what it leaves with."""
    cdef uint32_t hop = hop_taken(frame + ETH_LEN)
    memcpy(frame, x.ether, ETH_LEN)
    memcpy(frame + ETH_LEN + 8, &hop, 4)


cdef inline void routed_copied(const Exit *x, const uint8_t *frame, uint8_t *to) noexcept nogil:
    """The same for a frame whose bytes must stay as they are; ``to`` gets what leaves."""
    cdef uint32_t hop = hop_taken(frame + ETH_LEN)
    memcpy(to, x.ether, ETH_ROOM)
    copy_packet(to + ETH_LEN, frame + ETH_LEN, ld16(frame + ETH_LEN + 2))
    memcpy(to + ETH_LEN + 8, &hop, 4)


cdef inline uint32_t routed_leaves(Core *c, const Exit *x, const uint8_t *frame, uint32_t id) noexcept nogil:
    """The device sees what leaves, of which this is the number of bytes."""
    cdef uint32_t n = ETH_LEN + ld16(frame + ETH_LEN + 2)
    if rarely(x.captured):
        store_frame(c, c.dev[x.dev], frame, n, id, True)
    return n


# ---- the frames of a batch, some at a time, so that their lookups wait for memory together

cdef inline uint32_t block_size(uint64_t first, uint64_t n) noexcept nogil:
    """Frames of the block that begins with number ``first``, of ``n`` in all."""
    if first >= n:
        return 0
    return <uint32_t>(n - first) if n - first < WAYS_BLOCK else <uint32_t>WAYS_BLOCK


cdef inline void ways_forget(const Core *c, Ways *w) noexcept nogil:
    """Something has changed since frames were looked at."""
    memset(w, 0, sizeof(Ways))
    w.generation = c.generation


cdef inline uint64_t ways_seen(const Entrance *e, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                               const uint32_t *lengths, uint32_t m, uint32_t *address) noexcept nogil:
    """Bits of those of ``m`` frames that routed_sees() is known to let through at this entrance, where the first of them comes in."""
    cdef Sight s
    if not sight_is_wide():
        return 0
    s.mac = e.mac
    s.own = e.router.own
    s.most = e.most
    s.dev = devs[0]
    return sight_wide(&s, data, devs, starts, lengths, m, address)


cdef inline uint64_t devices_apart(const int32_t *devs, uint64_t n) noexcept nogil:
    """How many of the first devices have to be looked at, of frames that mostly come in by one: if all are the same, 1 of them."""
    return 1 if n and memcmp(devs, devs + 1, (n - 1) * sizeof(int32_t)) == 0 else n


cdef inline bint ways_refused(const Core *c, const Routed *r, const int32_t *devs, uint32_t m) noexcept nogil:
    """Are all of these devices known to be no entrances, as those of most machines are?"""
    cdef uint32_t number
    cdef uint64_t k
    for k in range(devices_apart(devs, m)):
        number = <uint32_t>devs[k] * 2 + 1
        if number >= r.n_places or r.place[number].refused != c.generation:
            return False
    return True


cdef inline void ways_look(Core *c, Routed *r, Ways *w, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                           const uint32_t *lengths, uint64_t first, uint64_t n) noexcept nogil:
    """Look at up to WAYS_BLOCK frames from number ``first`` on, of ``n`` frames in all, each for a transmit queue. ``first`` may lie
    behind all of them. Then the block before is ready: its hops are known."""
    cdef uint64_t others, apart = 0  # bits of frames that go another way, and of those that another table knows
    cdef uint32_t *address = &w.address[first & (WAYS - 1)]
    cdef const Multibit *table = NULL
    cdef const Entrance *e = NULL
    cdef const uint8_t *frame
    cdef uint32_t k, m = block_size(first, n)
    cdef bint alone = True
    cdef int dev = -1
    if w.generation != c.generation:
        ways_forget(c, w)
    others = (<uint64_t>1 << m) - 1
    if m:
        dev = devs[first]
        e = entrance_of(c, r, dev, True)
    if e != NULL:
        table = e.router.table
        others ^= ways_seen(e, data, devs + first, starts + first, lengths + first, m, address)
    for k in range(m if others and (e != NULL or not ways_refused(c, r, devs + first, m)) else 0):
        if not others >> k & 1:
            continue
        if devs[first + k] != dev:
            dev = devs[first + k]
            e = entrance_of(c, r, dev, True)
            alone = False
            if e != NULL and table == NULL:
                table = e.router.table
        if e == NULL:
            continue
        frame = data + starts[first + k]
        if routed_sees(e, frame, lengths[first + k]):
            address[k] = raw32(frame + ETH_LEN + 16)
            apart |= <uint64_t>(e.router.table != table) << k
            others ^= <uint64_t>1 << k
    w.some[(first / WAYS_BLOCK) & 1] = others != (<uint64_t>1 << m) - 1
    w.alone[(first / WAYS_BLOCK) & 1] = alone
    ways_begin(w, first, m, table, others | apart)
    for k in range(m if apart else 0):
        if apart >> k & 1:
            w.hop[(first + k) & (WAYS - 1)] = routed_hop(entrance_of(c, r, devs[first + k], True), data + starts[first + k])
    ways_end(w, first ^ WAYS_BLOCK)


cdef inline void ways_begin(Ways *w, uint64_t first, uint32_t m, const Multibit *table, uint64_t others) noexcept nogil:
    """Look the addresses of a block up, but for ``others``, whose places may hold anything; in a large table no further than to what
    has to be waited for."""
    cdef uint32_t place = <uint32_t>first & (WAYS - 1), k = 0
    cdef uint32_t *hop = &w.hop[place]
    w.pending[place != 0] = NULL
    if table == NULL:
        memset(hop, 0, sizeof(w.hop) // 2)
        return
    if table.root_bits == MB_WIDEST_ROOT and others == 0 and m == WAYS_BLOCK:
        mb_begin_wide(table, &w.address[place], <int32_t *>hop, m)
        w.pending[place != 0] = table
        return
    if (others == 0 and m == WAYS_BLOCK and sight_is_wide()
            and roots_wide(<const int32_t *>table.base, table.root_bits, &w.address[place], m, hop)):
        return
    mb_find_many(table, <const uint8_t *>&w.address[place], 4, m, hop)
    while others:
        if others & 1:
            hop[k] = HOP_ASK
        others >>= 1
        k += 1


cdef inline void ways_end(Ways *w, uint64_t first) noexcept nogil:
    """What ways_begin() has left to be done for this block."""
    cdef uint32_t place = <uint32_t>first & (WAYS - 1)
    if w.pending[place != 0] != NULL:
        mb_end_wide(w.pending[place != 0], &w.address[place], <int32_t *>&w.hop[place], WAYS_BLOCK)
        w.pending[place != 0] = NULL


cdef inline bint ways_some(const Ways *w, uint64_t i) noexcept nogil:
    """Does any frame of the block of frame ``i`` go by route?"""
    return w.some[(i / WAYS_BLOCK) & 1]


cdef inline uint32_t way_of(const Core *c, const Ways *w, uint64_t i) noexcept nogil:
    """The hop of frame ``i``, which has been looked at; HOP_ASK: it goes another way, or something has changed since."""
    return w.hop[i & (WAYS - 1)] if w.generation == c.generation else <uint32_t>HOP_ASK


cdef inline uint64_t ways_due(const int64_t *times, uint64_t n, int64_t due, int64_t *now) noexcept nogil:
    """How many of the next frames, ``n`` of them, come before something else is due; ``now`` becomes the time of the last one."""
    cdef uint64_t some = n
    cdef int64_t latest
    if n == 0 or now[0] >= due:
        return 0
    latest = times_latest(times, n)
    if latest >= due:
        some = 0
        while times[some] < due:
            some += 1
        if some == 0:
            return 0
        latest = times_latest(times, some)
    if latest > now[0]:
        now[0] = latest
    return some


cdef inline uint32_t spread(uint64_t number) noexcept nogil:
    """Where frames that nobody will read are written, in turn. A processor holds a read back behind writes whose addresses end in the same
    twelve bits, and with one place for all of them it may be that what every frame asks for lies so."""
    return <uint32_t>number * SPREAD_STEP & SPREAD


cdef inline uint64_t ways_run(const Core *c, const Ways *w, const Entrance *e, const uint8_t *data, const uint64_t *starts, uint64_t first,
                              uint64_t past, uint64_t n, uint8_t *scratch) noexcept nogil:
    """Let frames go that come in by one entrance, from number ``first`` on, as long as they leave the world seen by nobody; the first
    that does not. Frames that will be looked at later, of ``n`` in all, are asked for one by one meanwhile."""
    cdef Exit *exits = e.router.exits
    cdef const Exit *x = NULL
    cdef const uint8_t *frame
    cdef uint64_t i = first, known = NO_HOP
    cdef uint32_t hop, last = e.router.n_exits - 1
    while i < past:
        if i + WAYS_AHEAD < n:
            ask_for(data + starts[i + WAYS_AHEAD])
        hop = w.hop[i & (WAYS - 1)]
        frame = data + starts[i]
        if hop != known:
            if hop - 1 >= last:  # HOP_ASK is 0
                break
            x = &exits[hop]
            known = hop
            if rarely(x.generation != c.generation or x.moves != c.moves):
                if routed_exit(c, e, hop, frame + ETH_LEN) == NULL:
                    break
                if x.moves != c.moves:
                    known = NO_HOP  # each destination has a header of its own
            if x.dev == e.never:
                break
        if ld16(frame + ETH_LEN + 2) > x.most_quiet:
            break
        routed_copied(x, frame, scratch + spread(i))
        i += 1
    return i


cdef inline uint64_t ways_go(Core *c, Routed *r, const Ways *w, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                             const int64_t *times, uint64_t first, uint64_t n) noexcept nogil:
    """Carry frames from number ``first`` on, to the end of its block at most, out of the world, as long as they go by their routes alone,
    nobody captures them and nothing is due before; how many."""
    cdef uint64_t i = first, end = (first | (WAYS_BLOCK - 1)) + 1, past, stop
    cdef int64_t now = c.now
    cdef const Entrance *e
    if w.generation != c.generation or c.n_deliveries or c.out_of_memory or c.supply_failed or not routed_may(c):
        return 0
    if end > n:
        end = n
    end = first + ways_due(times + first, end - first, c.queue.next, &now)
    while i < end:
        past = end
        if not w.alone[(first / WAYS_BLOCK) & 1]:
            past = i + 1
            while past < end and devs[past] == devs[i]:
                past += 1
        e = entrance_of(c, r, devs[i], True)
        if e == NULL or e.captured or e.sender_captured:
            break
        stop = ways_run(c, w, e, data, starts, i, past, n, r.scratch)
        i = stop
        if stop < past:
            break
    if i == first:
        return 0
    if i < end:  # the times of those behind do not count
        now = c.now
        ways_due(times + first, i - first, c.queue.next, &now)
    c.now = now
    c.count.out += i - first
    routed_counts(c, r, i - first)
    return i - first
