"""Carries the frames of a capture, with their times relative to the first, into a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from dataplane.capture.headers import network_offset
from dataplane.capture.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet
from dataplane.control.nexthop import next_hop_mac
from dataplane.control.topology import Machine, Topology
from dataplane.traffic.address_map import AddressMap

if TYPE_CHECKING:
    from dataplane._core import Engine

L2_MODES = ("rewrite", "keep")
_ETHERTYPE_ARP = 0x0806
_DESTINATION_AT = {ETHERTYPE_IPV4: (16, 20), ETHERTYPE_IPV6: (24, 40)}  # first byte of the address, and the one behind it
_ETHERNET = 14
_BROADCAST = b"\xff" * 6
_PACKETS_BETWEEN_DRAINS = 512


class Unfit(Exception):
    """A frame that cannot be injected, and why."""


@dataclass(slots=True)
class ReplaySummary:
    """What was done with the packets of a capture."""

    read: int = 0
    filtered: int = 0  # left out by the filter
    injected: int = 0
    unfit: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By reason the packets that were not injected: first and last number of each run of them."""

    def note_unfit(self, reason: str, number: int) -> None:
        runs = self.unfit.setdefault(reason, [])
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))


class FrameFitter:
    """Makes of a capture's packet the frame that ``machine`` would have sent.

    ``l2``: "rewrite" gives it the machine's MAC as source and its next hop's as destination, "keep" leaves both.
    Packets without an Ethernet header get one either way. Addresses change only by ``addresses``.
    """

    def __init__(self, engine: Engine, topology: Topology, machine: Machine, addresses: AddressMap, l2: str) -> None:
        self._engine = engine
        self._topology = topology
        self._machine = machine
        self._addresses = addresses
        self._rewrites = l2 == "rewrite"
        self._next_hops: dict[bytes, bytes | str] = {}

    def fit(self, packet: Packet) -> bytes:
        """The frame to inject. Raises Unfit."""
        if packet.orig_len > len(packet.data):
            raise Unfit("the capture holds only a part of the frame (snap length)")
        if packet.is_l3:
            body = self._mapped(packet.ethertype, packet.data)
            return self._macs(packet.ethertype, body) + packet.ethertype.to_bytes(2, "big") + body
        if len(packet.data) < _ETHERNET:
            raise Unfit("shorter than an Ethernet header")
        start = min(network_offset(packet.data), len(packet.data))
        ethertype = int.from_bytes(packet.data[start - 2 : start], "big")
        body = self._mapped(ethertype, packet.data[start:])
        macs = self._macs(ethertype, body) if self._rewrites else packet.data[:12]
        return macs + packet.data[12:start] + body

    def _mapped(self, ethertype: int, body: bytes) -> bytes:
        if not self._addresses:
            return body
        if ethertype in _DESTINATION_AT:
            return self._addresses.ip(body)
        return self._addresses.arp(body) if ethertype == _ETHERTYPE_ARP else body

    def _macs(self, ethertype: int, body: bytes) -> bytes:
        """Destination and source MAC."""
        start, end = _DESTINATION_AT.get(ethertype, (0, 0))
        if not end or len(body) < end:
            raise Unfit("not IP, so no next hop's MAC address can be found (--l2 keep leaves MAC addresses alone)")
        destination = body[start:end]
        found = self._next_hops.get(destination)
        if found is None:
            found = self._next_hops[destination] = self._next_hop(destination)
        if isinstance(found, str):
            raise Unfit(found)
        return found + self._machine.mac

    def _next_hop(self, destination: bytes) -> bytes | str:
        """The MAC a packet to this address would be sent to, or why there is none."""
        if destination == b"\xff" * 4:
            return _BROADCAST
        if len(destination) == 4 and destination[0] >> 4 == 0xE:  # RFC 1112 6.4: the low 23 bits of the group
            return b"\x01\x00\x5e" + bytes([destination[1] & 0x7F]) + destination[2:]
        if len(destination) == 16 and destination[0] == 0xFF:  # RFC 2464 7: the low 32 bits of the group
            return b"\x33\x33" + destination[12:]
        shown, route = ip_address(destination), self._engine.lookup_route(self._machine.namespace, destination)
        if route["kind"] == "broadcast":
            return _BROADCAST
        if route["kind"] == "local":
            return f"goes to {shown}, an address of {self._machine.ref} itself (--map gives it another)"
        if route["dev"] not in (-1, self._machine.eth0):
            return (
                f"{self._machine.ref} reaches {shown} by {self._topology.device_name(route['dev'])}, not by its eth0 (replay it at a pod)"
            )
        found = next_hop_mac(self._engine, self._topology, self._machine.namespace, destination)
        return found or f"{self._machine.ref} has no route to {shown}, or nobody answers for its next hop (--map gives it another address)"


def replay(
    engine: Engine,
    machine: Machine,
    packets: Iterable[Packet],
    fitter: FrameFitter,
    *,
    wanted: Callable[[Packet], bool] | None = None,
    drain: Callable[[], None] | None = None,
) -> ReplaySummary:
    """Inject packets at the machine's eth0 and carry them, and all they cause, to the end.

    The first chosen packet's time is the run's zero; a packet earlier than the one before it goes right after that one.
    ``wanted`` chooses packets; ``drain`` is called now and then to take captured frames out of the core.
    """
    summary = ReplaySummary()
    start = engine.now
    first: int | None = None
    for packet in packets:
        summary.read += 1
        if wanted is not None and not wanted(packet):
            summary.filtered += 1
            continue
        first = packet.time_ns if first is None else first
        time = max(engine.now, start + packet.time_ns - first)
        try:
            _inject(engine, machine, fitter.fit(packet), time)
        except Unfit as unfit:
            summary.note_unfit(str(unfit), packet.number)
            continue
        summary.injected += 1
        engine.run(time)
        if drain is not None and summary.injected % _PACKETS_BETWEEN_DRAINS == 0:
            drain()
    engine.run()
    return summary


def _inject(engine: Engine, machine: Machine, frame: bytes, time: int) -> None:
    if engine.inject(machine.eth0, frame, at=time) < 0:
        raise Unfit(f"longer than the MTU of {machine.ref} allows")
