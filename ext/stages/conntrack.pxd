# The way of a packet through connection tracking: net/netfilter/nf_conntrack_core.c (nf_conntrack_in(), nf_confirm()).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memcmp
from ext.devices.core cimport Core, Ns, Pin, EventRecord, log_event, ct_release, DETAIL_LEN, SYS_NF_CHECKSUM
from ext.devices.record cimport ASK_CONFIRM, ASK_TRACK, ask_word, rec_ask, rec_refuse, rec_not_again, rec_track
from ext.stages.verdict cimport DROPS_CONNTRACK
from ext.tables.conntrack cimport (ct_closing, ct_early_drop, ct_find, ct_find_key, ct_insert, ct_kill, ct_may_make_room, ct_new, ct_new_plain,
                                   note_free)
from ext.tables.ct_entry cimport (Ct, CtKey, Tuple, ct_hold, ct_tuple, key_hash, tuple_addresses4, tuple_invert, tuple_key,
                                  CTI_ESTABLISHED, CTI_RELATED, CTI_NEW, CTI_REPLY, CTI_UNTRACKED)
from ext.tables.ct_generic cimport ct_generic_packet
from ext.tables.ct_gre cimport ct_gre_packet
from ext.tables.ct_icmp cimport (ct_icmp_class, ct_icmp_packet, ct_icmpv6_class, ct_icmpv6_packet, CT_ICMP_INVALID, CT_ICMP_ERROR,
                                 CT_ICMP_UNTRACKED, ICMP_HEADER)
from ext.tables.ct_sctp cimport ct_sctp_valid, ct_sctp_new, ct_sctp_packet, ct_sctp_checksum_ok
from ext.tables.ct_settings cimport CTV_ACCEPT, CTV_INVALID, CTV_REPEAT, CTV_KILL, CT_KEEP_TIMEOUT, CTS_SEEN_REPLY, CTS_CONFIRMED
from ext.tables.ct_tcp cimport ct_tcp_begin, ct_tcp_packet, ct_tcp_valid
from ext.tables.ct_tuple cimport ct_pkt_to_tuple
from ext.tables.ct_udp cimport ct_udp_valid, ct_udp_packet, ct_udplite_coverage, ct_udplite_packet
from ext.tables.rules cimport HOOK_PREROUTING
from ext.wire.bytes cimport ld16, rarely
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.ipv4 cimport (IPV4_HLEN, IPV4_FRAG, IPV4_PROTO, IPV4_SRC, IPV4_DST, IPV4_OFFSET, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP,
                            IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_GRE, IPPROTO_ICMPV6, ipv4_hlen)
from ext.wire.ipv6 cimport Ipv6Chain, FRAGMENT_OFFSET, IPV6_DST, IPV6_HLEN, IPV6_HOPS, IPV6_SRC, skip_extensions
from ext.wire.packet cimport Pkt, pkt_l3, pkt_pull_head
from ext.wire.text cimport put_address

cdef enum:
    CONNTRACK_TABLE_FULL = DROPS_CONNTRACK
    CONNTRACK_CLASH
    NOT_TRACKED = 0  # results of tracking one packet
    TRACKED = 1
    TRACK_AGAIN = 2
    SCTP_HEADER = 12

cdef struct L4:
    # the layer-4 part of a packet
    uint8_t *at
    uint32_t len
    uint8_t proto
    uint8_t family


cdef inline const char *conntrack_reason(int r) noexcept nogil:
    if r == CONNTRACK_TABLE_FULL:
        return b"conntrack/table_full\tThe connection tracking table is full and no entry may go\tNETFILTER_DROP"
    if r == CONNTRACK_CLASH:
        return b"conntrack/clash\tAnother connection took this tuple while the packet was on its way\tNETFILTER_DROP"
    return NULL


cdef inline int pkt_family(const Pkt *p) noexcept nogil:
    return 6 if p.protocol == ETHERTYPE_IPV6 else 4


