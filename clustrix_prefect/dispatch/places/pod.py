"""One pod of a flow run, from its job's creation to its deletion."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.placement import CallListener, RunContext, Waiter
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.dispatch.places.warm_workers import WorkerExecutor
from clustrix_prefect.errors import (
    ClustrixError,
    ConnectionFailed,
    ConnectionLost,
    InfrastructureError,
    JobLost,
    LoginInterrupted,
    QuotaExceeded,
    WorkerNotStarted,
)
from clustrix_prefect.kubernetes.api import REFUSALS, KubernetesApi
from clustrix_prefect.kubernetes.pods import CONTAINER
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus
from clustrix_prefect.kubernetes.watching import PodWatch
from clustrix_prefect.packaging.identity import digest
from clustrix_prefect.sessions.session import Session, sessions
from clustrix_prefect.task_resources import Resources

logger = logging.getLogger("prefect.clustrix")

# A pod that has nothing to do stays this long: the flow may be about to submit more. Seconds.
_IDLE_SECONDS = 10.0
# A quota that is exhausted is tried again after so long, seconds.
_QUOTA_SECONDS = 5.0
_RETRY_SECONDS = 0.5
# Many pods on a busy node are slow to start a program, and slower if they are interrupted; that
# one is gone is known at once. Seconds.
_PROGRAM_SECONDS = 120.0
# So often is it tried what another try would hardly mend: a program that ends at once, and a
# refusal, which an API server that has just started gives to everybody.
_STARTS = 3
# The API server tells within this time what has become of a pod whose connection broke, seconds.
_REASON_SECONDS = 5.0


@dataclass
class PodQueue:
    """Calls that ask for the same.

    Attributes:
        resources: What each asks for.
        calls_per_pod: How many a pod takes at most.
        max_pods: How many pods there may be at once.
        waiting: The calls that no pod has taken.
        newcomers: Task runs whose calls cannot be packed before a pod has told of the image, and
            how often the cluster took away the pod that was to do so.
        reason: What the pods that are starting wait for.
        pods: Those that are starting, or take calls.
        refused_since: When a quota first left no room for a pod; None since one has started.
    """

    resources: Resources
    calls_per_pod: int
    max_pods: int
    waiting: deque[Call] = field(default_factory=deque)
    newcomers: dict[Waiter, int] = field(default_factory=dict)
    reason: str = ""
    pods: list[Pod] = field(default_factory=list)
    refused_since: float | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a pod."""
        return any(not call.state.is_final for call in self.waiting) or any(
            not waiter.is_over for waiter in self.newcomers
        )

    def count(self) -> int:
        """Return how many wait for a pod; those that no longer do are forgotten."""
        self.waiting = deque(call for call in self.waiting if not call.state.is_final)
        for waiter in [waiter for waiter in self.newcomers if waiter.is_over]:
            del self.newcomers[waiter]
        return len(self.waiting) + len(self.newcomers)


class PodsOfRun(Protocol):
    """The pods of a flow run, as one of them knows them."""

    api: KubernetesApi
    cluster: KubernetesCluster
    run: RunContext
    listener: CallListener
    labels: dict[str, str]
    watch: PodWatch
    lock: threading.RLock
    opening: threading.BoundedSemaphore
    closed: bool

    def opened(self, pod: Pod, session: Session) -> None:
        """Take note that a pod is ready."""
        ...

    def next_call(self, group: PodQueue) -> Call | None:
        """Return the call that has waited longest."""
        ...

    def is_wanted(self, pod: Pod) -> bool:
        """Return whether a pod that has not started is of use to anybody."""
        ...

    def need_the_room_of(self, pod: Pod) -> bool:
        """Return whether an idle pod keeps calls that it does not take from starting."""
        ...

    def some_run(self, but: Pod) -> bool:
        """Return whether the cluster runs other pods of this flow run."""
        ...

    def say_waiting(self, group: PodQueue, reason: str) -> None:
        """Tell the calls whose pods are starting what these wait for."""
        ...

    def cannot_start(self, pod: Pod, error: ClustrixError) -> None:
        """Take note that a pod did not come to run calls."""
        ...

    def gone(self, pod: Pod) -> None:
        """Take note that a pod has ended."""
        ...


