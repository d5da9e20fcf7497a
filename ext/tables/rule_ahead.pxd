# Memory that a walk of rules will read, asked for before: in large tables each of these steps waits for the one before.

from libc.stdint cimport uint8_t
from ext.tables.rule_index cimport RunSlot, run_hash4
from ext.tables.rules cimport Rule, RuleTable, rule_jumps
from ext.wire.bytes cimport ask_for

cdef enum:
    ENDS_EXPECTED = 4


cdef inline const RunSlot *expect_slot(const RuleTable *t, const uint8_t *dst) noexcept nogil:
    """Where the rules about an IPv4 destination are found, in a table that has many of those; else NULL."""
    cdef const RunSlot *slot
    if t.index.cold == 0:
        return NULL
    slot = &t.index.slot[run_hash4(t.index.cold - 1, dst) & t.index.mask]
    ask_for(slot)
    return slot


cdef inline const Rule *expect_rule(const RuleTable *t, const RunSlot *slot) noexcept nogil:
    """The first of these rules, nearly always; or NULL."""
    cdef const Rule *rule
    if slot.rule < 0:
        return NULL
    rule = &t.rule[slot.rule]
    ask_for(rule)
    return rule


cdef inline void expect_chain(const Rule *rule) noexcept nogil:
    """The chain that it leads to."""
    if rule_jumps(rule) and rule.to.rule != NULL:
        ask_for(rule.to.rule)
        ask_for(rule.to.rule + 1)
        ask_for(rule.to.rule + 2)
        ask_for(rule.to.rule + 3)


cdef inline void expect_ends(const Rule *rule) noexcept nogil:
    """What the rules of the chain that it leads to lead to themselves: the endpoints of a service, of which one will be chosen."""
    cdef const Rule *each = rule.to.rule
    cdef int i
    if not rule_jumps(rule) or each == NULL:
        return
    for i in range(min(rule.count, ENDS_EXPECTED)):
        if rule_jumps(each) and each.to.rule != NULL:
            ask_for(each.to.rule)
            ask_for(each.to.rule + 1)
        each += 1
