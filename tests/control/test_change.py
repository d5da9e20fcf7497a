"""A world after a change is the world of a cluster that was like that from the start."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from control.test_sites import Traffic
from dataplane import k8s
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.change import Changes
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.explain.walk import answering
from dataplane.k8s.changed import Changeable, read_changeable
from dataplane.k8s.objects import Manifests, Pod, Service
from dataplane.traffic import packets
from dataplane.traffic.segment import SYN, Segment, build_segment

ROOT = Path(__file__).parents[2]
SAMPLES = sorted([*(ROOT / "pcaps").glob("sample*/cluster.yaml"), *(ROOT / "pcaps" / "clusters").glob("*.yaml")])


class World:
    def __init__(self, manifests: Manifests, *, at_once: bool) -> None:
        self.engine = Engine(3)
        self.topology: Topology = build(manifests, self.engine, at_once=at_once)

    def tables(self) -> dict[str, Any]:
        """Routes, neighbours and FDB entries of every machine, in names."""
        engine, found = self.engine, {}
        for namespace, machine in self.topology.machines.items():
            rows = [*engine.routes(namespace), *engine.neighbours(namespace), *engine.fdb(namespace)]
            found[machine.ref] = sorted(repr(self._named(row)) for row in rows)
            found[f"settings of {machine.ref}"] = sorted(
                f"{device} {name}=" + str(engine.get_sysctl(namespace, f"net.{family}.conf.{device.replace('.', '/')}.{name}"))
                for device in self.topology.devices_of(namespace)
                for family, name in (("ipv4", "rp_filter"), ("ipv4", "proxy_arp"), ("ipv6", "disable_ipv6"))
            )
        return found

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        named = {key: self.topology.device_name(value) if key in ("dev", "master") and value >= 0 else value for key, value in row.items()}
        return named | {"origin": self.topology.origin(row["origin"])}

    def walks(self, seed: int) -> list[Any]:
        """What packets to services meet: the numbers of rules too, which only a table laid out alike gives them."""
        self.engine.trace(True)
        rng, traffic = random.Random(seed), Traffic(self.topology, seed)
        services = [address for address in traffic.ports if any(address in each.cluster_ips for each in self.topology.manifests.services)]
        for _ in range(30):
            to = rng.choice(services)
            source = rng.choice([machine for machine in traffic.machines if any(a.version == to.version for a in machine.addresses)])
            own = next(address for address in source.addresses if address.version == to.version)
            data = packets.udp_datagram(own.packed, to.packed, rng.randrange(1024, 65536), traffic.ports[to], b"x")
            kind = rng.choice((packets.PROTO_TCP, packets.PROTO_UDP))
            self.engine.send(source.namespace, packets.ip_packet(own.packed, to.packed, kind, data))
            while self.engine.run():
                self.engine.deliveries()
        place = self.topology.device_name
        events = [(each.stage, each.what, each.detail, each.device >= 0 and place(each.device)) for each in self.engine.events()]
        frames = [(each.time, place(each.device), each.outgoing, each.data) for each in self.engine.frames()]
        return [events, frames, self.engine.counters()]


def changes(manifests: Manifests, rng: random.Random) -> Iterator[tuple[list[Changeable], list[Changeable]]]:
    """What may befall a cluster, one thing after the other: put, delete."""
    known = {each.key for each in manifests.services}
    service = rng.choice([each for each in manifests.services if each.cluster_ips])
    item = rng.choice([each for each in manifests.endpoint_slices if each.endpoints and each.origin.line] or [None])
    if item is not None:
        endpoint = item.endpoints[0]
        unready = replace(endpoint, ready=not endpoint.ready, serving=not endpoint.serving)
        yield [replace(item, endpoints=(unready, *item.endpoints[1:]))], []
        yield [replace(item, endpoints=item.endpoints[1:])], []
        yield [replace(item, endpoints=(*item.endpoints, replace(endpoint, addresses=(other_address(endpoint.addresses[0]),))))], []
    if new_service(service).key not in known:
        yield [new_service(service)], []
    yield [replace(service, affinity_seconds=0 if service.affinity_seconds else 100)], []
    yield [replace(service, internal_policy="Local" if service.internal_policy == "Cluster" else "Cluster")], []
    yield [], [service]
    yield [service], [service]  # it comes back, behind all others
    pods = [each for each in manifests.pods if each.addresses and not each.host_network]
    if not pods:
        return
    pod = rng.choice(pods)
    yield [replace(pod, ready=not pod.ready)], []
    yield [replace(pod, labels={})], []
    if not any(each.name.endswith("-new") for each in manifests.pods):
        yield [new_pod(pod)], []
    yield [replace(pod, phase="Succeeded", addresses=())], []
    yield [], [pod]
    yield [pod], [pod]  # it comes back, as a new one


def other_address(address: Any) -> Any:
    return ip_address(int(address) + 100)


def new_service(like: Service) -> Service:
    ports, addresses = tuple(replace(port, node_port=0) for port in like.ports), tuple(map(other_address, like.cluster_ips))
    name = f"{like.name}-new"
    return replace(like, name=name, cluster_ips=addresses, external_ips=(), load_balancer=(), ports=ports, health_check_node_port=0)


def new_pod(like: Pod) -> Pod:
    addresses = tuple(ip_address(int(address) + 5) for address in like.addresses)
    return replace(
        like, name=f"{like.name}-new", addresses=addresses, mac="02:aa:aa:aa:aa:01", host_interface="vethnew", host_mac="02:aa:aa:aa:aa:02"
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("at_once", [True, False], ids=["made at once", "made bit by bit"])
def test_a_changed_world_is_a_fresh_one(path: Path, at_once: bool) -> None:
    manifests, rng = answering(k8s.load([str(path)])), random.Random(path.name)
    for number, (put, delete) in enumerate(changes(manifests, rng)):
        changed = World(manifests, at_once=at_once)
        if not at_once and number % 2:  # half of the cluster is there when the change comes
            for machine in list(changed.topology.machines.values())[::2]:
                changed.engine.devices(machine.namespace)
        Changes(changed.engine, changed.topology).apply(put, delete)
        fresh = World(replace(changed.topology.manifests), at_once=True)
        assert {machine.ref for machine in changed.topology.machines.values()} == {each.ref for each in fresh.topology.machines.values()}
        assert changed.tables() == fresh.tables(), (put, delete)
        assert changed.walks(number) == fresh.walks(number), (put, delete)


@pytest.mark.parametrize("seed", range(4))
def test_many_changes_in_a_row(seed: int) -> None:
    path = SAMPLES[seed % len(SAMPLES)]
    rng = random.Random(seed)
    world = World(answering(k8s.load([str(path)])), at_once=False)
    changing = Changes(world.engine, world.topology)
    for _ in range(6):
        changing.apply(*rng.choice(list(changes(world.topology.manifests, rng))))
    fresh = World(replace(world.topology.manifests), at_once=True)
    assert world.tables() == fresh.tables()
    assert world.walks(seed) == fresh.walks(seed)


def test_connections_of_udp_to_an_endpoint_that_is_gone_are_forgotten() -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    served = {each.service for each in manifests.endpoint_slices if each.endpoints}
    service = next(each for each in manifests.services if each.name in served and any(port.protocol == "UDP" for port in each.ports))
    address, port = service.cluster_ips[0].packed, next(port.port for port in service.ports if port.protocol == "UDP")
    world = World(manifests, at_once=False)
    pod = next(machine for machine in world.topology.machines.values() if machine.kind == "pod")
    item = next(each for each in manifests.endpoint_slices if each.service == service.name and each.namespace == service.namespace)
    for machine in world.topology.machines.values():
        for target in item.ports:  # everybody takes it, and answers nothing
            world.engine.open_socket(machine.namespace, packets.PROTO_UDP, target.port)
    data = packets.udp_datagram(pod.addresses[0].packed, address, 5000, port, b"x")
    world.engine.send(pod.namespace, packets.ip_packet(pod.addresses[0].packed, address, packets.PROTO_UDP, data))
    while world.engine.run():
        world.engine.deliveries()
    node = world.topology.endpoint("node/" + next(each.node for each in manifests.pods if pod.ref == f"pod/{each.key}")).namespace

    def entries() -> list[dict[str, Any]]:
        return [each for each in world.engine.conntrack(node) if each["orig"]["dst"] == address]

    (entry,) = entries()
    changing = Changes(world.engine, world.topology)
    gone = [each for each in item.endpoints if each.addresses[0].packed == entry["reply"]["src"]]
    elsewhere = replace(item.endpoints[0], addresses=(other_address(item.endpoints[0].addresses[0]),))
    changing.apply([replace(item, endpoints=(*gone, elsewhere))])
    assert entries() == [entry]
    changing.apply([replace(item, endpoints=(elsewhere,))])
    assert not entries()


def test_packets_on_their_way_to_a_pod_that_goes_are_accounted_for() -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    world = World(manifests, at_once=False)
    changing = Changes(world.engine, world.topology)
    pods = [pod for pod in manifests.pods if f"pod/{pod.key}" in {each.ref for each in world.topology.machines.values()}]
    for pod in pods[1:]:
        source, to = world.topology.endpoint(f"pod/{pods[0].key}"), world.topology.endpoint(f"pod/{pod.key}")
        for at in range(0, 60_000, 3_000):
            data = packets.echo_request(source.addresses[0].packed, to.addresses[0].packed, at, 1, b"x")
            ip = packets.ip_packet(source.addresses[0].packed, to.addresses[0].packed, packets.PROTO_ICMP, data)
            world.engine.send(source.namespace, ip, at=world.engine.now + at)
        world.engine.run(world.engine.now + 25_000)
        changing.apply(delete=[pod])
        while world.engine.run():
            world.engine.deliveries()
        count = world.engine.counters()
        came = count["in"] + count["generated"] + count["copies"] + count["fragments_made"]
        assert came == count["out"] + count["dropped"] + count["consumed"] + count["fragments_merged"] + count["held"]
    assert count["drop/neighbour/unresolved"] > 0  # nobody answers for the pod any more


@pytest.mark.parametrize("at_once", [True, False], ids=["made at once", "made bit by bit"])
def test_where_pods_are_silent_one_goes_and_then_a_service_changes(at_once: bool) -> None:
    """A silent pod has rules of its own, which go with it."""
    manifests = k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")])
    manifests = replace(manifests, config=replace(manifests.config, end_systems="silent"))
    world = World(manifests, at_once=at_once)
    changing = Changes(world.engine, world.topology)
    pod = next(pod for pod in manifests.pods if f"pod/{pod.key}" in {each.ref for each in world.topology.machines.values()})
    world.engine.devices(world.topology.endpoint(f"pod/{pod.key}").namespace)  # which makes it
    changing.apply(delete=[pod])
    changing.apply([new_service(next(each for each in manifests.services if each.cluster_ips))])
    fresh = World(replace(world.topology.manifests), at_once=True)
    assert world.tables() == fresh.tables()


def test_what_cannot_change_is_refused() -> None:
    manifests = k8s.load([str(SAMPLES[0])])
    changing = Changes(*(lambda world: (world.engine, world.topology))(World(manifests, at_once=False)))
    with pytest.raises(InputError, match="no such object to delete"):
        changing.apply(delete=[replace(manifests.services[0], name="nobody")])
    with pytest.raises(InputError, match="no node 'nowhere'"):
        changing.apply([replace(manifests.pods[0], node="nowhere")])
    with pytest.raises(InputError, match="only Service, EndpointSlice and Pod"):
        read_changeable([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}], manifests, "x.yaml")
    with pytest.raises(InputError, match=r"status.podIP is missing"):
        read_changeable([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1"}}], manifests, "x.yaml")


def test_a_change_that_is_refused_changes_nothing() -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    world, fresh = World(manifests, at_once=False), World(manifests, at_once=False)
    changing = Changes(world.engine, world.topology)
    service = next(each for each in manifests.services if each.cluster_ips)
    pod, other = [each for each in manifests.pods if each.addresses and not each.host_network][:2]
    outside = replace(new_pod(pod), addresses=(ip_address("203.0.113.9"),))
    wrong: list[tuple[list[Changeable], list[Changeable], str]] = [
        ([new_service(service), replace(pod, node="nowhere")], [], "no node 'nowhere'"),
        ([new_service(service), outside], [], "not in the podCIDR"),
        ([new_service(service)], [service, service], "no such object to delete"),
        ([new_service(service), replace(new_pod(pod), addresses=other.addresses, node=other.node)], [], "is taken by"),
        ([new_service(service), replace(new_service(service), name="twin")], [], "is taken by"),
        ([replace(service, name="twin")], [], "is taken by"),
        ([with_node_port(new_service(service)), with_node_port(replace(service, cluster_ips=()))], [], "nodePort 31999 TCP is taken"),
    ]
    for put, delete, why in wrong:
        with pytest.raises(InputError, match=why):
            changing.apply(put, delete)
    assert world.topology.manifests is manifests
    changing.apply([pod])  # which is there already
    assert world.tables() == fresh.tables()
    assert world.walks(1) == fresh.walks(1)


def with_node_port(service: Service) -> Service:
    return replace(service, ports=(replace(service.ports[0], protocol="TCP", node_port=31999),))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", ["flannel-vxlan", "calico"])
def test_two_pods_of_a_node_exchange_their_addresses(name: str, at_once: bool) -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / f"{name}.yaml")]))
    pods = [each for each in manifests.pods if each.addresses and not each.host_network]
    one, other = next((a, b) for a in pods for b in pods if a is not b and a.node == b.node and len(a.addresses) == len(b.addresses))
    world = World(manifests, at_once=at_once)
    swapped = [replace(one, addresses=other.addresses), replace(other, addresses=one.addresses)]
    Changes(world.engine, world.topology).apply([replace(one, ready=not one.ready), *swapped])  # the last of one name counts
    fresh = World(replace(world.topology.manifests), at_once=True)
    assert world.topology.endpoint(f"pod/{one.key}").addresses == other.addresses
    assert world.topology.mac_of(other.addresses[0].packed) == world.topology.endpoint(f"pod/{one.key}").mac
    assert world.tables() == fresh.tables()
    assert world.walks(2) == fresh.walks(2)


def test_an_endpoint_that_two_slices_name_is_each_nodes_own_affair() -> None:
    """On the endpoint's node the slice counts that knows where it is, elsewhere the first one, which here says that it is not ready."""
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    item = next(each for each in manifests.endpoint_slices if len(each.endpoints) > 1 and each.endpoints[0].node)
    nameless = replace(item.endpoints[0], node="", ready=False, serving=False)
    first = replace(item, endpoints=(nameless, *item.endpoints[1:]))
    second = replace(item, name="second", endpoints=item.endpoints[:1])
    both = replace(manifests, endpoint_slices=tuple(each for each in manifests.endpoint_slices if each is not item) + (first, second))
    whole, books = World(both, at_once=True), World(both, at_once=False)
    assert books.walks(3) == whole.walks(3)
    changed = World(manifests, at_once=False)
    Changes(changed.engine, changed.topology).apply([first, second])
    assert changed.walks(3) == World(replace(changed.topology.manifests), at_once=True).walks(3)


