"""The flow cache: what it serves, and what makes it leave a packet to the stages. That both agree is tests/agreement's matter."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from core.worlds import (
    CLIENT,
    CLIENT_MAC,
    DONT_FRAGMENT,
    GRE,
    MILLISECOND,
    OUTSIDE,
    ROUTER0,
    ROUTER0_MAC,
    ROUTER1,
    ROUTER1_MAC,
    SCTP,
    SECOND,
    SERVER,
    SERVER_MAC,
    UDP,
    Bridge,
    Router,
    ether,
    filter_table,
    ip,
    ipv4,
    mac,
    tcp_packet,
    udp_packet,
)  # fmt: skip
from dataplane._core import CT_ESTABLISHED, Engine, encapsulations, register_encap
from dataplane.encap import python_plugin, registry
from dataplane.encap.python_plugin import Encapsulation, Host, Incoming, Outgoing, Reason, Refused

if TYPE_CHECKING:
    from dataplane._core import Match

SYN, RST, ACK, FIN_ACK, SYN_ACK = 0x02, 0x04, 0x10, 0x11, 0x12


@dataclass
class Watched:
    """A router whose client sends frames one after the other. Its rule is about none of them, but has them looked at flow by flow."""

    router: Router = field(default_factory=Router)

    def __post_init__(self) -> None:
        self.router.engine.set_rules(self.router.ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}]))

    def hits(self, *frames: bytes) -> int:
        """How many more times the cache has served once the client has sent these."""
        engine = self.router.engine
        before = engine.flow_cache()["hits"]
        for frame in frames:
            at = engine.now + MILLISECOND
            engine.inject(self.router.client_eth, frame, at=at)
            engine.run(at)
        return engine.flow_cache()["hits"] - before

    def sent(self) -> list[bytes]:
        return self.router.seen(self.router.eth1, outgoing=True)


PACKET = ether(udp_packet())


def test_a_flow_is_served_from_its_second_packet_on() -> None:
    world = Watched()
    assert world.hits(PACKET) == 0
    assert world.hits(PACKET, PACKET) >= 2
    assert world.sent() == [SERVER_MAC + ROUTER1_MAC + forwarded()] * 3


def forwarded() -> bytes:
    """EtherType and packet of ``PACKET`` behind the router: TTL 63, and a header checksum 0x100 higher (RFC 1141)."""
    packet = bytearray(PACKET[12:])
    packet[10] = 63
    checksum = int.from_bytes(packet[12:14]) + 0x100
    packet[12:14] = ((checksum & 0xFFFF) + (checksum >> 16)).to_bytes(2)
    return bytes(packet)


def test_the_slow_path_alone_has_no_cache() -> None:
    world = Watched(Router(engine=Engine(slow_path_only=True)))
    assert world.hits(PACKET, PACKET, PACKET) == 0
    assert not any(world.router.engine.flow_cache().values())


CHANGES: dict[str, Callable[[Router], object]] = {
    "route": lambda router: router.engine.add_route(router.ns, ip(OUTSIDE), 32, via=ip(SERVER)),
    "sysctl": lambda router: router.engine.set_sysctl(router.ns, "net.ipv4.ip_default_ttl", 65),
    "device": lambda router: router.engine.set_device(router.eth1, mtu=1400),
    "rules": lambda router: router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"proto": GRE, "target": "DROP"}])),
    "address": lambda router: router.engine.add_address(router.eth1, ip("10.9.9.9"), 32),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_flows_are_learnt_anew(change: str) -> None:
    world = Watched()
    world.hits(PACKET, PACKET)
    CHANGES[change](world.router)
    assert world.hits(PACKET) == 0
    assert world.hits(PACKET) == 1


@pytest.mark.parametrize("forbidden", [2001, 2002])
def test_a_change_that_forbids_one_flow_is_not_undone_by_another_that_goes_the_same_way(forbidden: int) -> None:
    """Both cost the same walk of rules before and after it: but for their ports nothing tells their packets apart."""
    world, allowed = Watched(), 4003 - forbidden
    world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[udp_drop(3000)]))
    first, second = ether(udp_packet(dport=allowed)), ether(udp_packet(dport=forbidden))
    assert world.hits(first, second, first, second, first, second) > 0
    assert len(world.sent()) == 6
    world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[udp_drop(forbidden)]))
    world.hits(first, second, second, first)
    assert [int.from_bytes(frame[36:38]) for frame in world.sent()] == [allowed, allowed]
    assert world.router.dropped("rules/denied") == 2


def udp_drop(port: int) -> Match:
    return {"proto": UDP, "dport": (port, port), "target": "DROP"}


def test_a_flow_that_a_change_ends_does_not_come_back_with_another_one_on_its_way() -> None:
    """Two destinations behind the same neighbour; the route to one of them is withdrawn."""
    world, gone, stays = Watched(), OUTSIDE, "198.51.100.8"
    engine, ns = world.router.engine, world.router.ns
    for dst in (gone, stays):
        engine.add_route(ns, ip(dst), 32, via=ip(SERVER))
    to_gone, to_other = (ether(udp_packet(dst=dst)) for dst in (gone, stays))
    world.hits(PACKET)  # the neighbour is known now
    assert world.hits(to_gone, to_other, to_gone, to_other, to_gone, to_other) >= 2
    engine.del_route(ns, ip(gone), 32)
    world.sent()
    assert world.hits(to_other, to_other, to_other) >= 1
    world.hits(to_gone)
    assert [frame[30:34] for frame in world.sent()] == [ip(stays)] * 3
    assert world.router.dropped("route/no_route") == 1


def test_what_fits_one_route_need_not_fit_another_by_the_same_neighbour() -> None:
    world, wide, narrow = Watched(), OUTSIDE, "198.51.100.8"
    engine, ns = world.router.engine, world.router.ns
    engine.add_route(ns, ip(wide), 32, via=ip(SERVER))
    engine.add_route(ns, ip(narrow), 32, via=ip(SERVER), mtu=600)
    world.hits(PACKET)  # the neighbour is known now
    short, long_one = (
        {dst: ether(udp_packet(bytes(size), dst=dst, fragment=DONT_FRAGMENT)) for dst in (wide, narrow)} for size in (10, 1000)
    )
    assert world.hits(short[narrow], short[narrow], long_one[wide], long_one[wide]) >= 2
    world.sent()
    world.hits(long_one[narrow], long_one[wide], short[narrow])
    assert [(frame[30:34], len(frame)) for frame in world.sent()] == [(ip(wide), 1042), (ip(narrow), 52)]
    assert world.router.dropped("forward/too_big") == 1


def test_programs_that_changes_have_outlived_do_not_pile_up() -> None:
    world = Watched()
    engine = world.router.engine
    for change in range(4200):
        engine.set_sysctl(world.router.ns, "net.ipv4.ip_default_ttl", 64 + change % 2)
        world.hits(PACKET)
    assert engine.flow_cache()["flushes"] == 1
    assert engine.flow_cache()["programs"] < 200
    assert len(world.sent()) == 4200


def test_a_neighbour_that_moves_takes_its_flows_along() -> None:
    world = Watched()
    world.hits(PACKET, PACKET)
    world.sent()
    world.router.engine.add_neighbour(world.router.eth1, ip(SERVER), mac(0x77))
    world.hits(PACKET)
    assert [frame[:6] for frame in world.sent()] == [mac(0x77)]


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("wrong transport checksum", PACKET[:40] + b"\xde\xad" + PACKET[42:]),
        ("wrong header checksum", PACKET[:24] + b"\xde\xad" + PACKET[26:]),
        ("another TTL", ether(udp_packet(ttl=9))),
        ("longer than any before", ether(udp_packet(b"longer"))),
        ("another next hop's MAC", ether(udp_packet(), dst=mac(0x55))),
        ("another sender's MAC", ether(udp_packet(), src=mac(0x55))),
        ("cut off", PACKET[:-1]),
        ("a tag", PACKET[:12] + b"\x81\x00\x00\x05" + PACKET[12:]),
    ],
)
def test_what_is_not_as_the_flow_was_goes_through_the_stages(name: str, frame: bytes) -> None:
    world = Watched()
    world.hits(PACKET, PACKET)
    assert world.hits(frame) == 0, name
    assert world.hits(PACKET, PACKET) >= 1


def test_a_segment_that_ends_a_connection_goes_no_flows_way() -> None:
    world = Watched()
    world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": 2, "target": "ACCEPT"}]))
    segments = [ether(tcp_packet(ACK, seq=seq)) for seq in (1, 2, 3, 4)]
    assert world.hits(*segments) >= 2  # the first one begins the connection, the second is followed
    wide = world.router.engine.flow_cache()["wide"]
    assert world.hits(ether(tcp_packet(FIN_ACK, seq=5))) == world.router.engine.flow_cache()["wide"] - wide


def test_a_tracked_segment_out_of_its_window_is_left_to_the_stages_without_a_trace() -> None:
    slow, fast = Watched(Router(engine=Engine(slow_path_only=True))), Watched()
    for world in (slow, fast):
        world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": 2, "target": "ACCEPT"}]))
        world.hits(*(ether(tcp_packet(ACK, seq=seq)) for seq in (1, 2, 3, 3_000_000_000, 4, 5)))
    assert fast.router.engine.flow_cache()["hits"] > 0
    assert fast.router.engine.conntrack(fast.router.ns) == slow.router.engine.conntrack(slow.router.ns)
    assert fast.sent() == slow.sent()


def test_a_flow_to_another_host_is_no_business_of_the_router() -> None:
    world = Watched()
    stray = ether(udp_packet(), dst=mac(0x55))
    world.hits(stray, stray)
    assert world.router.dropped("parse/otherhost") == 2
    assert world.hits(stray) == 1
    assert world.router.dropped("parse/otherhost") == 3


def test_nothing_is_learnt_from_the_first_packet_of_a_connection() -> None:
    world = Watched()
    world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": 2, "target": "ACCEPT"}]))
    learnt = []
    for _ in range(3):
        world.hits(PACKET)
        learnt.append(world.router.engine.flow_cache()["learnt"])
    assert learnt == [0, 1, 1], "the second one's walk leads all the way to the server"


@pytest.mark.parametrize("is_open", [False, True])
def test_a_datagram_is_carried_to_its_port_and_answered_there(is_open: bool) -> None:
    """By the server's own stages: an application gets it, or the sender is told, as often as limits allow."""
    slow, fast = (Watched(Router(engine=Engine(slow_path_only=each), silent=False)) for each in (True, False))
    got = []
    for world in (slow, fast):
        engine = world.router.engine
        if is_open:
            engine.open_socket(world.router.server, 17, 2000)
        deliveries = []
        for _ in range(20):
            world.hits(PACKET)
            deliveries += engine.deliveries()
        got.append((engine.frames(), engine.drops(), deliveries, engine.counters()))
    assert got[0] == got[1]
    *_, deliveries, counters = got[1]
    assert len(deliveries) == (20 if is_open else 0)
    assert counters.get("drop/local/udp_no_socket", 0) == (0 if is_open else 20)
    assert is_open or 0 < counters["generated"] < 20
    assert fast.router.engine.flow_cache()["hits"] >= 18


