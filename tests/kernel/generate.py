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

from . import broken, broken6, discovery, setups, wire
from .oracle import QUIET, QUIET_RESOLVING
from .record import Step
from .taps import Seen
from .topology import Topology
from .traffic import Packet, Station, Traffic
from .traffic6 import Traffic6
from .wire import Ip, Ip6

# actions and how often each is taken, by theme
THEMES: dict[str, dict[str, int]] = {
    "mixed": {
        "open": 30,
        "answer": 30,
        "go on": 14,
        "error": 8,
        "fragments": 6,
        "again": 4,
        "neighbours": 4,
        "odd": 2,
        "tunnel": 4,
        "damage": 16,
    },
    "connections": {"open": 22, "answer": 45, "go on": 30, "error": 3, "again": 3},
    "errors": {"open": 30, "answer": 22, "error": 40, "go on": 4, "fragments": 3},
    "fragments": {"open": 10, "answer": 15, "fragments": 60, "error": 4, "again": 5},
    "sizes": {"open": 40, "answer": 25, "go on": 20, "error": 5, "fragments": 8, "again": 2},
    "damage": {"open": 14, "answer": 14, "go on": 6, "damage": 60, "neighbours": 6, "odd": 6},
    "clashes": {"open": 45, "clash": 30, "answer": 30, "error": 5, "go on": 6},
    "tunnel": {"open": 14, "answer": 14, "tunnel": 60, "error": 5},
    "extensions": {"open": 60, "answer": 20, "go on": 10, "error": 6, "fragments": 6, "damage": 6},
    "discovery": {"neighbours": 60, "resolve": 12, "open": 15, "answer": 10, "damage": 5},
    "routes": {"open": 75, "answer": 15, "go on": 5, "error": 5},
    "timeouts": {"open": 5, "answer": 10, "fragments": 70, "pause": 15},
}
IPV6_THEMES = ("extensions", "discovery", "routes", "timeouts")
OTHER_FAMILY = (0.0, 0.0, 0.1, 0.5)  # how many frames of a dual-stack sequence are of the cluster's first family


