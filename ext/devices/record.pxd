# What the flow cache is told of a walk: the stages say what they do to one packet, in order, while ``state`` is REC_ON.
#
# A call that finds the recorder off, or at another packet, costs a comparison. What is noted here is made into a program by
# ext/fast/learn.pxd. A stage that does something which the next packet of the flow would not meet in the same way says so with
# rec_refuse(): the walk up to the last crossing into another device's receive path, or the last arrival at transport protocols, may still
# repeat.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from ext.wire.packet cimport Dst, Pkt

cdef enum:
    REC_OFF = 0
    REC_ON = 1
    REC_CUT = 2  # only what came before the last crossing or arrival repeats
    REC_WHOLE = 3  # the end of the walk has been seen
    REC_STEPS = 96
    REC_BYTES = 512
    # kinds of steps
    STEP_TAP = 1  # x: device, y: outgoing
    STEP_TRIM = 2  # what lies behind the IP packet is cut off
    STEP_TRACK = 3  # p: conntrack entry, q: namespace, x: direction, y: IP protocol
    STEP_NAT = 4  # x: MANIP_*; bytes: address (4), port (2) as they are now
    STEP_TTL = 5  # x: the MTU of the route, which another one by the same neighbour need not have
    STEP_ETHER = 6  # bytes: the Ethernet header before the IP header as it is now
    STEP_NEIGH = 7  # p: neighbour whose MAC was used, x: the states (NUD_*) in which it is used without more ado
    STEP_FDB = 8  # p: entry that was found, x: the bridge
    STEP_LEARN = 9  # p: entry that was refreshed; y: an own address, which is never refreshed
    STEP_PUSH = 10  # bytes: outer IP header and encapsulation; p: namespace, q: device, h: hash behind its IP ids, x: inner packets are frames
    STEP_POP = 11  # bytes: outer IP header and encapsulation, of frames with the inner Ethernet header; x as above
    STEP_BARE = 13  # no link header
    STEP_ARRIVE = 15  # bytes: Arrival
    STEP_CHANGE = 14  # x: device, y: CHANGE_*, h: origin; bytes: what is told of it (devices/changes.pxd)
    STEP_CROSS = 12  # p: nothing; x: device whose receive path is next, h: ns until then
    STEP_ASK = 16  # y: ASK_*, p: namespace, h: ask_word(), x: device that the packet is at: what a megaflow has to ask anew of each packet
    ASK_TRACK = 1  # its connection
    ASK_NAT = 2  # the nat table
    ASK_RULES = 3  # another table
    ASK_CONFIRM = 4
    ASK_ROUTE = 5
    ASK_PUSH = 6  # these three tell where the others are about another header
    ASK_POP = 7
    ASK_SCRUB = 8
    ASK_DENIED = 9  # another table, which drops the packet
    # ends
    END_CROSS = 1
    END_OUT = 2  # out of a device that leads nowhere
    END_DROP = 3
    END_ARRIVE = 4  # at the transport protocols of a namespace

cdef struct Step:
    uint8_t kind
    uint8_t y
    uint16_t n  # bytes
    int x
    uint32_t at  # of its bytes
    void *p
    void *q
    uint64_t h

cdef struct Arrival:
    # what the stages have found out about a packet that is delivered to this namespace; all else is as in a new packet
    Dst dst
    int iif
    uint8_t flags
    uint8_t pkt_type  # a bridge's packets keep the one of the port that they came in by

cdef struct Recorder:
    uint8_t state
    uint8_t once  # see rec_not_again()
    uint8_t crossing  # the packet waits in the event queue for this instant's next device
    uint8_t end
    Pkt *p
    int n_steps
    uint32_t n_bytes
    int last_cross  # index of the last STEP_CROSS or STEP_ARRIVE, -1: none
    uint64_t walked  # counter of walked rules when it began
    uint64_t walked_at_cross
    uint32_t hash_at_cross
    uint8_t hash_l4_at_cross
    uint8_t unfinished_at_cross
    uint8_t hash_used  # a tunnel asked for the flow's hash
    uint8_t tracked  # a connection that stood before it has seen the packet
    uint8_t asked  # something that a megaflow has to ask anew
    int reason
    int origin
    int dev  # of a drop
    Step steps[REC_STEPS]
    uint8_t bytes[REC_BYTES]


cdef inline bint rec_is_on(const Recorder *r, const Pkt *p) noexcept nogil:
    return r.p == p and r.state == REC_ON


cdef inline void rec_refuse(Recorder *r) noexcept nogil:
    """From here on the next packet may fare otherwise."""
    if r.state == REC_ON:
        r.state = REC_CUT


cdef inline void rec_not_again(Recorder *r) noexcept nogil:
    """The next packet of the flow will fare otherwise, and then the whole walk may repeat: no flow is to be learnt from this one."""
    if r.state == REC_ON:
        r.once = True


