"""The given cases of kube-proxy's iptables mode: flows through the pure-Python twin, and what needs no packet."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from control.proxy_world import TwinNode
from dataplane._core import Outcome
from dataplane.control.proxy import nftables
from dataplane.testing.kinds.kubeproxy import flow_tables, judge, run


def load(cases: Path, *kinds: str) -> list[tuple[Path, dict[str, Any]]]:
    found = [(path, json.loads(path.read_text())) for path in sorted((cases / "kubeproxy").glob("*.json"))]
    return [(path, case) for path, case in found if case["kind"] in kinds]


def twin_of(case: dict[str, Any]) -> TwinNode:
    local = [ip_address(text) for text in case["node"]["localIPs"]]
    cidr = case["node"]["localDetector"].get("cidr")
    return TwinNode(flow_tables(case), local, [cidr] if cidr else [])


def test_the_twin_decides_every_given_flow_as_kube_proxy_does(cases: Path) -> None:
    given = [(path, case) for path, case in load(cases, "flow") if case["mode"] == "iptables"]
    assert given
    failures = [
        f"{path.name}: {flow['name']}: {failure}"
        for path, case in given
        for flow in case["flows"]
        for failure in judge(flow["expect"], twin_of(case).outcomes(flow["src"], flow["dst"], flow["dport"], flow["proto"]))
    ]
    assert failures == []


def test_the_core_decides_every_given_flow_as_kube_proxy_does(cases: Path) -> None:
    given = [(path, case) for path, case in load(cases, "flow") if case["mode"] == "iptables" and case["node"]["ipFamily"] == "IPv4"]
    assert given
    assert [f"{path.name}: {failure}" for path, case in given for failure in run(case, path)] == []


def test_given_endpoint_selections_names_and_probabilities_hold(cases: Path) -> None:
    given = load(cases, "categorize", "identifier_table", "probability_table")
    assert given
    assert {path.name: run(case, path) for path, case in given if run(case, path)} == {}


ENDPOINT = {"endpoint": "10.0.0.1:80", "ready": True, "local": True, "serving": True, "terminating": False, "zones": None}
POLICY = {"internalTrafficPolicyLocal": False, "externalTrafficPolicyLocal": False, "nodePort": 0}


@pytest.mark.parametrize(
    ("expect", "complaint"),
    [
        ({"cluster": ["10.0.0.1:80"], "local": None, "all": ["10.0.0.1:80"], "only_remote": False}, None),
        ({"cluster": ["10.0.0.2:80"], "local": None, "all": ["10.0.0.1:80"], "only_remote": False}, "cluster: expected [10.0.0.2:80]"),
        ({"cluster": ["10.0.0.1:80"], "local": [], "all": ["10.0.0.1:80"], "only_remote": False}, "local: expected [], got not used"),
        ({"cluster": ["10.0.0.1:80"], "local": None, "all": [], "only_remote": False}, "all: expected []"),
        ({"cluster": ["10.0.0.1:80"], "local": None, "all": ["10.0.0.1:80"], "only_remote": True}, "only_remote: expected True"),
    ],
)
def test_a_wrong_endpoint_selection_is_a_failure_that_says_what_differs(expect: dict[str, Any], complaint: str | None) -> None:
    case = {"kind": "categorize", "node": {"labels": {}}, "service": POLICY, "endpoints": [ENDPOINT], "expect": expect}
    failures = run(case, Path("case.json"))
    assert len(failures) == (complaint is not None)
    assert all(complaint and failure.startswith(complaint) for failure in failures)


def outcome(probability: float = 1.0, verdict: str = "ACCEPT", port: int = 0, mark: int = 0, origins: tuple[int, ...] = ()) -> Outcome:
    return Outcome(probability, verdict, (ip_address("10.0.0.1").packed, port) if port else None, mark, origins)


ONE_END = {"verdict": "DNAT", "endpoints": ["10.0.0.1:80"], "masq": False}


@pytest.mark.parametrize(
    ("expect", "outcomes", "complaint"),
    [
        (ONE_END, [outcome(port=80)], ""),
        (ONE_END, [], "expected DNAT, got no outcome"),
        (ONE_END, [outcome()], "expected DNAT, got NONE"),
        (ONE_END, [outcome(port=80, verdict="DROP")], "expected DNAT, got DROP"),
        (ONE_END, [outcome(0.5, port=80), outcome(0.5, verdict="REJECT")], "expected DNAT, got DNAT, REJECT"),
        (ONE_END, [outcome(0.5, port=80), outcome(0.5, port=81)], "expected endpoints 10.0.0.1:80, got 10.0.0.1:80, 10.0.0.1:81"),
        (ONE_END, [outcome(port=80, mark=0x4000)], "expected masquerade False, got True"),
        (ONE_END, [outcome(0.5, port=80)], "the probabilities of all outcomes sum up to 0.5"),
        ({"verdict": "NONE"}, [outcome(origins=(0,))], ""),
        ({"verdict": "NONE"}, [outcome(origins=(0, 1))], "expected NONE, got ACCEPT"),
        ({"verdict": "REJECT"}, [outcome(verdict="DROP")], "expected REJECT, got DROP"),
    ],
)
def test_flows_are_judged_by_all_their_outcomes(expect: dict[str, Any], outcomes: list[Outcome], complaint: str) -> None:
    assert judge(expect, outcomes) == ([complaint] if complaint else [])


@pytest.mark.parametrize(("kind", "mode"), [("flow", "nftables"), ("flow", "ipvs"), ("ipvs_table", "ipvs")])
def test_modes_that_are_not_emulated_are_failures_that_say_so(kind: str, mode: str) -> None:
    assert run({"kind": kind, "mode": mode}, Path("case.json")) == [f"mode {mode} of kube-proxy is not supported yet"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"kind": "service", "service": "ns1/svc1:p80", "protocol": "tcp", "name": "KUBE-SVC-XPGD46QRK7WJZT7O"}, ""),
        ({"kind": "nft-service", "service": "ns1/svc1:p80", "protocol": "tcp", "name": "service-ULMVA6XW-ns1/svc1/tcp/p80"}, ""),
        ({"kind": "unheard-of", "service": "ns1/svc1:p80", "protocol": "tcp", "name": "KUBE-SVC-XPGD46QRK7WJZT7O"}, "unheard-of ns1/svc1"),
        (
            {"kind": "service", "service": "ns1/svc1:p80", "protocol": "udp", "name": "KUBE-SVC-XPGD46QRK7WJZT7O"},
            "service ns1/svc1:p80 udp: exp",
        ),
    ],
)
def test_a_wrong_chain_name_is_a_failure(row: dict[str, Any], complaint: str) -> None:
    failures = run({"kind": "identifier_table", "rows": [row]}, Path("case.json"))
    assert [failure[: len(complaint)] for failure in failures] == ([complaint] if complaint else [])


def test_nftables_names_are_cut_to_what_nftables_takes() -> None:
    name = nftables.chain_name("endpoint", f"{'n' * 63}/{'s' * 63}:{'p' * 63}", "tcp", f"[{':'.join(['fd00'] * 8)}]:65535")
    assert len(name.removeprefix("endpoint-")) == 240
    assert name.endswith("...") and ":" not in name
