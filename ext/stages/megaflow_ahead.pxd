# First packets that will come soon: the rules they will meet are asked for, so that waiting for memory is done for all of them at once.
#
# Nothing is decided here, and nothing remembered.

from ext.fast.flows cimport Key
from ext.fast.megaflow cimport MegaHead, key_address
from ext.tables.rule_ahead cimport expect_chain, expect_ends, expect_rule, expect_slot
from ext.tables.rule_index cimport RunSlot
from ext.tables.rules cimport Rule, RuleTable, TABLE_NAT
from libc.stdint cimport uint8_t, uint32_t

cdef struct Coming:
    # a packet that is in no flow, and what its destination's rules have been found to be so far
    const RuleTable *table
    const RunSlot *slot
    const Rule *rule  # NULL: there are none


cdef inline bint coming_begins(const MegaHead *h, const Key *key, Coming *k) noexcept nogil:
    """Does its sender's head ask a nat table whose rules are not near anyway?"""
    cdef uint32_t dst = key_address(key, 1)
    if h == NULL or h.nat_ns == NULL:
        return False
    k.table = &h.nat_ns.rules[0][TABLE_NAT]
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
