"""What kube-proxy's rules do to packets, on a node asked through the pure-Python twin."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from control.proxy_world import (
    CLIENT,
    NODES,
    OUTSIDE,
    POD,
    POD_NETWORKS,
    TwinNode,
    balancers,
    cluster,
    everything,
    node,
    on,
    origin,
    service,
    slices,
)
from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.iptables import MASQUERADE_MARK, chain_name, node_rules, probability
from dataplane.errors import InputError
from dataplane.k8s.objects import Endpoint, EndpointPort, EndpointSlice, InterfaceHint, Manifests, Node, Proxy, Service, ServicePort

BOTH = [*on("node1", "6"), *on("node2", "10")]
LOCAL6, REMOTE10 = "10.244.1.6:8080", "10.244.2.10:8080"
NODE1, NODE2 = NODES["node1"][0], NODES["node2"][0]


def asked(manifests: Manifests, name: str = "node1", family: int = 4, on_node: Node | None = None, **twin: Any) -> TwinNode:
    described = on_node or next(one for one in manifests.nodes if one.name == name)
    hinted = [ip_address(text.split("/")[0]) for hint in described.interfaces.values() for text in hint.addresses]
    tables = node_rules(manifests, described, family, origins=lambda origin: origin.line)
    return TwinNode(tables, [*described.addresses, *hinted], **twin)


def web(*endpoints: Endpoint, proxy: Proxy | None = None, **fields: Any) -> Manifests:
    """A cluster of one service, default/web at 10.96.0.1."""
    ends: list[EndpointSlice] = slices("web", *endpoints)
    one: Service = service("web", 1, **fields)
    return cluster([one], ends, proxy)


def result(world: TwinNode, src: str, dst: str, port: int = 80) -> tuple[str, list[str], bool | None]:
    """(verdict, endpoints chosen from, masqueraded): of all outcomes."""
    found = world.outcomes(src, dst, port)
    verdicts = {outcome.verdict for outcome in found}
    assert len(verdicts) == 1, found
    marks = {bool(outcome.mark & MASQUERADE_MARK) for outcome in found}
    ends = sorted(f"{ip_address(outcome.dnat[0])}:{outcome.dnat[1]}" for outcome in found if outcome.dnat)
    return verdicts.pop(), ends, marks.pop() if len(marks) == 1 else None


# Facts of kube-proxy's TestOverallIPTablesRules (pkg/proxy/iptables/proxier_test.go): one service, as it is loaded.
SVC4 = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-EXT-4SW47YFZTEDKD3PK - [0:0]
:KUBE-SVC-4SW47YFZTEDKD3PK - [0:0]
:KUBE-SEP-UKSFD7AGPMPPLUHC - [0:0]
:KUBE-SEP-C6EBXVWJJZMIWKLZ - [0:0]
-A KUBE-SERVICES -m comment --comment "ns4/svc4:p80 cluster IP" -m tcp -p tcp -d 172.30.0.44 --dport 80 -j KUBE-SVC-4SW47YFZTEDKD3PK
-A KUBE-SERVICES -m comment --comment "ns4/svc4:p80 external IP" -m tcp -p tcp -d 192.168.99.33 --dport 80 -j KUBE-EXT-4SW47YFZTEDKD3PK
-A KUBE-EXT-4SW47YFZTEDKD3PK -m comment --comment "masquerade traffic for ns4/svc4:p80 external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-4SW47YFZTEDKD3PK -j KUBE-SVC-4SW47YFZTEDKD3PK
-A KUBE-SVC-4SW47YFZTEDKD3PK -m comment --comment "ns4/svc4:p80 cluster IP" -m tcp -p tcp -d 172.30.0.44 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-4SW47YFZTEDKD3PK -m comment --comment "ns4/svc4:p80 -> 10.180.0.4:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-UKSFD7AGPMPPLUHC
-A KUBE-SVC-4SW47YFZTEDKD3PK -m comment --comment "ns4/svc4:p80 -> 10.180.0.5:80" -j KUBE-SEP-C6EBXVWJJZMIWKLZ
-A KUBE-SEP-UKSFD7AGPMPPLUHC -m comment --comment ns4/svc4:p80 -s 10.180.0.4 -j KUBE-MARK-MASQ
-A KUBE-SEP-UKSFD7AGPMPPLUHC -m comment --comment ns4/svc4:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.4:80
-A KUBE-SEP-C6EBXVWJJZMIWKLZ -m comment --comment ns4/svc4:p80 -s 10.180.0.5 -j KUBE-MARK-MASQ
-A KUBE-SEP-C6EBXVWJJZMIWKLZ -m comment --comment ns4/svc4:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.5:80
COMMIT
"""  # noqa: E501


