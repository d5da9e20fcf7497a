"""Two WireGuard devices and the way between them, in virtual time."""

from __future__ import annotations

import heapq
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from dataplane.encap.python_plugin import Incoming, Outgoing, Refused
from dataplane.encap.wireguard.device import WireGuard
from dataplane.encap.wireguard.noise import public_key

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
IPV4, IPV6 = 0x0800, 0x86DD
INITIATION, RESPONSE, COOKIE, DATA = 1, 2, 3, 4
KEY = {"left": bytes(range(32)), "right": bytes(range(32, 64))}
PSK = bytes(range(64, 96))
UNDERLAY = {"left": bytes([192, 0, 2, 1]), "right": bytes([192, 0, 2, 2])}
INSIDE = {"left": "10.9.0.1", "right": "10.9.0.2"}


def text(key: bytes) -> str:
    return b64encode(key).decode()


def config(private: bytes, peer_public: bytes, *, endpoint: str = "", allowed: str = "", psk: bytes = b"", more: str = "") -> bytes:
    """As ``wg setconf`` reads it."""
    lines = ["[Interface]", f"PrivateKey = {text(private)}", "[Peer]", f"PublicKey = {text(peer_public)}", f"AllowedIPs = {allowed}"]
    lines += [f"Endpoint = {endpoint}"] if endpoint else []
    lines += [f"PresharedKey = {text(psk)}"] if psk else []
    return "\n".join([*lines, more]).encode()


def packet(source: str = "left", destination: str = "right", *, size: int = 10, tos: int = 0) -> bytes:
    """An inner packet."""
    head = IP(src=INSIDE.get(source, source), dst=INSIDE.get(destination, destination), tos=tos)
    return bytes(head / UDP(sport=1, dport=2) / Raw(bytes(size)))


@dataclass
class Sent:
    """One datagram on the underlay."""

    time: int
    source: str
    outer: Outgoing
    datagram: bytes

    @property
    def message(self) -> bytes:
        return self.datagram[8:]

    @property
    def kind(self) -> int:
        return self.message[0]


@dataclass
class Side:
    """A device and its host."""

    name: str
    world: World
    secrets: list[tuple[int, bytes]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    device: WireGuard = field(init=False)

    def send(self, outer: Outgoing, payload: bytes) -> None:
        self.world.carry(self, outer, payload)

    def receive(self, incoming: Incoming, inner: bytes) -> None:
        raise AssertionError("WireGuard hands inner packets over as results")

    def wake(self, at: int) -> None:
        assert at >= 0
        heapq.heappush(self.world.wakes, (max(at, self.world.now), self.name))

    def add_secret(self, kind: int, data: bytes) -> None:
        self.secrets.append((kind, data))

    def transmit(self, inner: bytes, *, tos: int = 0) -> None:
        """The inner packet reaches the device, as from the core."""
        outer = Outgoing(self.world.now, UNDERLAY[self.name], bytes(4), inner_protocol=IPV4, inner_tos=tos)
        outer.remote = self.device.select(outer, inner)
        datagram = self.device.push(outer, inner)
        if datagram is not None:
            self.world.carry(self, outer, datagram)

    def arrive(self, sent: Sent, source: bytes) -> None:
        incoming = Incoming(self.world.now, UNDERLAY[self.name], source, outer_tos=sent.outer.tos)
        try:
            inner = self.device.pop(incoming, sent.datagram)
        except Refused as refusal:
            self.refused.append(str(refusal))
            return
        if inner is not None:
            assert incoming.inner_protocol == IPV4
            self.received.append(inner)


class World:
    """``left`` knows where ``right`` is. What is sent arrives at once, unless ``lost`` says otherwise."""

    def __init__(self, *, left: str = "", right: str = "", lost: Callable[[Sent], bool] = lambda sent: False, busy: bool = False) -> None:
        self.now = 1_700_000_000 * SECOND
        self.wakes: list[tuple[int, str]] = []
        self.sent: list[Sent] = []
        self.lost = lost
        self.sides = {name: Side(name, self) for name in KEY}
        public = {name: public_key(key) for name, key in KEY.items()}
        texts = {
            "left": config(KEY["left"], public["right"], endpoint="192.0.2.2:51820", allowed="10.9.0.2/32", psk=PSK, more=left),
            "right": config(KEY["right"], public["left"], allowed="10.9.0.1/32", psk=PSK, more=right),
        }
        for name, side in self.sides.items():
            side.device = WireGuard({"config": texts[name], "under_load": int(busy and name == "right")}, side)
        self.left, self.right = self.sides["left"], self.sides["right"]

    def carry(self, source: Side, outer: Outgoing, datagram: bytes) -> None:
        sent = Sent(self.now, source.name, outer, datagram)
        self.sent.append(sent)
        if not self.lost(sent):
            other = self.right if source is self.left else self.left
            assert outer.remote == UNDERLAY[other.name]
            other.arrive(sent, UNDERLAY[source.name])

    def run(self, duration: int = 0) -> None:
        """Timers up to ``duration`` from now, the last instant included."""
        end = self.now + duration
        while self.wakes and self.wakes[0][0] <= end:
            at, name = heapq.heappop(self.wakes)
            self.now = max(self.now, at)
            self.sides[name].device.timer(self.now)
        self.now = end

    def meet(self) -> None:
        """A session, made by a first packet from left to right."""
        self.left.transmit(packet())
        self.run()
        assert self.right.received == [packet()]
        self.right.received.clear()
        self.sent.clear()

    def kinds(self, *kinds: int) -> list[tuple[str, int]]:
        """Who sent what, in order."""
        return [(sent.source, sent.kind) for sent in self.sent if not kinds or sent.kind in kinds]
