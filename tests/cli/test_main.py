"""What every verb of the command line shares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from dataplane.cli import main as command
from dataplane.cli.verbs import VERBS
from dataplane.errors import InputError

HELP_SECONDS = 0.3


def dataplane(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dataplane.cli.main", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Makes ``dataplane stub`` call the function given."""

    def install(action: Callable[[], int]) -> None:
        module = types.ModuleType("dataplane.cli.stub")
        module.__dict__.update(HELP="a verb of the tests", configure=lambda parser: None, run=lambda args: action())
        monkeypatch.setitem(sys.modules, "dataplane.cli.stub", module)
        monkeypatch.setitem(VERBS, "stub", "a verb of the tests")

    return install


def raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


def test_the_table_of_verbs_equals_the_files(checkout: Path) -> None:
    shared = {"__init__", "main", "options", "verbs"}
    modules = {path.stem for path in (checkout / "dataplane" / "cli").glob("*.py")}
    assert modules - shared == set(VERBS)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_each_verb_helps_with_the_line_of_the_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([name, "--help"])
    assert stopped.value.code == 0
    assert VERBS[name] in " ".join(capsys.readouterr().out.split())


def test_help_lists_every_verb_and_imports_none() -> None:
    source = "import sys; from dataplane.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert [name for name in VERBS if f"\n  {name} " not in done.stdout] == []
    assert {f"dataplane.cli.{name}" for name in VERBS} & set(done.stderr.split()) == set()


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dataplane("--help")
        times.append(time.perf_counter() - start)
    assert min(times) < HELP_SECONDS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no verb given"),
        (["chekc"], "unknown verb 'chekc': did you mean check?"),
        (["check"], "dataplane check: the following arguments are required: PATH"),
        (["check", "--jobs", "0", "x"], "must be 1 or more"),
        (["check", "does/not/exist.json"], "does/not/exist.json: no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = dataplane(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.yaml:3: no such pod\nhere"), 2, "dataplane: a.yaml:3: no such pod here\n"),
        (FileNotFoundError(2, "No such file or directory", "in.pcap"), 2, "dataplane: in.pcap: No such file or directory\n"),
        (ZeroDivisionError("x"), 2, "dataplane: internal error: ZeroDivisionError: x (DATAPLANE_TRACEBACK=1 shows where)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_no_traceback(
    verb: Callable[[Callable[[], int]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    monkeypatch.delenv("DATAPLANE_TRACEBACK", raising=False)
    verb(raising(error))
    assert command.main(["stub"]) == code
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_ours_shows_its_traceback_on_demand(
    verb: Callable[[Callable[[], int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAPLANE_TRACEBACK", "1")
    verb(raising(ZeroDivisionError("x")))
    with pytest.raises(ZeroDivisionError):
        command.main(["stub"])


def test_a_reader_that_goes_away_is_no_error() -> None:
    source = (
        "import sys; from dataplane.cli.main import main; from dataplane.cli.verbs import VERBS;"
        "VERBS.update({str(n): 'x' * 99 for n in range(9999)}); sys.exit(main(['--help']))"
    )
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), complaints) == (141, b"")


def test_version_is_that_of_the_distribution(checkout: Path) -> None:
    from dataplane.version import __version__

    assert dataplane("--version").stdout == f"dataplane {__version__}\n"
    assert 'attr = "dataplane.version.__version__"' in (checkout / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("environment", "colour"), [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool) -> None:
    from dataplane.cli.options import use_colour

    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal, (Path(os.devnull)).open("w", encoding="utf-8") as no_terminal:
        assert use_colour(terminal) is colour
        assert use_colour(no_terminal) is False
    os.close(master)


def test_schema_prints_one_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["schema"]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))