def test_a_segment_that_resets_what_is_closed_is_served() -> None:
    """The first one closes the connection; that is the stages' work."""
    world = Watched()
    world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": 2, "target": "ACCEPT"}]))
    there = [tcp_packet(SYN, seq=1), tcp_packet(ACK, seq=2, ack=2), tcp_packet(ACK, seq=2, ack=2)]
    back = ether(tcp_packet(SYN_ACK, src=SERVER, dst=CLIENT, sport=80, dport=1000, seq=1, ack=2), dst=ROUTER1_MAC, src=SERVER_MAC)
    world.hits(ether(there[0]))
    world.router.engine.inject(world.router.server_eth, back)
    world.router.engine.run()
    world.hits(*map(ether, there[1:]))
    reset = ether(tcp_packet(RST, seq=2))
    assert world.hits(reset) == 0
    assert [row["state"] for row in world.router.engine.conntrack(world.router.ns)] == ["CLOSE"]
    assert world.hits(reset, reset) >= 1


def test_tracing_changes_leaves_packets_to_the_cache() -> None:
    world = Watched()
    world.router.engine.trace(True, changes=True)
    world.hits(PACKET, PACKET)
    assert world.hits(PACKET) >= 1


def test_tracing_leaves_the_cache_alone() -> None:
    world = Watched()
    world.hits(PACKET, PACKET)
    world.router.engine.trace(True)
    assert world.hits(PACKET) == 0
    assert any(event.stage == "route" for event in world.router.engine.events())


