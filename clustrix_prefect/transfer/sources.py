"""Bytes that can be sent: in memory, or in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from clustrix_prefect.errors import NotPortable


class Source(Protocol):
    """Where a content's bytes are read from while they are sent."""

    size: int

    @property
    def executable(self) -> bool:
        """Whether it is a program."""
        ...

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return a piece of them."""
        ...


class MemorySource:
    """Bytes that are in memory already; they are not copied.

    Args:
        data: Anything that has its bytes in one piece.
    """

    executable = False

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def read(self, offset: int, size: int) -> memoryview:
        return self._view[offset : offset + size]

    def __enter__(self) -> MemorySource:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""


class FileSource:
    """A file, as long as it does not change.

    Args:
        path: The file.
        size: What its size was when it was looked at.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor = -1

    @property
    def executable(self) -> bool:
        return os.access(self.path, os.X_OK)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise changed(self.path)
            data += more
        return data

    def __enter__(self) -> FileSource:
        self._descriptor = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def changed(path: Path) -> NotPortable:
    """Return what is said of a file that somebody writes to."""
    return NotPortable(
        f"{path} changed while it was being sent.", "Send it once nothing writes to it any more."
    )
