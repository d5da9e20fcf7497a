# Eight packets that go straight, at once: TCP segments of as many connections, which lanes.pxd follows and writes.
#
# What is asked of each packet beside its connection's windows is asked one by one, as straight.pxd does. The first packet of which anything
# is not as nearly always ends the eight in front of it: it, and whatever two packets of one connection are, goes alone.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, Ns
from ext.fast.flows cimport FLOW_TRACKS, Flow, Program, SHORT_HEAD, Shortcut, Track, Tracked, track_nat
from ext.fast.key cimport IP
from ext.fast.lanes cimport LANE_NO_WINDOW, LANE_RETRANSMITS, LANE_UNACKED, LANES, Lanes, lanes_pass, lanes_repeat
from ext.fast.sum cimport net16, put_raw16, raw32
from ext.tables.conntrack cimport Ct
from ext.tables.ct_settings cimport CTS_SEEN_REPLY, CtSettings
from ext.tables.ct_tcp cimport CT_TCP_ESTABLISHED, CTS_SPOKEN_IN, TCP_HEADER, tcp_lives
from ext.wire.bytes cimport ld16

cdef enum:
    LANES_LEAST = 2  # packets; one is as quickly carried alone
    LANES_NATS = 2  # translations of a packet


cdef inline bint abreast_is(const Program *g) noexcept nogil:
    """May packets of a program that goes straight be carried so?"""
    cdef const Track *t = &g.tracks[g.tcp_track]
    return (g.straight and g.tcp_track < FLOW_TRACKS and g.short.n_nats <= LANES_NATS
            and (t.status & CTS_SPOKEN_IN) != CTS_SEEN_REPLY)


cdef inline uint32_t lanes_apart(const uint32_t *ref, uint32_t n) noexcept nogil:
    """How many of ``n`` packets, from the first one on, fill as many lanes: no two of them are of one connection. ``ref``: theirs, with room
    for LANES."""
    cdef uint32_t same = lanes_repeat(ref) | <uint32_t>1 << LANES
    cdef uint32_t k = 0
    while not same >> k & 1:
        k += 1
    return k if k < n else n


cdef inline void lane_seen(Lanes *l, int k, const Track *t, const Ct *ct, const uint8_t *ip) noexcept nogil:
    """Packet ``ip`` and its connection of TCP are those of lane ``k``."""
    l.ip[k] = ip
    l.sender[k] = <const uint8_t *>&ct.proto.tcp.side[t.dir]
    l.receiver[k] = <const uint8_t *>&ct.proto.tcp.side[1 - t.dir]
    l.last[k] = <const uint8_t *>&ct.proto.tcp.last_seq
    l.dir[k] = t.dir
    l.most_retrans[k] = (<const Ns *>t.ns).ct.set.tcp_max_retrans


cdef inline uint32_t lanes_agree(Lanes *l, uint32_t n) noexcept nogil:
    """Lanes from the first one on whose connections let their segments through, of ``n``; what these become is known then."""
    cdef uint32_t k, passed
    for k in range(n, <uint32_t>LANES):
        l.ip[k] = l.ip[0]
        l.sender[k] = l.sender[0]
        l.receiver[k] = l.receiver[0]
        l.last[k] = l.last[0]
        l.to[k] = l.to[0]
    passed = lanes_pass(l)
    k = 0
    while k < n and passed >> k & 1:
        k += 1
    return k


cdef inline int64_t lane_timeout(uint32_t lives, const Track *t, const CtSettings *s) noexcept nogil:
    cdef int64_t timeout = tcp_lives(s, CT_TCP_ESTABLISHED, lives & LANE_RETRANSMITS, lives & LANE_UNACKED, lives & LANE_NO_WINDOW)
    if not t.status & CTS_SEEN_REPLY and timeout > s.tcp_timeout_unacknowledged:
        timeout = s.tcp_timeout_unacknowledged
    return timeout


cdef inline void lane_told(const Lanes *l, int k, const Track *t, Ct *ct, int64_t now) noexcept nogil:
    """The connection has seen its packet, after lanes_agree()."""
    cdef uint32_t flags = l.next_flags[k]
    memcpy(<uint8_t *>l.sender[k], &l.next_sender[k], 16)
    memcpy(<uint8_t *>l.receiver[k], &l.next_receiver[k], 16)
    memcpy(<uint8_t *>l.last[k], &l.next_last[k], 16)
    ct.proto.tcp.side[t.dir].flags = <uint8_t>(flags >> 8)
    ct.proto.tcp.side[1 - t.dir].flags = <uint8_t>(flags >> 24)
    ct.expires = now + lane_timeout(l.lives[k], t, &(<const Ns *>t.ns).ct.set)


cdef inline uint32_t lane_length(const Program *g, const uint8_t *ip, uint32_t n) noexcept nogil:
    """Bytes of the inner packet ``ip`` as it leaves, of ``n`` to the frame's end."""
    return ld16(ip + 2) if g.short.trims else n


cdef inline void lane_planned(Lanes *l, int k, const Program *g, const Track *tracks, const Tracked *at, uint16_t sport, uint16_t ident,
                              uint32_t n) noexcept nogil:
    """What the packet of lane ``k`` leaves with, after lanes_agree(); as in straight_written(). ``n``: lane_length()."""
    cdef const Shortcut *s = &g.short
    cdef uint32_t *side[2]
    cdef uint64_t nat
    cdef int i, manip, track
    side[0] = l.src
    side[1] = l.dst
    for i in range(s.n_nats):
        track = g.nat_track[i]
        manip = s.manip[i]
        nat = track_nat(at.ct[track], tracks[track].dir, manip)
        side[manip][k] = <uint32_t>nat
        (<uint16_t *>&l.ports[k])[manip] = <uint16_t>(nat >> 32)
    l.translated[k] = 0 - <uint32_t>(s.n_nats != 0)
    l.hops[k] = s.hops
    l.total[k] = s.head_len - s.outer + n
    l.ident[k] = ident
    l.push_sum[k] = g.push_sum
    l.udp_sum[k] = g.push_udp_sum + s.link_sum
    l.push_udp[k] = 0 - <uint32_t>g.push_udp
    l.sport[k] = sport


cdef inline void lane_tail(uint8_t *to, const uint8_t *ip, uint32_t n) noexcept nogil:
    """The packet behind what lanes_write() writes, and eight bytes or more."""
    if n > 64:
        memcpy(to + 32, ip + 32, n - 32)
    elif n >= 48:
        memcpy(to + n - 16, ip + n - 16, 16)
        memcpy(to + 32, ip + 32, 16)
    else:
        memcpy(to + n - 8, ip + n - 8, 8)
        memcpy(to + 32, ip + 32, 8)


cdef inline void lane_written(const Lanes *l, int k, const Program *g, uint32_t n) noexcept nogil:
    """All that differs from packet to packet, after lanes_write()."""
    cdef const Shortcut *s = &g.short
    cdef uint8_t *to = l.to[k]
    cdef uint8_t *outer = to + s.outer - s.head_len
    lane_tail(to, l.ip[k], n)
    put_raw16(to + IP + 16, l.check[k])
    memcpy(to - 64, s.head + SHORT_HEAD - 64, 64)
    if s.head_len > 64:
        memcpy(to - SHORT_HEAD, s.head, SHORT_HEAD - 64)
    if not s.pushes:
        return
    memcpy(outer + 2, &l.outer[k], 4)
    put_raw16(outer + 10, l.outer_check[k])
    if outer[9] == 17:
        put_raw16(outer + IP, l.sport[k])
        memcpy(outer + IP + 4, &l.udp[k], 4)
