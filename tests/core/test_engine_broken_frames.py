"""No frame, however broken, brings the core down or gets lost: a VXLAN cluster is sent every truncation and flipped bits."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.worlds import SECOND, arp, ether, fragments, icmp, ipv4, ping, tcp_packet, udp, udp_packet, unaccounted
from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load_text

VNI, PORT = 7, 8472
POD1, POD2, NODE1, NODE2, SERVICE = "10.244.1.5", "10.244.2.5", "192.168.0.11", "192.168.0.12", "10.96.0.10"
PLACES = ("p1/eth0", "n1/eth0", "n1/cni0", f"n1/flannel.{VNI}", "n2/eth0", f"n2/flannel.{VNI}", "p2/eth0", "outside/eth0")
CLUSTER = (
    f"""
apiVersion: dataplane/v1alpha1
kind: Cluster
metadata: {{name: test}}
spec:
  podCIDR: 10.244.0.0/16
  serviceCIDR: 10.96.0.0/16
  cni: {{name: flannel, config: {{Network: 10.244.0.0/16, Backend: {{Type: vxlan, VNI: {VNI}, Port: {PORT}}}}}}}
  underlay: {{cidr: 192.168.0.0/24, hosts: [{{name: outside, address: 192.168.0.200}}]}}
"""
    + "".join(
        f"""
---
{{apiVersion: v1, kind: Node, metadata: {{name: n{number}}}, spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24]}},
  status: {{addresses: [{{type: InternalIP, address: 192.168.0.1{number}}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: p{number}, namespace: default, labels: {{app: web}}}}, spec: {{nodeName: n{number},
  containers: [{{name: web, image: none}}]}}, status: {{phase: Running, podIP: 10.244.{number}.5, podIPs: [{{ip: 10.244.{number}.5}}]}}}}
"""
        for number in (1, 2)
    )
    + f"""
---
{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: default}}, spec: {{clusterIP: {SERVICE}, clusterIPs: [{SERVICE}],
  selector: {{app: web}}, ports: [{{name: http, port: 80, protocol: TCP}}, {{name: dns, port: 53, protocol: UDP}}]}}}}
"""
)


def cluster() -> tuple[Engine, Topology]:
    engine = Engine(1)
    return engine, build(load_text(CLUSTER, "test"), engine)


@cache
def corpus() -> tuple[tuple[str, bytes], ...]:
    """Good frames and what they are, the way that each goes when it is injected at pod p1 or received elsewhere."""
    engine, topology = cluster()
    rows = [row for owner in ("p1", "n1") for row in engine.devices(topology.namespace_id(owner))]
    mac = {"pod": rows[1]["mac"], "cni0": next(row["mac"] for row in rows if row["name"] == "cni0")}
    gateway = mac["cni0"]

    def framed(packet: bytes) -> bytes:
        return ether(packet, dst=gateway, src=mac["pod"])

    inner = framed(udp_packet(src=POD1, dst=POD2))
    tunnelled = udp_packet(bytes([8, 0, 0, 0, 0, 0, VNI, 0]) + inner, src=NODE1, dst=NODE2, dport=PORT)
    error = ipv4(icmp(3, 4, rest=(1000).to_bytes(4), payload=tunnelled[:60]), src=NODE1, dst=NODE2, proto=1)
    parts = fragments(ping(src=POD1, dst=POD2, size=200), 96)
    options = ipv4(udp(src=POD1, dst=POD2), src=POD1, dst=POD2, options=bytes([7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 0]))
    return (
        ("udp", framed(udp_packet(src=POD1, dst=POD2))),
        ("service", framed(tcp_packet(0x02, src=POD1, dst=SERVICE))),
        ("ping", framed(ping(src=POD1, dst=POD2))),
        ("node", framed(ping(src=POD1, dst=NODE1))),
        ("options", framed(options)),
        ("first part", framed(parts[0])),
        ("last part", framed(parts[-1])),
        ("arp", ether(arp(1, mac["pod"], POD1, "10.244.1.1"), dst=b"\xff" * 6, src=mac["pod"], kind=0x0806)),
        ("vxlan", framed(tunnelled)),
        ("error", framed(error)),
        ("tagged", ether((5).to_bytes(2) + b"\x08\x00" + udp_packet(src=POD1, dst=POD2), dst=gateway, src=mac["pod"], kind=0x8100)),
        ("ipv6", ether(bytes.fromhex("6000000000083a40") + bytes(40), dst=gateway, src=mac["pod"], kind=0x86DD)),
    )


def carry(engine: Engine, topology: Topology, place: str, frame: bytes) -> None:
    """Both ways in: through the device's transmit queue, and received by it; then everything that follows."""
    device = topology.device_id(place)
    engine.inject(device, frame)
    if len(frame) >= 14:
        engine.receive(device, frame)
    engine.run(engine.now + SECOND)


@pytest.mark.parametrize("place", PLACES)
def test_every_truncation_of_every_frame_is_accounted_for(place: str) -> None:
    engine, topology = cluster()
    for name, frame in corpus():
        for length in range(len(frame) + 1):
            carry(engine, topology, place, frame[:length])
            assert unaccounted(engine) == 0, (name, length)
    engine.run(engine.now + 100 * SECOND)
    assert unaccounted(engine) == 0
    assert engine.counters()["dropped"] > 0


@pytest.mark.parametrize("place", PLACES)
def test_every_flipped_bit_of_the_headers_is_accounted_for(place: str) -> None:
    engine, topology = cluster()
    for name, frame in corpus():
        for bit in range(8 * min(len(frame), 90)):
            broken = bytearray(frame)
            broken[bit // 8] ^= 1 << bit % 8
            carry(engine, topology, place, bytes(broken))
            assert unaccounted(engine) == 0, (name, bit)


@st.composite
def broken_frames(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(corpus()))[1])
    for _ in range(draw(st.integers(0, 6))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))]) + draw(st.binary(max_size=40))


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), broken_frames()), max_size=12))
def test_no_sequence_of_broken_frames_is_lost(sequence: list[tuple[str, bytes]]) -> None:
    engine, topology = cluster()
    for place, frame in sequence:
        carry(engine, topology, place, frame)
        assert unaccounted(engine) == 0
    engine.run(engine.now + 100 * SECOND)
    assert unaccounted(engine) == 0
    assert engine.counters()["held"] == 0
