"""Whether two engines showed the same, and the first thing in which they did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from dataplane._core import drop_reasons

from .play import ALL_AT_ONCE, Mode, Player, Seen
from .script import Script, Step, World

SLOW = Mode("slow path, one by one", slow=True)
SLOW_AHEAD = Mode("slow path, injected ahead", slow=True, ahead=True)
# Which engine must show the same as which other one.
PAIRS: tuple[tuple[Mode, Mode], ...] = (
    (SLOW, Mode("one by one")),
    (SLOW, Mode("batches of 1", batch=1)),
    (SLOW, Mode("batches of 7", batch=7)),
    (SLOW, Mode("batches of 64", batch=64)),
    (SLOW, Mode("batches of all", batch=ALL_AT_ONCE)),
    (SLOW, Mode("slow path, batches of 7", slow=True, batch=7)),
    (SLOW_AHEAD, Mode("injected ahead", ahead=True)),
    (SLOW, Mode("batches of 64, looked at in the end", batch=64, looks=False)),
    (SLOW, Mode("now so, now so", mixed=True)),
    (SLOW, Mode("now so, now so, looked at in the end", mixed=True, looks=False)),
)


HAPPENED = ("results", "frames", "drops", "events", "changes", "deliveries")  # since the last look


class Difference(NamedTuple):
    """The first thing that differs: in which step (of those looked at), in what, and how."""

    step: int
    field: str
    text: str


class Disagreement(AssertionError):
    """Two modes did not show the same for one script."""

    def __init__(self, script: Script, modes: tuple[Mode, Mode], difference: Difference) -> None:
        self.script, self.modes, self.difference = script, modes, difference
        step, field, text = difference
        super().__init__(f"{script.world.name}: '{modes[0].name}' and '{modes[1].name}' differ at step {step} in {field}: {text}")


def differences(expected: Seen, found: Seen) -> Iterator[tuple[str, str]]:
    """Name and description of each field that is not the same."""
    for field, one, other in zip(Seen._fields, expected, found, strict=True):
        if one != other:
            yield field, described(one, other)


def described(one: Any, other: Any) -> str:
    """The first row or key that differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return ", ".join(f"{key}: {shown(one.get(key))} and {shown(other.get(key))}" for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        for number, (left, right) in enumerate(zip_longest(one, other)):
            if left != right:
                inner = described(left, right) if isinstance(left, list | dict) else f"{shown(left)} and {shown(right)}"
                return f"[{number}] {inner}"
    return f"{shown(one)} and {shown(other)}"


def shown(value: Any) -> str:
    """Bytes as hexadecimal digits, drops with the names of their reasons."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [f"{name}={shown(item)}" for name, item in zip(value._fields, value, strict=True)]
        if "reason" in value._fields:
            parts.append(drop_reasons()[value[value._fields.index("reason")]].name)
        return f"{type(value).__name__}({', '.join(parts)})"
    return "nothing" if value is None else repr(value)


def together(seen: Sequence[Seen]) -> Seen:
    """What one look in the end would have shown of all that was seen step by step."""
    happened: dict[str, Any] = {field: [row for one in seen for row in getattr(one, field)] for field in HAPPENED}
    return seen[-1]._replace(**happened)


def first_difference(expected: Sequence[Seen], found: Sequence[Seen]) -> Difference | None:
    for step, (one, other) in enumerate(zip(expected, found, strict=True)):
        if one != other:
            return Difference(step, *next(differences(one, other)))
    return None


class Race:
    """The same world in several engines, a step at a time; the first disagreement is raised."""

    def __init__(self, world: World, seed: int, pairs: Sequence[tuple[Mode, Mode]] = PAIRS) -> None:
        self.world, self.seed, self.pairs = world, seed, pairs
        self.players = {mode: Player(world, seed, mode) for mode in dict.fromkeys(mode for pair in pairs for mode in pair)}
        self.steps: list[Step] = []
        # Of the others the last look is enough.
        self._remembered = {mode for pair in pairs for mode in pair if not all(one.looks for one in pair)}

    @property
    def script(self) -> Script:
        return Script(self.world, self.seed, tuple(self.steps))

    def play(self, step: Step) -> None:
        self.steps.append(step)
        for player in self.players.values():
            player.play(step)
        self._compare()

    def finish(self) -> None:
        for player in self.players.values():
            player.finish()
        self._compare()
        for pair in self.pairs:
            if not all(mode.looks for mode in pair):
                one, other = ([together(self.players[mode].seen)] for mode in pair)
                self._same(pair, one, other)

    def _compare(self) -> None:
        """What the last look showed."""
        for pair in self.pairs:
            if all(mode.looks for mode in pair):
                self._same(pair, *(self.players[mode].seen[-1:] for mode in pair))
        for mode, player in self.players.items():
            if mode not in self._remembered:
                del player.seen[:-1]

    def _same(self, pair: tuple[Mode, Mode], one: Sequence[Seen], other: Sequence[Seen]) -> None:
        difference = first_difference(one, other)
        if difference is not None:
            raise Disagreement(self.script, pair, difference._replace(step=len(self.steps) - 1))


def race(script: Script, pairs: Sequence[tuple[Mode, Mode]] = PAIRS) -> None:
    """Play a whole script. Raises Disagreement."""
    runners = Race(script.world, script.seed, pairs)
    for step in script.steps:
        runners.play(step)
    runners.finish()


def disagreement(script: Script, pair: tuple[Mode, Mode]) -> Disagreement | None:
    """What two modes come to."""
    try:
        race(script, [pair])
    except Disagreement as found:
        return found
    return None
