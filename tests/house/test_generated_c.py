"""The C that Cython makes of packet-path functions calls nothing of Python."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.sources import ROOT, cython_functions, source_files

pytestmark = pytest.mark.house

DIRECTIVES = ("language_level=3", "boundscheck=False", "wraparound=False", "initializedcheck=False", "cdivision=True")
PYTHON_CALL = re.compile(r"\b(?:Py[A-Z]\w*|__Pyx_\w+|PyGILState\w*)")
DEFINITION = re.compile(r"^static [^;{}()]*?\b(?P<name>__pyx_f_\w+)\([^;{}]*\) \{$", re.MULTILINE)


def generate(source: Path, target: Path) -> str:
    options = [argument for directive in DIRECTIVES for argument in ("-X", directive)]
    command = [sys.executable, "-m", "cython", "-3", *options, "-I", str(ROOT), "-o", str(target), str(source)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target.read_text(encoding="utf-8")


def bodies(generated: str) -> Iterator[tuple[str, str]]:
    """Name and body of every C function made of a ``cdef`` function."""
    for match in DEFINITION.finditer(generated):
        end = generated.index("\n}\n", match.end())
        yield match["name"], without_comments(generated[match.end() : end])


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def mangled(path: Path, root: Path) -> str:
    """How Cython starts the C names of a module's functions: each part of its name behind its length."""
    parts = path.relative_to(root).with_suffix("").parts
    return "__pyx_f_" + "".join(f"{len(part)}{part}_" for part in parts)


def nogil_functions(files: list[Path], root: Path) -> re.Pattern[str]:
    """Matches the C names of the ``cdef`` functions and methods in ``files`` that run without the GIL."""
    names = [
        mangled(path, root) + r"(?:\d+[A-Za-z]\w*_)?" + function.name
        for path in files
        for function in cython_functions(path)
        if function.signature.startswith("cdef") and "nogil" in function.signature.rpartition(")")[2]
    ]
    return re.compile("|".join(names))


def python_calls(generated: str, checked: re.Pattern[str]) -> list[str]:
    """Calls into Python from C functions whose name ``checked`` matches: ``function: what it calls``."""
    return [
        f"{name}: {call}" for name, body in bodies(generated) if checked.fullmatch(name) for call in sorted(set(PYTHON_CALL.findall(body)))
    ]


ENCAPSULATIONS = sorted(f"encap/{path.name}" for path in (ROOT / "ext" / "encap").glob("*.pyx"))
MODULES = ["engine.pyx", "lpm.pyx", "capture_read.pyx", "capture_write.pyx", "generate.pyx", "declarative_encap.pyx", *ENCAPSULATIONS]


@pytest.mark.parametrize("module", MODULES)
def test_packet_path_functions_call_nothing_of_python(module: str, tmp_path: Path) -> None:
    checked = nogil_functions([path for path in source_files(".pyx", ".pxd") if path.is_relative_to(ROOT / "ext")], ROOT)
    generated = generate(ROOT / "ext" / module, tmp_path / "module.c")
    assert any(checked.fullmatch(name) for name, _ in bodies(generated))
    assert python_calls(generated, checked) == []


BAD = """
cdef int raises(int a) except -2 nogil:
    if a:
        with gil:
            raise ValueError(a)
    return 0

cdef int calls_it(int a) noexcept nogil:
    return raises(a)

cdef int counts(int a) noexcept nogil:
    return a + 1

def use(int a):
    return calls_it(a) + counts(a)
"""


def test_a_function_that_calls_python_is_found(tmp_path: Path) -> None:
    source = tmp_path / "bad.pyx"
    source.write_text(BAD)
    generated = generate(source, tmp_path / "bad.c")
    calls = python_calls(generated, nogil_functions([source], tmp_path))
    assert {line.split(":")[0] for line in calls} == {"__pyx_f_3bad_raises", "__pyx_f_3bad_calls_it"}
