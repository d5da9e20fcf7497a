"""``dataplane trace``: one packet's walk through the cluster, and why it ends where it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from dataplane.cli.options import add_cluster, add_output, add_quiet, add_seed, add_write

if TYPE_CHECKING:
    from dataplane.control.topology import Topology
    from dataplane.explain.outcomes import Choice
    from dataplane.explain.walk import Question
    from dataplane.k8s.objects import Manifests

HELP = "follow one packet hop by hop, and say why it ends where it does"
DEFAULT_SPORT = 40000


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"must be {lowest} to {highest}")
        return value

    read.__name__ = "number"  # what argparse calls it in its message
    return read


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_cluster(parser)
    places = "pod/NAMESPACE/NAME, node/NAME or host/NAME"
    parser.add_argument("--from", dest="source", required=True, metavar="WHERE", help=f"who sends: {places}")
    parser.add_argument(
        "--to", required=True, metavar="WHERE", help=f"destination: an IP address ([IPv6]:PORT), service/NAMESPACE/NAME[:PORT], {places}"
    )
    explained = "IPv4 or IPv6 (default: that of the destination's first address that fits the sender)"
    parser.add_argument("--family", type=int, choices=(4, 6), default=0, help=explained)
    parser.add_argument(
        "--proto", choices=("tcp", "udp", "icmp", "sctp"), help="what is sent: SYN, datagram, echo request, INIT (default: tcp)"
    )
    parser.add_argument("--port", default="", help="destination port, by number or name")
    parser.add_argument("--sport", type=_number(1, 65535), default=DEFAULT_SPORT, metavar="PORT", help="source port (default: %(default)s)")
    parser.add_argument("--ttl", type=_number(1, 255), default=64, metavar="N", help="time to live, hop limit (default: %(default)s)")
    parser.add_argument(
        "--size", type=_number(20, 65535), default=0, metavar="BYTES", help="length of the IP packet (default: what its headers take)"
    )
    parser.add_argument("--all", action="store_true", help="every outcome of the random choices, with its probability")
    parser.add_argument("--reply", action="store_true", help="the way back of the answer too")
    add_output(parser, ("text", "json"))
    add_write(parser)
    add_seed(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """0: delivered; 1: dropped, in some outcome at least."""
    from dataplane.k8s.loader import collector_paused

    with collector_paused():  # a large cluster stays as it is until the process ends
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from dataplane.cli.options import progress
    from dataplane.explain.outcomes import as_it_fell, every_outcome
    from dataplane.explain.walk import DELIVERED, LEFT, answering
    from dataplane.k8s import load

    manifests = answering(load(args.filename))
    topology = _topology(manifests)
    for warning in (*manifests.warnings, *topology.warnings):
        progress(f"dataplane: warning: {warning}", args.quiet)
    question = _question(args, topology)
    if args.all:
        choices, others = every_outcome(manifests, question, seed=args.seed), 0
    else:
        choice, others = as_it_fell(manifests, question, seed=args.seed)
        choices = [choice]
    if args.write:
        _write(args, manifests, choices)
    _show(args, question, choices, others)
    return 0 if all(choice.run.forward.verdict.result in (DELIVERED, LEFT) for choice in choices) else 1


def _topology(manifests: Manifests) -> Topology:
    from dataplane._core import Engine
    from dataplane.control.build import build

    return build(manifests, Engine())


def _question(args: argparse.Namespace, topology: Topology) -> Question:
    from dataplane.explain.probe import Shape
    from dataplane.explain.target import Wanted, find_source, find_target
    from dataplane.explain.walk import Question

    source = find_source(topology, args.source, args.namespace)
    target = find_target(topology, args.to, args.namespace, source, Wanted(args.proto or "", args.port, args.family))
    return Question(source, target, Shape(target.protocol, args.sport, target.port, args.ttl, args.size))


def _show(args: argparse.Namespace, question: Question, choices: list[Choice], others: int) -> None:
    import json
    import sys

    from dataplane.cli.options import use_colour
    from dataplane.explain.json_form import trace_json
    from dataplane.explain.text import Style, trace_text

    if args.output == "json":
        print(json.dumps(trace_json(question, choices, others=others, reply=args.reply), indent=2))
    else:
        print(trace_text(question, choices, Style(use_colour(sys.stdout), args.reply), others=others), end="")


def _write(args: argparse.Namespace, manifests: Manifests, choices: list[Choice]) -> None:
    from dataplane.capture.wireshark import tshark_line
    from dataplane.cli.options import progress
    from dataplane.explain.walk_capture import write_walks

    write_walks(args.write, manifests, choices, reply=args.reply)
    progress(f"wrote {args.write}: {tshark_line(args.write)}", args.quiet)
