"""Packets found many at a time are those that the readers in Python find one by one, up to the same complaint."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capture.test_read import FRAME, ORDERS, block, enhanced, interface, option, pcap, section
from dataplane._capture_read import Batch
from dataplane.capture.batches import BatchReader, read_batches
from dataplane.capture.open import load, open_capture
from dataplane.capture.packet import Packet
from dataplane.errors import InputError

Outcome = tuple[list[Packet], str]
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)


def plain(packet: Packet) -> Packet:
    """Without what replaying a capture has no use for."""
    return packet._replace(interface="", comments=(), outgoing=None, packet_id=None, verdict=None)


def one_by_one(path: Path) -> Outcome:
    packets: list[Packet] = []
    try:
        packets.extend(plain(packet) for packet in open_capture(path))
    except InputError as error:
        return packets, str(error)
    return packets, ""


def many(path: Path, size: int) -> Outcome:
    packets: list[Packet] = []
    try:
        reader, batch = read_batches(load(str(path)), str(path)), Batch(size, 1 << 20)
        while reader.fill(batch):
            for i in range(len(batch)):
                packets.append(reader.packet(batch, i))
    except InputError as error:
        return packets, str(error)
    return packets, ""


def assert_same(path: Path) -> Outcome:
    expected = one_by_one(path)
    for size in (1, 3, 8192):
        assert many(path, size) == expected, size
    return expected


def test_captures_of_other_projects(captures: Path) -> None:
    outcomes = [assert_same(file) for file in sorted(captures.rglob("*.pcap*"))]
    assert sum(len(packets) for packets, _ in outcomes) > 1000
    assert any(error for _, error in outcomes)


def pcapng(order: str) -> bytes:
    """All kinds of blocks, interfaces with all kinds of times, two sections."""
    described = [
        interface(order, snap_len=60),
        interface(order, options=option(order, 9, b"\x09") + option(order, 13, b"\x04") + bytes(4)),
        interface(order, 101, options=option(order, 9, b"\x8a") + option(order, 14, struct.pack(order + "q", 1_600_000_000))),
        interface(order, options=option(order, 9, b"\x7f")),  # more digits than 64 bits hold
        interface(order, options=option(order, 9, b"\xff")),
        interface(order, options=option(order, 9, b"\x0c") + option(order, 14, struct.pack(order + "q", -1))),
    ]
    options = option(order, 1, b"why") + option(order, 2, struct.pack(order + "I", 2)) + option(order, 5, bytes(8)) + bytes(4)
    packets = [
        enhanced(order, FRAME, 1_500_000, options=options),
        enhanced(order, FRAME, 5_000_000_001, 1),
        enhanced(order, b"\x45" + FRAME[:40], 513, 2),
        enhanced(order, FRAME, 1 << 62, 3),
        enhanced(order, FRAME[:20], (1 << 64) - 1, 4),
        enhanced(order, FRAME, 2_000_000_000_999, 5),
        block(order, 2, struct.pack(order + "HHIIII", 1, 9, 0, 1_500_000, 60, 1514) + FRAME),
        block(order, 3, struct.pack(order + "I", 1514) + FRAME),
        block(order, 4, bytes(4)),
        block(order, 77, b"unknown"),
    ]
    other = ">" if order == "<" else "<"
    again = section(other) + interface(other) + enhanced(other, FRAME, 7)
    return section(order) + b"".join(described) + b"".join(packets) * 2 + again


@ORDERS
def test_every_kind_of_block(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng(order))
    packets, error = assert_same(path)
    assert (len(packets), error) == (17, "")


@ORDERS
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
@pytest.mark.parametrize("network", [1, 0x24000001, 101, 113, 276, 0, 108, 228, 147])
def test_every_kind_of_pcap(tmp_path: Path, order: str, magic: int, network: int) -> None:
    records = [(number, 999_999, FRAME[: 20 + number]) for number in range(10)] + [(1 << 32, 0, FRAME)][:0]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(records, order, magic, network) + struct.pack(order + "IIII", (1 << 32) - 1, (1 << 32) - 1, 60, 1514) + FRAME)
    packets, error = assert_same(path)
    assert len(packets) == 11 or "147" in error


def test_gzipped_captures(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(pcapng("<")))
    assert len(assert_same(path)[0]) == 17


@pytest.mark.parametrize("make", [lambda: pcapng("<"), lambda: pcapng(">"), lambda: pcap([(0, 0, FRAME)] * 3)])
def test_cut_anywhere(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path, data = tmp_path / "x.cap", make()
    for size in range(1, len(data), 3):
        path.write_bytes(data[:size])
        assert_same(path)


@FEW
@given(
    base=st.sampled_from([pcapng("<"), pcapng(">"), pcap([(0, 0, FRAME)] * 9), pcap([(0, 0, FRAME)] * 9, ">", 0xA1B23C4D, 113)]),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=4)), max_size=4),
    tail=st.binary(max_size=40),
)
@example(base=pcapng("<"), changes=[(140, b"\xff\xff\xff\xff")], tail=b"")
def test_damaged_captures(tmp_path: Path, base: bytes, changes: list[tuple[int, bytes]], tail: bytes) -> None:
    data = bytearray(base)
    for at, value in changes:
        start = at % len(data)
        data[start : start + len(value)] = value[: len(data) - start]
    path = tmp_path / "x.cap"
    path.write_bytes(bytes(data) + tail)
    assert_same(path)


@FEW
@given(
    ticks=st.integers(0, 2**64 - 1),
    resolution=st.integers(0, 255),
    offset=st.one_of(st.just(0), st.integers(-(2**33), 2**33), st.integers(-(2**63), 2**63 - 1)),
)
def test_times_of_any_resolution(tmp_path: Path, ticks: int, resolution: int, offset: int) -> None:
    options = option("<", 9, bytes([resolution])) + option("<", 14, struct.pack("<q", offset))
    path = tmp_path / "x.pcapng"
    path.write_bytes(section("<") + interface("<", options=options) + enhanced("<", FRAME, ticks))
    assert_same(path)


def test_no_packets_is_told_at_once_where_some_are_needed(tmp_path: Path) -> None:
    for data in (pcap([]), section("<")):
        with pytest.raises(InputError, match=r"x: the capture holds no packets"):
            read_batches(data, "x", at_least_one=True)
        assert isinstance(read_batches(data, "x"), BatchReader)


def test_a_batch_ends_with_its_bytes() -> None:
    reader, batch = read_batches(pcap([(0, 0, FRAME)] * 10), "x"), Batch(100, 150)
    sizes = []
    while reader.fill(batch):
        sizes.append((batch.first, len(batch)))
    assert sizes == [(1, 3), (4, 3), (7, 3), (10, 1)]
