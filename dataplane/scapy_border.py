"""The only place where Scapy packets become bytes and bytes become Scapy packets.

Scapy is an optional dependency, imported when the first packet is dissected. It is licensed under GPL-2.0-only:
``dataplane`` itself (Apache-2.0) neither contains nor needs it, but a program that imports Scapy and is passed on to
others falls under the GPL's terms as a whole, and version 2 of the GPL is widely held to be incompatible with
Apache-2.0. Use it inside your own house freely; before you distribute a program that calls into this module, or
ship Scapy with it, take advice. Everything here works on plain ``bytes`` without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

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


def dissect_frame(data: bytes) -> Packet:
    """An Ethernet frame as a Scapy packet; what Scapy cannot dissect stays ``Raw``. Raises ``InputError`` without Scapy."""
    try:
        from scapy.layers.l2 import Ether
    except ImportError:
        raise InputError("Scapy is not installed: pip install scapy (GPL-2.0), or use the frame's bytes") from None
    import scapy.layers.inet
    import scapy.layers.inet6
    import scapy.layers.vxlan  # noqa: F401  (importing registers the layers)

    return Ether(data)
