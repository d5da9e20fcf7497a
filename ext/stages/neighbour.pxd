# From next hop to MAC address: net/core/neighbour.c, net/ipv4/arp.c, ip_output.c (ip_finish_output2()), ip6_output.c (ip6_finish_output2()).

from libc.stdint cimport uint8_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset
from ext.devices.core cimport (CONF_ARP_ANNOUNCE, conf_max, Core, Ns, Dev, EventRecord, carries_frames, neigh_conf, event_timer,
                               log_event, EV_NEIGH, DETAIL_LEN, CONF_RETRANS_TIME_MS, CONF_BASE_REACHABLE_TIME_MS, CONF_MCAST_SOLICIT,
                               CONF_UCAST_SOLICIT, CONF_DELAY_FIRST_PROBE_TIME, DEV_LO)
from ext.devices.queue cimport Timer
from ext.devices.record cimport STEP_BARE, STEP_ETHER, STEP_NEIGH, rec_bytes, rec_note, rec_refuse
from ext.stages.icmpv6 cimport icmpv6_send, ICMPV6_UNREACHABLE, ADDRESS_UNREACHABLE
from ext.stages.nd_messages cimport nd_solicit
from ext.stages.icmp cimport icmp_send, local_packet, ICMP_DEST_UNREACH, UNREACH_HOST
from ext.stages.route cimport in_subnet, is_own_address, select_address
from ext.stages.verdict cimport ST_DONE, ST_TRANSMIT, DROPS_NEIGHBOUR
from ext.tables.fib cimport RT_BROADCAST, RT_MULTICAST, SCOPE_LINK
from ext.tables.neighbour cimport (Neigh, neigh_get, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_FAILED,
                                   NUD_CONNECTED, NUD_VALID, NUD_PERMANENT, NUD_NOARP, NEIGH_QUEUE_MAX)
from ext.wire.arp cimport arp_write, ARP_FRAME, ARP_REQUEST
from ext.wire.bytes cimport rarely, st16
from ext.wire.ether cimport mac_equal, ETH_HLEN, ETH_DST, ETH_SRC, ETH_TYPE, ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_SRC, IPV4_DST, IPV4_HLEN, ipv4_hlen
from ext.wire.ipv6 cimport IPV6_DST
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l2, pkt_push_room
from ext.wire.text cimport put_address

cdef enum:
    NEIGHBOUR_UNRESOLVED = DROPS_NEIGHBOUR
    NEIGHBOUR_QUEUE_FULL
    NEIGHBOUR_TABLE_FULL
    MS = 1000000


cdef inline const char *neighbour_reason(int r) noexcept nogil:
    if r == NEIGHBOUR_UNRESOLVED:
        return b"neighbour/unresolved\tNobody answered for the next hop's address\tNEIGH_FAILED"
    if r == NEIGHBOUR_QUEUE_FULL:
        return b"neighbour/queue_full\tToo many packets wait for the next hop's MAC address\tNEIGH_QUEUEFULL"
    if r == NEIGHBOUR_TABLE_FULL:
        return b"neighbour/table_full\tThe neighbour table of the device is full\tNEIGH_CREATEFAIL"
    return NULL


cdef inline int write_ether(Core *c, Pkt *p, const uint8_t *dst) noexcept nogil:
    """Put an Ethernet header before the packet; on to the device."""
    cdef uint8_t *eth
    if not pkt_push_room(p, ETH_HLEN):
        c.out_of_memory = True
        return -NEIGHBOUR_TABLE_FULL
    p.l2 = p.l3 - ETH_HLEN
    eth = pkt_l2(p)
    memcpy(eth + ETH_DST, dst, 6)
    memcpy(eth + ETH_SRC, c.dev[p.dev].mac, 6)
    st16(eth + ETH_TYPE, p.protocol)
    rec_bytes(&c.rec, p, STEP_ETHER, eth, ETH_HLEN, 0)
    return ST_TRANSMIT


