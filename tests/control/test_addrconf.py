"""Which IPv6 addresses devices have without anybody writing them, and what takes a device's IPv6 away."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest

from control.clusters import build_fake, cluster, dual_node
from control.fake_engine import FakeEngine
from dataplane.control.addrconf import link_local
from dataplane.control.setup import apply
from dataplane.control.topology import Topology
from dataplane.errors import InputError

SPEC: dict[str, Any] = {"podCIDRs": ["10.1.0.0/16", "fd00:1::/32"]}
UNDERLAY: dict[str, Any] = {"cidrs": ["192.168.0.0/24", "fd00::/64"], "defaultGateways": ["192.168.0.254", "fd00::254"]}


def dual(**underlay: Any) -> tuple[FakeEngine, Topology]:
    return build_fake(cluster(**SPEC, underlay=UNDERLAY | underlay), dual_node(1), dual_node(2))


class Node:
    """Node n1 of a dual-stack cluster, and a prompt on it."""

    def __init__(self) -> None:
        self.engine, self.topology = dual()

    def __call__(self, commands: str) -> None:
        engine: Any = self.engine
        apply(self.topology, engine, "n1", commands)

    def addresses(self) -> list[str]:
        return [address for address in self.engine.device("n1/eth0").addresses if ":" in address]

    def routes(self) -> list[str]:
        return [route for route in self.engine.routes_of("n1") if ":" in route and "dev eth0" in route]


@pytest.fixture
def node() -> Node:
    return Node()


def own_address(engine: FakeEngine, device: str) -> str:
    return str(link_local(bytes.fromhex(engine.device(device).mac.replace(":", ""))))


def test_a_link_local_address_is_made_of_the_mac() -> None:
    interface = link_local(bytes.fromhex("3456789abcde"))  # the example of RFC 2464 section 4
    assert str(interface) == "fe80::3656:78ff:fe9a:bcde/64"


def test_every_device_but_a_bridges_ports_has_its_own_address() -> None:
    engine, topology = dual()
    for device in ("n1/eth0", "n1/cni0", "n1/flannel.1", "n1/flannel-v6.1", "a/eth0"):
        address = own_address(engine, device)
        assert engine.device(device).addresses[-1] == address
        assert topology.macs[IPv6Address(address.partition("/")[0]).packed].hex(":") == engine.device(device).mac
    port = engine.all_devices[engine.device("a/eth0").peer]
    assert (port.addresses, engine.sysctl("n1", f"net.ipv6.conf.{port.name}.disable_ipv6")) == ([], 1)
    assert {tuple(engine.device(f"{name}/lo").addresses) for name in ("n1", "a")} == {("::1/128",)}
    assert engine.device("underlay/br0").addresses == []


def test_without_ipv6_no_machine_has_such_an_address() -> None:
    engine, topology = build_fake(cluster())
    assert not any(":" in address for device in topology.device_ids() for address in engine.all_devices[device].addresses)


def test_a_link_that_goes_down_loses_its_addresses_and_comes_up_with_its_own(node: Node) -> None:
    assert "::/0 via fd00::254 dev eth0 metric 1024" in node.routes()
    node("ip link set eth0 down")
    assert (node.addresses(), node.routes()) == ([], [])
    assert node.engine.device("n1/eth0").addresses == ["192.168.0.1/24"]
    node("ip link set eth0 up")
    assert node.addresses() == [own_address(node.engine, "n1/eth0")]


def test_ipv6_ends_below_an_mtu_of_1280(node: Node) -> None:
    node("ip link set eth0 mtu 1280")
    assert "fd00::1/64" in node.addresses()
    node("ip link set eth0 mtu 1279")
    assert (node.addresses(), node.routes()) == ([], [])
    with pytest.raises(InputError, match="IPv6 needs an MTU of 1280 bytes, this device has 1279"):
        node("ip -6 addr add fd00::1/64 dev eth0")
    node("ip link set eth0 mtu 1500; ip -6 addr add fd00::1/64 dev eth0 nodad")
    assert node.addresses() == [own_address(node.engine, "n1/eth0"), "fd00::1/64"]


def test_a_setting_turns_ipv6_off_and_on(node: Node) -> None:
    node("sysctl -w net.ipv6.conf.eth0.disable_ipv6=1")
    assert (node.addresses(), node.routes()) == ([], [])
    assert any(":" in address for address in node.engine.device("n1/cni0").addresses)
    with pytest.raises(InputError, match=r"IPv6 is off on this device: set net\.ipv6\.conf\.eth0\.disable_ipv6 to 0"):
        node("ip addr add fd00::1/64 dev eth0")
    node("ip addr add 192.168.0.77/32 dev eth0; sysctl -w net.ipv6.conf.eth0.disable_ipv6=0")
    assert node.addresses() == [own_address(node.engine, "n1/eth0")]


def test_an_ipv6_address_on_too_narrow_a_link_names_the_manifest() -> None:
    reason = "IPv6 address of eth0: IPv6 needs an MTU of 1280 bytes, this device has 1200: raise its mtu"
    with pytest.raises(InputError, match=rf"test.yaml:\d+ .*Node n1.*: {reason}"):
        dual(mtu=1200)


def test_a_silent_host_without_an_ipv6_address_keeps_quiet_about_its_own() -> None:
    host = {"name": "desk", "address": "192.168.0.9"}
    engine, _ = build_fake(cluster(**SPEC, endSystems="silent", underlay=UNDERLAY | {"hosts": [host]}), dual_node(1), dual_node(2))
    assert own_address(engine, "desk/eth0") in engine.device("desk/eth0").addresses
    chains = {chain.name: chain.rules for chain in engine.rules[engine.names.index("desk"), 6, "raw"]}
    assert [rule["target"] for rule in chains["OUTPUT"]] == ["ACCEPT", "ACCEPT", "DROP"]
