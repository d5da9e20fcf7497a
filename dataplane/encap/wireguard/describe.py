"""The fields of a WireGuard message that can be read without its keys."""

from __future__ import annotations

import struct

from dataplane.encap.python_plugin import Field, Refused
from dataplane.encap.udp import UDP_HEADER_LENGTH
from dataplane.encap.wireguard.messages import DATA_HEADER_LENGTH, CookieReply, Data, Initiation, Response, parse

_UDP = struct.Struct("!HHHH")


def describe(payload: bytes) -> tuple[int, list[Field]]:
    """``Encapsulation.describe``: of a data message the header, of others the whole message."""
    if len(payload) < UDP_HEADER_LENGTH:
        return -1, []
    source, destination, length, checksum = _UDP.unpack_from(payload)
    fields = [Field("udp", "sport", source), Field("udp", "dport", destination), Field("udp", "checksum", checksum)]
    body = payload[UDP_HEADER_LENGTH:length]
    try:
        message = parse(body)
    except Refused:
        return -1, fields
    fields += [Field("wireguard", name, value) for name, value in _fields(message)]
    return UDP_HEADER_LENGTH + (DATA_HEADER_LENGTH if isinstance(message, Data) else len(body)), fields


def _fields(message: Initiation | Response | CookieReply | Data) -> list[tuple[str, int | bytes]]:
    if isinstance(message, Data):
        return [("type", 4), ("receiver", message.receiver), ("counter", message.counter)]
    if isinstance(message, CookieReply):
        return [("type", 3), ("receiver", message.receiver), ("nonce", message.nonce)]
    if isinstance(message, Response):
        return [("type", 2), ("sender", message.sender), ("receiver", message.receiver), ("ephemeral", message.ephemeral)]
    return [("type", 1), ("sender", message.sender), ("ephemeral", message.ephemeral)]
