"""A cluster with every kind of service, and the pure-Python twin of a node's netfilter to ask about it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from dataplane import _core
from dataplane._core import Outcome
from dataplane.control.iptables import IptablesTables
from dataplane.k8s.objects import (
    ClusterConfig,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPAddress,
    LoadBalancerIngress,
    Manifests,
    Node,
    Origin,
    Proxy,
    Service,
    ServicePort,
)
from dataplane.testing.probes import opening_packet
from dataplane.testing.twins.netfilter import NetfilterTwin

POD_NETWORKS = ("10.244.0.0/16", "fd00:244::/56")
NODES = {"node1": ("192.168.1.100", "2001:db8::100"), "node2": ("192.168.1.101", "2001:db8::101")}
OUTSIDE, CLIENT, POD = "203.0.113.9", "192.168.1.50", "10.244.1.5"


def origin(what: str, line: int) -> Origin:
    return Origin("cluster.yaml", line, what)


def node(name: str, **labels: str) -> Node:
    subnet = int(name.removeprefix("node"))
    pods = (ip_network(f"10.244.{subnet}.0/24"), ip_network(f"fd00:244:0:{subnet}::/64"))
    addresses = tuple(ip_address(address) for address in NODES[name])
    return Node(name, addresses, origin(f"Node {name}", subnet), pod_cidrs=pods, labels=labels)


def service(name: str, number: int, *, protocol: str = "TCP", port_name: str = "http", node_port: int = 0, **fields: Any) -> Service:
    """Service ``default/name`` with addresses 10.96.0.``number`` and fd00:96::``number`` and port 80."""
    known: dict[str, Any] = {
        "namespace": "default",
        "name": name,
        "type": "LoadBalancer" if "load_balancer" in fields else "NodePort" if node_port else "ClusterIP",
        "cluster_ips": (ip_address(f"10.96.0.{number}"), ip_address(f"fd00:96::{number}")),
        "ports": (ServicePort(port_name, protocol, 80, 8080, node_port),),
        "origin": origin(f"Service default/{name}", 100 + number),
    }
    return Service(**(known | fields))


def balancers(*addresses: str) -> tuple[LoadBalancerIngress, ...]:
    return tuple(LoadBalancerIngress(ip_address(address)) for address in addresses)


def slices(name: str, *endpoints: Endpoint, protocol: str = "TCP", port_name: str = "http") -> list[EndpointSlice]:
    """The endpoints' addresses on port 8080, a slice for each family."""
    ports = (EndpointPort(port_name, protocol, 8080),)
    found = []
    for family in (4, 6):
        own = tuple(end for end in endpoints if end.addresses[0].version == family)
        what = origin(f"EndpointSlice default/{name}-{family}", 200 + family)
        found.append(EndpointSlice("default", f"{name}-{family}", name, f"IPv{family}", own, ports, what))
    return found


def on(node_name: str, *addresses: str, **fields: Any) -> list[Endpoint]:
    """Endpoints on a node; addresses without a dot or colon are numbers of pods: 10.244.N.number and its IPv6 twin."""
    subnet = node_name.removeprefix("node")
    texts = [text for number in addresses for text in (f"10.244.{subnet}.{number}", f"fd00:244:0:{subnet}::{number}")]
    return [Endpoint((ip_address(text),), node=node_name, **fields) for text in texts]


def cluster(services: Iterable[Service], endpoint_slices: Iterable[EndpointSlice], proxy: Proxy | None = None) -> Manifests:
    proxy = proxy or Proxy(cluster_cidrs=tuple(ip_network(text) for text in POD_NETWORKS), masquerade_random_fully=False)
    return Manifests(
        ClusterConfig(proxy=proxy, origin=origin("Cluster", 1)),
        nodes=(node("node1"), node("node2")),
        services=tuple(services),
        endpoint_slices=tuple(endpoint_slices),
    )


def everything() -> Manifests:
    """Every shape of rule that kube-proxy writes."""
    both = [*on("node1", "6"), *on("node2", "10", "11")]
    remote = on("node2", "10")
    addresses = balancers("192.168.1.200", "2001:db8::200")
    ranges = tuple(ip_network(text) for text in ("192.168.1.0/24", "203.0.113.0/25", "2001:db8::/64"))
    outside = tuple(ip_address(text) for text in ("192.168.1.210", "2001:db8::210"))
    shapes = [
        (service("plain", 1), both),
        (service("noport", 2, port_name=""), []),
        (service("ports", 3, node_port=30003), both),
        (service("balanced", 4, node_port=30004, load_balancer=addresses), both),
        (service("local", 5, node_port=30005, load_balancer=addresses, external_policy="Local", health_check_node_port=30999), remote),
        (service("inner", 6, internal_policy="Local"), both),
        (service("fenced", 7, load_balancer=addresses, source_ranges=ranges), both),
        (service("sticky", 8, affinity_seconds=10800), both),
        (service("outer", 9, external_ips=outside), both),
        (service("empty", 10, node_port=30010, load_balancer=addresses, external_ips=outside), []),
        (service("dns", 11, protocol="UDP"), both),
        (service("sig", 12, protocol="SCTP"), both),
    ]
    found = [
        piece
        for shape, ends in shapes
        for piece in slices(shape.name, *ends, protocol=shape.ports[0].protocol, port_name=shape.ports[0].name)
    ]
    return cluster([shape for shape, _ in shapes], found)


class TwinNode:
    """A node that is asked what its rules do to a first packet."""

    def __init__(self, tables: IptablesTables, local: Iterable[IPAddress], pods: Iterable[str] = POD_NETWORKS, **recent: Any) -> None:
        self.local = set(local)
        self.pods = [ip_network(text) for text in pods]
        self.twin = NetfilterTwin(tables.compile(), self._type, self._route, **recent)

    def _is_local(self, address: IPAddress) -> bool:
        return address in self.local or address.is_loopback

    def _type(self, address: bytes) -> int:
        return _core.ADDR_LOCAL if self._is_local(ip_address(address)) else _core.ADDR_UNICAST

    def _route(self, address: bytes) -> str:
        return "" if self._is_local(ip_address(address)) else self._device(ip_address(address))

    def _device(self, address: IPAddress) -> str:
        return "cni0" if any(address in network for network in self.pods) else "eth0"

    def outcomes(self, src: str, dst: str, port: int = 80, protocol: str = "TCP") -> list[Outcome]:
        """As the packet would go: out of the node and back in through lo, or in from outside or from a pod."""
        source, destination = ip_address(src), ip_address(dst)
        packet = opening_packet(source, destination, protocol, port)
        if not self._is_local(source):
            return self.twin.outcomes("prerouting", packet, iif=self._device(source))
        sent = self.twin.outcomes("output", packet)
        passed = all(outcome.verdict == "ACCEPT" and outcome.dnat is None for outcome in sent)
        return self.twin.outcomes("prerouting", packet, iif="lo") if passed and self._is_local(destination) else sent
