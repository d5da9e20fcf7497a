# Netfilter tables as iptables knows them: chains of rules with matches and a target.
#
# Rules are walked in the kernel's order, jumps on a small stack; an index steps over rules of long chains that cannot match.
# Most rules are decided by a first glance: two words of the packet against two of the rule, under masks (rule_glance.pxd makes them).
# What glances read stands apart from the rest of the rules, so that of a large table few lines of memory are read.
# Random matches (``statistic``) take their outcome from a ``Choices`` record, so that a caller can let them
# fall by the seed, enumerate them, or look for the fall that a pin asks for.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t, uintptr_t
from libc.stdlib cimport free, calloc
from libc.string cimport memcpy, memcmp, memset, strncmp
from ext.tables.fib cimport Fib, fib_local_type, RT_BROADCAST, RT_MULTICAST
from ext.tables.htab cimport HTab, HNode, htab_insert, htab_first, htab_next, htab_remove
from ext.tables.rule_index cimport (RuleIndex, RuleKey, RuleRun, RunSlot, index_begin, index_chain, index_end, index_free, run_first,
                                    run_hash4, RUN_ADDRESS, RUN_PORT)
from ext.wire.bytes cimport ask_for, rarely, raw_pair, seldom
from ext.wire.hash cimport draw_hash, hash_bytes, mix64
from ext.wire.ipv4 cimport ipv4_is_zeronet, ipv4_is_lbcast, ipv4_is_multicast

