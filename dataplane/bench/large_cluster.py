"""A cluster at Kubernetes' own limits: how long until one packet has been followed through it, and how much memory that takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dataplane.bench.memory import peak_of_children
from dataplane.bench.process import command
from dataplane.bench.scale_cluster import Size, namespace_of, pod_name, service_name, service_of, write_json
from dataplane.bench.work import Mismatch, Settings, Work


class LargeClusterWork(Work):
    """``dataplane trace`` from the first pod to the last service, as a process of its own: reads the manifests, builds, traces."""

    warm_up, shortest = 0, 2
    unit_ns = 1e9

    def __init__(self, settings: Settings, nodes: int) -> None:
        self.units = 1
        self.size = Size(nodes)
        self._folder = tempfile.TemporaryDirectory(prefix="dataplane-bench-")
        self._file = Path(self._folder.name) / "cluster.json"
        settings.say(f"writing the manifests of {nodes:,} nodes")
        with self._file.open("w", encoding="utf-8") as file:
            write_json(self.size, file)
        self._target = self.size.service_count - 1
        self._shown = ""

    def run(self) -> None:
        source = f"pod/{namespace_of(service_of(self.size, 0))}/{pod_name(0)}"
        target = f"service/{namespace_of(self._target)}/{service_name(self._target)}"
        self._shown = command("trace", "-f", str(self._file), "--from", source, "--to", target)

    def check(self) -> None:
        """The walk ends at a pod behind the service."""
        last = self._shown.rstrip().rpartition("\n")[2]
        members = [pod_name(pod) for pod in range(self.size.pods) if service_of(self.size, pod) == self._target]
        if not any(name in last for name in members):
            raise Mismatch(f"the walk ends at none of the service's pods: {last}")
        self.checked = "the walk ends at a pod of the service"

    def details(self) -> dict[str, Any]:
        return {
            "nodes": self.size.nodes,
            "pods": self.size.pods,
            "services": self.size.service_count,
            "manifest_bytes": self._file.stat().st_size,
            "peak_bytes": peak_of_children(),
        }
