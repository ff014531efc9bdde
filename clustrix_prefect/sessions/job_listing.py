"""The jobs on a cluster that are ours: those that our run directories there name."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.display.markdown import utc
from clustrix_prefect.errors import AgentError, ClustrixError, ConfigurationError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.kubernetes.leftovers import remove_leftovers
from clustrix_prefect.kubernetes.pods import FLOW_RUN_LABEL, MANAGED_BY
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus, read_pod
from clustrix_prefect.kubernetes.watching import is_suspended
from clustrix_prefect.schedulers.scheduler import JobState, Scheduler
from clustrix_prefect.sessions.discovery import ask_site
from clustrix_prefect.sessions.opened import opened

if TYPE_CHECKING:
    from clustrix_prefect.clusters.kubernetes import KubernetesCluster
    from clustrix_prefect.kubernetes.api import KubernetesApi

_LOOK_AGAIN_SECONDS = 1.0


@dataclass
class OurJob:
    """A job, array or not, that belongs to a flow run.

    Attributes:
        id: The scheduler's id.
        run: The flow run's directory.
        name: The job's name.
        flow: The flow's name.
        flow_run: The flow run's name.
        task: The task's name.
        submitted: When it was submitted, in seconds since 1970.
        elements: How many of its elements are in which state.
        reason: Why the first of those that wait does so.
        starts: When it may start, in the scheduler's words.
    """

    id: str
    run: str
    name: str = ""
    flow: str = ""
    flow_run: str = ""
    task: str = ""
    submitted: float | None = None
    elements: Counter[JobState] = field(default_factory=Counter)
    reason: str = ""
    starts: str = ""

    @property
    def queued(self) -> int:
        return self.elements[JobState.QUEUED]

    @property
    def running(self) -> int:
        there = (JobState.RUNNING, JobState.ENDING, JobState.UNKNOWN)
        return sum(self.elements[state] for state in there)

    @property
    def ended(self) -> int:
        return self.elements.total() - self.queued - self.running

    def as_dict(self) -> dict[str, Any]:
        return {
            "job": self.id,
            "name": self.name,
            "run": self.run,
            "flow": self.flow,
            "flow_run": self.flow_run,
            "task": self.task,
            "submitted": None if self.submitted is None else utc(self.submitted),
            "queued": self.queued,
            "running": self.running,
            "ended": self.ended,
            "reason": self.reason,
            "starts": self.starts,
        }


class ListedJobs(Protocol):
    """Our jobs on one cluster."""

    def find(self) -> list[OurJob]:
        """Return those that the cluster still knows."""
        ...

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        """End these jobs, whatever state they are in."""
        ...

    def logs(self, call: str, follow: bool) -> Iterator[str]:
        """What a call has written and logged, by lines."""
        ...


class NamespaceJobs:
    """Our jobs in a namespace of Kubernetes."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def find(self) -> list[OurJob]:
        with contextlib.suppress(ClustrixError):  # who may only look, looks
            remove_leftovers(self._api)
        pods = {status.job: status for status in map(read_pod, self._api.list_pods(MANAGED_BY)[0])}
        return [self._described(job, pods) for job in self._api.list_jobs(MANAGED_BY)]

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        for job in jobs:
            self._api.delete_job(job.id)

    def logs(self, call: str, follow: bool) -> Iterator[str]:
        raise ConfigurationError(
            "The logs of pods are kept by Kubernetes.",
            f"Write `kubectl logs {'--follow ' if follow else ''}job/{call}`.",
        )

    def _described(self, job: dict[str, Any], pods: Mapping[str, PodStatus]) -> OurJob:
        metadata, status = job["metadata"], job.get("status", {})
        name, labels = metadata["name"], metadata.get("labels", {})
        reason = "suspended" if is_suspended(job) else "waiting for its pod"
        pod = pods.get(name, PodStatus(job=name, reason=reason))
        waits = pod.phase is PodPhase.PENDING
        if status.get("succeeded"):
            state = JobState.COMPLETED
        elif status.get("failed") or pod.phase is PodPhase.ENDED:
            state = JobState.FAILED
        else:
            state = JobState.QUEUED if waits else JobState.RUNNING
        return OurJob(
            name,
            run=labels.get(FLOW_RUN_LABEL, ""),
            name=labels.get("prefect.io/flow-run-name", ""),
            flow_run=labels.get("prefect.io/flow-run-name", ""),
            submitted=_seconds_of(metadata.get("creationTimestamp")),
            elements=Counter([state]),
            reason=pod.reason if state is JobState.QUEUED else "",
        )


