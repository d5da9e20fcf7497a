# One packet on its way: its bytes and what the stages have found out about it.
#
# Offsets into ``buf``: ``l2`` the Ethernet header, ``l3`` the network header, ``end`` one past the last
# byte. Encapsulation moves ``l2`` and ``l3`` down into the headroom, decapsulation up.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc, free, realloc
from libc.string cimport memcpy
from ext.wire.bytes cimport zero_bytes

cdef enum:
    PKT_HEADROOM = 192  # four nested tunnel headers of 46 bytes (VXLAN + Ethernet + IPv4) fit
    PKT_TAILROOM = 64
    PKT_STANDARD = 2048  # bytes of a buffer that is kept for the next packet: a full frame of Ethernet fits
    # pkt_type, as Linux' PACKET_*
    TO_HOST = 0
    TO_BROADCAST = 1
    TO_MULTICAST = 2
    TO_OTHERHOST = 3
    # dst flags, as Linux' RTCF_*
    DST_LOCAL = 1
    DST_BROADCAST = 2
    DST_MULTICAST = 4
    DST_INPUT = 8  # found for a received packet
    DST_FAKE = 16  # a bridge's stand-in for packets that are only switched
    DST_ANYCAST = 32
    # flags
    PF_FORWARDED = 1
    PF_REROUTED = 2
    PF_DOREDIRECT = 4
    PF_IGNORE_DF = 8
    PF_REASM_DF = 16  # the largest fragment had DF (IPSKB_FRAG_PMTU)
    PF_GENERATED = 32  # made by the core, not received
    # bridge netfilter
    BRNF_ACTIVE = 1
    BRNF_IN_PREROUTING = 2
    BRNF_PKT_OTHERHOST = 4
    BRNF_BRIDGED_DNAT = 8
    BRNF_SABOTAGED = 16

cdef struct IpOptions:
    # offsets from the start of the IP header; 0: absent
    uint8_t len
    uint8_t srr
    uint8_t rr
    uint8_t ts
    uint8_t cipso
    uint8_t router_alert
    uint8_t strict
    uint8_t changed
    uint8_t rr_needaddr
    uint8_t ts_needaddr
    uint8_t ts_needtime

cdef struct Dst:
    # the route a packet has been given
    uint8_t valid
    uint8_t type  # RT_* of tables/fib.pxd
    uint8_t flags
    uint8_t has_gw
    int error  # errno of an input route that leads nowhere
    int oif
    int idev  # whose route it is, also where it leads to this namespace itself (rt6i_idev)
    uint8_t gw[16]
    uint32_t mtu  # of the route, 0: the device's
    uint8_t mtu_lock
    uint8_t plen  # of the route's prefix
    uint8_t has_prefsrc  # the route names a source address
    int origin

cdef struct Foreseen:
    # what the flow cache has read of a packet that waits to be received (Parsed of ext/fast/key.pxd)
    uint64_t place
    uint64_t addresses
    uint64_t hash
    uint32_t ports
    uint32_t inner
    uint32_t shapes  # of tunnels that were known then, plus 1; 0: nothing has been read
    uint8_t asked  # whether it can go a megaflow's way, from the device that it is at: it cannot
    uint8_t made  # a program has put it, as it is, into the tunnel that it is in; where that is not read, nothing has been

cdef struct Joined:
    # a packet that has been taken past a switch before its time (ext/fast/onward.pxd)
    int64_t time  # when the switch receives it; 0: none is passed
    int64_t delay  # ns that it is under way till then
    int dev  # and where
    uint8_t crossings  # of cables behind it

