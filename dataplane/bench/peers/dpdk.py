"""DPDK's tables: rte_lpm, rte_fib and rte_fib6 on the routes and keys of our rows, and its hash table."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from dataplane.bench.lookup import HOPS, KEYS
from dataplane.bench.peers.peer import PASSES, Absent, Found, Peer, built, output, require, source
from dataplane.bench.routes import destinations, routes, write_routes
from dataplane.bench.work import Settings

_V4, _V6, _FLOWS = "lpm/v4-1m", "lpm/v6-200k", "service/vxlan-out/1m/random"
_PACKAGE = "libdpdk-dev, pkg-config and a C compiler"


def measure(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """A part of our rows' work: the lookup alone."""
    program = _build(folder)
    rounds = "1" if settings.quick else str(PASSES)
    version = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True, check=False).stdout.strip()
    found = []
    for row, family, count, tables in ((_V4, 4, 1_000_000, ("lpm4", "fib4")), (_V6, 6, 200_000, ("fib6",))):
        if row in wanted:
            files = _files(settings, family, count, folder)
            for table in tables:
                found += _rows(output([program, table, *files, rounds]), row, "ns/lookup", version)
    if _FLOWS in wanted:
        flows = "1000" if settings.quick else "1000000"
        found += _rows(output([program, "hash", flows, str(settings.seed), rounds]), _FLOWS, "ns/packet", version)
    return found


def _build(folder: Path) -> str:
    program, code = folder / "dpdk_lookup", source("dpdk_lookup.c")
    require("pkg-config", "pkg-config")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libdpdk"], capture_output=True, text=True, check=False)
    if flags.returncode:
        raise Absent(f"DPDK is missing: install {_PACKAGE}")
    built(["cc", "-O3", "-march=native", str(code), *flags.stdout.split(), "-o", str(program)], _PACKAGE)
    return str(program)


def _files(settings: Settings, family: int, count: int, folder: Path) -> list[str]:
    """Routes and keys of our own row, as files."""
    table = list(routes(family, 1000 if settings.quick else count, settings.seed, HOPS))
    routes_file, keys_file = folder / f"routes{family}", folder / f"keys{family}"
    write_routes(routes_file, family, table)
    keys_file.write_bytes(destinations(family, table, 1024 if settings.quick else KEYS, settings.seed))
    return [str(routes_file), str(keys_file)]


def _rows(text: str, row: str, unit: str, version: str) -> list[Found]:
    return [
        Found(each["name"], f"DPDK {version}, bursts of {each['burst']}", row, unit, each["ns_per_op"], each["ns_median"])
        for each in map(json.loads, text.splitlines())
    ]


PEERS = [Peer("dpdk", (_V4, _V6, _FLOWS), measure)]