cdef enum:
    # matches of a rule; the same bit in ``invert`` turns it round
    M_SRC = 1 << 0
    M_DST = 1 << 1
    M_IIF = 1 << 2
    M_OIF = 1 << 3
    M_PROTO = 1 << 4
    M_SPORT = 1 << 5
    M_DPORT = 1 << 6
    M_CTSTATE = 1 << 7
    M_SRC_TYPE = 1 << 8
    M_DST_TYPE = 1 << 9
    M_MARK = 1 << 10
    M_STATISTIC = 1 << 11
    M_RECENT = 1 << 12
    M_ICMP = 1 << 13
    M_TCP_FLAGS = 1 << 14
    M_FRAGMENT = 1 << 15
    LOOKED_FURTHER = 0x80000000  # of Looked: the walk changed something, or had to be told more
    M_RUN = 1 << 16  # of Looked: a run of the index was stepped through
    MATCH_L3 = M_SRC | M_DST | M_IIF | M_OIF | M_PROTO
    MATCH_L4 = M_SPORT | M_DPORT | M_ICMP | M_TCP_FLAGS | M_FRAGMENT
    MATCH_REST = M_CTSTATE | M_SRC_TYPE | M_DST_TYPE | M_MARK | M_STATISTIC | M_RECENT
    # targets
    T_ABSENT = 0  # the rule is not written yet: it does nothing
    T_NONE = 1
    T_ACCEPT = 2
    T_DROP = 3
    T_RETURN = 4
    T_REJECT = 5
    T_MARK = 6
    T_DNAT = 7
    T_SNAT = 8
    T_MASQUERADE = 9
    T_JUMP = 10
    T_GOTO = 11
    # what a glance at the words leaves to be looked at
    GLANCE_RUN = 1  # nothing: the rule belongs to a run of the index
    GLANCE_CHANCE = 2
    GLANCE_NOT_FROM = 4  # the source is not to be one of a prefix
    GLANCE_MORE = 8  # what the rule itself says
    # facts about a packet, in one word: these, its protocol, its destination port and its mark, which glances leave out
    FACT_PORTS = 1
    FACT_NO_PROTO = 2
    FACT_LATER_FRAGMENT = 4
    FACT_CTSTATE = 3  # place of the states that a glance compares, CT_BITS_FACT
    FACT_PROTO = 8
    FACT_DPORT = 16
    FACT_MARK = 32
    WHOLE_PORT = 0xffff0001  # with FACT_PORTS
    WHOLE_DESTINATION = 0xffffffff
    # conntrack states, as xt_conntrack's bits
    CT_BIT_INVALID = 1
    # 2: ESTABLISHED, 4: RELATED
    CT_BIT_NEW = 8
    CT_BIT_SNAT = 1 << 6
    CT_BIT_DNAT = 1 << 7
    CT_BIT_UNTRACKED = 1 << 8
    CT_BITS_FACT = 15
    RECENT_RCHECK = 0
    RECENT_UPDATE = 1
    RECENT_SET = 2
    RECENT_REMOVE = 3
    REJECT_TCP_RESET = 256
    STEADY_TCP_FLAGS = 0xc8  # CWR, ECE and PSH, which come and go within a connection
    IFNAME_MAX = 16
    JUMPS_MAX = 32
    MATCHED_MAX = 24  # a walk remembers; a node port's way through all of kube-proxy's chains matches 13
    CHOICES_MAX = 64
    RECENT_MAX = 65536  # addresses of all lists of a namespace; ip_list_tot is 100 a list, which kube-proxy's lists outgrow silently
    HOOKS = 5
    HOOK_PREROUTING = 0
    HOOK_INPUT = 1
    HOOK_FORWARD = 2
    HOOK_OUTPUT = 3
    HOOK_POSTROUTING = 4
    TABLES = 4
    TABLE_RAW = 0
    TABLE_MANGLE = 1
    TABLE_NAT = 2
    TABLE_FILTER = 3

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* The masks of IPv4 prefixes by length, and of pairs of them, source and destination, as raw_pair() has those. */
    #define DP_MASK_BYTE(n, at) ((n) <= (at) ? 0 : (n) >= (at) + 8 ? 0xffu : 0xff00u >> ((n) - (at)) & 0xff)
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define DP_MASK(n) (DP_MASK_BYTE(n, 0) << 24 | DP_MASK_BYTE(n, 8) << 16 | DP_MASK_BYTE(n, 16) << 8 | DP_MASK_BYTE(n, 24))
    #else
    #define DP_MASK(n) (DP_MASK_BYTE(n, 24) << 24 | DP_MASK_BYTE(n, 16) << 16 | DP_MASK_BYTE(n, 8) << 8 | DP_MASK_BYTE(n, 0))
    #endif
    #define DP_PAIR(s, d) ((uint64_t)DP_MASK(s) << 32 | DP_MASK(d))
    #define DP_PAIRS4(s, d) DP_PAIR(s, d), DP_PAIR(s, d + 1), DP_PAIR(s, d + 2), DP_PAIR(s, d + 3)
    #define DP_PAIRS(s) {DP_PAIRS4(s, 0), DP_PAIRS4(s, 4), DP_PAIRS4(s, 8), DP_PAIRS4(s, 12), DP_PAIRS4(s, 16), DP_PAIRS4(s, 20), \
                         DP_PAIRS4(s, 24), DP_PAIRS4(s, 28), DP_PAIR(s, 32)}
    #define DP_ROWS4(s) DP_PAIRS(s), DP_PAIRS(s + 1), DP_PAIRS(s + 2), DP_PAIRS(s + 3)
    static const uint64_t dp_pair_mask[33][33] = {
        DP_ROWS4(0), DP_ROWS4(4), DP_ROWS4(8), DP_ROWS4(12), DP_ROWS4(16), DP_ROWS4(20), DP_ROWS4(24), DP_ROWS4(28), DP_PAIRS(32)};

    static inline uint32_t raw_mask(int length)
    {
        return (uint32_t)dp_pair_mask[0][length];
    }

    static inline uint16_t pair_lengths(int source, int destination)
    {
        return (uint16_t)(33 * source + destination);
    }

    static inline uint64_t pair_mask(uint16_t lengths)
    {
        return (&dp_pair_mask[0][0])[lengths];
    }
    """
    uint32_t raw_mask(int length) noexcept nogil
    uint16_t pair_lengths(int source, int destination) noexcept nogil
    uint64_t pair_mask(uint16_t lengths) noexcept nogil

cdef struct RuleLead:
    int first  # the first rule of the chain that it leads to
    int count

cdef struct RuleEnd:
    uint8_t address[4]
    uint16_t port
    uint8_t only  # else nothing here holds

cdef union RuleTo:
    RuleLead lead  # jump and goto
    RuleEnd end  # DNAT: to just one IPv4 address and port

cdef struct Glance:
    # What most rules are decided by and what they do, two in a cache line: a walk reads the rule itself for GLANCE_MORE alone.
    uint64_t addresses  # IPv4 source and destination as raw_pair() has them: the packet's must be the same as far as ``lengths`` goes
    uint32_t facts  # the packet's must be the same under the mask
    uint32_t facts_mask
    uint32_t further  # GLANCE_CHANCE: of 2^31; GLANCE_NOT_FROM: the mask of the source
    RuleTo to
    uint8_t target
    uint8_t rest
    uint16_t lengths  # of both prefixes, see pair_mask()

ctypedef const Glance *GlanceAt

cdef struct RulesLeft:
    # of a chain that a jump has led away from
    GlanceAt next
    GlanceAt end

cdef struct Rule:
    uint32_t match
    uint32_t rest  # matches that the glance does not decide
    uint64_t rest_addresses  # at what those look, as masks of a glance
    uint64_t rest_facts
    int64_t recent_ns
    uint8_t src[16]
    uint8_t dst[16]
    uint8_t to_min[16]
    uint8_t to_max[16]
    char iif[IFNAME_MAX]
    char oif[IFNAME_MAX]
    int chain  # jump and goto
    int origin
    uint32_t probability  # of 2^31
    uint32_t set_value
    uint32_t set_mask
    uint32_t mark
    uint32_t mark_mask
    uint32_t src_type
    uint32_t dst_type
    uint32_t recent_list
    uint16_t ctstate
    uint16_t invert  # bits of ``match`` that are turned round
    uint16_t sport[2]
    uint16_t dport[2]
    uint16_t port_min
    uint16_t port_max
    uint16_t reject_with
    uint8_t target
    uint8_t src_len
    uint8_t dst_len
    uint8_t proto
    uint8_t has_address
    uint8_t random
    uint8_t persistent
    uint8_t recent_op
    uint8_t iif_len  # bytes to compare: with the terminating zero unless the name ended in +
    uint8_t oif_len
    uint8_t tcp_mask
    uint8_t tcp_want
    uint8_t icmp_type
    uint8_t icmp_low
    uint8_t icmp_high

cdef struct RuleChain:
    int first
    int count
    uint8_t policy  # T_ACCEPT, T_DROP; T_NONE: a user chain
    uint8_t absent  # its rules are written when a walk first comes by

ctypedef void (*RuleFillFn)(void *book, int chain) noexcept nogil

cdef struct RuleTable:
    Rule *rule
    Glance *glance  # of each
    RuleChain *chain
    int n_rules
    int n_chains
    int builtin[HOOKS]  # chain of a hook, -1: none
    uint8_t random  # some rule asks chance
    # of a table that several namespaces have in common, but for its last chains:
    void *book  # whose ``rule``, ``glance`` and ``chain`` are, NULL: the table's own
    RuleFillFn fill  # writes the rules of an absent chain
    Rule *local  # the rules from number ``local_from`` on; those of ``rule`` are zero there, and in no run of the index
    Glance *local_glance
    int local_from  # n_rules: there are none
    uint8_t unsteady  # some rule may say something else of the next packet of the same connection
    RuleIndex index
    void *memo  # of a namespace's own: a RuleMemo, see rule_memo.pxd

cdef struct RecentEntry:
    HNode node
    uint32_t list
    uint8_t addr[16]
    int64_t stamp

cdef struct Choices:
    # outcomes of random matches in the order met; beyond ``n_fixed`` they fall by ``seed`` or, if ``enumerate``, to True
    uint8_t fall[CHOICES_MAX]
    double chance[CHOICES_MAX]  # if ``enumerate``: probability of what it fell to
    int n_fixed
    int n
    uint8_t enumerate
    uint8_t undrawn  # ``seed`` is to be the ``nth`` draw for ``subject``, which no rule has asked for yet
    uint16_t nth
    uint64_t subject
    uint64_t seed

cdef struct RecentMark:
    uint32_t list
    uint8_t op
    uint8_t addr[16]

cdef struct Flow:
    # what rules see of a packet
    uint8_t family
    uint8_t proto
    uint8_t later_fragment  # like the other flags 0 or 1
    uint8_t no_proto  # IPv6: the chain of extension headers is broken off
    uint8_t alen
    const uint8_t *src
    const uint8_t *dst
    const uint8_t *l4
    uint32_t l4len
    uint8_t has_ports  # the first four bytes of layer 4 are there, whatever they are
    uint16_t sport
    uint16_t dport
    const char *iif
    const char *oif
    uint32_t ctstate
    uint64_t addresses  # IPv4: raw_pair()
    uint64_t facts  # flow_facts() without a mark
    int64_t now
    HTab *recent
    const Fib *fib

cdef struct Looked:
    # at what of a packet a walk has looked, or at more
    uint64_t addresses  # as masks of a glance
    uint64_t facts
    uint32_t asked  # M_* beside those, and LOOKED_FURTHER

cdef struct Verdict:
    uint8_t target  # ACCEPT DROP REJECT DNAT SNAT MASQUERADE
    const Glance *rule  # that decided, NULL: the policy or the end of the chain; see rule_of()
    int walked  # rules looked at
    # what ``recent --set`` and its kin want remembered, if the verdict is carried out
    RecentMark recent[4]
    int n_recent
    const Glance **matched  # the rules that matched, in order
    int n_matched
    const Glance *room[MATCHED_MAX]  # for them
    Looked looked


cdef inline bint prefix_match(const uint8_t *a, const uint8_t *b, int bits) noexcept nogil:
    cdef int whole = bits >> 3, rest = bits & 7
    if memcmp(a, b, whole):
        return False
    return rest == 0 or ((a[whole] ^ b[whole]) >> (8 - rest)) == 0


cdef inline RecentEntry *recent_find(const HTab *t, uint32_t list, const uint8_t *addr, int alen) noexcept nogil:
    cdef HNode *node = htab_first(t, hash_bytes(list, addr, alen))
    while node != NULL:
        if (<RecentEntry *>node).list == list and memcmp((<RecentEntry *>node).addr, addr, alen) == 0:
            return <RecentEntry *>node
        node = htab_next(node)
    return NULL


cdef inline void recent_apply(HTab *t, const RecentMark *m, int alen, int64_t now) noexcept nogil:
    cdef RecentEntry *e = recent_find(t, m.list, m.addr, alen)
    if m.op == RECENT_REMOVE:
        if e != NULL:
            htab_remove(t, &e.node)
            free(e)
        return
    if e == NULL:
        if t.count >= RECENT_MAX:
            return
        e = <RecentEntry *>calloc(1, sizeof(RecentEntry))
        if e == NULL:
            return
        e.list = m.list
        memcpy(e.addr, m.addr, alen)
        if not htab_insert(t, &e.node, hash_bytes(m.list, m.addr, alen)):
            free(e)
            return
    e.stamp = now


cdef inline bint match_recent(const Rule *r, const Flow *f, Verdict *v) noexcept nogil:
    """net/netfilter/xt_recent.c: the source address against a list; what it changes is noted, not done."""
    cdef RecentEntry *e = recent_find(f.recent, r.recent_list, f.src, f.alen)
    cdef bint known = e != NULL and (r.recent_ns == 0 or f.now - e.stamp <= r.recent_ns)
    cdef RecentMark *m
    if r.recent_op == RECENT_RCHECK:
        return known
    if (r.recent_op == RECENT_SET or known) and v.n_recent < 4:
        m = &v.recent[v.n_recent]
        v.n_recent += 1
        m.list = r.recent_list
        m.op = r.recent_op
        memcpy(m.addr, f.src, f.alen)
    return True if r.recent_op == RECENT_SET else known


cdef inline void choices_begin(Choices *c) noexcept nogil:
    """Nothing is fixed, and what falls by chance falls by seed 0."""
    c.n_fixed = c.n = 0
    c.enumerate = c.undrawn = False
    c.seed = 0


cdef inline void choices_draw(Choices *c, uint64_t subject, uint16_t nth) noexcept nogil:
    """What falls by chance falls by this draw (draw_hash())."""
    c.undrawn = True
    c.subject = subject
    c.nth = nth


cdef inline bint match_statistic(uint32_t probability, Choices *c, int at) noexcept nogil:
    """``at``: the rule's number, from 1."""
    cdef bint fall
    cdef double p
    if c.n >= CHOICES_MAX:
        return False
    if c.n < c.n_fixed:
        fall = c.fall[c.n]
    elif c.enumerate:
        fall = True
    else:
        if c.undrawn:
            c.seed = draw_hash(c.subject, c.nth)
            c.undrawn = False
        fall = (mix64(c.seed ^ mix64(<uint64_t>at)) & 0x7fffffff) < probability
    c.fall[c.n] = fall
    if seldom(c.enumerate):
        p = probability / 2147483648.0
        c.chance[c.n] = p if fall else 1 - p
    c.n += 1
    return fall


