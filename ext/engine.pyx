"""The forwarding core's border to Python: everything per packet is in the ``.pxd`` files beside it.

Types and sentences of the public names are in ``dataplane/_core.pyi``.
"""

from collections import namedtuple

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from ext.border.dump cimport ct_dict, dev_dict, fdb_list, fib_list, neigh_list, route_dict
from ext.border.devices cimport device_find, device_init, device_kind, device_mac, device_master, device_mtu, device_remove
from ext.border.far cimport far_describe, far_free, place_device, place_namespace, places_reserve
from ext.border.encap cimport codec_pop, codec_push, describe_fields, encap_new, option_list, protocol_list, push_info
from ext.border.outcomes cimport enumerate_outcomes
from ext.border.pins cimport pin_add, pin_complaints
from ext.border.reasons cimport reason_list, reason_places, registry_add, registry_find, registry_names, registry_open
from ext.border.records cimport packets_held, take_deliveries, take_drops, take_events, take_frames
from ext.border.rules cimport table_build, use_book
from ext.border.sysctl cimport conf_defaults, sys_defaults, sysctl_read, sysctl_write
from ext.border.tables cimport address_add, address_remove, conntrack_remove, device_free, namespace_free, proxy_add, proxy_remove, route_add, route_remove
from ext.devices.core cimport *
from ext.encap.abi cimport dataplane_encap, dataplane_encap_pop, dataplane_encap_push
from ext.stages.defragment cimport DEFRAGMENT_TIMEOUT, queue_drop
from ext.stages.defragment_ipv6 cimport expired6
from ext.stages.far cimport far_enter, far_leave
from ext.stages.icmp cimport icmp_send, ICMP_TIME_EXCEEDED, EXCEEDED_REASSEMBLY, local_packet
from ext.stages.icmpv6 cimport local_packet6
from ext.stages.neighbour cimport neigh_due, neigh_release_queue
from ext.stages.receive cimport ether_classify, frame_least, ip_classify
from ext.stages.route cimport route_input, route_output, trace_route_out, route_source, ROUTE_OUTPUT_FAILED
from ext.stages.route_ipv6 cimport route_output6, route_source6, trace_route_out6
from ext.stages.run cimport is_lower, run_lower, run_upper
from ext.stages.transmit cimport TRANSMIT_NESTED_TOO_DEEP
from ext.stages.tunnel_host cimport tunnel_due, TIMER_REST
from ext.stages.verdict cimport DEPTH_MAX, DROPS_END, ST_LOCAL_OUT, ST_RECEIVE, ST_TRANSMIT
from ext.tables.conntrack cimport Ct, ct_expire_all, ct_flush, ct_table_init
from ext.tables.fdb cimport FdbEntry, FDB_LOCAL, FDB_STATIC, fdb_delete, fdb_set
from ext.tables.fib cimport fib_init, fib_device_state, fib_lookup, FibResult, RT_LOCAL
from ext.tables.fragments cimport FRAG_FIRST_IN, FRAG_USER_LOCAL, FragQueue
from ext.tables.htab cimport htab_free_all, htab_insert, htab_remove
from ext.tables.neighbour cimport Neigh, NUD_PERMANENT, NUD_STALE, neigh_find, neigh_get
from ext.tables.rules cimport HOOK_OUTPUT, HOOK_PREROUTING, RuleTable, M_CTSTATE, TABLE_NAT, rules_free
from ext.wire.ether cimport ETH_HLEN, ETH_TYPE, ETHERTYPE_IPV6, VLAN_HLEN, ethertype_is_vlan
from ext.wire.bytes cimport ld16
from ext.wire.hash cimport hash_bytes
from ext.wire.ipv4 cimport IPV4_DST, IPV4_HLEN, IPV4_SRC
from ext.wire.ipv6 cimport IPV6_DST, IPV6_HLEN, IPV6_SRC
from ext.wire.packet cimport Pkt, pkt_l3, pkt_new, PF_IGNORE_DF

Frame = namedtuple("Frame", "time device outgoing packet data order")
Drop = namedtuple("Drop", "time namespace device packet reason data origin order")
Event = namedtuple("Event", "time namespace device packet stage what detail origin data order")
DropReason = namedtuple("DropReason", "name sentence linux")
Delivery = namedtuple("Delivery", "time namespace socket packet data")
Chain = namedtuple("Chain", "name policy rules")
EncapOption = namedtuple("EncapOption", "key sentence default")
Popped = namedtuple("Popped", "inner_protocol inner id reason")
Outcome = namedtuple("Outcome", "probability verdict dnat mark origins")

