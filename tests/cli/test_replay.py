"""``dataplane replay``: captures of all formats injected at a pod, a node and a host; what fits nowhere; bad captures."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import pytest
from scapy.all import rdpcap
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.utils import PcapNgWriter, PcapWriter

from cli.recorded import CLUSTER, SAMPLE_CAPTURE, WRONG, fields, one_line, wrong_frames
from dataplane.capture.open import open_capture
from dataplane.capture.packet import Packet
from dataplane.cli.main import main
from dataplane.cli.options import usual_threads
from dataplane.traffic.generate import Mix, write_capture

MAPS = ["--map", "192.0.2.10=pod/default/shell", "--map", "198.51.100.20=service/monitoring/metrics"]
SHELL_MAC, SHELL_IP = "0a:58:0a:f4:01:05", "10.244.1.5"
BRIDGE_PREFIX = "node1/cni0"


def replay(capture: Path | str, out: Path, *more: str, at: str = "pod/default/shell") -> list[Packet]:
    assert main(["replay", "-q", "-f", CLUSTER, "-r", str(capture), "--at", at, "-w", str(out), *more]) == 0
    return list(open_capture(out))


def sent(packets: list[Packet], interface: str = "shell/eth0") -> list[Packet]:
    """What the capture put in; answers of the pod's own stack are ARP here."""
    return [packet for packet in packets if packet.interface == interface and packet.outgoing and packet.data[12:14] == b"\x08\x00"]


def udp(number: int) -> ScapyPacket:
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    return frame / IP(src="192.0.2.10", dst="10.244.2.5", id=number) / UDP(sport=4000, dport=9) / b"hello"


def test_frames_leave_with_the_pods_mac_and_its_next_hops(tmp_path: Path) -> None:
    packets = replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", *MAPS)
    bridge = next(packet.data[6:12] for packet in packets if packet.interface == BRIDGE_PREFIX and packet.outgoing)
    own = [Ether(packet.data) for packet in sent(packets)]
    assert len(own) == 12
    assert {frame.src for frame in own} == {SHELL_MAC}
    assert {frame.dst for frame in own[:-1]} == {":".join(f"{byte:02x}" for byte in bridge)}
    assert own[-1].dst == "ff:ff:ff:ff:ff:ff", "a limited broadcast has no next hop"
    assert {frame[IP].src for frame in own} == {SHELL_IP}
    assert {frame[IP].dst for frame in own[:-1]} == {"10.96.0.25"}


