"""Packets between two routers with a switch in the middle, carried in batches: whatever happens to the switch while they are on the wire,
everything shows as it would through the stages alone."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest

from core.worlds import ether, filter_table, ip, mac, tcp_packet, udp_packet
from dataplane._core import Engine
from dataplane.encap import registry

registry.ensure("vxlan")

SCTP, ACK, CT_INVALID = 132, 0x10, 1
LEG = 10_000  # ns between a router and the switch
GAP = 1_000  # between two frames
FLOWS = 8
DENIED = 99  # a port that the second router drops


class Wire:
    """client - first router = switch = second router - server. Another station is plugged into the switch, which does not learn."""

    def __init__(self, *, slow: bool, captured: bool = False, learning: bool = False, filtering: bool = False) -> None:
        engine = self.engine = Engine(7, slow_path_only=slow)
        self.client = engine.add_device(engine.add_namespace("client"), "eth0", "veth", mac=mac(1), mtu=1500)
        self.routers = [engine.add_namespace("first"), engine.add_namespace("second")]
        switch = engine.add_namespace("switch")
        engine.set_sysctl(switch, "net.bridge.bridge-nf-call-iptables", filtering)
        if filtering:
            engine.set_rules(switch, 4, "filter", filter_table(FORWARD=[{"proto": 6, "dport": (443, 443), "target": "DROP"}]))
        bridge = engine.add_device(switch, "br0", "bridge", mac=mac(50), mtu=1500)
        self.ports = [engine.add_device(switch, f"port{number}", "veth", mac=mac(60 + number), mtu=1500) for number in range(3)]
        self.front, self.left = self._router(0, 10)
        self.right, self.back = self._router(1, 20)
        self.other = engine.add_device(engine.add_namespace("other"), "eth0", "veth", mac=mac(30), mtu=1500)
        self.server = engine.add_device(engine.add_namespace("server"), "eth0", "veth", mac=mac(3), mtu=1500)
        engine.connect(self.client, self.front)
        engine.connect(self.back, self.server)
        for port, station, address in zip(self.ports, (self.left, self.right, self.other), (11, 20, 30), strict=True):
            engine.connect(station, port, latency=LEG)
            engine.set_device(port, master=bridge, learning=learning, capture=captured, wire=True)
            engine.add_fdb(port, mac(address))
        for device, own in ((self.front, "10.0.0.1"), (self.left, "10.2.0.1"), (self.right, "10.2.0.2"), (self.back, "10.3.0.1")):
            engine.add_address(device, ip(own), 24)
        engine.add_route(self.routers[0], ip("10.3.0.0"), 24, via=ip("10.2.0.2"))
        engine.add_route(self.routers[1], ip("10.0.0.0"), 24, via=ip("10.2.0.1"))
        engine.add_neighbour(self.left, ip("10.2.0.2"), mac(20))
        engine.add_neighbour(self.back, ip("10.3.0.9"), mac(3))
        engine.set_rules(self.routers[0], 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}]))
        engine.set_rules(self.routers[1], 4, "filter", filter_table(FORWARD=[{"proto": 17, "dport": (DENIED, DENIED), "target": "DROP"}]))

    def _router(self, number: int, first: int) -> tuple[int, int]:
        ns = self.routers[number]
        devices = [self.engine.add_device(ns, f"eth{each}", "veth", mac=mac(first + each), mtu=1500) for each in range(2)]
        self.engine.set_sysctl(ns, "net.ipv4.ip_forward", 1)
        return devices[0], devices[1]

    def carry(self, *packets: bytes, gap: int = GAP) -> None:
        """At the client, the last one now: those before it are on the wire."""
        frames = [ether(packet, dst=mac(10), src=mac(1)) for packet in packets]
        starts = array("Q", [0])
        for frame in frames:
            starts.append(starts[-1] + len(frame))
        times = array("q", [self.engine.now + number * gap for number in range(1, len(frames) + 1)])
        devices, lengths = array("i", [self.client] * len(frames)), array("I", map(len, frames))
        assert self.engine.carry(b"".join(frames), devices, starts[:-1], lengths, times, bytearray(len(frames))) == len(frames)

    def shown(self) -> tuple[object, ...]:
        engine = self.engine
        now = engine.now, engine.counters()
        engine.run()
        seen = [(frame.time, frame.device, frame.outgoing, frame.packet, frame.data) for frame in engine.frames()]
        return now, seen, engine.drops(), [engine.conntrack(ns) for ns in self.routers], engine.counters()


def both(**arguments: bool) -> tuple[Wire, Wire]:
    return Wire(slow=False, **arguments), Wire(slow=True, **arguments)


def stream(count: int) -> list[bytes]:
    """Datagrams and segments of some connections in turn, of which one is denied behind the wire."""
    packets = []
    for number in range(count):
        flow = number % FLOWS
        if flow % 2:
            packets.append(udp_packet(dst="10.3.0.9", sport=1000 + flow, dport=DENIED if flow == 1 else 53))
        else:
            packets.append(tcp_packet(ACK, dst="10.3.0.9", sport=1000 + flow, seq=100, ack=200))
    return packets


def moved(wire: Wire) -> None:
    wire.engine.add_fdb(wire.ports[2], mac(20))


def forgotten(wire: Wire) -> None:
    assert wire.engine.del_fdb(wire.ports[1], mac(20))


def unplugged(wire: Wire) -> None:
    wire.engine.set_device(wire.ports[0], up=False)


def watched(wire: Wire) -> None:
    wire.engine.set_device(wire.ports[1], capture=True)


def longer(wire: Wire) -> None:
    wire.engine.connect(wire.ports[1], wire.right, latency=3 * LEG)


def filtered(wire: Wire) -> None:
    wire.engine.set_rules(wire.routers[1], 4, "filter", filter_table(FORWARD=[{"proto": 6, "target": "DROP"}]))


def profiled(wire: Wire) -> None:
    wire.engine.profile(True)


def listened_to(wire: Wire) -> None:
    wire.engine.open_socket(wire.routers[1], 17, 53)


def nothing(wire: Wire) -> None:
    assert wire.engine.now > 0


CHANGES: list[Callable[[Wire], None]] = [moved, forgotten, unplugged, watched, longer, filtered, profiled, listened_to, nothing]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_at_the_switch_meets_the_packets_that_have_not_reached_it(change: Callable[[Wire], None]) -> None:
    fast, slow = both()
    for wire in (fast, slow):
        for _ in range(4):
            wire.carry(*stream(10 * FLOWS))
        change(wire)
        wire.carry(*stream(3 * FLOWS))
    assert fast.shown() == slow.shown()
    assert fast.engine.flow_cache()["hits"] > 20 * FLOWS


@pytest.mark.parametrize("arguments", [{"captured": True}, {"learning": True}, {"filtering": True}, {"captured": True, "learning": True}])
def test_a_switch_that_is_watched_or_learns_or_filters_is_met_in_its_time(arguments: dict[str, bool]) -> None:
    fast, slow = both(**arguments)
    for wire in (fast, slow):
        for gap in (GAP, LEG, 3 * LEG, 0):
            wire.carry(*stream(6 * FLOWS), gap=gap)
        wire.carry(*(tcp_packet(ACK, dst="10.3.0.9", sport=1002, dport=port, seq=100, ack=200) for port in (80, 443, 80, 443)))
    assert fast.shown() == slow.shown()


def test_what_waits_is_shown_as_it_waits() -> None:
    """Packets on the wire are held, and tracing tells of each step that is still to come."""
    fast, slow = both()
    for wire in (fast, slow):
        wire.carry(*stream(10 * FLOWS))
        wire.engine.trace(True)
        wire.engine.run()
    told, steps = (
        [(event.time, event.device, event.packet, event.stage, event.what) for event in wire.engine.events()] for wire in (fast, slow)
    )
    assert told == steps
    assert len({packet for _, device, packet, *_ in steps if device == slow.ports[0]}) == LEG // GAP


def test_an_engine_that_is_gone_takes_what_is_on_the_wire_with_it() -> None:
    """While time is let pass, too, packets from one wire come to the next."""
    for _ in range(20):
        wire = Wire(slow=False)
        for _ in range(3):
            wire.carry(*stream(6 * FLOWS))
        wire.engine.run(wire.engine.now + LEG // 2)
        assert wire.engine.flow_cache()["hits"] > 6 * FLOWS
        wire.carry(*stream(FLOWS))
        del wire


def test_packets_of_another_length_or_header_meet_the_switch_themselves() -> None:
    fast, slow = both()
    for wire in (fast, slow):
        wire.carry(*stream(6 * FLOWS))
        wire.carry(*(udp_packet(bytes(size), dst="10.3.0.9", sport=1003, dport=53) for size in range(0, 1400, 100)))
        wire.carry(*(udp_packet(dst="10.3.0.9", sport=1003, dport=53, ttl=ttl) for ttl in (64, 2, 1, 64)))
        wire.carry(*(tcp_packet(flags, dst="10.3.0.9", sport=1002, seq=100, ack=200) for flags in (0x10, 0x11, 0x10, 0x04, 0x02, 0x10)))
    assert fast.shown() == slow.shown()


def tunnelled(packet: bytes) -> bytes:
    """In VXLAN, from a station far away to the second router, with a right checksum outside."""
    inner = ether(packet, dst=mac(40), src=mac(41))
    return udp_packet(dst="10.2.0.2", sport=5000, dport=8472, payload=b"\x08\0\0\0" + (7 << 8).to_bytes(4) + inner)


def test_a_wrong_checksum_inside_a_tunnel_is_seen_where_the_tunnel_ends() -> None:
    """Nobody in front of it has looked inside: neither the first router nor the switch."""
    fast, slow = both()
    for wire in (fast, slow):
        ns = wire.routers[1]
        wire.engine.add_device(ns, "vxlan7", "vxlan", mac=mac(40), mtu=1450, id=7, port=8472, local=ip("10.2.0.2"))
        wire.engine.set_rules(ns, 4, "filter", filter_table(FORWARD=[{"ctstate": CT_INVALID, "target": "DROP"}]))
        segments = [tcp_packet(ACK, dst="10.3.0.9", sport=1000 + flow, seq=100, ack=200) for flow in range(4)] * 4
        for _ in range(3):
            wire.carry(*map(tunnelled, segments))
        wrong = segments[1][:-2] + bytes([segments[1][-2] ^ 1]) + segments[1][-1:]
        wire.carry(*map(tunnelled, [*segments, wrong, *segments]))
    assert fast.shown() == slow.shown()
    assert fast.engine.counters()["drop/rules/denied"] == 1
    assert fast.engine.flow_cache()["hits"] > 200
