"""A comparison as one picture: goodput by size, what fills the link, and time by stage. Drawn by matplotlib (extra ``plots``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.errors import InputError
from dataplane.explain.compare import PathReport, Report
from dataplane.explain.compare_flows import Flow
from dataplane.explain.compare_sizes import Size
from dataplane.explain.compare_time import StageTimes
from dataplane.report.compare_text import rate_text, rate_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
# Okabe and Ito's colours, which people tell apart however they see colours; black and yellow are left out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
PARTS = ("application data", "sender's headers, FCS", "added by the data path", "preamble, gap")
PART_COLOURS = ("#4D4D4D", "#8C8C8C", "#D55E00", "#D9D9D9")
HATCHES = ("", "//", "..", "xx")  # once all colours are used
GREY = "#444444"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "dataplane", "hatch.linewidth": 0.6}
STAGE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "receive, bridge, transmit": (
        *("receive", "bridge_in", "bridge_forward", "bridge_up", "bridge_port", "bridge_xmit", "bridge_push", "arp", "transmit"),
    ),
    "ip_receive": ("ip_receive",),
    "ip_route": ("ip_route",),
    "forward": ("forward",),
    "local, transport": ("local", "transport"),
    "output, fragment, neighbour": ("local_out", "output", "fragment", "neighbour", "proxied_solicitation"),
    "tunnel_out": ("tunnel_out",),
}


def check_picture(path: str) -> None:
    """Raises InputError for a file that is no picture, or where nothing can draw one."""
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"--picture {path}: write a name that ends in {' or '.join(FORMATS)}")
    if not Path(path).resolve().parent.is_dir():
        raise InputError(f"--picture {path}: there is no such folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--picture needs the package matplotlib: pip install 'podplane[plots]'")


def draw(report: Report, path: str) -> None:
    """Write the picture. The same report gives the same file. Raises InputError where no flow goes over a link."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not report.crossing:
        raise InputError("--picture: none of the flows goes over a link, so there is nothing to draw: choose another --flow")
    flow = report.crossing[0]
    timed = [path for path in report.paths if any(other == flow for other, _ in path.times)]
    mix = _mix(report, flow)
    panels = 1 + (mix is not None) + bool(timed)
    bars = 0.34 * len(report.paths) + 1.5
    style: Any = STYLE  # its keys are names that the types list one by one
    with rc_context(style):
        figure = Figure(figsize=(max(9, 6 + 0.5 * len(report.paths)), 3.4 + (panels - 1) * bars), layout="constrained")
        axes = figure.subplots(panels, 1, height_ratios=[3.4, *[bars] * (panels - 1)], squeeze=False)[:, 0]
        figure.suptitle(f"{report.cluster}: {flow.name} ({flow.protocol.upper()}, IPv{report.version})", fontsize=11)
        _goodput(axes[0], report, flow)
        if mix is not None:
            _filling(axes[1], report, flow, mix)
        if timed:
            _times(axes[-1], timed, flow)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.lower().endswith(".svg") else {"Software": None})


def _goodput(axes: Axes, report: Report, flow: Flow) -> None:
    factor, unit = rate_unit(report.wanted.rate)
    width = 0.8 / len(report.paths)
    for index, path in enumerate(report.paths):
        for place, size in enumerate(report.wanted.sizes):
            row = path.row(flow, size)
            value = row.tally.goodput(report.wanted.rate) if row is not None else None
            if row is None or value is None:
                continue
            left = place - 0.4 + (index + 0.5) * width
            axes.bar(left, value / factor, width * 0.92, **_look(index))
            text = f"{value / factor:.2f}{'*' if row.is_cut else ''}"
            axes.text(left, value / factor, f" {text}", ha="center", va="bottom", rotation=90, fontsize=7, color=GREY)
    axes.set_xticks(range(len(report.wanted.sizes)), [size.label.upper() for size in report.wanted.sizes])
    axes.set_xlabel("bytes of the sender's frame with FCS; TCP: a connection (*: sent in fragments)")
    axes.set_ylabel(f"goodput, {unit}")
    axes.set_ylim(0, report.wanted.rate / factor * 1.15)
    axes.set_title(f"Application data over a full link of {rate_text(report.wanted.rate)}", loc="left", fontsize=10)
    axes.legend(handles=_swatches(report), loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def _look(index: int) -> dict[str, Any]:
    return {
        "facecolor": COLOURS[index % len(COLOURS)],
        "hatch": HATCHES[index // len(COLOURS) % len(HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.4,
    }


def _swatches(report: Report) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(**_look(index), label=path.name) for index, path in enumerate(report.paths)]


def _mix(report: Report, flow: Flow) -> Size | None:
    """The size whose bytes are shown: IMIX, else the first that arrives under all data paths."""
    sizes = sorted((size for size in report.wanted.sizes if not size.is_tcp), key=lambda size: size.label != "imix")
    rows = {size: [path.row(flow, size) for path in report.paths] for size in sizes}
    return next((size for size in sizes if all(row is not None and row.tally.added is not None for row in rows[size])), None)


def _filling(axes: Axes, report: Report, flow: Flow, size: Size) -> None:
    """Of each packet on the sender's link: data, headers of the sender, what the data path adds, gaps between frames."""
    parts: dict[str, list[float]] = {name: [] for name in PARTS}
    for path in report.paths:
        row = path.row(flow, size)
        assert row is not None
        tally = row.tally
        ends = (0, tally.payload, tally.frame_bytes, tally.forward_bytes, tally.line_bytes)
        values = (end - start for start, end in pairwise(ends))
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value / tally.sent)
    _stacked(axes, [path.name for path in report.paths], parts, PART_COLOURS)
    axes.set_title(f"Bytes of the link for each packet, {size.label.upper()}", loc="left", fontsize=10)


def _times(axes: Axes, paths: Sequence[PathReport], flow: Flow) -> None:
    times = [next(times for other, times in path.times if other == flow) for path in paths]
    parts = {name: [_group(each, stages) for each in times] for name, stages in STAGE_GROUPS.items()}
    _stacked(axes, [path.name for path in paths], parts, COLOURS)
    axes.set_title("ns of our core for each packet by stage, measured on one machine", loc="left", fontsize=10)


def _group(times: StageTimes, stages: Sequence[str]) -> float:
    return sum(times.stages[stage][1] for stage in stages if stage in times.stages)


def _stacked(axes: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]], colours: Sequence[str]) -> None:
    """A bar for each name, the first on top, its whole length written at its end."""
    lengths = [0.0] * len(names)
    for (label, values), colour in zip(parts.items(), colours, strict=True):
        axes.barh(range(len(names)), values, 0.7, left=lengths, color=colour, edgecolor="white", linewidth=0.4, label=label)
        lengths = [length + value for length, value in zip(lengths, values, strict=True)]
    for place, length in enumerate(lengths):
        axes.text(length, place, f" {length:.0f}", va="center", fontsize=8, color=GREY)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max(lengths) * 1.1 or 1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, fontsize=8)
