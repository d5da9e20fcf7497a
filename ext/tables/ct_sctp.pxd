# Connection tracking of SCTP (RFC 9260): chunk sanity, verification tags, state machine.
# Source: net/netfilter/nf_conntrack_proto_sctp.c (Linux 6.18).
#
# A packet is its bytes from the SCTP header to the end of the IP packet. ct_sctp_valid() comes first. The caller sets
# CTS_SEEN_REPLY after the tracker has accepted a reply.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from ext.tables.ct_settings cimport (CT_DIR_ORIGINAL, CT_KEEP_TIMEOUT, CT_SCTP_STATES, CTS_ASSURED, CTS_CONFIRMED, CTV_ACCEPT, CTV_INVALID,
                                     CtSettings, CtStatus)
from ext.wire.bytes cimport ld16, ld32


cdef enum:  # states; the order is that of the table below
    CT_SCTP_NONE = 0
    CT_SCTP_CLOSED = 1
    CT_SCTP_COOKIE_WAIT = 2
    CT_SCTP_COOKIE_ECHOED = 3
    CT_SCTP_ESTABLISHED = 4
    CT_SCTP_SHUTDOWN_SENT = 5
    CT_SCTP_SHUTDOWN_RECD = 6
    CT_SCTP_SHUTDOWN_ACK_SENT = 7
    CT_SCTP_HEARTBEAT_SENT = 8
    CT_SCTP_BAD = 9  # no state: the packet is INVALID

cdef enum:  # chunk types (RFC 9260, section 3.2)
    SCTP_DATA = 0
    SCTP_INIT = 1
    SCTP_INIT_ACK = 2
    SCTP_HEARTBEAT = 4
    SCTP_HEARTBEAT_ACK = 5
    SCTP_ABORT = 6
    SCTP_SHUTDOWN_ACK = 8
    SCTP_COOKIE_ECHO = 10
    SCTP_COOKIE_ACK = 11
    SCTP_SHUTDOWN_COMPLETE = 14
    SCTP_TYPES = 15  # types above change nothing

cdef enum:
    SCTP_HEADER = 12
    SCTP_VTAG = 4       # offset
    SCTP_CHECKSUM = 8   # offset
    SCTP_CHUNK = 4      # header of a chunk: type, flags, length
    SCTP_INIT_BODY = 16
    SCTP_FLAG_T = 0x01  # the sender had no tag of its own and reflects the peer's (RFC 9260, section 8.5.1)

cdef enum:  # what a chunk means for the verification tag
    SCTP_TAG_BAD = 0
    SCTP_TAG_OK = 1
    SCTP_TAG_DOUBTFUL = 2  # a heartbeat with an unknown tag: its answer will tell

cdef packed struct CtSctp:
    uint32_t vtag[2]         # tag that packets of this direction must carry; 0: not known
    uint8_t state
    uint8_t init[2]          # an INIT of this direction waits for its COOKIE ACK
    uint8_t doubtful         # a heartbeat with an unknown tag passed ...
    uint8_t doubtful_dir     # ... in this direction

