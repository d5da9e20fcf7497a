# ICMP messages that a host makes: net/ipv4/icmp.c (__icmp_send(), icmp_reply()).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport (Core, Ns, Peer, chance_draw, chance_seed, pkt_ns, SYS_IP_DEFAULT_TTL, SYS_ICMP_RATELIMIT, SYS_ICMP_RATEMASK,
                               SYS_ICMP_ERRORS_USE_INBOUND_IFADDR, SYS_ICMP_MSGS_PER_SEC, SYS_ICMP_MSGS_BURST, DEV_LO)
from ext.devices.record cimport rec_refuse
from ext.stages.options cimport options_echo, options_build, specific_destination, OPTIONS_MAX
from ext.stages.route cimport route_output, dst_mtu, select_address, peer_get, peer_take_token
from ext.stages.verdict cimport ST_LOCAL_OUT
from ext.tables.ct_entry cimport Ct, ct_hold, CTI_RELATED, CTI_REPLY
from ext.tables.fib cimport SCOPE_LINK
from ext.wire.bytes cimport ld16, ld32, ld64, st16, st32
from ext.wire.checksum cimport csum_bytes
from ext.wire.ether cimport ETHERTYPE_IPV4
from ext.wire.hash cimport hash_begin, hash_end, hash_step
from ext.wire.ipv4 cimport (IPV4_HLEN, IPV4_TOS, IPV4_LEN, IPV4_ID, IPV4_FRAG, IPV4_TTL, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_OFFSET,
                            IPPROTO_ICMP, ipv4_hlen)
from ext.wire.packet cimport (Pkt, IpOptions, Dst, pkt_new, pkt_l3, pkt_l3_len, TO_HOST, DST_LOCAL, DST_BROADCAST, DST_MULTICAST, DST_INPUT,
                              PF_GENERATED)

cdef enum:
    ICMP_ECHO_REPLY = 0
    ICMP_DEST_UNREACH = 3
    ICMP_SOURCE_QUENCH = 4
    ICMP_REDIRECT = 5
    ICMP_ECHO = 8
    ICMP_TIME_EXCEEDED = 11
    ICMP_PARAMETER_PROBLEM = 12
    ICMP_TIMESTAMP = 13
    ICMP_TIMESTAMP_REPLY = 14
    ICMP_TYPES = 18  # the highest known one
    ICMP_HLEN = 8
    UNREACH_NET = 0
    UNREACH_HOST = 1
    UNREACH_PROTOCOL = 2
    UNREACH_PORT = 3
    UNREACH_FRAG_NEEDED = 4
    UNREACH_PROHIBITED = 13
    EXCEEDED_TTL = 0
    EXCEEDED_REASSEMBLY = 1
    REDIRECT_HOST = 1
    ICMP_ERROR_MAX = 576  # RFC 1812 4.3.2.3
    TOS_INTERNETCONTROL = 0xc0
    IPTOS_MASK = 0x1e  # RT_TOS()
    PURPOSE_IP_ID = 1


cdef inline bint icmp_is_error(int type) noexcept nogil:
    return (type == ICMP_DEST_UNREACH or type == ICMP_SOURCE_QUENCH or type == ICMP_REDIRECT or type == ICMP_TIME_EXCEEDED
            or type == ICMP_PARAMETER_PROBLEM)


cdef inline bint icmp_never_answered(int type) noexcept nogil:
    """Errors, and the types without a handler, which Linux treats as errors (icmp_pointers[])."""
    return icmp_is_error(type) or type > ICMP_TYPES or type in (1, 2, 6, 7, 9, 10)


cdef inline uint64_t ip_id_hash(Core *c, Ns *ns, const uint8_t *addrs) noexcept nogil:
    """What the identifications of packets between these addresses are drawn from (``addrs``: source and destination)."""
    return hash_end(hash_step(hash_begin(chance_seed(c, ns, PURPOSE_IP_ID), 8), ld64(addrs)))


cdef inline uint16_t new_ip_id(Core *c, Ns *ns, const uint8_t *addrs) noexcept nogil:
    """Linux draws from a hashed counter (ip_idents_reserve())."""
    return <uint16_t>chance_draw(ns, ip_id_hash(c, ns, addrs))


