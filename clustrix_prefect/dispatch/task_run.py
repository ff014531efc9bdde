"""Moves one task run forward whenever something happens to it."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextvars import Context, copy_context
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from prefect.client.schemas.objects import RunInput, State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled
from prefect.tasks import Task
from prefect.utilities.annotations import opaque, quote
from prefect.utilities.collections import StopVisiting, visit_collection

from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.placement import Waiter
from clustrix_prefect.dispatch.pool import StepPool
from clustrix_prefect.dispatch.timers import Timers
from clustrix_prefect.engine import (
    CallQueued,
    CallRaised,
    CallRequest,
    Cancel,
    DelayRequest,
    Event,
    Proceed,
    RemoteTaskRunEngine,
    Request,
    UpstreamRequest,
    new_engine,
)
from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.task_resources import Resources


class CallSender(Protocol):
    """Sends the calls of task runs to a cluster."""

    def was_said(self, why: ClustrixError | str, task_run_id: UUID) -> bool:
        """Return whether the log says of another task run what befell this one."""
        ...

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return whether a call can be packed now; if not, the task run will hear of it."""
        ...

    def new_call(
        self,
        driver: TaskRunDriver,
        request: CallRequest,
        log_context: Context,
        retry_of: Call | None,
    ) -> Call:
        """Pack a call."""
        ...

    def send(self, call: Call) -> None:
        """Send a call, or take up the same call of an earlier process."""
        ...

    def let_go(self, call: Call) -> None:
        """Keep nothing of a call whose result Prefect has stored."""
        ...


