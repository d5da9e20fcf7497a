"""What a row times, and how: passes over the same frames, the fastest and the median of them."""

from __future__ import annotations

import gc
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dataplane.bench.instructions import InstructionCounter

LONGEST = 25  # passes that count; more would leave the window that connections are opened with
ENOUGH_NS = 1_500_000_000  # of timed work: no further pass is begun after it


class Mismatch(Exception):
    """What was timed did not do what it should have: its numbers mean nothing."""


@dataclass(frozen=True)
class Settings:
    """How rows are measured."""

    seed: int = 0
    quick: bool = False  # tiny sizes: whether rows work, not how fast
    passes: int = 0  # exactly as many count, 0: as many as are enough
    say: Callable[[str], None] = lambda message: None  # progress


@dataclass
class Measurement:
    """Of one row at one size. ``least`` and ``median`` are of one unit of work, in the row's unit."""

    least: float
    median: float
    passes: int
    units: int  # of work in a pass: packets, lookups, connections
    instructions: float | None = None  # for each unit
    bytes_per_entry: float | None = None
    checked: str = ""  # what the bytes were compared with
    details: dict[str, Any] = field(default_factory=dict)


class Measured(ABC):
    """What a row stands for at one size."""

    @abstractmethod
    def measure(self, settings: Settings) -> Measurement:
        """Do it, and say what it cost. Raises Mismatch."""


class Work(Measured):
    """Something that is done again and again, ``units`` at a time."""

    units: int
    checked: str = ""
    fixed_ns: float = 0  # of a pass, that is not counted
    unit_ns: float = 1  # what times are given in: nanoseconds
    warm_up = 2  # passes before those that count: caches, and a fast path that has to see a flow repeat
    shortest = 5  # passes that count

    def before(self) -> None:
        """Get ready for a pass; not timed."""

    @abstractmethod
    def run(self) -> None:
        """One pass."""

    def after(self) -> None:
        """Raise Mismatch if the pass did not do what it should; not timed."""

    def check(self) -> None:
        """Compare the bytes of a sample with what they should be. Raises Mismatch."""

    def details(self) -> dict[str, Any]:
        """What else the row's reader wants to know."""
        return {}

    def bytes_per_entry(self) -> float | None:
        """Of the table that the row is about."""
        return None

    def measure(self, settings: Settings) -> Measurement:
        """Warm up, time the passes, check."""
        warm_up, least, most = (min(1, self.warm_up), 2, 2) if settings.quick else (self.warm_up, self.shortest, LONGEST)
        if settings.passes:
            least = most = settings.passes
        times, instructions = [], []
        counter = InstructionCounter()
        gc.collect()
        gc.disable()
        try:
            for number in range(warm_up + most):
                self.before()
                counter.start()
                start = time.perf_counter_ns()
                self.run()
                elapsed = time.perf_counter_ns() - start
                counted = counter.stop()
                self.after()
                if number >= warm_up:
                    times.append(elapsed)
                    instructions.append(counted)
                    if len(times) >= least and sum(times) >= ENOUGH_NS:
                        break
        finally:
            gc.enable()
        self.check()
        known = [each for each in instructions if each is not None]
        each = [max(0, elapsed - self.fixed_ns) / self.unit_ns / self.units for elapsed in times]
        return Measurement(
            min(each), statistics.median(each), len(each), self.units, min(known) / self.units if known else None,
            self.bytes_per_entry(), self.checked, self.details(),
        )  # fmt: skip
