"""Runs the peers that the measured rows can be compared with, and notes those that are not here."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

from dataplane.bench.peers import captures, dpdk, kernel, tables, xdp
from dataplane.bench.peers.peer import Absent
from dataplane.bench.run import Document
from dataplane.bench.work import Settings

PEERS = [*dpdk.PEERS, *xdp.PEERS, *kernel.PEERS, *captures.PEERS, *tables.PEERS]


def add_peers(document: Document, settings: Settings) -> None:
    """Measure each peer of a row in ``document``, and write what it took, or why it is not here, into it."""
    measured = frozenset(row["name"] for row in document["rows"] if row["points"])
    for peer in PEERS:
        wanted = measured & frozenset(peer.rows)
        if not wanted:
            continue
        settings.say(f"peer {peer.name}")
        try:
            with tempfile.TemporaryDirectory(prefix="dataplane-bench-") as folder:
                found = peer.measure(settings, wanted, Path(folder))
        except Absent as absent:
            document["absent_peers"].append({"name": peer.name, "why": str(absent)})
            settings.say(f"    not here: {absent}")
            continue
        for each in found:
            document["peers"].append(asdict(each))
            settings.say(f"    {each.name} ({each.what}): {each.least:,.1f} {each.unit}")
