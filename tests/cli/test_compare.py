"""``dataplane compare`` as its users call it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane.cli import main as command
from explain.mtu_clusters import cluster_text, flannel

Compare = Callable[..., tuple[int, str, str]]
PATHS = "flannel-vxlan,flannel-host-gw,calico"


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Exit code, standard output and standard error for the small cluster."""
    path = tmp_path / "cluster.yaml"
    path.write_text(cluster_text(flannel("vxlan")), encoding="utf-8")

    def run(*more: str) -> tuple[int, str, str]:
        code = command.main(["compare", "-f", str(path), "--packets", "12", *more])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def table(out: str, title: str) -> list[list[str]]:
    """Cells of the table below a title."""
    (found,) = (part for part in out.split("\n\n") if part.startswith(title))
    return [re.split(r" {3,}", line) for line in found.splitlines()[1:]]


def test_the_table_has_a_line_for_each_path(compare: Compare) -> None:
    code, out, err = compare("--no-time", "--sizes", "64,1518")
    assert code == 0
    assert err.splitlines() == ["flannel-vxlan (1 of 3)", "flannel-host-gw (2 of 3)", "calico (3 of 3)"]
    rows = table(out, "Bytes on the wire")
    assert rows[0] == ["FLOW", "PATH", "POD MTU", "64", "1518"]
    assert rows[1:4] == [
        ["pod to pod, other node", "flannel-vxlan", "1450", "114 +50", "1656 +138*"],
        ["pod to pod, other node", "flannel-host-gw", "1500", "64 +0", "1518 +0"],
        ["pod to pod, other node", "calico", "1500", "64 +0", "1518 +0"],
    ]
    goodput = table(out, "Goodput in Gbit/s")
    assert [row[3] for row in goodput[1:4]] == ["1.34", "2.14", "2.14"]
    lost = [row for row in table(out, "Fragmentation and losses") if row[3] == "yes"]
    assert lost[0] == ["pod to pod, other node", "flannel-vxlan", "1518", "yes", "12", "0", "0", "0", "0", "12 output/too_big"]
    assert "measured" not in out


def test_times_stand_apart_and_say_that_they_are_of_this_machine(compare: Compare) -> None:
    _, out, _ = compare("--sizes", "64", "-q")
    before, _, after = out.partition("ns per packet in our core by stage")
    assert "measured on this machine" in after.splitlines()[0]
    assert compare("--sizes", "64", "-q", "--no-time")[1] == before.removesuffix("\n")
    stages = {line.split()[0]: line.split()[1:] for line in after.splitlines()[2:]}
    assert stages["tunnel_out"][2:] == ["<none>", "<none>"]
    assert all(int(total) > 0 for total in stages["all"][1:])


def test_json_names_its_schema_and_separates_what_was_measured(compare: Compare) -> None:
    _, out, _ = compare("-o", "json", "--sizes", "64,imix,tcp", "--rate", "1G", "--seed", "7", "-q")
    found = json.loads(out)
    assert list(found) == [
        *("schema", "version", "cluster", "family", "seed", "rate", "packets", "sizes", "flows", "paths", "measured"),
    ]
    assert (found["schema"], found["version"], found["rate"], found["seed"]) == ("dataplane/compare", 1, 10**9, 7)
    assert found["cluster"] == {"name": "cluster", "nodes": 2, "pods": 3}
    assert found["sizes"] == {"64": [64], "imix": [64] * 7 + [594] * 4 + [1518], "tcp": []}
    first = found["paths"][0]["results"][0]
    assert first == {
        "flow": "pod/default/a to pod/default/c",
        "size": "64",
        "dontFragment": False,
        "sent": 12,
        "arrived": 12,
        "retransmitted": 0,
        "payloadBytes": 12 * 18,
        "senderLink": {"frames": 12, "bytes": 12 * 114, "bytesWithGaps": 12 * 134},
        "allLinks": {"frames": 12, "bytes": 12 * 114},
        "bytesPerPacket": 114.0,
        "addedPerPacket": 50.0,
        "goodput": 10**9 * 18 // 134,
        "fragmentsMade": 0,
        "icmpTooBig": 0,
        "toldMtu": None,
        "drops": {},
        "error": None,
    }
    assert set(found["measured"]["paths"]) == set(PATHS.split(","))
    times = found["measured"]["paths"]["calico"]["pod/default/a to pod/default/c"]
    assert times["stages"]["forward"]["visits"] == 2
    assert times["ns"] == pytest.approx(sum(each["ns"] for each in times["stages"].values()), abs=1)


def test_two_runs_with_one_seed_differ_in_what_was_measured_alone(compare: Compare) -> None:
    one, other = (json.loads(compare("-o", "json", "--sizes", "64,tcp", "--seed", "3")[1]) for _ in range(2))
    assert one.pop("measured") is not None
    assert other.pop("measured") is not None
    assert one == other
    assert json.loads(compare("-o", "json", "--sizes", "64", "--no-time")[1])["measured"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--paths", "calico,flannel"), "'flannel' is no data path: choose from flannel-vxlan, "),
        (("--sizes", "63"), "--sizes: '63' is none"),
        (("--rate", "fast"), "--rate fast: write a number"),
        (("--flow", "pod/a"), "path flannel-vxlan: --flow pod/a: write FROM,TO"),
        (("--family", "6"), "path flannel-vxlan: there is nothing to compare between nodes"),
        (("--picture", "x.gif"), "--picture x.gif: write a name that ends in .png or .svg"),
        (("--picture", "nowhere/x.png"), "--picture nowhere/x.png: there is no such folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(compare: Compare, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = compare("-q", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"dataplane: {said}")


def test_a_picture_without_matplotlib_names_the_extra(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = compare("--picture", str(tmp_path / "x.png"))
    assert (code, out) == (2, "")
    assert err == "dataplane: --picture needs the package matplotlib: pip install 'podplane[plots]'\n"


def test_pictures_of_one_seed_are_the_same(compare: Compare, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = [str(tmp_path / name) for name in ("a.svg", "b.svg", "c.png", "d.png")]
    for name in names:
        assert compare("--no-time", "--sizes", "64,imix,tcp", "--picture", name)[0] == 0
    first, second, third, fourth = (Path(name).read_bytes() for name in names)
    assert first == second
    assert third == fourth
    assert third.startswith(b"\x89PNG")
    for text in (b"flannel-vxlan", b"calico", b"IMIX"):
        assert b"<!-- " + text in first  # matplotlib writes what it draws as text beside its outlines


def test_a_picture_shows_times_where_they_were_measured(compare: Compare, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "a.svg"
    assert compare("--sizes", "64", "--picture", str(path))[0] == 0
    assert b"<!-- tunnel_out" in path.read_bytes()


def test_a_picture_of_no_link_is_refused(compare: Compare, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, _, err = compare("-q", "--no-time", "--sizes", "64", "--flow", "pod/a,pod/b", "--picture", str(tmp_path / "a.svg"))
    assert code == 2
    assert err.startswith("dataplane: --picture: none of the flows goes over a link")