cdef inline bint find_l4(int family, const uint8_t *ip, uint32_t n, L4 *l4) noexcept nogil:
    """Where layer 4 begins in ``n`` bytes; False: a later fragment, or there is none (get_l4proto())."""
    cdef Ipv6Chain chain
    cdef uint32_t hlen
    l4.family = <uint8_t>family
    if rarely(family == 6):
        if n < IPV6_HLEN:
            return False
        skip_extensions(ip, n, &chain)
        if chain.broken or chain.frag & FRAGMENT_OFFSET:
            return False
        hlen = chain.at if chain.at < n else n  # a header may say that it ends behind the packet: then layer 4 is empty
        l4.proto = chain.proto
    else:
        hlen = ipv4_hlen(ip)
        if ld16(ip + IPV4_FRAG) & IPV4_OFFSET or hlen > n:
            return False
        l4.proto = ip[IPV4_PROTO]
    l4.at = <uint8_t *>ip + hlen
    l4.len = n - hlen
    return True


cdef inline bint pkt_find_l4(const Pkt *p, L4 *l4) noexcept nogil:
    return find_l4(pkt_family(p), p.buf + p.l3, p.end - p.l3, l4)


cdef inline uint32_t behind_header(const Pkt *p, const L4 *l4) noexcept nogil:
    """Bytes between the IP header without extensions and layer 4, the unit of pkt_pull_head()."""
    cdef const uint8_t *ip = p.buf + p.l3
    return <uint32_t>(l4.at - ip) - (IPV6_HLEN if pkt_family(p) == 6 else ipv4_hlen(ip))


cdef inline bint l4_checksum_ok(const uint8_t *ip, const L4 *l4, uint32_t covered) noexcept nogil:
    """nf_ip_checksum(): TCP and UDP with the pseudo header, everything else over its own bytes; nf_ip6_checksum(): all with it."""
    cdef uint32_t sum = 0
    if l4.family == 6:
        sum = pseudo_sum(ip + IPV6_SRC, ip + IPV6_DST, 16, l4.proto, l4.len)
    elif l4.proto == IPPROTO_TCP or l4.proto == IPPROTO_UDP or l4.proto == IPPROTO_UDPLITE:
        sum = pseudo_sum(ip + IPV4_SRC, ip + IPV4_DST, 4, l4.proto, l4.len)
    return csum_add_bytes(l4.at, covered, sum) == 0xffff


cdef inline bint udplite_checksum_ok(const uint8_t *ip, const L4 *l4, uint32_t covered) noexcept nogil:
    """Connection tracking takes protocol 17 into the pseudo header of UDP-Lite, against RFC 3828 (nf_ip_checksum_partial())."""
    cdef L4 as_udp = l4[0]
    as_udp.proto = IPPROTO_UDP
    return l4_checksum_ok(ip, &as_udp, covered)


cdef inline bint packet_tuple(const uint8_t *ip, const L4 *l4, Tuple *t) noexcept nogil:
    cdef uint16_t sport, dport
    if not ct_pkt_to_tuple(l4.proto, l4.at, <int>l4.len, &sport, &dport):
        return False
    if rarely(l4.family == 6):
        memcpy(t.src, ip + IPV6_SRC, 16)
        memcpy(t.dst, ip + IPV6_DST, 16)
    else:
        tuple_addresses4(t, ip + IPV4_SRC, ip + IPV4_DST)
    t.sport = sport
    t.dport = dport
    t.family = l4.family
    t.proto = l4.proto
    return True


cdef inline void ct_set(Pkt *p, Ct *ct, int info) noexcept nogil:
    p.ct = ct
    p.ctinfo = <uint8_t>info
    ct_hold(ct)


# ---- ICMP errors

