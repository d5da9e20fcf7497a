"""Rules that many namespaces have in common, kept once: see ``dataplane/_rulebook.pyi``."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ext.border.rules cimport rule_from_dict
from ext.tables.rule_index cimport index_free
from ext.tables.rules cimport HOOKS, Rule, RuleChain, RuleTable, T_ACCEPT, T_DROP, T_GOTO, T_JUMP, rules_index

cdef enum:
    LINE = 64  # bytes of a cache line
    FIRST_LIST = 1 << 20  # of ``recent``; below it are those of tables that are a namespace's own

_HOOK_NUMBERS = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
_failures = []  # what sources raised, for ``take_failure``


class _Lists(dict):
    """Numbers of ``recent`` lists by name: above those of tables that are a namespace's own."""

    def setdefault(self, name, _):
        return super().setdefault(name, FIRST_LIST + len(self))


_lists = _Lists()
RULE_SIZE = sizeof(Rule)


def pack_rules(matches, dict targets):
    cdef Rule r
    cdef bytes one
    packed = []
    for match in matches:
        memset(&r, 0, sizeof(Rule))
        rule_from_dict(&r, match, targets, _lists)
        one = (<char *>&r)[:sizeof(Rule)]
        packed.append(one)
    return b"".join(packed)


cdef void fill_chain(void *book, int chain) noexcept nogil:
    with gil:
        (<RuleBook>book).fill(chain)


cdef class RuleBook:
    cdef RuleTable t
    cdef void *memory  # of ``t.rule``, which begins at a cache line in it
    cdef object source

    def __cinit__(self, bytes counts, dict builtin, bint random, bint unsteady, source):
        cdef const int32_t *count = <const int32_t *><const char *>counts
        cdef int i, n = <int>(len(counts) // 4)
        self.source = source
        for i in range(HOOKS):
            self.t.builtin[i] = -1
        self.t.chain = <RuleChain *>calloc(max(n, 1), sizeof(RuleChain))
        if self.t.chain == NULL:
            raise MemoryError
        for i in range(n):
            self.t.chain[i].first = self.t.n_rules
            self.t.chain[i].count = count[i]
            self.t.chain[i].absent = count[i] > 0
            self.t.n_rules += count[i]
        self.t.n_chains = n
        self.t.random = random
        self.t.unsteady = unsteady
        self.t.local_from = self.t.n_rules
        self.memory = calloc(self.t.n_rules + 1, sizeof(Rule))  # memory that nobody writes costs none
        if self.memory == NULL:
            raise MemoryError
        self.t.rule = <Rule *>((<size_t>self.memory + LINE - 1) & ~<size_t>(LINE - 1))
        for name, (chain, policy) in builtin.items():
            self.t.builtin[<int>_HOOK_NUMBERS[name]] = chain
            self.t.chain[<int>chain].policy = {"ACCEPT": T_ACCEPT, "DROP": T_DROP}[policy]
        self.t.book = <void *>self
        self.t.fill = fill_chain

    def __dealloc__(self):
        index_free(&self.t.index)
        free(self.memory)
        free(self.t.chain)

    def index(self, int family):
        if self.t.index.place != NULL:
            raise ValueError("the book has an index already")
        if not rules_index(&self.t, 16 if family == 6 else 4):
            raise MemoryError

    @staticmethod
    def take_failure():
        return _failures.pop() if _failures else None

    def table(self):
        return PyCapsule_New(&self.t, b"dataplane.rule_book", NULL)

    def write(self, int chain, pieces):
        cdef RuleChain *c
        cdef Rule *to
        cdef int done = 0, n
        if not 0 <= chain < self.t.n_chains:
            raise ValueError(f"the book has no chain {chain}")
        c = &self.t.chain[chain]
        for packed, base in pieces:
            n = <int>(len(packed) // sizeof(Rule))
            if done + n > c.count:
                break
            to = &self.t.rule[c.first + done]
            memcpy(to, <const char *>(<bytes>packed), n * sizeof(Rule))
            relocate(to, n, base, self.t.n_chains)
            done += n
        if done != c.count:
            raise ValueError(f"chain {chain} has {c.count} rules, and others were given")
        c.absent = False

    cdef int fill(self, int chain) noexcept:
        """Let the source write what a walk wants. If it cannot, the chain's rules match nothing."""
        try:
            for number, pieces in self.source(chain):
                self.write(number, pieces)
        except BaseException as error:
            _failures.append(error)
        if self.t.chain[chain].absent:
            self.t.chain[chain].count = 0
            self.t.chain[chain].absent = False
        return 0


cdef int relocate(Rule *rules, int n, int base, int n_chains) except -1:
    """Jumps to chains of the same part count from its first one, others from the table's first, as -1 - NUMBER."""
    cdef int i
    for i in range(n):
        if rules[i].target == T_JUMP or rules[i].target == T_GOTO:
            rules[i].chain = rules[i].chain + base if rules[i].chain >= 0 else -1 - rules[i].chain
            if not 0 <= rules[i].chain < n_chains:
                raise ValueError("a rule jumps to no chain of the book")
    return 0


def local_rules(packed, int base, int n_chains):
    """Those of one namespace's own last chains, relocated."""
    cdef bytearray rules = bytearray(packed)
    relocate(<Rule *><char *>rules, <int>(len(rules) // sizeof(Rule)), base, n_chains)
    return bytes(rules)
