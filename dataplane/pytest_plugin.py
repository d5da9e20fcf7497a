"""The pytest plug-in: fixtures ``cluster``, ``emulator`` and ``golden``, and the option ``--golden-update``.

pytest loads it wherever the package is installed, so nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dataplane.emulator import Cluster, Emulator

MARKER = "cluster(*manifests, seed=0): files or folders of the fixture `cluster`, relative to the test's file, and the emulator's seed"
DEFAULT_MANIFESTS = ("cluster.yaml",)
FOLDER = "golden"
_NAME = re.compile(r"[\w][\w.-]*")


def pytest_addoption(parser: pytest.Parser) -> None:
    explained = "write what golden.check is given into the captures that it compares with"
    parser.getgroup("dataplane").addoption("--golden-update", action="store_true", help=explained)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


class Golden:
    """Compares frames with captures in the folder ``golden`` beside the test's file."""

    def __init__(self, folder: Path, update: bool) -> None:
        self.folder = folder
        self._update = update

    def check(self, frames: Iterable[Any], name: str, *, mask: Iterable[str] = ()) -> None:
        """The test fails unless ``frames`` are those of ``golden/NAME.pcapng``, in order.

        ``frames``: bytes, Scapy packets, or records such as those of ``Emulator.frames``, whose interface and direction are compared
        too. ``mask``: names of fields that may differ, as in ``["ip.id", "outer udp.sport"]`` (see ``dataplane.testing.golden``).
        With ``--golden-update`` a capture that is missing or differs is written anew.
        """
        __tracebackhide__ = True
        from dataplane.errors import InputError

        if not _NAME.fullmatch(name):
            pytest.fail(f"golden capture {name!r}: a name of letters, digits, '_', '-' and '.' is expected", pytrace=False)
        try:
            failure = self._failure(frames, self.folder / f"{name}.pcapng", tuple(mask))
        except InputError as error:
            failure = str(error)
        if failure:
            pytest.fail(failure, pytrace=False)

    def _failure(self, frames: Iterable[Any], path: Path, mask: tuple[str, ...]) -> str:
        from dataplane.testing.golden import differing_fields, golden_differences, golden_frame, read_golden, write_golden

        got = [golden_frame(frame) for frame in frames]
        expected = read_golden(path) if path.exists() else None
        lines = [] if expected is None else golden_differences(expected, got, mask)
        if expected is not None and not lines:
            return ""
        if self._update:
            write_golden(path, got)
            return ""
        if expected is None:
            return f"{path}: no such golden capture; look at the frames, then write it with: pytest --golden-update"
        names = differing_fields(expected, got, mask)
        free = f"; fields that may differ go into mask={names}" if names else ""
        return "\n".join([f"{path} differs", *lines, f"If the new frames are right: pytest --golden-update{free}"])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Frames against captures kept beside the tests: ``golden.check(frames, "name")``."""
    return Golden(request.path.parent / FOLDER, bool(request.config.getoption("--golden-update")))


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The cluster of the marker ``cluster``, without one that of ``cluster.yaml`` beside the test's file."""
    from dataplane.emulator import Cluster
    from dataplane.errors import InputError

    marker = request.node.get_closest_marker("cluster")
    manifests = marker.args if marker and marker.args else DEFAULT_MANIFESTS
    try:
        return Cluster.load(*(request.path.parent / manifest for manifest in manifests))
    except InputError as error:
        failure = f"{error} (the fixture `cluster` reads what @pytest.mark.cluster names, or cluster.yaml)"
    pytest.fail(failure, pytrace=False)


@pytest.fixture
def emulator(request: pytest.FixtureRequest, cluster: Cluster) -> Emulator:
    """An emulator of ``cluster``; its seed is that of the marker, or 0."""
    from dataplane.emulator import Emulator

    marker = request.node.get_closest_marker("cluster")
    return Emulator(cluster, seed=marker.kwargs.get("seed", 0) if marker else 0)
