# Machines that are described and not made: what lies at the far end of a cable costs nothing until a frame concerns it.
#
# A frame that concerns such a machine makes the world supply it, and goes on as if it had always been there. All others, of which a
# flooded question makes one for every machine of the link, are received by a stand-in: a namespace with the machine's settings and
# nothing in its tables, which for the time of one frame takes the machine's place.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy
from ext.devices.core cimport Core, Dev, Far
from ext.stages.onward_rests cimport onward_rests
from ext.tables.fib cimport Fib
from ext.wire.arp cimport ARP_HRD, ARP_HLN, ARP_LEN, ARP_OP, ARP_PLN, ARP_PRO, ARP_REQUEST, ARP_SPA, ARP_TPA, ARP_HRD_ETHER
from ext.wire.bytes cimport ld16, ld32
from ext.wire.ether cimport (ETH_DST, ETH_HLEN, ETH_TYPE, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, mac_equal, mac_is_broadcast,
                             mac_is_multicast)
from ext.wire.ipv4 cimport ipv4_is_loopback, ipv4_is_multicast
from ext.wire.ipv6 cimport IPV6_DST, IPV6_HLEN
from ext.wire.packet cimport Pkt, pkt_l2

cdef enum:
    GROUP_PREFIX = 13  # bytes of ff02::1:ff00:0/104, RFC 4291 2.7.1


cdef inline bint far_has(const Far *far, const uint8_t *address, int alen) noexcept nogil:
    cdef int i
    for i in range(far.n_addr):
        if far.addr[i].alen == alen and memcmp(far.addr[i].addr, address, alen) == 0:
            return True
    return False


cdef inline bint far_asked(const Far *far, const uint8_t *arp, uint32_t length) noexcept nogil:
    """Could this ARP message be more to the machine than a question to somebody else?"""
    if length < ARP_LEN or ld16(arp + ARP_HRD) != ARP_HRD_ETHER or ld16(arp + ARP_PRO) != ETHERTYPE_IPV4 or arp[ARP_HLN] != 6:
        return True
    if arp[ARP_PLN] != 4 or ld16(arp + ARP_OP) != ARP_REQUEST or ld32(arp + ARP_SPA) == 0 or ld32(arp + ARP_SPA) == ld32(arp + ARP_TPA):
        return True
    if ipv4_is_multicast(arp + ARP_TPA) or ipv4_is_loopback(arp + ARP_TPA):
        return True
    return far_has(far, arp + ARP_TPA, 4) or far_has(far, arp + ARP_SPA, 4)


cdef inline bint far_in_group(const Far *far, const uint8_t *group) noexcept nogil:
    """Is it a group in which the machine may be? The solicited-node groups of others are not."""
    cdef uint8_t *prefix = b"\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff"
    cdef int i
    if memcmp(group, prefix, GROUP_PREFIX) != 0:
        return True
    for i in range(far.n_addr):
        if far.addr[i].alen == 16 and memcmp(far.addr[i].addr + GROUP_PREFIX, group + GROUP_PREFIX, 3) == 0:
            return True
    return False


cdef inline bint far_concerned(const Far *far, const Pkt *p) noexcept nogil:
    """Must the machine be there to receive this frame?"""
    cdef const uint8_t *eth = pkt_l2(p)
    cdef uint32_t length = p.end - p.l2 - ETH_HLEN
    cdef uint16_t kind = ld16(eth + ETH_TYPE)
    if far.always or mac_equal(eth + ETH_DST, far.mac):
        return True
    if mac_is_broadcast(eth + ETH_DST):
        return kind != ETHERTYPE_ARP or far_asked(far, eth + ETH_HLEN, length)
    if mac_is_multicast(eth + ETH_DST):
        return kind != ETHERTYPE_IPV6 or length < IPV6_HLEN or far_in_group(far, eth + ETH_HLEN + IPV6_DST)
    return kind != ETHERTYPE_IPV4 and kind != ETHERTYPE_IPV6 and kind != ETHERTYPE_ARP


cdef inline Dev *stand_in_as(Core *c, const Far *far, bint captured) noexcept nogil:
    """The stand-in as another device, or as itself again."""
    cdef Dev *d = c.stand_in
    cdef Fib *f = &c.stand_in_ns.fib6
    cdef int i
    for i in range(f.n):
        if f.route[i].dev == d.id:
            f.route[i].dev = far.dev  # the route to groups, its only one, which counts for its own device alone
    d.id = far.dev
    d.ns = far.ns
    d.mtu = far.mtu
    memcpy(d.mac, far.mac, 6)
    d.capture = captured
    return d


cdef inline Dev *far_stand_in(Core *c, const Far *far) noexcept nogil:
    """The stand-in as the machine's device; it is put into its place by ``far_enter`` alone."""
    return stand_in_as(c, far, not c.uncaptured[far.dev])


cdef inline void stand_in_is(Core *c, Dev *d) noexcept nogil:
    """From now on it takes the places of machines that are not there."""
    cdef Far *own = &c.stand_in_own
    c.stand_in = d
    c.stand_in_ns = c.ns[d.ns]
    c.stand_in_captured = d.capture
    own.dev = d.id
    own.ns = d.ns
    own.mtu = d.mtu
    memcpy(own.mac, d.mac, 6)


cdef inline Dev *far_peer(Core *c, const Dev *d, const Pkt *p) noexcept nogil:
    """The device at the other end of a cable where none is yet; NULL: nobody can supply it."""
    if d.far == NULL:
        return NULL
    if c.stand_in != NULL and not far_concerned(d.far, p):
        return far_stand_in(c, d.far)
    onward_rests(c)  # what is supplied is there from now on
    c.supply(c, d.peer)
    return c.dev[d.peer]


cdef inline void far_enter(Core *c, int dev) noexcept nogil:
    """Let the stand-in take the place of a device that is not there."""
    c.dev[dev] = far_stand_in(c, c.far_of[dev])
    c.ns[c.far_of[dev].ns] = c.stand_in_ns


cdef inline void far_leave(Core *c, int dev) noexcept nogil:
    c.ns[c.far_of[dev].ns] = NULL
    c.dev[dev] = NULL
    stand_in_as(c, &c.stand_in_own, c.stand_in_captured)
