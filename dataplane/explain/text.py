"""A trace as text to read: hop by hop, aligned, the verdict last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dataplane.capture.dissect import summary
from dataplane.control.topology import Topology
from dataplane.explain.outcomes import Choice
from dataplane.explain.reasons import details, endpoint_name, notes, reason, verdict_line
from dataplane.explain.rule_path import decisive
from dataplane.explain.steps import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Change, Step
from dataplane.explain.walk import DELIVERED, LEFT, Question, Run, Walk

_BOLD, _DIM, _RED, _GREEN, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """What to show, and how."""

    colour: bool = False
    reply: bool = False  # the way back too

    def paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colour else text


def trace_text(question: Question, choices: Sequence[Choice], style: Style, *, others: int = 0) -> str:
    """The whole answer. ``others``: how many more outcomes there are beside the one shown."""
    first = choices[0].run
    lines = [style.paint(_BOLD, _heading(question, first))]
    if len(choices) > 1:
        lines += ["", *_overview(choices)]
    for number, choice in enumerate(choices, 1):
        if len(choices) > 1:
            lines += ["", style.paint(_BOLD, f"outcome {number} of {len(choices)}: {_odds(choice)}")]
        lines += ["", *_run_lines(question, choice.run, style, others)]
    return "\n".join(lines) + "\n"


def _heading(question: Question, run: Run) -> str:
    family = ETHERTYPE_IPV4 if run.probe[0] >> 4 == 4 else ETHERTYPE_IPV6
    what = f" ({question.target.what})" if question.target.what else ""
    return f"{question.source.ref} to {question.target.label}{what}: {summary(run.probe, ethertype=family)}"


def _odds(choice: Choice) -> str:
    percent = f"{100 * choice.probability:.1f} %"
    return f"{percent}, {endpoint_name(choice.run.topology, choice.endpoint)}" if choice.endpoint else percent


def _overview(choices: Sequence[Choice]) -> Iterator[str]:
    odds = [_odds(choice) for choice in choices]
    width = max(map(len, odds))
    for number, (choice, text) in enumerate(zip(choices, odds, strict=True), 1):
        yield f"{number:>3}  {text:<{width}}  {verdict_line(choice.run.forward, choice.run.topology)}"


def _run_lines(question: Question, run: Run, style: Style, others: int) -> Iterator[str]:
    yield from _walk_lines(run.forward, run.topology, style)
    yield ""
    if others:
        yield f"note:    chance could have led to {others} other endpoint{'s' if others > 1 else ''}: --all shows every outcome"
    for note in notes(question, run):
        yield f"note:    {note}"
    yield from _verdict_lines(run.forward, run.topology, style)
    if style.reply and run.back is not None:
        yield ""
        yield style.paint(_BOLD, "the way back")
        yield ""
        yield from _walk_lines(run.back, run.topology, style)
        yield ""
        yield from _verdict_lines(run.back, run.topology, style)


def _verdict_lines(walk: Walk, topology: Topology, style: Style) -> Iterator[str]:
    """Details first, so that the last line says it all."""
    for line in details(walk, topology):
        yield f"because: {line}"
    fine = walk.verdict.result in (DELIVERED, LEFT)
    yield style.paint(_GREEN if fine else _RED, f"verdict: {verdict_line(walk, topology)}: {reason(walk)}")


def _walk_lines(walk: Walk, topology: Topology, style: Style) -> Iterator[str]:
    rows = [[_row(step, topology) for step in decisive(hop.steps)] for hop in walk.hops]
    labels = [(f"{device}", what) for hop in rows for device, what, _, _, _ in hop]
    device_width = max((len(device) for device, _ in labels), default=0)
    what_width = max((len(what) for _, what in labels), default=0)
    margin = " " * (5 + device_width + 2 + what_width + 2)
    for number, (hop, lines) in enumerate(zip(walk.hops, rows, strict=True), 1):
        machine = topology.machines.get(hop.namespace)
        yield style.paint(_BOLD, f"{number:>3}  {machine.ref if machine else topology.namespace_name(hop.namespace)}")
        for device, what, text, origin, changed in lines:
            source = style.paint(_DIM, f"  [{origin}]") if origin else ""
            yield f"     {device:<{device_width}}  {what:<{what_width}}  {text}{source}"
            if changed:
                yield f"{margin}{style.paint(_DIM, changed)}"


def _row(step: Step, topology: Topology) -> tuple[str, str, str, str, str]:
    device = topology.short_device_name(step.device) if step.device >= 0 else ""
    if device == "lo" and step.ethertype:
        device = ""  # a packet of this machine's own, not on any device yet
    what = step.stage if step.what == "frame" else step.what
    return device, what, step.text, str(step.origin) if step.origin else "", change_text(step.changes)


def change_text(changes: Sequence[Change]) -> str:
    """``IPv4 ttl 64 -> 63; + Ethernet (source ..., destination ...)``."""
    parts = []
    for change in changes:
        if change.field != "header":
            parts.append(f"{change.layer} {change.field} {change.before} -> {change.after}")
        elif not change.before:
            parts.append(f"+ {change.layer} ({change.after})")
        elif not change.after:
            parts.append(f"- {change.layer}")
        else:
            parts.append(f"{change.before} -> {change.after}")
    return "; ".join(parts)
