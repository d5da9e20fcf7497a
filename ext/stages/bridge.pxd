# The bridge: net/bridge/br_input.c, br_forward.c, br_device.c. No STP, no multicast snooping, no VLAN filter.

from libc.stdint cimport uint8_t
from ext.devices.core cimport Core, Dev, EventRecord, log_frame, log_event, pkt_clone, DETAIL_LEN
from ext.devices.record cimport STEP_FDB, STEP_LEARN, rec_is_on, rec_note, rec_refuse
from ext.stages.bridge_netfilter cimport BRNF_TAKEN, brnf_prerouting, brnf_forward, brnf_postrouting, brnf_local_in, brnf_slow_return
from ext.stages.receive cimport receive_protocol
from ext.stages.transmit cimport frame_fits
from ext.stages.verdict cimport ST_DONE, ST_BRIDGE_UP, ST_BRIDGE_PORT, ST_TRANSMIT, DROPS_BRIDGE
from ext.tables.fdb cimport FdbEntry, fdb_find, fdb_lookup, fdb_learn, FDB_LOCAL
from ext.wire.bytes cimport rarely
from ext.wire.ether cimport ETH_HLEN, ETH_DST, ETH_SRC, mac_equal, mac_is_multicast, mac_is_zero, mac_is_link_local_group
from ext.wire.packet cimport Pkt, TO_HOST, BRNF_BRIDGED_DNAT, DST_FAKE, pkt_l2
from libc.stdio cimport snprintf

cdef enum:
    BRIDGE_INVALID_SOURCE_MAC = DROPS_BRIDGE
    BRIDGE_PAUSE_FRAME
    BRIDGE_SAME_PORT
    BRIDGE_NO_PORT
    BRIDGE_OVER_MTU
    BRIDGE_PORT_GONE


cdef inline const char *bridge_reason(int r) noexcept nogil:
    if r == BRIDGE_INVALID_SOURCE_MAC:
        return b"bridge/invalid_source_mac\tThe source MAC is zero or a group address\tMAC_INVALID_SOURCE"
    if r == BRIDGE_PAUSE_FRAME:
        return b"bridge/pause_frame\tA bridge never forwards 01:80:c2:00:00:01\t"
    if r == BRIDGE_SAME_PORT:
        return b"bridge/same_port\tThe destination is behind the port that the frame came in by, and the port's hairpin mode is off\t"
    if r == BRIDGE_NO_PORT:
        return b"bridge/no_port\tNo port is left to send the frame to\t"
    if r == BRIDGE_OVER_MTU:
        return b"bridge/over_mtu\tThe frame is longer than the outgoing port's MTU allows\tPKT_TOO_BIG"
    if r == BRIDGE_PORT_GONE:
        return b"bridge/port_gone\tThe port that the frame came in by is down, or the bridge's no longer\t"
    return NULL


cdef inline int stage_bridge_in(Core *c, Pkt *p) noexcept nogil:
    """br_handle_frame(): a frame received on a bridge port."""
    cdef Dev *port = c.dev[p.dev]
    cdef uint8_t *eth = pkt_l2(p)
    if mac_is_multicast(eth + ETH_SRC) or mac_is_zero(eth + ETH_SRC):
        return -BRIDGE_INVALID_SOURCE_MAC
    if mac_is_link_local_group(eth + ETH_DST) and eth[5] != 0:
        if eth[5] == 1:
            return -BRIDGE_PAUSE_FRAME
        # the other groups of IEEE 802.1D are for this station alone
        if port.learning:
            c.moves += fdb_learn(&c.dev[port.master].fdb, eth + ETH_SRC, port.id, c.now)
        rec_refuse(&c.rec)
        return receive_protocol(c, p)
    if mac_equal(eth + ETH_DST, c.dev[port.master].mac):
        p.pkt_type = TO_HOST
    return brnf_prerouting(c, p)


cdef inline int stage_bridge_forward(Core *c, Pkt *p) noexcept nogil:
    """br_handle_frame_finish(): learn the source, look the destination up. ``p.dev``: the port."""
    cdef Dev *port = c.dev[p.dev]
    cdef Dev *br
    cdef uint8_t *eth = pkt_l2(p)
    cdef FdbEntry *e
    cdef Pkt *q
    if rarely(port.master < 0 or not port.up):
        return -BRIDGE_PORT_GONE  # while the frame waited for the MAC address of whom it was translated to
    br = c.dev[port.master]
    if port.learning:
        c.moves += fdb_learn(&br.fdb, eth + ETH_SRC, port.id, c.now)
        note_learned(c, br, p)
    p.from_bridge = False
    if mac_is_multicast(eth + ETH_DST):
        q = flood_clone(c, p)
        if q != NULL:
            bridge_flood(c, br, q)
        return ST_BRIDGE_UP
    e = fdb_lookup(&br.fdb, eth + ETH_DST, c.now)
    trace_fdb(c, p, e)
    if e == NULL:
        bridge_flood(c, br, p)
        return ST_DONE
    rec_note(&c.rec, p, STEP_FDB, e, br.id, 0)
    if e.flags & FDB_LOCAL:
        return ST_BRIDGE_UP
    return bridge_to_port(c, p, e.port)


