"""What a large cluster costs: to load it, to trace one packet of a pod to a service, to change one object of it.

    python bench/scale.py --nodes 5000 [--format json|kubectl|yaml] [--cni flannel|calico] [--json]

Times are in seconds of the wall clock and of this process, memory is the highest resident set so far in MiB. What is timed is checked:
the trace must deliver.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from typing import Any, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from scale_cluster import Size, pod_name, service_name, write_json, write_yaml

CHANGES = 20
SERVICE = 7


class Row(NamedTuple):
    """One thing measured."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    median_seconds: float | None = None  # where it was measured several times; ``seconds`` is the least


@dataclass(slots=True)
class Bench:
    size: Size
    path: str
    trace_mib: float = 0.0  # of the traced command's own process

    def rows(self) -> Iterator[Row]:
        """Everything, in the order of its names."""
        yield self._measured("trace, whole command", self._trace)
        gc.collect()
        found: dict[str, Any] = {}
        yield self._measured("load", lambda: found.update(manifests=load(self.path)))
        yield self._measured("describe", lambda: found.update(world=world(found["manifests"])))
        yield self._measured("first node", lambda: touch(found["world"], "node-0000"))
        yield self._measured("second node", lambda: touch(found["world"], "node-0001"))
        yield from self._changes(found)

    def _measured(self, name: str, work: Callable[[], object]) -> Row:
        before, cpu = time.perf_counter(), time.process_time()
        work()
        return Row(name, time.perf_counter() - before, time.process_time() - cpu, peak_mib())

    def _trace(self) -> None:
        """In a process of its own, so that its memory is its own."""
        child = os.fork()
        if child == 0:
            os._exit(0 if "DELIVERED to pod/" in trace(self.path, self.size) else 1)
        _, status, usage = os.wait4(child, 0)
        if status:
            raise RuntimeError("the trace was not delivered")
        self.trace_mib = usage.ru_maxrss / 1024

    def _changes(self, found: dict[str, Any]) -> Iterator[Row]:
        from dataplane.control.change import Changes

        engine, topology = found["world"]
        manifests = found["manifests"]
        changes: dict[str, Any] = {}
        yield self._measured("ready for changes", lambda: changes.update(made=Changes(engine, topology)))
        item = next(each for each in manifests.endpoint_slices if each.service == service_name(SERVICE))
        service = next(each for each in manifests.services if each.name == service_name(SERVICE))
        pod = manifests.pods[self.size.nodes]  # on the first node, which is made
        fewer = replace(item, endpoints=item.endpoints[1:])
        more = replace(service, name="new", cluster_ips=(ip_address("172.16.255.9"),))
        guest = replace(
            pod, name="new", addresses=(ip_address("10.0.0.250"),), mac="02:00:00:00:00:99", host_interface="vethnew", labels={}
        )
        for name, there, back in (
            ("change: an endpoint goes and comes", ([fewer], []), ([item], [])),
            ("change: a service comes and goes", ([more], []), ([], [more])),
            ("change: a pod comes and goes", ([guest], []), ([], [guest])),
        ):
            times = []
            for number in range(CHANGES):
                before = time.perf_counter()
                changes["made"].apply(*(back if number % 2 else there))
                times.append(time.perf_counter() - before)
            yield Row(name, min(times), min(times), peak_mib(), statistics.median(times))


def load(path: str) -> Any:
    from dataplane.k8s import load as load_manifests

    return load_manifests([path])


def world(manifests: Any) -> tuple[Any, Any]:
    from dataplane._core import Engine
    from dataplane.control.build import build

    engine = Engine(0)
    return engine, build(manifests, engine)


def touch(made: tuple[Any, Any], node: str) -> None:
    """Have a node with its pods, as its first frame would."""
    engine, topology = made
    engine.devices(topology.endpoint(f"node/{node}").namespace)


def trace(path: str, size: Size) -> str:
    from scale_cluster import namespace_of, service_of

    from dataplane.cli.main import main

    text = io.StringIO()
    source = f"pod/{namespace_of(service_of(size, 0))}/{pod_name(0)}"
    target = f"service/{namespace_of(SERVICE)}/{service_name(SERVICE)}"
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        main(["trace", "-q", "-f", path, "--from", source, "--to", target])
    return text.getvalue()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: Size, form: str) -> dict[str, Any]:
    """All rows as plain data."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cluster.yaml" if form == "yaml" else "cluster.json")
        with open(path, "w", encoding="utf-8") as stream:
            if form == "yaml":
                write_yaml(size, stream)
            else:
                write_json(size, stream, 4 if form == "kubectl" else None)
        megabytes = os.path.getsize(path) / 1e6
        bench = Bench(size, path)
        rows = [row._asdict() for row in bench.rows()]
        rows[0]["peak_mib"] = bench.trace_mib
    counts = {"nodes": size.nodes, "pods": size.pods, "containers": 2 * size.pods, "services": size.service_count, "endpoints": size.pods}
    return {
        "schema": "dataplane/bench-scale", "version": 1, "cluster": {**asdict(size), **counts}, "format": form, "megabytes": megabytes,
        "machine": platform.processor() or platform.machine(), "python": platform.python_version(), "rows": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods-per-node", type=int, default=30)
    parser.add_argument("--services", type=int, default=0, help="default: two for each node")
    parser.add_argument("--cni", default="flannel")
    parser.add_argument("--format", choices=("json", "kubectl", "yaml"), default="json")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(Size(args.nodes, args.pods_per_node, args.services, args.cni), args.format)
    if args.json:
        print(json.dumps(found, indent=2))
        return
    cluster = found["cluster"]
    print(f"{cluster['nodes']} nodes, {cluster['pods']} pods, {cluster['services']} services, {found['megabytes']:.0f} MB of {args.format}")
    for row in found["rows"]:
        median = f"  median {row['median_seconds'] * 1000:.1f} ms" if row["median_seconds"] is not None else ""
        print(f"{row['name']:36} {row['seconds']:9.3f} s  cpu {row['cpu_seconds']:8.3f} s  peak {row['peak_mib']:6.0f} MiB{median}")


if __name__ == "__main__":
    main()
