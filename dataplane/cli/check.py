"""``dataplane check``: runs case files."""

from __future__ import annotations

import argparse

HELP = "run case files and name what differs"


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="case files, or folders of them")
    parser.add_argument("--json", action="store_true", help="JSON Lines: one object per case, then a summary")
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="processes that run cases (default: %(default)s)")
    parser.add_argument("--emit", metavar="DIR", help="write what each frames case produced to DIR, in the shape of the case")


def run(args: argparse.Namespace) -> int:
    from dataplane.testing.check import run_paths

    return run_paths(args.paths, jobs=args.jobs, emit=args.emit, json_lines=args.json)
