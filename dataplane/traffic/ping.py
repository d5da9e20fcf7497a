"""Echo requests and what comes back. The other end's stack answers; no application does."""

from __future__ import annotations

from ipaddress import ip_address

from dataplane.traffic.datagram import send_datagram
from dataplane.traffic.departures import schedule
from dataplane.traffic.loop import Loop, Timer
from dataplane.traffic.message import Body
from dataplane.traffic.packets import PROTO_ICMP, PROTO_ICMP6, echo_request, parse_echo, parse_icmp_error, parse_ip
from dataplane.traffic.resolve import ResolvedFlow
from dataplane.traffic.summary import FlowSummary


class PingFlow:
    """The originating end of one ``kind: ping`` flow: one identifier, sequence numbers from 1."""

    def __init__(self, loop: Loop, resolved: ResolvedFlow, summary: FlowSummary) -> None:
        self._loop = loop
        self._resolved = resolved
        self._summary = summary
        self._proto = PROTO_ICMP if len(resolved.destination) == 4 else PROTO_ICMP6
        self._data = Body(b"", resolved.flow.request_bytes).slice(0, resolved.flow.request_bytes)
        self._waiting: dict[int, tuple[int, Timer]] = {}  # sequence number: when it was sent, and until when we wait
        self._ident = -1
        self._socket = -1

    def start(self) -> None:
        schedule(self._loop, self._resolved.flow, self._resolved.number, self._send)

    def _open(self) -> bool:
        if self._socket < 0:
            ns, proto = self._resolved.namespace, self._proto
            ident = self._loop.free_port(ns, proto, self._resolved.number)
            socket = None if ident is None else self._loop.open(ns, proto, ident, self._receive)
            if ident is None or socket is None:
                return False
            self._ident, self._socket = ident, socket
        return True

    def _send(self, index: int) -> None:
        loop, summary, destination = self._loop, self._summary, self._resolved.destination
        summary.attempts += 1
        route = loop.route(self._resolved.namespace, destination)
        if route is None or not self._open():
            summary.failed += 1
            summary.note_error(f"no route to {ip_address(destination)}" if route is None else "no free echo identifier")
            return
        sequence = (index + 1) & 0xFFFF
        if sequence in self._waiting:  # 65,536 requests ago, and there will be no telling the answers apart
            self._expire(sequence)
        timer = loop.at(loop.now + self._resolved.flow.timeout_ns, lambda: self._expire(sequence))
        self._waiting[sequence] = loop.now, timer
        summary.sent += 1
        summary.bytes_sent += len(self._data)
        request = echo_request(route.src, destination, self._ident, sequence, self._data)
        send_datagram(loop, self._resolved.namespace, self._socket, route, destination, self._proto, request, self._ident)

    def _expire(self, sequence: int) -> None:
        _, timer = self._waiting.pop(sequence)
        self._loop.cancel(timer)
        self._summary.timed_out += 1
        self._summary.note_error("no answer in time")

    def _receive(self, data: bytes) -> None:
        packet = parse_ip(data)
        if packet is None:
            return
        error = parse_icmp_error(packet)
        echo = parse_echo(packet if error is None else error.quoted)
        if echo is None or echo.is_reply == (error is not None) or echo.ident != self._ident or echo.sequence not in self._waiting:
            return  # a duplicate, or not about a request of ours
        sent_at, timer = self._waiting.pop(echo.sequence)
        self._loop.cancel(timer)
        self._summary.received += 1
        if error is not None:
            self._summary.failed += 1
            self._summary.note_error(str(error))
            return
        self._summary.completed += 1
        self._summary.bytes_received += len(echo.payload)
        self._summary.add_rtt(self._loop.now - sent_at)
