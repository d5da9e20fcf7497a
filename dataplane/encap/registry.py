"""Makes encapsulations known to the core: the built-in ones, and those that installed packages offer.

The built-in ones are the compiled modules ``dataplane._encap_NAME``, and Python classes in this package. A plug-in is an
entry point of group ``dataplane.encap`` whose object has an attribute ``capsule``: a PyCapsule with the struct of
``encap_abi.h`` (see ``dataplane.get_include()``, or ``python_plugin.capsule()`` for a class).
"""

from __future__ import annotations

import os
import pkgutil
import runpy
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import dataplane
from dataplane.errors import InputError

GROUP = "dataplane.encap"
PREFIX = "_encap_"
IN_PYTHON = {"sleeve": "dataplane.encap.sleeve", "wireguard": "dataplane.encap.wireguard.device"}


def compiled() -> dict[str, str]:
    """Names of the built-in encapsulations that are compiled, with their modules."""
    modules = (module.name for module in pkgutil.iter_modules(dataplane.__path__) if module.name.startswith(PREFIX))
    return {name.removeprefix(PREFIX): f"dataplane.{name}" for name in modules}


def built_in() -> dict[str, str]:
    """Names of the built-in encapsulations in alphabetical order, with their modules."""
    return dict(sorted((compiled() | IN_PYTHON).items()))


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


_programs: list[dict[str, Any]] = []  # the core calls what they hold for the life of the process


def _capsules(items: Iterable[object]) -> list[object]:
    """Those of the items that have one; modules of this package have functions of that name."""
    return [item.capsule for item in items if hasattr(item, "capsule") and not callable(item.capsule)]


def load_file(path: str | os.PathLike[str]) -> list[str]:
    """Register what a Python file offers, and return the names: its ``capsule``, or every object of it that has a ``capsule``.

    InputError: the file cannot be run, offers nothing, or is refused.
    """
    from dataplane import _core

    before = set(_core.encapsulations())
    try:
        offered = runpy.run_path(os.fspath(path))
        _programs.append(offered)
        capsules = [offered["capsule"]] if "capsule" in offered else _capsules(offered.values())
        for capsule in capsules:
            _core.register_encap(capsule)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error
    except Exception as error:  # whatever a user's program may raise
        raise InputError(f"{os.fspath(path)}: {type(error).__name__}: {error}") from error
    if not capsules:
        raise InputError(f"{os.fspath(path)}: offers no encapsulation: it must define `capsule`, or an object with an attribute `capsule`")
    return [name for name in _core.encapsulations() if name not in before]
