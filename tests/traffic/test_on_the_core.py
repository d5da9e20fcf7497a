"""Flows over the compiled core: services, refusals, path MTU, all with real frames."""

from __future__ import annotations

import pytest
import yaml

from control.clusters import cluster, node, pod
from dataplane._core import Engine, Frame
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load_text
from dataplane.traffic.drive import run_flows
from dataplane.traffic.model import traffic_of
from dataplane.traffic.resolve import resolve
from dataplane.traffic.summary import FlowSummary

PORTS = [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "ports": PORTS},
}  # fmt: skip
SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
    "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in ("10.1.1.2", "10.1.2.2")],
    "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 5353}],
}  # fmt: skip


class World:
    """Pods a and b behind service web on two nodes, a client on the underlay."""

    def __init__(self, *flows: dict[str, object]) -> None:
        hosts = [{"name": "cl", "address": "192.168.0.50"}]
        traffic = {"apiVersion": "dataplane/v1alpha1", "kind": "Traffic", "spec": {"flows": list(flows)}}
        base = cluster(underlay={"cidr": "192.168.0.0/24", "hosts": hosts, "defaultGateway": "192.168.0.50"}, serviceCIDR="10.96.0.0/16")
        pods = [pod("a", "n1", "10.1.1.2"), pod("b", "n2", "10.1.2.2")]
        manifests = load_text(yaml.safe_dump_all([base, node(1), node(2), *pods, SERVICE, SLICE, traffic]), "world.yaml")
        self.engine = Engine(seed=5)
        self.topology: Topology = build(manifests, self.engine)
        self.flows = resolve(traffic_of(manifests, []), self.topology)
        self.frames: list[Frame] = []

    def run(self, seed: int = 5) -> list[FlowSummary]:
        return run_flows(self.engine, self.flows, seed, drain=lambda: self.frames.extend(self.engine.frames()))

    def seen_at(self, device: str) -> list[bytes]:
        number = self.topology.device_id(device)
        return [frame.data for frame in self.frames if frame.device == number and not frame.outgoing]


@pytest.mark.parametrize("to", ["service/default/web:http", "192.168.0.1:30080"])
def test_connections_to_a_service_reach_every_endpoint(to: str) -> None:
    world = World({"from": "host/cl" if ":30080" in to else "node/n1", "to": to, "kind": "tcp", "count": 40, "rate": 1000})
    (summary,) = world.run()
    assert (summary.completed, summary.arrived, summary.bytes_received) == (40, 40, 40_000)
    assert summary.first_error is None
    assert world.seen_at("a/eth0")
    assert world.seen_at("b/eth0")


def test_a_pod_reaches_itself_through_its_service() -> None:
    world = World({"from": "pod/default/b", "to": "service/default/web", "kind": "tcp", "count": 20, "rate": 1000})
    assert world.run()[0].completed == 20


def test_udp_and_ping_cross_nodes_in_fragments_too() -> None:
    world = World(
        {"from": "pod/default/a", "to": "service/default/web", "kind": "udp", "count": 20, "responseBytes": 5000},
        {"from": "pod/default/a", "to": "pod/default/b", "kind": "ping", "count": 2, "size": 4000},
    )
    udp, ping = world.run()
    assert (udp.completed, udp.bytes_received) == (20, 100_000)
    assert (ping.completed, ping.bytes_received) == (2, 8000)
    assert ping.rtt_min_ns is not None
    assert ping.rtt_min_ns > 0


def test_what_nobody_opened_is_refused_by_the_stack() -> None:
    closed = {"from": "pod/default/a", "to": "pod/default/b", "port": 9, "listen": False}
    tcp, udp = World(closed | {"kind": "tcp", "name": "t"}, closed | {"kind": "udp", "name": "u"}).run()
    assert (tcp.refused, tcp.first_error) == (1, "RST in answer to the SYN")
    assert (udp.refused, udp.first_error) == (1, "ICMP port unreachable (type 3 code 3) from 10.1.2.2")


def test_a_smaller_tunnel_is_discovered_on_the_way() -> None:
    world = World({"from": "pod/default/a", "to": "pod/default/b", "port": 80, "kind": "tcp", "responseBytes": 50_000})
    world.engine.set_device(world.topology.device_id("n2/flannel.1"), mtu=1300)
    (summary,) = world.run()
    assert (summary.completed, summary.bytes_received) == (1, 50_000)
    # Ethernet's 14 bytes and an IP packet that filled the tunnel.
    assert max(map(len, world.seen_at("a/eth0"))) == 1314


def test_same_seed_same_frames() -> None:
    def frames(seed: int) -> list[Frame]:
        world = World({"from": "pod/default/a", "to": "service/default/web:http", "kind": "tcp", "count": 5, "arrival": "poisson"})
        world.run(seed)
        return world.frames

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)
