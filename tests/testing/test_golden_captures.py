"""What a comparison with a golden capture says, and what a mask by field names frees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane.capture.packet import Packet as CapturedPacket
from dataplane.errors import InputError
from dataplane.testing.golden import GoldenFrame, golden_differences, golden_frame, read_golden, write_golden

MACS: dict[str, Any] = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def tcp(*, ident: int = 1, sport: int = 40000, ttl: int = 64, seq: int = 9) -> Packet:
    return Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2", id=ident, ttl=ttl) / TCP(sport=sport, dport=80, seq=seq) / Raw(b"GET /")


def vxlan(inner: Packet, *, sport: int = 50000, vni: int = 7) -> Packet:
    outer = Ether(**MACS) / IP(src="192.0.2.1", dst="192.0.2.2", id=5) / UDP(sport=sport, dport=4789)
    return outer / VXLAN(vni=vni, flags=8) / inner


def compared(expected: Packet, got: Packet, *mask: str) -> list[str]:
    return golden_differences([golden_frame(expected)], [golden_frame(got)], mask)


def test_equal_frames_have_no_differences() -> None:
    assert compared(tcp(), tcp()) == []


def test_every_field_that_differs_is_named_outermost_first() -> None:
    lines = compared(vxlan(tcp(), vni=7), vxlan(tcp(seq=10), vni=8))
    assert [line.partition(" checksum")[0] for line in lines] == [
        "frame 1: UDP",
        "frame 1: VXLAN vni: expected 7, got 8",
        "frame 1: inner TCP sequence number: expected 9, got 10",
        "frame 1: inner TCP",
    ]


def test_a_mask_frees_a_field_and_the_checksums_over_it_and_nothing_else() -> None:
    assert compared(tcp(ident=1), tcp(ident=2), "ip.id") == []
    (line,) = compared(tcp(ident=1, ttl=64), tcp(ident=2, ttl=63), "ip.id")
    assert line == "frame 1: IPv4 ttl: expected 64, got 63"


def test_a_checksum_over_a_masked_field_must_still_be_right() -> None:
    wrong = bytearray(bytes(tcp(ident=2)))
    wrong[24] ^= 0x55
    (line,) = golden_differences([golden_frame(tcp(ident=1))], [golden_frame(bytes(wrong))], ["ip.id"])
    assert line.startswith("frame 1: IPv4 checksum: expected a valid one, got 0x")


def test_a_missing_checksum_is_no_right_one() -> None:
    without = vxlan(tcp(), sport=2)
    without[UDP].chksum = 0
    assert any("UDP checksum" in line for line in compared(without, vxlan(tcp(), sport=3), "udp.sport"))
    assert any("UDP checksum" in line for line in compared(vxlan(tcp(), sport=3), without, "udp.sport"))


def test_fields_that_share_bytes_are_told_apart() -> None:
    def packet(*, label: int, tc: int = 0) -> Packet:
        return Ether(**MACS) / IPv6(src="fd00::1", dst="fd00::2", fl=label, tc=tc) / UDP(sport=1, dport=2)

    assert compared(packet(label=1), packet(label=2), "ipv6.flow_label") == []
    (line,) = compared(packet(label=1, tc=0), packet(label=2, tc=8), "ipv6.flow_label")
    assert line == "frame 1: IPv6 dscp: expected 0, got 2"


@pytest.mark.parametrize("mask", ["udp.sport", "outer udp.sport", "udp.source_port"])
def test_a_name_can_mean_the_outer_field_alone(mask: str) -> None:
    inner = Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=6, dport=7)
    assert compared(vxlan(inner, sport=2), vxlan(inner, sport=3), mask) == []
    assert compared(vxlan(inner, sport=2), vxlan(inner, sport=3), "inner udp.sport")[0] == "frame 1: UDP source port: expected 2, got 3"


def test_inner_fields_can_be_freed_alone() -> None:
    assert compared(vxlan(tcp(seq=1)), vxlan(tcp(seq=2)), "inner tcp.seq") == []
    assert compared(vxlan(tcp(seq=1)), vxlan(tcp(seq=2)), "outer tcp.seq") != []


def test_both_names_of_ip_are_understood() -> None:
    assert compared(tcp(ttl=1), tcp(ttl=2), "ip.ttl") == compared(tcp(ttl=1), tcp(ttl=2), "ipv4.ttl") == []
    assert compared(tcp(ttl=1), tcp(ttl=2), "ipv6.ttl") != []


def test_a_vlan_tag_too_many_is_a_layer_too_many() -> None:
    tagged = Ether(**MACS) / Dot1Q(vlan=5) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=6, dport=7)
    plain = Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=6, dport=7)
    assert any(line.endswith("expected 802.1Q, got IPv4") for line in compared(tagged, plain))


def test_an_ip_packet_without_a_link_header_is_compared_by_its_fields(tmp_path: Path) -> None:
    packets = [bytes(tcp(ttl=ttl)[IP]) for ttl in (64, 63)]
    write_golden(tmp_path / "ip.pcapng", [golden_frame(packets[0])])
    kept = read_golden(tmp_path / "ip.pcapng")
    assert [frame.data for frame in kept] == packets[:1]
    lines = golden_differences(kept, [golden_frame(packets[1])])
    assert lines[0] == "frame 1: IPv4 ttl: expected 64, got 63"
    assert golden_differences(kept, [golden_frame(tcp())]) == ["frame 1: expected an IP packet, got an Ethernet frame"]


def test_places_are_kept_and_compared(tmp_path: Path) -> None:
    data = bytes(Ether(**MACS) / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
    frames = [GoldenFrame(data, "node1/eth0", "out", 5), GoldenFrame(data, "node2/eth0", "in", 6)]
    write_golden(tmp_path / "deep" / "x.pcapng", frames)
    assert read_golden(tmp_path / "deep" / "x.pcapng") == frames
    moved = [frames[0]._replace(interface="node3/eth0"), frames[1]._replace(direction="out", time_ns=9)]
    assert golden_differences(frames, moved) == [
        "frame 1: interface: expected node1/eth0, got node3/eth0",
        "frame 2: direction: expected in, got out",
    ]


def test_records_with_data_are_frames() -> None:
    captured = CapturedPacket(0, b"x" * 14, 1, "eth0", 1, 14)
    assert golden_frame(captured).data == b"x" * 14
    with pytest.raises(InputError, match="must be bytes or a Scapy packet, not str"):
        golden_frame("ffff")
