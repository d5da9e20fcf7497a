"""Builds a cluster in the core: underlay, nodes, pods, the CNI's data path, rules and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane.control.addrconf import add_own_addresses
from dataplane.control.cni import calico, flannel
from dataplane.control.firewall import load_node_rules
from dataplane.control.neighbours import add_underlay_neighbours
from dataplane.control.pods import add_host_network_pods, networked_pods
from dataplane.control.silent import silence
from dataplane.control.sites import Cni, Sites
from dataplane.control.sysctl import apply_baseline, apply_written
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import build_underlay
from dataplane.control.wiring import Wiring
from dataplane.errors import InputError
from dataplane.k8s.loader import collector_paused
from dataplane.k8s.objects import Manifests

if TYPE_CHECKING:
    from dataplane._core import Engine

PROXY_MODES = ("iptables",)
CNIS = {
    "flannel": Cni(
        flannel.build, flannel.describe, flannel.can_wait, flannel.attach, flannel.detach, flannel.check,
        flannel.no_announcement, flannel.no_announcement,
    ),
    "calico": Cni(
        calico.build, calico.describe, calico.can_wait, calico.attach, calico.detach, calico.check,
        calico.announce_borrowed, calico.withdraw_borrowed,
    ),
}  # fmt: skip
"""Name in ``cni.name`` to what sets up its data path on nodes and pods."""
MADE_AT_ONCE = 256
"""Up to so many nodes and pods a cluster is made as a whole: it is soon done, and every mistake in it shows."""


def not_carried(manifests: Manifests) -> list[str]:
    """What the manifests ask for and the core does not do yet, one line each."""
    lines = []
    if manifests.policies:
        first = manifests.policies[0].origin
        lines.append(f"{first}: network policies ({len(manifests.policies)}) are read but not enforced: every pod may reach every other")
    return lines


def build(manifests: Manifests, engine: Engine, *, at_once: bool | None = None) -> Topology:
    """Put the whole cluster into ``engine``, which must be empty, and return the names of what is in it.

    ``at_once``: make every machine now; False: make nodes and pods when something concerns them, with the same result for whoever
    looks (but for meshes of tunnels, which are made at once always); None: what suits the size of the cluster.

    Raises ``InputError``, naming file and line, for a cluster that could not exist or a part we do not carry. What is made later is
    looked at later.
    """
    config = manifests.config
    if config.cni.name not in CNIS:
        raise InputError(f"{config.origin}: cni.name {config.cni.name!r} is not supported: write one of {', '.join(CNIS)}")
    if config.proxy.mode not in PROXY_MODES:
        raise InputError(f"{config.origin}: proxy.mode {config.proxy.mode!r} is not supported: write {' or '.join(PROXY_MODES)}")
    with collector_paused():
        return _build(manifests, engine, at_once)


def _build(manifests: Manifests, engine: Engine, at_once: bool | None) -> Topology:
    config, topology = manifests.config, Topology(manifests)
    topology.warnings += not_carried(manifests)
    wiring, cni, pods = Wiring(engine, topology), CNIS[config.cni.name], networked_pods(manifests)
    small = len(manifests.nodes) + len(manifests.pods) <= MADE_AT_ONCE
    if (small if at_once is None else at_once) or not cni.can_wait(config):
        build_underlay(wiring)
        cni.build(wiring, pods, manifests.nodes)
        finish(wiring, list(topology.machines.values()))
    else:
        Sites(wiring, cni, pods, finish)  # ``topology.sites`` from now on
    add_host_network_pods(topology)
    return topology


def finish(wiring: Wiring, machines: Sequence[Machine]) -> None:
    """What machines need once their devices and addresses are there: neighbours, settings, addresses of their own, rules."""
    add_underlay_neighbours(wiring, machines)
    apply_baseline(wiring, machines)
    apply_written(wiring, machines)
    add_own_addresses(wiring, machines)
    names = {machine.ref.removeprefix("node/") for machine in machines if machine.kind == "node"}
    load_node_rules(wiring.engine, wiring.topology, [node for node in wiring.manifests.nodes if node.name in names] if names else [])
    if wiring.manifests.config.end_systems == "silent":
        silence(wiring.engine, wiring.topology, machines)
