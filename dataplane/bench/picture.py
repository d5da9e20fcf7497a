"""The benchmark's document as one picture: the table as bars with the goals' numbers in it, and the growth curves.

Drawn by matplotlib (extra ``plots``).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from dataplane.bench.run import Document
from dataplane.bench.text import short, value
from dataplane.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_INCHES, _WIDTH_INCHES, _CURVE_INCHES = 0.28, 12.0, 3.2
_CURVES_ABREAST = 2
_OURS, _PEER, _GRID = "#2b6cb0", "#b7791f", "#cbd5e0"


def require_matplotlib() -> None:
    """Raises InputError if there is none."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--picture needs the package matplotlib: pip install 'podplane[plots]'")


def draw(document: Document, path: str) -> None:
    """Write the picture; the file's ending decides its format. Raises InputError for a format that matplotlib does not write."""
    from matplotlib.figure import Figure

    bars = _bars(document)
    curves = [row for row in document["rows"] if "growth" in row]
    heights = [_ROW_INCHES * len(bars) + 0.9] * bool(bars) + [_CURVE_INCHES * -(-len(curves) // _CURVES_ABREAST)] * bool(curves)
    if not heights:
        raise InputError("nothing to draw: no row has a number in nanoseconds")
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.8), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat)
    if bars:
        _draw_bars(parts[0].subplots(), bars)
    if curves:
        grid = parts[-1].subplots(-(-len(curves) // _CURVES_ABREAST), _CURVES_ABREAST, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        for axes, row in zip(grid.flat, curves, strict=False):
            _draw_curve(axes, row)
    machine = document["machine"]
    figure.suptitle(f"dataplane {document['versions']['dataplane']} on {machine['cpu']}, {machine['kernel']}", fontsize=10)
    try:
        figure.savefig(path, dpi=130)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _bars(document: Document) -> list[tuple[str, float, str, str]]:
    """Label, nanoseconds, text and colour of each row and peer that is measured in nanoseconds, rows before their peers."""
    bars = []
    for row in document["rows"]:
        if "growth" in row or not row["points"] or not row["unit"].startswith("ns/"):
            continue
        least = row["points"][-1]["least"]
        goal = f"   goal {row['goal']}" if row["goal"] else ""
        bars.append((row["name"], least, f"{value(least)}{goal}", _OURS))
        bars += [
            (f"{peer['name']}: {peer['what']}", peer["least"], f"{value(peer['least'])}   {value(peer['least'] / least)} times ours", _PEER)
            for peer in document["peers"]
            if peer["row"] == row["name"] and least
        ]
    return bars


def _draw_bars(axes: Axes, bars: list[tuple[str, float, str, str]]) -> None:
    places = range(len(bars))
    axes.barh(places, [each[1] for each in bars], color=[each[3] for each in bars], height=0.7)
    axes.set_yticks(places, [each[0] for each in bars], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("ns for each packet, lookup or connection: the fastest pass (logarithmic)", fontsize=8)
    for place, (_, nanoseconds, text, _) in zip(places, bars, strict=True):
        axes.annotate(text, (nanoseconds, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    least, most = min(each[1] for each in bars), max(each[1] for each in bars)
    axes.set_xlim(least / 1.5, most * (most / least) ** 0.35 * 3)  # with room for the longest text
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, row: dict[str, Any]) -> None:
    sizes = [point["size"] for point in row["points"]]
    axes.plot(sizes, [point["least"] for point in row["points"]], marker="o", color=_OURS, label="fastest pass")
    axes.plot(sizes, [point["median"] for point in row["points"]], marker=".", color=_OURS, alpha=0.4, linestyle=":", label="median")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [short(size) for size in sizes], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(row["size_is"], fontsize=8)
    axes.set_ylabel(row["unit"], fontsize=8)
    axes.set_title(f"{row['name']}: {row['growth']:.2f} times from cheapest to dearest, goal {row['goal']}", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
