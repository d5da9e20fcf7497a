"""The kernel's own way: a node with the same devices, addresses and kube-proxy rules in network namespaces, and frames sent into it.

Frames are our rows' own, from a packet socket in the pod's namespace. What the same socket takes to send them to a device that drops
them is taken off, so that the node's work remains. Counters of the node's uplink say that every frame went through.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import Shape, node_address
from dataplane.bench.flows import Flows, scattered, structured
from dataplane.bench.outer import TUNNELS
from dataplane.bench.peers.peer import PASSES, Absent, Found, Peer, built, output, require, source
from dataplane.bench.service import Service
from dataplane.bench.slots import Frames
from dataplane.bench.work import Settings

_ESTABLISHED = "service/slow-path/1k"
_FIRST = {"first-packet/10": 10, "first-packet/1k": 1000, "first-packet/10k": 5000}
"""Services by row: with 10,000 the kernel's walk would take minutes."""
_FLOWS = 1000
_CONNECTIONS = 20_000
_RESTORE = {"nft": "iptables-nft-restore", "legacy": "iptables-legacy-restore"}


def measure(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """Established connections and first packets, by both of the kernel's rule engines."""
    if os.geteuid() != 0:
        raise Absent("network namespaces need root")
    for tool, package in (("ip", "iproute2"), (_RESTORE["nft"], "iptables"), ("cc", "gcc")):
        require(tool, package)
    program = folder / "send_frames"
    built(["cc", "-O2", str(source("send_frames.c")), "-o", str(program)], "a C compiler")
    found = []
    for kind, restore in _RESTORE.items():
        require(restore, "iptables")
        name = f"Linux {platform.release().split('-')[0]}, iptables-{kind}"
        if _ESTABLISHED in wanted:
            shape = Shape(services=10, clients=1, backend=TUNNELS["vxlan"].backend, endpoints=1)
            least, median = _established(settings, _World(settings, shape, structured(_FLOWS, 1, 10)), restore, program, folder)
            found.append(Found(name, "routing, bridge, rules, conntrack, VXLAN out", _ESTABLISHED, "ns/packet", least, median))
        for row, services in _FIRST.items():
            if row in wanted:
                count = 50 if settings.quick else services
                shape = Shape(services=count, clients=1, backend=TUNNELS["vxlan"].backend, endpoints=1)
                connections = 200 if settings.quick else _CONNECTIONS
                world = _World(settings, shape, scattered(connections, 1, count, settings.seed))
                least, median = _first(world, restore, program, folder)
                found.append(Found(name, f"first SYN, {count:,} services", row, "ns/connection", least, median))
    return found


class _World:
    """Our own node with these connections: it lends the kernel's its addresses, its rules and its frames."""

    def __init__(self, settings: Settings, shape: Shape, flows: Flows) -> None:
        self.flows, self.shape = flows, shape
        self.service = Service(flows, shape, TUNNELS["vxlan"], settings.seed)
        self.servers = array("H", (shape.servers(service)[0] for service in flows.services))

    @property
    def rules(self) -> str:
        """As iptables-restore takes them."""
        return self.service.node.topology.firewalls[self.service.node.namespace][4].save_text()

    def syn(self) -> Frames:
        return self.service.from_clients(self.flows, tcp.SYN, tcp.CLIENT_ISN, 0)

    def syn_ack(self) -> Frames:
        return self.service.from_servers(self.flows, self.servers, tcp.SYN_ACK, tcp.SERVER_ISN, tcp.CLIENT_DATA)

    def ack(self) -> Frames:
        return self.service.from_clients(self.flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA)

    def segments(self) -> Frames:
        return self.service.from_clients(self.flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT)


class _Namespaces:
    """A pod, its node, and the wire that the node's uplink hangs on, in the kernel."""

    def __init__(self, world: _World, restore: str, program: Path, folder: Path) -> None:
        self._world, self._restore, self._program, self._folder = world, restore, program, folder
        self.pod, self.node, self.wire = (f"dpb{os.getpid()}-{name}" for name in ("pod", "node", "wire"))

    def ip(self, namespace: str, *lines: str) -> None:
        _input(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")

    def build(self) -> None:
        for name in (self.pod, self.node, self.wire):
            _input(["ip", "netns", "add", name], "")
            # Its own messages would be counted among ours.
            quiet = ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]
            _input(["ip", "netns", "exec", name, "sysctl", "-q", "-w", *quiet], "")
        node, way = self._world.service.node, self._world.service.way
        client, bridge = _mac(node.clients[0].mac), _mac(self._world.service.bridge_mac)
        local, remote = (str(ip_address(node_address(4, number))) for number in (1, 2))
        self.ip(
            self.node,
            f"link add veth0 type veth peer name eth0 address {client} netns {self.pod}",
            f"link add eth0 address {_mac(node.mac)} type veth peer name eth0 address {_mac(node.other_mac)} netns {self.wire}",
            f"link add cni0 address {bridge} type bridge",
            "link set veth0 master cni0 up",
            "link set cni0 up",
            "link set eth0 up",
            "link set lo up",
            "addr add 10.244.1.1/24 dev cni0",
            f"addr add {local}/24 dev eth0",
            f"link add flannel.1 address {_mac(way.inner_source_mac)} type vxlan id 1 dstport 8472 local {local} dev eth0 nolearning",
            "addr add 10.244.1.0/32 dev flannel.1",
            "link set flannel.1 up",
            "route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
            f"neigh add 10.244.2.0 lladdr {_mac(way.inner_destination_mac)} dev flannel.1 nud permanent",
            f"neigh add 10.244.1.2 lladdr {client} dev cni0 nud permanent",
            f"neigh add {remote} lladdr {_mac(node.other_mac)} dev eth0 nud permanent",
        )
        self.ip(self.pod, "link set eth0 up", "link add idle0 type veth peer name idle1", "link set idle0 up", "link set idle1 up")
        self.ip(self.wire, "link set eth0 up")
        fdb = f"fdb append {_mac(way.inner_destination_mac)} dev flannel.1 dst {remote} self permanent\n"
        _input(["bridge", "-n", self.node, "-batch", "-"], fdb)
        settings = "net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0"
        settings += " net.ipv4.conf.cni0.rp_filter=0 net.bridge.bridge-nf-call-iptables=1"
        _input(["ip", "netns", "exec", self.node, "sysctl", "-q", "-w", *settings.split()], "")
        _input(["ip", "netns", "exec", self.node, self._restore], self._world.rules)

    def remove(self) -> None:
        for name in (self.pod, self.node, self.wire):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def send(self, namespace: str, device: str, frames: Frames, rounds: int = 1) -> list[float]:
        """Nanoseconds for each frame, a number for each round."""
        path = self._folder / "frames"
        path.write_bytes(b"".join(frames[number] for number in range(len(frames))))
        call = ["ip", "netns", "exec", namespace, str(self._program), device, str(path), str(frames.length), str(rounds)]
        return [float(line) / len(frames) for line in output(call).splitlines()]

    def sent(self) -> int:
        """Frames that left by the node's uplink so far."""
        path = "/sys/class/net/eth0/statistics/tx_packets"
        return int(output(["ip", "netns", "exec", self.node, "cat", path]))

    def cost(self, frames: Frames, rounds: int) -> tuple[float, float]:
        """Least and median nanoseconds that the node takes for each. Raises Absent where a frame did not go through."""
        before = self.sent()
        times = self.send(self.pod, "eth0", frames, rounds)
        through = self.sent() - before
        if through != len(frames) * rounds:
            raise Absent(f"of {len(frames) * rounds} frames {through} went through the kernel's node")
        own = min(self.send(self.pod, "idle0", frames, rounds))
        return min(times) - own, statistics.median(times) - own


@contextmanager
def _namespaces(world: _World, restore: str, program: Path, folder: Path) -> Iterator[_Namespaces]:
    namespaces = _Namespaces(world, restore, program, folder)
    try:
        namespaces.build()
        yield namespaces
    finally:
        namespaces.remove()


def _established(settings: Settings, world: _World, restore: str, program: Path, folder: Path) -> tuple[float, float]:
    with _namespaces(world, restore, program, folder) as namespaces:
        namespaces.send(namespaces.pod, "eth0", world.syn())
        namespaces.send(namespaces.wire, "eth0", world.syn_ack())
        namespaces.send(namespaces.pod, "eth0", world.ack())
        return namespaces.cost(world.segments(), 5 if settings.quick else 40 * PASSES)


def _first(world: _World, restore: str, program: Path, folder: Path) -> tuple[float, float]:
    with _namespaces(world, restore, program, folder) as namespaces:
        return namespaces.cost(world.syn(), 1)


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _input(call: Sequence[str], text: str) -> None:
    """Run a command with this on its standard input. Raises Absent where it is refused."""
    done = subprocess.run(call, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"{call[0]} is refused here: {done.stderr.strip()[-200:]}")


PEERS = [Peer("linux", (_ESTABLISHED, *_FIRST), measure)]
