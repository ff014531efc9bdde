"""What a pod's JSON means. The texts are what kubelets and schedulers of 1.20 to 1.30 write."""

from typing import Any

import pytest

from clustrix_prefect import errors
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus, read_pod

NODE_GONE = {"type": "Ready", "status": "False"}
RUNNING = {"running": {"startedAt": "2024-05-01T10:00:00Z"}}


def make_pod(
    *,
    state: dict[str, Any] | None = None,
    node: str | None = "node1",
    deleted: bool = False,
    conditions: tuple[dict[str, Any], ...] = (),
    sidecar: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": "fit-1-x7k2p",
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "fit-1"}],
    }
    if deleted:
        metadata |= {"deletionTimestamp": "2024-05-01T10:00:02Z", "deletionGracePeriodSeconds": 2}
    spec: dict[str, Any] = {"containers": [{"name": "calls"}, {"name": "proxy"}]}
    if node:
        spec["nodeName"] = node
    containers = [("proxy", sidecar), ("calls", state)]
    status["containerStatuses"] = [{"name": name, "state": one} for name, one in containers if one]
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"conditions": list(conditions), **status},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def terminated(reason: str, code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": code, "message": message}}


def unscheduled(message: str) -> dict[str, Any]:
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }


def disrupted(reason: str) -> dict[str, Any]:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}


def test_a_pod_without_a_node_tells_the_schedulers_reason() -> None:
    message = "0/3 nodes are available: 3 Insufficient cpu."
    status = read_pod(make_pod(node=None, phase="Pending", conditions=(unscheduled(message),)))
    assert status.phase is PodPhase.PENDING
    assert status.reason == f"Unschedulable: {message}"
    assert isinstance(status.stuck, errors.Unschedulable)
    assert message in str(status.stuck)
    assert status.stuck.job_id == "fit-1"


def test_a_pod_that_is_placed_is_no_longer_stuck() -> None:
    status = read_pod(make_pod(state=waiting("ContainerCreating"), phase="Pending"))
    assert (status.phase, status.reason, status.node, status.stuck) == (
        PodPhase.PENDING,
        "ContainerCreating",
        "node1",
        None,
    )


def test_only_our_container_makes_a_pod_run() -> None:
    beside = make_pod(state=waiting("ContainerCreating"), sidecar=RUNNING, phase="Pending")
    assert read_pod(beside).phase is PodPhase.PENDING
    assert read_pod(make_pod(state=RUNNING, phase="Running")).phase is PodPhase.RUNNING


def test_a_pod_of_another_field_is_the_same_status() -> None:
    pod = make_pod(state=RUNNING, phase="Running")
    first = read_pod(pod)
    pod["metadata"]["resourceVersion"] = "77"
    assert read_pod(pod, first) == first


@pytest.mark.parametrize(
    "state",
    [
        waiting("ErrImagePull", 'rpc error: failed to resolve "x:1": docker.io/x:1: not found'),
        waiting("InvalidImageName", "couldn't parse image reference"),
        waiting(
            "ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'
        ),
    ],
    ids=lambda state: state["waiting"]["reason"],
)
def test_an_image_that_will_never_come_fails_at_once(state: dict[str, Any]) -> None:
    status = read_pod(make_pod(state=state, phase="Pending"))
    assert status.phase is PodPhase.ENDED
    assert isinstance(status.failure, errors.ImagePullFailed)
    assert state["waiting"]["message"] in str(status.failure)


@pytest.mark.parametrize(
    "said",
    [
        "dial tcp 10.0.0.1:443: connect: connection refused",
        "unexpected status code 503 Service Unavailable",
        'failed to do request: Head "https://r/v2/x": net/http: TLS handshake timeout',
        "toomanyrequests: You have reached your pull rate limit",
    ],
)
def test_a_registry_that_is_away_is_waited_for(said: str) -> None:
    refused = waiting("ErrImagePull", said)
    back_off = waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')
    status: PodStatus | None = None
    for state in (refused, refused, back_off, back_off, refused):
        status = read_pod(make_pod(state=state, phase="Pending"), status)
        assert status.phase is PodPhase.PENDING
        assert said in status.reason
        assert isinstance(status.late(600), errors.ImagePullFailed)
        assert said in str(status.late(600))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("CreateContainerError", "context deadline exceeded"),
        ("RunContainerError", 'failed to reserve container name "calls_x": name is reserved for'),
        ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting"),
    ],
)
def test_a_node_that_stutters_is_waited_for(reason: str, said: str) -> None:
    status = read_pod(make_pod(state=waiting(reason, said), phase="Pending"))
    assert status.phase is PodPhase.PENDING
    assert said in status.reason
    assert isinstance(status.late(600), errors.WorkerNotStarted)


