"""Reading pcap and pcapng: what the formats allow, and what every kind of damage says."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet
from dataplane.errors import InputError

ORDERS = pytest.mark.parametrize("order", ["<", ">"])
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
FRAME = bytes(range(60))
Read = Callable[[bytes], list[Packet]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Packets of a capture with these bytes."""

    def packets(data: bytes) -> list[Packet]:
        file = tmp_path / "in.cap"
        file.write_bytes(data)
        return list(open_capture(file))

    return packets


def pcap(
    packets: list[tuple[int, int, bytes]], order: str = "<", magic: int = 0xA1B2C3D4, network: int = 1, version: tuple[int, int] = (2, 4)
) -> bytes:
    """A pcap file, written from the format's description."""
    data = struct.pack(order + "IHHiIII", magic, *version, 0, 0, 262144, network)
    for seconds, fraction, frame in packets:
        data += struct.pack(order + "IIII", seconds, fraction, len(frame), len(frame)) + frame
    return data


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link_type: int = 1, snap_len: int = 0, options: bytes = b"") -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snap_len) + options)


def enhanced(order: str, frame: bytes, ticks: int = 0, index: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame + bytes(-len(frame) % 4) + options)


@ORDERS
@pytest.mark.parametrize(("magic", "nanoseconds"), [(0xA1B2C3D4, 123456000), (0xA1B23C4D, 123456)])
def test_pcap_of_both_byte_orders_and_resolutions(read: Read, order: str, magic: int, nanoseconds: int) -> None:
    (packet,) = read(pcap([(1_700_000_000, 123456, FRAME)], order, magic))
    assert packet == Packet(1_700_000_000_000_000_000 + nanoseconds, FRAME, LINKTYPE_ETHERNET, "", 1, 60)


@ORDERS
def test_a_packet_cut_by_the_snap_length_keeps_its_length_on_the_wire(read: Read, order: str) -> None:
    cut = pcap([], order) + struct.pack(order + "IIII", 1, 2, 60, 1514) + FRAME
    assert [(len(packet.data), packet.orig_len) for packet in read(cut)] == [(60, 1514)]


def test_a_frame_check_sequence_is_not_part_of_the_frame(read: Read) -> None:
    four_bytes = 0x24000000
    assert read(pcap([(0, 0, FRAME + b"\xde\xad\xbe\xef")], network=four_bytes | 1))[0].data == FRAME
    (packet,) = read(section("<") + interface("<", options=option("<", 13, b"\x04")) + enhanced("<", FRAME + b"\xde\xad\xbe\xef"))
    assert (packet.data, packet.orig_len) == (FRAME, 60)


@ORDERS
def test_enhanced_packets_with_all_their_options(read: Read, order: str) -> None:
    options = option(order, 1, b"first") + option(order, 2, struct.pack(order + "I", 2)) + option(order, 5, struct.pack(order + "Q", 77))
    verdict = option(order, 7, b"\x01" + struct.pack(order + "Q", 2))
    unknown = option(order, 2988, b"\0\0\0\0custom") + option(order, 4711, b"xyz")
    last = option(order, 1, "zweitens: ü".encode()) + bytes(4) + b"\xff\xff\xff\xff"  # what stands after the end is not read
    described = interface(order, options=option(order, 2, b"node1/cni0") + option(order, 9, b"\x09"))
    (packet,) = read(section(order) + described + enhanced(order, FRAME, 5_000_000_001, options=options + verdict + unknown + last))
    assert packet == Packet(
        5_000_000_001, FRAME, 1, "node1/cni0", 1, 60, comments=("first", "zweitens: ü"), outgoing=True, packet_id=77, verdict=2
    )


@ORDERS
def test_old_and_simple_packet_blocks(read: Read, order: str) -> None:
    old = block(order, 2, struct.pack(order + "HHIIII", 0, 9, 0, 1_500_000, 60, 1514) + FRAME)
    simple = block(order, 3, struct.pack(order + "I", 1514) + FRAME)
    first, second = read(section(order) + interface(order, snap_len=60) + old + simple)
    assert (first.time_ns, first.data, first.orig_len) == (1_500_000_000, FRAME, 1514)
    # a simple packet has no time of its own, and its captured length is what the snap length leaves
    assert (second.time_ns, second.data, second.orig_len) == (1_500_000_000, FRAME, 1514)


@pytest.mark.parametrize(
    ("resolution", "ticks", "nanoseconds"),
    [
        (b"", 7, 7_000),
        (b"\x03", 7, 7_000_000),
        (b"\x09", 7, 7),
        (b"\x0c", 7_999, 7),
        (b"\x8a", 512, 500_000_000),
        (b"\x00", 7, 7_000_000_000),
    ],
)
@pytest.mark.parametrize("offset", [0, 1_600_000_000])
def test_time_resolution_and_offset(read: Read, resolution: bytes, ticks: int, nanoseconds: int, offset: int) -> None:
    options = option("<", 9, resolution) if resolution else b""
    options += option("<", 14, struct.pack("<q", offset)) if offset else b""
    (packet,) = read(section("<") + interface("<", options=options) + enhanced("<", FRAME, ticks))
    assert packet.time_ns == nanoseconds + offset * 1_000_000_000


