"""Contents in pieces, several of them under way at once."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from clustrix_prefect.connections.agent import PendingAnswer
from clustrix_prefect.far_side.wire import protocol
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
    check: Callable[[list[int]], None] = lambda identity: None,
) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `end`; a small file is one round trip.

    Args:
        files: Where.
        path: Its path.
        start: Where it begins, counted from the end if negative.
        end: Where it ends, likewise.
        callback: Told of the progress.
        check: Told which file it is, before anything is given: see `identity_of`.

    Raises:
        OSError: It cannot be read.
    """
    far = urls.far_path(path)
    answer, data = files.request(protocol.fs_read(path=far, start=start, end=end), shown=path)
    check(answer["identity"])
    at, last = answer["start"] + len(data), answer["end"]
    callback.set_size(max(0, last - answer["start"]))
    callback.relative_update(len(data))
    yield bytes(data)
    under_way: deque[PendingAnswer[protocol.FilePiece]] = deque()
    with files.connected() as way:
        while under_way or at < last:
            while at < last and len(under_way) < _WINDOW:
                size = min(_PIECE, last - at)
                under_way.append(
                    way.agent.begin(protocol.fs_read(path=far, start=at, end=at + size))
                )
                at += size
            _, data = answer_of(under_way.popleft(), path)
            callback.relative_update(len(data))
            yield bytes(data)
    # One after another, since nobody knows where it ends.
    while answer["more"] and data and (end is None or at < end):
        answer, data = files.request(protocol.fs_read(path=far, start=at, end=end), shown=path)
        at += len(data)
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
        how: "replace" or "exclusive".
        parents: Whether to make the directories above it.
        callback: Told of the progress.

    Raises:
        OSError: It cannot be written.
    """
    far = urls.far_path(path)
    pieces = _pieces(source)
    callback.set_size(len(source) if isinstance(source, memoryview) else _size(source))
    first = next(pieces, b"")
    second = next(pieces, None)
    # What comes after must not overtake what makes the file.
    made, _ = files.request(
        protocol.fs_write(
            path=far,
            how=how,
            parents=parents,
            whole=second is None,
            source=None
            if isinstance(source, memoryview)
            else identity_of(os.fstat(source.fileno())),
        ),
        first,
        shown=path,
    )
    callback.relative_update(len(first))
    if second is None:
        return
    draft = made.get("draft")
    try:
        _write_rest(
            files, path, draft or far, len(first), itertools.chain([second], pieces), callback
        )
        if draft:
            files.request(protocol.fs_replace(path=draft, to=made["target"]), shown=path)
    except BaseException:
        if draft:
            with contextlib.suppress(Exception):  # what went wrong before is what counts
                files.request(protocol.fs_rm(path=draft))
        raise


def _write_rest(
    files: FarFiles, path: str, far: str, at: int, pieces: Iterable[Any], callback: Callback
) -> None:
    under_way: deque[tuple[int, PendingAnswer[protocol.Written]]] = deque()
    with files.connected() as way:
        for piece in pieces:
            if len(under_way) == _WINDOW:
                _finish(under_way, path, callback)
            pending = way.agent.begin(protocol.fs_write(path=far, offset=at), piece)
            under_way.append((len(piece), pending))
            at += len(piece)
        while under_way:
            _finish(under_way, path, callback)


def identity_of(status: os.stat_result) -> list[int]:
    """Return what tells a file from every other, as the far side says it of its files."""
    return [status.st_ino, status.st_ctime_ns, status.st_size]


def _finish(
    under_way: deque[tuple[int, PendingAnswer[protocol.Written]]], path: str, callback: Callback
) -> None:
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
