# From the rule dictionaries of Python (``Match`` in _core.pyi) to the structs of tables/rules.pxd.

from libc.stdint cimport uint8_t, uint32_t, int64_t
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from ext.devices.core cimport Ns
from ext.tables.memory cimport memory_lines
from ext.tables.rule_glance cimport rule_glance
from ext.tables.rules cimport *

cdef enum:
    RULES_MAX = 1 << 22


cdef struct PackedRule:
    # a rule of a book on its way through Python
    Rule rule
    Glance glance


cdef inline void *rules_memory(size_t size):
    return memory_lines(size)


cdef inline int copy_address(uint8_t *to, bytes addr) except -1:
    if len(addr) not in (4, 16):
        raise ValueError(f"an address has 4 or 16 bytes, not {len(addr)}")
    memset(to, 0, 16)
    memcpy(to, <const char *>addr, len(addr))
    return 0


cdef inline int prefix_length(tuple prefix) except -1:
    cdef int n = prefix[1]
    if not 0 <= n <= 8 * len(prefix[0]):
        raise ValueError(f"a prefix of {len(prefix[0])} bytes has no {n} bits")
    return n


cdef inline int match_bit(Rule *r, dict m, str key, uint32_t bit) except -1:
    """Note that a rule matches on ``key``; returns whether it does."""
    if key not in m:
        return 0
    r.match |= bit
    if m.get(key + "_not"):
        r.invert |= bit
    return 1


cdef inline int match_name(char *name, uint8_t *length, str text) except -1:
    cdef bytes raw = text.encode()
    cdef bint prefix = raw.endswith(b"+")
    if prefix:
        raw = raw[:len(raw) - 1]
    if len(raw) >= IFNAME_MAX:
        raise ValueError(f"interface name {text!r} is longer than 15 characters")
    memset(name, 0, IFNAME_MAX)
    memcpy(name, <const char *>raw, len(raw))
    length[0] = <uint8_t>(len(raw) if prefix else len(raw) + 1)
    return 0


cdef inline int rule_addresses(Rule *r, dict m) except -1:
    if match_bit(r, m, "src", M_SRC):
        copy_address(r.src, m["src"][0])
        r.src_len = prefix_length(m["src"])
    if match_bit(r, m, "dst", M_DST):
        copy_address(r.dst, m["dst"][0])
        r.dst_len = prefix_length(m["dst"])
    if match_bit(r, m, "iif", M_IIF):
        match_name(r.iif, &r.iif_len, m["iif"])
    if match_bit(r, m, "oif", M_OIF):
        match_name(r.oif, &r.oif_len, m["oif"])
    if match_bit(r, m, "proto", M_PROTO):
        r.proto = m["proto"]
    if match_bit(r, m, "src_type", M_SRC_TYPE):
        r.src_type = m["src_type"]
    if match_bit(r, m, "dst_type", M_DST_TYPE):
        r.dst_type = m["dst_type"]
    return 0


cdef inline int rule_transport(Rule *r, dict m) except -1:
    if match_bit(r, m, "sport", M_SPORT):
        r.sport[0], r.sport[1] = m["sport"]
    if match_bit(r, m, "dport", M_DPORT):
        r.dport[0], r.dport[1] = m["dport"]
    if match_bit(r, m, "icmp_type", M_ICMP):
        r.icmp_type, r.icmp_low, r.icmp_high = m["icmp_type"]
    if match_bit(r, m, "tcp_flags", M_TCP_FLAGS):
        r.tcp_mask, r.tcp_want = m["tcp_flags"]
    if "fragment" in m:
        r.match |= M_FRAGMENT
        if not m["fragment"]:
            r.invert |= M_FRAGMENT
    return 0


