"""A WireGuard device on every node with all others as peers: flannel's backend ``pkg/backend/wireguard``.

Facts: devices flannel-wg and flannel-wg-v6, ports 51820 and 51821, MTU 80 less than the uplink's, one route for the whole pod
network, allowed IPs a peer's podCIDRs. Keys, which flannel draws at random, follow from the node's name.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from dataplane.control.cni.overlay import NO_MAC, Place, cidrs, first_address, node_address
from dataplane.control.underlay import hint_of, uplink_mtu
from dataplane.control.wiring import SCOPE_LINK, Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, Node

NAMES = {4: "flannel-wg", 6: "flannel-wg-v6"}
PORTS = {4: 51820, 6: 51821}
OVERHEAD = 80  # outer IPv6 header 40, UDP 8, WireGuard 32: flannel counts it for IPv4 too


@dataclass(frozen=True, slots=True)
class Mesh:
    """What net-conf.json says of the backend."""

    port: int = 0  # 0: flannel's own
    keepalive: int = 0  # seconds
    preshared_key: str = ""


def read_mesh(config: ClusterConfig, backend: Mapping[str, Any]) -> Mesh:
    numbers = {}
    for key, highest in (("ListenPort", 65535), ("PersistentKeepaliveInterval", 65535)):
        numbers[key] = backend.get(key, 0)
        if not isinstance(numbers[key], int) or not 0 <= numbers[key] <= highest:
            raise InputError(f"{config.origin}: cni.config.Backend.{key} is {numbers[key]!r}: write a number from 0 to {highest}")
    return Mesh(numbers["ListenPort"], numbers["PersistentKeepaliveInterval"], str(backend.get("PSK", "")))


def connect(wiring: Wiring, mesh: Mesh, place: Place, nodes: tuple[Node, ...], version: int) -> None:
    """The device of one IP version, whose peers are all other nodes with pods of it."""
    node, name = place.node, NAMES[version]
    mtu = hint_of(node, name).mtu or uplink_mtu(wiring, node) - OVERHEAD
    peers = [other for other in nodes if other is not node and cidrs(other, version)]
    text = "\n".join(configuration(mesh, node, peers, version))
    tunnel = wiring.device(
        place.namespace, name, "wireguard", mac=NO_MAC, mtu=mtu, origin=node.origin, config=text.encode(), device_mtu=mtu
    )  # fmt: skip
    for cidr in cidrs(node, version):
        wiring.address(tunnel, first_address(cidr), NO_MAC, node.origin)
    for network in wiring.manifests.config.pod_cidrs:
        if network.version == version:
            wiring.route(place.namespace, network, node.origin, device=tunnel, scope=SCOPE_LINK if version == 4 else -1)


def configuration(mesh: Mesh, node: Node, peers: list[Node], version: int) -> Iterator[str]:
    """Lines of the node's configuration as wg(8) reads it."""
    port = mesh.port or PORTS[version]
    yield from ("[Interface]", f"PrivateKey = {as_text(private_key(node, version))}", f"ListenPort = {port}")
    for peer in peers:
        address = node_address(peer, version)
        yield from ("[Peer]", f"PublicKey = {as_text(public_key(peer, version))}")
        yield f"Endpoint = {f'[{address}]' if version == 6 else address}:{port}"
        yield f"AllowedIPs = {', '.join(str(cidr) for cidr in cidrs(peer, version))}"
        if mesh.preshared_key:
            yield f"PresharedKey = {mesh.preshared_key}"
        if mesh.keepalive:
            yield f"PersistentKeepalive = {mesh.keepalive}"


def private_key(node: Node, version: int) -> bytes:
    return sha256(f"{NAMES[version]} {node.name}".encode()).digest()


def public_key(node: Node, version: int) -> bytes:
    from dataplane.encap.wireguard import noise

    return noise.Identity.of(private_key(node, version)).public


def as_text(key: bytes) -> str:
    return b64encode(key).decode()
