"""One cluster under one data path, and what is counted of flows that are carried through it.

Everything is counted on real frames: those that leave the eth0 of nodes and hosts, but for ARP and neighbour discovery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle, islice
from typing import TYPE_CHECKING

from dataplane.capture.headers import bare_ip_version
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.encap.mtu import ETHERNET_HEADER, IP_HEADER
from dataplane.explain.compare_flows import BoundFlow
from dataplane.explain.compare_sizes import BETWEEN_FRAMES, FRAME_EXTRA, Size, on_wire
from dataplane.explain.mtu_proof import SECOND, too_big_mtu
from dataplane.explain.walk import STRAY, answering
from dataplane.k8s.objects import Manifests
from dataplane.traffic import model, packets
from dataplane.traffic.drive import run_flows
from dataplane.traffic.resolve import Listener, ResolvedFlow, resolve
from dataplane.traffic.segment import ACK, HEADER_BYTES, SYN, Segment, build_segment
from dataplane.traffic.summary import FlowSummary

if TYPE_CHECKING:
    from dataplane._core import Engine, Frame

FIRST_PORT = 40000
TCP_BYTES = 1_000_000  # that a connection carries: enough for handshake and close not to count
UDP_HEADER = 8
_APART = 1_000_000  # ns between two packets: each is carried to its end before the next
_WINDOW = 64240
_NEIGHBOUR_DISCOVERY = range(133, 138)  # ICMPv6 types, RFC 4861
_NUMBERS = {"udp": packets.PROTO_UDP, "tcp": packets.PROTO_TCP}


@dataclass(slots=True)
class Tally:
    """What was counted. Bytes are those of frames with FCS; the forward ones left on the sender's own link."""

    sent: int = 0  # packets, or segments of the end that sends the data
    arrived: int | None = 0  # whole, at the receiver's application; None: a connection, which sends until all has
    frame_bytes: int = 0  # of what was sent, as the sender's frames
    payload: int = 0  # bytes of application data that arrived
    frames: int = 0  # on the links of all nodes and hosts
    wire_bytes: int = 0
    forward_frames: int = 0
    forward_bytes: int = 0
    fragments: int = 0  # made, by whomever
    too_big: int = 0  # ICMP messages that reached the sender
    told_mtu: int = 0  # in the last of them
    retransmitted: int = 0  # TCP segments
    drops: Counter[str] = field(default_factory=Counter)  # by reason
    error: str = ""  # why nothing was sent, or a connection did not end well

    @property
    def line_bytes(self) -> int:
        """What the forward frames take of the link: preamble, start delimiter and gap too."""
        return self.forward_bytes + self.forward_frames * BETWEEN_FRAMES

    @property
    def per_packet(self) -> float | None:
        """Bytes on the sender's own link for each packet that was sent; None: none went there."""
        return self.forward_bytes / self.sent if self.forward_bytes else None

    @property
    def added(self) -> float | None:
        """What the way adds to each packet's own frame, if all arrived: headers of tunnels and of further fragments."""
        whole = self.forward_bytes and self.sent == self.arrived
        return (self.forward_bytes - self.frame_bytes) / self.sent if whole else None

    def goodput(self, rate: int) -> float | None:
        """Application data in bit/s when frames like these fill a link of ``rate`` bit/s; None: nothing went over a link."""
        return rate * self.payload / self.line_bytes if self.line_bytes else None


