"""Replay in batches comes to what packet by packet comes to, byte for byte, whatever the threads."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from cli.recorded import CLUSTER
from dataplane._core import Engine
from dataplane.capture import batches
from dataplane.capture.batches import BatchReader, read_batches
from dataplane.capture.packet import Packet
from dataplane.control.build import build
from dataplane.control.topology import Machine
from dataplane.errors import InputError
from dataplane.k8s import load
from dataplane.report.run_capture import CaptureOptions, recording
from dataplane.report.run_text import replay_text
from dataplane.traffic import replay as replay_module
from dataplane.traffic.address_map import AddressMap
from dataplane.traffic.fitter import FrameFitter, Unfit
from dataplane.traffic.replay import ReplaySummary, UnfitPackets, replay

Replay = Callable[..., ReplaySummary]
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def one_by_one(
    engine: Engine,
    machine: Machine,
    reader: BatchReader,
    fitter: FrameFitter,
    *,
    wanted: Callable[[Packet], bool] | None = None,
    drain: Callable[[], None],
    threads: int = 1,
) -> ReplaySummary:
    """What replay is to come to."""
    summary, first, batch = ReplaySummary(), None, batches.new_batch()
    while reader.fill(batch):
        for packet in (reader.packet(batch, i) for i in range(len(batch))):
            summary.read += 1
            if wanted is not None and not wanted(packet):
                summary.filtered += 1
                continue
            first = packet.time_ns if first is None else first
            time = max(engine.now, packet.time_ns - first)
            try:
                frame = fitter.fit(packet)
            except Unfit as unfit:
                summary.unfit.setdefault(str(unfit), UnfitPackets()).add(packet.number, packet.number)
                continue
            engine.inject(machine.eth0, frame, at=time)
            engine.run(time)
            summary.injected += 1
            if summary.injected % 512 == 0:
                drain()
    engine.run()
    return summary


def capture(packets: int) -> bytes:
    """Frames of all fates, many at one time, some late; destinations that are met for the first time all along."""
    across = [LINK / IP(src="10.244.1.5", dst="10.244.2.5", ttl=ttl) / UDP(sport=1, dport=2) for ttl in (1, 64)]
    kinds = [bytes(packet / bytes(size)) for packet in across for size in (1, 1473)]
    kinds += [bytes(LINK / IP(src="10.244.1.5", dst="10.96.0.25") / UDP(sport=port, dport=9125)) for port in (4000, 4001)]
    kinds += [bytes(LINK / ARP()), bytes(LINK / IP(src="10.244.1.5", dst="10.244.1.6") / UDP(sport=5, dport=6))]
    data = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for number in range(packets):
        frame = bytearray(kinds[number % len(kinds)])
        if number % len(kinds) == 7:
            frame[30:34] = bytes([198, 51, number >> 8 & 255, number & 255])
            frame[24:26] = bytes(2)
        time = number // 700 * 1_000_000 - (5 if number % 11 == 0 else 0)
        data.append(struct.pack("<IIII", 5, max(time, 0), len(frame), len(frame)) + frame)
    return b"".join(data)


def outcome(way: Replay, data: bytes, out: Path, *, comments: str, threads: int, wanted: Callable[[Packet], bool] | None) -> object:
    engine = Engine()
    topology = build(load([CLUSTER]), engine)
    machine = topology.endpoint("pod/default/shell")
    fitter = FrameFitter(engine, topology, machine, AddressMap([]), "rewrite")
    options = CaptureOptions(str(out), comments=comments, threads=threads)
    with recording(engine, topology, options) as capture:
        summary = way(engine, machine, read_batches(data, "x"), fitter, wanted=wanted, drain=capture.drain, threads=threads)
    return summary, dict(capture.drops), capture.frames, engine.counters(), out.read_bytes()


def is_udp(packet: Packet) -> bool:
    return packet.data[23:24] == b"\x11"


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 100, 8192])
def test_the_same_as_one_by_one(tmp_path: Path, threads: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = capture(1500 if size > 1 else 600)
    expected = outcome(one_by_one, data, tmp_path / "one.pcapng", comments="none", threads=1, wanted=None)
    monkeypatch.setattr(batches, "BATCH_PACKETS", size)
    monkeypatch.setattr(replay_module, "BATCH_PACKETS", size)
    assert outcome(replay, data, tmp_path / "many.pcapng", comments="none", threads=threads, wanted=None) == expected


@pytest.mark.parametrize("wanted", [None, is_udp, lambda packet: packet.number % 5 == 3], ids=["all", "UDP", "some"])
def test_comments_and_filters_see_the_same(tmp_path: Path, wanted: Callable[[Packet], bool] | None) -> None:
    data = capture(700)
    expected = outcome(one_by_one, data, tmp_path / "one.pcapng", comments="changes", threads=1, wanted=wanted)
    assert outcome(replay, data, tmp_path / "many.pcapng", comments="changes", threads=3, wanted=wanted) == expected


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_capture_that_is_damaged_far_behind_leaves_nothing(tmp_path: Path, threads: int) -> None:
    data = capture(20_000)
    with pytest.raises(InputError, match="x: cut off in packet 20000: "):
        outcome(replay, data[:-1], tmp_path / "x.pcapng", comments="none", threads=threads, wanted=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_output_that_fails_ends_the_replay(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataplane.capture.pcapng_write import CaptureWriter

    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(CaptureWriter, "descriptor", lambda self, interface_index: full.fileno())
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            outcome(replay, capture(20_000), tmp_path / "x.pcapng", comments="none", threads=threads, wanted=None)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_packets_that_do_not_fit() -> None:
    unfit = UnfitPackets()
    for number in (1, 2, 3, *range(10, 40, 2), 39):
        unfit.add(number, number)
    summary = ReplaySummary(read=40, injected=21, unfit={"too long": unfit})
    assert unfit.packets == 19
    assert replay_text(summary).splitlines() == [
        "40 packets read, 21 injected, 19 that fit nowhere",
        "  too long: packet 1-3, 10, 12, 14, 16, 18, 20, 22 and 9 more",
    ]
