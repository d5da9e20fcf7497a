"""The commands of docs/compare.md run as they stand, and print what stands there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from cli.recorded import ROOT
from dataplane.cli import main as command
from dataplane.control.cni.data_paths import known_paths

TEXT = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^dataplane (.*)$", "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)), re.MULTILINE)
EXAMPLE = re.findall(r"^```console\n\$ dataplane (.*)\n((?s:.*?))^```", TEXT, re.MULTILINE)


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder in which the paths of the text exist."""
    (tmp_path / "pcaps").symlink_to(ROOT / "pcaps")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)


def test_the_example_prints_what_the_text_shows(capsys: pytest.CaptureFixture[str]) -> None:
    ((line, shown),) = EXAMPLE
    assert command.main(shlex.split(line)) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_succeed(line: str) -> None:
    if "--picture" in line:
        pytest.importorskip("matplotlib")
    assert command.main(shlex.split(line)) == 0


def test_options_and_data_paths_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["compare", "--help"])
    everywhere = {"--help", "--filename", "--namespace", "--output", "--quiet"}
    options = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", capsys.readouterr().out)) - everywhere
    assert {option for option in options if f"`{option}" not in TEXT} == set()
    assert {path for path in known_paths()[:9] if f"`{path}`" not in TEXT} == set()


def test_the_names_of_the_json_are_those_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["compare", "-q", "-f", "pcaps/clusters/calico.yaml", "--paths", "calico", "--sizes", "64", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {*found, *found["paths"][0], *found["paths"][0]["results"][0]}
    known = {"cluster", "family", "seed", "rate", "packets", "name", "podMtu", "flow", "size", "dontFragment"}
    assert {name for name in wanted - known if f"`{name}`" not in TEXT and f"\n| {name} " not in TEXT} == set()
