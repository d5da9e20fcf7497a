# Changes, put beside the frames that show them: which comment belongs to which frame.
#
# A change is told on the first frame of that packet, in that namespace, whose bytes show it. One that no frame of its stretch of time
# shows, as the packet waits, is kept for the next stretch, and no longer.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset
from ext.capture.drops cimport grown
from ext.devices.changes cimport CHANGE_DECAP, CHANGE_DNAT, CHANGE_ENCAP, CHANGE_FRAGMENT, CHANGE_RULE, CHANGE_SNAT, ChangeRecord
from ext.devices.core cimport FrameRecord
from ext.wire.flow_key cimport FlowKey, frame_key, same_destination, same_source
from ext.wire.hash cimport hash_bytes, mix64

cdef enum:
    LINES_FIRST = 64  # places of a fresh table of lines; doubled when half of them are taken
    LINES_MOST = 1 << 16  # then all are forgotten
    RULE_NAMED = -2

cdef struct Line:
    # changes that are commented alike
    int kind
    int dev  # of a tunnel, else -1
    int origin
    uint8_t n
    uint8_t fact[16]
    uint8_t *comment  # a pcapng option, NULL: not known yet
    uint32_t comment_size

cdef struct LineTable:
    Line *line
    uint32_t n
    uint32_t cap
    int32_t *place  # by hash: a line, or -1
    uint32_t mask

cdef struct Told:
    # one line on one frame
    uint32_t line
    int32_t next  # on the same frame, -1: none

cdef struct ChangeMarks:
    LineTable lines
    ChangeRecord *change  # of a stretch of time: first those that waited
    uint64_t n
    uint64_t waited
    uint64_t cap
    uint32_t *line  # beside each of them
    uint64_t line_cap
    Told *told
    uint64_t told_cap
    uint64_t n_told
    int32_t *first  # beside each frame: the first line on it, or -1
    uint64_t first_cap
    uint8_t *kinds  # beside each frame: bits of the kinds of changes that are told on it
    uint64_t kinds_cap
    int32_t *next  # beside each frame: the next one whose packet has the same place
    uint64_t next_cap
    int32_t *place  # by packet: its first frame, or -1
    uint64_t place_cap
    uint64_t mask
    int32_t *rule  # by hash: the last rule that a packet met in a namespace, an index of the stretch's changes; -1: none
    uint64_t rule_cap
    uint64_t rule_mask


# ---- lines

cdef inline uint64_t line_hash(const Line *w) noexcept nogil:
    return hash_bytes(mix64(<uint64_t><uint32_t>w.dev << 32 | <uint32_t>w.origin) ^ <uint64_t>w.kind, w.fact, w.n)


cdef inline void line_place(LineTable *t, uint32_t number) noexcept nogil:
    cdef uint64_t at = line_hash(&t.line[number]) & t.mask
    while t.place[at] >= 0:
        at = (at + 1) & t.mask
    t.place[at] = <int32_t>number


cdef inline bint lines_grow(LineTable *t) noexcept nogil:
    """Room for one more line; False when memory is out."""
    cdef uint32_t cap = t.cap * 2 if t.cap else LINES_FIRST, i
    cdef Line *line
    cdef int32_t *place
    if t.n < t.cap:
        return True
    line = <Line *>realloc(t.line, cap * sizeof(Line))
    if line == NULL:
        return False
    t.line = line
    place = <int32_t *>realloc(t.place, 2 * cap * sizeof(int32_t))
    if place == NULL:
        return False
    t.place = place
    t.cap = cap
    t.mask = 2 * cap - 1
    memset(t.place, 0xff, 2 * cap * sizeof(int32_t))
    for i in range(t.n):
        line_place(t, i)
    return True


cdef inline void lines_forget(LineTable *t) noexcept nogil:
    cdef uint32_t i
    for i in range(t.n):
        free(t.line[i].comment)
    t.n = 0
    if t.place != NULL:
        memset(t.place, 0xff, (<uint64_t>t.mask + 1) * sizeof(int32_t))


