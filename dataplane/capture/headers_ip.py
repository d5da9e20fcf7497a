"""Dissection of IPv4 with options and IPv6 with extension headers (RFC 791, RFC 8200)."""

from __future__ import annotations

from dataplane.capture.layer import (
    PAYLOAD,
    Field,
    Parser,
    Spec,
    Step,
    address,
    bits,
    hexadecimal,
    named,
    number,
    options,
    read_fields,
    rest,
)

PROTOCOLS = {
    0: "hop-by-hop",
    1: "ICMP",
    2: "IGMP",
    4: "IPv4",
    6: "TCP",
    17: "UDP",
    41: "IPv6",
    43: "routing",
    44: "fragment",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    59: "no next header",
    60: "destination options",
    132: "SCTP",
}
_TRANSPORT = {1: "icmp", 4: "ipv4", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 51: "ah", 58: "icmpv6", 132: "sctp"}
_EXTENSIONS = {0: "hop-by-hop", 43: "routing", 44: "ipv6 fragment", 60: "destination options"}
_TUNNELS = {4, 41}

_IPV4 = (
    ("version", 0, 1, bits(4, 4)),
    ("header length", 0, 1, bits(0, 4)),
    ("dscp", 1, 1, bits(2, 6)),
    ("ecn", 1, 1, bits(0, 2)),
    ("total length", 2, 2, number),
    ("id", 4, 2, hexadecimal),
    ("reserved flag", 6, 2, bits(15, 1)),
    ("df", 6, 2, bits(14, 1)),
    ("mf", 6, 2, bits(13, 1)),
    ("fragment offset", 6, 2, bits(0, 13)),
    ("ttl", 8, 1, number),
    ("protocol", 9, 1, named(PROTOCOLS)),
    ("header checksum", 10, 2, hexadecimal),
    ("source", 12, 4, address),
    ("destination", 16, 4, address),
)
_IPV4_OPTIONS = {
    0: "end",
    1: "nop",
    7: "record route",
    68: "timestamp",
    130: "security",
    131: "loose source route",
    134: "cipso",
    137: "strict source route",
    148: "router alert",
}
_IPV6 = (
    ("version", 0, 4, bits(28, 4)),
    ("dscp", 0, 4, bits(22, 6)),
    ("ecn", 0, 4, bits(20, 2)),
    ("flow label", 0, 4, bits(0, 20)),
    ("payload length", 4, 2, number),
    ("next header", 6, 1, named(PROTOCOLS)),
    ("hop limit", 7, 1, number),
    ("source", 8, 16, address),
    ("destination", 24, 16, address),
)
_EXTENSION = (("next header", 0, 1, named(PROTOCOLS)), ("length", 1, 1, number))
_ROUTING = (*_EXTENSION, ("routing type", 2, 1, number), ("segments left", 3, 1, number))
_FRAGMENT = (
    ("next header", 0, 1, named(PROTOCOLS)),
    ("reserved", 1, 1, hexadecimal),
    ("fragment offset", 2, 2, bits(3, 13)),
    ("reserved bits", 2, 2, bits(1, 2)),
    ("mf", 2, 2, bits(0, 1)),
    ("id", 4, 4, hexadecimal),
)
_AH = (
    ("next header", 0, 1, named(PROTOCOLS)),
    ("length", 1, 1, number),
    ("reserved", 2, 2, hexadecimal),
    ("spi", 4, 4, hexadecimal),
    ("sequence number", 8, 4, number),
)


def ipv4(data: bytes, start: int, end: int) -> Step:
    fields = read_fields(data, start, end, _IPV4, 20)
    if end - start < 20:
        return Step("IPv4", fields, complete=False)
    header_end = start + 4 * (data[start] & 0x0F)
    total = int.from_bytes(data[start + 2 : start + 4], "big")
    if data[start] >> 4 != 4 or header_end < start + 20 or header_end > end or start + total < header_end:
        return Step("IPv4", fields, PAYLOAD, start + 20, end, complete=False)
    fields += options(data, start + 20, header_end, _IPV4_OPTIONS, single=frozenset((0, 1)))
    protocol = data[start + 9]
    later_fragment = int.from_bytes(data[start + 6 : start + 8], "big") & 0x1FFF
    following = PAYLOAD if later_fragment else _TRANSPORT.get(protocol, PAYLOAD)
    where = "inner " if following != PAYLOAD and protocol in _TUNNELS else ""
    return Step("IPv4", fields, following, header_end, min(start + total, end), where, start + total <= end)


def ipv6(data: bytes, start: int, end: int) -> Step:
    fields = read_fields(data, start, end, _IPV6, 40)
    if end - start < 40:
        return Step("IPv6", fields, complete=False)
    if data[start] >> 4 != 6:
        return Step("IPv6", fields, PAYLOAD, start + 40, end, complete=False)
    stop = start + 40 + int.from_bytes(data[start + 4 : start + 6], "big")
    return _after("IPv6", fields, data[start + 6], start + 40, min(stop, end), complete=stop <= end)


def _after(name: str, fields: list[Field], protocol: int, start: int, end: int, *, complete: bool = True) -> Step:
    following = _EXTENSIONS.get(protocol) or _TRANSPORT.get(protocol, PAYLOAD)
    return Step(name, fields, following, start, end, "inner " if protocol in _TUNNELS else "", complete)


def _extension(name: str, spec: Spec, data: bytes, start: int, end: int) -> Step:
    """A header whose second byte counts 8-byte units after the first (RFC 8200 section 4)."""
    size = 8 * (data[start + 1] + 1) if end - start >= 2 else 8
    fields = read_fields(data, start, end, spec, size)
    if end - start < size:
        return Step(name, fields, complete=False)
    fields += rest("data", data, start + spec[-1][1] + spec[-1][2], start + size)
    return _after(name, fields, data[start], start + size, end)


def hop_by_hop(data: bytes, start: int, end: int) -> Step:
    return _extension("IPv6 hop-by-hop", _EXTENSION, data, start, end)


def destination_options(data: bytes, start: int, end: int) -> Step:
    return _extension("IPv6 destination options", _EXTENSION, data, start, end)


def routing(data: bytes, start: int, end: int) -> Step:
    return _extension("IPv6 routing", _ROUTING, data, start, end)


def fragment(data: bytes, start: int, end: int) -> Step:
    """RFC 8200 section 4.5; only the first fragment holds what its next header says."""
    fields = read_fields(data, start, end, _FRAGMENT, 8)
    if end - start < 8:
        return Step("IPv6 fragment", fields, complete=False)
    if int.from_bytes(data[start + 2 : start + 4], "big") >> 3:
        return Step("IPv6 fragment", fields, PAYLOAD, start + 8, end)
    return _after("IPv6 fragment", fields, data[start], start + 8, end)


def authentication(data: bytes, start: int, end: int) -> Step:
    """RFC 4302 section 2.2: the length counts 4-byte words, less two."""
    size = 4 * (data[start + 1] + 2) if end - start >= 2 else 12
    fields = read_fields(data, start, end, _AH, max(size, 12))
    if size < 12 or end - start < size:
        return Step("AH", fields, complete=False)
    fields += rest("icv", data, start + 12, start + size)
    return _after("AH", fields, data[start], start + size, end)


PARSERS: dict[str, Parser] = {
    "ipv4": ipv4,
    "ipv6": ipv6,
    "hop-by-hop": hop_by_hop,
    "routing": routing,
    "ipv6 fragment": fragment,
    "destination options": destination_options,
    "ah": authentication,
}
