"""The commands of README.md and docs/run-and-replay.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cli.recorded import CLUSTER, ROOT, fields, run_scenario
from dataplane.cli.main import main
from dataplane.cli.verbs import VERBS

RUN_AND_REPLAY = (ROOT / "docs" / "run-and-replay.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the paths of the texts exist."""
    (tmp_path / "pcaps").symlink_to(ROOT / "pcaps")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("dataplane ")]


@pytest.mark.parametrize("command", commands(RUN_AND_REPLAY) + commands(README), ids=" ".join)
def test_commands_succeed(there: Path, command: list[str]) -> None:
    if "--bpf" in command:
        pytest.importorskip("pcapy")
    if "flows.pcap" in command:
        (example,) = blocks(RUN_AND_REPLAY, "python")
        exec(compile(example, "run-and-replay.md", "exec"), {})
    assert main(command) == 0
    for option in {"-w", "--per-interface"} & set(command):
        assert (there / command[command.index(option) + 1]).exists()


def test_the_scenario_of_the_text_runs_without_a_warning(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scenario,) = blocks(RUN_AND_REPLAY, "yaml")
    (there / "example.yaml").write_text(scenario)
    (there / "cluster.yaml").write_text(Path(CLUSTER).read_text())
    assert main(["run", "example.yaml"]) == 0
    output = capsys.readouterr()
    assert "warning" not in output.err
    assert [line.split()[0] for line in output.out.splitlines()[1:5]] == ["pings", "questions", "downloads", "closed"]


def test_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("run", "replay"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
    options = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", capsys.readouterr().out)) - {"--help", "--filename", "--read", "--write", "--quiet"}
    assert {option for option in options if f"`{option}" not in RUN_AND_REPLAY and f" {option} " not in RUN_AND_REPLAY} == set()


def test_the_python_example_says_why(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks(README, "python")
    assert len(example.splitlines()) == 5
    exec(compile(example, "README.md", "exec"), {})
    steps = capsys.readouterr().out.splitlines()
    assert any("destination is now" in step for step in steps)
    assert any("flannel.1" in step for step in steps)


def test_the_readmes_output_is_what_the_demo_prints(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_scenario(there / "out" / "sample.pcapng", scenario="pcaps/sample/scenario.yaml")
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = [line for line in blocks(README, "console")[0].splitlines() if line and not line.startswith("$") and line != "..."]
    assert len(shown) > 8
    assert [line for line in shown if line not in printed and "sample.pcapng" not in line] == []


def test_all_verbs_and_documents_are_listed() -> None:
    assert {verb for verb in VERBS if f"`dataplane {verb}" not in README} == set()
    documents = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {name for name in documents if f"(docs/{name})" not in README} == set()
    assert all((ROOT / link).exists() for link in re.findall(r"\]\(([^)#:]+)\)", README))


def test_the_hops_in_the_readme_are_those_of_the_demo(there: Path) -> None:
    run_scenario(there / "x.pcapng", scenario="pcaps/sample/scenario.yaml")
    rows = fields(there / "x.pcapng", "frame.packet_id == 5", "frame.interface_name", "ip.src", "ip.dst", "tcp.dstport", "frame.comment")
    hops = [line.split(maxsplit=4) for line in blocks(README, "text")[0].splitlines()]
    inner = [(name, source.split(",")[-1], f"{to.split(',')[-1]}:{port}", comment) for name, source, to, port, comment in rows]
    assert [(name, source, to, "".join(comment)) for name, source, _, to, *comment in hops] == inner
