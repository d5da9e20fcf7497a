"""Established connections to ClusterIPs on one node: out through a tunnel with DNAT, and the way back."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import (
    SERVERS,
    SERVICE_PORT,
    TARGET_PORT,
    Shape,
    client_address,
    node_address,
    server_address,
    service_address,
)  # fmt: skip
from dataplane.bench.flows import ETHERNET, Ends, Flows
from dataplane.bench.node import Node
from dataplane.bench.outer import TUNNELS, Tunnel, Way, chosen, udp_checksums, wrapped
from dataplane.bench.slots import Frames, big_endian
from dataplane.bench.work import Mismatch, Settings, Work

CHUNK = 50_000  # connections whose handshake is captured at once
SAMPLE = 64  # connections whose bytes are checked
SAMPLE_PASSES = 3  # of the sample with the exit captured: the last one's frames count, which a fast path has seen repeat
FRAMES_A_PASS = 131_072  # at least, where there are fewer connections
SEGMENT_BYTES = len(tcp.SEGMENT)


class Service:
    """One node with connections to services through a tunnel."""

    def __init__(self, flows: Flows, shape: Shape, tunnel: Tunnel, seed: int, *, slow_path_only: bool = False) -> None:
        self.flows, self.shape, self.tunnel = flows, shape, tunnel
        self.node = Node(shape, seed, slow_path_only=slow_path_only)
        self.servers = array("H", bytes(2 * len(flows)))  # the endpoint that each connection got
        inner = [self.node.device_mac(namespace, tunnel.device) for namespace in (self.node.namespace, self.node.other)]
        self.way = Way(self.node.mac, self.node.other_mac, node_address(4, 1), node_address(4, 2), *inner)
        self.bridge_mac = self.node.device_mac(self.node.namespace, "cni0")
        self._client_addresses = [client_address(4, number) for number in range(shape.clients)]
        self._service_addresses = [service_address(4, number) for number in range(shape.services)]
        self._server_addresses = [server_address(4, number) for number in range(SERVERS)]

    # ---- the ends of connections
    def clients(self, flows: Flows) -> Ends:
        return Ends(self._client_addresses, flows.clients, flows.ports)

    def services(self, flows: Flows) -> Ends:
        return Ends(self._service_addresses, flows.services, array("H", [SERVICE_PORT]) * len(flows))

    def server_ends(self, servers: Sequence[int]) -> Ends:
        return Ends(self._server_addresses, servers, array("H", [TARGET_PORT]) * len(servers))

    # ---- frames
    def from_clients(self, flows: Flows, flags: int, seq: int, ack: int, payload: bytes = b"") -> Frames:
        """One segment of each connection, as the client's pod sends it."""
        devices = array("i", [self.node.clients[client].eth0 for client in flows.clients])
        frames = Frames(tcp.segment(4, flags, seq, ack, payload), len(flows), devices)
        macs = [self.bridge_mac + client.mac for client in self.node.clients]
        frames.column(0, 12, b"".join(map(macs.__getitem__, flows.clients)))
        tcp.fill(frames, 4, self.clients(flows), self.services(flows))
        return frames

    def from_servers(self, flows: Flows, servers: Sequence[int], flags: int, seq: int, ack: int, payload: bytes = b"") -> Frames:
        """One segment of each connection, as it arrives on the node's wire."""
        packet = tcp.segment(4, flags, seq, ack, payload, ttl=63)[ETHERNET:]
        template = wrapped(self.tunnel, self.way.back(), packet, ident=0x4321, port=50_000)
        frames = Frames(template, len(flows), self.node.wire)
        source, destination = self.server_ends(servers), self.clients(flows)
        tcp.fill(frames, 4, source, destination, self.tunnel.overhead)
        if self.tunnel.checksummed:
            fixed = tcp.TCP + len(packet) - 20
            sums = (fixed + one + other for one, other in zip(source.sums(), destination.sums(), strict=True))
            frames.column(40, 2, big_endian(udp_checksums(self.tunnel, self.way.back(), template, sums)))
        return frames

    def carry(self, frames: Frames) -> None:
        """At once. Raises Mismatch where one did not leave the node."""
        before = self.node.engine.counters()
        frames.carry(self.node.engine, frames.times(self.node.engine.now + 1))
        require_all_left(before, self.node.engine.counters(), len(frames))

    # ---- handshakes
    def establish(self) -> None:
        """SYN, SYN and ACK, ACK of every connection, and two segments each way."""
        for first in range(0, len(self.flows), CHUNK):
            numbers = range(first, min(first + CHUNK, len(self.flows)))
            some = self.flows.chosen(numbers)
            self.node.watch(self.node.uplink, True)
            self.carry(self.from_clients(some, tcp.SYN, tcp.CLIENT_ISN, 0))
            self.node.watch(self.node.uplink, False)
            servers = self.chosen_servers(some, self.node.captured(self.node.uplink))
            self.servers[first : first + len(some)] = servers
            self.carry(self.from_servers(some, servers, tcp.SYN_ACK, tcp.SERVER_ISN, tcp.CLIENT_DATA))
            self.carry(self.from_clients(some, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA))

    def pin(self, servers: Sequence[int]) -> None:
        """Let each connection get this endpoint: a draw depends on how many were drawn before, here in another world."""
        clients, services = self.clients(self.flows), self.services(self.flows)
        for number, server in enumerate(servers):
            client = clients.addresses[clients.which[number]], clients.ports[number]
            service, end = services.addresses[services.which[number]], self._server_addresses[server]
            self.node.engine.add_pin(self.node.namespace, tcp.TCP, (*client, service, SERVICE_PORT), (end, TARGET_PORT, *client))

    def chosen_servers(self, flows: Flows, seen: Sequence[bytes]) -> array[int]:
        """From the SYNs on the wire. Raises Mismatch where one went to no endpoint of its service."""
        if len(seen) != len(flows):
            raise Mismatch(f"{len(flows)} SYNs were sent, {len(seen)} left the node")
        numbers = {address: number for number, address in enumerate(self._server_addresses)}
        at = self.tunnel.overhead + 16
        servers = array("H", (numbers[frame[at : at + 4]] for frame in seen))
        for server, service in zip(servers, flows.services, strict=True):
            if server not in self.shape.servers(service):
                raise Mismatch(f"a connection to service {service} went to server {server}, which is not among its endpoints")
        return servers

    # ---- what frames should be
    def expected_out(self, frames: Sequence[bytes], flows: Flows, servers: Sequence[int], data: int) -> list[bytes]:
        """On the wire, for segments of clients that begin ``data`` bytes behind their first."""
        plain = Frames(tcp.segment(4, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT, ttl=63), len(flows), 0)
        tcp.fill(plain, 4, self.clients(flows), self.server_ends(servers))
        tcp.advance(plain, ETHERNET, 4, data, 0, len(plain))
        made = []
        for number, frame in enumerate(frames):
            ident, port = chosen(self.tunnel, frame)
            made.append(wrapped(self.tunnel, self.way, plain[number][ETHERNET:], ident=ident, port=port))
        return made

    def expected_back(self, flows: Flows, data: int) -> list[bytes]:
        """At the client's interface, for segments of servers that begin ``data`` bytes behind their first."""
        plain = Frames(tcp.segment(4, tcp.ACK, tcp.SERVER_DATA, tcp.CLIENT_DATA, tcp.SEGMENT, ttl=62), len(flows), 0)
        macs = [client.mac + self.bridge_mac for client in self.node.clients]
        plain.column(0, 12, b"".join(map(macs.__getitem__, flows.clients)))
        tcp.fill(plain, 4, self.services(flows), self.clients(flows))
        tcp.advance(plain, ETHERNET, 4, data, 0, len(plain))
        return [plain[number] for number in range(len(plain))]


