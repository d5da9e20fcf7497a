# Connection tracking table of one namespace: entries, their two tuples, their life in virtual time.
#
# net/netfilter/nf_conntrack_core.c. The layer-4 rules are in ct_*.pxd, the way of a packet through the
# tracker in stages/conntrack.pxd, address translation in stages/nat.pxd.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memcmp, memset
from ext.tables.htab cimport HTab, HNode, htab_insert, htab_first, htab_next, htab_remove, htab_free
from ext.tables.ct_settings cimport CtSettings, ct_settings_init, CTS_CONFIRMED, CTS_ASSURED
from ext.tables.ct_tcp cimport CtTcp, ct_tcp_can_early_drop
from ext.tables.ct_udp cimport CtUdp
from ext.tables.ct_sctp cimport CtSctp
from ext.tables.ct_gre cimport CtGre
from ext.tables.ct_tuple cimport ct_invert_tuple
from ext.tables.slabs cimport Slabs, slab_at, slab_more, slabs_free
from ext.wire.bytes cimport ld32, ld64
from ext.wire.hash cimport word_hash

cdef enum:
    # ctinfo of a packet, as enum ip_conntrack_info
    CTI_ESTABLISHED = 0
    CTI_RELATED = 1
    CTI_NEW = 2
    CTI_REPLY = 3  # added for the reply direction
    CTI_UNTRACKED = 7
    # status bits beside those of ct_settings.pxd
    CTS_SRC_NAT = 1 << 4
    CTS_DST_NAT = 1 << 5
    CTS_NAT_MASK = CTS_SRC_NAT | CTS_DST_NAT
    CTS_SRC_NAT_DONE = 1 << 7
    CTS_DST_NAT_DONE = 1 << 8
    CTS_NAT_DONE_MASK = CTS_SRC_NAT_DONE | CTS_DST_NAT_DONE
    CTS_DYING = 1 << 9
    CT_TUPLE_BYTES = 38  # of Tuple that count as key

cdef struct Tuple:
    uint8_t src[16]  # IPv4: the first four bytes, the rest zero
    uint8_t dst[16]
    uint16_t sport  # host byte order; ICMP: id
    uint16_t dport  # ICMP: type << 8 | code
    uint8_t family  # 4 or 6
    uint8_t proto

cdef union CtProto:
    CtTcp tcp
    CtUdp udp
    CtSctp sctp
    CtGre gre

cdef struct CtNode:
    HNode node
    Tuple t
    void *ct
    uint8_t dir

cdef struct Ct:
    CtNode dir[2]
    HNode by_source
    uint32_t status
    uint32_t refs  # packets that hold it, plus one while it is in the table; 0: free
    uint32_t serial  # another one for each connection that this memory holds: what was noted of an earlier one is seen to be stale
    uint32_t mark
    int masq_dev  # device that MASQUERADE took the address of, -1: none
    uint8_t in_by_source  # by_source is linked
    int64_t expires  # virtual ns; before confirmation: the time to live
    CtProto proto
    Ct *next  # all entries, in order of confirmation; of free ones the next free one
    Ct *prev

cdef struct CtTable:
    HTab tuples
    HTab by_source
    Ct *first
    Ct *last
    uint32_t count
    uint32_t max
    Slabs memory  # of all entries: it is an entry's, used or free, as long as the table lives
    Ct *free
    CtSettings set


cdef inline uint64_t tuple_layer4(const Tuple *t) noexcept nogil:
    """All of a tuple but its addresses."""
    return <uint64_t>t.family << 40 | <uint64_t>t.proto << 32 | <uint64_t>t.sport << 16 | t.dport


cdef inline bint tuple_equal(const Tuple *a, const Tuple *b) noexcept nogil:
    if tuple_layer4(a) != tuple_layer4(b):
        return False
    if a.family == 4:
        return ld32(a.src) == ld32(b.src) and ld32(a.dst) == ld32(b.dst)
    return memcmp(a.src, b.src, 16) == 0 and memcmp(a.dst, b.dst, 16) == 0


cdef inline uint64_t tuple_hash(const Tuple *t) noexcept nogil:
    cdef uint64_t h = tuple_layer4(t)
    if t.family == 4:
        return word_hash(h, <uint64_t>ld32(t.src) << 32 | ld32(t.dst))
    h = word_hash(word_hash(h, ld64(t.src)), ld64(t.src + 8))
    return word_hash(word_hash(h, ld64(t.dst)), ld64(t.dst + 8))


cdef inline bint tuple_invert(Tuple *out, const Tuple *t) noexcept nogil:
    """The tuple that answers have; False: nothing answers it."""
    cdef uint16_t sport, dport
    if not ct_invert_tuple(t.proto, t.sport, t.dport, &sport, &dport):
        return False
    memset(out, 0, sizeof(Tuple))
    memcpy(out.src, t.dst, 16)
    memcpy(out.dst, t.src, 16)
    out.sport = sport
    out.dport = dport
    out.family = t.family
    out.proto = t.proto
    return True


cdef inline uint64_t source_hash(const Tuple *t) noexcept nogil:
    """Of what makes a source: address, protocol, port (hash_by_src())."""
    cdef uint64_t h = <uint64_t>t.proto << 16 | t.sport
    if t.family == 4:
        return word_hash(h, ld32(t.src))
    return word_hash(word_hash(h, ld64(t.src)), ld64(t.src + 8))


cdef inline void ct_table_init(CtTable *t) noexcept nogil:
    memset(t, 0, sizeof(CtTable))
    t.max = 262144  # nf_conntrack_max of a machine with 8 GiB or more
    t.memory.size = sizeof(Ct)
    ct_settings_init(&t.set)


