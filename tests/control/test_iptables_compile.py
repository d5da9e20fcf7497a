"""What compiled rules mean: packets put through them by the pure-Python twin."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import _core
from dataplane._core import Outcome
from dataplane.control.iptables import IptablesTables
from dataplane.testing.probes import opening_packet
from dataplane.testing.twins.netfilter import NetfilterTwin

SRC, DST = "192.0.2.1", "198.51.100.2"


def outcomes(
    rules: Sequence[str],
    port: int = 80,
    protocol: str = "TCP",
    *,
    table: str = "filter",
    chain: str = "FORWARD",
    flags: int = 2,
    **twin: Any,
) -> list[Outcome]:
    """Of a packet that crosses a namespace with these rules in one chain; OTHER is a chain that marks with 1 and falls through."""
    tables = IptablesTables(4)
    tables.new_chain(table, "OTHER")
    tables.append(table, "OTHER", "-j MARK --or-mark 1")
    for number, rule in enumerate(rules, 1):
        tables.append(table, chain, rule, origin=number)
    packet = bytearray(opening_packet(ip_address(SRC), ip_address(DST), protocol, port))
    if protocol == "TCP":
        packet[20 + 13] = flags
    return NetfilterTwin(tables.compile(), lambda address: _core.ADDR_UNICAST, lambda address: "eth1", **twin).outcomes(
        "prerouting", bytes(packet), iif="eth0"
    )


def verdict(*rules: str, **packet: Any) -> str:
    found = outcomes(rules, **packet)
    assert len(found) == 1
    return found[0].verdict


@pytest.mark.parametrize(
    ("rule", "hit"),
    [
        ("-s 192.0.2.0/24", True),
        ("! -s 192.0.2.0/24", False),
        ("-d 198.51.100.2", True),
        ("-d 198.51.100.3", False),
        ("-i eth+ -o eth1", True),
        ("! -i eth0", False),
        ("-p tcp --sport 40000 --dport 70:80", True),
        ("-p tcp ! --dport 70:80", False),
        ("-p udp", False),
        ("! -p udp", True),
        ("-p tcp --syn", True),
        ("-p tcp ! --syn", False),
        ("-p tcp --tcp-flags SYN,ACK SYN,ACK", False),
        ("-p tcp -m multiport --dports 443,70:75,80", True),
        ("-p tcp -m multiport ! --dports 443,80", False),
        ("-p tcp -m multiport ! --dports 81:65535", True),
        ("-m conntrack --ctstate NEW", True),
        ("-m state --state ESTABLISHED,RELATED", False),
        ("-m conntrack ! --ctstate DNAT", True),
        ("-m mark --mark 0/1", True),
        ("-m addrtype --dst-type LOCAL", False),
        ("-f", False),
        ("-m recent --name seen --rcheck", True),
        ("-m recent --name seen --rcheck --seconds 60", False),
        ("-m recent --name seen ! --rcheck --seconds 60", True),
        ("-m recent --name other --rcheck", False),
        ("-m recent --name other --set", True),
    ],
)
def test_a_rule_matches_the_packets_that_iptables_describes(rule: str, hit: bool) -> None:
    recent = {"seen": {ip_address(SRC).packed: 61.0}}
    assert verdict(f"{rule} -j DROP", recent=recent) == ("DROP" if hit else "ACCEPT")


PORT_PIECES = st.one_of(
    st.integers(0, 65535).map(str), st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda ends: f"{min(ends)}:{max(ends)}")
)


@given(st.lists(PORT_PIECES, min_size=1, max_size=7), st.booleans(), st.integers(0, 65535))
def test_a_list_of_ports_is_met_once_by_the_ports_in_it(pieces: list[str], inverted: bool, port: int) -> None:
    inside = any(int(piece.split(":")[0]) <= port <= int(piece.split(":")[-1]) for piece in pieces)
    rule = f"-p tcp -m multiport {'! ' if inverted else ''}--dports {','.join(pieces)} -j MARK --xor-mark 0x10"
    assert [outcome.mark for outcome in outcomes([rule], port)] == [0x10 if inside != inverted else 0]


@given(st.integers(0, 63), st.sampled_from(["SYN,ACK SYN", "ALL NONE", "FIN,RST FIN,RST", "URG URG"]))
def test_an_inverted_test_of_flags_is_met_once_by_all_other_flags(flags: int, test: str) -> None:
    bits = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}
    mask, wanted = (sum(bits[name] for name in word.split(",")) for word in test.split())
    rule = f"-p tcp ! --tcp-flags {test} -j MARK --xor-mark 0x10"
    assert [outcome.mark for outcome in outcomes([rule], flags=flags)] == [0x10 if flags & mask != wanted else 0]


@pytest.mark.parametrize(
    ("before", "rewrite", "after"),
    [
        ("0xff", "--set-mark 0x1", 0x1),
        ("0xff", "--set-mark 0x1/0xf", 0xF1),
        ("0xff", "--set-xmark 0x1/0x2", 0xFC),
        ("0xf0", "--or-mark 0x4001", 0x40F1),
        ("0x4001", "--xor-mark 0x4000", 0x1),
        ("0xff", "--and-mark 0x3c", 0x3C),
    ],
)
def test_marks_are_rewritten_as_iptables_describes(before: str, rewrite: str, after: int) -> None:
    found = outcomes([f"-j MARK --set-mark {before}", f"-j MARK {rewrite}"])
    assert [outcome.mark for outcome in found] == [after]


def test_a_jump_comes_back_and_a_goto_does_not() -> None:
    assert verdict("-j OTHER", "-j DROP") == "DROP"
    assert verdict("-g OTHER", "-j DROP") == "ACCEPT"
    assert verdict("-j RETURN", "-j DROP") == "ACCEPT"
    assert verdict("-j LOG --log-prefix seen", "-j NFLOG", "-j REJECT") == "REJECT"


def test_a_translation_is_seen_by_the_rules_that_follow() -> None:
    tables = IptablesTables(4)
    tables.append("nat", "PREROUTING", "-p tcp -j DNAT --to-destination 10.0.0.7:8080", origin=5)
    tables.append("filter", "FORWARD", "-d 10.0.0.7 -p tcp --dport 8080 -m conntrack --ctstate DNAT -j DROP", origin=6)
    packet = opening_packet(ip_address(SRC), ip_address(DST), "TCP", 80)
    twin = NetfilterTwin(tables.compile(), lambda address: _core.ADDR_UNICAST, lambda address: "eth1")
    expected = Outcome(1.0, "DROP", (ip_address("10.0.0.7").packed, 8080), 0, (5, 6))
    assert twin.outcomes("prerouting", packet, iif="eth0") == [expected]


def test_random_choices_are_enumerated_with_their_probabilities() -> None:
    half = "-m statistic --mode random --probability 0.5"
    found = outcomes([f"{half} -j DROP", f"{half} -j REJECT", "-j ACCEPT"])
    assert {outcome.verdict: outcome.probability for outcome in found} == {"DROP": 0.5, "REJECT": 0.25, "ACCEPT": 0.25}
    assert {outcome.verdict: outcome.origins for outcome in found} == {"DROP": (1,), "REJECT": (2,), "ACCEPT": (3,)}


@pytest.mark.parametrize(
    ("rule", "to"),
    [
        ("-j SNAT --to-source 10.0.0.1-10.0.0.3", ("10.0.0.1", "10.0.0.3", 0, 0)),
        ("-p tcp -j SNAT --to-source :1000-2000", ("", "", 1000, 2000)),
        ("-p tcp -j MASQUERADE --to-ports 7", ("", "", 7, 7)),
    ],
)
def test_translation_ranges_reach_the_core_as_lowest_and_highest(rule: str, to: tuple[str, str, int, int]) -> None:
    tables = IptablesTables(4)
    tables.append("nat", "POSTROUTING", rule)
    [chain] = [chain for chain in tables.compile()["nat"] if chain.name == "POSTROUTING"]
    addresses = tuple(ip_address(text).packed if text else b"" for text in to[:2])
    assert [match["to"] for match in chain.rules] == [(*addresses, *to[2:])]


def test_ipv6_translations_are_written_with_brackets() -> None:
    tables = IptablesTables(6)
    tables.append("nat", "OUTPUT", "-p tcp -j DNAT --to-destination [fd00::1]:80")
    [chain] = [chain for chain in tables.compile()["nat"] if chain.name == "OUTPUT"]
    address = ip_address("fd00::1").packed
    assert chain.rules[0]["to"] == (address, address, 80, 80)
    assert "--to-destination [fd00::1]:80" in tables.save_text()
