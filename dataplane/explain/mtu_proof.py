"""Frames that prove a budget: packets of chosen lengths are sent along a path, and what is seen of each is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.capture.headers import bare_ip_version
from dataplane.control.build import build
from dataplane.control.topology import Machine, Topology
from dataplane.encap.mtu import ETHERNET_HEADER
from dataplane.explain.mtu_budget import Budget, Fate, Result
from dataplane.explain.mtu_path import Tracer, all_devices
from dataplane.explain.probe import Shape, build_probe, protocol_number
from dataplane.explain.walk import STRAY, answering
from dataplane.k8s.objects import IPAddress, Manifests
from dataplane.traffic.packets import ICMP6_TOO_BIG, ICMP_FRAGMENTATION_NEEDED, ICMP_UNREACHABLE, PROTO_ICMP, PROTO_ICMP6

if TYPE_CHECKING:
    from dataplane._core import Drop, Frame

DISCARD = 9  # the port that probes go to (RFC 863)
FIRST_PORT = 40000
SECOND = 1_000_000_000
"""Between two probes, in nanoseconds: a machine sends one ICMP error per second to the same address (net.ipv4.icmp_ratelimit)."""
_FRAGMENT_OFFSET_OR_MORE = 0x3FFF
_NEXT_FRAGMENT = 44
_OF_LENGTH = ("too_big", "over_mtu", "over_mtu_with_df")  # how the drop reasons end that have to do with it


@dataclass(frozen=True, slots=True)
class Path:
    """Who sends to whom."""

    source: Machine
    address: IPAddress
    receiver: Machine  # whose application gets the packet
    protocol: str  # tcp udp sctp
    port: int  # that is sent to
    listening: int  # that the receiver has; another one behind a service
    label: str  # of the destination
    through: int = -1  # namespace whose rules choose the receiver, -1: there is no choice


def address_of(machine: Machine, version: int) -> IPAddress:
    """Its first one of an IP version that it is known to have."""
    return next(address for address in machine.addresses if address.version == version)


class Proof:
    """A cluster at work, for one probe after another."""

    def __init__(self, manifests: Manifests, seed: int = 0) -> None:
        from dataplane._core import Engine, drop_reasons

        self.engine = Engine(seed)
        self.topology: Topology = build(answering(manifests), self.engine)
        self.devices = all_devices(self.engine, self.topology)
        self._reasons = drop_reasons()
        self._filtered = manifests.config.faults.too_big_filtered
        self._sport = FIRST_PORT
        self._delivered = False
        self._frames: list[Frame] = []
        self._drops: list[Drop] = []

    def budget(self, path: Path) -> Budget | Fate:
        """From the way of a short packet; where that does not arrive, what became of it."""
        self.send(path, 0)  # addresses are resolved and keys exchanged before the packet that counts
        sent = self.send(path, 0)
        fate = self.seen(path, sent)
        if fate.result is not Result.DELIVERED:
            return fate
        own = [frame for frame in self._frames if frame.packet == sent and self.devices[frame.device]["ns"] != self.topology.switch]
        limits = tuple(Tracer(self.topology, self.devices, path.source, path.address.version).limits(own))
        return Budget(path.address.version, self.devices[path.source.eth0]["mtu"], limits, self._filtered)

    def send(self, path: Path, size: int, *, again: bool = False) -> int:
        """One packet, carried to the end. ``size`` 0: as short as possible; ``again``: path MTUs learned before still hold."""
        self._sport += 1
        version = path.address.version
        source = address_of(path.source, version).packed
        probe = build_probe(source, path.address.packed, Shape(path.protocol, self._sport, path.port, size=size))
        number = protocol_number(path.protocol, version)
        if path.through >= 0:
            endpoint = address_of(path.receiver, version).packed
            there = (source, self._sport, path.address.packed, path.port)
            self.engine.add_pin(path.through, number, there, (endpoint, path.listening, source, self._sport))
        for namespace in () if again else self.topology.machines:
            self.engine.flush(namespace, "exceptions")
        sockets = [self.engine.open_socket(path.source.namespace, number, self._sport)]
        sockets.append(self.engine.open_socket(path.receiver.namespace, number, path.listening))
        sent = self.engine.send(path.source.namespace, probe, at=self.engine.now + SECOND)
        self._carry(sent, sockets[-1], len(probe))
        for socket in sockets:
            self.engine.close_socket(socket)
        return sent

    def _carry(self, sent: int, socket: int, size: int) -> None:
        self._delivered = False
        while True:
            waiting = self.engine.run()
            for got in self.engine.deliveries():
                self._delivered |= got.socket == socket and len(got.data) == size
            if not waiting:
                break
        self._frames, self._drops = self.engine.frames(), self.engine.drops()

    # ---- what was seen
    def seen(self, path: Path, sent: int) -> Fate:
        """What became of the packet that was sent last."""
        fragmented = next((self._place(frame) for frame in self._frames if frame.outgoing and is_fragment(self._packet(frame))), "")
        if fragmented == self.topology.device_name(path.source.eth0):
            return Fate(Result.SPLIT, fragmented)
        if self._delivered:
            return Fate(Result.DELIVERED, fragmented=fragmented)
        drop = self._decisive_drop(sent)
        if drop is None:
            return Fate(Result.SILENT, fragmented=fragmented)
        place, reason = self._where(drop), self._reasons[drop.reason].name
        messages = [frame for frame in self._frames if self._may_concern(path.source, frame) and too_big_mtu(self._packet(frame))]
        if drop.namespace == path.source.namespace and messages:
            return Fate(Result.REFUSED, place, fragmented, reason=reason)
        if not messages:
            return Fate(Result.SILENT, place, fragmented, reason=reason)
        heard = any(frame.device == path.source.eth0 and not frame.outgoing for frame in messages)
        told_by = self.topology.machines[self.topology.device_namespace(messages[0].device)].ref
        told_mtu = too_big_mtu(self._packet(messages[0]))
        return Fate(Result.TOLD, place, fragmented, told_mtu, told_by, heard, reason, "" if heard else self._message_lost())

    def _decisive_drop(self, sent: int) -> Drop | None:
        """Of the packet itself, else (a tunnel may hand on another one) one that has to do with lengths, else the first."""
        named = [(self._reasons[drop.reason].name, drop) for drop in self._drops]
        met = [(drop.packet != sent, not name.endswith(_OF_LENGTH), drop) for name, drop in named if name not in STRAY]
        return min(met, key=lambda each: each[:2])[2] if met else None

    def _message_lost(self) -> str:
        for drop in self._drops:
            if too_big_mtu(drop.data) or too_big_mtu(drop.data[ETHERNET_HEADER:]):
                return f"{self._reasons[drop.reason].name} at {self._where(drop)}"
        return ""

    def _may_concern(self, sender: Machine, frame: Frame) -> bool:
        """Not what another machine tells itself, such as of its tunnel's packets."""
        device = self.devices[frame.device]
        return bool(device["kind"] != "lo" or device["ns"] == sender.namespace)

    def _packet(self, frame: Frame) -> bytes:
        return frame.data[ETHERNET_HEADER:] if self.devices[frame.device]["ethernet"] else frame.data

    def _place(self, frame: Frame) -> str:
        return self.topology.device_name(frame.device)

    def _where(self, drop: Drop) -> str:
        """The device; where the far end of a cable has refused the frame, that one."""
        device = self.devices.get(drop.device)
        if device is not None and self._reasons[drop.reason].name == "transmit/over_mtu":
            device = self.devices[device["peer"]]
        namespace = drop.namespace if device is None else device["ns"]
        if device is None or namespace == self.topology.switch:
            return self.topology.namespace_name(namespace)
        return self.topology.device_name(device["id"])


def is_fragment(packet: bytes) -> bool:
    """Part of an IP packet; False for anything else."""
    version = bare_ip_version(packet)
    if version == 4:
        return bool(int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET_OR_MORE)
    return version == 6 and packet[6] == _NEXT_FRAGMENT


def too_big_mtu(packet: bytes) -> int:
    """What an ICMP message "fragmentation needed" or "packet too big" tells, 0 for any other packet."""
    version = bare_ip_version(packet)
    message = packet[4 * (packet[0] & 15) :] if version == 4 else packet[40:]
    if len(message) < 8:
        return 0
    if version == 4 and packet[9] == PROTO_ICMP and tuple(message[:2]) == (ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED):
        return int.from_bytes(message[6:8], "big")
    return int.from_bytes(message[4:8], "big") if version == 6 and packet[6] == PROTO_ICMP6 and message[0] == ICMP6_TOO_BIG else 0
