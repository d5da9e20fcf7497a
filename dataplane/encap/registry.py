"""Makes encapsulations known to the core: the built-in ones, and those that installed packages offer.

A plug-in is an entry point of group ``dataplane.encap`` whose object has an attribute ``capsule``: a PyCapsule with the
struct of ``encap_abi.h`` (see ``dataplane.get_include()``).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from dataplane.errors import InputError

BUILT_IN = {"vxlan": "dataplane._encap_vxlan"}
GROUP = "dataplane.encap"


def ensure(kind: str) -> None:
    """Register the encapsulation ``kind`` with the core if it is not yet. InputError: nobody offers it, or it is refused."""
    from dataplane import _core

    if kind in _core.encapsulations():
        return
    try:
        if kind in BUILT_IN:
            _core.register_encap(import_module(BUILT_IN[kind]).capsule)
            return
        for point in entry_points(group=GROUP, name=kind):
            _core.register_encap(point.load().capsule)
            return
    except (ValueError, AttributeError, ImportError) as error:
        raise InputError(f"encapsulation {kind}: {error}") from error
    known = ", ".join(sorted(BUILT_IN))
    raise InputError(f"no encapsulation is called {kind}; built in: {known}; others come as entry points of {GROUP}")