cdef inline void neigh_becomes(Core *c, Neigh *n, int state) noexcept nogil:
    """It enters a state, or gets another MAC: who relied on it has to look again."""
    n.state = <uint8_t>state
    c.moves += 1


cdef inline int stage_neighbour(Core *c, Pkt *p) noexcept nogil:
    """ip_finish_output2(). ``p.dev``: the outgoing device, ``p.dst``: the route."""
    cdef Dev *d = c.dev[p.dev]
    cdef uint8_t mac[6]
    cdef int alen = 16 if p.protocol == ETHERTYPE_IPV6 else 4
    cdef const uint8_t *hop = &p.dst.gw[0] if p.dst.has_gw else pkt_l3(p) + (IPV6_DST if alen == 16 else IPV4_DST)
    cdef Neigh *n
    if not carries_frames(d):
        p.l2 = p.l3
        rec_note(&c.rec, p, STEP_BARE, NULL, 0, 0)
        return ST_TRANSMIT
    if d.kind == DEV_LO:
        memset(mac, 0, 6)
        return write_ether(c, p, mac)
    if p.dst.type == RT_BROADCAST:
        memset(mac, 0xff, 6)
        return write_ether(c, p, mac)
    if p.dst.type == RT_MULTICAST and alen == 16:
        mac[0] = mac[1] = 0x33  # RFC 2464 7
        memcpy(mac + 2, hop + 12, 4)
        return write_ether(c, p, mac)
    if p.dst.type == RT_MULTICAST:
        memcpy(mac, b"\x01\x00\x5e", 3)  # RFC 1112 6.4
        mac[3] = hop[1] & 0x7f
        mac[4] = hop[2]
        mac[5] = hop[3]
        return write_ether(c, p, mac)
    n = neigh_get(&d.neigh, hop, alen)
    if n == NULL:
        return -NEIGHBOUR_TABLE_FULL
    return neigh_output(c, d, n, p)


cdef inline int neigh_output(Core *c, Dev *d, Neigh *n, Pkt *p) noexcept nogil:
    """neigh_resolve_output(): send if the address is known, else wait for it."""
    cdef int v
    if n.state & NUD_STALE:
        rec_refuse(&c.rec)
        neigh_becomes(c, n, NUD_DELAY)
        neigh_timer(c, d, n, <int64_t>neigh_conf(d, n.alen, CONF_DELAY_FIRST_PROBE_TIME) * 1000 * MS)
    if n.state & NUD_VALID:
        trace_neighbour(c, p, n)
        if not n.header_cached:
            rec_refuse(&c.rec)
        n.header_cached = True
        rec_note(&c.rec, p, STEP_NEIGH, n, NUD_VALID & ~NUD_STALE, 0)
        return write_ether(c, p, n.mac)
    if n.queued >= NEIGH_QUEUE_MAX:
        return -NEIGHBOUR_QUEUE_FULL
    trace_unknown(c, p, n)
    p.next = NULL
    if n.queue_tail != NULL:
        n.queue_tail.next = p
    else:
        n.queue = p
    n.queue_tail = p
    n.queued += 1
    if n.state != NUD_INCOMPLETE:
        neigh_becomes(c, n, NUD_INCOMPLETE)
        n.probes = 0
        neigh_probe(c, d, n)
    return ST_DONE


cdef inline void trace_neighbour(Core *c, Pkt *p, const Neigh *n) noexcept nogil:
    cdef EventRecord *ev
    cdef int at
    if not rarely(c.tracing):
        return
    ev = log_event(c, p, b"neighbour", b"neighbour", n.origin)
    if ev != NULL:
        at = put_address(ev.detail, DETAIL_LEN, n.addr, 4 if n.alen == 4 else 6)
        snprintf(ev.detail + at, DETAIL_LEN - at, b" is at %02x:%02x:%02x:%02x:%02x:%02x", n.mac[0], n.mac[1], n.mac[2], n.mac[3], n.mac[4],
                 n.mac[5])


