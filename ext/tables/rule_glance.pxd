# What a walk decides a rule by at a glance, made from the rule: as many of its matches as two words of the packet can say.
#
# What is left of them is one more comparison of a kind that kube-proxy's rules have by the thousands, or it is asked of the rule itself.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from ext.tables.rules cimport *
from ext.wire.bytes cimport raw_pair


cdef inline bint one_bit(uint32_t bits) noexcept nogil:
    return bits != 0 and bits & (bits - 1) == 0


cdef inline void glance_facts(Glance *g, uint64_t mask, uint64_t value) noexcept nogil:
    g.facts_mask |= <uint32_t>mask
    g.facts |= <uint32_t>(value & mask)


cdef inline void glance_addresses(Rule *r, Glance *g, int alen) noexcept nogil:
    """``alen``: bytes of the addresses that the rule names."""
    cdef uint32_t plain = r.match & ~r.invert
    if alen != 4:
        return
    g.addresses = raw_pair(r.src, r.dst)
    g.lengths = pair_lengths(min(r.src_len, 32) if plain & M_SRC else 0, min(r.dst_len, 32) if plain & M_DST else 0)
    r.rest &= ~(plain & (M_SRC | M_DST))


cdef inline void glance_transport(Rule *r, Glance *g) noexcept nogil:
    cdef uint32_t plain = r.match & ~r.invert
    if plain & M_PROTO:
        glance_facts(g, <uint64_t>0xff << FACT_PROTO | FACT_NO_PROTO, <uint64_t>r.proto << FACT_PROTO)
        r.rest &= ~M_PROTO
    if plain & M_DPORT and r.dport[0] == r.dport[1]:
        glance_facts(g, WHOLE_PORT, <uint64_t>r.dport[0] << FACT_DPORT | FACT_PORTS)
        r.rest &= ~M_DPORT
    if r.match & M_FRAGMENT:
        glance_facts(g, FACT_LATER_FRAGMENT, 0 if r.invert & M_FRAGMENT else FACT_LATER_FRAGMENT)
        r.rest &= ~M_FRAGMENT


cdef inline void glance_state(Rule *r, Glance *g) noexcept nogil:
    """Of several states one is enough, but none of them is as good as a mask."""
    cdef bint inverted = r.invert & M_CTSTATE != 0
    if r.match & M_CTSTATE and not r.ctstate & ~CT_BITS_FACT and (inverted or one_bit(r.ctstate)):
        glance_facts(g, r.ctstate << FACT_CTSTATE, 0 if inverted else r.ctstate << FACT_CTSTATE)
        r.rest &= ~M_CTSTATE


cdef inline void rest_words(Rule *r) noexcept nogil:
    """Note which bits of the words decide what is left."""
    if r.rest & M_SRC:
        r.rest_addresses |= <uint64_t>raw_mask(min(r.src_len, 32)) << 32
    if r.rest & M_DST:
        r.rest_addresses |= raw_mask(min(r.dst_len, 32))
    if r.rest & M_SRC_TYPE:
        r.rest_addresses |= <uint64_t>WHOLE_DESTINATION << 32
    if r.rest & M_DST_TYPE:
        r.rest_addresses |= WHOLE_DESTINATION
    if r.rest & M_PROTO:
        r.rest_facts |= <uint64_t>0xff << FACT_PROTO | FACT_NO_PROTO
    if r.rest & M_DPORT:
        r.rest_facts |= WHOLE_PORT
    if r.rest & M_MARK:
        r.rest_facts |= <uint64_t>r.mark_mask << FACT_MARK


cdef inline void glance_rest(const Rule *r, Glance *g, int alen) noexcept nogil:
    if r.rest == M_STATISTIC and not r.invert & M_STATISTIC:
        g.rest = GLANCE_CHANCE
        g.further = r.probability
    elif r.rest == M_SRC and alen == 4:
        g.rest = GLANCE_NOT_FROM
        g.further = raw_mask(min(r.src_len, 32))
    elif r.rest:
        g.rest = GLANCE_MORE


cdef inline void end_only(const Rule *r, RuleEnd *end) noexcept nogil:
    """A destination that leaves nothing to choose stands in the glance."""
    cdef uint8_t rest[12]
    memset(rest, 0, 12)
    end.only = (r.has_address and not r.random and r.port_min != 0 and r.port_min == r.port_max and memcmp(r.to_min, r.to_max, 16) == 0
                and memcmp(r.to_min + 4, rest, 12) == 0)
    memcpy(end.address, r.to_min, 4)
    end.port = r.port_min


cdef inline void rule_glance(Rule *r, Glance *g, int alen) noexcept nogil:
    """Fill the glance, all zeros, of a rule whose matches stand; ``alen``: bytes of the addresses that it names."""
    r.rest = r.match
    glance_addresses(r, g, alen)
    glance_transport(r, g)
    glance_state(r, g)
    rest_words(r)
    glance_rest(r, g, alen)
    g.target = r.target
    if r.target == T_DNAT:
        end_only(r, &g.to.end)
