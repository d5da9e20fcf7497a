"""``dataplane bench`` as its users call it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dataplane.bench.peers.peer import Absent, Found, Peer
from dataplane.bench.rows import ROWS
from dataplane.cli.main import main

Bench = Callable[..., tuple[int, str, str]]

POINT = {
    "type": "object",
    "required": ["size", "least", "median", "passes", "units", "instructions", "bytes_per_entry", "checked", "details"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "least": {"type": "number", "minimum": 0},
        "median": {"type": "number", "minimum": 0},
        "passes": {"type": "integer", "minimum": 1},
        "units": {"type": "integer", "minimum": 1},
        "instructions": {"type": ["number", "null"]},
        "bytes_per_entry": {"type": ["number", "null"]},
        "checked": {"type": "string", "minLength": 1},
        "details": {"type": "object"},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["schema", "version", "machine", "build", "versions", "seed", "quick", "rows", "peers", "absent_peers"],
    "properties": {
        "schema": {"const": "dataplane/bench"},
        "version": {"const": 1},
        "machine": {
            "type": "object",
            "required": ["cpu", "cpus", "caches", "memory_bytes", "kernel", "huge_pages", "load", "instruction_counter"],
        },
        "build": {"type": "object", "required": ["compiler", "flags"]},
        "versions": {"type": "object", "required": ["dataplane", "python"]},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "what", "unit", "goal", "size_is", "wrong", "points"],
                "properties": {"points": {"type": "array", "items": POINT, "minItems": 1}, "wrong": {"const": ""}},
            },
        },
    },
}


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    """Exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["bench", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of two rows wrote."""
    from dataplane.bench.rows import select
    from dataplane.bench.run import measure
    from dataplane.bench.work import Settings

    path = tmp_path_factory.mktemp("bench") / "measured.json"
    document = measure(select(["forward/1-route", "growth/lpm"]), Settings(quick=True))
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def scaled(path: Path, row: str, factor: float, folder: Path) -> str:
    """The same document, one row of which took ``factor`` times as long."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for each in document["rows"]:
        for point in each["points"] if each["name"] == row else ():
            point["least"] *= factor
    target = folder / "scaled.json"
    target.write_text(json.dumps(document), encoding="utf-8")
    return str(target)


@pytest.mark.parametrize(
    "name", ["forward/1m-routes", "service/vxlan-in/1k/random", "memory/v6", "cluster/5000-nodes", "capture/all-interfaces"]
)
def test_json_says_what_was_measured_where_and_how(bench: Bench, name: str) -> None:
    code, out, err = bench(name, "--quick", "--json", "--seed", "7")
    assert code == 0
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert [row["name"] for row in document["rows"]] == [name]
    assert (document["seed"], document["quick"]) == (7, True)
    assert re.search(r"gcc|clang", document["build"]["compiler"], re.IGNORECASE)
    assert "-O" in document["build"]["flags"]
    assert name in err  # progress


def test_instructions_are_counted_or_there_is_a_reason(measured: Path) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    counted = [point["instructions"] is not None for row in document["rows"] for point in row["points"]]
    assert all(counted) == (document["machine"]["instruction_counter"] == "perf_event_open")
    assert document["machine"]["instruction_counter"]


def test_a_curve_has_a_point_for_each_size_and_says_how_much_they_differ(measured: Path) -> None:
    curve = json.loads(measured.read_text(encoding="utf-8"))["rows"][1]
    costs = [point["least"] for point in curve["points"]]
    assert len(costs) > 1
    assert curve["growth"] == max(costs) / min(costs)


def test_a_row_that_became_slower_is_1(bench: Bench, measured: Path, tmp_path: Path) -> None:
    code, out, _ = bench("--read", str(measured), "--compare", scaled(measured, "forward/1-route", 0.5, tmp_path))
    assert code == 1
    assert re.search(r"^forward/1-route .* 2\.00 +slower$", out, re.MULTILINE)
    assert re.search(r"^growth/lpm .* 1\.00 +same$", out, re.MULTILINE)


def test_a_row_within_the_tolerance_or_faster_is_0(bench: Bench, measured: Path, tmp_path: Path) -> None:
    earlier = scaled(measured, "forward/1-route", 0.5, tmp_path)
    assert bench("--read", str(measured), "--compare", earlier, "--tolerance", "2.1")[0] == 0
    code, out, _ = bench("--read", str(measured), "--compare", scaled(measured, "forward/1-route", 3, tmp_path))
    assert code == 0
    assert re.search(r"^forward/1-route .* 0\.33 +faster$", out, re.MULTILINE)


def test_the_comparison_is_in_the_json_too(bench: Bench, measured: Path, tmp_path: Path) -> None:
    earlier = scaled(measured, "forward/1-route", 0.5, tmp_path)
    code, out, _ = bench("--read", str(measured), "--compare", earlier, "--json")
    rows = {row["name"]: row for row in json.loads(out)["comparison"]}
    assert code == 1
    assert rows["forward/1-route"]["slower"]
    assert rows["forward/1-route"]["ratio"] == pytest.approx(2)
    assert not rows["growth/lpm"]["slower"]


def test_another_machine_is_a_warning(bench: Bench, measured: Path, tmp_path: Path) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    document["machine"]["cpu"] = "abacus"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    _, _, err = bench("--read", str(measured), "--compare", str(other))
    assert "machine differs: cpu was 'abacus'" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lpm/v5",), "no row is called 'lpm/v5': there are lpm/v4-1m, "),
        (("--compare", "nothing.json"), "nothing.json: No such file"),
        (("--compare", "other.json"), "other.json: its schema is not dataplane/bench"),
        (("--read", "broken.json"), "broken.json: this is not JSON"),
        (("--read", "newer.json"), "newer.json: version 2 of dataplane/bench is not 1"),
    ],
)
def test_wrong_names_and_files_are_2_and_one_line(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}", encoding="utf-8")
    Path("broken.json").write_text("{", encoding="utf-8")
    Path("newer.json").write_text('{"schema": "dataplane/bench", "version": 2}', encoding="utf-8")
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def _without_machine(document: dict[str, Any]) -> None:
    del document["machine"]


