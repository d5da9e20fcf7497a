"""A cluster file (``kind: Cluster`` and Kubernetes objects) as plain values.

Read here without the project's own loader, so that a mistake of the loader shows up as a difference
to the kernel instead of being built into both sides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import yaml

CLUSTERS = Path(__file__).resolve().parents[2] / "pcaps" / "clusters"
MODES = ("flannel-vxlan", "flannel-host-gw", "calico")
SERVICE_LABEL = "kubernetes.io/service-name"
VXLAN_OVERHEAD = 50  # outer Ethernet is the link's: IPv4 20 + UDP 8 + VXLAN 8 + inner Ethernet 14
CALICO_MAC = "ee:ee:ee:ee:ee:ee"
CALICO_GATEWAY = "169.254.1.1"
Document = dict[str, Any]


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    network: IPv4Network  # podCIDR
    macs: dict[str, str]  # by device

    @property
    def gateway(self) -> str:
        """The bridge's address."""
        return str(self.network[1])

    @property
    def tunnel(self) -> str:
        """The address of the tunnel device."""
        return str(self.network[0])


@dataclass(frozen=True)
class Pod:
    name: str
    node: str
    address: str
    mac: str
    host_device: str
    host_mac: str


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    mac: str
    behind: str | None


@dataclass(frozen=True)
class ServicePort:
    """One port of one service: the doors to it, and what is behind."""

    name: str  # namespace/service:port
    protocol: str  # tcp, udp
    address: str
    port: int
    node_port: int
    outside: tuple[str, ...]  # load balancer and external addresses
    endpoints: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Topology:
    path: Path
    backend: str  # vxlan, host-gw, calico
    pod_cidr: str
    mtu: int  # underlay
    underlay: IPv4Network
    gateway: str
    vni: int
    vxlan_port: int
    hairpin: bool
    sysctls: dict[str, int]
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    services: list[ServicePort] = field(default_factory=list)

    @property
    def bridged(self) -> bool:
        return self.backend != "calico"

    @property
    def pod_mtu(self) -> int:
        return self.mtu - (VXLAN_OVERHEAD if self.backend == "vxlan" else 0)

    def pod_gateway_mac(self, pod: Pod) -> str:
        return self.nodes[pod.node].macs["cni0"] if self.bridged else pod.host_mac


def cluster_file(mode: str) -> Path:
    """One of our own clusters."""
    return CLUSTERS / f"{mode}.yaml"


def load(path: Path) -> Topology:
    """Read a cluster file. Raises KeyError or ValueError where it lacks what the oracle needs."""
    documents: list[Document] = [d for d in yaml.safe_load_all(path.read_text()) if d]
    kinds: dict[str, list[Document]] = {}
    for document in documents:
        kinds.setdefault(document["kind"], []).append(document)
    topology = _cluster(path, kinds["Cluster"][0]["spec"])
    topology.nodes.update({d["metadata"]["name"]: _node(d) for d in kinds["Node"]})
    topology.pods.update({d["metadata"]["name"]: _pod(d) for d in kinds["Pod"]})
    slices = kinds.get("EndpointSlice", [])
    for document in kinds.get("Service", []):
        topology.services.extend(_service(document, slices))
    return topology


def _cluster(path: Path, spec: Document) -> Topology:
    cni, underlay = spec["cni"], spec["underlay"]
    if spec.get("endSystems") != "silent" or spec.get("neighbours") != "static" or underlay["kind"] != "flat":
        raise ValueError(f"{path}: the oracle builds a flat underlay with static neighbours and silent end systems only")
    backend = cni.get("config", {}).get("Backend", {})
    hosts = {h["name"]: Host(h["name"], h["address"], h["mac"], h.get("behind")) for h in underlay.get("hosts", [])}
    return Topology(
        path=path,
        backend="calico" if cni["name"] == "calico" else backend["Type"],
        pod_cidr=spec["podCIDR"],
        mtu=underlay["mtu"],
        underlay=_network(underlay["cidr"]),
        gateway=underlay["defaultGateway"],
        vni=backend.get("VNI", 1),
        vxlan_port=backend.get("Port", 8472),
        hairpin=cni.get("delegate", {}).get("hairpinMode", False),
        sysctls=spec.get("sysctls", {}),
        hosts=hosts,
    )


def _network(text: str) -> IPv4Network:
    network = ip_network(text)
    if not isinstance(network, IPv4Network):
        raise ValueError(f"{text}: the oracle builds IPv4 clusters only")
    return network


def _node(document: Document) -> Node:
    hints = json.loads(document["metadata"]["annotations"]["dataplane/interfaces"])
    address = next(a["address"] for a in document["status"]["addresses"] if a["type"] == "InternalIP")
    return Node(document["metadata"]["name"], address, _network(document["spec"]["podCIDR"]), {d: h["mac"] for d, h in hints.items()})


def _pod(document: Document) -> Pod:
    meta = document["metadata"]
    note = meta["annotations"]
    return Pod(
        meta["name"],
        document["spec"]["nodeName"],
        document["status"]["podIP"],
        note["dataplane/mac"],
        note["dataplane/host-interface"],
        note["dataplane/host-mac"],
    )


def _service(document: Document, slices: list[Document]) -> list[ServicePort]:
    meta, spec = document["metadata"], document["spec"]
    outside = [i["ip"] for i in document.get("status", {}).get("loadBalancer", {}).get("ingress", [])] + spec.get("externalIPs", [])
    made = []
    for port in spec["ports"]:
        ends = tuple(
            (address, p["port"])
            for s in slices
            if s["metadata"]["namespace"] == meta["namespace"] and s["metadata"]["labels"][SERVICE_LABEL] == meta["name"]
            for p in s["ports"]
            if p["name"] == port["name"]
            for end in s["endpoints"]
            if end["conditions"]["ready"]
            for address in end["addresses"]
        )
        name = f"{meta['namespace']}/{meta['name']}:{port['name']}"
        doors = (spec["clusterIP"], port["port"], port.get("nodePort", 0), tuple(outside))
        made.append(ServicePort(name, port["protocol"].lower(), *doors, ends))
    return made
