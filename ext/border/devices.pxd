# Making devices: their kind, their MAC, the bridge they belong to.

from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, strcmp
from ext.border.encap cimport encap_new, option_list
from ext.border.reasons cimport registry_find
from ext.border.tables cimport address_remove
from ext.devices.core cimport *
from ext.stages.tunnel_host cimport host_init
from ext.tables.conntrack cimport ct_first, ct_kill, ct_next
from ext.tables.ct_entry cimport Ct
from ext.tables.fdb cimport FDB_LOCAL, FDB_STATIC, fdb_delete, fdb_forget_port, fdb_set
from ext.tables.fib cimport Fib, fib_device_state, fib_remove
from ext.tables.htab cimport HNode, htab_free_all, htab_step
from ext.tables.neighbour cimport Neigh
from ext.wire.packet cimport Pkt


cdef enum:
    ETHERNET_MTU = 1500


cdef inline int device_find(Core *c, Ns *ns, str name) except -2:
    """-1: the namespace has no device of this name."""
    cdef int i
    cdef bytes raw = name.encode()
    for i in range(ns.n_devs):
        if strcmp(c.dev[ns.devs[i]].name, raw) == 0:
            return ns.devs[i]
    return -1


cdef inline int device_init(Core *c, Dev *d, int ns, bytes name, bytes mac, int mtu, bint up) except -1:
    """Everything but its kind: up and learning, with the namespace's default settings."""
    cdef int i
    d.ns = ns
    memcpy(d.name, <const char *>name, len(name))
    memcpy(d.mac, <const char *>mac, 6)
    d.mtu = mtu
    d.mtu_given = mtu != ETHERNET_MTU
    d.up = up
    d.capture = d.learning = True
    d.peer = d.master = d.tunnel_lower = -1
    d.fdb.ageing = <int64_t>300 * 1000000000
    for i in range(CONF_COUNT):
        d.conf[i] = c.ns[ns].conf_default[i]
    return 0


cdef inline int device_kind(Core *c, Dev *d, str kind, dict params) except -1:
    """lo, veth, bridge, or a registered encapsulation with its options. ValueError: none of them."""
    kinds = {"lo": DEV_LO, "veth": DEV_VETH, "bridge": DEV_BRIDGE}
    if kind in kinds:
        if params:
            raise ValueError(f"{kind} devices take no parameter {', '.join(params)}")
        d.kind = kinds[kind]
        return 0
    return device_tunnel(c, d, kind, params)


cdef inline uint8_t tunnel_end(dict params, str key, uint8_t *to) except 255:
    """One end's address among the parameters: its family, 0 if it is not given."""
    cdef bytes address = params.pop(key, None)
    if address is None:
        return 0
    if len(address) not in (4, 16):
        raise ValueError(f"{key} is an address of 4 or 16 bytes")
    memcpy(to, <const char *>address, len(address))
    return 4 if len(address) == 4 else 6


cdef inline int device_tunnel(Core *c, Dev *d, str kind, dict params) except -1:
    """A device of a registered encapsulation; what the core does not know of ``params`` is for the plug-in."""
    cdef Ns *ns = c.ns[d.ns]
    cdef int *tunnels
    d.encap = registry_find(kind)
    d.kind = DEV_TUNNEL
    d.tunnel_lower = params.pop("dev", -1)
    d.tunnel_family = tunnel_end(params, "local", d.tunnel_local)
    d.tunnel_remote_family = tunnel_end(params, "remote", d.tunnel_remote)
    tunnels = <int *>realloc(ns.tunnels, (ns.n_tunnels + 1) * sizeof(int))
    if tunnels == NULL:
        raise MemoryError
    ns.tunnels = tunnels
    host_init(c, d, &d.host)
    if "mtu" in [row[0] for row in option_list(d.encap)]:
        params["mtu"] = d.mtu
    d.encap_state = encap_new(d.encap, params, &d.host)
    ns.tunnels[ns.n_tunnels] = d.id
    ns.n_tunnels += 1
    return 0


cdef inline int device_mac(Core *c, Dev *d, bytes mac) except -1:
    """A new MAC, in the bridge's FDB too."""
    cdef Dev *owner = d if d.kind == DEV_BRIDGE else (c.dev[d.master] if d.master >= 0 else NULL)
    if len(mac) != 6:
        raise ValueError("a MAC has 6 bytes")
    if owner != NULL:
        fdb_delete(&owner.fdb, d.mac)
    memcpy(d.mac, <const char *>mac, 6)
    if owner != NULL:
        fdb_set(&owner.fdb, d.mac, -1 if d.kind == DEV_BRIDGE else d.id, FDB_LOCAL | FDB_STATIC, 0)
    return 0


cdef inline int device_mtu(Core *c, Dev *d, int mtu) except -1:
    """A bridge whose MTU nobody has set follows its smallest port (br_mtu_auto_adjust())."""
    cdef Dev *br
    cdef int i
    d.mtu = mtu
    d.mtu_given = True
    if d.master < 0 or c.dev[d.master].mtu_given:
        return 0
    br = c.dev[d.master]
    br.mtu = d.mtu
    for i in range(br.n_ports):
        if c.dev[br.ports[i]].mtu < br.mtu:
            br.mtu = c.dev[br.ports[i]].mtu
    return 0


