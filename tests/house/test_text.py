"""What must not stand in any file of the project."""

from __future__ import annotations

import re

import pytest

from house.sources import ROOT, all_files, shown, source_files

pytestmark = pytest.mark.house

# Written in parts, so that this file does not find itself.
FOREIGN = [
    re.compile(rb"(?<![\w.])/" + rb"(?:work|root|home)/\w"),
    re.compile(rb"py" + rb"pi\.org|pythonhosted" + rb"\.org|/opt/" + rb"py" + rb"pi"),
    re.compile(rb"\." + rb"library/"),
]


def foreign_text(content: bytes) -> list[str]:
    return [match.group().decode() for pattern in FOREIGN for match in pattern.finditer(content)]


def test_no_path_of_one_machine_and_no_registry_stands_in_any_file() -> None:
    found = {shown(path): foreign_text(path.read_bytes()) for path in all_files() if path.suffix != ".so"}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_such_text_is_found() -> None:
    assert foreign_text(b"see /" + b"home/me/x") == ["/" + "home/m"]
    assert foreign_text(b"nothing, not even host/home/ or ./work") == []


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in source_files(".py") if path.is_relative_to(ROOT / "dataplane")}
    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
