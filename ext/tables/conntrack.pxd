# Connection tracking table of one namespace: its entries by tuple, by source and by age, and their life in virtual time.
#
# net/netfilter/nf_conntrack_core.c. An entry is in ct_entry.pxd, the layer-4 rules are in ct_*.pxd, the way of a packet through the
# tracker in stages/conntrack.pxd, address translation in stages/nat.pxd.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy, memset
from ext.tables.ct_entry cimport *
from ext.tables.ct_settings cimport (CtSettings, ct_settings_init, ct_settings_least, CTS_CONFIRMED, CTS_ASSURED)
from ext.tables.ct_tcp cimport ct_tcp_can_early_drop
from ext.tables.ct_tuple cimport CT_PROTO_TCP
from ext.tables.ct_tuples cimport (ASTRAY_ALL, ASTRAY_FAR, CtTuples, LINES_FIRST_BITS, LINE_TUPLES, TAG_BITS, TAG_LEAST, TupleLine, line_ahead,
                                   line_astray, line_at, line_ends, line_put, line_take, line_vacant, lines_free, lines_make, tags_equal,
                                   tags_first, tuple_tag)
from ext.tables.memory cimport memory_give, memory_take
from ext.tables.slabs cimport Slabs, slab_at, slab_more, slab_place, slabs_free
from ext.wire.bytes cimport ask_for, rarely, raw32, zero_bytes

cdef enum:
    CT_BUCKETS_FIRST = 16
    CT_SOURCES_A_BUCKET = 2  # the table grows beyond
    SPLIT_AHEAD = 16  # buckets whose entries are asked for before their turn comes
    LINES_AHEAD = 4  # lines, the same

cdef struct CtHash:
    CtRef *bucket
    uint32_t mask
    uint32_t count
    uint64_t room  # that many before it grows

cdef struct CtDraft:
    # what is known of the tuples of an entry that is not in the table yet, by direction
    const Ct *ct
    uint32_t serial
    uint32_t free[2]  # see tuple_is_free()
    bint hashed[2]
    uint64_t hash[2]

cdef struct CtEnd:
    # an entry that will end soon, if nothing comes
    int64_t expires
    Ct *ct
    uint32_t serial

cdef struct CtTable:
    CtTuples tuples[2]  # of TCP, and of all else: a node's tunnels, which have as many as there are ports, are not to be sought among millions
    CtHash sources
    CtRef first
    CtRef last
    uint32_t count
    uint32_t max
    uint32_t insertions  # twice the number of entries that ever came in
    Slabs memory[2]  # of all entries, IPv4 and IPv6: it is an entry's, used or free, as long as the table lives
    CtRef free[2]
    const Ct *named  # the entry that was handed out last, and its place
    CtRef named_ref
    # Who ends next and who may have to make room, found out only where a table is full or listed:
    CtEnd *ends  # by time: all entries that can end up to ``ends_until``, which none that is refreshed meanwhile does
    int64_t ends_until
    int64_t least_timeout  # that any entry of this table has ever been given
    uint32_t n_ends
    uint32_t ends_at  # of ends: those before have been dealt with
    uint32_t ends_cap
    CtRef spare  # no entry before this one may make room; 0: none at all
    CtSettings set
    CtDraft draft  # of the entry that was asked about last
    const Ct *drawn_for  # the entry that chance was last asked about, and the hash that it draws by
    uint32_t drawn_serial
    uint64_t drawn_hash


# ---- memory and references

cdef inline Ct *ct_of(const CtTable *t, CtRef ref) noexcept nogil:
    if rarely(ref & CT_REF_SIX):
        return <Ct *>slab_at(&t.memory[1], ref >> CT_REF_BITS, sizeof(Ct6))
    return <Ct *>slab_at(&t.memory[0], ref >> CT_REF_BITS, sizeof(Ct))


cdef inline CtRef ct_ref(const CtTable *t, const Ct *ct) noexcept nogil:
    """Without a direction, which is added."""
    return ct_sought_ref(t, ct) if rarely(ct != t.named) else t.named_ref


