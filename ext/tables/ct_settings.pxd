# What one namespace's connection tracking is tuned with, and the words its trackers share.
#
# Source of defaults: net/netfilter/nf_conntrack_proto_*.c (tcp_timeouts, udp_timeouts, sctp_timeouts, gre_timeouts, ...),
# Documentation/networking/nf_conntrack-sysctl.rst. All times are nanoseconds.

from libc.stdint cimport int64_t, uint8_t, uint16_t


cdef enum:
    CT_DIR_ORIGINAL = 0
    CT_DIR_REPLY = 1

# What a tracker says about a packet of an entry.
cdef enum:
    CTV_ACCEPT = 0   # belongs to the connection
    CTV_IGNORE = 1   # passes as part of the connection, the entry learns nothing from it
    CTV_INVALID = 2  # not part of any connection (ct state invalid)
    CTV_REPEAT = 3   # remove the entry and look the packet up again: a closed connection is opened anew
    CTV_KILL = 4     # belongs to the connection, but the entry goes away now

# Status bits of an entry; the values are those of enum ip_conntrack_status (uapi nf_conntrack_common.h).
cdef enum:
    CTS_SEEN_REPLY = 1 << 1
    CTS_ASSURED = 1 << 2
    CTS_CONFIRMED = 1 << 3
    CTS_FIXED_TIMEOUT = 1 << 10

ctypedef uint16_t CtStatus  # CTS_* bits

cdef enum:
    CT_KEEP_TIMEOUT = -1  # a tracker's timeout when the entry's timer stays as it is

cdef enum:
    CT_TCP_STATES = 10
    CT_SCTP_STATES = 9

# Named as in /proc/sys/net/netfilter/nf_conntrack_*, without the prefix.
cdef struct CtSettings:
    int64_t tcp_timeout[CT_TCP_STATES]  # by state, see ct_tcp.pxd
    int64_t tcp_timeout_max_retrans
    int64_t tcp_timeout_unacknowledged
    int64_t udp_timeout
    int64_t udp_timeout_stream
    int64_t icmp_timeout
    int64_t icmpv6_timeout
    int64_t sctp_timeout[CT_SCTP_STATES]  # by state, see ct_sctp.pxd
    int64_t gre_timeout
    int64_t gre_timeout_stream
    int64_t generic_timeout
    uint8_t tcp_be_liberal
    uint8_t tcp_loose
    uint8_t tcp_max_retrans
    uint8_t tcp_ignore_invalid_rst
    uint8_t checksum

cdef extern from *:
    """
    #define DP_CT_SECOND 1000000000LL
    /* NONE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2 */
    static const int dp_ct_tcp_seconds[10] = {120, 120, 60, 5 * 24 * 3600, 120, 60, 30, 120, 10, 120};
    /* NONE CLOSED COOKIE_WAIT COOKIE_ECHOED ESTABLISHED SHUTDOWN_SENT SHUTDOWN_RECD SHUTDOWN_ACK_SENT HEARTBEAT_SENT */
    static const int dp_ct_sctp_seconds[9] = {10, 10, 3, 3, 210, 3, 3, 3, 30};
    """
    const int64_t DP_CT_SECOND
    const int dp_ct_tcp_seconds[CT_TCP_STATES]
    const int dp_ct_sctp_seconds[CT_SCTP_STATES]


cdef inline void ct_settings_init(CtSettings *s) noexcept nogil:
    cdef int i
    for i in range(CT_TCP_STATES):
        s.tcp_timeout[i] = dp_ct_tcp_seconds[i] * DP_CT_SECOND
    for i in range(CT_SCTP_STATES):
        s.sctp_timeout[i] = dp_ct_sctp_seconds[i] * DP_CT_SECOND
    s.tcp_timeout_max_retrans = 300 * DP_CT_SECOND
    s.tcp_timeout_unacknowledged = 300 * DP_CT_SECOND
    s.udp_timeout = 30 * DP_CT_SECOND
    s.udp_timeout_stream = 120 * DP_CT_SECOND
    s.icmp_timeout = 30 * DP_CT_SECOND
    s.icmpv6_timeout = 30 * DP_CT_SECOND
    s.gre_timeout = 30 * DP_CT_SECOND
    s.gre_timeout_stream = 180 * DP_CT_SECOND
    s.generic_timeout = 600 * DP_CT_SECOND
    s.tcp_be_liberal = 0
    s.tcp_loose = 1
    s.tcp_max_retrans = 3
    s.tcp_ignore_invalid_rst = 0
    s.checksum = 1


cdef inline int64_t ct_settings_least(const CtSettings *s) noexcept nogil:
    """The shortest of all timeouts."""
    cdef int64_t least = s.tcp_timeout_max_retrans
    cdef int i
    for i in range(CT_TCP_STATES):
        least = min(least, s.tcp_timeout[i])
    for i in range(CT_SCTP_STATES):
        least = min(least, s.sctp_timeout[i])
    least = min(least, s.tcp_timeout_unacknowledged)
    least = min(least, s.udp_timeout, s.udp_timeout_stream)
    least = min(least, s.icmp_timeout, s.icmpv6_timeout)
    least = min(least, s.gre_timeout, s.gre_timeout_stream)
    return min(least, s.generic_timeout)
