"""The sequences of frames that recordings of the Linux kernel are made of, on the clusters they are made on: damage of every kind."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from dataplane._core import Frame
from kernel import generate, topology
from kernel.taps import Seen

from .play import Player
from .scenario import SCOUT
from .script import Burst, Call, Given, Step, World

SETTLE = 24_000_000  # ns between frames


def recorded_world(rng: Random) -> tuple[World, topology.Topology]:
    path = topology.cluster_file(rng.choice(topology.MODES))
    return World(path.stem, path.read_text(encoding="utf-8")), topology.load(path)


def play_sequence(world: World, known: topology.Topology, seed: int, length: int, sink: Callable[[Step], None]) -> None:
    """Hands the steps of one sequence to ``sink``; what arrives, and is answered, is seen on an engine of its own."""
    scout = Player(world, seed, SCOUT)
    names = scout.topology
    assert names is not None
    visible = set(names.device_ids())

    def seen(frame: Frame) -> Seen:
        place, _, device = names.device_name(frame.device).rpartition("/")
        return Seen(frame.time / 1e9, place, device, frame.outgoing, frame.data)

    def emit(step: Step) -> list[Seen]:
        sink(step)
        scout.play(step)
        return [seen(frame) for frame in scout.seen.pop().frames if frame.device in visible]

    sequence, frames = generate.seeded(known, seed, length), list[Seen]()
    while (step := sequence(frames)) is not None:
        device = names.device_id(f"{step.ns}/{step.iface}")
        frames = emit(Burst((Given(scout.engine.now, device, step.frame),)))
        frames += emit(Call("run", (scout.engine.now + SETTLE,)))