cdef inline CtRef ct_sought_ref(const CtTable *t, const Ct *ct) noexcept nogil:
    if ct.family == 6:
        return slab_place(&t.memory[1], ct, sizeof(Ct6)) << CT_REF_BITS | CT_REF_SIX
    return slab_place(&t.memory[0], ct, sizeof(Ct)) << CT_REF_BITS


cdef inline Ct *ct_first(const CtTable *t) noexcept nogil:
    """The entry that was confirmed first, or NULL."""
    return ct_of(t, t.first) if t.first else NULL


cdef inline Ct *ct_next(const CtTable *t, const Ct *ct) noexcept nogil:
    return ct_of(t, ct.next) if ct.next else NULL


cdef inline void ct_table_init(CtTable *t) noexcept nogil:
    memset(t, 0, sizeof(CtTable))
    t.max = 262144  # nf_conntrack_max of a machine with 8 GiB or more
    ct_settings_init(&t.set)
    t.least_timeout = ct_settings_least(&t.set)


cdef inline Ct *ct_memory(CtTable *t, bint six) noexcept nogil:
    """A free entry, all zeros but for its serial; NULL when memory is out."""
    cdef size_t size = sizeof(Ct6) if six else sizeof(Ct)
    cdef Ct *ct
    cdef uint32_t serial, place
    cdef CtRef ref = t.free[six]
    if rarely(ref == 0):
        place = slab_more(&t.memory[six], size)
        if place == 0:
            return NULL
        ref = place << CT_REF_BITS | (CT_REF_SIX if six else 0)
        ct = ct_of(t, ref)
        ct_ask_for(<const Ct *>(<const uint8_t *>ct + size))  # the next one's, most likely
    else:
        ct = ct_of(t, ref)
        t.free[six] = ct.next
        if ct.next:
            ct_ask_for(ct_of(t, ct.next))
        serial = ct.serial
        zero_bytes(ct, size)
        ct.serial = serial
    t.named = ct
    t.named_ref = ref
    return ct


cdef inline void ct_ask_for(const Ct *ct) noexcept nogil:
    """The whole of it will be read soon."""
    ask_for(ct)
    ask_for(<const uint8_t *>ct + 64)
    ask_for(<const uint8_t *>(ct + 1) - 1)


cdef inline Ct *ct_new(CtTable *table, const Tuple *t, const Tuple *reply) noexcept nogil:
    """An entry that is not in the table yet, with one reference; NULL when memory is out."""
    cdef Ct *ct = ct_memory(table, t.family == 6)
    if ct == NULL:
        return NULL
    ct.family = t.family
    ct.number = t.proto
    ct_set_tuple(ct, 0, t)
    ct_set_tuple(ct, 1, reply)
    ct.refs = 1
    return ct


cdef inline Ct *ct_new_plain(CtTable *table, const Tuple *t) noexcept nogil:
    """ct_new() of IPv4 with ports, which answers have the other way round."""
    cdef Ct *ct = ct_memory(table, False)
    if ct == NULL:
        return NULL
    ct.family = 4
    ct.number = t.proto
    memcpy(ct.address4[0][0], t.src, 4)
    memcpy(ct.address4[0][1], t.dst, 4)
    memcpy(ct.address4[1][0], t.dst, 4)
    memcpy(ct.address4[1][1], t.src, 4)
    ct.port[0][0] = ct.port[1][1] = t.sport
    ct.port[0][1] = ct.port[1][0] = t.dport
    ct.refs = 1
    return ct


# ---- by tuple, see ct_tuples.pxd, and by source, once somebody has asked for one: chains of references, the newest first

cdef inline CtTuples *tuples_of(const CtTable *t, int proto) noexcept nogil:
    """Those of a protocol."""
    return <CtTuples *>&t.tuples[proto != CT_PROTO_TCP]


