# Tunnel devices, the way out: what is common to all encapsulations. The headers themselves are the plug-ins' (ext/encap).
#
# drivers/net/vxlan/vxlan_core.c (vxlan_xmit_one()), net/ipv4/ip_tunnel.c (ip_tunnel_xmit()), net/ipv6/ip6_tunnel.c (ip6_tnl_xmit()),
# net/ipv4/ip_tunnel_core.c (iptunnel_xmit()).

from libc.stdint cimport uint8_t, uint32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset
from ext.devices.changes cimport CHANGE_ENCAP, log_change
from ext.devices.core cimport (Core, Ns, Dev, PmtuEntry, pkt_clone, pkt_consume, CONF6_HOP_LIMIT,
                               SYS_IP_DEFAULT_TTL, SYS_MIN_PMTU, SYS_MTU_EXPIRES)
from ext.devices.record cimport rec_is_on, rec_push, rec_refuse
from ext.encap.abi cimport dataplane_encap, dataplane_encap_bytes, dataplane_encap_push, DATAPLANE_ENCAP_CONSUMED, DATAPLANE_ENCAP_OK
from ext.encap.call cimport GUARD_LEN, encap_push
from ext.encap.ip cimport address_len, inner_facts, outer_hlen, outer_write
from ext.stages.fault_checksum cimport fault_unfinish
from ext.stages.flow_hash cimport flow_hash
from ext.stages.icmp cimport icmp_send, ip_id_hash, new_ip_id, ICMP_DEST_UNREACH, UNREACH_FRAG_NEEDED
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_TOO_BIG
from ext.stages.route cimport route_output, dst_mtu, pmtu_get
from ext.stages.route_ipv6 cimport pmtu_learn6, route_output6
from ext.stages.transmit cimport TRANSMIT_NESTED_TOO_DEEP, packet_scrub
from ext.stages.verdict cimport ST_DONE, ST_LOCAL_OUT, DROPS_TUNNEL
from ext.tables.fdb cimport FdbEntry, fdb_find
from ext.wire.bytes cimport ld16, rarely
from ext.wire.ether cimport ETH_HLEN, ETH_DST, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPV4_DF, IPV4_DST, IPV4_FRAG, IPV4_SRC
from ext.wire.ipv6 cimport IPV6_DST, IPV6_MIN_MTU
from ext.wire.packet cimport Pkt, Dst, pkt_l3, pkt_l3_len, pkt_push_room, pkt_tail_room, PF_GENERATED, TO_HOST

cdef enum:
    TUNNEL_NO_REMOTE = DROPS_TUNNEL
    TUNNEL_NO_ROUTE
    TUNNEL_LOOP
    TUNNEL_NO_HEADROOM
    TUNNEL_INNER_TRUNCATED
    TUNNEL_ECN_NOT_CAPABLE
    TUNNEL_UNKNOWN_ID
    TUNNEL_PLUGIN_MISBEHAVED
    TUNNEL_TOO_BIG
    TUNNEL_FAMILY_NOT_CARRIED
    TUNNEL_ROOM = 64  # for padding and trailers that the overhead does not count
    TUNNELS_MAX = 8  # in tunnels, on the way out (XMIT_RECURSION_LIMIT)
    IPV4_MIN_MTU = 68  # RFC 791 3.2


