"""Which endpoints a service port has on a node, and which of them it uses."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.proxy_world import balancers, cluster, on, origin, service, slices
from dataplane.control.proxy.endpoints import Categories, ProxyEndpoint, TrafficPolicy, categorize
from dataplane.control.proxy.service_ports import service_ports
from dataplane.k8s.objects import Endpoint, EndpointPort, EndpointSlice, LoadBalancerIngress

CLUSTER = TrafficPolicy()
BOTH_LOCAL = TrafficPolicy(internal_local=True, external_local=True, externally_accessible=True)


def end(number: int, state: str = "ready", **fields: Any) -> ProxyEndpoint:
    """Endpoint 10.0.0.``number``; states: ready, unready, terminating (and serving), gone (terminating, not serving)."""
    conditions = {
        "ready": (True, True, False),
        "unready": (False, False, False),
        "terminating": (False, True, True),
        "gone": (False, False, True),
    }
    ready, serving, terminating = conditions[state]
    known: dict[str, Any] = {"ready": ready, "serving": serving, "terminating": terminating} | fields
    return ProxyEndpoint(ip_address(f"10.0.0.{number}"), 80, origin("slice", number), **known)


def numbers(endpoints: tuple[ProxyEndpoint, ...] | None) -> list[int] | None:
    return None if endpoints is None else [endpoint.address.packed[-1] for endpoint in endpoints]


def chosen(*endpoints: ProxyEndpoint, policy: TrafficPolicy = CLUSTER, node: str = "node1", zone: str = "a") -> Categories:
    return categorize(endpoints, policy, node, zone)


def test_terminating_endpoints_serve_only_while_nothing_is_ready() -> None:
    assert numbers(chosen(end(1), end(2, "terminating"), end(3, "unready")).cluster) == [1]
    assert numbers(chosen(end(2, "terminating"), end(3, "unready"), end(4, "gone")).cluster) == [2]
    assert not chosen(end(3, "unready"), end(4, "gone")).any_usable


def test_local_and_cluster_traffic_fall_back_each_for_itself() -> None:
    found = chosen(end(1), end(2, "terminating", local=True), policy=BOTH_LOCAL)
    assert (numbers(found.cluster), numbers(found.local), numbers(found.reachable)) == ([1], [2], [1, 2])


def test_endpoints_on_other_nodes_only_are_usable_but_not_reachable_by_local_traffic() -> None:
    found = chosen(end(1), policy=TrafficPolicy(internal_local=True))
    assert (found.cluster, found.local, found.reachable, found.any_usable) == (None, (), (), True)


@pytest.mark.parametrize(
    ("hints", "zone", "expected"),
    [
        ([("a",), ("b",), ("a", "b")], "a", [1, 3]),
        ([("a",), (), ("a",)], "a", [1, 2, 3]),  # one without a hint: all are used
        ([("b",), ("b",), ("c",)], "a", [1, 2, 3]),  # none for this zone
        ([("a",), ("b",), ("c",)], "", [1, 2, 3]),  # a node of no zone
    ],
)
def test_zone_hints_are_followed_if_all_ready_endpoints_have_them(hints: list[tuple[str, ...]], zone: str, expected: list[int]) -> None:
    ends = [end(number, zone_hints=own) for number, own in enumerate(hints, 1)]
    assert numbers(chosen(*ends, end(9, "unready"), zone=zone).cluster) == expected


def test_node_hints_win_over_zone_hints_if_one_names_the_node() -> None:
    ends = [end(1, node_hints=("node1",), zone_hints=("a",)), end(2, node_hints=("node2",), zone_hints=("a",))]
    assert numbers(chosen(*ends).cluster) == [1]
    assert numbers(chosen(*ends, node="node3").cluster) == [1, 2]


ENDPOINTS = st.lists(
    st.tuples(st.sampled_from(["ready", "unready", "terminating", "gone"]), st.booleans(), st.sampled_from([(), ("a",), ("b",)])),
    max_size=6,
).map(lambda rows: [end(i, state, local=local, zone_hints=hints) for i, (state, local, hints) in enumerate(rows)])


@given(ENDPOINTS, st.builds(TrafficPolicy, st.booleans(), st.booleans(), st.booleans()))
def test_what_is_used_is_usable_and_nothing_usable_is_lost(endpoints: list[ProxyEndpoint], policy: TrafficPolicy) -> None:
    found = chosen(*endpoints, policy=policy)
    usable = [endpoint for endpoint in endpoints if endpoint.ready or endpoint.fallback]
    assert found.any_usable == bool(usable)
    assert (found.cluster is not None, found.local is not None) == (policy.uses_cluster, policy.uses_local)
    assert all(endpoint.local for endpoint in found.local or ())
    assert set(found.reachable) == {*(found.cluster or ()), *(found.local or ())} <= set(usable)
    assert bool(found.cluster) == (policy.uses_cluster and bool(usable))


def test_slices_of_a_service_are_joined_by_port_name_and_protocol_without_duplicates() -> None:
    ends = tuple(on("node1", "6")) + tuple(on("node2", "10"))
    more = EndpointSlice(
        "default", "web-more", "web", "IPv4", (Endpoint((ip_address("10.244.1.6"),)),), (EndpointPort("http", "TCP", 8080),), origin("s", 7)
    )
    other = replace(more, name="web-udp", ports=(EndpointPort("http", "UDP", 9),))
    foreign = replace(more, name="elsewhere", namespace="other", endpoints=tuple(on("node1", "99")))
    manifests = cluster([service("web", 1)], [more, *slices("web", *ends), other, foreign])
    [port] = service_ports(manifests, "node1", 4)
    assert [(endpoint.text, endpoint.local) for endpoint in port.endpoints] == [("10.244.1.6:8080", True), ("10.244.2.10:8080", False)]
    [port] = service_ports(manifests, "node2", 6)
    assert [(endpoint.text, endpoint.local) for endpoint in port.endpoints] == [
        ("[fd00:244:0:1::6]:8080", False),
        ("[fd00:244:0:2::10]:8080", True),
    ]


def test_services_without_an_address_of_the_family_are_not_proxied() -> None:
    services = [
        service("headless", 1, cluster_ips=(), headless=True),
        service("name", 2, cluster_ips=(), type="ExternalName"),
        service("v4", 3, cluster_ips=(ip_address("10.96.0.3"),)),
    ]
    assert [port.name for port in service_ports(cluster(services, []), "node1", 4)] == ["default/v4:http"]
    assert service_ports(cluster(services, []), "node1", 6) == []


def test_a_port_without_a_name_is_named_by_its_service() -> None:
    [port] = service_ports(cluster([service("web", 1, port_name="")], []), "node1", 4)
    assert port.name == "default/web"


def test_load_balancer_addresses_behind_a_proxy_are_left_to_it() -> None:
    addresses = (*balancers("192.0.2.1"), LoadBalancerIngress(ip_address("192.0.2.2"), "Proxy"))
    [port] = service_ports(cluster([service("web", 1, load_balancer=addresses)], []), "node1", 4)
    assert [str(address) for address in port.load_balancer_ips] == ["192.0.2.1"]


def test_a_health_check_port_belongs_to_load_balancers_with_local_policy_only() -> None:
    def health(**fields: Any) -> int:
        [port] = service_ports(cluster([service("web", 1, health_check_node_port=30999, **fields)], []), "node1", 4)
        return port.health_check_node_port

    assert health(load_balancer=balancers("192.0.2.1"), external_policy="Local") == 30999
    assert health(load_balancer=balancers("192.0.2.1")) == 0
    assert health(node_port=30001, external_policy="Local") == 0
