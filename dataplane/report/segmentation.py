"""Captures of a sender whose network card cuts its TCP segments (TCP segmentation offload): what is seen there was not cut yet.

The wire and all that receives have the segments; only the sender's own interface shows what they were cut from, which may be
longer than its MTU, with a checksum that the card has still to finish (net/ipv4/tcp_offload.c, tcp_gso_segment()).
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

from dataplane.capture.pcapng_write import TC_ACT_SHOT, Record
from dataplane.encap.mtu import ETHERNET_HEADER
from dataplane.traffic.packets import PROTO_TCP, checksum, pseudo_header

LONGEST = 65535  # bytes of an IP packet
_SYN_RST_URG, _PSH_FIN = 0x26, 0x09


class Segment(NamedTuple):
    """A TCP segment of a frame, by its places in it."""

    record: Record
    source: bytes
    tcp: int  # where the TCP header begins
    payload: int
    sequence: int
    like: tuple[bytes, ...]  # what segments cut from one packet have in common

    @property
    def data(self) -> bytes:
        return self.record.data[self.payload :]


def before_segmentation(records: Iterable[Record], own: Mapping[int, Container[bytes]]) -> list[Record]:
    """The records with each run of segments that were sent at one instant put together again, at the place of the first.

    ``own``: by interface number, the addresses of whoever sends there; other interfaces stay as they are.
    """
    found: list[Record] = []
    runs: dict[int, tuple[int, list[Segment]]] = {}  # by interface: the place of the first, and all of them
    for record in records:
        segment = _segment(record) if record.outgoing and record.interface in own else None
        if segment is not None and segment.source not in own[record.interface]:
            segment = None
        place, run = runs.get(record.interface, (0, []))
        if segment is not None and run and _continues(run, segment):
            run.append(segment)
            found[place] = _joined(run)
            continue
        runs[record.interface] = (len(found), [segment] if segment is not None else [])
        found.append(record)
    return found


def _segment(record: Record) -> Segment | None:
    """None: no TCP segment with data, one that was dropped, or one of those that are never cut (SYN, RST, URG)."""
    constant: tuple[bytes, ...]
    data, ip = record.data, ETHERNET_HEADER
    if record.verdict == TC_ACT_SHOT or len(data) < ip + 20:
        return None
    kind, version = data[12:14], data[ip] >> 4
    if (kind, version) == (b"\x08\x00", 4):
        tcp, end = ip + 4 * (data[ip] & 15), ip + int.from_bytes(data[ip + 2 : ip + 4], "big")
        protocol, source, fragment = data[ip + 9], data[ip + 12 : ip + 16], data[ip + 6] & 0x3F or data[ip + 7]
        constant = (data[:ip], data[ip : ip + 2], data[ip + 6 : ip + 10], data[ip + 12 : tcp])
    elif (kind, version) == (b"\x86\xdd", 6) and len(data) >= ip + 40:
        tcp, end = ip + 40, ip + 40 + int.from_bytes(data[ip + 4 : ip + 6], "big")
        protocol, source, fragment = data[ip + 6], data[ip + 8 : ip + 24], 0
        constant = (data[:ip], data[ip : ip + 4], data[ip + 6 : tcp])
    else:
        return None
    if protocol != PROTO_TCP or fragment or end != len(data) or end < tcp + 20:
        return None
    payload = tcp + 4 * (data[tcp + 12] >> 4)
    if not tcp + 20 <= payload < end or data[tcp + 13] & _SYN_RST_URG:
        return None
    like = (*constant, data[tcp : tcp + 4], data[tcp + 8 : tcp + 13], data[tcp + 14 : tcp + 16], data[tcp + 20 : payload])
    return Segment(record, source, tcp, payload, int.from_bytes(data[tcp + 4 : tcp + 8], "big"), like)


def _continues(run: list[Segment], new: Segment) -> bool:
    """Only the last segment of a packet is shorter than the others, and says PSH or FIN."""
    first, last = run[0], run[-1]
    if new.record.time_ns != first.record.time_ns or new.like != first.like or len(new.data) > len(first.data):
        return False
    if len(last.data) != len(first.data) or last.record.data[last.tcp + 13] & _PSH_FIN:
        return False
    whole = len(first.record.data) - ETHERNET_HEADER + sum(len(segment.data) for segment in run[1:]) + len(new.data)
    return new.sequence == (last.sequence + len(last.data)) & 0xFFFFFFFF and whole <= LONGEST


def _joined(run: list[Segment]) -> Record:
    """The packet before it was cut: flags of the last segment too, and a checksum that has only the pseudo header's sum."""
    first, ip = run[0], ETHERNET_HEADER
    frame = bytearray(first.record.data + b"".join(segment.data for segment in run[1:]))
    for segment in run[1:]:
        frame[first.tcp + 13] |= segment.record.data[segment.tcp + 13]
    length = len(frame) - first.tcp
    if frame[ip] >> 4 == 4:
        struct.pack_into("!H", frame, ip + 2, len(frame) - ip)
        frame[ip + 10 : ip + 12] = bytes(2)
        struct.pack_into("!H", frame, ip + 10, checksum(bytes(frame[ip : first.tcp])))
        addresses = bytes(frame[ip + 12 : ip + 16]), bytes(frame[ip + 16 : ip + 20])
    else:
        struct.pack_into("!H", frame, ip + 4, length)
        addresses = bytes(frame[ip + 8 : ip + 24]), bytes(frame[ip + 24 : ip + 40])
    struct.pack_into("!H", frame, first.tcp + 16, checksum(pseudo_header(*addresses, PROTO_TCP, length)) ^ 0xFFFF)
    comments = dict.fromkeys(comment for segment in run for comment in segment.record.comments)
    return first.record._replace(data=bytes(frame), comments=tuple(comments))
