# Address translation: net/netfilter/nf_nat_core.c, nf_nat_proto.c, nf_nat_masquerade.c.
#
# A connection's first packet decides by the nat rules; every packet is then rewritten by its entry's tuples.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memcmp, memset
from ext.devices.changes cimport CHANGE_DNAT, CHANGE_SNAT, log_change, log_nat_rule
from ext.devices.core cimport Core, Ns, Pin, EventRecord, log_event, chance, chance_count, chance_seed, DETAIL_LEN, TRACE_STEPS
from ext.devices.record cimport STEP_NAT, rec_bytes, rec_is_on, rec_refuse
from ext.stages.conntrack cimport L4, behind_header, find_l4, is_icmp, l4_checksum_ok, pin_for, pkt_family, pkt_find_l4
from ext.stages.flow cimport flow_of
from ext.stages.icmp cimport ICMP_HLEN, ICMP_REDIRECT
from ext.stages.icmpv6 cimport ICMPV6_ECHO, ICMPV6_ECHO_REPLY, icmpv6_set_csum
from ext.stages.nd_messages cimport ND_REDIRECT
from ext.stages.route cimport route_output, select_address, trace_route_out
from ext.stages.route_ipv6 cimport route_output6, select_source6, trace_route_out6
from ext.stages.verdict cimport DROPS_NAT
from ext.tables.conntrack cimport (CtTable, answers_changed, ct_answers_taken, ct_kill, ct_tuple_taken, sources_at, sources_first)
from ext.tables.ct_entry cimport (Ct, Tuple, ct_address, ct_draw_hash, ct_family, ct_set_tuple, ct_tuple, tuple_equal, tuple_invert, CTI_RELATED,
                                  CTI_NEW, CTI_REPLY, CTS_SRC_NAT, CTS_DST_NAT, CTS_NAT_MASK, CTS_SRC_NAT_DONE, CTS_DST_NAT_DONE, CTS_NAT_DONE_MASK,
                                  CT_TUPLE_BYTES)
from ext.tables.ct_sctp cimport sctp_crc32c
from ext.tables.ct_settings cimport CTS_CONFIRMED
from ext.tables.fib cimport SCOPE_UNIVERSE
from ext.tables.rule_memo cimport rules_decide
from ext.tables.rules cimport (Glance, Rule, RuleEnd, RuleTable, Flow, Choices, Verdict, choices_begin, choices_draw, rule_number, rule_of, recent_apply,
                               T_DNAT, T_SNAT, T_MASQUERADE, T_DROP,
                               TABLE_NAT, HOOK_PREROUTING, HOOK_OUTPUT, HOOK_POSTROUTING)
from ext.wire.bytes cimport ld16, ld32, rarely, raw16, raw32, seldom, st16, st32
from ext.wire.checksum cimport csum_bytes, csum_changed, csum_replace
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.hash cimport mix64
from ext.wire.ipv4 cimport (IPV4_CSUM, IPV4_SRC, IPV4_DST, IPV4_PROTO, IPV4_HLEN, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP,
                            IPPROTO_UDPLITE, IPPROTO_SCTP, ipv4_hlen)
from ext.wire.ipv6 cimport Ipv6Chain, FRAGMENT_OFFSET, IPV6_DST, IPV6_HLEN, IPV6_SRC, skip_extensions
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, pkt_pull_head

cdef enum:
    NAT_QUOTE_NOT_TRANSLATED = DROPS_NAT
    NAT_NO_MASQUERADE_ADDRESS
    NAT_MASQUERADE_DEVICE_CHANGED
    NAT_NO_ROUTE_AFTER_DNAT
    NAT_REFUSED
    MANIP_SRC = 0
    MANIP_DST = 1
    NAT_ATTEMPTS = 128
    PURPOSE_NAT_PORT = 2
    PURPOSE_NAT_RULES = 3

cdef struct NatRange:
    uint8_t min[16]
    uint8_t max[16]
    uint8_t has_address
    uint8_t has_ports
    uint8_t random
    uint8_t persistent
    uint16_t port_min
    uint16_t port_max


cdef inline const char *nat_reason(int r) noexcept nogil:
    if r == NAT_QUOTE_NOT_TRANSLATED:
        return b"nat/quote_not_translated\tAn ICMP error about a translated connection whose quote cannot be translated back\tNETFILTER_DROP"
    if r == NAT_NO_MASQUERADE_ADDRESS:
        return b"nat/no_masquerade_address\tMASQUERADE finds no address on the outgoing device\tNETFILTER_DROP"
    if r == NAT_MASQUERADE_DEVICE_CHANGED:
        return b"nat/masquerade_device_changed\tA masqueraded connection leaves by another device than it began with\tNETFILTER_DROP"
    if r == NAT_NO_ROUTE_AFTER_DNAT:
        return b"nat/no_route_after_dnat\tNo route to the address that DNAT gave a packet of this namespace's own\tNETFILTER_DROP"
    if r == NAT_REFUSED:
        return b"nat/refused\tA rule of the nat table says DROP\tNETFILTER_DROP"
    return NULL


# ---- rewriting packets