def test_a_services_rules_have_kube_proxys_names_texts_and_order() -> None:
    ends = tuple(Endpoint((ip_address(text),)) for text in ("10.180.0.5", "10.180.0.4"))
    what = origin("svc4", 4)
    svc4 = Service(
        "ns4",
        "svc4",
        "NodePort",
        (ip_address("172.30.0.44"),),
        (ServicePort("p80", "TCP", 80, 80),),
        what,
        external_ips=(ip_address("192.168.99.33"),),
    )
    found = EndpointSlice("ns4", "svc4-1", "svc4", "IPv4", ends, (EndpointPort("p80", "TCP", 80),), what)
    manifests = cluster([svc4], [found], Proxy(cluster_cidrs=(ip_network("10.0.0.0/8"),)))
    expected = IptablesTables(4)
    expected.restore(SVC4)
    written = node_rules(manifests, node("node1"), 4, origins=lambda origin: 0).save_text().splitlines()
    assert [line for line in written if "svc4" in line or "-A KUBE-EXT-" in line] == [
        line for line in expected.save_text().splitlines() if line.startswith("-A")
    ]


def test_a_pod_reaches_every_endpoint_with_equal_probability_and_keeps_its_address() -> None:
    found = asked(web(*on("node1", "6"), *on("node2", "10", "11", "12"))).outcomes(POD, "10.96.0.1")
    assert [outcome.probability for outcome in found] == pytest.approx([0.25] * 4)
    assert all(outcome.mark == 0 for outcome in found)


def test_others_than_pods_are_masqueraded_to_the_cluster_address() -> None:
    world = asked(web(*BOTH))
    assert result(world, CLIENT, "10.96.0.1") == ("ACCEPT", [LOCAL6, REMOTE10], True)
    assert result(world, NODE1, "10.96.0.1") == ("ACCEPT", [LOCAL6, REMOTE10], True)


def test_without_a_detector_nobody_is_masqueraded_and_with_masquerade_all_everybody() -> None:
    none = asked(web(*BOTH, proxy=Proxy(detect_local_mode="None")))
    everyone = asked(web(*BOTH, proxy=Proxy(masquerade_all=True, cluster_cidrs=(ip_network(POD_NETWORKS[0]),))))
    assert [result(none, src, "10.96.0.1")[2] for src in (POD, CLIENT)] == [False, False]
    assert [result(everyone, src, "10.96.0.1")[2] for src in (POD, CLIENT)] == [True, True]


def test_the_node_cidr_detector_takes_only_this_nodes_pods_for_local() -> None:
    world = asked(web(*BOTH, proxy=Proxy(detect_local_mode="NodeCIDR")))
    assert [result(world, src, "10.96.0.1")[2] for src in (POD, "10.244.2.9")] == [False, True]


def test_a_detector_that_is_not_supported_is_refused() -> None:
    with pytest.raises(InputError, match="detectLocalMode BridgeInterface is not supported"):
        asked(web(*BOTH, proxy=Proxy(detect_local_mode="BridgeInterface")))


def test_a_pod_that_reaches_itself_through_its_service_is_masqueraded() -> None:
    assert result(asked(web(*on("node1", "5"))), POD, "10.96.0.1") == ("ACCEPT", ["10.244.1.5:8080"], True)


def test_node_ports_answer_on_all_addresses_of_the_node_and_masquerade() -> None:
    world = asked(web(*BOTH, node_port=30001))
    for src, dst in ((CLIENT, NODE1), (POD, NODE1), (NODE1, NODE1), ("127.0.0.1", "127.0.0.1")):
        assert result(world, src, dst, 30001) == ("ACCEPT", [LOCAL6, REMOTE10], True), (src, dst)
    assert result(world, CLIENT, NODE2, 30001) == ("ACCEPT", [], False)