cdef inline void note_learned(Core *c, Dev *br, Pkt *p) noexcept nogil:
    """Tell the flow cache which entry a frame refreshes."""
    cdef FdbEntry *e
    if rec_is_on(&c.rec, p):
        e = fdb_find(&br.fdb, pkt_l2(p) + ETH_SRC)
        if e == NULL:
            rec_refuse(&c.rec)
        else:
            rec_note(&c.rec, p, STEP_LEARN, e, 0, e.flags & FDB_LOCAL)


cdef inline void trace_fdb(Core *c, Pkt *p, const FdbEntry *e) noexcept nogil:
    cdef EventRecord *ev
    cdef uint8_t *d = pkt_l2(p) + ETH_DST
    cdef const char *where = b"unknown: flooded"
    if not rarely(c.tracing):
        return
    ev = log_event(c, p, b"bridge", b"fdb", e.origin if e != NULL else 0)
    if ev == NULL:
        return
    if e != NULL:
        where = b"the bridge itself"
        if e.port >= 0 and not e.flags & FDB_LOCAL:
            where = c.dev[e.port].name
    snprintf(ev.detail, DETAIL_LEN, b"%02x:%02x:%02x:%02x:%02x:%02x -> %s", d[0], d[1], d[2], d[3], d[4], d[5], where)


cdef inline bint bridge_delivers(const Dev *port, const Pkt *p) noexcept nogil:
    """should_deliver(): not back out of the port it came in by, unless in hairpin mode."""
    return port.up and (p.from_bridge or port.hairpin or port.id != p.dev)


cdef inline int bridge_to_port(Core *c, Pkt *p, int port) noexcept nogil:
    if port < 0 or not bridge_delivers(c.dev[port], p):
        return -BRIDGE_SAME_PORT
    p.to_port = port
    return ST_BRIDGE_PORT


cdef inline Pkt *flood_clone(Core *c, const Pkt *p) noexcept nogil:
    """A copy that shares its bytes in Linux (deliver_clone()), where shared bytes are not cut as they were (skb_cloned())."""
    cdef Pkt *q = pkt_clone(c, p)
    if q != NULL:
        q.n_frags = 0
    return q


cdef inline void bridge_flood(Core *c, Dev *br, Pkt *p) noexcept nogil:
    """br_flood(): a copy to each port, the last one takes the frame itself. Ports in the order they joined."""
    cdef int i, last = -1
    cdef Pkt *q
    rec_refuse(&c.rec)
    for i in range(br.n_ports):
        if not bridge_delivers(c.dev[br.ports[i]], p):
            continue
        if last >= 0:
            q = flood_clone(c, p)
            if q != NULL:
                q.to_port = last
                c.run(c, q, ST_BRIDGE_PORT)
        last = br.ports[i]
    if last < 0:
        c.run(c, p, -BRIDGE_NO_PORT)
        return
    p.to_port = last
    c.run(c, p, ST_BRIDGE_PORT)


cdef inline int stage_bridge_port(Core *c, Pkt *p) noexcept nogil:
    """__br_forward(): bridge netfilter's forward and postrouting, then out of the port."""
    cdef int v
    cdef int came_by = p.dev
    p.dev = p.to_port
    if not p.from_bridge:
        v = brnf_forward(c, p, came_by)
        if v:
            return v
    v = brnf_postrouting(c, p)
    if v:
        return ST_DONE if v == BRNF_TAKEN else v
    return stage_bridge_push(c, p)


cdef inline int stage_bridge_push(Core *c, Pkt *p) noexcept nogil:
    """br_dev_queue_push_xmit()."""
    if not frame_fits(c.dev[p.dev], p):
        return -BRIDGE_OVER_MTU
    p.dst.valid = p.dst.valid and not p.dst.flags & DST_FAKE
    return ST_TRANSMIT


cdef inline int stage_bridge_up(Core *c, Pkt *p) noexcept nogil:
    """br_pass_frame_up(): the frame is for the bridge device's own stack."""
    cdef int v
    cdef Dev *br = c.dev[c.dev[p.dev].master]
    v = brnf_local_in(c, p)
    if v:
        return v
    if p.dst.flags & DST_FAKE:
        p.dst.valid = False
        p.dst.flags = 0
    p.dev = br.id
    log_frame(c, br, p, False)
    return receive_protocol(c, p)


cdef inline int stage_bridge_xmit(Core *c, Pkt *p) noexcept nogil:
    """br_dev_xmit(): the bridge device itself sends. ``p.dev``: the bridge."""
    cdef Dev *br = c.dev[p.dev]
    cdef FdbEntry *e
    cdef uint8_t *eth = pkt_l2(p)
    if p.brnf & BRNF_BRIDGED_DNAT:
        return brnf_slow_return(c, p)
    p.from_bridge = True
    p.l3 = p.l2 + ETH_HLEN
    if mac_is_multicast(eth + ETH_DST):
        bridge_flood(c, br, p)
        return ST_DONE
    e = fdb_lookup(&br.fdb, eth + ETH_DST, c.now)
    trace_fdb(c, p, e)
    if e == NULL:
        bridge_flood(c, br, p)
        return ST_DONE
    rec_note(&c.rec, p, STEP_FDB, e, br.id, 0)
    return bridge_to_port(c, p, -1 if e.flags & FDB_LOCAL else e.port)
