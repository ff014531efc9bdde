"""Calls as jobs of a scheduler: gathered into arrays, watched, told apart when they fail."""

from __future__ import annotations

import logging
import math
import queue
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from clustrix_prefect.dispatch.call import Call, CallState, attached
from clustrix_prefect.dispatch.failures import explained, job_failure, memory_at_end
from clustrix_prefect.dispatch.placement import CallListener, RunContext
from clustrix_prefect.dispatch.places.array_builder import ArrayBuilder
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.engine import CallQueued
from clustrix_prefect.errors import (
    ClustrixError,
    ConnectionFailed,
    InfrastructureError,
    JobLost,
    SubmissionRefused,
)
from clustrix_prefect.far_side.wire import layout, protocol
from clustrix_prefect.schedulers.job_script import noted_end
from clustrix_prefect.schedulers.scheduler import (
    JobSpec,
    JobState,
    JobStatus,
    Limit,
    LimitReached,
    Scheduler,
    SubmissionUnclear,
    TryLater,
)
from clustrix_prefect.task_resources import Resources

if TYPE_CHECKING:
    from clustrix_prefect.clusters.batch import BatchCluster

logger = logging.getLogger("prefect.clustrix")

_LOOK_AT_BUILDERS = 0.02
_NEXT_ARRAY = 1.0
_LOOK_AGAIN = 0.5
# A limit that is so many times what is asked for needs no counting of the queue.
_MANY = 10
# What one call can bring upon the calls that were to follow it in the same job.
_ONE_CALLS_DOING = {
    JobState.COMPLETED,
    JobState.ENDED,
    JobState.FAILED,
    JobState.OUT_OF_MEMORY,
    JobState.TIME_LIMIT,
    JobState.REQUEUED,
}
# While more than so many come at once, they are gathered for longer and longer.
_MANY_DUE = 8
# Jobs that are looked into with one question.
_SETTLED_AT_ONCE = 250
# The scheduler would go on with the job.
_STILL_THERE = {JobState.NOT_STARTED, JobState.REQUEUED}


class _End(NamedTuple):
    """How the job of a call ended that left no result.

    Attributes:
        call: The call.
        status: As the scheduler tells of it; None where nobody knows the job.
        error: What the call fails with.
    """

    call: Call
    status: JobStatus | None
    error: InfrastructureError

    @property
    def is_there(self) -> bool:
        """Whether the scheduler would go on with the job."""
        return self.status is not None and self.status.state in _STILL_THERE


