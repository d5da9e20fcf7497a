"""Packets that applications build and read, against Scapy's."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from dataplane.traffic.message import Body, Header, parse_header
from dataplane.traffic.packets import (
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_TCP,
    PROTO_UDP,
    echo_request,
    ip_packet,
    parse_echo,
    parse_icmp_error,
    parse_ip,
    parse_udp,
    udp_datagram,
)
from dataplane.traffic.segment import Segment, build_segment, parse_segment
from traffic.fake_core import check_packet

PAIRS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
ports = st.integers(0, 65535)
words = st.integers(0, 2**32 - 1)
payloads = st.binary(max_size=200) | st.sampled_from([b"\0" * 7, b"\xff" * 8, b"\xff" * 9])


def packed(family: int) -> tuple[bytes, bytes]:
    src, dst = PAIRS[family]
    return ip_address(src).packed, ip_address(dst).packed


def scapy_ip(family: int, ident: int = 0) -> Packet:
    src, dst = PAIRS[family]
    return IP(src=src, dst=dst, id=ident, flags="DF") if family == 4 else IPv6(src=src, dst=dst)


@pytest.mark.parametrize("family", [4, 6])
@given(ports, ports, payloads, ports)
def test_udp_is_scapys(family: int, sport: int, dport: int, payload: bytes, ident: int) -> None:
    src, dst = packed(family)
    built = ip_packet(src, dst, PROTO_UDP, udp_datagram(src, dst, sport, dport, payload), ident=ident)
    check_packet(built)
    assert built == bytes(scapy_ip(family, ident) / UDP(sport=sport, dport=dport) / Raw(payload))


def test_udp_sum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: a transmitted zero would mean that there is no checksum."""
    src, dst = packed(4)
    bare = udp_datagram(src, dst, 1, 2, b"\0\0")
    payload = bare[6:8]  # adding the checksum itself makes the sum come out as zero
    assert udp_datagram(src, dst, 1, 2, payload)[6:8] == b"\xff\xff"


@given(ports, ports, payloads)
def test_echo_requests_are_scapys(ident: int, sequence: int, payload: bytes) -> None:
    src, dst = packed(4)
    built = ip_packet(src, dst, PROTO_ICMP, echo_request(src, dst, ident, sequence, payload))
    assert built == bytes(scapy_ip(4) / ICMP(type=8, id=ident, seq=sequence) / Raw(payload))
    src, dst = packed(6)
    built = ip_packet(src, dst, PROTO_ICMP6, echo_request(src, dst, ident, sequence, payload))
    assert built == bytes(scapy_ip(6) / ICMPv6EchoRequest(id=ident, seq=sequence, data=payload))
    packet = parse_ip(built)
    assert packet is not None
    assert parse_echo(packet) == (False, ident, sequence, payload)


segments = st.builds(
    Segment,
    sport=ports,
    dport=ports,
    seq=words,
    ack=words,
    flags=st.integers(0, 0xFF),
    window=ports,
    mss=st.none() | ports,
    wscale=st.none() | st.integers(0, 14),
    sack_permitted=st.booleans(),
    timestamp=st.none() | st.tuples(words, words),
    payload=payloads,
)


@pytest.mark.parametrize("family", [4, 6])
@given(segment=segments)
def test_segments_are_valid_and_read_back(family: int, segment: Segment) -> None:
    src, dst = packed(family)
    built = ip_packet(src, dst, PROTO_TCP, build_segment(src, dst, segment))
    check_packet(built)
    packet = parse_ip(built)
    assert packet is not None
    assert parse_segment(packet.payload) == segment


def test_options_have_the_layout_that_linux_sends() -> None:
    src, dst = packed(4)
    syn = Segment(1000, 80, 7, 0, 0x02, 64240, mss=1460, wscale=7, sack_permitted=True, timestamp=(5, 0))
    data = Segment(1000, 80, 8, 9, 0x10, 502, timestamp=(5, 6), sack=((100, 200), (300, 400)))
    assert build_segment(src, dst, syn)[20:].hex() == "020405b4" + "0402080a0000000500000000" + "01030307"
    assert build_segment(src, dst, data)[20:].hex() == "0101080a0000000500000006" + "0101" + "0512" + "00000064000000c80000012c00000190"


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    packet = parse_ip(data)
    for parse in (parse_segment, parse_udp, parse_header):
        parse(data)
    if packet is not None:
        assert len(packet.payload) <= len(data)
        parse_icmp_error(packet)
        parse_echo(packet)


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(5, 15))
def test_any_options_are_read_without_harm(options: bytes, offset: int) -> None:
    header = bytearray(20)
    header[12] = offset << 4
    segment = parse_segment(bytes(header) + options)
    assert segment is None or len(segment.payload) == 20 + len(options) - 4 * offset


