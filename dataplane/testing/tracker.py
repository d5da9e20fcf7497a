"""A namespace that tracks the connections between two silent ends, and what it made of each packet.

The tracker forwards between the two ends, or is itself one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dataplane import _core
from dataplane.errors import InputError
from dataplane.traffic.packets import PROTO_TCP, ip_packet
from dataplane.traffic.segment import ACK, FIN, PSH, RST, SYN, Segment, build_segment

SECOND = 1_000_000_000
FLAGS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, ".": ACK, "U": 0x20, "E": 0x40, "W": 0x80}
CTSTATES = {"INVALID": _core.CT_INVALID, "NEW": _core.CT_NEW, "ESTABLISHED": _core.CT_ESTABLISHED, "RELATED": _core.CT_RELATED}
SYSCTLS = "net.netfilter.nf_conntrack_"

_MTU = 1 << 16  # no case is about fragments
_TRACKER_MAC, _END_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
_ETHERTYPE_IPV4 = b"\x08\x00"


class End(NamedTuple):
    """One end of the tracked connection."""

    address: bytes
    port: int


class Tracker:
    """``local``: which of the two ends is the tracker itself; None: it stands between them."""

    def __init__(self, ends: tuple[End, End], *, local: int | None = None, settings: Mapping[str, int] | None = None) -> None:
        self.ends = ends
        self.engine = _core.Engine()
        self._local = local
        self._namespace = self.engine.add_namespace("tracker")
        self._ports = [self._link(side) for side in (0, 1)]
        self.engine.set_sysctl(self._namespace, "net.ipv4.ip_forward", 1)
        for name, value in (settings or {}).items():
            self._set(name, value)
        self._watch()
        if local is not None:
            self.engine.open_socket(self._namespace, PROTO_TCP, ends[local].port)  # else the tracker would refuse segments itself

    def _set(self, name: str, value: int) -> None:
        try:
            self.engine.set_sysctl(self._namespace, SYSCTLS + name, value)
        except KeyError:
            raise InputError(f"setting {name!r}: no sysctl {SYSCTLS}{name} is known") from None

    def _link(self, side: int) -> int:
        """The tracker's device towards one end, which has no address and so takes everything in silence."""
        name = f"eth{side}"
        device = self.engine.add_device(self._namespace, name, "veth", mac=_TRACKER_MAC, mtu=_MTU)
        end = self.engine.add_namespace(f"end{side}")
        self.engine.connect(device, self.engine.add_device(end, name, "veth", mac=_END_MAC, mtu=_MTU))
        if side == self._local:
            self.engine.add_address(device, self.ends[side].address, 32)
        else:
            self.engine.add_route(self._namespace, self.ends[side].address, 32, dev=device)
            self.engine.add_neighbour(device, self.ends[side].address, _END_MAC)
        return device

    def _watch(self) -> None:
        """Rules that tell the state of each packet by their origin. The mangle table is on the way of every packet."""
        rules: list[_core.Match] = [{"ctstate": bit, "target": "", "origin": bit} for bit in CTSTATES.values()]
        chains = [
            _core.Chain(hook, "ACCEPT", rules if hook in ("PREROUTING", "OUTPUT") else [])
            for hook in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
        ]
        self.engine.set_rules(self._namespace, 4, "mangle", chains)
        self.engine.trace(True)

    def advance(self, time: int) -> None:
        """Let everything due up to ``time`` (ns) happen; deliveries stop the engine, so it may need several starts."""
        while self.engine.run(max(time, self.engine.now)):
            self.engine.deliveries()

    def send(self, side: int, proto: int, payload: bytes, time: int) -> str:
        """End ``side`` sends a packet to the other at ``time`` (ns): its connection state as rules see it."""
        self.advance(time)
        self.engine.events()
        packet = ip_packet(self.ends[side].address, self.ends[1 - side].address, proto, payload)
        if side == self._local:
            self.engine.send(self._namespace, packet)
        else:
            self.engine.receive(self._ports[side], _TRACKER_MAC + _END_MAC + _ETHERTYPE_IPV4 + packet)
        self.advance(time)
        seen = {event.origin for event in self.engine.events() if event.what == "rule" and event.origin}
        return next((name for name, bit in CTSTATES.items() if bit in seen), "not seen")

    def send_segment(self, side: int, segment: Segment, time: int) -> str:
        payload = build_segment(self.ends[side].address, self.ends[1 - side].address, segment)
        return self.send(side, PROTO_TCP, payload, time)

    def entry(self) -> dict[str, Any] | None:
        """The entry of the connection, as ``Engine.conntrack()`` has it. There is but one connection."""
        return next(iter(self.engine.conntrack(self._namespace)), None)
