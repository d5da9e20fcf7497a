"""Small files of small functions: what has to be changed tomorrow has to be read today."""

from __future__ import annotations

from pathlib import Path

import pytest

from house.sources import functions, shown, source_files

pytestmark = pytest.mark.house

LONGEST_FILE = 800
LONGEST_FUNCTION = 60


def too_long_functions(path: Path) -> list[str]:
    return [f"{found.file}:{found.line} {found.name}: {found.lines} lines" for found in functions(path) if found.lines > LONGEST_FUNCTION]


def test_no_file_is_longer_than_800_lines() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    assert [line for path in source_files(".py", ".pyx", ".pxd") for line in too_long_functions(path)] == []


@pytest.mark.parametrize(
    ("suffix", "head"),
    [(".py", "def long():"), (".pyx", "cdef int long(int a,\n              int b) noexcept nogil:")],
)
def test_a_long_function_is_found(tmp_path: Path, suffix: str, head: str) -> None:
    source = tmp_path / f"long{suffix}"
    source.write_text(head + "\n" + "    x = 1\n" * LONGEST_FUNCTION + "\ndef short():\n    pass\n")
    assert [line.split()[1] for line in too_long_functions(source)] == ["long:"]
