"""Options that mean the same in every verb, and how a verb speaks to its user.

Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from dataplane.report.run_capture import CaptureOptions

_THREADS = 3  # reading ahead, carrying, writing
OUTPUT_FORMATS = ("table", "wide", "json", "yaml", "name")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """``-f FILE|DIR|-`` (repeatable, ``args.filename``), ``-n NAMESPACE`` (``args.namespace``) and what ``add_plugin`` adds."""
    explained = "manifests of the cluster, - is standard input; repeatable"
    parser.add_argument("-f", "--filename", action="append", required=True, metavar="FILE|DIR|-", help=explained)
    parser.add_argument("-n", "--namespace", default="default", help="Kubernetes namespace (default: %(default)s)")
    add_plugin(parser)


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """``--plugin FILE`` (repeatable): encapsulations that are registered before the verb runs."""
    explained = "Python file with an encapsulation of your own; repeatable"
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE", help=explained)


def load_plugins(args: argparse.Namespace) -> None:
    """Register what the files of ``add_plugin`` offer. Raises InputError for a file that cannot be run or offers nothing."""
    files = getattr(args, "plugin", [])
    if files:
        from dataplane.encap.registry import load_file

        for file in files:
            load_file(file)


def add_output(parser: argparse.ArgumentParser, formats: tuple[str, ...] = OUTPUT_FORMATS) -> None:
    """``-o FORMAT`` (``args.output``); the first of ``formats`` is the default."""
    parser.add_argument("-o", "--output", choices=formats, default=formats[0], help="output format (default: %(default)s)")


def add_read(parser: argparse.ArgumentParser) -> None:
    """``-r IN`` (``args.read``): a capture to read."""
    parser.add_argument("-r", "--read", required=True, metavar="IN", help="capture to read: pcap or pcapng")


def add_write(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """``-w OUT`` (``args.write``): a capture to write."""
    parser.add_argument("-w", "--write", required=required, metavar="OUT", help="capture to write: pcapng")


def add_recording(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``-w OUT`` or ``--per-interface DIR``, ``--capture PATTERN`` (repeatable) and ``--comments``; ``capture_options`` reads them."""
    output = parser.add_mutually_exclusive_group(required=required)
    output.add_argument("-w", "--write", metavar="OUT", help="capture to write: one pcapng with all interfaces")
    output.add_argument("--per-interface", metavar="DIR", help="write one pcapng for each interface that saw a frame into DIR")
    explained = "interfaces to record, such as 'node1/eth0' or 'node*/flannel.1'; repeatable (default: all)"
    parser.add_argument("--capture", action="append", metavar="PATTERN", help=explained)
    explained = "comment drops and changes, also every other step, which is slow, or drops alone (default: %(default)s)"
    parser.add_argument("--comments", choices=("changes", "all", "none"), default="changes", help=explained)


def capture_options(args: argparse.Namespace) -> CaptureOptions:
    """What ``add_recording`` declared. Raises InputError where interfaces are chosen and nothing is written."""
    from dataplane.errors import InputError
    from dataplane.report.run_capture import CaptureOptions

    if args.capture and not (args.write or args.per_interface):
        raise InputError("--capture chooses what is written: give -w OUT or --per-interface DIR too")
    return CaptureOptions(args.write, args.per_interface, tuple(args.capture or ("*",)), args.comments, args.threads)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """``--seed N`` (``args.seed``): the same seed gives the same bytes."""
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: %(default)s)")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--seed N`` as ``add_seed``, ``--threads N`` (``args.threads``) and ``--slow-path-only``: none of the latter two changes a byte."""
    add_seed(parser)
    explained = "1: one thread in all; more: captures are written beside, replay carries with up to N, and from 3 on it reads ahead"
    usual = f"default: {_THREADS}, or the number of processors if that is less"
    parser.add_argument("--threads", type=threads, default=usual_threads(), metavar="N", help=f"{explained} ({usual})")
    explained = "every packet goes from stage to stage, none through the flow cache"
    parser.add_argument("--slow-path-only", action="store_true", help=explained)


def usual_threads() -> int:
    """As many as there is work for beside each other, and no more than there are processors for this process."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_THREADS, available)


def threads(text: str) -> int:
    """A number of threads. Raises ArgumentTypeError."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """``-q`` (``args.quiet``): no progress."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")


def progress(message: str, quiet: bool = False) -> None:
    """Say on standard error what is going on."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def use_colour(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal and the user has not said NO_COLOR (no-color.org: any value but the empty one)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
