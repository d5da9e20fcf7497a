"""Calico's pools and the tunnels they ask for: ``ipipMode`` and ``vxlanMode`` (Never, Always, CrossSubnet).

Facts: device tunl0 takes from and sends to everybody, its remote ends being the gateways of BIRD's on-link routes, and leaves
the inner packet's don't-fragment bit as it is (``nopmtudisc``); device vxlan.calico (IPv6: vxlan-v6.calico) has VNI 4096 and
port 4789; CrossSubnet sends directly to nodes of the same subnet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_interface, ip_network
from typing import Any, NamedTuple

from dataplane.control.cni.overlay import Overlay, Place, add_device, checked, first_address, node_address, reach
from dataplane.control.underlay import subnet_of, uplink_mtu
from dataplane.control.wiring import IPInterface, Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, IPNetwork, Node

MODES = ("Never", "Always", "CrossSubnet")
IPIP = Overlay("ipip", {4: "tunl0"}, {"df": 2}, bound=False)
VXLAN = Overlay("vxlan", {4: "vxlan.calico", 6: "vxlan-v6.calico"}, {"id": 4096, "port": 4789})
OVERLAYS = {"ipipMode": IPIP, "vxlanMode": VXLAN}
ADDRESS_ANNOTATIONS = {
    "tunl0": "projectcalico.org/IPv4IPIPTunnelAddr",
    "vxlan.calico": "projectcalico.org/IPv4VXLANTunnelAddr",
    "vxlan-v6.calico": "projectcalico.org/IPv6VXLANTunnelAddr",
}


class Pool(NamedTuple):
    """An IPPool, as far as it concerns packets."""

    cidr: IPNetwork
    nat_outgoing: bool
    overlay: Overlay | None
    cross_subnet: bool


def read_pools(config: ClusterConfig) -> list[Pool]:
    """The IPPools. ``InputError``: modes that do not exist, exclude each other, or are not for the pool's IP version."""
    return [read_pool(config, pool) for pool in config.cni.ip_pools]


def read_pool(config: ClusterConfig, pool: Mapping[str, Any]) -> Pool:
    cidr = ip_network(pool["cidr"])
    place = f"{config.origin}: cni.ipPools: {cidr}"
    modes = {key: pool.get(key, "Never") for key in OVERLAYS}
    for key, mode in modes.items():
        if mode not in MODES:
            raise InputError(f"{place}: {key} {mode!r} is none: write {', '.join(MODES)}")
        if mode != "Never" and cidr.version not in OVERLAYS[key].names:
            raise InputError(f"{place}: {key} is only for IPv4 pools: write Never")
    chosen = [key for key, mode in modes.items() if mode != "Never"]
    if len(chosen) > 1:
        raise InputError(f"{place}: {' and '.join(chosen)} exclude each other: write Never for one of them")
    overlay = checked(OVERLAYS[chosen[0]], config.origin) if chosen else None
    return Pool(cidr, pool.get("natOutgoing", False), overlay, "CrossSubnet" in modes.values())


def pod_mtu(wiring: Wiring, pools: Iterable[Pool], node: Node) -> int:
    """Calico takes what fits into every tunnel that is in use, for all pods."""
    mtus = [pool.overlay.mtu(wiring, node, pool.cidr.version) for pool in pools if pool.overlay is not None]
    return wiring.manifests.config.cni.mtu or min([uplink_mtu(wiring, node), *mtus])


def add_tunnels(wiring: Wiring, pools: Iterable[Pool], place: Place) -> dict[str, int]:
    """The node's tunnel devices by name."""
    devices: dict[str, int] = {}
    for name, overlay in tunnel_names(pools).items():
        version = next(version for version, own in overlay.names.items() if own == name)
        devices[name] = add_device(wiring, overlay, place, version, [tunnel_address(place.node, name, version)])
    return devices


def tunnel_names(pools: Iterable[Pool]) -> dict[str, Overlay]:
    """The names of a node's tunnel devices, in the order they are made."""
    return {pool.overlay.names[pool.cidr.version]: pool.overlay for pool in pools if pool.overlay is not None}


def tunnel_address(node: Node, device: str, version: int) -> IPInterface:
    """What the node's annotation says; without one the first address of the node's first block."""
    written = node.annotations.get(ADDRESS_ANNOTATIONS[device])
    if written:
        try:
            return ip_interface(written)
        except ValueError as error:
            raise InputError(f"{node.origin}: {ADDRESS_ANNOTATIONS[device]}: {error}") from error
    for block in node.ipam_blocks:
        if block.version == version:
            return first_address(block)
    raise InputError(f"{node.origin}: {device} has no address: write {ADDRESS_ANNOTATIONS[device]}")


def route_to(wiring: Wiring, pools: Iterable[Pool], place: Place, devices: Mapping[str, int], other: Node, network: IPNetwork) -> None:
    """The way to addresses of another node: through the tunnel of their pool, or by the underlay itself."""
    version = network.version
    for pool in pools:
        if pool.overlay is None or pool.cidr.version != version or network.network_address not in pool.cidr:
            continue
        if not (pool.cross_subnet and same_subnet(wiring, place.node, other, version)):
            name = pool.overlay.names[version]
            reach(wiring, pool.overlay, place, devices[name], other, tunnel_address(other, name, version).ip, [network])
            return
    wiring.route(place.namespace, network, other.origin, via=node_address(other, version), device=place.uplink)


def same_subnet(wiring: Wiring, one: Node, other: Node, version: int) -> bool:
    subnets = wiring.manifests.config.underlay.cidrs
    first, second = (subnet_of(node_address(node, version), subnets, node.origin) for node in (one, other))
    return first == second
