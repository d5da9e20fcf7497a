"""The pytest plug-in as a project that has the package installed meets it: a test run of its own in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dataplane._core
import dataplane.testing.golden  # noqa: F401  (pytester takes what a run in this process imports out again; a compiled module minds)
from dataplane.capture.open import open_capture

pytest_plugins = ["pytester"]

PLUGIN = "dataplane.pytest_plugin"
ARP = "ffffffffffff02000af401050806000108000604000102000af401050af401050000000000000af40101"
UDP = "02000000000202000000000108004500001d00070000401126c6c0000201c0000202{sport}0009000900002a"
CHECK = """
    def test_frames(golden):
        golden.check([bytes.fromhex(frame) for frame in {frames!r}], "two", mask={mask!r})
"""


def write_test(pytester: pytest.Pytester, frames: list[str], mask: list[str]) -> None:
    pytester.makepyfile(test_it=CHECK.format(frames=frames, mask=mask))


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", PLUGIN, *arguments)


def run_alone(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", PLUGIN, *arguments)


@pytest.fixture
def kept(pytester: pytest.Pytester) -> Path:
    """A golden capture of an ARP question and a datagram from port 4000."""
    write_test(pytester, [ARP, UDP.format(sport="0fa0")], [])
    run(pytester, "--golden-update").assert_outcomes(passed=1)
    return pytester.path / "golden" / "two.pcapng"


def test_a_missing_capture_fails_with_the_remedy_and_writes_nothing(pytester: pytest.Pytester) -> None:
    write_test(pytester, [ARP], [])
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*golden/two.pcapng: no such golden capture*pytest --golden-update"])
    assert not (pytester.path / "golden").exists()


def test_an_update_keeps_the_frames_and_the_next_run_passes(pytester: pytest.Pytester, kept: Path) -> None:
    assert [packet.data.hex() for packet in open_capture(kept)] == [ARP, UDP.format(sport="0fa0")]
    run(pytester).assert_outcomes(passed=1)


def test_a_difference_is_shown_by_frame_layer_and_field(pytester: pytest.Pytester, kept: Path) -> None:
    before = kept.read_bytes()
    write_test(pytester, [ARP, UDP.format(sport="0fa1")], [])
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*golden/two.pcapng differs", "frame 2: UDP source port: expected 4000, got 4001", "*mask=*'udp.sport'*"], consecutive=True
    )
    assert kept.read_bytes() == before


def test_a_masked_field_may_differ_and_no_other(pytester: pytest.Pytester, kept: Path) -> None:
    write_test(pytester, [ARP, UDP.format(sport="0fa1")], ["udp.sport"])
    run(pytester).assert_outcomes(passed=1)
    write_test(pytester, [ARP, UDP.format(sport="0fa1").replace("0009000900", "000a000900")], ["udp.sport"])
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["frame 2: UDP destination port: expected 9, got 10"])
    result.stdout.no_fnmatch_line("*source port*")


def test_frames_that_are_missing_are_counted(pytester: pytest.Pytester, kept: Path) -> None:
    write_test(pytester, [ARP], [])
    result = run(pytester)
    result.stdout.fnmatch_lines(["expected 2 frames, got 1"])


def test_an_update_leaves_a_capture_alone_that_differs_only_where_it_may(pytester: pytest.Pytester, kept: Path) -> None:
    before = kept.read_bytes()
    write_test(pytester, [ARP, UDP.format(sport="0fa1")], ["udp.sport"])
    run(pytester, "--golden-update").assert_outcomes(passed=1)
    assert kept.read_bytes() == before
    write_test(pytester, [ARP, UDP.format(sport="0fa1")], [])
    run(pytester, "--golden-update").assert_outcomes(passed=1)
    assert [packet.data.hex() for packet in open_capture(kept)] == [ARP, UDP.format(sport="0fa1")]


def test_a_name_cannot_leave_the_folder(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(golden):\n    golden.check([], '../x')\n")
    result = run(pytester, "--golden-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*golden capture '../x': a name of letters*"])


def test_a_damaged_capture_is_one_line_and_no_traceback(pytester: pytest.Pytester, kept: Path) -> None:
    kept.write_bytes(b"nonsense")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*golden/two.pcapng: not a pcap or pcapng capture*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_something_that_is_no_frame_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(golden):\n    golden.check([42], 'x')\n")
    run(pytester).stdout.fnmatch_lines(["*a frame must be bytes or a Scapy packet, not int*"])


def test_an_emulator_of_the_cluster_beside_the_test(pytester: pytest.Pytester, checkout: Path) -> None:
    """Frames of all interfaces on the way of a switched datagram, kept with their interfaces, and equal in the next run."""
    (pytester.path / "cluster.yaml").symlink_to(checkout / "pcaps" / "sample" / "cluster.yaml")
    pytester.makepyfile(
        """
        import scapy.all as scapy

        def test_walk(emulator, golden):
            packet = scapy.IP(src="10.244.1.5", dst="10.244.1.1") / scapy.ICMP(id=1)
            emulator.send("pod/default/shell", packet)
            emulator.run()
            golden.check(emulator.frames, "ping")
        """
    )
    run_alone(pytester, "--golden-update").assert_outcomes(passed=1)
    kept = list(open_capture(pytester.path / "golden" / "ping.pcapng"))
    assert {packet.interface for packet in kept} >= {"shell/eth0", "node1/cni0"}
    run_alone(pytester).assert_outcomes(passed=1)


def test_the_marker_names_manifests_and_the_seed(pytester: pytest.Pytester, checkout: Path) -> None:
    (pytester.path / "other.yaml").symlink_to(checkout / "pcaps" / "sample" / "cluster.yaml")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cluster("other.yaml", seed=3)
        def test_it(cluster, emulator):
            assert [node.name for node in cluster.manifests.nodes][:1] == ["node1"]
        """
    )
    run_alone(pytester, "--strict-markers").assert_outcomes(passed=1)


def test_a_missing_cluster_fails_with_the_remedy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(cluster):\n    pass\n")
    result = run_alone(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*cluster.yaml*@pytest.mark.cluster*"])


def test_pytest_finds_the_plug_in_by_its_entry_point(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_loading_the_plug_in_loads_nothing_heavy() -> None:
    program = f"import sys, {PLUGIN}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"yaml", "scapy", "dataplane._core", "dataplane.emulator", "dataplane.testing.golden"}.isdisjoint(modules)
