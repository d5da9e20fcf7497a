"""Two documents of the benchmark against each other: which rows became slower."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dataplane.bench.run import SCHEMA, VERSION, Document
from dataplane.errors import InputError

# What every part of a document has.
_KEYS = {
    "document": ("machine", "build", "quick", "rows", "peers", "absent_peers"),
    "row": ("name", "unit", "goal", "size_is", "wrong", "points"),
    "point": ("size", "least", "median", "instructions", "bytes_per_entry", "details"),
    "peer": ("name", "what", "row", "unit", "least"),
}
TOLERANCE = 1.15  # a quiet machine repeats itself within a few percent, a shared one does not


@dataclass(frozen=True)
class Change:
    """Of one row at one size: the fastest pass then and now, in the row's unit."""

    name: str
    size: int
    unit: str
    before: float
    now: float

    @property
    def ratio(self) -> float:
        """Above 1: it became slower, or larger."""
        return self.now / self.before if self.before else 1.0 if not self.now else float("inf")


def read(path: str) -> Document:
    """A document that ``dataplane bench --json`` wrote. Raises InputError for anything else."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this is not JSON ({error}); give a file that dataplane bench --json wrote") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{path}: its schema is not {SCHEMA}; give a file that dataplane bench --json wrote")
    if document.get("version") != VERSION:
        raise InputError(f"{path}: version {document.get('version')!r} of {SCHEMA} is not {VERSION}: measure again with this release")
    for what, part in _parts(document):
        lacking = [key for key in _KEYS[what] if not isinstance(part, dict) or key not in part]
        if lacking or ("growth" in part and "growth_goal" not in part):
            raise InputError(f"{path}: a {what} without {(lacking or ['growth_goal'])[0]}; give a file that dataplane bench --json wrote")
    return document


def _parts(document: Document) -> Iterator[tuple[str, Any]]:
    """Each part after the one that holds it."""
    yield "document", document
    for row in document["rows"]:
        yield "row", row
        yield from (("point", point) for point in row["points"])
    yield from (("peer", peer) for peer in document["peers"])


def _points(document: Document) -> Iterator[tuple[tuple[str, int], str, float]]:
    for row in document["rows"]:
        for point in row["points"]:
            yield (row["name"], point["size"]), row["unit"], point["least"]


def changes(before: Document, now: Document) -> list[Change]:
    """Of every row and size that both have."""
    old = {key: least for key, _, least in _points(before)}
    return [Change(*key, unit, old[key], least) for key, unit, least in _points(now) if key in old]


def warnings(before: Document, now: Document) -> list[str]:
    """Why the two may not be comparable, one line each."""
    lines = []
    for part, key in (("machine", "cpu"), ("machine", "kernel"), ("build", "compiler"), ("build", "flags")):
        then, today = before[part][key], now[part][key]
        if then != today:
            lines.append(f"{part} differs: {key} was {then!r} and is {today!r}")
    if before["quick"] != now["quick"]:
        lines.append("one of the two was measured with --quick")
    return lines


def as_data(found: list[Change], tolerance: float) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {"name": each.name, "size": each.size, "unit": each.unit, "before": each.before, "now": each.now, "ratio": each.ratio,
         "slower": each.ratio > tolerance}
        for each in found
    ]  # fmt: skip
