"""Where the network layer of raw bytes starts and which flow they belong to: a few reads, no dissection."""

from __future__ import annotations

from typing import NamedTuple

_VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
_WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP
_IPV6_FRAGMENT = 44


class FlowKey(NamedTuple):
    """Addresses (4 or 16 bytes), protocol and ports of an IP packet; ports are ``b""`` where it does not show any."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: bytes
    destination_port: bytes
    fragmented: bool


def network_offset(frame: bytes) -> int:
    """Where the network layer of an Ethernet frame starts, behind 802.1Q and 802.1ad tags."""
    offset = 12
    while frame[offset : offset + 2] in _VLAN_TYPES:
        offset += 4
    return offset + 2


def begins_with_ipv4(data: bytes) -> bool:
    """Whether bytes that may lack a link header are an IPv4 packet: version, header length and total length agree."""
    return len(data) >= 20 and data[0] >> 4 == 4 and data[0] & 15 >= 5 and int.from_bytes(data[2:4], "big") == len(data)


def flow_key(packet: bytes) -> FlowKey | None:
    """Of an IPv4 or IPv6 packet; None for anything else, and for one that is cut in its header."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        fragment = int.from_bytes(packet[6:8], "big")
        payload = (packet[0] & 15) * 4 if not fragment & 0x1FFF else len(packet)
        return _key(packet, packet[12:16], packet[16:20], packet[9], payload, bool(fragment & 0x3FFF))
    if version == 6 and len(packet) >= 40:
        return _key(packet, packet[8:24], packet[24:40], packet[6], 40, packet[6] == _IPV6_FRAGMENT)
    return None


def _key(packet: bytes, source: bytes, destination: bytes, protocol: int, payload: int, fragmented: bool) -> FlowKey:
    if protocol not in _WITH_PORTS or len(packet) < payload + 4:
        return FlowKey(source, destination, protocol, b"", b"", fragmented)
    return FlowKey(source, destination, protocol, packet[payload : payload + 2], packet[payload + 2 : payload + 4], fragmented)
