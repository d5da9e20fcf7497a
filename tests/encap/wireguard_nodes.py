"""Two machines of the core joined by a wire, each with a WireGuard device."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from core.worlds import ip, mac
from dataplane import _core
from dataplane.encap import registry
from dataplane.encap.wireguard.noise import public_key
from encap.wireguard_world import INSIDE, KEY, PSK, config

MTU = 1420
WIRE_MTU = 1500
DELAY = 1_000_000  # ns, of the wire


class Nodes:
    """``left`` (192.0.2.1, inside 10.9.0.1) knows where ``right`` (192.0.2.2, inside 10.9.0.2) is."""

    def __init__(self, *, more: str = "", mtu: int = MTU, wire_mtu: int = WIRE_MTU) -> None:
        registry.ensure("wireguard")
        self.engine = _core.Engine(1)
        self.ns = {name: self.engine.add_namespace(name) for name in KEY}
        self.eth: dict[str, int] = {}
        self.wg: dict[str, int] = {}
        for number, name in enumerate(KEY, start=1):
            self.eth[name] = self.engine.add_device(self.ns[name], "eth0", "veth", mac=mac(number), mtu=wire_mtu)
        self.engine.connect(self.eth["left"], self.eth["right"], latency=DELAY)
        for number, name in enumerate(KEY, start=1):
            other = "right" if name == "left" else "left"
            self.engine.add_address(self.eth[name], ip(f"192.0.2.{number}"), 24)
            self.engine.add_neighbour(self.eth[name], ip(f"192.0.2.{3 - number}"), mac(3 - number))
            endpoint = "192.0.2.2:51820" if name == "left" else ""
            text = config(KEY[name], public_key(KEY[other]), endpoint=endpoint, allowed=f"{INSIDE[other]}/32", psk=PSK, more=more)
            self.wg[name] = self.engine.add_device(self.ns[name], "wg0", "wireguard", mac=bytes(6), mtu=mtu, config=text)
            self.engine.add_address(self.wg[name], ip(INSIDE[name]), 24)

    def send(self, inner: Packet) -> None:
        self.engine.send(self.ns["left"], bytes(inner))
        self.engine.run(self.engine.now + 10 * DELAY)

    def refused(self) -> list[str]:
        """Drops by WireGuard devices."""
        reasons = _core.drop_reasons()
        names = [reasons[drop.reason].name for drop in self.engine.drops()]
        return [name for name in names if name.startswith("wireguard/")]

    def on_the_wire(self, frames: list[_core.Frame]) -> list[Ether]:
        """What left either machine, in order."""
        return [Ether(frame.data) for frame in frames if frame.device in self.eth.values() and frame.outgoing]

    def inside(self, frames: list[_core.Frame], name: str) -> list[IP]:
        """What came out of a tunnel."""
        return [IP(frame.data) for frame in frames if frame.device == self.wg[name] and not frame.outgoing]


def question(size: int = 10, *, tos: int = 0) -> Packet:
    """For a port that nobody listens on: an ICMP error comes back."""
    return IP(src=INSIDE["left"], dst=INSIDE["right"], tos=tos) / UDP(sport=1, dport=2) / bytes(size)