def test_sections_of_different_byte_order_each_with_their_interfaces(read: Read) -> None:
    little = section("<") + interface("<", options=option("<", 2, b"a")) + interface("<", options=option("<", 2, b"b"))
    little += enhanced("<", FRAME, index=1)
    big = section(">") + interface(">", options=option(">", 2, b"c")) + enhanced(">", FRAME)
    assert [(packet.interface, packet.number) for packet in read(little + big + little)] == [("b", 1), ("c", 2), ("b", 3)]
    with pytest.raises(InputError, match="packet 2: belongs to interface 1, but its section describes 1"):
        read(little + section(">") + interface(">") + enhanced(">", FRAME, index=1))


@ORDERS
def test_blocks_without_packets_are_passed_over(read: Read, order: str) -> None:
    others = b"".join(block(order, kind, b"\x01\x02\x03\x04" * 3) for kind in (4, 5, 9, 0xA, 0xBAD, 0x40000BAD, 0x12345678))
    assert [packet.number for packet in read(section(order) + others + interface(order) + others + enhanced(order, FRAME) + others)] == [1]


IPV4 = b"\x45" + bytes(19)
IPV6 = b"\x60" + bytes(39)


@pytest.mark.parametrize(
    ("link_type", "header", "body", "ethertype"),
    [
        (101, b"", IPV4, 0x0800),
        (101, b"", IPV6, 0x86DD),
        (12, b"", IPV4, 0x0800),
        (228, b"", IPV4, 0x0800),
        (229, b"", IPV6, 0x86DD),
        (0, b"\x02\0\0\0", IPV4, 0x0800),
        (0, b"\0\0\0\x02", IPV4, 0x0800),
        (0, b"\x1e\0\0\0", IPV6, 0x86DD),
        (0, b"\x07\0\0\0", b"osi", 0),
        (108, b"\0\0\0\x18", IPV6, 0x86DD),
        (113, b"\0\0\0\x01\0\x06\x02\0\0\0\0\x01\0\0\x08\0", IPV4, 0x0800),
        (113, b"\0\0\0\x01\0\x06\x02\0\0\0\0\x01\0\0\x08\x06", b"an arp message", 0x0806),
        (276, b"\x86\xdd\0\0\0\0\0\x02\0\x01\0\x06\x02\0\0\0\0\x01\0\0", IPV6, 0x86DD),
        (101, b"", b"", 0),
    ],
)
def test_other_link_types_start_at_the_network_layer(read: Read, link_type: int, header: bytes, body: bytes, ethertype: int) -> None:
    (packet,) = read(pcap([(0, 0, header + body)], network=link_type))
    assert packet.is_l3
    assert (packet.data, packet.link_type, packet.ethertype, packet.orig_len) == (body, LINKTYPE_RAW, ethertype, len(body))


