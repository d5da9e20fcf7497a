"""``dataplane replay``: frames of a capture, carried through a cluster from one of its pods, nodes or hosts on."""

from __future__ import annotations

import argparse

from dataplane.cli.options import add_engine, add_plugin, add_quiet, add_read, add_recording, capture_options, progress

_LARGE = 20_000_000  # bytes of a capture that takes more than a few seconds with comments on every step
HELP = "carry a capture's frames through a cluster from a pod, node or host on"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    explained = "manifests of the cluster, - is standard input; repeatable"
    parser.add_argument("-f", "--filename", action="append", required=True, metavar="FILE|DIR|-", help=explained)
    add_plugin(parser)
    add_read(parser)
    parser.add_argument("--at", required=True, metavar="PLACE", help="who sends the frames: pod/NAMESPACE/NAME, node/NAME or host/NAME")
    add_recording(parser, required=True)
    parser.add_argument("--bpf", metavar="EXPR", help="only packets that this filter matches (pcap-filter(7); needs pcapy-ng)")
    explained = "address or prefix A becomes B: an address, prefix, pod/..., service/..., node/... or host/...; repeatable"
    parser.add_argument("--map", action="append", default=[], metavar="A=B", help=explained)
    explained = "MAC addresses: the sender's and its next hop's, or as captured (default: %(default)s)"
    parser.add_argument("--l2", choices=("rewrite", "keep"), default="rewrite", help=explained)
    add_engine(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """0 once the frames were carried, whatever became of them. Raises InputError for a cluster or capture that cannot be."""
    from dataplane._core import Engine
    from dataplane.capture.batches import read_batches
    from dataplane.capture.bpf import packet_filter
    from dataplane.capture.open import load as load_file
    from dataplane.control.build import build
    from dataplane.k8s import load
    from dataplane.report.run_capture import recording
    from dataplane.report.run_text import outcome_text, replay_text
    from dataplane.traffic.address_map import parse_map
    from dataplane.traffic.fitter import FrameFitter
    from dataplane.traffic.replay import replay

    options = capture_options(args)
    wanted = packet_filter(args.bpf) if args.bpf is not None else None
    manifests = load(args.filename)
    reader = read_batches(load_file(args.read), args.read, at_least_one=True)
    engine = Engine(args.seed, slow_path_only=args.slow_path_only)
    topology = build(manifests, engine)
    for warning in (*manifests.warnings, *topology.warnings):
        progress(f"warning: {warning}", args.quiet)
    machine = topology.endpoint(args.at)
    fitter = FrameFitter(engine, topology, machine, parse_map(args.map, topology), args.l2)
    progress(
        f"{len(manifests.nodes)} nodes, {len(manifests.pods)} pods, {len(manifests.services)} services; {args.read} at {args.at}",
        args.quiet,
    )
    if options.comments == "all" and len(reader.data) > _LARGE:
        progress("comments on every step are slow on a capture of this size: --comments changes is many times as fast", args.quiet)
    with recording(engine, topology, options) as capture:
        summary = replay(engine, machine, reader, fitter, wanted=wanted, drain=capture.drain, threads=args.threads)
    print(replay_text(summary))
    print(outcome_text(capture, engine.counters()), end="")
    return 0
