"""Setup commands do to the core what the same words do to Linux."""

from __future__ import annotations

from typing import Any

import pytest

from control.clusters import build_fake, cluster
from control.fake_engine import UNKNOWN_SYSCTL, FakeEngine
from dataplane.control.setup import apply
from dataplane.control.topology import Topology
from dataplane.errors import InputError

MAC = "02:00:00:00:00:99"


class Machine:
    """A cluster and a prompt in it."""

    def __init__(self) -> None:
        built: tuple[FakeEngine, Topology] = build_fake(cluster(underlay={"cidr": "192.168.0.0/24", "defaultGateway": "192.168.0.254"}))
        self.engine, self.topology = built

    def __call__(self, commands: str, namespace: str = "n1") -> None:
        engine: Any = self.engine
        apply(self.topology, engine, namespace, commands)

    def refused(self, commands: str, namespace: str = "n1") -> str:
        with pytest.raises(InputError) as caught:
            self(commands, namespace)
        return str(caught.value)


@pytest.fixture
def run() -> Machine:
    return Machine()


def test_a_link_takes_several_settings_at_once(run: Machine) -> None:
    run(f"ip link set dev eth0 mtu 1400 address {MAC} up")
    assert run.engine.device("n1/eth0").settings == {"up": True, "mtu": 1400, "mac": bytes.fromhex(MAC.replace(":", ""))}
    run("ip l set eth0 down", "a")
    assert run.engine.device("a/eth0").settings["up"] is False


def test_a_link_moves_between_bridges(run: Machine) -> None:
    port = run.engine.all_devices[run.engine.device("a/eth0").peer]
    run(f"ip link set {port.name} nomaster")
    assert port.settings["master"] == -1
    run(f"ip link set {port.name} master cni0")
    assert run.engine.all_devices[port.settings["master"]].name == "cni0"


def test_addresses_come_and_go(run: Machine) -> None:
    run("ip addr add 192.168.0.77/32 dev eth0 && ip address add 172.16.0.1/16 brd + dev eth0")
    assert run.engine.device("n1/eth0").addresses == ["192.168.0.1/24", "192.168.0.77/32", "172.16.0.1/16 brd 172.16.255.255"]
    run("ip addr del 192.168.0.77/32 dev eth0")
    assert "192.168.0.77/32" not in run.engine.device("n1/eth0").addresses


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("ip route add 10.9.0.0/16 via 192.168.0.2", "10.9.0.0/16 via 192.168.0.2"),
        ("ip route add 10.9.0.1 dev eth0 scope link", "10.9.0.1/32 dev eth0 scope link"),
        ("ip route add blackhole 203.0.113.32/28", "blackhole 203.0.113.32/28"),
        ("ip route add unreachable 203.0.113.0/28", "unreachable 203.0.113.0/28"),
        ("ip route add prohibit 203.0.113.16/28", "prohibit 203.0.113.16/28"),
        ("ip route add throw 203.0.113.48/28", "throw 203.0.113.48/28"),
        ("ip r a 10.9.0.0/16 via 10.8.0.1 dev eth0 onlink metric 5", "10.9.0.0/16 via 10.8.0.1 dev eth0 onlink metric 5"),
        ("ip route add 10.9.0.0/16 dev eth0 src 192.168.0.1 mtu 1200", "10.9.0.0/16 dev eth0 src 192.168.0.1 mtu 1200"),
        ("ip -6 route add blackhole 2001:db8::/48", "blackhole 2001:db8::/48 metric 1024"),
        ("ip route add 2001:db8:1::/48 dev eth0", "2001:db8:1::/48 dev eth0 metric 1024"),
        ("ip route add default via fe80::1 dev eth0", "::/0 via fe80::1 dev eth0 metric 1024"),
        ("ip -6 route add default via fe80::2 dev eth0", "::/0 via fe80::2 dev eth0 metric 1024"),
        ("ip -6 route add 2001:db8::/48 via fe80::1 dev eth0", "2001:db8::/48 via fe80::1 dev eth0 metric 1024"),
        ("ip -6 route add 2001:db8::/48 dev eth0 metric 5 mtu 1300", "2001:db8::/48 dev eth0 metric 5 mtu 1300"),
        ("ip -6 route add 2001:db8::/48 dev eth0 mtu lock 1200", "2001:db8::/48 dev eth0 metric 1024 mtu lock 1200"),
    ],
)
def test_a_route_is_added_as_written(run: Machine, command: str, line: str) -> None:
    before = run.engine.routes_of("n1")
    run(command)
    assert [route for route in run.engine.routes_of("n1") if route not in before] == [line]


