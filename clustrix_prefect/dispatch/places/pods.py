"""Pods as the place of a flow run's calls: made while calls wait, with a host in each.

Calls that ask for the same wait together. Each pod takes one of them after another. There are as
many pods as calls that wait, up to `max_pods`, and one watch tells of all of them.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.dispatch.call import Call, CallState
from clustrix_prefect.dispatch.failures import queue_timed_out
from clustrix_prefect.dispatch.placement import CallListener, RunContext, Waiter
from clustrix_prefect.dispatch.places.pod import Pod, PodQueue
from clustrix_prefect.engine import CallQueued, CallRaised, Proceed
from clustrix_prefect.environments.building import environments_of
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.errors import (
    ClustrixError,
    InfrastructureError,
    JobCancelled,
    PythonVersionMismatch,
)
from clustrix_prefect.kubernetes.api import KubernetesApi
from clustrix_prefect.kubernetes.leftovers import remove_leftovers
from clustrix_prefect.kubernetes.pods import FLOW_RUN_LABEL
from clustrix_prefect.kubernetes.status import PodStatus
from clustrix_prefect.kubernetes.watching import PodWatch
from clustrix_prefect.sessions.session import Session
from clustrix_prefect.task_resources import Resources

logger = logging.getLogger("prefect.clustrix")

_LEAVE_SECONDS = 5.0
# Pods that are entered at the same time: this machine, and a node, have only so many cores.
_OPENINGS = 8
_END_SECONDS = 15.0


class OpenedNamespace:
    """A namespace that a task runner has opened.

    Args:
        cluster: The block that says which.

    Raises:
        ConfigurationError: There are no credentials for it, or pods have no such fields as its
            block says.
    """

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self._api = cluster.api(patience=cluster.reconnect_seconds)
        cluster.check_fields()
        self._places: list[Pods] = []

    def place_for(self, run: RunContext, listener: CallListener) -> Pods:
        place = Pods(self._api, self._cluster, run, listener)
        self._places.append(place)
        return place

    def leave(self) -> None:
        for place in self._places:
            place.leave_within(_LEAVE_SECONDS)

    def close(self) -> None:
        self._api.close()


class Pods:
    """The pods of one flow run.

    Args:
        api: Where they are made.
        cluster: How they are made.
        run: The flow run.
        listener: Is told what becomes of them.

    Attributes:
        known: Calls that an earlier process of this flow run left in its pods, by id.
        labels: By which its jobs are found.
        opening: Held while a pod is entered.

    Raises:
        ConnectionFailed: The API server cannot be reached, or refuses us.
    """

    def __init__(
        self,
        api: KubernetesApi,
        cluster: KubernetesCluster,
        run: RunContext,
        listener: CallListener,
    ) -> None:
        self.api = api
        self.cluster = cluster
        self.run = run
        self.listener = listener
        self.lock = threading.RLock()
        self.closed = False
        self.known: dict[str, Any] = {}
        self.opening = threading.BoundedSemaphore(_OPENINGS)
        self.acknowledged: frozenset[str] = frozenset()  # each pod has traces of its own
        self._groups: dict[str, PodQueue] = {}
        self._pods: dict[str, Pod] = {}
        self._left_in: dict[str, Pod] = {}
        self._version = cluster.python_version_of_image()
        self._told: Session | None = None
        self.labels = {
            FLOW_RUN_LABEL: run.run_key,
            "prefect.io/flow-run-id": run.run_id,
            "prefect.io/flow-run-name": run.run_name,
        }
        selector = f"{FLOW_RUN_LABEL}={run.run_key}"
        self.watch = PodWatch(api, selector, self._on_change)
        if cluster.managed_environment is not None and not cluster.keeps_store:
            run.log.say(
                logging.WARNING,
                "Each pod builds the environment for itself. Give the block a `work_volume_claim`, "
                "and it is built once.",
            )
        threading.Thread(
            target=self._remove_leftovers, name="clustrix-leftovers", daemon=True
        ).start()
        self._take_up([job["metadata"]["name"] for job in api.list_jobs(selector)])

    # --- what calls are packed for ---------------------------------------------------------

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return whether the image is known; if not, a pod is made that tells of it."""
        with self.lock:
            group = self._group_of(waiter.resources)
            if self._told is not None or self._needs_no_pod_to_know:
                group.newcomers.pop(waiter, None)
                return True
            if waiter in group.newcomers:
                return False
            group.newcomers[waiter] = 0
            if group.reason:
                waiter.post(CallQueued(group.reason))
            self._grow(group)
        if waiter.resources.queue_timeout is not None:
            self.run.timers.after(
                waiter.resources.queue_timeout, partial(self._queue_timed_out, group, waiter)
            )
        return False

    @property
    def _needs_no_pod_to_know(self) -> bool:
        own = self.cluster.managed_environment is not None or self.cluster.keeps_store
        return self._version is not None and not own

    @property
    def python_note(self) -> str:
        """Nothing: each pod says which interpreter its image has."""
        return ""

    @property
    def python_version(self) -> tuple[int, int]:
        """The image's Python: as its name says, or else as the first pod did."""
        return self._version or self._first.python_version

    @property
    def store(self) -> str:
        """The id of the store that all pods share; empty where each has one of its own."""
        return self._first.store if self.cluster.keeps_store else ""

    def interpreter_for(self, code: Code) -> FarPython:
        """Return the interpreter that runs this code, which may still have to be built.

        Raises:
            ClustrixError: There can be none.
        """
        if self._version is not None and self._needs_no_pod_to_know:
            return FarPython("python", self._version)  # each pod says where
        return environments_of(self._first).interpreter_for(code)

    @property
    def _first(self) -> Session:
        assert self._told is not None, "`is_ready_for` comes first"
        return self._told

    def _queue_timed_out(self, group: PodQueue, waiter: Waiter) -> None:
        with self.lock:
            if self._told is not None or group.newcomers.pop(waiter, None) is None:
                return
        limit = waiter.resources.queue_timeout
        assert limit is not None
        waiter.post(CallRaised(queue_timed_out(limit, group.reason)))

    def opened(self, pod: Pod, session: Session) -> None:
        """A pod is ready.

        Raises:
            PythonVersionMismatch: Its Python is not what the image's name says.
        """
        with self.lock:
            if pod.group is not None:
                pod.group.refused_since = None
            if self._version not in (None, session.python_version):
                says, has = (
                    ".".join(map(str, one)) for one in (self._version or (), session.python_version)
                )
                raise PythonVersionMismatch(
                    f"{self.cluster.image} has Python {has}, not {says} as its name says.",
                    "Give the image a name that does not look like a version of Python.",
                )
            if self._told is None:
                self._told = session
                for group in self._groups.values():
                    for waiter in group.newcomers:
                        waiter.post(Proceed())

    # --- towards the cluster ---------------------------------------------------------------

    def send(self, call: Call) -> None:
        """Let a call wait for a pod, and see that there is one."""
        call.attempt.placement, call.attempt.sent_at = None, None
        self.listener.limit_queueing(call)
        with self.lock:
            group = self._group_of(call.resources)
            group.waiting.append(call)
            self._grow(group)

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up a call that an earlier process sent."""
        self._left_in.pop(call.id).attach(call, known)

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop calls that an earlier process left, and that nobody takes up."""
        with self.lock:
            pods = {self._left_in.pop(call_id) for call_id in left}
        for pod in pods:
            pod.end_left(left)

    def leave_within(self, seconds: float) -> None:
        """From now on, wait no longer than this for connections that are broken."""
        with self.lock:
            pods = list(self._pods.values())
        for pod in pods:
            pod.leave_within(seconds)

    def close(self, keep: bool, is_over: bool = True) -> None:
        """The flow run ends here: its jobs go."""
        with self.lock:
            self.closed = True
            pods = list(self._pods.values())
            self._notify()
        for pod in pods:
            pod.ended.wait(_END_SECONDS)
        self.watch.close()

    # --- pods ------------------------------------------------------------------------------

    def _group_of(self, resources: Resources) -> PodQueue:
        key = resources.model_dump_json()
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = PodQueue(
                resources,
                resources.calls_per_job or self.cluster.calls_per_pod,
                min(resources.max_parallel_jobs or self.cluster.max_pods, self.cluster.max_pods),
            )
        return group

    def _grow(self, group: PodQueue) -> None:
        """Have a pod for each call that waits, as long as there may be more."""
        self._notify()  # one that is idle may take it, or make room
        coming = sum(pod.is_free for pod in group.pods)
        room = min(self.cluster.max_pods - len(self._pods), group.max_pods - len(group.pods))
        if group.refused_since is not None:
            room = min(room, 1 - sum(pod.host is None for pod in group.pods))  # one tries for all
        if room > 0:
            for _ in range(min(group.count() - coming, room)):
                self._start(group)

    def _notify(self) -> None:
        """Let every pod look whether it has something to do."""
        for pod in self._pods.values():
            pod.changed.notify_all()

    def _start(self, group: PodQueue) -> None:
        if self.closed:
            return
        name = f"clustrix-{self.run.run_key[:8]}-{uuid.uuid4().hex[:8]}"
        pod = self._pods[name] = Pod(self, name, group)
        group.pods.append(pod)
        self.watch.expect(name)
        pod.begin()

    def _take_up(self, names: list[str]) -> None:
        """Ask the pods that an earlier process left what they have."""
        for name in names:
            self._pods[name] = Pod(self, name, None)
            self.watch.expect(name)
            self.watch.made(name)
        self.watch.start()
        found = list(self._pods.values())
        for pod in found:
            pod.begin()
        for pod in found:
            for call_id in pod.left():
                self._left_in[call_id] = pod
                self.known[call_id] = pod.unclaimed[call_id]

    def _remove_leftovers(self) -> None:
        try:
            remove_leftovers(self.api)
        except ClustrixError as error:
            logger.debug("What other flows left was not looked at: %s", error)

    def _on_change(self, status: PodStatus) -> None:
        """Runs on the watch's thread."""
        with self.lock:
            pod = self._pods.get(status.job)
            if pod is None:
                return
            pod.status = status
            pod.changed.notify_all()
        if pod.host is None and pod.group is not None and status.failure is None:
            self.say_waiting(pod.group, status.reason)

    def say_waiting(self, group: PodQueue, reason: str) -> None:
        """Tell the calls whose pods are starting what these wait for."""
        if not reason:
            return
        with self.lock:
            if group.reason != reason:
                group.reason = reason
                for waiter in group.newcomers:
                    waiter.post(CallQueued(reason))
                self.run.log.say_once(logging.INFO, f"Queued: {reason}")
            concerned = list(group.waiting)[: sum(pod.host is None for pod in group.pods)]
        for call in concerned:
            if call.attempt.queue_reason != reason and call.state is CallState.QUEUED:
                call.attempt.queue_reason = reason
                call.post(CallQueued(reason))

    # --- what a pod asks -------------------------------------------------------------------

    def next_call(self, group: PodQueue) -> Call | None:
        """Return the call that has waited longest."""
        while group.waiting:
            call = group.waiting.popleft()
            if not call.state.is_final:
                return call
        return None

    def is_wanted(self, pod: Pod) -> bool:
        """Return whether a pod that has not started is of use to anybody."""
        return not self.closed and pod.group is not None and pod.group.is_wanted

    def need_the_room_of(self, pod: Pod) -> bool:
        """Return whether an idle pod keeps calls that it does not take from starting."""
        full = len(self._pods) >= self.cluster.max_pods
        if any(group.is_wanted for group in self._groups.values() if group is not pod.group):
            return full
        group = pod.group
        if group is None or pod.takes_more or not group.is_wanted:
            return False
        return full or len(group.pods) >= group.max_pods

    def some_run(self, but: Pod) -> bool:
        """Return whether the cluster runs other pods of this flow run."""
        return any(pod.host is not None for pod in self._pods.values() if pod is not but)

    def cannot_start(self, pod: Pod, error: ClustrixError) -> None:
        """A pod did not come to run calls.

        What befell this pod alone concerns the call that it would have had. What another one
        would meet as well concerns all that wait.
        """
        with self.lock:
            group = pod.group
            if group is None or self.closed:
                return
            newcomers: list[Waiter] = []
            if isinstance(error, JobCancelled) or getattr(error, "requeue", False):
                first = self.next_call(group)
                calls = [first] if first is not None else []
                if first is None and not self._comes_again(group, error):
                    newcomers = list(group.newcomers)[:1]
            else:
                calls = [call for call in group.waiting if not call.state.is_final]
                group.waiting.clear()
                newcomers = list(group.newcomers)
            for waiter in newcomers:
                del group.newcomers[waiter]
                waiter.post(CallRaised(error))
        for call in calls:
            if isinstance(error, InfrastructureError):
                self.listener.fail(call, error)
            else:
                self.listener.fail_for_good(call, error)

    def _comes_again(self, group: PodQueue, error: ClustrixError) -> bool:
        """Return whether another pod may tell the first newcomer what this one did not."""
        first = next(iter(group.newcomers), None)
        if first is None or not getattr(error, "requeue", False):
            return False
        group.newcomers[first] += 1
        return group.newcomers[first] <= self.run.requeues

    def gone(self, pod: Pod) -> None:
        """A pod has ended; what still waits may need another one."""
        with self.lock:
            self._pods.pop(pod.name, None)
            if pod.group is not None:
                pod.group.pods.remove(pod)
            if not self.closed:
                for group in self._groups.values():
                    self._grow(group)
