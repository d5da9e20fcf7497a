# Changes of more than a packet's TTL, told in short: what comments on captured frames need, at a cost that every packet can bear.
#
# Where all steps of a walk are told (TRACE_STEPS) a change is one of them. Where changes alone are (TRACE_CHANGES) it is a record
# without text, which the flow cache can repeat.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, DETAIL_LEN, EventRecord, IFNAME_LEN, Ns, TRACE_CHANGES, TRACE_STEPS, new_event, store_add
from ext.devices.record cimport STEP_CHANGE, Step, rec_is_on, rec_step
from ext.wire.bytes cimport rarely
from ext.wire.flow_key cimport FlowKey, bare_ip_version, frame_key
from ext.wire.packet cimport Pkt
from ext.wire.text cimport put_address

cdef enum:
    CHANGE_DNAT = 1
    CHANGE_SNAT = 2
    CHANGE_ENCAP = 3
    CHANGE_DECAP = 4
    CHANGE_FRAGMENT = 5
    CHANGE_RULE = 6  # no change: the rule of the nat table that the next translation of this packet here goes back to
    CHANGE_FACT = 16  # bytes

cdef struct ChangeRecord:
    FlowKey key  # of the packet as the change left it
    int64_t time
    int ns
    int dev
    int origin
    uint32_t packet
    uint8_t kind  # CHANGE_*
    uint8_t n  # bytes of ``fact``
    uint8_t fact[CHANGE_FACT]  # the address now, that of the tunnel's other end, or length and MTU of what is cut


cdef inline const char *change_stage(int kind) noexcept nogil:
    if kind == CHANGE_FRAGMENT:
        return b"fragment"
    return b"tunnel" if kind == CHANGE_ENCAP or kind == CHANGE_DECAP else b"nat"


cdef inline const char *change_word(int kind) noexcept nogil:
    if kind == CHANGE_DNAT:
        return b"dnat"
    if kind == CHANGE_SNAT:
        return b"snat"
    if kind == CHANGE_ENCAP:
        return b"encap"
    return b"decap" if kind == CHANGE_DECAP else b"fragment"


cdef inline void change_text(char *to, int room, int kind, const char *device, const uint8_t *fact, int n) noexcept nogil:
    """What is said of it; ``device``: the short name of the one that it happened at, which tunnels are told with."""
    cdef uint32_t cut[2]
    cdef int at
    if kind == CHANGE_FRAGMENT:
        memcpy(cut, fact, sizeof(cut))
        snprintf(to, room, b"%u bytes cut for an MTU of %u", cut[0], cut[1])
        return
    if kind == CHANGE_ENCAP or kind == CHANGE_DECAP:
        at = snprintf(to, room, b"%s, remote ", device)
    else:
        at = snprintf(to, room, b"%s is now ", b"source" if kind == CHANGE_SNAT else b"destination")
    put_address(to + at, room - at, fact, 4 if n == 4 else 6)


cdef inline bint shows_frames(const Core *c, int dev) noexcept nogil:
    """Is any device of this one's namespace captured? Else nothing shows what changes there."""
    cdef Ns *ns = c.ns[c.dev[dev].ns]
    cdef int i
    if ns.shown_at != c.generation:
        ns.shown_at = c.generation
        ns.shown = False
        for i in range(ns.n_devs):
            if c.dev[ns.devs[i]] != NULL and c.dev[ns.devs[i]].capture:
                ns.shown = True
    return ns.shown


cdef inline void store_change(Core *c, int dev, int kind, const uint8_t *fact, int n, int origin, uint32_t packet, const uint8_t *data,
                              uint32_t size) noexcept nogil:
    """``data``: the packet from its first header on, Ethernet's or IP's."""
    cdef ChangeRecord *r = <ChangeRecord *>store_add(c, &c.changes, sizeof(ChangeRecord))
    if r == NULL:
        return
    memset(r, 0, sizeof(ChangeRecord))  # so that equal ones have equal bytes
    r.time = c.now
    r.dev = dev
    r.ns = c.dev[dev].ns
    r.packet = packet
    r.origin = origin
    r.kind = <uint8_t>kind
    r.n = <uint8_t>n
    if n:
        memcpy(r.fact, fact, n)
    if kind != CHANGE_RULE:
        frame_key(&r.key, data, size, bare_ip_version(data, size) == 0)


cdef inline void note_change(Core *c, const Pkt *p, int kind, const uint8_t *fact, int n, int origin) noexcept nogil:
    """Tell the flow cache; an address that is translated stands in the packet, as it differs from flow to flow."""
    cdef Step *s
    if not rec_is_on(&c.rec, p):
        return
    if kind == CHANGE_DNAT or kind == CHANGE_SNAT:
        n = 0
    s = rec_step(&c.rec, STEP_CHANGE, n)
    if s == NULL:
        return
    s.x = p.dev
    s.y = <uint8_t>kind
    s.h = <uint32_t>origin
    if n:
        memcpy(c.rec.bytes + s.at, fact, n)


cdef inline void log_change(Core *c, const Pkt *p, int kind, const uint8_t *fact, int n, int origin) noexcept nogil:
    """The packet is changed; ``fact`` as in ChangeRecord."""
    cdef EventRecord *ev
    cdef uint32_t start = p.l2 if p.l2 < p.l3 else p.l3
    if rarely(c.tracing == TRACE_STEPS):
        ev = new_event(c, p, change_stage(kind), change_word(kind), origin)
        if ev != NULL:
            change_text(ev.detail, DETAIL_LEN, kind, c.dev[p.dev].name, fact, n)
    elif c.tracing == TRACE_CHANGES and shows_frames(c, p.dev):
        store_change(c, p.dev, kind, fact, n, origin, p.id, p.buf + start, p.end - start)
        note_change(c, p, kind, fact, n, origin)


cdef inline void log_nat_rule(Core *c, const Pkt *p, int origin) noexcept nogil:
    """Of a connection's first packet: the last rule of the nat table that it met."""
    if c.tracing == TRACE_CHANGES and shows_frames(c, p.dev):
        store_change(c, p.dev, CHANGE_RULE, NULL, 0, origin, p.id, NULL, 0)
        note_change(c, p, CHANGE_RULE, NULL, 0, origin)
