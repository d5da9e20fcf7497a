"""What connection tracking makes of TCP segments: one behaviour of Linux' tracker each."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import pytest

from core.ct_segments import NOP, SACK_PERMITTED, SECOND, Conntrack, handshake, sack, segment, window_scale


def alive(track: Conntrack, now: int = 0) -> float:
    return (track.expires - now) / SECOND


def test_the_entry_fits_a_cache_line(ct: ModuleType) -> None:
    assert ct.TCP_SIZE <= 64


# ---- validity

VALID_FLAGS = {"S", "SU", "SA", "R", "RA", "FA", "FAU", "A", "AU"}


def test_flag_combinations(ct: ModuleType) -> None:
    for chosen in product(*[("", flag) for flag in "FSRAU"]):
        for push in ("", "P"):
            flags = "".join(chosen)
            assert ct.Tcp.valid(segment(flags + push)) == any(set(flags) == set(good) for good in VALID_FLAGS), flags + push


@pytest.mark.parametrize("length", range(20))
def test_less_than_a_header_is_invalid(ct: ModuleType, length: int) -> None:
    assert not ct.Tcp.valid(segment("S")[:length])


@pytest.mark.parametrize(("offset", "length", "valid"), [(4, 40, False), (5, 20, True), (6, 20, False), (15, 59, False), (15, 60, True)])
def test_the_data_offset_must_lie_in_the_packet(ct: ModuleType, offset: int, length: int, valid: bool) -> None:
    seg = bytearray(segment("S").ljust(length, b"\0"))
    seg[12] = offset << 4
    assert ct.Tcp.valid(bytes(seg)) == valid


# ---- opening


@pytest.mark.parametrize("flags", ["SA", "FA", "R", "RA"])
def test_only_syn_or_ack_begins_a_connection(ct: ModuleType, flags: str) -> None:
    track = Conntrack(ct)
    assert track.send(0, segment(flags, 1, 1)) == "INVALID"
    assert track.entry is None


def test_midstream_pickup(ct: ModuleType) -> None:
    track = Conntrack(ct)
    assert track.send(0, segment("PA", 777, 888, payload=10)) == "NEW"
    assert track.state == "ESTABLISHED"
    assert alive(track) == 300  # five days only once the other end has answered
    assert track.send(1, segment("A", 888, 787)) == "ESTABLISHED"
    assert track.send(0, segment("A", 787, 888)) == "ESTABLISHED"
    assert track.assured
    assert alive(track) == 5 * 24 * 3600


def test_no_midstream_pickup_unless_loose(ct: ModuleType) -> None:
    assert Conntrack(ct, tcp_loose=0).send(0, segment("A", 777, 888)) == "INVALID"


def test_a_picked_up_connection_is_not_held_to_its_window(ct: ModuleType) -> None:
    track = Conntrack(ct)
    track.send(0, segment("A", 1, 1, win=100))
    assert track.send(0, segment("A", 1_000_000, 1)) == "NEW"


def test_repeated_syns_do_not_keep_an_entry_alive(ct: ModuleType) -> None:
    track = Conntrack(ct)
    track.send(0, segment("S", 1000))
    expires = track.expires
    assert track.send(0, segment("S", 1000), 50 * SECOND) == "NEW"
    assert track.expires == expires


def test_reset_of_an_unanswered_connection_removes_it(ct: ModuleType) -> None:
    track = Conntrack(ct)
    track.send(0, segment("S", 1000))
    assert track.send(1, segment("RA", 0, 1001)) == "ESTABLISHED"
    assert track.entry is None


def test_simultaneous_open(ct: ModuleType) -> None:
    track = Conntrack(ct)
    states = []
    for direction, seg in [
        (0, segment("S", 1000)),
        (1, segment("S", 5000)),
        (0, segment("SA", 1000, 5001)),
        (1, segment("A", 5001, 1001)),
    ]:
        assert track.send(direction, seg) != "INVALID"
        states.append(track.state)
    assert states == ["SYN_SENT", "SYN_SENT2", "SYN_RECV", "ESTABLISHED"]
    assert track.assured


def test_challenge_ack_against_a_new_syn(ct: ModuleType) -> None:
    """RFC 5961: the server still has the old connection; the client resets it with the number that the server told."""
    track = Conntrack(ct)
    track.send(0, segment("S", 1000))
    assert track.send(1, segment("A", 145_824_453, 643_161_523)) == "ESTABLISHED"
    assert track.state == "SYN_SENT"
    assert track.send(0, segment("R", 643_161_523)) == "ESTABLISHED"
    assert track.state == "CLOSE"
    assert track.send(0, segment("S", 1000)) == "NEW"  # begins anew after its own reset
    assert (track.state, track.replied) == ("SYN_SENT", False)


# ---- windows


def test_data_beyond_the_window_is_invalid(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    assert track.send(0, segment("A", 1001 + 65535 + 1, 5001, payload=100_000)) == "INVALID"
    assert track.send(0, segment("A", 1001 + 65535, 5001)) == "ESTABLISHED"


def test_an_overshoot_of_less_than_a_window_passes(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    assert track.send(0, segment("A", 1001 + 65535 + 1, 5001, payload=100)) == "ESTABLISHED"
    assert track.verdict == ct.IGNORE
    assert track.send(1, segment("A", 5001, 1001 + 65535 + 101)) == "ESTABLISHED"  # the receiver took it


def test_a_known_flow_overshoots_as_any_segment_does(ct: ModuleType) -> None:
    """Of a connection picked up in mid-stream, whose windows are a guess: accepted, and what was sent counts."""
    track = Conntrack(ct)
    track.send(0, segment("PA", 777, 888, payload=10))
    track.send(1, segment("A", 888, 787, win=1000))
    track.send(0, segment("A", 787, 888))
    assert track.assured
    entry, first = track.entry, 787 + 65535 + 1  # behind the window that was guessed
    beyond = segment("A", first, 888, payload=100)
    timeout, tracker, status = entry.passing(0, beyond)
    assert tracker["side"][0]["end"] == first + 100
    assert entry.packet(0, beyond, SECOND) == (ct.ACCEPT, timeout)
    assert (tracker, status) == (entry.dump(), entry.status)


def test_ack_of_what_was_never_sent_is_invalid(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    assert track.send(1, segment("A", 5001, 1002)) == "INVALID"


def test_old_acks_and_old_data_are_ignored(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    for _ in range(3):
        track.send(0, segment("A", track.entry.dump()["side"][0]["end"], 5001, payload=60_000))
        track.send(1, segment("A", 5001, track.entry.dump()["side"][0]["end"]))
    assert track.send(1, segment("A", 5001, 1001)) == "ESTABLISHED"
    assert track.verdict == ct.IGNORE
    assert track.send(0, segment("A", 1001, 5001, payload=10)) == "ESTABLISHED"
    assert track.verdict == ct.IGNORE


def test_be_liberal_lets_anything_but_bad_resets_pass(ct: ModuleType) -> None:
    track = Conntrack(ct, tcp_be_liberal=1)
    handshake(track)
    assert track.send(1, segment("A", 5001, 900_000)) == "ESTABLISHED"
    assert track.send(1, segment("R", 4000)) == "INVALID"


@pytest.mark.parametrize(("both", "state"), [(True, "ESTABLISHED"), (False, "INVALID")])
def test_window_scaling_needs_both_ends(ct: ModuleType, both: bool, state: str) -> None:
    track = Conntrack(ct)
    offer = NOP + window_scale(4)
    handshake(track, options=(offer, offer if both else b""))
    track.send(1, segment("A", 5001, 1001, win=10_000))
    far = 1001 + 65535 + 20_000
    assert track.send(0, segment("A", far, 5001, payload=100_000)) == state


def test_shift_counts_above_14_count_as_14(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track, options=(window_scale(255), window_scale(3)))
    assert [side["scale"] for side in track.entry.dump()["side"]] == [14, 3]


def test_sack_moves_the_window_on(ct: ModuleType) -> None:
    """A window counts from the highest block that the receiver holds, if it said that it knows SACK."""
    for permitted in (True, False):
        track = Conntrack(ct)
        track.send(0, segment("S", 1000, options=SACK_PERMITTED if permitted else b""))
        track.send(1, segment("SA", 5000, 1001, win=1000, options=SACK_PERMITTED))
        track.send(0, segment("A", 1001, 5001))
        track.send(0, segment("A", 1501, 5001, payload=500))
        track.send(1, segment("A", 5001, 1001, win=1000, options=sack((1501, 2001))))
        reach = track.entry.dump()["side"][0]["max_end"]
        assert reach == (3001 if permitted else 2001)


@pytest.mark.parametrize("options", [b"\x03", b"\x03\x00\x07", b"\x03\x04\x07\x00", b"\x02\x28", b"\x00\x03\x03\x07", b"\x05\x0a\x01\x02"])
def test_broken_options_are_skipped(ct: ModuleType, options: bytes) -> None:
    track = Conntrack(ct)
    handshake(track, options=(options, options))
    assert [side["scale"] for side in track.entry.dump()["side"]] == [0, 0]
    assert track.send(0, segment("A", 1001, 5001, options=options)) == "ESTABLISHED"


def test_answer_to_a_keepalive_of_a_picked_up_connection(ct: ModuleType) -> None:
    track = Conntrack(ct)
    track.send(0, segment("A", 999, 5001))
    assert track.send(1, segment("A", 5001, 1000)) == "ESTABLISHED"
    assert track.entry.dump()["side"][0]["end"] == 1000


# ---- resets


def test_reset_must_hit_the_next_byte(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(1, segment("A", 5001, 1001, payload=100))
    track.send(0, segment("A", 1001, 5101))
    assert track.send(1, segment("R", 5100)) == "INVALID"
    assert track.send(1, segment("R", 5102)) == "ESTABLISHED"
    assert track.state == "ESTABLISHED"  # the receiver answers with a challenge ACK
    assert alive(track) == 10
    assert track.send(1, segment("R", 5101)) == "ESTABLISHED"
    assert track.state == "CLOSE"


def test_old_resets_pass_where_the_sysctl_says_so(ct: ModuleType) -> None:
    track = Conntrack(ct, tcp_ignore_invalid_rst=1)
    handshake(track)
    track.send(1, segment("A", 5001, 1001, payload=100))
    track.send(0, segment("A", 1001, 5101))
    assert track.send(1, segment("R", 5100)) == "ESTABLISHED"


def test_reset_right_behind_its_data_closes(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(1, segment("A", 5001, 1001, payload=100))
    assert track.send(1, segment("R", 5101)) == "ESTABLISHED"
    assert track.state == "CLOSE"


@pytest.mark.parametrize(("direction", "state"), [(1, "CLOSE"), (0, "ESTABLISHED")])
def test_reset_against_a_passed_syn(ct: ModuleType, direction: int, state: str) -> None:
    """The other end refuses the SYN that was let through; the SYN's own sender cannot."""
    track = Conntrack(ct)
    handshake(track)
    assert track.send(0, segment("S", 500_000)) == "ESTABLISHED"
    assert track.verdict == ct.IGNORE
    track.send(direction, segment("RA", 777_777, 500_001))
    assert track.state == state


