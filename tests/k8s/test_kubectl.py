"""What kubectl prints of real clusters loads as it is, and means what it meant there."""

from __future__ import annotations

import json
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from dataplane import k8s

DATA = Path(__file__).parent / "data"
FLANNEL = DATA / "kubectl-flannel.yaml"


@pytest.fixture(scope="module")
def flannel() -> k8s.Manifests:
    return k8s.load([str(FLANNEL)])


@pytest.fixture(scope="module")
def calico() -> k8s.Manifests:
    return k8s.load([str(DATA / "kubectl-calico-dual.yaml")])


def test_only_what_is_odd_in_the_cluster_is_warned_of(flannel: k8s.Manifests) -> None:
    assert len(flannel.warnings) == 3
    for words in ("nodeName 'worker-gone' is no node", "web-5d8c6b7f9d-old77: its address belongs to another pod", "targetPort 'htpp'"):
        assert sum(words in line for line in flannel.warnings) == 1
    assert all(line.startswith(f"{FLANNEL}:") for line in flannel.warnings)


def test_every_object_knows_its_line(flannel: k8s.Manifests) -> None:
    lines = FLANNEL.read_text(encoding="utf-8").splitlines()
    objects = [(item.name, item.origin) for item in flannel.nodes]
    objects += [(item.name, item.origin) for item in flannel.pods]
    objects += [(item.name, item.origin) for item in flannel.services]
    objects += [(item.name, item.origin) for item in flannel.endpoint_slices]
    objects += [(item.name, item.origin) for item in flannel.policies]
    for name, origin in objects:
        assert lines[origin.line - 1].startswith("- "), origin
        following = lines[origin.line :]
        end = next((index for index, line in enumerate(following) if line.startswith("- ")), len(following))
        assert f"    name: {name}" in following[:end]


def test_pods_of_every_state(flannel: k8s.Manifests) -> None:
    pods = {pod.name: pod for pod in flannel.pods}
    assert pods["hungry-1"].addresses == () == pods["migrate-28594"].addresses == pods["evicted-1"].addresses
    assert pods["hungry-1"].node == "" and pods["hungry-1"].phase == "Pending"
    assert pods["cache-0"].addresses == (ip_address("10.244.1.6"),)
    assert pods["web-5d8c6b7f9d-old77"].terminating and pods["web-5d8c6b7f9d-old77"].addresses == ()
    assert not pods["web-5d8c6b7f9d-zz9pt"].ready
    etcd = pods["etcd-control-plane"]
    assert etcd.host_network and etcd.addresses == (ip_address("10.0.2.10"),) and etcd.mac is None


def test_services_of_every_type(flannel: k8s.Manifests) -> None:
    services = {service.name: service for service in flannel.services}
    assert services["cache"].headless and services["cache"].cluster_ips == ()
    assert services["partner"].type == "ExternalName" and services["partner"].cluster_ips == () and not services["partner"].headless
    assert services["web"].ports[0].target_port == "http" and services["web"].ports[0].node_port == 31517
    assert services["front"].ports[0].node_port == 0 and services["front"].health_check_node_port == 32100
    assert [entry.address for entry in services["front"].load_balancer] == [ip_address("10.0.2.200")]
    assert services["legacy-db"].selector == {}


def test_slices_that_were_given_are_the_only_ones(flannel: k8s.Manifests) -> None:
    assert all(item.origin.line for item in flannel.endpoint_slices)
    web = next(item for item in flannel.endpoint_slices if item.service == "web")
    assert [(e.ready, e.serving, e.terminating) for e in web.endpoints] == [
        (True, True, False), (True, True, False), (False, False, False), (False, False, True),
    ]  # fmt: skip
    legacy = next(item for item in flannel.endpoint_slices if item.service == "legacy-db")
    assert all(e.ready and e.serving and not e.terminating for e in legacy.endpoints)


def test_cluster_wide_facts_are_inferred(flannel: k8s.Manifests, calico: k8s.Manifests) -> None:
    assert flannel.config.cni.name == "flannel" and flannel.config.cni.config == {"Backend": {"Type": "vxlan"}}
    assert flannel.config.pod_cidrs == flannel.config.proxy.cluster_cidrs == (ip_network("10.244.0.0/16"),)
    assert flannel.config.service_cidrs == (ip_network("10.96.0.0/12"),)
    assert flannel.config.underlay.cidrs == (ip_network("10.0.2.0/24"),)
    assert flannel.nodes[1].interfaces["flannel.1"].mac == "6a:1f:0c:55:01:9e"
    assert calico.config.cni.name == "calico"
    assert calico.config.underlay.cidrs == (ip_network("172.18.0.0/24"), ip_network("fc00:f853:ccd:e793::/64"))


