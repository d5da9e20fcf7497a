"""Peers that this machine has run on tiny input and say something; those that it has not say how to get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.bench.peers import peer
from dataplane.bench.peers.peer import Absent, Peer
from dataplane.bench.peers.run import PEERS
from dataplane.bench.rows import ROWS
from dataplane.bench.work import Settings

QUICK = Settings(quick=True)


@pytest.mark.may_skip("a peer is what a machine happens to have")
@pytest.mark.parametrize("each", PEERS, ids=lambda each: each.name)
def test_a_peer_is_measured_for_each_of_its_rows(each: Peer, tmp_path: Path) -> None:
    try:
        found = each.measure(QUICK, frozenset(each.rows), tmp_path)
    except Absent as absent:
        pytest.skip(str(absent))
    assert {one.row for one in found} == set(each.rows)
    assert all(one.median >= one.least and one.unit == ROWS[one.row].unit for one in found)


def test_peers_compare_with_rows_that_there_are() -> None:
    assert {row for each in PEERS for row in each.rows} <= set(ROWS)


def test_what_is_missing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Absent, match=r"bench/peers/nothing\.c is not here: run it in a checkout"):
        peer.source("nothing.c")
    with pytest.raises(Absent, match="no-such-program is missing: install the package some-package"):
        peer.require("no-such-program", "some-package")
    with pytest.raises(Absent, match="the Python package some-package is missing: pip install some-package"):
        peer.module("no_such_module", "some-package")
    broken = tmp_path / "broken.c"
    broken.write_text("int main(")
    with pytest.raises(Absent, match=r"cannot be built \(.*error.*\): install some-package"):
        peer.built(["cc", "-c", str(broken), "-o", "/dev/null"], "some-package")
    with pytest.raises(Absent, match="false ended with 1: nothing was said"):
        peer.output(["false"])
