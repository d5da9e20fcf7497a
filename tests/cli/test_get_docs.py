"""docs/get.md, ipv6.md and mtu.md: every command in them prints what the text shows; a line of three dots stands for any lines."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dataplane.cli.main import main


@pytest.fixture(params=["get.md", "ipv6.md", "mtu.md"])
def document(request: pytest.FixtureRequest, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text, with the files that it shows, and those of the checkout's pcaps, in the working folder."""
    name: str = request.param
    text = (checkout / "docs" / name).read_text(encoding="utf-8")
    (tmp_path / "pcaps").symlink_to(checkout / "pcaps")
    for file, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        (tmp_path / file).write_text(f"# {file}\n{content}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return text


def test_commands_print_what_the_text_shows(document: str, capfd: pytest.CaptureFixture[str]) -> None:
    sessions = re.findall(r"^```console\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert sessions
    for session in sessions:
        for command, shown in re.findall(r"^\$ dataplane (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            main(shlex.split(command))
            printed = capfd.readouterr()
            pattern = re.escape(shown).replace(re.escape("...\n"), "(?:.*\n)+")
            assert re.fullmatch(pattern, printed.out), f"dataplane {command} prints\n{printed.out}"


def test_what_is_not_run_is_marked(document: str) -> None:
    blocks = re.findall(r"(.*)\n```(\w+)\n", document)
    assert {"console"} <= {kind for _, kind in blocks} <= {"yaml", "console", "sh"}
    assert all(before.startswith("<!-- not run:") for before, kind in blocks if kind == "sh")
