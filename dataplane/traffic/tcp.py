"""TCP requests, a connection for each, and the application that answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.traffic.connection import Application, Connection, End, Endpoints, reset_packet
from dataplane.traffic.departures import schedule
from dataplane.traffic.loop import Loop
from dataplane.traffic.message import Body, Header, parse_header
from dataplane.traffic.packets import PROTO_TCP, IcmpError, IpPacket, parse_icmp_error, parse_ip
from dataplane.traffic.resolve import Listener, ResolvedFlow
from dataplane.traffic.segment import ACK, RST, SYN, Segment, parse_segment
from dataplane.traffic.summary import FlowSummary


def _refuse(loop: Loop, ends: Endpoints, socket: int, segment: Segment) -> None:
    """Answer a segment that belongs to no connection; an RST is never answered."""
    if not segment.flags & RST:
        loop.send(ends.namespace, reset_packet(ends, segment, loop.flow_label(*ends.words)), socket)


class TcpFlow:
    """The originating end of one ``kind: tcp`` flow."""

    def __init__(self, loop: Loop, resolved: ResolvedFlow, summary: FlowSummary) -> None:
        self._loop = loop
        self._resolved = resolved
        self._summary = summary

    def start(self) -> None:
        schedule(self._loop, self._resolved.flow, self._resolved.number, self._connect)

    def _connect(self, sequence: int) -> None:
        loop, flow, ns = self._loop, self._resolved.flow, self._resolved.namespace
        self._summary.attempts += 1
        route = loop.route(ns, self._resolved.destination)
        port = flow.source_port or loop.free_port(ns, PROTO_TCP, self._resolved.number, sequence)
        if route is None or port is None:
            self._fail(f"no route to {ip_address(self._resolved.destination)}" if route is None else "no free source port")
            return
        ends = Endpoints(ns, route.src, port, self._resolved.destination, self._resolved.port)
        request = _Request(loop, self._resolved, self._summary, sequence, ends)
        if not request.connect(route.mtu):
            self._fail(f"source port {port} is in use")

    def _fail(self, reason: str) -> None:
        self._summary.failed += 1
        self._summary.note_error(reason)


class _Request:
    """One connection: send the request, read the response, close."""

    def __init__(self, loop: Loop, resolved: ResolvedFlow, summary: FlowSummary, sequence: int, ends: Endpoints) -> None:
        self._loop = loop
        self._flow = resolved.flow
        self._summary = summary
        self._header = Header(resolved.number, sequence, resolved.flow.request_bytes, resolved.flow.response_bytes)
        self._ends = ends
        self._received = 0
        self._socket = -1
        self._connection: Connection

    def connect(self, mtu: int) -> bool:
        """False if the port is taken."""
        ends = self._ends
        socket = self._loop.open(ends.namespace, PROTO_TCP, ends.local_port, self._receive)
        if socket is None:
            return False
        self._socket = socket
        told = Application(self._on_established, self._on_data, self._on_peer_closed, self._on_end, self._on_gone)
        self._connection = Connection(self._loop, ends, socket, mtu, told, self._summary)
        self._connection.connect()
        return True

    def _receive(self, data: bytes) -> None:
        packet = parse_ip(data)
        error = parse_icmp_error(packet) if packet is not None else None
        if error is not None:
            if _quoted_ends(error) == (self._ends.local_port, self._ends.remote, self._ends.remote_port):
                self._connection.receive_error(error)
            return
        segment = parse_segment(packet.payload) if packet is not None else None
        if packet is None or segment is None:
            return
        if (packet.dst, packet.src, segment.sport) == (self._ends.local, self._ends.remote, self._ends.remote_port):
            self._connection.receive(segment)
            return
        # No connection has these ends: somewhere on the way back an address was not translated, or the port is being probed.
        self._summary.note_error(f"segment from {ip_address(packet.src)} port {segment.sport}, which was not asked")
        _refuse(self._loop, _ends_of(self._ends.namespace, packet, segment), self._socket, segment)

    def _on_established(self) -> None:
        if self._connection.handshake_ns is not None:
            self._summary.add_rtt(self._connection.handshake_ns)
        self._summary.bytes_sent += self._flow.request_bytes
        self._connection.write(Body(self._header.pack(), self._flow.request_bytes))
        if self._flow.response_bytes == 0:
            self._connection.close()

    def _on_data(self, data: bytes) -> None:
        self._received += len(data)
        self._summary.bytes_received += len(data)
        if self._received >= self._flow.response_bytes:
            self._connection.close()

    def _on_peer_closed(self) -> None:
        self._connection.close()

    def _on_end(self, end: End, reason: str) -> None:
        summary = self._summary
        if end is End.CLOSED and self._received == self._flow.response_bytes:
            summary.completed += 1
            return
        summary.note_error(reason or f"closed after {self._received} of {self._flow.response_bytes} response bytes")
        if end is End.REFUSED:
            summary.refused += 1
        elif end is End.TIMED_OUT:
            summary.timed_out += 1
        else:
            summary.failed += 1

    def _on_gone(self) -> None:
        self._loop.close(self._socket, self._ends.namespace, PROTO_TCP, self._ends.local_port)


def _quoted_ends(error: IcmpError) -> tuple[int, bytes, int] | None:
    """Source port, destination and its port of the segment that an ICMP error quotes."""
    if error.quoted.proto != PROTO_TCP:
        return None
    ports = error.quoted.payload
    return int.from_bytes(ports[:2], "big"), error.quoted.dst, int.from_bytes(ports[2:4], "big")


def _ends_of(namespace: int, packet: IpPacket, segment: Segment) -> Endpoints:
    """The ends of the connection that an arriving segment means, as the receiver sees them."""
    return Endpoints(namespace, packet.dst, segment.dport, packet.src, segment.sport)


@dataclass(slots=True)
class _Uncounted:
    """The answering end's segments are counted by nobody."""

    sent: int = 0
    received: int = 0
    retransmitted: int = 0