def _without_unit(document: dict[str, Any]) -> None:
    del document["rows"][0]["unit"]


def _without_least(document: dict[str, Any]) -> None:
    del document["rows"][1]["points"][0]["least"]


def _without_growth_goal(document: dict[str, Any]) -> None:
    del document["rows"][1]["growth_goal"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_without_machine, "part.json: a document without machine; "),
        (_without_unit, "part.json: a row without unit; "),
        (_without_least, "part.json: a point without least; "),
        (_without_growth_goal, "part.json: a row without growth_goal; "),
    ],
)
def test_a_document_that_lacks_something_is_2_and_one_line(
    bench: Bench, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Any]], None], says: str
) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    spoil(document)
    monkeypatch.chdir(tmp_path)
    Path("part.json").write_text(json.dumps(document), encoding="utf-8")
    code, out, err = bench("--read", "part.json", "-o", "markdown")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_names_choose_rows_by_beginning_and_by_pattern(bench: Bench) -> None:
    def listed(*names: str) -> list[str]:
        return [line.split()[0] for line in bench("--list", *names)[1].splitlines()]

    assert listed() == list(ROWS)
    assert listed("memory") == ["memory/v4", "memory/v6"]
    assert listed("*/1k/random", "lpm") == ["lpm/v4-1m", "lpm/v6-200k", "service/vxlan-out/1k/random", "service/vxlan-in/1k/random"]


def test_a_row_whose_frames_are_wrong_is_1_and_has_no_numbers(bench: Bench, measured: Path, tmp_path: Path) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    document["rows"][0] |= {"wrong": "frame 0 is not the frame it should be", "points": []}
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    code, out, _ = bench("--read", str(path))
    assert code == 1
    assert "wrong: forward/1-route: frame 0 is not the frame it should be" in out


def test_a_mismatch_in_a_rows_process_reaches_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataplane.bench import run
    from dataplane.bench.work import Mismatch, Settings

    def fails(*arguments: Any) -> None:
        raise Mismatch("a byte differs")

    monkeypatch.setattr(run, "run", fails)
    document = run.measure([ROWS["forward/1-route"]], Settings(quick=True))
    assert (document["rows"][0]["wrong"], document["rows"][0]["points"]) == ("a byte differs", [])
    assert run.wrong_rows(document) == ["forward/1-route"]


def test_a_row_whose_process_dies_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataplane.bench import one, run
    from dataplane.bench.work import Settings

    def dying(*arguments: Any) -> list[str]:
        return [sys.executable, "-c", "import os, sys; print('so far', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"]

    monkeypatch.setattr(one, "arguments_of", dying)
    document = run.measure([ROWS["forward/1-route"], ROWS["memory/v4"]], Settings(quick=True))
    assert [row["wrong"] for row in document["rows"]] == ["its process ended with -9: so far"] * 2


def test_peers_that_are_here_are_compared_and_those_that_are_not_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataplane.bench.peers import run

    def here(*arguments: Any) -> list[Found]:
        return [Found("snail", "crawls", "forward/1-route", "ns/packet", 1e6, 2e6)]

    def absent(*arguments: Any) -> list[Found]:
        raise Absent("snail2 is missing: install a garden")

    peers = [Peer("snail", ("forward/1-route",), here), Peer("snail2", ("forward/1-route",), absent), Peer("x", ("lpm/v4-1m",), absent)]
    monkeypatch.setattr(run, "PEERS", peers)
    code, out, _ = bench("forward/1-route", "--quick", "--peers")
    assert code == 0
    assert re.search(r"^snail +crawls +1,000,000 +ns/packet +forward/1-route", out, re.MULTILINE)
    assert out.splitlines()[-1] == "not here: snail2: snail2 is missing: install a garden"


def test_the_markdown_is_a_table_of_the_same_rows(bench: Bench, measured: Path) -> None:
    _, out, _ = bench("--read", str(measured), "-o", "markdown")
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    assert [row[0] for row in rows[2:]] == ["| forward/1-route", "| growth/lpm", "| growth/lpm"]


def test_the_picture_is_drawn(bench: Bench, measured: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert bench("--read", str(measured), "--picture", str(tmp_path / "bench.png"))[0] == 0
    assert (tmp_path / "bench.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    code, _, err = bench("--read", str(measured), "--picture", str(tmp_path / "bench.xyz"))
    assert (code, err.count("\n")) == (2, 1)


def test_a_picture_without_matplotlib_is_2_before_anything_is_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = bench("forward/1-route", "--quick", "--picture", "x.png")
    assert (code, out) == (2, "")
    assert "pip install 'podplane[plots]'" in err
