# The REJECT target for IPv6: net/ipv6/netfilter/nf_reject_ipv6.c.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy
from ext.devices.core cimport Core, Ns, CONF6_HOP_LIMIT, pkt_consume
from ext.devices.record cimport rec_refuse
from ext.stages.conntrack cimport L4, l4_checksum_ok, pkt_find_l4
from ext.stages.icmpv6 cimport auto_flow_label, icmpv6_send, local_packet6, write_ipv6, ICMPV6_UNREACHABLE
from ext.stages.reject cimport TCP_HLEN, TCPF_RST, reject_closes, reject_verifies, reset_on_port, tcp_reset_fields
from ext.stages.route_ipv6 cimport route_input6, route_output6
from ext.stages.verdict cimport ST_LOCAL_OUT
from ext.tables.rules cimport HOOK_PREROUTING, REJECT_TCP_RESET
from ext.wire.bytes cimport ld32, st16
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ipv4 cimport IPPROTO_TCP
from ext.wire.ipv6 cimport IPV6_DST, IPV6_HLEN, IPV6_HOPS, IPV6_SRC, ipv6_is_unicast
from ext.wire.packet cimport BRNF_ACTIVE, Pkt, pkt_l3


cdef inline void reject6(Core *c, Ns *ns, Pkt *p, int hook, int code) noexcept nogil:
    """Answer a packet that a rule refuses; the caller drops it. Its checksum must be right, if it has one (reject6_csum_ok())."""
    cdef L4 l4
    rec_refuse(&c.rec)
    if not pkt_find_l4(p, &l4) or l4.len == 0:
        return
    if hook == HOOK_PREROUTING and not p.dst.valid and route_input6(c, p, p.dev) < 0:
        return
    if code == REJECT_TCP_RESET:
        reject_reset6(c, ns, p, &l4)
    elif not reject_verifies(&l4) or l4_checksum_ok(pkt_l3(p), &l4, l4.len):
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, code, 0)


cdef inline Pkt *tcp_reset_packet6(Core *c, Ns *ns, Pkt *p, const L4 *l4, int tclass, bint label) noexcept nogil:
    """A RST that answers ``p``; ``label``: with a flow label. NULL when memory is out."""
    cdef Pkt *q = local_packet6(c, ns, IPV6_HLEN + TCP_HLEN)
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint8_t *tcp
    cdef uint32_t sum
    if q == NULL:
        return NULL
    write_ipv6(pkt_l3(q), TCP_HLEN, tclass, auto_flow_label(c, ns, ip + IPV6_DST, ip + IPV6_SRC, IPPROTO_TCP, ld32(l4.at)) if label else 0,
               IPPROTO_TCP, 0, ip + IPV6_DST, ip + IPV6_SRC)
    tcp = pkt_l3(q) + IPV6_HLEN
    tcp_reset_fields(l4, tcp)
    sum = pseudo_sum(pkt_l3(q) + IPV6_SRC, pkt_l3(q) + IPV6_DST, 16, IPPROTO_TCP, TCP_HLEN)
    st16(tcp + 16, ~csum_add_bytes(tcp, TCP_HLEN, sum) & 0xffff)
    q.end = q.l3 + IPV6_HLEN + TCP_HLEN
    pkt_l3(q)[IPV6_HOPS] = <uint8_t>c.dev[ns.lo].conf[CONF6_HOP_LIMIT]
    return q


cdef inline void reject_reset6(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """nf_send_reset6(): a RST to the sender, and the connection is closed."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef uint8_t saddr[16]
    cdef Pkt *q
    if l4.proto != IPPROTO_TCP or l4.len < TCP_HLEN or l4.at[13] & TCPF_RST or not l4_checksum_ok(ip, l4, l4.len):
        return
    if not ipv6_is_unicast(ip + IPV6_SRC) or not ipv6_is_unicast(ip + IPV6_DST):
        return
    q = tcp_reset_packet6(c, ns, p, l4, 0, False)
    if q == NULL:
        return
    memcpy(saddr, ip + IPV6_DST, 16)
    if route_output6(c, ns, ip + IPV6_SRC, saddr, -1, &q.dst):
        pkt_consume(c, q)
        return
    pkt_l3(q)[IPV6_HOPS] = <uint8_t>c.dev[q.dst.oif].conf[CONF6_HOP_LIMIT]
    reject_closes(c, ns, p, q)
    if p.brnf & BRNF_ACTIVE and p.phys_in >= 0:
        reset_on_port(c, p, q)
    else:
        c.run(c, q, ST_LOCAL_OUT)
