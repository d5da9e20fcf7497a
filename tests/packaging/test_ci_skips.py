"""CI skips nothing: the hook of tests/conftest.py, tried on tests that skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_skips():
    pytest.skip("no tool")

@pytest.mark.may_skip("needs a big-endian machine")
def test_may_skip():
    pytest.skip("little-endian")

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False
"""
MODULE = "import pytest\npytest.skip('no tool', allow_module_level=True)\n"


def outcome(checkout: Path, folder: Path, source: str, ci: str) -> str:
    (folder / "conftest.py").write_text((checkout / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = may_skip(reason)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"CI": ci}, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1].partition(" in ")[0]


@pytest.mark.parametrize(
    ("source", "ci", "said"),
    [
        (SKIPPING, "", "2 skipped, 1 xfailed"),
        (SKIPPING, "true", "1 failed, 1 skipped, 1 xfailed"),
        (MODULE, "", "1 skipped"),
        (MODULE, "true", "1 error"),
    ],
)
def test_a_skip_is_a_failure_in_ci_unless_it_may(checkout: Path, tmp_path: Path, source: str, ci: str, said: str) -> None:
    assert outcome(checkout, tmp_path, source, ci) == said
