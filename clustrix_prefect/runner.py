"""`ClusterTaskRunner`: what flow authors put on their flows."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, Literal

from prefect.client.schemas.objects import RunInput, State
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, PrefectFutureList
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from clustrix_prefect.clusters import load_cluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.credentials.cache import memory_of, remembering
from clustrix_prefect.dispatch.runtime import Runtime
from clustrix_prefect.display.api_server import start_no_other
from clustrix_prefect.display.terminal import be_brief
from clustrix_prefect.engine import new_task_run_id
from clustrix_prefect.errors import ConfigurationError, TaskNotSupported
from clustrix_prefect.packaging.blobs import sharing_values
from clustrix_prefect.task_resources import current_resources

# Those of the elements of the map that is being submitted.
_map_indices: ContextVar[Iterator[int]] = ContextVar("map_indices", default=iter(()))  # noqa: B039


class ClusterFuture(PrefectConcurrentFuture[State[Any]]):
    """The future of a task that runs on a cluster."""


class ClusterTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """Runs the tasks of a flow on a cluster, one call each.

    The task-run engine (states, retries, caching, hooks, results) stays in the flow's
    process; only the call of the function travels. The far side needs a Python
    interpreter, and neither Prefect nor a route to its API.

    Args:
        cluster: A cluster block, or the name of one: "slurm-cluster/ndoli".
        requeues: How often a call is submitted again after the cluster lost it (a node
            failed, a job was preempted or vanished). The task's `retries` are not touched.
        signing_secret: Name of a Prefect `Secret` block with the secret that results are
            signed with. By default a file in `PREFECT_HOME`, made on first use. Needed only
            where a flow run may go on from another machine.
        results: How results come back. "pickle": as what they are; to open a pickle runs what it
            says, so the flow's machine trusts the cluster. "json": plain data alone (None, bool,
            int, float, str, bytes, bytearray, list, tuple, set, frozenset, dict), which can run
            nothing; everything else is refused by its name. Exceptions that are not Python's own
            come back as `RemoteTaskError`.

    Raises:
        ConfigurationError: An argument is wrong.

    Examples:
        ```python
        from prefect import flow, task
        from clustrix_prefect import ClusterTaskRunner, resources

        @task
        def fit(seed: int) -> float: ...

        @flow(task_runner=ClusterTaskRunner("slurm-cluster/ndoli"))
        def sweep(n: int = 100) -> list[float]:
            with resources(cores=4, memory="8GB", time="00:30:00"):
                futures = fit.map(range(n))
            return [future.result() for future in futures]
        ```
    """

    def __init__(
        self,
        cluster: ClusterBlock | str,
        *,
        requeues: int = 2,
        signing_secret: str | None = None,
        results: Literal["pickle", "json"] = "pickle",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not isinstance(cluster, (ClusterBlock, str)):
            raise ConfigurationError(
                f"ClusterTaskRunner needs a cluster, not {type(cluster).__name__}.",
                'Give it a cluster block or the name of one, such as "slurm-cluster/ndoli".',
            )
        if isinstance(requeues, bool) or not isinstance(requeues, int) or requeues < 0:
            raise ConfigurationError(
                f"requeues={requeues!r} is not a count.", "Write for example requeues=2."
            )
        if results not in ("pickle", "json"):
            raise ConfigurationError(
                f"results={results!r} is no way for results to come back.",
                'Write results="pickle" or results="json".',
            )
        be_brief()
        if isinstance(cluster, str):
            start_no_other()
        self.cluster = cluster
        self.results = results
        self.requeues = requeues
        self.signing_secret = signing_secret
        self._runtime: Runtime | None = None
        self._obstacle: Exception | None = None
        self._lock = threading.Lock()

    def duplicate(self) -> ClusterTaskRunner:
        """Return a new runner with the same settings, not started."""
        return type(self)(
            self.cluster,
            requeues=self.requeues,
            signing_secret=self.signing_secret,
            results=self.results,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterTaskRunner):
            return NotImplemented
        return (self.cluster, self.requeues, self.signing_secret, self.results) == (
            other.cluster,
            other.requeues,
            other.signing_secret,
            other.results,
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        # A flow travels to a process of its own together with its runner, not yet started.
        return {
            **self.__dict__,
            "_runtime": None,
            "_obstacle": None,
            "_lock": None,
            "_started": False,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __enter__(self) -> ClusterTaskRunner:
        """Connect to the cluster; what prevents it is raised by `submit` and `map`."""
        super().__enter__()
        try:
            cluster = load_cluster(self.cluster) if isinstance(self.cluster, str) else self.cluster
            # Prefect has not made the flow run's context yet.
            with remembering(memory_of(self)):
                self._runtime = Runtime(
                    cluster,
                    requeues=self.requeues,
                    signing_secret=self.signing_secret,
                    results=self.results,
                )
        except Exception as error:
            # Prefect enters a runner where nothing catches: the flow run would stay `Running`
            # for ever. Raised in the flow, the same exception makes it fail, or retry.
            self._obstacle = error
        except BaseException:
            self._started = False
            raise
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """Wait for what was submitted; after an exception, cancel it."""
        runtime, self._runtime, self._obstacle = self._runtime, None, None
        try:
            if runtime is not None:
                runtime.close(failed=exc_type is not None)
        finally:
            super().__exit__(exc_type, exc_value, traceback)

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> ClusterFuture:
        """Run a task on the cluster; returns at once.

        Args:
            task: The task.
            parameters: Its parameters; futures in them are waited for.
            wait_for: Futures to wait for besides.
            dependencies: Inputs to record with the task run.

        Raises:
            TaskNotSupported: Tasks of this kind cannot run far away.
            InvalidResources: What the call asks for cannot be had on this cluster.
            ConnectionFailed: The cluster cannot be reached.
            PythonVersionMismatch: It has no Python that can run the calls.
            CredentialError: A reference in its credentials cannot be resolved.
        """
        if self._obstacle is not None:
            raise self._obstacle
        if not self._started or self._runtime is None:
            raise RuntimeError("Task runner is not started")
        if task.isgenerator:
            raise TaskNotSupported(
                f"The task {task.name!r} is a generator, which cannot be paused far away.",
                "Return a list, or run it with Prefect's ThreadPoolTaskRunner.",
            )
        runtime = self._runtime
        resources = current_resources(task, runtime.cluster.resources)
        runtime.cluster.check_resources(resources)
        task_run_id = new_task_run_id()
        map_index = next(_map_indices.get(), None)
        context = copy_context()
        context.run(_map_indices.set, iter(()))  # what the task run submits is no part of the map
        driver = runtime.drive(
            task,
            task_run_id,
            parameters,
            wait_for,
            dependencies,
            resources,
            context,
            FlowRunContext.get(),
            map_index,
        )
        return ClusterFuture(task_run_id=task_run_id, wrapped_future=driver.finished)

    def map(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
    ) -> PrefectFutureList[PrefectFuture[Any]]:
        """Run a task once for each element; what the calls share is sent once.

        Args:
            task: The task.
            parameters: Its parameters; those that are iterable are iterated.
            wait_for: Futures to wait for besides.
        """
        token = _map_indices.set(itertools.count())
        try:
            with sharing_values():
                return super().map(task, parameters, wait_for)
        finally:
            _map_indices.reset(token)

    def cancel_all(self) -> None:
        """Cancel everything that is not finished. Prefect calls this when a flow run ends early."""
        if self._runtime is not None:
            self._runtime.cancel("The flow run was cancelled")
