"""UDP requests and the application that answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.traffic.datagram import send_datagram
from dataplane.traffic.departures import schedule
from dataplane.traffic.loop import Handler, Loop, Timer
from dataplane.traffic.message import Body, Header, parse_header
from dataplane.traffic.model import MOST_DATAGRAM
from dataplane.traffic.packets import PROTO_UDP, IcmpError, parse_icmp_error, parse_ip, parse_udp, udp_datagram
from dataplane.traffic.resolve import Listener, ResolvedFlow
from dataplane.traffic.summary import FlowSummary


class _Waiting(NamedTuple):
    """A request that was sent."""

    sent_at: int
    timer: Timer
    close: Callable[[], None]  # its socket, where it has one to itself


class UdpFlow:
    """The originating end of one ``kind: udp`` flow.

    With ``sourcePort`` all requests leave from that port, like a stream; else each has a port of its own, as a resolver's.
    """

    def __init__(self, loop: Loop, resolved: ResolvedFlow, summary: FlowSummary) -> None:
        self._loop = loop
        self._resolved = resolved
        self._summary = summary
        self._waiting: dict[int, _Waiting] = {}  # by sequence number in the header, oldest first
        self._fixed_socket: int | None = None

    def start(self) -> None:
        schedule(self._loop, self._resolved.flow, self._resolved.number, self._send)

    def _socket(self, sequence: int) -> tuple[int, int, Callable[[], None]] | None:
        """Port, socket and how to close it; None if there is none to be had."""
        loop, ns, fixed = self._loop, self._resolved.namespace, self._resolved.flow.source_port
        if fixed is not None:
            if self._fixed_socket is None:
                self._fixed_socket = loop.open(ns, PROTO_UDP, fixed, self._receiver(None))
            return None if self._fixed_socket is None else (fixed, self._fixed_socket, _keep_open)
        port = loop.free_port(ns, PROTO_UDP, self._resolved.number, sequence)
        socket = None if port is None else loop.open(ns, PROTO_UDP, port, self._receiver(sequence))
        if port is None or socket is None:
            return None
        return port, socket, lambda: loop.close(socket, ns, PROTO_UDP, port)

    def _send(self, sequence: int) -> None:
        loop, flow, destination = self._loop, self._resolved.flow, self._resolved.destination
        self._summary.attempts += 1
        route = loop.route(self._resolved.namespace, destination)
        opened = None if route is None else self._socket(sequence)
        if route is None or opened is None:
            self._summary.failed += 1
            self._summary.note_error(f"no route to {ip_address(destination)}" if route is None else "the source port is in use")
            return
        port, socket, close = opened
        timer = loop.at(loop.now + flow.timeout_ns, lambda: self._expire(sequence))
        self._waiting[sequence] = _Waiting(loop.now, timer, close)
        header = Header(self._resolved.number, sequence, flow.request_bytes, flow.response_bytes)
        data = Body(header.pack(), flow.request_bytes).slice(0, flow.request_bytes)
        self._summary.sent += 1
        self._summary.bytes_sent += len(data)
        datagram = udp_datagram(route.src, destination, port, self._resolved.port, data)
        send_datagram(loop, self._resolved.namespace, socket, route, destination, PROTO_UDP, datagram, port)

    def _settle(self, sequence: int) -> _Waiting:
        waiting = self._waiting.pop(sequence)
        self._loop.cancel(waiting.timer)
        waiting.close()
        return waiting

    def _expire(self, sequence: int) -> None:
        self._settle(sequence)
        if self._resolved.flow.response_bytes == 0:
            self._summary.completed += 1
            return
        self._summary.timed_out += 1
        self._summary.note_error("no answer in time")

    def _receiver(self, sequence: int | None) -> Handler:
        """The handler of a socket that belongs to one request, or (None) to all."""
        return lambda data: self._receive(data, sequence)

    def _receive(self, data: bytes, sequence: int | None) -> None:
        packet = parse_ip(data)
        if packet is None:
            return
        error = parse_icmp_error(packet)
        if error is not None:
            self._fail(error, sequence)
            return
        udp = parse_udp(packet.payload)
        header = parse_header(udp.payload) if udp is not None else None
        if udp is None or header is None:
            return
        if (packet.src, udp.sport) != (self._resolved.destination, self._resolved.port):
            # A connected socket does not take it: somewhere on the way back an address was not translated.
            self._summary.note_error(f"answer from {ip_address(packet.src)} port {udp.sport}, which was not asked")
            return
        if header.sequence not in self._waiting or header.flow != self._resolved.number:
            return  # a duplicate
        waiting = self._settle(header.sequence)
        self._summary.received += 1
        self._summary.completed += 1
        self._summary.bytes_received += len(udp.payload)
        self._summary.add_rtt(self._loop.now - waiting.sent_at)

    def _fail(self, error: IcmpError, sequence: int | None) -> None:
        """The error quotes too little to name the request; of several on one socket it is the oldest that waits."""
        failed = next(iter(self._waiting), None) if sequence is None else sequence
        if failed is None or error.quoted.dst != self._resolved.destination:
            return
        self._settle(failed)
        self._summary.received += 1
        self._summary.note_error(str(error))
        if error.is_port_unreachable:
            self._summary.refused += 1
        else:
            self._summary.failed += 1


def _keep_open() -> None:
    """A fixed source port stays ours to the end of the run."""


class UdpListener:
    """The application on a UDP port: answers each request with as many bytes as it asks for, from the address it came to."""

    def __init__(self, loop: Loop, listener: Listener, summaries: Sequence[FlowSummary]) -> None:
        self._loop = loop
        self._listener = listener
        self._summaries = summaries
        self._socket: int | None = None

    def start(self) -> None:
        self._socket = self._loop.open(self._listener.namespace, PROTO_UDP, self._listener.port, self._receive)

    def _receive(self, data: bytes) -> None:
        packet = parse_ip(data)
        udp = parse_udp(packet.payload) if packet is not None and packet.proto == PROTO_UDP else None
        header = parse_header(udp.payload) if udp is not None else None
        if packet is None or udp is None or header is None or header.flow >= len(self._summaries):
            return  # nothing that speaks our protocol
        self._summaries[header.flow].arrived += 1
        route = self._loop.route(self._listener.namespace, packet.src)
        if header.response_bytes == 0 or route is None or self._socket is None:
            return
        size = min(header.response_bytes, MOST_DATAGRAM)  # a foreign request may say anything
        answer = Body(header.pack(), size).slice(0, size)
        datagram = udp_datagram(packet.dst, packet.src, udp.dport, udp.sport, answer)
        own_route = route._replace(src=packet.dst)
        send_datagram(self._loop, self._listener.namespace, self._socket, own_route, packet.src, PROTO_UDP, datagram, udp.dport)
