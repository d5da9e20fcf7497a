"""The table of connections beside a list that is searched from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SHORTEST = 5  # timeout, of all that the tables here give
SOURCE_WORDS = ["begin", "begin", "expire"]
WORDS = ["begin"] * 6 + ["refresh", "assure", "assure", "close", "expire", "wait", "wait"]


@pytest.fixture(scope="module")
def table(probe: Callable[[str], ModuleType]) -> ModuleType:
    return probe("conntrack_probe")


@dataclass
class Entry:
    """What the list knows of one connection."""

    number: int
    tcp: bool
    expires: int
    assured: bool = False
    closing: bool = False


class ListedTable:
    """The twin: the same answers by looking at every entry."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.entries: list[Entry] = []

    def named(self, number: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.number == number), None)

    def expire(self, now: int) -> None:
        self.entries = [entry for entry in self.entries if entry.expires > now]

    def make_room(self, now: int) -> bool:
        self.expire(now)
        if len(self.entries) < self.most:
            return True
        for entry in self.entries:
            if not entry.assured or (entry.tcp and entry.closing):
                self.entries.remove(entry)
                return True
        return False

    def begin(self, number: int, tcp: bool, now: int, timeout: int) -> str:
        known = self.named(number)
        if known is not None and known.expires > now:
            return "known"
        if known is not None:
            self.entries.remove(known)
        if len(self.entries) >= self.most and not self.make_room(now):
            return "full"
        self.entries.append(Entry(number, tcp, now + timeout))
        return "begun"


def proto(module: ModuleType, number: int) -> int:
    value: int = module.TCP if number % 3 else module.UDP
    return value


def family(number: int) -> int:
    return 6 if number % 5 == 0 else 4


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(0, 1 << 40), max_size=120))
def test_who_is_there_who_ends_and_who_makes_room_is_as_in_a_list(table: ModuleType, most: int, steps: list[int]) -> None:
    fast, twin, now = table.Table(most, SHORTEST), ListedTable(most), 1
    for step in steps:
        step, word = divmod(step, len(WORDS))
        step, number = divmod(step, 24)
        timeout = SHORTEST + step % 40
        entry = twin.named(number)
        if WORDS[word] == "begin":
            begun = fast.begin(number, proto(table, number), family(number), now, timeout)
            assert begun == twin.begin(number, number % 3 != 0, now, timeout)
        elif WORDS[word] == "wait":
            now += step % 9
        elif WORDS[word] == "expire":
            fast.expire(now)
            twin.expire(now)
        elif entry is not None and entry.expires > now:
            if WORDS[word] == "refresh":
                fast.refresh(number, now, timeout)
                entry.expires = now + timeout
            elif WORDS[word] == "assure":
                fast.assure(number)
                entry.assured = True
            elif entry.tcp:
                fast.close(number)
                entry.closing = True
        assert fast.numbers() == [entry.number for entry in twin.entries]
    for number in range(24):
        there = twin.named(number)
        directions = (0, 1) if there is not None and there.expires > now else (None, None)
        args = (number, proto(table, number), family(number), now)
        assert (fast.found(*args, False), fast.found(*args, True)) == directions


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 80), st.lists(st.tuples(st.sampled_from(SOURCE_WORDS), st.integers(0, 40), st.integers(0, 30)), max_size=80))
def test_connections_of_one_source_are_found_the_newest_first_whenever_that_is_asked_first(
    table: ModuleType, first: int, steps: list[tuple[str, int, int]]
) -> None:
    fast, twin, now = table.Table(1000, SHORTEST), ListedTable(1000), 1
    for step, (word, which, spent) in enumerate(steps):
        number = which % 4 | which // 4 << 16  # four sources, ten destinations
        if word == "begin":
            assert fast.begin(number, table.TCP, 4, now, SHORTEST + spent) == twin.begin(number, True, now, SHORTEST + spent)
        else:
            now += spent
            fast.expire(now)
            twin.expire(now)
        if step >= first:
            of_source = [entry.number for entry in twin.entries if entry.number % 4 == which % 4]
            assert fast.sources(which % 4, table.TCP, 4) == of_source[::-1]