cdef inline const char *tunnel_reason(int r) noexcept nogil:
    if r == TUNNEL_NO_REMOTE:
        return b"tunnel/no_remote\tThe tunnel knows no remote end for this packet\tTUNNEL_TXINFO"
    if r == TUNNEL_NO_ROUTE:
        return b"tunnel/no_route\tNo route to the remote end of the tunnel\tIP_OUTNOROUTES"
    if r == TUNNEL_LOOP:
        return b"tunnel/loop\tThe way to the remote end leads through the tunnel itself\tRECURSION_LIMIT"
    if r == TUNNEL_NO_HEADROOM:
        return b"tunnel/no_headroom\tNo memory for the outer headers\tNOMEM"
    if r == TUNNEL_INNER_TRUNCATED:
        return b"tunnel/inner_truncated\tThe inner frame ends inside its headers\tPKT_TOO_SMALL"
    if r == TUNNEL_ECN_NOT_CAPABLE:
        return b"tunnel/ecn_not_capable\tCongestion marked outside, but the inner packet is not ECN-capable (RFC 6040 4.2)\tIP_TUNNEL_ECN"
    if r == TUNNEL_UNKNOWN_ID:
        return b"tunnel/unknown_id\tNo tunnel device has this identifier\tVXLAN_VNI_NOT_FOUND"
    if r == TUNNEL_PLUGIN_MISBEHAVED:
        return b"tunnel/plugin_misbehaved\tThe encapsulation did what its contract forbids\t"
    if r == TUNNEL_TOO_BIG:
        return b"tunnel/too_big\tWith the outer headers the packet is longer than the way to the remote end allows\tPKT_TOO_BIG"
    if r == TUNNEL_FAMILY_NOT_CARRIED:
        return b"tunnel/family_not_carried\tThe encapsulation does not run over the remote end's IP version\t"
    return NULL


# ---- the remote end

cdef inline bint fdb_remote(const Dev *d, const Pkt *p, dataplane_encap_push *info, int *origin) noexcept nogil:
    """The remote end for the frame's destination MAC, or the default one (FDB entry of the zero MAC)."""
    cdef FdbEntry *e = fdb_find(&d.fdb, p.buf + p.l2 + ETH_DST)
    if e == NULL:
        e = fdb_find(&d.fdb, b"\0\0\0\0\0\0")
    if e == NULL or e.dst_family == 0:
        return False
    memcpy(info.remote, e.dst, 16)
    info.family = e.dst_family
    origin[0] = e.origin
    return True


cdef inline bint next_hop_remote(const Dev *d, const Pkt *p, dataplane_encap_push *info, int *origin) noexcept nogil:
    """Without a fixed remote end it is the gateway of the route into the device, or the destination (NBMA, rt_nexthop())."""
    cdef int alen
    if p.protocol != ETHERTYPE_IPV4 and p.protocol != ETHERTYPE_IPV6:
        return False
    info.family = 4 if p.protocol == ETHERTYPE_IPV4 else 6
    alen = address_len(info.family)
    if p.dst.valid and p.dst.oif == d.id and p.dst.has_gw:
        memcpy(info.remote, p.dst.gw, alen)
        origin[0] = p.dst.origin
        return True
    if pkt_l3_len(p) < outer_hlen(info.family):
        return False
    memcpy(info.remote, p.buf + p.l3 + (IPV4_DST if info.family == 4 else IPV6_DST), alen)
    return True


cdef inline int tunnel_remote(const Dev *d, const Pkt *p, dataplane_encap_push *info, int *origin) noexcept nogil:
    """Family and address of the remote end: 0 or a drop."""
    cdef dataplane_encap_bytes b
    cdef int v
    if d.encap.select != NULL:
        b.head = b.data = p.buf + (p.l2 if d.encap.ethernet else p.l3)
        b.tail = b.limit = p.buf + p.end
        v = d.encap.select(d.encap_state, info, &b)
        if v != DATAPLANE_ENCAP_OK:
            return encap_drop(d.encap, v)
        return 0 if info.family == 4 or info.family == 6 else -TUNNEL_PLUGIN_MISBEHAVED
    if d.encap.ethernet and fdb_remote(d, p, info, origin):
        return 0
    if d.tunnel_remote_family:
        info.family = d.tunnel_remote_family
        memcpy(info.remote, d.tunnel_remote, 16)
        return 0
    if not d.encap.ethernet and next_hop_remote(d, p, info, origin):
        return 0
    return -TUNNEL_NO_REMOTE


