"""IPv4, IPv6, UDP and ICMP as bytes, for what applications send and receive. All fields are in network byte order.

Received packets are those that the core delivered: it has checked lengths and checksums, so the readers here do not again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.capture.headers import upper_layer
from dataplane.capture.headers_transport import ICMPV6_UNREACHABLE

PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_ICMP6 = 58
TTL = 64  # net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit

ICMP_ECHO_REPLY, ICMP_UNREACHABLE, ICMP_ECHO, ICMP_TIME_EXCEEDED, ICMP_PARAMETER = 0, 3, 8, 11, 12  # RFC 792
ICMP_PORT_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED = 3, 4
ICMP6_UNREACHABLE, ICMP6_TOO_BIG, ICMP6_TIME_EXCEEDED, ICMP6_PARAMETER = 1, 2, 3, 4  # RFC 4443
ICMP6_ECHO, ICMP6_ECHO_REPLY = 128, 129
ICMP6_PORT_UNREACHABLE = 4

_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_UDP_HEADER = struct.Struct("!HHHH")
_ICMP_HEADER = struct.Struct("!BBHHH")
_DONT_FRAGMENT = 0x4000

_UNREACHABLE_WORDS = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    13: "administratively prohibited",
}
_ERROR_WORDS = {ICMP_UNREACHABLE: "unreachable", ICMP_TIME_EXCEEDED: "time exceeded", ICMP_PARAMETER: "parameter problem"}
_ERROR6_WORDS = {
    ICMP6_UNREACHABLE: "unreachable",
    ICMP6_TOO_BIG: "packet too big",
    ICMP6_TIME_EXCEEDED: "time exceeded",
    ICMP6_PARAMETER: "parameter problem",
}


class IpPacket(NamedTuple):
    """An IP packet taken apart; ``payload`` starts at the header of ``proto``."""

    src: bytes
    dst: bytes
    proto: int
    payload: bytes


class Udp(NamedTuple):
    sport: int
    dport: int
    payload: bytes


class Echo(NamedTuple):
    """An echo request or reply of either ICMP."""

    is_reply: bool
    ident: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error and what it quotes of the packet that caused it."""

    source: bytes
    type: int
    code: int
    mtu: int  # of the next hop, in fragmentation needed and packet too big; else 0
    quoted: IpPacket  # its payload is cut, but at least 8 bytes long

    @property
    def is_too_big(self) -> bool:
        if len(self.source) == 4:
            return (self.type, self.code) == (ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED)
        return self.type == ICMP6_TOO_BIG

    @property
    def is_port_unreachable(self) -> bool:
        if len(self.source) == 4:
            return (self.type, self.code) == (ICMP_UNREACHABLE, ICMP_PORT_UNREACHABLE)
        return (self.type, self.code) == (ICMP6_UNREACHABLE, ICMP6_PORT_UNREACHABLE)

    def __str__(self) -> str:
        if len(self.source) == 4:
            details, general = _UNREACHABLE_WORDS if self.type == ICMP_UNREACHABLE else {}, _ERROR_WORDS
        else:
            details, general = ICMPV6_UNREACHABLE if self.type == ICMP6_UNREACHABLE else {}, _ERROR6_WORDS
        words = details.get(self.code) or general[self.type]
        return f"ICMP{'' if len(self.source) == 4 else 'v6'} {words} (type {self.type} code {self.code}) from {ip_address(self.source)}"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) over ``data``, padded with a zero byte if its length is odd."""
    number = int.from_bytes(data, "big") << (8 * (len(data) & 1))
    # 2**16 is 1 modulo 0xffff, so the remainder is the folded one's complement sum, except that a nonzero sum folds to 0xffff, never to 0.
    folded = number % 0xFFFF or (0xFFFF if number else 0)
    return folded ^ 0xFFFF


def pseudo_header(src: bytes, dst: bytes, proto: int, length: int) -> bytes:
    """What a transport checksum covers of the IP header: RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6."""
    return src + dst + (struct.pack("!HH", proto, length) if len(src) == 4 else struct.pack("!II", length, proto))


def ip_packet(
    src: bytes, dst: bytes, proto: int, payload: bytes, *, ident: int = 0, dont_fragment: bool = True, flow_label: int = 0
) -> bytes:
    """An IP packet of the family of ``src`` as a Linux host starts it.

    ``ident`` and ``dont_fragment`` are IPv4's, ``flow_label`` is IPv6's. OverflowError: longer than the family's headers can say.
    """
    if len(src) == 16:
        if len(payload) > 0xFFFF:
            raise OverflowError(f"an IPv6 packet carries at most 65535 bytes, not {len(payload)}")
        return _IPV6_HEADER.pack(6 << 28 | flow_label, len(payload), proto, TTL, src, dst) + payload
    total = _IPV4_HEADER.size + len(payload)
    if total > 0xFFFF:
        raise OverflowError(f"an IPv4 packet has at most 65535 bytes, not {total}")
    flags = _DONT_FRAGMENT if dont_fragment else 0
    header = _IPV4_HEADER.pack(0x45, 0, total, ident, flags, TTL, proto, 0, src, dst)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def udp_datagram(src: bytes, dst: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """UDP header and payload. A sum of zero is sent as 0xffff (RFC 768), for zero means none."""
    length = _UDP_HEADER.size + len(payload)
    covered = pseudo_header(src, dst, PROTO_UDP, length) + _UDP_HEADER.pack(sport, dport, length, 0) + payload
    return _UDP_HEADER.pack(sport, dport, length, checksum(covered) or 0xFFFF) + payload


def echo_request(src: bytes, dst: bytes, ident: int, sequence: int, payload: bytes) -> bytes:
    """ICMP or ICMPv6 echo request; only the latter's checksum covers the addresses."""
    if len(src) == 4:
        kind, covered = ICMP_ECHO, b""
    else:
        kind, covered = ICMP6_ECHO, pseudo_header(src, dst, PROTO_ICMP6, _ICMP_HEADER.size + len(payload))
    total = checksum(covered + _ICMP_HEADER.pack(kind, 0, 0, ident, sequence) + payload)
    return _ICMP_HEADER.pack(kind, 0, total, ident, sequence) + payload


