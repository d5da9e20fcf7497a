"""The flow cache and the batch interface give what the slow path gives frame by frame, in random worlds with random traffic."""

from __future__ import annotations

import pathlib
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .clusters import PATHS, Path, random_cluster
from .compare import SLOW, Disagreement, race
from .handmade import bridge, router
from .minimise import minimised, report
from .play import Mode, shared_share
from .runs import run_seed, run_steps, share_of
from .scenario import KINDS
from .script import World, from_text
from .terrain import Terrain

FOUND = sorted(pathlib.Path(__file__).with_name("found").glob("*.json"))
SECONDS_TO_MINIMISE = 60.0
LEAST_SHARE = 0.3
SHARED = {(2, 2): 0.15, (2, 8): 0.1, (3, 5): 0.1, (4, 16): 0.03}  # threads, frames of a window: share of packets that go in windows


def fail(found: Disagreement) -> None:
    pytest.fail(report(minimised(found, SECONDS_TO_MINIMISE)), pytrace=False)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_once_differed_does_so_no_more(path: pathlib.Path) -> None:
    """Scripts as they were found and cut down."""
    race(from_text(path.read_text(encoding="utf-8")))


def test_a_random_world_is_the_same_in_every_way_of_carrying_frames(agreement_seed: int) -> None:
    try:
        runners = run_seed(agreement_seed)
    except Disagreement as found:
        fail(found)
    else:
        assert runners.script.frame_count() > 50


Ground = tuple[World, Terrain | None]
WORLDS: st.SearchStrategy[Ground] = st.one_of(
    st.randoms(use_true_random=False).map(lambda rng: (random_cluster(rng), None)),
    st.integers(0, 1 << 16).map(lambda seed: router(Random(seed))),
    st.integers(0, 1 << 16).map(lambda seed: bridge(Random(seed))),
)
STEPS = st.lists(st.tuples(st.sampled_from(["open", *KINDS]), st.integers(0, 1 << 16)), min_size=4, max_size=30)


@settings(max_examples=60, deadline=None, database=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
@given(ground=WORLDS, seed=st.integers(0, 1 << 16), steps=STEPS)
def agrees(ground: Ground, seed: int, steps: list[tuple[str, int]]) -> None:
    run_steps(*ground, seed, steps)


@pytest.mark.slow
def test_no_steps_can_be_found_that_make_them_differ() -> None:
    """Hypothesis chooses the world and the steps, and leaves out what is not needed; then the frames are cut down too."""
    try:
        agrees()
    except Disagreement as found:
        fail(found)


@pytest.mark.parametrize("path", PATHS[:8], ids=lambda path: path.name)
def test_packets_of_conversations_that_repeat_themselves_go_through_the_cache(path: Path) -> None:
    """Else agreement would say nothing of it."""
    world = random_cluster(Random(1), [path._replace(families=((4,),))])
    steps = [("open", seed) for seed in range(6)] + [("talk", seed) for seed in range(30)]
    share = share_of(run_steps(world, None, 1, steps, [(SLOW, Mode("batches of 64", batch=64))]))
    assert share is not None and share > LEAST_SHARE


@pytest.mark.parametrize("path", PATHS[:8], ids=lambda path: path.name)
def test_windows_of_several_threads_are_carried_where_frames_leave_the_world(path: Path) -> None:
    """Else agreement would say nothing of them. Small ones: they are cut, taken back and put together often."""
    world = random_cluster(Random(1), [path._replace(families=((4,),))])
    talk = [("talk", seed) for seed in range(30)]
    steps = [*(("open", seed) for seed in range(6)), *talk[:5], ("pull_all", 0), *talk[5:]]
    modes = [Mode(f"{threads} threads, windows of {window}", batch=64, threads=threads, window=window) for threads, window in SHARED]
    runners = run_steps(world, None, 1, steps, [(SLOW, mode) for mode in modes])
    for mode, least in zip(modes, SHARED.values(), strict=True):
        assert shared_share(runners.players[mode].engine) > least, mode.name
