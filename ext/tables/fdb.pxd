# Forwarding database: MAC address -> bridge port, or -> remote tunnel end for a tunnel device.
#
# net/bridge/br_fdb.c; for tunnels drivers/net/vxlan/vxlan_core.c (vxlan_find_mac()).

from libc.stdint cimport uint8_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from ext.tables.htab cimport HTab, HNode, htab_insert, htab_first, htab_next, htab_free_all, htab_remove, htab_step
from ext.wire.ether cimport mac_equal
from ext.wire.hash cimport address_hash

cdef enum:
    FDB_LOCAL = 1  # the bridge's or a port's own address: for the stack, never moved
    FDB_STATIC = 2  # does not age; learning may still move it to another port
    FDB_MAX = 1 << 20  # entries of one table; learning stops there

cdef struct FdbEntry:
    HNode node
    uint8_t mac[8]
    int port  # bridge port; -1: the bridge itself
    uint8_t dst[16]  # tunnel: address of the remote end
    uint8_t dst_family  # 0: no remote
    uint8_t flags
    int64_t updated
    int origin

cdef struct Fdb:
    HTab tab
    int64_t ageing  # ns


cdef inline FdbEntry *fdb_find(const Fdb *t, const uint8_t *mac) noexcept nogil:
    cdef HNode *node = htab_first(&t.tab, address_hash(mac, 6))
    while node != NULL:
        if mac_equal((<FdbEntry *>node).mac, mac):
            return <FdbEntry *>node
        node = htab_next(node)
    return NULL


cdef inline FdbEntry *fdb_lookup(const Fdb *t, const uint8_t *mac, int64_t now) noexcept nogil:
    """As fdb_find(), without entries that have aged."""
    cdef FdbEntry *e = fdb_find(t, mac)
    if e != NULL and not (e.flags & (FDB_LOCAL | FDB_STATIC)) and now - e.updated >= t.ageing:
        return NULL
    return e


cdef inline FdbEntry *fdb_set(Fdb *t, const uint8_t *mac, int port, int flags, int64_t now) noexcept nogil:
    """Add or overwrite; NULL when the table is full or memory is out."""
    cdef FdbEntry *e = fdb_find(t, mac)
    if e == NULL:
        if t.tab.count >= FDB_MAX:
            return NULL
        e = <FdbEntry *>calloc(1, sizeof(FdbEntry))
        if e == NULL:
            return NULL
        memcpy(e.mac, mac, 6)
        if not htab_insert(&t.tab, &e.node, address_hash(mac, 6)):
            free(e)
            return NULL
    e.port = port
    e.flags = <uint8_t>flags
    e.updated = now
    return e


cdef inline bint fdb_learn(Fdb *t, const uint8_t *mac, int port, int64_t now) noexcept nogil:
    """Source address seen on a port (br_fdb_update()), which a full table does not take in. True: it has moved there from another."""
    cdef FdbEntry *e = fdb_find(t, mac)
    cdef bint moved
    if e == NULL:
        fdb_set(t, mac, port, 0, now)
        return False
    if e.flags & FDB_LOCAL:
        return False
    moved = e.port != port
    e.port = port
    e.updated = now
    return moved


cdef inline bint fdb_delete(Fdb *t, const uint8_t *mac) noexcept nogil:
    cdef FdbEntry *e = fdb_find(t, mac)
    if e == NULL:
        return False
    htab_remove(&t.tab, &e.node)
    free(e)
    return True


cdef inline void fdb_forget_port(Fdb *t, int port) noexcept nogil:
    """The port leaves the bridge: nothing is behind it any more, not even what was entered by hand (br_fdb_delete_by_port())."""
    cdef HNode *node = htab_step(&t.tab, NULL)
    cdef HNode *after
    while node != NULL:
        after = htab_step(&t.tab, node)
        if (<FdbEntry *>node).port == port:
            htab_remove(&t.tab, node)
            free(node)
        node = after


cdef inline void fdb_clear(Fdb *t) noexcept nogil:
    htab_free_all(&t.tab)
