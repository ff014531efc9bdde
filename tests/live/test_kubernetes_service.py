"""The Kubernetes does what the other tests build on."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from kubernetes.stream import stream

from tests.live.daemon import wait_until
from tests.live.kubernetes.cluster import Kubernetes, OwnKubernetes

pytestmark = pytest.mark.every  # in the short run, whatever builds on it proves as much

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    with kubernetes.namespace() as name:
        yield name


@pytest.fixture
def image(kubernetes: Kubernetes, pythons: dict[str, str]) -> str:
    return kubernetes.python_image(MINOR, pythons[MINOR])


def _job(image: str, program: str, **pod: Any) -> dict[str, Any]:
    """A job of one pod that runs a Python program; keywords are of the container, or the pod."""
    of_container = {key: pod.pop(key) for key in ("resources", "volumeMounts") if key in pod}
    container = {"name": "main", "image": image, "command": ["python3", "-uc", program]}
    spec: dict[str, Any]
    spec = {"restartPolicy": "Never", "containers": [{**container, **of_container}], **pod}
    return {"metadata": {"name": "job"}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}


def _start(kubernetes: Kubernetes, namespace: str, job: dict[str, Any]) -> str:
    """Create a job; its pod's name."""
    client.BatchV1Api(kubernetes.api).create_namespaced_job(namespace, job)
    wait_until(lambda: _pods(kubernetes, namespace))
    return str(_pods(kubernetes, namespace)[0].metadata.name)


def _pods(kubernetes: Kubernetes, namespace: str) -> list[Any]:
    return list(kubernetes.core.list_namespaced_pod(namespace).items)


def _phase(kubernetes: Kubernetes, namespace: str, pod: str) -> str:
    return str(kubernetes.core.read_namespaced_pod(pod, namespace).status.phase)


def _ended(kubernetes: Kubernetes, namespace: str, pod: str, seconds: float = 60) -> Any:
    """The container's last state, when the pod has ended."""
    ends = ("Succeeded", "Failed")
    wait_until(lambda: _phase(kubernetes, namespace, pod) in ends, seconds)
    status = kubernetes.core.read_namespaced_pod(pod, namespace).status
    return status.container_statuses[0].state.terminated


