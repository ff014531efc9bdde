"""The job whose one pod runs calls, as the API takes it. Nothing in it is secret."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources as package_files
from typing import Any

from clustrix_prefect.errors import ConfigurationError, InvalidResources
from clustrix_prefect.task_resources import Resources

CONTAINER = "calls"
# A volume is mounted here; the work directory is in it, made with a mode of its own.
VOLUME = "/clustrix-prefect"
WORK_DIR = f"{VOLUME}/work"
# The keeper fills this volume when nobody needs the pod any more, and the node evicts the pod: a
# sidecar would keep it for ever, and with it the job, whose time to live would not begin.
END_VOLUME = "clustrix-end"
_END_PATH = "/clustrix-prefect-end"
# Which jobs are ours, as a label selector.
MANAGED_BY = "app.kubernetes.io/managed-by=clustrix-prefect"
FLOW_RUN_LABEL = "clustrix-prefect/flow-run"
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_.-]+")
_NO_WORDS = (
    "nodes",
    "tasks_per_node",
    "partition",
    "account",
    "qos",
    "constraint",
    "signal_before_end",
)
_PYTHONS = ("python3", "python")
# $0 the keeper, its three arguments, and which interpreters it may be run by.
_RUN_KEEPER = """start=$1 hold=$2 end=$3; shift 3
for python do
    command -v "$python" >/dev/null 2>&1 && exec "$python" -c "$0" "$start" "$hold" "$end"
