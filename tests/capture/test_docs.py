"""The examples of docs/captures.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dataplane.capture.open import open_capture
from dataplane.capture.pcapng_write import TC_ACT_SHOT, CaptureWriter, Interface

from .conftest import Tool


@pytest.fixture
def document(checkout: Path) -> str:
    return (checkout / "docs" / "captures.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def run_capture(tmp_path: Path, syn: bytes, vxlan: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """OUT.pcapng in the working folder: packet 7 on two hops, packet 8 dropped."""
    monkeypatch.chdir(tmp_path)
    with CaptureWriter("OUT.pcapng", [Interface("node1/cni0"), Interface("node1/eth0")]) as writer:
        writer.write(0, 0, syn, False, 7)
        writer.write(1, 0, vxlan, True, 7)
        writer.write(0, 1, syn, False, 8, TC_ACT_SHOT, ["policy/ingress_denied: why"])


def test_commands_show_what_the_text_says(document: str, wireshark_tool: Tool) -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```", document, re.MULTILINE | re.DOTALL)
    whole, way, drops, one = (wireshark_tool(shlex.split(command)).splitlines() for command in commands)
    assert len(whole) == 3
    assert "10.244.1.5 → 10.96.0.12" in whole[1]
    assert [line.split("\t")[0] for line in way] == ["node1/cni0", "node1/eth0"]
    assert drops == ["node1/cni0\tpolicy/ingress_denied: why"]
    assert len(one) == 2


def test_python_examples(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    read, write = re.findall(r"^```python\n(.*?)\n```", document, re.MULTILINE | re.DOTALL)
    exec(compile(read, "docs/captures.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == "1 node1/cni0 10.244.1.5:40000 > 10.96.0.12:80 TCP SYN"
    exec(compile(write, "docs/captures.md", "exec"), {})
    (packet,) = open_capture("mine.pcapng")
    assert (packet.interface, packet.verdict, packet.comments) == ("pod1/eth0", TC_ACT_SHOT, ("link/down: the device is down",))


def test_what_is_not_run_is_marked(document: str) -> None:
    blocks = re.findall(r"(.*)\n```(\w+)\n", document)
    assert [kind for _, kind in blocks if kind not in ("sh", "python")] == ["console"]
    assert all(before.startswith("<!-- not run:") for before, kind in blocks if kind == "console")
