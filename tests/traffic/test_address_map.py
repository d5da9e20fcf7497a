"""Addresses mapped onto the cluster: what changes, and what the checksums say afterwards."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

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
    return {item.label: item.state for item in checksums(HEADER + packet)}


def addresses(packet: bytes) -> tuple[str, str]:
    parsed = IP(packet)
    return parsed.src, parsed.dst


def test_the_longest_prefix_decides_and_the_host_part_stays(topology: Topology) -> None:
    rules = parse_map(["172.16.0.0/12=10.0.0.0/12", "172.16.5.0/24=10.1.1.2", "172.16.5.9=pod/default/a"], topology)
    mapped = [rules.of(bytes(address)) for address in ([172, 17, 2, 3], [172, 16, 5, 7], [172, 16, 5, 9], [9, 9, 9, 9])]
    assert [tuple(address) for address in mapped] == [(10, 1, 2, 3), (10, 1, 1, 2), (10, 1, 1, 2), (9, 9, 9, 9)]


def test_services_and_nodes_are_targets(topology: Topology) -> None:
    rules = parse_map(["1.1.1.1=service/default/web", "2.2.2.2=node/n1"], topology)
    packet = rules.ipv4(bytes(IP(src="2.2.2.2", dst="1.1.1.1") / UDP(sport=1, dport=2) / b"odd"))
    assert addresses(packet) == ("192.168.0.1", "10.96.0.10")
    assert states(packet) == {"IPv4": VALID, "UDP": VALID}


@given(
    source=st.integers(0x01000000, 0xDFFFFFFF), target=st.integers(0x01000000, 0xDFFFFFFF), data=st.binary(max_size=40), tcp=st.booleans()
)
def test_right_checksums_stay_right(source: int, target: int, data: bytes, tcp: bool) -> None:
    rules = _one(source, target)
    transport = TCP(sport=1, dport=2) if tcp else UDP(sport=1, dport=2)
    packet = rules.ipv4(bytes(IP(src=_text(source), dst="192.0.2.1") / transport / data))
    assert addresses(packet)[0] == _text(target)
    assert set(states(packet).values()) == {VALID}


@given(wrong=st.integers(1, 0xFFFE), target=st.integers(0x01000000, 0xDFFFFFFF))
def test_a_wrong_checksum_stays_wrong_by_the_same_difference(wrong: int, target: int) -> None:
    packet = bytearray(bytes(IP(src="192.0.2.7", dst="192.0.2.1") / TCP(sport=1, dport=2)))
    right = int.from_bytes(packet[36:38], "big")
    packet[36:38] = ((right + wrong) % 0xFFFF).to_bytes(2, "big")
    mapped = _one(0xC0000207, target).ipv4(bytes(packet))
    (tcp,) = [item for item in checksums(HEADER + mapped) if item.label == "TCP"]
    assert tcp.state == INVALID
    assert (int.from_bytes(mapped[36:38], "big") - tcp.right - wrong) % 0xFFFF == 0


def test_a_udp_checksum_that_is_absent_stays_absent(topology: Topology) -> None:
    packet = bytes(IP(src="192.0.2.7", dst="192.0.2.1") / UDP(sport=1, dport=2, chksum=0) / b"x")
    assert parse_map(["192.0.2.7=10.1.1.2"], topology).ipv4(packet)[26:28] == b"\0\0"


def test_the_packet_quoted_in_an_icmp_error_is_mapped_too(topology: Topology) -> None:
    quoted = IP(src="192.0.2.7", dst="192.0.2.1") / UDP(sport=1, dport=2) / b"four"
    packet = bytes(IP(src="192.0.2.1", dst="192.0.2.7") / ICMP(type=3, code=3) / bytes(quoted))
    mapped = parse_map(["192.0.2.7=10.1.1.2", "192.0.2.1=10.1.2.2"], topology).ipv4(packet)
    assert addresses(mapped) == ("10.1.2.2", "10.1.1.2")
    assert addresses(mapped[28:]) == ("10.1.1.2", "10.1.2.2")
    assert set(states(mapped).values()) == {VALID}


def test_a_later_fragment_keeps_its_payload(topology: Topology) -> None:
    packet = bytes(IP(src="192.0.2.7", dst="192.0.2.1", proto=6, frag=100) / bytes(range(40)))
    mapped = parse_map(["192.0.2.0/24=10.1.1.0/24"], topology).ipv4(packet)
    assert mapped[20:] == packet[20:]
    assert addresses(mapped) == ("10.1.1.7", "10.1.1.1")


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
        ("10.0.0.0/8=10.1.0.0/16", "the prefixes have different lengths"),
        ("fd00::1=10.0.0.1", "only IPv4"),
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
