# What the rules see of a packet.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from ext.devices.core cimport Core, Ns, ns_fib
from ext.tables.ct_entry cimport Ct, CTI_REPLY, CTI_UNTRACKED, CTS_NAT_MASK
from ext.tables.rules cimport (Flow, flow_words, CT_BITS_FACT, CT_BIT_INVALID, CT_BIT_UNTRACKED, FACT_CTSTATE, FACT_DPORT, FACT_PORTS,
                               FACT_PROTO)
from ext.wire.bytes cimport ld16, raw_pair, rarely
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_FRAG, IPV4_HLEN, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_OFFSET, ipv4_hlen
from ext.wire.ipv6 cimport Ipv6Chain, IPV6_SRC, IPV6_DST, find_header
from ext.wire.packet cimport Pkt, pkt_l3_len

cdef enum:
    NAT_BITS_ON = 2  # from CTS_SRC_NAT and CTS_DST_NAT to CT_BIT_SNAT and CT_BIT_DNAT


cdef inline uint32_t ctstate_bits(const Pkt *p) noexcept nogil:
    """State of the packet as xt_conntrack matches it."""
    cdef Ct *ct = <Ct *>p.ct
    cdef uint32_t bits
    if rarely(ct == NULL):
        return CT_BIT_UNTRACKED if p.ctinfo == CTI_UNTRACKED else CT_BIT_INVALID
    bits = <uint32_t>1 << (p.ctinfo % CTI_REPLY + 1)
    return bits | <uint32_t>(ct.status & CTS_NAT_MASK) << NAT_BITS_ON


cdef inline void flow_of4(const Pkt *p, Flow *f) noexcept nogil:
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint32_t hlen = ipv4_hlen(ip), n = pkt_l3_len(p)
    f.family = 4
    f.alen = 4
    f.proto = ip[IPV4_PROTO]
    f.later_fragment = ld16(ip + IPV4_FRAG) & IPV4_OFFSET != 0
    f.src = ip + IPV4_SRC
    f.dst = ip + IPV4_DST
    f.no_proto = False
    f.l4 = NULL
    f.l4len = 0
    if not f.later_fragment and hlen <= n:
        f.l4 = ip + hlen
        f.l4len = n - hlen


cdef inline void flow_of6(const Pkt *p, Flow *f) noexcept nogil:
    """The protocol is what stands behind the extension headers, or AH (nft_set_pktinfo_ipv6(), ipv6_find_hdr())."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef Ipv6Chain chain
    f.family = 6
    f.alen = 16
    f.src = ip + IPV6_SRC
    f.dst = ip + IPV6_DST
    find_header(ip, pkt_l3_len(p), &chain)
    f.no_proto = chain.broken
    f.proto = chain.proto
    f.later_fragment = chain.frag != 0
    f.l4 = NULL
    f.l4len = 0
    if not chain.broken and not chain.frag and chain.at <= pkt_l3_len(p):
        f.l4 = ip + chain.at
        f.l4len = pkt_l3_len(p) - chain.at


cdef inline bint flow_of_plain(const Pkt *p, Flow *f) noexcept nogil:
    """Of an IPv4 packet with ports and without options, that is no later fragment; else False."""
    cdef const uint8_t *ip = p.buf + p.l3
    cdef uint32_t n = pkt_l3_len(p)
    if rarely(p.protocol == ETHERTYPE_IPV6 or ip[0] & 0xf != IPV4_HLEN // 4 or ld16(ip + IPV4_FRAG) & IPV4_OFFSET or n < IPV4_HLEN + 4):
        return False
    f.family = f.alen = 4
    f.proto = ip[IPV4_PROTO]
    f.later_fragment = f.no_proto = False
    f.has_ports = True
    f.src = ip + IPV4_SRC
    f.dst = ip + IPV4_DST
    f.l4 = ip + IPV4_HLEN
    f.l4len = n - IPV4_HLEN
    f.sport = ld16(ip + IPV4_HLEN)
    f.dport = ld16(ip + IPV4_HLEN + 2)
    f.addresses = raw_pair(f.src, f.dst)
    f.facts = (<uint64_t>f.dport << FACT_DPORT | <uint64_t>f.proto << FACT_PROTO | (f.ctstate & CT_BITS_FACT) << FACT_CTSTATE
               | FACT_PORTS)
    return True


cdef inline void flow_of_any(const Pkt *p, Flow *f) noexcept nogil:
    if p.protocol == ETHERTYPE_IPV6:
        flow_of6(p, f)
    else:
        flow_of4(p, f)
    f.has_ports = f.l4len >= 4  # a later fragment has no layer 4
    f.sport = f.dport = 0
    if f.has_ports:
        f.sport = ld16(f.l4)
        f.dport = ld16(f.l4 + 2)
    flow_words(f)


cdef inline void flow_words_of(const Pkt *p, Flow *f) noexcept nogil:
    """What stands in the packet, whose ``ctstate`` is there."""
    if rarely(not flow_of_plain(p, f)):
        flow_of_any(p, f)


cdef inline void flow_of(Core *c, Ns *ns, const Pkt *p, int in_dev, int out_dev, Flow *f) noexcept nogil:
    """What the rules see of a packet."""
    f.ctstate = ctstate_bits(p)
    flow_words_of(p, f)
    flow_beside(c, ns, in_dev, out_dev, f)


cdef inline void flow_translated(Flow *f) noexcept nogil:
    """An address or port of an IPv4 packet with ports has been changed where ``f`` points at."""
    f.sport = ld16(f.l4)
    f.dport = ld16(f.l4 + 2)
    f.addresses = raw_pair(f.src, f.dst)
    f.facts = f.facts & ~(<uint64_t>0xffff << FACT_DPORT) | <uint64_t>f.dport << FACT_DPORT


cdef inline void flow_beside(Core *c, Ns *ns, int in_dev, int out_dev, Flow *f) noexcept nogil:
    """What does not stand in the packet."""
    f.iif = f.oif = b""
    if in_dev >= 0:
        f.iif = c.dev[in_dev].name
    if out_dev >= 0:
        f.oif = c.dev[out_dev].name
    f.now = c.now
    f.recent = &ns.recent
    f.fib = ns_fib(ns, f.alen)
