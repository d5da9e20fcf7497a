"""A small cluster of two nodes, with whatever is right or wrong about its MTUs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from dataplane import k8s
from dataplane.explain.mtu import PathReport, Report, examine
from dataplane.k8s.objects import Manifests

NODES = ("n1", "n2")
Hints = Mapping[str, Mapping[str, int]]
"""MTUs by device by node."""


def cluster_text(cni: Mapping[str, Any], *, mtu: int = 1500, hints: Hints | None = None, dual: bool = False, **spec: Any) -> str:
    """Manifests: pods a and b on n1, c on n2, host out, service web in front of c."""
    families = (4, 6) if dual else (4,)
    underlay = {
        "cidrs": by_family(families, "192.168.0.0/24", "fd00:192::/64"),
        "mtu": mtu,
        "defaultGateways": by_family(families, "192.168.0.50", "fd00:192::50"),
        "hosts": [{"name": "out", "addresses": by_family(families, "192.168.0.50", "fd00:192::50")}],
    }
    cluster = {
        "podCIDRs": by_family(families, "10.244.0.0/16", "fd00:10:244::/48"),
        "serviceCIDRs": by_family(families, "10.96.0.0/16", "fd00:10:96::/112"),
        "cni": cni,
        "underlay": underlay,
        **spec,
    }
    documents = [{"apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "spec": cluster}]
    documents += [node(number, families, (hints or {}).get(name, {})) for number, name in enumerate(NODES, 1)]
    documents += [pod("a", "n1"), pod("b", "n1"), pod("c", "n2"), service(families)]
    return yaml.safe_dump_all(documents)


def cluster(cni: Mapping[str, Any], **how: Any) -> Manifests:
    return k8s.load_text(cluster_text(cni, **how), "small.yaml")


def by_family(families: tuple[int, ...], four: str, six: str) -> list[str]:
    return [{4: four, 6: six}[family] for family in families]


def flannel(backend: str, dual: bool = False, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"Network": "10.244.0.0/16", "Backend": {"Type": backend}}
    if dual:
        config |= {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/48"}
    return {"name": "flannel", "config": config, **more}


def calico(**pool: str) -> dict[str, Any]:
    return {"name": "calico", "ipPools": [{"cidr": "10.244.0.0/16", **pool}]}


def node(number: int, families: tuple[int, ...], mtus: Mapping[str, int]) -> dict[str, Any]:
    addresses = by_family(families, f"192.168.0.1{number}", f"fd00:192::1{number}")
    annotation = json.dumps({device: {"mtu": mtu} for device, mtu in mtus.items()})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"n{number}", "annotations": {"dataplane/interfaces": annotation} if mtus else {}},
        "spec": {"podCIDRs": by_family(families, f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


def pod(name: str, where: str) -> dict[str, Any]:
    containers = [{"name": "x", "image": "none", "ports": [{"containerPort": 8080}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": where, "containers": containers},
    }


def service(families: tuple[int, ...]) -> dict[str, Any]:
    names = [f"IPv{family}" for family in families]
    spec = {"selector": {"app": "c"}, "ports": [{"port": 80, "targetPort": 8080}], "ipFamilies": names}
    spec["ipFamilyPolicy"] = "PreferDualStack" if len(families) > 1 else "SingleStack"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def between(manifests: Manifests, source: str, to: str, family: int = 4) -> tuple[Report, PathReport]:
    """The report of one path, and the path of one IP version in it."""
    report = examine(manifests, ends=(source, to))
    return report, next(path for path in report.paths if path.family == family)