class PodSession(RunSession):
    """The host in a pod, which is gone when the pod is.

    Args:
        session: The open connection.
        pod: The pod.
    """

    def __init__(self, session: Session, pod: Pod) -> None:
        cluster, run, listener = pod.pods.cluster, pod.pods.run, pod.pods.listener
        self._pod = pod
        super().__init__(
            session,
            run,
            listener,
            lambda run_session: WorkerExecutor(
                run,
                listener,
                run_session,
                environment=cluster.environment,
                max_workers=1,
                working_directory=None,
            ),
            # Pods may share a work directory; each cleans up its own part when it goes.
            run_key=digest("clustrix-pod", run.run_key, pod.name)[:32],
        )

    def acknowledge(self, calls: Iterable[Call], keep: bool) -> None:
        over = list(calls)
        try:
            super().acknowledge(over, keep)
        finally:
            self._pod.release(over)

    def retain(self, call: Call, keep: bool) -> None:
        super().retain(call, keep)
        self._pod.release([call])

    def hold(self) -> None:
        self._pod.hold()

    def give_up(self, call: Call, error: BaseException) -> None:
        super().give_up(call, error)
        self._pod.release([call])

    def on_gone(self, error: ClustrixError) -> None:
        self._pod.lose(error)


class Pod:
    """A pod and the calls that it has taken. A thread of its own sees it through.

    Args:
        pods: The pods of the flow run.
        name: Of its job.
        group: The calls that it takes, or None if an earlier process made it.

    Attributes:
        status: What the API server last said of it.
        changed: Notified when anything here has changed; under the lock of all pods.
        host: Once it can run calls.
        unclaimed: Calls that an earlier process left in it, by id.
        ended: Set when nothing is left of it.
    """

    def __init__(self, pods: PodsOfRun, name: str, group: PodQueue | None) -> None:
        self.pods = pods
        self.name = name
        self.group = group
        self.status = PodStatus(job=name)
        self.changed = threading.Condition(pods.lock)
        self.host: RunSession | None = None
        self.unclaimed: dict[str, Any] = {}
        self.ended = threading.Event()
        self._asked = threading.Event()
        self._has: set[Call] = set()
        self._taken = 0
        self._holds = False
        self._runs_since = 0.0
        self._lost: ClustrixError | None = None
        self._session: Session | None = None

    def begin(self) -> None:
        """Have it made, and calls run in it, by a thread."""
        threading.Thread(target=self._live, name=f"clustrix-{self.name[-8:]}", daemon=True).start()

    @property
    def is_free(self) -> bool:
        """Whether it takes the next call, now or once it has started."""
        gone = self._lost is not None or self.status.phase is PodPhase.ENDED
        return not self._has and not gone and self.takes_more

    @property
    def takes_more(self) -> bool:
        """Whether there are calls that it would take."""
        if self.group is None:
            return False
        most, limit = self.group.calls_per_pod, self.group.resources.time
        if self._taken < most:
            return True
        # As it stays anyway, it goes on, as long as its deadline leaves a call its whole time.
        in_time = limit is None or time.monotonic() < self._runs_since + (most - 1) * limit
        return self._holds and in_time

    def hold(self) -> None:
        """It has files that the flow may still want: it stays if it can."""
        with self.pods.lock:
            self._holds = not self.pods.cluster.keeps_store
            self.changed.notify_all()

    def left(self) -> dict[str, Any]:
        """Return the calls that an earlier process left in it; waits until it has said so."""
        self._asked.wait()
        return self.unclaimed

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up one of them."""
        with self.pods.lock:
            self.unclaimed.pop(call.id, None)
            self._has.add(call)
            host = self.host
        call.attempt.job_id = self.name
        if host is None:
            self.pods.listener.fail(call, self._failure())
        else:
            host.attach(call, known)

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop those of these calls that an earlier process left in it."""
        if self.host is not None:
            self.host.end_left({id: left[id] for id in left.keys() & self.unclaimed.keys()})
        with self.pods.lock:
            self.changed.notify_all()

    def release(self, calls: Iterable[Call]) -> None:
        """Nothing of these calls is needed any more."""
        with self.pods.lock:
            self._has.difference_update(calls)
            self.changed.notify_all()

    def lose(self, error: ClustrixError) -> None:
        """It cannot be reached any more."""
        with self.pods.lock:
            self._lost = error
            self.changed.notify_all()

    def leave_within(self, seconds: float) -> None:
        """Wait no longer than this for a connection that is broken."""
        if self._session is not None:
            self._session.leave_within(seconds)

    # --- its life --------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            if self._start():
                self._serve()
        except ClustrixError as error:
            logger.debug("Pod %s: %s", self.name, error)
            if isinstance(error, ConnectionFailed) and not isinstance(error, REFUSALS):
                self._wait_for_reason()
                error = self.status.failure or error
            self.pods.cannot_start(self, error)
        except Exception as error:
            logger.exception("Pod %s", self.name)
            lost = JobLost(f"The pod {self.name} was given up: {error!r}.", "Please report this.")
            self.lose(lost)
            self.pods.cannot_start(self, lost)
        finally:
            self._asked.set()
            self._end()

    def _start(self) -> bool:
        """Bring it to where it can run calls; False if nobody needs it any more.

        Raises:
            ClustrixError: It does not come to that.
        """
        if self.group is not None:
            manifest = self.pods.cluster.job_manifest(
                self.name, self.group.resources, self.pods.labels
            )
            try:
                taken = self.pods.api.create_job(manifest)
            except QuotaExceeded as error:  # of jobs: as if it left no room for the pod
                self.pods.watch.forget(self.name)
                self.status = self.status.ended(error)
            else:
                self.pods.watch.made(self.name, taken)
        if not self._wait_until_it_runs():
            return False
        self._session = session = self._open_session()
        self.pods.opened(self, session)
        try:
            host = PodSession(session, self)
        except ConnectionLost as error:
            self.lose(error)
            raise self._failure() from error
        if not self.pods.cluster.keeps_store:
            sessions.adopt(session)  # what its tasks return is found by its store
        with self.pods.lock:
            self.host, self.unclaimed = host, host.known
            self._runs_since = time.monotonic()
        self._asked.set()
        return True

    def _wait_until_it_runs(self) -> bool:
        limit = self.pods.cluster.start_timeout
        since = time.monotonic()
        with self.pods.lock:
            while True:
                status, now = self.status, time.monotonic()
                if status.phase is PodPhase.RUNNING:
                    return True
                if status.phase is PodPhase.ENDED:
                    return self._did_not_start()
                if not self.pods.is_wanted(self):
                    return False
                if status.held or self.pods.some_run(but=self):
                    since = now  # it has yet to be admitted, or its siblings to make room
                if now - since > limit:
                    raise status.late(limit)
                self.changed.wait(1.0)

    def _did_not_start(self) -> bool:
        failure = self.status.failure
        assert failure is not None
        group = self.group
        if group is None or not isinstance(failure, QuotaExceeded):
            raise failure
        # Others may make room, as in a queue: a new pod is tried later.
        self.pods.say_waiting(group, failure.what)
        group.refused_since = group.refused_since or time.monotonic()
        self.changed.wait_for(lambda: not self.pods.is_wanted(self), _QUOTA_SECONDS)
        now, refused_since = time.monotonic(), group.refused_since
        if self.pods.some_run(but=self):
            group.refused_since = now
        # None: another pod has started meanwhile.
        elif refused_since is not None and now - refused_since > self.pods.cluster.start_timeout:
            raise failure
        return False

    def _connect(self) -> Connection:
        pod = self.status.pod
        assert pod is not None
        return self.pods.api.connect(pod, CONTAINER)

    def _open_session(self) -> Session:
        session = Session(self.pods.cluster, connect=self._connect, start_timeout=_PROGRAM_SECONDS)
        deadline = time.monotonic() + self.pods.cluster.reconnect_seconds
        in_vain = 0
        while True:
            try:
                with self.pods.opening:
                    if self.pods.closed:
                        raise ConnectionLost("The flow run ended before its pod was entered.")
                    session.open()
                return session
            except ConnectionFailed as error:
                with self.pods.lock:
                    # The watch may be a moment behind the broken stream.
                    self.changed.wait_for(self._is_over, _RETRY_SECONDS)
                    if self.status.failure is not None:
                        raise self.status.failure from None
                ended = isinstance(error, LoginInterrupted) and error.status is not None
                refused = isinstance(error, REFUSALS)
                in_vain += ended or refused
                if in_vain == _STARTS and ended:
                    raise WorkerNotStarted(
                        f"Our program does not start in {self.pods.cluster.image}: {error.what}",
                        "The image needs a /bin/sh, and a Python 3.6 or newer on its PATH or"
                        " where the block's `python` says.",
                        job_id=self.name,
                        node=self.status.node,
                    ) from error
                if in_vain == _STARTS or self.pods.closed or time.monotonic() > deadline:
                    raise

    def _is_over(self) -> bool:
        return self._lost is not None or self.status.phase is PodPhase.ENDED

    def _serve(self) -> None:
        """Hand it call after call, as long as there are any that it may take.

        Raises:
            ClustrixError: It ended without having had one.
        """
        while (call := self._next()) is not None:
            self._hand_over(call)
        if self.group is not None and not self._taken and self._is_over():
            self._wait_for_reason()
            raise self._failure()  # it went before it had a call: as if it had not started

    def _next(self) -> Call | None:
        idle_since = time.monotonic()
        with self.pods.lock:
            while not (self._is_over() or self.pods.closed):
                now = time.monotonic()
                if self._has or self.unclaimed:
                    idle_since = now
                    self.changed.wait()
                    continue
                if self.group is not None and self.takes_more:
                    call = self.pods.next_call(self.group)
                    if call is not None:
                        self._taken += 1
                        self._has.add(call)
                        return call
                elif not self._holds:
                    return None
                left = None if self._holds else idle_since + _IDLE_SECONDS - now
                if (left is not None and left <= 0) or self.pods.need_the_room_of(self):
                    return None
                self.changed.wait(left)
        return None

    def _hand_over(self, call: Call) -> None:
        host = self.host
        assert host is not None
        call.attempt.job_id = self.name
        try:
            python = host.interpreter_for(call.package.code)
            call.package = replace(call.package, python=python)
            host.send(call)
        except ConnectionLost:
            logger.debug("Pod %s went before it had its call", self.name, exc_info=True)
            with self.pods.lock:
                if not self._is_over():
                    self._lost = self._failure()
        except ClustrixError as error:
            host.give_up(call, error)

    def _wait_for_reason(self) -> None:
        """Let the watch say why it is gone: the broken connection may be known a moment before."""
        with self.pods.lock:
            self.changed.wait_for(
                lambda: self.pods.closed or self.status.phase is PodPhase.ENDED, _REASON_SECONDS
            )

    def _failure(self) -> InfrastructureError:
        """Return why the calls that it has cannot go on."""
        failure = self.status.failure or self._lost
        if isinstance(failure, InfrastructureError):
            return copy(failure)
        error = JobLost(
            f"The pod {self.status.pod or self.name} cannot be reached any more.",
            "Look at it with `kubectl describe pod`, and run the flow again.",
            job_id=self.name,
            node=self.status.node,
        )
        error.__cause__ = failure
        return error

    def _end(self) -> None:
        """Take away what is left of it, and of its calls."""
        if self._lost is not None:
            self._wait_for_reason()
        with self.pods.lock:
            over, calls = self._is_over(), list(self._has)
        self.pods.watch.forget(self.name)  # what becomes of it now is our doing
        steps: list[Callable[[], None]] = []
        if self.host is not None and not over:
            keep = self.pods.cluster.keep_job_files == "always"
            steps.append(partial(self.host.close, keep=keep))
        if self._session is not None:
            steps.append(self._session.close)
            if not self.pods.cluster.keeps_store and self.host is not None:
                steps.append(partial(sessions.release, self._session))
        steps.append(partial(self.pods.api.delete_job, self.name))
        for step in steps:
            try:
                step()
            except ClustrixError as error:
                logger.warning("Pod %s is left to the cluster: %s", self.name, error)
        for call in calls:
            self.pods.listener.fail(call, self._failure())
        self.release(calls)
        self.pods.gone(self)
        self.ended.set()
