"""Frames damaged on purpose: every function takes a good frame and returns another one and what was done to it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from . import wire
from .topology import Topology

Damaged = tuple[bytes, str]


def _header(frame: bytes) -> int:
    """Length of the IPv4 header that the frame claims, at least 20."""
    return max(20, (frame[14] & 15) * 4)


def _patched(frame: bytes, at: int, value: bytes, *, fix: bool) -> bytes:
    """Bytes replaced, with the IP header checksum made right again if ``fix``."""
    frame = frame[:at] + value + frame[at + len(value) :]
    return fixed(frame) if fix else frame


def fixed(frame: bytes) -> bytes:
    """With the right IP header checksum."""
    end = 14 + _header(frame)
    head = frame[14:24] + b"\0\0" + frame[26:end]
    return frame[:24] + struct.pack(">H", wire.checksum(head)) + frame[26:]


def ip_checksum(frame: bytes, rng: Random) -> Damaged:
    return _patched(frame, 24, bytes([frame[24] ^ (1 << rng.randrange(8))]), fix=False), "wrong IP checksum"


def l4_checksum(frame: bytes, rng: Random) -> Damaged:
    offset = {wire.TCP: 16, wire.UDP: 6, wire.ICMP: 2}.get(frame[23], 2)
    at = 14 + _header(frame) + offset
    if at + 2 > len(frame):
        return frame, "whole"
    if frame[23] == wire.UDP and rng.random() < 0.4:
        return frame[:at] + b"\0\0" + frame[at + 2 :], "UDP checksum 0"
    return frame[:at] + bytes([frame[at] ^ (1 << rng.randrange(8))]) + frame[at + 1 :], "wrong L4 checksum"


def bits(frame: bytes, rng: Random) -> Damaged:
    fix = rng.random() < 0.6
    end = min(len(frame), 14 + _header(frame) + 20)
    changed, places = bytearray(frame), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, bit = rng.randrange(14, end), rng.randrange(8)
        changed[at] ^= 1 << bit
        places.append(f"{at}.{bit}")
    out = bytes(changed)
    return fixed(out) if fix else out, f"bits {' '.join(places)} flipped{', IP checksum right' if fix else ''}"


def cut(frame: bytes, rng: Random) -> Damaged:
    length = rng.choice([rng.randrange(12, len(frame) + 1), rng.randrange(12, min(len(frame), 60) + 1)])
    if length > 34 and rng.random() < 0.5:
        return _patched(frame[:length], 16, struct.pack(">H", length - 14), fix=True), f"cut to {length} bytes, total length right"
    return frame[:length], f"cut to {length} bytes"


def trailer(frame: bytes, rng: Random) -> Damaged:
    extra = rng.choice([1, 6, 18, 30, max(0, 60 - len(frame))])
    return frame + bytes([rng.randrange(256)]) * extra, f"{extra} bytes of trailer"


def lengths(frame: bytes, rng: Random) -> Damaged:
    total = rng.choice([0, 19, 20, 27, 28, len(frame) - 14 - 1, len(frame) - 14 + 1, 65535])
    return _patched(frame, 16, struct.pack(">H", max(0, total)), fix=True), f"total length {total}"


def first_byte(frame: bytes, rng: Random) -> Damaged:
    value = rng.choice([0x44, 0x46, 0x4F, 0x55, 0x65, 0x05, 0x40])
    changed = frame[:14] + bytes([value]) + frame[15:]
    return fixed(changed) if len(changed) >= 14 + _header(changed) else changed, f"version and IHL 0x{value:02x}"


def fragment_bits(frame: bytes, rng: Random) -> Damaged:
    value = rng.choice([0x2000, 0x6000, 0x0001, 0x2001, 0x1FFF, 0x3FFF, 0x4001, 0xFFFF, 0x2001])
    return _patched(frame, 20, struct.pack(">H", value), fix=True), f"fragment field 0x{value:04x}"


def l4_fields(frame: bytes, rng: Random) -> Damaged:
    """UDP length, TCP data offset and flags, or the ICMP type, with the checksum then right or not."""
    at = 14 + _header(frame)
    if frame[23] == wire.UDP and len(frame) >= at + 8:
        length = rng.choice([0, 7, 8, 9, len(frame) - at - 1, len(frame) - at + 1, 65535])
        source, target = (".".join(str(b) for b in frame[o : o + 4]) for o in (26, 30))
        sport, dport = struct.unpack_from(">HH", frame, at)
        return frame[:at] + wire.udp(source, target, sport, dport, frame[at + 8 :], length=max(0, length)), f"UDP length {length}"
    if frame[23] == wire.TCP and len(frame) >= at + 20:
        words, flags = rng.choice([(rng.randrange(16), frame[at + 13]), (frame[at + 12] >> 4, rng.randrange(256))])
        changed = frame[: at + 12] + bytes([words << 4, flags]) + frame[at + 14 : at + 16] + b"\0\0" + frame[at + 18 :]
        check = wire.checksum(frame[26:34] + struct.pack(">BBH", 0, wire.TCP, len(frame) - at) + changed[at:])
        return changed[: at + 16] + struct.pack(">H", check) + changed[at + 18 :], f"TCP data offset {words}, flags 0x{flags:02x}"
    if frame[23] == wire.ICMP and len(frame) >= at + 8:
        body = bytes([rng.randrange(256), rng.choice([0, 1, 255])]) + b"\0\0" + frame[at + 4 :]
        return frame[:at] + body[:2] + struct.pack(">H", wire.checksum(body)) + body[4:], f"ICMP type {body[0]}, code {body[1]}"
    return frame, "whole"


IP_OPTIONS: tuple[tuple[str, bytes], ...] = (
    ("no-op", b"\x01\x01\x01\x01"),
    ("end", b"\0\0\0\0"),
    ("router alert", b"\x94\x04\0\0"),
    ("router alert of length 3", b"\x94\x03\0\0"),
    ("record route", b"\x07\x0b\x04" + bytes(8)),
    ("record route, full", b"\x07\x07\x08\x0a\x01\x02\x03"),
    ("record route, pointer 3", b"\x07\x07\x03" + bytes(4)),
    ("record route past the header", b"\x07\x27\x04" + bytes(1)),
    ("record route, room for half", b"\x07\x06\x04" + bytes(3)),
    ("timestamps", b"\x44\x0c\x05\0" + bytes(8)),
    ("timestamps with addresses", b"\x44\x0c\x05\x01" + bytes(8)),
    ("timestamps, full, overflow 15", b"\x44\x08\x09\xf0" + bytes(4)),
    ("timestamps, pointer 4", b"\x44\x08\x04\0" + bytes(4)),
    ("timestamps, full", b"\x44\x08\x09\x10" + bytes(4)),
    ("timestamps, flag 2", b"\x44\x08\x05\x02" + bytes(4)),
    ("loose source route", b"\x83\x07\x04\x0a\x01\x02\x03"),
    ("strict source route", b"\x89\x07\x04\x0a\x01\x02\x03"),
    ("source route, done", b"\x83\x07\x08\x0a\x01\x02\x03"),
    ("unknown option", b"\x5e\x04\x01\x02"),
    ("unknown option, copied", b"\xde\x04\x01\x02"),
    ("option of length 0", b"\x07\0\0\0"),
    ("option of length 1", b"\x44\x01\0\0"),
    ("option longer than the header", b"\x07\x28\x04\0"),
    ("kind without length", b"\x01\x01\x01\x07"),
    ("security", b"\x82\x0b" + bytes(9)),
    ("security, short", b"\x86\x06" + bytes(4)),
    ("stream id", b"\x88\x04\0\x01"),
    ("alert and record route", b"\x94\x04\0\0\x07\x07\x04" + bytes(4)),
)


def options(frame: bytes, rng: Random) -> Damaged:
    """IP options put into the header."""
    if frame[14] != 0x45 or len(frame) < 34:
        return frame, "whole"
    name, value = rng.choice(IP_OPTIONS)
    value += b"\0" * (-len(value) % 4)
    total = int.from_bytes(frame[16:18], "big") + len(value)
    changed = (
        frame[:14] + bytes([0x45 + len(value) // 4, frame[15]]) + struct.pack(">H", total & 0xFFFF) + frame[18:34] + value + frame[34:]
    )
    return fixed(changed), f"option {name}"


def vlan(frame: bytes, rng: Random) -> Damaged:
    tci = rng.choice([0, 1, 100, 4095, 0xE000, 0xE001])
    tpid = rng.choices([wire.VLAN_TYPE, 0x88A8], [85, 15])[0]
    frame = wire.with_vlan(frame, tci, tpid)
    if rng.random() < 0.15:
        return wire.with_vlan(frame, 5), f"two VLAN tags, inner {tci}"
    return frame, f"VLAN tag 0x{tpid:04x} {tci}"


def addresses(frame: bytes, rng: Random, topology: Topology) -> Damaged:
    """Another source or destination MAC."""
    known = (
        [p.mac for p in topology.pods.values()]
        + [m for n in topology.nodes.values() for m in n.macs.values()]
        + [h.mac for h in topology.hosts.values()]
    )
    odd = [
        wire.BROADCAST,
        "00:00:00:00:00:00",
        "01:00:5e:00:00:01",
        "01:00:5e:7f:01:02",
        "33:33:00:00:00:01",
        "01:80:c2:00:00:00",
        "01:80:c2:00:00:02",
        "01:80:c2:00:00:0e",
        "01:80:c2:00:00:10",
        "02:de:ad:be:ef:01",
        "02:de:ad:be:ef:02",
        frame[6:12].hex(":"),
    ]
    chosen = rng.choice(rng.choice([known, odd]))
    if rng.random() < 0.7:
        return wire.mac(chosen) + frame[6:], f"to MAC {chosen}"
    return frame[:6] + wire.mac(chosen) + frame[12:], f"from MAC {chosen}"


def ethertype(frame: bytes, rng: Random) -> Damaged:
    kind = rng.choice([0x0806, 0x86DD, 0x8847, 0x88CC, 0x0000, 0x0026, 0x05DC, 0x0600, 0xFFFF, 0x9000, 0x8035])
    return frame[:12] + struct.pack(">H", kind) + frame[14:], f"Ethernet type 0x{kind:04x}"


Damage = Callable[[bytes, Random], Damaged]
IP_DAMAGE: tuple[Damage, ...] = (
    ip_checksum,
    l4_checksum,
    bits,
    bits,
    cut,
    trailer,
    lengths,
    first_byte,
    fragment_bits,
    l4_fields,
    l4_fields,
    options,
    options,
)


def damage(frame: bytes, rng: Random, topology: Topology) -> Damaged:
    """One or two kinds of damage to an IPv4 frame."""
    if rng.random() < 0.25:
        if rng.random() < 0.5:
            return addresses(frame, rng, topology)
        return rng.choice((vlan, ethertype))(frame, rng)
    out, what = rng.choice(IP_DAMAGE)(frame, rng)
    if rng.random() < 0.12 and len(out) >= 60:
        out, more = rng.choice(IP_DAMAGE)(out, rng)
        what = f"{what}, {more}"
    return out, what