cdef inline bint match_ports(const Rule *r, uint32_t asked, const Flow *f) noexcept nogil:
    if not f.has_ports:
        return False
    if asked & M_SPORT and (r.sport[0] <= f.sport <= r.sport[1]) == ((r.invert & M_SPORT) != 0):
        return False
    return not (asked & M_DPORT and (r.dport[0] <= f.dport <= r.dport[1]) == ((r.invert & M_DPORT) != 0))


cdef inline bint match_l4(const Rule *r, uint32_t asked, const Flow *f) noexcept nogil:
    cdef bint hit
    if asked & M_FRAGMENT and (f.later_fragment != 0) == ((r.invert & M_FRAGMENT) != 0):
        return False
    if asked & (M_SPORT | M_DPORT) and not match_ports(r, asked, f):
        return False
    if asked & M_TCP_FLAGS:
        if f.later_fragment or f.l4len < 14:
            return False
        hit = (f.l4[13] & r.tcp_mask) == r.tcp_want
        if hit == ((r.invert & M_TCP_FLAGS) != 0):
            return False
    if asked & M_ICMP:
        if f.later_fragment or f.l4len < 2:
            return False
        hit = (r.icmp_type == 255 or f.l4[0] == r.icmp_type) and r.icmp_low <= f.l4[1] <= r.icmp_high
        if hit == ((r.invert & M_ICMP) != 0):
            return False
    return True


