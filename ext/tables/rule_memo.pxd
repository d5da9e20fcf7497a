# Walks of rules that are remembered: a packet that is the same as an earlier one wherever that one's walk looked takes the same walk.
#
# A walk looks at bits of two words (the glance of rules.pxd) and, where rules ask for it, at devices and at the connection's state.
# What it came to, with the rules it met and how many it looked at, holds for all packets that agree in these, until anything is
# configured. A walk that looked further (chance, lists of addresses, TCP flags), or that changed something, is not remembered.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from ext.tables.rules cimport *
from ext.wire.bytes cimport rarely

cdef enum:
    MEMO_WALKS = 4  # of each hook
    MEMO_MATCHED = 10  # rules of a walk
    MEMO_ADDRESSES = M_SRC | M_DST | M_SRC_TYPE | M_DST_TYPE | M_RUN  # of IPv6 not in the words
    MEMO_BESIDE = M_IIF | M_OIF | M_CTSTATE  # beside the words
    MEMO_KNOWN = MEMO_ADDRESSES | M_PROTO | M_DPORT | M_FRAGMENT | M_MARK | M_CTSTATE | M_IIF | M_OIF

cdef struct MemoWalk:
    uint64_t addresses
    uint64_t addresses_mask
    uint64_t facts
    uint64_t facts_mask
    uint32_t generation
    uint32_t asked  # matches that were looked at beside the words
    const char *iif
    const char *oif
    uint32_t ctstate
    int walked
    const Glance *rule
    uint8_t target
    uint16_t n_matched
    const Glance *matched[MEMO_MATCHED]

cdef struct RuleMemo:
    MemoWalk walk[HOOKS][MEMO_WALKS]
    uint8_t n[HOOKS]  # walks that there are
    uint8_t oldest[HOOKS]


cdef inline bint memo_fits_words(const MemoWalk *w, const Flow *f, uint64_t facts) noexcept nogil:
    return ((f.addresses ^ w.addresses) & w.addresses_mask) | ((facts ^ w.facts) & w.facts_mask) == 0


cdef inline bint memo_fits(const MemoWalk *w, const Flow *f, uint64_t facts) noexcept nogil:
    return memo_fits_words(w, f, facts) and (not w.asked & MEMO_BESIDE or memo_fits_beside(w, f))


cdef inline bint memo_fits_beside(const MemoWalk *w, const Flow *f) noexcept nogil:
    if w.asked & M_IIF and w.iif != f.iif:
        return False
    return (not w.asked & M_OIF or w.oif == f.oif) and (not w.asked & M_CTSTATE or w.ctstate == f.ctstate)


cdef inline void memo_says(const MemoWalk *w, Verdict *v) noexcept nogil:
    v.target = w.target
    v.rule = w.rule
    v.walked = w.walked
    v.n_recent = 0
    v.n_matched = w.n_matched
    v.matched = <const Glance **>w.matched


cdef inline int memo_keep(RuleMemo *memo, int hook, const Flow *f, uint64_t facts, uint32_t generation, const Verdict *v) noexcept nogil:
    """Remember a walk, if it goes the same way for all packets that look the same: which one of the hook's it is, from 1; 0: it does not."""
    cdef int number = memo.oldest[hook] + 1
    cdef MemoWalk *w = &memo.walk[hook][memo.oldest[hook]]
    cdef int i
    if v.looked.asked & ~<uint32_t>MEMO_KNOWN or v.n_matched > MEMO_MATCHED or (f.alen != 4 and v.looked.asked & MEMO_ADDRESSES):
        return 0
    memo.oldest[hook] = <uint8_t>(number % MEMO_WALKS)
    if memo.n[hook] < MEMO_WALKS:
        memo.n[hook] += 1
    w.addresses = f.addresses
    w.addresses_mask = v.looked.addresses
    w.facts = facts
    w.facts_mask = v.looked.facts
    w.generation = generation
    w.asked = v.looked.asked
    w.iif = f.iif
    w.oif = f.oif
    w.ctstate = f.ctstate
    w.walked = v.walked
    w.rule = v.rule
    w.target = v.target
    w.n_matched = <uint16_t>v.n_matched
    for i in range(v.n_matched):
        w.matched[i] = v.matched[i]
    return number


cdef inline const MemoWalk *memo_walk(const RuleTable *t, int hook, int number, uint32_t generation) noexcept nogil:
    """The walk that memo_keep() has given this number, or another one in its place; NULL: it holds no longer."""
    cdef const RuleMemo *memo = <const RuleMemo *>t.memo
    if memo == NULL or number > memo.n[hook] or memo.walk[hook][number - 1].generation != generation:
        return NULL
    return &memo.walk[hook][number - 1]


cdef inline int rules_decide(RuleTable *t, int hook, const Flow *f, uint32_t generation, uint32_t *mark, Choices *c,
                             Verdict *v) noexcept nogil:
    """rules_walk(), as long as ``generation`` stays the same by heart: the walk's number then, as of memo_keep()."""
    cdef RuleMemo *memo = <RuleMemo *>t.memo
    cdef MemoWalk *w
    cdef const MemoWalk *end
    cdef uint64_t facts = flow_facts(f, mark[0])
    if rarely(memo == NULL):
        memo = <RuleMemo *>calloc(1, sizeof(RuleMemo))
        t.memo = memo
        if memo == NULL:
            rules_walk(t, hook, f, mark, c, v, True)
            return 0
    w = &memo.walk[hook][0]
    end = w + memo.n[hook]
    while w != end:
        if memo_fits(w, f, facts) and w.generation == generation:
            memo_says(w, v)
            return <int>(w - &memo.walk[hook][0]) + 1
        w += 1
    rules_walk(t, hook, f, mark, c, v, True)
    return memo_keep(memo, hook, f, facts, generation, v) if t.builtin[hook] >= 0 else 0
