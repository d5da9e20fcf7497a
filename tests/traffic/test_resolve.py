"""From names in flows to addresses, and to those who must listen."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from control.clusters import build_fake, cluster, node, pod
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.traffic.model import parse_traffic
from dataplane.traffic.resolve import Listener, ResolvedFlow, describe, resolve

PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]


def service(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def endpoints(service_name: str, addresses: list[str], *ports: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{service_name}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": service_name}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": address != "10.1.2.2"}} for address in addresses],
        "ports": [{"name": name, "protocol": protocol, "port": port} for name, protocol, port in ports],
    }  # fmt: skip


@pytest.fixture
def topology() -> Topology:
    """A service with two endpoints, of which one is not ready, and a pod on its node's own network."""
    web = {"type": "NodePort", "clusterIP": "10.96.0.10", "externalIPs": ["198.51.100.7"], "ports": PORTS}
    return build_fake(
        cluster(underlay={"cidr": "192.168.0.0/24", "hosts": [{"name": "cl", "address": "192.168.0.50"}]}, serviceCIDR="10.96.0.0/16"),
        node(1), node(2), pod("a", "n1", "10.1.1.2"), pod("b", "n2", "10.1.2.2"), pod("agent", "n2", "192.168.0.2", host_network=True),
        service("web", web), endpoints("web", ["10.1.1.2", "10.1.2.2"], ("http", "TCP", 8080), ("dns", "UDP", 5353)),
        service("headless", {"clusterIP": "None", "ports": [{"port": 80}]}),
    )[1]  # fmt: skip


def one(topology: Topology, **fields: Any) -> ResolvedFlow:
    flow = {"from": "pod/default/a", "kind": "tcp"} | {"from" if key == "source" else key: value for key, value in fields.items()}
    return resolve([parse_traffic({"spec": {"flows": [flow]}}, "t.yaml", [])], topology)[0]


def names(topology: Topology, resolved: ResolvedFlow) -> list[tuple[str, int]]:
    return [(topology.namespace_name(listener.namespace), listener.port) for listener in resolved.listeners]


def test_pod_to_pod(topology: Topology) -> None:
    found = one(topology, to="pod/default/b", port=8080)
    assert found.namespace == topology.namespace_id("a")
    assert (found.destination, found.port) == (ip_address("10.1.2.2").packed, 8080)
    assert found.listeners == (Listener(topology.namespace_id("b"), 8080),)
    assert describe(found) == "flow1: tcp pod/default/a -> 10.1.2.2:8080"


def test_host_network_pods_are_their_node(topology: Topology) -> None:
    found = one(topology, source="pod/default/agent", to="host/cl", kind="ping")
    assert found.namespace == topology.namespace_id("n2")
    assert (found.destination, found.port, found.listeners) == (ip_address("192.168.0.50").packed, 0, ())


@pytest.mark.parametrize(
    "to", ["service/default/web:80", "service/default/web:http", "service/default/web", "10.96.0.10:80", "198.51.100.7:80"]
)
def test_services_are_listened_for_by_every_endpoint(topology: Topology, to: str) -> None:
    found = one(topology, to=to)
    assert found.port == 80
    assert names(topology, found) == [("a", 8080), ("b", 8080)]


def test_protocol_chooses_among_the_ports_of_a_service(topology: Topology) -> None:
    found = one(topology, to="service/default/web", kind="udp")
    assert (found.port, names(topology, found)) == (53, [("a", 5353), ("b", 5353)])


def test_node_ports_are_the_services_and_the_nodes(topology: Topology) -> None:
    assert names(topology, one(topology, to="192.168.0.1:30080", source="host/cl")) == [("a", 8080), ("b", 8080), ("n1", 30080)]
    assert names(topology, one(topology, to="192.168.0.1:30081", source="host/cl")) == [("n1", 30081)]


def test_nobody_listens_where_nobody_is_or_shall(topology: Topology) -> None:
    assert one(topology, to="203.0.113.1:80").listeners == ()
    assert one(topology, to="203.0.113.1:30080").listeners == ()
    assert one(topology, to="pod/default/b", port=80, listen=False).listeners == ()


def test_port_that_a_service_has_not_is_tried_all_the_same(topology: Topology) -> None:
    found = one(topology, to="service/default/web:81")
    assert (found.port, found.listeners) == (81, ())


def test_flows_of_all_documents_are_numbered(topology: Topology) -> None:
    documents = [parse_traffic({"spec": {"flows": [{"from": "node/n1", "to": "node/n2", "kind": "ping"}] * 1}}, name, []) for name in "xy"]
    assert [resolved.number for resolved in resolve(documents, topology)] == [0, 1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"to": "pod/default/gone", "port": 1}, "there is no such pod"),
        ({"to": "pod/default/b", "source": "host/gone", "port": 1}, "there is no such host"),
        ({"to": "service/default/gone"}, "there is no such service; there are default/web"),
        ({"to": "service/default/headless"}, "has no cluster IP; name one of its pods"),
        ({"to": "service/default/web:grpc"}, "The service has http/TCP, dns/UDP"),
        ({"to": "pod/default/b"}, "declares no port for tcp"),
        ({"to": "pod/default/b", "port": "grpc"}, "declares no port 'grpc' for tcp"),
        ({"to": "pod/default/b", "port": 1, "ipFamily": "IPv6"}, "there is no address of IPv6"),
        ({"to": "fd00::1", "port": 1}, "there is no address of a family that both ends have"),
    ],
)
def test_names_of_nothing_are_one_line(topology: Topology, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        one(topology, **fields)
    assert told in str(caught.value)
    assert str(caught.value).startswith("t.yaml:1: flow flow1: ")
