"""The same conversations in IPv6: extension headers, ICMPv6, link-local addresses."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address
from random import Random

from . import sctp, wire
from .extensions import chain
from .topology import Topology
from .traffic import Arrival, Packet, Station, Traffic
from .wire import Ip6

ECHO_REQUEST, ECHO_REPLY = 128, 129
# Queries (130) are left out: nodes answer them after a random time.
OTHER_TYPES = (0, 1, 3, 100, 101, 127, 129, 131, 132, 133, 134, 137, 138, 139, 140, 141, 143, 144, 151, 160, 200, 255)
ERRORS = ((1, 0), (1, 1), (1, 3), (1, 4), (1, 4), (1, 5), (1, 6), (2, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2), (1, 99), (100, 0))


def link_local(mac: str) -> str:
    """fe80::/64 with the modified EUI-64 of a MAC (RFC 4291 appendix A)."""
    b = wire.mac(mac)
    return str(IPv6Address(bytes.fromhex("fe80000000000000") + bytes([b[0] ^ 2]) + b[1:3] + b"\xff\xfe" + b[3:]))


def multicast_mac(address: str) -> str:
    """RFC 2464 section 7."""
    return (b"\x33\x33" + wire.packed(address)[12:]).hex(":")


def solicited_node(address: str) -> str:
    """RFC 4291 section 2.7.1."""
    return str(IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + wire.packed(address)[13:]))


class Traffic6(Traffic):
    """Flows of one sequence in IPv6."""

    outside = ("2001:4860:4860::8888", "2001:db8:9::5", "2001:db8:77::1", "2001:db8:1::1")
    special_sources = ("::1", "::", "ff02::1", "ff0e::5", "fe80::1", "::ffff:10.244.1.5", "fec0::9")
    special_targets = (
        "::1", "::", "ff02::1", "ff02::2", "ff02::fb", "ff01::1", "ff05::2", "ff0e::101", "ff02::1:ff00:5", "ff00::1",
        "::ffff:10.0.0.1", "::10.0.0.1", "fe80::1", "fe80::ecee:eeff:feee:eeee", "fec0::1", "2002:a00:1::1",
    )  # fmt: skip
    other_protocols = (1, 2, 4, 41, 46, wire.GRE, wire.ESP, 59, 89, 103, 115, *[wire.SCTP] * 8, wire.UDPLITE, 135, 139, 200, 255)
    icmp = wire.ICMP6
    extended = 0.08
    overheads = (48, 48, 60, 80)

    def __init__(self, topology: Topology, rng: Random) -> None:
        super().__init__(topology, rng)
        self.limits += [1280, topology.tunnel_mtu]

    def facing(self, station: Station) -> str:
        """MAC of the router's device that a station sends to."""
        if station.pod is not None:
            return self.topology.pod_gateway_mac(station.pod)
        return self.rng.choice([n for n in self.topology.nodes.values() if n.name != station.ns]).macs["eth0"]

    def source(self, station: Station) -> str:
        if self.rng.random() < 0.03:
            return link_local(station.mac)
        return super().source(station)

    def _plain_target(self, kind: str, station: Station) -> str:
        if kind == "special" and self.rng.random() < 0.25:
            return link_local(self.rng.choice([self.facing(station), *(s.mac for s in self.stations)]))
        return super()._plain_target(kind, station)

    def next_hop(self, station: Station, address: str) -> str:
        if ip_address(address).is_multicast:
            return multicast_mac(address)
        if ip_address(address).is_link_local:
            return next((s.mac for s in self.stations if link_local(s.mac) == address), self.facing(station))
        return super().next_hop(station, address)

    def ip(self, source: str, target: str, proto: int, payload: bytes) -> Ip6:
        rng = self.rng
        ttl = rng.choices([64, 1, 2, 3, 0, 255], [80, 6, 6, 3, 1, 2])[0]
        extensions: tuple[tuple[int, bytes], ...] = ()
        if target in self.ambiguous:
            ttl = max(2, ttl)
        elif rng.random() < self.extended:
            extensions = chain(rng, [target, *(s.address for s in self.stations[:2])])
        tos = rng.choices([0, rng.randrange(256)], [80, 20])[0]
        label = rng.choices([0, 0xABCDE, rng.randrange(1 << 20)], [60, 20, 20])[0]
        return Ip6(source, target, proto, payload, ttl, tos, label, rng.randrange(1 << 32), extensions)

    def icmp_request(self, source: str, target: str) -> tuple[bytes, str]:
        rng = self.rng
        kind, code = (ECHO_REQUEST, 0) if rng.random() < 0.82 else (rng.choice(OTHER_TYPES), rng.choice([0, 0, 0, 1, 99]))
        rest = struct.pack(">HH", rng.randrange(65536), 1)
        return wire.icmp6(source, target, kind, code, rest, self.payload()), f"icmpv6 {kind}/{code}"

    def answer_icmp(self, arrival: Arrival) -> Packet | None:
        got = arrival.parsed
        if got.payload[0] != ECHO_REQUEST or ip_address(got.target).is_multicast:
            return None
        body = wire.icmp6(got.target, got.source, ECHO_REPLY, 0, got.payload[4:8], got.payload[8:])
        return self.reply(arrival, wire.ICMP6, body, "answer: icmpv6 echo")

    def other_request(self, number: int, port: int) -> bytes:
        if number != wire.SCTP or self.rng.random() < 0.2:
            return super().other_request(number, port)
        return sctp.packet(self.client_port(), port, sctp.INIT, self.rng)

    def answer_other(self, arrival: Arrival) -> Packet | None:
        if arrival.parsed.proto != wire.SCTP or (due := sctp.answer(arrival.parsed.payload, self.rng)) is None:
            return super().answer_other(arrival)
        return self.reply(arrival, wire.SCTP, due[0], f"answer: sctp chunk {due[1]}")

    def error(self) -> Packet | None:
        rng, arrival = self.rng, self.rng.choice(self.arrivals)
        got, (kind, code) = arrival.parsed, rng.choice(ERRORS)
        head = len(got.packet) - len(got.payload)
        quote = bytearray(got.packet[: rng.choice([head + 8, head + 8, head + 7, head, 39, head + 20, 200, 548, 1232, 1400])])
        wrong = ""
        if rng.random() < 0.3:
            at = rng.choice([0, 1, 3, 4, 5, 6, 7, 8, 16, 23, 24, 32, 39, 40, 41, 42, 43])
            if at < len(quote):
                quote[at] ^= 1 << rng.randrange(8)
                wrong = f", byte {at} of the quote wrong"
        word = {2: rng.choice([1500, 1400, 1280, 1279, 1200, 68, 0, 0xFFFFFFFF]), 4: rng.choice([0, 6, 40, 2000])}.get(kind, 0)
        source = got.target if rng.random() < 0.7 else rng.choice([self.source(arrival.station), rng.choice(self.outside)])
        wrong_check = rng.choices([0, 1], [95, 5])[0]
        body = wire.icmp6(source, got.source, kind, code, struct.pack(">I", word), bytes(quote), check_error=wrong_check)
        note = f"icmpv6 {kind}/{code} from {source} quoting {len(quote)} bytes{wrong}"
        return Packet(arrival.station, arrival.peer_mac, self.ip(source, got.source, wire.ICMP6, body), note)
