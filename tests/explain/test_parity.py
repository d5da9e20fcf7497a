"""The same question in IPv4 and IPv6 gives the same walk, but for the differences that docs/ipv6.md lists, all of which occur."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from .parity import DATA_PATHS, FAMILIES, SCENARIOS, Difference, differences, dual_stack


class Row(NamedTuple):
    """One line of the document's table."""

    data_paths: frozenset[str]
    scenarios: frozenset[str]
    steps: dict[int, frozenset[str]]  # by family
    any_step: bool  # the walks have nothing to do with each other

    def covers(self, difference: Difference) -> bool:
        place = difference.data_path in self.data_paths and difference.scenario in self.scenarios
        return place and (self.any_step or difference.step in self.steps[difference.family])


def cells(document: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = document.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture(scope="module")
def document(checkout: Path) -> str:
    return (checkout / "docs" / "ipv6.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def devices(document: str) -> dict[str, str]:
    return {four.strip("`"): six.strip("`") for four, six, _ in cells(document, "Devices with another name")}


@pytest.fixture(scope="module")
def rows(document: str) -> list[Row]:
    return [
        Row(_names(paths, DATA_PATHS), _names(scenarios, SCENARIOS), {4: _quoted(four), 6: _quoted(six)}, four == six == "every step")
        for paths, scenarios, four, six, _ in cells(document, "Differences between the walks")
    ]


def _names(cell: str, known: Iterable[str]) -> frozenset[str]:
    names = frozenset(known) if cell == "all" else frozenset(name.strip() for name in cell.split(";"))
    assert names <= set(known)
    return names


def _quoted(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`([^`]+)`", cell))


@pytest.fixture(scope="module", params=list(DATA_PATHS))
def data_path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def found(checkout: Path, data_path: str, devices: dict[str, str]) -> list[Difference]:
    """Every difference of every scenario over this data path."""
    return [
        difference
        for narrow in (False, True)
        for manifests in [dual_stack(checkout, data_path, narrow=narrow)]
        for name, scenario in SCENARIOS.items()
        if scenario.narrow == narrow
        for difference in differences(manifests, data_path, name, devices)
    ]


def test_walks_differ_only_where_linux_does(found: list[Difference], rows: list[Row]) -> None:
    assert [difference for difference in found if not any(row.covers(difference) for row in rows)] == []


def test_every_listed_difference_occurs(found: list[Difference], rows: list[Row], data_path: str) -> None:
    """In each scenario that its line names, and each of its steps."""
    listed = [row for row in rows if data_path in row.data_paths]
    assert listed
    for row in listed:
        covered = [difference for difference in found if row.covers(difference)]
        assert {difference.scenario for difference in covered} == row.scenarios, row
        if not row.any_step:
            steps = {family: {each.step for each in covered if each.family == family} for family in FAMILIES}
            assert steps == row.steps, row


def test_every_renamed_device_is_walked(checkout: Path, devices: dict[str, str]) -> None:
    """Without the list of names each of them would be a difference."""
    manifests = dual_stack(checkout, "flannel-vxlan", narrow=False)
    words = {word for each in differences(manifests, "flannel-vxlan", "pod, other node", {}) for word in each.step.split()}
    assert devices
    assert {*devices, *devices.values()} <= words
