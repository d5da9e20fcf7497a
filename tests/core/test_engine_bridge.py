"""Switching: learning, ageing, flooding, hairpin; and what a bridge never forwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.provoke_frames import bridge_that_waits
from core.worlds import BROADCAST, SECOND, Bridge, ether, mac, udp_packet, unaccounted

STATIONS = [mac(0x10 + number) for number in range(3)]
AGEING_SECONDS = 300


def frame(src: bytes, dst: bytes) -> bytes:
    return ether(udp_packet(), dst=dst, src=src)


def test_an_unknown_destination_is_flooded_and_a_learned_one_is_not() -> None:
    bridge = Bridge()
    bridge.take(0, frame(STATIONS[0], STATIONS[1]))
    assert sorted(bridge.ports_out()) == [1, 2]
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert bridge.ports_out() == [0]
    bridge.take(0, frame(STATIONS[0], STATIONS[1]))
    assert bridge.ports_out() == [1]
    assert unaccounted(bridge.engine) == 0


def test_a_station_that_moves_is_followed() -> None:
    bridge = Bridge()
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    bridge.take(2, frame(STATIONS[0], BROADCAST))
    bridge.engine.frames()
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert bridge.ports_out() == [2]


@pytest.mark.parametrize(("silence", "expected"), [(AGEING_SECONDS - 1, [0]), (AGEING_SECONDS + 1, [0, 2])])
def test_what_was_learned_is_forgotten_after_300_seconds(silence: int, expected: list[int]) -> None:
    bridge = Bridge()
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    bridge.engine.run(silence * SECOND)
    bridge.engine.frames()
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert sorted(bridge.ports_out()) == expected


def test_a_static_entry_is_never_forgotten() -> None:
    bridge = Bridge()
    bridge.engine.add_fdb(bridge.ports[0], STATIONS[0])
    bridge.engine.run(2 * AGEING_SECONDS * SECOND)
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert bridge.ports_out() == [0]


def test_even_a_static_entry_follows_a_station_that_moves() -> None:
    """Only a sticky entry would not (br_fdb_update())."""
    bridge = Bridge()
    bridge.engine.add_fdb(bridge.ports[0], STATIONS[0])
    bridge.take(2, frame(STATIONS[0], BROADCAST))
    bridge.engine.frames()
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert bridge.ports_out() == [2]


@pytest.mark.parametrize("static", [False, True])
def test_behind_a_port_that_has_left_the_bridge_there_is_nothing_any_more(static: bool) -> None:
    """br_fdb_delete_by_port(): what was learned goes, and what was entered by hand."""
    bridge = Bridge()
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    if static:
        bridge.engine.add_fdb(bridge.ports[0], STATIONS[0])
    bridge.engine.set_device(bridge.ports[0], master=-1)
    bridge.engine.frames()
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert bridge.ports_out() == [2]


def test_a_port_without_learning_teaches_nothing() -> None:
    bridge = Bridge()
    bridge.engine.set_device(bridge.ports[0], learning=False)
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    bridge.engine.frames()
    bridge.take(1, frame(STATIONS[1], STATIONS[0]))
    assert sorted(bridge.ports_out()) == [0, 2]


@pytest.mark.parametrize(("hairpin", "expected"), [(False, []), (True, [0])])
def test_only_a_port_in_hairpin_mode_sends_back(hairpin: bool, expected: list[int]) -> None:
    bridge = Bridge()
    bridge.engine.set_device(bridge.ports[0], hairpin=hairpin)
    bridge.take(0, frame(STATIONS[1], BROADCAST))
    bridge.engine.frames()
    bridge.take(0, frame(STATIONS[0], STATIONS[1]))
    assert bridge.ports_out() == expected
    assert bridge.engine.counters().get("drop/bridge/same_port", 0) == (not hairpin)


def test_a_hairpin_port_gets_its_own_broadcast_back() -> None:
    bridge = Bridge()
    bridge.engine.set_device(bridge.ports[0], hairpin=True)
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    assert sorted(bridge.ports_out()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("last_byte", "forwarded"), [(0x00, True), (0x01, False), (0x02, False), (0x0E, False), (0x0F, False), (0x10, True)]
)
def test_the_groups_of_802_1d_stay_on_their_link_but_for_the_spanning_tree_s(last_byte: int, forwarded: bool) -> None:
    """Without STP Linux floods 01:80:c2:00:00:00 like any group (br_handle_frame())."""
    bridge = Bridge()
    bridge.take(0, ether(bytes(46), dst=bytes.fromhex("0180c20000") + bytes([last_byte]), src=STATIONS[0], kind=0x88CC))
    assert bool(bridge.ports_out()) == forwarded


def test_a_port_that_is_down_is_left_out() -> None:
    bridge = Bridge()
    bridge.engine.set_device(bridge.ports[2], up=False)
    bridge.take(0, frame(STATIONS[0], BROADCAST))
    assert bridge.ports_out() == [1]


@pytest.mark.parametrize(
    ("meanwhile", "dropped"),
    [
        (lambda bridge: None, 0),
        (lambda bridge: bridge.engine.set_device(bridge.ports[0], up=False), 1),
        (lambda bridge: bridge.engine.set_device(bridge.ports[0], master=-1), 1),
        (lambda bridge: bridge.engine.del_device(bridge.ports[0]), 1),
    ],
    ids=["nothing", "down", "taken out", "gone"],
)
def test_what_becomes_of_its_port_while_a_frame_waits_for_a_neighbour(meanwhile: Callable[[Bridge], None], dropped: int) -> None:
    """br_handle_frame_finish(), called by br_nf_pre_routing_finish_bridge_slow(): it drops what comes by no port that forwards."""
    engine = bridge_that_waits(meanwhile)
    assert engine.counters().get("drop/bridge/port_gone", 0) == dropped
    forwarded = [frame for frame in engine.frames() if frame.outgoing and frame.data[:12] == mac(0x11) + mac(0x10)]
    assert len(forwarded) == 1 - dropped


def test_the_frame_leaves_as_it_came() -> None:
    bridge = Bridge()
    sent = frame(STATIONS[0], STATIONS[1])
    bridge.take(0, sent)
    assert {seen.data for seen in bridge.engine.frames() if seen.outgoing} == {sent}
