"""What we write, read back by tshark, capinfos, Scapy, libpcap (pcapy-ng) and ourselves."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import PcapNgReader, PcapReader

from dataplane.capture.folder import FolderWriter
from dataplane.capture.open import open_capture
from dataplane.capture.pcap import PcapWriter
from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT, CaptureWriter, Interface, Record
from dataplane.errors import InputError

from .conftest import Tool

INTERFACES = [Interface("node1/cni0", "bridge"), Interface("node1/eth0")]
POD, POD6 = bytes([10, 244, 1, 5]), bytes.fromhex("fd00000000000000000000000000000a")
START = 1_700_000_000_123_456_789


@pytest.fixture
def written(tmp_path: Path, syn: bytes, vxlan: bytes) -> Path:
    """A SYN over two hops, and once more dropped."""
    path = tmp_path / "out.pcapng"
    names = {POD: "web-0.default.pod", bytes([10, 96, 0, 12]): "web.default.svc", POD6: "web-0.default.pod"}
    with CaptureWriter(path, INTERFACES, names, application="dataplane 0.1", comment="seed 7") as writer:
        writer.write(0, START, syn, False, 1)
        writer.write(1, START + 1, vxlan, True, 1, TC_ACT_OK, ["vxlan: encapsulated"])
        writer.write(0, START + 2, syn, True, (1 << 64) - 1, TC_ACT_SHOT, ["policy/ingress_denied: no policy allows it", "Größe: ½"])
    return path


def test_tshark_sees_every_option(written: Path, wireshark_tool: Tool) -> None:
    fields = ("interface_name", "interface_description", "time_epoch", "packet_flags_direction", "packet_id", "verdict.ebpf_tc", "comment")
    command: list[str | Path] = ["tshark", "-r", written, "-T", "json", *[word for name in fields for word in ("-e", f"frame.{name}")]]
    rows = [[record["_source"]["layers"].get(f"frame.{name}", []) for name in fields] for record in json.loads(wireshark_tool(command))]
    assert rows == [
        [["node1/cni0"], ["bridge"], ["1700000000.123456789"], ["0x00000001"], ["1"], [], []],
        [["node1/eth0"], [], ["1700000000.123456790"], ["0x00000002"], ["1"], ["0"], ["vxlan: encapsulated"]],
        [
            ["node1/cni0"],
            ["bridge"],
            ["1700000000.123456791"],
            ["0x00000002"],
            ["18446744073709551615"],
            ["2"],
            ["policy/ingress_denied: no policy allows it", "Größe: ½"],
        ],
    ]


def test_tshark_finds_nothing_wrong(written: Path, wireshark_tool: Tool) -> None:
    expert = wireshark_tool(["tshark", "-r", written, "-d", "udp.port==8472,vxlan", "-q", "-z", "expert"])
    headings = {line.split()[0] for line in expert.splitlines() if line[:1].isalpha()}
    assert "Comments" in headings
    assert headings.isdisjoint({"Errors", "Warns"})  # a note says that the SYN is seen twice, which it is


def test_tshark_resolves_addresses_from_the_file(written: Path, wireshark_tool: Tool) -> None:
    lines = wireshark_tool(["tshark", "-r", written, "-N", "n"]).splitlines()
    assert "web-0.default.pod → web.default.svc" in lines[0]


def test_capinfos_shows_section_and_interfaces(written: Path, wireshark_tool: Tool) -> None:
    text = wireshark_tool(["capinfos", written])
    for expected in (
        "Number of packets:   3",
        "Capture hardware:    emulated cluster network",
        "Capture oper-sys:    Linux network stack, emulated",
        "Capture application: dataplane 0.1",
        "Capture comment:     seed 7",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        "Number of resolved IPv4 addresses in file: 2",
        "Number of resolved IPv6 addresses in file: 1",
        "Strict time order:   True",
    ):
        assert expected in text


def test_interface_statistics_count_frames_and_drops(written: Path) -> None:
    data, blocks, offset = written.read_bytes(), [], 0
    while offset < len(data):
        kind, length = struct.unpack_from("<II", data, offset)
        blocks.append((kind, data[offset + 8 : offset + length - 4]))
        offset += length
    assert [kind for kind, _ in blocks] == [0x0A0D0D0A, 1, 1, 4, 6, 6, 6, 5, 5]
    statistics = [body for kind, body in blocks if kind == 5]
    halves = [(time >> 32, time & 0xFFFFFFFF) for time in (START + 2, START)]
    # draft-ietf-opsawg-pcapng: interface id, time; isb_starttime 2, isb_endtime 3, isb_ifrecv 4, isb_ifdrop 5
    first = struct.pack("<III", 0, *halves[0]) + struct.pack("<HHII", 2, 8, *halves[1]) + struct.pack("<HHII", 3, 8, *halves[0])
    assert statistics[0] == first + struct.pack("<HHQHHQ", 4, 8, 2, 5, 8, 1) + bytes(4)
    assert statistics[1].endswith(struct.pack("<HHQHHQ", 4, 8, 1, 5, 8, 0) + bytes(4))


def test_scapy_reads_the_same_frames(written: Path, syn: bytes, vxlan: bytes) -> None:
    with PcapNgReader(str(written)) as reader:
        packets = list(reader)
    assert [bytes(packet.original) for packet in packets] == [syn, vxlan, syn]
    assert [packet.sniffed_on for packet in packets] == ["node1/cni0", "node1/eth0", "node1/cni0"]
    assert [int(packet.time * 1_000_000_000) for packet in packets] == [START, START + 1, START + 2]
    assert packets[1].comments == [b"vxlan: encapsulated"]


def test_libpcap_reads_the_same_frames(written: Path, syn: bytes, vxlan: bytes) -> None:
    pcapy = pytest.importorskip("pcapy")
    reader = pcapy.open_offline(str(written))
    packets = [reader.next() for _ in range(3)]
    assert [data for _, data in packets] == [syn, vxlan, syn]
    assert packets[0][0].getts() == (1_700_000_000, 123_456)
    assert reader.datalink() == pcapy.DLT_EN10MB


FRAMES = st.lists(
    st.builds(
        Record,
        interface=st.integers(0, 1),
        time_ns=st.integers(0, (1 << 63) - 1),
        data=st.binary(max_size=80),
        outgoing=st.booleans(),
        packet_id=st.integers(1, (1 << 64) - 1),
        verdict=st.none() | st.integers(0, 8),
        comments=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=3).map(tuple),
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(records=FRAMES)
def test_what_is_written_is_read_back(tmp_path: Path, records: list[Record]) -> None:
    with CaptureWriter(tmp_path / "x.pcapng", INTERFACES) as writer:
        for record in records:
            writer.write(*record)
    read = [
        Record(
            [item.name for item in INTERFACES].index(p.interface),
            p.time_ns,
            p.data,
            bool(p.outgoing),
            p.packet_id or 0,
            p.verdict,
            p.comments,
        )
        for p in open_capture(tmp_path / "x.pcapng")
    ]
    assert read == records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(packets=st.lists(st.tuples(st.integers(0, (1 << 32) * 1_000_000_000 - 1), st.binary(max_size=80))))
def test_pcap_round_trip(tmp_path: Path, packets: list[tuple[int, bytes]]) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        for time_ns, data in packets:
            writer.write(time_ns, data)
    assert [(packet.time_ns, packet.data) for packet in open_capture(tmp_path / "x.pcap")] == packets


def test_pcap_is_read_by_tshark_and_scapy(tmp_path: Path, syn: bytes, wireshark_tool: Tool) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path) as writer:
        writer.write(START, syn)
    assert (
        wireshark_tool(["tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "ip.dst"])
        == "1700000000.123456789\t10.96.0.12\n"
    )
    assert "nanosecond" in wireshark_tool(["capinfos", "-t", path])
    with PcapReader(str(path)) as reader:
        assert [bytes(packet.original) for packet in reader] == [syn]


def test_pcap_refuses_times_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write pcapng"), PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(1 << 63, b"")
    assert list(tmp_path.iterdir()) == []


def test_many_names_and_many_frames(tmp_path: Path, syn: bytes, wireshark_tool: Tool) -> None:
    path = tmp_path / "big.pcapng"
    names = {(0x0A000000 + number).to_bytes(4, "big"): f"pod-{number}.default.pod" for number in range(2500)}
    with CaptureWriter(path, INTERFACES, names) as writer:
        for number in range(20_000):
            writer.write(number & 1, number, syn, False, number + 1)
    text = wireshark_tool(["capinfos", path])
    assert "Number of packets:   20 k" in text
    assert "Number of resolved IPv4 addresses in file: 2500" in text


def test_a_comment_too_long_for_its_option_is_cut_between_characters(tmp_path: Path, wireshark_tool: Tool) -> None:
    with CaptureWriter(tmp_path / "x.pcapng", INTERFACES) as writer:
        writer.write(0, 0, bytes(60), False, 1, None, ["x" + "ü" * 40_000])
    (packet,) = open_capture(tmp_path / "x.pcapng")
    assert packet.comments == ("x" + "ü" * 32_767,)
    wireshark_tool(["capinfos", tmp_path / "x.pcapng"])


def test_the_file_has_its_name_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    path.write_bytes(b"old")
    writer = CaptureWriter(path, INTERFACES)
    writer.write(0, 0, bytes(60), False, 1)
    assert path.read_bytes() == b"old"
    writer.close()
    assert len(list(open_capture(path))) == 1
    assert list(tmp_path.iterdir()) == [path]


def _fail_while_writing(path: Path) -> None:
    with CaptureWriter(path, INTERFACES) as writer:
        writer.write(0, 0, bytes(60), False, 1)
        raise KeyboardInterrupt


def test_an_exception_leaves_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _fail_while_writing(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.pcapng"
    link.symlink_to(tmp_path / "real" / "out.pcapng")
    CaptureWriter(link, INTERFACES).close()
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.pcapng").is_file()


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing/out.pcapng: cannot be written: No such file or directory; give another place"):
        CaptureWriter(tmp_path / "missing" / "out.pcapng", INTERFACES)
    for path in ("/dev/null", tmp_path):
        with pytest.raises(InputError, match="is not a regular file"):
            CaptureWriter(path, INTERFACES)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the folder cannot be made"):
        FolderWriter(tmp_path / "file", INTERFACES)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CaptureWriter(tmp_path / "out.pcapng", INTERFACES)
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the writer closes it
    monkeypatch.setattr(writer._file, "_file", full)
    with pytest.raises(InputError, match="No space left on device"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_each_interface(tmp_path: Path, syn: bytes) -> None:
    interfaces = [Interface("node1/cni0"), Interface("node1_cni0"), Interface("silent/eth0"), Interface("../up")]
    with FolderWriter(tmp_path / "new", interfaces) as writer:
        for time, index in enumerate((3, 0, 1, 0)):
            writer.write(index, time, syn, False, index + 1, None, [f"on {index}"])
    paths = writer.paths
    assert [path.name for path in paths] == ["node1_cni0.pcapng", "node1_cni0~2.pcapng", "_up.pcapng"]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    read = [[(packet.interface, packet.time_ns, packet.comments) for packet in open_capture(path)] for path in paths]
    assert read == [
        [("node1/cni0", 1, ("on 0",)), ("node1/cni0", 3, ("on 0",))],
        [("node1_cni0", 2, ("on 1",))],
        [("../up", 0, ("on 3",))],
    ]


def test_no_file_of_many_stays_if_one_fails(tmp_path: Path, syn: bytes) -> None:
    (tmp_path / "b.pcapng").mkdir()
    with pytest.raises(InputError, match="is not a regular file"), FolderWriter(tmp_path, [Interface("a"), Interface("b")]) as writer:
        writer.write(0, 0, syn, False, 1)
        writer.write(1, 0, syn, False, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["b.pcapng"]


def test_a_folder_made_for_nothing_goes_again(tmp_path: Path, syn: bytes) -> None:
    with pytest.raises(RuntimeError), FolderWriter(tmp_path / "new", [Interface("a")]) as writer:
        writer.write(0, 0, syn, False, 1)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