class TcpListener:
    """The application on a TCP port. It knows nothing of flows but what requests say."""

    def __init__(self, loop: Loop, listener: Listener, summaries: Sequence[FlowSummary]) -> None:
        self._loop = loop
        self._listener = listener
        self._summaries = summaries
        self._socket: int | None = None
        self._connections: dict[Endpoints, Connection] = {}

    def start(self) -> None:
        self._socket = self._loop.open(self._listener.namespace, PROTO_TCP, self._listener.port, self._receive)

    def _receive(self, data: bytes) -> None:
        packet = parse_ip(data)
        error = parse_icmp_error(packet) if packet is not None else None
        if error is not None:
            self._receive_error(error)
            return
        segment = parse_segment(packet.payload) if packet is not None else None
        if packet is None or segment is None:
            return
        ends = _ends_of(self._listener.namespace, packet, segment)
        connection = self._connections.get(ends)
        if connection is not None:
            connection.receive(segment)
        elif segment.flags & (SYN | ACK | RST) == SYN:
            self._accept(ends, segment)
        elif self._socket is not None:
            _refuse(self._loop, ends, self._socket, segment)

    def _receive_error(self, error: IcmpError) -> None:
        quoted = _quoted_ends(error)
        if quoted is None:
            return
        connection = self._connections.get(Endpoints(self._listener.namespace, error.quoted.src, *quoted))
        if connection is not None:
            connection.receive_error(error)

    def _accept(self, ends: Endpoints, syn: Segment) -> None:
        route = self._loop.route(ends.namespace, ends.remote)
        if route is None or self._socket is None:
            return
        session = _Session(self._summaries)
        told = Application(
            on_established=_nothing,
            on_data=session.on_data,
            on_peer_closed=session.on_peer_closed,
            on_end=_ignore_end,
            on_gone=lambda: self._forget(ends),
        )
        session.connection = Connection(self._loop, ends, self._socket, route.mtu, told, _Uncounted())
        self._connections[ends] = session.connection
        session.connection.accept(syn)

    def _forget(self, ends: Endpoints) -> None:
        del self._connections[ends]


def _nothing() -> None:
    """A listener waits for the request."""


def _ignore_end(end: End, reason: str) -> None:
    """How it ended is the originator's to tell."""


class _Session:
    """What the answering application remembers of one connection."""

    connection: Connection

    def __init__(self, summaries: Sequence[FlowSummary]) -> None:
        self._summaries = summaries
        self._start = b""  # of the request, until it holds the header
        self._header: Header | None = None
        self._received = 0

    def on_data(self, data: bytes) -> None:
        before, self._received = self._received, self._received + len(data)
        if self._header is None:
            self._start += data
            self._header = parse_header(self._start)
            if self._header is None:
                return
            before = 0
        header = self._header
        if header.flow >= len(self._summaries):
            self.connection.close()  # nothing that speaks our protocol
        elif before < header.request_bytes <= self._received:
            self._summaries[header.flow].arrived += 1
            self.connection.write(Body(header.pack(), header.response_bytes))

    def on_peer_closed(self) -> None:
        self.connection.close()