cdef inline int tunnel_route(Core *c, Ns *ns, const Dev *d, dataplane_encap_push *info, Dst *dst) noexcept nogil:
    """The way to the remote end, and the own address towards it: 0 or a drop."""
    cdef int v
    if d.encap.overhead(d.encap_state, info.family) < outer_hlen(info.family):
        return -TUNNEL_FAMILY_NOT_CARRIED
    if d.tunnel_family == info.family:
        memcpy(info.local, d.tunnel_local, 16)
    if info.family == 6:
        v = route_output6(c, ns, info.remote, info.local, d.tunnel_lower, dst)
    else:
        v = route_output(c, ns, info.remote, info.local, False, dst)
    if v:
        return -TUNNEL_NO_ROUTE
    return -TUNNEL_LOOP if dst.oif == d.id else 0


# ---- MTU

cdef inline void pmtu_learn(Core *c, Ns *ns, const uint8_t *dst, uint32_t mtu) noexcept nogil:
    """Remember the path's MTU towards an address (__ip_rt_update_pmtu())."""
    cdef PmtuEntry *e = pmtu_get(ns, dst, 4)
    cdef uint32_t least = <uint32_t>ns.sys[SYS_MIN_PMTU]
    c.generation += 1
    if e != NULL:
        e.mtu = mtu if mtu > least else least
        e.expires = c.now + <int64_t>ns.sys[SYS_MTU_EXPIRES] * 1000000000


cdef inline bint pmtu_like_vxlan(const Dev *d) noexcept nogil:
    """VXLAN and Geneve look at the path's MTU only when a packet exceeds it, and say nothing (skb_tunnel_check_pmtu()); the other
    tunnels tell the sender (tnl_update_pmtu())."""
    return d.encap.ethernet and d.encap.port(d.encap_state) != 0


cdef inline uint32_t inner_mtu(Core *c, const Dev *d, const Pkt *p, int family, const Dst *dst) noexcept nogil:
    """The longest inner packet that the way to the remote end takes, but no less than its IP version promises."""
    cdef int64_t mtu = dst_mtu(c, dst), least = IPV6_MIN_MTU if p.protocol == ETHERTYPE_IPV6 else IPV4_MIN_MTU
    mtu -= d.encap.overhead(d.encap_state, family) + (ETH_HLEN if d.encap.ethernet else 0)
    return <uint32_t>(mtu if mtu > least else least)


cdef inline bint route_is_wider(Core *c, const Dev *d, const Pkt *p, uint32_t mtu) noexcept nogil:
    """Does the route that led the packet into the tunnel promise more than this?"""
    return p.dst.valid and p.dst.oif == d.id and mtu < dst_mtu(c, &p.dst)


cdef inline void route_learn(Core *c, Ns *ns, const Dev *d, Pkt *p, uint32_t mtu) noexcept nogil:
    """skb_dst_update_pmtu_no_confirm()."""
    if not route_is_wider(c, d, p, mtu):
        return
    if p.protocol == ETHERTYPE_IPV4:
        pmtu_learn(c, ns, pkt_l3(p) + IPV4_DST, mtu)
    elif p.protocol == ETHERTYPE_IPV6:
        pmtu_learn6(c, ns, pkt_l3(p) + IPV6_DST, mtu)


cdef inline int tunnel_too_big(Core *c, Ns *ns, const Dev *d, Pkt *p, uint32_t mtu, bint never_cut) noexcept nogil:
    """tnl_update_pmtu() for an outer packet that must not be fragmented; ``never_cut``: over IPv6 (ip6_tnl_xmit()). 0 or a drop."""
    route_learn(c, ns, d, p, mtu)
    if pkt_l3_len(p) <= mtu or (p.protocol != ETHERTYPE_IPV4 and p.protocol != ETHERTYPE_IPV6):
        return 0
    if p.protocol == ETHERTYPE_IPV6:
        icmpv6_send(c, p, ICMPV6_TOO_BIG, 0, mtu)
        return -TUNNEL_TOO_BIG
    if not never_cut and not ld16(pkt_l3(p) + IPV4_FRAG) & IPV4_DF:
        return 0
    icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_FRAG_NEEDED, mtu)
    return -TUNNEL_TOO_BIG


