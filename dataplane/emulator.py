"""The Python interface: a cluster, an emulator that carries frames through it, and what came of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dataplane.encap.secrets import take_secrets
from dataplane.errors import InputError
from dataplane.k8s.objects import Manifests, Origin
from dataplane.scapy_border import Buildable, dissect_frame, to_bytes

if TYPE_CHECKING:
    from scapy.packet import Packet

    from dataplane._core import Engine
    from dataplane.control.change import Changes
    from dataplane.control.topology import Topology


class CapturedFrame(NamedTuple):
    """One frame as a packet socket on one interface saw it."""

    time: int  # virtual nanoseconds
    interface: str  # node1/eth0
    direction: str  # in | out
    packet: int  # the same id for one frame on all its hops
    data: bytes
    ethernet: bool = True  # False: it begins with an IP header, as on a tunnel that carries no Ethernet frames

    @property
    def scapy(self) -> Packet:
        """The frame as a Scapy packet (see ``dataplane.scapy_border`` for what its licence means)."""
        return dissect_frame(self.data, ethernet=self.ethernet)


class DroppedFrame(NamedTuple):
    """One frame that went no further, and why."""

    time: int  # virtual nanoseconds
    place: str  # node1/eth0, or the namespace alone
    packet: int
    reason: str  # <stage>/<fact>, as in dataplane._core.drop_reasons()
    sentence: str
    origin: Origin | None  # the manifest line that decided, if one did
    data: bytes  # the frame as it stood then


class Step(NamedTuple):
    """One step of a packet's walk."""

    time: int  # virtual nanoseconds
    place: str
    stage: str
    what: str
    detail: str
    origin: Origin | None
    data: bytes  # what the packet was after this step, where it changed; else empty

    def __str__(self) -> str:
        source = f"  [{self.origin}]" if self.origin else ""
        return f"{self.time:>12} {self.place:<20} {self.stage}: {self.detail}{source}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as manifests describe it."""

    manifests: Manifests

    @classmethod
    def load(cls, *sources: str | os.PathLike[str]) -> Cluster:
        """Read files, directories or ``-`` (standard input); raises ``InputError`` with file and line."""
        from dataplane.k8s import load

        return cls(load([os.fspath(source) for source in sources]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was read but has no effect, one line each."""
        return self.manifests.warnings


class Emulator:
    """A cluster at work. The same cluster, seed and input give the same bytes.

    ``engine`` and ``topology`` are the compiled core and the names of what is in it, for what has no method here.
    Without ``trace`` it is faster, but ``explain`` has nothing to say.
    """

    def __init__(self, cluster: Cluster, *, seed: int = 0, trace: bool = True) -> None:
        from dataplane._core import Engine, drop_reasons
        from dataplane.control.build import build

        self.engine: Engine = Engine(seed)
        self.topology: Topology = build(cluster.manifests, self.engine)
        self.warnings = (*cluster.warnings, *self.topology.warnings)
        self._reasons = drop_reasons()
        self._traced = trace
        self._frames: list[CapturedFrame] = []
        self._secrets: list[tuple[int, bytes]] = []
        self._drops: list[DroppedFrame] = []
        self._steps: dict[int, list[Step]] = {}
        self._changes: Changes | None = None
        self.engine.trace(trace)

    @property
    def now(self) -> int:
        """Virtual time in nanoseconds."""
        return self.engine.now

    def inject(self, at: str, frame: Buildable | bytes, *, time: int | None = None) -> int:
        """Hand a frame to a transmit queue, as a packet socket does; returns its packet id.

        ``at``: ``pod/NAMESPACE/NAME``, ``node/NAME`` or ``host/NAME`` (its eth0), or an interface such as ``node1/cni0``.
        ``time``: virtual nanoseconds, default now. The frame begins with the Ethernet header (with the IP header on an interface
        whose frames have none) and has no FCS.
        Raises ``InputError`` for an unknown place and a frame that a packet socket would refuse.
        """
        data = to_bytes(frame)
        packet = self.engine.inject(self._device(at), data, at=time)
        if packet < 0:
            raise InputError(f"{at}: a frame of {len(data)} bytes is refused: it must have 14 bytes, and at most the MTU besides")
        return packet

    def send(self, at: str, packet: Buildable | bytes, *, time: int | None = None) -> int:
        """An application of ``pod/...``, ``node/...`` or ``host/...`` sends this IP packet; returns its packet id.

        Unlike ``inject`` it passes that machine's own output rules, routes and neighbours.
        """
        return self.engine.send(self.topology.endpoint(at).namespace, to_bytes(packet), at=time)

    def change(self, put: Iterable[Mapping[str, Any]] = (), delete: Iterable[Mapping[str, Any]] = ()) -> None:
        """At this point of virtual time objects of the cluster come, change (``put``) or go (``delete``).

        Objects are Services, EndpointSlices and Pods as manifests have them, as dicts; of those that go kind and metadata do. Rules,
        routes and the like become those of a cluster that had been like that from the start. Raises ``InputError`` for other kinds, a
        service without clusterIP, a pod without podIP, an address that is taken, and the deletion of what is not there; nothing has
        then changed.
        """
        from dataplane.control.change import Changes
        from dataplane.k8s.changed import read_changeable

        if self._changes is None:
            self._changes = Changes(self.engine, self.topology)
        manifests = self.topology.manifests
        self._changes.apply(read_changeable(list(put), manifests, "change"), self._changes.named(delete))

    def run(self, duration: int | None = None, *, until: int | None = None) -> None:
        """Carry everything due: within ``duration`` from now, up to ``until`` (virtual nanoseconds), or without both all there is."""
        if duration is not None and until is not None:
            raise InputError("give a duration or an end, not both")
        self.engine.run(self.now + duration if duration is not None else until)
        self._secrets += take_secrets(self.engine)
        self._frames += self._new_frames()
        self._drops += self._new_drops()
        for packet, step in self._new_steps():
            self._steps.setdefault(packet, []).append(step)

    @property
    def frames(self) -> list[CapturedFrame]:
        """Every frame seen so far on any interface of any node, pod and host, in order."""
        return self._frames

    @property
    def secrets(self) -> list[tuple[int, bytes]]:
        """What decrypts the frames seen so far, for ``CaptureWriter.add_secrets``."""
        return self._secrets

    @property
    def drops(self) -> list[DroppedFrame]:
        """Every frame dropped so far, in order."""
        return self._drops

    def counters(self) -> dict[str, int]:
        """Of all frames so far: in, generated, copies, fragments_made, out, dropped, consumed, fragments_merged, held; drop/<reason>."""
        return self.engine.counters()

    def explain(self, packet: int) -> list[Step]:
        """The walk of one packet so far, step by step; ``packet`` is what ``inject`` returned or a frame's ``packet``."""
        if not self._traced:
            raise InputError("nothing was traced: make the emulator with trace=True")
        return self._steps.get(packet, [])

    def _device(self, at: str) -> int:
        kind = at.partition("/")[0]
        if kind in ("pod", "node", "host") and not self.topology.has_device(at):
            return self.topology.endpoint(at).eth0
        return self.topology.device_id(at)

    def _place(self, namespace: int, device: int) -> str:
        return self.topology.device_name(device) if device >= 0 else self.topology.namespace_name(namespace)

    def _new_frames(self) -> Iterator[CapturedFrame]:
        for frame in self.engine.frames():
            if self.topology.is_captured(frame.device):
                name, direction = self.topology.device_name(frame.device), "out" if frame.outgoing else "in"
                yield CapturedFrame(frame.time, name, direction, frame.packet, frame.data, self.topology.has_ethernet(frame.device))

    def _new_drops(self) -> Iterator[DroppedFrame]:
        for drop in self.engine.drops():
            reason, place = self._reasons[drop.reason], self._place(drop.namespace, drop.device)
            yield DroppedFrame(drop.time, place, drop.packet, reason.name, reason.sentence, self.topology.origin(drop.origin), drop.data)

    def _new_steps(self) -> Iterator[tuple[int, Step]]:
        for event in self.engine.events():
            place, origin = self._place(event.namespace, event.device), self.topology.origin(event.origin)
            yield event.packet, Step(event.time, place, event.stage, event.what, event.detail, origin, event.data)
