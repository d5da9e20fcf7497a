"""Comparing frames: which field of which layer differs, and what a mask frees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from dataplane.capture.compare import differences

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IP_ID, IP_CHECKSUM = [18, 2], [24, 2]


def _tcp(ttl: int = 63, id: int = 1, tos: int = 0, flags: str = "", chksum: int | None = None) -> bytes:
    ip = IP(src="10.0.0.1", dst="10.0.0.2", ttl=ttl, id=id, tos=tos, flags=flags, chksum=chksum)
    return bytes(ETHER / ip / TCP(sport=1, dport=2) / Raw(b"payload!"))


def _vxlan(vni: int = 1, sport: int = 50000, inner: bytes = b"") -> bytes:
    outer = ETHER / IP(src="192.168.0.11", dst="192.168.0.12") / UDP(sport=sport, dport=8472) / VXLAN(vni=vni, flags=8)
    return bytes(outer / Ether(inner or _tcp()))


def test_equal_frames_do_not_differ() -> None:
    assert differences(_vxlan(), _vxlan()) == []


def test_the_field_is_named_with_both_values() -> None:
    lines = differences(_tcp(), _tcp(ttl=64))
    assert lines[0] == "IPv4 ttl: expected 63, got 64"
    assert [line.partition(":")[0] for line in lines] == ["IPv4 ttl", "IPv4 header checksum"]


def test_outer_layers_come_first_and_inner_ones_say_so() -> None:
    lines = differences(_vxlan(), _vxlan(vni=2, inner=_tcp(ttl=64)))
    assert [line.partition(":")[0] for line in lines] == ["UDP checksum", "VXLAN vni", "inner IPv4 ttl", "inner IPv4 header checksum"]
    assert lines[1] == "VXLAN vni: expected 1, got 2"


def test_fields_smaller_than_a_byte() -> None:
    lines = differences(_tcp(tos=1), _tcp(tos=0x28 | 2))
    assert lines[:2] == ["IPv4 dscp: expected 0, got 10", "IPv4 ecn: expected 1, got 2"]
    assert "IPv4 df: expected 0, got 1" in differences(_tcp(), _tcp(flags="DF"))


def test_payload_by_byte_offset() -> None:
    got = bytearray(_tcp())
    got[56] ^= 0xFF
    assert differences(_tcp(), bytes(got)) == [
        "Payload at byte 2 (frame byte 56), 1 of 8 bytes: expected 796c6f616421, got 866c6f616421",
    ]


def test_lengths_and_missing_layers() -> None:
    short = _tcp()[:34]
    assert differences(_tcp(), short)[0] == "length: expected 62 bytes, got 34"
    assert differences(_tcp(), short)[1:] == [
        "TCP cut off: expected none, got 0 of 20 bytes, the rest none",
        "after TCP: expected Payload, got nothing",
    ]
    padded = _tcp() + b"\0\0"
    assert differences(_tcp(), padded) == ["length: expected 62 bytes, got 64", "after the expected layers: got Trailer of 2 bytes"]
    assert differences(b"", b"") == []
    assert differences(b"", b"\1")[0] == "length: expected 0 bytes, got 1"


def test_another_protocol_ends_the_comparison() -> None:
    udp = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63, id=1) / UDP(sport=1, dport=2) / Raw(b"x" * 20))
    assert differences(_tcp(), udp)[-1] == "after IPv4: expected TCP, got UDP"


def test_options_that_come_go_and_change() -> None:
    def syn(*options: tuple[str, int | None]) -> bytes:
        return bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(options=list(options)))

    assert "TCP option mss: expected 020405b4, got 02040578" in differences(syn(("MSS", 1460)), syn(("MSS", 1400)))
    lines = differences(syn(("MSS", 1460)), syn(("WScale", 7)))
    assert "TCP option mss: expected 020405b4, got none" in lines
    assert "TCP option window scale: expected none, got 030307" in lines


def test_bytes_under_the_mask_are_free_and_checksums_stay_valid() -> None:
    assert differences(_tcp(), _tcp(id=9), [IP_ID, IP_CHECKSUM]) == []
    (line,) = differences(_tcp(), _tcp(id=9), [IP_ID])
    assert line.startswith("IPv4 header checksum: expected 0x")
    wrong = bytearray(_tcp(id=9))
    wrong[24:26] = b"\x12\x34"
    right = _tcp(id=9)[24:26].hex()
    assert differences(_tcp(), bytes(wrong), [IP_ID, IP_CHECKSUM]) == [
        f"IPv4 checksum: expected a valid one, got 0x1234 (0x{right} would be right)"
    ]


def test_a_checksum_that_was_wrong_may_stay_wrong() -> None:
    assert differences(_tcp(chksum=0x1111), _tcp(id=9, chksum=0x2222), [IP_ID, IP_CHECKSUM]) == []


def test_the_tunnels_source_port_is_free_but_its_checksum_must_hold() -> None:
    mask = [[34, 2], [40, 2]]
    assert differences(_vxlan(), _vxlan(sport=40000), mask) == []
    stale = bytearray(_vxlan(sport=40000))
    stale[40:42] = _vxlan()[40:42]
    (line,) = differences(_vxlan(), bytes(stale), mask)
    assert line.startswith("UDP checksum: expected a valid one, got 0x")
    stale[40:42] = b"\0\0"
    assert differences(_vxlan(), bytes(stale), mask) == ["UDP checksum: expected a valid one, got 0x0000 (none)"]


@pytest.mark.parametrize(
    ("frame", "field", "label"),
    [
        (bytes(ETHER / IP() / ICMP(id=1) / Raw(b"abcd")), 36, "ICMP"),
        (bytes(ETHER / IP() / TCP()), 50, "TCP"),
        (bytes(ETHER / IP() / UDP()), 40, "UDP"),
        (bytes(ETHER / IPv6() / ICMPv6EchoRequest()), 56, "ICMPv6"),
    ],
)
def test_every_kind_of_checksum_under_a_mask(frame: bytes, field: int, label: str) -> None:
    got = bytearray(frame)
    got[field] ^= 0x55
    (line,) = differences(frame, bytes(got), [[field, 2]])
    assert line.startswith(f"{label} checksum: expected a valid one")


def test_a_fragments_checksum_is_free_under_a_mask() -> None:
    fragment = bytes(ETHER / IP(flags="MF", proto=17) / UDP(sport=1, dport=2, len=2000) / Raw(b"abcd"))
    got = bytearray(fragment)
    got[40] ^= 0x55
    assert differences(fragment, bytes(got), [[40, 2]]) == []


def test_what_no_fields_text_shows_is_still_found() -> None:
    # two notations of one value would hide a difference: every changed byte must be told
    for at in range(len(_vxlan())):
        got = bytearray(_vxlan())
        got[at] ^= 0x81
        assert differences(_vxlan(), bytes(got)), at


@settings(deadline=None)
@given(
    expected=st.binary(max_size=120),
    got=st.binary(max_size=120),
    mask=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 20)), max_size=4),
)
def test_differences_are_found_exactly_where_free_bytes_end(expected: bytes, got: bytes, mask: list[tuple[int, int]]) -> None:
    free = {at for start, length in mask for at in range(start, start + length)}
    differ = len(expected) != len(got) or any(a != b and at not in free for at, (a, b) in enumerate(zip(expected, got, strict=False)))
    lines = differences(expected, got, mask)
    assert bool(lines) >= differ
    assert all("\n" not in line for line in lines)
    if not differ:  # then only a checksum can be wrong
        assert all("checksum: expected a valid one" in line for line in lines)


@settings(deadline=None)
@given(at=st.integers(0, 500), value=st.integers(1, 255), masked=st.booleans())
def test_one_changed_byte_is_told_unless_it_is_free(at: int, value: int, masked: bool) -> None:
    expected = _vxlan()
    at %= len(expected)
    got = bytearray(expected)
    got[at] ^= value
    lines = differences(expected, bytes(got), [[at, 1]] if masked else [])
    if not masked:
        assert lines
    else:
        assert all("checksum" in line for line in lines)
