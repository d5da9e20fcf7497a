"""A cluster in real network namespaces: built from a cluster file, given frames, asked what it did.

Each namespace is called ``dp<pid>-<n>-<name>``: clusters of several processes, and several clusters of one, do not meet.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import netns, rules, taps
from .taps import DropTrace, Seen, Tap
from .topology import CALICO_GATEWAY, Node, Pod, Topology

SWITCH = "switch"
XT_RECENT = "/proc/thread-self/net/xt_recent"
QUIET = 0.006  # seconds without a frame after which a step is over: all work is done in the sender's own context
QUIET_ARP = 0.05  # the same while a node resolves an address: longer than one retransmission (retrans_time_ms 30)
_numbers = itertools.count()


@dataclass
class Outcome:
    """What one injected frame led to."""

    frames: list[Seen]
    conntrack: dict[str, list[str]]  # by node, as conntrack(8) prints them, with id=
    drops: list[str]
    error: str | None
    started: float  # monotonic seconds
    unpinned: bool = False  # a choice was to be made for which there was no pin


@dataclass
class Oracle:
    """The namespaces of one cluster. ``close`` (or leaving the ``with``) removes them."""

    topology: Topology
    trace: DropTrace
    pins: Sequence[rules.Pin] = ()  # choices to make
    only_pinned: bool = False  # what has no pin is not translated where there is a choice
    prefix: str = field(default_factory=lambda: f"dp{os.getpid()}-{next(_numbers)}-")

    def __enter__(self) -> Oracle:
        self.listeners: list[Tap] = []
        self.unpinned = [""] * len(self.topology.nodes)
        self.senders: dict[tuple[str, str], socket.socket] = {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for sock in self.senders.values():
            sock.close()
        for tap in self.listeners:
            tap.close()
        for name in netns.names(self.prefix):
            netns.remove(name)

    # ---- building
    @property
    def ends(self) -> list[str]:
        """Namespaces that only record."""
        return [*self.topology.pods, *(h.name for h in self.topology.hosts.values() if h.behind is None)]

    def _ns(self, label: str) -> str:
        return self.prefix + label

    def _build(self) -> None:
        labels = [SWITCH, *self.topology.nodes, *self.ends]
        netns.batch_global([f"netns add {self._ns(label)}" for label in labels])
        quiet = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1, "net.bridge.bridge-nf-call-iptables": 0}
        for label in labels:
            netns.set_sysctls(self._ns(label), quiet)
        self._build_underlay()
        for node in self.topology.nodes.values():
            self._build_node(node)
        for label in self.ends:
            netns.run(self._ns(label), ["iptables-nft-restore"], "*raw\n:PREROUTING DROP\n:OUTPUT DROP\nCOMMIT\n")
        for label in labels:
            netns.offloads_off(self._ns(label))
        for label in labels[1:]:
            self.listeners.append(Tap(self._ns(label), label))
        self.drain(0.02)

    def _build_underlay(self) -> None:
        topology = self.topology
        links, fdb = ["link add br0 type bridge mcast_snooping 0 forward_delay 0", "link set br0 up", "link set lo up"], []
        stations = {n.name: (n.macs["eth0"], n.address) for n in topology.nodes.values()}
        stations |= {h.name: (h.mac, h.address) for h in topology.hosts.values() if h.behind is None}
        for name, (mac, _) in stations.items():
            links.append(
                f"link add u-{name} mtu {topology.mtu} type veth peer name eth0 address {mac} mtu {topology.mtu} netns {self._ns(name)}"
            )
            links.append(f"link set u-{name} master br0 up")
            fdb += [f"link set dev u-{name} learning off", f"fdb add {mac} dev u-{name} master static"]
        behind = {h.name: (h.mac, h.address) for h in topology.hosts.values() if h.behind is not None}
        fdb += [f"fdb add {h.mac} dev u-{h.behind} master static" for h in topology.hosts.values() if h.behind is not None]
        netns.batch(self._ns(SWITCH), "ip", links)
        netns.batch(self._ns(SWITCH), "bridge", fdb)
        for name, (_, address) in stations.items():
            others = [f"neigh add {a} lladdr {m} dev eth0 nud permanent" for n, (m, a) in (stations | behind).items() if n != name]
            netns.batch(
                self._ns(name),
                "ip",
                ["link set lo up", "link set eth0 up", f"addr add {address}/{topology.underlay.prefixlen} dev eth0", *others],
            )

    def _build_node(self, node: Node) -> None:
        topology, name = self.topology, self._ns(node.name)
        forward = {k: v for k, v in topology.sysctls.items() if k == "net.ipv4.ip_forward"}
        netns.set_sysctls(name, forward)  # first: it resets other settings of the devices
        lines, fdb = [f"route add default via {topology.gateway}"], []
        if topology.bridged:
            lines += [
                f"link add cni0 address {node.macs['cni0']} type bridge mcast_snooping 0 forward_delay 0",
                f"link set cni0 mtu {topology.pod_mtu} up",
                f"addr add {node.gateway}/{node.network.prefixlen} brd + dev cni0",
            ]
        for pod in (p for p in topology.pods.values() if p.node == node.name):
            lines += self._pod_links(pod)
            if topology.bridged:
                fdb += [
                    f"link set dev {pod.host_device} hairpin {'on' if topology.hairpin else 'off'}",
                    f"fdb add {pod.mac} dev {pod.host_device} master static",
                ]
        for other in (n for n in topology.nodes.values() if n != node):
            lines += self._route_to(node, other)
            if topology.backend == "vxlan":
                fdb.append(f"fdb add {other.macs['flannel.1']} dev flannel.1 dst {other.address} self permanent")
        if not topology.bridged:
            lines.append(f"route add blackhole {node.network}")
        netns.batch(name, "ip", self._tunnel(node) + lines)
        netns.batch(name, "bridge", fdb)
        netns.set_sysctls(name, {k: v for k, v in topology.sysctls.items() if k not in forward})
        for pod in (p for p in topology.pods.values() if p.node == node.name):
            self._build_pod(pod, node)
        if not topology.bridged:  # proxy ARP answers at once, not after a random delay
            netns.set_sysctls(name, {"net.ipv4.neigh.*.proxy_delay": 0})
        netns.run(
            name,
            ["iptables-nft-restore"],
            self._rules(node),
        )

    def _rules(self, node: Node) -> str:
        pins = [pin for pin in self.pins if pin.ns == node.name]
        return rules.pinned(rules.node_text(self.topology.path, node.name), pins, only=self.only_pinned)

    def _pod_links(self, pod: Pod) -> list[str]:
        mtu = self.topology.pod_mtu
        peer = f"peer name eth0 address {pod.mac} mtu {mtu} netns {self._ns(pod.name)}"
        lines = [f"link add {pod.host_device} address {pod.host_mac} mtu {mtu} type veth {peer}"]
        if self.topology.bridged:
            return [
                *lines,
                f"link set {pod.host_device} master cni0 up",
                f"neigh add {pod.address} lladdr {pod.mac} dev cni0 nud permanent",
            ]
        return [
            *lines,
            f"link set {pod.host_device} up",
            f"route add {pod.address} dev {pod.host_device} scope link",
            f"neigh add {pod.address} lladdr {pod.mac} dev {pod.host_device} nud permanent",
        ]

    def _build_pod(self, pod: Pod, node: Node) -> None:
        lines = ["link set lo up", "link set eth0 up"]
        if self.topology.bridged:
            lines += [
                f"addr add {pod.address}/{node.network.prefixlen} dev eth0",
                f"route add default via {node.gateway}",
                f"neigh add {node.gateway} lladdr {node.macs['cni0']} dev eth0 nud permanent",
            ]
        else:
            lines += [
                f"addr add {pod.address}/32 dev eth0",
                f"route add {CALICO_GATEWAY} dev eth0 scope link",
                f"route add default via {CALICO_GATEWAY}",
                f"neigh add {CALICO_GATEWAY} lladdr {pod.host_mac} dev eth0 nud permanent",
            ]
        netns.batch(self._ns(pod.name), "ip", lines)

    def _tunnel(self, node: Node) -> list[str]:
        topology = self.topology
        if topology.backend != "vxlan":
            return []
        return [
            f"link add flannel.1 address {node.macs['flannel.1']} mtu {topology.pod_mtu} type vxlan id {topology.vni} dev eth0 "
            f"local {node.address} dstport {topology.vxlan_port} nolearning",
            f"addr add {node.tunnel}/32 dev flannel.1",
            "link set flannel.1 up",
        ]

    def _route_to(self, node: Node, other: Node) -> list[str]:
        if self.topology.backend != "vxlan":
            return [f"route add {other.network} via {other.address} dev eth0"]
        return [
            f"neigh add {other.tunnel} lladdr {other.macs['flannel.1']} dev flannel.1 nud permanent",
            f"route add {other.network} via {other.tunnel} dev flannel.1 onlink",
        ]

    # ---- running
    def command(self, label: str, command: str) -> None:
        """A setup command of a case, in the namespace of that node, pod or host."""
        netns.run(self._ns(label), command)

    def inject(self, label: str, iface: str, frame: bytes) -> Outcome:
        """Send ``frame`` and wait until the cluster is quiet again."""
        self.trace.read()
        started, error = time.monotonic(), None
        try:
            self._sender(label, iface).send(frame)
        except OSError as refused:
            error = str(refused)
        frames = self.drain(QUIET)
        drops = self.trace.read()
        before, self.unpinned = self.unpinned, [self._unpinned(label) for label in self.topology.nodes]
        return Outcome(frames, self.conntrack(), drops, error, started, self.unpinned != before)

    def _unpinned(self, label: str) -> str:
        """The list of what had no pin; times in it make it differ after each use."""
        if not self.only_pinned:
            return ""
        with netns.entered(self._ns(label)), contextlib.suppress(FileNotFoundError), open(f"{XT_RECENT}/{rules.UNPINNED}") as file:
            return file.read()
        return ""

    def _sender(self, label: str, iface: str) -> socket.socket:
        key = (label, iface)
        if key not in self.senders:
            with netns.entered(self._ns(label)):
                self.senders[key] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self.senders[key].bind((iface, 0))
        return self.senders[key]

    def drain(self, quiet: float) -> list[Seen]:
        """Frames of all taps until none arrived for ``quiet`` seconds, in time order."""
        frames: list[Seen] = []
        waiting = select.poll()
        for tap in self.listeners:
            waiting.register(tap.sock, select.POLLIN)
        while True:
            new = [seen for tap in self.listeners for seen in tap.read()]
            frames += new
            if any(self._resolves(seen) for seen in new):
                quiet = QUIET_ARP
            if not new and not waiting.poll(quiet * 1000):
                return sorted(frames, key=lambda seen: seen.time)

    def _resolves(self, seen: Seen) -> bool:
        """A node asks for an address: it will ask again, or give up and say so."""
        return seen.outgoing and seen.ns in self.topology.nodes and seen.data[12:14] == b"\x08\x06" and seen.data[20:22] == b"\0\x01"

    def conntrack(self) -> dict[str, list[str]]:
        """The nodes' tables, sorted, without timeouts, marks and zones; ``id=`` stays."""
        running: dict[str, subprocess.Popen[str]] = {}
        for label in self.topology.nodes:
            with netns.entered(self._ns(label)):
                running[label] = subprocess.Popen(
                    ["conntrack", "-L", "-o", "id"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
        return {label: sorted(_plain(line) for line in process.communicate()[0].splitlines()) for label, process in running.items()}


def _plain(line: str) -> str:
    return re.sub(r" (mark=\d+|use=\d+|zone=\d+)(?= |$)", "", re.sub(r"^(\w+\s+\d+) \d+", r"\1", line)).strip()


def remove_leftovers() -> None:
    """Remove the namespaces and traces of processes that were killed before they could."""
    for name in [*netns.names("dp"), *taps.instances()]:
        owner = re.match(r"dp(\d+)(-\d+-.*)?$", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            (netns.remove if owner[2] else taps.remove_instance)(name)


def without_ids(tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {node: sorted(re.sub(r" id=\d+$", "", line) for line in lines) for node, lines in tables.items()}
