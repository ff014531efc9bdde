"""How a task runner opens a cluster, and where its flow runs' calls go from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock
from clustrix_prefect.dispatch.placement import (
    CallListener,
    Executor,
    OpenedCluster,
    Place,
    RunContext,
)
from clustrix_prefect.dispatch.places.awaited import FirstLogin
from clustrix_prefect.dispatch.places.jobs import JobExecutor
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.dispatch.places.warm_workers import WorkerExecutor
from clustrix_prefect.errors import LoginNeeded
from clustrix_prefect.sessions.session import Session, sessions

if TYPE_CHECKING:
    from clustrix_prefect.clusters.kubernetes import KubernetesCluster
    from clustrix_prefect.clusters.workers import WorkerCluster


def _workers(run: RunContext, listener: CallListener, session: RunSession) -> WorkerExecutor:
    cluster = cast("WorkerCluster", run.cluster)
    return WorkerExecutor(
        run,
        listener,
        session,
        environment=cluster.environment,
        max_workers=cluster.max_parallel_calls,
        working_directory=cluster.working_directory,
    )


_EXECUTORS: Mapping[CallsRunIn, Callable[[RunContext, CallListener, RunSession], Executor]] = {
    CallsRunIn.JOBS: JobExecutor,
    CallsRunIn.WORKERS: _workers,
}


class OpenedSession:
    """A cluster behind a login; all task runners of this process share the connection.

    Where a person has to log in first, calls wait for that.

    Args:
        cluster: Where to.

    Raises:
        ConnectionFailed: It cannot be reached.
        PythonVersionMismatch: It has no Python that can run the calls.
        AgentError: Its work directory cannot be used.
    """

    def __init__(self, cluster: ClusterBlock) -> None:
        self._cluster = cluster
        self._session: Session | None = None
        self._first_login: FirstLogin | None = None
        try:
            self._session = sessions.acquire(cluster)
        except LoginNeeded as needed:
            self._first_login = FirstLogin(cluster, needed, self._run_session)

    def place_for(self, run: RunContext, listener: CallListener) -> Place:
        if self._first_login is not None:
            return self._first_login.place_for(run, listener)
        assert self._session is not None
        return self._run_session(self._session, run, listener)

    def _run_session(self, session: Session, run: RunContext, listener: CallListener) -> RunSession:
        executor = _EXECUTORS[self._cluster.calls_run_in]
        return RunSession(session, run, listener, lambda made: executor(run, listener, made))

    def leave(self) -> None:
        if self._first_login is not None:
            self._first_login.leave()
        elif self._session is not None:
            sessions.leave(self._session)

    def close(self) -> None:
        if self._first_login is not None:
            self._first_login.close()
        elif self._session is not None:
            sessions.release(self._session)


def open_cluster(cluster: ClusterBlock) -> OpenedCluster:
    """Open a cluster for a task runner.

    Raises:
        ClustrixError: It cannot be used.
    """
    if cluster.calls_run_in is CallsRunIn.PODS:
        from clustrix_prefect.dispatch.places.pods import OpenedNamespace

        return OpenedNamespace(cast("KubernetesCluster", cluster))
    return OpenedSession(cluster)
