"""A packet-level emulator of a Kubernetes cluster's network.

``Cluster.load`` reads manifests, ``Emulator`` carries frames through the cluster they describe.
Names are imported when first used, so that ``import dataplane`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.emulator import CapturedFrame, Cluster, DroppedFrame, Emulator, Step
    from dataplane.errors import InputError
    from dataplane.include_path import get_include
    from dataplane.version import __version__

__all__ = ["CapturedFrame", "Cluster", "DroppedFrame", "Emulator", "InputError", "Step", "__version__", "get_include"]

_HOMES = {
    "CapturedFrame": "emulator",
    "Cluster": "emulator",
    "DroppedFrame": "emulator",
    "Emulator": "emulator",
    "InputError": "errors",
    "Step": "emulator",
    "__version__": "version",
    "get_include": "include_path",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dataplane' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dataplane.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
