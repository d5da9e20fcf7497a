"""Tunnels between nodes as the CNIs lay them: what a pod's packet to a pod on another node looks like on the underlay."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from control.clusters import build_real, cluster, node
from dataplane._core import Engine
from dataplane.control.topology import Topology

N1, N2, POD1, POD2 = "192.168.0.1", "192.168.0.2", "10.1.1.2", "10.1.2.2"


class World:
    """Pods a on node n1 and b on n2 in a cluster with this CNI."""

    def __init__(self, cni: dict[str, Any], **spec: Any) -> None:
        self.engine: Engine
        self.topology: Topology
        nodes = spec.pop("nodes", [node(1), node(2)])
        self.engine, self.topology = build_real(cluster(cni=cni, neighbours="static", **spec), *nodes)

    def send(self, size: int = 100, *, tos: int = 0, flags: str = "") -> None:
        """From pod a to pod b, ``size`` bytes."""
        packet = IP(src=POD1, dst=POD2, tos=tos, flags=flags) / UDP(sport=1000, dport=2000) / Raw(bytes(size - 28))
        self.engine.send(self.topology.namespace_id("a"), bytes(packet))
        self.engine.run()

    def seen(self, device: str, *, outgoing: bool) -> list[bytes]:
        """Frames on NAMESPACE/NAME since the last call."""
        number = self.topology.device_id(device)
        return [frame.data for frame in self.engine.frames() if frame.device == number and frame.outgoing is outgoing]

    def on_the_wire(self, **packet: Any) -> IP:
        """The one IP packet that leaves n1 when the pod sends."""
        self.send(**packet)
        frames = self.engine.frames()
        wire, pod_b = self.topology.device_id("n1/eth0"), self.topology.device_id("b/eth0")
        arrived = [Ether(frame.data) for frame in frames if frame.device == pod_b and not frame.outgoing and frame.data[12:14] == b"\x08\0"]
        assert [(frame[IP].src, frame[IP].dst) for frame in arrived] == [(POD1, POD2)]
        (left,) = [Ether(frame.data) for frame in frames if frame.device == wire and frame.outgoing and frame.data[12:14] == b"\x08\0"]
        packet_on_wire = left[IP]
        assert isinstance(packet_on_wire, IP)
        return packet_on_wire

    def mtu(self, device: str) -> int:
        namespace, _, name = device.partition("/")
        devices = self.engine.devices(self.topology.namespace_id(namespace))
        (mtu,) = [int(row["mtu"]) for row in devices if row["name"] == name]
        return mtu


def flannel(**backend: Any) -> dict[str, Any]:
    return {"name": "flannel", "config": {"Backend": backend}}


def calico(**pool: Any) -> dict[str, Any]:
    return {"name": "calico", "ipPools": [{"cidr": "10.1.0.0/16", **pool}]}


def test_flannels_ipip_backend() -> None:
    world = World(flannel(Type="ipip"))
    packet = world.on_the_wire(tos=2)
    assert (packet.src, packet.dst, packet.proto, packet.tos) == (N1, N2, 4, 2)
    assert (packet.payload.src, packet.payload.dst, packet.payload.ttl) == (POD1, POD2, 63)
    assert [world.mtu(name) for name in ("n1/flannel.ipip", "n1/cni0", "a/eth0")] == [1480, 1480, 1480]


def test_any_encapsulation_can_be_a_flannel_backend() -> None:
    world = World(flannel(Type="geneve", VNI=7, Port=6082))
    packet = world.on_the_wire()
    assert (packet.src, packet.dst, packet[UDP].dport, GENEVE(bytes(packet[UDP].payload)).vni) == (N1, N2, 6082, 7)
    assert [world.mtu(name) for name in ("n1/flannel.geneve", "a/eth0")] == [1450, 1450]


def test_its_options_stand_in_the_backend() -> None:
    world = World(flannel(Type="gre", key=9, ttl="0x20"))
    packet = world.on_the_wire()
    assert (packet.dst, packet.ttl, packet[GRE].key) == (N2, 32, 9)
    assert world.mtu("a/eth0") == 1472


def test_direct_routing_leaves_the_tunnel_unused() -> None:
    assert World(flannel(Type="ipip", DirectRouting=True)).on_the_wire().proto == 17


def test_flannels_wireguard_backend() -> None:
    pytest.importorskip("cryptography")
    world = World(flannel(Type="wireguard"))
    world.send()
    packets = [Ether(frame)[IP] for frame in world.seen("n1/eth0", outgoing=True)]
    assert [(packet.dst, packet[UDP].dport, bytes(packet[UDP].payload)[0]) for packet in packets] == [(N2, 51820, 1), (N2, 51820, 4)]
    assert len(packets[1][UDP].payload) == 16 + 112 + 16  # header, 100 bytes padded to a multiple of 16, tag
    assert world.mtu("a/eth0") == 1420


@pytest.mark.parametrize(("flags", "outer_flags"), [("", 0), ("DF", "DF")])
def test_calicos_ipip_keeps_the_dont_fragment_bit(flags: str, outer_flags: str | int) -> None:
    world = World(calico(ipipMode="Always"))
    packet = world.on_the_wire(flags=flags)
    assert (packet.src, packet.dst, packet.proto, packet.flags) == (N1, N2, 4, outer_flags)
    assert [world.mtu(name) for name in ("n1/tunl0", "a/eth0")] == [1480, 1480]


def test_calicos_vxlan() -> None:
    world = World(calico(vxlanMode="Always"))
    packet = world.on_the_wire()
    assert (packet.src, packet.dst, packet[UDP].dport, packet[VXLAN].vni) == (N1, N2, 4789, 4096)
    assert [world.mtu(name) for name in ("n1/vxlan.calico", "a/eth0")] == [1450, 1450]


def other_subnet(number: int, address: str) -> dict[str, Any]:
    made = node(number)
    made["status"]["addresses"][0]["address"] = address
    return made


@pytest.mark.parametrize(("second", "proto"), [(N2, 17), ("192.168.7.2", 4)])
def test_cross_subnet_uses_the_tunnel_only_where_it_must(second: str, proto: int) -> None:
    nodes = [node(1), other_subnet(2, second)]
    underlay = {"cidrs": ["192.168.0.0/24", "192.168.7.0/24"]}
    world = World(calico(ipipMode="CrossSubnet"), underlay=underlay, nodes=nodes)
    routes = {row["prefix"]: row for row in world.engine.routes(world.topology.namespace_id("n1"))}
    device = "n1/tunl0" if proto == 4 else "n1/eth0"
    assert routes[bytes([10, 1, 2, 0])]["dev"] == world.topology.device_id(device)


def test_an_annotation_gives_the_tunnels_address() -> None:
    first = node(1)
    first["metadata"]["annotations"] = {"projectcalico.org/IPv4IPIPTunnelAddr": "10.1.1.77"}
    world = World(calico(ipipMode="Always"), nodes=[first, node(2)])
    rows = world.engine.devices(world.topology.namespace_id("n1"))
    (tunnel,) = [row for row in rows if row["name"] == "tunl0"]
    assert [(row["address"], row["prefix_len"]) for row in tunnel["addresses"]] == [(bytes([10, 1, 1, 77]), 32)]