cdef struct Pkt:
    uint8_t *buf
    uint32_t cap  # bytes of ``buf`` that this packet may use
    uint32_t size  # bytes that ``buf`` has
    uint32_t l2
    uint32_t l3
    uint32_t end
    uint32_t id
    int dev  # the device it is at
    int iif  # the device it entered the IP layer by, -1: locally made
    uint16_t protocol  # EtherType
    uint32_t vlan  # 0: none, else 0x10000 | TCI of an 802.1Q tag that the receive path has taken off
    uint8_t pkt_type
    uint8_t flags
    uint8_t brnf
    uint8_t ctinfo
    void *ct
    uint32_t mark
    uint32_t hash  # of the flow, kept from the first tunnel on (skb->hash); 0: not computed
    uint8_t hash_l4  # ports went into it: it outlives the tunnel
    uint8_t sound  # transport headers, from the outermost one in, whose checksums are known to be right: the flow cache has just seen to it
    uint8_t unfinished  # sent by an application here: a network card would still have to finish its checksum (CHECKSUM_PARTIAL)
    uint8_t tunnels  # that it has entered since it was received
    uint8_t crossings  # of cables since it was made or last lost a TTL
    uint32_t frag_max_size
    int to_port  # bridge port it is being sent to
    uint8_t from_bridge  # the bridge device itself sends it
    int phys_in  # bridge port it came in by, for bridge netfilter
    int phys_out
    uint8_t brnf_daddr[16]
    uint8_t brnf_mac[8]  # source MAC and EtherType kept while the neighbour layer writes its own
    uint32_t brnf_frag_max
    IpOptions opt
    # IPv6, as offsets from the header: what the extension headers read so far lead to, and the field that names it
    uint32_t payload_at
    uint32_t next_at
    uint8_t source_routed
    Dst dst
    # payload sizes of the fragments it was put together from, in order (of IPv6 the first with its extension headers); NULL: never
    # was fragmented
    uint16_t *frags
    uint16_t n_frags
    uint16_t repeated  # IPv6: bytes that each of those fragments began with
    Pkt *next
    Foreseen foreseen
    Joined joined


cdef struct PktPool:
    Pkt *free  # with their buffers, all of the standard size

cdef extern from *:
    """
    /* The address sanitizer sees overruns only where each packet has memory of its own. */
    #if defined(__SANITIZE_ADDRESS__)
    #define PKT_POOLED 0
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define PKT_POOLED 0
    #endif
    #endif
    #ifndef PKT_POOLED
    #define PKT_POOLED 1
    #endif
    """
    const bint PKT_POOLED


cdef inline Pkt *pkt_memory(PktPool *pool, uint32_t size) noexcept nogil:
    """A packet of which nothing but ``buf``, of at least ``size`` bytes, and its ``size`` are set; NULL when memory is out."""
    cdef bint standard = PKT_POOLED and size <= PKT_STANDARD
    cdef Pkt *p
    if standard and pool.free != NULL:
        p = pool.free
        pool.free = p.next
        return p
    p = <Pkt *>malloc(sizeof(Pkt))
    if p == NULL:
        return NULL
    p.size = PKT_STANDARD if standard else size
    p.buf = <uint8_t *>malloc(p.size)
    if p.buf == NULL:
        free(p)
        return NULL
    return p


cdef inline Pkt *pkt_new(PktPool *pool, uint32_t room) noexcept nogil:
    """A packet with room for ``room`` bytes behind the headroom; NULL when memory is out."""
    cdef Pkt *p = pkt_memory(pool, PKT_HEADROOM + room + PKT_TAILROOM)
    if p == NULL:
        return NULL
    p.cap = PKT_HEADROOM + room + PKT_TAILROOM
    pkt_renew(p)
    return p


cdef inline void pkt_renew(Pkt *p) noexcept nogil:
    """Forget all about it but its memory; there must be nothing that it holds."""
    cdef uint8_t *buf = p.buf
    cdef uint32_t size = p.size, cap = p.cap
    zero_bytes(p, sizeof(Pkt))
    p.buf = buf
    p.size = size
    p.cap = cap
    p.l2 = p.l3 = p.end = PKT_HEADROOM
    p.dev = p.iif = p.to_port = p.phys_in = p.phys_out = -1