cdef inline uint64_t tuple_hash(const CtTable *t, CtRef ref) noexcept nogil:
    return ct_hash(ct_of(t, ref), ref & CT_REF_REPLY)


cdef inline void line_leaves(const CtTable *t, CtTuples *more, const CtTuples *h, uint64_t i, int k) noexcept nogil:
    """line_split() of one tuple that is not in its own line, or gets a new tag."""
    cdef const TupleLine *l = &h.line[i]
    cdef int away = line_astray(l, k)
    cdef uint64_t hash
    if more.tag_bits >= h.tag_bits or away == ASTRAY_FAR:
        hash = tuple_hash(t, l.ref[k])
        line_put(more, hash, tuple_tag(more, hash), l.ref[k])
    else:
        line_put(more, (i - away & h.mask) | <uint64_t>(l.tag[k] & 1) << h.bits, l.tag[k] >> 1, l.ref[k])


cdef inline void line_halves(CtTuples *more, const CtTuples *h, uint64_t i) noexcept nogil:
    """line_split() of the tuples that are in their own line, with tags that are shorter: nothing has left the new lines so far."""
    cdef const TupleLine *l = &h.line[i]
    cdef TupleLine *to[2]
    cdef TupleLine *half
    cdef int n[2]
    cdef int k, side
    to[0] = &more.line[i]
    to[1] = &more.line[i + h.mask + 1]
    n[0] = line_vacant(to[0])
    n[1] = line_vacant(to[1])
    for k in range(LINE_TUPLES):
        if l.ref[k] == 0 or line_astray(l, k):
            continue
        side = l.tag[k] & 1
        half = to[side]
        if rarely(n[side] == LINE_TUPLES):
            line_put(more, i | <uint64_t>side << h.bits, l.tag[k] >> 1, l.ref[k])
            continue
        half.tag[n[side]] = l.tag[k] >> 1
        half.ref[n[side]] = l.ref[k]
        n[side] += 1
        more.count += 1


cdef inline void line_split(const CtTable *t, CtTuples *more, const CtTuples *h, uint64_t i) noexcept nogil:
    """What is in line ``i`` goes into a table of twice as many lines, with tags that are shorter, or with new ones."""
    cdef const TupleLine *l = &h.line[i]
    cdef bint anew = more.tag_bits >= h.tag_bits
    cdef int k
    if anew or l.strays & ASTRAY_ALL:
        for k in range(LINE_TUPLES):
            if l.ref[k] and (anew or line_astray(l, k)):
                line_leaves(t, more, h, i, k)
    if not anew:
        line_halves(more, h, i)


cdef inline void line_asked(const CtTable *t, const TupleLine *l) noexcept nogil:
    """All of its connections' tuples will be read soon."""
    cdef int k
    for k in range(LINE_TUPLES):
        if l.ref[k]:
            ask_for(ct_of(t, l.ref[k]).address4)


cdef inline bint tuples_grow(const CtTable *t, CtTuples *h) noexcept nogil:
    """False: memory is out, and there is no room at all."""
    cdef CtTuples more
    cdef uint64_t i, lines
    if h.line == NULL:
        return lines_make(h, LINES_FIRST_BITS, TAG_BITS)
    if not lines_make(&more, h.bits + 1, h.tag_bits - 1 if h.tag_bits > TAG_LEAST else TAG_BITS):
        return h.count + 2 <= <uint64_t>LINE_TUPLES << h.bits
    lines = <uint64_t>1 << h.bits
    for i in range(lines):
        if more.tag_bits == TAG_BITS and i + LINES_AHEAD < lines:
            line_asked(t, &h.line[i + LINES_AHEAD])
        line_split(t, &more, h, i)
    lines_free(h)
    h[0] = more
    return True


cdef inline bint tuples_room(const CtTable *t, CtTuples *h) noexcept nogil:
    """Make sure of room for the two tuples of one more. False: memory is out."""
    return tuples_grow(t, h) if rarely(h.count + 2 > h.room) else True


