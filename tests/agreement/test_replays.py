"""``dataplane replay`` of random captures: neither threads nor the slow path alone change a byte of what it writes and says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .replays import WAYS, random_replay


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed > 14 else []) for seed in range(60)])
def test_a_random_capture_is_replayed_to_the_same_bytes_in_every_way(seed: int, tmp_path: Path) -> None:
    replay = random_replay(seed, tmp_path)
    expected = replay.outcome(1, slow=True)
    assert expected[0] == 0
    assert replay.frames > 20
    for threads, slow in WAYS:
        assert replay.outcome(threads, slow=slow) == expected, f"{threads} threads, {'slow path alone' if slow else 'with the cache'}"
