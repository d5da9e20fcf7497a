"""``dataplane compare``: the same flows through the same cluster under several CNI data paths."""

from __future__ import annotations

import argparse

from dataplane.cli.options import add_cluster, add_output, add_quiet, add_seed, progress

HELP = "carry the same flows through a cluster under several CNI data paths, and compare bytes, goodput, losses and time"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_cluster(parser)
    explained = "data paths with commas between them (default: %(default)s); an unknown one lists them all"
    parser.add_argument("--paths", default="flannel-vxlan,flannel-host-gw,calico", help=explained)
    explained = "Ethernet frames at their sender in bytes with FCS, imix, and tcp for a connection (default: %(default)s)"
    parser.add_argument("--sizes", default="64,512,1518,imix,tcp", help=explained)
    parser.add_argument("--rate", default="10Gbit/s", help="of every link (default: %(default)s)")
    explained = "send from a pod, node or host to one, or to a service; repeatable (default: pods on two nodes and on one, and a service)"
    parser.add_argument("--flow", action="append", default=[], metavar="FROM,TO", help=explained)
    parser.add_argument("--packets", type=_count, default=120, metavar="N", help="packets of each size (default: %(default)s)")
    parser.add_argument("--family", type=int, choices=(4, 6), default=0, help="IP version (default: that of the first pod)")
    parser.add_argument("--pod-mtu", type=_mtu, default=0, metavar="BYTES", help="MTU of all pods (default: what each data path leaves)")
    parser.add_argument("--picture", metavar="OUT", help="draw it, to a file that ends in .png or .svg (needs the extra plots)")
    parser.add_argument("--no-time", action="store_true", help="do not measure how long this machine takes")
    add_output(parser, ("table", "json"))
    add_seed(parser)
    add_quiet(parser)


def _count(text: str) -> int:
    return _number(text, 1, 1_000_000)


def _mtu(text: str) -> int:
    return _number(text, 576, 65535)


def _number(text: str, lowest: int, highest: int) -> int:
    if not text.isdecimal() or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"must be {lowest} to {highest}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """0, whatever the comparison says. Raises InputError for a cluster, a data path, a size or a flow that cannot be."""
    from dataplane.explain.compare import Wanted, compare
    from dataplane.explain.compare_sizes import parse_rate, parse_sizes
    from dataplane.k8s.other_cni import WrittenCluster
    from dataplane.report.compare_picture import check_picture, draw

    if args.picture is not None:
        check_picture(args.picture)
    wanted = Wanted(
        paths=tuple(dict.fromkeys(name.strip() for name in args.paths.split(","))),
        sizes=parse_sizes(args.sizes),
        rate=parse_rate(args.rate),
        packets=args.packets,
        flows=tuple(args.flow),
        namespace=args.namespace,
        family=args.family,
        pod_mtu=args.pod_mtu,
        seed=args.seed,
        timed=not args.no_time,
    )
    cluster = WrittenCluster.load(args.filename)
    for warning in cluster.manifests.warnings:
        progress(f"dataplane: warning: {warning}", args.quiet)
    report = compare(cluster, wanted, lambda line: progress(line, args.quiet))
    for path in report.paths:
        for warning in path.warnings:
            progress(f"dataplane: warning: {path.name}: {warning}", args.quiet)
    if args.picture is not None:
        draw(report, args.picture)
        progress(f"Picture: {args.picture}", args.quiet)
    if args.output == "json":
        import json

        from dataplane.report.compare_json import compare_object

        print(json.dumps(compare_object(report), indent=2))
    else:
        from dataplane.report.compare_text import compare_text

        print(compare_text(report), end="")
    return 0
