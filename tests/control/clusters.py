"""Small clusters for tests of control: two nodes with a pod each, and what a test adds."""

from __future__ import annotations

from typing import Any

import yaml

from control.fake_engine import FakeEngine
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load_text
from dataplane.k8s.objects import Manifests


def node(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"},
        "spec": {"podCIDR": f"10.1.{number}.0/24", "podCIDRs": [f"10.1.{number}.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.0.{number}"}]},
    }  # fmt: skip


def dual_node(number: int) -> dict[str, Any]:
    """``node`` with a second family: fd00::NUMBER on the underlay, fd00:1:NUMBER::/64 for pods."""
    made = node(number)
    made["spec"]["podCIDRs"].append(f"fd00:1:{number}::/64")
    made["status"]["addresses"].append({"type": "InternalIP", "address": f"fd00::{number}"})
    return made


def pod(key: str, node_name: str, address: str, *, host_network: bool = False, phase: str = "Running") -> dict[str, Any]:
    """``key``: NAME, or NAMESPACE/NAME."""
    namespace, _, name = key.rpartition("/")
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace or "default"},
        "spec": {"nodeName": node_name, "hostNetwork": host_network, "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]},
    }  # fmt: skip


def cluster(**spec: Any) -> dict[str, Any]:
    base = {"podCIDR": "10.1.0.0/16", "underlay": {"cidr": "192.168.0.0/24"}}
    return {"apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "metadata": {"name": "test"}, "spec": base | spec}


def build_fake(*objects: dict[str, Any]) -> tuple[FakeEngine, Topology]:
    """Build these objects in a fake engine; a pod a on n1 and b on n2 where no pod is among them."""
    engine: Any = FakeEngine()
    return engine, build(manifests(*objects), engine)


def build_real(*objects: dict[str, Any]) -> tuple[Engine, Topology]:
    """The same in an engine that carries packets."""
    engine = Engine(seed=1)
    return engine, build(manifests(*objects), engine)


def manifests(*objects: dict[str, Any]) -> Manifests:
    documents = list(objects)
    kinds = {document["kind"] for document in documents}
    documents += [node(1), node(2)] if "Node" not in kinds else []
    documents += [pod("a", "n1", "10.1.1.2"), pod("b", "n2", "10.1.2.2")] if "Pod" not in kinds else []
    return load_text(yaml.safe_dump_all(documents), "test.yaml")
