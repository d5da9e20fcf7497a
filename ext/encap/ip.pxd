# Both IP headers around an encapsulation: what the outer one is made of, and what an encapsulation is told of the inner one.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset
from ext.encap.abi cimport dataplane_encap, dataplane_encap_pop, dataplane_encap_push
from ext.encap.call cimport encap_takes
from ext.wire.bytes cimport ld16, st16
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TEB
from ext.wire.ipv4 cimport (IPV4_DF, IPV4_DST, IPV4_FRAG, IPV4_HLEN, IPV4_ID, IPV4_LEN, IPV4_PROTO, IPV4_SRC, IPV4_TOS, IPV4_TTL,
                            ipv4_set_csum)
from ext.wire.ipv6 cimport (IPV6_DST, IPV6_HLEN, IPV6_HOPS, IPV6_NEXT, IPV6_PAYLOAD_LEN, IPV6_SRC, NEXT_DESTINATION, NEXT_HOP_BY_HOP,
                            NEXT_ROUTING, ipv6_class, ipv6_flow_label, ipv6_set_first_word)


cdef inline uint32_t outer_hlen(int family) noexcept nogil:
    return IPV4_HLEN if family == 4 else IPV6_HLEN


cdef inline int address_len(int family) noexcept nogil:
    return 4 if family == 4 else 16


cdef inline void inner_facts(dataplane_encap_push *info, int protocol, const uint8_t *at, uint32_t n) noexcept nogil:
    """TOS, TTL, DF and flow label of the packet to be carried: ``n`` bytes at ``at``, an Ethernet frame or what ``protocol`` names."""
    info.inner_protocol = <uint16_t>protocol
    if protocol == ETHERTYPE_TEB and n >= ETH_HLEN:
        protocol = ld16(at + ETH_TYPE)
        at += ETH_HLEN
        n -= ETH_HLEN
    info.inner_tos = info.inner_ttl = info.inner_dont_fragment = 0
    info.inner_flow_label = 0
    if protocol == ETHERTYPE_IPV4 and n >= IPV4_HLEN:
        info.inner_tos = at[IPV4_TOS]
        info.inner_ttl = at[IPV4_TTL]
        info.inner_dont_fragment = ld16(at + IPV4_FRAG) & IPV4_DF != 0
    elif protocol == ETHERTYPE_IPV6 and n >= IPV6_HLEN:
        info.inner_tos = ipv6_class(at)
        info.inner_ttl = at[IPV6_HOPS]
        info.inner_flow_label = ipv6_flow_label(at)


cdef inline void outer_write(uint8_t *ip, const dataplane_encap_push *info, uint32_t total, int ip_id, int default_ttl) noexcept nogil:
    """The outer header at ``ip``, ``total`` bytes with what it carries; ``ip_id``: identification of IPv4."""
    if info.family == 4:
        memset(ip, 0, IPV4_HLEN)
        ip[0] = 0x45
        ip[IPV4_TOS] = info.tos
        st16(ip + IPV4_LEN, total)
        st16(ip + IPV4_ID, ip_id)
        st16(ip + IPV4_FRAG, IPV4_DF if info.dont_fragment else 0)
        ip[IPV4_TTL] = info.ttl if info.ttl else <uint8_t>default_ttl
        ip[IPV4_PROTO] = info.ip_protocol
        memcpy(ip + IPV4_SRC, info.local, 4)
        memcpy(ip + IPV4_DST, info.remote, 4)
        ipv4_set_csum(ip)
        return
    ipv6_set_first_word(ip, info.tos, info.flow_label)
    st16(ip + IPV6_PAYLOAD_LEN, total - IPV6_HLEN)
    ip[IPV6_NEXT] = info.ip_protocol
    ip[IPV6_HOPS] = info.ttl if info.ttl else <uint8_t>default_ttl
    memcpy(ip + IPV6_SRC, info.local, 16)
    memcpy(ip + IPV6_DST, info.remote, 16)


cdef inline void outer_facts(dataplane_encap_pop *info, const uint8_t *ip, int family, int ip_protocol) noexcept nogil:
    """What an encapsulation is told of the header that its packet came in."""
    info.family = <uint8_t>family
    info.outer_protocol = <uint8_t>ip_protocol
    info.id = -1
    if family == 4:
        info.outer_tos = ip[IPV4_TOS]
        info.outer_ttl = ip[IPV4_TTL]
        memcpy(info.local, ip + IPV4_DST, 4)
        memcpy(info.remote, ip + IPV4_SRC, 4)
        return
    info.outer_tos = ipv6_class(ip)
    info.outer_ttl = ip[IPV6_HOPS]
    memcpy(info.local, ip + IPV6_DST, 16)
    memcpy(info.remote, ip + IPV6_SRC, 16)


cdef inline int outer_payload(const dataplane_encap *e, const uint8_t *ip, uint32_t n, uint32_t *at) noexcept nogil:
    """Protocol and place of what an IPv6 packet of ``n`` bytes carries for ``e``, behind option headers; -1: the chain is broken off."""
    cdef int next = ip[IPV6_NEXT]
    at[0] = IPV6_HLEN
    while not encap_takes(e, next) and (next == NEXT_HOP_BY_HOP or next == NEXT_DESTINATION or next == NEXT_ROUTING):
        if at[0] + 8 > n:
            return -1
        next = ip[at[0]]
        at[0] += (<uint32_t>ip[at[0] + 1] + 1) * 8
        if at[0] > n:
            return -1
    return next
