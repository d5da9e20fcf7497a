"""Listings and their output formats, with kubectl's layout: aligned columns, JSON and YAML lists, bare names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE = "<none>"  # there is no such thing
UNKNOWN = "<unknown>"  # there may be one, but the manifests as read do not tell
_PADDING = 3
_NARROWEST = 6  # of a column, padding included (kubernetes, cli-runtime, pkg/printers/tabwriter.go)


@dataclass(frozen=True, slots=True)
class Row:
    """One listed thing. ``cells`` go with the listing's columns, ``wide`` with those that only ``-o wide`` shows."""

    name: str
    cells: tuple[str, ...]
    wide: tuple[str, ...]
    data: Mapping[str, Any]  # for JSON and YAML


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of one kind, in order; ``kind`` in the singular, as ``-o name`` writes it before each name."""

    kind: str
    columns: tuple[str, ...]
    wide_columns: tuple[str, ...]
    rows: Sequence[Row]


def render(listing: Listing, output: str, *, single: bool = False) -> str:
    """The listing as text that ends with a line feed, or "" where there is nothing to print.

    ``output`` is one of table, wide, json, yaml and name. ``single``: one thing was asked for by name, and JSON and YAML
    show it alone rather than in a ``List``.
    """
    if output == "name":
        return "".join(f"{listing.kind}/{row.name}\n" for row in listing.rows)
    if output in ("json", "yaml"):
        return _structured(listing, output, single)
    if not listing.rows:
        return ""
    wide = output == "wide"
    lines = [listing.columns + (listing.wide_columns if wide else ())]
    lines += [row.cells + (row.wide if wide else ()) for row in listing.rows]
    return layout(lines)


def layout(lines: Sequence[Sequence[str]]) -> str:
    """Cells in aligned columns; nothing follows the last cell of a line."""
    widths = [max(_NARROWEST, _PADDING + max(map(len, column))) for column in zip(*lines, strict=True)]
    padded = ("".join(map(str.ljust, line[:-1], widths)) + line[-1] for line in lines)
    return "".join(f"{line}\n" for line in padded)


def _structured(listing: Listing, output: str, single: bool) -> str:
    items = [row.data for row in listing.rows]
    content = items[0] if single and len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
    if output == "json":
        return json.dumps(content, indent=4, sort_keys=True) + "\n"
    import yaml  # only this format pays for it

    return str(yaml.safe_dump(content, sort_keys=True, allow_unicode=True))
