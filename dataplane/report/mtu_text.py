"""A report of MTU budgets as tables, and as an object for JSON and YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dataplane.encap.mtu import ETHERNET_HEADER, IP_HEADER
from dataplane.explain.mtu import Advice, PathReport, Report, Trial, fate_words
from dataplane.explain.mtu_budget import Budget, Fate, Limit
from dataplane.explain.mtu_path import UDP_HEADER
from dataplane.report.tables import NONE, layout


def mtu_text(report: Report, *, wide: bool) -> str:
    """The paths, what their devices' MTUs should be, and what is wrong; ``wide``: also each path's budget and each length tried."""
    parts = [layout([PATH_COLUMNS, *map(_path_cells, report.paths)]) if report.paths else ""]
    if wide:
        parts += [_detailed(path) for path in report.paths if path.budget is not None]
    if report.advice:
        parts.append(layout([("DEVICES", "NUMBER", "MTU", "SHOULD BE"), *map(_advice_cells, report.advice)]))
    said = [f"{kind}: {line}\n" for kind, lines in _said(report) for line in lines]
    parts.append("".join(said) or "every path carries what its sender's MTU allows\n")
    return "\n".join(part for part in parts if part)


PATH_COLUMNS = ("PATH", "KIND", "FAMILY", "ALIKE", "SENDER", "BUDGET", "LARGEST", "AT THE SENDER'S MTU")


def _said(report: Report) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("error", report.errors), ("finding", report.findings), ("warning", report.warnings)


def _path_cells(path: PathReport) -> tuple[str, ...]:
    first = (path.name, path.case.kind, f"IPv{path.family}", str(path.case.alike))
    if path.budget is None:
        return (*first, NONE, NONE, NONE, fate_words(path.unreached) if path.unreached else NONE)
    trial = path.at_sender_mtu
    shown = fate_words(trial.seen) if trial is not None else NONE
    return (*first, str(path.budget.sender_mtu), _sum(path.budget), str(path.budget.largest), shown)


def _sum(budget: Budget) -> str:
    """``1500 - 20 IPv4 - 8 UDP - 8 vxlan - 14 Ethernet = 1450``."""
    lines = list(budget_lines(budget))
    return f"{lines[0][1]}{''.join(f' - {size} {what}' for what, size, _ in lines[1:-1])} = {lines[-1][1]}"


def _advice_cells(advice: Advice) -> tuple[str, ...]:
    return advice.role, str(len(advice.places)), str(advice.now), "ok" if advice.now == advice.wanted else str(advice.wanted)


def _detailed(path: PathReport) -> str:
    """The sum from the link inwards, the configured MTUs on the way, and each length tried."""
    assert path.budget is not None
    lines = list(budget_lines(path.budget))
    signs = ["", *("- " for _ in lines[1:-1]), "= "]
    sums = [(f"  {sign}{what}", str(size), where) for sign, (what, size, where) in zip(signs, lines, strict=True)]
    passed = [("  PLACE", "MTU", "LETS THROUGH", "BEYOND"), *map(_limit_cells, path.budget.limits)]
    tried = [("  SIZE", "COMPUTED", "SEEN"), *map(_trial_cells, path.trials)]
    title = f"{path.name}, IPv{path.family} ({path.case.kind})\n"
    return title + "\n".join(layout(table) for table in (sums, passed, tried))


def _limit_cells(limit: Limit) -> tuple[str, ...]:
    return f"  {limit.place}", str(limit.mtu), str(limit.inner), str(limit.beyond)


def _trial_cells(trial: Trial) -> tuple[str, ...]:
    again = f"; sent again: {fate_words(trial.again)}" if trial.again is not None else ""
    return f"  {trial.size}", fate_words(trial.computed), fate_words(trial.seen) + again


def budget_lines(budget: Budget) -> Iterator[tuple[str, int, str]]:
    """What, bytes, where: the link's MTU, the headers from the outermost inwards, and what they leave for the packet inside."""
    link = budget.link
    yield "link MTU", link.mtu, link.place
    room = link.mtu
    for tunnel in reversed(link.tunnels):
        yield f"IPv{tunnel.family}", IP_HEADER[tunnel.family], tunnel.place
        if tunnel.udp:
            yield "UDP", UDP_HEADER, tunnel.place
        if tunnel.header:
            yield tunnel.kind, tunnel.header, tunnel.place
        if tunnel.ethernet:
            yield "Ethernet", ETHERNET_HEADER, tunnel.place
        left = room - tunnel.overhead - (ETHERNET_HEADER if tunnel.ethernet else 0)
        room = tunnel.most(room)
        if left != room:
            yield "padding", left - room, tunnel.place
    yield "left for a packet", room, f"{budget.largest} by what is configured at {budget.narrowest.place}"


# ---- for programs


def mtu_object(report: Report) -> dict[str, Any]:
    """For JSON and YAML."""
    return {
        "apiVersion": "dataplane/v1alpha1",
        "kind": "MtuReport",
        "paths": [_path_object(path) for path in report.paths],
        "devices": [_advice_object(advice) for advice in report.advice],
        "errors": list(report.errors),
        "findings": list(report.findings),
        "warnings": list(report.warnings),
    }


def _path_object(path: PathReport) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": path.case.kind,
        "from": path.case.path.source.ref,
        "to": path.case.path.label,
        "family": f"IPv{path.family}",
        "alike": path.case.alike,
        "senderMtu": None,
        "largest": None,
    }
    if path.budget is None:
        return found | {"unreached": _fate_object(path.unreached) if path.unreached else None}
    return found | {
        "senderMtu": path.budget.sender_mtu,
        "largest": path.budget.largest,
        "budget": [{"what": what, "bytes": size, "at": where} for what, size, where in budget_lines(path.budget)],
        "limits": [_limit_object(limit) for limit in path.budget.limits],
        "trials": [_trial_object(trial) for trial in path.trials],
    }


def _limit_object(limit: Limit) -> dict[str, Any]:
    inside = [tunnel.place for tunnel in limit.tunnels]
    return {"at": limit.place, "mtu": limit.mtu, "largest": limit.inner, "beyond": str(limit.beyond), "inside": inside}


def _trial_object(trial: Trial) -> dict[str, Any]:
    again = _fate_object(trial.again) if trial.again is not None else None
    return {"size": trial.size, "computed": _fate_object(trial.computed), "seen": _fate_object(trial.seen), "again": again}


def _fate_object(fate: Fate) -> dict[str, Any]:
    icmp = {"by": fate.told_by, "mtu": fate.told_mtu, "heard": fate.heard, "lost": fate.message_lost or None} if fate.told_mtu else None
    return {
        "result": str(fate.result),
        "at": fate.place or None,
        "fragmentedAt": fate.fragmented or None,
        "reason": fate.reason or None,
        "icmp": icmp,
    }


def _advice_object(advice: Advice) -> dict[str, Any]:
    return {"devices": advice.role, "mtu": advice.now, "shouldBe": advice.wanted, "places": list(advice.places)}