def test_a_default_route_is_replaced_and_deleted(run: Machine) -> None:
    run("ip route replace default via 192.168.0.2")
    assert "0.0.0.0/0 via 192.168.0.2" in run.engine.routes_of("n1")
    assert "0.0.0.0/0 via 192.168.0.254 dev eth0" not in run.engine.routes_of("n1")
    run("ip route change default via 192.168.0.3; ip route del default")
    assert not any(route.startswith("0.0.0.0/0") for route in run.engine.routes_of("n1"))
    assert "there is no such route" in run.refused("ip route del default")
    assert "there is no such route to change" in run.refused("ip route change default via 192.168.0.3")


def test_neighbours_come_and_go(run: Machine) -> None:
    run(
        f"ip neigh add 192.168.0.9 lladdr {MAC} dev eth0 nud permanent; ip neighbor replace 192.168.0.8 lladdr {MAC} dev eth0 nud reachable"
    )
    assert run.engine.device("n1/eth0").neighbours == [f"192.168.0.9 {MAC}", f"192.168.0.8 {MAC} dynamic"]
    run("ip neigh del 192.168.0.9 dev eth0")
    assert "there is no such neighbour" in run.refused("ip neigh del 192.168.0.9 dev eth0")
    run("ip neigh flush all")
    assert run.engine.flushed == [(run.engine.names.index("n1"), "neighbours")]


def test_addresses_are_proxied_one_by_one(run: Machine) -> None:
    run("ip -6 neigh add proxy fd00::9 dev eth0; ip neigh add proxy 2001:db8::1 dev eth0; ip -6 neigh del proxy fd00::9 dev eth0")
    assert run.engine.device("n1/eth0").proxies == ["2001:db8::1"]
    assert "there is no such proxied address" in run.refused("ip -6 neigh del proxy fd00::9 dev eth0")
    assert "only IPv6 addresses are proxied" in run.refused("ip neigh add proxy 10.1.1.9 dev eth0")
    assert "dev is missing" in run.refused("ip -6 neigh add proxy fd00::9")


def test_forwarding_tables_of_bridges_and_tunnels(run: Machine) -> None:
    port = run.engine.all_devices[run.engine.device("a/eth0").peer]
    known = list(port.fdb)
    run(f"bridge fdb add {MAC} dev {port.name} master static; bridge fdb append 02:00:00:00:00:98 dev {port.name} master")
    run(f"bridge fdb replace 02:00:00:00:00:97 dev {port.name} master dynamic")
    assert port.fdb == [*known, MAC, "02:00:00:00:00:98 local", "02:00:00:00:00:97 dynamic"]
    run(f"bridge fdb add {MAC} dev flannel.1 dst 192.168.0.9 self permanent")
    assert f"{MAC} dst 192.168.0.9" in run.engine.device("n1/flannel.1").fdb
    run(f"bridge fdb del {MAC} dev flannel.1")
    assert "there is no such entry" in run.refused(f"bridge fdb del {MAC} dev flannel.1")
    assert "say master" in run.refused(f"bridge fdb add {MAC} dev {port.name}")


def test_port_settings_of_a_bridge(run: Machine) -> None:
    port = run.engine.all_devices[run.engine.device("a/eth0").peer]
    run(f"bridge link set dev {port.name} hairpin off learning off")
    assert (port.settings["hairpin"], port.settings["learning"]) == (False, False)


def test_sysctl_writes_every_device_that_a_pattern_fits(run: Machine) -> None:
    run("sysctl -qw net.ipv4.conf.*.rp_filter=2 net.ipv4.ip_default_ttl=32")
    for device in ("all", "default", "lo", "eth0", "cni0", "flannel/1"):
        assert run.engine.sysctl("n1", f"net.ipv4.conf.{device}.rp_filter") == 2
    assert run.engine.sysctl("n1", "net.ipv4.ip_default_ttl") == 32
    assert run.engine.sysctl("n2", "net.ipv4.ip_default_ttl") is None


