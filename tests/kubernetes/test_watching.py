"""One watch for all pods: what it hears, and what it finds out after it could not hear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clustrix_prefect import errors
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus
from clustrix_prefect.kubernetes.watching import PodWatch
from tests.kubernetes.namespace_server import NamespaceServer, namespace_server

RUNS = {"running": {"startedAt": "2024-05-01T10:00:00Z"}}
KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
NOT_READY = ({"type": "Ready", "status": "False"},)


def pod(job: str, state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The pod of a job; `deleted` says that it is on its way out."""
    metadata: dict[str, Any] = {
        "name": f"{job}-x7k2p",
        "ownerReferences": [{"kind": "Job", "name": job}],
    }
    if more.pop("deleted", False):
        metadata["deletionTimestamp"] = "2024-05-01T10:00:02Z"
    status = {"containerStatuses": [{"name": "calls", "state": state}] if state else [], **more}
    spec = {"containers": [{"name": "calls"}], "nodeName": "node1"}
    return {"metadata": metadata, "spec": spec, "status": status}


class Heard:
    """What a watch told, which may be waited for."""

    def __init__(self) -> None:
        self.all: list[PodStatus] = []
        self._changed = threading.Condition()

    def __call__(self, status: PodStatus) -> None:
        with self._changed:
            self.all.append(status)
            self._changed.notify_all()

    def of(self, job: str) -> list[PodStatus]:
        return [status for status in self.all if status.job == job]

    def wait(self, job: str, phase: PodPhase) -> PodStatus:
        """The first time that this was told."""

        def found() -> PodStatus | None:
            return next((one for one in self.of(job) if one.phase is phase), None)

        with self._changed:
            status = self._changed.wait_for(found, 30)
        assert status is not None, (job, self.all)
        return status

    def failure(self, job: str) -> Any:
        return self.wait(job, PodPhase.ENDED).failure


@pytest.fixture
def server() -> Iterator[NamespaceServer]:
    with namespace_server() as server:
        yield server


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watch(server: NamespaceServer, heard: Heard) -> Iterator[PodWatch]:
    """Not started."""
    watch = PodWatch(server.api(), "run=1", heard)
    yield watch
    watch.close()


@pytest.fixture
def running(server: NamespaceServer, watch: PodWatch, heard: Heard) -> Callable[..., None]:
    """Starts the watch with jobs whose pods run."""

    def run(*jobs: str) -> None:
        for job in jobs:
            watch.expect(job)
            watch.made(job)
            server.jobs.add(job)
            server.put(pod(job, RUNS))
        watch.start()
        for job in jobs:
            heard.wait(job, PodPhase.RUNNING)

    return run


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- a watch that ends -----------------------------------------------------------------------


@pytest.mark.parametrize("in_stream", [True, False])
def test_nothing_is_lost_when_a_watch_has_expired(
    server: NamespaceServer,
    watch: PodWatch,
    running: Callable[..., None],
    heard: Heard,
    in_stream: bool,
) -> None:
    server.gone_in_stream = in_stream
    running("gone", "killed", "same")
    watch.expect("new")
    wait_for(lambda: "watch pods" in server.asked)
    with server.away():
        server.jobs.remove("gone")
        server.remove("gone-x7k2p")
        server.put(pod("killed", KILLED, phase="Failed"))
        server.put(pod("new", RUNS))
        server.compact()
    assert type(heard.failure("gone")) is errors.PodDeleted
    assert type(heard.failure("killed")) is errors.OutOfMemory
    heard.wait("new", PodPhase.RUNNING)
    assert len(heard.of("same")) == 1
    # It hears on from there.
    server.put(pod("same", KILLED, phase="Failed"))
    assert type(heard.failure("same")) is errors.OutOfMemory


def test_a_stream_that_breaks_is_gone_on_with_where_it_was(
    server: NamespaceServer, running: Callable[..., None], heard: Heard
) -> None:
    running("one", "two")
    for number, job in enumerate(("one", "two"), 1):
        wait_for(lambda expected=number: server.asked.count("watch pods") == expected)  # type: ignore[misc]
        server.break_watches()
        server.put(pod(job, KILLED, phase="Failed"))
        assert type(heard.failure(job)) is errors.OutOfMemory
    assert server.asked.count("list pods") == 1
    assert [len(heard.of(job)) for job in ("one", "two")] == [2, 2]


# --- why a pod went --------------------------------------------------------------------------


def test_a_pod_whose_node_was_lost(
    server: NamespaceServer, running: Callable[..., None], heard: Heard
) -> None:
    running("silent", "tainted")
    # The node's last word of it is that it runs.
    server.put(pod("silent", RUNS, deleted=True, conditions=NOT_READY))
    assert type(heard.failure("silent")) is errors.NodeFailure
    about = {"name": "tainted-x7k2p"}
    server.events = [{"involvedObject": about, "reason": "TaintManagerEviction"}]
    server.put(pod("tainted", RUNS, deleted=True))
    lost = heard.failure("tainted")
    assert type(lost) is errors.NodeFailure
    assert lost.requeue
    assert lost.node == "node1"


