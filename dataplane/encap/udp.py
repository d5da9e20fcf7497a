"""UDP headers (RFC 768) for encapsulations in Python."""

from __future__ import annotations

import struct

from dataplane.encap.python_plugin import Outgoing, Refused

UDP_HEADER_LENGTH = 8
_HEADER = struct.Struct("!HHHH")
_MOST = 65535 - UDP_HEADER_LENGTH


def datagram(source_port: int, destination_port: int, payload: bytes, outer: Outgoing, *, checksum: bool = True) -> bytes:
    """``payload`` behind a UDP header, for the addresses of ``outer``.

    Without ``checksum`` the field is zero; so it is while the local address is not known, for the core to complete.
    Refused ``too_big``: it does not fit a datagram.
    """
    if len(payload) > _MOST:
        raise Refused("too_big")
    length = UDP_HEADER_LENGTH + len(payload)
    value = 0
    if checksum and any(outer.local):
        header = _HEADER.pack(source_port, destination_port, length, 0)
        pseudo = outer.local + outer.remote + struct.pack("!II", length, outer.ip_protocol)
        value = _checksum(pseudo + header + payload) or 0xFFFF
    return _HEADER.pack(source_port, destination_port, length, value) + payload


def split(packet: bytes) -> tuple[int, bytes]:
    """Source port and payload of a received datagram. Refused ``truncated``: header or payload are not all there."""
    if len(packet) < UDP_HEADER_LENGTH:
        raise Refused("truncated")
    source_port, _, length, _ = _HEADER.unpack_from(packet)
    if not UDP_HEADER_LENGTH <= length <= len(packet):
        raise Refused("truncated")
    return source_port, packet[UDP_HEADER_LENGTH:length]


def _checksum(data: bytes) -> int:
    """RFC 1071, complemented. 2**16 is 1 modulo 65535, so the ones' complement sum is a remainder."""
    rest = int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
    return ~rest & 0xFFFF