cdef inline void ct_unlink(CtTable *t, Ct *ct) noexcept nogil:
    if ct.status & CTS_CONFIRMED and not (ct.status & CTS_DYING):
        htab_remove(&t.tuples, &ct.dir[0].node)
        htab_remove(&t.tuples, &ct.dir[1].node)
        if ct.prev != NULL:
            ct.prev.next = ct.next
        else:
            t.first = ct.next
        if ct.next != NULL:
            ct.next.prev = ct.prev
        else:
            t.last = ct.prev
        t.count -= 1
    if ct.in_by_source:
        htab_remove(&t.by_source, &ct.by_source)
        ct.in_by_source = False


cdef inline void ct_put(CtTable *t, Ct *ct) noexcept nogil:
    """Give one reference back; the last one frees."""
    ct.refs -= 1
    if ct.refs == 0:
        ct_unlink(t, ct)
        ct.serial += 1
        ct.status = 0
        ct.next = t.free
        t.free = ct


cdef inline void ct_kill(CtTable *t, Ct *ct) noexcept nogil:
    """Take an entry out of the table; packets that hold it keep it alive."""
    if ct.status & CTS_CONFIRMED and not (ct.status & CTS_DYING):
        ct_unlink(t, ct)
        ct.status |= CTS_DYING
        ct_put(t, ct)


cdef inline CtNode *ct_find(CtTable *t, const Tuple *key, int64_t now) noexcept nogil:
    """The entry's node for this tuple; expired entries are removed on the way."""
    cdef HNode *node = htab_first(&t.tuples, tuple_hash(key))
    cdef CtNode *found
    while node != NULL:
        found = <CtNode *>node
        node = htab_next(node)
        if not tuple_equal(&found.t, key):
            continue
        if (<Ct *>found.ct).expires <= now:
            ct_kill(t, <Ct *>found.ct)
            continue
        return found
    return NULL


cdef inline bint ct_tuple_taken(CtTable *t, const Tuple *wanted, const Ct *mine, int64_t now) noexcept nogil:
    """Would answers to a connection translated to ``wanted`` clash with another one's? (nf_nat_used_tuple())"""
    cdef Tuple reply
    cdef CtNode *found
    if not tuple_invert(&reply, wanted):
        return False
    found = ct_find(t, &reply, now)
    if found == NULL or found.ct == <void *>mine:
        return False
    # two packets of one flow on their way at once are no clash
    return not tuple_equal(&(<Ct *>found.ct).dir[0].t, &mine.dir[0].t)


cdef inline Ct *ct_memory(CtTable *t) noexcept nogil:
    """A free entry, all zeros but for its serial; NULL when memory is out."""
    cdef Ct *ct = t.free
    cdef uint32_t serial
    if ct == NULL:
        return <Ct *>slab_at(&t.memory, t.memory.used - 1) if slab_more(&t.memory) else NULL
    t.free = ct.next
    serial = ct.serial
    memset(ct, 0, sizeof(Ct))
    ct.serial = serial
    return ct


cdef inline Ct *ct_new(CtTable *table, const Tuple *t, const Tuple *reply) noexcept nogil:
    """An entry that is not in the table yet, with one reference; NULL when memory is out."""
    cdef Ct *ct = ct_memory(table)
    cdef int i
    if ct == NULL:
        return NULL
    ct.dir[0].t = t[0]
    ct.dir[1].t = reply[0]
    for i in range(2):
        ct.dir[i].ct = ct
        ct.dir[i].dir = <uint8_t>i
    ct.refs = 1
    ct.masq_dev = -1
    return ct


cdef inline void ct_expire_all(CtTable *t, int64_t now) noexcept nogil:
    cdef Ct *ct = t.first
    cdef Ct *after
    while ct != NULL:
        after = ct.next
        if ct.expires <= now:
            ct_kill(t, ct)
        ct = after


cdef inline bint ct_early_drop(CtTable *t, int64_t now) noexcept nogil:
    """Make room in a full table: expired entries, else the oldest that is not assured or is closing anyway."""
    cdef Ct *ct
    ct_expire_all(t, now)
    if t.count < t.max:
        return True
    ct = t.first
    while ct != NULL:
        if not (ct.status & CTS_ASSURED) or (ct.dir[0].t.proto == 6 and ct_tcp_can_early_drop(&ct.proto.tcp)):
            ct_kill(t, ct)
            return True
        ct = ct.next
    return False


cdef inline bint ct_insert(CtTable *t, Ct *ct, int64_t now) noexcept nogil:
    """Confirm: both tuples enter the table. False: one of them is taken (__nf_conntrack_confirm())."""
    if ct_find(t, &ct.dir[0].t, now) != NULL or ct_find(t, &ct.dir[1].t, now) != NULL:
        return False
    if not htab_insert(&t.tuples, &ct.dir[0].node, tuple_hash(&ct.dir[0].t)):
        return False
    if not htab_insert(&t.tuples, &ct.dir[1].node, tuple_hash(&ct.dir[1].t)):
        htab_remove(&t.tuples, &ct.dir[0].node)
        return False
    ct.status |= CTS_CONFIRMED
    ct.expires += now
    ct.refs += 1
    ct.prev = t.last
    ct.next = NULL
    if t.last != NULL:
        t.last.next = ct
    else:
        t.first = ct
    t.last = ct
    t.count += 1
    return True


cdef inline void ct_flush(CtTable *t) noexcept nogil:
    while t.first != NULL:
        ct_kill(t, t.first)


cdef inline void ct_table_free(CtTable *t) noexcept nogil:
    ct_flush(t)
    htab_free(&t.tuples)
    htab_free(&t.by_source)
    slabs_free(&t.memory)
    t.free = NULL