def test_nothing_but_macs_changes_without_a_map(tmp_path: Path) -> None:
    originals = [bytes(frame) for frame in rdpcap(SAMPLE_CAPTURE)]
    for packet in sent(replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng")):
        assert packet.data[12:] in [frame[12:] for frame in originals]


def test_times_keep_their_distances(tmp_path: Path) -> None:
    times = [packet.time_ns for packet in sent(replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", *MAPS))]
    captured = [packet.time_ns for packet in open_capture(SAMPLE_CAPTURE)]
    expected = [time - captured[0] for number, time in enumerate(captured, 1) if number not in (1, 13, 14)]
    assert times == expected


def test_a_checksum_that_was_wrong_is_the_only_wrong_one(tmp_path: Path) -> None:
    out = tmp_path / "x.pcapng"
    replay(SAMPLE_CAPTURE, out, *MAPS)
    wrong = fields(out, "udp.checksum.status == 0", "udp.srcport", "frame.packet_id")
    assert {port for port, _ in wrong} == {"40010"}
    assert len({packet for _, packet in wrong}) == 1
    assert all("40010" in row[2] for row in wrong_frames(out))


def test_what_fits_nowhere_is_listed_by_number_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", *MAPS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "15 packets read, 12 injected, 3 that fit nowhere"
    reasons = {line.rpartition(": packet ")[2]: line.strip() for line in lines[1:4]}
    assert reasons["1"].startswith("not IP")
    assert reasons["13"].startswith("pod/default/shell has no route to ")
    assert reasons["14"].startswith("longer than the MTU")


def test_keep_injects_frames_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packets = replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", "--l2", "keep")
    assert "14 injected, 1 that fit nowhere" in capsys.readouterr().out
    originals = [bytes(frame) for frame in rdpcap(SAMPLE_CAPTURE)]
    put_in = [packet.data for packet in packets if packet.interface == "shell/eth0" and packet.outgoing and packet.data in originals]
    assert put_in == [frame for number, frame in enumerate(originals, 1) if number != 14]


def test_a_filter_chooses_packets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pcapy")
    packets = replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", *MAPS, "--bpf", "icmp")
    assert capsys.readouterr().out.startswith("15 packets read, 12 left out by the filter, 3 injected, 0 that fit")
    assert [packet.time_ns for packet in sent(packets)] == [0, 10_000_000, 20_000_000]


@pytest.mark.parametrize("at", ["node/node1", "host/client"])
def test_machines_outside_pods_replay_too(tmp_path: Path, at: str) -> None:
    packets = replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", "--map", "198.51.100.20=192.168.0.12", at=at)
    assert sent(packets, f"{at.partition('/')[2]}/eth0")
    assert [packet for packet in packets if packet.interface == "node2/eth0" and not packet.outgoing and packet.data[23:24] == b"\x11"]


def test_what_a_node_would_send_elsewhere_does_not_leave_by_its_eth0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", "--map", "198.51.100.20=pod/shop/web-1", at="node/node1")
    assert "node/node1 reaches 10.244.2.5 by node1/flannel.1, not by its eth0" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["us-le", "us-be", "ns-le", "ns-be", "pcapng", "gzip"])
def test_every_capture_format_gives_the_same_frames(tmp_path: Path, form: str) -> None:
    frames = [udp(number) for number in range(1, 4)]
    for number, frame in enumerate(frames):
        frame.time = 1000 + number * 0.5
    path = tmp_path / "in"
    writer: PcapNgWriter | PcapWriter
    if form == "pcapng":
        writer = PcapNgWriter(str(path))
    else:
        order, nano = (">" if form.endswith("be") else "<"), form.startswith("ns")
        writer = PcapWriter(str(path), endianness=order, nano=nano, sync=True)
    for frame in frames:
        writer.write(frame)
    writer.close()
    if form == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    packets = sent(replay(path, tmp_path / "out.pcapng"))
    assert [Ether(packet.data)[IP].id for packet in packets] == [1, 2, 3]
    assert [packet.time_ns for packet in packets] == [0, 500_000_000, 1_000_000_000]


def test_raw_ip_gets_an_ethernet_header(tmp_path: Path) -> None:
    PcapWriter(str(tmp_path / "raw.pcap"), linktype=101, sync=True).write(udp(5)[IP])
    for mode in ("rewrite", "keep"):
        (packet,) = sent(replay(tmp_path / "raw.pcap", tmp_path / "x.pcapng", "--l2", mode))
        assert (Ether(packet.data).src, Ether(packet.data)[IP].id) == (SHELL_MAC, 5)


def test_a_frame_that_the_capture_cut_is_not_injected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytes(udp(1))
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 20, 1)
    (tmp_path / "cut.pcap").write_bytes(header + struct.pack("<IIII", 0, 0, 20, len(data)) + data[:20])
    replay(tmp_path / "cut.pcap", tmp_path / "x.pcapng")
    assert "the capture holds only a part of the frame (snap length): packet 1" in capsys.readouterr().out


def test_what_is_sent_to_oneself_does_not_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(SAMPLE_CAPTURE, tmp_path / "x.pcapng", "--map", "198.51.100.20=pod/default/shell")
    assert "goes to 10.244.1.5, an address of pod/default/shell itself" in capsys.readouterr().out


def long_flows(path: Path) -> Path:
    """Forty flows of a hundred frames, UDP and TCP, to a service and to a port that nobody listens on."""
    targets = ((bytes([10, 96, 0, 25]), 9125), (bytes([10, 244, 2, 5]), 80))
    mix = Mix(bytes(6), bytes(6), bytes([10, 244, 1, 5]), targets, flows=40, udp_percent=70, sizes=((64, 8), (1400, 1)))
    write_capture(path, mix, 4000)
    return path


@pytest.mark.parametrize("comments", ["none", "changes"])
@pytest.mark.parametrize("long", [False, True])
def test_neither_threads_nor_the_slow_path_change_a_byte(tmp_path: Path, comments: str, long: bool) -> None:
    expected = tmp_path / "expected.pcapng"
    capture = long_flows(tmp_path / "long.pcap") if long else SAMPLE_CAPTURE
    packets = replay(capture, expected, *MAPS, "--comments", comments, "--threads", "1")
    assert not long or len(packets) > 40_000
    for options in (["--threads", "2"], ["--threads", "3"], ["--slow-path-only"]):
        replay(capture, tmp_path / "x.pcapng", *MAPS, "--comments", comments, *options)
        assert (tmp_path / "x.pcapng").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (3, 3), (64, 3)])
def test_as_many_threads_as_there_are_processors_and_work_for(monkeypatch: pytest.MonkeyPatch, processors: int, threads: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(processors)))
    assert usual_threads() == threads