cdef inline bint icmp_may_answer(const Pkt *p) noexcept nogil:
    """RFC 1122 3.2.2: nothing about group frames, later fragments or other errors."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint32_t hlen
    if not p.dst.valid or pkt_l3_len(p) < IPV4_HLEN:
        return False
    if p.pkt_type != TO_HOST or p.dst.flags & (DST_BROADCAST | DST_MULTICAST):
        return False
    if ld16(ip + IPV4_FRAG) & IPV4_OFFSET:
        return False
    if ip[IPV4_PROTO] != IPPROTO_ICMP:
        return True
    hlen = ipv4_hlen(ip)
    if pkt_l3_len(p) <= hlen:
        return False
    return not icmp_never_answered(ip[hlen])


cdef inline bint icmp_allowed(Core *c, Ns *ns, int type, int code, const Dst *out, const uint8_t *daddr) noexcept nogil:
    """icmp_global_allow() and icmpv4_xrlim_allow(): limits per namespace and per remote address."""
    cdef int64_t cost
    cdef Peer *peer
    if type > ICMP_TYPES or not (ns.sys[SYS_ICMP_RATEMASK] >> type) & 1:
        return True
    if type == ICMP_DEST_UNREACH and code == UNREACH_FRAG_NEEDED:
        return True
    if not icmp_global_token(c, ns):
        return False
    cost = <int64_t>ns.sys[SYS_ICMP_RATELIMIT] * 1000000
    if c.dev[out.oif].kind == DEV_LO:
        return True
    peer = peer_get(c, ns, daddr, 4)
    return peer_take_token(c, peer, cost, 6 * cost)


cdef inline bint icmp_global_token(Core *c, Ns *ns) noexcept nogil:
    cdef int64_t burst = <int64_t>ns.sys[SYS_ICMP_MSGS_BURST] * 1000000000
    cdef int64_t per_sec = ns.sys[SYS_ICMP_MSGS_PER_SEC]
    ns.icmp_tokens += (c.now - ns.icmp_last) * per_sec if c.now - ns.icmp_last < 1000000000 else burst
    ns.icmp_last = c.now
    if ns.icmp_tokens > burst:
        ns.icmp_tokens = burst
    if ns.icmp_tokens < 1000000000:
        return False
    ns.icmp_tokens -= 1000000000
    return True


cdef inline Pkt *local_packet(Core *c, Ns *ns, uint32_t room) noexcept nogil:
    """An empty packet of this namespace's own making; NULL when memory is out."""
    cdef Pkt *q = pkt_new(&c.pool, room)
    if q == NULL:
        c.out_of_memory = True
        return NULL
    c.next_packet += 1
    q.id = c.next_packet
    q.dev = ns.lo
    q.protocol = ETHERTYPE_IPV4
    q.flags = PF_GENERATED
    c.count.generated += 1
    return q


cdef inline void write_ipv4(Core *c, Ns *ns, uint8_t *ip, uint32_t total, int hlen, int tos, int proto, const uint8_t *src, const uint8_t *dst) noexcept nogil:
    """An IPv4 header as local senders write it; the checksum is set when the packet leaves (ip_local_out())."""
    memset(ip, 0, IPV4_HLEN)
    ip[0] = <uint8_t>(0x40 | hlen >> 2)
    ip[IPV4_TOS] = <uint8_t>tos
    st16(ip + IPV4_LEN, total)
    ip[IPV4_TTL] = <uint8_t>ns.sys[SYS_IP_DEFAULT_TTL]
    ip[IPV4_PROTO] = <uint8_t>proto
    memcpy(ip + IPV4_SRC, src, 4)
    memcpy(ip + IPV4_DST, dst, 4)
    st16(ip + IPV4_ID, new_ip_id(c, ns, ip + IPV4_SRC))


cdef inline void icmp_source(Core *c, Ns *ns, const Pkt *p, uint8_t *saddr) noexcept nogil:
    """The address asked for if it is ours; else the route back decides, or the incoming device where configured."""
    memset(saddr, 0, 16)
    if p.dst.flags & DST_LOCAL:
        memcpy(saddr, p.buf + p.l3 + IPV4_DST, 4)
    elif p.dst.flags & DST_INPUT and ns.sys[SYS_ICMP_ERRORS_USE_INBOUND_IFADDR]:
        select_address(c, ns, p.iif, p.buf + p.l3 + IPV4_SRC, SCOPE_LINK, saddr)


cdef inline void ct_attach_error(Pkt *q, const Pkt *p) noexcept nogil:
    """nf_conntrack_attach(): an error belongs to the connection of the packet it is about, in the other direction."""
    if p.ct == NULL:
        return
    q.ct = p.ct
    ct_hold(<Ct *>q.ct)
    q.ctinfo = CTI_RELATED if p.ctinfo >= CTI_REPLY else CTI_RELATED + CTI_REPLY


