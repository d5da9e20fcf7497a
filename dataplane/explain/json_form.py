"""A trace as one JSON document, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from dataplane.control.topology import Topology
from dataplane.explain.outcomes import Choice
from dataplane.explain.reasons import details, notes
from dataplane.explain.steps import Step
from dataplane.explain.walk import Question, Run, Walk
from dataplane.k8s.objects import Origin

SCHEMA = "dataplane.trace"
VERSION = 1


def trace_json(question: Question, choices: Sequence[Choice], *, others: int = 0, reply: bool = False) -> dict[str, Any]:
    """A document of plain values. Times are virtual nanoseconds, bytes are hexadecimal in wire order."""
    target = question.target
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "from": question.source.ref,
        "to": {"name": target.label, "address": str(target.address), "port": target.port, "meaning": target.what},
        "protocol": target.protocol,
        "outcomes": [_outcome(question, choice, reply) for choice in choices],
        "outcomes_not_shown": others,
    }


def _outcome(question: Question, choice: Choice, reply: bool) -> dict[str, Any]:
    run = choice.run
    endpoint = choice.endpoint
    document: dict[str, Any] = {
        "probability": choice.probability,
        "endpoint": {"address": str(ip_address(endpoint[0])), "port": endpoint[1]} if endpoint else None,
        "probe": run.probe.hex(),
        "walk": _walk(run.forward, run),
        "notes": notes(question, run),
    }
    if reply:
        document["reply"] = _walk(run.back, run) if run.back else None
    return document


def _walk(walk: Walk, run: Run) -> dict[str, Any]:
    verdict = walk.verdict
    return {
        "packet": walk.packet,
        "hops": [
            {"namespace": _name(run.topology, hop.namespace), "steps": [_step(step, run.topology) for step in hop.steps]}
            for hop in walk.hops
        ],
        "verdict": verdict.result,
        "at": _name(run.topology, verdict.namespace),
        "reason": verdict.reason,
        "sentence": verdict.sentence,
        "details": details(walk, run.topology),
        "origin": _origin(verdict.origin),
    }


def _name(topology: Topology, namespace: int) -> str:
    return topology.namespace_name(namespace) if namespace >= 0 else ""


def _step(step: Step, topology: Topology) -> dict[str, Any]:
    return {
        "time": step.time,
        "device": topology.short_device_name(step.device) if step.device >= 0 else "",
        "stage": step.stage,
        "what": step.what,
        "text": step.text,
        "origin": _origin(step.origin),
        "changes": [change._asdict() for change in step.changes],
        "data": step.data.hex(),
    }


def _origin(origin: Origin | None) -> dict[str, Any] | None:
    return {"file": origin.file, "line": origin.line, "what": origin.what} if origin else None
