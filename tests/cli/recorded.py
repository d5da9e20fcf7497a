"""What the tests of run and replay share: the sample cluster, the command line, and stock tshark as the judge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dataplane.capture.open import open_capture
from dataplane.capture.packet import Packet
from dataplane.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "pcaps" / "sample"
DUAL_STACK = ROOT / "pcaps" / "sample6"
CLUSTER, SCENARIO, SAMPLE_CAPTURE = str(SAMPLE / "cluster.yaml"), str(SAMPLE / "scenario.yaml"), str(SAMPLE / "foreign.pcap")
VERIFY = [word for layer in ("ip", "tcp", "udp") for word in ("-o", f"{layer}.check_checksum:TRUE")]
# Wireshark verifies the checksum of a segment that an ICMPv6 error quotes, though an error of 1280 bytes has only its beginning.
QUOTED = "icmpv6.type < 128"
WRONG = " || ".join(
    [
        "_ws.malformed",
        *(f"{layer}.checksum.status == 0" for layer in ("ip", "icmp", "icmpv6")),
        *(f"({layer}.checksum.status == 0 && !({QUOTED}))" for layer in ("tcp", "udp")),
    ]
)


def tool(*command: str) -> str:
    """Run tshark or capinfos with default settings: it must succeed and print no warning."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (package tshark)")
    settings = {**os.environ, "WIRESHARK_CONFIG_DIR": "/nonexistent", "LC_ALL": "C.UTF-8"}
    settings.pop("LD_PRELOAD", None)  # the sanitizers are for our code: with them some of Wireshark's tools hang
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, complaints) == (0, [])
    return done.stdout


def fields(path: Path, wanted: str, *names: str) -> list[tuple[str, ...]]:
    """Fields of the frames that a display filter chooses."""
    options = [word for name in names for word in ("-e", name)]
    output = tool("tshark", "-n", "-r", str(path), "-d", "udp.port==8472,vxlan", *VERIFY, "-Y", wanted, "-T", "fields", *options)
    return [tuple(line.split("\t")) for line in output.splitlines()]


def wrong_frames(path: Path) -> list[tuple[str, ...]]:
    """Frames that tshark finds malformed or with a wrong checksum."""
    return fields(path, WRONG, "frame.number", "frame.interface_name", "_ws.col.Info")


def run_scenario(out: Path, *more: str, scenario: str = SCENARIO) -> list[Packet]:
    assert main(["run", scenario, "-q", "-w", str(out), *more]) == 0
    return list(open_capture(out))


def one_line(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The one line of a command that must fail with exit code 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text
