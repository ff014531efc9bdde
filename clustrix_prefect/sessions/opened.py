"""The way to a cluster: a connection, and the agent at its other end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.far_side.wire import protocol


@dataclass(frozen=True)
class OpenAgent:
    """A connection and the agent at its other end, which come and go together.

    Attributes:
        connection: The connection.
        agent: The agent.
        hello: What the agent said of its host.
    """

    connection: Connection
    agent: AgentClient
    hello: dict[str, Any]

    def close(self) -> None:
        """End the conversation, then the connection."""
        self.agent.close()
        self.connection.close()

    def abandon(self) -> None:
        """Close the connection, whose other end may be frozen: nobody waits for it."""
        _close_aside(self.connection)


def open_agent(
    cluster: ClusterBlock,
    connect: Callable[[], Connection] | None = None,
    *,
    on_event: Callable[[dict[str, Any], Any], None] = lambda event, body: None,
    on_lost: Callable[[AgentClient, BaseException], None] = lambda agent, error: None,
    start_timeout: float = 30.0,
) -> OpenAgent:
    """Connect to a cluster and start an agent there.

    Args:
        cluster: The block that says how to get there.
        connect: Another way to get there than the cluster's own.
        on_event: Takes each event and its body.
        on_lost: Is told of the agent that is gone without having been closed, and why.
        start_timeout: Seconds that the login may take.

    Raises:
        ConnectionFailed: The cluster cannot be reached.
    """
    connection = (connect or cluster.connect)()
    agent = AgentClient(
        connection,
        python=cluster.python,
        prologue=cluster.prologue,
        work_dir=cluster.remote_work_dir,
        on_event=on_event,
        on_lost=lambda error: on_lost(agent, error),
        start_timeout=start_timeout,
    )
    try:
        return OpenAgent(connection, agent, agent.start())
    except BaseException:
        agent.close()
        _close_aside(connection)
        raise


@dataclass(frozen=True)
class BriefSession:
    """A cluster that is open for a few questions.

    Attributes:
        agent: Asks it.
        work_dir: The path of its work directory.
        user_id: The number of the account there.
    """

    agent: AgentClient
    work_dir: str
    user_id: int


@contextmanager
def opened(cluster: ClusterBlock) -> Iterator[BriefSession]:
    """Connect to a cluster for as long as the context lasts.

    Raises:
        ConnectionFailed: It cannot be reached.
        AgentError: Its work directory cannot be used.
    """
    with closing(open_agent(cluster)) as way:
        configured = way.agent.request(
            protocol.configure(work_dir=cluster.remote_work_dir, alone=cluster.is_alone)
        )
        yield BriefSession(way.agent, configured["work_dir"], way.hello["uid"])


def _close_aside(connection: Connection) -> None:
    threading.Thread(target=connection.close, name="clustrix-close", daemon=True).start()
