"""IP in IP over both underlays: outer headers as Linux' ipip, sit and ip6tnl devices write them, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from dataplane._core import EncapDrop, encap_describe
from encap.tunnel_packets import (
    DATAGRAM,
    IPV4,
    IPV6,
    PACKET4,
    PACKET6,
    PACKETS,
    around,
    codec,
    ends,
    is_sound,
    limited,
    opened,
    outer,
    payload,
    seen_by_tshark,
)

LIMIT_HEADER = {4: bytes.fromhex("0400040104010100"), 41: bytes.fromhex("2900040104010100")}  # RFC 2473 4.1.1: limit 4, padded to 8 bytes


@pytest.mark.parametrize(("inner", "protocol"), [(IPV4, 4), (IPV6, 41)])
def test_the_packet_stands_right_behind_the_outer_header(inner: int, protocol: int) -> None:
    """RFC 2003 and RFC 4213 over IPv4, RFC 2473 over IPv6; TTL as inside, DSCP 0, ECN as inside (RFC 6040)."""
    device = codec("ipip")
    ttl = {IPV4: 33, IPV6: 44}[inner]
    over4 = outer(4, proto=protocol, ttl=ttl) / Raw(PACKETS[inner])
    over6 = outer(6, nh=protocol, hlim=ttl) / Raw(PACKETS[inner])
    assert device.push(PACKETS[inner], inner, *ends(4)) == bytes(over4)
    assert device.push(PACKETS[inner], inner, *ends(6)) == bytes(over6)
    assert [opened(device, bytes(packet)) for packet in (over4, over6)] == [(inner, PACKETS[inner])] * 2


@pytest.mark.parametrize("family", [4, 6])
def test_overhead_is_the_outer_header_and_the_limit(family: int) -> None:
    plain = {4: 20, 6: 40}[family]
    assert codec("ipip").overhead(family) == plain
    assert codec("ipip", encaplimit=4).overhead(family) == plain + (8 if family == 6 else 0)


@pytest.mark.parametrize(("df", "expected"), [(0, 0), (1, 1), (2, 1)])
def test_path_mtu_discovery_sets_df_and_without_it_the_inner_packet_decides(df: int, expected: int) -> None:
    inner = bytes(IP(src="10.1.0.1", dst="10.1.0.2", flags="DF") / DATAGRAM)
    device = codec("ipip", df=df)
    assert expected == IP(device.push(inner, IPV4, *ends(4))).flags.DF
    assert int(df == 1) == IP(device.push(PACKET4, IPV4, *ends(4))).flags.DF


@pytest.mark.parametrize(("inner", "protocol"), [(IPV4, 4), (IPV6, 41)])
def test_the_encapsulation_limit_of_ip6tnl_is_a_destination_option(inner: int, protocol: int) -> None:
    packet = codec("ipip", encaplimit=4).push(PACKETS[inner], inner, *ends(6))
    assert (packet[6], payload(packet)) == (60, LIMIT_HEADER[protocol] + PACKETS[inner])
    assert opened(codec("ipip"), packet) == (inner, PACKETS[inner])
    assert payload(codec("ipip", encaplimit=4).push(PACKETS[inner], inner, *ends(4))) == PACKETS[inner]


def test_each_tunnel_around_a_packet_has_a_lower_limit() -> None:
    device = codec("ipip", encaplimit=4)
    assert [payload(device.push(limited(limit), IPV6, *ends(6)))[4] for limit in (9, 1)] == [8, 0]


@pytest.mark.parametrize("encaplimit", [-1, 4])
def test_a_packet_whose_limit_is_used_up_enters_no_tunnel(encaplimit: int) -> None:
    """ip6_tnl_parse_tlv_enc_lim(): whether the device writes limits or not."""
    device = codec("ipip", encaplimit=encaplimit)
    with pytest.raises(EncapDrop) as caught:
        device.push(limited(0), IPV6, *ends(6))
    assert caught.value.reason == "ipip/limit_reached"
    assert payload(device.push(limited(0), IPV6, *ends(4))) == limited(0)


@pytest.mark.parametrize(
    "before",
    [IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment(id=1), IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=30, optdata=b"12345678")])],
    ids=["hop by hop", "first fragment", "another option"],
)
def test_the_limit_is_found_behind_other_headers(before: object) -> None:
    option = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optdata=b"\0")])
    packet = bytes(IPv6(src="fd00::1", dst="fd00::2") / before / option / DATAGRAM)
    with pytest.raises(EncapDrop):
        codec("ipip").push(packet, IPV6, *ends(6))


def test_in_a_later_fragment_there_is_no_limit_to_be_found() -> None:
    option = bytes(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optdata=b"\0")]))
    packet = bytes(IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(offset=100, nh=60) / Raw(option))
    assert payload(codec("ipip").push(packet, IPV6, *ends(6))) == packet


def test_broken_extension_headers_inside_are_nobodys_business() -> None:
    """Each is cut off somewhere: the tunnel carries it, or finds the limit that is still whole."""
    whole = limited(0)
    carried = []
    for end in range(len(whole)):
        try:
            carried.append(codec("ipip").push(whole[:end], IPV6, *ends(6)) == in_ipv6(whole[:end]))
        except EncapDrop as drop:
            assert drop.reason == "ipip/limit_reached"
    assert carried == [True] * 48  # the destination options header ends there


def in_ipv6(inner: bytes) -> bytes:
    header = outer(6, nh=41, hlim=64, tc=0)
    return bytes(header / Raw(inner))


def test_anything_else_than_ip_is_not_carried() -> None:
    with pytest.raises(EncapDrop) as caught:
        codec("ipip").push(bytes(28), 0x0806, *ends(4))
    assert caught.value.reason == "ipip/not_ip"


def test_without_room_for_the_limit_the_packet_is_dropped() -> None:
    with pytest.raises(EncapDrop) as caught:
        codec("ipip", encaplimit=4).push(PACKET4, IPV4, *ends(6), headroom=7)
    assert caught.value.reason == "ipip/no_headroom"


@pytest.mark.parametrize(("protocol", "packet", "hlen"), [(4, PACKET4, 20), (41, PACKET6, 40)])
@pytest.mark.parametrize("family", [4, 6])
def test_less_than_an_ip_header_is_refused(family: int, protocol: int, packet: bytes, hlen: int) -> None:
    results = [codec("ipip").pop(around(family, protocol, packet[:end])) for end in range(len(packet))]
    assert {popped.reason for popped in results[:hlen]} == {"ipip/inner_truncated"}
    assert {popped.reason for popped in results[hlen:]} == {None}
    assert all(map(is_sound, results))


def test_there_is_no_header_to_describe() -> None:
    codec("ipip")
    assert encap_describe("ipip", 4, PACKET4) == ([], 0)


@pytest.mark.parametrize("options", [{"encaplimit": 256}, {"encaplimit": -2}, {"df": 3}, {"key": 1}])
def test_an_option_that_it_does_not_have_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"ipip: option '{next(iter(options))}' is unknown or its value is out of range"):
        codec("ipip", **options)


def test_tshark_sees_the_packet_inside(tmp_path: Path) -> None:
    device = codec("ipip", encaplimit=4)
    packets = [device.push(PACKETS[inner], inner, *ends(family)) for family in (4, 6) for inner in (IPV4, IPV6)]
    assert seen_by_tshark(tmp_path / "ipip.pcap", packets) == [
        "ip:ip:udp:data",
        "ip:ipv6:udp:data",
        "ipv6:ipv6.dstopts:ip:udp:data",
        "ipv6:ipv6.dstopts:ipv6:udp:data",
    ]
