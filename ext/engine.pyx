"""The forwarding core's border to Python: everything per packet is in the ``.pxd`` files beside it.

Types and sentences of the public names are in ``dataplane/_core.pyi``.
"""

from collections import namedtuple

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport INT64_MAX, uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from ext.border.answers cimport cache_dict, route_answer
from ext.border.batch cimport Batch, batch_carry, batch_close, batch_missing, batch_open, batch_window
from ext.border.dump cimport ct_dict, dev_dict, fdb_list, fib_list, neigh_list
from ext.border.devices cimport device_find, device_init, device_kind, device_remove, device_settings
from ext.border.far cimport far_describe, far_free, place_device, place_namespace, places_reserve
from ext.border.encap cimport codec_pop, codec_push, describe_fields, encap_new, option_list, protocol_list, push_info
from ext.border.exchange cimport records_exchange
from ext.border.outcomes cimport enumerate_outcomes
from ext.border.pins cimport pin_add, pin_complaints
from ext.border.reasons cimport reason_list, reason_places, registry_add, registry_find, registry_names, registry_open
from ext.border.records cimport packets_held, take_deliveries, take_drops, take_events, take_frames
from ext.border.rules cimport table_build, table_speaks, table_tracks, use_book
from ext.border.sysctl cimport namespace_defaults, sysctl_read, sysctl_write
from ext.border.tables cimport address_add, address_remove, conntrack_remove, device_free, namespace_free, proxy_add, proxy_remove, route_add, route_remove
from ext.devices.core cimport *
from ext.devices.queue cimport Due, Timer, queue_free, queue_init, queue_number, queue_waiting
from ext.encap.abi cimport dataplane_encap, dataplane_encap_pop, dataplane_encap_push
from ext.fast.flows cimport FlowCache, cache_new
from ext.fast.megaflow cimport cache_gone
from ext.fast.part cimport Window
from ext.fast.windows cimport WINDOW_MOST, window_free, window_nears
from ext.stages.events cimport core_run, events_until, frame_begins, frame_packet, frame_refused
from ext.stages.far cimport stand_in_is
from ext.stages.icmp cimport local_packet
from ext.stages.icmpv6 cimport local_packet6
from ext.stages.neighbour cimport neigh_release_queue
from ext.stages.onward_rests cimport onward_rests
from ext.stages.receive cimport frame_least
from ext.stages.stage_clock cimport clock_start, stage_name
from ext.stages.tunnel_host cimport TIMER_REST
from ext.stages.verdict cimport DROPS_END
from ext.tables.conntrack cimport Ct, ct_expire_all, ct_first, ct_flush, ct_next, ct_table_init
from ext.tables.fdb cimport FdbEntry, FDB_LOCAL, FDB_STATIC, fdb_delete, fdb_set
from ext.tables.fib cimport fib_init
from ext.tables.htab cimport htab_free_all, htab_insert, htab_remove
from ext.tables.neighbour cimport Neigh, NUD_PERMANENT, NUD_STALE, neigh_find, neigh_get
from ext.tables.rules cimport HOOK_OUTPUT, HOOK_PREROUTING, RuleTable, rules_free
from ext.wire.hash cimport hash_bytes
from ext.wire.ipv4 cimport IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN
from ext.wire.packet cimport Pkt, pkt_pool_free

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

recent_lists = {}  # numbers by name; a list is a namespace's own all the same

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


def drop_reason_numbers():
    return reason_places()


cdef class Records:
    cdef Store store
    cdef int readers

    def __dealloc__(self):
        free(self.store.mem)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.store.mem if self.store.mem != NULL else <void *>self, self.store.n, True, flags)
        self.readers += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.readers -= 1

    def __len__(self):
        return self.store.n


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


cdef void supply_place(Core *c, int dev) noexcept with gil:
    (<Engine>c.engine).supply_now(-1, dev)


