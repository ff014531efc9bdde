"""Brings the calls of one flow run to their cluster, and what became of them back.

They go to a *place*: the one `RunSession` of a cluster with a login, or one in each of many `Pods`.
On a host an *executor* runs them: warm workers beside the agent (`WorkerExecutor`), or the jobs of
a scheduler (`JobExecutor`). What all share is here: names, re-attaching to what an earlier process
of the same flow run left behind, time-outs, logs and results.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any
from uuid import UUID

from prefect.context import TagsContext

from clustrix_prefect.dispatch.call import Call, CallState, Placement
from clustrix_prefect.dispatch.clocks import NodeClocks
from clustrix_prefect.dispatch.failures import queue_timed_out
from clustrix_prefect.dispatch.packing import Packer
from clustrix_prefect.dispatch.placement import OpenedCluster, RunContext, Waiter
from clustrix_prefect.dispatch.report import Report
from clustrix_prefect.dispatch.task_run import TaskRunDriver
from clustrix_prefect.engine import CallQueued, CallRequest, timed_out
from clustrix_prefect.errors import (
    ClustrixError,
    ContentLost,
    InfrastructureError,
    TamperedResult,
    own_copy,
)
from clustrix_prefect.packaging.results import (
    checked_header,
    content_is_gone,
    open_result,
    pickled,
    plain,
)
from clustrix_prefect.packaging.shown import run_urls, shown_parameters
from clustrix_prefect.sessions.remote_files import Opening, being_opened

logger = logging.getLogger("prefect.clustrix")

# A start that was seen late may have its result right behind it: so long it is waited for before
# the call is said to have taken too long, seconds.
_RESULT_BEHIND = 0.5
# For so long the end of a flow run waits for what is to be seen of its failed calls, seconds.
_LOOKS_SECONDS = 10.0


class Dispatcher:
    """The calls of one flow run on one cluster.

    Args:
        opened: The open cluster.
        run: The flow run.
        results: How results come back: "pickle" or "json".
        report: Leaves pages with the flow run; None outside a flow.

    Attributes:
        first_started: When the first call began, on this machine's clock.
    """

    def __init__(
        self,
        opened: OpenedCluster,
        run: RunContext,
        *,
        results: str,
        report: Report | None = None,
    ) -> None:
        self.run = run
        self.report = report
        self.first_started: float | None = None
        self._results = results
        self._met: set[str] = set()  # tasks by their keys
        self._ends_said: dict[tuple[type, str], UUID] = {}
        self._lock = threading.Lock()
        self._looks: list[threading.Event] = []
        self._clocks = NodeClocks()
        self._gone: ClustrixError | None = None
        self._context = copy_context()
        self._place = opened.place_for(run, self)
        self._packer = Packer(self._place, run.cluster.module_data_limit * 1024 * 1024)

    @property
    def python_note(self) -> str:
        """Which interpreter runs the calls, and why; empty where that is not known yet."""
        return self._place.python_note

    # --- towards the cluster ---------------------------------------------------------------

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return whether a call can be submitted now; if not, the task run will hear of it."""
        return self._place.is_ready_for(waiter)

    def new_call(
        self,
        driver: TaskRunDriver,
        request: CallRequest,
        log_context: Context,
        retry_of: Call | None,
    ) -> Call:
        """Pack a call of a task run, to be sent.

        Raises:
            NotPortable: The function or its arguments cannot travel.
            ConnectionLost: The cluster cannot be reached any more.
        """
        if self._gone is not None:
            raise self._gone
        engine = driver.engine
        assert engine.task_run is not None
        call = Call(
            task_key=driver.task.task_key,
            task_module=getattr(driver.task.fn, "__module__", None) or "",
            task_name=driver.task.name,
            task_run_id=str(engine.task_run.id),
            task_run_name=engine.task_run.name,
            map_index=driver.map_index,
            package=self._packer.pack(driver.task, request),
            resources=driver.resources,
            results=self._results,
            context=self._call_context(driver, request),
            timeout_seconds=request.timeout_seconds,
            post=driver.post,
            logger=engine.logger,  # type: ignore[arg-type]  # an adapter, whatever its hint says
            log_context=log_context,
        )
        self.run.registry.add(call, retry_of)
        return call

    def send(self, call: Call) -> None:
        """Send a call, or take up the same call of an earlier process.

        Raises:
            ConnectionLost: The cluster cannot be reached any more.
        """
        place, registry = self._place, self.run.registry
        registry.skip(call, place.acknowledged)
        known = place.known
        if known:
            for attempt, call_id in registry.ids_of_attempts(call):
                if (left := known.pop(call_id, None)) is not None:
                    call.attempt.number = attempt
                    registry.name(call, place.acknowledged)
                    call.logger.info("Found this call again, submitted by an earlier process")
                    place.attach(call, left)
                    return
        registry.name(call, place.acknowledged)
        if known:
            self._end_superseded(call)
        place.send(call)

    def _end_superseded(self, call: Call) -> None:
        """Stop what an earlier process sent of the same task under another module's name.

        Code is known by its module, so that none of these calls can be taken up.
        """
        with self._lock:
            if call.task_key in self._met:
                return
            self._met.add(call.task_key)
        left = {
            call_id: facts
            for call_id, facts in tuple(self._place.known.items())
            if (task := facts.get("task"))
            and task["key"] == call.task_key
            and task["module"] != call.task_module
        }
        if not left:
            return
        before = next(iter(left.values()))["task"]["module"]
        self.run.log.say(
            logging.WARNING,
            f"An earlier process of this flow run submitted {len(left)} calls of"
            f" {call.task_name!r} from the module {before!r}, which is {call.task_module!r} now:"
            " they are cancelled, and submitted anew. Start the flow run again in the same way to"
            " take calls up.",
        )
        self._place.end_left(left)

    def was_said(self, why: ClustrixError | str, task_run_id: UUID) -> bool:
        """Whether the log says of another task run what befell this one, with others, alike.

        Args:
            why: What it failed with, or the message with which it was cancelled.
            task_run_id: The task run.
        """
        if isinstance(why, ClustrixError) and why.of_one_call:
            return False
        what = why if isinstance(why, str) else why.what
        return self._ends_said.setdefault((type(why), what), task_run_id) != task_run_id

    def limit_queueing(self, call: Call) -> None:
        """From now on the call waits for the cluster, as long as it may."""
        if call.resources.queue_timeout is not None:
            call.until_over(
                self.run.timers.after(
                    call.resources.queue_timeout, partial(self._queue_timed_out, call, call.id)
                )
            )

    def _call_context(self, driver: TaskRunDriver, request: CallRequest) -> dict[str, Any]:
        run = driver.engine.task_run
        assert run is not None
        return {
            **driver.flow_run_facts,
            "task_run": {
                "id": str(run.id),
                "name": run.name,
                "task_name": driver.task.name,
                "tags": sorted(run.tags),
                "run_count": run.run_count + 1,
                "parameters": shown_parameters(driver.engine.parameters or {}),
                **run_urls(run.id),
            },
            "tags": sorted(TagsContext.get().current_tags),
            "cores": driver.resources.cores,
            "log_prints": request.log_prints,
            "log_level": driver.log_level,
            "cluster": self.run.cluster.saved_as,
        }

    def cancel(self, calls: Iterable[Call]) -> None:
        """Stop these calls; nobody will hear of them again."""
        stopped = [call for call in calls if self._settle(call, call.cancelled)]
        if stopped:
            self._cancel_there(stopped)
            self._acknowledge(stopped)

    # --- from the cluster ------------------------------------------------------------------

    def on_event(self, event: dict[str, Any], body: bytes) -> bool:
        """Note and pass on what an agent says; False if only the executor understands it."""
        kind = event["event"]
        call = self.run.registry.find(event.get("call"))
        if call is None:
            return False
        if kind == "log":
            call.attempt.lines_heard += len(event["lines"])
            call.attempt.last_lines.extend(line[3] for line in event["lines"])
            self._log(call, event["lines"])
        elif kind == "started":
            self._started(call, event)
        elif kind == "result":
            if event["call"] == call.id:  # and not of an attempt that was given up
                self._result(call, event, body)
        else:
            return False
        return True

    def cannot_take_in(self, event: dict[str, Any], error: Exception) -> bool:
        """End the call that the far side says something of that makes no sense; whether it is ours.

        Nothing better may come after it, and nobody must wait for ever.
        """
        call = self.run.registry.find(event.get("call"))
        if call is None:
            return False
        tampered = TamperedResult(
            "What the cluster says of a call makes no sense"
            f" ({type(error).__name__}: {str(error)[:200]}).",
            "Find out who else can write to the cluster's work directory, then run again.",
        )
        tampered.__cause__ = error
        tampered.job_id, tampered.node = call.attempt.job_id, call.attempt.node
        self.fail_for_good(call, tampered, stop=True)
        return True

    def on_gone(self, calls: Iterable[Call], error: ClustrixError) -> None:
        """Where these calls are cannot be reached any more, nor can new ones be sent."""
        self._gone = error
        for call in calls:
            self.fail_for_good(call, error)

    def _started(self, call: Call, event: dict[str, Any]) -> None:
        node = event.get("host") or ""
        at = _placement_of(call).here(event["time"])
        self._clocks.note_start(node, at, call.attempt.sent_at or 0.0)
        if not call.started(event, self._clocks.here(node, at)):
            return
        self.run.registry.counts.follow(call)
        self.first_started = self.first_started or call.attempt.started_at
        if call.timeout_seconds is not None:
            limit = call.timeout_seconds
            assert call.attempt.started_at is not None
            left = call.attempt.started_at + limit - time.time()
            call.until_over(
                self.run.timers.after(
                    max(left, min(limit, _RESULT_BEHIND)),
                    partial(self._timed_out, call, call.id, limit),
                )
            )

    def _result(self, call: Call, event: dict[str, Any], body: Any) -> None:
        try:
            header = checked_header(
                call.attempt.key, call.id, call.attempt.number, event.get("header")
            )
        except TamperedResult as error:
            error.job_id, error.node = call.attempt.job_id, call.attempt.node
            # Who should have written it may still run.
            self.fail_for_good(call, error, stop=True)
            return
        if gone := content_is_gone(header, body):
            self._content_is_gone(call, gone)
            return
        if call.state is CallState.QUEUED and "started" in header:
            # The start was not seen: the call was shorter than a look at its files.
            self._started(
                call,
                {
                    "time": header["started"],
                    "host": header.get("host"),
                    "pid": header.get("pid"),
                    "job": header.get("job"),
                },
            )
        call.attempt.node = header.get("host", call.attempt.node)
        call.attempt.pid = header.get("pid", call.attempt.pid)
        call.attempt.peak_memory = header.get("peak_memory")
        call.attempt.exit_code = header.get("exit_code")
        if "ended" in header:
            call.attempt.ended_at = self._time_here(call, header["ended"])
        held = None
        if "fetch_from" in event:
            held = (int(event["fetch_size"]), int(event["fetch_from"]))
        self._settle(
            call,
            partial(
                call.came_back,
                header.get("status") == "ok",
                partial(self._open, call, call.attempt.number, header, body, held),
            ),
        )

    def _content_is_gone(self, call: Call, what: str) -> None:
        """The store was deleted under the call: what it needs is sent again, and so is it."""
        _placement_of(call).forget_contents()
        self.fail(
            call,
            ContentLost(
                f"The call could not begin: {what}.",
                "Find out who deletes files in the cluster's work directory, then run again.",
            ),
        )

    def _open(
        self,
        call: Call,
        attempt: int,
        header: dict[str, Any],
        body: Any,
        held: tuple[int, int] | None,
    ) -> Any:
        """Verify and open a result, in a step of its task run."""
        # Files that the task returned are on this cluster.
        opening = Opening(self.run.cluster)
        token = being_opened.set(opening)
        try:
            if held is not None:
                body = _placement_of(call).fetch(call, *held)
            reading = plain if self._results == "json" else pickled
            result = open_result(call.attempt.key, call.id, attempt, header, body, reading)
            if opening.names_files:
                _placement_of(call).hold()
        except BaseException as error:
            if isinstance(error, InfrastructureError):
                error.job_id, error.node = call.attempt.job_id, call.attempt.node
                self.run.registry.note_over([call])
            if isinstance(error, TamperedResult):
                self._cancel_there([call])  # the one who should have written it may still run
            self._note_failure(call, error)
            raise
        finally:
            being_opened.reset(token)
        self._retain(call)
        return result

    def _note_failure(self, call: Call, error: BaseException) -> None:
        call.failure = error
        call.state = CallState.FAILED
        self.run.registry.counts.follow(call)
        self._look_into_aside(call)

    def _retain(self, call: Call) -> None:
        """The outcome is here, and stays there, too, until the flow run is over.

        A process that is killed may take it along before Prefect has stored it, and without
        `persist_result` nobody else does.
        """
        _placement_of(call).retain(call, self._is_kept(call))

    def let_go(self, call: Call) -> None:
        """Prefect has stored the call's result where the flow run finds it again."""
        if call.state is CallState.DONE:
            self._acknowledge([call])

    def _report_failure(self, call: Call) -> None:
        """Tell what is to be seen of a failed call, before its files go."""
        if self.report is None or not self.report.wants_failure():
            return
        found = call.attempt.seen
        placement = call.attempt.placement
        if not found and placement is not None:
            try:
                found = placement.diagnose(call)
            except ClustrixError as error:
                logger.debug("%s could not be looked into: %s", call.task_run_name, error)
        if isinstance(call.failure, InfrastructureError):
            found["stderr_tail"] = call.failure.stderr_tail or found.get("stderr_tail", "")
        self.report.failure(call, found)

    def fail(self, call: Call, error: InfrastructureError) -> None:
        """The cluster failed the call: submit it again, or say so."""
        if call.state.is_final:
            return
        error = own_copy(error)
        error.job_id = error.job_id or call.attempt.job_id
        if error.requeue and call.requeues < self.run.requeues:
            self._requeue(call, error)
        else:
            self.fail_for_good(call, error)

    def fail_for_good(self, call: Call, error: BaseException, stop: bool = False) -> None:
        """The call will not be submitted again.

        Args:
            call: The call.
            error: What its task run is told.
            stop: Whether it may still be under way.
        """
        error = own_copy(error)

        def raise_it() -> Any:
            raise error

        def finish() -> bool:
            if not call.came_back(False, raise_it):
                return False
            call.failure = error
            return True

        if self._settle(call, finish):
            # Known at once, whatever the connection does: after an outage it is stopped there.
            self.run.registry.note_over([call])
            if stop:
                self._cancel_there([call])
            self._look_into_aside(call)

    def _look_into_aside(self, call: Call) -> None:
        """A task run that has failed must not wait for a cluster that does not answer."""
        looked = threading.Event()
        self._looks.append(looked)
        self.run.in_background(partial(self._look_into, call, looked))

    def _look_into(self, call: Call, looked: threading.Event) -> None:
        """Tell what is to be seen of a failed call, and let its files go."""
        try:
            self._report_failure(call)
            if self.run.registry.is_over(call.id):
                self._acknowledge([call])
            else:
                self._retain(call)
        finally:
            looked.set()

    def _requeue(self, call: Call, error: InfrastructureError) -> None:
        call.logger.warning(
            "%s Submitting the call again (%d of %d).",
            error,
            call.requeues + 1,
            self.run.requeues,
        )
        call.requeues += 1
        self.send_again(call, error.what)

    def send_again(self, call: Call, why: str) -> None:
        """Submit a call anew, through no fault of its own, as its next attempt."""
        self._acknowledge([call])
        self.run.registry.forget_attempt(call)
        call.begin_anew()
        self.run.registry.counts.follow(call)
        self.run.registry.name(call, self._place.acknowledged)
        call.post(CallQueued(f"Submitted again: {why}"))
        # Aside: this may be the thread that hears the cluster's answers.
        self.run.in_background(partial(self._send_attempt, call, call.id))

    def _send_attempt(self, call: Call, call_id: str) -> None:
        if call.id != call_id or call.state.is_final:
            return
        left = self._place.known.pop(call.id, None)
        try:
            if left is not None:  # an earlier process had come as far as this attempt
                self._place.attach(call, left)
            else:
                self._place.send(call)
        except ClustrixError as failure:
            self.fail_for_good(call, failure)

    def _settle(self, call: Call, finish: Callable[[], bool]) -> bool:
        if not finish():
            return False
        self.run.registry.counts.follow(call)
        return True

    def _acknowledge(self, calls: list[Call]) -> None:
        self.run.registry.note_over(calls)
        keep = any(self._is_kept(call) for call in calls)
        # Of one that never went out nothing is there, and its failure is no reason to keep others'.
        sent = [call for call in calls if call.attempt.sent_at is not None]
        for placement, its_own in _by_placement(sent):
            try:
                placement.acknowledge(its_own, keep)
            except ClustrixError:
                logger.debug("The cluster is gone; its files stay", exc_info=True)

    def _is_kept(self, call: Call) -> bool:
        """Return whether the files of a call that is over stay for people to read."""
        keep = self.run.cluster.keep_job_files
        return keep == "always" or (keep == "on_failure" and call.state is CallState.FAILED)

    def _cancel_there(self, calls: list[Call]) -> None:
        for placement, its_own in _by_placement(calls):
            placement.cancel(its_own)

    def _timed_out(self, call: Call, call_id: str, limit: float) -> None:
        if call.id == call_id:
            self.fail_for_good(call, timed_out(limit), stop=True)

    def _queue_timed_out(self, call: Call, call_id: str) -> None:
        if call.id != call_id or call.state is not CallState.QUEUED:
            return
        limit = call.resources.queue_timeout
        assert limit is not None
        error = queue_timed_out(limit, call.attempt.queue_reason, call.attempt.job_id)
        self.fail_for_good(call, error, stop=True)

    # --- logs ------------------------------------------------------------------------------

    def _log(self, call: Call, lines: list[list[Any]]) -> None:
        context = call.log_context or self._context
        context.copy().run(self._handle_lines, call, lines)

    def _handle_lines(self, call: Call, lines: list[list[Any]]) -> None:
        target = call.logger.logger
        for at, level, name, message in lines:
            if not target.isEnabledFor(level):
                continue
            record = target.makeRecord(
                name, level, "", 0, message, (), None, extra=dict(call.logger.extra or {})
            )
            record.created = self._time_here(call, at)
            record.msecs = (record.created % 1) * 1000
            target.handle(record)

    def _time_here(self, call: Call, far_time: float) -> float:
        return self._clocks.here(call.attempt.node or "", _placement_of(call).here(far_time))

    # --- the end ---------------------------------------------------------------------------

    def close(self, is_over: bool = True) -> None:
        """Cancel what is left, and clean up on the cluster.

        Args:
            is_over: Whether the flow run is; one that is suspended finds its outcomes again.
        """
        self.cancel(self.run.registry.unfinished())
        deadline = time.monotonic() + _LOOKS_SECONDS
        for looked in self._looks:
            looked.wait(max(0.0, deadline - time.monotonic()))
        self._place.close(keep=self.run.cluster.keep_job_files == "always", is_over=is_over)


def _placement_of(call: Call) -> Placement:
    assert call.attempt.placement is not None, "only a call that was sent is heard of"
    return call.attempt.placement


def _by_placement(calls: Iterable[Call]) -> list[tuple[Placement, list[Call]]]:
    """Return the calls that go somewhere, by where to."""
    found: dict[int, tuple[Placement, list[Call]]] = {}
    for call in calls:
        if call.attempt.placement is not None:
            found.setdefault(id(call.attempt.placement), (call.attempt.placement, []))[1].append(
                call
            )
    return list(found.values())
