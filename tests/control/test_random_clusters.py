"""Random clusters whose nodes have their rules in books behave like those whose rules were set node by node, changed or not."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from agreement.clusters import random_cluster
from agreement.script import manifests_of
from control.test_change import World as Changed
from control.test_change import changes
from control.test_sites import Traffic
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.change import Changes
from dataplane.control.firewall import use_books
from dataplane.control.topology import Topology
from dataplane.explain.walk import answering
from dataplane.k8s.objects import Manifests
from dataplane.traffic import packets
from dataplane.traffic.segment import ACK, SYN, Segment, build_segment

PACKETS = 250
NODE_PORTS = 0.3  # of packets go to some


class World:
    """A cluster at work; what is seen is in names, so that numbers may differ."""

    def __init__(self, manifests: Manifests, *, books: bool, traced: bool, at_once: bool = True) -> None:
        self.engine = Engine(5)
        self.topology: Topology = build(manifests, self.engine, at_once=at_once)
        for node in manifests.nodes if books and at_once else ():
            use_books(self.engine, self.topology, self.topology.endpoint(f"node/{node.name}").namespace, node)
        self.engine.trace(traced)

    def play(self, seed: int) -> None:
        """Connections of all kinds, of which some go on for a while."""
        traffic, rng = Traffic(self.topology, seed), random.Random(seed)
        known: list[Any] = []
        services = self.topology.manifests.services
        node_ports = [port.node_port for each in services for port in each.ports if port.node_port]
        traffic.ports |= {one.address: 80 for each in services for one in each.load_balancer}
        for number in range(PACKETS):
            if known and rng.random() < 0.4:
                source, to, own, kind, sport, port = rng.choice(known)
            else:
                source = rng.choice(traffic.machines)
                own = rng.choice(source.addresses)
                to = rng.choice([address for address in traffic.ports if address.version == own.version])
                kind, sport, port = rng.choice("tu"), rng.randrange(1024, 65536), traffic.ports[to]
                if node_ports and rng.random() < NODE_PORTS:
                    port = rng.choice(node_ports)
                known.append((source, to, own, kind, sport, port))
            flags = SYN if rng.random() < 0.7 else ACK
            tcp = build_segment(own.packed, to.packed, Segment(sport, port, number, 0, flags, 64240))
            data = tcp if kind == "t" else packets.udp_datagram(own.packed, to.packed, sport, port, bytes(20))
            protocol = packets.PROTO_TCP if kind == "t" else packets.PROTO_UDP
            self.engine.send(source.namespace, packets.ip_packet(own.packed, to.packed, protocol, data), at=self.engine.now + number * 100)
            if number % 10 == 9:
                while self.engine.run():
                    self.engine.deliveries()

    def seen(self) -> dict[str, Any]:
        """``order`` counts steps too, and a machine that is not made takes fewer."""
        engine, origin = self.engine, self.topology.origin
        return {
            "frames": [each._replace(order=0) for each in engine.frames()],
            "drops": [(each._replace(origin=0, order=0), origin(each.origin)) for each in engine.drops()],
            "events": [(each._replace(origin=0, order=0), origin(each.origin)) for each in engine.events()],
            "counters": engine.counters(),
            "conntrack": [engine.conntrack(namespace) for namespace in self.topology.machines],
        }


@pytest.mark.parametrize("seed", range(30))
def test_rules_in_books_decide_as_those_of_each_node(seed: int) -> None:
    manifests = manifests_of(random_cluster(random.Random(seed)).cluster)
    manifests = manifests if seed % 3 else answering(manifests)
    traced = seed % 2 == 0  # else some packets go through the flow cache
    seen = []
    for books, at_once in ((False, True), (True, True), (True, False)):
        world = World(manifests, books=books, traced=traced, at_once=at_once)
        world.play(seed)
        seen.append(world.seen())
    whole, in_books, bit_by_bit = seen
    assert whole["counters"]["rules_walked"] > 0
    for kind in whole:
        assert in_books[kind] == whole[kind], kind
        assert kind == "events" or bit_by_bit[kind] == whole[kind], kind


@pytest.mark.parametrize("seed", range(30))
def test_after_any_changes_a_world_is_a_fresh_one(seed: int) -> None:
    rng = random.Random(seed)
    manifests = answering(manifests_of(random_cluster(rng).cluster))
    world = Changed(manifests, at_once=seed % 3 == 0)
    for machine in list(world.topology.machines.values())[:: 1 + seed % 3]:
        world.engine.devices(machine.namespace)  # which makes it
    changing, done = Changes(world.engine, world.topology), 0
    while done < 6 and any(service.cluster_ips for service in world.topology.manifests.services):
        changing.apply(*rng.choice(list(changes(world.topology.manifests, rng))))
        done += 1
    fresh = Changed(replace(world.topology.manifests), at_once=True)  # of which nothing has been found out
    assert world.tables() == fresh.tables()
    if any(service.cluster_ips for service in fresh.topology.manifests.services):
        assert world.walks(seed) == fresh.walks(seed)
    assert done or not any(service.cluster_ips for service in manifests.services)