cdef inline int track_icmp(Core *c, Ns *ns, Pkt *p, const L4 *l4, int hook) noexcept nogil:
    """nf_conntrack_icmpv4_error(), nf_conntrack_icmpv6_error(): NOT_TRACKED (INVALID), TRACKED (related, or not to be tracked at
    all), or TRACK_AGAIN: a query like any packet."""
    cdef const uint8_t *ip = pkt_l3(p)
    cdef int kind, quote = ICMP_HEADER
    if l4.family == 6:
        kind = ct_icmpv6_class(l4.at, <int>l4.len, ip[IPV6_HOPS], ip + IPV6_SRC, &quote)
    else:
        kind = ct_icmp_class(l4.at, <int>l4.len)
    if kind == CT_ICMP_INVALID:
        return NOT_TRACKED
    if hook == HOOK_PREROUTING and ns.sys[SYS_NF_CHECKSUM] and not l4_checksum_ok(ip, l4, l4.len):
        return NOT_TRACKED
    if kind == CT_ICMP_UNTRACKED:
        p.ctinfo = CTI_UNTRACKED
        return TRACKED
    if kind != CT_ICMP_ERROR:
        return TRACK_AGAIN
    return track_quote(c, ns, p, l4, quote)


cdef inline int track_quote(Core *c, Ns *ns, Pkt *p, const L4 *l4, uint32_t quote) noexcept nogil:
    """nf_conntrack_inet_error(): does the packet quoted at ``quote`` belong to a connection, and is the error for its sender?"""
    cdef const uint8_t *outer_dst = pkt_l3(p) + (IPV6_DST if l4.family == 6 else IPV4_DST)
    cdef uint32_t left = l4.len - quote
    cdef L4 quoted
    cdef Tuple t, inverse
    cdef Ct *found
    cdef int dir
    if l4.len < quote or left < <uint32_t>(IPV6_HLEN if l4.family == 6 else IPV4_HLEN):
        return NOT_TRACKED
    if not find_l4(l4.family, l4.at + quote, left, &quoted):
        return NOT_TRACKED
    if not packet_tuple(l4.at + quote, &quoted, &t) or not tuple_invert(&inverse, &t):
        return NOT_TRACKED
    found = ct_find(&ns.ct, &inverse, c.now, &dir)
    if found == NULL or memcmp(outer_dst, inverse.dst, 16 if l4.family == 6 else 4) != 0:
        return NOT_TRACKED
    ct_set(p, found, CTI_RELATED + (CTI_REPLY if dir else 0))
    return TRACKED


# ---- all other packets

cdef inline bint l4_acceptable(Ns *ns, const Pkt *p, const L4 *l4, int hook, uint32_t *chunks) noexcept nogil:
    """The *_error() functions: what makes a packet INVALID whatever its connection."""
    cdef bint check = hook == HOOK_PREROUTING and ns.sys[SYS_NF_CHECKSUM]
    cdef const uint8_t *ip = p.buf + p.l3
    if l4.proto == IPPROTO_TCP:
        return ct_tcp_valid(l4.at, <int>l4.len) and (not check or l4_checksum_ok(ip, l4, l4.len))
    if not rarely(l4.proto != IPPROTO_UDP):
        if not ct_udp_valid(l4.at, <int>l4.len):
            return False
        return not check or ld16(l4.at + 6) == 0 or l4_checksum_ok(ip, l4, l4.len)
    return rarer_acceptable(ip, l4, check, chunks)


cdef inline bint rarer_acceptable(const uint8_t *ip, const L4 *l4, bint check, uint32_t *chunks) noexcept nogil:
    """The same of all protocols but TCP and UDP."""
    cdef int covered
    if l4.proto == IPPROTO_UDPLITE:
        covered = ct_udplite_coverage(l4.at, <int>l4.len)
        return covered >= 0 and (not check or udplite_checksum_ok(ip, l4, covered))
    if l4.proto == IPPROTO_SCTP:
        if l4.len < 12 or not ct_sctp_valid(l4.at, <int>l4.len, chunks):
            return False
        return not check or ct_sctp_checksum_ok(l4.at, <int>l4.len)
    return l4.family == 6 or l4.proto != IPPROTO_ICMPV6


