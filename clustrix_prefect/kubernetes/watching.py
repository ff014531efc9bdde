"""One watch for all pods of a flow run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from clustrix_prefect.errors import (
    ClustrixError,
    ConnectionFailed,
    InfrastructureError,
    PodDeleted,
    QuotaExceeded,
    SubmissionRefused,
)
from clustrix_prefect.kubernetes.api import REFUSALS, KubernetesApi, WatchExpired
from clustrix_prefect.kubernetes.endings import deleted, deleted_or_evicted, ending_by_events
from clustrix_prefect.kubernetes.passing import pod_creation_passes
from clustrix_prefect.kubernetes.pods import MANAGED_BY
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus, job_of, read_pod

logger = logging.getLogger("prefect.clustrix")

# The server ends a watch after this long, seconds; it goes on from where it was.
_WATCH_SECONDS = 300
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# The job controller takes a moment to make a pod, seconds.
_WITHOUT_POD_SECONDS = 2.0


class PodWatch:
    """Lists the pods that have a label, then hears of every change.

    Args:
        api: Whom to ask.
        selector: The label.
        on_change: Hears what has become of the pod of a job that is expected. Called by the
            watch's thread, and by that of `start`.
    """

    def __init__(
        self, api: KubernetesApi, selector: str, on_change: Callable[[PodStatus], None]
    ) -> None:
        self._api = api
        self._selector = selector
        self._on_change = on_change
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}
        self._made: set[str] = set()
        self._known: dict[str, PodStatus] = {}
        self._version = ""
        self._closed = threading.Event()
        self._late = threading.Event()

    def start(self) -> None:
        """List once, then watch.

        Raises:
            ConnectionFailed: The server cannot be reached, or refuses us.
        """
        self._list()
        events: Iterator[dict[str, Any]] = iter(())
        try:
            events = self._resume()
        except REFUSALS:
            raise
        except (WatchExpired, ConnectionFailed) as error:
            logger.debug("The watch of pods has yet to begin: %s", error)
        for target in (partial(self._watch, events), self._look_for_missing):
            threading.Thread(target=target, name="clustrix-pods", daemon=True).start()

    def expect(self, job: str) -> None:
        """This job is ours: tell what becomes of its pod."""
        with self._lock:
            self._expected[job] = time.monotonic()
        self._late.set()

    def made(self, job: str, taken: Mapping[str, Any] | None = None) -> None:
        """The server has taken this job: that it is not there means something from now on.

        Args:
            job: Its name.
            taken: The job as the server has it, if somebody has just made it.
        """
        with self._lock:
            if job in self._expected:
                self._made.add(job)
        if taken is not None and is_suspended(taken):
            self._say(PodStatus(job=job, reason=_why_held(job, ()), held=True))

    def forget(self, job: str) -> None:
        """What becomes of this job does not matter any more; it may be deleted."""
        with self._lock:
            self._expected.pop(job, None)
            self._made.discard(job)
            self._known.pop(job, None)

    def close(self) -> None:
        """Hear of nothing more."""
        self._closed.set()
        self._late.set()

    # --- what the server says --------------------------------------------------------------

    def _resume(self) -> Iterator[dict[str, Any]]:
        if not self._version:
            self._list()
        return self._api.watch_pods(self._selector, self._version, _WATCH_SECONDS)

    def _watch(self, events: Iterator[dict[str, Any]]) -> None:
        pause = _PAUSE_SECONDS
        while not self._closed.is_set():
            try:
                for event in events:
                    if self._closed.is_set():
                        return
                    self._take(event)
                    pause = _PAUSE_SECONDS
                events = self._resume()
            except WatchExpired:
                self._version, events = "", iter(())
            except Exception as error:
                passes = isinstance(error, ConnectionFailed) and not isinstance(error, REFUSALS)
                level = logging.DEBUG if passes else logging.WARNING
                logger.log(level, "The watch of pods is begun again: %s", error)
                events = iter(())
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _take(self, event: dict[str, Any]) -> None:
        pod = event["object"]
        if event["type"] == "DELETED":
            self._gone(job_of(pod), pod["metadata"]["name"])
        elif event["type"] != "BOOKMARK":
            self._read(pod)
        self._version = pod["metadata"]["resourceVersion"]

    def _list(self) -> None:
        pods, version = self._api.list_pods(self._selector)
        there = set()
        for pod in pods:
            there.add(pod["metadata"]["name"])
            self._read(pod)
        with self._lock:
            missing = [one for one in self._known.values() if one.pod and one.pod not in there]
        for status in missing:
            self._gone(status.job, status.pod or "")
        self._version = version

    def _read(self, pod: dict[str, Any]) -> None:
        job = job_of(pod)
        with self._lock:
            previous = self._known.get(job)
        # After a deletion the job controller makes another pod, which is not the one we knew.
        if previous is not None and previous.pod not in (None, pod["metadata"]["name"]):
            return
        self._say(read_pod(pod, previous))

    def _gone(self, job: str, pod: str) -> None:
        with self._lock:
            status = self._known.get(job)
        if status is not None and status.pod == pod:
            self._say(status.ended(deleted(job, status.node)))

    def _say(self, status: PodStatus) -> None:
        with self._lock:
            previous = self._known.get(status.job)
            if status.job not in self._expected or status == previous:
                return
            if previous is not None and previous.phase is PodPhase.ENDED:
                return
            if status.pod is None and not self._has_no_pod(status.job):
                return  # it came while we asked why there is none
        if type(status.failure) is PodDeleted and status.pod is not None:
            status = self._why_deleted(status)
        with self._lock:
            if status.job not in self._expected:
                return
            if status.pod is None and not self._has_no_pod(status.job):
                return
            self._known[status.job] = status
        self._on_change(status)

    def _why_deleted(self, status: PodStatus) -> PodStatus:
        """Before Kubernetes 1.26 a pod that had to go looks like one that somebody deleted."""
        try:
            events = self._api.list_events(f"involvedObject.name={status.pod}")
            has_job = self._api.find_job(status.job) is not None
        except ClustrixError as error:
            logger.debug("What happened to pod %s is not known: %s", status.pod, error)
            return status
        failure = ending_by_events(events, status.job, status.node)
        if failure is None and has_job:
            failure = deleted_or_evicted(status.job, status.node)
        return status if failure is None else status.ended(failure)

    # --- jobs whose pod does not come ------------------------------------------------------

    def _look_for_missing(self) -> None:
        pause = _WITHOUT_POD_SECONDS
        while not self._closed.is_set():
            if not self._without_pod(0.0):
                self._late.wait()
                self._late.clear()
                pause = _WITHOUT_POD_SECONDS
            self._closed.wait(pause)
            late = self._without_pod(_WITHOUT_POD_SECONDS)
            if late and not self._closed.is_set():
                self._ask_why(late)
                pause = min(pause * 2, 30.0)

    def _without_pod(self, seconds: float) -> set[str]:
        now = time.monotonic()
        with self._lock:
            return {
                job
                for job, since in self._expected.items()
                if now - since >= seconds and self._has_no_pod(job)
            }

    def _has_no_pod(self, job: str) -> bool:
        status = self._known.get(job)
        return status is None or (status.pod is None and status.phase is PodPhase.PENDING)

    def _ask_why(self, jobs: set[str]) -> None:
        with self._lock:
            made = jobs & self._made
        try:
            events = self._api.list_events("involvedObject.kind=Job,reason=FailedCreate")
            there = self._those_of(made)
            held = {name for name, job in there.items() if is_suspended(job)}
            queued = self._api.list_events("involvedObject.kind=Workload") if held else []
        except ClustrixError as error:
            logger.debug("Why jobs have no pods is not known: %s", error)
            return
        for job in held:
            self._say(PodStatus(job=job, reason=_why_held(job, queued), held=True))
        for event in events:
            job = event["involvedObject"]["name"]
            if job in jobs - held:
                said = str(event.get("message", ""))
                refusal, waiting = _refusal(job, said), PodStatus(job=job)
                if isinstance(refusal, QuotaExceeded) or not pod_creation_passes(said):
                    self._say(waiting.ended(refusal))
                else:  # the job controller goes on trying
                    self._say(replace(waiting, reason=f"no pod yet: {said}", stuck=refusal))
        for job in self._held() & there.keys() - held:
            self._say(PodStatus(job=job, reason="admitted, no pod yet"))
        for job in made - there.keys():
            self._say(PodStatus(job=job).ended(deleted(job)))

    def _held(self) -> set[str]:
        with self._lock:
            return {job for job, status in self._known.items() if status.held}

    def _those_of(self, jobs: set[str]) -> dict[str, dict[str, Any]]:
        """Which of these jobs are there: the others somebody deleted before they had a pod."""
        if not jobs:
            return {}
        there = {job["metadata"]["name"]: job for job in self._api.list_jobs(MANAGED_BY)}
        found = {name: there[name] for name in jobs & there.keys()}
        for name in jobs - there.keys():
            # The block's own labels may have replaced the one that finds all jobs at once.
            job = self._api.find_job(name)
            if job is not None:
                found[name] = job
        return found


def is_suspended(job: Mapping[str, Any]) -> bool:
    """Whether somebody holds a job, so that it gets no pod: Kueue until it has room for it."""
    return bool(job.get("spec", {}).get("suspend"))


def _why_held(job: str, events: Sequence[dict[str, Any]]) -> str:
    """Return what is reported of a job's workload, which Kueue names after it: "job-NAME-HASH"."""
    for event in reversed(events):
        if event["involvedObject"]["name"].startswith(f"job-{job}-") and event.get("message"):
            return f"Suspended: {event['message']}"
    return "Suspended: the job waits to be admitted"


def _refusal(job: str, said: str) -> InfrastructureError:
    """Return why the job controller may not make a pod."""
    said = said.rstrip(".")
    if "exceeded quota" in said:
        return QuotaExceeded(
            f"A quota leaves no room for the pod ({said}).",
            "Ask for less, lower `max_pods`, or have the quota raised.",
            job_id=job,
        )
    return SubmissionRefused(
        f"The cluster makes no pod ({said}).",
        _remedy_of_admission(said),
        job_id=job,
    )


def _remedy_of_admission(said: str) -> str:
    if "violates PodSecurity" in said:
        return "Say in `pod_template` what the namespace's Pod Security level asks for."
    if "denied" in said:
        return "What refuses it is named here: ask who runs the cluster what it wants."
    if "serviceaccount" in said or "service account" in said:
        return "Create the service account, or name another in the block's `service_account`."
    return "Change the block so that the namespace admits its pods."
