# What tells a flow's packets from others: read from a frame, without changing anything.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from ext.devices.core cimport Core, Dev, carries_frames
from ext.fast.flows cimport DEVICES_MAX, FlowCache, HOW_RESET, HOW_TRANSMIT, HOW_TUNNELLED, Key, PLACE_DEVICE, PLACE_TOS, Shape, key_hash
from ext.fast.segments cimport segments_plain
from ext.fast.sum cimport NONE, header_plain, net16, raw16, raw32, raw64, sum_before, sum_header, sum_pseudo, sum_right, sum_transport
from ext.tables.ct_tcp cimport TCP_HEADER
from ext.wire.bytes cimport ld16

cdef enum:
    ETH = 14
    IP = 20  # without options
    UDP = 8
    TCP_PLAIN = 0x10  # ACK is there, and of SYN, FIN, RST and URG none
    TCP_TELLING = 0x37
    TCP_RESET = 0x04  # RST alone

cdef struct Parsed:
    Key key
    uint64_t hash
    uint32_t l3  # offsets in the frame: the (outer) IP header
    uint32_t inner  # the IP header that the key is about
    uint32_t length  # of the frame, with what lies behind the packet
    uint8_t sound  # its checksums are known to be right
    uint8_t tells  # a TCP segment whose flags tell the connection something: no flow's, but perhaps a megaflow's


cdef inline bint plain_ip(const uint8_t *ip, uint32_t n) noexcept nogil:
    """An IPv4 header without options and with a right checksum, of a packet that is all there and no fragment."""
    return n >= IP + UDP and header_plain(ip) and IP + UDP <= ld16(ip + 2) <= n and sum_right(sum_header(ip))


cdef inline bint transport_read(const uint8_t *ip, uint32_t n, uint64_t *how, Parsed *a) noexcept nogil:
    """Of ``n`` bytes behind an IP header: a TCP segment with all of its header, whose flags say HOW_RESET and whether they may change an
    open connection otherwise; or a UDP datagram as long as its packet. False: they are neither."""
    cdef const uint8_t *l4 = ip + IP
    cdef uint32_t header, flags
    a.tells = a.sound = False
    if ip[9] == 17:
        return ld16(l4 + 4) == n
    if ip[9] != 6 or n < TCP_HEADER:
        return False
    header = l4[12] >> 2 & ~3
    flags = l4[13] & TCP_TELLING
    if flags != TCP_PLAIN:
        a.tells = flags != TCP_RESET
        if flags & TCP_RESET:
            how[0] |= HOW_RESET
    return TCP_HEADER <= header <= n


cdef inline const Shape *tunnel_shape(const FlowCache *fc, int ns, const uint8_t *ip) noexcept nogil:
    """The tunnel that such a packet may come in, NULL: none that ends here."""
    cdef const Shape *s
    cdef int i
    for i in range(fc.n_shapes):
        s = &fc.shape[i]
        if s.ns == ns and s.proto == ip[9] and (s.port == 0 or s.port == raw16(ip + IP + 2)):
            return s
    return NULL


cdef inline bint key_parse(const FlowCache *fc, const Dev *d, bint transmit, const uint8_t *frame, uint32_t n, Parsed *a) noexcept nogil:
    """Of a frame at device ``d``. False: it is of no kind that flows are."""
    return key_read(fc, d, transmit, frame, n, a) and not a.tells


cdef inline const uint8_t *tunnel_inner(const Shape *s, const uint8_t *ip, uint32_t total) noexcept nogil:
    """The IP header inside of a packet of this shape, ``total`` bytes long; NULL: it has none that keys are read from."""
    if ip[9] == 17 and ld16(ip + IP + 4) != total - IP:
        return NULL
    if total < s.at + (ETH if s.frames else 0) + IP + UDP:
        return NULL
    ip += s.at
    total -= s.at
    if s.frames:
        if ip[12] != 8 or ip[13] != 0:
            return NULL
        ip += ETH
        total -= ETH
    return ip if plain_ip(ip, total) and ld16(ip + 2) == total else NULL


cdef inline bint key_read(const FlowCache *fc, const Dev *d, bint transmit, const uint8_t *frame, uint32_t n, Parsed *a) noexcept nogil:
    """The same, and of segments that tell a connection something. False: it is of no kind that is kept in the cache."""
    cdef const uint8_t *ip = frame
    cdef const Shape *s
    cdef uint64_t how = HOW_TRANSMIT if transmit else 0
    if d.id >= DEVICES_MAX:
        return False
    if carries_frames(d):
        if n < ETH + IP or raw16(frame + 12) != net16(0x0800):
            return False
        ip += ETH
    a.l3 = a.inner = <uint32_t>(ip - frame)
    a.length = n
    if not plain_ip(ip, n - a.l3):
        return False
    if fc.n_shapes:
        s = tunnel_shape(fc, d.ns, ip)
        if s != NULL:
            ip = tunnel_inner(s, ip, ld16(ip + 2))
            if ip == NULL:
                return False
            a.inner = <uint32_t>(ip - frame)
            how |= HOW_TUNNELLED
    if not transport_read(ip, ld16(ip + 2) - IP, &how, a):
        return False
    a.key.place = <uint64_t>(d.id + 1) << PLACE_DEVICE | how | <uint64_t>ip[1] << PLACE_TOS | raw32(ip + 6)
    a.key.addresses = raw64(ip + 12)
    a.key.ports = raw32(ip + IP)
    a.hash = key_hash(fc.key_seed, &a.key)
    return True


