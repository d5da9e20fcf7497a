"""The benchmark's document as a table for people, or as Markdown for documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataplane.bench.compare import Change
from dataplane.bench.run import Document
from dataplane.report.tables import NONE, layout

COLUMNS = ("ROW", "SIZE", "MIN", "MEDIAN", "UNIT", "INSTRUCTIONS", "B/ENTRY", "GOAL")
_SUFFIXES = ((1_000_000, "m"), (1000, "k"))


def short(number: int) -> str:
    """1000000 as 1m."""
    for unit, suffix in _SUFFIXES:
        if number >= unit and number % unit == 0:
            return f"{number // unit}{suffix}"
    return f"{number:,}"


def value(number: float | None) -> str:
    """Three digits, or as many as there are before the point."""
    if number is None:
        return NONE
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def lines(document: Document) -> list[tuple[str, ...]]:
    """Cells of each point of each row, without a heading."""
    found: list[tuple[str, ...]] = []
    for row in document["rows"]:
        if row["wrong"]:
            found.append((row["name"], NONE, "wrong", "", row["unit"], "", "", row["goal"]))
        for point in row["points"]:
            found.append(
                (row["name"], f"{short(point['size'])} {row['size_is']}", value(point["least"]), value(point["median"]), row["unit"],
                 value(point["instructions"]), value(point["bytes_per_entry"]), row["goal"])
            )  # fmt: skip
    return found


def growth_lines(document: Document) -> list[str]:
    """How much the points of a curve differ."""
    return [
        f"{row['name']}: the dearest size costs {row['growth']:.2f} times the cheapest (goal: at most {row['growth_goal']:g})"
        for row in document["rows"]
        if "growth" in row
    ]


def table(document: Document) -> str:
    """For a terminal: rows, growth, shares, what was wrong, and peers."""
    parts = [layout([COLUMNS, *lines(document)])]
    notes = growth_lines(document) + _detail_lines(document)
    notes += [f"wrong: {row['name']}: {row['wrong']}" for row in document["rows"] if row["wrong"]]
    reason = document["machine"]["instruction_counter"]
    if reason != "perf_event_open":
        notes.append(f"instructions are not counted: {reason}")
    parts.append("".join(f"{note}\n" for note in notes))
    if document["peers"] or document["absent_peers"]:
        parts.append(peers_table(document))
    return "\n".join(part for part in parts if part)


def _detail_lines(document: Document) -> list[str]:
    found = []
    for row in document["rows"]:
        for point in row["points"]:
            details: dict[str, Any] = point["details"]
            if "share_of_cp" in details:
                found.append(f"{row['name']}: {details['share_of_cp']:.0%} of the byte rate of cp")
            for kind, times in details.get("kinds", {}).items():
                span = f"{times['least']:.1f} to {times['most']:.1f}, median {times['median']:.1f} {row['unit']}"
                found.append(f"{row['name']}: {kind}: {span}")
            if "times_one_thread" in details:
                together = f", {details['together']:.0%} of the packets by both" if "together" in details else ""
                found.append(f"{row['name']}: {details['times_one_thread']:.2f} times as fast as one thread{together}")
            if "peak_bytes" in details:
                found.append(f"{row['name']}: at most {details['peak_bytes'] / 2**30:.2f} GiB in memory")
            if "rules_walked" in details and len(row["points"]) == 1:
                found.append(f"{row['name']}: Linux would compare each packet with {details['rules_walked']:,.0f} rules")
            if "slow_path_only" in details:
                found.append(f"{row['name']}: {details['slow_path_only']:,.0f} B of it are the slow path's alone")
    return found


def peers_table(document: Document) -> str:
    """Peers beside the rows they compare with. RATIO: how many times our time they take."""
    cells: list[tuple[str, ...]] = [("PEER", "WORK", "MIN", "UNIT", "OUR ROW", "OURS", "RATIO")]
    cells += [_peer_line(document, peer) for peer in document["peers"]]
    text = layout(cells) if document["peers"] else ""
    return text + "".join(f"not here: {absent['name']}: {absent['why']}\n" for absent in document["absent_peers"])


def _peer_line(document: Document, peer: dict[str, Any]) -> tuple[str, ...]:
    ours = _row_value(document, peer["row"])
    ratio = f"{peer['least'] / ours:.2f}" if ours else NONE
    return peer["name"], peer["what"], value(peer["least"]), peer["unit"], peer["row"], value(ours), ratio


def _row_value(document: Document, name: str) -> float | None:
    for row in document["rows"]:
        if row["name"] == name and row["points"]:
            return float(row["points"][-1]["least"])
    return None


def markdown(document: Document) -> str:
    """The table and its notes for a document, with the machine."""
    machine, build = document["machine"], document["build"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    head = f"{machine['cpu']} ({machine['cpus']} processors; {caches}), {machine['kernel']}; {build['compiler']} `{build['flags']}`\n"
    text = head + "\n" + _markdown_table(("row", "size", "min", "median", "unit", "instructions", "B/entry", "goal"), lines(document))
    notes = growth_lines(document) + _detail_lines(document)
    text += "\n" + "".join(f"* {note}\n" for note in notes)
    if document["peers"]:
        cells = [_peer_line(document, peer) for peer in document["peers"]]
        text += "\n" + _markdown_table(("peer", "work", "min", "unit", "our row", "ours", "ratio"), cells)
    return text.replace(NONE, "")


def _markdown_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *cells]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def comparison(found: Sequence[Change], tolerance: float) -> str:
    """Ratio of each row to an earlier run."""
    if not found:
        return "no row is in both\n"
    cells = [("ROW", "SIZE", "BEFORE", "NOW", "UNIT", "RATIO", "VERDICT")]
    for each in found:
        verdict = "slower" if each.ratio > tolerance else "faster" if each.ratio < 1 / tolerance else "same"
        cells.append((each.name, short(each.size), value(each.before), value(each.now), each.unit, f"{each.ratio:.2f}", verdict))
    return layout(cells)
