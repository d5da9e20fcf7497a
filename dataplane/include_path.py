"""Where the headers of the compiled core are: for ``Extension(include_dirs=[dataplane.get_include()])``."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """The folder below which ``ext/**/*.pxd`` and ``ext/encap/encap_abi.h`` stand.

    A wheel carries copies in ``dataplane/include``; a source tree used in place is its own include folder.
    """
    package = Path(__file__).resolve().parent
    shipped = package / "include"
    return str(shipped if shipped.is_dir() else package.parent)
