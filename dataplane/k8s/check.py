"""Contradictions between objects.

A rule that a real API server or cluster enforces is an InputError. Where a real cluster may well be in that state, an
object that an API server has stored gets a warning, and one written by hand an error: there it is most likely a slip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s.collected import Collected
from dataplane.k8s.fields import place
from dataplane.k8s.objects import ClusterConfig, IPAddress, IPNetwork, Origin, Pod, Service
from dataplane.k8s.slices import PodIndex, named_port


def check_written(collected: Collected) -> None:
    """Check what was written, before anything is derived from it; may take a stale address from a pod."""
    _check_duplicate_objects(collected)
    _check_hosts(collected)
    _check_pod_nodes(collected)
    _check_slices(collected)
    collected.pods = _without_stale_addresses(collected)
    _check_addresses(collected)
    _check_macs(collected)
    _check_node_ports(collected)


def check_derived(collected: Collected) -> None:
    """Check what holds of the whole cluster once everything is there."""
    assert collected.config is not None
    _check_overlaps(collected, collected.config)
    _check_node_places(collected, collected.config)
    _check_service_places(collected, collected.config)
    _check_pod_places(collected, collected.config)
    _check_target_ports(collected)


def _report(collected: Collected, origin: Origin, wrong: str, remedy: str) -> None:
    """A warning for an object that an API server has stored, else an error."""
    line = f"{place(origin)}: {wrong}; {remedy}"
    if not collected.is_recorded(origin):
        raise InputError(line)
    collected.warnings.append(line)


def _check_duplicate_objects(collected: Collected) -> None:
    seen: dict[str, Origin] = {}
    groups: tuple[Sequence[Any], ...] = (
        collected.nodes,
        collected.pods,
        collected.services,
        collected.endpoint_slices,
        [mirrors[0] for mirrors in collected.endpoints],
        collected.policies,
        collected.namespaces,
    )
    for item in (item for group in groups for item in group):
        first = seen.setdefault(item.origin.what, item.origin)
        if first is not item.origin:
            raise InputError(f"{place(item.origin)}: the object is there already, at {first.file}:{first.line}; remove one of the two")


def _check_hosts(collected: Collected) -> None:
    hosts = collected.config.underlay.hosts if collected.config else ()
    names = {host.name for host in hosts}
    taken = {node.name: node.origin for node in collected.nodes}
    for host in hosts:
        if host.name in taken:
            raise InputError(f"{place(host.origin)}: the name is taken by {taken[host.name]}; give the host another name")
        taken[host.name] = host.origin
        if host.behind is not None and (host.behind not in names or host.behind == host.name):
            raise InputError(f"{place(host.origin)}: behind names {host.behind[:60]!r}, which is no other host; name one of underlay.hosts")


def _check_pod_nodes(collected: Collected) -> None:
    names = {node.name for node in collected.nodes}
    for pod in collected.pods if names else ():
        if pod.node and pod.node not in names:
            remedy = "the pod is left out" if collected.is_recorded(pod.origin) else "correct spec.nodeName or add the Node"
            _report(collected, pod.origin, f"there is no node {pod.node[:60]!r}", remedy)


def _check_slices(collected: Collected) -> None:
    services = {service.key for service in collected.services}
    nodes = {node.name for node in collected.nodes}
    missing: set[str] = set()
    for item in [*collected.endpoint_slices, *(mirrors[0] for mirrors in collected.endpoints)]:
        if item.service and f"{item.namespace}/{item.service}" not in services:
            _report(collected, item.origin, f"there is no Service {item.namespace}/{item.service}", "add it or remove the slice")
        for endpoint in item.endpoints if nodes else ():
            if endpoint.node and endpoint.node not in nodes and endpoint.node not in missing:
                missing.add(endpoint.node)
                wrong = f"an endpoint's nodeName {endpoint.node[:60]!r} is no node"
                collected.warnings.append(f"{place(item.origin)}: {wrong}; add the Node, or the endpoint counts as remote everywhere")


# Addresses


def _without_stale_addresses(collected: Collected) -> list[Pod]:
    """The pods, without addresses that another pod has got by now.

    The status of a pod that goes away, or whose node has restarted, shows its address until the object is gone,
    while the CNI hands it out again.
    """
    held = {a for pod in collected.pods if not _may_be_stale(collected, pod) for a in pod.addresses}
    pods = []
    for pod in collected.pods:
        if _may_be_stale(collected, pod):
            if not held.isdisjoint(pod.addresses):
                collected.warnings.append(f"{place(pod.origin)}: its address belongs to another pod by now; it is left without one")
                pod = replace(pod, addresses=(), phase="Unknown" if pod.phase == "Running" else pod.phase)
            held.update(pod.addresses)
        pods.append(pod)
    return pods


def _may_be_stale(collected: Collected, pod: Pod) -> bool:
    return collected.is_recorded(pod.origin) and not pod.host_network and (pod.terminating or not pod.ready)


def _check_addresses(collected: Collected) -> None:
    """No two machines have one address, and no two services one cluster IP."""
    seen: dict[IPAddress, Origin] = {}
    hosts = collected.config.underlay.hosts if collected.config else ()
    for origin, addresses in (
        *((node.origin, node.addresses) for node in collected.nodes),
        *((host.origin, host.addresses) for host in hosts),
        *((pod.origin, pod.addresses) for pod in collected.pods if not pod.host_network),
        *((service.origin, service.cluster_ips) for service in collected.services),
    ):
        for address in addresses:
            first = seen.setdefault(address, origin)
            if first is not origin:
                raise InputError(f"{place(origin)}: address {address} is taken by {first}; give one of the two another address")


def _check_macs(collected: Collected) -> None:
    """No two ends have one MAC address on the underlay, nor on the bridge of a node."""
    seen: dict[tuple[str, str], Origin] = {}
    hosts = collected.config.underlay.hosts if collected.config else ()
    for segment, mac, origin in (
        *(("the underlay", host.mac, host.origin) for host in hosts),
        *(("the underlay", hint.mac, node.origin) for node in collected.nodes for name, hint in node.interfaces.items() if name == "eth0"),
        *((f"node {pod.node}", pod.mac, pod.origin) for pod in collected.pods),
    ):
        if mac is not None:
            first = seen.setdefault((segment, mac), origin)
            if first is not origin:
                raise InputError(f"{place(origin)}: MAC address {mac} is taken on {segment} by {first}; give one of the two another")


def _check_node_ports(collected: Collected) -> None:
    seen: dict[tuple[str, int], Service] = {}
    health: dict[int, Service] = {}
    for service in collected.services:
        for key in ((port.protocol, port.node_port) for port in service.ports if port.node_port):
            if key in seen:
                wrong = f"nodePort {key[1]} {key[0]} is taken by {seen[key].origin}"
                raise InputError(f"{place(service.origin)}: {wrong}; give one of the two another nodePort")
            seen[key] = service
        port = service.health_check_node_port
        if port and (first := health.setdefault(port, service)) is not service:
            wrong = f"healthCheckNodePort {port} is that of {first.origin} too"
            collected.warnings.append(f"{place(service.origin)}: {wrong}; give one of the two another port")


# CIDRs


def _check_overlaps(collected: Collected, config: ClusterConfig) -> None:
    named: list[tuple[str, IPNetwork]] = [
        *(("pod", network) for network in config.pod_cidrs),
        *(("service", network) for network in config.service_cidrs),
        *(("underlay", network) for network in config.underlay.cidrs),
    ]
    for index, (name, network) in enumerate(named):
        for other_name, other in named[:index]:
            # An inferred CIDR is a guess: where pods and nodes share a network, no guess can keep them apart.
            if network.overlaps(other) and collected.inferred.isdisjoint(((name, network), (other_name, other))):
                wrong = f"{name} CIDR {network} overlaps with {other_name} CIDR {other}"
                raise InputError(f"{_config_place(config)}: {wrong}; write podCIDRs, serviceCIDRs and underlay.cidrs that are disjoint")
    _check_node_cidrs(collected)


def _config_place(config: ClusterConfig) -> str:
    return place(config.origin) if config.origin.line else "no kind: Cluster given, so its defaults hold"


def _check_node_cidrs(collected: Collected) -> None:
    """podCIDRs of nodes are disjoint: sorted by where they begin, each ends before the next begins."""
    for version in (4, 6):
        owned = [(cidr, node.origin) for node in collected.nodes for cidr in node.pod_cidrs if cidr.version == version]
        cidrs = [(int(cidr[0]), int(cidr[-1]), cidr, origin) for cidr, origin in owned]
        cidrs.sort(key=lambda entry: entry[:2])
        for (_, end, cidr, origin), (start, _, other, other_origin) in zip(cidrs, cidrs[1:], strict=False):
            if start <= end:
                remedy = "give every node a podCIDR of its own"
                raise InputError(f"{place(other_origin)}: podCIDR {other} overlaps with {cidr} of {origin}; {remedy}")


def _holding(address: IPAddress, networks: Iterable[IPNetwork]) -> IPNetwork | None:
    return next((network for network in networks if address in network), None)


def _certain(collected: Collected, name: str, networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    return [network for network in networks if (name, network) not in collected.inferred]


def _check_node_places(collected: Collected, config: ClusterConfig) -> None:
    """Node addresses lie in the underlay's network and outside those of pods and services."""
    foreign = [("pod", network) for network in _certain(collected, "pod", config.pod_cidrs)]
    foreign += [("service", network) for network in _certain(collected, "service", config.service_cidrs)]
    underlay = config.underlay.cidrs
    for node in collected.nodes:
        for address in node.addresses:
            for name, network in foreign:
                if address in network:
                    remedy = f"correct the address or {name}CIDRs of kind: Cluster"
                    raise InputError(f"{place(node.origin)}: InternalIP {address} lies in {name} CIDR {network}; {remedy}")
            if _holding(address, underlay) is None and _certain(collected, "underlay", underlay):
                remedy = "correct the address or add its network to underlay.cidrs"
                raise InputError(f"{place(node.origin)}: InternalIP {address} lies in no underlay CIDR; {remedy}")
    for gateway in config.underlay.default_gateways:
        if _holding(gateway, underlay) is None:
            wrong = f"default gateway {gateway} lies in no underlay CIDR"
            raise InputError(f"{_config_place(config)}: {wrong}; correct the address or add its network to underlay.cidrs")