def test_node_ports_can_be_switched_off_on_localhost() -> None:
    world = asked(web(*BOTH, node_port=30001, proxy=Proxy(localhost_node_ports=False)))
    assert result(world, "127.0.0.1", "127.0.0.1", 30001) == ("ACCEPT", [], False)
    assert result(world, CLIENT, NODE1, 30001)[1] == [LOCAL6, REMOTE10]


def test_ipv6_node_ports_never_answer_on_localhost() -> None:
    world = asked(web(*BOTH, node_port=30001), family=6)
    assert result(world, "::1", "::1", 30001)[1] == []
    assert len(result(world, "2001:db8::50", NODES["node1"][1], 30001)[1]) == 2


@pytest.mark.parametrize(
    ("selected", "answering"),
    [
        (("192.168.1.0/24",), {NODE1}),
        (("172.16.0.0/12",), {"172.16.0.9"}),
        (("172.16.0.0/12", "127.0.0.0/8"), {"172.16.0.9", "127.0.0.1"}),
        (("primary",), {NODE1}),
        (("2001:db8::/32",), {NODE1, "172.16.0.9", "127.0.0.1"}),  # says nothing of IPv4
    ],
)
def test_node_ports_answer_on_the_selected_addresses_only(selected: tuple[str, ...], answering: set[str]) -> None:
    manifests = web(*BOTH, node_port=30001, proxy=Proxy(node_port_addresses=selected))
    two_legs = replace(node("node1"), interfaces={"eth1": InterfaceHint(addresses=("172.16.0.9/24",))})
    world = asked(manifests, on_node=two_legs)
    sources = {NODE1: CLIENT, "172.16.0.9": OUTSIDE, "127.0.0.1": "127.0.0.1"}
    assert {dst for dst, src in sources.items() if result(world, src, dst, 30001)[1]} == answering


def test_local_external_policy_keeps_the_clients_address_and_this_nodes_endpoints() -> None:
    fields: dict[str, Any] = {"node_port": 30001, "load_balancer": balancers("192.0.2.80"), "external_policy": "Local"}
    world = asked(web(*BOTH, **fields))
    assert result(world, OUTSIDE, "192.0.2.80") == ("ACCEPT", [LOCAL6], False)
    assert result(world, OUTSIDE, NODE1, 30001) == ("ACCEPT", [LOCAL6], False)
    # Pods and the node itself are not subject to the policy.
    assert result(world, POD, "192.0.2.80") == ("ACCEPT", [LOCAL6, REMOTE10], False)
    assert result(world, NODE1, "192.0.2.80") == ("ACCEPT", [LOCAL6, REMOTE10], True)


def test_local_external_policy_without_local_endpoints_drops_outsiders_only() -> None:
    world = asked(web(*on("node2", "10"), node_port=30001, external_ips=(ip_address("192.0.2.90"),), external_policy="Local"))
    assert result(world, OUTSIDE, "192.0.2.90")[0] == "DROP"
    assert result(world, OUTSIDE, NODE1, 30001)[0] == "DROP"
    assert result(world, POD, "192.0.2.90") == ("ACCEPT", [REMOTE10], False)


def test_local_internal_policy_concerns_the_cluster_address_only() -> None:
    fields: dict[str, Any] = {"node_port": 30001, "internal_policy": "Local"}
    assert result(asked(web(*BOTH, **fields)), POD, "10.96.0.1") == ("ACCEPT", [LOCAL6], False)
    world = asked(web(*on("node2", "10"), **fields))
    assert result(world, POD, "10.96.0.1")[0] == "DROP"
    assert result(world, CLIENT, NODE1, 30001) == ("ACCEPT", [REMOTE10], True)


def test_a_service_without_endpoints_refuses_on_all_its_addresses() -> None:
    world = asked(web(node_port=30001, load_balancer=balancers("192.0.2.80"), external_ips=(ip_address("192.0.2.90"),)))
    for src, dst, port in (
        (POD, "10.96.0.1", 80),
        (NODE1, "10.96.0.1", 80),
        (OUTSIDE, "192.0.2.80", 80),
        (OUTSIDE, "192.0.2.90", 80),
        (CLIENT, NODE1, 30001),
    ):
        assert result(world, src, dst, port)[0] == "REJECT", (src, dst)
    assert result(world, POD, "10.96.0.1", 81) == ("ACCEPT", [], False)


