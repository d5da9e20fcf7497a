"""Cuts a script down to what still disagrees: fewer steps, fewer frames, no rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from .compare import Disagreement, disagreement
from .script import Burst, Given, Step, to_text

T = TypeVar("T")
SECONDS = 120.0
"""After that the smallest script found so far has to do."""


def minimised(found: Disagreement, seconds: float = SECONDS) -> Disagreement:
    """The same two modes disagreeing in the same field on a script as small as can be found in this time."""
    smallest, deadline = found, time.monotonic() + seconds

    def fails(steps: Sequence[Step]) -> bool:
        nonlocal smallest
        again = disagreement(replace(found.script, steps=tuple(steps)), found.modes)
        if again is None or again.difference.field != found.difference.field:
            return False
        smallest = again
        return True

    steps = list(found.script.steps[: found.difference.step + 1])
    if not fails(steps):
        return found
    steps = fewer(steps, fails, deadline)
    whole = [step for step in steps if isinstance(step, Burst)]
    frames = [(number, given) for number, step in enumerate(whole) for given in step.frames]
    fewer(frames, lambda kept: fails(_with_frames(steps, kept)), deadline)
    return smallest


def _with_frames(steps: Sequence[Step], kept: Sequence[tuple[int, Given]]) -> list[Step]:
    """The steps, each burst with those of its frames alone that are kept; a burst without any is left out."""
    made: list[Step] = []
    number = -1
    for step in steps:
        if isinstance(step, Burst):
            number += 1
            frames = tuple(given for burst, given in kept if burst == number)
            if not frames:
                continue
            step = Burst(frames, step.how)
        made.append(step)
    return made


def fewer(items: list[T], fails: Callable[[Sequence[T]], bool], deadline: float) -> list[T]:
    """A part of ``items`` that still fails, and of which no single item can be spared if there is time to find out (delta debugging)."""
    size = max(1, len(items) // 2)
    while True:
        start, spared = 0, False
        while start < len(items) and time.monotonic() < deadline:
            shorter = items[:start] + items[start + size :]
            if shorter and fails(shorter):
                items, spared = shorter, True
            else:
                start += size
        if time.monotonic() >= deadline or (size == 1 and not spared):
            return items
        size = max(1, size // 2)


def report(found: Disagreement) -> str:
    """What disagrees, and the script as a file for ``agreement.soak --replay``."""
    return f"{found}\n{found.script.frame_count()} frames, {len(found.script.steps)} steps:\n{to_text(found.script)}"
