# Received ARP: net/ipv4/arp.c (arp_rcv(), arp_process()).

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from ext.devices.core cimport (CONF_ARP_ACCEPT, CONF_DROP_GRATUITOUS_ARP, CONF_PROXY_DELAY, EV_TRANSMIT, chance, event_packet, Core, Ns,
                               Dev, pkt_consume, conf_or, conf_max, CONF_FORWARDING, CONF_PROXY_ARP, CONF_ARP_IGNORE, CONF_ROUTE_LOCALNET,
                               CONF_LOCKTIME)
from ext.stages.icmp cimport local_packet
from ext.stages.neighbour cimport neigh_update
from ext.stages.route cimport route_input
from ext.stages.verdict cimport ST_DONE, ST_TRANSMIT, DROPS_ARP
from ext.tables.fib cimport RT_LOCAL, RT_UNICAST, fib_local_type
from ext.tables.neighbour cimport Neigh, neigh_find, neigh_get, NUD_REACHABLE, NUD_STALE
from ext.wire.arp cimport (ARP_HRD, ARP_PRO, ARP_HLN, ARP_PLN, ARP_OP, ARP_SHA, ARP_SPA, ARP_THA, ARP_TPA, ARP_LEN, ARP_FRAME, ARP_REQUEST,
                           ARP_REPLY, ARP_HRD_ETHER, ARP_HRD_IEEE802, arp_write)
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ether cimport mac_equal, ETHERTYPE_IPV4
from ext.wire.ipv4 cimport ipv4_is_multicast, ipv4_is_loopback
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST, TO_OTHERHOST

cdef enum:
    ARP_OTHERHOST = DROPS_ARP
    ARP_TRUNCATED
    ARP_BAD_HEADER
    ARP_BAD_TARGET
    ARP_GRATUITOUS
    PURPOSE_PROXY_DELAY = 5
    JIFFY = 10000000  # ns of the 100 Hz in which sysctls count


cdef inline const char *arp_reason(int r) noexcept nogil:
    if r == ARP_OTHERHOST:
        return b"arp/otherhost\tThe ARP frame is addressed to another host's MAC\tOTHERHOST"
    if r == ARP_TRUNCATED:
        return b"arp/truncated\tThe frame ends inside the ARP message\tPKT_TOO_SMALL"
    if r == ARP_BAD_HEADER:
        return b"arp/bad_header\tHardware type, protocol, address lengths or operation are not those of ARP for IPv4 over Ethernet\tNOT_SPECIFIED"
    if r == ARP_BAD_TARGET:
        return b"arp/bad_target\tThe address asked for is a multicast or loopback one\tNOT_SPECIFIED"
    if r == ARP_GRATUITOUS:
        return b"arp/gratuitous\tA gratuitous ARP message where drop_gratuitous_arp is set\tNOT_SPECIFIED"
    return NULL


cdef inline int arp_check(Core *c, const Dev *d, const Pkt *p) noexcept nogil:
    """0 or a drop."""
    cdef const uint8_t *arp = p.buf + p.l3
    cdef uint32_t hrd
    if p.pkt_type == TO_OTHERHOST:
        return -ARP_OTHERHOST
    if pkt_l3_len(p) < ARP_LEN:
        return -ARP_TRUNCATED
    hrd = ld16(arp + ARP_HRD)
    if arp[ARP_HLN] != 6 or arp[ARP_PLN] != 4 or (hrd != ARP_HRD_ETHER and hrd != ARP_HRD_IEEE802) or ld16(arp + ARP_PRO) != ETHERTYPE_IPV4:
        return -ARP_BAD_HEADER
    if ld16(arp + ARP_OP) != ARP_REQUEST and ld16(arp + ARP_OP) != ARP_REPLY:
        return -ARP_BAD_HEADER
    if ld32(arp + ARP_SPA) == ld32(arp + ARP_TPA) and conf_or(c, d, CONF_DROP_GRATUITOUS_ARP):
        return -ARP_GRATUITOUS
    if ipv4_is_multicast(arp + ARP_TPA) or (ipv4_is_loopback(arp + ARP_TPA) and not conf_or(c, d, CONF_ROUTE_LOCALNET)):
        return -ARP_BAD_TARGET
    return 0


cdef inline void arp_answer(Core *c, Dev *d, const uint8_t *arp, const uint8_t *to_ip, int64_t delay) noexcept nogil:
    """Say that the address asked for is at this device's MAC, now or after ``delay`` ns."""
    cdef Pkt *q = local_packet(c, c.ns[d.ns], ARP_FRAME)
    if q == NULL:
        return
    q.dev = d.id
    arp_write(q, ARP_REPLY, d.mac, arp + ARP_SHA, d.mac, arp + ARP_TPA, arp + ARP_SHA, to_ip)
    if delay:
        event_packet(c, c.now + delay, EV_TRANSMIT, d.id, q)
    else:
        c.run(c, q, ST_TRANSMIT)


