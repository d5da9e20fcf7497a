"""Which flows are carried through every data path: named by objects of the cluster, so that they are the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dataplane.control.pods import networked_pods
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import subnet_of
from dataplane.errors import InputError
from dataplane.explain.mtu_pairs import backends, node_of
from dataplane.explain.mtu_proof import DISCARD
from dataplane.explain.target import Wanted, find_source, find_target
from dataplane.k8s.objects import IPAddress, Manifests, Node, Pod

PROTOCOLS = ("udp", "tcp")


@dataclass(frozen=True, slots=True)
class Flow:
    """Who sends to whom, by name."""

    kind: str  # what tells it from the others
    source: str  # pod/NAMESPACE/NAME, node/NAME or host/NAME
    target: str  # the same, or service/NAMESPACE/NAME
    receiver: str  # whose application gets the packets
    protocol: str  # udp | tcp
    port: int  # that is sent to
    listening: int  # that the receiver has; another one behind a service

    @property
    def name(self) -> str:
        if not self.target.startswith("service/"):
            return f"{self.source} to {self.target}"
        return f"{self.source} to {self.target}:{self.port} ({self.receiver})"


@dataclass(frozen=True, slots=True)
class BoundFlow:
    """A flow in one built cluster. Addresses are in network byte order."""

    flow: Flow
    source: Machine
    receiver: Machine
    node: Machine  # on whose link the flow leaves
    own: bytes
    destination: bytes
    endpoint: bytes  # the receiver's own address
    crosses: bool  # from one node to another


def own_flows(manifests: Manifests, topology: Topology, version: int) -> list[Flow]:
    """Pod to pod on another node (and in another subnet, if there is one) and on the same node, and pod to service on another node.

    InputError: no two nodes have pods.
    """
    pods = networked_pods(manifests)
    nodes = [node for node in manifests.nodes if _pods_of(topology, pods, node, version)]
    if len(nodes) < 2:
        there = f"pods with an IPv{version} address run on {', '.join(node.name for node in nodes) or 'none'}"
        raise InputError(f"there is nothing to compare between nodes: {there} of {len(manifests.nodes)} nodes; two nodes need pods")
    first = {node.name: _pods_of(topology, pods, node, version)[0] for node in nodes}
    found = [_plain("pod to pod, other node", first[nodes[0].name], first[_beside(manifests, nodes, version).name])]
    far = _far(manifests, nodes, version)
    if far is not None and first[far.name].ref != found[0].receiver:
        found.append(_plain("pod to pod, other subnet", first[nodes[0].name], first[far.name]))
    crowded = next((own for node in nodes if len(own := _pods_of(topology, pods, node, version)) > 1), None)
    if crowded is not None:
        found.append(_plain("pod to pod, same node", crowded[0], crowded[1]))
    return [*found, *_to_services(manifests, topology, [own for node in nodes for own in _pods_of(topology, pods, node, version)], version)]


def _pods_of(topology: Topology, pods: dict[str, list[Pod]], node: Node, version: int) -> list[Machine]:
    machines = (topology.endpoint(f"pod/{pod.key}") for pod in pods[node.name])
    return [machine for machine in machines if any(address.version == version for address in machine.addresses)]


def _plain(kind: str, source: Machine, receiver: Machine) -> Flow:
    return Flow(kind, source.ref, receiver.ref, receiver.ref, "udp", DISCARD, DISCARD)


def _subnets(manifests: Manifests, node: Node, version: int) -> list[object]:
    cidrs = manifests.config.underlay.cidrs
    return [subnet_of(address, cidrs, node.origin) for address in node.addresses if address.version == version]


def _beside(manifests: Manifests, nodes: Sequence[Node], version: int) -> Node:
    """The first other node, rather one of the same subnet."""
    own = _subnets(manifests, nodes[0], version)
    return next((node for node in nodes[1:] if _subnets(manifests, node, version) == own), nodes[1])


def _far(manifests: Manifests, nodes: Sequence[Node], version: int) -> Node | None:
    own = _subnets(manifests, nodes[0], version)
    return next((node for node in nodes[1:] if _subnets(manifests, node, version) != own), None)


def _to_services(manifests: Manifests, topology: Topology, sources: Sequence[Machine], version: int) -> Iterator[Flow]:
    """The first service of UDP or TCP with an endpoint on another node than the first pod."""
    source = sources[0]
    near = node_of(manifests, topology, source)
    for backend in backends(manifests, topology, version):
        protocol = backend.port.protocol.lower()
        if protocol in PROTOCOLS and node_of(manifests, topology, backend.machine) != near:
            target = f"service/{backend.service.key}"
            yield Flow("pod to service, other node", source.ref, target, backend.machine.ref, protocol, backend.port.port, backend.number)
            return


def named_flow(manifests: Manifests, topology: Topology, text: str, namespace: str, version: int) -> Flow:
    """``FROM,TO`` as a user writes it. InputError: a name that is not there, or nobody to receive anything."""
    source_text, comma, to = text.partition(",")
    if not comma or not source_text or not to:
        raise InputError(f"--flow {text}: write FROM,TO such as pod/default/a,service/default/web:80")
    kind = f"{source_text} to {to}"
    source = find_source(topology, source_text, namespace)
    target = find_target(topology, to, namespace, source, Wanted("", "", version))
    if target.label.startswith("service/"):
        for backend in backends(manifests, topology, version):
            key, protocol = f"service/{backend.service.key}", backend.port.protocol.lower()
            if (key, backend.port.port) == (target.label, target.port) and protocol in PROTOCOLS and backend.machine is not source:
                return Flow(kind, source.ref, key, backend.machine.ref, protocol, target.port, backend.number)
        raise InputError(f"--flow {text}: no ready endpoint with UDP or TCP is behind {target.label}:{target.port}: name another service")
    receiver = next((machine for machine in topology.machines.values() if target.address in machine.addresses), None)
    if receiver is None or receiver is source:
        raise InputError(f"--flow {text}: name two different pods, nodes or hosts of this cluster, or a service")
    return _plain(kind, source, receiver)


def bind(manifests: Manifests, topology: Topology, flow: Flow, version: int) -> BoundFlow:
    """Look the flow's names up. Raises InputError where the cluster as built lacks one of them."""
    source, receiver = topology.endpoint(flow.source), topology.endpoint(flow.receiver)
    endpoint = _address(receiver.addresses, version, receiver.ref)
    destination = endpoint
    if flow.target.startswith("service/"):
        service = next(each for each in manifests.services if f"service/{each.key}" == flow.target)
        destination = _address(service.cluster_ips, version, flow.target)
    here, there = node_of(manifests, topology, source), node_of(manifests, topology, receiver)
    node = topology.machines[here]
    own = _address(source.addresses, version, source.ref)
    return BoundFlow(flow, source, receiver, node, own.packed, destination.packed, endpoint.packed, here != there)


def _address(addresses: Sequence[IPAddress], version: int, name: str) -> IPAddress:
    for address in addresses:
        if address.version == version:
            return address
    raise InputError(f"{name} has no IPv{version} address: choose another --family or another --flow")
