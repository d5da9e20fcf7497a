"""One seed, one run: a random world, random steps, all modes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from . import throng
from .clusters import random_cluster, waiting
from .compare import PAIRS, SLOW, Race
from .handmade import bridge, router
from .maze import maze
from .play import Mode, hit_share, several_threads
from .recorded import play_sequence, recorded_world
from .scenario import Scenario, drawn_kinds
from .script import World
from .terrain import Terrain
from .tunnels import two_sites

STEPS = 40
KINDS = {"cluster": 14, "waiting": 3, "router": 2, "bridge": 2, "tunnels": 4, "maze": 5, "throng": 2, "recorded": 1}
CLUSTERS = {"cluster": random_cluster, "waiting": waiting}
HANDMADE = {"router": router, "bridge": bridge, "tunnels": two_sites, "maze": maze}


def run_seed(seed: int, *, steps: int = STEPS, pairs: Sequence[tuple[Mode, Mode]] = PAIRS) -> Race:
    """What this seed stands for, beside these modes in one of several threads too (a throng in its own ones). Raises Disagreement."""
    pairs = [*pairs, (SLOW, several_threads(Random(f"threads {seed}")))]
    rng = Random(seed)
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "recorded":
        world, known = recorded_world(rng)
        runners = Race(world, seed, pairs)
        play_sequence(world, known, seed, 2 * steps, runners.play)
        runners.finish()
        return runners
    if kind == "throng":
        return throng.run(throng.place(rng), seed)
    terrain = None
    if kind in CLUSTERS:
        world = CLUSTERS[kind](rng)
    else:
        world, terrain = HANDMADE[kind](rng)
    return run_steps(world, terrain, seed, drawn_kinds(rng, steps), pairs)


def run_steps(
    world: World, terrain: Terrain | None, seed: int, steps: Sequence[tuple[str, int]], pairs: Sequence[tuple[Mode, Mode]] = PAIRS
) -> Race:
    """Steps given as their kinds and seeds. Raises Disagreement."""
    runners = Race(world, seed, pairs)
    scenario = Scenario(world, seed, runners.play, terrain)
    scenario.begin(seed)
    for kind, step_seed in steps:
        scenario.do(kind, step_seed)
    scenario.end(seed)
    runners.finish()
    return runners


def share_of(runners: Race) -> float | None:
    """The largest share of packets that an engine of a run took through its flow cache; None where there is none."""
    shares = [hit_share(player.engine) for player in runners.players.values()]
    return max((share for share in shares if share is not None), default=None)
