"""A module outside the tree is built against the headers that a wheel ships, with ``dataplane.get_include()`` alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.house, pytest.mark.slow]

OUTSIDER = """
from ext.wire.bytes cimport ld16, ld32

def read(const unsigned char[:] data):
    return ld16(&data[0]), ld32(&data[2])
"""
BUILD = """
import dataplane
from Cython.Build import cythonize
from setuptools import Extension, setup
folder = dataplane.get_include()
setup(name="outsider", script_args=["--quiet", "build_ext", "--inplace"],
      ext_modules=cythonize([Extension("outsider", ["outsider.pyx"], include_dirs=[folder])], include_path=[folder], quiet=True))
print(folder)
"""


@pytest.fixture(scope="module")
def unpacked_wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel would hold, but for the compiled modules."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(target)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    return target


def test_the_wheel_ships_every_header(checkout: Path, unpacked_wheel: Path) -> None:
    ours = {path.relative_to(checkout) for suffix in ("*.pxd", "*.h") for path in (checkout / "ext").rglob(suffix)}
    include = unpacked_wheel / "dataplane" / "include"
    assert {path.relative_to(include) for path in include.rglob("*") if path.is_file()} == ours


def test_the_wheel_ships_types_and_no_tests(unpacked_wheel: Path) -> None:
    names = {str(path.relative_to(unpacked_wheel)) for path in unpacked_wheel.rglob("*") if path.is_file()}
    assert {"dataplane/py.typed", "dataplane/_core.pyi", "dataplane/_lpm.pyi"} <= names
    assert {name.split("/")[0] for name in names} == {"dataplane"}


def test_a_module_outside_the_tree_is_built_against_the_shipped_headers(unpacked_wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "outsider.pyx").write_text(OUTSIDER)
    environment = os.environ | {"PYTHONPATH": str(unpacked_wheel)}
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert built.stdout.split() == [str(unpacked_wheel / "dataplane" / "include")], built.stderr
    used = [sys.executable, "-c", "import outsider; print(outsider.read(bytes.fromhex('0102 03040506')))"]
    assert subprocess.run(used, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == f"({0x0102}, {0x03040506})\n"
