"""The recordings of the real kernel that ship with the project: every one passes, and they cover what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane.testing.kinds import frames

GOLDEN = sorted((Path(__file__).resolve().parents[2] / "pcaps" / "golden").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_frames_and_conntrack_are_the_kernels(path: Path) -> None:
    assert not frames.run(json.loads(path.read_text()), path)


def test_every_sample_cluster_has_recordings() -> None:
    clusters = {json.loads(path.read_text())["cluster"] for path in GOLDEN}
    assert clusters == {f"../clusters/{path.name}" for path in (GOLDEN[0].parents[1] / "clusters").glob("*.yaml")}
