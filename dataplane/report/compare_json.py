"""A comparison as JSON: schema ``dataplane/compare``, version 1 (docs/compare.md). Only ``measured`` differs from run to run."""

from __future__ import annotations

import platform
from typing import Any

from dataplane.explain.compare import PathReport, Report, Row
from dataplane.explain.compare_flows import Flow
from dataplane.explain.compare_time import StageTimes

SCHEMA, VERSION = "dataplane/compare", 1


def compare_object(report: Report) -> dict[str, Any]:
    """Rates in bit/s, sizes in bytes, times in ns."""
    wanted = report.wanted
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "cluster": {"name": report.cluster, "nodes": report.nodes, "pods": report.pods},
        "family": f"IPv{report.version}",
        "seed": wanted.seed,
        "rate": wanted.rate,
        "packets": wanted.packets,
        "sizes": {size.label: list(size.frames) for size in wanted.sizes},
        "flows": [_flow_object(report, flow) for flow in report.flows],
        "paths": [_path_object(report, path) for path in report.paths],
        "measured": _measured_object(report) if wanted.timed else None,
    }


def _flow_object(report: Report, flow: Flow) -> dict[str, Any]:
    return {
        "name": flow.name,
        "kind": flow.kind,
        "from": flow.source,
        "to": flow.target,
        "receiver": flow.receiver,
        "protocol": flow.protocol,
        "port": flow.port,
        "crossesLinks": flow in report.crossing,
    }


def _path_object(report: Report, path: PathReport) -> dict[str, Any]:
    packets, frames, size = path.totals
    return {
        "name": path.name,
        "podMtu": path.pod_mtu,
        "results": [_row_object(report.wanted.rate, row) for row in path.rows],
        "unreached": [{"flow": flow.name, "why": why} for flow, why in path.unreached],
        "total": {"packets": packets, "frames": frames, "bytes": size},
        "scenario": _scenario_object(path),
        "warnings": list(path.warnings),
    }


def _row_object(rate: int, row: Row) -> dict[str, Any]:
    tally = row.tally
    goodput = tally.goodput(rate)
    return {
        "flow": row.flow.name,
        "size": row.size.label,
        "dontFragment": row.dont_fragment,
        "sent": tally.sent,
        "arrived": tally.arrived,
        "retransmitted": tally.retransmitted,
        "payloadBytes": tally.payload,
        "senderLink": {"frames": tally.forward_frames, "bytes": tally.forward_bytes, "bytesWithGaps": tally.line_bytes},
        "allLinks": {"frames": tally.frames, "bytes": tally.wire_bytes},
        "bytesPerPacket": tally.per_packet,
        "addedPerPacket": tally.added,
        "goodput": None if goodput is None else round(goodput),
        "fragmentsMade": tally.fragments,
        "icmpTooBig": tally.too_big,
        "toldMtu": tally.told_mtu or None,
        "drops": dict(sorted(tally.drops.items())),
        "error": tally.error or None,
    }


def _scenario_object(path: PathReport) -> dict[str, Any] | None:
    if path.scenario is None:
        return None
    tally, flows = path.scenario
    return {
        "flows": [flow.to_dict() for flow in flows],
        "allLinks": {"frames": tally.frames, "bytes": tally.wire_bytes},
        "fragmentsMade": tally.fragments,
        "drops": dict(sorted(tally.drops.items())),
    }


def _measured_object(report: Report) -> dict[str, Any]:
    return {
        "on": f"{platform.machine()} {platform.system()}",
        "paths": {path.name: {flow.name: _times_object(times) for flow, times in path.times} for path in report.paths},
    }


def _times_object(times: StageTimes) -> dict[str, Any]:
    stages = {name: {"visits": visits, "ns": round(ns, 1)} for name, (visits, ns) in times.stages.items()}
    return {"ns": round(times.total, 1), "packets": times.packets, "stages": stages}
