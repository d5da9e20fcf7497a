"""Frames of many flows: whole, with right checksums, the same each time, and as many flows as were asked for."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from dataplane._core import Engine
from dataplane.capture.checksums import VALID, checksums
from dataplane.capture.headers import flow_key
from dataplane.capture.open import open_capture
from dataplane.traffic.generate import IMIX, SMALL, FrameBatch, Mix, batches, write_capture

MIX = Mix(
    source_mac=b"\2\0\0\0\0\1",
    target_mac=b"\2\0\0\0\0\2",
    source=bytes([10, 1, 0, 0]),
    sources=256,
    targets=((bytes([10, 96, 0, 1]), 80), (bytes([10, 96, 0, 2]), 443), (bytes([10, 96, 0, 3]), 53)),
    flows=300,
    udp_percent=50,
    seed=3,
)
RANDOM = Mix(MIX.source_mac, MIX.target_mac, MIX.source, MIX.targets, 300, sources=256, sizes=IMIX, udp_percent=50, random_keys=True)
ONE_KIND = [Mix(MIX.source_mac, MIX.target_mac, MIX.source, MIX.targets, 7, udp_percent=percent) for percent in (0, 100)]


def frames(batch: FrameBatch) -> list[bytes]:
    return [bytes(batch.data[start : start + length]) for start, length in zip(batch.starts, batch.lengths, strict=True)]


def made(mix: Mix, packets: int, size: int = 100) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for batch in batches(mix, packets, size):
        found += zip(batch.times, frames(batch), strict=True)
    return found


@pytest.mark.parametrize("mix", [MIX, RANDOM, *ONE_KIND], ids=["counted", "drawn", "tcp", "udp"])
def test_frames_are_whole(mix: Mix) -> None:
    found = made(mix, 1000)
    assert len(found) == 1000
    assert [time for time, _ in found] == [number * 1000 for number in range(1000)]
    for _, frame in found:
        states = {item.label: item.state for item in checksums(frame)}
        assert len(states) == 2
        assert set(states.values()) == {VALID}
        assert frame[:14] == mix.target_mac + mix.source_mac + b"\x08\0"
    keys = {flow_key(frame[14:]) for _, frame in found}
    assert len(keys) == len({flow_key(frame[14:]) for _, frame in found[: mix.flows]}) == mix.flows
    assert {len(frame) for _, frame in found} == {size for size, _ in mix.sizes}


def test_shares_of_protocols_and_sizes() -> None:
    found = made(RANDOM, 20_000)
    protocols = [frame[23] for _, frame in found]
    assert 0.4 < protocols.count(17) / len(protocols) < 0.6
    for size, weight in IMIX:
        assert abs(sum(len(frame) == size for _, frame in found) / len(found) - weight / 12) < 0.02
    assert {frame[23] for _, frame in made(ONE_KIND[0], 20)} == {6}
    assert {frame[23] for _, frame in made(ONE_KIND[1], 20)} == {17}


def test_segments_of_a_connection_follow_each_other() -> None:
    following: dict[object, int] = {}
    for _, frame in made(RANDOM, 5000):
        if frame[23] == 6:
            key, sequence = flow_key(frame[14:]), int.from_bytes(frame[38:42], "big")
            assert following.get(key, sequence) == sequence
            following[key] = (sequence + len(frame) - 54) & 0xFFFFFFFF


@pytest.mark.parametrize("mix", [MIX, RANDOM], ids=["counted", "drawn"])
def test_a_capture_holds_the_same_frames_whatever_the_batches(tmp_path: Path, mix: Mix) -> None:
    write_capture(tmp_path / "x.pcap", mix, 2500)
    captured = [(packet.time_ns, packet.data) for packet in open_capture(tmp_path / "x.pcap")]
    assert captured == made(mix, 2500, 7) == made(mix, 2500, 8192)


def test_the_engine_takes_a_batch_as_it_is() -> None:
    engine = Engine()
    device = engine.add_device(engine.add_namespace("a"), "eth0", "veth", mac=MIX.source_mac, mtu=1500)
    for batch in batches(MIX, 100, 64):
        n = len(batch.starts)
        devices, refused = array("i", [device] * n), bytearray(n)
        assert engine.carry(batch.data, devices, batch.starts, batch.lengths, batch.times, refused) == n
        assert not any(refused)
    assert [frame.data for frame in engine.frames()] == [frame for _, frame in made(MIX, 100)]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"targets": ()}, "at least one target"),
        ({"flows": 0}, "at least one source and one flow"),
        ({"sizes": ((53, 1),)}, "frames have 54 to"),
        ({"sizes": ()}, "1 to 16 sizes"),
        ({"udp_percent": 101}, "at most 100 percent"),
        ({"source": b"1"}, "addresses 4"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], complaint: str) -> None:
    wanted = {"source_mac": b"123456", "target_mac": b"123456", "source": b"1234", "targets": ((b"1234", 1),), "flows": 1, "sizes": SMALL}
    with pytest.raises(ValueError, match=complaint):
        Mix(**{**wanted, **changes}).maker()  # type: ignore[arg-type]
