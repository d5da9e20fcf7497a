"""Flannel: a bridge ``cni0`` on each node, and VXLAN or plain routes between nodes.

Facts: flannel's backends ``pkg/backend/vxlan`` (VNI 1, port 8472, one on-link route, neighbour and FDB entry per
remote subnet, device address = the subnet's first address with a full-length prefix) and ``pkg/backend/hostgw``;
CNI plugin ``bridge`` (gateway = second address of the podCIDR, hairpin per port).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from dataplane.control.mac import mac_of
from dataplane.control.pods import add_pod, pod_mac
from dataplane.control.underlay import default_route, hint_of, hinted_interfaces, uplink_mtu
from dataplane.control.wiring import IPInterface, Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, IPAddress, IPNetwork, Node, Pod

BRIDGE = "cni0"
BACKENDS = ("vxlan", "host-gw")
TUNNEL_NAMES = {4: "flannel.{vni}", 6: "flannel-v6.{vni}"}
OVERHEAD = {4: 50, 6: 70}  # outer IP (20 or 40) + UDP 8 + VXLAN 8 + inner Ethernet 14


@dataclass(frozen=True, slots=True)
class Settings:
    """What net-conf.json and the CNI delegate say, with the defaults of flannel's own manifest."""

    backend: str
    vni: int
    port: int
    direct_routing: bool
    hairpin: bool
    default_gateway: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """A node that takes part: its namespace, its uplink and the bridge."""

    node: Node
    namespace: int
    uplink: int
    bridge: int
    bridge_mac: bytes


def build(wiring: Wiring, pods: dict[str, list[Pod]]) -> None:
    """Set up every node, its ``pods`` (by node) and the way to the other nodes' pods."""
    settings = read_settings(wiring.manifests.config)
    placed = [add_bridge(wiring, settings, node) for node in wiring.manifests.nodes]
    for place in placed:
        for pod in pods[place.node.name]:
            attach_pod(wiring, settings, place, pod)
        if settings.backend == "vxlan":
            for version in sorted({cidr.version for cidr in place.node.pod_cidrs}):
                connect_vxlan(wiring, settings, place, placed, version)
        else:
            for other in placed:
                if other is not place:
                    route_directly(wiring, place, other)


def read_settings(config: ClusterConfig) -> Settings:
    backend = config.cni.config.get("Backend", {})
    if not isinstance(backend, Mapping):
        raise InputError(f"{config.origin}: cni.config.Backend must be a mapping such as Type: vxlan")
    kind = str(backend.get("Type", "vxlan")).lower()
    if kind not in BACKENDS:
        raise InputError(f"{config.origin}: cni.config.Backend.Type {kind!r} is not supported: write {' or '.join(BACKENDS)}")
    return Settings(
        backend=kind,
        vni=backend_number(config, backend, "VNI", 1, (1 << 24) - 1),
        port=backend_number(config, backend, "Port", 8472, (1 << 16) - 1),
        direct_routing=backend.get("DirectRouting", False) is True,
        hairpin=config.cni.delegate.get("hairpinMode", True),
        default_gateway=config.cni.delegate.get("isDefaultGateway", True),
    )


def backend_number(config: ClusterConfig, backend: Mapping[str, Any], key: str, default: int, highest: int) -> int:
    value = backend.get(key, default)
    if not isinstance(value, int) or not 0 < value <= highest:
        raise InputError(f"{config.origin}: cni.config.Backend.{key} is {value!r}: write a number from 1 to {highest}")
    return value


def pod_mtu(wiring: Wiring, settings: Settings, node: Node) -> int:
    config = wiring.manifests.config
    if config.cni.mtu:
        return config.cni.mtu
    overhead = OVERHEAD[min(cidr.version for cidr in node.pod_cidrs)] if settings.backend == "vxlan" else 0
    return uplink_mtu(wiring, node) - overhead


def add_bridge(wiring: Wiring, settings: Settings, node: Node) -> Placed:
    if not node.pod_cidrs:
        raise InputError(f"{node.origin}: spec.podCIDR is missing, Flannel takes no node without one: add it")
    machine = wiring.topology.endpoint(f"node/{node.name}")
    hint = hint_of(node, BRIDGE)
    mac = mac_of(hint.mac, str(node.origin), BRIDGE, node.name)
    mtu = hint.mtu or pod_mtu(wiring, settings, node)
    bridge = wiring.device(machine.namespace, BRIDGE, "bridge", mac=mac, mtu=mtu, origin=node.origin)
    for interface in hinted_interfaces(hint, node.origin) or [gateway_of(cidr) for cidr in node.pod_cidrs]:
        wiring.address(bridge, interface, mac, node.origin, broadcast=True)
    return Placed(node, machine.namespace, machine.eth0, bridge, mac)


