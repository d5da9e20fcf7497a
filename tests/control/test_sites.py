"""A cluster that is made bit by bit is the one that is made at once, for everybody who looks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane import k8s
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.topology import Machine, Topology
from dataplane.explain.walk import answering
from dataplane.k8s.objects import IPAddress, Manifests
from dataplane.traffic import packets
from dataplane.traffic.segment import SYN, Segment, build_segment

ROOT = Path(__file__).parents[2]
SAMPLES = sorted([*(ROOT / "pcaps").glob("**/cluster*.yaml"), *(ROOT / "pcaps" / "clusters").glob("*.yaml")])

PACKETS = 120


class World:
    """A cluster and what became of its packets, in names where numbers may differ."""

    def __init__(self, manifests: Manifests, *, at_once: bool) -> None:
        self.engine = Engine(7)
        self.topology = build(manifests, self.engine, at_once=at_once)
        self.engine.trace(True)

    def play(self, seed: int) -> None:
        traffic = Traffic(self.topology, seed)
        for number in range(PACKETS):
            traffic.one(self.engine, self.engine.now + number * 1_000)
            if number % 10 == 9:
                while self.engine.run():
                    self.engine.deliveries()

    def happened(self) -> dict[str, Any]:
        origin = self.topology.origin
        return {
            "frames": self.engine.frames(),
            "drops": [(each._replace(origin=0), origin(each.origin)) for each in self.engine.drops()],
            "events": [(each._replace(origin=0), origin(each.origin)) for each in self.engine.events()],
            "counters": self.engine.counters(),
        }

    def tables(self) -> dict[str, Any]:
        """Of every machine."""
        engine, found = self.engine, {}
        for namespace, machine in self.topology.machines.items():
            rows = [engine.devices(namespace), engine.routes(namespace), engine.neighbours(namespace), engine.fdb(namespace)]
            found[machine.ref] = [self._named(row) for row in (*rows, engine.conntrack(namespace))]
        return found

    def _named(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.topology.origin(item) if key == "origin" else self._named(item) for key, item in value.items()}
        return [self._named(item) for item in value] if isinstance(value, list) else value


class Traffic:
    """Packets from everybody to everybody, the same for the same names and seed."""

    def __init__(self, topology: Topology, seed: int) -> None:
        self.rng = random.Random(seed)
        self.machines: list[Machine] = sorted(topology.machines.values(), key=lambda machine: machine.ref)
        manifests = topology.manifests
        self.ports = {address: port.port for each in manifests.services for address in each.cluster_ips for port in each.ports}
        self.ports |= {address: 80 for machine in self.machines for address in machine.addresses}
        self.ports |= {network[-3]: 9 for network in (*manifests.config.underlay.cidrs, *manifests.config.pod_cidrs)}

    def one(self, engine: Engine, at: int) -> None:
        source = self.rng.choice(self.machines)
        own = self.rng.choice(source.addresses)
        to = self.rng.choice([address for address in self.ports if address.version == own.version])
        if self.rng.random() < 0.2:
            self._raw(engine, source, own, to, at)
            return
        engine.send(source.namespace, self._packet(own.packed, to.packed, self.ports[to], own.version), at=at)

    def _packet(self, source: bytes, to: bytes, port: int, version: int) -> bytes:
        kind, sport = self.rng.choice("tui"), self.rng.randrange(1024, 65536)
        if kind == "t":
            return packets.ip_packet(source, to, packets.PROTO_TCP, build_segment(source, to, Segment(sport, port, 1, 0, SYN, 64240)))
        if kind == "u":
            return packets.ip_packet(source, to, packets.PROTO_UDP, packets.udp_datagram(source, to, sport, port, bytes(20)))
        number = packets.PROTO_ICMP if version == 4 else packets.PROTO_ICMP6
        return packets.ip_packet(source, to, number, packets.echo_request(source, to, sport, 1, b"ping"))

    def _raw(self, engine: Engine, source: Machine, own: IPAddress, to: IPAddress, at: int) -> None:
        """A frame as nobody's stack would send it: to a MAC of somebody else, to nobody's, or to all."""
        somebody = self.rng.choice(self.machines).mac
        groups = [b"\x33\x33\xff" + to.packed[-3:], b"\x01\x00\x5e\x00\x00\x05"]
        mac = self.rng.choice([b"\xff" * 6, b"\x02\x00\x00\x00\x00\x99", somebody, *groups])
        if self.rng.random() < 0.5 and own.version == 4:
            asks = b"\0\1\x08\0\6\4\0\1" + source.mac + own.packed + bytes(6) + to.packed
            engine.inject(source.eth0, mac + source.mac + b"\x08\x06" + asks, at=at)
            return
        kind = b"\x08\x00" if own.version == 4 else b"\x86\xdd"
        engine.inject(source.eth0, mac + source.mac + kind + self._packet(own.packed, to.packed, 9, own.version), at=at)


def worlds(path: Path, *, silent: bool) -> Iterator[World]:
    manifests = k8s.load([str(path)])
    manifests = manifests if silent else answering(manifests)
    for at_once in (True, False):
        yield World(manifests, at_once=at_once)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("seed", range(3))
def test_packets_meet_the_same(path: Path, seed: int) -> None:
    whole, bit_by_bit = worlds(path, silent=seed == 0)
    for world in (whole, bit_by_bit):
        world.play(seed)
    happened = whole.happened(), bit_by_bit.happened()
    for kind in happened[0]:
        assert happened[1][kind] == happened[0][kind], kind
    assert bit_by_bit.tables() == whole.tables()
    assert bit_by_bit.topology.device_ids() == whole.topology.device_ids()


def test_a_machine_that_nothing_concerns_is_not_made() -> None:
    _, world = worlds(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml", silent=False)
    nodes = [machine for machine in world.topology.machines.values() if machine.kind == "node"]
    assert not any(world.engine.is_made(machine.namespace) for machine in world.topology.machines.values() if machine.kind != "host")
    source, destination = (node.addresses[0].packed for node in nodes[:2])
    world.engine.send(nodes[0].namespace, Traffic(world.topology, 1)._packet(source, destination, 9, 4))
    while world.engine.run():
        world.engine.deliveries()
    made = [world.engine.is_made(machine.namespace) for machine in nodes]
    assert made == [True, True] + [False] * (len(nodes) - 2)
