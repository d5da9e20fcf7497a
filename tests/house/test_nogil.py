"""Nothing on the packet path may take the GIL.

A ``nogil`` function without ``noexcept`` compiles without a hint, and its caller takes the GIL to look for an
exception whenever it returns the error value, which is what our drop verdicts look like.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from house.sources import ROOT, cython_functions, shown, source_files

pytestmark = pytest.mark.house

PACKET_PATH = ("wire", "tables", "stages", "devices", "encap")
FUNCTION_POINTER = re.compile(r"\(\s*\*\s*\w+\s*\)\s*\([^)]*\)(?P<rest>[^\n#]*)")
NOGIL = re.compile(r"\bnogil\b")
NOEXCEPT_NOGIL = re.compile(r"\bnoexcept\s+nogil\b")


def takes_gil(path: Path, packet_path: bool) -> list[str]:
    """C functions and function pointers of a file that are ``nogil`` without ``noexcept``; on the packet path, others too."""
    signatures = {
        f"{found.file}:{found.line} {found.name}": found.signature.rpartition(")")[2]
        for found in cython_functions(path)
        if re.match(r"(cdef|cpdef)\b", found.signature)
    }
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        pointer = FUNCTION_POINTER.search(line.split("#")[0])
        if pointer:
            signatures[f"{shown(path)}:{number} function pointer"] = pointer["rest"]
    must = re.compile("") if packet_path else NOGIL
    return [where for where, rest in signatures.items() if must.search(rest) and not NOEXCEPT_NOGIL.search(rest)]


def on_packet_path(path: Path) -> bool:
    return path.suffix == ".pxd" and path.relative_to(ROOT / "ext").parts[0] in PACKET_PATH


def test_c_functions_of_the_core_are_noexcept_nogil() -> None:
    files = [path for path in source_files(".pyx", ".pxd") if path.is_relative_to(ROOT / "ext")]
    assert files
    assert [where for path in files for where in takes_gil(path, on_packet_path(path))] == []


BAD = """
cdef inline int forgets_noexcept(const uint8_t *frame,
                                 uint32_t length) nogil:
    return -1

cdef int forgets_both(int a):
    return a

cdef inline int good(int a) noexcept nogil:  # nogil
    return a

ctypedef int (*push_fn)(void *state) nogil
"""


def test_a_function_that_may_take_the_gil_is_found(tmp_path: Path) -> None:
    header = tmp_path / "bad.pxd"
    header.write_text(BAD)
    assert takes_gil(header, packet_path=True) == [
        "bad.pxd:2 forgets_noexcept",
        "bad.pxd:6 forgets_both",
        "bad.pxd:12 function pointer",
    ]
    assert takes_gil(header, packet_path=False) == ["bad.pxd:2 forgets_noexcept", "bad.pxd:12 function pointer"]
