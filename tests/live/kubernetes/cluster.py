"""A Kubernetes for the tests: one of our own, or one that a kubeconfig names."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config

from tests.live.daemon import ServiceUnavailable, wait_until
from tests.live.kubernetes import build, images, node
from tests.live.kubernetes.control_plane import SERVICE_ADDRESS, ControlPlane, describe_access
from tests.live.kubernetes.machine import Machine
from tests.live.kubernetes.node import Node
from tests.live.rundir import RunDirectory

LABEL = "clustrix-live"
# An image may have to be pulled first.
_LOOK_SECONDS = 120


class Kubernetes:
    """A cluster that somebody else runs.

    Attributes:
        kubeconfig: Reaches it as somebody who may make namespaces and roles.

    Args:
        run: The test run's directory.
        kubeconfig: A file with its address and credentials.
    """

    def __init__(self, run: RunDirectory, kubeconfig: Path) -> None:
        self._directory = run.child("kubernetes")
        self.kubeconfig = kubeconfig

    def start(self) -> None:
        """See whether it answers.

        Raises:
            ServiceUnavailable: It does not.
        """
        try:
            client.VersionApi(self.api).get_code(_request_timeout=10)
        except Exception as failure:
            raise ServiceUnavailable(f"no Kubernetes at {self.kubeconfig}: {failure}") from failure

    def stop(self) -> None:
        """Leave it as it is."""

    def __str__(self) -> str:
        version = client.VersionApi(self.api).get_code().git_version
        return f"Kubernetes {version} at {self.api.configuration.host}"

    @property
    def api(self) -> client.ApiClient:
        """A client of the official library, for `CoreV1Api` and so on; new ones share nothing."""
        return new_client_from_config(str(self.kubeconfig))

    @property
    def core(self) -> client.CoreV1Api:
        """Pods, claims, namespaces."""
        return client.CoreV1Api(self.api)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """The output of kubectl."""
        program = shutil.which("kubectl") or str(build.PROGRAMS / "kubectl")
        command = [program, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def objects(self, namespace: str, kinds: str = "jobs,pods") -> list[dict[str, Any]]:
        """What is there of these kinds, and not on its way out."""
        found = json.loads(self.kubectl("-n", namespace, "get", kinds, "-o", "json"))
        return [one for one in found["items"] if "deletionTimestamp" not in one["metadata"]]

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of one's own for a while, in which pods can start; removed with its pods."""
        name = f"test-{secrets.token_hex(4)}"
        core = self.core
        core.create_namespace({"metadata": {"name": name, "labels": {LABEL: "true"}}})
        try:
            wait_until(lambda: self._has_service_account(name))
            yield name
        finally:
            with contextlib.suppress(ApiException):
                pods = {"grace_period_seconds": 0, "propagation_policy": "Background"}
                client.BatchV1Api(self.api).delete_collection_namespaced_job(name, **pods)
                core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
            core.delete_namespace(name)

    def user_kubeconfig(self, namespace: str, rules: list[dict[str, Any]]) -> Path:
        """A kubeconfig of somebody who may do nothing but what these rules of a Role allow.

        Args:
            namespace: Where; also the namespace of its context.
            rules: For instance `[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]`.
        """
        name = f"user-{secrets.token_hex(4)}"
        metadata = {"metadata": {"name": name}}
        roles = client.RbacAuthorizationV1Api(self.api)
        self.core.create_namespaced_service_account(namespace, metadata)
        roles.create_namespaced_role(namespace, {**metadata, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        binding = {**metadata, "subjects": [subject], "roleRef": role}
        roles.create_namespaced_role_binding(namespace, binding)
        # The release that we build wants the audiences to be named.
        wanted = {"spec": {"expirationSeconds": 3600, "audiences": self._audiences()}}
        token = self.core.create_namespaced_service_account_token(name, namespace, wanted)
        server, user = self.api.configuration, {"token": token.status.token}
        authority = Path(server.ssl_ca_cert).read_bytes()
        path = self._directory / f"{name}.kubeconfig"
        path.write_text(describe_access(server.host, authority, user, namespace))
        return path

    def python_image(self, minor: str, interpreter: str) -> str:
        """The name of an image with this Python, which pods can run.

        Args:
            minor: Its minor version.
            interpreter: Such a Python on this machine.
        """
        return images.python_image(minor)

    @functools.cached_property
    def sees_this_machine(self) -> bool:
        """Whether pods can be given a directory of this machine, as on a node that runs here."""
        mark = self._directory / secrets.token_hex(8)
        mark.touch()
        minor = ".".join(map(str, sys.version_info[:2]))
        return self.pod_reads(mark, self.python_image(minor, sys.executable))

    def pod_reads(self, path: Path, image: str) -> bool:
        """Whether a pod finds a file of this machine.

        Args:
            path: The file.
            image: One with Python.
        """
        volume = {"name": "here", "hostPath": {"path": str(path.parent), "type": "Directory"}}
        container = {
            "name": "look",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", f"open('/here/{path.name}')"],
            "volumeMounts": [{"name": "here", "mountPath": "/here"}],
        }
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
        with self.namespace() as namespace:
            core = self.core
            core.create_namespaced_pod(namespace, {"metadata": {"name": "look"}, "spec": spec})

            def phase() -> str:
                return str(core.read_namespaced_pod_status("look", namespace).status.phase)

            # Where there is no such directory, the pod never starts.
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: phase() in ("Succeeded", "Failed"), _LOOK_SECONDS)
            return phase() == "Succeeded"

    def evict(self, pod: str, namespace: str) -> None:
        """Evict a pod as `kubectl drain` does."""
        minor = int(client.VersionApi(self.api).get_code().minor.rstrip("+"))
        policy = "policy/v1" if minor >= 22 else "policy/v1beta1"
        eviction = {"apiVersion": policy, "kind": "Eviction", "metadata": {"name": pod}}
        self.core.create_namespaced_pod_eviction(pod, namespace, eviction)

    def _has_service_account(self, namespace: str) -> bool:
        """Whether the account that pods get by default is there, as far as they need it."""
        accounts = self.core.list_namespaced_service_account(namespace).items
        return any(account.metadata.name == "default" for account in accounts)

    def _audiences(self) -> list[str]:
        return []


class OwnKubernetes(Kubernetes):
    """A control plane and one real node, for one test run.

    The node has what this machine has; two GPUs are claimed. Images come only from
    `python_image`. Pods reach this machine at `host_address`, and nothing else.
    """

    def __init__(self, run: RunDirectory) -> None:
        directory = run.child("kubernetes")
        self.machine = Machine(directory, SERVICE_ADDRESS)
        self._control_plane = ControlPlane(self.machine, directory)
        self._node = Node(self.machine, directory, self._node_is_ready)
        self._loaded: set[str] = set()
        super().__init__(run, self._control_plane.kubeconfig)
        self.sees_this_machine = True

    def start(self) -> None:
        """Start everything and wait until the node takes pods.

        Raises:
            ServiceUnavailable: Not built, not root, or a part does not start.
        """
        if os.geteuid() != 0:
            raise ServiceUnavailable("a Kubernetes node needs root")
        if not build.is_built():
            raise ServiceUnavailable(
                "Kubernetes is not built (python tests/live/kubernetes/build.py), and"
                " CLUSTRIX_TEST_KUBECONFIG names no cluster"
            )
        self.machine.start()
        self._node.start_containers()
        self._control_plane.start()
        certificate = self._control_plane.pki.issue(node.NAME, self.machine.address)
        self._node.start_kubelet(self.kubeconfig, certificate)
        capacity = {"status": {"capacity": {"nvidia.com/gpu": "2"}}}
        self.core.patch_node_status(node.NAME, capacity)

    def stop(self) -> None:
        """End everything."""
        self._node.stop()
        self._control_plane.stop()
        self.machine.stop()

    @property
    def host_address(self) -> str:
        """Where pods reach this machine."""
        return self.machine.host_address

    def python_image(self, minor: str, interpreter: str) -> str:
        """The name of an image with this Python, which pods can run; made when first asked for."""
        name = images.python_image(minor)
        if name not in self._loaded:
            self._node.load_image(lambda target: images.write_python(target, minor, interpreter))
            self._loaded.add(name)
        return name

    def tagged(self, image: str, name: str) -> str:
        """Another name of an image that pods can run."""
        self._node.tag_image(image, name)
        return name

    def directory_of(self, claim: str) -> Path:
        """What a volume holds, as this machine sees it."""
        return self._directory / claim

    @contextlib.contextmanager
    def claim(self, namespace: str, size: str = "1Gi") -> Iterator[str]:
        """A claim for a while, bound to a volume that is a directory of the node."""
        name = f"claim-{secrets.token_hex(4)}"
        (directory := self.directory_of(name)).mkdir()
        shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = {
            **shared,
            "capacity": {"storage": size},
            "hostPath": {"path": str(directory)},
            "claimRef": {"namespace": namespace, "name": name},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        wanted = {**shared, "resources": {"requests": {"storage": size}}, "volumeName": name}
        core, metadata = self.core, {"metadata": {"name": name}}
        core.create_persistent_volume({**metadata, "spec": volume})
        try:
            core.create_namespaced_persistent_volume_claim(namespace, {**metadata, "spec": wanted})
            # A pod that finds it unbound is looked at again only a minute later.
            wait_until(lambda: self._is_bound(name, namespace), 60)
            yield name
        finally:
            with contextlib.suppress(ApiException):
                core.delete_namespaced_persistent_volume_claim(name, namespace)
            core.delete_persistent_volume(name)

    # --- trouble ----------------------------------------------------------------------------

    def restart_api_server(self) -> None:
        """Break every connection to the API server, and start it again."""
        with self.api_server_down():
            pass

    @contextlib.contextmanager
    def api_server_down(self) -> Iterator[None]:
        """Nobody answers at the API server's address for a while."""
        self._control_plane.stop_api_server()
        try:
            yield
        finally:
            self._control_plane.start_api_server()

    def expire_watches(self) -> None:
        """Break every watch; who resumes it where it was is told "410 Gone"."""
        for _ in range(3):  # so that what they have seen is not the newest
            label = {"metadata": {"annotations": {LABEL: secrets.token_hex(4)}}}
            self.core.patch_namespace("default", label)
        self._control_plane.compact()
        self.restart_api_server()

    @contextlib.contextmanager
    def node_down(self) -> Iterator[None]:
        """The node is lost for a while: its pods are deleted after five seconds.

        They are not gone before it is back, since nobody can say whether they ended.
        """
        self._node.stop_kubelet()
        # What the node controller says and does after a grace period, which we need not await.
        lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        message = "Kubelet stopped posting node status."
        status = {"status": {"conditions": [{**lost, "message": message}]}}
        self.core.patch_node_status(node.NAME, status)
        # With its only node gone, it thinks the network is broken: it takes every taint away,
        # once, and sets none.
        time.sleep(3)
        unreachable = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
        self.core.patch_node(node.NAME, {"spec": {"taints": [unreachable]}})
        try:
            yield
        finally:
            self._node.restart_kubelet()

    def _is_bound(self, claim: str, namespace: str) -> bool:
        found = self.core.read_namespaced_persistent_volume_claim(claim, namespace)
        return bool(found.status.phase == "Bound")

    def _node_is_ready(self) -> bool:
        """Whether the node takes pods: it is there, answers, and has no taint."""
        try:
            found = self.core.read_node(node.NAME)
        except ApiException:
            return False
        ready = {condition.type: condition.status for condition in found.status.conditions or []}
        return ready.get("Ready") == "True" and not found.spec.taints

    def _has_service_account(self, namespace: str) -> bool:
        """Whether the default account has its token: without it, no pod is admitted."""
        accounts = self.core.list_namespaced_service_account(namespace).items
        return any(account.metadata.name == "default" and account.secrets for account in accounts)

    def _audiences(self) -> list[str]:
        return ["https://kubernetes.default.svc"]