class Lab:
    """A cluster at work."""

    def __init__(self, manifests: Manifests, seed: int, version: int) -> None:
        from dataplane._core import Engine, drop_reasons

        self.engine: Engine = Engine(seed)
        self.topology: Topology = build(answering(manifests), self.engine)
        self.version = version
        self._seed = seed
        self._reasons = drop_reasons()
        self._sport = FIRST_PORT
        self._links = {machine.eth0 for machine in self.topology.machines.values() if machine.kind != "pod"}
        for device in self.topology.device_ids():
            self.engine.set_device(device, capture=device in self._links)

    # ---- single packets
    def reach(self, bound: BoundFlow) -> str:
        """Carry a short packet and an answer, so that neighbours are known and keys exchanged; "" or why the packet does not arrive."""
        talk = Talk(self, bound)
        arrived = talk.open()
        reasons = [self._reasons[drop.reason].name for drop in self.engine.drops()]
        talk.close()
        self.engine.frames()
        if arrived:
            return ""
        met = [reason for reason in reasons if reason not in STRAY]
        pinned = self.engine.pin_failures()
        return met[0] if met else pinned[0] if pinned else "it was not heard of again"

    def measure(self, bound: BoundFlow, size: Size, count: int, *, dont_fragment: bool) -> Tally:
        """Send ``count`` packets of an established flow, one after the other."""
        tally = Tally()
        talk = Talk(self, bound)
        shortest = talk.overhead + FRAME_EXTRA
        sizes = size.least(shortest)
        if min(sizes) < shortest:
            tally.error = f"frames of IPv{self.version} and {bound.flow.protocol.upper()} have at least {shortest} bytes"
            return tally
        talk.open()
        before = self._start(bound)
        frames = list(islice(cycle(sizes), count))
        arrived = [frame - shortest for frame in frames if talk.send(frame - shortest, dont_fragment)]
        tally.sent, tally.frame_bytes = len(frames), sum(frames)
        tally.arrived, tally.payload = len(arrived), sum(arrived)
        self._count(bound, tally, before)
        talk.close()
        return tally

    def pod_mtu(self) -> int:
        """Of the first pod; 0: there is none."""
        pods = (machine for machine in self.topology.machines.values() if machine.kind == "pod")
        first = next(pods, None)
        devices = self.engine.devices(first.namespace) if first is not None else []
        return next((device["mtu"] for device in devices if first is not None and device["id"] == first.eth0), 0)

    def next_port(self) -> int:
        self._sport += 1
        return self._sport

    def _start(self, bound: BoundFlow) -> int:
        """Forget what was learned and recorded; returns the fragments made so far."""
        for namespace in self.topology.machines:
            self.engine.flush(namespace, "exceptions")
        self.engine.frames()
        self.engine.drops()
        self.engine.set_device(bound.source.eth0, capture=True)  # where messages for the sender arrive
        return self.engine.counters()["fragments_made"]

    def _count(self, bound: BoundFlow, tally: Tally, fragments_before: int) -> None:
        """Add what was recorded since ``_start``."""
        self._drain(tally, bound)
        tally.fragments = self.engine.counters()["fragments_made"] - fragments_before
        if bound.source.eth0 not in self._links:
            self.engine.set_device(bound.source.eth0, capture=False)

    def _drain(self, tally: Tally, bound: BoundFlow | None) -> None:
        """Take frames and drops out of the core and count them; without ``bound`` no link is anybody's own."""
        for frame in self.engine.frames():
            packet = frame.data[ETHERNET_HEADER:]
            if bound is not None and frame.device == bound.source.eth0 and not frame.outgoing:
                told = too_big_mtu(packet)
                tally.too_big += told > 0
                tally.told_mtu = told or tally.told_mtu
            if frame.outgoing and frame.device in self._links and _is_payload(packet):
                self._add(tally, frame, bound is not None and frame.device == bound.node.eth0)
        for drop in self.engine.drops():
            name = self._reasons[drop.reason].name
            if name not in STRAY:
                tally.drops[name] += 1

    @staticmethod
    def _add(tally: Tally, frame: Frame, forward: bool) -> None:
        size = on_wire(len(frame.data))
        tally.frames += 1
        tally.wire_bytes += size
        if forward:
            tally.forward_frames += 1
            tally.forward_bytes += size

    # ---- connections
    def connect(self, bound: BoundFlow) -> Tally:
        """A TCP connection that sends ``TCP_BYTES`` bytes, from its handshake to its end, as ``dataplane run`` makes it."""
        tally, port = Tally(), self.next_port()
        pin(self, bound, port)
        before = self._start(bound)
        (summary,) = self._run_flows([_bulk(bound, port)], lambda: self._drain(tally, bound))
        self._count(bound, tally, before)
        tally.sent, tally.retransmitted = summary.sent, summary.retransmitted
        tally.arrived = None
        tally.payload = TCP_BYTES if summary.arrived else 0
        tally.error = "" if summary.completed else summary.first_error or "the connection did not end"
        return tally

    def carry(self, documents: Sequence[model.Traffic]) -> tuple[Tally, list[FlowSummary]]:
        """Every flow of ``kind: Traffic`` documents. Raises InputError, with file and line, for one that cannot be."""
        tally = Tally()
        flows = resolve(documents, self.topology)
        self.engine.frames()
        self.engine.drops()
        before = self.engine.counters()["fragments_made"]
        summaries = self._run_flows(flows, lambda: self._drain(tally, None))
        tally.fragments = self.engine.counters()["fragments_made"] - before
        return tally, summaries

    def _run_flows(self, flows: Sequence[ResolvedFlow], drain: Callable[[], None]) -> list[FlowSummary]:
        """Nothing stays open behind them, for others come to the same ports."""
        core = _Tidy(self.engine)
        summaries = run_flows(core, flows, self._seed, drain=drain)
        for socket in core.open:
            self.engine.close_socket(socket)
        return summaries

    # ---- time
    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """No frame is recorded meanwhile."""
        for device in self._links:
            self.engine.set_device(device, capture=False)
        yield
        for device in self._links:
            self.engine.set_device(device, capture=True)


