# Memory that a packet's flow will need is asked for before its turn comes: with a million flows, waiting for it is all the cost there is.
#
# Nothing here is remembered but places to look at: what becomes of a packet does not depend on it.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from ext.fast.flows cimport AHEAD, AHEAD_FROM, Flow, FlowCache, Key, LINE, Program, Tracked, flow_home, flow_program, flow_track
from ext.tables.ct_entry cimport Ct

cdef enum:
    AHEAD_HALF = AHEAD // 2
    CT_ASKED = 26  # of a connection's bytes, those from here on are read

cdef extern from *:
    """
    #define prefetch(p) __builtin_prefetch(p)
    """
    void prefetch(const void *p) noexcept nogil


cdef inline void tracks_ahead(const FlowCache *fc, const Flow *f, Tracked *tracked) noexcept nogil:
    """The connections of a flow, if there are not many."""
    cdef const Program *g = flow_program(fc, f)
    cdef const char *ct
    cdef uint16_t serial
    cdef int i
    if g.more:
        return
    for i in range(g.n_tracks):
        tracked.ct[i] = flow_track(fc, f, g, i, &serial)
        ct = <const char *>tracked.ct[i]
        prefetch(ct + CT_ASKED)
        prefetch(ct + CT_ASKED + LINE)
        prefetch(ct + sizeof(Ct) - 1)


cdef inline void ahead_tracks(const FlowCache *fc, uint64_t hash, uint64_t addresses) noexcept nogil:
    """Those of the flow that should lie there."""
    cdef const Flow *f = flow_home(fc, hash)
    cdef Tracked tracked
    if f.addresses != addresses:
        f += 1
    if f.addresses == addresses and f.program:
        tracks_ahead(fc, f, &tracked)


cdef inline void ahead_of(FlowCache *fc, const Key *k, uint64_t hash) noexcept nogil:
    """A packet of this key will come: its flow now, and the connections of the one a few before."""
    cdef uint32_t i = fc.n_ahead & (AHEAD - 1)
    if fc.used < AHEAD_FROM:
        return  # all of it is near anyway
    prefetch(flow_home(fc, hash))
    fc.ahead_hash[i] = hash
    fc.ahead_addresses[i] = k.addresses
    fc.n_ahead += 1
    i = (fc.n_ahead + AHEAD_HALF) & (AHEAD - 1)
    ahead_tracks(fc, fc.ahead_hash[i], fc.ahead_addresses[i])