# ---- the headers

cdef inline int encap_drop(const dataplane_encap *e, int v) noexcept nogil:
    """A plug-in's refusal as a drop of ours: its first reason's number lies before its struct in the registry."""
    if v < 1 or v > e.n_drop_reasons:
        return -TUNNEL_PLUGIN_MISBEHAVED
    return -(encap_first_reason(e) + v - 1)


cdef extern from *:
    """
    #include "encap_abi.h"
    #define DP_ENCAPS_MAX 256
    static const dataplane_encap *dp_encaps[DP_ENCAPS_MAX];
    static int dp_encap_reason[DP_ENCAPS_MAX];
    static int dp_n_encaps = 0;
    static int encap_first_reason(const dataplane_encap *e)
    {
        for (int i = 0; i < dp_n_encaps; i++)
            if (dp_encaps[i] == e)
                return dp_encap_reason[i];
        return 0;
    }
    static void encap_register(const dataplane_encap *e, int first_reason)
    {
        dp_encaps[dp_n_encaps] = e;
        dp_encap_reason[dp_n_encaps] = first_reason;
        dp_n_encaps++;
    }
    """
    enum: DP_ENCAPS_MAX
    const dataplane_encap *dp_encaps[256]
    int dp_encap_reason[256]
    int dp_n_encaps
    int encap_first_reason(const dataplane_encap *e) noexcept nogil
    void encap_register(const dataplane_encap *e, int first_reason) noexcept nogil


cdef inline int tunnel_push(Dev *d, Pkt *p, dataplane_encap_push *info) noexcept nogil:
    """Let the plug-in write its headers before the inner packet: 0 and ``l3`` where the outer IP header's payload begins, CONSUMED, or a drop."""
    cdef dataplane_encap_bytes b
    cdef int v
    cdef uint32_t hlen = outer_hlen(info.family)
    p.l3 = p.l2 if d.encap.ethernet else p.l3
    if not pkt_push_room(p, d.encap.overhead(d.encap_state, info.family) + ETH_HLEN + TUNNEL_ROOM) or not pkt_tail_room(p, TUNNEL_ROOM):
        return -TUNNEL_NO_HEADROOM
    b.head = p.buf + hlen + ETH_HLEN
    b.data = p.buf + p.l3
    b.tail = p.buf + p.end
    b.limit = p.buf + p.cap - GUARD_LEN
    v = encap_push(d.encap, d.encap_state, info, &b)
    if v == DATAPLANE_ENCAP_CONSUMED:
        return v
    if v != DATAPLANE_ENCAP_OK:
        return encap_drop(d.encap, v)
    p.l3 = <uint32_t>(b.data - p.buf)
    p.end = <uint32_t>(b.tail - p.buf)
    return 0


cdef inline int stage_tunnel_out(Core *c, Pkt *p) noexcept nogil:
    """``p.dev``: the tunnel device; the frame begins at ``l2``, or the packet at ``l3`` where the device carries none."""
    cdef Dev *d = c.dev[p.dev]
    cdef Ns *ns = c.ns[d.ns]
    cdef dataplane_encap_push info
    cdef Dst dst
    cdef int v, origin = 0
    cdef uint32_t start = p.l2 if d.encap.ethernet else p.l3
    memset(&info, 0, sizeof(info))
    info.now = c.now
    info.id = -1
    inner_facts(&info, ETHERTYPE_TEB if d.encap.ethernet else p.protocol, p.buf + start, p.end - start)
    info.packet = p.id
    info.flow_hash = flow_hash(c, p)
    if d.unfinished_checksums:
        fault_unfinish(p)
    v = tunnel_remote(d, p, &info, &origin)
    if v == 0:
        v = tunnel_route(c, ns, d, &info, &dst)
    if v:
        return v
    p.tunnels += 1
    if p.tunnels > TUNNELS_MAX:
        return -TRANSMIT_NESTED_TOO_DEEP
    return tunnel_carry(c, ns, d, p, &info, &dst, origin)