cdef inline bint transport_sound(const uint8_t *ip) noexcept nogil:
    """Is the checksum of a packet that sound_transport() accepts right, or a UDP datagram without one?"""
    cdef uint32_t n = ld16(ip + 2) - IP
    if ip[9] == 17 and raw16(ip + IP + 6) == 0:
        return True
    return sum_right(sum_transport(ip, n))


cdef inline bint tunnel_sound(const uint8_t *outer, const uint8_t *inner) noexcept nogil:
    """The same of the UDP header of a tunnel, whose inner packet is sound and ends where it does: then what is inside need not be read
    again, as a right checksum says what it sums up to."""
    cdef uint32_t before = <uint32_t>(inner - outer) - IP
    if raw16(outer + IP + 6) == 0:
        return True
    if before & 1 or (inner[9] == 17 and raw16(inner + IP + 6) == 0):
        return transport_sound(outer)
    return sum_right(sum_before(outer, before, ld16(outer + 2) - IP, NONE - sum_pseudo(inner)))


cdef inline bint packet_sound(const uint8_t *frame, const Parsed *a) noexcept nogil:
    """The same of a whole frame, and of the UDP header of the tunnel that it comes in."""
    if not transport_sound(frame + a.inner):
        return False
    return a.inner == a.l3 or frame[a.l3 + 9] != 17 or tunnel_sound(frame + a.l3, frame + a.inner)


# ---- the same of frames for a transmit queue that segments_plain() lets through

cdef inline uint32_t segments_begin(const FlowCache *fc, const Dev *d, const uint8_t *frame, uint32_t n) noexcept nogil:
    """Where the IP header that keys are about may begin in frames like this one; 0: nowhere."""
    cdef const uint8_t *ip = frame + ETH
    cdef const Shape *s
    cdef int i
    if not carries_frames(d) or n < ETH + IP + UDP:
        return 0
    s = tunnel_shape(fc, d.ns, ip)
    if s != NULL:
        return ETH + s.at + ETH if s.frames and ip[9] != 6 else 0
    for i in range(fc.n_shapes):
        if fc.shape[i].proto == 6:
            return 0
    return ETH


cdef inline uint32_t frames_plain(const FlowCache *fc, const Core *c, const uint8_t *data, const int32_t *devs, const uint64_t *starts,
                                  const uint32_t *lengths, uint32_t m, uint32_t *at) noexcept nogil:
    """Bits of those of the frames, ``m``, that key_read_plainly() may read, and where their segments begin, all like the first one's."""
    if m == 0:
        return 0
    at[0] = segments_begin(fc, c.dev[devs[0]], data + starts[0], lengths[0])
    return segments_plain(data, starts, lengths, m, at[0]) if at[0] else 0


cdef inline bint tunnel_plain(const FlowCache *fc, const Dev *d, const uint8_t *frame, uint32_t n, uint32_t at) noexcept nogil:
    """Does a frame, in which such a segment begins at ``at``, come in a sound tunnel that ends where the segment does?"""
    cdef const uint8_t *ip = frame + ETH
    cdef const Shape *s
    cdef int total
    if raw16(frame + 12) != net16(0x0800) or not plain_ip(ip, n - ETH):
        return False
    s = tunnel_shape(fc, d.ns, ip)
    total = ld16(ip + 2)
    if s == NULL or not s.frames or ETH + s.at + ETH != <int>at or ld16(frame + at + 2) != total - s.at - ETH:
        return False
    return ip[9] != 17 or (ld16(ip + IP + 4) == total - IP and tunnel_sound(ip, frame + at))


cdef inline bint key_read_plainly(const FlowCache *fc, const Dev *d, const uint8_t *frame, uint32_t n, uint32_t at,
                                  Parsed *a) noexcept nogil:
    """key_read() where its IP header begins at ``at``, and packet_sound(). False: only these two can tell."""
    cdef const uint8_t *ip = frame + at
    cdef uint64_t how = HOW_TRANSMIT
    if d.id >= DEVICES_MAX or not carries_frames(d):
        return False
    if at != ETH:
        if not tunnel_plain(fc, d, frame, n, at):
            return False
        how |= HOW_TUNNELLED
    a.l3 = ETH
    a.inner = at
    a.length = n
    a.tells = False
    a.sound = True
    a.key.place = <uint64_t>(d.id + 1) << PLACE_DEVICE | how | <uint64_t>ip[1] << PLACE_TOS | raw32(ip + 6)
    a.key.addresses = raw64(ip + 12)
    a.key.ports = raw32(ip + IP)
    a.hash = key_hash(fc.key_seed, &a.key)
    return True
