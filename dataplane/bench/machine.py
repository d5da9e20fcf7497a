"""Where numbers come from: processor, caches, kernel, compiler and versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from dataplane import _build
from dataplane.bench.instructions import why_not
from dataplane.version import __version__

_CPU = Path("/sys/devices/system/cpu")


def machine() -> dict[str, Any]:
    """This machine; what it does not tell is an empty text."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "huge_pages": _read(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load": os.getloadavg()[0],
        "instruction_counter": why_not() or "perf_event_open",
    }


def build() -> dict[str, str]:
    """How the compiled core was made."""
    return {"compiler": _build.compiler(), "flags": _build.flags()}


def versions() -> dict[str, str]:
    """Of what runs."""
    return {"dataplane": __version__, "python": platform.python_version()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor()


def _caches() -> dict[str, str]:
    """Size by level of the first processor's, such as ``{"L1d": "32K", "L2": "1024K"}``."""
    found = {}
    for folder in sorted((_CPU / "cpu0" / "cache").glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_read(folder / "type"), "")
        found[f"L{_read(folder / 'level')}{kind}"] = _read(folder / "size")
    return found