# ---- starting over


def test_syn_ack_proves_a_passed_syn_right(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(0, segment("S", 9_000_000))
    assert track.send(1, segment("SA", 7_000_000, 9_000_001)) == "ESTABLISHED"
    assert track.state == "SYN_RECV"
    assert track.send(0, segment("A", 9_000_001, 7_000_001)) == "ESTABLISHED"
    assert track.state == "ESTABLISHED"


def close(track: Conntrack) -> None:
    track.send(0, segment("FA", 1001, 5001))
    track.send(1, segment("FA", 5001, 1002))
    track.send(0, segment("A", 1002, 5002))
    assert track.state == "TIME_WAIT"


@pytest.mark.parametrize("direction", [0, 1])
def test_a_syn_reopens_from_time_wait(ct: ModuleType, direction: int) -> None:
    """Even from the other end: its SYN begins an entry in its own direction."""
    track = Conntrack(ct)
    handshake(track)
    close(track)
    assert track.send(direction, segment("S", 9_000_000)) == "NEW"
    assert (track.verdict, track.state, track.replied, track.assured) == (ct.ACCEPT, "SYN_SENT", False, False)


def test_a_challenge_ack_is_not_the_last_ack(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(0, segment("FA", 1001, 5001))
    track.send(1, segment("FA", 5001, 1002))
    assert track.state == "LAST_ACK"
    track.send(0, segment("S", 1001))
    assert track.send(1, segment("A", 5002, 1002)) == "ESTABLISHED"
    assert track.state == "LAST_ACK"


# ---- timeouts


def test_unacknowledged_data_shortens_the_timeout(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(0, segment("A", 1001, 5001, payload=100))
    assert alive(track) == 300
    track.send(1, segment("A", 5001, 1101))
    assert alive(track) == 5 * 24 * 3600


@pytest.mark.parametrize(("limit", "repeats"), [(3, 3), (1, 1)])
def test_retransmissions_shorten_the_timeout(ct: ModuleType, limit: int, repeats: int) -> None:
    track = Conntrack(ct, tcp_max_retrans=limit)
    handshake(track)
    left = []
    for _ in range(repeats):
        left.append(alive(track))
        track.send(0, segment("A", 1001, 5001))
    assert left == [5 * 24 * 3600] * repeats
    assert alive(track) == 300


def test_a_closed_window_shortens_the_timeout(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.send(1, segment("A", 5001, 1001, win=0))
    assert alive(track) == 300


def test_refused_closes_from_both_ends_shorten_the_timeout(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    assert track.send(0, segment("FA", 900_000_000, 5001)) == "INVALID"
    assert alive(track) == 5 * 24 * 3600
    assert track.send(1, segment("FA", 900_000_000, 1001), SECOND) == "INVALID"
    assert alive(track, SECOND) == 300


def test_a_fixed_timeout_is_not_shortened(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    track.entry.status |= ct.FIXED_TIMEOUT
    track.send(0, segment("FA", 900_000_000, 5001))
    track.send(1, segment("FA", 900_000_000, 1001))
    assert alive(track) == 5 * 24 * 3600


def test_rejecting_with_a_reset_closes_the_entry(ct: ModuleType) -> None:
    track = Conntrack(ct)
    handshake(track)
    assert not track.entry.can_early_drop()
    assert track.entry.set_closing() == 10 * SECOND
    assert (track.state, track.entry.can_early_drop()) == ("CLOSE", True)
    assert track.entry.set_closing() == ct.KEEP_TIMEOUT
