"""The Wireshark profile and verb: stock tshark takes them, and a user's own settings stay."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT, CaptureWriter, Interface
from dataplane.capture.wireshark import _config_folder, profile_folder, tshark_line, write_profile
from dataplane.cli import wireshark as verb
from dataplane.errors import InputError

from .conftest import Tool


@pytest.fixture
def capture(tmp_path: Path, syn: bytes, vxlan: bytes) -> Path:
    path = tmp_path / "it's out.pcapng"
    with CaptureWriter(path, [Interface("node1/cni0"), Interface("node1/eth0")], {bytes([10, 244, 1, 5]): "web-0.default.pod"}) as writer:
        writer.write(0, 0, syn, False, 41)
        writer.write(1, 0, vxlan, True, 41, TC_ACT_OK)
        writer.write(0, 1, syn, False, 42, TC_ACT_SHOT, ["policy/ingress_denied: why"])
        writer.write(0, 2, syn, False, 43, None, ["dnat: to 10.244.1.9"])
    return path


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    return verb.run(parser.parse_args(arguments))


def _tshark_with_profile(folder: Path, arguments: list[str]) -> list[str]:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    settings = {**os.environ, "WIRESHARK_CONFIG_DIR": str(folder), "LC_ALL": "C.UTF-8", "COLORTERM": "truecolor"}
    done = subprocess.run(["tshark", "-C", "dataplane", *arguments], capture_output=True, text=True, env=settings, check=True)
    assert [line for line in done.stderr.splitlines() if not line.startswith("Running as user")] == []
    return done.stdout.splitlines()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_profile(tmp_path / "config" / "profiles" / "dataplane")
    return tmp_path / "config"


def test_the_profile_gives_columns_names_and_decoding(config: Path, capture: Path) -> None:
    lines = [line.split() for line in _tshark_with_profile(config, ["-r", str(capture)])]
    assert lines[0][2:8] == ["node1/cni0", "Inbound", "41", "web-0.default.pod", "→", "10.96.0.12"]
    assert lines[1][2:7] == ["node1/eth0", "Outbound", "41", "TC_ACT_OK", "web-0.default.pod"]  # the inner packet: 8472 is decoded
    assert lines[2][5] == "TC_ACT_SHOT"
    assert lines[2][-2:] == ["policy/ingress_denied:", "why"]


def test_the_profile_colours_by_verdict(config: Path, capture: Path) -> None:
    options = ["-r", str(capture), "--color", "-T", "fields", "-e", "frame.coloring_rule.name"]
    assert _tshark_with_profile(config, options) == ["", "Accepted", "Dropped", "Explained"]


def test_the_line_that_every_run_prints_works_in_a_shell(capture: Path, vxlan: bytes, wireshark_tool: Tool) -> None:
    assert tshark_line("OUT.pcapng") == "tshark -r OUT.pcapng -d udp.port==8472,vxlan"
    words = shlex.split(tshark_line(capture))
    assert "10.244.1.5 → 10.96.0.12" in wireshark_tool(words).splitlines()[1]


def test_a_profile_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "colorfilters").write_text("# mine\n")
    with pytest.raises(InputError, match="colorfilters: belongs to another Wireshark profile"):
        write_profile(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["colorfilters"]


def test_a_profile_of_ours_is_renewed(tmp_path: Path) -> None:
    before = [file.read_bytes() for file in write_profile(tmp_path)]
    assert [file.read_bytes() for file in write_profile(tmp_path)] == before


@pytest.mark.parametrize(
    ("environment", "platform", "folder"),
    [
        ({"WIRESHARK_CONFIG_DIR": "/w"}, "linux", "/w"),
        ({"XDG_CONFIG_HOME": "/x"}, "linux", "/x/wireshark"),
        ({}, "linux", "~/.config/wireshark"),
        ({}, "darwin", "~/.config/wireshark"),
        ({"APPDATA": "/roaming"}, "win32", "/roaming/Wireshark"),
    ],
)
def test_the_personal_folder_is_the_one_wireshark_uses(
    environment: dict[str, str], platform: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _config_folder(environment, platform) == Path(folder).expanduser()


def test_an_old_personal_folder_is_used_while_there_is_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".wireshark").mkdir()
    assert _config_folder({}, "linux") == tmp_path / ".wireshark"
    (tmp_path / ".config" / "wireshark").mkdir(parents=True)
    assert _config_folder({}, "linux") == tmp_path / ".config" / "wireshark"


def test_tshark_agrees_on_the_personal_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    monkeypatch.delenv("WIRESHARK_CONFIG_DIR", raising=False)
    text = subprocess.run(["tshark", "-G", "folders"], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in text.splitlines() if line.startswith("Personal configuration:")]
    assert line.split(":", 1)[1].strip() == str(profile_folder().parent.parent)


def test_the_verb_writes_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(["--profile", str(tmp_path / "p")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "p" / name) for name in ("preferences", "colorfilters", "decode_as_entries")
    ]
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", str(tmp_path / "w"))
    assert _run(["--profile"]) == 0
    assert (tmp_path / "w" / "profiles" / "dataplane" / "colorfilters").is_file()


def test_the_verb_opens_wireshark(tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "wireshark"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > "{tmp_path}/words"\nexit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", str(tmp_path / "w"))
    assert _run([str(capture)]) == 3
    opened = ["-r", str(capture), "-d", "udp.port==8472,vxlan"]
    assert (tmp_path / "words").read_text().splitlines() == [*opened, "-N", "mn"]
    _run(["--profile"])
    assert _run([str(capture)]) == 3
    assert (tmp_path / "words").read_text().splitlines() == [*opened, "-C", "dataplane"]


def test_the_verb_says_what_is_missing(tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no capture is given"):
        _run([])
    with pytest.raises(InputError, match=r"missing\.pcapng: cannot be read"):
        _run([str(tmp_path / "missing.pcapng")])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"wireshark is not installed; install it, or see the capture with: tshark -r"):
        _run([str(capture)])
