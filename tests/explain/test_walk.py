"""Where a probe goes, and what its walk says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.capture.dissect import summary
from dataplane.control.topology import Topology
from dataplane.explain.reasons import details, notes, reason, verdict_line
from dataplane.explain.walk import DELIVERED, DROPPED, LEFT, Walk
from dataplane.k8s.objects import Manifests

from .conftest import Trace, ask


def path(walk: Walk, names: dict[int, str]) -> list[str]:
    return [names[hop.namespace] for hop in walk.hops]


def names_of(topology: Topology) -> dict[int, str]:
    return {namespace: machine.ref for namespace, machine in topology.machines.items()}


def test_a_pod_on_another_node_is_reached_hop_by_hop(any_data_path: Manifests, trace: Trace) -> None:
    (choice,) = trace(any_data_path, "pod/p15", "pod/p210", port="8080")
    walk = choice.run.forward
    assert path(walk, names_of(choice.run.topology)) == ["pod/default/p15", "node/node1", "node/node2", "pod/default/p210"]
    assert walk.verdict.result == DELIVERED


@pytest.mark.parametrize("proto", ["tcp", "udp", "icmp", "sctp"])
def test_the_answer_comes_all_the_way_back(any_data_path: Manifests, trace: Trace, proto: str) -> None:
    (choice,) = trace(any_data_path, "pod/p15", "pod/p210", proto=proto)
    assert choice.run.back is not None
    assert verdict_line(choice.run.back, choice.run.topology) == "DELIVERED to pod/default/p15"


def test_every_router_takes_one_from_the_ttl_and_says_so(any_data_path: Manifests, trace: Trace) -> None:
    (choice,) = trace(any_data_path, "pod/p15", "pod/p210", proto="udp")
    changes = [change for step in choice.run.forward.steps for change in step.changes if change.field == "ttl"]
    assert [(change.before, change.after) for change in changes] == [("64", "63"), ("63", "62")]


def test_steps_stand_in_the_order_they_happened(vxlan: Manifests, trace: Trace) -> None:
    """A packet comes in, is routed, and then leaves: on each node the frame in is first and the frame out last."""
    (choice,) = trace(vxlan, "pod/p15", "pod/p210", proto="udp")
    for hop in choice.run.forward.hops[1:-1]:
        assert hop.steps[0].stage == "in"
        assert hop.steps[-1].stage == "out"
        stages = [step.stage for step in hop.steps]
        assert stages.index("in") < stages.index("route") < stages.index("neighbour") < len(stages) - 1


def test_a_tunnel_shows_the_headers_it_puts_on_and_takes_off(vxlan: Manifests, trace: Trace) -> None:
    (choice,) = trace(vxlan, "pod/p15", "pod/p210", proto="udp")
    steps = {step.what: step for step in choice.run.forward.steps if step.what in ("encap", "decap")}
    assert [change.layer for change in steps["encap"].changes if not change.before] == ["IPv4", "UDP", "VXLAN"]
    assert "VXLAN" in [change.layer for change in steps["decap"].changes if not change.after]
    assert steps["encap"].changes[0].after == "source 192.168.1.100, destination 192.168.1.101"


def test_each_decision_names_the_line_it_comes_from(vxlan: Manifests, trace: Trace) -> None:
    choice = trace(vxlan, "pod/p15", "service/remote1")[0]
    origins = {step.what: step.origin for step in choice.run.forward.steps if step.origin}
    assert origins["encap"].what == "Node node2"
    dnat = next(step for step in choice.run.forward.steps if step.rule and step.rule.target == "DNAT")
    assert dnat.origin is not None
    assert dnat.origin.what == "EndpointSlice default/remote1-1"
    lines = Path(dnat.origin.file).read_text(encoding="utf-8").splitlines()
    assert lines[dnat.origin.line - 1].strip() == "apiVersion: discovery.k8s.io/v1"


def test_a_service_address_is_rewritten_there_and_back(any_data_path: Manifests, trace: Trace) -> None:
    (choice,) = trace(any_data_path, "pod/p15", "service/remote1")
    assert choice.run.back is not None
    assert summary(choice.run.forward.steps[-1].data).startswith("10.244.1.5:40000 > 10.244.2.10:8080 ")
    assert summary(choice.run.back.steps[-1].data).startswith("10.96.0.12:80 > 10.244.1.5:40000 ")


def test_a_hairpin_is_called_one(vxlan: Manifests, trace: Trace) -> None:
    (choice,) = trace(vxlan, "pod/p15", "service/hair")
    assert choice.run.forward.verdict.result == DELIVERED
    assert notes(ask(vxlan, "pod/p15", "service/hair"), choice.run)[0].startswith("hairpin: the service chose pod/default/p15 itself")


def test_the_way_out_of_the_cluster_is_no_drop(vxlan: Manifests, trace: Trace) -> None:
    (choice,) = trace(vxlan, "pod/p15", "8.8.8.8")
    assert choice.run.forward.verdict.result == LEFT


# ---- drops


def dropped(trace: Trace, manifests: Manifests, source: str, to: str, **how: str | int) -> tuple[str, str, str, str]:
    """Drop reason, where, the one line, what answered."""
    (choice,) = trace(manifests, source, to, **how)
    walk, back = choice.run.forward, choice.run.back
    assert walk.verdict.result == DROPPED
    said = " / ".join([reason(walk), *details(walk, choice.run.topology)])
    first = back.steps[0] if back else None
    answer = summary(first.data, ethertype=first.ethertype) if first else ""
    return walk.verdict.reason, names_of(choice.run.topology)[walk.verdict.namespace], said, answer


def test_a_service_without_endpoints_rejects(any_data_path: Manifests, trace: Trace) -> None:
    name, where, said, answer = dropped(trace, any_data_path, "pod/p15", "service/empty")
    assert (name, where) == ("rules/rejected", "node/node1")
    assert "default/empty:http has no endpoints" in said
    assert "(Service default/empty)" in said
    assert "ICMP port unreachable" in answer


def test_external_policy_local_drops_where_no_endpoint_is(any_data_path: Manifests, trace: Trace) -> None:
    """etplocal's only endpoint is on node1: node2 must not forward from outside, and tells nobody."""
    name, where, said, answer = dropped(trace, any_data_path, "host/cl", "192.168.1.101:30083")
    assert (name, where, answer) == ("rules/denied", "node/node2", "")
    assert "no local endpoints" in said
    assert "(Service default/etplocal)" in said


