"""Kind Cluster: its fields, its schema, its document, and the recorded clusters."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dataplane import k8s
from dataplane.errors import InputError
from dataplane.k8s import cluster as fields
from k8s.helpers import NODES, cluster, load

SCHEMA: dict[str, Any] = json.loads(files("dataplane.k8s").joinpath("cluster.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
RECORDED = [
    *(f"{suite}/cluster-{mode}.yaml" for suite in ("kernel", "kernel-random") for mode in ("flannel-vxlan", "bgp", "calico-bgp")),
    *(f"kernel6/cluster6-{mode}.yaml" for mode in ("flannel-vxlan", "bgp", "calico-bgp")),
]


def examples(checkout: Path, language: str) -> list[str]:
    text = (checkout / "docs" / "cluster-files.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_clusters_are_taken_as_they_are(cases: Path, name: str) -> None:
    """Nothing is missing in them: every address, MAC, name and slice is the one that was written."""
    path = cases / name
    written = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    loaded = k8s.load([str(path)])
    assert loaded.warnings == ()
    assert all(item.origin.line for item in loaded.endpoint_slices)
    for pod, document in zip(loaded.pods, (document for document in written if document["kind"] == "Pod"), strict=True):
        annotations = document["metadata"]["annotations"]
        assert [str(address) for address in pod.addresses] == [entry["ip"] for entry in document["status"]["podIPs"]]
        assert pod.mac == annotations["dataplane/mac"]
        assert pod.host_interface == annotations["dataplane/host-interface"]
        assert pod.host_mac == annotations["dataplane/host-mac"]
    for service, document in zip(loaded.services, (document for document in written if document["kind"] == "Service"), strict=True):
        assert [str(address) for address in service.cluster_ips] == document["spec"]["clusterIPs"]
        assert [port.node_port for port in service.ports] == [port.get("nodePort", 0) for port in document["spec"]["ports"]]
    for node, document in zip(loaded.nodes, (document for document in written if document["kind"] == "Node"), strict=True):
        assert [str(cidr) for cidr in node.pod_cidrs] == document["spec"]["podCIDRs"]
        assert node.ipam_blocks[0] == node.pod_cidrs[0]
        devices = json.loads(document["metadata"]["annotations"]["dataplane/interfaces"])
        assert {device: hint.mac for device, hint in node.interfaces.items()} == {device: hint["mac"] for device, hint in devices.items()}


@pytest.mark.parametrize("name", RECORDED)
def test_the_schema_accepts_recorded_clusters(cases: Path, name: str) -> None:
    documents = yaml.safe_load_all((cases / name).read_text(encoding="utf-8"))
    VALIDATOR.validate(next(document for document in documents if document["kind"] == "Cluster"))


def test_the_fields_of_a_cluster() -> None:
    config = load(NODES, cluster(
        "cni: {name: calico, ipPools: [{cidr: 10.5.0.0/16}], mtu: 1400, masquerade: flannel},"
        "proxy: {mode: ipvs, clusterCIDR: '10.5.0.0/16', masqueradeAll: true, masqueradeRandomFully: false, localhostNodePorts: false,"
        "  nodePortAddresses: [primary, 10.0.0.0/8]},"
        "underlay: {cidr: 192.168.1.0/24, mtu: 9000, latency: 1.5ms, defaultGateway: 192.168.1.1, hosts:"
        "  [{name: c, address: 192.168.1.50, mac: '02:AA:00:00:00:50'}, {name: g, address: 192.168.1.1, behind: c}]},"
        "endSystems: silent, neighbours: static, sysctls: {net.ipv4.conf.*.rp_filter: 1, net.ipv4.ip_forward: '1'}"
    )).config  # fmt: skip
    assert config.pod_cidrs == config.proxy.cluster_cidrs == (ip_network("10.5.0.0/16"),)
    assert config.cni.ip_pools[0]["blockSize"] == 26 and config.cni.mtu == 1400 and config.cni.masquerade == "flannel"
    proxy, underlay = config.proxy, config.underlay
    assert (proxy.mode, proxy.masquerade_all, proxy.masquerade_random_fully, proxy.localhost_node_ports) == ("ipvs", True, False, False)
    assert proxy.node_port_addresses == ("primary", "10.0.0.0/8")
    assert (underlay.mtu, underlay.latency_ns, underlay.default_gateways) == (9000, 1_500_000, (ip_address("192.168.1.1"),))
    assert [(host.name, host.behind) for host in underlay.hosts] == [("c", None), ("g", "c")]
    assert underlay.hosts[0].mac == "02:aa:00:00:00:50"
    assert config.end_systems == "silent" and config.neighbours == "static"
    assert config.sysctls == {"net.ipv4.conf.*.rp_filter": 1, "net.ipv4.ip_forward": 1}


def test_defaults_hold_without_any_cluster() -> None:
    config = load(NODES).config
    assert (config.pod_cidrs, config.service_cidrs) == ((ip_network("10.244.0.0/16"),), (ip_network("10.96.0.0/12"),))
    assert (config.cni.name, config.proxy.mode, config.end_systems, config.neighbours) == ("flannel", "iptables", "answer", "resolve")
    assert config.underlay.latency_ns == 10_000 and config.underlay.mtu == 1500


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("10us", 10_000), ("0", 0), ("1 ms", 1_000_000), ("7ns", 7), ("0.25us", 250), ("2s", 2_000_000_000)]
)
def test_latency(text: str, nanoseconds: int) -> None:
    assert load(NODES, cluster(f"underlay: {{latency: {text}}}")).config.underlay.latency_ns == nanoseconds


def test_the_documents_examples_hold(checkout: Path) -> None:
    (example,) = examples(checkout, "yaml")
    loaded = k8s.load_text(example, "example.yaml")
    assert loaded.warnings == ()
    VALIDATOR.validate(yaml.safe_load(example.split("\n---\n")[0]))
    assert [str(address) for address in loaded.pods[0].addresses] == ["10.244.0.2", "fd00:10:244::2"]
    assert loaded.pods[0].node == "node1"
    assert loaded.endpoint_slices[0].endpoints[0].target == "default/web"


def test_the_documents_example_has_every_field(checkout: Path) -> None:
    (example,) = examples(checkout, "yaml")
    text = (checkout / "docs" / "cluster-files.md").read_text(encoding="utf-8")
    known = fields.SPEC_FIELDS | fields.CNI_FIELDS | fields.PROXY_FIELDS | fields.UNDERLAY_FIELDS | fields.HOST_FIELDS
    assert [name for name in sorted(known) if not re.search(rf"\b{name}\b", text)] == []
    assert "dataplane/interfaces" in example and "dataplane/host-mac" in example


def test_the_document_shows_a_real_error(checkout: Path) -> None:
    (shown,) = examples(checkout, "")[-1:]
    text = "\n" * 8 + "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 70000\n"
    with pytest.raises(InputError) as caught:
        k8s.load_text(text, "cluster.yaml")
    assert str(caught.value) == shown.strip()


def test_the_schema_knows_the_fields_that_are_read() -> None:
    definitions = SCHEMA["$defs"]
    for name, known in (
        ("spec", fields.SPEC_FIELDS), ("cni", fields.CNI_FIELDS), ("ipPool", fields.IP_POOL_FIELDS), ("proxy", fields.PROXY_FIELDS),
        ("underlay", fields.UNDERLAY_FIELDS), ("host", fields.HOST_FIELDS),
    ):  # fmt: skip
        assert set(definitions[name]["properties"]) == known
    assert set(definitions["cni"]["properties"]["delegate"]["properties"]) == fields.DELEGATE_FIELDS
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "spec",
    [
        {"podCIDR": 5}, {"podCIDR": "10.0.0.0"}, {"cni": {"masquerade": "calico"}}, {"proxy": {"mode": "x"}}, {"underlay": {"mtu": 67}},
        {"underlay": {"latency": "fast"}}, {"underlay": {"hosts": [{"name": "a"}]}}, {"sysctls": {"a": "b"}}, {"endSystems": "no"},
        {"underlay": {"hosts": [{"name": "a", "address": "10.0.0.1", "mac": "01:00:00:00:00:00"}]}}, {"neighbours": 1},
        {"cni": {"ipPools": [{"blockSize": 26}]}}, {"cni": {"delegate": {"hairpinMode": "x"}}}, {"proxy": {"masqueradeAll": "true"}},
    ],
)  # fmt: skip
def test_schema_and_loader_refuse_the_same(spec: dict[str, Any]) -> None:
    document = {"apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"}, "spec": spec}
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(InputError):
        k8s.load_objects([document], "x.yaml")
