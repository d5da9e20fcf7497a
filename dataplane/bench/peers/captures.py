"""Reading and rewriting of capture files: dpkt, Scapy and pcapy-ng read, tcprewrite rewrites."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataplane.bench.captures import PACKETS, PACKETS_A_FLOW, SERVICES, write_capture
from dataplane.bench.flows import structured
from dataplane.bench.peers.peer import Absent, Found, Peer, module, output, require, timed_passes
from dataplane.bench.work import Settings

_READ, _REPLAY = "capture/read", "capture/two-nodes"
_REWRITTEN = 1_000_000  # packets, as many as the row replays


def _capture(settings: Settings, folder: Path, most: int) -> tuple[Path, int]:
    """A capture as the rows' own, and how many packets it has."""
    packets = 500 if settings.quick else most
    path = folder / f"peers-{packets}.pcap"
    if not path.exists():
        write_capture(path, packets, structured(packets // PACKETS_A_FLOW, 1, SERVICES))
    return path, packets


def _reader(
    name: str, package: str, importable: str, how: str, reader: Callable[[Any, Path], int]
) -> Callable[[Settings, frozenset[str], Path], list[Found]]:
    def measure(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
        imported = module(importable, package)
        path, packets = _capture(settings, folder, PACKETS)
        if reader(imported, path) != packets:
            raise Absent(f"{name} does not read all packets of the capture")
        least, median = timed_passes(settings, lambda: reader(imported, path), packets)
        return [Found(name, f"{how}, version {importlib.metadata.version(package)}", _READ, "ns/packet", least, median)]

    return measure


def _dpkt(module: Any, path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in module.pcap.Reader(file))


def _scapy(module: Any, path: Path) -> int:
    with module.RawPcapReader(str(path)) as reader:
        return sum(1 for _ in reader)


def _pcapy(module: Any, path: Path) -> int:
    count = 0

    def note(header: Any, data: bytes) -> None:
        nonlocal count
        count += 1

    module.open_offline(str(path)).dispatch(-1, note)
    return count


def tcprewrite(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """Addresses and ports changed, checksums fixed: less than our row does, which also routes, tracks and tunnels."""
    require("tcprewrite", "tcpreplay")
    path, packets = _capture(settings, folder, _REWRITTEN)
    out = folder / "rewritten.pcap"
    call = ["tcprewrite", "--pnat=10.96.0.0/16:10.244.2.0/24", "--portmap=80:8080", "--fixcsum", f"--infile={path}", f"--outfile={out}"]
    output(call)
    if out.stat().st_size < path.stat().st_size:
        raise Absent("tcprewrite did not write all packets")
    least, median = timed_passes(settings, lambda: output(call), packets)
    shown = subprocess.run(["tcprewrite", "--version"], capture_output=True, text=True, check=False)
    version = next((word for word in (shown.stdout + shown.stderr).split() if word[:1].isdigit()), "")
    return [Found("tcprewrite", f"addresses, ports, checksums, version {version}", _REPLAY, "ns/packet", least, median)]


PEERS = [
    Peer("pcapy-ng", (_READ,), _reader("pcapy-ng", "pcapy-ng", "pcapy", "dispatch()", _pcapy)),
    Peer("dpkt", (_READ,), _reader("dpkt", "dpkt", "dpkt", "pcap.Reader", _dpkt)),
    Peer("scapy", (_READ,), _reader("scapy", "scapy", "scapy.utils", "RawPcapReader", _scapy)),
    Peer("tcprewrite", (_REPLAY,), tcprewrite),
]
