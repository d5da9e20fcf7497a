"""``dataplane get``: what kubectl, iproute2 and conntrack would show of the same cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataplane.cli.main import main

TRAFFIC = """
apiVersion: dataplane/v1alpha1
kind: Traffic
metadata: {name: three}
spec:
  flows:
  - {name: echo, kind: ping, from: pod/default/p15, to: pod/default/p16}
  - {name: web, kind: tcp, from: pod/default/p15, to: service/default/local1, sourcePort: 41000}
  - {name: closed, kind: udp, from: pod/default/p15, to: "pod/default/p16:9", sourcePort: 41001, listen: false}
"""


@pytest.fixture
def flannel(cases: Path) -> str:
    return str(cases / "kernel" / "cluster-flannel-vxlan.yaml")


@pytest.fixture
def calico(cases: Path) -> str:
    return str(cases / "kernel" / "cluster-calico-bgp.yaml")


@pytest.fixture
def dump(checkout: Path) -> str:
    """What kubectl printed of a cluster with three nodes."""
    return str(checkout / "tests" / "k8s" / "data" / "kubectl-flannel.yaml")


@pytest.fixture
def busy(flannel: str, tmp_path: Path) -> str:
    """The Flannel cluster with end systems that answer, and traffic."""
    text = Path(flannel).read_text(encoding="utf-8").replace("endSystems: silent", "endSystems: answer")
    path = tmp_path / "busy.yaml"
    path.write_text(f"{text}\n---\n{TRAFFIC}", encoding="utf-8")
    return str(path)


class Get:
    """Runs the verb; ``said`` is what it wrote on standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.said = ""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        assert main(["get", *arguments]) == status
        out, self.said = self._capsys.readouterr()
        return out

    def table(self, *arguments: str) -> list[dict[str, str]]:
        """Cells by column: a cell begins where its heading does."""
        head, *lines = self(*arguments).splitlines()
        columns = list(re.finditer(r"\S+(?: \S+)*", head))
        ends = [column.start() for column in columns[1:]] + [None]
        return [{column[0]: line[column.start() : end].strip() for column, end in zip(columns, ends, strict=True)} for line in lines]

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        found = json.loads(self(*arguments, "-o", "json"))
        assert (found["kind"], found["apiVersion"]) == ("List", "v1")
        items: list[dict[str, Any]] = found["items"]
        return items


@pytest.fixture
def get(capsys: pytest.CaptureFixture[str]) -> Get:
    return Get(capsys)


def line_of(path: str, kind: str, name: str) -> int:
    """The line on which the document of this object begins."""
    start = 1
    for document in Path(path).read_text(encoding="utf-8").split("---\n"):
        data = yaml.safe_load(document)
        if data and (data["kind"], data["metadata"]["name"]) == (kind, name):
            return start
        start += document.count("\n") + 1
    raise AssertionError(name)


# ---- Kubernetes objects
def test_pods_in_the_default_namespace_with_their_addresses_and_nodes(get: Get, flannel: str) -> None:
    rows = get.table("pods", "-f", flannel, "-o", "wide")
    assert [(row["NAME"], row["STATUS"], row["IP"], row["NODE"]) for row in rows] == [
        ("p15", "Running", "10.244.1.5", "node1"),
        ("p16", "Running", "10.244.1.6", "node1"),
        ("p210", "Running", "10.244.2.10", "node2"),
        ("p211", "Running", "10.244.2.11", "node2"),
    ]
    assert rows[0]["ORIGIN"] == f"{flannel}:{line_of(flannel, 'Pod', 'p15')}"


@pytest.mark.parametrize(
    ("resource", "name", "first", "all_of_them"),
    [
        ("pods", "web-1", ("IP", "10.244.2.5"), ("ALL IPS", "10.244.2.5,fd00:10:244:2::5")),
        ("nodes", "node1", ("INTERNAL-IP", "192.168.0.11"), ("ALL IPS", "192.168.0.11,fd00:192:168::11")),
        ("services", "modern", ("CLUSTER-IP", "fd00:10:96::90"), ("ALL CLUSTER-IPS", "fd00:10:96::90,10.96.0.90")),
    ],
)
def test_kubectls_column_has_the_first_address_and_a_wide_one_all(
    get: Get, checkout: Path, resource: str, name: str, first: tuple[str, str], all_of_them: tuple[str, str]
) -> None:
    (row,) = get.table(resource, name, "-f", str(checkout / "pcaps" / "sample6" / "cluster.yaml"), "-o", "wide")
    assert row[first[0]] == first[1]
    assert row[all_of_them[0]] == all_of_them[1]


