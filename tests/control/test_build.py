"""What manifests beyond the recorded clusters become in the core."""

from __future__ import annotations

from typing import Any

import pytest

from control.clusters import build_fake, cluster, dual_node, pod
from control.fake_engine import UNKNOWN_SYSCTL
from dataplane.errors import InputError


def test_pods_without_a_network_of_their_own_have_no_namespace() -> None:
    engine, topology = build_fake(
        pod("a", "n1", "10.1.1.2"), pod("done", "n1", "10.1.1.3", phase="Succeeded"), pod("proxy", "n2", "192.168.0.2", host_network=True)
    )
    assert engine.names == ["underlay", "n1", "n2", "a"]
    assert topology.endpoint("pod/default/proxy") is topology.endpoint("node/n2")
    with pytest.raises(InputError, match=r"test.yaml:\d+ .*no network: phase Succeeded"):
        topology.endpoint("pod/default/done")


def test_pods_of_other_namespaces_and_namesakes_keep_apart() -> None:
    engine, topology = build_fake(pod("n1", "n1", "10.1.1.2"), pod("kube-system/dns", "n1", "10.1.1.3"))
    assert engine.names == ["underlay", "n1", "n2", "pod/default/n1", "kube-system/dns"]
    assert topology.endpoint("pod/kube-system/dns").name == "kube-system/dns"
    assert topology.device_id("kube-system/dns/eth0") == topology.endpoint("pod/kube-system/dns").eth0


def test_a_cable_carries_half_of_the_underlays_latency() -> None:
    engine, _ = build_fake(cluster(underlay={"cidr": "192.168.0.0/24", "latency": "30us"}))
    assert engine.device("n1/eth0").latency == 15_000
    assert engine.device("a/eth0").latency == 0


def test_without_static_neighbours_only_tunnel_ends_are_known() -> None:
    engine, _ = build_fake(cluster())
    assert [engine.device(name).neighbours for name in ("n1/eth0", "n1/cni0", "a/eth0")] == [[], [], []]
    assert [line.split()[0] for line in engine.device("n1/flannel.1").neighbours] == ["10.1.2.0"]


def test_answering_pods_have_no_rules() -> None:
    engine, _ = build_fake(cluster())
    assert {engine.names[namespace] for namespace, _, _ in engine.rules} == {"n1", "n2"}


def test_direct_routing_needs_no_tunnel_between_neighbours() -> None:
    engine, _ = build_fake(cluster(cni={"name": "flannel", "config": {"Backend": {"Type": "vxlan", "DirectRouting": True}}}))
    assert "10.1.2.0/24 via 192.168.0.2 dev eth0" in engine.routes_of("n1")


def test_a_bridge_without_default_gateway_reaches_only_pods() -> None:
    engine, _ = build_fake(cluster(cni={"name": "flannel", "delegate": {"isDefaultGateway": False, "hairpinMode": False}}))
    assert engine.routes_of("a") == ["10.1.0.0/16 via 10.1.1.1 dev eth0"]
    port = engine.all_devices[engine.device("a/eth0").peer]
    assert port.settings["hairpin"] is False


@pytest.mark.parametrize(("vni", "name"), [(1, "flannel.1"), (4096, "flannel.4096")])
def test_the_tunnel_is_named_after_its_vni(vni: int, name: str) -> None:
    engine, _ = build_fake(cluster(cni={"name": "flannel", "config": {"Backend": {"Type": "vxlan", "VNI": vni, "Port": 4789}}}))
    assert (engine.device(f"n1/{name}").params["id"], engine.device(f"n1/{name}").params["port"]) == (vni, 4789)


def test_tunnel_and_pods_follow_the_uplinks_mtu_and_a_written_one_wins() -> None:
    engine, _ = build_fake(cluster(underlay={"cidr": "192.168.0.0/24", "mtu": 9000}))
    assert [engine.device(name).mtu for name in ("n1/eth0", "n1/flannel.1", "n1/cni0", "a/eth0")] == [9000, 8950, 8950, 8950]
    engine, _ = build_fake(cluster(cni={"name": "calico", "mtu": 1440}))
    assert [engine.device(name).mtu for name in ("n1/eth0", "a/eth0")] == [1500, 1440]


def calico(**pool: Any) -> dict[str, Any]:
    return cluster(cni={"name": "calico", "ipPools": [{"cidr": "10.1.0.0/16", "natOutgoing": True, **pool}]})


def test_calico_announces_blocks_and_borrowed_addresses() -> None:
    engine, _ = build_fake(calico(blockSize=26), pod("a", "n1", "10.1.1.2"), pod("b", "n2", "10.1.2.2"), pod("guest", "n2", "10.1.1.3"))
    assert "blackhole 10.1.1.0/26" in engine.routes_of("n1")
    assert {"10.1.1.0/26 via 192.168.0.1 dev eth0", "blackhole 10.1.2.0/26"} <= set(engine.routes_of("n2"))
    assert {"10.1.2.0/26 via 192.168.0.2 dev eth0", "10.1.1.3/32 via 192.168.0.2 dev eth0"} <= set(engine.routes_of("n1"))


