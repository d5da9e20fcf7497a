"""The comparison sees what it is there to see: whatever one engine is given or shows otherwise, in every way of carrying frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dataplane._core import Engine

from . import compare
from .clusters import PATHS, random_cluster
from .compare import PAIRS, SLOW, SLOW_AHEAD, Disagreement, first_difference, race
from .minimise import minimised, report
from .play import Mode, Player, Seen, play
from .runs import run_steps
from .script import Burst, Call, Given, Script, Step, from_text, to_text

KINDS = ("open", "open", "open", "talk", "change", "again", "talk", "gap", "error", "noise")
TALK = [(kind, seed) for seed, kind in enumerate(KINDS)]


def eventful() -> Iterator[Script]:
    """Scripts on small clusters, traced: every step at first, then changes alone."""
    for seed in range(100):
        world = random_cluster(Random(seed), [PATHS[0]._replace(families=((4,),))])
        script = run_steps(world, None, seed, TALK, [(SLOW, SLOW)]).script
        half = len(script.steps) // 2
        changes = Call("trace", (True,), {"changes": True})
        yield replace(script, steps=(Call("trace", (True,)), *script.steps[:half], changes, *script.steps[half:]))


# ---- whatever an engine shows


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the single values are inside of lists, tuples and dictionaries."""
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1]) if value else b"x"
    return f"{value}x"