cdef inline void sources_link(CtRef *bucket, Ct *before, CtRef ref) noexcept nogil:
    if before == NULL:
        bucket[0] = ref
    else:
        before.source = ref


cdef inline void sources_split(CtTable *t, CtRef *bucket, uint32_t old, uint32_t i) noexcept nogil:
    cdef CtRef ref = t.sources.bucket[i], next
    cdef CtRef *to[2]
    cdef Ct *last[2]
    cdef Ct *ct
    cdef int half
    to[0] = &bucket[i]
    to[1] = &bucket[i + old]
    last[0] = last[1] = NULL
    while ref:
        ct = ct_of(t, ref)
        next = ct.source
        half = (ct_source_hash(ct) & old) != 0
        sources_link(to[half], last[half], ref)
        ct.source = 0
        last[half] = ct
        ref = next


cdef inline void source_asked(const CtTable *t, CtRef ref) noexcept nogil:
    """An entry's source and link will be read soon."""
    if ref:
        ask_for(&ct_of(t, ref).source)
        ask_for(ct_of(t, ref).address4)


cdef inline void sources_ahead(const CtTable *t, uint32_t i) noexcept nogil:
    """Bucket ``i`` will be split soon, and one before sooner."""
    cdef CtRef ref = t.sources.bucket[i] if i <= t.sources.mask else 0
    source_asked(t, ref)
    i -= SPLIT_AHEAD // 2
    ref = t.sources.bucket[i] if i <= t.sources.mask else 0
    if ref:
        source_asked(t, ct_of(t, ref).source)


cdef inline void sources_grow(CtTable *t) noexcept nogil:
    """When memory is out it goes on with longer chains than wanted."""
    cdef CtHash *h = &t.sources
    cdef uint32_t old = h.mask + 1, i
    cdef CtRef *bucket = <CtRef *>memory_take(2 * <size_t>old * sizeof(CtRef))
    if bucket == NULL:
        return
    for i in range(old):
        sources_ahead(t, i + SPLIT_AHEAD)
        sources_split(t, bucket, old, i)
    memory_give(h.bucket, old * sizeof(CtRef))
    h.bucket = bucket
    h.mask = 2 * old - 1
    h.room = CT_SOURCES_A_BUCKET * 2 * <uint64_t>old


cdef inline CtRef *source_place(const CtTable *t, uint64_t hash) noexcept nogil:
    return &t.sources.bucket[hash & t.sources.mask]


cdef inline bint in_sources(const CtTable *t, const Ct *ct) noexcept nogil:
    """Is the connection, which is in the table, found by its source too? Nobody is until somebody asks."""
    return t.sources.bucket != NULL and ct.status & CTS_SRC_NAT_DONE != 0


cdef inline void sources_insert(CtTable *t, Ct *ct, CtRef ref) noexcept nogil:
    cdef CtRef *bucket
    if t.sources.count >= t.sources.room:
        sources_grow(t)
    bucket = source_place(t, ct_source_hash(ct))
    ct.source = bucket[0]
    bucket[0] = ref
    t.sources.count += 1


cdef inline bint sources_build(CtTable *t) noexcept nogil:
    """All that the table has, in order of confirmation, which is that in which Linux enters them: a source is settled and its connection
    confirmed in one go. False: memory is out."""
    cdef CtHash *h = &t.sources
    cdef uint64_t buckets = CT_BUCKETS_FIRST
    cdef Ct *ct = ct_first(t)
    while buckets * CT_SOURCES_A_BUCKET < t.count:
        buckets *= 2
    h.bucket = <CtRef *>memory_take(buckets * sizeof(CtRef))
    if h.bucket == NULL:
        return False
    h.mask = <uint32_t>(buckets - 1)
    h.room = CT_SOURCES_A_BUCKET * buckets
    while ct != NULL:
        if in_sources(t, ct):
            sources_insert(t, ct, ct_ref(t, ct))
        ct = ct_next(t, ct)
    return True


