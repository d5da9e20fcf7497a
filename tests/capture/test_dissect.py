"""The dissector: what it shows of frames that Scapy built, and that nothing makes it fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane.capture.checksums import checksums, checksums_valid
from dataplane.capture.dissect import dissect, summary

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="10.244.1.5", dst="10.96.0.12")
V6 = IPv6(src="fd00::a", dst="fd00::b")
OUTER = IP(src="192.168.0.11", dst="192.168.0.12")
ZEROS = Raw(b"abcd")

FRAMES = {
    "10.244.1.5:40000 > 10.96.0.12:80 TCP SYN": ETHER / V4 / TCP(sport=40000, dport=80, flags="S"),
    "10.244.1.5:1 > 10.96.0.12:2 TCP FIN,SYN,RST,PSH,ACK,URG,ECE,CWR": ETHER / V4 / TCP(sport=1, dport=2, flags=0xFF),
    "10.244.1.5:1 > 10.96.0.12:2 TCP none": ETHER / V4 / TCP(sport=1, dport=2, flags=0),
    "[fd00::a]:1 > [fd00::b]:53 UDP": ETHER / V6 / UDP(sport=1, dport=53) / ZEROS,
    "10.244.1.5 > 10.96.0.12 ICMP echo request id 7 seq 9": ETHER / Dot1Q(vlan=5) / V4 / ICMP(id=7, seq=9),
    "fd00::a > fd00::b ICMPv6 echo request id 7 seq 9": ETHER / V6 / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(id=7, seq=9),
    "10.244.1.5:5 > 10.96.0.12:6 SCTP": ETHER / V4 / SCTP(sport=5, dport=6),
    "10.244.1.5 > 10.96.0.12 ESP": ETHER / IP(src="10.244.1.5", dst="10.96.0.12", proto=50) / ZEROS,
    "10.244.1.5 > 10.96.0.12 protocol 200": ETHER / IP(src="10.244.1.5", dst="10.96.0.12", proto=200) / ZEROS,
    "10.244.1.5 > 10.96.0.12 UDP fragment 1480+": ETHER / IP(src="10.244.1.5", dst="10.96.0.12", proto=17, frag=185, flags="MF") / ZEROS,
    "[fd00::a]:1 > [fd00::b]:2 UDP fragment 0+": ETHER / V6 / IPv6ExtHdrFragment(m=1, nh=17) / UDP(sport=1, dport=2) / ZEROS,
    "ARP who has 10.244.1.1 tell 10.244.1.5": ETHER / ARP(op=1, psrc="10.244.1.5", pdst="10.244.1.1"),
    "ARP 10.244.1.1 is at 02:00:00:00:00:09": ETHER / ARP(op=2, psrc="10.244.1.1", hwsrc="02:00:00:00:00:09", pdst="10.244.1.5"),
    "ARP operation 9": ETHER / ARP(op=9),
    "fd00::a > fd00::b ICMPv6 neighbour solicitation fd00::b": ETHER
    / V6
    / ICMPv6ND_NS(tgt="fd00::b")
    / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01"),
    "02:00:00:00:00:01 > 02:00:00:00:00:02 Ethernet 0x88cc": Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x88CC) / ZEROS,
    "192.168.0.11:50000 > 192.168.0.12:8472 VXLAN 1 | 10.244.1.5:1 > 10.96.0.12:2 TCP SYN": ETHER
    / OUTER
    / UDP(sport=50000, dport=8472)
    / VXLAN(vni=1, flags=8)
    / ETHER
    / V4
    / TCP(sport=1, dport=2),
    "192.168.0.11:50000 > 192.168.0.12:6081 Geneve 7 | 10.244.1.5:1 > 10.96.0.12:2 TCP SYN": ETHER
    / OUTER
    / UDP(sport=50000, dport=6081)
    / GENEVE(vni=7, proto=0x6558)
    / ETHER
    / V4
    / TCP(sport=1, dport=2),
    "192.168.0.11 > 192.168.0.12 IPv4 | 10.244.1.5:1 > 10.96.0.12:2 TCP SYN": ETHER / OUTER / V4 / TCP(sport=1, dport=2),
    "192.168.0.11 > 192.168.0.12 GRE | fd00::a > fd00::b ICMPv6 echo request id 0 seq 0": ETHER
    / OUTER
    / GRE(key_present=1, key=9, seqnum_present=1)
    / V6
    / ICMPv6EchoRequest(),
    "10.96.0.12 > 10.244.1.5 ICMP port unreachable, about 10.244.1.5:1 > 10.96.0.12:53 UDP": ETHER
    / IP(src="10.96.0.12", dst="10.244.1.5")
    / ICMP(type=3, code=3)
    / IPerror(src="10.244.1.5", dst="10.96.0.12")
    / UDPerror(sport=1, dport=53),
    "fd00::b > fd00::a ICMPv6 packet too big, about [fd00::a]:1 > [fd00::b]:2 UDP": ETHER
    / IPv6(src="fd00::b", dst="fd00::a")
    / ICMPv6PacketTooBig(mtu=1400)
    / V6
    / UDP(sport=1, dport=2),
}


@pytest.mark.parametrize(("line", "packet"), FRAMES.items(), ids=list(FRAMES))
def test_summary_in_one_line(line: str, packet: Packet) -> None:
    assert summary(bytes(packet)) == line


def test_summary_of_network_layer_bytes() -> None:
    assert summary(bytes(V4 / TCP(sport=1, dport=2)), ethertype=0x0800) == "10.244.1.5:1 > 10.96.0.12:2 TCP SYN"
    assert summary(b"abc", ethertype=0x1234) == "3 bytes of no known protocol"


def test_every_field_of_a_vxlan_frame_with_its_place(vxlan: bytes) -> None:
    layers = dissect(vxlan)
    assert [(layer.name, layer.offset, layer.where) for layer in layers] == [
        ("Ethernet", 0, ""),
        ("IPv4", 14, ""),
        ("UDP", 34, ""),
        ("VXLAN", 42, ""),
        ("Ethernet", 50, "inner "),
        ("IPv4", 64, "inner "),
        ("TCP", 84, "inner "),
    ]
    assert [tuple(field) for field in layers[3].fields] == [
        ("flags", 42, 1, "0x08"),
        ("reserved", 43, 3, "0x000000"),
        ("vni", 46, 3, "1"),
        ("reserved", 49, 1, "0x00"),
    ]
    assert {field.name: field.text for field in layers[6].fields} == {
        "source port": "40000",
        "destination port": "80",
        "sequence number": "1000",
        "acknowledgment number": "0",
        "data offset": "7",
        "reserved": "0",
        "flags": "SYN",
        "window": "8192",
        "checksum": "0x" + vxlan[100:102].hex(),
        "urgent pointer": "0",
        "option mss": "020405b4",
        "option nop": "01",
        "option window scale": "030307",
    }


def test_padding_behind_the_packet_is_a_trailer_of_its_own() -> None:
    frame = bytes(ETHER / V4 / UDP(sport=1, dport=2) / ZEROS) + b"\0" * 14
    *_, payload, trailer = dissect(frame)
    assert (payload.name, payload.fields[0].text) == ("Payload", b"abcd".hex())
    assert (trailer.name, trailer.offset, trailer.end) == ("Trailer", 46, 60)


@pytest.mark.parametrize("packet", FRAMES.values(), ids=list(FRAMES))
def test_every_byte_of_a_frame_belongs_to_a_field(packet: Packet) -> None:
    frame = bytes(packet)
    shown = {at for layer in dissect(frame) for field in layer.fields for at in range(field.offset, field.offset + field.length)}
    assert shown == set(range(len(frame)))


@pytest.mark.parametrize("packet", FRAMES.values(), ids=list(FRAMES))
def test_frames_cut_anywhere_show_what_is_there(packet: Packet) -> None:
    frame = bytes(packet)
    for size in range(len(frame)):
        layers = dissect(frame[:size])
        shown = {at for layer in layers for field in layer.fields for at in range(field.offset, field.offset + field.length)}
        assert shown == set(range(size))
        assert summary(frame[:size])
        checksums_valid(frame[:size])


@settings(deadline=None, max_examples=300)
@given(which=st.sampled_from(list(FRAMES.values())), changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))
def test_changed_frames_never_fail(which: Packet, changes: list[tuple[int, int]]) -> None:
    frame = bytearray(bytes(which))
    for at, value in changes:
        frame[at % len(frame)] = value
    _shows_all(bytes(frame), 0)


@settings(deadline=None, max_examples=300)
@given(frame=st.binary(max_size=200), ethertype=st.sampled_from([0, 0x0800, 0x86DD, 0x0806, 0x8100, 0x1234]))
def test_random_bytes_never_fail(frame: bytes, ethertype: int) -> None:
    _shows_all(frame, ethertype)


def _shows_all(frame: bytes, ethertype: int) -> None:
    layers = dissect(frame, ethertype=ethertype)
    assert all(field.offset + field.length <= len(frame) for layer in layers for field in layer.fields)
    assert "\n" not in summary(frame, ethertype=ethertype)
    checksums_valid(frame)


def test_checksums_of_every_layer(vxlan: bytes) -> None:
    assert checksums_valid(vxlan) == {"IPv4": True, "UDP": True, "inner IPv4": True, "inner TCP": True}
    broken = bytearray(vxlan)
    broken[22] ^= 1  # the outer TTL, which no other checksum covers
    assert checksums_valid(bytes(broken)) == {"IPv4": False, "UDP": True, "inner IPv4": True, "inner TCP": True}
    broken[-1] ^= 1  # the innermost byte, which the outer UDP covers too
    assert checksums_valid(bytes(broken)) == {"IPv4": False, "UDP": False, "inner IPv4": True, "inner TCP": False}


def test_checksums_that_cannot_be_told_are_left_out() -> None:
    assert checksums_valid(bytes(ETHER / V4 / UDP(chksum=0) / ZEROS)) == {"IPv4": True}
    assert checksums_valid(bytes(ETHER / IP(flags="MF") / UDP(sport=1) / ZEROS)) == {"IPv4": True}
    assert checksums_valid(bytes(ETHER / V6 / UDP() / ZEROS)[:-1]) == {}
    assert checksums_valid(bytes(ETHER / V6 / IPv6ExtHdrRouting(addresses=["fd00::c"], segleft=1) / UDP())) == {}
    assert checksums_valid(bytes(ETHER / ARP())) == {}


def test_a_udp_checksum_of_ones_stands_for_zero() -> None:
    # RFC 768: a sum that comes out as zero is sent as all ones; this payload makes it so
    packet = ETHER / V4 / UDP(sport=1, dport=2) / Raw(b"\0\0")
    without = int.from_bytes(bytes(packet)[40:42], "big")
    frame = bytes(ETHER / V4 / UDP(sport=1, dport=2) / Raw(without.to_bytes(2, "big")))
    assert frame[40:42] == b"\xff\xff"
    assert checksums_valid(frame) == {"IPv4": True, "UDP": True}
    wrong = checksums(frame[:40] + b"\x12\x34" + frame[42:])[1]
    assert (wrong.label, wrong.state, wrong.right) == ("UDP", "invalid", 0xFFFF)


def test_options_whose_length_counts_bytes_or_eights() -> None:
    solicitation = ETHER / V6 / ICMPv6ND_NS(tgt="fd00::b") / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
    option = dissect(bytes(solicitation))[-1].fields[-1]
    assert option == ("option source link-layer address", 78, 8, "0101020000000001")
    padded = TCP(options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("EOL", None)])
    fields = [field for field in dissect(bytes(ETHER / V4 / padded))[-1].fields if field.name.startswith("option")]
    assert [(field.name, field.offset, field.length) for field in fields[:3]] == [
        ("option mss", 54, 4),
        ("option sack permitted", 58, 2),
        ("option timestamps", 60, 10),
    ]
