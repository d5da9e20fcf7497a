"""Runs of the oracle as case files (kind ``frames``): played twice, what is random by design masked, what differs otherwise refused."""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from dataplane.capture.dissect import summary

from .masks import Sent, Span, random_fields, source_port_at
from .oracle import QUIET, QUIET_RESOLVING, Oracle, Outcome, without_ids
from .rules import Pin, end_text
from .taps import DropTrace, Seen
from .topology import Topology

Case = dict[str, Any]
ATTEMPTS = 8  # recordings of one sequence before the kernel counts as not agreeing with itself
# Seconds between frames: no multiple of it is within a jiffy (4 ms) of the times at which the kernel sends its next ICMP redirect
# (20 ms times a power of two after the last, net/ipv4/route.c ip_rt_send_redirect), so that no recording hangs on a millisecond.
BEAT = 0.024
SETUP_QUIET = 0.05  # seconds until multicast listener reports that a command led to (proxied neighbours) are over
IN_TIME = 60  # milliseconds after which a node may ask for an address a third time (2 x retrans_time_ms, and jiffies on top)


class Flaky(Exception):
    """Two runs of the same frames differ in something that is not random by design."""

    def __init__(self, message: str, steps: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass(frozen=True)
class Step:
    """A frame to inject, and commands to run before it as (namespace, command)."""

    ns: str
    iface: str
    frame: bytes
    note: str
    setup: tuple[tuple[str, str], ...] = ()
    quiet: float | None = None  # seconds without a frame after which it is over; None: as long as nodes usually take


@dataclass
class Run:
    """Steps and what each led to."""

    steps: list[Step] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ended: float = 0.0

    def gaps(self) -> list[float]:
        """Seconds from each step's frame to the next one's."""
        return [later - start for start, later in pairwise([*(outcome.started for outcome in self.outcomes), self.ended])]

    def settle_ms(self, index: int) -> int:
        return max(1, round(self.gaps()[index] * 1000))


NextStep = Callable[[Sequence[Seen]], Step | None]


def play(topology: Topology, trace: DropTrace, next_step: NextStep) -> Run:
    """A fresh cluster, and steps until ``next_step``, given what the last one led to, has no more."""
    run = Run()
    frames: list[Seen] = []
    with Oracle(topology, trace) as oracle:
        while (step := next_step(frames)) is not None:
            _wait_for_beat(run)
            _collect_late(oracle, run)
            _play_step(oracle, run, step)
            frames = run.outcomes[-1].frames
        _wait_for_beat(run)
        _collect_late(oracle, run)
        run.ended = time.monotonic()
    return run


def replay(
    topology: Topology, trace: DropTrace, steps: Sequence[Step], gaps: Sequence[float], pins: Sequence[Pin], *, only_pinned: bool = False
) -> Run:
    """The same frames again on a fresh cluster, the same choices made, ``gaps[i]`` seconds between frame i and the next."""
    run = Run()
    with Oracle(topology, trace, pins, only_pinned) as oracle:
        for step, due in zip(steps, accumulate(gaps), strict=True):
            _play_step(oracle, run, step)
            time.sleep(max(0.0, run.outcomes[0].started + due - time.monotonic()))
            _collect_late(oracle, run)
        run.ended = time.monotonic()
    return run


def _wait_for_beat(run: Run) -> None:
    """Frames leave on a grid of ``BEAT``, later beats where a step took longer."""
    if run.outcomes:
        late = time.monotonic() - run.outcomes[0].started
        time.sleep(-late % BEAT)


def _collect_late(oracle: Oracle, run: Run) -> None:
    """What timers led to since a step counted as over is part of it."""
    if run.outcomes:
        run.outcomes[-1].frames += oracle.drain(0.0)


def _play_step(oracle: Oracle, run: Run, step: Step) -> None:
    for label, command in step.setup:
        oracle.command(label, command)
    if step.setup:
        oracle.drain(SETUP_QUIET)
    run.steps.append(step)
    run.outcomes.append(oracle.inject(step.ns, step.iface, step.frame, step.quiet))


# ---- choices
def pins_of(run: Run) -> list[Pin]:
    """Mappings of all translated TCP and UDP flows, in the order in which their entries came up."""
    pins, known = [], set()
    for outcome in run.outcomes:
        for node, lines in outcome.conntrack.items():
            for line in (line for line in lines if (node, line[line.rfind("id=") :]) not in known):
                known.add((node, line[line.rfind("id=") :]))
                pin = _pin(node, line)
                if pin is not None:
                    pins.append(pin)
    return pins


def _pin(node: str, line: str) -> Pin | None:
    found = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", line)
    proto = line.split()[0]
    if len(found) != 2 or proto not in ("tcp", "udp"):
        return None
    original, reply = ((s, int(sp), d, int(dp)) for s, d, sp, dp in found)
    return Pin(node, proto, original, reply) if original != (reply[2], reply[3], reply[0], reply[1]) else None


def _tuple_text(value: tuple[str, int, str, int]) -> str:
    return f"{end_text(*value[:2])}>{end_text(*value[2:])}"


# ---- what may differ
def mask_of(first: Seen, second: Seen, sent: Sent) -> list[Span]:
    """The mask of one frame. Raises Flaky where the two runs differ outside of it."""
    if len(first.data) != len(second.data):
        raise Flaky(f"{first.place}: frames of {len(first.data)} and {len(second.data)} bytes")
    spans = random_fields(first.data, second.data, sent)
    free = {o for start, length in spans for o in range(start, start + length)}
    wrong = [o for o, (x, y) in enumerate(zip(first.data, second.data, strict=True)) if x != y and o not in free]
    if wrong:
        raise Flaky(f"{first.place}: frames differ at {wrong[:8]}: {first.data.hex()} {second.data.hex()}")
    return spans


def by_place(frames: Sequence[Seen]) -> dict[tuple[str, str, str], list[Seen]]:
    places: dict[tuple[str, str, str], list[Seen]] = {}
    for seen in frames:
        places.setdefault(seen.place, []).append(seen)
    return places


def masks(first: Outcome, second: Outcome, sent: Sent) -> dict[int, list[Span]]:
    """Masks by ``id`` of the first run's frames. Raises Flaky."""
    if second.unpinned:
        raise Flaky("a choice that no conntrack entry shows")
    if first.error != second.error:
        raise Flaky(f"sending: {first.error} and {second.error}")
    one, two = by_place(first.frames), by_place(second.frames)
    if {p: len(f) for p, f in one.items()} != {p: len(f) for p, f in two.items()}:
        raise Flaky(f"frames seen: { {p: len(f) for p, f in one.items()} } and { {p: len(f) for p, f in two.items()} }")
    return {id(a): mask_of(a, b, sent) for place, frames in one.items() for a, b in zip(frames, two[place], strict=True)}


class TunnelPorts:
    """Source ports of tunnel frames that nodes made: free in conntrack tables."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.known: set[int] = set()

    def note(self, frames: Sequence[Seen], spans: Mapping[int, list[Span]]) -> None:
        for seen in frames:
            at = source_port_at(seen.data)
            if at is not None and (at, 2) in spans[id(seen)]:
                self.known.add(struct.unpack_from(">H", seen.data, at)[0])

    def star(self, line: str) -> str:
        found = re.search(r"sport=(\d+) dport=(\d+)", line)
        if not line.startswith("udp ") or found is None or int(found[2]) != self.port or int(found[1]) not in self.known:
            return line
        return re.sub(rf"sport={found[1]}\b", "sport=*", re.sub(rf"dport={found[1]}\b", "dport=*", line))

    def stars(self, tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        return {node: sorted(self.star(line) for line in lines) for node, lines in without_ids(tables).items()}


# ---- cases
def record(topology: Topology, trace: DropTrace, next_step: NextStep, head: Mapping[str, str]) -> Case:
    """Play a sequence and write down what the kernel does each time; ``head`` is the case's name, doc and cluster.

    A step in which two runs differ (a choice that no conntrack entry shows, because its packet died; a limiter on the edge) is
    left out, and the rest recorded again. Raises Flaky if that does not end.
    """
    return _agreed(topology, trace, play(topology, trace, next_step), head)


def record_again(topology: Topology, trace: DropTrace, case: Case, keep: Sequence[int]) -> Case:
    """The case with only these of its steps, its choices kept. Raises Flaky."""
    steps, gaps = steps_of(case), [step["settle_ms"] / 1000 for step in case["steps"]]
    return _agreed(topology, trace, _replay_some(topology, trace, steps, gaps, pins_in(case), keep), case)


def _agreed(topology: Topology, trace: DropTrace, run: Run, head: Mapping[str, Any]) -> Case:
    for _ in range(ATTEMPTS):
        pins = pins_of(run)
        again = replay(topology, trace, run.steps, run.gaps(), pins, only_pinned=True)
        try:
            return case_of(topology, run, again, pins, head)
        except Flaky as flaky:
            reason = flaky
            keep = [i for i, outcome in enumerate(again.outcomes) if i not in flaky.steps and not outcome.unpinned]
        if not keep:
            break
        run = _replay_some(topology, trace, run.steps, run.gaps(), pins, keep)
    raise reason


def _replay_some(
    topology: Topology, trace: DropTrace, steps: Sequence[Step], gaps: Sequence[float], pins: Sequence[Pin], keep: Sequence[int]
) -> Run:
    """Only the steps ``keep``, after the setup of the first of all."""
    chosen = [replace(steps[i], setup=steps[i].setup if i else ()) for i in keep]
    chosen[0] = replace(chosen[0], setup=steps[0].setup)
    return replay(topology, trace, chosen, [gaps[i] for i in keep], pins)


def case_of(topology: Topology, run: Run, again: Run, pins: Sequence[Pin], head: Mapping[str, Any]) -> Case:
    """What two runs agree on. Raises Flaky, with the numbers of the steps in which they do not."""
    late = [i for i, step in enumerate(run.steps) if step.quiet == QUIET and run.settle_ms(i) > IN_TIME]
    if late:
        raise Flaky(f"steps {late}: what should have come while a node resolves an address came too late", late)
    ports, sent = TunnelPorts(topology.vxlan_port), Sent(topology.vxlan_port)
    steps = []
    for index, (step, one, two) in enumerate(zip(run.steps, run.outcomes, again.outcomes, strict=True)):
        sent.note(step.frame)
        try:
            spans = masks(one, two, sent)
            ports.note(one.frames, spans)
            tables = ports.stars(one.conntrack)
            if tables != ports.stars(two.conntrack):
                raise Flaky(f"conntrack: {tables} and {ports.stars(two.conntrack)}")
        except Flaky as flaky:
            raise Flaky(f"step {index} ({step.note}): {flaky}", [index]) from None
        steps.append(_step_of(step, one, spans, tables, run.settle_ms(index)))
    setup = steps[0].pop("setup", [])
    return {
        "name": head["name"],
        "suite": "kernel",
        "kind": "frames",
        "doc": head["doc"],
        "source": {
            "recorded_from": f"{platform.system()} {platform.release().partition('-')[0]}",
            "iptables": "nft",
            "expectation": "recorded",
        },
        "cluster": head["cluster"],
        "setup": setup,
        "pins": [{"ns": p.ns, "proto": p.proto, "original": _tuple_text(p.original), "reply": _tuple_text(p.reply)} for p in pins],
        "steps": steps,
    }


def _step_of(step: Step, outcome: Outcome, spans: Mapping[int, list[Span]], tables: Mapping[str, list[str]], settle: int) -> Case:
    frames = []
    for seen in outcome.frames:
        ns, iface, direction = seen.place
        mask = {"mask": [list(span) for span in spans[id(seen)]]} if spans[id(seen)] else {}
        frames.append({"ns": ns, "iface": iface, "dir": direction, "hex": seen.data.hex(), **mask, "summary": summary(seen.data)})
    made: Case = {
        "inject": {"ns": step.ns, "iface": step.iface, "hex": step.frame.hex(), "note": step.note},
        "settle_ms": settle,
        "frames": frames,
        "conntrack": dict(tables),
        "drops": outcome.drops,
    }
    if step.setup:
        made["setup"] = [{"ns": label, "run": command} for label, command in step.setup]
    if outcome.error is not None:
        made["send_error"] = outcome.error
    return made


def write(case: Case, path: Path) -> None:
    """One step a line, so that a difference between two recordings is readable."""
    head = {k: v for k, v in case.items() if k != "steps"}
    lines = ",\n  ".join(json.dumps(step) for step in case["steps"])
    text = json.dumps(head, indent=1)[:-2] + f',\n "steps": [\n  {lines}\n ]\n}}\n'
    partial = path.with_suffix(".tmp")
    partial.write_text(text)
    os.replace(partial, path)


# ---- somebody else's recording
def load_case(path: Path) -> Case:
    case: Case = json.loads(path.read_text())
    return case


def steps_of(case: Case) -> list[Step]:
    """The steps of a case file; its setup goes before the first."""
    made = []
    for index, step in enumerate(case["steps"]):
        setup = (case["setup"] if index == 0 else []) + step.get("setup", [])
        inject = step["inject"]
        made.append(
            Step(
                inject["ns"],
                inject["iface"],
                bytes.fromhex(inject["hex"]),
                inject.get("note", ""),
                tuple((s["ns"], s["run"]) for s in setup),
                _quiet(step["settle_ms"] / 1000),
            )
        )
    return made


def _quiet(settle: float) -> float | None:
    """How long a recorded step waited: too short for an address to be resolved, as usual, or for timers."""
    if settle < QUIET_RESOLVING:
        return QUIET
    return None if settle < 1 else settle - 0.2


def pins_in(case: Case) -> list[Pin]:
    return [Pin(p["ns"], p["proto"], _parse_tuple(p["original"]), _parse_tuple(p["reply"])) for p in case["pins"]]


def _parse_tuple(text: str) -> tuple[str, int, str, int]:
    source, target = (end.rsplit(":", 1) for end in text.split(">"))
    return source[0].strip("[]"), int(source[1]), target[0].strip("[]"), int(target[1])


def differences(case: Case, run: Run, vxlan_port: int) -> list[str]:
    """What a run of a case's frames has other than the case says."""
    wrong = []
    for index, (step, outcome) in enumerate(zip(case["steps"], run.outcomes, strict=True)):
        places: dict[tuple[str, str, str], list[Case]] = {}
        for frame in step["frames"]:
            places.setdefault((frame["ns"], frame["iface"], frame["dir"]), []).append(frame)
        seen = by_place(outcome.frames)
        for place in sorted(places.keys() | seen.keys()):
            want, got = places.get(place, []), seen.get(place, [])
            if len(want) != len(got):
                wrong.append(f"step {index} {place}: {len(want)} frames recorded, {len(got)} seen")
            for frame, there in zip(want, got, strict=False):
                if not _same(frame, there.data):
                    wrong.append(f"step {index} {place}: {frame['hex']} recorded, {there.data.hex()} seen")
        wrong += _table_differences(index, step["conntrack"], outcome.conntrack, vxlan_port)
    return wrong


def _same(frame: Case, data: bytes) -> bool:
    want = bytearray.fromhex(frame["hex"])
    got = bytearray(data)
    for start, length in frame.get("mask", []):
        want[start : start + length] = got[start : start + length] = bytes(length)
    return want == got


def _table_differences(index: int, recorded: Mapping[str, list[str]], seen: Mapping[str, list[str]], vxlan_port: int) -> list[str]:
    wrong = []
    for node, lines in recorded.items():
        want = sorted(re.sub(r" (use|mark|zone)=\d+", "", line) for line in lines)
        free = re.compile(rf"sport=\d+ dport={vxlan_port}\b(.*)sport={vxlan_port} dport=\d+")
        got = sorted(
            line if line in want else free.sub(rf"sport=* dport={vxlan_port}\1sport={vxlan_port} dport=*", line)
            for line in without_ids(seen)[node]
        )
        if want != got:
            wrong.append(f"step {index} conntrack of {node}: {want} recorded, {got} seen")
    return wrong
