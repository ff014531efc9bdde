"""Why a pod ended, or is about to end, by what the API server says of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from clustrix_prefect.errors import (
    InfrastructureError,
    JobLost,
    NodeFailure,
    OutOfDisk,
    OutOfMemory,
    PodDeleted,
    PodEvicted,
    Preempted,
    TimeLimitExceeded,
    WorkerFailed,
    WorkerNotStarted,
)
from clustrix_prefect.kubernetes.pods import CONTAINER, END_VOLUME

_RUN_AGAIN = "Run the flow again."
# The kubelet's words for limits of the pod's own, which another node would hold it to as well:
# "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi",
# "Container calls exceeded its local ephemeral storage limit", "Usage of EmptyDir volume ...".
_STORAGE = re.compile(r"exceed(s|ed) .*(total limit|storage limit|the limit)", re.I)
# Written by the kubelet into the pod, by the node's shutdown, and by whoever drains it.
_EVICTED = {"Evicted", "Shutdown", "Terminated", "NodeShutdown"}
_NODE_LOST = {"NodeLost", "NodeAffinity", "UnexpectedAdmissionError"}
# Conditions `DisruptionTarget`, from Kubernetes 1.26 on.
_DISRUPTIONS: dict[str, type[InfrastructureError]] = {
    "PreemptionByScheduler": Preempted,
    "PreemptionByKubeScheduler": Preempted,
    "DeletionByTaintManager": NodeFailure,
    "DeletionByPodGC": NodeFailure,
    "EvictionByEvictionAPI": PodEvicted,
    "TerminationByKubelet": PodEvicted,
}
# What is reported of pods that are taken away, before Kubernetes 1.26 the only trace of why.
_TAKEN_AWAY: dict[str, type[InfrastructureError]] = {
    "TaintManagerEviction": NodeFailure,
    "NodeNotReady": NodeFailure,
    "Preempted": Preempted,
    "Evicted": PodEvicted,
    "ScaleDown": PodEvicted,
}


def ending(pod: dict[str, Any], job: str) -> InfrastructureError | None:
    """Return why a pod ends; None if it does not.

    Args:
        pod: As the API server gives it.
        job: The name of its job.
    """
    status = pod.get("status", {})
    reason, said = status.get("reason", ""), status.get("message", "")
    facts: dict[str, Any] = {"job_id": job, "node": pod["spec"].get("nodeName")}
    deleting = "deletionTimestamp" in pod["metadata"]
    over = status.get("phase") in ("Failed", "Succeeded")
    ended = [state for state in _terminated(pod, over) if _is_trouble(state)]
    if ended:
        facts["exit_code"] = ended[0].get("exitCode")
    if reason == "DeadlineExceeded":
        return TimeLimitExceeded(
            "The pod ran into its deadline.",
            'Ask for more with resources(time="HH:MM:SS"), or split the work.',
            **facts,
        )
    if reason in _EVICTED and f'EmptyDir volume "{END_VOLUME}"' in said:
        return _nobody_came(facts)
    if _STORAGE.search(said) and reason in _EVICTED:
        full = OutOfDisk(
            f"The pod wrote more than it may ({_joined(reason, said)}).",
            "Raise the block's `ephemeral_storage` (or a volume's `sizeLimit`), or write less.",
            **facts,
        )
        full.requeue = False  # type: ignore[misc]  # it would write as much again
        return full
    if reason in _EVICTED:
        return PodEvicted(
            f"The node put the pod out ({_joined(reason, said)}).", _RUN_AGAIN, **facts
        )
    if reason == "Preempting":
        return Preempted("The pod had to make room for another.", _RUN_AGAIN, **facts)
    if over and (reason in _NODE_LOST or reason.startswith("OutOf")):
        what = f"The node would not have the pod ({_joined(reason, said)})."
        return NodeFailure(what, _RUN_AGAIN, **facts)
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            why = condition.get("reason", "")
            kind = _DISRUPTIONS.get(why, PodEvicted)
            return _taken_away(kind, why, condition.get("message", ""), **facts)
    for state in ended:
        if state.get("reason") == "OOMKilled":
            return OutOfMemory(
                "The pod used more memory than it asked for.",
                'Ask for more with resources(memory="16GB"), or work on less at once.',
                **facts,
            )
    if deleting:
        return _deletion(status, facts)
    return _own_end(ended, facts) if ended or over else None


def deleted(job: str, node: str | None = None) -> PodDeleted:
    """Somebody deleted a pod."""
    return PodDeleted(
        "Somebody deleted the pod, or the job that it belongs to.",
        "Ask who did, then run the flow again.",
        job_id=job,
        node=node,
    )


def ending_by_events(
    events: Sequence[dict[str, Any]], job: str, node: str | None
) -> InfrastructureError | None:
    """Return why a pod that is gone had to go; None if nothing was reported of it.

    Args:
        events: What was reported of it, as the API server gives it.
        job: The name of its job.
        node: Where it was.
    """
    for event in reversed(events):
        why = event.get("reason", "")
        kind = _TAKEN_AWAY.get(why)
        if kind is not None:
            return _taken_away(kind, why, str(event.get("message", "")), job_id=job, node=node)
    return None


def deleted_or_evicted(job: str, node: str | None) -> PodEvicted:
    """A pod went whose job is still there: its controller would make another one."""
    return PodEvicted(
        "The pod was evicted, or somebody deleted it; its job is still there.",
        _RUN_AGAIN,
        job_id=job,
        node=node,
    )


def _taken_away(
    kind: type[InfrastructureError], why: str, said: str, **facts: Any
) -> InfrastructureError:
    return kind(f"The cluster took the pod away ({_joined(why, said)}).", _RUN_AGAIN, **facts)


def _deletion(status: dict[str, Any], facts: dict[str, Any]) -> InfrastructureError:
    """A deletion that says no more: by whoever looks after nodes that are gone, or by somebody."""
    ready = {one["type"]: one["status"] for one in status.get("conditions") or ()}.get("Ready")
    runs = any(
        (one.get("state") or {}).get("running") for one in status.get("containerStatuses") or ()
    )
    # The node's last word is that the container runs; that it is not ready was said for the node.
    if runs and ready in ("False", "Unknown"):
        return NodeFailure("The node of the pod does not answer any more.", _RUN_AGAIN, **facts)
    return deleted(facts["job_id"], facts["node"])


def _own_end(ended: list[dict[str, Any]], facts: dict[str, Any]) -> InfrastructureError:
    state = ended[0] if ended else {}
    code, reason, said = state.get("exitCode", 0), state.get("reason", ""), state.get("message", "")
    if code == 0:
        return _nobody_came(facts)
    if reason in ("StartError", "ContainerCannotRun") or code in (126, 127):
        return WorkerNotStarted(
            f"The container could not be started ({_joined(reason, said)}).",
            "The image needs a /bin/sh, and a Python 3.6 or newer on its PATH or where the block's"
            " `python` says.",
            **facts,
        )
    if code == 128 + signal.SIGKILL:
        what = "The pod's main process was killed (SIGKILL)."
    else:
        what = f"The pod's main process ended ({_joined(reason, said)})."
    return WorkerFailed(what, "Look at the pod's log and at its node.", **facts)


def _nobody_came(facts: dict[str, Any]) -> InfrastructureError:
    return JobLost(
        "The pod ended by itself, because nobody came for longer than it waits.",
        "Raise `start_timeout` or `ttl_after_finished` if the flow was away for long.",
        **facts,
    )


def our_container(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the container that we put there; others may have been put before it."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == CONTAINER), {})


def _terminated(pod: dict[str, Any], over: bool) -> Iterator[dict[str, Any]]:
    """Yield how containers ended: ours, and once the pod is over those beside it and before it."""
    ours, status = our_container(pod), pod.get("status", {})
    if state := (ours.get("state") or {}).get("terminated"):
        yield state
    for kind in ("containerStatuses", "initContainerStatuses") if over else ():
        for one in status.get(kind) or ():
            state = (one.get("state") or {}).get("terminated")
            # Containers that come before ours are meant to end.
            meant = kind == "initContainerStatuses" and state and state.get("exitCode") == 0
            if state and one is not ours and not meant:
                yield state


def _is_trouble(state: dict[str, Any]) -> bool:
    # An image whose program ended well after another process was killed is called this, too.
    return state.get("reason") != "OOMKilled" or state.get("exitCode") != 0


def _joined(reason: str, message: str) -> str:
    return ": ".join(part for part in (reason, message.strip().rstrip(".")) if part)
