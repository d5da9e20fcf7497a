"""Plays a case of kind ``frames``: builds its cluster, injects its frames and notes what came of each, in the shape of the case."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dataplane._core import Drop, Engine, Frame, drop_reasons
from dataplane.control import setup
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.k8s import load
from dataplane.k8s.objects import Manifests, Underlay
from dataplane.testing import conntrack_lines

MILLISECOND = 1_000_000
PROTOCOLS = {name: number for number, name in conntrack_lines.PROTOCOL_NAMES.items()}
REFUSED = "refused: shorter than an Ethernet header or longer than the MTU allows"


@lru_cache(maxsize=32)
def load_cluster(path: str) -> Manifests:
    """A case's cluster. The recordings know no latency of the underlay; a cluster that sets another than the default keeps it."""
    manifests = load([path])
    underlay = manifests.config.underlay
    if underlay.latency_ns != Underlay().latency_ns:
        return manifests
    config = dataclasses.replace(manifests.config, underlay=dataclasses.replace(underlay, latency_ns=0))
    return dataclasses.replace(manifests, config=config)


def address_and_port(text: str) -> tuple[bytes, int]:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    host, _, port = text.rpartition(":")
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).packed, int(port)
    except ValueError as error:
        raise InputError(f"pin: {text!r} is not ADDRESS:PORT") from error


def pin_tuple(text: str) -> tuple[bytes, int, bytes, int]:
    source, _, destination = text.partition(">")
    return (*address_and_port(source), *address_and_port(destination))


class Playback:
    """One cluster at work and the frames of a case going through it."""

    def __init__(self, manifests: Manifests) -> None:
        self.engine = Engine()
        self.topology: Topology = build(manifests, self.engine)
        self._reasons = [reason.name for reason in drop_reasons()]
        self._captured = frozenset(self.topology.device_ids())
        self._nodes = [node.name for node in manifests.nodes]

    def prepare(self, commands: Iterable[Mapping[str, str]]) -> None:
        for command in commands:
            setup.apply(self.topology, self.engine, command["ns"], command["run"])

    def pin(self, pins: Iterable[Mapping[str, str]]) -> None:
        for pin in pins:
            if pin["proto"] not in PROTOCOLS:
                raise InputError(f"pin: unknown protocol {pin['proto']!r}: known are {', '.join(PROTOCOLS)}")
            namespace = self.topology.namespace_id(pin["ns"])
            self.engine.add_pin(namespace, PROTOCOLS[pin["proto"]], pin_tuple(pin["original"]), pin_tuple(pin["reply"]))

    def step(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one step; the answer is the step with what happened in place of what is expected."""
        self.prepare(step.get("setup", ()))
        inject = step["inject"]
        device = self.topology.device_id(f"{inject['ns']}/{inject['iface']}")
        sent = self.engine.inject(device, bytes.fromhex(inject["hex"])) >= 0
        self.engine.run(self.engine.now + round(step["settle_ms"] * MILLISECOND))
        return {
            **{key: step[key] for key in ("setup", "inject", "settle_ms") if key in step},
            **({} if sent else {"send_error": REFUSED}),
            "frames": [self._frame(frame) for frame in self.engine.frames() if frame.device in self._captured],
            "conntrack": {node: self._conntrack(node) for node in self._nodes},
            "drops": [self._drop(drop) for drop in self.engine.drops()],
        }

    def _frame(self, frame: Frame) -> dict[str, str]:
        owner, _, interface = self.topology.device_name(frame.device).rpartition("/")
        return {"ns": owner, "iface": interface, "dir": "out" if frame.outgoing else "in", "hex": frame.data.hex()}

    def _conntrack(self, node: str) -> list[str]:
        return [conntrack_lines.line(entry) for entry in self.engine.conntrack(self.topology.namespace_id(node))]

    def _drop(self, drop: Drop) -> str:
        return f"{self._reasons[drop.reason]}@{self.topology.namespace_name(drop.namespace)}"

    def unaccounted(self) -> int:
        """Frames that came in or were made, less those that left or ended with a reason: 0, or a frame got lost."""
        count = self.engine.counters()
        origins = ("in", "generated", "copies", "fragments_made")
        fates = ("out", "dropped", "consumed", "fragments_merged", "held")
        return sum(count[name] for name in origins) - sum(count[name] for name in fates)


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """What came of a case; ``steps`` have the shape of the case's own."""

    steps: list[dict[str, Any]]
    pin_failures: list[str]
    unaccounted: int


def play(case: Mapping[str, Any], path: Path) -> Played:
    """Play the case that stands in ``path``. InputError: its cluster, setup or pins make no sense."""
    playback = Playback(load_cluster(str(path.parent / case["cluster"])))
    playback.prepare(case["setup"])
    playback.pin(case["pins"])
    steps = [playback.step(step) for step in case["steps"]]
    return Played(steps, playback.engine.pin_failures(), playback.unaccounted())
