"""The runner of case files, tried on small cases of kind route_table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import InputError
from dataplane.testing import check


def route_case(expected: str | None) -> dict[str, Any]:
    """One route and one look-up of an address under it; right if ``expected`` is "a"."""
    ops = [
        {"op": "add", "prefix": "10.0.0.0/8", "next_hop": "a"},
        {"op": "lookup", "addr": "10.1.2.3", "expect": expected},
    ]
    return {"name": "one-route", "suite": "lpm", "kind": "route_table", "family": 4, "ops": ops}


RIGHT, WRONG = route_case("a"), route_case("b")


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_all_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"a.json": RIGHT, "deep/er/b.json": RIGHT})
    assert check.run_paths([tmp_path]) == 0
    assert printed(capsys) == ["2 passed, 0 failed, 0 skipped"]


def test_a_failure_is_a_line_that_names_the_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"a.json": RIGHT, "b.json": WRONG})
    assert check.run_paths([tmp_path]) == 1
    lines = printed(capsys)
    assert lines[0].startswith(f"{tmp_path / 'b.json'}: ")
    assert lines[1:] == ["1 passed, 1 failed, 0 skipped"]


def test_helpers_are_no_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helpers = {"_layout.json": "{}", "_old/c.json": WRONG, "README.md": "#", "NOTES.md": "#", "cluster.yaml": "kind: Cluster"}
    write(tmp_path, {"a.json": RIGHT, **helpers})
    assert check.run_paths([tmp_path, tmp_path / "NOTES.md", tmp_path / "cluster.yaml"]) == 0
    assert printed(capsys) == ["1 passed, 0 failed, 0 skipped"]


def test_a_folder_below_one_with_an_underscore_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "_mine", {"a.json": RIGHT})
    assert check.run_paths([tmp_path / "_mine"]) == 0
    assert printed(capsys) == ["1 passed, 0 failed, 0 skipped"]


def test_a_case_named_twice_runs_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"a.json": RIGHT})
    check.run_paths([tmp_path, tmp_path / "a.json"])
    assert printed(capsys) == ["1 passed, 0 failed, 0 skipped"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a case"),
        ('{"name": "x"}', "not a case"),
        ('{"kind": "no_such_kind"}', "unknown kind 'no_such_kind'"),
        ('{"kind": "route_table"}', ""),
        ('{"kind": "route_table", "family": 4, "ops": 7}', ""),
        ('{"kind": "frames"}', ""),
        ('{"kind": "frames", "cluster": "absent.yaml", "setup": [], "pins": [], "steps": []}', "absent.yaml"),
    ],
)
def test_a_broken_case_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str) -> None:
    write(tmp_path, {"a.json": RIGHT, "bad.json": content})
    assert check.run_paths([tmp_path]) == 1
    complaint, summary = printed(capsys)
    assert complaint.startswith(f"{tmp_path / 'bad.json'}: ")
    assert said in complaint
    assert summary == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_nothing_to_check_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        check.run_paths([tmp_path / name])


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"a.json": RIGHT, "b.json": WRONG})
    assert check.run_paths([tmp_path], json_lines=True) == 1
    *cases, summary = map(json.loads, printed(capsys))
    assert [(case["path"], case["name"], case["kind"], case["passed"], len(case["failures"])) for case in cases] == [
        (str(tmp_path / "a.json"), "one-route", "route_table", True, 0),
        (str(tmp_path / "b.json"), "one-route", "route_table", False, 1),
    ]
    assert summary == {"schema": "dataplane.check.summary", "version": 1, "passed": 1, "failed": 1, "skipped": 0}
    assert {(case["schema"], case["version"]) for case in cases} == {("dataplane.check.case", 1)}


def test_several_processes_say_the_same_in_the_same_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {f"{number}.json": WRONG if number % 3 else RIGHT for number in range(10)})
    outputs = []
    for jobs in (1, 3):
        check.run_paths([tmp_path], jobs=jobs)
        outputs.append(printed(capsys))
    assert outputs[0] == outputs[1]


def test_a_case_that_kills_its_process_is_a_failure(tmp_path: Path, checkout: Path) -> None:
    write(tmp_path, {"a.json": {"kind": "dies"}, "b.json": {"kind": "dies"}})
    source = (
        "import multiprocessing, sys; multiprocessing.set_start_method('fork');"
        "from dataplane.testing import check; check.RUNNERS['dies'] = 'testing.dying_kind:run';"
        "sys.exit(check.run_paths(sys.argv[1:], jobs=2))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(checkout / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", source, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 passed, 2 failed, 0 skipped"


def test_a_process_that_dies_before_all_cases_are_handed_in_fails_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(ProcessPoolExecutor):
        taken = 0

        def submit(self, *work: Any, **more: Any) -> Any:
            self.taken += 1
            if self.taken > 2:
                raise BrokenProcessPool("a process has died")
            return super().submit(*work, **more)

    monkeypatch.setattr(check, "ProcessPoolExecutor", Dying)
    write(tmp_path, {f"{number}.json": RIGHT for number in range(4)})
    assert check.run_paths([tmp_path], jobs=2) == 1
    *lines, summary = printed(capsys)
    assert [line.partition(": ")[2] for line in lines] == [check.PROCESS_DIED] * 2
    assert summary == "2 passed, 2 failed, 0 skipped"


def test_emitted_files_lie_as_the_cases_do(tmp_path: Path) -> None:
    cases = [tmp_path / "x" / "a.json", tmp_path / "y" / "z" / "a.json"]
    write(tmp_path, {"x/a.json": RIGHT, "y/z/a.json": RIGHT})
    out = Path("out")
    assert check.targets([tmp_path], cases, out) == [out / "x" / "a.json", out / "y" / "z" / "a.json"]
    assert check.targets([tmp_path / "y"], cases[1:], out) == [out / "z" / "a.json"]
    assert check.targets(cases, cases, out) == [out / "x" / "a.json", out / "y" / "z" / "a.json"]
