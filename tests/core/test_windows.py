"""Frames that several threads carry together: where a window ends, and what connections are that had seen more. Everything shows as it
would if one thread had carried one frame after the other through the stages alone."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from typing import Any

import pytest

from core.worlds import CLIENT, MILLISECOND, ROUTER1_MAC, SERVER, SERVER_MAC, Router, ether, filter_table, tcp_packet, udp_packet
from dataplane._core import Engine

SYN, ACK, SYN_ACK = 0x02, 0x10, 0x12
CONNECTIONS = 192  # their entries fill three stretches of memory, which belong to different parts
PORT = 2000
ASKER, ASKED = 900, 53
WAYS = [(2, 1024), (3, 1024), (4, 1024), (2, 64), (3, 7), (4, 1)]  # threads, frames of a window


class Outlet:
    """A router with connection tracking whose ends are pulled off once connections stand: what it sends leaves the world."""

    def __init__(self, *, threads: int = 1, window: int = 1024, slow: bool = False) -> None:
        self.router = Router(engine=Engine(7, slow_path_only=slow))
        self.engine, self.threads, self.window = self.router.engine, threads, window
        forward: Any = [{"ctstate": 4, "target": "DROP"}, {"ctstate": 2, "target": "ACCEPT"}]
        self.engine.set_rules(self.router.ns, 4, "filter", filter_table(FORWARD=forward))
        self.engine.set_sysctl(self.router.ns, "net.netfilter.nf_conntrack_tcp_timeout_max_retrans", 10)
        self.now = 0
        for port in range(PORT, PORT + CONNECTIONS):
            there = {"sport": port, "dport": 80}
            back = {"src": SERVER, "dst": CLIENT, "sport": 80, "dport": port}
            self.carry([ether(tcp_packet(SYN, seq=99, **there))])  # type: ignore[arg-type]
            self.carry([ether(tcp_packet(SYN_ACK, seq=199, ack=100, **back), dst=ROUTER1_MAC, src=SERVER_MAC)], back=True)  # type: ignore[arg-type]
            self.carry([ether(tcp_packet(ACK, seq=100, ack=200, **there))])  # type: ignore[arg-type]
        self.carry([question()])
        self.carry([answer()], back=True)
        for device in (self.router.eth0, self.router.eth1):
            self.engine.disconnect(device)
        self.carry([segment(number, 100) for number in range(CONNECTIONS)] * 3)
        self.carry([question()] * 3)

    def carry(self, frames: Sequence[bytes], *, back: bool = False, gap: int = MILLISECOND) -> None:
        device = self.router.server_eth if back else self.router.client_eth
        starts = array("Q", [0])
        for frame in frames:
            starts.append(starts[-1] + len(frame))
        times = array("q", [self.now + number * gap for number in range(1, len(frames) + 1)])
        lengths, refused = array("I", map(len, frames)), bytearray(len(frames))
        devices = array("i", [device] * len(frames))
        taken = self.engine.carry(b"".join(frames), devices, starts[:-1], lengths, times, refused, threads=self.threads, window=self.window)
        assert taken == len(frames)
        assert not any(refused)
        self.now = times[-1]

    def shown(self) -> dict[str, Any]:
        engine, counted = self.engine, self.engine.counters()
        return {
            "frames": engine.frames(),
            "drops": engine.drops(),
            "conntrack": engine.conntrack(self.router.ns),
            "counters": counted,
            "now": engine.now,
            "next": engine.inject(self.router.client_eth, question()),
        }


def segment(number: int, seq: int) -> bytes:
    return ether(tcp_packet(ACK, sport=PORT + number, dport=80, seq=seq, ack=200))


def question() -> bytes:
    return ether(udp_packet(sport=ASKER, dport=ASKED))


def answer() -> bytes:
    return ether(udp_packet(src=SERVER, dst=CLIENT, sport=ASKED, dport=ASKER), dst=ROUTER1_MAC, src=SERVER_MAC)


def rounds(count: int) -> list[bytes]:
    """Segments of all connections in turn, each a little further on."""
    return [segment(number, 100 + step) for step in range(count) for number in range(CONNECTIONS)]


def compared(frames: Sequence[bytes], threads: int, window: int, gap: int = MILLISECOND) -> int:
    """How many frames went in windows, once all ways of carrying them have come to the same."""
    slow, one, many = Outlet(slow=True), Outlet(), Outlet(threads=threads, window=window)
    before = many.engine.flow_cache()["shared"]
    for outlet in (slow, one, many):
        outlet.carry(frames, gap=gap)
    shared = many.engine.flow_cache()["shared"] - before
    assert one.engine.flow_cache()["shared"] == 0
    expected = slow.shown()
    assert one.shown() == expected
    assert many.shown() == expected
    return shared


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_frames_that_leave_the_world_go_in_windows(threads: int, window: int) -> None:
    frames = rounds(12)
    assert compared(frames, threads, window) == len(frames) // window * window if window < 64 else len(frames)


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize("place", [0, 1, 250, 511, 512, 700, 1023, 1024, 2303])
def test_a_segment_out_of_its_window_is_left_to_the_stages_and_nothing_behind_it_is_seen(threads: int, window: int, place: int) -> None:
    """In all parts of a window of frames; connections of all parts before and behind it."""
    frames = rounds(12)
    frames[place] = segment(place % CONNECTIONS, 3_000_000_000)
    shared = compared(frames, threads, window)
    assert shared > len(frames) // 2
    assert shared < len(frames)


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_a_connection_that_becomes_another_in_the_middle_of_a_window_ends_it(threads: int, window: int) -> None:
    """Once it has been used for two seconds the question's connection counts as a stream: the same thread has by then seen to segments
    that come later, for datagrams have their turn behind them. Each segment is sent three times: a connection that saw one a
    fourth time would end ten seconds later (nf_conntrack_tcp_max_retrans)."""
    frames: list[bytes] = []
    for number, each in enumerate([segment(number, 101) for number in range(CONNECTIONS)] * 3):
        frames += [each, question()] if number % 8 == 0 else [each]
    shared = compared(frames, threads, window, gap=4 * MILLISECOND)
    assert len(frames) // 2 < shared < len(frames)


def test_frames_of_no_flow_between_others_end_windows() -> None:
    strange = ether(bytes(40), kind=0x9000)
    frames = [strange if number % 100 == 99 else frame for number, frame in enumerate(rounds(12))]
    assert len(frames) // 2 < compared(frames, 2, 32) < len(frames)


def test_a_frame_that_is_earlier_than_the_one_before_it_goes_right_behind_that() -> None:
    slow, many = Outlet(slow=True), Outlet(threads=3, window=16)
    for outlet in (slow, many):
        for frame in range(0, 400, 100):
            outlet.now -= 40 * MILLISECOND  # all of them lie behind now in the beginning, then they do not
            outlet.carry(rounds(12)[frame : frame + 100])
    assert many.shown() == slow.shown()


def test_a_process_that_was_forked_off_has_threads_of_its_own() -> None:
    outlet = Outlet(threads=2)
    outlet.carry(rounds(2))
    child = os.fork()
    if child == 0:
        before = outlet.engine.flow_cache()["shared"]
        outlet.carry(rounds(12)[2 * CONNECTIONS :])
        os._exit(outlet.engine.flow_cache()["shared"] - before != 10 * CONNECTIONS)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    outlet.carry(rounds(12)[2 * CONNECTIONS :])


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": 65}, {"threads": 2, "window": 0}, {"threads": 2, "window": 1025}])
def test_there_are_limits_to_threads_and_windows(wrong: dict[str, int]) -> None:
    devices, starts, lengths, times = (array(kind) for kind in "iQIq")
    with pytest.raises(ValueError, match="threads are 1 to 64, frames of a window 1 to 1024"):
        Engine().carry(b"", devices, starts, lengths, times, bytearray(), **wrong)
