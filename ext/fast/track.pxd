# The connections on a flow's way see its packet, as conntrack's stage would show it to them.
#
# First each is asked whether it accepts the packet and stays what it is; only if all do, they are told. Nothing has to be undone then.

from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, Ns
from ext.fast.flows cimport FLOW_TRACKS, Flow, FlowCache, Program, Track, Tracked, TRACKS_MAX, flow_track
from ext.fast.key cimport IP, TCP_RESET
from ext.tables.conntrack cimport Ct
from ext.tables.ct_generic cimport ct_generic_packet
from ext.tables.ct_gre cimport ct_gre_packet
from ext.tables.ct_settings cimport CT_KEEP_TIMEOUT, CTV_ACCEPT, CtSettings, CtStatus
from ext.tables.ct_tcp cimport CtTcp, TcpSegment, ct_tcp_goes_on, ct_tcp_packet, ct_tcp_passes, ct_tcp_stands, tcp_plain_segment
from ext.tables.ct_udp cimport ct_udp_packet
from ext.wire.bytes cimport ld16, rarely


cdef inline void track_expires(const Core *c, Ct *ct, int64_t timeout) noexcept nogil:
    if timeout != CT_KEEP_TIMEOUT:
        ct.expires = timeout + c.now


cdef inline void track_told(Core *c, const Track *t, Ct *ct) noexcept nogil:
    """A connection of another protocol than TCP, which never refuses."""
    cdef int64_t timeout
    if rarely(t.proto != 17):
        track_told_rest(c, t, ct)
        return
    ct_udp_packet(&ct.proto.udp, c.now, &(<Ns *>t.ns).ct.set, &ct.status, &timeout)
    track_expires(c, ct, timeout)


cdef inline void track_told_rest(const Core *c, const Track *t, Ct *ct) noexcept nogil:
    """track_told() of what is not of UDP."""
    cdef const CtSettings *s = &(<Ns *>t.ns).ct.set
    cdef int64_t timeout
    if t.proto == 47:
        ct_gre_packet(&ct.proto.gre, s, &ct.status, &timeout)
    else:
        ct_generic_packet(s, &timeout)
    track_expires(c, ct, timeout)


cdef packed struct Tellable:
    # what segments change in a connection, side by side as there
    CtStatus status
    int64_t expires
    CtTcp tcp


cdef struct Told:
    # a connection that has been told
    Ct *ct
    Tellable was


cdef inline bint reset_told(Core *c, const Track *t, Ct *ct, const uint8_t *ip, Told *was) noexcept nogil:
    """A segment that resets a connection which is closed already: does that accept it, and stay closed?"""
    cdef Ns *ns = <Ns *>t.ns
    cdef int64_t timeout
    told_kept(was, ct)
    if (ct_tcp_packet(&ct.proto.tcp, t.dir, ip + IP, ld16(ip + 2) - IP, &ns.ct.set, ct.expires - c.now, &ct.status, &timeout) != CTV_ACCEPT
            or ct.proto.tcp.state != was.was.tcp.state):
        told_undone(was)
        return False
    track_expires(c, ct, timeout)
    return True


cdef inline void told_kept(Told *was, Ct *ct) noexcept nogil:
    was.ct = ct
    memcpy(&was.was, &ct.status, sizeof(Tellable))


cdef inline void told_undone(const Told *was) noexcept nogil:
    memcpy(&was.ct.status, &was.was, sizeof(Tellable))


