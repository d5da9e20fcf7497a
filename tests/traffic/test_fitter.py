"""Frames fitted many at a time are those that Python fits one by one; so are the reasons of those that do not fit."""

from __future__ import annotations

import itertools
import struct
from functools import cache
from pathlib import Path
from threading import Lock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether

from cli.recorded import CLUSTER, DUAL_STACK, SAMPLE_CAPTURE
from dataplane._capture_read import Batch, Frames
from dataplane._core import Engine
from dataplane.capture.batches import BatchReader, read_batches
from dataplane.capture.open import load as load_capture
from dataplane.control.build import build
from dataplane.errors import InputError
from dataplane.k8s import load
from dataplane.traffic.address_map import parse_map
from dataplane.traffic.fitter import FrameFitter, Unfit

MAPS = {
    "no map": (),
    "addresses": ("192.0.2.10=pod/default/shell", "198.51.100.20=10.96.0.25", "2001:db8::10=2001:db8::99"),
    "everything": ("0.0.0.0/0=10.244.2.5", "10.0.0.0/8=10.0.0.0/8", "::/0=fd00::1", "fe80::/16=fd00::/16"),
}
Outcome = tuple[list[tuple[bytes, int]], dict[str, list[int]]]


@cache
def fitter(maps: tuple[str, ...], l2: str, at: str = "pod/default/shell", cluster: str = CLUSTER) -> FrameFitter:
    engine = Engine()
    topology = build(load([cluster]), engine)
    return FrameFitter(engine, topology, topology.endpoint(at), parse_map(maps, topology), l2)


def one_by_one(fitter: FrameFitter, reader: BatchReader) -> Outcome:
    frames: list[tuple[bytes, int]] = []
    unfit: dict[str, list[int]] = {}
    batch = Batch(100, 1 << 20)
    while reader.fill(batch):
        for packet in (reader.packet(batch, i) for i in range(len(batch))):
            try:
                frames.append((fitter.fit(packet), packet.time_ns + 5))
            except Unfit as error:
                unfit.setdefault(str(error), []).append(packet.number)
    return frames, unfit


def many(fitter: FrameFitter, reader: BatchReader, size: int) -> Outcome:
    found: list[tuple[bytes, int]] = []
    unfit: dict[str, list[int]] = {}
    batch, frames = Batch(size, 1 << 20), Frames(size)
    while reader.fill(batch):
        for reason, runs in fitter.fit_batch(reader, batch, frames, Lock(), start=5, zero=0).items():
            unfit.setdefault(reason, []).extend(itertools.chain.from_iterable(range(first, last + 1) for first, last in runs))
        data = memoryview(frames.data)
        for i in range(len(frames)):
            found.append((bytes(data[frames.starts[i] : frames.starts[i] + frames.lengths[i]]), frames.times[i]))
    return found, unfit


def assert_same(fitter: FrameFitter, data: bytes, name: str = "x") -> Outcome:
    expected = one_by_one(fitter, read_batches(data, name))
    for size in (1, 7, 8192):
        assert many(fitter, read_batches(data, name), size) == expected, size
    return expected


def capture(packets: list[bytes], network: int = 1) -> bytes:
    records = (struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet for number, packet in enumerate(packets))
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, network) + b"".join(records)


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("l2", ["rewrite", "keep"])
@pytest.mark.parametrize("at", ["pod/default/shell", "node/node1", "host/client"])
def test_the_sample(maps: str, l2: str, at: str) -> None:
    frames, unfit = assert_same(fitter(MAPS[maps], l2, at), bytes(load_capture(SAMPLE_CAPTURE)))
    assert len(frames) + sum(map(len, unfit.values())) == 15


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("l2", ["rewrite", "keep"])
def test_captures_of_other_projects(cases: Path, maps: str, l2: str) -> None:
    files = sorted((cases.parent / "captures").rglob("*.pcap*"))
    if not files:
        pytest.skip("no captures beside the given cases")
    carried = 0
    for file in files:
        data = bytes(load_capture(str(file)))
        try:
            carried += len(assert_same(fitter(MAPS[maps], l2), data, file.name)[0])
        except InputError as error:
            with pytest.raises(InputError) as again:
                many(fitter(MAPS[maps], l2), read_batches(data, file.name), 100)
            assert str(again.value) == str(error)
    assert carried > 100


LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4, V6 = IP(src="192.0.2.10", dst="198.51.100.20"), IPv6(src="2001:db8::10", dst="2001:db8::20")
KINDS = [
    LINK / V4 / TCP(sport=1, dport=2) / b"odd",
    LINK / V4 / UDP(sport=1, dport=2, chksum=0) / b"x",
    LINK / V4 / ICMP() / b"ping",
    LINK / V4 / ICMP(type=3, code=3) / IP(src="198.51.100.20", dst="192.0.2.10") / UDP(sport=1, dport=2),
    LINK / IP(src="192.0.2.10", dst="224.1.2.3", proto=6, frag=100) / bytes(40),
    LINK / Dot1Q(vlan=5) / V4 / UDP(sport=1, dport=2) / bytes(1472),
    LINK / Dot1Q(vlan=5) / Dot1Q(vlan=6) / V6 / UDP(sport=1, dport=2) / b"x",
    LINK / V6 / TCP(sport=1, dport=2) / b"odd",
    LINK / V6 / IPv6ExtHdrFragment(offset=10, nh=6) / bytes(40),
    LINK / V6 / ICMPv6ND_NS(tgt="2001:db8::10"),
    LINK / V6 / ICMPv6DestUnreach() / IPv6(src="2001:db8::20", dst="2001:db8::10") / UDP(sport=1, dport=2),
    LINK / ARP(psrc="192.0.2.10", pdst="198.51.100.20"),
    LINK / V4 / UDP(sport=1, dport=2) / bytes(1473),
    LINK / IP(src="192.0.2.10", dst="255.255.255.255") / UDP(sport=1, dport=2),
]
BYTES = [bytes(kind) for kind in KINDS]


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("l2", ["rewrite", "keep"])
@pytest.mark.parametrize("cluster", [CLUSTER, str(DUAL_STACK / "cluster.yaml")], ids=["IPv4", "dual stack"])
def test_every_kind_of_packet(maps: str, l2: str, cluster: str) -> None:
    fit = fitter(MAPS[maps], l2, "pod/default/shell", cluster)
    frames, _ = assert_same(fit, capture(BYTES * 3))
    assert len(frames) >= 15


@pytest.mark.parametrize("network", [0, 1, 12, 101, 108, 113, 228, 229, 276])
@pytest.mark.parametrize("maps", MAPS)
def test_every_link_type(network: int, maps: str) -> None:
    heads = {0: b"\x02\0\0\0", 108: b"\0\0\0\x02", 113: bytes(14) + b"\x08\0", 276: b"\x08\0" + bytes(18), 1: BYTES[0][:14]}
    packets = [heads.get(network, b"") + frame[14:] for frame in BYTES if frame[12:14] in (b"\x08\0", b"\x86\xdd")]
    packets += [(10).to_bytes(4, "little") + BYTES[7][14:]] if network in (0, 108) else []
    frames, _ = assert_same(fitter(MAPS[maps], "rewrite"), capture(packets, network))
    assert frames


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(
    packets=st.lists(
        st.tuples(st.sampled_from(BYTES), st.lists(st.tuples(st.integers(12, 90), st.integers(0, 255)), max_size=3), st.integers(0, 120)),
        max_size=8,
    ),
    maps=st.sampled_from(list(MAPS)),
    l2=st.sampled_from(["rewrite", "keep"]),
)
def test_damaged_packets(packets: list[tuple[bytes, list[tuple[int, int]], int]], maps: str, l2: str) -> None:
    damaged = []
    for base, changes, size in packets:
        data = bytearray(base)
        for at, value in changes:
            data[at % len(data)] = value
        damaged.append(bytes(data[: size or None]))
    assert_same(fitter(MAPS[maps], l2), capture(damaged))


def test_next_hops_that_were_forgotten_are_asked_again() -> None:
    """More destinations than a small table holds."""
    packets = [bytes(LINK / IP(src="10.244.1.5", dst=f"198.51.{n >> 8}.{n & 255}") / UDP()) for n in range(3000)]
    frames, unfit = assert_same(fitter((), "rewrite"), capture(packets * 2))
    assert (len(frames), unfit) == (6000, {})
