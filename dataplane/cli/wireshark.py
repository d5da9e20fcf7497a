"""``dataplane wireshark``: open a capture in Wireshark as our captures want to be seen, or write the profile for it."""

from __future__ import annotations

import argparse
import subprocess

HELP = "open a capture in Wireshark, or write a Wireshark profile for our captures"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("capture", nargs="?", metavar="CAPTURE", help="a pcap or pcapng file")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="",
        metavar="DIR",
        help="write the profile into DIR instead of opening Wireshark; without DIR among Wireshark's own profiles, as 'dataplane'",
    )


def run(args: argparse.Namespace) -> int:
    """0, or Wireshark's own exit code. Raises InputError if there is nothing to do, no such capture or no Wireshark."""
    from dataplane.capture.wireshark import profile_folder, write_profile
    from dataplane.errors import InputError

    if args.profile is not None:
        for path in write_profile(args.profile or profile_folder()):
            print(path)
        return 0
    if args.capture is None:
        raise InputError("no capture is given; give one, or --profile to write the Wireshark profile")
    return _open(args.capture)


def _open(capture: str) -> int:
    from dataplane.capture.open import open_capture
    from dataplane.capture.wireshark import tshark_line, wireshark_command
    from dataplane.errors import InputError

    next(open_capture(capture), None)  # a file that is no capture is told here, not in a dialog
    try:
        return subprocess.run(wireshark_command(capture), check=False).returncode
    except FileNotFoundError as error:
        raise InputError(f"wireshark is not installed; install it, or see the capture with: {tshark_line(capture)}") from error
