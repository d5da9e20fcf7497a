"""TCP segments of a batch that are looked at eight at a time are taken as plain only where each alone would be."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.layout import laid_out
from core.worlds import checksum

EIGHT = 8
ACK = 0x10
LONGEST = 28  # bytes of payload and options that are looked at together


@pytest.fixture(scope="module")
def segments(probe: Callable[[str], ModuleType]) -> ModuleType:
    return probe("segments_probe")


def whole(frame: bytes) -> bytes:
    """With the checksums that it should have."""
    some = bytearray(frame)
    total = int.from_bytes(some[16:18], "big")
    some[24:26] = some[50:52] = bytes(2)
    some[24:26] = checksum(bytes(some[14:34])).to_bytes(2, "big")
    segment = bytes(some[34 : 14 + total])
    some[50:52] = checksum(bytes(some[26:34]) + struct.pack("!HH", some[23], total - 20) + segment).to_bytes(2, "big")
    return bytes(some)


def plain(rng: random.Random) -> bytes:
    """A segment of an open connection, with options and data that fit into what is looked at together, and some padding."""
    options = rng.choice([0, 0, 4, 12])
    data = rng.randbytes(rng.randrange(LONGEST - options + 1))
    flags = ACK | rng.choice([0, 8, 0x40, 0x80])
    tcp = struct.pack("!HHIIBBHHH", rng.randrange(1 << 16), rng.randrange(1 << 16), rng.randrange(1 << 32), rng.randrange(1 << 32),
                      (5 + options // 4) << 4, flags, rng.randrange(1 << 16), 0, 0)  # fmt: skip
    packet = tcp + rng.randbytes(options) + data
    header = struct.pack("!BBHHHBBH", 0x45, rng.randrange(256), 20 + len(packet), rng.randrange(1 << 16), rng.choice([0, 0x4000]),
                         rng.randrange(256), 6, 0)  # fmt: skip
    return whole(rng.randbytes(12) + b"\x08\x00" + header + rng.randbytes(8) + packet + bytes(rng.choice([0, 0, rng.randrange(40)])))


def tunnelled(rng: random.Random, frame: bytes) -> bytes:
    """The same, without padding, in VXLAN, with a checksum of the outer UDP header or without."""
    frame = frame[: 14 + int.from_bytes(frame[16:18], "big")]
    udp = struct.pack("!HHHH", rng.randrange(1 << 16), 4789, 16 + len(frame), 0) + b"\x08" + rng.randbytes(7) + frame
    header = struct.pack("!BBHHHBBH", 0x45, rng.randrange(256), 20 + len(udp), rng.randrange(1 << 16), 0, 64, 17, 0) + rng.randbytes(8)
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    if rng.random() < 0.5:
        right = checksum(header[12:] + struct.pack("!HH", 17, len(udp)) + udp) or 0xFFFF
        udp = udp[:6] + right.to_bytes(2, "big") + udp[8:]
    return rng.randbytes(12) + b"\x08\x00" + header + udp + bytes(rng.choice([0, 0, rng.randrange(30)]))


def spoilt(rng: random.Random, frame: bytes) -> bytes:
    """Another byte in what is looked at, or cut off; the checksums are right again half of the time, where there is a place for them."""
    if rng.random() < 0.2:
        return frame[: rng.randrange(len(frame) + 1)]
    some = bytearray(frame)
    at = rng.randrange(len(some))
    some[at] = rng.choice([0, 0x45, 0xFF, rng.randrange(256), some[at] ^ 1 << rng.randrange(8)])
    total = int.from_bytes(some[16:18], "big")
    return whole(bytes(some)) if rng.random() < 0.5 and 40 <= total <= len(some) - 14 else bytes(some)


@given(seed=st.integers(0, 1 << 32), wrong=st.integers(0, 3), count=st.integers(1, 16), vxlan=st.booleans())
def test_segments_seen_together_are_those_seen_alone(segments: ModuleType, seed: int, wrong: int, count: int, vxlan: bool) -> None:
    rng = random.Random(seed)
    frames = [tunnelled(rng, plain(rng)) if vxlan else plain(rng) for _ in range(count)]
    at = 64 if vxlan else 14
    for place in rng.sample(range(count), min(wrong, count)):
        frames[place] = spoilt(rng, frames[place])
    data, starts, lengths = laid_out(rng, frames)
    look = segments.Look(rng.randrange(1 << 20))
    seen = look.together(data, starts, lengths, at)
    for place in seen:
        assert look.alone(data, starts[place], lengths[place])
        assert look.same_key(data, starts[place], lengths[place], at)
    if wrong == 0:
        assert look.begin(data, starts[0], lengths[0]) == at
        assert all(look.alone(data, start, length) for start, length in zip(starts, lengths, strict=True))
        assert seen == (set(range(count // EIGHT * EIGHT)) if segments.WIDE else set())


@pytest.mark.parametrize("place", range(110))
def test_each_bit_of_a_segment_counts_as_it_does_alone(segments: ModuleType, place: int) -> None:
    rng = random.Random(place)
    look = segments.Look(1)
    vxlan = place >= 60 or rng.random() < 0.5
    at = 64 if vxlan else 14
    frame = b""
    while len(frame) <= place:
        frame = tunnelled(rng, plain(rng)) if vxlan else plain(rng)
    for bit in range(8):
        frames = [tunnelled(rng, plain(rng)) if vxlan else plain(rng) for _ in range(EIGHT)]
        some = bytearray(frame)
        some[place] ^= 1 << bit
        frames[bit] = bytes(some)
        data, starts, lengths = laid_out(rng, frames)
        alone = look.alone(data, starts[bit], lengths[bit])
        seen = look.together(data, starts, lengths, at)
        assert bit not in seen or alone
        if segments.WIDE and alone and look.begin(data, starts[bit], lengths[bit]) == at:
            assert len(seen) == EIGHT
