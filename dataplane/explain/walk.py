"""One packet's walk through a cluster: sent on a fresh engine, followed to its end, taken apart into hops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dataplane.capture.dissect import summary
from dataplane.control.build import build
from dataplane.control.topology import Machine, Topology
from dataplane.encap.secrets import take_secrets
from dataplane.errors import InputError
from dataplane.explain.probe import ECHO_IDENT, Shape, answer_to, build_probe, protocol_number
from dataplane.explain.steps import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Step, Words, changes, decapsulated, encapsulated, link_type
from dataplane.explain.target import Target, listeners
from dataplane.k8s.objects import Manifests, Origin
from dataplane.traffic.packets import PROTO_ICMP6, parse_ip

if TYPE_CHECKING:
    from dataplane._core import Drop, Engine, Event, Frame

DELIVERED, DROPPED, LEFT, LOST = "delivered", "dropped", "left the cluster", "lost"
# What happens to copies of a flooded frame that nobody wanted; not the packet's fate if another copy met one.
STRAY = {"parse/otherhost", "arp/otherhost", "bridge/no_port", "bridge/same_port"}

# Multicast listener discovery (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861): what IPv4 does in IGMP and ARP.
_OF_THE_LINK = {bytes((kind,)) for kind in (*range(130, 138), 143)}


class Pin(NamedTuple):
    """One outcome of a namespace's random rules: the connection's original tuple and the endpoint it is sent to."""

    namespace: int
    protocol: int
    original: tuple[bytes, int, bytes, int]  # source, port, destination, port
    endpoint: tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Question:
    """What a trace asks."""

    source: Machine
    target: Target
    shape: Shape


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a packet ended."""

    result: str  # DELIVERED, DROPPED, LEFT, LOST
    namespace: int  # where
    reason: str  # name of the drop reason, "" unless dropped
    sentence: str
    origin: Origin | None  # what decided, if something written did


@dataclass(frozen=True, slots=True)
class Hop:
    """Consecutive steps in one namespace."""

    namespace: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """A packet from its sender to its end."""

    packet: int
    hops: tuple[Hop, ...]
    verdict: Verdict

    @property
    def steps(self) -> list[Step]:
        return [step for hop in self.hops for step in hop.steps]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the probe showed."""

    topology: Topology
    probe: bytes  # the IP packet sent
    forward: Walk
    back: Walk | None  # of the answer, whoever gave it: application, kernel or an ICMP error on the way
    messages: tuple[Walk, ...] = ()  # of what tunnels sent on their own account, such as handshakes
    secrets: tuple[tuple[int, bytes], ...] = ()  # what decrypts the frames, for ``CaptureWriter.add_secrets``


def answering(manifests: Manifests) -> Manifests:
    """The cluster with Linux hosts as pods and hosts: ``endSystems: silent`` makes recordings, in which no walk has an end."""
    return replace(manifests, config=replace(manifests.config, end_systems="answer"))


def run_probe(manifests: Manifests, question: Question, *, seed: int = 0, pins: Sequence[Pin] = ()) -> Run:
    """Send the probe and follow it, and what answers it, to the end. Raises InputError for a probe that cannot be sent."""
    from dataplane._core import Engine

    engine = Engine(seed)
    recorder = Recorder(engine, build(manifests, engine))
    probe = build_probe(_source_address(question), question.target.address.packed, question.shape)
    for pin in pins:
        source, sport, _, _ = pin.original
        engine.add_pin(pin.namespace, pin.protocol, pin.original, (*pin.endpoint, source, sport))
    sockets = _open_sockets(engine, recorder.topology, question)
    engine.trace(True)
    try:
        sent = engine.send(question.source.namespace, probe)
    except ValueError as error:
        raise InputError(f"{question.source.ref} cannot send this probe: {error}") from None
    answer = recorder.carry(sent, sockets)
    forward = recorder.walk(sent)
    answer = recorder.answer_of(sent) if answer is None else answer
    back = None if answer is None else recorder.walk(answer)
    messages = tuple(recorder.walk(packet) for packet in recorder.messages)
    return Run(recorder.topology, probe, forward, back, messages, tuple(take_secrets(engine)))


def _source_address(question: Question) -> bytes:
    version = question.target.address.version
    return next(address.packed for address in question.source.addresses if address.version == version)


def _open_sockets(engine: Engine, topology: Topology, question: Question) -> set[int]:
    """The applications that listen, and the sender's own end, whose socket is not among those returned."""
    shape = question.shape
    proto = protocol_number(shape.protocol, question.target.address.version)
    if shape.protocol == "icmp":
        engine.open_socket(question.source.namespace, proto, ECHO_IDENT)
        return set()
    found = {engine.open_socket(namespace, proto, port) for namespace, port in listeners(topology, shape.protocol, shape.dport)}
    engine.open_socket(question.source.namespace, proto, shape.sport)
    return found


