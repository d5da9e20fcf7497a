"""Which produced frame answers which expected one, when some are missing or too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Pair = tuple[int | None, int | None]
"""Positions (expected, got); None on the side where nothing answers."""


def lengths(rows: int, columns: int, equal: Callable[[int, int], bool]) -> list[list[int]]:
    """Length of the longest common subsequence of the tails from (row, column), for every row and column."""
    table = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        for column in range(columns - 1, -1, -1):
            longest = max(table[row + 1][column], table[row][column + 1])
            table[row][column] = table[row + 1][column + 1] + 1 if equal(row, column) else longest
    return table


def common(rows: int, columns: int, equal: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """The longest sequence of equal pairs that is in order on both sides."""
    table = lengths(rows, columns, equal)
    row = column = 0
    while row < rows and column < columns:
        if equal(row, column):
            yield row, column
            row, column = row + 1, column + 1
        elif table[row + 1][column] >= table[row][column + 1]:
            row += 1
        else:
            column += 1


def gap(expected: range, got: range) -> Iterator[Pair]:
    """What stands between two equal pairs answers each other in order; the rest answers nothing."""
    paired = min(len(expected), len(got))
    yield from zip(expected[:paired], got[:paired], strict=True)
    yield from ((position, None) for position in expected[paired:])
    yield from ((None, position) for position in got[paired:])


def align(expected: int, got: int, equal: Callable[[int, int], bool]) -> list[Pair]:
    """Pair ``expected`` with ``got`` positions so that as many as can be are equal, in order on both sides."""
    if expected == got and all(equal(position, position) for position in range(expected)):
        return [(position, position) for position in range(expected)]
    pairs: list[Pair] = []
    next_expected = next_got = 0
    for row, column in [*common(expected, got, equal), (expected, got)]:
        pairs += gap(range(next_expected, row), range(next_got, column))
        if row < expected:
            pairs.append((row, column))
        next_expected, next_got = row + 1, column + 1
    return pairs
