# Neighbour table of one device (ARP, later ND): states and the packets that wait for an answer.
#
# States and transitions are those of net/core/neighbour.c; the solicitations are made by stages/arp.pxd.

from libc.stdint cimport uint8_t, uint32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memcmp
from ext.tables.htab cimport HTab, HNode, htab_insert, htab_first, htab_next
from ext.wire.bytes cimport raw32
from ext.wire.hash cimport address_hash
from ext.wire.packet cimport Pkt

cdef enum:
    NUD_INCOMPLETE = 1
    NUD_REACHABLE = 2
    NUD_STALE = 4
    NUD_DELAY = 8
    NUD_PROBE = 16
    NUD_FAILED = 32
    NUD_NOARP = 64
    NUD_PERMANENT = 128
    NUD_CONNECTED = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE
    NUD_VALID = NUD_CONNECTED | NUD_PROBE | NUD_STALE | NUD_DELAY
    NEIGH_QUEUE_MAX = 101  # packets waiting for one neighbour; Linux bounds bytes (212992), about as many full frames
    NEIGH_MAX = 1 << 16  # entries of one device

cdef struct Neigh:
    HNode node
    uint8_t addr[16]
    uint8_t mac[8]
    uint8_t alen
    uint8_t state
    uint8_t header_cached  # a frame to it has been built: bridge netfilter takes its short way from then on
    uint8_t probes
    int64_t updated
    int64_t confirmed
    int64_t timer  # virtual time of the next timer, 0: none
    Pkt *queue
    Pkt *queue_tail
    uint32_t queued
    int origin

cdef struct NeighTable:
    HTab tab


cdef inline Neigh *neigh_find(const NeighTable *t, const uint8_t *addr, int alen) noexcept nogil:
    cdef HNode *node = htab_first(&t.tab, address_hash(addr, alen))
    cdef Neigh *n
    while node != NULL:
        n = <Neigh *>node
        if n.alen == alen and (raw32(n.addr) == raw32(addr) if alen == 4 else memcmp(n.addr, addr, 16) == 0):
            return n
        node = htab_next(node)
    return NULL


cdef inline Neigh *neigh_get(NeighTable *t, const uint8_t *addr, int alen) noexcept nogil:
    """Find or create; NULL when the table is full or memory is out."""
    cdef Neigh *n = neigh_find(t, addr, alen)
    if n != NULL or t.tab.count >= NEIGH_MAX:
        return n
    n = <Neigh *>calloc(1, sizeof(Neigh))
    if n == NULL:
        return NULL
    memcpy(n.addr, addr, alen)
    n.alen = <uint8_t>alen
    if not htab_insert(&t.tab, &n.node, address_hash(addr, alen)):
        free(n)
        return NULL
    return n
