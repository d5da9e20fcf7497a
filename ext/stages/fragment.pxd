# Fragmentation of IPv4 packets: net/ipv4/ip_output.c (ip_do_fragment()).
#
# A packet that was put together from fragments is cut where it was cut before, if those pieces fit; any other packet
# into pieces as large as the MTU allows.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, log_event, EventRecord, DETAIL_LEN, DEV_TUNNEL, pkt_consume
from ext.stages.verdict cimport ST_DONE
from ext.tables.ct_entry cimport Ct, ct_hold
from ext.wire.bytes cimport ld16, st16
from ext.wire.ipv4 cimport IPV4_HLEN, IPV4_LEN, IPV4_FRAG, IPV4_DF, IPV4_MF, IPV4_OFFSET, ipv4_hlen, ipv4_set_csum, ipv4_options_to_noop
from ext.wire.packet cimport Pkt, pkt_new, pkt_l3, pkt_l3_len, PF_REASM_DF
from libc.stdio cimport snprintf


cdef inline bint old_cuts_fit(Core *c, const Pkt *p, uint32_t mtu) noexcept nogil:
    """May the packet be cut where it was before? ``mtu``: room behind the IP header.

    The old pieces have no headroom for a tunnel's headers: on the way into one they are copied into new ones.
    """
    cdef int i
    cdef uint32_t hlen = ipv4_hlen(p.buf + p.l3), sum = 0
    if p.n_frags < 2 or (p.dst.oif >= 0 and c.dev[p.dst.oif].kind == DEV_TUNNEL):
        return False
    if ld16(p.buf + p.l3 + IPV4_FRAG) & (IPV4_MF | IPV4_OFFSET):
        return False
    for i in range(p.n_frags):
        sum += p.frags[i]
        if p.frags[i] > (mtu if i == 0 else mtu + hlen):
            return False
        if p.frags[i] & 7 and i + 1 < p.n_frags:
            return False
    return sum == p.end - p.l3 - hlen


cdef inline Pkt *fragment_like(Core *c, const Pkt *p, uint32_t room) noexcept nogil:
    """An empty packet that shares what is known of ``p``; NULL when memory is out."""
    cdef Pkt *q = pkt_new(&c.pool, room)
    if q == NULL:
        c.out_of_memory = True
        return NULL
    q.id = p.id
    q.dev = p.dev
    q.iif = p.iif
    q.protocol = p.protocol
    q.vlan = p.vlan
    q.pkt_type = p.pkt_type
    q.flags = p.flags
    q.mark = p.mark
    q.hash = p.hash
    q.hash_l4 = p.hash_l4
    q.tunnels = p.tunnels
    q.dst = p.dst
    q.opt = p.opt
    q.ctinfo = p.ctinfo
    q.ct = p.ct
    if q.ct != NULL:
        ct_hold(<Ct *>q.ct)
    c.count.fragments_made += 1
    return q


cdef inline Pkt *piece_of(Core *c, Pkt *p, uint32_t l2len, uint32_t offset, uint32_t n, uint32_t word) noexcept nogil:
    """One fragment: ``n`` payload bytes from ``offset`` on, fragment field ``word``; NULL when memory is out."""
    cdef uint32_t hlen = ipv4_hlen(pkt_l3(p))
    cdef Pkt *q = fragment_like(c, p, l2len + hlen + n)
    cdef uint8_t *ip
    if q == NULL:
        return NULL
    memcpy(q.buf + q.l2, p.buf + p.l3 - l2len, l2len + hlen)
    q.l3 = q.l2 + l2len
    q.end = q.l3 + hlen + n
    ip = pkt_l3(q)
    memcpy(ip + hlen, pkt_l3(p) + hlen + offset, n)
    if offset:
        ipv4_options_to_noop(ip + IPV4_HLEN, <int>hlen - IPV4_HLEN)
    st16(ip + IPV4_LEN, hlen + n)
    st16(ip + IPV4_FRAG, word)
    ipv4_set_csum(ip)
    return q


cdef inline void trace_fragment(Core *c, Pkt *p, uint32_t mtu) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"fragment", b"fragment", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"%u bytes cut for an MTU of %u", p.end - p.l3, mtu)


cdef inline int fragment_packet(Core *c, Pkt *p, uint32_t mtu, uint32_t l2len, int next) noexcept nogil:
    """Send a packet in parts by stage ``next``; ``l2len`` bytes before each IP header are kept. Always ST_DONE."""
    cdef uint32_t hlen = ipv4_hlen(pkt_l3(p)), left = pkt_l3_len(p) - hlen, at = 0, n, word
    cdef uint32_t first = ld16(pkt_l3(p) + IPV4_FRAG), df = 0
    cdef int i = 0
    cdef bint old
    cdef Pkt *q
    trace_fragment(c, p, mtu)
    mtu = mtu - hlen if mtu > hlen + 8 else 8
    old = old_cuts_fit(c, p, mtu)
    if not old and p.flags & PF_REASM_DF:
        df = IPV4_DF
    while left > 0:
        n = left if left < mtu else mtu
        if old:
            n = p.frags[i]
            i += 1
        elif n < left:
            n &= ~<uint32_t>7
        word = ((first & IPV4_OFFSET) + (at >> 3)) & IPV4_OFFSET | df
        if n < left or first & IPV4_MF:
            word |= IPV4_MF
        q = piece_of(c, p, l2len, at, n, word)
        if q != NULL:
            c.run(c, q, next)
        at += n
        left -= n
    pkt_consume(c, p)
    return ST_DONE
