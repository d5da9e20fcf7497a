# Forwarding: net/ipv4/ip_forward.c, route.c (ip_rt_send_redirect()).

from libc.stdint cimport uint8_t, uint32_t, int64_t
from ext.devices.core cimport Core, Ns, Peer, EventRecord, log_event, pkt_ns, conf_or, CONF_SEND_REDIRECTS, DETAIL_LEN
from ext.devices.record cimport STEP_TTL, rec_note, rec_refuse
from ext.stages.icmp cimport (icmp_send, ICMP_TIME_EXCEEDED, ICMP_DEST_UNREACH, ICMP_REDIRECT, EXCEEDED_TTL, UNREACH_FRAG_NEEDED,
                              REDIRECT_HOST)
from ext.stages.netfilter cimport hook_forward
from ext.stages.options cimport options_forward
from ext.stages.route cimport peer_get
from ext.stages.verdict cimport ST_OUTPUT, DROPS_FORWARD
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ipv4 cimport IPV4_TTL, IPV4_FRAG, IPV4_DF, IPV4_SRC, IPV4_DST, ipv4_decrease_ttl
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST, PF_FORWARDED, PF_DOREDIRECT, PF_IGNORE_DF
from libc.stdio cimport snprintf

cdef enum:
    FORWARD_TTL_EXPIRED = DROPS_FORWARD
    FORWARD_TOO_BIG
    FORWARD_NOT_TO_US
    REDIRECT_NUMBER = 9
    REDIRECT_LOAD = 20000000  # ns; doubled with every redirect sent


cdef inline const char *forward_reason(int r) noexcept nogil:
    if r == FORWARD_TTL_EXPIRED:
        return b"forward/ttl_expired\tThe TTL would become zero\tIP_INHDR"
    if r == FORWARD_TOO_BIG:
        return b"forward/too_big\tThe packet is longer than the next link's MTU and may not be fragmented\tPKT_TOO_BIG"
    if r == FORWARD_NOT_TO_US:
        return b"forward/group_frame\tA packet for somebody else came in a broadcast or multicast frame\tNOT_SPECIFIED"
    return NULL


cdef inline uint32_t forward_mtu(Core *c, const Pkt *p) noexcept nogil:
    """ip_dst_mtu_maybe_forward(): a route's own MTU, else the device's; path MTU is for packets made here."""
    return p.dst.mtu if p.dst.mtu else c.dev[p.dst.oif].mtu


cdef inline bint exceeds_mtu(const Pkt *p, uint32_t mtu) noexcept nogil:
    """ip_exceeds_mtu(): what was put together from small enough fragments is cut again."""
    if pkt_l3_len(p) <= mtu or not ld16(p.buf + p.l3 + IPV4_FRAG) & IPV4_DF:
        return False
    if p.frag_max_size > mtu:
        return True
    return not p.flags & PF_IGNORE_DF


cdef inline void send_redirect(Core *c, Pkt *p) noexcept nogil:
    """Tell a neighbour of a shorter way, ever more rarely the longer it does not listen."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint8_t *ip = pkt_l3(p)
    cdef Peer *peer
    cdef uint32_t gw = ld32(p.dst.gw) if p.dst.has_gw else ld32(ip + IPV4_DST)
    if not conf_or(c, c.dev[p.dst.oif], CONF_SEND_REDIRECTS):
        return
    peer = peer_get(c, ns, ip + IPV4_SRC, 4)
    if peer == NULL:
        icmp_send(c, p, ICMP_REDIRECT, REDIRECT_HOST, gw)
        return
    if c.now > peer.last + (<int64_t>REDIRECT_LOAD << (REDIRECT_NUMBER + 1)):
        peer.tokens = 0
        peer.redirects = 0
    if peer.redirects >= REDIRECT_NUMBER:
        peer.last = c.now
        return
    if peer.redirects == 0 or c.now > peer.last + (<int64_t>REDIRECT_LOAD << peer.redirects):
        icmp_send(c, p, ICMP_REDIRECT, REDIRECT_HOST, gw)
        peer.last = c.now
        peer.redirects += 1


cdef inline int stage_forward(Core *c, Pkt *p) noexcept nogil:
    """``p.dev``: the device it came in by."""
    cdef uint32_t mtu
    cdef int v
    cdef EventRecord *ev
    if p.pkt_type != TO_HOST:
        return -FORWARD_NOT_TO_US
    if pkt_l3(p)[IPV4_TTL] <= 1:
        icmp_send(c, p, ICMP_TIME_EXCEEDED, EXCEEDED_TTL, 0)
        return -FORWARD_TTL_EXPIRED
    p.flags |= PF_FORWARDED
    mtu = forward_mtu(c, p)
    if exceeds_mtu(p, mtu):
        icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_FRAG_NEEDED, mtu)
        return -FORWARD_TOO_BIG
    ipv4_decrease_ttl(pkt_l3(p))
    p.crossings = 0
    rec_note(&c.rec, p, STEP_TTL, NULL, <int>mtu, 0)
    ev = log_event(c, p, b"forward", b"ttl", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"TTL is now %d", pkt_l3(p)[IPV4_TTL])
    if p.flags & PF_DOREDIRECT:
        rec_refuse(&c.rec)
        send_redirect(c, p)
    v = hook_forward(c, p, p.dev, p.dst.oif)
    if v:
        return v
    if p.opt.len:
        options_forward(c, p)
    return ST_OUTPUT