def error(read: Read, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read(data)
    text = str(caught.value)
    assert "\n" not in text
    return text.partition("in.cap: ")[2]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"apiVersion: v1\n", "not a pcap or pcapng capture (it starts with 61 70 69 56)"),
        (b"\xd4", "not a pcap or pcapng capture"),
        (b"\xa1\xb2\xcd\x34" + bytes(20), "convert it with: editcap"),
        (gzip.compress(pcap([(0, 0, FRAME)]))[:-9], "gzip data is damaged or cut off"),
        (gzip.compress(b""), "the file is empty"),
        (pcap([])[:20], "cut off in the file header: 20 of 24 bytes"),
        (pcap([], version=(2, 2)), "pcap version 2.2 is not supported"),
        (pcap([(0, 0, FRAME)] * 3)[:-1], "cut off in packet 3: 59 of 60 bytes are there; keep what is whole with: editcap"),
        (pcap([(0, 0, FRAME)])[:30], "cut off in packet 1: 6 of 16 bytes are there; capture again"),
        (pcap([(0, 0, FRAME)]) + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 60), "packet 2: captured length 2147483647 is over 262144"),
        (pcap([(0, 0, FRAME)], network=105), "packet 1: link type 105 (IEEE 802.11) is not supported"),
        (pcap([(0, 0, b"\0\0\0\x01")], network=113), "packet 1: 4 bytes do not hold the 16-byte link header"),
        (section("<")[:-1], "after packet 0: cut off in a block of type 0xa0d0d0a: 27 of 28 bytes"),
        (section("<")[:8] + b"abcd" + section("<")[12:], "after packet 0: a section header has byte-order magic 61 62 63 64"),
        (block("<", 0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D)), "a section header is too short"),
        (section("<") + block("<", 1, b""), "the description of interface 0 is too short"),
        (section("<") + interface("<", options=option("<", 9, b"")), "option 9 of interface 0 gives its length as 0"),
        (section("<") + enhanced("<", FRAME), "packet 1: belongs to interface 0, but its section describes 0"),
        (section("<") + interface("<") + block("<", 6, b""), "packet 1: the packet block is too short"),
        (section("<") + interface("<") + block("<", 2, b""), "packet 1: the packet block is too short"),
        (section("<") + interface("<") + block("<", 3, b""), "packet 1: the packet block is too short"),
        (
            section("<") + interface("<") + block("<", 3, struct.pack("<I", 9)),
            "packet 1: captured length 9 does not fit its block of 16 bytes",
        ),
        (section("<") + interface("<") + enhanced("<", FRAME) * 2 + enhanced("<", FRAME)[:-1], "cut off in packet 3"),
        (section("<") + interface("<") + b"\x06\0", "cut off in packet 1: 2 of 12 bytes"),
        (section("<") + interface("<") + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + FRAME), "packet 1: captured length 61"),
        (section("<") + interface("<") + enhanced("<", FRAME, 1 << 63), "packet 1: its time"),
        (
            section("<") + interface("<") + enhanced("<", FRAME, options=struct.pack("<HH", 1, 9)),
            "option 1 of packet 1 gives its length as 9",
        ),
        (section("<") + interface("<") + struct.pack("<III", 6, 8, 8), "after packet 0: a block of type 0x6 gives its length as 8"),
        (section("<") + interface("<") + struct.pack("<IIII", 6, 1 << 30, 0, 0), "gives its length as 1073741824"),
        (section("<") + struct.pack("<IIII", 9, 16, 0, 20), "a block of type 0x9 is 16 bytes long by its start and 20 by its end"),
    ],
)
def test_damage_is_named_with_its_place(read: Read, data: bytes, says: str) -> None:
    assert says in error(read, data)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pcap", Path(f"{tmp_path}/nul\0")):
        with pytest.raises(InputError, match="cannot be read"):
            open_capture(path)


def test_zero_packets_are_an_error_only_where_some_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "none.pcap"
    for data in (pcap([]), section("<")):
        file.write_bytes(data)
        assert list(open_capture(file)) == []
        with pytest.raises(InputError, match=r"none.pcap: the capture holds no packets; give one with traffic"):
            list(open_capture(file, at_least_one=True))


def test_gzipped_captures_and_standard_input(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pcap([(1, 2, FRAME)])
    assert read(gzip.compress(data)) == read(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(open_capture("-")) == read(data)


def _sample(order: str) -> bytes:
    options = option(order, 1, b"why") + option(order, 5, struct.pack(order + "Q", 1)) + bytes(4)
    body = section(order) + interface(order, options=option(order, 2, b"a") + option(order, 9, b"\x09") + bytes(4))
    return body + enhanced(order, FRAME, 1, options=options) + block(order, 3, struct.pack(order + "I", 60) + FRAME) + section(order)


@pytest.mark.parametrize("data", [_sample("<"), _sample(">"), pcap([(0, 0, FRAME)] * 2), gzip.compress(_sample("<"))])
def test_cut_anywhere_gives_the_whole_packets_then_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "cut.cap"
    file.write_bytes(data)
    whole = list(open_capture(file))
    for size in range(len(data)):
        file.write_bytes(data[:size])
        packets: list[Packet] = []
        try:
            packets.extend(open_capture(file))
        except InputError as caught:
            assert "\n" not in str(caught)
        assert packets == whole[: len(packets)]


@SAME_FOLDER
@given(head=st.sampled_from([b"", pcap([]), pcap([], ">", 0xA1B23C4D, 113), section("<") + interface("<"), section(">")]), tail=st.binary())
def test_random_bytes_give_packets_or_an_input_error(tmp_path: Path, head: bytes, tail: bytes) -> None:
    _survives(tmp_path, head + tail)


@SAME_FOLDER
@given(order=st.sampled_from("<>"), at=st.integers(0, 300), value=st.integers(0, 255))
def test_a_changed_byte_gives_packets_or_an_input_error(tmp_path: Path, order: str, at: int, value: int) -> None:
    data = bytearray(_sample(order))
    data[at % len(data)] = value
    _survives(tmp_path, bytes(data))


def _survives(folder: Path, data: bytes) -> None:
    file = folder / "random.cap"
    file.write_bytes(data)
    try:
        numbers = [packet.number for packet in open_capture(file)]
    except InputError as caught:
        assert str(file) in str(caught)
    else:
        assert numbers == list(range(1, len(numbers) + 1))
