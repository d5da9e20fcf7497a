# A packet that goes its flow's way, and the changes that are made to it there.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.fast.flows cimport HOW_TUNNELLED, Program
from ext.fast.key cimport IP, Parsed
from ext.fast.sum cimport NONE, net16, put_raw16, raw16, raw32, sum_bytes, sum_fold, sum_pseudo
from ext.wire.bytes cimport ld16
from ext.wire.packet cimport Pkt

cdef struct Frame:
    # it is at no stage
    uint8_t *buf
    uint32_t l2
    uint32_t l3
    uint32_t end
    uint32_t id
    uint32_t hash
    uint8_t hash_l4
    uint8_t crossings
    uint8_t sound  # as Pkt.sound
    uint8_t unfinished
    const int *rules  # of a new connection: the origins of the rules that are told to have decided its translations, in order
    uint16_t ident  # for the identification of the tunnel's IP header that it gets on the way


cdef inline void packet_frame(const Pkt *p, Frame *w) noexcept nogil:
    """A packet that comes to its way."""
    w.buf = p.buf
    w.l2 = p.l2
    w.end = p.end
    w.id = p.id
    w.hash = p.hash
    w.hash_l4 = p.hash_l4
    w.crossings = p.crossings
    w.sound = p.sound
    w.unfinished = p.unfinished


cdef inline void frame_left(Pkt *p, const Frame *w) noexcept nogil:
    """The packet is as the way has left it."""
    p.l2 = w.l2
    p.end = w.end
    p.id = w.id
    p.hash = w.hash
    p.hash_l4 = w.hash_l4
    p.crossings = w.crossings
    p.unfinished = w.unfinished


cdef inline uint8_t transports_read(uint64_t place) noexcept nogil:
    """How many transport headers of a packet a key of this place speaks of: that of the tunnel it comes in counts."""
    return 2 if place & HOW_TUNNELLED else 1


cdef inline bint sound_enough(uint8_t sound, const Parsed *a) noexcept nogil:
    """Are the checksums of all that the key speaks of known to be right?"""
    return sound >= transports_read(a.key.place)


cdef inline uint8_t sound_after(const Program *g, uint8_t sound) noexcept nogil:
    """Pkt.sound at the program's end, of a packet whose checksums were right in front of it. What was a tunnel for nobody there has more
    inside than has been looked at."""
    cdef int known = transports_read(g.place)
    if sound > known:
        known = sound
    return <uint8_t>max(0, min(known + g.deeper, 255))


cdef inline uint32_t csum_patched(uint32_t check, uint64_t changed) noexcept nogil:
    """RFC 1624, with 0xffff added first as csum_replace() does: never 0xffff. ``changed``: the sum of what is new, and of the
    complements of what was there before."""
    return ~sum_fold(0xffff + (~check & 0xffff) + changed) & 0xffff


cdef inline uint64_t nat_put(uint8_t *ip, int manip, uint64_t now, uint64_t *ports) noexcept nogil:
    """Address and port of one side, as in nat_value(): what changes in the sum of addresses; what changes in that of ports is added to
    ``ports``."""
    cdef uint8_t *addr = ip + 12 + 4 * manip
    cdef uint8_t *port = ip + IP + 2 * manip
    cdef uint32_t address = <uint32_t>now, was = raw32(addr)
    ports[0] += <uint64_t>(~raw16(port) & 0xffff) + (now >> 32)
    put_raw16(port, <uint32_t>(now >> 32))
    memcpy(addr, &address, 4)
    return <uint64_t>~was + address


cdef inline void nat_sum(uint8_t *ip, uint64_t changed) noexcept nogil:
    """The TCP or UDP checksum follows."""
    cdef bint tcp = ip[9] == 6
    cdef uint8_t *check = ip + IP + (16 if tcp else 6)
    cdef uint32_t sum
    if tcp or raw16(check) != 0:
        sum = csum_patched(raw16(check), changed)
        put_raw16(check, sum if sum or tcp else 0xffff)


cdef inline void nat_apply(uint8_t *ip, int manip, uint64_t now) noexcept nogil:
    """Address and port of one side, and the checksums over them."""
    cdef uint64_t ports = 0
    cdef uint64_t addresses = nat_put(ip, manip, now, &ports)
    nat_sum(ip, addresses + ports)
    put_raw16(ip + 10, csum_patched(raw16(ip + 10), addresses))


cdef inline void push_udp_sum(const Program *g, uint8_t *udp, uint32_t n, const uint8_t *inner, uint32_t link_sum) noexcept nogil:
    """The checksum of the tunnel's UDP header. Of what is inside only the headers are read: a right checksum says what the rest
    sums up to. ``inner``: the inner IP header; ``link_sum``: the sum of the Ethernet header before it, 0 if there is none."""
    cdef uint64_t sum = <uint64_t>g.push_udp_sum + raw16(udp) + 2 * <uint64_t>net16(n) + link_sum
    cdef bint padded = inner + ld16(inner + 2) != udp + n
    if padded or (inner[9] == 17 and raw16(inner + IP + 6) == 0):
        sum += sum_bytes(inner + IP, <uint32_t>(udp + n - inner) - IP)
    else:
        sum += NONE - sum_pseudo(inner)
    n = ~sum_fold(sum) & 0xffff
    put_raw16(udp + 6, n if n else 0xffff)


cdef inline void tunnel_finish(uint16_t sport, const Program *g, uint16_t ident, uint8_t *ip, uint32_t total, const uint8_t *inner,
                               uint32_t link_sum) noexcept nogil:
    """What differs from packet to packet in a tunnel's headers, which are the template's still: the IP packet is ``total`` bytes long.
    ``sport``: as in Flow; the rest as in push_udp_sum()."""
    cdef uint32_t sum = ~sum_fold(<uint64_t>g.push_sum + net16(total) + net16(ident))
    put_raw16(ip + 2, net16(total))
    put_raw16(ip + 4, net16(ident))
    put_raw16(ip + 10, sum)
    if ip[9] == 17:
        put_raw16(ip + IP, sport)
        put_raw16(ip + IP + 4, net16(total - IP))
        if g.push_udp:
            push_udp_sum(g, ip + IP, total - IP, inner, link_sum)
