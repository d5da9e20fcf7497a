"""Recorded frames with comments on what was done to them: the steps of each walk put beside the frames that show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane.capture.folder import FolderWriter
from dataplane.capture.headers import bare_ip_version, network_offset
from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT, CaptureWriter, Record
from dataplane.control.topology import Topology
from dataplane.encap.secrets import take_secrets
from dataplane.report.drop_kinds import DropKind, DropKinds
from dataplane.report.segmentation import before_segmentation
from dataplane.report.walk_comments import WalkComments

if TYPE_CHECKING:
    from dataplane._core import Drop, Engine, Frame

# For what was dropped before it had a link header, by IP version, as on a capture of lo.
_NO_LINK_HEADER = {0: b"", 4: bytes(12) + b"\x08\x00", 6: bytes(12) + b"\x86\xdd"}


def _senders(topology: Topology, devices: Sequence[int]) -> dict[int, frozenset[bytes]]:
    """Addresses of the machines whose own ``eth0`` is recorded, by the interface's number."""
    found = {}
    for position, device in enumerate(devices):
        machine = topology.machines.get(topology.device_namespace(device))
        if machine is not None and machine.eth0 == device:
            found[position] = frozenset(address.packed for address in machine.addresses)
    return found


class CommentedRecords:
    """Takes frames, drops and steps out of the core as a run goes on, and writes them with their reasons."""

    def __init__(
        self, engine: Engine, topology: Topology, output: CaptureWriter | FolderWriter, devices: Sequence[int], comments: str
    ) -> None:
        self._engine = engine
        self._topology = topology
        self._output = output
        self._positions = {device: position for position, device in enumerate(devices)}
        self._uncut = _senders(topology, devices) if topology.manifests.config.faults.captured_before_segmentation else {}
        self._kinds = DropKinds(topology)
        self._walks = WalkComments(topology, every_step=comments == "all")
        self.frames = 0
        self.drops: Counter[DropKind] = Counter()
        engine.trace(comments != "none")

    def drain(self) -> None:
        """Write everything that happened since the last call."""
        secrets = take_secrets(self._engine)
        frames, drops, events = self._engine.frames(), self._engine.drops(), self._engine.events()
        kinds = [self._kinds.of(drop) for drop in drops]
        self.drops.update(kinds)
        self.frames += len(frames)
        for secret in secrets:
            self._output.add_secrets(*secret)
        comments = self._walks.comment(frames, events)
        records = [self._record(frame, comments.get(position, ())) for position, frame in enumerate(frames)]
        records += self._mark_drops(records, frames, drops, kinds)
        records.sort(key=lambda record: record.time_ns)
        for record in before_segmentation(records, self._uncut) if self._uncut else records:
            self._output.write(*record)

    def finish(self) -> None:
        """Everything was written as it came."""

    def abandon(self) -> None:
        """Nothing is under way."""

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
            position = seen.get((drop.packet, drop.device, drop.time))
            if position is not None:
                record = records[position]
                records[position] = record._replace(verdict=TC_ACT_SHOT, comments=(*record.comments, kind.line))
            elif drop.device in self._positions:
                data = _as_seen_on(drop.data, ethernet=self._topology.has_ethernet(drop.device))
                extra.append(Record(self._positions[drop.device], drop.time, data, False, drop.packet, TC_ACT_SHOT, (kind.line,)))
        return extra


def _as_seen_on(data: bytes, *, ethernet: bool) -> bytes:
    """What was dropped with the link header that frames of the device have, or without one."""
    version = bare_ip_version(data)
    if ethernet:
        return _NO_LINK_HEADER[version] + data
    return data if version else data[network_offset(data) :]
