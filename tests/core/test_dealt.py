"""Segments of services' connections that leave through a tunnel, or come in one, and that nobody sees: eight at a time, by one thread or
dealt to several by their connections. Everything shows as if the stages had carried one after the other."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from random import Random
from types import ModuleType
from typing import Any

import pytest

from core.worlds import MILLISECOND
from dataplane.bench import flows as tcp
from dataplane.bench.cluster import Shape
from dataplane.bench.flows import ETHERNET
from dataplane.bench.outer import TUNNELS
from dataplane.bench.service import Service

CONNECTIONS = 240
GAP = 67  # ns
WAYS = [(1, 4096), (2, 0), (2, 1024), (2, 64), (2, 100), (3, 333), (5, 160), (2, 4096)]  # threads, frames of a window: see Engine.carry()
SEQ_AT = 20 + 4  # of a sequence number, in an IP packet
FIN_ACK = 0x11


@pytest.fixture(scope="module", autouse=True)
def _wide(probe: Callable[[str], ModuleType]) -> None:
    if not probe("segments_probe").WIDE:
        pytest.skip("the processor has no AVX2")


class Node:
    """A node with connections through a tunnel of a kind, whose segments several threads carry, or the stages alone."""

    def __init__(self, kind: str, *, threads: int = 1, window: int = 4096, slow: bool = False, seed: int = 1) -> None:
        self.tunnel, self.threads, self.window = TUNNELS[kind], threads, window
        drawn = tcp.scattered(CONNECTIONS, 6, 4, seed)
        shape = Shape(services=4, clients=6, backend=self.tunnel.backend)
        self.service = Service(drawn, shape, self.tunnel, seed, slow_path_only=slow)
        self.service.establish()
        self.engine, flows = self.service.node.engine, self.service.flows
        out = self.service.from_clients(flows, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA)
        back = self.service.from_servers(flows, self.service.servers, tcp.ACK, tcp.SERVER_DATA, tcp.CLIENT_DATA)
        self.frames = {way: [(frames[k], frames.devices[k]) for k in range(CONNECTIONS)] for way, frames in (("out", out), ("back", back))}
        for way in ("out", "back", "out", "back"):
            self.carry(self.frames[way])

    def carry(self, frames: Sequence[tuple[bytes, int]], gap: int = GAP, times: Sequence[int] | None = None) -> None:
        starts = array("Q", [0])
        for frame, _ in frames:
            starts.append(starts[-1] + len(frame))
        now = self.engine.now
        due = array("q", times or [now + gap * number for number in range(1, len(frames) + 1)])
        data, devices = b"".join(frame for frame, _ in frames), array("i", [device for _, device in frames])
        lengths, refused = array("I", [len(frame) for frame, _ in frames]), bytearray(len(frames))
        how = {"threads": self.threads, "window": self.window}
        assert self.engine.carry(data, devices, starts[:-1], lengths, due, refused, **how) == len(frames)
        assert not any(refused)

    def tunnels_answered(self) -> set[bool]:
        """Have the tunnel's connections had an answer?"""
        entries = self.engine.conntrack(self.service.node.namespace)
        return {entry["seen_reply"] for entry in entries if entry["proto"] == self.tunnel.protocol}

    def shown(self) -> dict[str, Any]:
        """What the world holds, and what leaves for one more segment of each connection: with it, how many numbers were drawn."""
        node = self.service.node
        before = {"conntrack": self.engine.conntrack(node.namespace), "fdb": self.engine.fdb(node.namespace), "now": self.engine.now}
        for device in (node.uplink, *node.ports):
            node.watch(device, True)
        self.carry(self.frames["out"])
        self.carry(self.frames["back"])
        return before | {"counters": self.engine.counters(), "frames": self.engine.frames(), "drops": self.engine.drops()}


