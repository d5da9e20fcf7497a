"""SRv6: what Linux wrote as headend with the same segments, and what the end of a segment list refuses."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting, IPv6ExtHdrSegmentRoutingTLV, IPv6ExtHdrSegmentRoutingTLVHMAC
from scapy.packet import Packet, Raw

from dataplane._core import Codec, EncapDrop, encap_describe
from encap.tunnel_packets import (
    ENDS4,
    ENDS6,
    FRAME,
    IPV4,
    IPV6,
    PACKET4,
    PACKET6,
    PACKETS,
    TEB,
    around,
    codec,
    damaged,
    is_sound,
    opened,
    payload,
    seen_by_tshark,
)

ROUTING, PROTO_IPV4, PROTO_IPV6, PROTO_ETHERNET = 43, 4, 41, 143
UNKNOWN_TLV = IPv6ExtHdrSegmentRoutingTLV(type=9, len=3, value=b"any")
LOCAL, FIRST, SECOND, THIRD = (ip_address(text).packed for text in ("fc00:a::1", "fc00:1::1", "fc00:2::2", "fc00:3::3"))

# What Linux 6.18 sent with `ip route add DST encap seg6 mode MODE segs fc00:1::1[,fc00:2::2,fc00:3::3] dev v0`, IPv6 header first.
# Of an IPv6 packet with traffic class 0xb9, flow label 0x12345 and hop limit 33 that it forwarded, so that the outer hop limit
# is one less; its own of fc00:a::7 to fd00:N::9, UDP to port 9999.
RECORDED6 = {
    ("encap", 0): "6b912345004c2b20fc00000a000000000000000000000001fc0000010000000000000000000000012902040000000000"
    "fc0000010000000000000000000000016b912345000c1121fc00000a000000000000000000000007fd000001000000000000000000000009"
    "0fa0270f000ce46f73697831",
    ("encap", 2): "6b912345006c2b20fc00000a000000000000000000000001fc0000010000000000000000000000012906040202000000"
    "fc000003000000000000000000000003fc000002000000000000000000000002fc000001000000000000000000000001"
    "6b912345000c1121fc00000a000000000000000000000007fd0000020000000000000000000000090fa0270f000ce46d73697832",
    ("encap.red", 0): "6b91234500342920fc00000a000000000000000000000001fc000001000000000000000000000001"
    "6b912345000c1121fc00000a000000000000000000000007fd0000030000000000000000000000090fa0270f000ce46b73697833",
    ("encap.red", 2): "6b912345005c2b20fc00000a000000000000000000000001fc0000010000000000000000000000012904040201000000"
    "fc000003000000000000000000000003fc0000020000000000000000000000026b912345000c1121fc00000a000000000000000000000007"
    "fd0000040000000000000000000000090fa0270f000ce46973697834",
    ("l2encap", 0): "6b912345005a2b20fc00000a000000000000000000000001fc0000010000000000000000000000018f02040000000000"
    "fc00000100000000000000000000000102000000000a02000000000b86dd6b912345000c1121fc00000a000000000000000000000007"
    "fd0000050000000000000000000000090fa0270f000ce46773697835",
    ("l2encap", 2): "6b912345007a2b20fc00000a000000000000000000000001fc0000010000000000000000000000018f06040202000000"
    "fc000003000000000000000000000003fc000002000000000000000000000002fc000001000000000000000000000001"
    "02000000000a02000000000b86dd6b912345000c1121fc00000a000000000000000000000007fd000006000000000000000000000009"
    "0fa0270f000ce46573697836",
    ("l2encap.red", 0): "6b91234500428f20fc00000a000000000000000000000001fc00000100000000000000000000000102000000000a02000000000b86dd"
    "6b912345000c1121fc00000a000000000000000000000007fd0000070000000000000000000000090fa0270f000ce46373697837",
    ("l2encap.red", 2): "6b912345006a2b20fc00000a000000000000000000000001fc0000010000000000000000000000018f04040201000000"
    "fc000003000000000000000000000003fc00000200000000000000000000000202000000000a02000000000b86dd"
    "6b912345000c1121fc00000a000000000000000000000007fd0000080000000000000000000000090fa0270f000ce46173697838",
}
# The same of an IPv4 packet with TOS 0xb9 and TTL 44.
RECORDED4 = {
    ("encap", 0): "6000000000392b3ffc00000a000000000000000000000001fc0000010000000000000000000000010402040000000000"
    "fc00000100000000000000000000000145b90021000100002c1179f90a0900070a0100090fa0270f000da829666f757231",
    ("encap.red", 0): "600000000021043ffc00000a000000000000000000000001fc000001000000000000000000000001"
    "45b90021000100002c1179f70a0900070a0300090fa0270f000da627666f757233",
    ("encap.red", 2): "6000000000492b3ffc00000a000000000000000000000001fc0000010000000000000000000000010404040201000000"
    "fc000003000000000000000000000003fc00000200000000000000000000000245b90021000100002c1179f60a0900070a040009"
    "0fa0270f000da526666f757234",
    ("l2encap.red", 0): "60000000002f8f3ffc00000a000000000000000000000001fc000001000000000000000000000001"
    "02000000000a02000000000b080045b90021000100002c1179f30a0900070a0700090fa0270f000da223666f757237",
}


def headend(mode: str, more: int) -> Codec:
    """A device for ``more`` segments behind the first."""
    options: dict[str, int | bytes] = {"reduced": int(mode.endswith(".red"))}
    if more:
        options["segments"] = SECOND + THIRD
    return codec("srv6_l2" if mode.startswith("l2") else "srv6", **options)


def header_len(mode: str, more: int) -> int:
    """Of IPv6 and segment routing headers."""
    listed = more + 1 - mode.endswith(".red")
    return 40 + (8 + 16 * listed if listed else 0)


def forwarded_once(packet: bytes) -> bytes:
    return packet[:7] + bytes([packet[7] - 1]) + packet[8:]


@pytest.mark.parametrize(("mode", "more"), RECORDED6)
def test_an_ipv6_packet_looks_as_linux_sent_it(mode: str, more: int) -> None:
    recorded = bytes.fromhex(RECORDED6[mode, more])
    inner = recorded[header_len(mode, more) :]
    device = headend(mode, more)
    packet = device.push(inner, TEB if mode.startswith("l2") else IPV6, LOCAL, FIRST)
    assert forwarded_once(packet) == recorded
    assert device.overhead(6) == header_len(mode, more)


@pytest.mark.parametrize(("mode", "more"), RECORDED4)
def test_an_ipv4_packet_looks_as_linux_sent_it(mode: str, more: int) -> None:
    """Its TOS and TTL stay inside."""
    recorded = bytes.fromhex(RECORDED4[mode, more])
    inner = recorded[header_len(mode, more) :]
    packet = headend(mode, more).push(inner, TEB if mode.startswith("l2") else IPV4, LOCAL, FIRST)
    assert forwarded_once(packet) == recorded


@pytest.mark.parametrize(
    ("flow_label", "inner", "expected"),
    [(-1, IPV6, 0), (0, IPV6, 0x12345), (0, IPV4, 0), (1, IPV6, 0x27856), (1, IPV4, 0x27856)],
)
def test_the_flow_label_follows_seg6_flowlabel(flow_label: int, inner: int, expected: int) -> None:
    """seg6_make_flowlabel(): hash 0x12345678 with its halves exchanged is 78 56 34 12 in memory ... 0x27856 as 20 bits of the wire."""
    packet = codec("srv6", flow_label=flow_label).push(PACKETS[inner], inner, LOCAL, FIRST, flow_hash=0x12345678)
    assert IPv6(packet).fl == expected


def test_flags_and_tag_are_written() -> None:
    header = IPv6(codec("srv6", flags=0x20, tag=0xABCD).push(PACKET4, IPV4, LOCAL, FIRST))[IPv6ExtHdrSegmentRouting]
    assert (bytes(header)[5], header.tag) == (0x20, 0xABCD)


def arrived(*tlvs: Packet, inner: Packet | None = None, **fields: Any) -> bytes:
    """A packet at the last of two segments, by scapy."""
    listed = [str(ip_address(segment)) for segment in (ENDS6[1], FIRST)]
    settings: dict[str, Any] = {"nh": PROTO_IPV4, "segleft": 0, "lastentry": 1, **fields}
    header = IPv6ExtHdrSegmentRouting(addresses=listed, tlv_objects=list(tlvs), **settings)
    return around(6, ROUTING, bytes(header / (inner or Raw(PACKET4))))


@pytest.mark.parametrize(
    ("next_header", "inner", "protocol"), [(PROTO_IPV4, PACKET4, IPV4), (PROTO_IPV6, PACKET6, IPV6), (PROTO_ETHERNET, FRAME, TEB)]
)
@pytest.mark.parametrize("with_list", [True, False])
def test_at_the_last_segment_the_packet_comes_out(next_header: int, inner: bytes, protocol: int, with_list: bool) -> None:
    """End.DT46 and End.DX2 (RFC 8986 4.8, 4.9), with a segment list or, from a reduced headend, without."""
    packet = arrived(nh=next_header, inner=Raw(inner)) if with_list else around(6, next_header, inner)
    assert opened(codec("srv6_l2" if protocol == TEB else "srv6"), packet) == (protocol, inner)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (arrived(segleft=1), "srv6/segments_left"),
        (arrived(segleft=2), "srv6/segments_left"),
        (arrived(segleft=3), "srv6/malformed"),
        (arrived(lastentry=2), "srv6/malformed"),
        (arrived(lastentry=255), "srv6/malformed"),
        (arrived(IPv6ExtHdrSegmentRoutingTLVHMAC()), "srv6/hmac"),
        (arrived(UNKNOWN_TLV), None),
        (arrived(IPv6ExtHdrSegmentRoutingTLV(type=9, len=200, value=b"any")), "srv6/malformed"),
        (arrived(type=0), "tunnel/unknown_id"),
        (arrived(nh=17), "tunnel/unknown_id"),
        (arrived(nh=PROTO_ETHERNET, inner=Raw(FRAME)), "tunnel/unknown_id"),
        (arrived(inner=Raw(PACKET4[:19])), "srv6/inner_truncated"),
        (arrived(nh=PROTO_IPV6, inner=Raw(PACKET6[:39])), "srv6/inner_truncated"),
    ],
)
def test_what_is_refused(packet: bytes, expected: str | None) -> None:
    """seg6_validate_srh(), decap_and_validate(); unknown TLVs are skipped (RFC 8754 2.1)."""
    assert codec("srv6").pop(packet).reason == expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (arrived(nh=PROTO_ETHERNET, inner=Raw(FRAME), segleft=1), "srv6_l2/segments_left"),
        (arrived(nh=PROTO_ETHERNET, inner=Raw(FRAME[:13])), "srv6_l2/inner_truncated"),
        (arrived(), "tunnel/unknown_id"),
    ],
)
def test_what_is_refused_where_frames_are_expected(packet: bytes, expected: str) -> None:
    assert codec("srv6_l2").pop(packet).reason == expected


def test_segments_are_visited_in_the_order_given() -> None:
    """RFC 8754 4.3.1.1: each segment's node takes one off Segments Left and sends the packet to the entry of that number."""
    packet = bytearray(codec("srv6", segments=SECOND + THIRD).push(PACKET4, IPV4, LOCAL, FIRST))
    visited = [bytes(packet[24:40])]
    while packet[43]:
        packet[43] -= 1
        packet[24:40] = packet[48 + 16 * packet[43] : 64 + 16 * packet[43]]
        visited.append(bytes(packet[24:40]))
    assert visited == [FIRST, SECOND, THIRD]
    assert opened(codec("srv6"), bytes(packet)) == (IPV4, PACKET4)