def altered(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy with another value in one place."""
    if not path:
        return other(value)
    if isinstance(value, dict):
        return {key: altered(item, path[1:]) if key == path[0] else item for key, item in value.items()}
    items = [altered(item, path[1:]) if place == path[0] else item for place, item in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def with_field(seen: Seen, field: str, value: Any) -> Seen:
    return seen._replace(**{field: value})


@pytest.fixture(scope="module")
def eventful_script() -> Script:
    """The first in which there is something of everything that is compared."""
    return next(script for script in eventful() if all(all_shown(script)) and any(map(any, all_shown(script).conntrack)))


@pytest.fixture(scope="module")
def shown(eventful_script: Script) -> Seen:
    return all_shown(eventful_script)


def all_shown(script: Script) -> Seen:
    """What a slow engine shows in the end."""
    return play(script, replace(SLOW, looks=False)).seen[-1]


@pytest.mark.parametrize("field", Seen._fields)
def test_every_value_is_compared(shown: Seen, field: str) -> None:
    """Of each kind of value, the first and the last one there is."""
    kinds: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for path in leaves(getattr(shown, field)):
        kinds.setdefault(tuple(part for part in path[1:] if isinstance(part, str) or len(path) == 2), []).append(path)
    for paths in kinds.values():
        for path in (paths[0], paths[-1]):
            found = first_difference([shown], [with_field(shown, field, altered(getattr(shown, field), path))])
            assert found is not None, path
            assert found.field == field


@pytest.mark.parametrize("field", [field for field in Seen._fields if field not in ("now", "counters")])
def test_rows_that_are_more_or_less_or_in_another_order_are_found(shown: Seen, field: str) -> None:
    rows = max(getattr(shown, field), key=len) if isinstance(getattr(shown, field)[0], list) else getattr(shown, field)
    for changed in (rows[1:], rows[:-1], [*rows, rows[-1]], [rows[-1], *rows[1:-1], rows[0]]):
        if changed != rows:
            assert first_difference([with_field(shown, field, rows)], [with_field(shown, field, changed)]) is not None


def test_the_same_is_the_same(shown: Seen, eventful_script: Script) -> None:
    assert first_difference([shown], [all_shown(eventful_script)]) is None


# ---- whatever an engine is given


def with_frames(script: Script, change: Callable[[tuple[Given, ...]], tuple[Given, ...]]) -> Script:
    """Another largest burst."""
    burst = largest(script)
    return replace(script, steps=tuple(Burst(change(burst.frames)) if step is burst else step for step in script.steps))


def one_changed_byte(frames: tuple[Given, ...]) -> tuple[Given, ...]:
    middle = len(frames) // 2
    data = frames[middle].data
    return (*frames[:middle], frames[middle]._replace(data=data[:-1] + bytes([data[-1] ^ 0x80])), *frames[middle + 1 :])


def one_conntrack_entry_more(frames: tuple[Given, ...]) -> tuple[Given, ...]:
    """A datagram from another port."""
    udp = next(filter(is_datagram, frames))
    return (*frames, udp._replace(data=udp.data[:34] + b"\x12\x34" + udp.data[36:40] + b"\0\0" + udp.data[42:]))


ALTERATIONS: dict[str, Callable[[Script], Script]] = {
    "a lost frame": lambda script: with_frames(script, lambda frames: frames[:-1]),
    "a frame twice": lambda script: with_frames(script, lambda frames: (*frames, frames[-1])),
    "a changed byte": lambda script: with_frames(script, one_changed_byte),
    "another order": lambda script: with_frames(script, lambda frames: frames[::-1]),
    "a later time": lambda script: with_frames(script, lambda frames: (*frames[:-1], frames[-1]._replace(time=frames[-1].time + 1))),
    "an earlier time": lambda script: with_frames(script, lambda frames: tuple(given._replace(time=0) for given in frames)),
    "a conntrack entry more": lambda script: with_frames(script, one_conntrack_entry_more),
    "another seed": lambda script: replace(script, seed=script.seed + 1),
}


def largest(script: Script) -> Burst:
    return max((step for step in script.steps if isinstance(step, Burst) and step.how == "inject"), key=lambda step: len(step.frames))


def is_datagram(given: Given) -> bool:
    return given.data[12:14] == b"\x08\0" and given.data[23] == 17


def is_switched(script: Script) -> bool:
    """Is some of it for a pod on the sender's own bridge?"""
    topology = script.world.put_into(Engine(0))
    assert topology is not None
    macs = {machine.mac for machine in topology.machines.values() if machine.kind == "pod"}
    frames = [given.data for step in script.steps if isinstance(step, Burst) for given in step.frames]
    return any(data[:6] in macs and data[12:14] == b"\x08\0" for data in frames)


@pytest.fixture(scope="module")
def plain() -> Script:
    """The first run on a cluster whose neighbours are asked for, with streams of datagrams, and a largest burst that takes some time."""
    for seed in range(200):
        world = random_cluster(Random(seed), [PATHS[0]._replace(families=((4,),))])
        steps = [("open", number) for number in range(8)] + [("talk", number) for number in range(12)]
        script = run_steps(world, None, seed, steps, [(SLOW, SLOW)]).script
        frames = largest(script).frames
        slow = frames[-1].time - frames[0].time > 100_000_000
        rows = (row for seen in play(script, SLOW).seen for tracked in seen.conntrack for row in tracked)
        answered = any(row["proto"] == 17 and row["assured"] for row in rows)
        usual = "neighbours: resolve" in world.cluster and "bridge-nf-call-iptables: 0" not in world.cluster
        if usual and slow and answered and is_switched(script) and sum(map(is_datagram, frames)) > 10:
            return script
    raise LookupError("no run is suitable")


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].name)
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_what_one_engine_is_given_otherwise_is_found(plain: Script, pair: tuple[Mode, Mode], alteration: str) -> None:
    one, two, same = play(plain, pair[0]).seen, play(ALTERATIONS[alteration](plain), pair[1]).seen, play(plain, pair[1]).seen
    if not pair[1].looks:
        one = [compare.together(one)]
    assert first_difference(one, two) is not None
    assert first_difference(one, same) is None


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("net.netfilter.nf_conntrack_udp_timeout", 31, "conntrack"),
        ("net.netfilter.nf_conntrack_udp_timeout_stream", 121, "conntrack"),
        ("net.ipv4.neigh.eth0.base_reachable_time_ms", 20, "neighbours"),
        ("net.ipv4.ip_forward", 0, "frames"),
        ("net.bridge.bridge-nf-call-iptables", 0, "counters"),
    ],
)
def test_a_setting_that_differs_is_found_where_it_shows(plain: Script, setting: str, value: int, field: str) -> None:
    namespaces = Player(plain.world, plain.seed, SLOW).namespaces
    same = tuple(Call("get_sysctl", (namespace, setting)) for namespace in namespaces)
    changed = tuple(Call("set_sysctl", (namespace, setting, value)) for namespace in namespaces)
    one, two = (play(replace(plain, steps=(*calls, *plain.steps)), SLOW).seen[len(namespaces) :] for calls in (same, changed))
    assert any(field in dict(compare.differences(left, right)) for left, right in zip(one, two, strict=True))


# ---- what is done with a disagreement


class Forgetful(Player):
    """An engine whose connections live a second longer once a long frame has come by in a batch, as a bad cache might let them."""

    def play(self, step: Step) -> None:
        if self.mode.batch and isinstance(step, Burst) and any(len(given.data) > 1000 for given in step.frames):
            for namespace in self.namespaces:
                self.engine.set_sysctl(namespace, "net.netfilter.nf_conntrack_udp_timeout", 31)
        super().play(step)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Player", Forgetful)


def test_a_planted_fault_is_found_and_cut_down_to_what_shows_it(planted: None, plain: Script) -> None:
    with pytest.raises(Disagreement) as raised:
        race(plain)
    found = minimised(raised.value, 30)
    assert found.script.frame_count() <= 2
    assert len(found.script.steps) <= 2
    with pytest.raises(Disagreement):
        race(from_text(to_text(found.script)))
    assert to_text(found.script) in report(found)


def test_the_planted_fault_is_in_one_way_of_carrying_frames_alone(planted: None, plain: Script) -> None:
    race(plain, [(SLOW, Mode("one by one")), (SLOW_AHEAD, Mode("injected ahead", ahead=True))])
