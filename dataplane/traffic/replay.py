"""Carries the frames of a capture, with their times relative to the first, into a cluster."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from dataplane._capture_read import Batch, Frames
from dataplane.capture.background import Ahead
from dataplane.capture.batches import BATCH_PACKETS, BatchReader, new_batch
from dataplane.capture.packet import Packet
from dataplane.control.topology import Machine
from dataplane.traffic.fitter import FrameFitter

if TYPE_CHECKING:
    from dataplane._core import Engine

_PACKETS_BETWEEN_DRAINS = 512  # whatever the batches: it decides the order of records of one instant
_BATCHES_AHEAD = 2
_MOST_THREADS = 64  # that the core carries with
_KEPT_RUNS = 8


@dataclass(slots=True)
class UnfitPackets:
    """Packets that were not injected for one reason."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    """First and last number of each run of them, the first few runs only: memory does not grow with the capture."""
    packets: int = 0
    more: int = 0  # of these, packets of runs that were not kept
    _last: int = -1

    def add(self, first: int, last: int) -> None:
        """Another run, behind all others."""
        self.packets += last - first + 1
        continues = first == self._last + 1
        self._last = last
        if continues and not self.more:
            self.runs[-1] = self.runs[-1][0], last
        elif len(self.runs) < _KEPT_RUNS and not self.more:
            self.runs.append((first, last))
        else:
            self.more += last - first + 1


@dataclass(slots=True)
class ReplaySummary:
    """What was done with the packets of a capture."""

    read: int = 0
    filtered: int = 0  # left out by the filter
    injected: int = 0
    unfit: dict[str, UnfitPackets] = field(default_factory=dict)  # by reason


class _Load(NamedTuple):
    """A batch of packets that was made frames."""

    batch: Batch
    frames: Frames
    filtered: int
    unfit: dict[str, list[tuple[int, int]]]
    upto: int  # how far into the capture it goes


class _Loader:
    """Reads and fits batch after batch. While it asks the engine for routes, ``engine_lock`` keeps others out of it."""

    def __init__(
        self, reader: BatchReader, fitter: FrameFitter, wanted: Callable[[Packet], bool] | None, start: int, engine_lock: Lock, ahead: int
    ) -> None:
        self._reader = reader
        self._fitter = fitter
        self._wanted = wanted
        self._start = start
        self._lock = engine_lock
        self._zero: int | None = None
        self._free: SimpleQueue[tuple[Batch, Frames] | None] = SimpleQueue()
        for _ in range(ahead + 2):  # one that is made, one that is carried
            self._free.put((new_batch(), Frames(BATCH_PACKETS)))

    def loads(self) -> Iterator[_Load]:
        """One after the other; each is to be given back."""
        while (free := self._free.get()) is not None and self._reader.fill(free[0]):
            yield self._load(*free)

    def stop(self) -> None:
        """Do not wait for what was not given back."""
        self._free.put(None)

    def give_back(self, load: _Load) -> None:
        self._reader.release(load.upto)
        self._free.put((load.batch, load.frames))

    def _load(self, batch: Batch, frames: Frames) -> _Load:
        skipped = self._skipped(batch)
        first = 0 if skipped is None else skipped.find(b"\0")
        if self._zero is None and first >= 0:
            self._zero = batch.packet(first)[3]
        zero = self._zero or 0
        unfit = self._fitter.fit_batch(self._reader, batch, frames, self._lock, start=self._start, zero=zero, skipped=skipped)
        start, length, *_ = batch.packet(len(batch) - 1)
        return _Load(batch, frames, 0 if skipped is None else skipped.count(1), unfit, start + length)

    def _skipped(self, batch: Batch) -> bytes | None:
        """A 1 for each packet that the filter leaves out."""
        if self._wanted is None:
            return None
        return bytes(not self._wanted(self._reader.packet(batch, i)) for i in range(len(batch)))


def replay(
    engine: Engine,
    machine: Machine,
    reader: BatchReader,
    fitter: FrameFitter,
    *,
    wanted: Callable[[Packet], bool] | None = None,
    drain: Callable[[], None] | None = None,
    threads: int = 1,
) -> ReplaySummary:
    """Inject packets at the machine's eth0 and carry them, and all they cause, to the end.

    The first chosen packet's time is the run's zero; a packet earlier than the one before it goes right after that one.
    ``wanted`` chooses packets; ``drain`` is called at every 512th injected frame, to take what was recorded out of the core.
    ``threads``: how many the core may carry with; with 2 or more the capture is read ahead by a thread of its own.
    """
    lock = Lock()
    is_ahead = threads > 1
    loader = _Loader(reader, fitter, wanted, engine.now, lock, _BATCHES_AHEAD if is_ahead else 0)
    carrier = _Carrier(engine, machine, lock, drain, threads)
    if not is_ahead:
        for load in loader.loads():
            carrier.carry(load)
            loader.give_back(load)
    else:
        ahead = Ahead(loader.loads(), _BATCHES_AHEAD)
        try:
            for load in ahead:
                carrier.carry(load)
                loader.give_back(load)
        finally:
            loader.stop()
            ahead.close()
    engine.run()
    return carrier.summary


class _Carrier:
    """Injects what was loaded."""

    def __init__(self, engine: Engine, machine: Machine, lock: Lock, drain: Callable[[], None] | None, threads: int) -> None:
        self._engine = engine
        self._threads = min(threads, _MOST_THREADS)
        self._lock = lock
        self._drain = drain
        self._devices = array("i", [machine.eth0] * _PACKETS_BETWEEN_DRAINS)
        self._refused = bytearray(_PACKETS_BETWEEN_DRAINS)  # none: the fitter has left out what is too long
        self.summary = ReplaySummary()

    def carry(self, load: _Load) -> None:
        summary = self.summary
        summary.read += len(load.batch)
        summary.filtered += load.filtered
        for reason, runs in load.unfit.items():
            noted = summary.unfit.setdefault(reason, UnfitPackets())
            for first, last in runs:
                noted.add(first, last)
        frames = load.frames
        done, most = 0, len(frames)
        starts, lengths, times = memoryview(frames.starts), memoryview(frames.lengths), memoryview(frames.times)
        while done < most:
            upto = min(most, done + _PACKETS_BETWEEN_DRAINS - summary.injected % _PACKETS_BETWEEN_DRAINS)
            with self._lock:
                self._engine.carry(
                    frames.data,
                    self._devices,
                    starts[done:upto],
                    lengths[done:upto],
                    times[done:upto],
                    self._refused,
                    threads=self._threads,
                )
            summary.injected += upto - done
            done = upto
            if self._drain is not None and summary.injected % _PACKETS_BETWEEN_DRAINS == 0:
                self._drain()