cdef inline void sources_remove(CtTable *t, Ct *ct, CtRef ref) noexcept nogil:
    cdef CtRef *bucket = source_place(t, ct_source_hash(ct))
    cdef CtRef at = bucket[0]
    cdef Ct *before = NULL
    while at != ref:
        before = ct_of(t, at)
        at = before.source
    sources_link(bucket, before, ct.source)
    t.sources.count -= 1


cdef inline Ct *sources_first(CtTable *t, const Tuple *orig) noexcept nogil:
    """Entries whose source may be that of ``orig``, the newest first; NULL: there is none, or no memory to look for them."""
    if t.sources.bucket == NULL and not sources_build(t):
        return NULL
    return sources_at(t, source_place(t, source_hash(orig.family, orig.proto, orig.sport, orig.src))[0])


cdef inline Ct *sources_at(CtTable *t, CtRef ref) noexcept nogil:
    return ct_of(t, ref) if ref else NULL


# ---- entries come and go

cdef inline void list_remove(CtTable *t, Ct *ct, CtRef ref) noexcept nogil:
    if t.spare == ref:
        t.spare = ct.next
    if ct.prev:
        ct_of(t, ct.prev).next = ct.next
    else:
        t.first = ct.next
    if ct.next:
        ct_of(t, ct.next).prev = ct.prev
    else:
        t.last = ct.prev
    t.count -= 1


cdef inline void list_append(CtTable *t, Ct *ct, CtRef ref) noexcept nogil:
    ct.prev = t.last
    ct.next = 0
    if t.last:
        ct_of(t, t.last).next = ref
    else:
        t.first = ref
    t.last = ref
    t.count += 1
    if t.spare == 0:
        t.spare = ref


cdef inline void ct_unlink(CtTable *t, Ct *ct) noexcept nogil:
    cdef CtTuples *h = tuples_of(t, ct.number)
    cdef CtRef ref = ct_ref(t, ct)
    if ct.status & CTS_CONFIRMED and not (ct.status & CTS_DYING):
        line_take(h, ct_hash(ct, 0), ref)
        line_take(h, ct_hash(ct, 1), ref | CT_REF_REPLY)
        list_remove(t, ct, ref)
        if in_sources(t, ct):
            sources_remove(t, ct, ref)


cdef inline void ct_put(CtTable *t, Ct *ct) noexcept nogil:
    """Give one reference back; the last one frees."""
    cdef int six
    if ct.refs == CT_REFS_STUCK:
        return
    ct.refs -= 1
    if ct.refs == 0:
        ct_unlink(t, ct)
        ct.serial += 1
        ct.status = 0
        ct.expires = 0
        if <uint16_t>ct.serial == 0:
            return  # its memory is not used again: flows know the lower half of serials
        six = ct.family == 6
        ct.next = t.free[six]
        t.free[six] = ct_ref(t, ct)


cdef inline void ct_kill(CtTable *t, Ct *ct) noexcept nogil:
    """Take an entry out of the table; packets that hold it keep it alive."""
    if ct.status & CTS_CONFIRMED and not (ct.status & CTS_DYING):
        ct_unlink(t, ct)
        ct.status |= CTS_DYING
        ct_put(t, ct)


cdef inline int found_in(const Ct *ct, CtRef ref, const CtKey *key) noexcept nogil:
    """The direction that the tuple was found in. Where both have the same, as of a host that sends to itself through others, that is the
    answer, which Linux puts in front (__nf_conntrack_hash_insert())."""
    if ref & CT_REF_REPLY:
        return 1
    return rarely(raw32(key.src) == raw32(key.dst)) and ct_has_key(ct, 1, key)


