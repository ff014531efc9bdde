"""A Kubernetes cluster: calls run in pods, and there is no login node."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import yaml
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator, model_validator
from typing_extensions import Self

from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock
from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.pods import (
    WORK_DIR,
    PodSettings,
    check_amounts,
    default_image,
    job_manifest,
)
from clustrix_prefect.task_resources import Resources

if TYPE_CHECKING:
    from clustrix_prefect.kubernetes.api import KubernetesApi

_CREDENTIALS = "kubernetes-credentials"
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
# How long a pod stays whose visitor vanished, seconds.
_VISIT_SECONDS = 60
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_AMOUNT = re.compile(r"^\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?\Z")
# What the elements of some fields are.
_KINDS = {
    "tolerations": "V1Toleration",
    "env_from": "V1EnvFromSource",
    "volumes": "V1Volume",
    "volume_mounts": "V1VolumeMount",
}
_PYTHON_IMAGE = re.compile(r"(?:^|/)python:(\d+)\.(\d+)(?:[.-]|$)")


class KubernetesCluster(ClusterBlock):
    """A namespace of a Kubernetes cluster, in whose pods calls run.

    The image needs nothing but Python in it. Code, arguments, files and results travel over the
    API server's exec stream: no shared volume is needed and no route from pods to anything.

    Examples:
        ```python
        cluster = KubernetesCluster(namespace="research", image="python:3.11-slim")
        ```
    """

    calls_run_in = CallsRunIn.PODS

    _block_type_name = "Kubernetes Cluster"
    _block_type_slug = "kubernetes-cluster"
    _description = "Run a flow's tasks in pods of any image that has Python in it."
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import KubernetesCluster, ClusterTaskRunner

        cluster = KubernetesCluster.load("BLOCK_NAME")

        @task
        def square(x: int):
            return x * x

        @flow(task_runner=ClusterTaskRunner(cluster))
        def squares():
            return square.map(range(10)).result()
        ```
    """

    remote_work_dir: str | None = Field(
        default=WORK_DIR,
        title="Work directory",
        description="Directory in the pods for our files. It is made with mode 0700.",
    )
    namespace: str | None = Field(
        default=None,
        title="Namespace",
        description=(
            "Namespace of the pods. Default: that of the context, as for kubectl; in a pod, that "
            "of its service account; otherwise `default`."
        ),
        examples=["research"],
    )
    image: str = Field(
        default_factory=default_image,
        title="Image",
        description="Image of the pods. It needs /bin/sh and a Python, and nothing of ours.",
        examples=["python:3.11-slim"],
    )
    kubeconfig_path: str | None = Field(
        default=None,
        title="Kubeconfig file",
        description=(
            "Path of a kubeconfig on the machine of the flow. Default: inside a cluster the pod's "
            "service account, elsewhere $KUBECONFIG or ~/.kube/config."
        ),
        examples=["~/.kube/config"],
    )
    kubeconfig: SecretStr | None = Field(
        default=None,
        title="Kubeconfig",
        description="The content of a kubeconfig, instead of a path.",
    )
    context: str | None = Field(
        default=None,
        title="Context",
        description="One of the kubeconfig's contexts. Default: its current one.",
    )
    credentials: str | None = Field(
        default=None,
        title="Credentials",
        description=(
            "A saved `KubernetesCredentials` block of prefect-kubernetes, instead of a kubeconfig."
        ),
        examples=["kubernetes-credentials/production"],
    )
    service_account: str | None = Field(
        default=None, title="Service account", description="Service account of the pods."
    )
    image_pull_secrets: list[str] = Field(
        default_factory=list,
        title="Image pull secrets",
        description="Secrets of the namespace with which the image is pulled, by name.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None,
        title="Image pull policy",
        description="When a node pulls the image. Default: as the cluster does it.",
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict,
        title="Node selector",
        description="Labels that a node must have.",
        examples=[{"gpu": "a100"}],
    )
    tolerations: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Tolerations",
        description="Taints of nodes that pods tolerate, as in a pod's specification.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, title="Labels", description="Labels of the jobs and their pods."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        title="Annotations",
        description="Annotations of the jobs and their pods.",
    )
    env_from: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Environment from",
        description="Secrets and ConfigMaps of the namespace that become variables.",
        examples=[[{"secretRef": {"name": "tokens"}}]],
    )
    volumes: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Volumes",
        description="More volumes of the pod, as in its specification.",
        examples=[[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]],
    )
    volume_mounts: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Volume mounts",
        description="Where the volumes are mounted, as in a container's specification.",
        examples=[[{"name": "data", "mountPath": "/data"}]],
    )
    work_volume_claim: str | None = Field(
        default=None,
        title="Work volume claim",
        description=(
            "PersistentVolumeClaim for the work directory, which pods then share: environments are "
            "built once, and files that tasks return stay."
        ),
    )
    security: Literal["restricted"] | None = Field(
        default=None,
        title="Security",
        description=(
            "`restricted`: pods that the Pod Security level of this name and OpenShift accept, "
            "with a read-only root; home and /tmp are volumes of the pod. Default: no privileges "
            "beyond those of the image's user."
        ),
    )
    run_as_user: int | None = Field(
        default=None,
        ge=0,
        title="User id",
        description=(
            "User id and group id of the processes in pods. Default: those of the image; on "
            "OpenShift those of the project."
        ),
        examples=[1000],
    )
    requests: dict[str, str] = Field(
        default_factory=dict,
        title="Requests",
        description=(
            "Requests of pods where they are smaller than the limits, by Kubernetes' names."
        ),
        examples=[{"cpu": "500m", "memory": "1Gi"}],
    )
    ephemeral_storage: str | None = Field(
        default=None,
        title="Ephemeral storage",
        description="Disk space of the node that a pod requests, and may not exceed.",
        examples=["20Gi"],
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        title="Pod template",
        description="Metadata and spec that are merged over the pod, for what has no field here.",
        examples=[{"spec": {"priorityClassName": "batch"}}],
    )
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        title="GPU resource",
        description="Name that the cluster has for a GPU.",
    )
    calls_per_pod: int = Field(
        default=10,
        ge=1,
        title="Calls per pod",
        description="Most calls that a pod runs, one after another.",
    )
    max_pods: int = Field(
        default=20,
        ge=1,
        title="Pods at once",
        description="Most pods that a flow run has at the same time.",
    )
    start_timeout: int = Field(
        default=600,
        ge=1,
        title="Start timeout",
        description="Seconds that a pod may take to be scheduled and to start.",
    )
    ttl_after_finished: int = Field(
        default=3600,
        ge=0,
        title="Keep results for",
        description=(
            "Seconds for which the pods of a flow whose process died keep their results; after as "
            "many more, the cluster deletes the ended job."
        ),
    )

    @field_validator(
        "kubeconfig_path",
        "context",
        "credentials",
        "service_account",
        "work_volume_claim",
        "image_pull_policy",
        "security",
        "ephemeral_storage",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("credentials", mode="before")
    @classmethod
    def _name_of_credentials(cls, value: Any) -> Any:
        if not isinstance(value, Block):
            return value
        slug, name = value.get_block_type_slug(), value._block_document_name
        if slug != _CREDENTIALS or name is None:
            raise ValueError(f"expects a saved block of the type {_CREDENTIALS}")
        return f"{slug}/{name}"

    @field_validator("credentials")
    @classmethod
    def _credentials_block(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(f"{_CREDENTIALS}/"):
            raise ValueError(f"{value!r} is not a block's name such as {_CREDENTIALS}/production")
        return value

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        names = ("kubeconfig_path", "kubeconfig", "credentials")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say how to log in; give one of them")
        return self

    @field_validator("namespace", "service_account", "work_volume_claim")
    @classmethod
    def _object_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.match(value):
            raise ValueError(f"{value!r} is not the name of a Kubernetes object")
        return value

    @field_validator("requests", "ephemeral_storage")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        for amount in value.values() if isinstance(value, dict) else [value]:
            if amount is not None and not _AMOUNT.match(amount):
                raise ValueError(f"{amount!r} is not an amount of Kubernetes such as 500m or 20Gi")
        return value

    @field_validator("image")
    @classmethod
    def _image_name(cls, value: str) -> str:
        if not one_line(value) or value.startswith("-") or " " in value:
            raise ValueError(f"{value!r} is not the name of an image")
        return value

    @property
    def description(self) -> str:
        if self.namespace is not None:
            return f"Kubernetes, namespace {self.namespace}"
        return f"Kubernetes, namespace of the context {self.context or 'in use'}"

    @property
    def keeps_store(self) -> bool:
        return self.work_volume_claim is not None

    @property
    def is_alone(self) -> bool:
        return True

    def access(self) -> Access:
        """Return what to log in with.

        Raises:
            ConfigurationError: The kubeconfig is none.
        """
        if self.credentials is not None:
            return _access_of(self.credentials, self.context)
        if self.kubeconfig is None:
            return Access(self.kubeconfig_path, context=self.context)
        try:
            content = yaml.safe_load(self.kubeconfig.get_secret_value())
        except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, RecursionError):
            content = None  # an impossible date, nesting without end: PyYAML lets them through
        if not isinstance(content, dict):
            # Without the cause: it quotes what it could not read.
            raise ConfigurationError(
                "The block's `kubeconfig` is no kubeconfig.",
                "Paste what `kubectl config view --raw --flatten` prints.",
            )
        return Access(kubeconfig=content, context=self.context)

    def api(self, patience: float | None = None) -> KubernetesApi:
        """Return the API server; who asks for it closes it.

        Args:
            patience: Seconds to go on asking a server that is away or overloaded. Default: as long
                as a managed one is away that is being replaced.

        Raises:
            ConfigurationError: There are no credentials for it.
        """
        from clustrix_prefect.kubernetes.api import KubernetesApi

        return KubernetesApi(self.access(), self.namespace, patience=patience)

    def job_manifest(
        self, name: str, resources: Resources, labels: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the job whose one pod runs calls.

        Args:
            name: Of the job.
            resources: What each call needs.
            labels: By which it is found.
        """
        calls = resources.calls_per_job or self.calls_per_pod
        return job_manifest(
            self._pod_settings(),
            resources,
            name=name,
            labels={**self.labels, **labels},
            calls=calls,
        )

    def check_fields(self) -> None:
        """Refuse what the block says of pods in words that Kubernetes does not have.

        Raises:
            ConfigurationError: Naming the field, and what was probably meant.
        """
        from clustrix_prefect.kubernetes.fields import check_fields, check_pod_template

        check_pod_template(self.pod_template, "The block's `pod_template`")
        for name, kind in _KINDS.items():
            check_fields(getattr(self, name), f"List[{kind}]", f"The block's `{name}`")
        self.job_manifest("check", Resources(), {})

    def _pod_settings(self) -> PodSettings:
        return PodSettings(
            image=self.image,
            python=self.python,
            gpu_resource=self.gpu_resource,
            requests=self.requests,
            ephemeral_storage=self.ephemeral_storage,
            restricted=self.security == "restricted",
            run_as_user=self.run_as_user,
            start_timeout=self.start_timeout,
            result_hold=self.ttl_after_finished,
            ttl_after_finished=self.ttl_after_finished,
            work_volume_claim=self.work_volume_claim,
            annotations=self.annotations,
            container={
                "imagePullPolicy": self.image_pull_policy,
                "env": [{"name": name, "value": text} for name, text in self.environment.items()],
                "envFrom": self.env_from,
                "volumeMounts": self.volume_mounts,
            },
            pod={
                "serviceAccountName": self.service_account,
                "automountServiceAccountToken": True if self.service_account else None,
                "imagePullSecrets": [{"name": name} for name in self.image_pull_secrets],
                "nodeSelector": self.node_selector,
                "tolerations": self.tolerations,
                "volumes": self.volumes,
            },
            template=self.pod_template,
        )

    def python_version_of_image(self) -> tuple[int, int] | None:
        """Return the version of Python that an image's name says; None if it does not say."""
        found = _PYTHON_IMAGE.search(self.image)
        return (int(found[1]), int(found[2])) if found else None

    def check_resources(self, wanted: Resources) -> None:
        check_amounts(wanted)

    def calls_at_once(self, cores: int) -> str:
        return f"in up to {self.max_pods} pods"

    def connect(self) -> Connection:
        """Enter a pod that is made for this connection, and goes with it.

        Raises:
            ConfigurationError: There are no credentials for it, or pods have no such fields.
            InfrastructureError: The pod does not start.
            ConnectionFailed: The API server cannot be reached, or refuses us.
        """
        from clustrix_prefect.kubernetes.ephemeral_pod import EphemeralPod

        api = self.api()
        self.check_fields()
        manifest = job_manifest(
            replace(self._pod_settings(), result_hold=_VISIT_SECONDS, ttl_after_finished=0),
            self.resources,
            name=f"clustrix-visit-{uuid.uuid4().hex[:8]}",
            labels=self.labels,
            calls=1,
        )
        return EphemeralPod(api, manifest, self.start_timeout)


def _access_of(name: str, context: str | None) -> Access:
    """Return what a `KubernetesCredentials` block says; its package is needed to read it."""
    try:
        from prefect_kubernetes.credentials import KubernetesCredentials

        # _sync: without it, a coroutine comes back wherever a loop is running.
        block: Any = KubernetesCredentials.load(name.partition("/")[2], _sync=True)
    except ImportError as error:
        raise ConfigurationError(
            f"The package of the block {name} is not installed.",
            "Install it with `pip install prefect-kubernetes`.",
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"There is no block {name}.", "Save it, or correct the cluster's `credentials`."
        ) from error
    config = block.cluster_config
    if config is None:  # inside a cluster, or the default kubeconfig
        return Access(context=context)
    return Access(kubeconfig=config.config, context=context or config.context_name)
