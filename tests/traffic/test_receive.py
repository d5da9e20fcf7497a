"""Reassembly of a byte stream from segments in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.traffic.receive import WINDOW, ReceiveQueue

STREAM = bytes(range(200))


def opened() -> ReceiveQueue:
    queue = ReceiveQueue()
    queue.take_syn()
    return queue


@given(st.lists(st.tuples(st.integers(0, 199), st.integers(1, 60)), max_size=60))
def test_overlapping_segments_in_any_order_make_the_stream(pieces: list[tuple[int, int]]) -> None:
    queue, received, fins = opened(), b"", 0
    for start, size in [*pieces, (0, 200)]:
        data = STREAM[start : start + size]
        if queue.is_acceptable(1 + start, len(data)):
            received += queue.add(1 + start, data, is_fin=start + size >= 200)
        assert received == STREAM[: len(received)]
        fins += queue.take_fin()
        blocks = queue.blocks()
        assert all(queue.next < left < right for left, right in blocks)
        assert len(blocks) <= 3
    assert received == STREAM
    assert fins == 1
    assert queue.next == 1 + 200 + 1


def test_sack_blocks_name_the_latest_first_and_join_neighbours() -> None:
    queue = opened()
    for position in (101, 301, 201):
        queue.add(position, b"x" * 10, is_fin=False)
    assert queue.blocks() == ((201, 211), (101, 111), (301, 311))
    queue.add(111, b"x" * 10, is_fin=False)
    assert queue.blocks() == ((101, 121), (201, 211), (301, 311))


def test_segments_partly_in_the_window_are_acceptable() -> None:
    queue = opened()
    queue.add(1, b"x" * 99, is_fin=False)
    assert queue.next == 100
    assert not queue.is_acceptable(90, 10)
    assert queue.is_acceptable(90, 11)
    assert queue.is_acceptable(100, 0)
    assert not queue.is_acceptable(99, 0)
    assert not queue.is_acceptable(100 + WINDOW, 1)


def test_fin_before_the_data_waits_for_it() -> None:
    queue = opened()
    queue.add(11, b"", is_fin=True)
    assert not queue.take_fin()
    queue.add(1, b"x" * 10, is_fin=False)
    assert queue.take_fin()
    assert not queue.take_fin()