CT_INVALID = 1
CT_ESTABLISHED = 2
CT_RELATED = 4
CT_NEW = 8
CT_SNAT = 1 << 6
CT_DNAT = 1 << 7
CT_UNTRACKED = 1 << 8
ADDR_UNICAST = 1 << 1
ADDR_LOCAL = 1 << 2
ADDR_BROADCAST = 1 << 3
ADDR_MULTICAST = 1 << 5
ADDR_BLACKHOLE = 1 << 6
ADDR_UNREACHABLE = 1 << 7
ADDR_PROHIBIT = 1 << 8

_capsules = []  # keeps the registered encapsulations' modules alive


def register_encap(capsule):
    if registry_add(registry_open(capsule)):
        _capsules.append(capsule)


def encapsulations():
    return registry_names()


def encap_sentence(str kind):
    return registry_find(kind).sentence.decode()


def encap_options(str kind):
    return [EncapOption(*row) for row in option_list(registry_find(kind))]


def encap_protocols(str kind):
    return protocol_list(registry_find(kind))


def encap_describe(str kind, int ip_protocol, bytes payload):
    return describe_fields(registry_find(kind), ip_protocol, payload)


def drop_reasons():
    return reason_list(DropReason)


cdef void core_run(Core *c, Pkt *p, int stage) noexcept nogil:
    """Carry a packet to its end: from stage to stage until one is done with it or drops it."""
    cdef EventRecord *ev
    c.depth += 1
    if c.depth > DEPTH_MAX and stage > 0:
        stage = -TRANSMIT_NESTED_TOO_DEEP
    while stage > 0:
        stage = run_lower(c, p, stage) if is_lower(stage) else run_upper(c, p, stage)
    if stage < 0:
        ev = log_event(c, p, b"drop", b"drop", c.drop_origin)
        if ev != NULL:
            ev.detail[0] = 0
            memcpy(ev.detail + 4, &stage, sizeof(int))  # the reason's number; events() writes its name
        log_drop(c, p, -stage)
        pkt_free(c, p)
    c.depth -= 1


cdef void fragments_due(Core *c, Due *e) noexcept nogil:
    """A datagram was not completed in time; of IPv4 only its final destination says so (ip_expire())."""
    cdef Ns *ns = c.ns[e.dev]
    cdef FragQueue *q = ns.frags.first
    cdef Pkt *p
    while q != NULL and (q != <FragQueue *>e.queue or q.expires != e.time):
        q = q.next
    if q == NULL:
        return
    if q.flags & FRAG_FIRST_IN and q.key.family == 6:
        expired6(c, q)
    elif q.flags & FRAG_FIRST_IN:
        p = q.frag[0].p
        p.dst.valid = False
        if route_input(c, p, pkt_l3(p) + IPV4_DST, pkt_l3(p) + IPV4_SRC, p.dev) == 0 and p.dst.error == 0:
            if q.key.user == FRAG_USER_LOCAL or p.dst.type == RT_LOCAL:
                icmp_send(c, p, ICMP_TIME_EXCEEDED, EXCEEDED_REASSEMBLY, 0)
    queue_drop(c, ns, q, NULL, DEFRAGMENT_TIMEOUT)


cdef int route_sent(Core *c, Pkt *p) noexcept nogil:
    """Route and source address of an application's packet: the next stage or a drop."""
    cdef uint8_t saddr[16]
    cdef int alen = 16 if p.protocol == ETHERTYPE_IPV6 else 4, error
    cdef uint8_t *source = pkt_l3(p) + (IPV6_SRC if alen == 16 else IPV4_SRC)
    memset(saddr, 0, 16)
    memcpy(saddr, source, alen)
    if alen == 16:
        p.flags |= PF_IGNORE_DF
        error = route_output6(c, pkt_ns(c, p), pkt_l3(p) + IPV6_DST, saddr, -1, &p.dst)
    else:
        error = route_output(c, pkt_ns(c, p), pkt_l3(p) + IPV4_DST, saddr, False, &p.dst)
    if error:
        if alen == 4:
            trace_route_out(c, p)
        else:
            trace_route_out6(c, p)
        return -ROUTE_OUTPUT_FAILED
    memcpy(source, saddr, alen)
    return ST_LOCAL_OUT


