"""The seeds that are run: some always, or those that the command line gives."""

from __future__ import annotations

import pytest

SEEDS = range(60)
QUICK = 3  # of them are run in a sanitizer build too


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "agreement_seed" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("agreement_seed")
    usual = [pytest.param(seed, marks=[pytest.mark.slow] if seed >= QUICK else []) for seed in SEEDS]
    metafunc.parametrize("agreement_seed", given or usual)
