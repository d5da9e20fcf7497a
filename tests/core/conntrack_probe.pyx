# Test-only: the connection tracking table as a Python object. The wheel leaves this module out.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from ext.tables.conntrack cimport *
from ext.tables.ct_settings cimport CTS_ASSURED
from ext.tables.ct_tuples cimport (CtTuples, LINES_FIRST_BITS, LINE_TUPLES, TAG_BITS, TupleLine, line_at, line_ends, line_put, line_take,
                                   lines_free, lines_make, tags_equal, tuple_tag)
from ext.tables.ct_tcp cimport CT_TCP_ESTABLISHED, CT_TCP_LAST_ACK
from ext.wire.hash cimport hash_bytes

ENTRY_BYTES = sizeof(Ct)
ENTRY6_BYTES = sizeof(Ct6)
TCP = 6
UDP = 17


cdef class Table:
    """Connections named by numbers: the lower 16 bits are source address and port, the rest tells destinations apart."""

    cdef CtTable t
    cdef dict entries  # number -> address of its entry and serial

    def __cinit__(self, int most, int64_t shortest):
        ct_table_init(&self.t)
        self.t.max = most
        self.t.set.sctp_timeout[3] = shortest
        ct_settings_changed(&self.t)
        self.entries = {}

    def __dealloc__(self):
        ct_table_free(&self.t)

    cdef Tuple tuple_of(self, int number, int proto, int family):
        cdef Tuple t
        cdef uint32_t raw = number & 0xffff
        memset(&t, 0, sizeof(Tuple))
        memcpy(t.src, &raw, 4)
        t.dst[3] = <uint8_t>(number >> 16)
        t.src[15] = 1 if family == 6 else 0
        t.dst[0] = 10
        t.sport = <uint16_t>number
        t.dport = 80
        t.family = <uint8_t>family
        t.proto = <uint8_t>proto
        return t

    def begin(self, int number, int proto, int family, int64_t now, int64_t timeout):
        """What became of a new connection: "known", "full" or "begun"."""
        cdef Tuple t = self.tuple_of(number, proto, family), reply
        cdef int dir
        cdef Ct *ct
        cdef CtKey key
        if ct_find(&self.t, &t, now, &dir) != NULL:
            return "known"
        if self.t.count >= self.t.max and not ct_early_drop(&self.t, now):
            return "full"
        tuple_invert(&reply, &t)
        ct = ct_new_plain(&self.t, &t) if family == 4 and number & 1 else ct_new(&self.t, &t, &reply)
        if number & 2:  # as conntrack and NAT do, whose findings the table keeps until it confirms
            key = tuple_key(&t)
            note_free(&self.t, ct, 0, key_hash(&key))
            if number & 4:
                answers_changed(&self.t, ct)
            assert not ct_answers_taken(&self.t, ct, now)
        ct.expires = timeout
        if proto == TCP:
            ct.proto.tcp.state = CT_TCP_ESTABLISHED
        ct.status |= CTS_SRC_NAT_DONE
        assert ct_insert(&self.t, ct, now)
        ct_put(&self.t, ct)
        self.entries[number] = (<size_t>ct, ct.serial)
        return "begun"

    cdef Ct *entry(self, int number) except NULL:
        place, serial = self.entries[number]
        assert (<Ct *><size_t>place).serial == serial, "stale"
        return <Ct *><size_t>place

    def alive(self, int number):
        place, serial = self.entries[number]
        return (<Ct *><size_t>place).serial == serial

    def refresh(self, int number, int64_t now, int64_t timeout):
        self.entry(number).expires = now + timeout

    def assure(self, int number):
        self.entry(number).status |= CTS_ASSURED

    def close(self, int number):
        cdef Ct *ct = self.entry(number)
        cdef bint stays = not ct_may_make_room(ct)
        ct.proto.tcp.state = CT_TCP_LAST_ACK
        if stays and ct_may_make_room(ct):
            ct_closing(&self.t)

    def expire(self, int64_t now):
        ct_expire_all(&self.t, now)

    def found(self, int number, int proto, int family, int64_t now, bint reply):
        """Direction in which the tuple is found, or None."""
        cdef Tuple t = self.tuple_of(number, proto, family), inverse
        cdef int dir
        tuple_invert(&inverse, &t)
        return dir if ct_find(&self.t, &inverse if reply else &t, now, &dir) != NULL else None

    def draws_by(self, int number, uint64_t seed):
        """The hash that chance draws by for a connection, and the same of its tuple as it stands in memory."""
        cdef Ct *ct = self.entry(number)
        cdef Tuple t = ct_tuple(ct, 0)
        return ct_draw_hash(ct, seed), hash_bytes(seed, <const uint8_t *>&t, CT_TUPLE_BYTES)

    cdef int number_of(self, const Ct *ct):
        cdef uint32_t raw
        memcpy(&raw, ct_address(ct, 0, 0), 4)
        return raw | ct_address(ct, 0, 1)[3] << 16

    def sources(self, int number, int proto, int family):
        """All entries with the source of this connection, the newest first."""
        cdef Tuple t = self.tuple_of(number, proto, family), of
        cdef Ct *ct = sources_first(&self.t, &t)
        out = []
        while ct != NULL:
            of = ct_tuple(ct, 0)
            if of.family == family and of.proto == proto and of.sport == t.sport and memcmp(of.src, t.src, 16) == 0:
                out.append(self.number_of(ct))
            ct = sources_at(&self.t, ct.source)
        return out

    def passed(self):
        """Lines of tuples that a search goes on from."""
        cdef const CtTuples *h
        cdef uint64_t number
        count = 0
        for proto in (TCP, UDP):
            h = tuples_of(&self.t, proto)
            if h.line != NULL:
                for number in range(h.mask + 1):
                    count += not line_ends(line_at(h, number))
        return count

    def numbers(self):
        """All entries, in order of confirmation."""
        cdef Ct *ct = ct_first(&self.t)
        out = []
        while ct != NULL:
            out.append(self.number_of(ct))
            ct = ct_next(&self.t, ct)
        return out


cdef class Lines:
    """The first lines of a table of tuples, which stand for nothing here."""

    cdef CtTuples h

    def __cinit__(self):
        assert lines_make(&self.h, LINES_FIRST_BITS, TAG_BITS)

    def __dealloc__(self):
        lines_free(&self.h)

    @property
    def most(self):
        return <int>(LINE_TUPLES << self.h.bits)

    def put(self, uint64_t hash, uint32_t ref):
        line_put(&self.h, hash, tuple_tag(&self.h, hash), ref)

    def take(self, uint64_t hash, uint32_t ref):
        line_take(&self.h, hash, ref)

    def found(self, uint64_t hash):
        """References whose tuples may have this hash, and the lines that were read for them."""
        cdef const TupleLine *l
        cdef uint64_t number
        cdef uint32_t equal
        cdef int k
        refs = []
        for number in range(hash, hash + self.h.mask + 1):
            l = line_at(&self.h, number)
            equal = tags_equal(l.tag, tuple_tag(&self.h, hash))
            refs += [l.ref[k] for k in range(LINE_TUPLES) if equal >> k & 1 and l.ref[k]]
            if line_ends(l):
                break
        return refs, number - hash + 1
