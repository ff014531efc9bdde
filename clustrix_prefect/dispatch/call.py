"""One call of a task's function, on its way to a cluster and back."""

from __future__ import annotations

import base64
import enum
import json
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

from clustrix_prefect.dispatch.timers import Timer
from clustrix_prefect.engine import CallFinished, CallStarted, Event
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.far_side.wire.protocol import Diagnosis
from clustrix_prefect.far_side.wire.signing import parts_of_call
from clustrix_prefect.packaging import signing
from clustrix_prefect.packaging.arguments import PackedArguments
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.packaging.bundle import Bundle
from clustrix_prefect.packaging.identity import digest
from clustrix_prefect.task_resources import Resources

# Payloads up to this many bytes travel inside the call itself, not as blobs of the store.
INLINE_BYTES = 16 * 1024
# So many lines of a call's log are on the page of its failure.
_LAST_LINES = 10


class CallState(enum.Enum):
    """Where a call is, as its flow's progress counts it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (CallState.QUEUED, CallState.RUNNING)


@dataclass(frozen=True)
class Package:
    """What travels: a function's code, and the arguments of one call.

    `code` says what the function needs of the interpreter there, `python` which one that is.
    """

    function: Bundle
    arguments: PackedArguments
    code: Code
    python: FarPython

    @property
    def payload_is_inline(self) -> bool:
        """Whether the arguments travel in the call itself."""
        return len(self.arguments.payload) <= INLINE_BYTES

    @property
    def needs(self) -> list[Blob]:
        """What the far side's store has to hold before the call can run."""
        function, arguments = self.function, self.arguments
        blobs = [Blob.whole(function.code, function.code_sha256, "function"), *arguments.blobs]
        blobs += function.blobs
        if function.captured is not None and function.captured_sha256 is not None:
            blobs.append(Blob.whole(function.captured, function.captured_sha256, "variables"))
        if not self.payload_is_inline:
            blobs.append(Blob.whole(arguments.payload, arguments.payload_sha256, "arguments"))
        return blobs

    def identity(self, task_key: str) -> str:
        """Return the same for equal calls of a task, in any process."""
        return digest(task_key, self.function.identity, self.arguments.identity)


class Placement(Protocol):
    """Where a call was sent: one session of its flow run."""

    def here(self, far_time: float) -> float:
        """Return a time of the clock there as a time of this machine's."""
        ...

    def cancel(self, calls: Iterable[Call]) -> None:
        """Stop these calls where they are."""
        ...

    def diagnose(self, call: Call) -> Diagnosis:
        """Return what is to be seen of a call."""
        ...

    def fetch(self, call: Call, size: int, start: int) -> bytearray:
        """Return the body of a large result, which waits there until it is opened."""
        ...

    def retain(self, call: Call, keep: bool) -> None:
        """Keep the outcome of a call that is over until the flow run is."""
        ...

    def acknowledge(self, calls: Iterable[Call], keep: bool) -> None:
        """Let go of calls that are over."""
        ...

    def hold(self) -> None:
        """Stay for as long as the flow runs: a result names files that are there."""
        ...

    def forget_contents(self) -> None:
        """Take nothing for granted that was sent there for the flow run."""
        ...


