"""Makes of a capture's packets the frames that a machine of the cluster would have sent."""

from __future__ import annotations

from ipaddress import ip_address
from threading import Lock
from typing import TYPE_CHECKING

from dataplane._capture_read import ASK_FRAME, ASK_HOP, FIRST_ADDRESS, Batch, Fitter, Frames
from dataplane.capture.batches import BatchReader
from dataplane.capture.headers import network_offset
from dataplane.capture.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet
from dataplane.control.nexthop import next_hop_mac
from dataplane.control.topology import Machine, Topology
from dataplane.traffic.address_map import AddressMap

if TYPE_CHECKING:
    from dataplane._core import Engine

L2_MODES = ("rewrite", "keep")
_ETHERTYPE_ARP = 0x0806
_ETHERTYPES_VLAN = (b"\x81\x00", b"\x88\xa8")
_DESTINATION_AT = {ETHERTYPE_IPV4: (16, 20), ETHERTYPE_IPV6: (24, 40)}  # first byte of the address, and the one behind it
_ETHERNET, _VLAN = 14, 4
_BROADCAST = b"\xff" * 6
_NO_MAC = bytes(6)
_CUT = "the capture holds only a part of the frame (snap length)"
_SHORT = "shorter than an Ethernet header"
_NOT_IP = "not IP, so no next hop's MAC address can be found (--l2 keep leaves MAC addresses alone)"


class Unfit(Exception):
    """A frame that cannot be injected, and why."""


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
        device = next(row for row in engine.devices(machine.namespace) if row["id"] == machine.eth0)
        self._most = device["mtu"] + _ETHERNET
        self._fitter = Fitter(machine.mac, self._rewrites, self._most, [rule.packed for rule in addresses.rules])
        too_long = f"longer than the MTU of {machine.ref} allows"
        self._reasons = [_CUT, _SHORT, _NOT_IP, too_long]  # by the compiled fitter's numbers; from FIRST_ADDRESS on as they come
        self._numbers = {reason: number for number, reason in enumerate(self._reasons)}
        assert len(self._reasons) == FIRST_ADDRESS

    def fit(self, packet: Packet) -> bytes:
        """The frame to inject. Raises Unfit."""
        frame = self._fitted(packet)
        if len(frame) > self._most + (_VLAN if frame[12:14] in _ETHERTYPES_VLAN else 0):
            raise Unfit(self._reasons[3])
        return frame

    def fit_batch(
        self, reader: BatchReader, batch: Batch, frames: Frames, lock: Lock, *, start: int, zero: int, skipped: bytes | None = None
    ) -> dict[str, list[tuple[int, int]]]:
        """As ``fit`` of every packet of a batch, but for those that ``skipped`` has a 1 for.

        ``frames`` is filled with what goes in, at times that are as long after ``start`` as the packets' are after ``zero``. Returns
        by reason what does not: first and last number of each run of such packets. The engine is asked for routes with ``lock`` held.
        Raises InputError for a packet that has no reading.
        """
        i = 0
        self._fitter.begin(reader.data, batch, frames)
        while i < len(batch):
            asked, i = self._fitter.fit(reader.data, batch, frames, i, start, zero, skipped)
            if asked == ASK_HOP:
                with lock:
                    self._answer_hop(self._fitter.asked)
            elif asked == ASK_FRAME:
                packet = reader.packet(batch, i)
                with lock:
                    self._answer_frame(packet, frames, start, zero)
                i += 1
        unfit: dict[str, list[tuple[int, int]]] = {}
        for number, first, last in frames.unfit():
            unfit.setdefault(self._reasons[number], []).append((first, last))
        return unfit

    def _answer_hop(self, destination: bytes) -> None:
        found = self._next_hop(destination)
        if isinstance(found, bytes):
            self._fitter.answer(destination, found)
        else:
            self._fitter.answer(destination, _NO_MAC, self._number(found))

    def _answer_frame(self, packet: Packet, frames: Frames, start: int, zero: int) -> None:
        try:
            frames.add(self.fit(packet), start + packet.time_ns - zero)
        except Unfit as unfit:
            frames.note_unfit(self._number(str(unfit)), packet.number)

    def _number(self, reason: str) -> int:
        number = self._numbers.get(reason)
        if number is None:
            number = self._numbers[reason] = len(self._reasons)
            self._reasons.append(reason)
        return number

    def _fitted(self, packet: Packet) -> bytes:
        if packet.orig_len > len(packet.data):
            raise Unfit(_CUT)
        if packet.is_l3:
            body = self._mapped(packet.ethertype, packet.data)
            return self._macs(packet.ethertype, body) + packet.ethertype.to_bytes(2, "big") + body
        if len(packet.data) < _ETHERNET:
            raise Unfit(_SHORT)
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
            raise Unfit(_NOT_IP)
        found = self._next_hop(body[start:end])
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
        route = self._engine.lookup_route(self._machine.namespace, destination)
        if route["kind"] == "broadcast":
            return _BROADCAST
        if route["kind"] == "local":
            return f"goes to {ip_address(destination)}, an address of {self._machine.ref} itself (--map gives it another)"
        if route["dev"] not in (-1, self._machine.eth0):
            device = self._topology.device_name(route["dev"])
            return f"{self._machine.ref} reaches {ip_address(destination)} by {device}, not by its eth0 (replay it at a pod)"
        found = next_hop_mac(self._topology, route, destination)
        if found is None:
            why = f"{self._machine.ref} has no route to {ip_address(destination)}, or nobody answers for its next hop"
            return f"{why} (--map gives it another address)"
        return found
