# Delivery to this namespace: net/ipv4/ip_input.c (ip_local_deliver()), icmp.c, udp.c, tcp_ipv4.c, without their sockets.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memcmp, memset
from ext.devices.core cimport (Core, Ns, Socket, socket_hash, DeliveryRecord, EventRecord, log_event, store_add, store_bytes, pkt_ns,
                               pkt_consume, SYS_ICMP_ECHO_IGNORE_ALL, SYS_ICMP_ECHO_IGNORE_BROADCASTS, DETAIL_LEN)
from ext.devices.record cimport rec_arrive
from ext.stages.conntrack cimport L4, find_l4, l4_checksum_ok
from ext.stages.defragment cimport defragment
from ext.stages.icmp cimport (icmp_send, icmp_reply, icmp_is_error, ICMP_DEST_UNREACH, ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_TIMESTAMP,
                              ICMP_TIMESTAMP_REPLY, ICMP_REDIRECT, ICMP_TYPES, ICMP_HLEN, UNREACH_PROTOCOL, UNREACH_PORT,
                              UNREACH_FRAG_NEEDED)
from ext.stages.netfilter cimport hook_input
from ext.stages.options cimport time_of_day_ms
from ext.stages.reject cimport tcp_reset_packet, TCP_HLEN, TCPF_RST
from ext.stages.route cimport route_output
from ext.stages.tunnel cimport pmtu_learn
from ext.stages.tunnel_receive cimport tunnel_exists, tunnel_receive
from ext.stages.verdict cimport ST_DONE, ST_LOCAL_OUT, ST_TRANSPORT, DROPS_LOCAL
from ext.tables.fib cimport RT_LOCAL
from ext.tables.htab cimport HNode, htab_first, htab_next
from ext.tables.fragments cimport FRAG_USER_LOCAL
from ext.wire.bytes cimport ld16, st32
from ext.wire.checksum cimport csum_bytes
from ext.wire.ipv4 cimport (IPV4_HLEN, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_TOS, ECN_MASK, IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP,
                            IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_ICMPV6, ipv4_hlen, ipv4_is_fragment)
from ext.wire.ipv6 cimport IPV6_DST
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST, DST_BROADCAST, DST_MULTICAST
from libc.stdio cimport snprintf

cdef enum:
    LOCAL_NO_PROTOCOL = DROPS_LOCAL
    LOCAL_TCP_TRUNCATED
    LOCAL_TCP_BAD_CHECKSUM
    LOCAL_TCP_NO_SOCKET
    LOCAL_UDP_BAD_LENGTH
    LOCAL_UDP_BAD_CHECKSUM
    LOCAL_UDP_NO_SOCKET
    LOCAL_ICMP_TRUNCATED
    LOCAL_ICMP_BAD_CHECKSUM
    LOCAL_ICMP_UNKNOWN_TYPE
    LOCAL_ICMP_TO_GROUP
    LOCAL_TCP_TO_GROUP
    SCTP_HLEN = 12
    LOCAL_ICMP_BAD_QUOTE
    LOCAL_ICMP_NO_SOCKET
    LOCAL_NO_MULTICAST_ROUTING


cdef inline const char *local_reason(int r) noexcept nogil:
    if r == LOCAL_NO_PROTOCOL:
        return b"local/no_protocol\tNobody handles this IP protocol: the sender is told\tIP_NOPROTO"
    if r == LOCAL_TCP_TRUNCATED:
        return b"local/tcp_truncated\tThe packet ends inside its TCP header\tPKT_TOO_SMALL"
    if r == LOCAL_TCP_BAD_CHECKSUM:
        return b"local/tcp_bad_checksum\tThe TCP checksum is wrong\tTCP_CSUM"
    if r == LOCAL_TCP_NO_SOCKET:
        return b"local/tcp_no_socket\tNothing listens on this TCP port: a RST is the answer\tNO_SOCKET"
    if r == LOCAL_UDP_BAD_LENGTH:
        return b"local/udp_bad_length\tThe UDP length cannot be\tPKT_TOO_SMALL"
    if r == LOCAL_UDP_BAD_CHECKSUM:
        return b"local/udp_bad_checksum\tThe UDP checksum is wrong\tUDP_CSUM"
    if r == LOCAL_UDP_NO_SOCKET:
        return b"local/udp_no_socket\tNothing listens on this UDP port: the sender is told\tNO_SOCKET"
    if r == LOCAL_ICMP_TRUNCATED:
        return b"local/icmp_truncated\tThe packet ends inside its ICMP header\tPKT_TOO_SMALL"
    if r == LOCAL_ICMP_BAD_CHECKSUM:
        return b"local/icmp_bad_checksum\tThe ICMP checksum is wrong\tICMP_CSUM"
    if r == LOCAL_ICMP_UNKNOWN_TYPE:
        return b"local/icmp_unknown_type\tAn ICMP type that nobody knows\tUNHANDLED_PROTO"
    if r == LOCAL_ICMP_TO_GROUP:
        return b"local/icmp_to_group\tICMP to a broadcast or multicast address is not answered\tINVALID_PROTO"
    if r == LOCAL_ICMP_BAD_QUOTE:
        return b"local/icmp_bad_quote\tAn ICMP error whose quoted IPv4 header cannot be one\tIP_INHDR"
    if r == LOCAL_NO_MULTICAST_ROUTING:
        return b"local/no_multicast_routing\tA PIM message where no multicast router runs\tNOT_SPECIFIED"
    if r == LOCAL_ICMP_NO_SOCKET:
        return b"local/icmp_no_socket\tAn echo reply that nobody asked for\tNO_SOCKET"
    if r == LOCAL_TCP_TO_GROUP:
        return b"local/tcp_to_group\tA TCP segment in a broadcast or multicast frame\tNOT_SPECIFIED"
    return NULL


