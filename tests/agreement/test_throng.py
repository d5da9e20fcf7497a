"""Thousands of conversations: all ways of carrying their frames come to the same, in the end."""

from __future__ import annotations

from random import Random

import pytest

from . import throng
from .compare import Disagreement
from .minimise import minimised, report

SECONDS_TO_MINIMISE = 60.0
LEAST_HITS, LEAST_LEARNT = 1000, 1000


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in range(6)])
def test_thousands_of_conversations_are_the_same_in_every_way_of_carrying_frames(seed: int) -> None:
    try:
        race = throng.run(throng.place(Random(seed)), 2 * seed)  # even seeds are not traced
    except Disagreement as found:
        pytest.fail(report(minimised(found, SECONDS_TO_MINIMISE)), pytrace=False)
    counts = [player.engine.flow_cache() for mode, player in race.players.items() if not mode.slow]
    assert all(count["hits"] > LEAST_HITS and count["learnt"] > LEAST_LEARNT for count in counts)
