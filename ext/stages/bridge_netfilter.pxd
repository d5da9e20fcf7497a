# bridge-nf-call-iptables: the IP hooks for frames that are only switched. net/bridge/br_netfilter_hooks.c.
#
# A switched packet whose destination was translated to a host behind the same bridge stays switched: it gets that
# host's MAC, from the neighbour's cached header if there is one, else by way of the neighbour layer and the bridge
# device. Translated to anywhere else it gets the bridge's MAC and is routed.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memcmp, memset
from ext.devices.core cimport Core, Dev, pkt_ns, SYS_NF_CALL_IPTABLES, SYS_NF_CALL_IP6TABLES
from ext.devices.record cimport STEP_ETHER, STEP_NEIGH, STEP_TRIM, rec_bytes, rec_note, rec_refuse
from ext.stages.fragment cimport fragment_packet
from ext.stages.conntrack cimport conntrack_confirm
from ext.stages.netfilter cimport hook_prerouting, hook_forward, hook_postrouting
from ext.stages.fragment_ipv6 cimport fragment_packet6
from ext.stages.parse cimport validate_ipv4
from ext.stages.parse_ipv6 cimport validate_bridged_ipv6
from ext.stages.route cimport route_input, dst_mtu, ROUTE_NO_ROUTE
from ext.stages.route_ipv6 cimport route_input6
from ext.stages.verdict cimport DROPS_BRIDGE, ST_DONE, ST_BRIDGE_FORWARD, ST_NEIGHBOUR, ST_BRIDGE_PUSH
from ext.tables.neighbour cimport Neigh, neigh_get, NUD_CONNECTED
from ext.wire.bytes cimport ld16
from ext.wire.ether cimport ETH_HLEN, ETH_DST, ETH_SRC, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_DST, IPV4_SRC, IPV4_FRAG, IPV4_DF
from ext.wire.ipv6 cimport IPV6_DST
from ext.wire.packet cimport (Pkt, Dst, IpOptions, pkt_l2, pkt_l3, pkt_l3_len, TO_HOST, TO_OTHERHOST, BRNF_ACTIVE, BRNF_IN_PREROUTING,
                              BRNF_PKT_OTHERHOST, BRNF_BRIDGED_DNAT, DST_FAKE, DST_LOCAL, PF_IGNORE_DF, PF_GENERATED)

cdef enum:
    BRNF_OVER_MTU_WITH_DF = DROPS_BRIDGE + 16  # behind the bridge's own reasons
    BRNF_TAKEN = 1  # the packet has left in parts


cdef inline const char *bridge_netfilter_reason(int r) noexcept nogil:
    if r == BRNF_OVER_MTU_WITH_DF:
        return b"bridge/over_mtu_with_df\tA switched packet that may not be fragmented is longer than the bridge's MTU\tPKT_TOO_BIG"
    return NULL


cdef inline bint brnf_applies(Core *c, const Pkt *p) noexcept nogil:
    """A tagged frame is none of its business: bridge-nf-filter-vlan-tagged is off."""
    return (p.protocol == ETHERTYPE_IPV4 or p.protocol == ETHERTYPE_IPV6) and p.vlan == 0


cdef inline void otherhost_hide(Pkt *p) noexcept nogil:
    if p.pkt_type == TO_OTHERHOST:
        p.pkt_type = TO_HOST
        p.brnf |= BRNF_PKT_OTHERHOST


cdef inline void otherhost_restore(Pkt *p) noexcept nogil:
    if p.brnf & BRNF_PKT_OTHERHOST:
        p.pkt_type = TO_OTHERHOST
        p.brnf &= ~BRNF_PKT_OTHERHOST


cdef inline int brnf_validate(Core *c, Pkt *p) noexcept nogil:
    """br_validate_ipv4(), br_validate_ipv6(): also forgets what an earlier stage noted of options and fragments."""
    cdef int v = validate_bridged_ipv6(p) if p.protocol == ETHERTYPE_IPV6 else validate_ipv4(p)
    if v == 0:
        rec_note(&c.rec, p, STEP_TRIM, NULL, 0, 0)
        memset(&p.opt, 0, sizeof(IpOptions))
        p.flags &= PF_GENERATED | PF_IGNORE_DF
        p.frag_max_size = 0
    return v


