# Test-only: the connection trackers as Python objects. The wheel leaves this module out.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint8_t

from ext.tables cimport ct_generic, ct_gre, ct_icmp, ct_sctp, ct_settings, ct_tcp, ct_tuple, ct_udp

ACCEPT = ct_settings.CTV_ACCEPT
IGNORE = ct_settings.CTV_IGNORE
INVALID = ct_settings.CTV_INVALID
REPEAT = ct_settings.CTV_REPEAT
KILL = ct_settings.CTV_KILL
KEEP_TIMEOUT = ct_settings.CT_KEEP_TIMEOUT
SEEN_REPLY = ct_settings.CTS_SEEN_REPLY
ASSURED = ct_settings.CTS_ASSURED
CONFIRMED = ct_settings.CTS_CONFIRMED
FIXED_TIMEOUT = ct_settings.CTS_FIXED_TIMEOUT
ICMP_CLASS = {
    ct_icmp.CT_ICMP_INVALID: "invalid",
    ct_icmp.CT_ICMP_QUERY: "query",
    ct_icmp.CT_ICMP_ERROR: "error",
    ct_icmp.CT_ICMP_UNTRACKED: "untracked",
}
TCP_SIZE = sizeof(ct_tcp.CtTcp)
TCP_STATES = [ct_tcp.ct_tcp_state_name(state).decode() for state in range(ct_settings.CT_TCP_STATES)]
SCTP_STATES = [ct_sctp.ct_sctp_state_name(state).decode() for state in range(ct_settings.CT_SCTP_STATES)]


cdef class Settings:
    cdef ct_settings.CtSettings s

    def __init__(self, **changes):
        ct_settings.ct_settings_init(&self.s)
        self.s.tcp_be_liberal = changes.pop("tcp_be_liberal", 0)
        self.s.tcp_loose = changes.pop("tcp_loose", 1)
        self.s.tcp_max_retrans = changes.pop("tcp_max_retrans", 3)
        self.s.tcp_ignore_invalid_rst = changes.pop("tcp_ignore_invalid_rst", 0)
        assert not changes, changes

    def dump(self):
        return self.s


cdef class Tcp:
    cdef ct_tcp.CtTcp t
    cdef Settings settings
    cdef public ct_settings.CtStatus status

    def __init__(self, Settings settings):
        self.settings = settings

    @staticmethod
    def valid(const uint8_t[::1] seg):
        return ct_tcp.ct_tcp_valid(&seg[0] if seg.shape[0] else NULL, <int>seg.shape[0])

    @staticmethod
    def next_state(int direction, int kind, int state):
        return ct_tcp.dp_ct_tcp_next[direction][kind][state]

    def new(self, const uint8_t[::1] seg):
        return ct_tcp.ct_tcp_new(&self.t, &seg[0], <int>seg.shape[0], &self.settings.s)

    def begin(self, const uint8_t[::1] seg, int64_t remaining):
        """new() and packet() by the one door for both."""
        cdef int64_t timeout = -2
        verdict = ct_tcp.ct_tcp_begin(&self.t, &seg[0], <int>seg.shape[0], &self.settings.s, remaining, &self.status, &timeout)
        return verdict, timeout

    def packet(self, int direction, const uint8_t[::1] seg, int64_t remaining):
        cdef int64_t timeout
        verdict = ct_tcp.ct_tcp_packet(&self.t, direction, &seg[0], <int>seg.shape[0], &self.settings.s, remaining, &self.status, &timeout)
        return verdict, timeout

    def standing(self, int direction, const uint8_t[::1] seg):
        """What asking and telling, as the flow cache does, make of a copy: timeout, tracker, status; None: they leave the segment alone."""
        cdef ct_tcp.CtTcp t = self.t
        cdef ct_settings.CtStatus status = self.status
        cdef ct_tcp.TcpSegment g
        ct_tcp.tcp_segment(&g, &seg[0], <int>seg.shape[0])
        if not ct_tcp.ct_tcp_stands(&t, direction, &g, &self.settings.s):
            return None
        timeout = ct_tcp.ct_tcp_goes_on(&t, direction, &g, &self.settings.s, &status)
        return timeout, t, status

    def passing(self, int direction, const uint8_t[::1] seg):
        """As standing(), by the one door for both."""
        cdef ct_tcp.CtTcp t = self.t
        cdef ct_settings.CtStatus status = self.status
        cdef int64_t timeout
        if not ct_tcp.ct_tcp_passes(&t, direction, &seg[0], <int>seg.shape[0], &self.settings.s, &status, &timeout):
            return (None, t, status)
        return timeout, t, status

    def set_closing(self):
        return ct_tcp.ct_tcp_set_closing(&self.t, self.status, &self.settings.s)

    def can_early_drop(self):
        return ct_tcp.ct_tcp_can_early_drop(&self.t)

    @property
    def state(self):
        return TCP_STATES[self.t.state]

    def dump(self):
        return self.t


