"""The rows of ``dataplane bench`` under pytest-benchmark: ``pytest bench/test_rows.py -k service --benchmark-autosave``.

They are measured in this process, one after the other; ``dataplane bench`` gives each a process of its own.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dataplane.bench.rows import ROWS
from dataplane.bench.work import Settings, Work

SETTINGS = Settings()
TIMED = [name for name, row in ROWS.items() if not name.startswith(("memory/", "cluster/change")) and not row.curve]  # by passes


@pytest.mark.parametrize("name", TIMED)
def test_row(benchmark: BenchmarkFixture, name: str) -> None:
    row = ROWS[name]
    work = row.make(SETTINGS, row.sizes[-1])
    assert isinstance(work, Work)
    benchmark.extra_info["units"] = work.units
    benchmark.pedantic(work.run, setup=work.before, rounds=work.shortest, warmup_rounds=work.warm_up, teardown=work.after)
    work.check()
