"""Smallest packets that open a connection, for asking rules about them."""

from __future__ import annotations

import struct

from dataplane.k8s.objects import IPAddress

PROBE_PORT = 40000  # source port: above every port that cases and node ports use
_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_CRC32C = 0x82F63B78  # reflected Castagnoli polynomial (RFC 9260 appendix A)


def opening_packet(src: IPAddress, dst: IPAddress, protocol: str, dport: int) -> bytes:
    """An IP packet from ``src`` to port ``dport`` of ``dst`` with right checksums.

    ``protocol`` is TCP (a SYN, RFC 9293), UDP (no payload, RFC 768) or SCTP (an INIT, RFC 9260). Both
    addresses must be of one family. KeyError: another protocol.
    """
    number = _NUMBERS[protocol]
    payload = {"TCP": _syn, "UDP": _datagram, "SCTP": _init}[protocol](dport)
    pseudo = src.packed + dst.packed + struct.pack("!HH" if src.version == 4 else "!LL", *_pseudo_tail(src.version, number, len(payload)))
    if protocol == "SCTP":
        payload = payload[:8] + struct.pack("<L", _crc32c(payload)) + payload[12:]
    else:
        at = 16 if protocol == "TCP" else 6
        payload = payload[:at] + struct.pack("!H", _checksum(pseudo + payload) or 0xFFFF) + payload[at + 2 :]
    return _ip_header(src, dst, number, len(payload)) + payload


def _pseudo_tail(version: int, number: int, length: int) -> tuple[int, int]:
    return (number, length) if version == 4 else (length, number)


def _syn(dport: int) -> bytes:
    return struct.pack("!HHLLBBHHH", PROBE_PORT, dport, 1, 0, 5 << 4, 0x02, 65535, 0, 0)


def _datagram(dport: int) -> bytes:
    return struct.pack("!HHHH", PROBE_PORT, dport, 8, 0)


def _init(dport: int) -> bytes:
    chunk = struct.pack("!BBHLLHHL", 1, 0, 20, 1, 65535, 1, 1, 1)
    return struct.pack("!HHLL", PROBE_PORT, dport, 0, 0) + chunk


def _ip_header(src: IPAddress, dst: IPAddress, number: int, length: int) -> bytes:
    if src.version == 6:
        return struct.pack("!LHBB", 6 << 28, length, number, 64) + src.packed + dst.packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, number, 0) + src.packed + dst.packed
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC32C if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
