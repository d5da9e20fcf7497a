"""Longest-prefix match in other Python packages: pytricia and py-radix, a call for each lookup."""

from __future__ import annotations

import importlib.metadata
from ipaddress import ip_address
from pathlib import Path

from dataplane.bench.lookup import HOPS, KEYS
from dataplane.bench.peers.peer import Found, Peer, module, timed_passes
from dataplane.bench.routes import Route, destinations, routes
from dataplane.bench.work import Settings

_ROW = "lpm/v4-1m"


def _table(settings: Settings) -> tuple[list[Route], list[bytes]]:
    """The row's own routes and keys."""
    table = list(routes(4, 1000 if settings.quick else 1_000_000, settings.seed, HOPS))
    keys = destinations(4, table, 1024 if settings.quick else KEYS, settings.seed)
    return table, [keys[at : at + 4] for at in range(0, len(keys), 4)]


def pytricia(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """Addresses as packed bytes, the fastest that it takes."""
    package = module("pytricia", "pytricia")
    table, keys = _table(settings)
    tree = package.PyTricia(32)
    for address, length, hop in table:
        tree.insert(address.to_bytes(4, "big"), length, hop)
    tree.freeze()
    least, median = timed_passes(settings, lambda: [tree.get(key) for key in keys], len(keys))
    return [Found("pytricia", f"get(), version {importlib.metadata.version('pytricia')}", _ROW, "ns/lookup", least, median)]


def py_radix(settings: Settings, wanted: frozenset[str], folder: Path) -> list[Found]:
    """Addresses as packed bytes."""
    package = module("radix", "py-radix")
    table, keys = _table(settings)
    tree = package.Radix()
    for address, length, hop in table:
        tree.add(f"{ip_address(address)}/{length}").data["hop"] = hop
    least, median = timed_passes(settings, lambda: [tree.search_best(packed=key) for key in keys], len(keys))
    return [Found("py-radix", f"search_best(), version {importlib.metadata.version('py-radix')}", _ROW, "ns/lookup", least, median)]


PEERS = [Peer("pytricia", (_ROW,), pytricia), Peer("py-radix", (_ROW,), py_radix)]
