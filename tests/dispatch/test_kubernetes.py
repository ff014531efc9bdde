"""What befalls pods has a name, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task

from clustrix_prefect import (
    ClusterTaskRunner,
    File,
    KubernetesCluster,
    ManagedEnvironment,
    resources,
)
from clustrix_prefect.errors import (
    ImagePullFailed,
    InfrastructureError,
    OutOfMemory,
    PodDeleted,
    QuotaExceeded,
    TimeLimitExceeded,
    Unschedulable,
    WorkerFailed,
)
from tests.contract.api import history
from tests.dispatch import long_flow
from tests.dispatch.api import ended_task_runs, flow_run_state
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import left_by, mark, marks, wait_for_marks
from tests.dispatch.test_named_failures import crash, end_of, run_alone, take_memory
from tests.live.daemon import wait_until

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes, OwnKubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def work(directory: str, name: str, seconds: float) -> str:
    mark(directory, name)
    time.sleep(seconds)
    return name.upper()


@task
def wait_for_gate(directory: str, name: str) -> str:
    mark(directory, name)
    gates = os.path.join(directory, "gates")
    while not {name, "open"} & set(os.listdir(gates)):
        time.sleep(0.2)
    with open(os.path.join(gates, f"{name}.passed"), "w"):
        return name.upper()


@task
def hang_at_first(directory: str, name: str) -> str:
    if mark(directory, name) == 1:
        time.sleep(300)
    return name.upper()


def memory_of(job: dict[str, Any]) -> str:
    """What its pod may use."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["limits"]["memory"])


def pod_names(kubernetes: Kubernetes, namespace: str) -> list[str]:
    every = kubernetes.objects(namespace)
    return [one["metadata"]["name"] for one in every if one["kind"] == "Pod"]


