# Connection tracking of protocols without a tracker of their own: one entry per address pair and protocol.
# Source: net/netfilter/nf_conntrack_core.c, generic_packet().

from libc.stdint cimport int64_t

from ext.tables.ct_settings cimport CTV_ACCEPT, CtSettings


cdef inline int ct_generic_packet(const CtSettings *s, int64_t *timeout) noexcept nogil:
    timeout[0] = s.generic_timeout
    return CTV_ACCEPT
