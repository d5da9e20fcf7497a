"""What a peer is, and what is common to them: the fastest of some passes, programs in C that are built when they are wanted."""

from __future__ import annotations

import importlib
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dataplane
from dataplane.bench.work import Settings

PASSES = 5


class Absent(Exception):
    """The peer is not here, or does not run here: why, and how to get it."""


@dataclass(frozen=True)
class Found:
    """One measurement of a peer."""

    name: str
    what: str  # it does, with its version
    row: str  # of ours that it is to be compared with
    unit: str
    least: float
    median: float


@dataclass(frozen=True)
class Peer:
    """A program, and the rows that it compares with."""

    name: str
    rows: tuple[str, ...]
    measure: Callable[[Settings, frozenset[str], Path], list[Found]]
    """Of the rows wanted, with a folder for files. Raises Absent."""


def module(name: str, package: str) -> Any:
    """A Python package that is no dependency of ours. Raises Absent."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Absent(f"the Python package {package} is missing: pip install {package}") from None


def timed_passes(settings: Settings, run: Callable[[], object], units: int) -> tuple[float, float]:
    """Least and median nanoseconds for each unit."""
    times = []
    for _ in range(1 if settings.quick else PASSES):
        start = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - start) / units)
    return min(times), statistics.median(times)


def source(name: str) -> Path:
    """A peer's program in ``bench/peers`` of a checkout. Raises Absent in an installed package."""
    path = Path(dataplane.__file__).parents[1] / "bench" / "peers" / name
    if not path.exists():
        raise Absent(f"bench/peers/{name} is not here: run it in a checkout of the repository")
    return path


def require(program: str, package: str) -> None:
    """Raises Absent where a program is not on the path."""
    if shutil.which(program) is None:
        raise Absent(f"{program} is missing: install the package {package}")


def built(call: Sequence[str], package: str) -> None:
    """Run a compiler. Raises Absent, with its last complaint."""
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise Absent(f"it cannot be built ({complaint.strip()}): install {package}")


def output(call: Sequence[str]) -> str:
    """Standard output of a program. Raises Absent, with what it complained of."""
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"{Path(call[0]).name} ended with {done.returncode}: {done.stderr.strip()[-200:] or 'nothing was said'}")
    return done.stdout
