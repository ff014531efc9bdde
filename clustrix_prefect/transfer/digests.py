"""The chunk lists of files here, remembered as long as the files do not change."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from prefect.settings import get_current_settings

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire.chunks import CHUNK_BYTES, ChunkList, digest, spans
from clustrix_prefect.transfer.sources import FileSource, changed

# A change this soon (seconds) after the last one may leave the same time of modification.
_TICK_NS = 2 * 10**9
# Smaller files are read again sooner than they are looked up.
_WORTH_REMEMBERING = CHUNK_BYTES
# hashlib and pread let other threads run: two of them read twice as fast.
_HASHING_THREADS = 4


def chunks_of(data: bytes | bytearray | memoryview) -> ChunkList:
    """Return the chunk list of bytes in memory."""
    view = memoryview(data).cast("B")
    return _hashed(len(view), lambda offset, length: view[offset : offset + length])


def _hashed(size: int, read: Callable[[int, int], bytes | memoryview]) -> ChunkList:
    if size <= CHUNK_BYTES:
        return ChunkList(size, [digest(read(0, size))])
    threads = min(_HASHING_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="clustrix-hash") as pool:
        digests = pool.map(lambda span: digest(read(span[1], span[2])), spans(size))
        return ChunkList(size, list(digests))


class FileDigests:
    """The chunk lists of files, kept in Prefect's home directory.

    A file counts as unchanged while its path, size, times and inode are the same.

    Args:
        database: Where they are kept.
    """

    def __init__(self, database: Path | None = None) -> None:
        home = get_current_settings().home / "clustrix-prefect"
        self._database = database or home / "files.sqlite"
        self._locks: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> ChunkList:
        """Return the chunk list of a file, read only if it is not known.

        Raises:
            NotPortable: It changed while it was read.
            OSError: It cannot be read.
        """
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            before = _fingerprint(path)
            size = before[0]
            known = self._look_up(path, before) if size > _WORTH_REMEMBERING else None
            if known is not None:
                return known
            with FileSource(path, size) as source:
                chunks = _hashed(size, source.read)
            if _fingerprint(path) != before:
                raise changed(path)
            if size > _WORTH_REMEMBERING and time.time_ns() - before[1] > _TICK_NS:
                self._remember(path, before, chunks)
            return chunks

    def _look_up(self, path: Path, looks: tuple[int, ...]) -> ChunkList | None:
        try:
            with closing(self._open()) as database:
                row = database.execute(
                    "SELECT name, chunks FROM files WHERE path = ? AND looks = ?",
                    (os.fsencode(path), _as_text(looks)),
                ).fetchone()
            return ChunkList.parse(row[1], row[0]) if row else None
        except (sqlite3.Error, OSError, ValueError):
            return None  # it only saves time

    def _remember(self, path: Path, looks: tuple[int, ...], chunks: ChunkList) -> None:
        try:
            with closing(self._open()) as database, database:
                database.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                    (os.fsencode(path), _as_text(looks), chunks.name, chunks.text()),
                )
        except (sqlite3.Error, OSError):
            pass

    def _open(self) -> sqlite3.Connection:
        self._database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = sqlite3.connect(self._database, timeout=10)
        database.execute(
            "CREATE TABLE IF NOT EXISTS files"
            " (path BLOB PRIMARY KEY, looks TEXT, name TEXT, chunks BLOB)"
        )
        return database


def _fingerprint(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _as_text(looks: tuple[int, ...]) -> str:
    return " ".join(map(str, looks))


def missing_file(path: Path, what: str) -> NotPortable:
    """Return what is said of a path with nothing there."""
    return NotPortable(
        f"There is no {what} {path} on this machine.",
        f"Check the path; for a {what} that is on the cluster already, "
        f'use {what.capitalize()}.remote("/path/there").',
    )