cdef class Engine:
    cdef Core c
    cdef dict open_sockets  # id -> address of its struct
    cdef object book_failure  # what the source of a book raised
    cdef dict books  # (namespace, family, table) -> its RuleBook
    cdef object supplier
    cdef object supply_error
    cdef Window *window  # where several threads carry

    def __cinit__(self, seed=0, *, bint slow_path_only=False):
        memset(&self.c, 0, sizeof(Core))
        queue_init(&self.c.queue)
        self.c.seed = seed & 0xffffffffffffffff
        self.c.run = core_run
        if not slow_path_only:
            self.c.fast = cache_new(self.c.seed)
            if self.c.fast == NULL:
                raise MemoryError
        self.c.supply = supply_place
        self.c.engine = <void *>self
        self.c.drop_count = <uint64_t *>calloc(DROPS_END, sizeof(uint64_t))
        self.books = {}
        self.open_sockets = {}
        if self.c.drop_count == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        cdef Timer waiting
        onward_rests(&self.c)
        while event_take(&self.c, INT64_MAX, &waiting):
            if waiting.due.p != NULL:
                pkt_free(&self.c, waiting.due.p)
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
        window_free(self.window)
        pkt_pool_free(&self.c.pool)
        cache_gone(<FlowCache *>self.c.fast)
        free(self.c.far_of)
        free(self.c.uncaptured)
        queue_free(&self.c.queue)
        free(self.c.ns)
        free(self.c.dev)
        htab_free_all(&self.c.sockets)
        free(self.c.drop_count)
        free(self.c.bytes.mem)
        free(self.c.changes.mem)
        free(self.c.frames.mem)
        free(self.c.drops.mem)
        free(self.c.events.mem)
        free(self.c.deliveries.mem)

    @property
    def now(self):
        return self.c.now

    cdef Ns *ns_at(self, int ns) except NULL:
        onward_rests(&self.c)
        if not 0 <= ns < self.c.n_ns:
            raise ValueError(f"no namespace {ns}")
        if self.c.ns[ns] == NULL:
            self.supply_now(ns, -1)
            self.check_supply()
            if self.c.ns[ns] == NULL:
                raise ValueError(f"namespace {ns} is not there")
        return self.c.ns[ns]

    cdef Dev *dev_at(self, int dev) except NULL:
        onward_rests(&self.c)
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
        stand_in_is(&self.c, self.dev_at(dev))

    def is_made(self, int ns):
        return 0 <= ns < self.c.n_ns and self.c.ns[ns] != NULL

    cdef int supply_now(self, int ns, int dev) noexcept:
        """Let the supplier make what is described; its exception is raised by ``check_supply``."""
        try:
            if self.supplier is not None and self.supply_error is None:
                self.supplier(ns, dev)
        except BaseException as error:
            self.supply_error = error
            self.c.supply_failed = True
        return 0

    cdef int check_supply(self) except -1:
        error = self.supply_error or (self.book_failure() if self.book_failure is not None else None)
        if error is not None:
            self.supply_error = None
            self.c.supply_failed = False
            raise error
        return 0

    # ---- namespaces and devices

    def add_namespace(self, str name, *, int number=-1, int lo=-1):
        onward_rests(&self.c)
        self.c.generation += 1
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
        namespace_defaults(ns)
        self.c.ns[ns.id] = ns
        if ns.id == self.c.n_ns:
            self.c.n_ns += 1
        ns.lo = -1
        ns.lo = self.add_device(ns.id, "lo", "lo", mac=bytes(6), mtu=65536, number=lo)
        self.add_address(ns.lo, bytes([127, 0, 0, 1]), 8)
        self.add_address(ns.lo, bytes([0] * 15 + [1]), 128)
        return ns.id

    def add_device(self, int ns, str name, str kind, /, *, bytes mac, int mtu, bint up=True, int number=-1, **params):
        self.c.generation += 1
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
        if n.n_devs >= DEVICES_MAX:
            raise ValueError(f"{n.name.decode()} takes no more than {DEVICES_MAX} devices")
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
        d.place = <uint16_t>n.n_devs
        if d.id == self.c.n_dev:
            self.c.n_dev += 1
        n.devs[n.n_devs] = d.id
        n.n_devs += 1
        if d.kind == DEV_BRIDGE:
            fdb_set(&d.fdb, d.mac, -1, FDB_LOCAL | FDB_STATIC, 0)
        return d.id

    def del_device(self, int dev):
        self.c.generation += 1
        device_remove(&self.c, self.dev_at(dev))

    def find_device(self, int ns, str name):
        return device_find(&self.c, self.ns_at(ns), name)

    def connect(self, int a, int b, *, latency=0):
        self.c.generation += 1
        if self.dev_at(a).kind != DEV_VETH or self.dev_at(b).kind != DEV_VETH:
            raise ValueError("only veth devices have a peer")
        self.c.dev[a].peer = b
        self.c.dev[b].peer = a
        self.c.dev[a].latency = self.c.dev[b].latency = latency

    def disconnect(self, int dev):
        self.c.generation += 1
        self.dev_at(dev).peer = -1

    def set_device(self, int dev, *, up=None, mtu=None, mac=None, master=None, hairpin=None, learning=None, capture=None,
                   filters_too_big=None, unfinished_checksums=None, wire=None):
        if capture is not None and 0 <= dev < self.c.n_reserved and self.c.dev[dev] == NULL:
            self.c.uncaptured[dev] = not capture  # which is no reason to make it
            if up is mtu is mac is master is hairpin is learning is filters_too_big is unfinished_checksums is wire is None:
                return
        self.c.generation += 1
        device_settings(&self.c, self.dev_at(dev), up, mtu, mac, master, hairpin, learning, capture, filters_too_big, unfinished_checksums, wire)

    # ---- sysctls

    def set_sysctl(self, int ns, str name, int value):
        self.c.generation += 1
        sysctl_write(&self.c, self.ns_at(ns), name, value)

    def get_sysctl(self, int ns, str name):
        return sysctl_read(&self.c, self.ns_at(ns), name)

    # ---- addresses and tables

    def add_address(self, int dev, bytes address, int prefix_len, *, broadcast=None, int origin=0):
        self.c.generation += 1
        address_add(&self.c, self.dev_at(dev), address, prefix_len, broadcast, origin)

    def del_address(self, int dev, bytes address, int prefix_len):
        self.c.generation += 1
        address_remove(&self.c, self.dev_at(dev), address, prefix_len)

    def add_route(self, int ns, bytes prefix, int prefix_len, *, str kind="unicast", via=None, int dev=-1, bint onlink=False, metric=0,
                  src=None, mtu=0, bint mtu_lock=False, int scope=-1, bint replace=False, int origin=0):
        self.c.generation += 1
        route_add(&self.c, self.ns_at(ns), prefix, prefix_len, kind, via, dev, onlink, metric, src, mtu, mtu_lock, scope, replace, origin)

    def del_route(self, int ns, bytes prefix, int prefix_len, *, kind=None, via=None, int dev=-1, int metric=-1):
        self.c.generation += 1
        return route_remove(self.ns_at(ns), prefix, prefix_len, kind, via, dev, metric)

    def add_neighbour(self, int dev, bytes address, bytes mac, *, bint permanent=True, int origin=0):
        self.c.generation += 1
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
        self.c.generation += 1
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
        self.c.generation += 1
        proxy_add(self.dev_at(dev), address, origin)

    def del_proxy(self, int dev, bytes address):
        self.c.generation += 1
        return proxy_remove(self.dev_at(dev), address)

    def add_fdb(self, int dev, bytes mac, *, bint local=False, bint static=True, dst=None, int origin=0):
        self.c.generation += 1
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
        self.c.generation += 1
        cdef Dev *d = self.dev_at(dev)
        if d.kind != DEV_TUNNEL and d.kind != DEV_BRIDGE and d.master >= 0:
            d = self.c.dev[d.master]
        return fdb_delete(&d.fdb, mac)

    def set_rules(self, int ns, int family, str table, chains):
        self.c.generation += 1
        cdef Ns *n = self.ns_at(ns)
        cdef RuleTable fresh
        cdef int k = {"raw": 0, "mangle": 1, "nat": 2, "filter": 3}[table]
        memset(&fresh, 0, sizeof(RuleTable))
        try:
            table_build(&fresh, chains, recent_lists, 16 if family == 6 else 4)
        except BaseException:
            rules_free(&fresh)
            raise
        rules_free(&n.rules[family == 6][k])
        n.rules[family == 6][k] = fresh
        table_speaks(n, family, k)
        self.books.pop((ns, family, table), None)
        table_tracks(n, family, k)

    def use_book(self, int ns, int family, str table, book, bytes local=b""):
        self.c.generation += 1
        key = ns, family, table
        self.books.setdefault(key, book)  # there is room for it: nothing can go wrong once the old book is let go
        use_book(self.ns_at(ns), family, table, book.table(), local)
        self.books[key] = book
        self.book_failure = book.take_failure

    def add_pin(self, int ns, int proto, tuple orig, tuple reply):
        pin_add(self.ns_at(ns), proto, orig, reply)

    def pin_failures(self):
        return pin_complaints(&self.c)

    def flush(self, int ns, str what):
        self.c.generation += 1
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
        return route_answer(&self.c, self.ns_at(ns), dst)

    def outcomes(self, int ns, int family, str hook, bytes packet, *, int iif=-1):
        cdef Ns *n = self.ns_at(ns)
        found = enumerate_outcomes(&self.c, n, family, {"prerouting": HOOK_PREROUTING, "output": HOOK_OUTPUT}[hook], packet, n.lo if iif < 0 else iif,
                                   Outcome)
        self.check_supply()
        return found

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
        ct = ct_first(&n.ct)
        while ct != NULL:
            rows.append(ct_dict(ct, self.c.now))
            ct = ct_next(&n.ct, ct)
        return rows

    def del_conntrack(self, int ns, int proto, dict orig):
        self.c.generation += 1
        return conntrack_remove(&self.c, self.ns_at(ns), proto, orig)

    # ---- traffic

    cdef int64_t when(self, object at) except -1:
        cdef int64_t time = self.c.now if at is None else at
        if time < self.c.now:
            raise ValueError(f"time {time} lies before now ({self.c.now})")
        return time

    def inject(self, int dev, bytes frame, *, at=None):
        cdef Dev *d = self.dev_at(dev)
        if frame_refused(d, <const uint8_t *>(<const char *>frame), len(frame)):
            return -1
        return self.queue_frame(d, frame, EV_TRANSMIT, at)

    cdef object queue_frame(self, Dev *d, bytes frame, int kind, object at):
        when = self.when(at)
        cdef Pkt *p = frame_packet(&self.c, d, <const uint8_t *>(<const char *>frame), <uint32_t>len(frame), frame_begins(&self.c))
        if p == NULL:
            raise MemoryError
        packet = p.id
        event_packet(&self.c, when, kind, d.id, p)
        return packet

    def carry(self, data, devs, starts, lengths, times, refused, *, int threads=1, int window=WINDOW_MOST):
        cdef Batch b
        cdef uint64_t taken
        cdef Window *several = batch_window(&self.c, &self.window, threads, window)
        try:
            batch_open(&b, data, devs, starts, lengths, times, refused)
            if several != NULL:
                window_nears(several, b.n)
            for dev in batch_missing(&b, &self.c):
                self.dev_at(dev)
            with nogil:
                taken = batch_carry(&self.c, several, &b)
        finally:
            batch_close(&b)
        self.check_supply()
        self.check_memory()
        return taken

    def receive(self, int dev, bytes frame, *, at=None):
        cdef Dev *d = self.dev_at(dev)
        if len(frame) < frame_least(d):
            raise ValueError(f"{d.name.decode()} receives at least {frame_least(d)} bytes")
        return self.queue_frame(d, frame, EV_RECEIVE, at)

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
        root_begin(&self.c)
        event_packet(&self.c, when, EV_SEND, ns, p)
        return number

    def open_socket(self, int ns, int proto, int port, address=None):
        cdef Socket *s
        if not 0 <= ns < self.c.n_ns:
            raise ValueError(f"no namespace {ns}")
        s = <Socket *>calloc(1, sizeof(Socket))
        if s == NULL:
            raise MemoryError
        onward_rests(&self.c)
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
        cdef bint forever = until is None
        cdef const Due *first
        with nogil:
            onward_rests(&self.c)
            first = event_first(&self.c)
            while first != NULL and self.c.n_deliveries == 0 and first.time <= limit and not self.c.supply_failed:
                if forever and self.only_housekeeping():
                    break
                events_until(&self.c, first.time if forever else limit)
                first = event_first(&self.c)
        self.check_supply()
        self.check_memory()
        if self.c.n_deliveries:
            return True
        if not forever and limit > self.c.now:
            self.c.now = limit
        return False

    cdef int check_memory(self) except -1:
        if self.c.out_of_memory:
            self.c.out_of_memory = False
            raise MemoryError
        return 0

    cdef bint only_housekeeping(self) noexcept nogil:
        """Is nothing left but timers that would go on for ever, or that only tidy up?"""
        cdef uint64_t i
        cdef const Due *e
        if self.c.queue.n_packets:
            return False
        for i in range(queue_waiting(&self.c.queue)):
            e = queue_number(&self.c.queue, i)
            if e.kind == EV_NEIGH and self.neighbour_awaited(<const Timer *>e):
                return False
            if e.kind == EV_TUNNEL and e.time <= self.c.now + TIMER_REST:
                return False  # a message that only waits for the packet in hand
        return True

    cdef bint neighbour_awaited(self, const Timer *t) noexcept nogil:
        cdef Neigh *n = neigh_find(&self.c.dev[t.due.dev].neigh, t.addr, t.alen)
        return n != NULL and n.queue != NULL

    def deliveries(self):
        return take_deliveries(&self.c, Delivery)

    def frames(self):
        return take_frames(&self.c, Frame)

    def drops(self):
        return take_drops(&self.c, Drop, reason_places())

    def exchange(self, Records frames not None, Records drops not None, Records data not None, Records changes=None):
        if frames is drops or drops is data or data is frames or changes is frames or changes is drops or changes is data:
            raise ValueError("frames, drops, data and changes must not be the same")
        if frames.readers or drops.readers or data.readers or (changes is not None and changes.readers):
            raise BufferError("records that are being read cannot be exchanged")
        if self.c.events.n:
            raise ValueError("steps of walks refer to the bytes: take events() before")
        records_exchange(&self.c, &frames.store, &drops.store, &data.store, NULL if changes is None else &changes.store)
        self.check_memory()

    def trace(self, bint on, *, bint changes=False):
        onward_rests(&self.c)
        self.c.generation += 1
        self.c.tracing = (TRACE_CHANGES if changes else TRACE_STEPS) if on else 0

    def profile(self, bint on):
        onward_rests(&self.c)
        if on:
            clock_start(&self.c.clock)
        self.c.clock.on = on

    def stage_times(self):
        cdef StageClock *clock = &self.c.clock
        cdef int i
        return {stage_name(i).decode(): (clock.visits[i], max(0.0, clock.ns[i] - clock.readings[i] * clock.cost))
                for i in range(CLOCKED_STAGES) if clock.visits[i]}

    def events(self):
        return take_events(&self.c, Event, drop_reasons(), reason_places())

    def flow_cache(self):
        onward_rests(&self.c)
        return cache_dict(<const FlowCache *>self.c.fast)

    def counters(self):
        cdef Counters *n = &self.c.count
        onward_rests(&self.c)
        rows = {"in": n.received, "generated": n.generated, "copies": n.copies, "fragments_made": n.fragments_made, "out": n.out,
                "dropped": n.dropped, "consumed": n.consumed, "fragments_merged": n.fragments_merged, "held": packets_held(&self.c),
                "rules_walked": n.rules_walked}
        places = reason_places()
        for r, reason in zip(places, drop_reasons()):
            if self.c.drop_count[<int>r]:
                rows[f"drop/{reason.name}"] = self.c.drop_count[<int>r]
        return rows

