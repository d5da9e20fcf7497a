"""GRE around packets and frames: headers as Linux' gre and gretap devices write them, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from dataplane._core import Codec, EncapDrop, encap_describe
from encap.tunnel_packets import (
    FRAME,
    FRAME6,
    IPV4,
    IPV6,
    MACS,
    PACKET4,
    PACKET6,
    PACKETS,
    TEB,
    around,
    codec,
    damaged,
    ends,
    is_sound,
    limited,
    opened,
    outer,
    payload,
    seen_by_tshark,
)

PROTO_GRE = 47
ALL = {"checksum": 1, "key": 0x01020304, "sequence": 7}
OPTIONS = [{}, {"key": 0}, {"key": 0xFFFFFFFF}, {"sequence": 0}, {"checksum": 1}, {"key": 9, "sequence": 0xFFFFFFFF}, ALL]


def scapy_header(options: dict[str, int], protocol: int) -> GRE:
    return GRE(
        proto=protocol,
        chksum_present=options.get("checksum", 0),
        key_present="key" in options,
        key=options.get("key"),
        seqnum_present="sequence" in options,
        sequence_number=options.get("sequence"),
    )


def gre(body: bytes = PACKET4, *, family: int = 4, **fields: Any) -> bytes:
    """An outer packet with this GRE header."""
    header: dict[str, Any] = {"proto": IPV4, **fields}
    return around(family, PROTO_GRE, bytes(GRE(**header) / Raw(body)))


def reason(device: Codec, packet: bytes) -> str | None:
    return device.pop(packet).reason


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("inner", [IPV4, IPV6])
def test_packets_are_those_that_scapy_writes(options: dict[str, int], family: int, inner: int) -> None:
    body = scapy_header(options, inner) / Raw(PACKETS[inner])
    ttl = {IPV4: 33, IPV6: 44}[inner]
    want = bytes((outer(4, proto=47, ttl=ttl) if family == 4 else outer(6, nh=47, hlim=ttl)) / body)
    got = codec("gre", **options).push(PACKETS[inner], inner, *ends(family))
    assert got == want
    assert len(got) == len(PACKETS[inner]) + codec("gre", **options).overhead(family)
    assert opened(codec("gre", **options), want) == (inner, PACKETS[inner])


@pytest.mark.parametrize(("frame", "ttl"), [(FRAME, 33), (FRAME6, 44)])
@pytest.mark.parametrize("options", OPTIONS)
def test_frames_are_those_that_scapy_writes(options: dict[str, int], frame: bytes, ttl: int) -> None:
    want = bytes(outer(4, proto=47, ttl=ttl) / scapy_header(options, TEB) / Raw(frame))
    assert codec("gretap", **options).push(frame, TEB, *ends(4)) == want
    assert opened(codec("gretap", **options), want) == (TEB, frame)


def test_the_header_of_rfc_2784_and_rfc_2890_byte_by_byte() -> None:
    """C, K and S are the bits 0x8000, 0x2000 and 0x1000; checksum and Reserved1, key, sequence number follow in this order."""
    assert payload(codec("gre").push(PACKET4, IPV4, *ends(4))) == bytes.fromhex("0000 0800") + PACKET4
    got = payload(codec("gre", **ALL).push(PACKET4, IPV4, *ends(4)))
    assert got[:4].hex() == "b0000800"
    assert got[6:16].hex() == "00000102030400000007"
    assert got[16:] == PACKET4


def test_sequence_numbers_count_up_from_the_first_and_wrap() -> None:
    device = codec("gre", sequence=0xFFFFFFFF)
    assert [payload(device.push(PACKET4, IPV4, *ends(4)))[4:8].hex() for _ in range(3)] == ["ffffffff", "00000000", "00000001"]


def test_another_key_may_be_asked_for_where_the_device_has_one() -> None:
    assert payload(codec("gre", key=1).push(PACKET4, IPV4, *ends(4), id=77))[4:8] == (77).to_bytes(4, "big")
    assert payload(codec("gre").push(PACKET4, IPV4, *ends(4), id=77)) == bytes.fromhex("00000800") + PACKET4


def in_frame(packet: bytes) -> bytes:
    return bytes(MACS / IPv6(packet))


@pytest.mark.parametrize(("kind", "protocol"), [("gre", IPV6), ("gretap", TEB), ("erspan", TEB)])
def test_the_encapsulation_limit_stands_before_gre_over_ipv6(kind: str, protocol: int) -> None:
    """ip6_gre.c: a destination options header (RFC 2473 4.1.1) with the device's limit, or one less than the inner packet's."""
    device = codec(kind, encaplimit=4)
    plain, second = (inner if protocol == IPV6 else in_frame(inner) for inner in (PACKET6, limited(3)))
    packets = [device.push(inner, protocol, *ends(6)) for inner in (plain, second)]
    assert [packet[6] for packet in packets] == [60, 60]
    assert [payload(packet)[:8].hex() for packet in packets] == ["2f00040104010100", "2f00040102010100"]
    assert payload(packets[0])[8:] == payload(codec(kind).push(plain, protocol, *ends(6)))
    assert len(packets[0]) == len(plain) + device.overhead(6)
    assert opened(device, packets[0]) == (protocol, plain)
    assert payload(device.push(plain, protocol, *ends(4)))[:2] == payload(codec(kind).push(plain, protocol, *ends(4)))[:2]


@pytest.mark.parametrize(("kind", "protocol"), [("gre", IPV6), ("gretap", TEB), ("erspan", TEB)])
def test_a_packet_whose_limit_is_used_up_enters_no_tunnel_over_ipv6(kind: str, protocol: int) -> None:
    inner = limited(0) if protocol == IPV6 else in_frame(limited(0))
    with pytest.raises(EncapDrop) as caught:
        codec(kind).push(inner, protocol, *ends(6))
    assert caught.value.reason == f"{kind}/limit_reached"
    assert codec(kind).push(inner, protocol, *ends(4))


def test_under_labels_nobody_sees_that_the_limit_is_used_up() -> None:
    assert payload(codec("mpls_gre", encaplimit=4).push(limited(0), IPV6, *ends(6)))[:8].hex() == "2f00040104010100"


@pytest.mark.parametrize(
    ("device", "packet"),
    [
        ({"key": 1}, {"key_present": 1, "key": 2}),
        ({"key": 1}, {}),
        ({"key": 0}, {}),
        ({}, {"key_present": 1, "key": 0}),
        ({}, {"version": 1, "proto": 0x880B}),
        ({}, {"proto": TEB}),
        ({}, {"proto": 0x88BE}),
        ({}, {"proto": 0x8847}),
    ],
    ids=["other key", "no key", "no key is not key 0", "a key", "PPTP", "gretap's", "erspan's", "MPLS"],
)
def test_packets_of_other_devices_are_left_to_them(device: dict[str, int], packet: dict[str, Any]) -> None:
    """ip_tunnel_key_match(): a packet with a key is for a device with that key, one without for a device without."""
    assert reason(codec("gre", **device), gre(**packet)) == "tunnel/unknown_id"


@pytest.mark.parametrize(
    ("device", "packet", "expected"),
    [
        ({}, {"routing_present": 1}, "routing_present"),
        ({}, {"version": 2}, "bad_version"),
        ({}, {"flags": 4}, "bad_version"),
        ({"checksum": 1}, {"chksum_present": 1, "chksum": 0x1234}, "bad_checksum"),
        ({}, {"chksum_present": 1, "chksum": 0x1234}, "bad_checksum"),
        ({}, {"chksum_present": 1}, "checksum_mismatch"),
        ({"checksum": 1}, {}, "checksum_mismatch"),
        ({"sequence": 0}, {}, "out_of_sequence"),
        ({}, {"proto": 0x0004}, "unknown_protocol"),
    ],
)
def test_what_linux_refuses(device: dict[str, int], packet: dict[str, Any], expected: str) -> None:
    """gre_rcv(), gre_parse_header() and ip_tunnel_rcv()."""
    assert reason(codec("gre", **device), gre(**packet)) == f"gre/{expected}"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [({"routing_present": 1}, "routing_present"), ({"version": 2}, "bad_version"), ({"chksum_present": 1}, "checksum_mismatch")],
)
def test_frames_are_refused_like_packets(packet: dict[str, Any], expected: str) -> None:
    assert reason(codec("gretap"), gre(FRAME, proto=TEB, **packet)) == f"gretap/{expected}"
    assert reason(codec("gretap"), gre(PACKET4)) == "tunnel/unknown_id"


def test_bits_that_are_no_version_over_ipv6_are_ignored_there() -> None:
    """gre_demux.c, which takes seven bits for the version, serves IPv4 alone."""
    assert opened(codec("gre"), gre(family=6, flags=4)) == (IPV4, PACKET4)


@pytest.mark.parametrize(
    ("numbers", "taken"),
    [
        ([5, 6, 7], [True, True, True]),
        ([5, 5], [True, False]),
        ([5, 9, 8, 10], [True, True, False, True]),
        ([0xFFFFFFFE, 0xFFFFFFFF, 0, 1], [True, True, True, True]),
        ([1, 0x80000001, 2], [True, True, False]),
        ([1, 0x80000002, 2], [True, False, True]),
    ],
    ids=["in order", "twice", "late", "wrapping", "half the numbers ahead", "seen from the other side"],
)
def test_older_sequence_numbers_are_refused(numbers: list[int], taken: list[bool]) -> None:
    """ip_tunnel_rcv(): the difference as a signed number of 32 bits; after 0xffffffff any number is the first."""
    device = codec("gre", sequence=0)
    results = [reason(device, gre(seqnum_present=1, sequence_number=number)) for number in numbers]
    assert results == [None if good else "gre/out_of_sequence" for good in taken]


def test_a_device_without_sequence_numbers_takes_any() -> None:
    device = codec("gre")
    assert [reason(device, gre(seqnum_present=1, sequence_number=number)) for number in (9, 3, 3)] == [None] * 3


def test_web_cache_redirection_is_ipv4_in_both_versions() -> None:
    """gre_parse_header(): WCCP version 2 puts four bytes of its own before the packet."""
    device = codec("gre")
    assert opened(device, gre(PACKET4, proto=0x883E)) == (IPV4, PACKET4)
    assert opened(device, gre(bytes(4) + PACKET4, proto=0x883E)) == (IPV4, PACKET4)


@pytest.mark.parametrize("protocol", [TEB, 0x88BE, 0x22EB, 0x8847, 4])
def test_what_other_devices_carry_does_not_go_out(protocol: int) -> None:
    with pytest.raises(EncapDrop) as caught:
        codec("gre").push(PACKET4, protocol, *ends(4))
    assert caught.value.reason == "gre/not_carried"


@pytest.mark.parametrize(("kind", "inner", "protocol"), [("gre", PACKET4, IPV4), ("gretap", FRAME, TEB)])
def test_without_room_for_the_header_the_packet_is_dropped(kind: str, inner: bytes, protocol: int) -> None:
    with pytest.raises(EncapDrop) as caught:
        codec(kind, **ALL).push(inner, protocol, *ends(4), headroom=15)
    assert caught.value.reason == f"{kind}/no_headroom"
    assert codec(kind, **ALL).push(inner, protocol, *ends(4), headroom=16)


@pytest.mark.parametrize(
    ("kind", "inner", "protocol", "least"), [("gre", PACKET4, IPV4, 20), ("gre", PACKET6, IPV6, 40), ("gretap", FRAME, TEB, 14)]
)
def test_a_packet_that_ends_early_is_refused(kind: str, inner: bytes, protocol: int, least: int) -> None:
    body = payload(codec(kind, key=3).push(inner, protocol, *ends(4)))
    results = [reason(codec(kind, key=3), around(4, PROTO_GRE, body[:end])) for end in range(len(body) + 1)]
    assert results == [f"{kind}/truncated"] * 8 + [f"{kind}/inner_truncated"] * least + [None] * (len(inner) - least + 1)


@pytest.mark.parametrize("family", [4, 6])
def test_with_a_checksum_every_flipped_bit_is_found(family: int) -> None:
    body = payload(codec("gre", **ALL).push(PACKET4, IPV4, *ends(family)))
    results = [codec("gre", **ALL).pop(packet) for packet in damaged(family, PROTO_GRE, body, len(body))]
    assert all(popped.reason and is_sound(popped) for popped in results)


@pytest.mark.parametrize("kind", ["gre", "gretap"])
@given(body=st.binary(max_size=48), family=st.sampled_from([4, 6]), options=st.sampled_from(OPTIONS))
def test_any_bytes_are_refused_or_sound(kind: str, body: bytes, family: int, options: dict[str, int]) -> None:
    assert is_sound(codec(kind, **options).pop(around(family, PROTO_GRE, body)))
    fields, size = encap_describe(kind, PROTO_GRE, body) or ([], 0)
    assert -1 <= size <= len(body)
    assert size == -1 or fields


def test_fields_are_named_as_they_stand() -> None:
    codec("gre")
    body = bytes(GRE(proto=IPV4, chksum_present=1, chksum=0xABCD, key_present=1, key=5, seqnum_present=1, sequence_number=6)) + PACKET4
    fields = [("protocol", IPV4), ("flags", 0xB000), ("checksum", 0xABCD), ("key", 5), ("sequence", 6)]
    assert encap_describe("gre", PROTO_GRE, body) == ([("gre", name, value) for name, value in fields], 16)
    assert encap_describe("gre", PROTO_GRE, body[:15]) == ([], -1)
    assert encap_describe("gre", PROTO_GRE, bytes(GRE(routing_present=1))) == ([], -1)


def test_tshark_sees_what_is_inside(tmp_path: Path) -> None:
    packets = [codec("gre", **options).push(PACKETS[inner], inner, *ends(4)) for options in OPTIONS for inner in (IPV4, IPV6)]
    frames = [codec("gretap", **options).push(FRAME, TEB, *ends(6)) for options in OPTIONS]
    assert seen_by_tshark(tmp_path / "gre.pcap", packets + frames) == (
        ["ip:gre:ip:udp:data", "ip:gre:ipv6:udp:data"] * len(OPTIONS) + ["ipv6:gre:eth:ethertype:ip:udp:data"] * len(OPTIONS)
    )
