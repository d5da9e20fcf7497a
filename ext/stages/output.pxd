# The way out of the IP layer: net/ipv4/ip_output.c (__ip_local_out(), ip_output(), ip_finish_output()).

from libc.stdint cimport uint32_t
from ext.devices.core cimport Core
from ext.stages.forward cimport forward_mtu
from ext.stages.fragment cimport fragment_packet
from ext.stages.icmp cimport icmp_send, ICMP_DEST_UNREACH, UNREACH_FRAG_NEEDED
from ext.stages.netfilter cimport hook_output, hook_postrouting
from ext.stages.route cimport dst_mtu, trace_route_out
from ext.stages.verdict cimport ST_DONE, ST_OUTPUT, ST_FRAGMENT, ST_NEIGHBOUR, DROPS_OUTPUT
from ext.wire.bytes cimport ld16, st16
from ext.wire.ipv4 cimport IPV4_FRAG, IPV4_DF, IPV4_LEN, ipv4_set_csum
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, PF_FORWARDED, PF_REROUTED, PF_IGNORE_DF

cdef enum:
    OUTPUT_TOO_BIG = DROPS_OUTPUT


cdef inline const char *output_reason(int r) noexcept nogil:
    if r == OUTPUT_TOO_BIG:
        return b"output/too_big\tThe packet is longer than the way out allows and may not be fragmented\tPKT_TOO_BIG"
    return NULL


cdef inline int stage_local_out(Core *c, Pkt *p) noexcept nogil:
    """A packet made here, with its route: lengths, checksum, output hooks."""
    cdef int v
    st16(pkt_l3(p) + IPV4_LEN, pkt_l3_len(p))
    ipv4_set_csum(pkt_l3(p))
    trace_route_out(c, p)
    v = hook_output(c, p, p.dst.oif)
    if v:
        return ST_DONE if v > 0 else v
    return ST_OUTPUT


cdef inline int stage_output(Core *c, Pkt *p) noexcept nogil:
    cdef int v
    p.dev = p.dst.oif
    if not p.flags & PF_REROUTED:
        v = hook_postrouting(c, p, p.dev)
        if v:
            return v
    return ST_FRAGMENT


cdef inline int stage_fragment(Core *c, Pkt *p) noexcept nogil:
    """ip_finish_output(): cut the packet if it is too long, or was in parts before."""
    cdef uint32_t mtu = forward_mtu(c, p) if p.flags & PF_FORWARDED else dst_mtu(c, &p.dst)
    if pkt_l3_len(p) <= mtu and p.frag_max_size == 0:
        return ST_NEIGHBOUR
    if ld16(pkt_l3(p) + IPV4_FRAG) & IPV4_DF:
        if not p.flags & PF_IGNORE_DF or p.frag_max_size > mtu:
            icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_FRAG_NEEDED, mtu)
            return -OUTPUT_TOO_BIG
    if p.frag_max_size and p.frag_max_size < mtu:
        mtu = p.frag_max_size
    if pkt_l3_len(p) <= mtu and p.n_frags < 2:
        return ST_NEIGHBOUR
    return fragment_packet(c, p, mtu, 0, ST_NEIGHBOUR)
