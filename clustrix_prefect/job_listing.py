"""The jobs on a cluster that are ours: those that our run directories there name."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.opened import opened
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.dispatch.site import ask_site
from clustrix_prefect.errors import AgentError, ClusterError, ConfigurationError
from clustrix_prefect.kubernetes.leftovers import remove_leftovers
from clustrix_prefect.kubernetes.pods import FLOW_RUN_LABEL, MANAGED_BY
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus, read_pod
from clustrix_prefect.kubernetes.watching import is_suspended
from clustrix_prefect.schedulers.scheduler import JobState, Scheduler

if TYPE_CHECKING:
    from clustrix_prefect.kubernetes.api import KubernetesApi

# Prints RUN/BATCH/job and the id in that file, for each batch that was submitted.
_FIND_JOBS = """
cd "$1" 2> /dev/null || exit 0
for file in */*/job; do
  if [ -f "$file" ]; then printf '%s %s\\n' "$file" "$(cat "$file")"; fi
done
"""


@dataclass
class OurJob:
    """A job, array or not, that belongs to a flow run.

    Attributes:
        id: The scheduler's id.
        run: The flow run's directory.
        name: The job's name.
        elements: How many of its elements are in which state.
        reason: Why the first of those that wait does so.
    """

    id: str
    run: str
    name: str = ""
    elements: Counter[JobState] = field(default_factory=Counter)
    reason: str = ""

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
            "queued": self.queued,
            "running": self.running,
            "ended": self.ended,
            "reason": self.reason,
        }


class ListedJobs(Protocol):
    """Our jobs on one cluster."""

    def find(self) -> list[OurJob]:
        """Those that the cluster still knows."""
        ...

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        """End these jobs, whatever state they are in."""
        ...


class NamespaceJobs:
    """Our jobs in a namespace of Kubernetes."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def find(self) -> list[OurJob]:
        with contextlib.suppress(ClusterError):  # who may only look, looks
            remove_leftovers(self._api)
        pods = {status.job: status for status in map(read_pod, self._api.list_pods(MANAGED_BY)[0])}
        return [self._described(job, pods) for job in self._api.list_jobs(MANAGED_BY)]

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        for job in jobs:
            self._api.delete_job(job.id)

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
            elements=Counter([state]),
            reason=pod.reason if state is JobState.QUEUED else "",
        )


class ClusterJobs:
    """Our jobs on a cluster with a scheduler, over an open connection."""

    def __init__(self, agent: AgentClient, scheduler: Scheduler, runs: str, user_id: int) -> None:
        self._agent = agent
        self._scheduler = scheduler
        self._runs = runs
        self._user_id = user_id

    def find(self) -> list[OurJob]:
        """Those of our jobs that the scheduler still knows."""
        jobs = {job.id: job for job in self._submitted()}
        statuses = self._scheduler.parse_status(
            self._run(self._scheduler.status_command(self._user_id))
        )
        for element, status in statuses.items():
            job = jobs.get(self._scheduler.job_of(element))
            if job is not None:
                job.name = job.name or status.name
                job.elements[status.state] += 1
                if status.state is JobState.QUEUED:
                    job.reason = job.reason or status.reason
        return [job for job in jobs.values() if job.elements]

    def cancel(self, jobs: Sequence[OurJob]) -> None:
        """End these jobs, whatever state they are in."""
        self._run(self._scheduler.cancel_command([job.id for job in jobs]))

    def _submitted(self) -> Iterator[OurJob]:
        for line in self._run(["sh", "-c", _FIND_JOBS, "sh", self._runs]).splitlines():
            file, _, job_id = line.partition(" ")
            yield OurJob(job_id.strip(), run=file.partition("/")[0])

    def _run(self, argv: Sequence[str]) -> str:
        done = self._agent.request("command", argv=list(argv))
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
    if isinstance(cluster, KubernetesCluster):
        with closing(cluster.api()) as api:
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
        yield ClusterJobs(there.agent, scheduler, f"{there.work_dir}/runs", there.user_id)
