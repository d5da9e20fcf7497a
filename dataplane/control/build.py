"""Builds a cluster in the core: underlay, nodes, pods, the CNI's data path, rules and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataplane.control.addrconf import add_own_addresses
from dataplane.control.cni import calico, flannel
from dataplane.control.firewall import load_node_rules
from dataplane.control.neighbours import add_underlay_neighbours
from dataplane.control.pods import add_host_network_pods, networked_pods
from dataplane.control.silent import silence
from dataplane.control.sysctl import apply_baseline, apply_written
from dataplane.control.topology import Topology
from dataplane.control.underlay import build_underlay
from dataplane.control.wiring import Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import Manifests

if TYPE_CHECKING:
    from dataplane._core import Engine

PROXY_MODES = ("iptables",)
CNIS = {"flannel": flannel.build, "calico": calico.build}
"""Name in ``cni.name`` to the function that sets up its data path on all nodes and pods."""


def not_carried(manifests: Manifests) -> list[str]:
    """What the manifests ask for and the core does not do yet, one line each."""
    lines = []
    if manifests.policies:
        first = manifests.policies[0].origin
        lines.append(f"{first}: network policies ({len(manifests.policies)}) are read but not enforced: every pod may reach every other")
    return lines


def build(manifests: Manifests, engine: Engine) -> Topology:
    """Put the whole cluster into ``engine``, which must be empty, and return the names of what is in it.

    Raises ``InputError``, naming file and line, for a cluster that could not exist or a part we do not carry.
    """
    config = manifests.config
    if config.cni.name not in CNIS:
        raise InputError(f"{config.origin}: cni.name {config.cni.name!r} is not supported: write one of {', '.join(CNIS)}")
    if config.proxy.mode not in PROXY_MODES:
        raise InputError(f"{config.origin}: proxy.mode {config.proxy.mode!r} is not supported: write {' or '.join(PROXY_MODES)}")
    topology = Topology(manifests)
    topology.warnings += not_carried(manifests)
    wiring = Wiring(engine, topology)
    build_underlay(wiring)
    CNIS[config.cni.name](wiring, networked_pods(manifests))
    add_host_network_pods(topology)
    add_underlay_neighbours(wiring)
    apply_baseline(wiring)
    apply_written(wiring)
    add_own_addresses(wiring)
    load_node_rules(engine, topology)
    if config.end_systems == "silent":
        silence(engine, topology)
    return topology
