"""The cluster that service rows run on: a measured node with clients, a second one with servers, and services between them.

Its tables come from the package's own control plane, kube-proxy's and the CNI's rules included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

ENDPOINTS = 3  # of each service
SERVERS = 16  # pods that they are drawn from
CLIENTS = 200  # pods of the measured node, as large ones have: ports for 12.9 million connections
SERVICE_PORT, TARGET_PORT = 80, 8080
CONNTRACK_MAX = 40_000_000  # more connections than any row opens
MEASURED, OTHER = "node1", "node2"


def client_name(number: int) -> str:
    return f"client{number}"


def server_name(number: int) -> str:
    return f"server{number}"


def packed(family: int, four: str, six: str, offset: int) -> bytes:
    """The address ``offset`` behind ``four`` or ``six``."""
    return (ip_address(four if family == 4 else six) + offset).packed


def client_address(family: int, number: int) -> bytes:
    return packed(family, "10.244.1.2", "fd00:10:244:1::2", number)


def server_address(family: int, number: int) -> bytes:
    return packed(family, "10.244.2.2", "fd00:10:244:2::2", number)


def service_address(family: int, number: int) -> bytes:
    return packed(family, "10.96.1.0", "fd00:10:96::100", number)


def node_address(family: int, number: int) -> bytes:
    """Of node 1 or 2."""
    return packed(family, "192.168.0.10", "fd00:192::10", number)


@dataclass(frozen=True)
class Shape:
    """What a row's cluster looks like."""

    services: int = 1
    clients: int = CLIENTS
    backend: Mapping[str, Any] = field(default_factory=lambda: {"Type": "vxlan"})  # Flannel's, or any encapsulation
    family: int = 4
    endpoints: int = ENDPOINTS

    def servers(self, service: int) -> list[int]:
        """Numbers of the servers behind a service."""
        return [(service + step) % SERVERS for step in range(self.endpoints)]

    @property
    def families(self) -> tuple[int, ...]:
        return (4,) if self.family == 4 else (4, 6)


def objects(shape: Shape) -> list[dict[str, Any]]:
    """The manifests."""
    found = [_cluster(shape), _node(shape, MEASURED, 1), _node(shape, OTHER, 2)]
    found += [_pod(shape, client_name(number), MEASURED, client_address, number) for number in range(shape.clients)]
    found += [_pod(shape, server_name(number), OTHER, server_address, number) for number in range(SERVERS)]
    for number in range(shape.services):
        found += [_service(shape, number), *(_slice(shape, family, number) for family in shape.families)]
    return found


def _text(address: bytes) -> str:
    return str(ip_address(address))


def _of_families(shape: Shape, four: str, six: str) -> list[str]:
    return [{4: four, 6: six}[family] for family in shape.families]


def _cluster(shape: Shape) -> dict[str, Any]:
    network: dict[str, Any] = {"Network": "10.244.0.0/16", "Backend": dict(shape.backend)}
    if 6 in shape.families:
        network |= {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/48"}
    spec = {
        "podCIDRs": _of_families(shape, "10.244.0.0/16", "fd00:10:244::/48"),
        "serviceCIDRs": _of_families(shape, "10.96.0.0/16", "fd00:10:96::/112"),
        "cni": {"name": "flannel", "config": network},
        "underlay": {"cidrs": _of_families(shape, "192.168.0.0/24", "fd00:192::/64"), "latency": "10us"},
        "endSystems": "silent",
        "neighbours": "static",
        "sysctls": {"net.ipv4.ip_forward": 1, "net.ipv6.conf.*.forwarding": 1, "net.netfilter.nf_conntrack_max": CONNTRACK_MAX},
    }
    return {"apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "spec": spec}


def _node(shape: Shape, name: str, number: int) -> dict[str, Any]:
    cidrs = _of_families(shape, f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")
    addresses = [{"type": "InternalIP", "address": _text(node_address(family, number))} for family in shape.families]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": addresses},
    }


def _pod(shape: Shape, name: str, node: str, address: Any, number: int) -> dict[str, Any]:
    addresses = [_text(address(family, number)) for family in shape.families]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]},
    }


def _service(shape: Shape, number: int) -> dict[str, Any]:
    addresses = [_text(service_address(family, number)) for family in shape.families]
    spec = {
        "type": "ClusterIP",
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        "ipFamilies": [f"IPv{family}" for family in shape.families],
        "ipFamilyPolicy": "SingleStack" if len(addresses) == 1 else "RequireDualStack",
        "ports": [{"name": "main", "protocol": "TCP", "port": SERVICE_PORT, "targetPort": TARGET_PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"service{number}"}, "spec": spec}


def _slice(shape: Shape, family: int, number: int) -> dict[str, Any]:
    ready = {"ready": True, "serving": True, "terminating": False}
    addresses = [_text(server_address(family, server)) for server in shape.servers(number)]
    ends = [{"addresses": [address], "conditions": ready, "nodeName": OTHER} for address in addresses]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"service{number}-{family}", "labels": {"kubernetes.io/service-name": f"service{number}"}},
        "addressType": f"IPv{family}",
        "endpoints": ends,
        "ports": [{"name": "main", "protocol": "TCP", "port": TARGET_PORT}],
    }