def test_iptables_rules_take_effect_at_once(run: Machine) -> None:
    key = (run.engine.names.index("n1"), 4, "filter")
    run('iptables -I FORWARD -s 10.1.1.2 -m comment --comment "no; way" -j DROP')
    forward = {chain.name: chain.rules for chain in run.engine.rules[key]}["FORWARD"]
    assert (forward[0]["src"], forward[0]["target"], forward[0]["comment"]) == ((bytes([10, 1, 1, 2]), 32), "DROP", "no; way")
    run("iptables -D FORWARD 1")
    assert len({chain.name: chain.rules for chain in run.engine.rules[key]}["FORWARD"]) == len(forward) - 1
    run("ip6tables -A INPUT -j DROP", "a")
    assert [chain.name for chain in run.engine.rules[run.engine.names.index("a"), 6, "filter"] if chain.rules] == ["INPUT"]


def masquerades_at_random(engine: FakeEngine) -> set[bool]:
    chains = (chain for namespace in ("n1", "n2") for chain in engine.rules[engine.names.index(namespace), 4, "nat"])
    return {bool(rule.get("random")) for chain in chains for rule in chain.rules if rule["target"] == "MASQUERADE"}


def test_the_clusters_masquerade_changes_on_all_nodes(run: Machine) -> None:
    run("cluster masquerade=default")
    assert masquerades_at_random(run.engine) == {False}
    run("cluster masquerade=random-fully")
    assert masquerades_at_random(run.engine) == {True}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("tc qdisc add dev eth0 root netem", "'tc' is not a setup command"),
        ("ip rule add from all", "'rule' is not a known ip object"),
        ("ip link add x type dummy", "no encapsulation is called dummy"),
        ("ip link set eth9 up", "n1 has no interface 'eth9'"),
        ("ip link set eth0 mtu much", "mtu must be a number, not 'much'"),
        ("ip link set eth0 promisc on", "'promisc' is not a link setting"),
        ("ip addr add 10.0.0.1/24", "dev is missing"),
        ("ip addr add 10.0.0.1/99 dev eth0", "address must be an address or a prefix"),
        ("ip -4 addr add fd00::1/64 dev eth0", "is not IPv4"),
        ("ip route add 10.9.0.0/16 via fe80::1 dev eth0", "via fe80::1 is not IPv4"),
        ("ip route add 10.9.0.1/16 via 192.168.0.2", "write 10.9.0.0/16"),
        ("ip route add 10.1.2.0/24 via 192.168.0.2", "exists"),
        ("ip route add 10.9.0.0/16 table 7", "'table' is not a route attribute"),
        ("ip neigh add 10.0.0.1 dev eth0", "lladdr is missing"),
        ("ip neigh add 10.0.0.1 lladdr 02:00 dev eth0", "is no MAC address"),
        ("bridge vlan add vid 3 dev eth0", "'vlan' is not a known bridge object"),
        ("bridge fdb add 02:00:00:00:00:01", "dev is missing"),
        ("sysctl net.ipv4.ip_forward", "use sysctl -w NAME=VALUE"),
        ("sysctl -w net.ipv4.ip_forward=yes", "is not NAME=NUMBER"),
        (f"sysctl -w {UNKNOWN_SYSCTL}=1", "is not emulated"),
        ("sysctl -w net.ipv4.conf.wlan*.rp_filter=1", "fits no device"),
        ("iptables -A NOWHERE -j DROP", "NOWHERE"),
        ("cluster masquerade=sometimes", "use cluster masquerade=random-fully"),
        ('ip link set "eth0 up', "No closing quotation"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_reason(run: Machine, command: str, reason: str) -> None:
    message = run.refused(command)
    assert reason in message
    assert "setup of n1" in message or "setup:" in message


def test_an_unknown_namespace_is_named(run: Machine) -> None:
    assert "no node, pod or host is called 'n7'" in run.refused("ip link set eth0 up", "n7")
