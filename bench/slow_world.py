"""Two nodes with Flannel's VXLAN, a client on one, two servers on the other, and any number of services: what the benchmarks of the
slow path carry their frames through. The frames are made here, and what becomes of them is checked before anything is timed."""

from __future__ import annotations

import ipaddress
import socket
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from dataplane._core import Engine
from dataplane.control.build import build
from dataplane.k8s import load

CLIENT = "10.244.1.5"
GATEWAY = "10.244.1.1"  # the client's
SERVER_MACS = {"10.244.2.10": "02:00:0a:f4:02:0a", "10.244.2.11": "02:00:0a:f4:02:0b"}
FIRST_SERVICE = ipaddress.IPv4Address("10.96.0.10")
PORT, TARGET_PORT = 80, 8080
SYN, RST, ACK = 0x02, 0x04, 0x10
MICROSECOND = 1000

CLUSTER = """
apiVersion: dataplane/v1alpha1
kind: Cluster
metadata: {name: bench}
spec:
  podCIDR: 10.244.0.0/16
  serviceCIDR: 10.96.0.0/12
  cni: {name: flannel, config: {Network: 10.244.0.0/16, Backend: {Type: vxlan, VNI: 1, Port: 8472}}}
  proxy: {mode: iptables, clusterCIDR: 10.244.0.0/16}
  underlay: {kind: flat, cidr: 192.168.1.0/24, mtu: 1500, latency: 0us, defaultGateway: 192.168.1.254,
             hosts: [{name: gateway, address: 192.168.1.254}]}
  endSystems: silent
  neighbours: static
  sysctls: {net.netfilter.nf_conntrack_max: 16000000}
"""
NODE = """---
apiVersion: v1
kind: Node
metadata: {{name: node{n}}}
spec: {{podCIDR: 10.244.{n}.0/24, podCIDRs: [10.244.{n}.0/24]}}
status: {{addresses: [{{type: InternalIP, address: 192.168.1.{n}}}]}}
"""
POD = """---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default, labels: {{app: {app}}}, annotations: {{dataplane/mac: "{mac}"}}}}
spec: {{nodeName: {node}, containers: [{{name: main, image: none}}]}}
status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: "True"}}]}}
"""
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: default}}
spec: {{clusterIP: {ip}, clusterIPs: [{ip}], selector: {{app: server}}, ports: [{{protocol: TCP, port: 80, targetPort: 8080}}]}}
"""


def service_address(n: int) -> str:
    """Of the ``n``-th service, from 0."""
    return str(FIRST_SERVICE + n)


def manifests(services: int) -> str:
    """The cluster as YAML."""
    text = [CLUSTER, *(NODE.format(n=n) for n in (1, 2))]
    text.append(POD.format(name="client", app="client", mac="02:00:0a:f4:01:05", node="node1", ip=CLIENT))
    for n, (ip, mac) in enumerate(SERVER_MACS.items()):
        text.append(POD.format(name=f"server{n}", app="server", mac=mac, node="node2", ip=ip))
    text += (SERVICE.format(n=n, ip=service_address(n)) for n in range(services))
    return "".join(text)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(array("H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~socket.ntohs(total) & 0xFFFF


def tcp_frame(macs: bytes, src: str, sport: int, dst: str, dport: int, flags: int, seq: int = 1, ack: int = 0) -> bytes:
    """A segment of 64 bytes with its Ethernet header; ``macs``: destination and source."""
    data = b"x" * 10 if not flags & (SYN | RST) else b""
    ends = socket.inet_aton(src) + socket.inet_aton(dst)
    total = 40 + len(data)
    tcp = (sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + seq.to_bytes(4, "big") + ack.to_bytes(4, "big")
           + bytes([0x50, flags]) + (0xFFFF).to_bytes(2, "big") + bytes(4) + data)
    pseudo = ends + bytes([0, 6]) + (20 + len(data)).to_bytes(2, "big")
    tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]
    ip = bytes([0x45, 0]) + total.to_bytes(2, "big") + bytes([0, 1, 0x40, 0, 64, 6, 0, 0]) + ends
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return (macs + b"\x08\x00" + ip + tcp).ljust(64, b"\0")


class World:
    """The cluster with ``services`` ClusterIPs in an engine of its own, nothing captured."""

    def __init__(self, services: int, *, seed: int = 1) -> None:
        self.engine = Engine(seed, slow_path_only=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cluster.yaml"
            path.write_text(manifests(services), encoding="utf-8")
            self.topology = build(load([str(path)]), self.engine)
        for device in [*self.topology.device_ids(), *self.topology.devices_of(self.topology.switch).values()]:
            self.engine.set_device(device, capture=False)
        self.node = self.topology.endpoint("node/node1").namespace
        self.client = self.topology.endpoint("pod/default/client")
        gateway = self.topology.macs[socket.inet_aton(GATEWAY)]
        self.out = gateway + self.client.mac  # destination and source of what the client sends
        self.now = 0

    def carry(self, device: int, frames: Iterable[bytes], *, every: int = MICROSECOND) -> float:
        """Seconds of processor time that it takes to carry the frames from ``device`` on, one in ``every`` so many virtual ns."""
        frames = list(frames)
        n = len(frames)
        starts, at = array("Q"), 0
        for frame in frames:
            starts.append(at)
            at += len(frame)
        times = array("q", range(self.now + every, self.now + every * (n + 1), every))
        self.now = times[-1]
        buffers = (b"".join(frames), array("i", [device]) * n, starts, array("I", [len(frame) for frame in frames]), times, bytearray(n))
        self.engine.drops()
        began = time.thread_time()
        taken = self.engine.carry(*buffers)
        took = time.thread_time() - began
        assert taken == n and not any(buffers[-1])
        return took

    def server_of(self, sport: int, service: int = 0) -> str:
        """The address of the server that a connection of the client's was given."""
        for entry in self.engine.conntrack(self.node):
            if entry["orig"].get("sport") == sport and entry["orig"]["dst"] == socket.inet_aton(service_address(service)):
                return socket.inet_ntoa(entry["reply"]["src"])
        raise AssertionError("the connection is not in the table")