cdef inline bint match_addresses(const Rule *r, uint32_t asked, const Flow *f) noexcept nogil:
    cdef uint64_t differ
    cdef bint src, dst
    if f.alen == 4:
        differ = f.addresses ^ raw_pair(r.src, r.dst)
        src = differ >> 32 & raw_mask(min(r.src_len, 32)) == 0
        dst = differ & raw_mask(min(r.dst_len, 32)) == 0
    else:
        src = prefix_match(f.src, r.src, r.src_len)
        dst = prefix_match(f.dst, r.dst, r.dst_len)
    if asked & M_SRC and src == ((r.invert & M_SRC) != 0):
        return False
    return not (asked & M_DST and dst == ((r.invert & M_DST) != 0))


cdef inline bint match_l3(const Rule *r, uint32_t asked, const Flow *f) noexcept nogil:
    if asked & (M_SRC | M_DST) and not match_addresses(r, asked, f):
        return False
    if asked & M_IIF and (strncmp(f.iif, r.iif, r.iif_len) == 0) == ((r.invert & M_IIF) != 0):
        return False
    if asked & M_OIF and (strncmp(f.oif, r.oif, r.oif_len) == 0) == ((r.invert & M_OIF) != 0):
        return False
    if asked & M_PROTO and f.no_proto:
        return False
    return not (asked & M_PROTO and (f.proto == r.proto) == ((r.invert & M_PROTO) != 0))


