"""What a run prints when it is over: flows, drops with their reasons, the core's counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dataplane.capture.wireshark import tshark_line
from dataplane.report.drop_kinds import DropKind
from dataplane.report.run_capture import RunCapture
from dataplane.report.tables import NONE, layout
from dataplane.traffic.replay import ReplaySummary, UnfitPackets
from dataplane.traffic.summary import FlowSummary

_FLOW_COLUMNS = ("FLOW", "KIND", "SENT", "RECEIVED", "COMPLETED", "RTT MIN/AVG/MAX", "FIRST ERROR")
_DROP_COLUMNS = ("DROPS", "REASON", "AT", "DECIDED BY")
_COUNTERS = ("in", "generated", "copies", "fragments_made", "out", "dropped", "consumed", "fragments_merged", "held")


def flows_text(summaries: Sequence[FlowSummary]) -> str:
    """One line for each flow; packets sent and received by the end that started it."""
    return layout([_FLOW_COLUMNS, *(_flow_row(summary) for summary in summaries)])


def _flow_row(summary: FlowSummary) -> tuple[str, ...]:
    completed = f"{summary.completed} of {summary.attempts}"
    rtt = "/".join(map(milliseconds, (summary.rtt_min_ns, summary.rtt_avg_ns, summary.rtt_max_ns))) if summary.rtt_count else NONE
    unit = f"{rtt} ms" if summary.rtt_count else rtt
    return summary.name, summary.kind, str(summary.sent), str(summary.received), completed, unit, summary.first_error or NONE


def milliseconds(ns: int | None) -> str:
    """Exact to the microsecond."""
    return f"{(ns or 0) // 1000 / 1000:.3f}"


def drops_text(drops: Mapping[DropKind, int]) -> str:
    """One line for each reason and manifest line, the most frequent first; then a sentence for each reason."""
    if not drops:
        return "No drops.\n"
    grouped: dict[tuple[str, str], Counter[str]] = {}
    for kind, count in drops.items():
        grouped.setdefault((kind.reason, str(kind.origin or NONE)), Counter())[kind.place] += count
    ordered = sorted(grouped.items(), key=lambda item: (-item[1].total(), item[0]))
    lines = [(str(places.total()), reason, _places_text(places), origin) for (reason, origin), places in ordered]
    sentences = sorted({(kind.reason, kind.sentence) for kind in drops})
    return layout([_DROP_COLUMNS, *lines]) + "".join(f"  {reason}: {sentence}\n" for reason, sentence in sentences)


def _places_text(places: Counter[str]) -> str:
    first = min(places, key=lambda place: (-places[place], place))
    return first if len(places) == 1 else f"{first} and {len(places) - 1} more"


def counters_text(counters: Mapping[str, int]) -> str:
    """The balance of packets: what came in, was made or copied is out, dropped, consumed or held."""
    return "Packets: " + ", ".join(f"{name.replace('_', ' ')} {counters[name]}" for name in _COUNTERS) + "\n"


def outcome_text(capture: RunCapture, counters: Mapping[str, int]) -> str:
    """Drops, counters, and where the capture is with the line that shows it in tshark."""
    text = f"{drops_text(capture.drops)}\n{counters_text(counters)}"
    if not capture.paths:
        return text
    shown = ", ".join(map(str, capture.paths[:3])) + (f" and {len(capture.paths) - 3} more" if len(capture.paths) > 3 else "")
    return f"{text}Capture: {shown} ({capture.frames} frames)\nLook at it: {tshark_line(capture.paths[0])}\n"


def replay_text(summary: ReplaySummary) -> str:
    """How many packets of a capture went in, and by reason the numbers of those that did not."""
    filtered = f", {summary.filtered} left out by the filter" if summary.filtered else ""
    unfit = sum(packets.packets for packets in summary.unfit.values())
    lines = [f"{summary.read} packets read{filtered}, {summary.injected} injected, {unfit} that fit nowhere"]
    lines += [f"  {reason}: packet {_runs_text(packets)}" for reason, packets in summary.unfit.items()]
    return "".join(f"{line}\n" for line in lines)


def _runs_text(packets: UnfitPackets) -> str:
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in packets.runs)
    return f"{shown} and {packets.more} more" if packets.more else shown
