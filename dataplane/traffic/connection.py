"""One end of a TCP connection (RFC 9293), as an application's socket on a Linux host behaves.

Inside, positions in either byte stream are plain integers that never wrap: 0 is the SYN, data byte n is n + 1.
Segments that arrive in order are acknowledged at once; there is no urgent data and the receive window never closes,
because the applications read at once. SACK blocks are sent, not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from dataplane.traffic.draw import draw64
from dataplane.traffic.loop import Loop, Timer
from dataplane.traffic.message import Body
from dataplane.traffic.packets import PROTO_TCP, IcmpError, ip_packet
from dataplane.traffic.receive import ReceiveQueue
from dataplane.traffic.segment import ACK, FIN, HEADER_BYTES, PSH, RST, SYN, TIMESTAMP_BYTES, Segment, build_segment

RTO_NS = 1_000_000_000  # RFC 6298 2.1 and its floor 2.4; no round trip of ours comes near it
RTO_MOST_NS = 120_000_000_000  # TCP_RTO_MAX
SYN_RETRIES = 6  # net.ipv4.tcp_syn_retries
SYNACK_RETRIES = 5  # net.ipv4.tcp_synack_retries
DATA_RETRIES = 15  # net.ipv4.tcp_retries2
TIME_WAIT_NS = 60_000_000_000  # TCP_TIMEWAIT_LEN
WSCALE = 7  # what Linux chooses for its default receive buffer of at most 6 MiB (net.ipv4.tcp_rmem)
FIRST_SEGMENTS = 10  # initial congestion window, RFC 6928
LEAST_PMTU = {4: 552, 16: 1280}  # net.ipv4.route.min_pmtu; RFC 8200 5
DEFAULT_MSS = {4: 536, 16: 1220}  # for a SYN without the option, RFC 9293 3.7.1
MOST_MSS = 65_495  # 65,535 less both headers of IPv4; no device's MTU is large enough for IPv6's own limit to matter
DUPLICATES = 3  # acknowledgements that mean loss, RFC 5681 3.2
IP_HEADER_BYTES = {4: 20, 16: 40}
_MASK = 0xFFFFFFFF


class State(Enum):
    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN_WAIT_1"
    FIN_WAIT_2 = "FIN_WAIT_2"
    CLOSING = "CLOSING"
    CLOSE_WAIT = "CLOSE_WAIT"
    LAST_ACK = "LAST_ACK"
    TIME_WAIT = "TIME_WAIT"
    CLOSED = "CLOSED"


class End(Enum):
    """How a connection ended."""

    CLOSED = "closed by both ends"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Both ends of a connection as this one sees them; addresses in network byte order."""

    namespace: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int

    @property
    def words(self) -> tuple[int, str, str, int, int]:
        """What tells this connection from others where a choice is drawn."""
        return self.namespace, self.local.hex(), self.remote.hex(), self.local_port, self.remote_port


@dataclass(frozen=True, slots=True)
class Application:
    """What an application is told. ``on_end`` comes once, and for CLOSED as soon as both ends have closed (TIME_WAIT follows)."""

    on_established: Callable[[], None]
    on_data: Callable[[bytes], None]
    on_peer_closed: Callable[[], None]
    on_end: Callable[[End, str], None]  # and the reason, "" for CLOSED
    on_gone: Callable[[], None]  # nothing will be sent any more, the port is free


class Counters(Protocol):
    """Where segments are counted; ``sent`` includes those that are ``retransmitted``."""

    sent: int
    received: int
    retransmitted: int


