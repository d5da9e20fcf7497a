"""Rows that time whole commands, as their users start them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from dataplane.bench.work import Mismatch

COMMAND = (sys.executable, "-m", "dataplane.cli.main")


def command(*arguments: str) -> str:
    """Run ``dataplane ARGUMENTS``; its standard output. Raises Mismatch where it fails."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Mismatch(f"dataplane {' '.join(arguments)}: exit code {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def timed(call: Sequence[str]) -> float:
    """Seconds that a command takes. Raises OSError, CalledProcessError."""
    start = time.perf_counter()
    subprocess.run(call, check=True, capture_output=True)
    return time.perf_counter() - start
