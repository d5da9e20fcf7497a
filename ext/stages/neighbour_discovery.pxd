# Received Neighbour Discovery messages (RFC 4861): net/ipv6/ndisc.c (ndisc_rcv()).
#
# Routers neither follow redirects nor take anything but the router's MAC from advertisements, and hosts here take no
# configuration from them: addresses and routes are given.

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcmp
from ext.devices.core cimport (Core, Ns, Dev, pkt_clone, chance, event_packet, pkt_ns, neigh_conf, pkt_consume, CONF6_FORCE_TLLAO,
                               CONF6_FORWARDING, CONF6_PROXY_NDP, CONF_PROXY_DELAY, EV_STAGE)
from ext.stages.nd_messages cimport (ND_ADVERTISEMENT, ND_OPTIONS, ND_ROUTER_ADVERTISEMENT, ND_ROUTER_SOLICITATION, ND_SOLICITATION,
                                     ND_SOURCE_LINK_ADDRESS, ND_TARGET, ND_TARGET_LINK_ADDRESS, NA_OVERRIDE, NA_ROUTER, NA_SOLICITED,
                                     ND_HOPS, send_advertisement)
from ext.stages.neighbour cimport neigh_update
from ext.stages.route_ipv6 cimport is_anycast, is_own_address6
from ext.stages.verdict cimport ST_DONE, ST_PROXIED_SOLICITATION, DROPS_NEIGHBOUR_DISCOVERY
from ext.tables.neighbour cimport Neigh, neigh_find, neigh_get, NUD_FAILED, NUD_REACHABLE, NUD_STALE
from ext.wire.ipv6 cimport IPV6_HOPS, IPV6_SRC, IPV6_DST, ipv6_is_link_local, ipv6_is_multicast, ipv6_is_unspecified
from ext.wire.packet cimport Pkt, pkt_l3, pkt_l3_len, TO_HOST

cdef enum:
    ND_NOT_FROM_LINK = DROPS_NEIGHBOUR_DISCOVERY
    ND_BAD_MESSAGE
    ND_BAD_OPTIONS
    ND_FRAGMENTED
    ND_IGNORED
    ND_OWN_ADDRESS
    RS_OPTIONS = 8
    RA_OPTIONS = 16
    PURPOSE_ND_PROXY_DELAY = 7
    ND_JIFFY = 10000000  # ns of the 100 Hz in which sysctls count


cdef inline const char *nd_reason(int r) noexcept nogil:
    if r == ND_NOT_FROM_LINK:
        return b"neighbour_discovery/not_from_link\tA hop limit other than 255 or a code other than 0: it may come from elsewhere\tIPV6_NDISC_HOP_LIMIT"
    if r == ND_BAD_MESSAGE:
        return b"neighbour_discovery/bad_message\tToo short, a target or destination that cannot be, or flags that contradict it\tNOT_SPECIFIED"
    if r == ND_BAD_OPTIONS:
        return b"neighbour_discovery/bad_options\tIts options do not fill it, or a link-layer address is not one of Ethernet\tIPV6_NDISC_BAD_OPTIONS"
    if r == ND_FRAGMENTED:
        return b"neighbour_discovery/fragmented\tNeighbour Discovery in fragments is ignored (RFC 6980)\tIPV6_NDISC_FRAG"
    if r == ND_IGNORED:
        return b"neighbour_discovery/ignored\tA message that this namespace has no use for\tNOT_SPECIFIED"
    if r == ND_OWN_ADDRESS:
        return b"neighbour_discovery/own_address\tSomebody else advertises an address of ours\tNOT_SPECIFIED"
    return NULL


cdef inline bint nd_options(const uint8_t *icmp, uint32_t n, uint32_t at, int type, const uint8_t **mac) noexcept nogil:
    """ndisc_parse_options(): the first link-layer address option of this type, or NULL. False: they are broken."""
    cdef uint32_t size
    mac[0] = NULL
    while at < n:
        if n - at < 2:
            return False
        size = <uint32_t>icmp[at + 1] * 8
        if size == 0 or size > n - at:
            return False
        if icmp[at] == type and mac[0] == NULL:
            if size != 8:
                return False
            mac[0] = icmp + at + 2
        at += size
    return True


cdef inline void learn_sender(Core *c, Dev *d, const uint8_t *saddr, const uint8_t *mac) noexcept nogil:
    cdef Neigh *n = neigh_get(&d.neigh, saddr, 16)
    if n != NULL:
        neigh_update(c, d, n, mac, NUD_STALE, True, True)


