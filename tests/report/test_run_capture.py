"""What a run records: reasons on the frames they belong to, drops that come later, memory that does not grow."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket

from cli.recorded import CLUSTER
from dataplane._core import Engine
from dataplane.capture.open import open_capture
from dataplane.capture.packet import Packet
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.k8s import load, load_text
from dataplane.report.run_capture import CaptureOptions, recording
from dataplane.traffic.drive import run_flows
from dataplane.traffic.model import traffic_of
from dataplane.traffic.resolve import resolve

SECOND = 1_000_000_000


class World:
    """The sample cluster, recorded into a file."""

    def __init__(self, out: Path, patterns: tuple[str, ...] = ("*",)) -> None:
        self.engine = Engine()
        self.topology: Topology = build(load([CLUSTER]), self.engine)
        self.out = out
        self.options = CaptureOptions(str(out), patterns=patterns)

    def send(self, source: str, target: str, transport: ScapyPacket, ttl: int = 64) -> bytes:
        """A frame from the pod to its gateway."""
        machine = self.topology.endpoint(source)
        gateway = self.topology.macs[machine.addresses[0].packed[:3] + b"\x01"]
        return bytes(Ether(src=machine.mac, dst=gateway) / IP(src=str(machine.addresses[0]), dst=target, ttl=ttl) / transport)

    def carry(self, *frames: bytes, until: int | None = None) -> list[Packet]:
        with recording(self.engine, self.topology, self.options) as capture:
            for frame in frames:
                self.engine.inject(self.topology.endpoint("pod/default/shell").eth0, frame)
                self.engine.run(self.engine.now)
                capture.drain()
            self.engine.run(until)
        return list(open_capture(self.out))


def dropped(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.verdict == 2 and not packet.comments[-1].startswith("arp/")]


def test_a_drop_marks_the_frame_that_was_just_seen(tmp_path: Path) -> None:
    world = World(tmp_path / "x.pcapng")
    frame = world.send("pod/default/shell", "10.244.2.5", UDP(sport=1, dport=2), ttl=1)
    packets = world.carry(frame)
    (marked,) = dropped(packets)
    assert (marked.interface, marked.outgoing, marked.data) == ("node1/cni0", False, frame)
    assert [packet.data for packet in packets if packet.interface == "node1/cni0" and not packet.outgoing].count(frame) == 1


def test_a_drop_that_comes_later_is_a_record_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path / "x.pcapng")
    first = IP(src="10.244.1.5", dst="10.244.1.6", id=9, flags="MF") / UDP(sport=1, dport=2, len=2008) / bytes(992)
    link = Ether(src=world.topology.endpoint("pod/default/shell").mac, dst=world.topology.endpoint("pod/shop/web-0").mac)
    frame = bytes(link / first)
    packets = world.carry(frame, until=60 * SECOND)
    (late,) = dropped(packets)
    assert late.comments[-1].startswith("defragment/timeout: ")
    assert late.time_ns == 30 * SECOND, "net.ipv4.ipfrag_time"
    assert packets.index(late) == max(i for i, packet in enumerate(packets) if packet.time_ns <= late.time_ns)


def test_a_change_stands_where_it_shows_whatever_the_batches(tmp_path: Path) -> None:
    """An address that waits for ARP is translated in one stretch of time and sent in the next."""
    world = World(tmp_path / "x.pcapng")
    packets = world.carry(world.send("pod/default/shell", "10.96.0.25", UDP(sport=4000, dport=9125)))
    told = [(packet.interface, packet.comments) for packet in packets if packet.comments and packet.packet_id == 1]
    words = [(interface.split("/")[1], comment.partition(":")[0]) for interface, comments in told for comment in comments]
    # bridge netfilter translates before cni0 sees the frame
    assert words[:3] == [("cni0", "dnat"), ("eth0", "encap"), ("flannel.1", "decap")]
    assert f"{CLUSTER}:" in told[0][1][0]


def test_what_happened_on_interfaces_left_out_does_not_disturb(tmp_path: Path) -> None:
    world = World(tmp_path / "x.pcapng", patterns=("node2/*",))
    packets = world.carry(world.send("pod/default/shell", "10.96.0.25", UDP(sport=4000, dport=9125)))
    assert {packet.interface.split("/")[0] for packet in packets} == {"node2"}
    assert [comment for packet in packets for comment in packet.comments if comment.startswith("decap")]


def test_a_change_that_no_frame_shows_is_not_told(tmp_path: Path) -> None:
    """Though an interface of its node is recorded, nothing was seen there."""
    world = World(tmp_path / "x.pcapng", patterns=("node1/lo",))
    frame = world.send("pod/default/shell", "10.96.0.25", UDP(sport=4000, dport=9125))
    assert world.carry(frame, frame) == []


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path / "x.pcapng")
    with pytest.raises(RuntimeError), recording(world.engine, world.topology, world.options) as capture:
        capture.drain()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def _peak(count: int, out: Path) -> int:
    """Most memory of a run of ``count`` requests, bytes of Python objects: which frames and steps become with comments on every step."""
    flow = f"{{from: pod/default/shell, to: service/monitoring/metrics, kind: udp, count: {count}, rate: 10000, sourcePort: 4000}}"
    traffic = f"---\napiVersion: dataplane/v1alpha1\nkind: Traffic\nspec:\n  flows:\n  - {flow}\n"
    manifests = load_text(Path(CLUSTER).read_text() + traffic, "big.yaml")
    engine = Engine()
    topology = build(manifests, engine)
    flows = resolve(traffic_of(manifests, []), topology)
    tracemalloc.start()
    try:
        with recording(engine, topology, CaptureOptions(str(out), comments="all")) as capture:
            run_flows(engine, flows, 0, drain=capture.drain)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    short = _peak(500, tmp_path / "short.pcapng")
    assert _peak(2000, tmp_path / "long.pcapng") < 1.5 * short