cdef inline Ct *lookup_or_new(Core *c, Ns *ns, Pkt *p, const Tuple *t, bint *full) noexcept nogil:
    """resolve_normal_ct(): the packet's entry, held by the packet; NULL: none can be made."""
    cdef int dir
    cdef CtKey key = tuple_key(t)
    cdef uint64_t hash = key_hash(&key)
    cdef Ct *ct = ct_find_key(&ns.ct, &key, hash, c.now, &dir)
    cdef Tuple reply
    cdef bint plain
    if ct != NULL:
        if dir:
            ct_set(p, ct, CTI_ESTABLISHED + CTI_REPLY)
        else:
            ct_set(p, ct, CTI_ESTABLISHED if ct.status & CTS_SEEN_REPLY else CTI_NEW)
        return ct
    plain = t.family == 4 and (t.proto == IPPROTO_TCP or t.proto == IPPROTO_UDP)
    if rarely(not plain) and not tuple_invert(&reply, t):
        return NULL
    if rarely(ns.ct.count >= ns.ct.max) and not ct_early_drop(&ns.ct, c.now):
        full[0] = True
        return NULL
    ct = ct_new(&ns.ct, t, &reply) if rarely(not plain) else ct_new_plain(&ns.ct, t)
    if rarely(ct == NULL):
        c.out_of_memory = True
        return NULL
    note_free(&ns.ct, ct, 0, hash)
    p.ct = ct
    p.ctinfo = CTI_NEW
    return ct


cdef inline int track_l4(Core *c, Ns *ns, Ct *ct, int dir, const L4 *l4, uint32_t chunks, int64_t *timeout) noexcept nogil:
    """nf_conntrack_handle_packet(): a CTV_* verdict."""
    cdef bint fresh = not (ct.status & CTS_CONFIRMED)
    cdef int64_t left = ct.expires - c.now
    timeout[0] = CT_KEEP_TIMEOUT
    if l4.proto == IPPROTO_TCP:
        if fresh:
            return ct_tcp_begin(&ct.proto.tcp, l4.at, <int>l4.len, &ns.ct.set, left, &ct.status, timeout)
        return ct_tcp_packet(&ct.proto.tcp, dir, l4.at, <int>l4.len, &ns.ct.set, left, &ct.status, timeout)
    if not rarely(l4.proto != IPPROTO_UDP):
        return ct_udp_packet(&ct.proto.udp, c.now, &ns.ct.set, &ct.status, timeout)
    return track_rarer(ns, ct, fresh, dir, l4, chunks, timeout)


cdef inline int track_rarer(Ns *ns, Ct *ct, bint fresh, int dir, const L4 *l4, uint32_t chunks, int64_t *timeout) noexcept nogil:
    """track_l4() of all protocols but TCP and UDP."""
    if l4.proto == IPPROTO_UDPLITE:
        return ct_udplite_packet(&ns.ct.set, &ct.status, timeout)
    if l4.proto == IPPROTO_ICMP:
        return ct_icmp_packet(l4.family, ct.port[0][1] >> 8, &ns.ct.set, timeout)
    if l4.proto == IPPROTO_ICMPV6:
        return ct_icmpv6_packet(l4.family, ct.port[0][1] >> 8, &ns.ct.set, ct.status, timeout)
    if l4.proto == IPPROTO_SCTP:
        if fresh and not ct_sctp_new(&ct.proto.sctp, l4.at, <int>l4.len, chunks):
            return CTV_INVALID
        return ct_sctp_packet(&ct.proto.sctp, dir, l4.at, <int>l4.len, chunks, &ns.ct.set, &ct.status, timeout)
    if l4.proto == IPPROTO_GRE:
        return ct_gre_packet(&ct.proto.gre, &ns.ct.set, &ct.status, timeout)
    return ct_generic_packet(&ns.ct.set, timeout)


cdef inline bint track_repeats(int proto) noexcept nogil:
    """Are packets of a connection that stands tracked by what they are alone, so that the flow cache can follow (ext/fast/track.pxd)?"""
    return proto != IPPROTO_SCTP and proto != IPPROTO_UDPLITE and proto != IPPROTO_ICMP and proto != IPPROTO_ICMPV6


