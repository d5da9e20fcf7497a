"""A cluster file (``kind: Cluster`` and Kubernetes objects) as plain values.

Read here without the project's own loader, so that a mistake of the loader shows up as a difference
to the kernel instead of being built into both sides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

CLUSTERS = Path(__file__).resolve().parents[2] / "pcaps" / "clusters"
MODES = ("flannel-vxlan", "flannel-host-gw", "calico")
SERVICE_LABEL = "kubernetes.io/service-name"
VXLAN_OVERHEAD = {4: 50, 6: 70}  # outer Ethernet is the link's: IP 20 or 40 + UDP 8 + VXLAN 8 + inner Ethernet 14
CALICO_GATEWAY = {4: "169.254.1.1", 6: "fe80::ecee:eeff:feee:eeee"}
TUNNEL_DEVICES = {4: "flannel.1", 6: "flannel-v6.1"}
Document = dict[str, Any]
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    network: Network  # podCIDR
    block: Network  # what other nodes route here: Calico's block, elsewhere the podCIDR
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
    """A cluster as one address family sees it."""

    path: Path
    family: int
    backend: str  # vxlan, host-gw, calico
    pod_cidr: str
    mtu: int  # underlay
    pod_mtu: int
    underlay: Network
    gateway: str
    vni: int
    vxlan_port: int
    hairpin: bool
    sysctls: dict[str, int]
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    services: list[ServicePort] = field(default_factory=list)
    views: dict[int, Topology] = field(default_factory=dict, repr=False)  # the same cluster by address family, this one included

    @property
    def bridged(self) -> bool:
        return self.backend != "calico"

    @property
    def tunnel_device(self) -> str:
        return TUNNEL_DEVICES[self.family]

    @property
    def tunnel_mtu(self) -> int:
        return self.mtu - VXLAN_OVERHEAD[self.family]

    def pod_gateway_mac(self, pod: Pod) -> str:
        return self.nodes[pod.node].macs["cni0"] if self.bridged else pod.host_mac


def cluster_file(mode: str) -> Path:
    """One of our own clusters."""
    return CLUSTERS / f"{mode}.yaml"


def load(path: Path) -> Topology:
    """Read a cluster file, seen by its first address family. Raises KeyError or ValueError where it lacks what the oracle needs."""
    documents: list[Document] = [d for d in yaml.safe_load_all(path.read_text()) if d]
    kinds: dict[str, list[Document]] = {}
    for document in documents:
        kinds.setdefault(document["kind"], []).append(document)
    spec = kinds["Cluster"][0]["spec"]
    views: dict[int, Topology] = {}
    for family in [ip_network(cidr).version for cidr in _both(spec, "podCIDR")]:
        views[family] = _view(path, family, kinds, views)
    return next(iter(views.values()))


def _view(path: Path, family: int, kinds: dict[str, list[Document]], views: dict[int, Topology]) -> Topology:
    spec = kinds["Cluster"][0]["spec"]
    topology = _cluster(path, family, spec, views)
    blocks = [p["blockSize"] for p in spec["cni"].get("ipPools", []) if ip_network(p["cidr"]).version == family]
    topology.nodes.update({d["metadata"]["name"]: _node(d, family, blocks) for d in kinds["Node"]})
    topology.pods.update({d["metadata"]["name"]: _pod(d, family) for d in kinds["Pod"]})
    slices = kinds.get("EndpointSlice", [])
    for document in kinds.get("Service", []):
        topology.services.extend(_service(document, slices, family))
    return topology


def _both(document: Document, name: str) -> list[str]:
    """The list under the plural of a name, or the one value under the name itself."""
    values: list[str] = document.get(f"{name}es" if name.endswith("s") else f"{name}s") or [document[name]]
    return values


def _of(family: int, texts: list[str]) -> list[str]:
    """Those addresses or networks that are of one family, as Linux prints them."""
    parsed = [ip_network(t) if "/" in t else ip_address(t) for t in texts]
    return [str(p) for p in parsed if p.version == family]


def _cluster(path: Path, family: int, spec: Document, views: dict[int, Topology]) -> Topology:
    cni, underlay = spec["cni"], spec["underlay"]
    if spec.get("endSystems") != "silent" or spec.get("neighbours") != "static" or underlay["kind"] != "flat":
        raise ValueError(f"{path}: the oracle builds a flat underlay with static neighbours and silent end systems only")
    backend = cni.get("config", {}).get("Backend", {})
    hosts = {h["name"]: Host(h["name"], _of(family, _both(h, "address"))[0], h["mac"], h.get("behind")) for h in underlay.get("hosts", [])}
    kind = "calico" if cni["name"] == "calico" else backend["Type"]
    first = min(ip_network(cidr).version for cidr in _both(spec, "podCIDR"))
    return Topology(
        path=path,
        family=family,
        backend=kind,
        pod_cidr=_of(family, _both(spec, "podCIDR"))[0],
        mtu=underlay["mtu"],
        pod_mtu=underlay["mtu"] - (VXLAN_OVERHEAD[first] if kind == "vxlan" else 0),
        underlay=ip_network(_of(family, _both(underlay, "cidr"))[0]),
        gateway=_of(family, _both(underlay, "defaultGateway"))[0],
        vni=backend.get("VNI", 1),
        vxlan_port=backend.get("Port", 8472),
        hairpin=cni.get("delegate", {}).get("hairpinMode", False),
        sysctls=spec.get("sysctls", {}),
        hosts=hosts,
        views=views,
    )


def _node(document: Document, family: int, blocks: list[int]) -> Node:
    hints = json.loads(document["metadata"]["annotations"]["dataplane/interfaces"])
    addresses = [a["address"] for a in document["status"]["addresses"] if a["type"] == "InternalIP"]
    network = ip_network(_of(family, _both(document["spec"], "podCIDR"))[0])
    block = ip_network((network.network_address, blocks[0])) if blocks else network
    macs = {d: h["mac"] for d, h in hints.items()}
    return Node(document["metadata"]["name"], _of(family, addresses)[0], network, block, macs)


def _pod(document: Document, family: int) -> Pod:
    meta, status = document["metadata"], document["status"]
    note = meta["annotations"]
    addresses = [i["ip"] for i in status.get("podIPs", [{"ip": status["podIP"]}])]
    return Pod(
        meta["name"],
        document["spec"]["nodeName"],
        _of(family, addresses)[0],
        note["dataplane/mac"],
        note["dataplane/host-interface"],
        note["dataplane/host-mac"],
    )


def _service(document: Document, slices: list[Document], family: int) -> list[ServicePort]:
    meta, spec = document["metadata"], document["spec"]
    ingress = [i["ip"] for i in document.get("status", {}).get("loadBalancer", {}).get("ingress", [])]
    outside = _of(family, ingress + spec.get("externalIPs", []))
    own = _of(family, spec.get("clusterIPs", [spec["clusterIP"]]))
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
            for address in _of(family, end["addresses"])
        )
        name = f"{meta['namespace']}/{meta['name']}:{port['name']}"
        doors = (port["port"], port.get("nodePort", 0), tuple(outside))
        made += [ServicePort(name, port["protocol"].lower(), address, *doors, ends) for address in own]
    return made
