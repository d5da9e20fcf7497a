"""Case kinds of connection tracking: ``packet_sequence``, ``state_walk``, ``state_table``, ``timeout_table``, ``cleanup``.

Whole packets go through a namespace of the compiled core; its table and the states that its rules see are the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dataplane.control.proxy.cleanup import stale_entries
from dataplane.control.proxy.service_ports import service_ports
from dataplane.errors import InputError
from dataplane.k8s.loader import load_objects
from dataplane.testing.conntrack_lines import PROTOCOL_NAMES
from dataplane.testing.playback import pin_tuple
from dataplane.testing.tracker import FLAGS, SECOND, End, Tracker
from dataplane.traffic.packets import PROTO_UDP, echo_request, udp_datagram
from dataplane.traffic.segment import ACK, FIN, RST, SYN, Segment

Case = Mapping[str, Any]

_SIDES = {"original": 0, "reply": 1}
_KINDS = {"syn": SYN, "synack": SYN | ACK, "fin": FIN | ACK, "ack": ACK, "rst": RST}
_CLIENT, _SERVER = End(bytes((10, 0, 0, 1)), 40000), End(bytes((10, 0, 1, 1)), 80)
_WINDOW = 65535
_FIRST = (1000, 5000)  # initial sequence numbers of both ends
_EXPERIMENTAL = 253  # an IP protocol that no tracker knows (RFC 3692)

# Shortest ways into each TCP state: kinds of segments, capitals from the end that answers.
_WAYS: Mapping[str, tuple[str, ...]] = {
    "NONE": (),
    "SYN_SENT": ("syn",),
    "SYN_SENT2": ("syn", "SYN", "SYN"),  # the first one starts no timer: nothing had been heard from that end before
    "SYN_RECV": ("syn", "SYNACK"),
    "ESTABLISHED": ("syn", "SYNACK", "ack"),
    "FIN_WAIT": ("syn", "SYNACK", "ack", "fin"),
    "CLOSE_WAIT": ("syn", "SYNACK", "ack", "fin", "ACK"),
    "LAST_ACK": ("syn", "SYNACK", "ack", "fin", "ACK", "FIN"),
    "TIME_WAIT": ("syn", "SYNACK", "ack", "fin", "ACK", "FIN", "ack"),
    "CLOSE": ("syn", "SYNACK", "ack", "rst"),
}


def run(case: Case, path: Path) -> list[str]:
    """Run one case of these kinds; one line for each difference, none if it passed."""
    return list(_RUNNERS[case["kind"]](case))


def _state(tracker: Tracker) -> str:
    entry = tracker.entry()
    return entry["state"] if entry else "NONE"


# ---- sequences of packets


def _options(packet: Case) -> dict[str, Any]:
    options = packet.get("options", {})
    return {
        "mss": options.get("mss"),
        "wscale": options.get("wscale"),
        "sack_permitted": bool(options.get("sackOK")),
        "timestamp": tuple(options["ts"]) if "ts" in options else None,
        "sack": tuple((left, right) for left, right in options.get("sack", ())),
    }


def _segment(packet: Case, source: End, destination: End) -> Segment:
    flags = 0
    for letter in packet["flags"]:
        if letter not in FLAGS:
            raise InputError(f"flags {packet['flags']!r}: {letter!r} is none of {''.join(FLAGS)}")
        flags |= FLAGS[letter]
    seq, ack = packet["seq"] % 2**32, packet.get("ack", 0) % 2**32
    return Segment(source.port, destination.port, seq, ack, flags, packet["win"], payload=bytes(packet["len"]), **_options(packet))


def _ctstate_fits(ctstate: str, expected: str) -> bool:
    return ctstate != "INVALID" if expected == "not INVALID" else ctstate == expected


def _entry_facts(tracker: Tracker) -> dict[str, Any]:
    entry = tracker.entry()
    if entry is None:
        return {"state": "NONE", "assured": False, "replied": False}
    return {"state": entry["state"], "assured": entry["assured"], "replied": entry["seen_reply"]}


class _Awaited:
    """What a source looks up in the table it looks up some time after the packet: it must come true before the next such look."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._since = 0
        self._seen: dict[str, Any] = {}

    def expect(self, number: int, expect: Case) -> Iterator[str]:
        facts = {name: expect[name] for name in ("state", "assured", "replied") if name in expect}
        if facts:
            yield from self.failures()
            self._facts, self._since = facts, number

    def look(self, tracker: Tracker) -> None:
        facts = _entry_facts(tracker)
        self._seen = {name: facts[name] for name in self._facts}
        if self._seen == self._facts:
            self._facts = {}

    def failures(self) -> Iterator[str]:
        for name, wanted in self._facts.items():
            if self._seen[name] != wanted:
                yield f"packet {self._since}: expected {name} {wanted}, got {self._seen[name]}"


