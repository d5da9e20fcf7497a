"""Files that are either whole or not there: written beside their place, moved into it at the end."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from dataplane.errors import InputError


class AtomicFile:
    """A binary file that appears under ``path`` only with ``commit()``. Raises InputError where it cannot be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{path}: is not a regular file; give the name of a file to write")
        try:
            self._file = self._temporary.open("wb")
        except OSError as error:
            raise self._failure(error) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def descriptor(self) -> int:
        """For writing beside ``write``, behind what was written so far; tell of an error with ``failure``."""
        try:
            self._file.flush()
        except OSError as error:
            raise self.failure(error) from error
        return self._file.fileno()

    def failure(self, error: OSError) -> InputError:
        """What to raise for an error on the descriptor; nothing is left behind."""
        self.discard()
        return self._failure(error)

    def finish(self) -> None:
        """Close the temporary file, so that a full disk is noticed before anything is moved; place on the disk that whoever had the
        descriptor asked for and did not need is given back."""
        if self._file.closed:
            return
        try:
            self._file.flush()
            os.truncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size)
            self._file.close()
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def commit(self) -> None:
        self.finish()
        try:
            self._temporary.replace(self.path)
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # what cannot be flushed is thrown away all the same
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written: {error.strerror}; give another place for the output")


class Output(ABC):
    """Something written as a whole: leaving the ``with`` block closes it, an exception discards it."""

    @abstractmethod
    def close(self) -> None:
        """Finish it and put it in its place."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
