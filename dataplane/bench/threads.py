"""Two threads beside one: the same segments in two worlds that must stay the same."""

from __future__ import annotations

import gc
import hashlib
import statistics
import time

from dataplane.bench.cluster import Shape
from dataplane.bench.flows import Flows
from dataplane.bench.service import CHUNK, EstablishedWork
from dataplane.bench.work import ENOUGH_NS, LONGEST, Measured, Measurement, Mismatch, Settings

THREADS = 2
_WARM_UP, _SHORTEST = 4, 8  # passes of each: flows are learnt, and windows grow as they hold


class ThreadsWork(Measured):
    """Established connections through VXLAN, in one world carried by one thread, in another by two: pass by pass in turn, so that
    whatever else the machine does meets both. The row's values are those of two."""

    def __init__(self, settings: Settings, flows: Flows, shape: Shape) -> None:
        self.settings = settings
        self.one, self.two = (EstablishedWork(settings, flows, shape) for _ in range(2))
        self.two.threads = THREADS
        if settings.quick:
            self.two.window = 0  # passes are shorter than it takes a thread to get up: they wait for each other

    def measure(self, settings: Settings) -> Measurement:
        """Raises Mismatch where the two worlds differ, or two threads did not carry together."""
        warm_up, least, most = (_WARM_UP, 2, 2) if settings.quick else (_WARM_UP, _SHORTEST, LONGEST)
        if settings.passes:
            least = most = settings.passes
        times: dict[EstablishedWork, list[int]] = {self.one: [], self.two: []}
        if settings.quick:
            self._learn()
        counts = self._cache()
        gc.collect()
        gc.disable()
        try:
            for number in range(warm_up + most):
                if number == warm_up:
                    counts = self._cache()
                for work, passes in times.items():
                    elapsed = timed_pass(work)
                    if number >= warm_up:
                        passes.append(elapsed)
                if number + 1 - warm_up >= least and sum(map(sum, times.values())) >= 2 * ENOUGH_NS:
                    break
        finally:
            gc.enable()
        together = self._together(counts)
        frames = self._check()
        units = self.two.units
        one, each = (sorted(elapsed / units for elapsed in passes) for passes in times.values())
        details = self.two.details() | {"one_thread": one[0], "times_one_thread": one[0] / each[0], "together": together}
        checked = f"{frames} frames, all connections and counters: one thread's, headers written anew, and the slow path alone"
        return Measurement(each[0], statistics.median(each), len(each), units, None, None, checked, details)

    def _learn(self) -> None:
        """Two passes of each world by one thread: two that wait for each other do not fill in what is asked of flows' programs."""
        for work in (self.one, self.two):
            threads, work.threads = work.threads, 1
            for _ in range(2):
                timed_pass(work)
            work.threads = threads

    def _cache(self) -> dict[str, int]:
        return self.two.service.node.engine.flow_cache()

    def _together(self, before: dict[str, int]) -> float:
        """The share that two threads have carried together of all that came since then: where another process has the second one's
        processor it is less. Raises Mismatch if it is nothing."""
        hits, shared = (self._cache()[name] - before[name] for name in ("hits", "shared"))
        if not shared:
            raise Mismatch(f"of {hits} packets of known flows {THREADS} threads carried {shared} together")
        return shared / hits

    def _check(self) -> int:
        """How many frames were compared. Raises Mismatch."""
        if fingerprint(self.one) != fingerprint(self.two):
            raise Mismatch(f"{THREADS} threads have come to something else than one")
        self.one.check()
        self.two.check()
        return self.two.units


def timed_pass(work: EstablishedWork) -> int:
    """Nanoseconds of one pass, which is checked."""
    work.before()
    start = time.perf_counter_ns()
    work.run()
    elapsed = time.perf_counter_ns() - start
    work.after()
    return elapsed


def fingerprint(work: EstablishedWork) -> str:
    """Of every frame of one more pass, as it leaves the node, and of what the world holds then."""
    node, digest = work.service.node, hashlib.blake2b()
    node.watch(node.uplink, True)
    work.before()
    times = work.frames.times(node.engine.now + 1)
    for first in range(0, work.units, CHUNK):
        chosen = work.frames.between(first, min(first + CHUNK, work.units))
        chosen.carry(node.engine, times[first : first + len(chosen)], threads=work.threads, window=work.window)
        for frame in node.engine.frames():
            digest.update(repr(frame).encode())
    node.watch(node.uplink, False)
    for row in node.engine.conntrack(node.namespace):
        digest.update(repr(row).encode())
    digest.update(repr((node.engine.now, node.engine.counters(), node.engine.fdb(node.namespace))).encode())
    return digest.hexdigest()
