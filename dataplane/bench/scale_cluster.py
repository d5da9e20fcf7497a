"""Clusters of any size for benchmarks, as manifests that a user could have written or dumped.

    python -m dataplane.bench.scale_cluster --nodes 5000 --format json > cluster.json

The same arguments give the same bytes. Counts follow Kubernetes' own limits: at 5,000 nodes there are 30 pods of two containers a
node, and two services a node with 15 endpoints each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, TextIO

POD_NETWORK = IPv4Address("10.0.0.0")  # /10; a /24 for each node
SERVICE_NETWORK = IPv4Address("172.16.0.0")  # /16
UNDERLAY = IPv4Address("192.168.0.0")  # /16
NAMESPACES = 50


@dataclass(frozen=True, slots=True)
class Size:
    """How large a cluster is."""

    nodes: int
    pods_per_node: int = 30
    services: int = 0  # 0: two for each node
    cni: str = "flannel"
    slices: bool = True  # written; False: derived from the services' selectors

    @property
    def pods(self) -> int:
        return self.nodes * self.pods_per_node

    @property
    def service_count(self) -> int:
        return self.services or 2 * self.nodes


def pod_name(number: int) -> str:
    return f"app-{number:06d}"


def service_name(number: int) -> str:
    return f"svc-{number:05d}"


def pod_address(size: Size, number: int) -> IPv4Address:
    """Pods go round the nodes, so that a service's endpoints lie on as many."""
    node, place = number % size.nodes, number // size.nodes
    return POD_NETWORK + 256 * node + 2 + place


def service_address(number: int) -> IPv4Address:
    return SERVICE_NETWORK + 256 + number


def service_of(size: Size, pod: int) -> int:
    """Which service a pod stands behind; those of one service follow each other and are of one namespace."""
    return pod * size.service_count // size.pods


def namespace_of(service: int) -> str:
    return f"team-{service % NAMESPACES:02d}"


def objects(size: Size) -> Iterator[dict[str, Any]]:
    """Every object of the cluster, one after the other."""
    yield _cluster(size)
    yield from (_node(size, number) for number in range(size.nodes))
    yield from (_pod(size, number) for number in range(size.pods))
    members: dict[int, list[int]] = {}
    for pod in range(size.pods):
        members.setdefault(service_of(size, pod), []).append(pod)
    for service in range(size.service_count):
        yield service_object(service)
        if size.slices:
            yield slice_object(size, service, members.get(service, []))


def _cluster(size: Size) -> dict[str, Any]:
    return {
        "apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "metadata": {"name": "large"},
        "spec": {
            "podCIDRs": [f"{POD_NETWORK}/10"], "serviceCIDRs": [f"{SERVICE_NETWORK}/16"],
            "underlay": {"cidrs": [f"{UNDERLAY}/16"], "defaultGateways": [str(UNDERLAY + 1)]},
            "cni": {"name": size.cni},
        },
    }  # fmt: skip


def _node(size: Size, number: int) -> dict[str, Any]:
    name = f"node-{number:04d}"
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": f"{POD_NETWORK + 256 * number}/24", "podCIDRs": [f"{POD_NETWORK + 256 * number}/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": str(UNDERLAY + 256 + number)}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip


def _pod(size: Size, number: int) -> dict[str, Any]:
    service = service_of(size, number)
    labels = {"app": service_name(service)}
    return pod_object(pod_name(number), namespace_of(service), labels, pod_address(size, number), number % size.nodes)


def pod_object(name: str, namespace: str, labels: dict[str, str], ip: IPv4Address, node: int) -> dict[str, Any]:
    """A running pod of two containers."""
    address, host = str(ip), str(UNDERLAY + 256 + node)
    containers: list[dict[str, Any]] = [
        {"name": "app", "image": "example/app:1", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]},
        {"name": "sidecar", "image": "example/sidecar:1"},
    ]
    states = [{"name": each["name"], "ready": True, "restartCount": 0, "image": each["image"]} for each in containers]
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": f"node-{node:04d}", "containers": containers},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": host, "hostIPs": [{"ip": host}],
            "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": states,
        },
    }  # fmt: skip


def service_object(number: int) -> dict[str, Any]:
    address = str(service_address(number))
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": service_name(number), "namespace": namespace_of(number)},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "selector": {"app": service_name(number)},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
        },
    }  # fmt: skip


def slice_object(size: Size, service: int, pods: list[int]) -> dict[str, Any]:
    namespace = namespace_of(service)
    endpoints = [
        {
            "addresses": [str(pod_address(size, pod))], "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{pod % size.nodes:04d}", "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name(pod)},
        }
        for pod in pods
    ]  # fmt: skip
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name(service)}-slice", "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name(service)},
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }  # fmt: skip


def write_json(size: Size, stream: TextIO, indent: int | None = None) -> None:
    """One List, as ``kubectl get -o json`` prints (with ``indent`` 4)."""
    stream.write('{"apiVersion": "v1", "kind": "List", "items": [\n')
    for number, each in enumerate(objects(size)):
        stream.write((",\n" if number else "") + json.dumps(each, indent=indent))
    stream.write("\n]}\n")


def write_yaml(size: Size, stream: TextIO) -> None:
    """One document for each object."""
    for each in objects(size):
        stream.write("---\n" + "".join(_yaml_lines(each, "")))


def _yaml_lines(value: Any, indent: str) -> Iterator[str]:
    """Block style; the values above need quotes only where they look like something else."""
    pairs = value.items() if isinstance(value, dict) else (("-", item) for item in value)
    for key, item in pairs:
        head = "- " if key == "-" else f"{key}: "
        if isinstance(item, dict) and key == "-":
            lines = list(_yaml_lines(item, indent + "  "))
            yield indent + head + lines[0].lstrip()
            yield from lines[1:]
        elif isinstance(item, dict | list):
            yield f"{indent}{head.rstrip()}\n"
            yield from _yaml_lines(item, indent if isinstance(item, list) else indent + "  ")
        else:
            yield f"{indent}{head}{json.dumps(item) if not isinstance(item, str) or item in ('True', 'None') else item}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods-per-node", type=int, default=30)
    parser.add_argument("--services", type=int, default=0, help="default: two for each node")
    parser.add_argument("--cni", default="flannel")
    parser.add_argument("--no-slices", action="store_true", help="leave EndpointSlices to be derived")
    parser.add_argument("--format", choices=("json", "kubectl", "yaml"), default="json", help="kubectl: JSON, indented")
    args = parser.parse_args()
    size = Size(args.nodes, args.pods_per_node, args.services, args.cni, not args.no_slices)
    if args.format == "yaml":
        write_yaml(size, sys.stdout)
    else:
        write_json(size, sys.stdout, 4 if args.format == "kubectl" else None)


if __name__ == "__main__":
    main()
