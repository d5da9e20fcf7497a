# The way out of the IPv6 layer: net/ipv6/output_core.c (__ip6_local_out()), ip6_output.c (ip6_output(), ip6_finish_output()).

from libc.stdint cimport uint32_t
from ext.devices.core cimport Core, CONF_DISABLE_IPV6
from ext.stages.fragment_ipv6 cimport fragment_packet6
from ext.stages.netfilter cimport hook_output, hook_postrouting
from ext.stages.receive cimport RECEIVE_IPV6_DISABLED
from ext.stages.route cimport dst_mtu
from ext.stages.route_ipv6 cimport trace_route_out6
from ext.stages.verdict cimport ST_DONE, ST_OUTPUT, ST_FRAGMENT, ST_NEIGHBOUR
from ext.wire.bytes cimport st16
from ext.wire.ipv6 cimport IPV6_HLEN, IPV6_MAX_PAYLOAD, IPV6_PAYLOAD_LEN
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, PF_REROUTED


cdef inline int stage_ipv6_local_out(Core *c, Pkt *p) noexcept nogil:
    """A packet made here, with its route: its length, the output hooks."""
    cdef uint32_t payload = pkt_l3_len(p) - IPV6_HLEN
    cdef int v
    st16(pkt_l3(p) + IPV6_PAYLOAD_LEN, payload if payload <= IPV6_MAX_PAYLOAD else 0)
    trace_route_out6(c, p)
    v = hook_output(c, p, p.dst.oif)
    if v:
        return ST_DONE if v > 0 else v
    return ST_OUTPUT


cdef inline int stage_ipv6_output(Core *c, Pkt *p) noexcept nogil:
    cdef int v
    p.dev = p.dst.oif
    if c.dev[p.dev].conf[CONF_DISABLE_IPV6]:
        return -RECEIVE_IPV6_DISABLED
    if not p.flags & PF_REROUTED:
        v = hook_postrouting(c, p, p.dev)
        if v:
            return v
    return ST_FRAGMENT


cdef inline int stage_ipv6_fragment(Core *c, Pkt *p) noexcept nogil:
    """ip6_finish_output(): cut the packet if it is too long, or was in smaller parts before."""
    if pkt_l3_len(p) <= dst_mtu(c, &p.dst) and (p.frag_max_size == 0 or pkt_l3_len(p) <= p.frag_max_size):
        return ST_NEIGHBOUR
    return fragment_packet6(c, p, 0, ST_NEIGHBOUR)
