"""The job that is made of what a call needs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.kubernetes.pods import PodSettings, job_manifest, label_value
from clustrix_prefect.task_resources import Resources


def manifest(settings: PodSettings | None = None, calls: int = 10, **wanted: Any) -> dict[str, Any]:
    return job_manifest(
        settings or PodSettings(image="python:3.11-slim"),
        Resources.of(**wanted),
        name="j",
        labels={"prefect.io/flow-run-name": "a flow/run!"},
        calls=calls,
    )


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def test_requests_and_limits_are_what_was_asked_for() -> None:
    given = pod(manifest(cores=4, memory="2GB", gpus=1))["containers"][0]["resources"]
    assert given["requests"] == given["limits"]
    assert given["limits"] == {"cpu": "4", "memory": str(2 * 1024**3), "nvidia.com/gpu": "1"}


def test_requests_may_be_less_than_limits() -> None:
    settings = PodSettings(image="i", requests={"cpu": "500m"}, ephemeral_storage="20Gi")
    given = pod(manifest(settings, cores=4, memory="2GB"))["containers"][0]["resources"]
    limits = {"cpu": "4", "memory": str(2 * 1024**3), "ephemeral-storage": "20Gi"}
    assert given == {"limits": limits, "requests": {**limits, "cpu": "500m"}}


def test_a_restricted_pod_is_what_pod_security_wants() -> None:
    made = pod(manifest(PodSettings(image="i", restricted=True)))
    (container,) = made["containers"]
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    assert made["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert all(set(one) - {"name"} == {"emptyDir"} for one in made["volumes"])
    variables = {one["name"]: one["value"] for one in container["env"]}
    paths = {one["mountPath"] for one in container["volumeMounts"]}
    assert {variables["HOME"], variables["TMPDIR"], container["workingDir"]} <= paths
    assert variables["USER"] == variables["LOGNAME"]


@pytest.mark.parametrize(("claim", "volumes"), [(None, {"work"}), ("shared", None)])
def test_what_a_restricted_pod_writes_is_in_its_work_volume_unless_pods_share_that(
    claim: str | None, volumes: set[str] | None
) -> None:
    made = pod(manifest(PodSettings(image="i", restricted=True, work_volume_claim=claim)))
    (container,) = made["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    mounts = [
        one
        for one in container["volumeMounts"]
        if one["mountPath"] in (variables["HOME"], variables["TMPDIR"])
    ]
    assert len(mounts) == 2
    of_the_pod = {one["name"] for one in made["volumes"] if "emptyDir" in one}
    assert {one["name"] for one in mounts} <= (volumes or of_the_pod)
    assert len({(one["name"], one.get("subPath")) for one in mounts}) == 2


def test_a_restricted_pod_keeps_what_the_block_says() -> None:
    own = {
        "env": [{"name": "HOME", "value": "/data"}],
        "volumeMounts": [{"name": "data", "mountPath": "/tmp"}],
    }
    settings = PodSettings(image="i", restricted=True, run_as_user=1000, container=own)
    made = pod(manifest(settings))
    (container,) = made["containers"]
    homes = [one["value"] for one in container["env"] if one["name"] == "HOME"]
    assert homes == ["/data"]
    assert [one["name"] for one in container["volumeMounts"] if one["mountPath"] == "/tmp"] == [
        "data"
    ]
    assert made["securityContext"]["runAsUser"] == made["securityContext"]["fsGroup"] == 1000


def test_holding_results_does_not_count_against_the_time() -> None:
    settings = PodSettings(image="i", start_timeout=5, result_hold=7)
    limited = manifest(settings, calls=3, time=60)["spec"]
    assert limited["template"]["spec"]["activeDeadlineSeconds"] == 5 + 180 + 7
    assert "activeDeadlineSeconds" not in limited  # which would count the wait for a node
    assert "activeDeadlineSeconds" not in manifest()["spec"]["template"]["spec"]


def test_labels_are_made_fit() -> None:
    labels = manifest()["metadata"]["labels"]
    assert labels["prefect.io/flow-run-name"] == "a-flow-run"
    assert labels["app.kubernetes.io/managed-by"] == "clustrix-prefect"
    assert len(label_value("x" * 80)) == 63


def test_a_template_adds_to_the_container_and_overrides() -> None:
    template = {
        "spec": {
            "securityContext": {"runAsUser": 1000},
            "terminationGracePeriodSeconds": 9,
            "containers": [{"name": "calls", "imagePullPolicy": "Always"}, {"name": "side"}],
        }
    }
    made = pod(manifest(PodSettings(image="i", template=template)))
    calls, side = made["containers"]
    assert (calls["image"], calls["imagePullPolicy"], side) == ("i", "Always", {"name": "side"})
    assert made["terminationGracePeriodSeconds"] == 9
    assert made["securityContext"] == {"runAsUser": 1000}
    json.dumps(made)


@pytest.mark.parametrize("wanted", [{"nodes": 2}, {"partition": "short"}, {"gpus": "a100:1"}])
def test_what_kubernetes_has_no_words_for_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidResources, match=next(iter(wanted))):
        manifest(**wanted)