def test_the_client_is_known_by_its_own_mac() -> None:
    assert PACKET[:12] == ROUTER0_MAC + CLIENT_MAC


def tunnelled(engine: Engine, options: int, captured: str) -> tuple[Router, list[tuple[int, bool, int, bytes]]]:
    """What interfaces see of a flow into a Geneve tunnel with so many bytes of options: device, direction, time and bytes."""
    router = Router(engine=engine)
    registry.ensure("geneve")
    area = bytes.fromhex(f"010200{options // 4 - 1:02x}") + bytes(options - 4)
    tunnel = engine.add_device(
        router.ns, "geneve1", "geneve", mac=mac(0x61), mtu=1200, id=7, local=ip(ROUTER1), remote=ip(SERVER), options=area
    )
    engine.add_address(tunnel, ip("10.1.0.1"), 16)
    engine.add_neighbour(tunnel, ip("10.1.0.9"), mac(0x62))
    for device in (router.eth0, router.eth1, router.client_eth, router.server_eth, tunnel):
        engine.set_device(device, capture=captured == "all" or (captured == "last" and device == router.server_eth))
    Watched(router).hits(*(ether(udp_packet(bytes([count]) * 24, dst="10.1.0.9")) for count in range(6)))
    return router, [(frame.device, frame.outgoing, frame.time, frame.data) for frame in engine.frames()]


