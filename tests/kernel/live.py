"""Random frames through the real kernel and through the emulator, by hand and for long.

``python -m tests.kernel.live --mode flannel-vxlan --seed 1000 --cases 500`` as root, with ``--dual`` for IPv6 beside IPv4;
failing cases are cut down to the steps they need and stored as case files, which ``dataplane check`` runs again without root.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dataplane.testing.kinds import frames

from . import dual, generate, netns, oracle, record
from .record import Case, Flaky
from .taps import DropTrace
from .topology import MODES, Topology, cluster_file, load


def recorded(topology: Topology, trace: DropTrace, seed: int, length: int, folder: Path) -> Case:
    """What the kernel does with the sequence of this seed, as a case that stands in ``folder``. Raises Flaky."""
    cluster = os.path.relpath(topology.path, folder)
    sequence = generate.seeded(topology, seed, length)
    head = {"name": f"random_{seed}", "doc": f"random sequence, seed {seed}, theme {sequence.theme}", "cluster": cluster}
    return record.record(topology, trace, sequence, head)


def minimise(topology: Topology, trace: DropTrace, case: Case, path: Path) -> Case:
    """The case without the steps that its failure does not need: halves are tried first, single steps last."""
    best, size = case, len(case["steps"]) // 2
    while size:
        start = len(best["steps"]) - size
        while start >= 0 and len(best["steps"]) > size:
            keep = [i for i in range(len(best["steps"])) if not start <= i < start + size]
            best = _if_still_failing(topology, trace, best, keep, path) or best
            start -= size
        size //= 2
    return best


def _if_still_failing(topology: Topology, trace: DropTrace, case: Case, keep: list[int], path: Path) -> Case | None:
    try:
        smaller = record.record_again(topology, trace, case, keep)
    except Flaky:
        return None
    return smaller if frames.run(smaller, path) else None


def failures(topology: Topology, trace: DropTrace, seeds: range, length: int, folder: Path) -> Iterator[Case]:
    """Each sequence that the emulator carries otherwise than the kernel."""
    for seed in seeds:
        try:
            case = recorded(topology, trace, seed, length, folder)
        except Flaky as flaky:
            print(f"seed {seed}: the kernel does not agree with itself: {str(flaky)[:200]}", file=sys.stderr)
            continue
        lines = frames.run(case, folder / f"{case['name']}.json")
        print(f"seed {seed}: {len(case['steps'])} steps, {len(lines)} differences", file=sys.stderr)
        if lines:
            yield case


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kernel.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help="one of our own clusters")
    parser.add_argument("--dual", action="store_true", help="the dual-stack twin of that cluster")
    parser.add_argument("--cluster", type=Path, help="any other cluster file, in place of --mode")
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence")
    parser.add_argument("--cases", type=int, default=100, help="number of sequences")
    parser.add_argument("--length", type=int, default=40, help="frames injected in each")
    parser.add_argument("--out", type=Path, default=Path("live-failures"), help="folder for failing cases")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 no difference, 1 differences, 2 not possible here."""
    options = arguments(argv)
    reason = netns.unavailable()
    if reason is not None:
        print(f"live: {reason}", file=sys.stderr)
        return 2
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cluster = (options.cluster or cluster_file(options.mode)).resolve()
    topology = load(dual.write(cluster, folder / f"dual-{cluster.name}") if options.dual else cluster)
    found = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # as an exception, which takes the namespaces down
    oracle.remove_leftovers()
    with closing(DropTrace()) as trace:
        for case in failures(topology, trace, range(options.seed, options.seed + options.cases), options.length, folder):
            path = folder / f"{case['name']}.json"
            record.write(case, path)
            smallest = minimise(topology, trace, case, path)
            record.write(smallest, path)
            print(f"{path}: {frames.run(smallest, path)[0]}")
            found += 1
    print(f"{options.cases - found} sequences agree, {found} differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
