"""Random sequences of frames: well-formed flows, answers to what arrived, fragments, ARP, tunnel frames, damage of every kind.

A sequence is a function from what the last step led to, to the next step, so that answers are built from frames that really arrived.
All its choices come from a ``random.Random``: a seeded one, or one that Hypothesis directs.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import strategies as st

from . import broken, wire
from .record import Step
from .taps import Seen
from .topology import Topology
from .traffic import Packet, Station, Traffic
from .wire import Ip

# actions and how often each is taken, by theme
THEMES: dict[str, dict[str, int]] = {
    "mixed": {"open": 30, "answer": 30, "go on": 14, "error": 8, "fragments": 6, "again": 4, "arp": 4, "odd": 2, "tunnel": 4, "damage": 16},
    "connections": {"open": 22, "answer": 45, "go on": 30, "error": 3, "again": 3},
    "errors": {"open": 30, "answer": 22, "error": 40, "go on": 4, "fragments": 3},
    "fragments": {"open": 10, "answer": 15, "fragments": 60, "error": 4, "again": 5},
    "sizes": {"open": 40, "answer": 25, "go on": 20, "error": 5, "fragments": 8, "again": 2},
    "damage": {"open": 14, "answer": 14, "go on": 6, "damage": 60, "arp": 6, "odd": 6},
    "clashes": {"open": 45, "clash": 30, "answer": 30, "error": 5, "go on": 6},
    "tunnel": {"open": 14, "answer": 14, "tunnel": 60, "error": 5},
}


class Sequence:
    """At most ``length`` steps on one cluster."""

    def __init__(self, topology: Topology, rng: Random, length: int) -> None:
        self.topology, self.rng, self.left = topology, rng, length
        self.traffic = Traffic(topology, rng)
        themes = [t for t in THEMES if t != "tunnel" or topology.backend == "vxlan"]
        self.theme = rng.choices(themes, [3 if t == "mixed" else 1 for t in themes])[0]
        if self.theme == "sizes":
            self.traffic.large = 0.8
        self.waiting: list[Step] = []  # fragments not sent yet
        self.sent: list[Step] = []

    def __call__(self, frames: Series[Seen]) -> Step | None:
        """The next step, given the frames that the last one led to; None: the end."""
        if self.left == 0:
            return None
        self.left -= 1
        self.traffic.note_arrivals(frames)
        step = self._next()
        if not self.sent:
            step = Step(step.ns, step.iface, step.frame, step.note, self._setup())
        self.sent.append(step)
        return step

    def _setup(self) -> tuple[tuple[str, str], ...]:
        """In some sequences a smaller MTU on the way, or (behind a tunnel) larger ones before it."""
        if self.rng.random() > (0.6 if self.theme == "sizes" else 0.12):
            return ()
        node = self.rng.choice(list(self.topology.nodes.values()))
        if self.topology.backend != "vxlan":
            return ((node.name, "ip link set eth0 mtu 1400"),)
        pod = self.rng.choice([p for p in self.topology.pods.values() if p.node == node.name])
        wide = f"mtu {self.topology.mtu}"
        return (
            (node.name, f"ip link set {pod.host_device} {wide}"),
            (node.name, f"ip link set cni0 {wide}"),
            (pod.name, f"ip link set eth0 {wide}"),
        )

    def _next(self) -> Step:
        if self.waiting and self.rng.random() < 0.75:
            return self.waiting.pop(0)
        weights = THEMES[self.theme]
        action = self.rng.choices(list(weights), list(weights.values()))[0]
        if action == "arp":
            return self._arp()
        if action == "odd":
            return self._odd()
        if action == "again" and self.sent:
            last = self.rng.choice(self.sent[-3:])
            return Step(last.ns, last.iface, last.frame, f"again: {last.note}")
        if action == "tunnel":
            return self._tunnel()
        packet = self._packet(action)
        if action == "fragments":
            return self._fragments(packet)
        if action == "damage":
            frame, what = broken.damage(packet.frame(), self.rng, self.topology)
            return Step(packet.station.ns, "eth0", frame, f"{what}: {packet.note}")
        return _step(packet)

    def _packet(self, action: str) -> Packet:
        """A well-formed packet: of this kind if there is something to say, else the first of a new flow."""
        traffic = self.traffic
        if action in ("fragments", "damage"):
            action = self.rng.choice(["open", "answer", "go on", "error"])
        packet = None
        if action == "answer" and traffic.arrivals:
            packet = traffic.answer()
        elif action == "error" and traffic.arrivals:
            packet = traffic.error()
        elif action == "go on" and traffic.talks:
            packet = traffic.go_on()
        elif action == "clash" and traffic.opened:
            packet = self._clash()
        return packet or traffic.open()

    def _clash(self) -> Packet | None:
        """The source address and port of an earlier flow, towards another door of the same service or its endpoint itself."""
        traffic, topology = self.traffic, self.topology
        old = self.rng.choice(traffic.opened[-4:])
        if old.ip.proto not in (wire.TCP, wire.UDP) or len(old.ip.payload) < 8:
            return None
        name = "tcp" if old.ip.proto == wire.TCP else "udp"
        service = self.rng.choice([s for s in topology.services if s.protocol == name and s.endpoints])
        doors = [(service.address, service.port), *service.endpoints, *((b, service.port) for b in service.outside)]
        doors += [(n.address, service.node_port) for n in topology.nodes.values() if service.node_port]
        address, port = self.rng.choice(doors)
        sport = int.from_bytes(old.ip.payload[:2], "big")
        if name == "udp":
            body = wire.udp(old.ip.source, address, sport, port, b"clash")
        else:
            body = wire.Tcp(sport, port, self.rng.randrange(1 << 32), 0, wire.SYN).build(old.ip.source, address)
        return traffic.packet(old.station, old.ip.source, address, old.ip.proto, body, f"same source, {service.name} at {address}:{port}")

    # ---- fragments
    def _fragments(self, packet: Packet) -> Step:
        """Cut a packet up; the pieces follow in some order, perhaps twice, overlapping or never."""
        rng = self.rng
        ip = packet.ip
        if len(ip.payload) < 64 and ip.proto == wire.UDP and rng.random() < 0.8:
            sport, dport = int.from_bytes(ip.payload[:2], "big"), int.from_bytes(ip.payload[2:4], "big")
            data = wire.filler(rng.choice([80, 200, 560, 1200, 2900]), rng.randrange(256))
            ip = Ip(
                ip.source,
                ip.target,
                ip.proto,
                wire.udp(ip.source, ip.target, sport, dport, data),
                ip.ttl,
                ip.tos,
                ip.ident,
                ip.fragment,
                ip.options,
            )
        if len(ip.payload) < 16:
            return _step(packet)
        largest = (self.topology.pod_mtu - 20) // 8 * 8
        cuts = sorted({8 * rng.randrange(1, max(2, len(ip.payload) // 8 + 1)) for _ in range(rng.choice([1, 1, 2, 2, 3, 5]))})
        cuts = [c for c in cuts if c < len(ip.payload)]
        edges = [0, *cuts, len(ip.payload)]
        edges = sorted({*edges, *(e for a, b in pairwise(edges) for e in range(a, b, largest))})
        pieces = ip.fragments(edges[1:-1])
        notes = [f"fragment {a}..{b} of {len(ip.payload)}, {packet.note}" for a, b in pairwise(edges)]
        steps = [_step(replace(packet, ip=piece, note=note)) for piece, note in zip(pieces, notes, strict=True)]
        steps = self._disturb(packet, ip, edges, steps)
        self.waiting += steps[1:]
        return steps[0]

    def _disturb(self, packet: Packet, ip: Ip, edges: list[int], steps: list[Step]) -> list[Step]:
        rng = self.rng
        trick = rng.choices(["order", "reverse", "shuffle", "twice", "lost", "overlap", "uneven"], [30, 12, 20, 10, 6, 12, 5])[0]
        if trick == "reverse":
            steps.reverse()
        elif trick == "shuffle":
            rng.shuffle(steps)
        elif trick == "twice":
            steps.insert(rng.randrange(len(steps) + 1), rng.choice(steps))
        elif trick == "lost" and len(steps) > 1:
            steps.pop(rng.randrange(len(steps)))
        elif trick in ("overlap", "uneven"):
            start = max(0, rng.choice(edges[:-1]) - 8 * (trick == "overlap"))
            end = min(len(ip.payload), start + rng.choice([8, 16, 24, 100] if trick == "overlap" else [3, 9, 20]))
            piece = ip.piece(start, end, more=rng.random() < 0.7)
            steps.insert(
                rng.randrange(len(steps) + 1),
                _step(Packet(packet.station, packet.next_hop, piece, f"{trick}: fragment {start}..{end}, {packet.note}")),
            )
        return steps

    # ---- not IP, or IP in IP
    def _arp(self) -> Step:
        rng, topology, station = self.rng, self.topology, self.traffic.client()
        node = rng.choice(list(topology.nodes.values()))
        known = [
            *(p.address for p in topology.pods.values()),
            node.address,
            node.gateway,
            node.tunnel,
            *(h.address for h in topology.hosts.values()),
            "169.254.1.1",
            "0.0.0.0",
            "8.8.8.8",
            str(node.network[99]),
            str(topology.underlay[99]),
            topology.services[0].address,
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ]
        sender, target = rng.choices([station.address, "0.0.0.0", rng.choice(known)], [70, 10, 20])[0], rng.choice(known)
        if rng.random() < 0.1:
            target = sender
        op = rng.choices([1, 2, 3, 8, 0], [75, 20, 2, 2, 1])[0]
        sender_mac = rng.choices([station.mac, "02:de:ad:be:ef:01", wire.BROADCAST], [88, 9, 3])[0]
        body = wire.arp(op, sender_mac, sender, rng.choice(["00:00:00:00:00:00", wire.BROADCAST, station.mac]), target)
        if rng.random() < 0.12:
            at = rng.randrange(8)
            body = body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]
        if rng.random() < 0.1:
            body = body[: rng.randrange(0, 28)]
        if rng.random() < 0.3:
            body += bytes(18)
        to = wire.BROADCAST if rng.random() < 0.7 else self.traffic.next_hop(station, target)
        return Step(station.ns, "eth0", wire.ethernet(to, station.mac, body, wire.ARP_TYPE), f"arp op {op}: {sender} asks for {target}")

    def _odd(self) -> Step:
        """Ethernet frames that are neither IPv4 nor ARP, and frames with nothing in them."""
        rng, station = self.rng, self.traffic.client()
        frame = wire.ethernet(
            self.traffic.next_hop(station, station.address), station.mac, wire.filler(rng.choice([0, 1, 20, 46, 100]), rng.randrange(256))
        )
        frame, what = broken.ethertype(frame, rng)
        if rng.random() < 0.4:
            frame, more = broken.addresses(frame, rng, self.topology)
            what = f"{what}, {more}"
        if rng.random() < 0.2:
            frame = frame[: rng.randrange(10, 16)]
        return Step(station.ns, "eth0", frame, f"{what}, {len(frame)} bytes")

    def _tunnel(self) -> Step:
        """A tunnel frame from a node, a host or a pod, its headers right or broken, a packet of some flow inside."""
        rng, topology = self.rng, self.topology
        node = rng.choice(list(topology.nodes.values()))
        others = [s for s in self.traffic.stations if s.ns != node.name and s.pod is None] + [s for s in self.traffic.stations if s.pod][:1]
        station: Station = rng.choice(others)
        inner, what = self._inner(node.macs.get("flannel.1", "02:de:ad:be:ef:01"))
        flags, reserved, vni, last = 8, 0, topology.vni, 0
        broken_header = rng.choices(["", "flags", "reserved", "vni", "last"], [70, 8, 8, 8, 6])[0]
        if broken_header == "flags":
            flags = rng.choice([0, 0x88, 0x0C, 0x48, 0xFF, 9])
        elif broken_header == "reserved":
            reserved = 1 << rng.randrange(24)
        elif broken_header == "vni":
            vni = rng.choice([0, topology.vni + 1, 4096, 0xFFFFFF])
        elif broken_header == "last":
            last = 1 << rng.randrange(8)
        body = wire.vxlan(flags, reserved, vni, last, inner)
        length = None if rng.random() < 0.95 else rng.choice([8, 15, 16, 24, len(body) + 9])
        check = rng.choices([None, 0, rng.randrange(1, 65536)], [50, 44, 6])[0]
        source = station.address if rng.random() < 0.8 else self.traffic.source(station)
        udp = wire.udp(source, node.address, rng.randrange(65536), topology.vxlan_port, body, length=length, check=check)
        packet = self.traffic.packet(
            station, source, node.address, wire.UDP, udp, f"tunnel frame to {node.name}, wrong {broken_header or 'nothing'}, inner {what}"
        )
        if rng.random() < 0.1:
            frame, more = broken.damage(packet.frame(), rng, topology)
            return Step(station.ns, "eth0", frame, f"{more}: {packet.note}")
        return self._fragments(packet) if rng.random() < 0.06 else _step(packet)

    def _inner(self, target: str) -> tuple[bytes, str]:
        rng = self.rng
        packet = self._packet(rng.choice(["open", "answer", "go on"]))
        vteps = [n.macs["flannel.1"] for n in self.topology.nodes.values() if "flannel.1" in n.macs]
        source = (
            rng.choice(vteps)
            if vteps and rng.random() < 0.9
            else rng.choice(["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:de:ad:be:ef:02"])
        )
        frame = wire.ethernet(target, source, packet.ip.build())
        if rng.random() < 0.25:
            frame, what = broken.damage(frame, rng, self.topology)
            return frame, f"{what}: {packet.note}"
        return frame, packet.note


def _step(packet: Packet) -> Step:
    return Step(packet.station.ns, "eth0", packet.frame(), packet.note)


def seeded(topology: Topology, seed: int, length: int) -> Sequence:
    """The same sequence for the same seed, as long as the cluster does the same."""
    return Sequence(topology, Random(seed), length)


def sequences(topology: Topology, length: int) -> st.SearchStrategy[Sequence]:
    """Sequences whose choices Hypothesis makes, and shrinks."""
    return st.randoms(use_true_random=False).map(lambda rng: Sequence(topology, rng, length))
