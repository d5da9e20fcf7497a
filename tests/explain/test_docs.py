"""The examples of docs/trace.md run as they stand, and print what stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dataplane.cli import main as command


@pytest.fixture
def examples(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Command line and output of each console block."""
    monkeypatch.chdir(checkout)
    text = (checkout / "docs" / "trace.md").read_text(encoding="utf-8")
    return re.findall(r"^```console\n\$ dataplane (.*)\n((?s:.*?))^```", text, re.MULTILINE)


def test_examples_print_what_the_text_shows(examples: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert len(examples) == 2
    for line, shown in examples:
        command.main(shlex.split(line))
        assert capsys.readouterr().out == shown
