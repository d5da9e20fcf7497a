# What the core does for the state of a tunnel device: packets of the encapsulation's own, and its timer.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy
from ext.devices.changes cimport CHANGE_ENCAP, log_change
from ext.devices.core cimport Core, Dev, event_timer, EV_TUNNEL
from ext.devices.queue cimport Due
from ext.encap.abi cimport dataplane_encap_host, dataplane_encap_pop, dataplane_encap_push
from ext.encap.ip cimport address_len, outer_hlen
from ext.stages.icmp cimport local_packet
from ext.stages.tunnel cimport tunnel_route, tunnel_send, TUNNEL_PLUGIN_MISBEHAVED
from ext.stages.tunnel_receive cimport tunnel_deliver
from ext.wire.bytes cimport ld16, st16
from ext.wire.checksum cimport csum_add_bytes, pseudo_sum
from ext.wire.ether cimport ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPPROTO_UDP
from ext.wire.packet cimport Dst, Pkt

cdef enum:
    IP_PACKET_MAX = 65535
    UDP_HLEN = 8
    UDP_CSUM = 6
    TIMER_REST = 1000  # ns between two calls of a timer: one that asks for the same instant again would stop time


cdef inline Pkt *host_packet(Core *c, Dev *d, const uint8_t *bytes, size_t size, uint32_t most) noexcept nogil:
    """A packet of the namespace's own with these bytes; NULL: memory is out, or they are more than ``most``, which is a drop."""
    cdef Pkt *p = local_packet(c, c.ns[d.ns], <uint32_t>size if size <= most else 0)
    if p == NULL:
        return NULL
    p.dev = d.id
    if size > most:
        c.run(c, p, -TUNNEL_PLUGIN_MISBEHAVED)
        return NULL
    memcpy(p.buf + p.l3, bytes, size)
    p.end = p.l3 + <uint32_t>size
    return p


cdef inline void complete_checksum(Pkt *p, const dataplane_encap_push *asked, const dataplane_encap_push *info) noexcept nogil:
    """Who did not know its own address could not compute the UDP checksum."""
    cdef int i, alen = address_len(info.family)
    cdef uint32_t n = p.end - p.l3, sum
    cdef uint8_t *udp = p.buf + p.l3
    if info.ip_protocol != IPPROTO_UDP or n < UDP_HLEN or ld16(udp + UDP_CSUM):
        return
    for i in range(alen):
        if asked.local[i]:
            return
    sum = ~csum_add_bytes(udp, n, pseudo_sum(info.local, info.remote, alen, IPPROTO_UDP, n)) & 0xffff
    st16(udp + UDP_CSUM, sum if sum else 0xffff)


cdef inline void host_send(void *core, int32_t device, const dataplane_encap_push *outer, const uint8_t *payload, size_t size) noexcept nogil:
    cdef Core *c = <Core *>core
    cdef Dev *d = c.dev[device]
    cdef dataplane_encap_push info = outer[0]
    cdef Dst dst
    cdef Pkt *p
    cdef int v
    p = host_packet(c, d, payload, size, IP_PACKET_MAX - outer_hlen(info.family))
    if p == NULL:
        return
    if outer.packet > 0:
        p.id = outer.packet
    v = -TUNNEL_PLUGIN_MISBEHAVED
    if info.family == 4 or info.family == 6:
        v = tunnel_route(c, c.ns[d.ns], d, &info, &dst)
    if v == 0:
        complete_checksum(p, outer, &info)
        v = tunnel_send(c, c.ns[d.ns], p, &info, &dst)
        log_change(c, p, CHANGE_ENCAP, info.remote, address_len(info.family), 0)
    c.run(c, p, v)


cdef inline void host_receive(void *core, int32_t device, const dataplane_encap_pop *info, const uint8_t *inner, size_t size) noexcept nogil:
    cdef Core *c = <Core *>core
    cdef Dev *d = c.dev[device]
    cdef Pkt *p = host_packet(c, d, inner, size, IP_PACKET_MAX)
    if p == NULL:
        return
    if info.inner_protocol == 0 or (info.inner_protocol == ETHERTYPE_TEB and not d.encap.ethernet):
        c.run(c, p, -TUNNEL_PLUGIN_MISBEHAVED)
        return
    c.run(c, p, tunnel_deliver(c, d, p, info))


cdef inline void host_wake(void *core, int32_t device, int64_t at) noexcept nogil:
    cdef Core *c = <Core *>core
    event_timer(c, at if at > c.now + TIMER_REST else c.now + TIMER_REST, EV_TUNNEL, device)


cdef inline void host_init(Core *c, Dev *d, dataplane_encap_host *host) noexcept nogil:
    host.core = c
    host.device = d.id
    host.send = host_send
    host.receive = host_receive
    host.wake = host_wake


cdef inline void tunnel_due(Core *c, const Due *e) noexcept nogil:
    """The time that the encapsulation asked for."""
    cdef Dev *d = c.dev[e.dev]
    if d.encap.timer != NULL:
        d.encap.timer(d.encap_state, c.now)
