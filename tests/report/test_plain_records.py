"""Records written without Python objects are those that Python writes, byte for byte; so are the tallies of drops."""

from __future__ import annotations

import subprocess
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from cli.recorded import CLUSTER
from dataplane._capture_write import RecordWriter
from dataplane._core import Engine, Records
from dataplane.capture.folder import FolderWriter
from dataplane.capture.names import address_names, interfaces
from dataplane.capture.open import open_capture
from dataplane.capture.pcapng_write import CaptureWriter
from dataplane.control.build import build
from dataplane.errors import InputError
from dataplane.k8s import load
from dataplane.report.commented_records import CommentedRecords
from dataplane.report.plain_records import PlainRecords
from dataplane.report.run_capture import select_devices

MS = 1_000_000


def frames(mac: bytes, gateway: bytes, gap: int) -> list[tuple[int, bytes]]:
    """Times, three alike and then so far apart, and frames: carried, refused, dropped on the way, cut in fragments, and fragments that
    are never complete."""
    link = Ether(src=mac, dst=gateway)
    far = IP(src="10.244.1.5", dst="10.244.2.5")
    kinds = [
        link / far / UDP(sport=1, dport=2) / b"odd",
        link / IP(src="10.244.1.5", dst="10.96.0.25") / UDP(sport=4000, dport=9125),
        link / IP(src="10.244.1.5", dst="10.244.2.5", ttl=1) / UDP(sport=1, dport=2),
        link / IP(src="10.244.1.5", dst="10.244.2.5", ttl=1) / ICMP() / bytes(1300),
        link / IP(src="10.244.1.5", dst="10.244.99.5") / UDP(sport=1, dport=2),
        link / IP(src="10.1.2.3", dst="10.244.2.5") / UDP(sport=1, dport=2),
        link / IP(src="10.244.1.5", dst="10.244.1.6", id=9, flags="MF") / UDP(sport=1, dport=2, len=2008) / bytes(992),
        link / IP(src="10.244.1.5", dst="10.244.1.6", id=10, flags="MF") / UDP(sport=1, dport=2, len=2008) / bytes(992),
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src="10.244.1.5", dst="255.255.255.255") / UDP(sport=1, dport=2),
    ]
    return [(number // 3 * gap, bytes(kinds[number % len(kinds)])) for number in range(60)]


def record(
    kind: str,
    out: Path,
    *,
    comments: str = "none",
    patterns: Sequence[str] = ("*",),
    apart: bool = False,
    group: int = 7,
    gap: int = 5 * MS,
) -> tuple[object, int]:
    """Carry the frames, drained every ``group`` of them; the tally of drops and the number of frames."""
    engine = Engine()
    topology = build(load([CLUSTER]), engine)
    devices = select_devices(engine, topology, patterns)
    shell = topology.endpoint("pod/default/shell")
    described, names = interfaces(topology, devices), address_names(topology.manifests)
    output = FolderWriter(out, described, names) if apart else CaptureWriter(out, described, names)
    records: CommentedRecords | PlainRecords
    if kind == "python":
        records = CommentedRecords(engine, topology, output, devices, comments)
    else:
        records = PlainRecords(engine, topology, output, devices, threads=1 if kind == "native" else 2, changes=comments == "changes")
    with output:
        for number, (time, frame) in enumerate(frames(shell.mac, topology.macs[bytes([10, 244, 1, 1])], gap)):
            engine.inject(shell.eth0, frame, at=max(time, engine.now))
            engine.run(max(time, engine.now))
            if number % group == 0:
                records.drain()
        engine.run(60_000 * MS)
        records.drain()
        records.finish()
    return dict(records.drops), records.frames


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else {"": path.read_bytes()}


@pytest.mark.parametrize("kind", ["native", "threaded"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("patterns", [("*",), ("node2/*",), ("*/eth0", "node1/cni0")], ids=["all", "one node", "some"])
@pytest.mark.parametrize("group", [1, 7, 1000])
@pytest.mark.parametrize("comments", ["none", "changes"])
def test_the_same_bytes_as_from_python(
    tmp_path: Path, kind: str, apart: bool, patterns: tuple[str, ...], group: int, comments: str
) -> None:
    expected, got = tmp_path / "python", tmp_path / kind
    wanted = record("python", expected, comments=comments, patterns=patterns, apart=apart, group=group)
    assert record(kind, got, comments=comments, patterns=patterns, apart=apart, group=group) == wanted
    assert contents(got) == contents(expected)


@pytest.mark.parametrize("comments", ["none", "changes"])
def test_the_same_bytes_where_many_are_dropped_at_one_instant(tmp_path: Path, comments: str) -> None:
    expected, got = tmp_path / "python.pcapng", tmp_path / "native.pcapng"
    wanted = record("python", expected, comments=comments, group=1000, gap=0)
    assert record("native", got, comments=comments, group=1000, gap=0) == wanted
    assert got.read_bytes() == expected.read_bytes()
    times = Counter(packet.time_ns for packet in open_capture(got) if packet.verdict == 2)
    assert max(times.values()) > 10


def temporary(folder: Path) -> Path:
    """The only file there, which has not its name yet."""
    (found,) = folder.iterdir()
    return found


def test_a_large_file_takes_no_more_place_than_it_needs(tmp_path: Path) -> None:
    """Place on the disk is asked for ahead, and what is left over is given back."""
    path = tmp_path / "large.pcapng"
    block = bytes(range(256)) * 256
    with CaptureWriter(path, []) as output:
        writer = RecordWriter([0], [1], [0])
        writer.open(0, output.descriptor(0))
        for number in range(300):
            writer.append(0, block)
            assert temporary(tmp_path).stat().st_blocks * 512 <= 2 * number * len(block) + (4 << 20)
        writer.flush()
    size = path.stat().st_size
    assert path.read_bytes().endswith(block * 300)
    assert path.stat().st_blocks * 512 < size + (1 << 20)


BLOCKS = [bytes([65 + number % 26]) * size for number, size in enumerate([1, 5000, 0, 17, 70_000, 300, 4096, 4095, 1, 12_345] * 4)]


@pytest.mark.parametrize("piece", [1, 7, 4096, 10_000, 1 << 20])
@pytest.mark.parametrize("before", [0, 3, 4096, 9_999])
def test_a_file_is_whole_wherever_the_writer_begins_and_others_write_between(tmp_path: Path, piece: int, before: int) -> None:
    path = tmp_path / "x"
    expected = bytearray(b"." * before)
    with path.open("wb", buffering=0) as file:
        file.write(expected)
        writer = RecordWriter([0], [1], [0], piece=piece)
        writer.open(0, file.fileno())
        for number, block in enumerate(BLOCKS):
            writer.append(0, block)
            expected += block
            if number % 9 == 8:
                writer.flush()
                file.write(b"secret")
                expected += b"secret"
        writer.flush()
    assert path.read_bytes() == expected


@pytest.mark.parametrize("before", [0, 3, 9_999])
def test_a_file_grows_by_whole_pieces(tmp_path: Path, before: int) -> None:
    path = tmp_path / "x"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(before))
        writer = RecordWriter([0], [1], [0], piece=8192)
        writer.open(0, file.fileno())
        sizes = set()
        for block in BLOCKS:
            writer.append(0, block)
            sizes.add(path.stat().st_size)
        writer.flush()
    assert path.stat().st_size == before + sum(map(len, BLOCKS))
    assert len(sizes) > 3
    assert {size % 8192 for size in sizes - {before}} == {0}


def test_all_goes_into_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        assert cat.stdin is not None
        writer = RecordWriter([0], [1], [0], piece=8192)
        writer.open(0, cat.stdin.fileno())
        for block in BLOCKS:
            writer.append(0, block)
        writer.flush()
        cat.stdin.close()
        assert cat.wait() == 0
    assert path.read_bytes() == b"".join(BLOCKS)


def test_the_sample_has_drops_on_frames_and_drops_of_their_own(tmp_path: Path) -> None:
    """Else the comparison above would say little."""
    record("native", tmp_path / "x.pcapng")
    packets = list(open_capture(tmp_path / "x.pcapng"))
    dropped = [packet for packet in packets if packet.verdict == 2]
    alone = [packet for packet in dropped if packet.comments[0].startswith("defragment/timeout")]
    assert len(alone) == 2
    assert len({packet.comments[0].partition(":")[0] for packet in dropped}) >= 4
    assert any(not packet.outgoing and packet.interface == "node1/cni0" for packet in dropped)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes; the device that is always full stands in for the disk."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(CaptureWriter, "descriptor", lambda self, interface_index: full.fileno())
        for kind in ("native", "threaded"):
            with pytest.raises(InputError, match="cannot be written: No space left on device"):
                record(kind, tmp_path / "x.pcapng")
            assert list(tmp_path.iterdir()) == []


def test_memory_that_is_read_is_not_exchanged() -> None:
    engine, frames_, drops, data = Engine(), Records(), Records(), Records()
    with memoryview(data), pytest.raises(BufferError, match="being read"):
        engine.exchange(frames_, drops, data)
    with pytest.raises(ValueError, match="must not be the same"):
        engine.exchange(frames_, frames_, data)


def test_steps_that_wait_keep_their_bytes() -> None:
    engine = Engine()
    dev = engine.add_device(engine.add_namespace("a"), "eth0", "veth", mac=bytes(6), mtu=1500)
    engine.trace(True)
    engine.receive(dev, bytes(60))
    engine.run()
    with pytest.raises(ValueError, match="take events"):
        engine.exchange(Records(), Records(), Records())
    assert engine.events()
    engine.exchange(Records(), Records(), Records())


def test_what_an_application_has_still_to_receive_stays() -> None:
    engine = Engine()
    ns = engine.add_namespace("a")
    engine.open_socket(ns, 17, 9)
    packet = bytes(IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=1, dport=9) / b"hello")
    engine.send(ns, packet)
    assert engine.run()
    frames_, drops, data = Records(), Records(), Records()
    engine.exchange(frames_, drops, data)
    assert (len(frames_) > 0, len(drops), len(data) > 0) == (True, 0, True)
    assert [delivery.data[28:] for delivery in engine.deliveries()] == [b"hello"]
    engine.exchange(frames_, drops, data)
    assert (len(frames_), len(data)) == (0, 0)


def test_records_that_cannot_be_are_refused() -> None:
    writer = RecordWriter([0, -1], [1, 1], [0, 0])
    outside = array("q", [0] * 5)  # a FrameRecord of no bytes is fine, but there is no file; one of device 1 is not recorded
    frame = bytearray(outside.tobytes())
    frame[8] = 1
    with pytest.raises(ValueError, match="not recorded"):
        writer.write(frame, b"", b"", b"", lambda interface: 0, lambda *_: b"", lambda *_: b"")
    with pytest.raises(ValueError, match="no file 1"):
        writer.open(1, 0)
    with pytest.raises(ValueError, match="no interface 7"):
        writer.statistics(7)
    with pytest.raises(ValueError, match="at least one byte"):
        RecordWriter([0], [1], [0], piece=0)