cdef void event_happens(Core *c, Due *e) noexcept nogil:
    cdef Neigh *n
    cdef Dev *d
    cdef int dev = e.dev
    if e.kind == EV_RECEIVE:
        if c.dev[dev] == NULL:
            far_enter(c, dev)
            core_run(c, e.p, ST_RECEIVE)
            far_leave(c, dev)
        else:
            core_run(c, e.p, ST_RECEIVE)
    elif e.kind == EV_TRANSMIT:
        core_run(c, e.p, ST_TRANSMIT)
    elif e.kind == EV_SEND:
        core_run(c, e.p, route_sent(c, e.p))
    elif e.kind == EV_STAGE:
        core_run(c, e.p, e.dev)
    elif e.kind == EV_NEIGH:
        d = c.dev[e.dev]
        n = neigh_find(&d.neigh, e.addr, e.alen)
        if n != NULL:
            neigh_due(c, d, n)
    elif e.kind == EV_FRAG:
        fragments_due(c, e)
    elif e.kind == EV_TUNNEL:
        tunnel_due(c, e)


class EncapDrop(ValueError):
    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


cdef class Codec:
    cdef const dataplane_encap *encap
    cdef void *state

    def __cinit__(self, str kind, options=None):
        self.encap = registry_find(kind)
        self.state = encap_new(self.encap, dict(options or {}), NULL)

    def __dealloc__(self):
        if self.state != NULL:
            self.encap.destroy(self.state)

    @property
    def ethernet(self):
        return bool(self.encap.ethernet)

    @property
    def port(self):
        return self.encap.port(self.state)

    def overhead(self, int family):
        if family not in (4, 6):
            raise ValueError("a family is 4 or 6")
        return self.encap.overhead(self.state, family)

    def push(self, bytes inner, int inner_protocol, bytes local, bytes remote, *, uint32_t flow_hash=0, int64_t id=-1, int64_t now=0,
             uint16_t ip_id=0, uint8_t default_ttl=64, uint16_t headroom=512, uint16_t tailroom=128):
        cdef dataplane_encap_push info
        push_info(&info, inner, inner_protocol, local, remote)
        info.flow_hash = flow_hash
        info.id = id
        info.now = now
        packet = codec_push(self.encap, self.state, &info, inner, headroom, tailroom, ip_id, default_ttl)
        if isinstance(packet, str):
            raise EncapDrop(packet)
        return packet or b""

    def pop(self, bytes packet, *, bytes device_mac=bytes(6), int64_t now=0):
        cdef dataplane_encap_pop info
        if len(device_mac) != 6:
            raise ValueError("a MAC has 6 bytes")
        memset(&info, 0, sizeof(info))
        memcpy(info.device_mac, <const char *>device_mac, 6)
        info.now = now
        return Popped(*codec_pop(self.encap, self.state, packet, &info))


cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030D0000
    #define interpreter_ends() Py_IsFinalizing()
    #else
    #define interpreter_ends() _Py_IsFinalizing()
    #endif
    """
    bint interpreter_ends()


cdef void supply_place(Core *c, int dev) noexcept nogil:
    with gil:
        (<Engine>c.engine).supply_now(-1, dev)


cdef class Engine:
    cdef Core c
    cdef dict recent_lists  # per namespace: name of a ``recent`` list -> number
    cdef dict open_sockets  # id -> address of its struct
    cdef object book_failure  # what the source of a book raised
    cdef dict books  # (namespace, family, table) -> its RuleBook
    cdef object supplier
    cdef object supply_error

    def __cinit__(self, seed=0):
        memset(&self.c, 0, sizeof(Core))
        self.c.seed = seed & 0xffffffffffffffff
        self.c.run = core_run
        self.c.supply = supply_place
        self.c.engine = <void *>self
        self.c.drop_count = <uint64_t *>calloc(DROPS_END, sizeof(uint64_t))
        self.recent_lists = {}
        self.books = {}
        self.open_sockets = {}
        if self.c.drop_count == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        while self.c.n_heap:
            self.c.n_heap -= 1
            if self.c.heap[self.c.n_heap].p != NULL:
                pkt_free(&self.c, self.c.heap[self.c.n_heap].p)
        for i in range(self.c.n_ns):
            if self.c.ns[i] != NULL:
                namespace_free(&self.c, self.c.ns[i])
        for i in range(self.c.n_dev):
            if i < self.c.n_reserved:
                far_free(self.c.far_of[i])
            if self.c.dev[i] == NULL:
                continue
            if interpreter_ends():
                self.c.dev[i].encap = NULL  # what a plug-in of Python made may be gone already: the process' end frees its state
            device_free(self.c.dev[i])
        free(self.c.far_of)
        free(self.c.uncaptured)
        free(self.c.heap)
        free(self.c.ns)
        free(self.c.dev)
        htab_free_all(&self.c.sockets)
        free(self.c.drop_count)
        free(self.c.bytes.mem)
        free(self.c.frames.mem)
        free(self.c.drops.mem)
        free(self.c.events.mem)
        free(self.c.deliveries.mem)

    @property
    def now(self):
        return self.c.now

    cdef Ns *ns_at(self, int ns) except NULL:
        if not 0 <= ns < self.c.n_ns:
            raise ValueError(f"no namespace {ns}")
        if self.c.ns[ns] == NULL:
            self.supply_now(ns, -1)
            self.check_supply()
            if self.c.ns[ns] == NULL:
                raise ValueError(f"namespace {ns} is not there")
        return self.c.ns[ns]

    cdef Dev *dev_at(self, int dev) except NULL:
        if not 0 <= dev < self.c.n_dev:
            raise ValueError(f"no device {dev}")
        if self.c.dev[dev] == NULL:
            self.supply_now(-1, dev)
            self.check_supply()
            if self.c.dev[dev] == NULL:
                raise ValueError(f"device {dev} is not there")
        return self.c.dev[dev]

    # ---- what is described and not made

    def reserve(self, int namespaces, int devices):
        places_reserve(&self.c, namespaces, devices)

    def places(self):
        return self.c.n_ns, self.c.n_dev

    def supply_with(self, supplier):
        self.supplier = supplier

    def describe_far(self, int dev, int peer, int ns, *, bytes mac, int mtu, list addresses, bint always=False, latency=0):
        far_describe(&self.c, self.dev_at(dev), peer, ns, mac, mtu, addresses, always, latency)

    def stand_in(self, int dev):
        self.c.stand_in = self.dev_at(dev)
        self.c.stand_in_ns = self.c.ns[self.c.stand_in.ns]

    def is_made(self, int ns):
        return 0 <= ns < self.c.n_ns and self.c.ns[ns] != NULL

    cdef int supply_now(self, int ns, int dev) noexcept:
        """Let the supplier make what is described; its exception is raised by ``check_supply``."""
        if self.supplier is None or self.supply_error is not None:
            return 0
        try:
            self.supplier(ns, dev)
        except BaseException as error:
            self.supply_error = error
            self.c.supply_failed = True
        return 0

    cdef int check_supply(self) except -1:
        error = self.supply_error
        if error is None and self.book_failure is not None:
            error = self.book_failure()
        if error is not None:
            self.supply_error = None
            self.c.supply_failed = False
            raise error
        return 0

    # ---- namespaces and devices

    def add_namespace(self, str name, *, int number=-1, int lo=-1):
        cdef Ns *ns = <Ns *>calloc(1, sizeof(Ns))
        cdef bytes raw = name.encode()
        if ns == NULL:
            raise MemoryError
        ns.id = place_namespace(&self.c, number)
        memcpy(ns.name, <const char *>raw, min(len(raw), NAME_MAX_LEN - 1))
        ns.name_hash = hash_bytes(1, raw, <int>len(raw))
        if not fib_init(&ns.fib4, 32) or not fib_init(&ns.fib6, 128):
            raise MemoryError
        ct_table_init(&ns.ct)
        for key, value in conf_defaults().items():
            ns.conf_default[<int>key] = value
            ns.conf_all[<int>key] = value
        for key, value in sys_defaults().items():
            ns.sys[<int>key] = value
        ns.icmp_last = -1000000000
        self.c.ns[ns.id] = ns
        if ns.id == self.c.n_ns:
            self.c.n_ns += 1
        ns.lo = -1
        ns.lo = self.add_device(ns.id, "lo", "lo", mac=bytes(6), mtu=65536, number=lo)
        self.add_address(ns.lo, bytes([127, 0, 0, 1]), 8)
        self.add_address(ns.lo, bytes([0] * 15 + [1]), 128)
        return ns.id

    def add_device(self, int ns, str name, str kind, /, *, bytes mac, int mtu, bint up=True, int number=-1, **params):
        cdef Ns *n = self.ns_at(ns)
        cdef Dev *d
        cdef int *devs
        cdef bytes raw = name.encode()
        if not 0 < len(raw) < IFNAME_LEN:
            raise ValueError(f"device name {name!r} must have 1 to 15 bytes")
        if len(mac) != 6 or not 0 < mtu <= 65536:
            raise ValueError(f"{name}: a MAC has 6 bytes and an MTU is 1 to 65536")
        if self.find_device(ns, name) >= 0:
            raise ValueError(f"{n.name.decode()} has a device {name} already")
        d = <Dev *>calloc(1, sizeof(Dev))
        devs = <int *>realloc(n.devs, (n.n_devs + 1) * sizeof(int))
        if d == NULL or devs == NULL:
            raise MemoryError
        n.devs = devs
        device_init(&self.c, d, ns, raw, mac, mtu, up)
        try:
            d.id = place_device(&self.c, number)
            device_kind(&self.c, d, kind, params)
        except BaseException:
            free(d)
            raise
        d.capture = d.id >= self.c.n_reserved or not self.c.uncaptured[d.id]
        self.c.dev[d.id] = d
        if d.id == self.c.n_dev:
            self.c.n_dev += 1
        n.devs[n.n_devs] = d.id
        n.n_devs += 1
        if d.kind == DEV_BRIDGE:
            fdb_set(&d.fdb, d.mac, -1, FDB_LOCAL | FDB_STATIC, 0)
        return d.id

    def del_device(self, int dev):
        device_remove(&self.c, self.dev_at(dev))

    def find_device(self, int ns, str name):
        return device_find(&self.c, self.ns_at(ns), name)

    def connect(self, int a, int b, *, latency=0):
        if self.dev_at(a).kind != DEV_VETH or self.dev_at(b).kind != DEV_VETH:
            raise ValueError("only veth devices have a peer")
        self.c.dev[a].peer = b
        self.c.dev[b].peer = a
        self.c.dev[a].latency = self.c.dev[b].latency = latency

    def set_device(self, int dev, *, up=None, mtu=None, mac=None, master=None, hairpin=None, learning=None, capture=None,
                   filters_too_big=None, unfinished_checksums=None, wire=None):
        cdef Dev *d
        cdef Ns *ns
        if capture is not None and 0 <= dev < self.c.n_reserved and self.c.dev[dev] == NULL:
            self.c.uncaptured[dev] = not capture  # which is no reason to make it
            if up is mtu is mac is master is hairpin is learning is filters_too_big is unfinished_checksums is wire is None:
                return
        d = self.dev_at(dev)
        ns = self.c.ns[d.ns]
        if up is not None:
            d.up = bool(up)
            fib_device_state(&ns.fib4, d.id, d.up)
            fib_device_state(&ns.fib6, d.id, d.up)
        if mtu is not None:
            device_mtu(&self.c, d, mtu)
        if mac is not None:
            device_mac(&self.c, d, mac)
        if master is not None:
            device_master(&self.c, d, master)
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

    # ---- sysctls

    def set_sysctl(self, int ns, str name, int value):
        sysctl_write(&self.c, self.ns_at(ns), name, value)

    def get_sysctl(self, int ns, str name):
        return sysctl_read(&self.c, self.ns_at(ns), name)

    # ---- addresses and tables

    def add_address(self, int dev, bytes address, int prefix_len, *, broadcast=None, int origin=0):
        address_add(&self.c, self.dev_at(dev), address, prefix_len, broadcast, origin)

    def del_address(self, int dev, bytes address, int prefix_len):
        address_remove(&self.c, self.dev_at(dev), address, prefix_len)

    def add_route(self, int ns, bytes prefix, int prefix_len, *, str kind="unicast", via=None, int dev=-1, bint onlink=False, metric=0,
                  src=None, mtu=0, bint mtu_lock=False, int scope=-1, bint replace=False, int origin=0):
        route_add(&self.c, self.ns_at(ns), prefix, prefix_len, kind, via, dev, onlink, metric, src, mtu, mtu_lock, scope, replace, origin)

    def del_route(self, int ns, bytes prefix, int prefix_len, *, kind=None, via=None, int dev=-1, int metric=-1):
        return route_remove(self.ns_at(ns), prefix, prefix_len, kind, via, dev, metric)

    def add_neighbour(self, int dev, bytes address, bytes mac, *, bint permanent=True, int origin=0):
        cdef Dev *d = self.dev_at(dev)
        cdef Neigh *n
        if len(address) not in (4, 16) or len(mac) != 6:
            raise ValueError("an address has 4 or 16 bytes, a MAC 6")
        n = neigh_get(&d.neigh, address, <int>len(address))
        if n == NULL:
            raise ValueError(f"the neighbour table of {d.name.decode()} is full, or memory is out")
        memcpy(n.mac, <const char *>mac, 6)
        n.state = NUD_PERMANENT if permanent else NUD_STALE
        n.updated = self.c.now
        n.origin = origin
        if n.queue != NULL:
            neigh_release_queue(&self.c, d, n)

    def del_neighbour(self, int dev, bytes address):
        cdef Dev *d = self.dev_at(dev)
        cdef Neigh *n = neigh_find(&d.neigh, address, <int>len(address))
        cdef Pkt *p
        if n == NULL:
            return False
        while n.queue != NULL:
            p = n.queue
            n.queue = p.next
            pkt_consume(&self.c, p)
        htab_remove(&d.neigh.tab, &n.node)
        free(n)
        return True

    def add_proxy(self, int dev, bytes address, *, int origin=0):
        proxy_add(self.dev_at(dev), address, origin)

    def del_proxy(self, int dev, bytes address):
        return proxy_remove(self.dev_at(dev), address)

    def add_fdb(self, int dev, bytes mac, *, bint local=False, bint static=True, dst=None, int origin=0):
        cdef Dev *d = self.dev_at(dev)
        cdef FdbEntry *e
        cdef Dev *owner = d
        if len(mac) != 6:
            raise ValueError("a MAC has 6 bytes")
        if d.kind != DEV_TUNNEL and d.kind != DEV_BRIDGE:
            if d.master < 0:
                raise ValueError(f"{d.name.decode()} is no bridge port and no tunnel: it has no FDB")
            owner = self.c.dev[d.master]
        e = fdb_set(&owner.fdb, mac, -1 if d.kind == DEV_BRIDGE else d.id, (FDB_LOCAL if local else 0) | (FDB_STATIC if static or local else 0),
                    self.c.now)
        if e == NULL:
            raise MemoryError
        e.origin = origin
        if dst is not None:
            e.dst_family = 4 if len(dst) == 4 else 6
            memcpy(e.dst, <const char *>(<bytes>dst), len(dst))

    def del_fdb(self, int dev, bytes mac):
        cdef Dev *d = self.dev_at(dev)
        if d.kind != DEV_TUNNEL and d.kind != DEV_BRIDGE and d.master >= 0:
            d = self.c.dev[d.master]
        return fdb_delete(&d.fdb, mac)

    def set_rules(self, int ns, int family, str table, chains):
        cdef Ns *n = self.ns_at(ns)
        cdef RuleTable fresh
        cdef int k = {"raw": 0, "mangle": 1, "nat": 2, "filter": 3}[table], i
        memset(&fresh, 0, sizeof(RuleTable))
        try:
            table_build(&fresh, chains, self.recent_lists.setdefault(ns, {}))
        except BaseException:
            rules_free(&fresh)
            raise
        rules_free(&n.rules[family == 6][k])
        n.rules[family == 6][k] = fresh
        self.books.pop((ns, family, table), None)
        n.rules_on = True
        if k == TABLE_NAT:
            n.conntrack = True
        for i in range(fresh.n_rules):
            if fresh.rule[i].match & M_CTSTATE:
                n.conntrack = True

    def use_book(self, int ns, int family, str table, book, bytes local=b""):
        use_book(self.ns_at(ns), family, table, book.table(), local)
        self.books[ns, family, table] = book
        self.book_failure = book.take_failure

    def add_pin(self, int ns, int proto, tuple orig, tuple reply):
        pin_add(self.ns_at(ns), proto, orig, reply)

    def pin_failures(self):
        return pin_complaints(&self.c)

    def flush(self, int ns, str what):
        cdef Ns *n = self.ns_at(ns)
        cdef int i
        if what == "conntrack":
            ct_flush(&n.ct)
        elif what == "neighbours":
            for i in range(n.n_devs):
                for row in neigh_list(self.c.dev[n.devs[i]]):
                    if row["state"] not in ("permanent", "noarp"):
                        self.del_neighbour(n.devs[i], row["address"])
        elif what == "exceptions":
            htab_free_all(&n.pmtu)
            htab_free_all(&n.peers)
        elif what == "recent":
            htab_free_all(&n.recent)
        else:
            raise ValueError(f"nothing called {what!r} can be flushed")

    def lookup_route(self, int ns, bytes dst, *, src=None, int iif=-1):
        """Through the packet path's table, by the rules of output routing."""
        cdef Ns *n = self.ns_at(ns)
        cdef int alen = <int>len(dst)
        cdef FibResult res = fib_lookup(ns_fib(n, alen), dst, -1)
        cdef uint8_t addr[16]
        if res.route == NULL:
            return {"kind": "unreachable", "dev": -1, "via": None, "src": None, "mtu": 0, "origin": 0}
        row = route_dict(res.route, alen)
        memset(addr, 0, 16)
        if alen == 4 and res.error == 0 and row["src"] is None:
            if res.route.type == RT_LOCAL:
                row["src"] = dst
            elif route_source(&self.c, n, res.route, addr):
                row["src"] = <bytes>(<char *>addr)[:4]
        elif alen == 16 and res.error == 0 and row["src"] is None and route_source6(&self.c, n, res.route, <const uint8_t *>(<char *>dst), addr):
            row["src"] = <bytes>(<char *>addr)[:16]
        if row["mtu"] == 0 and res.route.dev >= 0:
            row["mtu"] = self.c.dev[res.route.dev].mtu
        return row

    def outcomes(self, int ns, int family, str hook, bytes packet, *, int iif=-1):
        cdef Ns *n = self.ns_at(ns)
        return enumerate_outcomes(&self.c, n, family, {"prerouting": HOOK_PREROUTING, "output": HOOK_OUTPUT}[hook], packet, n.lo if iif < 0 else iif,
                                  Outcome)

    # ---- what tables hold

    def devices(self, int ns):
        cdef Ns *n = self.ns_at(ns)
        return [dev_dict(self.c.dev[n.devs[i]]) for i in range(n.n_devs)]

    def routes(self, int ns):
        return fib_list(&self.ns_at(ns).fib4, 4) + fib_list(&self.ns_at(ns).fib6, 16)

    def neighbours(self, int ns):
        cdef Ns *n = self.ns_at(ns)
        return [row for i in range(n.n_devs) for row in neigh_list(self.c.dev[n.devs[i]])]

    def fdb(self, int ns):
        cdef Ns *n = self.ns_at(ns)
        return [row for i in range(n.n_devs) for row in fdb_list(self.c.dev[n.devs[i]])]

    def conntrack(self, int ns):
        cdef Ns *n = self.ns_at(ns)
        cdef Ct *ct
        ct_expire_all(&n.ct, self.c.now)
        rows = []
        ct = n.ct.first
        while ct != NULL:
            rows.append(ct_dict(ct, self.c.now))
            ct = ct.next
        return rows

    def del_conntrack(self, int ns, int proto, dict orig):
        return conntrack_remove(self.ns_at(ns), proto, orig)

    # ---- traffic

    cdef Pkt *frame_packet(self, Dev *d, bytes frame) except NULL:
        cdef Pkt *p = pkt_new(<uint32_t>len(frame))
        if p == NULL:
            raise MemoryError
        memcpy(p.buf + p.l2, <const char *>frame, len(frame))
        p.end = p.l2 + <uint32_t>len(frame)
        p.dev = d.id
        self.c.next_packet += 1
        p.id = self.c.next_packet
        self.c.count.received += 1
        if carries_frames(d):
            ether_classify(p, d)
        else:
            ip_classify(p)
        return p

    cdef int64_t when(self, object at) except -1:
        cdef int64_t time = self.c.now if at is None else at
        if time < self.c.now:
            raise ValueError(f"time {time} lies before now ({self.c.now})")
        return time

    def inject(self, int dev, bytes frame, *, at=None):
        cdef Dev *d = self.dev_at(dev)
        cdef uint32_t least = frame_least(d), most = d.mtu + (ETH_HLEN if carries_frames(d) else 0)
        cdef Pkt *p
        cdef uint32_t packet
        if carries_frames(d) and len(frame) >= ETH_HLEN and ethertype_is_vlan(ld16(<const uint8_t *>(<const char *>frame) + ETH_TYPE)):
            most += VLAN_HLEN
        if not least <= len(frame) <= most:
            return -1
        when = self.when(at)
        p = self.frame_packet(d, frame)
        packet = p.id
        event_packet(&self.c, when, EV_TRANSMIT, dev, p)
        return packet

    def receive(self, int dev, bytes frame, *, at=None):
        cdef Dev *d = self.dev_at(dev)
        cdef Pkt *p
        cdef uint32_t packet
        if len(frame) < frame_least(d):
            raise ValueError(f"{d.name.decode()} receives at least {frame_least(d)} bytes")
        when = self.when(at)
        p = self.frame_packet(d, frame)
        packet = p.id
        event_packet(&self.c, when, EV_RECEIVE, dev, p)
        return packet

    def send(self, int ns, bytes packet, *, at=None, int socket=-1):
        cdef Ns *n = self.ns_at(ns)
        cdef Pkt *p
        cdef uint32_t number
        cdef int version = packet[0] >> 4 if packet else 0
        if version == 6:
            if not IPV6_HLEN <= len(packet) <= IPV6_HLEN + 65535:
                raise ValueError("not an IPv6 packet")
        elif not IPV4_HLEN <= len(packet) <= 65535 or version != 4 or not IPV4_HLEN <= (packet[0] & 15) * 4 <= len(packet):
            raise ValueError("neither an IPv4 nor an IPv6 packet")
        when = self.when(at)
        p = local_packet6(&self.c, n, <uint32_t>len(packet)) if version == 6 else local_packet(&self.c, n, <uint32_t>len(packet))
        if p == NULL:
            raise MemoryError
        memcpy(p.buf + p.l3, <const char *>packet, len(packet))
        p.end = p.l3 + <uint32_t>len(packet)
        p.unfinished = True
        number = p.id
        event_packet(&self.c, when, EV_SEND, ns, p)
        return number

    def open_socket(self, int ns, int proto, int port, address=None):
        cdef Socket *s
        if not 0 <= ns < self.c.n_ns:
            raise ValueError(f"no namespace {ns}")
        s = <Socket *>calloc(1, sizeof(Socket))
        if s == NULL:
            raise MemoryError
        s.id = self.c.n_sockets
        s.ns = ns
        s.proto = proto
        s.port = port
        if address is not None:
            s.alen = len(address)
            memcpy(s.addr, <const char *>(<bytes>address), s.alen)
        if not htab_insert(&self.c.sockets, &s.node, socket_hash(ns, proto, port)):
            free(s)
            raise MemoryError
        self.open_sockets[s.id] = <size_t>s
        self.c.n_sockets += 1
        return s.id

    def close_socket(self, int socket):
        cdef size_t place = self.open_sockets.pop(socket, 0)
        if place:
            htab_remove(&self.c.sockets, &(<Socket *>place).node)
            free(<Socket *>place)

    def run(self, until=None):
        cdef int64_t limit = 0x7fffffffffffffff if until is None else until
        cdef Due e
        cdef bint forever = until is None
        with nogil:
            while self.c.n_heap and self.c.n_deliveries == 0 and self.c.heap[0].time <= limit and not self.c.supply_failed:
                if forever and self.only_housekeeping():
                    break
                e = event_pop(&self.c)
                self.c.now = e.time
                event_happens(&self.c, &e)
        self.check_supply()
        if self.c.out_of_memory:
            self.c.out_of_memory = False
            raise MemoryError
        if self.c.n_deliveries:
            return True
        if not forever and limit > self.c.now:
            self.c.now = limit
        return False

    cdef bint only_housekeeping(self) noexcept nogil:
        """Is nothing left but timers that would go on for ever, or that only tidy up?"""
        cdef int i
        for i in range(self.c.n_heap):
            if self.c.heap[i].kind not in (EV_NEIGH, EV_FRAG, EV_TUNNEL):
                return False
            if self.c.heap[i].kind == EV_NEIGH and self.neighbour_awaited(&self.c.heap[i]):
                return False
            if self.c.heap[i].kind == EV_TUNNEL and self.c.heap[i].time <= self.c.now + TIMER_REST:
                return False  # a message that only waits for the packet in hand
        return True

    cdef bint neighbour_awaited(self, const Due *e) noexcept nogil:
        cdef Neigh *n = neigh_find(&self.c.dev[e.dev].neigh, e.addr, e.alen)
        return n != NULL and n.queue != NULL

    def deliveries(self):
        return take_deliveries(&self.c, Delivery)

    def frames(self):
        return take_frames(&self.c, Frame)

    def drops(self):
        return take_drops(&self.c, Drop, reason_places())

    def trace(self, bint on):
        self.c.tracing = on

    def events(self):
        return take_events(&self.c, Event, drop_reasons(), reason_places())

    def counters(self):
        cdef Counters *n = &self.c.count
        rows = {"in": n.received, "generated": n.generated, "copies": n.copies, "fragments_made": n.fragments_made, "out": n.out,
                "dropped": n.dropped, "consumed": n.consumed, "fragments_merged": n.fragments_merged, "held": packets_held(&self.c),
                "rules_walked": n.rules_walked}
        places = reason_places()
        for r, reason in zip(places, drop_reasons()):
            if self.c.drop_count[<int>r]:
                rows[f"drop/{reason.name}"] = self.c.drop_count[<int>r]
        return rows