cdef extern from *:
    """
    /* [direction][row][state]; a is BAD. Columns: NONE CL CW CE ES SS SR SA HS. */
    #define a 9
    static const unsigned char dp_ct_sctp_next[2][11][9] = {
        {
            {1, 1, 2, 3, 4, 1, 1, 7, 2},  /* INIT */
            {1, 1, 2, 3, 4, 5, 6, 7, 1},  /* INIT ACK */
            {1, 1, 1, 1, 1, 1, 1, 1, 1},  /* ABORT */
            {1, 1, 2, 3, 5, 5, 6, 7, 1},  /* SHUTDOWN */
            {7, 1, 2, 3, 4, 7, 7, 7, 7},  /* SHUTDOWN ACK */
            {1, 1, 2, 3, 4, 5, 6, 7, 1},  /* ERROR */
            {1, 1, 3, 3, 4, 5, 6, 7, 1},  /* COOKIE ECHO */
            {1, 1, 2, 4, 4, 5, 6, 7, 1},  /* COOKIE ACK */
            {1, 1, 2, 3, 4, 5, 6, 1, 1},  /* SHUTDOWN COMPLETE */
            {8, 1, 2, 3, 4, 5, 6, 7, 8},  /* HEARTBEAT */
            {1, 1, 2, 3, 4, 5, 6, 7, 8}}, /* HEARTBEAT ACK */
        {
            {a, 1, 2, 3, 4, 5, 6, 7, a},
            {a, 2, 2, 3, 4, 5, 6, 7, a},
            {a, 1, 1, 1, 1, 1, 1, 1, a},
            {a, 1, 2, 3, 6, 5, 6, 7, a},
            {a, 1, 2, 3, 4, 7, 7, 7, a},
            {a, 1, 2, 1, 4, 5, 6, 7, a},
            {a, 1, 3, 3, 4, 5, 6, 7, a},
            {a, 1, 2, 4, 4, 5, 6, 7, a},
            {a, 1, 2, 3, 4, 5, 6, 1, a},
            {a, 1, 2, 3, 4, 5, 6, 7, 8},
            {a, 1, 2, 3, 4, 5, 6, 7, 4}}};
    #undef a
    /* row of the table by chunk type, 255: leaves the state alone */
    static const unsigned char dp_ct_sctp_row[15] = {255, 0, 1, 255, 9, 10, 2, 3, 4, 5, 6, 7, 255, 255, 8};
    static const char *const dp_ct_sctp_names[9] = {"NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED",
        "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT"};
    /* CRC-32C (RFC 9260, appendix A) of the nibbles 0 to 15: 0x82f63b78 reflected, four shifts each */
    static const unsigned int dp_crc32c_nibble[16] = {
        0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
        0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u};
    """
    const uint8_t dp_ct_sctp_next[2][11][CT_SCTP_STATES]
    const uint8_t dp_ct_sctp_row[SCTP_TYPES]
    const char *const dp_ct_sctp_names[CT_SCTP_STATES]
    const uint32_t dp_crc32c_nibble[16]


cdef inline const char *ct_sctp_state_name(int state) noexcept nogil:
    """As conntrack(8) prints it."""
    return dp_ct_sctp_names[state]


cdef inline uint32_t sctp_crc32c(const uint8_t *packet, int length) noexcept nogil:
    """The checksum that belongs into the packet, as the integer whose bytes go out lowest first; its own field counts as 0."""
    cdef uint32_t crc = 0xFFFFFFFF
    cdef int i
    for i in range(length):
        if not SCTP_CHECKSUM <= i < SCTP_HEADER:
            crc ^= packet[i]
        crc = (crc >> 4) ^ dp_crc32c_nibble[crc & 15]
        crc = (crc >> 4) ^ dp_crc32c_nibble[crc & 15]
    return ~crc


cdef inline bint ct_sctp_checksum_ok(const uint8_t *packet, int length) noexcept nogil:
    cdef uint32_t crc = sctp_crc32c(packet, length)
    return (packet[8] == (crc & 0xFF) and packet[9] == (crc >> 8 & 0xFF)
            and packet[10] == (crc >> 16 & 0xFF) and packet[11] == crc >> 24)


cdef inline bint sctp_chunk_at(int length, int at) noexcept nogil:
    return at + SCTP_CHUNK <= length


cdef inline int sctp_next_chunk(const uint8_t *packet, int at) noexcept nogil:
    return at + ((ld16(packet + at + 2) + 3) & ~3)


cdef inline bint sctp_stands_alone(int chunk_type) noexcept nogil:
    return chunk_type == SCTP_INIT or chunk_type == SCTP_INIT_ACK or chunk_type == SCTP_SHUTDOWN_COMPLETE


cdef inline bint ct_sctp_valid(const uint8_t *packet, int length, uint32_t *types) noexcept nogil:
    """sctp_error() without the CRC, and do_basic_checks(): which chunks may stand together. ``types``: bit n: a chunk of type n."""
    cdef int at = SCTP_HEADER
    cdef int chunk_type
    cdef bint alone = False
    types[0] = 0
    while sctp_chunk_at(length, at):
        chunk_type = packet[at]
        alone = alone or sctp_stands_alone(chunk_type)
        if at != SCTP_HEADER and (alone or chunk_type == SCTP_COOKIE_ACK or chunk_type == SCTP_COOKIE_ECHO):
            return False
        if ld16(packet + at + 2) == 0:
            return False
        if chunk_type < SCTP_TYPES:
            types[0] |= <uint32_t>1 << chunk_type
        at = sctp_next_chunk(packet, at)
    return at != SCTP_HEADER