@pytest.mark.parametrize(("kind", "inner", "protocol"), [("srv6", PACKET4, IPV4), ("srv6_l2", FRAME, TEB)])
def test_what_cannot_be_sent(kind: str, inner: bytes, protocol: int) -> None:
    with pytest.raises(EncapDrop) as caught:
        codec(kind).push(inner, protocol, *ENDS4)
    assert caught.value.reason == f"{kind}/not_over_ipv4"
    with pytest.raises(EncapDrop) as caught:
        codec(kind).push(inner, protocol, LOCAL, FIRST, headroom=23)
    assert caught.value.reason == f"{kind}/no_headroom"


def test_only_ip_packets_go_into_the_device_for_packets() -> None:
    with pytest.raises(EncapDrop) as caught:
        codec("srv6").push(bytes(28), 0x0806, LOCAL, FIRST)
    assert caught.value.reason == "srv6/not_ip"


@pytest.mark.parametrize("value", [bytes(15), bytes(17), bytes(16 * 16)], ids=["15 bytes", "17 bytes", "16 segments"])
def test_segments_that_are_none_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="segments"):
        codec("srv6", segments=value)


def test_cut_and_flipped_headers_are_refused_or_leave_a_packet() -> None:
    body = payload(arrived(UNKNOWN_TLV))
    results = [codec("srv6").pop(packet) for packet in damaged(6, ROUTING, body, 48)]
    assert all(map(is_sound, results))
    refused = {popped.reason for popped in results}
    assert {"srv6/truncated", "srv6/malformed", "srv6/segments_left", "srv6/inner_truncated"} <= refused


