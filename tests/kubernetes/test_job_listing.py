"""Our jobs in a namespace: in which state each is said to be."""

from __future__ import annotations

from clustrix_prefect.sessions.job_listing import NamespaceJobs
from tests.kubernetes.namespace_server import namespace_server
from tests.kubernetes.test_watching import KILLED, RUNS, pod


def test_a_job_runs_once_its_pod_does() -> None:
    with namespace_server() as server:
        server.jobs.update({"without-pod", "starting", "running"})
        server.put(pod("starting"))
        server.put(pod("running", RUNS))
        found = {job.id: (job.queued, job.running) for job in NamespaceJobs(server.api()).find()}
    assert found == {"without-pod": (1, 0), "starting": (1, 0), "running": (0, 1)}


def test_a_job_has_ended_once_our_container_has_whatever_runs_beside_it() -> None:
    with namespace_server() as server:
        server.jobs.add("kept")
        server.put(pod("kept", KILLED, phase="Running"))
        (job,) = NamespaceJobs(server.api()).find()
    assert (job.queued, job.running, job.ended) == (0, 0, 1)
