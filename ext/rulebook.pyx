"""Rules that many namespaces have in common, kept once: see ``dataplane/_rulebook.pyi``."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ext.border.rules cimport PackedRule, RULES_MAX, rule_from_dict, unpack_rules
from ext.tables.rule_index cimport index_free
from ext.tables.rules cimport Glance, HOOKS, Rule, RuleChain, RuleTable, T_ACCEPT, T_DROP, rule_jumps, rules_index, rules_link

cdef enum:
    LINE = 64  # bytes of a cache line

_HOOK_NUMBERS = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
_failures = []  # what a source raised, until ``take_failure``

RULE_SIZE = sizeof(PackedRule)
GLANCE_SIZE = sizeof(Glance)


def pack_rules(matches, dict targets, dict lists):
    cdef PackedRule r
    cdef bytes one
    packed = []
    for match in matches:
        memset(&r, 0, sizeof(PackedRule))
        rule_from_dict(&r.rule, &r.glance, match, targets, lists)
        one = (<char *>&r)[:sizeof(PackedRule)]
        packed.append(one)
    return b"".join(packed)


cdef void fill_chain(void *book, int chain) noexcept nogil:
    with gil:
        (<RuleBook>book).fill(chain)


cdef class RuleBook:
    cdef RuleTable t
    cdef void *memory  # of ``t.glance``, which begins at a cache line in it
    cdef object source

    def __cinit__(self, bytes counts, int last, dict builtin, bint random, bint unsteady, source):
        cdef const int32_t *count = <const int32_t *><const char *>counts
        cdef int64_t total = 0
        cdef int i, n = <int>(len(counts) // sizeof(int32_t))
        for i in range(n):
            total += count[i]
            if count[i] < 0 or total > RULES_MAX:
                raise ValueError(f"the numbers of rules are negative, or more than a table takes ({RULES_MAX})")
        if not 0 <= last <= n or any([not 0 <= chain < n - last for chain, _ in builtin.values()]):
            raise ValueError("there are fewer chains, or a built-in one is among the last")
        self.source = source
        for i in range(HOOKS):
            self.t.builtin[i] = -1
        self.t.chain = <RuleChain *>calloc(max(n, 1), sizeof(RuleChain))
        if self.t.chain == NULL:
            raise MemoryError
        for i in range(n):
            self.t.chain[i].first = self.t.n_rules
            self.t.chain[i].count = count[i]
            self.t.chain[i].absent = count[i] > 0 and i < n - last
            self.t.n_rules += count[i]
        self.t.n_chains = n
        self.t.random = random
        self.t.unsteady = unsteady
        self.t.local_from = self.t.chain[n - last].first if last else self.t.n_rules
        self.t.rule = <Rule *>calloc(max(self.t.n_rules, 1), sizeof(Rule))  # memory that nobody writes costs none
        self.memory = calloc(LINE + self.t.n_rules * sizeof(Glance), 1)
        if self.t.rule == NULL or self.memory == NULL:
            raise MemoryError
        self.t.glance = <Glance *>((<size_t>self.memory + LINE - 1) & ~<size_t>(LINE - 1))
        for name, (chain, policy) in builtin.items():
            self.t.builtin[<int>_HOOK_NUMBERS[name]] = chain
            self.t.chain[<int>chain].policy = {"ACCEPT": T_ACCEPT, "DROP": T_DROP}[policy]
        self.t.book = <void *>self
        self.t.fill = fill_chain

    def __dealloc__(self):
        index_free(&self.t.index)
        free(self.t.rule)
        free(self.memory)
        free(self.t.chain)

    def index(self, int family):
        if self.t.index.place != NULL:
            raise ValueError("the book has an index already")
        if not rules_index(&self.t, 16 if family == 6 else 4):
            index_free(&self.t.index)
            memset(&self.t.index, 0, sizeof(self.t.index))
            raise MemoryError

    @staticmethod
    def take_failure():
        failure = _failures[0] if _failures else None
        _failures.clear()
        return failure

    def table(self):
        return PyCapsule_New(&self.t, b"dataplane.rule_book", NULL)

    cdef bint wants(self, int chain) noexcept:
        """Is it a chain without its rules?"""
        return 0 <= chain < self.t.n_chains and self.t.chain[chain].absent

    def write(self, int chain, list pieces):
        cdef RuleChain *c
        cdef int at, n, i
        if not self.wants(chain):
            raise ValueError(f"the book has no chain {chain}, or it is written, empty or a namespace's own")
        c = &self.t.chain[chain]
        if (any([len(packed) % sizeof(PackedRule) for packed, _ in pieces])
                or sum([len(packed) for packed, _ in pieces]) != c.count * sizeof(PackedRule)):
            raise ValueError(f"chain {chain} has {c.count} rules, and others were given")
        at = c.first
        try:
            for packed, base in pieces:
                n = <int>(len(packed) // sizeof(PackedRule))
                unpack_rules(&self.t.rule[at], &self.t.glance[at], <const PackedRule *><const char *>(<bytes>packed), n)
                for i in range(n):
                    relocate(&self.t.rule[at + i], base, self.t.n_chains)
                at += n
        except BaseException:
            memset(&self.t.rule[c.first], 0, c.count * sizeof(Rule))
            memset(&self.t.glance[c.first], 0, c.count * sizeof(Glance))
            raise
        rules_link(&self.t, &self.t.rule[c.first], &self.t.glance[c.first], c.count)
        c.absent = False

    cdef int fill(self, int chain) noexcept:
        """Let the source write what a walk wants. Where it cannot, the chain's rules, all zero, do nothing, and the next walk asks again."""
        if _failures:
            return 0
        try:
            for number, pieces in self.source(chain):
                if self.wants(number):
                    self.write(number, pieces)
            if self.wants(chain):
                raise ValueError(f"nobody wrote chain {chain}")
        except BaseException as error:
            _failures.append(error)
        return 0


cdef int relocate(Rule *rule, int base, int n_chains) except -1:
    """Jumps to chains of the same part count from its first one, others from the table's first, as -1 - NUMBER."""
    if rule_jumps(rule):
        rule.chain = rule.chain + base if rule.chain >= 0 else -1 - rule.chain
        if not 0 <= rule.chain < n_chains:
            raise ValueError("a rule jumps to no chain of the book")
    return 0


def local_rules(packed, int base, int n_chains):
    cdef bytearray rules = bytearray(packed)
    cdef PackedRule *each = <PackedRule *><char *>rules
    cdef int i
    for i in range(<int>(len(rules) // sizeof(PackedRule))):
        relocate(&each[i].rule, base, n_chains)
    return bytes(rules)
