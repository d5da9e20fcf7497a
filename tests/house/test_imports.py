"""Imports point one way, in the package and in the core."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from house.sources import ROOT, source_files

pytestmark = pytest.mark.house

PACKAGE_RANKS = {
    "cli": 6,
    "bench": 5,
    "report": 4,
    "explain": 4,
    "scale": 4,
    "live": 4,
    "traffic": 3,
    "capture": 3,
    "testing": 3,
    "control": 2,
    "encap": 1,
    "k8s": 1,
}
"""A module may import what ranks as high as itself or lower. Single modules beside the packages that everybody may
import rank 0; the Python interface (``dataplane/__init__.py`` and what only it uses) ranks with reports."""

INTERFACE_RANK = 4
COMPILED = {"_core", "_build", "_lpm", "_rulebook", "_capture_read", "_capture_write", "_generate", "_declarative_encap", "_python_encap"}
BORDER = COMPILED | {"errors", "version", "include_path", "scapy_border"}
CORE_RANKS = {"capture": 4, "stages": 4, "fast": 3, "devices": 2, "tables": 2, "encap": 2, "wire": 1}
ENGINE_RANK = 5
CIMPORT = re.compile(r"^\s*(?:from\s+(ext[\w.]*)\s+cimport|cimport\s+(ext[\w.]*))", re.MULTILINE)


def imported_modules(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "dataplane")
    return {name for name in names if name.startswith("dataplane.")}


def rank(module: str) -> int:
    """Of ``dataplane.x.y``."""
    part = module.split(".")[1]
    if part in BORDER:
        return 0
    return PACKAGE_RANKS.get(part, INTERFACE_RANK)


def wrong_imports(module: str, source: str) -> list[str]:
    return sorted(f"{module} imports {name}" for name in imported_modules(source) if rank(name) > rank(module))


def core_rank(module: str) -> int:
    """Of ``ext.x.y``."""
    return CORE_RANKS.get(module.split(".")[1], ENGINE_RANK)


def wrong_cimports(module: str, source: str) -> list[str]:
    names = {first or second for first, second in CIMPORT.findall(source)}
    return sorted(f"{module} cimports {name}" for name in names if core_rank(name) > core_rank(module))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_imports_of_the_package_point_one_way() -> None:
    files = [path for path in source_files(".py") if path.is_relative_to(ROOT / "dataplane")]
    assert files
    assert [line for path in files for line in wrong_imports(module_name(path), path.read_text(encoding="utf-8"))] == []


def test_cimports_of_the_core_point_one_way() -> None:
    files = [path for path in source_files(".pyx", ".pxd") if path.is_relative_to(ROOT / "ext")]
    assert files
    assert [line for path in files for line in wrong_cimports(module_name(path), path.read_text(encoding="utf-8"))] == []


def test_the_core_imports_nothing_of_the_package() -> None:
    importing = re.compile(r"^\s*(?:from|import|cimport)\s+dataplane\b", re.MULTILINE)
    assert [str(path) for path in source_files(".pyx", ".pxd") if importing.search(path.read_text(encoding="utf-8"))] == []


def test_heavy_modules_are_imported_only_where_they_are_wanted() -> None:
    heavy = re.compile(r"^(?:from|import)\s+(?:scapy|pcapy|numba|matplotlib)\b", re.MULTILINE)
    files = [path for path in source_files(".py") if path.is_relative_to(ROOT / "dataplane") and path.stem != "scapy_border"]
    assert [str(path) for path in files if heavy.search(path.read_text(encoding="utf-8"))] == []


def test_an_import_against_the_direction_is_found() -> None:
    assert wrong_imports("dataplane.k8s.load", "from dataplane.control.build import build\nfrom dataplane.errors import InputError\n") == [
        "dataplane.k8s.load imports dataplane.control.build"
    ]
    assert wrong_imports("dataplane.control.build", "from dataplane import cli\n") == ["dataplane.control.build imports dataplane.cli"]
    assert wrong_cimports("ext.wire.ipv4", "from ext.wire.bytes cimport ld16\nfrom ext.tables.fib cimport lookup\n") == [
        "ext.wire.ipv4 cimports ext.tables.fib"
    ]
