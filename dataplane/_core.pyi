"""Types of the compiled forwarding core (``ext/``): namespaces, devices, tables and raw frames.

The core knows nothing of Kubernetes. Addresses cross this border as ``bytes`` in network byte order
(4 bytes: IPv4, 16 bytes: IPv6), MACs as 6 bytes, times as integer nanoseconds of virtual time, devices
and namespaces as the small integers that ``add_device`` and ``add_namespace`` returned.
``origin`` is an opaque integer that the caller chose (0: none): walks and tables hand it back, so that
a decision can name the manifest line it comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypedDict, type_check_only

from typing_extensions import Buffer, disjoint_base

from dataplane._rulebook import RuleBook

class Frame(NamedTuple):
    """One frame as a packet socket on one interface saw it."""

    time: int  # virtual nanoseconds
    device: int
    outgoing: bool  # True: dir "out", False: dir "in"
    packet: int  # the same id for one frame on all its hops
    data: bytes
    order: int  # of frames, drops and events among each other

class Drop(NamedTuple):
    """One dropped frame and why."""

    time: int
    namespace: int
    device: int  # -1: none
    packet: int
    reason: int  # index into drop_reasons()
    data: bytes  # the frame as it stood when it was dropped
    origin: int  # the rule or route that decided, 0: none
    order: int

class Event(NamedTuple):
    """One step of a walk; made only while tracing is on."""

    time: int
    namespace: int
    device: int
    packet: int
    stage: str  # stage name, the same word as its file in ext/stages
    what: str  # "route", "rule", "conntrack", "fdb", "neighbour", "dnat", "snat", "encap", "ttl", ...
    detail: str  # one readable line
    origin: int
    data: bytes  # L3 bytes or the frame after this step, where it changed; else b""
    order: int

class DropReason(NamedTuple):
    """One public drop reason: ``name`` is ``<stage>/<fact>`` and API."""

    name: str
    sentence: str
    linux: str  # SKB_DROP_REASON_* name without the prefix, or ""

class Delivery(NamedTuple):
    """One packet handed to an application socket."""

    time: int
    namespace: int
    socket: int
    packet: int
    data: bytes  # the IP packet

@type_check_only
class Match(TypedDict, total=False):
    """One rule of a netfilter chain. Absent key: not matched on. Keys ending in _not invert the match."""

    src: tuple[bytes, int]  # address, prefix length
    src_not: bool
    dst: tuple[bytes, int]
    dst_not: bool
    iif: str  # interface name, trailing + is a wildcard
    iif_not: bool
    oif: str
    oif_not: bool
    proto: int  # IP protocol number
    proto_not: bool
    sport: tuple[int, int]  # inclusive range
    sport_not: bool
    dport: tuple[int, int]
    dport_not: bool
    ctstate: int  # CT_* bits
    ctstate_not: bool
    src_type: int  # ADDR_* bits (addrtype)
    src_type_not: bool
    dst_type: int
    dst_type_not: bool
    mark: tuple[int, int]  # value, mask
    mark_not: bool
    probability: float  # statistic mode random
    recent: tuple[str, str, int, bool]  # "rcheck"|"update"|"set"|"remove", list name, seconds (0: any age), reap
    recent_not: bool
    icmp_type: tuple[int, int, int]  # type, lowest code, highest code
    tcp_flags: tuple[int, int]  # mask, wanted
    fragment: bool  # -f: second and later fragments
    # what happens then; exactly one of
    target: str  # ACCEPT DROP RETURN REJECT MARK DNAT SNAT MASQUERADE, a chain's name, or "" (count only)
    goto: bool
    reject_with: int  # ICMP code (type 3), or 256 for tcp-reset
    set_mark: tuple[int, int]  # value, mask: mark = (mark & ~mask) ^ value
    to: tuple[bytes, bytes, int, int]  # NAT: lowest address, highest address, lowest port, highest port (0: keep)
    random: bool  # --random or --random-fully
    persistent: bool
    comment: str
    origin: int

class Chain(NamedTuple):
    """A chain; ``policy`` is "ACCEPT" or "DROP" for a built-in one, "" for a user chain."""

    name: str
    policy: str
    rules: Sequence[Match]

class Outcome(NamedTuple):
    """One way that a random choice in the rules can go, with its probability."""

    probability: float
    verdict: str  # ACCEPT DROP REJECT
    dnat: tuple[bytes, int] | None  # new destination address and port
    mark: int
    origins: tuple[int, ...]  # of the rules that matched, in order

CT_INVALID: int
CT_NEW: int
CT_ESTABLISHED: int
CT_RELATED: int
CT_UNTRACKED: int
CT_SNAT: int
CT_DNAT: int
ADDR_UNICAST: int
ADDR_LOCAL: int
ADDR_BROADCAST: int
ADDR_MULTICAST: int
ADDR_BLACKHOLE: int
ADDR_UNREACHABLE: int
ADDR_PROHIBIT: int
recent_lists: dict[str, int]
"""Numbers by which rules name the lists of match ``recent``, for ``_rulebook.pack_rules``. Each namespace has lists of its own."""

def drop_reasons() -> list[DropReason]:
    """Those of the core, then those of each encapsulation once it is registered; ``Drop.reason`` is a place in this list."""

def drop_reason_numbers() -> list[int]:
    """The numbers that ``DropRecord`` has for the reasons of ``drop_reasons()``, in its order."""

@disjoint_base
class Records:
    """Memory that ``Engine.exchange`` filled: ``FrameRecord`` and ``DropRecord`` of ``ext/devices/core.pxd`` in a row, or the bytes that
    these refer to. A buffer that is only read."""

    def __init__(self) -> None: ...
    def __len__(self) -> int:
        """Bytes."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