@pytest.mark.parametrize("options", [4, 8, 60, 64, 100, 124, 128])
@pytest.mark.parametrize("captured", ["all", "last", "none"])
def test_long_tunnel_headers_are_as_the_stages_write_them(options: int, captured: str) -> None:
    fast, frames = tunnelled(Engine(), options, captured)
    slow, wanted = tunnelled(Engine(slow_path_only=True), options, captured)
    assert frames == wanted
    assert len(frames) == {"all": 6 * 5, "last": 6, "none": 0}[captured]
    assert fast.engine.counters() == slow.engine.counters()
    assert fast.engine.flow_cache()["hits"] >= 4


class Tolled(Encapsulation):
    """IP packets right in UDP; of those that a device takes off it refuses every third."""

    name = "tolled"
    sentence = "IP packets right in UDP, with a toll"
    ip_protocols = (UDP,)
    reasons = (Reason("toll", "It is the third"),)

    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        self.taken = 0

    def port(self) -> int:
        return 7777

    def overhead(self, family: int) -> int:
        return 28 if family == 4 else 48

    def push(self, outer: Outgoing, packet: bytes) -> bytes:
        raise NotImplementedError

    def pop(self, incoming: Incoming, payload: bytes) -> bytes:
        self.taken += 1
        if self.taken % 3 == 0:
            raise Refused("toll")
        incoming.inner_protocol = 0x0800
        return payload[8:]


