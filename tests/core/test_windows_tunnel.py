"""Frames that several threads carry together into a tunnel: the tunnel's connections end in the middle of windows, and belong to other
parts than those of the segments inside. Everything shows as it would if one thread had carried one frame after the other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import pytest

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import Shape
from dataplane.bench.flows import scattered
from dataplane.bench.outer import TUNNELS
from dataplane.bench.service import Service

FLOWS, SERVICES, SEED = 200, 8, 11
SECOND = 1_000_000_000
WAYS = [(2, 1024), (3, 1024), (4, 64), (2, 7)]  # threads, frames of a window
WATCHED = ("nothing", "what leaves", "some pods")


class Sender:
    """A node whose pods have connections to pods of another one. ``watched``: who sees what they send, see WATCHED."""

    def __init__(self, watched: str, threads: int = 1, window: int = 1024, *, slow: bool = False) -> None:
        self.service = Service(scattered(FLOWS, 20, SERVICES, SEED), Shape(services=SERVICES), TUNNELS["vxlan"], SEED, slow_path_only=slow)
        self.service.establish()
        self.engine, self.namespace = self.service.node.engine, self.service.node.namespace
        self.engine.set_sysctl(self.namespace, "net.netfilter.nf_conntrack_tcp_timeout_max_retrans", 10)
        node = self.service.node
        for device in {"nothing": [], "what leaves": [node.uplink], "some pods": [pod.eth0 for pod in node.clients[::2]]}[watched]:
            node.watch(device, True)
        self.threads, self.window = threads, window
        self.carry([range(FLOWS)] * 3, [0, 1, 2], seq=0)

    def carry(self, rounds: Iterable[Iterable[int]], seconds: Iterable[int], *, seq: int = 1) -> None:
        """A segment of each of these connections, round after round, which begin so many seconds from now."""
        numbers, times, now = array("I"), array("q"), self.engine.now
        for some, later in zip(rounds, seconds, strict=True):
            for number in some:
                numbers.append(number)
                times.append(now + later * SECOND + len(times))
        flows = self.service.flows.chosen(numbers)
        frames = self.service.from_clients(flows, tcp.ACK, tcp.CLIENT_DATA + seq * len(tcp.SEGMENT), tcp.SERVER_DATA, tcp.SEGMENT)
        taken = self.engine.carry(
            frames.data, frames.devices, frames.starts, frames.lengths, times, frames.refused, threads=self.threads, window=self.window
        )
        assert taken == len(numbers)

    def shown(self) -> dict[str, Any]:
        tables = {"conntrack": self.engine.conntrack(self.namespace), "fdb": self.engine.fdb(self.namespace)}
        found = tables | {"seen": self.engine.frames()} | {"counters": self.engine.counters(), "now": self.engine.now}
        self.service.node.watch(self.service.node.uplink, True)
        self.carry([range(FLOWS)], [0], seq=2)
        return found | {"frames": self.engine.frames()}


@pytest.mark.parametrize("watched", WATCHED)
@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_a_tunnels_connection_that_has_ended_ends_the_window_for_the_segment_inside_too(threads: int, window: int, watched: str) -> None:
    """A tunnel's connection lives for half a minute, so that of every other one something is sent in time. Each segment is sent three
    times: a connection that saw one a fourth time would end ten seconds later (nf_conntrack_tcp_max_retrans)."""
    slow, one, many = Sender(watched, slow=True), Sender(watched), Sender(watched, threads, window)
    before = many.engine.flow_cache()["shared"]
    everyone, even, odd = range(FLOWS), range(0, FLOWS, 2), range(1, FLOWS, 2)
    for sender in (slow, one, many):
        sender.carry([everyone, even, everyone, odd], [1, 21, 36, 37])
        sender.carry([[number for number in everyone if number % 16] * 3], [38], seq=2)
    assert many.engine.flow_cache()["shared"] - before > FLOWS
    expected = slow.shown()
    assert one.shown() == expected
    assert many.shown() == expected