def test_an_image_of_roots_where_root_may_not_run_has_its_own_remedy() -> None:
    said = "container has runAsNonRoot and image will run as root"
    status = read_pod(make_pod(state=waiting("CreateContainerConfigError", said)))
    assert status.failure is not None
    assert "run_as_user=1000" in status.failure.remedy


def test_our_container_is_found_behind_one_that_was_put_before_it() -> None:
    pod = make_pod(state=waiting("ErrImagePull", "x: not found"), sidecar=RUNNING, phase="Pending")
    pod["spec"]["containers"].reverse()
    assert isinstance(read_pod(pod).failure, errors.ImagePullFailed)


ENDINGS = {
    "out of memory": (
        make_pod(state=terminated("OOMKilled", 137), phase="Failed"),
        errors.OutOfMemory,
    ),
    "evicted": (
        make_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        errors.PodEvicted,
    ),
    "wrote more than its own limit": (
        make_pod(
            phase="Failed",
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers 10Mi.",
        ),
        errors.OutOfDisk,
    ),
    "ended by its keeper, beside a sidecar": (
        make_pod(
            state=terminated("Completed", 0),
            sidecar=terminated("Error", 137),
            phase="Failed",
            reason="Evicted",
            message='Usage of EmptyDir volume "clustrix-end" exceeds the limit "1Mi". ',
        ),
        errors.JobLost,
    ),
    "evicted by its API": (
        make_pod(state=RUNNING, deleted=True, conditions=(disrupted("EvictionByEvictionAPI"),)),
        errors.PodEvicted,
    ),
    "preempted": (
        make_pod(state=RUNNING, deleted=True, conditions=(disrupted("PreemptionByScheduler"),)),
        errors.Preempted,
    ),
    "node's taint": (
        make_pod(state=RUNNING, deleted=True, conditions=(disrupted("DeletionByTaintManager"),)),
        errors.NodeFailure,
    ),
    "node lost": (
        make_pod(state=RUNNING, deleted=True, conditions=(NODE_GONE,)),
        errors.NodeFailure,
    ),
    "deadline": (make_pod(phase="Failed", reason="DeadlineExceeded"), errors.TimeLimitExceeded),
    "no room after all": (make_pod(phase="Failed", reason="OutOfcpu"), errors.NodeFailure),
    "deleted": (make_pod(state=RUNNING, deleted=True), errors.PodDeleted),
    "deleted, already ended": (
        make_pod(state=terminated("Completed", 0), deleted=True, phase="Succeeded"),
        errors.PodDeleted,
    ),
    "nobody came": (
        make_pod(state=terminated("Completed", 0), phase="Succeeded"),
        errors.JobLost,
    ),
    "nobody came after a worker was killed": (
        make_pod(state=terminated("OOMKilled", 0), phase="Succeeded"),
        errors.JobLost,
    ),
    "no python": (
        make_pod(state=terminated("StartError", 128, 'exec: "python": not found'), phase="Failed"),
        errors.WorkerNotStarted,
    ),
    "no such secret": (
        make_pod(state=waiting("CreateContainerConfigError", 'secret "s" not found')),
        errors.WorkerNotStarted,
    ),
    "killed": (make_pod(state=terminated("Error", 137), phase="Failed"), errors.WorkerFailed),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_each_end_has_its_name(name: str) -> None:
    pod, kind = ENDINGS[name]
    status = read_pod(pod)
    assert status.phase is PodPhase.ENDED
    assert type(status.failure) is kind
    assert status.failure.job_id == "fit-1"
    assert status.failure.node == "node1"
    assert status.reason == status.failure.what


@pytest.mark.parametrize(
    "end", [terminated("Completed", 0), terminated("Error", 1), terminated("OOMKilled", 137)]
)
def test_a_container_beside_ours_may_end(end: dict[str, Any]) -> None:
    assert read_pod(make_pod(state=RUNNING, sidecar=end, phase="Running")).phase is PodPhase.RUNNING


def test_what_our_own_container_ended_with_counts_most() -> None:
    ended = make_pod(
        state=terminated("OOMKilled", 137), sidecar=terminated("Error", 1), phase="Failed"
    )
    assert type(read_pod(ended).failure) is errors.OutOfMemory
    beside = make_pod(sidecar=terminated("Error", 3), phase="Failed")
    assert read_pod(beside).exit_code == 3


def test_evictions_and_lost_nodes_are_submitted_again_and_deletions_are_not() -> None:
    failures = {name: read_pod(pod).failure for name, (pod, _) in ENDINGS.items()}
    again = {name: getattr(failure, "requeue", False) for name, failure in failures.items()}
    assert again["evicted"]
    assert again["node lost"]
    assert not again["deleted"]
    assert not again["out of memory"]
    assert not again["wrote more than its own limit"]
