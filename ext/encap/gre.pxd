# The GRE header (RFC 2784, RFC 2890) of the encapsulations that begin with it: include/net/gre.h, net/ipv4/gre_demux.c.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from ext.encap.abi cimport (dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_option, dataplane_encap_option_help,
                            dataplane_encap_pop, dataplane_encap_push, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.device cimport device_new
from ext.encap.limit cimport LIMIT_OPTIONS, NO_LIMIT, limit_help, limit_hlen, limit_option, limit_push
from ext.encap.options cimport option_in
from ext.encap.outer cimport DF_SET, Outer, outer_option, outer_push
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.checksum cimport csum_bytes
from ext.wire.ipv4 cimport IPPROTO_GRE

cdef enum:
    GRE_MIN_HLEN = 4
    GRE_CHECKSUM = 0x8000
    GRE_ROUTING = 0x4000
    GRE_KEY = 0x2000
    GRE_SEQUENCE = 0x1000
    GRE_VERSION = 0x0007
    GRE_VERSION_V4 = 0x007f  # what gre_rcv() takes for the version
    GRE_PPTP = 1
    GRE_ERSPAN = 0x88be  # types I and II
    GRE_ERSPAN3 = 0x22eb
    GRE_MPLS = 0x8847
    GRE_OPTIONS = 3 + LIMIT_OPTIONS  # rows that gre_help() writes
    # drop reasons that every encapsulation over GRE begins its table with, counted from 1
    GRE_NO_HEADROOM = 1
    GRE_TRUNCATED
    GRE_BAD_VERSION
    GRE_ROUTING_PRESENT
    GRE_BAD_CHECKSUM
    GRE_CHECKSUM_MISMATCH
    GRE_OUT_OF_SEQUENCE
    GRE_REASONS = GRE_OUT_OF_SEQUENCE

cdef struct Gre:
    uint16_t flags  # checksum, key and sequence: written, and wanted in what is received
    uint32_t key
    uint32_t next_out
    uint32_t next_in  # lowest sequence number still taken, 0: any

cdef struct GreDevice:  # what the state of every device over GRE begins with
    Gre gre
    Outer outer
    int64_t limit  # of encapsulation over IPv6, or NO_LIMIT

cdef struct GreHeader:
    uint16_t flags
    uint16_t protocol
    uint32_t key
    uint32_t sequence
    uint32_t size


cdef inline bint gre_option(Gre *g, const dataplane_encap_option *o) noexcept nogil:
    """False: none of these options, or a value out of range."""
    if option_in(o, b"key", -1, 0xffffffff):
        g.flags = g.flags | GRE_KEY if o.number >= 0 else g.flags & ~GRE_KEY
        g.key = <uint32_t>o.number
    elif option_in(o, b"sequence", -1, 0xffffffff):
        g.flags = g.flags | GRE_SEQUENCE if o.number >= 0 else g.flags & ~GRE_SEQUENCE
        g.next_out = <uint32_t>o.number
    elif option_in(o, b"checksum", 0, 1):
        g.flags = g.flags | GRE_CHECKSUM if o.number else g.flags & ~GRE_CHECKSUM
    else:
        return False
    return True


cdef inline void gre_help(dataplane_encap_option_help *row) noexcept nogil:
    """Fill GRE_OPTIONS rows."""
    row[0] = dataplane_encap_option_help(b"key", b"GRE key, 0 to 0xffffffff, written and wanted in what is received; -1: none", b"-1")
    row[1] = dataplane_encap_option_help(
        b"sequence", b"First sequence number written, 0 to 0xffffffff; received packets must then have one, in order; -1: none", b"-1")
    row[2] = dataplane_encap_option_help(b"checksum", b"1: write a GRE checksum, and want one in what is received", b"0")
    limit_help(&row[3])


cdef inline uint32_t gre_hlen(int flags) noexcept nogil:
    return GRE_MIN_HLEN + 4 * (((flags & GRE_CHECKSUM) != 0) + ((flags & GRE_KEY) != 0) + ((flags & GRE_SEQUENCE) != 0))


cdef inline void gre_write(Gre *g, dataplane_encap_push *info, uint8_t *gre, int protocol, uint32_t n) noexcept nogil:
    """The header at ``gre``; ``n``: bytes from there to the end, what follows the header being there already (gre_build_header())."""
    cdef uint8_t *at = gre + GRE_MIN_HLEN
    st16(gre, g.flags)
    st16(gre + 2, protocol)
    if g.flags & GRE_CHECKSUM:
        st32(at, 0)
        at += 4
    if g.flags & GRE_KEY:
        st32(at, g.key if info.id < 0 else <uint32_t>info.id)
        at += 4
    if g.flags & GRE_SEQUENCE:
        st32(at, g.next_out)
        g.next_out += 1
    if g.flags & GRE_CHECKSUM:
        st16(gre + GRE_MIN_HLEN, csum_bytes(gre, n))
    info.ip_protocol = IPPROTO_GRE


