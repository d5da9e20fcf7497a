"""The packet path's longest-prefix-match table against its Python twin, and the restated cases of other projects."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane._lpm import Lpm
from dataplane.testing.kinds import lpm as kind
from dataplane.testing.twins.lpm import LpmTwin

BYTES = {4: 4, 6: 16}
NOT_FOUND = 0xFFFFFFFF
ALWAYS_TRIE = 2**31 - 1  # more prefixes than any test has


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


def found_together(table: Lpm, addresses: list[bytes]) -> list[int | None]:
    values = array("I", bytes(4 * len(addresses)))
    assert table.lookup_many(b"".join(addresses), values) == len(addresses)
    return [None if value == NOT_FOUND else value for value in values]


@settings(max_examples=400, deadline=None)
@given(histories(), st.sampled_from([1, 4, ALWAYS_TRIE]))
def test_every_answer_is_the_twins(history: tuple[int, list[tuple[str, tuple[bytes, int]]]], fast_from: int) -> None:
    family, ops = history
    table, twin = Lpm(family, fast_from=fast_from), LpmTwin(family)
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
    asked = [address for _, (address, _) in ops]
    assert found_together(table, asked) == [twin.lookup(address) for address in asked]


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


def edges(address: bytes, length: int) -> list[bytes]:
    """First and last address of a prefix and their neighbours outside, where they exist."""
    bits = len(address) * 8
    first = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    last = first | ((1 << (bits - length)) - 1)
    return [number.to_bytes(len(address), "big") for number in (first - 1, first, last, last + 1) if 0 <= number < 1 << bits]


def bgp_like(family: int, count: int, rng: random.Random) -> list[tuple[bytes, int]]:
    """Mostly the lengths that the Internet's tables have, nested in each other; some of every other length."""
    bits, usual = (32, (16, 19, 20, 22, 23, 24, 24, 24)) if family == 4 else (128, (29, 32, 36, 40, 44, 48, 48, 48))
    blocks = [rng.getrandbits(bits) for _ in range(count // 20)]
    made = []
    for _ in range(count):
        length = rng.choice(usual) if rng.random() < 0.97 else rng.randint(bits // 4, bits)
        shared = rng.randint(bits // 8, bits // 3)
        host = (1 << (bits - shared)) - 1
        made.append(((rng.choice(blocks) & ~host | rng.getrandbits(bits) & host).to_bytes(bits // 8, "big"), length))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
def test_fast_table_agrees_with_the_trie_while_two_hundred_thousand_prefixes_come_and_go(family: int) -> None:
    """Compared at the edges of prefixes and at random, after each tenth of the inserts, of the deletes, and of default routes."""
    rng = random.Random(f"fast {family}")
    fast, trie = Lpm(family, fast_from=1), Lpm(family, fast_from=ALWAYS_TRIE)
    prefixes = bgp_like(family, 200_000, rng)
    default = (bytes(BYTES[family]), 0)
    step = len(prefixes) // 10

    def same(around: list[tuple[bytes, int]]) -> bool:
        asked = [edge for prefix in rng.sample(around, 2000) for edge in edges(*prefix)]
        asked += [rng.randbytes(BYTES[family]) for _ in range(5000)]
        assert fast.fast_bytes and not trie.fast_bytes
        return found_together(fast, asked) == found_together(trie, asked)

    for start in range(0, len(prefixes), step):
        for address, length in prefixes[start : start + step]:
            value = rng.choice([rng.randint(0, 500), rng.randint(30_000, 40_000), rng.randint(0, 0x7FFFFFFD)])
            assert fast.insert(address, length, value) == trie.insert(address, length, value)
        assert same(prefixes[: start + step])
        for table in (fast, trie):
            table.delete(*default) if start // step % 2 else table.insert(*default, start)
        assert same(prefixes[: start + step])
    rng.shuffle(prefixes)
    for start in range(0, len(prefixes) - step, step):
        for address, length in prefixes[start : start + step]:
            assert fast.delete(address, length) == trie.delete(address, length)
        assert same(prefixes)


def test_memory_of_the_fast_table_comes_back_with_deletes() -> None:
    rng = random.Random(1)
    table = Lpm(6, fast_from=1)
    table.insert(bytes(16), 0, 1)
    small = table.fast_bytes
    prefixes = sorted(set(bgp_like(6, 3000, rng)))
    for address, length in prefixes:
        table.insert(address, length, 2)
    assert table.fast_bytes > 10 * small
    for address, length in prefixes:
        table.delete(address, length)
    assert table.lookup(prefixes[0][0]) == 1
    assert table.fast_bytes < 2 * small


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 65, 1000])
def test_as_many_lookups_as_asked_for_and_no_byte_more(family: int, count: int) -> None:
    table, size = Lpm(family, fast_from=1), BYTES[family]
    for number in range(200):
        table.insert(bytes([number] + [0] * (size - 1)), 8, number)
    addresses = [bytes([number % 250] + [1] * (size - 1)) for number in range(count)]
    values = array("I", [7] * (count + 2))
    assert table.lookup_many(b"".join(addresses), values) == count
    assert list(values[:count]) == [number % 250 if number % 250 < 200 else NOT_FOUND for number in range(count)]
    assert list(values[count:]) == [7, 7]


def test_a_value_too_large_for_the_fast_table_is_found_in_the_trie() -> None:
    table = Lpm(4, fast_from=1)
    table.insert(bytes([10, 0, 0, 0]), 8, 0x7FFFFFFD)
    assert table.fast_bytes
    assert found_together(table, [bytes([10, 0, 0, 1])]) == [0x7FFFFFFD]
    table.insert(bytes([10, 0, 0, 0]), 16, 0x7FFFFFFE)
    assert not table.fast_bytes
    assert found_together(table, [bytes([10, 0, 0, 1]), bytes([10, 1, 0, 0]), bytes(4)]) == [0x7FFFFFFE, 0x7FFFFFFD, None]
    table.clear()
    table.insert(bytes(4), 0, 1)
    assert table.fast_bytes


@pytest.mark.parametrize(
    ("addresses", "values", "culprit"),
    [
        (bytes(5), bytearray(8), "5 bytes"),
        (bytes(8), bytearray(7), "8 bytes"),
        (bytes(4), memoryview(bytearray(8))[1:], "multiple of 4"),
    ],
)
def test_bad_buffers_are_value_errors(addresses: bytes, values: bytearray | memoryview, culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        Lpm(4).lookup_many(addresses, values)


def test_values_must_be_writable() -> None:
    with pytest.raises(BufferError):
        Lpm(4).lookup_many(bytes(4), memoryview(bytes(4)))


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


def test_a_fast_table_needs_a_prefix() -> None:
    with pytest.raises(ValueError, match="fast_from"):
        Lpm(4, fast_from=0)


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