def patched(frame: bytes, at: int, old: bytes, new: bytes, check: int) -> bytes:
    """Other bytes at an even place, and a checksum that follows them."""
    assert frame[at : at + len(old)] == old
    total = ~int.from_bytes(frame[check : check + 2]) & 0xFFFF
    for k in range(0, len(old), 2):
        total += (~int.from_bytes(old[k : k + 2]) & 0xFFFF) + int.from_bytes(new[k : k + 2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame = frame[:at] + new + frame[at + len(new) :]
    return frame[:check] + (~total & 0xFFFF).to_bytes(2) + frame[check + 2 :]


def further(frame: bytes, by: int) -> bytes:
    """A client's segment, so many bytes later in its stream."""
    at = ETHERNET + SEQ_AT
    seq = frame[at : at + 4]
    return patched(frame, at, seq, (int.from_bytes(seq) + by & 0xFFFFFFFF).to_bytes(4), ETHERNET + 20 + 16)


def flagged(frame: bytes, flags: int) -> bytes:
    at = ETHERNET + 20 + 12
    return patched(frame, at, frame[at : at + 2], bytes([frame[at], flags]), ETHERNET + 20 + 16)


Make = Callable[[Node], list[tuple[bytes, int]]]


def dealt(kind: str, threads: int, window: int, *bursts: Make, gap: int = GAP, sysctls: Sequence[tuple[str, int]] = ()) -> int:
    """How many frames went eight at a time, by two threads or dealt to all of them where that is certain, once that has come to what the
    stages make of it. Between bursts a setting changes."""
    slow, fast = Node(kind, slow=True), Node(kind, threads=threads, window=window)
    name = {0: "shared", 4096: "abreast"}.get(window, "dealt")
    before = fast.engine.flow_cache()[name]
    for number, make in enumerate(bursts):
        for node in (slow, fast):
            node.carry(make(node), gap)
            if number < len(sysctls):
                node.engine.set_sysctl(node.service.node.namespace, *sysctls[number])
    gone = fast.engine.flow_cache()[name] - before
    shown = fast.shown()
    for name, expected in slow.shown().items():
        assert shown[name] == expected, name
    return gone


def drawn(way: str, seed: str, few: int = 3) -> Make:
    """Segments of connections at random; with ``few``, many of them more than once in eight."""

    def make(node: Node) -> list[tuple[bytes, int]]:
        rng = Random(seed)
        return [rng.choice(node.frames[way][: rng.choice((few, 40, CONNECTIONS) if few else (CONNECTIONS,))]) for _ in range(1500)]

    return make


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize(("kind", "way"), [*((kind, "out") for kind in TUNNELS), ("vxlan", "back"), ("geneve", "back")])
def test_segments_through_tunnels(kind: str, way: str, threads: int, window: int) -> None:
    make = drawn(way, f"{kind} {way} {threads} {window}")
    assert dealt(kind, threads, window, make, make) > 2400


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize("place", [0, 1, 31, 32, 500, 511, 512, 700, 1020, 1499])
@pytest.mark.parametrize("what", ["beyond", "end", "damaged", "unknown", "another sender"])
def test_one_packet_that_goes_another_way(what: str, place: int, threads: int, window: int) -> None:
    """Connections of all threads have seen later ones by then, and draws have been made for them."""

    def make(node: Node) -> list[tuple[bytes, int]]:
        frames = drawn("out", f"one {what} {place}", few=0)(node)
        frame, device = frames[place]
        frames[place] = {
            "beyond": further(frame, 2_000_000_000),
            "end": flagged(frame, FIN_ACK),
            "damaged": frame[:-1] + bytes([frame[-1] ^ 1]),
            "unknown": patched(frame, ETHERNET + 20, frame[ETHERNET + 20 : ETHERNET + 22], b"\x00\x07", ETHERNET + 20 + 16),
            "another sender": frame[:6] + b"\x02\x00\x00\x00\x00\x07" + frame[12:],  # which the bridge learns
        }[what], device
        return frames

    assert dealt("vxlan", threads, window, make, drawn("out", "then")) > 500


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_the_tunnels_connections_end_meanwhile(threads: int, window: int) -> None:
    """Those of UDP last 30 s without an answer: some come again before that, some behind it, some at about that time."""

    def make(node: Node) -> list[tuple[bytes, int]]:
        rng, frames = Random(f"ends {threads} {window}"), node.frames["out"]
        return [frames[number] for _ in range(30) for number in sorted(rng.sample(range(CONNECTIONS), 90))]

    assert dealt("vxlan", threads, window, make, gap=50 * MILLISECOND) > 300


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize(("kind", "name"), [("vxlan", "udp_timeout"), ("ipip", "generic_timeout")])
def test_a_setting_of_the_tunnels_protocol_counts_from_the_next_frame_on(kind: str, name: str, threads: int, window: int) -> None:
    make = drawn("out", "setting")
    name = f"net.netfilter.nf_conntrack_{name}"
    assert dealt(kind, threads, window, make, make, make, sysctls=[(name, 44), (name, 20)]) > 1000


@pytest.mark.parametrize(("threads", "window"), WAYS[:3])
@pytest.mark.parametrize(("kind", "answered", "unanswered"), [("vxlan", 30, 30), ("ipip", 600, 600), ("gre", 180, 30)])
@pytest.mark.parametrize("early", [2, -2])
def test_the_tunnels_connection_lasts_as_long_as_its_protocol_says(
    kind: str, answered: int, unanswered: int, early: int, threads: int, window: int
) -> None:
    """The one that has had answers, which over UDP there are none of, and the next one, which has had none: seconds."""
    found = []
    for node in (Node(kind, slow=True), Node(kind, threads=threads, window=window)):
        for silence in (0, answered - early, answered + 2, unanswered - early, 0):
            first = node.engine.now + silence * 1000 * MILLISECOND
            frames = drawn("out", f"lasts {silence}", few=0)(node)
            node.carry(frames, times=[first + GAP * number for number in range(len(frames))])
            found.append((silence, node.engine.conntrack(node.service.node.namespace), node.tunnels_answered()))
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    assert found[1][2] == {early > 0 and not node.tunnel.port} and found[2][2] == {False}


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_both_directions_in_turns(threads: int, window: int) -> None:
    """Those that come in a tunnel stand elsewhere in their frames than those that will leave in one."""

    def make(node: Node) -> list[tuple[bytes, int]]:
        rng = Random("both")
        frames: list[tuple[bytes, int]] = []
        while len(frames) < 1800:
            way = node.frames[rng.choice(("out", "back"))]
            frames += [rng.choice(way) for _ in range(rng.choice((1, 8, 64, 300)))]
        return frames

    assert dealt("vxlan", threads, window, make, make) > 1000


def compared(threads: int, window: int, *steps: Callable[[Node], None]) -> None:
    """Behind each step the connections are what the stages alone make of them, and in the end all that shows is."""
    slow, fast = Node("vxlan", slow=True), Node("vxlan", threads=threads, window=window)
    for step in steps:
        for node in (slow, fast):
            step(node)
        assert fast.engine.conntrack(fast.service.node.namespace) == slow.engine.conntrack(slow.service.node.namespace)
    shown = fast.shown()
    for name, expected in slow.shown().items():
        assert shown[name] == expected, name


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_packets_that_somebody_sees_behind_others_that_nobody_does(threads: int, window: int) -> None:
    """Where they leave, and where some of them come in; then nobody again."""

    def step(seen: bool) -> Callable[[Node], None]:
        def carries(node: Node) -> None:
            for device in (node.service.node.uplink, *node.service.node.ports[:2]):
                node.service.node.watch(device, seen)
            node.carry(drawn("out", f"seen {seen}")(node))

        return carries

    compared(threads, window, step(False), step(True), step(False))


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_frames_that_are_earlier_than_those_before_them(threads: int, window: int) -> None:
    """Each goes at once then."""

    def some(node: Node) -> None:
        frames, rng, now = drawn("out", "times", few=0)(node), Random("times"), node.engine.now
        times = [now + GAP * number - (rng.randrange(5000) if rng.random() < 0.01 else 0) for number in range(len(frames))]
        node.carry(frames, times=times)

    def all_of_them(node: Node) -> None:
        frames = drawn("out", "times", few=0)(node)
        node.carry(frames, times=[node.engine.now - GAP * number for number in range(len(frames))])

    compared(threads, window, some, all_of_them)


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize("place", [8, 24, 160, 203])
def test_a_frame_that_is_earlier_than_those_before_it_and_the_last_of_its_connection(place: int, threads: int, window: int) -> None:
    """Its connection lasts from the time on that it goes at, which is that of the one before it: the first of eight, too."""

    def one(node: Node) -> None:
        now = node.engine.now
        times = [now + GAP * number for number in range(1, CONNECTIONS + 1)]
        times[place] -= 20 * GAP
        node.carry(node.frames["out"], times=times)

    compared(threads, window, one, one)


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize("place", [3, 700, 1490])
def test_a_frame_that_waits_for_its_time_between_others(place: int, threads: int, window: int) -> None:
    """It was queued at the node's end of a client's link, and draws a number of the tunnel's, too. A later one of its connection is
    right behind it, and then the same comes three times again: four times in a row, and the connection would end within five minutes."""

    def step(node: Node) -> None:
        frame, device = node.frames["out"][7]
        frames = [each for each in drawn("out", f"waits {place}", few=0)(node) if each != (frame, device)]
        frames.insert(place, (further(frame, 100), device))
        frames += [(frame, device), *frames[:20]] * 3
        port = next(port for port, client in zip(node.service.node.ports, node.service.node.clients, strict=True) if client.eth0 == device)
        node.engine.receive(port, frame, at=node.engine.now + GAP * place + 1)
        node.carry(frames)

    compared(threads, window, step, step)
