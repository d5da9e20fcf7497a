"""The configuration file format of wg(8), section CONFIGURATION FILE FORMAT, as ``wg setconf`` reads it."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from dataplane.encap.wireguard.messages import KEY_LENGTH
from dataplane.encap.wireguard.noise import NO_PRESHARED_KEY

DEFAULT_PORT = 51820


class Endpoint(NamedTuple):
    """Where a peer is reached."""

    address: bytes  # 4 or 16 bytes
    port: int


@dataclass(slots=True)
class PeerConfig:
    """One section [Peer]."""

    public_key: bytes = b""
    preshared_key: bytes = NO_PRESHARED_KEY
    endpoint: Endpoint | None = None
    allowed_ips: list[tuple[bytes, int]] = field(default_factory=list)  # address, prefix length
    persistent_keepalive: int = 0  # seconds, 0: off


@dataclass(slots=True)
class DeviceConfig:
    """Section [Interface] and the peers."""

    private_key: bytes | None = None
    listen_port: int = DEFAULT_PORT
    peers: list[PeerConfig] = field(default_factory=list)


def parse(text: bytes) -> DeviceConfig:
    """ValueError, with the line: something is wrong. Without ListenPort, where Linux draws a port, it is 51820."""
    config = DeviceConfig()
    section = ""
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
        content = line.partition("#")[0].strip()
        try:
            if content.lower() in ("[interface]", "[peer]"):
                section = content.lower()
                if section == "[peer]":
                    config.peers.append(PeerConfig())
            elif content:
                _set(config, section, content)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"config line {number}: {error}") from error
    for count, peer in enumerate(config.peers, start=1):
        if not peer.public_key:
            raise ValueError(f"config: peer {count} has no PublicKey")
    return config


def _set(config: DeviceConfig, section: str, content: str) -> None:
    key, equals, value = (part.strip() for part in content.partition("="))
    if not equals:
        raise ValueError(f"{content[:40]!r} is no 'Key = value'")
    name = key.lower()
    if section == "[interface]" and name in _INTERFACE:
        _INTERFACE[name](config, value)
    elif section == "[peer]" and name in _PEER:
        _PEER[name](config.peers[-1], value)
    else:
        raise ValueError(f"{key[:40]} is not known here")


def _key(value: str) -> bytes:
    decoded = b64decode(value, validate=True)
    if len(decoded) != KEY_LENGTH:
        raise ValueError("a key has 32 bytes, in base64")
    return decoded


def _number(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise ValueError(f"{value[:40]!r} is no number from 0 to 65535")
    return int(value)


def _endpoint(value: str) -> Endpoint:
    host, _, port = value.rpartition(":")
    try:
        return Endpoint(ip_address(host.removeprefix("[").removesuffix("]")).packed, _number(port))
    except ValueError as error:
        raise ValueError(f"endpoint {value[:40]!r} is no ADDRESS:PORT (names are not looked up)") from error


def _set_private_key(config: DeviceConfig, value: str) -> None:
    config.private_key = _key(value)


def _set_listen_port(config: DeviceConfig, value: str) -> None:
    config.listen_port = _number(value) or DEFAULT_PORT


def _set_public_key(peer: PeerConfig, value: str) -> None:
    peer.public_key = _key(value)


def _set_preshared_key(peer: PeerConfig, value: str) -> None:
    peer.preshared_key = _key(value)


def _set_endpoint(peer: PeerConfig, value: str) -> None:
    peer.endpoint = _endpoint(value)


def _set_allowed_ips(peer: PeerConfig, value: str) -> None:
    for word in value.replace(",", " ").split():
        network = ip_interface(word).network
        peer.allowed_ips.append((network.network_address.packed, network.prefixlen))


def _set_persistent_keepalive(peer: PeerConfig, value: str) -> None:
    peer.persistent_keepalive = 0 if value == "off" else _number(value)


_INTERFACE: dict[str, Callable[[DeviceConfig, str], None]] = {"privatekey": _set_private_key, "listenport": _set_listen_port}
_PEER: dict[str, Callable[[PeerConfig, str], None]] = {
    "publickey": _set_public_key,
    "presharedkey": _set_preshared_key,
    "endpoint": _set_endpoint,
    "allowedips": _set_allowed_ips,
    "persistentkeepalive": _set_persistent_keepalive,
}