cdef inline int stage_local(Core *c, Pkt *p) noexcept nogil:
    """ip_local_deliver(): reassemble, then the input hooks."""
    cdef int v
    if ipv4_is_fragment(pkt_l3(p)):
        v = defragment(c, pkt_ns(c, p), p, FRAG_USER_LOCAL)
        if v:
            return ST_DONE if v > 0 else v
    v = hook_input(c, p, p.dev)
    if v:
        return v
    rec_arrive(&c.rec, p, c.count.rules_walked)
    return ST_TRANSPORT


# ---- sockets of applications outside the core

cdef inline Socket *socket_for(Core *c, int ns, int proto, int port, const uint8_t *addr, int alen) noexcept nogil:
    """The open socket for this port; ICMP: for this id, else the one for any id."""
    cdef HNode *node = htab_first(&c.sockets, socket_hash(ns, proto, port))
    cdef Socket *s
    while node != NULL:
        s = <Socket *>node
        if s.ns == ns and s.proto == proto and s.port == port and (s.alen == 0 or (s.alen == alen and memcmp(s.addr, addr, alen) == 0)):
            return s
        node = htab_next(node)
    return socket_for(c, ns, proto, 0, addr, alen) if (proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6) and port != 0 else NULL


cdef inline int deliver(Core *c, Pkt *p, const Socket *s) noexcept nogil:
    """Hand the packet to an application; always ST_DONE."""
    cdef uint64_t at = store_bytes(c, pkt_l3(p), pkt_l3_len(p))
    cdef DeliveryRecord *r = <DeliveryRecord *>store_add(c, &c.deliveries, sizeof(DeliveryRecord))
    cdef EventRecord *ev = log_event(c, p, b"local", b"socket", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"delivered to the application on port %d", s.port)
    if r != NULL:
        r.time = c.now
        r.ns = s.ns
        r.socket = s.id
        r.packet = p.id
        r.len = pkt_l3_len(p)
        r.at = at
        c.n_deliveries += 1
    pkt_consume(c, p)
    return ST_DONE


# ---- transports

cdef inline Socket *destination_socket(Core *c, Ns *ns, const Pkt *p, const L4 *l4) noexcept nogil:
    """The open socket for the packet's destination address and port."""
    cdef const uint8_t *daddr = p.buf + p.l3 + (IPV6_DST if l4.family == 6 else IPV4_DST)
    return socket_for(c, ns.id, l4.proto, ld16(l4.at + 2), daddr, 16 if l4.family == 6 else 4)


