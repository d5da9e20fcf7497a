"""What is not written is made up as the cluster's components would."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

import pytest

from dataplane import k8s
from dataplane.errors import InputError
from dataplane.k8s.objects import Pod
from k8s.helpers import NODES, cluster, load, pod, service


def addresses(pods: tuple[Pod, ...]) -> dict[str, list[str]]:
    return {item.name: [str(address) for address in item.addresses] for item in pods}


def test_nodes_get_the_lowest_free_slash_24() -> None:
    given = "apiVersion: v1\nkind: Node\nmetadata: {name: n0}\nspec: {podCIDR: 10.244.0.0/24}"
    nodes = load(given, NODES, cluster("podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']")).nodes
    assert [node.pod_cidrs for node in nodes[1:]] == [
        (ip_network("10.244.1.0/24"), ip_network("fd00:10:244::/64")),
        (ip_network("10.244.2.0/24"), ip_network("fd00:10:244:1::/64")),
    ]
    assert nodes[0].addresses == (ip_address("192.168.1.2"),)


def test_a_node_has_the_subnet_its_pods_are_in() -> None:
    nodes = load(NODES, pod("a", "n1", status="podIP: 10.244.7.3"), pod("b", "n2")).nodes
    assert [node.pod_cidrs for node in nodes] == [(ip_network("10.244.7.0/24"),), (ip_network("10.244.0.0/24"),)]


def test_too_few_node_subnets_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^t\.yaml:\d+: Node n2: no /24 is left in pod CIDR 10\.9\.0\.0/24; "):
        load(NODES, cluster("podCIDR: 10.9.0.0/24"))


def test_host_local_begins_at_the_second_address_and_skips_what_is_in_use() -> None:
    loaded = load(NODES, pod("a"), pod("b", status="podIP: 10.244.0.3"), pod("c"), pod("d", "n2"))
    assert addresses(loaded.pods) == {"a": ["10.244.0.2"], "b": ["10.244.0.3"], "c": ["10.244.0.4"], "d": ["10.244.1.2"]}
    assert [item.mac for item in loaded.pods[:2]] == ["0a:58:0a:f4:00:02", "0a:58:0a:f4:00:03"]
    assert all(re.fullmatch("veth[0-9a-f]{8}", item.host_interface or "") for item in loaded.pods)


def test_host_local_leaves_gateway_and_broadcast_out() -> None:
    node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDR: 10.244.0.0/30}"
    assert addresses(load(node, pod("a")).pods) == {"a": ["10.244.0.2"]}
    with pytest.raises(InputError, match=r"Pod default/b: podCIDR 10\.244\.0\.0/30 of node n1 has no address left; "):
        load(node, pod("a"), pod("b"))


def test_dual_stack_pods_get_an_address_of_each_family() -> None:
    loaded = load(NODES, cluster("podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']"), pod("a"))
    assert addresses(loaded.pods) == {"a": ["10.244.0.2", "fd00:10:244::2"]}


CALICO = "cni: {name: calico, ipPools: [{cidr: 10.5.0.0/16, ipipMode: MODE}]}"


@pytest.mark.parametrize(("mode", "first"), [("Never", "10.5.0.0"), ("Always", "10.5.0.1")])
def test_calico_hands_out_a_block_from_its_lowest_address(mode: str, first: str) -> None:
    """With a tunnel, the node's first address is its tunnel device's."""
    loaded = load(NODES, cluster(CALICO.replace("MODE", mode)), pod("a"), pod("b"))
    assert addresses(loaded.pods)["a"] == [first]
    assert loaded.nodes[0].ipam_blocks == (ip_network("10.5.0.0/26"),)
    assert loaded.pods[0].host_mac == "ee:ee:ee:ee:ee:ee"


def test_calico_claims_another_block_when_one_is_full() -> None:
    spec = "cni: {name: calico, ipPools: [{cidr: 10.5.0.0/24, blockSize: 31}]}"
    loaded = load(NODES, cluster(spec), *(pod(name) for name in "abc"), pod("d", "n2"))
    assert addresses(loaded.pods) == {"a": ["10.5.0.0"], "b": ["10.5.0.1"], "c": ["10.5.0.2"], "d": ["10.5.0.4"]}
    assert loaded.nodes[0].ipam_blocks == (ip_network("10.5.0.0/31"), ip_network("10.5.0.2/31"))
    with pytest.raises(InputError, match=r"IP pool 10\.5\.0\.0/31 has no address left; "):
        load(NODES, cluster(spec.replace("/24", "/31")), *(pod(name) for name in "abc"))


def test_pods_without_a_node_go_where_there_are_fewest_and_labels_fit() -> None:
    loose = pod("x").replace("nodeName: n1, ", "")
    assert [item.node for item in load(NODES, pod("a"), loose, loose.replace("x,", "y,", 1)).pods] == ["n1", "n2", "n1"]
    with pytest.raises(InputError, match="no ready node fits the pod; "):
        load(NODES, loose.replace("containers", "nodeSelector: {disk: ssd}, containers"))


def test_host_network_pods_have_their_nodes_addresses() -> None:
    item = load(NODES, pod("a", spec="hostNetwork: true")).pods[0]
    assert item.addresses == (ip_address("192.168.1.10"),)
    assert item.mac is item.host_interface is None


def test_nodes_are_those_that_pods_name_where_none_is_given() -> None:
    loaded = load(pod("a", "n7", status="podIP: 10.244.3.9, hostIP: 172.16.0.4"), pod("b", "n8", status="podIP: 10.244.4.9"))
    assert [(node.name, str(node.addresses[0])) for node in loaded.nodes] == [("n7", "172.16.0.4"), ("n8", "172.16.0.2")]
    assert any("no Node was given" in line for line in loaded.warnings)


def test_cluster_ips_lie_in_the_upper_band_and_depend_on_the_name_alone() -> None:
    ports = "ports: [{port: 80}]"
    one = load(service("a", ports), service("b", ports)).services
    other = load(service("b", ports), service("x", ports), service("a", ports)).services
    assert one[0].cluster_ips == other[2].cluster_ips and one[0].cluster_ips != one[1].cluster_ips
    # KEP-3070: of a /12, the first 256 addresses are for cluster IPs that users choose.
    places = [int(item.cluster_ips[0]) - int(ip_address("10.96.0.0")) for item in (*one, *other)]
    assert all(256 <= place < 2**20 - 1 for place in places)


def test_the_api_servers_own_service_has_the_first_address_and_dns_the_tenth() -> None:
    found = load(
        service("kubernetes", "ports: [{port: 443}]"), service("kube-dns", "ports: [{port: 53}]", "namespace: kube-system")
    ).services
    assert [str(item.cluster_ips[0]) for item in found] == ["10.96.0.1", "10.96.0.10"]


def test_a_small_service_cidr_is_used_to_the_last_address() -> None:
    services = [service(f"s{index}", "ports: [{port: 80}]") for index in range(7)]
    config = cluster("serviceCIDR: 10.9.0.0/29")
    found = load(config, *services[:6]).services
    assert {str(item.cluster_ips[0]) for item in found} == {f"10.9.0.{index}" for index in range(1, 7)}
    with pytest.raises(InputError, match="Service default/s6: the service CIDR has no address left; "):
        load(config, *services)


def test_families_follow_the_policy() -> None:
    dual = cluster("podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']")
    for policy, versions in (("SingleStack", [4]), ("PreferDualStack", [4, 6]), ("RequireDualStack", [4, 6])):
        found = load(dual, service("a", f"ipFamilyPolicy: {policy}, ports: [{{port: 80}}]")).services[0]
        assert [address.version for address in found.cluster_ips] == versions
    with pytest.raises(InputError, match="RequireDualStack needs two service CIDRs; "):
        load(service("a", "ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]"))
    with pytest.raises(InputError, match="there is no service CIDR for IPv6; "):
        load(service("a", "ipFamilies: [IPv6], ports: [{port: 80}]"))


@pytest.mark.parametrize(
    ("spec", "versions"),
    [
        ("clusterIP: 10.96.0.77", [4]),
        ("clusterIP: 10.96.0.77, ipFamilyPolicy: PreferDualStack", [4, 6]),
        ("clusterIP: 10.96.0.77, ipFamilies: [IPv4, IPv6]", [4, 6]),
        ("clusterIP: 'fd00:10:96::77', ipFamilyPolicy: RequireDualStack", [6, 4]),
        ("ipFamilies: [IPv6]", [6]),
        ("ipFamilies: [IPv6], ipFamilyPolicy: PreferDualStack", [6, 4]),
    ],
)
def test_a_service_gets_the_cluster_ips_that_its_families_lack(spec: str, versions: list[int]) -> None:
    dual = cluster("podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']")
    found = load(dual, NODES, pod("a"), service("a", f"{spec}, selector: {{app: web}}, ports: [{{port: 80}}]"))
    assert [address.version for address in found.services[0].cluster_ips] == versions
    assert {str(address) for address in found.services[0].cluster_ips} >= set(re.findall(r"10\.96\.0\.77|fd00:10:96::77", spec))
    assert [item.address_type for item in found.endpoint_slices] == [f"IPv{version}" for version in versions]


def test_a_service_that_an_api_server_stored_keeps_its_one_family() -> None:
    stored = service("a", "clusterIPs: [10.96.0.77], ipFamilies: [IPv4], ipFamilyPolicy: PreferDualStack", "uid: 7-7")
    found = load(cluster("podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']"), stored).services[0]
    assert found.ip_families == ("IPv4",) and found.cluster_ips == (ip_address("10.96.0.77"),)


def test_node_ports_are_given_to_what_has_none() -> None:
    ports = "ports: [{name: a, port: 80}, {name: b, port: 81, nodePort: 30080}]"
    node_port = load(service("n", f"type: NodePort, {ports}")).services[0]
    assert 30086 <= node_port.ports[0].node_port <= 32767 and node_port.ports[1].node_port == 30080
    balancer = load(service("l", f"type: LoadBalancer, externalTrafficPolicy: Local, {ports}")).services[0]
    assert balancer.ports[0].node_port and balancer.health_check_node_port
    stored = load(service("l", f"type: LoadBalancer, clusterIP: 10.96.0.5, {ports}")).services[0]
    assert stored.ports[0].node_port == 0
    refused = load(service("l", f"type: LoadBalancer, allocateLoadBalancerNodePorts: false, {ports}")).services[0]
    assert refused.ports[0].node_port == 0


def test_slices_follow_the_selector() -> None:
    unready = "conditions: [{type: Ready, status: 'False'}]"
    pods = [
        pod("ok"),
        pod("unready", status=unready),
        pod("leaving", metadata="deletionTimestamp: '2024-05-01T00:00:00Z'"),
        pod("done", status="phase: Succeeded, podIP: 10.244.0.9"),
        pod("waiting", status="phase: Pending"),
        pod("other").replace("app: web", "app: db"),
        pod("elsewhere", metadata="namespace: far"),
    ]
    slices = load(NODES, *pods, service("web")).endpoint_slices
    assert len(slices) == 1 and slices[0].service == "web" and slices[0].address_type == "IPv4"
    assert [(port.name, port.protocol, port.port) for port in slices[0].ports] == [("", "TCP", 8080)]
    found = {endpoint.target: (endpoint.ready, endpoint.serving, endpoint.terminating) for endpoint in slices[0].endpoints}
    assert found == {"default/ok": (True, True, False), "default/unready": (False, False, False), "default/leaving": (False, True, True)}
    assert "t.yaml" in slices[0].origin.what and slices[0].origin.line == 0


def test_unready_addresses_are_published_where_the_service_says_so() -> None:
    unready = pod("a", status="conditions: [{type: Ready, status: 'False'}]")
    spec = "publishNotReadyAddresses: true, clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: http}]"
    endpoint = load(NODES, unready, service("web", spec)).endpoint_slices[0].endpoints[0]
    assert endpoint.ready and not endpoint.serving


def test_pods_whose_named_port_differs_have_slices_of_their_own() -> None:
    other = pod("b").replace("containerPort: 8080", "containerPort: 9090")
    slices = load(NODES, pod("a"), other, service("web")).endpoint_slices
    assert [(item.ports[0].port, item.endpoints[0].target) for item in slices] == [(8080, "default/a"), (9090, "default/b")]


def test_sidecars_ports_count_and_other_init_containers_do_not() -> None:
    sidecar = "initContainers: [{name: i, restartPolicy: MODE, ports: [{name: probe, containerPort: 7}]}]"
    spec = "selector: {app: web}, ports: [{port: 80, targetPort: probe}]"
    slices = load(NODES, pod("a", spec=sidecar.replace("MODE", "Always")), service("s", spec)).endpoint_slices
    assert slices[0].ports[0].port == 7
    with pytest.raises(InputError, match="targetPort 'probe'"):
        load(NODES, pod("a", spec=sidecar.replace("MODE", "null")), service("s", spec))


def test_namespaces_carry_the_api_servers_label() -> None:
    written = "apiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: {team: x}}"
    found = {item.name: dict(item.labels) for item in load(written, NODES, pod("a", metadata="namespace: far"), pod("b")).namespaces}
    assert found == {
        "far": {"team": "x", "kubernetes.io/metadata.name": "far"}, "default": {"kubernetes.io/metadata.name": "default"},
    }  # fmt: skip


def test_derived_macs_are_local_unicast_and_differ() -> None:
    macs = {k8s.derive_mac(purpose, f"name{index}") for purpose in ("a", "b") for index in range(200)}
    assert len(macs) == 400
    assert all(int(mac[:2], 16) & 3 == 2 and len(mac) == 17 for mac in macs)


def test_networks_that_pods_and_nodes_share_are_told_apart_as_far_as_possible() -> None:
    """As on clouds whose pods have addresses of the machines' network; nobody is refused for it."""
    loaded = load(NODES, pod("a", status="podIP: 192.168.1.99"))
    assert not any(address in network for network in loaded.config.pod_cidrs for node in loaded.nodes for address in node.addresses)
    assert loaded.pods[0].addresses[0] in loaded.config.pod_cidrs[0]


