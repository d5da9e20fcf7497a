# The REJECT target: net/ipv4/netfilter/nf_reject_ipv4.c.

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, Ns, pkt_consume
from ext.devices.record cimport rec_refuse
from ext.stages.conntrack cimport L4, find_l4, l4_checksum_ok
from ext.stages.icmp cimport icmp_send, local_packet, write_ipv4, ct_attach_error, ICMP_DEST_UNREACH
from ext.stages.options cimport options_build, options_echo, OPTIONS_MAX
from ext.stages.route cimport route_input, route_output
from ext.stages.verdict cimport ST_LOCAL_OUT, ST_TRANSMIT
from ext.tables.conntrack cimport Ct, ct_closing
from ext.tables.ct_settings cimport CT_KEEP_TIMEOUT, CTS_CONFIRMED
from ext.tables.ct_tcp cimport ct_tcp_set_closing
from ext.tables.rules cimport HOOK_PREROUTING, REJECT_TCP_RESET
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ether cimport ETH_DST, ETH_HLEN, ETH_SRC, ETH_TYPE, ETHERTYPE_IPV4
from ext.wire.ipv4 cimport (ipv4_set_csum, IPV4_HLEN, IPV4_ID, IPV4_FRAG, IPV4_DF, IPV4_SRC, IPV4_DST, IPV4_OFFSET, IPPROTO_TCP,
                            IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_GRE, IPPROTO_AH, IPPROTO_ESP)
from ext.wire.packet cimport BRNF_ACTIVE, pkt_l2, Pkt, IpOptions, pkt_l3, pkt_l3_len, DST_BROADCAST, DST_MULTICAST

cdef enum:
    TCP_HLEN = 20
    TCPF_FIN = 1
    TCPF_SYN = 2
    TCPF_RST = 4
    TCPF_ACK = 16


cdef inline bint reject_verifies(const L4 *l4) noexcept nogil:
    """nf_reject_verify_csum(): some checksums are not over the whole packet, and those of UDP and GRE may be left out."""
    if l4.proto == IPPROTO_UDP:
        return l4.len >= 8 and ld16(l4.at + 6) != 0
    if l4.proto == IPPROTO_GRE:
        return l4.len >= 4 and l4.at[0] & 0x80
    return (l4.proto != IPPROTO_UDPLITE and l4.proto != IPPROTO_SCTP and l4.proto != IPPROTO_DCCP and l4.proto != IPPROTO_AH
            and l4.proto != IPPROTO_ESP)


cdef inline void reject(Core *c, Ns *ns, Pkt *p, int hook, int code) noexcept nogil:
    """Answer a packet that a rule refuses; the caller drops it."""
    cdef L4 l4
    cdef uint8_t *ip = pkt_l3(p)
    rec_refuse(&c.rec)
    if ld16(ip + IPV4_FRAG) & IPV4_OFFSET or not find_l4(4, ip, pkt_l3_len(p), &l4):
        return
    if hook == HOOK_PREROUTING and not p.dst.valid and route_input(c, p, ip + IPV4_DST, ip + IPV4_SRC, p.dev) < 0:
        return
    if code == REJECT_TCP_RESET:
        reject_reset(c, ns, p, &l4)
    elif not reject_verifies(&l4) or l4_checksum_ok(ip, &l4, l4.len):
        icmp_send(c, p, ICMP_DEST_UNREACH, code, 0)


cdef inline void tcp_reset_fields(const L4 *l4, uint8_t *tcp) noexcept nogil:
    """Ports turned round, and the sequence numbers of RFC 9293 3.10.7.1 for a segment without a connection."""
    cdef const uint8_t *th = l4.at
    cdef uint32_t n
    memset(tcp, 0, TCP_HLEN)
    memcpy(tcp, th + 2, 2)
    memcpy(tcp + 2, th, 2)
    tcp[12] = (TCP_HLEN / 4) << 4
    if th[13] & TCPF_ACK:
        memcpy(tcp + 4, th + 8, 4)
        tcp[13] = TCPF_RST
    else:
        n = l4.len - (th[12] >> 4) * 4 + ((th[13] & TCPF_SYN) != 0) + (th[13] & TCPF_FIN)
        st32(tcp + 8, ld32(th + 4) + n)
        tcp[13] = TCPF_RST | TCPF_ACK


