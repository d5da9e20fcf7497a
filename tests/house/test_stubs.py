"""The stubs of the compiled modules say what the modules hold."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dataplane.encap import registry
from house.sources import ROOT

pytestmark = [pytest.mark.house, pytest.mark.slow]


COMPILED = ("_core", "_build", "_lpm", "_rulebook", "_capture_read", "_capture_write", "_generate", "_declarative_encap", "_python_encap")


@pytest.mark.parametrize("module", [*(f"dataplane.{name}" for name in COMPILED), *registry.compiled().values()])
def test_stubs_hold(module: str) -> None:
    allowed = ["--allowlist", str(ROOT / "tools" / "stubtest-allowlist.txt"), "--ignore-unused-allowlist"]
    command = [sys.executable, "-m", "mypy.stubtest", *allowed, module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
