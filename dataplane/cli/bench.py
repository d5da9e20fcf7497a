"""``dataplane bench``: how fast the core is on this machine, row by row, and beside others."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dataplane.cli.options import add_output, add_quiet, add_seed

if TYPE_CHECKING:
    from dataplane.bench.compare import Change
    from dataplane.bench.run import Document

HELP = "measure how fast frames are carried on this machine, beside earlier runs and other programs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    from dataplane.bench.compare import TOLERANCE

    explained = "rows to measure: a name, the beginning of names up to a slash, or a pattern such as 'service/*/1k*' (default: all)"
    parser.add_argument("name", nargs="*", metavar="NAME", help=explained)
    parser.add_argument("--list", action="store_true", help="show the rows and measure nothing")
    add_output(parser, ("table", "json", "markdown"))
    parser.add_argument("--json", action="store_const", dest="output", const="json", help="the same as -o json")
    parser.add_argument("--read", metavar="FILE", help="measure nothing: show what an earlier run wrote with --json")
    parser.add_argument("--compare", metavar="FILE", help="ratio of each row to an earlier run's, which --json wrote")
    explained = "with --compare, exit with 1 if a row takes more than N times as long as before (default: %(default)s)"
    parser.add_argument("--tolerance", type=_ratio, default=TOLERANCE, metavar="N", help=explained)
    parser.add_argument("--peers", action="store_true", help="also measure other programs that are installed, and print ratios")
    parser.add_argument("--picture", metavar="FILE", help="draw table and growth curves as PNG or SVG (needs matplotlib)")
    parser.add_argument("--passes", type=_count, default=0, metavar="N", help="time N passes of each row (default: as many as are enough)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether the rows work, not how fast they are")
    parser.add_argument("--callgrind", action="store_true", help="count instructions with valgrind, at sizes of at most 1,000")
    add_seed(parser)
    add_quiet(parser)


def _ratio(text: str) -> float:
    number = float(text)
    if not number >= 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _count(text: str) -> int:
    from dataplane.bench.work import LONGEST

    number = int(text)
    if not 1 <= number <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {LONGEST}")
    return number


def run(args: argparse.Namespace) -> int:
    """0; 1: a row did not do what it should have, or became slower than ``--tolerance`` allows."""
    from dataplane.bench import compare
    from dataplane.bench.picture import draw, require_matplotlib
    from dataplane.bench.rows import select
    from dataplane.bench.run import wrong_rows

    rows = select(args.name)
    if args.list:
        print("".join(f"{row.name:<36}{row.what}\n" for row in rows), end="")
        return 0
    if args.picture:
        require_matplotlib()
    before = compare.read(args.compare) if args.compare else None
    document = compare.read(args.read) if args.read else _measure(args)
    found = compare.changes(before, document) if before is not None else None
    if before is not None:
        _warn(compare.warnings(before, document))
        document["comparison"] = compare.as_data(found or [], args.tolerance)
    _show(document, found, args)
    if args.picture:
        draw(document, args.picture)
    slower = [change for change in found or [] if change.ratio > args.tolerance]
    return 1 if wrong_rows(document) or slower else 0


def _measure(args: argparse.Namespace) -> Document:
    from dataplane.bench.callgrind import count_by_callgrind
    from dataplane.bench.peers.run import add_peers
    from dataplane.bench.rows import select
    from dataplane.bench.run import measure
    from dataplane.bench.work import Settings
    from dataplane.cli.options import progress

    settings = Settings(args.seed, args.quick, args.passes, lambda message: progress(message, args.quiet))
    document = measure(select(args.name), settings)
    if args.callgrind:
        count_by_callgrind(document, settings)
    if args.peers:
        add_peers(document, settings)
    return document


def _warn(lines: list[str]) -> None:
    from dataplane.cli.options import progress

    for line in lines:
        progress(f"dataplane: warning: {line}")


def _show(document: Document, found: list[Change] | None, args: argparse.Namespace) -> None:
    import json

    from dataplane.bench.text import comparison, markdown, table

    if args.output == "json":
        print(json.dumps(document, indent=2))
        return
    print((markdown if args.output == "markdown" else table)(document), end="")
    if found is not None:
        print("\n" + comparison(found, args.tolerance), end="")
