"""Finds case files, runs each by its kind and says what differs.

Text: one line per failure, then ``N passed, M failed, K skipped``. JSON Lines: an object of schema
``dataplane.check.case`` per case and one of ``dataplane.check.summary``. Nothing is ever skipped.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.errors import InputError

SCHEMA_VERSION = 1
PROCESS_DIED = "a process that ran cases died: run this case alone to see whether it is the cause"

RUNNERS = {
    "frames": "dataplane.testing.kinds.frames:run",
    "route_table": "dataplane.testing.kinds.lpm:run",
    "invalid_input": "dataplane.testing.kinds.lpm:run",
    "flow": "dataplane.testing.kinds.kubeproxy:run",
    "categorize": "dataplane.testing.kinds.kubeproxy:run",
    "identifier_table": "dataplane.testing.kinds.kubeproxy:run",
    "probability_table": "dataplane.testing.kinds.kubeproxy:run",
    "ipvs_table": "dataplane.testing.kinds.kubeproxy:run",
    "packet_sequence": "dataplane.testing.kinds.conntrack:run",
    "state_walk": "dataplane.testing.kinds.conntrack:run",
    "state_table": "dataplane.testing.kinds.conntrack:run",
    "timeout_table": "dataplane.testing.kinds.conntrack:run",
    "cleanup": "dataplane.testing.kinds.conntrack:run",
    "capture": "dataplane.testing.kinds.encap:run",
    "encap": "dataplane.testing.kinds.encap:run",
    "decap": "dataplane.testing.kinds.encap:run",
    "header": "dataplane.testing.kinds.encap:run",
}
"""Kind to ``module:function``; the function is ``run(case, path) -> failure lines``. Imported when the first case of the kind comes."""

EMITTERS = {"frames": "dataplane.testing.kinds.frames:run_and_emit"}
"""Kinds whose results ``--emit`` writes; the function is ``run_and_emit(case, path, target) -> failure lines``."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case; it passed if ``failures`` is empty."""

    path: str
    name: str
    kind: str
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One case to run; ``target`` is the file that its results are written to, if any."""

    path: Path
    target: Path | None


def is_helper(relative: Path) -> bool:
    return any(part.startswith("_") for part in relative.parts)


def find_cases(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Case files in the order given, each once, folders sorted.

    Whatever is not ``*.json`` or starts with ``_`` is no case. Raises InputError for a path that does not exist, and if nothing is left.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update((file, None) for file in sorted(path.rglob("*.json")) if not is_helper(file.relative_to(path)))
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder: name case files (*.json) or folders of them")
        elif path.suffix == ".json" and not is_helper(Path(path.name)):
            found[path] = None
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no case files (*.json) there")
    return list(found)


def targets(paths: Sequence[str | os.PathLike[str]], cases: Sequence[Path], emit: Path) -> list[Path]:
    """Where each case's results go: its place below the deepest folder that holds all that was named."""
    named = [path if path.is_dir() else path.parent for path in map(Path, paths)]
    base = os.path.commonpath([folder.resolve() for folder in named])
    return [emit / case.resolve().relative_to(base) for case in cases]


def read_case(path: Path) -> dict[str, Any]:
    """The case in ``path``; InputError if it is not a JSON object with a ``kind``."""
    try:
        case = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both
        raise InputError(f"not JSON: {error}") from error
    if not isinstance(case, dict) or not isinstance(case.get("kind"), str):
        raise InputError("not a case: a JSON object with a `kind` is expected (names of helper files start with _)")
    return case


def load_function(where: str) -> Callable[..., list[str]]:
    module, _, name = where.partition(":")
    function: Callable[..., list[str]] = getattr(importlib.import_module(module), name)
    return function


def failures_of(case: dict[str, Any], job: Job) -> list[str]:
    kind = case["kind"]
    if kind not in RUNNERS:
        return [f"unknown kind {kind!r}: known are {', '.join(sorted(RUNNERS))}"]
    if job.target is not None and kind in EMITTERS:
        return load_function(EMITTERS[kind])(case, job.path, job.target)
    return load_function(RUNNERS[kind])(case, job.path)


def run_case(job: Job) -> Result:
    """Run one case; a broken case, or a fault of ours, is a failure of this case and of no other."""
    name, kind = job.path.stem, ""
    try:
        case = read_case(job.path)
        name, kind = str(case.get("name", name)), case["kind"]
        failures = failures_of(case, job)
    except InputError as error:
        failures = [str(error)]
    except Exception as error:
        if os.environ.get("DATAPLANE_TRACEBACK"):
            traceback.print_exc()
        failures = [f"could not be run: {type(error).__name__}: {error} (DATAPLANE_TRACEBACK=1 shows where)"]
    return Result(str(job.path), name, kind, tuple(" ".join(line.split()) for line in failures))


def handed_in(pool: ProcessPoolExecutor, job: Job) -> Future[Result] | None:
    """None: a process has died already, and nothing more is taken."""
    try:
        return pool.submit(run_case, job)
    except BrokenProcessPool:
        return None


def run_in_processes(work: Sequence[Job], jobs: int) -> Iterator[Result]:
    """Results in the order of ``work``; cases that a dying process took along are failures."""
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        pending = [(job, handed_in(pool, job)) for job in work]
        for job, future in pending:
            died = Result(str(job.path), job.path.stem, "", (PROCESS_DIED,))
            try:
                yield future.result() if future is not None else died
            except BrokenProcessPool:
                yield died


def text_lines(result: Result) -> Iterable[str]:
    return [f"{result.path}: {line}" for line in result.failures]


def json_text(result: Result) -> Iterable[str]:
    yield json.dumps(
        {
            "schema": "dataplane.check.case",
            "version": SCHEMA_VERSION,
            "path": result.path,
            "name": result.name,
            "kind": result.kind,
            "passed": not result.failures,
            "failures": list(result.failures),
        }
    )


def summary_line(passed: int, failed: int, json_lines: bool) -> str:
    if json_lines:
        summary = {"schema": "dataplane.check.summary", "version": SCHEMA_VERSION}
        return json.dumps(summary | {"passed": passed, "failed": failed, "skipped": 0})
    return f"{passed} passed, {failed} failed, 0 skipped"


def run_paths(
    paths: Sequence[str | os.PathLike[str]], *, jobs: int = 1, emit: str | os.PathLike[str] | None = None, json_lines: bool = False
) -> int:
    """Run every case under ``paths``, print the results and return the exit code: 0 if all passed, else 1."""
    cases = find_cases(paths)
    emitted = [None] * len(cases) if emit is None else targets(paths, cases, Path(emit))
    work = [Job(case, target) for case, target in zip(cases, emitted, strict=True)]
    results = run_in_processes(work, min(jobs, len(work))) if jobs > 1 else map(run_case, work)
    describe = json_text if json_lines else text_lines
    passed = failed = 0
    for result in results:
        for line in describe(result):
            print(line)
        passed += not result.failures
        failed += bool(result.failures)
    sys.stdout.flush()
    print(summary_line(passed, failed, json_lines))
    return 1 if failed else 0