cdef inline bint stands_in(Core *c, Ns *ns, const Dev *d, const uint8_t *target) noexcept nogil:
    """Does the device answer for an address in another's place (pndisc_is_router())?"""
    return (d.conf[CONF6_FORWARDING] and (ns.conf_all[CONF6_PROXY_NDP] or d.conf[CONF6_PROXY_NDP])
            and neigh_find(&d.proxies, target, 16) != NULL)


cdef inline bint is_solicited_node(const uint8_t *a) noexcept nogil:
    return memcmp(a, b"\xff\x02\0\0\0\0\0\0\0\0\0\x01\xff", 13) == 0


cdef inline int64_t nd_proxy_delay(Core *c, Ns *ns, const Dev *d, const Pkt *p) noexcept nogil:
    """Who answers in another's place, or together with others, waits up to proxy_delay (RFC 4861 7.2.8)."""
    cdef int64_t most = <int64_t>neigh_conf(d, 16, CONF_PROXY_DELAY) * ND_JIFFY
    if p.pkt_type == TO_HOST or not ipv6_is_multicast(pkt_l3(p) + IPV6_DST) or most == 0:
        return 0
    return 1 + <int64_t>(chance(c, ns, pkt_l3(p), 40, PURPOSE_ND_PROXY_DELAY) % <uint64_t>most)


cdef inline int check_solicitation(const uint8_t *ip, const uint8_t *icmp, uint32_t n, const uint8_t **mac) noexcept nogil:
    """0 or a drop; ``mac``: the asker's, NULL if it does not say."""
    cdef bint detection = ipv6_is_unspecified(ip + IPV6_SRC)
    if n < ND_OPTIONS or ipv6_is_multicast(icmp + ND_TARGET):
        return -ND_BAD_MESSAGE
    if detection and not is_solicited_node(ip + IPV6_DST):
        return -ND_BAD_MESSAGE
    if not nd_options(icmp, n, ND_OPTIONS, ND_SOURCE_LINK_ADDRESS, mac):
        return -ND_BAD_OPTIONS
    return -ND_BAD_OPTIONS if detection and mac[0] != NULL else 0


cdef inline int nd_solicitation(Core *c, Ns *ns, Pkt *p, const uint8_t *icmp, uint32_t n, bint waited) noexcept nogil:
    """ndisc_recv_ns(): 0 or a drop. ``waited``: for the second time, after the delay of those who stand in."""
    cdef Dev *d = c.dev[p.dev]
    cdef const uint8_t *ip = pkt_l3(p)
    cdef const uint8_t *mac
    cdef int v = check_solicitation(ip, icmp, n, &mac)
    cdef int router = NA_ROUTER if d.conf[CONF6_FORWARDING] else 0
    cdef bint own
    cdef int64_t delay
    if v:
        return v
    own = is_own_address6(c, ns, icmp + ND_TARGET, d.id, True)
    if not own and not is_anycast(ns, icmp + ND_TARGET, d.id):
        if not stands_in(c, ns, d, icmp + ND_TARGET):
            return -ND_IGNORED
        router = 0
    delay = 0 if own or waited else nd_proxy_delay(c, ns, d, p)
    if delay:
        later(c, p, delay)
        return 0
    answer_solicitation(c, ns, d, ip, icmp + ND_TARGET, mac, own, router)
    return 0


cdef inline void later(Core *c, Pkt *p, int64_t delay) noexcept nogil:
    cdef Pkt *q = pkt_clone(c, p)
    if q != NULL:
        event_packet(c, c.now + delay, EV_STAGE, ST_PROXIED_SOLICITATION, q)


cdef inline void answer_solicitation(Core *c, Ns *ns, Dev *d, const uint8_t *ip, const uint8_t *target, const uint8_t *mac, bint own,
                                     int router) noexcept nogil:
    """To all nodes if the asker is looking for a duplicate, else to the asker, whose address is learned."""
    cdef bint group = ipv6_is_multicast(ip + IPV6_DST)
    if ipv6_is_unspecified(ip + IPV6_SRC):
        send_advertisement(c, d, b"\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", target, router | (NA_OVERRIDE if own else 0), True)
        return
    if group and mac == NULL and neigh_find(&d.neigh, ip + IPV6_SRC, 16) == NULL:
        return
    learn_sender(c, d, ip + IPV6_SRC, mac)
    send_advertisement(c, d, ip + IPV6_SRC, target, router | NA_SOLICITED | (NA_OVERRIDE if own and group else 0),
                       group or (own and d.conf[CONF6_FORCE_TLLAO]))