cdef class Sctp:
    cdef ct_sctp.CtSctp c
    cdef Settings settings
    cdef public ct_settings.CtStatus status

    def __init__(self, Settings settings):
        self.settings = settings

    @staticmethod
    def valid(const uint8_t[::1] packet):
        cdef uint32_t types
        return ct_sctp.ct_sctp_valid(&packet[0], <int>packet.shape[0], &types)

    @staticmethod
    def checksum_ok(const uint8_t[::1] packet):
        return ct_sctp.ct_sctp_checksum_ok(&packet[0], <int>packet.shape[0])

    def new(self, const uint8_t[::1] packet):
        cdef uint32_t types
        ct_sctp.ct_sctp_valid(&packet[0], <int>packet.shape[0], &types)
        return ct_sctp.ct_sctp_new(&self.c, &packet[0], <int>packet.shape[0], types)

    def packet(self, int direction, const uint8_t[::1] packet):
        cdef int64_t timeout
        cdef uint32_t types
        cdef int n = <int>packet.shape[0]
        ct_sctp.ct_sctp_valid(&packet[0], n, &types)
        verdict = ct_sctp.ct_sctp_packet(&self.c, direction, &packet[0], n, types, &self.settings.s, &self.status, &timeout)
        return verdict, timeout

    @property
    def state(self):
        return SCTP_STATES[self.c.state]


cdef class Udp:
    cdef ct_udp.CtUdp u
    cdef Settings settings
    cdef public ct_settings.CtStatus status

    def __init__(self, Settings settings):
        self.settings = settings

    def packet(self, int64_t now):
        cdef int64_t timeout
        verdict = ct_udp.ct_udp_packet(&self.u, now, &self.settings.s, &self.status, &timeout)
        return verdict, timeout

    def packet_lite(self):
        cdef int64_t timeout
        verdict = ct_udp.ct_udplite_packet(&self.settings.s, &self.status, &timeout)
        return verdict, timeout


cdef class Gre:
    cdef ct_gre.CtGre g
    cdef public ct_settings.CtStatus status

    def packet(self, Settings settings):
        cdef int64_t timeout
        verdict = ct_gre.ct_gre_packet(&self.g, &settings.s, &self.status, &timeout)
        return verdict, timeout


def udp_valid(const uint8_t[::1] packet):
    return ct_udp.ct_udp_valid(&packet[0], <int>packet.shape[0])


def udplite_coverage(const uint8_t[::1] packet):
    return ct_udp.ct_udplite_coverage(&packet[0], <int>packet.shape[0])


def generic_packet(Settings settings):
    cdef int64_t timeout
    verdict = ct_generic.ct_generic_packet(&settings.s, &timeout)
    return verdict, timeout


def icmp_class(const uint8_t[::1] message):
    return ICMP_CLASS[ct_icmp.ct_icmp_class(&message[0], <int>message.shape[0])]


def icmpv6_class(const uint8_t[::1] message, int hop_limit, const uint8_t[::1] source):
    """The class, and where the quoted packet begins (-1: not said)."""
    cdef int quote = -1
    kind = ct_icmp.ct_icmpv6_class(&message[0], <int>message.shape[0], hop_limit, &source[0], &quote)
    return ICMP_CLASS[kind], quote


def icmp_packet(int family, int original_type, Settings settings):
    cdef int64_t timeout = KEEP_TIMEOUT
    verdict = ct_icmp.ct_icmp_packet(family, original_type, &settings.s, &timeout)
    return verdict, timeout


def icmpv6_packet(int family, int original_type, Settings settings, uint32_t status):
    cdef int64_t timeout = KEEP_TIMEOUT
    verdict = ct_icmp.ct_icmpv6_packet(family, original_type, &settings.s, status, &timeout)
    return verdict, timeout


def tuple_of(int proto, const uint8_t[::1] l4):
    """Source and destination value, or None."""
    cdef uint16_t src, dst
    cdef const uint8_t *first = &l4[0] if l4.shape[0] else NULL
    return (src, dst) if ct_tuple.ct_pkt_to_tuple(proto, first, <int>l4.shape[0], &src, &dst) else None


def inverted(int proto, uint16_t src, uint16_t dst):
    cdef uint16_t reply_src, reply_dst
    return (reply_src, reply_dst) if ct_tuple.ct_invert_tuple(proto, src, dst, &reply_src, &reply_dst) else None
