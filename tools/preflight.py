"""Names, in one line, the first thing that this machine lacks for a build. Runs on older Pythons too, to say so."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path


def missing() -> str:
    """What is missing and how Debian and Ubuntu call it; "" if nothing is."""
    version = sys.version_info
    if version < (3, 11):
        return f"Python 3.11 or newer is needed, this is {version[0]}.{version[1]}: name another one with make PYTHON=python3.x"
    try:
        import ensurepip  # noqa: F401  (Debian leaves it out of its python3 package)
        import venv  # noqa: F401
    except ImportError:
        return "Python's venv module is missing: install the package python3-venv"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"the C compiler {compiler} is missing: install the package gcc, or name another one with CC=..."
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "Python's headers (Python.h) are missing: install the package python3-dev"
    return ""


if __name__ == "__main__":
    sys.exit(missing() or 0)