def test_in_a_table_full_of_assured_connections_the_one_that_closes_makes_room(table: ModuleType) -> None:
    fast = table.Table(3, SHORTEST)
    for number in (1, 2, 4):
        assert fast.begin(number, table.TCP, 4, 0, 100) == "begun"
        fast.assure(number)
    assert fast.begin(5, table.TCP, 4, 1, 100) == "full"
    fast.close(2)
    assert fast.begin(5, table.TCP, 4, 2, 100) == "begun"
    assert fast.numbers() == [1, 4, 5]
    assert fast.begin(7, table.TCP, 4, 3, 100) == "begun"  # in the place of 5, which nobody has answered
    assert fast.numbers() == [1, 4, 7]


def test_a_large_table_finds_all_of_its_connections(table: ModuleType) -> None:
    fast = table.Table(100_000, SHORTEST)
    for number in range(20_000):
        assert fast.begin(number, table.TCP, family(number), 0, 100) == "begun"
    assert fast.numbers() == list(range(20_000))
    for number in range(0, 20_000, 7):
        assert fast.found(number, table.TCP, family(number), 1, False) == 0
        assert fast.found(number, table.TCP, family(number), 1, True) == 1
        assert fast.sources(number, table.TCP, family(number)) == [number]
    assert fast.found(20_000, table.TCP, 4, 1, False) is None
    assert fast.passed() > 0
    fast.expire(100)
    assert fast.numbers() == [] and fast.passed() == 0


def test_a_large_table_that_loses_some_of_its_connections_finds_the_others(table: ModuleType) -> None:
    fast, count = table.Table(100_000, SHORTEST), 12_000
    for number in range(count):
        fast.begin(number, table.TCP, family(number), 0, 1_000 if number % 3 else 10)
    fast.expire(10)
    for number in range(count, count + 3_000):
        fast.begin(number, table.TCP, family(number), 11, 1_000)
    for number in range(count + 3_000):
        directions = (0, 1) if number >= count or number % 3 else (None, None)
        args = (number, table.TCP, family(number), 12)
        assert (fast.found(*args, False), fast.found(*args, True)) == directions


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=200))
def test_tuples_are_found_from_their_own_line_on_however_full_it_is(table: ModuleType, steps: list[tuple[int, int, bool]]) -> None:
    there: dict[int, int] = {}  # reference -> hash
    lines, ref = table.Lines(), 0
    for home, tag, goes in steps:
        if goes and there:
            gone = sorted(there)[tag % len(there)]
            lines.take(there.pop(gone), gone)
        elif len(there) < lines.most:
            ref += 1
            there[ref] = home | tag << 2
            lines.put(there[ref], ref)
        for wanted in range(12):
            assert {number for number, each in there.items() if each == wanted} <= set(lines.found(wanted)[0]) <= set(there)
    for gone, each in there.items():
        lines.take(each, gone)
    assert [lines.found(home) for home in range(4)] == [([], 1)] * 4  # and nobody looks any further


@pytest.mark.parametrize("family", [4, 6])
def test_chance_draws_by_the_bytes_of_the_original_tuple(table: ModuleType, family: int) -> None:
    fast = table.Table(100, SHORTEST)
    for number in range(1, 100):
        fast.begin(number * 0x1234567, table.UDP, family, 0, 10)
        by_words, by_bytes = fast.draws_by(number * 0x1234567, number << 40 | 7)
        assert by_words == by_bytes


def test_memory_that_is_used_again_has_another_serial(table: ModuleType) -> None:
    fast = table.Table(10, SHORTEST)
    fast.begin(1, table.UDP, 4, 0, 10)
    assert fast.alive(1)
    fast.expire(10)
    assert not fast.alive(1)
    fast.begin(2, table.UDP, 4, 10, 10)
    assert fast.alive(2) and not fast.alive(1)


def test_an_entry_is_small(table: ModuleType) -> None:
    assert table.ENTRY_BYTES <= 110  # and 17 to 34 of lines and buckets
    assert table.ENTRY6_BYTES <= 174
