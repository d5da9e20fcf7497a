# How long packets spend in each stage: real time, off unless somebody asks (``Engine.profile``).
#
# One stage's time runs at any moment. What a stage carries to its end on the side (copies, fragments, ICMP messages) counts for
# the stages of those packets. The clock is read once for each change of stages; what a reading costs is measured and taken off.

from libc.stdint cimport int64_t
from libc.string cimport memset
from ext.devices.core cimport Core, StageClock
from ext.stages.verdict cimport (ST_ARP, ST_BRIDGE_FORWARD, ST_BRIDGE_IN, ST_BRIDGE_PORT, ST_BRIDGE_PUSH, ST_BRIDGE_UP, ST_BRIDGE_XMIT,
                                 ST_FORWARD, ST_FRAGMENT, ST_IP_RECEIVE, ST_IP_ROUTE, ST_LOCAL, ST_LOCAL_OUT, ST_NEIGHBOUR, ST_OUTPUT,
                                 ST_PROXIED_SOLICITATION, ST_RECEIVE, ST_TRANSMIT, ST_TRANSPORT, ST_TUNNEL_OUT)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    enum:
        CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *t)

cdef enum:
    READINGS = 64  # of the clock in one go, to learn what one costs
    GOES = 64  # of which the fastest counts: the others may have been interrupted


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef inline void clock_start(StageClock *clock) noexcept nogil:
    """All times are zero from here on."""
    cdef int64_t start, end, least = 1 << 62
    cdef int i, k
    memset(clock, 0, sizeof(StageClock))
    for k in range(GOES):
        start = end = clock_ns()
        for i in range(READINGS):
            end = clock_ns()
        if end - start < least:
            least = end - start
    clock.cost = least / <double>READINGS
    clock.on = True


cdef inline void clock_goes_to(StageClock *clock, int stage) noexcept nogil:
    """The time of ``stage`` runs from now on; 0: nobody's does."""
    cdef int64_t now = clock_ns()
    if clock.stage:
        clock.ns[clock.stage] += now - clock.since
        clock.readings[clock.stage] += 1
    clock.stage = stage
    clock.since = now


cdef inline void clock_enters(StageClock *clock, int stage) noexcept nogil:
    clock.visits[stage] += 1
    clock_goes_to(clock, stage)


cdef inline const char *stage_name(int stage) noexcept nogil:
    if stage == ST_RECEIVE:
        return b"receive"
    if stage == ST_BRIDGE_IN:
        return b"bridge_in"
    if stage == ST_BRIDGE_FORWARD:
        return b"bridge_forward"
    if stage == ST_BRIDGE_UP:
        return b"bridge_up"
    if stage == ST_BRIDGE_PORT:
        return b"bridge_port"
    if stage == ST_BRIDGE_XMIT:
        return b"bridge_xmit"
    if stage == ST_BRIDGE_PUSH:
        return b"bridge_push"
    if stage == ST_ARP:
        return b"arp"
    if stage == ST_IP_RECEIVE:
        return b"ip_receive"
    if stage == ST_IP_ROUTE:
        return b"ip_route"
    if stage == ST_LOCAL:
        return b"local"
    if stage == ST_TRANSPORT:
        return b"transport"
    if stage == ST_FORWARD:
        return b"forward"
    if stage == ST_LOCAL_OUT:
        return b"local_out"
    if stage == ST_OUTPUT:
        return b"output"
    if stage == ST_FRAGMENT:
        return b"fragment"
    if stage == ST_NEIGHBOUR:
        return b"neighbour"
    if stage == ST_TRANSMIT:
        return b"transmit"
    if stage == ST_TUNNEL_OUT:
        return b"tunnel_out"
    if stage == ST_PROXIED_SOLICITATION:
        return b"proxied_solicitation"
    return NULL