def gateway_of(cidr: IPNetwork) -> IPInterface:
    """The bridge's address: host-local hands the gateway the first address after the network's own."""
    return ip_interface((cidr[1].packed, cidr.prefixlen))


def attach_pod(wiring: Wiring, settings: Settings, place: Placed, pod: Pod) -> None:
    eth0, port = add_pod(wiring, pod, place.namespace, pod_mtu(wiring, settings, place.node))
    mac = pod_mac(pod)
    wiring.engine.set_device(port, master=place.bridge, hairpin=settings.hairpin)
    wiring.fdb(port, mac, pod.origin)
    namespace = wiring.topology.device_namespace(eth0)
    for address in pod.addresses:
        cidr = cidr_of(place.node, pod, address)
        gateway = gateway_of(cidr).ip
        wiring.address(eth0, ip_interface((address.packed, cidr.prefixlen)), mac, pod.origin)
        for network in pod_routes(wiring, settings, cidr.version):
            wiring.route(namespace, network, pod.origin, via=gateway, device=eth0)
        wiring.static_neighbour(eth0, gateway, place.bridge_mac, place.node.origin)
        wiring.static_neighbour(place.bridge, address, mac, pod.origin)


def pod_routes(wiring: Wiring, settings: Settings, version: int) -> list[IPNetwork]:
    """What a pod reaches through the bridge: everything, or with ``isDefaultGateway: false`` the pod network."""
    if settings.default_gateway:
        return [default_route(version)]
    return [network for network in wiring.manifests.config.pod_cidrs if network.version == version]


def cidr_of(node: Node, pod: Pod, address: IPAddress) -> IPNetwork:
    for cidr in node.pod_cidrs:
        if cidr.version == address.version and address in cidr:
            return cidr
    cidrs = ", ".join(map(str, node.pod_cidrs))
    raise InputError(f"{pod.origin}: address {address} is not in the podCIDR of node {node.name} ({cidrs}): correct podIP or nodeName")


def connect_vxlan(wiring: Wiring, settings: Settings, place: Placed, placed: list[Placed], version: int) -> None:
    """The tunnel device of one family, and an on-link route, neighbour and FDB entry per other node."""
    name = TUNNEL_NAMES[version].format(vni=settings.vni)
    node = place.node
    hint = hint_of(node, name)
    mac = tunnel_mac(node, name)
    tunnel = wiring.device(
        place.namespace, name, "vxlan", mac=mac, mtu=hint.mtu or uplink_mtu(wiring, node) - OVERHEAD[version], origin=node.origin,
        id=settings.vni, port=settings.port, local=node_address(node, version).packed, dev=place.uplink, ttl=0, learning=0, udp_checksum=1,
    )  # fmt: skip
    for interface in hinted_interfaces(hint, node.origin) or [tunnel_address(cidr) for cidr in cidrs(node, version)]:
        wiring.address(tunnel, interface, mac, node.origin)
    for other in placed:
        if other is place:
            continue
        if settings.direct_routing:
            route_directly(wiring, place, other, version)
            continue
        for cidr in cidrs(other.node, version):
            far_end, far_mac = tunnel_address(cidr).ip, tunnel_mac(other.node, name)
            wiring.neighbour(tunnel, far_end, far_mac, other.node.origin)
            wiring.fdb(tunnel, far_mac, other.node.origin, remote=node_address(other.node, version))
            wiring.route(place.namespace, cidr, other.node.origin, via=far_end, device=tunnel, onlink=True)


def cidrs(node: Node, version: int) -> list[IPNetwork]:
    return [cidr for cidr in node.pod_cidrs if cidr.version == version]


def tunnel_address(cidr: IPNetwork) -> IPInterface:
    return ip_interface(cidr.network_address)


def tunnel_mac(node: Node, device: str) -> bytes:
    return mac_of(hint_of(node, device).mac, str(node.origin), device, node.name)


def route_directly(wiring: Wiring, place: Placed, other: Placed, only: int | None = None) -> None:
    """Routes to the other node's pods through its own address; ``only``: of this family."""
    for cidr in other.node.pod_cidrs:
        if only in (None, cidr.version):
            wiring.route(place.namespace, cidr, other.node.origin, via=node_address(other.node, cidr.version), device=place.uplink)


def node_address(node: Node, version: int) -> IPAddress:
    for address in node.addresses:
        if address.version == version:
            return address
    raise InputError(f"{node.origin}: no IPv{version} InternalIP, but the node has IPv{version} pods: add one to status.addresses")
