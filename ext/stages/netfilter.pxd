# The netfilter hooks in the order of their priorities, the same for IPv4 and IPv6 (include/uapi/linux/netfilter_ipv4.h,
# enum nf_ip_hook_priorities; netfilter_ipv6.h).
#
#   -400 defragmentation, -300 raw, -200 conntrack, -150 mangle, -100 destination NAT,
#   0 filter, 100 source NAT, last: confirmation.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset
from ext.devices.core cimport Core, Ns, chance, ns_fib, pkt_ns
from ext.devices.record cimport ASK_DENIED, ASK_NAT, ASK_RULES, ask_word, rec_ask, rec_refuse
from ext.stages.conntrack cimport L4, pkt_find_l4, conntrack_in, conntrack_confirm
from ext.stages.defragment cimport defragment
from ext.stages.defragment_ipv6 cimport defragment6
from ext.stages.flow cimport flow_of
from ext.stages.nat cimport nat_hook, trace_rule
from ext.stages.reject cimport reject
from ext.stages.reject_ipv6 cimport reject6
from ext.stages.verdict cimport DROPS_RULES
from ext.tables.ct_entry cimport CTI_NEW, CTI_UNTRACKED
from ext.tables.fragments cimport FRAG_USER_CONNTRACK_IN, FRAG_USER_CONNTRACK_OUT, FRAG_USER_BRIDGE_IN
from ext.tables.rule_ahead cimport Expected, expect_found, expect_rules, expect_slot
from ext.tables.rule_index cimport RunSlot
from ext.tables.rule_memo cimport rules_decide
from ext.tables.rules cimport (Flow, Choices, Rule, Verdict, RuleTable, choices_begin, recent_apply, rule_of,
                               T_DROP, T_REJECT, TABLE_RAW, TABLE_MANGLE, TABLE_NAT, TABLE_FILTER, HOOK_PREROUTING, HOOK_INPUT,
                               HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING)
from ext.wire.bytes cimport rarely, seldom
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.ipv4 cimport IPV4_DST, ipv4_is_fragment
from ext.wire.packet cimport Pkt, pkt_l3, BRNF_ACTIVE, BRNF_IN_PREROUTING, BRNF_SABOTAGED

cdef enum:
    RULES_DENIED = DROPS_RULES
    RULES_REJECTED
    NF_STOLEN = 1  # the packet is held by a fragment queue
    PURPOSE_RULES = 4


cdef inline const char *rules_reason(int r) noexcept nogil:
    if r == RULES_DENIED:
        return b"rules/denied\tA netfilter rule or policy says DROP\tNETFILTER_DROP"
    if r == RULES_REJECTED:
        return b"rules/rejected\tA netfilter rule says REJECT: the sender is told\tNETFILTER_DROP"
    return NULL


cdef inline RuleTable *pkt_rules(Ns *ns, const Pkt *p, int table) noexcept nogil:
    return &ns.rules[p.protocol == ETHERTYPE_IPV6][table]


cdef inline int rules_table(Ns *ns, const Pkt *p, const RuleTable *t) noexcept nogil:
    """Which of the namespace's tables it is: TABLE_*."""
    return <int>(t - &ns.rules[p.protocol == ETHERTYPE_IPV6][0])


cdef inline uint32_t tables_at(const Ns *ns, const Pkt *p, int hook) noexcept nogil:
    """Bits by table: those that have something to say here."""
    return ns.tables_at[p.protocol == ETHERTYPE_IPV6][hook]


cdef inline int rules_hook(Core *c, Ns *ns, Pkt *p, uint32_t tables, const char *name, int table, int hook, int in_dev, int out_dev) noexcept nogil:
    """One of the ``tables`` at one hook: 0 or a drop."""
    if not tables >> table & 1:
        return 0
    return rules_at(c, ns, p, name, pkt_rules(ns, p, table), hook, in_dev, out_dev)


cdef inline int rules_at(Core *c, Ns *ns, Pkt *p, const char *name, RuleTable *t, int hook, int in_dev, int out_dev) noexcept nogil:
    cdef Flow f
    cdef Choices ch
    cdef Verdict v
    cdef const Rule *rule
    cdef int i
    if t.unsteady:
        rec_refuse(&c.rec)
    flow_of(c, ns, p, in_dev, out_dev, &f)
    choices_begin(&ch)
    if t.random:
        ch.seed = chance(c, ns, f.src, 2 * f.alen, PURPOSE_RULES)
    rules_decide(t, hook, &f, c.generation, &p.mark, &ch, &v)
    c.count.rules_walked += v.walked
    trace_rule(c, p, name, t, &v)
    for i in range(v.n_recent):
        recent_apply(&ns.recent, &v.recent[i], f.alen, c.now)
    if seldom(v.target == T_DROP or v.target == T_REJECT):
        rec_ask(&c.rec, p, ASK_DENIED, ns, ask_word(hook, rules_table(ns, p, t), in_dev, out_dev))
        rule = rule_of(t, v.rule) if v.rule != NULL else NULL
        if v.target == T_REJECT:
            if p.protocol == ETHERTYPE_IPV6:
                reject6(c, ns, p, hook, rule.reject_with)
            else:
                reject(c, ns, p, hook, rule.reject_with)
        c.drop_origin = rule.origin if rule != NULL else 0
        return -RULES_REJECTED if v.target == T_REJECT else -RULES_DENIED
    rec_ask(&c.rec, p, ASK_RULES, ns, ask_word(hook, rules_table(ns, p, t), in_dev, out_dev))
    return 0


