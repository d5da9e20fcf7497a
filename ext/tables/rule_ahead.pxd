# Memory that a walk of rules will read, asked for before: in large tables each step would wait for the one before.

from libc.stdint cimport uint8_t
from ext.tables.rule_index cimport RunSlot, run_hash4
from ext.tables.rules cimport Glance, RuleTable
from ext.wire.bytes cimport ask_for

cdef enum:
    LEADS_EXPECTED = 16  # rules: those of a service with five endpoints

cdef struct Expected:
    # places to look at, nothing more: the table may be another when they are asked for
    const Glance *rule
    const Glance *leads
    const Glance *last


cdef inline const RunSlot *expect_slot(const RuleTable *t, const uint8_t *dst) noexcept nogil:
    """Where the rules about an IPv4 destination are found, in a table that has many of those; else NULL."""
    cdef const RunSlot *slot
    if t.index.cold == 0:
        return NULL
    slot = &t.index.slot[run_hash4(t.index.cold - 1, dst) & t.index.mask]
    ask_for(slot)
    return slot


cdef inline bint expect_found(const RuleTable *t, const RunSlot *slot, Expected *e) noexcept nogil:
    """The first of these rules, nearly always, and what it leads to: a service's chain and its endpoints', of which one will be chosen.
    False: there are none."""
    if slot.rule < 0:
        return False
    e.rule = &t.glance[slot.rule]
    e.leads = &t.glance[slot.leads]
    e.last = e.leads + max(min(slot.n_leads, LEADS_EXPECTED), 1) - 1
    return True


cdef inline void expect_rules(const Expected *e) noexcept nogil:
    cdef const Glance *at = e.leads
    ask_for(e.rule)
    while at < e.last:
        ask_for(at)
        at += 2
    ask_for(e.last)