def _is_payload(packet: bytes) -> bool:
    """Not ARP, and not neighbour discovery."""
    version = bare_ip_version(packet)
    if version == 6:
        return not (packet[6] == packets.PROTO_ICMP6 and len(packet) > 40 and packet[40] in _NEIGHBOUR_DISCOVERY)
    return version == 4


def pin(lab: Lab, bound: BoundFlow, sport: int) -> None:
    """Behind a service, the connection from port ``sport`` goes to the flow's receiver."""
    flow = bound.flow
    if flow.target.startswith("service/"):
        there = (bound.own, sport, bound.destination, flow.port)
        reply = (bound.endpoint, flow.listening, bound.own, sport)
        lab.engine.add_pin(bound.node.namespace, _NUMBERS[flow.protocol], there, reply)


def _bulk(bound: BoundFlow, port: int) -> ResolvedFlow:
    flow, source = bound.flow, model.parse_reference(bound.flow.source)
    target = model.parse_reference(flow.target)
    assert source is not None and target is not None
    written = model.Flow(
        name=flow.name,
        kind="tcp",
        source=source,
        target=target,
        family=None,
        port=flow.port,
        source_port=port,
        count=1,
        rate=Fraction(1),
        arrival="constant",
        start_ns=0,
        request_bytes=TCP_BYTES,
        response_bytes=0,
        timeout_ns=SECOND,
        listen=True,
        origin=bound.source.origin,
    )
    listener = Listener(bound.receiver.namespace, flow.listening)
    return ResolvedFlow(0, written, bound.source.namespace, bound.destination, flow.port, (listener,))


class _Tidy:
    """The core as applications know it, and the sockets that they have not closed."""

    def __init__(self, engine: Engine) -> None:
        self.open: set[int] = set()
        self._engine = engine
        self.lookup_route = engine.lookup_route
        self.send = engine.send
        self.run = engine.run
        self.deliveries = engine.deliveries

    @property
    def now(self) -> int:
        return self._engine.now

    def open_socket(self, ns: int, proto: int, port: int, address: bytes | None = None) -> int:
        socket = self._engine.open_socket(ns, proto, port, address)
        self.open.add(socket)
        return socket

    def close_socket(self, socket: int) -> None:
        self.open.discard(socket)
        self._engine.close_socket(socket)


