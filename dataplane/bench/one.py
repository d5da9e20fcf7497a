"""One row at one size in a process of its own, so that no row sees what another left in memory: ``run`` starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict

from dataplane.bench.rows import ROWS, Row
from dataplane.bench.work import Measurement, Mismatch, Settings
from dataplane.errors import InputError

_MISMATCH = 3  # exit code


def arguments_of(row: Row, size: int, settings: Settings) -> list[str]:
    """The command that measures, and writes the measurement as JSON to standard output."""
    values = [row.name, str(size), str(settings.seed), str(int(settings.quick)), str(settings.passes)]
    return [sys.executable, "-m", "dataplane.bench.one", *values]


def run(row: Row, size: int, settings: Settings) -> Measurement:
    """Measure. Raises Mismatch, also where the process ends otherwise than it should: for want of memory, say."""
    with subprocess.Popen(arguments_of(row, size, settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        lines = _told(process.stderr, settings.say)
        out = process.stdout.read()
    if process.returncode:
        said = lines[-1].strip() if lines else "nothing was said"
        raise Mismatch(said if process.returncode == _MISMATCH else f"its process ended with {process.returncode}: {said}")
    return Measurement(**json.loads(out))


def _told(stream: Iterable[str], say: Callable[[str], None]) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line.rstrip("\n"))
        if line.startswith("  "):
            say(line.strip())
    return lines


def main(arguments: list[str]) -> int:
    """Measure what the arguments say; the measurement as JSON on standard output, progress and complaints on standard error."""
    name, size, seed, quick, passes = arguments

    def say(message: str) -> None:
        print(f"  {message}", file=sys.stderr, flush=True)

    settings = Settings(int(seed), bool(int(quick)), int(passes), say)
    try:
        measurement = ROWS[name].make(settings, int(size)).measure(settings)
    except (Mismatch, InputError) as error:
        print(str(error), file=sys.stderr)
        return _MISMATCH
    json.dump(asdict(measurement), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
