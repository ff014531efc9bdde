"""Pods that have more containers than ours, which know no end."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clustrix_prefect import KubernetesCluster
from clustrix_prefect.kubernetes.leftovers import remove_leftovers
from clustrix_prefect.task_resources import Resources
from tests.dispatch import gated_flow
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import marks, wait_for_marks
from tests.dispatch.test_kubernetes import pod_names, wait_until_empty
from tests.live.daemon import wait_until

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

# The node looks every 10 s how much volumes hold (kubelet: `localStorageEviction`).
_EVICTED_SECONDS = 120.0


def sidecar(image: str) -> dict[str, Any]:
    """A container that never ends, whatever it is told."""
    waits = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99999)"
    return {"name": "proxy", "image": image, "command": ["python3", "-c", waits]}


def job_of(cluster: KubernetesCluster, name: str) -> dict[str, Any]:
    """A job whose pod nobody comes to, and its pod's specification."""
    return cluster.model_copy(update={"start_timeout": 1, "ttl_after_finished": 1}).job_manifest(
        name, Resources(), {}
    )


def test_a_pod_that_nobody_needs_ends_with_its_sidecars(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes
) -> None:
    names = {"behind", "before", "shared"}
    with closing(on_kubernetes.api()) as api:
        for name in names:
            job = job_of(on_kubernetes, name)
            pod = job["spec"]["template"]["spec"]
            added = sidecar(on_kubernetes.image)
            pod["containers"].insert(0 if name == "before" else 1, added)
            pod["shareProcessNamespace"] = name == "shared"
            api.create_job(job)
    wait_until_empty(kubernetes, on_kubernetes.namespace, within=_EVICTED_SECONDS)


def test_a_pod_whose_first_process_was_killed_is_removed_by_who_comes_next(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes
) -> None:
    template = {
        "spec": {
            "containers": [
                {"name": "calls", "command": ["sh", "-c", "exit 137"]},
                sidecar(on_kubernetes.image),
            ]
        }
    }
    cluster = on_kubernetes.model_copy(update={"pod_template": template})
    with closing(cluster.api()) as api:
        api.create_job(job_of(cluster, "killed"))

        def removed() -> bool:
            remove_leftovers(api)
            return not kubernetes.objects(cluster.namespace)

        wait_until(removed, 60)


@pytest.mark.every
def test_a_flow_that_was_killed_leaves_nothing_where_pods_have_a_sidecar(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, far_dir: Path, tmp_path: Path
) -> None:
    cluster = on_kubernetes.model_copy(
        update={
            "pod_template": {"spec": {"containers": [sidecar(on_kubernetes.image)]}},
            "ttl_after_finished": 2,
        }
    )
    (far_dir / "gates").mkdir()
    flow = FlowProcess(gated_flow, cluster, tmp_path / "log", far_dir, 3)
    try:
        wait_for_marks(far_dir, 3)
    finally:
        flow.process.kill()
        flow.process.wait()
    assert len(pod_names(kubernetes, cluster.namespace)) == 3
    for gate in ("early", "late"):
        (far_dir / "gates" / gate).touch()
    wait_until_empty(kubernetes, cluster.namespace, within=_EVICTED_SECONDS)
    assert marks(far_dir) == {f"call-{n}": 1 for n in range(3)}
