"""Which frames provoke which drop reason: functions that make a tiny world, send it frames and return its engine."""

from __future__ import annotations

from collections.abc import Callable

from dataplane._core import Engine

Provocation = Callable[[], Engine]
PROVOCATIONS: dict[str, Provocation] = {}
"""By name of the reason; the modules ``provoke_*`` fill it when they are imported."""


def provokes(reason: str) -> Callable[[Provocation], Provocation]:
    def add(provocation: Provocation) -> Provocation:
        assert reason not in PROVOCATIONS, reason
        PROVOCATIONS[reason] = provocation
        return provocation

    return add