def parse_ip(data: bytes) -> IpPacket | None:
    """The packet's addresses, protocol and payload, or None where the bytes end too early or are a later fragment."""
    if not data:
        return None
    if data[0] >> 4 == 4:
        return _parse_ipv4(data)
    if data[0] >> 4 == 6 and len(data) >= _IPV6_HEADER.size:
        return _parse_ipv6(data)
    return None


def _parse_ipv4(data: bytes) -> IpPacket | None:
    start = (data[0] & 0xF) * 4
    if not _IPV4_HEADER.size <= start <= len(data):
        return None
    _, _, total, _, fragment, _, proto, _, src, dst = _IPV4_HEADER.unpack_from(data)
    if fragment & 0x1FFF:
        return None
    return IpPacket(src, dst, proto, data[start:total])  # after total: Ethernet padding


def _parse_ipv6(data: bytes) -> IpPacket | None:
    """A first fragment counts as a packet, for ICMPv6 errors quote such (Linux: net/ipv6/exthdrs_core.c, ipv6_skip_exthdr)."""
    _, length, _, _, src, dst = _IPV6_HEADER.unpack_from(data)
    end = min(_IPV6_HEADER.size + length, len(data))
    upper = upper_layer(data[:end])
    if upper.start > end:
        return None
    return IpPacket(src, dst, upper.protocol, data[upper.start : end])


def parse_udp(payload: bytes) -> Udp | None:
    if len(payload) < _UDP_HEADER.size:
        return None
    sport, dport, length, _ = _UDP_HEADER.unpack_from(payload)
    return Udp(sport, dport, payload[_UDP_HEADER.size : length])


def parse_echo(packet: IpPacket) -> Echo | None:
    """The echo request or reply in the packet, or None if it is anything else."""
    replies = {ICMP_ECHO: False, ICMP_ECHO_REPLY: True} if packet.proto == PROTO_ICMP else {ICMP6_ECHO: False, ICMP6_ECHO_REPLY: True}
    if packet.proto not in (PROTO_ICMP, PROTO_ICMP6) or len(packet.payload) < _ICMP_HEADER.size:
        return None
    kind, _, _, ident, sequence = _ICMP_HEADER.unpack_from(packet.payload)
    if kind not in replies:
        return None
    return Echo(replies[kind], ident, sequence, packet.payload[_ICMP_HEADER.size :])


def parse_icmp_error(packet: IpPacket) -> IcmpError | None:
    """The ICMP error in the packet, or None if it is anything else or quotes too little to tell whose packet it was."""
    known = {PROTO_ICMP: _ERROR_WORDS, PROTO_ICMP6: _ERROR6_WORDS}.get(packet.proto)
    if known is None or len(packet.payload) < _ICMP_HEADER.size or packet.payload[0] not in known:
        return None
    quoted = parse_ip(packet.payload[_ICMP_HEADER.size :])
    if quoted is None or len(quoted.payload) < 8:
        return None
    kind, code, _, high, low = _ICMP_HEADER.unpack_from(packet.payload)
    error = IcmpError(packet.src, kind, code, 0, quoted)
    if not error.is_too_big:
        return error
    return IcmpError(packet.src, kind, code, low if packet.proto == PROTO_ICMP else high << 16 | low, quoted)
