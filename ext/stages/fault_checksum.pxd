# A tunnel device whose transmit checksum offload is broken: what the network card should have finished leaves as it was begun.
#
# A host writes only the sum of the pseudo header into the checksum of what it sends itself, and the card adds the rest
# (CHECKSUM_PARTIAL, include/linux/skbuff.h). Cards that cannot look into a tunnel, but say that they can, leave it so.

from libc.stdint cimport uint8_t, uint32_t
from ext.stages.conntrack cimport L4, pkt_find_l4
from ext.wire.bytes cimport ld16, st16
from ext.wire.checksum cimport pseudo_sum
from ext.wire.ipv4 cimport IPPROTO_TCP, IPPROTO_UDP, IPV4_DST, IPV4_SRC
from ext.wire.ipv6 cimport IPV6_DST, IPV6_SRC
from ext.wire.packet cimport Pkt

cdef enum:
    TCP_CHECKSUM = 16
    UDP_CHECKSUM = 6


cdef inline void fault_unfinish(Pkt *p) noexcept nogil:
    """Leave the checksum of TCP or UDP as its sender's kernel began it; ``l3``: the packet that the tunnel is to carry."""
    cdef uint8_t *ip = p.buf + p.l3
    cdef uint32_t at, sum
    cdef L4 l4
    if not p.unfinished or not pkt_find_l4(p, &l4):
        return
    at = TCP_CHECKSUM if l4.proto == IPPROTO_TCP else UDP_CHECKSUM
    if (l4.proto != IPPROTO_TCP and l4.proto != IPPROTO_UDP) or l4.len < at + 2:
        return
    if l4.proto == IPPROTO_UDP and ld16(l4.at + at) == 0:
        return
    if l4.family == 6:
        sum = pseudo_sum(ip + IPV6_SRC, ip + IPV6_DST, 16, l4.proto, l4.len)
    else:
        sum = pseudo_sum(ip + IPV4_SRC, ip + IPV4_DST, 4, l4.proto, l4.len)
    st16(l4.at + at, sum)
