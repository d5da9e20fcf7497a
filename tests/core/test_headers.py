"""Frames of a batch that are looked at eight at a time are let through only where each alone would be."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.layout import laid_out
from core.worlds import checksum

MAC = bytes.fromhex("0200000000a1")
MOST = 1514
OWN = [bytes([192, 0, 2, 1]), bytes([198, 51, 100, 254])]
EIGHT = 8


@pytest.fixture(scope="module")
def headers(probe: Callable[[str], ModuleType]) -> ModuleType:
    return probe("headers_probe")


def address(rng: random.Random) -> bytes:
    return bytes([rng.choice([*range(1, 127), *range(128, 224)]), *rng.randbytes(3)])


def frame(rng: random.Random) -> bytes:
    """One that a router passes on without a second look."""
    payload = rng.randbytes(rng.randrange(40))
    fragment = rng.choice([0, 0x4000, 0x2001])
    header = struct.pack("!BBHHHBBH4s4s", 0x45, rng.randrange(256), 20 + len(payload), rng.randrange(1 << 16), fragment,
                         rng.randrange(2, 256), rng.randrange(256), 0, address(rng), address(rng))  # fmt: skip
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return MAC + rng.randbytes(6) + b"\x08\x00" + header + payload + bytes(rng.randrange(8))


def spoilt(rng: random.Random, plain: bytes) -> bytes:
    """The same with another byte in what is looked at, or cut off; the checksum is right again half of the time."""
    if rng.random() < 0.2:
        return plain[: rng.randrange(len(plain) + 1)]
    some = bytearray(plain)
    at = rng.randrange(34)
    some[at] = rng.choice([0, 1, 0x45, 127, 192, 224, 255, some[at] ^ 1 << rng.randrange(8)])
    if rng.random() < 0.5:
        some[24:26] = bytes(2)
        some[24:26] = checksum(bytes(some[14:34])).to_bytes(2, "big")
    return bytes(some)


@given(seed=st.integers(0, 1 << 32), wrong=st.integers(0, 3), count=st.integers(1, 32), devices=st.integers(1, 2))
def test_frames_seen_together_are_those_seen_alone(headers: ModuleType, seed: int, wrong: int, count: int, devices: int) -> None:
    rng = random.Random(seed)
    frames = [frame(rng) for _ in range(count)]
    for place in rng.sample(range(count), min(wrong, count)):
        frames[place] = spoilt(rng, frames[place])
    devs = array("i", (rng.randrange(devices) if rng.random() < 0.1 else 0 for _ in frames))
    data, starts, lengths = laid_out(rng, frames)
    look = headers.Look(MAC, MOST, OWN)
    together = look.together(data, devs, starts, lengths)
    alone = [look.alone(data, start, length) for start, length in zip(starts, lengths, strict=True)]
    for place, destination in together.items():
        assert alone[place]
        assert devs[place] == devs[0]
        assert destination == frames[place][30:34]
    for first in range(0, count - EIGHT + 1, EIGHT):
        eight = range(first, first + EIGHT)
        if headers.WIDE and all(alone[place] and devs[place] == devs[0] and not look.own(frames[place][26:30]) for place in eight):
            assert together.keys() >= set(eight)


@pytest.mark.parametrize("at", range(34))
def test_each_bit_of_a_header_counts_as_it_does_alone(headers: ModuleType, at: int) -> None:
    rng = random.Random(at)
    look = headers.Look(MAC, MOST, OWN)
    for bit in range(8):
        frames = [frame(rng) for _ in range(EIGHT)]
        some = bytearray(frames[bit])
        some[at] ^= 1 << bit
        frames[bit] = bytes(some)
        data, starts, lengths = laid_out(rng, frames)
        plain = look.alone(data, starts[bit], lengths[bit])
        together = look.together(data, array("i", [3]) * EIGHT, starts, lengths)
        assert not together or plain
        if headers.WIDE and plain and not any(look.own(each[26:30]) for each in frames):
            assert len(together) == EIGHT


@given(seed=st.integers(0, 1 << 32), bits=st.sampled_from([6, 12]), inner=st.booleans())
def test_a_first_node_that_knows_all_addresses_gives_their_values(headers: ModuleType, seed: int, bits: int, inner: bool) -> None:
    rng = random.Random(seed)
    values = [rng.choice([0xFFFFFFFF, rng.randrange((1 << 31) - 1)]) for _ in range(1 << bits)]
    root = array("i", (-(((value + 1) & 0xFFFFFFFF) + 1) for value in values))
    addresses = [rng.randrange(1 << 32) for _ in range(headers.BLOCK)]
    if inner:
        root[rng.choice(addresses) >> (32 - bits)] = rng.randrange(1 << 31)
    found = headers.roots(root, bits, b"".join(each.to_bytes(4, "big") for each in addresses))
    assert found == (None if inner or not headers.WIDE else [values[each >> (32 - bits)] for each in addresses])


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_the_latest_time(headers: ModuleType, times: list[int]) -> None:
    assert headers.latest(array("q", times)) == max(times)