def test_endpoints_are_of_both_families(get: Get, checkout: Path) -> None:
    (row,) = get.table("endpoints", "modern", "-f", str(checkout / "pcaps" / "sample6" / "cluster.yaml"), "-o", "wide")
    addresses = {"10.244.1.6:8080", "10.244.2.5:8080", "[fd00:10:244:1::6]:8080", "[fd00:10:244:2::5]:8080"}
    assert set(row["ALL ENDPOINTS"].split(",")) == addresses


def test_columns_of_pods_are_those_of_kubectl(get: Get, dump: str) -> None:
    narrow = get("pods", "-f", dump).splitlines()[0].split()
    assert narrow == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    wide = get("pods", "-f", dump, "-A", "-o", "wide").splitlines()[0]
    assert wide.split()[:8] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]


@pytest.mark.parametrize("word", ["pods", "pod", "po"])
def test_namespaces_are_chosen_as_with_kubectl(get: Get, dump: str, word: str) -> None:
    assert "coredns-7db6d8ff4d-2bq8x" not in get(word, "-f", dump)
    assert [row["NAME"] for row in get.table(word, "-f", dump, "-n", "kube-flannel")] == [
        "kube-flannel-ds-a9k2l",
        "kube-flannel-ds-b9k2l",
        "kube-flannel-ds-c9k2l",
    ]
    everything = {(row["NAMESPACE"], row["NAME"]) for row in get.table(word, "-f", dump, "-A")}
    assert {("default", "cache-0"), ("kube-system", "coredns-7db6d8ff4d-2bq8x")} < everything


def test_ready_containers_and_restarts(get: Get, dump: str, flannel: str) -> None:
    shown = {row["NAME"]: (row["READY"], row["RESTARTS"]) for row in get.table("pods", "-f", dump)}
    assert shown["cache-0"] == ("1/1", "0")
    assert shown["hungry-1"] == ("0/1", "0")
    assert [row["READY"] for row in get.table("pods", "-f", flannel)] == ["1/1"] * 4  # written by hand, without states


def test_names_may_follow_options(get: Get, flannel: str) -> None:
    assert get("pods", "-f", flannel, "-o", "name", "p16") == "pod/p16\n"


def test_states_of_pods(get: Get, dump: str) -> None:
    states = {row["NAME"]: row["STATUS"] for row in get.table("pods", "-f", dump)}
    assert states["web-5d8c6b7f9d-old77"] == "Terminating"
    assert states["hungry-1"] == "Pending"
    assert states["evicted-1"] == "Failed"
    unscheduled = next(row for row in get.table("pods", "hungry-1", "-f", dump, "-o", "wide"))
    assert (unscheduled["IP"], unscheduled["NODE"]) == ("<none>", "<none>")


def test_names_select_in_the_order_given(get: Get, flannel: str) -> None:
    assert get("pods", "p211", "p15", "-f", flannel, "-o", "name") == "pod/p211\npod/p15\n"


def test_one_object_by_name_is_no_list(get: Get, flannel: str) -> None:
    pod = yaml.safe_load(get("pods", "p15", "-f", flannel, "-o", "yaml"))
    assert (pod["kind"], pod["metadata"]["name"], pod["status"]["podIP"]) == ("Pod", "p15", "10.244.1.5")
    assert pod["metadata"]["annotations"]["dataplane/origin"] == f"{flannel}:{line_of(flannel, 'Pod', 'p15')}"
    assert [item["metadata"]["name"] for item in get.items("pods", "-f", flannel)] == ["p15", "p16", "p210", "p211"]


def test_nodes(get: Get, dump: str, flannel: str) -> None:
    rows = get.table("no", "-f", dump, "-o", "wide")
    assert [(row["NAME"], row["STATUS"], row["ROLES"], row["INTERNAL-IP"]) for row in rows] == [
        ("control-plane", "Ready", "control-plane", "10.0.2.10"),
        ("worker-1", "Ready", "<none>", "10.0.2.11"),
        ("worker-2", "Ready", "<none>", "10.0.2.12"),
    ]
    assert get("nodes", "-f", flannel, "-o", "name") == "node/node1\nnode/node2\n"


