"""ERSPAN: mirrored frames in the headers of types I, II and III as Linux writes and reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, GRE
from scapy.packet import Packet, Raw

from dataplane._core import EncapDrop, encap_describe
from encap.tunnel_packets import FRAME, FRAME6, MACS, TAGGED, TEB, around, codec, damaged, ends, is_sound, opened, payload, seen_by_tshark

PROTO_GRE = 47
TYPE_II, TYPE_III = 0x88BE, 0x22EB
TYPES: list[dict[str, Any]] = [
    {"version": 0},
    {"version": 1},
    {"version": 2},
    {"version": 2, "subheader": bytes.fromhex("0c00000112345678")},
]
NANOSECONDS = 1_000_000_000
SHORT = 1  # what FRAME is, with its 58 bytes


def type_ii(**fields: Any) -> Packet:
    return GRE(proto=TYPE_II, seqnum_present=1, sequence_number=0) / ERSPAN_II(**fields)


def type_iii(p: int = 1, **fields: Any) -> Packet:
    return GRE(proto=TYPE_III, seqnum_present=1, sequence_number=0) / ERSPAN_III(p=p, **fields)


def pushed(frame: bytes = FRAME, *, family: int = 4, now: int = 0, **options: Any) -> bytes:
    return payload(codec("erspan", **options).push(frame, TEB, *ends(family), now=now))


def test_type_i_is_a_bare_gre_header() -> None:
    assert pushed(version=0, session=5) == bytes.fromhex("000088be") + FRAME


def test_type_ii_is_the_default_and_counts() -> None:
    device = codec("erspan", session=1000, index=0xABCDE, sequence=0xFFFFFFFF)
    want = ERSPAN_II(session_id=1000, index=0xABCDE, cos=5) / Raw(FRAME)
    for number in (0xFFFFFFFF, 0):
        header = GRE(proto=TYPE_II, seqnum_present=1, sequence_number=number)
        assert payload(device.push(FRAME, TEB, *ends(4))) == bytes(header / want)


def test_type_iii_says_when_where_and_which_way() -> None:
    """The timestamp counts 100 us, which is granularity 0 (erspan_get_timestamp()); P is always set (erspan_build_header_v2())."""
    got = pushed(version=2, session=7, direction=1, hwid=33, sgt=0xBEEF, now=3 * NANOSECONDS)
    want = type_iii(session_id=7, cos=5, bso=SHORT, timestamp=30000, sgt_other=0xBEEF, hw=33, d=1) / Raw(FRAME)
    assert got == bytes(want)


def test_a_platform_specific_subheader_may_follow() -> None:
    got = pushed(version=2, subheader=bytes.fromhex("0c00000112345678"))
    assert got == bytes(type_iii(cos=5, bso=SHORT, o=1) / ERSPAN_PlatformSpecific(platf_id=3, info1=1, info2=0x12345678) / Raw(FRAME))
    assert opened(codec("erspan"), around(4, PROTO_GRE, got)) == (TEB, FRAME)


@pytest.mark.parametrize(("frame", "vlan", "en"), [(FRAME, 0, 0), (TAGGED, 342, 3)])
def test_the_vlan_comes_from_a_tag_which_stays_in_the_frame(frame: bytes, vlan: int, en: int) -> None:
    header = ERSPAN_II(pushed(frame)[8:])
    assert (header.vlan, header.en) == (vlan, en)
    assert ERSPAN_III(pushed(frame, version=2)[8:]).vlan == vlan


@pytest.mark.parametrize(
    ("frame", "family", "cos"),
    [(FRAME, 4, 5), (FRAME6, 6, 5), (bytes(MACS / ARP()), 4, 0), (FRAME, 6, 2), (FRAME6, 4, 4)],
    ids=["IPv4", "IPv6", "ARP", "IPv4 in ip6erspan: the header length stands there", "IPv6 in erspan"],
)
def test_the_class_of_service_is_where_linux_looks_for_it(frame: bytes, family: int, cos: int) -> None:
    """erspan_build_header() reads the frame as IPv4 under IPv4 and as IPv6 under IPv6, whatever it carries."""
    assert ERSPAN_II(pushed(frame, family=family)[8:]).cos == cos


@pytest.mark.parametrize(("size", "bso"), [(59, 1), (60, 0), (1514, 0), (1515, 2)])
def test_type_iii_tells_short_and_oversized_frames(size: int, bso: int) -> None:
    """erspan_detect_bso(): ETH_ZLEN and ETH_FRAME_LEN are still good."""
    assert ERSPAN_III(pushed(FRAME[:14].ljust(size, b"\0"), version=2)[8:]).bso == bso


def test_what_the_frame_says_can_be_overridden() -> None:
    settings = {"vlan": 1, "cos": 2, "t": 1}
    assert pushed(TAGGED, en=1, **settings)[8:12] == bytes(ERSPAN_II(vlan=1, cos=2, en=1, t=1))[:4]
    got = pushed(TAGGED, version=2, bso=3, timestamp=9, granularity=2, **settings)[8:20]
    assert got == bytes(ERSPAN_III(vlan=1, cos=2, bso=3, t=1, timestamp=9, gra=2, p=1))


def test_another_session_may_be_asked_for() -> None:
    assert ERSPAN_II(payload(codec("erspan", session=1).push(FRAME, TEB, *ends(4), id=99))[8:]).session_id == 99


@pytest.mark.parametrize("options", TYPES)
@pytest.mark.parametrize("family", [4, 6])
def test_a_mirrored_frame_comes_out_as_it_went_in(options: dict[str, Any], family: int) -> None:
    device = codec("erspan", session=3, **options)
    packet = device.push(TAGGED, TEB, *ends(family))
    assert len(packet) == len(TAGGED) + device.overhead(family)
    popped = codec("erspan", session=3, **options).pop(packet)
    assert (popped.reason, popped.inner) == (None, TAGGED)
    assert popped.id == (3 if options["version"] else -1)


@pytest.mark.parametrize(
    ("device", "packet", "expected"),
    [
        ({"session": 1}, type_ii(session_id=2), "tunnel/unknown_id"),
        ({"version": 0}, type_ii(), "tunnel/unknown_id"),
        ({"version": 1}, GRE(proto=TYPE_II), "erspan/out_of_sequence"),
        ({"version": 2}, type_iii(ft=2), "erspan/not_ethernet"),
        ({}, type_ii(ver=3), "erspan/unknown_version"),
        ({}, GRE(proto=TYPE_II, seqnum_present=1, chksum_present=1) / ERSPAN_II(), "erspan/checksum_mismatch"),
        ({}, GRE(proto=TYPE_II, routing_present=1), "erspan/routing_present"),
        ({}, GRE(proto=TYPE_II, version=3), "erspan/bad_version"),
        ({}, GRE(proto=TEB), "tunnel/unknown_id"),
        ({"version": 1}, type_iii(), None),
        ({"version": 2}, type_ii(), None),
    ],
)
def test_what_linux_refuses(device: dict[str, int], packet: Packet, expected: str | None) -> None:
    """erspan_rcv() goes by the session; that types II and III must be in order, ip_tunnel_rcv() says."""
    assert codec("erspan", **device).pop(around(4, PROTO_GRE, bytes(packet / Raw(FRAME)))).reason == expected


def test_older_frames_are_refused() -> None:
    device = codec("erspan")
    packets = [GRE(proto=TYPE_II, seqnum_present=1, sequence_number=number) / ERSPAN_II() / Raw(FRAME) for number in (3, 5, 4, 6)]
    reasons = [device.pop(around(4, PROTO_GRE, bytes(packet))).reason for packet in packets]
    assert reasons == [None, None, "erspan/out_of_sequence", None]


@pytest.mark.parametrize(("options", "ended"), [(TYPES[1], 8), (TYPES[2], 12), (TYPES[3], 20)])
def test_a_packet_that_ends_early_is_refused(options: dict[str, Any], ended: int) -> None:
    body = pushed(**options)
    reasons = [codec("erspan", **options).pop(around(4, PROTO_GRE, body[:end])).reason for end in range(len(body) + 1)]
    parts = {"truncated": 8, "header_truncated": ended, "inner_truncated": 14}
    assert reasons[: 22 + ended] == [f"erspan/{name}" for name, size in parts.items() for _ in range(size)]
    assert set(reasons[22 + ended :]) == {None}


@pytest.mark.parametrize("options", TYPES)
def test_flipped_bits_are_refused_or_leave_a_frame(options: dict[str, Any]) -> None:
    body = pushed(**options)
    results = [codec("erspan", **options).pop(packet) for packet in damaged(4, PROTO_GRE, body, len(body) - len(FRAME))]
    assert all(map(is_sound, results))
    assert all(
        FRAME.endswith(popped.inner) or FRAME.startswith(popped.inner) or popped.inner.endswith(FRAME) for popped in results if popped.inner
    )


@given(body=st.binary(max_size=64), protocol=st.sampled_from([TYPE_II, TYPE_III]), options=st.sampled_from(TYPES))
def test_any_bytes_are_refused_or_sound(body: bytes, protocol: int, options: dict[str, Any]) -> None:
    data = b"\x10\0" + protocol.to_bytes(2, "big") + body
    assert is_sound(codec("erspan", **options).pop(around(4, PROTO_GRE, data)))
    _, size = encap_describe("erspan", PROTO_GRE, data) or ([], 0)
    assert -1 <= size <= len(data)


def test_without_room_for_both_headers_the_frame_is_dropped() -> None:
    with pytest.raises(EncapDrop) as caught:
        codec("erspan", version=2).push(FRAME, TEB, *ends(4), headroom=19)
    assert caught.value.reason == "erspan/no_headroom"


def test_fields_are_named_by_type() -> None:
    codec("erspan")
    body = bytes(type_ii(vlan=23, cos=4, en=1, t=1, session_id=100, index=5) / Raw(FRAME))
    assert encap_describe("erspan", PROTO_GRE, body) == (
        [("gre", "protocol", TYPE_II), ("gre", "flags", 0x1000), ("gre", "sequence", 0)]
        + [
            ("erspan2", name, value)
            for name, value in zip("version vlan cos en t session index".split(), (1, 23, 4, 1, 1, 100, 5), strict=True)
        ],
        16,
    )
    values = {
        "version": 2,
        "vlan": 1,
        "cos": 2,
        "bso": 3,
        "t": 0,
        "session": 4,
        "timestamp": 5,
        "sgt": 6,
        "pdu": 1,
        "frame_type": 0,
        "hwid": 7,
    }
    values |= {"direction": 1, "granularity": 2}
    third = type_iii(vlan=1, cos=2, bso=3, session_id=4, timestamp=5, sgt_other=6, hw=7, d=1, gra=2, o=1)
    described = encap_describe("erspan", PROTO_GRE, bytes(third / Raw(b"platform" + FRAME)))
    assert described is not None
    assert described[0][3:] == [("erspan3", name, value) for name, value in values.items()] + [("erspan3", "subheader", b"platform")]
    assert described[1] == 28


def test_tshark_sees_the_frame_inside(tmp_path: Path) -> None:
    packets = [codec("erspan", **options).push(FRAME, TEB, *ends(4)) for options in TYPES]
    seen = seen_by_tshark(tmp_path / "erspan.pcap", packets)
    assert seen == ["ip:gre:erspan:eth:ethertype:ip:udp:data"] * len(TYPES)
    assert IP(packets[0]).proto == PROTO_GRE
