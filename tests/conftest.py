"""What all tests share: where the given cases are, and that CI skips nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--agreement-seed",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="a seed for tests/agreement instead of its own ones, may be given several times",
    )


def in_ci() -> bool:
    return os.environ.get("CI") == "true"


def forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of given acceptance cases: $DATAPLANE_CASES, or ``../shared/cases`` beside the checkout."""
    folder = Path(os.environ.get("DATAPLANE_CASES") or CHECKOUT.parent / "shared" / "cases")
    if not folder.is_dir():
        pytest.skip(f"no given cases in {folder}: name their folder in DATAPLANE_CASES")
    return folder


def pytest_report_header() -> str:
    """Which build of the core is tested."""
    found = importlib.util.find_spec("dataplane._core")
    return f"core: {found.origin if found else 'not built: run make test'}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped test is a failure, unless ``@pytest.mark.may_skip(reason)`` allows it: CI installs all that tests need."""
    report = yield
    allowed = not in_ci() or item.get_closest_marker("may_skip") is not None or hasattr(report, "wasxfail")
    if report.skipped and not allowed:
        forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if report.skipped and in_ci():
        forbid(report)
    return report
