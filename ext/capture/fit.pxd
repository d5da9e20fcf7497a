# A capture's packets made the frames that one machine would have sent, as FrameFitter of dataplane/traffic/fitter.py makes them.
#
# What is rare (ARP, quotes in ICMP errors, extension headers, an address that was not met before) is asked of Python.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from ext.capture.address_map cimport AddressRules, map_ipv4, map_ipv6
from ext.capture.index cimport Index
from ext.capture.link cimport LINKTYPE_ETHERNET, Link, link_bare
from ext.wire.flow_key cimport network_offset
from ext.wire.bytes cimport ld16, raw32, raw64, st16
from ext.wire.ether cimport (ETH_ALEN, ETH_HLEN, ETH_TYPE, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, VLAN_HLEN,
                             ethertype_is_vlan)
from ext.wire.hash cimport mix64

cdef enum:
    # what became of a packet
    FIT_DONE = 0
    FIT_HOP = 1  # the next hop of its destination is not known
    FIT_PYTHON = 2
    FIT_OUTSIDE = 3  # it does not lie within the data
    FIT_FULL = 4  # no room for its frame
    # why a packet is not injected; from UNFIT_ADDRESSES on: for its destination
    UNFIT_CUT = 0
    UNFIT_SHORT = 1
    UNFIT_NOT_IP = 2
    UNFIT_TOO_LONG = 3
    UNFIT_ADDRESSES = 4
    HOPS_FIRST = 1024  # places; doubled when half of them are taken
    HOPS_MOST = 1048576  # next hops; then all are forgotten, so that memory is bounded
    ROOM = 18  # bytes that a frame may be longer than its packet

cdef struct Hop:
    uint8_t address[16]
    uint8_t size  # of the address, 0: an empty place
    uint8_t mac[6]
    int32_t unfit  # -1: it has a MAC

cdef struct Hops:
    Hop *place
    uint64_t mask
    uint64_t n

cdef struct Fit:
    uint8_t mac[6]  # of the machine
    bint rewrites
    uint32_t most  # bytes of a frame without VLAN tag
    AddressRules rules4
    AddressRules rules6
    Hops hops
    Hop asked  # with FIT_HOP: the address

cdef struct UnfitRun:
    int32_t reason
    uint64_t first  # packet numbers
    uint64_t last

cdef struct Fitted:
    uint64_t capacity
    uint64_t n
    uint64_t *starts
    uint32_t *lengths
    int64_t *times
    uint8_t *arena
    uint64_t room  # bytes of the arena
    uint64_t used
    UnfitRun *run
    uint64_t n_runs


cdef inline uint64_t hop_hash(const uint8_t *address, int size) noexcept nogil:
    if size == 4:
        return mix64(raw32(address))
    return mix64(raw64(address + 8) ^ mix64(raw64(address) + size))


cdef inline bint hop_is(const Hop *h, const uint8_t *address, int size) noexcept nogil:
    if h.size != size:
        return False
    return raw32(h.address) == raw32(address) if size == 4 else memcmp(h.address, address, size) == 0


cdef inline Hop *hop_place(const Hops *t, const uint8_t *address, int size) noexcept nogil:
    """Where the address stands or would stand."""
    cdef uint64_t at = hop_hash(address, size) & t.mask
    while t.place[at].size and not hop_is(&t.place[at], address, size):
        at = (at + 1) & t.mask
    return &t.place[at]


cdef inline bint hops_room(Hops *t) noexcept nogil:
    """Room for one more; False when memory is out."""
    cdef Hops grown
    cdef Hop *to
    cdef uint64_t i
    if t.place != NULL and t.n >= HOPS_MOST:
        memset(t.place, 0, (t.mask + 1) * sizeof(Hop))
        t.n = 0
    if t.place != NULL and 2 * t.n < t.mask:
        return True
    grown.mask = 2 * t.mask + 1 if t.place != NULL else HOPS_FIRST - 1
    grown.n = t.n
    grown.place = <Hop *>calloc(grown.mask + 1, sizeof(Hop))
    if grown.place == NULL:
        return False
    if t.place != NULL:
        for i in range(t.mask + 1):
            if t.place[i].size:
                to = hop_place(&grown, t.place[i].address, t.place[i].size)
                to[0] = t.place[i]
    free(t.place)
    t[0] = grown
    return True


cdef inline void note_unfit(Fitted *out, int32_t reason, uint64_t number) noexcept nogil:
    cdef UnfitRun *r = &out.run[out.n_runs - 1] if out.n_runs else NULL
    if r == NULL or r.reason != reason or r.last + 1 != number:
        r = &out.run[out.n_runs]
        out.n_runs += 1
        r.reason = reason
        r.first = number
    r.last = number


