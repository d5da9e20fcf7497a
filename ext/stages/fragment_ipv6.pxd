# Fragmentation of IPv6 packets by their source, and of what was reassembled on the way: net/ipv6/ip6_output.c (ip6_fragment()).

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, chance, pkt_consume, pkt_ns, DEV_TUNNEL
from ext.stages.fragment cimport fragment_like, trace_fragment
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_TOO_BIG
from ext.stages.route cimport dst_mtu
from ext.stages.verdict cimport ST_DONE, DROPS_OUTPUT
from ext.wire.bytes cimport st16, st32
from ext.wire.ipv6 cimport (IPV6_HLEN, IPV6_NEXT, IPV6_PAYLOAD_LEN, IPV6_SRC, IPV6_MIN_MTU, IPV6_MAX_PAYLOAD, FRAGMENT_HLEN, FRAGMENT_MORE,
                            NEXT_DESTINATION, NEXT_FRAGMENT, NEXT_HOP_BY_HOP, NEXT_ROUTING)
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, PF_IGNORE_DF

cdef enum:
    FRAGMENT_TOO_BIG = DROPS_OUTPUT + 8  # behind those of output
    FRAGMENT_BAD_CHAIN
    PURPOSE_FRAGMENT_ID = 6


cdef inline const char *fragment_ipv6_reason(int r) noexcept nogil:
    if r == FRAGMENT_TOO_BIG:
        return b"fragment/ipv6_too_big\tA router does not fragment IPv6, and the packet is longer than the way out allows: the sender is told\tPKT_TOO_BIG"
    if r == FRAGMENT_BAD_CHAIN:
        return b"fragment/ipv6_bad_chain\tThe packet is to be fragmented and ends inside its extension headers\tNOT_SPECIFIED"
    return NULL


cdef inline int unfragmentable_part(const uint8_t *ip, uint32_t n, uint32_t *next_at) noexcept nogil:
    """ip6_find_1stfragopt(): bytes that each fragment repeats, and the field that will name the fragment header; -1: cut off."""
    cdef uint32_t at = IPV6_HLEN
    cdef bint routing = False
    next_at[0] = IPV6_NEXT
    while at <= n:
        if ip[next_at[0]] == NEXT_ROUTING:
            routing = True
        elif ip[next_at[0]] == NEXT_DESTINATION:
            if routing:
                return <int>at
        elif ip[next_at[0]] != NEXT_HOP_BY_HOP:
            return <int>at
        if at + 2 > n:
            return -1
        next_at[0] = at
        at += (<uint32_t>ip[at + 1] + 1) * 8
        if at > IPV6_MAX_PAYLOAD:
            return -1
    return -1


cdef inline bint old_cuts_fit6(Core *c, const Pkt *p, uint32_t hlen, uint32_t room) noexcept nogil:
    """May the packet be cut where it was before? As for IPv4, but each piece needs room for its fragment header.

    What each piece repeats now, ``hlen`` bytes, need not be what the fragments repeated, but there is no room for more.
    """
    cdef int i
    cdef uint32_t sum = 0, skip = hlen - IPV6_HLEN, n
    if p.n_frags < 2 or hlen > p.repeated or (p.dst.oif >= 0 and c.dev[p.dst.oif].kind == DEV_TUNNEL):
        return False
    for i in range(p.n_frags):
        n = p.frags[i]
        if i == 0:
            if n < skip:
                return False
            n -= skip
        sum += n
        if n > room or (n & 7 and i + 1 < p.n_frags):
            return False
    return sum == p.end - p.l3 - hlen


cdef inline Pkt *piece_of6(Core *c, Pkt *p, uint32_t l2len, uint32_t hlen, uint32_t next_at, uint32_t offset, uint32_t n, bint more,
                           uint32_t id) noexcept nogil:
    """One fragment: ``n`` bytes from ``offset`` on of what follows the first ``hlen`` bytes; NULL when memory is out."""
    cdef Pkt *q = fragment_like(c, p, l2len + hlen + FRAGMENT_HLEN + n)
    cdef uint8_t *ip
    cdef uint8_t *fragment
    if q == NULL:
        return NULL
    memcpy(q.buf + q.l2, p.buf + p.l3 - l2len, l2len + hlen)
    q.l3 = q.l2 + l2len
    q.end = q.l3 + hlen + FRAGMENT_HLEN + n
    ip = pkt_l3(q)
    fragment = ip + hlen
    fragment[0] = ip[next_at]
    fragment[1] = 0
    st16(fragment + 2, offset | (FRAGMENT_MORE if more else 0))
    st32(fragment + 4, id)
    ip[next_at] = NEXT_FRAGMENT
    st16(ip + IPV6_PAYLOAD_LEN, hlen - IPV6_HLEN + FRAGMENT_HLEN + n)
    memcpy(fragment + FRAGMENT_HLEN, pkt_l3(p) + hlen + offset, n)
    return q


cdef inline uint32_t first_piece(const Pkt *p) noexcept nogil:
    """How much of the packet Linux has in one piece: of a reassembled one the first fragment."""
    return IPV6_HLEN + p.frags[0] if p.n_frags > 1 else pkt_l3_len(p)


cdef inline int fragment_mtu(Core *c, Pkt *p, uint32_t *mtu) noexcept nogil:
    """The size to cut to: 0 or a drop. Fragments put together here leave no larger than they came (and than 1280)."""
    mtu[0] = dst_mtu(c, &p.dst)
    if (not p.flags & PF_IGNORE_DF and pkt_l3_len(p) > mtu[0]) or p.frag_max_size > mtu[0]:
        icmpv6_send(c, p, ICMPV6_TOO_BIG, 0, mtu[0])
        return -FRAGMENT_TOO_BIG
    if p.frag_max_size:
        mtu[0] = p.frag_max_size if p.frag_max_size > IPV6_MIN_MTU else IPV6_MIN_MTU
    return 0


cdef inline int fragment_packet6(Core *c, Pkt *p, uint32_t l2len, int next) noexcept nogil:
    """Send a packet in parts by stage ``next``; ``l2len`` bytes before each header are kept. ST_DONE or a drop."""
    cdef uint32_t mtu, room, left, n, at = 0, next_at, id
    cdef int hlen = unfragmentable_part(pkt_l3(p), first_piece(p), &next_at), i = 0, v
    cdef bint old
    cdef Pkt *q
    if hlen < 0:
        return -FRAGMENT_BAD_CHAIN
    v = fragment_mtu(c, p, &mtu)
    if v:
        return v
    trace_fragment(c, p, mtu)
    if mtu < <uint32_t>hlen + FRAGMENT_HLEN + 8:
        icmpv6_send(c, p, ICMPV6_TOO_BIG, 0, mtu)
        return -FRAGMENT_TOO_BIG
    room = mtu - hlen - FRAGMENT_HLEN
    id = <uint32_t>chance(c, pkt_ns(c, p), pkt_l3(p) + IPV6_SRC, 32, PURPOSE_FRAGMENT_ID)
    old = old_cuts_fit6(c, p, hlen, room)
    left = pkt_l3_len(p) - hlen
    while left > 0:
        n = left if left < room else room
        if old:
            n = p.frags[i] - (hlen - IPV6_HLEN if i == 0 else 0)
            i += 1
        elif n < left:
            n &= ~<uint32_t>7
        left -= n
        q = piece_of6(c, p, l2len, hlen, next_at, at, n, left > 0, id)
        if q != NULL:
            c.run(c, q, next)
        at += n
    pkt_consume(c, p)
    return ST_DONE
