"""Where the layers of raw bytes start and which flow they belong to: a few reads, no dissection."""

from __future__ import annotations

from typing import NamedTuple

_VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
_WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP
_IPV4_HEADER, _IPV6_HEADER = 20, 40
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION)
_LEAST_EXTENSION = 8


class UpperLayer(NamedTuple):
    """What follows the extension headers of an IPv6 packet."""

    protocol: int
    start: int  # of its header; at or behind the end of the bytes where there is none
    fragmented: bool  # a fragment header says that there is more than this packet (RFC 8200 4.5)
    routed: bool  # a routing header has segments left: the destination is not yet the one that checksums cover


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


def bare_ip_version(data: bytes) -> int:
    """4 or 6 for bytes that are an IP packet without link header, else 0: version and lengths agree."""
    if len(data) >= _IPV4_HEADER and data[0] >> 4 == 4 and data[0] & 15 >= 5 and int.from_bytes(data[2:4], "big") == len(data):
        return 4
    if len(data) >= _IPV6_HEADER and data[0] >> 4 == 6 and int.from_bytes(data[4:6], "big") + _IPV6_HEADER == len(data):
        return 6
    return 0


def upper_layer(data: bytes, at: int = 0) -> UpperLayer:
    """Walk the extension headers of the IPv6 packet whose header, all 40 bytes of it, begins at ``at``."""
    protocol, start = data[at + 6], at + _IPV6_HEADER
    fragmented = routed = False
    while protocol in _EXTENSIONS and start + _LEAST_EXTENSION <= len(data):
        size = _extension_bytes(protocol, data[start + 1])
        if protocol == _FRAGMENT:
            offset_and_more = int.from_bytes(data[start + 2 : start + 4], "big")
            fragmented |= bool(offset_and_more & 0xFFF9)
            size = size if offset_and_more < 8 else len(data)  # a later fragment: no header of anything
        elif protocol == _ROUTING:
            routed |= data[start + 3] > 0
        protocol, start = data[start], start + size
    return UpperLayer(protocol, start if protocol not in _EXTENSIONS else max(start, len(data)), fragmented, routed)


def _extension_bytes(protocol: int, length: int) -> int:
    """RFC 8200 4: 8-byte units after the first, and none for a fragment header; RFC 4302 2.2: 4-byte words, less two."""
    if protocol == _AUTHENTICATION:
        return 4 * (length + 2)
    return _LEAST_EXTENSION if protocol == _FRAGMENT else 8 * (length + 1)


def flow_key(packet: bytes) -> FlowKey | None:
    """Of an IPv4 or IPv6 packet; None for anything else, and for one that is cut in its header."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEADER:
        fragment = int.from_bytes(packet[6:8], "big")
        payload = (packet[0] & 15) * 4 if not fragment & 0x1FFF else len(packet)
        return _key(packet, packet[12:16], packet[16:20], packet[9], payload, bool(fragment & 0x3FFF))
    if version == 6 and len(packet) >= _IPV6_HEADER:
        upper = upper_layer(packet)
        return _key(packet, packet[8:24], packet[24:40], upper.protocol, upper.start, upper.fragmented)
    return None


def _key(packet: bytes, source: bytes, destination: bytes, protocol: int, payload: int, fragmented: bool) -> FlowKey:
    if protocol not in _WITH_PORTS or len(packet) < payload + 4:
        return FlowKey(source, destination, protocol, b"", b"", fragmented)
    return FlowKey(source, destination, protocol, packet[payload : payload + 2], packet[payload + 2 : payload + 4], fragmented)