cdef inline int nat_at(Core *c, Ns *ns, Pkt *p, int hook, int in_dev, int out_dev) noexcept nogil:
    cdef int v
    if p.ct == NULL or pkt_rules(ns, p, TABLE_NAT).n_chains == 0:
        return 0
    v = nat_hook(c, ns, p, hook, in_dev, out_dev)
    if v == 0:
        rec_ask(&c.rec, p, ASK_NAT, ns, ask_word(hook, TABLE_NAT, in_dev, out_dev))
    return v


cdef inline int gather_fragments(Core *c, Ns *ns, Pkt *p, int user) noexcept nogil:
    """ipv4_conntrack_defrag(), ipv6_defrag(): 0: go on, a drop, or NF_STOLEN."""
    if not ns.conntrack:
        return 0
    if rarely(p.protocol == ETHERTYPE_IPV6):
        return defragment6(c, ns, p, user) if p.ct == NULL and p.ctinfo != CTI_UNTRACKED else 0
    return defragment(c, ns, p, user) if rarely(ipv4_is_fragment(pkt_l3(p))) else 0


cdef inline int hook_prerouting(Core *c, Pkt *p, int in_dev) noexcept nogil:
    """0, a drop, or NF_STOLEN."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef const RunSlot *slot = NULL
    cdef Expected rules
    cdef uint32_t tables
    cdef int v
    if p.brnf & BRNF_ACTIVE and not p.brnf & (BRNF_IN_PREROUTING | BRNF_SABOTAGED):
        p.brnf |= BRNF_SABOTAGED  # the bridge has been through this hook already (ip_sabotage_in())
        return 0
    if not ns.rules_on:
        return 0
    tables = tables_at(ns, p, HOOK_PREROUTING)
    v = gather_fragments(c, ns, p, FRAG_USER_BRIDGE_IN if p.brnf & BRNF_IN_PREROUTING else FRAG_USER_CONNTRACK_IN)
    if v:
        return v
    if p.protocol != ETHERTYPE_IPV6:
        slot = expect_slot(&ns.rules[0][TABLE_NAT], pkt_l3(p) + IPV4_DST)
    v = rules_hook(c, ns, p, tables, b"raw", TABLE_RAW, HOOK_PREROUTING, in_dev, -1)
    if v == 0 and ns.conntrack:
        v = conntrack_in(c, ns, p, HOOK_PREROUTING)
    if slot != NULL and p.ctinfo == CTI_NEW and expect_found(&ns.rules[0][TABLE_NAT], slot, &rules):
        expect_rules(&rules)
    if v == 0:
        v = rules_hook(c, ns, p, tables, b"mangle", TABLE_MANGLE, HOOK_PREROUTING, in_dev, -1)
    if v == 0:
        v = nat_at(c, ns, p, HOOK_PREROUTING, in_dev, -1)
    return v


cdef inline int hook_input(Core *c, Pkt *p, int in_dev) noexcept nogil:
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint32_t tables
    cdef int v
    if not ns.rules_on:
        return 0
    tables = tables_at(ns, p, HOOK_INPUT)
    v = rules_hook(c, ns, p, tables, b"mangle", TABLE_MANGLE, HOOK_INPUT, in_dev, -1)
    if v == 0:
        v = rules_hook(c, ns, p, tables, b"filter", TABLE_FILTER, HOOK_INPUT, in_dev, -1)
    if v == 0:
        v = nat_at(c, ns, p, HOOK_INPUT, in_dev, -1)
    if v == 0:
        v = conntrack_confirm(c, ns, p)
    return v


cdef inline int hook_forward(Core *c, Pkt *p, int in_dev, int out_dev) noexcept nogil:
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint32_t tables
    cdef int v
    if not ns.rules_on:
        return 0
    tables = tables_at(ns, p, HOOK_FORWARD)
    v = rules_hook(c, ns, p, tables, b"mangle", TABLE_MANGLE, HOOK_FORWARD, in_dev, out_dev)
    if v == 0:
        v = rules_hook(c, ns, p, tables, b"filter", TABLE_FILTER, HOOK_FORWARD, in_dev, out_dev)
    return v


cdef inline int hook_output(Core *c, Pkt *p, int out_dev) noexcept nogil:
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint32_t tables
    cdef int v
    if not ns.rules_on:
        return 0
    tables = tables_at(ns, p, HOOK_OUTPUT)
    v = gather_fragments(c, ns, p, FRAG_USER_CONNTRACK_OUT)
    if v:
        return v
    v = rules_hook(c, ns, p, tables, b"raw", TABLE_RAW, HOOK_OUTPUT, -1, out_dev)
    if v == 0 and ns.conntrack:
        v = conntrack_in(c, ns, p, HOOK_OUTPUT)
    if v == 0:
        v = rules_hook(c, ns, p, tables, b"mangle", TABLE_MANGLE, HOOK_OUTPUT, -1, out_dev)
    if v == 0:
        v = nat_at(c, ns, p, HOOK_OUTPUT, -1, out_dev)
    if v == 0:
        v = rules_hook(c, ns, p, tables, b"filter", TABLE_FILTER, HOOK_OUTPUT, -1, out_dev)
    return v


cdef inline int hook_postrouting(Core *c, Pkt *p, int out_dev) noexcept nogil:
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint32_t tables
    cdef int v
    if not ns.rules_on:
        return 0
    tables = tables_at(ns, p, HOOK_POSTROUTING)
    v = rules_hook(c, ns, p, tables, b"mangle", TABLE_MANGLE, HOOK_POSTROUTING, -1, out_dev)
    if v == 0:
        v = nat_at(c, ns, p, HOOK_POSTROUTING, -1, out_dev)
    if v == 0:
        v = conntrack_confirm(c, ns, p)
    return v