class Sequence:
    """At most ``length`` steps on one cluster, each of one of its address families."""

    def __init__(self, topology: Topology, rng: Random, length: int) -> None:
        self.rng, self.left = rng, length
        self.speakers: list[Traffic] = [(Traffic6 if f == 6 else Traffic)(view, rng) for f, view in topology.views.items()]
        self.traffic = self.speakers[-1]
        six = 6 in topology.views
        themes = [t for t in THEMES if (t != "tunnel" or topology.backend == "vxlan") and (t not in IPV6_THEMES or six)]
        self.theme = rng.choices(themes, [3 if t == "mixed" else 1 for t in themes])[0]
        if self.theme == "sizes":
            for speaker in self.speakers:
                speaker.large = 0.8
        if self.theme == "extensions":
            self.traffic.extended = 0.7
        self.other_family = rng.choice(OTHER_FAMILY) if len(self.speakers) > 1 else 0.0
        self.waiting: list[Step] = []  # fragments not sent yet
        self.sent: list[Step] = []

    def __call__(self, frames: Series[Seen]) -> Step | None:
        """The next step, given the frames that the last one led to; None: the end."""
        if self.left == 0:
            return None
        self.left -= 1
        for speaker in self.speakers:
            speaker.note_arrivals(frames)
        if len(self.speakers) > 1:
            self.traffic = self.speakers[0 if self.rng.random() < self.other_family else 1]
        step = self._resolution(frames) or self._next()
        if self.sent and self.sent[-1].quiet == QUIET:  # a node still asks: what it asks and that it gives up belong to this step
            step = replace(step, quiet=max(step.quiet or 0.0, QUIET_RESOLVING))
        if not self.sent:
            step = replace(step, setup=self._setup())
        elif self.theme == "sizes" and self.topology.family == 6 and self.rng.random() < 0.06:
            step = replace(step, setup=self.rng.choice([setups.sizes, setups.sizes6])(self.topology, self.rng))
        self.sent.append(step)
        return step

    def _resolution(self, frames: Series[Seen]) -> Step | None:
        """After a step that does not wait for nodes to give up resolving an address: somebody answers for it."""
        if not self.sent or self.sent[-1].quiet != QUIET:
            return None
        made = (discovery.claim(t, frames) for t in self.speakers if isinstance(t, Traffic6))
        return next((_step(packet) for packet in made if packet is not None), None)

    def _setup(self) -> setups.Commands:
        """Some sequences run on a cluster with other sizes or, in IPv6, with other routes or settings."""
        rng, theme = self.rng, self.theme
        if theme == "timeouts":
            return setups.fragment_timeouts6(self.topology, rng)
        if rng.random() > (0.6 if theme in ("sizes", "routes") else 0.12):
            return ()
        if self.topology.family == 4 or (theme == "sizes" and rng.random() < 0.3):
            return setups.sizes(self.topology, rng)
        chosen = {"sizes": setups.sizes6, "routes": setups.routes6, "discovery": setups.proxies6}
        return chosen.get(theme, rng.choice([setups.settings6, setups.sizes, setups.sizes6]))(self.topology, rng)

    def _next(self) -> Step:
        if self.waiting and self.rng.random() < 0.75:
            return self.waiting.pop(0)
        weights = THEMES[self.theme]
        action = self.rng.choices(list(weights), list(weights.values()))[0]
        if action == "neighbours":
            return _step(discovery.message(self.traffic)) if isinstance(self.traffic, Traffic6) else self._arp()
        if action == "odd":
            return self._odd()
        if action == "again" and self.sent:
            last = self.rng.choice(self.sent[-3:])
            return Step(last.ns, last.iface, last.frame, f"again: {last.note}")
        if action == "tunnel":
            return self._too_big_for_tunnel() if self.topology.family == 6 and self.rng.random() < 0.08 else self._tunnel()
        if action == "resolve" and isinstance(self.traffic, Traffic6):
            return replace(_step(discovery.unresolved(self.traffic)), quiet=QUIET)
        packet = self._packet(action)
        if action == "pause":
            return replace(_step(packet), quiet=setups.FRAGMENT_TIMEOUT + 0.3)
        if action == "fragments":
            return self._fragments(packet)
        if action == "damage":
            frame, what = self._damage(packet.frame())
            return Step(packet.station.ns, "eth0", frame, f"{what}: {packet.note}")
        return _step(packet)

    @property
    def topology(self) -> Topology:
        return self.traffic.topology

    def _damage(self, frame: bytes) -> broken.Damaged:
        return (broken.damage if frame[12:14] == b"\x08\0" else broken6.damage)(frame, self.rng, self.topology)

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
            ip = replace(ip, payload=wire.udp(ip.source, ip.target, sport, dport, data))
        if isinstance(ip, Ip6) and rng.random() < 0.3:
            ip = ip.folded()
        if len(ip.payload) < 16:
            return _step(packet)
        largest = (self.topology.pod_mtu - (20 if isinstance(ip, Ip) else 48 + len(wire.chained(ip.extensions, 0)))) // 8 * 8
        cuts = sorted({8 * rng.randrange(1, max(2, len(ip.payload) // 8 + 1)) for _ in range(rng.choice([1, 1, 2, 2, 3, 5]))})
        cuts = [c for c in cuts if c < len(ip.payload)]
        edges = [0, *cuts, len(ip.payload)]
        edges = sorted({*edges, *(e for a, b in pairwise(edges) for e in range(a, b, largest))})
        pieces: Series[Ip | Ip6] = ip.fragments(edges[1:-1])
        notes = [f"fragment {a}..{b} of {len(ip.payload)}, {packet.note}" for a, b in pairwise(edges)]
        steps = [_step(replace(packet, ip=piece, note=note)) for piece, note in zip(pieces, notes, strict=True)]
        steps = self._disturb(packet, ip, edges, steps)
        self.waiting += steps[1:]
        return steps[0]

    def _disturb(self, packet: Packet, ip: Ip | Ip6, edges: list[int], steps: list[Step]) -> list[Step]:
        rng = self.rng
        tricks = {"order": 30, "reverse": 12, "shuffle": 20, "twice": 10, "lost": 6, "overlap": 12, "uneven": 5}
        if isinstance(ip, Ip6):
            tricks |= {"fields": 14, "atomic": 5}
        trick = rng.choices(list(tricks), list(tricks.values()))[0]
        if trick == "reverse":
            steps.reverse()
        elif trick == "shuffle":
            rng.shuffle(steps)
        elif trick == "twice":
            steps.insert(rng.randrange(len(steps) + 1), rng.choice(steps))
        elif trick == "lost" and len(steps) > 1:
            steps.pop(rng.randrange(len(steps)))
        elif trick == "fields":
            return [self._other_fields(step) for step in steps]
        elif trick == "atomic" and isinstance(ip, Ip6):
            steps.insert(rng.randrange(len(steps) + 1), _step(replace(packet, ip=ip.piece(0, 64, more=False), note="atomic fragment")))
        elif trick in ("overlap", "uneven"):
            start = max(0, rng.choice(edges[:-1]) - 8 * (trick == "overlap"))
            end = min(len(ip.payload), start + rng.choice([8, 16, 24, 100] if trick == "overlap" else [3, 9, 20]))
            piece = ip.piece(start, end, more=rng.random() < 0.7)
            steps.insert(
                rng.randrange(len(steps) + 1),
                _step(Packet(packet.station, packet.next_hop, piece, f"{trick}: fragment {start}..{end}, {packet.note}")),
            )
        return steps

    def _other_fields(self, step: Step) -> Step:
        """An IPv6 fragment whose traffic class, hop limit or next header is not that of the others."""
        rng, frame = self.rng, bytearray(step.frame)
        if rng.random() < 0.5:
            return step
        at, value = rng.choice(
            [(15, rng.choice([0x00, 0x10, 0x20, 0x30])), (15, 0x30), (21, rng.choice([1, 2, 60])), (54, rng.choice([6, 17, 60]))]
        )
        frame[at] = value
        return replace(step, frame=bytes(frame), note=f"byte {at} is {value}: {step.note}")

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
        rng, topology, outer = self.rng, self.topology, self.traffic
        node = rng.choice(list(topology.nodes.values()))
        others = [s for s in self.traffic.stations if s.ns != node.name and s.pod is None] + [s for s in self.traffic.stations if s.pod][:1]
        station: Station = rng.choice(others)
        if rng.random() < 0.2:
            self.traffic = rng.choice(self.speakers)
        inner, what = self._inner(node.macs.get(topology.tunnel_device, "02:de:ad:be:ef:01"), topology.tunnel_device)
        self.traffic = outer
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
            frame, more = self._damage(packet.frame())
            return Step(station.ns, "eth0", frame, f"{more}: {packet.note}")
        return self._fragments(packet) if rng.random() < 0.06 else _step(packet)

    def _too_big_for_tunnel(self) -> Step:
        """Somebody on the underlay tells a node that its tunnel frames to another are too big."""
        rng, topology = self.rng, self.topology
        station = next(s for s in self.traffic.stations if s.pod is None and s.ns not in topology.nodes)
        near, far = rng.sample(list(topology.nodes.values()), 2)
        udp = wire.udp(near.address, far.address, rng.randrange(32768, 61000), topology.vxlan_port, bytes(200))
        quote = Ip6(near.address, far.address, wire.UDP, udp).build()
        mtu = rng.choice([1400, 1280, 1200])
        body = wire.icmp6(station.address, near.address, 2, 0, mtu.to_bytes(4, "big"), quote)
        return _step(self.traffic.packet(station, station.address, near.address, wire.ICMP6, body, f"tunnel frames too big for {mtu}"))

    def _inner(self, target: str, device: str) -> tuple[bytes, str]:
        rng = self.rng
        packet = self._packet(rng.choice(["open", "answer", "go on"]))
        vteps = [n.macs[device] for n in self.topology.nodes.values() if device in n.macs]
        source = (
            rng.choice(vteps)
            if vteps and rng.random() < 0.9
            else rng.choice(["00:00:00:00:00:00", "01:00:5e:00:00:01", "02:de:ad:be:ef:02"])
        )
        frame = wire.ethernet(target, source, packet.ip.build(), wire.IP_TYPE if isinstance(packet.ip, Ip) else wire.IP6_TYPE)
        if rng.random() < 0.25:
            frame, what = self._damage(frame)
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
