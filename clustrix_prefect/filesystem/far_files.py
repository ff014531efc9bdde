"""The open way to the files of a cluster: one connection and one agent for all who ask."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient, PendingAnswer
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.errors import ConnectionFailed, ConnectionLost
from clustrix_prefect.filesystem.failures import error_of
from clustrix_prefect.filesystem.listings import pieces_of

T = TypeVar("T")
_Part = tuple[dict[str, Any], bytes]

# The agent is told every so often that parts of a listing were taken.
_TAKEN_TOGETHER = 8
# Asked a second time, on a new connection, these do no harm.
_HARMLESS = frozenset({"fs_ask", "fs_info", "fs_ls", "fs_read", "fs_space"})


class FarFiles:
    """The files of one cluster, reached when they are first asked for.

    A connection that broke is opened again by whoever asks next.

    Args:
        cluster: The block that says how to get there.
    """

    def __init__(self, cluster: ClusterBlock) -> None:
        self.cluster = cluster
        self.connections = 0
        self._agent: AgentClient | None = None
        self._connection: Connection | None = None
        self._opening = threading.Lock()
        self._losing = threading.Lock()
        self._walks: dict[int, tuple[AgentClient, queue.SimpleQueue[_Part]]] = {}
        self._numbers = itertools.count(1)

    # --- the connection -------------------------------------------------------------------------

    @property
    def agent(self) -> AgentClient:
        """The agent, started if need be.

        Raises:
            ConnectionFailed: The cluster cannot be reached.
        """
        agent = self._agent
        if agent is not None:
            return agent
        with self._opening:
            return self._agent or self._open()

    def _open(self) -> AgentClient:
        connection = self.cluster.connect()
        agent = AgentClient(
            connection,
            python=self.cluster.python,
            prologue=self.cluster.prologue,
            work_dir=self.cluster.remote_work_dir,
            on_event=self._on_event,
            on_lost=lambda reason: self._on_lost(agent, reason),
        )
        try:
            agent.start()
        except BaseException:
            connection.close()
            raise
        self._connection, self._agent = connection, agent
        self.connections += 1
        return agent

    def _on_lost(self, agent: AgentClient, reason: BaseException) -> None:
        with self._losing:
            if self._agent is agent:
                self._agent = None
                assert self._connection is not None
                # Its other end may be frozen: nobody waits for it.
                threading.Thread(target=self._connection.close, daemon=True).start()
        self._end_walks(agent, reason)

    def _end_walks(self, agent: AgentClient, reason: BaseException) -> None:
        ended = {"event": "fs_end", "lost": reason}
        for walked_by, parts in list(self._walks.values()):
            if walked_by is agent:
                parts.put((ended, b""))

    def close(self) -> None:
        """Close the connection; whoever asks again opens another one."""
        with self._opening:
            agent, self._agent = self._agent, None
            if agent is not None:
                agent.close()
                self._end_walks(agent, ConnectionLost("The connection was closed."))
            if self._connection is not None:
                self._connection.close()

    # --- asking ---------------------------------------------------------------------------------

    def request(
        self, op: str, attachment: Any = b"", *, shown: str | None = None, **fields: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Ask for one operation: what it gave, and the bytes that came with it.

        Args:
            op: The operation.
            attachment: Bytes that go with it.
            shown: The path that exceptions show.
            **fields: What else it needs.

        Raises:
            OSError: As the operation met it on the cluster.
            ConnectionFailed: The cluster cannot be reached.
        """

        def ask(agent: AgentClient) -> tuple[dict[str, Any], bytes]:
            return answer_of(agent.begin(op, attachment, **fields), shown)

        return self._with_agent(ask, again=op in _HARMLESS)

    def begin(self, op: str, attachment: Any = b"", **fields: Any) -> PendingAnswer:
        """Ask without waiting; `answer_of` waits."""
        return self.agent.begin(op, attachment, **fields)

    def _with_agent(self, step: Callable[[AgentClient], T], *, again: bool) -> T:
        agent = self.agent
        try:
            return step(agent)
        except ConnectionFailed as lost:
            self._on_lost(agent, lost)
            if not again:
                raise
        return step(self.agent)

    # --- long listings --------------------------------------------------------------------------

    def walk(
        self, path: str, *, maxdepth: int | None, detail: bool, shown: str
    ) -> Iterator[list[str]]:
        """A listing of everything below a directory, part by part, while it is being made.

        The far side waits when it is far ahead of whoever reads this.

        Raises:
            OSError: The directory is not there, or cannot be read.
        """
        number = next(self._numbers)
        agent, parts, ended = self.agent, queue.SimpleQueue[_Part](), False
        self._walks[number] = agent, parts
        try:
            agent.send("fs_walk", walk=number, path=path, maxdepth=maxdepth, detail=detail)
            for taken in itertools.count(1):
                event, body = parts.get()
                if event["event"] == "fs_end":
                    ended = True
                    if "lost" in event:
                        raise event["lost"]
                    if event["failed"]:
                        raise error_of(event["failed"], shown)
                    return
                if taken % _TAKEN_TOGETHER == 0:
                    agent.send("fs_more", walk=number, parts=_TAKEN_TOGETHER)
                yield pieces_of(body)
        finally:
            del self._walks[number]
            if not ended:
                with contextlib.suppress(ConnectionFailed):  # then it has stopped already
                    agent.send("fs_stop", walk=number)

    def _on_event(self, event: dict[str, Any], body: bytes) -> None:
        walk = self._walks.get(event.get("walk", 0))
        if walk is not None:
            walk[1].put((event, body))


def answer_of(pending: PendingAnswer, shown: str | None = None) -> tuple[dict[str, Any], bytes]:
    """The answer to a question that is under way, or what went wrong, raised."""
    # A large copy takes its time; an agent that has gone is noticed by its silence.
    answer, body = pending.wait(None)
    if "failed" in answer:
        raise error_of(answer["failed"], shown)
    return answer, body


# --- those that are open --------------------------------------------------------------------------

_open: dict[str, FarFiles] = {}
_lock = threading.Lock()


def far_files(cluster: ClusterBlock) -> FarFiles:
    """The files of a cluster, over the connection that is open to it if there is one."""
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
