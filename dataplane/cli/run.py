"""``dataplane run``: pings, requests and connections of a scenario, carried through its cluster as real frames."""

from __future__ import annotations

import argparse

from dataplane.cli.options import add_engine, add_plugin, add_quiet, add_recording, capture_options, progress

HELP = "carry a scenario's traffic through its cluster to the end"
_MS = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    explained = "YAML with kind: Traffic documents, and with the cluster's manifests or a kind: Scenario document that names them"
    parser.add_argument("scenario", metavar="SCENARIO", help=explained)
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE|DIR|-", help="more manifests; repeatable")
    add_plugin(parser)
    add_recording(parser, required=False)
    parser.add_argument("--until", type=milliseconds, metavar="MS", help="stop at this millisecond of virtual time")
    add_engine(parser)
    add_quiet(parser)


def milliseconds(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value * _MS


def run(args: argparse.Namespace) -> int:
    """0 once the traffic was carried, whatever became of it. Raises InputError for a scenario that cannot be."""
    from dataplane._core import Engine
    from dataplane.control.build import build
    from dataplane.errors import InputError
    from dataplane.report.run_capture import recording
    from dataplane.report.run_text import flows_text, outcome_text
    from dataplane.traffic.drive import run_flows
    from dataplane.traffic.model import traffic_of
    from dataplane.traffic.resolve import resolve
    from dataplane.traffic.scenario import load_scenario

    options = capture_options(args)
    manifests = load_scenario(args.scenario, args.filename)
    warnings = list(manifests.warnings)
    documents = traffic_of(manifests, warnings)
    if not documents:
        raise InputError(f"{args.scenario}: no kind: Traffic document; write one (docs/run-and-replay.md), or carry a capture with replay")
    engine = Engine(args.seed, slow_path_only=args.slow_path_only)
    topology = build(manifests, engine)
    flows = resolve(documents, topology)
    for warning in (*warnings, *topology.warnings):
        progress(f"warning: {warning}", args.quiet)
    progress(
        f"{len(manifests.nodes)} nodes, {len(manifests.pods)} pods, {len(manifests.services)} services, {len(flows)} flows", args.quiet
    )
    with recording(engine, topology, options) as capture:
        summaries = run_flows(engine, flows, args.seed, until=args.until, drain=capture.drain)
    print(flows_text(summaries))
    print(outcome_text(capture, engine.counters()), end="")
    return 0
