"""Timers and sockets over a core."""

from __future__ import annotations

from dataplane.traffic.loop import EPHEMERAL_PORTS, Loop
from traffic.fake_core import FakeCore
from traffic.flows import ADDRESSES, CLIENT


def test_timers_fire_by_time_and_then_in_the_order_they_were_set() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    fired: list[tuple[int, str]] = []
    for time, name in ((20, "c"), (10, "a"), (20, "d"), (10, "b")):
        loop.at(time, lambda name=name: fired.append((loop.now, name)))  # type: ignore[misc]
    loop.run()
    assert fired == [(10, "a"), (10, "b"), (20, "c"), (20, "d")]


def test_cancelled_timers_do_not_fire_and_do_not_hold_the_run() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    fired: list[str] = []
    timer = loop.at(10, lambda: fired.append("cancelled"))
    loop.cancel(timer)
    loop.cancel(timer)
    loop.at(20, lambda: fired.append("kept"))
    loop.run()
    assert fired == ["kept"]


def test_timers_that_do_not_hold_fire_only_while_others_wait() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    fired: list[str] = []
    loop.at(10, lambda: fired.append("early"), holds=False)
    loop.at(20, lambda: fired.append("held for"))
    loop.at(30, lambda: fired.append("late"), holds=False)
    loop.run()
    assert fired == ["early", "held for"]


def test_timers_set_by_timers_for_the_past_fire_now() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    times: list[int] = []

    def look_back() -> None:
        loop.at(5, lambda: times.append(loop.now))

    loop.at(10, look_back)
    loop.run()
    assert times == [10]


def test_run_stops_at_the_time_given_and_can_go_on() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    fired: list[int] = []
    for time in (10, 20, 30):
        loop.at(time, lambda time=time: fired.append(time))  # type: ignore[misc]
    loop.run(until=20)
    assert fired == [10, 20]
    loop.run()
    assert fired == [10, 20, 30]


def test_captured_frames_are_drained_at_the_end_and_on_the_way() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    drained: list[int] = []
    for time in range(1000):
        loop.at(time, lambda: None)
    loop.run(drain=lambda: drained.append(loop.now))
    assert drained[-1] == 999
    assert 2 <= len(drained) < 100


def test_ports_are_given_once_and_again_when_closed() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    port = loop.free_port(CLIENT, 6, "x")
    assert port in EPHEMERAL_PORTS
    assert port is not None
    socket = loop.open(CLIENT, 6, port, lambda data: None)
    assert socket is not None
    assert loop.open(CLIENT, 6, port, lambda data: None) is None
    assert loop.open(CLIENT, 17, port, lambda data: None) is not None
    assert loop.free_port(CLIENT, 6, "x") == (port + 1 if port + 1 in EPHEMERAL_PORTS else EPHEMERAL_PORTS[0])
    loop.close(socket, CLIENT, 6, port)
    assert loop.free_port(CLIENT, 6, "x") == port


def test_there_is_an_end_to_the_ephemeral_ports() -> None:
    loop = Loop(FakeCore(ADDRESSES), 0)
    for port in EPHEMERAL_PORTS:
        loop.open(CLIENT, 6, port, lambda data: None)
    assert loop.free_port(CLIENT, 6, "x") is None