cdef inline int addr_type(const Fib *fib, const uint8_t *addr, int alen) noexcept nogil:
    """What kind of address it is for this namespace (inet_addr_type(), ipv6_addr_type()): an RT_* value."""
    if alen == 4:
        if ipv4_is_zeronet(addr) or ipv4_is_lbcast(addr):
            return RT_BROADCAST
        if ipv4_is_multicast(addr):
            return RT_MULTICAST
    elif addr[0] == 0xff:
        return RT_MULTICAST
    return fib_local_type(fib, addr, -1)


cdef inline bint addr_type_in(const Flow *f, const uint8_t *addr, uint32_t types) noexcept nogil:
    return (<uint32_t>1 << addr_type(f.fib, addr, f.alen)) & types != 0


cdef inline bint match_rest(const Rule *r, int number, uint32_t asked, const Flow *f, uint32_t mark, Choices *c, Verdict *v) noexcept nogil:
    if asked & M_CTSTATE and ((f.ctstate & r.ctstate) != 0) == ((r.invert & M_CTSTATE) != 0):
        return False
    if asked & M_SRC_TYPE and addr_type_in(f, f.src, r.src_type) == ((r.invert & M_SRC_TYPE) != 0):
        return False
    if asked & M_DST_TYPE and addr_type_in(f, f.dst, r.dst_type) == ((r.invert & M_DST_TYPE) != 0):
        return False
    if asked & M_MARK and ((mark & r.mark_mask) == r.mark) == ((r.invert & M_MARK) != 0):
        return False
    if asked & M_STATISTIC and match_statistic(r.probability, c, number + 1) == ((r.invert & M_STATISTIC) != 0):
        return False
    return not (asked & M_RECENT and match_recent(r, f, v) == ((r.invert & M_RECENT) != 0))