def test_extension_headers_are_passed_over() -> None:
    extended = scapy_ip(6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6) / Raw(b"x")
    packet = parse_ip(bytes(extended))
    assert packet is not None
    assert packet.proto == PROTO_UDP
    assert parse_udp(packet.payload) == (5, 6, b"x")


def test_of_fragments_only_a_first_one_shows_its_transport() -> None:
    """ICMPv6 errors quote first fragments, and an atomic fragment is a packet of its own (RFC 8200 4.5, RFC 6946)."""
    datagram = UDP(sport=5, dport=6, chksum=1) / Raw(b"12345678")
    first = parse_ip(bytes(scapy_ip(6) / IPv6ExtHdrFragment(m=1, id=9) / datagram))
    atomic = parse_ip(bytes(scapy_ip(6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(id=9) / datagram))
    for packet in (first, atomic):
        assert packet is not None
        assert (packet.proto, packet.payload) == (PROTO_UDP, bytes(datagram))
    assert parse_ip(bytes(scapy_ip(6) / IPv6ExtHdrFragment(offset=2, nh=17, id=9) / Raw(b"12345678"))) is None


def test_ethernet_padding_is_no_payload() -> None:
    packet = parse_ip(bytes(scapy_ip(4) / UDP(sport=5, dport=6) / Raw(b"x")) + b"\0" * 17)
    assert packet is not None
    assert parse_udp(packet.payload) == (5, 6, b"x")


def test_errors_tell_what_they_quote() -> None:
    quoted = IPerror(bytes(scapy_ip(4) / TCP(sport=40000, dport=80, seq=77))[:28])
    packet = parse_ip(bytes(IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=3, code=4, nexthopmtu=1400) / quoted))
    assert packet is not None
    error = parse_icmp_error(packet)
    assert error is not None
    assert (error.is_too_big, error.is_port_unreachable, error.mtu) == (True, False, 1400)
    assert (error.quoted.dst, error.quoted.proto) == (ip_address("10.0.0.2").packed, 6)
    assert error.quoted.payload[:4].hex() == "9c400050"
    assert str(error) == "ICMP fragmentation needed (type 3 code 4) from 10.0.0.9"


def test_packet_too_big_tells_the_mtu_and_the_segment_behind_its_extension_headers() -> None:
    quoted = bytes(scapy_ip(6) / IPv6ExtHdrDestOpt() / TCP(sport=40000, dport=80, seq=77) / Raw(bytes(1300)))[:1232]
    packet = parse_ip(bytes(IPv6(src="fd00::9", dst="fd00::1") / ICMPv6PacketTooBig(mtu=70000) / Raw(quoted)))
    assert packet is not None
    error = parse_icmp_error(packet)
    assert error is not None
    assert (error.is_too_big, error.is_port_unreachable, error.mtu) == (True, False, 70000)
    assert (error.quoted.dst, error.quoted.proto) == (ip_address("fd00::2").packed, PROTO_TCP)
    assert error.quoted.payload[:4].hex() == "9c400050"
    assert str(error) == "ICMPv6 packet too big (type 2 code 0) from fd00::9"


def test_echo_inside_an_error_is_no_answer() -> None:
    quoted = bytes(scapy_ip(4) / ICMP(type=8, id=1, seq=2))
    packet = parse_ip(bytes(IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=11, code=0) / ICMPerror(quoted)))
    assert packet is not None
    assert parse_echo(packet) is None


@given(words, words, words, words, st.binary(max_size=40))
def test_message_headers_read_back(flow: int, sequence: int, request: int, response: int, rest: bytes) -> None:
    header = Header(flow, sequence, request, response)
    assert parse_header(header.pack() + rest) == header


@given(st.binary(max_size=16), st.integers(0, 200_000), st.integers(0, 200_000), st.integers(0, 65_535))
def test_slices_of_a_body_make_the_body(head: bytes, length: int, start: int, size: int) -> None:
    whole = (head + bytes(index & 0xFF for index in range(len(head), length)))[:length]
    assert Body(head, length).slice(start, start + size) == whole[start : start + size]
