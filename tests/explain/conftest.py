"""Traces of the recorded clusters and of a small one of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane import k8s
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.explain.outcomes import Choice, every_outcome
from dataplane.explain.probe import Shape
from dataplane.explain.target import Wanted, find_source, find_target
from dataplane.explain.walk import Question, answering
from dataplane.k8s.objects import Manifests

Trace = Callable[..., list[Choice]]


def ask(
    manifests: Manifests, source: str, to: str, *, proto: str = "", port: str = "", family: int = 0, ttl: int = 64, size: int = 0
) -> Question:
    topology = build(manifests, Engine())
    machine = find_source(topology, source, "default")
    target = find_target(topology, to, "default", machine, Wanted(proto, port, family))
    return Question(machine, target, Shape(target.protocol, 40000, target.port, ttl, size))


@pytest.fixture(scope="session", params=["bgp", "calico-bgp", "flannel-vxlan"])
def any_data_path(request: pytest.FixtureRequest, cases: Path) -> Manifests:
    return answering(k8s.load([str(cases / "kernel" / f"cluster-{request.param}.yaml")]))


@pytest.fixture(scope="session")
def vxlan(cases: Path) -> Manifests:
    return answering(k8s.load([str(cases / "kernel" / "cluster-flannel-vxlan.yaml")]))


@pytest.fixture(scope="session")
def trace() -> Trace:
    """All outcomes of one question."""

    def run(manifests: Manifests, source: str, to: str, **how: str | int) -> list[Choice]:
        return every_outcome(manifests, ask(manifests, source, to, **how))  # type: ignore[arg-type]

    return run


SMALL = """
apiVersion: dataplane/v1alpha1
kind: Cluster
spec: {podCIDR: 10.244.0.0/16, serviceCIDR: 10.96.0.0/12, underlay: {kind: flat, cidr: 192.168.1.0/24}}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.100}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: n1, containers: [{name: c, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {nodeName: n1, containers: [{name: c, image: none, ports: [{name: http, containerPort: 8080}]}]}
"""


@pytest.fixture(scope="session")
def small() -> Manifests:
    """One node, a pod that declares nothing and one that declares port 8080; neighbours are resolved by ARP."""
    return k8s.load_text(SMALL, "small.yaml")
