"""How a task runner opens a cluster, and where its flow runs' calls go from there."""

from __future__ import annotations

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.dispatch.placement import (
    CallListener,
    Executor,
    OpenedCluster,
    RunContext,
)
from clustrix_prefect.dispatch.places.jobs import JobExecutor
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.dispatch.places.warm_workers import WorkerExecutor
from clustrix_prefect.dispatch.registry import CallRegistry
from clustrix_prefect.sessions.session import sessions


class OpenedSession:
    """A cluster behind a login; all task runners of this process share the connection.

    Args:
        cluster: Where to.

    Raises:
        ConnectionFailed: It cannot be reached.
        PythonVersionMismatch: It has no Python that can run the calls.
        AgentError: Its work directory cannot be used.
    """

    def __init__(self, cluster: ClusterBlock) -> None:
        self._cluster = cluster
        self._session = sessions.acquire(cluster)

    def place_for(
        self, run: RunContext, registry: CallRegistry, listener: CallListener
    ) -> RunSession:
        return RunSession(
            self._session,
            run,
            registry,
            listener,
            lambda session: self._executor(run, registry, listener, session),
        )

    def _executor(
        self, run: RunContext, registry: CallRegistry, listener: CallListener, session: RunSession
    ) -> Executor:
        cluster = self._cluster
        if isinstance(cluster, WorkerCluster):
            return WorkerExecutor(
                run,
                registry,
                listener,
                session,
                environment=cluster.environment,
                max_workers=cluster.max_parallel_calls,
                working_directory=cluster.working_directory,
            )
        assert session.session.scheduler is not None
        return JobExecutor(run, registry, listener, session, session.session.scheduler)

    def leave(self) -> None:
        sessions.leave(self._session)

    def close(self) -> None:
        sessions.release(self._session)


def open_cluster(cluster: ClusterBlock) -> OpenedCluster:
    """Open a cluster for a task runner.

    Raises:
        ClustrixError: It cannot be used.
    """
    if isinstance(cluster, KubernetesCluster):
        from clustrix_prefect.dispatch.places.pods import OpenedNamespace

        return OpenedNamespace(cluster)
    return OpenedSession(cluster)