cdef inline void csum_patch(uint8_t *check, const uint8_t *old_addr, const uint8_t *new_addr, int alen, uint32_t old_port,
                            uint32_t new_port) noexcept nogil:
    """The layer-4 checksum after its pseudo header and one port have changed."""
    cdef uint8_t a[2]
    cdef uint8_t b[2]
    cdef uint64_t change = 0
    cdef int i
    st16(a, old_port)
    st16(b, new_port)
    for i in range(0, alen, 4):
        change += <uint64_t>(~raw32(old_addr + i)) + raw32(new_addr + i)
    csum_changed(check, change + (~raw16(a) & 0xffff) + raw16(b))


cdef inline int address_at(int family, int manip) noexcept nogil:
    """Where the side that ``manip`` is about stands in the IP header."""
    if family == 6:
        return IPV6_SRC if manip == MANIP_SRC else IPV6_DST
    return IPV4_SRC if manip == MANIP_SRC else IPV4_DST


cdef inline bint manip_ports(uint8_t *ip, L4 *l4, const Tuple *t, int manip) noexcept nogil:
    """TCP, UDP, UDP-Lite, SCTP: the port and what follows from it. False: not enough of the header is there."""
    cdef uint8_t *port = l4.at + (0 if manip == MANIP_SRC else 2)
    cdef const uint8_t *old = ip + address_at(l4.family, manip)
    cdef const uint8_t *new = <const uint8_t *>t.src if manip == MANIP_SRC else <const uint8_t *>t.dst
    cdef uint32_t was, now = t.sport if manip == MANIP_SRC else t.dport
    cdef int alen = 16 if l4.family == 6 else 4
    if l4.len < 8:
        return False
    was = ld16(port)
    st16(port, now)
    if l4.proto == IPPROTO_TCP:
        if l4.len >= 20:
            csum_patch(l4.at + 16, old, new, alen, was, now)
    elif l4.proto == IPPROTO_SCTP:
        if l4.len >= 12:
            sctp_set_checksum(l4.at, l4.len)
    elif ld16(l4.at + 6) != 0 or l4.proto == IPPROTO_UDPLITE:
        csum_patch(l4.at + 6, old, new, alen, was, now)
        if ld16(l4.at + 6) == 0:
            st16(l4.at + 6, 0xffff)
    return True


cdef inline void sctp_set_checksum(uint8_t *sctp, uint32_t n) noexcept nogil:
    """CRC32c over the packet with its own field zero, stored little-endian (RFC 9260, appendix A)."""
    cdef uint32_t crc
    memset(sctp + 8, 0, 4)
    crc = sctp_crc32c(sctp, <int>n)
    sctp[8] = <uint8_t>crc
    sctp[9] = <uint8_t>(crc >> 8)
    sctp[10] = <uint8_t>(crc >> 16)
    sctp[11] = <uint8_t>(crc >> 24)


cdef inline bint icmp_has_id(uint8_t type) noexcept nogil:
    return type == 0 or type == 8 or (13 <= type <= 18)


cdef inline void set_icmp_id(uint8_t *icmp, uint32_t value) noexcept nogil:
    cdef uint8_t id[2]
    st16(id, value)
    csum_replace(icmp + 2, icmp + 4, id, 2)
    memcpy(icmp + 4, id, 2)


cdef inline bint manip_icmpv6(uint8_t *ip, L4 *l4, const Tuple *t, int manip) noexcept nogil:
    """icmpv6_manip_pkt(): the address is part of the checksum."""
    if l4.len < ICMP_HLEN:
        return False
    csum_replace(l4.at + 2, ip + address_at(6, manip), &t.src[0] if manip == MANIP_SRC else &t.dst[0], 16)
    if l4.at[0] == ICMPV6_ECHO or l4.at[0] == ICMPV6_ECHO_REPLY:
        set_icmp_id(l4.at, t.sport)
    return True


cdef inline bint manip_l4(uint8_t *ip, L4 *l4, const Tuple *t, int manip) noexcept nogil:
    if l4.proto == IPPROTO_TCP or l4.proto == IPPROTO_UDP or l4.proto == IPPROTO_UDPLITE or l4.proto == IPPROTO_SCTP:
        return manip_ports(ip, l4, t, manip)
    if l4.proto == IPPROTO_ICMPV6:
        return manip_icmpv6(ip, l4, t, manip)
    if l4.proto != IPPROTO_ICMP:
        return True
    if l4.len < ICMP_HLEN:
        return False
    if icmp_has_id(l4.at[0]):
        set_icmp_id(l4.at, t.sport)
    return True


cdef inline bint manip_packet6(uint8_t *ip, uint32_t n, int proto, const Tuple *t, int manip) noexcept nogil:
    """nf_nat_ipv6_manip_pkt(): layer 4 unless the packet is a later fragment or its headers are broken off."""
    cdef Ipv6Chain chain
    cdef L4 l4
    if n < IPV6_HLEN:
        return False
    skip_extensions(ip, n, &chain)
    if not chain.broken and not chain.frag & FRAGMENT_OFFSET:
        l4.at = ip + (chain.at if chain.at < n else n)
        l4.len = n - (chain.at if chain.at < n else n)
        l4.proto = <uint8_t>proto
        l4.family = 6
        if not manip_l4(ip, &l4, t, manip):
            return False
    memcpy(ip + address_at(6, manip), &t.src[0] if manip == MANIP_SRC else &t.dst[0], 16)
    return True


