"""How long this machine's core takes for a packet, stage by stage: the only numbers here that differ from run to run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from dataplane.explain.compare_flows import BoundFlow
from dataplane.explain.compare_lab import Lab, Talk

ROUNDS = 7
ROUND_NS = 20_000_000  # that a round is meant to take
FEW, MANY = 20, 5000  # packets of a round, at least and at most
SHORTEST = 18  # bytes of data in a packet: a frame of 64 bytes in IPv4 and UDP


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Per packet of an established flow, from the sender's application to the receiver's."""

    stages: Mapping[str, tuple[float, float]]  # in the order of the core's numbers: how often entered, ns
    packets: int  # of a round; each stage's time is the median of ``ROUNDS`` rounds

    @property
    def total(self) -> float:
        """ns in all stages."""
        return sum(ns for _, ns in self.stages.values())


def measure_stages(lab: Lab, bound: BoundFlow) -> StageTimes:
    """Time the flow's shortest packets, with no frame recorded."""
    talk = Talk(lab, bound)
    talk.open()
    with lab.unrecorded():
        times = _rounds(lab, talk)
    talk.close()
    return times


def _rounds(lab: Lab, talk: Talk) -> StageTimes:
    start = time.perf_counter_ns()
    _send(talk, FEW)
    each = max(1, (time.perf_counter_ns() - start) // FEW)
    count = min(max(ROUND_NS // each, FEW), MANY)
    rounds = []
    for _ in range(ROUNDS):
        lab.engine.profile(True)
        _send(talk, count)
        lab.engine.profile(False)
        rounds.append(lab.engine.stage_times())
    lab.engine.drops()
    names = [name for name in rounds[0] if all(name in times for times in rounds)]
    visits = {name: median(times[name][0] for times in rounds) / count for name in names}
    return StageTimes({name: (visits[name], median(times[name][1] for times in rounds) / count) for name in names}, count)


def _send(talk: Talk, count: int) -> None:
    for _ in range(count):
        talk.send(SHORTEST, False)
