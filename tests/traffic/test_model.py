"""Documents of ``kind: Traffic``: what they may say, and what a user is told where they are wrong."""

from __future__ import annotations

import json
from fractions import Fraction
from importlib.resources import files
from ipaddress import ip_address
from typing import Any

import jsonschema
import pytest

from dataplane.errors import InputError
from dataplane.k8s import load_text
from dataplane.k8s.yaml_source import parse_text
from dataplane.traffic.model import FLOW_FIELDS, Flow, Reference, Traffic, parse_traffic, traffic_of

SCHEMA: dict[str, Any] = json.loads(files("dataplane.traffic").joinpath("traffic.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
HEAD = "apiVersion: dataplane/v1alpha1\nkind: Traffic\nmetadata: {name: t}\nspec:\n  flows:\n"


def document(*flows: str) -> Any:
    text = HEAD + "".join(f"  - {{{flow}}}\n" for flow in flows)
    return parse_text(text, "t.yaml")[0].data


def parse(*flows: str) -> Traffic:
    warnings: list[str] = []
    traffic = parse_traffic(document(*flows), "t.yaml", warnings)
    assert warnings == []
    return traffic


def one(flow: str) -> Flow:
    return parse(flow).flows[0]


def test_defaults() -> None:
    ping = one("from: pod/default/a, to: node/n1, kind: ping")
    assert (ping.name, ping.count, ping.rate, ping.arrival, ping.start_ns) == ("flow1", 1, Fraction(1), "constant", 0)
    assert (ping.request_bytes, ping.timeout_ns, ping.port, ping.source_port, ping.listen) == (56, 5 * 10**9, None, None, True)
    assert (ping.source, ping.target) == (Reference("pod", "default/a"), Reference("node", "n1"))
    assert ping.origin.line == 6


def test_everything_written_is_taken_over() -> None:
    flow = one(
        "name: web, from: host/cl, to: service/shop/web, kind: tcp, ipFamily: IPv6, port: http, sourcePort: 4000, count: 1, rate: 0.1,"
        " arrival: poisson, start: 1500, requestBytes: 16, responseBytes: 0, listen: false"
    )
    assert (flow.name, flow.port, flow.source_port, flow.family) == ("web", "http", 4000, "IPv6")
    assert flow.rate == Fraction(1, 10), "0.1 is a tenth, not the binary fraction next to it"
    assert (flow.start_ns, flow.request_bytes, flow.response_bytes, flow.listen) == (1_500_000_000, 16, 0, False)


@pytest.mark.parametrize(
    ("to", "target", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("'[fd00::1]:80'", "fd00::1", 80),
        ("'fd00::1', port: 80", "fd00::1", 80),
        ("'[fd00::1]', port: 80", "fd00::1", 80),
        ("10.0.0.1, port: '80'", "10.0.0.1", 80),
        ("10.0.0.1:80, port: 80", "10.0.0.1", 80),
        ("service/a/b:http", Reference("service", "a/b"), "http"),
        ("service/a/b:8080", Reference("service", "a/b"), 8080),
        ("pod/a/b, port: http", Reference("pod", "a/b"), "http"),
        ("pod/a/b", Reference("pod", "a/b"), None),
        ("node/n1:30080", Reference("node", "n1"), 30080),
    ],
)
def test_targets(to: str, target: Any, port: Any) -> None:
    flow = one(f"from: pod/default/a, kind: tcp, to: {to}")
    assert (flow.target, flow.port) == (ip_address(target) if isinstance(target, str) else target, port)


WRONG = {
    "kind: ping, to: node/n1": "from is missing",
    "from: pod/a, kind: ping, to: node/n1": "from is 'pod/a'; write pod/NAMESPACE/NAME",
    "from: service/a/b, kind: ping, to: node/n1": "from is 'service/a/b'",
    "from: node/n1, kind: ping": "to is missing",
    "from: node/n1, to: node/n2": "kind is missing",
    "from: node/n1, to: node/n2, kind: sctp": "kind is 'sctp'; write one of ping, udp, tcp",
    "from: node/n1, to: 10.0.0.300, kind: ping": "to is '10.0.0.300'",
    "from: node/n1, to: 'fd00::1:http', kind: tcp": "to is 'fd00::1:http'",
    "from: node/n1, to: 'fe80::1%eth0', kind: ping": "to is 'fe80::1%eth0'",
    "from: node/n1, to: '[::ffff:10.0.0.1]:80', kind: tcp": "to is '[::ffff:10.0.0.1]:80'",
    "from: node/n1, to: '[fd00::1]:0', kind: tcp": "has port 0; write a number from 1 to 65535",
    "from: node/n1, to: '[10.0.0.1:80', kind: tcp": "to is '[10.0.0.1:80'",
    "from: node/n1, to: pods/a/b, kind: ping": "to is 'pods/a/b'",
    "from: node/n1, to: '10.0.0.1:http', kind: tcp": "only services and pods have port names",
    "from: node/n1, to: '10.0.0.1:0', kind: tcp": "has port 0; write a number from 1 to 65535",
    "from: node/n1, to: '10.0.0.1:80', kind: ping": "names a port, which an echo request has not",
    "from: node/n1, to: '10.0.0.1:80', port: 81, kind: tcp": "port is 81, but `to` ends in :80",
    "from: node/n1, to: 10.0.0.1, port: 70000, kind: tcp": "port is 70000",
    "from: node/n1, to: 10.0.0.1, kind: ping, ipFamily: IPv6": "ipFamily is IPv6, but `to` is 10.0.0.1",
    "from: node/n1, to: node/n2, kind: ping, count: 0": "count is 0",
    "from: node/n1, to: node/n2, kind: ping, count: many": "count must be a whole number, not a string",
    "from: node/n1, to: node/n2, kind: ping, rate: 0": "rate is 0",
    "from: node/n1, to: node/n2, kind: ping, rate: fast": "rate must be a number",
    "from: node/n1, to: node/n2, kind: ping, size: 65508": "size is 65508",
    "from: node/n1, to: node/n2, kind: ping, requestBytes: 64": "requestBytes has no meaning for kind ping; remove it",
    "from: node/n1, to: node/n2, kind: tcp, timeout: 64": "timeout has no meaning for kind tcp",
    "from: node/n1, to: node/n2, kind: tcp, requestBytes: 15": "requestBytes is 15; write a number from 16",
    "from: node/n1, to: node/n2, kind: udp, responseBytes: 15": "responseBytes is 15; write 0 (no answer) or at least 16",
    "from: node/n1, to: node/n2, kind: tcp, sourcePort: 80, count: 2": "sourcePort is one for 2 connections",
    "from: node/n1, to: node/n2, kind: ping, start: -1": "start is -1",
    "from: node/n1, to: node/n2, kind: ping, arrival: bursts": "arrival is 'bursts'",
    "from: node/n1, to: node/n2, kind: tcp, listen: 'no'": "listen must be true or false, not a string",
}


@pytest.mark.parametrize(("flow", "told"), WRONG.items())
def test_wrong_flows_are_one_line_with_place_and_remedy(flow: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(flow)
    text = str(caught.value)
    assert text.startswith("t.yaml:6: Traffic t: spec.flows[0].")
    assert told in text
    assert "\n" not in text


def test_rates_that_are_no_finite_numbers_are_refused() -> None:
    for rate in (float("nan"), float("inf"), 1e-9, 1e12):
        data = document("from: node/n1, to: node/n2, kind: ping")
        data["spec"]["flows"][0]["rate"] = rate
        with pytest.raises(InputError, match="rate is"):
            parse_traffic(data, "t.yaml", [])


def test_no_flows_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="flows is missing or empty"):
        parse_traffic({"metadata": {"name": "t"}, "spec": {}}, "t.yaml", [])
    with pytest.raises(InputError, match=r"t\.yaml:7: flow x: another flow of this document has the same name"):
        parse("name: x, from: node/n1, to: node/n2, kind: ping", "name: x, from: node/n1, to: node/n2, kind: ping")


def test_unknown_fields_are_warnings() -> None:
    warnings: list[str] = []
    parse_traffic(document("from: node/n1, to: node/n2, kind: ping, colour: red"), "t.yaml", warnings)
    assert warnings == ["t.yaml:6: Traffic t: spec.flows[0].colour is no known field and is ignored; correct its name or remove it"]


def test_documents_beside_a_cluster_are_found() -> None:
    node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.168.1.1}]}\n"
    manifests = load_text(HEAD + "  - {from: node/n1, to: 10.0.0.1, kind: ping}\n" + node, "all.yaml")
    found = traffic_of(manifests, [])
    assert [(traffic.name, traffic.flows[0].origin.file, traffic.flows[0].origin.line) for traffic in found] == [("t", "all.yaml", 6)]


def test_the_schema_knows_the_fields_that_are_read() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["$defs"]["flow"]["properties"]) == set(FLOW_FIELDS)


def test_the_schema_accepts_what_is_accepted() -> None:
    VALIDATOR.validate(document("from: pod/default/a, to: 10.0.0.1, kind: tcp, port: 80, rate: 0.5, arrival: poisson, sourcePort: 1"))


@pytest.mark.parametrize(
    "flow", [flow for flow in WRONG if any(word in flow for word in ("count: ", "rate: ", "size: ", "pod/a,", "bursts", "sctp", "-1"))]
)
def test_the_schema_refuses_wrong_values(flow: str) -> None:
    if "sourcePort" not in flow:  # how fields go together is the reader's to say
        assert not VALIDATOR.is_valid(document(flow))
