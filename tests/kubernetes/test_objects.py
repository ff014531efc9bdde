"""Every object that the blocks can make is valid for every Kubernetes from 1.25 on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from clustrix_prefect import KubernetesCluster
from clustrix_prefect.kubernetes.pods import FLOW_RUN_LABEL
from clustrix_prefect.task_resources import Resources

_SCHEMAS = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")
MINORS = sorted(
    {
        int(found[1])
        for path in _SCHEMAS.iterdir()
        if (found := re.match(r"v1\.(\d+)\.", path.name)) and int(found[1]) >= 25
    }
)

BLOCKS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "every field": {
        "python": "/opt/python",
        "environment": {"A": "b"},
        "service_account": "runner",
        "image_pull_secrets": ["registry"],
        "image_pull_policy": "Always",
        "node_selector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "labels": {"team": "x"},
        "annotations": {"note": "y"},
        "env_from": [{"secretRef": {"name": "tokens"}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        "work_volume_claim": "work",
        "ttl_after_finished": 0,
    },
    "restricted": {
        "security": "restricted",
        "run_as_user": 1000,
        "requests": {"cpu": "500m"},
        "ephemeral_storage": "20Gi",
        "labels": {"kueue.x-k8s.io/queue-name": "team"},
    },
    "a sidecar": {
        "pod_template": {
            "metadata": {"annotations": {"sidecar.istio.io/inject": "true"}},
            "spec": {"containers": [{"name": "proxy", "image": "i"}], "priorityClassName": "low"},
        }
    },
}
CALLS: list[dict[str, Any]] = [
    {},
    {"cores": 4, "memory": "2GB", "gpus": 2, "time": "01:00:00", "calls_per_job": 3},
]


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("block", BLOCKS)
def test_jobs(block: str, minor: int) -> None:
    cluster = KubernetesCluster(**BLOCKS[block])
    cluster.check_fields()
    for wanted in CALLS:
        labels = {FLOW_RUN_LABEL: "0123", "prefect.io/flow-run-name": "a flow"}
        job = cluster.job_manifest("clustrix-0123-4567", Resources.of(**wanted), labels)
        kubernetes_validate.validate(job, f"1.{minor}", strict=True)


def test_the_schemas_refuse_what_is_not_there() -> None:
    assert list(range(25, MINORS[-1] + 1)) == MINORS
    job = KubernetesCluster().job_manifest("j", Resources(), {})
    job["spec"]["template"]["spec"]["nodeSelecter"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelecter"):
        kubernetes_validate.validate(job, f"1.{MINORS[-1]}", strict=True)
