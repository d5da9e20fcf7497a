"""A folder with one pcapng file for each interface that saw a frame."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataplane.capture.atomic import Output
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.errors import InputError


class FolderWriter(Output):
    """Like ``CaptureWriter``, but each interface has a file of its own.

    The folder is made if missing. No file stands under its name before ``close()`` has finished all of them.
    Raises InputError where something cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], interfaces: Sequence[Interface], names: Mapping[bytes, str] | None = None) -> None:
        self._folder = Path(folder)
        self._is_new = not self._folder.exists()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: the folder cannot be made: {error.strerror}; give another place for the output") from error
        self._interfaces = interfaces
        self._names = names
        self._files = _file_names([interface.name for interface in interfaces])
        self._writers: dict[int, CaptureWriter] = {}
        self._secrets: list[tuple[int, bytes]] = []

    @property
    def paths(self) -> list[Path]:
        """The files written to, in the interfaces' order."""
        return [self._folder / self._files[index] for index in sorted(self._writers)]

    def write(
        self,
        interface_index: int,
        time_ns: int,
        data: bytes,
        outgoing: bool,
        packet_id: int,
        verdict: int | None = None,
        comments: Sequence[str] = (),
    ) -> None:
        """Append one frame to its interface's file; arguments as of ``CaptureWriter.write``."""
        self._writer(interface_index).write(0, time_ns, data, outgoing, packet_id, verdict, comments)

    def _writer(self, interface_index: int) -> CaptureWriter:
        """Of an interface's own file, a new one if it has none yet."""
        writer = self._writers.get(interface_index)
        if writer is None:
            path = self._folder / self._files[interface_index]
            writer = self._writers[interface_index] = CaptureWriter(path, [self._interfaces[interface_index]], self._names)
            for secret in self._secrets:
                writer.add_secrets(*secret)
        return writer

    def descriptor(self, interface_index: int) -> int:
        """As of ``CaptureWriter``, of the interface's own file, where it is interface 0."""
        return self._writer(interface_index).descriptor(0)

    def note(self, interface_index: int, frames: int, dropped: int, first_ns: int, last_ns: int) -> None:
        """As of ``CaptureWriter``."""
        self._writer(interface_index).note(0, frames, dropped, first_ns, last_ns)

    def failure(self, error: OSError, interface_index: int) -> InputError:
        """As of ``CaptureWriter``."""
        return self._writer(interface_index).failure(error, 0)

    def flush(self) -> None:
        """Hand over to the files what was gathered."""
        for writer in self._writers.values():
            writer.flush()

    def add_secrets(self, kind: int, data: bytes) -> None:
        """Append them to every file; arguments as of ``CaptureWriter.add_secrets``."""
        self._secrets.append((kind, data))
        for writer in self._writers.values():
            writer.add_secrets(kind, data)

    def close(self) -> None:
        """Finish all files, then put them in their places."""
        for writer in self._writers.values():
            writer.finish()
        for writer in self._writers.values():
            writer.commit()

    def discard(self) -> None:
        """Leave nothing behind."""
        for writer in self._writers.values():
            writer.discard()
        if self._is_new:
            with contextlib.suppress(OSError):  # somebody else may have put something there by now
                self._folder.rmdir()


def _file_names(interfaces: list[str]) -> list[str]:
    """``node1/cni0`` becomes ``node1_cni0.pcapng``; names that come out alike are numbered."""
    seen: dict[str, int] = {}
    names = []
    for interface in interfaces:
        stem = re.sub(r"[^A-Za-z0-9.-]", "_", interface).lstrip(".") or "interface"
        seen[stem] = seen.get(stem, 0) + 1
        names.append(f"{stem}.pcapng" if seen[stem] == 1 else f"{stem}~{seen[stem]}.pcapng")
    return names
