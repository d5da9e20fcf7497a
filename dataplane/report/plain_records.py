"""Recorded frames, with comments on drops and changes: from the core to the file without an object for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import LifoQueue
from typing import TYPE_CHECKING, NamedTuple

from dataplane._capture_write import RecordWriter
from dataplane._core import Records
from dataplane.capture.background import Worker
from dataplane.capture.folder import FolderWriter
from dataplane.capture.pcapng_write import CaptureWriter, comment_option
from dataplane.control.topology import Topology
from dataplane.encap.secrets import take_secrets
from dataplane.report.drop_kinds import DropKind, DropKinds
from dataplane.report.walk_comments import step_line

if TYPE_CHECKING:
    from dataplane._core import Engine

_PILES = 4  # that wait to be written at most, few enough that their memory stays near the processors
_PILE = 1 << 20  # bytes from which on one is handed over: to wake the thread that writes takes as long as to carry some 50 packets
# Bytes written at once: a power of two, as pages are, and few enough to be near a processor still. A MiB is no faster, and sometimes five
# times as slow on a virtual machine whose host takes back memory that has been free for a while.
_PIECE = 1 << 19
_PIECES = 64 << 20  # bytes of all buffers together where there are many files
_LEAST_PIECE = 1 << 14


class _Stretch(NamedTuple):
    """Memory for what is recorded between two drains."""

    frames: Records
    drops: Records
    data: Records
    changes: Records
    secrets: list[tuple[int, bytes]]

    def size(self) -> int:
        """Bytes of what was recorded."""
        return len(self.frames) + len(self.drops) + len(self.data) + len(self.changes)


@dataclass(slots=True)
class _Pile:
    """Stretches that are written together, one after the other."""

    stretches: list[_Stretch] = field(default_factory=list)
    used: int = 0
    size: int = 0

    def next(self) -> _Stretch:
        """Memory for the next one."""
        if self.used == len(self.stretches):
            self.stretches.append(_Stretch(Records(), Records(), Records(), Records(), []))
        self.used += 1
        return self.stretches[self.used - 1]


def _piece(files: int) -> int:
    """Of each of so many files."""
    share = _PIECES // max(files, 1)
    return max(_LEAST_PIECE, min(_PIECE, 1 << max(share.bit_length() - 1, 0)))


class PlainRecords:
    """Takes frames, drops and with ``changes`` those out of the core and has them written; with ``threads`` of 2 or more by a thread of
    its own."""

    def __init__(
        self,
        engine: Engine,
        topology: Topology,
        output: CaptureWriter | FolderWriter | None,
        devices: Sequence[int],
        threads: int,
        *,
        changes: bool = False,
    ) -> None:
        self._engine = engine
        self._topology = topology
        self._output = output
        self._kinds = DropKinds(topology)
        positions = {device: position for position, device in enumerate(devices)}
        every = range(max(topology.device_ids(), default=-1) + 1)
        apart = isinstance(output, FolderWriter)
        piece = _piece(len(devices)) if apart else _PIECE
        interfaces = [positions.get(device, -1) for device in every] if output is not None else []
        ethernet = [topology.has_ethernet(device) for device in every] if output is not None else []
        namespaces = [topology.device_namespace(device) for device in every] if output is not None else []
        self._writer = RecordWriter(interfaces, ethernet, namespaces, apart=apart, piece=piece)
        if isinstance(output, CaptureWriter) and devices:
            self._writer.open(0, output.descriptor(0))
        self._devices = len(devices)
        self._free: LifoQueue[_Pile] = LifoQueue()  # what was written last is nearest to the processors, and rarely are all needed
        for _ in range(_PILES if threads > 1 else 1):
            self._free.put(_Pile())
        self._pile = self._free.get()
        engine.trace(changes and output is not None, changes=True)
        self._worker = Worker(self._write, self._give_back) if threads > 1 else None

    @property
    def frames(self) -> int:
        """How many were recorded."""
        return self._writer.frames

    @property
    def drops(self) -> Counter[DropKind]:
        """How many of each kind there were."""
        found: Counter[DropKind] = Counter()
        for reason, namespace, device, origin, count in self._writer.drops():
            found[self._kinds.by_number(reason, namespace, device, origin)] += count
        return found

    def drain(self) -> None:
        """Everything since the last call goes out."""
        stretch = self._pile.next()
        stretch.secrets[:] = take_secrets(self._engine)
        self._engine.exchange(stretch.frames, stretch.drops, stretch.data, stretch.changes)
        self._pile.size += stretch.size()
        if self._worker is None or self._pile.size >= _PILE:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._worker is None:
            self._write(self._pile)
        else:
            self._worker.put(self._pile)
        self._pile = self._free.get()

    def finish(self) -> None:
        """Wait until all is written, and tell the output what the interfaces saw."""
        if self._worker is not None:
            self._hand_over()
            self._worker.close()
        self._guarded(self._writer.flush)
        if self._output is None:
            return
        for interface in range(self._devices):
            frames, dropped, first, last = self._writer.statistics(interface)
            if frames:
                self._output.note(interface, frames, dropped, first, last)

    def abandon(self) -> None:
        """Write nothing more."""
        if self._worker is not None:
            self._worker.stop()

    def _write(self, pile: _Pile) -> None:
        for stretch in pile.stretches[: pile.used]:
            self._write_stretch(stretch)
        self._give_back(pile)

    def _give_back(self, pile: _Pile) -> None:
        pile.used = pile.size = 0
        self._free.put(pile)

    def _write_stretch(self, stretch: _Stretch) -> None:
        if stretch.secrets and self._output is not None:
            self._guarded(self._writer.flush)
            for secret in stretch.secrets:
                self._output.add_secrets(*secret)
            self._output.flush()
        recorded = stretch.frames, stretch.drops, stretch.data, stretch.changes
        self._guarded(lambda: self._writer.write(*recorded, self._opened, self._dropped, self._changed))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            if self._output is None:
                raise
            raise self._output.failure(error, self._writer.failed) from error

    def _opened(self, interface: int) -> int:
        assert self._output is not None
        return self._output.descriptor(interface)

    def _dropped(self, reason: int, namespace: int, device: int, origin: int) -> bytes:
        return comment_option(self._kinds.by_number(reason, namespace, device, origin).line)

    def _changed(self, word: str, device: int, origin: int, detail: str) -> bytes:
        name = self._topology.short_device_name(device) if device >= 0 else ""
        return comment_option(step_line(word, f"{name}{detail}", self._topology.origin(origin)))
