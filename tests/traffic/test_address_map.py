"""Addresses mapped onto the cluster: what changes, and what the checksums say afterwards."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from control.clusters import cluster, node, pod
from dataplane._core import Engine
from dataplane.capture.checksums import INVALID, VALID, checksums
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.k8s import load_objects
from dataplane.traffic.address_map import AddressMap, Rule, parse_map

HEADER = bytes(12) + b"\x08\x00"
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def topology() -> Topology:
    objects = [cluster(serviceCIDR="10.96.0.0/16"), node(1), pod("a", "n1", "10.1.1.2"), SERVICE]
    return build(load_objects(objects, "map.yaml"), Engine())


def states(packet: bytes) -> dict[str, str]:
    header = HEADER if packet[0] >> 4 == 4 else bytes(12) + b"\x86\xdd"
    return {item.label: item.state for item in checksums(header + packet)}


def addresses(packet: bytes) -> tuple[str, str]:
    parsed = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    return parsed.src, parsed.dst


def test_the_longest_prefix_decides_and_the_host_part_stays(topology: Topology) -> None:
    rules = parse_map(["172.16.0.0/12=10.0.0.0/12", "172.16.5.0/24=10.1.1.2", "172.16.5.9=pod/default/a"], topology)
    mapped = [rules.of(bytes(address)) for address in ([172, 17, 2, 3], [172, 16, 5, 7], [172, 16, 5, 9], [9, 9, 9, 9])]
    assert [tuple(address) for address in mapped] == [(10, 1, 2, 3), (10, 1, 1, 2), (10, 1, 1, 2), (9, 9, 9, 9)]


def test_services_and_nodes_are_targets(topology: Topology) -> None:
    rules = parse_map(["1.1.1.1=service/default/web", "2.2.2.2=node/n1"], topology)
    packet = rules.ip(bytes(IP(src="2.2.2.2", dst="1.1.1.1") / UDP(sport=1, dport=2) / b"odd"))
    assert addresses(packet) == ("192.168.0.1", "10.96.0.10")
    assert states(packet) == {"IPv4": VALID, "UDP": VALID}


@given(
    source=st.integers(0x01000000, 0xDFFFFFFF), target=st.integers(0x01000000, 0xDFFFFFFF), data=st.binary(max_size=40), tcp=st.booleans()
)
def test_right_checksums_stay_right(source: int, target: int, data: bytes, tcp: bool) -> None:
    rules = _one(source, target)
    transport = TCP(sport=1, dport=2) if tcp else UDP(sport=1, dport=2)
    packet = rules.ip(bytes(IP(src=_text(source), dst="192.0.2.1") / transport / data))
    assert addresses(packet)[0] == _text(target)
    assert set(states(packet).values()) == {VALID}


@given(wrong=st.integers(1, 0xFFFE), target=st.integers(0x01000000, 0xDFFFFFFF))
def test_a_wrong_checksum_stays_wrong_by_the_same_difference(wrong: int, target: int) -> None:
    packet = bytearray(bytes(IP(src="192.0.2.7", dst="192.0.2.1") / TCP(sport=1, dport=2)))
    right = int.from_bytes(packet[36:38], "big")
    packet[36:38] = ((right + wrong) % 0xFFFF).to_bytes(2, "big")
    mapped = _one(0xC0000207, target).ip(bytes(packet))
    (tcp,) = [item for item in checksums(HEADER + mapped) if item.label == "TCP"]
    assert tcp.state == INVALID
    assert (int.from_bytes(mapped[36:38], "big") - tcp.right - wrong) % 0xFFFF == 0


def test_a_udp_checksum_that_is_absent_stays_absent(topology: Topology) -> None:
    packet = bytes(IP(src="192.0.2.7", dst="192.0.2.1") / UDP(sport=1, dport=2, chksum=0) / b"x")
    assert parse_map(["192.0.2.7=10.1.1.2"], topology).ip(packet)[26:28] == b"\0\0"


def test_the_packet_quoted_in_an_icmp_error_is_mapped_too(topology: Topology) -> None:
    quoted = IP(src="192.0.2.7", dst="192.0.2.1") / UDP(sport=1, dport=2) / b"four"
    packet = bytes(IP(src="192.0.2.1", dst="192.0.2.7") / ICMP(type=3, code=3) / bytes(quoted))
    mapped = parse_map(["192.0.2.7=10.1.1.2", "192.0.2.1=10.1.2.2"], topology).ip(packet)
    assert addresses(mapped) == ("10.1.2.2", "10.1.1.2")
    assert addresses(mapped[28:]) == ("10.1.1.2", "10.1.2.2")
    assert set(states(mapped).values()) == {VALID}


def test_a_later_fragment_keeps_its_payload(topology: Topology) -> None:
    packet = bytes(IP(src="192.0.2.7", dst="192.0.2.1", proto=6, frag=100) / bytes(range(40)))
    mapped = parse_map(["192.0.2.0/24=10.1.1.0/24"], topology).ip(packet)
    assert mapped[20:] == packet[20:]
    assert addresses(mapped) == ("10.1.1.7", "10.1.1.1")


V6 = IPv6(src="2001:db8::7", dst="2001:db8::1")
V6_RULES = ["2001:db8::/64=fd00:1::/64", "2001:db8::7=fd00:2::9"]
V6_PACKETS = [
    V6 / TCP(sport=1, dport=2) / b"odd",
    V6 / UDP(sport=1, dport=2) / b"x",
    V6 / ICMPv6EchoRequest(id=5, seq=6, data=b"ping"),
    V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TCP(sport=1, dport=2),
    V6 / ICMPv6ND_NS(tgt="2001:db8::1"),
    V6 / ICMPv6ND_NA(tgt="2001:db8::7"),
    V6 / ICMPv6ND_Redirect(tgt="2001:db8::1", dst="2001:db8::7"),
    V6 / ICMPv6DestUnreach(code=4) / IPv6(src="2001:db8::1", dst="2001:db8::7") / UDP(sport=1, dport=2) / b"x",
    V6 / ICMPv6PacketTooBig(mtu=1280) / IPv6(src="2001:db8::1", dst="2001:db8::7") / TCP(sport=1, dport=2),
]


@pytest.mark.parametrize("packet", V6_PACKETS, ids=lambda packet: packet.summary()[-60:])
def test_no_address_of_an_ipv6_packet_keeps_its_old_prefix(topology: Topology, packet: Packet) -> None:
    """Headers, quotes and the messages of neighbour discovery; and Scapy computes the same checksums for the new addresses."""
    before = bytes(packet)
    mapped = parse_map(V6_RULES, topology).ip(before)
    assert addresses(mapped) == ("fd00:2::9", "fd00:1::1")
    assert bytes.fromhex("20010db8") not in mapped
    assert len(mapped) == len(before)
    assert set(states(mapped).values()) == {VALID}


@given(source=st.integers(1, 2**128 - 1), target=st.integers(1, 2**128 - 1), data=st.binary(max_size=40), tcp=st.booleans())
def test_right_checksums_stay_right_in_ipv6(source: int, target: int, data: bytes, tcp: bool) -> None:
    transport = TCP(sport=1, dport=2) if tcp else UDP(sport=1, dport=2)
    packet = bytes(IPv6(src=str(ip_address(source.to_bytes(16))), dst="2001:db8::1") / transport / data)
    mapped = AddressMap([Rule(ip_network(source.to_bytes(16)), ip_network(target.to_bytes(16)))]).ip(packet)
    assert mapped[8:24] == target.to_bytes(16)
    assert set(states(mapped).values()) == {VALID}


def test_a_checksum_behind_a_routing_header_does_not_follow_the_next_hop(topology: Topology) -> None:
    """RFC 8200 8.1: the pseudo-header has the address of the last hop, which stands in the routing header."""
    routed = V6 / IPv6ExtHdrRouting(addresses=["2001:db8:9::9"]) / UDP(sport=1, dport=2) / b"x"
    before = bytes(routed)
    mapped = parse_map(["2001:db8::1=fd00:1::1"], topology).ip(before)
    assert addresses(mapped)[1] == "fd00:1::1"
    assert mapped[40:] == before[40:]


def test_a_later_fragment_of_ipv6_keeps_its_payload(topology: Topology) -> None:
    packet = bytes(V6 / IPv6ExtHdrFragment(offset=10, nh=6) / bytes(range(40)))
    mapped = parse_map(V6_RULES, topology).ip(packet)
    assert mapped[40:] == packet[40:]
    assert addresses(mapped) == ("fd00:2::9", "fd00:1::1")


def test_families_do_not_mix(topology: Topology) -> None:
    """A prefix of IPv4 says nothing of an IPv6 address with the same number."""
    rules = parse_map(["0.0.0.0/0=10.1.1.2", "::/8=fd00::/8"], topology)
    assert rules.of(bytes(15) + b"\x01") == b"\xfd" + bytes(14) + b"\x01"
    assert rules.of(bytes([1, 1, 1, 1])) == bytes([10, 1, 1, 2])


@pytest.mark.parametrize("level", [IP(dst="10.0.0.1", src="10.0.0.2") / ICMP(type=3), V6 / ICMPv6DestUnreach()], ids=["IPv4", "IPv6"])
def test_quotes_in_quotes_without_end_do_no_harm(topology: Topology, level: Packet) -> None:
    mapped = parse_map(["10.0.0.1=10.1.1.2", *V6_RULES], topology).ip(bytes(level) * 1200)
    assert len(mapped) == len(bytes(level)) * 1200


@given(data=st.binary(max_size=120), version=st.sampled_from([4, 6]))
def test_any_bytes_are_mapped_without_harm(data: bytes, version: int) -> None:
    rules = AddressMap([Rule(ip_network("0.0.0.0/0"), ip_network("10.1.1.2")), Rule(ip_network("::/0"), ip_network("fd00::1"))])
    packet = bytes((version << 4 | 5,)) + data
    assert len(rules.ip(packet)) == len(packet)


def test_arp_is_mapped(topology: Topology) -> None:
    message = bytes(Ether() / ARP(psrc="192.0.2.7", pdst="192.0.2.1"))[14:]
    mapped = ARP(parse_map(["192.0.2.0/24=10.1.1.0/24"], topology).arp(message))
    assert (mapped.psrc, mapped.pdst) == ("10.1.1.7", "10.1.1.1")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1.1.1.1", "there is no '='"),
        ("1.1.1.1=pod/default/b", "pod/default/b: there is no such pod"),
        ("1.1.1.1=service/default/b", "there is no service default/b: there are default/web"),
        ("1.1.1.300=1.1.1.1", "'1.1.1.300' is no address or prefix"),
        ("fe80::1%eth0=pod/default/a", "'fe80::1%eth0' has a zone or is IPv4-mapped"),
        ("fd00::1=::ffff:10.0.0.1", "'::ffff:10.0.0.1' has a zone or is IPv4-mapped"),
        ("fd00::/129=pod/default/a", "'fd00::/129' is no address or prefix"),
        ("10.0.0.0/8=10.1.0.0/16", "the prefixes have different lengths"),
        ("fd00::1=10.0.0.1", "IPv6 cannot become IPv4"),
        ("fd00::1=pod/default/a", "pod/default/a has no IPv6 address"),
    ],
)
def test_what_cannot_be_mapped_is_one_line(topology: Topology, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        parse_map([text], topology)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_an_address_mapped_twice_is_refused(topology: Topology) -> None:
    with pytest.raises(InputError, match=r"1\.1\.1\.1/32 is mapped twice"):
        parse_map(["1.1.1.1=10.1.1.2", "1.1.1.1=10.1.1.3"], topology)


def _text(address: int) -> str:
    return ".".join(map(str, address.to_bytes(4, "big")))


def _one(source: int, target: int) -> AddressMap:
    return AddressMap([Rule(ip_network(source), ip_network(target))])