def test_an_encapsulation_that_promises_nothing_is_asked_for_each_packet() -> None:
    shown = []
    if "tolled" not in encapsulations():
        register_encap(python_plugin.capsule(Tolled))
    for slow in (False, True):
        router = Router(engine=Engine(slow_path_only=slow))
        tunnel = router.engine.add_device(router.ns, "toll0", "tolled", mac=bytes(6), mtu=1400, local=ip(ROUTER0), remote=ip(CLIENT))
        router.engine.add_address(tunnel, ip("10.1.0.1"), 16)
        packet = ether(udp_packet(udp_packet(src="10.1.0.2"), dst=ROUTER0, dport=7777))
        Watched(router).hits(*[packet] * 9)
        shown.append((router.dropped("tolled/toll"), router.engine.frames(), router.engine.counters()))
    assert shown[0] == shown[1]
    assert shown[0][0] == 3


# What stands before an IPv4 packet in a tunnel, and before an IPv6 one: the outer header's protocol, and bytes behind it.
HEADS = {"gre": ((GRE, b"\0\0\x08\0"), (GRE, b"\0\0\x86\xdd")), "ipip": ((4, b""), (41, b""))}


@pytest.mark.parametrize("kind", HEADS)
def test_a_packet_that_its_tunnel_calls_ipv6_goes_no_flows_way(kind: str) -> None:
    """Whatever it looks like."""
    registry.ensure(kind)
    shown, inner = [], udp_packet(bytes(40), src="10.1.0.2")
    good, bad = (ether(ipv4(head + inner, dst=ROUTER0, proto=proto)) for proto, head in HEADS[kind])
    for slow in (False, True):
        router = Router(engine=Engine(slow_path_only=slow))
        tunnel = router.engine.add_device(router.ns, "tun0", kind, mac=bytes(6), mtu=1400, local=ip(ROUTER0), remote=ip(CLIENT))
        router.engine.add_address(tunnel, ip("10.1.0.1"), 16)
        hits = Watched(router).hits(*[good] * 4, bad, good)
        assert slow or hits > 2
        shown.append((router.engine.frames(), router.engine.drops(), router.engine.counters()))
    assert shown[0] == shown[1]
    assert len([frame for frame in shown[0][0] if frame.device == router.server_eth]) == 5


def test_what_a_node_sends_to_itself_keeps_its_connection_and_goes_no_flows_way() -> None:
    """Answers are dropped as long as they are answers: once the connection has expired they are not."""
    shown = []
    for slow in (False, True):
        router = Router(engine=Engine(slow_path_only=slow))
        engine = router.engine
        sockets = [engine.open_socket(router.ns, UDP, port) for port in (1000, 2000)]
        engine.set_rules(router.ns, 4, "filter", filter_table(INPUT=[{"ctstate": CT_ESTABLISHED, "target": "DROP"}]))
        question = udp_packet(src=ROUTER0, dst=ROUTER1)
        answer = udp_packet(src=ROUTER1, dst=ROUTER0, sport=2000, dport=1000)
        delivered = []
        for packet, step in ((question, MILLISECOND), *[(answer, MILLISECOND)] * 3, (answer, 400 * SECOND), (answer, MILLISECOND)):
            at = engine.now + step
            engine.send(router.ns, packet, at=at)
            while engine.run(at):
                delivered += [delivery.socket for delivery in engine.deliveries()]
        assert delivered == [sockets[1], sockets[0], sockets[0]]
        shown.append((engine.frames(), engine.drops(), engine.counters()))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("packet", [udp_packet(dst=ROUTER0), tcp_packet(ACK, dst=ROUTER0)], ids=["udp", "tcp"])
