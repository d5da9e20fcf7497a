# Connection tracking of UDP and UDP-Lite. Source: net/netfilter/nf_conntrack_proto_udp.c.

from libc.stdint cimport int64_t, uint8_t, uint32_t

from ext.tables.ct_settings cimport CTS_ASSURED, CTS_CONFIRMED, CTS_SEEN_REPLY, CTV_ACCEPT, DP_CT_SECOND, CtSettings, CtStatus
from ext.wire.bytes cimport ld16


cdef enum:
    UDP_LENGTH = 4    # offset; in UDP-Lite the checksum coverage (RFC 3828, section 3.1)
    UDP_CHECKSUM = 6  # offset
    UDP_HEADER = 8

cdef packed struct CtUdp:
    int64_t stream_from  # from here on traffic both ways is a stream, not a question and its answer


cdef inline bint ct_udp_valid(const uint8_t *l4, int l4len) noexcept nogil:
    """udp_error() without the checksum, which the caller verifies (0 counts as valid in both families)."""
    if l4len < UDP_HEADER:
        return False
    return UDP_HEADER <= ld16(l4 + UDP_LENGTH) <= l4len


cdef inline int ct_udp_packet(CtUdp *u, int64_t now, const CtSettings *s, CtStatus *status, int64_t *timeout) noexcept nogil:
    """nf_conntrack_udp_packet(). ``now`` in ns."""
    if not status[0] & CTS_CONFIRMED:
        u.stream_from = now + 2 * DP_CT_SECOND
    timeout[0] = s.udp_timeout
    if status[0] & CTS_SEEN_REPLY and now > u.stream_from:
        timeout[0] = s.udp_timeout_stream
        status[0] |= CTS_ASSURED
    return CTV_ACCEPT


cdef inline int ct_udplite_coverage(const uint8_t *l4, int l4len) noexcept nogil:
    """Bytes that the checksum covers, or -1: udplite_error() calls the packet INVALID before it looks at the checksum."""
    cdef int coverage
    if l4len < UDP_HEADER:
        return -1
    coverage = ld16(l4 + UDP_LENGTH)
    if coverage == 0:
        coverage = l4len
    if coverage < UDP_HEADER or coverage > l4len or ld16(l4 + UDP_CHECKSUM) == 0:
        return -1
    return coverage


cdef inline int ct_udplite_packet(const CtSettings *s, CtStatus *status, int64_t *timeout) noexcept nogil:
    """nf_conntrack_udplite_packet()."""
    if status[0] & CTS_SEEN_REPLY:
        timeout[0] = s.udp_timeout_stream
        status[0] |= CTS_ASSURED
    else:
        timeout[0] = s.udp_timeout
    return CTV_ACCEPT
