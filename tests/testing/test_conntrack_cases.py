"""Kinds of connection tracking: the given cases pass, and a case that expects something else does not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import InputError
from dataplane.testing.kinds.conntrack import run

NOWHERE = Path("case.json")
KINDS = ("packet_sequence", "state_walk", "state_table", "timeout_table")

WALK = {
    "kind": "state_walk",
    "steps": [
        {"dir": "original", "flags": "syn", "t": 0, "result": "ACCEPT", "state": "SYN_SENT"},
        {"dir": "original", "flags": "synack", "t": 0.1, "result": "INVALID", "state": "SYN_SENT"},
    ],
}


def packet(time: float, flags: str, ctstate: str, *, ack: int = 0, **expect: str) -> dict[str, Any]:
    """From the remote end, which opens."""
    fixed = {"from": "remote", "dir": "original", "seq": 5, "len": 0, "win": 100}
    return {**fixed, "t": time, "flags": flags, "ack": ack, "expect": {"ctstate": ctstate, **expect}}


SEQUENCE: dict[str, Any] = {
    "kind": "packet_sequence",
    "settings": {"tcp_loose": 0},
    "endpoints": {"local": "192.0.2.1", "remote": "192.0.2.2", "local_port": 1, "remote_port": 2, "originator": "remote"},
    "invalid_counts": {"from_local": 0, "from_remote": 1},
    "packets": [packet(0, "A", "INVALID", ack=9), packet(1, "S", "NEW", state="SYN_SENT")],
}
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "default"},
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "externalIPs": ["192.0.2.53"],
             "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]},
}  # fmt: skip
SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
    "metadata": {"name": "dns-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "dns"}},
    "endpoints": [{"addresses": ["10.1.0.5"], "conditions": {"ready": False, "serving": True, "terminating": True}},
                  {"addresses": ["10.1.0.6"], "conditions": {"ready": False, "serving": False, "terminating": True}}],
    "ports": [{"port": 5353, "protocol": "UDP"}],
}  # fmt: skip


def entry(original: str, end: str, *, deleted: bool, proto: str = "udp") -> dict[str, Any]:
    return {"proto": proto, "original": f"10.1.1.1:999>{original}", "reply": f"{end}:5353>10.1.1.1:999", "deleted": deleted}


CLEANUP = {
    "kind": "cleanup",
    "name": "cleanup",
    "objects": [SERVICE, SLICE],
    "entries": [
        entry("10.96.0.10:53", "10.1.0.5", deleted=False),  # still serving, though on its way out
        entry("10.96.0.10:53", "10.1.0.6", deleted=True),
        entry("192.0.2.53:53", "10.1.0.6", deleted=True),
        entry("198.51.100.1:30053", "10.1.0.6", deleted=True),
        entry("10.96.0.10:54", "10.1.0.6", deleted=False),
        entry("10.96.0.10:53", "10.1.0.6", deleted=False, proto="tcp"),
    ],
}


def test_the_given_cases_pass(cases: Path) -> None:
    given = [(path, json.loads(path.read_text())) for path in sorted((cases / "conntrack").glob("*.json"))]
    assert {case["kind"] for _, case in given} >= set(KINDS)
    assert [f"{path.name}: {line}" for path, case in given for line in run(case, path)] == []


@pytest.mark.parametrize("case", [WALK, SEQUENCE, CLEANUP])
def test_what_happens_is_what_is_expected(case: dict[str, Any]) -> None:
    assert run(case, NOWHERE) == []


@pytest.mark.parametrize(
    ("case", "place", "value", "line"),
    [
        (WALK, ("steps", 1, "result"), "ACCEPT", "step 2 (original synack): expected ACCEPT, got INVALID"),
        (WALK, ("steps", 0, "state"), "ESTABLISHED", "step 1 (original syn): expected state ESTABLISHED, got SYN_SENT"),
        (SEQUENCE, ("packets", 0, "expect", "ctstate"), "NEW", "packet 1: expected ctstate NEW, got INVALID"),
        (SEQUENCE, ("packets", 1, "expect", "state"), "CLOSE", "packet 2: expected state CLOSE, got SYN_SENT"),
        (SEQUENCE, ("invalid_counts", "from_remote"), 0, "invalid packets from_remote: expected 0, got 1"),
        (CLEANUP, ("entries", 1, "deleted"), False, "entry 10.1.1.1:999>10.96.0.10:53: expected kept, got deleted"),
    ],
)
def test_anything_else_is_a_failure(case: dict[str, Any], place: tuple[Any, ...], value: Any, line: str) -> None:
    changed = copy.deepcopy(case)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert run(changed, NOWHERE) == [line]


@pytest.mark.parametrize("seconds", [{"tcp": {"ESTABLISHED": 1}}, {"tcp": {"max_retrans": 1}}, {"udp": {"replied": 1}}, {"icmp": 1}])
def test_another_timeout_is_a_failure(seconds: dict[str, Any]) -> None:
    assert len(run({"kind": "timeout_table", "seconds": seconds}, NOWHERE)) == 1


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(InputError, match="tcp_nonsense"):
        run({**SEQUENCE, "settings": {"tcp_nonsense": 1}}, NOWHERE)


def test_a_service_without_a_serving_end_loses_no_entry() -> None:
    alone = {**CLEANUP, "objects": [SERVICE], "entries": [entry("10.96.0.10:53", "10.1.0.6", deleted=False)]}
    assert run(alone, NOWHERE) == []
