# Connection tracking of GRE: version 0 by addresses alone, version 1 (PPTP, RFC 2637) by call id.
# Source: net/netfilter/nf_conntrack_proto_gre.c.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from ext.tables.ct_settings cimport CTS_ASSURED, CTS_CONFIRMED, CTS_SEEN_REPLY, CTV_ACCEPT, CtSettings, CtStatus
from ext.wire.bytes cimport ld16


cdef enum:
    GRE_VERSION = 0x0007
    GRE_VERSION_PPTP = 1
    GRE_PROTO_PPP = 0x880B
    GRE_CALL_ID = 6   # offset in a version 1 header
    GRE_PPTP_MIN = 8  # up to the call id

# The timeouts in force when the connection began hold for all of its life.
cdef packed struct CtGre:
    int64_t timeout
    int64_t stream_timeout


cdef inline bint ct_gre_pkt_to_tuple(const uint8_t *l4, int l4len, uint16_t *src, uint16_t *dst) noexcept nogil:
    """gre_pkt_to_tuple(). False: no connection can be made of it (version 1 that does not carry PPP).

    The source key would come from the PPTP helper's key map, which nobody loads here: 0.
    """
    src[0] = 0
    dst[0] = 0
    if l4len < GRE_PPTP_MIN or (ld16(l4) & GRE_VERSION) != GRE_VERSION_PPTP:
        return True
    if ld16(l4 + 2) != GRE_PROTO_PPP:
        return False
    dst[0] = ld16(l4 + GRE_CALL_ID)
    return True


cdef inline int ct_gre_packet(CtGre *g, const CtSettings *s, CtStatus *status, int64_t *timeout) noexcept nogil:
    """nf_conntrack_gre_packet()."""
    if not status[0] & CTS_CONFIRMED:
        g.timeout = s.gre_timeout
        g.stream_timeout = s.gre_timeout_stream
    if status[0] & CTS_SEEN_REPLY:
        timeout[0] = g.stream_timeout
        status[0] |= CTS_ASSURED
    else:
        timeout[0] = g.timeout
    return CTV_ACCEPT
