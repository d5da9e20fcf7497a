"""``dataplane rules``: the rules of one node as kube-proxy and the CNI would write them."""

from __future__ import annotations

import argparse

from dataplane.cli import options

HELP = "print a node's iptables rules, as iptables-restore takes them"

FORMATS = ("iptables-save", "table")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    options.add_cluster(parser)
    parser.add_argument("--node", required=True, metavar="NODE", help="whose rules")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="(default: %(default)s)")
    parser.add_argument("--family", type=int, choices=(4, 6), help="IPv4 or IPv6 (default: that of the node's first address)")
    parser.add_argument("--origins", action="store_true", help="say which manifest line is behind each rule")
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """0. Raises InputError for a node that is not there, a family that it lacks and a cluster that cannot be."""
    from dataplane.k8s import load
    from dataplane.report.firewall import rules, save_text
    from dataplane.report.tables import render
    from dataplane.report.world import build_world, choose_machines

    manifests = load(args.filename)
    for warning in manifests.warnings:
        options.progress(f"warning: {warning}", args.quiet)
    topology = build_world(manifests).topology
    (machine,) = choose_machines(topology, [], args.node)
    family = args.family or machine.addresses[0].version
    if args.format == "table":
        print(render(rules(topology, [machine], family), "wide" if args.origins else "table"), end="")
    else:
        print(save_text(topology, machine, family, origins=args.origins), end="")
    return 0