@dataclass(eq=False)
class Attempt:
    """One submission of a call, and what is known of it.

    Attributes:
        number: Counts submissions, from 0.
        id: By which the far side knows it.
        key: With which it, and its result, are signed.
        batch: The directory that it was submitted in.
        job: The scheduler's job, of which it may be one element.
        job_id: The scheduler's id of that element, or the pod's name.
        element: Its number in the job array, counted from 0; None where there is no array.
        queue_reason: What it waits for.
        placement: Where it was sent.
        sent_at: When it was sent there, by this machine's clock.
        sent_over: The agent that it was sent to.
        started_at: When a worker began it, by this machine's clock.
        ended_at: When it ended, likewise.
        node: The host that runs it.
        pid: The process that runs it.
        exit_code: How that process ended.
        peak_memory: What it needed at most, in bytes.
        missing_since: When the scheduler listed it last, by the monotonic clock.
        lines_heard: How many lines of its log have arrived.
        last_lines: The last of them.
        seen: What was to be seen of it when it was found to have failed.
    """

    number: int = 0
    id: str = ""
    key: bytes = b""
    batch: str | None = None
    job: str | None = None
    job_id: str | None = None
    element: int | None = None
    queue_reason: str = ""
    placement: Placement | None = None
    sent_at: float | None = None
    sent_over: object = None
    started_at: float | None = None
    ended_at: float | None = None
    node: str | None = None
    pid: int | None = None
    exit_code: int | None = None
    peak_memory: int | None = None
    missing_since: float | None = None
    lines_heard: int = 0
    last_lines: deque[str] = field(default_factory=partial(deque, maxlen=_LAST_LINES), repr=False)
    seen: Diagnosis = field(default_factory=dict, repr=False)  # type: ignore[assignment]
    timers: list[Timer] = field(default_factory=list, repr=False)

    def cancel_timers(self) -> None:
        """Hold the call no longer for what was to be looked at later."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


@dataclass(eq=False)
class Call:
    """A call and what is known of it.

    Attributes:
        task_key: The task's key: which function of which file.
        task_module: The module whose function it is.
        task_name: The task's name, for people.
        task_run_id: The task run that this call belongs to.
        task_run_name: The run's name, for people.
        package: What travels.
        resources: What it gets.
        context: What `prefect.runtime` and the loggers far away know of the run.
        timeout_seconds: The task's own limit, from the worker's start.
        post: Tells the task run's engine what happened.
        logger: The task run's logger.
        log_context: The `contextvars` in which its lines are logged while it is under way.
        ordinal: Which one this is among equal calls of the same flow run.
        attempt: Its present submission.
        map_index: Which element of a map it is, counted from 0; None where it is of none.
        expects: What the node that runs it must have, as the login node has.
        results: How its result comes back: "pickle" or "json".
    """

    task_key: str
    task_name: str
    task_run_id: str
    task_run_name: str
    package: Package
    resources: Resources
    context: dict[str, Any]
    timeout_seconds: float | None
    post: Callable[[Event], None]
    logger: logging.LoggerAdapter[Any]
    log_context: Context | None
    task_module: str = ""
    map_index: int | None = None
    ordinal: int = 0
    attempt: Attempt = field(default_factory=Attempt)
    expects: dict[str, Any] | None = None
    results: str = "pickle"
    requeues: int = 0
    state: CallState = CallState.QUEUED
    submitted_at: float = field(default_factory=time.time)
    failure: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        """The id of its present attempt, by which the far side knows it."""
        return self.attempt.id

    def name_attempt(self, run_id: str, run_key: bytes) -> None:
        """Give the call the id and the key of its current attempt."""
        self.attempt.id = self.id_of_attempt(run_id, self.attempt.number)
        self.attempt.key = signing.call_key(run_key, self.attempt.id)

    def id_of_attempt(self, run_id: str, attempt: int) -> str:
        """Return the id by which a later process of the same flow run finds this call again."""
        return digest(
            run_id,
            self.package.identity(self.task_key),
            str(self.ordinal),
            str(attempt),
        )

    def manifest(self) -> dict[str, Any]:
        """Return the call as the far side reads it, signed."""
        function, arguments = self.package.function, self.package.arguments
        inline = self.package.payload_is_inline
        manifest = {
            "id": self.id,
            "key": self.attempt.key.hex(),
            "attempt": self.attempt.number,
            "bundle": function.code_sha256,
            "captured": function.captured_sha256,
            "payload_sha256": arguments.payload_sha256,
            "inline": base64.b64encode(arguments.payload).decode() if inline else None,
            "refers": arguments.refers,
            "expects": self.expects,
            "task": {"key": self.task_key, "module": self.task_module},
            "context": self.context,
            "results": self.results,
        }
        return {**manifest, "mac": signing.sign(self.attempt.key, *parts_of_call(manifest))}

    @property
    def needs(self) -> list[Blob]:
        """What the cluster's store has to hold before the call is sent."""
        return self.package.needs

    # --- what happened to it; each returns whether that was news --------------------------

    def started(self, event: dict[str, Any], at: float) -> bool:
        """Note that a worker began to run it, at this time on this machine's clock."""
        with self.lock:
            if self.state is not CallState.QUEUED:
                return False
            self.state = CallState.RUNNING
            self.attempt.started_at = at
            self.attempt.node = event.get("host")
            self.attempt.pid = event.get("pid")
            self.attempt.job_id = event.get("job") or self.attempt.job_id
        self.post(CallStarted(datetime.fromtimestamp(at, timezone.utc)))
        return True

    def came_back(self, succeeded: bool, open_result: Callable[[], Any]) -> bool:
        """A result is here, unopened; the far side says whether the function returned."""
        state = CallState.DONE if succeeded else CallState.FAILED
        return self._finish(state, CallFinished(open_result))

    def cancelled(self) -> bool:
        """Nobody waits for it any more."""
        return self._finish(CallState.CANCELLED, None)

    def until_over(self, timer: Timer) -> None:
        """Cancel a timer when the attempt is over, so that it does not hold the call."""
        with self.lock:
            if not self.state.is_final:
                self.attempt.timers.append(timer)
                return
        timer.cancel()

    def begin_anew(self) -> None:
        """Begin another attempt."""
        with self.lock:
            self.attempt.cancel_timers()
            self.attempt = Attempt(self.attempt.number + 1)
            self.state = CallState.QUEUED

    def _finish(self, state: CallState, event: Event | None) -> bool:
        with self.lock:
            if self.state.is_final:
                return False
            self.state = state
            self.attempt.ended_at = self.attempt.ended_at or time.time()
            self.attempt.cancel_timers()
        if event is not None:
            self.post(event)
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Hold on to what the table of calls shows, not to arguments and task runs."""
        arguments = replace(self.package.arguments, payload=b"", blobs=())
        self.package = replace(self.package, arguments=arguments)
        self.post = _nobody_listens
        self.log_context = None


def _nobody_listens(_: Event) -> None:
    """What a call that is over tells its task run."""


def attached(calls: Sequence[Call]) -> bytes:
    """Return calls as they travel, attached to a message: most of what they say they all say."""
    return zlib.compress(json.dumps([call.manifest() for call in calls]).encode(), 1)
