"""Pings and UDP requests over a core that delivers, loses or refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.packet import Raw

from dataplane.traffic.drive import start_flows
from dataplane.traffic.loop import Loop
from traffic.fake_core import LATENCY, MS, SECOND, FakeCore, Sent
from traffic.flows import ADDRESSES, CLIENT, OTHER, SERVER, SERVER_OF, accounts_for_all, flow, run, run_one


def core(**settings: object) -> FakeCore:
    return FakeCore(ADDRESSES, **settings)  # type: ignore[arg-type]


def requests(fake: FakeCore) -> list[Sent]:
    return [sent for sent in fake.log if sent.namespace == CLIENT]


@pytest.mark.parametrize("family", [4, 6])
def test_pings_are_numbered_from_1_and_timed(family: int) -> None:
    fake = core()
    summary = run_one(fake, flow("ping", SERVER_OF[family], count=4, request_bytes=56, rate=Fraction(2)))
    echoes = [sent.packet[ICMP if family == 4 else ICMPv6EchoRequest] for sent in requests(fake)]
    assert [echo.seq for echo in echoes] == [1, 2, 3, 4]
    assert len({echo.id for echo in echoes}) == 1
    assert [sent.time for sent in requests(fake)] == [0, SECOND // 2, SECOND, SECOND * 3 // 2]
    assert {len(sent.packet) for sent in requests(fake)} == {84 if family == 4 else 104}
    assert (summary.completed, summary.received, summary.bytes_received) == (4, 4, 224)
    assert (summary.rtt_min_ns, summary.rtt_avg_ns, summary.rtt_max_ns) == (2 * LATENCY,) * 3


def test_two_pings_to_one_host_are_told_apart() -> None:
    fake = core(drop=lambda sent, number: sent.namespace == CLIENT and len(sent.packet) == 28 + 16)
    silent, answered = run(fake, flow("ping", SERVER_OF[4], request_bytes=16), flow("ping", SERVER_OF[4], number=1, request_bytes=32))
    assert (silent.timed_out, silent.completed) == (1, 0)
    assert (answered.timed_out, answered.completed) == (0, 1)


def test_answer_after_the_timeout_counts_as_lost() -> None:
    summary = run_one(core(), flow("ping", SERVER_OF[4], timeout_ns=LATENCY))
    assert (summary.timed_out, summary.completed, summary.received) == (1, 0, 0)


@pytest.mark.parametrize("kind", ["ping", "udp"])
def test_icmp_error_is_named_and_nobody_waits_for_the_timeout(kind: str) -> None:
    fake = core(refused_address="10.9.9.9", refuse_with=(3, 1))
    summary = run_one(fake, flow(kind, "10.9.9.9", listeners=(), timeout_ns=60 * SECOND))
    assert summary.first_error == "ICMP host unreachable (type 3 code 1) from 10.255.255.1"
    assert (summary.failed, summary.refused) == (1, 0)
    assert fake.now == LATENCY


def test_closed_udp_port_refuses() -> None:
    for family in (4, 6):
        summary = run_one(core(), flow("udp", SERVER_OF[family], listeners=(), count=3))
        assert (summary.refused, summary.completed) == (3, 0)
        assert "port unreachable" in str(summary.first_error)


@pytest.mark.parametrize("family", [4, 6])
def test_udp_answers_are_as_long_as_asked_for(family: int) -> None:
    fake = core()
    summary = run_one(fake, flow("udp", SERVER_OF[family], count=5, request_bytes=200, response_bytes=700))
    assert [len(bytes(sent.packet[UDP].payload)) for sent in fake.log] == [200, 700] * 5
    assert (summary.completed, summary.arrived, summary.bytes_sent, summary.bytes_received) == (5, 5, 1000, 3500)
    assert summary.rtt_max_ns == 2 * LATENCY


def test_requests_have_ports_of_their_own_unless_one_is_fixed() -> None:
    free, fixed = core(), core()
    run_one(free, flow("udp", SERVER_OF[4], count=20))
    run_one(fixed, flow("udp", SERVER_OF[4], count=20, source_port=5555))
    assert len({sent.packet[UDP].sport for sent in requests(free)}) == 20
    assert {sent.packet[UDP].sport for sent in requests(fixed)} == {5555}
    assert [namespace for namespace, _, _ in free.sockets.values()] == [SERVER], "the client's ports are free again"


def test_many_requests_at_once_on_one_port_are_matched_by_number() -> None:
    lost = {2, 5}
    fake = core(drop=lambda sent, number: number in lost)
    one = flow("udp", SERVER_OF[4], count=8, rate=Fraction(10**9), source_port=5555)
    summary = run_one(fake, one)
    assert (summary.completed, summary.timed_out) == (6, 2)
    assert summary.rtt_min_ns == summary.rtt_max_ns == 2 * LATENCY


def test_request_without_answer_completes_unless_an_error_comes_back() -> None:
    fine, closed = core(), core()
    summary = run_one(fine, flow("udp", SERVER_OF[4], response_bytes=0))
    assert (summary.completed, summary.received, summary.arrived, len(fine.log)) == (1, 0, 1, 1)
    assert run_one(closed, flow("udp", SERVER_OF[4], response_bytes=0, listeners=())).refused == 1


def test_lost_on_the_way_and_lost_on_the_way_back_differ_in_arrivals() -> None:
    there = run_one(core(drop=lambda sent, number: sent.namespace == CLIENT), flow("udp", SERVER_OF[4]))
    back = run_one(core(drop=lambda sent, number: sent.namespace == SERVER), flow("udp", SERVER_OF[4]))
    assert (there.timed_out, there.arrived) == (1, 0)
    assert (back.timed_out, back.arrived) == (1, 1)


def test_untranslated_answer_is_not_taken() -> None:
    fake = core(virtual={("10.96.0.10", 53): ("10.0.0.2", 5353)}, forgets_to_untranslate=True)
    summary = run(fake, flow("udp", "10.96.0.10", 53, listeners=()), flow("udp", "10.0.0.2", 5353, number=1, start_ns=2 * SECOND))[0]
    assert (summary.completed, summary.timed_out) == (0, 1)
    assert summary.first_error == "answer from 10.0.0.2 port 5353, which was not asked"


def test_translated_answer_is_taken() -> None:
    fake = core(virtual={("10.96.0.10", 53): ("10.0.0.2", 5353)})
    summary = run(fake, flow("udp", "10.96.0.10", 53, listeners=()), flow("udp", "10.0.0.2", 5353, number=1, start_ns=2 * SECOND))[0]
    assert (summary.completed, summary.first_error) == (1, None)


def test_dont_fragment_is_set_only_on_what_fits_the_path() -> None:
    fake = core()
    run_one(fake, flow("udp", SERVER_OF[4], request_bytes=1472, response_bytes=1473))
    assert [bool(sent.packet.flags.DF) for sent in fake.log] == [True, False]


def test_identifications_of_datagrams_count_up() -> None:
    fake = core()
    run_one(fake, flow("ping", SERVER_OF[4], count=5))
    idents = [sent.packet.id for sent in requests(fake)]
    assert [(later - first) % 65536 for first, later in zip(idents, idents[1:], strict=False)] == [1, 1, 1, 1]


def test_foreign_datagrams_to_a_listener_are_left_alone() -> None:
    fake = core()
    loop = Loop(fake, 1)
    summary = start_flows(loop, [flow("udp", SERVER_OF[4], start_ns=SECOND)])[0]
    for payload in (b"", b"\xff" * 15, b"\xff" * 100):
        foreign = bytes(IP(src=ADDRESSES[OTHER][0], dst=SERVER_OF[4]) / UDP(sport=1, dport=80) / Raw(payload))
        fake.send(OTHER, foreign)
    loop.run()
    assert [sent.namespace for sent in fake.log[3:]] == [CLIENT, SERVER]
    assert (summary.completed, summary.arrived) == (1, 1)


def test_the_largest_datagrams_pass() -> None:
    summary = run_one(core(), flow("udp", SERVER_OF[4], request_bytes=65_507, response_bytes=65_507))
    assert (summary.completed, summary.bytes_received) == (1, 65_507)


def test_no_route_fails_each_attempt() -> None:
    for kind in ("ping", "udp"):
        summary = run_one(core(), flow(kind, "192.0.2.1", listeners=(), count=3))
        assert (summary.failed, summary.sent, summary.first_error) == (3, 0, "no route to 192.0.2.1")
        assert accounts_for_all(summary)


def test_poisson_keeps_the_rate_and_the_seed() -> None:
    def times(seed: int) -> list[int]:
        fake = core()
        run(fake, flow("ping", SERVER_OF[4], count=400, rate=Fraction(1000), arrival="poisson", start_ns=7 * MS), seed=seed)
        return [sent.time for sent in requests(fake)]

    first = times(1)
    assert first == times(1)
    assert first != times(2)
    gaps = [later - before for before, later in zip([7 * MS, *first], first, strict=False)]
    # 400 exponential gaps of mean 1 ms: the mean's standard deviation is 0.05 ms, and 1 - 1/e of the gaps are below the mean.
    assert sum(gaps) / 400 == pytest.approx(MS, rel=0.2)
    assert sum(gap < MS for gap in gaps) / 400 == pytest.approx(0.632, abs=0.1)
    assert len(set(gaps)) == 400