def wait_until_empty(kubernetes: Kubernetes, namespace: str, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while kubernetes.objects(namespace):
        assert time.monotonic() < deadline, kubernetes.objects(namespace)
        time.sleep(0.2)


# --- before a call begins -------------------------------------------------------------------


def test_image_that_is_not_there(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, far_dir: Path
) -> None:
    cluster = on_kubernetes.model_copy(
        update={"image": "python:3.11-nowhere", "image_pull_policy": "Never"}
    )
    error: Any = run_alone(cluster, lambda: work.submit(str(far_dir), "pulled", 0)).error
    assert type(error) is ImagePullFailed
    assert "`image_pull_policy`" in error.remedy
    assert error.job_id
    wait_until_empty(kubernetes, cluster.namespace)


def test_node_that_is_not_there(on_kubernetes: KubernetesCluster, far_dir: Path) -> None:
    cluster = on_kubernetes.model_copy(
        update={"node_selector": {"planet": "mars"}, "start_timeout": 3}
    )
    end = run_alone(cluster, lambda: work.submit(str(far_dir), "placed", 0))
    error: Any = end.error
    assert type(error) is Unschedulable
    assert "0/" in str(error)
    assert "`node_selector`" in error.remedy
    queued = [state for state in history(end.task_run_id, "Failed") if state.name == "Queued"]
    assert any("Unschedulable: 0/" in str(state.message) for state in queued)


def test_quota_that_leaves_no_room(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, far_dir: Path
) -> None:
    kubernetes.kubectl("-n", on_kubernetes.namespace, "create", "quota", "none", "--hard=pods=0")
    cluster = on_kubernetes.model_copy(update={"start_timeout": 4})
    error: Any = run_alone(cluster, lambda: work.submit(str(far_dir), "fits", 0)).error
    assert type(error) is QuotaExceeded
    assert "pods=0" in str(error)
    wait_until_empty(kubernetes, cluster.namespace)


# --- while calls run ------------------------------------------------------------------------


def test_ends_of_calls(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, far_dir: Path
) -> None:
    """Many at once: pods are slow to make."""
    cluster = on_kubernetes.model_copy(update={"max_pods": 6})
    ends: dict[str, Any] = {}

    def delete_one_job() -> None:
        (name,) = [
            one["metadata"]["name"]
            for one in kubernetes.objects(cluster.namespace)
            if one["kind"] == "Job" and memory_of(one) == str(99 * 1024**2)
        ]
        kubernetes.kubectl("-n", cluster.namespace, "delete", "job", name, "--wait=false")

    def trouble() -> None:
        left_by(far_dir, "deleted")
        delete_one_job()

    @flow(task_runner=ClusterTaskRunner(cluster))
    def many_ends() -> None:
        with resources(memory="100MB"):
            greedy = take_memory.submit(400 * 1024**2)
        with resources(time="00:00:02"):
            slow = work.submit(str(far_dir), "slow", 60)
        with resources(memory="99MB"):
            deleted = work.submit(str(far_dir), "deleted", 60)
        futures = {
            "greedy": greedy,
            "slow": slow,
            "deleted": deleted,
            "crashed": crash.submit(signal.SIGSEGV),
        }
        threading.Thread(target=trouble).start()
        for name, future in futures.items():
            ends[name] = end_of(future).error

    many_ends(return_state=True)
    kinds = {name: type(error) for name, error in ends.items()}
    assert kinds == {
        "greedy": OutOfMemory,
        "slow": TimeLimitExceeded,
        "deleted": PodDeleted,
        "crashed": WorkerFailed,
    }
    for error in ends.values():
        assert isinstance(error, InfrastructureError)
        assert error.remedy
        assert error.job_id
        assert error.node
    wait_until_empty(kubernetes, cluster.namespace)


def test_a_pod_that_runs_into_its_deadline(on_kubernetes: KubernetesCluster, far_dir: Path) -> None:
    template = {"spec": {"activeDeadlineSeconds": 5}}
    cluster = on_kubernetes.model_copy(update={"pod_template": template})
    error: Any = run_alone(cluster, lambda: work.submit(str(far_dir), "late", 60)).error
    assert type(error) is TimeLimitExceeded
    assert "The pod ran into its deadline" in str(error)
    assert error.job_id


def test_an_evicted_call_is_submitted_again(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, far_dir: Path
) -> None:
    name = on_kubernetes.namespace

    @flow(task_runner=ClusterTaskRunner(on_kubernetes))
    def evicted() -> str:
        future = work.submit(str(far_dir), "moved", 4)
        wait_for_marks(far_dir, 1)
        (pod,) = pod_names(own_kubernetes, name)
        own_kubernetes.evict(pod, name)
        return future.result()

    assert evicted() == "MOVED"
    assert marks(far_dir) == {"moved": 2}


@pytest.mark.every
def test_the_api_server_restarts_while_calls_run(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, far_dir: Path, every: bool
) -> None:
    calls = 50 if every else 8
    cluster = on_kubernetes.model_copy(update={"max_pods": calls})
    names = [f"call-{n}" for n in range(calls)]

    (far_dir / "gates").mkdir()

    @flow(task_runner=ClusterTaskRunner(cluster))
    def restarted() -> list[str]:
        futures = wait_for_gate.map([str(far_dir)] * calls, names)
        wait_for_marks(far_dir, calls, within=240)
        with own_kubernetes.api_server_down():
            # Some end while nobody can be told.
            for name in names[: calls // 2]:
                (far_dir / "gates" / name).touch()
            passed = [far_dir / "gates" / f"{name}.passed" for name in names[: calls // 2]]
            wait_until(lambda: all(path.exists() for path in passed), 60)
        (far_dir / "gates" / "open").touch()
        values: list[str] = futures.result()
        return values

    assert restarted() == [name.upper() for name in names]
    assert marks(far_dir) == dict.fromkeys(names, 1)
    wait_until_empty(own_kubernetes, cluster.namespace)


# --- the end of a flow ----------------------------------------------------------------------


def test_nothing_is_left_of_a_cancelled_flow(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, far_dir: Path, tmp_path: Path
) -> None:
    flow_process = FlowProcess(long_flow, on_kubernetes, tmp_path / "log", far_dir, 3, "")
    try:
        wait_for_marks(far_dir, 3)
        flow_process.process.send_signal(signal.SIGTERM)
        flow_process.process.wait(60)
        wait_until_empty(kubernetes, on_kubernetes.namespace)
        assert flow_run_state(flow_process.flow_run_id).name == "Crashed"
        for run in ended_task_runs(flow_process.flow_run_id, 3):
            assert run.state is not None
            assert run.state.is_cancelled()
    finally:
        flow_process.process.kill()
        print(flow_process.output)


@pytest.mark.every
def test_a_watch_that_expires_loses_nothing(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, far_dir: Path
) -> None:
    names = ["one", "two", "three"]
    (far_dir / "gates").mkdir()

    @flow(task_runner=ClusterTaskRunner(on_kubernetes))
    def expired() -> list[str]:
        futures = wait_for_gate.map([str(far_dir)] * len(names), names)
        wait_for_marks(far_dir, len(names))
        own_kubernetes.expire_watches()
        (far_dir / "gates" / "open").touch()
        values: list[str] = futures.result()
        # What becomes of pods from now on is heard of, too.
        before = pod_names(own_kubernetes, on_kubernetes.namespace)
        with resources(memory="130MB"):
            late = hang_at_first.submit(str(far_dir), "late")
        wait_for_marks(far_dir, len(names) + 1)
        (pod,) = set(pod_names(own_kubernetes, on_kubernetes.namespace)).difference(before)
        own_kubernetes.evict(pod, on_kubernetes.namespace)
        return [*values, late.result()]

    assert expired() == ["ONE", "TWO", "THREE", "LATE"]
    assert marks(far_dir) == {**dict.fromkeys(names, 1), "late": 2}


def test_calls_of_a_lost_node_run_again(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, far_dir: Path
) -> None:
    name = on_kubernetes.namespace
    soon = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 1}
    cluster = on_kubernetes.model_copy(update={"tolerations": [{**soon, "effect": "NoExecute"}]})

    @flow(task_runner=ClusterTaskRunner(cluster))
    def lost() -> str:
        future = hang_at_first.submit(str(far_dir), "moved")
        wait_for_marks(far_dir, 1)
        (pod,) = pod_names(own_kubernetes, name)
        with own_kubernetes.node_down():
            # Until it is on its way out.
            wait_until(lambda: pod not in pod_names(own_kubernetes, name), 60)
        return future.result()

    assert lost() == "MOVED"
    assert marks(far_dir) == {"moved": 2}


def test_pods_share_what_a_work_volume_holds(
    on_kubernetes: KubernetesCluster,
    own_kubernetes: OwnKubernetes,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # 16 MiB, which is more than one piece of an exec stream.
    (sent := tmp_path / "sent").write_bytes(os.urandom(1024) * 16 * 1024)

    @task
    def reversed_file(path: Path) -> File:
        Path("reversed").write_bytes(path.read_bytes()[::-1])
        return File("reversed")

    @task
    def packaging_and(path: Path) -> tuple[str, str, bytes]:
        import packaging

        return socket.gethostname(), packaging.__file__, path.read_bytes()

    def use(cluster: KubernetesCluster) -> tuple[str, str]:
        @flow(task_runner=ClusterTaskRunner(cluster))
        def used() -> tuple[str, str]:
            made = reversed_file.submit(File(sent))
            pod, module, content = packaging_and.submit(made).result()
            brought = made.result().download(tmp_path / f"brought-{pod}")
            assert content == brought.read_bytes() == sent.read_bytes()[::-1]
            return pod, module

        return used()

    own = ManagedEnvironment(requirements=["packaging"], wheelhouse=True)
    with own_kubernetes.claim(on_kubernetes.namespace) as claim:
        shared = {"work_volume_claim": claim, "calls_per_pod": 1, "managed_environment": own}
        cluster = on_kubernetes.model_copy(update=shared)
        first, second = use(cluster), use(cluster)
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert "/environments/" in first[1]
    assert sum("Installed 1 package" in line for line in caplog.messages) == 1
    assert not any("work_volume_claim" in line for line in caplog.messages)


@pytest.mark.every
def test_without_a_work_volume_each_pod_builds_its_environment(
    on_kubernetes: KubernetesCluster, caplog: pytest.LogCaptureFixture
) -> None:
    own = ManagedEnvironment(requirements=["packaging"], wheelhouse=True)
    cluster = on_kubernetes.model_copy(update={"managed_environment": own, "calls_per_pod": 1})

    @task
    def where() -> tuple[str, str]:
        import packaging

        return socket.gethostname(), packaging.__file__

    @flow(task_runner=ClusterTaskRunner(cluster))
    def both() -> list[tuple[str, str]]:
        return [one.result() for one in (where.submit(), where.submit())]

    first, second = both()
    assert first[0] != second[0]
    assert "/environments/" in first[1]
    assert sum("Give the block a `work_volume_claim`" in line for line in caplog.messages) == 1


def test_large_values_pass_through_the_exec_stream_both_ways(
    on_kubernetes: KubernetesCluster, every: bool
) -> None:
    cluster = on_kubernetes.model_copy(update={"default_resources": {"memory": "1GB"}})
    large = os.urandom(1024 * 1024) * (200 if every else 40)

    @task
    def longer(data: bytes) -> bytes:
        return data + b"!"

    @flow(task_runner=ClusterTaskRunner(cluster))
    def there_and_back() -> bool:
        result: bytes = longer.submit(large).result()
        return result == large + b"!"

    assert there_and_back()
