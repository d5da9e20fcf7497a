"""Instructions for each unit of work as valgrind counts them: the same on every machine, and not disturbed by others on it.

A row is run with one and with two passes that count, collecting only inside of the core's function; the difference is a pass.
Since a pass takes a hundred times as long, it is a short one, and sizes are capped: instructions do not count what misses a cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from dataplane.bench.one import arguments_of
from dataplane.bench.rows import ROWS
from dataplane.bench.run import Document
from dataplane.bench.work import Settings
from dataplane.errors import InputError

_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
_INSIDE = "__pyx_pw_*Engine_*carry"
_LARGEST = 1000


def count_by_callgrind(document: Document, settings: Settings) -> None:
    """Fill in the instructions of every point whose row carries frames in its own process.

    Raises InputError without valgrind.
    """
    if shutil.which("valgrind") is None:
        raise InputError("--callgrind needs valgrind: install the package valgrind")
    for row in document["rows"]:
        for point in row["points"]:
            settings.say(f"callgrind: {row['name']} {point['size']:,}")
            size = min(point["size"], _LARGEST)
            (once, units), (twice, _) = (_collected(row["name"], size, replace(settings, passes=passes, quick=True)) for passes in (1, 2))
            if twice > once:  # else nothing was done inside
                point["instructions"] = (twice - once) / units
    document["machine"]["instruction_counter"] = "valgrind --tool=callgrind"


def _collected(name: str, size: int, settings: Settings) -> tuple[int, int]:
    """Instructions inside of the core's function, and units of work in a pass."""
    with tempfile.TemporaryDirectory(prefix="dataplane-bench-") as folder:
        out = Path(folder) / "callgrind.out"
        options = ["--tool=callgrind", f"--callgrind-out-file={out}", f"--toggle-collect={_INSIDE}"]
        command = ["valgrind", "-q", *options, *arguments_of(ROWS[name], size, settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})
        found = _TOTAL.search(out.read_text(encoding="utf-8")) if out.exists() else None
    if done.returncode or found is None:
        raise InputError(f"{name}: under valgrind it ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return int(found[1]), int(json.loads(done.stdout)["units"])
