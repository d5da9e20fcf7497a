"""Tunnel frames made again from the inner packet and the fields of the outer layers, by the core's encapsulations."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from dataplane import _core
from dataplane.capture.compare import differences
from dataplane.capture.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from dataplane.capture.tunnel import LayerField, Outer, outer_checksums, outer_of
from dataplane.capture.tunnel_codec import codec_of
from dataplane.encap.header_options import options_of
from dataplane.testing.kinds.encap_params import param_layers

_ETHERTYPE_VLAN = 0x8100
_LINKTYPE_RAW = 101
_DONT_FRAGMENT = 0x4000


class Rebuilt(NamedTuple):
    """What is to be encapsulated, and for which link."""

    kind: str
    inner: bytes
    inner_protocol: int  # EtherType, 0x6558 for an Ethernet frame
    link_type: int


def rebuild(wanted: Rebuilt, params: Sequence[dict[str, Any]], fields: Sequence[LayerField]) -> bytes:
    """The frame: what the encapsulation writes, in an outer header whose fields are those of ``params``.

    Raises InputError where the encapsulation does not take such options, ``_core.EncapDrop`` where it refuses the packet.
    """
    layers = dict(param_layers(params))
    family, ip = (4, layers["ipv4"]) if "ipv4" in layers else (6, layers["ipv6"])
    local, remote = (ip_address(ip[end]).packed for end in ("src", "dst"))
    known = [option.key for option in _core.encap_options(wanted.kind)]
    pushed = codec_of(wanted.kind, options_of(known, fields)).push(wanted.inner, wanted.inner_protocol, local, remote)
    packet = _with_ipv4(pushed, ip) if family == 4 else _with_ipv6(pushed, ip)
    if "udp" in layers:
        packet = _with_source_port(packet, layers["udp"]["sport"])
    return _link(params, ETHERTYPE_IPV4 if family == 4 else ETHERTYPE_IPV6) + packet


def _with_ipv4(packet: bytes, ip: dict[str, Any]) -> bytes:
    fixed = bytearray(packet)
    fixed[1], fixed[8] = ip["tos"], ip["ttl"]
    fixed[4:6] = ip["id"].to_bytes(2, "big")
    fixed[6:8] = (_DONT_FRAGMENT * ip["df"]).to_bytes(2, "big")
    return _with_checksum(fixed, "ipv4")


def _with_ipv6(packet: bytes, ip: dict[str, Any]) -> bytes:
    first = 6 << 28 | ip["traffic_class"] << 20 | ip["flow_label"]
    return struct.pack("!I", first) + packet[4:7] + bytes((ip["hop_limit"],)) + packet[8:]


def _with_source_port(packet: bytes, port: int) -> bytes:
    at = _outer(packet).payload
    fixed = bytearray(packet)
    fixed[at : at + 2] = port.to_bytes(2, "big")
    return _with_checksum(fixed, "udp") if any(fixed[at + 6 : at + 8]) else bytes(fixed)


def _with_checksum(packet: bytearray, layer: str) -> bytes:
    found = outer_checksums(_outer(bytes(packet)))[layer]
    packet[found.offset : found.offset + 2] = found.right.to_bytes(2, "big")
    return bytes(packet)


def _outer(packet: bytes) -> Outer:
    outer = outer_of(packet, _LINKTYPE_RAW)
    if outer is None:
        raise ValueError(f"push made no IP packet: {packet.hex()}")
    return outer


def _link(params: Sequence[dict[str, Any]], ethertype: int) -> bytes:
    header = b""
    for name, layer in param_layers(params):
        if name == "linux_sll":
            return bytes.fromhex(layer["header_hex"])
        if name == "ethernet":
            header = b"".join(bytes.fromhex(layer[end].replace(":", "")) for end in ("dst", "src"))
        if name == "vlan":
            header += _ETHERTYPE_VLAN.to_bytes(2, "big") + layer["tci"].to_bytes(2, "big")
    return header + ethertype.to_bytes(2, "big") if header else b""


def rebuilt_differences(expected: bytes, got: bytes, mask: bytes, link_type: int) -> list[str]:
    """One line per field that differs where ``mask`` has a bit set."""
    if len(expected) == len(got) and not any((a ^ b) & bits for a, b, bits in zip(expected, got, mask, strict=True)):
        return []
    outer = outer_of(expected, link_type)
    link = len(outer.link) if outer else 0
    if expected[:link] != got[:link]:
        return [f"rebuilt link header: expected {expected[:link].hex()}, got {got[:link].hex()}"]
    # an Ethernet header in front, whatever the link is: the comparison dissects Ethernet frames
    ethernet = bytes(12) + (ETHERTYPE_IPV4 if outer is None or outer.family == 4 else ETHERTYPE_IPV6).to_bytes(2, "big")
    free = [(len(ethernet) + at - link, 1) for at in range(link, len(mask)) if not mask[at]]
    return [f"rebuilt {line}" for line in differences(ethernet + expected[link:], ethernet + got[link:], free)]
