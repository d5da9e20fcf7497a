"""Frames that several threads carry together: where a window ends, and what connections are that had seen more. Everything shows as it
would if one thread had carried one frame after the other through the stages alone."""

from __future__ import annotations

import os
from array import array
from random import Random

import pytest

from core.outlets import CONNECTIONS, EVERYWHERE, WAYS, Outlet, compared, question, reply, rounds, segment
from core.worlds import MILLISECOND, ether
from dataplane._core import Engine

CAPTURED = {"everywhere": EVERYWHERE, "nowhere": (), "where the client's leave": ("eth1",)}


@pytest.fixture(params=CAPTURED)
def captured(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Devices that see the frames: they leave in their connections' turn where nobody does."""
    return CAPTURED[request.param]


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_frames_that_leave_the_world_go_in_windows(threads: int, window: int, captured: tuple[str, ...]) -> None:
    frames = rounds(12)
    assert compared(frames, threads, window, captured=captured) == len(frames) // window * window if window < 64 else len(frames)


@pytest.mark.parametrize(("threads", "window"), WAYS)
@pytest.mark.parametrize("place", [0, 1, 250, 511, 512, 700, 1023, 1024, 2303])
def test_a_segment_out_of_its_window_is_left_to_the_stages_and_nothing_behind_it_is_seen(
    threads: int, window: int, place: int, captured: tuple[str, ...]
) -> None:
    """In all parts of a window of frames; connections of all parts before and behind it."""
    frames = rounds(12)
    frames[place] = segment(place % CONNECTIONS, 3_000_000_000)
    shared = compared(frames, threads, window, captured=captured)
    assert shared > len(frames) // 2
    assert shared < len(frames)


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_a_connection_that_becomes_another_in_the_middle_of_a_window_ends_it(threads: int, window: int, captured: tuple[str, ...]) -> None:
    """Once it has been used for two seconds the question's connection counts as a stream: the same thread has by then seen to segments
    that come later, for datagrams have their turn behind them. Each segment is sent three times: a connection that saw one a
    fourth time would end ten seconds later (nf_conntrack_tcp_max_retrans)."""
    frames: list[bytes] = []
    for number, each in enumerate([segment(number, 101) for number in range(CONNECTIONS)] * 3):
        frames += [each, question()] if number % 8 == 0 else [each]
    shared = compared(frames, threads, window, gap=4 * MILLISECOND, captured=captured)
    assert len(frames) // 2 < shared < len(frames)


@pytest.mark.parametrize(("threads", "window"), WAYS)
def test_both_directions_of_few_connections_and_what_they_would_not_have(threads: int, window: int, captured: tuple[str, ...]) -> None:
    """The same connections many times in a window, from both ends; now and then a segment that is out of its window."""
    rng = Random(f"ends {threads} {window} {captured}")
    frames = []
    for step in range(2000):
        number = rng.choice((0, 1, 70, 130, 191))
        if rng.random() < 0.004:
            frames.append(segment(number, 3_000_000_000))
        elif rng.random() < 0.5:
            frames.append(segment(number, 100 + step // 300))
        else:
            frames.append(reply(number, 200 + step // 300))
    shared = compared(frames, threads, window, captured=captured)
    assert len(frames) // 3 < shared < len(frames)


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


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": 65}, {"threads": 2, "window": -1}, {"threads": 2, "window": 4097}])
def test_there_are_limits_to_threads_and_windows(wrong: dict[str, int]) -> None:
    devices, starts, lengths, times = (array(kind) for kind in "iQIq")
    with pytest.raises(ValueError, match="threads are 1 to 64, frames of a window 0 to 4096"):
        Engine().carry(b"", devices, starts, lengths, times, bytearray(), **wrong)
