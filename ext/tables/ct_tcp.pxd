# Connection tracking of TCP: state machine and window tracking.
#
# Source: net/netfilter/nf_conntrack_proto_tcp.c (Linux 6.18): tcp_error, tcp_new, nf_conntrack_tcp_packet, tcp_in_window.
# The windows follow G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"; sequence numbers compare modulo 2**32.
#
# A segment is its bytes from the TCP header to the end of the IP packet (link padding is off). ct_tcp_valid() comes first:
# everything else relies on it. The caller verifies checksums, and sets CTS_SEEN_REPLY *after* the tracker has accepted a reply.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from ext.tables.ct_settings cimport (CT_DIR_ORIGINAL, CT_DIR_REPLY, CT_KEEP_TIMEOUT, CT_TCP_STATES, CTS_ASSURED, CTS_FIXED_TIMEOUT,
                                     CTS_SEEN_REPLY, CTV_ACCEPT, CTV_IGNORE, CTV_INVALID, CTV_KILL, CTV_REPEAT, DP_CT_SECOND, CtSettings, CtStatus)
from ext.wire.bytes cimport ld16, ld32, rarely


cdef enum:  # states; the order is that of the table below
    CT_TCP_NONE = 0
    CT_TCP_SYN_SENT = 1
    CT_TCP_SYN_RECV = 2
    CT_TCP_ESTABLISHED = 3
    CT_TCP_FIN_WAIT = 4
    CT_TCP_CLOSE_WAIT = 5
    CT_TCP_LAST_ACK = 6
    CT_TCP_TIME_WAIT = 7
    CT_TCP_CLOSE = 8
    CT_TCP_SYN_SENT2 = 9  # SYNs from both ends: simultaneous open
    # results of the table that are no state
    CT_TCP_BAD = 10       # the packet is INVALID
    CT_TCP_PASS = 11      # we or the sender may be out of step: let the receiver judge

cdef enum:  # what a segment is, by its flags: RST wins over SYN, SYN over FIN, FIN over ACK
    TCP_IS_SYN = 0
    TCP_IS_SYNACK = 1
    TCP_IS_FIN = 2
    TCP_IS_ACK = 3
    TCP_IS_RST = 4
    TCP_IS_NOTHING = 5  # no segment seen yet

cdef enum:  # bits of CtTcpSide.flags
    CTF_WINDOW_SCALE = 0x01
    CTF_SACK_PERMITTED = 0x02
    CTF_CLOSE_INIT = 0x04  # sent the first FIN
    CTF_LIBERAL = 0x08     # picked up in mid-stream: its window is a guess
    CTF_UNACKED = 0x10     # sent data that nobody has acknowledged
    CTF_MAXACK_SET = 0x20
    # bits of CtTcp.last_flags only
    CTF_CHALLENGE = 0x40   # a passed SYN may draw a challenge ACK (RFC 5961, section 4)
    CTF_SIMULTANEOUS = 0x80
    # of a connection's status
    CTS_SPOKEN_IN = CTS_SEEN_REPLY | CTS_ASSURED  # by both ends

cdef enum:
    TCP_HEADER = 20
    TCP_FLAG_FIN = 0x01
    TCP_FLAG_SYN = 0x02
    TCP_FLAG_RST = 0x04
    TCP_FLAG_ACK = 0x10
    TCP_JUDGED_FLAGS = 0x37  # FIN SYN RST ACK URG: ECE, CWR and PSH go with anything
    TCP_OPT_END = 0
    TCP_OPT_NOP = 1
    TCP_OPT_WINDOW_SCALE = 3
    TCP_OPT_SACK_PERMITTED = 4
    TCP_OPT_SACK = 5
    TCP_MAX_SCALE = 14       # RFC 7323, section 2.3
    TCP_MIN_ACK_WINDOW = 66000  # an ACK may lag by the largest unscaled window and a little more

cdef enum:  # what is left to do for a packet once the state machine has seen it
    TCP_STEP_WINDOW = 100   # check it against the windows
    TCP_STEP_COMMIT = 101   # in step without a look at the windows

# Both structs stand in every entry of a table of millions: no padding, and what takes few bits has few.
cdef extern from *:
    """
    typedef struct __attribute__((packed)) {
        uint32_t end, max_end, max_win, max_ack;
        uint8_t scale, flags;
    } CtTcpSide;

    typedef struct __attribute__((packed)) {
        CtTcpSide side[2];
        uint32_t last_seq, last_ack, last_end;
        uint16_t last_win;
        uint8_t state : 4, last_kind : 3, last_dir : 1;
        uint8_t retrans, last_scale, last_flags;
    } CtTcp;
    """
    # One direction: what its sender has sent and may send.
    ctypedef struct CtTcpSide:
        uint32_t end  # highest seq + length sent
        uint32_t max_end  # highest sequence number the peer allows
        uint32_t max_win  # largest window advertised, scaled; 0: nothing seen from this end
        uint32_t max_ack  # highest ACK sent
        uint8_t scale
        uint8_t flags

    # The last_ fields hold the last ACK in step, or the SYN that was let through: its answer may prove it right.
    ctypedef struct CtTcp:
        CtTcpSide side[2]
        uint32_t last_seq
        uint32_t last_ack
        uint32_t last_end
        uint16_t last_win
        uint8_t state  # 4 bits
        uint8_t last_kind  # 3 bits
        uint8_t last_dir  # 1 bit
        uint8_t retrans
        uint8_t last_scale
        uint8_t last_flags

