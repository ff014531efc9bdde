"""Everything that a started task runner has: threads, connection, the flow runs it serves."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, cast
from uuid import UUID

from prefect.blocks.system import Secret
from prefect.client.schemas.objects import RunInput, State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Cancelling
from prefect.tasks import Task
from prefect.utilities.urls import url_for

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.dispatch.call import CallState
from clustrix_prefect.dispatch.dispatcher import Dispatcher
from clustrix_prefect.dispatch.pacing import Pacer
from clustrix_prefect.dispatch.placement import RunContext, RunLog
from clustrix_prefect.dispatch.places.opening import open_cluster
from clustrix_prefect.dispatch.pool import StepPool
from clustrix_prefect.dispatch.progress import Progress
from clustrix_prefect.dispatch.registry import CallRegistry
from clustrix_prefect.dispatch.report import Report, describe
from clustrix_prefect.dispatch.task_run import TaskRunDriver
from clustrix_prefect.dispatch.timers import Timers
from clustrix_prefect.display.live_line import IN_LIVE_LINE, live_line
from clustrix_prefect.engine import SharedClient, flush_events, shown_state_time
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.packaging import signing
from clustrix_prefect.packaging.identity import digest
from clustrix_prefect.packaging.shown import flow_run_facts
from clustrix_prefect.task_resources import Resources

logger = logging.getLogger("prefect.clustrix")

_LOOK_AT_FLOW_RUN_SECONDS = 2.0
_REPORT_SECONDS = 10.0
# A map that is over before this long (seconds) needs no progress report.
_REPORT_AFTER_SECONDS = 5.0
_CANCEL_SECONDS = 30.0


class Runtime:
    """A started task runner.

    Args:
        cluster: Where calls run.
        requeues: How often a call that the cluster lost is submitted again.
        results: How results come back: "pickle" or "json".
        signing_secret: Name of a `Secret` block, or None for the file in `PREFECT_HOME`.
    """

    def __init__(
        self, cluster: ClusterBlock, *, requeues: int, signing_secret: str | None, results: str
    ) -> None:
        self.cluster = cluster
        self._requeues = requeues
        self._results = results
        self._secret = _secret(signing_secret)
        self._opened = open_cluster(cluster)
        self._client = SharedClient()
        self._timers = Timers("clustrix-timers")
        self._runs: dict[str, FlowRunOnCluster] = {}
        self._drivers: set[TaskRunDriver] = set()
        self._changed = threading.Condition()
        self._cancelled: str | None = None
        self._pacer = Pacer(partial(shown_state_time, self._client.client))
        self._beginning = StepPool("clustrix-begin", self._timers, gate=self._pacer.wait)
        self._going_on = StepPool("clustrix-step", self._timers, gate=self._pacer.wait)
        self._outside_id = str(uuid.uuid4())

    def drive(
        self,
        task: Task[Any, Any],
        task_run_id: UUID,
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None,
        dependencies: dict[str, set[RunInput]] | None,
        resources: Resources,
        context: Context,
        flow_run_context: FlowRunContext | None,
        map_index: int | None,
    ) -> TaskRunDriver:
        """Begin a task run."""
        self._client.provide(context)
        run = self._run_of(flow_run_context)
        driver = TaskRunDriver(
            task,
            task_run_id,
            parameters,
            wait_for,
            dependencies,
            resources,
            context=context,
            beginning=self._beginning,
            going_on=self._going_on,
            timers=self._timers,
            sender=run.dispatcher,
            flow_run_facts=run.facts,
            state_sent=self._pacer.sent,
            map_index=map_index,
        )
        with self._changed:
            self._drivers.add(driver)
            cancelled = self._cancelled
        run.begun(driver)
        driver.finished.add_done_callback(lambda _: self._ended(driver))
        if cancelled is not None:
            driver.cancel(cancelled)
        driver.begin()
        return driver

    def cancel(self, message: str) -> None:
        """Bring every task run to an end, and its job with it; none is begun from now on."""
        with self._changed:
            self._cancelled = message
            drivers = tuple(self._drivers)
        # All of them know before the first ends, or those that wait for it would go on.
        for driver in drivers:
            driver.give_up(message)
        for driver in drivers:
            driver.cancel(message)
        for run in tuple(self._runs.values()):
            run.dispatcher.cancel(run.dispatcher.run.registry.unfinished())

    def close(self, failed: bool) -> None:
        """Wait for what was submitted, or cancel it if the flow failed; then let go."""
        failed = failed or any(run.has_failed for run in self._runs.values())
        try:
            if not failed:
                self._wait()
        except BaseException:  # Ctrl-C or SIGTERM while waiting
            failed = True
            raise
        finally:
            self._opened.leave()
            if failed:
                self.cancel("The flow run ended before this task run")
            self._wait(_CANCEL_SECONDS)
            for run in self._runs.values():
                run.close()
            if failed:
                # A process that is being ended may not come to Prefect's own flushing.
                flush_events()
            self._beginning.close()
            self._going_on.close()
            self._timers.close()
            self._client.close()
            self._opened.close()

    def _wait(self, seconds: float | None = None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while self._drivers and (deadline is None or time.monotonic() < deadline):
                self._changed.wait(0.5)

    def _ended(self, driver: TaskRunDriver) -> None:
        with self._changed:
            self._drivers.discard(driver)
            if not self._drivers:
                self._changed.notify_all()

    def _run_of(self, context: FlowRunContext | None) -> FlowRunOnCluster:
        flow_run = context.flow_run if context else None
        run_id = str(flow_run.id) if flow_run else self._outside_id
        with self._changed:
            run = self._runs.get(run_id)
            if run is None:
                report: Report | None = None
                flow_logger: logging.Logger | logging.LoggerAdapter[Any] = logger
                if context is not None and flow_run is not None:
                    description = self.cluster.description
                    report = Report(self._client.client, flow_run.id, description)
                    flow_logger = flow_run_logger(flow_run, context.flow)
                dispatcher = Dispatcher(
                    self._opened,
                    RunContext(
                        cluster=self.cluster,
                        run_id=run_id,
                        run_key=digest("clustrix-run-directory", run_id)[:32],
                        run_name=flow_run.name if flow_run else "",
                        registry=CallRegistry(
                            run_id, signing.run_key(self._secret, run_id), self._requeues
                        ),
                        requeues=self._requeues,
                        timers=self._timers,
                        in_background=self._going_on.submit,
                        log=RunLog(flow_logger),
                    ),
                    results=self._results,
                    report=report,
                )
                run = FlowRunOnCluster(self, dispatcher, context, self._client)
                self._runs[run_id] = run
        return run


class FlowRunOnCluster:
    """One flow run that uses a task runner: its calls, its reports, and its own state.

    Args:
        runtime: The task runner.
        dispatcher: Its calls.
        context: The flow run's context, or None outside a flow.
        client: Prefect's API.
    """

    def __init__(
        self,
        runtime: Runtime,
        dispatcher: Dispatcher,
        context: FlowRunContext | None,
        client: SharedClient,
    ) -> None:
        self.dispatcher = dispatcher
        self.flow_run = context.flow_run if context else None
        self.flow_run_id = self.flow_run.id if self.flow_run else None
        self._runtime = runtime
        self._client = client.client
        self._closed = threading.Event()
        self.report = dispatcher.report
        self._progress = Progress()
        self._logger = dispatcher.run.log.logger
        self.facts: dict[str, Any] = {}
        self._thread: threading.Thread | None = None
        if context is not None and self.flow_run is not None:
            self.facts = _facts_of(context)
            if dispatcher.python_note:
                dispatcher.run.log.say(logging.INFO, dispatcher.python_note)
            self._thread = threading.Thread(target=self._watch, name="clustrix-watch", daemon=True)
            self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether the flow has ended, or is to be tried again, for another reason than success."""
        state = self.flow_run.state if self.flow_run else None
        return state is not None and not (state.is_completed() or state.is_running())

    def begun(self, driver: TaskRunDriver) -> None:
        """A task run has begun."""
        if self._progress.begin() == 2:  # there is something to count
            live_line.show(self, self._line)
        driver.finished.add_done_callback(
            lambda finished: self._progress.end(
                driver.name, None if finished.exception() else finished.result()
            )
        )

    def _counts(self) -> Counter[CallState]:
        return self._progress.counts(
            self.dispatcher.run.registry.counts.by_state()[CallState.RUNNING]
        )

    def _line(self) -> str:
        left = self._progress.time_left(self.dispatcher.first_started)
        said = f"{self.dispatcher.run.cluster.description}: {describe(self._counts())}"
        return f"{said}, {left}" if left else said

    def close(self) -> None:
        """Stop watching, and leave a table of the calls."""
        live_line.hide(self)
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        state = self.flow_run.state if self.flow_run else None
        self.dispatcher.close(is_over=state is None or not state.is_paused())
        if self.report is not None and self.flow_run is not None:
            self.report.table(self.dispatcher.run.registry.calls)
            if last_words := self._progress.last_words(url_for(self.flow_run)):
                self.dispatcher.run.log.say(logging.ERROR, last_words)
        if (
            self.flow_run is not None
            and self.flow_run.state
            and self.flow_run.state.is_cancelling()
        ):
            self._set_state(Cancelled(message="The flow run was cancelled, and its calls with it"))

    def _watch(self) -> None:
        """Report progress, and notice when somebody cancels the flow run."""
        assert self.report is not None
        began = last_report = time.monotonic()
        shown = ""
        while not self._closed.wait(_LOOK_AT_FLOW_RUN_SECONDS):
            if self._is_being_cancelled():
                self._logger.info("The flow run is being cancelled: cancelling its calls")
                self._runtime.cancel("The flow run was cancelled")
                break
            now = time.monotonic()
            if now - began < _REPORT_AFTER_SECONDS or now - last_report < _REPORT_SECONDS:
                continue
            text = describe(self._counts())
            if text != shown:
                shown, last_report = text, now
                self._logger.info(
                    "%s: %s",
                    self.dispatcher.run.cluster.description,
                    text,
                    extra={IN_LIVE_LINE: True},
                )
                self.report.progress(self._counts())
        if shown:
            self.report.progress(self._counts())

    def _is_being_cancelled(self) -> bool:
        """Return whether somebody asked the API to cancel the flow run."""
        assert self.flow_run is not None
        try:
            state = self._client.read_flow_run(self.flow_run.id).state
            if state is not None and state.is_cancelled():
                # The flow's own end would lead from here to `Failed`, but not from `Cancelling`.
                state = Cancelling(message=state.message)
                self._client.set_flow_run_state(self.flow_run.id, state, force=True)
        except Exception as error:
            logger.debug("The flow run's state is not known: %s", error)
            return False
        return state is not None and state.is_cancelling()

    def _set_state(self, state: State[Any]) -> None:
        """End the flow run in this state: its own engine has come to its end already."""
        assert self.flow_run is not None
        try:
            self._client.set_flow_run_state(self.flow_run.id, state, force=True)
        except Exception as error:
            logger.warning("The flow run stays %s: %s", self.flow_run.state, error)
            return
        self.flow_run.state = state
        self.flow_run.state_type, self.flow_run.state_name = state.type, state.name


def _facts_of(context: FlowRunContext) -> dict[str, Any]:
    """Return what `prefect.runtime` says in a flow run, of it and of its deployment."""

    def find() -> dict[str, Any]:
        FlowRunContext.__var__.set(context)
        return flow_run_facts()

    return copy_context().run(find)


def _secret(block_name: str | None) -> bytes:
    if block_name is None:
        return signing.client_secret()
    try:
        name = block_name.removeprefix("secret/")
        # _sync: without it, a coroutine comes back wherever a loop is running.
        secret = cast("Secret[str]", Secret.load(name, _sync=True)).get()  # type: ignore[call-arg]
    except ValueError as error:
        raise ConfigurationError(
            f"There is no Secret block {block_name!r} to sign results with.",
            "Make one in the Prefect UI, or leave signing_secret out.",
        ) from error
    return str(secret).encode()
