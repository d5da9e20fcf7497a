"""Random worlds and traffic for as long as one likes: do all ways through the core agree?

``PYTHONPATH=.:tests python -m agreement.soak --seed 1 --minutes 60`` takes seed after seed. Progress goes to stderr; the first
disagreement is cut down and printed to stdout as a script, which ``--replay FILE`` plays again. Exit code 1: they disagree.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from pathlib import Path

from .compare import Disagreement, race
from .minimise import minimised, report
from .runs import STEPS, run_seed, share_of
from .script import from_text


def soak(first: int, minutes: float, steps: int) -> int:
    start, frames, seed = time.monotonic(), 0, first
    while time.monotonic() - start < 60 * minutes:
        print(f"seed {seed} ", end="", file=sys.stderr, flush=True)  # before it begins: a crash leaves it as the last line
        began = time.monotonic()
        try:
            runners = run_seed(seed, steps=steps)
        except Disagreement as found:
            print(f"disagrees after {found.script.frame_count()} frames, being cut down", file=sys.stderr, flush=True)
            print(f"seed {seed}: {report(minimised(found))}")
            return 1
        frames += runners.script.frame_count()
        share = share_of(runners)
        cached = "" if share is None else f", {share:.0%} from the cache"
        spent = time.monotonic() - began
        print(f"{runners.world.name}: {runners.script.frame_count()} frames in {spent:.1f} s{cached}", file=sys.stderr, flush=True)
        seed += 1
    print(f"seeds {first} to {seed - 1}: {frames} frames, each in {len(runners.players)} ways, and all agree", file=sys.stderr)
    return 0


def replay(path: Path) -> int:
    try:
        race(from_text(path.read_text(encoding="utf-8")))
    except Disagreement as found:
        print(found)
        return 1
    print("all agree", file=sys.stderr)
    return 0


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m agreement.soak", description=__doc__, formatter_class=raw)
    parser.add_argument("--seed", type=int, default=0, help="the first one (default 0)")
    parser.add_argument("--minutes", type=float, default=10, help="no seed is begun after that (default 10)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of one seed (default {STEPS})")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play this script instead")
    options = parser.parse_args()
    faulthandler.enable()
    return replay(options.replay) if options.replay else soak(options.seed, options.minutes, options.steps)


if __name__ == "__main__":
    sys.exit(main())
