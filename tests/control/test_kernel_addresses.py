"""The same commands leave the same IPv6 addresses and routes in a real namespace and in the core."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest
import yaml

from control.clusters import cluster, dual_node
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.setup import apply
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.k8s import load_text
from dataplane.report.network import route_words
from kernel import netns

pytestmark = [pytest.mark.kernel, pytest.mark.may_skip("needs root and a recent Linux")]
HOST, ADDRESS, MAC = "cl", "fd00::50", "02:00:00:00:00:50"
QUIET = ("accept_dad", "dad_transmits", "router_solicitations", "accept_ra")
LEFT_OUT = {"pref", "medium", "proto", "kernel", "boot"}  # of what ip(8) prints: says nothing about where packets go
REJECTS = {"blackhole", "unreachable", "prohibit", "throw"}
SETTLED_WITHIN = 3.0  # seconds: carrier and addresses follow a link asynchronously


class Tables(NamedTuple):
    addresses: list[str]
    routes: list[str]


def plain(line: str) -> str:
    """A route with its attributes in no particular order."""
    words = line.split()
    if words[0] in REJECTS and "lo" in words:
        at = words.index("lo")  # where IPv6 keeps routes that lead nowhere
        del words[at - 1 : at + 1]
    zero = [at for at, word in enumerate(words) if word == "metric" and words[at + 1] == "0"]
    for at in reversed(zero):
        del words[at : at + 2]
    return " ".join(words[:2] + sorted(word for word in words[2:] if word not in LEFT_OUT))


class RealHost:
    """A namespace with a veth pair's end as eth0."""

    def __init__(self) -> None:
        self.name, self._peer = f"dp{os.getpid()}-host", f"dp{os.getpid()}-peer"
        netns.batch_global([f"netns add {self.name}", f"netns add {self._peer}"])
        for name in (self.name, self._peer):
            netns.set_sysctls(name, {f"net.ipv6.conf.{which}.{key}": 0 for which in ("all", "default") for key in QUIET})
        netns.batch(self.name, "ip", [f"link add eth0 address {MAC} type veth peer name eth0 netns {self._peer}"])
        netns.run(self.name, "ip link set lo up; ip link set eth0 up")
        netns.run(self._peer, "ip link set eth0 up")
        netns.run(self.name, f"ip -6 addr add {ADDRESS}/64 dev eth0 nodad")

    def close(self) -> None:
        for name in (self.name, self._peer):
            netns.remove(name)

    def refuses(self, command: str) -> bool:
        try:
            netns.run(self.name, command)
        except netns.CommandError:
            return True
        return False

    def tables(self) -> Tables:
        addresses = [line.split() for line in netns.run(self.name, "ip -6 -o addr").splitlines()]
        routes = netns.run(self.name, "ip -6 route show table all").splitlines()
        return Tables(sorted(f"{words[1]} {words[3]}" for words in addresses), sorted(plain(line) for line in routes))


class OurHost:
    """The same machine as a host of an underlay."""

    def __init__(self) -> None:
        host = {"name": HOST, "addresses": [ADDRESS], "mac": MAC}
        spec = cluster(podCIDRs=["10.1.0.0/16", "fd00:1::/32"], underlay={"cidrs": ["192.168.0.0/24", "fd00::/64"], "hosts": [host]})
        self.engine = Engine()
        self.topology: Topology = build(load_text(yaml.safe_dump_all([spec, dual_node(1)]), "test.yaml"), self.engine)
        self.namespace = self.topology.namespace_id(HOST)

    def refuses(self, command: str) -> bool:
        try:
            apply(self.topology, self.engine, HOST, command)
        except InputError:
            return True
        return False

    def tables(self) -> Tables:
        addresses = [
            f"{device['name']} {ip_address(each['address'])}/{each['prefix_len']}"
            for device in self.engine.devices(self.namespace)
            for each in device["addresses"]
            if len(each["address"]) == 16
        ]
        routes = [plain(route_words(route, self.topology)) for route in self.engine.routes(self.namespace) if len(route["prefix"]) == 16]
        return Tables(sorted(addresses), sorted(routes))


