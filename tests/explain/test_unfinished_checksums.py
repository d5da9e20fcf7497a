"""A tunnel whose network cards do not finish the checksums inside: what leaves, who drops it, and what is spared."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dataplane.emulator import Cluster, Emulator

from .mtu_clusters import cluster, flannel
from .partial_checksum import pseudo_header_sum

BROKEN = {"unfinishedTunnelChecksums": True}


def emulator(backend: str, **how: object) -> Emulator:
    return Emulator(Cluster(cluster(flannel(backend, dual=True), dual=True, faults=BROKEN, **how)))


def address(at: Emulator, ref: str, version: int) -> str:
    return next(str(each) for each in at.topology.endpoint(ref).addresses if each.version == version)


def send(at: Emulator, source: str, to: str, transport: TCP | UDP, version: int = 4) -> None:
    layer = IP if version == 4 else IPv6
    at.send(source, layer(src=address(at, source, version), dst=address(at, to, version)) / transport / Raw(b"data"))
    at.run()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("transport", "name"), [(TCP(dport=8080, flags="S"), "tcp"), (UDP(dport=9), "udp")])
def test_only_the_pseudo_headers_sum_leaves_and_the_pod_drops_it(version: int, transport: TCP | UDP, name: str) -> None:
    at = emulator("vxlan", sysctls={"net.netfilter.nf_conntrack_checksum": 0})
    send(at, "pod/default/a", "pod/default/c", transport, version)
    frame = next(frame for frame in at.frames if frame.interface == "n1/eth0" and b"data" in frame.data)
    inner = Ether(frame.data[14 + (20 if version == 4 else 40) + 8 + 8 :])[IP if version == 4 else IPv6]
    sent = inner[type(transport)]
    assert sent.chksum == pseudo_header_sum(inner, sent)
    assert [(drop.place, drop.reason) for drop in at.drops if b"data" in drop.data] == [("c/eth0", f"local/{name}_bad_checksum")]


def test_a_node_whose_connection_tracking_looks_at_checksums_drops_it_as_invalid() -> None:
    at = emulator("vxlan")
    send(at, "pod/default/a", "pod/default/c", TCP(dport=8080, flags="S"))
    (drop,) = [drop for drop in at.drops if b"data" in drop.data]
    assert (drop.place, drop.reason) == ("n2/flannel.1", "rules/denied")
    tracked = [step.detail for step in at.explain(drop.packet) if step.stage == "conntrack" and step.place == "n2/flannel.1"]
    assert tracked
    assert all("INVALID" in detail for detail in tracked)


@pytest.mark.parametrize("to", ["pod/default/b", "node/n2", "host/out"])
def test_what_takes_no_tunnel_is_spared(to: str) -> None:
    at = emulator("vxlan")
    send(at, "pod/default/a", to, UDP(dport=9))
    assert not [drop for drop in at.drops if drop.reason.endswith("bad_checksum")]
    assert any(b"data" in frame.data for frame in at.frames if frame.interface == f"{to.split('/')[-1]}/eth0" and frame.direction == "in")


def test_a_packet_of_another_machine_was_finished_by_its_own_card() -> None:
    at = emulator("vxlan")
    packet = IP(src=address(at, "host/out", 4), dst=address(at, "pod/default/c", 4)) / UDP(dport=9) / Raw(b"data")
    at.engine.add_route(at.topology.endpoint("host/out").namespace, bytes((10, 244, 2, 0)), 24, via=bytes((192, 168, 0, 11)))
    at.send("host/out", packet)
    at.run()
    tunnelled = [frame for frame in at.frames if frame.interface == "n1/flannel.1" and frame.direction == "out"]
    assert tunnelled
    assert any(b"data" in frame.data for frame in at.frames if frame.interface == "c/eth0")
    assert not [drop for drop in at.drops if drop.reason.endswith("bad_checksum")]


def test_wireguard_finishes_what_it_encrypts() -> None:
    pytest.importorskip("cryptography")
    at = emulator("wireguard")
    send(at, "pod/default/a", "pod/default/c", UDP(dport=9))
    assert any(b"data" in frame.data for frame in at.frames if frame.interface == "c/eth0")
    assert not [drop for drop in at.drops if drop.reason.endswith("bad_checksum")]