cdef inline bint manip_packet(uint8_t *ip, uint32_t n, int proto, const Tuple *t, int manip) noexcept nogil:
    """Rewrite one side of a packet of ``n`` bytes; ``proto`` 0: its address only (nf_nat_ipv4_manip_pkt())."""
    cdef L4 l4
    cdef int at = address_at(4, manip)
    cdef const uint8_t *new = <const uint8_t *>t.src if manip == MANIP_SRC else <const uint8_t *>t.dst
    cdef uint32_t hlen
    if t.family == 6:
        return manip_packet6(ip, n, proto, t, manip)
    hlen = ipv4_hlen(ip)
    if n < IPV4_HLEN or hlen > n:
        return False
    if proto:
        l4.at = ip + hlen
        l4.len = n - hlen
        l4.proto = <uint8_t>proto
        l4.family = 4
        if not manip_l4(ip, &l4, t, manip):
            return False
    csum_replace(ip + IPV4_CSUM, ip + at, new, 4)
    memcpy(ip + at, new, 4)
    return True


cdef inline uint32_t nat_status_bit(int manip, int dir) noexcept nogil:
    """Which half of the translation this hook undoes or does for packets of this direction."""
    cdef uint32_t bit = CTS_SRC_NAT if manip == MANIP_SRC else CTS_DST_NAT
    return bit ^ CTS_NAT_MASK if dir else bit


cdef inline void trace_nat(Core *c, Pkt *p, int manip) noexcept nogil:
    cdef int family = pkt_family(p)
    log_change(c, p, CHANGE_SNAT if manip == MANIP_SRC else CHANGE_DNAT, pkt_l3(p) + address_at(family, manip), 4 if family == 4 else 16, 0)


cdef inline uint32_t manip_reach(int proto, uint32_t n) noexcept nogil:
    """How many of ``n`` layer-4 bytes a translation has to have in one piece (skb_ensure_writable() in nf_nat_proto.c)."""
    if proto == IPPROTO_TCP:
        return 20 if n >= 20 else 8
    if proto == IPPROTO_SCTP:
        return 12 if n >= 12 else 8
    return 8 if proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE or is_icmp(proto) else 0


cdef inline void pull_for_manip(Pkt *p, const L4 *l4, int proto) noexcept nogil:
    cdef uint32_t reach = manip_reach(proto, l4.len)
    if reach:
        pkt_pull_head(p, behind_header(p, l4) + reach)


cdef inline int nat_packet(Core *c, Pkt *p, int manip) noexcept nogil:
    """nf_nat_packet(): 0 or a drop."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int dir = p.ctinfo >= CTI_REPLY
    cdef int result
    if not ct.status & nat_status_bit(manip, dir):
        return 0
    if not manip_plain(p, ct, 1 - dir, manip):
        result = manip_unusual(p, ct, dir, manip)
        if result:
            return result
    note_nat(c, p, ct, 1 - dir, manip)
    trace_nat(c, p, manip)
    return 0


cdef inline bint manip_plain(Pkt *p, const Ct *ct, int other, int manip) noexcept nogil:
    """manip_packet() of IPv4's TCP and UDP where no header is longer or shorter than usual; else False, and nothing has changed."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t *l4 = ip + IPV4_HLEN
    cdef uint8_t *at = ip + address_at(4, manip)
    cdef uint8_t *port = l4 + (0 if manip == MANIP_SRC else 2)
    cdef const uint8_t *address = ct.address4[other][manip == MANIP_SRC]
    cdef uint8_t *check
    cdef uint8_t now[2]
    cdef uint64_t change = <uint64_t>(~raw32(at)) + raw32(address)
    cdef bint tcp = ct.number == IPPROTO_TCP
    if rarely(ct.family != 4 or p.n_frags or ip[0] != 0x45 or not (tcp or ct.number == IPPROTO_UDP)
              or pkt_l3_len(p) < IPV4_HLEN + (20 if tcp else 8)):
        return False
    csum_changed(ip + IPV4_CSUM, change)
    memcpy(at, address, 4)
    check = l4 + (16 if tcp else 6)
    st16(now, ct.port[other][manip == MANIP_SRC])
    if tcp or raw16(check) != 0:
        csum_changed(check, change + (~raw16(port) & 0xffff) + raw16(now))
        if not tcp and raw16(check) == 0:
            st16(check, 0xffff)
    memcpy(port, now, 2)
    return True


cdef inline int manip_unusual(Pkt *p, const Ct *ct, int dir, int manip) noexcept nogil:
    cdef Tuple other, target
    cdef L4 l4
    other = ct_tuple(ct, 1 - dir)
    tuple_invert(&target, &other)
    if p.n_frags and pkt_find_l4(p, &l4):
        pull_for_manip(p, &l4, ct.number)
    if not manip_packet(pkt_l3(p), pkt_l3_len(p), ct.number, &target, manip):
        return -NAT_QUOTE_NOT_TRANSLATED
    return 0