def _tracked_ends(endpoints: Case) -> tuple[tuple[End, End], int]:
    """The ends, the originator first, and which of them is local: there the source has its tracker."""
    local, remote = (End(ip_address(endpoints[side]).packed, endpoints[f"{side}_port"]) for side in ("local", "remote"))
    return ((local, remote), 0) if endpoints["originator"] == "local" else ((remote, local), 1)


def _run_sequence(case: Case) -> Iterator[str]:
    ends, local = _tracked_ends(case["endpoints"])
    tracker = Tracker(ends, local=local, settings=case.get("settings"))
    awaited = _Awaited()
    invalid = {"from_local": 0, "from_remote": 0}
    for number, packet in enumerate(case["packets"], 1):
        expect, side = packet["expect"], _SIDES[packet["dir"]]
        yield from awaited.expect(number, expect)
        ctstate = tracker.send_segment(side, _segment(packet, ends[side], ends[1 - side]), round(packet["t"] * SECOND))
        invalid["from_local" if side == local else "from_remote"] += ctstate == "INVALID"
        if "ctstate" in expect and not _ctstate_fits(ctstate, expect["ctstate"]):
            yield f"packet {number}: expected ctstate {expect['ctstate']}, got {ctstate}"
        awaited.look(tracker)
    yield from awaited.failures()
    for name, count in case.get("invalid_counts", {}).items():
        if count is not None and invalid[name] != count:
            yield f"invalid packets {name}: expected {count}, got {invalid[name]}"


# ---- walks and tables of TCP states


class _Walk:
    """Segments known by their flags alone; sequence numbers follow so that each is in window. A SYN bears the first one, each time."""

    def __init__(self) -> None:
        self.tracker = Tracker((_CLIENT, _SERVER))
        self._next = list(_FIRST)

    def send(self, side: int, kind: str, time: int, payload: bytes = b"") -> str:
        """The verdict: ACCEPT, IGNORE (it passed, and the entry's state and timeout are as before) or INVALID."""
        self.tracker.advance(time)
        before = self._state_and_timeout()
        flags = _KINDS[kind]
        seq = _FIRST[side] if flags & SYN else self._next[side]
        ack = self._next[1 - side] if flags & ACK else 0
        source, destination = self.tracker.ends[side], self.tracker.ends[1 - side]
        segment = Segment(source.port, destination.port, seq, ack, flags, _WINDOW, payload=payload)
        if self.tracker.send_segment(side, segment, time) == "INVALID":
            return "INVALID"
        if before is not None and self._state_and_timeout() == before:
            return "IGNORE"
        self._next[side] = seq + segment.length  # what is ignored uses up no sequence number
        return "ACCEPT"

    def _state_and_timeout(self) -> tuple[str, int] | None:
        entry = self.tracker.entry()
        return (entry["state"], entry["timeout"]) if entry else None

    def reach(self, state: str) -> int:
        """Bring the connection into ``state``; the time (ns) at which it is there."""
        time = 0
        for kind in _WAYS[state]:
            time += SECOND // 10
            self.send(int(kind.isupper()), kind.lower(), time)
        return time


def _fits_verdict(got: str, expected: str) -> bool:
    """A segment that the tracker takes may leave the entry as it is, too: a repeated SYN starts no timer again."""
    return got in {"ACCEPT": ("ACCEPT", "IGNORE"), "DROP": ("INVALID",)}.get(expected, (expected,))


def _run_walk(case: Case) -> Iterator[str]:
    walk = _Walk()
    for number, step in enumerate(case["steps"], 1):
        got = walk.send(_SIDES[step["dir"]], step["flags"], round(step["t"] * SECOND))
        if not _fits_verdict(got, step["result"]):
            yield f"step {number} ({step['dir']} {step['flags']}): expected {step['result']}, got {got}"
        state = _state(walk.tracker)
        if state != (step["state"] or "NONE"):
            yield f"step {number} ({step['dir']} {step['flags']}): expected state {step['state']}, got {state}"