def test_a_pod_that_somebody_deleted_with_its_job_or_without(
    server: NamespaceServer, running: Callable[..., None], heard: Heard
) -> None:
    running("whole", "pod-only")
    server.jobs.remove("whole")
    for job in ("whole", "pod-only"):
        server.put(pod(job, RUNS, deleted=True))
    deleted, evicted = heard.failure("whole"), heard.failure("pod-only")
    assert type(deleted) is errors.PodDeleted
    assert not deleted.requeue
    assert type(evicted) is errors.PodEvicted
    assert evicted.requeue
    # The job controller makes another pod, which is nobody's.
    again = pod("pod-only", RUNS)
    again["metadata"]["name"] = "pod-only-second"
    server.put(again)
    server.put(pod("late", RUNS))
    assert len(heard.of("pod-only")) == 2


def test_a_pod_that_ran_into_its_deadline(
    server: NamespaceServer, running: Callable[..., None], heard: Heard
) -> None:
    running("long")
    server.put(pod("long", phase="Failed", reason="DeadlineExceeded"))
    assert type(heard.failure("long")) is errors.TimeLimitExceeded


def test_what_we_deleted_is_no_news(
    server: NamespaceServer, watch: PodWatch, running: Callable[..., None], heard: Heard
) -> None:
    running("ours", "other")
    watch.forget("ours")
    server.remove("ours-x7k2p")
    server.put(pod("other", KILLED, phase="Failed"))
    heard.wait("other", PodPhase.ENDED)
    assert len(heard.of("ours")) == 1


# --- jobs whose pod does not come ------------------------------------------------------------


def test_a_job_that_was_deleted_before_it_had_a_pod(
    server: NamespaceServer, watch: PodWatch, heard: Heard
) -> None:
    watch.start()
    server.jobs.update({"deleted", "slow"})
    for job in ("deleted", "slow", "unmade"):
        watch.expect(job)
    for job in ("deleted", "slow"):
        watch.made(job)
    server.jobs.remove("deleted")
    deleted = heard.failure("deleted")
    assert type(deleted) is errors.PodDeleted
    assert not deleted.requeue
    # Neither the one whose pod is late, nor the one that the server has not taken yet.
    assert not heard.of("slow")
    assert not heard.of("unmade")


def make_no_pod(server: NamespaceServer, watch: PodWatch, said: str) -> None:
    """Let the server take the job "large", whose controller reports why it makes no pod."""
    watch.start()
    server.jobs.add("large")
    server.events = [{"involvedObject": {"name": "large"}, "message": said}]
    watch.expect("large")
    watch.made("large")


def test_a_job_that_a_quota_gives_no_pod(
    server: NamespaceServer, watch: PodWatch, heard: Heard
) -> None:
    said = "pods is forbidden: exceeded quota: none, requested: pods=1, limited: pods=0"
    make_no_pod(server, watch, said)
    assert type(heard.failure("large")) is errors.QuotaExceeded


@pytest.mark.parametrize(
    "said",
    [
        'Internal error occurred: failed calling webhook "x": context deadline exceeded',
        'pods "large-" is forbidden: error looking up service account lab/late: serviceaccount'
        ' "late" not found',
    ],
)
def test_a_pod_that_cannot_be_made_for_now_is_waited_for(
    server: NamespaceServer, watch: PodWatch, heard: Heard, said: str
) -> None:
    make_no_pod(server, watch, said)
    heard.wait("large", PodPhase.PENDING)
    status = heard.of("large")[-1]
    assert said in status.reason
    assert isinstance(status.late(600), errors.SubmissionRefused)
    server.put(pod("large", RUNS))
    heard.wait("large", PodPhase.RUNNING)


@pytest.mark.parametrize(
    "said",
    [
        'pods "large-" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot',
        'pods "large-" is forbidden: maximum memory usage per Container is 1Gi, but limit is 8Gi',
        'admission webhook "v.gatekeeper.sh" denied the request: [owner] label is missing',
        "pods is forbidden: failed quota: q: must specify limits.cpu",
    ],
)
def test_a_pod_that_will_not_be_admitted_is_told_at_once(
    server: NamespaceServer, watch: PodWatch, heard: Heard, said: str
) -> None:
    make_no_pod(server, watch, said)
    failure = heard.failure("large")
    assert type(failure) is errors.SubmissionRefused
    assert said.rstrip(".") in str(failure)


# --- jobs that are held ------------------------------------------------------------------------


def test_a_job_that_kueue_holds_says_why_until_it_is_admitted(
    server: NamespaceServer, watch: PodWatch, heard: Heard
) -> None:
    said = "couldn't assign flavors to pod set main: insufficient unused quota for cpu"
    about = {"kind": "Workload", "name": "job-held-1f2e3"}
    server.events = [{"involvedObject": about, "reason": "Pending", "message": said}]
    server.jobs.add("held")
    server.suspended.add("held")
    watch.expect("held")
    watch.made("held", {"spec": {"suspend": True}})
    assert heard.all[-1].held
    watch.start()
    wait_for(lambda: heard.all[-1].reason == f"Suspended: {said}")
    assert heard.all[-1].held
    assert heard.all[-1].phase is PodPhase.PENDING
    server.suspended.clear()
    wait_for(lambda: not heard.all[-1].held)
    server.put(pod("held", RUNS))
    heard.wait("held", PodPhase.RUNNING)


def test_a_job_that_is_refused_after_it_was_waited_for_is_told(
    server: NamespaceServer, watch: PodWatch, heard: Heard
) -> None:
    make_no_pod(server, watch, "Internal error occurred: failed calling webhook: timed out")
    heard.wait("large", PodPhase.PENDING)
    said = 'admission webhook "v.gatekeeper.sh" denied the request: no owner'
    server.events = [{"involvedObject": {"name": "large"}, "message": said}]
    assert said in str(heard.failure("large"))
