"""A table of rules from a book decides, counts and tells as the same table that was set as a whole."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.test_engine_rules import ADDRESSES, FILTERS, PORTS, numbered, packets, tables
from core.worlds import CLIENT, SERVER, Router, ether, filter_table, ip, nat_table, tcp_packet, udp_packet
from dataplane._core import Chain, recent_lists
from dataplane._rulebook import GLANCE_SIZE, RULE_SIZE, RuleBook, local_rules, pack_rules

SYN = 0x02
UNSTEADY = ("probability", "recent", "tcp_flags")


class Shelf:
    """A book made of chains, of which the last ones are left to each namespace, and what it was asked for."""

    def __init__(self, chains: list[Chain], last: int, family: int = 4) -> None:
        self.targets = {chain.name: -1 - number for number, chain in enumerate(chains)}
        self.chains, self.asked = chains, list[int]()
        self.failing: list[BaseException] = []
        rules = [rule for chain in chains for rule in chain.rules]
        counts = array("i", [len(chain.rules) for chain in chains]).tobytes()
        builtin = {chain.name: (number, chain.policy) for number, chain in enumerate(chains) if chain.policy}
        chance = any("probability" in rule for rule in rules)
        self.book = RuleBook(counts, last, builtin, chance, any(key in rule for rule in rules for key in UNSTEADY), self.write)
        for number, chain in enumerate(chains):
            if chain.policy and chain.rules:
                self.book.write(number, [(self.packed(chain), 0)])
        self.book.index(family)
        own = b"".join(self.packed(chain) for chain in chains[len(chains) - last :])
        self.local = local_rules(own, 0, len(chains))

    def packed(self, chain: Chain) -> bytes:
        return pack_rules(chain.rules, self.targets, recent_lists)

    def write(self, chain: int) -> Iterator[tuple[int, list[tuple[bytes, int]]]]:
        self.asked.append(chain)
        if self.failing:
            raise self.failing.pop()
        yield chain, [(self.packed(self.chains[chain]), 0)]


def denying(last: int = 0) -> Shelf:
    """What is forwarded to UDP port 53 meets a chain that is not written before, and is dropped."""
    rule: Any = {"dport": (53, 53), "proto": 17, "target": "later"}
    return Shelf([*filter_table(FORWARD=[rule]), Chain("later", "", [{"target": "DROP", "origin": 9}])], last)


def forwarded(router: Router, dport: int = 53) -> int:
    """How many of one packet leave."""
    before = len(router.seen(router.eth1, outgoing=True))
    assert before == 0
    router.take(ether(udp_packet(dport=dport)))
    return len(router.seen(router.eth1, outgoing=True))


def given_book(shelf: Shelf, table: str = "filter") -> Router:
    router = Router()
    router.engine.use_book(router.ns, 4, table, shelf.book, shelf.local)
    return router


@st.composite
def with_stretches(draw: st.DrawFn, builtin: tuple[str, ...], nat: bool) -> list[Chain]:
    """Built-in chains with long stretches of rules that an index leads through."""
    found = []
    for chain in draw(tables(builtin, nat)):
        if chain.policy and draw(st.booleans()):
            stretches: dict[str, list[Any]] = {"dst": [(ip(each), 32) for each in ADDRESSES], "dport": [(each, each) for each in PORTS]}
            key = draw(st.sampled_from(sorted(stretches)))
            target = st.sampled_from(("first", "second", "third", "ACCEPT", "DROP", "", "RETURN"))
            more: Any = [{key: draw(st.sampled_from(stretches[key])), "target": draw(target)} for _ in range(draw(st.integers(8, 14)))]
            rules = [*chain.rules, *more] if draw(st.booleans()) else [*more, *chain.rules]
            found.append(chain._replace(rules=rules))
        else:
            found.append(chain)
    return found


def happened(router: Router, given: list[bytes]) -> list[Any]:
    engine = router.engine
    engine.add_route(router.ns, bytes(4), 0, via=ip(SERVER))
    for packet in given:
        router.take(ether(packet))
        engine.send(router.ns, packet)
        engine.run(engine.now + 1000)
    return [engine.frames(), engine.drops(), engine.events(), engine.counters(), engine.conntrack(router.ns)]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    with_stretches(("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), True), with_stretches(FILTERS, False),
    st.lists(packets((CLIENT, "10.0.0.77", "203.0.113.5")), min_size=1, max_size=6), st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_it_is_the_table_set_as_a_whole(nat: list[Chain], filters: list[Chain], sent: list[bytes], last: int, traced: bool) -> None:
    whole, bound = Router(), [Router(), Router()]
    for table, chains in (("nat", numbered(nat, 1)), ("filter", numbered(filters, 1000))):
        whole.engine.set_rules(whole.ns, 4, table, chains)
        shelf = Shelf(chains, last)
        for router in bound:  # the second one finds chains that the first one has met
            router.engine.use_book(router.ns, 4, table, shelf.book, shelf.local)
    for router in (whole, *bound):
        router.engine.trace(traced)
    expected = happened(whole, sent)
    for router in bound:
        assert happened(router, sent) == expected


def test_a_chain_is_written_once_and_when_a_packet_meets_it() -> None:
    shelf = denying()
    router, other = given_book(shelf), given_book(shelf)
    assert forwarded(router, dport=54) == 1 and shelf.asked == []
    assert forwarded(router) == 0 and forwarded(router) == 0 and forwarded(other) == 0
    assert shelf.asked == [3]
    assert [drop.origin for drop in other.engine.drops()] == [9]


def test_last_chains_are_each_namespaces_own() -> None:
    shelf = denying(last=1)
    strict = given_book(shelf)
    mild = Router()
    accepting = local_rules(pack_rules([{"target": "ACCEPT"}], {}, recent_lists), 0, 4)
    mild.engine.use_book(mild.ns, 4, "filter", shelf.book, accepting)
    assert forwarded(strict) == 0 and forwarded(mild) == 1 and forwarded(strict) == 0
    assert shelf.asked == []


def test_what_the_source_raises_leaves_the_call_and_is_tried_again() -> None:
    shelf = denying()
    router, other = given_book(shelf), given_book(shelf)
    shelf.failing.append(LookupError("no such chain"))
    with pytest.raises(LookupError, match="no such chain"):
        forwarded(router)
    assert forwarded(other) == 0  # the book is no worse for it
    router.seen(router.eth1, outgoing=True)
    assert forwarded(router) == 0


def test_what_the_source_raises_leaves_a_look_at_outcomes_too() -> None:
    shelf = denying()
    router = given_book(shelf)
    shelf.failing.append(LookupError("no such chain"))
    with pytest.raises(LookupError):
        router.engine.outcomes(router.ns, 4, "prerouting", udp_packet(dport=53), iif=router.eth0)
    (outcome,) = router.engine.outcomes(router.ns, 4, "prerouting", udp_packet(dport=53), iif=router.eth0)
    assert outcome.verdict == "DROP"


def test_a_source_that_writes_another_chain_is_a_mistake_that_is_told() -> None:
    router = Router()
    book = RuleBook(array("i", [1, 0, 0, 2]).tobytes(), 0, {"FORWARD": (0, "ACCEPT")}, False, False, lambda chain: [])
    book.write(0, [(pack_rules([{"target": "later"}], {"later": -4}, recent_lists), 0)])
    book.index(4)
    router.engine.use_book(router.ns, 4, "filter", book)
    with pytest.raises(ValueError, match="nobody wrote chain 3"):
        forwarded(router)


def test_books_live_as_long_as_somebody_reads_them() -> None:
    router, other = given_book(denying()), given_book(denying())
    gc.collect()
    assert forwarded(router) == 0
    router.engine.use_book(router.ns, 4, "filter", denying().book)  # another takes its place
    gc.collect()
    assert forwarded(router) == 0
    router.engine.set_rules(router.ns, 4, "filter", filter_table())
    gc.collect()
    assert forwarded(router) == 1
    router.engine.use_book(router.ns, 4, "filter", denying().book)
    assert forwarded(router) == 0
    with pytest.raises(ValueError, match="has no index"):
        router.engine.use_book(router.ns, 4, "filter", RuleBook(b"", 0, {}, False, False, lambda chain: []))
    gc.collect()
    assert forwarded(router) == 0  # a refused one leaves all as it was
    del other
    gc.collect()


def test_a_flow_that_is_known_meets_the_rules_of_a_new_book() -> None:
    router = Router()
    for _ in range(6):
        router.take(ether(udp_packet(dport=53)))
    assert len(router.seen(router.eth1, outgoing=True)) == 6
    shelf = denying()
    router.engine.use_book(router.ns, 4, "filter", shelf.book, shelf.local)
    assert forwarded(router) == 0


def test_who_came_before_is_known_in_a_table_of_the_namespaces_own() -> None:
    """As in Linux, where a list of match ``recent`` is a namespace's, whichever tables name it."""
    rules: Any = [
        {"recent": ("rcheck", "seen", 60, False), "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 81, 81)},
        {"recent": ("set", "seen", 0, False), "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 82, 82)},
    ]
    chains = nat_table(PREROUTING=rules)
    shelf = Shelf(chains, 0)
    router = given_book(shelf, "nat")

    def translated(sport: int) -> int:
        router.take(ether(tcp_packet(SYN, sport=sport)))
        (frame,) = router.seen(router.eth1, outgoing=True)
        return int.from_bytes(frame[36:38])

    assert [translated(1), translated(2)] == [82, 81]
    router.engine.set_rules(router.ns, 4, "nat", chains)
    assert translated(3) == 81


def test_what_does_not_fit_is_refused() -> None:
    drop = pack_rules([{"target": "DROP"}], {}, recent_lists)
    lost = pack_rules([{"target": "far"}], {"far": -100}, recent_lists)
    counts = array("i", [1, 0, 0, 1, 1]).tobytes()
    book = RuleBook(counts, 1, {"FORWARD": (0, "ACCEPT")}, False, False, lambda chain: [])
    wrong = [(0, []), (0, [(drop + drop, 0)]), (0, [(drop[:-1], 0)]), (0, [(lost, 0)]), (1, []), (4, [(drop, 0)]), (5, []), (-1, [])]
    for chain, pieces in wrong:
        with pytest.raises(ValueError):
            book.write(chain, pieces)
    book.write(0, [(drop, 0)])
    with pytest.raises(ValueError, match="it is written"):
        book.write(0, [(drop, 0)])
    book.index(4)
    with pytest.raises(ValueError, match="index already"):
        book.index(4)
    router = Router()
    for local in (b"", drop + drop, drop[:-1]):
        with pytest.raises(ValueError, match="the last chains have 1 rules"):
            router.engine.use_book(router.ns, 4, "filter", book, local)
    with pytest.raises(ValueError, match="no chain of the book"):
        router.engine.use_book(router.ns, 4, "filter", book, pack_rules([{"target": "far"}], {"far": 77}, recent_lists))
    with pytest.raises(ValueError, match="no chain of the book"):
        local_rules(lost, 0, 5)
    assert len(drop) == RULE_SIZE


@pytest.mark.parametrize(
    ("counts", "last", "builtin"),
    [
        ([-1], 0, {}),
        ([1 << 22, 1], 0, {}),
        ([1], 2, {}),
        ([1], -1, {}),
        ([1, 1], 1, {"INPUT": (1, "DROP")}),
        ([1], 0, {"INPUT": (1, "DROP")}),
        ([1, 1], 0, {"INPUT": (-1, "DROP")}),
    ],
)
def test_numbers_that_do_not_go_together_make_no_book(counts: list[int], last: int, builtin: dict[str, tuple[int, str]]) -> None:
    with pytest.raises(ValueError, match=r"more than a table takes|fewer chains"):
        RuleBook(array("i", counts).tobytes(), last, builtin, False, False, lambda chain: [])


@pytest.mark.parametrize(("src", "dst"), [(bytes(40), bytes(40)), (bytes(4), bytes(16)), (b"", b"")])
def test_a_connection_is_forgotten_by_addresses_only(src: bytes, dst: bytes) -> None:
    router = Router()
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        router.engine.del_conntrack(router.ns, 17, {"src": src, "dst": dst, "sport": 1, "dport": 2})


def test_no_glance_is_in_two_cache_lines() -> None:
    assert 64 % GLANCE_SIZE == 0