@pytest.mark.parametrize("own", [mac(0xB0), mac(0xA0)], ids=["bridge", "port"])
def test_a_frame_for_the_port_that_it_comes_in_by_is_the_hosts_as_one_for_its_bridge_is(packet: bytes, own: bytes) -> None:
    """And so what nobody listens for is answered."""
    shown = []
    for slow in (False, True):
        bridge = Bridge(Engine(slow_path_only=slow))
        engine = bridge.engine
        engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-iptables", 0)
        engine.add_neighbour(bridge.br, ip(CLIENT), mac(0x10))
        for number in range(6):
            engine.inject(bridge.stations[0], ether(packet, dst=own, src=mac(0x10)), at=number * MILLISECOND)
            engine.run(number * MILLISECOND)
        shown.append((engine.frames(), engine.drops(), engine.counters()))
        assert slow or engine.flow_cache()["hits"] > 0
    assert shown[0] == shown[1]
    assert shown[0][2]["generated"] == 6


@pytest.mark.parametrize("number", [0, 200, 590])
def test_a_long_packet_is_not_taken_for_a_short_one_in_a_frame_as_long(number: int) -> None:
    """Of what lies behind packets nothing is forwarded: it says nothing about what fits the next link."""
    shown = []
    short, long = (ether(udp_packet(bytes(size), fragment=DONT_FRAGMENT)) for size in (number, 1000))
    padded = short + bytes(1000 - number)
    for slow in (False, True):
        router = Router(engine=Engine(slow_path_only=slow))
        router.engine.set_device(router.eth1, mtu=620)
        hits = Watched(router).hits(*[padded] * 4, *[long] * 3, *[short] * 2, padded)
        assert slow or hits > 5
        shown.append((router.engine.frames(), router.engine.drops(), router.engine.counters()))
    assert shown[0] == shown[1]
    assert shown[0][2]["drop/forward/too_big"] == 3


@pytest.mark.parametrize("batch", [False, True])
def test_what_a_bridge_has_not_heard_of_for_long_goes_to_all_ports_again(batch: bool) -> None:
    """The station that is sent to says nothing: 300 s after it spoke last its place is no longer known."""
    shown = []
    frame = ether(udp_packet(), dst=mac(0x11), src=mac(0x10))
    for slow in (False, True):
        bridge = Bridge(Engine(slow_path_only=slow))
        engine, at = bridge.engine, 0
        engine.inject(bridge.stations[1], ether(udp_packet(), dst=mac(0x10), src=mac(0x11)))
        engine.run(0)
        ports = []
        bridge.ports_out()
        for _ in range(40):
            at += 10 * SECOND
            if batch:
                times = array("q", [at])
                engine.carry(frame, array("i", [bridge.stations[0]]), array("Q", [0]), array("I", [len(frame)]), times, bytearray(1))
            else:
                engine.inject(bridge.stations[0], frame, at=at)
            engine.run(at)
            ports.append(bridge.ports_out())
        assert ports == [[1]] * 29 + [[2, 1]] * 11
        assert slow or engine.flow_cache()["hits"] > 20
        shown.append((engine.drops(), engine.counters()))
    assert shown[0] == shown[1]


@dataclass
class Ring:
    """Two bridges with two cables, each of which has one address behind the other, and forwards all the same; a station at the first."""

    engine: Engine
    latency: int
    captured: bool

    def __post_init__(self) -> None:
        engine = self.engine
        for ns in [engine.add_namespace(name) for name in ("one", "other")]:
            bridge = engine.add_device(ns, "br0", "bridge", mac=mac(0xB0 + ns), mtu=1500)
            ports = [engine.add_device(ns, f"port{k}", "veth", mac=mac(0xA0 + 4 * ns + k), mtu=1500) for k in range(3)]
            for port in ports:
                engine.set_device(port, master=bridge, learning=False, capture=self.captured)
            engine.add_fdb(ports[ns], mac(0x11))
            for k in range(2 * ns):
                engine.connect(engine.find_device(0, f"port{k % 2}"), ports[k], latency=self.latency)
        self.station = engine.add_device(engine.add_namespace("station"), "eth0", "veth", mac=mac(0x10), mtu=1500)
        engine.connect(self.station, engine.find_device(0, "port2"), latency=self.latency)

    def send(self, number: int) -> None:
        frame = ether(udp_packet(bytes([number])), dst=mac(0x11), src=mac(0x10))
        times = array("q", [self.engine.now])
        self.engine.carry(frame, array("i", [self.station]), array("Q", [0]), array("I", [len(frame)]), times, bytearray(1))
        self.engine.run(self.engine.now + MILLISECOND)


