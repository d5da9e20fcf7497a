"""The core's walk through chains of rules against its slow twin, for random chains and packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.worlds import CLIENT, ICMP, OUTSIDE, ROUTER0, ROUTER1, SERVER, TCP, UDP, Router, icmp, ip, ipv4, nat_table, tcp, udp
from dataplane import _core
from dataplane._core import Chain, Outcome
from dataplane.testing.twins.netfilter import NetfilterTwin

if TYPE_CHECKING:
    from dataplane._core import Match

ADDRESSES = (CLIENT, SERVER, ROUTER0, ROUTER1, OUTSIDE, "10.96.0.1")
PORTS = (53, 80, 8080)
USER_CHAINS = ("first", "second", "third")  # each may jump to those after it, so that there is no circle
KINDS = _core.ADDR_LOCAL, _core.ADDR_UNICAST, _core.ADDR_LOCAL | _core.ADDR_BROADCAST
QUANTUM = 1e-8  # probabilities are multiples of 2**-31

prefixes = st.tuples(st.sampled_from(ADDRESSES).map(ip), st.sampled_from((0, 8, 16, 24, 31, 32)))
ranges = st.tuples(st.sampled_from((0, 53, 80)), st.sampled_from((80, 8080, 65535)))
matches = st.fixed_dictionaries(
    {},
    optional={
        "src": prefixes,
        "dst": prefixes,
        "iif": st.sampled_from(("eth0", "eth1", "eth+", "e+", "eth00")),
        "oif": st.sampled_from(("eth0", "eth1", "eth+", "lo")),
        "proto": st.sampled_from((TCP, UDP, ICMP)),
        "sport": ranges,
        "dport": ranges,
        "ctstate": st.sampled_from((_core.CT_NEW, _core.CT_ESTABLISHED, _core.CT_INVALID | _core.CT_NEW, _core.CT_DNAT)),
        "src_type": st.sampled_from(KINDS),
        "dst_type": st.sampled_from(KINDS),
        "mark": st.tuples(st.integers(0, 3), st.sampled_from((3, 0xFFFFFFFF))),
        "probability": st.sampled_from((0.0, 0.25, 0.5, 1.0)),
        "icmp_type": st.sampled_from(((8, 0, 255), (3, 1, 1))),
        "tcp_flags": st.sampled_from(((0x17, 0x02), (0x02, 0x00))),
    },
)
INVERTIBLE = ("src", "dst", "iif", "oif", "proto", "sport", "dport", "ctstate", "src_type", "dst_type", "mark")


def targets(chains: tuple[str, ...], nat: bool) -> st.SearchStrategy[dict[str, Any]]:
    plain: list[dict[str, Any]] = [{"target": name} for name in ("", "ACCEPT", "RETURN", "DROP")]
    mark = st.tuples(st.integers(0, 3), st.just(3)).map(lambda how: {"target": "MARK", "set_mark": how})
    jump = st.builds(lambda name, goto: {"target": name, "goto": goto}, st.sampled_from(chains), st.booleans()) if chains else st.nothing()
    if not nat:
        return st.one_of(st.sampled_from([*plain, {"target": "REJECT", "reject_with": 3}]), mark, jump)
    places = st.tuples(st.sampled_from((SERVER, ROUTER1, CLIENT)).map(ip), st.sampled_from(PORTS))
    dnat = places.map(lambda place: {"target": "DNAT", "to": (place[0], place[0], place[1], place[1])})
    return st.one_of(st.sampled_from(plain), mark, jump, dnat)


@st.composite
def rules(draw: st.DrawFn, chains: tuple[str, ...], nat: bool) -> list[Match]:
    found: list[Any] = []
    for _ in range(draw(st.integers(0, 4))):
        match = draw(matches)
        for key in draw(st.sets(st.sampled_from(INVERTIBLE), max_size=2)) & match.keys():
            match[key + "_not"] = True
        found.append(match | draw(targets(chains, nat)))
    return found


@st.composite
def tables(draw: st.DrawFn, builtin: tuple[str, ...], nat: bool) -> list[Chain]:
    chains = [Chain(name, draw(st.sampled_from(("ACCEPT", "DROP"))), draw(rules(USER_CHAINS, nat))) for name in builtin]
    later = [USER_CHAINS[number + 1 :] for number in range(len(USER_CHAINS))]
    return chains + [Chain(name, "", draw(rules(after, nat))) for name, after in zip(USER_CHAINS, later, strict=True)]


@st.composite
def packets(draw: st.DrawFn, sources: tuple[str, ...]) -> bytes:
    src, dst = draw(st.sampled_from(sources)), draw(st.sampled_from(ADDRESSES))
    proto = draw(st.sampled_from((TCP, UDP, ICMP)))
    sport, dport = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
    payload = {
        TCP: tcp(draw(st.sampled_from((0x02, 0x12, 0x10))), src=src, dst=dst, sport=sport, dport=dport),
        UDP: udp(src=src, dst=dst, sport=sport, dport=dport),
        ICMP: icmp(draw(st.sampled_from((8, 3))), draw(st.sampled_from((0, 1)))),
    }[proto]
    return ipv4(payload, src=src, dst=dst, proto=proto)


def numbered(chains: list[Chain], first: int) -> list[Chain]:
    """Every rule with an origin of its own."""
    number = first
    result = []
    for chain in chains:
        own: list[Match] = []
        for rule in chain.rules:
            own.append({**rule, "origin": number})
            number += 1
        result.append(chain._replace(rules=own))
    return result


def address_type(address: bytes) -> int:
    return _core.ADDR_LOCAL if address in (ip(ROUTER0), ip(ROUTER1)) else _core.ADDR_UNICAST


def route(address: bytes) -> str:
    if address in (ip(ROUTER0), ip(ROUTER1)):
        return ""
    return "eth0" if address[:3] == ip(CLIENT)[:3] else "eth1"


def shares(outcomes: list[Outcome]) -> dict[tuple[Any, ...], float]:
    """Probability by all else; what cannot happen is left out, and a translated packet's port where it has one."""
    found: dict[tuple[Any, ...], float] = {}
    for outcome in outcomes:
        key = (outcome.verdict, outcome.dnat, outcome.mark, outcome.origins)
        found[key] = found.get(key, 0.0) + outcome.probability
    return {key: share for key, share in found.items() if share > QUANTUM}