def test_changes_are_told_on_every_packet_of_a_flow(tmp_path: Path) -> None:
    """The first one goes through the stages, the others need not."""
    packets = replay(long_flows(tmp_path / "long.pcap"), tmp_path / "x.pcapng")
    told = [comment for packet in packets for comment in packet.comments]
    to_service = sum((packet.data[23], packet.data[30:34]) == (17, bytes([10, 96, 0, 25])) for packet in sent(packets))
    between_nodes = [packet.interface for packet in packets if packet.data[23] == 17 and packet.data[36:38] == (8472).to_bytes(2, "big")]
    assert to_service == 1400
    assert sum(comment.startswith("dnat: destination is now 10.244.2.6") for comment in told) == to_service
    assert sum(comment.startswith("encap: flannel.1, remote 192.168.0.1") for comment in told) == len(between_nodes) // 2 > 3000


def test_a_large_capture_with_comments_is_told_of_the_faster_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = tmp_path / "large.pcapng"
    custom = struct.pack("<II", 0xBAD, 1 << 20) + bytes((1 << 20) - 12) + struct.pack("<I", 1 << 20)
    with PcapNgWriter(str(large)) as writer:
        writer.write(udp(1))
    with large.open("ab") as file:
        file.write(custom * 20)
    for comments, is_told in (("all", True), ("changes", False)):
        command = ["replay", "-f", CLUSTER, "-r", str(large), "--at", "pod/default/shell", "--comments", comments]
        assert main([*command, "-w", str(tmp_path / "x.pcapng")]) == 0
        assert ("--comments changes is many times as fast" in capsys.readouterr().err) is is_told


def bad_captures() -> dict[str, bytes]:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    data = bytes(udp(1))
    record = struct.pack("<IIII", 0, 0, len(data), len(data)) + data
    return {
        "cut off in packet 2": head + record + record[:-9],
        "packet 2: captured length 1879048192": head + record + struct.pack("<IIII", 0, 0, 0x70000000, 0x70000000) + data,
        "link type 147 (unknown)": head[:20] + struct.pack("<I", 147) + record,
        "the capture holds no packets": head,
        "the file is empty": b"",
        "not a pcap or pcapng capture": b"GIF89a" * 20,
    }


@pytest.mark.parametrize("complaint", list(bad_captures()))
def test_a_bad_capture_is_one_line_and_leaves_no_output(tmp_path: Path, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(bad_captures()[complaint])
    for output in (["-w", str(tmp_path / "x.pcapng")], ["--per-interface", str(tmp_path / "folder")]):
        line = one_line(capsys, ["replay", "-q", "-f", CLUSTER, "-r", str(bad), "--at", "pod/default/shell", *output])
        assert complaint in line
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pcap"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--at", "pod/default/none"], "pod/default/none: there is no such pod"),
        (["--at", "shell"], "write pod/NAMESPACE/NAME"),
        (["--at", "pod/default/shell", "--map", "nonsense"], "--map nonsense: there is no '=' in it"),
        (["--at", "pod/default/shell", "--bpf", "no such filter"], "filter 'no such filter'"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = one_line(capsys, ["replay", "-q", "-f", CLUSTER, "-r", SAMPLE_CAPTURE, "-w", str(tmp_path / "x.pcapng"), *options])
    assert complaint in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["rewrite", "keep"])
def test_captures_of_other_projects_go_through(cases: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every one is refused with one line, or carried: tshark then finds nothing wrong but what came in so."""
    files = sorted((cases.parent / "captures").rglob("*.pcap*"))
    if not files:
        pytest.skip("no captures beside the given cases")
    carried = 0
    for file in files:
        out = tmp_path / f"{file.stem}.pcapng"
        status = main(["replay", "-q", "-f", CLUSTER, "-r", str(file), "--at", "pod/default/shell", "--l2", mode, "-w", str(out)])
        told = capsys.readouterr()
        assert (status, out.exists()) in ((0, True), (2, False)), file
        if status:
            assert re.fullmatch(rf"dataplane: {re.escape(str(file))}: .*\n", told.err), file
        else:
            read, injected, unfit = map(int, re.findall(r"(\d+) (?:packets|injected|that)", told.out.splitlines()[0]))
            assert read == injected + unfit == len(list(open_capture(file)))
            wrong = fields(out, WRONG, "frame.packet_id", "frame.interface_name", "frame.packet_flags_direction")
            came_so = {packet for packet, name, direction in wrong if name == "shell/eth0" and int(direction, 16) == 2}
            assert {packet for packet, _, _ in wrong} == came_so, file
            carried += 1
    assert carried > len(files) // 2