cdef inline Step *rec_step(Recorder *r, int kind, uint32_t n) noexcept nogil:
    """A new step with room for ``n`` bytes; NULL: the walk is too long to be worth it."""
    cdef Step *s
    if r.n_steps == REC_STEPS or r.n_bytes + n > REC_BYTES:
        rec_refuse(r)
        return NULL
    s = &r.steps[r.n_steps]
    r.n_steps += 1
    s.kind = <uint8_t>kind
    s.y = 0
    s.n = <uint16_t>n
    s.x = 0
    s.p = s.q = NULL
    s.h = 0
    s.at = r.n_bytes
    r.n_bytes += n
    return s


cdef inline void rec_note(Recorder *r, const Pkt *p, int kind, void *what, int x, int y) noexcept nogil:
    cdef Step *s
    if not rec_is_on(r, p):
        return
    s = rec_step(r, kind, 0)
    if s != NULL:
        s.p = what
        s.x = x
        s.y = <uint8_t>y


cdef inline uint64_t ask_word(int hook, int table, int in_dev, int out_dev) noexcept nogil:
    return <uint64_t>(out_dev + 1) << 40 | <uint64_t>(in_dev + 1) << 16 | <uint64_t>table << 8 | <uint64_t>hook


cdef inline void rec_ask(Recorder *r, const Pkt *p, int kind, void *ns, uint64_t word) noexcept nogil:
    """Something was decided by more than the way that the packet took so far."""
    cdef Step *s
    if not rec_is_on(r, p):
        return
    r.asked = True
    s = rec_step(r, STEP_ASK, 0)
    if s != NULL:
        s.p = ns
        s.x = p.dev
        s.y = <uint8_t>kind
        s.h = word


cdef inline void rec_bytes(Recorder *r, const Pkt *p, int kind, const uint8_t *at, uint32_t n, int x) noexcept nogil:
    cdef Step *s
    if not rec_is_on(r, p):
        return
    s = rec_step(r, kind, n)
    if s != NULL:
        s.x = x
        memcpy(r.bytes + s.at, at, n)


cdef inline void rec_track(Recorder *r, const Pkt *p, void *ct, void *ns, int dir, int proto) noexcept nogil:
    cdef Step *s
    if not rec_is_on(r, p):
        return
    r.tracked = True
    s = rec_step(r, STEP_TRACK, 0)
    if s != NULL:
        s.p = ct
        s.q = ns
        s.x = dir
        s.y = <uint8_t>proto


cdef inline void rec_push(Recorder *r, const Pkt *p, const uint8_t *outer, uint32_t n, bint frames, void *ns, const void *device,
                          uint64_t id_hash) noexcept nogil:
    cdef Step *s
    if not rec_is_on(r, p):
        return
    s = rec_step(r, STEP_PUSH, n)
    if s != NULL:
        memcpy(r.bytes + s.at, outer, n)
        s.x = frames
        s.p = ns
        s.q = <void *>device
        s.h = id_hash


cdef inline void rec_cross(Recorder *r, const Pkt *p, int dev, int64_t delay, uint64_t walked) noexcept nogil:
    """The packet, which belongs to no namespace now, will be received by ``dev``."""
    cdef Step *s
    if not rec_is_on(r, p):
        return
    s = rec_step(r, STEP_CROSS, 0)
    if s == NULL:
        return
    s.x = dev
    s.h = <uint64_t>delay
    r.end = END_CROSS
    rec_passed(r, p, walked)
    r.crossing = delay == 0
    if delay:
        r.state = REC_WHOLE


cdef inline void rec_passed(Recorder *r, const Pkt *p, uint64_t walked) noexcept nogil:
    """The walk repeats up to the step that was noted last."""
    r.last_cross = r.n_steps - 1
    r.walked_at_cross = walked
    r.hash_at_cross = p.hash
    r.hash_l4_at_cross = p.hash_l4
    r.unfinished_at_cross = p.unfinished


cdef inline void rec_arrive(Recorder *r, const Pkt *p, uint64_t walked) noexcept nogil:
    """A packet without connection is handed to a transport protocol."""
    cdef Arrival a
    cdef Step *s
    if not rec_is_on(r, p) or p.ct != NULL or p.mark or p.vlan or p.brnf or p.n_frags or p.frag_max_size or p.frags != NULL:
        return
    s = rec_step(r, STEP_ARRIVE, sizeof(Arrival))
    if s == NULL:
        return
    memset(&a, 0, sizeof(Arrival))
    a.dst = p.dst
    a.iif = p.iif
    a.flags = p.flags
    a.pkt_type = p.pkt_type
    memcpy(r.bytes + s.at, &a, sizeof(Arrival))
    s.x = p.dev
    rec_passed(r, p, walked)


cdef inline void rec_end(Recorder *r, const Pkt *p, int end, int reason, int origin) noexcept nogil:
    if not rec_is_on(r, p):
        return
    r.end = <uint8_t>end
    r.reason = reason
    r.origin = origin
    r.dev = p.dev
    r.state = REC_WHOLE