cdef inline int64_t line_of(LineTable *t, const ChangeRecord *r) noexcept nogil:
    """The line that such a change gets, a new one if it is the first; -1 when memory is out."""
    cdef Line w
    cdef const Line *known
    cdef uint64_t at
    w.kind = r.kind
    w.dev = r.dev if r.kind == CHANGE_ENCAP or r.kind == CHANGE_DECAP else -1
    w.origin = r.origin
    w.n = r.n
    w.fact = r.fact
    w.comment = NULL
    w.comment_size = 0
    if t.n:
        at = line_hash(&w) & t.mask
        while t.place[at] >= 0:
            known = &t.line[t.place[at]]
            if (known.kind == w.kind and known.dev == w.dev and known.origin == w.origin and known.n == w.n
                    and memcmp(known.fact, w.fact, w.n) == 0):
                return t.place[at]
            at = (at + 1) & t.mask
    if not lines_grow(t):
        return -1
    t.line[t.n] = w
    t.n += 1
    line_place(t, t.n - 1)
    return t.n - 1


# ---- from what the core told to lines

cdef inline uint64_t power_from(uint64_t n) noexcept nogil:
    cdef uint64_t power = 2
    while power < n:
        power *= 2
    return power


cdef inline bint rules_room(ChangeMarks *m, uint64_t rules) noexcept nogil:
    cdef uint64_t places = power_from(2 * rules)
    cdef void *mem = grown(m.rule, &m.rule_cap, places, sizeof(int32_t))
    if mem == NULL:
        return False
    m.rule = <int32_t *>mem
    m.rule_mask = places - 1
    memset(m.rule, 0xff, places * sizeof(int32_t))
    return True


cdef inline int32_t *rule_place(ChangeMarks *m, const ChangeRecord *records, const ChangeRecord *r) noexcept nogil:
    """Where the rule of this packet and namespace stands or would stand; below -1 once a translation has named it."""
    cdef uint64_t at = mix64(<uint64_t>r.packet << 32 | <uint32_t>r.ns) & m.rule_mask
    cdef const ChangeRecord *known
    while m.rule[at] != -1:
        known = &records[m.rule[at] if m.rule[at] >= 0 else RULE_NAMED - m.rule[at]]
        if known.packet == r.packet and known.ns == r.ns:
            break
        at = (at + 1) & m.rule_mask
    return &m.rule[at]


cdef inline bint changes_room(ChangeMarks *m, uint64_t n, uint64_t n_frames) noexcept nogil:
    """Arrays for ``n`` changes more and so many frames, with nothing told; False when memory is out."""
    cdef uint64_t places = power_from(n_frames), all = m.n + n
    cdef void *mem = grown(m.change, &m.cap, all, sizeof(ChangeRecord))
    if mem == NULL:
        return False
    m.change = <ChangeRecord *>mem
    mem = grown(m.line, &m.line_cap, all, sizeof(uint32_t))
    if mem == NULL:
        return False
    m.line = <uint32_t *>mem
    mem = grown(m.told, &m.told_cap, all, sizeof(Told))
    if mem == NULL:
        return False
    m.told = <Told *>mem
    mem = grown(m.first, &m.first_cap, n_frames + 1, sizeof(int32_t))
    if mem == NULL:
        return False
    m.first = <int32_t *>mem
    mem = grown(m.kinds, &m.kinds_cap, n_frames + 1, 1)
    if mem == NULL:
        return False
    m.kinds = <uint8_t *>mem
    mem = grown(m.next, &m.next_cap, n_frames + 1, sizeof(int32_t))
    if mem == NULL:
        return False
    m.next = <int32_t *>mem
    mem = grown(m.place, &m.place_cap, places, sizeof(int32_t))
    if mem == NULL:
        return False
    m.place = <int32_t *>mem
    m.mask = places - 1
    memset(m.first, 0xff, n_frames * sizeof(int32_t))
    memset(m.kinds, 0, n_frames)
    memset(m.place, 0xff, places * sizeof(int32_t))
    m.n_told = 0
    return True


cdef inline bint changes_gather(ChangeMarks *m, const ChangeRecord *records, uint64_t n, uint64_t n_frames) noexcept nogil:
    """What waited, then those of this stretch, each with its line: translations name the rule that led to them. False: memory is out."""
    cdef uint64_t i, rules = 0
    cdef int64_t line
    cdef int32_t *place
    cdef ChangeRecord *r
    if m.lines.n > LINES_MOST:
        lines_forget(&m.lines)
    for i in range(n):
        rules += records[i].kind == CHANGE_RULE
    if not rules_room(m, rules) or not changes_room(m, n, n_frames):
        return False
    m.waited = m.n
    for i in range(n):
        if records[i].kind == CHANGE_RULE:
            rule_place(m, records, &records[i])[0] = <int32_t>i
            continue
        r = &m.change[m.n]
        r[0] = records[i]
        m.n += 1
        if rules and (r.kind == CHANGE_DNAT or r.kind == CHANGE_SNAT):
            place = rule_place(m, records, r)
            if place[0] >= 0:
                r.origin = records[place[0]].origin
                place[0] = RULE_NAMED - place[0]
    for i in range(m.n):
        line = line_of(&m.lines, &m.change[i])
        if line < 0:
            return False
        m.line[i] = <uint32_t>line
    return True