class ClusterJobs:
    """Our jobs on a cluster with a scheduler, over an open connection."""

    def __init__(self, agent: AgentClient, scheduler: Scheduler, user_id: int) -> None:
        self._agent = agent
        self._scheduler = scheduler
        self._user_id = user_id

    def find(self) -> list[OurJob]:
        """Return those of our jobs that the scheduler still knows."""
        jobs = {facts["job"]: _described(facts) for facts in self._submitted()}
        statuses = self._scheduler.parse_status(
            self._run(self._scheduler.status_command(self._user_id))
        )
        for element, status in statuses.items():
            job = jobs.get(self._scheduler.job_of(element))
            if job is not None:
                job.name = job.name or status.name
                job.elements[status.state] += 1
                if status.state is JobState.QUEUED:
                    job.reason = job.reason or self._scheduler.in_words(status.reason)
        if any(job.queued for job in jobs.values()):
            self._note_starts(jobs)
        return [job for job in jobs.values() if job.elements]

    def _note_starts(self, jobs: Mapping[str, OurJob]) -> None:
        command = self._scheduler.starts_command(self._user_id)
        if command is None:
            return
        for element, start in self._scheduler.parse_starts(self._run(command)).items():
            job = jobs.get(self._scheduler.job_of(element))
            if job is not None:
                job.starts = min(job.starts or start, start)

    def logs(self, call: str, follow: bool) -> Iterator[str]:
        """What a call has written and logged so far, by lines; and then what it does next.

        Args:
            call: The name of its task run, or the id of its job.
            follow: Whether to wait for more until its job has ended.

        Raises:
            ConfigurationError: There is no such call.
        """
        log = self._log_of(call)
        while True:
            is_over = not follow or self._has_ended(log["element"])
            at: dict[str, int] = {}
            while at != log["at"]:
                at = log["at"]
                found = self._agent.request(
                    protocol.read_log(**log["where"], at=at, to_end=is_over)
                )
                log["at"] = found["at"]
                yield from _log_lines(found)
            if is_over:
                return
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _log_of(self, call: str) -> dict[str, Any]:
        batches = self._submitted(call)
        for facts in batches:
            if facts["calls"]:
                _, index, call_id = facts["calls"][0]
                return self._log_in(facts, index, call_id)
        for facts in batches:
            if self._scheduler.job_of(call) == facts["job"]:
                index = re.search(r"\d+", call.removeprefix(facts["job"].rstrip("[]")))
                return self._log_in(facts, int(index[0]) if index else 0, None)
        raise ConfigurationError(
            f"There is nothing of a call {call!r} on the cluster.",
            "Name its task run, or its job (`clustrix-prefect jobs list` shows those); what ended"
            " well is removed, and so is all of it with the block's `keep_job_files='never'`.",
        )

    def _log_in(self, facts: dict[str, Any], index: int, call_id: str | None) -> dict[str, Any]:
        where = {"run": facts["run"], "batch": facts["batch"], "index": index, "call": call_id}
        elements = {facts["job"], self._scheduler.element_id(facts["job"], index)}
        return {"where": where, "element": elements, "at": {"out": 0, "err": 0, "lines": 0}}

    def _has_ended(self, elements: set[str]) -> bool:
        command = self._scheduler.status_command(self._user_id)
        statuses = self._scheduler.parse_status(self._run(command))
        found = [statuses[element] for element in elements if element in statuses]
        return all(status.state.is_final for status in found)

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        """End these jobs, whatever state they are in."""
        self._run(self._scheduler.cancel_command([job.id for job in jobs]))

    def _submitted(self, *named: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._agent.request(protocol.list_jobs(named=list(named)))[
            "jobs"
        ]
        return found

    def _run(self, argv: Sequence[str]) -> str:
        done = self._agent.request(protocol.command(argv=list(argv)))
        if done["returncode"]:
            raise AgentError(
                f"`{argv[0]}` failed on the cluster: {done['stderr'].strip()}",
                "Try again; `clustrix-prefect check` looks at the cluster.",
            )
        return str(done["stdout"])


@contextmanager
def cluster_jobs(cluster: ClusterBlock) -> Iterator[ListedJobs]:
    """Connect to a cluster and look after its jobs.

    Raises:
        ConfigurationError: The cluster has no scheduler.
        ConnectionFailed: It cannot be reached.
    """
    if cluster.calls_run_in is CallsRunIn.PODS:
        with closing(cast("KubernetesCluster", cluster).api()) as api:
            yield NamespaceJobs(api)
        return
    scheduler = cluster.scheduler()
    if scheduler is None:
        raise ConfigurationError(
            f"{cluster.description} has no scheduler, so there are no jobs.",
            "Its calls end with the flow that started them.",
        )
    with opened(cluster) as there:
        scheduler, _ = ask_site(there.agent, scheduler)
        yield ClusterJobs(there.agent, scheduler, there.user_id)


def _described(facts: dict[str, Any]) -> OurJob:
    return OurJob(
        facts["job"],
        run=facts["run"],
        flow=facts.get("flow") or "",
        flow_run=facts.get("flow_run") or "",
        task=facts.get("task") or "",
        submitted=facts.get("at"),
    )


def _seconds_of(timestamp: str | None) -> float | None:
    """Return a time as Kubernetes writes it."""
    return (
        datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None
    )


def _log_lines(found: protocol.LogPiece) -> Iterator[str]:
    for at, level, _, message in found["lines"]:
        clock = datetime.fromtimestamp(at).strftime("%H:%M:%S")
        yield f"{clock} | {logging.getLevelName(level):<7} | {message}"
    for text in (found["out"], found["err"]):
        yield from text.splitlines()
