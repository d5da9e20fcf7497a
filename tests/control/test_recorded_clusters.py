"""The three recorded clusters have, in the core, what the recorder set up with ip(8), bridge(8) and sysctl(8)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from control.fake_engine import FakeEngine
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load

MODES = ("flannel-vxlan", "bgp", "calico-bgp")
EE = "ee:ee:ee:ee:ee:ee"


class Built(NamedTuple):
    engine: FakeEngine
    topology: Topology


@cache
def built(cases: Path, mode: str) -> Built:
    engine: Any = FakeEngine()
    return Built(engine, build(load([str(cases / "kernel" / f"cluster-{mode}.yaml")]), engine))


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(cases: Path, mode: str) -> FakeEngine:
    return built(cases, mode).engine


@pytest.fixture
def topology(cases: Path, mode: str) -> Topology:
    return built(cases, mode).topology


def test_namespaces_are_called_as_the_cases_call_them(engine: FakeEngine) -> None:
    assert engine.names == ["underlay", "node1", "node2", "cl", "p15", "p16", "p210", "p211"]


def test_every_uplink_has_its_mac_and_address(engine: FakeEngine) -> None:
    found = {name: (engine.device(f"{name}/eth0").mac, engine.device(f"{name}/eth0").addresses) for name in ("node1", "node2", "cl")}
    assert found == {
        "node1": ("02:00:00:00:01:00", ["192.168.1.100/24"]),
        "node2": ("02:00:00:00:02:00", ["192.168.1.101/24"]),
        "cl": ("02:00:00:00:00:50", ["192.168.1.50/24"]),
    }


def test_the_switch_knows_the_listed_macs_learns_none_and_is_not_captured(engine: FakeEngine) -> None:
    ports = {name: engine.all_devices[engine.device(f"{name}/eth0").peer] for name in ("node1", "node2", "cl")}
    assert {name: port.fdb for name, port in ports.items()} == {
        "node1": ["02:00:00:00:01:00"],
        "node2": ["02:00:00:00:02:00"],
        "cl": ["02:00:00:00:00:50", "02:00:00:00:00:fe"],
    }
    bridge = engine.find_device(engine.names.index("underlay"), "br0")
    assert all(port.settings["master"] == bridge and port.settings["learning"] is False for port in ports.values())
    assert all(device.settings["capture"] is False for device in (*ports.values(), engine.all_devices[bridge]))
    assert engine.all_devices[bridge].addresses == []
    assert engine.sysctl("underlay", "net.bridge.bridge-nf-call-iptables") == 0


def test_everybody_on_the_underlay_knows_everybody_from_the_start(engine: FakeEngine) -> None:
    client, gateway = "192.168.1.50 02:00:00:00:00:50", "192.168.1.1 02:00:00:00:00:fe"
    node1, node2 = "192.168.1.100 02:00:00:00:01:00", "192.168.1.101 02:00:00:00:02:00"
    assert sorted(engine.device("node1/eth0").neighbours) == sorted([client, gateway, node2])
    assert sorted(engine.device("node2/eth0").neighbours) == sorted([client, gateway, node1])
    assert sorted(engine.device("cl/eth0").neighbours) == sorted([gateway, node1, node2])


def test_only_nodes_forward_and_call_iptables_from_bridges(engine: FakeEngine) -> None:
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        assert {owner: engine.sysctl(owner, name) for owner in ("node1", "node2", "cl", "p15")} == {
            "node1": 1, "node2": 1, "cl": None, "p15": None,
        }  # fmt: skip


def test_written_settings_reach_every_device_of_a_node(engine: FakeEngine) -> None:
    assert engine.sysctl("node1", "net.ipv4.icmp_ratelimit") == 0
    for device in ("all", "default", "lo", "eth0"):
        assert engine.sysctl("node2", f"net.ipv4.conf.{device}.rp_filter") == 0
        assert engine.sysctl("node2", f"net.ipv4.conf.{device}.route_localnet") == 1
    assert engine.sysctl("node2", "net.ipv4.neigh.eth0.retrans_time_ms") == 30


def test_ipv6_is_off_everywhere(engine: FakeEngine) -> None:
    assert {engine.sysctl(name, "net.ipv6.conf.all.disable_ipv6") for name in engine.names} == {1}


def test_pods_and_hosts_drop_all_in_the_raw_table_and_nodes_have_none(engine: FakeEngine) -> None:
    silent = {engine.names[namespace] for namespace, family, table in engine.rules if (family, table) == (4, "raw")}
    assert silent == {"cl", "p15", "p16", "p210", "p211"}
    chains = {chain.name: [rule["target"] for rule in chain.rules] for chain in engine.rules[engine.names.index("p15"), 4, "raw"]}
    assert chains == {"PREROUTING": ["DROP"], "OUTPUT": ["DROP"]}


@pytest.mark.parametrize(("mode", "mtu"), [("flannel-vxlan", 1450), ("bgp", 1500)], indirect=["mode"])
def test_a_bridge_joins_the_pods_of_a_node(engine: FakeEngine, mtu: int) -> None:
    bridge = engine.device("node1/cni0")
    assert (bridge.kind, bridge.mac, bridge.mtu, bridge.addresses) == (
        "bridge",
        "02:00:0a:f4:01:01",
        mtu,
        ["10.244.1.1/24 brd 10.244.1.255"],
    )
    assert sorted(bridge.neighbours) == ["10.244.1.5 02:00:0a:f4:01:05", "10.244.1.6 02:00:0a:f4:01:06"]
    port = engine.device("node1/veth15")
    assert (port.mac, port.mtu, port.fdb) == ("02:00:00:00:e1:05", mtu, ["02:00:0a:f4:01:05"])
    assert port.settings["hairpin"] is True
    assert engine.all_devices[port.settings["master"]] is bridge


@pytest.mark.parametrize(("mode", "mtu"), [("flannel-vxlan", 1450), ("bgp", 1500)], indirect=["mode"])
def test_a_bridged_pod_leaves_through_the_bridge(engine: FakeEngine, mtu: int) -> None:
    eth0 = engine.device("p210/eth0")
    assert (eth0.mac, eth0.mtu, eth0.addresses) == ("02:00:0a:f4:02:0a", mtu, ["10.244.2.10/24"])
    assert engine.all_devices[eth0.peer] is engine.device("node2/veth210")
    assert engine.routes_of("p210") == ["0.0.0.0/0 via 10.244.2.1 dev eth0"]
    assert eth0.neighbours == ["10.244.2.1 02:00:0a:f4:02:01"]


@pytest.mark.parametrize("mode", ["flannel-vxlan"], indirect=True)
def test_vxlan_leads_to_the_other_node(engine: FakeEngine) -> None:
    tunnel = engine.device("node1/flannel.1")
    assert (tunnel.kind, tunnel.mac, tunnel.mtu, tunnel.addresses) == ("vxlan", "02:00:00:00:f1:01", 1450, ["10.244.1.0/32"])
    assert tunnel.params["id"] == 1
    assert tunnel.params["port"] == 8472
    assert tunnel.params["local"] == bytes([192, 168, 1, 100])
    assert engine.all_devices[tunnel.params["dev"]] is engine.device("node1/eth0")
    assert tunnel.neighbours == ["10.244.2.0 02:00:00:00:f1:02"]
    assert tunnel.fdb == ["02:00:00:00:f1:02 dst 192.168.1.101"]
    assert engine.routes_of("node1") == ["0.0.0.0/0 via 192.168.1.1 dev eth0", "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink"]
    assert engine.routes_of("node2") == ["0.0.0.0/0 via 192.168.1.1 dev eth0", "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"]


@pytest.mark.parametrize("mode", ["bgp"], indirect=True)
def test_host_gateway_routes_lead_to_the_other_node(engine: FakeEngine) -> None:
    assert engine.routes_of("node1") == ["0.0.0.0/0 via 192.168.1.1 dev eth0", "10.244.2.0/24 via 192.168.1.101 dev eth0"]
    assert engine.devices_of("node1") == ["lo", "eth0", "cni0", "veth15", "veth16"]


@pytest.mark.parametrize("mode", ["calico-bgp"], indirect=True)
def test_calico_routes_to_pods_and_nodes(engine: FakeEngine) -> None:
    assert sorted(engine.routes_of("node1")) == sorted([
        "0.0.0.0/0 via 192.168.1.1 dev eth0",
        "10.244.1.5/32 dev cali15 scope link",
        "10.244.1.6/32 dev cali16 scope link",
        "10.244.2.0/24 via 192.168.1.101 dev eth0",
        "blackhole 10.244.1.0/24",
    ])  # fmt: skip
    host = engine.device("node1/cali15")
    assert (host.mac, host.mtu, host.addresses, host.neighbours) == (EE, 1500, [], ["10.244.1.5 02:00:0a:f4:01:05"])
    for setting, value in (
        ("conf.cali15.proxy_arp", 1),
        ("conf.cali15.rp_filter", 1),
        ("conf.cali15.route_localnet", 1),
        ("neigh.cali15.proxy_delay", 0),
    ):
        assert engine.sysctl("node1", f"net.ipv4.{setting}") == value
    assert engine.sysctl("node1", "net.ipv4.conf.eth0.rp_filter") == 0


@pytest.mark.parametrize("mode", ["calico-bgp"], indirect=True)
def test_a_calico_pod_has_one_address_and_a_gateway_nobody_owns(engine: FakeEngine) -> None:
    eth0 = engine.device("p15/eth0")
    assert (eth0.addresses, eth0.neighbours) == (["10.244.1.5/32"], [f"169.254.1.1 {EE}"])
    assert engine.routes_of("p15") == ["169.254.1.1/32 dev eth0 scope link", "0.0.0.0/0 via 169.254.1.1 dev eth0"]


def jumps(topology: Topology, table: str, chain: str) -> list[str]:
    """Targets of a base chain of node1 in order."""
    text = topology.firewalls[topology.namespace_id("node1")][4].save_text()
    section = text.partition(f"*{table}\n")[2].partition("COMMIT")[0]
    return [line.split(" -j ")[1].split()[0] for line in section.splitlines() if line.startswith(f"-A {chain} ")]


def test_flannels_chains_come_after_kube_proxys_in_all_data_paths(topology: Topology) -> None:
    assert jumps(topology, "filter", "FORWARD") == [
        "KUBE-PROXY-FIREWALL", "KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "FLANNEL-FWD",
    ]  # fmt: skip
    assert jumps(topology, "nat", "POSTROUTING") == ["KUBE-POSTROUTING", "FLANNEL-POSTRTG"]
    assert jumps(topology, "filter", "FLANNEL-FWD") == ["ACCEPT", "ACCEPT"]
    assert jumps(topology, "nat", "FLANNEL-POSTRTG") == ["RETURN", "RETURN", "RETURN", "RETURN", "MASQUERADE", "MASQUERADE"]


def test_flannel_masquerades_what_leaves_or_enters_the_pod_network(engine: FakeEngine, topology: Topology) -> None:
    chains = {chain.name: chain.rules for chain in engine.rules[engine.names.index("node2"), 4, "nat"]}
    network, subnet = (bytes([10, 244, 0, 0]), 16), (bytes([10, 244, 2, 0]), 24)
    kept, leaving, entering = chains["FLANNEL-POSTRTG"][1:4], chains["FLANNEL-POSTRTG"][4], chains["FLANNEL-POSTRTG"][5]
    assert [(rule["src"], rule.get("src_not", False), rule["dst"]) for rule in kept] == [
        (subnet, False, network), (network, False, subnet), (network, True, subnet),
    ]  # fmt: skip
    assert (leaving["src"], leaving["dst"], leaving["dst_not"]) == (network, (bytes([224, 0, 0, 0]), 4), True)
    assert (entering["src"], entering["src_not"], entering["dst"]) == (network, True, network)
    assert not leaving.get("random", False)
    assert str(topology.origins[leaving["origin"]]).endswith(f"{topology.manifests.config.origin.what})")


def test_only_the_underlays_switch_is_left_out_of_captures(engine: FakeEngine, topology: Topology) -> None:
    captured = {topology.device_name(device) for device in topology.device_ids()}
    assert {"node1/eth0", "node1/lo", "p15/eth0", "cl/eth0"} <= captured
    assert not any(name.startswith("underlay/") for name in captured)
    assert len(captured) == sum(engine.names[device.namespace] != "underlay" for device in engine.all_devices)


def test_a_route_names_the_manifest_of_the_node_it_leads_to(engine: FakeEngine, topology: Topology) -> None:
    origin = topology.origin(engine.route_origins[engine.names.index("node1"), "10.244.2.0/24"])
    assert origin is not None
    assert (origin.what, origin.line > 0) == ("Node node2", True)
