"""One object of a cluster at Kubernetes' own limits comes, goes or changes while the emulation runs."""

from __future__ import annotations

import gc
import io
import statistics
import time
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from dataplane.bench import scale_cluster as large
from dataplane.bench.memory import peak
from dataplane.bench.work import Measured, Measurement, Mismatch, Settings
from dataplane.emulator import Cluster, Emulator
from dataplane.k8s import load_text
from dataplane.traffic.packets import PROTO_TCP, ip_packet
from dataplane.traffic.segment import SYN, Segment, build_segment

SERVICE = 7  # that changes, and that a new one is like
NEW_SERVICE = large.SERVICE_NETWORK + 65000
TIMES = 20  # that each change is made and taken back
WAIT = 5_000_000_000  # virtual nanoseconds
FLAGS_OFFSET = 14 + 20 + 13  # of TCP's flags in a frame

Step = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # put, delete


class Change(NamedTuple):
    """There and back, and who of ``members`` may receive what is sent to an address after each of the two."""

    steps: tuple[Step, Step]
    address: IPv4Address
    receivers: tuple[set[str], set[str]]  # NAMESPACE/NAME; empty: nobody does


class ClusterChangeWork(Measured):
    """``Emulator.change`` of a service, of endpoints and of pods, one of them on a node that no traffic has made so far.

    The row's values are those of the dearest kind of change; ``details`` has all kinds.
    """

    def __init__(self, settings: Settings, nodes: int) -> None:
        self.size = large.Size(nodes)
        settings.say(f"reading the manifests of {nodes:,} nodes")
        text = io.StringIO()
        large.write_json(self.size, text)
        self.emulator = Emulator(Cluster(load_text(text.getvalue(), "cluster.json")))
        self.source = f"pod/{large.namespace_of(large.service_of(self.size, 0))}/{large.pod_name(0)}"
        self.members = [pod for pod in range(self.size.pods) if large.service_of(self.size, pod) == SERVICE]

    def measure(self, settings: Settings) -> Measurement:
        """Make each change and take it back, again and again; then once more, with a look at what it did."""
        changes = self._changes()
        self._require(large.service_address(SERVICE), self._names(self.members))  # which makes two nodes
        for step in changes["service"].steps:
            self.emulator.change(*step)  # the first one takes a look at the whole cluster
        kinds = {kind: self._timed(change.steps, 2 if settings.quick else TIMES) for kind, change in changes.items()}
        for change in changes.values():
            for step, receivers in zip(change.steps, change.receivers, strict=True):
                self.emulator.change(*step)
                self._require(change.address, receivers)
        dearest = max(kinds.values(), key=lambda times: times["median"])
        checked = "what is sent to a service and to pods arrives, or not, after each kind of change"
        details = {"kinds": kinds, "peak_bytes": peak()}
        return Measurement(dearest["least"], dearest["median"], int(dearest["changes"]), 1, None, None, checked, details)

    def _timed(self, steps: tuple[Step, Step], times: int) -> dict[str, float]:
        """Milliseconds of one change."""
        found = []
        gc.collect()
        for step in steps * times:
            start = time.perf_counter_ns()
            self.emulator.change(*step)
            found.append((time.perf_counter_ns() - start) / 1e6)
        return {"least": min(found), "median": statistics.median(found), "most": max(found), "changes": len(found)}

    def _changes(self) -> dict[str, Change]:
        """By kind."""
        members = self.members
        whole, last = (large.slice_object(self.size, SERVICE, pods) for pods in (members, members[-1:]))
        few_and_all = (self._names(members[-1:]), self._names(members))
        service = large.service_object(SERVICE)
        service["metadata"] |= {"name": "new"}
        service["spec"] |= {"clusterIP": str(NEW_SERVICE), "clusterIPs": [str(NEW_SERVICE)]}
        behind = large.slice_object(self.size, SERVICE, members)
        behind["metadata"] |= {"name": "new-slice", "labels": {"kubernetes.io/service-name": "new"}}
        return {
            "service": Change((([service, behind], []), ([], [service, behind])), NEW_SERVICE, (self._names(members), set())),
            "endpoints": Change((([last], []), ([whole], [])), large.service_address(SERVICE), few_and_all),
            "pod": self._pod(0),
            "pod, its node not made": self._pod(self.size.nodes - 1),
        }

    def _pod(self, node: int) -> Change:
        address, namespace = large.POD_NETWORK + 256 * node + 250, large.namespace_of(SERVICE)
        pod = large.pod_object("guest", namespace, {}, address, node)
        return Change((([pod], []), ([], [pod])), address, ({f"{namespace}/guest"}, set()))

    def _names(self, pods: list[int]) -> set[str]:
        return {f"{large.namespace_of(SERVICE)}/{large.pod_name(pod)}" for pod in pods}

    def _require(self, address: IPv4Address, receivers: set[str]) -> None:
        """Raises Mismatch unless one of the receivers gets what the first pod sends there, if there are any."""
        emulator, own = self.emulator, self.emulator.topology.endpoint(self.source).addresses[0].packed
        before = len(emulator.frames)
        syn = build_segment(own, address.packed, Segment(2000 + before, 80, 1, 0, SYN, 64240))
        emulator.send(self.source, ip_packet(own, address.packed, PROTO_TCP, syn))
        emulator.run(WAIT)
        seen = [frame for frame in emulator.frames[before:] if frame.direction == "in" and frame.interface.startswith("team-")]
        arrived = [frame for frame in seen if frame.data[FLAGS_OFFSET : FLAGS_OFFSET + 1] == bytes([SYN])]
        places = {frame.interface.removesuffix("/eth0"): frame.data[:6] for frame in arrived}
        got = {place for place, mac in places.items() if emulator.topology.endpoint(f"pod/{place}").mac == mac}  # a bridge may flood it
        if bool(got) != bool(receivers) or not got <= receivers:
            raise Mismatch(f"what is sent to {address} is received by {', '.join(sorted(got)) or 'nobody'}")
