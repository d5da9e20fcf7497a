"""What a run leaves behind: the annotated capture, and a tally of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.capture.folder import FolderWriter
from dataplane.capture.names import address_names, interfaces
from dataplane.capture.pcapng_write import CaptureWriter
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.report.commented_records import CommentedRecords
from dataplane.report.drop_kinds import DropKind
from dataplane.report.plain_records import PlainRecords

if TYPE_CHECKING:
    from dataplane._core import Engine

COMMENTS = ("changes", "all", "none")
"""What frames are commented with: drops and changes, every step, or drops alone (the fastest)."""


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """Where frames go, and which: ``file`` one pcapng, ``folder`` one pcapng for each interface, neither: nowhere."""

    file: str | None = None
    folder: str | None = None
    patterns: tuple[str, ...] = ("*",)  # shell patterns on names such as node1/eth0
    comments: str = COMMENTS[0]
    threads: int = 1  # 2 or more: records without comments on changes are written by a thread of their own


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
        capture = RunCapture(engine, topology, output, devices, options)
        try:
            yield capture
            capture.drain()
            capture.finish()
        finally:
            capture.abandon()
        if output is not None:
            output.close()
            capture.paths = tuple(output.paths)
    except BaseException:
        if output is not None:
            output.discard()
        raise


class RunCapture:
    """Takes out of the core what it recorded as a run goes on, and writes it.

    Call ``drain`` now and then: what was taken is written and forgotten, so that memory does not grow with the run. A file is
    sorted between two drains only, so these must come at the same places for the same bytes.
    A frame that is dropped where it was just seen carries verdict and reason itself; what is dropped elsewhere, or later,
    is a record of its own, with the bytes it had then.
    """

    def __init__(
        self,
        engine: Engine,
        topology: Topology,
        output: CaptureWriter | FolderWriter | None,
        devices: Sequence[int],
        options: CaptureOptions,
    ) -> None:
        self.paths: tuple[Path, ...] = ()  # of what was written, once the run is over
        joins_segments = topology.manifests.config.faults.captured_before_segmentation
        self._records: PlainRecords | CommentedRecords
        if output is not None and (options.comments != "none" or joins_segments):
            self._records = CommentedRecords(engine, topology, output, devices, options.comments)
        else:
            self._records = PlainRecords(engine, topology, output, devices, options.threads)

    @property
    def frames(self) -> int:
        """How many were recorded; all of them after ``finish``."""
        return self._records.frames

    @property
    def drops(self) -> Counter[DropKind]:
        """How many of each kind; all of them after ``finish``."""
        return self._records.drops

    def drain(self) -> None:
        """Write everything that happened since the last call."""
        self._records.drain()

    def finish(self) -> None:
        """Everything that was drained is written."""
        self._records.finish()

    def abandon(self) -> None:
        """Nothing more is written."""
        self._records.abandon()