# A segment in host byte order.
cdef struct TcpSegment:
    uint32_t seq
    uint32_t ack
    uint32_t sack      # right edge of the highest SACK block, or ack
    uint32_t end       # seq + payload, SYN and FIN count one each
    uint16_t win
    uint8_t flags
    uint8_t kind
    int options_len
    const uint8_t *options

cdef extern from *:
    """
    /* [direction][kind of segment][state]; a is BAD, b is PASS. */
    #define a 10
    #define b 11
    static const unsigned char dp_ct_tcp_next[2][5][10] = {
        {/* NONE SS SR ES FW CW LA TW CL S2: original direction */
            {1, 1, b, b, b, b, b, 1, 1, 9},  /* SYN */
            {a, a, 2, a, a, a, a, a, a, 2},  /* SYN+ACK */
            {a, a, 4, 4, 6, 6, 6, 7, 8, a},  /* FIN */
            {3, a, 3, 3, 5, 5, 7, 7, 8, a},  /* ACK */
            {a, 8, 8, 8, 8, 8, 8, 8, 8, 8}}, /* RST */
        {/* reply direction */
            {a, 9, a, a, a, a, a, 1, a, 9},
            {a, 2, b, b, b, b, b, b, b, 2},
            {a, a, 4, 4, 6, 6, 6, 7, 8, a},
            {a, b, 2, 3, 5, 5, 7, 7, 8, b},
            {a, 8, 8, 8, 8, 8, 8, 8, 8, 8}}};
    #undef a
    #undef b
    static const char *const dp_ct_tcp_names[10] = {"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT",
        "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"};
    """
    const uint8_t dp_ct_tcp_next[2][5][CT_TCP_STATES]
    const char *const dp_ct_tcp_names[CT_TCP_STATES]


cdef inline const char *ct_tcp_state_name(int state) noexcept nogil:
    """As conntrack(8) prints it."""
    return dp_ct_tcp_names[state]