done
echo "no Python here: tried $*" >&2; exit 127"""
# What a pod with a read-only root writes to instead, in its work volume; where pods share that, in
# volumes of its own.
_HOME = "/clustrix-prefect-home"
_WRITABLE = {"clustrix-home": _HOME, "clustrix-tmp": "/tmp"}  # noqa: S108
# A user id that the image does not know has no home and no name (OpenShift gives such).
_OWN_VARIABLES = {"HOME": _HOME, "TMPDIR": "/tmp", "USER": "clustrix", "LOGNAME": "clustrix"}  # noqa: S108
# By which field the elements of a list are told apart, where it is not their name; as
# `kubectl apply` has it (x-kubernetes-patch-merge-key).
_KEYS = {"volumeMounts": "mountPath", "volumeDevices": "devicePath"}
_GONE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


@dataclass(frozen=True)
class PodSettings:
    """What is the same for all pods of a cluster.

    Attributes:
        image: Needs nothing but Python in it.
        python: Its path or name; None: one that images usually have.
        gpu_resource: What a GPU is called.
        requests: What a pod asks for where that is not its limit, by Kubernetes' names.
        ephemeral_storage: How much a pod may write to its node, such as "20Gi".
        restricted: Whether pods are made as the Pod Security level "restricted" wants them
            (https://kubernetes.io/docs/concepts/security/pod-security-standards/), with a root
            that is read-only.
        run_as_user: The user id of its processes. Default: the image's, or what the cluster gives.
        start_timeout: Seconds after which a pod ends that nobody comes to.
        result_hold: Seconds for which a pod without running calls keeps their results.
        ttl_after_finished: Seconds after which an ended job is deleted by the cluster.
        node_loss_seconds: Seconds that a pod stays bound to a node that is gone.
        work_volume_claim: Where the work directory is; None: in the pod.
        annotations: Of jobs and pods.
        container: More of the container's fields, such as `env`.
        pod: More of the pod's fields, such as `nodeSelector`.
        template: Merged over the pod that would be made.
    """

    image: str
    python: str | None = None
    gpu_resource: str = "nvidia.com/gpu"
    requests: Mapping[str, str] = field(default_factory=dict)
    ephemeral_storage: str | None = None
    restricted: bool = False
    run_as_user: int | None = None
    start_timeout: int = 300
    result_hold: int = 3600
    ttl_after_finished: int = 3600
    node_loss_seconds: int = 30
    work_volume_claim: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)


def job_manifest(
    settings: PodSettings,
    resources: Resources,
    *,
    name: str,
    labels: Mapping[str, str],
    calls: int,
) -> dict[str, Any]:
    """Return the job for a pod that runs calls one after another.

    Args:
        settings: What all pods have in common.
        resources: What each call needs.
        name: Of the job.
        labels: By which it is found; values that Kubernetes refuses are made fit.
        calls: How many calls it takes at most.

    Raises:
        InvalidResources: Kubernetes has no words for something.
        ConfigurationError: The template leaves no container for calls.
    """
    every = dict([MANAGED_BY.split("=")])
    every.update((key, label_value(value)) for key, value in labels.items())
    limits = _amounts(resources, settings)
    container = {
        "name": CONTAINER,
        "image": settings.image,
        "command": [
            *("/bin/sh", "-c", _RUN_KEEPER, _keeper()),
            *(str(settings.start_timeout), str(settings.result_hold), _END_PATH),
            *([settings.python] if settings.python else _PYTHONS),
        ],
        # Why the first process could not go on is then in the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {**limits, **settings.requests}, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "work", "mountPath": VOLUME},
            {"name": END_VOLUME, "mountPath": _END_PATH},
        ],
    }
    claim = settings.work_volume_claim
    volume = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "volumes": [
            {"name": "work", **volume},
            {"name": END_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
        ],
        "tolerations": [
            {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": settings.node_loss_seconds,
            }
            for key in _GONE
        ],
    }
    if resources.time is not None:
        # The client ends a call in time; this is for when there is no client. On the pod, since
        # the job's own deadline counts the wait for a node.
        pod["activeDeadlineSeconds"] = (
            settings.start_timeout + calls * resources.time + settings.result_hold
        )
    if settings.run_as_user is not None:
        user = settings.run_as_user
        pod["securityContext"] = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    if settings.restricted:
        _restrict(pod, container, settings)
    pod["containers"] = [_with(container, settings.container)]
    metadata: dict[str, Any] = {"labels": every, "annotations": dict(settings.annotations)}
    template = {"metadata": metadata, "spec": _with(pod, settings.pod)}
    template = merged(template, settings.template)
    if all(one.get("name") != CONTAINER for one in template["spec"].get("containers") or ()):
        raise ConfigurationError(
            f"The block's `pod_template` leaves nothing of the container `{CONTAINER}`.",
            f"Give each of its containers a name: ours is `{CONTAINER}`, any other is added.",
        )
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": settings.ttl_after_finished,
        "template": template,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def _restrict(pod: dict[str, Any], container: dict[str, Any], settings: PodSettings) -> None:
    """Take every privilege from a pod, and give it back what it has to write to."""
    pod["securityContext"] = {
        **pod.get("securityContext", {}),
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container["securityContext"] |= {
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    container["workingDir"] = _HOME
    own = settings.container
    said = {one.get("name") for one in own.get("env") or ()}
    container["env"] = [
        {"name": name, "value": value} for name, value in _OWN_VARIABLES.items() if name not in said
    ]
    mounted = {one.get("mountPath") for one in own.get("volumeMounts") or ()}
    for name, path in _WRITABLE.items():
        if path in mounted:
            continue
        if settings.work_volume_claim:
            # Pods would write to one another's, and a server that squashes root makes no directory.
            pod["volumes"].append({"name": name, "emptyDir": {}})
            container["volumeMounts"].append({"name": name, "mountPath": path})
        else:
            container["volumeMounts"].append({"name": "work", "mountPath": path, "subPath": name})


def _keeper() -> str:
    return (package_files.files("clustrix_prefect.far_side") / "agent" / "pod_main.py").read_text(
        "utf-8"
    )


def _with(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both; lists that both have are joined."""
    joined = {
        key: [*base[key], *value] if isinstance(base.get(key), list) else value
        for key, value in more.items()
        if value not in (None, [], {})
    }
    return {**base, **joined}


def _amounts(wanted: Resources, settings: PodSettings) -> dict[str, str]:
    check_amounts(wanted)
    amounts = {
        "cpu": wanted.cores,
        "memory": wanted.memory,
        settings.gpu_resource: wanted.gpus,
        "ephemeral-storage": settings.ephemeral_storage,
    }
    return {key: str(amount) for key, amount in amounts.items() if amount}


def check_amounts(wanted: Resources) -> None:
    """Refuse what Kubernetes has no words for.

    Raises:
        InvalidResources: With the field.
    """
    for field_name in _NO_WORDS:
        if getattr(wanted, field_name) is not None:
            raise InvalidResources(
                f"Kubernetes has nothing for resources({field_name}=...).",
                "Leave it out, or say it in the block's node selector or pod template.",
            )
    if isinstance(wanted.gpus, str):
        raise InvalidResources(
            f"Kubernetes has nothing for the type in resources(gpus={wanted.gpus!r}).",
            "Give the number alone, and name the nodes with such GPUs in a node selector.",
        )


def merged(base: Any, patch: Any, key: str = "name") -> Any:
    """Return the base with a patch over it: mappings by key, lists of things with a key by that.

    Args:
        base: What is there.
        patch: What replaces it or, where that is a mapping or such a list, is put into it; None
            takes something away.
        key: By which field the elements of lists are told apart.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        joined = {
            name: merged(base.get(name), value, _KEYS.get(name, "name"))
            for name, value in patch.items()
        }
        return {name: value for name, value in {**base, **joined}.items() if value is not None}
    if _all_have(key, base) and _all_have(key, patch):
        by_key = {one[key]: one for one in base}
        for one in patch:
            by_key[one[key]] = merged(by_key.get(one[key]), one)
        return list(by_key.values())
    return patch


def _all_have(key: str, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) and key in one for one in value)


def label_value(text: str) -> str:
    """Return the text as a label may hold it."""
    return _NOT_IN_LABELS.sub("-", text)[:63].strip("-_.")


def default_image() -> str:
    """Return an image with the Python that the flow runs on."""
    return f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