cdef inline int64_t proxy_delay(Core *c, Ns *ns, const Dev *d, const Pkt *p) noexcept nogil:
    """Who stands in for others gives the owner time to answer a broadcast (pneigh_enqueue()): up to proxy_delay."""
    cdef int64_t most = <int64_t>d.conf[CONF_PROXY_DELAY] * JIFFY
    if p.pkt_type == TO_HOST or most == 0:
        return 0
    return 1 + <int64_t>(chance(c, ns, p.buf + p.l3, ARP_LEN, PURPOSE_PROXY_DELAY) % <uint64_t>most)


cdef inline bint arp_ignored(Core *c, Ns *ns, const Dev *d, const uint8_t *tip) noexcept nogil:
    """arp_ignore(): 1: only addresses of this very device; 8: nothing at all."""
    cdef int level = conf_max(c, d, CONF_ARP_IGNORE)
    if level == 8:
        return True
    return level >= 1 and fib_local_type(&ns.fib4, tip, d.id) != RT_LOCAL


cdef inline void arp_learn_asker(Core *c, Dev *d, const uint8_t *arp) noexcept nogil:
    """neigh_event_ns(): whoever asks tells its own address."""
    cdef Neigh *n = neigh_get(&d.neigh, arp + ARP_SPA, 4)
    if n != NULL:
        neigh_update(c, d, n, arp + ARP_SHA, NUD_STALE, True, False)


cdef inline bint arp_request_handled(Core *c, Ns *ns, Dev *d, Pkt *p) noexcept nogil:
    """Answer a request for an address of ours, or for one behind us where we are its proxy. False: neither."""
    cdef uint8_t *arp = pkt_l3(p)
    if route_input(c, p, arp + ARP_TPA, arp + ARP_SPA, d.id) < 0 or p.dst.error:
        return False
    if p.dst.type == RT_LOCAL:
        if not arp_ignored(c, ns, d, arp + ARP_TPA):
            arp_learn_asker(c, d, arp)
            arp_answer(c, d, arp, arp + ARP_SPA, 0)
        return True
    if not d.conf[CONF_FORWARDING] or p.dst.type != RT_UNICAST or p.dst.oif == d.id or not conf_or(c, d, CONF_PROXY_ARP):
        return False
    arp_learn_asker(c, d, arp)
    arp_answer(c, d, arp, arp + ARP_SPA, proxy_delay(c, ns, d, p))
    return True


cdef inline void arp_learn(Core *c, Dev *d, Pkt *p) noexcept nogil:
    """Update what we know of the sender; ARP that nobody asked for creates no entry, unless arp_accept says so."""
    cdef uint8_t *arp = pkt_l3(p)
    cdef Neigh *n = neigh_find(&d.neigh, arp + ARP_SPA, 4)
    cdef bint gratuitous, override
    cdef int state = NUD_REACHABLE
    gratuitous = ld32(arp + ARP_SPA) == ld32(arp + ARP_TPA)
    if ld16(arp + ARP_OP) == ARP_REPLY and gratuitous:
        gratuitous = mac_equal(arp + ARP_SHA, arp + ARP_THA)
    if n == NULL and conf_or(c, d, CONF_ARP_ACCEPT) and (gratuitous or ld16(arp + ARP_OP) == ARP_REPLY):
        n = neigh_get(&d.neigh, arp + ARP_SPA, 4)
    if n == NULL:
        return
    override = gratuitous or c.now > n.updated + <int64_t>d.conf[CONF_LOCKTIME] * JIFFY
    if ld16(arp + ARP_OP) != ARP_REPLY or p.pkt_type != TO_HOST:
        state = NUD_STALE
    neigh_update(c, d, n, arp + ARP_SHA, state, override, False)


cdef inline int stage_arp(Core *c, Pkt *p) noexcept nogil:
    cdef Dev *d = c.dev[p.dev]
    cdef Ns *ns = c.ns[d.ns]
    cdef uint8_t *arp = pkt_l3(p)
    cdef int v = arp_check(c, d, p)
    cdef bint request
    if v:
        return v
    request = ld16(arp + ARP_OP) == ARP_REQUEST
    if ld32(arp + ARP_SPA) == 0:
        # duplicate address detection (RFC 5227)
        if request and fib_local_type(&ns.fib4, arp + ARP_TPA, -1) == RT_LOCAL and not arp_ignored(c, ns, d, arp + ARP_TPA):
            arp_answer(c, d, arp, arp + ARP_SPA, 0)
        pkt_consume(c, p)
        return ST_DONE
    if not request or not arp_request_handled(c, ns, d, p):
        arp_learn(c, d, p)
    pkt_consume(c, p)
    return ST_DONE
