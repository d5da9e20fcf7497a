"""MPLS labels in UDP and in GRE: stacks as RFC 3032 and Linux write them, and what the end of the path refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from dataplane._core import EncapDrop, encap_describe
from encap.tunnel_packets import (
    IPV4,
    IPV6,
    PACKET4,
    PACKET6,
    PACKETS,
    around,
    codec,
    damaged,
    ends,
    is_sound,
    opened,
    outer,
    payload,
    seen_by_tshark,
)

KINDS = ["mpls_udp", "mpls_gre"]
PROTOCOL = {"mpls_udp": 17, "mpls_gre": 47}
HLEN = {"mpls_udp": 8, "mpls_gre": 4}
STACK: dict[str, Any] = {"label": 300, "outer_labels": bytes.fromhex("00000064 000fffff")}  # 100, 1048575, 300
WRITTEN = bytes.fromhex("000640ff fffff0ff 0012c1ff")  # RFC 3032 2.1: label 20 bits, TC 3, S 1, TTL 8


def labelled(kind: str, stack: Packet, inner: bytes = PACKET4, *, family: int = 4, sport: int = 50000) -> bytes:
    """An outer packet around a stack of labels, made by scapy."""
    below = GRE(proto=0x8847) if kind == "mpls_gre" else UDP(sport=sport, dport=6635)
    header = outer(family, proto=PROTOCOL[kind]) if family == 4 else outer(family, nh=PROTOCOL[kind])
    return bytes(header / below / stack / Raw(inner))


def label(number: int = 16, *, bottom: int = 1, ttl: int = 255) -> Packet:
    return MPLS(label=number, s=bottom, ttl=ttl)


def behind(kind: str, packet: bytes) -> bytes:
    """The stack and what is under it."""
    return payload(packet)[HLEN[kind] :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [IPV4, IPV6])
@pytest.mark.parametrize("family", [4, 6])
def test_the_stack_stands_between_the_tunnel_header_and_the_packet(kind: str, inner: int, family: int) -> None:
    device = codec(kind, **STACK)
    packet = device.push(PACKETS[inner], inner, *ends(family))
    assert behind(kind, packet) == WRITTEN + PACKETS[inner]
    assert len(packet) == len(PACKETS[inner]) + device.overhead(family)
    assert opened(device, packet) == (inner, PACKETS[inner])


def test_over_udp_the_source_port_tells_flows_apart() -> None:
    """RFC 7510 section 3: destination port 6635, source port from 49152 on; the rest is what scapy writes."""
    packets = [codec("mpls_udp").push(PACKET4, IPV4, *ends(4), flow_hash=hash_ << 16) for hash_ in range(1, 0x10000, 0x400)]
    ports = {IP(packet)[UDP].sport for packet in packets}
    assert len(ports) > 60
    assert 49152 <= min(ports) <= max(ports) < 65535
    want = IP(src="192.0.2.1", dst="192.0.2.2", id=0) / UDP(sport=IP(packets[0])[UDP].sport, dport=6635) / label() / Raw(PACKET4)
    assert packets[0] == bytes(want)


def test_over_gre_the_protocol_type_is_that_of_mpls() -> None:
    """RFC 4023 section 3.2; ip_gre.c forces DF on tunnels that discover the path's MTU."""
    want = IP(src="192.0.2.1", dst="192.0.2.2", id=0, flags="DF") / GRE(proto=0x8847, key_present=1, key=9) / label() / Raw(PACKET4)
    assert codec("mpls_gre", key=9).push(PACKET4, IPV4, *ends(4)) == bytes(want)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_packet_shows_through_the_labels(kind: str) -> None:
    """To the outer header an MPLS packet has no TOS, TTL, DF or flow label to inherit."""
    options = {"tos": 1, "ttl_inherit": 1, "df": 2, "flow_label_inherit": 1}
    over4 = IP(codec(kind, **options).push(PACKET4, IPV4, *ends(4)))
    over6 = IPv6(codec(kind, **options).push(PACKET6, IPV6, *ends(6)))
    assert (over4.tos, over4.ttl, over4.flags) == (0, 64, 0)
    assert (over6.tc, over6.hlim, over6.fl) == (0, 64, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_traffic_class_and_ttl_are_those_asked_for(kind: str) -> None:
    entry = MPLS(behind(kind, codec(kind, traffic_class=5, label_ttl=9).push(PACKET4, IPV4, *ends(4))))
    assert (entry.label, entry.cos, entry.s, entry.ttl) == (16, 5, 1, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_another_label_may_be_asked_for(kind: str) -> None:
    packet = codec(kind, **STACK).push(PACKET4, IPV4, *ends(4), id=77)
    assert behind(kind, packet)[:12] == WRITTEN[:8] + bytes(label(77))


@pytest.mark.parametrize("kind", KINDS)
def test_a_propagated_ttl_comes_back_less_one(kind: str) -> None:
    """As with net.mpls.ip_ttl_propagate; the inner checksum is that of the new TTL (mpls_egress())."""
    device = codec(kind, ttl_propagate=1)
    four, six = (device.push(PACKETS[inner], inner, *ends(4)) for inner in (IPV4, IPV6))
    assert [MPLS(behind(kind, packet)).ttl for packet in (four, six)] == [33, 44]
    want = IP(PACKET4)
    want.ttl = 32
    del want.chksum
    assert device.pop(four).inner == bytes(want)
    assert device.pop(six).inner == PACKET6[:7] + bytes([43]) + PACKET6[8:]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_above_may_be_gone_already(kind: str) -> None:
    """Penultimate hop popping, RFC 3031 3.16."""
    stacks = [label(300), label(5, bottom=0) / label(300), label(5, bottom=0) / label(6, bottom=0) / label(300)]
    assert [opened(codec(kind, **STACK), labelled(kind, stack)) for stack in stacks] == [(IPV4, PACKET4)] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "stack", "inner", "expected"),
    [
        ({}, label(17), PACKET4, "tunnel/unknown_id"),
        ({}, label(5, bottom=0) / label(), PACKET4, "too_deep"),
        ({}, label(ttl=1), PACKET4, "ttl_expired"),
        ({}, label(ttl=0), PACKET4, "ttl_expired"),
        ({}, label(ttl=2), PACKET4, None),
        ({}, label(), bytes(40), "unknown_payload"),
        ({"payload": 6}, label(), PACKET4, "unknown_payload"),
        ({"payload": 4}, label(), PACKET6, "unknown_payload"),
        ({"payload": 4}, label(), PACKET4, None),
        ({"payload": 6}, label(), PACKET6, None),
    ],
)
def test_what_the_end_of_the_path_refuses(kind: str, options: dict[str, int], stack: Packet, inner: bytes, expected: str | None) -> None:
    """mpls_forward() and mpls_egress()."""
    reason = codec(kind, **options).pop(labelled(kind, stack, inner)).reason
    assert reason == (f"{kind}/{expected}" if expected and "/" not in expected else expected)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (GRE(proto=0x8847, key_present=1, key=1), "tunnel/unknown_id"),
        (GRE(proto=0x0800), "tunnel/unknown_id"),
        (GRE(proto=0x8847, chksum_present=1), "mpls_gre/checksum_mismatch"),
        (GRE(proto=0x8847, chksum_present=1, chksum=1), "mpls_gre/bad_checksum"),
        (GRE(proto=0x8847, routing_present=1), "mpls_gre/routing_present"),
        (GRE(proto=0x8847, version=5), "mpls_gre/bad_version"),
    ],
)
def test_the_gre_header_is_checked_as_in_every_gre_device(header: Packet, expected: str) -> None:
    assert codec("mpls_gre").pop(around(4, 47, bytes(header / label() / Raw(PACKET4)))).reason == expected


