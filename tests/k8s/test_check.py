"""Contradictions are one line with file, line, what is wrong and what to do."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from dataplane import k8s
from dataplane.errors import InputError
from k8s.helpers import NODES, cluster, load, pod, service

STORED = "uid: 3f2c"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: web}, META}
addressType: IPv4
endpoints: [{addresses: [10.244.0.9], nodeName: NODE, targetRef: {kind: Pod, name: not-dumped}}]
ports: [{port: 80}]
"""


def policy(spec: str) -> str:
    return f"\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"


def node(spec: str = "", status: str = "", annotations: str = "") -> str:
    meta = f"{{name: n9, annotations: {{{annotations}}}}}"
    return f"\napiVersion: v1\nkind: Node\nmetadata: {meta}\nspec: {{{spec}}}\nstatus: {{{status}}}\n"


def host(fields: str) -> str:
    return cluster(f"underlay: {{cidr: 192.168.1.0/24, hosts: [{{name: h, address: 192.168.1.50}}, {{{fields}}}]}}")


BAD = {
    # fields
    "port number": (service("a", "ports: [{port: 70000}]"), "spec.ports[0].port is 70000; write a number from 1 to 65535"),
    "port type": (service("a", "ports: [{port: [80]}]"), "must be a whole number, not a list"),
    "quoted port": (service("a", "ports: [{port: '80'}]"), "must be a whole number, not a string"),
    "boolean port": (service("a", "ports: [{port: yes}]"), "must be a whole number, not a boolean"),
    "ports type": (service("a", "ports: {port: 80}"), "spec.ports must be a list, not a mapping"),
    "spec type": ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: [1]", "spec must be a mapping, not a list"),
    "label type": (
        pod("a", metadata="annotations: {x: 5}"),
        "metadata.annotations.x must be a string, not a number; put the value in quotes",
    ),
    "service type": (service("a", "type: Balancer"), "spec.type is 'Balancer'; write one of ClusterIP, NodePort"),
    "target port in quotes": (service("a", "ports: [{port: 80, targetPort: '8080'}]"), "targetPort is a number in quotes"),
    "cluster IP": (service("a", "clusterIP: 10.96.0.300"), "spec.clusterIP is '10.96.0.300', which is no IP address"),
    "two cluster IPs": (service("a", "clusterIP: 10.96.0.3, clusterIPs: [10.96.0.4]"), "clusterIPs begins with '10.96.0.4'"),
    "families": (service("a", "clusterIP: 10.96.0.3, ipFamilies: [IPv6]"), "the cluster IPs are IPv4"),
    "families of two": (service("a", "clusterIPs: [10.96.0.3, 'fd00::3'], ipFamilies: [IPv6, IPv4]"), "make them agree"),
    "family twice": (service("a", "ipFamilies: [IPv6, IPv6]"), "spec.ipFamilies is IPv6, IPv6; name each family once"),
    "family word": (service("a", "ipFamilies: [ipv6]"), "spec.ipFamilies[0] is 'ipv6'; write IPv4 or IPv6"),
    "family policy": (
        service("a", "ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6]"),
        "spec.ipFamilyPolicy is SingleStack, but there are two families; write PreferDualStack or RequireDualStack",
    ),
    "two cluster IPs of a family": (
        service("a", "clusterIPs: ['fd00:10:96::3', 'fd00:10:96::4']"),
        "spec.clusterIPs has fd00:10:96::4 as a second one of IPv6; leave one of each family",
    ),
    "cluster IP with a zone": (service("a", "clusterIP: 'fe80::1%eth0'"), "spec.clusterIP is 'fe80::1%eth0', which is no IP address"),
    "cluster IP mapped": (service("a", "clusterIP: '::ffff:10.96.0.3'"), "is '::ffff:10.96.0.3', which is no IP address; write it as"),
    "external IP with a zone": (service("a", "externalIPs: ['fd00::1%1']"), "externalIPs[0] is 'fd00::1%1', which is no IP address"),
    "long source range": (service("a", "loadBalancerSourceRanges: ['fd00::/129']"), "is 'fd00::/129', which is no CIDR"),
    "unnamed ports": (service("a", "ports: [{port: 80}, {port: 81}]"), "name is missing; name every port"),
    "twice a port name": (service("a", "ports: [{name: x, port: 80}, {name: x, port: 81}]"), "is 'x' for the second time"),
    "twice a port": (service("a", "ports: [{name: x, port: 80}, {name: y, port: 80}]"), "is 80 TCP for the second time"),
    "source range": (service("a", "loadBalancerSourceRanges: [10.0.0.0]"), "loadBalancerSourceRanges[0] is '10.0.0.0', which is no CIDR"),
    "pod address": (pod("a", status="podIP: 10.244.0"), "status.podIP is '10.244.0', which is no IP address"),
    "pod address mapped": (pod("a", status="podIPs: [{ip: '::ffff:10.244.0.5'}]"), "'::ffff:10.244.0.5', which is no IP address"),
    "pod address with a zone": (pod("a", status="podIP: 'fe80::5%eth0'"), "status.podIP is 'fe80::5%eth0', which is no IP address"),
    "two pod addresses of a family": (
        pod("a", status="podIPs: [{ip: 'fd00::5'}, {ip: 'fd00::6'}]"),
        "status.podIPs has fd00::6 as a second one of IPv6; leave one of each family",
    ),
    "pod address of both fields": (pod("a", status="podIP: 10.244.0.5, podIPs: [{ip: 'fd00::5'}]"), "but podIPs begins with fd00::5"),
    "pod MAC": (pod("a", metadata="annotations: {dataplane/mac: '01:00:00:00:00:01'}"), "a multicast address"),
    "half a MAC": (pod("a", metadata="annotations: {dataplane/mac: '02:00'}"), "is '02:00', which is no MAC address"),
    "device name": (pod("a", metadata="annotations: {dataplane/host-interface: a/b}"), "names the device 'a/b', which Linux refuses"),
    "long device name": (node(annotations="dataplane/interfaces: '{\"sixteen-letters-\": {}}'"), "use at most 15 characters"),
    "interfaces": (node(annotations="dataplane/interfaces: '{eth0'"), "is not JSON"),
    "interface address": (
        node(annotations='dataplane/interfaces: \'{"eth0": {"addresses": ["1.2.3"]}}\''),
        "is '1.2.3', which is no address",
    ),
    "node address": (node(status="addresses: [{type: InternalIP, address: n9}]"), "status.addresses[0].address is 'n9'"),
    "two podCIDRs of a family": (
        node("podCIDRs: ['fd00:1::/64', 'fd00:2::/64']"),
        "spec.podCIDRs has fd00:2::/64 as a second one of IPv6; leave one of each family",
    ),
    "long podCIDR": (node("podCIDRs: ['fd00:1::/129']"), "spec.podCIDRs[0] is 'fd00:1::/129', which is no CIDR"),
    "network of the other family": (
        cluster("cni: {name: flannel, config: {IPv6Network: 10.244.0.0/16}}"),
        "IPv6Network is 10.244.0.0/16; write a prefix of IPv6",
    ),
    "name": (pod("A_b"), "metadata.name is 'A_b'"),
    "no name": ("apiVersion: v1\nkind: Pod\nmetadata: {}", "metadata.name is missing; add it"),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}", "the object has no kind"),
    "no version": ("kind: Pod\nmetadata: {name: a}", "the object has no apiVersion"),
    "no mapping": ("- 5", "an object must be a mapping"),
    "list items": ("apiVersion: v1\nkind: List\nitems: {a: 1}", "items of List must be a list"),
    "our version": ("apiVersion: dataplane/v2\nkind: Cluster", "apiVersion is dataplane/v2; write dataplane/v1alpha1"),
    "our kind": ("apiVersion: dataplane/v1alpha1\nkind: Clutser", "kind Clutser of dataplane/v1alpha1 is not known"),
    "two clusters": (cluster("") + "---" + cluster(""), "a second kind: Cluster"),
    "slice family": (SLICE.replace("IPv4", "IPv6").replace("META", "").replace("NODE", "n1"), "is 10.244.0.9, but addressType is IPv6"),
    "policy type": (policy("{policyTypes: [Both]}"), "policyTypes[0] is 'Both'; write Ingress or Egress"),
    "policy peer": (policy("{ingress: [{from: [{}]}]}"), "add one of the three"),
    "policy block": (
        policy("{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}"),
        "11.0.0.0/8, which is not inside 10.0.0.0/8",
    ),
    "policy operator": (policy("{podSelector: {matchExpressions: [{key: a, operator: Is}]}}"), "operator is 'Is'"),
    "policy values": (policy("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"), "values is empty"),
    "policy range": (policy("{ingress: [{ports: [{port: 90, endPort: 80}]}]}"), "endPort is 80, which is below port 90"),
    "pod CIDR": (cluster("podCIDR: 10.244.0.1/16"), "has bits set after the prefix; write 10.244.0.0/16"),
    "pod CIDR without room": (cluster("podCIDR: 10.244.0.0/32"), "which has no room"),
    "latency": (cluster("underlay: {latency: fast}"), "underlay.latency is 'fast'; write a number and ns, us, ms or s"),
    "latency below a nanosecond": (cluster("underlay: {latency: 0.5ns}"), "no whole number of nanoseconds"),
    "mode": (cluster("proxy: {mode: userspace}"), "proxy.mode is 'userspace'"),
    "block size": (cluster("cni: {name: calico, ipPools: [{cidr: 10.244.0.0/24, blockSize: 20}]}"), "write a number from 24 to 32"),
    "sysctl": (cluster("sysctls: {net.ipv4.ip_forward: on}"), "must be a whole number, not a boolean"),
    # the cluster as a whole
    "node twice": (NODES.replace("n2", "n1"), "the object is there already, at t.yaml:"),
    "node address twice": (NODES.replace(".11", ".10"), "address 192.168.1.10 is taken by t.yaml:"),
    "pod address twice": (pod("b", status="podIP: 10.244.0.5") + "---" + pod("a", status="podIP: 10.244.0.5"), "10.244.0.5 is taken by"),
    "pod with a node's address": (pod("a", status="podIP: 192.168.1.10"), "address 192.168.1.10 is taken by"),
    "cluster IP twice": (service("a", "clusterIP: 10.96.0.3") + "---" + service("b", "clusterIP: 10.96.0.3"), "10.96.0.3 is taken by"),
    "MAC twice": (
        host("name: g, address: 192.168.1.1, mac: '02:00:00:00:00:01'").replace("50}", "50, mac: '02:00:00:00:00:01'}"),
        "is taken on the underlay by",
    ),
    "node port twice": (
        service("a", "type: NodePort, ports: [{port: 1, nodePort: 30001}]")
        + "---"
        + service("b", "type: NodePort, ports: [{port: 2, nodePort: 30001}]"),
        "nodePort 30001 TCP is taken by t.yaml:",
    ),
    "overlap of pods and services": (cluster("podCIDR: 10.96.0.0/16"), "service CIDR 10.96.0.0/12 overlaps with pod CIDR 10.96.0.0/16"),
    "overlap of underlay and services": (
        cluster("serviceCIDR: 192.168.0.0/16, underlay: {cidr: 192.168.1.0/24}"),
        "overlaps with service CIDR",
    ),
    "overlap of nodes": (
        node("podCIDR: 10.244.0.0/16", "addresses: [{type: InternalIP, address: 192.168.1.5}]")
        + "---"
        + node("podCIDR: 10.244.3.0/24").replace("n9", "n8"),
        "podCIDR 10.244.3.0/24 overlaps with 10.244.0.0/16",
    ),
    "node among pods": (cluster("podCIDR: 192.168.0.0/16, underlay: {cidr: 10.0.0.0/24}"), "192.168.1.10 lies in pod CIDR 192.168.0.0/16"),
    "node off the underlay": (cluster("underlay: {cidr: 172.16.0.0/24}"), "192.168.1.10 lies in no underlay CIDR"),
    "gateway off the underlay": (
        cluster("underlay: {cidr: 192.168.1.0/24, defaultGateway: 10.0.0.1}"),
        "default gateway 10.0.0.1 lies in no",
    ),
    "cluster IP among pods": (cluster("podCIDR: 10.244.0.0/16") + "---" + service("a", "clusterIP: 10.244.9.9"), "lies in pod CIDR"),
    "pod without a node": (pod("a", "n77"), "there is no node 'n77'; correct spec.nodeName or add the Node"),
    "slice without a service": (SLICE.replace("META", "").replace("NODE", "n1"), "there is no Service default/web"),
    "host behind nobody": (host("name: g, address: 192.168.1.1, behind: x"), "behind names 'x', which is no other host"),
    "host with a node's name": (host("name: n1, address: 192.168.1.1"), "the name is taken by"),
    "port name": (
        pod("a") + "---" + service("web", "selector: {app: web}, ports: [{port: 80, targetPort: htpp}]"),
        "targetPort 'htpp' is no TCP port of the pods that it selects, default/a for one",
    ),
    "port name of another protocol": (
        pod("a") + "---" + service("web", "selector: {app: web}, ports: [{port: 80, targetPort: http, protocol: UDP}]"),
        "targetPort 'http' is no UDP port",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(InputError) as caught:
        load(text) if text.startswith(NODES[:40]) else load(NODES, text)
    message = str(caught.value)
    assert words in message
    assert re.match(r"t\.yaml:\d+: .+; .+$|no kind: Cluster given", message), message
    assert "\n" not in message


def test_the_line_is_that_of_the_field() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: 80\n  - name: b\n    port: 99999\n"
    with pytest.raises(InputError, match=r"^t\.yaml:7: Service default/a: spec\.ports\[0\]\.name is missing; "):
        load(text)
    with pytest.raises(InputError, match=r"^t\.yaml:9: Service default/a: spec\.ports\[1\]\.port is 99999; "):
        load(text.replace("- port: 80", "- {port: 80, name: a}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (pod("a", "gone", metadata=STORED), "there is no node 'gone'; the pod is left out"),
        (SLICE.replace("META", STORED).replace("NODE", "n1"), "there is no Service default/web"),
        (pod("a") + "---" + service("web", "selector: {app: web}, ports: [{port: 80, targetPort: htpp}]", STORED), "targetPort 'htpp'"),
        (SLICE.replace("META", "").replace("NODE", "gone") + "---" + service("web"), "nodeName 'gone' is no node"),
        (
            service("a", "clusterIP: 10.1.0.9")
            + "---"
            + service("b", "clusterIP: 10.200.0.9")
            + "---"
            + cluster("serviceCIDR: 10.1.0.0/16"),
            "10.200.0.9 lies in no service CIDR",
        ),
        (pod("a", status="podIP: 10.244.77.1") + "---" + pod("b", status="podIP: 10.244.1.1"), ""),
        (service("a", "port: 80, ports: [{port: 80}]"), "t.yaml:17: Service default/a: spec.port is no known field and is ignored"),
        (cluster("podCidr: 10.0.0.0/8"), "t.yaml:17: Cluster c: spec.podCidr is no known field"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
            "ignored objects of kinds that are not read: 1 Deployment (apps/v1)",
        ),
    ],
)
def test_what_real_clusters_get_into_is_a_warning(text: str, words: str) -> None:
    warnings = load(NODES, text).warnings
    assert len(warnings) == 1 if words else len(warnings) <= 1
    assert all(words in line and "\n" not in line for line in warnings)


def test_pods_of_a_node_that_is_gone_are_left_out() -> None:
    assert load(NODES, pod("a", "gone", metadata=STORED), pod("b")).pods[0].name == "b"


def test_a_slice_may_name_a_pod_that_was_not_dumped() -> None:
    loaded = load(NODES, SLICE.replace("META", "").replace("NODE", "n1"), service("web"))
    assert loaded.warnings == ()
    assert loaded.endpoint_slices[0].endpoints[0].target == "default/not-dumped"


def test_other_kinds_of_ours_are_handed_on_as_written() -> None:
    text = "apiVersion: dataplane/v1alpha1\nkind: Traffic\nspec:\n  flows: [{from: a}]\n"
    ((data, origin),) = load(NODES, text).extra
    assert data["spec"] == {"flows": [{"from": "a"}]}
    assert (origin.file, origin.what) == ("t.yaml", "Traffic") and origin.line == 13


def test_files_directories_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "sub"
    below.mkdir()
    (tmp_path / "nodes.yml").write_text(NODES)
    (below / "pod.json").write_text('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"nodeName": "n1"}}')
    (below / "notes.txt").write_text("no manifest")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(service("web").encode())))
    loaded = k8s.load([str(tmp_path), "-"])
    assert [len(loaded.nodes), len(loaded.pods), len(loaded.services)] == [2, 1, 1]
    assert loaded.pods[0].origin.file == str(below / "pod.json")
    assert loaded.services[0].origin.file == "<stdin>"


def test_sources_that_are_no_manifests(tmp_path: Path) -> None:
    missing, empty, binary = tmp_path / "missing.yaml", tmp_path / "empty.yaml", tmp_path / "binary.yaml"
    empty.write_text("# nothing\n---\n")
    binary.write_bytes(b"a: 1\nb: \xff\xfe\n")
    for path, words in (
        (missing, "missing.yaml: cannot be read: No such file or directory; "),
        (empty, "empty.yaml: no object in it; "),
        (binary, "binary.yaml:2: byte 8 is not UTF-8; "),
    ):
        with pytest.raises(InputError) as caught:
            k8s.load([str(path)])
        assert words in str(caught.value)
    missing.mkdir()
    with pytest.raises(InputError, match=r"holds no \*\.yaml"):
        k8s.load([str(missing)])
    with pytest.raises(InputError, match="cannot be read: "):
        k8s.load(["bad\0name" + os.sep])