cdef inline void trace_unknown(Core *c, Pkt *p, const Neigh *n) noexcept nogil:
    cdef EventRecord *ev = log_event(c, p, b"neighbour", b"neighbour", 0)
    cdef int at
    if ev != NULL:
        at = put_address(ev.detail, DETAIL_LEN, n.addr, 4 if n.alen == 4 else 6)
        snprintf(ev.detail + at, DETAIL_LEN - at, b" is not known: asks for it and waits")


cdef inline void neigh_timer(Core *c, Dev *d, Neigh *n, int64_t delay) noexcept nogil:
    cdef Timer *t = event_timer(c, c.now + delay, EV_NEIGH, d.id)
    n.timer = c.now + delay
    if t != NULL:
        memcpy(t.addr, n.addr, 16)
        t.alen = n.alen


cdef inline void neigh_probe(Core *c, Dev *d, Neigh *n) noexcept nogil:
    """neigh_probe(): one more solicitation, and the timer for the next."""
    n.probes += 1
    neigh_timer(c, d, n, <int64_t>neigh_conf(d, n.alen, CONF_RETRANS_TIME_MS) * MS)
    if n.alen == 4:
        arp_solicit(c, d, n)
    else:
        nd_solicit(c, d, n, n.state == NUD_PROBE)


cdef inline bint may_announce(Core *c, Ns *ns, const Dev *d, const Neigh *n, const uint8_t *src) noexcept nogil:
    """May the question name the waiting packet's source as asker? arp_announce 1: only within the target's subnet, 2: never."""
    cdef int level = conf_max(c, d, CONF_ARP_ANNOUNCE), i
    if level >= 2 or not is_own_address(ns, src):
        return False
    if level == 0:
        return True
    for i in range(d.n_addr):
        if d.addr[i].family == 4 and in_subnet(&d.addr[i], n.addr) and in_subnet(&d.addr[i], src):
            return True
    return False


cdef inline void arp_solicit(Core *c, Dev *d, Neigh *n) noexcept nogil:
    """Ask everybody, or in state PROBE only the known address (arp_solicit())."""
    cdef Ns *ns = c.ns[d.ns]
    cdef uint8_t saddr[16]
    cdef uint8_t to[6]
    cdef Pkt *q
    memset(saddr, 0, 16)
    if n.queue != NULL and may_announce(c, ns, d, n, pkt_l3(n.queue) + IPV4_SRC):
        memcpy(saddr, pkt_l3(n.queue) + IPV4_SRC, 4)
    else:
        select_address(c, ns, d.id, n.addr, SCOPE_LINK, saddr)
    q = local_packet(c, ns, ARP_FRAME)
    if q == NULL:
        return
    memset(to, 0xff, 6)
    if n.state == NUD_PROBE:
        memcpy(to, n.mac, 6)
    q.dev = d.id
    arp_write(q, ARP_REQUEST, d.mac, to, d.mac, saddr, b"\0\0\0\0\0\0", n.addr)
    c.run(c, q, ST_TRANSMIT)


cdef inline void neigh_release_queue(Core *c, Dev *d, Neigh *n) noexcept nogil:
    """The address has become known: what waited is sent, in order."""
    cdef Pkt *p = n.queue
    cdef Pkt *after
    n.queue = n.queue_tail = NULL
    n.queued = 0
    while p != NULL:
        after = p.next
        p.next = NULL
        n.header_cached = True
        trace_neighbour(c, p, n)
        c.run(c, p, write_ether(c, p, n.mac))
        p = after


