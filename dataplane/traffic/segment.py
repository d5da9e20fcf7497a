"""TCP segments and their options as bytes (RFC 9293, 7323, 2018)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dataplane.traffic.packets import PROTO_TCP, checksum, pseudo_header

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
HEADER_BYTES = 20
TIMESTAMP_BYTES = 12  # two NOPs and the option, as Linux lays it out

_HEADER = struct.Struct("!HHIIBBHHH")
_OPT_END, _OPT_NOP, _OPT_MSS, _OPT_WSCALE, _OPT_SACK_PERMITTED, _OPT_SACK, _OPT_TIMESTAMP = 0, 1, 2, 3, 4, 5, 8
_MOST_WSCALE = 14  # RFC 7323 2.3


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment; options that are absent are None, False or empty."""

    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int  # as in the header, unscaled
    mss: int | None = None
    wscale: int | None = None
    sack_permitted: bool = False
    timestamp: tuple[int, int] | None = None  # value, echo reply
    sack: tuple[tuple[int, int], ...] = ()  # left and right edges
    payload: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of sequence space that it takes."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)


def _options(segment: Segment) -> bytes:
    """Options in the order and with the padding of Linux (net/ipv4/tcp_output.c, tcp_options_write)."""
    parts = []
    if segment.mss is not None:
        parts.append(struct.pack("!BBH", _OPT_MSS, 4, segment.mss))
    if segment.timestamp is not None:
        # A SYN's SACK-permitted takes the place of the two NOPs before the timestamp.
        filler = bytes((_OPT_SACK_PERMITTED, 2)) if segment.sack_permitted else bytes((_OPT_NOP, _OPT_NOP))
        parts.append(filler + struct.pack("!BBII", _OPT_TIMESTAMP, 10, *segment.timestamp))
    elif segment.sack_permitted:
        parts.append(bytes((_OPT_NOP, _OPT_NOP, _OPT_SACK_PERMITTED, 2)))
    if segment.wscale is not None:
        parts.append(bytes((_OPT_NOP, _OPT_WSCALE, 3, segment.wscale)))
    if segment.sack:
        edges = b"".join(struct.pack("!II", left, right) for left, right in segment.sack)
        parts.append(bytes((_OPT_NOP, _OPT_NOP, _OPT_SACK, 2 + len(edges))) + edges)
    return b"".join(parts)


def build_segment(src: bytes, dst: bytes, segment: Segment) -> bytes:
    """The segment as the payload of an IP packet between these addresses, with its checksum."""
    options = _options(segment)
    offset = (HEADER_BYTES + len(options)) // 4 << 4
    header = _HEADER.pack(segment.sport, segment.dport, segment.seq, segment.ack, offset, segment.flags, segment.window, 0, 0)
    rest = options + segment.payload
    total = checksum(pseudo_header(src, dst, PROTO_TCP, len(header) + len(rest)) + header + rest)
    return header[:16] + total.to_bytes(2, "big") + header[18:] + rest


def parse_segment(data: bytes) -> Segment | None:
    """The TCP segment in an IP packet's payload, or None if it ends before its header does.

    Options are read until one makes no sense, as Linux does (net/ipv4/tcp_input.c, tcp_parse_options).
    """
    if len(data) < HEADER_BYTES:
        return None
    sport, dport, seq, ack, offset, flags, window, _, _ = _HEADER.unpack_from(data)
    start = (offset >> 4) * 4
    if not HEADER_BYTES <= start <= len(data):
        return None
    options = _split_options(data[HEADER_BYTES:start])
    mss, wscale, stamp, sack = (options.get(kind) for kind in (_OPT_MSS, _OPT_WSCALE, _OPT_TIMESTAMP, _OPT_SACK))
    return Segment(
        sport,
        dport,
        seq,
        ack,
        flags,
        window,
        mss=int.from_bytes(mss, "big") if mss is not None and len(mss) == 2 else None,
        wscale=min(wscale[0], _MOST_WSCALE) if wscale is not None and len(wscale) == 1 else None,
        sack_permitted=options.get(_OPT_SACK_PERMITTED) == b"",
        timestamp=struct.unpack("!II", stamp) if stamp is not None and len(stamp) == 8 else None,
        sack=tuple(struct.iter_unpack("!II", sack)) if sack and len(sack) % 8 == 0 else (),
        payload=data[start:],
    )


def _split_options(data: bytes) -> dict[int, bytes]:
    """Kind to value of each option."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _OPT_END:
        if data[at] == _OPT_NOP:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            break
        found[data[at]] = data[at + 2 : at + length]
        at += length
    return found
