"""The only place where Scapy packets become bytes and bytes become Scapy packets.

Scapy is an optional dependency, imported when the first packet is dissected. It is licensed under GPL-2.0-only:
``dataplane`` itself (Apache-2.0) neither contains nor needs it, but a program that imports Scapy and is passed on to
others falls under the GPL's terms as a whole, and version 2 of the GPL is widely held to be incompatible with
Apache-2.0. Use it inside your own house freely; before you distribute a program that calls into this module, or
ship Scapy with it, take advice. Everything here works on plain ``bytes`` without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dataplane.errors import InputError

if TYPE_CHECKING:
    from scapy.packet import Packet


@runtime_checkable
class Buildable(Protocol):
    """What a Scapy packet is to us: something that builds its own bytes."""

    def __bytes__(self) -> bytes: ...


def to_bytes(packet: Buildable | bytes | bytearray | memoryview) -> bytes:
    """The bytes of a frame or packet, whether it came as bytes or as a Scapy packet."""
    if not isinstance(packet, bytes | bytearray | memoryview | Buildable):
        raise InputError(f"a frame must be bytes or a Scapy packet, not {type(packet).__name__}")
    return bytes(packet)


def dissect_frame(data: bytes, *, ethernet: bool = True) -> Packet:
    """An Ethernet frame, or else an IP packet, as a Scapy packet; what Scapy cannot dissect stays ``Raw``.

    Raises ``InputError`` without Scapy.
    """
    try:
        from scapy.layers.l2 import Ether
    except ImportError:
        raise InputError("Scapy is not installed: pip install scapy (GPL-2.0), or use the frame's bytes") from None
    import scapy.layers.vxlan  # noqa: F401  (importing registers the layers)
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    if ethernet:
        return Ether(data)
    return IPv6(data) if data[:1] >= b"\x60" else IP(data)


def template_fields(header: Buildable | bytes, names: Iterable[str]) -> tuple[bytes, dict[str, int], str]:
    """A header template taken apart: its bytes, the bits that each of the fields ``names`` takes (of the header as one integer in
    network byte order), and the name of its first layer, empty where it is bytes.

    Names are ``LAYER.field`` with Scapy's names. InputError: no such layer or field, or a template that cannot be.
    """
    if isinstance(header, bytes):
        for name in names:
            raise InputError(f"field {name}: say where it is with at=Bits(byte, bits), as the template is bytes")
        return header, {}, ""
    if not hasattr(header, "layers"):
        raise InputError(f"the template must be a Scapy packet or bytes, not {type(header).__name__}")
    first = type(header).__name__
    if first in ("Ether", "IP", "IPv6"):
        raise InputError(f"the template begins behind the outer IP header: leave out {first}()")
    packet: Any = header
    found = [(name, *_layer_and_field(packet, name)) for name in names]
    all_zero = _with(packet, [(layer, field, 0) for _, layer, field in found])
    masks = {}
    for name, layer, field in found:
        kind = packet[layer].get_field(field)
        ones = (1 << int(getattr(kind, "size", 0) or 8 * kind.sz)) - 1
        others = [(other, theirs, 0) for _, other, theirs in found]
        masks[name] = _as_integer(all_zero) ^ _as_integer(_with(packet, [*others, (layer, field, ones)]))
    return _with(packet, []), masks, first


def _layer_and_field(packet: Any, name: str) -> tuple[str, str]:
    layer, _, field = name.partition(".")
    if layer not in [kind.__name__ for kind in packet.layers()]:
        raise InputError(f"field {name}: the template has no layer {layer or name}: write LAYER.field, or at=Bits(byte, bits)")
    if field not in packet[layer].fieldtype:
        raise InputError(f"field {name}: Scapy's layer {layer} has no field {field}")
    return layer, field


def _with(packet: Any, values: Iterable[tuple[str, str, int]]) -> bytes:
    """The bytes of ``packet`` with these fields set."""
    changed = packet.copy()
    try:
        for layer, field, value in values:
            changed[layer].setfieldval(field, value)
        return bytes(changed)
    except Exception as error:  # Scapy's layers raise whatever their fields meet
        raise InputError(f"Scapy cannot build the template: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _as_integer(data: bytes) -> int:
    return int.from_bytes(data, "big")
