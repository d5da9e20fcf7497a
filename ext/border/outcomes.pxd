# Every way that the rules can go for a packet: the random matches of the nat table, each way, then the filter rules met.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport *
from ext.stages.conntrack cimport L4, pkt_find_l4
from ext.stages.flow cimport flow_of
from ext.stages.nat cimport next_fall
from ext.stages.netfilter cimport pkt_rules
from ext.stages.route cimport route_input, route_output
from ext.stages.route_ipv6 cimport route_input6, route_output6
from ext.tables.rules cimport *
from ext.wire.bytes cimport ld16, st16
from ext.wire.ether cimport ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_DST, IPV4_HLEN, IPV4_SRC, IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, ipv4_hlen
from ext.wire.ipv6 cimport IPV6_DST, IPV6_HLEN, IPV6_NEXT, IPV6_SRC
from ext.wire.packet cimport Pkt, pkt_l3, pkt_new, pkt_release_memory, DST_LOCAL


cdef inline Pkt *probe_packet(Core *c, int dev, int family, bytes packet) except NULL:
    cdef Pkt *p
    if family == 6:
        if len(packet) < IPV6_HLEN or packet[0] >> 4 != 6:
            raise ValueError("not an IPv6 packet")
    elif len(packet) < IPV4_HLEN or packet[0] >> 4 != 4 or ipv4_hlen(packet) > len(packet):
        raise ValueError("not an IPv4 packet")
    p = pkt_new(&c.pool, <uint32_t>len(packet))
    if p == NULL:
        raise MemoryError
    memcpy(p.buf + p.l3, <const char *>packet, len(packet))
    p.end = p.l3 + <uint32_t>len(packet)
    p.dev = p.iif = dev
    p.protocol = ETHERTYPE_IPV6 if family == 6 else ETHERTYPE_IPV4
    p.payload_at = IPV6_HLEN
    p.next_at = IPV6_NEXT
    return p


cdef inline tuple verdict_origins(const RuleTable *t, const Verdict *v):
    return tuple([rule_of(t, v.matched[i]).origin for i in range(v.n_matched) if rule_of(t, v.matched[i]).origin])


cdef inline str filter_verdict(Core *c, Ns *ns, Pkt *p, int hook, int iif, int oif, uint32_t state, Choices *ch, list origins):
    """What the filter table says at one hook."""
    cdef Flow f
    cdef Verdict v
    cdef RuleTable *t = pkt_rules(ns, p, TABLE_FILTER)
    if t.n_chains == 0:
        return "ACCEPT"
    flow_of(c, ns, p, iif, oif, &f)
    f.ctstate = state
    flow_words(&f)
    rules_walk(t, hook, &f, &p.mark, ch, &v, False)
    origins.extend(verdict_origins(t, &v))
    return {T_DROP: "DROP", T_REJECT: "REJECT"}.get(v.target, "ACCEPT")


cdef inline uint8_t *ports_of(const Pkt *p) noexcept nogil:
    """NULL: its protocol has none, or they are not there."""
    cdef L4 l4
    if not pkt_find_l4(p, &l4) or l4.len < 4:
        return NULL
    return l4.at if l4.proto in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP) else NULL


cdef inline tuple apply_dnat(Pkt *p, const RuleTable *t, const Verdict *v):
    """Write the new destination into the probe; what it is (port 0: the protocol has none), or None."""
    cdef int alen = 16 if p.protocol == ETHERTYPE_IPV6 else 4
    cdef uint8_t *daddr = pkt_l3(p) + (IPV6_DST if alen == 16 else IPV4_DST)
    cdef uint8_t *ports = ports_of(p)
    cdef const Rule *rule
    if v.target != T_DNAT:
        return None
    rule = rule_of(t, v.rule)
    if rule.has_address:
        memcpy(daddr, rule.to_min, alen)
    if rule.port_min and ports != NULL:
        st16(ports + 2, rule.port_min)
    return bytes(daddr[:alen]), ld16(ports + 2) if ports != NULL else 0