def test_a_world_built_from_a_changed_ones_objects_does_not_follow_its_further_changes() -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    pod = next(each for each in manifests.pods if each.addresses and not each.host_network)
    world = World(manifests, at_once=False)
    changing = Changes(world.engine, world.topology)
    changing.apply([new_pod(pod)])
    heir, expected = World(world.topology.manifests, at_once=False), World(replace(world.topology.manifests), at_once=True)
    changing.apply(delete=[pod])
    assert heir.tables() == expected.tables()
    assert heir.walks(4) == expected.walks(4)


def test_what_a_client_is_tied_to_survives_a_change_of_other_services() -> None:
    manifests = answering(k8s.load([str(ROOT / "pcaps" / "clusters" / "flannel-vxlan.yaml")]))
    slices = [each for each in manifests.endpoint_slices if len(each.endpoints) > 1]
    item, service = next((each, own) for each in slices for own in manifests.services if own.key == f"{each.namespace}/{each.service}")
    tied = replace(service, affinity_seconds=10_000)
    manifests = replace(manifests, services=tuple(tied if each is service else each for each in manifests.services))
    world = World(manifests, at_once=True)  # its nodes have tables of their own until the change
    pod = next(machine for machine in world.topology.machines.values() if machine.kind == "pod")
    target, own = service.cluster_ips[0].packed, pod.addresses[0].packed
    port = next(each for each in service.ports if each.protocol == "TCP")

    def chosen(sports: range) -> set[bytes]:
        for sport in sports:
            syn = build_segment(own, target, Segment(sport, port.port, 1, 0, SYN, 64240))
            world.engine.send(pod.namespace, packets.ip_packet(own, target, packets.PROTO_TCP, syn))
            while world.engine.run():
                world.engine.deliveries()
        addresses = {each.addresses[0].packed for each in item.endpoints}
        return {frame.data[30:34] for frame in world.engine.frames() if frame.data[30:34] in addresses and frame.data[47] == SYN}

    (before,) = chosen(range(2000, 2005))
    other = next(each for each in manifests.services if each.cluster_ips and each.key != service.key)
    Changes(world.engine, world.topology).apply([new_service(other)])
    assert chosen(range(3000, 3012)) == {before}
