"""A cluster built in the core, and its ``kind: Traffic`` carried to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.control.build import build
from dataplane.control.topology import Machine, Topology
from dataplane.errors import InputError
from dataplane.k8s.objects import Manifests

if TYPE_CHECKING:
    from dataplane._core import Drop, Engine


@dataclass(slots=True)
class World:
    """The core, the names of what is in it, and what its traffic so far left behind."""

    engine: Engine
    topology: Topology
    drops: list[Drop] = field(default_factory=list)


def build_world(manifests: Manifests, seed: int = 0) -> World:
    """The cluster before any frame. Raises InputError for one that could not exist."""
    from dataplane._core import Engine

    engine = Engine(seed)
    return World(engine, build(manifests, engine))


def run_traffic(world: World, seed: int, warnings: list[str]) -> int:
    """Carry every ``kind: Traffic`` document of the cluster to its end; returns the number of flows, 0 if there are none.

    Unknown fields go to ``warnings``. Raises InputError, with file and line, for a flow that cannot be.
    """
    from dataplane.traffic.drive import run_flows
    from dataplane.traffic.model import traffic_of
    from dataplane.traffic.resolve import resolve

    def drain() -> None:
        world.engine.frames()  # nobody looks at them here
        world.drops += world.engine.drops()

    flows = resolve(traffic_of(world.topology.manifests, warnings), world.topology)
    if flows:
        run_flows(world.engine, flows, seed, drain=drain)
    return len(flows)


def choose_machines(topology: Topology, names: Sequence[str], node: str | None) -> list[Machine]:
    """The machines to look at: those named (``NODE``, or ``node/``, ``pod/`` and ``host/`` references), else all nodes.

    ``node`` is one more name of a node. Raises InputError for a name that is not there, listing those that are.
    """
    references = [name if "/" in name else f"node/{name}" for name in names] + ([f"node/{node}"] if node else [])
    if not references:
        references = [f"node/{each.name}" for each in topology.manifests.nodes]
    if not references:
        raise InputError("the cluster has no node: add kind: Node to its manifests")
    return list({reference: topology.endpoint(reference) for reference in references}.values())