class Recorder:
    """Carries packets and keeps what the core says of each."""

    def __init__(self, engine: Engine, topology: Topology) -> None:
        from dataplane._core import drop_reasons

        self.topology = topology
        self.messages: list[int] = []  # packets that a tunnel sent on its own account
        self._engine = engine
        self._words = Words(topology, drop_reasons())
        self._steps: list[Step] = []
        self._last: dict[int, Step] = {}
        self._encapsulations: dict[int, int] = {}  # packet to the step whose headers are not known yet
        self._fates: dict[int, list[Verdict]] = {}

    def carry(self, sent: int, sockets: set[int]) -> int | None:
        """Run to the end; returns the packet id of an application's answer, if one got the packet."""
        answer = None
        waiting = True
        while waiting:
            waiting = self._engine.run()
            self._collect()
            for delivery in self._engine.deliveries():
                reply = answer_to(delivery.data) if delivery.packet == sent and delivery.socket in sockets else None
                if reply is not None and answer is None:
                    answer = self._engine.send(delivery.namespace, reply)
        return answer

    def walk(self, packet: int) -> Walk:
        steps = [step for step in self._steps if step.packet == packet]
        hops = [Hop(namespace, tuple(group)) for namespace, group in groupby(steps, key=lambda step: step.namespace)]
        return Walk(packet, tuple(hops), self._fate(packet, steps))

    def answer_of(self, sent: int) -> int | None:
        """The first IP packet that a kernel sent because of this one: a RST, an echo reply, an ICMP error."""
        for step in self._steps:
            if step.packet != sent and step.packet not in self.messages and step.stage == "route" and _is_answer(step):
                return step.packet
        return None

    # ---- collecting
    def _collect(self) -> None:
        """The core's records since the last time, in the order they were made."""
        records: list[tuple[int, Frame | Event | Drop]] = [(each.order, each) for each in self._engine.frames()]
        records += [(each.order, each) for each in self._engine.events()]
        records += [(each.order, each) for each in self._engine.drops()]
        base = len(self._steps)
        for number, (_, record) in enumerate(sorted(records, key=lambda each: each[0])):
            step = self._step(record, base + number)
            if step is not None:
                self._keep(step)

    def _keep(self, step: Step) -> None:
        """An encapsulation's headers are only seen on the step behind it; they belong to it all the same."""
        if step.what == "encap":
            self._encapsulations[step.packet] = len(self._steps)
            if step.packet not in self._last:
                self.messages.append(step.packet)
        else:
            at = self._encapsulations.pop(step.packet, None)
            if at is not None:
                headers = encapsulated(self._last.get(step.packet), step.data, step.ethertype)
                self._steps[at] = replace(self._steps[at], changes=headers, data=step.data, ethertype=step.ethertype)
                step = replace(step, changes=())
            self._last[step.packet] = step
        self._steps.append(step)

    def _step(self, record: Frame | Event | Drop, order: int) -> Step | None:
        from dataplane._core import Drop, Frame

        if isinstance(record, Frame):
            return self._seen(record, order)
        if isinstance(record, Drop):
            self._note_drop(record)
            return None  # the event of the same drop is the step
        if record.namespace == self.topology.switch and record.stage != "drop":
            return None
        ethertype = link_type(record.data)
        what, text, rule = self._words.event(record)
        origin = self.topology.origin(record.origin)
        compare = decapsulated if record.what == "decap" else changes
        changed = compare(self._last.get(record.packet), record.data, ethertype)
        if record.stage == "local":
            delivered = Verdict(DELIVERED, record.namespace, "", text, None)
            self._fates.setdefault(record.packet, []).append(delivered)
        return Step(
            order,
            record.time,
            record.packet,
            record.namespace,
            record.device,
            record.stage,
            what,
            text,
            origin,
            record.data,
            ethertype,
            changed,
            rule,
        )

    def _seen(self, frame: Frame, order: int) -> Step | None:
        namespace = self.topology.device_namespace(frame.device)
        if namespace == self.topology.switch:
            return None
        ethertype = 0 if self.topology.has_ethernet(frame.device) else link_type(frame.data)
        changed = changes(self._last.get(frame.packet), frame.data, ethertype)
        stage = "out" if frame.outgoing else "in"
        text = summary(frame.data, ethertype=ethertype)
        return Step(order, frame.time, frame.packet, namespace, frame.device, stage, "frame", text, None, frame.data, ethertype, changed)

    # ---- how it ended
    def _note_drop(self, drop: Drop) -> None:
        reason = self._words.reason(drop.reason)
        result = LEFT if reason.name == "parse/otherhost" and self._is_gateway(drop) else DROPPED
        verdict = Verdict(result, drop.namespace, reason.name, reason.sentence, self.topology.origin(drop.origin))
        self._fates.setdefault(drop.packet, []).append(verdict)

    def _is_gateway(self, drop: Drop) -> bool:
        """The frame is for a host that is only an address behind this one, such as the way out of the cluster."""
        hosts = self.topology.manifests.config.underlay.hosts
        name = self.topology.namespace_name(drop.namespace)
        return any(host.behind == name and host.mac and bytes.fromhex(host.mac.replace(":", "")) == drop.data[:6] for host in hosts)

    def _fate(self, packet: int, steps: Iterable[Step]) -> Verdict:
        """Of several copies' fates the best, for one that arrives is enough."""
        fates = self._fates.get(packet, [])
        for wanted in (DELIVERED, LEFT):
            for fate in fates:
                if fate.result == wanted:
                    return fate
        met = [fate for fate in fates if fate.reason not in STRAY] or fates
        if met:
            return met[-1]
        last = list(steps)[-1:]
        namespace = last[0].namespace if last else -1
        if packet in self.messages:
            return Verdict(DELIVERED, namespace, "", "a message of the tunnel's own, which goes no further", None)
        return Verdict(LOST, namespace, "", "it was still waiting when nothing else was due", None)


def _is_answer(step: Step) -> bool:
    """An IP packet, but none that hosts of a link exchange on their own account."""
    packet = parse_ip(step.data) if step.ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else None
    return packet is not None and not (packet.proto == PROTO_ICMP6 and packet.payload[:1] in _OF_THE_LINK)
