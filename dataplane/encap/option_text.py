"""Options of encapsulations as people write them, in commands and manifests."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from dataplane.errors import InputError

HEX = "hex:"


def option_value(text: str) -> int | bytes:
    """A number (0x too), an address, bytes in hexadecimal pairs (joined by ``:``, or behind ``hex:``), those of ``@FILE``, else the text's.

    Addresses are in network byte order. ``InputError``: the file cannot be read, or what is behind ``hex:`` is not hexadecimal.
    """
    if text.startswith("@"):
        return _file_bytes(text.removeprefix("@"))
    if text.startswith(HEX):
        try:
            return bytes.fromhex(text.removeprefix(HEX))
        except ValueError:
            raise InputError("two hexadecimal digits a byte are expected after hex:") from None
    for read in (lambda: int(text, 0), lambda: ip_address(text).packed, lambda: bytes.fromhex(text.replace(":", ""))):
        try:
            return read()
        except ValueError:
            continue
    return text.encode()


def _file_bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
