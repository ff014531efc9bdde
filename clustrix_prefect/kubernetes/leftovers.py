"""Jobs of ours that are over, but whose pod another container keeps from ending."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from clustrix_prefect.kubernetes.api import KubernetesApi
from clustrix_prefect.kubernetes.endings import our_container
from clustrix_prefect.kubernetes.pods import MANAGED_BY
from clustrix_prefect.kubernetes.status import job_of


def remove_leftovers(api: KubernetesApi) -> None:
    """Delete jobs of ours whose container ended longer ago than ended jobs are to stay.

    The keeper has the node end its pod, with every sidecar. A container that was killed as a whole
    (for want of memory, from Kubernetes 1.28 on) has no keeper any more, so whoever comes next
    does for its job what the cluster would do for one that has ended.

    Raises:
        ClustrixError: The API server cannot be reached, or refuses us.
    """
    active = {
        job["metadata"]["name"]: float(job["spec"].get("ttlSecondsAfterFinished", 0))
        for job in api.list_jobs(MANAGED_BY)
        if job.get("status", {}).get("active")
    }
    if not active:
        return
    now = datetime.now(timezone.utc).timestamp()
    for pod in api.list_pods(MANAGED_BY)[0]:
        job = job_of(pod)
        if job in active and _ended_at(pod, default=now) + active[job] < now:
            api.delete_job(job)


def _ended_at(pod: dict[str, Any], default: float) -> float:
    """Return when our container ended, seconds since the epoch."""
    ended = (our_container(pod).get("state") or {}).get("terminated") or {}
    finished = ended.get("finishedAt")
    return (
        datetime.fromisoformat(finished.replace("Z", "+00:00")).timestamp() if finished else default
    )