cdef inline void icmp_send(Core *c, Pkt *p, int type, int code, uint32_t info) noexcept nogil:
    """Tell the sender of ``p`` what became of it; ``info``: the second word of the ICMP header."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t saddr[16]
    cdef uint8_t opts[OPTIONS_MAX]
    cdef IpOptions opt
    cdef Dst dst
    cdef int room, n
    cdef Pkt *q
    rec_refuse(&c.rec)
    if not icmp_may_answer(p):
        return
    icmp_source(c, ns, p, saddr)
    if options_echo(c, p, opts, &opt) < 0 or route_output(c, ns, ip + IPV4_SRC, saddr, False, &dst):
        return
    if not icmp_allowed(c, ns, type, code, &dst, ip + IPV4_SRC):
        return
    room = <int>dst_mtu(c, &dst)
    if room > ICMP_ERROR_MAX:
        room = ICMP_ERROR_MAX
    room -= IPV4_HLEN + opt.len + ICMP_HLEN
    if room <= IPV4_HLEN:
        return
    n = <int>pkt_l3_len(p)
    if n > room:
        n = room
    q = icmp_packet(c, ns, ip[IPV4_TOS] & IPTOS_MASK | TOS_INTERNETCONTROL, saddr, ip + IPV4_SRC, opts, &opt, ip, n)
    if q == NULL:
        return
    q.dst = dst
    icmp_finish(q, type, code, info)
    ct_attach_error(q, p)
    c.run(c, q, ST_LOCAL_OUT)


cdef inline Pkt *icmp_packet(Core *c, Ns *ns, int tos, const uint8_t *saddr, const uint8_t *daddr, const uint8_t *opts, const IpOptions *opt,
                             const uint8_t *body, int n) noexcept nogil:
    """IP header, options, an ICMP header to be filled in, and ``n`` bytes behind it."""
    cdef Pkt *q = local_packet(c, ns, IPV4_HLEN + OPTIONS_MAX + ICMP_HLEN + n)
    cdef uint8_t *ip
    cdef int hlen = IPV4_HLEN + opt.len
    if q == NULL:
        return NULL
    ip = q.buf + q.l3
    write_ipv4(c, ns, ip, hlen + ICMP_HLEN + n, hlen, tos, IPPROTO_ICMP, saddr, daddr)
    memcpy(ip + IPV4_HLEN, opts, opt.len)
    options_build(c, ip, opt)
    memset(ip + hlen, 0, ICMP_HLEN)
    memcpy(ip + hlen + ICMP_HLEN, body, n)
    q.end = q.l3 + hlen + ICMP_HLEN + n
    q.opt = opt[0]
    return q


cdef inline void icmp_finish(Pkt *q, int type, int code, uint32_t info) noexcept nogil:
    cdef uint8_t *ip = q.buf + q.l3
    cdef uint8_t *icmp = ip + ipv4_hlen(ip)
    icmp[0] = <uint8_t>type
    icmp[1] = <uint8_t>code
    st16(icmp + 2, 0)
    st32(icmp + 4, info)
    st16(icmp + 2, csum_bytes(icmp, q.end - q.l3 - ipv4_hlen(ip)))


cdef inline void icmp_reply(Core *c, Pkt *p, int type, int code, const uint8_t *body, int n) noexcept nogil:
    """Answer an ICMP request with ``n`` bytes behind a header that repeats id and sequence number."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t *icmp = ip + ipv4_hlen(ip)
    cdef uint8_t saddr[16]
    cdef uint8_t opts[OPTIONS_MAX]
    cdef IpOptions opt
    cdef Dst dst
    cdef Pkt *q
    rec_refuse(&c.rec)
    specific_destination(c, p, saddr)
    if options_echo(c, p, opts, &opt) < 0 or route_output(c, ns, ip + IPV4_SRC, saddr, False, &dst):
        return
    if not icmp_allowed(c, ns, type, 0, &dst, ip + IPV4_SRC):
        return
    q = icmp_packet(c, ns, ip[IPV4_TOS], saddr, ip + IPV4_SRC, opts, &opt, body, n)
    if q == NULL:
        return
    q.dst = dst
    icmp_finish(q, type, code, ld32(icmp + 4))
    c.run(c, q, ST_LOCAL_OUT)