@pytest.mark.parametrize("kind", ["srv6", "srv6_l2"])
@given(rest=st.binary(max_size=96), next_header=st.sampled_from([PROTO_IPV4, PROTO_IPV6, PROTO_ETHERNET]), length=st.integers(0, 12))
def test_any_bytes_are_refused_or_sound(kind: str, rest: bytes, next_header: int, length: int) -> None:
    body = bytes([next_header, length, 4]) + rest
    assert is_sound(codec(kind).pop(around(6, ROUTING, body)))
    _, size = encap_describe(kind, ROUTING, body) or ([], 0)
    assert -1 <= size <= len(body)


def test_fields_are_named() -> None:
    codec("srv6")
    body = payload(arrived(UNKNOWN_TLV, segleft=1, tag=7))
    values: dict[str, int | bytes] = {
        "next_header": 4,
        "segments_left": 1,
        "last_entry": 1,
        "flags": 0,
        "tag": 7,
        "segments": ENDS6[1] + FIRST,
    }
    fields: list[tuple[str, str, int | bytes]] = [("srh", name, value) for name, value in values.items()]
    padded = b"\x09\x03any" + bytes.fromhex("040100")
    assert encap_describe("srv6", ROUTING, body) == ([*fields, ("srh", "tlvs", padded)], 48)
    assert encap_describe("srv6", PROTO_IPV4, PACKET4) == ([], 0)
    assert encap_describe("srv6", ROUTING, body[:47]) == ([], -1)


def test_tshark_sees_what_is_inside(tmp_path: Path) -> None:
    packets = [headend(mode, more).push(FRAME, TEB, LOCAL, FIRST) for mode, more in RECORDED6 if mode.startswith("l2")]
    packets += [headend(mode, more).push(PACKET6, IPV6, LOCAL, FIRST) for mode, more in RECORDED6 if not mode.startswith("l2")]
    with_list, without = "ipv6:ipv6.routing", "ipv6"
    lists = [with_list, with_list, without, with_list]
    assert seen_by_tshark(tmp_path / "srv6.pcap", packets) == (
        [f"{start}:eth:ethertype:ip:udp:data" for start in lists] + [f"{start}:ipv6:udp:data" for start in lists]
    )