cdef inline bint resets_agree(Core *c, const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """As tracks_agree() for a segment that resets a connection: there is no asking, only telling and undoing."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef Told was[TRACKS_MAX]
    cdef uint16_t serial
    cdef Ct *ct
    cdef int i, told = 0
    for i in range(g.n_tracks):
        ct = flow_track(fc, f, g, i, &serial)
        if not track_stands(c, &g.tracks[i], ct, serial):
            break
        if g.tracks[i].proto == 6:
            if not reset_told(c, &g.tracks[i], ct, ip, &was[told]):
                break
            told += 1
    else:
        for i in range(g.n_tracks):
            if g.tracks[i].proto != 6:
                track_told(c, &g.tracks[i], flow_track(fc, f, g, i, &serial))
        return True
    for i in range(told - 1, -1, -1):
        told_undone(&was[i])
    return False


cdef inline bint track_stands(const Core *c, const Track *t, const Ct *ct, uint16_t serial) noexcept nogil:
    """Is it the connection that was noted, as it was then, and alive?"""
    return <uint16_t>ct.serial == serial and ct.status == t.status and ct.expires > c.now


cdef inline bint track_asked(const Core *c, const Track *t, const Ct *ct, uint16_t serial, TcpSegment *segment) noexcept nogil:
    """Does the connection accept the packet and stay what it is?"""
    return (track_stands(c, t, ct, serial)
            and (t.proto != 6 or ct_tcp_stands(&ct.proto.tcp, t.dir, segment, &(<const Ns *>t.ns).ct.set)))


cdef inline void track_told_tcp(const Core *c, const Track *t, Ct *ct, TcpSegment *segment) noexcept nogil:
    """After track_asked()."""
    track_expires(c, ct, ct_tcp_goes_on(&ct.proto.tcp, t.dir, segment, &(<Ns *>t.ns).ct.set, &ct.status))


cdef inline bint many_agree(Core *c, const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """As tracks_agree() where TCP is tracked more than once, or more connections are on the way than a flow has room for."""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef TcpSegment segment
    cdef Ct *ct[TRACKS_MAX]
    cdef const Track *t
    cdef uint16_t serial
    cdef int i
    if ip[9] == 6:
        tcp_plain_segment(&segment, ip + IP, ld16(ip + 2) - IP)
    for i in range(g.n_tracks):
        t = &g.tracks[i]
        ct[i] = flow_track(fc, f, g, i, &serial)
        if not track_asked(c, t, ct[i], serial, &segment):
            return False
    for i in range(g.n_tracks):
        t = &g.tracks[i]
        if t.proto == 6:
            track_told_tcp(c, t, ct[i], &segment)
        else:
            track_told(c, t, ct[i])
    return True


ctypedef bint (*AgreeFn)(Core *c, const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil

cdef extern from *:
    AgreeFn agree_apart "apart"(AgreeFn f) noexcept nogil


cdef inline bint segment_passes(const Core *c, const Track *t, Ct *ct, const uint8_t *ip) noexcept nogil:
    """Does a connection of TCP, which stands, accept the packet and stay what it is? Then it has seen it."""
    cdef int64_t timeout
    if not ct_tcp_passes(&ct.proto.tcp, t.dir, ip + IP, ld16(ip + 2) - IP, &(<Ns *>t.ns).ct.set, &ct.status, &timeout):
        return False
    track_expires(c, ct, timeout)
    return True


cdef inline bint tracked_agree(Core *c, const Flow *f, const Program *g, const Tracked *at, const uint8_t *ip) noexcept nogil:
    """As tracks_agree() for a program whose flows have their connections in themselves, one of TCP at most, and for no segment that
    resets it."""
    cdef const Track *t = g.tracks
    cdef int tcp = g.tcp_track
    if g.n_tracks == 0:
        return True
    if not track_stands(c, &t[0], at.ct[0], f.serial[0]) or (g.n_tracks > 1 and not track_stands(c, &t[1], at.ct[1], f.serial[1])):
        return False
    if tcp < FLOW_TRACKS and not segment_passes(c, &t[tcp], at.ct[tcp], ip):
        return False
    if tcp != 0:
        track_told(c, &t[0], at.ct[0])
    if tcp != 1 and g.n_tracks > 1:
        track_told(c, &t[1], at.ct[1])
    return True


cdef inline bint tracks_agree(Core *c, const Flow *f, const Program *g, const uint8_t *ip) noexcept nogil:
    """All connections on the way see the packet, whose inner IP header this is, or none does."""
    cdef Tracked at
    cdef uint16_t serial
    cdef int i
    if g.n_tracks == 0:
        return True
    if rarely(ip[9] == 6 and ip[IP + 13] & TCP_RESET):
        return agree_apart(resets_agree)(c, f, g, ip)
    if rarely(g.many or g.more):
        return agree_apart(many_agree)(c, f, g, ip)
    for i in range(g.n_tracks):
        at.ct[i] = flow_track(<const FlowCache *>c.fast, f, g, i, &serial)
    return tracked_agree(c, f, g, &at, ip)