cdef inline int rule_state(Rule *r, dict m, object lists) except -1:
    if match_bit(r, m, "ctstate", M_CTSTATE):
        r.ctstate = m["ctstate"]
    if match_bit(r, m, "mark", M_MARK):
        r.mark, r.mark_mask = m["mark"]
    if "probability" in m:
        r.match |= M_STATISTIC
        r.probability = min(<uint32_t>0x80000000, <uint32_t>(m["probability"] * 2147483648.0 + 0.5))
    if match_bit(r, m, "recent", M_RECENT):
        op, name, seconds, _ = m["recent"]
        r.recent_op = {"rcheck": RECENT_RCHECK, "update": RECENT_UPDATE, "set": RECENT_SET, "remove": RECENT_REMOVE}[op]
        r.recent_list = lists.setdefault(name, len(lists) + 1)
        r.recent_ns = <int64_t>seconds * 1000000000
    return 0


cdef inline int rule_target(Rule *r, dict m, dict chains) except -1:
    cdef str target = m.get("target", "")
    codes = {"": T_NONE, "ACCEPT": T_ACCEPT, "DROP": T_DROP, "RETURN": T_RETURN, "REJECT": T_REJECT, "MARK": T_MARK, "DNAT": T_DNAT,
             "SNAT": T_SNAT, "MASQUERADE": T_MASQUERADE}
    r.origin = m.get("origin", 0)
    r.random = bool(m.get("random", False))
    r.persistent = bool(m.get("persistent", False))
    if target in codes:
        r.target = codes[target]
    elif target in chains:
        r.target = T_GOTO if m.get("goto") else T_JUMP
        r.chain = chains[target]
    else:
        raise ValueError(f"no chain or target {target!r}")
    if r.target == T_REJECT:
        r.reject_with = m.get("reject_with", 3)
    if r.target == T_MARK:
        r.set_value, r.set_mask = m["set_mark"]
    if "to" in m:
        low, high, r.port_min, r.port_max = m["to"]
        r.has_address = len(low) > 0
        if r.has_address:
            copy_address(r.to_min, low)
            copy_address(r.to_max, high if len(high) else low)
        if r.port_min and not r.port_max:
            r.port_max = r.port_min
    return 0


cdef inline int rule_from_dict(Rule *r, Glance *g, dict m, dict chains, object lists) except -1:
    cdef tuple prefix = m.get("src") or m.get("dst")
    rule_addresses(r, m)
    rule_transport(r, m)
    rule_state(r, m, lists)
    rule_target(r, m, chains)
    rule_glance(r, g, len(prefix[0]) if prefix is not None else 0)
    return 0


