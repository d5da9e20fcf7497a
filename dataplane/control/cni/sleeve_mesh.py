"""Weave Net's sleeve between all nodes: who the peers are, which its routers tell each other, and the keys they agree on.

Facts: a router's name is a MAC address (Weave takes that of its bridge; here that of the tunnel device); connections are encrypted if
``--password`` is given (weave ``router/sleeve.go``, mesh ``connection.go``). Keys, which routers draw at random, follow from their names;
of two routers the one that comes first in the manifests has made the connection. IPv4 only, as Weave Net is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from dataplane.control.cni.overlay import Overlay, checked, cidrs, node_address, tunnel_mac
from dataplane.encap.sleeve import DEFAULT_PORT, session_key
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, Node

DEVICE = "flannel.sleeve"
KEYS = ("Port", "Password", "Type", "DirectRouting")


@dataclass(frozen=True, slots=True)
class Sleeve:
    """What the backend's configuration says."""

    port: int
    password: str  # "": not encrypted


def read_sleeve(config: ClusterConfig, backend: Mapping[str, Any]) -> Sleeve:
    port, password = backend.get("Port", DEFAULT_PORT), str(backend.get("Password", ""))
    unknown = [key for key in backend if key not in KEYS]
    if unknown:
        raise InputError(f"{config.origin}: cni.config.Backend.{unknown[0]} is not known for sleeve, which takes {' and '.join(KEYS[:2])}")
    if not isinstance(port, int) or not 0 < port <= 65535:
        raise InputError(f"{config.origin}: cni.config.Backend.Port is {port!r}: write a number from 1 to 65535")
    checked(Overlay("sleeve", {4: DEVICE}, {"port": port}), config.origin)
    return Sleeve(port, password)


def overlay_of(sleeve: Sleeve, node: Node, nodes: tuple[Node, ...]) -> Overlay:
    """The sleeve of one node. ``InputError``: there are IPv6 pods, or encryption needs a package that is missing."""
    if cidrs(node, 6):
        raise InputError(f"{node.origin}: Weave Net's sleeve carries IPv4 only: leave the IPv6 podCIDR out, or write another Backend.Type")
    peers = "\n".join(_peers(sleeve, node, nodes))
    options: dict[str, int | bytes] = {"peer_name": tunnel_mac(node, DEVICE), "port": sleeve.port, "peers": peers.encode()}
    return checked(Overlay("sleeve", {4: DEVICE}, options), node.origin)


def _peers(sleeve: Sleeve, node: Node, nodes: tuple[Node, ...]) -> Iterator[str]:
    """Lines of the option ``peers``."""
    places = {other.name: number for number, other in enumerate(nodes)}
    for other in nodes:
        if other.name == node.name or not cidrs(other, 4):
            continue
        line = f"{node_address(other, 4)} {tunnel_mac(other, DEVICE).hex(':')}"
        if sleeve.password:
            first, second = sorted((node.name, other.name), key=places.__getitem__)
            direction = "outbound" if node.name == first else "inbound"
            line += f" {direction} {_key(first, second, sleeve.password, node).hex()}"
        yield line


def _key(first: str, second: str, password: str, node: Node) -> bytes:
    try:
        return _session_key(first, second, password)
    except ImportError as error:
        raise InputError(f"{node.origin}: a sleeve with a password needs the package PyNaCl: pip install 'podplane[sleeve]'") from error


@lru_cache(maxsize=1 << 16)
def _session_key(first: str, second: str, password: str) -> bytes:
    from nacl.bindings import crypto_scalarmult_base

    return session_key(_private_key(first), crypto_scalarmult_base(_private_key(second)), password.encode())


def _private_key(name: str) -> bytes:
    return sha256(f"sleeve {name}".encode()).digest()
