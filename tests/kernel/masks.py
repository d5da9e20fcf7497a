"""Which bytes of a frame Linux draws at random, told from two runs of the same frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import wire

Span = tuple[int, int]  # offset, length
IP_TIMESTAMP = 68
REDIRECT_OPTIONS, REDIRECTED_HEADER = 40, 4  # RFC 4861 sections 4.5 and 4.6.3
ETHERNET_TYPES = (b"\x08\0", b"\x86\xdd")
VXLAN_INNER = 16  # the inner frame, from the UDP header on


@dataclass(frozen=True)
class _Packet:
    """Where one IP header and what it carries lie in a frame."""

    version: int
    at: int
    proto: int  # -1: of a fragment that is not the first
    payload: int


def _packet(data: bytes, at: int, *, quoted: bool) -> _Packet | None:
    """The packet at ``at``; None where its headers are not whole or, unless it is a quote, its data are not."""
    if len(data) < at + 20 or data[at] >> 4 not in (4, 6):
        return None
    if data[at] >> 4 == 6:
        return _packet6(data, at, quoted=quoted)
    header, total, fragment = (data[at] & 15) * 4, *struct.unpack_from(">H2xH", data, at + 2)
    if header < 20 or len(data) < at + header or (not quoted and len(data) < at + total):
        return None
    return _Packet(4, at, data[at + 9] if not fragment & 0x1FFF else -1, at + header)


def _packet6(data: bytes, at: int, *, quoted: bool) -> _Packet | None:
    if len(data) < at + 40 or (not quoted and len(data) < at + 40 + int.from_bytes(data[at + 4 : at + 6], "big")):
        return None
    proto, payload = wire.upper_layer(data, at)
    return _Packet(6, at, proto, payload)


@dataclass
class Sent:
    """What frames that were sent in have where nodes put hashes, whose seed is the same in both runs of a boot: what is in no frame
    that was sent in, a node made. Quotes in errors do not count: they may show what a node made."""

    vxlan_port: int
    labels: set[int] = field(default_factory=lambda: {0})
    tunnel_ports: set[int] = field(default_factory=set)

    def note(self, frame: bytes) -> None:
        if frame[12:14] in ETHERNET_TYPES:
            self._note_packet(frame, 14)

    def _note_packet(self, data: bytes, at: int) -> None:
        packet = _packet(data, at, quoted=True)
        if packet is None:
            return
        if packet.version == 6:
            self.labels.add(_label(data, at))
        p = packet.payload
        if packet.proto == wire.UDP and data[p + 2 : p + 4] == struct.pack(">H", self.vxlan_port):
            self.tunnel_ports.add(int.from_bytes(data[p : p + 2], "big"))
            self._note_packet(data, p + VXLAN_INNER + 14)


def _label(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 1 : at + 4], "big") & 0xFFFFF


def random_fields(first: bytes, second: bytes, sent: Sent) -> list[Span]:
    """Spans of a frame seen in two runs that Linux draws at random: the IP ID or flow label of what a node made, the ID of fragments,
    its VXLAN source port, times; and the checksums that follow."""
    if first[12:14] not in ETHERNET_TYPES:
        return []
    return sorted(_random_in_ip(first, second, 14, sent, quoted=False))


def source_port_at(data: bytes) -> int | None:
    """Where the UDP source port of a frame stands; None if it has none."""
    packet = _packet(data, 14, quoted=False) if data[12:14] in ETHERNET_TYPES else None
    return packet.payload if packet is not None and packet.proto == wire.UDP else None


def _random_in_ip(a: bytes, b: bytes, at: int, sent: Sent, *, quoted: bool) -> Iterator[Span]:
    packet = _packet(a, at, quoted=quoted)
    if packet is None or len(b) < packet.payload:
        return
    yield from _random_in_header4(a, b, packet) if packet.version == 4 else _random_in_header6(a, b, packet, sent)
    p = packet.payload
    if packet.proto == wire.UDP and p + 8 <= len(a) and a[p + 2 : p + 4] == struct.pack(">H", sent.vxlan_port):
        if packet.version == 4:
            made_here = a[at + 4 : at + 6] != b[at + 4 : at + 6]
        else:
            made_here = int.from_bytes(a[p : p + 2], "big") not in sent.tunnel_ports
        yield from _random_in_vxlan(a, b, p, sent, made_here=made_here)
    elif (quote := _quote_at(a, packet)) is not None:
        inner = list(_random_in_ip(a, b, quote, sent, quoted=True))
        yield from inner
        if inner:
            yield p + 2, 2


def _quote_at(data: bytes, packet: _Packet) -> int | None:
    """Where the packet stands that an ICMP message is about."""
    p = packet.payload
    if p + 8 > len(data):
        return None
    if packet.version == 4:
        return p + 8 if packet.proto == wire.ICMP and data[p] in wire.ICMP_ERRORS else None
    if packet.proto != wire.ICMP6:
        return None
    if data[p] == wire.REDIRECT:
        return _redirected_header_at(data, p + REDIRECT_OPTIONS)
    return p + 8 if data[p] < 128 else None


def _redirected_header_at(data: bytes, at: int) -> int | None:
    """RFC 4861 section 4.6.3, among the options from ``at`` on."""
    while at + 8 <= len(data) and data[at + 1]:
        if data[at] == REDIRECTED_HEADER:
            return at + 8
        at += data[at + 1] * 8
    return None


def _random_in_header4(a: bytes, b: bytes, packet: _Packet) -> Iterator[Span]:
    at = packet.at
    made_here = a[at + 4 : at + 6] != b[at + 4 : at + 6]
    stamps = list(_timestamps(a, b, packet))
    if made_here:
        yield at + 4, 2
    yield from stamps
    if made_here or stamps:
        yield at + 10, 2


def _random_in_header6(a: bytes, b: bytes, packet: _Packet, sent: Sent) -> Iterator[Span]:
    at = packet.at
    if _label(a, at) not in sent.labels:
        yield at + 1, 3
    for header in wire.extension_headers(a, at):
        if header.kind == wire.FRAGMENT and a[header.at + 4 : header.at + 8] != b[header.at + 4 : header.at + 8]:
            yield header.at + 4, 4


def _random_in_vxlan(a: bytes, b: bytes, p: int, sent: Sent, *, made_here: bool) -> Iterator[Span]:
    inner = []
    if a[p + VXLAN_INNER + 12 : p + VXLAN_INNER + 14] in ETHERNET_TYPES:
        inner = list(_random_in_ip(a, b, p + VXLAN_INNER + 14, sent, quoted=False))
    if made_here:
        yield p, 2
    if (made_here or inner) and a[p + 6 : p + 8] != b"\0\0":
        yield p + 6, 2
    yield from inner


def _timestamps(a: bytes, b: bytes, packet: _Packet) -> Iterator[Span]:
    at, end = packet.at + 20, packet.payload
    while at + 1 < end and a[at] != 0:
        length = 1 if a[at] == 1 else max(2, a[at + 1])
        if a[at] == IP_TIMESTAMP:
            for o in range(at + 4, min(at + length, end) - 3, 4):
                if a[o : o + 4] != b[o : o + 4]:
                    yield o, 4
        at += length
