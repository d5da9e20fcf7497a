# IPv4 options on the way through a host: net/ipv4/ip_options.c. Record route, timestamp, source route, router alert.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, Ns, pkt_ns
from ext.stages.route cimport route_source, select_address
from ext.tables.fib cimport FibResult, fib_lookup, SCOPE_UNIVERSE, RT_UNICAST
from ext.tables.rules cimport addr_type
from ext.wire.bytes cimport ld32, st32
from ext.wire.ipv4 cimport (IPV4_HLEN, IPV4_OPTIONS, IPV4_SRC, IPV4_DST, IPOPT_END, IPOPT_NOP, IPOPT_RR, IPOPT_TS, IPOPT_LSRR, IPOPT_SSRR,
                            IPOPT_RA, IPOPT_CIPSO, ipv4_hlen, ipv4_set_csum)
from ext.wire.packet cimport Pkt, IpOptions, Dst, DST_LOCAL, DST_BROADCAST, DST_MULTICAST, pkt_l3

cdef enum:
    TS_ONLY = 0
    TS_AND_ADDRESS = 1
    TS_PRESPECIFIED = 3
    OPTIONS_MAX = 40
    OPTIONS_OK = -1

cdef struct OptionReader:
    uint8_t *ip
    uint8_t *at
    int left
    int size  # of the option at hand


