"""docs/encap.md: its commands run in the order of the text, and print what it shows."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP

from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_RAW
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.cli.main import main

PACKET = bytes(IP(src="10.244.1.5", dst="10.244.1.1") / ICMP(id=1))


@pytest.fixture
def document(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text; a capture of one IP packet is in the working folder."""
    monkeypatch.chdir(tmp_path)
    with CaptureWriter("inner.pcapng", [Interface("x", link_type=LINKTYPE_RAW)]) as writer:
        writer.write(0, 0, PACKET, True, 1)
    return (checkout / "docs" / "encap.md").read_text(encoding="utf-8")


class Piped:
    """Runs a line of commands joined by ``|`` in this process; what the last one prints, on both streams."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capture, self._monkeypatch = capfdbinary, monkeypatch

    def __call__(self, line: str) -> str:
        data, shown = b"", ""
        for command in line.split(" | "):
            words = shlex.split(command)
            if words[0] == "echo":
                data = " ".join(words[1:]).encode()
                continue
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            main(words[1:])
            data, errors = self._capture.readouterr()
            shown = data.decode(errors="replace") + errors.decode()
        return shown


@pytest.fixture
def piped(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Piped:
    return Piped(capfdbinary, monkeypatch)


def test_commands_print_what_the_text_shows(document: str, piped: Piped) -> None:
    sessions = re.findall(r"^```console\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert len(sessions) == 3
    for session in sessions:
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            assert piped(command) == shown


def test_other_commands_succeed(document: str) -> None:
    """In processes of their own, since a plug-in of one name can be loaded into a process once."""
    (example,) = re.findall(r"^```python\n# label\.py\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    Path("label.py").write_text(example)
    command = f"{shlex.quote(sys.executable)} -m dataplane.cli.main"
    for block in re.findall(r"^```sh\n(.*?)^```", document, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            done = subprocess.run(line.replace("dataplane", command), shell=True, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), line
    for name in ("back.pcapng", "label.pcapng"):
        assert [packet.data for packet in open_capture(name)] == [PACKET]
    assert [packet.ethertype for packet in open_capture("outer.pcapng")] == [0x86DD]


def test_every_option_is_documented(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["encap", "--help"])
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help", "--read", "--write", "--output"}
    assert {option for option in options if option not in document} == set()