def require_all_left(before: dict[str, int], after: dict[str, int], count: int) -> None:
    """Raise Mismatch unless ``count`` frames came in between and all of them went out, none of them dropped."""
    came, left, dropped = (after[name] - before[name] for name in ("in", "out", "dropped"))
    if (came, left, dropped) != (count, count, 0):
        reasons = ", ".join(name for name in after if name.startswith("drop/") and after[name] != before.get(name, 0))
        raise Mismatch(f"of {count} frames {came} came in, {left} left the node and {dropped} were dropped ({reasons or 'none'})")


class EstablishedWork(Work):
    """Segments of established connections, one of each in turn. ``back``: from the servers to the clients."""

    threads, window = 1, 4096  # that carry them, as ``Engine.carry`` says

    def __init__(
        self, settings: Settings, flows: Flows, shape: Shape, kind: str = "vxlan", *, back: bool = False, slow_path_only: bool = False
    ) -> None:
        tunnel = TUNNELS[kind]
        self.settings, self.back = settings, back
        shape = replace(shape, backend=tunnel.backend)
        self.service = Service(flows, shape, tunnel, settings.seed, slow_path_only=slow_path_only)
        settings.say(f"opening {len(flows):,} connections")
        self.service.establish()
        self.rounds = max(1, (256 if settings.quick else FRAMES_A_PASS) // len(flows))
        numbers = array("I", range(len(flows))) * self.rounds
        self.frames = self._segments(self.service, flows.chosen(numbers), array("H", (self.service.servers[each] for each in numbers)))
        self.network = tunnel.overhead if back else ETHERNET
        self.units = len(self.frames)
        self._data = 0
        self._times: array[int] = array("q")
        self._counters: dict[str, int] = {}

    def _segments(self, service: Service, flows: Flows, servers: Sequence[int]) -> Frames:
        if self.back:
            return service.from_servers(flows, servers, tcp.ACK, tcp.SERVER_DATA, tcp.CLIENT_DATA, tcp.SEGMENT)
        return service.from_clients(flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT)

    def before(self) -> None:
        """Every connection's next segments, within the window that the other end has opened."""
        flows = len(self.service.flows)
        for step in range(self.rounds):
            tcp.advance(self.frames, self.network, 4, self._data, step * flows, flows)
            self._data += SEGMENT_BYTES
        self._times = self.frames.times(self.service.node.engine.now + 1)
        self._counters = self.service.node.engine.counters()

    def run(self) -> None:
        self.frames.carry(self.service.node.engine, self._times, threads=self.threads, window=self.window)

    def after(self) -> None:
        require_all_left(self._counters, self.service.node.engine.counters(), self.units)

    def details(self) -> dict[str, Any]:
        return {"flows": len(self.service.flows), "bytes": self.frames.length}

    # ---- bytes
    def check(self) -> None:
        """A sample's frames against headers written a second time, and against the slow path alone in a world of its own."""
        flows = self.service.flows
        numbers = sorted(random.Random(f"sample {self.settings.seed}").sample(range(len(flows)), min(SAMPLE, len(flows))))
        some = flows.chosen(numbers)
        servers = array("H", (self.service.servers[number] for number in numbers))
        seen = self._sampled(self.service, some, servers)
        compare(seen, self._expected(seen, some, servers), "the headers it should have")
        twin = Service(some, self.service.shape, self.service.tunnel, self.settings.seed, slow_path_only=True)
        twin.pin(servers)
        twin.establish()
        slow = self._sampled(twin, some, servers)
        compare([self._comparable(frame) for frame in seen], [self._comparable(frame) for frame in slow], "what the slow path alone sends")
        self.checked = f"{len(seen)} frames: headers written anew, and the slow path alone"

    def _sampled(self, service: Service, flows: Flows, servers: Sequence[int]) -> list[bytes]:
        """The last of some more segments, as they leave the node."""
        frames = self._segments(service, flows, servers)
        exits = {service.node.ports[client] for client in flows.clients} if self.back else {service.node.uplink}
        for device in exits:
            service.node.watch(device, True)
        service.node.engine.frames()
        for step in range(SAMPLE_PASSES):
            tcp.advance(frames, self.network, 4, self._data + step * SEGMENT_BYTES, 0, len(frames))
            service.carry(frames)
            seen = [frame.data for frame in service.node.engine.frames() if frame.device in exits and frame.outgoing]
        for device in exits:
            service.node.watch(device, False)
        return seen

    def _expected(self, seen: Sequence[bytes], flows: Flows, servers: Sequence[int]) -> list[bytes]:
        data = self._data + (SAMPLE_PASSES - 1) * SEGMENT_BYTES
        return self.service.expected_back(flows, data) if self.back else self.service.expected_out(seen, flows, servers, data)

    def _comparable(self, frame: bytes) -> bytes:
        """Without the outer header's identification, which counts packets, and the checksum over it."""
        return frame if self.back else frame[:18] + frame[20:24] + frame[26:]


def compare(seen: Sequence[bytes], wanted: Sequence[bytes], what: str) -> None:
    """Raise Mismatch where frames differ."""
    if len(seen) != len(wanted):
        raise Mismatch(f"{len(wanted)} frames should have left the node, {len(seen)} did")
    for number, (one, other) in enumerate(zip(seen, wanted, strict=True)):
        if one != other:
            place = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905
            raise Mismatch(f"frame {number} is not {what}, from byte {place} on: {one.hex()} instead of {other.hex()}")