def test_calico_names_interfaces_after_the_pod() -> None:
    engine, _ = build_fake(calico())
    name = "cali" + "acd53aa4120"  # echo -n default.a | sha1sum
    assert engine.all_devices[engine.device("a/eth0").peer].name == name
    assert engine.sysctl("n1", f"net.ipv4.conf.{name}.proxy_arp") == 1


def nat_outgoing(**pool: Any) -> list[dict[str, Any]]:
    engine, _ = build_fake(calico(**pool))
    chains = {chain.name: chain.rules for chain in engine.rules[engine.names.index("n1"), 4, "nat"]}
    return list(chains.get("cali-nat-outgoing", []))


def test_calico_masquerades_from_a_pool_to_outside_all_pools() -> None:
    network = (bytes([10, 1, 0, 0]), 16)
    inside, outside = nat_outgoing()
    assert (inside["dst"], inside["target"]) == (network, "RETURN")
    assert (outside["src"], outside["target"], outside["random"]) == (network, "MASQUERADE", True)
    assert nat_outgoing(natOutgoing=False) == []


@pytest.mark.parametrize(
    ("cni", "message"),
    [
        ({"name": "weave"}, "cni.name 'weave' is not supported"),
        ({"name": "flannel", "config": {"Backend": {"Type": "udp"}}}, "Backend.Type 'udp' is not supported"),
        ({"name": "flannel", "config": {"Backend": {"Type": "geneve", "color": 3}}}, "geneve: option 'color' is unknown"),
        ({"name": "flannel", "config": {"Backend": {"Type": "geneve", "port": "far"}}}, "geneve: option 'port' is unknown or its value"),
        ({"name": "flannel", "config": {"Backend": {"Type": "wireguard", "ListenPort": -1}}}, "Backend.ListenPort is -1"),
        ({"name": "flannel", "config": {"Backend": {"VNI": "one"}}}, "Backend.VNI must be a whole number"),
        ({"name": "calico", "ipPools": [{"cidr": "10.1.0.0/16", "ipipMode": "Always", "vxlanMode": "Always"}]}, "exclude each other"),
        ({"name": "calico", "ipPools": [{"cidr": "fd00::/64", "ipipMode": "Always"}]}, "ipipMode is only for IPv4 pools"),
    ],
)
def test_a_data_path_we_do_not_carry_is_named_with_its_line(cni: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_fake(cluster(cni=cni))
    assert str(caught.value).startswith("test.yaml:")
    assert message in str(caught.value)


def test_another_proxy_mode_is_named_with_its_line() -> None:
    with pytest.raises(InputError, match=r"test.yaml:1 .*proxy.mode 'ipvs' is not supported"):
        build_fake(cluster(proxy={"mode": "ipvs"}))


def test_a_pod_outside_its_nodes_cidr_is_named_with_its_line() -> None:
    with pytest.raises(InputError, match=r"10\.1\.9\.9 is not in the podCIDR of node n1"):
        build_fake(pod("a", "n1", "10.1.9.9"))


def test_a_setting_that_is_not_emulated_is_a_warning() -> None:
    _, topology = build_fake(cluster(sysctls={UNKNOWN_SYSCTL: 1, "net.ipv4.ip_default_ttl": 32}))
    assert [warning.split(": ", 1)[1] for warning in topology.warnings] == [
        "sysctls: net.ipv4.conf.*.unknown_setting is not emulated and has no effect"
    ]


def test_dual_stack_has_both_families_side_by_side() -> None:
    underlay = {"cidrs": ["192.168.0.0/24", "fd00::/64"]}
    engine, _ = build_fake(cluster(underlay=underlay, podCIDRs=["10.1.0.0/16", "fd00:1::/32"]), dual_node(1), dual_node(2))
    tunnel = engine.device("n1/flannel-v6.1")
    assert (tunnel.mtu, tunnel.addresses[0]) == (1430, "fd00:1:1::/128")
    assert "fd00:1:2::/64 via fd00:1:2:: dev flannel-v6.1 onlink metric 1024" in engine.routes_of("n1")
    assert engine.device("n1/cni0").mtu == 1450


def test_flannel_without_ipv4_leaves_pods_more_than_its_tunnel_takes() -> None:
    """flanneld subtracts 50 bytes (pkg/backend/vxlan/vxlan_network.go, encapOverhead); the kernel's device over IPv6 loses 70."""
    alone = dual_node(1)
    alone["spec"] = {"podCIDR": "fd00:1:1::/64", "podCIDRs": ["fd00:1:1::/64"]}
    alone["status"]["addresses"].pop(0)
    engine, _ = build_fake(cluster(podCIDR="fd00:1::/48", underlay={"cidr": "fd00::/64"}), alone, pod("a", "n1", "fd00:1:1::2"))
    assert [engine.device(name).mtu for name in ("n1/flannel-v6.1", "n1/cni0", "a/eth0")] == [1430, 1450, 1450]
    assert engine.sysctl("n1", "net.ipv6.conf.all.forwarding") == 1
    assert engine.sysctl("a", "net.ipv6.conf.all.disable_ipv6") is None
