"""The packet path's longest-prefix-match table against its Python twin, and the restated cases of other projects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane._lpm import Lpm
from dataplane.testing.kinds import lpm as kind
from dataplane.testing.twins.lpm import LpmTwin

BYTES = {4: 4, 6: 16}


def prefixes(family: int) -> st.SearchStrategy[tuple[bytes, int]]:
    """Few distinct bytes, so that prefixes nest, repeat and part at every bit."""
    size = BYTES[family]
    digits = st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF])
    address = st.lists(digits, min_size=size, max_size=size).map(bytes)
    return st.tuples(address, st.integers(0, size * 8))


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[str, tuple[bytes, int]]]]:
    family = draw(st.sampled_from([4, 6]))
    pool = draw(st.lists(prefixes(family), min_size=1, max_size=40))
    word = st.sampled_from(["insert", "insert", "delete", "lookup", "exact"])
    return family, draw(st.lists(st.tuples(word, st.sampled_from(pool) | prefixes(family)), max_size=120))


@settings(max_examples=400, deadline=None)
@given(histories())
def test_every_answer_is_the_twins(history: tuple[int, list[tuple[str, tuple[bytes, int]]]]) -> None:
    family, ops = history
    table, twin = Lpm(family), LpmTwin(family)
    for value, (word, (address, length)) in enumerate(ops):
        if word == "insert":
            assert table.insert(address, length, value) == twin.insert(address, length, value)
        elif word == "delete":
            assert table.delete(address, length) == twin.delete(address, length)
        elif word == "exact":
            assert table.exact(address, length) == twin.exact(address, length)
        assert table.lookup(address) == twin.lookup(address)
        assert table.lookup_prefix(address, length) == twin.lookup_prefix(address, length)
        assert len(table) == len(twin)
    assert table.prefixes() == twin.prefixes()


@pytest.mark.parametrize("family", [4, 6])
def test_table_emptied_by_deletes_is_like_new(family: int) -> None:
    """More prefixes than the first allocation holds; every node must come back through the free list."""
    table, host = Lpm(family), bytes([0xAA]) * BYTES[family]
    for _ in range(3):
        for length in range(BYTES[family] * 8 + 1):
            assert table.insert(host, length, length)
            assert table.lookup(host) == length
        for length in range(BYTES[family] * 8, -1, -1):
            assert table.lookup(host) == length
            assert table.delete(host, length)
        assert table.lookup(host) is None
        assert table.prefixes() == []


def test_default_route_answers_what_nothing_else_does() -> None:
    table = Lpm(4)
    table.insert(bytes([10, 0, 0, 0]), 8, 1)
    assert table.lookup(bytes([11, 0, 0, 1])) is None
    table.insert(bytes(4), 0, 2)
    assert table.lookup(bytes([11, 0, 0, 1])) == 2
    assert table.lookup(bytes([10, 0, 0, 1])) == 1


def test_host_bits_of_a_prefix_are_cleared() -> None:
    table = Lpm(4)
    assert table.insert(bytes([10, 10, 20, 2]), 25, 7)
    assert table.prefixes() == [(bytes([10, 10, 20, 0]), 25, 7)]
    assert not table.insert(bytes([10, 10, 20, 100]), 25, 8)


def test_largest_value_survives() -> None:
    table = Lpm(6)
    table.insert(bytes(16), 0, 0xFFFFFFFF)
    assert table.lookup(bytes(16)) == 0xFFFFFFFF


def test_clear_forgets_everything_and_the_table_goes_on() -> None:
    table = Lpm(4)
    table.insert(bytes(4), 32, 1)
    table.clear()
    assert (len(table), table.lookup(bytes(4))) == (0, None)
    assert table.insert(bytes(4), 32, 2)


@pytest.mark.parametrize(
    ("address", "length", "value", "culprit"),
    [
        (bytes(16), 8, 0, "address"),
        (bytes(3), 8, 0, "address"),
        (b"", 0, 0, "address"),
        (bytes(4), 33, 0, "prefix length"),
        (bytes(4), -1, 0, "prefix length"),
        (bytes(4), 2**40, 0, "prefix length"),
        (bytes(4), 8, -1, "value"),
        (bytes(4), 8, 2**32, "value"),
    ],
)
def test_bad_arguments_are_value_errors(address: bytes, length: int, value: int, culprit: str) -> None:
    table = Lpm(4)
    with pytest.raises(ValueError, match=culprit):
        table.insert(address, length, value)
    assert len(table) == 0


def test_there_is_no_family_but_4_and_6() -> None:
    with pytest.raises(ValueError, match="family"):
        Lpm(46)


def test_given_cases_pass(cases: Path) -> None:
    paths = sorted((cases / "lpm").glob("[!_]*.json"))
    assert paths
    failures = {path.name: kind.run(json.loads(path.read_text()), path) for path in paths}
    assert {name: lines for name, lines in failures.items() if lines} == {}


def test_a_wrong_expectation_is_reported() -> None:
    case = {
        "kind": "route_table",
        "ops": [
            {"op": "add", "prefix": "10.0.0.0/8", "next_hop": "a"},
            {"op": "lookup", "addr": "10.1.1.1", "expect": "b"},
            {"op": "lookup", "addr": "2001:db8::1", "expect": None},
            {"op": "covering", "prefix": "10.1.0.0/16", "expect": []},
            {"op": "delete", "prefix": "11.0.0.0/8", "expect_found": True},
            {"op": "add", "prefix": "blah/8", "next_hop": "c"},
        ],
    }
    failures = kind.run(case, Path("case.json"))
    assert [line.split(":")[0] for line in failures] == [
        "op 2 lookup 10.1.1.1",
        "op 4 covering 10.1.0.0/16",
        "op 5 delete 11.0.0.0/8",
        "op 6 add blah/8",
    ]


def test_an_accepted_prefix_among_the_rejected_is_reported() -> None:
    case = {"kind": "invalid_input", "rejected": ["10.0.0.0/33", "10.0.0.0/8", "fe80::1%eth0/64", "10.0.0.0/255.0.0.0", "1.2.3.4/"]}
    assert kind.run(case, Path("case.json")) == ["prefix '10.0.0.0/8' was accepted"]


def test_covering_lists_the_longest_prefix_first() -> None:
    twin = LpmTwin(4)
    for length in (8, 24, 16, 32):
        twin.insert(bytes([10, 0, 0, 0]), length, length)
    assert [length for _, length, _ in twin.covering(bytes([10, 0, 0, 9]), 30)] == [24, 16, 8]
    assert [length for _, length, _ in twin.covered(bytes([10, 0, 0, 0]), 16)] == [16, 24, 32]
