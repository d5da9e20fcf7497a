"""Frames from fields, right or deliberately wrong. Numbers in host order, addresses as text, everything else bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import pairwise
from socket import inet_aton, inet_ntoa

ICMP, IGMP, TCP, UDP, GRE, ESP, SCTP, UDPLITE, ICMP6 = 1, 2, 6, 17, 47, 50, 132, 136, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NO_NEXT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 51, 59, 60
ICMP_ERRORS = (3, 4, 5, 11, 12)
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = 133, 134, 135, 136, 137
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
ARP_TYPE, IP_TYPE, IP6_TYPE, VLAN_TYPE = 0x0806, 0x0800, 0x86DD, 0x8100
BROADCAST = "ff:ff:ff:ff:ff:ff"
DF, MF, RESERVED = 0x4000, 0x2000, 0x8000


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def filler(length: int, seed: int) -> bytes:
    """Payload bytes in which a shift or a cut shows."""
    return bytes((seed + 7 * i) & 0xFF for i in range(length))


def ethernet(target: str, source: str, payload: bytes, kind: int = IP_TYPE) -> bytes:
    return mac(target) + mac(source) + struct.pack(">H", kind) + payload


def with_vlan(frame: bytes, tci: int, tpid: int = VLAN_TYPE) -> bytes:
    return frame[:12] + struct.pack(">HH", tpid, tci) + frame[12:]


def arp(op: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    return struct.pack(">HHBBH", 1, IP_TYPE, 6, 4, op) + mac(sender_mac) + inet_aton(sender) + mac(target_mac) + inet_aton(target)


@dataclass(frozen=True)
class Ip:
    """An IPv4 packet; None: as it should be."""

    source: str
    target: str
    proto: int
    payload: bytes
    ttl: int = 64
    tos: int = 0
    ident: int = 0
    fragment: int = 0  # flags and offset
    options: bytes = b""
    version: int = 4
    words: int | None = None  # IHL
    total: int | None = None
    check: int | None = None

    def build(self) -> bytes:
        options = self.options + b"\0" * (-len(self.options) % 4)
        words = 5 + len(options) // 4 if self.words is None else self.words
        total = 20 + len(options) + len(self.payload) if self.total is None else self.total
        head = (
            struct.pack(
                ">BBHHHBBH4s4s",
                self.version << 4 | words,
                self.tos,
                total & 0xFFFF,
                self.ident,
                self.fragment,
                self.ttl,
                self.proto,
                0,
                inet_aton(self.source),
                inet_aton(self.target),
            )
            + options
        )
        check = checksum(head) if self.check is None else self.check
        return head[:10] + struct.pack(">H", check) + head[12:] + self.payload

    def fragments(self, cuts: list[int]) -> list[Ip]:
        """The packet cut at these payload offsets (multiples of 8; the ends are added)."""
        edges = [0, *cuts, len(self.payload)]
        return [self.piece(a, b, more=b < len(self.payload)) for a, b in pairwise(edges)]

    def piece(self, start: int, end: int, *, more: bool) -> Ip:
        return replace(
            self, payload=self.payload[start:end], fragment=(self.fragment & (DF | RESERVED)) | (MF if more else 0) | (start // 8 & 0x1FFF)
        )


@dataclass(frozen=True)
class Ip6:
    """An IPv6 packet; ``proto`` is what follows the last of its extension headers."""

    source: str
    target: str
    proto: int
    payload: bytes
    ttl: int = 64  # hop limit
    tos: int = 0  # traffic class
    label: int = 0
    ident: int = 0  # of its fragments
    extensions: tuple[tuple[int, bytes], ...] = ()  # number and bytes, of which the first says what follows
    version: int = 6
    length: int | None = None
    first: int | None = None  # next header of the fixed header, where it is not the first extension's

    def build(self) -> bytes:
        body = chained(self.extensions, self.proto) + self.payload
        first = self.first if self.first is not None else self.extensions[0][0] if self.extensions else self.proto
        length = len(body) if self.length is None else self.length
        word = self.version << 28 | self.tos << 20 | self.label
        head = struct.pack(">IHBB", word, length & 0xFFFF, first, self.ttl)
        return head + packed(self.source) + packed(self.target) + body

    def fragments(self, cuts: list[int]) -> list[Ip6]:
        """The packet cut at these payload offsets (multiples of 8; the ends are added)."""
        edges = [0, *cuts, len(self.payload)]
        return [self.piece(a, b, more=b < len(self.payload)) for a, b in pairwise(edges)]

    def piece(self, start: int, end: int, *, more: bool) -> Ip6:
        header = struct.pack(">BBHI", 0, 0, (start & 0xFFF8) | more, self.ident)
        return replace(self, payload=self.payload[start:end], extensions=(*self.extensions, (FRAGMENT, header)))

    def folded(self) -> Ip6:
        """The same packet, its extension headers part of what fragments carry."""
        if not self.extensions:
            return self
        return replace(self, proto=self.extensions[0][0], payload=chained(self.extensions, self.proto) + self.payload, extensions=())


def chained(extensions: Sequence[tuple[int, bytes]], proto: int) -> bytes:
    """Extension headers one after the other, each with the number of the next in its first byte."""
    numbers = [*(number for number, _ in extensions), proto][1:]
    return b"".join(bytes([follows]) + body[1:] for follows, (_, body) in zip(numbers, extensions, strict=True))


def packed(address: str) -> bytes:
    """An address of either family in network order."""
    return ip_address(address).packed


def pseudo(source: str, target: str, proto: int, length: int) -> bytes:
    """What a checksum covers besides the segment (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    ends = packed(source) + packed(target)
    return ends + struct.pack(">BBH", 0, proto, length) if len(ends) == 8 else ends + struct.pack(">IHBB", length, 0, 0, proto)


def udp(source: str, target: str, sport: int, dport: int, payload: bytes, *, length: int | None = None, check: int | None = None) -> bytes:
    length = 8 + len(payload) if length is None else length
    head = struct.pack(">HHHH", sport, dport, length, 0)
    if check is None:
        check = checksum(pseudo(source, target, UDP, length) + head + payload) or 0xFFFF
    return head[:6] + struct.pack(">H", check) + payload


@dataclass(frozen=True)
class Tcp:
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    payload: bytes = b""
    window: int = 64240
    options: bytes = b""
    words: int | None = None  # data offset
    urgent: int = 0
    check_error: int = 0

    def build(self, source: str, target: str) -> bytes:
        options = self.options + b"\x01" * (-len(self.options) % 4)
        words = 5 + len(options) // 4 if self.words is None else self.words
        head = (
            struct.pack(
                ">HHIIBBHHH",
                self.sport,
                self.dport,
                self.seq & 0xFFFFFFFF,
                self.ack & 0xFFFFFFFF,
                words << 4 & 0xFF,
                self.flags,
                self.window,
                0,
                self.urgent,
            )
            + options
        )
        check = checksum(pseudo(source, target, TCP, len(head) + len(self.payload)) + head + self.payload) ^ self.check_error
        return head[:16] + struct.pack(">H", check) + head[18:] + self.payload


def icmp(kind: int, code: int, rest: bytes, payload: bytes = b"", *, check_error: int = 0) -> bytes:
    """``rest``: the four bytes after the checksum."""
    body = struct.pack(">BBH", kind, code, 0) + rest + payload
    return body[:2] + struct.pack(">H", checksum(body) ^ check_error) + body[4:]


def icmp6(source: str, target: str, kind: int, code: int, rest: bytes, payload: bytes = b"", *, check_error: int = 0) -> bytes:
    """``rest``: the four bytes after the checksum."""
    body = struct.pack(">BBH", kind, code, 0) + rest + payload
    check = checksum(pseudo(source, target, ICMP6, len(body)) + body) ^ check_error
    return body[:2] + struct.pack(">H", check) + body[4:]


def vxlan(flags: int, reserved: int, vni: int, last: int, inner: bytes) -> bytes:
    return bytes([flags]) + reserved.to_bytes(3, "big") + vni.to_bytes(3, "big") + bytes([last]) + inner


@dataclass(frozen=True)
class Extension:
    """Where an extension header of an IPv6 packet stands."""

    kind: int
    at: int
    length: int


def extension_headers(data: bytes, at: int) -> Iterator[Extension]:
    """Those of the IPv6 packet at ``at``, up to the first that is not whole, or to a fragment header of a later fragment."""
    kind, at = data[at + 6], at + 40
    while kind in (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS) and len(data) >= at + 8:
        length = 8 if kind == FRAGMENT else (data[at + 1] + 2) * 4 if kind == AUTHENTICATION else (data[at + 1] + 1) * 8
        if len(data) < at + length:
            return
        yield Extension(kind, at, length)
        if kind == FRAGMENT and int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF8:
            return
        kind, at = data[at], at + length


def upper_layer(data: bytes, at: int) -> tuple[int, int]:
    """Protocol and offset of what the IPv6 packet at ``at`` carries after its extension headers; -1 in a later fragment."""
    proto, end = data[at + 6], at + 40
    for header in extension_headers(data, at):
        proto, end = data[header.at], header.at + header.length
        if header.kind == FRAGMENT and int.from_bytes(data[header.at + 2 : header.at + 4], "big") & 0xFFF8:
            proto = -1
    return proto, end


@dataclass(frozen=True)
class Parsed:
    """A well-formed IP packet in an Ethernet frame."""

    source: str
    target: str
    proto: int
    tos: int
    fragmented: bool
    packet: bytes  # the IP packet without padding
    payload: bytes

    @property
    def version(self) -> int:
        return self.packet[0] >> 4

    @property
    def ports(self) -> tuple[int, int]:
        sport, dport = struct.unpack_from(">HH", self.payload)
        return sport, dport


def parse(frame: bytes) -> Parsed | None:
    """None for anything but a whole IP packet."""
    if frame[12:14] == b"\x86\xdd":
        return _parse6(frame)
    if len(frame) < 34 or frame[12:14] != b"\x08\0" or frame[14] >> 4 != 4:
        return None
    header, total = (frame[14] & 15) * 4, int.from_bytes(frame[16:18], "big")
    if header < 20 or total < header or len(frame) < 14 + total:
        return None
    packet = frame[14 : 14 + total]
    fragmented = bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
    return Parsed(inet_ntoa(packet[12:16]), inet_ntoa(packet[16:20]), packet[9], packet[1], fragmented, packet, packet[header:])


def _parse6(frame: bytes) -> Parsed | None:
    total = 40 + int.from_bytes(frame[18:20], "big")
    if len(frame) < 54 or frame[14] >> 4 != 6 or len(frame) < 14 + total:
        return None
    packet = frame[14 : 14 + total]
    proto, at = upper_layer(packet, 0)
    fragmented = any(h.kind == FRAGMENT and packet[h.at + 2 : h.at + 4] != b"\0\0" for h in extension_headers(packet, 0))
    tos = int.from_bytes(packet[:2], "big") >> 4 & 0xFF
    return Parsed(str(ip_address(packet[8:24])), str(ip_address(packet[24:40])), proto, tos, fragmented, packet, packet[at:])
