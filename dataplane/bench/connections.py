"""Memory per connection: a node's resident memory before and after many connections were opened and used both ways."""

from __future__ import annotations

from array import array

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import SERVERS, SERVICE_PORT, TARGET_PORT, Shape, client_address, server_address, service_address
from dataplane.bench.flows import ETHERNET, Ends, Flows, structured
from dataplane.bench.memory import resident
from dataplane.bench.node import Node
from dataplane.bench.service import CHUNK, require_all_left
from dataplane.bench.slots import Frames
from dataplane.bench.work import Measured, Measurement, Mismatch, Settings

SERVICES = 16
SEGMENTS = 3  # each way after the handshake: what a fast path keeps of a connection is there by then


class Plain:
    """A node whose pods reach the other node's without a tunnel, in IPv4 or IPv6."""

    def __init__(self, family: int, seed: int, *, slow_path_only: bool = False) -> None:
        self.family = family
        shape = Shape(services=SERVICES, backend={"Type": "host-gw"}, family=family)
        self.node = Node(shape, seed, slow_path_only=slow_path_only)
        self.bridge_mac = self.node.device_mac(self.node.namespace, "cni0")
        self._addresses = [
            [address(family, number) for number in range(count)]
            for address, count in ((client_address, shape.clients), (service_address, SERVICES), (server_address, SERVERS))
        ]

    def clients(self, flows: Flows) -> Ends:
        return Ends(self._addresses[0], flows.clients, flows.ports)

    def out(self, flows: Flows, flags: int, seq: int, ack: int, payload: bytes = b"") -> Frames:
        devices = array("i", [self.node.clients[client].eth0 for client in flows.clients])
        frames = Frames(tcp.segment(self.family, flags, seq, ack, payload), len(flows), devices)
        macs = [self.bridge_mac + client.mac for client in self.node.clients]
        frames.column(0, 12, b"".join(map(macs.__getitem__, flows.clients)))
        services = Ends(self._addresses[1], flows.services, array("H", [SERVICE_PORT]) * len(flows))
        tcp.fill(frames, self.family, self.clients(flows), services)
        return frames

    def back(self, flows: Flows, servers: array[int], flags: int, seq: int, ack: int, payload: bytes = b"") -> Frames:
        template = tcp.segment(self.family, flags, seq, ack, payload, macs=self.node.mac + self.node.other_mac, ttl=63)
        frames = Frames(template, len(flows), self.node.wire)
        ends = Ends(self._addresses[2], servers, array("H", [TARGET_PORT]) * len(flows))
        tcp.fill(frames, self.family, ends, self.clients(flows))
        return frames

    def carry(self, frames: Frames) -> None:
        before = self.node.engine.counters()
        frames.carry(self.node.engine, frames.times(self.node.engine.now + 1))
        require_all_left(before, self.node.engine.counters(), len(frames))

    def open(self, flows: Flows) -> array[int]:
        """Handshakes of some connections; the server of each."""
        self.node.watch(self.node.uplink, True)
        self.carry(self.out(flows, tcp.SYN, tcp.CLIENT_ISN, 0))
        self.node.watch(self.node.uplink, False)
        at, size = (ETHERNET + 16, 4) if self.family == 4 else (ETHERNET + 24, 16)
        numbers = {address: number for number, address in enumerate(self._addresses[2])}
        servers = array("H", (numbers[frame[at : at + size]] for frame in self.node.captured(self.node.uplink)))
        self.carry(self.back(flows, servers, tcp.SYN_ACK, tcp.SERVER_ISN, tcp.CLIENT_DATA))
        self.carry(self.out(flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA))
        return servers

    def talk(self, flows: Flows, servers: array[int]) -> None:
        """Segments both ways on connections that are open."""
        out = self.out(flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT)
        back = self.back(flows, servers, tcp.ACK, tcp.SERVER_DATA, tcp.CLIENT_DATA, tcp.SEGMENT)
        for step in range(SEGMENTS):
            for frames in (out, back):
                tcp.advance(frames, ETHERNET, self.family, step * len(tcp.SEGMENT), 0, len(frames))
                self.carry(frames)


class ConnectionMemoryWork(Measured):
    """Bytes that resident memory grows by for each connection; nothing is timed."""

    def __init__(self, settings: Settings, family: int, count: int) -> None:
        self.settings, self.family, self.units = settings, family, count

    def measure(self, settings: Settings) -> Measurement:
        """With all that is kept of a connection, and with the slow path's share alone."""
        whole = self._grown(slow_path_only=False)
        slow = self._grown(slow_path_only=True)
        details = {"slow_path_only": slow, "family": self.family}
        return Measurement(whole, whole, 1, self.units, None, whole, "all connections are in the table, established", details)

    def _grown(self, *, slow_path_only: bool) -> float:
        world = Plain(self.family, self.settings.seed, slow_path_only=slow_path_only)
        flows = structured(self.units + CHUNK, world.node.shape.clients, SERVICES)
        warm = flows.chosen(range(self.units, self.units + min(CHUNK, self.units)))
        world.talk(warm, world.open(warm))  # what grows once has grown
        before = resident()
        chunks = [range(first, min(first + CHUNK, self.units)) for first in range(0, self.units, CHUNK)]
        servers = [world.open(flows.chosen(chunk)) for chunk in chunks]
        for chunk in chunks:  # all later than the last handshake, whose capture is a change that flows are learnt anew after
            world.talk(flows.chosen(chunk), servers.pop(0))
        grown = resident() - before
        self._require_established(world)
        return grown / self.units

    def _require_established(self, world: Plain) -> None:
        if self.settings.quick:
            entries = world.node.engine.conntrack(world.node.namespace)
            states = {entry["state"] for entry in entries}
            if len(entries) != 2 * self.units or states != {"ESTABLISHED"}:
                raise Mismatch(f"{len(entries)} connections in states {states} instead of {2 * self.units} established ones")
