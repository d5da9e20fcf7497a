"""Resolved flows between two or three namespaces of a fake core, without a cluster."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address
from typing import Any

from dataplane.k8s.objects import Origin
from dataplane.traffic.drive import run_flows
from dataplane.traffic.model import Flow, Reference
from dataplane.traffic.resolve import Listener, ResolvedFlow
from dataplane.traffic.summary import FlowSummary
from traffic.fake_core import SECOND, FakeCore

CLIENT, SERVER, OTHER = 1, 2, 3
ADDRESSES = {CLIENT: ["10.0.0.1", "fd00::1"], SERVER: ["10.0.0.2", "fd00::2"], OTHER: ["10.0.0.3", "fd00::3"]}
SERVER_OF = {4: "10.0.0.2", 6: "fd00::2"}


def flow(kind: str, to: str, port: int = 80, *, number: int = 0, listeners: tuple[int, ...] = (SERVER,), **fields: Any) -> ResolvedFlow:
    """From CLIENT to an address; ``listeners`` are the namespaces where somebody answers on the port."""
    values: dict[str, Any] = {
        "name": f"flow{number}", "kind": kind, "source": Reference("pod", "default/client"), "target": ip_address(to), "family": None,
        "port": port, "source_port": None, "count": 1, "rate": Fraction(10), "arrival": "constant", "start_ns": 0, "request_bytes": 100,
        "response_bytes": 1000, "timeout_ns": SECOND, "listen": True, "origin": Origin("test.yaml", 1, "flow"),
    }  # fmt: skip
    answering = tuple(Listener(namespace, port) for namespace in listeners) if kind != "ping" else ()
    return ResolvedFlow(number, Flow(**values | fields), CLIENT, ip_address(to).packed, port if kind != "ping" else 0, answering)


def run(core: FakeCore, *flows: ResolvedFlow, seed: int = 1, until: int | None = None) -> list[FlowSummary]:
    return run_flows(core, flows, seed, until=until)


def run_one(core: FakeCore, one: ResolvedFlow) -> FlowSummary:
    return run(core, one)[0]


def accounts_for_all(summary: FlowSummary) -> bool:
    return summary.attempts == summary.completed + summary.refused + summary.timed_out + summary.failed
