# One tracked connection in as little memory as it takes: ten million of them are to fit into one machine.
#
# An entry is named by a 32-bit reference and its tuples stand in it once, without padding. What an IPv6 connection needs beyond
# that follows behind the struct.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy, memcmp, memset
from ext.tables.ct_gre cimport CtGre
from ext.tables.ct_sctp cimport CtSctp
from ext.tables.ct_settings cimport CtStatus
from ext.tables.ct_tcp cimport CtTcp
from ext.tables.ct_tuple cimport ct_invert_tuple
from ext.tables.ct_udp cimport CtUdp
from ext.wire.bytes cimport ld32, raw32, raw64, raw_pair, rarely
from ext.wire.hash cimport hash_begin, hash_bytes, hash_end, hash_step, word_hash

cdef enum:
    # ctinfo of a packet, as enum ip_conntrack_info
    CTI_ESTABLISHED = 0
    CTI_RELATED = 1
    CTI_NEW = 2
    CTI_REPLY = 3  # added for the reply direction
    CTI_UNTRACKED = 7
    # status bits beside those of ct_settings.pxd; a bit of a destination stands behind that of the source: bit << MANIP_*
    CTS_SRC_NAT = 1 << 4
    CTS_DST_NAT = 1 << 5
    CTS_NAT_MASK = CTS_SRC_NAT | CTS_DST_NAT
    CTS_SRC_NAT_DONE = 1 << 7
    CTS_DST_NAT_DONE = 1 << 8
    CTS_NAT_DONE_MASK = CTS_SRC_NAT_DONE | CTS_DST_NAT_DONE
    CTS_DYING = 1 << 9
    CT_TUPLE_BYTES = 38  # of Tuple that count as key
    # of a CtRef
    CT_REF_REPLY = 1 << 0  # it is meant in the direction of replies
    CT_REF_SIX = 1 << 1  # it is an IPv6 connection
    CT_REF_BITS = 2  # the place stands behind them
    CT_REFS_STUCK = 0xffff  # more holders than can be counted: the entry's memory is not used again

cdef struct Tuple:
    uint8_t src[16]  # IPv4: the first four bytes, the rest zero
    uint8_t dst[16]
    uint16_t sport  # host byte order; ICMP: id
    uint16_t dport  # ICMP: type << 8 | code
    uint8_t family  # 4 or 6
    uint8_t proto

cdef struct CtKey:
    # a tuple as it is sought, wherever it stands
    uint64_t layer4  # all of it but its addresses
    const uint8_t *src
    const uint8_t *dst
    uint8_t family

cdef union CtProto:
    CtTcp tcp
    CtUdp udp
    CtSctp sctp
    CtGre gre

ctypedef uint32_t CtRef  # place in its slabs, family and direction; 0: none

cdef packed struct Ct:
    CtRef next  # all entries, in order of confirmation; of free ones the next free one
    CtRef prev
    CtRef source  # the next entry of the same bucket in the table of sources
    uint16_t masq_dev  # place in its namespace of the device that MASQUERADE took the address of, plus 1; 0: none
    uint16_t refs  # packets that hold it, plus one while it is in the table; 0: free
    uint8_t number  # IP protocol
    uint8_t family  # 4 or 6
    # from here on what each packet asks for or changes, side by side
    uint8_t address4[2][2][4]  # by direction: source, destination
    uint16_t port[2][2]
    uint32_t serial  # another one for each connection that this memory holds: what was noted of an earlier one is seen to be stale
    CtStatus status
    int64_t expires  # virtual ns; before confirmation: the time to live
    CtProto proto


cdef packed struct Ct6:
    Ct ct
    uint8_t address[2][2][16]


cdef inline void ct_hold(Ct *ct) noexcept nogil:
    """One more reference."""
    if ct.refs != CT_REFS_STUCK:
        ct.refs += 1


# ---- tuples

cdef inline uint64_t layer4_word(int family, int proto, const uint16_t *ports) noexcept nogil:
    """All of a tuple but its addresses; ``ports``: both, which stand side by side."""
    return <uint64_t>(family << 8 | proto) << 32 | raw32(<const uint8_t *>ports)


cdef inline void tuple_addresses4(Tuple *t, const uint8_t *src, const uint8_t *dst) noexcept nogil:
    memcpy(t.src, src, 4)
    memset(t.src + 4, 0, 12)
    memcpy(t.dst, dst, 4)
    memset(t.dst + 4, 0, 12)


cdef inline bint tuple_equal(const Tuple *a, const Tuple *b) noexcept nogil:
    if layer4_word(a.family, a.proto, &a.sport) != layer4_word(b.family, b.proto, &b.sport):
        return False
    if a.family == 4:
        return raw_pair(a.src, a.dst) == raw_pair(b.src, b.dst)
    return memcmp(a.src, b.src, 16) == 0 and memcmp(a.dst, b.dst, 16) == 0


cdef inline CtKey tuple_key(const Tuple *t) noexcept nogil:
    cdef CtKey key
    key.layer4 = layer4_word(t.family, t.proto, &t.sport)
    key.src = t.src
    key.dst = t.dst
    key.family = t.family
    return key


cdef inline int key_proto(const CtKey *k) noexcept nogil:
    return k.layer4 >> 32 & 0xff