def _table_result(row: Case) -> str:
    """INVALID, IGNORE or the state after the row's packet."""
    if row["state"] == "NONE" and row["dir"] == "reply":
        return "INVALID"  # no packet is a reply where there is no connection: the cell is never looked up
    walk = _Walk()
    time = walk.reach(row["state"])
    if _state(walk.tracker) != row["state"]:
        return f"{_state(walk.tracker)} on the way to {row['state']}"
    verdict = walk.send(_SIDES[row["dir"]], row["flags"], time + SECOND // 10)
    if verdict in ("INVALID", row["result"]):
        return verdict
    if row["flags"] == "rst" and walk.tracker.entry() is None:
        return "CLOSE"  # of a connection without an answer the entry goes at once
    return _state(walk.tracker)


def _run_table(case: Case) -> Iterator[str]:
    for row in case["rows"]:
        got = _table_result(row)
        if got != row["result"]:
            yield f"{row['dir']} {row['flags']} in {row['state']}: expected {row['result']}, got {got}"


# ---- timeouts


def _timeout(tracker: Tracker) -> float:
    """Seconds that the entry has left; 0 without one."""
    entry = tracker.entry()
    return entry["timeout"] / SECOND if entry else 0


def _tcp_timeout(name: str) -> float:
    walk = _Walk()
    if name == "max_retrans":
        return _retransmitted()[1]
    if name == "unacknowledged":
        walk.send(0, "ack", walk.reach("ESTABLISHED"), b"data")
    else:
        walk.reach(name)
    return _timeout(walk.tracker)


def _retransmitted() -> tuple[int, float]:
    """How often the same data is sent again until the timeout falls, and to how many seconds."""
    tracker = Tracker((_CLIENT, _SERVER), settings={"tcp_timeout_unacknowledged": 10**6})  # else unanswered data hides the fall
    handshake = ((0, SYN, 1000, 0), (1, SYN | ACK, 5000, 1001), (0, ACK, 1001, 5001))
    for side, flags, seq, ack in handshake:
        tracker.send_segment(side, Segment(tracker.ends[side].port, tracker.ends[1 - side].port, seq, ack, flags, _WINDOW), 0)
    data = Segment(_CLIENT.port, _SERVER.port, 1001, 5001, ACK, _WINDOW, payload=b"data")
    tracker.send_segment(0, data, 0)
    first = _timeout(tracker)
    for again in range(1, 100):
        tracker.send_segment(0, data, 0)
        if _timeout(tracker) != first:
            return again, _timeout(tracker)
    return 0, first


def _udp_timeout(name: str) -> float:
    """A flow is a stream when packets still go both ways two seconds after its first reply."""
    tracker = Tracker((_CLIENT, _SERVER))
    sides = {"unreplied": (0,), "replied": (0, 1, 0)}[name]
    for number, side in enumerate(sides):
        (source, sport), (destination, dport) = tracker.ends[side], tracker.ends[1 - side]
        tracker.send(side, PROTO_UDP, udp_datagram(source, destination, sport, dport, b""), number * 3 * SECOND)
    return _timeout(tracker)


def _other_timeout(name: str) -> float:
    tracker = Tracker((_CLIENT, _SERVER))
    if name == "icmp":
        tracker.send(0, 1, echo_request(_CLIENT.address, _SERVER.address, 1, 1, b""), 0)
    else:
        tracker.send(0, _EXPERIMENTAL, b"", 0)
    return _timeout(tracker)


def _run_timeouts(case: Case) -> Iterator[str]:
    ways: dict[str, Callable[[str], float]] = {"tcp": _tcp_timeout, "udp": _udp_timeout}
    for proto, wanted in case["seconds"].items():
        rows = wanted if isinstance(wanted, Mapping) else {proto: wanted}
        for name, seconds in rows.items():
            got = ways.get(proto, _other_timeout)(name)
            if got != seconds:
                yield f"timeout {proto} {name}: expected {seconds} s, got {got:g} s"
    if "max_retrans_count" in case and _retransmitted()[0] != case["max_retrans_count"]:
        yield f"max_retrans_count: expected {case['max_retrans_count']}, got {_retransmitted()[0]}"


# ---- entries that kube-proxy deletes


def _listed_entry(entry: Case) -> dict[str, Any]:
    """An entry written as pins are: ``proto``, ``original`` and ``reply`` as ip:port>ip:port."""
    proto = next((number for number, name in PROTOCOL_NAMES.items() if name == str(entry["proto"]).lower()), None)
    if proto is None:
        raise InputError(f"entry: unknown protocol {entry['proto']!r}: known are {', '.join(PROTOCOL_NAMES.values())}")
    halves = [dict(zip(("src", "sport", "dst", "dport"), pin_tuple(entry[name]), strict=True)) for name in ("original", "reply")]
    return {"proto": proto, "orig": halves[0], "reply": halves[1]}


def _run_cleanup(case: Case) -> Iterator[str]:
    """``objects`` are manifests, ``entries`` say by ``deleted`` whether kube-proxy deletes them."""
    manifests = load_objects(case["objects"], case["name"])
    ports = [port for family in (4, 6) for port in service_ports(manifests, "", family)]
    listed: Sequence[Case] = case["entries"]
    for shown in listed:
        deleted = bool(stale_entries([_listed_entry(shown)], ports))
        if deleted != shown["deleted"]:
            said = {True: "deleted", False: "kept"}
            yield f"entry {shown['original']}: expected {said[shown['deleted']]}, got {said[deleted]}"


_RUNNERS: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "packet_sequence": _run_sequence,
    "state_walk": _run_walk,
    "state_table": _run_table,
    "timeout_table": _run_timeouts,
    "cleanup": _run_cleanup,
}
