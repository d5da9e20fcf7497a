"""Compiles test-only Cython modules ("probes") that make the core's inline functions callable from Python."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from Cython.Build import cythonize
from setuptools import Distribution, Extension

DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False, "cdivision": True}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def compile_probe(source: Path, checkout: Path, folder: Path) -> ModuleType:
    """Compile ``source`` (a .pyx file without package) against the headers in ``checkout`` and import it; products go to ``folder``."""
    sanitize = SANITIZE if os.environ.get("DATAPLANE_SANITIZE", "0") not in ("", "0") else []
    extension = Extension(source.stem, [str(source)], extra_compile_args=["-O1", *sanitize], extra_link_args=sanitize)
    modules = cythonize(
        [extension], include_path=[str(checkout)], build_dir=str(folder), compiler_directives=DIRECTIVES, quiet=True, force=True
    )
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    spec = importlib.util.spec_from_file_location(source.stem, command.get_ext_fullpath(source.stem))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def probe(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModuleType]:
    """``probe("ct_probe")``: tests/core/ct_probe.pyx, compiled once in a session."""
    compiled: dict[str, ModuleType] = {}

    def get(name: str) -> ModuleType:
        if name not in compiled:
            compiled[name] = compile_probe(Path(__file__).with_name(f"{name}.pyx"), checkout, tmp_path_factory.mktemp(name))
        return compiled[name]

    return get


@pytest.fixture(scope="session")
def ct(probe: Callable[[str], ModuleType]) -> ModuleType:
    """The connection trackers."""
    return probe("ct_probe")