def test_a_ttl_of_one_ends_at_the_first_router(any_data_path: Manifests, trace: Trace) -> None:
    name, where, _, answer = dropped(trace, any_data_path, "pod/p15", "pod/p210", ttl=1)
    assert (name, where) == ("forward/ttl_expired", "node/node1")
    assert "ICMP time exceeded" in answer


def test_a_packet_over_the_tunnels_mtu_is_refused_with_the_mtu(vxlan: Manifests, trace: Trace) -> None:
    """1500 bytes of underlay less 50 of VXLAN are 1450; the pod's own device has them too."""
    question = ask(vxlan, "pod/p15", "pod/p210", proto="udp", size=1451)
    (choice,) = trace(vxlan, "pod/p15", "pod/p210", proto="udp", size=1451)
    assert choice.run.forward.verdict.reason == "output/too_big"
    assert any("the next hop's MTU is 1450" in note for note in notes(question, choice.run))
    (fits,) = trace(vxlan, "pod/p15", "pod/p210", proto="udp", size=1450)
    assert fits.run.forward.verdict.result == DELIVERED


def test_an_address_that_nobody_has_stays_unresolved(any_data_path: Manifests, trace: Trace) -> None:
    name, where, said, answer = dropped(trace, any_data_path, "pod/p15", "192.168.1.77")
    assert (name, where) == ("neighbour/unresolved", "node/node1")
    assert "192.168.1.77 is not known" in said
    assert "ICMP host unreachable" in answer


def test_without_a_default_route_there_is_no_route(small: Manifests, trace: Trace) -> None:
    name, where, said, answer = dropped(trace, small, "pod/client", "203.0.113.9")
    assert (name, where) == ("route/no_route", "node/n1")
    assert "203.0.113.9: no route" in said
    assert "network unreachable" in answer or "net unreachable" in answer


def test_a_port_that_the_pod_does_not_declare_is_reset(small: Manifests, trace: Trace) -> None:
    name, where, said, answer = dropped(trace, small, "pod/client", "pod/web", port="81")
    assert (name, where) == ("local/tcp_no_socket", "pod/default/web")
    assert "declares 8080/TCP" in said
    assert "TCP RST" in answer


def test_a_declared_port_goes_without_saying_and_by_name(small: Manifests, trace: Trace) -> None:
    for how in ({}, {"port": "http"}):
        (choice,) = trace(small, "pod/client", "pod/web", **how)
        assert choice.run.forward.verdict.result == DELIVERED
        assert summary(choice.run.forward.steps[-1].data).split()[2].endswith(":8080")


def test_a_neighbour_is_asked_for_once_and_then_known(small: Manifests, trace: Trace) -> None:
    (choice,) = trace(small, "pod/client", "pod/web")
    texts = [step.text for step in choice.run.forward.steps if step.stage == "neighbour"]
    assert [("not known" in text, " is at " in text) for text in texts[:2]] == [(True, False), (False, True)]
