"""Tunnels between nodes, as CNIs lay them: one device per node and IP version, of any registered encapsulation.

A device of Ethernet frames gets a route, a neighbour and an FDB entry per remote node, as Flannel's VXLAN backend and Felix
write them; a device of IP packets only a route whose gateway is the remote node itself, as Flannel's IPIP backend and BIRD do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface

from dataplane.control.mac import mac_of
from dataplane.control.underlay import hint_of, hinted_interfaces, uplink_mtu
from dataplane.control.wiring import IPInterface, Wiring
from dataplane.encap import registry
from dataplane.encap.mtu import inner_mtu
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork, Node, Origin

NO_MAC = bytes(6)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One kind of tunnel between all nodes."""

    kind: str
    names: Mapping[int, str]  # of the device, by IP version
    options: Mapping[str, int | bytes] = field(default_factory=dict)
    bound: bool = True  # the devices send from their node's address, and IP tunnels receive for it alone

    def mtu(self, wiring: Wiring, node: Node, version: int) -> int:
        """What fits on the node's uplink: the MTU of the device and of the pods behind it."""
        return inner_mtu(self.kind, self.options, version, uplink_mtu(wiring, node))


@dataclass(frozen=True, slots=True)
class Place:
    """A node that takes part."""

    node: Node
    namespace: int
    uplink: int


def checked(overlay: Overlay, origin: Origin) -> Overlay:
    """The same, registered. ``InputError``, beginning with ``origin``: there is no such kind, or it does not take the options."""
    try:
        registry.ensure(overlay.kind)
        inner_mtu(overlay.kind, overlay.options, 4, 0)
    except (InputError, ValueError) as error:
        raise InputError(f"{origin}: {error}") from error
    return overlay


def carries_frames(overlay: Overlay) -> bool:
    from dataplane import _core

    return _core.Codec(overlay.kind, overlay.options).ethernet


def add_device(wiring: Wiring, overlay: Overlay, place: Place, version: int, addresses: Iterable[IPInterface]) -> int:
    """The node's tunnel device with these addresses, unless the node's annotation gives others."""
    node, name = place.node, overlay.names[version]
    hint = hint_of(node, name)
    mac = tunnel_mac(node, name) if carries_frames(overlay) else NO_MAC
    ends: dict[str, int | bytes] = {"local": node_address(node, version).packed} if overlay.bound else {}
    tunnel = wiring.device(
        place.namespace, name, overlay.kind, mac=mac, mtu=hint.mtu or overlay.mtu(wiring, node, version), origin=node.origin,
        dev=place.uplink, **ends, **overlay.options,
    )  # fmt: skip
    wiring.engine.set_device(tunnel, unfinished_checksums=wiring.manifests.config.faults.unfinished_tunnel_checksums)
    for interface in hinted_interfaces(hint, node.origin) or addresses:
        wiring.address(tunnel, interface, mac, node.origin)
    return tunnel


def reach(
    wiring: Wiring, overlay: Overlay, place: Place, tunnel: int, other: Node, far_end: IPAddress, networks: Iterable[IPNetwork]
) -> None:
    """The way through ``tunnel`` to the ``networks`` of another node, whose own device has the address ``far_end``."""
    remote = node_address(other, far_end.version)
    if carries_frames(overlay):
        far_mac = tunnel_mac(other, overlay.names[far_end.version])
        wiring.neighbour(tunnel, far_end, far_mac, other.origin)
        wiring.fdb(tunnel, far_mac, other.origin, remote=remote)
    gateway = far_end if carries_frames(overlay) else remote
    for network in networks:
        wiring.route(place.namespace, network, other.origin, via=gateway, device=tunnel, onlink=True)


def tunnel_mac(node: Node, device: str) -> bytes:
    return mac_of(hint_of(node, device).mac, node.origin, device, node.name)


def cidrs(node: Node, version: int) -> list[IPNetwork]:
    return [cidr for cidr in node.pod_cidrs if cidr.version == version]


def first_address(network: IPNetwork) -> IPInterface:
    """The subnet's own address with a full-length prefix, which CNIs give their tunnel devices."""
    return ip_interface(network.network_address)


def node_address(node: Node, version: int) -> IPAddress:
    for address in node.addresses:
        if address.version == version:
            return address
    raise InputError(f"{node.origin}: no IPv{version} InternalIP, but the node has IPv{version} pods: add one to status.addresses")