def test_calico_blocks_follow_from_the_pods(calico: k8s.Manifests) -> None:
    assert calico.warnings == ()
    assert calico.nodes[1].ipam_blocks == (ip_network("10.244.162.128/26"), ip_network("fd00:10:244:63e2:9bd3:a3b0:7c44:a280/122"))
    # Calico's name for default/api-0, as `printf default.api-0 | sha1sum | cut -c1-11` has it.
    assert {pod.name: pod.host_interface for pod in calico.pods}["api-0"] == "cali31158f8c502"


def test_endpoints_are_used_where_there_is_no_slice(calico: k8s.Manifests) -> None:
    mirror = next(item for item in calico.endpoint_slices if item.service == "api")
    assert [(str(e.addresses[0]), e.ready) for e in mirror.endpoints] == [
        ("10.244.162.129", True), ("10.244.162.130", True), ("10.244.82.1", False),
    ]  # fmt: skip
    assert mirror.endpoints[0].target == "default/api-0"
    derived = next(item for item in calico.endpoint_slices if item.service == "api6")
    assert derived.address_type == "IPv6" and len(derived.endpoints) == 3


def test_endpoints_leave_the_second_family_to_the_selector(calico: k8s.Manifests) -> None:
    """An Endpoints object holds addresses of the service's first family alone, which kubectl get endpoints shows."""
    (first, second) = (item for item in calico.endpoint_slices if item.service == "api")
    assert (first.address_type, second.address_type) == ("IPv4", "IPv6")
    assert {str(endpoint.addresses[0]) for endpoint in second.endpoints} == {
        "fd00:10:244:63e2:9bd3:a3b0:7c44:a281", "fd00:10:244:63e2:9bd3:a3b0:7c44:a282", "fd00:10:244:3b4f:8e95:5e75:b1a8:5201",
    }  # fmt: skip


def test_nodes_have_the_customary_default_gateway_of_each_family(calico: k8s.Manifests) -> None:
    """kubectl does not print it; without a default route Linux does not answer Calico's pods for 169.254.1.1."""
    assert calico.config.underlay.default_gateways == (ip_address("172.18.0.1"), ip_address("fc00:f853:ccd:e793::1"))


@pytest.mark.parametrize(("taken", "gateways"), [("10.0.0.1", ()), ("10.0.0.9", (ip_address("10.0.0.1"),))])
def test_the_gateway_is_nobody_of_the_cluster(taken: str, gateways: tuple[object, ...]) -> None:
    node = f"{{apiVersion: v1, kind: Node, metadata: {{name: a}}, status: {{addresses: [{{type: InternalIP, address: {taken}}}]}}}}"
    assert k8s.load_text(node, "node.yaml").config.underlay.default_gateways == gateways


def test_json_output_means_the_same(flannel: k8s.Manifests) -> None:
    text = json.dumps(yaml.safe_load(FLANNEL.read_text(encoding="utf-8")), indent=4)
    same = k8s.load_text(text, "dump.json")
    assert [pod.key for pod in same.pods] == [pod.key for pod in flannel.pods]
    assert same.config.cni == flannel.config.cni
    lines = text.splitlines()
    assert all('"items"' not in lines[pod.origin.line - 1] and lines[pod.origin.line - 1].strip() == "{" for pod in same.pods)


def test_a_typed_list_names_the_kind_of_its_items() -> None:
    nodes = [item for item in yaml.safe_load(FLANNEL.read_text(encoding="utf-8"))["items"] if item["kind"] == "Node"]
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in nodes]
    loaded = k8s.load_objects([{"apiVersion": "v1", "kind": "NodeList", "items": bare}], "x")
    assert [node.name for node in loaded.nodes] == ["control-plane", "worker-1", "worker-2"]


@pytest.mark.slow
def test_a_thousand_pods_with_all_their_fields_load_within_seconds() -> None:
    items = yaml.safe_load(FLANNEL.read_text(encoding="utf-8"))["items"]
    pattern = yaml.safe_dump([item for item in items if item["metadata"]["name"] == "cache-0"])
    nodes = yaml.safe_dump([item for item in items if item["kind"] == "Node"])
    pods = [pattern.replace("cache-0", f"cache-{n}").replace("10.244.1.6", f"10.244.{n // 250}.{n % 250 + 2}") for n in range(1000)]
    text = "apiVersion: v1\nkind: List\nitems:\n" + nodes + "".join(pods)
    start = time.process_time()
    assert len(k8s.load_text(text, "big.yaml").pods) == 1000
    assert time.process_time() - start < 20