class TestKubernetes:
    def test_a_job_completes_and_its_log_is_there(
        self, kubernetes: Kubernetes, namespace: str, image: str
    ) -> None:
        program = "import bz2, ctypes, lzma, sqlite3, ssl; print('hello')"
        pod = _start(kubernetes, namespace, _job(image, program))
        batch = client.BatchV1Api(kubernetes.api)

        wait_until(lambda: batch.read_namespaced_job("job", namespace).status.succeeded)

        log = kubernetes.core.read_namespaced_pod_log(pod, namespace)
        assert log == "hello\n"

    def test_a_failing_job_fails(self, kubernetes: Kubernetes, namespace: str, image: str) -> None:
        pod = _start(kubernetes, namespace, _job(image, "raise SystemExit(3)"))
        batch = client.BatchV1Api(kubernetes.api)

        wait_until(lambda: batch.read_namespaced_job("job", namespace).status.conditions)

        (condition,) = batch.read_namespaced_job("job", namespace).status.conditions  # type: ignore[misc]
        assert condition.type == "Failed"
        assert _ended(kubernetes, namespace, pod).exit_code == 3

    def test_a_program_in_a_pod_reads_what_is_sent(
        self, kubernetes: Kubernetes, namespace: str, image: str
    ) -> None:
        pod = _start(kubernetes, namespace, _job(image, "import time; time.sleep(60)"))
        wait_until(lambda: _phase(kubernetes, namespace, pod) == "Running")
        program = (
            "import hashlib, sys\nprint(hashlib.sha256(sys.stdin.buffer.read(1000)).hexdigest())\n"
        )
        command = ["python3", "-c", program]

        channel = stream(
            kubernetes.core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=command,
            stdin=True,
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        channel.write_stdin("x" * 1000)
        channel.run_forever(timeout=60)

        assert channel.read_stdout().strip() == hashlib.sha256(b"x" * 1000).hexdigest()
        assert channel.returncode == 0

    def test_deleting_a_job_deletes_its_pods(
        self, kubernetes: Kubernetes, namespace: str, image: str
    ) -> None:
        _start(kubernetes, namespace, _job(image, "import time; time.sleep(60)"))

        batch = client.BatchV1Api(kubernetes.api)
        batch.delete_namespaced_job(
            "job", namespace, propagation_policy="Background", grace_period_seconds=0
        )

        wait_until(lambda: not _pods(kubernetes, namespace), 60)

    def test_a_user_may_do_what_the_role_says_only(
        self, kubernetes: Kubernetes, namespace: str
    ) -> None:
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
        user = kubernetes.user_kubeconfig(namespace, rules)
        core = client.CoreV1Api(new_client_from_config(str(user)))

        assert core.list_namespaced_pod(namespace).items == []
        with pytest.raises(ApiException) as refused:
            core.list_namespaced_secret(namespace)
        assert refused.value.status == 403


class TestOwnKubernetes:
    def test_an_image_that_is_nowhere_is_named_at_once(
        self, own_kubernetes: OwnKubernetes, namespace: str
    ) -> None:
        pod = _start(own_kubernetes, namespace, _job("docker.io/library/none:1", "pass"))

        def reason() -> str:
            statuses = own_kubernetes.core.read_namespaced_pod(pod, namespace).status
            waiting = [status.state.waiting for status in statuses.container_statuses or []]
            return str(waiting[0].reason) if waiting and waiting[0] else ""

        wait_until(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"))

    def test_too_much_memory_is_killed(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        limits = {"limits": {"memory": "64Mi"}}
        job = _job(image, "x = b'x' * 300_000_000", resources=limits)
        pod = _start(own_kubernetes, namespace, job)

        assert _ended(own_kubernetes, namespace, pod).reason == "OOMKilled"

    def test_a_claim_keeps_what_a_pod_wrote(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        with own_kubernetes.claim(namespace) as claim:
            job = _job(
                image,
                "open('/data/file', 'w').write('kept')",
                volumeMounts=[{"name": "data", "mountPath": "/data"}],
                volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            )
            pod = _start(own_kubernetes, namespace, job)
            assert _ended(own_kubernetes, namespace, pod).exit_code == 0

    def test_pods_reach_the_api_server_with_their_account(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        program = (
            "import os, ssl, urllib.request as u\n"
            "where = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
            "url = 'https://%(KUBERNETES_SERVICE_HOST)s:%(KUBERNETES_SERVICE_PORT)s/version'\n"
            "trusted = ssl.create_default_context(cafile=where + 'ca.crt')\n"
            "token = {'Authorization': 'Bearer ' + open(where + 'token').read()}\n"
            "u.urlopen(u.Request(url % os.environ, headers=token), context=trusted)\n"
        )
        pod = _start(own_kubernetes, namespace, _job(image, program))

        assert _ended(own_kubernetes, namespace, pod).exit_code == 0

    def test_two_gpus_are_claimed(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        job = _job(image, "pass", resources={"limits": {"nvidia.com/gpu": "2"}})
        pod = _start(own_kubernetes, namespace, job)

        assert _ended(own_kubernetes, namespace, pod).exit_code == 0

    def test_an_evicted_pod_is_deleted(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        job = _job(image, "import time; time.sleep(600)", terminationGracePeriodSeconds=1)
        pod = _start(own_kubernetes, namespace, job)
        wait_until(lambda: _phase(own_kubernetes, namespace, pod) == "Running")

        own_kubernetes.evict(pod, namespace)

        wait_until(
            lambda: pod not in [found.metadata.name for found in _pods(own_kubernetes, namespace)]
        )

    def test_pods_outlive_a_restart_of_the_api_server(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        pod = _start(own_kubernetes, namespace, _job(image, "import time; time.sleep(4)"))
        wait_until(lambda: _phase(own_kubernetes, namespace, pod) == "Running")

        own_kubernetes.restart_api_server()

        assert _ended(own_kubernetes, namespace, pod).exit_code == 0

    def test_a_watch_expires(self, own_kubernetes: OwnKubernetes, namespace: str) -> None:
        seen = own_kubernetes.core.list_namespaced_pod(namespace).metadata.resource_version

        own_kubernetes.expire_watches()

        with pytest.raises(ApiException) as gone:
            for _ in watch.Watch().stream(
                own_kubernetes.core.list_namespaced_pod,
                namespace,
                resource_version=seen,
                timeout_seconds=5,
            ):
                pass
        assert gone.value.status == 410

    def test_a_lost_node_has_its_pods_deleted(
        self, own_kubernetes: OwnKubernetes, namespace: str, image: str
    ) -> None:
        job = _job(image, "import time; time.sleep(600)", terminationGracePeriodSeconds=1)
        pod = _start(own_kubernetes, namespace, job)
        wait_until(lambda: _phase(own_kubernetes, namespace, pod) == "Running")
        core, lost = own_kubernetes.core, time.monotonic()

        with own_kubernetes.node_down():
            wait_until(lambda: core.read_namespaced_pod(pod, namespace).metadata.deletion_timestamp)
            assert time.monotonic() - lost < 60

        wait_until(
            lambda: pod not in [found.metadata.name for found in _pods(own_kubernetes, namespace)]
        )


def test_whether_pods_see_this_machine(kubernetes: Kubernetes, image: str, tmp_path: Path) -> None:
    if not kubernetes.sees_this_machine:
        pytest.skip("the nodes of CLUSTRIX_TEST_KUBECONFIG do not see this machine's files")
    (tmp_path / "there").touch()
    assert kubernetes.pod_reads(tmp_path / "there", image)
    assert not kubernetes.pod_reads(tmp_path / "not-there", image)
