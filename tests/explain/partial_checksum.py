"""What a kernel leaves in the checksum field for its network card to go on with."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import checksum


def pseudo_header_sum(packet: IP | IPv6, transport: TCP | UDP) -> int:
    """Of RFC 9293 3.1 and RFC 8200 8.1, folded and not inverted."""
    length = len(bytes(transport))
    if isinstance(packet, IP):
        header = bytes.fromhex("".join(f"{int(part):02x}" for part in f"{packet.src}.{packet.dst}".split(".")))
        header += bytes((0, packet.proto)) + length.to_bytes(2)
    else:
        header = bytes(packet)[8:40] + length.to_bytes(4) + bytes((0, 0, 0, packet.nh))
    return checksum(header) ^ 0xFFFF