cdef inline int device_master(Core *c, Dev *d, int master) except -1:
    """Make the device a port of bridge ``master``; -1: of none."""
    cdef Dev *br
    cdef int *ports
    cdef int i, k = 0
    if d.master >= 0:
        br = c.dev[d.master]
        fdb_forget_port(&br.fdb, d.id)
        for i in range(br.n_ports):
            if br.ports[i] != d.id:
                br.ports[k] = br.ports[i]
                k += 1
        br.n_ports = k
        d.master = -1
    if master < 0:
        return 0
    if master >= c.n_dev:
        raise ValueError(f"no device {master}")
    br = c.dev[master]
    if not carries_frames(d):
        raise ValueError(f"{d.name.decode()} carries no Ethernet frames: it cannot be a bridge port")
    if br.kind != DEV_BRIDGE or br.ns != d.ns:
        raise ValueError(f"{br.name.decode()} is no bridge of the device's namespace")
    ports = <int *>realloc(br.ports, (br.n_ports + 1) * sizeof(int))
    if ports == NULL:
        raise MemoryError
    br.ports = ports
    # the kernel adds ports at the head of its list and floods in that order
    for i in range(br.n_ports, 0, -1):
        br.ports[i] = br.ports[i - 1]
    br.ports[0] = d.id
    br.n_ports += 1
    d.master = master
    fdb_set(&br.fdb, d.mac, d.id, FDB_LOCAL | FDB_STATIC, 0)
    return 0


cdef inline int device_settings(Core *c, Dev *d, object up, object mtu, object mac, object master, object hairpin, object learning, object capture,
                                object filters_too_big, object unfinished_checksums, object wire) except -1:
    """None: leave it as it is."""
    cdef Ns *ns = c.ns[d.ns]
    if up is not None:
        d.up = bool(up)
        fib_device_state(&ns.fib4, d.id, d.up)
        fib_device_state(&ns.fib6, d.id, d.up)
    if mtu is not None:
        device_mtu(c, d, mtu)
    if mac is not None:
        device_mac(c, d, mac)
    if master is not None:
        device_master(c, d, master)
    if hairpin is not None:
        d.hairpin = bool(hairpin)
    if learning is not None:
        d.learning = bool(learning)
    if capture is not None:
        d.capture = bool(capture)
    if filters_too_big is not None:
        d.filters_too_big = bool(filters_too_big)
    if unfinished_checksums is not None:
        d.unfinished_checksums = bool(unfinished_checksums)
    if wire is not None:
        d.wire = bool(wire)
    return 0


cdef inline void routes_through(Fib *f, int dev) noexcept nogil:
    """Remove them: their device is gone (fib_sync_down_dev() and what follows)."""
    cdef int i
    for i in range(f.n):
        if f.route[i].type and f.route[i].dev == dev:
            fib_remove(f, i)


cdef inline int device_remove(Core *c, Dev *d) except -1:
    """Take a veth device out of its namespace, with its routes, neighbours and FDB entries; its peer goes without.

    What is on its way to it still finds it, and finds it down.
    """
    cdef Ns *ns = c.ns[d.ns]
    cdef HNode *node
    cdef Pkt *p
    cdef int i, k = 0
    if d.kind != DEV_VETH:
        raise ValueError(f"{d.name.decode()} is no veth device: only those can go")
    device_master(c, d, -1)
    d.up = False
    while d.n_addr:
        address_remove(c, d, <bytes>(<char *>d.addr[0].addr)[:4 if d.addr[0].family == 4 else 16], d.addr[0].plen)
    routes_through(&ns.fib4, d.id)
    routes_through(&ns.fib6, d.id)
    node = htab_step(&d.neigh.tab, NULL)
    while node != NULL:
        while (<Neigh *>node).queue != NULL:
            p = (<Neigh *>node).queue
            (<Neigh *>node).queue = p.next
            pkt_consume(c, p)
        node = htab_step(&d.neigh.tab, node)
    htab_free_all(&d.neigh.tab)
    htab_free_all(&d.proxies.tab)
    if d.peer >= 0 and c.dev[d.peer] != NULL:
        c.dev[d.peer].peer = -1
        c.dev[d.peer].up = False  # veth_close(): no carrier
    d.peer = -1
    for i in range(ns.n_devs):
        if ns.devs[i] != d.id:
            ns.devs[k] = ns.devs[i]
            c.dev[ns.devs[k]].place = <uint16_t>k
            k += 1
        else:
            masquerade_gone(ns, i)
    ns.n_devs = k
    return 0


cdef inline void masquerade_gone(Ns *ns, int place) noexcept nogil:
    """Connections that had their source address from the device at this place end (masq_device_event()); later devices move up."""
    cdef Ct *ct = ct_first(&ns.ct)
    cdef Ct *after
    while ct != NULL:
        after = ct_next(&ns.ct, ct)
        if ct.masq_dev == place + 1:
            ct_kill(&ns.ct, ct)
        elif ct.masq_dev > place + 1:
            ct.masq_dev -= 1
        ct = after
