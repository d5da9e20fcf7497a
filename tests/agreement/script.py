"""A world and what is done to it, as plain data: played on any engine, cut down, written to a file that anybody can play again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from dataplane._core import Chain, Engine
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.control.wiring import PLAIN_KINDS
from dataplane.k8s import load_text
from dataplane.k8s.objects import Manifests

from . import plugins


class Call(NamedTuple):
    """One call of a method of ``Engine``; ``at`` among its arguments is never before now. Or ``amend``: the cluster changes, as its number
    says."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})


class Given(NamedTuple):
    """One frame for a device, or an application's packet for a namespace."""

    time: int  # virtual nanosecond, or now if that has passed
    place: int
    data: bytes


class Burst(NamedTuple):
    """Frames one after the other. ``how``: the method of ``Engine`` that takes them; what is to be injected may be carried in batches."""

    frames: tuple[Given, ...]
    how: str = "inject"  # inject, receive, send


Step = Call | Burst


@dataclass(frozen=True)
class World:
    """What an engine holds before the first step: a cluster's manifests (YAML), if any, and what calls add to it. ``waiting``: its
    machines are made when something concerns them, as in large clusters."""

    name: str
    cluster: str = ""
    calls: tuple[Call, ...] = ()
    waiting: bool = False

    def put_into(self, engine: Engine) -> Topology | None:
        """The cluster's names; None for a world that calls alone make."""
        for kind in plugins.KINDS if self.cluster else ():
            if f"Type: {kind}\n" in self.cluster:
                plugins.ensure(kind)
        topology = build(manifests_of(self.cluster), engine, at_once=not self.waiting) if self.cluster else None
        for call in self.calls:
            if call.name == "add_device" and call.args[2] not in PLAIN_KINDS:
                plugins.ensure(call.args[2])
            getattr(engine, call.name)(*call.args, **call.kwargs)
        return topology


@lru_cache(maxsize=64)
def manifests_of(cluster: str) -> Manifests:
    return load_text(cluster, "cluster.yaml")


@dataclass(frozen=True)
class Script:
    """A run: the same for every engine that plays it."""

    world: World
    seed: int
    steps: tuple[Step, ...]

    def frame_count(self) -> int:
        return sum(len(step.frames) if isinstance(step, Burst) else 0 for step in self.steps)


def to_text(script: Script) -> str:
    """JSON with bytes in hexadecimal, one step a line."""
    world: dict[str, Any] = {"name": script.world.name, "cluster": script.world.cluster, "waiting": script.world.waiting}
    world["calls"] = [_plain(call) for call in script.world.calls]
    steps = ",\n  ".join(json.dumps(_plain(step)) for step in script.steps)
    return f'{{"world": {json.dumps(world)},\n "seed": {script.seed},\n "steps": [\n  {steps}\n ]}}\n'


def from_text(text: str) -> Script:
    """What ``to_text`` wrote. KeyError, ValueError: something else."""
    data = json.loads(text)
    world = data["world"]
    calls = tuple(_rich(call) for call in world["calls"])
    made = World(world["name"], world["cluster"], calls, world.get("waiting", False))
    return Script(made, data["seed"], tuple(_rich(step) for step in data["steps"]))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, Call):
        return {"call": value.name, "args": _plain(value.args), "kwargs": [[key, _plain(item)] for key, item in value.kwargs.items()]}
    if isinstance(value, Burst):
        return {value.how: [[given.time, given.place, given.data.hex()] for given in value.frames]}
    if isinstance(value, Chain):
        return {"chain": value.name, "policy": value.policy, "rules": [_plain(rule) for rule in value.rules]}
    if isinstance(value, dict):
        return {"fields": [[key, _plain(item)] for key, item in value.items()]}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_rich(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "hex" in value:
        return bytes.fromhex(value["hex"])
    if "call" in value:
        return Call(value["call"], _rich(value["args"]), {key: _rich(item) for key, item in value["kwargs"]})
    for how in ("inject", "receive", "send"):
        if how in value:
            return Burst(tuple(Given(time, place, bytes.fromhex(data)) for time, place, data in value[how]), how)
    if "chain" in value:
        return Chain(value["chain"], value["policy"], [_rich(rule) for rule in value["rules"]])
    return {key: _rich(item) for key, item in value["fields"]}
