"""A verdict explained: the drop reason's own sentence, and what this walk shows beside it."""

from __future__ import annotations

from ipaddress import ip_address

from dataplane.capture.dissect import dissect, summary
from dataplane.capture.headers import bare_ip_version
from dataplane.control.topology import Topology
from dataplane.explain.steps import Step
from dataplane.explain.walk import DELIVERED, LEFT, Question, Run, Walk


def verdict_line(walk: Walk, topology: Topology) -> str:
    """``DROPPED at node1 by rules/rejected`` or ``DELIVERED to pod/default/web``."""
    verdict = walk.verdict
    where = _place(topology, verdict.namespace)
    if verdict.result == DELIVERED:
        return f"DELIVERED to {where}"
    if verdict.result == LEFT:
        return f"LEFT THE CLUSTER by way of {where}"
    return f"{verdict.result.upper()} at {where}" + (f" by {verdict.reason}" if verdict.reason else "")


def reason(walk: Walk) -> str:
    """One sentence, with the manifest's line that decided."""
    verdict = walk.verdict
    if verdict.result == LEFT:
        return "the next hop is outside of what is emulated, nobody answers from there"
    return verdict.sentence + (f" [{verdict.origin}]" if verdict.origin else "")


def details(walk: Walk, topology: Topology) -> list[str]:
    """What this walk shows about the reason of a drop: the rule, the route, the size."""
    return _DETAILS.get(walk.verdict.reason, _no_details)(walk, topology)


def notes(question: Question, run: Run) -> list[str]:
    """What is worth knowing beside the verdict: hairpin, translation, who answered."""
    found = []
    sent_to = question.target.address
    arrived = run.forward.verdict.namespace
    own = sent_to.is_loopback or sent_to in question.source.addresses
    if run.forward.verdict.result == DELIVERED and arrived == question.source.namespace and not own:
        found.append(f"hairpin: the service chose {question.source.ref} itself, which sent the packet")
    if run.back is not None:
        first = next(iter(run.back.steps))
        kind = summary(first.data, ethertype=first.ethertype)
        found.append(f"answer: {kind}{_next_hop_mtu(first)}; {verdict_line(run.back, run.topology)}")
    elif run.forward.verdict.result != LEFT:
        found.append("answer: none, the sender learns nothing and waits")
    return found


def _place(topology: Topology, namespace: int) -> str:
    machine = topology.machines.get(namespace)
    return machine.ref if machine else "nowhere"


def _next_hop_mtu(step: Step) -> str:
    fields = {"ICMP": "next-hop mtu", "ICMPv6": "mtu"}
    layers = dissect(step.data, ethertype=step.ethertype)
    mtu = next((layer.text(fields[layer.name]) for layer in layers if layer.name in fields), "")
    return f" (the next hop's MTU is {mtu})" if mtu not in ("", "0") else ""


# ---- details by drop reason


def _no_details(walk: Walk, topology: Topology) -> list[str]:
    return []


def _last_text(walk: Walk, stage: str) -> list[str]:
    """The last step of a stage, as the reason's context."""
    texts = [step.text for step in walk.steps if step.stage == stage]
    return [f"{stage}: {texts[-1]}"] if texts else []


def _rule(walk: Walk, topology: Topology) -> list[str]:
    rules = [step for step in walk.steps if step.stage == "rules"]
    return [f"the rule: {rules[-1].what} {rules[-1].text}"] if rules else ["no rule matched: the chain's policy decided"]


def _route(walk: Walk, topology: Topology) -> list[str]:
    return _last_text(walk, "route")


def _neighbour(walk: Walk, topology: Topology) -> list[str]:
    return [*_last_text(walk, "neighbour"), "no machine has this address, or it is down or on another network"]


def _size(walk: Walk, topology: Topology) -> list[str]:
    step = walk.steps[-1]
    packet = step.data if step.ethertype else step.data[14:]
    why = "is IPv6, which no router fragments" if bare_ip_version(packet) == 6 else "DF set"
    return [f"the IP packet has {len(packet)} bytes and {why}", *_last_text(walk, "route")]


def _closed_port(walk: Walk, topology: Topology) -> list[str]:
    machine = topology.machines.get(walk.verdict.namespace)
    if machine is None:
        return []
    if machine.kind != "pod":
        return [f"the manifests name nothing that listens there on {machine.ref}"]
    pod = next((pod for pod in topology.manifests.pods if f"pod/{pod.key}" == machine.ref), None)
    declared = ", ".join(f"{each.port}/{each.protocol}" for each in pod.ports) if pod else ""
    return [f"{machine.ref} declares {declared or 'no ports'}" + (f" ({pod.origin})" if pod else "")]


_DETAILS = {
    "rules/denied": _rule,
    "rules/rejected": _rule,
    "nat/refused": _rule,
    "route/no_route": _route,
    "route/output_failed": _route,
    "route/blackhole": _route,
    "route/unreachable": _route,
    "route/prohibited": _route,
    "neighbour/unresolved": _neighbour,
    "forward/too_big": _size,
    "output/too_big": _size,
    "local/tcp_no_socket": _closed_port,
    "local/udp_no_socket": _closed_port,
}


def endpoint_name(topology: Topology, endpoint: tuple[bytes, int]) -> str:
    """``10.244.1.6:8080 (pod/default/web)``."""
    address = ip_address(endpoint[0])
    text = f"[{address}]:{endpoint[1]}" if address.version == 6 else f"{address}:{endpoint[1]}"
    owner = next((machine.ref for machine in topology.machines.values() if address in machine.addresses), "")
    return f"{text} ({owner})" if owner else text
