"""``dataplane trace`` as its users call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane.capture.open import open_capture
from dataplane.cli import main as command

Trace = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trace(cases: Path, capsys: pytest.CaptureFixture[str]) -> Trace:
    """Exit code, standard output and standard error on the recorded VXLAN cluster."""

    def run(source: str, to: str, *more: str) -> tuple[int, str, str]:
        cluster = str(cases / "kernel" / "cluster-flannel-vxlan.yaml")
        code = command.main(["trace", "-f", cluster, "--from", source, "--to", to, *more])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_delivery_is_0_and_the_last_line_says_it(trace: Trace) -> None:
    code, out, _ = trace("pod/p15", "service/remote1")
    assert code == 0
    assert out.splitlines()[-1].startswith("verdict: DELIVERED to pod/default/p210: ")


def test_a_drop_is_1_and_the_last_line_names_reason_and_manifest(trace: Trace) -> None:
    code, out, _ = trace("pod/p15", "service/empty")
    last = out.splitlines()[-1]
    assert code == 1
    assert last.startswith("verdict: DROPPED at node/node1 by rules/rejected: ")
    assert last.endswith("(Service default/empty)]")


def test_no_colours_but_on_a_terminal(trace: Trace) -> None:
    assert "\x1b" not in trace("pod/p15", "service/empty")[1]


def test_all_shows_each_outcome_with_its_probability(trace: Trace) -> None:
    _, out, _ = trace("pod/p15", "service/web", "--all")
    assert out.count("33.3 %, ") == 6  # in the overview and above each walk
    for address in ("10.244.1.6:8080", "10.244.2.10:8080", "10.244.2.11:8080"):
        assert f"{address} (pod/default/" in out


def test_reply_shows_the_way_back(trace: Trace) -> None:
    _, out, _ = trace("pod/p15", "service/remote1", "--reply")
    back = out.partition("the way back\n")[2]
    assert "source is now 10.96.0.12" in back
    assert back.splitlines()[-1].startswith("verdict: DELIVERED to pod/default/p15")


def test_json_has_a_schema_and_all_that_text_has(trace: Trace) -> None:
    code, out, _ = trace("pod/p15", "service/empty", "-o", "json", "--reply")
    document = json.loads(out)
    assert (code, document["schema"], document["version"]) == (1, "dataplane.trace", 1)
    (outcome,) = document["outcomes"]
    assert (outcome["walk"]["verdict"], outcome["walk"]["reason"], outcome["walk"]["at"]) == ("dropped", "rules/rejected", "node1")
    assert outcome["walk"]["origin"]["what"] == "Service default/empty"
    assert [hop["namespace"] for hop in outcome["walk"]["hops"]] == ["p15", "node1"]
    assert outcome["reply"]["at"] == "p15"


@pytest.mark.parametrize(
    ("source", "to", "message"),
    [
        ("pod/none", "10.0.0.1", "pod/default/none: there is no such pod: there are pod/default/p15, pod/default/p16"),
        ("pod/p15", "service/none", "service/default/none: there is no such service: there are service/default/web"),
        ("pod/p15", "10.0.0.256", "--to 10.0.0.256: write an IP address, "),
        ("pod/p15", "pod/p16:99999", "port '99999' is no number from 1 to 65535"),
        ("pod/p15", "service/web:https", "which port? It has http (80/TCP)"),
        ("pod/p15", "fd00::1", "fd00::1: there is no address of a family that pod/default/p15 has too (it has fd00::1): choose other ends"),
    ],
)
def test_what_is_not_there_is_one_line_and_2(trace: Trace, source: str, to: str, message: str) -> None:
    code, out, err = trace(source, to)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_capture_tells_the_walk(trace: Trace, tmp_path: Path) -> None:
    target = tmp_path / "walk.pcapng"
    trace("pod/p15", "service/empty", "-w", str(target))
    packets = list(open_capture(str(target)))
    assert [packet.interface for packet in packets] == ["p15/eth0", "node1/veth15", "node1/cni0"]
    assert "rules/rejected" in packets[-1].comments[-1]
    assert [packet.verdict for packet in packets] == [None, None, 2]


def test_outcomes_have_packet_ids_of_their_own(trace: Trace, tmp_path: Path) -> None:
    target = tmp_path / "walk.pcapng"
    trace("pod/p15", "service/web", "--all", "-w", str(target))
    assert len({packet.packet_id for packet in open_capture(str(target))}) == 3


def test_stock_tools_read_the_capture(trace: Trace, tmp_path: Path) -> None:
    tool = shutil.which("tshark")
    if tool is None:
        pytest.skip("tshark is not installed")
    target = tmp_path / "walk.pcapng"
    trace("pod/p15", "service/web", "--all", "--reply", "-w", str(target))
    argv = [
        tool,
        "-r",
        str(target),
        "-d",
        "udp.port==8472,vxlan",
        "-Y",
        "ip.checksum.status == 0 || tcp.checksum.status == 0 || _ws.malformed",
    ]
    found = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert found.stdout == ""
