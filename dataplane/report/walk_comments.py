"""Puts what the core decided beside the frames that show it: which comment belongs to which captured frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane.capture.headers import FlowKey, bare_ip_version, flow_key, network_offset
from dataplane.control.topology import Topology
from dataplane.k8s.objects import Origin

if TYPE_CHECKING:
    from dataplane._core import Event, Frame

_CHANGES = {("nat", "dnat"), ("nat", "snat"), ("tunnel", "encap"), ("tunnel", "decap"), ("fragment", "fragment")}
"""Stage and word of the steps that change more of a frame than its TTL."""

Comments = dict[int, list[str]]
"""Lines by position in the list of frames."""


class WalkComments:
    """Comments of frames from the steps of their walks.

    A change is told on the first frame of that packet, in that namespace, whose bytes show it; any other step (only with
    ``every_step``) on the packet's frame at that step's device. Steps of a packet that waits (for a neighbour, for its other
    fragments) are kept for the frames of the next call, and no longer: memory is bounded by what two calls bring.
    """

    def __init__(self, topology: Topology, *, every_step: bool) -> None:
        self._topology = topology
        self._every_step = every_step
        self._waiting: list[tuple[Event, str]] = []

    def comment(self, frames: Sequence[Frame], events: Sequence[Event]) -> Comments:
        """Frames and events of one stretch of time, both in order."""
        index = _Index(self._topology, frames)
        carried = len(self._waiting)
        steps = self._waiting + self._told(events)
        comments: Comments = {}
        self._waiting = []
        for number, (event, line) in enumerate(steps):
            place = index.find_change(event) if _is_change(event) else index.find_step(event)
            if place is not None:
                comments.setdefault(place, []).append(line)
            elif number >= carried:
                self._waiting.append((event, line))
        return comments

    def _told(self, events: Sequence[Event]) -> list[tuple[Event, str]]:
        """The events worth a line, with it. Translations name the rule that led to them."""
        told = []
        rule: dict[tuple[int, int], int] = {}  # origin of the last rule of the nat table, by packet and namespace
        for event in events:
            if event.stage == "rules" and event.detail.startswith("nat "):
                rule[event.packet, event.namespace] = event.origin
            origin = event.origin
            if event.stage == "nat":
                origin = origin or rule.pop((event.packet, event.namespace), 0)
            if (self._every_step and event.stage != "drop") or _is_change(event):
                told.append((event, self._line(event, origin)))
        return told

    def _line(self, event: Event, number: int) -> str:
        return step_line(event.what if _is_change(event) else event.stage, event.detail, self._topology.origin(number))


def step_line(word: str, detail: str, origin: Origin | None) -> str:
    """The comment on a step; ``origin``: the manifest line that decided."""
    return f"{word}: {detail}{f' [{origin}]' if origin else ''}"


def _is_change(event: Event) -> bool:
    return (event.stage, event.what) in _CHANGES


class _Index:
    """Positions of the frames of each packet, by namespace and by device."""

    def __init__(self, topology: Topology, frames: Sequence[Frame]) -> None:
        self._topology = topology
        self._frames = frames
        self._by_namespace: dict[tuple[int, int], list[int]] = {}
        self._by_device: dict[tuple[int, int], list[int]] = {}
        self._told: set[tuple[int, str]] = set()  # positions that show a change already, and its kind
        for position, frame in enumerate(frames):
            self._by_namespace.setdefault((frame.packet, topology.device_namespace(frame.device)), []).append(position)
            self._by_device.setdefault((frame.packet, frame.device), []).append(position)

    def find_change(self, event: Event) -> int | None:
        """Each of several fragments is encapsulated in its turn: the next frame that shows it and has not been told so."""
        after = _key_of(event.data)
        if after is None:
            return None
        for position in self._by_namespace.get((event.packet, event.namespace), ()):
            frame = self._frames[position]
            key = flow_key(frame.data[network_offset(frame.data) :] if self._topology.has_ethernet(frame.device) else frame.data)
            if frame.time < event.time or key is None or (position, event.what) in self._told:
                continue
            if _shows(event, after, key, frame.outgoing):
                self._told.add((position, event.what))
                return position
        return None

    def find_step(self, event: Event) -> int | None:
        at_device = self._by_device.get((event.packet, event.device), ())
        in_namespace = self._by_namespace.get((event.packet, event.namespace), ())
        return next((position for position in (*at_device, *in_namespace) if self._frames[position].time >= event.time), None)


def _key_of(data: bytes) -> FlowKey | None:
    """Of an event's bytes, which begin with the frame or, before there is one, with the packet."""
    return flow_key(data if bare_ip_version(data) else data[network_offset(data) :])


def _shows(event: Event, after: FlowKey, key: FlowKey, outgoing: bool) -> bool:
    """Whether a frame with ``key`` shows the change that left the packet as ``after``."""
    if event.what == "dnat":
        return key.destination == after.destination and _same_port(key.destination_port, after.destination_port)
    if event.what == "snat":
        return key.source == after.source and _same_port(key.source_port, after.source_port)
    ends = (key.source, key.destination, key.protocol) == (after.source, after.destination, after.protocol)
    if event.what == "fragment":
        return ends and key.fragmented and outgoing
    return ends


def _same_port(one: bytes, other: bytes) -> bool:
    return one == other or not (one and other)  # later fragments show none
