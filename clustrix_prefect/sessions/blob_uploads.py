"""Sees to it that a cluster's store has what calls need, before they are sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import CHUNK_BYTES
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.transfer.upload import Sent, send_content, send_small

T = TypeVar("T")
Say = Callable[[int, str], None]

# What is sent at once, by whoever asks; more has a thread of its own.
_AT_ONCE = 512 * 1024
# Uploads at a time: they share one connection.
_UPLOADS = 2
# What is worth a line in the log, and how often one tells of progress.
_WORTH_SAYING = 8 * 1024 * 1024
_SAY_SECONDS = 10.0
_MIB = 1024 * 1024


class WithAgent(Protocol):
    """Takes a step that talks to the agent, and begins it anew if the connection breaks."""

    def __call__(self, step: Callable[[AgentClient], T]) -> T: ...


class BlobUploads:
    """The contents of a cluster's store, as far as this process needs them.

    Args:
        with_agent: The way to the cluster.
    """

    def __init__(self, with_agent: WithAgent) -> None:
        # What was sent so far, as it went over the connection.
        self.sent_bytes = 0
        self._with_agent = with_agent
        # By flow run: each has to say what it needs, so that it is kept.
        self._here: dict[str, set[str]] = {}
        self._under_way: dict[tuple[str, str], Future[None]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="clustrix-upload")

    def forget(self) -> None:
        """What is on the cluster is not known any more: the connection is a new one."""
        with self._lock:
            self._here.clear()

    def close_run(self, run: str) -> None:
        """A flow run has ended."""
        with self._lock:
            self._here.pop(run, None)

    def close(self) -> None:
        """The connection is closed."""
        self._pool.shutdown(wait=False)

    def bring(self, run: str, blobs: Iterable[Blob], say: Say) -> Future[None] | None:
        """Have the cluster hold these blobs.

        Args:
            run: The flow run whose calls need them.
            blobs: The blobs.
            say: Takes lines for the flow's log, each with its level.

        Returns:
            None if they are there now; otherwise what says when they are.

        Raises:
            NotPortable: A blob that ought to be there already is not.
            ClustrixError: They cannot be sent.
        """
        with self._lock:
            here = self._here.setdefault(run, set())
            wanted = {blob.name: blob for blob in blobs if blob.name not in here}
            if not wanted:
                return None
            theirs = {
                self._under_way[run, name] for name in wanted if (run, name) in self._under_way
            }
            mine = [blob for name, blob in wanted.items() if (run, name) not in self._under_way]
            ours: Future[None] = Future()
            self._under_way.update({(run, blob.name): ours for blob in mine})
        if sum(blob.size for blob in mine) <= _AT_ONCE:
            self._settle(run, mine, say, ours)
            if not theirs:
                ours.result()
                return None
        else:
            self._pool.submit(self._settle, run, mine, say, ours)
        return _all_of([ours, *theirs])

    def _settle(self, run: str, blobs: Sequence[Blob], say: Say, settled: Future[None]) -> None:
        error: BaseException | None = None
        try:
            if blobs:
                self._with_agent(partial(self._send_missing, run, blobs, say))
        except BaseException as failure:
            error = failure
        with self._lock:
            for blob in blobs:
                self._under_way.pop((run, blob.name), None)
            if error is None:
                self._here.setdefault(run, set()).update(blob.name for blob in blobs)
        if error is None:
            settled.set_result(None)
        else:
            settled.set_exception(error)

    def _send_missing(self, run: str, blobs: Sequence[Blob], say: Say, agent: AgentClient) -> None:
        answer = agent.request(
            protocol.have(
                run=run,
                blobs=[blob.name for blob in blobs],
                folders=[blob.name for blob in blobs if blob.is_folder],
            )
        )
        missing = set(answer["missing"])
        small = []
        for blob in blobs:
            if blob.name not in missing:
                continue
            if blob.source is None:
                raise NotPortable(
                    f"{blob.what} is no longer there: it was pruned, or never complete.",
                    "Run the task that returned it again.",
                )
            if blob.size <= CHUNK_BYTES or blob.chunks is None:
                small.append(blob)
            else:
                self._send_large(agent, blob, say)
        if small:
            self._send_small(agent, small, say)

    def _send_small(self, agent: AgentClient, blobs: Sequence[Blob], say: Say) -> None:
        began = time.monotonic()
        sent = send_small(agent, ((blob.name, partial(_read, blob)) for blob in blobs))
        self.sent_bytes += sent
        if sent >= _WORTH_SAYING:
            took = time.monotonic() - began
            say(
                logging.INFO, f"Sent {len(blobs)} files and values, {_amount(sent)} in {took:.1f} s"
            )

    def _send_large(self, agent: AgentClient, blob: Blob, say: Say) -> None:
        assert blob.source is not None
        assert blob.chunks is not None
        progress = _Progress(blob, say)
        with blob.source() as source:
            sent = send_content(
                agent,
                source,
                blob.chunks,
                unhurried=not blob.is_file,
                on_progress=progress,
            )
        self.sent_bytes += sent.wire_bytes
        if sent.size >= _WORTH_SAYING:
            say(logging.INFO, _summary(blob, sent))


class _Progress:
    """Tells of a long upload now and then."""

    def __init__(self, blob: Blob, say: Say) -> None:
        self._blob = blob
        self._say = say
        self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said > _SAY_SECONDS and done < self._blob.size:
            self._said = now
            percent = 100 * done / self._blob.size
            self._say(logging.INFO, f"Sending {self._blob.what}: {percent:.0f} %")


def _summary(blob: Blob, sent: Sent) -> str:
    text = f"Sent {blob.what}, {_amount(sent.size)}, in {sent.seconds:.1f} s"
    if sent.sent_bytes < sent.size:
        text += f"; {_amount(sent.sent_bytes)} of it were new to the cluster"
    return text


def _amount(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"


def _read(blob: Blob) -> bytes:
    assert blob.source is not None
    with blob.source() as source:
        return bytes(source.read(0, source.size))


def _all_of(futures: Sequence[Future[None]]) -> Future[None]:
    """Return a future of all of these: done when the last is, failed as the first that failed."""
    if len(futures) == 1:
        return futures[0]
    everything: Future[None] = Future()
    left = [len(futures)]
    lock = threading.Lock()

    def one_done(_: Any) -> None:
        with lock:
            left[0] -= 1
            if left[0]:
                return
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            everything.set_exception(errors[0])
        else:
            everything.set_result(None)

    for future in futures:
        future.add_done_callback(one_done)
    return everything
