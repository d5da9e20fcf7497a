# First packets that will come soon: the rules they will meet are asked for, so that waiting for memory is done for all of them at once.
#
# Nothing is decided here, and nothing remembered.

from ext.devices.core cimport Core, Ns
from ext.fast.flows cimport FlowCache
from ext.fast.key cimport Parsed
from ext.fast.megaflow cimport MegaHead, Megaflows, head_find, key_address
from ext.tables.rule_ahead cimport expect_chain, expect_ends, expect_rule, expect_slot
from ext.tables.rule_index cimport RunSlot
from ext.tables.rules cimport Rule, RuleTable, TABLE_NAT
from libc.stdint cimport uint8_t, uint32_t

cdef struct Coming:
    # a packet that is in no flow, and what its destination's rules have been found to be so far
    const RuleTable *table
    const RunSlot *slot
    const Rule *rule  # NULL: there are none


cdef inline bint coming_begins(const Core *c, const Parsed *a, Coming *k) noexcept nogil:
    """Does its sender's head ask a nat table whose rules are not near anyway?"""
    cdef const FlowCache *fc = <const FlowCache *>c.fast
    cdef uint32_t dst = key_address(&a.key, 1)
    cdef const MegaHead *h = head_find(<const Megaflows *>fc.megaflows, fc.seed, a.key.place, key_address(&a.key, 0))
    if h == NULL or h.generation != c.generation or h.nat_ns == NULL:
        return False
    k.table = &(<Ns *>h.nat_ns).rules[0][TABLE_NAT]
    k.slot = expect_slot(k.table, <const uint8_t *>&dst)
    return k.slot != NULL


cdef inline void coming_all(Coming *k, uint32_t n) noexcept nogil:
    """Each step of all of them, then the next step."""
    cdef uint32_t i
    for i in range(n):
        k[i].rule = expect_rule(k[i].table, k[i].slot)
    for i in range(n):
        if k[i].rule != NULL:
            expect_chain(k[i].rule)
    for i in range(n):
        if k[i].rule != NULL:
            expect_ends(k[i].rule)
