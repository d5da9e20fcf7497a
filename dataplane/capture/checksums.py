"""Which Internet checksums of a frame hold (RFC 1071), on every layer that carries one."""

from __future__ import annotations

from typing import NamedTuple

from dataplane.capture.dissect import dissect
from dataplane.capture.layer import Layer

VALID, INVALID, ABSENT, UNKNOWN = "valid", "invalid", "absent", "unknown"

# layer -> offset of its checksum, IP protocol number of its pseudo-header (0: none)
_TRANSPORT = {"TCP": (16, 6), "UDP": (6, 17), "ICMP": (2, 0), "ICMPv6": (2, 58)}


class Checksum(NamedTuple):
    """One checksum field of a frame."""

    label: str  # "IPv4", "inner UDP", "quoted IPv4", ...
    offset: int  # of the field
    start: int  # of the bytes it depends on, addresses of the pseudo-header among them
    end: int
    state: str  # VALID, INVALID, ABSENT (UDP's 0), UNKNOWN (a fragment, or bytes are missing)
    right: int  # the value that would be valid; 0 where unknown


def checksums_valid(frame: bytes) -> dict[str, bool]:
    """Label of each checksum to whether it holds; those that cannot be told (fragments, cut-off quotes, UDP's 0) are left out."""
    return {item.label: item.state == VALID for item in checksums(frame) if item.state in (VALID, INVALID)}


def checksums(frame: bytes) -> list[Checksum]:
    """Every checksum field of a frame, outermost first."""
    found = []
    network: Layer | None = None
    fragmented = False
    for layer in dissect(frame):
        if layer.name in ("IPv4", "IPv6"):
            network, fragmented = layer, False
            if layer.name == "IPv4":
                found += _ipv4(frame, layer)
        fragmented |= _hides_checksum(layer)
        if layer.name in _TRANSPORT and network is not None:
            found += _transport(frame, layer, network, fragmented)
    return found


def _hides_checksum(layer: Layer) -> bool:
    """True for a fragment, and for a routing header, whose last hop alone is the pseudo-header's destination."""
    return any(layer.text(field) not in ("", "0") for field in ("mf", "fragment offset", "segments left"))


def _ipv4(frame: bytes, layer: Layer) -> list[Checksum]:
    start = layer.offset
    if layer.end - start < 20:
        return []
    end = start + 4 * (frame[start] & 0x0F)
    label = f"{layer.where}IPv4"
    if end < start + 20 or end > layer.end:
        return [Checksum(label, start + 10, start, start + 20, UNKNOWN, 0)]
    return [_result(label, frame, start + 10, start, start, end, b"")]


def _transport(frame: bytes, layer: Layer, network: Layer, fragmented: bool) -> list[Checksum]:
    at, protocol = _TRANSPORT[layer.name]
    start, end = layer.offset, layer.end
    if start + at + 2 > end:
        return []
    label = f"{layer.where}{layer.name}"
    if fragmented or not network.complete or not layer.complete:
        return [Checksum(label, start + at, network.offset, end, UNKNOWN, 0)]
    if layer.name == "UDP" and frame[start + at : start + at + 2] == b"\0\0":
        return [Checksum(label, start + at, network.offset, end, ABSENT, 0)]
    pseudo = b""
    if protocol:
        addresses_at, size = (12, 8) if network.name == "IPv4" else (8, 32)
        addresses = frame[network.offset + addresses_at : network.offset + addresses_at + size]
        pseudo = addresses + protocol.to_bytes(4, "big") + (end - start).to_bytes(4, "big")
    return [_result(label, frame, start + at, network.offset, start, end, pseudo)]


def _result(label: str, frame: bytes, field: int, depends_from: int, start: int, end: int, pseudo: bytes) -> Checksum:
    without = _sum(pseudo + frame[start:field] + b"\0\0" + frame[field + 2 : end])
    right = 0xFFFF - without
    if label.endswith("UDP") and right == 0:
        right = 0xFFFF  # RFC 768: 0 says that there is none
    got = int.from_bytes(frame[field : field + 2], "big")
    # 0 and 0xffff are the same number in one's complement: a receiver takes either
    state = VALID if (without + got) % 0xFFFF == 0 else INVALID
    return Checksum(label, field, depends_from, end, state, right)


def _sum(data: bytes) -> int:
    """One's complement sum; 0xffff, not 0, for bytes that are not all zero, as adding with carry gives."""
    value = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return value % 0xFFFF or (0xFFFF if value else 0)
