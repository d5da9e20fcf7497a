"""What a step's bytes are, and what changed in them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dataplane.explain.steps import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Step, changes, link_type, target_text

ETHER = Ether(src="02:00:00:00:00:01", dst="60:00:00:00:00:24")  # its first digit is that of IPv6


@pytest.mark.parametrize(
    ("packet", "ethertype"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2), ETHERTYPE_IPV4),
        (IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=1, dport=2), ETHERTYPE_IPV6),
        (IPv6(src="fd00:10:800:1::1", dst="fd00::2") / UDP(sport=1, dport=2), ETHERTYPE_IPV6),
        (IPv6(src="fd00:10:86dd:1::1", dst="fd00::2") / UDP(sport=1, dport=2), ETHERTYPE_IPV6),
        (ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2), 0),
        (ETHER / IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=1, dport=2), 0),
    ],
    ids=lambda each: each.summary()[:60] if isinstance(each, Packet) else hex(each),
)
def test_packets_are_told_from_frames(packet: Packet, ethertype: int) -> None:
    """Also where an address has the bytes of an EtherType in the place where a frame has its own."""
    assert link_type(bytes(packet)) == ethertype


@pytest.mark.parametrize(
    ("low", "high", "ports", "told"),
    [
        ("10.0.0.1", "10.0.0.1", (8080, 8080), "DNAT to 10.0.0.1:8080"),
        ("10.0.0.1", "10.0.0.9", (1024, 2047), "DNAT to 10.0.0.1-10.0.0.9:1024-2047"),
        ("10.0.0.1", "10.0.0.1", (0, 0), "DNAT to 10.0.0.1"),
        ("", "", (80, 80), "DNAT to :80"),
        ("fd00::1", "fd00::1", (8080, 8080), "DNAT to [fd00::1]:8080"),
        ("fd00::1", "fd00::1", (0, 0), "DNAT to fd00::1"),
    ],
)
def test_a_translation_is_worded_as_iptables_takes_it(low: str, high: str, ports: tuple[int, int], told: str) -> None:
    lowest, highest = (ip_address(each).packed if each else b"" for each in (low, high))
    assert target_text({"target": "DNAT", "to": (lowest, highest, *ports)}) == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2", ttl=64), IP(src="10.0.0.1", dst="10.0.0.2", ttl=63), ("IPv4", "ttl", "64", "63")),
        (IPv6(src="fd00::1", dst="fd00::2", hlim=64), IPv6(src="fd00::1", dst="fd00::2", hlim=63), ("IPv6", "hop limit", "64", "63")),
        (IPv6(src="fd00::1", dst="fd00::2"), IPv6(src="fd00::1", dst="fd00::3"), ("IPv6", "destination", "fd00::2", "fd00::3")),
    ],
)
def test_a_router_and_a_translation_change_one_field(before: Packet, after: Packet, told: tuple[str, ...]) -> None:
    """Checksums follow from the rest and are not told."""
    data = bytes(before / UDP(sport=1, dport=2))
    step = Step(0, 0, 1, 0, 0, "route", "route", "", None, data, link_type(data))
    changed = bytes(after / UDP(sport=1, dport=2))
    assert [tuple(change) for change in changes(step, changed, link_type(changed))] == [told]
