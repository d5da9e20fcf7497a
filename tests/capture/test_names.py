"""Names that captures show for the addresses of a cluster."""

from __future__ import annotations

from ipaddress import ip_address as ip

from dataplane.capture.names import address_names
from dataplane.k8s.objects import ClusterConfig, Host, LoadBalancerIngress, Manifests, Node, Origin, Pod, Service, Underlay

ORIGIN = Origin("cluster.yaml", 1, "test")


def test_every_kind_of_address_has_the_name_users_know() -> None:
    underlay = Underlay(hosts=(Host("client", (ip("192.168.0.100"),), None, None, ORIGIN),))
    service = Service(
        "shop",
        "web",
        "LoadBalancer",
        (ip("10.96.0.12"), ip("fd00:96::12")),
        (),
        ORIGIN,
        external_ips=(ip("203.0.113.5"),),
        load_balancer=(LoadBalancerIngress(ip("198.51.100.1")),),
    )
    pods = (
        Pod("shop", "web-0", "node1", (ip("10.244.1.5"), ip("fd00::a")), ORIGIN),
        Pod("kube-system", "kube-proxy-x", "node1", (ip("192.168.0.11"),), ORIGIN, host_network=True),
    )
    node = Node("node1", (ip("192.168.0.11"),), ORIGIN, external_addresses=(ip("198.18.0.1"),))
    manifests = Manifests(ClusterConfig(underlay=underlay), (node,), pods, (service,))
    assert {str(ip(address)): name for address, name in address_names(manifests).items()} == {
        "192.168.0.11": "node1",  # and not the pod on its network
        "198.18.0.1": "node1",
        "192.168.0.100": "client",
        "10.244.1.5": "web-0.shop.pod",
        "fd00::a": "web-0.shop.pod",
        "10.96.0.12": "web.shop.svc",
        "fd00:96::12": "web.shop.svc",
        "203.0.113.5": "web.shop.svc",
        "198.51.100.1": "web.shop.svc",
    }
