"""The encapsulations that stand in docs/samples as files, each registered once for the life of the process."""

from __future__ import annotations

from dataplane import _core
from dataplane.encap import registry
from house.sources import ROOT

FOLDER = ROOT / "docs" / "samples"
FILES = {
    "declared_fou": "declared_fou.py",
    "declared_gre": "declared_gre.py",
    "declared_gre_checksum": "declared_gre.py",
    "declared_gre_key": "declared_gre.py",
    "numba_tag": "numba_tag.py",
}


def offered(kind: str) -> str:
    """``kind``, which is registered then."""
    if kind not in _core.encapsulations():
        registry.load_file(FOLDER / FILES[kind])
    return kind
