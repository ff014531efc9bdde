"""Fetches contents, files and results from a cluster."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clustrix_prefect.connections.agent import PendingAnswer
from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import ChunkList, chunk_count, digest, is_digest, spans
from clustrix_prefect.transfer.drafts import name_of_draft, open_draft
from clustrix_prefect.transfer.upload import Requester

_WINDOW = 4
_HASHING_SECONDS = 3600.0
_READING_SECONDS = 600.0


def describe(agent: Requester, **which: Any) -> ChunkList:
    """Return the chunk list of a content of the store, or of a file at a path.

    Args:
        agent: The far side.
        **which: `content`, its name, or `path`.

    Raises:
        AgentError: It is not there, or the list is not the content's.
    """
    facts, text = agent.begin(protocol.describe(**which)).wait(_HASHING_SECONDS)
    digests = text.decode("ascii", "replace").split("\n")
    chunks = ChunkList(int(facts["size"]), digests)
    if len(digests) != chunk_count(chunks.size) or not all(map(is_digest, digests)):
        raise _tampered(str(which.get("content", which.get("path"))))
    if "content" in which and chunks.name != which["content"]:
        raise _tampered(which["content"])
    return chunks


def fetch(agent: Requester, size: int, **which: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces of a file on the far side, each with its offset, in order.

    Args:
        agent: The far side.
        size: Of the whole.
        **which: `content`, `path`, or `run` and `call` for a result; `start` for an offset.
    """
    start = int(which.pop("start", 0))
    under_way: deque[tuple[PendingAnswer[protocol.Nothing], int, int]] = deque()
    for _, offset, length in spans(size):
        answer = agent.begin(protocol.read(offset=start + offset, size=length, **which))
        under_way.append((answer, offset, length))
        if len(under_way) == _WINDOW:
            yield _piece(*under_way.popleft())
    while under_way:
        yield _piece(*under_way.popleft())


def read(agent: Requester, offset: int, size: int, **which: Any) -> bytes:
    """Return a piece of a file on the far side that is no longer than a chunk; see `fetch`."""
    return _piece(agent.begin(protocol.read(offset=offset, size=size, **which)), offset, size)[1]


def _piece(answer: PendingAnswer[protocol.Nothing], offset: int, length: int) -> tuple[int, bytes]:
    _, data = answer.wait(_READING_SECONDS)
    if len(data) != length:
        raise AgentError("A file on the cluster became shorter while it was read.")
    return offset, data


def fetch_file(
    agent: Requester,
    target: Path,
    *,
    executable: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
    **which: Any,
) -> None:
    """Bring a content, or a file at a path, to a file here.

    What an earlier attempt left is verified and kept; the file gets its name when it is whole.

    Args:
        agent: The far side.
        target: Where it goes; a file of that name is replaced.
        executable: Whether it is a program.
        on_progress: Told how many bytes are settled.
        **which: `content` or `path`.

    Raises:
        AgentError: It is not there, or it changed on the way.
        OSError: The file cannot be written.
    """
    chunks = describe(agent, **which)
    ending = f".{chunks.name[:16]}.partial"
    draft, descriptor = open_draft(target.with_name(name_of_draft(target.name, ending)))
    try:
        left = os.fstat(descriptor).st_size
        for _, offset, data in _pieces(agent, chunks, descriptor, left, which):
            if data is not None:
                _write(descriptor, data, offset)
            on_progress(min(chunks.size, offset + len(data or b"")))
        os.ftruncate(descriptor, chunks.size)
    finally:
        os.close(descriptor)
    # What the user's umask allows: it is the user's file now.
    draft.chmod((0o777 if executable else 0o666) & ~_umask())
    draft.replace(target)


def _pieces(
    agent: Requester, chunks: ChunkList, descriptor: int, left: int, which: dict[str, Any]
) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield each chunk in order: None for its bytes if they are here already."""
    under_way: deque[tuple[int, int, int, PendingAnswer[protocol.Nothing] | None]] = deque()
    for index, offset, length in spans(chunks.size):
        here = (
            offset < left
            and digest(os.pread(descriptor, length, offset)) == (chunks.digests[index])
        )
        answer = None if here else agent.begin(protocol.read(offset=offset, size=length, **which))
        under_way.append((index, offset, length, answer))
        if len(under_way) == _WINDOW:
            yield _verified(chunks, *under_way.popleft())
    while under_way:
        yield _verified(chunks, *under_way.popleft())


def _verified(
    chunks: ChunkList,
    index: int,
    offset: int,
    length: int,
    answer: PendingAnswer[protocol.Nothing] | None,
) -> tuple[int, int, bytes | None]:
    if answer is None:
        return index, offset, None
    _, data = _piece(answer, offset, length)
    if digest(data) != chunks.digests[index]:
        raise _tampered(chunks.name)
    return index, offset, data


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _tampered(name: str) -> AgentError:
    return AgentError(
        f"The content {name[:16]} on the cluster is not what its name says.",
        "It changed while it was read, or somebody tampered with it; make it again.",
        type="Tampered",
    )


def _umask() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.partition("Umask:")[2].split()[0], 8)
    return 0o077
