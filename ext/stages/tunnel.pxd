# Tunnel devices: what is common to all encapsulations. The headers themselves are the plug-ins' (ext/encap).
#
# drivers/net/vxlan/vxlan_core.c (vxlan_xmit_one(), vxlan_rcv()), net/ipv4/ip_tunnel_core.c, include/net/inet_ecn.h.

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport calloc, free
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Ns, Dev, PmtuEntry, EventRecord, log_event, event_packet, DEV_TUNNEL, EV_RECEIVE, DETAIL_LEN,
                               SYS_MIN_PMTU, SYS_MTU_EXPIRES)
from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_push, dataplane_encap_pop, DATAPLANE_ENCAP_OK,
                            DATAPLANE_ENCAP_NOT_MINE)
from ext.stages.icmp cimport write_ipv4
from ext.stages.receive cimport ether_classify
from ext.stages.route cimport route_output, dst_mtu, pmtu_find
from ext.stages.transmit cimport TRANSMIT_NESTED_TOO_DEEP, packet_scrub
from ext.stages.verdict cimport ST_DONE, ST_LOCAL_OUT, DROPS_TUNNEL
from ext.tables.fdb cimport FdbEntry, fdb_find
from ext.tables.htab cimport htab_insert
from ext.wire.bytes cimport ld16, st16
from ext.wire.checksum cimport csum_replace
from ext.wire.ether cimport ETH_HLEN, ETH_DST, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from ext.wire.hash cimport hash_bytes, mix64
from ext.wire.ipv4 cimport (IPV4_HLEN, IPV4_TOS, IPV4_FRAG, IPV4_DF, IPV4_TTL, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_CSUM, IPPROTO_TCP, IPPROTO_UDP,
                            IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_DCCP, IPPROTO_IPIP, IPPROTO_ESP, IPPROTO_AH, ECN_MASK, ECN_NOT_ECT, ECN_CE, ECN_ECT0,
                            ECN_ECT1, ipv4_hlen, ipv4_is_fragment)
from ext.wire.packet cimport Pkt, Dst, pkt_l3, pkt_l3_len, pkt_push_room, PF_GENERATED, TO_HOST

cdef enum:
    TUNNEL_NO_REMOTE = DROPS_TUNNEL
    TUNNEL_NO_ROUTE
    TUNNEL_LOOP
    TUNNEL_NO_HEADROOM
    TUNNEL_INNER_TRUNCATED
    TUNNEL_ECN_NOT_CAPABLE
    TUNNEL_UNKNOWN_ID
    TUNNEL_PLUGIN_MISBEHAVED
    ETHERTYPE_TEB = 0x6558  # transparent Ethernet bridging
    TUNNEL_HEADROOM = 128
    TUNNELS_MAX = 8  # in tunnels, on the way out (XMIT_RECURSION_LIMIT)


cdef inline const char *tunnel_reason(int r) noexcept nogil:
    if r == TUNNEL_NO_REMOTE:
        return b"tunnel/no_remote\tThe tunnel knows no remote end for this destination MAC\tTUNNEL_TXINFO"
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
        return b"tunnel/plugin_misbehaved\tThe encapsulation returned what its contract forbids\t"
    return NULL


cdef inline uint8_t inner_tos(const Pkt *p) noexcept nogil:
    """ip_tunnel_get_dsfield()."""
    cdef const uint8_t *ip = p.buf + p.l3
    if p.protocol == ETHERTYPE_IPV4 and pkt_l3_len(p) >= IPV4_HLEN:
        return ip[IPV4_TOS]
    if p.protocol == ETHERTYPE_IPV6 and pkt_l3_len(p) >= 40:
        return <uint8_t>(ld16(ip) >> 4)
    return 0


cdef inline int ports_offset(int proto) noexcept nogil:
    """Where four bytes lie that tell flows apart: ports, or the SPI of ESP and AH (proto_ports_offset()); -1: nowhere."""
    if (proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE or proto == IPPROTO_DCCP
            or proto == IPPROTO_ESP):
        return 0
    return 4 if proto == IPPROTO_AH else -1


cdef inline uint32_t flow_hash(Core *c, Pkt *p) noexcept nogil:
    """skb_get_hash(): computed once for a packet, however often its addresses are translated afterwards."""
    if p.hash == 0:
        p.hash = inner_flow_hash(c, p)
        if p.hash == 0:
            p.hash = 1
    return p.hash


