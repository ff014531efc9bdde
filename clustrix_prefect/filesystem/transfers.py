"""Contents in pieces, several of them under way at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from clustrix_prefect.connections.answers import PendingAnswer
from clustrix_prefect.filesystem import urls
from clustrix_prefect.filesystem.far_files import FarFiles, answer_of

_PIECE = 1024 * 1024
# Pieces under way: enough to keep a network of 100 ms busy at 100 MB/s.
_WINDOW = 12


def read_all(
    files: FarFiles,
    path: str,
    start: int | None,
    end: int | None,
    *,
    callback: Callback = DEFAULT_CALLBACK,
) -> Iterator[bytes]:
    """The bytes of a file from `start` to `end`; a small file is one round trip.

    Raises:
        OSError: It cannot be read.
    """
    far = urls.far_path(path)
    answer, data = files.request("fs_read", shown=path, path=far, start=start, end=end)
    at, last = answer["from"] + len(data), answer["to"]
    callback.set_size(max(0, last - answer["from"]))
    callback.relative_update(len(data))
    yield bytes(data)
    under_way: deque[PendingAnswer] = deque()
    with files.connected() as way:
        while under_way or at < last:
            while at < last and len(under_way) < _WINDOW:
                size = min(_PIECE, last - at)
                under_way.append(way.agent.begin("fs_read", path=far, start=at, end=at + size))
                at += size
            _, data = answer_of(under_way.popleft(), path)
            callback.relative_update(len(data))
            yield bytes(data)


def write_all(
    files: FarFiles,
    path: str,
    source: Any,
    *,
    how: str,
    parents: bool,
    callback: Callback = DEFAULT_CALLBACK,
) -> None:
    """Write a file; a small one is one round trip.

    Args:
        files: Where.
        path: Its path.
        source: A file that is open, or a memory view.
        how: "truncate" or "exclusive".
        parents: Whether to make the directories above it.
        callback: Told of the progress.

    Raises:
        OSError: It cannot be written.
    """
    far = urls.far_path(path)
    pieces = _pieces(source)
    callback.set_size(len(source) if isinstance(source, memoryview) else _size(source))
    first = next(pieces, b"")
    # What comes after must not overtake what makes the file empty.
    files.request("fs_write", first, shown=path, path=far, how=how, parents=parents)
    callback.relative_update(len(first))
    at = len(first)
    under_way: deque[tuple[int, PendingAnswer]] = deque()
    with files.connected() as way:
        for piece in pieces:
            if len(under_way) == _WINDOW:
                _finish(under_way, path, callback)
            pending = way.agent.begin("fs_write", piece, path=far, offset=at)
            under_way.append((len(piece), pending))
            at += len(piece)
        while under_way:
            _finish(under_way, path, callback)


def _finish(under_way: deque[tuple[int, PendingAnswer]], path: str, callback: Callback) -> None:
    size, pending = under_way.popleft()
    answer_of(pending, path)
    callback.relative_update(size)


def _pieces(source: Any) -> Iterator[Any]:
    if isinstance(source, memoryview):
        for at in range(0, len(source), _PIECE):
            yield source[at : at + _PIECE]
    else:
        while piece := source.read(_PIECE):
            yield piece


def _size(file: Any) -> int:
    return os.fstat(file.fileno()).st_size
