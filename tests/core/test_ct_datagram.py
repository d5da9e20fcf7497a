"""Connection tracking of UDP, UDP-Lite, ICMP, ICMPv6, GRE and everything without a tracker, and tuples of all of them."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest

from core.ct_segments import SECOND, segment

ICMP, TCP, UDP, GRE, ICMPV6, SCTP, UDPLITE, OSPF = 1, 6, 17, 47, 58, 132, 136, 89
LINK_LOCAL = bytes.fromhex("fe80000000000000") + bytes(7) + b"\x01"
GLOBAL = bytes.fromhex("20010db800000000") + bytes(7) + b"\x01"


def udp(length: int, size: int, checksum: int = 0) -> bytes:
    return struct.pack(">HHHH", 5000, 53, length, checksum)[:size].ljust(size, b"\0")


# ---- UDP


@pytest.mark.parametrize(
    ("length", "size", "valid"),
    [(8, 7, False), (7, 20, False), (0, 20, False), (8, 8, True), (20, 20, True), (12, 20, True), (21, 20, False)],
)
def test_udp_length(ct: ModuleType, length: int, size: int, valid: bool) -> None:
    assert ct.udp_valid(udp(length, size)) == valid


def test_udp_becomes_a_stream_after_two_seconds_of_both_ways(ct: ModuleType) -> None:
    flow = ct.Udp(ct.Settings())
    start = 7 * SECOND
    assert flow.packet(start) == (ct.ACCEPT, 30 * SECOND)
    flow.status |= ct.CONFIRMED
    assert flow.packet(start + 5 * SECOND) == (ct.ACCEPT, 30 * SECOND)  # no answer yet
    flow.status |= ct.SEEN_REPLY
    assert not flow.status & ct.ASSURED
    assert flow.packet(start + 6 * SECOND) == (ct.ACCEPT, 120 * SECOND)
    assert flow.status & ct.ASSURED


def test_a_quick_answer_makes_no_stream(ct: ModuleType) -> None:
    flow = ct.Udp(ct.Settings())
    flow.packet(0)
    flow.status |= ct.CONFIRMED | ct.SEEN_REPLY
    assert flow.packet(2 * SECOND) == (ct.ACCEPT, 30 * SECOND)
    assert not flow.status & ct.ASSURED
    assert flow.packet(2 * SECOND + 1) == (ct.ACCEPT, 120 * SECOND)


def test_udplite_is_assured_with_the_first_packet_after_an_answer(ct: ModuleType) -> None:
    flow = ct.Udp(ct.Settings())
    assert flow.packet_lite() == (ct.ACCEPT, 30 * SECOND)
    flow.status |= ct.CONFIRMED | ct.SEEN_REPLY
    assert flow.packet_lite() == (ct.ACCEPT, 120 * SECOND)
    assert flow.status & ct.ASSURED


@pytest.mark.parametrize(
    ("coverage", "size", "checksum", "covered"),
    [(0, 20, 1, 20), (8, 20, 1, 8), (20, 20, 1, 20), (7, 20, 1, -1), (21, 20, 1, -1), (8, 20, 0, -1), (0, 7, 1, -1)],
)
def test_udplite_coverage(ct: ModuleType, coverage: int, size: int, checksum: int, covered: int) -> None:
    assert ct.udplite_coverage(udp(coverage, size, checksum)) == covered


# ---- ICMP

REQUESTS = {8: 0, 13: 14, 15: 16, 17: 18}
REQUESTS6 = {128: 129, 139: 140}


@pytest.mark.parametrize("icmp_type", range(256))
def test_icmp_types(ct: ModuleType, icmp_type: int) -> None:
    known = "error" if icmp_type in (3, 4, 5, 11, 12) else "query"
    assert ct.icmp_class(bytes([icmp_type]) + bytes(7)) == (known if icmp_type <= 18 else "invalid")


@pytest.mark.parametrize("icmp_type", range(19))
def test_only_requests_begin_an_icmp_connection(ct: ModuleType, icmp_type: int) -> None:
    verdict, timeout = ct.icmp_packet(4, icmp_type, ct.Settings())
    assert (verdict == ct.ACCEPT) == (icmp_type in REQUESTS)
    assert timeout == (30 * SECOND if icmp_type in REQUESTS else ct.KEEP_TIMEOUT)


UNTRACKED6 = {130, 131, 132, 133, 134, 135, 136, 143, 151, 152}


@pytest.mark.parametrize("icmp_type", [t for t in range(256) if t != 137])
def test_icmpv6_types(ct: ModuleType, icmp_type: int) -> None:
    information = ("untracked" if icmp_type in UNTRACKED6 else "query", -1)
    assert ct.icmpv6_class(bytes([icmp_type]) + bytes(7), 64, GLOBAL) == (("error", 8) if icmp_type < 128 else information)


@pytest.mark.parametrize("icmp_type", [128, 129, 139, 140, 144])
def test_only_requests_begin_an_icmpv6_connection(ct: ModuleType, icmp_type: int) -> None:
    assert (ct.icmpv6_packet(6, icmp_type, ct.Settings(), 0)[0] == ct.ACCEPT) == (icmp_type in REQUESTS6)


def test_icmp_of_the_other_family_is_invalid(ct: ModuleType) -> None:
    assert ct.icmp_packet(6, 8, ct.Settings())[0] == ct.INVALID
    assert ct.icmpv6_packet(4, 128, ct.Settings(), 0)[0] == ct.INVALID


@pytest.mark.parametrize("size", range(1, 8))
def test_short_icmp_is_invalid(ct: ModuleType, size: int) -> None:
    assert ct.icmp_class(bytes([8]).ljust(size, b"\0")) == "invalid"
    assert ct.icmpv6_class(bytes([128]).ljust(size, b"\0"), 64, GLOBAL)[0] == "invalid"


def redirect(option: bytes, code: int = 0) -> bytes:
    return bytes([137, code]) + bytes(38) + option


@pytest.mark.parametrize(
    ("message", "hop_limit", "source", "expected"),
    [
        (redirect(b"\x04\x07" + bytes(54)), 255, LINK_LOCAL, "error"),
        (redirect(b"\x02\x01" + bytes(6)), 255, LINK_LOCAL, "query"),
        (redirect(b"", code=1), 1, GLOBAL, "query"),
        (redirect(b"\x04\x07" + bytes(54)), 254, LINK_LOCAL, "invalid"),
        (redirect(b"\x04\x07" + bytes(54)), 255, GLOBAL, "invalid"),
        (redirect(b""), 255, LINK_LOCAL, "invalid"),
        (redirect(b"\x04\x00"), 255, LINK_LOCAL, "invalid"),
        (redirect(b"\x04\x07")[:39], 255, LINK_LOCAL, "invalid"),
    ],
)
def test_icmpv6_redirects(ct: ModuleType, message: bytes, hop_limit: int, source: bytes, expected: str) -> None:
    kind, quote = ct.icmpv6_class(message, hop_limit, source)
    assert kind == expected
    assert kind != "error" or quote == 48


# ---- GRE and the rest


def test_gre_is_assured_with_the_first_packet_after_an_answer(ct: ModuleType) -> None:
    flow, settings = ct.Gre(), ct.Settings()
    assert flow.packet(settings) == (ct.ACCEPT, 30 * SECOND)
    flow.status |= ct.CONFIRMED
    assert flow.packet(settings) == (ct.ACCEPT, 30 * SECOND)
    flow.status |= ct.SEEN_REPLY
    assert flow.packet(settings) == (ct.ACCEPT, 180 * SECOND)
    assert flow.status & ct.ASSURED


def test_other_protocols_live_ten_minutes(ct: ModuleType) -> None:
    assert ct.generic_packet(ct.Settings()) == (ct.ACCEPT, 600 * SECOND)


# ---- tuples

PPTP = bytes.fromhex("3001880b0004abcd")  # version 1, PPP, payload length 4, call id 0xabcd


@pytest.mark.parametrize(
    ("proto", "l4", "expected"),
    [
        (TCP, segment("S"), (40000, 80)),
        (UDP, udp(8, 8), (5000, 53)),
        (UDPLITE, udp(8, 8), (5000, 53)),
        (SCTP, udp(8, 8), (5000, 53)),
        (TCP, segment("S")[:4], (40000, 80)),  # an ICMP error may quote no more
        (TCP, segment("S")[:3], None),
        (UDP, b"", None),
        (ICMP, bytes.fromhex("0801f00d12345678"), (0x1234, 0x0801)),
        (ICMPV6, bytes.fromhex("8000f00d12345678"), (0x1234, 0x8000)),
        (ICMP, bytes.fromhex("0801f00d123456"), None),
        (GRE, bytes.fromhex("20000800deadbeef"), (0, 0)),  # version 0: the key does not count
        (GRE, PPTP, (0, 0xABCD)),
        (GRE, PPTP[:7], (0, 0)),
        (GRE, b"", (0, 0)),
        (GRE, bytes.fromhex("300108000004abcd"), None),  # version 1 carries nothing but PPP
        (GRE, bytes.fromhex("3002880b0004abcd"), (0, 0)),
        (OSPF, b"", (0, 0)),
        (OSPF, bytes(20), (0, 0)),
    ],
)
def test_tuples(ct: ModuleType, proto: int, l4: bytes, expected: tuple[int, int] | None) -> None:
    assert ct.tuple_of(proto, l4) == expected


@pytest.mark.parametrize(("proto", "pairs"), [(ICMP, REQUESTS), (ICMPV6, REQUESTS6)])
def test_icmp_tuples_invert_request_and_reply(ct: ModuleType, proto: int, pairs: dict[int, int]) -> None:
    both = pairs | {reply: request for request, reply in pairs.items()}
    for icmp_type in range(256):
        expected = (77, both[icmp_type] << 8 | 3) if icmp_type in both else None
        assert ct.inverted(proto, 77, icmp_type << 8 | 3) == expected


@pytest.mark.parametrize("proto", [TCP, UDP, UDPLITE, SCTP, GRE, OSPF])
def test_other_tuples_invert_by_swapping(ct: ModuleType, proto: int) -> None:
    assert ct.inverted(proto, 1, 2) == (2, 1)