def test_mpls_packets_in_gre_may_have_to_be_in_order() -> None:
    device = codec("mpls_gre", sequence=0)
    packets = [device.push(PACKET4, IPV4, *ends(4)) for _ in range(2)]
    assert [device.pop(packets[number]).reason for number in (1, 0)] == [None, "mpls_gre/out_of_sequence"]


def test_a_zero_checksum_over_ipv6_is_refused_unless_allowed() -> None:
    packet = codec("mpls_udp", udp6_zero_checksum_tx=1).push(PACKET4, IPV4, *ends(6))
    assert codec("mpls_udp").pop(packet).reason == "mpls_udp/zero_checksum"
    assert opened(codec("mpls_udp", udp6_zero_checksum_rx=1), packet) == (IPV4, PACKET4)


@pytest.mark.parametrize(("kind", "room"), [("mpls_udp", 20), ("mpls_gre", 16)])
def test_without_room_for_the_headers_the_packet_is_dropped(kind: str, room: int) -> None:
    reasons = []
    for headroom in (room - 1, 11):
        with pytest.raises(EncapDrop) as caught:
            codec(kind, **STACK).push(PACKET4, IPV4, *ends(4), headroom=headroom)
        reasons.append(caught.value.reason)
    assert reasons == [f"{kind}/no_headroom", f"{kind}/no_headroom" + ("_labels" if kind == "mpls_gre" else "")]
    assert codec(kind, **STACK).push(PACKET4, IPV4, *ends(4), headroom=room)


