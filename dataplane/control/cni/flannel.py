"""Flannel: a bridge ``cni0`` on each node, and VXLAN, another tunnel or plain routes between nodes.

Facts: flannel's backends ``pkg/backend/vxlan`` (VNI 1, port 8472, one on-link route, neighbour and FDB entry per
remote subnet, device address = the subnet's first address with a full-length prefix), ``pkg/backend/ipip`` (device
flannel.ipip, on-link routes through the other nodes' addresses) and ``pkg/backend/hostgw``;
CNI plugin ``bridge`` (gateway = second address of the podCIDR, hairpin per port).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from dataplane.control.cni import sleeve_mesh, wireguard_mesh
from dataplane.control.cni.overlay import Overlay, Place, add_device, carries_frames, checked, cidrs, first_address, node_address, reach
from dataplane.control.mac import mac_of
from dataplane.control.places import Places
from dataplane.control.pods import add_pod, pod_mac
from dataplane.control.underlay import default_route, hint_of, hinted_interfaces, uplink_mtu
from dataplane.control.wiring import IPInterface, Wiring
from dataplane.encap import registry
from dataplane.encap.option_text import option_value
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, IPAddress, IPNetwork, Node, Pod

BRIDGE = "cni0"
BACKENDS = ("vxlan", "host-gw", "ipip", "wireguard")
OVER_IPV6 = ("srv6", "srv6_l2")  # encapsulations without an IPv4 header of their own
NOT_OPTIONS = ("Type", "DirectRouting")
NAME_MAX = 15  # bytes of an interface name
OPTION_NAMES = {"VNI": "id", "Port": "port"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What net-conf.json and the CNI delegate say, with the defaults of flannel's own manifest."""

    overlay: Overlay | None  # None: plain routes, or tunnels that know all other nodes
    mesh: wireguard_mesh.Mesh | None
    sleeve: sleeve_mesh.Sleeve | None
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


def build(wiring: Wiring, pods: dict[str, list[Pod]], nodes: Sequence[Node]) -> None:
    """Set up these nodes, their ``pods`` (by node) and the way to all other nodes' pods."""
    settings = read_settings(wiring.manifests.config)
    placed = [add_bridge(wiring, settings, node) for node in nodes]
    for place in placed:
        for pod in pods[place.node.name]:
            attach_pod(wiring, settings, place, pod)
        for version in versions(place.node):
            connect(wiring, settings, place, version)


def describe(places: Places, wiring: Wiring, pods: dict[str, list[Pod]]) -> None:
    """Name what ``build`` would make of all nodes, in its order."""
    overlay = read_settings(wiring.manifests.config).overlay
    for node in wiring.manifests.nodes:
        places.device(places.node(node), BRIDGE)
    for node in wiring.manifests.nodes:
        for pod in pods[node.name]:
            places.pod(pod, node)
        if overlay is not None:
            for version in versions(node):
                places.device(places.node(node), overlay.names[version], ethernet=carries_frames(overlay))


def attach(wiring: Wiring, node: Node, pod: Pod) -> None:
    """A pod that comes later."""
    machine, bridge = wiring.topology.endpoint(f"node/{node.name}"), bridge_of(wiring, node)
    attach_pod(wiring, read_settings(wiring.manifests.config), Placed(node, machine.namespace, machine.eth0, bridge, bridge_mac(node)), pod)


def check(node: Node, pod: Pod) -> None:
    """Its addresses must be of its node."""
    for address in pod.addresses:
        cidr_of(node, pod, address)


def no_announcement(wiring: Wiring, node: Node, pod: Pod, others: Sequence[Node]) -> None:
    """Other nodes know the way to all addresses of a node."""


def detach(wiring: Wiring, node: Node, pod: Pod) -> None:
    """A pod goes, with the entries that lead to it."""
    assert pod.host_interface
    port = wiring.topology.described_device(wiring.topology.endpoint(f"node/{node.name}").namespace, pod.host_interface)
    wiring.engine.del_fdb(port, pod_mac(pod))
    if wiring.manifests.config.neighbours == "static":
        for address in pod.addresses:
            wiring.engine.del_neighbour(bridge_of(wiring, node), address.packed)


def bridge_of(wiring: Wiring, node: Node) -> int:
    return wiring.topology.described_device(wiring.topology.endpoint(f"node/{node.name}").namespace, BRIDGE)


def bridge_mac(node: Node) -> bytes:
    return mac_of(hint_of(node, BRIDGE).mac, node.origin, BRIDGE, node.name)


def can_wait(config: ClusterConfig) -> bool:
    """Does a node do nothing until it sees a frame? The devices of meshes have timers, and messages of their own."""
    settings = read_settings(config)
    return settings.mesh is None and settings.sleeve is None


def versions(node: Node) -> list[int]:
    """The IP versions of a node's pods."""
    return sorted({cidr.version for cidr in node.pod_cidrs})


def read_settings(config: ClusterConfig) -> Settings:
    backend = config.cni.config.get("Backend", {})
    if not isinstance(backend, Mapping):
        raise InputError(f"{config.origin}: cni.config.Backend must be a mapping such as Type: vxlan")
    kind = str(backend.get("Type", "vxlan")).lower()
    return Settings(
        overlay=read_overlay(config, kind, backend),
        mesh=wireguard_mesh.read_mesh(config, backend) if kind == "wireguard" else None,
        sleeve=sleeve_mesh.read_sleeve(config, backend) if kind == "sleeve" else None,
        direct_routing=backend.get("DirectRouting", False) is True,
        hairpin=config.cni.delegate.get("hairpinMode", True),
        default_gateway=config.cni.delegate.get("isDefaultGateway", True),
    )