cdef inline uint64_t key_hash(const CtKey *k) noexcept nogil:
    return word_hash(k.layer4, raw_pair(k.src, k.dst)) if not rarely(k.family != 4) else key_hash6(k)


cdef inline uint64_t key_hash6(const CtKey *k) noexcept nogil:
    cdef uint64_t h = word_hash(word_hash(k.layer4, raw64(k.src)), raw64(k.src + 8))
    return word_hash(word_hash(h, raw64(k.dst)), raw64(k.dst + 8))


cdef inline uint64_t source_hash(int family, int proto, uint32_t sport, const uint8_t *src) noexcept nogil:
    """Of what makes a source: address, protocol, port (hash_by_src())."""
    cdef uint64_t h = <uint64_t>proto << 16 | sport
    if family == 4:
        return word_hash(h, raw32(src))
    return word_hash(word_hash(h, raw64(src)), raw64(src + 8))


cdef inline bint tuple_invert(Tuple *out, const Tuple *t) noexcept nogil:
    """The tuple that answers have; False: nothing answers it."""
    cdef uint16_t sport, dport
    if not ct_invert_tuple(t.proto, t.sport, t.dport, &sport, &dport):
        return False
    memcpy(out.src, t.dst, 16)
    memcpy(out.dst, t.src, 16)
    out.sport = sport
    out.dport = dport
    out.family = t.family
    out.proto = t.proto
    return True


# ---- the tuples of an entry

cdef inline int ct_family(const Ct *ct) noexcept nogil:
    return ct.family


cdef inline uint8_t *ct_address(const Ct *ct, int dir, int side) noexcept nogil:
    """Source (``side`` 0) or destination (1) of a direction: 4 bytes, or 16 of IPv6."""
    if rarely(ct.family == 6):
        return <uint8_t *>(<const Ct6 *>ct).address[dir][side]
    return <uint8_t *>ct.address4[dir][side]


cdef inline Tuple ct_tuple(const Ct *ct, int dir) noexcept nogil:
    cdef Tuple t
    if ct.family == 6:
        memcpy(t.src, ct_address(ct, dir, 0), 16)
        memcpy(t.dst, ct_address(ct, dir, 1), 16)
    else:
        tuple_addresses4(&t, ct.address4[dir][0], ct.address4[dir][1])
    t.sport = ct.port[dir][0]
    t.dport = ct.port[dir][1]
    t.family = <uint8_t>ct_family(ct)
    t.proto = ct.number
    return t


cdef inline void ct_set_tuple(Ct *ct, int dir, const Tuple *t) noexcept nogil:
    """``t`` has the entry's family and protocol."""
    if ct.family == 6:
        memcpy(ct_address(ct, dir, 0), t.src, 16)
        memcpy(ct_address(ct, dir, 1), t.dst, 16)
    else:
        memcpy(ct.address4[dir][0], t.src, 4)
        memcpy(ct.address4[dir][1], t.dst, 4)
    ct.port[dir][0] = t.sport
    ct.port[dir][1] = t.dport


cdef inline CtKey ct_key(const Ct *ct, int dir) noexcept nogil:
    cdef CtKey key
    key.family = <uint8_t>ct_family(ct)
    key.layer4 = layer4_word(key.family, ct.number, ct.port[dir])
    key.src = ct_address(ct, dir, 0)
    key.dst = ct_address(ct, dir, 1)
    return key


cdef inline bint ct_has_key(const Ct *ct, int dir, const CtKey *k) noexcept nogil:
    if layer4_word(ct_family(ct), ct.number, ct.port[dir]) != k.layer4:
        return False
    if not rarely(k.family != 4):
        return raw_pair(ct.address4[dir][0], ct.address4[dir][1]) == raw_pair(k.src, k.dst)
    return memcmp(ct_address(ct, dir, 0), k.src, 16) == 0 and memcmp(ct_address(ct, dir, 1), k.dst, 16) == 0


cdef inline uint64_t ct_hash(const Ct *ct, int dir) noexcept nogil:
    cdef CtKey key = ct_key(ct, dir)
    return key_hash(&key)


cdef inline uint64_t ct_draw_hash(const Ct *ct, uint64_t seed) noexcept nogil:
    """hash_bytes() of the CT_TUPLE_BYTES of the original tuple; of IPv4 without the bytes that are zero."""
    cdef Tuple t
    cdef uint64_t h = hash_begin(seed, CT_TUPLE_BYTES)
    if rarely(ct.family != 4):
        t = ct_tuple(ct, 0)
        return hash_bytes(seed, <const uint8_t *>&t, CT_TUPLE_BYTES)
    h = hash_step(hash_step(h, <uint64_t>ld32(ct.address4[0][0]) << 32), 0)
    h = hash_step(hash_step(h, <uint64_t>ld32(ct.address4[0][1]) << 32), 0)
    return hash_end(hash_step(h, <uint64_t>ld32(<const uint8_t *>ct.port[0]) << 16 | <uint64_t>ct.family << 8 | ct.number))


cdef inline uint64_t ct_source_hash(const Ct *ct) noexcept nogil:
    return source_hash(ct_family(ct), ct.number, ct.port[0][0], ct_address(ct, 0, 0))
