"""What ``dataplane compare`` prints: data paths below each other, sizes beside each other, times by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dataplane.explain.compare import PathReport, Report, Row
from dataplane.explain.compare_flows import Flow
from dataplane.explain.compare_lab import Tally
from dataplane.report.tables import NONE, layout

CUT = "*"
_UNITS = ((10**12, "Tbit/s"), (10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s"), (1, "bit/s"))
MEASURED = "measured on this machine, other in every run"


def compare_text(report: Report) -> str:
    """All tables, with a title each."""
    parts = [_head(report), _flows(report)]
    if report.crossing:
        parts += [_goodput(report), _wire(report)]
    parts += [_losses(report), _totals(report)]
    if any(path.scenario for path in report.paths):
        parts.append(_scenario(report))
    if any(path.times for path in report.paths):
        parts.append(_times(report))
    return "\n".join(parts)


def rate_unit(rate: int) -> tuple[int, str]:
    """The unit in which a rate is written."""
    return next((factor, name) for factor, name in _UNITS if rate >= factor)


def rate_text(rate: int) -> str:
    """``10 Gbit/s``."""
    factor, name = rate_unit(rate)
    return f"{rate / factor:g} {name}"


def _head(report: Report) -> str:
    wanted = report.wanted
    mtu = f", MTU {wanted.pod_mtu} in pods" if wanted.pod_mtu else ""
    first = f"{report.cluster}: {report.nodes} nodes, {report.pods} pods; IPv{report.version}; seed {wanted.seed}{mtu}"
    second = f"links of {rate_text(wanted.rate)}; {wanted.packets} packets of each size, which is that of the sender's frame with FCS"
    return f"{first}\n{second}\n"


def _flows(report: Report) -> str:
    rows = [(flow.kind, flow.protocol.upper(), flow.name) for flow in report.flows]
    return layout([("FLOW", "PROTOCOL", "FROM AND TO"), *rows])


def _columns(report: Report) -> tuple[str, ...]:
    return tuple(size.label.upper() for size in report.wanted.sizes)


def _each(report: Report, flows: Sequence[Flow]) -> Iterator[tuple[PathReport, Flow]]:
    return ((path, flow) for flow in flows for path in report.paths)


def _goodput(report: Report) -> str:
    rate = report.wanted.rate
    factor, unit = rate_unit(rate)

    def cell(row: Row | None) -> str:
        value = row.tally.goodput(rate) if row is not None else None
        if row is None or value is None:
            return NONE
        return f"{value / factor:.2f}{CUT if row.is_cut else ''}"

    title = f"Goodput in {unit}: application data, where the link is full of such frames ({CUT}: in fragments)\n"
    return title + _pivot(report, cell)


def _wire(report: Report) -> str:
    def cell(row: Row | None) -> str:
        if row is None or row.tally.per_packet is None:
            return NONE
        added = "" if row.tally.added is None else f" +{row.tally.added:.4g}"
        return f"{row.tally.per_packet:.6g}{added}{CUT if row.is_cut else ''}"

    title = "Bytes on the wire for each packet, FCS included, and what of it the data path adds (TCP: for each segment)\n"
    return title + _pivot(report, cell)


def _pivot(report: Report, cell: Callable[[Row | None], str]) -> str:
    rows = [
        (flow.kind, path.name, str(path.pod_mtu), *(cell(path.row(flow, size)) for size in report.wanted.sizes))
        for path, flow in _each(report, report.crossing)
    ]
    return layout([("FLOW", "PATH", "POD MTU", *_columns(report)), *rows])


# ---- what did not go smoothly


def _losses(report: Report) -> str:
    title = "Fragmentation and losses: all else arrived whole\n"
    rows = [cells for path, flow in _each(report, report.flows) for cells in _troubles(path, flow)]
    if not rows:
        return "Fragmentation and losses: none, everything arrived whole\n"
    return title + layout([("FLOW", "PATH", "SIZE", "DF", "SENT", "ARRIVED", "FRAMES", "FRAGMENTS", "ICMP TOO BIG", "WHY"), *rows])


def _troubles(path: PathReport, flow: Flow) -> Iterator[tuple[str, ...]]:
    for other, why in path.unreached:
        if other == flow:
            yield (flow.kind, path.name, "all", *[NONE] * 6, f"no packet arrives: {why}")
    for row in path.rows:
        if row.flow == flow and (row.is_cut or row.is_short):
            yield (flow.kind, path.name, row.size.label.upper(), "yes" if row.dont_fragment else "no", *_trouble_cells(row.tally))


def _trouble_cells(tally: Tally) -> tuple[str, ...]:
    arrived = NONE if tally.arrived is None else str(tally.arrived)
    told = f"{tally.too_big} (MTU {tally.told_mtu})" if tally.too_big else "0"
    why = [f"{count} {reason}" for reason, count in sorted(tally.drops.items(), key=lambda item: (-item[1], item[0]))]
    why += [f"{tally.retransmitted} sent again"] if tally.retransmitted else []
    why += [tally.error] if tally.error else []
    return str(tally.sent), arrived, str(tally.frames), str(tally.fragments), told, ", ".join(why) or NONE


# ---- totals


def _totals(report: Report) -> str:
    least = min((path.totals[2] for path in report.paths), default=0)
    rows = []
    for path in report.paths:
        packets, frames, size = path.totals
        rows.append((path.name, str(packets), str(frames), str(size), _ratio(size, least)))
    title = "Everything together, each size once without DF: packets and segments sent, and what of both directions was on all links\n"
    return title + layout([("PATH", "PACKETS", "FRAMES", "BYTES", "RATIO"), *rows])


def _ratio(size: int, least: int) -> str:
    return f"{size / least:.3f}" if least else NONE


def _scenario(report: Report) -> str:
    rows = []
    for path in report.paths:
        if path.scenario is not None:
            tally, flows = path.scenario
            completed = f"{sum(flow.completed for flow in flows)} of {sum(flow.attempts for flow in flows)}"
            rows.append((path.name, completed, str(tally.frames), str(tally.wire_bytes), str(tally.fragments)))
    title = "kind: Traffic of the manifests, as `dataplane run` carries it: both directions on all links\n"
    return title + layout([("PATH", "COMPLETED", "FRAMES", "BYTES", "FRAGMENTS"), *rows])


# ---- times


def _times(report: Report) -> str:
    flow = next(flow for path in report.paths for flow, _ in path.times)
    columns = [(path.name, times) for path in report.paths for timed, times in path.times if timed == flow]
    stages = dict.fromkeys(stage for _, times in columns for stage in times.stages)
    rows = [
        (stage, *(f"{times.stages[stage][1]:.0f} ({times.stages[stage][0]:g})" if stage in times.stages else NONE for _, times in columns))
        for stage in stages
    ]
    total = ("all stages", *(f"{times.total:.0f}" for _, times in columns))
    title = f"ns per packet in our core by stage (and how often it is entered), {MEASURED}: {flow.kind}\n"
    return title + layout([("STAGE", *(name.upper() for name, _ in columns)), *rows, total])
