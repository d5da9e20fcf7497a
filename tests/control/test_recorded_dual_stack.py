"""The recorded dual-stack clusters have, in the core, the IPv6 that the recorder set up with ip(8), bridge(8) and sysctl(8)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from control.fake_engine import FakeEngine
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load

EE, GATEWAY = "ee:ee:ee:ee:ee:ee", "fe80::ecee:eeff:feee:eeee"
BRIDGED, ROUTED = ("flannel-vxlan", "bgp"), "calico-bgp"
DEFAULT = "::/0 via fd00:192:168:1::1 dev eth0 metric 1024"


class Built(NamedTuple):
    engine: FakeEngine
    topology: Topology

    def addresses(self, device: str) -> list[str]:
        return [address for address in self.engine.device(device).addresses if ":" in address]

    def neighbours(self, device: str) -> list[str]:
        return sorted(line for line in self.engine.device(device).neighbours if "::" in line.split()[0])

    def routes(self, namespace: str) -> list[str]:
        """Those that somebody added; what comes with addresses is the core's."""
        return sorted(line for line in self.engine.routes_of(namespace) if "::" in line)


@cache
def built(cases: Path, mode: str) -> Built:
    engine: Any = FakeEngine()
    return Built(engine, build(load([str(cases / "kernel6" / f"cluster6-{mode}.yaml")]), engine))


@pytest.fixture(params=[*BRIDGED, ROUTED])
def cluster(cases: Path, request: pytest.FixtureRequest) -> Built:
    return built(cases, str(request.param))


def bridged(cases: Path) -> list[Built]:
    return [built(cases, mode) for mode in BRIDGED]


def test_uplinks_have_the_written_and_the_link_local_address(cluster: Built) -> None:
    assert {name: cluster.addresses(f"{name}/eth0") for name in ("node1", "node2", "cl")} == {
        "node1": ["fd00:192:168:1::100/64", "fe80::ff:fe00:100/64"],
        "node2": ["fd00:192:168:1::101/64", "fe80::ff:fe00:200/64"],
        "cl": ["fd00:192:168:1::50/64", "fe80::ff:fe00:50/64"],
    }


def test_everybody_on_the_underlay_knows_everybody_from_the_start(cluster: Built) -> None:
    client, gateway = "fd00:192:168:1::50 02:00:00:00:00:50", "fd00:192:168:1::1 02:00:00:00:00:fe"
    node1, node2 = "fd00:192:168:1::100 02:00:00:00:01:00", "fd00:192:168:1::101 02:00:00:00:02:00"
    assert cluster.neighbours("node1/eth0") == sorted([client, gateway, node2])
    assert cluster.neighbours("node2/eth0") == sorted([client, gateway, node1])
    assert cluster.neighbours("cl/eth0") == sorted([gateway, node1, node2])


def test_nodes_forward_and_everybodys_discovery_is_quiet(cluster: Built) -> None:
    assert {name: cluster.engine.sysctl(name, "net.ipv6.conf.all.forwarding") for name in ("node1", "cl", "p15")} == {
        "node1": 1, "cl": None, "p15": None,
    }  # fmt: skip
    for name in ("node1", "cl", "p15"):
        for setting, value in (("conf.eth0.accept_dad", 0), ("conf.lo.dad_transmits", 0), ("neigh.eth0.retrans_time_ms", 30)):
            assert cluster.engine.sysctl(name, f"net.ipv6.{setting}") == value
        assert cluster.engine.sysctl(name, "net.ipv4.icmp_ratelimit") == (0 if name == "node1" else None)
    assert cluster.topology.warnings == []


def test_end_systems_let_only_discovery_through(cluster: Built) -> None:
    chains = {chain.name: chain.rules for chain in cluster.engine.rules[cluster.engine.names.index("p15"), 6, "raw"]}
    for chain in ("PREROUTING", "OUTPUT"):
        assert [(rule.get("icmp_type"), rule["target"]) for rule in chains[chain]] == [
            ((135, 0, 255), "ACCEPT"), ((136, 0, 255), "ACCEPT"), (None, "DROP"),
        ]  # fmt: skip


def test_a_bridge_joins_the_pods_of_a_node(cases: Path) -> None:
    for cluster in bridged(cases):
        assert cluster.addresses("node1/cni0") == ["fd00:10:244:1::1/64", "fe80::aff:fef4:101/64"]
        assert cluster.neighbours("node1/cni0") == ["fd00:10:244:1::5 02:00:0a:f4:01:05", "fd00:10:244:1::6 02:00:0a:f4:01:06"]
        assert cluster.addresses("p15/eth0") == ["fd00:10:244:1::5/64", "fe80::aff:fef4:105/64"]
        assert cluster.routes("p15") == ["::/0 via fd00:10:244:1::1 dev eth0 metric 1024"]
        assert cluster.neighbours("p15/eth0") == ["fd00:10:244:1::1 02:00:0a:f4:01:01"]
        assert (cluster.addresses("node1/veth15"), cluster.engine.sysctl("node1", "net.ipv6.conf.veth15.disable_ipv6")) == ([], 1)


