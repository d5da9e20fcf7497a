"""One cluster under several CNIs: what was written stays, and what a cluster would derive is derived for each of them.

Nodes, CIDRs, services and the underlay are the same in all of them. Addresses that pods have stay wherever the CNI could have handed
them out; where it could not (a bridge takes only those of the node's podCIDR), the pod gets another one, and so do the
EndpointSlices that name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dataplane.k8s.collected import Collected
from dataplane.k8s.loader import collect, complete
from dataplane.k8s.objects import Cni, EndpointSlice, IPAddress, Manifests, Node, Pod
from dataplane.k8s.yaml_source import read_sources


@dataclass(frozen=True, slots=True)
class WrittenCluster:
    """A cluster as its files describe it, read once."""

    manifests: Manifests  # with the CNI that it has
    _written: Collected
    _derived: Collected

    @classmethod
    def load(cls, sources: Sequence[str]) -> WrittenCluster:
        """Read files, directories and ``-``. Raises InputError, one line with file and line, for what cannot be a cluster."""
        written = collect(read_sources(sources), ", ".join(sources) or "no source")
        derived = _copy(written)
        return cls(complete(derived), written, derived)

    def under(self, cni: Cni) -> Manifests:
        """The same cluster with another ``spec.cni``, and with the warnings that this adds. Raises InputError where it cannot be."""
        found = self._start(cni)
        manifests = complete(found)
        strays = {pod.key for pod in _strays(manifests)}
        if strays:
            nodes = {node.name: node for node in manifests.nodes}
            found = self._start(cni)
            found.nodes = [replace(node, pod_cidrs=nodes[node.name].pod_cidrs) for node in found.nodes] or list(nodes.values())
            found.pods = [replace(pod, addresses=()) if pod.key in strays else pod for pod in found.pods]
            manifests = _moved(complete(found), {pod.key: pod for pod in manifests.pods}, strays)
        old = set(self.manifests.warnings)
        return replace(manifests, warnings=tuple(warning for warning in manifests.warnings if warning not in old))

    def _start(self, cni: Cni) -> Collected:
        fresh = _copy(self._written)
        fresh.config = replace(self.manifests.config, cni=cni)
        fresh.inferred = set(self._derived.inferred)
        return fresh


def _copy(collected: Collected) -> Collected:
    """Its own lists of the same frozen objects."""
    return replace(
        collected,
        nodes=list(collected.nodes),
        pods=list(collected.pods),
        services=list(collected.services),
        endpoint_slices=list(collected.endpoint_slices),
        endpoints=list(collected.endpoints),
        policies=list(collected.policies),
        namespaces=list(collected.namespaces),
        extra=list(collected.extra),
        warnings=list(collected.warnings),
        recorded=set(collected.recorded),
        inferred=set(collected.inferred),
    )


def _strays(manifests: Manifests) -> Iterator[Pod]:
    """Pods with an address that their CNI hands to no pod."""
    nodes = {node.name: node for node in manifests.nodes}
    calico = manifests.config.cni.name == "calico"
    taken = {address for node in manifests.nodes for address in (_tunnel_ends(manifests, node) if calico else _bridge_ends(node))}
    for pod in manifests.pods:
        if pod.host_network or pod.node not in nodes:
            continue
        ranges = nodes[pod.node].pod_cidrs
        outside = not calico and any(all(address not in network for network in ranges) for address in pod.addresses)
        if outside or not taken.isdisjoint(pod.addresses):
            yield pod


def _bridge_ends(node: Node) -> Iterator[IPAddress]:
    """Of each podCIDR the address of the tunnel device and that of the bridge."""
    for cidr in node.pod_cidrs:
        yield from (cidr[0], cidr[1])


def _tunnel_ends(manifests: Manifests, node: Node) -> Iterator[IPAddress]:
    """The first address of a node's blocks, where a pool asks for tunnels."""
    modes = [(pool.get("ipipMode", "Never"), pool.get("vxlanMode", "Never")) for pool in manifests.config.cni.ip_pools]
    if any(set(pair) != {"Never"} for pair in modes):
        first = {block.version: block for block in reversed(node.ipam_blocks)}
        yield from (block.network_address for block in first.values())


def _moved(manifests: Manifests, before: Mapping[str, Pod], strays: set[str]) -> Manifests:
    """The slices follow the pods that have other addresses than ``before``, and a warning names the first of these."""
    moved: dict[IPAddress, IPAddress] = {}
    lines = []
    for pod in manifests.pods:
        if pod.key in strays:
            old, now = before[pod.key].addresses, {address.version: address for address in pod.addresses}
            moved |= {address: now[address.version] for address in old if address.version in now}
            lines.append(f"pod/{pod.key} has {', '.join(map(str, pod.addresses))} instead of {', '.join(map(str, old))}")
    more = f", and {len(lines) - 1} more pods have others too" if len(lines) > 1 else ""
    warning = f"{lines[0]}{more}: this CNI hands out other addresses"
    slices = tuple(_slice_moved(each, moved) for each in manifests.endpoint_slices)
    return replace(manifests, endpoint_slices=slices, warnings=(*manifests.warnings, warning))


def _slice_moved(each: EndpointSlice, moved: Mapping[IPAddress, IPAddress]) -> EndpointSlice:
    ends = (replace(end, addresses=tuple(moved.get(address, address) for address in end.addresses)) for end in each.endpoints)
    return replace(each, endpoints=tuple(ends))