cdef inline uint32_t inner_flow_hash(Core *c, Pkt *p) noexcept nogil:
    """The same in both directions of a flow; fragments go by addresses alone, ICMP ids do not count."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint64_t h = mix64(c.seed), a, b
    cdef uint32_t hlen, left
    cdef int at
    if p.protocol != ETHERTYPE_IPV4 or pkt_l3_len(p) < IPV4_HLEN:
        return <uint32_t>mix64(h ^ p.protocol)
    left = pkt_l3_len(p)
    hlen = ipv4_hlen(ip)
    while ip[IPV4_PROTO] == IPPROTO_IPIP and not ipv4_is_fragment(ip) and left >= hlen + IPV4_HLEN and ipv4_hlen(ip + hlen) >= IPV4_HLEN:
        ip += hlen  # the flow is that of the packet inside
        left -= hlen
        hlen = ipv4_hlen(ip)
    a = hash_bytes(c.seed, ip + IPV4_SRC, 4)
    b = hash_bytes(c.seed, ip + IPV4_DST, 4)
    at = ports_offset(ip[IPV4_PROTO])
    if at >= 0 and not ipv4_is_fragment(ip) and left >= hlen + at + 4:
        a += mix64(ld16(ip + hlen + at))
        b += mix64(ld16(ip + hlen + at + 2))
        p.hash_l4 = True
    return <uint32_t>mix64(h ^ (mix64(a) + mix64(b)) ^ ip[IPV4_PROTO])


cdef inline bint tunnel_remote(Core *c, const Dev *d, const Pkt *p, uint8_t *remote, int *origin) noexcept nogil:
    """The remote end for the frame's destination MAC, or the default one (FDB entry of the zero MAC)."""
    cdef FdbEntry *e = fdb_find(&d.fdb, p.buf + p.l2 + ETH_DST)
    if e == NULL:
        e = fdb_find(&d.fdb, b"\0\0\0\0\0\0")
    if e == NULL or e.dst_family == 0:
        return False
    memcpy(remote, e.dst, 16)
    origin[0] = e.origin
    return True


cdef inline void pmtu_learn(Core *c, Ns *ns, const uint8_t *dst, uint32_t mtu) noexcept nogil:
    """Remember the path's MTU towards an address (__ip_rt_update_pmtu())."""
    cdef PmtuEntry *e = pmtu_find(ns, dst, 4)
    if mtu < <uint32_t>ns.sys[SYS_MIN_PMTU]:
        mtu = <uint32_t>ns.sys[SYS_MIN_PMTU]
    if e == NULL:
        e = <PmtuEntry *>calloc(1, sizeof(PmtuEntry))
        if e == NULL:
            return
        memcpy(e.dst, dst, 4)
        e.alen = 4
        if not htab_insert(&ns.pmtu, &e.node, hash_bytes(4, dst, 4)):
            free(e)
            return
    e.mtu = mtu
    e.expires = c.now + <int64_t>ns.sys[SYS_MTU_EXPIRES] * 1000000000


cdef inline int tunnel_push(Core *c, Dev *d, Pkt *p, dataplane_encap_push *info) noexcept nogil:
    """Let the plug-in write its headers before the inner packet; ``l3`` ends up where the outer IP header's payload begins."""
    cdef dataplane_encap_bytes b
    cdef int v
    p.l3 = p.l2 if d.encap.ethernet else p.l3
    if not pkt_push_room(p, TUNNEL_HEADROOM):
        return -TUNNEL_NO_HEADROOM
    b.head = p.buf + IPV4_HLEN + ETH_HLEN
    b.data = p.buf + p.l3
    b.tail = p.buf + p.end
    b.limit = p.buf + p.cap
    v = d.encap.push(d.encap_state, info, &b)
    if v != DATAPLANE_ENCAP_OK:
        return encap_drop(d.encap, v)
    if b.data < b.head or b.data > b.tail or b.tail > b.limit:
        return -TUNNEL_PLUGIN_MISBEHAVED
    p.l3 = <uint32_t>(b.data - p.buf)
    p.end = <uint32_t>(b.tail - p.buf)
    return 0


cdef inline int encap_drop(const dataplane_encap *e, int v) noexcept nogil:
    """A plug-in's refusal as a drop of ours: its first reason's number lies before its struct in the registry."""
    if v < 1 or v > e.n_drop_reasons:
        return -TUNNEL_PLUGIN_MISBEHAVED
    return -(encap_first_reason(e) + v - 1)


