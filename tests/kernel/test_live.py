"""Random frames through the real kernel and through the emulator: the same frames on every interface, the same conntrack tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from dataplane.testing.kinds import frames

from . import dual, generate, live, netns, oracle, record
from .taps import DropTrace
from .topology import MODES, Topology, cluster_file, load

HEAD = {"name": "drawn", "doc": "drawn by Hypothesis", "cluster": ""}
pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SEEDS = range(10)
DUAL_SEEDS = range(8)
LENGTH = 60  # frames injected by each sequence: 3 x 10 x 60, and about four times as many seen
DUAL_LENGTH = 45  # the same with both families: 3 x 8 x 45


@pytest.fixture(scope="session")
def trace() -> Iterator[DropTrace]:
    reason = netns.unavailable()
    if reason is not None:
        pytest.skip(reason)
    oracle.remove_leftovers()
    with closing(DropTrace()) as opened:
        yield opened


@pytest.fixture(scope="module", params=MODES)
def topology(request: pytest.FixtureRequest) -> Topology:
    return load(cluster_file(request.param))


@pytest.fixture(scope="module", params=MODES)
def dual_topology(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Topology:
    return load(dual.write(cluster_file(request.param), tmp_path_factory.mktemp("clusters") / f"{request.param}.yaml"))


def differences(topology: Topology, trace: DropTrace, seed: int, length: int, folder: Path) -> list[str]:
    """What the emulator does otherwise than the kernel, in each of two recordings of the same frames.

    In one alone it may be the recording's: a busy machine was late with what a timer leads to, or two flows met at one of the ports
    that a tunnel draws with a key of its own at each start.
    """
    found: list[str] = []
    for _ in range(2):
        found = frames.run(live.recorded(topology, trace, seed, length, folder), folder / "case.json")
        if not found:
            break
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_seeded_frames_fare_as_in_the_kernel(topology: Topology, trace: DropTrace, seed: int, tmp_path: Path) -> None:
    assert not differences(topology, trace, seed, LENGTH, tmp_path)


@pytest.mark.parametrize("seed", DUAL_SEEDS)
def test_seeded_frames_of_both_families_fare_as_in_the_kernel(dual_topology: Topology, trace: DropTrace, seed: int, tmp_path: Path) -> None:
    assert not differences(dual_topology, trace, seed, DUAL_LENGTH, tmp_path)


@settings(max_examples=6, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_frames_that_hypothesis_draws_fare_as_in_the_kernel(topology: Topology, trace: DropTrace, data: st.DataObject) -> None:
    sequence = data.draw(generate.sequences(topology, 12))
    try:
        case = record.record(topology, trace, sequence, HEAD | {"cluster": str(topology.path)})
    except record.Flaky:
        reject()
    assert not frames.run(case, topology.path)


def test_the_oracle_repeats_given_recordings(trace: DropTrace, cases: Path) -> None:
    """Our namespaces are the ones the given recordings were made in: the kernel does the same in both."""
    wrong = {}
    for path in sorted((cases / "kernel").glob("*/*.json"))[::6] + sorted((cases / "kernel6").glob("*/*.json"))[::9]:
        case = record.load_case(path)
        built = load((path.parent / case["cluster"]).resolve())
        gaps = [step["settle_ms"] / 1000 for step in case["steps"]]
        run = record.replay(built, trace, record.steps_of(case), gaps, record.pins_in(case), only_pinned=True)
        wrong[path.stem] = record.differences(case, run, built.vxlan_port)
    assert wrong
    assert not {name: lines for name, lines in wrong.items() if lines}


def test_a_choice_made_otherwise_is_noticed(trace: DropTrace) -> None:
    """A recording whose second run reaches another endpoint must not become a case."""
    topology = load(cluster_file("flannel-host-gw"))
    run = record.play(topology, trace, generate.seeded(topology, 1, 1))
    other = record.play(topology, trace, generate.seeded(topology, 2, 1))
    with pytest.raises(record.Flaky):
        record.case_of(topology, run, other, [], HEAD)
