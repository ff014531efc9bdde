"""The open way to the files of a cluster: one connection and one agent for all who ask.

While a task runner has the cluster open, that is its connection; otherwise it is one for files
only.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient, PendingAnswer
from clustrix_prefect.errors import ConnectionFailed
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.filesystem.failures import error_of
from clustrix_prefect.filesystem.file_connection import FileConnection
from clustrix_prefect.filesystem.listings import pieces_of
from clustrix_prefect.sessions.session import Session, sessions

A = TypeVar("A")

# The agent is told every so often that parts of a listing were taken.
_TAKEN_TOGETHER = 8
# Asked a second time, on a new connection, these do no harm.
_HARMLESS = frozenset({"fs_ask", "fs_info", "fs_ls", "fs_quota", "fs_read", "fs_space"})


class FarFiles:
    """The files of one cluster, reached when they are first asked for.

    A connection that broke is opened again by whoever asks next.

    Args:
        cluster: The block that says how to get there.
    """

    def __init__(self, cluster: ClusterBlock) -> None:
        self._identity = cluster.identity
        self._own = FileConnection(cluster)

    @property
    def connections(self) -> int:
        """How many were opened for files only."""
        return self._own.count

    @property
    def agent(self) -> AgentClient:
        """The agent that is asked now."""
        with self.connected() as way:
            return way.agent

    @contextlib.contextmanager
    def connected(self) -> Iterator[Session | FileConnection]:
        """What has the connection, which stays open for as long as the context lasts."""
        session = sessions.opened(self._identity)
        if session is None:
            with self._own.held():
                yield self._own
            return
        self._own.close_if_unused()
        try:
            yield session
        finally:
            sessions.release(session)

    def close(self) -> None:
        """Close the connection for files only; whoever asks again opens another one."""
        self._own.close()

    def request(
        self, request: Request[A], attachment: Any = b"", *, shown: str | None = None
    ) -> tuple[A, bytes]:
        """Ask for one operation: what it gave, and the bytes that came with it.

        Args:
            request: The operation.
            attachment: Bytes that go with it.
            shown: The path that exceptions show.

        Raises:
            OSError: As the operation met it on the cluster.
            ConnectionFailed: The cluster cannot be reached.
        """

        def ask(agent: AgentClient) -> tuple[A, bytes]:
            return answer_of(agent.begin(request, attachment), shown)

        with self.connected() as way:
            return way.with_agent(ask) if request.op in _HARMLESS else ask(way.agent)

    def walk(
        self, path: str, *, maxdepth: int | None, detail: bool, shown: str
    ) -> Iterator[list[str]]:
        """Yield a listing of everything below a directory, part by part, while it is being made.

        The far side waits when it is far ahead of whoever reads this.

        Raises:
            OSError: The directory is not there, or cannot be read.
        """
        with self.connected() as way:
            agent = way.agent
            listing = agent.begin(protocol.fs_walk(path=path, maxdepth=maxdepth, detail=detail))
            try:
                for taken, part in enumerate(listing.parts(), 1):
                    if taken % _TAKEN_TOGETHER == 0:
                        agent.send(protocol.fs_more(listing=listing.number, parts=_TAKEN_TOGETHER))
                    yield pieces_of(part)
            except BaseException:
                agent.forget(listing.number)
                with contextlib.suppress(ConnectionFailed):  # then it has stopped already
                    agent.send(protocol.fs_stop(listing=listing.number))
                raise
            answer_of(listing, shown)


def answer_of(pending: PendingAnswer[A], shown: str | None = None) -> tuple[A, bytes]:
    """Return the answer to a question that is under way, or what went wrong, raised."""
    # A large copy takes its time; an agent that has gone is noticed by its silence.
    answer, body = pending.wait(None)
    if isinstance(answer, dict) and "failed" in answer:
        raise error_of(answer["failed"], shown)
    return answer, body


# --- those that are open --------------------------------------------------------------------------

_open: dict[str, FarFiles] = {}
_lock = threading.Lock()


def far_files(cluster: ClusterBlock) -> FarFiles:
    """Return the files of a cluster, over the connection that is open to it if there is one."""
    identity = cluster.identity
    with _lock:
        if identity not in _open:
            _open[identity] = FarFiles(cluster)
        return _open[identity]


def close_all() -> None:
    """Close every connection; whoever asks again opens new ones."""
    with _lock:
        every = list(_open.values())
    for files in every:
        files.close()


def _forget() -> None:
    """A child that was forked must not speak on its parent's connections."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forget)
