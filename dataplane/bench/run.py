"""Measures chosen rows one after the other, and the document that says what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from dataplane.bench.machine import build, machine, versions
from dataplane.bench.one import run
from dataplane.bench.rows import Row
from dataplane.bench.work import Mismatch, Settings

SCHEMA, VERSION = "dataplane/bench", 1
Document = dict[str, Any]


def measure(rows: Sequence[Row], settings: Settings) -> Document:
    """The whole document: machine, build, versions and the rows. A row whose bytes were wrong says so and has no numbers."""
    found = []
    for number, row in enumerate(rows, 1):
        settings.say(f"[{number}/{len(rows)}] {row.name}: {row.what}")
        found.append(_measured(row, settings))
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "machine": machine(),
        "build": build(),
        "versions": versions(),
        "seed": settings.seed,
        "quick": settings.quick,
        "rows": found,
        "peers": [],
        "absent_peers": [],
    }


def _measured(row: Row, settings: Settings) -> Document:
    result: Document = {"name": row.name, "what": row.what, "unit": row.unit, "goal": row.goal, "size_is": row.size_is, "wrong": ""}
    points: list[Document] = []
    try:
        for size in row.chosen_sizes(settings.quick):
            measurement = run(row, size, _inside(settings))
            points.append({"size": size, **asdict(measurement)})
            settings.say(f"    {size:,} {row.size_is}: {measurement.least:,.1f} {row.unit}, median {measurement.median:,.1f}")
    except Mismatch as error:
        settings.say(f"    wrong: {error}")
        result["wrong"], points = str(error), []
    result["points"] = points
    if row.curve and points:
        result["growth"] = max(point["least"] for point in points) / min(point["least"] for point in points)
        result["growth_goal"] = row.growth
    return result


def _inside(settings: Settings) -> Settings:
    say: Callable[[str], None] = settings.say
    return replace(settings, say=lambda message: say(f"    {message}"))


def wrong_rows(document: Document) -> list[str]:
    """Names of rows that did not do what they should."""
    return [row["name"] for row in document["rows"] if row["wrong"]]
