"""Kind ``frames``: every frame on every interface and every conntrack entry, step by step, as a kernel was seen to make them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dataplane.capture.atomic import AtomicFile
from dataplane.capture.compare import differences
from dataplane.capture.dissect import summary
from dataplane.testing import conntrack_lines
from dataplane.testing.alignment import align
from dataplane.testing.playback import Played, play

Record = Mapping[str, Any]
Place = tuple[str, str, str]
"""Namespace, interface, direction."""

SILENCED = "NETFILTER_DROP"  # may be the recorder's rule that keeps end systems silent, which is no drop of the case
UNSPECIFIED = "NOT_SPECIFIED"  # the kernel frees packets that it has dealt with under this name too

ETHERNET_LENGTH = 14
UDP = 17


def by_place(frames: Sequence[Record]) -> dict[Place, list[Record]]:
    places: dict[Place, list[Record]] = {}
    for frame in frames:
        places.setdefault((frame["ns"], frame["iface"], frame["dir"]), []).append(frame)
    return places


def frame_differences(expected: Record, got: Record) -> list[str]:
    mask = [(offset, length) for offset, length in expected.get("mask", ())]
    return differences(bytes.fromhex(expected["hex"]), bytes.fromhex(got["hex"]), mask)


def compare_place(place: Place, expected: Sequence[Record], got: Sequence[Record]) -> Iterator[str]:
    """What differs among the frames seen in one direction on one interface."""
    where = f"{place[0]}/{place[1]} {place[2]}"
    found = cache(lambda row, column: frame_differences(expected[row], got[column]))
    for row, column in align(len(expected), len(got), lambda row, column: not found(row, column)):
        if row is None and column is not None:
            yield f"{where} frame {column + 1} not expected: {summary(bytes.fromhex(got[column]['hex']))}"
        elif row is not None and column is None:
            yield f"{where} frame {row + 1} missing: {expected[row]['summary']}"
        elif row is not None and column is not None:
            yield from (f"{where} frame {row + 1}: {difference}" for difference in found(row, column))


def udp_source_port_offset(frame: bytes) -> int | None:
    """Where the source port of an unfragmented UDP frame stands; None for other frames."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00" and len(frame) > ETHERNET_LENGTH + 9 and frame[ETHERNET_LENGTH + 9] == UDP:
        return ETHERNET_LENGTH + (frame[ETHERNET_LENGTH] & 0xF) * 4
    if ethertype == b"\x86\xdd" and len(frame) > ETHERNET_LENGTH + 6 and frame[ETHERNET_LENGTH + 6] == UDP:
        return ETHERNET_LENGTH + 40
    return None


def is_free(frame: Record, offset: int, length: int) -> bool:
    """Whether the case leaves all of these bytes open."""
    free = {at for start, count in frame.get("mask", ()) for at in range(start, start + count)}
    return free.issuperset(range(offset, offset + length))


def free_ports(expected: Sequence[Record], got: Sequence[Record]) -> dict[str, set[int]]:
    """By namespace: the source ports that ``got`` has where ``expected`` masks them."""
    ports: dict[str, set[int]] = {}
    answers = by_place(got)
    for place, wanted in by_place(expected).items():
        for want, have in zip(wanted, answers.get(place, ()), strict=False):
            data = bytes.fromhex(have["hex"])
            offset = udp_source_port_offset(data)
            if offset is not None and is_free(want, offset, 2):
                ports.setdefault(place[0], set()).add(int.from_bytes(data[offset : offset + 2], "big"))
    return ports


def compare_sending(expected: Record, got: Record) -> Iterator[str]:
    if "send_error" in expected and "send_error" not in got:
        yield f"frame was accepted, should be refused: {expected['send_error']}"
    if "send_error" in got and "send_error" not in expected:
        yield f"frame was {got['send_error']}"


def compare_drops(expected: Record, got: Record) -> Iterator[str]:
    """Kernel and emulator name drops differently; what the kernel dropped must not vanish without a reason here."""
    named = [drop for drop in expected["drops"] if not drop.startswith((SILENCED, UNSPECIFIED))]
    if named and not got["drops"]:
        yield f"no drop, but the kernel had {', '.join(named)}"


def compare_steps(expected: Sequence[Record], got: Sequence[Record]) -> Iterator[str]:
    ports: dict[str, set[int]] = {}
    for number, (want, have) in enumerate(zip(expected, got, strict=True), start=1):
        step = f"step {number} ({want['inject'].get('note', '')})"
        for namespace, drawn in free_ports(want["frames"], have["frames"]).items():
            ports.setdefault(namespace, set()).update(drawn)
        wanted, seen = by_place(want["frames"]), by_place(have["frames"])
        for place in [*wanted, *(place for place in seen if place not in wanted)]:
            yield from (f"{step}: {line}" for line in compare_place(place, wanted.get(place, ()), seen.get(place, ())))
        for node, lines in want["conntrack"].items():
            found = conntrack_lines.differences(lines, have["conntrack"].get(node, ()), frozenset(ports.get(node, ())))
            yield from (f"{step}: conntrack of {node}: {line}" for line in found)
        yield from (f"{step}: {line}" for line in [*compare_sending(want, have), *compare_drops(want, have)])


def compare(case: Record, played: Played) -> list[str]:
    failures = list(compare_steps(case["steps"], played.steps))
    failures += [f"pin: {failure}" for failure in played.pin_failures]
    if played.unaccounted:
        failures.append(f"{played.unaccounted} frames more came in or were made than left, were dropped with a reason or consumed")
    return failures


def run(case: Record, path: Path) -> list[str]:
    """Play the case and say what differs; nothing if it is as recorded."""
    return compare(case, play(case, path))


def run_and_emit(case: Record, path: Path, target: Path) -> list[str]:
    """As ``run``; what was produced is written to ``target`` in the shape of the case."""
    played = play(case, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    output = AtomicFile(target)
    output.write(json.dumps({**case, "steps": played.steps}, indent=1).encode() + b"\n")
    output.commit()
    return compare(case, played)
