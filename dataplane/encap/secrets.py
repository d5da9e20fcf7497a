"""Decryption secrets of an engine's devices, for captures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane._core import Engine


def take_secrets(engine: Engine) -> list[tuple[int, bytes]]:
    """New ones since the last call, in the form of ``CaptureWriter.add_secrets``: they stand in a capture before the frames they
    decrypt, so ask for them before ``engine.frames()``."""
    plugins = sys.modules.get("dataplane._python_encap")
    if plugins is None:  # no device can have any
        return []
    taken: list[tuple[int, bytes]] = plugins.take_secrets(engine)
    return taken
