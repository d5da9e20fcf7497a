"""The packet that a trace sends, and what an application answers to it. All bytes are in network byte order."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dataplane.errors import InputError
from dataplane.traffic import packets
from dataplane.traffic.segment import ACK, SYN, Segment, build_segment, parse_segment

PROTO_SCTP = 132
_NUMBERS = {"tcp": packets.PROTO_TCP, "udp": packets.PROTO_UDP, "sctp": PROTO_SCTP}
ECHO_IDENT = 1
_WINDOW = 64240
_SCTP_INIT, _SCTP_INIT_ACK, _SCTP_STATE_COOKIE = 1, 2, 7  # RFC 9260 3.2, 3.3.3
_TTL_AT, _HOP_LIMIT_AT, _IPV4_CHECKSUM_AT = 8, 7, 10


@dataclass(frozen=True, slots=True)
class Shape:
    """What a probe looks like beside its addresses."""

    protocol: str  # tcp udp sctp icmp, which over IPv6 is ICMPv6
    sport: int
    dport: int  # 0 for icmp
    ttl: int = packets.TTL  # or hop limit
    size: int = 0  # bytes of the whole IP packet; 0: no longer than it has to be


def protocol_number(protocol: str, family: int) -> int:
    """The IP protocol of tcp, udp, sctp or icmp over IP version ``family``."""
    if protocol == "icmp":
        return packets.PROTO_ICMP if family == 4 else packets.PROTO_ICMP6
    return _NUMBERS[protocol]


def build_probe(src: bytes, dst: bytes, shape: Shape) -> bytes:
    """A TCP SYN, UDP datagram, ICMP or ICMPv6 echo request or SCTP INIT with valid checksums, in IPv4 with DF set.

    InputError: ``shape.size`` is less than the headers take, or more than an IP packet can have.
    """
    bare = _with_payload(src, dst, shape, b"")
    if shape.size and not len(bare) <= shape.size <= 0xFFFF:
        raise InputError(f"a {shape.protocol} probe has {len(bare)} to 65535 bytes, not {shape.size}: give another --size")
    packet = _with_payload(src, dst, shape, bytes(shape.size - len(bare))) if shape.size > len(bare) else bare
    return _with_ttl(packet, shape.ttl)


def _with_payload(src: bytes, dst: bytes, shape: Shape, payload: bytes) -> bytes:
    proto = protocol_number(shape.protocol, 4 if len(src) == 4 else 6)
    if shape.protocol == "tcp":
        body = build_segment(src, dst, Segment(shape.sport, shape.dport, 1, 0, SYN, _WINDOW, payload=payload))
    elif shape.protocol == "udp":
        body = packets.udp_datagram(src, dst, shape.sport, shape.dport, payload)
    elif shape.protocol == "sctp":
        body = _sctp(shape.sport, shape.dport, 0, _sctp_chunk(_SCTP_INIT, b""), payload)
    else:
        body = packets.echo_request(src, dst, ECHO_IDENT, 1, payload)
    return packets.ip_packet(src, dst, proto, body)


def _with_ttl(packet: bytes, ttl: int) -> bytes:
    if packet[0] >> 4 == 6:
        return packet[:_HOP_LIMIT_AT] + bytes((ttl,)) + packet[_HOP_LIMIT_AT + 1 :]
    header = packet[:_TTL_AT] + bytes((ttl, packet[_TTL_AT + 1], 0, 0)) + packet[_IPV4_CHECKSUM_AT + 2 : 20]
    return header[:_IPV4_CHECKSUM_AT] + packets.checksum(header).to_bytes(2, "big") + header[_IPV4_CHECKSUM_AT + 2 :] + packet[20:]


def answer_to(packet: bytes) -> bytes | None:
    """What a listening application's host sends back: SYN-ACK, a datagram with the same payload, INIT ACK; None if nothing."""
    got = packets.parse_ip(packet)
    if got is None:
        return None
    body: bytes | None = None
    if got.proto == packets.PROTO_TCP:
        body = _syn_ack(got)
    elif got.proto == packets.PROTO_UDP:
        datagram = packets.parse_udp(got.payload)
        body = datagram and packets.udp_datagram(got.dst, got.src, datagram.dport, datagram.sport, datagram.payload)
    elif got.proto == PROTO_SCTP:
        sport, dport = struct.unpack_from("!HH", got.payload)
        tag = struct.unpack_from("!I", got.payload, 16)[0]  # the INIT's initiate tag
        body = _sctp(dport, sport, tag, _sctp_chunk(_SCTP_INIT_ACK, struct.pack("!HHI", _SCTP_STATE_COOKIE, 8, 1)), b"")
    return packets.ip_packet(got.dst, got.src, got.proto, body) if body else None


def _syn_ack(got: packets.IpPacket) -> bytes | None:
    segment = parse_segment(got.payload)
    if segment is None or segment.flags & (SYN | ACK) != SYN:
        return None
    reply = Segment(segment.dport, segment.sport, 1, segment.seq + segment.length, SYN | ACK, _WINDOW)
    return build_segment(got.dst, got.src, reply)


# ---- SCTP (RFC 9260)


def _sctp_chunk(kind: int, parameters: bytes) -> bytes:
    """INIT or INIT ACK: initiate tag, window, one stream each way, initial TSN."""
    body = struct.pack("!IIHHI", 1, 0xFFFF, 1, 1, 1) + parameters
    return struct.pack("!BBH", kind, 0, 4 + len(body)) + body


def _sctp(sport: int, dport: int, tag: int, chunk: bytes, padding: bytes) -> bytes:
    rest = chunk + _padding_parameter(padding)
    if padding:
        rest = chunk[:2] + struct.pack("!H", len(rest)) + rest[4:]
    head = struct.pack("!HHI", sport, dport, tag)
    return head + crc32c(head + bytes(4) + rest).to_bytes(4, "little") + rest


def _padding_parameter(data: bytes) -> bytes:
    """RFC 4820 4: type 0x8005, which the receiver ignores."""
    if not data:
        return b""
    size = max(len(data) & ~3, 4)
    return struct.pack("!HH", 0x8005, size) + bytes(size - 4)


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260 appendix A), sent with its lowest byte first."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
