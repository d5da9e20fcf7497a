"""Routers that packets pass through by their destinations' routes alone: the same as the stages one by one, whatever is sent."""

from __future__ import annotations

from random import Random

import pytest

from .compare import Disagreement, Race
from .minimise import minimised, report
from .passages import Passages

STEPS = 40
SECONDS_TO_MINIMISE = 60.0
LEAST_SHARE = 0.1  # of all frames, two in five of which are odd, over some seeds


def run(seed: int, steps: int = STEPS) -> Race:
    """A random world and what happens to it, in all ways of carrying frames. Raises Disagreement."""
    made = Passages(Random(f"passages {seed}"))
    race = Race(made.world, seed)
    now = 0
    for _ in range(steps):
        for step in made.step(now):
            race.play(step)
        now = 1 + max(player.engine.now for player in race.players.values())
    race.finish()
    return race


def routed(race: Race) -> list[int]:
    """Packets that the engines of a race let pass by their routes."""
    return [player.engine.flow_cache()["routed"] for player in race.players.values()]


def checked(seed: int) -> Race:
    try:
        return run(seed)
    except Disagreement as found:
        pytest.fail(report(minimised(found, SECONDS_TO_MINIMISE)), pytrace=False)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed > 2 else []) for seed in range(60)])
def test_what_passes_through_routers_is_the_same_in_every_way_of_carrying_frames(seed: int) -> None:
    assert checked(seed).script.frame_count() > 0


def test_many_of_these_frames_go_by_their_routes() -> None:
    """Else agreement would say nothing of it: by each way of giving frames to an engine that may."""
    races = [checked(seed) for seed in range(100, 108)]
    frames = sum(race.script.frame_count() for race in races)
    for mode, counts in zip(races[0].players, zip(*map(routed, races), strict=True), strict=True):
        assert sum(counts) == 0 if mode.slow else sum(counts) > LEAST_SHARE * frames, mode.name