cdef inline void pkt_release_memory(PktPool *pool, Pkt *p) noexcept nogil:
    """Give the memory back. Callers drop the conntrack reference first (see conntrack_put)."""
    free(p.frags)
    if PKT_POOLED and p.size == PKT_STANDARD:
        p.next = pool.free
        pool.free = p
        return
    free(p.buf)
    free(p)


cdef inline void pkt_pool_free(PktPool *pool) noexcept nogil:
    cdef Pkt *p
    while pool.free != NULL:
        p = pool.free
        pool.free = p.next
        free(p.buf)
        free(p)


cdef inline uint8_t *pkt_l2(const Pkt *p) noexcept nogil:
    return p.buf + p.l2


cdef inline uint8_t *pkt_l3(const Pkt *p) noexcept nogil:
    return p.buf + p.l3


cdef inline uint32_t pkt_l3_len(const Pkt *p) noexcept nogil:
    return p.end - p.l3


cdef inline bint pkt_push_room(Pkt *p, uint32_t n) noexcept nogil:
    """Make sure of ``n`` bytes of headroom before ``l3``; False when memory is out."""
    cdef uint32_t extra
    cdef uint8_t *buf
    if p.l3 >= n:
        return True
    extra = PKT_HEADROOM + n
    buf = <uint8_t *>malloc(p.cap + extra)
    if buf == NULL:
        return False
    memcpy(buf + extra, p.buf, p.cap)
    free(p.buf)
    p.buf = buf
    p.cap += extra
    p.size = p.cap
    p.l2 += extra
    p.l3 += extra
    p.end += extra
    return True


cdef inline bint pkt_tail_room(Pkt *p, uint32_t n) noexcept nogil:
    """Make sure of ``n`` bytes behind the packet; False when memory is out."""
    cdef uint8_t *buf
    if p.cap - p.end >= n:
        return True
    if p.size - p.cap < n:
        buf = <uint8_t *>realloc(p.buf, p.cap + n)
        if buf == NULL:
            return False
        p.buf = buf
        p.size = p.cap + n
    p.cap += n
    return True


cdef inline void pkt_pull_head(Pkt *p, uint32_t n) noexcept nogil:
    """Linux has to have the first ``n`` bytes behind the IP header in one piece: the first fragment takes them from the next ones.

    It shows where the packet is cut again (__pskb_pull_tail()). ``n`` beyond the packet: nothing happens.
    """
    cdef uint32_t want
    cdef int i, gone = 0
    if p.n_frags < 2 or p.frags[0] >= n:
        return
    want = n - p.frags[0]
    for i in range(1, p.n_frags):
        want = want - p.frags[i] if want > p.frags[i] else 0
    if want:
        return
    want = n - p.frags[0]
    p.frags[0] = <uint16_t>n
    for i in range(1, p.n_frags):
        if p.frags[i] > want:
            p.frags[i] -= <uint16_t>want
            break
        want -= p.frags[i]
        gone += 1
        if want == 0:
            break
    for i in range(1, p.n_frags - gone):
        p.frags[i] = p.frags[i + gone]
    p.n_frags -= <uint16_t>gone


cdef inline Pkt *pkt_copy(PktPool *pool, const Pkt *p) noexcept nogil:
    """A copy with bytes and findings of its own. The conntrack entry is shared: the caller counts it."""
    cdef Pkt *q = pkt_memory(pool, p.cap)
    cdef uint8_t *buf
    cdef uint32_t size
    if q == NULL:
        return NULL
    buf = q.buf
    size = q.size
    memcpy(q, p, sizeof(Pkt))
    q.buf = buf
    q.size = size
    q.next = NULL
    q.frags = NULL
    memcpy(q.buf, p.buf, p.cap)
    if p.n_frags:
        q.frags = <uint16_t *>malloc(p.n_frags * sizeof(uint16_t))
        if q.frags == NULL:
            q.n_frags = 0
        else:
            memcpy(q.frags, p.frags, p.n_frags * sizeof(uint16_t))
    return q