@pytest.fixture(scope="module")
def linux() -> None:
    reason = netns.unavailable()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def real(linux: None) -> Iterator[RealHost]:
    host = RealHost()
    yield host
    host.close()


def assert_alike(real: RealHost, ours: Tables, after: str) -> None:
    deadline = time.monotonic() + SETTLED_WITHIN
    while real.tables() != ours and time.monotonic() < deadline:
        time.sleep(0.05)
    assert real.tables() == ours, f"after {after}"


SEQUENCES = {
    "two addresses share a prefix": """
        ip -6 addr add 2001:db8::5/64 dev eth0 nodad
        ip -6 addr add 2001:db8::6/64 dev eth0 nodad
        ip -6 addr del 2001:db8::5/64 dev eth0
        ip -6 addr del 2001:db8::6/64 dev eth0""",
    "a router's anycast addresses": """
        ip -6 addr add 2001:db8::5/127 dev eth0 nodad
        ip -6 addr add 2001:db8:1::/128 dev eth0 nodad
        ip -6 addr add 2001:db8:2::5/126 dev eth0 nodad
        sysctl -w net.ipv6.conf.all.forwarding=1
        ip -6 addr add 2001:db8:3::1/64 dev eth0 nodad
        ip -6 addr del 2001:db8:3::1/64 dev eth0
        sysctl -w net.ipv6.conf.all.forwarding=0""",
    "a link goes down": """
        ip -6 route add default via fd00::1
        ip link set eth0 down
        ip link set eth0 up
        ip -6 addr add fd00::50/64 dev eth0 nodad""",
    "a link becomes too narrow": """
        ip -6 route add default via fd00::1
        ip link set eth0 mtu 1280
        ip link set eth0 mtu 1279
        ip -6 addr add fd00::50/64 dev eth0
        ip link set eth0 mtu 1500""",
    "IPv6 is disabled": """
        ip -6 route add default via fd00::1
        sysctl -w net.ipv6.conf.eth0.disable_ipv6=1
        ip -6 addr add fd00::50/64 dev eth0
        sysctl -w net.ipv6.conf.all.disable_ipv6=1
        sysctl -w net.ipv6.conf.all.disable_ipv6=0""",
    "default routes": """
        ip -6 route add default via fe80::9 dev eth0
        ip -6 route add default via fd00::9
        ip -6 route replace default via fd00::2 dev eth0
        ip -6 route add default via fd00::3 metric 5
        ip -6 route del default
        ip -6 route del default
        ip -6 route del default""",
    "routes that lead nowhere": """
        ip -6 route add blackhole 2001:db8:3::/48
        ip -6 route add prohibit 2001:db8:2::/48
        ip -6 route add throw 2001:db8:4::/48
        ip -6 route add unreachable 2001:db8:1::/48
        ip -6 route add 2001:db8:1::/48 via fd00::1
        ip -6 route del unreachable 2001:db8:1::/48""",
    "gateways": """
        ip -6 route add 2001:db8:9::/48 via fd00::1 mtu 1300
        ip -6 route add 2001:db8:8::/48 via 2001:db8::1
        ip -6 route add 2001:db8:8::/48 via fe80::1
        ip -6 route add 2001:db8:8::/48 via 2001:db8::1 dev eth0 onlink
        ip -6 route add 2001:db8:7::7 dev eth0 metric 1024
        ip -6 route replace 2001:db8:7::7 via fd00::1""",
}


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_commands_do_to_the_core_what_they_do_to_linux(real: RealHost, sequence: str) -> None:
    ours = OurHost()
    assert_alike(real, ours.tables(), "the start")
    for command in SEQUENCES[sequence].strip().splitlines():
        assert real.refuses(command) == ours.refuses(command.strip()), command
        assert_alike(real, ours.tables(), command)
