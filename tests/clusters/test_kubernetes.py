"""The Kubernetes block: what it accepts, how it logs in, and the jobs that it describes."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from clustrix_prefect import KubernetesCluster, Resources
from clustrix_prefect.errors import ConfigurationError, InvalidResources
from clustrix_prefect.sessions.store import prune_store, store_usage

SECRET = "the-token-of-the-kubeconfig"
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
    "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in "ab"],
    "current-context": "a",
}


def job(cluster: KubernetesCluster, **wanted: Any) -> dict[str, Any]:
    return cluster.job_manifest("name", Resources.of(**wanted), {"clustrix-prefect/x": "y"})


def pod(cluster: KubernetesCluster, **wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = job(cluster, **wanted)["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("python:3.11-slim", (3, 11)),
        ("python:3.9", (3, 9)),
        ("python:3.12.1-alpine", (3, 12)),
        ("registry.example.org:5000/mirror/python:3.10-slim", (3, 10)),
        ("python", None),
        ("python:latest", None),
        ("pytorch/pytorch:2.4.0-cuda12", None),
        ("example/my-python:3.11", None),
    ],
)
def test_the_python_that_an_image_names(image: str, version: tuple[int, int] | None) -> None:
    assert KubernetesCluster(image=image).python_version_of_image() == version


def test_every_field_reaches_the_pod() -> None:
    cluster = KubernetesCluster(
        image="example/torch:2",
        service_account="runner",
        image_pull_secrets=["registry"],
        image_pull_policy="Always",
        node_selector={"gpu": "a100"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        labels={"team": "vision"},
        annotations={"note": "free text, of any kind"},
        environment={"OMP_NUM_THREADS": "2"},
        env_from=[{"secretRef": {"name": "tokens"}}],
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        volume_mounts=[{"name": "data", "mountPath": "/data"}],
        work_volume_claim="work",
        pod_template={
            "spec": {"priorityClassName": "batch", "containers": [{"name": "calls", "tty": True}]}
        },
        gpu_resource="amd.com/gpu",
        ttl_after_finished=77,
        default_resources={"cores": 2},
    )
    found = pod(cluster, cores=3, memory="2GB", gpus=1, time="00:01:00")
    (container,) = found["containers"]
    amounts = {"cpu": "3", "memory": str(2 * 1024**3), "amd.com/gpu": "1"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert container["image"] == "example/torch:2"
    assert container["imagePullPolicy"] == "Always"
    assert container["env"] == [{"name": "OMP_NUM_THREADS", "value": "2"}]
    assert container["envFrom"] == [{"secretRef": {"name": "tokens"}}]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert container["tty"] is True
    assert found["serviceAccountName"] == "runner"
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert found["nodeSelector"] == {"gpu": "a100"}
    assert {"key": "gpu", "operator": "Exists"} in found["tolerations"]
    assert found["priorityClassName"] == "batch"
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    assert volumes["work"]["persistentVolumeClaim"] == {"claimName": "work"}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "data"}
    # The client holds calls to their time; this ends a pod whose client is gone.
    assert found["activeDeadlineSeconds"] == 600 + 10 * 60 + 77
    described = job(cluster)
    for metadata in (described["metadata"], described["spec"]["template"]["metadata"]):
        assert metadata["labels"]["team"] == "vision"
        assert metadata["labels"]["clustrix-prefect/x"] == "y"
        assert metadata["annotations"] == {"note": "free text, of any kind"}
    assert described["spec"]["ttlSecondsAfterFinished"] == 77


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "Not A Name"},
        {"image": "two words"},
        {"image_pull_policy": "Sometimes"},
        {"calls_per_pod": 0},
        {"max_pods": 0},
        {"work_volume_claim": "../x"},
        {"credentials": "production"},
        {"kubeconfig_path": "/a", "kubeconfig": "b"},
        {"kubeconfig_path": "/a", "credentials": "kubernetes-credentials/b"},
    ],
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KubernetesCluster(**wrong)


@pytest.mark.parametrize("wanted", [{"partition": "gpu"}, {"nodes": 2}, {"gpus": "a100:2"}])
def test_resources_that_kubernetes_has_no_words_for(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidResources):
        KubernetesCluster().check_resources(Resources.of(**wanted))


def test_a_kubeconfig_in_the_block_stays_secret() -> None:
    cluster = KubernetesCluster(kubeconfig=json.dumps(KUBECONFIG), context="b")
    access = cluster.access()
    assert access.kubeconfig == KUBECONFIG
    assert access.context == "b"
    assert SECRET not in f"{cluster!r} {access!r} {cluster.identity} {job(cluster)}"


def test_a_kubeconfig_that_is_none() -> None:
    with pytest.raises(ConfigurationError) as caught:
        KubernetesCluster(kubeconfig=f"{{{SECRET}: [").access()
    assert "kubectl config view" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("prefect_server")
def test_a_credentials_block_of_prefect_kubernetes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from prefect_kubernetes.credentials import KubernetesClusterConfig, KubernetesCredentials

    config = KubernetesClusterConfig(config=yaml.safe_dump(KUBECONFIG), context_name="b")
    credentials = KubernetesCredentials(cluster_config=config)
    with pytest.raises(ValidationError, match="saved block"):
        KubernetesCluster(credentials=credentials)
    credentials.save("research", overwrite=True)
    cluster = KubernetesCluster(credentials=credentials)
    assert cluster.credentials == "kubernetes-credentials/research"
    access = cluster.access()
    assert access.kubeconfig == KUBECONFIG
    assert access.context == "b"
    KubernetesCredentials().save("inside", overwrite=True)
    inside = KubernetesCluster(credentials="kubernetes-credentials/inside").access()
    assert inside == KubernetesCluster().access()  # the pod's service account
    with pytest.raises(ConfigurationError, match="no block"):
        KubernetesCluster(credentials="kubernetes-credentials/absent").access()


def test_a_store_that_goes_with_its_pod_is_not_looked_into() -> None:
    for ask in (store_usage, lambda cluster: prune_store(cluster, 0)):
        with pytest.raises(ConfigurationError, match=r"store of its own.*work_volume_claim"):
            ask(KubernetesCluster(namespace="research"))
    assert KubernetesCluster(work_volume_claim="work").keeps_store
