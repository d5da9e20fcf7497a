"""docs/golden.md: its example runs, and fails as the text shows when a frame changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


@pytest.fixture
def document(checkout: Path, pytester: pytest.Pytester) -> str:
    """The text; the folder of the run holds its example and the sample cluster."""
    text = (checkout / "docs" / "golden.md").read_text(encoding="utf-8")
    (example,) = blocks(text, "python")
    pytester.makepyfile(test_tunnel=example)
    (pytester.path / "cluster.yaml").symlink_to(checkout / "pcaps" / "sample" / "cluster.yaml")
    return text


def test_the_example_is_written_passes_and_fails_as_shown(document: str, pytester: pytest.Pytester) -> None:
    (command,) = blocks(document, "sh")
    plugin = ("-p", "dataplane.pytest_plugin")
    pytester.runpytest_subprocess(*plugin, *command.split()[1:]).assert_outcomes(passed=1)
    example = pytester.path / "test_tunnel.py"
    example.write_text(example.read_text().replace("scapy.IP(", "scapy.IP(ttl=63, "))
    result = pytester.runpytest_subprocess(*plugin)
    result.assert_outcomes(failed=1)
    (shown,) = blocks(document, "text")
    result.stdout.fnmatch_lines([f"*{line.replace('[', '[[]')}" for line in shown.splitlines()], consecutive=True)


def test_every_fixture_is_in_the_table(document: str, checkout: Path) -> None:
    source = (checkout / "dataplane" / "pytest_plugin.py").read_text(encoding="utf-8")
    fixtures = re.findall(r"^@pytest\.fixture\ndef (\w+)", source, re.MULTILINE)
    assert fixtures
    assert [name for name in fixtures if f"| `{name}` |" not in document] == []