@pytest.mark.parametrize("latency", [0, 1000])
@pytest.mark.parametrize("captured", [True, False])
def test_a_frame_that_goes_round_ends_as_the_stages_end_it(latency: int, captured: bool) -> None:
    shown = []
    for slow in (False, True):
        ring = Ring(Engine(slow_path_only=slow), latency, captured)
        for number in range(4):
            ring.send(number)
        assert ring.engine.counters()["drop/transmit/looping"] == 4
        assert slow or ring.engine.flow_cache()["hits"] >= 3
        shown.append((ring.engine.frames(), ring.engine.drops(), ring.engine.counters()))
    assert shown[0] == shown[1]


def test_frames_that_go_round_meet_others_of_one_batch_as_they_do_alone() -> None:
    """All of them are on the wires at once, past bridges that let them pass."""
    shown = []
    frame = ether(udp_packet(), dst=mac(0x11), src=mac(0x10))
    for slow in (False, True):
        ring = Ring(Engine(slow_path_only=slow), 1000, False)
        ring.send(0)
        ring.send(1)
        now, count = ring.engine.now, 20
        times = array("q", [now + 300 * number for number in range(count)])
        starts, lengths = array("Q", [0] * count), array("I", [len(frame)] * count)
        ring.engine.carry(frame, array("i", [ring.station] * count), starts, lengths, times, bytearray(count))
        ring.engine.run(now + MILLISECOND)
        shown.append((ring.engine.frames(), ring.engine.drops(), ring.engine.counters()))
    assert shown[0] == shown[1]
    assert shown[0][2]["drop/transmit/looping"] == 22


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_bridge_remembers_who_sends_by_a_flow(threads: int, captured: bool) -> None:
    """However its frames are given, ``threads`` 0: one by one, what the bridge knows of a station does not age while it sends."""
    shown = []
    frame = ether(udp_packet(), dst=mac(0xB0), src=mac(0x10))
    for slow in (False, True):
        bridge = Bridge(Engine(slow_path_only=slow))
        engine, at = bridge.engine, 0
        outside = engine.add_device(bridge.ns, "eth1", "veth", mac=mac(3), mtu=1500)
        engine.add_address(outside, ip(ROUTER1), 24)
        engine.add_neighbour(outside, ip(SERVER), mac(4))
        engine.set_sysctl(bridge.ns, "net.ipv4.ip_forward", 1)
        engine.set_rules(bridge.ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}]))
        for device in (*bridge.ports, *bridge.stations, bridge.br, outside):
            engine.set_device(device, capture=captured)
        for _ in range(40):
            at += 20 * SECOND
            if threads:
                place, times = (array("i", [bridge.stations[0]]), array("Q", [0]), array("I", [len(frame)])), array("q", [at])
                engine.carry(frame, *place, times, bytearray(1), threads=threads, window=1)
            else:
                engine.inject(bridge.stations[0], frame, at=at)
            engine.run(at)
        assert slow or engine.flow_cache()["hits"] > 30
        assert engine.counters()["out"] == 40
        engine.set_device(bridge.ports[0], capture=True)
        engine.set_device(bridge.ports[2], capture=True)
        bridge.ports_out()
        engine.inject(bridge.stations[1], ether(udp_packet(), dst=mac(0x10), src=mac(0x11)))
        engine.run(engine.now)
        assert bridge.ports_out() == [0]
        shown.append((engine.fdb(bridge.ns), engine.conntrack(bridge.ns), engine.counters()))
    assert shown[0] == shown[1]
