"""Types of the compiled capture writer (``ext/capture_write.pyx``): recorded frames and drops to pcapng without an object for each."""

from collections.abc import Callable, Iterable
from typing import final

from typing_extensions import Buffer

@final
class RecordWriter:
    """Writes records of the core (``Engine.exchange``) as enhanced packet blocks to open files, and counts drops by kind.

    A record is written as ``CaptureWriter.write`` of ``dataplane/capture/pcapng_write.py`` writes it. Frames and drops are in order of
    time; of one instant frames come first. A drop is told on the last frame of the same ``write`` with its packet, device and
    time, else it is a record of its own. A change is told where ``WalkComments`` of ``dataplane/report/walk_comments.py`` tells it: on
    the first frame of its packet and namespace, not before it, that shows it, in the same ``write`` or the next one.
    """

    def __new__(
        cls, interfaces: Iterable[int], ethernet: Iterable[int], namespaces: Iterable[int], apart: bool = False, piece: int = 524288
    ) -> RecordWriter:
        """``interfaces``: by device the number of its interface, -1: not recorded; ``ethernet``: by device, do its frames begin with an
        Ethernet header? ``namespaces``: by device its namespace. ``apart``: each interface has a file of its own. ``piece``: a file that
        has offsets is written in pieces that end at its multiples, but for what ``flush`` writes. ValueError: it is 0; lengths differ."""
    failed: int
    """The file whose writing raised OSError."""
    def open(self, file: int, fd: int) -> None:
        """Write to this descriptor from now on: file 0, or with ``apart`` that of an interface. ValueError: no such file."""
    def append(self, file: int, block: bytes) -> None:
        """A block of another kind, behind what was written so far. OSError: it cannot be written."""
    def write(self, frames: Buffer, drops: Buffer, data: Buffer, changes: Buffer, opened: Callable[[int], int],
              described: Callable[[int, int, int, int], bytes], told: Callable[[str, int, int, str], bytes]) -> None:
        """Everything of a stretch of time. ``opened(interface)`` is asked once for the descriptor of an interface's own file;
        ``described(reason, namespace, device, origin)`` once for the comments (pcapng options) that drops of such a kind get;
        ``told(word, device, origin, detail)`` at least once for that of changes of such a kind: ``device`` is a tunnel's, whose short
        name belongs before the detail, or -1.
        OSError: a file cannot be written. ValueError: a record lies outside of ``data``, or a frame's device is not recorded."""
    def flush(self) -> None:
        """Write what is still gathered. OSError."""
    @property
    def frames(self) -> int:
        """How many were written; records of drops alone do not count."""
    def drops(self) -> list[tuple[int, int, int, int, int]]:
        """(reason, namespace, device, origin, how many) of each kind, in order of the first."""
    def statistics(self, interface: int) -> tuple[int, int, int, int]:
        """(records, of which dropped, first time, last time). ValueError: no such interface."""
