"""The Python interface: import, emulate, look at frames, and be told why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dataplane
from dataplane import Cluster, Emulator, InputError

P15, P16 = "02:00:0a:f4:01:05", "02:00:0a:f4:01:06"


def udp_frame(source_mac: str, destination_mac: str, source: str, destination: str) -> bytes:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    return bytes(Ether(src=source_mac, dst=destination_mac) / IP(src=source, dst=destination, id=7) / UDP(sport=4000, dport=9) / b"hello")


@pytest.fixture
def emulator(cases: Path) -> Emulator:
    return Emulator(Cluster.load(cases / "kernel" / "cluster-flannel-vxlan.yaml"), seed=1)


def test_import_loads_nothing_heavy() -> None:
    program = "import sys, dataplane; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "dataplane" in modules
    assert {"yaml", "scapy", "pcapy", "numba", "dataplane._core", "dataplane.emulator"}.isdisjoint(modules)


def test_every_public_name_is_there() -> None:
    assert [name for name in dataplane.__all__ if not hasattr(dataplane, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Clusters'"):
        _ = dataplane.Clusters


def test_a_frame_between_pods_of_a_node_is_switched_unchanged(emulator: Emulator) -> None:
    frame = udp_frame(P15, P16, "10.244.1.5", "10.244.1.6")
    packet = emulator.inject("pod/default/p15", frame)
    emulator.run()
    seen = [(captured.interface, captured.direction, captured.data) for captured in emulator.frames if captured.packet == packet]
    assert seen[0] == ("p15/eth0", "out", frame)
    assert seen[-1] == ("p16/eth0", "in", frame)
    assert emulator.explain(packet)


def test_an_interface_can_be_named_instead_of_its_owner(emulator: Emulator) -> None:
    frame = udp_frame(P15, P16, "10.244.1.5", "10.244.1.6")
    emulator.inject("p15/eth0", frame, time=5_000)
    emulator.run(10_000)
    assert emulator.frames[0][:3] == (5_000, "p15/eth0", "out")
    assert emulator.now == 10_000


def test_scapy_packets_go_in_and_come_out(emulator: Emulator) -> None:
    from scapy.layers.inet import UDP
    from scapy.layers.l2 import Ether

    emulator.inject("pod/default/p15", Ether(udp_frame(P15, P16, "10.244.1.5", "10.244.1.6")))
    emulator.run()
    assert bytes(emulator.frames[-1].scapy[UDP].payload) == b"hello"


def test_a_drop_has_a_reason_and_a_place(emulator: Emulator) -> None:
    packet = emulator.inject("pod/default/p15", udp_frame(P15, P16, "10.244.1.5", "10.244.1.6"))
    emulator.run()
    [drop] = [drop for drop in emulator.drops if drop.packet == packet]
    assert drop.place.startswith("p16")
    assert drop.origin is not None
    assert drop.origin.what.startswith("Cluster")  # endSystems: silent
    assert emulator.counters()["dropped"] == 1


@pytest.mark.parametrize(
    ("at", "frame", "message"),
    [
        ("pod/default/p99", b"\0" * 60, "there is no such pod"),
        ("node1/eth9", b"\0" * 60, "node1 has no interface 'eth9'"),
        ("host/gateway", b"\0" * 60, "only an address behind cl"),
        ("eth0", b"\0" * 60, "'eth0' is not an interface"),
        ("pod/default/p15", b"\0" * 13, "a frame of 13 bytes is refused"),
        ("pod/default/p15", b"\0" * (1450 + 15), "a frame of 1465 bytes is refused"),
    ],
)
def test_a_frame_that_fits_nowhere_is_refused_with_the_reason(emulator: Emulator, at: str, frame: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        emulator.inject(at, frame)


def test_without_tracing_there_is_nothing_to_explain(cases: Path) -> None:
    emulator = Emulator(Cluster.load(cases / "kernel" / "cluster-bgp.yaml"), trace=False)
    with pytest.raises(InputError, match="trace=True"):
        emulator.explain(1)


def test_ipv6_packets_go_to_a_service_and_are_explained(checkout: Path) -> None:
    from scapy.layers.inet import TCP
    from scapy.layers.inet6 import IPv6

    emulator = Emulator(Cluster.load(checkout / "pcaps" / "sample6" / "cluster.yaml"), seed=1)
    packet = emulator.send("pod/default/shell", IPv6(src="fd00:10:244:1::5", dst="fd00:10:96::80") / TCP(sport=1000, dport=80))
    emulator.run()
    ways = [frame for frame in emulator.frames if frame.packet == packet]
    assert (ways[0].interface, ways[0].scapy[IPv6].dst) == ("shell/eth0", "fd00:10:96::80")
    assert (ways[-1].interface, ways[-1].scapy[IPv6].dst) in [("web-0/eth0", "fd00:10:244:1::6"), ("web-1/eth0", "fd00:10:244:2::5")]
    assert any("destination is now fd00:10:244" in step.detail for step in emulator.explain(packet))