cdef inline bint gre_fields(const uint8_t *gre, size_t size, GreHeader *h) noexcept nogil:
    """Take the header apart. False: it is broken off."""
    cdef const uint8_t *at = gre + GRE_MIN_HLEN
    if size < GRE_MIN_HLEN:
        return False
    h.flags = ld16(gre)
    h.protocol = ld16(gre + 2)
    h.size = gre_hlen(h.flags)
    h.key = h.sequence = 0
    if size < h.size:
        return False
    if h.flags & GRE_CHECKSUM:
        at += 4
    if h.flags & GRE_KEY:
        h.key = ld32(at)
        at += 4
    if h.flags & GRE_SEQUENCE:
        h.sequence = ld32(at)
    return True


cdef inline int gre_read(dataplane_encap_pop *info, const uint8_t *gre, size_t size, GreHeader *h) noexcept nogil:
    """Take the header apart as gre_parse_header() does: OK, NOT_MINE or a reason."""
    cdef int version
    if size < GRE_MIN_HLEN:
        return GRE_TRUNCATED
    version = ld16(gre) & (GRE_VERSION_V4 if info.family == 4 else GRE_VERSION)
    if version == GRE_PPTP:
        return DATAPLANE_ENCAP_NOT_MINE
    if version:
        return GRE_BAD_VERSION
    if ld16(gre) & GRE_ROUTING:
        return GRE_ROUTING_PRESENT
    if not gre_fields(gre, size, h):
        return GRE_TRUNCATED
    if h.flags & GRE_CHECKSUM and csum_bytes(gre, <uint32_t>size):
        return GRE_BAD_CHECKSUM
    if h.flags & GRE_KEY:
        info.id = h.key
    return DATAPLANE_ENCAP_OK


cdef inline bint gre_has_key(const Gre *g, const GreHeader *h) noexcept nogil:
    """Is it the device's key, or are both without (ip_tunnel_key_match())?"""
    return h.flags & GRE_KEY == g.flags & GRE_KEY and (not g.flags & GRE_KEY or h.key == g.key)


cdef inline int gre_accept(Gre *g, const GreHeader *h) noexcept nogil:
    """Checksum and order are as the device wants them (ip_tunnel_rcv()): OK or a reason."""
    if h.flags & GRE_CHECKSUM != g.flags & GRE_CHECKSUM:
        return GRE_CHECKSUM_MISMATCH
    if g.flags & GRE_SEQUENCE:
        if not h.flags & GRE_SEQUENCE or (g.next_in and <int32_t>(h.sequence - g.next_in) < 0):
            return GRE_OUT_OF_SEQUENCE
        g.next_in = h.sequence + 1
    return DATAPLANE_ENCAP_OK


cdef inline int gre_describe(const uint8_t *gre, size_t size, GreHeader *h, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the header's fields: the bytes it takes, -1 if it is broken off or has routing entries or another version."""
    if not gre_fields(gre, size, h) or h.flags & (GRE_ROUTING | GRE_VERSION):
        return -1
    field(context, b"gre", b"protocol", h.protocol, NULL, 0)
    field(context, b"gre", b"flags", h.flags, NULL, 0)
    if h.flags & GRE_CHECKSUM:
        field(context, b"gre", b"checksum", ld16(gre + GRE_MIN_HLEN), NULL, 0)
    if h.flags & GRE_KEY:
        field(context, b"gre", b"key", h.key, NULL, 0)
    if h.flags & GRE_SEQUENCE:
        field(context, b"gre", b"sequence", h.sequence, NULL, 0)
    return <int>h.size


# ---- devices over GRE

cdef inline void *gre_device_new(size_t size, char *error) noexcept nogil:
    """A state of ``size`` bytes that begins with a GreDevice with the defaults of Linux; NULL and a message: no memory."""
    cdef GreDevice *d = <GreDevice *>device_new(size, error)
    if d != NULL:
        d.outer.ttl_inherit = True
        d.outer.df = DF_SET
        d.limit = NO_LIMIT
    return d


cdef inline bint gre_take_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    cdef GreDevice *d = <GreDevice *>device
    return gre_option(&d.gre, o) or limit_option(&d.limit, o) or outer_option(&d.outer, o)


cdef inline uint16_t gre_overhead(const void *state, int family) noexcept nogil:
    cdef const GreDevice *d = <const GreDevice *>state
    return <uint16_t>((20 if family == 4 else 40) + gre_hlen(d.gre.flags) + limit_hlen(d.limit, family))


cdef inline uint16_t gre_port(const void *state) noexcept nogil:
    return 0


cdef inline int gre_push(GreDevice *d, dataplane_encap_push *info, dataplane_encap_bytes *bytes, int protocol, int limit) noexcept nogil:
    """The GRE header before ``data``, and the outer header's fields; ``limit``: of limit_of(), not 0."""
    cdef uint32_t hlen = gre_hlen(d.gre.flags)
    if bytes.data - bytes.head < hlen:
        return GRE_NO_HEADROOM
    bytes.data -= hlen
    gre_write(&d.gre, info, bytes.data, protocol, <uint32_t>(bytes.tail - bytes.data))
    if not limit_push(d.limit, limit, info, bytes):
        return GRE_NO_HEADROOM
    outer_push(&d.outer, info)
    return DATAPLANE_ENCAP_OK
