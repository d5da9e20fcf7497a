# ARP for IPv4 over Ethernet (RFC 826).

from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from ext.wire.bytes cimport st16
from ext.wire.ether cimport ETH_HLEN, ETH_DST, ETH_SRC, ETH_TYPE, ETHERTYPE_ARP, ETHERTYPE_IPV4
from ext.wire.packet cimport Pkt

cdef enum:
    ARP_HRD = 0
    ARP_PRO = 2
    ARP_HLN = 4
    ARP_PLN = 5
    ARP_OP = 6
    ARP_SHA = 8
    ARP_SPA = 14
    ARP_THA = 18
    ARP_TPA = 24
    ARP_LEN = 28
    ARP_FRAME = ETH_HLEN + ARP_LEN
    ARP_REQUEST = 1
    ARP_REPLY = 2
    ARP_HRD_ETHER = 1
    ARP_HRD_IEEE802 = 6


cdef inline void arp_write(Pkt *p, int op, const uint8_t *eth_src, const uint8_t *eth_dst, const uint8_t *sha, const uint8_t *spa,
                           const uint8_t *tha, const uint8_t *tpa) noexcept nogil:
    """A whole frame into an empty packet with room for ARP_FRAME bytes."""
    cdef uint8_t *eth = p.buf + p.l2
    cdef uint8_t *arp = eth + ETH_HLEN
    memcpy(eth + ETH_DST, eth_dst, 6)
    memcpy(eth + ETH_SRC, eth_src, 6)
    st16(eth + ETH_TYPE, ETHERTYPE_ARP)
    st16(arp + ARP_HRD, ARP_HRD_ETHER)
    st16(arp + ARP_PRO, ETHERTYPE_IPV4)
    arp[ARP_HLN] = 6
    arp[ARP_PLN] = 4
    st16(arp + ARP_OP, op)
    memcpy(arp + ARP_SHA, sha, 6)
    memcpy(arp + ARP_SPA, spa, 4)
    memcpy(arp + ARP_THA, tha, 6)
    memcpy(arp + ARP_TPA, tpa, 4)
    p.l3 = p.l2 + ETH_HLEN
    p.end = p.l2 + ARP_FRAME
    p.protocol = ETHERTYPE_ARP