cdef inline uint32_t time_of_day_ms(Core *c) noexcept nogil:
    """Milliseconds since midnight UT (RFC 791), midnight being the start of virtual time."""
    return <uint32_t>((c.now // 1000000) % 86400000)


cdef inline void specific_destination(Core *c, Pkt *p, uint8_t *out) noexcept nogil:
    """fib_compute_spec_dst(): the address to answer from."""
    cdef Ns *ns = pkt_ns(c, p)
    cdef uint8_t *ip = pkt_l3(p)
    cdef FibResult res
    memset(out, 0, 16)
    if p.dst.flags & DST_LOCAL and not p.dst.flags & (DST_BROADCAST | DST_MULTICAST):
        memcpy(out, ip + IPV4_DST, 4)
        return
    res = fib_lookup(&ns.fib4, ip + IPV4_SRC, -1)
    if res.error == 0:
        route_source(c, ns, res.route, out)
    else:
        select_address(c, ns, p.dev, NULL, SCOPE_UNIVERSE, out)


cdef inline int option_timestamp(Core *c, Pkt *p, OptionReader *r) noexcept nogil:
    """Returns the offset of what is wrong, or OPTIONS_OK."""
    cdef uint8_t *o = r.at
    cdef uint8_t spec[16]
    cdef int base = <int>(o - r.ip), ptr = o[2], mode = o[3] & 0xf
    if p.opt.ts:
        return base
    if r.size < 4:
        return base + 1
    if ptr < 5:
        return base + 2
    if ptr > r.size:
        if o[3] >> 4 == 15:
            return base + 3
        p.opt.ts = <uint8_t>base
        o[3] = <uint8_t>(mode | ((o[3] >> 4) + 1) << 4)
        p.opt.changed = True
        return OPTIONS_OK
    if ptr + 3 > r.size or (mode != TS_ONLY and (mode == TS_AND_ADDRESS or mode == TS_PRESPECIFIED) and ptr + 7 > r.size):
        return base + 2
    p.opt.ts = <uint8_t>base
    if mode == TS_ONLY:
        st32(o + ptr - 1, time_of_day_ms(c))
        p.opt.ts_needtime = True
        o[2] += 4
    elif mode == TS_AND_ADDRESS:
        specific_destination(c, p, spec)
        memcpy(o + ptr - 1, spec, 4)
        st32(o + ptr + 3, time_of_day_ms(c))
        p.opt.ts_needaddr = p.opt.ts_needtime = True
        o[2] += 8
    elif mode == TS_PRESPECIFIED:
        if addr_type(&pkt_ns(c, p).fib4, o + ptr - 1, 4) == RT_UNICAST:
            return OPTIONS_OK
        st32(o + ptr + 3, time_of_day_ms(c))
        p.opt.ts_needtime = True
        o[2] += 8
    else:
        return OPTIONS_OK
    p.opt.changed = True
    return OPTIONS_OK


cdef inline int option_record_route(Core *c, Pkt *p, OptionReader *r) noexcept nogil:
    cdef uint8_t *o = r.at
    cdef uint8_t spec[16]
    cdef int base = <int>(o - r.ip)
    if p.opt.rr:
        return base
    if r.size < 3:
        return base + 1
    if o[2] < 4:
        return base + 2
    if o[2] <= r.size:
        if o[2] + 3 > r.size:
            return base + 2
        specific_destination(c, p, spec)
        memcpy(o + o[2] - 1, spec, 4)
        p.opt.changed = True
        o[2] += 4
        p.opt.rr_needaddr = True
    p.opt.rr = <uint8_t>base
    return OPTIONS_OK


cdef inline int option_source_route(Pkt *p, OptionReader *r) noexcept nogil:
    cdef int base = <int>(r.at - r.ip)
    if r.size < 3:
        return base + 1
    if r.at[2] < 4:
        return base + 2
    if p.opt.srr:
        return base
    p.opt.strict = r.at[0] == IPOPT_SSRR
    p.opt.srr = <uint8_t>base
    return OPTIONS_OK


cdef inline int option_cipso(Pkt *p, OptionReader *r) noexcept nogil:
    """The form of a CIPSO option alone: labels mean nothing to a host without NetLabel."""
    cdef int base = <int>(r.at - r.ip), tag = 6
    if p.opt.cipso:
        return base
    p.opt.cipso = <uint8_t>base
    if r.size < 8:
        return base + 1
    if ld32(r.at + 2) == 0:
        return base + 2
    while tag + 1 < r.size:
        if r.at[tag + 1] == 0 or r.at[tag + 1] > r.size - tag:
            return base + tag + 1
        tag += r.at[tag + 1]
    return OPTIONS_OK


cdef inline int option_one(Core *c, Pkt *p, OptionReader *r) noexcept nogil:
    cdef uint8_t kind = r.at[0]
    cdef int base = <int>(r.at - r.ip)
    if kind == IPOPT_SSRR or kind == IPOPT_LSRR:
        return option_source_route(p, r)
    if kind == IPOPT_RR:
        return option_record_route(c, p, r)
    if kind == IPOPT_TS:
        return option_timestamp(c, p, r)
    if kind == IPOPT_RA:
        if r.size < 4:
            return base + 1
        if r.at[2] == 0 and r.at[3] == 0:
            p.opt.router_alert = <uint8_t>base
    elif kind == IPOPT_CIPSO:
        return option_cipso(p, r)
    return OPTIONS_OK


cdef inline int options_compile(Core *c, Pkt *p) noexcept nogil:
    """Check the options of a received packet and fill in what a host must: OPTIONS_OK, or the offset of what is wrong."""
    cdef OptionReader r
    cdef int bad
    r.ip = pkt_l3(p)
    r.at = r.ip + IPV4_OPTIONS
    r.left = <int>ipv4_hlen(r.ip) - IPV4_HLEN
    memset(&p.opt, 0, sizeof(IpOptions))
    p.opt.len = <uint8_t>r.left
    while r.left > 0:
        if r.at[0] == IPOPT_END:
            options_clear_rest(p, &r)
            break
        if r.at[0] == IPOPT_NOP:
            r.at += 1
            r.left -= 1
            continue
        if r.left < 2:
            return <int>(r.at - r.ip)
        r.size = r.at[1]
        if r.size < 2 or r.size > r.left:
            return <int>(r.at - r.ip)
        bad = option_one(c, p, &r)
        if bad != OPTIONS_OK:
            return bad
        r.at += r.size
        r.left -= r.size
    return OPTIONS_OK


cdef inline void options_clear_rest(Pkt *p, OptionReader *r) noexcept nogil:
    """Behind End of Option List there is only padding."""
    r.at += 1
    r.left -= 1
    while r.left > 0:
        if r.at[0] != IPOPT_END:
            r.at[0] = IPOPT_END
            p.opt.changed = True
        r.at += 1
        r.left -= 1


cdef inline void outgoing_address(Core *c, Ns *ns, const Dst *dst, const uint8_t *daddr, uint8_t *out) noexcept nogil:
    """ip_rt_get_source() for a forwarded packet: the address this router has towards the destination."""
    cdef FibResult res = fib_lookup(&ns.fib4, daddr, -1)
    cdef uint8_t addr[16]
    if res.error == 0:
        route_source(c, ns, res.route, addr)
    else:
        select_address(c, ns, dst.oif, &dst.gw[0] if dst.has_gw else daddr, SCOPE_UNIVERSE, addr)
    memcpy(out, addr, 4)


cdef inline void options_forward(Core *c, Pkt *p) noexcept nogil:
    """ip_forward_options(): record route gets the address of the outgoing side."""
    cdef uint8_t *ip = pkt_l3(p)
    cdef uint8_t *o
    if p.opt.rr_needaddr:
        o = ip + p.opt.rr
        outgoing_address(c, pkt_ns(c, p), &p.dst, ip + IPV4_DST, o + o[2] - 5)
        p.opt.changed = True
    if p.opt.changed:
        p.opt.changed = False
        ipv4_set_csum(ip)


cdef inline int echo_record_route(const Pkt *p, uint8_t *out, IpOptions *opt) noexcept nogil:
    cdef const uint8_t *s = p.buf + p.l3 + p.opt.rr
    memcpy(out, s, s[1])
    opt.rr = <uint8_t>(opt.len + IPV4_HLEN)
    if p.opt.rr_needaddr and s[2] <= s[1]:
        if s[2] + 3 > s[1]:
            return -1
        out[2] = s[2] + 4
        opt.rr_needaddr = True
    return s[1]


cdef inline int echo_timestamp(Core *c, const Pkt *p, uint8_t *out, IpOptions *opt) noexcept nogil:
    cdef const uint8_t *s = p.buf + p.l3 + p.opt.ts
    cdef int ptr = s[2], size = s[1]
    memcpy(out, s, size)
    opt.ts = <uint8_t>(opt.len + IPV4_HLEN)
    if ptr > size:
        return size
    if p.opt.ts_needaddr:
        if ptr + 3 > size:
            return -1
        opt.ts_needaddr = True
        ptr += 4
    if p.opt.ts_needtime:
        if ptr + 3 > size:
            return -1
        if s[3] & 0xf != TS_PRESPECIFIED:
            opt.ts_needtime = True
            ptr += 4
        elif ptr + 7 <= size and addr_type(&c.ns[c.dev[p.dev].ns].fib4, s + ptr - 1, 4) != RT_UNICAST:
            opt.ts_needtime = True
            ptr += 8
    out[2] = <uint8_t>ptr
    return size


cdef inline int echo_source_route(const Pkt *p, uint8_t *out, IpOptions *opt) noexcept nogil:
    """The recorded route turned round; the first hop back is not used, as answers are routed by their destination."""
    cdef const uint8_t *s = p.buf + p.l3 + p.opt.srr
    cdef int at = s[2], n = 0
    if at > s[1]:
        at = s[1] + 1
    at -= 4
    if at <= 3:
        return 0
    at -= 4
    n = 4
    while at > 3:
        memcpy(out + n - 1, s + at - 1, 4)
        at -= 4
        n += 4
    if n <= 4:
        return 0
    out[0] = s[0]
    out[1] = <uint8_t>(n + 3)
    out[2] = 4
    opt.srr = <uint8_t>(opt.len + IPV4_HLEN)
    opt.strict = p.opt.strict
    return n + 3


cdef inline int options_echo(Core *c, const Pkt *p, uint8_t *out, IpOptions *opt) noexcept nogil:
    """__ip_options_echo(): options for an answer to ``p`` (``out``: 40 bytes). -1: there can be no answer."""
    cdef int n
    memset(opt, 0, sizeof(IpOptions))
    memset(out, 0, OPTIONS_MAX)
    if p.opt.len == 0:
        return 0
    if p.opt.rr:
        n = echo_record_route(p, out, opt)
        if n < 0:
            return -1
        opt.len += <uint8_t>n
    if p.opt.ts:
        n = echo_timestamp(c, p, out + opt.len, opt)
        if n < 0:
            return -1
        opt.len += <uint8_t>n
    if p.opt.srr:
        opt.len += <uint8_t>echo_source_route(p, out + opt.len, opt)
    if p.opt.cipso:
        n = p.buf[p.l3 + p.opt.cipso + 1]
        opt.cipso = <uint8_t>(opt.len + IPV4_HLEN)
        memcpy(out + opt.len, p.buf + p.l3 + p.opt.cipso, n)
        opt.len += <uint8_t>n
    while opt.len & 3:
        out[opt.len] = IPOPT_END
        opt.len += 1
    return 0


cdef inline void options_build(Core *c, uint8_t *ip, const IpOptions *opt) noexcept nogil:
    """ip_options_build(): fill in what the sender of an answer adds. The options stand behind the header already."""
    cdef uint8_t *o
    if opt.rr_needaddr:
        o = ip + opt.rr
        memcpy(o + o[2] - 5, ip + IPV4_SRC, 4)
    if opt.ts_needaddr:
        o = ip + opt.ts
        memcpy(o + o[2] - 9, ip + IPV4_SRC, 4)
    if opt.ts_needtime:
        o = ip + opt.ts
        st32(o + o[2] - 5, time_of_day_ms(c))
