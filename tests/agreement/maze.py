"""Worlds made by hand of a few nodes that are connected in any way: routed and switched, twice, through tunnels, or with themselves."""

from __future__ import annotations

from random import Random
from typing import Any

from . import plugins
from .handmade import Made, Maker, mac, made
from .rules import CHAINS
from .terrain import Door, packed

SETTINGS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("net.bridge.bridge-nf-call-iptables", (0, 0, 1)),
    ("net.ipv4.conf.all.rp_filter", (0, 0, 1, 2)),
    ("net.ipv4.conf.all.accept_local", (0, 1)),
    ("net.ipv4.conf.all.proxy_arp", (0, 1)),
    ("net.ipv4.conf.all.send_redirects", (0, 1)),
    ("net.netfilter.nf_conntrack_udp_timeout", (2, 30)),
)
MTUS = (1500, 1500, 1500, 1400, 700, 300)
TUNNELS = ("vxlan", "geneve", "gretap", "ipip", "gre", "gue")
LATENCIES = (0, 0, 5_000, 200_000)
RULES = ("-p sctp -j DROP", "-m conntrack --ctstate INVALID -j DROP", "-p udp -m conntrack --ctstate ESTABLISHED -j DROP")


class Maze:
    """Node k has a bridge 10.k.0.1/24, which some of its stations are behind; each other station has a subnet 10.k.s.0/24 of its own."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.maker, self.number = rng, Maker(), 0
        self.nodes: list[int] = []
        self.bridges: list[int] = []
        self.gateways: dict[int, bytes] = {}  # by a station's device
        self.doors: list[Door] = []
        self.cables = 0

    def mac(self) -> bytes:
        self.number += 1
        return mac(0x1000 + self.number)

    def veth(self, namespace: int, name: str, own: bytes | None = None) -> int:
        device: int = self.maker.do("add_device", namespace, name, "veth", mac=own or self.mac(), mtu=self.rng.choice(MTUS))
        return device

    def address(self, device: int, text: str, length: int) -> None:
        self.maker.do("add_address", device, packed(text), length)
        self.doors.append(Door(packed(text), 53, "", "node"))

    def node(self, k: int) -> None:
        rng, do = self.rng, self.maker.do
        node = do("add_namespace", f"node{k}")
        self.nodes.append(node)
        do("set_sysctl", node, "net.ipv4.ip_forward", rng.choice((1, 1, 1, 0)))
        for name, values in rng.sample(SETTINGS, rng.choice((1, 2, 4))):
            do("set_sysctl", node, name, rng.choice(values))
        own = self.mac()
        self.bridges.append(do("add_device", node, "br0", "bridge", mac=own, mtu=rng.choice(MTUS)))
        self.address(self.bridges[-1], f"10.{k}.0.1", 24)
        for s in range(1, rng.choice((2, 3)) + 1):
            self.station(k, s, own)
        if rng.random() < 0.3:
            self.itself(k)

    def station(self, k: int, s: int, bridge_mac: bytes) -> None:
        rng, do = self.rng, self.maker.do
        switched, port_mac = rng.random() < 0.5, self.mac()
        port = self.veth(self.nodes[k], f"port{s}", port_mac)
        text, gateway = (f"10.{k}.0.{s + 10}", f"10.{k}.0.1") if switched else (f"10.{k}.{s}.2", f"10.{k}.{s}.1")
        if switched:
            do("set_device", port, master=self.bridges[k], hairpin=rng.random() < 0.3, learning=rng.random() < 0.8)
        else:
            self.address(port, gateway, 24)
        answers = rng.random() < 0.6
        station = self.maker.station(f"end{k}.{s}", 0x100 + 16 * k + s, port, rng.choice(LATENCIES), [(text, 24)], rng.choice(MTUS))
        if answers:
            do("add_route", station.namespace, bytes(4), 0, via=packed(gateway))
        if rng.random() < 0.6 or not answers:
            do("add_neighbour", self.bridges[k] if switched else port, packed(text), station.mac, permanent=rng.random() < 0.7)
        self.gateways[station.device] = rng.choice((bridge_mac, bridge_mac, port_mac)) if switched else port_mac

    def itself(self, k: int) -> None:
        """A cable from the bridge to the node's own stack."""
        one, other = self.veth(self.nodes[k], "loop0"), self.veth(self.nodes[k], "loop1")
        self.maker.cable(one, other, self.rng.choice(LATENCIES))
        self.maker.do("set_device", one, master=self.bridges[k])
        self.address(other, f"10.{k}.0.200", 24)

    def link(self, i: int, k: int) -> None:
        """Nodes i and k reach each other, and what is behind them: by a routed cable or two, a tunnel over one, a switched one."""
        rng, do = self.rng, self.maker.do
        near, far = self.nodes[i], self.nodes[k]
        ways: list[tuple[Any, Any]] = []
        for _ in range(rng.choice((1, 1, 2))):
            c, macs = self.cables, (self.mac(), self.mac())
            self.cables += 1
            ends = self.veth(near, f"eth{c}", macs[0]), self.veth(far, f"eth{c}", macs[1])
            self.maker.cable(*ends, rng.choice(LATENCIES))
            for side, end in enumerate(ends):
                self.address(end, f"192.168.{c}.{side + 1}", 24)
                if rng.random() < 0.7:
                    do("add_neighbour", end, packed(f"192.168.{c}.{2 - side}"), macs[1 - side])
            ways.append(({"via": packed(f"192.168.{c}.2")}, {"via": packed(f"192.168.{c}.1")}))
        if rng.random() < 0.6:
            ways.append(self.tunnel(i, k, f"192.168.{self.cables - 1}.{{}}"))
        if rng.random() < 0.3:
            ends = self.veth(near, f"sw{k}"), self.veth(far, f"sw{i}")
            self.maker.cable(*ends, rng.choice(LATENCIES))
            do("set_device", ends[0], master=self.bridges[i])
            do("set_device", ends[1], master=self.bridges[k])
        there, back = rng.choice(ways), rng.choice(ways)
        do("add_route", near, packed(f"10.{k}.0.0"), 16, **there[0])
        do("add_route", far, packed(f"10.{i}.0.0"), 16, **back[1])
        if i == 0 and rng.random() < 0.5:
            do("add_route", far, bytes(4), 0, **back[1])

    def tunnel(self, i: int, k: int, outer: str) -> tuple[dict[str, Any], dict[str, Any]]:
        rng, do, kind = self.rng, self.maker.do, self.rng.choice(TUNNELS)
        plugins.ensure(kind)
        given: dict[str, Any] = {"id": 7} if kind in ("vxlan", "geneve") else {}
        if kind in ("vxlan", "geneve", "gue") and rng.random() < 0.3:
            given["udp_checksum"] = 1
        macs, ways = (self.mac(), self.mac()), []
        for side, node in enumerate((self.nodes[i], self.nodes[k])):
            ends = {"local": packed(outer.format(side + 1)), "remote": packed(outer.format(2 - side))}
            device = do("add_device", node, f"tun{i}{k}", kind, mac=macs[side], mtu=rng.choice((1500, 1400, 1000, 250)), **ends, **given)
            inside, other = f"172.16.{10 * i + k}.{side + 1}", packed(f"172.16.{10 * i + k}.{2 - side}")
            self.address(device, inside, 24)
            if rng.random() < 0.7 and kind in ("vxlan", "geneve", "gretap"):
                do("add_neighbour", device, other, macs[1 - side])
            ways.append({"via": other, "dev": device, "onlink": True})
        return ways[0], ways[1]

    def rules(self) -> None:
        rng = self.rng
        for node in self.nodes:
            if rng.random() < 0.4:
                continue
            tables = self.maker.tables_of(node, 4)
            for rule in rng.sample(RULES, rng.choice((1, 2))):
                tables.append("filter", rng.choice(CHAINS["filter"]), rule)
            target = rng.choice(self.maker.stations)
            tables.append(
                "nat",
                "PREROUTING",
                f"-d 10.96.0.1/32 -p udp --dport 53 -j DNAT --to-destination {'.'.join(map(str, target.addresses[0]))}:53",
            )
            if rng.random() < 0.4:
                tables.append("nat", "POSTROUTING", rng.choice(("-p udp -j MASQUERADE", "-p tcp -j MASQUERADE --random-fully")))
            for table, chains in tables.compile().items():
                self.maker.do("set_rules", node, 4, table, chains)


def maze(rng: Random) -> Made:
    """Two to four nodes in a tree."""
    m = Maze(rng)
    for k in range(rng.choice((1, 2, 2, 3, 4))):
        m.node(k)
        if k:
            m.link(rng.randrange(k), k)
    m.rules()
    m.doors.append(Door(packed("10.96.0.1"), 53, "udp", "service of a node"))
    return made("maze", m.maker, [4], m.doors, m.gateways, [], m.nodes)
