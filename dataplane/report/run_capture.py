"""What a run leaves behind: the annotated capture, and a tally of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dataplane._core import drop_reasons
from dataplane.capture.folder import FolderWriter
from dataplane.capture.headers import bare_ip_version, network_offset
from dataplane.capture.names import address_names, interfaces
from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT, CaptureWriter, Record
from dataplane.control.topology import Topology
from dataplane.encap.secrets import take_secrets
from dataplane.errors import InputError
from dataplane.k8s.objects import Origin
from dataplane.report.segmentation import before_segmentation
from dataplane.report.walk_comments import WalkComments

if TYPE_CHECKING:
    from dataplane._core import Drop, Engine, Frame

COMMENTS = ("changes", "all", "none")
"""What frames are commented with: drops and changes, every step, or drops alone (the fastest)."""

# For what was dropped before it had a link header, by IP version, as on a capture of lo.
_NO_LINK_HEADER = {0: b"", 4: bytes(12) + b"\x08\x00", 6: bytes(12) + b"\x86\xdd"}


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """Where frames go, and which: ``file`` one pcapng, ``folder`` one pcapng for each interface, neither: nowhere."""

    file: str | None = None
    folder: str | None = None
    patterns: tuple[str, ...] = ("*",)  # shell patterns on names such as node1/eth0
    comments: str = COMMENTS[0]


class DropKind(NamedTuple):
    """Drops that are counted together."""

    reason: str  # <stage>/<fact>
    sentence: str
    place: str  # node1/eth0, or the namespace alone
    origin: Origin | None  # the manifest line that decided


def select_devices(engine: Engine, topology: Topology, patterns: Sequence[str]) -> list[int]:
    """Devices whose name (``node1/eth0``) matches any shell pattern; the core records frames on no other.

    Raises InputError for a pattern that matches nothing.
    """
    names = {device: topology.device_name(device) for device in topology.device_ids()}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names.values()):
            some = ", ".join(list(names.values())[:6])
            raise InputError(f"--capture {pattern!r} matches no interface; there are {some}, ...")
    chosen = [device for device, name in names.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for device in names.keys() - set(chosen):
        engine.set_device(device, capture=False)
    if topology.switch >= 0:
        for device in topology.devices_of(topology.switch).values():
            engine.set_device(device, capture=False)
    return chosen


def _open_output(topology: Topology, devices: Sequence[int], options: CaptureOptions) -> CaptureWriter | FolderWriter | None:
    described = interfaces(topology, devices)
    names = address_names(topology.manifests)
    if options.folder is not None:
        return FolderWriter(options.folder, described, names)
    return CaptureWriter(options.file, described, names) if options.file is not None else None


@contextmanager
def recording(engine: Engine, topology: Topology, options: CaptureOptions) -> Iterator[RunCapture]:
    """Record a run on a cluster that was just built: the files are there after the block, or after an exception none of them."""
    devices = select_devices(engine, topology, options.patterns if options.file or options.folder else ())
    output = _open_output(topology, devices, options)
    try:
        capture = RunCapture(engine, topology, output, devices, options.comments)
        yield capture
        capture.drain()
        if output is not None:
            output.close()
            capture.paths = tuple(output.paths)
    except BaseException:
        if output is not None:
            output.discard()
        raise


def _senders(topology: Topology, devices: Sequence[int]) -> dict[int, frozenset[bytes]]:
    """Addresses of the machines whose own ``eth0`` is recorded, by the interface's number."""
    found = {}
    for position, device in enumerate(devices):
        machine = topology.machines.get(topology.device_namespace(device))
        if machine is not None and machine.eth0 == device:
            found[position] = frozenset(address.packed for address in machine.addresses)
    return found


class RunCapture:
    """Takes frames, drops and steps out of the core as a run goes on, and writes them with their reasons.

    Call ``drain`` now and then: what was taken is written and forgotten, so that memory does not grow with the run.
    A frame that is dropped where it was just seen carries verdict and reason itself; what is dropped elsewhere, or later,
    is a record of its own, with the bytes it had then.
    """

    def __init__(
        self, engine: Engine, topology: Topology, output: CaptureWriter | FolderWriter | None, devices: Sequence[int], comments: str
    ) -> None:
        self._engine = engine
        self._topology = topology
        self._output = output
        self._positions = {device: position for position, device in enumerate(devices)}
        self._uncut = _senders(topology, devices) if topology.manifests.config.faults.captured_before_segmentation else {}
        self._reasons = drop_reasons()
        self._walks = WalkComments(topology, every_step=comments == "all")
        self.frames = 0
        self.paths: tuple[Path, ...] = ()  # of what was written, once the run is over
        self.drops: Counter[DropKind] = Counter()
        engine.trace(output is not None and comments != "none")

    def drain(self) -> None:
        """Write everything that happened since the last call."""
        secrets = take_secrets(self._engine)
        frames, drops, events = self._engine.frames(), self._engine.drops(), self._engine.events()
        kinds = [self._kind(drop) for drop in drops]
        self.drops.update(kinds)
        self.frames += len(frames)
        if self._output is None:
            return
        for secret in secrets:
            self._output.add_secrets(*secret)
        comments = self._walks.comment(frames, events)
        records = [self._record(frame, comments.get(position, ())) for position, frame in enumerate(frames)]
        records += self._mark_drops(records, frames, drops, kinds)
        records.sort(key=lambda record: record.time_ns)
        for record in before_segmentation(records, self._uncut) if self._uncut else records:
            self._output.write(*record)

    def _record(self, frame: Frame, comments: Sequence[str]) -> Record:
        verdict = TC_ACT_OK if comments else None
        return Record(self._positions[frame.device], frame.time, frame.data, frame.outgoing, frame.packet, verdict, tuple(comments))

    def _mark_drops(self, records: list[Record], frames: Sequence[Frame], drops: Sequence[Drop], kinds: Sequence[DropKind]) -> list[Record]:
        """Put verdict and reason on the records of frames that were dropped; a new record for each drop that has none."""
        if not drops:
            return []
        seen = {(frame.packet, frame.device, frame.time): position for position, frame in enumerate(frames)}
        extra = []
        for drop, kind in zip(drops, kinds, strict=True):
            line = f"{kind.reason}: {kind.sentence}{f' [{kind.origin}]' if kind.origin else ''}"
            position = seen.get((drop.packet, drop.device, drop.time))
            if position is not None:
                record = records[position]
                records[position] = record._replace(verdict=TC_ACT_SHOT, comments=(*record.comments, line))
            elif drop.device in self._positions:
                data = _as_seen_on(drop.data, ethernet=self._topology.has_ethernet(drop.device))
                extra.append(Record(self._positions[drop.device], drop.time, data, False, drop.packet, TC_ACT_SHOT, (line,)))
        return extra

    def _kind(self, drop: Drop) -> DropKind:
        reason = self._reasons[drop.reason]
        if drop.device >= 0:
            place = self._topology.device_name(drop.device)
        else:
            place = self._topology.namespace_name(drop.namespace) if drop.namespace >= 0 else "?"
        return DropKind(reason.name, reason.sentence, place, self._topology.origin(drop.origin))


def _as_seen_on(data: bytes, *, ethernet: bool) -> bytes:
    """What was dropped with the link header that frames of the device have, or without one."""
    version = bare_ip_version(data)
    if ethernet:
        return _NO_LINK_HEADER[version] + data
    return data if version else data[network_offset(data) :]
