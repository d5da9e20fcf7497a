"""Frames compared with those of a capture kept beside the tests, field by field, outermost layer first.

Fields are named as in ``udp.sport``: the layer in lower case (``eth``, ``vlan``, ``ip`` for both versions, ``tcp``, ``vxlan``, ...),
a dot, and the field's name with ``_`` for a space, or in short (``src``, ``dst``, ``sport``, ``dport``, ``seq``, ``ack``).
``outer udp.sport`` means that field outside all tunnels, ``inner udp.sport`` inside one, the plain name both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataplane.capture.compare import differences, numbered
from dataplane.capture.layer import Field, Layer
from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW, raw_ethertype
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.capture.tunnel import ETHERTYPE_TEB, inner_type
from dataplane.capture.tunnel_layers import dissect_tunnels
from dataplane.errors import InputError
from dataplane.scapy_border import to_bytes

_LAYER_NAMES = {"Ethernet": "eth", "802.1Q": "vlan", "IPv4": "ip", "IPv6": "ip"}
_SHORT = {
    "source": "src",
    "destination": "dst",
    "source port": "sport",
    "destination port": "dport",
    "sequence number": "seq",
    "acknowledgment number": "ack",
}


class GoldenFrame(NamedTuple):
    """A frame as it is kept and compared; ``interface`` is "" where nobody says, and then ``direction`` too."""

    data: bytes
    interface: str
    direction: str  # "in", "out" or ""
    time_ns: int
    ethertype: int = 0  # of bytes that begin with an IP header, 0 of an Ethernet frame


def golden_frame(frame: Any) -> GoldenFrame:
    """Of bytes, a Scapy packet, or a record with ``data`` and perhaps ``interface``, ``direction``, ``time`` and ``ethernet``
    (``Emulator.frames``). Without ``ethernet`` bytes are an IP packet if its own lengths say so.

    Raises InputError for anything else.
    """
    data = getattr(frame, "data", None)
    if not isinstance(data, bytes):
        data = to_bytes(frame)
        return GoldenFrame(data, "", "", 0, _guessed(data))
    interface, direction, ethernet = getattr(frame, "interface", ""), getattr(frame, "direction", ""), getattr(frame, "ethernet", None)
    ethertype = _guessed(data) if ethernet is None else 0 if ethernet else raw_ethertype(data)
    return GoldenFrame(data, str(interface), str(direction), int(getattr(frame, "time", 0)), ethertype)


def _guessed(data: bytes) -> int:
    kind = inner_type(data)
    return 0 if kind == ETHERTYPE_TEB else kind


def read_golden(path: str | os.PathLike[str]) -> list[GoldenFrame]:
    """The frames of a golden capture. Raises InputError for a file that is none."""
    return [
        GoldenFrame(
            packet.data,
            packet.interface,
            ("out" if packet.outgoing else "in") if packet.interface else "",
            packet.time_ns,
            packet.ethertype if packet.is_l3 else 0,
        )
        for packet in open_capture(path)
    ]


def write_golden(path: Path, frames: Sequence[GoldenFrame]) -> None:
    """Write the capture, and the folder if it is not there. Raises InputError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made: {error.strerror}") from error
    links = [(frame.interface, LINKTYPE_RAW if frame.ethertype else LINKTYPE_ETHERNET) for frame in frames]
    places = {link: index for index, link in enumerate(dict.fromkeys(links))}
    with CaptureWriter(path, [Interface(name, link_type=link_type) for name, link_type in places]) as writer:
        for number, (frame, link) in enumerate(zip(frames, links, strict=True), 1):
            writer.write(places[link], frame.time_ns, frame.data, frame.direction == "out", number)


def golden_differences(expected: Sequence[GoldenFrame], got: Sequence[GoldenFrame], mask: Iterable[str] = ()) -> list[str]:
    """One line per difference, none if all frames are equal but for the fields named in ``mask`` and the checksums over them."""
    free = frozenset(mask)
    lines = []
    if len(expected) != len(got):
        lines.append(f"expected {len(expected)} frames, got {len(got)}")
    for number, (wanted, found) in enumerate(zip(expected, got, strict=False), 1):
        lines += [f"frame {number}: {line}" for line in _frame_differences(wanted, found, free)]
    return lines


def _frame_differences(wanted: GoldenFrame, found: GoldenFrame, free: frozenset[str]) -> list[str]:
    lines = []
    for what in ("interface", "direction"):
        before, after = getattr(wanted, what), getattr(found, what)
        if before != after:
            lines.append(f"{what}: expected {before or 'none'}, got {after or 'none'}")
    if wanted.ethertype != found.ethertype:
        kinds = ["an IP packet" if frame.ethertype else "an Ethernet frame" for frame in (wanted, found)]
        if kinds[0] != kinds[1]:
            return [*lines, f"expected {kinds[0]}, got {kinds[1]}"]
    return lines + differences(
        _with_ethernet(wanted),
        _with_ethernet(found),
        free_field=lambda layer, field: not free.isdisjoint(field_names(layer, field)),
        dissector=dissect_tunnels,
    )


def _with_ethernet(frame: GoldenFrame) -> bytes:
    """An IP packet behind an empty Ethernet header, since Ethernet frames are what is dissected."""
    return bytes(12) + frame.ethertype.to_bytes(2, "big") + frame.data if frame.ethertype else frame.data


def field_names(layer: Layer, field: Field) -> set[str]:
    """Every name by which a mask may call this field."""
    place = "inner" if layer.where else "outer"
    lower = layer.name.lower().replace(" ", "_")
    layers = {_LAYER_NAMES.get(layer.name, lower), lower}
    fields = {_SHORT.get(field.name, field.name), field.name}
    plain = {f"{head}.{tail.replace(' ', '_')}" for head in layers for tail in fields}
    return plain | {f"{place} {name}" for name in plain}


def differing_fields(expected: Sequence[GoldenFrame], got: Sequence[GoldenFrame], mask: Iterable[str] = ()) -> list[str]:
    """What a mask would have to name besides, in short names and in order of their first appearance; checksums follow by themselves."""
    free = frozenset(mask)
    names: dict[str, None] = {}
    for wanted, found in zip(expected, got, strict=False):
        pairs = zip(*(dissect_tunnels(_with_ethernet(frame)) for frame in (wanted, found)), strict=False)
        for layer, twin in pairs:
            twins = numbered(twin.fields)
            for key, field in numbered(layer.fields).items():
                if key in twins and twins[key].text != field.text and free.isdisjoint(field_names(layer, field)):
                    names[_short_name(layer, field)] = None
    return [name for name in names if not name.endswith("checksum")] or list(names)


def _short_name(layer: Layer, field: Field) -> str:
    head = _LAYER_NAMES.get(layer.name, layer.name.lower())
    return f"{head}.{_SHORT.get(field.name, field.name)}".replace(" ", "_")
