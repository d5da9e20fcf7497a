"""Captures of random traffic for random clusters, to be replayed."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from dataplane.capture.pcap import PcapWriter
from dataplane.cli.main import main

from .clusters import PATHS, random_cluster
from .plugins import KINDS as PLUG_INS
from .scenario import KINDS, SECOND, Scenario
from .script import Burst, Given, Step, World
from .terrain import Station

ORDINARY = [path for path in PATHS if path.cni.get("config", {}).get("Backend", {}).get("Type") not in PLUG_INS]
TOLD = ("open", "talk", "close", "linger", "again", "noise", "error", "gap", "crowd")  # steps that are frames alone
STEPS = 30
EPOCH = 1_700_000_000 * SECOND
SEEN = ("*", "*", "node*/eth0", "node1/*", "*/eth0", "*/lo")  # what is captured
WAYS = ((1, False), (2, False), (3, False), (4, False), (2, True))  # threads, and whether the stages are alone, each against (1, True)


class Replay(NamedTuple):
    """``folder`` holds ``cluster.yaml`` and ``in.pcap``, whose frames leave ``place``."""

    folder: Path
    place: str
    options: tuple[str, ...]
    frames: int

    def outcome(self, threads: int, slow: bool) -> tuple[int, str, bytes]:
        """Exit code, what was printed, and the capture that was written."""
        out = self.folder / "out.pcapng"
        arguments = ["replay", "-q", "-f", str(self.folder / "cluster.yaml"), "-r", str(self.folder / "in.pcap"), "--at", self.place]
        arguments += ["-w", str(out), "--threads", str(threads), *self.options, *(["--slow-path-only"] if slow else [])]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = main(arguments)
        return code, printed.getvalue(), out.read_bytes()


def said(world: World, seed: int, rng: Random) -> tuple[Station, list[Given]]:
    """Frames of one station, which many are from, in order, perhaps with some that others have sent."""
    frames: list[Given] = []

    def note(step: Step) -> None:
        if isinstance(step, Burst) and step.how == "inject":
            frames.extend(step.frames)

    scenario = Scenario(world, seed, note)
    kinds = ["open"] * 6 + rng.choices(TOLD, [KINDS[kind] for kind in TOLD], k=STEPS)
    for kind in kinds:
        scenario.do(kind, rng.randrange(1 << 32))
    count = Counter(given.place for given in frames if given.place in scenario.by_device)
    station = scenario.by_device[rng.choices(list(count), list(count.values()))[0]]
    others = rng.choice((0, 0, 0.1, 1))
    return station, [given for given in frames if given.place == station.device or rng.random() < others]


def repeated(frames: list[Given], rng: Random) -> Iterator[tuple[int, bytes]]:
    """Times and bytes: as fast as they were, faster, or all at one instant, and perhaps once more."""
    base, pace = 0, rng.choice((1.0, 1.0, 0.001, 0))
    for _ in range(rng.choice((1, 2))):
        last = base
        for given in frames:
            last = max(last, base + int((given.time - frames[0].time) * pace))
            yield last, given.data
        base = last + rng.choice((0, 1000, SECOND))


def random_replay(seed: int, folder: Path) -> Replay:
    rng = Random(f"replay {seed}")
    world = random_cluster(rng, ORDINARY)
    while world.calls:
        world = random_cluster(rng, ORDINARY)
    station, frames = said(world, seed, rng)
    (folder / "cluster.yaml").write_text(world.cluster, encoding="utf-8")
    writer, count = PcapWriter(folder / "in.pcap"), 0
    for time, data in repeated(frames, rng):
        writer.write(EPOCH + time, data)
        count += 1
    writer.close()
    options = ("--l2", rng.choice(("keep", "keep", "rewrite")), "--comments", rng.choice(("none", "changes")))
    place = f"pod/default/{station.name}" if station.kind == "pod" else f"{station.kind}/{station.name}"
    return Replay(folder, place, (*options, "--capture", rng.choice(SEEN), "--seed", str(seed)), count)
