"""What the API server's picture of a pod means: how far it is, what it waits for, why it ended.

Pure: pictures (the API's JSON as dictionaries) come in, a `PodStatus` comes out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from clustrix_prefect.errors import (
    ClustrixError,
    ImagePullFailed,
    InfrastructureError,
    Unschedulable,
    WorkerNotStarted,
)
from clustrix_prefect.kubernetes.endings import ending, our_container
from clustrix_prefect.kubernetes.passing import pull_passes, start_passes

_NOT_PULLED = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_NOT_STARTED = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
}


class PodPhase(enum.Enum):
    """How far a pod is, reduced to what we act on."""

    PENDING = "pending"
    # Its container runs, so that programs can be started in it.
    RUNNING = "running"
    # It has ended, or will never run, or is about to end: `PodStatus.failure` says why.
    ENDED = "ended"


@dataclass(frozen=True)
class PodStatus:
    """What is known of a job's only pod.

    Attributes:
        job: The job's name.
        pod: The pod's name, or None while there is no pod.
        phase: How far it is.
        reason: For people: what a pod that waits waits for ("Unschedulable: 0/3 nodes are
            available ..."), or what became of one that ended.
        node: The node that it was put on.
        exit_code: Of its container, once that has ended.
        failure: Why it ended or will never run; set exactly if the phase is ENDED. A pod of ours
            does not end by itself while it is needed, so every end is a failure. Its job is
            still to be deleted.
        stuck: What to fail its calls with if it still waits like this when patience ends.
        held: Whether its job is suspended, as by a queue that has yet to admit it. How long a pod
            may take to start is counted from when it no longer is.
    """

    job: str
    pod: str | None = None
    phase: PodPhase = PodPhase.PENDING
    reason: str = ""
    node: str | None = None
    exit_code: int | None = None
    failure: ClustrixError | None = field(default=None, compare=False)
    stuck: InfrastructureError | None = field(default=None, compare=False)
    held: bool = False

    def late(self, seconds: int) -> InfrastructureError:
        """Return what to fail its calls with once it has waited for as long as it may."""
        return self.stuck or WorkerNotStarted(
            f"The pod has not started for {seconds} s ({self.reason}).",
            "Raise the block's `start_timeout` if that is not long.",
            job_id=self.job,
            node=self.node,
        )

    def ended(self, failure: ClustrixError) -> PodStatus:
        """Return the same pod, whose end has this cause."""
        code = failure.exit_code if isinstance(failure, InfrastructureError) else None
        return replace(
            self,
            phase=PodPhase.ENDED,
            reason=failure.what,
            exit_code=code,
            failure=failure,
            stuck=None,
            held=False,
        )


def job_of(pod: dict[str, Any]) -> str:
    """Return the name of the job that a pod belongs to; empty if it belongs to none."""
    metadata = pod["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] == "Job":
            return str(owner["name"])
    return str((metadata.get("labels") or {}).get("job-name", ""))


def read_pod(pod: dict[str, Any], previous: PodStatus | None = None) -> PodStatus:
    """Return what a pod's JSON says.

    Args:
        pod: As the API server gives it.
        previous: What was known of it before.
    """
    node = pod["spec"].get("nodeName")
    status = PodStatus(
        job=job_of(pod),
        pod=pod["metadata"]["name"],
        node=node,
    )
    failure = ending(pod, status.job)
    if failure is not None:
        return status.ended(failure)
    if our_container(pod).get("state", {}).get("running"):
        return replace(status, phase=PodPhase.RUNNING)
    for waiting in _waiting(pod):
        status = _read_waiting(status, waiting, previous)
        if status.reason:
            return status
    if node is None:
        return _read_unplaced(status, pod)
    return replace(status, reason="ContainerCreating")


def _waiting(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return what each container waits for; a trouble goes before a mere wait."""
    status = pod.get("status", {})
    found = [
        one["state"]["waiting"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in status.get(kind) or ()
        if (one.get("state") or {}).get("waiting")
    ]
    plain = {"", "ContainerCreating", "PodInitializing"}
    return iter(sorted(found, key=lambda waiting: waiting.get("reason", "") in plain))


def _read_waiting(
    status: PodStatus, waiting: dict[str, Any], previous: PodStatus | None
) -> PodStatus:
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    text = f"{reason}: {message}" if message else reason
    where: dict[str, Any] = {"job_id": status.job, "node": status.node}
    if reason in _NOT_STARTED:
        failure = WorkerNotStarted(
            f"The container cannot be started ({text}).", _remedy_of_start(message), **where
        )
        if not start_passes(message):
            return status.ended(failure)
        return replace(status, reason=text, stuck=failure)
    before = previous.reason if previous else ""
    if reason == "ImagePullBackOff" and before.startswith(("ErrImagePull", reason)):
        # What was said before says why; this says only that it waits.
        text = f"{reason}: {before.partition(': ')[2]}"
    if reason in _NOT_PULLED:
        missing = ImagePullFailed(
            f"The image cannot be pulled ({text}).",
            "Check the block's `image`, `image_pull_secrets` and `image_pull_policy`.",
            **where,
        )
        if not pull_passes(reason, text):
            return status.ended(missing)
        return replace(status, reason=text, stuck=missing)
    return replace(status, reason=text)


def _remedy_of_start(said: str) -> str:
    if "runAsNonRoot" in said or "non-root" in said:
        return (
            "Take an image that has a user of its own, or name one in the block: run_as_user=1000."
        )
    return "Create what it names, or take it out of the block."


def _read_unplaced(status: PodStatus, pod: dict[str, Any]) -> PodStatus:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason, message = condition.get("reason", ""), condition.get("message", "")
            text = f"{reason}: {message}" if message else reason
            stuck = Unschedulable(
                f"No node takes the pod ({text}).",
                "Ask for less with resources(...), or change the block's `node_selector` or"
                " `tolerations`.",
                job_id=status.job,
            )
            return replace(status, reason=text, stuck=stuck)
    return replace(status, reason="waiting for the scheduler")
