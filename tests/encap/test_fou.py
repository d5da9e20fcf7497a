"""FOU: IP packets, or IP packets in GRE, right behind a UDP header."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE

from dataplane import _core

from .tunnel_packets import FRAME, IPV4, IPV6, PACKET4, PACKET6, TEB, codec, outer
from .udp_tunnels import Options, push, refusal

PORT = 5555
INSIDE = [(PACKET4, IPV4), (PACKET6, IPV6)]
ONE_PORT: Options = {"port_min": 40000, "port_max": 40001}
TTL = {4: "ttl", 6: "hlim"}


@pytest.mark.parametrize(("inner", "protocol"), INSIDE)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("gre", [0, 1])
def test_a_packet_is_the_one_that_scapy_writes(inner: bytes, protocol: int, family: int, gre: int) -> None:
    """Linux leaves the checksum zero unless told otherwise, takes the TTL from inside and sets DF (ip-link(8): encap, ttl, pmtudisc)."""
    packet = IP(inner) if protocol == IPV4 else IPv6(inner)
    ttl = {TTL[family]: packet.ttl if protocol == IPV4 else packet.hlim}
    udp = UDP(sport=40000, dport=PORT, chksum=0)
    want = outer(family, **ttl) / (udp / GRE(proto=protocol) if gre else udp) / packet
    assert push("fou", {"gre": gre, "udp6_zero_checksum_tx": 1, **ONE_PORT}, inner, protocol, family) == bytes(want)


@pytest.mark.parametrize(("inner", "protocol"), INSIDE)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("gre", [0, 1])
@pytest.mark.parametrize("checksum", [0, 1])
def test_what_is_inside_comes_out_again(inner: bytes, protocol: int, family: int, gre: int, checksum: int) -> None:
    device = codec("fou", gre=gre, udp_checksum=checksum, udp6_zero_checksum_tx=1 - checksum)
    packet = push("fou", {"gre": gre, "udp_checksum": checksum, "udp6_zero_checksum_tx": 1 - checksum}, inner, protocol, family)
    at = 20 if family == 4 else 40
    assert (packet[at + 6 : at + 8] != bytes(2)) == bool(checksum)
    assert len(packet) == len(inner) + device.overhead(family)
    assert device.pop(packet) == (protocol, inner, -1, None)


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({}, PACKET4, None),
        ({}, b"", "fou/not_ip"),
        ({}, b"\x50" + PACKET4[1:], "fou/not_ip"),
        ({}, PACKET4[:19], "fou/inner_truncated"),
        ({}, PACKET6[:39], "fou/inner_truncated"),
        ({"gre": 1}, PACKET4, "fou/bad_gre"),
        ({"gre": 1}, b"\0\0\x08\0" + PACKET4, None),
        ({"gre": 1}, b"\0\0\x08", "fou/bad_gre"),
        ({"gre": 1}, b"\0\0\x65\x58" + FRAME, "fou/bad_gre"),
        ({"gre": 1}, b"\x20\0\x08\0\0\0\0\7" + PACKET4, "fou/bad_gre"),
        ({"gre": 1}, b"\0\0\x86\xdd" + PACKET6[:39], "fou/inner_truncated"),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_what_cannot_be_taken_out_is_refused_by_name(options: Options, payload: bytes, reason: str | None, family: int) -> None:
    assert refusal("fou", options, PORT, payload, family) == reason


def test_a_zero_checksum_over_ipv6_has_to_be_asked_for_and_can_be_refused() -> None:
    assert push("fou", {}, PACKET6, IPV6, 6)[46:48] != bytes(2)
    packet = push("fou", {"udp6_zero_checksum_tx": 1}, PACKET6, IPV6, 6)
    assert codec("fou", udp6_zero_checksum_rx=0).pop(packet).reason == "fou/zero_checksum"


def test_a_frame_is_not_carried() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push("fou", {}, FRAME, TEB)
    assert refused.value.reason == "fou/not_ip"


def test_no_headroom_is_a_drop() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push("fou", {"gre": 1}, PACKET4, IPV4, headroom=11)
    assert refused.value.reason == "fou/no_headroom"


def test_header_fields_are_named() -> None:
    udp = [("udp", "sport", 40000), ("udp", "dport", PORT), ("udp", "checksum", 0)]
    bare = push("fou", ONE_PORT, PACKET4, IPV4)[20:]
    assert _core.encap_describe("fou", 17, bare) == (udp, 8)
    in_gre = push("fou", {"gre": 1, **ONE_PORT}, PACKET6, IPV6)[20:]
    assert _core.encap_describe("fou", 17, in_gre) == ([*udp, ("gre", "protocol", IPV6), ("gre", "flags", 0)], 12)
    assert _core.encap_describe("fou", 17, in_gre[:11]) == (udp, -1)