cdef inline Ct *line_find(const CtTable *t, const TupleLine *l, const CtKey *key, uint16_t tag, int *dir) noexcept nogil:
    """Who in this line has the key; NULL: nobody."""
    cdef uint32_t found = tags_equal(l.tag, tag)
    cdef CtRef ref
    cdef Ct *ct
    while found:
        ref = l.ref[tags_first(found)]
        found &= found - 1
        if ref == 0:
            continue
        ct = ct_of(t, ref)
        if ct_has_key(ct, ref & CT_REF_REPLY, key):
            dir[0] = found_in(ct, ref, key)
            return ct
    return NULL


cdef inline void tuple_ahead(const CtTable *t, int proto, uint64_t hash) noexcept nogil:
    """A tuple of this protocol and hash will be looked for."""
    line_ahead(tuples_of(t, proto), hash)


cdef inline void tuple_nears(const CtTable *t, int proto, uint64_t hash) noexcept nogil:
    """The same, and its line has been asked for."""
    cdef const CtTuples *h = tuples_of(t, proto)
    cdef const TupleLine *l
    cdef uint32_t found
    cdef CtRef ref
    if h.line == NULL:
        return
    l = line_at(h, hash)
    found = tags_equal(l.tag, tuple_tag(h, hash))
    while found:
        ref = l.ref[tags_first(found)]
        found &= found - 1
        if ref:
            ct_ask_for(ct_of(t, ref))


cdef inline Ct *ct_find_key(CtTable *t, const CtKey *key, uint64_t hash, int64_t now, int *dir) noexcept nogil:
    """As ct_find(), by the key_hash() of ``key``."""
    cdef const CtTuples *h = tuples_of(t, key_proto(key))
    cdef uint16_t tag = tuple_tag(h, hash)
    cdef uint64_t number
    cdef const TupleLine *l
    cdef Ct *ct
    if h.line == NULL:
        return NULL
    for number in range(hash, hash + h.mask + 1):
        l = line_at(h, number)
        ct = line_find(t, l, key, tag, dir)
        if ct != NULL:
            if rarely(ct.expires <= now):
                ct_kill(t, ct)
                return NULL  # no other one has the tuple
            return ct
        if line_ends(l):
            break
    return NULL


cdef inline Ct *ct_find(CtTable *t, const Tuple *key, int64_t now, int *dir) noexcept nogil:
    """The entry that has this tuple, and in which direction; expired entries are removed on the way. NULL: there is none."""
    cdef CtKey k = tuple_key(key)
    return ct_find_key(t, &k, key_hash(&k), now, dir)


# ---- what is known of the tuples of an entry that is not in the table yet

cdef inline CtDraft *ct_draft(CtTable *t, const Ct *ct) noexcept nogil:
    """Of this entry; what was known of another one is forgotten, which costs time and changes nothing."""
    cdef CtDraft *d = &t.draft
    if d.ct != ct or d.serial != ct.serial:
        memset(d, 0, sizeof(CtDraft))
        d.ct = ct
        d.serial = ct.serial
    return d


cdef inline bint tuple_is_free(const CtTable *t, const CtDraft *d, int dir) noexcept nogil:
    """Has nobody else this tuple? It was looked for, and nothing has come in since."""
    return d.free[dir] == (t.insertions | 1)


cdef inline void note_free(CtTable *t, const Ct *ct, int dir, uint64_t hash) noexcept nogil:
    """Its tuple of this hash was looked for, and nobody has it."""
    cdef CtDraft *d = ct_draft(t, ct)
    d.free[dir] = t.insertions | 1
    d.hash[dir] = hash
    d.hashed[dir] = True


cdef inline void answers_changed(CtTable *t, const Ct *ct) noexcept nogil:
    """Another tuple is to answer. Who has it will be asked soon."""
    cdef CtDraft *d = ct_draft(t, ct)
    d.hash[1] = ct_hash(ct, 1)
    d.hashed[1] = True
    d.free[1] = 0
    tuple_ahead(t, ct.number, d.hash[1])


cdef inline uint64_t draft_hash(const CtDraft *d, int dir) noexcept nogil:
    return d.hash[dir] if not rarely(not d.hashed[dir]) else ct_hash(d.ct, dir)


