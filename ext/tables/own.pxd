# The IPv4 addresses of one namespace, whichever of its devices have them.

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from ext.tables.htab cimport HTab, HNode, htab_first, htab_insert, htab_next, htab_remove
from ext.wire.bytes cimport raw32
from ext.wire.hash cimport address_hash

cdef struct Own:
    HNode node
    uint8_t addr[4]
    uint32_t holders  # devices' entries that name it


cdef inline Own *own_find(const HTab *t, const uint8_t *addr) noexcept nogil:
    cdef HNode *node = htab_first(t, address_hash(addr, 4))
    while node != NULL and raw32((<Own *>node).addr) != raw32(addr):
        node = htab_next(node)
    return <Own *>node


cdef inline bint own_add(HTab *t, const uint8_t *addr) noexcept nogil:
    """One more device has it. False: memory is out."""
    cdef Own *own = own_find(t, addr)
    if own == NULL:
        own = <Own *>calloc(1, sizeof(Own))
        if own == NULL:
            return False
        memcpy(own.addr, addr, 4)
        if not htab_insert(t, &own.node, address_hash(addr, 4)):
            free(own)
            return False
    own.holders += 1
    return True


cdef inline void own_remove(HTab *t, const uint8_t *addr) noexcept nogil:
    """One device fewer has it."""
    cdef Own *own = own_find(t, addr)
    own.holders -= 1
    if own.holders == 0:
        htab_remove(t, &own.node)
        free(own)
