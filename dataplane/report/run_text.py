"""What a run prints when it is over: flows, drops with their reasons, the core's counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dataplane.report.run_capture import DropKind
from dataplane.report.tables import NONE, layout
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
    """One line for each reason, place and manifest line, the most frequent first; then a sentence for each reason."""
    if not drops:
        return "No drops.\n"
    ordered = sorted(drops.items(), key=lambda item: (-item[1], item[0].reason, item[0].place, str(item[0].origin)))
    lines = [(str(count), kind.reason, kind.place, str(kind.origin or NONE)) for kind, count in ordered]
    sentences = {kind.reason: kind.sentence for kind in drops}
    told = "".join(f"  {reason}: {sentence}\n" for reason, sentence in sorted(sentences.items()))
    return layout([_DROP_COLUMNS, *lines]) + told


def counters_text(counters: Mapping[str, int]) -> str:
    """The balance of packets: what came in, was made or copied is out, dropped, consumed or held."""
    return "Packets: " + ", ".join(f"{name.replace('_', ' ')} {counters[name]}" for name in _COUNTERS) + "\n"