cdef inline int tunnel_carry(Core *c, Ns *ns, Dev *d, Pkt *p, dataplane_encap_push *info, const Dst *dst, int origin) noexcept nogil:
    """Headers on, unless the packet is too long for the way."""
    cdef uint32_t mtu = inner_mtu(c, d, p, info.family, dst)
    cdef bint too_big = pkt_l3_len(p) > mtu
    cdef Pkt *inner = NULL  # as it was: only with its headers on is it known whether the outer packet may be cut
    cdef uint32_t carried = p.end - (p.l2 if d.encap.ethernet else p.l3)
    cdef int v
    if too_big or not d.encap.steady or d.encap.select != NULL or d.unfinished_checksums:
        rec_refuse(&c.rec)
    if pmtu_like_vxlan(d):
        if too_big:
            route_learn(c, ns, d, p, mtu)
    elif too_big or route_is_wider(c, d, p, mtu):
        rec_refuse(&c.rec)
        inner = pkt_clone(c, p)
    v = tunnel_push(d, p, info)
    if inner != NULL:
        if v == 0 and (info.dont_fragment or info.family == 6):
            v = tunnel_too_big(c, ns, d, inner, mtu, info.family == 6)
        pkt_consume(c, inner)
    if v == DATAPLANE_ENCAP_CONSUMED:
        pkt_consume(c, p)
        return ST_DONE
    if v:
        return v
    v = tunnel_send(c, ns, p, info, dst)
    note_push(c, ns, d, p, carried)
    log_change(c, p, CHANGE_ENCAP, info.remote, address_len(info.family), origin)
    return v


cdef inline void note_push(Core *c, Ns *ns, const Dev *d, Pkt *p, uint32_t carried) noexcept nogil:
    """Tell the flow cache of the headers before the ``carried`` bytes of the inner packet."""
    cdef uint64_t h = 0
    if not rec_is_on(&c.rec, p):
        return
    if p.protocol == ETHERTYPE_IPV4:
        h = ip_id_hash(c, ns, pkt_l3(p) + IPV4_SRC)
    rec_push(&c.rec, p, pkt_l3(p), p.end - p.l3 - carried, d.encap.ethernet, ns, d, h)


cdef inline int tunnel_send(Core *c, Ns *ns, Pkt *p, const dataplane_encap_push *info, const Dst *dst) noexcept nogil:
    """The outer IP header, and out like any packet of this namespace (iptunnel_xmit())."""
    cdef uint32_t mark = p.mark
    cdef uint8_t addrs[8]
    packet_scrub(c, p)
    p.mark = mark
    p.flags = PF_GENERATED
    p.vlan = 0
    p.protocol = ETHERTYPE_IPV4 if info.family == 4 else ETHERTYPE_IPV6
    p.pkt_type = TO_HOST
    p.l3 -= outer_hlen(info.family)
    p.l2 = p.l3
    if info.family == 4:
        memcpy(addrs, info.local, 4)
        memcpy(addrs + 4, info.remote, 4)
        outer_write(pkt_l3(p), info, pkt_l3_len(p), new_ip_id(c, ns, addrs), ns.sys[SYS_IP_DEFAULT_TTL])
    else:
        outer_write(pkt_l3(p), info, pkt_l3_len(p), 0, c.dev[dst.oif].conf[CONF6_HOP_LIMIT])
    p.dst = dst[0]
    return ST_LOCAL_OUT