def test_vxlan_over_ipv6_leads_to_the_other_node(cases: Path) -> None:
    cluster = built(cases, "flannel-vxlan")
    tunnel = cluster.engine.device("node1/flannel-v6.1")
    assert (tunnel.kind, tunnel.mac, tunnel.mtu) == ("vxlan", "02:00:00:00:f6:01", 1430)
    assert (tunnel.params["id"], tunnel.params["port"]) == (1, 8472)
    assert tunnel.params["local"] == bytes.fromhex("fd000192016800010000000000000100")
    assert cluster.engine.all_devices[tunnel.params["dev"]] is cluster.engine.device("node1/eth0")
    assert tunnel.addresses == ["fd00:10:244:1::/128", "fe80::ff:fe00:f601/64"]
    assert tunnel.neighbours == ["fd00:10:244:2:: 02:00:00:00:f6:02"]
    assert tunnel.fdb == ["02:00:00:00:f6:02 dst fd00:192:168:1::101"]
    assert cluster.routes("node1") == [DEFAULT, "fd00:10:244:2::/64 via fd00:10:244:2:: dev flannel-v6.1 onlink metric 1024"]


def test_host_gateway_routes_lead_to_the_other_node(cases: Path) -> None:
    cluster = built(cases, "bgp")
    assert cluster.routes("node1") == [DEFAULT, "fd00:10:244:2::/64 via fd00:192:168:1::101 dev eth0 metric 1024"]
    assert not any("flannel" in name for name in cluster.engine.devices_of("node1"))


def test_calico_routes_to_pods_and_nodes(cases: Path) -> None:
    cluster = built(cases, ROUTED)
    assert cluster.routes("node1") == sorted([
        DEFAULT,
        "fd00:10:244:1::5/128 dev cali15 metric 1024",
        "fd00:10:244:1::6/128 dev cali16 metric 1024",
        "fd00:10:244:2::/122 via fd00:192:168:1::101 dev eth0 metric 1024",
        "blackhole fd00:10:244:1::/122 metric 1024",
    ])  # fmt: skip
    assert cluster.addresses("node1/cali15") == [f"{GATEWAY}/64"]
    assert cluster.neighbours("node1/cali15") == ["fd00:10:244:1::5 02:00:0a:f4:01:05"]
    assert cluster.engine.sysctl("node1", "net.ipv6.conf.cali15.proxy_ndp") == 1
    assert cluster.engine.sysctl("node1", "net.ipv6.neigh.cali15.proxy_delay") == 0


def test_a_calico_pod_leaves_through_the_link_local_address_of_its_hosts_end(cases: Path) -> None:
    cluster = built(cases, ROUTED)
    assert cluster.addresses("p15/eth0") == ["fd00:10:244:1::5/128", "fe80::aff:fef4:105/64"]
    assert cluster.routes("p15") == [f"::/0 via {GATEWAY} dev eth0 metric 1024"]
    assert cluster.neighbours("p15/eth0") == [f"{GATEWAY} {EE}"]


def rule_texts(cluster: Built, chain: str) -> list[str]:
    text = cluster.topology.firewalls[cluster.topology.namespace_id("node2")][6].save_text()
    return [line.partition(" ")[2].partition(" ")[2] for line in text.splitlines() if line.startswith(f"-A {chain} ")]


def test_flannel_masquerades_in_all_data_paths(cluster: Built) -> None:
    network, subnet, comment = "fd00:10:244::/48", "fd00:10:244:2::/64", '-m comment --comment "flanneld masq"'
    assert rule_texts(cluster, "FLANNEL-POSTRTG") == [
        f"-m mark --mark 0x4000/0x4000 {comment} -j RETURN",
        f"-s {subnet} -d {network} {comment} -j RETURN",
        f"-s {network} -d {subnet} {comment} -j RETURN",
        f"! -s {network} -d {subnet} {comment} -j RETURN",
        f"-s {network} ! -d ff00::/8 {comment} -j MASQUERADE",
        f"! -s {network} -d {network} {comment} -j MASQUERADE",
    ]


def test_loopback_is_no_node_port_and_needs_no_rule_of_its_own(cluster: Built) -> None:
    *_, last = rule_texts(cluster, "KUBE-SERVICES")
    assert last.endswith("-j REJECT --reject-with icmp6-port-unreachable")  # table filter comes last
    assert [text for text in rule_texts(cluster, "KUBE-SERVICES") if text.startswith("! -d ::1/128") and text.endswith("-j KUBE-NODEPORTS")]
    assert rule_texts(cluster, "KUBE-FIREWALL") == []