# ---- from changes to frames

cdef inline bint change_shows(const ChangeRecord *r, const FlowKey *key, bint outgoing) noexcept nogil:
    """Does a frame with this key show what the change left?"""
    if r.kind == CHANGE_DNAT:
        return same_destination(&r.key, key) and (r.key.dport == key.dport or not r.key.ports or not key.ports)
    if r.kind == CHANGE_SNAT:
        return same_source(&r.key, key) and (r.key.sport == key.sport or not r.key.ports or not key.ports)
    if r.kind == CHANGE_FRAGMENT and not (key.fragmented and outgoing):
        return False
    return same_source(&r.key, key) and same_destination(&r.key, key) and r.key.protocol == key.protocol


cdef inline int64_t change_frame(ChangeMarks *m, const ChangeRecord *r, const FrameRecord *frames, const uint8_t *data,
                                 const int32_t *namespaces, const uint8_t *ethernet) noexcept nogil:
    """The frame that it is told on; -1: none. Each of several fragments is encapsulated in its turn: one that has been told so is no other's."""
    cdef int64_t i = m.place[r.packet & m.mask]
    cdef const FrameRecord *f
    cdef FlowKey key
    if r.key.alen == 0:
        return -1
    while i >= 0:
        f = &frames[i]
        if (f.packet == r.packet and namespaces[f.dev] == r.ns and f.time >= r.time and not m.kinds[i] >> r.kind & 1):
            frame_key(&key, data + f.at, f.len, ethernet[f.dev])
            if key.alen and change_shows(r, &key, f.outgoing):
                return i
        i = m.next[i]
    return -1


cdef inline void tell(ChangeMarks *m, int64_t frame, uint32_t line) noexcept nogil:
    """Behind the lines that the frame has."""
    cdef int32_t *last = &m.first[frame]
    while last[0] >= 0:
        last = &m.told[last[0]].next
    last[0] = <int32_t>m.n_told
    m.told[m.n_told].line = line
    m.told[m.n_told].next = -1
    m.n_told += 1


cdef inline void changes_find(ChangeMarks *m, const FrameRecord *frames, uint64_t n_frames, const uint8_t *data, const int32_t *namespaces,
                              const uint8_t *ethernet) noexcept nogil:
    """Each gets its frame, or waits if it has not yet."""
    cdef int64_t i, frame
    cdef int32_t *place
    cdef uint64_t waiting = 0
    for i in range(<int64_t>n_frames - 1, -1, -1):
        place = &m.place[frames[i].packet & m.mask]
        m.next[i] = place[0]
        place[0] = <int32_t>i
    for i in range(<int64_t>m.n):
        frame = change_frame(m, &m.change[i], frames, data, namespaces, ethernet)
        if frame >= 0:
            m.kinds[frame] |= <uint8_t>(1 << m.change[i].kind)
            tell(m, frame, m.line[i])
        elif i >= <int64_t>m.waited:
            m.change[waiting] = m.change[i]
            waiting += 1
    m.n = waiting


cdef inline uint64_t told_bytes(const ChangeMarks *m, int32_t told) noexcept nogil:
    """Of the comments from this one on."""
    cdef uint64_t n = 0
    while told >= 0:
        n += m.lines.line[m.told[told].line].comment_size
        told = m.told[told].next
    return n


cdef inline uint8_t *told_write(const ChangeMarks *m, int32_t told, uint8_t *p) noexcept nogil:
    """Where what follows them goes."""
    cdef const Line *line
    while told >= 0:
        line = &m.lines.line[m.told[told].line]
        memcpy(p, line.comment, line.comment_size)
        p += line.comment_size
        told = m.told[told].next
    return p


cdef inline void changes_free(ChangeMarks *m) noexcept nogil:
    lines_forget(&m.lines)
    free(m.lines.line)
    free(m.lines.place)
    free(m.change)
    free(m.line)
    free(m.told)
    free(m.first)
    free(m.kinds)
    free(m.next)
    free(m.place)
    free(m.rule)