cdef inline bint ct_reply_taken(CtTable *t, const CtKey *reply, const Ct *mine, int64_t now) noexcept nogil:
    """Would these answers to a connection clash with another one's? (nf_nat_used_tuple())"""
    cdef CtKey original
    cdef int dir
    cdef Ct *found = ct_find_key(t, reply, key_hash(reply), now, &dir)
    if found == NULL or found == mine:
        return False
    original = ct_key(mine, 0)
    return not ct_has_key(found, 0, &original)  # two packets of one flow on their way at once are no clash


cdef inline bint ct_answers_taken(CtTable *t, Ct *ct, int64_t now) noexcept nogil:
    """The same of the answers that a connection expects, which is not in the table yet."""
    cdef CtDraft *d = ct_draft(t, ct)
    return False if tuple_is_free(t, d, 1) else answers_sought(t, d, ct, now)


cdef inline bint answers_sought(CtTable *t, CtDraft *d, Ct *ct, int64_t now) noexcept nogil:
    cdef CtKey key = ct_key(ct, 1)
    cdef int dir
    d.hash[1] = draft_hash(d, 1)
    d.hashed[1] = True
    if ct_find_key(t, &key, d.hash[1], now, &dir) == NULL:
        d.free[1] = t.insertions | 1
        return False
    return ct_reply_taken(t, &key, ct, now)


cdef inline bint ct_tuple_taken(CtTable *t, const Tuple *wanted, const Ct *mine, int64_t now) noexcept nogil:
    """The same of a connection that is translated to ``wanted``."""
    cdef Tuple reply
    cdef CtKey key
    if not tuple_invert(&reply, wanted):
        return False
    key = tuple_key(&reply)
    return ct_reply_taken(t, &key, mine, now)


cdef inline bint tuple_taken(CtTable *t, const Ct *ct, int of, int64_t now) noexcept nogil:
    cdef CtKey key = ct_key(ct, of)
    cdef int dir
    return ct_find_key(t, &key, key_hash(&key), now, &dir) != NULL


cdef inline bint ct_insert(CtTable *t, Ct *ct, int64_t now) noexcept nogil:
    """Confirm: both tuples enter the table. False: one of them is taken (__nf_conntrack_confirm()), or memory is out."""
    cdef CtTuples *h = tuples_of(t, ct.number)
    cdef CtRef ref = ct_ref(t, ct)
    cdef CtDraft *d = ct_draft(t, ct)
    cdef uint64_t original, reply
    if rarely(not tuple_is_free(t, d, 0)) and tuple_taken(t, ct, 0, now):
        return False
    if rarely(not tuple_is_free(t, d, 1)) and tuple_taken(t, ct, 1, now):
        return False
    if not tuples_room(t, h):
        return False
    original = draft_hash(d, 0)
    reply = draft_hash(d, 1)
    line_put(h, original, tuple_tag(h, original), ref)
    line_put(h, reply, tuple_tag(h, reply), ref | CT_REF_REPLY)
    t.insertions += 2
    ct.status |= CTS_CONFIRMED
    ct.expires += now
    ct_hold(ct)
    list_append(t, ct, ref)
    if in_sources(t, ct):
        sources_insert(t, ct, ref)
    return True


# ---- who ends, and who makes room

cdef inline int ends_order(const void *a, const void *b) noexcept nogil:
    cdef int64_t x = (<const CtEnd *>a).expires, y = (<const CtEnd *>b).expires
    return (x > y) - (x < y)


cdef inline bint ends_add(CtTable *t, Ct *ct) noexcept nogil:
    cdef uint32_t cap
    cdef CtEnd *grown
    if t.n_ends == t.ends_cap:
        cap = t.ends_cap * 2 if t.ends_cap else 64
        grown = <CtEnd *>realloc(t.ends, cap * sizeof(CtEnd))
        if grown == NULL:
            return False
        t.ends = grown
        t.ends_cap = cap
    t.ends[t.n_ends].expires = ct.expires
    t.ends[t.n_ends].ct = ct
    t.ends[t.n_ends].serial = ct.serial
    t.n_ends += 1
    return True


