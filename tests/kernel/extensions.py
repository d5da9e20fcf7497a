"""IPv6 extension headers, right and wrong, as the pairs of number and bytes of which ``Ip6`` makes a chain."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from . import wire

Header = tuple[int, bytes]

# Options by what an unknown one asks for (RFC 8200 section 4.2), and known ones in right and wrong shapes.
OPTIONS: tuple[bytes, ...] = (
    b"\x01\x04" + bytes(4),
    b"\0" * 6,
    b"\x01\x06" + bytes(6),
    b"\x01\x04\0\0\1\0",
    b"\x05\x02\0\0",
    b"\x05\x02\0\1\x05\x02\0\0",
    b"\x05\x04\0\0\0\0",
    b"\x1e\x04abcd",
    b"\x5e\x04abcd",
    b"\x9e\x04abcd",
    b"\xde\x04abcd",
    b"\xde\0",
    b"\x1e\x40abcd",
    b"\x04\x01\x04",
    b"\xc2\x04\0\0\0\x08",
    b"\xc2\x04\0\1\0\0",
    b"\xc9\x10" + bytes(16),
    b"\x07\x08" + bytes(8),
    b"\x31\x02\0\0",
    b"\x0f\x02\0\0",
    b"\xc0\x01\0",
    b"\x01",
)


def options(rng: Random) -> bytes:
    """An options header: one or two options, padded to a multiple of eight bytes in one of the ways there are."""
    body = b"".join(rng.choice(OPTIONS) for _ in range(rng.choice([0, 1, 1, 1, 2])))
    missing = -(len(body) + 2) % 8
    if missing:
        body += b"\0" * missing if missing == 1 or rng.random() < 0.2 else bytes([1, missing - 2]) + bytes(missing - 2)
    if rng.random() < 0.08:
        body += b"\x01\x06" + bytes(6) + b"\0" * 8
    return _sized(b"\0\0" + body, rng)


def _sized(header: bytes, rng: Random) -> bytes:
    """With its length in units of eight bytes after the first eight; rarely a wrong one."""
    units = len(header) // 8 - 1
    if rng.random() < 0.04:
        units = rng.choice([units + 1, units + 9, 255, max(0, units - 1)])
    return header[:1] + bytes([units]) + header[2:]


def routing(rng: Random, addresses: Sequence[str]) -> bytes:
    """Types 0, 2, 3 and 4 and unknown ones, with segments left or without."""
    kind = rng.choice([0, 0, 2, 2, 3, 4, 4, 1, 99, 253])
    count = rng.choice([0, 1, 1, 2])
    left = rng.choice([0, 0, count, 1, 255])
    segments = b"".join(wire.packed(rng.choice(list(addresses))) for _ in range(count))
    special = bytes([max(0, count - 1), 0, 0, 0]) if kind == 4 else bytes(4)
    return _sized(bytes([0, 0, kind, left]) + special + segments, rng)


def fragment(rng: Random) -> bytes:
    """Mostly an atomic fragment (RFC 6946)."""
    field = rng.choices([0, 1, 8, 9, 0xFFF8, 6], [70, 6, 6, 6, 6, 6])[0]
    return struct.pack(">BBHI", 0, rng.choices([0, 7], [90, 10])[0], field, rng.randrange(1 << 32))


def authentication(rng: Random) -> bytes:
    size = rng.choice([12, 24])
    return struct.pack(">BBHII", 0, size // 4 - 2 if rng.random() < 0.9 else 200, 0, 1, 1) + bytes(size - 12)


def chain(rng: Random, addresses: Sequence[str]) -> tuple[Header, ...]:
    """One to three extension headers, mostly in the order that RFC 8200 recommends; ``addresses`` for routing headers."""
    kinds = [wire.HOP_BY_HOP, wire.DESTINATION_OPTIONS, wire.ROUTING, wire.FRAGMENT, wire.AUTHENTICATION, wire.DESTINATION_OPTIONS]
    chosen = sorted(rng.choices(range(len(kinds)), [30, 18, 20, 20, 6, 6], k=rng.choice([1, 1, 1, 2, 3])))
    if rng.random() < 0.15:
        rng.shuffle(chosen)
    return tuple((kinds[i], _header(kinds[i], rng, addresses)) for i in chosen)


def _header(kind: int, rng: Random, addresses: Sequence[str]) -> bytes:
    if kind == wire.ROUTING:
        return routing(rng, addresses)
    if kind == wire.FRAGMENT:
        return fragment(rng)
    return authentication(rng) if kind == wire.AUTHENTICATION else options(rng)
