"""docs/wireguard.md: its programs and commands run as they stand, and print what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from dataplane import _core
from dataplane.capture.packet import LINKTYPE_RAW
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.cli.main import main
from dataplane.encap import registry

INNER = bytes(IP(src="10.99.0.1", dst="10.99.0.2") / ICMP())


@pytest.fixture
def document(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text; the working folder holds the sample cluster and a capture of one IP packet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pcaps").symlink_to(checkout / "pcaps")
    with CaptureWriter("inner.pcapng", [Interface("x", link_type=LINKTYPE_RAW)]) as writer:
        writer.write(0, 0, INNER, True, 1)
    return (checkout / "docs" / "wireguard.md").read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```", document, re.MULTILINE | re.DOTALL)


def test_wireshark_shows_what_the_text_says(document: str) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    exec(compile(blocks(document, "python")[0], "docs/wireguard.md", "exec"), {})
    command = shlex.split(blocks(document, "sh")[0])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == blocks(document, "text")[0]


def test_a_single_packet_is_put_into_a_session(document: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(blocks(document, "sh")[1])[1:]) == 0
    packet = IP(bytes.fromhex(capfd.readouterr().out.strip()))
    assert (packet[UDP].dport, packet[UDP].len) == (51820, 8 + 16 + 32 + 16)


def test_the_class_of_the_text_is_an_encapsulation(document: str) -> None:
    Path("measured.py").write_text(blocks(document, "python")[1], encoding="utf-8")
    assert registry.load_file("measured.py") == ["measured"]
    codec = _core.Codec("measured", {})
    packet = codec.push(INNER, 0x0800, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    assert packet[20:] == len(INNER).to_bytes(2, "big") + b"\x08\x00" + INNER
    assert codec.pop(packet).inner == INNER
    assert codec.pop(bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=253) / b"\0\x09\x08\x00x")).reason == "measured/wrong_length"
