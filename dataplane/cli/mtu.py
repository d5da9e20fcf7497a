"""``dataplane mtu``: what fits through each path of a cluster, and what becomes of what does not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dataplane.cli.options import add_cluster, add_output, add_quiet, add_seed

if TYPE_CHECKING:
    from dataplane.explain.mtu import Report

HELP = "compute what fits through each path, prove it with frames, and say what the MTUs should be"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_cluster(parser)
    places = "pod/NAMESPACE/NAME, node/NAME or host/NAME"
    parser.add_argument("--from", dest="source", metavar="WHERE", help=f"only this path: who sends: {places}")
    parser.add_argument("--to", metavar="WHERE", help=f"where to: an IP address, service/NAMESPACE/NAME[:PORT], {places}")
    add_output(parser, ("table", "wide", "json", "yaml"))
    add_seed(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """0: every path carries what its sender's MTU allows; 1: one does not, or frames contradict what was computed."""
    from dataplane.cli.options import progress
    from dataplane.errors import InputError
    from dataplane.explain.mtu import examine
    from dataplane.k8s import load

    if (args.source is None) != (args.to is None):
        raise InputError("--from and --to go together: give both, or none for every path of the cluster")
    manifests = load(args.filename)
    for warning in manifests.warnings:
        progress(f"dataplane: warning: {warning}", args.quiet)
    ends = (args.source, args.to) if args.source is not None else None
    report = examine(manifests, ends=ends, namespace=args.namespace, seed=args.seed)
    _show(report, args.output)
    return 0 if report.good else 1


def _show(report: Report, output: str) -> None:
    import json

    from dataplane.report.mtu_text import mtu_object, mtu_text

    if output == "json":
        print(json.dumps(mtu_object(report), indent=2))
    elif output == "yaml":
        import yaml

        print(yaml.safe_dump(mtu_object(report), sort_keys=False, allow_unicode=True), end="")
    else:
        print(mtu_text(report, wide=output == "wide"), end="")
