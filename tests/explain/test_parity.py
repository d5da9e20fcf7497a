"""The same question in IPv4 and IPv6 gives the same walk, but for the differences that docs/ipv6.md lists, all of which occur."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from .parity import DATA_PATHS, SCENARIOS, Difference, differences, dual_stack


class Row(NamedTuple):
    """One line of the document's table; data paths and scenarios are empty where it says "all"."""

    data_paths: frozenset[str]
    scenarios: frozenset[str]
    steps: dict[int, tuple[str, ...]]  # by family

    def covers(self, difference: Difference) -> bool:
        return (
            (not self.data_paths or difference.data_path in self.data_paths)
            and (not self.scenarios or difference.scenario in self.scenarios)
            and difference.step in self.steps[difference.family]
        )


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
        Row(_names(paths), _names(scenarios), {4: _quoted(four), 6: _quoted(six)})
        for paths, scenarios, four, six, _ in cells(document, "Differences between the walks")
    ]


def _names(cell: str) -> frozenset[str]:
    return frozenset() if cell == "all" else frozenset(name.strip() for name in cell.split(";"))


def _quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


@pytest.fixture(scope="module")
def found(checkout: Path, devices: dict[str, str]) -> list[Difference]:
    """Every difference of every scenario over every data path."""
    return [
        difference
        for data_path in DATA_PATHS
        for narrow in (False, True)
        for manifests in [dual_stack(checkout, data_path, narrow=narrow)]
        for name, scenario in SCENARIOS.items()
        if scenario.narrow == narrow
        for difference in differences(manifests, data_path, name, devices)
    ]


def test_walks_differ_only_where_linux_does(found: list[Difference], rows: list[Row]) -> None:
    assert [difference for difference in found if not any(row.covers(difference) for row in rows)] == []


def test_every_listed_difference_occurs(found: list[Difference], rows: list[Row]) -> None:
    """In each data path and each scenario that its line names, and each of its steps."""
    for row in rows:
        covered = [difference for difference in found if row.covers(difference)]
        assert {difference.data_path for difference in covered} >= row.data_paths, row
        assert {difference.scenario for difference in covered} >= row.scenarios, row
        steps = {(difference.family, difference.step) for difference in covered}
        assert steps == {(family, step) for family, texts in row.steps.items() for step in texts}, row


def test_names_in_the_list_are_those_of_data_paths_and_scenarios(rows: list[Row]) -> None:
    assert rows
    assert {name for row in rows for name in row.data_paths} <= set(DATA_PATHS)
    assert {name for row in rows for name in row.scenarios} <= set(SCENARIOS)


def test_every_renamed_device_is_walked(checkout: Path, devices: dict[str, str]) -> None:
    """Without the list of names each of them would be a difference."""
    manifests = dual_stack(checkout, "flannel-vxlan", narrow=False)
    words = {word for each in differences(manifests, "flannel-vxlan", "pod, other node", {}) for word in each.step.split()}
    assert devices
    assert {*devices, *devices.values()} <= words
