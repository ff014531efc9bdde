"""The only module that knows Prefect's task engine.

Prefect runs a task as nested context managers around one function call. Here the same
engine is a generator that pauses at that call: `steps()` yields what it waits for, and is
sent what became of it. Between two steps it holds no thread, so thousands of calls can be
in flight in one process; each step runs in whatever thread is free, always in the task's
own `contextvars` context, so hooks, retry conditions and the writing of results hold up
nobody else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, TypeAlias
from uuid import UUID

from prefect._flow_run_suspension import raise_if_flow_run_suspension_requested
from prefect._internal.uuid7 import uuid7
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import RunInput, State
from prefect.context import FlowRunContext, SyncClientContext, TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import task_run_logger
from prefect.states import Cancelled, Pending, Retrying, Running
from prefect.task_engine import SyncTaskRunEngine, TaskRunTimeoutError, _create_task_run_locally
from prefect.tasks import Task
from prefect.transactions import Transaction
from prefect.types._datetime import create_datetime_instance, now
from prefect.utilities.callables import parameters_to_args_kwargs
from prefect.utilities.engine import emit_task_run_state_change_event, should_log_prints

from clustrix_prefect.display.live_line import IN_LIVE_LINE
from clustrix_prefect.display.terminal import SAID_BEFORE
from clustrix_prefect.errors import ClustrixError, own_copy

# --- what the engine waits for ------------------------------------------------------------


@dataclass(frozen=True)
class UpstreamRequest:
    """Wait until everything that the call depends on has finished."""


@dataclass(frozen=True)
class DelayRequest:
    """Wait this many seconds (a retry's delay)."""

    seconds: float


@dataclass(frozen=True)
class CallRequest:
    """Run the function far away."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout_seconds: float | None
    log_prints: bool


@dataclass(frozen=True)
class EventRequest:
    """Nothing new: wait for the next event of the call that is under way."""


Request: TypeAlias = UpstreamRequest | DelayRequest | CallRequest | EventRequest

# --- what it is told ----------------------------------------------------------------------


@dataclass(frozen=True)
class Proceed:
    """What was waited for has happened."""


@dataclass(frozen=True)
class CallQueued:
    """The call waits in a queue, for this reason."""

    message: str


@dataclass(frozen=True)
class CallStarted:
    """A worker began to run the call at this time."""

    at: datetime


@dataclass(frozen=True)
class CallFinished:
    """The function ended; to open its outcome returns its value, or raises what it raised.

    Opening runs the user's code (unpickling), so it is left to the task run's own step.
    """

    open: Callable[[], Any]


@dataclass(frozen=True)
class CallRaised:
    """The cluster failed the call."""

    error: BaseException


@dataclass(frozen=True)
class Cancel:
    """Give up: the flow run is being cancelled."""

    message: str


Event: TypeAlias = Proceed | CallQueued | CallStarted | CallFinished | CallRaised | Cancel


class _GivenUp(Exception):
    """Unwinds a task run whose call was cancelled; never leaves `steps()`."""


class RemoteTaskRunEngine(SyncTaskRunEngine[Any, Any]):
    """Prefect's engine for a task whose function runs somewhere else."""

    map_index: int | None = None
    """Which element of a map this is, counted from 0."""

    result_is_stored = False
    """Whether the flow run, started again, finds the task's result in Prefect's storage."""

    _worker_runs = False
    _state_sent: Callable[[UUID, datetime], None]
    _was_said: Callable[[ClustrixError | str, UUID], bool]

    def steps(
        self,
        task_run_id: UUID,
        dependencies: dict[str, set[RunInput]] | None,
        has_upstream: bool,
    ) -> Generator[Request, Event, State[Any]]:
        """Run the task, pausing wherever something outside has to happen.

        Args:
            task_run_id: The id of the task run to make.
            dependencies: Inputs of a mapped call, recorded with the run.
            has_upstream: Whether the parameters or `wait_for` hold futures. Prefect's engine
                blocks on those, so they are waited for before it starts.

        Returns:
            The final state.
        """
        self.task_run = _create_task_run_locally(
            task=self.task,
            id=task_run_id,
            parameters=self.parameters,
            wait_for=self.wait_for,
            extra_task_inputs=dependencies,
        )
        if self.map_index is not None:
            key = self.task_run.name.removeprefix(self.task.name)
            self.task_run.name = f"{self.task.name}-{self.map_index}{key}"
        # The run is seen as pending from now on, not only when its turn comes.
        self._last_event = emit_task_run_state_change_event(
            task_run=self.task_run, initial_state=None, validated_state=self.state
        )
        self._state_sent(task_run_id, self.state.timestamp)
        if has_upstream and isinstance(cancel := (yield UpstreamRequest()), Cancel):
            self.set_state(Cancelled(message=cancel.message), force=True)
            return self.state
        with self.start(task_run_id=task_run_id, dependencies=dependencies):
            try:
                while self.is_running():
                    yield from self._retry_delay()
                    with (
                        self.asset_context(),
                        self.run_context(),
                        self.transaction_context() as transaction,
                    ):
                        yield from self._call(transaction)
                    self.result_is_stored = _is_stored(transaction)
                    raise_if_flow_run_suspension_requested()
            except _GivenUp as given_up:
                self._say_once(str(given_up))
                self.set_state(Cancelled(message=str(given_up)), force=True)
        return self.state

    def _retry_delay(self) -> Generator[Request, Event, None]:
        if scheduled := self.state.state_details.scheduled_time:
            seconds = max(0.0, scheduled.timestamp() - time.time())
            if isinstance(event := (yield DelayRequest(seconds)), Cancel):
                raise _GivenUp(event.message)

    def _call(self, transaction: Transaction) -> Generator[Request, Event, None]:
        self._worker_runs = False
        if transaction.is_committed():
            self._started(now("UTC"))
            self.handle_success(transaction.read(), transaction=transaction)
            return
        args, kwargs = parameters_to_args_kwargs(self.task.fn, self.parameters or {})
        event = yield CallRequest(
            args, kwargs, self.task.timeout_seconds, should_log_prints(self.task)
        )
        while True:
            if isinstance(event, CallQueued):
                self._queued(event.message)
            elif isinstance(event, CallStarted):
                self._started(event.at)
            elif isinstance(event, CallFinished):
                value = event.open()
                break
            elif isinstance(event, CallRaised):
                raise own_copy(event.error)
            elif isinstance(event, Cancel):
                raise _GivenUp(event.message)
            event = yield EventRequest()
        self.handle_success(value, transaction=transaction)

    def _queued(self, message: str) -> None:
        assert self.task_run is not None
        if self._worker_runs:
            # Submitted anew after the cluster failed it: the first start does not count.
            self._worker_runs = False
            self.task_run.run_count -= 1
        self.set_state(Pending(name="Queued", message=message), force=True)
        # The flow run's log says it once for all calls of a job.
        self.logger.debug("Queued: %s", message)

    def _started(self, at: datetime) -> None:
        assert self.task_run is not None
        if self._worker_runs:
            self.task_run.run_count -= 1
        self._worker_runs = True
        # The worker's own start, unless its clock puts that before what is already recorded, or
        # after now: the API would take a final state of an earlier time for an old one.
        at = min(at, datetime.now(timezone.utc))
        if at <= (recorded := self.state.timestamp):
            at = recorded + timedelta(microseconds=1)
        new_state = Retrying if self.retries else Running
        state: State[Any] = new_state(timestamp=create_datetime_instance(at))
        if self.task_run.start_time is None:
            self.task_run.start_time = state.timestamp  # type: ignore[assignment]
        self.set_state(state)
        self.call_hooks(state)

    # --- where a task run differs from one that runs here ----------------------------------

    def is_running(self) -> bool:
        """Return whether the task run still has something to do.

        A run that waits for a worker is pending, which to Prefect's engine means that it
        was never begun; only `NotReady` means that here.
        """
        if self.task_run is None:
            return False
        waiting = self.state.is_pending() and self.state.name != "NotReady"
        return waiting or super().is_running()

    def begin_run(self) -> None:
        """Begin without saying so: the run, its start time and its hooks wait for the worker."""
        assert self.task_run is not None
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            self.task_run.flow_run_run_count = context.flow_run.run_count

    def set_state(self, state: State[Any], force: bool = False) -> State[Any]:
        """Record a state, except a `Running` that no worker has announced."""
        if state.is_running() and not self._worker_runs:
            return state
        if self.task_run is not None and self.task_run.start_time is None and _has_failed(state):
            # It never ran; without a start and an end the timeline would not show it at all.
            self.task_run.start_time = state.timestamp  # type: ignore[assignment]
        recorded = super().set_state(state, force=force)
        assert self.task_run is not None
        self._state_sent(self.task_run.id, recorded.timestamp)
        return recorded

    def call_hooks(self, state: State[Any] | None = None) -> None:
        """Call the hooks of a state that was recorded."""
        if state is not None and state.is_running() and not self._worker_runs:
            return
        super().call_hooks(state)

    def handle_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """Decide on a retry; that it runs is, again, the worker's to say."""
        self._worker_runs = False
        return super().handle_retry(exc_or_state)

    def handle_exception(self, exc: Exception) -> None:
        """Retry, or fail; the log does not repeat what it says of another task run."""
        if isinstance(exc, ClustrixError):
            self._say_once(exc)
        super().handle_exception(exc)

    def _say_once(self, why: ClustrixError | str) -> None:
        assert self.task_run is not None
        if self._was_said(why, self.task_run.id):
            self.logger.extra[SAID_BEFORE] = True  # type: ignore[attr-defined]  # an adapter

    def log_finished_message(self) -> None:
        """Say how it ended; on a terminal, the live line counts it."""
        self.logger.extra[IN_LIVE_LINE] = True  # type: ignore[attr-defined]  # an adapter
        super().log_finished_message()

    @contextmanager
    def run_context(self) -> Iterator[RemoteTaskRunEngine]:
        """As Prefect's, without its timeout: that one counts from here, ours from the worker.

        Prefect makes the whole context of the task run anew here, which takes 0.1 ms. Only these
        three may be others than when the run began.
        """
        assert self.task_run is not None
        context = TaskRunContext.get()
        assert context is not None
        self.logger = task_run_logger(self.task_run, self.task)  # type: ignore[assignment]
        news = {"parameters": self.parameters or {}, "start_time": now("UTC")}
        with context.model_copy(update=news):
            try:
                yield self
            except TimeoutError as error:
                self.handle_timeout(error)
            except _GivenUp:
                raise
            except Exception as error:
                self.logger.debug("Where the exception comes from:", exc_info=True)
                self.handle_exception(_without_our_frames(error))


def _has_failed(state: State[Any]) -> bool:
    return state.is_failed() or state.is_crashed()


def _without_our_frames(error: Exception) -> Exception:
    """Cut from tracebacks what leads from the engine to the code that raised."""
    if isinstance(error, ClustrixError) and error.__cause__ is not None:
        error.__cause__.__traceback__ = _below_ours(error.__cause__.__traceback__)
    return error.with_traceback(_below_ours(error.__traceback__))


def _below_ours(frames: TracebackType | None) -> TracebackType | None:
    below, each = frames, frames
    while each is not None:
        package = _package_of(each)
        each = each.tb_next
        if package == "clustrix_prefect":
            below = each
    while below is not None and _package_of(below) == "prefect":
        below = below.tb_next
    return below


def _package_of(frames: TracebackType) -> str:
    return str(frames.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_stored(transaction: Transaction) -> bool:
    stored = transaction.is_committed() and transaction.write_on_commit
    return bool(stored and transaction.key and not transaction.overwrite)


def timed_out(seconds: float) -> TaskRunTimeoutError:
    """Return what Prefect's engine takes for a task's own `timeout_seconds`."""
    return TaskRunTimeoutError(f"Scope timed out after {seconds} second(s).")


def new_engine(
    task: Task[Any, Any],
    parameters: dict[str, Any],
    wait_for: Any,
    state_sent: Callable[[UUID, datetime], None],
    was_said: Callable[[ClustrixError | str, UUID], bool],
) -> RemoteTaskRunEngine:
    """Return an engine for one run of a task.

    Args:
        task: The task.
        parameters: Its parameters.
        wait_for: Futures to wait for besides.
        state_sent: Told the run and the time of each state that went to Prefect's server.
        was_said: Whether the flow run's log says of another task run what befell this one.
    """
    engine = RemoteTaskRunEngine(task=task, parameters=parameters, wait_for=wait_for)
    engine._state_sent, engine._was_said = state_sent, was_said
    return engine


class SharedClient:
    """One API client for all task runs of a runner.

    Prefect makes a client for each context that has none, which costs about 50 ms a task in
    an asynchronous flow or outside a flow.
    """

    def __init__(self) -> None:
        self._context = SyncClientContext()
        # Counted as entered, so that no task run's exit closes it.
        self._context._context_stack = 1
        self.client: SyncPrefectClient = self._context.client
        self.client.__enter__()

    def provide(self, context: Context) -> None:
        """Put the client into a task's context, unless the flow's own is there."""
        variable = SyncClientContext.__var__
        if context.get(variable) is None:
            context.run(variable.set, self._context)

    def close(self) -> None:
        self.client.__exit__(None, None, None)


def new_task_run_id() -> UUID:
    """Return an id for a task run, ordered by time as Prefect's own."""
    return uuid7()


def shown_state_time(client: SyncPrefectClient, task_run_id: UUID) -> datetime | None:
    """Of when the state is that the API shows of a task run; None if it shows none."""
    try:
        state = client.read_task_run(task_run_id).state
    except ObjectNotFound:
        return None
    return state.timestamp if state else None


def flush_events(seconds: float = 30.0) -> None:
    """Have every state event that was emitted sent, as long as that takes no longer than this."""
    # In a thread of its own: with an event loop running here it would return a coroutine.
    flusher = threading.Thread(target=EventsWorker.drain_all, kwargs={"timeout": seconds})
    flusher.start()
    flusher.join(seconds)
