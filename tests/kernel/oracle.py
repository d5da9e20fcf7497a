"""A cluster in real network namespaces: built from a cluster file, given frames, asked what it did.

Each namespace is called ``dp<pid>-<n>-<name>``: clusters of several processes, and several clusters of one, do not meet.
"""

from __future__ import annotations

import contextlib
import errno
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
from .wire import ICMP6, NEIGHBOUR_SOLICITATION

SWITCH = "switch"
XT_RECENT = "/proc/thread-self/net/xt_recent"
QUIET = 0.006  # seconds without a frame after which a step is over: all work is done in the sender's own context
QUIET_RESOLVING = 0.05  # the same while a node resolves an address: longer than one retransmission (retrans_time_ms 30)
RESTORE = {4: "iptables-nft-restore", 6: "ip6tables-nft-restore"}
# End systems answer nothing but neighbour solicitations; ARP does not pass iptables.
SILENCE = {
    4: "*raw\n:PREROUTING DROP\n:OUTPUT DROP\nCOMMIT\n",
    6: "*raw\n:PREROUTING DROP\n:OUTPUT DROP\n"
    + "".join(f"-A {c} -p icmpv6 --icmpv6-type {t} -j ACCEPT\n" for c in ("PREROUTING", "OUTPUT") for t in (135, 136))
    + "COMMIT\n",
}
# What a kernel says by itself when IPv6 comes up must be over before the first frame.
IPV6_QUIET = {
    f"net.ipv6.conf.*.{name}": value
    for name, value in {
        "autoconf": 0,
        "accept_ra": 0,
        "accept_dad": 0,
        "dad_transmits": 0,
        "router_solicitations": 0,
        "mldv1_unsolicited_report_interval": 4,
        "mldv2_unsolicited_report_interval": 4,
    }.items()
}
IPV6_SETTLES = 0.15  # seconds until the last of it is sent
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
        quiet = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
        # The underlay's switch looks into no packet, and drops none.
        quiet |= {f"net.bridge.bridge-nf-call-{table}": 0 for table in ("iptables", "ip6tables", "arptables")}
        for label in labels:
            netns.set_sysctls(self._ns(label), quiet)
        self._build_underlay()
        for node in self.topology.nodes.values():
            self._build_node(node)
        for label in self.ends:
            for family in self.topology.views:
                netns.run(self._ns(label), [RESTORE[family]], SILENCE[family])
        if 6 in self.topology.views:
            self._build_ipv6(self.topology.views[6])
        for label in labels:
            netns.offloads_off(self._ns(label))
        for label in labels[1:]:
            self.listeners.append(Tap(self._ns(label), label))
        if 6 in self.topology.views:
            time.sleep(IPV6_SETTLES)
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
            lines.append(f"route add blackhole {node.block}")
        netns.batch(name, "ip", self._tunnel(node) + lines)
        netns.batch(name, "bridge", fdb)
        netns.set_sysctls(name, {k: v for k, v in topology.sysctls.items() if k not in forward and not k.startswith("net.ipv6.")})
        for pod in (p for p in topology.pods.values() if p.node == node.name):
            self._build_pod(pod, node)
        if not topology.bridged:  # proxy ARP answers at once, not after a random delay
            netns.set_sysctls(name, {"net.ipv4.neigh.*.proxy_delay": 0})
        for family in topology.views:
            netns.run(name, [RESTORE[family]], self._rules(node, family))

    def _rules(self, node: Node, family: int) -> str:
        pins = [pin for pin in self.pins if pin.ns == node.name and pin.family == family]
        return rules.pinned(rules.node_text(self.topology.path, node.name, family), pins, only=self.only_pinned)

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
                f"route add {CALICO_GATEWAY[4]} dev eth0 scope link",
                f"route add default via {CALICO_GATEWAY[4]}",
                f"neigh add {CALICO_GATEWAY[4]} lladdr {pod.host_mac} dev eth0 nud permanent",
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
            return [f"route add {other.block} via {other.address} dev eth0"]
        return [
            f"neigh add {other.tunnel} lladdr {other.macs['flannel.1']} dev flannel.1 nud permanent",
            f"route add {other.network} via {other.tunnel} dev flannel.1 onlink",
        ]

    # ---- IPv6, which comes up on devices that are there already
    def _build_ipv6(self, topology: Topology) -> None:
        given = {k: v for k, v in topology.sysctls.items() if k.startswith("net.ipv6.")}
        forwarding = {k: v for k, v in given.items() if k.endswith(".forwarding")}
        for label in [*topology.nodes, *self.ends]:
            settings = given if label in topology.nodes else {k: v for k, v in given.items() if k not in forwarding}
            netns.set_sysctls(self._ns(label), settings | IPV6_QUIET)
            names = [d.replace(".", "/") for d in ["default", *self._ipv6_devices(label)]]
            netns.set_sysctls(self._ns(label), {f"net.ipv6.conf.{name}.disable_ipv6": 0 for name in names})
        for label in topology.nodes:
            netns.set_sysctls(self._ns(label), forwarding)
        stations = {n.name: (n.macs["eth0"], n.address) for n in topology.nodes.values()}
        stations |= {h.name: (h.mac, h.address) for h in topology.hosts.values()}
        for label in [*topology.nodes, *(h.name for h in topology.hosts.values() if h.behind is None)]:
            others = [f"neigh add {a} lladdr {m} dev eth0 nud permanent" for n, (m, a) in stations.items() if n != label]
            own = f"addr add {stations[label][1]}/{topology.underlay.prefixlen} dev eth0 nodad"
            netns.batch(self._ns(label), "ip", [own, *others])
        for node in topology.nodes.values():
            self._build_node6(topology, node)
        for pod in topology.pods.values():
            self._build_pod6(topology, pod)

    def _ipv6_devices(self, label: str) -> list[str]:
        """All but the ports of bridges."""
        with netns.entered(self._ns(label)):
            devices = [name for _, name in socket.if_nameindex()]
        ports = {p.host_device for p in self.topology.pods.values()} if self.topology.bridged else set()
        return [d for d in devices if d not in ports]

    def _build_node6(self, topology: Topology, node: Node) -> None:
        lines, fdb = [f"route add default via {topology.gateway} dev eth0"], []
        if topology.bridged:
            lines.append(f"addr add {node.gateway}/{node.network.prefixlen} dev cni0 nodad")
        else:
            lines.append(f"route add blackhole {node.block}")
        for pod in (p for p in topology.pods.values() if p.node == node.name):
            device = "cni0" if topology.bridged else pod.host_device
            if not topology.bridged:
                lines.append(f"route add {pod.address} dev {device} metric 1024")
            lines.append(f"neigh add {pod.address} lladdr {pod.mac} dev {device} nud permanent")
        lines += self._tunnel6(topology, node)
        for other in (n for n in topology.nodes.values() if n != node):
            if topology.backend == "vxlan":
                mac = other.macs[topology.tunnel_device]
                lines.append(f"neigh add {other.tunnel} lladdr {mac} dev {topology.tunnel_device} nud permanent")
                lines.append(f"route add {other.network} via {other.tunnel} dev {topology.tunnel_device} onlink")
                fdb.append(f"fdb add {mac} dev {topology.tunnel_device} dst {other.address} self permanent")
            else:
                lines.append(f"route add {other.block} via {other.address} dev eth0")
        netns.batch(self._ns(node.name), "ip", lines)
        netns.batch(self._ns(node.name), "bridge", fdb)
        late = {k: v for k, v in topology.sysctls.items() if k.startswith("net.ipv6.neigh.")}  # for devices made just now
        if not topology.bridged:
            late |= {"net.ipv6.conf.cali*.proxy_ndp": 1, "net.ipv6.neigh.cali*.proxy_delay": 0}
        netns.set_sysctls(self._ns(node.name), late)

    def _tunnel6(self, topology: Topology, node: Node) -> list[str]:
        if topology.backend != "vxlan":
            return []
        device = topology.tunnel_device
        return [
            f"link add {device} address {node.macs[device]} mtu {topology.tunnel_mtu} type vxlan id {topology.vni} dev eth0 "
            f"local {node.address} dstport {topology.vxlan_port} nolearning",
            f"addr add {node.tunnel}/128 dev {device} nodad",
            f"link set {device} up",
        ]

    def _build_pod6(self, topology: Topology, pod: Pod) -> None:
        node = topology.nodes[pod.node]
        gateway = node.gateway if topology.bridged else CALICO_GATEWAY[6]
        length = node.network.prefixlen if topology.bridged else 128
        netns.batch(
            self._ns(pod.name),
            "ip",
            [
                f"addr add {pod.address}/{length} dev eth0 nodad",
                f"route add default via {gateway} dev eth0",
                f"neigh add {gateway} lladdr {topology.pod_gateway_mac(pod)} dev eth0 nud permanent",
            ],
        )

    # ---- running
    def command(self, label: str, command: str) -> None:
        """A setup command of a case, in the namespace of that node, pod or host."""
        netns.run(self._ns(label), command)

    def inject(self, label: str, iface: str, frame: bytes, quiet: float | None = None) -> Outcome:
        """Send ``frame`` and wait until there were no frames for ``quiet`` seconds; None: for as long as nodes usually take."""
        self.trace.read()
        started, error = time.monotonic(), None
        try:
            self._sender(label, iface).send(frame)
        except OSError as refused:
            if refused.errno != errno.ENOBUFS:  # that is the device dropping it when taps have seen it already
                error = str(refused)
        frames = self.drain(QUIET, QUIET_RESOLVING) if quiet is None else self.drain(quiet)
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

    def drain(self, quiet: float, resolving: float = 0.0) -> list[Seen]:
        """Frames of all taps until none arrived for ``quiet`` seconds (``resolving``, once a node asks for an address), in time order."""
        frames: list[Seen] = []
        waiting = select.poll()
        for tap in self.listeners:
            waiting.register(tap.sock, select.POLLIN)
        while True:
            new = [seen for tap in self.listeners for seen in tap.read()]
            frames += new
            if any(self._resolves(seen) for seen in new):
                quiet = max(quiet, resolving)
            if not new and not waiting.poll(quiet * 1000):
                return sorted(frames, key=lambda seen: seen.time)

    def _resolves(self, seen: Seen) -> bool:
        """A node asks for an address: it will ask again, or give up and say so."""
        arp = seen.data[12:14] == b"\x08\x06" and seen.data[20:22] == b"\0\x01"
        solicitation = seen.data[12:14] == b"\x86\xdd" and seen.data[20:21] + seen.data[54:55] == bytes([ICMP6, NEIGHBOUR_SOLICITATION])
        return seen.outgoing and seen.ns in self.topology.nodes and (arp or solicitation)

    def conntrack(self) -> dict[str, list[str]]:
        """The nodes' tables, sorted, without timeouts, marks and zones; ``id=`` stays.

        One listing of both families: the kernel walks its whole hash table for each, which takes longer than all else in a step.
        """
        running: list[tuple[str, subprocess.Popen[str]]] = []
        for label in self.topology.nodes:
            with netns.entered(self._ns(label)):
                command = ["conntrack", "-L", "-o", "id"]
                running.append((label, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)))
        tables: dict[str, list[str]] = {label: [] for label in self.topology.nodes}
        for label, process in running:
            tables[label] += [_plain(line) for line in process.communicate()[0].splitlines()]
        return {label: sorted(lines) for label, lines in tables.items()}


def _plain(line: str) -> str:
    """An entry without what is not compared, and without the time after protocol name and number."""
    return re.sub(r" (mark=\d+|use=\d+|zone=\d+)(?= |$)", "", re.sub(r"^(\S+\s+\d+) \d+", r"\1", line)).strip()


def remove_leftovers() -> None:
    """Remove the namespaces and traces of processes that were killed before they could."""
    for name in [*netns.names("dp"), *taps.instances()]:
        owner = re.match(r"dp(\d+)(-\d+-.*)?$", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            (netns.remove if owner[2] else taps.remove_instance)(name)


def without_ids(tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {node: sorted(re.sub(r" id=\d+$", "", line) for line in lines) for node, lines in tables.items()}