def _check_service_places(collected: Collected, config: ClusterConfig) -> None:
    pods = _certain(collected, "pod", config.pod_cidrs)
    underlay = _certain(collected, "underlay", config.underlay.cidrs)
    outside: list[str] = []
    for service in collected.services:
        for address in service.cluster_ips:
            for name, networks in (("pod", pods), ("underlay", underlay)):
                network = _holding(address, networks)
                if network is not None:
                    remedy = "correct the cluster IP or the CIDR in kind: Cluster"
                    raise InputError(f"{place(service.origin)}: cluster IP {address} lies in {name} CIDR {network}; {remedy}")
            if _holding(address, config.service_cidrs) is None:
                outside.append(f"{place(service.origin)}: cluster IP {address} lies in no service CIDR")
    if outside:
        collected.warnings.append(_counted(outside, "correct serviceCIDRs of kind: Cluster"))


def _check_pod_places(collected: Collected, config: ClusterConfig) -> None:
    """Pods outside what their node announces: with a bridge and podCIDR routes, other nodes cannot reach them."""
    blocks = {node.name: node.ipam_blocks for node in collected.nodes}
    outside = [
        f"{place(pod.origin)}: address {address} lies in no podCIDR of node {pod.node}, so other nodes have no route to it"
        for pod in collected.pods
        if config.cni.name != "calico" and not pod.host_network and pod.node
        for address in pod.addresses
        if _holding(address, blocks[pod.node]) is None
    ]
    if outside:
        collected.warnings.append(_counted(outside, "correct the address or spec.podCIDRs of the node"))


def _counted(lines: Sequence[str], remedy: str) -> str:
    more = f" (and {len(lines) - 1} more like it)" if len(lines) > 1 else ""
    return f"{lines[0]}{more}; {remedy}"


# Ports


def _check_target_ports(collected: Collected) -> None:
    """A named target port exists in at least one of the pods that the service selects."""
    index = PodIndex(collected.pods)
    for service in collected.services:
        named = [port for port in service.ports if isinstance(port.target_port, str)]
        pods = index.select(service.namespace, service.selector) if named and service.selector else []
        for port in named if pods else ():
            name = str(port.target_port)
            if not any(named_port(pod, name, port.protocol) for pod in pods):
                wrong = f"targetPort {name[:60]!r} is no {port.protocol} port of the pods that it selects, {pods[0].key} for one"
                _report(collected, service.origin, wrong, "name a port of their containers, or write its number")
