"""One question asked in IPv4 and in IPv6 on the same dual-stack cluster, and how the two walks differ, step by step."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dataplane import k8s
from dataplane.capture.dissect import summary
from dataplane.control.topology import Topology
from dataplane.explain.outcomes import Choice, every_outcome
from dataplane.explain.steps import Step
from dataplane.explain.walk import Walk, answering
from dataplane.k8s.objects import Manifests

from .conftest import ask

FAMILIES = (4, 6)
_FLANNEL = {"Network": "10.244.0.0/16", "EnableIPv6": True, "IPv6Network": "fd00:10:244::/48"}
DATA_PATHS: dict[str, dict[str, Any]] = {
    "flannel-vxlan": {"name": "flannel", "config": {**_FLANNEL, "Backend": {"Type": "vxlan", "VNI": 1, "Port": 8472}}},
    "flannel-host-gw": {"name": "flannel", "config": {**_FLANNEL, "Backend": {"Type": "host-gw"}}},
    "calico": {
        "name": "calico",
        "ipPools": [{"cidr": "10.244.0.0/16", "natOutgoing": True}, {"cidr": "fd00:10:244::/48", "natOutgoing": True}],
    },
}
LARGE_POD_MTU, UNDERLAY_MTU = 1500, 1400


@dataclass(frozen=True)
class Scenario:
    """A question; ``to`` may be one for each family. ``narrow``: the underlay's MTU is smaller than the pods'."""

    source: str
    to: str | Mapping[int, str]
    how: Mapping[str, Any] = field(default_factory=dict)
    narrow: bool = False


NODE2 = {4: "192.168.0.12", 6: "[fd00:192:168::12]"}
SCENARIOS = {
    "pod, same node": Scenario("pod/shell", "pod/web-0"),
    "pod, other node": Scenario("pod/shell", "pod/web-1"),
    "UDP, other node": Scenario("pod/shell", "pod/web-1", {"proto": "udp", "port": "stats"}),
    "ping, other node": Scenario("pod/shell", "pod/web-1", {"proto": "icmp"}),
    "ping, node": Scenario("pod/shell", "node/node2", {"proto": "icmp"}),
    "ClusterIP": Scenario("pod/shell", "service/web:http"),
    "ClusterIP, UDP": Scenario("pod/shell", "service/web:stats"),
    "ClusterIP, to itself": Scenario("pod/web-0", "service/web:http"),
    "ClusterIP, from a node": Scenario("node/node1", "service/web:http"),
    "NodePort": Scenario("host/client", {family: f"{address}:30080" for family, address in NODE2.items()}),
    "NodePort, from a pod": Scenario("pod/shell", {family: f"{address}:30080" for family, address in NODE2.items()}),
    "egress": Scenario("pod/shell", "host/client:443"),
    "no endpoints": Scenario("pod/shell", "service/billing"),
    "hop limit, first node": Scenario("pod/shell", "pod/web-1", {"ttl": 1}),
    "hop limit, second node": Scenario("pod/shell", "pod/web-1", {"ttl": 2}),
    "too big for the sender": Scenario("pod/shell", "pod/web-1", {"proto": "icmp", "size": 1501}),
    "too big on the way": Scenario("pod/shell", "pod/web-1", {"proto": "icmp", "size": 1500}, narrow=True),
    "closed port, TCP": Scenario("pod/shell", "node/node2:9"),
    "closed port, UDP": Scenario("pod/shell", "node/node2:9", {"proto": "udp"}),
    "nobody has the address": Scenario("pod/shell", {4: "192.168.0.77", 6: "fd00:192:168::77"}),
    "no route": Scenario("host/client", {4: "203.0.113.9", 6: "2001:db8::9"}),
}


def dual_stack(checkout: Path, data_path: str, *, narrow: bool) -> Manifests:
    """The sample's cluster over this data path."""
    documents = list(yaml.safe_load_all((checkout / "pcaps" / "sample6" / "cluster.yaml").read_text(encoding="utf-8")))
    spec = next(document["spec"] for document in documents if document["kind"] == "Cluster")
    spec["cni"] = {**DATA_PATHS[data_path], "mtu": LARGE_POD_MTU}
    if narrow:
        spec["underlay"]["mtu"] = UNDERLAY_MTU
    return answering(k8s.load_text(yaml.safe_dump_all(documents), f"{data_path}.yaml"))


class Difference(NamedTuple):
    """A step that only one of the two walks has."""

    data_path: str
    scenario: str
    family: int
    step: str


def differences(manifests: Manifests, data_path: str, name: str, devices: Mapping[str, str]) -> Iterator[Difference]:
    """``devices``: names of IPv4 devices to those of their counterparts in IPv6."""
    scenario = SCENARIOS[name]
    walks = {family: [_steps(choice) for choice in _ask(manifests, scenario, family)] for family in FAMILIES}
    assert len(walks[4]) == len(walks[6]), "as many outcomes"
    for ours, theirs in zip(walks[4], walks[6], strict=True):
        four = [_renamed(step, devices) for step in ours]
        for tag, left, left_end, right, right_end in difflib.SequenceMatcher(None, four, theirs, autojunk=False).get_opcodes():
            if tag != "equal":
                yield from (Difference(data_path, name, 4, step) for step in four[left:left_end])
                yield from (Difference(data_path, name, 6, step) for step in theirs[right:right_end])


def _ask(manifests: Manifests, scenario: Scenario, family: int) -> list[Choice]:
    to = scenario.to if isinstance(scenario.to, str) else scenario.to[family]
    return every_outcome(manifests, ask(manifests, scenario.source, to, family=family, **scenario.how))


def _steps(choice: Choice) -> list[str]:
    """The way there and, behind what the answer is, the way back."""
    run = choice.run
    steps = [f"probability {choice.probability:.3f}", *_walk_steps(run.forward, run.topology)]
    if run.back is None:
        return [*steps, "no answer"]
    first = run.back.steps[0]
    said = summary(first.data, ethertype=first.ethertype)
    kind = re.sub(r"^\S+ > \S+ |, about .*| id \d+ seq \d+", "", said).replace("ICMPv6", "ICMP")
    return [*steps, f"answer: {kind}", *_walk_steps(run.back, run.topology)]


def _walk_steps(walk: Walk, topology: Topology) -> Iterator[str]:
    for step in walk.steps:
        yield _step_text(step, topology)
    verdict = walk.verdict
    yield f"{verdict.result} at {_kind(topology, verdict.namespace)} {verdict.reason}".rstrip()


def _step_text(step: Step, topology: Topology) -> str:
    """``node cni0 nat: KUBE-SERVICES KUBE-SVC-...``: who, where, which stage, and of rules the chain and the target."""
    device = topology.short_device_name(step.device) if step.device >= 0 else "-"
    what = f"{step.stage}/{step.what}" if step.rule is None else f"{step.what}: {_sameness(f'{step.rule.chain} {step.rule.target}')}"
    return f"{_kind(topology, step.namespace)} {device} {what}"


def _sameness(chain_and_target: str) -> str:
    """Names of kube-proxy's endpoint chains hash the endpoint's address."""
    return re.sub(r"KUBE-SEP-\w+", "KUBE-SEP", chain_and_target)


def _kind(topology: Topology, namespace: int) -> str:
    machine = topology.machines.get(namespace)
    return machine.kind if machine else "nobody"


def _renamed(step: str, devices: Mapping[str, str]) -> str:
    return " ".join(devices.get(word, word) for word in step.split(" "))