cdef inline int track_once(Core *c, Ns *ns, Pkt *p, const L4 *l4, const Tuple *t, uint32_t chunks, bint *full) noexcept nogil:
    cdef Ct *ct = lookup_or_new(c, ns, p, t, full)
    if ct == NULL:
        rec_refuse(&c.rec)
        return NOT_TRACKED
    return track_seen(c, ns, p, ct, l4, chunks)


cdef inline int track_seen(Core *c, Ns *ns, Pkt *p, Ct *ct, const L4 *l4, uint32_t chunks) noexcept nogil:
    """The packet's entry sees it."""
    cdef int64_t timeout
    cdef int verdict
    cdef uint32_t was
    cdef bint stays
    was = ct.status
    stays = not ct_may_make_room(ct)
    verdict = track_l4(c, ns, ct, p.ctinfo >= CTI_REPLY, l4, chunks, &timeout)
    if rarely(stays and ct_may_make_room(ct)):
        ct_closing(&ns.ct)
    if timeout != CT_KEEP_TIMEOUT:
        ct.expires = timeout + (c.now if ct.status & CTS_CONFIRMED else 0)
    if rarely(verdict == CTV_KILL):
        ct_kill(&ns.ct, ct)
    if rarely(verdict == CTV_REPEAT):
        ct_kill(&ns.ct, ct)
        ct_release(c, p)
        return TRACK_AGAIN
    if rarely(verdict == CTV_INVALID):
        rec_refuse(&c.rec)
        ct_release(c, p)
        return NOT_TRACKED
    if p.ctinfo == CTI_ESTABLISHED + CTI_REPLY:
        ct.status |= CTS_SEEN_REPLY
    if verdict == CTV_ACCEPT and was == ct.status and was & CTS_CONFIRMED and track_repeats(l4.proto):
        rec_track(&c.rec, p, ct, ns, p.ctinfo >= CTI_REPLY, l4.proto)
    elif verdict == CTV_ACCEPT:
        rec_not_again(&c.rec)
    else:
        rec_refuse(&c.rec)
    return TRACKED


cdef inline int conntrack_in(Core *c, Ns *ns, Pkt *p, int hook) noexcept nogil:
    """Find or begin the packet's connection: 0, or a drop. A packet without a connection afterwards is INVALID."""
    cdef L4 l4
    cdef Tuple t
    cdef uint32_t chunks = 0
    cdef bint full = False
    cdef int res = TRACK_AGAIN
    if p.ct != NULL or p.ctinfo == CTI_UNTRACKED:
        return 0  # seen before: looped back, or an error about a tracked packet
    if not pkt_find_l4(p, &l4):
        return 0
    if rarely(l4.proto == (IPPROTO_ICMPV6 if l4.family == 6 else IPPROTO_ICMP)):
        res = track_icmp(c, ns, p, &l4, hook)
    if rarely(l4.proto == IPPROTO_SCTP) and hook == HOOK_PREROUTING and ns.sys[SYS_NF_CHECKSUM]:
        pkt_pull_head(p, behind_header(p, &l4) + SCTP_HEADER)  # sctp_error() wants it writable
    if res == TRACK_AGAIN and l4_acceptable(ns, p, &l4, hook, &chunks) and packet_tuple(pkt_l3(p), &l4, &t):
        while res == TRACK_AGAIN:
            res = track_once(c, ns, p, &l4, &t, chunks, &full)
    if rarely(p.ct == NULL):
        rec_refuse(&c.rec)
    else:
        rec_ask(&c.rec, p, ASK_TRACK, ns, ask_word(hook, p.ctinfo, -1, -1))
    trace_conntrack(c, p)
    return -CONNTRACK_TABLE_FULL if rarely(full) else 0


cdef inline const char *state_word(const Pkt *p) noexcept nogil:
    if p.ctinfo % CTI_REPLY == CTI_RELATED:
        return b"RELATED"
    return b"ESTABLISHED" if p.ctinfo % CTI_REPLY == CTI_ESTABLISHED else b"NEW"


