"""The four messages (drivers/net/wireguard/messages.h; section 5.4 of the paper). All integers are little-endian."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dataplane.encap.python_plugin import Refused

MAC_LENGTH = 16
TAG_LENGTH = 16
KEY_LENGTH = 32
TYPE_INITIATION, TYPE_RESPONSE, TYPE_COOKIE, TYPE_DATA = 1, 2, 3, 4

_TYPE = struct.Struct("<I")  # one byte of type and three reserved zero bytes
_INITIATION = struct.Struct("<II32s48s28s16s16s")
_RESPONSE = struct.Struct("<III32s16s16s16s")
_COOKIE = struct.Struct("<II24s32s")
_DATA = struct.Struct("<IIQ")
DATA_HEADER_LENGTH = _DATA.size
DATA_OVERHEAD = DATA_HEADER_LENGTH + TAG_LENGTH


@dataclass(slots=True)
class Initiation:
    """The first message of a handshake. ``cookie.py`` puts two macs behind it."""

    sender: int
    ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes

    def without_macs(self) -> bytes:
        parts = (self.sender, self.ephemeral, self.encrypted_static, self.encrypted_timestamp)
        return _INITIATION.pack(TYPE_INITIATION, *parts, b"", b"")[: -2 * MAC_LENGTH]


@dataclass(slots=True)
class Response:
    """The second message of a handshake."""

    sender: int
    receiver: int
    ephemeral: bytes
    encrypted_nothing: bytes

    def without_macs(self) -> bytes:
        parts = (self.sender, self.receiver, self.ephemeral, self.encrypted_nothing)
        return _RESPONSE.pack(TYPE_RESPONSE, *parts, b"", b"")[: -2 * MAC_LENGTH]


@dataclass(slots=True)
class CookieReply:
    """The answer of a busy machine to either message of a handshake."""

    receiver: int
    nonce: bytes
    encrypted_cookie: bytes

    def packed(self) -> bytes:
        return _COOKIE.pack(TYPE_COOKIE, self.receiver, self.nonce, self.encrypted_cookie)


@dataclass(slots=True)
class Data:
    """A packet inside a session; without a plaintext it is a keepalive."""

    receiver: int
    counter: int
    ciphertext: bytes

    def packed(self) -> bytes:
        return _DATA.pack(TYPE_DATA, self.receiver, self.counter) + self.ciphertext


Message = Initiation | Response | CookieReply | Data


def parse(payload: bytes) -> Message:
    """The message in a UDP payload. Refused ``bad_message``: no such type or length (validate_header_len())."""
    kind = _TYPE.unpack_from(payload)[0] if len(payload) >= _TYPE.size else 0
    if kind == TYPE_DATA and len(payload) >= DATA_OVERHEAD:
        _, receiver, counter = _DATA.unpack_from(payload)
        return Data(receiver, counter, payload[DATA_HEADER_LENGTH:])
    if kind == TYPE_INITIATION and len(payload) == _INITIATION.size:
        return Initiation(*_INITIATION.unpack(payload)[1:-2])
    if kind == TYPE_RESPONSE and len(payload) == _RESPONSE.size:
        return Response(*_RESPONSE.unpack(payload)[1:-2])
    if kind == TYPE_COOKIE and len(payload) == _COOKIE.size:
        return CookieReply(*_COOKIE.unpack(payload)[1:])
    raise Refused("bad_message")