cdef inline void note_nat(Core *c, Pkt *p, const Ct *ct, int other, int manip) noexcept nogil:
    """Tell the flow cache what one side of an IPv4 packet is now: address and port, which only TCP and UDP have where it writes them."""
    cdef uint8_t now[6]
    cdef Tuple from_there, t
    if not rec_is_on(&c.rec, p):
        return
    if ct.number != IPPROTO_TCP and ct.number != IPPROTO_UDP:
        rec_refuse(&c.rec)
    else:
        from_there = ct_tuple(ct, other)
        tuple_invert(&t, &from_there)
        memcpy(now, &t.src[0] if manip == MANIP_SRC else &t.dst[0], 4)
        st16(now + 4, t.sport if manip == MANIP_SRC else t.dport)
        rec_bytes(&c.rec, p, STEP_NAT, now, 6, manip)


cdef inline bint redirect_translated(const Ct *ct) noexcept nogil:
    """A redirect is for the translator itself, whose address it cannot name."""
    return ct.status & CTS_NAT_DONE_MASK != CTS_NAT_DONE_MASK or ct.status & CTS_NAT_MASK


cdef inline int nat_icmp_error(Core *c, Pkt *p, int manip) noexcept nogil:
    """nf_nat_icmp_reply_translation(): the quote inside and the address outside. 0 or a drop."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int dir = p.ctinfo >= CTI_REPLY
    cdef L4 l4
    cdef Tuple other = ct_tuple(ct, 1 - dir), target
    cdef uint32_t hlen
    pkt_pull_head(p, ICMP_HLEN + IPV4_HLEN)
    if not pkt_find_l4(p, &l4) or l4.len < ICMP_HLEN or not l4_checksum_ok(pkt_l3(p), &l4, l4.len):
        return -NAT_QUOTE_NOT_TRANSLATED
    if l4.at[0] == ICMP_REDIRECT and redirect_translated(ct):
        return -NAT_QUOTE_NOT_TRANSLATED
    if not ct.status & nat_status_bit(manip, dir):
        return 0
    if l4.len < ICMP_HLEN + IPV4_HLEN:
        return -NAT_QUOTE_NOT_TRANSLATED
    hlen = ipv4_hlen(l4.at + ICMP_HLEN)
    if l4.len > ICMP_HLEN + hlen:
        pkt_pull_head(p, ICMP_HLEN + hlen + manip_reach(ct.number, l4.len - ICMP_HLEN - hlen))
    if not manip_packet(l4.at + ICMP_HLEN, l4.len - ICMP_HLEN, ct.number, &other, 1 - manip):
        return -NAT_QUOTE_NOT_TRANSLATED
    st16(l4.at + 2, 0)
    st16(l4.at + 2, csum_bytes(l4.at, l4.len))
    tuple_invert(&target, &other)
    manip_packet(pkt_l3(p), pkt_l3_len(p), 0, &target, manip)
    trace_nat(c, p, manip)
    return 0


cdef inline int nat_icmpv6_error(Core *c, Pkt *p, int manip) noexcept nogil:
    """nf_nat_icmpv6_reply_translation(): as for IPv4, the checksum covers the address outside too. 0 or a drop."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int dir = p.ctinfo >= CTI_REPLY
    cdef L4 l4
    cdef Tuple other = ct_tuple(ct, 1 - dir), target
    cdef L4 inner
    if pkt_find_l4(p, &l4):
        pkt_pull_head(p, behind_header(p, &l4) + ICMP_HLEN + IPV6_HLEN)
    else:
        return -NAT_QUOTE_NOT_TRANSLATED
    if l4.len < ICMP_HLEN + IPV6_HLEN or not l4_checksum_ok(pkt_l3(p), &l4, l4.len):
        return -NAT_QUOTE_NOT_TRANSLATED
    if l4.at[0] == ND_REDIRECT and redirect_translated(ct):
        return -NAT_QUOTE_NOT_TRANSLATED
    if not ct.status & nat_status_bit(manip, dir):
        return 0
    if find_l4(6, l4.at + ICMP_HLEN, l4.len - ICMP_HLEN, &inner):
        pull_for_manip(p, &inner, ct.number)
    if not manip_packet(l4.at + ICMP_HLEN, l4.len - ICMP_HLEN, ct.number, &other, 1 - manip):
        return -NAT_QUOTE_NOT_TRANSLATED
    icmpv6_set_csum(pkt_l3(p), l4.at, l4.len)
    tuple_invert(&target, &other)
    manip_packet(pkt_l3(p), pkt_l3_len(p), IPPROTO_ICMPV6, &target, manip)
    trace_nat(c, p, manip)
    return 0