class TaskRunDriver:
    """Steps the engine of one task run, one event at a time, in the run's own context.

    Args:
        task: What runs.
        task_run_id: The id of its run.
        parameters: The task's parameters; futures in them are waited for.
        wait_for: Futures to wait for besides.
        dependencies: Inputs of a mapped call, recorded with the run.
        resources: What the call gets.
        context: The `contextvars` of whoever submitted the task.
        beginning: Threads for steps that may have to wait their turn.
        going_on: Threads for everything after that.
        timers: For the delays of retries.
        sender: Sends the call.
        flow_run_facts: What `prefect.runtime` says far away of the flow run and its deployment.
        state_sent: Told of each state that went to Prefect's server.
        map_index: Which element of a map it is, counted from 0.
    """

    def __init__(
        self,
        task: Task[Any, Any],
        task_run_id: UUID,
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None,
        dependencies: dict[str, set[RunInput]] | None,
        resources: Resources,
        *,
        context: Context,
        beginning: StepPool,
        going_on: StepPool,
        timers: Timers,
        sender: CallSender,
        flow_run_facts: dict[str, Any],
        state_sent: Callable[[UUID, datetime], None],
        map_index: int | None = None,
    ) -> None:
        self.task = task
        self.flow_run_facts = flow_run_facts
        self.resources = resources
        self.finished: concurrent.futures.Future[State[Any]] = concurrent.futures.Future()
        # A started future cannot be cancelled behind our back.
        self.finished.set_running_or_notify_cancel()
        self.engine: RemoteTaskRunEngine = new_engine(
            task, parameters, wait_for, state_sent, sender.was_said
        )
        self.engine.map_index = self.map_index = map_index
        self.call: Call | None = None
        self._task_run_id = task_run_id
        self._dependencies = dependencies
        self._context = context
        self._beginning = beginning
        self._going_on = going_on
        self._timers = timers
        self._sender = sender
        self._upstream = _futures_in(parameters, wait_for)
        self._generator: Generator[Request, Event, State[Any]] | None = None
        # A call that the cluster is not ready for yet.
        self._request: CallRequest | None = None
        self._cancelled: str | None = None
        self._mailbox: deque[Event] = deque()
        self._stepping = False
        self._lock = threading.Lock()

    @property
    def log_level(self) -> int:
        """The lowest level of log lines that the far side sends."""
        return logging.getLogger("prefect.task_runs").getEffectiveLevel()

    @property
    def name(self) -> str:
        """The task run's name, once it has one; before, the task's."""
        return self.engine.task_run.name if self.engine.task_run else self.task.name

    @property
    def is_over(self) -> bool:
        """Whether nothing will be begun for this task run any more."""
        return self._cancelled is not None or self.finished.done()

    def begin(self) -> None:
        """Start the task run, soon, in some thread."""
        self._post(Proceed(), self._beginning)

    def post(self, event: Event) -> None:
        """Tell the task run that something happened; returns at once."""
        self._post(event, self._going_on)

    def give_up(self, message: str) -> None:
        """From now on nothing new is begun; `cancel` says so to what waits."""
        self._cancelled = message

    def cancel(self, message: str) -> None:
        """Bring the task run to an end without its call."""
        self.give_up(message)
        self.post(Cancel(message))

    def _post(self, event: Event, pool: StepPool) -> None:
        with self._lock:
            self._mailbox.append(event)
            if self._stepping:
                return
            self._stepping = True
        pool.submit(self._step)

    def _step(self) -> None:
        # Until nothing is left in the mailbox: a short call has often finished by the time
        # its start is being recorded.
        while True:
            with self._lock:
                if not self._mailbox:
                    self._stepping = False
                    return
                event = self._mailbox.popleft()
                if isinstance(event, CallQueued) and self._mailbox:
                    continue  # why it waited is of no interest any more
            self._context.run(self._advance, event)

    def _advance(self, event: Event) -> None:
        if self.finished.done():
            return
        try:
            if self._generator is None:
                if self._cancelled is not None:
                    # Never begun, so nobody has seen it: no run to record.
                    self.finished.set_result(Cancelled(message=self._cancelled))
                    return
                self._generator = self.engine.steps(
                    self._task_run_id, self._dependencies, bool(self._upstream)
                )
                request = next(self._generator)
            else:
                if self._cancelled is not None and isinstance(event, Proceed):
                    # What it waited for has ended, perhaps by the same cancellation.
                    event = Cancel(self._cancelled)
                request = self._generator.send(event)
        except StopIteration as finished:
            self._finish(finished.value)
        except BaseException as error:  # as in Prefect's own runners, the future carries it
            self.finished.set_exception(error)
        else:
            self._serve(request)

    def _finish(self, state: State[Any]) -> None:
        if self.call is not None and self.engine.result_is_stored:
            self._sender.let_go(self.call)
        self.call = self._request = None
        self._generator = None
        self.finished.set_result(state)

    def _serve(self, request: Request) -> None:
        if self._cancelled is not None:
            self._mailbox.append(Cancel(self._cancelled))
        elif isinstance(request, UpstreamRequest):
            self._wait_for_upstream()
        elif isinstance(request, DelayRequest):
            self._timers.after(request.seconds, lambda: self.post(Proceed()))
        elif isinstance(request, CallRequest):
            self._request = request
            self._submit()
        elif self._request is not None:
            self._submit()

    def _submit(self) -> None:
        assert self._request is not None
        try:
            if not self._sender.is_ready_for(self):
                return  # what it is told next, or the time after, comes back here
            request, self._request = self._request, None
            self.call = self._sender.new_call(self, request, copy_context(), self.call)
            self._sender.send(self.call)
        except Exception as error:
            self._request = None
            self._mailbox.append(CallRaised(error))

    def _wait_for_upstream(self) -> None:
        waiting = _Countdown(len(self._upstream), lambda: self._post(Proceed(), self._beginning))
        for future in self._upstream:
            future.add_done_callback(waiting)
        self._upstream = []


class _Countdown:
    """Calls a function when it has been called a number of times itself."""

    def __init__(self, count: int, action: Callable[[], None]) -> None:
        self._count = count
        self._action = action
        self._lock = threading.Lock()

    def __call__(self, _: object) -> None:
        with self._lock:
            self._count -= 1
            is_last = self._count == 0
        if is_last:
            self._action()


def _futures_in(*expressions: Any) -> list[PrefectFuture[Any]]:
    """The futures that Prefect's engine would wait for, in the order in which they are met."""
    found: dict[int, PrefectFuture[Any]] = {}

    def collect(expression: Any, context: dict[str, Any]) -> Any:
        if isinstance(context.get("annotation"), (opaque, quote)):
            raise StopVisiting()
        if isinstance(expression, PrefectFuture):
            found[id(expression)] = expression
        return expression

    for expression in expressions:
        visit_collection(
            expression,
            visit_fn=collect,
            return_data=False,
            max_depth=-1,
            remove_annotations=True,
            context={},
        )
    return list(found.values())