cdef extern from *:
    """
    #include "encap_abi.h"
    #define DP_ENCAPS_MAX 64
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
    const dataplane_encap *dp_encaps[64]
    int dp_encap_reason[64]
    int dp_n_encaps
    enum: DP_ENCAPS_MAX
    int encap_first_reason(const dataplane_encap *e) noexcept nogil
    void encap_register(const dataplane_encap *e, int first_reason) noexcept nogil


cdef inline void trace_tunnel(Core *c, Pkt *p, const char *what, const uint8_t *addr, int origin) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"tunnel", what, origin)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"%s, remote %d.%d.%d.%d", c.dev[p.dev].name, addr[0], addr[1], addr[2], addr[3])


cdef inline int stage_tunnel_out(Core *c, Pkt *p) noexcept nogil:
    """``p.dev``: the tunnel device, the frame begins at ``l2``."""
    cdef Dev *d = c.dev[p.dev]
    cdef Ns *ns = c.ns[d.ns]
    cdef dataplane_encap_push info
    cdef uint8_t local[16]
    cdef Dst dst
    cdef int v, origin = 0
    cdef uint32_t mtu, overhead = d.encap.overhead(d.encap_state, 4) + (ETH_HLEN if d.encap.ethernet else 0)
    memset(&info, 0, sizeof(info))
    if not tunnel_remote(c, d, p, info.remote, &origin):
        return -TUNNEL_NO_REMOTE
    memcpy(local, d.tunnel_local, 16)
    if route_output(c, ns, info.remote, local, False, &dst):
        return -TUNNEL_NO_ROUTE
    if dst.oif == d.id:
        return -TUNNEL_LOOP
    p.tunnels += 1
    if p.tunnels > TUNNELS_MAX:
        return -TRANSMIT_NESTED_TOO_DEEP
    memcpy(info.local, local, 16)
    info.now = c.now
    info.id = -1
    info.family = 4
    info.inner_tos = inner_tos(p)
    info.inner_protocol = ETHERTYPE_TEB if d.encap.ethernet else p.protocol
    info.flow_hash = flow_hash(c, p)
    mtu = dst_mtu(c, &dst)
    if p.dst.valid and p.dst.oif == d.id and p.protocol == ETHERTYPE_IPV4 and mtu < dst_mtu(c, &p.dst) + overhead:
        pmtu_learn(c, ns, pkt_l3(p) + IPV4_DST, mtu - overhead)
    v = tunnel_push(c, d, p, &info)
    if v:
        return v
    return tunnel_send(c, ns, p, &info, &dst, origin)


cdef inline int tunnel_send(Core *c, Ns *ns, Pkt *p, const dataplane_encap_push *info, const Dst *dst, int origin) noexcept nogil:
    """The outer IP header, and out like any packet of this namespace (iptunnel_xmit())."""
    cdef uint32_t mark = p.mark
    cdef uint8_t *ip
    packet_scrub(c, p)
    p.mark = mark
    p.flags = PF_GENERATED
    p.vlan = 0
    p.protocol = ETHERTYPE_IPV4
    p.pkt_type = TO_HOST
    p.l3 -= IPV4_HLEN
    p.l2 = p.l3
    ip = pkt_l3(p)
    write_ipv4(c, ns, ip, pkt_l3_len(p), IPV4_HLEN, info.tos, info.ip_protocol, info.local, info.remote)
    if info.ttl:
        ip[8] = info.ttl
    if info.dont_fragment:
        st16(ip + IPV4_FRAG, IPV4_DF)
    trace_tunnel(c, p, b"encap", info.remote, origin)
    p.dst = dst[0]
    return ST_LOCAL_OUT


# ---- receiving

cdef inline bint encap_takes(const dataplane_encap *e, int proto) noexcept nogil:
    """Is a received packet of this IP protocol for this encapsulation?"""
    cdef int i
    for i in range(4):
        if e.ip_protocols[i] == 0:
            return False
        if e.ip_protocols[i] == proto:
            return True
    return False


cdef inline Dev *tunnel_on_port(Core *c, Ns *ns, int proto, uint32_t port, int *at) noexcept nogil:
    """The next tunnel device from place ``at`` on that listens for this IP protocol and UDP port (0: not in UDP)."""
    cdef Dev *d
    while at[0] < ns.n_devs:
        d = c.dev[ns.devs[at[0]]]
        at[0] += 1
        if d.kind == DEV_TUNNEL and d.up and encap_takes(d.encap, proto) and d.encap.port(d.encap_state) == port:
            return d
    return NULL


cdef inline int tunnel_pop(Core *c, Dev *d, Pkt *p, dataplane_encap_pop *info) noexcept nogil:
    """0 and ``l2``/``l3`` at the inner packet, a drop, or 1: not this device's."""
    cdef dataplane_encap_bytes b
    cdef uint8_t *ip = pkt_l3(p)
    cdef int v
    b.head = p.buf
    b.data = ip + ipv4_hlen(ip)
    b.tail = p.buf + p.end
    b.limit = p.buf + p.cap
    memset(info, 0, sizeof(dataplane_encap_pop))
    info.now = c.now
    info.id = -1
    info.family = 4
    info.outer_tos = ip[IPV4_TOS]
    info.outer_ttl = ip[IPV4_TTL]
    info.outer_protocol = ip[IPV4_PROTO]
    memcpy(info.local, ip + IPV4_DST, 4)
    memcpy(info.remote, ip + IPV4_SRC, 4)
    memcpy(info.device_mac, d.mac, 6)
    v = d.encap.pop(d.encap_state, info, &b)
    if v == DATAPLANE_ENCAP_NOT_MINE:
        return 1
    if v != DATAPLANE_ENCAP_OK:
        return encap_drop(d.encap, v)
    if b.data < b.head or b.data > b.tail or b.tail > p.buf + p.end:
        return -TUNNEL_PLUGIN_MISBEHAVED
    p.l2 = p.l3 = <uint32_t>(b.data - p.buf)
    p.end = <uint32_t>(b.tail - p.buf)
    return 0


