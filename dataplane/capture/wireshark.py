"""What stock Wireshark needs to show our captures well: decode-as options and a configuration profile."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from dataplane.capture.atomic import AtomicFile
from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT
from dataplane.errors import InputError

PROFILE = "dataplane"
LINUX_VXLAN_PORT = 8472  # Flannel's too; Wireshark knows VXLAN on 4789 only
WEAVE_VXLAN_PORT = 6784

_MARK = "# Written by dataplane wireshark; a later run replaces this file."
_COLUMNS = (
    ("No.", "%m"),
    ("Time", "%t"),
    ("Interface", "%Cus:frame.interface_name:0:R"),
    ("Direction", "%Cus:frame.packet_flags_direction:0:R"),
    ("Packet id", "%Cus:frame.packet_id:0:R"),
    ("Verdict", "%Cus:frame.verdict.ebpf_tc:0:R"),
    ("Source", "%s"),
    ("Destination", "%d"),
    ("Protocol", "%p"),
    ("Length", "%L"),
    ("Info", "%i"),
    ("Comment", "%Cus:frame.comment:0:R"),
)
# name, display filter, background, foreground; 16 bits for each of red, green and blue. The first that matches colours the packet
_COLOURS = (
    ("Dropped", f"frame.verdict.ebpf_tc == {TC_ACT_SHOT}", "[52428,0,0]", "[65535,65535,65535]"),
    ("ICMP error", "icmp.type in {3, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}", "[65535,59110,39321]", "[4626,10023,11822]"),
    ("Explained", "frame.comment", "[65535,65535,52428]", "[4626,10023,11822]"),
    ("Accepted", f"frame.verdict.ebpf_tc == {TC_ACT_OK}", "[58339,65535,51143]", "[4626,10023,11822]"),
)


def decode_options() -> list[str]:
    """Command-line options that make tshark and Wireshark decode Linux' default VXLAN port."""
    return ["-d", f"udp.port=={LINUX_VXLAN_PORT},vxlan"]


def tshark_line(path: str | os.PathLike[str]) -> str:
    """The command that shows this capture in tshark, quoted for a shell."""
    return shlex.join(["tshark", "-r", os.fspath(path), *decode_options()])


def wireshark_command(path: str | os.PathLike[str]) -> list[str]:
    """Arguments that open this capture in Wireshark, with our profile if it is among the user's profiles."""
    command = ["wireshark", "-r", os.fspath(path), *decode_options()]
    if _written_by_us(profile_folder() / "preferences"):
        return [*command, "-C", PROFILE]
    return [*command, "-N", "mn"]  # the file's own names for addresses, and no look-ups elsewhere


def profile_folder() -> Path:
    """Where a profile of ours has to stand for Wireshark to offer it."""
    return _config_folder(os.environ, sys.platform) / "profiles" / PROFILE


def _config_folder(environment: Mapping[str, str], platform: str) -> Path:
    """Wireshark's personal configuration folder, User's Guide appendix B.3 and wireshark(1), ENVIRONMENT VARIABLES."""
    if chosen := environment.get("WIRESHARK_CONFIG_DIR"):
        return Path(chosen)
    if platform == "win32":
        return Path(environment.get("APPDATA") or Path.home()) / "Wireshark"
    modern = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "wireshark"
    legacy = Path.home() / ".wireshark"
    return legacy if legacy.is_dir() and not modern.is_dir() else modern


def write_profile(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the profile's files into ``folder``, which is made if missing; returns their paths.

    Raises InputError if the folder holds another profile, or cannot be written.
    """
    target = Path(folder)
    files = {"preferences": _preferences(), "colorfilters": _colour_filters(), "decode_as_entries": _decode_as_entries()}
    for name in files:
        if (target / name).exists() and not _written_by_us(target / name):
            raise InputError(
                f"{target / name}: belongs to another Wireshark profile, or was changed since; give another folder, or remove it"
            )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: the folder cannot be made: {error.strerror}; give another one") from error
    for name, text in files.items():
        file = AtomicFile(target / name)
        file.write(text.encode())
        file.commit()
    return [target / name for name in files]


def _written_by_us(file: Path) -> bool:
    try:
        return file.read_text(encoding="utf-8", errors="replace").startswith(_MARK)
    except OSError:
        return False


def _preferences() -> str:
    columns = ", ".join(f'"{title}", "{content}"' for title, content in _COLUMNS)
    return (
        f"{_MARK}\n"
        f"gui.column.format: {columns}\n"
        "# Names come from the capture itself; nothing is looked up elsewhere.\n"
        "nameres.network_name: TRUE\n"
        "nameres.use_external_name_resolver: FALSE\n"
        "# The same frame on the next hop is not a retransmission.\n"
        "tcp.analyze_sequence_numbers: FALSE\n"
    )


def _colour_filters() -> str:
    return f"{_MARK}\n" + "".join(f"@{name}@{match}@{back}{front}\n" for name, match, back, front in _COLOURS)


def _decode_as_entries() -> str:
    # the last word is the dissector's description, which differs from its filter name in case
    return f"{_MARK}\n" + "".join(f"decode_as_entry: udp.port,{port},(none),VXLAN\n" for port in (LINUX_VXLAN_PORT, WEAVE_VXLAN_PORT))
