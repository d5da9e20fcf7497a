"""docs/performance.md: its commands run, its options, rows and peers are those that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.bench.peers.run import PEERS
from dataplane.bench.rows import ROWS
from dataplane.cli.main import main


@pytest.fixture
def document(checkout: Path) -> str:
    return (checkout / "docs" / "performance.md").read_text(encoding="utf-8")


def test_commands_succeed(document: str, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m dataplane.cli.main"
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", document, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        call = line.replace("dataplane", command, 1)
        done = subprocess.run(call, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)


def test_every_option_is_documented(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help", "--output", "--quiet", "--seed"}
    assert {option for option in options if option not in document} == set()


def test_every_row_and_peer_is_described(document: str) -> None:
    groups = {name.split("/")[0] for name in ROWS}
    assert {group for group in groups if f"`{group}/" not in document} == set()
    assert {peer.name for peer in PEERS if peer.name.lower() not in document.lower()} == set()


def test_the_table_and_the_picture_are_of_rows_that_there_are(document: str, checkout: Path) -> None:
    (measured,) = re.findall(r"<!-- measured -->\n(.*?)<!-- /measured -->", document, re.DOTALL)
    rows = re.findall(r"^\| ([a-z0-9-]+/[\w/-]+) \|", measured, re.MULTILINE)
    assert rows
    assert {row for row in rows if row not in ROWS} == set()
    assert (checkout / "docs" / "performance.png").exists()