@pytest.mark.parametrize("kind", KINDS)
def test_only_ip_packets_go_under_labels(kind: str) -> None:
    with pytest.raises(EncapDrop) as caught:
        codec(kind).push(bytes(28), 0x0806, *ends(4))
    assert caught.value.reason == f"{kind}/not_ip"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [b"", bytes(3), bytes(64), bytes.fromhex("00100000")], ids=["none", "odd", "too many", "21 bits"])
def test_labels_that_are_none_are_refused(kind: str, value: bytes) -> None:
    with pytest.raises(ValueError, match="outer_labels"):
        codec(kind, outer_labels=value)


@pytest.mark.parametrize("inner", [PACKET4, PACKET6])
def test_in_gre_a_packet_that_ends_early_is_refused(inner: bytes) -> None:
    body = bytes(GRE(proto=0x8847) / label() / Raw(inner))
    reasons = [codec("mpls_gre").pop(around(4, 47, body[:end])).reason for end in range(len(body) + 1)]
    least = 8 + (20 if inner == PACKET4 else 40)
    assert reasons[:4] == ["mpls_gre/truncated"] * 4
    assert set(reasons[4:least]) == {"mpls_gre/stack_truncated"}
    assert set(reasons[least:]) == {None}


def test_in_udp_flipped_bits_and_cut_packets_are_refused() -> None:
    """The UDP checksum and length see to it."""
    body = payload(codec("mpls_udp").push(PACKET4, IPV4, *ends(4)))
    assert all(codec("mpls_udp").pop(packet).reason for packet in damaged(4, 17, body, len(body)))


@pytest.mark.parametrize("kind", KINDS)
@given(stack=st.binary(max_size=80), family=st.sampled_from([4, 6]))
def test_any_bytes_are_refused_or_sound(kind: str, stack: bytes, family: int) -> None:
    assert is_sound(codec(kind, **STACK).pop(labelled(kind, Raw(stack), b"", family=family)))
    body = bytes(GRE(proto=0x8847) / Raw(stack)) if kind == "mpls_gre" else bytes(UDP(dport=6635) / Raw(stack))
    _, size = encap_describe(kind, PROTOCOL[kind], body) or ([], 0)
    assert -1 <= size <= len(body)


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_is_named(kind: str) -> None:
    packet = codec(kind, **STACK).push(PACKET4, IPV4, *ends(4))
    described = encap_describe(kind, PROTOCOL[kind], payload(packet))
    assert described is not None
    names = ("label", "traffic_class", "bottom", "ttl")
    want = [
        ("mpls", name, value)
        for row in ((100, 0, 0, 255), (0xFFFFF, 0, 0, 255), (300, 0, 1, 255))
        for name, value in zip(names, row, strict=True)
    ]
    assert [field for field in described[0] if field[0] == "mpls"] == want
    assert described[1] == HLEN[kind] + 12
    broken = encap_describe(kind, PROTOCOL[kind], payload(packet)[: HLEN[kind] + 11])
    assert broken is not None and broken[1] == -1


def test_tshark_sees_the_packet_inside(tmp_path: Path) -> None:
    packets = [codec(kind, **STACK).push(PACKETS[inner], inner, *ends(4)) for kind in KINDS for inner in (IPV4, IPV6)]
    assert seen_by_tshark(tmp_path / "mpls.pcap", packets) == [
        "ip:udp:mpls:ip:udp:data",
        "ip:udp:mpls:ipv6:udp:data",
        "ip:gre:mpls:ip:udp:data",
        "ip:gre:mpls:ipv6:udp:data",
    ]