cdef inline void ct_look_ahead(CtTable *t, int64_t now) noexcept nogil:
    """End what has ended, and note what will end within the shortest timeout: whatever is refreshed or begun from now on ends later."""
    cdef Ct *ct = ct_first(t)
    cdef Ct *after
    cdef int64_t until = now + t.least_timeout
    t.n_ends = t.ends_at = 0
    while ct != NULL:
        after = ct_next(t, ct)
        if ct.expires <= now:
            ct_kill(t, ct)
        elif ct.expires <= until and not ends_add(t, ct):
            until = now
        ct = after
    t.ends_until = until
    if t.n_ends:
        qsort(t.ends, t.n_ends, sizeof(CtEnd), ends_order)


cdef inline void ct_expire_all(CtTable *t, int64_t now) noexcept nogil:
    """Remove all entries whose time is over."""
    cdef CtEnd *e
    if now >= t.ends_until:
        ct_look_ahead(t, now)
        return
    while t.ends_at < t.n_ends and t.ends[t.ends_at].expires <= now:
        e = &t.ends[t.ends_at]
        t.ends_at += 1
        if e.ct.serial == e.serial and e.ct.expires <= now:
            ct_kill(t, e.ct)


cdef inline void ct_settings_changed(CtTable *t) noexcept nogil:
    """What was found out of who ends next no longer holds."""
    t.least_timeout = min(t.least_timeout, ct_settings_least(&t.set))
    t.n_ends = t.ends_at = 0
    t.ends_until = 0


cdef inline bint ct_may_make_room(const Ct *ct) noexcept nogil:
    return not ct.status & CTS_ASSURED or (ct.number == 6 and ct_tcp_can_early_drop(&ct.proto.tcp))


cdef inline void ct_closing(CtTable *t) noexcept nogil:
    """An assured connection has begun to close: it may make room from now on, wherever it stands."""
    t.spare = t.first


cdef inline bint ct_early_drop(CtTable *t, int64_t now) noexcept nogil:
    """Make room in a full table: expired entries, else the oldest that is not assured or is closing anyway."""
    cdef Ct *ct
    ct_expire_all(t, now)
    if t.count < t.max:
        return True
    while t.spare:
        ct = ct_of(t, t.spare)
        if ct_may_make_room(ct):
            ct_kill(t, ct)
            spare_nears(t)
            return True
        t.spare = ct.next
    return False


cdef inline void spare_nears(const CtTable *t) noexcept nogil:
    """The next one that makes room, most likely, has been asked for when the one before it went: what its going changes, and who comes
    after it."""
    cdef const Ct *ct
    if t.spare == 0:
        return
    ct = ct_of(t, t.spare)
    tuple_ahead(t, ct.number, ct_hash(ct, 0))
    tuple_ahead(t, ct.number, ct_hash(ct, 1))
    if in_sources(t, ct):
        ask_for(source_place(t, ct_source_hash(ct)))
    if ct.next:
        ct_ask_for(ct_of(t, ct.next))


cdef inline void ct_flush(CtTable *t) noexcept nogil:
    while t.first:
        ct_kill(t, ct_of(t, t.first))


cdef inline void ct_table_free(CtTable *t) noexcept nogil:
    """Nothing holds its entries any longer."""
    lines_free(&t.tuples[0])
    lines_free(&t.tuples[1])
    memory_give(t.sources.bucket, (<size_t>t.sources.mask + 1) * sizeof(CtRef))
    memset(&t.sources, 0, sizeof(CtHash))
    slabs_free(&t.memory[0], sizeof(Ct))
    slabs_free(&t.memory[1], sizeof(Ct6))
    t.free[0] = t.free[1] = 0
    free(t.ends)
    t.ends = NULL
    t.n_ends = t.ends_cap = 0
