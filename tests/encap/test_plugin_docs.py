"""docs/encapsulation-plugins.md: its programs run, and it tells of all that encap_abi.h and the declared fields have."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP

from dataplane import _core
from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_RAW
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.encap import declarative, registry
from encap.samples import offered
from encap.tunnel_packets import ENDS4, PACKET4, payload
from house.sources import ROOT

TEXT = (ROOT / "docs" / "encapsulation-plugins.md").read_text(encoding="utf-8")
HEADER = (ROOT / "ext" / "encap" / "encap_abi.h").read_text(encoding="utf-8")
PACKET = bytes(IP(src="10.244.1.5", dst="10.244.1.1") / ICMP(id=1))
COMMENTS = re.compile(r"/\*.*?\*/", re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the programs under the names that the text gives them, and a capture of one packet."""
    monkeypatch.chdir(tmp_path)
    my_gre, short_label, _ = blocks("python")
    Path("my_gre.py").write_text(my_gre)
    Path("short_label.py").write_text(short_label)
    with CaptureWriter("inner.pcapng", [Interface("x", link_type=LINKTYPE_RAW)]) as writer:
        writer.write(0, 0, PACKET, True, 1)
    return tmp_path


def test_commands_carry_a_packet_there_and_back(folder: Path) -> None:
    command = shlex.join([sys.executable, "-m", "dataplane.cli.main"])
    for block in blocks("sh"):
        script = block.replace("dataplane encap", f"{command} encap")
        done = subprocess.run(["sh", "-ec", script], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert [packet.data for packet in open_capture("back.pcapng")] == [PACKET]


def test_the_program_that_tests_the_declared_kind_succeeds(folder: Path) -> None:
    exec(compile(blocks("python")[2], "docs/encapsulation-plugins.md", "exec"), {})


def test_the_kind_compiled_by_numba_writes_its_label(folder: Path) -> None:
    assert registry.load_file("short_label.py") == ["short_label"]
    device = _core.Codec("short_label", {"label": 9})
    packet = device.push(PACKET4, 0x0800, *ENDS4)
    assert payload(packet) == bytes((9, 0)) + PACKET4
    assert device.pop(packet) == (0x0800, PACKET4, 9, None)
    assert _core.Codec("short_label").pop(packet).reason == "tunnel/unknown_id"


def test_the_entry_point_names_the_group() -> None:
    (block,) = blocks("toml")
    assert list(tomllib.loads(block)["project"]["entry-points"]) == [registry.GROUP]


def test_every_sample_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(?:docs/samples/)?(\w+_\w+(?:\.py)?)`", TEXT.partition("## How the core")[0]))
    assert named == {path.name for path in (ROOT / "docs" / "samples").iterdir() if path.name != "__pycache__"}


def members(struct: str) -> list[str]:
    """Members of a struct of the header, callbacks included."""
    (body,) = re.findall(rf"typedef struct(?: {struct})? \{{([^}}]*)\}} {struct};", COMMENTS.sub("", HEADER))
    return re.findall(r"(\w+)(?:\[\d+\])?;", re.sub(r"\(\*(\w+)\)\([^;]*\);", r"\1;", body))


@pytest.mark.parametrize("kind", ["", "_push", "_pop", "_bytes", "_option", "_host", "_reason", "_option_help"])
def test_every_member_is_told_of(kind: str) -> None:
    found = members(f"dataplane_encap{kind}")
    assert found
    assert [member for member in found if f"`{member}`" not in TEXT] == []


def test_every_number_and_result_is_told_of() -> None:
    names = re.findall(r"#define (DATAPLANE_ENCAP_(?:ABI|CAPSULE|OK|NOT_MINE|CONSUMED))\b", HEADER)
    assert len(names) == 5
    assert [name for name in names if name not in TEXT] == []


def test_every_declared_field_and_its_refusals_are_told_of() -> None:
    sources = {source.__name__ for source in declarative.Source.__subclasses__()}
    assert sources == set(re.findall(r"^\| `([A-Z]\w+)\(", TEXT, re.MULTILINE))
    prefix = f"{offered('declared_gre')}/"
    reasons = {reason.name.removeprefix(prefix) for reason in _core.drop_reasons() if reason.name.startswith(prefix)}
    assert {reason for reason in reasons if f"`{reason}`" not in TEXT and f"(`{reason}` " not in TEXT} == set()


def test_what_a_file_imports_is_not_what_it_offers(tmp_path: Path) -> None:
    """Modules of ours have functions called ``capsule``."""
    path = tmp_path / "both.py"
    imports = "from dataplane.encap import abi_structs, python_plugin\nfrom dataplane.encap.declarative import Declarative\n"
    path.write_text(f"{imports}only = Declarative('only_this', 'A byte', b'1', ip_protocol=253)\n")
    assert registry.load_file(path) == ["only_this"]
