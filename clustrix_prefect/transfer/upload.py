"""Sends contents to a cluster's store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from clustrix_prefect.connections.agent import PendingAnswer
from clustrix_prefect.errors import AgentError, NotPortable
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import ChunkList, digest, spans
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.transfer.compression import Compressor
from clustrix_prefect.transfer.sources import Source

# Chunks that were sent and not yet confirmed: enough to keep the line busy.
_WINDOW = 4
# For what the far side does without being sent anything, such as reading what it has.
_SECONDS = 600.0
# Chunks whose digests are offered at once.
_OFFERED = 8


A = TypeVar("A")


class Requester(Protocol):
    """What is needed of an `AgentClient`."""

    def begin(self, request: Request[A], attachment: Any = b"") -> PendingAnswer[A]: ...

    def request(
        self, request: Request[A], timeout: float | None = 60, attachment: Any = b""
    ) -> A: ...


@dataclass
class Sent:
    """What an upload cost.

    Attributes:
        size: The content's size.
        sent_bytes: How many of its bytes were sent, before compression.
        wire_bytes: How many after it.
        seconds: How long it took.
    """

    size: int
    sent_bytes: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0


def send_content(
    agent: Requester,
    source: Source,
    chunks: ChunkList,
    *,
    unhurried: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Sent:
    """Bring a content into the store; what is there already does not travel.

    That is what an earlier attempt left, and what other contents have in common with it.

    Args:
        agent: The far side.
        source: The content.
        chunks: Its chunk list.
        unhurried: See `Compressor`.
        on_progress: Told how many bytes are settled.

    Raises:
        NotPortable: The content changed on the way.
        AgentError: The far side could not take it (a full disk).
        ConnectionLost: The connection broke.
    """
    began = time.monotonic()
    agent.request(protocol.upload_begin(token=chunks.name, size=chunks.size), timeout=_SECONDS)
    upload = _Upload(agent, source, chunks, Compressor(unhurried), on_progress)
    try:
        upload.run()
        agent.request(
            protocol.upload_finish(
                token=chunks.name, name=chunks.name, executable=source.executable
            ),
            timeout=_SECONDS,
        )
    except AgentError as error:
        if error.type == "DigestMismatch":
            raise changed_meanwhile() from error
        raise
    upload.sent.seconds = time.monotonic() - began
    return upload.sent


def changed_meanwhile() -> NotPortable:
    """Return what is said of data that somebody writes to."""
    return NotPortable(
        "Data changed while it was being sent.", "Send it once nothing writes to it any more."
    )


class _Upload:
    def __init__(
        self,
        agent: Requester,
        source: Source,
        chunks: ChunkList,
        compressor: Compressor,
        on_progress: Callable[[int], None],
    ) -> None:
        self._agent = agent
        self._source = source
        self._chunks = chunks
        self._compressor = compressor
        self._on_progress = on_progress
        self._done = 0
        self._under_way: deque[tuple[PendingAnswer[protocol.Nothing], int, int, float]] = deque()
        self.sent = Sent(chunks.size)

    def run(self) -> None:
        """Settle every chunk."""
        every = list(spans(self._chunks.size))
        offers = deque(every[first : first + _OFFERED] for first in range(0, len(every), _OFFERED))
        answers = deque((self._offer(batch), batch) for batch in _up_to(offers, 2))
        while answers:
            self._send_missing(*answers.popleft())
            # One offer ahead: its answer is here by the time that it is needed.
            answers.extend((self._offer(batch), batch) for batch in _up_to(offers, 1))
        while self._under_way:
            self._confirm_one()

    def _offer(self, batch: list[tuple[int, int, int]]) -> PendingAnswer[protocol.MissingChunks]:
        first = batch[0][0]
        digests = self._chunks.digests[first : first + len(batch)]
        return self._agent.begin(
            protocol.upload_offer(token=self._chunks.name, first=first, digests=digests)
        )

    def _send_missing(
        self, answer: PendingAnswer[protocol.MissingChunks], batch: list[tuple[int, int, int]]
    ) -> None:
        missing = set(answer.wait(_SECONDS)[0]["missing"])
        for index, offset, length in batch:
            if index in missing:
                self._send(index, offset, length)
            else:
                self._settled(length)

    def _send(self, index: int, offset: int, length: int) -> None:
        data = self._source.read(offset, length)
        packed = self._compressor.compress(data)
        while len(self._under_way) >= _WINDOW:
            self._confirm_one()
        body = data if packed is None else packed
        answer = self._agent.begin(
            protocol.upload_chunk(
                token=self._chunks.name,
                index=index,
                digest=self._chunks.digests[index],
                compressed=packed is not None,
            ),
            body,
        )
        self._under_way.append((answer, length, len(body), time.monotonic()))
        self.sent.sent_bytes += length
        self.sent.wire_bytes += len(body)

    def _confirm_one(self) -> None:
        answer, length, wire_bytes, at = self._under_way.popleft()
        answer.wait()
        # So many chunks share the line.
        seconds = (time.monotonic() - at) / (len(self._under_way) + 1)
        self._compressor.sent(wire_bytes, seconds)
        self._settled(length)

    def _settled(self, length: int) -> None:
        self._done += length
        self._on_progress(self._done)


def _up_to(batches: deque[Any], count: int) -> list[Any]:
    return [batches.popleft() for _ in range(min(count, len(batches)))]


def send_small(agent: Requester, contents: Iterable[tuple[str, Callable[[], bytes]]]) -> int:
    """Bring contents of a chunk or less into the store, many at a time.

    Args:
        agent: The far side.
        contents: Each one's name, and how to read it.

    Returns:
        How many bytes were sent.

    Raises:
        NotPortable: One of them is no longer what its name says.
    """
    under_way: deque[PendingAnswer[protocol.Nothing]] = deque()
    waiting_bytes: deque[int] = deque()
    total = 0
    for name, read in contents:
        data = read()
        if digest(data) != name:
            raise changed_meanwhile()
        under_way.append(agent.begin(protocol.put(sha=name, size=len(data)), data))
        waiting_bytes.append(len(data))
        total += len(data)
        while sum(waiting_bytes) > 16 * 1024 * 1024 or len(under_way) > 64:
            under_way.popleft().wait()
            waiting_bytes.popleft()
    for answer in under_way:
        answer.wait()
    return total
