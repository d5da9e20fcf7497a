"""What the tests of encapsulations in UDP share beyond ``tunnel_packets``."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import UDP
from scapy.packet import Raw

from .tunnel_packets import FRAME, TEB, codec, ends, outer

Options = dict[str, int | bytes]


def push(kind: str, options: Options, inner: bytes = FRAME, protocol: int = TEB, family: int = 4, **rest: Any) -> bytes:
    return codec(kind, **options).push(inner, protocol, *ends(family), **rest)


def header(packet: bytes, size: int) -> bytes:
    """The ``size`` bytes behind the outer UDP header."""
    at = (20 if packet[0] >> 4 == 4 else 40) + 8
    return packet[at : at + size]


def datagram(family: int, port: int, payload: bytes) -> bytes:
    """An outer IP packet with a UDP datagram to ``port``, its checksum computed."""
    return bytes(outer(family) / UDP(sport=40000, dport=port) / Raw(payload))


def refusal(kind: str, options: Options, port: int, payload: bytes, family: int = 4) -> str | None:
    """The drop reason of a datagram that comes to a device with these options; None: it is accepted."""
    return codec(kind, **options).pop(datagram(family, port, payload)).reason