cdef inline int sctp_next_state(int dir, int state, int chunk_type) noexcept nogil:
    cdef int row = dp_ct_sctp_row[chunk_type] if chunk_type < SCTP_TYPES else 255
    return state if row == 255 else dp_ct_sctp_next[dir][row][state]


cdef inline bint sctp_has_init(int length, int at) noexcept nogil:
    return at + SCTP_CHUNK + SCTP_INIT_BODY <= length


cdef inline bint ct_sctp_new(CtSctp *c, const uint8_t *packet, int length, uint32_t types) noexcept nogil:
    """sctp_new(): begin an entry with this valid packet; ct_sctp_packet() follows with the same one. False: INVALID."""
    cdef uint32_t vtag = ld32(packet + SCTP_VTAG)
    cdef int at = SCTP_HEADER
    cdef int state
    # out of the blue (RFC 9260, section 8.4): these end or answer something, they begin nothing
    if types & (1 << SCTP_ABORT | 1 << SCTP_SHUTDOWN_COMPLETE | 1 << SCTP_COOKIE_ACK):
        return False
    memset(c, 0, sizeof(CtSctp))
    while sctp_chunk_at(length, at):
        state = sctp_next_state(CT_DIR_ORIGINAL, CT_SCTP_NONE, packet[at])
        if state == CT_SCTP_NONE:
            return False
        if packet[at] == SCTP_INIT:
            if vtag != 0 or not sctp_has_init(length, at):
                return False
            c.vtag[1] = ld32(packet + at + SCTP_CHUNK)
        elif packet[at] == SCTP_HEARTBEAT:
            c.vtag[0] = vtag  # a second path of an association that began elsewhere
        elif packet[at] == SCTP_SHUTDOWN_ACK:
            c.vtag[1] = vtag  # the answer to a packet out of the blue reflects its tag
        at = sctp_next_chunk(packet, at)
    return True


cdef inline int sctp_heartbeat_tag(CtSctp *c, int dir, int chunk_type, uint32_t vtag, bint alone) noexcept nogil:
    """Heartbeats make a path of a multi-homed association known; ``alone``: this is the packet's only doubtful chunk and it has no data."""
    if c.vtag[dir] == 0:
        c.vtag[dir] = vtag
        return SCTP_TAG_OK
    if vtag == c.vtag[dir]:
        c.doubtful = 0
        return SCTP_TAG_OK
    if not alone:
        return SCTP_TAG_BAD
    if chunk_type == SCTP_HEARTBEAT:
        c.doubtful = 1
        c.doubtful_dir = <uint8_t>dir
        return SCTP_TAG_DOUBTFUL
    if not c.doubtful or c.doubtful_dir == dir:
        return SCTP_TAG_BAD
    c.doubtful = 0
    c.vtag[dir] = vtag
    c.vtag[1 - dir] = 0
    return SCTP_TAG_OK


cdef inline int sctp_chunk_tag(CtSctp *c, int dir, const uint8_t *chunk, uint32_t vtag, bint alone) noexcept nogil:
    """The rules of RFC 9260, section 8.5.1, for chunks that do not simply carry the receiver's tag."""
    cdef int chunk_type = chunk[0]
    if chunk_type == SCTP_INIT:
        return SCTP_TAG_OK if vtag == 0 else SCTP_TAG_BAD
    if chunk_type == SCTP_ABORT or chunk_type == SCTP_SHUTDOWN_COMPLETE:
        return SCTP_TAG_OK if vtag == c.vtag[1 - dir if chunk[1] & SCTP_FLAG_T else dir] else SCTP_TAG_BAD
    if chunk_type == SCTP_COOKIE_ECHO:
        return SCTP_TAG_OK if vtag == c.vtag[dir] else SCTP_TAG_BAD
    if chunk_type == SCTP_COOKIE_ACK:
        c.init[0] = 0
        c.init[1] = 0
    if chunk_type == SCTP_HEARTBEAT or chunk_type == SCTP_HEARTBEAT_ACK:
        return sctp_heartbeat_tag(c, dir, chunk_type, vtag, alone)
    return SCTP_TAG_OK


