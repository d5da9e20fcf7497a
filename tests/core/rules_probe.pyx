# Test-only: walks of rule tables as Python calls, by the index and rule by rule. The wheel leaves this module out.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from ext.border.rules cimport table_build
from ext.tables.htab cimport HTab
from ext.tables.rule_memo cimport rules_decide
from ext.tables.rules cimport *


cdef void walk_rule_by_rule(const RuleTable *t, int hook, const Flow *f, uint32_t *mark, Choices *c, Verdict *v) noexcept nogil:
    """What rules_walk() has to come to: no index, each rule looked at."""
    cdef int back[JUMPS_MAX]
    cdef int back_chain[JUMPS_MAX]
    cdef int depth = 0, chain = t.builtin[hook], i = 0, number
    cdef const Rule *r
    v.rule = NULL
    v.target = T_ACCEPT
    v.walked = v.n_recent = v.n_matched = 0
    v.matched = v.room
    while True:
        if i >= t.chain[chain].count:
            if depth == 0:
                v.target = t.chain[t.builtin[hook]].policy
                return
            depth -= 1
            i = back[depth]
            chain = back_chain[depth]
            continue
        number = t.chain[chain].first + i
        r = &t.rule[number]
        v.walked += 1
        i += 1
        if not match_asked(r, number, r.match, f, mark[0], c, v):
            continue
        if v.n_matched < MATCHED_MAX:
            v.matched[v.n_matched] = &t.glance[number]
            v.n_matched += 1
        if r.target == T_NONE:
            continue
        if r.target == T_MARK:
            mark[0] = (mark[0] & ~r.set_mask) ^ r.set_value
        elif r.target == T_RETURN:
            i = t.chain[chain].count
        elif r.target == T_JUMP or r.target == T_GOTO:
            if r.target == T_JUMP and depth < JUMPS_MAX:
                back[depth] = i
                back_chain[depth] = chain
                depth += 1
            chain = r.chain
            i = 0
        else:
            v.target = r.target
            v.rule = &t.glance[number]
            return


cdef class Table:
    cdef RuleTable t
    cdef dict names

    def __cinit__(self, chains, int alen):
        memset(&self.t, 0, sizeof(RuleTable))
        self.names = {}
        table_build(&self.t, chains, {}, alen)

    def __dealloc__(self):
        rules_free(&self.t)

    cdef const char *name(self, bytes iif):
        """The same memory for the same device, as devices have it."""
        cdef bytes kept = self.names.setdefault(iif, iif)
        return kept

    @property
    def runs(self):
        return self.t.index.n_runs

    def walk(self, str how, bytes src, bytes dst, int proto, bytes l4, uint32_t seed, uint32_t state=0, uint32_t mark=0, bytes iif=b"",
             bint later_fragment=False):
        """What PREROUTING says: target, deciding rule, rules walked, rules matched, mark, falls of chance, addresses to remember.

        ``how``: ``rule by rule``, ``index``, or ``memo``: from memory, if a walk like that is remembered.
        """
        cdef Flow f
        cdef Verdict v
        cdef Choices ch
        cdef HTab recent
        memset(&f, 0, sizeof(Flow))
        memset(&recent, 0, sizeof(HTab))
        f.family = 4 if len(src) == 4 else 6
        f.alen = <uint8_t>len(src)
        f.proto = <uint8_t>proto
        f.src = src
        f.dst = dst
        f.l4 = l4
        f.l4len = <uint32_t>len(l4)
        f.later_fragment = later_fragment
        f.has_ports = len(l4) >= 4 and not later_fragment
        f.ctstate = state
        if f.has_ports:
            f.sport = l4[0] << 8 | l4[1]
            f.dport = l4[2] << 8 | l4[3]
        f.iif = self.name(iif)
        f.oif = b""
        f.recent = &recent
        flow_words(&f)
        choices_begin(&ch)
        ch.seed = seed
        if how == "memo":
            rules_decide(&self.t, HOOK_PREROUTING, &f, 1, &mark, &ch, &v)
        elif how == "index":
            rules_walk(&self.t, HOOK_PREROUTING, &f, &mark, &ch, &v, False)
        else:
            walk_rule_by_rule(&self.t, HOOK_PREROUTING, &f, &mark, &ch, &v)
        return (v.target, rule_number(&self.t, v.rule) if v.rule != NULL else -1, v.walked,
                [rule_number(&self.t, v.matched[i]) for i in range(v.n_matched)], mark, [ch.fall[i] for i in range(ch.n)],
                [(v.recent[i].list, v.recent[i].op) for i in range(v.n_recent)])