def read_overlay(config: ClusterConfig, kind: str, backend: Mapping[str, Any]) -> Overlay | None:
    """Flannel's own tunnels, or, beyond what Flannel has, one of any registered encapsulation with its options; None: no overlay."""
    if kind in ("host-gw", "wireguard", "sleeve"):
        return None
    if kind == "vxlan":
        vni, port = backend_number(config, backend, "VNI", 1, (1 << 24) - 1), backend_number(config, backend, "Port", 8472, (1 << 16) - 1)
        return checked(Overlay("vxlan", {4: f"flannel.{vni}", 6: f"flannel-v6.{vni}"}, {"id": vni, "port": port}), config.origin)
    if kind == "ipip":
        return checked(Overlay("ipip", {4: "flannel.ipip", 6: "flannel-v6.ipip"}), config.origin)
    if kind not in registry.known():
        known = ", ".join(sorted({*BACKENDS, *registry.known()}))
        raise InputError(f"{config.origin}: cni.config.Backend.Type {kind!r} is not supported: write one of {known}")
    options = {OPTION_NAMES.get(key, key): backend_option(config, key, value) for key, value in backend.items() if key not in NOT_OPTIONS}
    names = {4: f"flannel.{kind}"[:NAME_MAX], 6: f"flannel6.{kind}"[:NAME_MAX]}
    return checked(Overlay(kind, names, options), config.origin)


def backend_option(config: ClusterConfig, key: str, value: Any) -> int | bytes:
    if isinstance(value, int):
        return int(value)
    try:
        return option_value(str(value))
    except InputError as error:
        raise InputError(f"{config.origin}: cni.config.Backend.{key}: {error}") from error


def backend_number(config: ClusterConfig, backend: Mapping[str, Any], key: str, default: int, highest: int) -> int:
    value = backend.get(key, default)
    if not isinstance(value, int) or not 0 < value <= highest:
        raise InputError(f"{config.origin}: cni.config.Backend.{key} is {value!r}: write a number from 1 to {highest}")
    return value


def pod_mtu(wiring: Wiring, settings: Settings, node: Node) -> int:
    config = wiring.manifests.config
    if config.cni.mtu:
        return config.cni.mtu
    if settings.mesh is not None:
        return uplink_mtu(wiring, node) - wireguard_mesh.OVERHEAD
    overlay = overlay_of(wiring, settings, node)
    if overlay is None:
        return uplink_mtu(wiring, node)
    # Flannel subtracts 50 bytes for VXLAN (pkg/backend/vxlan/vxlan_network.go, encapOverhead) even where only IPv6 is on, which costs 70.
    return overlay.mtu(wiring, node, 4 if overlay.kind == "vxlan" else max(cidr.version for cidr in node.pod_cidrs))


def overlay_of(wiring: Wiring, settings: Settings, node: Node) -> Overlay | None:
    """The tunnels of this node, but for those of a mesh. ``InputError``: they do not carry the IP version of its pods."""
    if settings.sleeve is not None:
        return sleeve_mesh.overlay_of(settings.sleeve, node, wiring.manifests.nodes)
    if settings.overlay is not None and settings.overlay.kind in OVER_IPV6 and cidrs(node, 4):
        raise InputError(
            f"{node.origin}: {settings.overlay.kind} needs IPv6 below, and IPv4 pods go over IPv4 between nodes: "
            "leave the IPv4 podCIDR out, or write another Backend.Type"
        )
    return settings.overlay


def add_bridge(wiring: Wiring, settings: Settings, node: Node) -> Placed:
    if not node.pod_cidrs:
        raise InputError(f"{node.origin}: spec.podCIDR is missing, Flannel takes no node without one: add it")
    machine = wiring.topology.endpoint(f"node/{node.name}")
    hint = hint_of(node, BRIDGE)
    mac = bridge_mac(node)
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


def connect(wiring: Wiring, settings: Settings, place: Placed, version: int) -> None:
    """The way to all other nodes' pods of one IP version."""
    others = [other for other in wiring.manifests.nodes if other is not place.node]
    if settings.mesh is not None:
        wireguard_mesh.connect(wiring, settings.mesh, Place(place.node, place.namespace, place.uplink), wiring.manifests.nodes, version)
        return
    overlay = overlay_of(wiring, settings, place.node)
    if overlay is not None:
        connect_overlay(wiring, settings, overlay, place, others, version)
    else:
        for other in others:
            route_directly(wiring, place, other, version)


def connect_overlay(wiring: Wiring, settings: Settings, overlay: Overlay, place: Placed, others: list[Node], version: int) -> None:
    """The tunnel device, and a way through it per subnet of other nodes."""
    end = Place(place.node, place.namespace, place.uplink)
    tunnel = add_device(wiring, overlay, end, version, [first_address(cidr) for cidr in cidrs(place.node, version)])
    for other in others:
        if settings.direct_routing:
            route_directly(wiring, place, other, version)
            continue
        for cidr in cidrs(other, version):
            reach(wiring, overlay, end, tunnel, other, first_address(cidr).ip, [cidr])


def route_directly(wiring: Wiring, place: Placed, other: Node, version: int) -> None:
    """Routes to the other node's pods through its own address."""
    for cidr in cidrs(other, version):
        wiring.route(place.namespace, cidr, other.origin, via=node_address(other, version), device=place.uplink)
