"""Which paths of a cluster are worth a look: one for each way of getting there, not one for each pair of pods.

Nodes are alike if they have the same devices with the same MTUs, and addresses in the same subnets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

from dataplane.control.pods import networked_pods
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import subnet_of
from dataplane.errors import InputError
from dataplane.explain.mtu_path import Devices
from dataplane.explain.mtu_proof import DISCARD, Path, address_of
from dataplane.explain.target import Wanted, find_source, find_target
from dataplane.k8s.objects import Manifests, Node, Service, ServicePort


@dataclass(frozen=True, slots=True)
class Case:
    """A path and what it stands for."""

    kind: str
    path: Path
    alike: int  # pairs of nodes, or nodes, that have a path like this one


class Populated(NamedTuple):
    """A node and its pods that have an address of the IP version in question."""

    machine: Machine
    likeness: Hashable
    pods: list[Machine]


class Backend(NamedTuple):
    """What an address and port of a service lead to."""

    service: Service
    port: ServicePort
    machine: Machine
    number: int


def every_case(manifests: Manifests, topology: Topology, devices: Devices) -> Iterator[Case]:
    """By IP version: pod to pod, to nodes, to the outside, to a service."""
    for version in (4, 6):
        nodes = populated(manifests, topology, devices, version)
        yield from _within_nodes(nodes, version)
        yield from _across_nodes(nodes, version)
        yield from _outside(manifests, topology, nodes, version)
        yield from _services(manifests, topology, nodes, version)


def populated(manifests: Manifests, topology: Topology, devices: Devices, version: int) -> list[Populated]:
    """The nodes with an address of IP version ``version``."""
    pods = networked_pods(manifests)
    found = []
    for node in manifests.nodes:
        machine = topology.endpoint(f"node/{node.name}")
        own = [topology.endpoint(f"pod/{pod.key}") for pod in pods[node.name]]
        if _has(machine, version):
            found.append(Populated(machine, _likeness(manifests, node, machine, devices), [pod for pod in own if _has(pod, version)]))
    return found


def _has(machine: Machine, version: int) -> bool:
    return any(address.version == version for address in machine.addresses)


def _likeness(manifests: Manifests, node: Node, machine: Machine, devices: Devices) -> Hashable:
    """Veth pairs of pods have names of their own, which make no difference."""
    own = {
        (device["name"] if device["kind"] != "veth" or device["id"] == machine.eth0 else "", device["kind"], device["mtu"])
        for device in devices.values()
        if device["ns"] == machine.namespace
    }
    subnets = manifests.config.underlay.cidrs
    return frozenset(own), tuple(subnet_of(address, subnets, node.origin) for address in node.addresses)


def _plain(source: Machine, receiver: Machine, version: int) -> Path:
    return Path(source, address_of(receiver, version), receiver, "udp", DISCARD, DISCARD, receiver.ref)


def _within_nodes(nodes: list[Populated], version: int) -> Iterator[Case]:
    for group in _groups([node for node in nodes if len(node.pods) > 1]):
        yield Case("pod to pod, same node", _plain(group[0].pods[0], group[0].pods[1], version), len(group))
    for group in _groups([node for node in nodes if node.pods]):
        yield Case("pod to its own node", _plain(group[0].pods[0], group[0].machine, version), len(group))


def _groups(nodes: list[Populated]) -> list[list[Populated]]:
    found: dict[Hashable, list[Populated]] = {}
    for node in nodes:
        found.setdefault(node.likeness, []).append(node)
    return list(found.values())


def _across_nodes(nodes: list[Populated], version: int) -> Iterator[Case]:
    senders, receivers = _groups([node for node in nodes if node.pods]), _groups(nodes)
    for one, other in product(senders, senders):
        for sender, receiver in _pair(one, other):
            yield Case("pod to pod, other node", _plain(sender.pods[0], receiver.pods[0], version), _pairs(one, other))
    for one, other in product(senders, receivers):
        for sender, receiver in _pair(one, other):
            yield Case("pod to other node", _plain(sender.pods[0], receiver.machine, version), _pairs(one, other))


def _pair(one: list[Populated], other: list[Populated]) -> list[tuple[Populated, Populated]]:
    """The first two different nodes, if there are such."""
    return list(islice(((a, b) for a in one for b in other if a.machine is not b.machine), 1))


def _pairs(one: list[Populated], other: list[Populated]) -> int:
    """How many pairs of different nodes there are."""
    return len(one) * len(other) - len({node.machine.ref for node in one} & {node.machine.ref for node in other})


def _outside(manifests: Manifests, topology: Topology, nodes: list[Populated], version: int) -> Iterator[Case]:
    there = [topology.endpoint(f"host/{host.name}") for host in manifests.config.underlay.hosts if host.behind is None]
    host = next((machine for machine in there if _has(machine, version)), None)
    for group in _groups([node for node in nodes if node.pods]):
        if host is not None:
            yield Case("pod to outside", _plain(group[0].pods[0], host, version), len(group))


# ---- services


def _services(manifests: Manifests, topology: Topology, nodes: list[Populated], version: int) -> Iterator[Case]:
    """The first service with a backend, from each sort of node, and rather to another node's pod than to a neighbour's."""
    there = list(backends(manifests, topology, version))
    for group in _groups([node for node in nodes if node.pods]):
        node, source = group[0], group[0].pods[0]
        others = [backend for backend in there if backend.machine not in node.pods]
        chosen = next(iter(others or [backend for backend in there if backend.machine is not source]), None)
        if chosen is not None:
            yield Case("pod to service", _to_service(source, chosen, node.machine.namespace, version), len(group))


def backends(manifests: Manifests, topology: Topology, version: int) -> Iterator[Backend]:
    """Every ready endpoint of every service with a cluster IP of this IP version, port by port."""
    owners = {address: machine for machine in topology.machines.values() for address in machine.addresses}
    services = {service.key: service for service in manifests.services}
    for each in manifests.endpoint_slices:
        service = services.get(f"{each.namespace}/{each.service}")
        if service is None or not any(address.version == version for address in service.cluster_ips):
            continue
        numbers = {(port.name, port.protocol): port.port for port in each.ports}
        machines = [owners.get(address) for end in each.endpoints if end.ready for address in end.addresses if address.version == version]
        for machine in machines:
            for port in service.ports:
                if machine is not None and (port.name, port.protocol) in numbers:
                    yield Backend(service, port, machine, numbers[port.name, port.protocol])


def _to_service(source: Machine, backend: Backend, through: int, version: int) -> Path:
    address = next(address for address in backend.service.cluster_ips if address.version == version)
    label = f"service/{backend.service.key}:{backend.port.port} ({backend.machine.ref})"
    protocol = backend.port.protocol.lower()
    return Path(source, address, backend.machine, protocol, backend.port.port, backend.number, label, through)


# ---- what a user names


def named_cases(manifests: Manifests, topology: Topology, source: str, to: str, namespace: str) -> Iterator[Case]:
    """The path from one place to another, of each IP version that both have. InputError: there is none."""
    machine = find_source(topology, source, namespace)
    paths = [path for version in (4, 6) if (path := _named_path(manifests, topology, machine, to, namespace, version))]
    if not paths:
        target = find_target(topology, to, namespace, machine, Wanted())  # says what is wrong with the names
        raise InputError(f"{target.label}: no pod, node or host of this cluster is there to receive anything: name one that is")
    yield from (Case("as asked", path, 1) for path in paths)


def _named_path(manifests: Manifests, topology: Topology, source: Machine, to: str, namespace: str, version: int) -> Path | None:
    """None: not with this IP version."""
    try:
        target = find_target(topology, to, namespace, source, Wanted("", "", version))
    except InputError:
        return None
    if target.label.startswith("service/"):
        wanted = (target.label.removeprefix("service/"), target.port, target.protocol.upper())
        for backend in backends(manifests, topology, version):
            if (backend.service.key, backend.port.port, backend.port.protocol) == wanted and backend.machine is not source:
                return _to_service(source, backend, node_of(manifests, topology, source), version)
        return None
    receiver = next((machine for machine in topology.machines.values() if target.address in machine.addresses), None)
    return _plain(source, receiver, version) if receiver is not None else None


def node_of(manifests: Manifests, topology: Topology, machine: Machine) -> int:
    """The namespace whose rules a machine's packets meet first."""
    node = next((pod.node for pod in manifests.pods if f"pod/{pod.key}" == machine.ref), None)
    return topology.endpoint(f"node/{node}").namespace if node else machine.namespace