class Connection:
    """One end. Starts with ``connect`` (active) or ``accept`` (passive); ``mtu`` is that of the route to the other end."""

    def __init__(self, loop: Loop, ends: Endpoints, socket: int, mtu: int, application: Application, counters: Counters) -> None:
        self.state = State.CLOSED
        self.mss = 0  # bytes of data in a full segment
        self.handshake_ns: int | None = None  # SYN to SYN-ACK; None too if the SYN was sent again
        self._loop = loop
        self._ends = ends
        self._socket = socket
        self._application = application
        self._counters = counters
        self._family = len(ends.local)
        self._mtu = mtu
        self._advertised_mss = min(mtu - IP_HEADER_BYTES[self._family] - HEADER_BYTES, MOST_MSS)
        words = ends.words
        # A hash of the ends and a clock (RFC 6528 3), which ticks every 64 ns in Linux (secure_tcp_seq).
        self._isn = (draw64(loop.seed, "traffic/isn", *words) + (loop.now >> 6)) & _MASK
        self._ident = draw64(loop.seed, "traffic/tcp-ident", *words, loop.now) & 0xFFFF
        self._clock_offset = draw64(loop.seed, "traffic/tcp-clock", *words[:3])
        self._flow_label = loop.flow_label(*words)
        self._started = loop.now
        # Sending.
        self._body = Body(b"", 0)
        self._is_closing = False  # a FIN follows the body
        self._una = 0  # oldest position that is not acknowledged
        self._next = 0
        self._most = 0  # one past the highest position ever sent
        self._peer_mss = DEFAULT_MSS[self._family]
        self._peer_window = 0
        self._peer_wscale = 0
        self._cwnd = 0
        self._ssthresh = 1 << 62
        self._duplicates = 0
        self._recover = 0  # no fast retransmission before this is acknowledged, RFC 6582 3.2
        self._is_recovering = False  # since a fast retransmission
        self._timer: Timer | None = None
        self._tries = 0
        self._error = ""  # the last ICMP error, which a timeout then names
        # Receiving.
        self._irs = 0
        self._window = 0
        self._queue = ReceiveQueue()
        self._has_timestamps = True
        self._has_sack = True
        self._has_wscale = True
        self._echo = 0  # timestamp to send back

    # ---- what an application does
    def connect(self) -> None:
        """Send the SYN."""
        self.state = State.SYN_SENT
        self._open_window(self._advertised_mss)
        self._send_syn()
        self._arm()

    def accept(self, syn: Segment) -> None:
        """Answer a SYN that came to a listener."""
        self.state = State.SYN_RECEIVED
        self._counters.received += 1
        self._take_options(syn)
        self._open_window(self._advertised_mss - (TIMESTAMP_BYTES if self._has_timestamps else 0))
        self._send_syn()
        self._arm()

    def write(self, body: Body) -> None:
        """Send ``body``; once in the life of a connection."""
        self._body = body
        self._transmit()

    def close(self) -> None:
        """Send a FIN after what was written."""
        self._is_closing = True
        self._transmit()

    def abort(self) -> None:
        """Forget the connection without a word."""
        self.state = State.CLOSED
        self._loop.cancel(self._timer)
        self._application.on_gone()

    # ---- positions
    @property
    def _fin_at(self) -> int:
        """Position of the FIN, or one past all data that was written."""
        return 1 + self._body.length

    @property
    def _in_flight(self) -> int:
        return self._next - self._una

    def _is_fin_acknowledged(self) -> bool:
        return self._is_closing and self._una > self._fin_at

    def _position(self, wire: int, first: int, near: int) -> int:
        """The position next to ``near`` that a sequence number on the wire means in the stream that began at ``first``."""
        distance = (wire - first - near) & _MASK
        return near + (distance if distance < 1 << 31 else distance - (1 << 32))

    # ---- sending
    def _open_window(self, per_segment: int) -> None:
        """The receive window: whole segments below 64 KiB (Linux: net/ipv4/tcp_output.c, tcp_select_initial_window)."""
        self._window = max(1, 0xFFFF // per_segment) * per_segment

    def _window_field(self, flags: int) -> int:
        if flags & SYN or not self._has_wscale:
            return self._window
        return -(-self._window >> WSCALE)

    def _emit(self, flags: int, position: int, payload: bytes = b"") -> None:
        is_syn = bool(flags & SYN)
        stamp = (self._clock_offset + self._loop.now // 1_000_000) & _MASK
        blocks = self._queue.blocks() if self._has_sack and not is_syn else ()
        segment = Segment(
            self._ends.local_port,
            self._ends.remote_port,
            (self._isn + position) & _MASK,
            (self._irs + self._queue.next) & _MASK if flags & ACK else 0,
            flags,
            self._window_field(flags),
            timestamp=(stamp, self._echo) if self._has_timestamps else None,
            sack=tuple(((self._irs + left) & _MASK, (self._irs + right) & _MASK) for left, right in blocks),
            payload=payload,
        )
        if is_syn:
            wscale = WSCALE if self._has_wscale else None
            segment = replace(segment, mss=self._advertised_mss, wscale=wscale, sack_permitted=self._has_sack)
        self._counters.sent += 1
        self._send_segment(segment, is_synack=flags & (SYN | ACK) == SYN | ACK)

    def _send_segment(self, segment: Segment, *, is_synack: bool) -> None:
        ends = self._ends
        self._ident = (self._ident + 1) & 0xFFFF
        data = build_segment(ends.local, ends.remote, segment)
        # A SYN-ACK is sent before there is a socket to count identifications (Linux: ip_build_and_send_pkt).
        ident = 0 if is_synack else self._ident
        packet = ip_packet(ends.local, ends.remote, PROTO_TCP, data, ident=ident, flow_label=self._flow_label)
        self._loop.send(ends.namespace, packet, self._socket)

    def _send_syn(self) -> None:
        self._emit(SYN if self.state is State.SYN_SENT else SYN | ACK, 0)
        self._next = self._most = 1

    def _transmit(self) -> bool:
        """Send what the windows allow; whether anything was sent."""
        if self.state not in (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK):
            return False
        sent = False
        limit = self._una + min(self._cwnd, self._peer_window)
        while self._next <= self._fin_at:
            size = min(self.mss, self._fin_at - self._next, limit - self._next)
            is_last = self._next + max(size, 0) == self._fin_at
            if size < self.mss and not is_last and self._in_flight:
                break  # part of a segment can wait for the window (RFC 9293 3.8.6.2.1)
            if size <= 0 and not (is_last and self._is_closing):
                break
            self._send_at(self._next, max(size, 0), is_last=is_last)
            sent = True
        if self._in_flight and self._timer is None:
            self._arm()
        return sent

    def _send_at(self, position: int, size: int, *, is_last: bool) -> None:
        """One segment of data, with the FIN if it is the last."""
        has_fin = is_last and self._is_closing
        payload = self._body.slice(position - 1, position - 1 + size)
        flags = ACK | (PSH if is_last and size else 0) | (FIN if has_fin else 0)
        if position < self._most:
            self._counters.retransmitted += 1
        self._emit(flags, position, payload)
        self._next = position + size + has_fin
        self._most = max(self._most, self._next)
        if has_fin:
            self.state = {State.ESTABLISHED: State.FIN_WAIT_1, State.CLOSE_WAIT: State.LAST_ACK}.get(self.state, self.state)

    # ---- the retransmission timer
    def _arm(self) -> None:
        self._loop.cancel(self._timer)
        wait = min(RTO_NS << self._tries, RTO_MOST_NS)
        self._timer = self._loop.at(self._loop.now + wait, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        retries = {State.SYN_SENT: SYN_RETRIES, State.SYN_RECEIVED: SYNACK_RETRIES}.get(self.state, DATA_RETRIES)
        if self._tries >= retries:
            self._end(End.TIMED_OUT, self._error or f"no answer in state {self.state.value}")
            return
        self._tries += 1
        if self.state in (State.SYN_SENT, State.SYN_RECEIVED):
            self._counters.retransmitted += 1
            self._send_syn()
        else:
            self._ssthresh = max(self._in_flight // 2, 2 * self.mss)  # RFC 5681 3.1
            self._cwnd = self.mss
            self._recover = self._most
            self._is_recovering = False
            self._next = self._una
            self._transmit()
        self._arm()

    # ---- receiving
    def receive(self, segment: Segment) -> None:
        """A segment of this connection arrived."""
        self._counters.received += 1
        if self.state is State.SYN_SENT:
            self._receive_synack(segment)
            return
        position = self._position(segment.seq, self._irs, self._queue.next)
        if self.state is State.SYN_RECEIVED and segment.flags & (SYN | ACK) == SYN and position == 0:
            self._send_syn()  # the peer has not seen our answer
            return
        if not self._queue.is_acceptable(position, segment.length):
            if not segment.flags & RST:
                self._emit(ACK, self._most)
            return
        if segment.flags & (RST | SYN):
            self._receive_reset(segment, position)
            return
        if segment.flags & ACK and self._receive_ack(segment):
            self._receive_data(segment, position)

    def _receive_synack(self, segment: Segment) -> None:
        """RFC 9293 3.10.7.3."""
        is_acceptable = bool(segment.flags & ACK) and self._position(segment.ack, self._isn, self._una) == 1
        if segment.flags & RST:
            if is_acceptable:
                self._end(End.REFUSED, "RST in answer to the SYN")
            return
        if segment.flags & ACK and not is_acceptable:
            self._loop.send(self._ends.namespace, reset_packet(self._ends, segment, self._flow_label), self._socket)
            return
        if segment.flags & (SYN | ACK) != SYN | ACK:
            return
        self.handshake_ns = None if self._tries else self._loop.now - self._started
        self._take_options(segment)
        self._una = 1
        self._establish(segment)
        self._emit(ACK, self._next)
        self._application.on_established()

    def _take_options(self, syn: Segment) -> None:
        """What the peer's SYN or SYN-ACK says, and what we may therefore use."""
        self._irs = syn.seq
        self._peer_mss = syn.mss or DEFAULT_MSS[self._family]
        self._has_timestamps = self._has_timestamps and syn.timestamp is not None
        self._has_sack = self._has_sack and syn.sack_permitted
        self._has_wscale = self._has_wscale and syn.wscale is not None
        self._peer_wscale = syn.wscale or 0
        self._echo = syn.timestamp[0] if syn.timestamp else 0
        self._queue.take_syn()

    def _establish(self, segment: Segment) -> None:
        self.state = State.ESTABLISHED
        self._tries = 0
        self._loop.cancel(self._timer)
        self._timer = None
        self._set_mss()
        self._cwnd = FIRST_SEGMENTS * self.mss
        self._peer_window = segment.window << (0 if segment.flags & SYN else self._peer_wscale)

    def _set_mss(self) -> None:
        options = TIMESTAMP_BYTES if self._has_timestamps else 0
        self.mss = min(self._peer_mss, self._mtu - IP_HEADER_BYTES[self._family] - HEADER_BYTES) - options

    def _receive_reset(self, segment: Segment, position: int) -> None:
        """RST, or a SYN where none belongs; only an exact RST counts (RFC 5961 3.2 and 4.2)."""
        if not segment.flags & RST or position != self._queue.next:
            self._emit(ACK, self._most)
        elif self.state is State.TIME_WAIT:
            self._vanish()
        else:
            self._end(End.FAILED, f"RST in state {self.state.value}")

    def _receive_ack(self, segment: Segment) -> bool:
        """The acknowledgement and window; False if the segment is not to be looked at any further."""
        ack = self._position(segment.ack, self._isn, self._una)
        if self.state is State.SYN_RECEIVED:
            if ack != 1:
                self._loop.send(self._ends.namespace, reset_packet(self._ends, segment, self._flow_label), self._socket)
                return False
            self._una = 1
            self._establish(segment)
            self._application.on_established()
        if ack > self._most:
            self._emit(ACK, self._most)
            return False
        window = segment.window << self._peer_wscale
        if ack > self._una:
            self._advance(ack)
        elif ack == self._una and self._in_flight and not segment.length and window == self._peer_window:
            self._count_duplicate()
        self._peer_window = window
        return True

    def _advance(self, ack: int) -> None:
        """New data is acknowledged: congestion window (RFC 5681 3.1, RFC 6582 3.2), timer, state."""
        newly, self._una = ack - self._una, ack
        self._next = max(self._next, ack)
        self._tries = 0
        self._duplicates = 0
        if self._is_recovering and ack < self._recover:
            self._retransmit_first()  # a partial acknowledgement: the next hole
        elif self._is_recovering:
            self._is_recovering = False
        elif self._cwnd < self._ssthresh:
            self._cwnd += min(newly, self.mss)
        else:
            self._cwnd += max(1, self.mss * self.mss // self._cwnd)
        self._loop.cancel(self._timer)
        self._timer = None
        if self._in_flight:
            self._arm()
        if self._is_fin_acknowledged():
            self._on_fin_acknowledged()

    def _count_duplicate(self) -> None:
        self._duplicates += 1
        if self._duplicates == DUPLICATES and self._una >= self._recover:
            self._recover = self._most
            self._is_recovering = True
            self._ssthresh = max(self._in_flight // 2, 2 * self.mss)
            self._cwnd = self._ssthresh
            self._retransmit_first()

    def _retransmit_first(self) -> None:
        """Send the oldest segment again, and go on where we were."""
        resume = self._next
        size = min(self.mss, self._fin_at - self._una)
        self._send_at(self._una, size, is_last=self._una + size == self._fin_at)
        self._next = max(resume, self._next)

    def _receive_data(self, segment: Segment, position: int) -> None:
        if segment.timestamp is not None and position <= self._queue.next:
            self._echo = segment.timestamp[0]  # RFC 7323 4.3
        before = self._counters.sent
        data = self._queue.add(position, segment.payload, is_fin=bool(segment.flags & FIN))
        if data and self.state is not State.CLOSED:
            self._application.on_data(data)
        if self._queue.take_fin():
            self._on_fin()
        self._transmit()
        if segment.length and self._counters.sent == before and self.state is not State.CLOSED:
            self._emit(ACK, self._most)

    # ---- the end
    def _on_fin(self) -> None:
        """The peer has sent all it had."""
        if self.state is State.ESTABLISHED:
            self.state = State.CLOSE_WAIT
            self._application.on_peer_closed()
        elif self.state is State.FIN_WAIT_1:
            self.state = State.CLOSING
        elif self.state is State.FIN_WAIT_2:
            self._emit(ACK, self._most)
            self._wait()

    def _on_fin_acknowledged(self) -> None:
        if self.state is State.FIN_WAIT_1:
            self.state = State.FIN_WAIT_2
        elif self.state is State.CLOSING:
            self._wait()
        elif self.state is State.LAST_ACK:
            self._end(End.CLOSED, "")

    def _wait(self) -> None:
        """TIME_WAIT: the last acknowledgement may have to be sent again. Nobody waits for its end."""
        self.state = State.TIME_WAIT
        self._loop.cancel(self._timer)
        self._timer = self._loop.at(self._loop.now + TIME_WAIT_NS, self._vanish, holds=False)
        self._application.on_end(End.CLOSED, "")

    def _end(self, end: End, reason: str) -> None:
        self._application.on_end(end, reason)
        self._vanish()

    def _vanish(self) -> None:
        self.state = State.CLOSED
        self._loop.cancel(self._timer)
        self._application.on_gone()

    # ---- ICMP
    def receive_error(self, error: IcmpError) -> None:
        """An ICMP error that quotes a segment of ours (Linux: net/ipv4/tcp_ipv4.c, tcp_v4_err; net/ipv6/tcp_ipv6.c, tcp_v6_err)."""
        quoted = self._position(int.from_bytes(error.quoted.payload[4:8], "big"), self._isn, self._una)
        if self.state is State.CLOSED or not self._una <= quoted < max(self._most, self._una + 1):
            return  # of a segment that has arrived since: an old error, or a made-up one
        if error.is_too_big:
            self._lower_mtu(error.mtu)
        elif self.state in (State.SYN_SENT, State.SYN_RECEIVED):
            self._end(End.REFUSED if error.is_port_unreachable else End.FAILED, str(error))
        else:
            self._error = str(error)  # the data may get through yet

    def _lower_mtu(self, mtu: int) -> None:
        """Fragmentation needed, packet too big: smaller segments, and the lost ones again at once (RFC 1191 6.4, RFC 8201 5.4).

        A report below the least MTU counts as the least in IPv4 and not at all in IPv6 (RFC 8201 4).
        """
        if self._family == 4:
            mtu = max(mtu, LEAST_PMTU[4])
        if not LEAST_PMTU[self._family] <= mtu < self._mtu:
            return
        self._mtu = mtu
        self._error = f"path MTU is {mtu}"
        if self.mss:
            self._set_mss()
            self._next = self._una
            self._transmit()


def reset_packet(ends: Endpoints, segment: Segment, flow_label: int) -> bytes:
    """The IP packet with the RST that answers ``segment``, which no connection wants (RFC 9293 3.10.7.1)."""
    if segment.flags & ACK:
        reset = Segment(ends.local_port, ends.remote_port, segment.ack, 0, RST, 0)
    else:
        reset = Segment(ends.local_port, ends.remote_port, 0, (segment.seq + segment.length) & _MASK, RST | ACK, 0)
    return ip_packet(ends.local, ends.remote, PROTO_TCP, build_segment(ends.local, ends.remote, reset), flow_label=flow_label)