cdef inline int brnf_prerouting(Core *c, Pkt *p) noexcept nogil:
    """br_nf_pre_routing(). ``p.dev``: the port; a stage, a drop, or ST_DONE."""
    cdef int port = p.dev
    cdef int br = c.dev[port].master
    cdef int v
    p.brnf = 0
    p.phys_out = -1
    if not brnf_applies(c, p):
        return ST_BRIDGE_FORWARD
    if not pkt_ns(c, p).sys[SYS_NF_CALL_IP6TABLES if p.protocol == ETHERTYPE_IPV6 else SYS_NF_CALL_IPTABLES]:
        return ST_BRIDGE_FORWARD
    v = brnf_validate(c, p)
    if v:
        return v
    p.brnf = BRNF_ACTIVE | BRNF_IN_PREROUTING
    otherhost_hide(p)
    p.phys_in = port
    p.dev = br
    memcpy(p.brnf_daddr, daddr_of(p), daddr_len(p))
    v = hook_prerouting(c, p, br)
    if v:
        return ST_DONE if v > 0 else v
    return brnf_prerouting_finish(c, p)


cdef inline const uint8_t *daddr_of(const Pkt *p) noexcept nogil:
    return p.buf + p.l3 + (IPV6_DST if p.protocol == ETHERTYPE_IPV6 else IPV4_DST)


cdef inline int daddr_len(const Pkt *p) noexcept nogil:
    return 16 if p.protocol == ETHERTYPE_IPV6 else 4