cdef inline bint match_asked(const Rule *r, int number, uint32_t asked, const Flow *f, uint32_t mark, Choices *c, Verdict *v) noexcept nogil:
    """Those of a rule's matches that are bits of ``asked``; ``number``: the rule's."""
    if asked & MATCH_L3 and not match_l3(r, asked, f):
        return False
    if asked & MATCH_L4 and not match_l4(r, asked, f):
        return False
    return not asked & MATCH_REST or match_rest(r, number, asked, f, mark, c, v)


# ---- the glance

cdef inline uint64_t facts_of(const Flow *f) noexcept nogil:
    """All but the mark, which rules change."""
    cdef uint64_t facts = <uint64_t>f.dport << FACT_DPORT | <uint64_t>f.proto << FACT_PROTO | (f.ctstate & CT_BITS_FACT) << FACT_CTSTATE
    if f.has_ports:
        facts |= FACT_PORTS
    if rarely(f.later_fragment):
        facts |= FACT_LATER_FRAGMENT
    if rarely(f.no_proto):
        facts |= FACT_NO_PROTO
    return facts


cdef inline void flow_words(Flow *f) noexcept nogil:
    """What glances compare, when all else is known."""
    f.addresses = raw_pair(f.src, f.dst) if f.alen == 4 else 0
    f.facts = facts_of(f)


cdef inline uint64_t flow_facts(const Flow *f, uint32_t mark) noexcept nogil:
    return f.facts | <uint64_t>mark << FACT_MARK


cdef inline bint rule_jumps(const Rule *r) noexcept nogil:
    return r.target == T_JUMP or r.target == T_GOTO


cdef inline bint glance_jumps(const Glance *g) noexcept nogil:
    return g.target == T_JUMP or g.target == T_GOTO


cdef inline RuleKey rule_key(const Rule *r, int alen) noexcept nogil:
    """What the index may find the rule by."""
    cdef RuleKey key
    memset(&key, 0, sizeof(RuleKey))
    if r.match & ~r.invert & M_DST and r.dst_len == 8 * alen:
        key.kind = RUN_ADDRESS
        memcpy(key.address, r.dst, alen)
    elif r.match & ~r.invert & M_DPORT and r.dport[0] == r.dport[1]:
        key.kind = RUN_PORT
        key.port = r.dport[0]
    return key


cdef inline bint rules_index(RuleTable *t, int alen) noexcept nogil:
    """Build the index of a table for addresses of ``alen`` bytes. False: memory is out."""
    cdef RuleIndex *x = &t.index
    cdef int i, at
    if not index_begin(x, t.n_rules):
        return False
    for i in range(t.n_chains):
        if t.chain[i].absent:
            continue  # what is written later is short
        for at in range(t.chain[i].first, t.chain[i].first + t.chain[i].count):
            x.place[at].key = rule_key(&t.rule[at], alen)
        if not index_chain(x, t.chain[i].first, t.chain[i].first + t.chain[i].count):
            return False
    if not index_end(x, t.n_rules):
        return False
    for i in range(t.n_rules):
        if x.place[i].run >= 0:
            t.glance[i].rest |= GLANCE_RUN
    for i in range(<int>x.mask + 1):
        if x.slot[i].rule >= 0:
            slot_leads(t, &x.slot[i])
    return True


cdef inline void slot_leads(const RuleTable *t, RunSlot *slot) noexcept nogil:
    """What will be read behind the slot's rule: the chain that it leads to and, as chains of endpoints stand right behind their service's,
    those that this one leads to in its turn."""
    cdef const Rule *r = &t.rule[slot.rule]
    cdef const RuleChain *chain
    cdef int i, end
    if not rule_jumps(r) or t.chain[r.chain].first >= t.local_from:
        return
    chain = &t.chain[r.chain]
    end = chain.first + chain.count
    for i in range(chain.first, chain.first + chain.count if not chain.absent else 0):
        if rule_jumps(&t.rule[i]) and t.chain[t.rule[i].chain].first == end < t.local_from:
            end += t.chain[t.rule[i].chain].count
    slot.leads = chain.first
    slot.n_leads = end - chain.first


cdef inline void rules_link(const RuleTable *t, const Rule *rule, Glance *glance, int n) noexcept nogil:
    """Let ``n`` of the table's rules know the chains they lead to; where and how long those are is known before they are written."""
    cdef int i
    for i in range(n):
        if rule_jumps(&rule[i]):
            glance[i].to.lead.first = t.chain[rule[i].chain].first
            glance[i].to.lead.count = t.chain[rule[i].chain].count


