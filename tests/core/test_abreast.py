"""Frames that leave the world eight at a time: connections, counters and what comes later are as if each had gone through the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import ModuleType
from typing import Any

import pytest

from core.outlets import ACK, CONNECTIONS, EVERYWHERE, PORT, Outlet, question, reply, rounds, segment
from core.worlds import CLIENT, MILLISECOND, ROUTER1, SECOND, SERVER, SERVER_MAC, TCP, ether, filter_table, ip, ipv4, mac, tcp, tcp_packet

EIGHT = 8
RST_ACK, FIN_ACK, SYN = 0x14, 0x11, 0x02


@pytest.fixture(scope="module", autouse=True)
def _wide(probe: Callable[[str], ModuleType]) -> None:
    if not probe("segments_probe").WIDE:
        pytest.skip("the processor has no AVX2")


def told(flags: int, number: int, seq: int) -> bytes:
    return ether(tcp_packet(flags, sport=PORT + number, dport=80, seq=seq, ack=200))


def with_data(number: int, seq: int, size: int) -> bytes:
    payload = bytes(range(256)) * 6
    segment_of = tcp(ACK, sport=PORT + number, dport=80, seq=seq, ack=200, payload=payload[:size])
    return ether(ipv4(segment_of, src=CLIENT, dst=SERVER, proto=TCP))


def abreast(*bursts: Sequence[bytes], gap: int = MILLISECOND, sysctls: Sequence[tuple[str, int]] = ()) -> int:
    """How many frames went eight at a time, once that has come to what the slow path alone does. Between bursts a setting changes."""
    slow, fast = Outlet(slow=True, captured=()), Outlet(captured=())
    before = fast.engine.flow_cache()["abreast"]
    for number, burst in enumerate(bursts):
        for outlet in (slow, fast):
            outlet.carry(burst, gap=gap)
            if number < len(sysctls):
                outlet.engine.set_sysctl(outlet.router.ns, *sysctls[number])
        assert fast.engine.conntrack(fast.router.ns) == slow.engine.conntrack(slow.router.ns)
    gone = fast.engine.flow_cache()["abreast"] - before
    assert fast.shown() == slow.shown()
    return gone


def test_frames_of_many_connections_go_eight_at_a_time() -> None:
    frames = rounds(12)
    assert abreast(frames) == len(frames)


@pytest.mark.parametrize("length", [2, 3, 8, 30])
def test_segments_of_one_connection_behind_each_other(length: int) -> None:
    """Each is seen by what the one before has made of the connection; the same segment so often that its timeout becomes another."""
    frames = [segment(number, 100 + step // 2) for number in range(CONNECTIONS) for step in range(length)]
    assert abreast(frames) > len(frames) - EIGHT


def test_connections_that_come_again_within_eight_frames() -> None:
    rng = Random("again")
    frames = [segment(rng.randrange(5), 100 + step // 50) for step in range(1600)]
    assert abreast(frames) > len(frames) - EIGHT


@pytest.mark.parametrize("denied", [1, 7, 8, 40])
@pytest.mark.parametrize("passed", [8, 24, 32, 100])
def test_frames_that_a_rule_drops_between_many_that_nobody_sees(denied: int, passed: int) -> None:
    """What is written where nobody looks does not get where dropped frames are kept."""
    slow, fast = Outlet(slow=True, captured=()), Outlet(captured=())
    half = CONNECTIONS // 2
    frames = []
    for turn in range(24):
        first, count = ((0, denied), (half, passed))[turn % 2]
        frames += [segment(first + (turn * EIGHT + number) % half, 103 + turn) for number in range(count)]
    before = fast.engine.flow_cache()["abreast"]
    for outlet in (slow, fast):
        rules: Any = [{"proto": TCP, "sport": (PORT, PORT + half - 1), "target": "DROP"}]
        outlet.engine.set_rules(outlet.router.ns, 4, "filter", filter_table(FORWARD=rules))
        outlet.carry(rounds(3))
        outlet.carry(frames)
    assert fast.engine.flow_cache()["abreast"] - before > len(frames) - 4 * EIGHT
    assert fast.shown() == slow.shown()


@pytest.mark.parametrize("place", range(800, 800 + 2 * EIGHT))
@pytest.mark.parametrize("kind", ["beyond", "reset", "end", "begin", "datagram", "cut", "damaged", "group"])
def test_one_frame_that_goes_another_way_ends_the_eight_in_front_of_it(place: int, kind: str) -> None:
    frames = rounds(8)
    number, seq = place % CONNECTIONS, 100 + place // CONNECTIONS
    good = frames[place]
    frames[place] = {
        "beyond": segment(number, 3_000_000_000),
        "reset": told(RST_ACK, number, seq),
        "end": told(FIN_ACK, number, seq),
        "begin": told(SYN, number, seq),
        "datagram": question(),
        "cut": good[:50],
        "damaged": good[:51] + bytes([good[51] ^ 1]) + good[52:],
        "group": ether(b"\x46" + good[15:]),
    }[kind]
    gone = abreast(frames)
    assert len(frames) // 2 < gone < len(frames)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 27, 28, 29, 30, 100, 1399])
def test_segments_with_data_of_any_length(size: int) -> None:
    """Up to 28 bytes their sums are looked at together, others one by one; lengths that have not been seen before go another way first."""
    first = [with_data(number, 100, size) for number in range(CONNECTIONS)]
    then = [with_data(number, 100 + size, size) for number in range(CONNECTIONS)]
    assert abreast(first, then, [*then, *first]) >= CONNECTIONS


def test_frames_with_padding_behind_their_packets() -> None:
    frames = [frame + bytes(6) for frame in rounds(6)]
    assert abreast(frames, frames) > len(frames)


def test_both_ends_of_the_same_connections() -> None:
    rng = Random("both")
    frames = []
    for step in range(1200):
        number = rng.randrange(40)
        frames.append(rng.choice([segment(number, 100 + step // 40), reply(number, 200 + step // 40)]))
    assert abreast(frames) > len(frames) // 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tcp_max_retrans", 1), ("tcp_timeout_established", 100), ("tcp_timeout_unacknowledged", 7), ("tcp_timeout_max_retrans", 3),
        ("tcp_be_liberal", 1),
    ],
)  # fmt: skip
def test_settings_that_change_count_from_the_next_frame_on(name: str, value: int) -> None:
    frames = [each for each in rounds(3) for _ in range(3)]
    assert abreast(frames, frames, sysctls=[(f"net.netfilter.nf_conntrack_{name}", value)]) > len(frames)


@pytest.mark.parametrize("gap", [MILLISECOND, 40 * MILLISECOND, 400 * MILLISECOND, 2000 * MILLISECOND])
def test_connections_that_have_ended_meanwhile(gap: int) -> None:
    """Data that nobody acknowledges keep a connection for five minutes."""
    gone = abreast([with_data(number, 100, 10) for number in range(CONNECTIONS)], rounds(2), rounds(2), gap=gap)
    assert gone > CONNECTIONS or gap > 400 * MILLISECOND  # by then all of them have ended before they come again


def test_rules_that_change_end_what_is_known() -> None:
    slow, fast = Outlet(slow=True, captured=()), Outlet(captured=())
    before = fast.engine.flow_cache()["abreast"]
    for outlet in (slow, fast):
        outlet.carry(rounds(3))
        outlet.engine.set_rules(outlet.router.ns, 4, "filter", [])
        outlet.carry(rounds(3))
        for name in EVERYWHERE:
            outlet.engine.set_device(getattr(outlet.router, name), mtu=1400)
        outlet.carry(rounds(3))
    assert fast.engine.flow_cache()["abreast"] - before > 2 * len(rounds(3))
    assert fast.shown() == slow.shown()


def bridged(outlet: Outlet) -> None:
    """The server is behind a bridge of two ports, at one of which it has spoken just now."""
    engine, router = outlet.engine, outlet.router
    bridge = engine.add_device(router.ns, "br0", "bridge", mac=mac(0xB0), mtu=1500)
    engine.del_address(router.eth1, ip(ROUTER1), 24)
    engine.add_address(bridge, ip(ROUTER1), 24)
    engine.add_neighbour(bridge, ip(SERVER), SERVER_MAC)
    other = engine.add_device(router.ns, "port1", "veth", mac=mac(0xA1), mtu=1500)
    for port in (router.eth1, other):
        engine.set_device(port, master=bridge, capture=False)
    engine.set_device(bridge, capture=False)
    outlet.carry([reply(0, 200)])
    outlet.carry(rounds(3))


CREWS = [(1, 1024), (2, 64), (2, 960), (3, 100)]  # threads, frames of a window


@pytest.mark.parametrize(("threads", "window"), CREWS)
@pytest.mark.parametrize("gap", [400, 437, 511, 1001])
def test_a_bridge_forgets_a_station_between_frames_that_nobody_sees(gap: int, threads: int, window: int) -> None:
    """300 s after the server spoke last, what is for it leaves by both ports."""
    slow, fast = Outlet(slow=True, captured=()), Outlet(captured=(), threads=threads, window=window)
    before = fast.engine.flow_cache()["abreast"]
    for outlet in (slow, fast):
        bridged(outlet)
        outlet.carry(rounds(5), gap=gap * MILLISECOND)
    assert fast.engine.flow_cache()["abreast"] - before > 2 * CONNECTIONS
    assert fast.engine.counters() == slow.engine.counters()
    assert fast.engine.counters()["copies"] > 2 * EIGHT
    assert fast.shown() == slow.shown()


@pytest.mark.parametrize(("threads", "window"), CREWS)
@pytest.mark.parametrize("silence", [295, 305])
def test_a_bridge_remembers_when_frames_that_nobody_sees_came_last(silence: int, threads: int, window: int) -> None:
    """Of many replies, over minutes, the last one counts."""
    slow, fast = Outlet(slow=True, captured=()), Outlet(captured=(), threads=threads, window=window)
    replies = [[reply(number, seq + step) for step in range(3) for number in range(CONNECTIONS)] for seq in (201, 204)]
    for outlet in (slow, fast):
        bridged(outlet)
        outlet.carry(replies[0])
        before = outlet.engine.flow_cache()["abreast"]
        outlet.carry(replies[1], gap=400 * MILLISECOND)
        gone = outlet.engine.flow_cache()["abreast"] - before
        outlet.carry([segment(1, 103)], gap=silence * SECOND)
        assert (outlet.engine.counters()["copies"] > 0) == (silence > 300)
    assert gone > 2 * CONNECTIONS
    assert fast.shown() == slow.shown()