cdef inline bint is_related_icmp(const Pkt *p) noexcept nogil:
    """Of an error about a connection: is it one of the packet's own family?"""
    cdef L4 l4
    if p.protocol != ETHERTYPE_IPV6:
        return (p.buf + p.l3)[IPV4_PROTO] == IPPROTO_ICMP
    return pkt_find_l4(p, &l4) and l4.proto == IPPROTO_ICMPV6


# ---- choosing a mapping

cdef inline bint port_in_range(const Tuple *t, int manip, const NatRange *r) noexcept nogil:
    cdef uint16_t port = t.sport
    if is_icmp(t.proto) or manip == MANIP_SRC:
        return r.port_min <= port <= r.port_max
    return r.port_min <= t.dport <= r.port_max


cdef inline bint source_in_range(const Tuple *t, const NatRange *r) noexcept nogil:
    if r.has_address and (memcmp(t.src, r.min, 16) < 0 or memcmp(t.src, r.max, 16) > 0):
        return False
    return not r.has_ports or port_in_range(t, MANIP_SRC, r)


cdef inline bint reuse_source_mapping(Ns *ns, const Tuple *orig, Tuple *out, const NatRange *r, int64_t now) noexcept nogil:
    """find_appropriate_src(): the mapping that another connection from the same source has, newest first. One that has expired is gone,
    whether or not anybody has looked at the table since."""
    cdef Ct *other = sources_first(&ns.ct, orig)
    cdef Tuple t
    while other != NULL:
        t = ct_tuple(other, 0)
        if other.status & CTS_CONFIRMED and other.expires <= now:
            other = sources_at(&ns.ct, other.source)
            continue
        if t.family == orig.family and t.proto == orig.proto and t.sport == orig.sport and memcmp(t.src, orig.src, 16) == 0:
            t = ct_tuple(other, 1)
            tuple_invert(out, &t)
            memcpy(out.dst, orig.dst, 16)
            out.dport = orig.dport
            if source_in_range(out, r):
                return True
        other = sources_at(&ns.ct, other.source)
    return False


cdef inline void choose_address(Tuple *t, const NatRange *r, int manip) noexcept nogil:
    """find_best_ips_proto(): spread over the range, whose addresses differ in their last four bytes, by a hash of source and destination."""
    cdef uint8_t *var = &t.src[0] if manip == MANIP_SRC else &t.dst[0]
    cdef int last = 12 if t.family == 6 else 0
    cdef uint64_t h
    cdef uint32_t low = ld32(r.min + last), high = ld32(r.max + last)
    if not r.has_address:
        return
    if low >= high:
        memcpy(var, r.min, 16)
        return
    h = <uint64_t>ld32(t.src + last) << 32 | (0 if r.persistent else ld32(t.dst + last))
    memcpy(var, r.min, 16)
    st32(var + last, low + <uint32_t>(mix64(h) % (<uint64_t>high - low + 1)))


cdef inline bint free_port_range(const Tuple *t, int manip, const NatRange *r, uint32_t *low, uint32_t *span) noexcept nogil:
    """Where a new port or id may lie (nf_nat_l4proto_unique_tuple()); False: it cannot be changed."""
    cdef uint32_t port = t.sport if manip == MANIP_SRC else t.dport
    if r.has_ports:
        low[0] = r.port_min
        span[0] = <uint32_t>r.port_max - r.port_min + 1
    elif is_icmp(t.proto):
        low[0] = 0
        span[0] = 65536
    elif manip == MANIP_DST:
        return False
    elif port < 512:
        low[0] = 1
        span[0] = 511
    elif port < 1024:
        low[0] = 600
        span[0] = 1023 - 600 + 1
    else:
        low[0] = 1024
        span[0] = 65535 - 1024 + 1
    return (t.proto == IPPROTO_TCP or t.proto == IPPROTO_UDP or t.proto == IPPROTO_UDPLITE or t.proto == IPPROTO_SCTP
            or is_icmp(t.proto))


cdef inline void set_port(Tuple *t, int manip, uint32_t port) noexcept nogil:
    if manip == MANIP_SRC or is_icmp(t.proto):
        t.sport = <uint16_t>port
    else:
        t.dport = <uint16_t>port


cdef inline Pin *connection_pin(Ns *ns, const Ct *ct) noexcept nogil:
    cdef Tuple orig = ct_tuple(ct, 0)
    return pin_for(ns, &orig)


cdef inline bint pinned_port(Core *c, Ns *ns, Ct *ct, Tuple *t, int manip, uint32_t low, uint32_t span) noexcept nogil:
    """A pin chooses the port, if the rules would let chance choose it."""
    cdef Pin *pin = connection_pin(ns, ct) if ns.n_pins else NULL
    cdef Tuple wanted = t[0]
    cdef uint32_t port
    if pin == NULL:
        return False
    port = pin.rdport if manip == MANIP_SRC else pin.rsport
    if is_icmp(t.proto):
        port = pin.rsport
    set_port(&wanted, manip, port)
    if port < low or port >= low + span or ct_tuple_taken(&ns.ct, &wanted, ct, c.now):
        return False
    t[0] = wanted
    return True


