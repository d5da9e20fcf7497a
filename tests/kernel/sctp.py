"""SCTP packets (RFC 9260) of associations whose verification tags follow from their ports, so that no end has to remember them."""

from __future__ import annotations

import struct
from random import Random

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = range(12)
SHUTDOWN_COMPLETE = 14
ANSWERS = {
    INIT: (INIT_ACK,),
    INIT_ACK: (COOKIE_ECHO,),
    COOKIE_ECHO: (COOKIE_ACK,),
    COOKIE_ACK: (DATA, DATA, HEARTBEAT, SHUTDOWN),
    DATA: (SACK, SACK, DATA, SHUTDOWN, ABORT),
    SACK: (DATA, SHUTDOWN),
    HEARTBEAT: (HEARTBEAT_ACK,),
    HEARTBEAT_ACK: (DATA, SHUTDOWN),
    SHUTDOWN: (SHUTDOWN_ACK,),
    SHUTDOWN_ACK: (SHUTDOWN_COMPLETE,),
}
CASTAGNOLI = 0x82F63B78  # reversed polynomial (RFC 9260 appendix A)


def _table() -> list[int]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
        rows.append(value)
    return rows


TABLE = _table()


def crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = TABLE[(remainder ^ byte) & 0xFF] ^ remainder >> 8
    return remainder ^ 0xFFFFFFFF


def tag(port: int) -> int:
    """The verification tag that the end at ``port`` asks for."""
    return port * 2654435761 & 0xFFFFFFFF | 1


def chunk(kind: int, own_port: int, rng: Random) -> bytes:
    """One chunk from the end at ``own_port``."""
    if kind in (INIT, INIT_ACK):
        body = struct.pack(">IIHHI", tag(own_port), 65535, 1, 1, 1000) + (b"\0\7\0\x08cook" if kind == INIT_ACK else b"")
    else:
        body = {DATA: struct.pack(">IHHI", 1000, 0, 0, 0) + b"data", SACK: struct.pack(">IIHH", 1000, 65535, 0, 0)}.get(
            kind, b"\0\1\0\x08beat"
        )
    if kind in (SHUTDOWN_ACK, SHUTDOWN_COMPLETE, COOKIE_ACK, ABORT):
        body = b""
    elif kind in (SHUTDOWN, COOKIE_ECHO):
        body = body[4:8]
    length = 4 + len(body) if rng.random() < 0.96 else rng.choice([0, 3, 4, 200])
    return struct.pack(">BBH", kind, 3 if kind == DATA else 0, length) + body


def packet(sport: int, dport: int, kind: int, rng: Random) -> bytes:
    """A packet with one chunk, rarely two, rarely with a wrong tag or checksum."""
    verification = 0 if kind == INIT else tag(dport)
    if rng.random() < 0.05:
        verification = rng.choice([0, 7, tag(sport)])
    body = chunk(kind, sport, rng)
    if rng.random() < 0.06:
        body += chunk(rng.choice([DATA, INIT, COOKIE_ACK, SHUTDOWN_COMPLETE]), sport, rng)
    head = struct.pack(">HHI", sport, dport, verification)
    check = crc32c(head + bytes(4) + body) ^ (rng.random() < 0.04)
    return head + struct.pack("<I", check) + body


def answer(payload: bytes, rng: Random) -> tuple[bytes, int] | None:
    """What the end that this packet arrived at says, and the chunk's number; None where it stays silent."""
    if len(payload) < 16 or payload[12] not in ANSWERS:
        return None
    sport, dport = struct.unpack_from(">HH", payload)
    kind = rng.choice(ANSWERS[payload[12]]) if rng.random() < 0.93 else rng.choice([INIT, ABORT, ERROR, SHUTDOWN, SHUTDOWN_COMPLETE])
    return packet(dport, sport, kind, rng), kind
