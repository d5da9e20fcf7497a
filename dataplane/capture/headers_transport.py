"""Dissection of TCP, UDP, SCTP, ICMP and ICMPv6."""

from __future__ import annotations

from dataplane.capture.layer import (
    PAYLOAD,
    STOP,
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

VXLAN_PORTS = frozenset((4789, 8472, 6784))  # RFC 7348; Linux' and Flannel's default; Weave's fast datapath
_GENEVE_PORT = 6081
_PORTS = (("source port", 0, 2, number), ("destination port", 2, 2, number))

_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_TCP_OPTIONS = {0: "end", 1: "nop", 2: "mss", 3: "window scale", 4: "sack permitted", 5: "sack", 8: "timestamps", 34: "fast open"}

ICMP_TYPES = {
    0: "echo reply",
    3: "destination unreachable",
    4: "source quench",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
    13: "timestamp request",
    14: "timestamp reply",
    17: "address mask request",
    18: "address mask reply",
}
ICMP_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}
ICMPV6_UNREACHABLE = {
    0: "no route to destination",
    1: "administratively prohibited",
    2: "beyond scope of source address",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed policy",
    6: "reject route to destination",
}
ICMPV6_TYPES = {
    1: "destination unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    130: "multicast listener query",
    131: "multicast listener report",
    132: "multicast listener done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
    143: "multicast listener report v2",
}
_ND_OPTIONS = {1: "source link-layer address", 2: "target link-layer address", 3: "prefix", 4: "redirected header", 5: "mtu"}
_ECHO = (("id", 4, 2, number), ("sequence number", 6, 2, number))
_ICMP_REST: dict[int, Spec] = {
    0: _ECHO,
    3: (("unused", 4, 2, hexadecimal), ("next-hop mtu", 6, 2, number)),
    5: (("gateway", 4, 4, address),),
    8: _ECHO,
    12: (("pointer", 4, 1, number), ("unused", 5, 3, hexadecimal)),
    **dict.fromkeys((13, 14, 17, 18), _ECHO),
}
_NA_FLAGS = (("router", 4, 1, bits(7, 1)), ("solicited", 4, 1, bits(6, 1)), ("override", 4, 1, bits(5, 1)))
_ICMPV6_REST: dict[int, Spec] = {
    2: (("mtu", 4, 4, number),),
    4: (("pointer", 4, 4, number),),
    128: _ECHO,
    129: _ECHO,
    **dict.fromkeys((130, 131, 132), (("maximum response delay", 4, 2, number), ("reserved", 6, 2, hexadecimal))),
    134: (("hop limit", 4, 1, number), ("flags", 5, 1, hexadecimal), ("router lifetime", 6, 2, number)),
    136: (*_NA_FLAGS, ("reserved", 5, 3, hexadecimal)),
    143: (("reserved", 4, 2, hexadecimal), ("records", 6, 2, number)),
}
_ICMP_ERRORS = {3, 4, 5, 11, 12}
_TIMESTAMPS = {13, 14}
_ICMPV6_ERRORS = {1, 2, 3, 4}
# type -> where its options start (RFC 4861 section 4), and how many addresses stand before them
_ND_LAYOUT = {133: (8, 0), 134: (16, 0), 135: (24, 1), 136: (24, 1), 137: (40, 2)}


def tcp_flags(value: bytes) -> str:
    """Names of the flags that are set, from the lowest bit up."""
    return ",".join(name for bit, name in enumerate(_TCP_FLAGS) if value[0] >> bit & 1) or "none"


_TCP = (
    *_PORTS,
    ("sequence number", 4, 4, number),
    ("acknowledgment number", 8, 4, number),
    ("data offset", 12, 1, bits(4, 4)),
    ("reserved", 12, 1, bits(0, 4)),
    ("flags", 13, 1, tcp_flags),
    ("window", 14, 2, number),
    ("checksum", 16, 2, hexadecimal),
    ("urgent pointer", 18, 2, number),
)
_UDP = (*_PORTS, ("length", 4, 2, number), ("checksum", 6, 2, hexadecimal))
_SCTP = (*_PORTS, ("verification tag", 4, 4, hexadecimal), ("checksum", 8, 4, hexadecimal))