cdef inline void choose_port(Core *c, Ns *ns, Ct *ct, Tuple *t, const NatRange *r, int manip) noexcept nogil:
    cdef uint32_t low, span, off, attempts, i
    cdef Tuple orig
    if not free_port_range(t, manip, r, &low, &span) or pinned_port(c, ns, ct, t, manip, low, span):
        return
    attempts = span if span < NAT_ATTEMPTS else NAT_ATTEMPTS
    while True:
        off = 0
        if manip == MANIP_SRC or r.random:
            orig = ct_tuple(ct, 0)
            off = <uint32_t>(chance(c, ns, <const uint8_t *>&orig, CT_TUPLE_BYTES, PURPOSE_NAT_PORT) & 0xffff)
        for i in range(attempts):
            set_port(t, manip, low + (off + i) % span)
            if span == 1 or not ct_tuple_taken(&ns.ct, t, ct, c.now):
                return
        if attempts >= span or attempts < 16:
            return
        attempts >>= 1


cdef inline void unique_tuple(Core *c, Ns *ns, Ct *ct, const Tuple *orig, Tuple *t, const NatRange *r, int manip) noexcept nogil:
    """get_unique_tuple(): keep what can be kept, then the address, then the port."""
    if manip == MANIP_SRC and not r.random:
        if source_in_range(orig, r):
            if not ct_tuple_taken(&ns.ct, orig, ct, c.now):
                t[0] = orig[0]
                return
        elif reuse_source_mapping(ns, orig, t, r, c.now) and not ct_tuple_taken(&ns.ct, t, ct, c.now):
            return
    t[0] = orig[0]
    choose_address(t, r, manip)
    if not r.random:
        if r.has_ports:
            if port_in_range(t, manip, r) and (r.port_min == r.port_max or not ct_tuple_taken(&ns.ct, t, ct, c.now)):
                return
        elif not ct_tuple_taken(&ns.ct, t, ct, c.now):
            return
    choose_port(c, ns, ct, t, r, manip)


cdef inline void nat_done(Ct *ct, int manip) noexcept nogil:
    """One half of the mapping stands."""
    ct.status |= CTS_SRC_NAT_DONE if manip == MANIP_SRC else CTS_DST_NAT_DONE


cdef inline void nat_setup(Core *c, Ns *ns, Ct *ct, const NatRange *r, int manip) noexcept nogil:
    """nf_nat_setup_info(): fix one half of the connection's mapping."""
    cdef Tuple current, chosen, reply
    if ct.status & CTS_CONFIRMED:
        return
    reply = ct_tuple(ct, 1)
    tuple_invert(&current, &reply)
    unique_tuple(c, ns, ct, &current, &chosen, r, manip)
    if not tuple_equal(&chosen, &current):
        tuple_invert(&reply, &chosen)
        ct_set_tuple(ct, 1, &reply)
        answers_changed(&ns.ct, ct)
        ct.status |= CTS_SRC_NAT if manip == MANIP_SRC else CTS_DST_NAT
    nat_done(ct, manip)


cdef inline void nat_null(Core *c, Ns *ns, Ct *ct, int manip) noexcept nogil:
    """No rule asks for a translation: the address stays, the port only if nobody else has it."""
    cdef NatRange r
    cdef Tuple reply
    if ct.status & CTS_CONFIRMED:
        return
    if not ct_answers_taken(&ns.ct, ct, c.now):
        nat_done(ct, manip)  # nearly always
        return
    reply = ct_tuple(ct, 1)
    memset(&r, 0, sizeof(NatRange))
    r.has_address = True
    memcpy(r.min, &reply.dst[0] if manip == MANIP_SRC else &reply.src[0], 16)
    memcpy(r.max, r.min, 16)
    nat_setup(c, ns, ct, &r, manip)


# ---- rules

cdef inline RuleTable *pkt_rule_table(Ns *ns, const Pkt *p) noexcept nogil:
    return &ns.rules[p.protocol == ETHERTYPE_IPV6][TABLE_NAT]


cdef inline bint verdict_is_pinned(const RuleTable *t, const Verdict *v, const Pin *pin) noexcept nogil:
    """Does this outcome of the rules lead to the destination that the pin names?"""
    cdef const Rule *rule
    if v.target != T_DNAT:
        return memcmp(pin.rsrc, pin.odst, 16) == 0 and pin.rsport == pin.odport
    rule = rule_of(t, v.rule)
    if rule.has_address and memcmp(rule.to_min, pin.rsrc, 16) != 0:
        return False
    return rule.port_min == 0 or rule.port_min == pin.rsport


cdef inline bint next_fall(Choices *ch) noexcept nogil:
    """The next combination of random outcomes, depth first; False: all have been seen."""
    ch.n_fixed = ch.n
    while ch.n_fixed > 0:
        if ch.fall[ch.n_fixed - 1] and ch.chance[ch.n_fixed - 1] < 1:
            ch.fall[ch.n_fixed - 1] = 0
            return True
        ch.n_fixed -= 1
    return False