cdef inline int output_device(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """The device that a packet of the namespace's own leaves by (``p.dst`` is its route); -1: there is no route."""
    cdef uint8_t saddr[16]
    memset(saddr, 0, 16)
    if p.protocol == ETHERTYPE_IPV6:
        memcpy(saddr, pkt_l3(p) + IPV6_SRC, 16)
        return -1 if route_output6(c, ns, pkt_l3(p) + IPV6_DST, saddr, -1, &p.dst) else p.dst.oif
    memcpy(saddr, pkt_l3(p) + IPV4_SRC, 4)
    if route_output(c, ns, pkt_l3(p) + IPV4_DST, saddr, True, &p.dst):
        return -1
    return p.dst.oif


cdef inline str output_verdict(Core *c, Ns *ns, Pkt *p, int oif, uint32_t state, Choices *ch, list origins):
    """What the filter table says of a packet of the namespace's own, which may come back in through ``lo``."""
    verdict = filter_verdict(c, ns, p, HOOK_OUTPUT, -1, oif, state, ch, origins)
    if verdict != "ACCEPT":
        return verdict
    if output_device(c, ns, p) < 0:
        return "DROP"
    return filter_verdict(c, ns, p, HOOK_INPUT, ns.lo, -1, state, ch, origins) if p.dst.flags & DST_LOCAL else verdict


cdef inline str input_verdict(Core *c, Ns *ns, Pkt *p, int iif, uint32_t state, Choices *ch, list origins):
    """What routing and then the filter table say of a packet that came in by ``iif``."""
    if p.protocol == ETHERTYPE_IPV6:
        route_input6(c, p, iif)
    elif route_input(c, p, pkt_l3(p) + IPV4_DST, pkt_l3(p) + IPV4_SRC, iif) < 0:
        return "DROP"
    if p.dst.flags & DST_LOCAL:
        return filter_verdict(c, ns, p, HOOK_INPUT, iif, -1, state, ch, origins)
    return "DROP" if p.dst.error else filter_verdict(c, ns, p, HOOK_FORWARD, iif, p.dst.oif, state, ch, origins)


cdef inline object one_outcome(Core *c, Ns *ns, Pkt *p, int hook, int iif, Choices *ch, object Outcome):
    """Walk nat, then route, then filter, for one fall of the random matches."""
    cdef Flow f
    cdef Verdict v
    cdef RuleTable *t = pkt_rules(ns, p, TABLE_NAT)
    cdef double probability = 1
    cdef uint32_t state = CT_BIT_NEW
    cdef int i, oif = output_device(c, ns, p) if hook == HOOK_OUTPUT else -1
    v.target = T_ACCEPT
    v.n_matched = 0
    ch.n = 0
    if hook == HOOK_OUTPUT and oif < 0:
        return Outcome(1.0, "DROP", None, 0, ())
    if t.n_chains:
        flow_of(c, ns, p, iif if hook == HOOK_PREROUTING else -1, oif, &f)
        f.ctstate = CT_BIT_NEW
        flow_words(&f)
        rules_walk(t, hook, &f, &p.mark, ch, &v, False)
    origins = list(verdict_origins(t, &v))
    dnat = apply_dnat(p, t, &v)
    if dnat is not None:
        state |= CT_BIT_DNAT
    if v.target == T_DROP:
        verdict = "DROP"
    elif hook == HOOK_OUTPUT:
        verdict = output_verdict(c, ns, p, oif, state, ch, origins)
    else:
        verdict = input_verdict(c, ns, p, iif, state, ch, origins)
    for i in range(ch.n):
        probability *= ch.chance[i]
    return Outcome(probability, verdict, dnat, p.mark, tuple(origins))


cdef inline list enumerate_outcomes(Core *c, Ns *ns, int family, int hook, bytes packet, int iif, object Outcome):
    cdef Choices ch
    cdef Pkt *p
    cdef uint8_t tracing = c.tracing
    choices_begin(&ch)
    ch.enumerate = True
    found = []
    c.tracing = False
    try:
        while True:
            p = probe_packet(c, iif, family, packet)
            try:
                found.append(one_outcome(c, ns, p, hook, iif, &ch, Outcome))
            finally:
                pkt_release_memory(&c.pool, p)
            if not next_fall(&ch):
                return found
    finally:
        c.tracing = tracing