cdef inline bint tcp_before(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint tcp_after(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(b - a) < 0


# ---- the segment

cdef inline bint ct_tcp_valid(const uint8_t *seg, int seglen) noexcept nogil:
    """tcp_error() without the checksum, which the caller verifies: header length and combination of flags."""
    cdef int header, flags
    if seglen < TCP_HEADER:
        return False
    header = (seg[12] >> 4) * 4
    if header < TCP_HEADER or header > seglen:
        return False
    flags = seg[13] & TCP_JUDGED_FLAGS
    return (flags == 0x02 or flags == 0x22 or flags == 0x12     # SYN, SYN+URG, SYN+ACK
            or flags == 0x04 or flags == 0x14                   # RST, RST+ACK
            or flags == 0x11 or flags == 0x31                   # FIN+ACK, FIN+ACK+URG
            or flags == 0x10 or flags == 0x30)                  # ACK, ACK+URG


cdef inline int tcp_kind(uint8_t flags) noexcept nogil:
    if flags & TCP_FLAG_RST:
        return TCP_IS_RST
    if flags & TCP_FLAG_SYN:
        return TCP_IS_SYNACK if flags & TCP_FLAG_ACK else TCP_IS_SYN
    return TCP_IS_FIN if flags & TCP_FLAG_FIN else TCP_IS_ACK


cdef inline void tcp_plain_segment(TcpSegment *g, const uint8_t *seg, int seglen) noexcept nogil:
    """tcp_segment() of one whose flags are ACK, and perhaps PSH, ECE or CWR."""
    cdef int header = (seg[12] >> 4) * 4
    g.seq = ld32(seg + 4)
    g.ack = ld32(seg + 8)
    g.sack = g.ack
    g.win = ld16(seg + 14)
    g.flags = TCP_FLAG_ACK
    g.kind = TCP_IS_ACK
    g.end = g.seq + <uint32_t>(seglen - header)
    g.options = seg + TCP_HEADER
    g.options_len = header - TCP_HEADER


cdef inline void tcp_segment(TcpSegment *g, const uint8_t *seg, int seglen) noexcept nogil:
    tcp_plain_segment(g, seg, seglen)
    g.flags = seg[13]
    g.kind = <uint8_t>tcp_kind(g.flags)
    if g.flags & TCP_FLAG_SYN:
        g.end += 1
    if g.flags & TCP_FLAG_FIN:
        g.end += 1


cdef inline int tcp_option_size(const uint8_t *option, int left) noexcept nogil:
    """Size of the option in front of ``left`` bytes; 0: the list ends here, properly or not."""
    if option[0] == TCP_OPT_END:
        return 0
    if option[0] == TCP_OPT_NOP:
        return 1
    if left < 2 or option[1] < 2 or option[1] > left:
        return 0
    return option[1]


cdef inline void tcp_syn_options(const TcpSegment *g, uint8_t *scale, uint8_t *flags) noexcept nogil:
    """tcp_options(). A SYN without any option leaves what was known as it was."""
    cdef const uint8_t *option = g.options
    cdef int left = g.options_len
    cdef int size
    if left == 0:
        return
    scale[0] = 0
    flags[0] &= CTF_LIBERAL
    while left > 0:
        size = tcp_option_size(option, left)
        if size == 0:
            return
        if option[0] == TCP_OPT_SACK_PERMITTED and size == 2:
            flags[0] |= CTF_SACK_PERMITTED
        elif option[0] == TCP_OPT_WINDOW_SCALE and size == 3:
            scale[0] = option[2] if option[2] < TCP_MAX_SCALE else TCP_MAX_SCALE
            flags[0] |= CTF_WINDOW_SCALE
        option += size
        left -= size


cdef inline uint32_t tcp_highest_sack(const TcpSegment *g) noexcept nogil:
    """tcp_sack(): the highest right edge of the first well-formed SACK option (RFC 2018, section 3), at least the ACK."""
    cdef const uint8_t *option = g.options
    cdef int left = g.options_len
    cdef uint32_t highest = g.ack
    cdef uint32_t right
    cdef int size, i
    while left > 0:
        size = tcp_option_size(option, left)
        if size == 0:
            break
        if option[0] == TCP_OPT_SACK and size >= 10 and (size - 2) % 8 == 0:
            for i in range(6, size, 8):
                right = ld32(option + i)
                if tcp_after(right, highest):
                    highest = right
            break
        option += size
        left -= size
    return highest


cdef inline void tcp_sack_for(const CtTcpSide *receiver, TcpSegment *g) noexcept nogil:
    """What the segment acknowledges, to one who has said that it understands SACK."""
    g.sack = tcp_highest_sack(g) if receiver.flags & CTF_SACK_PERMITTED and g.options_len else g.ack


# ---- windows: tcp_in_window()

cdef inline uint32_t tcp_at_least_one(uint32_t win) noexcept nogil:
    return win if win != 0 else 1


cdef inline void tcp_side_from_syn(CtTcp *t, int dir, const TcpSegment *g) noexcept nogil:
    """tcp_init_sender(). Scaling holds only if both ends offer it (RFC 7323, section 2.2)."""
    cdef CtTcpSide *sender = &t.side[dir]
    cdef CtTcpSide *receiver = &t.side[1 - dir]
    sender.end = g.end
    sender.max_end = g.end
    sender.max_win = tcp_at_least_one(g.win)
    tcp_syn_options(g, &sender.scale, &sender.flags)
    if dir == CT_DIR_REPLY and not sender.flags & receiver.flags & CTF_WINDOW_SCALE:
        sender.scale = 0
        receiver.scale = 0


cdef inline void tcp_side_from_midstream(CtTcp *t, int dir, const TcpSegment *g) noexcept nogil:
    cdef CtTcpSide *sender = &t.side[dir]
    cdef CtTcpSide *receiver = &t.side[1 - dir]
    sender.end = g.end
    sender.max_win = tcp_at_least_one(<uint32_t>g.win << sender.scale)
    sender.max_end = g.end + sender.max_win
    if receiver.max_win == 0:
        receiver.end = g.sack
        receiver.max_end = g.sack
    elif g.sack == receiver.end + 1:
        # the answer to a keep-alive, which repeats the byte before its window
        receiver.end += 1


cdef inline bint tcp_learn_side(CtTcp *t, int dir, const TcpSegment *g) noexcept nogil:
    """Take the sender's state from this segment where we have none, or where a SYN begins anew. True: nothing is left to check."""
    cdef CtTcpSide *sender = &t.side[dir]
    cdef bint syn = g.flags & TCP_FLAG_SYN
    cdef bint has_ack = g.flags & TCP_FLAG_ACK
    if sender.max_win == 0:
        if not syn:
            tcp_side_from_midstream(t, dir, g)
            return False
        tcp_side_from_syn(t, dir, g)
        return not has_ack
    if syn and tcp_after(g.end, sender.end) and (t.state == CT_TCP_SYN_SENT or t.state == CT_TCP_SYN_RECV):
        tcp_side_from_syn(t, dir, g)
        return dir == CT_DIR_REPLY and not has_ack
    return False


cdef inline void tcp_complete(const CtTcp *t, int dir, TcpSegment *g) noexcept nogil:
    """Fill in what the segment does not say, so that it passes the checks it does not concern."""
    if not g.flags & TCP_FLAG_ACK or (g.flags & TCP_FLAG_RST and g.ack == 0):
        # some stacks answer with RST+ACK and no acknowledgement number
        g.ack = t.side[1 - dir].end
        g.sack = g.ack
    if g.flags & TCP_FLAG_RST and g.seq == 0 and t.state == CT_TCP_SYN_SENT:
        # a closed port's answer to our SYN
        g.seq = t.side[dir].end
        g.end = g.seq


cdef inline int tcp_unless_liberal(const CtTcpSide *sender, const CtSettings *s, int verdict) noexcept nogil:
    return CTV_ACCEPT if sender.flags & CTF_LIBERAL or s.tcp_be_liberal else verdict


cdef inline uint32_t tcp_lowest_ack(const CtTcpSide *sender, const CtTcpSide *receiver) noexcept nogil:
    """An ACK of this or less is overly delayed."""
    return receiver.end - 1 - (sender.max_win if sender.max_win > TCP_MIN_ACK_WINDOW else <uint32_t>TCP_MIN_ACK_WINDOW)


cdef inline bint tcp_fits(const CtTcpSide *sender, const CtTcpSide *receiver, const TcpSegment *g) noexcept nogil:
    """Is the segment in window?"""
    return (tcp_before(g.seq, sender.max_end + 1) and tcp_before(g.sack, receiver.end + 1)
            and (receiver.max_win == 0 or tcp_after(g.end, sender.end - receiver.max_win - 1))
            and tcp_after(g.sack, tcp_lowest_ack(sender, receiver)))


cdef inline int tcp_beyond_window(CtTcp *t, int dir, const TcpSegment *g, uint32_t lowest_ack, const CtSettings *s) noexcept nogil:
    """The segment starts behind what the receiver allows: some stacks overshoot by less than a window."""
    cdef CtTcpSide *sender = &t.side[dir]
    cdef CtTcpSide *receiver = &t.side[1 - dir]
    cdef uint32_t overshot = g.end - sender.max_end + 1
    if (receiver.max_win != 0 and overshot <= receiver.max_win
            and tcp_after(g.end, sender.end - receiver.max_win - 1)
            and tcp_after(g.sack, lowest_ack) and tcp_before(g.sack, receiver.end + 1)):
        # if the receiver takes the data after all, its ACK must not be beyond what we have seen
        sender.end = g.end
        sender.flags |= CTF_UNACKED
        return tcp_unless_liberal(sender, s, CTV_IGNORE)
    return tcp_unless_liberal(sender, s, CTV_INVALID)


cdef inline int tcp_misfit(CtTcp *t, int dir, const TcpSegment *g, const CtSettings *s) noexcept nogil:
    """What becomes of a segment that tcp_fits() does not let through."""
    cdef const CtTcpSide *sender = &t.side[dir]
    cdef const CtTcpSide *receiver = &t.side[1 - dir]
    if not tcp_before(g.seq, sender.max_end + 1):
        return tcp_beyond_window(t, dir, g, tcp_lowest_ack(sender, receiver), s)
    if not tcp_before(g.sack, receiver.end + 1):
        return tcp_unless_liberal(sender, s, CTV_INVALID)  # acknowledges what was never sent
    return tcp_unless_liberal(sender, s, CTV_IGNORE)  # acknowledged long ago, or an overly delayed ACK


cdef inline void tcp_advance(CtTcpSide *sender, CtTcpSide *receiver, const TcpSegment *g, uint32_t win) noexcept nogil:
    """Move both sides on by a segment in window. ``win``: scaled."""
    cdef uint32_t reach = win + (g.sack - g.ack)
    if sender.max_win < reach:
        sender.max_win = reach
    if tcp_after(g.end, sender.end):
        sender.end = g.end
        sender.flags |= CTF_UNACKED
    if g.flags & TCP_FLAG_ACK and (not sender.flags & CTF_MAXACK_SET or tcp_after(g.ack, sender.max_ack)):
        sender.max_ack = g.ack
        sender.flags |= CTF_MAXACK_SET
    if receiver.max_win != 0 and tcp_after(g.end, sender.max_end):
        receiver.max_win += g.end - sender.max_end
    if tcp_after(g.sack + win, receiver.max_end - 1):
        receiver.max_end = g.sack + tcp_at_least_one(win)
    if g.ack == receiver.end:
        receiver.flags &= ~CTF_UNACKED


cdef inline void tcp_runs_on(CtTcpSide *sender, CtTcpSide *receiver, const TcpSegment *g) noexcept nogil:
    """The same of a segment without SYN and SACK blocks from a side that has been heard before, with fewer questions."""
    cdef uint32_t win = <uint32_t>g.win << sender.scale, most = sender.max_end
    cdef uint8_t flags = sender.flags
    if sender.max_win < win:
        sender.max_win = win
    if tcp_after(g.end, sender.end):
        sender.end = g.end
        flags |= CTF_UNACKED
    if rarely(not flags & CTF_MAXACK_SET) or tcp_after(g.ack, sender.max_ack):
        sender.max_ack = g.ack
        flags |= CTF_MAXACK_SET
    sender.flags = flags
    if rarely(tcp_after(g.end, most)) and receiver.max_win != 0:
        receiver.max_win += g.end - most
    if tcp_after(g.ack + win, receiver.max_end - 1):
        receiver.max_end = g.ack + tcp_at_least_one(win)
    if g.ack == receiver.end:
        receiver.flags &= ~CTF_UNACKED


cdef inline void tcp_count_retransmission(CtTcp *t, int dir, const TcpSegment *g) noexcept nogil:
    if t.last_dir == dir and t.last_seq == g.seq and t.last_ack == g.ack and t.last_end == g.end and t.last_win == g.win:
        t.retrans += 1
        return
    t.last_dir = <uint8_t>dir
    t.last_seq = g.seq
    t.last_ack = g.ack
    t.last_end = g.end
    t.last_win = g.win
    t.retrans = 0


cdef inline int tcp_in_window(CtTcp *t, int dir, TcpSegment *g, const CtSettings *s) noexcept nogil:
    """CTV_ACCEPT, CTV_IGNORE or CTV_INVALID; moves the windows on if the segment is in them."""
    cdef const CtTcpSide *sender = &t.side[dir]
    cdef const CtTcpSide *receiver = &t.side[1 - dir]
    cdef uint32_t win = g.win
    tcp_sack_for(receiver, g)
    if tcp_learn_side(t, dir, g):
        return CTV_ACCEPT
    tcp_complete(t, dir, g)
    if not tcp_fits(sender, receiver, g):
        return tcp_misfit(t, dir, g, s)
    if not g.flags & TCP_FLAG_SYN:  # the window of a SYN is never scaled (RFC 7323, section 2.2)
        win <<= sender.scale
    tcp_advance(sender, receiver, g, win)
    if g.kind == TCP_IS_ACK:
        tcp_count_retransmission(t, dir, g)
    return CTV_ACCEPT


# ---- the state machine: nf_conntrack_tcp_packet()

cdef inline bint ct_tcp_can_early_drop(const CtTcp *t) noexcept nogil:
    """tcp_can_early_drop(): the connection is closing, so its entry may go when memory is short."""
    return CT_TCP_FIN_WAIT <= t.state <= CT_TCP_CLOSE


cdef inline void tcp_note_passed(CtTcp *t, int dir, const TcpSegment *g) noexcept nogil:
    """Remember a segment that we let through without believing it, for the answer to it."""
    t.last_kind = g.kind
    t.last_dir = <uint8_t>dir
    t.last_seq = g.seq
    t.last_end = g.end
    t.last_win = g.win
    if g.kind == TCP_IS_SYN and dir == CT_DIR_ORIGINAL:
        t.last_flags = 0
        t.last_scale = 0
        tcp_syn_options(g, &t.last_scale, &t.last_flags)
        if t.state == CT_TCP_LAST_ACK:
            t.last_flags |= CTF_CHALLENGE
    if g.kind == TCP_IS_ACK and dir == CT_DIR_REPLY and t.state == CT_TCP_SYN_SENT:
        t.last_ack = g.ack


cdef inline void tcp_believe_passed_syn(CtTcp *t, int dir) noexcept nogil:
    """The peer answers the SYN that we let through: both ends are in step, we were not. Start over from that SYN."""
    cdef CtTcpSide *opener = &t.side[t.last_dir]
    cdef CtTcpSide *answerer = &t.side[dir]
    cdef uint8_t liberal = answerer.flags & CTF_LIBERAL
    opener.end = t.last_end
    opener.max_end = t.last_end
    opener.max_win = tcp_at_least_one(t.last_win)
    opener.scale = t.last_scale
    t.last_flags &= ~CTF_CHALLENGE
    opener.flags = t.last_flags
    memset(answerer, 0, sizeof(CtTcpSide))
    answerer.flags = liberal


cdef inline bint tcp_answers_passed(const CtTcp *t, int dir, uint32_t status, const TcpSegment *g) noexcept nogil:
    """A RST against the other end's SYN (or, in a half-open connection, an ACK) that we let through."""
    if g.ack != t.last_end:
        return False
    if t.last_kind == TCP_IS_SYN:
        return t.last_dir != dir and status & CTS_SEEN_REPLY
    return t.last_kind == TCP_IS_ACK and not status & CTS_ASSURED


cdef inline int tcp_reset(const CtTcp *t, int dir, const TcpSegment *g, uint32_t status, const CtSettings *s, int *state) noexcept nogil:
    """May this RST close the connection? A step or CTV_INVALID; ``state`` stays as it was where a challenge ACK may follow."""
    cdef const CtTcpSide *receiver = &t.side[1 - dir]
    cdef bint established = t.state == CT_TCP_ESTABLISHED and status & CTS_ASSURED
    if ct_tcp_can_early_drop(t):
        return TCP_STEP_COMMIT
    if receiver.flags & CTF_MAXACK_SET and t.last_kind != TCP_IS_SYN:
        if g.seq == 0 and not established:
            return TCP_STEP_WINDOW
        if tcp_before(g.seq, receiver.max_ack) and not s.tcp_ignore_invalid_rst:
            return CTV_INVALID
        if not established or g.seq == receiver.max_ack:
            return TCP_STEP_WINDOW
        if t.last_kind == TCP_IS_ACK and t.last_dir == dir and g.seq == t.last_end:
            return TCP_STEP_WINDOW  # follows the data it was sent behind
        # RFC 5961, section 3.2: in window but not the very next byte draws a challenge ACK, no reset
        state[0] = t.state
    if tcp_answers_passed(t, dir, status, g):
        return TCP_STEP_COMMIT  # it may acknowledge what we did not count
    if (t.state == CT_TCP_SYN_SENT and t.last_kind == TCP_IS_ACK and t.last_dir == CT_DIR_REPLY and g.seq == t.last_ack):
        return TCP_STEP_COMMIT  # the client's RST against a challenge ACK to its SYN
    return TCP_STEP_WINDOW


cdef inline int tcp_step(CtTcp *t, int dir, const TcpSegment *g, uint32_t status, const CtSettings *s, int *old, int *state) noexcept nogil:
    """The next state by the table and its exceptions: a step, or a verdict that ends the matter."""
    if state[0] == CT_TCP_BAD:
        return CTV_INVALID
    if state[0] == CT_TCP_SYN_SENT and (old[0] == CT_TCP_TIME_WAIT or old[0] == CT_TCP_CLOSE):
        # RFC 9293, section 3.6.1: a SYN may reopen the connection from TIME-WAIT
        if ((t.side[0].flags | t.side[1].flags) & CTF_CLOSE_INIT) or (t.last_dir == dir and t.last_kind == TCP_IS_RST):
            return CTV_REPEAT
        state[0] = CT_TCP_PASS
    if state[0] == CT_TCP_PASS:
        if g.kind != TCP_IS_SYNACK or t.last_kind != TCP_IS_SYN or t.last_dir == dir or g.ack != t.last_end:
            tcp_note_passed(t, dir, g)
            return CTV_IGNORE
        tcp_believe_passed_syn(t, dir)
        old[0] = CT_TCP_SYN_SENT
        state[0] = CT_TCP_SYN_RECV
    elif state[0] == CT_TCP_TIME_WAIT:
        if (old[0] == CT_TCP_LAST_ACK and g.kind == TCP_IS_ACK and t.last_dir != dir
                and t.last_kind == TCP_IS_SYN and t.last_flags & CTF_CHALLENGE):
            t.last_flags &= ~CTF_CHALLENGE  # a challenge ACK, not the ACK of the last FIN
            return CTV_IGNORE
    elif state[0] == CT_TCP_SYN_SENT2:
        t.last_flags |= CTF_SIMULTANEOUS
    elif state[0] == CT_TCP_SYN_RECV:
        if dir == CT_DIR_REPLY and g.kind == TCP_IS_ACK and t.last_flags & CTF_SIMULTANEOUS:
            state[0] = CT_TCP_ESTABLISHED
    elif state[0] == CT_TCP_CLOSE and g.kind == TCP_IS_RST:
        return tcp_reset(t, dir, g, status, s, state)
    return TCP_STEP_WINDOW


cdef inline int64_t tcp_lives(const CtSettings *s, int state, bint retransmits, bint unacked, bint no_window) noexcept nogil:
    """The timeout in this state, if it has been retransmitted as often as may be, data are not acknowledged, or no more are taken."""
    cdef int64_t of_state = s.tcp_timeout[state]
    if rarely(retransmits) and of_state > s.tcp_timeout_max_retrans:
        return s.tcp_timeout_max_retrans
    if unacked and of_state > s.tcp_timeout_unacknowledged:
        return s.tcp_timeout_unacknowledged
    if rarely(no_window) and of_state > s.tcp_timeout_max_retrans:
        return s.tcp_timeout_max_retrans
    return of_state


cdef inline int64_t tcp_timeout(const CtTcp *t, const TcpSegment *g, const CtSettings *s) noexcept nogil:
    cdef bint retransmits = t.retrans >= s.tcp_max_retrans
    if g.kind == TCP_IS_RST and not (retransmits and s.tcp_timeout[t.state] > s.tcp_timeout_max_retrans):
        return s.tcp_timeout[CT_TCP_CLOSE]
    return tcp_lives(s, t.state, retransmits, (t.side[0].flags | t.side[1].flags) & CTF_UNACKED, t.last_win == 0)


cdef inline int tcp_commit(CtTcp *t, int dir, const TcpSegment *g, int old, int state, const CtSettings *s,
                           CtStatus *status, int64_t *timeout) noexcept nogil:
    """The segment is in step: enter the state, start its timer, say whether the entry is assured now."""
    t.last_kind = g.kind
    t.last_dir = <uint8_t>dir
    t.state = <uint8_t>state
    if old != state and state == CT_TCP_FIN_WAIT:
        t.side[dir].flags |= CTF_CLOSE_INIT
    timeout[0] = tcp_timeout(t, g, s)
    if status[0] & CTS_SEEN_REPLY:
        if (old == CT_TCP_SYN_RECV or old == CT_TCP_ESTABLISHED) and state == CT_TCP_ESTABLISHED:
            status[0] |= CTS_ASSURED
        return CTV_ACCEPT
    if g.kind == TCP_IS_RST:
        timeout[0] = CT_KEEP_TIMEOUT
        return CTV_KILL
    if g.kind == TCP_IS_SYN and old == CT_TCP_SYN_SENT:
        # repeated SYNs must not keep an entry, and its NAT, alive for ever
        timeout[0] = CT_KEEP_TIMEOUT
    elif state == CT_TCP_ESTABLISHED and timeout[0] > s.tcp_timeout_unacknowledged:
        # picked up in mid-stream and heard from one end only
        timeout[0] = s.tcp_timeout_unacknowledged
    return CTV_ACCEPT


cdef inline int64_t tcp_refused_close(CtTcp *t, int dir, const TcpSegment *g, const CtSettings *s, uint32_t status,
                                      int64_t remaining) noexcept nogil:
    """nf_tcp_handle_invalid(): FINs or RSTs out of window from both ends mean that we are out of step with a dead connection."""
    if not status & CTS_ASSURED or status & CTS_FIXED_TIMEOUT or (g.kind != TCP_IS_RST and g.kind != TCP_IS_FIN):
        return CT_KEEP_TIMEOUT
    if t.last_dir == dir or (t.last_kind != TCP_IS_FIN and t.last_kind != TCP_IS_RST):
        t.last_kind = g.kind
        t.last_dir = <uint8_t>dir
        return CT_KEEP_TIMEOUT
    if remaining < 120 * DP_CT_SECOND or remaining <= s.tcp_timeout_unacknowledged:
        return CT_KEEP_TIMEOUT
    return s.tcp_timeout_unacknowledged


# ---- the tracker's doors

cdef inline void tcp_begins(CtTcp *t, const TcpSegment *g) noexcept nogil:
    """An entry of which nothing but this segment of its opener is known."""
    memset(t, 0, sizeof(CtTcp))
    t.side[0].end = g.end
    t.side[0].max_end = g.end
    t.side[0].max_win = tcp_at_least_one(g.win)


cdef inline void tcp_begins_midstream(CtTcp *t, const TcpSegment *g) noexcept nogil:
    """The same where it is no SYN."""
    tcp_begins(t, g)
    t.side[0].max_end += t.side[0].max_win
    t.side[0].flags = CTF_SACK_PERMITTED | CTF_LIBERAL
    t.side[1].flags = CTF_SACK_PERMITTED | CTF_LIBERAL


cdef inline bint ct_tcp_new(CtTcp *t, const uint8_t *seg, int seglen, const CtSettings *s) noexcept nogil:
    """tcp_new(): begin an entry with this segment of the original direction; ct_tcp_packet() follows with the same segment.

    False: it cannot begin a connection, so it is INVALID.
    """
    cdef TcpSegment g
    cdef int state
    tcp_segment(&g, seg, seglen)
    state = dp_ct_tcp_next[CT_DIR_ORIGINAL][g.kind][CT_TCP_NONE]
    if state == CT_TCP_BAD or (state != CT_TCP_SYN_SENT and not s.tcp_loose):
        return False
    if state == CT_TCP_SYN_SENT:
        tcp_begins(t, &g)
        tcp_syn_options(&g, &t.side[0].scale, &t.side[0].flags)
    else:
        tcp_begins_midstream(t, &g)
    t.last_kind = TCP_IS_NOTHING
    return True


cdef inline int ct_tcp_begin(CtTcp *t, const uint8_t *seg, int seglen, const CtSettings *s, int64_t remaining, CtStatus *status,
                             int64_t *timeout) noexcept nogil:
    """ct_tcp_new() and, unless that says no (CTV_INVALID), ct_tcp_packet(): put together here for what nearly all connections begin
    with, of which all checks are known to hold."""
    cdef TcpSegment g
    cdef int flags = seg[13] & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST | TCP_FLAG_FIN)
    if flags == TCP_FLAG_SYN:
        tcp_segment(&g, seg, seglen)
        tcp_begins(t, &g)
        tcp_syn_options(&g, &t.side[0].scale, &t.side[0].flags)
        t.side[1].max_end = t.side[0].max_win
        t.last_kind = TCP_IS_SYN
        t.state = CT_TCP_SYN_SENT
        timeout[0] = tcp_timeout(t, &g, s)
        return CTV_ACCEPT
    if flags == TCP_FLAG_ACK and s.tcp_loose:
        tcp_plain_segment(&g, seg, seglen)
        tcp_begins_midstream(t, &g)
        tcp_in_window(t, CT_DIR_ORIGINAL, &g, s)  # accepts: its window is a guess
        return tcp_commit(t, CT_DIR_ORIGINAL, &g, CT_TCP_NONE, CT_TCP_ESTABLISHED, s, status, timeout)
    if not ct_tcp_new(t, seg, seglen, s):
        return CTV_INVALID
    return ct_tcp_packet(t, CT_DIR_ORIGINAL, seg, seglen, s, remaining, status, timeout)


cdef inline int ct_tcp_packet(CtTcp *t, int dir, const uint8_t *seg, int seglen, const CtSettings *s, int64_t remaining,
                              CtStatus *status, int64_t *timeout) noexcept nogil:
    """One valid segment of an entry: a CTV_* verdict.

    ``remaining``: ns until the entry expires. ``status``: CTS_* bits of the entry, CTS_ASSURED may be added.
    ``timeout``: ns that the entry lives from now on, or CT_KEEP_TIMEOUT; it counts whatever the verdict.
    """
    cdef TcpSegment g
    cdef int old = t.state
    cdef int state, step
    tcp_segment(&g, seg, seglen)
    state = dp_ct_tcp_next[dir][g.kind][old]
    timeout[0] = CT_KEEP_TIMEOUT
    step = tcp_step(t, dir, &g, status[0], s, &old, &state)
    if step == TCP_STEP_WINDOW:
        step = tcp_in_window(t, dir, &g, s)
        if step == CTV_INVALID:
            timeout[0] = tcp_refused_close(t, dir, &g, s, status[0], remaining)
        if step == CTV_ACCEPT:
            step = TCP_STEP_COMMIT
    if step != TCP_STEP_COMMIT:
        return step
    return tcp_commit(t, dir, &g, old, state, s, status, timeout)


cdef inline bint tcp_stays(const CtTcp *t) noexcept nogil:
    """Is it in a state that segments with nothing but ACK, of either direction, leave as it is?"""
    return t.state == CT_TCP_ESTABLISHED or t.state == CT_TCP_CLOSE_WAIT


cdef inline bint ct_tcp_stands(const CtTcp *t, int dir, TcpSegment *g, const CtSettings *s) noexcept nogil:
    """Would ct_tcp_packet() accept this valid segment, of whose flags none but ACK and PSH is set, and leave the connection's state as
    it is? Nothing changes. False also where that takes a closer look."""
    cdef const CtTcpSide *sender = &t.side[dir]
    cdef const CtTcpSide *receiver = &t.side[1 - dir]
    if not tcp_stays(t) or sender.max_win == 0:
        return False
    tcp_sack_for(receiver, g)
    return tcp_fits(sender, receiver, g) or tcp_unless_liberal(sender, s, CTV_INVALID) == CTV_ACCEPT


cdef inline int64_t ct_tcp_goes_on(CtTcp *t, int dir, TcpSegment *g, const CtSettings *s, CtStatus *status) noexcept nogil:
    """The rest of ct_tcp_packet() for a segment of which ct_tcp_stands() is true: the timeout."""
    cdef int64_t timeout
    tcp_sack_for(&t.side[1 - dir], g)
    if tcp_unless_liberal(&t.side[dir], s, CTV_INVALID) == CTV_ACCEPT and not tcp_fits(&t.side[dir], &t.side[1 - dir], g):
        tcp_misfit(t, dir, g, s)
    else:
        tcp_advance(&t.side[dir], &t.side[1 - dir], g, <uint32_t>g.win << t.side[dir].scale)
        tcp_count_retransmission(t, dir, g)
    tcp_commit(t, dir, g, t.state, t.state, s, status, &timeout)
    return timeout


cdef inline bint tcp_passes_unusually(CtTcp *t, int dir, const uint8_t *seg, int seglen, const CtSettings *s, CtStatus *status,
                                      int64_t *timeout) noexcept nogil:
    """ct_tcp_passes() of any segment."""
    cdef TcpSegment g
    tcp_plain_segment(&g, seg, seglen)
    if not ct_tcp_stands(t, dir, &g, s):
        return False
    timeout[0] = ct_tcp_goes_on(t, dir, &g, s, status)
    return True


ctypedef bint (*PassesFn)(CtTcp *t, int dir, const uint8_t *seg, int seglen, const CtSettings *s, CtStatus *status,
                          int64_t *timeout) noexcept nogil

cdef extern from *:
    PassesFn passes_apart "apart"(PassesFn f) noexcept nogil


cdef inline bint ct_tcp_passes(CtTcp *t, int dir, const uint8_t *seg, int seglen, const CtSettings *s, CtStatus *status,
                               int64_t *timeout) noexcept nogil:
    """ct_tcp_stands() and, if so, ct_tcp_goes_on() of a segment at once, which here are one for what nearly all segments are: of an
    established connection, which is known to be assured or has been heard from one end only, and without SACK blocks that somebody
    reads."""
    cdef CtTcpSide *sender = &t.side[dir]
    cdef CtTcpSide *receiver = sender + 1 - 2 * dir
    cdef TcpSegment g
    tcp_plain_segment(&g, seg, seglen)
    if rarely(t.state != CT_TCP_ESTABLISHED or (status[0] & CTS_SPOKEN_IN) == CTS_SEEN_REPLY or sender.max_win == 0
              or (seg[12] >= 0x60 and receiver.flags & CTF_SACK_PERMITTED)):
        return passes_apart(tcp_passes_unusually)(t, dir, seg, seglen, s, status, timeout)
    if tcp_fits(sender, receiver, &g):
        tcp_runs_on(sender, receiver, &g)
        tcp_count_retransmission(t, dir, &g)
    elif tcp_unless_liberal(sender, s, CTV_INVALID) == CTV_ACCEPT:
        tcp_misfit(t, dir, &g, s)
    else:
        return False
    t.last_kind = TCP_IS_ACK
    t.last_dir = <uint8_t>dir
    timeout[0] = tcp_timeout(t, &g, s)
    if not status[0] & CTS_SEEN_REPLY and timeout[0] > s.tcp_timeout_unacknowledged:
        timeout[0] = s.tcp_timeout_unacknowledged
    return True


cdef inline int64_t ct_tcp_set_closing(CtTcp *t, uint32_t status, const CtSettings *s) noexcept nogil:
    """nf_conntrack_tcp_set_closing(): the node itself resets the connection (REJECT with tcp-reset). The timeout as in ct_tcp_packet()."""
    cdef uint8_t old = t.state
    t.state = CT_TCP_CLOSE
    if old == CT_TCP_CLOSE or status & CTS_FIXED_TIMEOUT:
        return CT_KEEP_TIMEOUT
    return s.tcp_timeout[CT_TCP_CLOSE]
