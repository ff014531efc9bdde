"""What a block says of pods is what runs, or is refused with what was probably meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from clustrix_prefect import KubernetesCluster
from clustrix_prefect.dispatch.places.pods import OpenedNamespace
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.kubernetes.fields import check_pod_template
from clustrix_prefect.kubernetes.pods import PodSettings, job_manifest
from clustrix_prefect.task_resources import Resources


def in_container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "calls", **fields}]}}


@pytest.mark.parametrize(
    ("template", "named", "meant"),
    [
        ({"nodeSelector": {"gpu": "a100"}}, "nodeSelector", "spec.nodeSelector"),
        ({"nodeSelectr": {}}, "nodeSelectr", "spec.nodeSelector"),
        ({"containers": []}, "containers", "spec.containers"),
        ({"spec": {"node_selector": {}}}, "spec.node_selector", "spec.nodeSelector"),
        ({"spec": {"nodeSelecter": None}}, "spec.nodeSelecter", "spec.nodeSelector"),
        ({"spec": {"image": "i"}}, "spec.image", "spec.containers[].image"),
        ({"metadata": {"anotations": {}}}, "metadata.anotations", "metadata.annotations"),
        (
            {"spec": {"securityContext": {"capabilities": {}}}},
            "spec.securityContext.capabilities",
            "spec.containers[].securityContext.capabilities",
        ),
        (
            {"spec": {"tolerations": [{"key": "a"}, {"op": "Exists"}]}},
            "spec.tolerations[1].op",
            "spec.tolerations[1].operator",
        ),
        (
            in_container(imagePullPolcy="Always"),
            "spec.containers[0].imagePullPolcy",
            "spec.containers[0].imagePullPolicy",
        ),
        (
            in_container(resources={"limit": {"cpu": 1}}),
            "spec.containers[0].resources.limit",
            "spec.containers[0].resources.limits",
        ),
        (
            in_container(lifecycle={"preStop": {"Exec": {}}}),
            "spec.containers[0].lifecycle.preStop.Exec",
            "spec.containers[0].lifecycle.preStop.exec",
        ),
    ],
)
def test_a_field_that_no_pod_has_is_named_with_what_was_meant(
    template: dict[str, Any], named: str, meant: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_pod_template(template, "T")
    assert caught.value.what == f"T: `{named}` is no field of Kubernetes."
    assert caught.value.remedy == f"Write `{meant}`."


def test_a_field_like_no_other_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="hostAliases, hostIPC"):
        check_pod_template({"spec": {"zzz": 1}}, "T")


@pytest.mark.parametrize(
    ("template", "within"),
    [
        ({"spec": {"template": {"spec": {"nodeSelector": {}}}}}, "spec.template"),
        ({"kind": "Deployment", "spec": {"template": {}}}, "spec.template"),
        ({"template": {"spec": {}}}, "template"),
        (
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {}}}}}},
            "spec.jobTemplate.spec.template",
        ),
    ],
)
def test_a_template_of_what_makes_pods_says_which_part_to_write(
    template: dict[str, Any], within: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"under `{within}` alone"):
        check_pod_template(template, "T")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"kind": "Pod", "apiVersion": "v1", "spec": {}}, "`apiVersion` and `kind`"),
        ({"spec": "x"}, "`spec` is not a mapping"),
        ({"spec": {"containers": {"name": "calls"}}}, "`spec.containers` is not a list"),
        (in_container(image={"name": "i"}), r"containers\[0\].image` is not a single value"),
    ],
)
def test_what_has_another_shape_is_refused(template: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_pod_template(template, "T")


def test_every_kind_of_field_that_there_is_passes() -> None:
    check_pod_template(
        {
            "metadata": {"labels": {"any.example.org/key": "x"}},
            "spec": {
                "nodeSelector": {"any.example.org/key": "x"},
                "overhead": {"cpu": 1},
                "priorityClassName": None,
                "volumes": [
                    {"name": "a", "csi": {"driver": "d", "volumeAttributes": {"any": "x"}}},
                    {"name": "b", "projected": {"sources": [{"secret": {"name": "s"}}]}},
                ],
                "containers": [
                    {
                        "name": "calls",
                        "livenessProbe": {"exec": {"command": ["a"]}, "periodSeconds": 5},
                        "ports": [{"containerPort": 80, "hostIP": "127.0.0.1"}],
                        "resources": {"limits": {"cpu": 1, "example.org/card": "1"}},
                    }
                ],
            },
        },
        "T",
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pod_template": {"spec": {"nodeSelecter": {}}}}, "Write `spec.nodeSelector`"),
        ({"tolerations": [{"keys": "a"}]}, r"`tolerations`: `\[0\].keys` .* Write `\[0\].key`"),
        ({"volumes": [{"name": "v", "pvc": {}}]}, r"`volumes`: `\[0\].pvc`"),
        ({"volume_mounts": [{"name": "v", "mountpath": "/v"}]}, r"Write `\[0\].mountPath`"),
        ({"env_from": [{"secret": {"name": "s"}}]}, r"Write `\[0\].secretRef`"),
        ({"pod_template": {"spec": {"containers": [{"image": "i"}]}}}, "ours is `calls`"),
        ({"pod_template": {"spec": {"containers": None}}}, "ours is `calls`"),
    ],
)
def test_a_block_is_refused_before_anything_is_made(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        KubernetesCluster(**fields).check_fields()


def test_a_flow_and_a_check_are_refused_before_anything_is_asked_for() -> None:
    nowhere = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        "clusters": [{"name": "s", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    cluster = KubernetesCluster(kubeconfig=json.dumps(nowhere), volumes=[{"nam": "v"}])
    for enter in (OpenedNamespace, KubernetesCluster.connect):
        with pytest.raises(ConfigurationError, match=r"Write `\[0\].name`"):
            enter(cluster)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ephemeral_storage": "20GB"}, "20GB"),
        ({"requests": {"memory": "1 GiB"}}, "1 GiB"),
        ({"security": "privileged"}, "restricted"),
        ({"run_as_user": -1}, "greater than or equal to 0"),
    ],
)
def test_what_kubernetes_would_not_take_is_no_block(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KubernetesCluster(**fields)


def test_mounts_are_told_apart_by_their_paths() -> None:
    mounts = [
        {"name": "data", "mountPath": "/in", "subPath": "in"},
        {"name": "data", "mountPath": "/out", "subPath": "out"},
        {"name": "work", "mountPath": "/scratch", "subPath": "scratch"},
    ]
    settings = PodSettings(image="i", template=in_container(volumeMounts=mounts))
    pod = job_manifest(settings, Resources(), name="j", labels={}, calls=1)["spec"]["template"]
    paths = [one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]]
    assert paths == ["/clustrix-prefect", "/clustrix-prefect-end", "/in", "/out", "/scratch"]
