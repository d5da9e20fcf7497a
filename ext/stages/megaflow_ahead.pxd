# First packets that will come soon: the rules they will meet are asked for, so that waiting for memory is done before.
#
# Nothing is decided here, and nothing remembered. A processor has room for some twenty lines that are under way (on Zen 4 an
# ask beyond that comes to nothing), so that only what leads to the rules is asked for of a whole burst at once.

from ext.fast.flows cimport Key
from ext.fast.megaflow cimport MegaHead, key_address
from ext.tables.rule_ahead cimport Expected, expect_found, expect_rules, expect_slot
from ext.tables.rule_index cimport RunSlot
from ext.tables.rules cimport RuleTable, TABLE_NAT
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    COMING_MAX = 16  # packets of a burst
    COMING_AHEAD = 2  # whose rules are asked for before the first of them goes

cdef struct Coming:
    # packets that are in no flow, and where their destinations' rules are found
    const RuleTable *table[COMING_MAX]
    const RunSlot *slot[COMING_MAX]
    Expected rules[COMING_MAX]
    uint32_t n
    uint32_t asked


cdef inline void coming_add(Coming *all, const MegaHead *h, const Key *key) noexcept nogil:
    """One more, if its sender's head asks a nat table whose rules are not near anyway."""
    cdef uint32_t dst = key_address(key, 1)
    if h == NULL or h.nat_ns == NULL:
        return
    all.table[all.n] = &h.nat_ns.rules[0][TABLE_NAT]
    all.slot[all.n] = expect_slot(all.table[all.n], <const uint8_t *>&dst)
    all.n += all.slot[all.n] != NULL


cdef inline void coming_next(Coming *all) noexcept nogil:
    """A packet goes: the rules of one a few behind it."""
    if all.asked < all.n:
        expect_rules(&all.rules[all.asked])
        all.asked += 1


cdef inline void coming_begin(Coming *all) noexcept nogil:
    """All are there, and their slots are near."""
    cdef uint32_t i, n = 0
    for i in range(all.n):
        n += expect_found(all.table[i], all.slot[i], &all.rules[n])
    all.n = n
    for i in range(COMING_AHEAD):
        coming_next(all)