def test_source_ranges_fence_the_load_balancer_and_not_the_node_port() -> None:
    fields: dict[str, Any] = {
        "node_port": 30001,
        "load_balancer": balancers("192.0.2.80"),
        "source_ranges": (ip_network("203.0.113.0/25"),),
    }
    world = asked(web(*BOTH, **fields))
    assert result(world, OUTSIDE, "192.0.2.80") == ("ACCEPT", [LOCAL6, REMOTE10], True)
    assert result(world, "203.0.113.200", "192.0.2.80")[0] == "DROP"
    assert result(world, NODE1, "192.0.2.80")[0] == "DROP"
    assert result(world, "203.0.113.200", NODE1, 30001) == ("ACCEPT", [LOCAL6, REMOTE10], True)


def test_a_node_in_the_source_ranges_may_come_from_the_load_balancers_address() -> None:
    def verdict(ranges: str) -> str:
        fields: dict[str, Any] = {"load_balancer": balancers("192.0.2.80"), "source_ranges": (ip_network(ranges),)}
        return result(asked(web(*BOTH, **fields)), "192.0.2.80", "192.0.2.80")[0]

    assert verdict("192.168.1.0/24") == "ACCEPT"
    assert verdict("203.0.113.0/25") == "DROP"


def test_health_check_ports_are_let_in() -> None:
    fields: dict[str, Any] = {"load_balancer": balancers("192.0.2.80"), "external_policy": "Local", "health_check_node_port": 30999}
    found = asked(web(*BOTH, **fields)).outcomes(OUTSIDE, NODE1, 30999)
    # 101 is the line of the service: its own rule decided.
    assert [(outcome.verdict, outcome.dnat, outcome.origins[-1]) for outcome in found] == [("ACCEPT", None, 101)]


def test_session_affinity_leads_a_known_client_to_its_endpoint_until_it_times_out() -> None:
    manifests = web(*BOTH, affinity_seconds=100)
    chain = chain_name("SEP", "default/web:http", "tcp", REMOTE10)
    for age, expected in ((99.0, [REMOTE10]), (101.0, [LOCAL6, REMOTE10])):
        world = asked(manifests, recent={chain: {ip_address(POD).packed: age}})
        assert result(world, POD, "10.96.0.1") == ("ACCEPT", expected, False)


def test_neighbours_cannot_reach_localhost_services() -> None:
    world = asked(web(*BOTH))
    assert result(world, CLIENT, "127.0.0.1", 6443)[0] == "DROP"


def test_rules_name_the_objects_that_they_come_from() -> None:
    found = asked(web(*BOTH)).outcomes(POD, "10.96.0.1")
    # By line: the Cluster (jumps), the Service, and the IPv4 EndpointSlice (balancing rule and DNAT).
    assert [[line for line in outcome.origins if line != 1] for outcome in found] == [[101, 204, 204]] * 2
    assert all(outcome.origins[0] == 1 for outcome in found)


def test_both_families_of_a_dual_stack_service_work_alike() -> None:
    world = asked(web(*BOTH), family=6)
    found = world.outcomes("fd00:244:0:1::5", "fd00:96::1")
    assert sorted(str(ip_address(outcome.dnat[0])) for outcome in found if outcome.dnat) == ["fd00:244:0:1::6", "fd00:244:0:2::10"]
    assert {outcome.mark for outcome in found} == {0}


def test_endpoint_comments_are_left_out_of_large_clusters() -> None:
    def comments(count: int) -> int:
        ends = [endpoint for number in range(count // 250) for endpoint in on(f"node{number + 1}", *map(str, range(250)))]
        text = node_rules(web(*ends), node("node1"), 4, origins=lambda origin: 0).save_text()
        return sum("->" in line for line in text.splitlines())

    assert (comments(1000), comments(1250)) == (1000, 0)


def test_masquerading_picks_random_ports_if_told_to() -> None:
    text = node_rules(web(proxy=Proxy(masquerade_random_fully=True)), node("node1"), 4, origins=lambda origin: 0).save_text()
    assert "-j MASQUERADE --random-fully" in text
    assert "--random-fully" not in node_rules(everything(), node("node1"), 4, origins=lambda origin: 0).save_text()


@pytest.mark.parametrize("remaining", [1, 2, 3, 7, 1000])
def test_probabilities_have_ten_digits(remaining: int) -> None:
    assert float(probability(remaining)) == pytest.approx(1 / remaining, abs=5e-11)
    assert len(probability(remaining)) == 12
