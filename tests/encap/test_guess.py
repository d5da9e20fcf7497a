"""Packets are recognised as a receiver recognises them, and taken apart without being told their identifiers, ports or flags."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet, Raw

from dataplane import _core
from dataplane.capture.packet import LINKTYPE_RAW
from dataplane.capture.tunnel import Outer, outer_of
from dataplane.capture.tunnel_codec import codec_of, take_apart
from dataplane.encap.guess import GRE_TYPES, IP_PROTOCOLS, UDP_PORTS, guess
from dataplane.encap.header_options import option_key, options_of
from dataplane.encap.registry import built_in, ensure

V4 = bytes(IP(src="10.0.0.1", dst="10.0.0.2", id=3) / ICMP(id=4))
V6 = bytes(IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(id=4))
FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800) / V4)
INNER = {0x0800: V4, 0x86DD: V6, 0x6558: FRAME}
ENDS = {4: (b"\xc0\0\x02\x01", b"\xc0\0\x02\x02"), 6: (b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02")}

SETTINGS: list[tuple[str, dict[str, int | bytes], int, int]] = [
    ("vxlan", {"id": 0xABCDEF}, 0x6558, 4),
    ("vxlan", {"id": 7, "port": 8472, "udp6_zero_checksum_tx": 1}, 0x6558, 6),
    ("vxlan", {"gbp": 1, "gbp_policy": 5, "id": 7}, 0x6558, 4),
    ("vxlan_gpe", {"id": 9}, 0x86DD, 6),
    ("geneve", {"id": 5, "options": b"\x01\x02\x83\x01\0\0\0\0"}, 0x6558, 4),
    ("geneve", {"id": 5}, 0x0800, 6),
    ("ipip", {}, 0x86DD, 4),
    ("ipip", {}, 0x0800, 6),
    ("gre", {"key": 0xFFFFFFFF, "sequence": 4, "checksum": 1}, 0x0800, 4),
    ("gretap", {"key": 6}, 0x6558, 6),
    ("erspan", {"version": 0}, 0x6558, 4),
    ("erspan", {"version": 1, "session": 1023, "index": 3}, 0x6558, 4),
    ("erspan", {"version": 2, "session": 4, "sgt": 9}, 0x6558, 4),
    ("fou", {}, 0x0800, 4),
    ("fou", {"gre": 1}, 0x86DD, 4),
    ("gue", {}, 0x86DD, 6),
    ("gue", {"variant": 1, "port": 9886}, 0x0800, 6),
    ("mpls_udp", {"label": 77}, 0x0800, 4),
    ("mpls_gre", {"label": 78, "outer_labels": b"\0\0\0\x11\0\0\0\x12"}, 0x86DD, 4),
    ("srv6", {"tag": 5}, 0x0800, 6),
    ("srv6_l2", {}, 0x6558, 6),
]


def whole(packet: bytes) -> Outer:
    outer = outer_of(packet, LINKTYPE_RAW)
    assert outer is not None
    return outer


@pytest.mark.parametrize(("kind", "options", "protocol", "family"), SETTINGS)
def test_what_was_put_in_is_recognised_and_comes_out(kind: str, options: dict[str, int | bytes], protocol: int, family: int) -> None:
    outer = whole(codec_of(kind, options).push(INNER[protocol], protocol, *ENDS[family]))
    assert guess(outer.protocol, outer.body) == kind
    taken = take_apart(kind, outer, {})
    assert (taken.reason, taken.inner_protocol, taken.inner) == (None, protocol, INNER[protocol])
    assert taken.rest == INNER[protocol]


def test_every_encapsulation_that_needs_no_secret_is_tried() -> None:
    assert set(built_in()) - {kind for kind, *_ in SETTINGS} <= {"wireguard", "sleeve"}
    assert {*UDP_PORTS.values(), *IP_PROTOCOLS.values(), *GRE_TYPES.values(), "gre"} <= set(built_in())


@pytest.mark.parametrize(
    "packet",
    [
        IP() / UDP(dport=9) / Raw(b"x" * 20),
        IP(proto=6) / Raw(b"x" * 20),
        IP(proto=17) / Raw(b"x" * 7),  # no whole UDP header
        IPv6() / ICMPv6EchoRequest(),
    ],
)
def test_what_is_in_no_tunnel_is_not_guessed(packet: Packet) -> None:
    outer = whole(bytes(packet))
    assert guess(outer.protocol, outer.body) is None


def test_gre_is_told_by_its_protocol_type() -> None:
    found = {code: guess(47, bytes(GRE(proto=code))) for code in (0x0800, 0x86DD, 0x6558, 0x8847, 0x88BE, 0x22EB)}
    assert found == {0x0800: "gre", 0x86DD: "gre", 0x6558: "gretap", 0x8847: "mpls_gre", 0x88BE: "erspan", 0x22EB: "erspan"}
    assert guess(47, b"\0\0\x65") is None


def test_options_are_those_an_encapsulation_knows() -> None:
    vxlan: list[tuple[str, str, int | bytes | str]] = [("vxlan", "vni", 7), ("vxlan", "reserved1", b"\0\x01\x02")]
    fields = [("udp", "dport", 8472), ("udp", "checksum", 0), *vxlan]
    assert options_of(["port", "id", "udp_checksum"], fields) == {"port": 8472, "id": 7, "udp_checksum": 0}
    assert options_of(["reserved1"], fields) == {"reserved1": 0x102}
    ensure("geneve")
    known = [option.key for option in _core.encap_options("geneve")]
    assert option_key(known, "vni") == "id"
    assert option_key(known, "critical") == "critical"
    assert option_key(known, "nonsense") == "nonsense"


@pytest.mark.parametrize(
    ("kind", "options", "protocol", "family"),
    [
        ("srv6", {"tag": 5, "flags": 0x20}, 0x0800, 6),
        ("srv6_l2", {"tag": 0xFFFF, "flags": 1}, 0x6558, 6),
        ("mpls_udp", {"label": 77, "outer_labels": b"\0\0\0\x05\0\x0f\xff\xff"}, 0x86DD, 4),
        ("mpls_gre", {"label": 0}, 0x0800, 6),
        ("erspan", {"version": 2, "session": 4, "sgt": 9, "direction": 1, "subheader": bytes(range(8))}, 0x6558, 4),
    ],
)
def test_the_fields_of_a_header_are_options_that_write_it_again(
    kind: str, options: dict[str, int | bytes], protocol: int, family: int
) -> None:
    packet = codec_of(kind, options).push(INNER[protocol], protocol, *ENDS[family])
    described = _core.encap_describe(kind, whole(packet).protocol, whole(packet).body)
    assert described is not None
    again = options_of([option.key for option in _core.encap_options(kind)], described[0])
    assert codec_of(kind, again).push(INNER[protocol], protocol, *ENDS[family]) == packet
