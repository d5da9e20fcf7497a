"""The project's own files, and the functions in them, for tests that read source text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", "build", "dist", "out"}
SOURCE_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c"}
CYTHON_SUFFIXES = {".pyx", ".pxd"}

CYTHON_FUNCTION = re.compile(r"^(?P<indent> *)(?:cdef|cpdef|def)\b(?P<head>[^=(]*)\(")
NAME_BEFORE_PARENTHESIS = re.compile(r"(\w+)\Z")


@dataclass(frozen=True)
class Function:
    """A function as it stands in a file; ``lines`` counts from its first line to its last."""

    file: str
    line: int
    name: str
    lines: int
    signature: str


def ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    hidden = any(part.startswith(".") and part not in (".ci", ".gitignore") for part in parts)
    return not (hidden or NOT_OURS & set(parts) or any(part.endswith((".egg-info", "__pycache__")) for part in parts))


def all_files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*") if path.is_file() and ours(path))


def source_files(*suffixes: str) -> list[Path]:
    wanted = set(suffixes) or SOURCE_SUFFIXES
    return [path for path in all_files() if path.suffix in wanted]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def python_functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(shown(path), node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1, "")


def signature_end(lines: list[str], start: int) -> int:
    """Index of the line on which the parentheses opened in ``start`` are closed."""
    depth = 0
    for index in range(start, len(lines)):
        code = lines[index].split("#")[0]
        depth += code.count("(") - code.count(")")
        if depth <= 0:
            return index
    return len(lines) - 1


def body_end(lines: list[str], start: int, indent: int) -> int:
    """Index of the last line of the block that follows ``start``, which is indented by ``indent``."""
    last = start
    for index in range(start + 1, len(lines)):
        text = lines[index]
        if text.strip() and len(text) - len(text.lstrip()) <= indent:
            break
        if text.strip():
            last = index
    return last


def cython_functions(path: Path) -> Iterator[Function]:
    """Functions defined or declared in a Cython file; those of ``cdef extern`` blocks belong to others and are left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for index, text in enumerate(lines):
        match = CYTHON_FUNCTION.match(text)
        name = NAME_BEFORE_PARENTHESIS.search(match["head"]) if match else None
        if match is None or name is None:
            continue
        closed = signature_end(lines, index)
        end = body_end(lines, closed, len(match["indent"]))
        signature = " ".join(line.split("#")[0].strip() for line in lines[index : closed + 1])
        yield Function(shown(path), index + 1, name[1], end - index + 1, signature)


def functions(path: Path) -> Iterator[Function]:
    return cython_functions(path) if path.suffix in CYTHON_SUFFIXES else python_functions(path)
