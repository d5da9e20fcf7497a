"""IPv6 frames damaged on purpose: every function takes a good frame and returns another one and what was done to it."""

from __future__ import annotations

import struct
from random import Random

from . import wire
from .broken import Damage, Damaged, addresses, ethertype, trailer, vlan
from .topology import Topology

CHECKSUMS = {wire.TCP: 16, wire.UDP: 6, wire.ICMP6: 2}
IP_END = 54


def _patched(frame: bytes, at: int, value: bytes) -> bytes:
    return frame[:at] + value + frame[at + len(value) :]


def fixed(frame: bytes) -> bytes:
    """With the right checksum of what the packet carries, as far as the frame and its payload length reach."""
    if len(frame) < IP_END:
        return frame
    proto, at = wire.upper_layer(frame, 14)
    end = IP_END + int.from_bytes(frame[18:20], "big")
    if proto not in CHECKSUMS or end > len(frame) or end < at + 8 + (12 if proto == wire.TCP else 0):
        return frame
    field = at + CHECKSUMS[proto]
    body = _patched(frame, field, b"\0\0")[at:end]
    pseudo = frame[22:54] + struct.pack(">IHBB", len(body), 0, 0, proto)
    return _patched(frame, field, struct.pack(">H", wire.checksum(pseudo + body) or 0xFFFF))


def l4_checksum(frame: bytes, rng: Random) -> Damaged:
    proto, at = wire.upper_layer(frame, 14)
    field = at + CHECKSUMS.get(proto, 2)
    if field + 2 > len(frame):
        return frame, "whole"
    if proto == wire.UDP and rng.random() < 0.4:
        return _patched(frame, field, b"\0\0"), "UDP checksum 0"
    return _patched(frame, field, bytes([frame[field] ^ 1 << rng.randrange(8)])), "wrong L4 checksum"


def bits(frame: bytes, rng: Random) -> Damaged:
    changed, places = bytearray(frame), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, bit = rng.randrange(14, min(len(frame), IP_END + rng.choice([0, 8, 24]))), rng.randrange(8)
        changed[at] ^= 1 << bit
        places.append(f"{at}.{bit}")
    fix = rng.random() < 0.7
    return fixed(bytes(changed)) if fix else bytes(changed), f"bits {' '.join(places)} flipped{', checksum right' if fix else ''}"


def cut(frame: bytes, rng: Random) -> Damaged:
    length = rng.choice([rng.randrange(12, len(frame) + 1), rng.randrange(12, min(len(frame), 80) + 1)])
    if length > IP_END and rng.random() < 0.5:
        return fixed(_patched(frame[:length], 18, struct.pack(">H", length - IP_END))), f"cut to {length} bytes, payload length right"
    return frame[:length], f"cut to {length} bytes"


def lengths(frame: bytes, rng: Random) -> Damaged:
    total = max(0, rng.choice([0, 1, 7, 8, 20, len(frame) - IP_END - 1, len(frame) - IP_END + 1, 65535]))
    return fixed(_patched(frame, 18, struct.pack(">H", total))), f"payload length {total}"


def first_byte(frame: bytes, rng: Random) -> Damaged:
    value = rng.choice([0x40, 0x45, 0x50, 0x70, 0x00, 0xF0])
    return _patched(frame, 14, bytes([value])), f"first byte 0x{value:02x}"


def next_header(frame: bytes, rng: Random) -> Damaged:
    value = rng.choice([0, 1, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 135, 200, 255])
    return _patched(frame, 20, bytes([value])), f"next header {value}"


def hop_limit(frame: bytes, rng: Random) -> Damaged:
    value = rng.choice([0, 1, 2, 254, 255])
    return _patched(frame, 21, bytes([value])), f"hop limit {value}"


def ends(frame: bytes, rng: Random) -> Damaged:
    """Another source or destination, with the checksum then right."""
    odd = ("::", "::1", "ff02::1", "ff0e::1", "fe80::1234", "::ffff:192.168.1.1", "fec0::1", "2001:db8::1", "ff00::")
    value = rng.choice([*map(wire.packed, odd), frame[22:38], frame[38:54]])
    at, what = rng.choice([(22, "source"), (38, "destination")])
    return fixed(_patched(frame, at, value)), f"other {what}"


def l4_fields(frame: bytes, rng: Random) -> Damaged:
    """UDP length, TCP data offset and flags, or ICMPv6 type and code, with the checksum then right."""
    proto, at = wire.upper_layer(frame, 14)
    if proto == wire.UDP and len(frame) >= at + 8:
        length = max(0, rng.choice([0, 7, 8, 9, len(frame) - at - 1, len(frame) - at + 1, 65535]))
        return fixed(_patched(frame, at + 4, struct.pack(">H", length))), f"UDP length {length}"
    if proto == wire.TCP and len(frame) >= at + 20:
        words, flags = rng.choice([(rng.randrange(16), frame[at + 13]), (frame[at + 12] >> 4, rng.randrange(256))])
        return fixed(_patched(frame, at + 12, bytes([words << 4, flags]))), f"TCP data offset {words}, flags 0x{flags:02x}"
    if proto == wire.ICMP6 and len(frame) >= at + 8:
        kind, code = rng.choice([k for k in range(256) if k != 130]), rng.choice([0, 1, 255])
        return fixed(_patched(frame, at, bytes([kind, code]))), f"ICMPv6 type {kind}, code {code}"
    return frame, "whole"


IP_DAMAGE: tuple[Damage, ...] = (
    l4_checksum,
    bits,
    bits,
    bits,
    cut,
    cut,
    trailer,
    lengths,
    first_byte,
    next_header,
    hop_limit,
    ends,
    l4_fields,
    l4_fields,
)


def damage(frame: bytes, rng: Random, topology: Topology) -> Damaged:
    """One or two kinds of damage to an IPv6 frame."""
    if rng.random() < 0.15:
        if rng.random() < 0.5:
            return addresses(frame, rng, topology)
        return rng.choice((vlan, ethertype))(frame, rng)
    out, what = rng.choice(IP_DAMAGE)(frame, rng)
    if rng.random() < 0.12 and len(out) >= 80:
        out, more = rng.choice(IP_DAMAGE)(out, rng)
        what = f"{what}, {more}"
    return out, what
