"""Pairing of produced with expected frames, here letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.testing.alignment import align


def paired(expected: str, got: str) -> list[tuple[str, str]]:
    """Pairs as letters, "-" where nothing answers."""
    pairs = align(len(expected), len(got), lambda row, column: expected[row] == got[column])
    return [("-" if row is None else expected[row], "-" if column is None else got[column]) for row, column in pairs]


@pytest.mark.parametrize(
    ("expected", "got", "pairs"),
    [
        ("", "", []),
        ("abc", "abc", ["aa", "bb", "cc"]),
        ("abc", "axc", ["aa", "bx", "cc"]),
        ("abc", "ac", ["aa", "b-", "cc"]),
        ("ac", "abc", ["aa", "-b", "cc"]),
        ("", "ab", ["-a", "-b"]),
        ("ab", "", ["a-", "b-"]),
        ("abcd", "bxd", ["a-", "bb", "cx", "dd"]),
        ("ab", "ba", ["a-", "bb", "-a"]),
    ],
)
def test_what_is_equal_stays_together(expected: str, got: str, pairs: list[str]) -> None:
    assert ["".join(pair) for pair in paired(expected, got)] == pairs


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_every_frame_of_both_sides_is_named_once_and_in_order(expected: str, got: str) -> None:
    pairs = paired(expected, got)
    assert "".join(row for row, _ in pairs if row != "-") == expected
    assert "".join(column for _, column in pairs if column != "-") == got
    assert ("-", "-") not in pairs