cdef inline void tell_unreachable(Core *c, Pkt *p) noexcept nogil:
    """arp_error_report(), ndisc_error_report()."""
    if p.protocol == ETHERTYPE_IPV6:
        icmpv6_send(c, p, ICMPV6_UNREACHABLE, ADDRESS_UNREACHABLE, 0)
        return
    if ipv4_hlen(pkt_l3(p)) <= IPV4_HLEN:
        memset(&p.opt, 0, sizeof(p.opt))
    icmp_send(c, p, ICMP_DEST_UNREACH, UNREACH_HOST, 0)


cdef inline Pkt *neigh_dequeue(Neigh *n) noexcept nogil:
    """The packet that has waited longest, or NULL."""
    cdef Pkt *p = n.queue
    if p == NULL:
        return NULL
    n.queue = p.next
    if n.queue == NULL:
        n.queue_tail = NULL
    n.queued -= 1
    p.next = NULL
    return p


cdef inline void neigh_fail(Core *c, Dev *d, Neigh *n) noexcept nogil:
    """neigh_invalidate(): nobody answered; the senders of what waited are told.

    A message to a sender at this very address asks for it anew: then the rest, the message too, is dropped without a word.
    """
    cdef Pkt *p
    neigh_becomes(c, n, NUD_FAILED)
    n.updated = c.now
    n.timer = 0
    while n.state == NUD_FAILED and n.queue != NULL:
        p = neigh_dequeue(n)
        tell_unreachable(c, p)
        c.run(c, p, -NEIGHBOUR_UNRESOLVED)
    while n.queue != NULL:
        c.run(c, neigh_dequeue(n), -NEIGHBOUR_UNRESOLVED)


cdef inline void neigh_due(Core *c, Dev *d, Neigh *n) noexcept nogil:
    """neigh_timer_handler()."""
    if n.timer == 0 or n.timer > c.now:
        return  # a later timer has taken its place
    n.timer = 0
    if n.state == NUD_REACHABLE:
        if c.now - n.confirmed >= <int64_t>neigh_conf(d, n.alen, CONF_BASE_REACHABLE_TIME_MS) * MS:
            neigh_becomes(c, n, NUD_STALE)
        else:
            neigh_timer(c, d, n, n.confirmed + <int64_t>neigh_conf(d, n.alen, CONF_BASE_REACHABLE_TIME_MS) * MS - c.now)
    elif n.state == NUD_DELAY:
        neigh_becomes(c, n, NUD_PROBE)
        n.probes = 0
        neigh_probe(c, d, n)
    elif n.state == NUD_PROBE or n.state == NUD_INCOMPLETE:
        if n.probes >= neigh_conf(d, n.alen, CONF_UCAST_SOLICIT if n.state == NUD_PROBE else CONF_MCAST_SOLICIT):
            neigh_fail(c, d, n)
        else:
            neigh_probe(c, d, n)


cdef inline void neigh_update(Core *c, Dev *d, Neigh *n, const uint8_t *mac, int state, bint override, bint weak) noexcept nogil:
    """neigh_update(): what a message says of a neighbour; ``mac`` NULL: nothing of its address. ``weak``: a known neighbour that
    seems to have another MAC is to be probed soon (NEIGH_UPDATE_F_WEAK_OVERRIDE)."""
    cdef bint known = n.state & NUD_VALID
    cdef bint same = known and (mac == NULL or mac_equal(n.mac, mac))
    if n.state & (NUD_PERMANENT | NUD_NOARP) or (mac == NULL and not known):
        return
    if known and not same and not override:
        if not weak or not n.state & NUD_CONNECTED:
            return
        state = NUD_STALE
    elif same and state == NUD_STALE:
        return  # a weaker word about what we know
    elif mac != NULL:
        memcpy(n.mac, mac, 6)
    n.updated = c.now
    neigh_becomes(c, n, state)
    n.timer = 0
    if state == NUD_REACHABLE:
        n.confirmed = c.now
        neigh_timer(c, d, n, <int64_t>neigh_conf(d, n.alen, CONF_BASE_REACHABLE_TIME_MS) * MS)
    if not known:
        neigh_release_queue(c, d, n)
