"""Single packets put into an encapsulation and taken out of it, by the core, without a device or a world around them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dataplane import _core
from dataplane.capture.headers import flow_key, network_offset
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet
from dataplane.capture.tunnel import ETHERTYPE_TEB, LayerField, Outer, outer_of
from dataplane.encap.header_options import option_key, options_of
from dataplane.encap.registry import ensure
from dataplane.errors import InputError

_NO_SENDER = b"\xff" * 6  # a MAC that no frame comes from: there is no device whose own could be met

Options = Mapping[str, int | bytes]


class Taken(NamedTuple):
    """An outer packet taken apart."""

    fields: list[LayerField]  # of the encapsulation's headers, UDP included; those found where they are broken off
    rest: bytes  # what follows those headers, whether or not a device would accept them; b"" where they are broken off
    inner: bytes  # what a device accepted
    inner_protocol: int  # its EtherType; 0: refused, or a message of the protocol's own
    reason: str | None  # of the drop, as in the core's table


def described(kind: str, ip_protocol: int, body: bytes) -> tuple[list[LayerField], int]:
    """The fields of the headers behind an IP header, and how many bytes they take, -1 if they are broken off.

    None and 0 for an encapsulation that does not describe itself. Raises InputError: nobody offers it.
    """
    ensure(kind)
    fields, size = _core.encap_describe(kind, ip_protocol, body) or ([], 0)
    return [LayerField(*field) for field in fields], size


def codec_of(kind: str, options: Options) -> _core.Codec:
    """Of a device with ``options``, which may be called by the header fields they set. Raises InputError: nobody offers ``kind``, or
    it does not take such options."""
    ensure(kind)
    known = _known_options(kind)
    try:
        return _core.Codec(kind, {option_key(known, name): value for name, value in options.items()})
    except ValueError as error:
        raise InputError(f"{error} (dataplane encap show {kind} lists the options)") from error


def _known_options(kind: str) -> list[str]:
    return [option.key for option in _core.encap_options(kind)]


def take_apart(kind: str, outer: Outer, options: Options, like: Sequence[LayerField] = ()) -> Taken:
    """What a device with ``options`` makes of the packet. What they leave open is set to fit the fields ``like``, or the packet's own,
    so that a device with another identifier or port is not what refuses it."""
    fields, size = described(kind, outer.protocol, outer.body)
    known = _known_options(kind)
    given = {option_key(known, name): value for name, value in options.items()}
    popped = codec_of(kind, {**options_of(known, like or fields), **given}).pop(outer.packet, device_mac=_NO_SENDER)
    rest = outer.body[size:] if size >= 0 else b""
    return Taken(fields, rest, popped.inner, popped.inner_protocol, popped.reason)


def encapsulated(codec: _core.Codec, packet: Packet, local: bytes, remote: bytes) -> bytes:
    """The outer IP packet around a captured frame or IP packet; a frame loses its link header where only IP packets are carried.

    Raises ``_core.EncapDrop`` where the encapsulation refuses it, ValueError where it breaks its contract.
    """
    if packet.is_l3:
        inner, protocol = packet.data, packet.ethertype
    elif codec.ethernet:
        inner, protocol = packet.data, ETHERTYPE_TEB
    else:
        at, outer = network_offset(packet.data), outer_of(packet.data)
        inner = packet.data[at:] if outer is None else outer.packet  # without padding
        protocol = int.from_bytes(packet.data[at - 2 : at], "big")
    return codec.push(inner, protocol, local, remote, flow_hash=_flow_hash(inner, protocol))


def _flow_hash(inner: bytes, protocol: int) -> int:
    """Of the inner flow, the same in both directions; which function it is Linux leaves to a seed of each boot."""
    key = flow_key(inner[network_offset(inner) :] if protocol == ETHERTYPE_TEB else inner)
    if key is None:
        return 0
    ends = sorted((key.source + key.source_port, key.destination + key.destination_port))
    return zlib.crc32(bytes((key.protocol,)) + b"".join(ends))


def outer_of_packet(packet: Packet) -> Outer | None:
    """As ``outer_of``, of a packet of ``open_capture``."""
    return outer_of(packet.data, LINKTYPE_RAW if packet.is_l3 else LINKTYPE_ETHERNET)