cdef inline void unpack_rules(Rule *rule, Glance *glance, const PackedRule *packed, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        rule[i] = packed[i].rule
        glance[i] = packed[i].glance


cdef inline int check_loops(RuleTable *t, list names) except -1:
    """Chains must not reach themselves by jumps, nor nest deeper than the stack."""
    cdef int i, k, depth
    depths = [0] * t.n_chains
    for depth in range(JUMPS_MAX + 2):
        changed = False
        for i in range(t.n_chains):
            for k in range(t.chain[i].count):
                r = t.rule[t.chain[i].first + k]
                if rule_jumps(&r) and depths[r.chain] < depths[i] + 1:
                    depths[r.chain] = depths[i] + 1
                    changed = True
        if not changed:
            return 0
    raise ValueError("chains jump in a circle or too deep: " + ", ".join([n for n, d in zip(names, depths) if d > JUMPS_MAX]))


cdef inline int table_build(RuleTable *t, object chains, dict lists, int alen) except -1:
    """Fill an empty table from a sequence of ``Chain``; ``alen``: bytes of the family's addresses."""
    cdef int at = 0, i
    hooks = {"PREROUTING": HOOK_PREROUTING, "INPUT": HOOK_INPUT, "FORWARD": HOOK_FORWARD, "OUTPUT": HOOK_OUTPUT,
             "POSTROUTING": HOOK_POSTROUTING}
    index = {chain.name: i for i, chain in enumerate(chains)}
    total = sum([len(chain.rules) for chain in chains])
    if total > RULES_MAX:
        raise ValueError(f"{total} rules are more than a table takes ({RULES_MAX})")
    t.rule = <Rule *>rules_memory(max(total, 1) * sizeof(Rule))
    t.glance = <Glance *>memory_lines(max(total, 1) * sizeof(Glance))
    t.chain = <RuleChain *>memory_lines(max(len(chains), 1) * sizeof(RuleChain))
    if t.rule == NULL or t.glance == NULL or t.chain == NULL:
        raise MemoryError
    for i in range(HOOKS):
        t.builtin[i] = -1
    for i, chain in enumerate(chains):
        t.chain[i].first = at
        t.chain[i].count = len(chain.rules)
        t.chain[i].policy = {"ACCEPT": T_ACCEPT, "DROP": T_DROP, "": T_NONE}[chain.policy]
        if chain.policy and chain.name in hooks:
            t.builtin[hooks[chain.name]] = i
        t.n_chains = i + 1
        for m in chain.rules:
            rule_from_dict(&t.rule[at], &t.glance[at], m, index, lists)
            t.random = t.random or (t.rule[at].match & M_STATISTIC) != 0
            t.unsteady = t.unsteady or t.random or (t.rule[at].match & M_RECENT) != 0 or (t.rule[at].tcp_mask & STEADY_TCP_FLAGS) != 0
            at += 1
            t.n_rules = t.local_from = at
    check_loops(t, [chain.name for chain in chains])
    rules_link(t, t.rule, t.glance, t.n_rules)
    if not rules_index(t, alen):
        raise MemoryError
    return 0


cdef inline int use_book(Ns *ns, int family, str table, object capsule, bytes local) except -1:
    """Let the namespace see a book (``ext/rulebook.pyx``) as its table, with ``local`` as the rules of the last chains."""
    cdef RuleTable fresh = (<RuleTable *>PyCapsule_GetPointer(capsule, b"dataplane.rule_book"))[0]
    cdef const PackedRule *packed = <const PackedRule *><const char *>local
    cdef int k = {"raw": 0, "mangle": 1, "nat": 2, "filter": 3}[table], n = fresh.n_rules - fresh.local_from, i
    if <size_t>len(local) != <size_t>n * sizeof(PackedRule):
        raise ValueError(f"the last chains have {n} rules, and others were given")
    if fresh.index.place == NULL:
        raise ValueError("the book has no index")
    for i in range(n):
        if rule_jumps(&packed[i].rule) and not 0 <= packed[i].rule.chain < fresh.n_chains:
            raise ValueError("a rule jumps to no chain of the book")
    fresh.local = <Rule *>rules_memory(max(n, 1) * sizeof(Rule))
    fresh.local_glance = <Glance *>rules_memory(max(n, 1) * sizeof(Glance))
    if fresh.local == NULL or fresh.local_glance == NULL:
        free(fresh.local)
        free(fresh.local_glance)
        raise MemoryError
    unpack_rules(fresh.local, fresh.local_glance, packed, n)
    rules_link(&fresh, fresh.local, fresh.local_glance, n)
    rules_free(&ns.rules[family == 6][k])
    ns.rules[family == 6][k] = fresh
    table_speaks(ns, family, k)
    ns.conntrack = True
    return 0


cdef inline void table_speaks(Ns *ns, int family, int k) noexcept nogil:
    """Note at which hooks a table has something to say."""
    cdef int i
    for i in range(HOOKS):
        ns.tables_at[family == 6][i] &= ~(1 << k)
        ns.tables_at[family == 6][i] |= rules_have_a_say(&ns.rules[family == 6][k], i) << k
    ns.rules_on = True


cdef inline void table_tracks(Ns *ns, int family, int k) noexcept nogil:
    """A table that needs connections tracked has them tracked."""
    cdef const RuleTable *t = &ns.rules[family == 6][k]
    cdef int i
    ns.conntrack = ns.conntrack or k == TABLE_NAT
    for i in range(t.n_rules):
        ns.conntrack = ns.conntrack or (t.rule[i].match & M_CTSTATE) != 0