cdef inline Pkt *tcp_reset_packet(Core *c, Ns *ns, Pkt *p, const L4 *l4, int tos, bint echo) noexcept nogil:
    """A RST for a segment, IP header first: identification 0 and DF, as Linux writes it; ``echo``: IP options come back."""
    cdef Pkt *q
    cdef uint8_t opts[OPTIONS_MAX]
    cdef IpOptions opt
    cdef uint8_t *ip
    cdef uint8_t *tcp
    cdef uint32_t sum, hlen
    memset(&opt, 0, sizeof(IpOptions))
    if echo and options_echo(c, p, opts, &opt) < 0:
        return NULL
    hlen = IPV4_HLEN + opt.len
    q = local_packet(c, ns, hlen + TCP_HLEN)
    if q == NULL:
        return NULL
    q.opt = opt
    ip = q.buf + q.l3
    tcp = ip + hlen
    write_ipv4(c, ns, ip, hlen + TCP_HLEN, <int>hlen, tos, IPPROTO_TCP, pkt_l3(p) + IPV4_DST, pkt_l3(p) + IPV4_SRC)
    st16(ip + IPV4_ID, 0)
    st16(ip + IPV4_FRAG, IPV4_DF)
    memcpy(ip + IPV4_HLEN, opts, opt.len)
    options_build(c, ip, &opt)
    tcp_reset_fields(l4, tcp)
    sum = pseudo_sum(ip + IPV4_SRC, ip + IPV4_DST, 4, IPPROTO_TCP, TCP_HLEN)
    st16(tcp + 16, ~csum_add_bytes(tcp, TCP_HLEN, sum) & 0xffff)
    q.end = q.l3 + hlen + TCP_HLEN
    return q


cdef inline void reject_closes(Core *c, Ns *ns, const Pkt *p, Pkt *q) noexcept nogil:
    """The RST ``q`` belongs to the connection of ``p``, and ends it (nf_ct_set_closing())."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int64_t timeout
    if ct == NULL:
        return
    ct_attach_error(q, p)
    timeout = ct_tcp_set_closing(&ct.proto.tcp, ct.status, &ns.ct.set)
    ct_closing(&ns.ct)
    if timeout != CT_KEEP_TIMEOUT:
        ct.expires = timeout + (c.now if ct.status & CTS_CONFIRMED else 0)


cdef inline void reject_reset(Core *c, Ns *ns, Pkt *p, const L4 *l4) noexcept nogil:
    """nf_send_reset(): a RST to the sender, and the connection is closed."""
    cdef Pkt *q
    cdef uint8_t saddr[16]
    if l4.proto != IPPROTO_TCP or l4.len < TCP_HLEN or l4.at[13] & TCPF_RST or not l4_checksum_ok(pkt_l3(p), l4, l4.len):
        return
    if p.dst.flags & (DST_BROADCAST | DST_MULTICAST):
        return
    q = tcp_reset_packet(c, ns, p, l4, 0, False)
    if q == NULL:
        return
    memset(saddr, 0, 16)
    memcpy(saddr, pkt_l3(q) + IPV4_SRC, 4)
    if route_output(c, ns, pkt_l3(q) + IPV4_DST, saddr, True, &q.dst):
        pkt_consume(c, q)
        return
    reject_closes(c, ns, p, q)
    if p.brnf & BRNF_ACTIVE and p.phys_in >= 0:
        reset_on_port(c, p, q)
    else:
        c.run(c, q, ST_LOCAL_OUT)


cdef inline void reset_on_port(Core *c, Pkt *p, Pkt *q) noexcept nogil:
    """To a switched packet the RST goes straight out of the port it came in by, between the packet's own MAC addresses."""
    cdef uint8_t *eth
    q.dev = p.phys_in
    q.l2 = q.l3 - ETH_HLEN
    eth = pkt_l2(q)
    memcpy(eth + ETH_DST, pkt_l2(p) + ETH_SRC, 6)
    memcpy(eth + ETH_SRC, pkt_l2(p) + ETH_DST, 6)
    st16(eth + ETH_TYPE, q.protocol)
    if q.protocol == ETHERTYPE_IPV4:
        ipv4_set_csum(pkt_l3(q))
    c.run(c, q, ST_TRANSMIT)