def register_encap(capsule: object) -> None:
    """Make an encapsulation known to all engines: a PyCapsule named ``dataplane.encap.abi2`` with the struct of
    ``encap_abi.h``; the same one again changes nothing. ValueError: another ABI, an incomplete struct, a name that is
    taken, or too many."""

def encapsulations() -> list[str]:
    """Names of those registered, in the order in which they were."""

class EncapOption(NamedTuple):
    """One option of an encapsulation's devices, for people to read."""

    key: str
    sentence: str  # range and unit included
    default: str  # as a user would write it; "": it must be given

def encap_sentence(kind: str) -> str:
    """What a registered encapsulation is. ValueError: not registered."""

def encap_options(kind: str) -> list[EncapOption]:
    """The options its devices and codecs take. ValueError: not registered."""

def encap_protocols(kind: str) -> list[int]:
    """IP protocols that a received packet is recognised by. ValueError: not registered."""

def encap_describe(kind: str, ip_protocol: int, payload: bytes) -> tuple[list[tuple[str, str, int | bytes]], int] | None:
    """(layer, field, value) of the headers at the start of ``payload``, which follows an IP header that says ``ip_protocol``, and
    how many bytes they take: -1 if they are broken off, and then the fields are those found until there. None: the kind names
    no fields. ValueError: not registered."""

class EncapDrop(ValueError):
    """An encapsulation refuses to carry a packet."""

    reason: str  # as in DropReason.name
    def __init__(self, reason: str) -> None: ...

class Popped(NamedTuple):
    """What came out of an outer packet."""

    inner_protocol: int  # EtherType, 0x6558: an Ethernet frame; 0: nothing came out
    inner: bytes
    id: int  # identifier found in the header, -1: none
    reason: str | None  # of the drop, as in DropReason.name; None with inner_protocol 0: a message of the protocol's own

@disjoint_base
class Codec:
    """One encapsulation alone, encoding and decoding packets; its calls are checked by guard bytes. Not thread-safe."""

    def __new__(cls, kind: str, options: Mapping[str, int | bytes] | None = None) -> Self:
        """``kind``: registered; ``options``: as of a device. ValueError: an unknown kind, or an option it does not take."""
    @property
    def ethernet(self) -> bool:
        """Are inner packets Ethernet frames?"""
    @property
    def port(self) -> int:
        """UDP port that is listened on, 0: it is not carried in UDP."""
    def overhead(self, family: int) -> int:
        """Bytes that ``push`` adds over an underlay of family 4 or 6, the outer IP header included."""
    def push(self, inner: bytes, inner_protocol: int, local: bytes, remote: bytes, *, flow_hash: int = 0, id: int = -1, now: int = 0,
             ip_id: int = 0, default_ttl: int = 64, headroom: int = 512, tailroom: int = 128) -> bytes:
        """The outer IP packet from ``local`` to ``remote``, b"": the encapsulation keeps it to send it later. ``inner_protocol``:
        EtherType, 0x6558 for an Ethernet frame. ``id``: identifier instead of the configured one; ``ip_id``: identification of
        an outer IPv4 header; ``default_ttl``: where the options say none; ``headroom``, ``tailroom``: bytes that it may use.
        EncapDrop: it refuses. ValueError: addresses of two families, more than 65535 bytes, or it broke its contract."""
    def pop(self, packet: bytes, *, device_mac: bytes = ..., now: int = 0) -> Popped:
        """Take an outer IP packet apart. ValueError: the encapsulation broke its contract."""

