"""A core without a data path: packets fly from one namespace to another, or meet what a test puts in their way.

It checks every packet by its own reading of the RFCs: lengths, checksums, don't-fragment against the path MTU.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

LATENCY = 50_000
MS, SECOND = 1_000_000, 1_000_000_000


class Delivery(NamedTuple):
    time: int
    socket: int
    data: bytes


@dataclass
class Sent:
    """One packet as an application handed it to the core."""

    time: int
    namespace: int
    packet: Packet


@dataclass
class FakeCore:
    """``drop(sent, number)`` loses a packet; ``route_mtu`` is what hosts know of the path, ``path_mtu`` what it is."""

    addresses: dict[int, list[str]]
    drop: Callable[[Sent, int], bool] = lambda sent, number: False
    delays: Callable[[int], list[int]] = lambda number: [0]  # extra time of each copy of a packet that arrives
    route_mtu: int = 1500
    path_mtu: int = 1500
    refuse_with: tuple[int, int] | None = None  # an ICMP error for everything that is sent to an address
    refused_address: str = ""
    virtual: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)  # destination NAT
    forgets_to_untranslate: bool = False
    log: list[Sent] = field(default_factory=list)
    sockets: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    now: int = 0

    def __post_init__(self) -> None:
        self._events: list[tuple[int, int, int, bytes, int]] = []
        self._waiting: list[Delivery] = []
        self._order = 0
        self._next_socket = 0
        self._translated: dict[tuple[str, int], tuple[str, int]] = {}

    # ---- the interface of the core
    def lookup_route(self, ns: int, dst: bytes) -> dict[str, Any]:
        address = ip_address(dst)
        known = self._owner(str(address)) is not None or any(str(address) == vip for vip, _ in self.virtual)
        if not known and str(address) != self.refused_address:
            return {"kind": "unreachable", "src": None, "mtu": 0}
        own = next(each for each in self.addresses[ns] if ip_address(each).version == address.version)
        return {"kind": "unicast", "src": ip_address(own).packed, "mtu": self.route_mtu}

    def open_socket(self, ns: int, proto: int, port: int, address: bytes | None = None) -> int:
        self._next_socket += 1
        self.sockets[self._next_socket] = ns, proto, port
        return self._next_socket

    def close_socket(self, socket: int) -> None:
        del self.sockets[socket]

    def send(self, ns: int, packet: bytes, *, at: int | None = None, socket: int = -1) -> int:
        time = self.now if at is None else at
        assert time >= self.now
        check_packet(packet)
        sent = Sent(time, ns, dissect(packet))
        self.log.append(sent)
        if not self.drop(sent, len(self.log)):
            for delay in self.delays(len(self.log)):
                self._order += 1
                heapq.heappush(self._events, (time + LATENCY + delay, self._order, ns, packet, socket))
        return len(self.log)

    def run(self, until: int | None = None) -> bool:
        while self._events and (until is None or self._events[0][0] <= until) and not self._waiting:
            self.now, _, ns, packet, socket = heapq.heappop(self._events)
            self._arrive(ns, dissect(packet), socket)
        return bool(self._waiting)

    def deliveries(self) -> list[Delivery]:
        found, self._waiting = self._waiting, []
        return found

    # ---- what happens to a packet
    def _owner(self, address: str) -> int | None:
        return next((ns for ns, each in self.addresses.items() if address in each), None)

    def _deliver(self, socket: int, packet: Packet) -> None:
        self._waiting.append(Delivery(self.now, socket, bytes(packet)))

    def _arrive(self, ns: int, packet: Packet, socket: int) -> None:
        if packet.dst == self.refused_address and self.refuse_with is not None:
            self._deliver(socket, icmp_error(packet, *self.refuse_with))
            return
        if len(packet) > self.path_mtu and (packet.version == 6 or packet.flags.DF):
            self._deliver(socket, too_big(packet, self.path_mtu))
            return
        self._translate(packet)
        owner = self._owner(packet.dst)
        assert owner is not None
        packet = dissect(bytes(packet))
        proto, port = demultiplex(packet)
        for number, opened in self.sockets.items():
            if opened == (owner, proto, port):
                self._deliver(number, packet)
                return
        self._answer(owner, ns, packet, socket)

    def _translate(self, packet: Packet) -> None:
        layer = packet.getlayer(TCP) or packet.getlayer(UDP)
        if layer is None:
            return
        if (packet.dst, layer.dport) in self.virtual:
            original = packet.dst, layer.dport
            packet.dst, layer.dport = self.virtual[original]
            self._translated[packet.src, layer.sport] = original
        elif (packet.dst, layer.dport) in self._translated and not self.forgets_to_untranslate:
            packet.src, layer.sport = self._translated[packet.dst, layer.dport]
        del layer.chksum
        if packet.version == 4:
            del packet.chksum

    def _answer(self, owner: int, ns: int, packet: Packet, socket: int) -> None:
        """The stack of the namespace it came to."""
        if ICMP in packet and packet[ICMP].type == 8:
            reply = IP(src=packet.dst, dst=packet.src) / ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq) / packet[ICMP].payload
        elif ICMPv6EchoRequest in packet:
            echo = packet[ICMPv6EchoRequest]
            reply = IPv6(src=packet.dst, dst=packet.src) / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data)
        elif TCP in packet and not packet[TCP].flags.R:
            tcp = packet[TCP]
            base = (IP if packet.version == 4 else IPv6)(src=packet.dst, dst=packet.src)
            numbers = {"seq": tcp.ack, "flags": "R"} if tcp.flags.A else {"ack": tcp.seq + 1, "flags": "RA"}
            reply = base / TCP(sport=tcp.dport, dport=tcp.sport, **numbers)
        elif UDP in packet:
            self._deliver(socket, icmp_error(packet, *((3, 3) if packet.version == 4 else (1, 4))))
            return
        else:
            return
        self.send(owner, bytes(reply))


def dissect(packet: bytes) -> Packet:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def demultiplex(packet: Packet) -> tuple[int, int]:
    """Protocol and the port, or echo identifier of a reply, that a socket is bound to."""
    if TCP in packet:
        return 6, packet[TCP].dport
    if UDP in packet:
        return 17, packet[UDP].dport
    if ICMP in packet and packet[ICMP].type == 0:
        return 1, packet[ICMP].id
    if ICMPv6EchoReply in packet:
        return 58, packet[ICMPv6EchoReply].id
    return -1, -1


def icmp_error(packet: Packet, kind: int, code: int) -> Packet:
    quoted = Raw(bytes(packet)[: 20 + 8 if packet.version == 4 else 1232])
    if packet.version == 4:
        return IP(src="10.255.255.1", dst=packet.src) / ICMP(type=kind, code=code) / quoted
    return IPv6(src="fd00::ffff", dst=packet.src) / ICMPv6DestUnreach(type=kind, code=code) / quoted


def too_big(packet: Packet, mtu: int) -> Packet:
    if packet.version == 4:
        return IP(src="10.255.255.1", dst=packet.src) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(bytes(packet)[:28])
    return IPv6(src="fd00::ffff", dst=packet.src) / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(packet)[:1232])


def ones_complement_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = 0
    for (word,) in struct.iter_unpack("!H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def check_packet(packet: bytes) -> None:
    """Lengths and checksums of a packet that left an application (RFC 791, 8200, 768, 792, 4443, 9293)."""
    if packet[0] >> 4 == 4:
        header, proto, payload = packet[:20], packet[9], packet[20:]
        assert packet[0] == 0x45
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        assert ones_complement_sum(header) == 0xFFFF
        pseudo = packet[12:20] + bytes((0, proto)) + len(payload).to_bytes(2, "big")
    else:
        proto, payload = packet[6], packet[40:]
        assert int.from_bytes(packet[4:6], "big") == len(payload)
        pseudo = packet[8:40] + len(payload).to_bytes(4, "big") + bytes((0, 0, 0, proto))
    if proto == 1:
        pseudo = b""
    if proto == 17:
        assert int.from_bytes(payload[4:6], "big") == len(payload)
        assert payload[6:8] != b"\0\0"
    assert ones_complement_sum(pseudo + payload) == 0xFFFF