cdef inline int ecn_decapsulate(Pkt *p, int outer) noexcept nogil:
    """RFC 6040 4.2 for an inner IPv4 packet: 0 or a drop (INET_ECN_decapsulate())."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t old[2]
    cdef uint8_t new[2]
    cdef int inner
    if p.protocol != ETHERTYPE_IPV4:
        return 0
    inner = ip[IPV4_TOS] & ECN_MASK
    outer &= ECN_MASK
    if inner == ECN_NOT_ECT:
        return -TUNNEL_ECN_NOT_CAPABLE if outer == ECN_CE else 0
    if outer != ECN_CE and not (outer == ECN_ECT1 and inner == ECN_ECT0):
        return 0
    memcpy(old, ip, 2)
    memcpy(new, ip, 2)
    new[1] = <uint8_t>(ip[IPV4_TOS] | ECN_CE if outer == ECN_CE else ip[IPV4_TOS] ^ ECN_MASK)
    csum_replace(ip + IPV4_CSUM, old, new, 2)
    ip[IPV4_TOS] = new[1]
    return 0


cdef inline int tunnel_deliver(Core *c, Dev *d, Pkt *p, const dataplane_encap_pop *info) noexcept nogil:
    """The inner packet is received on the tunnel device."""
    cdef uint32_t mark = p.mark
    cdef int v
    cdef uint32_t need = 0
    if d.encap.ethernet:
        if p.end - p.l2 < ETH_HLEN:
            return -TUNNEL_INNER_TRUNCATED
        ether_classify(p, d)
    else:
        p.protocol = info.inner_protocol
        p.pkt_type = TO_HOST
    if p.protocol == ETHERTYPE_IPV4:
        need = IPV4_HLEN
    elif p.protocol == ETHERTYPE_IPV6:
        need = 40
    if pkt_l3_len(p) < need:
        return -TUNNEL_INNER_TRUNCATED
    v = ecn_decapsulate(p, info.outer_tos)
    if v:
        return v
    trace_tunnel(c, p, b"decap", info.remote, 0)
    packet_scrub(c, p)
    p.mark = mark
    if not p.hash_l4:
        p.hash = 0
    p.vlan = 0
    p.dev = d.id
    event_packet(c, c.now, EV_RECEIVE, d.id, p)
    return ST_DONE


cdef inline int tunnel_receive(Core *c, Ns *ns, Pkt *p, int proto, uint32_t port) noexcept nogil:
    """Find the device that the packet is for: a stage, a drop, or 1: no tunnel listens here."""
    cdef int at = 0, v, found = 1
    cdef Dev *d
    cdef dataplane_encap_pop info
    while True:
        d = tunnel_on_port(c, ns, proto, port, &at)
        if d == NULL:
            return -TUNNEL_UNKNOWN_ID if found == 0 else 1
        found = 0
        v = tunnel_pop(c, d, p, &info)
        if v < 0:
            return v
        if v == 0:
            return tunnel_deliver(c, d, p, &info)
