"""How a task runner opens a cluster, and where its flow runs' calls go from there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.places.host import Host, Lane
from clustrix_prefect.dispatch.places.jobs import JobLane
from clustrix_prefect.dispatch.places.warm_workers import DirectLane
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.sessions.session import sessions

if TYPE_CHECKING:
    from clustrix_prefect.dispatch.dispatcher import Dispatcher
    from clustrix_prefect.dispatch.task_run import TaskRunDriver


class Place(Protocol):
    """Where the calls of one flow run go: the host behind a login, or pods."""

    known: dict[str, Any]
    """Calls that an earlier process of this flow run left there, by id."""

    def is_ready_for(self, driver: TaskRunDriver) -> bool:
        """Whether what a call is packed for is known, so that the rest here can be asked.

        If not, the driver hears what that waits for, then when it is worth asking again, or why
        it is not.
        """
        ...

    @property
    def acknowledged(self) -> Collection[str]:
        """The ids of calls whose outcome it has had: their traces may be there still."""
        ...

    @property
    def python_note(self) -> str:
        """Which interpreter runs the calls, and why; empty where that is not known yet."""
        ...

    @property
    def python_version(self) -> tuple[int, int]:
        """The Python there, if nothing else is asked for."""
        ...

    @property
    def store(self) -> str:
        """The id of the store that calls share; empty if there is none."""
        ...

    def interpreter_for(self, code: Code) -> FarPython:
        """The interpreter that runs this code, which may still have to be built."""
        ...

    def send(self, call: Call) -> None:
        """Have a call run; what prevents it, later on, is told to the dispatcher."""
        ...

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up a call that an earlier process sent there."""
        ...

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop calls of those in `known` that nobody takes up."""
        ...

    def close(self, keep: bool, is_over: bool = True) -> None:
        """Clean up there; the outcomes of calls stay if the flow run is not over."""
        ...


class OpenedCluster(Protocol):
    """A cluster that a task runner has opened."""

    def place_for(self, dispatcher: Dispatcher) -> Place:
        """Where the calls of a flow run go."""
        ...

    def leave(self) -> None:
        """The task runner ends: nothing that is broken is waited for long."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


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

    def place_for(self, dispatcher: Dispatcher) -> Host:
        return Host(self._session, dispatcher, lambda host: self._lane(dispatcher, host))

    def _lane(self, dispatcher: Dispatcher, host: Host) -> Lane:
        cluster = self._cluster
        if isinstance(cluster, WorkerCluster):
            return DirectLane(
                dispatcher,
                host,
                environment=cluster.environment,
                max_workers=cluster.max_parallel_calls,
                working_directory=cluster.working_directory,
            )
        assert host.session.scheduler is not None
        return JobLane(dispatcher, host, host.session.scheduler)

    def leave(self) -> None:
        sessions.leave(self._session)

    def close(self) -> None:
        sessions.release(self._session)


def open_cluster(cluster: ClusterBlock) -> OpenedCluster:
    """Open a cluster for a task runner.

    Raises:
        ClusterError: It cannot be used.
    """
    if isinstance(cluster, KubernetesCluster):
        from clustrix_prefect.dispatch.places.pods import OpenedNamespace

        return OpenedNamespace(cluster)
    return OpenedSession(cluster)
