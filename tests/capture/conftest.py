"""What the tests of captures share: frames, real captures, and stock tshark as the judge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

Tool = Callable[[Sequence[str | Path]], str]


@pytest.fixture(scope="session")
def captures(cases: Path) -> Path:
    """The folder of captures that other projects made."""
    folder = cases.parent / "captures"
    if not folder.is_dir():
        pytest.skip(f"no captures in {folder}")
    return folder


@pytest.fixture(scope="session")
def wireshark_tool(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Run tshark or capinfos with default settings; fails the test on any warning or error it prints."""
    settings = {**os.environ, "WIRESHARK_CONFIG_DIR": str(tmp_path_factory.mktemp("wireshark")), "LC_ALL": "C.UTF-8"}

    def run(command: Sequence[str | Path]) -> str:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed (package tshark)")
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=settings, check=False)
        complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
        assert (done.returncode, complaints) == (0, []), command
        return done.stdout

    return run


@pytest.fixture(scope="session")
def syn() -> bytes:
    """A SYN from a pod to a service."""
    return bytes(
        Ether(src="02:00:0a:f4:01:05", dst="02:00:0a:f4:01:01")
        / IP(src="10.244.1.5", dst="10.96.0.12", ttl=64, id=7)
        / TCP(sport=40000, dport=80, flags="S", seq=1000, options=[("MSS", 1460), ("NOP", None), ("WScale", 7)])
    )


@pytest.fixture(scope="session")
def vxlan(syn: bytes) -> bytes:
    """The SYN inside Flannel's VXLAN."""
    outer = Ether(src="02:00:c0:a8:00:0b", dst="02:00:c0:a8:00:0c") / IP(src="192.168.0.11", dst="192.168.0.12", ttl=64, id=1)
    return bytes(outer / UDP(sport=50000, dport=8472) / VXLAN(vni=1, flags=8) / Ether(syn))