cdef inline void sctp_take_init(CtSctp *c, int dir, int old, uint32_t init_tag) noexcept nogil:
    """An INIT tells the tag that its answers carry. One that says what is known already is stale or repeated, and opens nothing."""
    if old == CT_SCTP_NONE or c.vtag[1 - dir] != init_tag:
        if c.init[dir]:
            c.init[1 - dir] = 0
        c.init[dir] = 1
    c.vtag[1 - dir] = init_tag


cdef inline bint sctp_take_init_ack(CtSctp *c, int dir, uint32_t init_tag) noexcept nogil:
    """Both ends may open at once (RFC 9260, section 5.2): a late INIT ACK must not replace the tag that they settled on."""
    cdef uint32_t known = c.vtag[1 - dir]
    if known != init_tag and ((not c.init[1 - dir] and known != 0) or (c.init[dir] and c.init[1 - dir])):
        return False
    c.vtag[1 - dir] = init_tag
    return True


cdef inline bint sctp_take_handshake(CtSctp *c, int dir, int old, const uint8_t *packet, int length, int at) noexcept nogil:
    """Note what an INIT or INIT ACK says. False: INVALID."""
    if packet[at] != SCTP_INIT and packet[at] != SCTP_INIT_ACK:
        return True
    if not sctp_has_init(length, at):
        return False
    if packet[at] == SCTP_INIT_ACK:
        return sctp_take_init_ack(c, dir, ld32(packet + at + SCTP_CHUNK))
    sctp_take_init(c, dir, old, ld32(packet + at + SCTP_CHUNK))
    return True


cdef inline bint sctp_has_own_tag_rule(uint32_t types) noexcept nogil:
    return types & (1 << SCTP_INIT | 1 << SCTP_SHUTDOWN_COMPLETE | 1 << SCTP_COOKIE_ECHO | 1 << SCTP_ABORT
                    | 1 << SCTP_SHUTDOWN_ACK | 1 << SCTP_HEARTBEAT | 1 << SCTP_HEARTBEAT_ACK) != 0


cdef inline int ct_sctp_packet(CtSctp *c, int dir, const uint8_t *packet, int length, uint32_t types, const CtSettings *s,
                               CtStatus *status, int64_t *timeout) noexcept nogil:
    """nf_conntrack_sctp_packet() for a valid packet of an entry: CTV_ACCEPT or CTV_INVALID.

    ``types`` from ct_sctp_valid(). ``status`` and ``timeout`` as in ct_tcp_packet(). Chunks before an invalid one have had their effect.
    """
    cdef uint32_t vtag = ld32(packet + SCTP_VTAG)
    cdef int at = SCTP_HEADER
    cdef int old, tag
    cdef int state = CT_SCTP_NONE
    cdef bint keep = False
    timeout[0] = CT_KEEP_TIMEOUT
    if not sctp_has_own_tag_rule(types) and vtag != c.vtag[dir]:
        return CTV_INVALID
    while sctp_chunk_at(length, at):
        tag = sctp_chunk_tag(c, dir, packet + at, vtag, not (keep or types & 1 << SCTP_DATA))
        if tag == SCTP_TAG_BAD:
            return CTV_INVALID
        if tag == SCTP_TAG_DOUBTFUL:
            keep = True
            at = sctp_next_chunk(packet, at)
            continue
        old = c.state
        state = sctp_next_state(dir, old, packet[at])
        if state == CT_SCTP_BAD or not sctp_take_handshake(c, dir, old, packet, length, at):
            return CTV_INVALID
        if packet[at] == SCTP_INIT and state == CT_SCTP_CLOSED and old == CT_SCTP_CLOSED and status[0] & CTS_CONFIRMED:
            keep = True  # repeated INITs must not keep an entry, and its NAT, alive for ever
        c.state = <uint8_t>state
        if old != state and state == CT_SCTP_ESTABLISHED:
            status[0] |= CTS_ASSURED
        at = sctp_next_chunk(packet, at)
    if not keep:
        timeout[0] = s.sctp_timeout[state]
    return CTV_ACCEPT