cdef inline uint64_t rules_chance(Core *c, Ns *ns, const Ct *ct) noexcept nogil:
    """What the nat rules draw by; each hook draws for a new connection, so it is kept."""
    cdef CtTable *t = &ns.ct
    if t.drawn_for != ct or t.drawn_serial != ct.serial:
        t.drawn_for = ct
        t.drawn_serial = ct.serial
        t.drawn_hash = ct_draw_hash(ct, chance_seed(c, ns, PURPOSE_NAT_RULES))
    return t.drawn_hash


cdef inline uint16_t *nat_draw(Core *c, Ns *ns, const Ct *ct, Choices *ch) noexcept nogil:
    """Chance is asked for a new connection, whether or not a rule will want to know; where that is counted."""
    cdef uint64_t subject = rules_chance(c, ns, ct)
    cdef uint16_t *draws = chance_count(ns, subject)
    choices_draw(ch, subject, draws[0])
    return draws


cdef inline void nat_rules(Core *c, Ns *ns, Ct *ct, const Flow *f, int hook, Pkt *p, Verdict *v) noexcept nogil:
    """Walk the nat chain; random matches fall by the seed, or as the connection's pin wants if they can."""
    cdef Choices ch
    cdef RuleTable *t = pkt_rule_table(ns, p)
    if not (rarely(t.random and ns.n_pins) and pin_decides(c, ns, ct, t, f, hook, p, v)):
        choices_begin(&ch)
        if t.random:
            nat_draw(c, ns, ct, &ch)
        rules_decide(t, hook, f, c.generation, &p.mark, &ch, v)
    c.count.rules_walked += v.walked


cdef inline bint pin_decides(Core *c, Ns *ns, Ct *ct, RuleTable *t, const Flow *f, int hook, Pkt *p, Verdict *v) noexcept nogil:
    """Has the connection a pin, and do the rules allow what it wants? Else chance decides, and the pin is reported."""
    cdef Choices ch
    cdef Pin *pin = connection_pin(ns, ct) if hook == HOOK_PREROUTING or hook == HOOK_OUTPUT else NULL
    cdef uint32_t mark
    if pin == NULL:
        return False
    choices_begin(&ch)
    ch.enumerate = True
    while True:
        ch.n = 0
        mark = p.mark
        rules_decide(t, hook, f, c.generation, &mark, &ch, v)
        if verdict_is_pinned(t, v, pin):
            p.mark = mark
            return True
        if not next_fall(&ch):
            return False


cdef inline bint masquerade_address(Core *c, Ns *ns, const Pkt *p, int out, uint8_t *addr) noexcept nogil:
    """The outgoing device's best address towards the next hop (IPv4) or the destination (IPv6)."""
    cdef const uint8_t *ip = p.buf + p.l3
    memset(addr, 0, 16)
    if p.protocol == ETHERTYPE_IPV6:
        return select_source6(c, ns, out, ip + IPV6_DST, addr)
    return select_address(c, ns, out, &p.dst.gw[0] if p.dst.has_gw else ip + IPV4_DST, SCOPE_UNIVERSE, addr)


cdef inline int nat_apply(Core *c, Ns *ns, Ct *ct, Pkt *p, const Verdict *v, int hook, int out) noexcept nogil:
    """Carry out what the rules said: 0 or a drop."""
    cdef const Glance *rule = v.rule
    cdef int manip = MANIP_DST if hook == HOOK_PREROUTING or hook == HOOK_OUTPUT else MANIP_SRC
    if rarely(v.target == T_DROP):
        c.drop_origin = rule_of(pkt_rule_table(ns, p), rule).origin if rule != NULL else 0
        return -NAT_REFUSED
    if v.target != T_DNAT and v.target != T_SNAT and v.target != T_MASQUERADE:
        nat_null(c, ns, ct, manip)
        return 0
    if manip == MANIP_DST and names_one_end(rule, ct):
        nat_destination(ns, ct, rule)
        return 0
    return nat_range(c, ns, ct, p, v, manip, out)


cdef inline bint names_one_end(const Glance *rule, const Ct *ct) noexcept nogil:
    """Does it translate to just one IPv4 address and port?"""
    return rule.target == T_DNAT and rule.to.end.only and ct.family == 4 and (ct.number == IPPROTO_TCP or ct.number == IPPROTO_UDP)


cdef inline void nat_destination(Ns *ns, Ct *ct, const Glance *rule) noexcept nogil:
    """nat_setup() to an end that leaves nothing to choose."""
    cdef const RuleEnd *end = &rule.to.end
    if ct.status & CTS_CONFIRMED:
        return
    if raw32(ct.address4[1][0]) != raw32(end.address) or ct.port[1][0] != end.port:
        memcpy(ct.address4[1][0], end.address, 4)
        ct.port[1][0] = end.port
        answers_changed(&ns.ct, ct)
        ct.status |= CTS_DST_NAT
    nat_done(ct, MANIP_DST)


