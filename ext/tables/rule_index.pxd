# An index over long chains: which rules of a run can match a flow at all, without a look at each.
#
# A run is a stretch of rules of one chain that all name one destination address, or all name one destination port. What such a rule
# does not match by is found out without side effects, so that a walk may step over it, counting it as looked at.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp
from ext.tables.memory cimport memory_lines
from ext.wire.bytes cimport ld32, ld64
from ext.wire.hash cimport word_hash

cdef enum:
    RUN_ADDRESS = 1  # all rules match on a destination address, whole
    RUN_PORT = 2  # all rules match on a single destination port
    RUN_LEAST = 8  # rules; shorter ones are walked one by one
    RUN_COLD = 128  # rules: of longer ones few are in the processor's caches

cdef struct RuleKey:
    uint8_t kind  # RUN_*, 0: the rule belongs into no run
    uint8_t address[16]  # zero for the other kind
    uint32_t port

cdef struct RuleRun:
    int first
    int end  # one past the last
    uint8_t kind

cdef struct RulePlace:
    int run  # that the rule belongs to, -1: none
    int next  # rule of the same run and key, -1: none
    RuleKey key

cdef struct RunSlot:
    int rule  # the first one with its key, -1: empty
    uint32_t tag  # upper half of the key's hash
    int leads  # the first of the rules that will be read behind it
    int n_leads

cdef struct RuleIndex:
    RuleRun *run
    int n_runs
    int runs_cap
    RulePlace *place  # of each rule of the table; NULL: there are no runs
    RunSlot *slot  # open addressing by run and key
    uint32_t mask
    int cold  # the longest run by addresses, if it has RUN_COLD rules or more, plus 1; 0: there is none


cdef inline uint64_t run_hash(int run, const uint8_t *address, uint32_t port) noexcept nogil:
    return word_hash(word_hash(<uint64_t>run << 32 | port, ld64(address)), ld64(address + 8))


cdef inline uint64_t run_hash4(int run, const uint8_t *address) noexcept nogil:
    """The same of an IPv4 address."""
    return word_hash(word_hash(<uint64_t>run << 32, <uint64_t>ld32(address) << 32), 0)


cdef inline RunSlot *run_slot(const RuleIndex *x, int run, const uint8_t *address, uint32_t port) noexcept nogil:
    """Where the first rule of the run with this key is named, or would be; ``address``: 16 bytes."""
    cdef uint64_t hash = run_hash(run, address, port), at = hash
    cdef const RulePlace *place
    cdef RunSlot *slot
    while True:
        slot = &x.slot[at & x.mask]
        if slot.rule < 0:
            slot.tag = <uint32_t>(hash >> 32)
            return slot
        place = &x.place[slot.rule]
        if place.run == run and place.key.port == port and memcmp(place.key.address, address, 16) == 0:
            return slot
        at += 1


cdef inline int run_first(const RuleIndex *x, int run, const uint8_t *address, uint32_t port) noexcept nogil:
    """The first rule of the run with this key; -1: there is none."""
    return run_slot(x, run, address, port).rule


cdef inline bint run_add(RuleIndex *x, int first, int end, int kind) noexcept nogil:
    """False: memory is out."""
    cdef RuleRun *grown
    cdef int cap, i
    if x.n_runs == x.runs_cap:
        cap = x.runs_cap * 2 if x.runs_cap else 16
        grown = <RuleRun *>realloc(x.run, cap * sizeof(RuleRun))
        if grown == NULL:
            return False
        x.run = grown
        x.runs_cap = cap
    x.run[x.n_runs].first = first
    x.run[x.n_runs].end = end
    x.run[x.n_runs].kind = <uint8_t>kind
    for i in range(first, end):
        x.place[i].run = x.n_runs
    x.n_runs += 1
    return True


cdef inline bint index_begin(RuleIndex *x, int n_rules) noexcept nogil:
    """For a table of so many rules, whose keys the caller writes. False: memory is out; index_free() is due all the same."""
    cdef int i
    x.place = <RulePlace *>memory_lines((n_rules + 1) * sizeof(RulePlace))
    if x.place == NULL:
        return False
    for i in range(n_rules):
        x.place[i].run = x.place[i].next = -1
    return True


cdef inline bint index_chain(RuleIndex *x, int first, int end) noexcept nogil:
    """Find the runs of a chain, the rules from ``first`` on. False: memory is out."""
    cdef int i = first, start
    while i < end:
        start = i
        while i < end and x.place[i].key.kind == x.place[start].key.kind:
            i += 1
        if x.place[start].key.kind and i - start >= RUN_LEAST and not run_add(x, start, i, x.place[start].key.kind):
            return False
    return True


cdef inline bint index_slots(RuleIndex *x) noexcept nogil:
    """Room for all rules of runs. False: memory is out."""
    cdef uint32_t slots = 16, rules = 0, i
    for i in range(<uint32_t>x.n_runs):
        rules += <uint32_t>run_length(x, <int>i)
    while slots < 2 * rules:
        slots *= 2
    x.slot = <RunSlot *>memory_lines(slots * sizeof(RunSlot))
    x.mask = slots - 1
    if x.slot == NULL:
        return False
    for i in range(slots):
        x.slot[i].rule = -1
    return True


cdef inline bint index_end(RuleIndex *x, int n_rules) noexcept nogil:
    """All chains' runs are known: enter their rules, from the last to the first, so that each names the next one. False: memory is out."""
    cdef int i = n_rules
    cdef RunSlot *slot
    if not index_slots(x):
        return False
    while i > 0:
        i -= 1
        if x.place[i].run >= 0:
            slot = run_slot(x, x.place[i].run, x.place[i].key.address, x.place[i].key.port)
            x.place[i].next = slot.rule
            slot.rule = i
    for i in range(x.n_runs):
        if x.run[i].kind == RUN_ADDRESS and run_length(x, i) >= max(RUN_COLD, run_length(x, x.cold - 1)):
            x.cold = i + 1
    return True


cdef inline int run_length(const RuleIndex *x, int run) noexcept nogil:
    return x.run[run].end - x.run[run].first if run >= 0 else 0


cdef inline void index_free(RuleIndex *x) noexcept nogil:
    free(x.run)
    free(x.place)
    free(x.slot)