def tcp(data: bytes, start: int, end: int) -> Step:
    """RFC 9293 section 3.1."""
    fields = read_fields(data, start, end, _TCP, 20)
    if end - start < 20:
        return Step("TCP", fields, complete=False)
    header_end = start + 4 * (data[start + 12] >> 4)
    if header_end < start + 20 or header_end > end:
        return Step("TCP", fields, PAYLOAD, start + 20, end, complete=False)
    fields += options(data, start + 20, header_end, _TCP_OPTIONS, single=frozenset((0, 1)))
    return Step("TCP", fields, PAYLOAD, header_end, end)


def udp(data: bytes, start: int, end: int) -> Step:
    """RFC 768. A tunnel is known by the destination port, as its receiver knows it."""
    fields = read_fields(data, start, end, _UDP, 8)
    if end - start < 8:
        return Step("UDP", fields, complete=False)
    port = int.from_bytes(data[start + 2 : start + 4], "big")
    length = int.from_bytes(data[start + 4 : start + 6], "big")
    following = "vxlan" if port in VXLAN_PORTS else "geneve" if port == _GENEVE_PORT else PAYLOAD
    if length < 8 or start + length > end:
        return Step("UDP", fields, following, start + 8, end, complete=False)
    return Step("UDP", fields, following, start + 8, start + length)


def sctp(data: bytes, start: int, end: int) -> Step:
    """The common header, RFC 9260 section 3.1."""
    fields = read_fields(data, start, end, _SCTP, 12)
    if end - start < 12:
        return Step("SCTP", fields, complete=False)
    return Step("SCTP", fields, PAYLOAD, start + 12, end)


def _icmp_spec(types: dict[int, str], by_type: dict[int, Spec], kind: int) -> Spec:
    head: Spec = (("type", 0, 1, named(types)), ("code", 1, 1, number), ("checksum", 2, 2, hexadecimal))
    return (*head, *by_type.get(kind, (("unused", 4, 4, hexadecimal),)))


def icmp(data: bytes, start: int, end: int) -> Step:
    """RFC 792, RFC 1191 (next-hop MTU)."""
    kind = data[start] if end > start else -1
    fields = read_fields(data, start, end, _icmp_spec(ICMP_TYPES, _ICMP_REST, kind), 8)
    if end - start < 8:
        return Step("ICMP", fields, complete=False)
    if kind in _ICMP_ERRORS:
        return Step("ICMP", fields, "ipv4", start + 8, end, "quoted ")
    if kind in _TIMESTAMPS and end - start >= 20:
        names = ("originate timestamp", "receive timestamp", "transmit timestamp")
        fields += [
            Field(name, start + 8 + 4 * index, 4, number(data[start + 8 + 4 * index : start + 12 + 4 * index]))
            for index, name in enumerate(names)
        ]
        return Step("ICMP", fields, PAYLOAD, start + 20, end)
    return Step("ICMP", fields, PAYLOAD, start + 8, end)


def icmpv6(data: bytes, start: int, end: int) -> Step:
    """RFC 4443, and neighbour discovery of RFC 4861."""
    kind = data[start] if end > start else -1
    fields = read_fields(data, start, end, _icmp_spec(ICMPV6_TYPES, _ICMPV6_REST, kind), 8)
    if end - start < 8:
        return Step("ICMPv6", fields, complete=False)
    if kind in _ICMPV6_ERRORS:
        return Step("ICMPv6", fields, "ipv6", start + 8, end, "quoted ")
    if kind in _ND_LAYOUT and end - start >= _ND_LAYOUT[kind][0]:
        fields += _discovery(data, start, end, *_ND_LAYOUT[kind])
        return Step("ICMPv6", fields, STOP, end, end)
    return Step("ICMPv6", fields, PAYLOAD, start + 8, end)


def _discovery(data: bytes, start: int, end: int, options_at: int, addresses: int) -> list[Field]:
    fields = [
        Field(name, start + at, 16, address(data[start + at : start + at + 16]))
        for name, at in (("target", 8), ("destination", 24))[:addresses]
    ]
    if not addresses:
        fields += rest("timers", data, start + 8, start + options_at)
    return fields + options(data, start + options_at, end, _ND_OPTIONS, unit=8)


PARSERS: dict[str, Parser] = {"tcp": tcp, "udp": udp, "sctp": sctp, "icmp": icmp, "icmpv6": icmpv6}