cdef inline void trace_conntrack(Core *c, Pkt *p) noexcept nogil:
    """State, direction, and the original tuple of the connection."""
    cdef EventRecord *ev
    cdef Tuple t
    cdef int n
    if not rarely(c.tracing):
        return
    ev = log_event(c, p, b"conntrack", b"conntrack", 0)
    if ev == NULL:
        return
    if p.ct == NULL:
        snprintf(ev.detail, DETAIL_LEN, b"UNTRACKED" if p.ctinfo == CTI_UNTRACKED else b"INVALID")
        return
    t = ct_tuple(<Ct *>p.ct, 0)
    n = snprintf(ev.detail, DETAIL_LEN, b"%s %s, ", state_word(p), b"reply" if p.ctinfo >= CTI_REPLY else b"original")
    put_tuple(ev.detail + n, DETAIL_LEN - n, &t)


cdef inline int put_end(char *to, int room, const uint8_t *addr, int family, bint with_port, int port) noexcept nogil:
    """Address and port, IPv6 addresses in brackets then (RFC 5952 6)."""
    cdef int n = 0
    if not with_port:
        return put_address(to, room, addr, family)
    if family == 6:
        n += snprintf(to, room, b"[")
    n += put_address(to + n, room - n, addr, family)
    return n + snprintf(to + n, room - n, b"]:%d" if family == 6 else b":%d", port)


cdef inline void put_tuple(char *to, int room, const Tuple *t) noexcept nogil:
    cdef bint icmp = is_icmp(t.proto)
    cdef int n = put_end(to, room, t.src, t.family, not icmp, t.sport)
    n += snprintf(to + n, room - n, b" > ")
    n += put_end(to + n, room - n, t.dst, t.family, not icmp, t.dport)
    if icmp:
        snprintf(to + n, room - n, b" ICMP%s type %d code %d id %d", b"v6" if t.family == 6 else b"", t.dport >> 8, t.dport & 0xff, t.sport)
    else:
        snprintf(to + n, room - n, b" proto %d", t.proto)


cdef inline bint is_icmp(int proto) noexcept nogil:
    return proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6


# ---- pins and confirmation

cdef inline Pin *pin_for(Ns *ns, const Tuple *t) noexcept nogil:
    """The first unused pin for this original tuple; of ICMP queries the id alone counts."""
    cdef int i
    cdef Pin *pin
    for i in range(ns.n_pins):
        pin = &ns.pins[i]
        if (not pin.used and pin.proto == t.proto and pin.osport == t.sport
                and (pin.odport == t.dport or is_icmp(t.proto)) and memcmp(pin.osrc, t.src, 16) == 0 and memcmp(pin.odst, t.dst, 16) == 0):
            return pin
    return NULL


cdef inline void pin_settle(Ns *ns, const Ct *ct) noexcept nogil:
    """The connection stands: was it translated as its pin wants?"""
    cdef Tuple t, r
    cdef Pin *pin
    t = ct_tuple(ct, 0)
    r = ct_tuple(ct, 1)
    pin = pin_for(ns, &t)
    if pin == NULL:
        return
    pin.used = True
    pin.kept = (r.sport == pin.rsport and (r.dport == pin.rdport or is_icmp(r.proto)) and memcmp(pin.rsrc, r.src, 16) == 0
                 and memcmp(pin.rdst, r.dst, 16) == 0)


cdef inline int conntrack_confirm(Core *c, Ns *ns, Pkt *p) noexcept nogil:
    """The packet got through: its connection, if new, enters the table. 0 or a drop."""
    cdef Ct *ct = <Ct *>p.ct
    if ct == NULL:
        return 0
    rec_ask(&c.rec, p, ASK_CONFIRM, ns, 0)
    if ct.status & CTS_CONFIRMED or p.ctinfo >= CTI_REPLY:
        return 0
    return connection_enters(c, ns, ct)


cdef inline int connection_enters(Core *c, Ns *ns, Ct *ct) noexcept nogil:
    if not ct_insert(&ns.ct, ct, c.now):
        return -CONNTRACK_CLASH
    if rarely(ns.n_pins):
        pin_settle(ns, ct)
    return 0
