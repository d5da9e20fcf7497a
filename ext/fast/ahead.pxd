# Memory that a packet's flow will need is asked for before its turn comes: with a million flows, waiting for it is all the cost there is.
#
# Nothing here is remembered but places to look at: what becomes of a packet does not depend on it.

from libc.stdint cimport uint32_t, uint64_t
from ext.fast.flows cimport AHEAD, AHEAD_FROM, FLOW_TRACKS, Flow, FlowCache, Key, LINE

cdef enum:
    AHEAD_HALF = AHEAD // 2

cdef extern from *:
    """
    #define prefetch(p) __builtin_prefetch(p)
    """
    void prefetch(const void *p) noexcept nogil


cdef inline void ahead_tracks(const FlowCache *fc, uint64_t hash, uint64_t place) noexcept nogil:
    """The connections of the flow that should lie there."""
    cdef const Flow *f = &fc.flow[hash & fc.mask]
    cdef int i
    if f.place != place:
        f = &fc.flow[(hash + 1) & fc.mask]
        if f.place != place:
            return
    for i in range(FLOW_TRACKS):
        if f.ct[i] != NULL:
            prefetch(&f.ct[i].serial)
            prefetch(<const char *>&f.ct[i].serial + LINE)


cdef inline void ahead_of(FlowCache *fc, const Key *k, uint64_t hash) noexcept nogil:
    """A packet of this key will come: its flow now, and the connections of the one a few before."""
    cdef uint32_t i = fc.n_ahead & (AHEAD - 1)
    if fc.mask < AHEAD_FROM:
        return  # all of it is near anyway
    prefetch(&fc.flow[hash & fc.mask])
    fc.ahead_hash[i] = hash
    fc.ahead_place[i] = k.place
    fc.n_ahead += 1
    i = (fc.n_ahead + AHEAD_HALF) & (AHEAD - 1)
    ahead_tracks(fc, fc.ahead_hash[i], fc.ahead_place[i])