cdef inline int nat_range(Core *c, Ns *ns, Ct *ct, Pkt *p, const Verdict *v, int manip, int out) noexcept nogil:
    """Translate to one of those that a rule allows: 0 or a drop."""
    cdef NatRange r
    cdef const Rule *rule = rule_of(pkt_rule_table(ns, p), v.rule)
    cdef uint8_t addr[16]
    memset(&r, 0, sizeof(NatRange))
    r.random = rule.random
    r.persistent = rule.persistent
    r.has_address = rule.has_address
    memcpy(r.min, rule.to_min, 16)
    memcpy(r.max, rule.to_max, 16)
    r.has_ports = rule.port_min != 0
    r.port_min = rule.port_min
    r.port_max = rule.port_max
    if v.target == T_MASQUERADE:
        if ct_family(ct) == 4 and ld32(ct_address(ct, 0, 0)) == 0:
            nat_null(c, ns, ct, manip)
            return 0
        if not masquerade_address(c, ns, p, out, addr):
            return -NAT_NO_MASQUERADE_ADDRESS
        ct.masq_dev = c.dev[out].place + 1
        r.has_address = True
        memcpy(r.min, addr, 16)
        memcpy(r.max, addr, 16)
    nat_setup(c, ns, ct, &r, manip)
    return 0


cdef inline void trace_rule(Core *c, Pkt *p, const char *name, const RuleTable *t, const Verdict *v) noexcept nogil:
    """``detail``: the table, and the rule's number in it, from 0, in the order that ``set_rules`` was given the chains."""
    cdef int i
    cdef EventRecord *ev
    if not rarely(c.tracing == TRACE_STEPS):
        return
    for i in range(v.n_matched):
        ev = log_event(c, p, b"rules", b"rule", rule_of(t, v.matched[i]).origin)
        if ev != NULL:
            snprintf(ev.detail, DETAIL_LEN, b"%s %d", name, rule_number(t, v.matched[i]))


cdef inline int nat_decide(Core *c, Ns *ns, Pkt *p, int hook, int in_dev, int out) noexcept nogil:
    """First packet of a connection at this hook."""
    cdef Flow f
    cdef Verdict v
    cdef int i
    flow_of(c, ns, p, in_dev, out, &f)
    nat_rules(c, ns, <Ct *>p.ct, &f, hook, p, &v)
    for i in range(v.n_recent):
        recent_apply(&ns.recent, &v.recent[i], f.alen, c.now)
    trace_rule(c, p, b"nat", pkt_rule_table(ns, p), &v)
    if seldom(c.tracing) and v.n_matched:
        log_nat_rule(c, p, rule_of(pkt_rule_table(ns, p), v.matched[v.n_matched - 1]).origin)
    return nat_apply(c, ns, <Ct *>p.ct, p, &v, hook, out)


cdef inline int nat_hook(Core *c, Ns *ns, Pkt *p, int hook, int in_dev, int out) noexcept nogil:
    """nf_nat_ipv4_fn(): 0 or a drop."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int manip = MANIP_DST if hook == HOOK_PREROUTING or hook == HOOK_OUTPUT else MANIP_SRC
    cdef int v
    cdef int info
    if ct == NULL:
        return 0
    info = p.ctinfo % CTI_REPLY
    if rarely(info == CTI_RELATED) and is_related_icmp(p):
        v = nat_icmpv6_error(c, p, manip) if p.protocol == ETHERTYPE_IPV6 else nat_icmp_error(c, p, manip)
        return nat_reroute(c, ns, p) if v == 0 and hook == HOOK_OUTPUT else v
    if (info == CTI_NEW or info == CTI_RELATED) and not ct.status & (CTS_SRC_NAT_DONE if manip == MANIP_SRC else CTS_DST_NAT_DONE):
        v = nat_decide(c, ns, p, hook, in_dev, out)
        if v:
            return v
    elif rarely(hook == HOOK_POSTROUTING and ct.masq_dev) and p.ctinfo < CTI_REPLY and ct.masq_dev != c.dev[out].place + 1:
        ct_kill(&ns.ct, ct)
        return -NAT_MASQUERADE_DEVICE_CHANGED
    v = nat_packet(c, p, manip)
    if v == 0 and hook == HOOK_OUTPUT:
        return nat_reroute(c, ns, p)
    return v


cdef inline int nat_reroute(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """A packet of our own whose destination has changed takes another way (ip_route_me_harder())."""
    cdef Ct *ct = <Ct *>p.ct
    cdef int dir = p.ctinfo >= CTI_REPLY
    cdef uint8_t saddr[16]
    if memcmp(ct_address(ct, dir, 1), ct_address(ct, 1 - dir, 0), 16 if ct_family(ct) == 6 else 4) == 0:
        return 0
    memset(saddr, 0, 16)
    if p.protocol == ETHERTYPE_IPV6:
        memcpy(saddr, pkt_l3(p) + IPV6_SRC, 16)
        if route_output6(c, ns, pkt_l3(p) + IPV6_DST, saddr, p.dst.oif, &p.dst):
            return -NAT_NO_ROUTE_AFTER_DNAT
        trace_route_out6(c, p)
        return 0
    memcpy(saddr, pkt_l3(p) + IPV4_SRC, 4)
    if route_output(c, ns, pkt_l3(p) + IPV4_DST, saddr, True, &p.dst):
        return -NAT_NO_ROUTE_AFTER_DNAT
    trace_route_out(c, p)
    return 0
