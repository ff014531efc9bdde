"""A cluster that is open for a few questions, without a session of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.far_side.wire import protocol


@dataclass(frozen=True)
class OpenedCluster:
    """What asks a cluster, and what it said of itself.

    Attributes:
        agent: Asks it.
        work_dir: The path of its work directory.
        user_id: The number of the account there.
    """

    agent: AgentClient
    work_dir: str
    user_id: int


def agent_for_questions(
    cluster: ClusterBlock,
    connection: Connection,
    on_lost: Callable[[BaseException], None] = lambda reason: None,
) -> AgentClient:
    """Return an agent, not yet started, of which nobody wants to know anything but its answers."""
    return AgentClient(
        connection,
        python=cluster.python,
        prologue=cluster.prologue,
        work_dir=cluster.remote_work_dir,
        on_event=lambda event, body: None,
        on_lost=on_lost,
    )


@contextmanager
def opened(cluster: ClusterBlock) -> Iterator[OpenedCluster]:
    """Connect to a cluster for as long as the context lasts.

    Raises:
        ConnectionFailed: It cannot be reached.
        AgentError: Its work directory cannot be used.
    """
    with closing(cluster.connect()) as connection:
        agent = agent_for_questions(cluster, connection)
        hello = agent.start()
        with closing(agent):
            configured = agent.request(
                protocol.configure(work_dir=cluster.remote_work_dir, alone=cluster.is_alone)
            )
            yield OpenedCluster(agent, configured["work_dir"], hello["uid"])
