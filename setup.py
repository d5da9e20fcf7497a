"""Builds the compiled core; everything else about the package stands in ``pyproject.toml``.

Environment: DATAPLANE_DEBUG=1 (checks on, -O1: a quick compile), DATAPLANE_SANITIZE=1 (the same with ASan and UBSan),
DATAPLANE_NATIVE=1 (code for this machine's processor only).
"""

import json
import os
import platform
import shutil
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
HEADERS = sorted(str(path.relative_to(ROOT)) for pattern in ("*.pxd", "*.h") for path in (ROOT / "ext").rglob(pattern))
ENCAPSULATIONS = {f"dataplane._encap_{path.stem}": str(path.relative_to(ROOT)) for path in sorted((ROOT / "ext" / "encap").glob("*.pyx"))}
MODULES = {
    "dataplane._core": "ext/engine.pyx",
    "dataplane._build": "ext/build_info.pyx",
    "dataplane._lpm": "ext/lpm.pyx",
    "dataplane._rulebook": "ext/rulebook.pyx",
    "dataplane._capture_read": "ext/capture_read.pyx",
    "dataplane._capture_write": "ext/capture_write.pyx",
    "dataplane._generate": "ext/generate.pyx",
    "dataplane._declarative_encap": "ext/declarative_encap.pyx",
    "dataplane._python_encap": "ext/python_encap.pyx",
    **ENCAPSULATIONS,
}


def enabled(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


SANITIZE = enabled("DATAPLANE_SANITIZE")
DEBUG = SANITIZE or enabled("DATAPLANE_DEBUG")


def compile_flags() -> list[str]:
    flags = ["-O1" if DEBUG else "-O3"]
    if DEBUG:
        flags.append("-g")
    if SANITIZE:
        flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    if enabled("DATAPLANE_NATIVE"):
        flags.append("-march=native")
    elif platform.machine() in ("x86_64", "AMD64"):
        flags.append("-march=x86-64-v2")  # what a bit count in one instruction needs
    return flags


def all_flags() -> str:
    """What the compiler is called with: Python's flags or the environment's, then ours."""
    return " ".join([os.environ.get("CFLAGS") or sysconfig.get_config_var("CFLAGS") or "", *compile_flags()])


def extensions() -> list[Extension]:
    link_flags = ["-fsanitize=address,undefined"] if SANITIZE else []
    return [
        Extension(
            name,
            [source],
            include_dirs=[".", "ext/encap"],
            depends=HEADERS,
            define_macros=[("DATAPLANE_FLAGS", json.dumps(all_flags()))] if name == "dataplane._build" else [],
            extra_compile_args=compile_flags(),
            extra_link_args=link_flags,
        )
        for name, source in MODULES.items()
    ]


class BuildWithHeaders(build_py):
    """Puts the core's headers into the wheel, where ``dataplane.get_include()`` finds them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the source tree is its own include folder
            return
        for header in HEADERS:
            target = Path(self.build_lib) / "dataplane" / "include" / header
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / header, target)


setup(
    cmdclass={"build_py": BuildWithHeaders},
    ext_modules=cythonize(
        extensions(),
        build_dir="build/checked" if DEBUG else "build/c",
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "wraparound": False,
            "cdivision": True,  # in checked builds too: False changes what % means, and UBSan sees a division by zero
        },
    ),
)