cdef inline int deliver_udp(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    """ST_DONE, a stage or a drop; what the sender is told of LOCAL_UDP_NO_SOCKET is the caller's.

    Over IPv6 a length of 0 means all there is, and a checksum of zero is for tunnels that allow it (RFC 6935).
    """
    cdef uint32_t n
    cdef Socket *s
    cdef int v
    if l4.len < 8:
        return -LOCAL_UDP_BAD_LENGTH
    n = ld16(l4.at + 4)
    if l4.proto == IPPROTO_UDP:
        if n == 0 and l4.family == 6:
            n = l4.len
        if n > l4.len or n < 8:
            return -LOCAL_UDP_BAD_LENGTH
        p.end -= l4.len - n
        l4.len = n
    if ld16(l4.at + 6) != 0 and not l4_checksum_ok(pkt_l3(p), l4, l4.len):
        return -LOCAL_UDP_BAD_CHECKSUM
    v = tunnel_receive(c, ns, p, l4.family, l4.proto, ld16(l4.at + 2), <uint32_t>(l4.at - pkt_l3(p)))
    if v <= 0:
        return v
    if l4.family == 6 and ld16(l4.at + 6) == 0:
        return -LOCAL_UDP_BAD_CHECKSUM
    s = destination_socket(c, ns, p, l4)
    return deliver(c, p, s) if s != NULL else -LOCAL_UDP_NO_SOCKET


cdef inline int local_udp(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    cdef int v = deliver_udp(c, ns, p, l4)
    if v == -LOCAL_UDP_NO_SOCKET and not p.dst.flags & (DST_BROADCAST | DST_MULTICAST):
        icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_PORT, 0)
    return v


cdef inline int deliver_tcp(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """ST_DONE or a drop; the RST that LOCAL_TCP_NO_SOCKET calls for is the caller's."""
    cdef uint32_t hlen
    cdef Socket *s
    if p.pkt_type != TO_HOST:
        return -LOCAL_TCP_TO_GROUP
    if l4.len < TCP_HLEN:
        return -LOCAL_TCP_TRUNCATED
    hlen = (l4.at[12] >> 4) * 4
    if hlen < TCP_HLEN or l4.len < hlen:
        return -LOCAL_TCP_TRUNCATED
    if not l4_checksum_ok(pkt_l3(p), l4, l4.len):
        return -LOCAL_TCP_BAD_CHECKSUM
    s = destination_socket(c, ns, p, l4)
    return deliver(c, p, s) if s != NULL else -LOCAL_TCP_NO_SOCKET


cdef inline int local_tcp(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    cdef int v = deliver_tcp(c, ns, p, l4)
    if v == -LOCAL_TCP_NO_SOCKET and not l4.at[13] & TCPF_RST and p.dst.type == RT_LOCAL:
        send_reset(c, ns, p, l4)
    return v


cdef inline void send_reset(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """tcp_v4_send_reset() without a socket: TOS as received but for ECN."""
    cdef Pkt *q = tcp_reset_packet(c, ns, p, l4, pkt_l3(p)[IPV4_TOS] & ~ECN_MASK, True)
    cdef uint8_t saddr[16]
    if q == NULL:
        return
    memset(saddr, 0, 16)
    memcpy(saddr, pkt_l3(q) + IPV4_SRC, 4)
    if route_output(c, ns, pkt_l3(q) + IPV4_DST, saddr, False, &q.dst):
        pkt_consume(c, q)
        return
    c.run(c, q, ST_LOCAL_OUT)


cdef inline int local_timestamp(Core *c, Pkt *p, const L4 *l4) noexcept nogil:
    cdef uint8_t times[12]
    cdef uint32_t now = time_of_day_ms(c)
    if l4.len < ICMP_HLEN + 4:
        return -LOCAL_ICMP_TRUNCATED
    memcpy(times, l4.at + ICMP_HLEN, 4)
    st32(times + 4, now)
    st32(times + 8, now)
    icmp_reply(c, p, ICMP_TIMESTAMP_REPLY, 0, times, 12)
    pkt_consume(c, p)
    return ST_DONE


cdef inline Socket *quoted_socket(Core *c, Ns *ns, const L4 *l4) noexcept nogil:
    """The application that sent the packet which an ICMP error quotes."""
    cdef const uint8_t *inner = l4.at + ICMP_HLEN
    cdef L4 quoted
    if l4.len < ICMP_HLEN + IPV4_HLEN or not find_l4(4, inner, l4.len - ICMP_HLEN, &quoted) or quoted.len < 8:
        return NULL
    return socket_for(c, ns.id, quoted.proto, ld16(quoted.at + (4 if quoted.proto == IPPROTO_ICMP else 0)), inner + IPV4_SRC, 4)


cdef inline void learn_path_mtu(Core *c, Ns *ns, const L4 *l4) noexcept nogil:
    """Fragmentation needed about a packet of an application here, or of one of our tunnels (__udp4_lib_err(), ipip_err(), gre_err())."""
    cdef const uint8_t *inner = l4.at + ICMP_HLEN
    cdef L4 quoted
    cdef uint32_t mtu = ld16(l4.at + 6), port
    if quoted_socket(c, ns, l4) != NULL:
        pmtu_learn(c, ns, inner + IPV4_DST, mtu)
        return
    if l4.len < ICMP_HLEN + IPV4_HLEN or not find_l4(4, inner, l4.len - ICMP_HLEN, &quoted) or quoted.len < 8:
        return
    port = ld16(quoted.at + 2) if quoted.proto == IPPROTO_UDP else 0
    if tunnel_exists(c, ns, quoted.proto, port, 4, inner + IPV4_SRC, inner + IPV4_DST):
        pmtu_learn(c, ns, inner + IPV4_DST, mtu)


cdef inline int local_icmp(Core *c, Ns *ns, Pkt *p, L4 *l4) noexcept nogil:
    """icmp_rcv()."""
    cdef int type
    cdef Socket *s = NULL
    if csum_bytes(l4.at, l4.len) != 0:
        return -LOCAL_ICMP_BAD_CHECKSUM
    if l4.len < ICMP_HLEN:
        return -LOCAL_ICMP_TRUNCATED
    type = l4.at[0]
    if type > ICMP_TYPES:
        return -LOCAL_ICMP_UNKNOWN_TYPE
    if p.dst.flags & (DST_BROADCAST | DST_MULTICAST):
        if ns.sys[SYS_ICMP_ECHO_IGNORE_BROADCASTS] or (type != ICMP_ECHO and type != ICMP_TIMESTAMP):
            return -LOCAL_ICMP_TO_GROUP
    if type == ICMP_ECHO and not ns.sys[SYS_ICMP_ECHO_IGNORE_ALL]:
        icmp_reply(c, p, ICMP_ECHO_REPLY, l4.at[1], l4.at + ICMP_HLEN, <int>l4.len - ICMP_HLEN)
    elif type == ICMP_TIMESTAMP:
        return local_timestamp(c, p, l4)
    elif type == ICMP_ECHO_REPLY:
        s = socket_for(c, ns.id, IPPROTO_ICMP, ld16(l4.at + 4), pkt_l3(p) + IPV4_DST, 4)
    elif icmp_is_error(type):
        if l4.len < ICMP_HLEN + IPV4_HLEN:
            return -LOCAL_ICMP_TRUNCATED
        if type != ICMP_REDIRECT and ipv4_hlen(l4.at + ICMP_HLEN) < IPV4_HLEN:
            return -LOCAL_ICMP_BAD_QUOTE
        if type == ICMP_DEST_UNREACH and l4.at[1] == UNREACH_FRAG_NEEDED:
            learn_path_mtu(c, ns, l4)
        s = quoted_socket(c, ns, l4)
    if s != NULL:
        return deliver(c, p, s)
    trace_icmp(c, p, type)
    pkt_consume(c, p)
    return ST_DONE


cdef inline void trace_icmp(Core *c, Pkt *p, int type) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"local", b"icmp", 0)
    if ev != NULL:
        snprintf(ev.detail, DETAIL_LEN, b"ICMP type %d is for the kernel itself", type)


cdef inline int deliver_other(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """A tunnel, or an application's SCTP: a stage, ST_DONE or a drop; what the sender is told of LOCAL_NO_PROTOCOL is the caller's."""
    cdef Socket *s = NULL
    cdef int v = tunnel_receive(c, ns, p, l4.family, l4.proto, 0, <uint32_t>(l4.at - pkt_l3(p)))
    if v <= 0:
        return v
    if l4.proto == IPPROTO_SCTP and l4.len >= SCTP_HLEN:
        s = destination_socket(c, ns, p, l4)
    return deliver(c, p, s) if s != NULL else -LOCAL_NO_PROTOCOL


cdef inline int stage_transport(Core *c, Pkt *p) noexcept nogil:
    """ip_local_deliver_finish(): to whom the packet belongs."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef L4 l4
    cdef int v
    cdef uint8_t *ip = pkt_l3(p)
    l4.family = 4
    l4.proto = ip[IPV4_PROTO]
    l4.at = ip + ipv4_hlen(ip)
    l4.len = pkt_l3_len(p) - ipv4_hlen(ip)
    if l4.proto == IPPROTO_UDP or l4.proto == IPPROTO_UDPLITE:
        return local_udp(c, ns, p, &l4)
    if l4.proto == IPPROTO_TCP:
        return local_tcp(c, ns, p, &l4)
    if l4.proto == IPPROTO_ICMP:
        return local_icmp(c, ns, p, &l4)
    if l4.proto == IPPROTO_IGMP:
        pkt_consume(c, p)
        return ST_DONE
    v = deliver_other(c, ns, p, &l4)
    if v == -LOCAL_NO_PROTOCOL:
        icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_PROTOCOL, 0)
    return v
