"""Whole TCP connections over a core that delivers, loses, refuses or translates."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from dataplane.traffic.connection import Application, Connection, End, Endpoints, State
from dataplane.traffic.loop import Loop
from dataplane.traffic.packets import parse_ip
from dataplane.traffic.segment import parse_segment
from dataplane.traffic.summary import FlowSummary
from traffic.fake_core import LATENCY, SECOND, FakeCore, Sent
from traffic.flows import ADDRESSES, CLIENT, OTHER, SERVER, SERVER_OF, accounts_for_all, flow, run, run_one


def core(**settings: object) -> FakeCore:
    return FakeCore(ADDRESSES, **settings)  # type: ignore[arg-type]


def flags(sent: Sent) -> str:
    return str(sent.packet[TCP].flags)


def payload_bytes(sent: Sent) -> int:
    return len(bytes(sent.packet[TCP].payload))


def from_namespace(fake: FakeCore, namespace: int) -> list[Sent]:
    return [sent for sent in fake.log if sent.namespace == namespace]


def packed(address: str) -> bytes:
    return ip_address(address).packed


def endpoint(loop: Loop, ends: Endpoints, ended: list[tuple[int, End]]) -> Connection:
    """A bare connection: it accepts the first SYN and does nothing of itself."""

    def receive(data: bytes) -> None:
        packet = parse_ip(data)
        segment = parse_segment(packet.payload) if packet is not None else None
        assert segment is not None
        if connection.state is State.CLOSED:
            connection.accept(segment)
        else:
            connection.receive(segment)

    socket = loop.open(ends.namespace, 6, ends.local_port, receive)
    assert socket is not None
    told = Application(
        on_established=lambda: None,
        on_data=lambda data: None,
        on_peer_closed=lambda: None,
        on_end=lambda end, reason: ended.append((ends.namespace, end)),
        on_gone=lambda: None,
    )
    connection = Connection(loop, ends, socket, 1500, told, FlowSummary("bare", "tcp"))
    return connection


@pytest.mark.parametrize("family", [4, 6])
def test_short_connection_frame_by_frame(family: int) -> None:
    fake = core()
    summary = run_one(fake, flow("tcp", SERVER_OF[family], request_bytes=100, response_bytes=1000))
    assert [(sent.namespace, flags(sent), payload_bytes(sent)) for sent in fake.log] == [
        (CLIENT, "S", 0),
        (SERVER, "SA", 0),
        (CLIENT, "A", 0),
        (CLIENT, "PA", 100),
        (SERVER, "PA", 1000),
        (CLIENT, "FA", 0),
        (SERVER, "FA", 0),
        (CLIENT, "A", 0),
    ]
    assert (summary.completed, summary.arrived, summary.bytes_sent, summary.bytes_received) == (1, 1, 100, 1000)
    assert (summary.sent, summary.received, summary.retransmitted) == (5, 3, 0)
    assert summary.rtt_min_ns == summary.rtt_max_ns == 2 * LATENCY
    assert summary.first_error is None


@pytest.mark.parametrize(("family", "mss"), [(4, 1460), (6, 1440)])
def test_syn_carries_the_options_of_a_linux_host(family: int, mss: int) -> None:
    fake = core()
    run_one(fake, flow("tcp", SERVER_OF[family]))
    syn, synack = fake.log[0].packet, fake.log[1].packet
    names = ["MSS", "SAckOK", "Timestamp", "NOP", "WScale"]
    assert [name for name, _ in syn[TCP].options] == [name for name, _ in synack[TCP].options] == names
    assert dict(syn[TCP].options)["MSS"] == mss
    assert dict(syn[TCP].options)["WScale"] == 7
    assert dict(syn[TCP].options)["Timestamp"][1] == 0
    assert dict(synack[TCP].options)["Timestamp"][1] == dict(syn[TCP].options)["Timestamp"][0]
    # 44 segments of 1,460 bytes, and 45 of 1,448 beside timestamps: what tcpdump shows of Linux at MTU 1,500.
    if family == 4:
        assert (syn[TCP].window, synack[TCP].window, synack.id) == (64240, 65160, 0)
        assert all(sent.packet.flags.DF for sent in fake.log)


@pytest.mark.parametrize("family", [4, 6])
def test_large_transfers_fill_segments_and_arrive_whole(family: int) -> None:
    fake = core()
    summary = run_one(fake, flow("tcp", SERVER_OF[family], request_bytes=200_000, response_bytes=300_000))
    assert (summary.completed, summary.bytes_sent, summary.bytes_received) == (1, 200_000, 300_000)
    assert summary.retransmitted == 0
    assert max(len(sent.packet) for sent in fake.log) == 1500


def test_first_flight_is_ten_segments() -> None:
    fake = core()
    run_one(fake, flow("tcp", SERVER_OF[4], request_bytes=100, response_bytes=100_000))
    data = [sent for sent in from_namespace(fake, SERVER) if payload_bytes(sent)]
    assert sum(sent.time == data[0].time for sent in data) == 10


def test_segments_fit_the_smaller_of_both_mtus() -> None:
    fake = core(route_mtu=1450)
    run_one(fake, flow("tcp", SERVER_OF[4], response_bytes=20_000))
    assert max(len(sent.packet) for sent in fake.log) == 1450


@pytest.mark.parametrize(("family", "mtu"), [(4, 1400), (6, 1300)])
def test_fragmentation_needed_makes_segments_smaller(family: int, mtu: int) -> None:
    fake = core(path_mtu=mtu)
    summary = run_one(fake, flow("tcp", SERVER_OF[family], request_bytes=30_000, response_bytes=30_000))
    assert (summary.completed, summary.bytes_received) == (1, 30_000)
    too_big = [sent.time for sent in fake.log if len(sent.packet) > mtu]
    assert too_big
    assert max(len(sent.packet) for sent in fake.log if sent.time > max(too_big)) == mtu
    assert fake.now < SECOND, "lost segments are sent again at once, not after a timeout"


def test_packet_too_big_below_the_least_mtu_of_ipv6_says_nothing() -> None:
    """RFC 8201 4: a node must not take its estimate below 1280; the data is sent again as it was, to the timeout."""
    fake = core(path_mtu=1200)
    summary = run_one(fake, flow("tcp", SERVER_OF[6], request_bytes=3000, response_bytes=0))
    assert (summary.completed, summary.timed_out) == (0, 1)
    assert {len(sent.packet) for sent in fake.log if len(sent.packet) > 1200} == {1500}


def test_closed_port_refuses() -> None:
    summary = run_one(core(), flow("tcp", SERVER_OF[4], listeners=()))
    assert (summary.refused, summary.first_error) == (1, "RST in answer to the SYN")


@pytest.mark.parametrize(
    ("error", "refused", "text"),
    [((3, 3), 1, "port unreachable"), ((3, 1), 0, "host unreachable"), ((11, 0), 0, "time exceeded"), ((3, 13), 0, "prohibited")],
)
def test_icmp_error_ends_the_handshake_at_once(error: tuple[int, int], refused: int, text: str) -> None:
    fake = core(refused_address="10.9.9.9", refuse_with=error)
    summary = run_one(fake, flow("tcp", "10.9.9.9", listeners=()))
    assert (summary.refused, summary.failed) == (refused, 1 - refused)
    assert text in str(summary.first_error)
    assert f"(type {error[0]} code {error[1]}) from 10.255.255.1" in str(summary.first_error)
    assert len(fake.log) == 1


@pytest.mark.parametrize(
    ("error", "refused", "text"),
    [((1, 4), 1, "port unreachable"), ((1, 3), 0, "address unreachable"), ((3, 0), 0, "time exceeded"), ((1, 1), 0, "prohibited")],
)
def test_icmpv6_error_ends_the_handshake_at_once(error: tuple[int, int], refused: int, text: str) -> None:
    fake = core(refused_address="fd00::99", refuse_with=error)
    summary = run_one(fake, flow("tcp", "fd00::99", listeners=()))
    assert (summary.refused, summary.failed) == (refused, 1 - refused)
    assert text in str(summary.first_error)
    assert f"(type {error[0]} code {error[1]}) from fd00::ffff" in str(summary.first_error)
    assert len(fake.log) == 1


def test_lost_syn_is_sent_again_after_1_2_4_seconds() -> None:
    fake = core(drop=lambda sent, number: number <= 3)
    summary = run_one(fake, flow("tcp", SERVER_OF[4]))
    assert [sent.time for sent in fake.log[:4]] == [0, SECOND, 3 * SECOND, 7 * SECOND]
    assert (summary.completed, summary.retransmitted, summary.rtt_count) == (1, 3, 0)


def test_silence_times_out_as_linux_gives_up() -> None:
    """Six retries: 1 + 2 + 4 + 8 + 16 + 32 + 64 seconds (Documentation/networking/ip-sysctl, tcp_syn_retries)."""
    fake = core(drop=lambda sent, number: True)
    summary = run_one(fake, flow("tcp", SERVER_OF[4]))
    assert (summary.timed_out, summary.sent) == (1, 7)
    assert fake.log[-1].time == 63 * SECOND
    assert summary.first_error == "no answer in state SYN_SENT"


def test_lost_synack_is_asked_for_and_sent_again() -> None:
    fake = core(drop=lambda sent, number: flags(sent) == "SA" and number == 2)
    assert run_one(fake, flow("tcp", SERVER_OF[4])).completed == 1
    assert [flags(sent) for sent in from_namespace(fake, SERVER)][:2] == ["SA", "SA"]


def test_one_lost_segment_is_sent_again_after_three_duplicates() -> None:
    lost: list[int] = []

    def drop(sent: Sent, number: int) -> bool:
        if not lost and sent.namespace == SERVER and payload_bytes(sent):
            lost.append(sent.packet[TCP].seq)
            return True
        return False

    fake = core(drop=drop)
    assert run_one(fake, flow("tcp", SERVER_OF[4], response_bytes=50_000)).completed == 1
    again = [sent for sent in from_namespace(fake, SERVER) if payload_bytes(sent) and sent.packet[TCP].seq == lost[0]]
    assert len(again) == 2
    assert again[1].time < SECOND
    blocks = [dict(sent.packet[TCP].options).get("SAck") for sent in from_namespace(fake, CLIENT)]
    left = lost[0] + 1448
    assert (left, left + 1448) in blocks, "the first duplicate names the one segment beyond the hole"


def test_several_losses_in_one_flight_need_no_timeout() -> None:
    lost: list[int] = []

    def drop(sent: Sent, number: int) -> bool:
        is_data = sent.namespace == SERVER and payload_bytes(sent) > 0
        nth = sum(other.namespace == SERVER and payload_bytes(other) > 0 for other in fake.log)
        if is_data and nth in (2, 4, 6) and sent.packet[TCP].seq not in lost:
            lost.append(sent.packet[TCP].seq)
            return True
        return False

    fake = core()
    fake.drop = drop
    summary = run_one(fake, flow("tcp", SERVER_OF[4], response_bytes=50_000))
    assert (summary.completed, len(lost)) == (1, 3)
    assert fake.log[-1].time < SECOND


def test_windows_are_scaled_after_the_handshake() -> None:
    fake = core()
    run_one(fake, flow("tcp", SERVER_OF[4]))
    # 64,240 bytes in units of 128, rounded up: the 502 that tcpdump shows of Linux.
    assert [sent.packet[TCP].window for sent in from_namespace(fake, CLIENT)] == [64240, 502, 502, 502, 502]


def test_timestamps_are_the_senders_milliseconds_and_echoed() -> None:
    fake = core(delays=lambda number: [5_000_000])
    run_one(fake, flow("tcp", SERVER_OF[4]))
    stamps = [(sent.namespace, sent.time, *dict(sent.packet[TCP].options)["Timestamp"]) for sent in fake.log]
    for namespace in (CLIENT, SERVER):
        own = [(time // 1_000_000, value) for ns, time, value, _ in stamps if ns == namespace]
        assert len({(value - ms) % 2**32 for ms, value in own}) == 1
    for (ns, _, value, _), (next_ns, _, _, echo) in zip(stamps, stamps[1:], strict=False):
        if ns != next_ns:
            assert echo == value


def test_sequence_numbers_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.traffic.connection.draw64", lambda seed, purpose, *words: 2**32 - 5000)
    fake = core(drop=lambda sent, number: number % 11 == 0)
    summary = run_one(fake, flow("tcp", SERVER_OF[4], request_bytes=30_000, response_bytes=30_000))
    assert fake.log[0].packet[TCP].seq > 2**32 - 5001
    assert (summary.completed, summary.bytes_received) == (1, 30_000)


def test_both_ends_close_at_once() -> None:
    fake = core()
    loop = Loop(fake, 1)
    ended: list[tuple[int, End]] = []
    client = endpoint(loop, Endpoints(CLIENT, packed("10.0.0.1"), 4000, packed("10.0.0.2"), 80), ended)
    server = endpoint(loop, Endpoints(SERVER, packed("10.0.0.2"), 80, packed("10.0.0.1"), 4000), ended)
    client.connect()
    loop.at(SECOND, client.close)
    loop.at(SECOND, server.close)
    loop.run()
    assert [flags(sent) for sent in fake.log] == ["S", "SA", "A", "FA", "FA", "A", "A"]
    assert dict(ended) == {CLIENT: End.CLOSED, SERVER: End.CLOSED}
    assert (client.state, server.state) == (State.TIME_WAIT, State.TIME_WAIT)


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("family", [4, 6])
def test_any_loss_below_the_retry_limits_is_overcome(family: int, data: st.DataObject) -> None:
    lost = data.draw(st.sets(st.integers(1, 60), max_size=25), label="numbers of the packets lost")
    sizes = data.draw(st.tuples(st.integers(16, 40_000), st.integers(0, 40_000)), label="request and response")
    fake = core(drop=lambda sent, number: number in lost and (number - 1 not in lost or number - 2 not in lost))
    summary = run_one(fake, flow("tcp", SERVER_OF[family], request_bytes=sizes[0], response_bytes=sizes[1]))
    assert (summary.completed, summary.bytes_received, summary.arrived) == (1, sizes[1], 1)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(1, 80), st.lists(st.integers(0, 4 * LATENCY), min_size=1, max_size=3), max_size=40), st.integers(0, 60_000)
)
def test_packets_overtaken_and_doubled_do_no_harm(delays: dict[int, list[int]], response: int) -> None:
    fake = core(delays=lambda number: delays.get(number, [0]))
    summary = run_one(fake, flow("tcp", SERVER_OF[4], request_bytes=20_000, response_bytes=response))
    assert (summary.completed, summary.bytes_received, summary.arrived) == (1, response, 1)
    assert fake.log[-1].time < SECOND, "nothing is lost, so nobody waits for a timeout"


def test_service_address_is_answered_through_translation() -> None:
    fake = core(virtual={("10.96.0.10", 80): ("10.0.0.2", 8080)})
    service = flow("tcp", "10.96.0.10", 80, listeners=())
    backend = flow("tcp", "10.0.0.2", 8080, number=1)
    summaries = run(fake, service, backend)
    assert [summary.completed for summary in summaries] == [1, 1]
    assert {sent.packet.dst for sent in from_namespace(fake, CLIENT)} == {"10.96.0.10", "10.0.0.2"}


def test_answer_that_was_not_translated_back_is_reset_and_named() -> None:
    fake = core(virtual={("10.96.0.10", 80): ("10.0.0.2", 8080)}, forgets_to_untranslate=True)
    flows = flow("tcp", "10.96.0.10", 80, listeners=()), flow("tcp", "10.0.0.2", 8080, number=1, start_ns=200 * SECOND)
    summary = run(fake, *flows)[0]
    assert summary.completed == 0
    assert summary.first_error == "segment from 10.0.0.2 port 8080, which was not asked"
    assert flags(fake.log[2]) == "R"


def test_every_segment_of_an_ipv6_connection_and_a_reset_has_a_flow_label() -> None:
    """RFC 6437 3: not zero, and one for each direction of a connection."""
    fake = core(virtual={("fd00::99", 80): ("fd00::2", 8080)}, forgets_to_untranslate=True)
    run(fake, flow("tcp", "fd00::99", 80, listeners=()), flow("tcp", "fd00::2", 8080, number=1, start_ns=200 * SECOND))
    assert "R" in {flags(sent) for sent in fake.log}
    labels: dict[tuple[str, int, str, int], set[int]] = {}
    for sent in fake.log:
        ends = (sent.packet.src, sent.packet[TCP].sport, sent.packet.dst, sent.packet[TCP].dport)
        labels.setdefault(ends, set()).add(sent.packet.fl)
    assert all(len(each) == 1 and 0 not in each for each in labels.values())
    assert len(set.union(*labels.values())) == len(labels)


def test_connections_use_ports_of_their_own_and_give_them_back() -> None:
    fake = core()
    summary = run_one(fake, flow("tcp", SERVER_OF[4], count=50))
    ports = {sent.packet[TCP].sport for sent in fake.log if flags(sent) == "S"}
    assert (summary.completed, len(ports)) == (50, 50)
    assert ports <= set(range(32768, 61000))
    held = [port for namespace, _, port in fake.sockets.values() if namespace == CLIENT]
    # Connections that closed within the last 60 seconds, all of them, are in TIME_WAIT.
    assert sorted(held) == sorted(ports)


def test_ports_leave_time_wait_after_a_minute() -> None:
    fake = core()
    run(fake, flow("tcp", SERVER_OF[4]), flow("ping", SERVER_OF[4], number=1, start_ns=61 * SECOND))
    assert [proto for namespace, proto, _ in fake.sockets.values() if namespace == CLIENT] == [1]


def test_last_acknowledgement_is_repeated_from_time_wait() -> None:
    fake = core(drop=lambda sent, number: number == 8)  # the client's acknowledgement of the FIN
    assert run_one(fake, flow("tcp", SERVER_OF[4])).completed == 1
    assert [flags(sent) for sent in fake.log[6:]] == ["FA", "A", "FA", "A"]


def test_source_port_is_kept() -> None:
    fake = core()
    run_one(fake, flow("tcp", SERVER_OF[4], source_port=4321))
    assert {sent.packet[TCP].sport for sent in from_namespace(fake, CLIENT)} == {4321}


def test_no_route_fails_without_a_packet() -> None:
    fake = core()
    summary = run_one(fake, flow("tcp", "192.0.2.1", listeners=()))
    assert (summary.failed, summary.first_error, fake.log) == (1, "no route to 192.0.2.1", [])


def test_reset_in_mid_connection_is_a_failure() -> None:
    fake = core()

    def drop(sent: Sent, number: int) -> bool:
        if number == 4:  # the request meets a server that has forgotten everything
            fake.sockets = {key: value for key, value in fake.sockets.items() if value[0] != SERVER}
        return False

    fake.drop = drop
    summary = run_one(fake, flow("tcp", SERVER_OF[4]))
    assert (summary.completed, summary.refused, summary.failed) == (0, 0, 1)
    assert summary.first_error == "RST in state ESTABLISHED"


def test_stopping_early_leaves_connections_open() -> None:
    summary = run(core(), flow("tcp", SERVER_OF[4]), until=3 * LATENCY)[0]
    assert (summary.attempts, summary.open) == (1, 1)


def test_same_seed_same_packets_another_seed_others() -> None:
    def packets(seed: int) -> list[tuple[int, bytes]]:
        fake = core()
        run(fake, flow("tcp", SERVER_OF[4], count=5, arrival="poisson"), flow("tcp", SERVER_OF[6], number=1), seed=seed)
        return [(sent.time, bytes(sent.packet)) for sent in fake.log]

    assert packets(7) == packets(7)
    assert packets(7) != packets(8)


def test_two_clients_and_one_listener() -> None:
    fake = core()
    flows = [flow("tcp", SERVER_OF[4], number=number, count=20, response_bytes=number * 100) for number in range(3)]
    summaries = run(fake, *flows)
    assert [summary.completed for summary in summaries] == [20, 20, 20]
    assert [summary.bytes_received for summary in summaries] == [0, 2000, 4000]
    assert [summary.arrived for summary in summaries] == [20, 20, 20]
    assert all(accounts_for_all(summary) for summary in summaries)
    assert OTHER not in {sent.namespace for sent in fake.log}
