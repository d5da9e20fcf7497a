"""Commands that change a cluster before the first frame."""

from __future__ import annotations

from random import Random

from .topology import Node, Topology
from .traffic6 import Traffic6

Commands = tuple[tuple[str, str], ...]  # namespace, command
FRAGMENT_TIMEOUT = 1  # seconds, of sequences that wait for it


def sizes(topology: Topology, rng: Random) -> Commands:
    """A smaller MTU on the way, or (behind a tunnel) larger ones before it."""
    node = rng.choice(list(topology.nodes.values()))
    if topology.backend != "vxlan":
        return ((node.name, "ip link set eth0 mtu 1400"),)
    pod = rng.choice([p for p in topology.pods.values() if p.node == node.name])
    wide = f"mtu {topology.mtu}"
    return (
        (node.name, f"ip link set {pod.host_device} {wide}"),
        (node.name, f"ip link set cni0 {wide}"),
        (pod.name, f"ip link set eth0 {wide}"),
    )


def sizes6(topology: Topology, rng: Random) -> Commands:
    """What IPv6 knows besides: MTUs of routes, and links that are as small as IPv6 allows."""
    node = rng.choice(list(topology.nodes.values()))
    kind = rng.choice(["route", "locked route", "small link", "small pod link"])
    if kind == "small link":
        return ((node.name, f"ip link set eth0 mtu {rng.choice([1280, 1350, 1400])}"),)
    if kind == "small pod link":
        pod = rng.choice([p for p in topology.pods.values() if p.node == node.name])
        return ((node.name, f"ip link set {pod.host_device} mtu {rng.choice([1280, 1400])}"),)
    lock = "lock " * (kind == "locked route")
    mtu = rng.choice([1200, 1280, 1400])
    return tuple((node.name, f"ip -6 route replace {net} via {topology.gateway} dev eth0 mtu {lock}{mtu}") for net in _outside())


def routes6(topology: Topology, rng: Random) -> Commands:
    """Routes that lead nowhere, or another way."""
    commands = []
    for node in topology.nodes.values():
        commands += [
            (node.name, f"ip -6 route replace {rng.choice(['unreachable', 'prohibit', 'blackhole', 'throw'])} {net}") for net in _outside()
        ]
        if rng.random() < 0.3:
            commands.append((node.name, rng.choice(["ip -6 route del default", _silent_gateway(topology)])))
    return tuple(commands)


def _outside() -> list[str]:
    """Networks of what ``Traffic6`` takes for the outside."""
    return [f"{address.rsplit('::', 1)[0]}::/48" for address in Traffic6.outside]


def _silent_gateway(topology: Topology) -> str:
    return f"ip -6 route replace default via {topology.underlay[2]} dev eth0"


def proxies6(topology: Topology, rng: Random) -> Commands:
    """Neighbours that nodes answer for."""
    commands: list[tuple[str, str]] = []
    for node in topology.nodes.values():
        device = rng.choice(_pod_devices(topology, node))
        for address in rng.sample([topology.gateway, *(p.address for p in topology.pods.values()), str(node.network[99])], 3):
            commands.append((node.name, f"ip -6 neigh add proxy {address} dev {device}"))
        commands.append((node.name, f"sysctl -w net.ipv6.conf.{device}.proxy_ndp={rng.choice([0, 1, 1])}"))
    return tuple(commands)


def _pod_devices(topology: Topology, node: Node) -> list[str]:
    return ["cni0"] if topology.bridged else [p.host_device for p in topology.pods.values() if p.node == node.name]


def settings6(topology: Topology, rng: Random) -> Commands:
    """One of the settings that change what nodes do with IPv6 packets, on every node."""
    setting = rng.choice(
        [
            "net.netfilter.nf_conntrack_checksum=0",
            "net.netfilter.nf_conntrack_tcp_loose=0",
            "net.netfilter.nf_conntrack_tcp_be_liberal=1",
            "net.bridge.bridge-nf-call-ip6tables=0",
            "net.ipv6.conf.eth0.hop_limit=33",
            "net.ipv6.icmp.echo_ignore_all=1",
            "net.ipv6.icmp.echo_ignore_multicast=1",
            "net.ipv6.icmp.ratelimit=1000",
        ]
    )
    return tuple((node, f"sysctl -w {setting}") for node in topology.nodes)


def fragment_timeouts6(topology: Topology, _: Random) -> Commands:
    """Both times after which an incomplete datagram is given up, short enough to wait for."""
    names = ("net.netfilter.nf_conntrack_frag6_timeout", "net.ipv6.ip6frag_time")
    return tuple((node, f"sysctl -w {name}={FRAGMENT_TIMEOUT}") for node in topology.nodes for name in names)