def test_services_of_all_types(get: Get, dump: str, flannel: str) -> None:
    shown = {row["NAME"]: row for row in get.table("svc", "-f", dump, "-A", "-o", "wide")}
    expected = {
        "web": ("NodePort", "10.107.41.7", "<none>", "80:31517/TCP", "app=web"),
        "cache": ("ClusterIP", "None", "<none>", "6379/TCP", "app=cache"),
        "partner": ("ExternalName", "<none>", "<unknown>", "<none>", "<none>"),
        "kube-dns": ("ClusterIP", "10.96.0.10", "<none>", "53/UDP,53/TCP,9153/TCP", "k8s-app=kube-dns"),
    }
    columns = ("TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "SELECTOR")
    assert {name: tuple(shown[name][column] for column in columns) for name in expected} == expected
    balanced = next(row for row in get.table("services", "web", "-f", flannel))
    assert (balanced["TYPE"], balanced["EXTERNAL-IP"], balanced["PORT(S)"]) == ("LoadBalancer", "192.168.1.200", "80:30080/TCP")


def test_endpoints_are_three_and_how_many_more(get: Get, dump: str, flannel: str) -> None:
    shown = {row["NAME"]: row["ENDPOINTS"] for row in get.table("ep", "-f", flannel)}
    assert shown["web"] == "10.244.1.6:8080,10.244.2.10:8080,10.244.2.11:8080"
    assert shown["empty"] == "<none>"
    (dns,) = get.table("ep", "kube-dns", "-n", "kube-system", "-f", dump)
    assert dns["ENDPOINTS"].endswith(" + 3 more...")  # two pods, three ports


def test_nothing_found_is_said_beside_an_empty_result(get: Get, flannel: str) -> None:
    assert get("pods", "-n", "nowhere", "-f", flannel) == ""
    assert get.said == "No pods found in nowhere namespace.\n"


# ---- what machines hold
def test_routes_as_ip_route_words_them(get: Get, flannel: str, calico: str) -> None:
    assert [row["ROUTE"] for row in get.table("routes", "-f", flannel, "--node", "node1")] == [
        "default via 192.168.1.1 dev eth0",
        "10.244.1.0/24 dev cni0 scope link src 10.244.1.1",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "192.168.1.0/24 dev eth0 scope link src 192.168.1.100",
    ]
    routed = [row["ROUTE"] for row in get.table("route", "node1", "-f", calico)]
    assert "blackhole 10.244.1.0/24" in routed
    assert "10.244.1.5 dev cali15 scope link" in routed
    assert "10.244.2.0/24 via 192.168.1.101 dev eth0" in routed


def test_a_route_names_the_node_whose_pods_it_leads_to(get: Get, flannel: str) -> None:
    (remote,) = [item for item in get.items("routes", "-f", flannel, "--node", "node1") if item["prefix"] == "10.244.2.0"]
    assert (remote["kind"], remote["machine"], remote["via"], remote["dev"]) == ("Route", "node/node1", "10.244.2.0", "flannel.1")
    assert remote["origin"] == f"{flannel}:{line_of(flannel, 'Node', 'node2')}"


def test_all_routes_are_those_of_table_local_too(get: Get, flannel: str) -> None:
    routes = [row["ROUTE"] for row in get.table("routes", "--all", "-f", flannel, "--node", "node1")]
    assert "local 192.168.1.100 dev eth0 table local scope host src 192.168.1.100" in routes
    assert "broadcast 10.244.1.255 dev cni0 table local scope link src 10.244.1.1" in routes


def test_pods_and_hosts_have_routes_when_asked_for(get: Get, flannel: str) -> None:
    rows = get.table("routes", "pod/default/p15", "host/cl", "-f", flannel)
    assert {"MACHINE": "p15", "ROUTE": "default via 10.244.1.1 dev eth0"} in rows
    assert {row["MACHINE"] for row in rows} == {"p15", "cl"}


def test_neighbours_and_fdb_as_iproute2_words_them(get: Get, flannel: str) -> None:
    neighbours = [row["NEIGHBOUR"] for row in get.table("neigh", "-f", flannel, "--node", "node1")]
    assert "10.244.2.0 dev flannel.1 lladdr 02:00:00:00:f1:02 PERMANENT" in neighbours
    assert "192.168.1.101 dev eth0 lladdr 02:00:00:00:02:00 PERMANENT" in neighbours
    assert [row["ENTRY"] for row in get.table("fdb", "-f", flannel, "--node", "node1")] == [
        "02:00:00:00:e1:05 dev veth15 master cni0 permanent",
        "02:00:00:00:e1:06 dev veth16 master cni0 permanent",
        "02:00:0a:f4:01:01 dev cni0 master cni0 permanent",
        "02:00:0a:f4:01:05 dev veth15 master cni0 static",
        "02:00:0a:f4:01:06 dev veth16 master cni0 static",
        "02:00:00:00:f1:02 dev flannel.1 dst 192.168.1.101 self permanent",
    ]


def test_interfaces(get: Get, flannel: str) -> None:
    rows = {row["NAME"]: row for row in get.table("interfaces", "-f", flannel, "--node", "node2")}
    assert list(rows) == ["lo", "eth0", "cni0", "veth210", "veth211", "flannel.1"]
    assert rows["flannel.1"] == {
        "MACHINE": "node2", "NAME": "flannel.1", "KIND": "vxlan", "MAC": "02:00:00:00:f1:02", "MTU": "1450", "STATE": "UP",
        "MASTER": "<none>", "ADDRESSES": "10.244.2.0/32",
    }  # fmt: skip
    assert rows["veth210"]["MASTER"] == "cni0"
    (eth0,) = [item for item in get.items("link", "pod/default/p15", "-f", flannel) if item["name"] == "eth0"]
    assert (eth0["peer"], eth0["mac"], eth0["addresses"]) == ("node1/veth15", "02:00:0a:f4:01:05", ["10.244.1.5/24"])


def test_rules_name_the_service_behind_them(get: Get, flannel: str) -> None:
    (entry,) = [
        item
        for item in get.items("rules", "-f", flannel, "--node", "node1")
        if item["chain"] == "KUBE-SERVICES" and item["table"] == "nat" and "default/hair:http cluster IP" in item["rule"]
    ]
    assert "-d 10.96.0.13/32" in entry["rule"]
    assert entry["origin"] == f"{flannel}:{line_of(flannel, 'Service', 'hair')}"


# ---- after traffic
def test_conntrack_holds_the_connections_of_the_traffic(get: Get, busy: str) -> None:
    rows = get.table("conntrack", "-f", busy, "--node", "node1")
    connections = [(row["PROTO"], row["STATE"], row["ORIGINAL"], row["REPLY"], row["STATUS"]) for row in rows]
    # local1 has one endpoint, p16; the pods are local, so nothing is masqueraded
    assert ("tcp", "TIME_WAIT", "10.244.1.5:41000 > 10.96.0.11:80", "10.244.1.6:8080 > 10.244.1.5:41000", "ASSURED") in connections
    # bridge-nf-call-iptables lets the bridge's own traffic pass conntrack; the error that answers is no reply
    assert ("udp", "<none>", "10.244.1.5:41001 > 10.244.1.6:9", "10.244.1.6:9 > 10.244.1.5:41001", "UNREPLIED") in connections
    assert get.said == "after 3 flows, at " + get.said.split(", at ")[1]


def test_drops_are_counted_by_reason(get: Get, busy: str) -> None:
    rows = get.table("drops", "-f", busy, "-o", "wide")
    assert [(row["REASON"], row["COUNT"], row["LINUX"], row["PLACES"]) for row in rows] == [
        ("local/udp_no_socket", "1", "NO_SOCKET", "p16/eth0"),
    ]
    assert get("drops", "-f", busy, "--node", "node2") == ""


def test_every_reason_is_listed_on_demand(get: Get, busy: str) -> None:
    from dataplane._core import drop_reasons

    rows = {item["reason"]: item for item in get.items("drops", "--all", "-f", busy)}
    assert set(rows) == {reason.name for reason in drop_reasons()} - {""}
    assert rows["local/udp_no_socket"]["count"] == 1
    assert (rows["forward/ttl_expired"]["count"], rows["forward/ttl_expired"]["linux"]) == (0, "IP_INHDR")


@pytest.mark.parametrize("resource", ["conntrack", "drops"])
def test_without_traffic_the_table_is_empty_and_one_line_says_why(get: Get, flannel: str, resource: str) -> None:
    assert get(resource, "-f", flannel) == ""
    assert get.said == f"nothing was sent, so {resource} is empty: add a document of kind: Traffic to -f\n"


# ---- bad input
def test_an_unknown_resource_lists_the_known_ones(get: Get, flannel: str) -> None:
    get("pots", "-f", flannel, status=2)
    assert get.said.count("\n") == 1
    assert all(word in get.said for word in ("'pots'", "pods (pod, po)", "services (service, svc)", "interfaces", "drops"))


def test_an_unknown_node_lists_the_nodes(get: Get, flannel: str) -> None:
    get("routes", "--node", "node9", "-f", flannel, status=2)
    assert get.said == "dataplane: node/node9: there is no such node: there are node/node1, node/node2\n"


def test_an_unknown_pod_lists_the_pods(get: Get, flannel: str) -> None:
    get("pods", "p99", "-f", flannel, status=2)
    assert get.said == "dataplane: pods 'p99' not found in namespace default: there are p15, p16, p210, p211\n"


@pytest.mark.parametrize("option", [("--node", "node1"), ("--all",)])
def test_an_option_without_meaning_is_refused(get: Get, flannel: str, option: tuple[str, ...]) -> None:
    get("services", "-f", flannel, *option, status=2)
    assert get.said.startswith(f"dataplane: {option[0]} has no meaning for services: ")


def test_a_flow_that_names_nothing_is_bad_input(get: Get, flannel: str, tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.yaml"
    traffic.write_text(TRAFFIC.replace("pod/default/p16", "pod/default/p99"), encoding="utf-8")
    get("conntrack", "-f", flannel, "-f", str(traffic), status=2)
    assert get.said.startswith(f"dataplane: {traffic}:")
