"""When a flow's packets or connections start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from dataplane.traffic.draw import exponential_ns
from dataplane.traffic.loop import Loop
from dataplane.traffic.model import Flow

_SECOND = 1_000_000_000


def departures(flow: Flow, number: int, seed: int) -> Iterator[int]:
    """``flow.count`` times in virtual nanoseconds, never falling; ``number`` is the flow's own in the run.

    constant: the first at ``start``, then one every 1/rate seconds, without adding up rounding errors.
    poisson: gaps are exponential with mean 1/rate, the first of them before the first packet.
    """
    if flow.arrival == "constant":
        for index in range(flow.count):
            yield flow.start_ns + index * _SECOND * flow.rate.denominator // flow.rate.numerator
        return
    mean = Decimal(_SECOND * flow.rate.denominator) / flow.rate.numerator
    time = flow.start_ns
    for index in range(flow.count):
        time += exponential_ns(seed, "traffic/gap", number, index, mean_ns=mean)
        yield time


def schedule(loop: Loop, flow: Flow, number: int, begin: Callable[[int], None]) -> None:
    """Call ``begin(0)``, ``begin(1)``, ... at the flow's departures."""
    times = departures(flow, number, loop.seed)

    def arm(index: int) -> None:
        time = next(times, None)
        if time is not None:
            loop.at(time, lambda: step(index))

    def step(index: int) -> None:
        arm(index + 1)
        begin(index)

    arm(0)
