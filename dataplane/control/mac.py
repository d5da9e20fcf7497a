"""MAC addresses as bytes, and those that nobody wrote down."""

from __future__ import annotations

import re

from dataplane.errors import InputError
from dataplane.k8s.derive import derive_mac

_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")


def parse_mac(text: str, where: object) -> bytes:
    """Six bytes of ``02:00:00:00:00:01``. ``where``, as text, begins the message of the ``InputError`` for anything else."""
    if not _MAC.fullmatch(text):
        raise InputError(f"{where}: {text!r} is no MAC address: write six bytes as 02:00:00:00:00:01")
    return bytes.fromhex(text.replace(":", ""))


def mac_of(written: str | None, where: object, purpose: str, name: str) -> bytes:
    """The MAC that a manifest gives, or the one that follows from ``purpose`` and ``name`` (what Linux would draw at random)."""
    return parse_mac(written or derive_mac(purpose, name), where)
