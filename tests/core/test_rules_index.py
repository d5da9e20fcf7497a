"""Walks by the index over long chains, by a glance at most rules or from memory come to what looking at each rule comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane._core import Chain

ADDRESSES = {4: [bytes([10, 96, 0, n]) for n in range(6)], 6: [bytes([0xFD, *[0] * 14, n]) for n in range(6)]}
PORTS = [0, 53, 80, 443, 8080]
ENDS = ["ACCEPT", "DROP", "RETURN", "", "MARK", "DNAT"]


class Walked(NamedTuple):
    """What a flow meets."""

    src: bytes
    dst: bytes
    proto: int
    l4: bytes
    seed: int
    state: int
    mark: int
    iif: bytes
    later_fragment: bool


@pytest.fixture(scope="module")
def rules(probe: Callable[[str], ModuleType]) -> ModuleType:
    return probe("rules_probe")


class Digits:
    """One number as a series of small choices: a rule costs Hypothesis one draw."""

    def __init__(self, number: int) -> None:
        self.left = number

    def below(self, n: int) -> int:
        self.left, digit = divmod(self.left, n)
        return digit

    def of(self, choices: Sequence[Any]) -> Any:
        return choices[self.below(len(choices))]


def rule_of(number: int, family: int, style: str, chains: list[str]) -> Any:
    """A rule of a stretch: of style ``address`` or ``port`` one that the index is about, else mostly one it keeps its hands off."""
    digits = Digits(number)
    whole = 32 if family == 4 else 128
    rule: dict[str, Any] = {"target": digits.of(["", "MARK", *chains * 3, *ENDS]), "goto": digits.below(4) == 0}
    if style == "address" or (style == "" and digits.below(2)):
        rule["dst"] = (digits.of(ADDRESSES[family]), whole if style else digits.of([whole, whole - 1, 0]))
    if style == "port" or (style != "port" and digits.below(3) == 0):
        rule["dport"] = (port := digits.of(PORTS), port if style else digits.of([port, 443]))
    if style == "":
        rule |= {f"{key}_not": True for key in ("dst", "dport") if key in rule and digits.below(3) == 0}
    if digits.below(3) == 0:
        rule["proto"] = digits.of([6, 17])
    if digits.below(6) == 0:
        rule |= {"src": (digits.of(ADDRESSES[family]), digits.of([whole, whole - 2])), "src_not": digits.below(2) == 0}
    if digits.below(4) == 0:
        rule["probability"] = digits.of([0.0, 0.3, 0.5, 1.0])
    if digits.below(4) == 0:
        rule["mark"] = digits.of([(0, 1), (1, 1), (2, 3), (4, 1), (0, 0)])
    if digits.below(6) == 0:
        rule["ctstate"] = digits.of([1, 8, 2 | 4, 64, 8 | 128])
    if digits.below(8) == 0:
        rule |= digits.of([{"iif": "eth0"}, {"iif": "eth+"}, {"fragment": True}, {"fragment": False}])
    if digits.below(8) == 0:
        rule |= digits.of([{"tcp_flags": (2, 2)}, {"sport": (53, 80)}])
    rule |= {f"{key}_not": True for key in ("proto", "src", "mark", "ctstate", "iif") if key in rule and digits.below(2)}
    if digits.below(8) == 0:
        rule["recent"] = digits.of([("set", "a", 0, False), ("rcheck", "a", 10, False), ("update", "b", 10, True)])
    if rule["target"] == "MARK":
        rule["set_mark"] = digits.of([(1, 1), (0, 1)])
    if rule["target"] == "DNAT":
        rule["to"] = (ADDRESSES[family][0], b"", 0, 0)
    return rule


@st.composite
def tables(draw: st.DrawFn, family: int) -> list[Chain]:
    """A few chains, each of short and long stretches of like rules, that jump to later ones."""
    names = ["PREROUTING", "A", "B"]
    numbers = st.lists(st.integers(0, 1 << 60), max_size=24)
    chains = []
    for place, name in enumerate(names):
        stretches = draw(st.lists(st.tuples(st.sampled_from(["address", "port", ""]), numbers), max_size=3))
        rules: list[Any] = [rule_of(number, family, style, names[place + 1 :]) for style, stretch in stretches for number in stretch]
        chains.append(Chain(name, "ACCEPT" if place == 0 else "", rules))
    return chains


def flows(family: int) -> st.SearchStrategy[Walked]:
    address, port = st.sampled_from(ADDRESSES[family]), st.sampled_from(PORTS).map(lambda port: port.to_bytes(2, "big"))
    layer4 = st.one_of(st.tuples(port, port).map(lambda pair: pair[0] + pair[1] + bytes(16)), st.sampled_from([b"", b"\0\x50\0"]))
    state = st.sampled_from([1, 2, 4, 8, 8 | 64, 8 | 128, 256])
    return st.builds(Walked, address, address, st.sampled_from([1, 6, 17]), layer4, st.integers(0, 1 << 30), state, st.integers(0, 3),
                     st.sampled_from([b"", b"eth0", b"eth1"]), st.sampled_from([False, False, False, True]))  # fmt: skip


A_FLOW = Walked(bytes([10, 96, 0, 1]), bytes([10, 96, 0, 2]), 6, bytes([0, 53, 0, 80, *[0] * 16]), 0, 8, 0, b"eth0", False)


@pytest.mark.parametrize(
    ("rule", "other"),
    [
        ({"src": (A_FLOW.src, 31)}, {"src": bytes([10, 96, 0, 2])}),
        ({"src": (A_FLOW.src, 31), "src_not": True}, {"src": bytes([10, 96, 0, 2])}),
        ({"dst": (A_FLOW.dst, 32)}, {"dst": bytes([10, 96, 0, 3])}),
        ({"dst": (A_FLOW.dst, 32), "dst_not": True}, {"dst": bytes([10, 96, 0, 3])}),
        ({"proto": 6}, {"proto": 17}),
        ({"proto": 6, "proto_not": True}, {"proto": 17}),
        ({"dport": (80, 80)}, {"l4": bytes([0, 53, 0, 81, *[0] * 16])}),
        ({"dport": (80, 90)}, {"l4": bytes([0, 53, 0, 91, *[0] * 16])}),
        ({"dport": (80, 80)}, {"l4": bytes(3)}),
        ({"sport": (53, 53)}, {"l4": bytes([0, 54, 0, 80, *[0] * 16])}),
        ({"tcp_flags": (2, 0)}, {"l4": bytes([0, 53, 0, 80, *[0] * 9, 2, *[0] * 6])}),
        ({"fragment": False}, {"later_fragment": True}),
        ({"mark": (0, 6)}, {"mark": 2}),
        ({"mark": (0, 6), "mark_not": True}, {"mark": 4}),
        ({"mark": (4, 4), "mark_not": True}, {"mark": 4}),
        ({"ctstate": 8}, {"state": 2}),
        ({"ctstate": 8, "ctstate_not": True}, {"state": 2}),
        ({"ctstate": 8 | 4}, {"state": 2}),
        ({"ctstate": 64}, {"state": 8 | 64}),
        ({"iif": "eth0"}, {"iif": b"eth1"}),
    ],
)
def test_a_packet_that_differs_where_a_rule_looks_does_not_fare_as_the_one_remembered(
    rules: ModuleType, rule: Any, other: dict[str, Any]
) -> None:
    dropping: Any = {**rule, "target": "DROP"}
    table = rules.Table([Chain("PREROUTING", "ACCEPT", [dropping])], 4)
    known, differs = table.walk("memo", *A_FLOW), A_FLOW._replace(**other)
    assert table.walk("memo", *A_FLOW) == known == table.walk("rule by rule", *A_FLOW)
    assert table.walk("memo", *differs) == table.walk("rule by rule", *differs) != known


@st.composite
def steady_tables(draw: st.DrawFn, family: int) -> list[Chain]:
    """Two short chains of rules that say the same of the same packet each time, and change nothing."""
    chains = []
    for name, targets in (("PREROUTING", ["A", "A", "ACCEPT", "DROP", "", "DNAT"]), ("A", ["ACCEPT", "DROP", "RETURN"])):
        rules: list[Any] = [rule_of(number, family, "", []) for number in draw(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=4))]
        for rule in rules:
            for key in ("probability", "recent", "set_mark", "to"):
                rule.pop(key, None)
            rule["target"] = draw(st.sampled_from(targets))
        chains.append(Chain(name, "ACCEPT" if name == "PREROUTING" else "", rules))
    return chains


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_remembered_of_a_walk_holds_for_the_packets_it_is_told_of(rules: ModuleType, family: int) -> None:
    @settings(max_examples=400, deadline=None)
    @given(steady_tables(family), st.lists(flows(family), min_size=2, max_size=16))
    def check(chains: list[Chain], walked: list[Walked]) -> None:
        table = rules.Table(chains, 4 if family == 4 else 16)
        for flow in walked:
            assert table.walk("memo", *flow) == table.walk("rule by rule", *flow)

    check()


@pytest.mark.parametrize("family", [4, 6])
def test_neither_the_index_nor_memory_changes_what_a_walk_comes_to(rules: ModuleType, family: int) -> None:
    @settings(max_examples=150, deadline=None)
    @given(tables(family), st.lists(flows(family), min_size=1, max_size=12))
    def check(chains: list[Chain], walked: list[Walked]) -> None:
        table = rules.Table(chains, 4 if family == 4 else 16)
        for flow in walked:
            slowly = table.walk("rule by rule", *flow)
            assert table.walk("index", *flow) == slowly
            assert table.walk("memo", *flow) == slowly
            assert table.walk("memo", *flow) == slowly

    check()


def services(n: int) -> list[Chain]:
    """A chain as a proxy writes it: one rule for each of ``n`` addresses, and one chain behind each."""
    addresses = [bytes([10, 96, k >> 8, k & 255]) for k in range(n)]
    first: list[Any] = [{"dst": (address, 32), "proto": 6, "dport": (80, 80), "target": f"SVC-{k}"} for k, address in enumerate(addresses)]
    behind = [Chain(f"SVC-{k}", "", [{"target": "DNAT", "to": (bytes([10, 0, 0, 1]), b"", 0, 0)}]) for k in range(n)]
    return [Chain("PREROUTING", "ACCEPT", [*first, {"target": "MARK", "set_mark": (1, 1)}]), *behind]


def test_a_chain_of_services_is_one_run_whose_rules_count_as_walked(rules: ModuleType) -> None:
    table = rules.Table(services(1000), 4)
    syn = (1024).to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(16)
    assert table.runs == 1
    target, rule, walked, matched, mark, _, _ = table.walk("index", bytes(4), bytes([10, 96, 2, 10]), 6, syn, 0)
    assert (walked, matched, mark) == (523 + 1, [522, rule], 0)
    missed = table.walk("index", bytes(4), bytes([10, 97, 0, 0]), 6, syn, 0)
    assert (missed[2], missed[3], missed[4]) == (1001, [1000], 1)
    assert target != missed[0]


def test_a_prefix_longer_than_its_address_is_refused(rules: ModuleType) -> None:
    with pytest.raises(ValueError, match="a prefix of 4 bytes has no 33 bits"):
        rules.Table([Chain("PREROUTING", "ACCEPT", [{"dst": (bytes(4), 33)}])], 4)