def assert_alike(nat: list[Chain], filters: list[Chain], hook: str, packet: bytes) -> None:
    router = Router()
    router.engine.add_route(router.ns, bytes(4), 0, via=ip(SERVER))
    chains = {"nat": numbered(nat, 1), "filter": numbered(filters, 1000)}
    for table, content in chains.items():
        router.engine.set_rules(router.ns, 4, table, content)
    twin = NetfilterTwin(chains, address_type, route)
    iif = router.eth0 if hook == "prerouting" else -1
    got = shares(router.engine.outcomes(router.ns, 4, hook, packet, iif=iif))
    wanted = shares(twin.outcomes(hook, packet, iif="eth0" if hook == "prerouting" else ""))
    assert got.keys() == wanted.keys()
    for key, share in wanted.items():
        assert abs(got[key] - share) < 1e-6


FILTERS = ("INPUT", "FORWARD", "OUTPUT")
relaxed = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@relaxed
@given(tables(("PREROUTING",), nat=True), tables(FILTERS, nat=False), packets((CLIENT, "10.0.0.77", "203.0.113.5")))
def test_a_received_packet_goes_as_the_twin_says(nat: list[Chain], filters: list[Chain], packet: bytes) -> None:
    assert_alike(nat, filters, "prerouting", packet)


@relaxed
@given(tables(("OUTPUT",), nat=True), tables(FILTERS, nat=False), packets((ROUTER0, ROUTER1)))
def test_a_packet_of_its_own_goes_as_the_twin_says(nat: list[Chain], filters: list[Chain], packet: bytes) -> None:
    assert_alike(nat, filters, "output", packet)


def test_asking_changes_nothing() -> None:
    router = Router()
    router.engine.set_rules(router.ns, 4, "nat", nat_table(PREROUTING=[{"target": "DNAT", "to": (ip(SERVER), ip(SERVER), 0, 0)}]))
    before = (router.engine.counters(), router.engine.conntrack(router.ns))
    assert router.engine.outcomes(router.ns, 4, "prerouting", ipv4(udp()), iif=router.eth0)
    assert (router.engine.counters(), router.engine.conntrack(router.ns)) == before
    assert router.engine.frames() == []
    assert router.engine.drops() == []
