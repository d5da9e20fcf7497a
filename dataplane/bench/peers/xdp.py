"""An XDP program through BPF_PROG_TEST_RUN: established connections, DNAT and VXLAN out."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dataplane.bench import flows as tcp
from dataplane.bench.checksum import folded, word_sum
from dataplane.bench.cluster import client_address, service_address
from dataplane.bench.flows import Ends
from dataplane.bench.peers.peer import PASSES, Absent, Found, Peer, built, output, require, source
from dataplane.bench.slots import Frames
from dataplane.bench.work import Settings

_ROWS = {"service/vxlan-out/1k/random": 1000, "service/vxlan-out/1m/random": 1_000_000}
_PACKETS = 2_000_000
_INNER = 64  # bytes before the inner IP header


def measure(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """Less than our rows' work: no TCP window, no timers, no outer UDP checksum."""
    if os.geteuid() != 0:
        raise Absent("bpf(2) needs root")
    require("clang", "clang")
    code, loader = source("xdp_service.bpf.c"), source("xdp_service.c")
    target, program = folder / "xdp_service.o", folder / "xdp_service"
    options = ["-O2", "-g", "-target", "bpf", "-Wno-address-of-packed-member", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
    built(["clang", *options, "-c", str(code), "-o", str(target)], "libbpf-dev")
    built(["cc", "-O2", str(loader), "-lbpf", "-o", str(program)], "libbpf-dev")
    found = []
    for row, flows in _ROWS.items():
        if row in wanted:
            sizes = (100, 1000, 1) if settings.quick else (flows, _PACKETS, PASSES)
            said = json.loads(output([str(program), str(target), *map(str, sizes), _frame()]))
            _check(bytes.fromhex(said["frame"]))
            for what, off in (("with its packet source", 0.0), ("without its packet source", said["ns_source"])):
                found.append(Found("XDP", f"BPF_PROG_TEST_RUN, {what}", row, "ns/packet", said["ns_least"] - off, said["ns_median"] - off))
    return found


def _frame() -> str:
    frames = Frames(tcp.segment(4, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT), 1, 0)
    tcp.fill(frames, 4, Ends([client_address(4, 0)], [0], [tcp.FIRST_PORT]), Ends([service_address(4, 0)], [0], [80]))
    return frames[0].hex()


def _check(frame: bytes) -> None:
    """Raises Absent if the program does not do what it is for."""
    inner = frame[_INNER:]
    good = len(frame) == 114 and folded(word_sum(frame[14:34])) == 0xFFFF and frame[36:38] == (8472).to_bytes(2, "big")
    if not (good and inner[8] == 63 and inner[16:19] == bytes([10, 244, 2]) and inner[22:24] == (8080).to_bytes(2, "big")):
        raise Absent(f"its packets are not translated and wrapped as they should be: {frame.hex()}")


PEERS = [Peer("xdp", tuple(_ROWS), measure)]
