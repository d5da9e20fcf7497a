"""Declared encapsulations beside the compiled ones that write the same bytes; the goal is at most 1.3 times their time."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scapy.layers.inet import IP, UDP

from core.conftest import compile_probe

ROUNDS = 100_000
PACKET = bytes(IP(src="10.1.0.1", dst="10.1.0.2") / UDP(sport=4000, dport=9999) / bytes(64))
IPV4 = 0x0800


@pytest.fixture(scope="module")
def push_and_pop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[object, bytes, int, int], int]:
    here = Path(__file__).parent
    module = compile_probe(here / "encap_loop.pyx", here.parent, tmp_path_factory.mktemp("loop"))
    loop: Callable[[object, bytes, int, int], int] = module.push_and_pop
    return loop


def sample(file: str, name: str) -> object:
    path = Path(__file__).parent.parent / "docs" / "samples" / file
    offered: dict[str, object] = {}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), offered)
    return offered[name].capsule  # type: ignore[attr-defined]


CASES: dict[str, Callable[[], object]] = {
    "gre-compiled": lambda: import_module("dataplane._encap_gre").capsule,
    "gre-declared": lambda: sample("declared_gre.py", "plain"),
    "fou-compiled": lambda: import_module("dataplane._encap_fou").capsule,
    "fou-declared": lambda: sample("declared_fou.py", "fou"),
}


@pytest.mark.parametrize("case", CASES)
def test_push_and_pop(benchmark: BenchmarkFixture, push_and_pop: Callable[[object, bytes, int, int], int], case: str) -> None:
    assert benchmark(push_and_pop, CASES[case](), PACKET, IPV4, ROUNDS) == ROUNDS
