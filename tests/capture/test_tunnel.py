"""Where a frame's outer IP packet is, what its headers hold, and the layers that an encapsulation's own description adds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL, LINKTYPE_RAW
from dataplane.capture.tunnel import Outer, inner_type, outer_checksums, outer_fields, outer_of
from dataplane.capture.tunnel_layers import dissect_tunnels
from dataplane.errors import InputError

MACS: dict[str, Any] = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
DATAGRAM = IP(src="192.0.2.1", dst="192.0.2.2", id=7, ttl=9, tos=4, flags="DF") / UDP(sport=5, dport=4789) / Raw(b"data")


def whole(packet: Packet, link_type: int = LINKTYPE_ETHERNET) -> Outer:
    outer = outer_of(bytes(packet), link_type)
    assert outer is not None
    return outer


def values(outer: Outer) -> dict[tuple[str, str], object]:
    return {(layer, name): value for layer, name, value in outer_fields(outer)}


@pytest.mark.parametrize("link", [Ether(**MACS), Ether(**MACS) / Dot1Q(vlan=5), Ether(**MACS) / Dot1AD(vlan=6) / Dot1Q(vlan=5)])
def test_the_packet_begins_behind_the_link_header_and_ends_where_it_says(link: Packet) -> None:
    outer = whole(link / DATAGRAM / Raw(b"padding"))
    assert outer.link == bytes(link / DATAGRAM)[: -len(bytes(DATAGRAM))]
    padded = whole(Raw(bytes(link / DATAGRAM) + bytes(7)))
    assert (padded.packet, padded.protocol, padded.port) == (bytes(DATAGRAM), 17, 4789)
    assert padded.addresses == (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))


def test_other_links_than_ethernet() -> None:
    cooked = bytes.fromhex("000400010006fa163e23d34200000800")
    assert whole(Raw(cooked + bytes(DATAGRAM)), LINKTYPE_LINUX_SLL)[:3] == (cooked, LINKTYPE_LINUX_SLL, bytes(DATAGRAM))
    assert whole(DATAGRAM, LINKTYPE_RAW).link == b""
    with pytest.raises(InputError, match="link type 105"):
        outer_of(bytes(DATAGRAM), 105)


def test_the_fields_of_the_outer_layers() -> None:
    found = values(whole(Ether(**MACS) / Dot1Q(vlan=5, prio=1) / DATAGRAM))
    assert found["ethernet", "dst"] == "02:00:00:00:00:02"
    assert found["vlan", "tci"] == 0x2005
    assert [found["ipv4", name] for name in ("src", "tos", "id", "df", "ttl", "protocol", "header_checksum_valid")] == [
        "192.0.2.1", 4, 7, 1, 9, 17, 1,
    ]  # fmt: skip
    found = values(whole(Ether(**MACS) / IPv6(src="fd00::1", dst="fd00::2", tc=3, fl=4, hlim=5) / UDP()))
    assert [found["ipv6", name] for name in ("dst", "traffic_class", "flow_label", "hop_limit", "next_header")] == ["fd00::2", 3, 4, 5, 17]


def test_a_wrong_header_checksum_is_seen() -> None:
    broken = bytearray(bytes(Ether(**MACS) / DATAGRAM))
    broken[24] ^= 1
    assert values(whole(Raw(bytes(broken))))["ipv4", "header_checksum_valid"] == 0


def test_extension_headers_are_passed() -> None:
    inner = UDP(sport=1, dport=6081) / Raw(b"x")
    outer = whole(Ether(**MACS) / IPv6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / inner)
    assert (outer.protocol, outer.payload, outer.port) == (17, 56, 6081)


@pytest.mark.parametrize(
    "packet", [IP(flags="MF") / UDP(dport=4789), IP(frag=5) / UDP(dport=4789), IPv6() / IPv6ExtHdrFragment() / UDP(dport=4789)]
)
def test_a_fragment_is_one_and_has_no_port(packet: Packet) -> None:
    outer = whole(Ether(**MACS) / packet)
    assert (outer.fragment, outer.port) == (True, 0)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(Ether(**MACS) / ARP()),
        bytes(Ether(**MACS) / DATAGRAM)[:-1],  # shorter than the total length
        bytes(Ether(**MACS) / IP(ihl=4) / UDP()),
        bytes(Ether(**MACS) / IP(version=5) / UDP()),
        bytes(Ether(**MACS) / IPv6() / UDP())[:-1],
    ],
)
def test_what_is_no_whole_ip_packet(frame: bytes) -> None:
    assert outer_of(frame) is None


@given(st.binary(max_size=120), st.sampled_from([LINKTYPE_ETHERNET, LINKTYPE_RAW]), st.sampled_from([b"\x08\0\x45", b"\x86\xdd\x60"]))
def test_no_bytes_are_too_broken(data: bytes, link_type: int, start: bytes) -> None:
    for frame in (data, bytes(12) + start + data, start[2:] + data):
        outer = outer_of(frame, link_type)
        if outer is not None:
            assert outer.link + outer.packet == frame[: len(outer.link) + len(outer.packet)]
            assert outer_fields(outer)
        dissect_tunnels(frame)


def test_the_checksums_of_the_outer_headers() -> None:
    outer = whole(Ether(**MACS) / DATAGRAM)
    found = outer_checksums(outer)
    assert (found["ipv4"].offset, found["udp"].offset) == (10, 26)
    assert {item.state for item in found.values()} == {"valid"}
    assert found["udp"].right == int.from_bytes(outer.packet[26:28], "big")


def test_bytes_are_told_by_their_own_lengths() -> None:
    assert inner_type(bytes(DATAGRAM)) == 0x0800
    assert inner_type(bytes(IPv6() / UDP())) == 0x86DD
    assert inner_type(bytes(DATAGRAM) + b"x") == 0x6558
    assert inner_type(bytes(Ether(**MACS) / ARP())) == 0x6558


def test_what_the_dissector_does_not_know_the_encapsulation_describes() -> None:
    inner = IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(id=9)
    frame = bytes(Ether(**MACS) / IP() / UDP(dport=6635) / MPLS(label=77, s=1, ttl=3) / inner)
    layers = dissect_tunnels(frame)
    assert [layer.where + layer.name for layer in layers] == ["Ethernet", "IPv4", "UDP", "mpls", "inner IPv4", "inner ICMP"]
    assert layers[3].text("label") == "77"
    assert layers[4].text("source") == "10.0.0.1"
    assert frame[layers[4].offset] == 0x45


def test_an_encapsulation_within_another_is_described_too() -> None:
    inner = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=6635) / MPLS(label=1, s=1) / IP(src="10.0.0.3", dst="10.0.0.4") / ICMP()
    names = [layer.where + layer.name for layer in dissect_tunnels(bytes(Ether(**MACS) / IP() / GRE() / inner))]
    assert names[-3:] == ["inner mpls", "inner inner IPv4", "inner inner ICMP"]


def test_what_no_encapsulation_claims_stays_as_it_is() -> None:
    layers = dissect_tunnels(bytes(Ether(**MACS) / IP() / UDP(dport=9) / Raw(b"x")))
    assert [layer.name for layer in layers] == ["Ethernet", "IPv4", "UDP", "Payload"]
    known = bytes(Ether(**MACS) / IP() / UDP(dport=4789) / VXLAN(vni=3) / Ether(**MACS) / ARP())
    assert [layer.name for layer in dissect_tunnels(known)][3:] == ["VXLAN", "Ethernet", "ARP"]
