"""The given conntrack cases against the TCP tracker itself; `dataplane check` runs them through the whole engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from core.ct_segments import NOP, SACK_PERMITTED, SECOND, Conntrack, segment, timestamps, window_scale

DIRECTIONS = {"original": 0, "reply": 1}
KINDS = {"syn": 0, "synack": 1, "fin": 2, "ack": 3, "rst": 4}
FLAGS = {"syn": "S", "synack": "SA", "fin": "FA", "ack": "A", "rst": "R"}
NO_STATE = {10: "INVALID", 11: "IGNORE"}


def load(cases: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted((cases / "conntrack").glob("*.json"))]
    chosen = [case for case in found if case["kind"] == kind]
    assert chosen
    return chosen


def test_state_table(ct: ModuleType, cases: Path) -> None:
    for case in load(cases, "state_table"):
        for row in case["rows"]:
            got = ct.Tcp.next_state(DIRECTIONS[row["dir"]], KINDS[row["flags"]], case["columns"].index(row["state"]))
            assert (NO_STATE[got] if got in NO_STATE else ct.TCP_STATES[got]) == row["result"], row


def test_timeouts(ct: ModuleType, cases: Path) -> None:
    for case in load(cases, "timeout_table"):
        seconds, settings = case["seconds"], ct.Settings().dump()
        tcp = dict(seconds["tcp"])
        assert settings["tcp_timeout_max_retrans"] == tcp.pop("max_retrans") * SECOND
        assert settings["tcp_timeout_unacknowledged"] == tcp.pop("unacknowledged") * SECOND
        assert {state: settings["tcp_timeout"][ct.TCP_STATES.index(state)] for state in tcp} == {s: t * SECOND for s, t in tcp.items()}
        assert settings["udp_timeout"] == seconds["udp"]["unreplied"] * SECOND
        assert settings["udp_timeout_stream"] == seconds["udp"]["replied"] * SECOND
        assert settings["icmp_timeout"] == seconds["icmp"] * SECOND
        assert settings["generic_timeout"] == seconds["generic"] * SECOND
        assert settings["tcp_max_retrans"] == case["max_retrans_count"]


class Ends:
    """Sequence numbers of two ends, so that flags alone make segments that are in window."""

    def __init__(self) -> None:
        self.next = [1000, 5000]

    def segment(self, direction: int, flags: str) -> bytes:
        return segment(flags, self.next[direction], self.next[1 - direction] if "A" in flags else 0)

    def took(self, direction: int, flags: str) -> None:
        """The other end took the segment; one that it ignores uses up no sequence number."""
        self.next[direction] += ("S" in flags) + ("F" in flags)


def test_state_walks(ct: ModuleType, cases: Path) -> None:
    results = {ct.ACCEPT: "ACCEPT", ct.IGNORE: "IGNORE", ct.INVALID: "INVALID"}
    for case in load(cases, "state_walk"):
        track, ends = Conntrack(ct), Ends()
        for step in case["steps"]:
            direction = DIRECTIONS[step["dir"]]
            flags = FLAGS[step["flags"]]
            track.send(direction, ends.segment(direction, flags), int(step["t"] * SECOND))
            if track.verdict == ct.ACCEPT:
                ends.took(direction, flags)
            assert (results[track.verdict], track.state) == (step["result"], step["state"]), (case["name"], step)


def options_of(packet: dict[str, Any]) -> bytes:
    options = packet.get("options", {})
    built = b""
    if options.get("sackOK"):
        built += SACK_PERMITTED
    if "ts" in options:
        built += timestamps(*options["ts"])
    if "wscale" in options:
        built += NOP + window_scale(options["wscale"])
    return built


def observed(track: Conntrack, expect: dict[str, Any]) -> dict[str, Any]:
    seen = {"state": track.state, "assured": track.assured, "replied": track.replied}
    return {name: value for name, value in seen.items() if name in expect}


def fits(ctstate: str, expected: str) -> bool:
    return ctstate != "INVALID" if expected == "not INVALID" else ctstate == expected


def test_packet_sequences(ct: ModuleType, cases: Path) -> None:
    """What a source checks with conntrack(8) it checks some time after the packet: it must hold until the next such check."""
    for case in load(cases, "packet_sequence"):
        track = Conntrack(ct, **case["settings"])
        invalid = {"local": 0, "remote": 0}
        waiting: dict[str, Any] = {}
        for number, packet in enumerate(case["packets"]):
            expect = dict(packet["expect"])
            options = options_of(packet)
            seg = segment(packet["flags"], packet["seq"], packet.get("ack", 0), win=packet["win"], payload=packet["len"], options=options)
            if expect.keys() & {"state", "assured", "replied"}:
                assert not waiting, (case["name"], number, waiting)
                waiting = {name: expect[name] for name in ("state", "assured", "replied") if name in expect}
            ctstate = track.send(DIRECTIONS[packet["dir"]], seg, int(packet["t"] * SECOND))
            assert fits(ctstate, expect["ctstate"]), (case["name"], number, ctstate)
            invalid[packet["from"]] += ctstate == "INVALID"
            if waiting and observed(track, waiting) == waiting:
                waiting = {}
        assert not waiting, (case["name"], waiting)
        for side, count in case.get("invalid_counts", {}).items():
            assert count is None or invalid[side.removeprefix("from_")] == count, (case["name"], side)
