"""A connection that is for files only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import ConnectionFailed
from clustrix_prefect.sessions.opened import OpenAgent, open_agent

T = TypeVar("T")

# A login node is not kept busy by a process that looked at files once.
IDLE_SECONDS = 300.0


class _Opened(NamedTuple):
    way: OpenAgent
    closed: threading.Event

    @property
    def agent(self) -> AgentClient:
        return self.way.agent


class FileConnection:
    """The connection to one cluster, opened when it is needed and closed when it long was not.

    Args:
        cluster: The block that says how to get there.

    Attributes:
        count: How often it was opened.
    """

    def __init__(self, cluster: ClusterBlock) -> None:
        self.count = 0
        self._cluster = cluster
        self._opened: _Opened | None = None
        self._opening = threading.Lock()
        self._counting = threading.Lock()
        self._users = 0
        self._used = time.monotonic()

    @property
    def agent(self) -> AgentClient:
        """The agent, started if need be.

        Raises:
            ConnectionFailed: The cluster cannot be reached.
        """
        opened = self._opened
        if opened is None or opened.agent.is_lost:
            with self._opening:
                opened = self._opened
                if opened is None or opened.agent.is_lost:
                    opened = self._open()
        return opened.agent

    def with_agent(self, step: Callable[[AgentClient], T]) -> T:
        """What a step that talks to the agent gives, begun anew once if the connection breaks.

        Raises:
            ConnectionFailed: It cannot be opened again.
        """
        try:
            return step(self.agent)
        except ConnectionFailed:
            if self._opened is None or not self._opened.agent.is_lost:
                raise
        return step(self.agent)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it open for as long as the context lasts."""
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1
                self._used = time.monotonic()

    def close_if_unused(self) -> None:
        """Close it, unless something is under way."""
        if self._opened is None:
            return
        with self._counting:
            opened = None if self._users else self._take()
        if opened is not None:
            # The agent's last words are not waited for.
            threading.Thread(target=_close, args=(opened,), daemon=True).start()

    def close(self) -> None:
        """Close it; whoever needs it again opens another one."""
        with self._counting:
            opened = self._take()
        if opened is not None:
            _close(opened)

    def _take(self) -> _Opened | None:
        opened, self._opened = self._opened, None
        return opened

    def _open(self) -> _Opened:
        closed = threading.Event()
        way = open_agent(self._cluster, on_lost=lambda agent, error: closed.set())
        self._opened = opened = _Opened(way, closed)
        self.count += 1
        threading.Thread(
            target=self._watch, args=(opened,), name="clustrix-files", daemon=True
        ).start()
        return opened

    def _watch(self, opened: _Opened) -> None:
        while not opened.closed.wait(IDLE_SECONDS / 2):
            if time.monotonic() - self._used > IDLE_SECONDS:
                self.close_if_unused()
        opened.way.abandon()


def _close(opened: _Opened) -> None:
    opened.way.close()
    opened.closed.set()