@disjoint_base
class Engine:
    """All namespaces, the links between them and virtual time. Not thread-safe; independent engines are."""

    def __new__(cls, seed: int = 0, *, slow_path_only: bool = False) -> Self:
        """``seed``: its lowest 64 bits decide every choice that Linux would draw at random. ``slow_path_only``: every packet goes
        from stage to stage, none through the flow cache; what comes out is the same."""
    @property
    def now(self) -> int: ...
    # ---- what is described and not made: namespaces and devices with a number of their own that are made when something concerns them
    def reserve(self, namespaces: int, devices: int) -> None:
        """Make places for so many namespaces and devices that are described and not made. ValueError: there are more already."""
    def places(self) -> tuple[int, int]:
        """How many namespaces and devices there are, empty places included."""
    def supply_with(self, supplier: Callable[[int, int], None]) -> None:
        """Called with the number of a namespace or of a device (the other one is -1) that is not there and is needed: it makes it, with
        ``number``. Its exception leaves the call that needed it."""
    def describe_far(self, dev: int, peer: int, ns: int, *, mac: bytes, mtu: int, addresses: list[bytes], always: bool = False,
                     latency: int = 0) -> None:
        """Device ``peer`` of namespace ``ns``, which is not made, hangs on ``dev``: it is made once a frame concerns it, by its ``mac`` or
        one of its ``addresses`` (4 or 16 bytes), or by anything if ``always``. ``latency`` in ns."""
    def stand_in(self, dev: int) -> None:
        """The device that receives, in place of those that are not made, what does not concern them."""
    def is_made(self, ns: int) -> bool:
        """Is a namespace there, and not only described?"""
    # ---- namespaces and devices
    def add_namespace(self, name: str, *, number: int = -1, lo: int = -1) -> int:
        """A namespace with Linux' default sysctls and a device ``lo`` (127.0.0.1/8, up). ``number`` and ``lo``: reserved places for it and
        its ``lo``."""
    def add_device(self, ns: int, name: str, kind: str, /, *, mac: bytes, mtu: int, up: bool = True, number: Any = -1,
                   **params: int | bytes) -> int:
        """``kind``: veth, bridge, or a registered encapsulation. Its params: ``local`` and ``remote`` (addresses; without a
        remote end the FDB decides on an Ethernet device, on others the gateway of the route), ``dev`` (a device's number), and
        its own options, see ``encap_options``; ``number``: a reserved place (an int); one called ``mtu`` is given the device's.
        ValueError: a name in use, an
        unknown kind, or a parameter that the kind does not take."""
    def del_device(self, dev: int) -> None:
        """Take a veth device out of its namespace, with its addresses, routes, neighbours and FDB entries. What is on its way to it is
        dropped. ValueError: another kind."""
    def find_device(self, ns: int, name: str) -> int:
        """-1 if there is none."""
    def connect(self, a: int, b: int, *, latency: int = 0) -> None:
        """Make two veth devices each other's peer; ``latency`` in ns."""
    def disconnect(self, dev: int) -> None:
        """What ``dev`` sends goes nowhere from now on (counted ``out``); what its peer sends still reaches it."""
    def set_device(self, dev: int, *, up: bool | None = None, mtu: int | None = None, mac: bytes | None = None,
                   master: int | None = None, hairpin: bool | None = None, learning: bool | None = None,
                   capture: bool | None = None, filters_too_big: bool | None = None,
                   unfinished_checksums: bool | None = None, wire: bool | None = None) -> None:
        """``master``: the bridge device it becomes a port of, -1: none. ``capture``: frames are recorded (default True).
        ``filters_too_big``: drop ICMP "fragmentation needed" and ICMPv6 "packet too big" that it receives (default False).
        ``unfinished_checksums``: a tunnel device leaves TCP's and UDP's checksum inside as the sum of the pseudo header alone, for
        packets of ``send`` that have not reached a device of ``wire`` before (both default False)."""
    def set_sysctl(self, ns: int, name: str, value: int) -> None:
        """Full dotted name, device names as in sysctl(8) (``net.ipv4.conf.eth0.rp_filter``; a dot in a device's name is
        written /). KeyError: not one we know, or no such device."""
    def get_sysctl(self, ns: int, name: str) -> int: ...
    def add_address(self, dev: int, address: bytes, prefix_len: int, *, broadcast: bytes | None = None, origin: int = 0) -> None:
        """With the local, broadcast and connected routes that Linux adds."""
    def del_address(self, dev: int, address: bytes, prefix_len: int) -> None: ...
    # ---- tables
    def add_route(self, ns: int, prefix: bytes, prefix_len: int, *, kind: str = "unicast", via: bytes | None = None, dev: int = -1,
                  onlink: bool = False, metric: int = 0, src: bytes | None = None, mtu: int = 0, mtu_lock: bool = False,
                  scope: int = -1, replace: bool = False, origin: int = 0) -> None:
        """Main table. kind: unicast blackhole unreachable prohibit throw. ``mtu_lock``: no path MTU below it is learned or told.
        ValueError: exists, or gateway not reachable."""
    def del_route(self, ns: int, prefix: bytes, prefix_len: int, *, kind: str | None = None, via: bytes | None = None,
                  dev: int = -1, metric: int = -1) -> bool: ...
    def add_neighbour(self, dev: int, address: bytes, mac: bytes, *, permanent: bool = True, origin: int = 0) -> None: ...
    def del_neighbour(self, dev: int, address: bytes) -> bool: ...
    def add_proxy(self, dev: int, address: bytes, *, origin: int = 0) -> None:
        """Answer neighbour solicitations on ``dev`` for this IPv6 address (proxy_ndp on). ValueError: another family, or a full table."""
    def del_proxy(self, dev: int, address: bytes) -> bool: ...
    def add_fdb(self, dev: int, mac: bytes, *, local: bool = False, static: bool = True, dst: bytes | None = None,
                origin: int = 0) -> None:
        """``dev`` a bridge port (its bridge's FDB) or a tunnel with ``dst`` (the tunnel's FDB)."""
    def del_fdb(self, dev: int, mac: bytes) -> bool: ...
    def set_rules(self, ns: int, family: int, table: str, chains: Sequence[Chain]) -> None:
        """Replace table ``raw``, ``mangle``, ``nat`` or ``filter`` of family 4 or 6. ValueError: unknown chain, loop, or
        match without sense."""
    def use_book(self, ns: int, family: int, table: str, book: RuleBook, local: bytes = b"") -> None:
        """Like ``set_rules``, with rules that other namespaces have too; ``local``: those of the book's last chains (``local_rules``).
        Connections are tracked from now on. ValueError: another number of rules than these chains have, or a book without an index."""
    def add_pin(self, ns: int, proto: int, orig: tuple[bytes, int, bytes, int], reply: tuple[bytes, int, bytes, int]) -> None:
        """The next connection with this original tuple (src, sport, dst, dport) is translated so that its reply tuple is
        this one, if the rules allow it."""
    def pin_failures(self) -> list[str]:
        """Pins that the rules did not allow, or that no connection took up."""
    def flush(self, ns: int, what: str) -> None:
        """conntrack, neighbours (dynamic ones), exceptions (PMTU and redirects), recent."""
    def lookup_route(self, ns: int, dst: bytes, *, src: bytes | None = None, iif: int = -1) -> dict[str, Any]: ...
    def outcomes(self, ns: int, family: int, hook: str, packet: bytes, *, iif: int = -1) -> list[Outcome]:
        """Every way that the rules of ``family`` at prerouting or output (and the filter rules the packet meets then) can go for
        this IP packet; changes nothing. ValueError: the packet is of another family, or none."""
    # ---- what tables hold, as plain dicts in the order Linux prints them
    def devices(self, ns: int) -> list[dict[str, Any]]: ...
    def routes(self, ns: int) -> list[dict[str, Any]]: ...
    def neighbours(self, ns: int) -> list[dict[str, Any]]: ...
    def fdb(self, ns: int) -> list[dict[str, Any]]: ...
    def conntrack(self, ns: int) -> list[dict[str, Any]]:
        """family, proto, state (None: the protocol has none), assured, seen_reply, timeout (ns left), orig and reply: dicts of
        src, dst (bytes) and sport, dport (TCP, UDP, UDP-Lite, SCTP, DCCP) | type, code, id (ICMP) | srckey, dstkey (GRE);
        zone; mark."""
    def del_conntrack(self, ns: int, proto: int, orig: dict[str, Any]) -> bool:
        """Forget the connection with this original tuple, as ``conntrack`` shows it, of a protocol with ports. False: there is none.
        ValueError: addresses of another length, or of two families."""
    # ---- traffic
    def inject(self, dev: int, frame: bytes, *, at: int | None = None) -> int:
        """Hand a frame to the transmit queue of ``dev`` as a packet socket does; an IP packet on a device whose ``ethernet`` is
        False. Returns its packet id, or -1 when a packet socket would refuse it (under 14 bytes, over MTU + 14, +4 with a VLAN
        tag; an IP packet over the MTU). ValueError: ``at`` has passed."""
    def carry(
        self,
        data: Buffer,
        devs: Buffer,
        starts: Buffer,
        lengths: Buffer,
        times: Buffer,
        refused: Buffer,
        *,
        threads: int = 1,
        window: int = 4096,
    ) -> int:
        """As ``inject`` and ``run(until=its time)`` for one frame after the other, without Python between them: frame i is the
        ``lengths[i]`` bytes of ``data`` from ``starts[i]`` on, for device ``devs[i]`` at virtual nanosecond ``times[i]``, or now if
        that has passed. Buffers of native int32 (``devs``), uint64 (``starts``), uint32 (``lengths``) and int64 (``times``, whose
        length says how many frames there are). ``refused[i]`` (bytes, writable) becomes 1 where a packet socket would refuse the frame.
        Returns how many frames were taken: all, unless an application has something to receive before; the last one taken may then
        still have to be carried (``run(until=its time)``). ``threads`` (1 to 64): how many carry runs of frames that go the way of
        flows out of the world, with which nothing else happens; ``window`` (1 to 4096): frames that they take up together at most. Two
        threads with windows of 4096 carry what goes eight at a time as a pair (``ext/fast/pair``), without windows, and with ``window``
        0 they do nothing else, and wait for each other whatever it costs. None of that changes what comes of it. ValueError: a frame lies
        outside of the data, a device does not exist, a buffer is too short, threads or windows of no such size."""
    def receive(self, dev: int, frame: bytes, *, at: int | None = None) -> int:
        """Hand a frame to the receive path of ``dev``. Returns its packet id. ValueError: under 14 bytes, or ``at`` has passed."""
    def send(self, ns: int, packet: bytes, *, at: int | None = None, socket: int = -1) -> int:
        """An application of ``ns`` sends this IPv4 or IPv6 packet (output hooks, routing, fragments, ...); a source address of
        zero is filled in, and so is what the kernel writes: IPv4's length and checksum, IPv6's payload length. Returns its packet
        id. ValueError: it is neither, or ``at`` has passed."""
    def open_socket(self, ns: int, proto: int, port: int, address: bytes | None = None) -> int:
        """Deliver packets for this protocol and port (ICMP: id of echo replies; 0: any) to ``deliveries()``; they are not
        answered by the core."""
    def close_socket(self, socket: int) -> None: ...
    def run(self, until: int | None = None) -> bool:
        """Carry everything due up to and including ``until`` (None: until nothing is due but housekeeping). Stops early,
        returning True, when a delivery waits."""
    def deliveries(self) -> list[Delivery]: ...
    def frames(self) -> list[Frame]:
        """Frames captured since the last call, in order."""
    def drops(self) -> list[Drop]:
        """Drops since the last call, in order."""
    def exchange(self, frames: Records, drops: Records, data: Records, changes: Records | None = None) -> None:
        """As ``frames()`` and ``drops()`` without an object for each: what was recorded since the last call is in these afterwards, and
        what they held before is forgotten. ``changes``: those told since the last call that asked for them. BufferError: one of them is
        being read. ValueError: two are the same, or events wait."""
    def trace(self, on: bool, *, changes: bool = False) -> None:
        """Tell every step of walks as ``events()``; with ``changes`` those alone that change more than a TTL, for ``exchange``, which the
        flow cache can do too."""
    def profile(self, on: bool) -> None:
        """Measure how long packets spend in each stage from now on, by the machine's clock, all times beginning at zero; or stop."""
    def stage_times(self) -> dict[str, tuple[int, float]]:
        """For each stage that was entered while measuring: how often, and the ns spent in it, less what reading the clock took.
        Stages of packets made on the side (copies, fragments, ICMP messages) count for themselves. What lies between stages (the queue
        of events, calls from Python) is not in it."""
    def events(self) -> list[Event]: ...
    def flow_cache(self) -> dict[str, int]:
        """What the fast path has done: ``routed`` (packets that passed through a router by their destinations' routes alone); of all
        others ``hits``, ``shared`` (those of them that several threads carried together, see ``carry``), ``abreast`` (those of them that
        went eight at a time, where the processor has AVX2), ``wide`` (those of them that no flow but a megaflow carried), ``misses``
        (packets of a kind that the flow cache keeps), ``others``, ``learnt``, ``full`` (flows that found no room),
        ``flushes`` (all was forgotten: too many programs); and what it holds: ``flows``, ``programs``, ``megaflows`` (with their
        senders), ``bytes`` (with what routers need). All 0 with ``slow_path_only``."""
    def counters(self) -> dict[str, int]:
        """in, generated, copies, fragments_made, out, dropped, consumed, fragments_merged, held; rules_walked; drop/<reason>."""