class JobExecutor:
    """Submits calls to a scheduler and follows them."""

    def __init__(self, run: RunContext, listener: CallListener, run_session: RunSession) -> None:
        self._run = run
        self._listener = listener
        self._run_session = run_session
        self._session = run_session.session
        assert self._session.scheduler is not None, "a cluster whose calls run in jobs has one"
        self._scheduler: Scheduler = self._session.scheduler
        self._patience = self._session.cluster.patience
        self._builders: dict[tuple[str, str], ArrayBuilder] = {}
        self._lock = threading.Lock()
        self._statuses: Mapping[str, JobStatus] | None = None
        self._asked_at = -math.inf
        self._is_reached = False
        self._settling: set[str] = set()
        self._due: deque[tuple[Call, str, JobStatus | None]] = deque()
        # When what is due is settled at the earliest, and how long it is gathered.
        self._settles_at = -math.inf
        self._gathers = self._patience.poll_min
        self._settling_planned = False
        self._asked_to_end: dict[str, float] = {}
        # Batches that an earlier agent may or may not have submitted, and since when.
        self._nameless: dict[str, float] = {}
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        cluster = cast("BatchCluster", run.cluster)
        # Where the site knows no arrays, or smaller ones, the block's wish cannot make them larger.
        self._limits = self._session.limits
        self._max_array = cluster.max_array_size
        self._accounting_delay = self._limits.accounting_delay
        # The block's wish counts this flow's jobs, the site's limits all of the user's.
        self._max_submitted = cluster.max_submitted_jobs
        self._fails_unrunnable = cluster.unrunnable == "fail"
        self._thread = threading.Thread(target=self._work_on, name="clustrix-jobs", daemon=True)
        self._thread.start()
        run.timers.every(_LOOK_AT_BUILDERS, self._look_at_builders)
        run.timers.every(1.0, self._look_at_missing)

    # --- builder and submitting ----------------------------------------------------------

    def send(self, call: Call) -> None:
        with self._lock:
            self._builder_of(call).add(call)

    def _builder_of(self, call: Call) -> ArrayBuilder:
        key = (call.package.function.code_sha256, call.resources.model_dump_json())
        builder = self._builders.get(key)
        if builder is None:
            builder = self._builders[key] = ArrayBuilder(call.task_name, call.resources)
        return builder

    def _look_at_builders(self) -> None:
        with self._lock:
            over = self._over()
            for builder in self._builders.values():
                if builder.is_due(self._calls_per_array(builder.resources), over):
                    self._work.put(partial(self._submit_all, builder, builder.take()))

    def _over(self) -> int:
        counts = self._run.registry.counts.by_state()
        return sum(count for state, count in counts.items() if state.is_final)

    def _calls_per_array(self, resources: Resources) -> int:
        placement = self._scheduler.placement_of(resources)
        # Where the site knows no arrays, or smaller ones, the block's wish cannot make them larger.
        known = (self._max_array, self._limits.max_array_size(placement))
        most = min(filter(None, known), default=self._scheduler.default_array_size)
        return most * (resources.calls_per_job or 1)

    def _submit_all(self, builder: ArrayBuilder, calls: list[Call]) -> None:
        calls = [call for call in calls if not call.state.is_final]
        per_job = builder.resources.calls_per_job or 1
        limit = builder.resources.max_parallel_jobs
        while calls:
            if limit is not None and builder.is_under_way():
                # The scheduler keeps to the limit in each array by itself, not across arrays.
                self._hold(builder, calls, f"at most {limit} jobs at once", _NEXT_ARRAY)
                return
            size = builder.size(self._calls_per_array(builder.resources))
            part = calls[: max(size // per_job, 1) * per_job]
            room, why = self._room(builder.resources, -(-len(part) // per_job))
            part = part[: room * per_job]
            if not part:
                self._hold_for_room(builder, calls, why)
                return
            try:
                self._submit(builder, part)
                builder.took(part)
            except LimitReached as refusal:
                # A limit that nobody told of, or other jobs than ours: less may be taken.
                if not builder.shrink(len(part), per_job):
                    self._hold_for_room(builder, calls, str(refusal))
                    return
                continue
            except TryLater as refusal:
                self._say_held(builder, calls, str(refusal))
                self._hold(builder, calls, str(refusal))
                return
            except ConnectionFailed as error:
                # `_take_up` asks the cluster which of these it has.
                builder.submitted.extend(part)
                logger.debug("The submission's fate is unknown: %s", error)
            except ClustrixError as error:
                for call in part:
                    self._listener.fail_for_good(call, error)
            calls = calls[len(part) :]

    def _room(self, resources: Resources, wanted: int) -> tuple[int, str]:
        """How many of so many jobs may be submitted now, and which limit there is no room under."""
        ours = {
            call.attempt.job_id
            for call in self._run.registry.unfinished()
            if call.attempt.job_id is not None
        }
        room, why = wanted, ""
        if self._max_submitted is not None and self._max_submitted - len(ours) < room:
            room, why = self._max_submitted - len(ours), "max_submitted_jobs of the block"
        placement = self._scheduler.placement_of(resources)
        for limit in self._limits.on(placement):
            most = limit.max_submitted_jobs
            if most is None or most >= _MANY * (wanted + len(ours)):
                continue
            left = most - self._in_queue(limit, ours)
            if left < room:
                room, why = left, f"{limit.name} ({most})"
        if room <= 0 and not ours:
            # Whatever was read of limits, what the scheduler does with one job is the truth.
            return 1, why
        return max(room, 0), why

    def _in_queue(self, limit: Limit, ours: set[str]) -> int:
        """How many jobs a limit counts: all of the user's, and ours that no listing has yet."""
        if self._statuses is None:
            self._refresh()
        statuses = self._statuses or {}
        listed = sum(
            limit.applies_to.includes(status.placement)
            for status in statuses.values()
            if not status.state.is_final
        )
        return listed + sum(job_id not in statuses for job_id in ours)

    def _hold_for_room(self, builder: ArrayBuilder, calls: list[Call], why: str) -> None:
        """Try again when one of our jobs has ended, or ever later."""
        self._say_held(builder, calls, why)
        self._hold(builder, calls, f"the limit of submitted jobs: {why}", over=self._over())

    def _say_held(self, builder: ArrayBuilder, calls: list[Call], why: str) -> None:
        """Tell in the flow run's log, once, what its calls wait for outside the queue."""
        self._run.log.say_once(
            logging.INFO,
            f"{len(calls)} calls of {builder.name} are held back for now by"
            f" {self._scheduler.name}: {why}",
            about=f"held back: {builder.name}: {why}",
        )

    def _hold(
        self,
        builder: ArrayBuilder,
        calls: list[Call],
        why: str,
        seconds: float | None = None,
        over: int | None = None,
    ) -> None:
        """Try again after so long, or ever later."""
        with self._lock:
            builder.hold_back(calls, seconds, over)
        for call in calls:
            call.attempt.batch = None
            self._say_queued(call, f"held back: {why}")

    def _submit(self, builder: ArrayBuilder, calls: list[Call]) -> None:
        session, scheduler = self._session, self._scheduler
        per_job = builder.resources.calls_per_job or 1
        elements = -(-len(calls) // per_job)
        run = self._run.run_key
        batch = secrets.token_hex(8)
        directory = layout.batch_directory(session.work_dir, run, batch)
        cluster = self._run.cluster
        spec = JobSpec(
            name=f"{_plain(builder.name)}-{self._run.run_key[:8]}-{batch[:8]}",
            resources=builder.resources,
            array_size=elements if elements > 1 else None,
            directory=directory,
            command=layout.batch_command(
                calls[0].package.python.path,
                session.far_side,
                directory,
                per_job,
                scheduler.index_variable if elements > 1 else None,
            ),
            prologue=session.worker_prologue,
            environment=cluster.environment,
        )
        agent = session.agent
        for index, call in enumerate(calls):
            call.attempt.batch, call.attempt.sent_over = batch, agent
            call.context["index"] = index // per_job
            call.attempt.element = index // per_job if spec.array_size is not None else None
        # Not repeated by itself: a submission that was heard must not be made twice.
        answer = agent.request(
            protocol.submit(
                run=run,
                batch=batch,
                script=scheduler.job_script(spec),
                command=scheduler.submit_command(f"{directory}/script.sh", spec),
                calls_attached=True,
            ),
            attachment=attached(calls),
            timeout=300,
        )
        try:
            job = scheduler.parse_submit(answer["returncode"], answer["stdout"], answer["stderr"])
        except SubmissionUnclear as unclear:
            named = self._job_named(batch) if answer["returncode"] == 0 else None
            if named is None:
                self._cancel_named(spec.name)
                self._session.request(protocol.discard(run=run, batch=batch))
                raise
            logger.debug("Found by its name: %s", unclear)
            job = named
        self._note_job(batch, job, calls)
        names = ", ".join(sorted({call.task_name for call in calls}))
        self._run.log.say(
            logging.INFO,
            f"Submitted {len(calls)} {'calls' if len(calls) > 1 else 'call'} of {names} as"
            f" {scheduler.name} job {job}",
        )
        self._poll()

    def _note_job(self, batch: str, job: str, calls: Iterable[Call]) -> None:
        self._session.send(protocol.submitted(run=self._run.run_key, batch=batch, job=job))
        for call in calls:
            call.attempt.job = job
            call.attempt.job_id = self._scheduler.element_id(job, call.attempt.element)

    def _cancel_named(self, name: str) -> None:
        """A submission without an answer may have made a job: its calls are to be sent again."""
        command = self._scheduler.status_command(self._session.user_id)
        listed = self._session.request(protocol.command(argv=command))
        found = [
            job_id
            for job_id, status in self._scheduler.parse_status(listed["stdout"]).items()
            if status.name == name and not status.state.is_final
        ]
        if found:
            jobs = sorted({self._scheduler.job_of(job_id) for job_id in found})
            self._session.request(protocol.command(argv=self._scheduler.cancel_command(jobs)))

    def _poll(self) -> None:
        self._session.send(
            protocol.poll_status(
                command=self._scheduler.status_command(self._session.user_id),
                interval_min=self._patience.poll_min,
                interval_max=self._patience.poll_max,
            )
        )

    # --- what becomes of jobs ----------------------------------------------------------------

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "status" and event["returncode"] == 0:
            self._work.put(partial(self._read_statuses, event["stdout"]))

    def _read_statuses(self, stdout: str) -> None:
        self._statuses = statuses = self._scheduler.parse_status(stdout)
        self._name_jobs(statuses)
        for call in self._run.registry.unfinished():
            status = statuses.get(call.attempt.job_id or "")
            if status is None:
                continue
            call.attempt.missing_since = None
            if status.state is JobState.QUEUED and call.state is CallState.QUEUED:
                self._say_queued(call, status.reason)
                self._look_at_reason(call, status.reason)
            elif status.state not in (JobState.RUNNING, JobState.UNKNOWN):
                self._settle_later(call, status)

    def _say_queued(self, call: Call, reason: str) -> None:
        if reason == call.attempt.queue_reason or call.state is not CallState.QUEUED:
            return
        call.attempt.queue_reason = reason
        where = f"{self._scheduler.name} job {call.attempt.job_id}: " if call.attempt.job_id else ""
        call.post(CallQueued(f"{where}{reason}"))
        if call.attempt.job:
            said = f"Queued: {self._scheduler.name} job {call.attempt.job}"
            words = self._scheduler.in_words(reason)
            self._run.log.say_once(logging.INFO, f"{said}: {words}" if words else said)

    def _look_at_reason(self, call: Call, reason: str) -> None:
        """A job that will never start by waiting: say so once, or fail its call."""
        remedy = self._scheduler.never_runs(reason)
        if remedy is None:
            return
        if self._fails_unrunnable:
            what = f"{self._scheduler.name} took the job, and does not run it: {reason}."
            error = SubmissionRefused(what, remedy, job_id=call.attempt.job_id)
            self._listener.fail_for_good(call, error, stop=True)
        else:
            self._run.log.say_once(
                logging.WARNING,
                f"{self._scheduler.name} job {call.attempt.job_id} of {call.task_name} will not"
                f" start by waiting ({reason}). {remedy} It stays in the queue until somebody"
                ' cancels it; the block\'s unrunnable="fail" fails such calls.',
                about=f"never runs: {call.task_name}: {reason}",
            )

    def _look_at_missing(self) -> None:
        """Jobs that the last listing does not name; it may be older than they are."""
        if self._statuses is None or self._closed:
            return
        self._hint()
        now = time.monotonic()
        patience = self._patience.unexplained + self._accounting_delay
        if self._nameless:
            self._work.put(partial(self._name_jobs, self._statuses))
        for call in self._run.registry.unfinished():
            if call.attempt.job_id is None or call.attempt.job_id in self._statuses:
                continue
            if call.attempt.missing_since is None:
                call.attempt.missing_since = now
            elif now - call.attempt.missing_since > patience:
                self._settle_later(call, None)

    def _hint(self) -> None:
        """Tell, once, of calls that are too short for jobs of their own."""
        with self._lock:
            builders = list(self._builders.values())
        for builder in builders:
            if (fits := builder.fitting_calls_per_job()) is not None:
                self._run.log.say(
                    logging.INFO,
                    f"The calls of {builder.name} are shorter than the start of a job:"
                    f" resources(calls_per_job={fits}) would take fewer of them.",
                )

    def _settle_later(self, call: Call, status: JobStatus | None) -> None:
        if call.id in self._settling:
            return
        self._settling.add(call.id)
        should = _should_have_left_a_result(status)
        patience = self._patience.unexplained if should else self._patience.explained
        self._run.timers.after(patience, partial(self._settle_soon, call, call.id, status))

    def _settle_soon(self, call: Call, call_id: str, status: JobStatus | None) -> None:
        """Settle a call with the others that are due."""
        self._due.append((call, call_id, status))
        self._work.put(self._settle_due)

    def _settle_due(self) -> None:
        """Settle what is due, of which more is gathered the more there has been of late."""
        now = time.monotonic()
        if not self._due or self._settling_planned:
            return
        if now < self._settles_at:
            self._settling_planned = True
            settle = partial(self._work.put, self._settle_all)
            self._run.timers.after(self._settles_at - now, settle)
        else:
            self._settle_all()

    def _settle_all(self) -> None:
        self._settling_planned = False
        due: dict[str, tuple[Call, JobStatus | None]] = {}
        while self._due:
            call, call_id, status = self._due.popleft()
            # Should the connection break now, the next listing brings it up again.
            self._settling.discard(call_id)
            if call.id == call_id and not call.state.is_final:
                due[call_id] = call, status
        shortest, longest = self._patience.poll_min, self._patience.poll_max
        self._gathers = min(2 * self._gathers, longest) if len(due) > _MANY_DUE else shortest
        self._settles_at = time.monotonic() + self._gathers
        ids = list(due)
        for first in range(0, len(ids), _SETTLED_AT_ONCE):
            self._settle(
                {call_id: due[call_id] for call_id in ids[first : first + _SETTLED_AT_ONCE]}
            )

    def _settle(self, due: dict[str, tuple[Call, JobStatus | None]]) -> None:
        """Name how jobs ended that left their nodes, as far as anybody saw, without a result.

        Args:
            due: By the ids of attempts, their calls and how the scheduler's listing had them.
        """
        run = self._run.run_key
        look = protocol.look(run=run, calls=list(due))
        present = self._session.request(look)["present"]
        # What has finished is on its way.
        due = {call_id: due[call_id] for call_id in due if present.get(call_id) != "finished"}
        if not due:
            return
        jobs = [call.attempt.job_id for call, _ in due.values() if call.attempt.job_id is not None]
        told = self._command(self._scheduler.details_command(jobs))["stdout"] if jobs else ""
        details = self._scheduler.parse_details(jobs, told)
        # Looked at once more: the scheduler may have taken its time.
        seen = self._session.request(protocol.diagnose(run=run, calls=list(due)))["calls"]
        ends = []
        for call_id, (call, listed) in due.items():
            found = seen.get(call_id, {})
            if call.id != call_id or call.state.is_final or found.get("present") == "finished":
                continue
            call.attempt.seen = found
            end = self._end_of(call, listed, details.get(call.attempt.job_id or ""))
            if end is not None:
                ends.append(end)
        self._give_up_jobs(end.call for end in ends if end.status is None or end.is_there)
        back = [end.call for end in ends if end.is_there]
        self._spare_their_mates(back, "the scheduler put their job back into its queue")
        for end in ends:
            self._listener.fail(end.call, end.error)

    def _end_of(
        self, call: Call, listed: JobStatus | None, details: JobStatus | None
    ) -> _End | None:
        """Return how a call's job ended; None where it did not, or the call was sent again."""
        status = details or listed
        if details is None and (listed is None or not listed.state.is_final):
            # That listing may be from before the job began.
            statuses = self._fresh_statuses()
            status = None if statuses is None else statuses.get(call.attempt.job_id or "")
            if statuses is None or (listed is None and status is not None):
                call.attempt.missing_since = None
                return None
            if status is None and self._was_taken_out(call):
                status = JobStatus(JobState.CANCELLED)
        if (
            status is not None
            and status.state is JobState.QUEUED
            and call.attempt.started_at is not None
        ):
            status = JobStatus(JobState.REQUEUED)
        if status is not None and not status.state.is_final:
            return None
        seen = call.attempt.seen
        stderr_tail = seen.get("stderr_tail", "")
        status = explained(status, noted_end(self._scheduler, stderr_tail, call.resources.time))
        if listed and listed.state is JobState.ENDING and _should_have_left_a_result(status):
            self._settle_later(call, status)  # it was not known until now
            return None
        started = seen.get("present") == "started" or call.state is CallState.RUNNING
        if status is not None and status.state is JobState.ENDED:
            # Nobody says how: what never ran was taken out of the queue.
            ended = JobState.COMPLETED if started else JobState.CANCELLED
            if started or not self._was_not_reached(call, status):
                status = replace(status, state=ended)
        if not started and status is not None and self._was_not_reached(call, status):
            self._listener.send_again(call, "the job ended before it was this call's turn")
            return None
        call.attempt.peak_memory = memory_at_end(stderr_tail)
        if status is not None:
            call.attempt.exit_code = status.exit_code
            call.attempt.node = call.attempt.node or status.node
        error = job_failure(
            status,
            stderr_tail,
            started=started,
            job_id=call.attempt.job_id,
            node=call.attempt.node,
        )
        return _End(call, status, error)

    def _fresh_statuses(self) -> Mapping[str, JobStatus] | None:
        """Return a listing of now, or None: a scheduler that cannot be reached has lost nothing."""
        if time.monotonic() - self._asked_at > _LOOK_AGAIN:
            self._is_reached = self._refresh()
            self._asked_at = time.monotonic()
        return self._statuses if self._is_reached else None

    def _refresh(self) -> bool:
        """Ask for the listing now; whether it came."""
        answer = self._command(self._scheduler.status_command(self._session.user_id))
        if answer["returncode"] == 0:
            self._read_statuses(answer["stdout"])
        return bool(answer["returncode"] == 0)

    def _give_up_jobs(self, calls: Iterable[Call]) -> None:
        """Leave no job that could run one of these calls once more."""
        if jobs := sorted({call.attempt.job_id for call in calls if call.attempt.job_id}):
            self._command(self._scheduler.cancel_command(jobs))

    def _was_not_reached(self, call: Call, status: JobStatus) -> bool:
        """Return whether the job ended under another of its calls."""
        return status.state in _ONE_CALLS_DOING and any(
            mate.attempt.job_id == call.attempt.job_id and mate.attempt.started_at is not None
            for mate in self._run.registry.calls
        )

    def _was_taken_out(self, call: Call) -> bool:
        """Whether an element that waited is gone while the rest of its array is still listed.

        SLURM and others forget at once the elements that somebody cancels while they wait.
        """
        job_of = self._scheduler.job_of
        return call.state is CallState.QUEUED and any(
            job_of(listed) == call.attempt.job for listed in self._statuses or ()
        )

    # --- cancelling and taking up ------------------------------------------------------------

    def cancel(self, calls: Iterable[Call]) -> None:
        stopped = set(calls)
        with self._lock:
            for builder in self._builders.values():
                builder.calls = [call for call in builder.calls if call not in stopped]
        self._work.put(partial(self._cancel, list(stopped)))

    def _cancel(self, calls: list[Call]) -> None:
        """Cancel the jobs that no other call needs: what runs is asked to end first."""
        self._spare_their_mates(calls, "a call before it in the same job was cancelled")
        needed = {call.attempt.job_id for call in self._run.registry.unfinished()}
        running: set[str] = set()
        waiting: set[str] = set()
        for call in calls:
            if call.attempt.job_id is not None and call.attempt.job_id not in needed:
                (waiting if call.attempt.started_at is None else running).add(call.attempt.job_id)
        self._end_jobs(waiting, running)

    def _end_jobs(self, waiting: set[str], running: set[str]) -> None:
        ask = self._scheduler.signal_command(sorted(running), "TERM")
        if ask is None:
            waiting, running = waiting | running, set()
        if waiting:
            self._command(self._scheduler.cancel_command(sorted(waiting)))
        if running and ask is not None:
            self._command(ask)
            due = time.monotonic() + self._patience.job_grace
            self._asked_to_end.update(dict.fromkeys(running, due))
            self._run.timers.after(
                self._patience.job_grace, partial(self._work.put, self._end_survivors)
            )

    def _spare_their_mates(self, calls: list[Call], why: str) -> None:
        """Submit the calls anew that wait in the same jobs for ones that do not go on."""
        jobs = {call.attempt.job_id for call in calls if call.attempt.started_at is not None}
        for mate in self._run.registry.unfinished():
            if mate.attempt.job_id in jobs and mate not in calls:
                self._listener.send_again(mate, why)

    def _end_survivors(self) -> None:
        """Kill the jobs that did not end in time when they were asked to."""
        if not self._asked_to_end:
            return
        answer = self._command(self._scheduler.status_command(self._session.user_id))
        if answer["returncode"] == 0:
            statuses = self._scheduler.parse_status(answer["stdout"])
            for job_id in tuple(self._asked_to_end):
                status = statuses.get(job_id)
                if status is None or status.state.is_final or status.state is JobState.ENDING:
                    del self._asked_to_end[job_id]
        now = time.monotonic()
        survivors = sorted(job_id for job_id, due in self._asked_to_end.items() if due <= now)
        kill = self._scheduler.signal_command(survivors, "KILL") if survivors else None
        if kill is not None:
            self._command(kill)
            self._asked_to_end.update(dict.fromkeys(survivors, now + self._patience.job_grace))

    def _see_them_end(self) -> None:
        """Stay until what was asked to end has ended, or was killed."""
        deadline = time.monotonic() + 3 * self._patience.job_grace
        while self._asked_to_end and time.monotonic() < deadline:
            self._end_survivors()
            time.sleep(_LOOK_AGAIN)

    def _command(self, argv: list[str]) -> protocol.Ended:
        return self._session.request(protocol.command(argv=argv))

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        call.attempt.batch = known["batch"]
        call.attempt.element = known["index"] if known["elements"] > 1 else None
        if call.resources.max_parallel_jobs is not None:
            with self._lock:
                self._builder_of(call).submitted.append(call)
        job = self._job_in(known)
        if job is not None:
            call.attempt.job, call.attempt.job_id = (
                job,
                self._scheduler.element_id(job, call.attempt.element),
            )
        else:
            self._nameless.setdefault(known["batch"], time.monotonic())
        self._run_session.watch(call)
        self._poll()

    def _job_in(self, known: dict[str, Any]) -> str | None:
        """Return the job of a batch that an earlier agent submitted, if somebody wrote it down."""
        job: str | None = known["job"]
        if job is None and known["submit_output"] is not None:
            job = self._scheduler.parse_submit(0, known["submit_output"], "")
        return job

    def on_reconnected(self, calls: Iterable[Call], known: dict[str, Any]) -> None:
        # In turn with submissions: what became of one that was under way is known by then.
        self._work.put(partial(self._take_up, list(calls), known))

    def _take_up(self, calls: list[Call], known: dict[str, Any]) -> None:
        agent = self._session.agent
        without_files = []
        for call in calls:
            if call.state.is_final or call.attempt.sent_over is agent or call.attempt.batch is None:
                continue
            if call.id in known:
                self.attach(call, known[call.id])
            elif call.attempt.job_id is None:
                self._send_unheard(call)
            else:
                without_files.append((call, call.id))
        if without_files:
            look = partial(self._look_for_files, without_files)
            self._run.timers.after(self._patience.unexplained, partial(self._work.put, look))

    def _look_for_files(self, calls: list[tuple[Call, str]]) -> None:
        """Look once more for what was gone after an outage; without it no result can come."""
        known = self._run_session.find_calls()
        for call, call_id in calls:
            if call.id != call_id or call.state.is_final:
                continue
            if call_id in known:
                self.attach(call, known[call_id])
                continue
            self._give_up_jobs([call])
            self._listener.fail(
                call,
                JobLost(
                    "The files of the call are gone from the cluster, so that no result can come.",
                    "Look whether the work directory, `remote_work_dir`, is purged.",
                    job_id=call.attempt.job_id,
                    node=call.attempt.node,
                ),
            )

    def end_left(self, left: dict[str, Any]) -> None:
        self._work.put(partial(self._end_left, left))

    def _end_left(self, left: dict[str, Any]) -> None:
        waiting: set[str] = set()
        running: set[str] = set()
        for facts in left.values():
            job = self._job_in(facts) or self._job_named(facts["batch"])
            if job is not None and facts["state"] != "finished":
                index = facts["index"] if facts["elements"] > 1 else None
                jobs = running if facts["state"] == "started" else waiting
                jobs.add(self._scheduler.element_id(job, index))
        needed = {call.attempt.job_id for call in self._run.registry.unfinished()}
        self._end_jobs(waiting - running - needed, running - needed)
        self._run_session.forget_left(left)

    def _job_named(self, batch: str) -> str | None:
        """The job of a submission whose answer nobody heard, by a fresh look at the queue."""
        answer = self._command(self._scheduler.status_command(self._session.user_id))
        return self._job_of_batch(batch, self._scheduler.parse_status(answer["stdout"]))

    def _job_of_batch(self, batch: str, statuses: Mapping[str, JobStatus]) -> str | None:
        return next(
            (
                self._scheduler.job_of(job_id)
                for job_id, status in statuses.items()
                if status.name.endswith(f"-{batch[:8]}")
            ),
            None,
        )

    def _send_unheard(self, call: Call) -> None:
        call.attempt.batch = None
        self.send(call)

    def _name_jobs(self, statuses: Mapping[str, JobStatus]) -> None:
        """Find the jobs of submissions whose answer nobody heard, by their names."""
        for batch, since in tuple(self._nameless.items()):
            calls = [
                call for call in self._run.registry.unfinished() if call.attempt.batch == batch
            ]
            job = self._job_of_batch(batch, statuses)
            if job is not None:
                self._note_job(batch, job, calls)
            elif time.monotonic() - since < self._patience.unexplained:
                continue
            else:
                for call in calls:
                    if call.state is CallState.QUEUED:
                        self._send_unheard(call)
            del self._nameless[batch]

    def close(self) -> None:
        self._closed = True
        self._work.put(self._see_them_end)
        self._work.put(None)
        self._thread.join(timeout=60)

    def _work_on(self) -> None:
        """The one thread that asks the agent for things that take a while."""
        while (step := self._work.get()) is not None:
            try:
                step()
            except ConnectionFailed as error:
                logger.debug("Put off until the connection is back: %s", error)
            except Exception:
                logger.exception("A step of the job executor failed")


def _should_have_left_a_result(status: JobStatus | None) -> bool:
    """Return whether a job ended well, so that its result may only come late."""
    return status is not None and status.state in (JobState.COMPLETED, JobState.ENDED)


def _plain(name: str) -> str:
    """Return a job name that every scheduler takes: it begins with a letter."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "task"
    return plain if plain[0].isalpha() else f"task-{plain}"