cdef inline int brnf_route(Core *c, Pkt *p, int br) noexcept nogil:
    """A route for the translated destination: 0 or a drop."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef int v
    if p.protocol != ETHERTYPE_IPV6:
        return route_input(c, p, ip + IPV4_DST, ip + IPV4_SRC, br)
    v = route_input6(c, p, br)
    if v == 0 and p.dst.error:
        return -ROUTE_NO_ROUTE
    return v


cdef inline int brnf_prerouting_finish(Core *c, Pkt *p) noexcept nogil:
    """br_nf_pre_routing_finish(). ``p.dev``: the bridge."""
    cdef Dev *br = c.dev[p.dev]
    cdef int v
    p.brnf_frag_max = p.frag_max_size
    otherhost_restore(p)
    p.brnf &= ~BRNF_IN_PREROUTING
    if memcmp(p.brnf_daddr, daddr_of(p), daddr_len(p)) != 0:
        v = brnf_route(c, p, br.id)
        if v:
            return v
        if not p.dst.error and p.dst.oif == br.id and (not p.dst.flags & DST_LOCAL or p.protocol == ETHERTYPE_IPV6):
            return brnf_bridged_dnat(c, p, br)
        memcpy(pkt_l2(p) + ETH_DST, br.mac, 6)
        rec_bytes(&c.rec, p, STEP_ETHER, pkt_l2(p), ETH_HLEN, 0)
        p.pkt_type = TO_HOST
    else:
        memset(&p.dst, 0, sizeof(Dst))
        p.dst.valid = True
        p.dst.flags = DST_FAKE
        p.dst.oif = br.id
    p.dev = p.phys_in
    return ST_BRIDGE_FORWARD


cdef inline int brnf_bridged_dnat(Core *c, Pkt *p, Dev *br) noexcept nogil:
    """br_nf_pre_routing_finish_bridge(): on to a host behind the same bridge."""
    cdef uint8_t *eth = pkt_l2(p)
    cdef Neigh *n = neigh_get(&br.neigh, &p.dst.gw[0] if p.dst.has_gw else daddr_of(p), daddr_len(p))
    if n != NULL and n.state & NUD_CONNECTED and n.header_cached:
        memcpy(eth + ETH_DST, n.mac, 6)
        rec_note(&c.rec, p, STEP_NEIGH, n, NUD_CONNECTED, 0)
        rec_bytes(&c.rec, p, STEP_ETHER, eth, ETH_HLEN, 0)
        p.dev = p.phys_in
        return ST_BRIDGE_FORWARD
    rec_refuse(&c.rec)
    memcpy(p.brnf_mac, eth + ETH_SRC, 8)
    p.brnf |= BRNF_BRIDGED_DNAT
    return ST_NEIGHBOUR


cdef inline int brnf_slow_return(Core *c, Pkt *p) noexcept nogil:
    """br_nf_pre_routing_finish_bridge_slow(): back from the neighbour layer with the right destination MAC."""
    p.brnf &= ~BRNF_BRIDGED_DNAT
    memcpy(pkt_l2(p) + ETH_SRC, p.brnf_mac, 8)
    p.l3 = p.l2 + ETH_HLEN
    p.dev = p.phys_in
    p.phys_out = -1
    return ST_BRIDGE_FORWARD


cdef inline int brnf_forward(Core *c, Pkt *p, int came_by) noexcept nogil:
    """br_nf_forward_ip(): 0 or a drop. ``p.dev``: the outgoing port."""
    cdef int br = c.dev[p.dev].master
    cdef int v
    if not p.brnf & BRNF_ACTIVE or not brnf_applies(c, p):
        return 0
    otherhost_hide(p)
    v = brnf_validate(c, p)
    if v:
        return v
    p.frag_max_size = p.brnf_frag_max
    p.phys_out = p.dev
    v = hook_forward(c, p, c.dev[came_by].master, br)
    if v:
        return v
    p.brnf_frag_max = p.frag_max_size
    otherhost_restore(p)
    return 0


cdef inline int brnf_postrouting(Core *c, Pkt *p) noexcept nogil:
    """br_nf_post_routing() and br_nf_dev_queue_xmit(): 0, a drop, or BRNF_TAKEN."""
    cdef int v
    if not p.brnf & BRNF_ACTIVE or p.phys_out < 0 or not brnf_applies(c, p):
        return 0
    otherhost_hide(p)
    v = hook_postrouting(c, p, c.dev[p.dev].master)
    if v:
        return v
    otherhost_restore(p)
    return brnf_refragment(c, p)


cdef inline int brnf_refragment(Core *c, Pkt *p) noexcept nogil:
    """A packet put together for the hooks leaves in parts again, no larger than they came."""
    cdef uint32_t mtu = c.dev[p.dev].mtu, limit
    cdef int v
    if p.brnf_frag_max and p.brnf_frag_max < mtu:
        mtu = p.brnf_frag_max
    if pkt_l3_len(p) <= mtu:
        p.brnf = 0
        return 0
    v = brnf_validate(c, p)
    if v:
        return v
    p.frag_max_size = p.brnf_frag_max
    if p.protocol == ETHERTYPE_IPV6:
        return brnf_refragment6(c, p)
    limit = dst_mtu(c, &p.dst) if p.dst.valid else c.dev[c.dev[p.dev].master].mtu
    if (ld16(pkt_l3(p) + IPV4_FRAG) & IPV4_DF and not p.flags & PF_IGNORE_DF) or p.frag_max_size > limit:
        return -BRNF_OVER_MTU_WITH_DF
    p.brnf = 0
    if p.frag_max_size and p.frag_max_size < limit:
        limit = p.frag_max_size
    fragment_packet(c, p, limit, ETH_HLEN, ST_BRIDGE_PUSH)
    return BRNF_TAKEN


cdef inline int brnf_refragment6(Core *c, Pkt *p) noexcept nogil:
    """As a router's own fragments, by the route it has or, without one, the bridge's MTU."""
    cdef int v
    if not p.dst.valid:
        p.dst.oif = c.dev[p.dev].master
        p.dst.mtu = 0
    p.brnf = 0
    v = fragment_packet6(c, p, ETH_HLEN, ST_BRIDGE_PUSH)
    return v if v < 0 else BRNF_TAKEN


cdef inline int brnf_local_in(Core *c, Pkt *p) noexcept nogil:
    """br_nf_local_in(): a group frame that goes up must not share an unconfirmed connection with its copies. 0 or a drop."""
    if p.ct == NULL or p.pkt_type == TO_HOST:
        return 0
    return conntrack_confirm(c, pkt_ns(c, p), p)