cdef inline int run_first4(const RuleTable *t, int number, const Flow *f) noexcept nogil:
    """run_first() by an IPv4 address: a rule's glance says what it is about, and will be read anyway."""
    cdef const RuleRun *run = &t.index.run[number]
    cdef uint64_t hash = run_hash4(number, f.dst), at = hash
    cdef const RunSlot *slot
    while True:
        slot = &t.index.slot[at & t.index.mask]
        if slot.rule < 0:
            return -1
        if (slot.tag == <uint32_t>(hash >> 32) and run.first <= slot.rule < run.end
                and (t.glance[slot.rule].addresses ^ f.addresses) & WHOLE_DESTINATION == 0):
            return slot.rule
        at += 1


cdef inline int run_seek(const RuleTable *t, const RuleRun *run, int at, const Flow *f) noexcept nogil:
    """The first rule of the run from ``at`` on that may match, or its end."""
    cdef const RuleIndex *x = &t.index
    cdef uint8_t address[16]
    cdef int next
    if at > run.first:
        next = x.place[at - 1].next  # that one had the flow's key
    elif run.kind == RUN_ADDRESS and f.alen == 4:
        next = run_first4(t, x.place[at].run, f)
    elif run.kind == RUN_PORT and not f.has_ports:
        next = -1
    else:
        memset(address, 0, 16)
        if run.kind == RUN_ADDRESS:
            memcpy(address, f.dst, 16)
        next = run_first(x, x.place[at].run, address, f.dport if run.kind == RUN_PORT else 0)
    return next if next >= 0 else run.end


cdef inline const Glance *glance_at(const RuleTable *t, int at) noexcept nogil:
    return &t.glance[at] if at < t.local_from else &t.local_glance[at - t.local_from]


cdef inline int rule_number(const RuleTable *t, const Glance *g) noexcept nogil:
    """Its place in the table, from 0."""
    cdef uintptr_t at = (<uintptr_t>g - <uintptr_t>t.glance) // sizeof(Glance)
    return <int>at if at < <uintptr_t>t.local_from else t.local_from + <int>(g - t.local_glance)


cdef inline const Rule *rule_of(const RuleTable *t, const Glance *g) noexcept nogil:
    """All that there is to know of a rule."""
    cdef int at = rule_number(t, g)
    return &t.rule[at] if at < t.local_from else &t.local[at - t.local_from]


cdef inline int run_skip(const RuleTable *t, const Glance *g, const Flow *f, Looked *looked) noexcept nogil:
    """How many rules of the run, from ``g``'s on, cannot match; -1 - N: these N are all that is left of it. The index asks for the destination."""
    cdef int at = <int>(g - t.glance)
    cdef const RuleRun *run = &t.index.run[t.index.place[at].run]
    cdef int to = run_seek(t, run, at, f)
    looked.addresses |= WHOLE_DESTINATION
    looked.facts |= WHOLE_PORT
    looked.asked |= M_RUN
    return to - at if to != run.end else -1 - (to - at)


cdef inline const Glance *chain_begin(const RuleTable *t, const Glance *g, Looked *looked) noexcept nogil:
    """The first rule of the chain, not empty, that a rule leads to; the next ones, beside it, are asked for before their turn."""
    cdef const Glance *first = glance_at(t, g.to.lead.first)
    ask_for(first + 1)
    ask_for(first + 3)
    if rarely(first.target == T_ABSENT):
        t.fill(t.book, rule_of(t, g).chain)
        looked.asked |= LOOKED_FURTHER
    return first


cdef inline bint rest_matches(const RuleTable *t, const Glance *g, const Flow *f, uint64_t facts, Choices *c, Verdict *v, bint notes, Looked *looked) noexcept nogil:
    """What a glance at the words leaves to be looked at."""
    cdef const Rule *r
    if g.rest & GLANCE_CHANCE:
        looked.asked |= M_STATISTIC
        return match_statistic(g.further, c, rule_number(t, g) + 1)
    if g.rest & GLANCE_NOT_FROM:
        looked.addresses |= <uint64_t>g.further << 32
        looked.asked |= M_SRC
        return (f.addresses ^ g.addresses) >> 32 & g.further != 0
    r = rule_of(t, g)
    if notes:
        looked.addresses |= r.rest_addresses
        looked.facts |= r.rest_facts
        looked.asked |= r.rest
    return match_asked(r, rule_number(t, g), r.rest, f, <uint32_t>(facts >> FACT_MARK), c, v)


