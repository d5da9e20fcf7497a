"""Frames that are not as usual: damaged, cut, padded, tagged, misaddressed, in fragments, at the end of their time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from kernel import broken, broken6, wire

ODD_MACS = (
    "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00",
    "01:00:5e:00:00:fb",
    "33:33:00:00:00:01",
    "01:80:c2:00:00:00",
    "01:80:c2:00:00:0e",
    "02:de:ad:be:ef:01",
)


def is_ipv4(frame: bytes) -> bool:
    return len(frame) >= 34 and frame[12:14] == b"\x08\0"


def is_ipv6(frame: bytes) -> bool:
    return len(frame) >= 54 and frame[12:14] == b"\x86\xdd"


def damaged(frame: bytes, rng: Random, macs: Sequence[bytes]) -> list[bytes]:
    """One or more frames made of a good one (Ethernet with IPv4 or IPv6, else only its MACs change)."""
    choices: list[Callable[[bytes, Random], list[bytes]]] = [lambda f, r: [_other_mac(f, r, macs)], _tagged]
    if is_ipv4(frame):
        choices += [_broken4, _broken4, _ttl4, _tos4, _fragments, _df, _padded, _renamed]
    elif is_ipv6(frame):
        choices += [_broken6, _broken6, _hops6, _class6, _fragments]
    return rng.choice(choices)(frame, rng)


def _other_mac(frame: bytes, rng: Random, macs: Sequence[bytes]) -> bytes:
    chosen = rng.choice([rng.choice(macs), wire.mac(rng.choice(ODD_MACS))])
    return chosen + frame[6:] if rng.random() < 0.6 else frame[:6] + chosen + frame[12:]


def _tagged(frame: bytes, rng: Random) -> list[bytes]:
    return [broken.vlan(frame, rng)[0]]


def _broken4(frame: bytes, rng: Random) -> list[bytes]:
    return [rng.choice(broken.IP_DAMAGE)(frame, rng)[0]]


def _broken6(frame: bytes, rng: Random) -> list[bytes]:
    return [rng.choice(broken6.IP_DAMAGE)(frame, rng)[0]]


def _ttl4(frame: bytes, rng: Random) -> list[bytes]:
    return [broken.fixed(frame[:22] + bytes([rng.choice((0, 1, 2, 3, 255))]) + frame[23:])]


def _tos4(frame: bytes, rng: Random) -> list[bytes]:
    return [broken.fixed(frame[:15] + bytes([rng.choice((1, 2, 3, 0xB8, 0xFF))]) + frame[16:])]


def _df(frame: bytes, rng: Random) -> list[bytes]:
    return [broken.fixed(frame[:20] + bytes([frame[20] ^ rng.choice((0x40, 0x80))]) + frame[21:])]


def _padded(frame: bytes, rng: Random) -> list[bytes]:
    """With something behind the packet, or cut down so that much lies behind it; the frame may be as long as it was."""
    if rng.random() < 0.5:
        return [frame + bytes(rng.choice((1, 6, 46, 400, 1000)))]
    length = min(int.from_bytes(frame[16:18]), len(frame) - 14)
    parsed = wire.parse(frame)
    if parsed is None or parsed.proto != wire.UDP or len(parsed.payload) < 20:
        return [frame]
    left = rng.choice((0, 4, (length - 28) // 2))
    datagram = wire.udp(parsed.source, parsed.target, *parsed.ports, frame[42 : 42 + left])
    head = frame[14:16] + (28 + left).to_bytes(2) + frame[18:34]
    return [broken.fixed(frame[:14] + head + datagram + frame[42 + left :])]


def _renamed(frame: bytes, rng: Random) -> list[bytes]:
    """What carries an IPv4 packet says that it is something else: a tunnel's header if there is one, else the frame's."""
    places = [at for at in range(34, min(len(frame) - 2, 100), 2) if frame[at : at + 2] == b"\x08\0"] or [12]
    at = rng.choice(places)
    return [frame[:at] + rng.choice((b"\x86\xdd", b"\x08\x06", b"\x65\x58", b"\x08\x20")) + frame[at + 2 :]]


def _hops6(frame: bytes, rng: Random) -> list[bytes]:
    return [frame[:21] + bytes([rng.choice((0, 1, 2, 3, 255))]) + frame[22:]]


def _class6(frame: bytes, rng: Random) -> list[bytes]:
    value = rng.choice((1, 2, 3, 0xB8))
    return [frame[:14] + bytes([0x60 | value >> 4, value << 4 & 0xF0 | frame[15] & 15]) + frame[16:]]


def _fragments(frame: bytes, rng: Random) -> list[bytes]:
    """The packet in two or three pieces, in order or not, sometimes not all of them."""
    parsed = wire.parse(frame)
    if parsed is None or parsed.fragmented or len(parsed.payload) < 24:
        return [frame]
    size = len(parsed.payload) // 8 * 8
    cuts = sorted({8 * rng.randrange(1, max(2, size // 8)) for _ in range(rng.choice((1, 1, 2)))})
    packet: wire.Ip | wire.Ip6
    if parsed.version == 4:
        packet = wire.Ip(parsed.source, parsed.target, parsed.proto, parsed.payload, ident=rng.randrange(1, 1 << 16))
    else:
        packet = wire.Ip6(parsed.source, parsed.target, parsed.proto, parsed.payload, ident=rng.randrange(1 << 32))
    pieces = [frame[:14] + piece.build() for piece in packet.fragments(cuts)]
    if rng.random() < 0.3:
        rng.shuffle(pieces)
    return pieces[:-1] if rng.random() < 0.15 else pieces