def test_a_dump_whose_nodes_lie_in_the_customary_networks_is_no_contradiction() -> None:
    """10.100.0.0 is inside 10.96.0.0/12, which is a habit of kubeadm's and no rule."""
    nodes = NODES.replace("192.168.1", "10.100.0")
    loaded = load(nodes, service("a", "clusterIP: 10.96.0.9, ports: [{port: 80}]"))
    assert loaded.config.service_cidrs == (ip_network("10.96.0.0/16"),)
    assert load(nodes).config.service_cidrs == (ip_network("172.29.0.0/16"),)
    assert load(NODES.replace("192.168.1", "10.244.0")).config.pod_cidrs == (ip_network("172.30.0.0/16"),)


def test_a_headless_service_may_have_families_that_the_cluster_lacks() -> None:
    found = load(NODES, service("a", "clusterIP: None, ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]"))
    assert found.services[0].ip_families == ("IPv6", "IPv4") and found.services[0].cluster_ips == ()


def test_of_two_pods_that_go_away_one_has_the_address() -> None:
    leaving = "uid: a1, deletionTimestamp: '2024-05-01T00:00:00Z'"
    loaded = load(NODES, *(pod(name, status="podIP: 10.244.0.7", metadata=leaving) for name in "ab"))
    assert addresses(loaded.pods) == {"a": ["10.244.0.7"], "b": []}
    assert len(loaded.warnings) == 1