cdef inline bint rule_matches(const RuleTable *t, const Glance *g, const Flow *f, uint64_t facts, Choices *c, Verdict *v, bint notes, Looked *looked) noexcept nogil:
    cdef uint64_t mask = pair_mask(g.lengths)
    if notes:
        looked.addresses |= mask
        looked.facts |= g.facts_mask
    if ((f.addresses ^ g.addresses) & mask) | ((facts ^ g.facts) & g.facts_mask):
        return False
    if not seldom(g.rest & ~GLANCE_RUN):
        return True
    return rest_matches(t, g, f, facts, c, v, notes, looked)


cdef inline uint64_t facts_marked(const Rule *r, uint64_t facts) noexcept nogil:
    return facts & ~(<uint64_t>r.set_mask << FACT_MARK) ^ <uint64_t>r.set_value << FACT_MARK


cdef inline void verdict_begin(Verdict *v) noexcept nogil:
    v.rule = NULL
    v.target = T_ACCEPT
    v.walked = v.n_recent = v.n_matched = 0
    v.matched = v.room


cdef inline void rules_walk(const RuleTable *t, int hook, const Flow *f, uint32_t *mark, Choices *c, Verdict *v, bint notes) noexcept nogil:
    """Walk the chain of a hook to its verdict; MARK targets change ``mark``. Rules that are stepped over count. ``notes``: Verdict.looked is wanted."""
    cdef RulesLeft back[JUMPS_MAX]
    cdef GlanceAt next, end, g
    cdef int depth = 0, walked = 0, matched = 0, skip
    cdef uint64_t facts = flow_facts(f, mark[0])
    cdef Looked looked
    looked.addresses = looked.facts = looked.asked = 0
    verdict_begin(v)
    if t.builtin[hook] < 0:
        return
    next = glance_at(t, t.chain[t.builtin[hook]].first)
    end = next + t.chain[t.builtin[hook]].count
    while True:
        g = next
        if g == end:
            if depth == 0:
                v.target = t.chain[t.builtin[hook]].policy  # goto may have led elsewhere
                break
            depth -= 1
            next = back[depth].next
            end = back[depth].end
            continue
        if seldom(g.rest & GLANCE_RUN):
            skip = run_skip(t, g, f, &looked)
            next = g + (skip if skip >= 0 else -1 - skip)
            walked += <int>(next - g)
            if skip < 0:
                continue
            g = next
        walked += 1
        next += 1
        if not rule_matches(t, g, f, facts, c, v, notes, &looked):
            continue
        if matched < MATCHED_MAX:
            v.room[matched] = g
            matched += 1
        if glance_jumps(g):
            if g.to.lead.count == 0:
                next = end if g.target == T_GOTO else next
                continue
            if g.target == T_JUMP and depth < JUMPS_MAX:
                back[depth].next = next
                back[depth].end = end
                depth += 1
            next = chain_begin(t, g, &looked)
            end = next + g.to.lead.count
        elif g.target == T_MARK:
            looked.asked |= LOOKED_FURTHER
            facts = facts_marked(rule_of(t, g), facts)
        elif g.target == T_RETURN:
            next = end
        elif g.target > T_NONE:
            v.target = g.target
            v.rule = g
            break
    mark[0] = <uint32_t>(facts >> FACT_MARK)
    v.walked = walked
    v.n_matched = matched
    v.looked = looked


cdef inline bint rules_have_a_say(const RuleTable *t, int hook) noexcept nogil:
    """Can a walk from this hook do anything at all? An empty chain that accepts cannot, unless chance is drawn for it all the same."""
    cdef const RuleChain *chain
    if t.n_chains == 0 or t.builtin[hook] < 0:
        return False
    chain = &t.chain[t.builtin[hook]]
    return chain.count > 0 or chain.policy != T_ACCEPT or t.random or t.unsteady


cdef inline void rules_free(RuleTable *t) noexcept nogil:
    if t.book == NULL:
        index_free(&t.index)
        free(t.rule)
        free(t.glance)
        free(t.chain)
    free(t.local)
    free(t.local_glance)
    free(t.memo)
    memset(t, 0, sizeof(RuleTable))