class Talk:
    """Sockets of both ends of a flow, and the packets between them."""

    def __init__(self, lab: Lab, bound: BoundFlow) -> None:
        self.overhead = IP_HEADER[lab.version] + (UDP_HEADER if bound.flow.protocol == "udp" else HEADER_BYTES)
        self._lab = lab
        self._bound = bound
        self._sport = lab.next_port()
        self._heard = b""  # what arrived last
        self._number = _NUMBERS[bound.flow.protocol]
        engine = lab.engine
        self._sockets = (
            engine.open_socket(bound.source.namespace, self._number, self._sport),
            engine.open_socket(bound.receiver.namespace, self._number, bound.flow.listening),
        )

    def close(self) -> None:
        for socket in self._sockets:
            self._lab.engine.close_socket(socket)

    def open(self) -> bool:
        """Both ends hear of each other: a datagram and an answer, or TCP's handshake. False: the receiver hears nothing."""
        pin(self._lab, self._bound, self._sport)
        self._lab.engine.run(self._lab.engine.now + SECOND)  # a machine sends one ICMP error per second (net.ipv4.icmp_ratelimit)
        first = self._packet(SYN, 0, b"", True)  # of UDP no SYN, but a datagram
        if not self._carry(first, self._sockets[1]):
            return False
        answered = self._answer()
        if answered and self._bound.flow.protocol == "tcp":
            self._carry(self._packet(ACK, 1, b"", True), self._sockets[1])
        return True

    def send(self, payload: int, dont_fragment: bool) -> bool:
        """One packet with ``payload`` zero bytes; does it arrive whole? TCP sends the same bytes of its stream each time."""
        return self._carry(self.packet(payload, dont_fragment), self._sockets[1], self.overhead + payload)

    def packet(self, payload: int, dont_fragment: bool) -> bytes:
        """An IP packet of the established flow."""
        return self._packet(ACK, 1, bytes(payload), dont_fragment)

    def _packet(self, flags: int, seq: int, payload: bytes, dont_fragment: bool) -> bytes:
        bound, port = self._bound, self._bound.flow.port
        if bound.flow.protocol == "udp":
            body = packets.udp_datagram(bound.own, bound.destination, self._sport, port, payload)
        else:
            segment = Segment(self._sport, port, seq, 1 if flags & ACK else 0, flags, _WINDOW, payload=payload)
            body = build_segment(bound.own, bound.destination, segment)
        return packets.ip_packet(bound.own, bound.destination, self._number, body, dont_fragment=dont_fragment)

    def _answer(self) -> bool:
        """The receiver answers whom the packet came from as it saw it, which may be a node that masquerades. Is that heard?"""
        bound, got = self._bound, packets.parse_ip(self._heard)
        assert got is not None  # the core has checked what it delivers
        port = int.from_bytes(got.payload[:2], "big")
        if bound.flow.protocol == "udp":
            body = packets.udp_datagram(got.dst, got.src, bound.flow.listening, port, b"")
        else:
            body = build_segment(got.dst, got.src, Segment(bound.flow.listening, port, 0, 1, SYN | ACK, _WINDOW))
        return self._carry(packets.ip_packet(got.dst, got.src, self._number, body), self._sockets[0], source=bound.receiver.namespace)

    def _carry(self, packet: bytes, socket: int, size: int = 0, source: int = -1) -> bool:
        """Send one packet and wait for its end; did ``socket`` get one (of ``size`` bytes, if given)?"""
        engine = self._lab.engine
        namespace = source if source >= 0 else self._bound.source.namespace
        engine.send(namespace, packet, at=engine.now + _APART, socket=self._sockets[0] if source < 0 else self._sockets[1])
        arrived, waiting = False, True
        while waiting:
            waiting = engine.run()
            for got in engine.deliveries():
                if got.socket == socket and (not size or len(got.data) == size):
                    self._heard, arrived = got.data, True
        return arrived