cdef inline int map_body(const Fit *f, uint32_t ethertype, uint8_t *body, uint32_t n) noexcept nogil:
    """Addresses of the headers; FIT_DONE or FIT_PYTHON."""
    if f.rules4.n + f.rules6.n == 0:
        return FIT_DONE
    if ethertype == ETHERTYPE_ARP:
        return FIT_PYTHON
    if ethertype != ETHERTYPE_IPV4 and ethertype != ETHERTYPE_IPV6:
        return FIT_DONE
    if n >= 20 and body[0] >> 4 == 4:
        return FIT_DONE if map_ipv4(&f.rules4, body, n) else FIT_PYTHON
    if n >= 40 and body[0] >> 4 == 6:
        return FIT_DONE if map_ipv6(&f.rules6, body, n) else FIT_PYTHON
    return FIT_DONE


cdef inline int set_macs(Fit *f, uint8_t *frame, uint32_t ethertype, const uint8_t *body, uint32_t n, int32_t *unfit) noexcept nogil:
    """The next hop's MAC and the machine's; FIT_DONE or FIT_HOP. ``unfit``: the reason, if it has none."""
    cdef int size = 4 if ethertype == ETHERTYPE_IPV4 else 16
    cdef uint32_t at = 16 if size == 4 else 24
    cdef Hop *hop
    if (ethertype != ETHERTYPE_IPV4 and ethertype != ETHERTYPE_IPV6) or n < at + size:
        unfit[0] = UNFIT_NOT_IP
        return FIT_DONE
    hop = hop_place(&f.hops, body + at, size)
    if hop.size == 0:
        memcpy(f.asked.address, body + at, size)
        f.asked.size = <uint8_t>size
        return FIT_HOP
    unfit[0] = hop.unfit
    memcpy(frame, hop.mac, ETH_ALEN)
    memcpy(frame + ETH_ALEN, f.mac, ETH_ALEN)
    return FIT_DONE


cdef inline bint too_long(const Fit *f, const uint8_t *frame, uint64_t n) noexcept nogil:
    return n > <uint64_t>f.most + <uint64_t>(VLAN_HLEN if ethertype_is_vlan(ld16(frame + ETH_TYPE)) else 0)


cdef inline int make_frame(Fit *f, const uint8_t *p, uint32_t n, const Link *link, bint bare, uint8_t *frame, uint32_t *size,
                           int32_t *unfit) noexcept nogil:
    """Write the frame that a packet becomes at ``frame``; a code, and the reason why it is unfit or -1."""
    cdef uint32_t start, ethertype = link.ethertype
    cdef int code
    if bare:
        start = ETH_HLEN
        memcpy(frame + start, p + link.header, n - link.header)
        size[0] = n - link.header + start
        st16(frame + ETH_TYPE, ethertype)
    elif n < ETH_HLEN:
        unfit[0] = UNFIT_SHORT
        return FIT_DONE
    else:
        start = network_offset(p, n)
        start = start if start < n else n
        ethertype = ld16(p + start - 2)
        memcpy(frame, p, n)
        size[0] = n
    code = map_body(f, ethertype, frame + start, size[0] - start)
    if code == FIT_DONE and (bare or f.rewrites):
        code = set_macs(f, frame, ethertype, frame + start, size[0] - start, unfit)
    return code


cdef inline int fit_packet(Fit *f, const uint8_t *data, const Index *x, uint64_t i, uint64_t number, int64_t time, Fitted *out) noexcept nogil:
    """One packet: into ``out`` as a frame or as unfit; or else a code, and nothing was done."""
    cdef const uint8_t *p = data + x.starts[i]
    cdef uint8_t *frame = out.arena + out.used
    cdef uint32_t n = x.lengths[i], size = 0
    cdef bint bare = x.links[i] != LINKTYPE_ETHERNET
    cdef int32_t unfit = -1
    cdef Link link
    cdef int code
    if out.room - out.used < <uint64_t>n + ROOM:
        return FIT_FULL
    link.header = link.ethertype = 0
    if bare and not link_bare(x.links[i], p, n, &link):
        return FIT_PYTHON
    if x.origs[i] > n:
        unfit = UNFIT_CUT
    else:
        code = make_frame(f, p, n, &link, bare, frame, &size, &unfit)
        if code != FIT_DONE:
            return code
        if unfit < 0 and too_long(f, frame, size):
            unfit = UNFIT_TOO_LONG
    if unfit >= 0:
        note_unfit(out, unfit, number)
        return FIT_DONE
    out.starts[out.n] = out.used
    out.lengths[out.n] = size
    out.times[out.n] = time
    out.n += 1
    out.used += size
    return FIT_DONE


cdef inline void fit_in_place(const Fit *f, const uint8_t *data, const Index *x, uint64_t i, uint64_t number, int64_t time,
                              Fitted *out) noexcept nogil:
    """As ``fit_packet`` of an Ethernet frame that goes as it is: it stays where it stands."""
    cdef uint32_t n = x.lengths[i]
    if x.origs[i] > n:
        note_unfit(out, UNFIT_CUT, number)
    elif n < ETH_HLEN:
        note_unfit(out, UNFIT_SHORT, number)
    elif too_long(f, data + x.starts[i], n):
        note_unfit(out, UNFIT_TOO_LONG, number)
    else:
        out.starts[out.n] = x.starts[i]
        out.lengths[out.n] = n
        out.times[out.n] = time
        out.n += 1
