"""``dataplane encap``: what encapsulations there are, and single packets put into one or taken out of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dataplane.cli import options
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane.capture.tunnel import Outer
    from dataplane.report.encap_text import Shown

HELP = "list encapsulations, and put packets into one or take them out"
ACTIONS = ("list", "show", "push", "pop")
SCHEMA_VERSION = 1
DEFAULT_SOURCE, DEFAULT_DESTINATION = "192.0.2.1", "192.0.2.2"  # RFC 5737


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("action", choices=ACTIONS, help="list all, show one, push packets into one, pop them out of it")
    explained = "the encapsulation; pop takes the usual one of the packet's protocol or port where none is named"
    parser.add_argument("name", nargs="?", metavar="NAME", help=explained)
    explained = (
        "an option of the encapsulation (show lists them), or the header field it sets: a number, hex:BYTES, @FILE, or text; repeatable"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=explained)
    parser.add_argument("--src", default=DEFAULT_SOURCE, metavar="IP", help="outer source address of push (default: %(default)s)")
    parser.add_argument("--dst", default=DEFAULT_DESTINATION, metavar="IP", help="outer destination of push (default: %(default)s)")
    parser.add_argument("-r", "--read", default="-", metavar="IN", help="packets: hexadecimal, one a line, or a capture (default: stdin)")
    parser.add_argument("-w", "--write", metavar="OUT", help="capture to write instead of text: pcapng, - is standard output")
    explained = "output format (default: text; push writes hex then)"
    parser.add_argument("-o", "--output", choices=("text", "hex", "json"), default="text", help=explained)
    options.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    """0; 1: a packet was refused, or is in no tunnel. Raises InputError for unreadable input, unknown names and wrong options."""
    if args.action != "pop" and (args.name is None) != (args.action == "list"):
        expected = "takes no name" if args.action == "list" else "needs the NAME of an encapsulation (dataplane encap list)"
        raise InputError(f"encap {args.action} {expected}")
    return {"list": _list, "show": _show, "push": _push, "pop": _pop}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from dataplane.encap.registry import known
    from dataplane.report.encap_text import listing
    from dataplane.report.tables import render

    print(render(listing(known()), "json" if args.output == "json" else "table"), end="")
    return 0


def _show(args: argparse.Namespace) -> int:
    from dataplane.report.encap_text import show_json, show_text

    if args.output == "json":
        _print_json(show_json(args.name))
    else:
        print(show_text(args.name), end="")
    return 0


def _push(args: argparse.Namespace) -> int:
    from dataplane import _core
    from dataplane.capture.hex_text import open_frames
    from dataplane.capture.packet import LINKTYPE_RAW
    from dataplane.capture.tunnel_codec import codec_of, encapsulated

    codec = codec_of(args.name, _options(args))
    local, remote = _ends(args)
    made: list[tuple[int, bytes]] = []
    refused: list[tuple[int, str]] = []
    for packet in open_frames(args.read):
        try:
            made.append((packet.number, encapsulated(codec, packet, local, remote)))
        except _core.EncapDrop as drop:
            refused.append((packet.number, drop.reason))
        except ValueError as error:
            raise InputError(f"packet {packet.number}: {args.name}: {error}") from error
    if args.write is not None:
        _write([(LINKTYPE_RAW, data) for _, data in made], args.write)
    elif args.output == "json":
        packets = [{"number": number, "packet": data.hex()} for number, data in made]
        _print_json({"schema": "dataplane.encap.push", "version": SCHEMA_VERSION, "encapsulation": args.name, "packets": packets})
    else:
        _print_hex(data for _, data in made)
    return _refusals(refused)


def _pop(args: argparse.Namespace) -> int:
    from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW
    from dataplane.capture.tunnel import ETHERTYPE_TEB
    from dataplane.report.encap_text import shown_json, shown_text

    shown, refused = _taken_apart(args)
    inner = [(packet.taken.inner_protocol, packet.taken.inner) for packet in shown if packet.taken.inner_protocol]
    if args.write is not None:
        _write([(LINKTYPE_ETHERNET if protocol == ETHERTYPE_TEB else LINKTYPE_RAW, data) for protocol, data in inner], args.write)
    elif args.output == "json":
        _print_json({"schema": "dataplane.encap.pop", "version": SCHEMA_VERSION, "packets": [shown_json(packet) for packet in shown]})
    elif args.output == "hex":
        _print_hex(data for _, data in inner)
    else:
        print("".join(map(shown_text, shown)), end="")
    return _refusals(refused)


def _taken_apart(args: argparse.Namespace) -> tuple[list[Shown], list[tuple[int, str]]]:
    """The tunnel packets of the input, and the number of every packet out of which nothing comes, with the reason."""
    from dataplane.capture.hex_text import open_frames
    from dataplane.capture.tunnel_codec import outer_of_packet, take_apart
    from dataplane.encap.guess import guess
    from dataplane.report.encap_text import Shown

    shown: list[Shown] = []
    refused: list[tuple[int, str]] = []
    options = _options(args)
    for packet in open_frames(args.read):
        outer = outer_of_packet(packet)
        kind = args.name or (guess(outer.protocol, outer.body) if outer else None)
        if outer is None or kind is None:
            refused.append((packet.number, _no_tunnel(outer)))
            continue
        taken = take_apart(kind, outer, options)
        shown.append(Shown(packet.number, kind, outer, taken))
        if taken.reason is not None:
            refused.append((packet.number, taken.reason))
    return shown, refused


def _no_tunnel(outer: Outer | None) -> str:
    if outer is None:
        return "it holds no whole IP packet, so it is in no tunnel"
    port = f" and UDP port {outer.port}" if outer.port else ""
    return f"nothing usual has IP protocol {outer.protocol}{port}: name the encapsulation"


def _options(args: argparse.Namespace) -> dict[str, int | bytes]:
    from dataplane.encap.option_text import option_value

    options = {}
    for setting in args.set:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise InputError(f"--set {setting}: KEY=VALUE is expected")
        try:
            options[key] = option_value(text)
        except InputError as error:
            raise InputError(f"--set {setting}: {error}") from error
    return options


def _ends(args: argparse.Namespace) -> tuple[bytes, bytes]:
    """Outer source and destination, both of one family."""
    try:
        source, destination = ip_address(args.src), ip_address(args.dst)
    except ValueError as error:
        raise InputError(f"--src or --dst: {error}") from error
    if source.version != destination.version:
        raise InputError(f"--src {source} and --dst {destination}: give both, of one family")
    return source.packed, destination.packed


def _write(packets: Sequence[tuple[int, bytes]], target: str) -> None:
    """Write packets with their link types to a pcapng file, ``-`` is standard output."""
    if target != "-":
        _write_capture(packets, target)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "packets.pcapng"
        _write_capture(packets, path)
        sys.stdout.buffer.write(path.read_bytes())


def _write_capture(packets: Sequence[tuple[int, bytes]], path: str | Path) -> None:
    from dataplane.capture.pcapng_write import CaptureWriter, Interface

    links = list(dict.fromkeys(link_type for link_type, _ in packets))
    with CaptureWriter(path, [Interface("encap", link_type=link_type) for link_type in links]) as writer:
        for number, (link_type, data) in enumerate(packets, 1):
            writer.write(links.index(link_type), 0, data, False, number)


def _print_hex(packets: Iterable[bytes]) -> None:
    for data in packets:
        print(data.hex())


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def _refusals(refused: Sequence[tuple[int, str]]) -> int:
    """Say on standard error which packets were refused and why; the exit code."""
    from dataplane.report.encap_text import sentence_of

    for number, reason in refused:
        print(f"packet {number}: refused: {sentence_of(reason)}", file=sys.stderr)
    return 1 if refused else 0
