"""Makes encapsulations known to the core: the built-in ones, and those that installed packages offer.

The built-in ones are the compiled modules ``dataplane._encap_NAME``. A plug-in is an entry point of group
``dataplane.encap`` whose object has an attribute ``capsule``: a PyCapsule with the struct of ``encap_abi.h``
(see ``dataplane.get_include()``).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points

import dataplane
from dataplane.errors import InputError

GROUP = "dataplane.encap"
PREFIX = "_encap_"


def built_in() -> dict[str, str]:
    """Names of the built-in encapsulations in alphabetical order, with their modules."""
    modules = sorted(module.name for module in pkgutil.iter_modules(dataplane.__path__) if module.name.startswith(PREFIX))
    return {name.removeprefix(PREFIX): f"dataplane.{name}" for name in modules}


def known() -> list[str]:
    """Every name that ``ensure`` takes: built in, offered by an installed package, or registered by the program itself."""
    from dataplane import _core

    return sorted({*built_in(), *(point.name for point in entry_points(group=GROUP)), *_core.encapsulations()})


def ensure(kind: str) -> None:
    """Register the encapsulation ``kind`` with the core if it is not yet. InputError: nobody offers it, or it is refused."""
    from dataplane import _core

    if kind in _core.encapsulations():
        return
    try:
        module = built_in().get(kind)
        if module is not None:
            _core.register_encap(import_module(module).capsule)
            return
        for point in entry_points(group=GROUP, name=kind):
            _core.register_encap(point.load().capsule)
            return
    except (ValueError, AttributeError, ImportError) as error:
        raise InputError(f"encapsulation {kind}: {error}") from error
    raise InputError(f"no encapsulation is called {kind}; known: {', '.join(known())}; others come as entry points of {GROUP}")