cdef inline int nd_advertisement(Core *c, Ns *ns, Pkt *p, const uint8_t *icmp, uint32_t n) noexcept nogil:
    """ndisc_recv_na(): 0 or a drop."""
    cdef Dev *d = c.dev[p.dev]
    cdef const uint8_t *mac
    cdef Neigh *known
    if n < ND_OPTIONS or ipv6_is_multicast(icmp + ND_TARGET):
        return -ND_BAD_MESSAGE
    if ipv6_is_multicast(pkt_l3(p) + IPV6_DST) and icmp[4] & NA_SOLICITED:
        return -ND_BAD_MESSAGE
    if not nd_options(icmp, n, ND_OPTIONS, ND_TARGET_LINK_ADDRESS, &mac):
        return -ND_BAD_OPTIONS
    if is_own_address6(c, ns, icmp + ND_TARGET, d.id, True):
        return -ND_OWN_ADDRESS
    known = neigh_find(&d.neigh, icmp + ND_TARGET, 16)
    if known == NULL or known.state & NUD_FAILED:
        return -ND_IGNORED
    if mac != NULL and memcmp(mac, d.mac, 6) == 0 and ns.conf_all[CONF6_FORWARDING] and ns.conf_all[CONF6_PROXY_NDP]:
        if neigh_find(&d.proxies, icmp + ND_TARGET, 16) != NULL:
            return -ND_IGNORED  # our own word on another's behalf has come back
    neigh_update(c, d, known, mac, NUD_REACHABLE if icmp[4] & NA_SOLICITED else NUD_STALE, (icmp[4] & NA_OVERRIDE) != 0, True)
    return 0


cdef inline int nd_router_message(Core *c, Pkt *p, const uint8_t *icmp, uint32_t n) noexcept nogil:
    """ndisc_recv_rs(), ndisc_router_discovery(): the sender's MAC is learned. 0 or a drop."""
    cdef Dev *d = c.dev[p.dev]
    cdef const uint8_t *saddr = pkt_l3(p) + IPV6_SRC
    cdef bint solicitation = icmp[0] == ND_ROUTER_SOLICITATION
    cdef uint32_t at = RS_OPTIONS if solicitation else RA_OPTIONS
    cdef const uint8_t *mac
    if n < at or (not solicitation and not ipv6_is_link_local(saddr)):
        return -ND_BAD_MESSAGE
    if solicitation and (not d.conf[CONF6_FORWARDING] or ipv6_is_unspecified(saddr)):
        return -ND_IGNORED
    if not nd_options(icmp, n, at, ND_SOURCE_LINK_ADDRESS, &mac):
        return -ND_BAD_OPTIONS
    learn_sender(c, d, saddr, mac)
    return 0


cdef inline int nd_receive(Core *c, Pkt *p, const uint8_t *icmp, uint32_t n) noexcept nogil:
    """ndisc_rcv(): ST_DONE or a drop; ``icmp``: the ``n`` bytes of the message."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef int v
    if p.frag_max_size:
        return -ND_FRAGMENTED
    if pkt_l3(p)[IPV6_HOPS] != ND_HOPS or icmp[1] != 0:
        return -ND_NOT_FROM_LINK
    if icmp[0] == ND_SOLICITATION:
        v = nd_solicitation(c, ns, p, icmp, n, False)
    elif icmp[0] == ND_ADVERTISEMENT:
        v = nd_advertisement(c, ns, p, icmp, n)
    elif icmp[0] == ND_ROUTER_SOLICITATION or icmp[0] == ND_ROUTER_ADVERTISEMENT:
        v = nd_router_message(c, p, icmp, n)
    else:
        v = -ND_IGNORED
    if v == 0:
        pkt_consume(c, p)
    return v


cdef inline int stage_proxied_solicitation(Core *c, Pkt *p) noexcept nogil:
    """The delay is over (pndisc_redo())."""
    cdef int v = nd_solicitation(c, pkt_ns(c, p), p, pkt_l3(p) + p.payload_at, pkt_l3_len(p) - p.payload_at, True)
    if v == 0:
        pkt_consume(c, p)
        return ST_DONE
    return v
