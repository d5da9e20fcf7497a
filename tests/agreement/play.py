"""Plays a script on an engine in one of the ways in which frames can be given to it, and notes what came of each step."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from control.test_change import changes
from dataplane._core import Delivery, Drop, Engine, Event, Frame, Records
from dataplane.control.change import Changes
from dataplane.errors import InputError

from .script import Burst, Call, Given, Script, Step, World

CHANGE_BYTES = 88
ALL_AT_ONCE = 1 << 30  # frames of a batch: those of any burst


@dataclass(frozen=True)
class Mode:
    """How frames are given: ``batch`` 0 injects one by one, n > 0 carries n at a time; ``ahead`` injects all frames of a burst with their
    times before the first is carried. ``looks``: the tables are read after every step, not only at the end. ``threads``: how many carry
    a batch, in windows of up to ``window`` frames. ``mixed``: all of this is drawn anew for each burst."""

    name: str
    slow: bool = False
    batch: int = 0
    ahead: bool = False
    looks: bool = True
    threads: int = 1
    window: int = 1024
    mixed: bool = False


class Seen(NamedTuple):
    """What an engine shows after a step: what happened in it, and what its tables hold then (by namespace)."""

    now: int
    results: list[Any]
    frames: list[Frame]
    drops: list[Drop]
    events: list[Event]
    changes: list[bytes]  # each a ChangeRecord of ext/devices/changes.pxd
    deliveries: list[Delivery]
    counters: dict[str, int]
    made: list[int]
    conntrack: list[list[dict[str, Any]]]
    neighbours: list[list[dict[str, Any]]]
    fdb: list[list[dict[str, Any]]]
    routes: list[list[dict[str, Any]]]
    devices: list[list[dict[str, Any]]]


@dataclass
class Player:
    """One engine at work. ``seen`` grows by one with each step if the mode looks, and by one in the end."""

    world: World
    seed: int
    mode: Mode
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.seed, slow_path_only=self.mode.slow)
        self.topology = self.world.put_into(self.engine)
        self.engine.trace(self.seed % 2 == 1, changes=True)
        self._changes: Changes | None = None
        self._results: list[Any] = []
        self._deliveries: list[Delivery] = []

    def play(self, step: Step) -> None:
        if self.mode.mixed and isinstance(step, Burst):
            self.mode = drawn(Random(step.frames[0].data + len(step.frames).to_bytes(4)), self.mode)
        if isinstance(step, Call):
            self._results.append(self._call(step))
        elif self.mode.batch and step.how == "inject":
            for start in range(0, len(step.frames), self.mode.batch):
                self._carry(step.frames[start : start + self.mode.batch])
        elif self.mode.ahead:
            self._ahead(step)
        else:
            self._one_by_one(step)
        if self.mode.looks:
            self.seen.append(self.look())

    @property
    def namespaces(self) -> list[int]:
        """Those that are made."""
        return [number for number in range(self.engine.places()[0]) if self.engine.is_made(number)]

    def finish(self) -> list[Seen]:
        self.seen.append(self.look(everything=True))
        return self.seen

    def look(self, *, everything: bool = False) -> Seen:
        """``everything``: routes and devices too, which traffic does not change."""
        engine, all_ns = self.engine, self.namespaces
        results, self._results = self._results, []
        deliveries, self._deliveries = self._deliveries, []
        return Seen(
            now=engine.now,
            results=results,
            frames=engine.frames(),
            drops=engine.drops(),
            events=engine.events(),
            changes=self._told(),
            deliveries=deliveries,
            counters=engine.counters(),
            made=all_ns,
            conntrack=[engine.conntrack(ns) for ns in all_ns],
            neighbours=[engine.neighbours(ns) for ns in all_ns],
            fdb=[engine.fdb(ns) for ns in all_ns],
            routes=[engine.routes(ns) for ns in all_ns if everything],
            devices=[engine.devices(ns) for ns in all_ns if everything],
        )

    def _told(self) -> list[bytes]:
        """Frames, drops and steps must have been taken out before."""
        records = Records()
        self.engine.exchange(Records(), Records(), Records(), records)
        data = bytes(records)
        return [data[at : at + CHANGE_BYTES] for at in range(0, len(data), CHANGE_BYTES)]

    # ---- how frames are given
    def _call(self, call: Call) -> Any:
        """What it returned, or the error it raised, which belongs to what must be the same."""
        if call.name == "run":
            self._settle(*call.args)
            return None
        if call.name == "amend":
            return self._amend(*call.args)
        kwargs = dict(call.kwargs)
        if "at" in kwargs:
            kwargs["at"] = max(kwargs["at"], self.engine.now)
        try:
            return getattr(self.engine, call.name)(*call.args, **kwargs)
        except (KeyError, ValueError) as error:
            return repr(error)

    def _amend(self, number: int) -> Any:
        """A Service, an EndpointSlice or a Pod comes, goes or changes; None, or why it did not."""
        assert self.topology is not None
        if self._changes is None:
            self._changes = Changes(self.engine, self.topology)
        rng, manifests = Random(number), self.topology.manifests
        if not any(service.cluster_ips for service in manifests.services):
            return None
        try:
            self._changes.apply(*rng.choice(list(changes(manifests, rng))))
        except InputError as error:
            return repr(error)
        return None

    def _settle(self, until: int | None = None) -> None:
        while self.engine.run(until):
            self._deliveries += self.engine.deliveries()

    def _give(self, how: str, given: Given, time: int) -> Any:
        """Whether a packet socket refused it, or the error that it raised."""
        try:
            packet: int = getattr(self.engine, how)(given.place, given.data, at=time)
        except ValueError as error:
            return repr(error)
        return packet < 0

    def _one_by_one(self, burst: Burst) -> None:
        for given in burst.frames:
            time = max(given.time, self.engine.now)
            self._results.append(self._give(burst.how, given, time))
            self._settle(time)

    def _ahead(self, burst: Burst) -> None:
        for given in burst.frames:
            self._results.append(self._give(burst.how, given, max(given.time, self.engine.now)))
        self._settle(max(self.engine.now, *(given.time for given in burst.frames)))

    def _carry(self, frames: Sequence[Given]) -> None:
        done = 0
        while done < len(frames):
            rest = frames[done:]
            lengths = [len(given.data) for given in rest]
            starts = array("Q", [0])
            for length in lengths[:-1]:
                starts.append(starts[-1] + length)
            refused = bytearray(len(rest))
            taken = self.engine.carry(
                b"".join(given.data for given in rest),
                array("i", [given.place for given in rest]),
                starts,
                array("I", lengths),
                array("q", [given.time for given in rest]),
                refused,
                threads=self.mode.threads,
                window=self.mode.window,
            )
            self._results += [bool(mark) for mark in refused[:taken]]
            waiting = self.engine.deliveries()
            self._deliveries += waiting
            assert taken == len(rest) or waiting, f"{taken} of {len(rest)} frames were taken, and no delivery waits"
            if waiting and taken:
                self._settle(max(self.engine.now, rest[taken - 1].time))  # the last one may still be on its way
            done += taken
        self._settle(self.engine.now)


def play(script: Script, mode: Mode) -> Player:
    """All steps, and the last look."""
    player = Player(script.world, script.seed, mode)
    for step in script.steps:
        player.play(step)
    player.finish()
    return player


def several_threads(rng: Random) -> Mode:
    """Batches that several threads carry: how many of them, and of what size windows and batches are, is drawn."""
    threads, window = rng.choice((2, 2, 3, 4)), rng.choice((0, 0, 1, 2, 3, 5, 8, 16, 24, 50, 300))
    batch = rng.choice((7, 64, ALL_AT_ONCE, ALL_AT_ONCE))
    size = "all" if batch == ALL_AT_ONCE else batch
    return Mode(f"batches of {size}, {threads} threads, windows of {window}", batch=batch, threads=threads, window=window)


def drawn(rng: Random, mode: Mode) -> Mode:
    """Another way of giving the same engine a burst: one by one, or in batches of some size by some threads."""
    batch, window = rng.choice((0, 1, 2, 5, 16, 17, 33, 500, 2000)), rng.choice((0, 1, 2, 4, 7, 16, 40, 1024))
    return replace(mode, batch=batch, threads=rng.choice((1, 1, 2, 3, 4)), window=window)


def shared_share(engine: Engine) -> float:
    """Which part of the packets that went their flows' ways did so in windows of several threads."""
    counts = engine.flow_cache()
    return counts["shared"] / max(1, counts["hits"] - counts["wide"])


def hit_share(engine: Engine) -> float | None:
    """Which part of the packets of the kinds it keeps went through the flow cache; None: no such packet came by."""
    counts = engine.flow_cache()
    total = counts["hits"] + counts["misses"]
    return counts["hits"] / total if total else None
